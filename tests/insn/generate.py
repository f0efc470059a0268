"""Random instances of the rows of the decode tables, with the state to run them in.

Responsible for: picking encodings that a row accepts, operands at the edges, and base
registers so that loads and stores hit the scratch memory.  A row is never left out
silently: SKIP names what cannot run in user mode and why.
"""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from typing import Any

from harness import (
    CASE_CODE,
    CASE_MAX,
    CASE_SCRATCH,
    CASE_SCRATCH_LEN,
    CASE_STRIDE,
    CORE,
    Case,
    tables,
)

sys.path.insert(0, str(CORE / "tools"))
import gen_decode

STATE = struct.Struct("<31QQ64Q4I")
M64 = (1 << 64) - 1
BRANCH_OFFSET = 20  # from words[0] to the `b save_taken` of the case

SKIP = {
    "svc": "a Linux system call under qemu",
    "hvc": "not at EL0",
    "smc": "not at EL0",
    "eret": "not at EL0",
    "wfe": "waits",
    "wfi": "waits",
    "mrs": "system registers have their own tests",
    "msr": "system registers have their own tests",
    "msr_imm": "system registers have their own tests",
    "sys": "system instructions have their own tests",
    "sysl": "system instructions have their own tests",
    "wfet": "waits",
    "wfit": "waits",
}
# Keys are registers of EL1: tests/core/test_pauth.py compares under a system emulator.
PAUTH = ("pac", "pac_z", "xpac", "pacga", "pac_hint", "ldra", "ldra_pre")
PAUTH += ("braz", "blraz", "bra", "blra", "reta", "ereta")
SKIP |= dict.fromkeys(PAUTH, "pointer authentication has its own tests")

INTS = [0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF]
INTS += [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, 0x7FFFFFFFFFFFFFFF]
INTS += [0x8000000000000000, M64, M64 - 1, 0x5555555555555555, 0xFF00FF00FF00FF00]

# Exponent, fraction width by size in bits.
FORMATS = {16: (5, 10), 32: (8, 23), 64: (11, 52)}


def float_edges(bits: int) -> list[int]:
    """Zero, denormals, one, limits, infinity, NaNs, half-integers, of both signs."""
    exp, frac = FORMATS[bits]
    bias = (1 << (exp - 1)) - 1
    top = ((1 << exp) - 1) << frac
    values = [0, 1, 2, (1 << frac) - 1, 1 << frac, (1 << frac) + 1]  # tiny
    values += [top - 1, top - 2, top, top | 1, top | 1 << (frac - 1), top | (1 << frac) - 1]
    for e in (-frac - 2, -frac, -2, -1, 0, 1, 2, 7, 8, 15, 16, 31, 32, 52, 62, 63, 64):
        if 0 < e + bias < (1 << exp) - 1:
            base = (e + bias) << frac
            values += [base, base + 1, base - 1, base | 1 << (frac - 1), base | 3 << (frac - 2)]
    return values + [v | 1 << (bits - 1) for v in values]


EDGES = {bits: float_edges(bits) for bits in FORMATS}


def load_rows() -> list[gen_decode.Row]:
    return gen_decode.load(tables())


def sext(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


class Generator:
    """A stream of cases; the same seed gives the same stream."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    # -- encodings -----------------------------------------------------------

    def word(self, row: gen_decode.Row) -> int | None:
        """A word of this row: random free bits, registers often equal or 31."""
        rng = self.rng
        for _ in range(200):
            word = row.value | rng.getrandbits(32) & ~row.mask
            choice = rng.random()
            if choice < 0.10:
                word = self.put(row, word, rng.choice((0, 5, 16, 10)), 31)
            elif choice < 0.20:
                word = self.put(row, word, 5, word & 31)
            elif choice < 0.28:
                word = self.put(row, word, 16, word & 31)
            elif choice < 0.33:
                word = self.put(row, word, 16, word >> 5 & 31)
            elif choice < 0.36:
                word = self.put(row, word, 10, word & 31)
            if row.matches(word):
                return word
        return None

    def put(self, row: gen_decode.Row, word: int, lo: int, value: int) -> int:
        """Set a register field, unless the row fixes some of its bits."""
        field = 31 << lo
        if row.mask & field:
            return word
        return word & ~field | value << lo

    # -- operands ------------------------------------------------------------

    def integer(self) -> int:
        rng = self.rng
        choice = rng.random()
        if choice < 0.45:
            return rng.choice(INTS)
        if choice < 0.55:
            return (1 << rng.randrange(64)) - rng.randrange(2) & M64
        if choice < 0.65:
            return rng.getrandbits(32)
        if choice < 0.75:
            return sext(rng.getrandbits(8), 8) & M64
        return rng.getrandbits(64)

    def vector(self) -> int:
        """128 bits: lanes of one size, each an edge or random."""
        rng = self.rng
        choice = rng.random()
        if choice < 0.25:
            return rng.getrandbits(128)
        if choice < 0.40:
            return self.integer() | self.integer() << 64
        bits = rng.choice((16, 32, 32, 64, 64))
        value = 0
        exp, frac = FORMATS[bits]
        for lane in range(0, 128, bits):
            if rng.random() < 0.6:
                v = rng.choice(EDGES[bits])
            else:  # near one, so that sums and products stay in range
                near = (1 << (exp - 1)) - 1 + rng.randrange(-4, 5)
                v = rng.getrandbits(1) << (bits - 1) | near << frac | rng.getrandbits(frac)
            value |= v << lane
        return value

    def fpcr(self) -> int:
        """RMode, FZ, DN, FZ16."""
        rng = self.rng
        if rng.random() < 0.4:
            return 0
        return rng.getrandbits(5) << 22 & 0x07C00000 | rng.getrandbits(1) << 19

    # -- memory --------------------------------------------------------------

    def target(self, align: int) -> int:
        """An address in the scratch with room for 128 bytes; rarely across the page."""
        rng = self.rng
        offset = rng.randrange(64, CASE_SCRATCH_LEN - 192)
        if rng.random() < 0.15:
            offset = 0x400 - rng.randrange(1, 64)  # the scratch straddles two pages
        return CASE_SCRATCH + offset // align * align

    def place(self, word: int, x: list[int], vaddr: int) -> int | None:
        """Set the base register so that `word` accesses the scratch; the word, or None."""
        if word >> 24 & 0x3B == 0x18:  # literal
            addr = self.target(4)
            return word & ~(0x7FFFF << 5) | (addr - vaddr >> 2 & 0x7FFFF) << 5
        rn, rm = word >> 5 & 31, word >> 16 & 31
        group = word >> 27 & 7
        simd = word >> 26 & 1
        size = word >> 30
        log = size | (word >> 23 & 1) << 2 if simd else size
        align, offset = 1, 0
        if group == 5:  # pairs
            scale = 2 + size if simd else 2 + (size >> 1)
            offset = sext(word >> 15 & 0x7F, 7) << scale
            if word >> 23 & 3 == 1:
                offset = 0
        elif group == 7 and word >> 24 & 1:
            offset = (word >> 10 & 0xFFF) << log
        elif group == 7 and not word >> 21 & 1:
            offset = 0 if word >> 10 & 3 == 1 else sext(word >> 12 & 0x1FF, 9)
        elif group == 7 and word >> 10 & 3 == 2:
            if rm == rn:
                return None
            value = 0 if rm == 31 else x[rm]
            option = word >> 13 & 7
            if option == 2:
                value &= 0xFFFFFFFF
            elif option == 6:
                value = sext(value & 0xFFFFFFFF, 32)
            offset = value << (log if word >> 12 & 1 else 0)
        elif group == 7 or (group == 1 and not simd):  # atomics, exclusives
            align = 16
        elif group == 3:  # LDAPUR, STLUR
            offset = sext(word >> 12 & 0x1FF, 9)
            align = 1 << size
        for _ in range(64):
            base = self.target(align) - offset & M64
            if rn != 31:
                x[rn] = base
                return word
            if base % 16 == 0:
                x[31] = base
                return word
        return None

    # -- cases ---------------------------------------------------------------

    def case(self, row: gen_decode.Row, index: int) -> Case | None:
        """A case for position `index` of a batch, or None when luck ran out."""
        rng = self.rng
        for _ in range(50):
            word = self.word(row)
            if word is None:
                return None
            x = [*struct.unpack("<31Q", rng.randbytes(248)), CASE_SCRATCH + 0x200]
            v = list(struct.unpack("<64Q", rng.randbytes(512)))
            for lo in (0, 5, 10, 16):
                reg = word >> lo & 31
                if reg != 31 and rng.random() < 0.85:
                    x[reg] = self.integer()
                if rng.random() < 0.85:
                    value = self.vector()
                    v[2 * reg], v[2 * reg + 1] = value & M64, value >> 64
            if rng.random() < 0.15:  # equal operands: CMP, CAS, STXR that succeed
                x[word >> 16 & 31] = x[word & 31]
            vaddr = CASE_CODE + index * CASE_STRIDE + 4
            placed: int | None = word
            if word >> 25 & 5 == 4:
                placed = self.place(word, x, vaddr)
            if placed is None or not row.matches(placed):
                continue
            words = self.sequence(row, self.branch(row, placed, x, vaddr), x)
            nzcv = rng.getrandbits(4) << 28
            fpsr = rng.choice((0, 0, rng.getrandbits(32) & 0x0800009F))
            state = STATE.pack(*x, *v, nzcv, self.fpcr(), fpsr, rng.getrandbits(32))
            return Case(row.name, words, state)
        return None

    def branch(self, row: gen_decode.Row, word: int, x: list[int], vaddr: int) -> int:
        """Point a branch at the one target that a case has."""
        name = row.name
        if name in ("br", "blr", "ret"):
            rn = word >> 5 & 31
            if rn == 31:  # XZR: a branch to 0 ends the program
                rn = 30
            x[rn] = vaddr + BRANCH_OFFSET
            return word & ~(31 << 5) | rn << 5
        if name in ("b", "bl"):
            return word & 0xFC000000 | BRANCH_OFFSET >> 2
        if name == "b_cond" or name.startswith(("cbz", "cbnz")):
            return word & ~(0x7FFFF << 5) | BRANCH_OFFSET >> 2 << 5
        if name in ("tbz", "tbnz"):
            return word & ~(0x3FFF << 5) | BRANCH_OFFSET >> 2 << 5
        return word

    def sequence(self, row: gen_decode.Row, word: int, x: list[int]) -> tuple[int, ...]:
        """An exclusive store gets the load before it, a load the store after it."""
        if not row.name.startswith(("stxr", "stxp", "ldxr", "ldxp")):
            return (word,)
        rng = self.rng
        if row.name.startswith("st"):
            # Load into XZR, so that the operands stay; sometimes of another size.
            load = word & ~0x001FFC1F | 1 << 22 | 0x001F7C1F
            middle = rng.choice((None, None, None, 0xD503305F, 0xD5033BBF))  # CLREX, DMB
            return (load, middle, word) if middle else (load, word)
        if word >> 5 & 31 in (word & 31, word >> 10 & 31):
            return (word,)  # the base is gone
        status = rng.choice([r for r in range(31) if r != word >> 5 & 31])
        store = word & ~(1 << 22) & ~(31 << 16) | status << 16
        return (word, store)

    def batch(self, rows: list[gen_decode.Row], each: int) -> list[Case]:
        cases: list[Case] = []
        for row in rows:
            if row.name in SKIP:
                continue
            for _ in range(each):
                case = self.case(row, len(cases) % CASE_MAX)
                if case is not None:
                    cases.append(case)
        return cases


def rows_as_json() -> list[dict[str, Any]]:
    """The same rows through the command line of the generator."""
    argv = [sys.executable, str(CORE / "tools" / "gen_decode.py"), "--json"]
    text = subprocess.run([*argv, *map(str, tables())], capture_output=True, check=True).stdout
    rows: list[dict[str, Any]] = json.loads(text)
    return rows
