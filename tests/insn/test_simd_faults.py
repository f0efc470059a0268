"""SIMD&FP loads and stores that fault: nothing the guest can see may have changed.

qemu-aarch64 stores a pair piece by piece, so this is not a comparison with it.
"""

from __future__ import annotations

import re
from pathlib import Path

import generate
import harness
import pytest
from gen_decode import Row

PAGES_END = 0x20082000  # the first byte after the two data pages of a case
LETTER = {"b": 0, "h": 1, "s": 2, "d": 3, "q": 4}
MEMORY = re.compile(r"(ld|st)(u?r|n?p|\d|n)_")


def access_length(row: Row, word: int) -> int:
    """Bytes that an instruction of this row transfers."""
    q, size = word >> 30 & 1, word >> 10 & 3
    regs = (word >> 13 & 1) * 2 + (word >> 21 & 1) + 1
    if m := re.match(r"(?:ld|st)(\d)_m", row.name):
        return int(m[1]) * 8 << q
    if m := re.match(r"(?:ld|st)1_x(\d)", row.name):
        return int(m[1]) * 8 << q
    if row.name.startswith("ldn_r"):
        return regs << size
    if m := re.match(r"(?:ld|st)n_([bhsd])", row.name):
        return regs << LETTER[m[1]]
    m = re.match(r"(?:ld|st)(u?r|n?p)_([bhsdq])", row.name)
    assert m is not None, row.name
    return (2 if m[1].endswith("p") else 1) << LETTER[m[2]]


class FaultGenerator(generate.Generator):
    """Accesses that begin at `start`."""

    start = PAGES_END

    def target(self, align: int) -> int:
        return self.start // align * align


def faulting_cases(inside: int) -> list[harness.Case]:
    """Accesses of which `inside` bytes still fall on mapped memory, at least one does not."""
    g = FaultGenerator(7)
    g.start = PAGES_END - inside
    cases = []
    rows = [r for r in generate.load_rows() if r.table == "a64_simd.decode"]
    for row in rows:
        if not MEMORY.match(row.name) or ("_lit" in row.name and inside % 4 != 0):
            continue
        for _ in range(6):
            case = g.case(row, len(cases) % harness.CASE_MAX)
            if case is not None and access_length(row, case.words[0]) > inside:
                cases.append(case)
    return cases


@pytest.mark.parametrize("inside", [0, 1, 4, 16, 31])
def test_fault_changes_nothing(inside: int, programs: tuple[Path, Path], tmp_path: Path) -> None:
    """A fault on any byte leaves registers, base and all memory as they were."""
    cases = faulting_cases(inside)
    assert len(cases) > 60
    host = [str(programs[0])]
    nops = [harness.Case("nop", (harness.NOP,), c.state) for c in cases]
    unchanged = harness.execute(host, nops, tmp_path)
    for case, after, same in zip(
        cases, harness.execute(host, cases, tmp_path), unchanged, strict=True
    ):
        got, want = harness.unpack(after), harness.unpack(same)
        assert harness.STATUS[got.pop("status")] == "fault", harness.disassemble(case.words)
        want.pop("status")
        assert got == want, harness.disassemble(case.words)


def test_first_bytes_are_stored_only_with_the_last(
    programs: tuple[Path, Path], tmp_path: Path
) -> None:
    """The same stores one access lower do reach memory, so the test above can fail."""
    g = FaultGenerator(7)
    g.start = harness.CASE_SCRATCH + 512
    rows = [r for r in generate.load_rows() if re.match(r"st(r|p)_q_(imm|off)", r.name)]
    cases = [c for r in rows for _ in range(4) if (c := g.case(r, 0)) is not None]
    nops = [harness.Case("nop", (harness.NOP,), c.state) for c in cases]
    host = [str(programs[0])]
    before = harness.execute(host, nops, tmp_path)
    after = harness.execute(host, cases, tmp_path)
    for a, b in zip(after, before, strict=True):
        assert harness.unpack(a)["mem"] != harness.unpack(b)["mem"]
