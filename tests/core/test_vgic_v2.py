"""A guest's GICv2: distributor with targets and SGI sources, CPU interface by MMIO."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

import pytest

from .gic_machine import FIQ, GICC, GICD, SPURIOUS, VFIQ, VIRQ, Cpu, Machine, TrapError

CTLR, TYPER = GICD, GICD + 4
IGROUPR, ISENABLER, ICENABLER = GICD + 0x80, GICD + 0x100, GICD + 0x180
ISPENDR, ICPENDR, ISACTIVER, ICACTIVER = GICD + 0x200, GICD + 0x280, GICD + 0x300, GICD + 0x380
IPRIORITYR, ITARGETSR, ICFGR = GICD + 0x400, GICD + 0x800, GICD + 0xC00
SGIR, CPENDSGIR, SPENDSGIR = GICD + 0xF00, GICD + 0xF10, GICD + 0xF20
C_CTLR, PMR, BPR, IAR, EOIR = GICC, GICC + 4, GICC + 8, GICC + 0xC, GICC + 0x10
RPR, HPPIR, ABPR = GICC + 0x14, GICC + 0x18, GICC + 0x1C
AIAR, AEOIR, AHPPIR, DIR = GICC + 0x20, GICC + 0x24, GICC + 0x28, GICC + 0x1000


def boot(m: Machine, ctlr: int = 1) -> Machine:
    """A GICv2 that is on, with the CPU interfaces as `ctlr` says."""
    assert m.attach_v2() == 0
    m.cpus[0].store(CTLR, 3)
    for c in m.cpus:
        c.store(PMR, 0xF8)
        c.store(C_CTLR, ctlr)
    return m


def spi(m: Machine, intid: int, prio: int = 0x80, edge: bool = True, targets: int = 1) -> None:
    c = m.cpus[0]
    reg = ICFGR + intid // 16 * 4
    cfg = c.load(reg) & ~(3 << intid % 16 * 2)
    c.store(reg, cfg | (2 if edge else 0) << intid % 16 * 2)
    c.store(IPRIORITYR + intid, prio, 1)
    c.store(ITARGETSR + intid, targets, 1)
    c.store(ISENABLER + intid // 32 * 4, 1 << intid % 32)


def signalled(c: Cpu) -> bool:
    """Does the running guest see an IRQ?"""
    c.settle()
    return bool(c.lines & VIRQ)


def take(c: Cpu) -> int:
    """Acknowledge what is signalled."""
    return c.load(IAR) if signalled(c) else SPURIOUS


@pytest.fixture
def m() -> Iterator[Machine]:
    """Four vCPUs."""
    with Machine(ncpus=4, attach=False) as machine:
        yield boot(machine)


def test_identification(m: Machine) -> None:
    """The ID registers say GICv2, 1020 INTIDs, four CPUs."""
    c = m.cpus[0]
    assert c.load(TYPER) == 31 | 3 << 5
    assert c.load(GICD + 0xFE8) == 0x2B
    assert c.load(GICC + 0xFC) == 0x0002043B
    assert [x.load(ITARGETSR) for x in m.cpus] == [0x01010101 << i for i in range(4)]
    assert c.load(IAR) == SPURIOUS
    assert c.load(RPR) == 0xFF
    assert c.load(HPPIR) == SPURIOUS


@pytest.mark.parametrize("nlr", [1, 2, 4, 16])
def test_acknowledge_and_end(nlr: int) -> None:
    """IAR makes an interrupt active, EOIR ends it; edges while active come after the end."""
    with Machine(list_regs=nlr, attach=False) as m:
        boot(m)
        c = m.cpus[0]
        spi(m, 40, 0x60)
        m.inject(40)
        assert take(c) == 40
        assert c.load(RPR) == 0x60
        assert c.load(ISACTIVER + 4) == 1 << 8
        assert not signalled(c)
        m.inject(40)
        assert not signalled(c)
        c.store(EOIR, 40)
        assert c.load(RPR) == 0xFF
        assert take(c) == 40
        c.store(EOIR, 40)
        assert not signalled(c)
        assert c.load(IAR) == SPURIOUS


@pytest.mark.parametrize("nlr", [1, 2, 4, 16])
def test_many_by_priority(nlr: int) -> None:
    """A06: 64 SPIs at once come once each, by priority, with any number of list registers."""
    rng = random.Random(nlr)
    with Machine(list_regs=nlr, attach=False) as m:
        boot(m)
        c = m.cpus[0]
        prio = {n: rng.randrange(1, 30) * 8 for n in range(40, 104)}
        for n, p in prio.items():
            spi(m, n, p)
        for n in rng.sample(sorted(prio), 64):
            m.inject(n)
        got = []
        while (n := take(c)) != SPURIOUS:
            got.append(n)
            c.store(EOIR, n)
        assert got == sorted(prio, key=lambda n: (prio[n], n))


def test_level(m: Machine) -> None:
    """A level that stays up comes again after the end; one that falls before IAR is withdrawn."""
    c = m.cpus[0]
    spi(m, 40, edge=False)
    m.inject(40)
    assert take(c) == 40
    c.store(EOIR, 40)
    assert take(c) == 40
    m.inject(40, False)
    c.store(EOIR, 40)
    assert not signalled(c)
    m.inject(40)
    assert signalled(c)
    m.inject(40, False)
    assert not signalled(c)


def test_mask_and_preemption(m: Machine) -> None:
    """PMR is strict; only a higher group priority preempts; ends unwind."""
    c = m.cpus[0]
    for n, prio in ((40, 0x80), (41, 0x70), (42, 0x48), (43, 0x30)):
        spi(m, n, prio)
    c.store(PMR, 0x80)
    m.inject(40)
    assert not signalled(c)
    assert c.load(IAR) == SPURIOUS
    assert c.load(HPPIR) == 40
    c.store(PMR, 0x88)
    assert take(c) == 40
    c.store(BPR, 5)  # group priority: bits 7 and 6
    m.inject(41)
    assert take(c) == 41  # 0x40 against 0x80
    m.inject(42)
    assert not signalled(c)
    m.inject(43)
    assert take(c) == 43
    assert c.load(RPR) == 0
    c.store(EOIR, 43)
    assert c.load(RPR) == 0x40
    c.store(EOIR, 41)
    assert take(c) == 42
    c.store(EOIR, 42)
    assert c.load(RPR) == 0x80
    c.store(EOIR, 40)
    assert c.load(RPR) == 0xFF


def test_binary_point_limits(m: Machine) -> None:
    """BPR is at least 2, ABPR at least 3."""
    c = m.cpus[0]
    assert (c.load(BPR), c.load(ABPR)) == (2, 3)
    for v in range(8):
        c.store(BPR, v)
        c.store(ABPR, v)
        assert (c.load(BPR), c.load(ABPR)) == (max(v, 2), max(v, 3))


def test_split_end(m: Machine) -> None:
    """EOImode 1: EOIR drops the priority, DIR deactivates; EOImode 0: DIR is ignored."""
    c = m.cpus[0]
    spi(m, 40)
    m.inject(40)
    assert take(c) == 40
    c.store(DIR, 40)
    assert c.load(ISACTIVER + 4) == 1 << 8
    c.store(C_CTLR, 1 | 1 << 9)
    c.store(EOIR, 40)
    assert c.load(RPR) == 0xFF
    assert c.load(ISACTIVER + 4) == 1 << 8
    c.store(DIR, 40)
    assert c.load(ISACTIVER + 4) == 0


@pytest.mark.parametrize("intid", [1020, 1022, 1023, 500])
def test_ends_of_what_is_not_active(m: Machine, intid: int) -> None:
    """EOIR and DIR of special or inactive INTIDs end nothing else."""
    c = m.cpus[0]
    spi(m, 40)
    m.inject(40)
    assert take(c) == 40
    c.store(EOIR, intid)
    c.store(C_CTLR, 1 | 1 << 9)
    c.store(DIR, intid)
    assert c.load(ISACTIVER + 4) == 1 << 8


def test_groups(m: Machine) -> None:
    """Group 1 by the aliased registers; IAR says 1022 of it, unless AckCtl is set."""
    c = m.cpus[0]
    spi(m, 40)
    c.store(IGROUPR + 4, 1 << 8)
    m.inject(40)
    assert not signalled(c)
    c.store(C_CTLR, 3)
    assert signalled(c)
    assert c.load(IAR) == 1022
    assert c.load(HPPIR) == 1022
    assert c.load(AHPPIR) == 40
    assert c.load(AIAR) == 40
    c.store(AEOIR, 40)
    m.inject(40)
    c.store(C_CTLR, 7)
    assert c.load(HPPIR) == 40
    assert take(c) == 40
    c.store(EOIR, 40)
    spi(m, 41)
    m.inject(41)
    assert c.load(AHPPIR) == SPURIOUS
    assert c.load(AIAR) == SPURIOUS
    assert take(c) == 41


def test_fiq(m: Machine) -> None:
    """With FIQEn group 0 is signalled as FIQ, group 1 as IRQ."""
    c = m.cpus[0]
    c.store(C_CTLR, 0xB)
    spi(m, 40)
    spi(m, 41)
    c.store(IGROUPR + 4, 1 << 9)
    m.inject(40)
    c.settle()
    assert c.lines & (VIRQ | VFIQ | FIQ) == VFIQ
    c.store(ICPENDR + 4, 1 << 8)
    m.inject(41)
    c.settle()
    assert c.lines & (VIRQ | VFIQ | FIQ) == VIRQ


def test_targets(m: Machine) -> None:
    """ITARGETSR chooses the CPU, the lowest of several, none for 0; PPIs have fixed ones."""
    spi(m, 40, targets=0b1100)
    m.inject(40)
    assert [take(c) for c in m.cpus] == [SPURIOUS, SPURIOUS, 40, SPURIOUS]
    c = m.cpus[0]
    m.cpus[2].store(EOIR, 40)
    c.store(ITARGETSR + 40, 0, 1)
    m.inject(40)
    assert [take(c) for c in m.cpus] == [SPURIOUS] * 4
    c.store(ITARGETSR + 40, 0x02020202)
    assert c.load(ITARGETSR + 40) == 0x02020202
    assert [take(c) for c in m.cpus] == [SPURIOUS, 40, SPURIOUS, SPURIOUS]
    c.store(ITARGETSR + 40, 0xFF, 1)
    assert c.load(ITARGETSR + 40, 1) == 0xF
    c.store(ITARGETSR + 16, 0xFF, 1)
    assert c.load(ITARGETSR + 16, 1) == 1


def test_one_cpu_has_no_targets() -> None:
    """With one CPU ITARGETSR reads zero and every SPI goes to it."""
    with Machine(attach=False) as m:
        boot(m)
        spi(m, 40, targets=0)
        assert m.cpus[0].load(ITARGETSR) == 0
        m.cpus[0].store(ITARGETSR + 40, 0xFF, 1)
        assert m.cpus[0].load(ITARGETSR + 40) == 0
        m.inject(40)
        assert take(m.cpus[0]) == 40


def test_sgis_keep_their_sources(m: Machine) -> None:
    """The same SGI from three CPUs is three interrupts, each with its sender."""
    for c in m.cpus[1:]:
        c.store(SGIR, 1 << 16 | 5)
        c.store(SGIR, 1 << 16 | 5)
    c = m.cpus[0]
    assert c.load(SPENDSGIR + 5, 1) == 0b1110
    assert c.load(HPPIR) == 5 | 1 << 10
    got = []
    for _ in range(3):
        got.append(take(c))
        c.store(EOIR, got[-1])
    assert got == [5 | n << 10 for n in (1, 2, 3)]
    assert not signalled(c)


def test_sgi_filters(m: Machine) -> None:
    """GICD_SGIR reaches a list, all but the sender, or the sender."""
    for value, reached in ((0b1010 << 16, [1, 3]), (1 << 24, [0, 1, 3]), (2 << 24, [2])):
        m.cpus[2].store(SGIR, value | 7)
        assert [c.num for c in m.cpus if take(c) == 7 | 2 << 10] == reached
        for c in m.cpus:
            c.store(EOIR, 7 | 2 << 10)
    m.cpus[2].store(SGIR, 3 << 24 | 0xF << 16 | 7)
    assert [take(c) for c in m.cpus] == [SPURIOUS] * 4


def test_sgi_pending_registers(m: Machine) -> None:
    """SPENDSGIR and CPENDSGIR set and clear senders; ISPENDR does not touch SGIs."""
    c = m.cpus[1]
    c.store(SPENDSGIR + 4, 0b0101 << 8)  # SGI 5
    assert c.load(CPENDSGIR + 4) == 0b0101 << 8
    assert c.load(ISPENDR) == 1 << 5
    c.store(ICPENDR, 1 << 5)
    c.store(ISPENDR, 1 << 6)
    assert c.load(ISPENDR) == 1 << 5
    c.store(CPENDSGIR + 5, 0b0001, 1)
    assert take(c) == 5 | 2 << 10
    assert m.cpus[0].load(SPENDSGIR + 4) == 0
    c.store(SPENDSGIR + 6, 0xF0, 1)
    assert c.load(SPENDSGIR + 6, 1) == 0


def test_private_interrupts_are_banked(m: Machine) -> None:
    """Each CPU has its own enables, priorities and states of INTIDs 0 to 31."""
    a, b = m.cpus[:2]
    a.store(ISENABLER, 1 << 20)
    b.store(IPRIORITYR + 20, 0x40, 1)
    assert not b.load(ISENABLER) & 1 << 20
    assert a.load(IPRIORITYR + 20, 1) == 0
    m.inject(20, cpu=1)
    assert not signalled(b)
    b.store(ISENABLER, 1 << 20)
    assert take(b) == 20
    assert b.load(RPR) == 0x40
    assert not signalled(a)


def test_state_of_a_running_vcpu(m: Machine) -> None:
    """What waits in another vCPU's list register can be seen, cleared and moved."""
    a, b = m.cpus[:2]
    spi(m, 40, targets=2)
    m.inject(40)
    assert signalled(b)
    assert a.load(ISPENDR + 4) == 1 << 8
    assert signalled(b)
    a.store(ICPENDR + 4, 1 << 8)
    assert not signalled(b)
    m.inject(40)
    assert signalled(b)
    a.store(ITARGETSR + 40, 1, 1)
    assert not signalled(b)
    assert take(a) == 40
    b.store(ICACTIVER + 4, 1 << 8)
    assert a.load(ISACTIVER + 4) == 0


def test_distributor_enable(m: Machine) -> None:
    """A08: enabling a group at the distributor tells the CPU that waits."""
    a, b = m.cpus[:2]
    a.store(CTLR, 0)
    spi(m, 40, targets=2)
    m.inject(40)
    assert not b.pending
    before = b.notified
    a.store(CTLR, 1)
    assert b.notified == before + 1
    assert b.pending
    assert a.load(CTLR) == 1


def test_wfi_counts_what_would_be_signalled(m: Machine) -> None:
    """A07: what is disabled, masked or of a closed group does not end WFI."""
    c = m.cpus[0]
    spi(m, 40, 0x80)
    m.inject(40)
    assert c.pending
    c.store(PMR, 0x80)
    assert not c.pending
    c.store(PMR, 0xF8)
    c.store(C_CTLR, 2)
    assert not c.pending
    c.store(C_CTLR, 1)
    c.store(ICENABLER + 4, 1 << 8)
    assert not c.pending


def test_no_system_registers(m: Machine) -> None:
    """ICC_* registers trap and are UNDEFINED: K07, SGI registers too."""
    c = m.cpus[0]
    for reg in ("ICC_IAR1_EL1", "ICC_PMR_EL1", "ICC_IAR0_EL1", "ICC_CTLR_EL1"):
        c.settle()
        with pytest.raises(TrapError):
            _ = c[reg]
    for reg in ("ICC_SGI1R_EL1", "ICC_SGI0R_EL1", "ICC_ASGI1R_EL1", "ICC_DIR_EL1"):
        assert c.sysreg(reg, 0)[0] == errno.EFAULT
    assert m.msi(300) == errno.EINVAL


def test_timer(m: Machine) -> None:
    """The virtual timer's PPI is a level: it comes again after an end while it is due."""
    c = m.cpus[0]
    c.store(ISENABLER, 1 << 27)
    c.settle()
    c["CNTV_CVAL_EL0"] = 0
    c["CNTV_CTL_EL0"] = 1
    assert take(c) == 27
    c.store(EOIR, 27)
    assert take(c) == 27
    c.settle()
    c["CNTV_CTL_EL0"] = 0
    c.exit()
    c.store(EOIR, 27)
    assert not signalled(c)


def test_reset_of_a_vcpu(m: Machine) -> None:
    """A reset core has a closed interface and nothing active."""
    c = m.cpus[1]
    spi(m, 40, targets=2)
    m.inject(40)
    assert take(c) == 40
    c.exit()
    m.lib.m_reset(m.m, 1)
    assert c.load(C_CTLR) == 0
    assert c.load(PMR) == 0
    assert c.load(RPR) == 0xFF
    assert c.load(ISACTIVER + 4) == 0


def test_every_offset_is_safe(m: Machine) -> None:
    """Every access of every width to both frames is served."""
    c = m.cpus[0]
    for base, end in ((GICD, 0x1000), (GICC, 0x1100)):
        for off in range(end):
            for size in (1, 2, 4, 8):
                c.load(base + off, size)
                c.store(base + off, 0xFFFFFFFFFFFFFFFF, size)


def test_random_edges_are_counted(m: Machine) -> None:
    """Random raising, masking and moving: every edge is taken, none is stuck."""
    rng = random.Random(7)
    spis = range(40, 48)
    for n in spis:
        spi(m, n)
    pending: dict[int, bool] = dict.fromkeys(spis, False)
    taken = raised = 0
    for _ in range(4000):
        n = rng.choice(spis)
        match rng.randrange(5):
            case 0 | 1:
                if not pending[n]:
                    m.inject(n)
                    pending[n] = True
                    raised += 1
            case 2:
                m.cpus[0].store(ITARGETSR + n, 1 << rng.randrange(4), 1)
            case 3:
                m.cpus[0].store(rng.choice([ISENABLER, ICENABLER]) + 4, 1 << n % 32)
            case _:
                m.cpus[0].store(IPRIORITYR + n, rng.randrange(1, 30) * 8, 1)
        c = rng.choice(m.cpus)
        if (got := take(c)) != SPURIOUS:
            assert pending[got]
            pending[got] = False
            taken += 1
            c.store(EOIR, got)
    m.cpus[0].store(ISENABLER + 4, 0xFF << 8)
    for c in m.cpus:
        while (got := take(c)) != SPURIOUS:
            pending[got] = False
            taken += 1
            c.store(EOIR, got)
    assert taken == raised
    assert not any(pending.values())


@pytest.mark.parametrize(
    "args",
    [
        (GICD + 0x100, 0x10000, GICC, 0x2000),
        (GICD, 0x800, GICC, 0x2000),
        (GICD, 0x10000, GICC, 0x1000),
        (GICD, 0x10000, GICD + 0x1000, 0x2000),
        (0xFFFFFFFFFFFFF000, 0x2000, GICC, 0x2000),
    ],
)
def test_attach(args: tuple[int, int, int, int]) -> None:
    """Attaching wants aligned frames of at least their size that do not overlap, once."""
    with Machine(attach=False) as m:
        assert m.attach_v2(*args) == errno.EINVAL
        assert m.attach_v2() == 0
        assert m.attach_v2() == errno.EBUSY
        assert m.attach() == errno.EBUSY


def test_nine_cpus_are_too_many() -> None:
    """A GICv2 has room for 8 CPUs."""
    with Machine(ncpus=9, attach=False) as m:
        assert m.attach_v2() == errno.EINVAL
    with Machine(ncpus=8, attach=False) as m:
        boot(m)
        m.cpus[7].store(SGIR, 0xFF << 16 | 3)
        assert [take(c) for c in m.cpus] == [3 | 7 << 10] * 8


def test_list_registers_are_chosen_before_attaching() -> None:
    """The number of list registers is 1 to 16, and fixed once there is a GIC."""
    with Machine(attach=False) as m:
        assert [m.set_list_regs(n) for n in (0, 17, 16)] == [errno.EINVAL, errno.EINVAL, 0]
        assert m.attach() == 0
        assert m.set_list_regs(4) == errno.EBUSY
