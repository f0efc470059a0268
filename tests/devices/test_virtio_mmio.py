"""The virtio-mmio transport: registers, status machine, reset, state."""

from __future__ import annotations

import threading
import time

import pytest

from bhyvepy.devices.virtio.device import VirtioDevice
from bhyvepy.devices.virtio.rnd import MAX_REQUEST, VirtioRnd

MAGIC = 0x74726976


class Slow(VirtioDevice):
    """Holds each request until it is let go; has a configuration space."""

    kind = "slow"
    device_id = 62
    queue_sizes = (8,)
    features = 1 << 5

    def __init__(self):
        self.go = threading.Event()
        self.entered = threading.Event()
        self.cfg = bytearray(range(1, 13))
        self.resets = 0

    def handle(self, index, chain):
        self.entered.set()
        self.go.wait(5)
        for view in chain.writable:
            view[:] = b"\xaa" * len(view)
        return 4

    def config(self):
        return bytes(self.cfg)

    def config_write(self, offset, size, value):
        if offset + size <= len(self.cfg):
            self.cfg[offset : offset + size] = value.to_bytes(size, "little")

    def reset(self):
        self.resets += 1


@pytest.fixture(params=[1, 2])
def drv(kit, request):
    """A device that nobody has touched yet, in both versions."""
    d = kit.Driver(Slow(), version=request.param)
    d.device.go.set()
    yield d
    d.close()


@pytest.fixture
def two(kit):
    """The same, version 2 only."""
    d = kit.Driver(Slow())
    d.device.go.set()
    yield d
    d.close()


def test_identity(drv):
    """Magic, version, device id and vendor can be read at any time."""
    assert (drv.r(0), drv.r(4), drv.r(8), drv.r(12)) == (MAGIC, drv.version, 62, 0x1AF4)


def test_offered_features(drv):
    """Features come in two words; version 2 offers VERSION_1, version 1 does not."""
    drv.w(0x14, 0)
    low = drv.r(0x10)
    assert low & (1 << 5 | 1 << 28 | 1 << 29) == 1 << 5 | 1 << 28 | 1 << 29
    drv.w(0x14, 1)
    assert drv.r(0x10) == (1 if drv.version == 2 else 0)
    for sel in (2, 31, 0xFFFFFFFF):
        drv.w(0x14, sel)
        assert drv.r(0x10) == 0


@pytest.mark.parametrize("size", [1, 2, 8])
def test_registers_are_32_bit(drv, size):
    """Control registers ignore accesses of other sizes."""
    for offset in range(0, 0x100, size):
        assert drv.mmio.read(offset, size) == 0
    drv.mmio.write(0x70, size, 1)
    assert drv.r(0x70) == 0


def test_unaligned_and_undefined(drv):
    """Unaligned or undefined offsets, and write-only registers, read zero; nothing breaks."""
    known = {0, 4, 8, 0xC, 0x10, 0x34, 0x40, 0x44, 0x60, 0x70, 0xFC}
    shm = {0xB0, 0xB4, 0xB8, 0xBC} if drv.version == 2 else set()
    for offset in range(0x100):
        if offset in shm:
            assert drv.r(offset) == 0xFFFFFFFF
        elif offset not in known:
            assert drv.r(offset) == 0, hex(offset)
    for offset in (0, 4, 8, 0xC, 0x10, 0x34, 0x60, 0xFC, 0x101, 0x1FC):
        drv.w(offset, 0xFFFFFFFF)
    assert (drv.r(0), drv.r(0x70), drv.r(0x60)) == (MAGIC, 0, 0)


def test_every_write_is_survived(kit, drv):
    """Any value in any register in any state leaves a device that a reset revives."""
    for start in (False, True):
        if start:
            drv.start()
        for offset in range(0, 0x200, 4):
            for value in (0xFFFFFFFF, 1, 0x80000000, 8, 0):
                if offset != 0x70:
                    drv.w(offset, value)
    drv.w(0x70, 0xFF)
    drv.start()
    assert drv.run((kit.BUF, 4, True)) == 4


def test_config_space_widths(drv):
    """Configuration fields can be read by 1, 2, 4 and 8 bytes; beyond the end is zero."""
    assert drv.mmio.read(0x100, 1) == 1
    assert drv.mmio.read(0x102, 2) == 0x0403
    assert drv.mmio.read(0x104, 4) == 0x08070605
    assert drv.mmio.read(0x100, 8) == 0x0807060504030201
    assert drv.mmio.read(0x108, 8) == 0x0C0B0A09
    assert drv.mmio.read(0x10C, 4) == 0
    assert drv.mmio.read(0x1FC, 4) == 0


def test_config_space_writes(drv):
    """A driver may write configuration space; without one it is ignored."""
    drv.mmio.write(0x100, 1, 0x99)
    assert drv.mmio.read(0x100, 1) == 1
    drv.negotiate()
    drv.mmio.write(0x100, 1, 0x99)
    drv.mmio.write(0x1FC, 4, 1)
    assert drv.mmio.read(0x100, 1) == 0x99


def test_v28_no_config_space(kit):
    """A device without configuration space reads zero there."""
    d = kit.Driver(VirtioRnd())
    assert [d.mmio.read(0x100 + i, s) for i in (0, 8, 0xF8) for s in (1, 2, 4, 8)] == [0] * 12
    d.mmio.write(0x100, 4, 1)
    d.close()


def test_config_change(two):
    """A change by the device bumps the generation and raises bit 1 of the interrupt."""
    two.start()
    before = two.r(0xFC)
    two.mmio.config_changed()
    assert two.r(0xFC) == before + 1
    assert two.r(0x60) == 2
    assert two.irq.level


def test_interrupt_ack_is_partial(kit, two):
    """Acknowledging one bit keeps the other, and the line with it."""
    two.start()
    two.mmio.config_changed()
    two.run((kit.BUF, 4, True))
    two.settle()
    assert two.r(0x60) == 3
    two.w(0x64, 1)
    assert (two.r(0x60), two.irq.level) == (2, True)
    two.w(0x64, 0xFFFFFFFC)
    assert two.r(0x60) == 2
    two.w(0x64, 2)
    assert (two.r(0x60), two.irq.level) == (0, False)


@pytest.mark.parametrize(
    ("writes", "status"),
    [
        ([1], 1),
        ([1, 3], 3),
        ([3], 3),
        ([2], 0),
        ([4], 0),
        ([8], 0),
        ([15], 0),
        ([1, 3, 15], 3),
        ([1, 3, 7], 3),
        ([1, 3, 1], 3),
        ([1, 3, 2], 3),
        ([1, 3, 0], 0),
        ([128], 128),
        ([1, 3, 131, 139], 131),
        ([1, 3, 0x43], 3),
    ],
)
def test_v06_status_order(two, writes, status):
    """Bits are only added, in order; what skips a step or clears a bit is refused."""
    for value in writes:
        two.w(0x70, value)
    assert two.r(0x70) == status


def test_features_must_be_offered(two):
    """FEATURES_OK does not stick with a feature that was not offered."""
    two.negotiate(1 << 7)
    assert two.r(0x70) == 3
    two.w(0x70, 15)
    assert two.r(0x70) == 3


def test_features_beyond_64_are_refused(two):
    """Taking a feature of a word that does not exist fails too."""
    two.w(0x70, 1)
    two.w(0x70, 3)
    two.w(0x24, 1)
    two.w(0x20, 1)
    two.w(0x24, 2)
    two.w(0x20, 1)
    two.w(0x70, 11)
    assert two.r(0x70) == 3


def test_version_1_is_required(two):
    """A modern driver that does not take VERSION_1 is refused."""
    two.w(0x70, 1)
    two.w(0x70, 3)
    two.w(0x70, 11)
    assert two.r(0x70) == 3


def test_features_are_fixed_after_features_ok(kit, drv):
    """Feature writes after FEATURES_OK are ignored, in version 1 after DRIVER_OK."""
    drv.start()
    before = drv.device.negotiated
    drv.w(0x24, 0)
    drv.w(0x20, kit.INDIRECT_DESC)
    assert drv.device.negotiated == before == (1 << 32 if drv.version == 2 else 0)


def test_v01_queue_settings_are_fixed_after_ready(kit, two):
    """V01: size and addresses of a live queue cannot be changed."""
    two.start()
    for offset in (0x38, 0x80, 0x84, 0x90, 0x94, 0xA0, 0xA4):
        two.w(offset, 0xFFFFFFF0)
    two.w(0x44, 1)
    for _ in range(20):
        assert two.run((kit.BUF, 4, True)) == 4


def test_queue_stopped_after_driver_ok_stays_stopped(kit, two):
    """QueueReady = 0 stops a queue; it cannot come back without a reset."""
    two.start()
    two.w(0x44, 0)
    assert two.r(0x44) == 0
    for offset in (0x38, 0x80, 0x90, 0xA0):
        two.w(offset, 8)
    two.w(0x44, 1)
    assert two.r(0x44) == 0
    two.chain((kit.BUF, 4, True))
    two.offer(0)
    two.kick()
    two.settle()
    assert two.used_idx == 0


def test_queue_ready_takes_0_and_1(two):
    """Other values of QueueReady are ignored."""
    two.negotiate()
    two.set_queue()
    two.w(0x44, 2)
    assert two.r(0x44) == 1
    two.w(0x44, 0)
    two.w(0x44, 0xFFFFFFFF)
    assert two.r(0x44) == 0


@pytest.mark.parametrize("sel", [1, 7, 0xFFFFFFFF])
def test_queue_that_is_not_there(drv, sel):
    """A queue beyond the last has maximum 0 and takes nothing."""
    drv.negotiate()
    drv.w(0x30, sel)
    for offset in (0x38, 0x3C, 0x40, 0x44, 0x80, 0x90, 0xA0):
        drv.w(offset, 1)
    assert (drv.r(0x34), drv.r(0x40), drv.r(0x44)) == (0, 0, 0)
    drv.w(0x30, 0)
    assert drv.r(0x34) == 8


@pytest.mark.parametrize("size", [0, 3, 16, 0x10000, 0xFFFFFFFF])
def test_bad_queue_size(drv, size):
    """A size that is no power of two, or above the maximum, does not get ready."""
    drv.negotiate()
    if drv.version == 2:
        drv.set_queue()
        drv.w(0x44, 0)
    drv.w(0x38, size)
    if drv.version == 2:
        drv.w(0x44, 1)
        assert drv.r(0x44) == 0
    else:
        drv.w(0x28, 4096)
        drv.w(0x3C, 4096)
        drv.w(0x40, 0x80001)
        assert drv.r(0x40) == 0


@pytest.mark.parametrize(
    ("page", "align"), [(0, 4096), (4096, 0), (3, 4096), (4096, 12), (4096, 5), (1, 1)]
)
def test_legacy_bad_page_size(kit, page, align):
    """A page size or alignment that is no power of two, or rings so placed, are refused."""
    d = kit.Driver(Slow(), version=1)
    d.negotiate()
    d.w(0x38, 8)
    d.w(0x28, page)
    d.w(0x3C, align)
    d.w(0x40, 0x80001)
    assert d.r(0x40) == 0
    d.close()


def test_legacy_page_size_outlives_reset(kit):
    """Linux writes the page size once, before its reset of the device: it stays."""
    d = kit.Driver(Slow(), version=1)
    d.w(0x28, 4096)
    d.negotiate()
    d.w(0x38, 8)
    d.w(0x3C, 4096)
    d.w(0x40, kit.DESC >> 12)
    assert d.r(0x40) == kit.DESC >> 12
    d.close()


def test_legacy_pfn(kit):
    """QueuePFN reads back, and 0 takes the queue away."""
    d = kit.Driver(Slow(), version=1)
    d.device.go.set()
    d.start()
    assert d.r(0x40) == kit.DESC >> 12
    assert d.run((kit.BUF, 4, True)) == 4
    d.w(0x40, 0)
    assert d.r(0x40) == 0
    d.chain((kit.BUF, 4, True))
    d.offer(0)
    d.kick()
    d.settle()
    assert (d.used_idx - d.seen) & 0xFFFF == 0
    d.close()


def test_legacy_works_before_driver_ok(kit):
    """Legacy drivers may use queues before DRIVER_OK."""
    d = kit.Driver(Slow(), version=1)
    d.device.go.set()
    d.negotiate()
    d.set_queue()
    assert d.run((kit.BUF, 4, True)) == 4
    d.close()


def test_modern_waits_for_driver_ok(kit, two):
    """A kick before DRIVER_OK does nothing; its buffers are found at DRIVER_OK."""
    two.negotiate()
    two.set_queue()
    two.chain((kit.BUF, 4, True))
    two.offer(0)
    two.kick()
    two.settle()
    assert two.used_idx == 0
    two.w(0x70, 15)
    assert two.used() == [(0, 4)]


def test_driver_ok_without_queues(two):
    """DRIVER_OK with no queue set up is legal and does nothing."""
    two.negotiate()
    two.w(0x70, 15)
    two.w(0x70, 15)
    two.kick()
    two.settle()
    assert two.r(0x70) == 15


def test_reset_clears_everything(kit, drv):
    """After reset: status, interrupt, features, queues and selectors are as at power-on."""
    drv.start()
    drv.run((kit.BUF, 4, True))
    drv.settle()
    assert drv.irq.level
    drv.w(0x30, 5)
    drv.w(0x70, 0)
    assert (drv.r(0x70), drv.r(0x60), drv.irq.level) == (0, 0, False)
    assert drv.r(0x34) == 8
    assert (drv.r(0x40), drv.r(0x44)) == (0, 0)
    assert drv.device.negotiated == 0
    drv.chain((kit.BUF, 4, True))
    drv.offer(0)
    drv.kick()
    drv.settle()
    assert (drv.used_idx - drv.seen) & 0xFFFF == 0


def test_many_reset_cycles(kit, drv):
    """A thousand resets and new starts work, with one thread."""
    threads = None
    for _ in range(1000):
        drv.start()
        assert drv.run((kit.BUF, 4, True)) == 4
        threads = threads or threading.active_count()
        assert threading.active_count() == threads


def test_reset_waits_for_the_request_in_flight(kit, drv):
    """Once status reads 0 nothing more is written to guest memory."""
    dev = drv.device
    dev.go.clear()
    drv.start()
    drv.chain((kit.BUF, 4, True))
    drv.offer(0)
    drv.offer(0)
    drv.kick()
    assert dev.entered.wait(5)
    resetter = threading.Thread(target=drv.w, args=(0x70, 0))
    resetter.start()
    time.sleep(0.02)
    assert drv.r(0x70) != 0
    dev.go.set()
    resetter.join(5)
    assert drv.r(0x70) == 0
    used = drv.used_idx
    assert used == 1
    drv.memory.write(kit.BUF, bytes(4))
    time.sleep(0.02)
    assert (drv.used_idx, drv.memory.read(kit.BUF, 4)) == (used, bytes(4))
    assert not drv.irq.level


def test_close_in_flight(kit, drv):
    """Closing waits for the request in flight; a second close is harmless."""
    dev = drv.device
    dev.go.clear()
    drv.start()
    drv.chain((kit.BUF, 4, True))
    drv.offer(0)
    drv.kick()
    assert dev.entered.wait(5)
    threading.Timer(0.02, dev.go.set).start()
    drv.close()
    drv.close()
    drv.kick()
    drv.w(0x70, 0)


def test_machine_reset(kit, drv):
    """The machine's reset is the driver's: the device starts anew."""
    drv.start()
    drv.run((kit.BUF, 4, True))
    drv.mmio.reset()
    assert drv.device.resets >= 1
    assert drv.start().run((kit.BUF, 4, True)) == 4


def test_v09_save_and_load(kit, drv):
    """A device restored over the same memory serves what was available before."""
    drv.start(kit.EVENT_IDX)
    drv.run((kit.BUF, 4, True))
    drv.settle()
    state = drv.mmio.save()
    other = kit.Driver(Slow(), version=drv.version, memory=drv.memory)
    other.device.go.set()
    other.size, other.seen = drv.size, drv.seen
    other.desc_at, other.avail_at, other.used_at = drv.desc_at, drv.avail_at, drv.used_at
    other.offer(0)
    other.mmio.load(state)
    assert other.used() == [(0, 4)]
    assert other.irq.level
    assert other.r(0x70) == drv.r(0x70)
    other.close()


def test_racing_kicks_and_resets(kit, two):
    """Kicks from one thread and resets from another end in a working device."""
    stop = threading.Event()

    def kicker():
        while not stop.is_set():
            two.kick()

    t = threading.Thread(target=kicker)
    t.start()
    for _ in range(50):
        two.start()
        two.chain((kit.BUF, 4, True))
        two.offer(0)
    stop.set()
    t.join()
    assert two.start().run((kit.BUF, 4, True)) == 4
    assert two.kit.fatal == []


class TestRnd:
    """virtio-rnd."""

    @pytest.fixture
    def rnd(self, kit):
        """A running entropy device."""
        d = kit.Driver(VirtioRnd()).start(kit.INDIRECT_DESC)
        yield d
        d.close()

    def test_fills(self, kit, rnd):
        """The whole buffer is random."""
        assert rnd.run((kit.BUF, 64, True), (kit.BUF + 64, 64, True)) == 128
        data = rnd.memory.read(kit.BUF, 128)
        assert len(set(data)) > 40
        assert rnd.memory.read(kit.BUF + 128, 16) == bytes(16)

    def test_cap(self, kit, rnd):
        """A request of 480 KiB in aliased descriptors gets 64 KiB."""
        parts = [(kit.BUF, 0xF000, True)] * 8
        assert rnd.run(*parts) == MAX_REQUEST

    def test_readable_only(self, kit, rnd):
        """A request without room for a byte comes back empty."""
        assert rnd.run((kit.BUF, 64, False)) == 0
