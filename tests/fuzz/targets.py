"""What the device campaigns attack: each device, the outside world it talks to, its honest driver.

Responsible for making the devices and for the question whether an honest driver is served.
Not for the nonsense: test_devices.py. A new device is one class and one line of VIRTIO, or
one line of REGISTERS.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from bhyvepy.devices.base import Device, DeviceEnv, GuestLog
from bhyvepy.devices.bvmconsole import BvmConsole
from bhyvepy.devices.endpoint import FdEndpoint
from bhyvepy.devices.netback import Backend
from bhyvepy.devices.ns16550a import NS16550A
from bhyvepy.devices.own import OwnDevice, Register, SysReg
from bhyvepy.devices.pl011 import PL011
from bhyvepy.devices.pl031 import PL031
from bhyvepy.devices.pl061 import PL061
from bhyvepy.devices.virtio.blk import BlkOptions, VirtioBlk
from bhyvepy.devices.virtio.console import VirtioConsole
from bhyvepy.devices.virtio.device import VirtioDevice
from bhyvepy.devices.virtio.net import VirtioNet
from bhyvepy.devices.virtio.rnd import VirtioRnd

SECTORS = 64
MRG_RXBUF, MULTIPORT = 1 << 15, 1 << 1
LOUD = b"\xa5" * 700  # from the outside


def drain(end: socket.socket) -> bytes:
    """All that has arrived."""
    out = b""
    while select.select([end], [], [], 0)[0]:
        try:
            got = end.recv(1 << 17)
        except OSError:
            break
        if not got:
            break
        out = got
    return out


class Target:
    """One device and its surroundings; made anew for each case."""

    features: ClassVar[tuple[int, ...]] = (0,)  # of the type, that a driver may take
    headers: ClassVar[tuple[bytes, ...]] = ()  # what its requests begin with
    device: VirtioDevice

    def __init__(self, folder: Path) -> None:
        """Make the device."""

    def outside(self, rng: random.Random) -> None:
        """Something happens that the guest did not ask for."""

    def room(self, rng: random.Random) -> list[tuple[int, bool]]:
        """Behind a header: lengths of buffers, and whether the device writes them."""
        return [(rng.choice((0, 1, 60, 512, 4096)), rng.random() < 0.5)]

    def honest(self, queues: list[Any], kit: ModuleType) -> None:
        """A driver that has just started is served."""
        raise NotImplementedError

    def close(self) -> None:
        """The surroundings; the transport closes the device. Checks what it must not do."""


class Blk(Target):
    """A disk; its image keeps its size."""

    readonly = False
    features = (0, 1 << 9, 1 << 9 | 1 << 11)
    headers = tuple(
        struct.pack("<IIQ", kind, 0, sector)
        for kind in (0, 1, 1, 4, 8, 11, 13, 99)
        for sector in (0, SECTORS - 1, SECTORS, (1 << 55) - 1, (1 << 64) - 1)
    )

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk.img"
        self.image.write_bytes(bytes(512 * SECTORS))
        self.device = VirtioBlk(BlkOptions(str(self.image), readonly=self.readonly))

    def room(self, rng: random.Random) -> list[tuple[int, bool]]:
        """Data of one way, and the status."""
        data = rng.choice(((512, 512), (512, 1024), (512, 511, 1), (16,), (32, 17), (20,), ()))
        way = rng.random() < 0.5
        return [*((n, way) for n in data), (rng.choice((1, 1, 1, 0, 2)), rng.random() < 0.9)]

    def honest(self, queues: list[Any], kit: ModuleType) -> None:
        """It says its serial number."""
        driver = queues[0]
        driver.memory.write(kit.BUF, (8).to_bytes(16, "little"))
        status = kit.BUF + 0x100
        parts = ((kit.BUF, 16, False), (kit.BUF + 0x80, 20, True), (status, 1, True))
        assert 21 == driver.run(*parts)
        assert driver.memory.read(kit.BUF + 0x80, 6) == b"BHYVE-"
        assert driver.memory.read(status, 1) == b"\0"

    def close(self) -> None:
        """Nothing appends to an image."""
        assert 512 * SECTORS == self.image.stat().st_size


class BlkReadOnly(Blk):
    """A disk that may not be written, and is not."""

    readonly = True

    def close(self) -> None:
        """Not a bit has changed."""
        assert self.image.read_bytes() == bytes(512 * SECTORS)


class Rnd(Target):
    """The source of entropy."""

    def __init__(self, folder: Path) -> None:
        self.device = VirtioRnd()

    def honest(self, queues: list[Any], kit: ModuleType) -> None:
        """It fills a buffer."""
        queues[0].memory.write(kit.BUF, bytes(64))
        assert 64 == queues[0].run((kit.BUF, 64, True))
        assert queues[0].memory.read(kit.BUF, 64) != bytes(64)


class _Cable(Backend):
    """A network whose other end the campaign holds."""

    mtu = 1500

    def __init__(self) -> None:
        ours, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        self.far.setblocking(False)
        self._ours = ours
        self.fd = ours.fileno()

    def close(self) -> None:
        self._ours.close()


class Net(Target):
    """A network card, with frames that come in at any time."""

    features = (0, MRG_RXBUF)
    headers = (bytes(12), b"\xff" * 12, bytes(10) + b"\xff" * 60)

    def __init__(self, folder: Path) -> None:
        self.cable = _Cable()
        self.device = VirtioNet(self.cable, b"\x58\x9c\xfc\1\2\3", None, GuestLog("net"))

    def outside(self, rng: random.Random) -> None:
        """A frame, a runt or a giant."""
        drain(self.cable.far)
        with contextlib.suppress(OSError):  # the card does not look
            self.cable.far.send(LOUD[:60] * rng.choice((1, 1, 20, 1000)))

    def honest(self, queues: list[Any], kit: ModuleType) -> None:
        """A frame goes out as it is."""
        queue, wire = queues[1], b"\xff" * 12 + b"\x88\xb5" + b"honest" * 10
        header = 12 if queue.version == 2 or queue.features & MRG_RXBUF else 10
        drain(self.cable.far)
        queue.memory.write(kit.BUF, bytes(header) + wire)
        assert 0 == queue.run((kit.BUF, header + len(wire), False))
        assert drain(self.cable.far) == wire

    def close(self) -> None:
        """The other end."""
        self.cable.far.close()


class Console(Target):
    """A console with two ports, whose clients write at any time."""

    features = (0, MULTIPORT, MULTIPORT | 1, 4)
    headers = tuple(
        struct.pack("<IHH", port, event, value)
        for port in (0, 1, 2, 0xFFFFFFFF)
        for event in (0, 3, 6, 7, 99)
        for value in (0, 1)
    )

    def __init__(self, folder: Path) -> None:
        pairs = [socket.socketpair() for _ in range(2)]
        self.clients = [far for _, far in pairs]
        for ours, far in pairs:
            ours.setblocking(False)
            far.setblocking(False)
        ends = [(name, FdEndpoint(p[0])) for name, p in zip("ab", pairs, strict=True)]
        self.device = VirtioConsole(ends, GuestLog("con"))

    def outside(self, rng: random.Random) -> None:
        """A client says something, and reads what there is for it."""
        client = rng.choice(self.clients)
        drain(client)
        with contextlib.suppress(OSError):
            client.send(LOUD[: rng.randrange(1, 700)])

    def honest(self, queues: list[Any], kit: ModuleType) -> None:
        """What is sent on port 0 arrives."""
        for client in self.clients:
            drain(client)
        queue = queues[1]
        queue.memory.write(kit.BUF, b"honest")
        assert 0 == queue.run((kit.BUF, 6, False))
        assert drain(self.clients[0]) == b"honest"

    def close(self) -> None:
        """The clients."""
        for client in self.clients:
            client.close()


VIRTIO: dict[str, type[Target]] = {
    "blk": Blk,
    "blk-ro": BlkReadOnly,
    "rnd": Rnd,
    "net": Net,
    "console": Console,
}


# -- devices that are nothing but registers --------------------------------------------------


class Thing(OwnDevice):
    """A device of the user's own with a register of each kind."""

    RW = Register(0x0, reset=0x12345678, fields={"low": (7, 0), "top": 31})
    RO = Register(0x4, reset=7, access="ro")
    WO = Register(0x8, access="wo")
    W1C = Register(0xC, reset=0xFF, access="w1c")
    WIDE = Register(0x10, size=8)
    BYTE = Register(0x19, size=1)
    HALF = Register(0xFFE, size=2)
    SYS = SysReg("S3_7_C15_C15_7", reset=5)

    def write_WO(self, value: int) -> None:  # noqa: N802
        """The line follows the last bit."""
        self.irq(bool(value & 1))


def _own(env: DeviceEnv) -> Device:
    return Thing(env, {})


REGISTERS: dict[str, Callable[[DeviceEnv], Device]] = {
    "ns16550a": NS16550A,
    "pl011": PL011,
    "pl031": PL031,
    "pl061": PL061,
    "bvmconsole": BvmConsole,
    "own": _own,
}
