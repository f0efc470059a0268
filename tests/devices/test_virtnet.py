"""virtio-net's data path in C against the one in Python, on rings that make no sense."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from bhyvepy._vmmcore import ffi
from bhyvepy.devices.base import GuestFault, GuestLog
from bhyvepy.devices.netback import F_CSUM, HEADER, Backend
from bhyvepy.devices.virtio.device import F_VERSION_1
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


class Side:
    """A card on a memory of its own, without a thread."""

    def __init__(self, image: bytes, fast: bool, features: int, header: int, event: bool) -> None:
        self.memory = Memory(image)
        self.wire = Wire(header)
        self.card = VirtioNet(self.wire, MAC, None, GuestLog("net"))
        self.card.fast = fast
        self.card.negotiated = features
        self.queue = Queue(self.memory, 256, GuestLog("queue"))
        self.queue.num = NUM
        self.queue.desc, self.queue.avail, self.queue.used = DESC, AVAIL, USED
        assert self.queue.enable(event, True)

    def send(self) -> str:
        """All that there is; what became of it."""
        try:
            for _ in range(100):
                more = self.card.serve(TX, self.queue)
                if more is None:
                    self.queue.quiet()
                    chain = self.queue.pop()
                    if chain is None:
                        self.queue.listen()
                        return "empty"
                    self.queue.push(chain.head, self.card.handle(TX, chain))
                elif not more:
                    return "empty"
        except QueueError:
            return "broken"
        raise AssertionError("it does not end")

    def receive(self) -> str:
        try:
            for _ in range(100):
                if not self.card.pull(RX, self.queue):
                    return "empty"
        except QueueError:
            return "broken"
        raise AssertionError("it does not end")

    def used(self) -> list[tuple[int, int]]:
        at = USED - RAM
        count = struct.unpack_from("<H", self.memory.data, at + 2)[0]
        return [struct.unpack_from("<II", self.memory.data, at + 4 + 8 * i) for i in range(count)]

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
