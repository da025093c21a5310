#!/usr/bin/env python3
"""Runs conformance/ on Cuspid and on Debian's Orthanc, and writes both columns into docs/conformance.md.

A row is a test function, which is one behaviour; where it has several cases, a column says how many of them passed.
Ends with the status of the run on Cuspid: what Orthanc does not do is shown, and no failure.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "conformance.md"
BEGIN, END = "<!-- begin: side by side -->", "<!-- end: side by side -->"


def run(server: str, results: Path) -> int:
    """Runs the suite on one server; `results` then holds the counts by test."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "conformance", "--results", results, *sys.argv[1:]]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "CONFORMANCE_SERVER": server})
    return ended.returncode


def cell(counts: dict | None) -> str:
    """How the cases of a test ended, without those that were skipped."""
    counts = {**(counts or {})}
    counts.pop("skipped", None)
    total, passed = sum(counts.values()), counts.get("passed", 0)
    if total == 0:
        return "not run"
    if total == 1:
        return "yes" if passed else "no"
    return "yes" if passed == total else f"{passed} of {total}"


def table(cuspid: dict, orthanc: dict) -> list:
    """The lines of one table for each file, and the sums before them."""
    columns = {"Cuspid": cuspid, "Orthanc": orthanc}
    sums = [f"{name} {sum(cell(found.get(test)) == 'yes' for test in cuspid)}" for name, found in columns.items()]
    lines = [f"Of {len(cuspid)} behaviours in full: {', '.join(sums)}."]
    file = None
    for test in cuspid:
        path, name = test.split("::")
        if path != file:
            file = path
            lines += ["", f"`{Path(path).name}`", "", "| behaviour | Cuspid | Orthanc |", "|---|---|---|"]
        words = re.sub("^test_", "", name).replace("_", " ")
        lines.append(f"| {words} | {cell(cuspid.get(test))} | {cell(orthanc.get(test))} |")
    return lines


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        results = {server: Path(directory) / f"{server}.json" for server in ["cuspid", "orthanc"]}
        status = run("cuspid", results["cuspid"])
        run("orthanc", results["orthanc"])
        lines = table(*(json.loads(path.read_text()) for path in results.values()))
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END]) + after)
    return status


if __name__ == "__main__":
    sys.exit(main())
