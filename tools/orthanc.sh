#!/usr/bin/env bash
# Runs the Orthanc that tools/orthanc_install.sh has installed. Usage: tools/orthanc.sh CONFIGURATION_FILE
#
# Orthanc sees the directory of the file under its own name, and works in it. The process id of this script becomes that of Orthanc.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)/target/orthanc
file=$(realpath "$1")

# Each answer by DIMSE would wait for an acknowledgement of TCP, about 40 ms, without it.
export TCP_NODELAY=1
exec unshare --mount sh -c '
    mkdir -p "$1$2" && mount --bind "$2" "$1$2" && exec chroot "$1" sh -c "cd \"\$1\" && exec /usr/sbin/Orthanc \"\$2\"" - "$2" "$3"
' - "$root" "$(dirname "$file")" "$file"
