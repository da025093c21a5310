#!/usr/bin/env bash
# All tests: format, lints, documentation, unit and integration tests, infrastructure, conformance, kills. The last lines of
# each part are those of its own test runner; any failure ends with a status other than zero.
#
# The server under test is built like the tests ([profile.dev], dependencies optimised where it matters), so that
# two cores compile everything once.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf "\n== %s (after %d s)\n" "$*" "$SECONDS"; }

step format
cargo fmt --check
tools/comment_width.py

step lints
cargo clippy --locked --all-targets -- -D warnings

step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

step environment of the tests
tools/venv.sh
tools/venv.sh infra
tools/cloud_install.sh

step dependencies
tools/deny.sh

step unit and integration tests
tools/cloud.py cargo test --locked

# The tests above have built the server, with the features that the tests' own crates add. `cargo build` would build
# it, and much below it, once more without them.
export CUSPID_BINARY=${CUSPID_BINARY:-target/debug/cuspid}
test -x "$CUSPID_BINARY"

step infrastructure
infra/.venv/bin/python -m pytest -q infra/tests

step conformance
tools/conformance.sh

step integration tests on S3 and DynamoDB
CUSPID_TEST_ENGINE=cloud tools/cloud.py --only radosgw,amazon cargo test --locked --test it

# The files that depend on the engine; `make cloud-conformance` runs all files.
step conformance on S3 and DynamoDB
CUSPID_TEST_ENGINE=cloud tools/cloud.py --only radosgw,amazon tools/conformance.sh \
    conformance/test_10_4_retrieve_{instances,metadata,frames,bulkdata,thumbnail,zip}.py conformance/test_10_[56]_*.py \
    conformance/test_{clients,part_4_annex_b_store,rfc_9110_9_3_5_delete,rfc_9110_http,ohif}.py

step requests to S3 and DynamoDB
tools/cloud.py --only radosgw,amazon .venv/bin/python tools/costs_test.py

# The tests of a fleet wait most of the time, as do those of a browser: they run beside each other.
step "viewer, and a fleet among faults"
fleet() {
    tools/cloud.py .venv/bin/python tools/fleet_test.py --rounds 1 &&
        tools/cloud.py .venv/bin/python tools/fleet_test.py --rounds 1 --queue sqs &&
        tools/cloud.py --only radosgw,amazon .venv/bin/python tools/fleet_walk.py
}
log=$(mktemp)
fleet >"$log" 2>&1 &
status=0
tools/viewer_test.sh || status=$?
wait $! || status=$?
cat "$log"
rm -f "$log"
[ "$status" -eq 0 ]

step kills
.venv/bin/python tools/kill_test.py --rounds 10
.venv/bin/python tools/peers_test.py --rounds 4
