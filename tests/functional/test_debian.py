"""Debian's own arm64 kernels, unmodified, from bhyveload to a shell and a disk."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bhyvepy.guests import debian, initramfs

from .framework import BOOT_S, LINUX_PROMPT, POWERED_OFF, RESET, Guest, Vmm

pytestmark = [pytest.mark.fetch, pytest.mark.slow]

DISK_MIB = 64
# The two forms of -s: bhyve's slots (virtio-mmio 2) and bhyvearm64's (virtio-mmio 1).
SLOTS = ("3,virtio-blk,{disk}", "4,virtio-rnd")
ADDRESSES = ("0x200@0x7000#44:virtio-blk,{disk}", "0x200@0x4000#41:virtio-rnd")
# What no boot log of a machine in order has.
TROUBLE = re.compile(
    r"page table isolation|KPTI|rcu.*stall|soft lockup|hung task|BUG|WARNING|Oops|Call trace"
    r"|Unhandled|I/O error|unable to handle",
    re.IGNORECASE,
)


def boot(vmm: Vmm, kernel: debian.Guest, disk: Path, devices: tuple[str, ...]) -> Guest:
    """bhyveload and bhyve, up to the prompt."""
    vmm.load("-k", kernel.vmlinuz, "-i", kernel.initrd, "-a", "console=ttyS0", "-m", "256M")
    options = [word for text in devices for word in ("-s", text.format(disk=disk))]
    guest = vmm.bhyve("-b", *options, "vm")
    guest.expect(initramfs.MARKER, BOOT_S)
    guest.expect(LINUX_PROMPT)
    return guest


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An ext4 file system made on the host."""
    path = tmp_path / "disk.img"
    with path.open("wb") as f:
        f.truncate(DISK_MIB << 20)
    subprocess.run(
        ["/sbin/mke2fs", "-q", "-t", "ext4", "-L", "hostmade", str(path)],
        check=True,
        capture_output=True,
    )
    return path


def test_a_debian_kernel_to_a_shell_and_a_disk(
    vmm: Vmm, debian_kernel: debian.Guest, disk: Path, figure: Callable[[str], None]
) -> None:
    """Boot, use the shell, write to ext4, reboot (exit 0), load again, read back, power off.

    The first run has its devices in slots, the second at bhyvearm64's addresses.
    """
    guest = boot(vmm, debian_kernel, disk, SLOTS)
    figure(f"Debian {debian_kernel.release}: shell after {guest.seconds:.1f} s of bhyve")
    assert guest.sh("uname -srm") == f"Linux {debian_kernel.release} aarch64"
    check_shell(guest)
    check_log(guest)
    check_entropy(guest)
    digest = write_disk(guest)
    guest.line("reboot -f")
    assert guest.wait() == RESET
    vmm.destroy()

    guest = boot(vmm, debian_kernel, disk, ADDRESSES)
    assert guest.sh("cat /proc/device-tree/virtio_mmio@7000/compatible | tr -d '\\0'") in (
        "virtio,mmio",
    )
    check_entropy(guest)
    guest.sh("mount -t ext4 -o ro /dev/vda /mnt")
    assert guest.sh("sha256sum /mnt/dir/random").split()[0] == digest
    assert guest.sh("cat /mnt/dir/text") == "written by the guest"
    guest.sh("umount /mnt")
    check_log(guest)
    guest.line("poweroff -f")
    assert guest.wait() == POWERED_OFF
    vmm.destroy()
    assert list(vmm.dir.iterdir()) == []
    read_on_the_host(disk, digest)


def check_shell(guest: Guest) -> None:
    """Arithmetic, floating point, processes, pipes, signals, time and memory work."""
    assert guest.sh("echo $((6 * 7))") == "42"
    assert guest.sh("awk 'BEGIN { printf \"%.6f\\n\", 22 / 7 * 1e3 }'") == "3142.857143"
    assert guest.sh("seq 1 2000 | sort -rn | md5sum | cut -c1-8") == _md5_of_sorted()
    # The pause: an interactive shell's child ignores SIGTERM for its first moments.
    killed = guest.sh("sleep 100 & usleep 200000; kill $!; wait $! || echo status $?")
    assert killed.endswith("status 143")
    memory = int(guest.sh("awk '/MemTotal/ { print $2 }' /proc/meminfo"))
    assert 180 << 10 < memory < 256 << 10
    assert guest.sh("cat /sys/class/tty/console/active") == "ttyS0"
    cpus = guest.sh("grep -c ^processor /proc/cpuinfo")
    assert cpus == "1"
    began = guest.seconds
    guest.sh("sleep 1")
    assert 0.9 < guest.seconds - began < 4


def _md5_of_sorted() -> str:
    text = "".join(f"{n}\n" for n in range(2000, 0, -1))
    return hashlib.md5(text.encode()).hexdigest()[:8]


def check_log(guest: Guest) -> None:
    """kaslr-seed was given (the kernel is moved), and yet there is no isolation and no trouble."""
    log = guest.sh("dmesg")
    assert "KASLR enabled" in log
    assert "detected: E0PD" in log
    bad = [line for line in log.splitlines() if TROUBLE.search(line)]
    assert bad == []


def check_entropy(guest: Guest) -> None:
    """/dev/hwrng is virtio-rnd, and what it gives is not all the same."""
    assert guest.sh("cat /sys/class/misc/hw_random/rng_current").startswith("virtio_rng")
    first, second = (guest.sh("head -c 64 /dev/hwrng | md5sum") for _ in range(2))
    assert first != second


def write_disk(guest: Guest) -> str:
    """Files on the host's ext4; the digest of one of them."""
    assert guest.sh("cat /sys/block/vda/size") == str(DISK_MIB << 11)
    guest.sh("mount -t ext4 /dev/vda /mnt && mkdir /mnt/dir")
    guest.sh("dd if=/dev/urandom of=/mnt/dir/random bs=64k count=64 2>/dev/null")
    guest.sh("echo written by the guest > /mnt/dir/text")
    digest = guest.sh("sha256sum /mnt/dir/random").split()[0]
    guest.sh("sync")
    guest.sh("umount /mnt")
    return digest


def read_on_the_host(disk: Path, digest: str) -> None:
    """The image is a sound ext4 whose file has the digest the guest saw."""
    check = subprocess.run(["/sbin/e2fsck", "-fn", str(disk)], capture_output=True, check=False)
    assert check.returncode == 0, check.stdout
    data = subprocess.run(
        ["/sbin/debugfs", "-R", "cat /dir/random", str(disk)], capture_output=True, check=True
    ).stdout
    assert hashlib.sha256(data).hexdigest() == digest


def test_a_debian_kernel_under_the_vhe_world_switch(vmm: Vmm, debian_kernel: debian.Guest) -> None:
    """With vmm.vhe=true the host is at EL2, and a guest of 4 vCPUs does not notice."""
    load = ("-k", debian_kernel.vmlinuz, "-i", debian_kernel.initrd, "-a", "console=ttyS0")
    vmm.load(*load, "-m", "256M", "-o", "vmm.vhe=true")
    guest = vmm.bhyve("-b", "-c", "4", "vm")
    guest.expect(initramfs.MARKER, BOOT_S)
    guest.expect(LINUX_PROMPT)
    assert guest.sh("grep -c ^processor /proc/cpuinfo") == "4"
    assert guest.sh("awk 'BEGIN { printf \"%.6f\\n\", 22 / 7 * 1e3 }'") == "3142.857143"
    assert guest.sh("seq 1 2000 | sort -rn | md5sum | cut -c1-8") == _md5_of_sorted()
    check_log(guest)
    guest.line("poweroff -f")
    assert guest.wait() == POWERED_OFF
