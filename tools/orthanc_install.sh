#!/usr/bin/env bash
# Installs Orthanc 1.12.7 with its DICOMweb plugin, as Debian 13 has them, into target/orthanc, beside this Debian 12: about
# 520 MB. Needs root. Nothing is started. Remove the directory to get rid of it.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/target/orthanc

[ -x "$root/usr/sbin/Orthanc" ] && [ -e "$root/usr/share/orthanc/plugins/libOrthancDicomWeb.so" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "tools/orthanc_install.sh needs root: debootstrap and chroot do" >&2
    exit 1
fi

# A Debian that was installed halfway is not continued.
rm -rf "$root"
mkdir -p target
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=ca-certificates trixie "$root" "${mirror:-http://deb.debian.org/debian}"
# Packages that start a server when they are installed must not.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
DEBIAN_FRONTEND=noninteractive chroot "$root" \
    apt-get install -q -y --no-install-recommends orthanc=1.12.7* orthanc-dicomweb
# Without these, dcmtk's gethostid() asks the name service for every image, and may wait five seconds.
printf '127.0.0.1 localhost %s\n::1 localhost\n' "$(hostname)" >"$root/etc/hosts"
printf 'vmhs' >"$root/etc/hostid"
