"""virtio-net's data path in C against the one in Python, on rings that make no sense."""

from __future__ import annotations

import mmap
import os
import random
import socket
import struct
from dataclasses import dataclass

import pytest

from bhyvepy._vmmcore import ffi
from bhyvepy.devices.base import GuestFault, GuestLog
from bhyvepy.devices.netback import F_CSUM, HEADER, Backend
from bhyvepy.devices.virtio.device import F_VERSION_1, VirtioDevice
from bhyvepy.devices.virtio.net import F_MRG_RXBUF, RX, TX, VirtioNet
from bhyvepy.devices.virtio.queue import Queue, QueueError
from bhyvepy.virtq import NetPath, Ram, Result

NEXT, WRITE, INDIRECT = 1, 2, 4
RAM, SIZE = 0x80000000, 0x40000
DESC, AVAIL, USED, TABLES, BUF = RAM, RAM + 0x1000, RAM + 0x2000, RAM + 0x3000, RAM + 0x8000
NUM = 16
MAC = bytes.fromhex("589cfc010203")


class Memory:
    """One range of RAM, with chunks that are allocated when they are looked at."""

    CHUNK = 0x4000

    def __init__(self, data: bytes = bytes(SIZE)) -> None:
        self.data = bytearray(data)
        self.present = bytearray(SIZE // self.CHUNK)
        self.present[0] = 1  # the rings are there
        self.asked: list[tuple[int, int]] = []
        self.logging = False
        self.log: list[tuple[int, int]] = []

    def view(self, gpa: int, length: int, write: bool) -> memoryview:
        at = gpa - RAM
        if at < 0 or at + length > SIZE or length < 0:
            raise GuestFault(gpa, length, write)
        for chunk in range(at // self.CHUNK, (at + max(length, 1) - 1) // self.CHUNK + 1):
            if not self.present[chunk]:
                self.asked.append((gpa, length))
                self.present[chunk] = 1
        view = memoryview(self.data)[at : at + length]
        return view if write else view.toreadonly()

    def direct(self) -> list[Ram]:
        if self.logging:
            return []
        return [Ram(RAM, memoryview(self.data), memoryview(self.present), 0, self.CHUNK)]

    def wrote(self, spans) -> None:
        self.log = list(spans)

    def put(self, gpa: int, data: bytes) -> None:
        self.data[gpa - RAM : gpa - RAM + len(data)] = data


class Wire(Backend):
    """Frames to and from the test."""

    def __init__(self, header: int) -> None:
        self.header = header
        self.offloads = F_CSUM if header else 0
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self.near, self.far):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.fd = self.near.fileno()

    def heard(self) -> list[bytes]:
        out = []
        try:
            while True:
                out.append(self.far.recv(1 << 17))
        except BlockingIOError:
            return out

    def close(self) -> None:
        self.near.close()
        self.far.close()


class Rings:
    """A queue on a memory of its own, and a device without a thread."""

    def __init__(self, image: bytes, event: bool = False) -> None:
        self.memory = Memory(image)
        self.queue = Queue(self.memory, 256, GuestLog("queue"))
        self.queue.num = NUM
        self.queue.desc, self.queue.avail, self.queue.used = DESC, AVAIL, USED
        assert self.queue.enable(event, True)
        self.batches = 0

    def serve_all(self, device: VirtioDevice, index: int) -> str:
        """All that there is; what became of it."""
        try:
            for _ in range(200):
                more = device.serve(index, self.queue)
                if more is None:
                    self.queue.quiet()
                    chain = self.queue.pop()
                    if chain is None:
                        self.queue.listen()
                        return "empty"
                    self.queue.push(chain.head, device.handle(index, chain))
                elif not more:
                    return "empty"
                else:
                    self.batches += 1
        except QueueError:
            return "broken"
        raise AssertionError("it does not end")

    def used(self) -> list[tuple[int, int]]:
        at = USED - RAM
        count = struct.unpack_from("<H", self.memory.data, at + 2)[0]
        return [struct.unpack_from("<II", self.memory.data, at + 4 + 8 * i) for i in range(count)]


class Side(Rings):
    """A card."""

    def __init__(self, image: bytes, fast: bool, features: int, header: int, event: bool) -> None:
        super().__init__(image, event)
        self.wire = Wire(header)
        self.card = VirtioNet(self.wire, MAC, None, GuestLog("net"))
        self.card.fast = fast
        self.card.negotiated = features

    def send(self) -> str:
        """All that the driver has; what became of it."""
        return self.serve_all(self.card, TX)

    def receive(self) -> str:
        """All that the network has."""
        try:
            for _ in range(100):
                if not self.card.pull(RX, self.queue):
                    return "empty"
        except QueueError:
            return "broken"
        raise AssertionError("it does not end")

    def close(self) -> None:
        self.card.close()


def address(rng: random.Random, length: int) -> int:
    """Mostly in RAM, sometimes at its end or elsewhere."""
    return rng.choice(
        [BUF + rng.randrange(0x30000)] * 12
        + [RAM + SIZE - length, RAM + SIZE - length + 1, RAM - 1, 0, 2**64 - 8, 2**63]
    ) % 2**64  # fmt: skip


def descriptor(rng: random.Random, writable: int, size: int, bad: bool) -> bytes:
    length = rng.choice((0, 1, 5, 10, 12, 14, 60, 300, 1514, 1600, 4000))
    flags = rng.choice((0, NEXT, NEXT, NEXT)) | writable
    following = rng.randrange(size)
    at = BUF + rng.randrange(0x30000)
    if bad and rng.random() < 0.15:
        length = rng.choice((length, 70000, 2**32 - 1, 2**31))
        flags ^= rng.choice((WRITE, INDIRECT, NEXT, 0xFFF0))
        following = rng.choice((following, size, 0xFFFF))
        at = address(rng, length)
    return struct.pack("<QIHH", at, length, flags, following)


def ring(rng: random.Random, writable: int, *, bad: bool) -> bytes:
    """An image of RAM with a table, indirect tables and an available ring."""
    memory = Memory(rng.randbytes(SIZE))
    for i in range(NUM):
        text = descriptor(rng, writable, NUM, bad)
        if rng.random() < 0.3:  # an indirect table
            count = rng.randrange(1, 20)
            at = TABLES + 0x200 * i
            memory.put(at, b"".join(descriptor(rng, writable, count, bad) for _ in range(count)))
            length = 16 * count + (rng.choice((0, 0, 1, -16)) if bad else 0)
            text = struct.pack("<QIHH", at, length, INDIRECT, 0)
        memory.put(DESC + 16 * i, text)
    heads = rng.sample(range(NUM), NUM)
    if bad and rng.random() < 0.1:
        heads[rng.randrange(NUM)] = rng.choice((NUM, 0xFFFF))
    waiting = rng.randrange(NUM + 1)
    if bad and rng.random() < 0.05:
        waiting = rng.choice((NUM + 1, 0xFFFF))
    memory.put(AVAIL, struct.pack(f"<HH{NUM}HH", 0, waiting, *heads, 0))
    memory.put(USED, bytes(6 + 8 * NUM))
    return bytes(memory.data)


FEATURES = [0, F_VERSION_1, F_MRG_RXBUF, F_VERSION_1 | F_MRG_RXBUF, F_VERSION_1 | F_CSUM]


@pytest.mark.parametrize("seed", range(300))
def test_send_as_in_python(seed: int) -> None:
    """The same frames, the same used ring, the same end, whatever is in the rings."""
    rng = random.Random(seed)
    image = ring(rng, 0, bad=seed % 3 != 0)
    features, header, event = rng.choice(FEATURES), rng.choice((0, HEADER)), rng.random() < 0.5
    sides = [Side(image, fast, features, header, event) for fast in (True, False)]
    c, python = sides
    assert c.send() == python.send()
    assert c.wire.heard() == python.wire.heard()
    assert c.used() == python.used()
    assert c.queue.save() == python.queue.save()
    assert c.card.lost == python.card.lost
    assert c.memory.data == python.memory.data
    for side in sides:
        side.close()


@pytest.mark.parametrize("seed", range(300))
def test_receive_as_in_python(seed: int) -> None:
    """Good rings: the same bytes of memory. Bad ones: nothing is used twice, and it ends."""
    rng = random.Random(seed)
    bad = seed % 3 != 0
    image = ring(rng, WRITE, bad=bad)
    features, header = rng.choice(FEATURES), rng.choice((0, HEADER))
    frames = [
        bytes(header) + rng.randbytes(rng.choice((14, 60, 1514, 1518, 1519, 9)))
        for _ in range(rng.randrange(9))
    ]
    sides = [Side(image, fast, features, header, False) for fast in (True, False)]
    for side in sides:
        for frame in frames:
            side.wire.far.send(frame)
    c, python = sides
    ends = [side.receive() for side in sides]
    heads = [head for head, _ in c.used()]
    assert len(heads) == len(set(heads))
    assert set(heads) <= set(range(NUM))
    assert c.memory.data[: USED - RAM] == image[: USED - RAM]
    if not bad and all(n for _, n in python.used()):
        assert ends == ["empty", "empty"]
        assert c.used() == python.used()
        assert c.card.lost == python.card.lost
        # But for the flags: whether a notification is wanted between two batches.
        assert c.memory.data[USED - RAM + 2 :] == python.memory.data[USED - RAM + 2 :]
    for side in sides:
        side.close()


def honest(count: int, size: int, writable: int) -> bytes:
    memory = Memory()
    for i in range(NUM):
        memory.put(DESC + 16 * i, struct.pack("<QIHH", BUF + size * i, size, writable, 0))
    memory.put(AVAIL, struct.pack(f"<HH{NUM}H", 0, count, *range(NUM)))
    return bytes(memory.data)


def test_memory_is_allocated_first() -> None:
    """RAM that nobody has touched is asked for, and the frame goes out all the same."""
    side = Side(honest(3, 0x3000, 0), True, F_VERSION_1, 0, False)
    assert side.send() == "empty"
    assert [len(frame) for frame in side.wire.heard()] == [0x3000 - 12] * 3
    assert side.memory.asked
    side.close()


def test_dirty_log_takes_the_long_way() -> None:
    """While somebody logs writes C writes nothing; a log that began meanwhile hears of all RAM."""
    side = Side(honest(NUM, 2000, WRITE), True, F_VERSION_1, 0, False)
    side.wire.far.send(bytes(60))
    side.receive()
    assert side.used() == [(0, 72)]
    assert side.memory.log == [(RAM, SIZE)]
    side.memory.logging = True
    side.wire.far.send(bytes(70))
    side.receive()
    assert side.used() == [(0, 72), (1, 82)]
    assert side.memory.log == [(BUF + 2000, 2000), (USED, 6 + 8 * NUM)]
    side.close()


def test_what_does_not_fit() -> None:
    """A frame longer than the buffers is lost, and they serve the next one."""
    side = Side(honest(2, 100, WRITE), True, F_VERSION_1, 0, False)
    side.wire.far.send(bytes(200))
    side.wire.far.send(b"\x11" * 88)
    side.wire.far.send(b"\x22" * 60)
    side.receive()
    assert side.used() == [(0, 100), (1, 72)]
    assert side.card.lost == 1
    side.close()


def test_a_full_pipe_loses_one_frame_a_batch(monkeypatch) -> None:
    """A reader that is gone costs a bounded wait; nothing is sent twice."""
    side = Side(honest(NUM, 2000, 0), True, F_VERSION_1, 0, False)
    while True:
        try:
            side.wire.near.send(b"x" * 2000)
        except BlockingIOError:
            break
    assert side.card.serve(TX, side.queue)
    assert (side.card.lost, len(side.used())) == (1, 1)
    side.wire.near.shutdown(socket.SHUT_RDWR)
    assert side.send() == "empty"
    assert side.used() == [(i, 0) for i in range(NUM)]
    assert side.card.lost == NUM
    side.close()


def test_ram_table() -> None:
    """Ranges that may only be read are not written; an empty table reaches nothing."""
    data = honest(1, 2000, WRITE)
    for ram in ([Ram(RAM, memoryview(data))], []):
        path = NetPath(ram)
        queue = Queue(Memory(data), NUM, GuestLog("queue"))  # type: ignore[arg-type]
        queue.num, queue.desc, queue.avail, queue.used = NUM, DESC, AVAIL, USED
        path.card.fd, path.card.header, path.card.batch = -1, 12, 4
        result = path.run(True, queue)
        assert result in (Result.BROKEN, Result.EMPTY)
    assert data == honest(1, 2000, WRITE)
    assert ffi.sizeof("struct virtnet") > 0


@dataclass
class Ring:
    """Where a queue stands, for C alone: nothing of it was checked before."""

    num: int = NUM
    desc: int = DESC
    avail: int = AVAIL
    used: int = USED
    event_idx: bool = False
    indirect: bool = True
    last_avail: int = 0
    used_idx: int = 0


class Direct:
    """C's way through a ring, with a network of the test's own."""

    def __init__(self, data: bytearray | mmap.mmap, ring: Ring) -> None:
        self.data, self.ring = data, ring
        self.wire = Wire(0)
        self.path = NetPath([Ram(RAM, memoryview(data))])
        card = self.path.card
        card.fd, card.header, card.batch, card.frame_max = self.wire.fd, 12, 64, 1518

    def table(self, at: int, *rows: tuple[int, int, int, int]) -> None:
        text = b"".join(struct.pack("<QIHH", *row) for row in rows)
        self.data[at - RAM : at - RAM + len(text)] = text

    def offer(self, *heads: int, idx: int | None = None) -> None:
        text = struct.pack(f"<HH{len(heads)}H", 0, len(heads) if idx is None else idx, *heads)
        self.data[AVAIL - RAM : AVAIL - RAM + len(text)] = text

    def used(self) -> list[tuple[int, int]]:
        at = USED - RAM
        return [struct.unpack_from("<II", self.data, at + 4 + 8 * i)
                for i in range(self.ring.used_idx)]  # fmt: skip

    def send(self) -> Result:
        return self.path.run(False, self.ring)

    def receive(self) -> Result:
        return self.path.run(True, self.ring)


@pytest.fixture
def direct():
    """Rings with a good frame in each descriptor."""
    d = Direct(bytearray(SIZE), Ring())
    d.table(DESC, *((BUF + 0x100 * i, 0x100, 0, 0) for i in range(NUM)))
    d.offer(0)
    yield d
    d.wire.close()


@pytest.mark.parametrize("field", ["desc", "avail", "used"])
@pytest.mark.parametrize("at", [RAM + SIZE, RAM + SIZE - 8, RAM - 8, 2**64 - 16])
def test_rings_outside_of_memory(direct: Direct, field: str, at: int) -> None:
    """C finds the rings again at every step: outside of RAM nothing is read or written."""
    setattr(direct.ring, field, at)
    before = bytes(direct.data)
    result = direct.send()
    sent = direct.wire.heard()
    if field == "avail":
        assert (result, sent, direct.used()) == (Result.BROKEN, [], [])
    elif field == "desc":
        assert sent == []
        assert direct.path.why == "descriptors outside of memory"
    else:
        assert result is Result.EMPTY
        assert direct.data == before


@pytest.mark.parametrize("case", ["not negotiated", "nested", "next", "empty", "cut"])
def test_indirect_tables(direct: Direct, case: str) -> None:
    """Each rule of an indirect table, where nothing else is wrong: no frame goes out."""
    direct.ring.indirect = case != "not negotiated"
    flags = INDIRECT | (NEXT if case == "next" else 0)
    length = {"empty": 0, "cut": 17}.get(case, 16)
    direct.table(DESC, (TABLES, length, flags, 1))
    direct.table(TABLES, (BUF, 0x100, 0, 0))
    if case == "nested":
        direct.table(TABLES, (TABLES + 0x100, 16, INDIRECT, 0))
        direct.table(TABLES + 0x100, (BUF, 0x100, 0, 0))
    assert direct.send() is Result.EMPTY
    assert direct.wire.heard() == []
    assert direct.used() == [(0, 0)]
    assert "indirect" in direct.path.why
    direct.ring.indirect = True
    direct.table(DESC, (TABLES, 16, INDIRECT, 1))
    direct.table(TABLES, (BUF, 0x100, 0, 0))
    direct.offer(0, 0)
    direct.send()
    assert len(direct.wire.heard()) == 1


def test_more_than_four_gigabytes() -> None:
    """A chain longer than 4 GiB is none, though all of it is RAM (VIRTIO 1.2, 2.7.5)."""
    fd = os.memfd_create("ram")
    os.truncate(fd, 1 << 30)
    d = Direct(mmap.mmap(fd, 1 << 30), Ring())
    os.close(fd)
    d.table(DESC, *((RAM, 1 << 30, WRITE | NEXT if i < 4 else WRITE, i + 1) for i in range(5)))
    d.offer(0)
    d.wire.far.send(bytes(60))
    assert d.receive() is Result.EMPTY
    assert d.path.why == "more than 4 GiB"
    assert d.used() == [(0, 0)]
    d.wire.close()


@pytest.mark.parametrize("pieces", [1022, 1023, 1500])
def test_more_pieces_than_room(pieces: int) -> None:
    """What one system call cannot take is left in the ring, for Python."""
    ring = Ring(num=2048, desc=RAM + 0x10000)
    d = Direct(bytearray(SIZE), ring)
    d.table(ring.desc, *((BUF + i, 1, WRITE | (NEXT if i + 1 < pieces else 0), i + 1)
                         for i in range(pieces)))  # fmt: skip
    d.offer(0)
    d.wire.far.send(b"\x33" * 60)
    result = d.receive()
    if pieces <= 1022:
        assert d.used() == [(0, 72)]
    else:
        assert (result, ring.last_avail, d.used()) == (Result.LONG, 0, [])
    d.wire.close()


@pytest.mark.parametrize("idx", [NUM + 1, 0x8000, 0xFFFF])
def test_ring_indexes(direct: Direct, idx: int) -> None:
    """More chains than the ring has places: nothing of them is used."""
    direct.offer(*range(NUM), idx=idx)
    assert direct.send() is Result.BROKEN
    assert direct.wire.heard() == []
    assert direct.used() == []


@pytest.mark.parametrize(
    "first",
    [(BUF, 12, WRITE, 0), (BUF, 60, NEXT, 1), (BUF, 60, 0, 0), (BUF, 90, WRITE | NEXT, NUM)],
)
def test_receive_buffers_that_are_none(direct: Direct, first: tuple[int, int, int, int]) -> None:
    """What holds a header at most, may be read, or makes no sense is put back; the frame waits."""
    direct.table(DESC, first, (BUF + 0x100, 0x100, WRITE, 0))
    direct.wire.far.send(b"\x44" * 60)
    assert direct.receive() is Result.EMPTY
    assert direct.used() == [(0, 0)]
    direct.offer(0, 1)
    direct.receive()
    assert direct.used() == [(0, 0), (1, 72)]
