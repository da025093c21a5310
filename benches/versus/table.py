"""The table of results: measurements of each row in rounds, and their medians and ratios in Markdown."""

import statistics
import sys
from dataclasses import dataclass, field

from goals import verdict

RIVAL, OLD_RIVAL = "orthanc", "orthanc-1.10"


@dataclass
class Measure:
    """One measurement: the figure that the row compares, and what it cost the server."""

    figure: float
    cpu_seconds: float | None = None
    cpu_per_gb: float | None = None
    peak_mb: float | None = None
    # An instance: flushes of the disk, changes of threads. A byte that was sent: bytes that the disk wrote.
    flushes: float | None = None
    switches: float | None = None
    written: float | None = None


@dataclass
class Row:
    """What a row of the table holds; `unit` tells whether more is better (MB/s, /s) or less (ms, MB, KB)."""

    name: str
    unit: str
    measures: dict = field(default_factory=dict)

    def add(self, system: str, measure: Measure) -> None:
        self.measures.setdefault(system, []).append(measure)

    def median(self, system: str, attribute: str = "figure") -> float | None:
        values = [getattr(measure, attribute) for measure in self.measures.get(system, [])]
        values = [value for value in values if value is not None]
        return statistics.median(values) if values else None

    def times(self, other: str) -> float | None:
        """How many times better Cuspid is than another system: the median over the rounds, each of which measures both."""
        more_is_better = self.unit.endswith("/s")
        pairs = zip(self.measures.get("cuspid", []), self.measures.get(other, []))
        pairs = [(ours.figure, theirs.figure) for ours, theirs in pairs]
        ratios = [ours / theirs if more_is_better else theirs / ours for ours, theirs in pairs if ours and theirs]
        return statistics.median(ratios) if ratios else None


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
            "| work | unit | Orthanc 1.10.1 | Orthanc 1.12.7 | limit | Cuspid | times 1.10.1 | times 1.12.7 | of the limit "
            "| server CPU s (1.12.7, limit, Cuspid) | CPU s a GB | peak MB (1.12.7, Cuspid) "
            "| flushes, switches an instance, bytes written a byte (1.12.7; limit; Cuspid) | goal | reached |",
            "|" + "---|" * 15,
        ]
        for row in self.rows.values():
            figures = [show(row.median(system)) for system in [OLD_RIVAL, RIVAL, "limit", "cuspid"]]
            ratios = [show(row.times(system)) for system in [OLD_RIVAL, RIVAL, "limit"]]
            costs = [
                ", ".join(show(row.median(system, attribute)) for system in [RIVAL, "limit", "cuspid"])
                for attribute in ["cpu_seconds", "cpu_per_gb"]
            ]
            peak = ", ".join(show(row.median(system, "peak_mb")) for system in [RIVAL, "cuspid"])
            disk = "; ".join(
                ", ".join(show(row.median(system, attribute)) for attribute in ["flushes", "switches", "written"])
                for system in [RIVAL, "limit", "cuspid"]
            )
            cells = [row.name, row.unit, *figures, *ratios, *costs, peak, disk, *verdict(row)]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)


def show(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
