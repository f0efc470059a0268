"""Every trap of a system register: which bit, which register, read or write, which level.

The table is that of DDI 0487, D1.3.4 and the access pseudocode of each register.  Each
control is set alone, and every register of the PE is read and written under it at EL1 and
EL0: it traps when the table says so and not otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pe_features as feat
import pe_tables as t
import pytest
from pe_rig import EC_FP, EC_SYSREG, EC_UNKNOWN, NOP, Rig, enc, esr, mrs, msr, sys
from pe_tables import Guest, Outcome, outcome

FP_ISS = 1 << 24 | 0xE << 20
HCR, MDCR, CPTR = "HCR_EL2", "MDCR_EL2", "CPTR_EL2"


@pytest.fixture(scope="module", params=[False, True], ids=["interpreter", "jit"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    r = Rig(jit=request.param)
    yield r
    r.close()


def iss(e: int, rt: int, read: bool) -> int:
    """ISS of EC 0x18 for an encoding."""
    op0, op1, crn, crm, op2 = e >> 14, e >> 11 & 7, e >> 7 & 15, e >> 3 & 15, e & 7
    return op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | rt << 5 | crm << 1 | int(read)


def named(rig: Rig, prefix: str) -> set[str]:
    return {n for n in rig.registers if n.startswith(prefix)}


def ours(rig: Rig) -> dict[str, tuple[int, int]]:
    """Registers under test: not the GIC's (tests of their own) and no EL2 aliases."""
    out = {}
    for name, (e, acc, _) in rig.registers.items():
        if not name.startswith(("ICC_", "ICH_", "ID_RESERVED", "SP_EL2")) and acc & 0xF:
            out[name] = (e, acc)
    return out


IDS = "ID_AA64"
VM = (
    *("SCTLR_EL1", "TTBR0_EL1", "TTBR1_EL1", "TCR_EL1", "ESR_EL1", "FAR_EL1", "AFSR0_EL1"),
    *("AFSR1_EL1", "MAIR_EL1", "AMAIR_EL1", "CONTEXTIDR_EL1"),
)
KEYS = tuple(f"AP{k}Key{h}_EL1" for k in ("IA", "IB", "DA", "DB", "GA") for h in ("Lo", "Hi"))
TDRA = ("MDRAR_EL1",)
TDOSA = ("OSLAR_EL1", "OSLSR_EL1", "OSDLR_EL1", "DBGPRCR_EL1")
DCC = ("MDCCSR_EL0", "DBGDTR_EL0", "DBGDTRX_EL0")
TDA = (
    *("MDCCINT_EL1", "MDSCR_EL1", "OSDTRRX_EL1", "OSDTRTX_EL1", "OSECCR_EL1", *DCC),
    *("DBGCLAIMSET_EL1", "DBGCLAIMCLR_EL1", "DBGAUTHSTATUS_EL1"),
    *(f"DBG{r}{n}_EL1" for r in ("BVR", "BCR") for n in range(6)),
    *(f"DBG{r}{n}_EL1" for r in ("WVR", "WCR") for n in range(4)),
)
PMU_EL0 = (
    *("PMCR_EL0", "PMCNTENSET_EL0", "PMCNTENCLR_EL0", "PMOVSCLR_EL0", "PMSWINC_EL0"),
    *("PMSELR_EL0", "PMCEID0_EL0", "PMCEID1_EL0", "PMCCNTR_EL0", "PMXEVTYPER_EL0"),
    *("PMXEVCNTR_EL0", "PMOVSSET_EL0", "PMCCFILTR_EL0"),
    *(f"PM{r}{n}_EL0" for r in ("EVCNTR", "EVTYPER") for n in range(6)),
)
PMU = (*PMU_EL0, "PMUSERENR_EL0", "PMINTENSET_EL1", "PMINTENCLR_EL1")


def but(name: str) -> tuple[str, ...]:
    """The registers of the PMU at EL0 without one."""
    return tuple(r for r in PMU_EL0 if r != name)


PTIMER = ("CNTP_CTL_EL0", "CNTP_CVAL_EL0", "CNTP_TVAL_EL0")
VTIMER = ("CNTV_CTL_EL0", "CNTV_CVAL_EL0", "CNTV_TVAL_EL0")
PCT, VCT = ("CNTPCT_EL0", "CNTPCTSS_EL0"), ("CNTVCT_EL0", "CNTVCTSS_EL0")


@dataclass(frozen=True)
class Control:
    """A register and value that make accesses trap."""

    reg: str
    clear: int
    set: int
    traps: tuple[str, ...]
    target: int = 2
    ops: str = "rw"
    els: tuple[int, ...] = (0, 1)
    fp: bool = False


CONTROLS = {
    "HCR.TID1": Control(HCR, 0, 1 << 16, ("REVIDR_EL1", "AIDR_EL1")),
    "HCR.TID2": Control(HCR, 0, 1 << 17, ("CTR_EL0", "CCSIDR_EL1", "CLIDR_EL1", "CSSELR_EL1")),
    "HCR.TID3": Control(HCR, 0, 1 << 18, (IDS,)),
    "HCR.TACR": Control(HCR, 0, 1 << 21, ("ACTLR_EL1",)),
    "HCR.TVM": Control(HCR, 0, 1 << 26, VM, ops="w"),
    "HCR.TRVM": Control(HCR, 0, 1 << 30, VM, ops="r"),
    "HCR.APK": Control(HCR, 1 << 40, 0, KEYS),
    "HCR.API": Control(HCR, 1 << 41, 0, ()),
    "HCR, the rest": Control(HCR, 0, 0xF << 22 | 0x7 << 13 | 1 << 28 | 1 << 37, ()),
    "CPTR.TCPAC": Control(CPTR, 0, 1 << 31, ("CPACR_EL1",)),
    "CPTR.TFP": Control(CPTR, 0, 1 << 10, ("FPCR", "FPSR"), fp=True),
    "CPTR.TTA, TZ": Control(CPTR, 0, 1 << 20 | 1 << 8, ()),
    "CPACR.FPEN 0": Control("CPACR_EL1", 3 << 20, 0, ("FPCR", "FPSR"), 1, fp=True),
    "CPACR.FPEN 1": Control("CPACR_EL1", 3 << 20, 1 << 20, ("FPCR", "FPSR"), 1, "rw", (0,), True),
    "CPACR.FPEN 2": Control("CPACR_EL1", 3 << 20, 2 << 20, ("FPCR", "FPSR"), 1, fp=True),
    "MDCR.TDA": Control(MDCR, 0, 1 << 9, TDA),
    "MDCR.TDRA": Control(MDCR, 0, 1 << 11, TDRA),
    "MDCR.TDOSA": Control(MDCR, 0, 1 << 10, TDOSA),
    "MDCR.TDE": Control(MDCR, 0, 1 << 8, (*TDA, *TDRA, *TDOSA)),
    "MDCR.TPM": Control(MDCR, 0, 1 << 6, PMU),
    "MDCR.TPMCR": Control(MDCR, 0, 1 << 5, ("PMCR_EL0",)),
    "PMUSERENR": Control("PMUSERENR_EL0", 0xF, 0, PMU_EL0, 1, els=(0,)),
    "PMUSERENR.SW": Control("PMUSERENR_EL0", 0xD, 0, but("PMSWINC_EL0"), 1, els=(0,)),
    "MDSCR.TDCC": Control("MDSCR_EL1", 0, 1 << 12, DCC, 1, els=(0,)),
    "CNTHCTL.EL1PCTEN": Control("CNTHCTL_EL2", 1, 0, PCT),
    "CNTHCTL.EL1PCEN": Control("CNTHCTL_EL2", 2, 0, PTIMER),
    "CNTHCTL.EL1TVT": Control("CNTHCTL_EL2", 0, 1 << 13, VTIMER),
    "CNTHCTL.EL1TVCT": Control("CNTHCTL_EL2", 0, 1 << 14, VCT),
    "CNTKCTL.EL0PCTEN": Control("CNTKCTL_EL1", 1, 0, PCT, 1, els=(0,)),
    "CNTKCTL.EL0VCTEN": Control("CNTKCTL_EL1", 2, 0, VCT, 1, els=(0,)),
    "CNTKCTL, no counter": Control("CNTKCTL_EL1", 3, 0, (*PCT, *VCT, "CNTFRQ_EL0"), 1, els=(0,)),
    "CNTKCTL.EL0PTEN": Control("CNTKCTL_EL1", 1 << 9, 0, PTIMER, 1, els=(0,)),
    "CNTKCTL.EL0VTEN": Control("CNTKCTL_EL1", 1 << 8, 0, VTIMER, 1, els=(0,)),
    "SCTLR.UCT": Control("SCTLR_EL1", 1 << 15, 0, ("CTR_EL0",), 1, els=(0,)),
    "SCTLR.UMA": Control("SCTLR_EL1", 1 << 9, 0, ("DAIF",), 1, els=(0,)),
    "SCTLR, the rest": Control("SCTLR_EL1", 1 << 14 | 1 << 16 | 1 << 18 | 1 << 26, 0, ()),
}


def permissive(rig: Rig) -> Guest:
    """A guest that may do everything."""
    g = Guest(rig, sctlr=1 << 15 | 1 << 9 | 1 << 14 | 1 << 16 | 1 << 18 | 1 << 26)
    rig.put("CNTKCTL_EL1", 0x303)
    rig.put("CNTHCTL_EL2", 3)
    rig.put("PMUSERENR_EL0", 0xF)
    return g


def try_access(g: Guest, name: str, e: int, read: bool, el0: bool) -> Outcome:
    """One MRS, or one MSR of the value that is there."""
    rig = g.rig
    value = {"DAIF": 0x3C0, "SPSel": 1}.get(name)
    if value is None:
        value = rig.get(e) or 0
    got = outcome(g.run(mrs(0, e) if read else msr(e, 0), el0=el0, x0=value), el0)
    rig.put("ELR_EL1", 0)
    return got


def check_all(rig: Rig, g: Guest, c: Control | None, want_traps: Callable[[str], bool]) -> None:
    for name, (e, acc) in ours(rig).items():
        for el0 in (False, True):
            for read in (True, False):
                bit = (1 if read else 2) << (0 if el0 else 2)
                if c is not None:  # what the guest may have changed
                    rig.put(c.reg, rig.value(c.reg) & ~c.clear | c.set)
                if acc & bit == 0:
                    want = Outcome(1, esr(EC_UNKNOWN))
                elif (
                    c is not None
                    and want_traps(name)
                    and ("r" if read else "w") in c.ops
                    and (0 if el0 else 1) in c.els
                ):
                    code = esr(EC_FP, FP_ISS) if c.fp else esr(EC_SYSREG, iss(e, 0, read))
                    want = Outcome(c.target, code)
                else:
                    want = Outcome(0)
                got = try_access(g, name, e, read, el0)
                if name in ("FAR_EL1", "ESR_EL1") and want.target == 0:
                    assert got.target == 0, (name, read, el0)
                    continue
                assert got == want, (name, "read" if read else "write", "EL0" if el0 else "EL1")


def test_access_levels(rig: Rig) -> None:
    """Without traps a register is reached from the levels that have it, else UNDEFINED."""
    check_all(rig, permissive(rig), None, lambda name: False)


@pytest.mark.parametrize("name", CONTROLS)
def test_trap(rig: Rig, name: str) -> None:
    """A control traps its registers and no others."""
    c = CONTROLS[name]
    g = permissive(rig)
    known = ours(rig)
    for reg in c.traps:
        assert reg == IDS or reg in known, reg
    check_all(rig, g, c, lambda reg: reg in c.traps or (IDS in c.traps and reg.startswith(IDS)))


def test_reserved_id_registers(rig: Rig) -> None:
    """op0 3, op1 0, CRn 0, CRm 1 to 7 reads as zero, is trapped by TID3, and not written."""
    g = permissive(rig)
    known = {e for e, _, _ in rig.registers.values()}
    for crm in range(1, 8):
        for op2 in range(8):
            e = enc(3, 0, 0, crm, op2)
            if e in known and e != enc(3, 0, 0, 1, 0):
                continue
            r = g.run(mrs(3, e), x3=77)
            assert outcome(r).target == 0
            assert r.x[3] == 0
            assert outcome(g.run(msr(e, 3))) == Outcome(1, esr(EC_UNKNOWN))
            assert outcome(g.run(mrs(3, e), el0=True), True) == Outcome(1, esr(EC_UNKNOWN))
            rig.set(HCR, g.hcr | 1 << 18)
            assert outcome(g.run(mrs(3, e))) == Outcome(2, esr(EC_SYSREG, iss(e, 3, True)))
            rig.set(HCR, g.hcr)


def test_implementation_defined(rig: Rig) -> None:
    """HCR_EL2.TIDCP traps CRn 11 and 15 from EL1, which are UNDEFINED otherwise."""
    g = permissive(rig)
    for crn in (11, 15):
        for op0 in (1, 3):
            e = enc(op0, 2, crn, 5, 3)
            for read in (True, False):
                word = 0xD5000000 | int(read) << 21 | e << 5 | 4
                assert outcome(g.run(word)) == Outcome(1, esr(EC_UNKNOWN))
                rig.set(HCR, g.hcr | 1 << 20)
                assert outcome(g.run(word)) == Outcome(2, esr(EC_SYSREG, iss(e, 4, read)))
                assert outcome(g.run(word, el0=True), True) == Outcome(1, esr(EC_UNKNOWN))
                rig.set(HCR, g.hcr)


# -- instructions that trap -------------------------------------------------------------------
TLBI_EL1 = [enc(1, 0, 8, crm, op2) for crm in (1, 3, 7) for op2 in (0, 1, 2, 3, 5, 7)]
TLBI_EL1 += [enc(1, 0, 8, crm, op2) for crm in (2, 5, 6) for op2 in (1, 3, 5, 7)]
DC_POC = [enc(1, 3, 7, crm, 1) for crm in (10, 12, 14)]
SYS = {
    # bit of HCR_EL2, encodings, whether EL0 has them (by SCTLR_EL1 bit)
    "TTLB": (25, TLBI_EL1, None),
    "TPU": (24, [enc(1, 0, 7, 1, 0), enc(1, 0, 7, 5, 0)], None),
    "TPU by VA": (24, [enc(1, 3, 7, 5, 1), enc(1, 3, 7, 11, 1)], 26),
    "TPCP": (23, DC_POC, 26),
    "TPCP, IVAC": (23, [enc(1, 0, 7, 6, 1)], None),
    "TSW": (22, [enc(1, 0, 7, crm, 2) for crm in (6, 10, 14)], None),
    "TDZ": (28, [enc(1, 3, 7, 4, 1)], 14),
}


@pytest.mark.parametrize("name", SYS)
def test_system_instruction_traps(rig: Rig, name: str) -> None:
    """HCR_EL2 traps TLBI, IC and DC from EL1, and what EL0 may do from EL0 too."""
    bit, encodings, sctlr_bit = SYS[name]
    g = permissive(rig)
    va = 0x1000000
    g.low.map(va, t.DATA, t.LEAF | t.AP_EL0)
    for e in encodings:
        want = Outcome(2, esr(EC_SYSREG, iss(e, 1, False)))
        assert outcome(g.run(sys(e, 1), x1=va)) == Outcome(0)
        rig.set(HCR, g.hcr | 1 << bit)
        assert outcome(g.run(sys(e, 1), x1=va)) == want
        if sctlr_bit is None:
            got = outcome(g.run(sys(e, 1), el0=True, x1=va), True)
            assert got == Outcome(1, esr(EC_UNKNOWN))
        else:
            assert outcome(g.run(sys(e, 1), el0=True, x1=va), True) == want
            # SCTLR_EL1 comes first, and takes it to EL1.
            sctlr = rig.value("SCTLR_EL1")
            rig.set("SCTLR_EL1", sctlr & ~(1 << sctlr_bit))
            got = outcome(g.run(sys(e, 1), el0=True, x1=va), True)
            assert got == Outcome(1, esr(EC_SYSREG, iss(e, 1, False)))
            assert outcome(g.run(sys(e, 1), x1=va)) == want
            rig.set("SCTLR_EL1", sctlr)
        rig.set(HCR, g.hcr)


def test_dczid_tells_the_trap(rig: Rig) -> None:
    """DCZID_EL0.DZP is set where DC ZVA would trap."""
    g = permissive(rig)
    for hcr, dze, el0, dzp in (
        (0, 1, False, 0),
        (0, 1, True, 0),
        (0, 0, True, 1),
        (0, 0, False, 0),
        (1, 1, False, 1),
        (1, 1, True, 1),
    ):
        rig.set(HCR, g.hcr | hcr << 28)
        rig.set("SCTLR_EL1", rig.value("SCTLR_EL1") & ~(1 << 14) | dze << 14)
        assert g.run(mrs(0, rig.enc["DCZID_EL0"]), el0=el0).x[0] == 4 | dzp << 4


def test_rctx_at_el0(rig: Rig) -> None:
    """CFP, DVP and CPP RCTX are EL0's by SCTLR_EL1.EnRCTX."""
    g = permissive(rig)
    for op2 in (4, 5, 7):
        e = enc(1, 3, 7, 3, op2)
        assert outcome(g.run(sys(e, 1))) == Outcome(0)
        got = outcome(g.run(sys(e, 1), el0=True), True)
        assert got == Outcome(1, esr(EC_SYSREG, iss(e, 1, False)))
        rig.set("SCTLR_EL1", rig.value("SCTLR_EL1") | 1 << 10)
        assert outcome(g.run(sys(e, 1), el0=True), True) == Outcome(0)
        rig.set("SCTLR_EL1", rig.value("SCTLR_EL1") & ~(1 << 10))


def test_daif_immediate_at_el0(rig: Rig) -> None:
    """MSR DAIFSet and DAIFClr at EL0 trap to EL1 without SCTLR_EL1.UMA."""
    for uma in (0, 1):
        g = permissive(rig)
        rig.set("SCTLR_EL1", rig.value("SCTLR_EL1") & ~(1 << 9) | uma << 9)
        for op2, crm in ((6, 2), (7, 3)):
            word = 0xD503401F | crm << 8 | op2 << 5
            got = outcome(g.run(word, el0=True), True)
            want = Outcome(1, esr(EC_SYSREG, iss(enc(0, 3, 4, crm, op2), 31, False)))
            assert got == (Outcome(0) if uma else want)


def test_undefined_everywhere(rig: Rig) -> None:
    """Encodings without a register are UNDEFINED; a sample of all that there could be."""
    g = permissive(rig)
    known = {e for e, _, _ in rig.registers.values()}
    known |= {enc(3, 0, 0, crm, op2) for crm in range(8) for op2 in range(8)}
    # AP0R1-3 and AP1R1-3 among others: UNDEFINED.
    for n in range(0, 1 << 14, 7):
        e = 3 << 14 | n
        if e in known or e >> 7 & 15 in (11, 15):
            continue
        assert outcome(g.run(mrs(0, e))) == Outcome(1, esr(EC_UNKNOWN)), hex(e)
        assert outcome(g.run(msr(e, 0))) == Outcome(1, esr(EC_UNKNOWN)), hex(e)


def test_sp_el0_while_in_use(rig: Rig) -> None:
    """SP_EL0 may not be named while PSTATE.SP is 0."""
    g = permissive(rig)
    e = rig.enc["SP_EL0"]
    spsel0, spsel1 = 0xD50040BF, 0xD50041BF
    for word in (mrs(0, e), msr(e, 0)):
        r = g.run(spsel0, word, spsel1)
        # Taken from the current level with SP_EL0: vector 0x000.
        assert r.hvc == 0x100
        assert r.esr1 == esr(EC_UNKNOWN)
        assert outcome(g.run(NOP, word)) == Outcome(0)


def test_features_of_the_table(rig: Rig) -> None:
    """Registers that a feature brings are among those that were tried."""
    assert {"RNDR", "CNTVCTSS_EL0", "APIAKeyLo_EL1", "PAN"} <= set(ours(rig))
    assert feat.ALL
