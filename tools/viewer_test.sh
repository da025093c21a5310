#!/usr/bin/env bash
# Tests the viewer in a browser: installs both parts of it that npm has, and runs tests/viewer.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/viewer.sh
cd tests/viewer
npm ci --silent --no-audit --no-fund
npm test
