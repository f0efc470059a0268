"""The ratios of a run (bench.py --json) as a bar chart in SVG.

    bench/plot.py RUN.json CHART.svg

One bar a row, on a logarithmic scale, grouped by class, the worst of a class first; the line
at 1 is QEMU. Not for the numbers themselves: those are in the table that bench.py prints.
"""

from __future__ import annotations

import json
import math
import sys
from html import escape
from pathlib import Path
from typing import Any

BAR, GAP, HEAD = 11, 3, 22
LEFT, WIDTH = 110, 560
TICKS = (0.5, 1, 2, 4, 8, 16, 32)


def chart(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """SVG text of the rows that have a ratio."""
    rows = [r for r in rows if r.get("ratio")]
    if not rows:
        raise SystemExit("no row of this run has a ratio; run bench.py with QEMU installed")
    low = min(TICKS[0], *(r["ratio"] for r in rows))
    high = max(TICKS[-1], *(r["ratio"] for r in rows))

    def x(ratio: float) -> float:
        return LEFT + WIDTH * math.log(ratio / low) / math.log(high / low)

    out: list[str] = []
    y = 40
    for cls in dict.fromkeys(r["class"] for r in rows):
        group = sorted((r for r in rows if r["class"] == cls), key=lambda r: r["ratio"])
        mean = math.exp(sum(math.log(r["ratio"]) for r in group) / len(group))
        y += HEAD
        out.append(f'<text x="8" y="{y - 6}" class="c">{escape(cls)}: {mean:.2f}</text>')
        for r in group:
            start, end = sorted((x(1), x(r["ratio"])))
            kind = "w" if r["ratio"] < 1 else "b"
            out.append(
                f'<text x="{LEFT - 6}" y="{y + 9}" class="n">{escape(r["name"])}</text>'
                f'<rect x="{start:.1f}" y="{y}" width="{end - start:.1f}" height="{BAR}"'
                f' class="{kind}"/>'
                f'<text x="{x(max(1, r["ratio"])) + 4:.1f}" y="{y + 9}">{r["ratio"]:.2f}</text>'
            )
            y += BAR + GAP
    grid = []
    for t in TICKS:
        at, kind = f"{x(t):.1f}", "one" if t == 1 else "g"
        grid.append(f'<line x1="{at}" x2="{at}" y1="40" y2="{y}" class="{kind}"/>')
        grid.append(f'<text x="{at}" y="36" class="t">{t:g}</text>')
    title = f"times as fast as QEMU; commit {facts.get('commit', '?')}, {facts.get('date', '?')}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" height="{y + 12}"'
        ' font-family="sans-serif" font-size="10">'
        "<style>.n{text-anchor:end}.t{text-anchor:middle;fill:#666}.c{font-weight:bold}"
        ".b{fill:#4878a8}.w{fill:#c0504d}.g{stroke:#ddd}.one{stroke:#333}</style>"
        '<rect width="100%" height="100%" fill="white"/>'
        f'<text x="8" y="16" font-size="12">{escape(title)}</text>{"".join(grid)}{"".join(out)}'
        "</svg>\n"
    )


def main(argv: list[str]) -> int:
    """Read the run, write the chart."""
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    run = json.loads(Path(argv[0]).read_text())
    Path(argv[1]).write_text(chart(run["rows"], run.get("machine", {})))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
