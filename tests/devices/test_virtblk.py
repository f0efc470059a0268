"""virtio-blk's reads and writes in C against those in Python, good requests and bad ones."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from bhyvepy.devices.base import GuestLog
from bhyvepy.devices.virtio.blk import F_FLUSH, BlkOptions, VirtioBlk
from bhyvepy.devices.virtio.device import F_VERSION_1
from bhyvepy.virtq import Result

from .test_virtnet import (
    AVAIL,
    BUF,
    DESC,
    INDIRECT,
    NEXT,
    NUM,
    RAM,
    SIZE,
    TABLES,
    USED,
    WRITE,
    Memory,
    Rings,
)

SECTORS = 64
IN, OUT, FLUSH, GET_ID = 0, 1, 4, 8


class Side(Rings):
    """A disk, with a file of its own."""

    def __init__(self, image: bytes, disk: Path, content: bytes, fast: bool, features: int) -> None:
        super().__init__(image)
        disk.write_bytes(content)
        self.path = disk
        self.blk = VirtioBlk(BlkOptions(str(disk), serial="same"), GuestLog("blk"))
        self.blk.fast = fast
        self.blk.negotiated = features

    def serve(self) -> str:
        """All that there is; what became of it."""
        return self.serve_all(self.blk, 0)


def request(rng: random.Random, memory: Memory, i: int, bad: bool) -> None:
    """A chain of one indirect table: header, data, status; now and then not quite."""
    kind = rng.choice((IN, IN, OUT, OUT, FLUSH, GET_ID))
    sector = rng.randrange(SECTORS)
    sizes = [rng.choice((512, 512, 1024, 2048)) for _ in range(rng.randrange(1, 8))]
    pieces = [(16, 0), *((n, WRITE if kind in (IN, GET_ID) else 0) for n in sizes), (1, WRITE)]
    if bad and rng.random() < 0.4:
        kind = rng.choice((kind, 99, IN, OUT))
        sector = rng.choice((sector, SECTORS, 2**64 - 1, 2**55))
        which = rng.randrange(len(pieces))
        n, flag = pieces[which]
        odd = (rng.choice((0, 1, n + 1, 511, 15)), flag ^ rng.choice((0, 0, WRITE)))
        pieces[which : which + 1] = rng.choice(([odd], [], [(n, flag), odd]))
    header = struct.pack("<IIQ", kind, 0, sector)
    at, table = BUF + 0x3800 * i, b""
    for k, (n, flag) in enumerate(pieces):
        if k == 0:
            memory.put(at, header)
        more = NEXT if k + 1 < len(pieces) else 0
        where = at if not (bad and rng.random() < 0.02) else RAM + SIZE - n + 1
        table += struct.pack("<QIHH", where, n, flag | more, k + 1)
        at += n + rng.choice((0, 0, 32))
    memory.put(TABLES + 0x200 * i, table)
    memory.put(DESC + 16 * i, struct.pack("<QIHH", TABLES + 0x200 * i, len(table), INDIRECT, 0))


def ring(rng: random.Random, bad: bool) -> bytes:
    memory = Memory(rng.randbytes(SIZE))
    for i in range(NUM):
        request(rng, memory, i, bad)
    heads = rng.sample(range(NUM), NUM)
    if bad and rng.random() < 0.1:
        heads[rng.randrange(NUM)] = NUM
    memory.put(AVAIL, struct.pack(f"<HH{NUM}HH", 0, rng.randrange(NUM + 1), *heads, 0))
    memory.put(USED, bytes(6 + 8 * NUM))
    return bytes(memory.data)


@pytest.mark.parametrize("seed", range(300))
def test_as_in_python(tmp_path: Path, seed: int) -> None:
    """The same memory, the same file, the same used ring, whatever is asked for."""
    rng = random.Random(seed)
    bad = seed % 3 != 0
    image, content = ring(rng, bad), rng.randbytes(SECTORS * 512)
    features = F_VERSION_1 | rng.choice((F_FLUSH, F_FLUSH, 0))
    c, python = (
        Side(image, tmp_path / str(fast), content, fast, features) for fast in (True, False)
    )
    assert c.serve() == python.serve()
    assert c.used() == python.used()
    assert c.queue.save() == python.queue.save()
    assert c.memory.data == python.memory.data
    assert c.path.read_bytes() == python.path.read_bytes()
    assert python.batches == 0
    for side in (c, python):
        side.blk.close()


def plain(kind: int, sector: int, sectors: int) -> bytes:
    memory = Memory(bytes(SIZE))
    data = WRITE if kind == IN else 0
    for i, (at, n, flags) in enumerate(
        ((BUF, 16, NEXT), (BUF + 512, 512 * sectors, data | NEXT), (BUF + 0x8000, 1, WRITE))
    ):
        memory.put(DESC + 16 * i, struct.pack("<QIHH", at, n, flags, i + 1))
    memory.put(BUF, struct.pack("<IIQ", kind, 0, sector) + bytes(496) + b"\x5a" * 512 * sectors)
    memory.put(BUF + 0x8000, b"\xff")
    memory.put(AVAIL, struct.pack("<HHH", 0, 1, 0))
    return bytes(memory.data)


def test_plain_requests_never_reach_python(tmp_path: Path, monkeypatch) -> None:
    """A read and a write are done in C, RAM that is not there yet included."""
    content = os.urandom(SECTORS * 512)
    features = F_VERSION_1 | F_FLUSH
    monkeypatch.setattr(VirtioBlk, "handle", None)
    read = Side(plain(IN, 3, 5), tmp_path / "r", content, True, features)
    assert read.serve() == "empty"
    at = BUF + 512 - RAM
    assert read.memory.data[at : at + 2560] == content[3 * 512 : 8 * 512]
    assert read.used() == [(0, 2561)]
    assert read.memory.asked
    write = Side(plain(OUT, 60, 4), tmp_path / "w", content, True, features)
    assert write.serve() == "empty"
    assert write.path.read_bytes() == content[: 60 * 512] + b"\x5a" * 2048
    assert write.used() == [(0, 1)]
    assert write.memory.data[BUF + 0x8000 - RAM] == 0
    for side in (read, write):
        side.blk.close()


@pytest.mark.parametrize("why", ["no cache", "no flush", "read-only", "too far", "cut file"])
def test_what_is_left_to_python(tmp_path: Path, why: str) -> None:
    """Write-through, read-only disks and errors are not for C: the request is still there."""
    content = bytes(SECTORS * 512)
    kind = IN if why == "cut file" else OUT
    image = plain(kind, 62 if why == "too far" else 0, 4)
    flush = 0 if why == "no flush" else F_FLUSH
    side = Side(image, tmp_path / "d", content, True, F_VERSION_1 | flush)
    if why == "no cache":
        side.blk._writeback = False
    if why == "read-only":
        side.blk.close()
        side.blk = VirtioBlk(BlkOptions(str(side.path), readonly=True), GuestLog("blk"))
        side.blk.negotiated = F_VERSION_1 | flush
    if why == "cut file":
        os.truncate(side.path, 700)
    assert side.blk.serve(0, side.queue) is None
    assert side.queue.last_avail == 0
    assert side.used() == []
    if why == "cut file":
        os.truncate(side.path, SECTORS * 512)
    assert side.path.read_bytes() == content
    assert side.serve() == "empty"
    good = why in ("no cache", "no flush", "cut file")
    assert side.memory.data[BUF + 0x8000 - RAM] == (0 if good else 1)
    assert Result.LONG is not Result.MORE
    side.blk.close()


@pytest.mark.parametrize(
    ("kind", "pieces"),
    [
        (IN, [(16, 0), (512, WRITE), (513, WRITE)]),
        (IN, [(16, 0), (512, WRITE), (2, WRITE)]),
        (IN, [(16, 0), (512, 0), (512, WRITE), (1, WRITE)]),
        (OUT, [(16, 0), (512, 0), (512, WRITE), (1, WRITE)]),
        (OUT, [(528, 0), (1, WRITE)]),
        (OUT, [(8, 0), (8, 0), (512, 0), (1, WRITE)]),
    ],
)
def test_odd_requests_are_left_to_python(
    tmp_path: Path, kind: int, pieces: list[tuple[int, int]]
) -> None:
    """Other layouts than header, data, status are legal and rare: C touches none of them."""
    memory = Memory(bytes(SIZE))
    at = BUF
    for i, (n, flags) in enumerate(pieces):
        more = NEXT if i + 1 < len(pieces) else 0
        memory.put(DESC + 16 * i, struct.pack("<QIHH", at, n, flags | more, i + 1))
        at += n
    memory.put(BUF, struct.pack("<IIQ", kind, 0, 1))
    memory.put(AVAIL, struct.pack("<HHH", 0, 1, 0))
    memory.present[:] = bytes([1]) * len(memory.present)
    content = os.urandom(SECTORS * 512)
    side = Side(bytes(memory.data), tmp_path / "d", content, True, F_VERSION_1 | F_FLUSH)
    side.memory.present[:] = memory.present
    assert side.blk.serve(0, side.queue) is None
    assert (side.queue.last_avail, side.used()) == (0, [])
    assert side.path.read_bytes() == content
    assert side.memory.data[BUF - RAM :] == memory.data[BUF - RAM :]
    assert side.serve() == "empty"
    assert len(side.used()) == 1
    side.blk.close()
