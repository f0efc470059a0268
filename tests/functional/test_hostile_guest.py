"""A bare-metal guest that means harm (guests/tests/hostile.c), on every virtio device there is.

The guest checks what it sees; here is what the host sees: disks as they were, a log that
stays short, and commands that answer.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .framework import POWERED_OFF, Vmm
from .test_machine import Transcript, kernel

DEVICES = ("rnd", "blk", "console", "net")
DISK = bytes(range(256)) * 4096
# One line for each thing that a device says of its guest in ten seconds.
LOG_LINES = 60


@pytest.mark.slow
def test_hostile_guest(vmm: Vmm, tmp_path: Path) -> None:
    """F16, 4.1: two CPUs attack each device in both versions, which serves them afterwards."""
    _attack(vmm, tmp_path, 100)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_f16_from_another_vcpu_for_a_minute(vmm: Vmm, tmp_path: Path) -> None:
    """F16: descriptors are flipped for a minute, eight devices in turn."""
    _attack(vmm, tmp_path, 4000)


def _attack(vmm: Vmm, tmp_path: Path, ms: int) -> None:
    disks = [tmp_path / "modern.img", tmp_path / "legacy.img"]
    for disk in disks:
        disk.write_bytes(DISK)
    options = {"blk": ",{disk}", "rnd": "", "net": ",slirp", "console": ",a={sock}"}
    argv: list[str] = []
    for n, name in enumerate(DEVICES, 1):
        for version, where in (("modern", f"{n},"), ("legacy", f"0x200@{n:#x}000#-1:")):
            files = {"disk": tmp_path / f"{version}.img", "sock": tmp_path / f"{version}.sock"}
            argv += ["-s", f"{where}virtio-{name}{options[name].format(**files)}"]
    vmm.load("-k", str(kernel("hostile")), "-a", f"ms={ms}", name="hostile")
    done = vmm.run("bhyve", "-b", "-c", "2", *argv, "hostile", timeout=120 + ms / 10)
    vmm.destroy("hostile")
    told = Transcript.parse(done.out)
    assert done.status == POWERED_OFF, done
    assert told.failed == [], told.text
    assert told.done, told.text
    for name in DEVICES:
        assert sum(f"INFO {name}, version {n}, at" in told.text for n in (1, 2)) == 2, told.text
    assert [d.read_bytes() == DISK for d in disks] == [True, True]
    lines = done.err.splitlines()
    assert len(lines) < LOG_LINES, done.err
    assert all(line.startswith("bhyve: virtio-") for line in lines), done.err
    assert "internal error" not in done.err
