"""Numbers of a run: medians, spread, ratios, the table and the JSON file.

Absolute numbers of one machine say little; the conclusion is a ratio of medians that
were taken in turns. Ratios are given as "bhyvepy is so many times as fast": over 1 is
good, whether the number is a time or a rate.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Row:
    """One thing measured on one or both sides."""

    name: str
    unit: str
    higher_is_better: bool = False
    cls: str = ""
    ours: list[float] = field(default_factory=list)
    qemu: list[float] = field(default_factory=list)
    goal: str = ""

    def best(self, values: list[float]) -> float:
        """The least disturbed value: the minimum of times, the maximum of rates."""
        return max(values) if self.higher_is_better else min(values)

    @property
    def ratio(self) -> float | None:
        """How many times as fast as QEMU, by the medians."""
        if not self.ours or not self.qemu:
            return None
        a, b = statistics.median(self.ours), statistics.median(self.qemu)
        if a <= 0 or b <= 0:
            return None
        return a / b if self.higher_is_better else b / a

    def spread(self) -> float:
        """The larger half range of the two sides, relative to its median."""
        out = 0.0
        for values in (self.ours, self.qemu):
            middle = statistics.median(values) if values else 0.0
            if middle:
                out = max(out, (max(values) - min(values)) / 2 / middle)
        return out


def geomean(values: Iterable[float]) -> float:
    """Geometric mean."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def number(value: float) -> str:
    """Four significant digits at most."""
    if value >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _cell(row: Row, values: list[float]) -> str:
    if not values:
        return "-"
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(row.best(values))})"


def table(rows: Iterable[Row]) -> list[str]:
    """The rows as a Markdown table; median (best)."""
    lines = [
        "| what | unit | bhyvepy | qemu | times as fast | spread | aim |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(
            f"| {row.name} | {row.unit} | {_cell(row, row.ours)} | {_cell(row, row.qemu)}"
            f" | {ratio} | {row.spread():.0%} | {row.goal} |"
        )
    return lines


def classes(rows: Iterable[Row]) -> dict[str, float]:
    """Geometric mean of the ratios, for each class of programs."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.cls and row.ratio is not None:
            found.setdefault(row.cls, []).append(row.ratio)
    return {cls: geomean(ratios) for cls, ratios in found.items()}


def machine() -> dict[str, str]:
    """Facts of the machine that decide about speed; no names."""
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = Path("/proc/meminfo").read_text().split()[1]
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "date": date.today().isoformat(),
        "commit": commit or "unknown",
        "cpu": f"{cpu}, {len(os.sched_getaffinity(0))} CPUs",
        "memory": f"{int(memory) >> 20} GiB",
        "linux": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load": " ".join(f"{x:.1f}" for x in os.getloadavg()),
    }


def write_json(path: str, facts: dict[str, str], rows: Iterable[Row]) -> None:
    """All samples, for later comparison."""
    data = {
        "machine": facts,
        "rows": [
            {
                "name": r.name,
                "class": r.cls,
                "unit": r.unit,
                "higher_is_better": r.higher_is_better,
                "bhyvepy": r.ours,
                "qemu": r.qemu,
                "ratio": r.ratio,
            }
            for r in rows
        ],
    }
    Path(path).write_text(json.dumps(data, indent=1) + "\n")
