# What CI runs, and what you run: `make check test demo`. Everything here works from a clean clone.
CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: help demo test check fmt deny interop bench fuzz proto dist

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## the main job from nothing: server, agent, a telemetry collector over mTLS, two rotations
	@examples/demo/run.sh

test: ## all tests that need only Rust and a C compiler; skips nothing, needs no root
	$(CARGO) test --locked --workspace --all-targets
	$(CARGO) test --locked --workspace --doc

check: ## formatting, lints, layers, licences, documentation
	$(CARGO) fmt --all --check
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	tests/check-layers
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items --quiet
	@$(MAKE) --no-print-directory deny

deny: ## licences, banned and duplicate crates, sources (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "error: cargo-deny is missing"; echo "hint: cargo install --locked cargo-deny"; exit 1; }
	cargo-deny --locked --offline check --hide-inclusion-graph bans licenses sources

interop: ## third-party clients (Python, Go, Java, Rust) against the real agent and server
	@tests/interop/run

bench: ## figures for docs/benchmarks.md, measured in one run
	@tests/bench/run

fuzz: ## every parser of untrusted bytes, SECONDS (60) each; TARGETS="id jwt" for some (needs a C++ compiler, Python 3)
	@tests/fuzz/run --seconds $(or $(SECONDS),60) $(TARGETS)

proto: ## regenerate crates/proto from proto/ (no protoc needed)
	$(CARGO) run --locked --quiet -p landfast-proto --example generate

dist: ## the binaries as shipped: fat LTO, stripped
	$(CARGO) build --locked --profile dist -p landfast-server -p landfast-agent -p landfast-cli

fmt: ## format everything
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml
