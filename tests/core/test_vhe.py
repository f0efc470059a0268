"""FEAT_VHE: a host at EL2, its names for registers, its EL2&0 regime, its EL0.

Code runs at EL2 and, with HCR_EL2.TGE, at EL0 under it.  An exception to EL2 ends a run,
so the syndrome of each is looked at directly (DDI 0487, D1.3.6, D8.1.2, D19.1.7).
"""

from __future__ import annotations

from collections.abc import Iterator

import pe_features as feat
import pe_tables as t
import pytest
from pe_rig import (
    BRK,
    DSB,
    EC_DABT,
    EC_DABT_LOWER,
    EC_FP,
    EC_HVC,
    EC_IABT,
    EC_ILLEGAL,
    EC_SVC,
    EC_SYSREG,
    EC_UNKNOWN,
    EC_WFX,
    ERET,
    ISB,
    NOP,
    Result,
    Rig,
    enc,
    esr,
    hvc,
    mrs,
    msr,
    svc,
    sys,
)
from pe_tables import Space

TGE, E2H, RW = 1 << 27, 1 << 34, 1 << 31
VA, PAGE, OTHER = 0x12_3400_0000, t.DATA, t.DATA + 0x400000
EL2H, EL0T = 0x3C9, 0x3C0
PAN, UAO = 1 << 22, 1 << 23
LDR, STR, LDTR, BR = 0xF9400020, 0xF9000020, 0xF8400820, 0xD61F0020
FMOV = 0x1E604020  # fmov d0, d1
PERM3 = 0xF
NG = 1 << 11
AS16 = 1 << 36
SCTLR = 0x30D00981 | 1 << 12 | 1 << 23  # M, I, SPAN: EL0 may do nothing special
WXN = 1 << 19
PAIRS = {
    # what EL2 calls it without E2H: a value that it keeps, and one for EL1's
    "SCTLR": ("SCTLR_EL2", 0x30D00980, 0x30D40980),
    "CPACR": ("CPTR_EL2", 0x300000, 0x100000),
    "TTBR0": ("TTBR0_EL2", 0x1234000, 0x5678000),
    "TTBR1": ("TTBR1_EL2", 0x2234000, 0x6678000),
    "TCR": ("TCR_EL2", 0x19, 0x1A),
    "SPSR": ("SPSR_EL2", 0x3C9, 0x3C5),
    "ELR": ("ELR_EL2", 0x1000, 0x2000),
    "AFSR0": ("AFSR0_EL2", 5, 6),
    "AFSR1": ("AFSR1_EL2", 7, 8),
    "ESR": ("ESR_EL2", 0x2000000, 0x2000001),
    "FAR": ("FAR_EL2", 0x77, 0x88),
    "MAIR": ("MAIR_EL2", 0xFF, 0x44),
    "AMAIR": ("AMAIR_EL2", 0, 0),
    "VBAR": ("VBAR_EL2", 0x8800, 0x9000),
    "CONTEXTIDR": ("CONTEXTIDR_EL2", 3, 4),
}


@pytest.fixture(scope="module", params=[False, True], ids=["interpreter", "jit"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Once with each executor."""
    r = Rig(jit=request.param)
    yield r
    r.close()


class Host(t.Guest):
    """A host at EL2: its code in the upper half (TTBR1_EL2), the tests in the lower."""

    def __init__(self, rig: Rig, tge: bool = True, tcr: int = AS16, sctlr: int = 0) -> None:
        self.rig = rig
        self.next = t.TABLES
        rig.new(feat.ALL)
        self.hcr = RW | E2H | (TGE if tge else 0) | 3 << 40
        rig.set("HCR_EL2", self.hcr)
        high = Space(self, 12, 39)
        high.map(t.HIGH & (1 << 39) - 1, 0, t.LEAF | t.AP_EL0 | t.AP_RO, 2)
        self.low = Space(self, 12, 39)
        self.tcr2 = tcr | 25 | t.T1SZ | t.PS48 << 32
        for reg, value in (
            ("MAIR_EL2", t.MAIR),
            ("TTBR1_EL2", high.root),
            ("TTBR0_EL2", self.low.root),
            ("TCR_EL2", self.tcr2),
            ("SCTLR_EL2", SCTLR | sctlr),
            ("CPTR_EL2", 3 << 20),
        ):
            assert rig.set(reg, value)

    def run(self, *code: int, el0: bool = False, pstate: int = 0, **x: int) -> Result:
        self.rig.code(t.CODE, *code, svc(t.DONE) if el0 else hvc(t.DONE))
        self.rig.sys_put(enc(1, 0, 7, 5, 0))
        for name, value in x.items():
            self.rig.x(int(name[1:]), value)
        self.rig.put("FAR_EL2", 0)
        self.rig.put("ELR_EL2", t.HIGH + t.CODE)
        self.rig.put("SPSR_EL2", (EL0T if el0 else EL2H) | pstate)
        return self.rig.run()

    def flush(self) -> None:
        """TLBI ALLE2 and IC IALLU."""
        self.rig.sys_put(enc(1, 4, 8, 7, 0))
        self.rig.sys_put(enc(1, 0, 7, 5, 0))


def ended(r: Result) -> bool:
    """Did the run come to its end?"""
    return (r.vec, r.esr2) in (
        (0x200, esr(EC_HVC, t.DONE)),
        (0x400, esr(EC_SVC, t.DONE)),
    )


def fault(r: Result) -> tuple[int, int, int]:
    return r.vec, r.esr2, r.far2


# -- names ------------------------------------------------------------------------------
def test_names_without_e2h(rig: Rig) -> None:
    """Without E2H the _EL12 and _EL02 names are UNDEFINED at EL2, the EL1 names EL1's."""
    rig.new(feat.ALL)
    rig.set("HCR_EL2", RW)
    for name in rig.registers:
        if name.endswith(("_EL12", "_EL02")):
            assert rig.get(name) is None, name
            assert not rig.set(name, 0), name
    for stem, (host, _, guest) in PAIRS.items():
        before = rig.value(host)
        assert rig.set(f"{stem}_EL1", guest), stem
        assert rig.value(f"{stem}_EL1") == guest, stem
        assert rig.value(host) == before, stem


def test_no_vhe(rig: Rig) -> None:
    """Without FEAT_VHE there is no E2H, and no register that it brings."""
    rig.new(feat.ALL & ~feat.BIT["VHE"])
    rig.set("HCR_EL2", RW | E2H)
    assert rig.value("HCR_EL2") == RW
    assert rig.value("ID_AA64MMFR1_EL1") >> 8 & 15 == 0
    for name in ("TTBR1_EL2", "CONTEXTIDR_EL2", "CNTHV_CTL_EL2", "SCTLR_EL12", "CNTV_CTL_EL02"):
        assert rig.get(name) is None, name


def test_names_with_e2h(rig: Rig) -> None:
    """With E2H the EL1 names reach the EL2 registers, _EL12 those of EL1."""
    rig.new(feat.ALL)
    assert rig.value("ID_AA64MMFR1_EL1") >> 8 & 15 == 1
    rig.set("HCR_EL2", RW | E2H)
    for stem, (host, one, two) in PAIRS.items():
        assert rig.set(f"{stem}_EL1", one), stem
        assert rig.set(f"{stem}_EL12", two), stem
        assert rig.value(host) == rig.value(f"{stem}_EL1") == one, stem
        assert rig.value(f"{stem}_EL12") == two, stem
    rig.set("HCR_EL2", RW)
    for stem, (_, _, two) in PAIRS.items():
        assert rig.value(f"{stem}_EL1") == two, stem


def test_instructions_by_name(rig: Rig) -> None:
    """MRS and MSR at EL2 are redirected, also where the translator knows the register."""
    host = Host(rig)
    for stem in ("VBAR", "ELR", "SPSR", "CONTEXTIDR", "AFSR0", "FAR"):
        _, one, two = PAIRS[stem]
        el1, el12 = rig.enc[f"{stem}_EL1"], rig.enc[f"{stem}_EL12"]
        r = host.run(
            msr(el1, 1), msr(el12, 2), mrs(3, el1), mrs(4, el12), mrs(5, rig.enc[f"{stem}_EL2"]),
            x1=one, x2=two,
        )  # fmt: skip
        assert ended(r), (stem, fault(r))
        assert r.x[3:6] == (one, two, one), stem
    # EL1 has its own registers under every name it may use, and not the aliases.
    rig.set("HCR_EL2", RW | E2H | 1 << 4)
    rig.put("SCTLR_EL12", 0x30D00980)
    rig.put("VBAR_EL12", t.VECTORS)
    for off in range(0, 0x800, 0x80):
        rig.code(t.VECTORS + off, hvc(0x100 + off // 0x80))
    for word, want in (
        (mrs(3, rig.enc["VBAR_EL1"]), t.DONE),
        (mrs(3, rig.enc["VBAR_EL12"]), 0x104),
    ):
        rig.code(t.CODE, word, hvc(t.DONE))
        rig.sys_put(enc(1, 0, 7, 5, 0))
        rig.put("ELR_EL2", t.CODE)
        rig.put("SPSR_EL2", t.EL1H)
        r = rig.run()
        assert r.hvc == want
        if want == t.DONE:
            assert r.x[3] == t.VECTORS


def test_cptr_layouts(rig: Rig) -> None:
    """CPTR_EL2 is TFP and TCPAC without E2H, FPEN and TCPAC with it."""
    rig.new(feat.ALL)
    rig.set("HCR_EL2", RW)
    rig.set("CPTR_EL2", (1 << 64) - 1)
    assert rig.value("CPTR_EL2") == 0x800037FF
    rig.set("CPTR_EL2", 0)
    assert rig.value("CPTR_EL2") == 0x33FF
    rig.set("HCR_EL2", RW | E2H)
    rig.set("CPTR_EL2", (1 << 64) - 1)
    assert rig.value("CPTR_EL2") == 0x80300000
    rig.set("CPTR_EL2", 0)
    assert rig.value("CPTR_EL2") == 0


@pytest.mark.parametrize(("fpen", "at2", "at0"), [(0, 1, 1), (1, 0, 1), (2, 1, 1), (3, 0, 0)])
def test_fp_by_fpen(rig: Rig, fpen: int, at2: int, at0: int) -> None:
    """CPTR_EL2.FPEN, and not CPACR_EL1, decides for a host and its EL0."""
    host = Host(rig)
    rig.set("CPACR_EL12", (3 - fpen) << 20)
    rig.set("CPTR_EL2", fpen << 20)
    iss = 1 << 24 | 0xE << 20
    r = host.run(FMOV)
    assert ended(r) != bool(at2)
    if at2:
        assert fault(r)[:2] == (0x200, esr(EC_FP, iss))
    r = host.run(FMOV, el0=True)
    assert ended(r) != bool(at0)
    if at0:
        assert fault(r)[:2] == (0x400, esr(EC_FP, iss))


# -- the EL2&0 regime ----------------------------------------------------------------------
LEAVES = {
    "kernel": (t.LEAF, "rw", ""),
    "kernel, read-only": (t.LEAF | t.AP_RO, "r", ""),
    "user": (t.LEAF | t.AP_EL0, "rw", "rw"),
    "user, read-only": (t.LEAF | t.AP_EL0 | t.AP_RO, "r", "r"),
}


@pytest.mark.parametrize("leaf", LEAVES)
def test_permissions(rig: Rig, leaf: str) -> None:
    """AP works as in EL1&0: for EL2, and for its EL0."""
    bits, at2, at0 = LEAVES[leaf]
    host = Host(rig)
    host.low.map(VA, PAGE, bits)
    for word, need in ((LDR, "r"), (STR, "w")):
        for el0, may in ((False, at2), (True, at0)):
            r = host.run(word, el0=el0, x1=VA)
            if need in may:
                assert ended(r), (leaf, need, el0, fault(r))
                continue
            ec = EC_DABT_LOWER if el0 else EC_DABT
            wnr = 1 << 6 if need == "w" else 0
            assert fault(r) == (0x400 if el0 else 0x200, esr(ec, PERM3 | wnr), VA)


def test_execute_permissions(rig: Rig) -> None:
    """PXN is EL2's and UXN EL0's; what EL0 may write EL2 may not execute."""
    host = Host(rig)
    rig.code(PAGE, hvc(t.DONE))
    rig.code(PAGE + 4, svc(t.DONE))
    for bits, at2, at0 in (
        (t.LEAF, True, True),
        (t.LEAF | t.PXN, False, True),
        (t.LEAF | t.UXN, True, False),
        (t.LEAF | t.AP_EL0, False, True),
        (t.LEAF | t.AP_EL0 | t.AP_RO, True, True),
    ):
        host.low.map(VA, PAGE, bits)
        host.flush()
        r = host.run(BR, x1=VA)
        assert ended(r) == at2, hex(bits)
        if not at2:
            assert fault(r) == (0x200, esr(EC_IABT, PERM3), VA)
        assert ended(host.run(BR, el0=True, x1=VA + 4)) == at0, hex(bits)


def test_pan_and_unprivileged(rig: Rig) -> None:
    """PSTATE.PAN keeps EL2 off pages of EL0; LDTR is EL0's access under TGE only."""
    for tge in (True, False):
        host = Host(rig, tge=tge)
        host.low.map(VA, PAGE, t.LEAF | t.AP_EL0)
        host.low.map(VA + 0x1000, PAGE, t.LEAF)
        assert ended(host.run(LDR, x1=VA))
        assert fault(host.run(LDR, pstate=PAN, x1=VA)) == (0x200, esr(EC_DABT, PERM3), VA)
        assert ended(host.run(LDR, pstate=PAN, x1=VA + 0x1000))
        # LDTR: of a user page with PAN, and of a kernel page.
        assert ended(host.run(LDTR, pstate=PAN, x1=VA)) == tge
        assert ended(host.run(LDTR, x1=VA + 0x1000)) != tge
        assert ended(host.run(LDTR, pstate=UAO, x1=VA + 0x1000))


def test_span(rig: Rig) -> None:
    """An exception to EL2 sets PAN when SCTLR_EL2.SPAN is 0, E2H and TGE are 1."""
    for hcr, span, want in ((E2H | TGE, 0, 1), (E2H | TGE, 1, 0), (E2H, 0, 0)):
        host = Host(rig)
        rig.set("SCTLR_EL2", SCTLR & ~(1 << 23) | span << 23)
        # The HVC at EL2 is taken to EL2; the next run starts with that PSTATE.
        rig.set("HCR_EL2", RW | hcr)
        assert ended(host.run(NOP))
        assert rig.value("PAN") >> 22 == want, (hex(hcr), span)


def test_wxn_and_flat(rig: Rig) -> None:
    """SCTLR_EL2.WXN, and stage 1 switched off, work in the regime."""
    host = Host(rig, sctlr=WXN)
    rig.code(PAGE, hvc(t.DONE))
    host.low.map(VA, PAGE, t.LEAF)
    assert fault(host.run(BR, x1=VA)) == (0x200, esr(EC_IABT, PERM3), VA)
    rig.set("SCTLR_EL2", SCTLR & ~1)
    rig.code(PAGE, svc(t.DONE))
    for pstate, start in ((EL0T, PAGE),):
        rig.put("ELR_EL2", start)
        rig.put("SPSR_EL2", pstate)
        assert ended(rig.run())


def operand(va: int, asid: int) -> int:
    return asid << 48 | va >> 12


TLBI = {
    "VMALLE1": (enc(1, 0, 8, 7, 0), 0),
    "VAE1": (enc(1, 0, 8, 7, 1), 1),
    "ASIDE1": (enc(1, 0, 8, 7, 2), 1),
    "VAAE1": (enc(1, 0, 8, 7, 3), 1),
    "VALE1IS": (enc(1, 0, 8, 3, 5), 1),
    "VAALE1OS": (enc(1, 0, 8, 1, 7), 1),
    "VAE2": (enc(1, 4, 8, 7, 1), 1),
    "VALE2IS": (enc(1, 4, 8, 3, 5), 1),
    "ALLE2": (enc(1, 4, 8, 7, 0), 0),
    "RVAE1": (enc(1, 0, 8, 6, 1), 2),
    "RVAE2IS": (enc(1, 4, 8, 2, 1), 2),
}


@pytest.mark.parametrize("name", TLBI)
def test_tlbi_of_the_host(rig: Rig, name: str) -> None:
    """Under {E2H, TGE} the EL1 forms, and the EL2 forms, drop entries of EL2&0."""
    host = Host(rig)
    asid = 0x1234
    rig.put("TTBR0_EL2", asid << 48 | host.low.root)
    rig.mem(PAGE, 1)
    rig.mem(OTHER, 2)
    word, kind = TLBI[name]
    for el0 in (False, True):
        host.low.map(VA, PAGE, t.LEAF | t.AP_EL0 | NG)
        host.flush()
        assert host.run(LDR, el0=el0, x1=VA).x[0] == 1
        host.low.map(VA, OTHER, t.LEAF | t.AP_EL0 | NG)
        xt = (0, operand(VA, asid), asid << 48 | 1 << 46 | VA >> 12)[kind]
        assert ended(host.run(sys(word, 2), DSB, ISB, x2=xt))
        assert host.run(LDR, el0=el0, x1=VA).x[0] == 2, name


def test_asids(rig: Rig) -> None:
    """ASIDs of TTBR0_EL2, or TTBR1_EL2 with A1, keep non-global pages apart."""
    for a1 in (0, 1):
        host = Host(rig, tcr=AS16 | a1 << 22)
        ttbr = ("TTBR0_EL2", "TTBR1_EL2")[a1]
        root = rig.value(ttbr)
        rig.mem(PAGE, 1)
        rig.mem(OTHER, 2)
        slot = host.low.map(VA, PAGE, t.LEAF | NG)
        for value in (1, 2, 1, 2):
            rig.put(ttbr, root | value << 48)
            # A page as long as its ASID has not been used: then it is in the TLB.
            rig.mem(slot, (PAGE, OTHER)[value - 1] | t.LEAF | NG | t.TABLE)
            assert host.run(LDR, x1=VA).x[0] == value, a1


def test_e2h_is_part_of_the_context(rig: Rig) -> None:
    """The EL2 and EL2&0 regimes, and EL1&0, never see each other's translations."""
    host = Host(rig)
    host.low.map(VA, PAGE, t.LEAF | t.AP_EL0)
    rig.mem(PAGE, 1)
    assert host.run(LDR, x1=VA).x[0] == 1
    assert host.run(LDR, el0=True, x1=VA).x[0] == 1
    # EL0 of EL1, flat: the same address is not there, and code is at its own.
    rig.set("HCR_EL2", RW | E2H | 1 << 4)
    rig.set("SCTLR_EL12", 0x30D00980)
    rig.code(t.CODE, LDR, hvc(t.DONE))
    rig.sys_put(enc(1, 0, 7, 5, 0))
    rig.x(1, PAGE + 8)
    rig.mem(PAGE + 8, 77)
    rig.put("ELR_EL2", t.CODE)
    rig.put("SPSR_EL2", t.EL1H)
    r = rig.run()
    assert r.hvc == t.DONE
    assert r.x[0] == 77
    rig.set("HCR_EL2", host.hcr)
    assert host.run(LDR, el0=True, x1=VA).x[0] == 1


# -- AT ----------------------------------------------------------------------------------------
def test_at(rig: Rig) -> None:
    """AT S1E1 and S1E0 mean EL2&0 under {E2H, TGE}, EL1&0 without TGE; S1E2 always EL2&0."""
    host = Host(rig)
    host.low.map(VA, PAGE, t.LEAF | t.AP_EL0)
    host.low.map(VA + 0x1000, OTHER, t.LEAF)
    mask = 0xFFFF_FFFF_F000
    ops = {"S1E1R": (0, 8, 0), "S1E0R": (0, 8, 2), "S1E1RP": (0, 9, 0), "S1E2R": (4, 8, 0)}
    for name, (op1, crm, op2) in ops.items():
        word = sys(enc(1, op1, 7, crm, op2), 1)
        par = mrs(0, rig.enc["PAR_EL1"])
        for va, pa in ((VA, PAGE), (VA + 0x1000, OTHER)):
            r = host.run(word, par, x1=va)
            assert ended(r)
            if name == "S1E0R" and pa == OTHER:
                assert r.x[0] & 0x7F == PERM3 << 1 | 1
            else:
                assert (r.x[0] & 1, r.x[0] & mask) == (0, pa), name
        r = host.run(word, par, pstate=PAN, x1=VA)
        assert (r.x[0] & 1 == 1) == (name == "S1E1RP"), name
    # Without TGE it is EL1&0, whose stage 1 is off: flat.
    rig.set("HCR_EL2", RW | E2H)
    r = host.run(sys(enc(1, 0, 7, 8, 0), 1), mrs(0, rig.enc["PAR_EL1"]), x1=0x5000)
    assert (r.x[0] & 1, r.x[0] & mask) == (0, 0x5000)
    r = host.run(sys(enc(1, 4, 7, 8, 0), 1), mrs(0, rig.enc["PAR_EL1"]), x1=VA)
    assert (r.x[0] & 1, r.x[0] & mask) == (0, PAGE)


# -- EL0 of a host -------------------------------------------------------------------------------
def test_exceptions_of_el0(rig: Rig) -> None:
    """All that EL0 would give to EL1 comes to EL2."""
    host = Host(rig)
    for word, ec, iss in ((svc(7), EC_SVC, 7), (BRK | 5 << 5, 0x3C, 5), (0, EC_UNKNOWN, 0)):
        assert fault(host.run(word, el0=True))[:2] == (0x400, esr(ec, iss))
    r = host.run(LDR, el0=True, x1=VA)
    assert fault(r) == (0x400, esr(EC_DABT_LOWER, 0x05), VA)


CTR, WFE, WFI = mrs(0, enc(3, 3, 0, 0, 1)), 0xD503205F, 0xD503207F
SWITCHES = {
    # SCTLR_EL2 bit, instruction, exception class when it is 0
    "UCT": (15, CTR, EC_SYSREG),
    "UMA": (9, mrs(0, enc(3, 3, 4, 2, 1)), EC_SYSREG),
    "DZE": (14, sys(enc(1, 3, 7, 4, 1), 1), EC_SYSREG),
    "UCI": (26, sys(enc(1, 3, 7, 5, 1), 1), EC_SYSREG),
    "nTWE": (18, WFE, EC_WFX),
    "nTWI": (16, WFI, EC_WFX),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_sctlr_el2_for_el0(rig: Rig, name: str) -> None:
    """SCTLR_EL2 says what the EL0 of a host may do, SCTLR_EL1 nothing."""
    bit, word, ec = SWITCHES[name]
    host = Host(rig)
    host.low.map(VA, PAGE, t.LEAF | t.AP_EL0)
    rig.set("SCTLR_EL12", 0x30D00980 | 1 << bit)
    # ERET is an event: it takes a second WFE to wait.
    r = host.run(word, word, el0=True, x1=VA)
    assert (r.vec, r.esr2 >> 26) == (0x400, ec)
    rig.set("SCTLR_EL2", SCTLR | 1 << bit)
    assert ended(host.run(word, el0=True, x1=VA)), name


def test_hcr_traps_are_off(rig: Rig) -> None:
    """What HCR_EL2 takes from a guest's EL0 it does not take from a host's."""
    free = 1 << 15 | 1 << 14 | 1 << 26 | 1 << 16 | 1 << 18
    words = {
        "TID2": (17, CTR),
        "TDZ": (28, sys(enc(1, 3, 7, 4, 1), 1)),
        "TPU": (24, sys(enc(1, 3, 7, 5, 1), 1)),
        "TPCP": (23, sys(enc(1, 3, 7, 10, 1), 1)),
        "TWI": (13, WFI),
    }
    for name, (bit, word) in words.items():
        host = Host(rig, sctlr=free)
        host.low.map(VA, PAGE, t.LEAF | t.AP_EL0)
        rig.set("HCR_EL2", host.hcr | 1 << bit)
        assert ended(host.run(word, el0=True, x1=VA)), name


def test_illegal_return(rig: Rig) -> None:
    """With TGE there is no EL1 to return to."""
    host = Host(rig)
    r = host.run(
        msr(rig.enc["SPSR_EL2"], 1), msr(rig.enc["ELR_EL2"], 2), ERET,
        x1=t.EL1H, x2=t.HIGH + t.CODE + 12,
    )  # fmt: skip
    assert fault(r)[:2] == (0x200, esr(EC_ILLEGAL))
