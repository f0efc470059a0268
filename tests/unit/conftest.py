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


def _drop() -> dict[str, Any]:
    gone = {
        name: sys.modules.pop(name)
        for name in list(sys.modules)
        if name == "bhyvepy" or name.startswith("bhyvepy.")
    }
    return gone


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """bhyvepy imported anew over the fake core: .lib, and .load(name) for its modules."""
    import fakecore

    saved = _drop()
    mod = fakecore.module()
    sys.modules["bhyvepy._vmmcore"] = mod
    vmmdir = tmp_path / "vmm"
    monkeypatch.setenv("BHYVEPY_VMMDIR", str(vmmdir))
    try:
        yield SimpleNamespace(
            lib=mod.lib,
            dir=vmmdir,
            load=lambda name: importlib.import_module(f"bhyvepy.{name}"),
            vm=lambda name: mod.lib.vms[str(vmmdir / name)],
        )
    finally:
        _drop()
        sys.modules.update(saved)
