"""Looking at a running VM, holding it and ending it, all from another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bhyvepy import vmmapi
from bhyvepy.guests import debian, initramfs

from .blocking import BlockingDisk
from .framework import BOOT_S, DESTROY_S, ERROR, LINUX_PROMPT, OWN_PROMPT, Guest, Vmm, until

SAMPLES = 1000


def start(vmm: Vmm, command: str, says: str) -> Guest:
    """Our kernel in an endless command."""
    vmm.load()
    guest = vmm.bhyve("-b", "vm")
    guest.expect(OWN_PROMPT)
    guest.line(command)
    guest.expect(says)
    return guest


def test_two_registers_of_one_loop_belong_together(vmm: Vmm, figure: Callable[[str], None]) -> None:
    """1,000 samples of x0 and x1, counted up in one loop, differ by at most 1 and advance."""
    guest = start(vmm, "count", "counting")
    with vmmapi.VM.open("vm") as vm:
        vcpu = vm.vcpu(0)
        time.sleep(0.1)
        samples = []
        began = time.monotonic()
        for _ in range(SAMPLES):
            regs = vcpu.get_set(["x0", "x1", "pc"])
            samples.append((regs["x0"], regs["x1"], regs["pc"]))
        took = time.monotonic() - began
    assert max(abs(x0 - x1) for x0, x1, _ in samples) <= 1
    counts = [x0 for x0, _, _ in samples]
    assert counts == sorted(counts)
    # It ran on between the samples, not only now and then.
    assert len(set(counts)) > SAMPLES * 0.9
    assert max(pc for *_, pc in samples) - min(pc for *_, pc in samples) <= 16
    speed = (counts[-1] - counts[0]) / took / 1e6
    figure(f"live: {SAMPLES} samples in {took:.2f} s, {speed:.0f} million rounds/s meanwhile")
    assert guest.alive()


def test_the_commands_see_the_same(vmm: Vmm) -> None:
    """bhyvectl --get-x0 --get-x1 in one call show one moment, too."""
    start(vmm, "count", "counting")
    seen = []
    for _ in range(3):
        lines = vmm.ctl("--get-x0", "--get-x1").splitlines()
        x0, x1 = (int(line.split()[1], 16) for line in lines)
        assert abs(x0 - x1) <= 1
        seen.append(x0)
    assert seen[0] < seen[1] < seen[2]


def held(vmm: Vmm) -> list[str]:
    """Registers of two moments."""
    out = []
    for _ in range(2):
        out.append(vmm.ctl("--get-pc", "--get-x0", "--get-x1"))
        time.sleep(0.05)
    return out


def check_pause(vmm: Vmm) -> None:
    """--pause holds the vCPU, --resume lets it go, and the sets say so."""
    assert vmm.ctl("--get-debug-cpus") == "debug cpus:\t (none)\n"
    vmm.ctl("--pause")
    assert vmm.ctl("--get-debug-cpus") == "debug cpus:\t 0\n"
    first, second = held(vmm)
    assert first == second
    vmm.ctl("--resume")
    assert vmm.ctl("--get-debug-cpus") == "debug cpus:\t (none)\n"


def check_destroy(vmm: Vmm, guest: Guest, what: str, figure: Callable[[str], None]) -> None:
    """--destroy ends bhyve with status 4, both within two seconds; nothing is left."""
    began = time.monotonic()
    took = vmm.destroy()
    status = guest.wait(10)
    ended = time.monotonic() - began
    figure(f"destroy of {what}: {took:.2f} s, bhyve gone after {ended:.2f} s")
    assert status == ERROR
    assert "VM vm was destroyed while it ran" in guest.log.text
    assert took < DESTROY_S
    assert ended < DESTROY_S + 0.5
    assert list(vmm.dir.iterdir()) == []


OWN_LOOPS = {
    "a busy loop": ("spin", "spinning"),
    "a busy loop, masked": ("count", "counting"),
    "WFI with interrupts masked": ("wfi", "waiting with interrupts masked"),
}


@pytest.mark.parametrize("what", OWN_LOOPS)
def test_pause_resume_destroy(vmm: Vmm, what: str, figure: Callable[[str], None]) -> None:
    """A guest is held, let go and destroyed from outside, whatever it does."""
    guest = start(vmm, *OWN_LOOPS[what])
    check_pause(vmm)
    if "masked" in what and "busy" in what:
        before, after = held(vmm)
        assert before != after
    check_destroy(vmm, guest, what, figure)


def test_destroy_while_paused(vmm: Vmm, figure: Callable[[str], None]) -> None:
    """A VM that is held can be destroyed as well."""
    guest = start(vmm, "spin", "spinning")
    vmm.ctl("--pause")
    check_destroy(vmm, guest, "a paused loop", figure)


def test_the_guest_does_not_notice_a_pause(vmm: Vmm) -> None:
    """After a second on hold the prompt answers, and the timer goes on."""
    vmm.load()
    guest = vmm.bhyve("-b", "vm")
    guest.expect(OWN_PROMPT)
    vmm.ctl("--pause")
    guest.line("echo held")
    time.sleep(1)
    assert "\nheld" not in guest.log.text
    vmm.ctl("--resume")
    guest.expect("\nheld")
    guest.expect(OWN_PROMPT)
    first = int(guest.own("ticks").split()[0])
    guest.own("sleep 5")
    assert int(guest.own("ticks").split()[0]) >= first + 5


@pytest.fixture
def blocking_disk(vmm: Vmm, tmp_path: Path) -> Iterator[BlockingDisk]:
    """A disk whose writes can be made to block."""
    disk = BlockingDisk(tmp_path, 8 << 20)
    try:
        yield disk
    finally:
        disk.close()


@pytest.mark.fetch
def test_pause_resume_destroy_during_a_blocked_disk_write(
    vmm: Vmm,
    debian_61: debian.Guest,
    blocking_disk: BlockingDisk,
    figure: Callable[[str], None],
) -> None:
    """The same with a thread of bhyve inside a write(2) that does not come back.

    The guest goes on meanwhile: its shell answers.
    """
    disk = blocking_disk
    kernel = debian_61
    vmm.load("-k", kernel.vmlinuz, "-i", kernel.initrd, "-a", "console=ttyS0", "-m", "256M")
    guest = disk.bhyve(vmm, "-b", "-s", f"3,virtio-blk,{disk.path}", "vm")
    guest.expect(initramfs.MARKER, BOOT_S)
    guest.expect(LINUX_PROMPT)
    write = "dd if=/dev/zero of=/dev/vda bs=4k count=4 oflag=direct"
    guest.sh(f"{write} 2>/dev/null")
    disk.block()
    guest.sh(f"{write} 2>/dev/null & true")
    until("a write blocks", disk.blocked)
    assert guest.sh("echo the shell answers") == "the shell answers"
    check_pause(vmm)
    assert guest.sh("echo and again") == "and again"
    check_destroy(vmm, guest, f"a VM in a blocked write ({disk.how})", figure)
