"""Campaigns: random cases for a time, each named by a seed and a number.

FUZZ_S sets the seconds of each campaign (20), FUZZ_SEED the seed (random). A failure is
repeated with FUZZ_SEED=seed FUZZ_CASE=number; the summary says how many cases ran.
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

_done: list[str] = []


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


Campaign = Callable[[], Iterator[random.Random]]


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """Random sources, one a case, until the time is over."""
    seed = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(1 << 32))
    only = os.environ.get("FUZZ_CASE")
    seconds = float(os.environ.get("FUZZ_S", "20"))
    at = [0]

    def cases() -> Iterator[random.Random]:
        end = time.monotonic() + seconds
        at[0] = int(only or 0)
        while True:
            began = time.monotonic()
            yield random.Random(f"{seed}:{at[0]}")
            assert time.monotonic() - began < CASE_S, "a case took too long"
            if only is not None or time.monotonic() > end:
                return
            at[0] += 1

    yield cases
    _done.append(f"{request.node.name}: {at[0] + 1} cases, FUZZ_SEED={seed} FUZZ_CASE={at[0]}")


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
