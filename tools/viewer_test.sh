#!/usr/bin/env bash
# Tests the console and the viewers in a browser: installs the viewers and the packages of tests/viewer, checks the types of the
# console's scripts, and runs the tests of clients and tests/viewer.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/viewer.sh
tools/view.sh
npm --prefix clients test
cd tests/viewer
npm ci --silent --no-audit --no-fund
npm run --silent check
npm test
