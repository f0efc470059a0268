"""The world switch: two VMs and the host share one PE and never see each other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from core_lib import build_program

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_program(HERE / "world_switch.c", tmp_path_factory.mktemp("ws") / "world_switch")


@pytest.mark.parametrize("vhe", ["0", "1"], ids=["nvhe", "vhe"])
def test_ten_thousand_switches(program: Path, vmm_dir: Path, vhe: str) -> None:
    """10,000 entries with random register files change no register of guests or host.

    The nVHE form gets the hypctx by its physical address: a virtual one is refused.
    """
    done = subprocess.run(
        [program, vmm_dir, "20261122", "10000", vhe],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("10000 rounds")
