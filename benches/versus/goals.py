"""The goals that the rows are held against: a multiple of Orthanc, a part of the limit, or a figure of Cuspid alone."""

from dataclasses import dataclass


@dataclass
class Goal:
    """All that is not None must hold. `figure` is an upper bound in the row's unit."""

    times_orthanc: float | None = None
    of_limit: float | None = None
    figure: float | None = None
    cpu_per_gb: float | None = None
    peak_mb: float | None = None


# By the start of a row's name; the first that fits counts.
GOALS = {
    "STOW, 400 instances in one request": Goal(times_orthanc=6, cpu_per_gb=1.5, peak_mb=150),
    "STOW, 400 requests on 8": Goal(times_orthanc=3, of_limit=0.75, cpu_per_gb=1.3),
    "STOW, one multi-frame": Goal(times_orthanc=5, peak_mb=150),
    "C-STORE by a fast sender, 1": Goal(times_orthanc=2, of_limit=0.75, cpu_per_gb=1.3),
    "C-STORE by a fast sender, 4": Goal(times_orthanc=2.7, of_limit=0.75, cpu_per_gb=1.3),
    "QIDO study list of 101": Goal(figure=0.6),
    "QIDO by PatientID": Goal(figure=0.5),
    "QIDO by StudyInstanceUID": Goal(figure=0.5),
    "QIDO by one day": Goal(figure=0.5),
    "QIDO by name prefix": Goal(figure=1),
    "QIDO studies from the middle": Goal(figure=2),
    "QIDO 400 instances": Goal(figure=10),
    "series metadata of 400, first": Goal(figure=15),
    "series metadata of 400, warm": Goal(figure=4),
    "series metadata of 400, bytes in gzip": Goal(figure=50),
    "400 single frames on 8": Goal(of_limit=0.6, cpu_per_gb=0.6),
    "frame of a 210 MB multi-frame": Goal(figure=0.4),
    "viewer opens": Goal(figure=160),
    "400 slices rendered": Goal(times_orthanc=3),
    "a study of 211 MB as zip, first byte": Goal(figure=50),
    "a study of 211 MB as zip": Goal(of_limit=0.5),
    "while a series is stored, p95 of QIDO": Goal(figure=3),
    "while a series is stored, p95 of a frame": Goal(figure=4),
    "idle memory": Goal(figure=40),
    "start to ready": Goal(figure=100),
}


def verdict(row) -> tuple[str, str]:
    """A row's goal in words, and whether Cuspid's medians reach it; dashes where there is nothing to compare."""
    goal = next((goal for name, goal in GOALS.items() if row.name.startswith(name)), None)
    if goal is None:
        return "–", "–"
    figure, cpu, peak = (row.median("cuspid", attribute) for attribute in ["figure", "cpu_per_gb", "peak_mb"])
    # Each: what it asks, what was measured (None if it was not), the bound, and whether more is better.
    demands = [
        (f"{goal.times_orthanc}x Orthanc", row.times("orthanc"), goal.times_orthanc, True),
        (f"{goal.of_limit} of the limit", row.times("limit"), goal.of_limit, True),
        (f"{goal.figure} {row.unit}", figure, goal.figure, False),
        (f"{goal.cpu_per_gb} s CPU a GB", cpu, goal.cpu_per_gb, False),
        (f"{goal.peak_mb} MB", peak, goal.peak_mb, False),
    ]
    demands = [demand for demand in demands if demand[2] is not None]
    words = ", ".join(demand[0] for demand in demands)
    if any(measured is None for _, measured, _, _ in demands):
        return words, "–"
    missed = [text for text, value, bound, more in demands if (value < bound if more else value > bound)]
    return words, "**no**: " + ", ".join(missed) if missed else "yes"

