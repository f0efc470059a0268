"""The PE's arithmetic against Berkeley SoftFloat: every operation, size, rounding and flush.

    conf_fp.py [--count N] [--seed N]

Responsible for: building fp_check.c over the fp*.c of the PE, loading it beside SoftFloat
(from the softfloatpy wheel), running all combinations.  Not for operands and the model of
what the architecture adds: fp_check.c.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import conf_build as build

H, S, D = 1, 2, 3
SIZE = {H: "half", S: "single", D: "double"}
OPS = [
    *("add", "sub", "mul", "div", "sqrt", "muladd", "convert", "to_signed", "to_unsigned"),
    *("from_signed", "from_unsigned", "round_int", "compare", "max", "min", "maxnm", "minnm"),
    "recps",
]
FZ16, FZ, DN, AHP = 1 << 19, 1 << 24, 1 << 25, 1 << 26
FPCR = {"": 0, "FZ": FZ | FZ16, "DN": DN, "FZ DN": FZ | FZ16 | DN, "AHP": AHP}
SMALL, FULL, QUICK = 12_000_000, 500_000_000, 400_000


class Bad(ctypes.Structure):
    """struct fp_bad of fp_check.c."""

    _fields_ = [
        *((n, ctypes.c_uint64) for n in ("a", "b", "c", "ours", "theirs")),
        *((n, ctypes.c_uint32) for n in ("our_flags", "their_flags", "before", "soft")),
    ]


@dataclass(frozen=True)
class Combination:
    """One operation in one mode."""

    op: str
    size: int
    extra: int
    mode: int
    control: str

    def __str__(self) -> str:
        return f"{self.op} {SIZE[self.size]} {self.extra} mode {self.mode} {self.control}".strip()


def combinations() -> Iterator[Combination]:
    """All of them."""
    for op, size, control in itertools.product(OPS, SIZE, FPCR):
        if control == "AHP" and op not in ("convert", "add", "muladd"):
            continue
        extras = [0]
        modes: range = range(4)
        if op == "convert":
            extras = [s for s in SIZE if s != size]
        elif op.startswith("to_"):
            extras, modes = [32, 64], range(5)
        elif op == "round_int":
            extras, modes = [0, 1], range(5)
        elif op == "compare":
            extras, modes = [0, 1], range(1)
        elif op in ("max", "min", "maxnm", "minnm"):
            modes = range(1)
        for extra, mode in itertools.product(extras, modes):
            yield Combination(op, size, extra, mode, control)


def load(path: Path | None = None) -> ctypes.CDLL:
    """fp_check.c with the PE's arithmetic; SoftFloat's names come from its wheel."""
    import softfloatpy

    ctypes.CDLL(str(softfloatpy._core.__file__), mode=os.RTLD_GLOBAL | os.RTLD_LAZY)
    lib = ctypes.CDLL(str(path or build.build_fp(build.build_dir())))
    lib.fp_check.restype = ctypes.c_uint64
    lib.fp_check.argtypes = [
        *(4 * [ctypes.c_uint]),
        ctypes.c_uint32,
        *(2 * [ctypes.c_uint64]),
        ctypes.POINTER(Bad),
    ]
    return lib


def run(lib: ctypes.CDLL, seed: int, count: int) -> tuple[Counter[str], Counter[str], list[str]]:
    """Tests and mismatches by size, and a line for each combination that has some."""
    todo = list(combinations())
    each = -(-count // len(todo))
    tests: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    lines = []
    for n, c in enumerate(todo):
        bad = Bad()
        fpcr = FPCR[c.control]
        args = [OPS.index(c.op), c.size, c.extra, c.mode, fpcr, seed * 4096 + n, each]
        differ = lib.fp_check(*args, ctypes.byref(bad))
        tests[SIZE[c.size]] += each
        wrong[SIZE[c.size]] += differ
        if differ:
            lines.append(
                f"{c}: {differ} of {each}: {bad.a:#x} {bad.b:#x} {bad.c:#x} fpsr {bad.before:#x} "
                f"gives {bad.ours:#x} {bad.our_flags:#x}, SoftFloat {bad.theirs:#x} "
                f"{bad.their_flags:#x}{' (soft)' if bad.soft else ''}"
            )
    return tests, wrong, lines


def table(tests: Counter[str], wrong: Counter[str], seconds: float) -> str:
    lines = [f"{'SoftFloat':18} {'tests':>14} {'differ':>8}"]
    lines += [f"{name:18} {n:14,} {wrong[name]:8}" for name, n in tests.items()]
    total = f"{sum(tests.values()):14,} {sum(wrong.values()):8}"
    return "\n".join([*lines, f"{'total':18} {total}   {seconds:.0f} s"])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=SMALL)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lib", type=Path, help="another fp_check.so")
    args = parser.parse_args(argv)
    began = time.monotonic()
    tests, wrong, lines = run(load(args.lib), args.seed, args.count)
    print(f"floating point: seed {args.seed}", *lines, sep="\n")
    print(table(tests, wrong, time.monotonic() - began))
    return sum(wrong.values()) != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
