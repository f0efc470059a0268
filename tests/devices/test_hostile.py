"""What guests did to other machine monitors, tried on ours, by the ids of reliability.md.

The rest of its list is where it belongs: the tests of each device. That every id has a test
is checked by tests/style/test_reliability.py.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
import threading
import time

import pytest

from bhyvepy.devices.base import GuestLog
from bhyvepy.devices.endpoint import FdEndpoint
from bhyvepy.devices.netback import Backend
from bhyvepy.devices.virtio.blk import BlkOptions, VirtioBlk
from bhyvepy.devices.virtio.console import VirtioConsole
from bhyvepy.devices.virtio.device import VirtioDevice
from bhyvepy.devices.virtio.net import VirtioNet
from bhyvepy.devices.virtio.rnd import MAX_REQUEST, VirtioRnd

NEXT, WRITE = 1, 2
FILL = 0xEE
PACKED = 1 << 34
# Virtio 1.2, 5.1.3: all that needs the control queue.
NET_MORE = sum(1 << bit for bit in (2, *range(17, 25)))


class Fill(VirtioDevice):
    """Fills what is writable; may take its time."""

    kind = "fill"
    device_id = 61
    queue_sizes = (8, 8)

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.calls = 0

    def handle(self, index, chain):
        self.calls += 1
        if self.seconds:
            time.sleep(self.seconds)
        n = 0
        for view in chain.writable:
            view[:] = bytes((FILL,)) * len(view)
            n += len(view)
        return n


@pytest.fixture(params=[1, 2])
def drv(kit, request):
    """A running device in both versions."""
    d = kit.Driver(Fill(), version=request.param)
    d.start(kit.INDIRECT_DESC)
    yield d
    d.close()


@pytest.fixture
def two(kit):
    """The same, version 2 only."""
    d = kit.Driver(Fill()).start(kit.INDIRECT_DESC)
    yield d
    d.close()


class NoNet(Backend):
    """A network of nobody."""

    def __init__(self):
        self.fd, self._far = os.pipe2(os.O_NONBLOCK)
        self.mtu = 1500

    def close(self):
        os.close(self.fd)
        os.close(self._far)


def _everything(tmp_path):
    """One of each type."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(8192))
    net = VirtioNet(NoNet(), bytes(6), None, GuestLog("net"))
    ours, _ = socket.socketpair()
    con = VirtioConsole([("a", FdEndpoint(ours))], GuestLog("con"))
    return [VirtioBlk(BlkOptions(str(image))), VirtioRnd(), net, con]


# -- the transport ----------------------------------------------------------------------------


@pytest.mark.parametrize("queue", [2, 3, 0xFFFF, 0x10000, 0xFFFFFFFF])
def test_f04_notifications_of_no_queue(kit, drv, queue):
    """F04: a notification's queue number is looked at before it is used."""
    drv.kick(queue)
    drv.settle()
    assert drv.device.calls == 0
    assert drv.kit.fatal == []
    assert drv.run((kit.BUF, 4, True)) == 4


def test_v01_everything_rewritten_while_live(kit, two):
    """V01: all settings written behind DRIVER_OK leave the queues as they were."""
    for sel in (0, 1, 2, 0xFFFFFFFF):
        two.w(0x030, sel)
        for offset in (0x038, 0x080, 0x084, 0x090, 0x094, 0x0A0, 0x0A4, 0x020):
            for value in (0, 1, 3, 0x8000, 0xFFFFFFFF):
                two.w(offset, value)
    two.w(0x030, 0)
    two.w(0x044, 1)
    for status in (1, 3, 11, 7, 0xF):
        two.w(0x070, status)
    assert two.r(0x070) == 15
    assert two.r(0x044) == 1
    for _ in range(20):
        assert two.run((kit.BUF, 4, True)) == 4


@pytest.mark.parametrize(
    ("base", "length", "good"),
    [
        ("end", 16, True),
        ("end", 17, False),
        ("seam", 32, False),
        ("start", 16, True),
        ("below", 16, False),
        ("wrap", 16, False),
        ("all", 0xFFFFFFFF, False),
    ],
)
def test_v02_buffers_at_the_edges_of_ram(kit, drv, base, length, good):
    """V02, V18: a buffer ends with RAM's last byte at most, and starts with the first."""
    address = {
        "end": kit.HOLE - 16,
        "seam": kit.HOLE - 16,
        "start": kit.RAM,
        "below": kit.RAM - 1,
        "wrap": (1 << 64) - 8,
        "all": kit.RAM,
    }[base]
    assert drv.run((address, length, True)) == (length if good else 0)
    assert drv.run((kit.BUF, 4, True)) == 4


def test_v05_aliased_gigabytes(kit):
    """V05: chains that name one page for gigabytes cost neither memory nor time."""
    d = kit.Driver(VirtioRnd()).start()
    began = time.monotonic()
    for i in range(8):
        d.desc(i, kit.BUF, 0xF0000, WRITE | (NEXT if i < 7 else 0), i + 1)
    for _ in range(8):
        d.offer(0)
    d.kick()
    assert d.used(8) == [(0, MAX_REQUEST)] * 8
    assert time.monotonic() - began < 2
    d.close()


def test_v06_failed_is_the_end(kit, two):
    """V06: behind FAILED nothing but a reset is taken; a start without one is refused."""
    two.w(0x070, 15 | 128)
    assert two.r(0x070) == 15 | 128
    for status in (1, 3, 11, 15):
        two.w(0x070, status)
        assert two.r(0x070) == 15 | 128
    two.chain((kit.BUF, 4, True))
    two.offer(0)
    two.kick()
    two.settle()
    assert two.device.calls == 0
    assert two.start().run((kit.BUF, 4, True)) == 4


def test_v06_a_start_without_a_reset(kit, two):
    """V06: the bits of a running device are not walked through again."""
    for status in (1, 3, 11):
        two.w(0x070, status)
        assert two.r(0x070) == 15
    assert two.run((kit.BUF, 4, True)) == 4


def test_v16_no_control_queue(kit, tmp_path):
    """V16: what needs a control queue or more queues is not offered, and cannot be taken."""
    blk, rnd, net, con = _everything(tmp_path)
    assert net.features & NET_MORE == 0
    d = kit.Driver(net)
    d.negotiate(1 << 22)
    assert d.r(0x070) == 3
    d.negotiate()
    for queue in (2, 3, 0x8000):
        d.w(0x030, queue)
        assert d.r(0x034) == 0
    d.close()
    for other in (blk, rnd, con):
        other.close()


def test_v19_no_packed_ring(kit, tmp_path):
    """V19: the packed ring is not offered by any device, and refused when it is taken."""
    for device in _everything(tmp_path):
        assert device.features & PACKED == 0
        d = kit.Driver(device)
        d.w(0x014, 1)
        assert d.r(0x010) & PACKED >> 32 == 0
        d.negotiate(PACKED)
        assert d.r(0x070) == 3
        d.close()


def test_v20_results_that_nobody_reads(kit, drv):
    """V20: a driver that never looks at the used ring is served as before."""
    drv.chain((kit.BUF, 4, True))
    for _ in range(500):
        before = drv.used_idx
        for _ in range(8):
            drv.offer(0)
        drv.kick()
        drv.seen = before
        drv.used(8)
    assert drv.device.calls == 4000
    assert drv.r(0x060) == 1


def test_v20_nothing_but_empty_buffers(kit, drv):
    """V20: chains of empty buffers alone come back empty, one after the other."""
    drv.chain(*[(0, 0, True)] * 8)
    for _ in range(8):
        drv.offer(0)
    drv.kick()
    assert drv.used(8) == [(0, 0)] * 8


@pytest.mark.parametrize("where", ["own", "gic", "uart", "hole"])
def test_v23_dma_goes_to_ram_alone(kit, drv, where):
    """V23: a buffer in a device's registers, its own among them, is refused."""
    at = {"own": 0xA0000, "gic": 0x2F000000, "uart": 0x10000, "hole": kit.HOLE}[where]
    assert drv.run((at, 4, True)) == 0
    assert drv.run((at, 4, False), (kit.BUF, 4, True)) == 0
    assert drv.device.calls == 0


def test_v24_length_is_what_was_written(kit, tmp_path):
    """V24, F14: used.len never counts bytes that the device did not write."""
    blk, rnd, net, con = _everything(tmp_path)
    for other in (net, con, rnd):
        other.close()
    d = kit.Driver(blk).start()
    data, status = kit.BUF + 0x1000, kit.BUF + 0x800
    cases = [(0, 0, 1024), (0, 99, 512), (0, 0, 100), (8, 0, 64), (4, 0, 64), (99, 0, 64)]
    for kind, sector, room in cases:
        d.memory.write(kit.BUF, struct.pack("<IIQ", kind, 0, sector))
        d.memory.write(status, b"\xcc")
        d.memory.write(data, b"\xcc" * room)
        n = d.run((kit.BUF, 16, False), (data, room, True), (status, 1, True))
        written = room - d.memory.read(data, room).count(0xCC)
        assert n == written + 1, (kind, sector, room)
    d.close()


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17])
def test_v26_headers_of_every_length(kit, tmp_path, length):
    """V26: a request header that is short is an error, and one that is long has data in it."""
    blk, *others = _everything(tmp_path)
    for other in others:
        other.close()
    d = kit.Driver(blk).start()
    d.memory.write(kit.BUF, struct.pack("<IIQ", 4, 0, 0) + bytes(16))
    assert d.run((kit.BUF, length, False), (kit.BUF + 0x100, 1, True)) == 1
    assert d.memory.read(kit.BUF + 0x100, 1) == (b"\0" if length >= 16 else b"\1")
    d.close()


@pytest.mark.parametrize("jump", [9, 8 + 32768, 65535], ids=["size+1", "far", "backwards"])
def test_v17_v27_a_broken_ring_rests(kit, drv, jump):
    """V17, V27: behind an index that makes no sense the device sleeps until it is reset."""
    idx = drv.avail_idx = jump
    drv.kick()
    drv.settle()
    assert drv.r(0x070) & 0x40
    began = time.process_time()
    for _ in range(20):
        drv.kick()
        time.sleep(0.005)
    assert time.process_time() - began < 0.08
    assert (drv.used_idx, drv.avail_idx, drv.device.calls) == (0, idx, 0)
    assert drv.start().run((kit.BUF, 4, True)) == 4


def test_v30_state_of_another_device(kit, tmp_path):
    """V30: a saved state that does not fit is refused in one line, and nothing is loaded."""
    d = kit.Driver(Fill())
    state = d.mmio.save()
    for change in ({"version": 1}, {"queues": state["queues"][:1]}, {"queues": []}):
        with pytest.raises(Exception, match="another device"):
            d.mmio.load(state | change)
    bad = [q | {"num": 0xFFFF, "ready": True} for q in state["queues"]]
    d.mmio.load(state | {"queues": bad})
    assert d.r(0x044) == 0
    assert d.start().run((kit.BUF, 4, True)) == 4
    d.close()


def test_v31_a_flood_of_bad_chains(drv, caplog):
    """V31: ten thousand bad chains of two kinds are no more than two lines."""
    for _ in range(1250):
        drv.desc(0, 0, 4, WRITE)
        drv.desc(1, drv.desc_at, 4, NEXT, 0xFFFF)
        for head in (0, 1) * 4:
            drv.offer(head)
        drv.kick()
        assert drv.used(8) == [(0, 0), (1, 0)] * 4
    assert len(caplog.records) <= 2


# -- rings, 4.1 -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["before DRIVER_OK", "after reset", "queue not ready"])
def test_ring_kicks_at_the_wrong_time(kit, two, state):
    """A kick before DRIVER_OK, after a reset, or for a queue that is not ready does nothing."""
    two.chain((kit.BUF, 4, True))
    two.offer(0)
    two.w(0x070, 0)
    if state == "before DRIVER_OK":
        two.negotiate()
        two.w(0x044, 1)
    elif state == "queue not ready":
        two.negotiate()
        two.w(0x070, 15)
        two.kick(1)
    for _ in range(100):
        two.kick()
    two.settle()
    assert (two.device.calls, two.used_idx) == (0, 0)
    assert not two.irq.level


@pytest.mark.parametrize("flags", [2, 0x8000, 0xFFFE])
def test_ring_flags_of_the_future(kit, drv, flags):
    """Bits of avail.flags other than the first mean nothing."""
    drv.memory.write(drv.avail_at, struct.pack("<H", flags))
    assert drv.run((kit.BUF, 4, True)) == 4
    drv.settle()
    assert drv.irq.level


@pytest.mark.parametrize("event", [5, 0x8000, 0xFFFF])
def test_ring_used_event_far_away(kit, event):
    """An interrupt comes when the index crosses used_event, not when that is anywhere else."""
    d = kit.Driver(Fill()).start(kit.EVENT_IDX)
    d.memory.write(d.avail_at + 4 + 2 * 8, struct.pack("<H", event))
    for n in range(1, 8):
        d.run((kit.BUF, 4, True))
        d.settle()
        assert d.irq.level == (event < n), n
    d.close()


def test_ring_used_ring_belongs_to_the_device(kit, drv):
    """What the driver writes into the used ring is not read back: the next entry is right."""
    drv.run((kit.BUF, 4, True))
    drv.memory.write(drv.used_at, b"\xff" * (4 + 8 * 8))
    drv.offer(0)
    drv.kick()
    end = time.monotonic() + 5
    while drv.used_idx != 2:
        assert time.monotonic() < end
    assert drv.memory.read(drv.used_at + 4 + 8, 8) == struct.pack("<II", 0, 4)


def test_ring_full_of_one_head(kit, drv):
    """A ring full of one head is as many requests."""
    drv.chain((kit.BUF, 4, True))
    for _ in range(8):
        drv.offer(0)
    drv.kick()
    assert drv.used(8) == [(0, 4)] * 8


def test_ring_descriptors_changed_in_flight(kit):
    """A descriptor that changes while its request is served changes nothing about it."""
    d = kit.Driver(Fill(0.1)).start()
    d.chain((kit.BUF, 16, True))
    d.offer(0)
    d.kick()
    end = time.monotonic() + 5
    while not d.device.calls:
        assert time.monotonic() < end
    d.desc(0, kit.BUF + 0x1000, 4096, WRITE)
    assert d.used() == [(0, 16)]
    assert d.memory.read(kit.BUF, 17) == bytes((FILL,)) * 16 + b"\0"
    assert d.memory.read(kit.BUF + 0x1000, 16) == bytes(16)
    d.close()


def test_status_reset_with_a_slow_disk(kit):
    """A reset waits for the request in flight and for no other."""
    d = kit.Driver(Fill(0.2)).start()
    d.chain((kit.BUF, 16, True))
    for _ in range(8):
        d.offer(0)
    d.kick()
    time.sleep(0.05)
    began = time.monotonic()
    d.w(0x070, 0)
    assert time.monotonic() - began < 1
    calls = d.device.calls
    assert calls <= 2
    time.sleep(0.3)
    assert d.device.calls == calls
    d.close()


def test_rng_host_without_entropy(kit, monkeypatch):
    """A host that gives no entropy is reported; no buffer is passed off as random."""

    def broken(n):
        raise OSError(5, "Input/output error")

    d = kit.Driver(VirtioRnd()).start()
    with monkeypatch.context() as m:
        m.setattr(os, "urandom", broken)
        d.chain((kit.BUF, 16, True))
        d.offer(0)
        d.kick()
        d.settle()
    assert d.used_idx == 0 or d.used() == [(0, 0)]
    assert d.memory.read(kit.BUF, 16) == bytes(16)
    assert d.start().run((kit.BUF, 16, True)) == 16
    d.close()


# -- F16: somebody else writes to the rings -----------------------------------------------------


class SharedMemory:
    """RAM that another process can write to, as another vCPU does."""

    def __init__(self, kit):
        self.inner = kit.Memory()
        base, data = self.inner.parts[0]
        self.map = mmap.mmap(-1, len(data))
        self.inner.parts[0] = (base, self.map)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def _flipper(memory, base, places):
    """A process that writes one value and the other into each place until it is killed."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, signal.SIG_DFL)
        ram = memory.map
        parts = [(at - base, at - base + len(a), a, b) for at, a, b in places]
        while os.getppid() != 1:
            for _ in range(1000):
                for lo, hi, a, b in parts:
                    ram[lo:hi] = b
                    ram[lo:hi] = a
    finally:
        os._exit(0)


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize(
    "field", ["length", "flags", "address", "next", "everything"], ids=lambda f: f
)
def test_f16_descriptors_that_change_while_they_are_read(kit, field, indirect):
    """F16: used.len says what was written, whoever flips descriptors meanwhile."""
    _flip(kit, field, indirect, 0.3)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_f16_for_a_minute(kit):
    """F16: the same for sixty seconds."""
    for field in ("length", "flags", "address", "everything"):
        _flip(kit, field, field == "flags", 15)


def _flip(kit, field, indirect, seconds):
    memory = SharedMemory(kit)
    d = kit.Driver(Fill(), memory=memory)
    d.start(kit.INDIRECT_DESC)
    table = kit.BUF + 0x2000 if indirect else d.desc_at
    room = 0x200
    buffers = [kit.BUF + i * 2 * room for i in range(2)]
    one = struct.pack("<QIHH", buffers[0], 16, WRITE | NEXT, 1)
    two = struct.pack("<QIHH", buffers[1], 16, WRITE, 0)
    places = {
        "length": [(table + 8, struct.pack("<I", 16), struct.pack("<I", room))],
        "flags": [(table + 12, struct.pack("<H", 3), struct.pack("<H", 1))],
        "address": [(table, one[:8], struct.pack("<Q", kit.HOLE - 8))],  # broken, or good
        "next": [(table + 14, struct.pack("<H", 1), struct.pack("<H", 0xFFFF))],
        "everything": [
            (table, one, b"\xff" * 16),
            (table, one, struct.pack("<QIHH", buffers[0], room, WRITE, 0)),
            (table + 16, two, struct.pack("<QIHH", buffers[1], room, WRITE | NEXT, 0)),
        ],
    }[field]
    d.memory.write(table, one + two)
    if indirect:
        d.desc(7, table, 32, kit.INDIRECT)
    child = _flipper(memory, kit.RAM, places)
    rounds = 0
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for at in buffers:
                memory.write(at, bytes(room))
            d.offer(7 if indirect else 0)
            d.kick()
            [(head, length)] = d.used()
            assert head == (7 if indirect else 0)
            written = sum(memory.read(at, room).count(FILL) for at in buffers)
            # A loop that ends because it is flipped writes to the same buffer twice.
            assert written <= length if field == "everything" else written == length
            rounds += 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert d.kit.fatal == []
    assert d.r(0x070) == 15
    assert rounds > 50
    d.start()
    assert d.run((kit.BUF, 4, True)) == 4
    d.close()


def test_v12_complaints_under_a_storm_of_signals(caplog):
    """V12: a signal handler that runs in the middle of a complaint may complain itself."""
    log = GuestLog("dev", interval=0)
    hits = []

    def handler(number, frame):
        hits.append(number)
        log.complain("from the handler")

    old = signal.signal(signal.SIGALRM, handler)
    done = threading.Event()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            log.complain("from the device")
        done.set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert done.is_set()
    assert len(hits) > 20
