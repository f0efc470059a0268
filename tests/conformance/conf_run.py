"""Instructions and random blocks, on our PE and on qemu-aarch64, at any scale.

    conf_run.py insn  [--seed N] [--each N] [--tests N] [--rows REGEX]
    conf_run.py block [--seed N] [--count N] [--inputs N]
    conf_run.py jit   [--seed N] [--count N]
    conf_run.py decode | fp | all  [--size small|full|quick]

Responsible for: building the two executors, cutting the work into jobs, comparing hashes,
looking into what differs, the table by class.  Not for the inputs: gen.c and block.c; not
for SoftFloat (conf_fp.py), the translator against the interpreter (conf_jit.py) and the
decoder (../insn/pin.py), which `all` only calls.

--engine NAME and CONF_ENGINE choose the executor of our PE, CONF_BUILD where objects are
kept.
"""

from __future__ import annotations

import argparse
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "insn"))

import conf_build as build  # noqa: E402
import conf_fp  # noqa: E402
import conf_jit  # noqa: E402
import conf_rows as row_table  # noqa: E402
import pin  # noqa: E402
from harness import disassemble  # noqa: E402
from known import Difference, expected  # noqa: E402

QEMU = ["qemu-aarch64", "-cpu", "max,pauth=off"]
STATE = struct.Struct("<31QQ64Q4I3Q")
STATUS = ("end", "taken", "UNDEFINED", "fault", "trap", "other")
JOBS = 2
NAMES = [f"x{i}" for i in range(31)] + ["sp"] + [f"v{i}" for i in range(32)]
NAMES += ["nzcv", "fpcr", "fpsr", "status", "mem", "pc", "far"]

# Tests of `make test`, of `make conformance`, and of one mutant.
SIZES = {
    "small": {"each": 48, "tests": 310, "count": 30_000, "inputs": 4},
    "full": {"each": 640, "tests": 1200, "count": 2_000_000, "inputs": 4},
    "quick": {"each": 16, "tests": 40, "count": 2_000, "inputs": 2},
}


def unpack(data: bytes) -> dict[str, int]:
    v = STATE.unpack(data)
    vectors = [v[32 + 2 * i] | v[33 + 2 * i] << 64 for i in range(32)]
    return dict(zip(NAMES, [*v[:32], *vectors, *v[96:]], strict=True))


@dataclass
class Executors:
    """The two programs; `engine` is of our PE, `guest` for QEMU unless it is VIXL."""

    host: Path
    guest: Path
    engine: str = "interp"
    vixl: bool = False

    def command(self, ours: bool) -> list[str]:
        if ours:
            return [str(self.host), "--engine", self.engine]
        return [str(self.guest)] if self.vixl else [*QEMU, str(self.guest)]

    def run(self, ours: bool, work: Path, *args: object) -> bytes:
        """One call of an executor: what it wrote."""
        with tempfile.NamedTemporaryFile(dir=work) as f:
            argv = [*self.command(ours), *map(str, args), f.name]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                tail = (done.stdout + done.stderr)[-2000:]
                raise RuntimeError(f"{argv}: exit {done.returncode}: {tail}")
            return Path(f.name).read_bytes()

    def hashes(
        self, work: Path, mode: str, head: list[int], first: int, count: int
    ) -> Iterator[tuple[int, int, int]]:
        """(number, ours, theirs) of a range, in jobs of both executors side by side."""
        step = max(1024, min(16384, -(-count // (2 * JOBS))))
        starts = range(first, first + count, step)

        def job(start: int) -> tuple[bytes, bytes]:
            args = [mode, *head, start, min(step, first + count - start)]
            return self.run(True, work, *args), self.run(False, work, *args)

        with ThreadPoolExecutor(JOBS) as pool:
            for start, (a, b) in zip(starts, pool.map(job, starts), strict=True):
                if len(a) != len(b):
                    raise RuntimeError(f"{mode} {start}: {len(a)} and {len(b)} bytes")
                n = len(a) // 8
                pairs = zip(struct.unpack(f"<{n}Q", a), struct.unpack(f"<{n}Q", b), strict=True)
                for i, (x, y) in enumerate(pairs, start):
                    yield i, x, y


@dataclass
class Tally:
    """What a campaign found, by class of instruction."""

    tests: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    allowed: Counter[str] = field(default_factory=Counter)
    reports: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def table(self) -> str:
        lines = [f"{'class':18} {'tests':>14} {'differ':>8} {'allowed':>8}"]
        order = [*row_table.CLASSES, "blocks"]
        for name in (n for n in order if self.tests[n]):
            what = f"{self.tests[name]:14,} {self.wrong[name]:8} {self.allowed[name]:8}"
            lines.append(f"{name:18} {what}")
        total = sum(self.tests.values())
        lines.append(
            f"{'total':18} {total:14,} {sum(self.wrong.values()):8} "
            f"{sum(self.allowed.values()):8}   {self.seconds:.0f} s"
        )
        return "\n".join(lines)


# -- single instructions -----------------------------------------------------------


def split_tests(data: bytes) -> list[tuple[tuple[int, ...], bytes, bytes]]:
    """The detailed output of a group: words, state before, state after."""
    size = 16 + 2 * STATE.size
    out = []
    for i in range(0, len(data), size):
        words = struct.unpack_from("<4I", data, i)
        mid = i + 16 + STATE.size
        out.append((words, data[i + 16 : mid], data[mid : i + size]))
    return out


def describe(d: Difference) -> str:
    """Row, instruction, and every register that differs: before, ours, theirs."""
    lines = [f"{d.row}: {disassemble(d.words)}"]
    for name in sorted(d.names):
        a, b = d.ours[name], d.theirs[name]
        if name == "status":
            lines.append(f"  status ours {STATUS[a]} theirs {STATUS[b]}")
        else:
            lines.append(f"  {name:5} {d.before[name]:#x} -> ours {a:#x} theirs {b:#x}")
    word = d.words[0]
    sources = [f"{k}{word >> lo & 31}" for lo in (5, 16, 10, 0) for k in "xv"]
    known = " ".join(f"{s}={d.before[s]:#x}" for s in dict.fromkeys(sources) if s in d.before)
    lines.append(f"  before: {known} nzcv={d.before['nzcv']:#x} fpcr={d.before['fpcr']:#x}")
    return "\n".join(lines)


def inspect_group(
    ex: Executors, work: Path, head: list[int], row: str, n: int
) -> tuple[int, int, list[Difference]]:
    """Run a group again in detail: allowed and real differences, the latter in full."""
    ours = split_tests(ex.run(True, work, "insn-detail", *head, n))
    theirs = split_tests(ex.run(False, work, "insn-detail", *head, n))
    allowed = 0
    found = []
    for (words, before, a), (_, other, b) in zip(ours, theirs, strict=True):
        if before != other:
            break  # an earlier difference went on into this input
        if a == b:
            continue
        d = Difference(row, words, unpack(before), unpack(a), unpack(b))
        if expected(d):
            allowed += 1
        else:
            found.append(d)
    return allowed, len(found), found


def run_insn(
    ex: Executors, work: Path, seed: int, each: int, tests: int, pattern: str = ""
) -> Tally:
    """All rows, or those that match."""
    tally = Tally()
    began = time.monotonic()
    rows = row_table.load()
    head = [seed, each, tests]
    ranges = [(0, len(rows) * each)]
    if pattern:
        picked = [i for i, r in enumerate(rows) if re.search(pattern, r.name)]
        ranges = [(i * each, each) for i in picked]
    classes = [row_table.CLASSES[row_table.class_number(r)] for r in rows]
    shown: Counter[str] = Counter()
    for first, count in ranges:
        for n, a, b in ex.hashes(work, "insn", head, first, count):
            row = rows[n // each]
            name = classes[n // each]
            tally.tests[name] += (a & 0xFFFF) if a else 0
            if a == b:
                continue
            allowed, wrong, found = inspect_group(ex, work, head, row.name, n)
            tally.allowed[name] += allowed
            tally.wrong[name] += wrong
            if not allowed and not wrong:
                tally.wrong[name] += 1
                found = []
                tally.reports.append(f"{row.name}: group {n} differs only in its hash")
            shown[row.name] += 1
            if found and shown[row.name] <= 2 and len(tally.reports) < 40:
                tally.reports.append(f"group {n} seed {seed}: " + describe(found[0]))
    tally.seconds = time.monotonic() - began
    return tally


# -- blocks --------------------------------------------------------------------------


def describe_block(ex: Executors, work: Path, seed: int, inputs: int, n: int) -> str:
    """The code of a block and the registers that the first bad input leaves different."""
    ours = ex.run(True, work, "block-detail", seed, inputs, n, n)
    theirs = ex.run(False, work, "block-detail", seed, inputs, n, n)
    return describe_outputs(ours, theirs, seed, inputs, n)


def describe_outputs(ours: bytes, theirs: bytes, seed: int, inputs: int, n: int) -> str:
    """The same of two outputs of block-detail."""
    (count,) = struct.unpack_from("<I", ours)
    words = struct.unpack_from(f"<{count}I", ours, 4)
    lines = [f"block {n} seed {seed}: {count} words"]
    at = 4 + 4 * count
    for i in range(inputs):
        before = ours[at : at + STATE.size]
        a, b = (d[at + STATE.size : at + 2 * STATE.size] for d in (ours, theirs))
        at += 2 * STATE.size
        if a != b or before != theirs[at - 2 * STATE.size : at - STATE.size]:
            x, y = unpack(a), unpack(b)
            lines.append(f"  input {i}")
            lines += [f"  {k:5} ours {x[k]:#x} theirs {y[k]:#x}" for k in NAMES if x[k] != y[k]]
            break
    lines += [f"    {text}" for text in disassemble(words).split("; ")]
    return "\n".join(lines)


def run_block(ex: Executors, work: Path, seed: int, count: int, inputs: int) -> Tally:
    """Random blocks of 2 to 64 instructions."""
    tally = Tally()
    began = time.monotonic()
    for n, a, b in ex.hashes(work, "block", [seed, inputs], 0, count):
        tally.tests["blocks"] += inputs
        if a != b:
            tally.wrong["blocks"] += 1
            if len(tally.reports) < 8:
                tally.reports.append(describe_block(ex, work, seed, inputs, n))
    tally.seconds = time.monotonic() - began
    return tally


# -- command line --------------------------------------------------------------------


def executors(engine: str | None = None, mutants: bool = False, against: str = "qemu") -> Executors:
    """Our PE and another model. VIXL has no FPSR and one rounding mode: CONF_PLAIN."""
    out = build.build_dir()
    if against == "vixl":
        os.environ["CONF_PLAIN"] = "1"
        return Executors(build.build_host(out), build.build_vixl(out), vixl=True)
    engine = engine or os.environ.get("CONF_ENGINE", "interp")
    return Executors(build.build_host(out, mutants), build.build_guest(out), engine)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("decode", "insn", "block", "fp", "jit", "all"))
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=1)
    for name in ("each", "tests", "count", "inputs"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--rows", default="")
    parser.add_argument("--engine")
    parser.add_argument("--against", choices=("qemu", "vixl"), default="qemu")
    args = parser.parse_args(argv)
    size = {k: getattr(args, k) or v for k, v in SIZES[args.size].items()}
    bad = 0
    if args.what in ("decode", "all"):
        bad += pin.main([])
    if args.what in ("fp", "all"):
        count = {"small": conf_fp.SMALL, "full": conf_fp.FULL, "quick": conf_fp.QUICK}[args.size]
        bad += conf_fp.main(["--seed", str(args.seed), "--count", str(count)])
    if args.what in ("jit", "all"):
        bad += conf_jit.run(args.size, args.seed, args.count)
    if args.what in ("decode", "fp", "jit"):
        return bad != 0
    ex = executors(args.engine, against=args.against)
    with tempfile.TemporaryDirectory() as tmp:
        work = Path(tmp)
        if args.what in ("insn", "all"):
            print(f"instructions: engine {ex.engine}, seed {args.seed}")
            tally = run_insn(ex, work, args.seed, size["each"], size["tests"], args.rows)
            print("\n".join(tally.reports), tally.table(), sep="\n", flush=True)
            bad += sum(tally.wrong.values())
        if args.what in ("block", "all"):
            print(f"blocks: engine {ex.engine}, seed {args.seed}, {size['inputs']} inputs each")
            tally = run_block(ex, work, args.seed, size["count"], size["inputs"])
            print("\n".join(tally.reports), tally.table(), sep="\n", flush=True)
            bad += sum(tally.wrong.values())
    return bad != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
