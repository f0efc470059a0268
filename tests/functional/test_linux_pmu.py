"""Linux counts instructions with our performance monitors: perf_event_open() from a program."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bhyvepy.guests import debian, initramfs

from .framework import BOOT_S, LINUX_PROMPT, POWERED_OFF, Vmm

pytestmark = [pytest.mark.fetch, pytest.mark.slow]
SOURCE = Path(__file__).with_name("perf_count.c")
EXPECTED = 20_000_000  # two a pass


@pytest.mark.parametrize("jit", ["on", "off"])
def test_perf_event_open(
    vmm: Vmm,
    debian_kernel: debian.Guest,
    tmp_path: Path,
    figure: Callable[[str], None],
    jit: str,
) -> None:
    """A loop of 20 million instructions counts as that, and overflows each million.

    What else it counts is the way to and from the kernel in user mode: under 1 %.
    """
    program, initrd = tmp_path / "perf_count", tmp_path / "initrd.gz"
    gcc = ["aarch64-linux-gnu-gcc", "-O2", "-static", "-o", str(program), str(SOURCE)]
    subprocess.run(gcc, check=True)
    extra = {"/bin/perf_count": program.read_bytes()}
    initrd.write_bytes(debian.build_initrd(debian_kernel, extra))
    vmm.load("-k", debian_kernel.vmlinuz, "-i", initrd, "-a", "console=ttyS0", "-m", "256M")
    guest = vmm.bhyve("-b", "-o", f"jit={jit}", "vm")
    guest.expect(initramfs.MARKER, BOOT_S)
    guest.expect(LINUX_PROMPT)
    assert "armv8_pmuv3" in guest.sh("ls /sys/bus/event_source/devices")
    told = guest.sh("chmod +x /bin/perf_count; /bin/perf_count")
    for name in ("instructions", "cycles", "sampled"):
        found = re.search(rf"{name} (-?\d+)", told)
        assert found, told
        figure(f"{debian_kernel.release}, jit={jit}: {name} {found[1]} of {EXPECTED}")
        assert EXPECTED <= int(found[1]) < EXPECTED * 1.01, told
    signals = re.search(r"signals (\d+)", told)
    assert signals, told
    assert int(signals[1]) == 20, told
    guest.line("poweroff -f")
    assert guest.wait() == POWERED_OFF
