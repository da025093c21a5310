# The two commands of the README are `make run` and `make test`.
.PHONY: run test check unit conformance kill-test versus fuzz
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# Flags for `cuspid serve`, as in `make run ARGS="--data /srv/cuspid"`.
ARGS ?=
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 300

run:
	tools/install.sh build
	cargo build --release --locked
	exec target/release/cuspid serve $(ARGS)

# Everything. From an empty target directory it takes about ten minutes on two cores.
test: check unit conformance kill-test

check:
	tools/install.sh build
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

unit:
	tools/install.sh build
	cargo test --locked

# Black box, by the standard, with clients that we did not write.
conformance:
	tools/install.sh test
	cargo build --locked
	CUSPID_BIN=target/debug/cuspid .venv/bin/python -m pytest -q conformance

# Kills the server in mid-ingest, again and again.
kill-test:
	tools/install.sh test
	cargo build --locked
	.venv/bin/python tools/kill_test.py target/debug/cuspid

# Side by side with Debian's Orthanc.
versus:
	tools/install.sh test
	benches/versus/run.py

fuzz:
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	for target in $$(cargo +nightly fuzz list); do \
	    cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048; \
	done
