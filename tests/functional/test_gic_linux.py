"""Debian's kernels on the other interrupt controllers: a GICv3 with an ITS, a GICv2."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from .conftest import fetch
from .framework import Vmm
from .test_smp import boot, end

pytestmark = [pytest.mark.fetch, pytest.mark.slow, pytest.mark.timeout(600)]

KERNELS = ("6.1-cloud", "6.12-cloud")


def on_two_vcpus(vmm: Vmm, kernel: str, disk: Path, *argv: str) -> tuple[str, str]:
    """Boot, read a disk, switch off: the log and /proc/interrupts."""
    disk.write_bytes(os.urandom(4 << 20))
    guest = boot(vmm, fetch(kernel), "2", "-s", f"3,virtio-blk,{disk}", *argv)
    log, counts = guest.sh("dmesg"), guest.sh("cat /proc/interrupts")
    want = hashlib.md5(disk.read_bytes(), usedforsecurity=False).hexdigest()
    assert want in guest.sh("md5sum /dev/vda")
    assert guest.sh("nproc") == "2"
    end(vmm, guest)
    return log, counts


@pytest.mark.parametrize("kernel", KERNELS)
def test_its(vmm: Vmm, tmp_path: Path, kernel: str) -> None:
    """Linux finds the ITS, gives it tables, turns LPIs on for each vCPU, and works."""
    log, counts = on_two_vcpus(vmm, kernel, tmp_path / "disk", "-o", "gic.its=true")
    assert "ITS [mem 0x2f040000-0x2f05ffff]" in log
    assert "allocated 8192 Devices" in log
    assert "allocated 8192 Interrupt Collections" in log
    assert "CPU1: using allocated LPI pending table" in log
    assert "GICv3" in counts
    for word in ("ITS queue timeout", "ITS: failed", "ITS no longer"):
        assert word not in log


@pytest.mark.parametrize("kernel", KERNELS)
def test_gicv2(vmm: Vmm, tmp_path: Path, kernel: str) -> None:
    """Linux works on a GICv2: timer, SGIs between vCPUs, SPIs of the disk and the UART."""
    log, counts = on_two_vcpus(vmm, kernel, tmp_path / "disk", "-o", "gic.version=2")
    assert "GICv3" not in log
    assert "GIC-0" in counts or "GICv2" in counts
