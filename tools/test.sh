#!/usr/bin/env bash
# All tests: format, lints, documentation, unit and integration tests, conformance, kills. The last lines of each part
# are those of its own test runner; any failure ends with a status other than zero.
#
# The server under test is built like the tests ([profile.dev], dependencies optimised where it matters), so that
# two cores compile everything once.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step format
cargo fmt --check

step lints
cargo clippy --locked --all-targets -- -D warnings

step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

step environment of the tests
tools/venv.sh
tools/venv.sh infra
tools/cloud_install.sh

step infrastructure
infra/.venv/bin/python -m pytest -q infra/tests

step unit and integration tests
tools/cloud.py cargo test --locked

export CUSPID_BINARY=${CUSPID_BINARY:-target/debug/cuspid}
cargo build --locked

step conformance
.venv/bin/python -m pytest -q conformance

step viewer
tools/viewer_test.sh

step kills
.venv/bin/python tools/kill_test.py --rounds 50
