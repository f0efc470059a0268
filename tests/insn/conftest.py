"""Makes the modules beside the tests importable, and builds the two executors once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness


@pytest.fixture(scope="session")
def programs() -> tuple[Path, Path]:
    """insn_host and insn_guest, up to date."""
    gone = harness.missing_tools()
    if gone:
        pytest.skip("not installed: " + ", ".join(gone))
    out = harness.build_dir()
    return harness.build_host(out), harness.build_guest(out)
