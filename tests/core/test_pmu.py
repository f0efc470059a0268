"""PMUv3: what counts, who counts, overflow, access (DDI 0487, D13).

A cycle is an instruction here, so every count is exact: with both executors.
"""

from __future__ import annotations

from collections.abc import Iterator

import pe_features as feat
import pe_tables as t
import pytest
from pe_rig import EC_SYSREG, EC_UNKNOWN, NOP, Result, Rig, esr, mrs, msr
from pe_tables import Guest, Outcome, outcome

SW_INCR, L1D_TLB_REFILL, LD, ST, INST, EXC = 0x00, 0x05, 0x06, 0x07, 0x08, 0x09
CYCLES, MEM, CHAIN, BR = 0x11, 0x13, 0x1E, 0x21
P, U, NSH = 1 << 31, 1 << 30, 1 << 27
E, CC = 1, 1 << 31
SUBS_X0 = 0xF1000400  # subs x0, x0, #1
BNE_BACK = 0x54FFFFE1  # b.ne .-4
LDR, STR, LDP = 0xF9400020, 0xF9000020, 0xA9400C22


@pytest.fixture(scope="module", params=[False, True], ids=["interpreter", "jit"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Once with each executor."""
    r = Rig(jit=request.param)
    yield r
    r.close()


class Counting(Guest):
    """A guest with events on the first counters, all of them on."""

    def __init__(self, rig: Rig, *events: int) -> None:
        super().__init__(rig)
        rig.put("PMUSERENR_EL0", 0xF)
        for n, event in enumerate(events):
            rig.put(f"PMEVTYPER{n}_EL0", event)
        rig.put("PMCNTENSET_EL0", CC | 0x3F)
        rig.put("PMCR_EL0", E)

    def count(self, n: int) -> int:
        return self.rig.value(f"PMEVCNTR{n}_EL0")

    def between(self, *code: int, n: int = 0, el0: bool = False, **x: int) -> int:
        """What counter n says across some code."""
        read = self.rig.enc[f"PMEVCNTR{n}_EL0"]
        r = self.run(mrs(10, read), *code, mrs(11, read), el0=el0, **x)
        assert outcome(r, el0).target == 0
        return r.x[11] - r.x[10]


def test_identification(rig: Rig) -> None:
    """PMUVer is that of PMUv3p1; N is 6; without the feature there is nothing."""
    rig.new(feat.ALL)
    assert rig.value("ID_AA64DFR0_EL1") >> 8 & 15 == 4
    assert rig.value("PMCR_EL0") == 0x41 << 24 | 6 << 11 | 1 << 6
    for event in (SW_INCR, LD, ST, INST, EXC, CYCLES, MEM, CHAIN):
        assert rig.value("PMCEID0_EL0") >> event & 1
    assert rig.value("PMCEID1_EL0") == 1 << 1 | 1 << 3 | 1 << 4
    rig.new(feat.ALL & ~feat.BIT["PMUv3"])
    assert rig.value("ID_AA64DFR0_EL1") >> 8 & 15 == 0
    assert all(rig.get(name) is None for name in rig.registers if name.startswith("PM"))


@pytest.mark.parametrize("event", [INST, CYCLES])
def test_instructions_are_counted_exactly(rig: Rig, event: int) -> None:
    """Straight lines and loops of every length, hot and cold: not one more or less."""
    g = Counting(rig, event)
    for n in (0, 1, 2, 3, 63, 64, 65, 130):
        assert g.between(*[NOP] * n) == n + 1, n
    for n in (1, 2, 10, 100, 1000, 10000):
        for _ in range(3):
            assert g.between(SUBS_X0, BNE_BACK, x0=n) == 2 * n + 1, n
    assert g.between(NOP, NOP, n=0, el0=True) == 3


def test_cycle_counter(rig: Rig) -> None:
    """PMCCNTR_EL0 counts alone and beyond 32 bits."""
    g = Counting(rig)
    rig.put("PMCCNTR_EL0", (1 << 32) - 5)
    read = rig.enc["PMCCNTR_EL0"]
    r = g.run(mrs(10, read), SUBS_X0, BNE_BACK, mrs(11, read), x0=500)
    assert r.x[11] - r.x[10] == 1001
    assert r.x[11] > 1 << 32
    assert rig.value("PMOVSSET_EL0") == 0


def test_across_pages(rig: Rig) -> None:
    """The end of a page of code is not an instruction."""
    g = Counting(rig, INST)
    for n in (1000, 1023, 1024, 2100):
        assert g.between(*[NOP] * n) == n + 1, n


def test_faults_do_not_retire(rig: Rig) -> None:
    """A faulting instruction is not counted, an SVC is."""
    g = Counting(rig, INST, EXC)
    rig.put("PMEVTYPER0_EL0", INST | P)  # EL0 alone
    before = g.count(0)
    g.run(NOP, 0xF9400021, NOP, el0=True, x1=0x1000)  # ldr x1, [x1]: not mapped
    assert g.count(0) - before == 1
    before = g.count(0)
    g.run(NOP, NOP, el0=True)
    assert g.count(0) - before == 3


@pytest.mark.parametrize(("bits", "at1", "at0"), [(0, 1, 1), (P, 0, 1), (U, 1, 0), (P | U, 0, 0)])
def test_filters(rig: Rig, bits: int, at1: int, at0: int) -> None:
    """P and U keep EL1 and EL0 out, of the event counters and the cycle counter."""
    g = Counting(rig, INST | bits)
    rig.put("PMCCFILTR_EL0", bits)
    before, cycles = g.count(0), rig.value("PMCCNTR_EL0")
    g.run(SUBS_X0, BNE_BACK, el0=True, x0=100)  # and an SVC; one HVC at EL1
    want = 201 * at0 + at1
    assert g.count(0) - before == want
    assert rig.value("PMCCNTR_EL0") - cycles == want


def test_kinds_of_instructions(rig: Rig) -> None:
    """Loads, stores, memory accesses, branches and translations are told apart."""
    g = Counting(rig, LD, ST, MEM, BR, L1D_TLB_REFILL)
    g.low.map(0x5000, t.DATA, t.LEAF | t.AP_EL0)
    code = (LDR, STR, LDP, 0xF8220020, SUBS_X0, 0xB5000040, NOP)  # ldadd, cbnz +8
    g.run(*code, x1=0x5000, x0=5)
    assert [g.count(n) for n in range(4)] == [3, 2, 5, 1]
    assert g.count(4) >= 1


def test_loop_of_branches(rig: Rig) -> None:
    """BR_RETIRED of a loop is its passes."""
    g = Counting(rig, BR, INST)
    g.run(SUBS_X0, BNE_BACK, x0=300)
    assert g.count(0) == 300
    assert g.count(1) == 601


def test_software_increment_and_chain(rig: Rig) -> None:
    """PMSWINC counts SW_INCR; an even counter that overflows carries into CHAIN."""
    g = Counting(rig, SW_INCR, CHAIN, INST)
    rig.put("PMEVCNTR0_EL0", 0xFFFF_FFFE)
    swinc = msr(rig.enc["PMSWINC_EL0"], 1)
    for want, carry in ((0xFFFF_FFFF, 0), (0, 1), (1, 1)):
        g.run(swinc, x1=0x3F)
        assert (g.count(0), g.count(1)) == (want, carry)
    assert rig.value("PMOVSSET_EL0") == 1
    rig.put("PMOVSCLR_EL0", 1)
    assert rig.value("PMOVSSET_EL0") == 0


def test_selected_counter(rig: Rig) -> None:
    """PMSELR chooses what PMXEVTYPER and PMXEVCNTR are; 31 is the cycle counter's filter."""
    g = Counting(rig)
    for n in range(6):
        g.run(
            msr(rig.enc["PMSELR_EL0"], 1), msr(rig.enc["PMXEVTYPER_EL0"], 2),
            msr(rig.enc["PMXEVCNTR_EL0"], 3), x1=n, x2=0x23 + n, x3=0x5000 + n,
        )  # fmt: skip
    for n in range(6):
        assert rig.value(f"PMEVTYPER{n}_EL0") == 0x23 + n
        assert rig.value(f"PMEVCNTR{n}_EL0") == 0x5000 + n
    g.run(msr(rig.enc["PMSELR_EL0"], 1), msr(rig.enc["PMXEVTYPER_EL0"], 2), x1=31, x2=P | 0x11)
    assert rig.value("PMCCFILTR_EL0") == P
    r = g.run(msr(rig.enc["PMSELR_EL0"], 1), mrs(3, rig.enc["PMXEVCNTR_EL0"]), x1=9, x3=7)
    assert r.x[3] == 0


def test_control(rig: Rig) -> None:
    """E stops all, P and C clear; LC is 1, D and the rest are not there."""
    g = Counting(rig, INST)
    g.run(*[NOP] * 10)
    assert g.count(0) > 0
    assert rig.value("PMCCNTR_EL0") > 0
    rig.put("PMCR_EL0", 0)
    before = g.count(0)
    g.run(*[NOP] * 10)
    assert g.count(0) == before
    rig.put("PMCR_EL0", 2)
    assert g.count(0) == 0
    assert rig.value("PMCCNTR_EL0") > 0
    rig.put("PMCR_EL0", 4)
    assert rig.value("PMCCNTR_EL0") == 0
    rig.put("PMCR_EL0", 0xFF)
    assert rig.value("PMCR_EL0") & 0xFF == 0x71


def irq_of(r: Result, rig: Rig) -> int:
    assert r.vec == 0x480, r
    return rig.value("ICC_IAR1_EL1")


@pytest.mark.parametrize("n", [0, 5])
def test_overflow_interrupt(rig: Rig, n: int) -> None:
    """An overflow raises PPI 23 soon after, until it is cleared or masked."""
    g = Counting(rig, *[INST] * 6)
    rig.put("ICC_IGRPEN1_EL1", 1)
    rig.put("ICC_PMR_EL1", 0xF8)
    rig.put(f"PMEVCNTR{n}_EL0", (1 << 32) - 5000)
    rig.put("PMINTENSET_EL1", 1 << n)
    r = g.run(SUBS_X0, BNE_BACK, x0=1_000_000)
    assert irq_of(r, rig) == 23
    assert rig.value("PMOVSSET_EL0") == 1 << n
    assert g.count(n) < 500
    rig.put("ICC_EOIR1_EL1", 23)
    rig.put("PMOVSCLR_EL0", 1 << n)
    assert outcome(g.run(*[NOP] * 10)).target == 0


def test_no_interrupt_when_masked(rig: Rig) -> None:
    """PMINTEN masks the interrupt and not the flag."""
    g = Counting(rig, INST)
    rig.put("ICC_IGRPEN1_EL1", 1)
    rig.put("ICC_PMR_EL1", 0xF8)
    rig.put("PMEVCNTR0_EL0", (1 << 32) - 10)
    assert outcome(g.run(SUBS_X0, BNE_BACK, x0=100)).target == 0
    assert rig.value("PMOVSSET_EL0") == 1


def test_hpmn(rig: Rig) -> None:
    """Counters from MDCR_EL2.HPMN on are EL2's: not seen below, and counting by HPME."""
    g = Counting(rig, *[INST] * 6)
    rig.put("MDCR_EL2", 2)
    r = g.run(mrs(3, rig.enc["PMCR_EL0"]), mrs(4, rig.enc["PMCNTENSET_EL0"]))
    assert r.x[3] >> 11 & 31 == 2
    assert r.x[4] == CC | 3
    r = g.run(mrs(3, rig.enc["PMEVCNTR2_EL0"]))
    assert outcome(r) == Outcome(1, esr(EC_UNKNOWN))
    before = g.count(2)
    g.run(*[NOP] * 10)
    assert g.count(2) == before
    rig.put("MDCR_EL2", 2 | 1 << 7)
    g.run(*[NOP] * 10)
    assert g.count(2) == before + 11
    g.run(msr(rig.enc["PMCR_EL0"], 1), x1=2 | E)
    assert g.count(1) < 5 < g.count(2)


def test_user_access(rig: Rig) -> None:
    """PMUSERENR_EL0: EN all, SW, CR and ER their registers; else a trap to EL1."""
    cases = {
        "PMCCNTR_EL0": (1 << 2, False),
        "PMEVCNTR3_EL0": (1 << 3, False),
        "PMXEVCNTR_EL0": (1 << 3, False),
        "PMSELR_EL0": (1 << 3, True),
        "PMSWINC_EL0": (1 << 1, True),
        "PMCNTENSET_EL0": (0, False),
    }
    g = Counting(rig)
    for name, (bit, write) in cases.items():
        e = rig.enc[name]
        word = msr(e, 1) if write else mrs(1, e)
        for user in (0, 1, 2, 4, 8):
            rig.put("PMUSERENR_EL0", user)
            got = outcome(g.run(word, el0=True, x1=0), True)
            if user & (bit | 1):
                assert got.target == 0, (name, user)
                continue
            assert (got.target, got.esr >> 26) == (1, EC_SYSREG), (name, user)


def test_branches_inside_of_a_block(rig: Rig) -> None:
    """What a forward branch leaves out is not counted."""
    g = Counting(rig, INST)
    skip = 0xB5000061  # cbnz x1, .+12
    loop = (NOP, skip, NOP, NOP, SUBS_X0, 0x54FFFF61)  # b.ne to the first
    for x1, each in ((0, 6), (1, 4)):
        for n in (1, 2, 500, 20000):
            assert g.between(*loop, x0=n, x1=x1) == n * each + 1, (x1, n)
