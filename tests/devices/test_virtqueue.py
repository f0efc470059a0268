"""The split ring: good chains, every kind of bad one, notifications, random rings."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bhyvepy.devices.base import GuestLog
from bhyvepy.devices.virtio.device import VirtioDevice
from bhyvepy.devices.virtio.queue import Queue, QueueError, legacy_layout
from bhyvepy.errors import VmError

NEXT, WRITE, INDIRECT = 1, 2, 4


class Echo(VirtioDevice):
    """Fills what is writable with 0xee and remembers what it read."""

    kind = "echo"
    device_id = 63
    queue_sizes = (8,)

    def __init__(self):
        self.seen = []
        self.fail = None

    def handle(self, index, chain):
        if self.fail is not None:
            raise self.fail
        self.seen.append(b"".join(bytes(v) for v in chain.readable))
        n = 0
        for view in chain.writable:
            view[:] = b"\xee" * len(view)
            n += len(view)
        return n


@pytest.fixture(params=[0, 1, 2], ids=["plain", "event_idx", "legacy"])
def drv(kit, request):
    """A running device in three dialects, indirect descriptors negotiated."""
    features = kit.INDIRECT_DESC | (kit.EVENT_IDX if request.param == 1 else 0)
    d = kit.Driver(Echo(), version=1 if request.param == 2 else 2)
    d.start(features)
    yield d
    d.close()


@pytest.fixture
def one(kit):
    """A running device, indirect descriptors negotiated."""
    d = kit.Driver(Echo()).start(kit.INDIRECT_DESC)
    yield d
    d.close()


def test_chain_out_and_in(kit, drv):
    """Readable buffers arrive in order; the used length is what was written."""
    drv.memory.write(kit.BUF, b"abcdef")
    n = drv.run((kit.BUF, 3, False), (kit.BUF + 3, 3, False), (kit.BUF + 64, 10, True))
    assert n == 10
    assert drv.device.seen == [b"abcdef"]
    assert drv.memory.read(kit.BUF + 60, 18) == bytes(4) + b"\xee" * 10 + bytes(4)
    assert drv.irq.level
    assert drv.r(0x060) == 1


def test_indices_wrap_at_65536(kit, drv):
    """Ring indices wrap from 65,535 to 0 without losing a chain."""
    state = drv.mmio.save()
    state["queues"][0] |= {"last_avail": 65530, "used_idx": 65530, "signalled": 65530}
    drv.avail_idx = 65530
    drv.memory.write(drv.used_at + 2, struct.pack("<H", 65530))
    drv.mmio.load(state)
    drv.seen = 65530
    for _ in range(12):
        assert drv.run((kit.BUF, 4, True)) == 4
    assert drv.used_idx == 6


def test_full_ring_at_once(kit, drv):
    """As many chains as the ring holds are served in order by one kick."""
    for i in range(8):
        drv.desc(i, kit.BUF + 64 * i, i + 1, WRITE)
        drv.offer(i)
    drv.kick()
    assert drv.used(8) == [(i, i + 1) for i in range(8)]


def test_chain_as_long_as_the_queue(kit, drv):
    """Exactly queue-size descriptors are legal."""
    assert drv.run(*[(kit.BUF + 16 * i, 1, True) for i in range(8)]) == 8


def test_indirect_chain(kit, drv):
    """An indirect table is followed; WRITE on the descriptor that points to it is ignored."""
    table = kit.BUF + 0x800
    drv.chain((kit.BUF, 4, False), (kit.BUF + 16, 5, True), table=table)
    drv.memory.write(kit.BUF, b"wxyz")
    drv.desc(0, table, 32, INDIRECT | WRITE)
    drv.offer(0)
    drv.kick()
    assert drv.used() == [(0, 5)]
    assert drv.device.seen == [b"wxyz"]


def test_direct_then_indirect(kit, drv):
    """A chain may go on in one indirect table, as long in all as the queue."""
    table = kit.BUF + 0x800
    drv.chain(*[(kit.BUF + 16 * i, 1, True) for i in range(7)], table=table)
    drv.desc(0, kit.BUF + 0x100, 2, NEXT, 1)
    drv.desc(1, table, 7 * 16, INDIRECT)
    drv.offer(0)
    drv.kick()
    assert drv.used() == [(0, 7)]


def test_zero_length_buffers(kit, drv):
    """Empty buffers, even at address 0, are skipped."""
    assert drv.run((0, 0, False), (kit.BUF, 3, True), (0, 0, True)) == 3


def _bad_chains(kit):
    """name -> function that sets up descriptor 0 and on as a broken chain."""
    buf, hole = kit.BUF, kit.HOLE
    table = buf + 0x1000
    end = kit.RAM + 0x100000

    def self_loop(d):
        d.desc(0, buf, 4, NEXT, 0)

    def two_cycle(d):
        d.desc(0, buf, 4, NEXT, 1)
        d.desc(1, buf, 4, NEXT, 0)

    def next_out_of_range(d):
        d.desc(0, buf, 4, NEXT, 8)

    def next_max(d):
        d.desc(0, buf, 4, NEXT, 0xFFFF)

    def readable_after_writable(d):
        d.chain((buf, 4, True), (buf, 4, False))

    def empty_readable_after_writable(d):
        d.chain((buf, 4, True), (buf, 0, False))

    def address_zero(d):
        d.chain((0, 4, True))

    def wrap(d):
        d.chain((0xFFFFFFFFFFFFFFF0, 0x20, True))

    def in_mmio(d):
        d.chain((0xA0000, 4, True))

    def one_past_the_end(d):
        d.chain((end - 4, 5, True))

    def spanning_regions(d):
        d.chain((end - 4, 0x10000 + 8, True))

    def all_ones(d):
        d.memory.write(d.desc_at, b"\xff" * 16)

    def in_the_hole(d):
        d.chain((hole, 1, False))

    def four_gib(d):
        d.chain((kit.RAM, 0xFFFFFFFF, True))

    def indirect_with_next(d):
        d.chain((buf, 4, True), table=table)
        d.desc(0, table, 16, INDIRECT | NEXT, 1)

    def indirect_in_indirect(d):
        d.desc(0, table, 16, INDIRECT, table=table)
        d.desc(0, table, 16, INDIRECT)

    def indirect_in_a_good_indirect(d):
        d.chain((buf, 4, True), table=table + 0x100)
        d.desc(0, table + 0x100, 16, INDIRECT, table=table)
        d.desc(0, table, 16, INDIRECT)

    def indirect_over_the_limit(d):
        d.chain((buf, 4, True), table=table)
        d.desc(0, table, 16 * 32769, INDIRECT)

    def indirect_empty(d):
        d.desc(0, table, 0, INDIRECT)

    def indirect_not_x16(d):
        d.desc(0, table, 17, INDIRECT)

    def indirect_huge(d):
        d.desc(0, table, 0xFFFFFFF0, INDIRECT)

    def indirect_outside_ram(d):
        d.desc(0, hole, 16, INDIRECT)

    def indirect_straddling(d):
        d.desc(0, end - 16, 32, INDIRECT)

    def indirect_next_out_of_table(d):
        d.desc(0, buf, 4, NEXT, 1, table=table)
        d.desc(0, table, 16, INDIRECT)

    def indirect_loop(d):
        d.desc(0, buf, 4, NEXT, 0, table=table)
        d.desc(0, table, 16, INDIRECT)

    def indirect_too_long(d):
        d.chain(*[(buf + 16 * i, 1, True) for i in range(9)], table=table)
        d.desc(0, table, 9 * 16, INDIRECT)

    def direct_plus_indirect_too_long(d):
        d.chain(*[(buf + 16 * i, 1, True) for i in range(8)], table=table)
        d.desc(0, buf, 1, NEXT, 1)
        d.desc(1, table, 8 * 16, INDIRECT)

    return {k: v for k, v in locals().items() if callable(v)}


BAD = [
    "self_loop",
    "two_cycle",
    "next_out_of_range",
    "next_max",
    "readable_after_writable",
    "empty_readable_after_writable",
    "address_zero",
    "wrap",
    "in_mmio",
    "one_past_the_end",
    "spanning_regions",
    "all_ones",
    "in_the_hole",
    "four_gib",
    "indirect_with_next",
    "indirect_in_indirect",
    "indirect_in_a_good_indirect",
    "indirect_over_the_limit",
    "indirect_empty",
    "indirect_not_x16",
    "indirect_huge",
    "indirect_outside_ram",
    "indirect_straddling",
    "indirect_next_out_of_table",
    "indirect_loop",
    "indirect_too_long",
    "direct_plus_indirect_too_long",
]


def test_the_list_of_bad_chains_is_complete(kit):
    """Each bad chain that is defined is also run."""
    assert sorted(BAD) == sorted(_bad_chains(kit))


@pytest.mark.parametrize("name", BAD)
def test_v17_bad_chain_is_put_back_empty(kit, drv, name):
    """A broken chain comes back with length 0, the device saw nothing, and goes on."""
    _bad_chains(kit)[name](drv)
    before = drv.memory.read(kit.BUF, 0x800)
    drv.offer(0)
    drv.kick()
    assert drv.used() == [(0, 0)]
    assert drv.device.seen == []
    assert drv.memory.read(kit.BUF, 0x800) == before
    assert drv.r(0x060) == 1
    assert drv.run((kit.BUF, 4, True)) == 4
    assert drv.kit.fatal == []


def test_indirect_not_negotiated(kit):
    """INDIRECT without the feature is a broken chain."""
    d = kit.Driver(Echo()).start()
    d.chain((kit.BUF, 4, True), table=kit.BUF + 64)
    d.desc(0, kit.BUF + 64, 16, INDIRECT)
    d.offer(0)
    d.kick()
    assert d.used() == [(0, 0)]
    d.close()


@pytest.mark.parametrize("jump", [9, 8 + 32768, 65535], ids=["size+1", "far", "backwards"])
def test_v27_avail_index_jump_breaks_the_queue(kit, one, jump):
    """An available index beyond the queue size needs a reset, which then works."""
    one.avail_idx = jump
    one.kick()
    one.settle()
    assert one.r(0x070) == 0x4F
    assert one.r(0x060) == 2
    assert one.irq.level
    one.avail_idx = 0
    one.offer(0)
    one.kick()
    one.settle()
    assert one.used_idx == 0
    one.start()
    assert one.r(0x070) == 15
    assert one.run((kit.BUF, 4, True)) == 4


@pytest.mark.parametrize("head", [8, 0xFFFF])
def test_head_out_of_range_breaks_the_queue(one, head):
    """A head that is no descriptor cannot be put back: the device needs a reset."""
    one.offer(head)
    one.kick()
    one.settle()
    assert one.r(0x070) & 0x40
    assert one.used_idx == 0
    assert one.kit.fatal == []


def test_v14_same_head_twice(kit, one):
    """A head that is available twice is served twice, one after the other."""
    one.chain((kit.BUF, 4, True))
    one.offer(0)
    one.offer(0)
    one.kick()
    assert one.used(2) == [(0, 4), (0, 4)]


def test_buffer_over_the_ring_itself(kit, one):
    """A chain that makes the device overwrite its own rings ends, and reset cures it."""
    one.chain((one.avail_at, 20, True))
    one.offer(0)
    one.kick()
    one.settle()
    assert one.r(0x070) in (0x0F, 0x4F)
    one.start()
    assert one.run((kit.BUF, 4, True)) == 4


def test_kicks_with_nothing_new(one):
    """A storm of kicks does nothing."""
    for _ in range(2000):
        one.kick()
    one.settle()
    assert one.used_idx == 0
    assert not one.irq.level


def test_kick_of_a_queue_that_is_not(kit, one):
    """Notifications of queues that do not exist are ignored."""
    for n in (1, 2, 0xFFFF, 0xFFFFFFFF):
        one.kick(n)
    assert one.run((kit.BUF, 4, True)) == 4


def test_doorbell_is_as_good_as_a_kick(kit, one):
    """A signal on the doorbell's eventfd serves the queue."""
    import os

    [bell] = one.mmio.doorbells()
    assert (bell.offset, bell.size, bell.value) == (0x50, 4, None)
    one.chain((kit.BUF, 4, True))
    one.offer(0)
    os.eventfd_write(bell.fd, 1)
    assert one.used() == [(0, 4)]


def test_no_interrupt_flag(kit):
    """avail.flags = 1 suppresses interrupts when EVENT_IDX was not negotiated."""
    d = kit.Driver(Echo()).start()
    d.memory.write(d.avail_at, b"\1\0")
    d.run((kit.BUF, 4, True))
    d.settle()
    assert not d.irq.level
    d.memory.write(d.avail_at, b"\0\0")
    d.run((kit.BUF, 4, True))
    d.settle()
    assert d.irq.level
    d.close()


def test_used_event(kit):
    """With EVENT_IDX the interrupt comes when the index passes used_event; flags are ignored."""
    d = kit.Driver(Echo()).start(kit.EVENT_IDX)
    d.memory.write(d.avail_at, b"\1\0")
    d.memory.write(d.avail_at + 4 + 2 * 8, struct.pack("<H", 2))
    for want in (False, False, True):
        d.run((kit.BUF, 4, True))
        d.settle()
        assert d.irq.level is want
    d.w(0x064, 1)
    d.run((kit.BUF, 4, True))
    d.settle()
    assert not d.irq.level
    d.close()


def test_avail_event_follows(kit):
    """With EVENT_IDX the device asks to hear of the next chain only."""
    d = kit.Driver(Echo()).start(kit.EVENT_IDX)
    for i in range(1, 4):
        d.run((kit.BUF, 4, True))
        d.settle()
        assert struct.unpack("<H", d.memory.read(d.used_at + 4 + 8 * 8, 2)) == (i,)
        assert d.memory.read(d.used_at, 2) == b"\0\0"
    d.close()


def test_device_never_writes_what_it_may_only_read(kit, drv):
    """Readable buffers, the descriptor table and the available ring stay as they were."""
    drv.memory.write(kit.BUF, bytes(range(100)))
    drv.chain((kit.BUF, 100, False), (kit.BUF + 200, 8, True))
    drv.offer(0)
    table = drv.memory.read(drv.desc_at, 16 * 8)
    ring = drv.memory.read(drv.avail_at, 4 + 16)
    drv.kick()
    drv.used()
    assert drv.memory.read(kit.BUF, 100) == bytes(range(100))
    assert drv.memory.read(drv.desc_at, 16 * 8) == table
    assert drv.memory.read(drv.avail_at, 4 + 16) == ring


def test_dma_enters_the_dirty_log(kit, drv):
    """Buffers that a device wrote and the used ring are told of; what it read is not."""
    memory = drv.memory
    memory.log = set()
    read, wrote = kit.BUF + 0x2000, kit.BUF + 0x5000
    drv.run((read, 64, False), (wrote, 0x1800, True))
    drv.settle()
    assert {wrote >> 12, (wrote >> 12) + 1, drv.used_at >> 12} == memory.log


def test_log_is_rate_limited(kit, one, caplog):
    """A thousand bad chains make one line."""
    for _ in range(100):
        for _ in range(8):
            one.desc(0, 0, 4, WRITE)
            one.offer(0)
        one.kick()
        assert one.used(8) == [(0, 0)] * 8
    assert len(caplog.records) == 1
    assert "bad chain" in caplog.text


def test_log_says_how_many_it_held_back(caplog):
    """The next line after the pause counts the ones that were left out."""
    log = GuestLog("dev", interval=0.01)
    for _ in range(5):
        log.complain("x")
    time.sleep(0.02)
    log.complain("y")
    assert "dev: y (" in caplog.text


def test_lost_memory_is_fatal_not_silent(kit, one):
    """When guest memory cannot be had the machine is told, and the device needs a reset."""
    one.device.fail = VmError("no space left", 28)
    one.chain((kit.BUF, 4, True))
    one.offer(0)
    one.kick()
    one.settle()
    assert [str(e) for e in one.kit.fatal] == ["no space left"]
    assert one.r(0x070) & 0x40


def test_a_bug_is_one_line(kit, one):
    """An exception of the device model itself is reported and ends nothing else."""
    one.device.fail = ZeroDivisionError("oops")
    one.chain((kit.BUF, 4, True))
    one.offer(0)
    one.kick()
    one.settle()
    assert "internal error" in str(one.kit.fatal[0])
    one.device.fail = None
    one.start()
    assert one.run((kit.BUF, 4, True)) == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num", 0),
        ("num", 3),
        ("num", 16),
        ("num", 0xFFFFFFFF),
        ("desc", 0x80001008),
        ("avail", 0x80003001),
        ("used", 0x80004002),
        ("desc", 0x800FFFF0),
        ("desc", 0x1000),
        ("avail", 0x80100000),
        ("used", 0xA0000),
        ("used", 0x80003000),
        ("used", 0x80001000),
        ("used", 0xFFFFFFFFFFFFFFFC),
    ],
)
def test_bad_rings_are_refused(kit, field, value):
    """A queue of a wrong size, misaligned, outside RAM or overlapping does not get ready."""
    k = kit.make_env()
    q = Queue(k.memory, 8, GuestLog("q"))
    q.desc, q.avail, q.used = kit.DESC, kit.AVAIL, kit.USED
    q.num = 8
    assert q.enable(False, False)
    q.disable()
    setattr(q, field, value)
    assert not q.enable(False, False)
    assert not q.ready


def test_ring_in_read_only_memory_is_refused(kit):
    """A used ring that cannot be written is refused."""

    class ReadOnly(kit.Memory):
        def view(self, gpa, length, write):
            from bhyvepy.errors import GuestFault

            if write:
                raise GuestFault(gpa, length, write)
            return super().view(gpa, length, write)

    q = Queue(ReadOnly(), 8, GuestLog("q"))
    q.desc, q.avail, q.used = kit.DESC, kit.AVAIL, kit.USED
    assert not q.enable(False, False)


def test_rings_touching_without_overlap(kit):
    """The used ring may start right behind an available ring without an event field."""
    q = Queue(kit.Memory(), 8, GuestLog("q"))
    q.num, q.desc, q.avail = 8, kit.DESC, kit.AVAIL
    q.used = kit.AVAIL + 4 + 2 * 8
    assert q.enable(False, False)
    q.disable()
    assert not q.enable(True, False)


def test_legacy_layout():
    """The legacy block: table, available ring, then the used ring at the alignment."""
    assert legacy_layout(0x1000, 8, 4096) == (0x1000, 0x1080, 0x2000)
    assert legacy_layout(0x10000, 256, 4096) == (0x10000, 0x11000, 0x12000)


U16 = st.integers(0, 0xFFFF)
ADDR = st.one_of(
    st.integers(0x80010000, 0x80010FFF),
    st.sampled_from([0, 0xA0000, 0x800FFFFF, 0x80100000, 0xFFFFFFFFFFFFFFFF, 0x80001000]),
    st.integers(0, (1 << 64) - 1),
)
LEN = st.one_of(st.integers(0, 64), st.sampled_from([0xFFFFFFFF, 0x1000, 16, 32]))
DESCRIPTOR = st.tuples(ADDR, LEN, st.integers(0, 7), st.integers(0, 9))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    table=st.lists(DESCRIPTOR, min_size=8, max_size=8),
    indirect=st.lists(DESCRIPTOR, min_size=4, max_size=4),
    heads=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    negotiated=st.booleans(),
)
def test_random_rings(kit, table, indirect, heads, negotiated):
    """Whatever a ring holds, each head is served or put back empty, as a plain model says."""
    memory = kit.Memory()
    for i, d in enumerate(table):
        memory.write(kit.DESC + 16 * i, struct.pack("<QIHH", *d))
    for i, d in enumerate(indirect):
        memory.write(kit.BUF + 16 * i, struct.pack("<QIHH", *d))
    for i, h in enumerate(heads):
        memory.write(kit.AVAIL + 4 + 2 * i, struct.pack("<H", h))
    memory.write(kit.AVAIL + 2, struct.pack("<H", len(heads)))
    q = Queue(memory, 8, GuestLog("q"))
    q.num, q.desc, q.avail, q.used = 8, kit.DESC, kit.AVAIL, kit.USED
    assert q.enable(False, negotiated)

    got = {}
    broken = False
    try:
        for _ in range(len(heads) + 1):
            chain = q.pop()
            if chain is None:
                break
            at = (q.last_avail - 1) & 0xFFFF
            got[at] = (
                [len(v) for v in chain.readable],
                [len(v) for v in chain.writable],
            )
            q.push(chain.head, 1)
    except QueueError:
        broken = True
    want = {}
    for at, head in enumerate(heads):
        if head > 7:
            assert broken
            break
        shape = _model(memory, kit.DESC, head, negotiated)
        if shape is not None:
            want[at] = shape
    else:
        assert not broken
        used = memory.read(kit.USED + 2, 2)
        assert used == struct.pack("<H", len(heads))
        for at, head in enumerate(heads):
            element = struct.unpack("<II", memory.read(kit.USED + 4 + 8 * at, 8))
            assert element == (head, 1 if at in want else 0)
    assert got == want


def _model(memory, desc, head, negotiated):
    """The rules of a chain, written down naively: its buffer lengths, or None if broken."""
    table, size, inside = desc, 8, False
    index, out, into, count, total = head, [], [], 0, 0
    while count < 8:
        addr, length, flags, nxt = struct.unpack("<QIHH", memory.read(table + 16 * index, 16))
        if flags & INDIRECT:
            if not negotiated or inside or flags & NEXT or length == 0 or length % 16:
                return None
            if not _ram(memory, addr, length):
                return None
            table, size, inside, index = addr, length // 16, True, 0
            continue
        count += 1
        total += length
        if total > 1 << 32 or (length and not _ram(memory, addr, length)):
            return None
        if flags & WRITE:
            into.append(length)
        elif into:
            return None
        else:
            out.append(length)
        if not flags & NEXT:
            return [n for n in out if n], [n for n in into if n]
        if nxt >= size:
            return None
        index = nxt
    return None


def _ram(memory, addr, length):
    return any(b <= addr and addr + length <= b + len(d) for b, d in memory.parts)
