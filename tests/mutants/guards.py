"""Guards against bad input, taken away one at a time: does the test that is named for it fail?

    guards.py [--only WORD,...] [--list]

Responsible for a copy of one module without its guard, for running the tests that must
notice, and for the score. Not for the guards: guard_list.py, c_guard_list.py; nor for the
C core without one: c_core.py.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import c_core  # noqa: E402
from c_guard_list import C_GUARDS  # noqa: E402
from guard_list import GUARDS as PY_GUARDS  # noqa: E402
from guard_list import Guard  # noqa: E402

GUARDS = [*PY_GUARDS, *C_GUARDS]
NUMBERED = list(enumerate(C_GUARDS, 1))
TESTS_FAILED = 1  # pytest's exit status
CRASHES = [-n for n in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE)]
LIMIT_S = 180


def without(text: str, guard: Guard) -> str:
    """The source with the guard taken away."""
    start = c_core.place(text, guard)
    return text[:start] + guard.wrong + text[start + len(guard.right) :]


def module_of(file: str) -> str:
    """devices/virtio/queue.py -> bhyvepy.devices.virtio.queue."""
    name = file.removeprefix("bhyvepy/").removesuffix(".py").replace("/", ".")
    return f"bhyvepy.{name}"


@dataclass
class Verdict:
    """Whether the named tests failed, as they must; anything else is in `why`."""

    guard: Guard
    noticed: bool
    why: str
    seconds: float


def run(tests: str, env: dict[str, str]) -> tuple[int, str]:
    """pytest's status and the end of what it said; -1: it did not come to its end."""
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout=30"]
    argv += ["--timeout-method=thread"]  # it ends loops in C, too
    argv += ["-o", "addopts=--import-mode=importlib", *tests.split()]
    try:
        done = subprocess.run(
            argv, cwd=ROOT, env=os.environ | env, capture_output=True, text=True,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, "no end"
    return done.returncode, "\n".join(done.stdout.splitlines()[-3:])


def judge(guard: Guard) -> Verdict:
    """Without the guard."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if guard.file.endswith(".c"):
            number = next(n for n, g in NUMBERED if g is guard)
            env = c_core.build(NUMBERED) | {"GUARD_OFF": str(number)}
        else:
            file = Path(folder) / Path(guard.file).name
            file.write_text(without((ROOT / guard.file).read_text(), guard))
            env = {"GUARD_FILE": str(file), "GUARD_MODULE": module_of(guard.file)}
        status, said = run(guard.tests, env | {"PYTHONPATH": str(HERE / "site")})
    # A test that dies of what the guard kept away has noticed; Python has no such death.
    noticed = status == TESTS_FAILED or (guard.file.endswith(".c") and status in CRASHES)
    why = "" if noticed else "survived" if status == 0 else f"status {status}: {said}"
    return Verdict(guard, noticed, why, time.monotonic() - began)


def chosen(words: str | None) -> list[Guard]:
    """Guards whose file, text or tests hold one of the words."""
    if not words:
        return list(GUARDS)
    return [g for g in GUARDS if any(w in f"{g.file} {g.what} {g.tests}" for w in words.split(","))]


def main(argv: list[str]) -> int:
    """A line for each guard; 0 when all were missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="words, with commas between")
    parser.add_argument("--list", action="store_true", help="name the guards and their tests")
    args = parser.parse_args(argv)
    guards = chosen(args.only)
    if args.list:
        for g in guards:
            print(f"{g.file:38} {g.what:48} {g.tests}")
        return 0
    everything = sorted({test for g in guards for test in g.tests.split()})
    for env in ({}, {"PYTHONPATH": str(HERE / "site"), **c_core.build(NUMBERED)}):
        status, said = run(" ".join(everything), env)
        if status:
            print(f"with all guards in place: {said}", file=sys.stderr)
            return 2
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(judge, guards))
    for v in verdicts:
        print(f"{v.guard.file:38} {v.guard.what:48} {v.why or 'noticed'} ({v.seconds:.1f} s)")
    good = sum(v.noticed for v in verdicts)
    print(f"{good} of {len(verdicts)} missing guards were noticed by the tests named for them")
    return 0 if good == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
