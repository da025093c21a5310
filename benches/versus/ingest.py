"""The rows of ingest: each measurement on a server of its own, the systems in turn."""

import subprocess
import time
from pathlib import Path

from client import load, measure, stow
from disk import Disk
from systems import Sink, StoreSink, System, spinning
from table import Table

BUSY = ", two spinning processes beside"


def storescu(system: System, associations: int, directory: Path) -> dict:
    """dcmtk's storescu, one process an association, each with its share of the files."""
    files = sorted(directory.iterdir())
    host, port = system.dimse.split(":")
    command = ["storescu", "--max-send-pdu", "131072", "-aec", system.ae_title, host, port]
    begin = time.perf_counter()
    processes = [subprocess.Popen([*command, *files[share::associations]]) for share in range(associations)]
    if any([process.wait() for process in processes]):
        raise RuntimeError(f"storescu failed against {system.name}")
    seconds = time.perf_counter() - begin
    return {"bytes": sum(file.stat().st_size for file in files), "seconds": seconds}


def c_store(system: System, associations: int, directory: Path) -> dict:
    return load("c-store", system.dimse, system.ae_title, associations, directory)


# Name, directory of the data, action, the bare receiver that is the limit, and whether it is measured on a busy machine, too.
INGEST = [
    ("STOW, 400 instances in one request", "ct", lambda system, data: stow(system, 1, 400, data), Sink, True),
    ("STOW, 400 requests on 8 connections", "ct", lambda system, data: stow(system, 8, 1, data), Sink, True),
    ("STOW, one multi-frame of 210 MB", "multi", lambda system, data: stow(system, 1, 1, data), Sink, False),
    # dcmtk refuses the acceptance of the bare receiver, which is made for one sender only.
    ("C-STORE by storescu, 1 association", "ct", lambda system, data: storescu(system, 1, data), None, False),
    ("C-STORE by storescu, 4 associations", "ct", lambda system, data: storescu(system, 4, data), None, False),
    ("C-STORE by a fast sender, 1 association", "ct", lambda system, data: c_store(system, 1, data), StoreSink, True),
    ("C-STORE by a fast sender, 4 associations", "ct", lambda system, data: c_store(system, 4, data), StoreSink, True),
]


def measure_ingest(table: Table, disk: Disk, data: Path, systems: list, repeats: int) -> None:
    """Measures all rows in rounds. In each, a system takes the data once to warm up, and then, under other UIDs, to be measured.

    Nothing is deleted before the end: after a deletion, some file systems are slower for minutes.
    """
    for name, directory, act, limit, is_busy_too in INGEST:
        for suffix, spinners in [("", 0), (BUSY, 2)] if is_busy_too else [("", 0)]:
            if table.wants(name + suffix):
                for _ in range(repeats):
                    for system_class in [*systems, *([limit] if limit else [])]:
                        one(table, disk, name + suffix, spinners, system_class, act, data / directory)


def one(table: Table, disk: Disk, name: str, spinners: int, system_class, act, data: Path) -> None:
    with system_class(disk) as system:
        act(system, data.with_name(data.name + "-warm"))
        # Previews begin when a series has been quiet for five seconds: all is over by then.
        with spinning(spinners):
            column = "limit" if system_class in (Sink, StoreSink) else system.name
            count = len(list(data.iterdir()))
            table.add(name, "MB/s", column, measure(system, "MB/s", lambda: act(system, data) | {"instances": count}))
