"""The two sides of a comparison: a guest under bhyvepy and the same guest under QEMU.

A Side knows how to start a guest with its console on a pseudo-terminal, which host
process runs it and which of that process's memory is guest RAM. What is measured is
measure.py's business.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pexpect

BIN = Path(sys.executable).parent
MIB = 1 << 20
RAM_MIB = 256
START_S = 300
# Both ends of a tap, and what makes one: argv of a shell that becomes the command behind it.
TAP_HOST, TAP_GUEST = "10.9.0.1", "10.9.0.2"
TAP = (
    "ip link set lo up && ip tuntap add tap0 mode tap && ip link set tap0 up"
    f' && ip addr add {TAP_HOST}/24 dev tap0 && exec "$@"'
)


@dataclass(frozen=True)
class Image:
    """A kernel with the prompt that says it is up."""

    kernel: Path
    initrd: Path | None
    prompt: str
    disk: Path | None = None  # attached read-only, unless writable
    writable: bool = False
    network: bool = False  # a card on user-mode networking
    scratch: Path | None = None  # a second disk, which the guest writes
    tap: bool = False  # the card is on a tap, in a network namespace of the process's own


@dataclass
class Guest:
    """A guest that runs."""

    child: pexpect.spawn
    pid: int
    seconds: float  # from the start of the first command to the prompt
    cpu: float  # CPU time of that
    vm: str = ""

    def command(self, line: str, answer: str, prompt: str, seconds: float = START_S) -> str:
        """Type a line; the first group of `answer` in what comes back."""
        self.child.sendline(line)
        self.child.expect(answer, timeout=seconds)
        assert self.child.match is not None
        found = self.child.match.group(1)
        self.child.expect_exact(prompt, timeout=seconds)
        return str(found)

    def kill(self) -> None:
        """End the process, whatever the guest does."""
        self.child.close(force=True)


class Bhyve:
    """bhyveload and bhyve."""

    name = "bhyvepy"
    options: ClassVar[list[str]] = []  # more of bhyve's, such as -o jit=true
    # Quoted in the documentation; FILE and VM stand for what differs.
    shown = 'bhyveload -k FILE [-i FILE] -a "console=ttyS0 nokaslr" -m 256M VM; bhyve -b VM'

    def start(self, image: Image, vm: str = "bench") -> Guest:
        """Load and run; returns at the prompt."""
        self.destroy(vm)
        argv = [str(BIN / "bhyveload"), "-k", str(image.kernel), "-m", f"{RAM_MIB}M"]
        argv += ["-a", "console=ttyS0 nokaslr"]
        argv += ["-i", str(image.initrd)] if image.initrd else []
        load = -_children()
        begin = time.monotonic()
        subprocess.run([*argv, vm], check=True)
        load += _children()
        argv = [*self.options, "-b"]
        mode = "" if image.writable else ",ro"
        argv += ["-s", f"3,virtio-blk,{image.disk}{mode}"] if image.disk else []
        argv += ["-s", f"5,virtio-blk,{image.scratch}"] if image.scratch else []
        if image.network:
            argv += ["-s", "4,virtio-net,tap0" if image.tap else "4,virtio-net,slirp"]
        child = _spawn(image, [str(BIN / "bhyve"), *argv, vm])
        child.expect_exact(image.prompt, timeout=START_S)
        seconds = time.monotonic() - begin
        return Guest(child, child.pid, seconds, cpu_seconds(child.pid) + load, vm)

    def destroy(self, vm: str) -> None:
        """Remove the VM, if there is one."""
        argv = [str(BIN / "bhyvectl"), f"--vm={vm}", "--destroy"]
        subprocess.run(argv, check=False, capture_output=True)

    def stop(self, guest: Guest) -> None:
        """End a guest and give its memory back."""
        guest.kill()
        self.destroy(guest.vm)

    def untranslated(self, guest: Guest) -> tuple[int, int]:
        """Instructions that ran through handlers or the interpreter, and all, since the start."""
        argv = [str(BIN / "bhyvectl"), f"--vm={guest.vm}", "--get-stats"]
        text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        found = dict(re.findall(r"^(\S.*?)\s+(\d+)$", text, re.MULTILINE))
        slow = (
            "handlers called by translated code",
            "instructions interpreted, not translated yet",
        )
        return sum(int(found[name]) for name in slow), int(found["guest instructions executed"])

    def is_ram(self, mapping: str, size: int) -> bool:
        """Whether a line of smaps heads a mapping of guest RAM."""
        return "/sysmem" in mapping or "/bootrom" in mapping

    def version(self) -> str:
        """Program and version."""
        done = subprocess.run([str(BIN / "bhyve"), "--version"], capture_output=True, text=True)
        return done.stdout.strip()


class Qemu:
    """qemu-system-aarch64 with TCG."""

    name = "qemu"
    shown = (
        "qemu-system-aarch64 -machine virt,gic-version=3 -accel tcg -cpu cortex-a57 -smp 1 -m 256M"
        ' -kernel FILE [-initrd FILE] -append "console=ttyAMA0 nokaslr" -nodefaults -display none'
        " -serial stdio"
    )

    def start(self, image: Image, vm: str = "bench") -> Guest:
        """Run; returns at the prompt."""
        argv = ["-machine", "virt,gic-version=3", "-accel", "tcg", "-cpu", "cortex-a57"]
        argv += ["-smp", "1", "-m", str(RAM_MIB), "-kernel", str(image.kernel)]
        argv += ["-append", "console=ttyAMA0 nokaslr"]
        argv += ["-initrd", str(image.initrd)] if image.initrd else []
        argv += ["-nodefaults", "-display", "none", "-serial", "stdio"]
        if image.scratch:  # before the other: Linux finds QEMU's last one first
            argv += ["-drive", f"if=none,id=s,file={image.scratch},format=raw"]
            argv += ["-device", "virtio-blk-device,drive=s"]
        if image.disk:
            mode = "off" if image.writable else "on"
            argv += ["-drive", f"if=none,id=d,file={image.disk},format=raw,readonly={mode}"]
            argv += ["-device", "virtio-blk-device,drive=d"]
        if image.network:
            tap = "tap,ifname=tap0,script=no,downscript=no"
            argv += ["-netdev", f"{tap if image.tap else 'user'},id=n"]
            argv += ["-device", "virtio-net-device,netdev=n"]
        # Version 2 of virtio-mmio, as with us.
        argv += ["-global", "virtio-mmio.force-legacy=false"]
        begin = time.monotonic()
        child = _spawn(image, ["qemu-system-aarch64", *argv])
        child.expect_exact(image.prompt, timeout=START_S)
        return Guest(child, child.pid, time.monotonic() - begin, cpu_seconds(child.pid))

    def stop(self, guest: Guest) -> None:
        """End a guest."""
        guest.kill()

    def is_ram(self, mapping: str, size: int) -> bool:
        """Whether a line of smaps heads a mapping of guest RAM (anonymous, of its size or more)."""
        return "/" not in mapping and size >= RAM_MIB * MIB and size < (RAM_MIB + 64) * MIB

    def version(self) -> str:
        """Program and version."""
        done = subprocess.run(
            ["qemu-system-aarch64", "--version"], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()[0]


def _spawn(image: Image, argv: list[str]) -> pexpect.spawn:
    if image.tap:
        argv = ["unshare", "-r", "-n", "sh", "-c", TAP, "sh", *argv]
    return pexpect.spawn(argv[0], argv[1:], encoding="latin-1", echo=False)


Side = Bhyve | Qemu


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have run so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _children() -> float:
    """CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident(side: Side, pid: int) -> tuple[int, int]:
    """(all, guest RAM) resident bytes of a process, from smaps."""
    total = ram = 0
    ours = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            ours = side.is_ram(line, int(head[2], 16) - int(head[1], 16))
        elif line.startswith("Rss:"):
            size = int(line.split()[1]) * 1024
            total += size
            ram += size if ours else 0
    return total, ram
