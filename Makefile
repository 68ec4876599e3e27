# The commands of this project. `make help` lists them.
#
# `make demo` and `make test` install what they need from Debian's packages and the crates registry, and nothing by hand.
SHELL := /bin/sh
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help prepare dist-demo demo test test-fast test-lab test-full bench lint msrv clean-lab

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

prepare: ## install what building and testing need (Debian packages, cargo-deb)
	@tests/prepare.sh

dist-demo: prepare ## dist/demo/: three releases, one signed tree, bundles, keys: plain files to take elsewhere
	@tests/demo/dist-demo.sh

demo: dist-demo ## the whole story on a real Debian machine
	@$(CARGO) run --quiet --locked -p smolotchi-lab --bin smolotchi-demo

lint: ## formatting and clippy, as errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features --locked --quiet -- -D warnings

test-fast: prepare lint ## unit tests and repository rules, no machines
	$(CARGO) test --workspace --all-features --locked --exclude smolotchi-lab
	$(CARGO) test -p smolotchi-lab --locked --lib --bins --test rules

test-lab: prepare dist-demo ## scenarios on real Debian machines
	$(CARGO) test -p smolotchi-lab --locked --test lab --test first_light --test ansible

test: test-fast test-lab ## everything
