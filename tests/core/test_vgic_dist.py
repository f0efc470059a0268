"""Distributor and redistributor frames of a guest's GICv3, and who gets told."""

from __future__ import annotations

import errno

import pytest
from gic_machine import GICD, GICR, SPURIOUS, VIRQ, Machine

CTLR, TYPER, SETSPI, CLRSPI = GICD, GICD + 4, GICD + 0x40, GICD + 0x48
ISENABLER, ICENABLER = GICD + 0x100, GICD + 0x180
ISPENDR, ICPENDR = GICD + 0x200, GICD + 0x280
ISACTIVER, ICACTIVER = GICD + 0x300, GICD + 0x380
IROUTER = GICD + 0x6000


def word(base: int, intid: int) -> tuple[int, int]:
    """Address and bit of an interrupt in a bank of bits."""
    return base + intid // 32 * 4, 1 << intid % 32


def test_identification() -> None:
    """The ID registers say GICv3, INTIDs to 1019, messages, one security state."""
    with Machine(ncpus=20) as m:
        c = m.cpus[0]
        typer = c.load(TYPER)
        assert typer & 0x1F == 31
        assert typer >> 16 & 3 == 1  # MBIS, no LPIs
        assert (typer >> 19 & 0x1F) + 1 == 10
        assert c.load(GICD + 0xFFE8) >> 4 & 15 == 3
        assert c.load(GICR + 0xFFE8) >> 4 & 15 == 3
        assert c.load(CTLR) == 0x50  # ARE, DS
        for cpu in m.cpus:
            typer = c.load(cpu.gicr + 8, 8)
            assert typer >> 32 == (cpu.num & 15 | cpu.num >> 4 << 8)
            assert typer >> 8 & 0xFFFF == cpu.num
            assert bool(typer & 16) == (cpu.num == 19), "Last on the last frame only"
            assert c.load(cpu.gicr + 8) | c.load(cpu.gicr + 12) << 32 == typer


def test_enable_bits_one_by_one() -> None:
    """A01: ICENABLER disables the interrupt it names and no other, for every SPI."""
    with Machine() as m:
        c = m.cpus[0]
        for n in range(1, 32):
            c.store(ISENABLER + 4 * n, 0xFFFFFFFF)
        for intid in range(32, 1020):
            reg, bit = word(ICENABLER, intid)
            before = c.load(reg)
            c.store(reg, bit)
            assert before & ~c.load(reg) == bit
            c.store(reg - 0x80, bit)
            assert c.load(reg) == before
        assert c.load(ISENABLER + 4 * 31) == 0x0FFFFFFF  # 1020 to 1023 are reserved
        assert c.load(ISENABLER) == 0  # SGIs and PPIs are in the redistributor


def test_disabled_while_active() -> None:
    """A02: the end of an interrupt that was disabled while active is not lost."""
    with Machine() as m:
        m.boot()
        m.setup_spi(48)
        c = m.cpus[0]
        m.inject(48)
        assert c.ack() == 48
        reg, bit = word(ICENABLER, 48)
        c.store(reg, bit)
        c.eoi(48)
        assert c.load(word(ISACTIVER, 48)[0]) == 0
        c.store(reg - 0x80, bit)
        m.inject(48)
        assert c.ack() == 48


def test_irouter_halves() -> None:
    """A03: both 32-bit halves of IROUTER can be written and read."""
    with Machine() as m:
        c = m.cpus[0]
        reg = IROUTER + 8 * 40
        c.store(reg, 0x00020301)
        c.store(reg + 4, 0xAA)
        assert c.load(reg, 8) == 0xAA00020301
        c.store(reg, 0x80000000)
        assert c.load(reg + 4) == 0xAA
        assert c.load(reg) == 0x80000000
        c.store(reg, 0xFFFFFFFFFFFFFFFF, 8)
        assert c.load(reg, 8) == 0xFF80FFFFFF
        assert c.load(IROUTER + 8 * 31, 8) == 0


def test_route_to_nobody() -> None:
    """A04: an SPI routed to an affinity nobody has stays pending until it is routed again."""
    with Machine(ncpus=2) as m:
        m.boot()
        m.setup_spi(48)
        c = m.cpus[0]
        c.store(IROUTER + 8 * 48, 0xFF00FFFFFF, 8)
        assert m.inject(48) == 0
        assert [cpu.ack() for cpu in m.cpus] == [SPURIOUS, SPURIOUS]
        c.store(IROUTER + 8 * 48, 1, 8)
        assert m.cpus[0].ack() == SPURIOUS
        assert m.cpus[1].ack() == 48
        c.store(IROUTER + 8 * 48, 0x10, 8)  # Aff0 is 0 to 15


@pytest.mark.parametrize("intid", [0, 15, 27, 31, 1020, 1023, 5000])
def test_setspi_of_no_spi(intid: int) -> None:
    """A05: SETSPI of what is no SPI does nothing."""
    with Machine(ncpus=2) as m:
        m.boot()
        m.cpus[1].store(SETSPI, intid)
        assert [cpu.ack() for cpu in m.cpus] == [SPURIOUS, SPURIOUS]
        assert m.msi(intid) == errno.EINVAL


@pytest.mark.parametrize("intid", [32, 300, 1019])
def test_setspi(intid: int) -> None:
    """A05: SETSPI from one vCPU reaches the SPI's target, as an edge or until CLRSPI."""
    with Machine(ncpus=2) as m:
        m.boot()
        m.setup_spi(intid, cpu=1)
        m.cpus[0].store(SETSPI, intid)
        assert m.cpus[0].ack() == SPURIOUS
        assert m.cpus[1].ack() == intid
        m.cpus[1].eoi(intid)
        assert m.cpus[1].ack() == SPURIOUS
        assert m.msi(intid, GICD + 0x44) == errno.EINVAL
        assert m.msi(intid) == 0
        assert m.cpus[1].ack() == intid
        m.cpus[1].eoi(intid)
        m.setup_spi(intid, cpu=1, edge=False)
        m.cpus[0].store(SETSPI, intid)
        for _ in range(2):
            assert m.cpus[1].ack() == intid
            m.cpus[1].eoi(intid)
        m.cpus[0].store(CLRSPI, intid)
        assert m.cpus[1].ack() == SPURIOUS


def test_wfi_counts_what_would_be_signalled() -> None:
    """A07: WFI is not ended by interrupts that are disabled, masked, of a closed group or less."""
    with Machine() as m:
        m.boot()
        c = m.cpus[0]
        m.setup_spi(48, prio=0x80)
        m.setup_spi(49, prio=0x40)
        assert not c.pending
        c.store(*word(ICENABLER, 48))
        m.inject(48)
        assert not c.pending, "disabled"
        c.store(*word(ISENABLER, 48))
        assert c.pending
        c.store(CTLR, 0)
        assert not c.pending, "group off at the distributor"
        c.store(CTLR, 2)
        c.enter()
        c["ICC_PMR_EL1"] = 0x80
        c.exit()
        assert not c.pending, "masked by PMR: 0x80 is not above 0x80"
        c.enter()
        c["ICC_PMR_EL1"] = 0x88
        c.exit()
        assert c.pending
        c.enter()
        c["ICC_IGRPEN1_EL1"] = 0
        c.exit()
        assert not c.pending, "group off at the interface"
        c.enter()
        c["ICC_IGRPEN1_EL1"] = 1
        assert c.ack() == 48
        m.inject(48)
        c.exit()
        assert not c.pending, "active"
        m.inject(49)
        assert c.pending, "preempts"


def test_ctlr_wakes() -> None:
    """A08: enabling a group at the distributor tells the vCPUs that have something pending."""
    with Machine(ncpus=3) as m:
        m.boot()
        m.setup_spi(48, cpu=1)
        m.cpus[0].store(CTLR, 0)
        m.inject(48)
        before = [c.notified for c in m.cpus]
        m.cpus[0].store(CTLR, 2)
        assert [c.notified for c in m.cpus] == [before[0], before[1] + 1, before[2]]
        assert m.cpus[1].ack() == 48


def test_notify_only_when_it_matters() -> None:
    """A vCPU is told about enabled interrupts, not about disabled ones."""
    with Machine(ncpus=2) as m:
        m.boot()
        m.setup_spi(48, cpu=1)
        c = m.cpus[1]
        m.cpus[0].store(*word(ICENABLER, 48))
        n = c.notified
        m.inject(48)
        assert c.notified == n
        m.cpus[0].store(*word(ISENABLER, 48))
        assert c.notified == n + 1


def test_sgi_reads_are_undefined() -> None:
    """A09: the SGI registers cannot be read, by the guest or when trapped."""
    with Machine() as m:
        for reg in ("ICC_SGI1R_EL1", "ICC_SGI0R_EL1", "ICC_ASGI1R_EL1"):
            assert m.cpus[0].sysreg(reg, write=False)[0] == errno.EFAULT


def sgi(intid: int, targets: int, aff1: int = 0, rs: int = 0, irm: bool = False) -> int:
    return intid << 24 | targets | aff1 << 16 | rs << 44 | int(irm) << 40


def test_sgi_matrix() -> None:
    """A15: every vCPU of 20 reaches every other and itself, by cluster and target list."""
    with Machine(ncpus=20) as m:
        m.boot()
        for src in m.cpus:
            for dst in m.cpus:
                v = sgi(3, 1 << (dst.num & 15), aff1=dst.num >> 4)
                assert src.sysreg("ICC_SGI1R_EL1", v)[0] == 0
                assert dst.ack() == 3
                dst.eoi(3)
                if src.num in (0, 19):
                    assert all(c.ack() == SPURIOUS for c in m.cpus)


def test_sgi_to_all_but_self() -> None:
    """IRM = 1 reaches all other active vCPUs; RS = 1 and absent affinities nobody."""
    with Machine(ncpus=4) as m:
        m.boot()
        m.lib.m_set_active(m.m, 3, 0)
        m.cpus[1].sysreg("ICC_SGI1R_EL1", sgi(7, 0, irm=True))
        assert [c.ack() for c in m.cpus] == [7, SPURIOUS, 7, SPURIOUS]
        for c in m.cpus:
            c.eoi(7)
        for v in (sgi(5, 0xFFFF, rs=1), sgi(5, 0xFFFF, aff1=1), sgi(5, 0xFFF0)):
            m.cpus[0].sysreg("ICC_SGI1R_EL1", v)
        assert [c.ack() for c in m.cpus] == [SPURIOUS] * 4


def test_sgi_groups() -> None:
    """SGI0R and ASGI1R reach SGIs of group 0 only."""
    with Machine(ncpus=2) as m:
        m.boot(groups=3)
        c = m.cpus[1]
        for reg in ("ICC_SGI0R_EL1", "ICC_ASGI1R_EL1"):
            m.cpus[0].sysreg(reg, sgi(4, 2))
        assert c.ack() == SPURIOUS
        c.store(c.sgi + 0x80, 0xFFFFFFEF)
        m.cpus[0].sysreg("ICC_SGI0R_EL1", sgi(4, 2))
        c.settle()
        c["ICC_IGRPEN0_EL1"] = 1
        assert c.lines & 8
        assert c["ICC_IAR0_EL1"] == 4


def test_frame_of_another_vcpu() -> None:
    """A14: a vCPU that writes another's redistributor changes that one."""
    with Machine(ncpus=2) as m:
        m.boot()
        a, b = m.cpus
        a.store(b.sgi + 0x180, 1 << 5)
        assert a.load(b.sgi + 0x100) >> 5 & 1 == 0
        assert a.load(a.sgi + 0x100) >> 5 & 1 == 1
        a.store(b.sgi + 0x400 + 3, 0x47, 1)
        assert b.load(b.sgi + 0x400) == 0x40 << 24
        assert b.load(a.sgi + 0x400) == 0


def test_access_widths() -> None:
    """Wrong widths, odd addresses and unknown registers read zero and change nothing."""
    with Machine() as m:
        c = m.cpus[0]
        c.store(ISENABLER + 4, 0xFF)
        assert c.load(ISENABLER + 4, 1) == 0
        assert c.load(ISENABLER + 4, 8) == 0
        assert c.load(ISENABLER + 6, 2) == 0
        c.store(ICENABLER + 4, 0xFF, 1)
        assert c.load(ISENABLER + 4) == 0xFF
        c.store(GICD + 0x400 + 33, 0xFF, 1)
        assert c.load(GICD + 0x400 + 32) == 0xF800
        assert c.load(GICD + 0x400 + 33, 1) == 0xF8
        assert c.load(GICD + 0x400 + 33, 4) == 0
        c.store(GICD + 0x800 + 32, 0xFF, 1)
        assert c.load(GICD + 0x800 + 32) == 0
        assert c.load(GICD + 0xFFFC) == 0
        assert c.mmio(GICD - 4, 4, False)[0] == errno.ENOENT
        assert c.mmio(GICD + 0x10000, 4, False)[0] == errno.ENOENT
        assert c.mmio(GICR + 0x20000, 4, False)[0] == errno.ENOENT


def test_private_interrupts_keep_their_kind() -> None:
    """SGIs are edges and PPIs levels, whatever is written to their ICFGR."""
    with Machine() as m:
        c = m.cpus[0]
        icfgr = c.sgi + 0xC00
        c.store(icfgr, 0)
        c.store(icfgr + 4, 0xFFFFFFFF)
        assert (c.load(icfgr), c.load(icfgr + 4)) == (0xAAAAAAAA, 0)


def test_every_offset_is_safe() -> None:
    """Every aligned access of every width to both frames is served."""
    with Machine(ncpus=2) as m:
        c = m.cpus[0]
        for base in (GICD, GICR, GICR + 0x10000):
            for off in [*range(0, 0x1000, 4), *range(0x6000, 0x8000, 4), *range(0xFF00, 0x10000)]:
                for size in (1, 2, 4, 8):
                    c.store(base + off, 0xFFFFFFFFFFFFFFFF, size)
                    c.load(base + off, size)


def test_pending_bits() -> None:
    """A level that is up stays pending whatever is cleared; ISPENDR counts once."""
    with Machine() as m:
        m.boot()
        c = m.cpus[0]
        m.setup_spi(48, edge=False)
        reg, bit = word(ISPENDR, 48)
        m.inject(48)
        c.store(reg + 0x80, bit)
        assert c.load(reg) == bit
        m.inject(48, False)
        assert c.load(reg) == 0
        c.store(reg, bit)
        assert c.ack() == 48
        c.eoi(48)
        c.exit()
        assert c.ack() == SPURIOUS
        c.store(reg, bit)
        c.store(reg + 0x80, bit)
        assert c.ack() == SPURIOUS


def test_state_of_a_running_vcpu() -> None:
    """Active and pending state in another vCPU's list registers is visible and changeable."""
    with Machine(ncpus=2) as m:
        m.boot()
        a, b = m.cpus
        m.setup_spi(48, cpu=1)
        m.setup_spi(49, cpu=1, prio=0x90)
        m.inject(48)
        m.inject(49)
        assert b.ack() == 48
        assert b.in_guest
        assert a.load(word(ISACTIVER, 48)[0]) == word(ISACTIVER, 48)[1]
        b.settle()
        assert a.load(word(ISPENDR, 49)[0]) == word(ISPENDR, 49)[1]
        b.settle()
        a.store(*word(ICPENDR, 49))
        a.store(*word(ICACTIVER, 48))
        b.settle()
        b["ICC_EOIR1_EL1"] = 48
        assert b.ack() == SPURIOUS
        a.store(*word(ISACTIVER, 48))
        m.inject(48)
        assert b.ack() == SPURIOUS
        a.store(*word(ICACTIVER, 48))
        assert b.ack() == 48


def test_retarget_while_pending_in_list_register() -> None:
    """An SPI that waits in a running vCPU's list register moves with IROUTER."""
    with Machine(ncpus=2) as m:
        m.boot()
        a, b = m.cpus
        m.setup_spi(48, cpu=1)
        m.inject(48)
        b.settle()
        assert b.lines & VIRQ
        a.store(IROUTER + 8 * 48, 0, 8)
        assert b.ack() == SPURIOUS
        assert a.ack() == 48


def test_active_stays_with_its_vcpu() -> None:
    """An active SPI ends on the vCPU that took it, and then goes to its new target."""
    with Machine(ncpus=2) as m:
        m.boot()
        a, b = m.cpus
        m.setup_spi(48, cpu=1)
        m.inject(48)
        assert b.ack() == 48
        a.store(IROUTER + 8 * 48, 0, 8)
        m.inject(48)
        assert a.ack() == SPURIOUS
        b.eoi(48)
        assert b.exits
        assert b.ack() == SPURIOUS
        assert a.ack() == 48


def test_one_of_n() -> None:
    """IRM = 1 in IROUTER picks a vCPU that is awake."""
    with Machine(ncpus=3) as m:
        m.boot()
        m.cpus[0].store(m.cpus[0].gicr + 0x14, 2)
        assert m.cpus[0].load(m.cpus[0].gicr + 0x14) == 6
        m.setup_spi(48)
        m.cpus[0].store(IROUTER + 8 * 48, 1 << 31, 8)
        m.inject(48)
        got = [c.ack() for c in m.cpus]
        assert got[0] == SPURIOUS
        assert sorted(got[1:]) == [48, SPURIOUS]


def test_one_of_n_leaves_who_goes_to_sleep() -> None:
    """A pending 1-of-N SPI moves on when the vCPU it waits for goes to sleep."""
    with Machine(ncpus=3) as m:
        m.boot()
        m.setup_spi(48)
        c = m.cpus[0]
        c.store(IROUTER + 8 * 48, 1 << 31, 8)
        for n in (0, 1):
            c.store(m.cpus[n].gicr + 0x14, 2)
        m.inject(48)
        m.cpus[2].settle()
        assert m.cpus[2].lines & VIRQ
        c.store(m.cpus[1].gicr + 0x14, 0)
        c.store(m.cpus[2].gicr + 0x14, 2)
        assert [x.ack() for x in m.cpus] == [SPURIOUS, 48, SPURIOUS]
        c.store(m.cpus[2].gicr + 0x14, 0)
        m.cpus[1].eoi(48)
        taken = []
        for _ in range(8):
            m.inject(48)
            for x in m.cpus:
                if x.ack() == 48:
                    x.eoi(48)
                    taken.append(x.num)
        assert len(taken) == 8
        assert set(taken) <= {1, 2}


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((GICD, 0x10000, GICR, 0x40000), 0),
        ((GICD, 0x10000, GICR, 0x20000), 0),
        ((GICD + 0x1000, 0x10000, GICR, 0x40000), errno.EINVAL),
        ((GICD, 0x20000, GICR, 0x40000), errno.EINVAL),
        ((GICD, 0x10000, GICR + 0x1000, 0x40000), errno.EINVAL),
        ((GICD, 0x10000, GICR, 0x30000), errno.EINVAL),
        ((GICD, 0x10000, GICR, 0), errno.EINVAL),
        ((GICD, 0x10000, GICR, 0x60000), errno.EINVAL),
        ((GICD, 0x10000, GICD, 0x40000), errno.EINVAL),
        ((0xFFFFFFFFFFFF0000, 0x10000, GICR, 0x40000), errno.EINVAL),
    ],
)
def test_attach(args: tuple[int, int, int, int], error: int) -> None:
    """Attaching wants aligned frames of the right size for at most the VM's vCPUs, once."""
    with Machine(ncpus=2, attach=False) as m:
        assert m.inject(32) == errno.ENODEV
        assert m.msi(32) == errno.ENODEV
        assert m.cpus[0].mmio(GICD, 4, False)[0] == errno.ENOENT
        assert m.attach(*args) == error
        if error == 0:
            assert m.attach(*args) == errno.EBUSY


def test_inject_checks() -> None:
    """Injection refuses interrupts and vCPUs that do not exist."""
    with Machine(ncpus=2) as m:
        for intid, cpu in ((31, -1), (1020, -1), (32, 0), (27, 2), (1 << 31, -1)):
            assert m.inject(intid, cpu=cpu) == errno.EINVAL
        assert m.inject(27, cpu=1) == 0
        assert m.inject(1019) == 0


def test_reset_of_a_vcpu() -> None:
    """After a reset of its core nothing is active, and pending SPIs still arrive."""
    with Machine() as m:
        m.boot()
        c = m.cpus[0]
        m.setup_spi(48)
        m.setup_spi(49, prio=0x90)
        m.inject(48)
        m.inject(49)
        assert c.ack() == 48
        c.exit()
        m.lib.m_reset(m.m, 0)
        assert c.load(word(ISACTIVER, 48)[0]) == 0
        assert c.ack() == 49
        c.eoi(49)
        m.inject(48)
        assert c.ack() == 48


def test_owner_of_the_lock_dies() -> None:
    """When a process dies with the vGIC locked, the bitmaps are derived again: nothing is lost."""
    with Machine(ncpus=2) as m:
        m.boot()
        for i in range(6):
            m.setup_spi(48 + i, cpu=i & 1)
            m.inject(48 + i)
        a, b = m.cpus
        assert a.ack() == 48
        m.lib.m_die_locked(m.m)
        m.lib.m_damage_maps(m.m)
        a.exit()
        a.eoi(48)
        got: list[list[int]] = [[], []]
        for c in (a, b):
            while (i := c.ack()) != SPURIOUS:
                got[c.num].append(i)
                c.eoi(i)
        assert got == [[50, 52], [49, 51, 53]]
