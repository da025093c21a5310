"""Runs Cuspid and Orthanc side by side on the same data and prints a table of ratios and goals, in Markdown.

`make versus` runs it. It builds the load client, makes the data, alternates the systems, repeats each measurement and
takes the median. With `--rows TEXT`, rows whose name holds it; with `--systems orthanc`, only that system; with
`--binary PATH`, that build of Cuspid.
"""

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import data
from goals import verdict
from systems import Cuspid, Nginx, Orthanc, Sink, StoreSink, System

HERE = Path(__file__).parent
WORK = Path("target/versus")
DATA = WORK / "data"
LOAD = (WORK / "load").absolute()
MULTI = "frame of a 210 MB multi-frame, "
METADATA = "series metadata of 400, "
CODINGS = {"identity": "warm", "gzip": "warm, gzip"}
JSON = "application/dicom+json"
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
SERIES = f"/studies/{data.STUDY}/series/{data.SERIES}"


@dataclass
class Measure:
    """One measurement: the figure that the row compares, and what it cost the server."""

    figure: float
    cpu_seconds: float | None = None
    cpu_per_gb: float | None = None
    peak_mb: float | None = None


@dataclass
class Row:
    """What a row of the table holds; `unit` tells whether more is better (MB/s, /s) or less (ms, MB)."""

    name: str
    unit: str
    measures: dict = field(default_factory=dict)

    def add(self, system: str, measure: Measure) -> None:
        self.measures.setdefault(system, []).append(measure)

    def median(self, system: str, attribute: str = "figure") -> float | None:
        values = [getattr(measure, attribute) for measure in self.measures.get(system, [])]
        values = [value for value in values if value is not None]
        return statistics.median(values) if values else None


class Table:
    def __init__(self, only: str):
        self.only, self.rows = only, {}

    def wants(self, name: str) -> bool:
        return self.only in name

    def add(self, name: str, unit: str, system: str, measure: Measure) -> None:
        self.rows.setdefault(name, Row(name, unit)).add(system, measure)
        print(f"  {name}: {system} {measure.figure:.4g} {unit}", file=sys.stderr, flush=True)

    def markdown(self) -> str:
        lines = [
            "| work | unit | Orthanc | limit | Cuspid | times Orthanc | of the limit | server CPU s (Orthanc, Cuspid) "
            "| CPU s a GB (Orthanc, Cuspid) | peak MB (Orthanc, Cuspid) | goal | reached |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows.values():
            orthanc, limit, cuspid = row.median("orthanc"), row.median("limit"), row.median("cuspid")
            more_is_better = row.unit.endswith("/s")
            times = ratio(cuspid, orthanc) if more_is_better else ratio(orthanc, cuspid)
            of_limit = ratio(cuspid, limit) if more_is_better else ratio(limit, cuspid)
            costs = [
                ", ".join(show(row.median(system, attribute)) for system in ["orthanc", "cuspid"])
                for attribute in ["cpu_seconds", "cpu_per_gb", "peak_mb"]
            ]
            figures = [show(orthanc), show(limit), show(cuspid), times, of_limit]
            cells = [row.name, row.unit, *figures, *costs, *verdict(row)]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)


def show(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio(above: float | None, below: float | None) -> str:
    return "–" if not above or not below else f"{above / below:.3g}"


def load(*arguments) -> dict:
    """Runs the load client; its report."""
    done = subprocess.run([LOAD, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"load {arguments}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def measure(system: System, unit: str, act) -> Measure:
    """What `act` reports, in MB/s, in requests/s or as the median in ms, with the server's CPU seconds and peak memory."""
    system.forget_peak()
    before = system.cpu_seconds()
    report = act()
    cpu = system.cpu_seconds() - before
    figures = {
        "ms": lambda: report["p50_ms"],
        "/s": lambda: report["requests"] / report["seconds"],
        "MB/s": lambda: report["bytes"] / 1e6 / report["seconds"],
    }
    figure = figures[unit]()
    per_gb = cpu / (report["bytes"] / 1e9) if unit == "MB/s" else None
    return Measure(figure, cpu, per_gb, system.memory("VmHWM"))


def stow(system: System, connections: int, per_request: int, directory: Path) -> dict:
    return load("stow", f"http://{system.http}{system.base}/studies", connections, per_request, directory)


def get(system: System, paths: list, connections=1, repeats=1, accept=JSON, coding="identity") -> dict:
    file = WORK / "paths"
    file.write_text("\n".join(paths) + "\n")
    return load("get", system.http, connections, repeats, accept, coding, file)


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


INGEST = [
    ("STOW, 400 instances in one request", lambda system: stow(system, 1, 400, DATA / "ct")),
    ("STOW, 400 requests on 8 connections", lambda system: stow(system, 8, 1, DATA / "ct")),
    ("STOW, one multi-frame of 210 MB", lambda system: stow(system, 1, 1, DATA / "multi")),
    ("C-STORE by storescu, 1 association", lambda system: storescu(system, 1, DATA / "ct")),
    ("C-STORE by storescu, 4 associations", lambda system: storescu(system, 4, DATA / "ct")),
    ("C-STORE by a fast sender, 1 association", lambda system: c_store(system, 1, DATA / "ct")),
    ("C-STORE by a fast sender, 4 associations", lambda system: c_store(system, 4, DATA / "ct")),
]


def measure_ingest(table: Table, systems: list, repeats: int) -> None:
    """Each measurement on an empty server of its own, the systems in turn."""
    for name, act in INGEST:
        if not table.wants(name):
            continue
        # dcmtk refuses the acceptance of the bare peer, which knows one sender only.
        sinks = [Sink] if name.startswith("STOW") else [StoreSink] if "fast sender" in name else []
        for _ in range(repeats):
            for system_class in [*systems, *sinks]:
                with system_class(WORK) as system:
                    column = "limit" if system_class in sinks else system.name
                    table.add(name, "MB/s", column, measure(system, "MB/s", lambda: act(system)))


def queries(studies: int) -> list:
    """The QIDO rows: name, paths, repeats."""
    middle = studies // 2
    study = f"{data.ROOT}.3.{100000 + middle}"
    return [
        ("QIDO study list of 101", ["/studies?limit=101"], 21),
        ("QIDO by PatientID", [f"/studies?PatientID=S{100000 + middle}"], 51),
        ("QIDO by StudyInstanceUID", [f"/studies?StudyInstanceUID={study}"], 51),
        ("QIDO by one day", ["/studies?StudyDate=20000714&limit=101"], 51),
        ("QIDO by name prefix", [f"/studies?PatientName=Name{10000 + middle}*"], 51),
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
    for connections in [1, 4]:
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


def measure_while_storing(table: Table, system: System) -> None:
    """A reader on one connection while another client stores a copy of the series under other UIDs."""
    name = "while a series is stored, p95 of "
    if not table.wants(name):
        return
    others = WORK / "data" / "ct-other"
    if not others.exists():
        unfinished = WORK / "data" / "ct-other.unfinished"
        unfinished.mkdir()
        for path in (DATA / "ct").iterdir():
            # Of the same length, so that the file stays valid.
            renamed = path.read_bytes().replace(f"{data.ROOT}.1".encode(), f"{data.ROOT}.9".encode())
            (unfinished / path.name).write_bytes(renamed)
        unfinished.rename(others)
    url = f"http://{system.http}{system.base}/studies"
    latencies = {"QIDO": [], "a frame": []}
    writer = subprocess.Popen([LOAD, "stow", url, "2", "1", others], stdout=subprocess.DEVNULL)
    query = [f"{system.base}/studies?PatientID=LARGE1"]
    while writer.poll() is None:
        latencies["QIDO"].append(get(system, query, repeats=10)["p95_ms"])
        latencies["a frame"].append(get(system, random.sample(frame_paths(system), 10), accept=FRAMES)["p95_ms"])
    for what, values in latencies.items():
        if values:
            table.add(name + what, "ms", system.name, Measure(statistics.median(values)))


def measure_limits(table: Table, saved: dict, repeats: int) -> None:
    """nginx with the same bytes as static files."""
    with Nginx(WORK) as nginx:
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


def fill(table: Table, system: System, studies: int) -> None:
    """Fills a server with the small studies, starts it anew, and adds the CT and the multi-frame."""
    begin = time.perf_counter()
    stow(system, 4, 100, DATA / f"studies-{studies}")
    print(f"  {system.name}: {studies} studies in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    system.settle()
    for name in ["start to ready, first after ingest", "start to ready, again", "start to ready, again"]:
        system.stop()
        table.add(name, "ms", system.name, Measure(system.start() * 1e3))
    system.settle()
    table.add(f"idle memory at {studies:,} studies", "MB", system.name, Measure(system.memory("VmRSS")))
    stow(system, 8, 1, DATA / "ct")
    stow(system, 1, 1, DATA / "multi")
    measure_first(table, system)
    system.settle()


def measure_filled(table: Table, systems: list, studies: int, repeats: int) -> None:
    """All systems hold the same and idle while another is measured; so each round takes them in turn."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(system_class(WORK)) for system_class in systems]
        for system in started:
            fill(table, system, studies)
        for _ in range(repeats):
            for system in started:
                measure_reading(table, system, studies)
                measure_pictures(table, system)
                measure_zip(table, system)
        for system in started:
            measure_while_storing(table, system)
        saved = save_answers(started[0], studies)
    measure_limits(table, saved, repeats)


def notes(repeats: int) -> str:
    """On what it ran: the build of Cuspid and the load of the machine qualify every figure."""
    build = hashlib.sha256(Cuspid.binary.read_bytes()).hexdigest()[:12] if Cuspid.binary.is_file() else "none"
    loads = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"Medians of {repeats}; rows named *first*, idle memory and p95 once. {os.cpu_count()} cores, Linux "
        f"{platform.release()}; load of the last 1, 5 and 15 minutes at the end {loads}; Cuspid's binary {build}."
    )


def build_load() -> None:
    """The load client needs nothing but the standard library, so the compiler alone builds it in seconds."""
    WORK.mkdir(parents=True, exist_ok=True)
    source = HERE / "load" / "main.rs"
    subprocess.run(["rustc", "--edition", "2024", "-O", source, "-o", LOAD], check=True)
    Sink.load = StoreSink.load = LOAD


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", default="", help="rows whose name holds this")
    arguments.add_argument("--systems", default="cuspid,orthanc")
    arguments.add_argument("--binary", type=Path, default=Path(os.environ.get("CUSPID", Cuspid.binary)))
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--studies", type=int, default=10_000)
    arguments.add_argument("--part", choices=["ingest", "reading", "both"], default="both")
    arguments.add_argument("--output", type=Path, default=WORK / "table.md")
    chosen = arguments.parse_args()
    Cuspid.binary = chosen.binary.absolute()
    known = {"cuspid": Cuspid, "orthanc": Orthanc}
    systems = [known[name] for name in chosen.systems.split(",")]
    build_load()
    data.make(DATA, chosen.studies)
    table = Table(chosen.rows)
    if chosen.part != "reading":
        measure_ingest(table, systems, chosen.repeats)
    if chosen.part != "ingest":
        measure_filled(table, systems, chosen.studies, chosen.repeats)
    text = f"{notes(chosen.repeats)}\n\n{table.markdown()}\n"
    chosen.output.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    try:
        main()
    finally:
        for directory in WORK.glob("*-????????"):
            shutil.rmtree(directory, ignore_errors=True)
