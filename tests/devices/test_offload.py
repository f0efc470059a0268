"""Offloads of a network card: checksums and merged segments, and who asked for them."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from bhyvepy._vmmcore import ffi, lib
from bhyvepy.devices.base import GuestLog
from bhyvepy.devices.netback import (
    F_CSUM,
    F_GUEST_CSUM,
    F_GUEST_TSO4,
    F_HOST_TSO4,
    HEADER,
    Backend,
)
from bhyvepy.devices.virtio.net import F_MRG_RXBUF, VirtioNet

MAC = bytes.fromhex("589cfc010203")
NEEDS_CSUM, DATA_VALID, TCPV4 = 1, 2, 1
IP, TCP = 14, 34
PSH, ACK = 8, 16


def ones(data: bytes) -> int:
    """The Internet checksum, 0 over data that holds a right one."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def segment(payload: bytes, seq: int, *, flags: int = ACK, options: bytes = b"", **other: int):
    """An Ethernet frame with a TCP segment and right checksums."""
    names = {"ack": 7, "window": 8760, "sport": 80, "ident": 1, "ttl": 64, "frag": 0, "src": 2}
    o = names | other
    size = 20 + len(options)
    tcp = struct.pack(
        ">HHIIBBHHH", o["sport"], 1234, seq & 0xFFFFFFFF, o["ack"], size << 2, flags,
        o["window"], 0, 0,
    ) + options + payload  # fmt: skip
    src, dst = socket.inet_aton(f"10.0.2.{o['src']}"), socket.inet_aton("10.0.2.15")
    check = ones(src + dst + struct.pack(">HH", 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack(">H", check) + tcp[18:]
    ip = struct.pack(
        ">BBHHHBBH", 0x45, 0, 20 + len(tcp), o["ident"], o["frag"], o["ttl"], 6, 0
    ) + src + dst  # fmt: skip
    ip = ip[:10] + struct.pack(">H", ones(ip)) + ip[12:]
    return MAC + b"\x52\x55\x0a\0\x02\x02\x08\0" + ip + tcp


class Merge:
    """What the stack's thread does with frames to the guest."""

    def __init__(self) -> None:
        self.m = ffi.new("struct net_merge *")
        self.out: list[tuple[bytes, bytes]] = []

    def add(self, frame: bytes) -> bool:
        if lib.net_merge_add(self.m, frame, len(frame)):
            return True
        self.end()
        assert lib.net_merge_start(self.m, frame, len(frame))
        return False

    def end(self) -> None:
        if self.m.len:
            lib.net_merge_end(self.m, True)
            data = bytes(ffi.buffer(self.m.message, HEADER + self.m.len))
            self.out.append((data[:HEADER], data[HEADER:]))
            self.m.len = 0


def finish(header: bytes, frame: bytes) -> tuple[bool, bytes]:
    """A driver's frame as the stack gets it, with guards around it."""
    room = ffi.new("uint8_t[]", b"\xa5" * 8 + frame + b"\xa5" * 8)
    good = lib.net_finish_frame(header, room + 8, len(frame))
    after = bytes(ffi.buffer(room, len(frame) + 16))
    assert after[:8] == after[-8:] == b"\xa5" * 8
    return bool(good), after[8:-8]


def split(header: bytes, frame: bytes) -> list[tuple[int, int, bytes]]:
    """(sequence number, flags, data) of the segments that a merged frame stands for."""
    flags, kind, hdr_len, size, start, offset = struct.unpack("<BBHHHH", header)
    assert (flags, kind, start, offset) == (NEEDS_CSUM, TCPV4, TCP, 16)
    assert struct.unpack_from(">H", frame, IP + 2)[0] == len(frame) - IP
    assert ones(frame[IP:TCP]) == 0
    # The sum that is there is what a checksum begins with.
    good, whole = finish(header, frame)
    assert good
    pseudo = frame[IP + 12 : TCP] + struct.pack(">HH", 6, len(frame) - TCP)
    assert ones(pseudo + whole[TCP:]) == 0
    seq = struct.unpack_from(">I", frame, TCP + 4)[0]
    data = frame[hdr_len:]
    out = [
        (seq + at & 0xFFFFFFFF, frame[TCP + 13], data[at : at + size])
        for at in range(0, len(data), size)
    ]
    return [(s, f if i + 1 == len(out) else f & ~PSH, d) for i, (s, f, d) in enumerate(out)]


@pytest.mark.parametrize("seed", range(20))
def test_merged_segments_are_the_same_stream(seed: int) -> None:
    """Whatever comes, in whatever order: split again, it is what came."""
    rng = random.Random(seed)
    merge, sent, seq, last = Merge(), [], rng.getrandbits(32), 1460
    merged = 0
    for i in range(400):
        more: dict[str, int] = {}
        size = rng.choice((1460, 1460, 1460, 1460, 1460, last, rng.randrange(0, 1461)))
        if rng.random() < 0.1:
            more = dict([rng.choice((("ack", 8), ("window", 9), ("sport", 81), ("ttl", 9),
                                     ("frag", 0x2000), ("src", 3)))])  # fmt: skip
        if rng.random() < 0.05:
            seq += rng.choice((-1, 1, 5000))
        flags = rng.choice((ACK,) * 12 + (ACK | PSH, ACK | 1, 2))
        options = rng.choice((b"",) * 9 + (b"\1\1\1\0",))
        last, data = size, rng.randbytes(size)
        frame = segment(data, seq, flags=flags, options=options, ident=i, **more)
        if size == 0 and rng.random() < 0.5:
            frame += bytes(6)  # padding of a short frame
        merged += merge.add(frame)
        sent.append((seq & 0xFFFFFFFF, frame, data))
        seq += size
    merge.end()
    at = 0
    for header, frame in merge.out:
        if header[1] == 0:
            assert header == bytes((DATA_VALID,)) + bytes(9)
            assert frame == sent[at][1]
            at += 1
            continue
        for number, flags, data in split(header, frame):
            was = sent[at]
            assert (number, data) == (was[0], was[2])
            assert flags == was[1][TCP + 13]
            # All else of the headers, but for lengths, sums and identification.
            for a, b in ((0, IP + 2), (IP + 6, IP + 10), (IP + 12, TCP + 4), (TCP + 8, TCP + 13),
                         (TCP + 14, TCP + 16), (TCP + 18, len(was[1]) - len(data))):  # fmt: skip
                assert frame[a:b] == was[1][a:b]
            at += 1
    assert at == len(sent)
    assert merged > 100


def test_a_stream_fills_a_packet() -> None:
    """As many segments as an IP packet holds; the next one begins another."""
    merge = Merge()
    for i in range(100):
        merge.add(segment(bytes(1460), 1460 * i))
    merge.end()
    assert [len(frame) for _, frame in merge.out] == [54 + 1460 * n for n in (44, 44, 12)]


def test_frames_that_are_no_segments() -> None:
    """Short, long and strange frames are never read beyond their ends."""
    rng = random.Random(3)
    merge = Merge()
    whole = segment(bytes(100), 0)
    frames = [whole[:n] for n in range(len(whole))] + [rng.randbytes(n) for n in range(100)]
    for frame in frames:
        merge.add(whole)
        copy = ffi.new("uint8_t[]", frame or b"\0")  # its own allocation: ASan sees the end
        if not lib.net_merge_add(merge.m, copy, len(frame)):
            assert lib.net_merge_start(merge.m, copy, len(frame))
        merge.end()
    big = ffi.new("uint8_t[]", 70000)
    assert not lib.net_merge_start(merge.m, big, 70000)
    assert lib.net_merge_start(merge.m, big, 65549)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (12, b"\x86\xdd"),
        (IP, b"\x46"),
        (IP + 2, b"\x00\x8d"),
        (IP + 6, b"\x20\x00"),
        (IP + 9, b"\x11"),
        (TCP + 12, b"\x40"),
        (TCP + 12, b"\xf0"),
        (TCP + 13, bytes((ACK | 2,))),
        (TCP + 13, bytes((ACK | 1,))),
    ],
)
def test_what_is_never_merged(at: int, value: bytes) -> None:
    """Two frames that are alike and follow each other, but are not two plain segments."""

    def frame(seq: int, change: bool) -> bytes:
        f = bytearray(segment(bytes(30), seq))
        if change:
            f[at : at + len(value)] = value
        return bytes(f)

    def merged(change: bool, step: int) -> bool:
        merge = Merge()
        merge.add(frame(1000, change))
        copy = ffi.new("uint8_t[]", frame(1000 + step, change) + bytes(64))
        return bool(lib.net_merge_add(merge.m, copy, TCP + 20 + 30))

    assert merged(False, 30)
    header = 4 * (value[0] >> 4) if at == TCP + 12 else 20
    assert not merged(True, 30 + 20 - header)


def test_checksum_of_a_driver() -> None:
    """Any start and offset within the frame, and none beyond it."""
    rng = random.Random(2)
    for _ in range(3000):
        frame = rng.randbytes(rng.randrange(14, 90))
        start, offset = rng.randrange(0, 100), rng.randrange(0, 100)
        header = struct.pack("<BBHHHH", NEEDS_CSUM, 0, 0, 0, start, offset)
        good, after = finish(header, frame)
        assert good == (start >= 14 and start + offset + 2 <= len(frame))
        if not good:
            assert after == frame
            continue
        at = start + offset
        want = ones(frame[start:]) or 0xFFFF
        assert after == frame[:at] + struct.pack(">H", want) + frame[at + 2 :]
    for start, offset in ((0xFFFF, 0xFFFF), (14, 0xFFFF), (0xFFFF, 0)):
        assert finish(struct.pack("<BBHHHH", 1, 0, 0, 0, start, offset), bytes(60)) == (
            False,
            bytes(60),
        )


@pytest.mark.parametrize("kind", range(256))
def test_segments_that_nobody_offered(kind: int) -> None:
    """Large segments are TCP over IPv4 with a checksum to fill in; anything else is refused."""
    for flags in (0, NEEDS_CSUM, DATA_VALID):
        header = struct.pack("<BBHHHH", flags, kind, 54, 1460, TCP, 16)
        want = kind & 0x7F == 0 if not flags & 1 else kind & 0x7F in (0, TCPV4)
        assert finish(header, bytes(3000))[0] == want


@pytest.fixture(params=[True, False], ids=["C", "Python"])
def path(request, monkeypatch):
    """Both data paths."""
    monkeypatch.setattr(VirtioNet, "fast", request.param)


class Wire(Backend):
    """A back end with offloads, whose other end the test holds."""

    header = HEADER
    offloads = F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_HOST_TSO4

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self.near, self.far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        self.near.setblocking(False)
        self.far.settimeout(5)
        self.fd = self.near.fileno()
        self.told: list[int] = []

    def offload(self, features: int) -> None:
        self.told.append(features)

    def close(self) -> None:
        self.near.close()
        self.far.close()


class Card:
    """A driver with both queues."""

    def __init__(self, kit, version: int, features: int) -> None:
        self.kit, self.wire = kit, Wire()
        self.device = VirtioNet(self.wire, MAC, None, GuestLog("net"))
        self.rx = kit.Driver(self.device, version)
        self.tx = self.rx.sibling(1)
        self.rx.start(features, 64, [self.tx])
        self.header = 12 if version == 2 or features & F_MRG_RXBUF else 10

    def send(self, header: bytes, frame: bytes) -> bytes:
        data = header.ljust(self.header, b"\0") + frame
        at = self.kit.BUF + 0x20000
        self.rx.memory.write(at, data)
        self.tx.chain((at, 5, False), (at + 5, len(data) - 5, False))
        self.tx.offer(0)
        self.tx.kick()
        assert [(0, 0)] == self.tx.used()
        return self.wire.far.recv(1 << 17)

    def give(self, count: int, size: int) -> list[int]:
        at = [self.kit.BUF + i * size for i in range(count)]
        for i, addr in enumerate(at):
            self.rx.desc(i, addr, size, self.kit.WRITE)
            self.rx.offer(i)
        self.rx.kick()
        return at


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("merging", [0, F_MRG_RXBUF])
def test_headers_pass_when_negotiated(kit, path, version: int, merging: int) -> None:
    """A driver's header goes along if it took CSUM; else one that asks for nothing."""
    header = struct.pack("<BBHHHH", NEEDS_CSUM, TCPV4, 54, 1460, TCP, 16)
    frame = segment(bytes(3000), 0)
    for taken in (0, F_CSUM | F_HOST_TSO4):
        card = Card(kit, version, taken | merging)
        assert card.send(header, frame) == (header if taken else bytes(10)) + frame
        card.rx.close()


def test_back_end_learns_what_the_driver_takes(kit, path) -> None:
    """Features count once the driver runs; merged segments want checksums; a reset ends both."""
    card = Card(kit, 2, F_GUEST_CSUM | F_GUEST_TSO4 | F_CSUM)
    card.give(1, 1 << 16)
    card.wire.far.send(bytes(10) + segment(b"", 0))
    card.rx.used()
    card.rx.w(0x070, 0)
    assert card.wire.told == [F_GUEST_CSUM | F_GUEST_TSO4 | F_CSUM, 0]
    card.rx.close()
    odd = Card(kit, 2, F_GUEST_TSO4)
    odd.give(1, 1 << 16)
    odd.wire.far.send(bytes(10) + segment(b"", 0))
    odd.rx.used()
    odd.rx.w(0x070, 0)
    assert odd.wire.told == []
    odd.rx.close()


@pytest.mark.parametrize("version", [1, 2])
def test_large_frames_arrive(kit, path, version: int) -> None:
    """A merged frame fills many buffers; its header says so, and how to cut it."""
    card = Card(kit, version, F_GUEST_CSUM | F_GUEST_TSO4 | F_MRG_RXBUF)
    at = card.give(50, 1600)
    header = struct.pack("<BBHHHH", NEEDS_CSUM, TCPV4, 54, 1460, TCP, 16)
    frame = random.Random(1).randbytes(60000)
    card.wire.far.send(header + frame)
    used = card.rx.used(38)
    assert sum(n for _, n in used) == 12 + len(frame)
    got = b"".join(card.rx.memory.read(at[i], n) for i, n in used)
    assert got == header + struct.pack("<H", len(used)) + frame
    card.rx.close()


@pytest.mark.parametrize(
    ("features", "header", "taken"),
    [
        (0, bytes(10), True),
        (0, bytes((DATA_VALID,)) + bytes(9), False),
        (F_GUEST_CSUM, bytes((DATA_VALID,)) + bytes(9), True),
        (F_GUEST_CSUM, struct.pack("<BBHHHH", 1, TCPV4, 54, 1460, TCP, 16), False),
        (F_GUEST_CSUM | F_GUEST_TSO4, struct.pack("<BBHHHH", 1, TCPV4, 54, 9, TCP, 16), True),
        (F_GUEST_CSUM | F_GUEST_TSO4, struct.pack("<BBHHHH", 1, 4, 54, 9, TCP, 16), False),
        (F_GUEST_TSO4, struct.pack("<BBHHHH", 1, TCPV4, 54, 9, TCP, 16), False),
    ],
)
def test_nothing_arrives_that_was_not_negotiated(
    kit, path, features: int, header: bytes, taken: bool
) -> None:
    """A frame that was under way when the driver changed its mind is lost, not misread."""
    card = Card(kit, 2, features | F_MRG_RXBUF)
    card.give(50, 1600)
    card.wire.far.send(header + segment(b"first", 0))
    card.wire.far.send(bytes(10) + segment(b"second", 0))
    used = card.rx.used(1 + taken)
    last = card.rx.memory.read(kit.BUF + 1600 * used[-1][0], used[-1][1])
    assert last[12:] == segment(b"second", 0)
    card.rx.settle()
    assert card.device.lost == (not taken)
    card.rx.close()
