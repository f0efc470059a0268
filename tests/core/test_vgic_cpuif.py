"""The PE's GIC CPU interface: virtual as a guest uses it, physical as its host does."""

from __future__ import annotations

import pytest
from gic_machine import (
    FIQ,
    HCR_IMO_FMO,
    IRQ,
    SPURIOUS,
    VFIQ,
    VIRQ,
    Cpu,
    Machine,
    TrapError,
    UndefinedError,
)

PENDING, ACTIVE, HW, G1, EOI = 1 << 62, 1 << 63, 1 << 61, 1 << 60, 1 << 41
EN, UIE, LRENPIE, NPIE = 1, 2, 4, 8
VMCR_OPEN = 0xF8 << 24 | 2 << 21 | 3 << 18 | 3


def lr(intid: int, prio: int = 0x80, state: int = PENDING, group: int = 1, **kw: int) -> int:
    v = intid | prio << 48 | state | (G1 if group else 0)
    if "pintid" in kw:
        v |= HW | kw["pintid"] << 32
    return v | kw.get("extra", 0)


def bare(list_regs: int = 4) -> tuple[Machine, Cpu, Cpu]:
    """A PE with an open virtual interface: machine, EL1 and EL2 views."""
    m = Machine(list_regs=list_regs, attach=False)
    el1, el2 = m.cpus[0], m.cpus[0].at(2)
    el2["HCR_EL2"] = HCR_IMO_FMO
    el2["ICH_VMCR_EL2"] = VMCR_OPEN
    el2["ICH_HCR_EL2"] = EN
    return m, el1, el2


@pytest.mark.parametrize("n", [1, 4, 16])
def test_vtr(n: int) -> None:
    """ICH_VTR tells the list registers, five priority and preemption bits, DIR traps."""
    m, _, el2 = bare(n)
    with m:
        vtr = el2["ICH_VTR_EL2"]
        assert vtr & 31 == n - 1
        assert vtr >> 26 == 4 << 3 | 4
        assert vtr >> 19 & 7 == 7
        el2["ICH_LR0_EL2"] = lr(33)
        if n < 16:
            el2["ICH_LR15_EL2"] = lr(33)
            assert el2["ICH_LR15_EL2"] == 0
        assert el2["ICH_ELRSR_EL2"] == (1 << n) - 2


def test_acknowledge_and_end() -> None:
    """IAR makes a list register active and sets the priority; EOIR ends both."""
    m, el1, el2 = bare()
    with m:
        el2["ICH_LR1_EL2"] = lr(40, 0x90)
        assert el1.lines & (VIRQ | VFIQ) == VIRQ
        assert el1["ICC_HPPIR1_EL1"] == 40
        assert el1["ICC_IAR1_EL1"] == 40
        assert el2["ICH_LR1_EL2"] == lr(40, 0x90, ACTIVE)
        assert el1["ICC_RPR_EL1"] == 0x90
        assert el2["ICH_AP1R0_EL2"] == 1 << (0x90 >> 3)
        assert not el1.lines & VIRQ
        assert el1["ICC_IAR1_EL1"] == SPURIOUS
        assert el1["ICC_HPPIR1_EL1"] == SPURIOUS
        el1["ICC_EOIR1_EL1"] = 40
        assert el2["ICH_LR1_EL2"] == lr(40, 0x90, 0)
        assert el1["ICC_RPR_EL1"] == 0xFF


def test_pending_and_active() -> None:
    """A pending and active list register is pending again after the end."""
    m, el1, el2 = bare()
    with m:
        el2["ICH_LR0_EL2"] = lr(40, state=PENDING | ACTIVE)
        el2["ICH_AP1R0_EL2"] = 1 << 16
        assert el1["ICC_IAR1_EL1"] == SPURIOUS
        el1["ICC_EOIR1_EL1"] = 40
        assert el1["ICC_IAR1_EL1"] == 40


def test_priority_mask_is_strict() -> None:
    """An interrupt is signalled when its priority is above PMR, not when equal."""
    m, el1, el2 = bare()
    with m:
        el2["ICH_LR0_EL2"] = lr(40, 0x80)
        for pmr, seen in ((0x80, False), (0x88, True), (0x87, False), (0, False), (0xFF, True)):
            el1["ICC_PMR_EL1"] = pmr
            assert el1["ICC_PMR_EL1"] == pmr & 0xF8
            assert bool(el1.lines & VIRQ) == seen
        assert el2["ICH_VMCR_EL2"] >> 24 == 0xF8
        el1["ICC_PMR_EL1"] = 0x80
        assert el1["ICC_IAR1_EL1"] == SPURIOUS
        assert el1["ICC_HPPIR1_EL1"] == 40


def test_order_and_ties() -> None:
    """The lower priority value wins; among equals the lower INTID."""
    m, el1, el2 = bare()
    with m:
        for n, (intid, prio) in enumerate([(50, 0x80), (45, 0x80), (60, 0x78), (41, 0x90)]):
            el2[f"ICH_LR{n}_EL2"] = lr(intid, prio)
        got = []
        for _ in range(4):
            got.append(el1["ICC_IAR1_EL1"])
            el1["ICC_EOIR1_EL1"] = got[-1]
        assert got == [60, 45, 50, 41]


def test_binary_point() -> None:
    """Only group priority preempts: with BPR1 = 6 bits below 6 do not count."""
    m, el1, el2 = bare()
    with m:
        el1["ICC_BPR1_EL1"] = 6  # group priority is bits 7:6
        assert el1["ICC_BPR1_EL1"] == 6
        el2["ICH_LR0_EL2"] = lr(40, 0xB8)
        assert el1["ICC_IAR1_EL1"] == 40
        assert el1["ICC_RPR_EL1"] == 0x80
        el2["ICH_LR1_EL2"] = lr(41, 0x80)
        assert not el1.lines & VIRQ
        el2["ICH_LR2_EL2"] = lr(42, 0x78)
        assert el1.lines & VIRQ
        assert el1["ICC_IAR1_EL1"] == 42
        assert el1["ICC_RPR_EL1"] == 0x40
        el1["ICC_EOIR1_EL1"] = 42
        assert not el1.lines & VIRQ
        el1["ICC_EOIR1_EL1"] = 40
        assert el1["ICC_IAR1_EL1"] == 41


def test_binary_point_limits() -> None:
    """BPR0 is at least 2, BPR1 at least 3; with CBPR BPR1 shows BPR0 + 1 and ignores writes."""
    m, el1, _ = bare()
    with m:
        el1["ICC_BPR0_EL1"] = 0
        el1["ICC_BPR1_EL1"] = 0
        assert (el1["ICC_BPR0_EL1"], el1["ICC_BPR1_EL1"]) == (2, 3)
        el1["ICC_CTLR_EL1"] = 1
        el1["ICC_BPR0_EL1"] = 5
        el1["ICC_BPR1_EL1"] = 7
        assert el1["ICC_BPR1_EL1"] == 6
        el1["ICC_BPR0_EL1"] = 7
        assert el1["ICC_BPR1_EL1"] == 7
        el1["ICC_CTLR_EL1"] = 0
        assert el1["ICC_BPR1_EL1"] == 3


def test_split_end() -> None:
    """EOImode 1: EOIR drops the priority, DIR deactivates; EOImode 0: DIR is ignored."""
    m, el1, el2 = bare()
    with m:
        el1["ICC_CTLR_EL1"] = 2
        assert el1["ICC_CTLR_EL1"] & 2
        el2["ICH_LR0_EL2"] = lr(40)
        assert el1["ICC_IAR1_EL1"] == 40
        el1["ICC_EOIR1_EL1"] = 40
        assert el1["ICC_RPR_EL1"] == 0xFF
        assert el2["ICH_LR0_EL2"] & ACTIVE
        el1["ICC_DIR_EL1"] = 40
        assert not el2["ICH_LR0_EL2"] & ACTIVE
        el1["ICC_CTLR_EL1"] = 0
        el2["ICH_LR0_EL2"] = lr(40, state=ACTIVE)
        el1["ICC_DIR_EL1"] = 40
        assert el2["ICH_LR0_EL2"] & ACTIVE


def test_groups() -> None:
    """Group 0 goes to FIQ and IAR0, group 1 to IRQ and IAR1, each with its enable."""
    m, el1, el2 = bare()
    with m:
        el2["ICH_LR0_EL2"] = lr(40, 0x80, group=0)
        assert el1.lines & (VIRQ | VFIQ) == VFIQ
        assert el1["ICC_IAR1_EL1"] == SPURIOUS
        assert el1["ICC_HPPIR1_EL1"] == SPURIOUS
        assert el1["ICC_HPPIR0_EL1"] == 40
        el1["ICC_IGRPEN0_EL1"] = 0
        assert not el1.lines & VFIQ
        assert el1["ICC_HPPIR0_EL1"] == SPURIOUS
        el1["ICC_IGRPEN0_EL1"] = 1
        assert el1["ICC_IAR0_EL1"] == 40
        assert (el1["ICC_AP0R0_EL1"], el1["ICC_AP1R0_EL1"]) == (1 << 16, 0)
        el1["ICC_EOIR1_EL1"] = 40  # of another group: a drop only
        assert el2["ICH_LR0_EL2"] & ACTIVE
        el2["ICH_AP0R0_EL2"] = 1 << 16
        el1["ICC_EOIR0_EL1"] = 40
        assert not el2["ICH_LR0_EL2"] & ACTIVE
        el1["ICC_IGRPEN1_EL1"] = 0
        el2["ICH_LR0_EL2"] = lr(41)
        assert not el1.lines & VIRQ
        assert el2["ICH_VMCR_EL2"] & 3 == 1


@pytest.mark.parametrize("intid", [1020, 1021, 1022, 1023])
def test_special_ends_are_ignored(intid: int) -> None:
    """EOIR and DIR of special INTIDs change nothing."""
    m, el1, el2 = bare()
    with m:
        el2["ICH_LR0_EL2"] = lr(40)
        assert el1["ICC_IAR1_EL1"] == 40
        el1["ICC_EOIR1_EL1"] = intid
        el1["ICC_DIR_EL1"] = intid
        assert el1["ICC_RPR_EL1"] == 0x80
        assert el2["ICH_HCR_EL2"] == EN


def test_eoicount() -> None:
    """The end of an interrupt that is in no list register counts, and asks for maintenance."""
    m, el1, el2 = bare()
    with m:
        el2["ICH_HCR_EL2"] = EN | LRENPIE
        el1["ICC_EOIR1_EL1"] = 99  # no active priority: nothing happens
        assert el2["ICH_MISR_EL2"] == 0
        el2["ICH_AP1R0_EL2"] = 3 << 8
        el1["ICC_EOIR1_EL1"] = 99
        el1["ICC_EOIR1_EL1"] = 98
        assert el2["ICH_HCR_EL2"] >> 27 == 2
        assert el2["ICH_MISR_EL2"] == 4
        assert el1.lines & IRQ
        el1["ICC_CTLR_EL1"] = 2
        el2["ICH_AP1R0_EL2"] = 1 << 8
        el1["ICC_EOIR1_EL1"] = 97
        assert el2["ICH_HCR_EL2"] >> 27 == 2
        el1["ICC_DIR_EL1"] = 97
        assert el2["ICH_HCR_EL2"] >> 27 == 3


def test_maintenance() -> None:
    """MISR shows each condition while it is enabled and holds; PPI 25 follows."""
    m, el1, el2 = bare()
    with m:
        el2["ICH_LR0_EL2"] = lr(40, extra=EOI)
        el2["ICH_LR1_EL2"] = lr(41, 0x90)
        assert el2["ICH_MISR_EL2"] == 0
        el2["ICH_HCR_EL2"] = EN | UIE | NPIE
        assert el2["ICH_MISR_EL2"] == 0
        el1["ICC_EOIR1_EL1"] = el1["ICC_IAR1_EL1"]
        assert el2["ICH_MISR_EL2"] == 3  # EOI and underflow
        assert el2["ICH_EISR_EL2"] == 1
        assert el2["ICH_ELRSR_EL2"] == 0xC
        assert el1["ICC_IAR1_EL1"] == 41
        assert el2["ICH_MISR_EL2"] == 0xB  # none pending
        assert el2["ICC_IAR1_EL1"] == 25
        el2["ICH_HCR_EL2"] = EN | 0xF0
        assert el2["ICH_MISR_EL2"] == 1 | 0x50
        el1["ICC_IGRPEN1_EL1"] = 0
        assert el2["ICH_MISR_EL2"] == 1 | 0x90
        el2["ICH_HCR_EL2"] = 0
        assert el2["ICH_MISR_EL2"] == 0


def test_interface_off() -> None:
    """ICH_HCR.En = 0 stops virtual interrupts."""
    m, el1, el2 = bare()
    with m:
        el2["ICH_LR0_EL2"] = lr(40)
        el2["ICH_HCR_EL2"] = 0
        assert not el1.lines & VIRQ
        assert el1["ICC_IAR1_EL1"] == SPURIOUS


def test_hardware_interrupt() -> None:
    """The end of a list register with HW = 1 deactivates the physical interrupt."""
    m, el1, el2 = bare()
    with m:
        el2["CNTV_CVAL_EL0"] = 0
        el2["CNTV_CTL_EL0"] = 1
        assert el1.lines & IRQ
        assert el2["ICC_IAR1_EL1"] == 27
        el2["ICC_EOIR1_EL1"] = 27
        assert not el1.lines & IRQ
        el2["ICH_LR0_EL2"] = lr(27, pintid=27)
        assert el1["ICC_IAR1_EL1"] == 27
        assert not el1.lines & IRQ
        el1["ICC_EOIR1_EL1"] = 27
        assert el1.lines & IRQ  # the line is still up


@pytest.mark.parametrize(
    ("bit", "regs"),
    [
        (10, ["ICC_PMR_EL1", "ICC_CTLR_EL1", "ICC_RPR_EL1", "ICC_DIR_EL1"]),
        (11, ["ICC_IAR0_EL1", "ICC_BPR0_EL1", "ICC_IGRPEN0_EL1", "ICC_AP0R0_EL1"]),
        (12, ["ICC_IAR1_EL1", "ICC_BPR1_EL1", "ICC_IGRPEN1_EL1", "ICC_AP1R0_EL1"]),
        (14, ["ICC_DIR_EL1"]),
    ],
)
def test_traps(bit: int, regs: list[str]) -> None:
    """TC, TALL0, TALL1 and TDIR trap their registers to EL2, and no others."""
    m, el1, el2 = bare()
    every = {r for b in (10, 11, 12) for r in TRAPPED[b]}
    with m:
        el2["ICH_HCR_EL2"] = EN | 1 << bit
        for reg in every:
            try:
                if reg == "ICC_DIR_EL1":
                    el1[reg] = 0
                else:
                    el1[reg]
                trapped = 0
            except TrapError as t:
                trapped = t.level
            assert trapped == (2 if reg in regs else 0), reg


TRAPPED = {
    10: ["ICC_PMR_EL1", "ICC_CTLR_EL1", "ICC_RPR_EL1", "ICC_DIR_EL1"],
    11: ["ICC_IAR0_EL1", "ICC_BPR0_EL1", "ICC_IGRPEN0_EL1", "ICC_AP0R0_EL1"],
    12: ["ICC_IAR1_EL1", "ICC_BPR1_EL1", "ICC_IGRPEN1_EL1", "ICC_AP1R0_EL1"],
}


def test_sgi_registers() -> None:
    """Writes of the SGI registers trap to EL2, reads are UNDEFINED, EL0 has none of it."""
    m, el1, el2 = bare()
    with m:
        for reg in ("ICC_SGI1R_EL1", "ICC_SGI0R_EL1", "ICC_ASGI1R_EL1"):
            with pytest.raises(TrapError, match="2"):
                el1[reg] = 0
            with pytest.raises(UndefinedError):
                el1[reg]
        for reg in ("ICC_IAR1_EL1", "ICC_PMR_EL1", "ICC_SRE_EL1"):
            with pytest.raises(UndefinedError):
                el1.at(0)[reg]
        with pytest.raises(UndefinedError):
            el1["ICH_HCR_EL2"]
        assert el1["ICC_SRE_EL1"] == 7
        el1["ICC_SRE_EL1"] = 0
        assert el1["ICC_SRE_EL1"] == 7
        assert el2["ICC_SRE_EL2"] == 0xF


def test_control_reads() -> None:
    """ICC_CTLR tells five priority bits, 16 bits of INTID and affinity 3."""
    m, el1, el2 = bare()
    with m:
        for view in (el1, el2):
            v = view["ICC_CTLR_EL1"]
            assert v >> 8 & 7 == 4
            assert v >> 11 & 7 == 0
            assert v >> 15 & 1 == 1


def test_kick_pin() -> None:
    """The kick pin is a level SGI 0: acknowledged, ended, and back while the pin is up."""
    m, _, el2 = bare()
    with m:
        assert not el2.lines & IRQ
        m.lib.m_kick(m.m, 0, 1)
        assert el2.lines & (IRQ | FIQ) == IRQ
        assert el2["ICC_HPPIR1_EL1"] == 0
        assert el2["ICC_IAR1_EL1"] == 0
        assert not el2.lines & IRQ
        el2["ICC_EOIR1_EL1"] = 0
        assert not el2.lines & IRQ  # EOImode 1: still active
        el2["ICC_DIR_EL1"] = 0
        assert el2.lines & IRQ
        m.lib.m_kick(m.m, 0, 0)
        assert not el2.lines & IRQ
        assert el2["ICC_IAR1_EL1"] == SPURIOUS


def test_physical_mask_and_enable() -> None:
    """PMR and IGRPEN1 at EL2 gate the physical interrupts; EOImode 0 ends with EOIR."""
    m, _, el2 = bare()
    with m:
        m.lib.m_kick(m.m, 0, 1)
        for reg in ("ICC_PMR_EL1", "ICC_IGRPEN1_EL1"):
            was = el2[reg]
            el2[reg] = 0
            assert not el2.lines & IRQ
            el2[reg] = was
            assert el2.lines & IRQ
        el2["ICC_CTLR_EL1"] = 0
        assert el2["ICC_IAR1_EL1"] == 0
        assert el2["ICC_RPR_EL1"] == 0xA0
        el2["ICC_EOIR1_EL1"] = 0
        assert el2["ICC_RPR_EL1"] == 0xFF
        assert el2.lines & IRQ


def test_el1_owns_the_physical_interface_without_imo() -> None:
    """With HCR_EL2.IMO and FMO clear, EL1 uses the physical interface."""
    m, el1, el2 = bare()
    with m:
        el2["HCR_EL2"] = 0
        el2["ICH_LR0_EL2"] = lr(40)
        m.lib.m_kick(m.m, 0, 1)
        assert el1["ICC_PMR_EL1"] == 0xF8
        assert el1["ICC_IAR1_EL1"] == 0
        el1["ICC_SGI1R_EL1"] = 5 << 24 | 1  # to itself
        el1["ICC_EOIR1_EL1"] = 0
        assert el1["ICC_IAR1_EL1"] == 5
