"""Guards against bad input, taken away one at a time: does the test that is named for it fail?

    guards.py [--only WORD,...] [--list]

Responsible for a copy of one module without its guard, for running the tests that must
notice, and for the score. Not for the guards: guard_list.py.
"""

from __future__ import annotations

import argparse
import os
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

from guard_list import GUARDS, Guard  # noqa: E402

TESTS_FAILED = 1  # pytest's exit status
LIMIT_S = 180


def without(text: str, guard: Guard) -> str:
    """The source with the guard taken away."""
    at = text.find(guard.where)
    start = text.find(guard.right, at + len(guard.where)) if at >= 0 else -1
    if start < 0:
        raise LookupError(f"{guard.file}: {guard.what}: no {guard.right!r} behind {guard.where!r}")
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
        file = Path(folder) / Path(guard.file).name
        file.write_text(without((ROOT / guard.file).read_text(), guard))
        env = {"PYTHONPATH": str(HERE / "site"), "GUARD_FILE": str(file)}
        status, said = run(guard.tests, env | {"GUARD_MODULE": module_of(guard.file)})
    noticed = status == TESTS_FAILED
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
            print(f"{g.file:28} {g.what:52} {g.tests}")
        return 0
    everything = sorted({test for g in guards for test in g.tests.split()})
    status, said = run(" ".join(everything), {})
    if status:
        print(f"with all guards in place: {said}", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(judge, guards))
    for v in verdicts:
        print(f"{v.guard.file:28} {v.guard.what:52} {v.why or 'noticed'} ({v.seconds:.1f} s)")
    good = sum(v.noticed for v in verdicts)
    print(f"{good} of {len(verdicts)} missing guards were noticed by the tests named for them")
    return 0 if good == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
