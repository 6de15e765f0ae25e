# What CI runs, and what you run: `make check test demo`. Everything here works from a clean clone.
CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: help demo test test-root planted torture check fmt deny interop bench proto dist vectors

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## the main job from nothing: server, agent, a telemetry collector over mTLS, two rotations
	@examples/demo/run.sh

test: ## all tests that need only Rust and a C compiler; skips nothing, needs no root
	$(CARGO) test --locked --workspace --all-targets
	$(CARGO) test --locked --workspace --doc

check: ## formatting, lints, layers, licences, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p landfast-testkit --test root -- -D warnings
	tests/check-layers
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items --quiet
	@$(MAKE) --no-print-directory deny

deny: ## licences, banned and duplicate crates, sources (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "error: cargo-deny is missing"; echo "hint: cargo install --locked cargo-deny"; exit 1; }
	cargo-deny --locked --offline check --hide-inclusion-graph bans licenses sources

test-root: ## attacks that need root: other users, namespaces, chosen pids, floods (two minutes)
	@tests/root/run

planted: ## plant known bugs and see each one found (root, Python 3.11; five minutes)
	@tests/planted/run

torture: ## the same attacks, a hundred thousand pids and ten times as long floods (half an hour, as root)
	@LANDFAST_ROUNDS=10 tests/root/run --skip t01
	@LANDFAST_ROUNDS=50 tests/root/run t01

interop: ## third-party clients (Python, Go, Java, Rust) against the real agent and server
	@tests/interop/run

vectors: ## x509-limbo and Wycheproof against our verifiers, from clones in DIR=… (docs/conformance.md)
	@$(CARGO) run --locked --quiet -p landfast-identity --example conformance -- "$(DIR)"

bench: ## figures for docs/benchmarks.md, measured in one run
	@tests/bench/run

proto: ## regenerate crates/proto from proto/ (no protoc needed)
	$(CARGO) run --locked --quiet -p landfast-proto --example generate

dist: ## the binaries as shipped: fat LTO, stripped
	$(CARGO) build --locked --profile dist -p landfast-server -p landfast-agent -p landfast-cli

fmt: ## format everything
	$(CARGO) fmt --all
