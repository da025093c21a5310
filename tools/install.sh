#!/usr/bin/env bash
# Installs the Debian packages that a purpose needs, if they are missing. Usage: tools/install.sh build|test|versus...
set -euo pipefail

# Pairs of a command and the package that has it.
build="cc:gcc c++:g++ make:make cmake:cmake nasm:nasm pkg-config:pkg-config"
test="python3:python3 storescu:dcmtk echoscu:dcmtk dciodvfy:dicom3tools unzip:unzip curl:curl"
viewer="npm:npm node:nodejs"
browser="node:nodejs npm:npm chromium:chromium opj_compress:libopenjp2-tools"
versus="nginx:nginx-light debootstrap:debootstrap Orthanc:orthanc mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs"
cloud="radosgw:radosgw ceph-mon:ceph-mon ceph-osd:ceph-osd ceph:ceph-common java:default-jre-headless npm:npm"
crash="mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs losetup:mount"
infra="python3:python3 node:nodejs systemd-analyze:systemd"

missing=()
for purpose in "$@"; do
    for pair in ${!purpose}; do
        command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair##*:}")
    done
    case $purpose in
    test | infra) python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv) ;;
    versus) [ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing+=(orthanc-dicomweb) ;;
    # A CT of a head.
    browser) [ -e /usr/share/doc/invesalius-examples/examples/Cranium.inv3 ] || missing+=(invesalius-examples) ;;
    esac
done

if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    echo "installing ${missing[*]}"
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    # Debian starts some servers at installation; here the tests start them.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust with rustup; rust-toolchain.toml names the version" >&2
    exit 1
fi
