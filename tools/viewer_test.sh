#!/usr/bin/env bash
# Tests the console and the viewer in a browser: installs the viewer and the packages of tests/viewer, checks the types of the
# console's scripts, and runs tests/viewer.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/viewer.sh
cd tests/viewer
npm ci --silent --no-audit --no-fund
npm run --silent check
npm test
