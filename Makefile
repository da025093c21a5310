# The two main targets: `make run` builds and starts the server, `make test` tests everything.

ARGS ?=

.PHONY: run viewer test check advisories conformance conformance-orthanc viewer-test kill-test peers-test crash-test infra-test versus scale \
    fuzz cloud-environment cloud-conformance fleet-test cloud-bench

run:
	tools/install.sh build
	cargo build --release --locked
	exec target/release/cuspid serve $(ARGS)

# Installs the OHIF viewer and builds the Cuspid viewer, which the server then offers at /viewer/ and /view/. See docs/viewer.md
# and docs/view.md.
viewer:
	tools/install.sh viewer
	tools/viewer.sh
	tools/view.sh

# Everything that CI runs.
test:
	tools/install.sh build test viewer browser cloud infra
	tools/test.sh

# The quick part of `make test`: before each commit. Leaves out the documentation build, the integration tests (tests/it),
# conformance, infrastructure, fleet, viewer and kill tests.
check:
	tools/install.sh build test cloud
	cargo fmt --check
	tools/comment_width.py
	cargo clippy --locked --all-targets -- -D warnings
	tools/venv.sh
	tools/cloud_install.sh
	tools/deny.sh
	tools/cloud.py cargo test --locked --lib

# Known vulnerabilities of the crates in Cargo.lock. Not part of `make test`: fetches the RustSec database from GitHub.
advisories:
	tools/install.sh build test
	tools/venv.sh
	tools/deny.sh advisories

# Parts of `make test`; CUSPID_BINARY names another server to test than the release build.
conformance:
	tools/install.sh build test
	tools/venv.sh
	[ -n "$$CUSPID_BINARY" ] || cargo build --release --locked
	.venv/bin/python -m pytest -q conformance $(ARGS)

# The same tests on Cuspid and on Orthanc 1.12.7: writes both columns into docs/conformance.md.
conformance-orthanc:
	tools/install.sh build test versus
	tools/orthanc_install.sh
	tools/venv.sh
	[ -n "$$CUSPID_BINARY" ] || cargo build --release --locked
	.venv/bin/python tools/conformance_table.py $(ARGS)

# The console, the Cuspid viewer and OHIF in Chromium against the server; screenshots and every request are left in target/viewer-test.
viewer-test:
	tools/install.sh build test viewer browser
	tools/venv.sh
	cargo build --locked
	tools/viewer_test.sh

kill-test:
	tools/install.sh build test
	tools/venv.sh
	[ -n "$$CUSPID_BINARY" ] || cargo build --release --locked
	.venv/bin/python tools/kill_test.py $(ARGS)

# Kills while instances are forwarded and storage commitment is reported.
peers-test:
	tools/install.sh build test
	tools/venv.sh
	[ -n "$$CUSPID_BINARY" ] || cargo build --release --locked
	.venv/bin/python tools/peers_test.py $(ARGS)

# Losses of power on ext4 and XFS. Not part of `make test`: needs root and loop devices.
crash-test:
	tools/install.sh build test crash
	tools/venv.sh
	[ -n "$$CUSPID_BINARY" ] || cargo build --release --locked
	.venv/bin/python tools/crash_test.py $(ARGS)

# The stacks of infra/ in a stand-in for AWS. See docs/deployment.md.
infra-test:
	tools/install.sh build infra
	tools/venv.sh infra
	[ -n "$$CUSPID_BINARY" ] || cargo build --locked
	infra/.venv/bin/python -m pytest -q infra/tests $(ARGS)

# Installs the S3, DynamoDB and SQS servers of the targets below, and builds the binary that runs on them.
cloud-environment:
	tools/install.sh build test cloud
	tools/venv.sh
	tools/cloud_install.sh
	[ -n "$$CUSPID_BINARY" ] || cargo build --release --locked

# All conformance and integration tests with everything in S3 and DynamoDB.
cloud-conformance: cloud-environment
	CUSPID_TEST_ENGINE=cloud tools/cloud.py --only radosgw,amazon .venv/bin/python -m pytest -q conformance $(ARGS)
	CUSPID_TEST_ENGINE=cloud tools/cloud.py --only radosgw,amazon cargo test --locked --test it

# Servers and workers over one S3 and one DynamoDB that fail, and faults at every request of an operation. See docs/operations.md.
fleet-test: cloud-environment
	tools/cloud.py .venv/bin/python tools/fleet_test.py $(ARGS)
	tools/cloud.py --only radosgw,amazon .venv/bin/python tools/fleet_walk.py --long

# Measures the server on S3 beside a bare S3 client; prints a table. See docs/performance.md.
cloud-bench: cloud-environment
	cargo build --release --locked --bin cuspid --example bare-s3 --example versus-load
	tools/cloud.py --only radosgw,dynamodb .venv/bin/python benches/cloud/run.py $(ARGS)

# Measures the server side by side with Orthanc; prints a table. See docs/performance.md.
versus:
	tools/install.sh build test versus
	tools/orthanc_install.sh
	tools/venv.sh
	cargo build --release --locked --bin cuspid --example versus-load
	.venv/bin/python benches/versus/run.py $(ARGS)

# What grows with the archive: Cuspid alone at 1,000 and at 100,000 studies. See docs/performance.md.
scale:
	tools/install.sh build test versus
	tools/venv.sh
	cargo build --release --locked --bin cuspid --example versus-load
	.venv/bin/python benches/versus/scale.py $(ARGS)

# Each fuzz target for FUZZ_SECONDS, with the nightly compiler, from seeds made of pydicom's files.
FUZZ_SECONDS ?= 300
fuzz:
	tools/install.sh build test
	tools/venv.sh
	.venv/bin/python tools/fuzz_seeds.py
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	for target in $$(cargo +nightly fuzz list); do \
	    cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 || exit 1; \
	done
