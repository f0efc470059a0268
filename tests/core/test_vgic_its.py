"""LPIs and the ITS: commands, tables in guest memory, delivery, hostile guests."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

import pytest

from .gic_machine import GICD, GICR, ITS, RAM, SPURIOUS, VIRQ, Machine
from .its_machine import (
    BASER,
    CBASER,
    COLLECTIONS,
    CREADR,
    CTLR,
    CWRITER,
    DEVICES,
    INDIRECT,
    ITTS,
    LPI,
    PENDING,
    PROPS,
    QUEUE,
    TRANSLATER,
    TYPER,
    VALID,
    Its,
)

NOWHERE = 0x4000000000  # in the address space, but not RAM


@pytest.fixture
def its() -> Iterator[Its]:
    """Two vCPUs with 4 list registers."""
    with Machine(ncpus=2) as m:
        m.boot()
        yield Its(m)


def test_identification(its: Its) -> None:
    """TYPERs say LPIs, 14 bits of INTID, physical LPIs, 8-byte entries, 16-bit IDs."""
    c = its.cpu
    typer = c.load(GICD + 4)
    assert typer >> 17 & 1
    assert typer >> 19 & 31 == 13
    assert c.load(GICR + 8, 8) & 1
    assert c.load(TYPER, 8) == 1 | 7 << 4 | 15 << 8 | 15 << 13
    assert c.load(ITS + 0xFFE8) == 0x3B
    assert c.load(CTLR) == 1
    c.store(CTLR, 0)
    assert c.load(CTLR) == 1 << 31


def test_without_an_its() -> None:
    """A GIC without an ITS has no LPIs and none of its registers."""
    with Machine() as m:
        m.boot()
        c = m.cpus[0]
        assert not c.load(GICD + 4) >> 17 & 1
        assert not c.load(GICR + 8, 8) & 1
        c.store(GICR, 1)
        c.store(GICR + 0x70, PROPS | 13, 8)
        assert c.load(GICR) == 0
        assert c.load(GICR + 0x70, 8) == 0
        assert c.mmio(ITS, 4, False)[0] == errno.ENOENT
        assert m.msi(0, TRANSLATER) == errno.EINVAL


@pytest.mark.parametrize("nlr", [1, 2, 4, 16])
def test_int_is_delivered(nlr: int) -> None:
    """INT makes the LPI pending: IAR returns it, the end leaves nothing behind."""
    with Machine(list_regs=nlr) as m:
        m.boot()
        its = Its(m)
        its.event(1, 3, LPI + 7)
        c = m.cpus[0]
        assert its.int_(1, 3) == 0
        c.settle()
        assert c.lines & VIRQ
        assert c["ICC_HPPIR1_EL1"] == LPI + 7
        assert c.ack() == LPI + 7
        assert c["ICC_RPR_EL1"] == 0x80
        c.eoi(LPI + 7)
        assert c["ICC_RPR_EL1"] == 0xFF
        assert c.ack() == SPURIOUS


def test_message_of_a_device(its: Its) -> None:
    """A write to GITS_TRANSLATER is an event of its device; a CPU's own is one of device 0."""
    its.event(5, 2, LPI + 100, icid=1)
    its.event(0, 2, LPI + 101, icid=1)
    assert its.m.msi(2, TRANSLATER, devid=5) == 0
    assert its.m.cpus[1].ack() == LPI + 100
    its.m.cpus[1].eoi(LPI + 100)
    its.cpu.store(TRANSLATER, 2)
    assert its.m.cpus[1].ack() == LPI + 101
    its.m.cpus[1].eoi(LPI + 101)
    its.cpu.store(TRANSLATER, 2, 2)
    assert its.m.cpus[1].ack() == LPI + 101
    assert its.cpu.load(TRANSLATER) == 0
    assert its.m.msi(2, TRANSLATER + 4, devid=5) == errno.EINVAL
    assert its.m.msi(2, TRANSLATER, devid=6) == errno.EINVAL
    its.cpu.store(CTLR, 0)
    assert its.m.msi(2, TRANSLATER, devid=5) == errno.EINVAL


def test_messages_to_spis_still_work(its: Its) -> None:
    """GICD_SETSPI_NSR takes messages as before."""
    its.m.setup_spi(300)
    assert its.m.msi(300) == 0
    assert its.cpu.ack() == 300


def test_mapi(its: Its) -> None:
    """MAPI maps an event to the LPI of the same number."""
    assert its.mapd(1, bits=14) == 0
    its.prop(LPI + 1)
    assert its.mapi(1, LPI + 1) == 0
    assert its.int_(1, LPI + 1) == 0
    assert its.cpu.ack() == LPI + 1


def test_clear_and_discard(its: Its) -> None:
    """CLEAR takes the pending state away; DISCARD the mapping too, from memory as well."""
    its.event(1, 3, LPI + 7)
    its.int_(1, 3)
    assert its.clear(1, 3) == 0
    assert its.cpu.ack() == SPURIOUS
    its.int_(1, 3)
    assert its.discard(1, 3) == 0
    assert its.cpu.ack() == SPURIOUS
    assert its.m.peek(ITTS + 0x1000 + 3 * 8) == 0
    assert its.int_(1, 3) == 0x010307
    assert its.m.msi(3, TRANSLATER, devid=1) == errno.EINVAL


def test_clear_in_a_running_vcpu(its: Its) -> None:
    """CLEAR reaches an LPI that waits in a list register of a running vCPU."""
    its.event(1, 3, LPI + 7, icid=1)
    b = its.m.cpus[1]
    its.m.msi(3, TRANSLATER, devid=1)
    b.settle()
    assert b.lines & VIRQ
    assert its.clear(1, 3) == 0
    b.settle()
    assert not b.lines & VIRQ


def test_movi(its: Its) -> None:
    """MOVI moves an event to another vCPU, with what is pending in a list register there."""
    its.event(1, 3, LPI + 7, icid=1)
    a, b = its.m.cpus
    its.m.msi(3, TRANSLATER, devid=1)
    b.settle()
    assert b.lines & VIRQ
    assert its.movi(1, 3, 0) == 0
    assert b.ack() == SPURIOUS
    assert a.ack() == LPI + 7
    a.eoi(LPI + 7)
    its.m.msi(3, TRANSLATER, devid=1)
    assert (a.ack(), b.ack()) == (LPI + 7, SPURIOUS)


def test_movall(its: Its) -> None:
    """MOVALL moves all that is pending on one vCPU to another."""
    a, b = its.m.cpus
    for n in range(20):
        its.event(1, n, LPI + n, icid=1)
        its.int_(1, n)
    b.settle()
    assert its.movall(1, 0) == 0
    assert b.ack() == SPURIOUS
    got = []
    for _ in range(20):
        got.append(a.ack())
        a.eoi(got[-1])
    assert got == [LPI + n for n in range(20)]
    assert its.movall(0, 2) == 0x010E02
    assert its.movall(1 << 31, 0) == 0x010E02


def test_remapped_collection(its: Its) -> None:
    """After MAPC to another vCPU new events go there; unmapped, they go nowhere."""
    its.event(1, 3, LPI + 7, icid=1)
    a, b = its.m.cpus
    assert its.mapc(1, 0) == 0
    its.int_(1, 3)
    assert (a.ack(), b.ack()) == (LPI + 7, SPURIOUS)
    a.eoi(LPI + 7)
    assert its.mapc(1, 0, valid=False) == 0
    assert its.int_(1, 3) == 0x010309
    assert its.invall(1) == 0x010D09


def test_unmapped_device(its: Its) -> None:
    """After MAPD with V = 0 nothing of the device arrives."""
    its.event(1, 3, LPI + 7)
    assert its.mapd(1, valid=False) == 0
    assert its.m.peek(DEVICES + 8) == 0
    assert its.int_(1, 3) == 0x010304
    assert its.cpu.ack() == SPURIOUS


def test_configuration_is_read_by_inv(its: Its) -> None:
    """Enable and priority are those of the last INV or INVALL of the LPI."""
    c = its.cpu
    its.event(1, 3, LPI + 7)
    its.prop(LPI + 7, enabled=False)
    assert its.inv(1, 3) == 0
    its.int_(1, 3)
    assert c.ack() == SPURIOUS
    assert not c.pending
    its.prop(LPI + 7, prio=0x40)
    assert its.invall(0) == 0
    assert c.ack() == LPI + 7
    assert c["ICC_RPR_EL1"] == 0x40
    c.eoi(LPI + 7)
    # by the redistributor's own registers
    its.prop(LPI + 7, enabled=False)
    c.store(GICR + 0xA0, LPI + 7, 8)
    its.int_(1, 3)
    assert c.ack() == SPURIOUS
    its.prop(LPI + 7)
    c.store(GICR + 0xB0, 0, 8)
    assert c.load(GICR + 0xC0) == 0
    assert c.ack() == LPI + 7


@pytest.mark.parametrize("intid", [0, 31, 1023, LPI - 1, LPI + 8192, 0xFFFFFFFF, 1 << 63])
def test_invlpir_of_no_lpi(its: Its, intid: int) -> None:
    """K08: GICR_INVLPIR of what is no LPI does nothing."""
    its.event(1, 0, LPI)
    its.cpu.store(GICR + 0xA0, intid, 8)
    its.int_(1, 0)
    assert its.cpu.ack() == LPI


@pytest.mark.parametrize("nlr", [1, 2, 4, 16])
def test_many_lpis_by_priority(nlr: int) -> None:
    """200 LPIs among SPIs arrive once each, by priority, with any number of list registers."""
    rng = random.Random(nlr)
    with Machine(list_regs=nlr) as m:
        m.boot()
        its = Its(m)
        want = []
        for n in range(200):
            prio = rng.randrange(1, 30) * 8
            its.event(1 + n // 32, n % 32, LPI + n * 40, prio=prio)
            want.append((prio, LPI + n * 40))
        for n in range(40, 60):
            prio = rng.randrange(1, 30) * 8
            m.setup_spi(n, prio)
            want.append((prio, n))
        c = m.cpus[0]
        for n in rng.sample(range(200), 200):
            its.int_(1 + n // 32, n % 32)
        for n in range(40, 60):
            m.inject(n)
        got = []
        while (intid := c.ack()) != SPURIOUS:
            got.append(intid)
            c.eoi(intid)
        assert got == [intid for _, intid in sorted(want)]


def test_lpi_preempts_and_split_end(its: Its) -> None:
    """An LPI preempts an SPI; with EOImode 1 it needs no DIR."""
    c = its.cpu
    its.m.setup_spi(48, 0xA0)
    its.event(1, 0, LPI, prio=0x40)
    c.enter()
    c["ICC_CTLR_EL1"] = 2
    its.m.inject(48)
    assert c.ack() == 48
    its.int_(1, 0)
    assert c.ack() == LPI
    c.eoi(LPI)
    its.int_(1, 0)
    assert c.ack() == LPI
    c.eoi(LPI)
    c.eoi(48)
    c.dir(48)
    assert c.ack() == SPURIOUS


def test_group_and_mask_apply(its: Its) -> None:
    """LPIs are group 1: GICD_CTLR, IGRPEN1 and PMR hold them back."""
    c = its.cpu
    its.event(1, 0, LPI, prio=0x80)
    c.store(GICD, 0)
    its.int_(1, 0)
    assert c.ack() == SPURIOUS
    c.store(GICD, 2)
    c.settle()
    c["ICC_PMR_EL1"] = 0x80
    assert c.ack() == SPURIOUS
    c.exit()
    assert not c.pending
    c.settle()
    c["ICC_PMR_EL1"] = 0xF8
    c["ICC_IGRPEN1_EL1"] = 0
    assert c.ack() == SPURIOUS
    c["ICC_IGRPEN1_EL1"] = 1
    assert c.ack() == LPI


def test_wakes_who_waits(its: Its) -> None:
    """A message notifies the target vCPU only, and ends its WFI."""
    its.event(1, 0, LPI, icid=1)
    a, b = its.m.cpus
    before = a.notified, b.notified
    assert not b.pending
    its.m.msi(0, TRANSLATER, devid=1)
    assert (a.notified - before[0], b.notified - before[1]) == (0, 1)
    assert b.pending


def test_pending_table(its: Its) -> None:
    """Turning LPIs off writes what is pending to the table; turning them on reads it."""
    c = its.cpu
    for n in (0, 9, 8191):
        its.event(1, n % 32, LPI + n)
        its.int_(1, n % 32)
    c.settle()
    c.store(GICR, 0)
    assert c.ack() == SPURIOUS
    assert its.m.peek(PENDING + 1024, 2) == 1 | 1 << 9
    assert its.m.peek(PENDING + 2047, 1) == 0x80
    assert its.int_(1, 1) == 0x010307 or its.cpu.ack() == SPURIOUS
    c.store(GICR, 1)
    got = []
    while (intid := c.ack()) != SPURIOUS:
        got.append(intid)
        c.eoi(intid)
    assert got == [LPI, LPI + 9, LPI + 8191]
    # PTZ says that there is nothing to read
    c.store(GICR, 0)
    its.m.poke(PENDING + 1024, 1, 1)
    c.store(GICR + 0x78, PENDING | 1 << 62, 8)
    assert c.load(GICR + 0x78, 8) == PENDING
    c.store(GICR, 1)
    assert c.ack() == SPURIOUS


def test_lpis_off_takes_none(its: Its) -> None:
    """Events for a vCPU whose LPIs are off are dropped, also when moved there."""
    its.event(1, 0, LPI, icid=1)
    its.cpu.store(GICR + 0x20000, 0)
    its.int_(1, 0)
    its.event(1, 1, LPI + 1, icid=0)
    its.int_(1, 1)
    its.movi(1, 1, 1)
    its.cpu.store(GICR + 0x20000 + 0x78, PENDING + 0x10000 | 1 << 62, 8)
    its.cpu.store(GICR + 0x20000, 1)
    assert its.m.cpus[1].ack() == SPURIOUS
    assert its.cpu.ack() == SPURIOUS


def test_base_registers_are_fixed_while_on(its: Its) -> None:
    """Table registers ignore writes while LPIs or the ITS are on; types are read-only."""
    c = its.cpu
    for reg, size in ((GICR + 0x70, 8), (GICR + 0x78, 8), (CBASER, 8), (BASER, 8), (BASER + 8, 8)):
        was = c.load(reg, size)
        c.store(reg, 0x123456789000, size)
        assert c.load(reg, size) == was
    c.store(CTLR, 0)
    c.store(BASER, (1 << 64) - 1, 8)
    assert c.load(BASER, 8) >> 48 & 0x71F == 0x107
    assert c.load(BASER, 8) >> 8 & 3 == 2
    c.store(BASER + 8, (1 << 64) - 1, 8)
    assert c.load(BASER + 8, 8) >> 48 & 0x71F == 0x407
    assert not c.load(BASER + 8, 8) & INDIRECT
    # halves
    c.store(CBASER, 0x80001000)
    c.store(CBASER + 4, 0x80000000)
    assert c.load(CBASER, 8) == 0x8000000080001000
    assert c.load(CBASER + 4) == 0x80000000


@pytest.mark.parametrize("page", [0, 1, 2])
def test_two_level_device_table(its: Its, page: int) -> None:
    """Devices can be in a two-level table of any page size; missing parts have no devices."""
    size = (0x1000, 0x4000, 0x10000)[page]
    c, m = its.cpu, its.m
    l1, l2 = RAM + 0x200000, RAM + 0x210000
    c.store(CTLR, 0)
    c.store(BASER, VALID | INDIRECT | l1 | page << 8, 8)
    c.store(CTLR, 1)
    per = size // 8
    device = per + 3 if per + 3 < 1 << 16 else 3
    m.poke(l1 + 8 * (device // per), VALID | l2)
    assert its.mapd(device) == 0
    assert m.peek(l2 + 8 * (device % per)) & VALID
    its.prop(LPI + 1)
    assert its.mapti(device, 0, LPI + 1) == 0
    its.int_(device, 0)
    assert c.ack() == LPI + 1
    assert its.mapd(2 * per) == 0x010801 if 2 * per < 1 << 16 else True


# -- the queue -----------------------------------------------------------------------
def test_queue_wraps(its: Its) -> None:
    """Commands are taken in order across the end of the queue, and none twice."""
    its.event(1, 0, LPI)
    for _ in range(300):
        its.sync(0)
    assert its.cpu.load(CREADR, 8) == its.cpu.load(CWRITER, 8) < 4096
    its.queue(*[(0x05, 0, 0)] * 100, (0x03 | 1 << 32, 0))
    assert its.cpu.ack() == LPI


def test_queue_in_portions() -> None:
    """A long queue is served in portions, so that the vCPU can be stopped in between."""
    with Machine() as m:
        m.boot()
        its = Its(m, queue_pages=16)
        its.event(1, 0, LPI)
        at = its.cpu.load(CWRITER, 8)
        for i in range(2000):
            for w, word in enumerate((0x0D if i % 2 else 0x05, 0, 0, 0)):
                m.poke(QUEUE + (at + 32 * i) % 0x10000 + 8 * w, word)
        end = (at + 32 * 2000) % 0x10000
        error, _ = its.cpu.mmio(CWRITER, 8, True, end)
        assert error == errno.EAGAIN
        first = its.cpu.load(CREADR, 8)
        assert at < first < end
        its.ring(end)
        assert its.cpu.load(CREADR, 8) == end


def test_queue_waits_for_enable(its: Its) -> None:
    """Commands that are written while the ITS is off are done when it is turned on."""
    c = its.cpu
    its.event(1, 0, LPI)
    c.store(CTLR, 0)
    at = c.load(CWRITER, 8)
    its.queue((0x03 | 1 << 32, 0))
    assert c.load(CREADR, 8) == at
    assert c.ack() == SPURIOUS
    c.store(CTLR, 1)
    assert c.load(CREADR, 8) == at + 32
    assert c.ack() == LPI


def test_cwriter_out_of_the_queue(its: Its) -> None:
    """A CWRITER beyond the queue's end is not taken."""
    was = its.cpu.load(CWRITER, 8)
    its.cpu.store(CWRITER, 4096, 8)
    its.cpu.store(CWRITER, 0xFFFE0, 8)
    assert its.cpu.load(CWRITER, 8) == its.cpu.load(CREADR, 8) == was


def test_queue_out_of_ram_stalls(its: Its) -> None:
    """A queue that is not in RAM stalls; with a good one it goes on."""
    c = its.cpu
    c.store(CTLR, 0)
    c.store(CBASER, VALID | NOWHERE, 8)
    c.store(CWRITER, 0, 8)
    c.store(CTLR, 1)
    c.store(CWRITER, 32, 8)
    assert c.load(CREADR, 8) == 1
    c.store(CWRITER, 64, 8)
    c.store(CWRITER, 64 | 1, 8)
    assert c.load(CREADR, 8) == 1
    c.store(CTLR, 0)
    c.store(CBASER, VALID | QUEUE, 8)
    c.store(CWRITER, 0, 8)
    c.store(CTLR, 1)
    assert not its.stalled
    assert its.sync(0) == 0


def test_table_out_of_ram_stalls_until_retry(its: Its) -> None:
    """A command whose table is not in RAM stalls the queue; Retry does it again."""
    c, m = its.cpu, its.m
    l1 = RAM + 0x200000
    c.store(CTLR, 0)
    c.store(BASER, VALID | INDIRECT | l1, 8)
    c.store(CTLR, 1)
    m.poke(l1, VALID | NOWHERE)
    at = c.load(CWRITER, 8)
    its.queue((0x08 | 1 << 32, 4, ITTS | VALID), (0x05, 0, 0))
    assert c.load(CREADR, 8) == at | 1
    c.store(CWRITER, at + 64, 8)
    assert c.load(CREADR, 8) == at | 1
    m.poke(l1, VALID | RAM + 0x210000)
    c.store(CWRITER, at + 64 | 1, 8)
    assert c.load(CREADR, 8) == at + 64
    assert m.peek(RAM + 0x210000 + 8) & VALID


# -- K05: guests that mean no good ------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((0x08 | 1 << 48, 4, ITTS | VALID), 0x010801),  # MAPD: device of 17 bits
        ((0x08 | 0x2000 << 32, 4, ITTS | VALID), 0x010801),  # ... beyond the table
        ((0x08 | 1 << 32, 16, ITTS | VALID), 0x010802),  # ... events of 17 bits
        ((0x08 | 1 << 32, 31, ITTS | VALID), 0x010802),
        ((0x09, 0, 1 | 2 << 16 | VALID), 0x010902),  # MAPC: no such processor
        ((0x09, 0, 1 | 0xFFFFFFFF << 16 | VALID), 0x010902),
        ((0x09, 0, 0x2000 | VALID), 0x010903),  # ... collection beyond the table
        ((0x0A | 1 << 32, 32 | LPI << 32, 0), 0x010A05),  # MAPTI: event of 6 bits
        ((0x0A | 1 << 32, 0xFFFFFFFF | LPI << 32, 0), 0x010A05),
        ((0x0A | 1 << 32, 1 | 8191 << 32, 0), 0x010A06),  # ... INTIDs that are none
        ((0x0A | 1 << 32, 1 | 16384 << 32, 0), 0x010A06),
        ((0x0A | 1 << 32, 1 | 0xFFFFFFFF << 32, 0), 0x010A06),
        ((0x0A | 1 << 32, 1 | 27 << 32, 0), 0x010A06),
        ((0x0A | 1 << 32, 1 | LPI << 32, 0x2000), 0x010A03),
        ((0x0A | 9 << 32, 1 | LPI << 32, 0), 0x010A04),  # ... device without MAPD
        ((0x0B | 1 << 32, 1, 0), 0x010B06),  # MAPI: INTID 1
        ((0x01 | 1 << 32, 0, 7), 0x010109),  # MOVI: collection without MAPC
        ((0x01 | 1 << 32, 1, 0), 0x010107),  # ... event that is not mapped
        ((0x03 | 1 << 32, 1), 0x010307),
        ((0x04 | 1 << 32, 1), 0x010407),
        ((0x0C | 1 << 32, 1), 0x010C07),
        ((0x0F | 1 << 32, 1), 0x010F07),
        ((0x0F | 9 << 32, 1), 0x010F04),
        ((0x0D, 0, 0x2000), 0x010D03),
        ((0x0D, 0, 7), 0x010D09),
        ((0x0E, 0, 2 << 16, 0), 0x010E02),  # MOVALL: K05, "test for valid IRQ in MOVALL"
        ((0x0E, 0, 0, 2 << 16), 0x010E02),
        ((0x05, 0, 2 << 16), 0x010502),
        ((0x00,), 0x0100FF),
        ((0x10,), 0x0110FF),
        ((0xFF,), 0x01FFFF),
    ],
)
def test_bad_commands_are_ignored(its: Its, words: tuple[int, ...], why: int) -> None:
    """K05: a command that makes no sense is skipped, with its reason; all goes on."""
    its.event(1, 0, LPI)
    before = [its.m.peek(a, 1) for a in (DEVICES + 8, COLLECTIONS, ITTS + 0x1000)]
    assert its.run(*words) == why
    assert [its.m.peek(a, 1) for a in (DEVICES + 8, COLLECTIONS, ITTS + 0x1000)] == before
    assert its.int_(1, 0) == 0
    assert its.cpu.ack() == LPI


@pytest.mark.parametrize("where", [NOWHERE, 0xFFFFFFFFFF000, RAM + (4 << 20), RAM - 0x1000, ITS, 0])
def test_translation_table_out_of_ram(its: Its, where: int) -> None:
    """K05: an ITT that is not in RAM stalls commands and drops messages; nothing is written."""
    assert its.mapd(1, itt=where & 0xFFFFFFFFFFF00) == 0
    its.queue((0x0A | 1 << 32, LPI << 32, 0))
    assert its.stalled
    assert its.m.msi(0, TRANSLATER, devid=1) == errno.EINVAL


def test_tables_written_by_the_guest(its: Its) -> None:
    """K05: whatever the guest writes into its tables is checked when it is used."""
    its.event(1, 0, LPI)
    rng = random.Random(1)
    m = its.m
    values = [0, (1 << 64) - 1, VALID, VALID | 0xFFFF, VALID | 0xFFFFFFFF, VALID | ITTS | 31]
    values += [VALID | NOWHERE, VALID | 0xFFFFFFFFFF00 | 15]
    for _ in range(3000):
        where = rng.choice([DEVICES + 8, COLLECTIONS, COLLECTIONS + 8, ITTS + 0x1000])
        m.poke(where, rng.choice([*values, rng.getrandbits(64), rng.getrandbits(64) | VALID]))
        m.msi(rng.choice([0, 1, 31, 0xFFFFFFFF]), TRANSLATER, devid=1)
        at = its.cpu.load(CWRITER, 8)
        its.queue((rng.choice([1, 3, 4, 0xC, 0xD, 0xE, 0xF]) | 1 << 32, 0, rng.choice([0, 1])))
        if its.stalled:
            its.cpu.store(CTLR, 0)
            its.cpu.store(CBASER, VALID | QUEUE, 8)
            its.cpu.store(CWRITER, 0, 8)
            its.cpu.store(CTLR, 1)
        else:
            assert its.cpu.load(CREADR, 8) == (at + 32) % 4096
    for cpu in m.cpus:
        cpu.settle()
        while (intid := cpu.ack()) != SPURIOUS:
            assert LPI <= intid < LPI + 8192
            cpu.eoi(intid)


def test_random_commands(its: Its) -> None:
    """K05: queues of random bytes, tables of random sizes and places: nothing breaks."""
    rng = random.Random(2)
    c, m = its.cpu, its.m
    for _ in range(200):
        c.store(CTLR, 0)
        c.store(BASER, rng.getrandbits(64) & ~0xFFFFFFFFF000 | RAM | rng.choice([0, NOWHERE]), 8)
        c.store(BASER + 8, rng.getrandbits(64), 8)
        c.store(CBASER, VALID | QUEUE + 0x300000, 8)
        c.store(CWRITER, 0, 8)
        for i in range(0, 32 * 32, 8):
            word = rng.getrandbits(64)
            if i % 32 == 0:
                word = word & ~0xFF | rng.randrange(17)
                word &= rng.choice([(1 << 64) - 1, 0x7FFFFFFFF])
            m.poke(QUEUE + 0x300000 + i, word)
        c.store(CTLR, 1)
        for i in range(33):
            its.ring(32 * 32 | 1 if i else 32 * 32)
        c.store(TRANSLATER, rng.getrandbits(32))
        for n in range(m.ncpus):
            c.store(GICR + 0x20000 * n, rng.getrandbits(1))
            c.store(GICR + 0x20000 * n + 0x70, rng.getrandbits(64), 8)
            c.store(GICR + 0x20000 * n + 0x78, rng.getrandbits(64), 8)
    for cpu in m.cpus:
        while (intid := cpu.ack()) != SPURIOUS:
            cpu.eoi(intid)


def test_property_table_out_of_ram() -> None:
    """A property table that is not in RAM enables nothing."""
    with Machine() as m:
        m.boot()
        its = Its(m)
        c = m.cpus[0]
        c.store(GICR, 0)
        its.redist(0, 0x70, NOWHERE | 13)
        c.store(GICR, 1)
        its.event(1, 0, LPI)
        its.int_(1, 0)
        assert c.ack() == SPURIOUS


def test_few_id_bits() -> None:
    """LPIs beyond PROPBASER.IDbits do not exist."""
    with Machine() as m:
        m.boot()
        its = Its(m)
        c = m.cpus[0]
        c.store(GICR, 0)
        its.redist(0, 0x70, PROPS | 12)
        c.store(GICR, 1)
        assert its.mapd(1) == 0
        assert its.mapti(1, 0, LPI) == 0x010A06


def test_every_offset_is_safe(its: Its) -> None:
    """Every access of every width to the ITS is served."""
    its.event(1, 0, LPI)
    c = its.cpu
    for base in (ITS, ITS + 0x10000):
        for off in [*range(0x200), *range(0xFFC0, 0x10000)]:
            for size in (1, 2, 4, 8):
                c.load(base + off, size)
                if off < 0x80 or off >= 0x98:
                    c.store(base + off, 0xFFFFFFFFFFFFFFFF, size)
                    c.store(base + off, 0, size)


def test_attach_its() -> None:
    """An ITS wants a GICv3, an aligned place of its own of 128 KiB, and to be the only one."""
    with Machine(attach=False) as m:
        assert m.attach_its() == errno.EINVAL
        assert m.attach() == 0
        assert m.attach_its(ITS + 0x1000) == errno.EINVAL
        assert m.attach_its(size=0x10000) == errno.EINVAL
        assert m.attach_its(GICD) == errno.EINVAL
        assert m.attach_its(GICR) == errno.EINVAL
        assert m.attach_its(0xFFFFFFFFFFFF0000) == errno.EINVAL
        assert m.attach_its() == 0
        assert m.attach_its() == errno.EBUSY
    with Machine(attach=False) as m:
        assert m.attach_v2() == 0
        assert m.attach_its() == errno.EINVAL


def test_owner_of_the_lock_dies(its: Its) -> None:
    """When a process dies with the vGIC locked, pending LPIs are found again."""
    its.event(1, 0, LPI + 4000)
    its.int_(1, 0)
    its.m.lib.m_damage_maps(its.m.m)
    its.m.lib.m_die_locked(its.m.m)
    assert its.cpu.ack() == LPI + 4000


def test_reset_of_a_vcpu(its: Its) -> None:
    """A core that is reset keeps its LPIs on, and its pending ones arrive."""
    its.event(1, 0, LPI, icid=1)
    its.int_(1, 0)
    its.m.cpus[1].settle()
    its.m.cpus[1].exit()
    its.m.lib.m_reset(its.m.m, 1)
    assert its.m.cpus[1].ack() == LPI
