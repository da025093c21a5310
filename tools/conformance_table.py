#!/usr/bin/env python3
"""Runs conformance/ on Cuspid and on Orthanc 1.12.7, and writes both columns into docs/conformance.md.

A row is a test function, which is one behaviour; where it has several cases, a column says how many of them passed, and
how many were skipped.
Ends with the status of the run on Cuspid: behaviours that Orthanc lacks are shown, but are no failure.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
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
    """How the cases of a test ended."""
    if not counts:
        return "not run"
    total, passed, skipped = sum(counts.values()), counts.get("passed", 0), counts.get("skipped", 0)
    if passed == total:
        return "yes"
    if skipped == total:
        return "skipped"
    if total == 1:
        return "no"
    return f"{passed} of {total}" + (f", {skipped} skipped" if skipped else "")


def sums(server: str, found: dict, tests: dict) -> str:
    """The line of one server before the tables: of how many behaviours no case failed or was skipped, and all its cases."""
    in_full = sum(cell(found.get(test)) == "yes" for test in tests)
    cases = Counter()
    for test in tests:
        cases.update(found.get(test, {}))
    skipped = cases.pop("skipped", 0)
    return f"| {server} | {in_full} of {len(tests)} | {cases['passed']} | {cases.total() - cases['passed']} | {skipped} |"


def table(cuspid: dict, orthanc: dict) -> list:
    """The lines of one table for each file, and the sums before them."""
    lines = ["| server | behaviours in full | cases passed | failed | skipped |", "|---|---|---|---|---|"]
    lines += [sums("Cuspid", cuspid, cuspid), sums("Orthanc", orthanc, cuspid)]
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
    print(*lines[:4], sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
