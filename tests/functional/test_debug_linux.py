"""A debugger inside a Linux guest: ptrace's breakpoints, watchpoints and steps work there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bhyvepy.guests import cpio

from .conftest import fetch
from .framework import Vmm
from .test_smp import boot, end

pytestmark = [pytest.mark.fetch, pytest.mark.slow, pytest.mark.timeout(300)]

SOURCE = Path(__file__).with_name("ptrace.c")
CHECKS = 11


@pytest.mark.parametrize(
    ("kernel", "jit"), [("6.1-cloud", "on"), ("6.1-cloud", "off"), ("6.12-cloud", "on")]
)
def test_ptrace(vmm: Vmm, tmp_path: Path, kernel: str, jit: str) -> None:
    """ptrace.c passes all its checks, twice at the same time on two vCPUs."""
    program = tmp_path / "probe"
    subprocess.run(["aarch64-linux-gnu-gcc", "-O1", "-static", "-o", program, SOURCE], check=True)
    guest = fetch(kernel)
    initrd = tmp_path / "initrd"
    archive = cpio.Cpio()
    archive.file("probe", program.read_bytes(), 0o755)
    # Linux unpacks one archive after the other, each from a multiple of four bytes.
    first = guest.initrd.read_bytes()
    initrd.write_bytes(first + bytes(-len(first) % 4) + archive.getvalue())
    shell = boot(vmm, guest, "2", "-o", f"jit={jit}", initrd=initrd)
    said = shell.sh("/probe >/a & /probe; wait; cat /a", timeout=120)
    assert "FAIL" not in said, said
    assert said.count("PASS") == 2 * CHECKS, said
    end(vmm, shell)
