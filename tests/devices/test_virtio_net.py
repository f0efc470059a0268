"""virtio-net: frames, mergeable buffers, configuration, hostile drivers; its back ends."""

from __future__ import annotations

import errno
import itertools
import os
import select
import socket
import struct
import time

import pytest

from bhyvepy.devices import registry, slots
from bhyvepy.devices.base import GuestLog
from bhyvepy.devices.netback import Backend, SlirpBackend, TapBackend, parse_forwards
from bhyvepy.devices.virtio.net import (
    F_MAC,
    F_MRG_RXBUF,
    F_MTU,
    F_STATUS,
    FRAME_MAX,
    NetOptions,
    VirtioNet,
    default_mac,
    parse_mac,
)
from bhyvepy.errors import DeviceError

MAC = bytes.fromhex("589cfc010203")


class Wire(Backend):
    """A back end whose other end the test holds."""

    def __init__(self, mtu=1500):
        self.mtu = mtu
        ours, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        self._ours = ours
        self.fd = ours.fileno()
        self.far.settimeout(5)
        self._events = os.pipe2(os.O_NONBLOCK)
        self.link_fd = self._events[0]

    def set_link(self, up):
        self._next = up
        os.write(self._events[1], b"x")

    def look(self):
        os.read(self._events[0], 1)
        before, self.link_up = self.link_up, self._next
        return before != self.link_up

    def close(self):
        self._ours.close()
        self.far.close()
        if self._events:
            for fd in self._events:
                os.close(fd)
            self._events = None


class Card:
    """A driver with both queues."""

    def __init__(self, kit, version, features=0, mtu=None, size=8):
        self.kit = kit
        self.wire = Wire(mtu or 1500)
        self.device = VirtioNet(self.wire, MAC, mtu, GuestLog("net"))
        self.rx = kit.Driver(self.device, version)
        self.tx = self.rx.sibling(1)
        self.memory = self.rx.memory
        self.features = features
        self.rx.start(features, size, [self.tx])
        self.header = 12 if version == 2 or features & F_MRG_RXBUF else 10

    def give(self, *sizes, head=0):
        """Offer receive chains, one a size; the address of each."""
        at = self.kit.BUF
        out = []
        for i, size in enumerate(sizes):
            self.memory.write(at, b"\xee" * size)
            self.rx.desc(head + i, at, size, self.kit.WRITE)
            self.rx.offer(head + i)
            out.append(at)
            at += size + 16
        self.rx.kick()
        return out

    def send(self, frame, header=None, cuts=()):
        """Let the driver send a frame, in pieces."""
        data = (bytes(self.header) if header is None else header) + frame
        at = self.kit.BUF + 0x20000
        self.memory.write(at, data)
        edges = [0, *cuts, len(data)]
        self.tx.chain(*((at + a, b - a, False) for a, b in itertools.pairwise(edges)))
        self.tx.offer(0)
        self.tx.kick()
        assert [(0, 0)] == self.tx.used()

    def close(self):
        self.rx.close()


@pytest.fixture(params=[True, False], ids=["C", "Python"])
def path(request, monkeypatch):
    """Both data paths."""
    monkeypatch.setattr(VirtioNet, "fast", request.param)
    return request.param


@pytest.fixture(params=[(1, 0), (1, F_MRG_RXBUF), (2, 0), (2, F_MRG_RXBUF)], ids=str)
def card(kit, request, path):
    """Both versions, with and without mergeable buffers."""
    it = Card(kit, *request.param)
    yield it
    it.close()


@pytest.fixture
def merging(kit, path):
    """Version 2 with mergeable buffers."""
    it = Card(kit, 2, F_MRG_RXBUF, size=16)
    yield it
    it.close()


def frame(n, fill=b"f"):
    """An Ethernet frame of n bytes."""
    return b"\xff" * 6 + MAC + b"\x08\x00" + fill * (n - 14)


# -- both directions --------------------------------------------------------------------


@pytest.mark.parametrize("length", [14, 60, 1514, 65535 + 18])
def test_send(card, length):
    """A frame of the driver's arrives without the header, whatever the header says."""
    card.send(frame(length), os.urandom(card.header))
    assert frame(length) == card.wire.far.recv(1 << 17)


def test_send_in_pieces(card):
    """Header and frame may be cut anywhere."""
    n = card.header
    for cuts in [(n,), (1,), (n - 1,), (n + 1,), (3, n - 1, n + 5), (2, 4, 6, 8, n, n + 14)]:
        card.send(frame(100), cuts=cuts)
        assert frame(100) == card.wire.far.recv(2000)


def test_receive(card):
    """A frame arrives behind a header of zeroes; num_buffers is 1 where it is there."""
    [at] = card.give(2000)
    card.wire.far.send(frame(777))
    assert [(0, card.header + 777)] == card.rx.used()
    got = card.memory.read(at, 2000)
    assert bytes(10) + b"\1\0"[: card.header - 10] == got[: card.header]
    assert frame(777) + b"\xee" * (2000 - 777 - card.header) == got[card.header :]


def test_receive_in_pieces(card):
    """The header may be in buffers of its own."""
    n = card.header
    for cuts in ((n, 1600), (1, n - 1, 1600), (n - 1, 1 + 1600), (n + 1, 13, 1600)):
        at = card.kit.BUF
        parts = []
        for size in cuts:
            parts.append((at, size, True))
            at += size + 32
        card.rx.chain(*parts)
        card.rx.offer(0)
        card.rx.kick()
        card.wire.far.send(frame(60, b"p"))
        assert [(0, n + 60)] == card.rx.used()
        got = b"".join(card.memory.read(a, length) for a, length, _ in parts)
        assert frame(60, b"p") == got[n : n + 60]


def test_order_is_kept(card):
    """Many frames come in the order in which they were sent, each whole."""
    for i in range(40):
        card.wire.far.send(frame(60 + i, bytes([i])))
    for i in range(40):
        [at] = card.give(1600, head=i % 8)
        assert [(i % 8, card.header + 60 + i)] == card.rx.used()
        assert frame(60 + i, bytes([i])) == card.memory.read(at + card.header, 60 + i)


def test_merged(merging):
    """A frame longer than a buffer goes into several, and the first says how many."""
    addrs = merging.give(*[256] * 8)
    merging.wire.far.send(frame(1000))
    used = merging.rx.used(4)
    assert [(0, 256), (1, 256), (2, 256), (3, 1000 + 12 - 768)] == used
    data = b"".join(merging.memory.read(a, 256) for a in addrs)
    assert bytes(10) + b"\4\0" == data[:12]
    assert frame(1000) == data[12:1012]
    # What was taken and not needed serves the next one.
    merging.give(*[256] * 8, head=8)
    merging.wire.far.send(frame(500, b"2"))
    assert [(4, 256), (5, 256)] == merging.rx.used(2)
    assert frame(500, b"2") == merging.memory.read(addrs[4] + 12, 244) + merging.memory.read(
        addrs[5], 256
    )


def test_merged_frame_appears_at_once(merging, monkeypatch):
    """The used index moves over all buffers of a frame in one step (5.1.6.4.2)."""
    monkeypatch.setattr(VirtioNet, "fast", False)  # in C it moves once a batch (test_virtnet.py)
    seen = []
    push = type(merging.rx.mmio.queues[0]).push_many

    def spy(queue, done):
        before = merging.rx.used_idx
        push(queue, done)
        seen.append((before, merging.rx.used_idx))

    monkeypatch.setattr(type(merging.rx.mmio.queues[0]), "push_many", spy)
    merging.give(*[256] * 8)
    merging.wire.far.send(frame(1000))
    merging.rx.used(4)
    assert [(0, 4)] == seen


# -- V03, V21, V25: buffers that are missing, small, or nonsense ----------------------------


def test_v03_flood_without_buffers(card):
    """V03: frames without buffers wait without CPU use; buffers get them going again."""
    sent = 0
    card.wire.far.setblocking(False)
    try:
        for i in range(10000):
            card.wire.far.send(frame(60, bytes([i & 0xFF])))
            sent += 1
    except BlockingIOError:
        pass
    assert sent > 10
    began = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - began < 0.1
    for i in range(sent):
        [at] = card.give(1600)
        assert [(0, card.header + 60)] == card.rx.used()
        assert bytes([i & 0xFF]) == card.memory.read(at + card.header + 20, 1)


@pytest.mark.parametrize("length", [1, 13])
def test_v25_runts_are_dropped(card, length):
    """V25: 1 or 13 bytes are no frame, in either direction; the buffers stay good."""
    card.give(1600)
    card.wire.far.send(b"x" * length)
    card.wire.far.send(frame(64))
    assert [(0, card.header + 64)] == card.rx.used()
    card.send(b"x" * length)
    card.send(frame(80))
    assert frame(80) == card.wire.far.recv(2000)
    card.rx.settle()
    assert 2 == card.device.lost


def test_v25_frame_before_kick(card):
    """V25: buffers that were offered without a notification are found."""
    card.rx.desc(0, card.kit.BUF, 1600, card.kit.WRITE)
    card.rx.offer(0)
    card.tx.kick()  # of the other queue
    card.wire.far.send(frame(60))
    assert [(0, card.header + 60)] == card.rx.used()


def test_too_long_is_dropped(card):
    """A frame that no buffer holds is lost, alone, and counted."""
    card.give(1600)
    card.wire.far.send(frame(4000))
    card.wire.far.send(frame(70))
    assert [(0, card.header + 70)] == card.rx.used()
    card.rx.settle()
    assert 1 == card.device.lost


def test_small_buffers_do_not_hang_the_queue(merging):
    """All of a queue together too small for the largest frame: smaller ones still come."""
    merging.give(*[32] * 16)
    merging.wire.far.send(frame(1500))  # 16 * 32 is less
    merging.wire.far.send(frame(60))
    assert [(0, 32), (1, 32), (2, 8)] == merging.rx.used(3)
    merging.rx.settle()
    assert 1 == merging.device.lost


@pytest.mark.parametrize("size", [0, 1, 9, 10])
def test_v26_buffer_without_room(card, size):
    """V26: a receive buffer of no more than the header is put back empty."""
    card.give(size, 1600)
    card.wire.far.send(frame(60))
    assert [(0, 0), (1, card.header + 60)] == card.rx.used(2)


def test_readable_receive_buffer(card):
    """A receive buffer that the device may only read is put back unused."""
    kit = card.kit
    card.memory.write(kit.BUF, b"q" * 2000)
    card.rx.desc(0, kit.BUF, 2000, 0)
    card.rx.offer(0)
    card.rx.kick()
    assert [(0, 0)] == card.rx.used()
    assert b"q" * 2000 == card.memory.read(kit.BUF, 2000)


def test_v21_receive_buffer_outside_of_ram(card):
    """V21, V23: buffers in MMIO, in a hole or across RAM's end get nothing."""
    kit = card.kit
    for addr in (0x6000, 0x2F000000, kit.HOLE - 16, kit.HOLE, (1 << 64) - 16):
        card.rx.desc(0, addr, 1600, kit.WRITE)
        card.rx.offer(0)
        card.rx.kick()
        assert [(0, 0)] == card.rx.used()
    card.give(1600)
    card.wire.far.send(frame(60))
    assert [(0, card.header + 60)] == card.rx.used()


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 12])
def test_f05_v22_short_headers(card, length):
    """F05, V22, V26: a chain shorter than a header and a frame is put back, nothing is sent."""
    card.send(b"", bytes(length)) if length else card.send(b"", b"")
    card.send(frame(60))
    assert frame(60) == card.wire.far.recv(2000)


def test_f09_header_fields_mean_nothing(card):
    """F05, F09: offload fields that were not negotiated are not looked at."""
    for text in ("ff" * 10, "01ff" + "ffff" * 4, "0101" + "0000" * 4, "03" + "ffff" * 4 + "00"):
        header = (bytes.fromhex(text) + bytes(12))[: card.header]
        card.send(frame(60), header)
        assert frame(60) == card.wire.far.recv(2000)


def test_oversized(card):
    """A frame beyond 64 KiB is lost, and none of it goes out."""
    kit = card.kit
    card.tx.chain(*((kit.BUF, 0x10000, False) for _ in range(8)))
    card.tx.offer(0)
    card.tx.kick()
    assert [(0, 0)] == card.tx.used()
    card.send(frame(60))
    assert frame(60) == card.wire.far.recv(2000)
    card.rx.settle()
    assert 1 == card.device.lost


def test_f19_four_gigabytes(card):
    """F19: descriptors that alias one page for gigabytes cost nothing."""
    kit = card.kit
    parts = [(kit.BUF, 0xF0000, False)] * 8
    for _ in range(200):
        card.tx.chain(*parts)
        card.tx.offer(0)
        card.tx.kick()
        assert [(0, 0)] == card.tx.used()
    card.rx.settle()
    assert 200 == card.device.lost


def test_full_network_loses_frames(card):
    """A network that takes nothing costs frames, not the guest's progress."""
    for _ in range(3000):
        card.tx.chain((card.kit.BUF, 1514 + card.header, False))
        card.tx.offer(0)
        card.tx.kick()
        card.tx.used()
        if card.device.lost > 3:
            break
    assert card.device.lost > 3


# -- reset, state, configuration ------------------------------------------------------------


def test_reset_gives_taken_buffers_up(card):
    """V17, 4.1: after a reset no frame goes into buffers of before."""
    addrs = card.give(1600, 1600, 1600)
    card.rx.settle()
    card.rx.w(0x070, 0)
    before = [card.memory.read(a, 1600) for a in addrs]
    card.wire.far.send(frame(60))
    time.sleep(0.05)
    assert before == [card.memory.read(a, 1600) for a in addrs]
    card.rx.start(card.features, 8, [card.tx])
    card.give(1600)
    assert [(0, card.header + 60)] == card.rx.used()


def test_nobody_there_costs_nothing(kit):
    """Frames for a card without a driver do not keep its thread busy."""
    card = Card(kit, 2)
    card.give(1600)
    card.wire.far.send(frame(60))
    card.rx.used()
    card.rx.w(0x070, 0)
    card.wire.far.send(frame(60))
    time.sleep(0.05)
    began = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - began < 0.1
    card.close()


def test_broken_ring_costs_nothing(card):
    """V17: after a ring was broken, frames that come do not keep the thread busy."""
    card.rx.avail_idx = 0x4000
    card.rx.kick()
    end = time.monotonic() + 5
    while not card.rx.r(0x070) & 0x40:
        assert time.monotonic() < end
    card.wire.far.send(frame(60))
    time.sleep(0.05)
    began = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - began < 0.1
    card.rx.start(card.features, 8, [card.tx])
    card.give(1600)
    assert [(0, card.header + 60)] == card.rx.used()


def test_save_and_load(kit):
    """V09: buffers that were taken before the state was saved serve afterwards."""
    card = Card(kit, 2, F_MRG_RXBUF)
    addrs = card.give(1600, 1600)
    card.rx.settle()
    state = card.rx.mmio.save()
    other = Card(kit, 2, F_MRG_RXBUF)
    for at, data in card.memory.parts:
        other.memory.write(at, bytes(data))
    other.rx.mmio.load(state)
    for text in (b"1", b"2"):
        other.wire.far.send(frame(60, text))
    assert [(0, 72), (1, 72)] == other.rx.used(2)
    assert frame(60, b"2") == other.memory.read(addrs[1] + 12, 60)
    card.close()
    other.close()


def test_config_space(kit):
    """MAC, link status, one pair of queues, MTU; MTU is offered when it was given."""
    for mtu in (None, 9000):
        card = Card(kit, 2, mtu=mtu)
        got = bytes(card.rx.mmio.read(0x100 + i, 1) for i in range(16))
        assert MAC + struct.pack("<HHH", 1, 1, mtu or 1500) + bytes(4) == got
        want = F_MAC | F_STATUS | F_MRG_RXBUF | (F_MTU if mtu else 0)
        assert want == card.device.features
        card.close()


def test_link_status(card):
    """A link that goes down is in the status, with a configuration interrupt; and up again."""
    for up in (False, True):
        rises, generation = card.rx.irq.rises, card.rx.r(0xFC)
        card.wire.set_link(up)
        end = time.monotonic() + 5
        while not card.rx.r(0x060) & 2:
            assert time.monotonic() < end
        assert up == card.rx.mmio.read(0x106, 2)
        assert rises + 1 == card.rx.irq.rises
        if card.rx.version == 2:
            assert generation != card.rx.r(0xFC)
        card.rx.w(0x064, 3)


def test_mac_of_legacy_drivers(kit):
    """Legacy drivers may set the MAC; a reset brings the card's own back. Others may not."""
    for version, writable in ((1, True), (2, False)):
        card = Card(kit, version)
        for i in range(6):
            card.rx.mmio.write(0x100 + i, 1, 2 + i)
        assert (bytes(range(2, 8)) if writable else MAC) == card.device.mac
        card.rx.mmio.write(0x104, 4, 0xFFFFFFFF)  # across the end: not a field
        card.rx.w(0x070, 0)
        assert MAC == card.device.mac
        card.close()


# -- options ----------------------------------------------------------------------------------


def test_options():
    """bhyve's forms of the back end, and options without one."""
    for text, backend, rest in (
        ("3,virtio-net", None, {}),
        ("3,virtio-net,tap0", "tap0", {}),
        ("0x200@0x6000#43:virtio-net,tap0", "tap0", {}),
        ("3,virtio-net,slirp,hostfwd=tcp:127.0.0.1:2222-:22", "slirp",
         {"hostfwd": "tcp:127.0.0.1:2222-:22"}),
        ("3,virtio-net,mac=02:00:00:00:00:01,mtu=9000", None,
         {"mac": "02:00:00:00:00:01", "mtu": "9000"}),
    ):  # fmt: skip
        spec = slots.parse(text)
        want = dict(rest) if backend is None else {"backend": backend, **rest}
        assert want == dict(spec.options)
        assert (backend or "slirp") == NetOptions.parse(spec.options).backend


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mac": "58:9c:fc"}, "not of the form"),
        ({"mac": "58:9c:fc:00:00:0g"}, "not of the form"),
        ({"mac": "58:9c:fc:00:00:+1"}, "not of the form"),
        ({"mac": "01:00:5e:00:00:01"}, "not a unicast"),
        ({"mac": "00:00:00:00:00:00"}, "not a unicast"),
        ({"mtu": "67"}, "68 to 65535"),
        ({"mtu": "65536"}, "68 to 65535"),
        ({"mtu": "1e3"}, "68 to 65535"),
        ({"mtu": "-1"}, "68 to 65535"),
        ({"colour": "red"}, "no option 'colour'"),
        ({"backend": "tap0", "hostfwd": "x"}, "belongs to the slirp"),
        ({"backend": "nosuchtap9"}, "no such interface"),
        ({"backend": "a" * 16}, "up to 15 characters"),
        ({"backend": "../../etc"}, "up to 15 characters"),
        ({"backend": "lo"}, "not a tap"),
        ({"backend": "netgraph"}, "FreeBSD's"),
        ({"backend": "vale0:1"}, "FreeBSD's"),
        ({"hostfwd": "22-22"}, "tcp|udp:hostaddr"),
        ({"hostfwd": "tcp:127.0.0.1:0-:22"}, "tcp|udp:hostaddr"),
        ({"hostfwd": "tcp:127.0.0.1:65536-:22"}, "tcp|udp:hostaddr"),
        ({"hostfwd": "tcp:nohost:22-:22"}, "tcp|udp:hostaddr"),
        ({"hostfwd": "sctp::22-:22"}, "tcp|udp:hostaddr"),
        ({"open": "maybe"}, "true or false"),
    ],
    ids=str,
)
def test_bad_options(kit, options, words):
    """Each is one line that says what is wrong."""
    with pytest.raises(DeviceError) as caught:
        registry.create("virtio-net", options, kit.make_env().env)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mac_forms():
    """Digits may be single; the default is FreeBSD's OUI and stays the same."""
    assert bytes.fromhex("020304050607") == parse_mac("2:3:4:5:6:7")
    assert default_mac("virtio-net0", "vm") == default_mac("virtio-net0", "vm")
    assert default_mac("virtio-net0", "vm") != default_mac("virtio-net0", "other")
    assert bytes.fromhex("589cfc") == default_mac("virtio-net0", "vm")[:3]


def test_forwards():
    """Several are divided by semicolons; addresses may be left out."""
    a, b = parse_forwards("tcp:127.0.0.1:2222-:22;udp::53-10.0.2.99:5353")
    assert (False, "127.0.0.1", 2222, "10.0.2.15", 22) == (
        a.udp, str(a.host), a.host_port, str(a.guest), a.guest_port
    )  # fmt: skip
    assert (True, "0.0.0.0", 53, "10.0.2.99", 5353) == (
        b.udp, str(b.host), b.host_port, str(b.guest), b.guest_port
    )  # fmt: skip


# -- user-mode networking, without a guest ----------------------------------------------------


def test_missing_library():
    """One line that names the Debian package."""
    with pytest.raises(DeviceError, match=r"apt-get install libslirp0"):
        SlirpBackend({}, None, "libnosuchslirp.so.0")
    with pytest.raises(DeviceError, match=r"not a libslirp"):
        SlirpBackend({}, None, "libm.so.6")


def test_forward_to_a_taken_port():
    """A port of the host that is in use is one line, and nothing stays behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError, match=rf"hostfwd=tcp:127.0.0.1:{port}: .*in use"):
            SlirpBackend({"hostfwd": f"tcp:127.0.0.1:{port}-:22"}, None)


def test_slirp_answers():
    """The stack answers ARP for the host, and survives noise."""
    back = SlirpBackend({}, None)
    try:
        for n in (0, 1, 13, 14, 60, 1514, FRAME_MAX):
            back.send([memoryview(os.urandom(n))])
            back.send([memoryview(bytes(10) + os.urandom(n))])
        ask = struct.pack(">HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, MAC,
                          socket.inet_aton("10.0.2.15"), bytes(6),
                          socket.inet_aton("10.0.2.2"))  # fmt: skip
        assert back.send([memoryview(bytes(10) + b"\xff" * 6 + MAC + b"\x08\x06" + ask)])
        while True:
            assert select.select([back.fd], [], [], 5)[0]
            got = os.read(back.fd, 70000)[10:]
            if got[12:14] == b"\x08\x06":
                break
        assert MAC == got[:6]
        assert socket.inet_aton("10.0.2.2") == got[28:32]
    finally:
        back.close()
        back.close()


def test_tap_of_nobody():
    """Without /dev/net/tun or the interface there is one line; no descriptor is left."""
    fds = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DeviceError, match="ip tuntap add"):
        TapBackend("nosuch0", None)
    assert fds == len(os.listdir("/proc/self/fd"))


def test_host_errors_lose_frames_only(card, monkeypatch):
    """An interface that is down (EIO) loses frames; the device goes on."""

    def down(fd, views):
        raise OSError(errno.EIO, "down")

    monkeypatch.setattr(VirtioNet, "fast", False)
    monkeypatch.setattr(os, "writev", down)
    card.send(frame(60))
    monkeypatch.undo()
    card.send(frame(61))
    assert frame(61) == card.wire.far.recv(2000)
    card.rx.settle()
    assert 1 == card.device.lost
