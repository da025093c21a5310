#!/usr/bin/env bash
# Makes .venv from conformance/requirements.txt and tools/requirements.txt or, as `tools/venv.sh infra`, infra/.venv from
# infra/requirements.txt; quick if it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
'') environment=.venv files=(conformance/requirements.txt tools/requirements.txt) ;;
infra) environment=infra/.venv files=(infra/requirements.txt) ;;
*) echo "no such environment: $1" >&2; exit 2 ;;
esac

wanted=$(sha256sum "${files[@]}")
if [ "$(cat $environment/requirements 2>/dev/null)" != "$wanted" ]; then
    echo "making $environment"
    python3 -m venv --clear $environment
    $environment/bin/pip install --quiet --disable-pip-version-check "${files[@]/#/-r}"
    echo "$wanted" >$environment/requirements
fi
