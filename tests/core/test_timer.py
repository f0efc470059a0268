"""The generic timer: of the PE, and of a guest with the vGIC in between."""

from __future__ import annotations

import errno

import pytest
from gic_machine import IRQ, SPURIOUS, U64, VIRQ, Cpu, Machine, TrapError, UndefinedError

E2H, TGE = 1 << 34, 1 << 27
ENABLE, IMASK, ISTATUS = 1, 2, 4


def bare() -> tuple[Machine, Cpu, Cpu]:
    """A PE whose EL1 may use both timers: machine, EL1 and EL2 views."""
    m = Machine(attach=False)
    return m, m.cpus[0], m.cpus[0].at(2)


def line(m: Machine, ppi: int) -> bool:
    return bool(m.lib.m_timer_line(m.m, 0, ppi))


def nxt(m: Machine) -> int:
    return int(m.lib.m_timer_next(m.m, 0))


def test_counters() -> None:
    """CNTVCT is CNTPCT - CNTVOFF at every level, without the offset at EL2 with E2H."""
    m, el1, el2 = bare()
    with m:
        m.now = 5000
        el2["CNTVOFF_EL2"] = 6000
        assert el1["CNTPCT_EL0"] == 5000
        assert el1["CNTVCT_EL0"] == -1000 & U64
        assert el2["CNTVCT_EL0"] == -1000 & U64
        assert el1["CNTVCTSS_EL0"] == -1000 & U64
        el2["HCR_EL2"] = E2H
        assert el2["CNTVCT_EL0"] == 5000
        assert el1["CNTVCT_EL0"] == -1000 & U64
        assert el1["CNTFRQ_EL0"] == 100_000_000
        with pytest.raises(UndefinedError):
            el1["CNTFRQ_EL0"] = 1


@pytest.mark.parametrize(("t", "ppi"), [("CNTP", 30), ("CNTV", 27), ("CNTHP", 26), ("CNTHV", 28)])
def test_condition(t: str, ppi: int) -> None:
    """count >= CVAL is unsigned, IMASK hides the line but not ISTATUS, ENABLE = 0 both."""
    m, _, el2 = bare()
    el = "EL2" if t.startswith("CNTH") else "EL0"
    ctl, cval = f"{t}_CTL_{el}", f"{t}_CVAL_{el}"
    with m:
        el2[cval] = 2000
        el2[ctl] = ENABLE
        for now, up in ((0, 0), (1999, 0), (2000, 1), (1 << 63, 1), (U64, 1)):
            m.now = now
            # the counter never goes back: look as a new PE would
            el2[ctl] = ENABLE
            assert line(m, ppi) == bool(up)
            assert el2[ctl] == ENABLE | ISTATUS * up
        el2[ctl] = ENABLE | IMASK
        assert el2[ctl] == ENABLE | IMASK | ISTATUS
        assert not line(m, ppi)
        el2[ctl] = 0
        assert el2[ctl] == 0
        assert not line(m, ppi)
        el2[ctl] = ENABLE
        assert line(m, ppi)
        el2[cval] = U64
        m.now = U64 - 1
        el2[ctl] = ENABLE
        assert not line(m, ppi)
        assert [p for p in range(32) if line(m, p)] == []


@pytest.mark.parametrize(
    ("tval", "delta"),
    [(0, 0), (1, 1), (0x7FFFFFFF, 0x7FFFFFFF), (0x80000000, -(1 << 31)), (0xFFFFFFFF, -1)],
)
def test_tval(tval: int, delta: int) -> None:
    """TVAL is sign-extended on a write and 32 bits on a read, also while disabled."""
    m, el1, el2 = bare()
    with m:
        m.now = 1 << 40
        el2["CNTVOFF_EL2"] = 1 << 39
        for t, count in (("CNTV", 1 << 39), ("CNTP", 1 << 40)):
            el1[f"{t}_TVAL_EL0"] = 0xABCD << 32 | tval
            assert el1[f"{t}_CVAL_EL0"] == count + delta
            assert el1[f"{t}_TVAL_EL0"] == tval
            el1[f"{t}_CTL_EL0"] = ENABLE
            assert bool(el1[f"{t}_CTL_EL0"] & ISTATUS) == (delta <= 0)


def test_offset_change_while_armed() -> None:
    """A new CNTVOFF is felt by an armed virtual timer at once, in both directions."""
    m, el1, el2 = bare()
    with m:
        m.now = 10_000
        el2["CNTVOFF_EL2"] = 5000
        el1["CNTV_CVAL_EL0"] = 6000
        el1["CNTV_CTL_EL0"] = ENABLE
        assert not line(m, 27)
        assert nxt(m) == 11_000
        el2["CNTVOFF_EL2"] = 4000
        assert line(m, 27)
        assert nxt(m) == U64
        el2["CNTVOFF_EL2"] = 4001
        assert not line(m, 27)
        m.now = 10_001
        assert line(m, 27)


def test_next_is_the_earliest() -> None:
    """timer_next is the earliest future line of all timers, none when it would wrap."""
    m, el1, el2 = bare()
    with m:
        assert nxt(m) == U64
        m.now = 100
        el1["CNTP_CVAL_EL0"] = 900
        el1["CNTP_CTL_EL0"] = ENABLE
        el2["CNTHP_CVAL_EL2"] = 500
        el2["CNTHP_CTL_EL2"] = ENABLE
        el1["CNTV_CVAL_EL0"] = 200
        el1["CNTV_CTL_EL0"] = ENABLE | IMASK
        assert nxt(m) == 500
        m.now = 500
        assert line(m, 26)
        assert nxt(m) == 900
        m.now = 1000
        assert line(m, 30)
        assert nxt(m) == U64
        el2["CNTVOFF_EL2"] = 1001  # the virtual count is 2^64 - 1 now
        el1["CNTV_CTL_EL0"] = ENABLE
        assert line(m, 27)
        m.now = 2**64 - 10
        el2["CNTVOFF_EL2"] = 2**64 - 10
        assert not line(m, 27)
        assert nxt(m) == U64


@pytest.mark.parametrize(
    ("reg", "bit"),
    [
        ("CNTPCT_EL0", 0),
        ("CNTVCT_EL0", 1),
        ("CNTV_CTL_EL0", 8),
        ("CNTV_TVAL_EL0", 8),
        ("CNTP_CVAL_EL0", 9),
    ],
)
def test_el0_access(reg: str, bit: int) -> None:
    """CNTKCTL_EL1 opens each register to EL0 by its own bit; else EL1 gets it."""
    m, el1, el2 = bare()
    el0 = el1.at(0)
    with m:
        el2["CNTHCTL_EL2"] = 3
        el1["CNTKCTL_EL1"] = ~(1 << bit) & 0x303
        with pytest.raises(TrapError, match="1"):
            el0[reg]
        el1["CNTKCTL_EL1"] = 1 << bit
        assert el0[reg] >= 0
        el1["CNTKCTL_EL1"] = 0
        with pytest.raises(TrapError, match="1"):
            el0["CNTFRQ_EL0"]


def test_el2_traps() -> None:
    """EL1PCTEN and EL1PCEN send the physical counter and timer to EL2, in both layouts."""
    m, el1, el2 = bare()
    with m:
        for hcr, pct, pt in ((0, 1, 2), (E2H, 1 << 10, 1 << 11)):
            el2["HCR_EL2"] = hcr
            for value, trapped in (
                (0, {"CNTPCT_EL0", "CNTP_CTL_EL0", "CNTP_TVAL_EL0", "CNTP_CVAL_EL0"}),
                (pct, {"CNTP_CTL_EL0", "CNTP_TVAL_EL0", "CNTP_CVAL_EL0"}),
                (pt, {"CNTPCT_EL0"}),
                (pct | pt, set()),
            ):
                el2["CNTHCTL_EL2"] = value
                got = set()
                for reg in ("CNTPCT_EL0", "CNTP_CTL_EL0", "CNTP_TVAL_EL0", "CNTP_CVAL_EL0",
                            "CNTVCT_EL0", "CNTV_CTL_EL0"):  # fmt: skip
                    try:
                        el1[reg]
                    except TrapError as t:
                        got.add((reg, t.level))
                assert got == {(reg, 2) for reg in trapped}


def test_host_of_vhe() -> None:
    """With E2H the names of EL1 mean the EL2 timers at EL2; _EL02 means the guest's."""
    m, el1, el2 = bare()
    with m:
        el2["HCR_EL2"] = E2H
        el2["CNTP_CVAL_EL0"] = 11
        el2["CNTV_CVAL_EL0"] = 12
        el2["CNTP_CVAL_EL02"] = 13
        el2["CNTV_CVAL_EL02"] = 14
        el2["CNTKCTL_EL1"] = 0xC03
        el2["CNTKCTL_EL12"] = 0x300
        assert el2["CNTHP_CVAL_EL2"] == 11
        assert el2["CNTHV_CVAL_EL2"] == 12
        assert el2["CNTHCTL_EL2"] == 0xC03
        assert el1["CNTP_CVAL_EL0"] == 13
        assert el1["CNTV_CVAL_EL0"] == 14
        assert el1["CNTKCTL_EL1"] == 0x300
        el2["HCR_EL2"] = E2H | TGE
        el2["CNTHCTL_EL2"] = 0x200
        assert el1.at(0)["CNTP_CVAL_EL0"] == 11


# -- a guest's timer ---------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["nvhe", "vhe"])
def guest(request: pytest.FixtureRequest) -> object:
    """A guest with both timer interrupts enabled."""
    with Machine(vhe=request.param) as m:
        m.boot()
        c = m.cpus[0]
        c.store(c.sgi + 0x100, 1 << 27 | 1 << 30)
        yield m


def test_guest_counter_starts_at_zero(guest: Machine) -> None:
    """The guest's virtual count is 0 at creation, and its physical one the same."""
    c = guest.cpus[0]
    guest.now += 777
    c.enter()
    assert c["CNTVCT_EL0"] == 777
    with pytest.raises(TrapError, match="2"):
        c["CNTPCT_EL0"]
    assert c.sysreg("CNTPCT_EL0", write=False) == (0, 777)


def test_tick_costs_one_exit(guest: Machine) -> None:
    """A periodic virtual timer costs one exit a tick: end and re-arming cost none."""
    c = guest.cpus[0]
    c.enter()
    c["CNTV_CVAL_EL0"] = 1000
    c["CNTV_CTL_EL0"] = ENABLE
    for tick in range(1, 6):
        assert c.ack() == SPURIOUS
        guest.now += 1000
        assert c.ack() == 27
        c["CNTV_CVAL_EL0"] = (tick + 1) * 1000
        c.eoi(27)
        assert c.exits == tick


def test_timer_not_served_comes_again(guest: Machine) -> None:
    """The timer's level is sampled again after each end while the guest leaves it up."""
    c = guest.cpus[0]
    c.enter()
    c["CNTV_CVAL_EL0"] = 0
    c["CNTV_CTL_EL0"] = ENABLE
    for _ in range(3):
        assert c.ack() == 27
        c.eoi(27)
    c.settle()
    c["CNTV_CTL_EL0"] = ENABLE | IMASK
    assert c.ack() in (27, SPURIOUS)  # one that was pending before
    c.eoi(27)
    assert c.ack() == SPURIOUS


def test_timer_withdrawn(guest: Machine) -> None:
    """A timer that is moved before its interrupt was taken does not interrupt after an exit."""
    c = guest.cpus[0]
    c.enter()
    c["CNTV_CVAL_EL0"] = 0
    c["CNTV_CTL_EL0"] = ENABLE
    c.settle()
    assert c.lines & VIRQ
    c["CNTV_CVAL_EL0"] = 5000
    c.exit()
    assert c.ack() == SPURIOUS
    guest.now += 5000
    assert c.ack() == 27


def test_timer_disabled_at_the_gic(guest: Machine) -> None:
    """A timer interrupt that the guest disabled makes no exits, and arrives when enabled."""
    c = guest.cpus[0]
    c.store(c.sgi + 0x180, 1 << 27)
    c.enter()
    c["CNTV_CVAL_EL0"] = 0
    c["CNTV_CTL_EL0"] = ENABLE
    assert c.ack() == SPURIOUS
    n = c.exits
    for _ in range(3):
        assert c.ack() == SPURIOUS
    assert c.exits == n
    c.store(c.sgi + 0x100, 1 << 27)
    assert c.ack() == 27


def test_sleeping_in_wfi(guest: Machine) -> None:
    """A sleeper's deadline is the timer's, and no exit is spent on what it slept for."""
    c = guest.cpus[0]
    c.enter()
    c["CNTV_CVAL_EL0"] = 4000
    c["CNTV_CTL_EL0"] = ENABLE
    c.exit()
    assert not c.pending
    assert c.deadline == guest.now + 4000
    guest.now += 4000
    assert c.deadline == U64
    assert c.ack() == 27
    assert c.exits == 0
    c["CNTV_CTL_EL0"] = 0
    c.exit()
    assert c.deadline == U64


def test_emulated_physical_timer(guest: Machine) -> None:
    """CNTP_* works by traps: alarm while running, deadline while asleep, level and status."""
    c = guest.cpus[0]
    c.settle()
    with pytest.raises(TrapError, match="2"):
        c["CNTP_CTL_EL0"]
    assert c.sysreg("CNTP_TVAL_EL0", 3000) == (0, 3000)
    assert c.sysreg("CNTP_CTL_EL0", ENABLE)[0] == 0
    assert c.sysreg("CNTP_CVAL_EL0", write=False)[1] == 3000
    assert c.deadline == guest.now + 3000
    assert c.ack() == SPURIOUS
    guest.now += 2999
    assert c.ack() == SPURIOUS
    guest.now += 1
    assert c.lines & IRQ  # the alarm
    assert c.ack() == 30
    assert c.sysreg("CNTP_CTL_EL0", write=False)[1] == ENABLE | ISTATUS
    assert c.sysreg("CNTP_TVAL_EL0", write=False)[1] == 0
    c.sysreg("CNTP_TVAL_EL0", 0xFFFFFFFF)
    assert c.sysreg("CNTP_CVAL_EL0", write=False)[1] == 2999
    c.eoi(30)
    assert c.ack() == 30
    c.sysreg("CNTP_CTL_EL0", ENABLE | IMASK)
    assert c.sysreg("CNTP_CTL_EL0", write=False)[1] == ENABLE | IMASK | ISTATUS
    c.eoi(30)
    assert c.ack() == SPURIOUS
    assert c.sysreg("CNTV_CTL_EL0", write=False)[0] == errno.ENOENT


def test_host_values_come_back(guest: Machine) -> None:
    """The host's CNTHCTL, CNTVOFF and CNTKCTL are what they were after a guest ran."""
    c, el2 = guest.cpus[0], guest.cpus[0].at(2)
    values = {"CNTHCTL_EL2": 0x5A, "CNTVOFF_EL2": 0x1234, "CNTKCTL_EL1": 0x5A}
    for reg, v in values.items():
        el2[reg] = v
    c.enter()
    c["CNTKCTL_EL1"] = 0x301
    assert c["CNTKCTL_EL1"] == 0x301
    c.exit()
    assert {reg: el2[reg] for reg in values} == values
    c.enter()
    assert c["CNTKCTL_EL1"] == 0x301
    c.exit()


def test_without_a_vgic_no_storm() -> None:
    """A running timer of a VM without a vGIC takes the guest out at most once."""
    with Machine(attach=False) as m:
        c = m.cpus[0]
        c.enter()
        c["CNTV_CVAL_EL0"] = 0
        c["CNTV_CTL_EL0"] = ENABLE
        c.settle()
        assert c.exits <= 1
