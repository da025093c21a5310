"""Runs Cuspid and Orthanc side by side on the same data and prints a table of ratios and goals, in Markdown.

`make versus` runs it. It makes the data, alternates the systems, repeats each measurement and takes the medians of the figures
and of the ratios within a round. With `--rows TEXT`, rows whose name holds it; with `--systems orthanc`, only that system; with
`--binary PATH`, that build of Cuspid; with `--disk here`, in the working directory instead of a file system of its own.
"""

import argparse
import hashlib
import os
import platform
import shutil
from pathlib import Path

import data
from client import LOAD, WORK
from disk import mounted
from ingest import measure_ingest
from reading import measure_filled
from systems import Cuspid, OldOrthanc, Orthanc, Sink, StoreSink
from table import Table


def notes(repeats: int, disk: str) -> str:
    """On what it ran: the build of Cuspid and the load of the machine qualify every figure."""
    build = hashlib.sha256(Cuspid.binary.read_bytes()).hexdigest()[:12] if Cuspid.binary.is_file() else "none"
    loads = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"Medians of {repeats}; rows named *first*, idle memory and p95 once. Disk: {disk}. {os.cpu_count()} cores, Linux "
        f"{platform.release()}; load of the last 1, 5 and 15 minutes at the end {loads}; Cuspid's binary {build}."
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", default="", help="rows whose name holds this")
    arguments.add_argument("--systems", default="cuspid,orthanc,orthanc-1.10")
    arguments.add_argument("--binary", type=Path, default=Path(os.environ.get("CUSPID", Cuspid.binary)))
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--studies", type=int, default=10_000)
    arguments.add_argument("--part", choices=["ingest", "reading", "both"], default="both")
    arguments.add_argument("--disk", choices=["ext4", "xfs", "here"], default="ext4", help="all but here need root")
    arguments.add_argument("--output", type=Path, default=WORK / "table.md")
    chosen = arguments.parse_args()
    Cuspid.binary = chosen.binary.absolute()
    known = {system.name: system for system in [Cuspid, Orthanc, OldOrthanc]}
    systems = [known[name] for name in chosen.systems.split(",")]
    Sink.load = StoreSink.load = LOAD
    files = WORK / "data"
    data.make(files, chosen.studies)
    table = Table(chosen.rows)
    with mounted(chosen.disk, WORK) as disk:
        try:
            if chosen.part != "reading":
                measure_ingest(table, disk, files, systems, chosen.repeats)
            if chosen.part != "ingest":
                measure_filled(table, disk, files, systems, chosen.studies, chosen.repeats)
        finally:
            for directory in disk.directory.glob("*-????????"):
                shutil.rmtree(directory, ignore_errors=True)
    text = f"{notes(chosen.repeats, chosen.disk)}\n\n{table.markdown()}\n"
    chosen.output.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
