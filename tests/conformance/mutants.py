"""`make mutants`: are seeded bugs noticed by the conformance programs?

    mutants.py [--only N,...] [--size quick]

Responsible for: the copy of the PE with MUT() in it, running the programs for each mutant,
the score.  Not for the bugs: mutant_list.py.

What qemu-aarch64 answers does not depend on the mutant, so it is asked once.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import conf_build as build
import conf_rows as row_table
import conf_run
from known import ALLOWED
from mutant_list import MUTANTS, SURVIVORS, Mutant

GENERATED = "a64_decode.c"
SEED = 99
WANTED = 98


def find(text: str, wanted: str, start: int) -> re.Match[str] | None:
    """`wanted` in `text`, however it is laid out."""
    tokens = re.findall(r"\w+|[^\w\s]", wanted)
    return re.compile(r"\s*".join(map(re.escape, tokens))).search(text, start)


def replace(text: str, number: int, m: Mutant) -> str:
    """`text` with the bug `m` in it, for PE_MUTANT=number."""
    where = find(text, m.where, 0)
    right = find(text, m.right, where.end()) if where else None
    if where is None or right is None or right.start() - where.end() > 3000:
        raise RuntimeError(f"{m.file}: mutant {number} ({m.what}) has no place: {m.where!r}")
    # A closing parenthesis or an operator at the end belongs to what is around.
    good, bad, tail = right[0], m.wrong, ""
    if good.count(")") == good.count("(") + 1 and good.endswith(")"):
        good, bad, tail = good[:-1], bad[:-1], ")"
    if good.endswith("||"):
        good, bad, tail = good[:-2], bad[:-2], "||"
    return f"{text[: right.start()]}MUT({number}, {good}, {bad}){tail}{text[right.end() :]}"


def mutate(name: str, text: str) -> str:
    """All bugs of one file."""
    for number, m in enumerate(MUTANTS, 1):
        if m.file == name:
            text = replace(text, number, m)
    return text


def write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def write_sources(out: Path) -> Path:
    """A copy of the core below `out`, with every bug in it."""
    for source in build.CORE.rglob("*"):
        if source.is_file() and source.suffix in (".c", ".h", ".def", ".inc", ".decode"):
            name = source.relative_to(build.CORE)
            text = source.read_text()
            if name.parent.name == "pe":
                text = mutate(source.name, text)
            write_if_changed(out / name, text)
    return out


# -- one mutant -----------------------------------------------------------------------


@dataclass
class Verdict:
    """What noticed a mutant; empty: nothing."""

    number: int
    by: str
    seconds: float


class Judge:
    """The programs and QEMU's answers, for any number of mutants."""

    def __init__(self, work: Path, size: dict[str, int]) -> None:
        self.work = work
        out = build.build_dir()
        host = build.build_host(out, mutants=True)
        self.fp = build.build_fp(out, mutants=True)
        self.ex = conf_run.Executors(host, build.build_guest(out))
        self.rows = row_table.load()
        self.each = size["each"]
        self.limit = 20 if size["tests"] < 100 else 120
        groups = len(self.rows) * self.each
        self.insn = ["insn", SEED, self.each, size["tests"], 0, groups]
        self.block = ["block", SEED, size["inputs"], 0, size["count"]]
        with ThreadPoolExecutor(2) as pool:
            answers = pool.map(
                lambda args: self.ex.run(False, work, *args), (self.insn, self.block)
            )
        self.want = dict(zip(("insn", "block"), answers, strict=True))
        # Where the exception list allows a difference, the right PE stands for QEMU.
        right = self.host(0, self.insn)
        known = {name for entry in ALLOWED for name in entry.rows}
        for n in self.differing(right, self.want["insn"]):
            if n < 0 or self.rows[n // self.each].name not in known:
                raise RuntimeError("the PE without a mutant differs: run conf_run.py first")
        self.want["insn"] = right

    def host(self, number: int, args: list[object]) -> bytes:
        """Our PE's answers with a mutant; b"" when it crashed or hung."""
        with tempfile.NamedTemporaryFile(dir=self.work) as f:
            argv = [*self.ex.command(True), *map(str, args), f.name]
            env = {**os.environ, "PE_MUTANT": str(number)}
            try:
                done = subprocess.run(
                    argv, env=env, capture_output=True, timeout=self.limit, check=False
                )
            except subprocess.TimeoutExpired:
                return b""
            return Path(f.name).read_bytes() if done.returncode == 0 else b""

    @staticmethod
    def differing(a: bytes, b: bytes) -> set[int]:
        """Numbers of the groups or blocks whose hashes differ."""
        if len(a) != len(b):
            return {-1}
        return {i // 8 for i in range(0, len(a), 8) if a[i : i + 8] != b[i : i + 8]}

    def judge(self, number: int) -> Verdict:
        """The first program that notices the mutant."""
        began = time.monotonic()

        def verdict(by: str) -> Verdict:
            return Verdict(number, by, time.monotonic() - began)

        found = self.differing(self.host(number, self.insn), self.want["insn"])
        if found:
            names = {self.rows[n // self.each].name if n >= 0 else "crash" for n in found}
            return verdict(f"insn: {', '.join(sorted(names)[:3])} ({len(names)} rows)")
        if self.differing(self.host(number, self.block), self.want["block"]):
            return verdict("block")
        if MUTANTS[number - 1].file.startswith("fp"):
            script = Path(__file__).resolve().parent / "conf_fp.py"
            argv = [sys.executable, script, "--lib", self.fp, "--count", "400000"]
            env = {**os.environ, "PE_MUTANT": str(number)}
            if subprocess.run(argv, env=env, capture_output=True, check=False).returncode != 0:
                return verdict("SoftFloat")
        return verdict("")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="numbers, with commas between")
    parser.add_argument("--size", choices=conf_run.SIZES, default="quick")
    args = parser.parse_args(argv)
    if shutil.which("qemu-aarch64") is None:
        print("not installed: qemu-aarch64", file=sys.stderr)
        return 2
    numbers = range(1, len(MUTANTS) + 1)
    if args.only:
        numbers = [int(n) for n in args.only.split(",")]
    with tempfile.TemporaryDirectory() as tmp:
        judge = Judge(Path(tmp), conf_run.SIZES[args.size])
        with ThreadPoolExecutor(2) as pool:
            verdicts = list(pool.map(judge.judge, numbers))
        alive = [v.number for v in verdicts if not v.by]
        if alive:
            # As many tests as `make test` does.
            judge = Judge(Path(tmp), conf_run.SIZES["small"])
            second = {n: judge.judge(n) for n in alive}
            for v in verdicts:
                if v.number in second and second[v.number].by:
                    v.by = second[v.number].by + ", at the size of make test"
    for v in verdicts:
        m = MUTANTS[v.number - 1]
        print(f"{v.number:4} {m.file:22} {m.what:48} {v.by or 'SURVIVED'} ({v.seconds:.1f} s)")
    survivors = [MUTANTS[v.number - 1].what for v in verdicts if not v.by]
    print(f"{len(verdicts) - len(survivors)} of {len(verdicts)} mutants were noticed")
    for what in survivors:
        print(f"  survived: {what}: {SURVIVORS.get(what, 'not explained')}")
    unexplained = [what for what in survivors if what not in SURVIVORS]
    return 1 if len(survivors) > len(MUTANTS) - WANTED or unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
