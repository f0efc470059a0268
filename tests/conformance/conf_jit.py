"""The translator against the interpreter: random blocks in our PE alone, by the million.

Responsible for: the settings under which the translator runs, the numbers of blocks, the
comparison of hashes, and a look into what differs.  The inputs are those of block.c.  That
the interpreter is right is shown elsewhere, against qemu-aarch64 (conf_run.py).
"""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import conf_build as build
import conf_run

# Programs and engines to compare.
Sides = tuple[tuple[Path, str], tuple[Path, str]]
INPUTS = 4
STEP = 16384
# How conf_host runs, and whether it is the one with the tiny TLB.
SETTINGS = {
    "as it is": ("jit", False),
    "blocks of one instruction, each left": ("jit-single", False),
    "no block leads to another, nothing stays in the TLB": ("jit-forced", False),
    "an interrupt between any two instructions": ("jit-irq", False),
    "code watched for changes": ("jit-strict", False),
    "64 KiB of code memory": ("jit-small", False),
    "a TLB of two entries, of one for instructions": ("jit", True),
}
# Blocks as it is, and of each other setting.
SIZES = {"full": (5_000_000, 500_000), "small": (30_000, 10_000), "quick": (2_000, 1_000)}


def output(program: Path, engine: str, work: Path, *args: object, exclusives: bool = True) -> bytes:
    """What one call of conf_host wrote."""
    env = dict(os.environ)
    # The return from an interrupt clears the exclusive monitor.
    env |= {} if exclusives else {"CONF_NO_EXCLUSIVES": "1"}
    with tempfile.NamedTemporaryFile(dir=work) as f:
        argv = [str(program), "--engine", engine, *map(str, args), f.name]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{argv}: exit {done.returncode}: {done.stderr[-2000:]}")
        return Path(f.name).read_bytes()


def outputs(sides: Sides, work: Path, *args: object) -> list[bytes]:
    """The same of both sides."""
    exclusives = sides[1][1] != "jit-irq"
    return [output(*side, work, *args, exclusives=exclusives) for side in sides]


def differing(sides: Sides, work: Path, seed: int, count: int) -> tuple[list[int], int]:
    """The blocks whose hashes differ, and how many hashes there were."""

    def job(start: int) -> tuple[list[int], int]:
        args = ("block", seed, INPUTS, start, min(STEP, count - start))
        a, b = outputs(sides, work, *args)
        if len(a) != len(b) or len(a) != 8 * args[-1]:
            raise RuntimeError(f"block {start}: {len(a)} and {len(b)} bytes")
        pairs = zip(struct.iter_unpack("<Q", a), struct.iter_unpack("<Q", b), strict=True)
        return [start + i for i, (x, y) in enumerate(pairs) if x != y], len(a) // 8

    with ThreadPoolExecutor(conf_run.JOBS) as pool:
        found = list(pool.map(job, range(0, count, STEP)))
    return [n for part, _ in found for n in part], sum(n for _, n in found)


def run(size: str, seed: int, count: int | None = None) -> int:
    """All settings; how many blocks differ. Prints a line for each setting."""
    out = build.build_dir()
    usual, small = build.build_host(out), build.build_host(out, tiny_tlb=True)
    bad = 0
    print(f"translator against interpreter: seed {seed}, {INPUTS} inputs each")
    print(f"{'blocks':>12} {'differ':>8}  setting", flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        work = Path(tmp)
        for at, (name, (engine, tiny_tlb)) in enumerate(SETTINGS.items()):
            began = time.monotonic()
            sides = ((usual, "interp"), (small if tiny_tlb else usual, engine))
            wanted = count or SIZES[size][min(at, 1)]
            wrong, total = differing(sides, work, seed + at, wanted)
            reports = []
            for n in wrong[:4]:
                first = n - n % STEP  # as it was met: much of it depends on what came before
                args = ("block-detail", seed + at, INPUTS, n, first)
                a, b = outputs(sides, work, *args)
                reports.append(conf_run.describe_outputs(a, b, seed + at, INPUTS, n))
            bad += len(wrong)
            took = time.monotonic() - began
            print(f"{total:12,} {len(wrong):8}  {name} ({engine}), {took:.0f} s")
            print("\n".join(reports), end="", flush=True)
    return bad
