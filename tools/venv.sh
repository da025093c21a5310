#!/usr/bin/env bash
# Makes .venv with what conformance/requirements.txt and tools/requirements.txt pin; quick if it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=$(sha256sum conformance/requirements.txt tools/requirements.txt)
if [ "$(cat .venv/requirements 2>/dev/null)" != "$wanted" ]; then
    echo "making .venv"
    python3 -m venv --clear .venv
    .venv/bin/pip install --quiet --disable-pip-version-check \
        -r conformance/requirements.txt -r tools/requirements.txt
    echo "$wanted" >.venv/requirements
fi
