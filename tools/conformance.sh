#!/usr/bin/env bash
# Runs the conformance tests in two processes, each with half of the files: a file has a server of its own, and one process
# leaves a core idle. Usage: tools/conformance.sh [FILE...]
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- conformance/test_*.py
# Without files, the second process would run all of them.
[ $# -gt 1 ] || exec .venv/bin/python -m pytest -q "$@"
halves=([0]="" [1]="")
# The largest files first, each to the half that has less, so that both end at about the same time.
sizes=(0 0)
while read -r size file; do
    half=$((sizes[1] < sizes[0]))
    halves[half]+=" $file"
    sizes[half]=$((sizes[half] + size))
done < <(wc -c "$@" | grep -v ' total$' | sort -rn)

log=$(mktemp)
trap 'rm -f "$log"' EXIT
read -ra first <<<"${halves[0]}"
read -ra second <<<"${halves[1]}"
status=0
.venv/bin/python -m pytest -q "${second[@]}" >"$log" 2>&1 &
.venv/bin/python -m pytest -q "${first[@]}" || status=$?
wait $! || status=$?
cat "$log"
exit "$status"
