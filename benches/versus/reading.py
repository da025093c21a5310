"""The rows of reading: all systems hold the same studies, and are idle while another one is measured."""

import contextlib
import gzip
import json
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import data
from client import JSON, LOAD, get, measure, stow
from disk import Disk
from systems import Nginx, System
from table import Measure, Table

MULTI = "frame of a 210 MB multi-frame, "
METADATA = "series metadata of 400, "
CODINGS = {"identity": "warm", "gzip": "warm, gzip"}
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
SERIES = f"/studies/{data.STUDY}/series/{data.SERIES}"


def queries(studies: int) -> list:
    """The QIDO rows: name, paths, repeats."""
    middle = studies // 2
    study = f"{data.ROOT}.3.{100000 + middle}"
    return [
        ("QIDO study list of 101", ["/studies?limit=101"], 21),
        ("QIDO by PatientID", [f"/studies?PatientID=S{100000 + middle}"], 51),
        ("QIDO by StudyInstanceUID", [f"/studies?StudyInstanceUID={study}"], 51),
        ("QIDO by one day", ["/studies?StudyDate=20000714&limit=101"], 51),
        ("QIDO by name prefix, limit 25", ["/studies?PatientName=Name*&limit=25"], 51),
        ("QIDO by name", [f"/studies?PatientName=Name{10000 + middle % 90000}*"], 51),
        ("QIDO studies from the middle on, limit 25", [f"/studies?offset={middle}&limit=25"], 21),
        ("QIDO 400 instances of a series", [f"{SERIES}/instances"], 11),
    ]


def frame_paths(system: System) -> list:
    return [f"{system.base}{SERIES}/instances/{data.instance_uid(n)}/frames/1" for n in range(1, data.SLICES + 1)]


def random_frames(system: System, count: int) -> list:
    ids = data.MULTI_FRAME
    instance = f"{system.base}/studies/{ids['study']}/series/{ids['series']}/instances/{ids['instance']}"
    numbers = random.Random(3).sample(range(1, data.SLICES + 1), count)
    return [f"{instance}/frames/{number}" for number in numbers]


def row(table: Table, column: str, name: str, unit: str, system: System, act) -> None:
    """Measures a row, if the table wants it."""
    if table.wants(name):
        table.add(name, unit, column, measure(system, unit, act))


def measure_first(table: Table, system: System) -> None:
    """What can be measured once only, right after the ingest."""
    path = [f"{system.base}{SERIES}/metadata"]
    row(table, system.name, METADATA + "first after ingest", "ms", system, lambda: get(system, path))
    frame = random_frames(system, 1)
    row(table, system.name, MULTI + "first", "ms", system, lambda: get(system, frame, accept=FRAMES))


def measure_reading(table: Table, system: System, studies: int) -> None:
    """One round of the rows of reading, on a server that holds the small studies, the CT and the multi-frame."""
    for name, paths, count in queries(studies):
        paths = [system.base + path for path in paths]
        row(table, system.name, name, "ms", system, lambda: get(system, paths, repeats=count))
    metadata = [f"{system.base}{SERIES}/metadata"]
    for coding in CODINGS:
        act = lambda: get(system, metadata, repeats=9, coding=coding)
        row(table, system.name, METADATA + CODINGS[coding], "ms", system, act)
    row(table, system.name, METADATA + "bytes in gzip", "KB", system, lambda: get(system, metadata, coding="gzip"))
    some = random_frames(system, 10)
    row(table, system.name, MULTI + "random", "ms", system, lambda: get(system, some, accept=FRAMES))
    measure_frames(table, system.name, system, metadata, frame_paths(system))


def measure_frames(table: Table, column: str, system: System, metadata: list, frames: list) -> None:
    for connections in [6, 8, 32]:
        name = f"400 single frames on {connections} connections"
        row(table, column, name, "MB/s", system, lambda: get(system, frames, connections, accept=FRAMES))

    def open_viewer() -> dict:
        reports = [get(system, metadata), get(system, frames, 6, accept=FRAMES)]
        return {"p50_ms": sum(report["seconds"] for report in reports) * 1e3}

    row(table, column, "viewer opens: metadata and 400 frames on 6 connections", "ms", system, open_viewer)


def measure_pictures(table: Table, system: System) -> None:
    """Slices rendered by the server; the browser's part is not in it."""
    rendered = [path.replace("/frames/1", "/rendered") for path in frame_paths(system)]
    for connections in [1, 8]:
        name = f"400 slices rendered as JPEG on {connections} connections"
        row(table, system.name, name, "/s", system, lambda: get(system, rendered, connections, accept="image/jpeg"))
    if system.name == "cuspid":
        paths = [f"{system.base}{SERIES}/thumbnail"]
        act = lambda: get(system, paths, repeats=51, accept="image/jpeg")
        row(table, system.name, "thumbnail of a series, stored", "ms", system, act)


def zip_path(system: System) -> str:
    """Where a system gives the CT as a zip file."""
    if system.name != "orthanc":
        return f"{system.base}/studies/{data.STUDY}"
    url = f"http://{system.http}/tools/lookup"
    with urllib.request.urlopen(url, data=data.STUDY.encode()) as answer:
        (found,) = [item["ID"] for item in json.load(answer) if item["Type"] == "Study"]
    return f"/studies/{found}/archive"


def first_byte(system: System, path: str, accept: str) -> dict:
    """Milliseconds until the first byte of a body is there."""
    request = urllib.request.Request(f"http://{system.http}{path}", headers={"Accept": accept})
    begin = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        answer.read(1)
        return {"p50_ms": (time.perf_counter() - begin) * 1e3}


def measure_zip(table: Table, system: System) -> None:
    """A whole study as a zip file; its limit is the same server's multipart answer."""
    name = "a study of 211 MB as zip"
    if not table.wants(name):
        return
    path, accept = zip_path(system), "application/zip"
    row(table, system.name, f"{name}, first byte", "ms", system, lambda: first_byte(system, path, accept))
    row(table, system.name, name, "MB/s", system, lambda: get(system, [path], accept=accept))
    if system.name == "cuspid":
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        row(table, "limit", name, "MB/s", system, lambda: get(system, [path], accept=accept))


def measure_while_storing(table: Table, system: System, others: Path) -> None:
    """A reader on one connection while another client stores a copy of the series under other UIDs."""
    name = "while a series is stored, p95 of "
    if not table.wants(name):
        return
    url = f"http://{system.http}{system.base}/studies"
    latencies = {"QIDO": [], "a frame": []}
    writer = subprocess.Popen([LOAD, "stow", url, "2", "1", others], stdout=subprocess.DEVNULL)
    query = [f"{system.base}/studies?PatientID=LARGE1"]
    while writer.poll() is None:
        latencies["QIDO"].append(get(system, query, repeats=10)["p95_ms"])
        latencies["a frame"].append(get(system, random.sample(frame_paths(system), 10), accept=FRAMES)["p95_ms"])
    # The preview of what was stored must not run while another system is measured.
    system.settle()
    for what, values in latencies.items():
        if values:
            table.add(name + what, "ms", system.name, Measure(statistics.median(values)))


def measure_limits(table: Table, disk: Disk, saved: dict, repeats: int) -> None:
    """nginx with the same bytes as static files."""
    with Nginx(disk) as nginx:
        root = nginx.directory / "root"
        frames = [f"/frame-{number}" for number in range(data.SLICES)]
        for path in frames:
            (root / path[1:]).write_bytes(saved["frame"])
        bodies = {name: f"/body-{number}" for number, name in enumerate(saved["bodies"])}
        for name, path in bodies.items():
            (root / path[1:]).write_bytes(saved["bodies"][name])
        for _ in range(repeats):
            for name, path in bodies.items():
                row(table, "limit", name, "ms", nginx, lambda: get(nginx, [path], repeats=31))
            row(table, "limit", MULTI + "random", "ms", nginx, lambda: get(nginx, frames))
            measure_frames(table, "limit", nginx, [bodies[METADATA + CODINGS["identity"]]], frames)


def body(system: System, path: str, accept: str) -> bytes:
    request = urllib.request.Request(f"http://{system.http}{system.base}{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request) as answer:
        content = answer.read()
        return gzip.decompress(content) if answer.headers.get("Content-Encoding") == "gzip" else content


def save_answers(system: System, studies: int) -> dict:
    """What nginx is to serve: this system's own answers."""
    bodies = {name: body(system, paths[0], JSON) for name, paths, _ in queries(studies)}
    metadata = body(system, f"{SERIES}/metadata", JSON)
    bodies[METADATA + CODINGS["identity"]] = metadata
    bodies[METADATA + CODINGS["gzip"]] = gzip.compress(metadata, 6)
    frame = frame_paths(system)[0].removeprefix(system.base)
    return {"bodies": bodies, "frame": body(system, frame, FRAMES)}


def fill(table: Table, system: System, files: Path, studies: int) -> None:
    """Fills a server with the small studies, starts it anew, and adds the CT and the multi-frame."""
    begin = time.perf_counter()
    stow(system, 4, 100, files / f"studies-{studies}")
    print(f"  {system.name}: {studies} studies in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    system.settle()
    for name in ["start to ready, first after ingest", "start to ready, again", "start to ready, again"]:
        system.stop()
        table.add(name, "ms", system.name, Measure(system.start() * 1e3))
    system.settle()
    table.add(f"idle memory at {studies:,} studies", "MB", system.name, Measure(system.memory("VmRSS")))
    stow(system, 8, 1, files / "ct")
    stow(system, 1, 1, files / "multi")
    measure_first(table, system)
    system.settle()


def measure_filled(table: Table, disk: Disk, files: Path, systems: list, studies: int, repeats: int) -> None:
    """All systems hold the same and idle while another is measured; so each round takes them in turn."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(system_class(disk)) for system_class in systems]
        for system in started:
            fill(table, system, files, studies)
        for _ in range(repeats):
            for system in started:
                measure_reading(table, system, studies)
                measure_pictures(table, system)
                measure_zip(table, system)
        for system in started:
            measure_while_storing(table, system, files / "ct-warm")
        saved = save_answers(started[0], studies)
    measure_limits(table, disk, saved, repeats)
