"""Measures what grows with the archive: ingest, searches, memory and disk, first in a small archive, then in a large one.

`make scale` runs it, on Cuspid alone: 100,000 studies of 10 small instances. With `--studies` and `--instances`, others.
"""

import argparse
import shutil
import statistics
import time
from pathlib import Path

import data
from client import LOAD, WORK, get, load, measure, stow
from disk import mounted
from systems import Cuspid

SMALL = 1000


def fill(system: Cuspid, first: int, last: int, instances: int) -> dict:
    template = WORK / "data" / "template" / "template.dcm"
    return load("fill", system.http, f"{system.base}/studies", 8, first, last, instances, template)


def searches(studies: int) -> dict:
    """Paths by name. A name is that of one study; its beginning is that of all."""
    one = 1_000_000 + studies // 2
    return {
        "list of 101": "/studies?limit=101",
        "PatientID": f"/studies?PatientID=S{one}",
        "StudyInstanceUID": f"/studies?StudyInstanceUID={data.ROOT}.4.{one}",
        "AccessionNumber": f"/studies?AccessionNumber=X{one}",
        "name": f"/studies?PatientName=Name{one}*",
        "name prefix, limit 25": "/studies?PatientName=Name*&limit=25",
        "offset N/2, limit 25": f"/studies?offset={studies // 2}&limit=25",
        "one day, limit 101": "/studies?StudyDate=20240115&limit=101",
        "instances of a study": f"/studies/{data.ROOT}.4.{one}/instances",
    }


def figures(system: Cuspid, studies: int, instances: int) -> dict:
    """All figures at this size of the archive, by name. Ingest adds studies after the last."""
    found = {}
    for name, path in searches(studies).items():
        report = get(system, [system.base + path], repeats=31)
        found[f"{name}, ms"] = report["p50_ms"]
    rates = []
    for turn in range(3):
        first = studies + turn * SMALL
        report = fill(system, first, first + SMALL - 1, instances)
        rates.append(SMALL * instances / report["seconds"])
    found["ingest of small instances, /s"] = statistics.median(rates)
    # Lone instances of 527 kB, each with its own request; warm, then counted, under other UIDs each time.
    name = "ct" if studies > SMALL else "ct-warm"
    result = measure(system, "MB/s", lambda: stow(system, 8, 1, WORK / "data" / name) | {"instances": data.SLICES})
    found["lone instances of 527 kB, MB/s"] = result.figure
    found["of these: CPU s a GB"], found["of these: flushes an instance"] = result.cpu_per_gb, result.flushes
    found["of these: bytes written a byte"] = result.written
    system.settle()
    found["memory at rest, MB"] = system.memory("VmRSS")
    system.stop()
    found["start to ready, ms"] = system.start() * 1e3
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--studies", type=int, default=100_000)
    arguments.add_argument("--instances", type=int, default=10)
    arguments.add_argument("--binary", type=Path, default=Path(Cuspid.binary))
    arguments.add_argument("--disk", choices=["ext4", "xfs", "here"], default="ext4", help="all but here need root")
    chosen = arguments.parse_args()
    Cuspid.binary = chosen.binary.absolute()
    if not LOAD.exists():
        raise SystemExit("the load client is missing: cargo build --release --example versus-load")
    data.make(WORK / "data", SMALL)
    with mounted(chosen.disk, WORK) as disk, Cuspid(disk) as system:
        fill(system, 0, SMALL - 1, chosen.instances)
        small = figures(system, SMALL, chosen.instances)
        begin = time.perf_counter()
        fill(system, 4 * SMALL, chosen.studies - 1, chosen.instances)
        seconds = time.perf_counter() - begin
        large = figures(system, chosen.studies, chosen.instances)
        peak = system.memory("VmHWM")
        system.stop()
        shutil.rmtree(system.directory, ignore_errors=True)
    print(f"{chosen.studies:,} studies of {chosen.instances} instances, filled in {seconds:.0f} s; peak {peak:.0f} MB\n")
    print(f"| figure | at {SMALL:,} studies | at {chosen.studies:,} |\n|---|---|---|")
    for name in small:
        cells = ["–" if value is None else f"{value:.3g}" for value in (small[name], large[name])]
        print(f"| {name} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
