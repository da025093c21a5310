#!/usr/bin/env python3
"""Measures a study of 800 slices (420 MB) as a zip file: first byte, speed beside reading the objects, memory of the server.

`CUSPID_BINARY` names the server to measure, or it is the release build.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import requests

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "conformance"))

import multipart  # noqa: E402
from build import encode, image  # noqa: E402
from cuspid_server import Server  # noqa: E402

REQUESTS, INSTANCES_A_REQUEST, SERIES, SIDE = 16, 50, 4, 512
INSTANCES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
ROUNDS = 5


def fill(server: Server) -> str:
    """Stores the study; its path."""
    noise = numpy.random.default_rng(1)
    template = image(rows=SIDE, columns=SIDE)
    for request in range(REQUESTS):
        files = []
        for number in range(INSTANCES_A_REQUEST):
            data_set = image(rows=SIDE, columns=SIDE, StudyInstanceUID=template.StudyInstanceUID)
            data_set.SeriesInstanceUID = f"{template.SeriesInstanceUID[:60]}.{request % SERIES}"
            data_set.InstanceNumber = request * INSTANCES_A_REQUEST + number
            data_set.PixelData = noise.bytes(2 * SIDE * SIDE)
            files.append(encode(data_set))
        headers = {"Content-Type": multipart.content_type()}
        requests.post(f"{server.url}/studies", data=multipart.write(files), headers=headers, timeout=60).raise_for_status()
    return f"{server.url}/studies/{template.StudyInstanceUID}"


def get(server: Server, url: str, accept: str) -> tuple[float, float, int]:
    """Milliseconds to the first byte, MB/s, and the most MB of memory that the server held meanwhile."""
    process = Path(f"/proc/{server.process.pid}")
    (process / "clear_refs").write_text("5")
    told = "%{http_code} %{time_starttransfer} %{time_total} %{size_download}"
    command = ["curl", "-s", "-o", "/dev/null", "-w", told, "-H", f"Accept: {accept}", url]
    status, first, total, size = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert status == "200", status
    peak = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM:"))
    return float(first) * 1000, int(size) / float(total) / 1e6, int(peak.split()[1]) // 1000


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cuspid-zip-") as directory:
        server = Server(Path(directory), "preview.enabled=false", "log.filter=warn")
        server.start()
        url = fill(server)
        size = sum(path.stat().st_size for path in server.data.rglob("*.dcm"))
        print("| what | first byte ms | MB/s | peak MB |\n|---|---|---|---|")
        for name, query, accept in [
            ("multipart", "", INSTANCES),
            ("zip", "", "application/zip"),
            ("zip with DICOMDIR", "?dicomdir=true", "application/zip"),
        ]:
            medians = [sorted(column)[ROUNDS // 2] for column in zip(*(get(server, url + query, accept) for _ in range(ROUNDS)))]
            print("| {} | {:.1f} | {:.0f} | {} |".format(name, *medians))
        start = time.perf_counter()
        subprocess.run(f"find {server.data}/originals -name '*.dcm' | xargs cat > /dev/null", shell=True, check=True)
        print(f"| cat of the objects | – | {size / (time.perf_counter() - start) / 1e6:.0f} | – |")
        server.stop()


if __name__ == "__main__":
    main()
