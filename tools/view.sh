#!/usr/bin/env bash
# Builds the Cuspid viewer from clients/ into ./view, where `cuspid serve` finds it; quick if nothing has changed.
# Usage: tools/view.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "$0")/.."

directory=${1:-view}

fail() { echo "$*" >&2; exit 1; }

sources() {
    find clients src/http/web/console/{dicomweb,events,sign-in}.js -type f \
        -not -path '*/node_modules/*' -not -path '*/dist/*' -not -path '*/tests/*' -print0 | sort -z | xargs -0 sha256sum
}

# A change of any source makes a new installation.
wanted=$(sources | cat - tools/view.sh | sha256sum)
[ "$(cat "$directory/.installed" 2>/dev/null)" != "$wanted" ] || exit 0
if [ -e "$directory" ] && [ ! -e "$directory/.installed" ]; then
    fail "$directory is there already and was not installed by tools/view.sh"
fi

echo "building the Cuspid viewer into $directory"
work=$(mktemp -d "$directory.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd clients && npm ci --silent --no-audit --no-fund)
npm --prefix clients run --silent check
node clients/view/build.mjs "$(realpath "$work")/view"
echo "$wanted" >"$work/view/.installed"
rm -rf "$directory"
mv "$work/view" "$directory"
echo "built: start the server here, and open /view/?study=…"
