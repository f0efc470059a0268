"""Campaigns: random cases, each named by a seed and a number.

    make fuzz                                  2,000,000 steps over all device campaigns
    FUZZ_SEED=7 FUZZ_CASE=42 pytest 'tests/fuzz/test_devices.py::test_virtio[2-net]'
                                               one case again, as the failure says

A step is one thing that a guest does: an access to a register, or a chain that it offers.
Device campaigns share FUZZ_STEPS; without it each takes SAMPLE of them from seed 1, which is
their part of `make test`. Loader campaigns run FUZZ_S seconds each (20). FUZZ_SEED sets
the seed (random otherwise); the summary says what ran.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).resolve().parents[1]
CASE_S = 2.0  # no case may take longer
SAMPLE = 1000

_done: list[str] = []
_sharing = [1]  # device campaigns of this run


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def forms() -> ModuleType:
    """Makers of kernel files."""
    return _load("fuzz_bootlib", TESTS / "unit/bootlib.py")


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """The driver's side of a virtio device."""
    return _load("fuzz_device_kit", TESTS / "devices/conftest.py")


class Cases:
    """Random sources, one a case, until there was enough of them."""

    def __init__(self, name: str, test: str, seconds: float = 0, steps: int = 0) -> None:
        given = os.environ.get("FUZZ_SEED")
        sample = steps == SAMPLE and not given
        self.seed = 1 if sample else int(given or random.SystemRandom().randrange(1 << 32))
        self.name, self.test = name, test
        self.seconds, self.steps = seconds, steps
        self.only = os.environ.get("FUZZ_CASE")
        self.at = int(self.only or 0)
        self.done = 0  # steps

    def step(self, count: int = 1) -> None:
        """So many things were done."""
        self.done += count

    def __iter__(self) -> Iterator[random.Random]:
        end = time.monotonic() + self.seconds
        while True:
            began = time.process_time()
            yield random.Random(f"{self.seed}:{self.at}")
            assert time.process_time() - began < CASE_S, "a case took too long"
            enough = self.done >= self.steps if self.steps else time.monotonic() > end
            if self.only is not None or enough:
                return
            self.at += 1

    def __str__(self) -> str:
        steps = f", {self.done:,} steps" if self.steps else ""
        return f"{self.name}: {self.at + 1:,} cases{steps}, seed {self.seed}"

    @property
    def again(self) -> str:
        """The command that repeats the last case."""
        return f"FUZZ_SEED={self.seed} FUZZ_CASE={self.at} .venv/bin/pytest '{self.test}'"


Campaign = Callable[[], Cases]


def _run(request: pytest.FixtureRequest, **much: float) -> Iterator[Campaign]:
    cases = Cases(request.node.name, request.node.nodeid, **much)
    yield lambda: cases
    _done.append(str(cases))
    failed = getattr(request.node, "fuzz_failed", False)
    if failed:
        _done.append(f"  once more: {cases.again}")


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """Cases for a time."""
    yield from _run(request, seconds=float(os.environ.get("FUZZ_S", "20")))


@pytest.fixture
def steps(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """Cases with so many steps."""
    total = os.environ.get("FUZZ_STEPS")
    yield from _run(request, steps=SAMPLE if total is None else int(total) // _sharing[0] + 1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """The fixtures want to know whether their test failed."""
    outcome = yield
    if outcome.get_result().failed:  # type: ignore[attr-defined]
        item.fuzz_failed = True  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """How many share the steps."""
    _sharing[0] = max(1, sum("steps" in getattr(i, "fixturenames", ()) for i in items))


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Flip, cut, repeat and overwrite; interesting numbers at aligned places."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not out:
            break
        at = rng.randrange(min(len(out), rng.choice((64, 256, 4096, len(out)))))
        match rng.randrange(6):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                size = rng.choice((2, 4, 8))
                value = rng.choice((0, 1, -1, 1 << 31, 1 << 63, 4096, rng.getrandbits(64)))
                number = (value & (1 << 8 * size) - 1).to_bytes(size, rng.choice(("little", "big")))
                out[at & -size : (at & -size) + size] = number
            case 2:
                del out[at:]
            case 3:
                del out[at : at + rng.randrange(1, 64)]
            case 4:
                out[at:at] = out[at : at + rng.randrange(1, 64)]
            case 5:
                out[at : at + 8] = rng.randbytes(8)
    return bytes(out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was done, with seeds."""
    for line in _done:
        terminalreporter.write_line(line)
