# Everything there is to do, in one list: `make help`.
#
#   PG_CONFIG  the PostgreSQL installation to build for (15 to 18)
#   KEEP=1     `make demo` leaves its server running and says how to reach and stop it
#   SEED, KILLS  the first seed of `make chaos`, and how many kills at least (docs/chaos.md)
#   QUICK=1    `make bench` takes fewer and smaller runs; ONLY="drain wake" measures some topics alone

PG_CONFIG ?= $(firstword $(wildcard /usr/lib/postgresql/15/bin/pg_config) $(shell command -v pg_config) \
                         /usr/lib/postgresql/15/bin/pg_config)
KEEP ?=
QUICK ?=
SEED ?=
KILLS ?=
export PG_CONFIG KEEP QUICK SEED KILLS

# cargo-pgrx passes linker flags through --config, which RUSTFLAGS in the environment would silently replace.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests build install installed demo test unit integration chaos bench lint fmt uninstall clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: PostgreSQL and its headers, libclang, cargo-pgrx
	@scripts/setup.sh

setup-tests: setup
	@scripts/setup.sh tests

build: setup ## Build the extension
	@scripts/build.sh

install: installed ## Install the extension into PostgreSQL (root or sudo)
	@scripts/next-steps.sh

installed: build
	@scripts/install.sh

demo: installed ## Tell the whole story in a temporary server, against a simulated Graph API
	@scripts/cargo.sh build --release -p graph-simulator
	@scripts/demo.sh

test: lint unit integration ## Format check, lint, unit tests, integration tests

unit: setup-tests ## Only the unit tests (no server)
	@scripts/cargo.sh test --workspace --exclude whatsapp_pg --exclude whatsapp-pg-tests

integration: setup-tests installed ## Only the integration tests (temporary servers, the installed extension)
	@scripts/cargo.sh test -p whatsapp-pg-tests

chaos: setup-tests installed ## Kill and break everything at random, then prove that nothing is lost or sent twice
	@scripts/cargo.sh run -p whatsapp-pg-tests --bin chaos

bench: installed ## Measure enqueue, drain, latency and memory; print the table
	@scripts/cargo.sh build --release -p graph-simulator
	@scripts/cargo.sh run --release -p whatsapp-pg-tests --bin bench -- $(ONLY)

lint: setup ## Check format, clippy, layers and scripts
	@scripts/lint.sh

fmt: ## Format the code
	@cargo fmt --all

uninstall: ## Remove the extension's files from PostgreSQL (root or sudo)
	@scripts/uninstall.sh

clean: ## Remove build results; keep what setup made
	@scripts/clean.sh
