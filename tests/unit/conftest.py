"""Fixtures of the unit tests: the fake core, and a VM directory of the test's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


_fake: dict[str, Any] = {}


def _take() -> dict[str, Any]:
    """Take bhyvepy's modules out of sys.modules."""
    names = [n for n in sys.modules if n == "bhyvepy" or n.startswith("bhyvepy.")]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """bhyvepy over a fresh fake core: .lib, .vm(name), and .load(name) for its modules.

    The modules over the fake are kept from test to test, beside the real ones.
    """
    import fakecore

    real = _take()
    sys.modules.update(_fake or {"bhyvepy._vmmcore": fakecore.module()})
    lib = sys.modules["bhyvepy._vmmcore"].lib
    lib.__init__()
    vmmdir = tmp_path / "vmm"
    monkeypatch.setenv("BHYVEPY_VMMDIR", str(vmmdir))
    try:
        yield SimpleNamespace(
            lib=lib,
            dir=vmmdir,
            load=lambda name: importlib.import_module(f"bhyvepy.{name}"),
            vm=lambda name: lib.vms[str(vmmdir / name)],
        )
    finally:
        _fake.clear()
        _fake.update(_take())
        sys.modules.update(real)
