# The commands of this project. `make help` lists them.
#
# `make demo` and `make test` install what they need from Debian's packages and the crates registry, and nothing by hand.
SHELL := /bin/sh
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help figures prepare dist-demo demo bench lint gate-security test-fast test-lab test test-full

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

prepare: ## install what building and testing need (Debian packages, cargo-deb)
	@tests/prepare.sh

dist-demo: prepare ## dist/demo/: four releases, one signed tree, bundles, keys; plain files to take elsewhere
	@tests/demo/dist-demo.sh

demo: dist-demo ## the whole story on real Debian machines
	@$(CARGO) run --quiet --locked -p smolotchi-lab --bin smolotchi-demo

bench: dist-demo ## what upgrade and rollback cost beside plain apt and dpkg; prints, and fails only if something breaks
	@$(CARGO) build --quiet --locked -p smolotchi-lab
	@$(CARGO) run --quiet --locked -p smolotchi-lab --bin smolotchi-bench -- upgrade --json target/bench.json $(if $(PAGE),--page $(PAGE))
	@$(CARGO) run --quiet --locked -p smolotchi-lab --bin smolotchi-bench -- compression
	@dpkg-deb --fsys-tarfile dist/demo/releases/0.1.0/debs/smolotchi_0.1.0_*.deb | tar -xO ./usr/bin/smolotchi >target/smolotchi-0.1.0 && chmod 755 target/smolotchi-0.1.0
	@$(CARGO) run --quiet --locked -p smolotchi-lab --bin smolotchi-bench -- agent --old target/smolotchi-0.1.0 --json target/bench-agent.json

lint: ## formatting and clippy, as errors (needs rustfmt and clippy)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features --locked --quiet -- -D warnings

gate-security: dist-demo ## exposure of each packaged service in exact points, by both systemds; fails on any rise; target/security.json (root)
	@$(CARGO) run --quiet --locked -p smolotchi-lab --bin smolotchi-gate -- --json target/security.json dist/demo/releases/0.2.0/debs/smolotchi_*.deb dist/demo/releases/0.2.0/debs/smolotchi-install_*.deb

test-fast: prepare ## unit and integration tests, repository rules; no machines
	$(CARGO) test --workspace --exclude smolotchi-lab --features smolotchi-release/sign --locked --no-fail-fast
	$(CARGO) test -p smolotchi-lab --lib --bins --test rules --locked

test-lab: prepare dist-demo ## scenarios on real Debian machines, a seeded sample of the long ones
	$(CARGO) test -p smolotchi-lab --test lab --test first_light --test healing --test ansible --locked -- --nocapture --test-threads=2
	@$(MAKE) --no-print-directory gate-security
	$(CARGO) test -p smolotchi-lab --test hardening --locked -- --nocapture --test-threads=2
	$(CARGO) test -p smolotchi-lab --test limits --locked -- --nocapture --test-threads=1
	$(CARGO) test -p smolotchi-lab --test ways --test powers --test scripts --test policy --test model --test runtime --test soak --test secrets --locked -- --nocapture --test-threads=2
	$(CARGO) test -p smolotchi-lab --test web --locked -- --nocapture --test-threads=1
	$(CARGO) test -p smolotchi-lab --test crash --locked -- --nocapture --test-threads=1

test: test-fast test-lab ## everything

figures: ## draw the documentation's pictures from what the code wrote (needs graphviz)
	dot -Tsvg docs/concepts/upgrades.dot -o docs/concepts/upgrades.svg

# For millions of rows.
OPTIMISED = $(foreach package,libsqlite3-sys rusqlite smolotchi-store,--config profile.dev.package.$(package).opt-level=2)

test-full: ## everything, with the long suites whole (SEED, CUTS, SEQUENCES, REQUESTS, ROWS and KILLS choose; SHARD=2/8 takes a part of the crash matrix)
	ROWS=$${ROWS:-1000000} $(CARGO) test $(OPTIMISED) -p smolotchi-store --locked --lib --test walks -- --nocapture --test-threads=1 migrations identity steps
	KILLS=$${KILLS:-1000} $(CARGO) test $(OPTIMISED) -p smolotchi-store --locked --test kills -- --nocapture
	CRASH=full CUTS=$${CUTS:-50} WHOLE=1 SEQUENCES=$${SEQUENCES:-200} RESTARTS=$${RESTARTS:-200} REQUESTS=$${REQUESTS:-20000} HOURS=$${HOURS:-24} $(MAKE) test
