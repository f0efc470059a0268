"""What device tests share: a little guest RAM, an interrupt line, a virtio driver."""

from __future__ import annotations

import copy
import os
import select
import struct
import threading
import time
from types import SimpleNamespace

import pytest

from bhyvepy.devices.base import DeviceEnv
from bhyvepy.devices.virtio.mmio import VirtioMmio
from bhyvepy.errors import GuestFault
from bhyvepy.virtq import Ram

RAM = 0x80000000
RAM_SIZE = 0x100000
HOLE = RAM + RAM_SIZE  # nothing there
RAM2 = HOLE + 0x10000  # more RAM behind a hole


class Memory:
    """Two ranges of RAM with a hole between them."""

    def __init__(self):
        self.parts = [(RAM, bytearray(RAM_SIZE)), (RAM2, bytearray(0x10000))]
        self.log = None  # pages that devices wrote, when somebody wants to know

    def view(self, gpa, length, write):
        for base, data in self.parts:
            if base <= gpa and gpa + length <= base + len(data) and length >= 0:
                view = memoryview(data)[gpa - base : gpa - base + length]
                return view if write else view.toreadonly()
        raise GuestFault(gpa, length, write)

    def read(self, gpa, n):
        return bytes(self.view(gpa, n, False))

    def write(self, gpa, data):
        self.view(gpa, len(data), True)[:] = data

    def direct(self):
        return [Ram(base, memoryview(data)) for base, data in self.parts]

    def wrote(self, spans):
        if self.log is not None:
            for gpa, length in spans:
                self.log.update(range(gpa >> 12, gpa + length + 4095 >> 12))


class Irq:
    """A line that remembers its level and how often it rose."""

    def __init__(self):
        self.level = False
        self.rises = 0

    def set(self, level):
        if level and not self.level:
            self.rises += 1
        self.level = level


class Port:
    """The host's end of a character device."""

    def __init__(self, device):
        self.device = device
        self.sent = bytearray()
        self.touches = 0
        self.spaces = 0

    def send(self, data):
        self.sent += data

    def touched(self):
        self.touches += 1

    def space(self):
        self.spaces += 1


def make_env(memory=None, **more):
    """A DeviceEnv with its irq, memory, port and fatal errors at hand."""
    irq = Irq()
    kit = SimpleNamespace(memory=memory or Memory(), irq=irq, port=None, fatal=[])

    def attach(device):
        kit.port = Port(device)
        return kit.port

    kit.env = DeviceEnv(
        name="dev0", memory=kit.memory, irq=irq, attach=attach, fatal=kit.fatal.append, **more
    )
    return kit


NEXT, WRITE, INDIRECT = 1, 2, 4
VERSION_1, EVENT_IDX, INDIRECT_DESC = 1 << 32, 1 << 29, 1 << 28
DESC, AVAIL, USED = RAM + 0x1000, RAM + 0x3000, RAM + 0x4000
BUF = RAM + 0x10000


class Driver:
    """The guest's side of one virtio-mmio device and of its first queue."""

    index = 0
    base = DESC

    def __init__(self, device, version=2, memory=None):
        self.kit = make_env(memory)
        self.memory = self.kit.memory
        self.irq = self.kit.irq
        self.device = device
        self.mmio = VirtioMmio(self.kit.env, device, version)
        self.version = version
        self.size = 8
        self.seen = 0
        self.desc_at, self.avail_at, self.used_at = DESC, AVAIL, USED

    def sibling(self, index):
        """The same driver's side of another queue."""
        other = copy.copy(self)
        other.index, other.base = index, RAM + 0x80000 + 0x8000 * index
        other.desc_at, other.avail_at = other.base, other.base + 0x2000
        other.used_at = other.base + 0x4000
        return other

    def r(self, offset):
        return self.mmio.read(offset, 4)

    def w(self, offset, value):
        self.mmio.write(offset, 4, value)

    def negotiate(self, features=0):
        """Up to FEATURES_OK (version 2) or the features (version 1)."""
        self.w(0x070, 0)
        self.w(0x070, 1)
        self.w(0x070, 3)
        if self.version == 2:
            features |= VERSION_1
        for sel in (0, 1):
            self.w(0x024, sel)
            self.w(0x020, features >> 32 * sel & 0xFFFFFFFF)
        if self.version == 2:
            self.w(0x070, 11)
        self.features = features

    def set_queue(self, size=8):
        self.size = size
        self.seen = 0
        for addr, length in ((self.avail_at, 6 + 2 * size), (self.used_at, 6 + 8 * size)):
            self.memory.write(addr, bytes(length))
        self.w(0x030, self.index)
        self.w(0x038, size)
        if self.version == 1:
            self.w(0x028, 4096)
            self.w(0x03C, 4096)
            base = self.desc_at = self.base
            self.avail_at = base + 16 * size
            self.used_at = (self.avail_at + 6 + 2 * size + 4095) & ~4095
            self.memory.write(base, bytes(self.used_at + 6 + 8 * size - base))
            self.w(0x040, base >> 12)
            return
        for reg, addr in ((0x80, self.desc_at), (0x90, self.avail_at), (0xA0, self.used_at)):
            self.w(reg, addr & 0xFFFFFFFF)
            self.w(reg + 4, addr >> 32)
        self.w(0x044, 1)

    def start(self, features=0, size=8, others=()):
        """The whole initialisation."""
        self.negotiate(features)
        for queue in (self, *others):
            queue.set_queue(size)
        self.w(0x070, 15 if self.version == 2 else 7)
        return self

    def desc(self, i, addr, length, flags=0, nxt=0, table=None):
        self.memory.write(
            (table or self.desc_at) + 16 * i, struct.pack("<QIHH", addr, length, flags, nxt)
        )

    def chain(self, *parts, table=None, first=0):
        """Descriptors first, first + 1, ...; parts are (addr, length, writable)."""
        for i, (addr, length, writable) in enumerate(parts):
            more = NEXT if i + 1 < len(parts) else 0
            flags = more | (WRITE if writable else 0)
            self.desc(first + i, addr, length, flags, (first + i + 1) & 0xFFFF, table)

    @property
    def avail_idx(self):
        return struct.unpack("<H", self.memory.read(self.avail_at + 2, 2))[0]

    @avail_idx.setter
    def avail_idx(self, value):
        self.memory.write(self.avail_at + 2, struct.pack("<H", value & 0xFFFF))

    @property
    def used_idx(self):
        return struct.unpack("<H", self.memory.read(self.used_at + 2, 2))[0]

    def offer(self, head=0):
        idx = self.avail_idx
        self.memory.write(self.avail_at + 4 + 2 * (idx % self.size), struct.pack("<H", head))
        self.avail_idx = idx + 1

    def kick(self, queue=None):
        self.w(0x050, self.index if queue is None else queue)

    def settle(self):
        """Until the I/O thread has nothing left to do."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            if not select.select([self.mmio._kick], [], [], 0)[0]:
                break
            time.sleep(0.0005)
        time.sleep(0.002)
        with self.mmio._io:
            pass

    def used(self, count=1, timeout=5):
        """The next `count` used elements as (head, length)."""
        end = time.monotonic() + timeout
        while (self.used_idx - self.seen) & 0xFFFF < count:
            assert time.monotonic() < end, "the device put nothing back"
            time.sleep(0.0002)
        out = []
        for _ in range(count):
            at = self.used_at + 4 + 8 * (self.seen % self.size)
            out.append(struct.unpack("<II", self.memory.read(at, 8)))
            self.seen = (self.seen + 1) & 0xFFFF
        return out

    def run(self, *parts):
        """One chain from descriptor 0, and its used length."""
        self.chain(*parts)
        self.offer(0)
        self.kick()
        [(head, length)] = self.used()
        assert head == 0
        return length

    def close(self):
        self.mmio.close()


@pytest.fixture(scope="session")
def kit():
    """The helpers above, for tests that import nothing from each other."""
    return SimpleNamespace(
        Memory=Memory,
        Irq=Irq,
        Port=Port,
        Driver=Driver,
        make_env=make_env,
        RAM=RAM,
        RAM2=RAM2,
        HOLE=HOLE,
        BUF=BUF,
        DESC=DESC,
        AVAIL=AVAIL,
        USED=USED,
        NEXT=NEXT,
        WRITE=WRITE,
        INDIRECT=INDIRECT,
        VERSION_1=VERSION_1,
        EVENT_IDX=EVENT_IDX,
        INDIRECT_DESC=INDIRECT_DESC,
    )


@pytest.fixture(autouse=True)
def _no_leaks():
    """No device leaves a thread or a file descriptor behind."""
    threads = threading.active_count()
    fds = len(os.listdir("/proc/self/fd"))
    yield
    end = time.monotonic() + 2
    while threading.active_count() > threads and time.monotonic() < end:
        time.sleep(0.001)
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= fds
