# What CI runs, and what you run: `make check test demo`. Everything here works from a clean clone.
CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto
# Of dist, static and package. release is quicker to build, and larger.
PROFILE ?= dist

.PHONY: help auditable clock compat-record demo test test-root planted torture cuts islands islands-long netns partitions check fmt deny audit interop patroni bench bench-fleet proto dist static test-static man package test-package vectors fuzz

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## the main job from nothing: server, agent, a telemetry collector over mTLS, two rotations
	@examples/demo/run.sh

test: ## all tests that need only Rust and a C compiler; skips nothing, needs no root
	$(CARGO) test --locked --workspace --all-targets
	$(CARGO) test --locked --workspace --doc

check: ## formatting, lints, layers, licences, documentation, do the fuzz targets compile (needs cargo-deny, a C++ compiler)
	$(CARGO) fmt --all --check
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p landfast-testkit --test root --test postgres -- -D warnings
	CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-target} $(CARGO) check --locked --quiet --manifest-path tests/fuzz/Cargo.toml
	tests/check-layers
	tests/check-monitoring
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items --quiet
	@$(MAKE) --no-print-directory deny

deny: ## licences, banned and duplicate crates, sources (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "error: cargo-deny is missing"; echo "hint: cargo install --locked cargo-deny"; exit 1; }
	cargo-deny --locked --offline check --hide-inclusion-graph bans licenses sources
	cargo-deny --manifest-path tests/fuzz/Cargo.toml --config deny.toml --locked --offline check --hide-inclusion-graph bans licenses sources

audit: ## known advisories, of the clone of RustSec's advisory-db in DB=… (needs cargo-deny)
	@tests/audit "$(DB)"

test-root: ## attacks that need root: other users, namespaces, chosen pids, floods; make netns, and persons on another machine (five minutes; openssh-client)
	@tests/root/run
	@tests/islands/netns
	@tests/people/login --netns

planted: ## plant known bugs and see each one found (root, Python 3.11, PostgreSQL 15; half an hour)
	@tests/planted/run

torture: ## the same attacks, a hundred thousand pids and ten times as long floods, changes of eight servers, 200 power cuts of each kind (over an hour, as root; PostgreSQL, strace)
	@LANDFAST_FEED_CHANGES=100000 tests/interop/postgres eight_writers
	@LANDFAST_ROUNDS=10 tests/root/run --skip t01
	@LANDFAST_ROUNDS=50 tests/root/run t01
	@$(MAKE) --no-print-directory islands RESTARTS=100
	@$(MAKE) --no-print-directory islands-long
	@$(MAKE) --no-print-directory cuts CUTS=200
	LANDFAST_SIMULATIONS=300 $(CARGO) test --locked --quiet -p landfast-testkit --test simulated

cuts: ## real daemons whose power is cut, whose calls fail, whose files rot: CUTS (10) of each kind; PARTS="server-cuts" for some (strace, openssl)
	$(CARGO) build --locked --quiet -p landfast-server -p landfast-agent -p landfast-cli --bins
	$(CARGO) build --locked --quiet -p landfast-testkit --example partitions
	@tests/torture/run --cuts $(or $(CUTS),10) $(PARTS)

islands: ## real daemons: an agent with a full reserve is killed and started RESTARTS (10) times each way while its server is away, and serves (faketime)
	$(CARGO) build --locked --quiet -p landfast-server -p landfast-agent -p landfast-cli --bins
	$(CARGO) build --locked --quiet -p landfast-testkit --example islands
	@target/debug/examples/islands --bin-dir target/debug --restarts $(or $(RESTARTS),10)

islands-long: ## 72 hours of an island at a thousand times the speed, and the scenario S-MONDAY (root, Debian's faketime; six minutes)
	$(CARGO) build --locked --quiet -p landfast-server -p landfast-agent -p landfast-cli --bins
	@tests/islands/fast
	@tests/islands/monday

netns: ## docs/island-mode.md once through: two network namespaces and a cable that is pulled (root, iproute2, curl, faketime; half a minute)
	$(CARGO) build --locked --quiet -p landfast-server -p landfast-agent -p landfast-cli --bins
	@tests/islands/netns

interop: ## third-party clients (Python, Go, Java, Rust) against the real agent and server
	@tests/interop/run

patroni: ## a server on PostgreSQL under Patroni: switch-over, and the primary killed (root; patroni, python3-pysyncobj, postgresql)
	$(CARGO) build --locked --quiet -p landfast-server -p landfast-cli --bins
	@tests/patroni/run

partitions: ## two servers on one PostgreSQL, links cut at random, ROUNDS (200) of it (root, PostgreSQL 15, libfaketime; half an hour)
	$(CARGO) build --locked --quiet -p landfast-server -p landfast-agent -p landfast-cli
	$(CARGO) build --locked --quiet -p landfast-testkit --example partitions
	@tests/partitions/run --rounds $(or $(ROUNDS),200) $(if $(SEED),--seed $(SEED))

clock: ## a real agent whose clock leaps, stands still, is set back, begins in 1970 (Debian's faketime; two minutes)
	$(CARGO) build --locked --quiet -p landfast-server -p landfast-agent -p landfast-cli --bins
	@tests/clock/run

compat-record: ## what this version stores and says, into tests/compat/VERSION, for all that come after; once a release
	$(CARGO) run --locked --quiet -p landfast-testkit --example compat

vectors: ## x509-limbo and Wycheproof against our verifiers, from clones in DIR=… (docs/conformance.md)
	@$(CARGO) run --locked --quiet -p landfast-identity --example conformance -- "$(DIR)"

bench: ## figures for docs/benchmarks.md, measured in one run
	@tests/bench/run

bench-fleet: ## the figures of a fleet: thousands of simulated agents, one server (a quarter of an hour, as root for the storms)
	@tests/bench/fleet

fuzz: ## every parser of untrusted bytes, SECONDS (60) each; TARGETS="id jwt" for some (needs a C++ compiler, Python 3)
	@tests/fuzz/run --seconds $(or $(SECONDS),60) $(TARGETS)

proto: ## regenerate crates/proto from proto/ (no protoc needed)
	$(CARGO) run --locked --quiet -p landfast-proto --example generate

dist: auditable ## the binaries as shipped: fat LTO, stripped, each listing what it is made of (needs cargo-auditable)
	$(CARGO) auditable build --locked --profile $(PROFILE) -p landfast-server -p landfast-agent -p landfast-cli
	tests/check-binaries $(addprefix target/$(PROFILE)/,landfast-server landfast-agent landfast)

auditable:
	@command -v cargo-auditable >/dev/null || { echo "error: cargo-auditable is missing"; echo "hint: cargo install --locked cargo-auditable"; exit 1; }

static: ## the same, static on musl, for x86_64 and aarch64 (needs musl-tools, and Python 3 for zig)
	@PROFILE=$(PROFILE) packaging/static

test-static: static ## the main job with the static binaries; those for another processor under qemu-user-static
	@PROFILE=$(PROFILE) tests/static/all

man: ## the manual pages, into target/man
	$(CARGO) run --locked --quiet -p landfast-cli --bin landfast -- man target/man

package: dist ## Debian packages, into target/debian
	@PROFILE=$(PROFILE) packaging/debian/build

test-package: ## installs, uses, removes and purges what `make package` made (needs root)
	@tests/package/run

fmt: ## format everything
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml
