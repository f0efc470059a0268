"""Linux's own drivers on our devices: disk, entropy, serial port, second vCPU."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from bhyvepy.guests import debian, initramfs

pytestmark = [pytest.mark.fetch, pytest.mark.slow]

MIB = 1 << 20
PROMPT = "~ # "
VM = "devices"


@pytest.fixture(scope="module")
def guest() -> debian.Guest:
    """Debian's 6.1 cloud kernel from the cache, or fetched; only OFFLINE=1 may skip."""
    try:
        return debian.fetch("6.1-cloud")
    except debian.FetchError as err:
        if os.environ.get("OFFLINE") == "1":
            pytest.skip(f"OFFLINE=1 and 6.1-cloud is not cached: {err}")
        raise


class Linux:
    """A booted guest with a shell on its serial port."""

    def __init__(self, guest: debian.Guest, directory: Path, *argv: str) -> None:
        directory.chmod(0o700)
        self.env = dict(os.environ, BHYVEPY_VMMDIR=str(directory))
        load = ["-k", str(guest.vmlinuz), "-i", str(guest.initrd), "-m", "256M"]
        self.tool("bhyveload", *load, "-a", "console=ttyS0", VM)
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "bhyvepy.cli.bhyve", "-b", *argv, VM],
            env=self.env,
            encoding="utf-8",
            codec_errors="replace",
            timeout=120,
        )
        self.child.expect_exact(initramfs.MARKER)
        self.child.expect_exact(PROMPT)

    def tool(self, name: str, *argv: str) -> None:
        """One of the other commands, which must succeed."""
        subprocess.run(
            [sys.executable, "-m", f"bhyvepy.cli.{name}", *argv], env=self.env, check=True
        )

    def run(self, command: str) -> str:
        """What a command prints in the guest."""
        # The marker is cut in two in what is echoed.
        self.child.sendline(f"{command}; echo E''ND")
        self.child.expect_exact("END\r\n")
        out = str(self.child.before)
        self.child.expect_exact(PROMPT)
        return out.replace("\r", "")

    def md5(self, command: str) -> str:
        """The sum of what a command prints, taken in the guest."""
        found = re.search(r"\b[0-9a-f]{32}\b", self.run(f"{command} | md5sum"))
        assert found
        return found[0]

    def poweroff(self) -> int:
        """Switch off; bhyve's exit status."""
        self.child.sendline("poweroff -f")
        self.child.expect(pexpect.EOF)
        self.child.close()
        return int(self.child.exitstatus)


@pytest.fixture(
    params=[
        ("1,virtio-blk,{}", "2,virtio-rnd"),
        ("0x200@0x7000#44:virtio-blk,{}", "0x200@0x4000#-1:virtio-rnd"),
    ],
    ids=["modern", "legacy"],
)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[str]]:
    """An image of 32 MiB with data in it, and the options that make it a disk."""
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(8 * MIB))
    os.truncate(image, 32 * MIB)
    argv = [x for s in request.param for x in ("-s", s.format(image))]
    return image, argv


@pytest.fixture
def linux(guest: debian.Guest, disk: tuple[Path, list[str]], tmp_path: Path) -> Iterator[Linux]:
    """Linux with two vCPUs, a disk and an entropy source."""
    vmm = tmp_path / "vmm"
    vmm.mkdir()
    machine = Linux(guest, vmm, "-c", "2", *disk[1])
    yield machine
    machine.child.close(force=True)


def test_drivers(linux: Linux, disk: tuple[Path, list[str]]) -> None:
    """Disk contents go both ways intact, entropy flows, input of 20 kB arrives whole."""
    image, _ = disk
    assert "is a 16550A" in linux.run("dmesg")
    assert linux.run("nproc").split()[-1] == "2"
    assert linux.run("cat /sys/block/vda/size").split()[-1] == str(32 * MIB // 512)
    assert "BHYVE-" in linux.run("cat /sys/block/vda/serial")

    # Reading: as the host sees it.
    want = hashlib.md5(image.read_bytes(), usedforsecurity=False).hexdigest()
    assert linux.md5("cat /dev/vda") == want
    # Writing, two writers at once, flushed.
    linux.run(
        "for i in 0 1; do dd if=/dev/urandom of=/dev/vda bs=64k count=64 seek=$((i*64))"
        " conv=notrunc,fsync 2>/dev/null & done; wait"
    )
    linux.run("echo 3 > /proc/sys/vm/drop_caches")
    want = hashlib.md5(image.read_bytes(), usedforsecurity=False).hexdigest()
    assert linux.md5("cat /dev/vda") == want
    # Discard gives the space back.
    linux.run("blkdiscard /dev/vda")
    assert image.stat().st_blocks == 0
    assert (
        linux.md5("cat /dev/vda") == hashlib.md5(bytes(32 * MIB), usedforsecurity=False).hexdigest()
    )

    assert "virtio_rng" in linux.run("cat /sys/class/misc/hw_random/rng_current")
    assert linux.run("head -c 3000 /dev/hwrng | wc -c").split()[-1] == "3000"

    text = "".join(f"{i:063d}\n" for i in range(320))
    linux.child.sendline("md5sum")
    linux.child.expect_exact("md5sum\r\n")
    for at in range(0, len(text), 1024):
        linux.child.send(text[at : at + 1024])
    linux.child.send("\x04")
    linux.child.expect(r"([0-9a-f]{32})  -")
    got = linux.child.match[1]
    assert got == hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    linux.child.expect_exact(PROMPT)

    assert linux.poweroff() == 1


def test_read_only_disk(guest: debian.Guest, tmp_path: Path) -> None:
    """A disk with ro is read-only to Linux, and the image is untouched."""
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(MIB))
    before = image.read_bytes()
    vmm = tmp_path / "vmm"
    vmm.mkdir()
    linux = Linux(guest, vmm, "-s", f"3,virtio-blk,{image},ro,ser=abc")
    assert linux.run("cat /sys/block/vda/ro").split()[-1] == "1"
    assert linux.run("cat /sys/block/vda/serial").split()[-1] == "abc"
    linux.run("dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync")
    assert linux.poweroff() == 1
    assert image.read_bytes() == before


def test_escape_powers_off(guest: debian.Guest, tmp_path: Path) -> None:
    """Ctrl-C interrupts a program of the guest; ~. at the start of a line ends the VM."""
    vmm = tmp_path / "vmm"
    vmm.mkdir()
    linux = Linux(guest, vmm)
    linux.child.sendline("sleep 1000")
    linux.child.expect_exact("sleep 1000\r\n")
    # A moment for sleep to be the foreground process.
    linux.child.expect([pexpect.TIMEOUT], timeout=0.5)
    linux.child.sendintr()
    linux.child.expect_exact(PROMPT)
    linux.child.send("\r~.")
    linux.child.expect(pexpect.EOF)
    linux.child.close()
    assert linux.child.exitstatus == 1
