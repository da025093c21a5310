"""The load client, and what is measured while it works."""

import json
import subprocess
from pathlib import Path

from systems import System
from table import Measure

JSON = "application/dicom+json"
WORK = Path("target/versus")
LOAD = Path("target/release/examples/versus-load").absolute()


def load(*arguments) -> dict:
    """Runs the load client; its report."""
    done = subprocess.run([LOAD, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"load {arguments}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def measure(system: System, unit: str, act) -> Measure:
    """What `act` reports, in MB/s, in requests/s, in KB or as the median in ms, with the server's CPU seconds and peak memory."""
    system.forget_peak()
    before = system.counters()
    report = act()
    cpu, switches, flushes, written = (now - then for now, then in zip(system.counters(), before))
    figures = {
        "ms": lambda: report["p50_ms"],
        "KB": lambda: report["bytes"] / 1000,
        "/s": lambda: report["requests"] / report["seconds"],
        "MB/s": lambda: report["bytes"] / 1e6 / report["seconds"],
    }
    figure = figures[unit]()
    result = Measure(figure, cpu, peak_mb=system.memory("VmHWM"))
    if unit == "MB/s":
        result.cpu_per_gb = cpu / (report["bytes"] / 1e9)
        result.switches = switches / report["instances"] if "instances" in report else None
    if unit == "MB/s" and "instances" in report and system.disk.device:
        result.flushes, result.written = flushes / report["instances"], written / report["bytes"]
    return result


def stow(system: System, connections: int, per_request: int, directory: Path) -> dict:
    return load("stow", f"http://{system.http}{system.base}/studies", connections, per_request, directory)


def get(system: System, paths: list, connections=1, repeats=1, accept=JSON, coding="identity") -> dict:
    file = WORK / "paths"
    file.write_text("\n".join(paths) + "\n")
    return load("get", system.http, connections, repeats, accept, coding, file)
