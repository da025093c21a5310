#!/usr/bin/env bash
# Installs what is missing of what a build (`install.sh build`) or the tests (`install.sh test`) need: Debian
# packages by name, and Python packages into .venv.
set -euo pipefail
cd "$(dirname "$0")/.."

# Installs Debian packages whose command is missing; arguments are command=package.
packages() {
    local missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "installing ${missing[*]}"
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

venv() {
    local wanted=conformance/requirements.txt
    cmp -s "$wanted" .venv/installed.txt && return
    echo "installing Python packages into .venv"
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" .venv/installed.txt
}

packages cc=gcc c++=g++ cmake=cmake make=make
if [ "${1:-build}" = test ]; then
    packages storescu=dcmtk
    venv
fi
