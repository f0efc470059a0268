"""Every row of the decode tables against qemu-aarch64, with random and edge operands.

INSN_SEED and INSN_EACH (instances of each row) change the run; INSN_ROWS is a regular
expression that picks rows.
"""

from __future__ import annotations

import collections
import os
import re
from pathlib import Path

import generate
import harness
import pytest
from known import expected

SEED = int(os.environ.get("INSN_SEED", "1"))
EACH = int(os.environ.get("INSN_EACH", "24"))
ROWS = os.environ.get("INSN_ROWS", "")


def report(cases: list[harness.Case], bad: list[harness.Mismatch], table: str) -> str:
    """A line for each kind of row that has mismatches, then the first few in full."""
    total = collections.Counter(c.row for c in cases)
    wrong = collections.Counter(m.case.row for m in bad)
    lines = [f"{table}: {len(bad)} of {len(cases)} cases differ, {len(wrong)} of {len(total)} rows"]
    lines += [f"  {row:20} {n}/{total[row]}" for row, n in wrong.most_common(40)]
    seen: collections.Counter[str] = collections.Counter()
    for m in bad:
        seen[m.case.row] += 1
        if seen[m.case.row] == 1 and len(seen) <= 12:
            lines.append(harness.describe(m))
    return "\n".join(lines)


@pytest.mark.parametrize("table", [t.name for t in harness.tables()])
def test_rows_agree_with_qemu(table: str, programs: tuple[Path, Path], tmp_path: Path) -> None:
    """Each row gives the registers, flags, memory and faults that qemu-aarch64 gives."""
    rows = [r for r in generate.load_rows() if r.table == table and re.search(ROWS, r.name)]
    cases = generate.Generator(SEED).batch(rows, EACH)
    host, guest = programs
    bad = [m for m in harness.compare(host, guest, cases, tmp_path) if not expected(m)]
    print(f"{table}: {len(rows)} rows, {len(cases)} cases, {len(bad)} differ")
    assert not bad, report(cases, bad, table)


@pytest.mark.parametrize("table", [t.name for t in harness.tables()])
def test_generator_reaches_every_row(table: str) -> None:
    """A row without a single case is in SKIP, so nothing goes untested unnoticed."""
    rows = [r for r in generate.load_rows() if r.table == table]
    cases = generate.Generator(SEED).batch(rows, 1)
    missing = {r.name for r in rows} - {c.row for c in cases} - set(generate.SKIP)
    assert not missing
