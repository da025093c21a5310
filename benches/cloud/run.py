#!/usr/bin/env python3
"""Ingest and retrieval of a series over a local S3 server, beside what a bare S3 client moves with the same concurrency.

    make cloud-bench

A CT of 400 slices (211 MB). The bare client sends and reads the same files as objects; the two take turns, so that what else the
machine does hits both. Prints the medians and their ratios.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).absolute().parent.parent.parent
for place in ["conformance", "benches/versus"]:
    sys.path.insert(0, str(ROOT / place))

import data  # noqa: E402
from cuspid_cloud import Cloud, endpoint  # noqa: E402
from cuspid_server import Server, binary  # noqa: E402

WORK = ROOT / "target" / "versus"
LOAD = WORK / "load"
ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
PER_REQUEST = 50
# What is read comes from S3, and nothing else is done.
SETTINGS = ["s3.cache_max_bytes=0", "preview.enabled=false", "log.filter=warn"]
GOAL = 0.7


def report(*command) -> float:
    """Runs a load client; the megabytes that it moved in a second."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr[-500:]}")
    said = json.loads(done.stdout)
    return said["bytes"] / 1e6 / said["seconds"]


def bare(client: Path, ct: Path, concurrency: int) -> tuple[float, float]:
    """Sends and reads the files as objects of a bucket of their own."""
    bucket = Cloud(binary()).name
    return tuple(report(client, what, endpoint("s3"), bucket, concurrency, ct) for what in ["put", "get"])


def cuspid(ct: Path, concurrency: int) -> tuple[float, float, float]:
    """Stores over so many connections; retrieves the series over one, and over as many connections at the same time."""
    with tempfile.TemporaryDirectory(prefix="cuspid-bench-") as directory:
        paths = Path(directory) / "paths"
        server = Server(Path(directory), *Cloud(binary()).settings, *SETTINGS).start()
        try:
            stored = report(LOAD, "stow", f"{server.url}/studies", concurrency, PER_REQUEST, ct)
            paths.write_text(f"/dicom-web/studies/{data.STUDY}/series/{data.SERIES}\n")
            address = f"127.0.0.1:{server.http_port}"
            get = lambda connections: report(LOAD, "get", address, connections, connections, ACCEPT, "identity", paths)
            return stored, get(1), get(concurrency)
        finally:
            server.kill()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--client", type=Path, default=ROOT / "target/release/examples/bare-s3")
    arguments.add_argument("--concurrency", type=int, default=8)
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args()
    ct = WORK / "data" / "ct"
    if not ct.exists():
        data.make_ct(ct)
    WORK.mkdir(parents=True, exist_ok=True)
    source = ROOT / "benches/versus/load/main.rs"
    subprocess.run(["rustc", "--edition", "2024", "-O", source, "-o", LOAD], check=True)
    limits, figures = [], []
    for _ in range(chosen.repeats):
        limits.append(bare(chosen.client, ct, chosen.concurrency))
        figures.append(cuspid(ct, chosen.concurrency))
    put, get = (median(each) for each in zip(*limits))
    stored, one, many = (median(each) for each in zip(*figures))
    connections = f"{chosen.concurrency} connections"
    rows = [
        (f"ingest on {connections}", put, stored),
        ("a whole series on 1 connection", get, one),
        (f"a whole series on each of {connections}", get, many),
    ]
    print(f"| work | bare client on {connections}, MB/s | Cuspid, MB/s | of the limit |\n|---|---|---|---|")
    for work, limit, figure in rows:
        print(f"| {work} | {limit:.0f} | {figure:.0f} | {figure / limit:.2f} |")
    return 0 if all(figure >= GOAL * limit for _, limit, figure in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
