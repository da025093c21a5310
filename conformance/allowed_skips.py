"""The gate for skipped tests: on Cuspid a test is skipped only if `allowed_skips.toml` lists it with a reason."""

import re
import tomllib
from pathlib import Path

import pytest

LIST = Path(__file__).parent / "allowed_skips.toml"


def read() -> dict:
    """The reasons of the list, by the pattern of their tests."""
    entries = tomllib.loads(LIST.read_text())["skip"]
    for entry in entries:
        assert set(entry) == {"tests", "reason"} and "::" in entry["tests"] and entry["reason"], entry
    return {entry["tests"]: entry["reason"] for entry in entries}


def matches(test: str, pattern: str) -> bool:
    """Whether a test (`file.py::name[case]`) is one of a pattern, in which only `*` has a meaning."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), test) is not None


class Gate:
    """Reports skips that are not listed as failures, and listed patterns that no skip matches."""

    def __init__(self, allowed: dict):
        self.allowed, self.used, self.stale = allowed, set(), []

    def is_allowed(self, node_id: str) -> bool:
        test = Path(node_id.partition("::")[0]).name + "::" + node_id.partition("::")[2]
        found = {pattern for pattern in self.allowed if matches(test, pattern)}
        self.used |= found
        return bool(found)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        return report if self.is_allowed_report(report) else refused(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        report = yield
        return report if self.is_allowed_report(report) else refused(report)

    def is_allowed_report(self, report) -> bool:
        is_skip = report.skipped and not hasattr(report, "wasxfail")
        return not is_skip or self.is_allowed(report.nodeid)

    def pytest_sessionfinish(self, session):
        """A pattern is judged only if all tests of its file were run."""
        option, names = session.config.option, session.config.args
        is_part = option.keyword or option.markexpr or option.deselect or any("::" in name for name in names)
        is_whole = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not session.shouldfail
        if is_part or option.collectonly or not is_whole:
            return
        files = {item.path.name for item in session.items}
        self.stale = sorted(pattern for pattern in set(self.allowed) - self.used if pattern.partition("::")[0] in files)
        if self.stale:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for pattern in self.stale:
            terminalreporter.write_line(f"FAILED {LIST.name}: no test that matches {pattern!r} was skipped", red=True)


def refused(report):
    """The report of a skip as that of a failure."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{reason}\nA skip that conformance/{LIST.name} does not list is a failure on Cuspid."
    return report
