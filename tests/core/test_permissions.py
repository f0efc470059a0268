"""Stage-1 permissions in full, hardware management of flags, and PAR_EL1.

Expected values follow AArch64.S1DirectBasePermissions(), S2DirectBasePermissions(),
SettingDirtyStatePermitted() and EncodePAR() of DDI 0487.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pe_features as feat
import pe_tables as t
import pytest
from pe_rig import (
    EC_DABT,
    EC_DABT_LOWER,
    EC_IABT,
    EC_IABT_LOWER,
    EC_UNKNOWN,
    Rig,
    enc,
    esr,
    hvc,
    mrs,
    sys,
)
from pe_tables import Guest, Outcome, Stage1, outcome

VA, PAGE, IPA = 0x12_3456_7000, t.DATA + 0x5000, 0x8000_5000
ACCESS, PERM, WNR, S1PTW, CM = 0x08, 0x0C, 1 << 6, 1 << 7, 1 << 8
LDR, STR, BR = 0xF9400020, 0xF9000020, 0xD61F0020
LDTR, STTR = 0xF8400820, 0xF8000820
LDADD = 0xF8220020  # ldadd x2, x0, [x1]
WORDS = {"load": LDR, "store": STR, "fetch": BR, "ldtr": LDTR, "sttr": STTR, "atomic": LDADD}
PAN, UAO = 1 << 22, 1 << 23
WXN, EPAN = 1 << 19, 1 << 57


@pytest.fixture(scope="module", params=[False, True], ids=["interpreter", "jit"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Once with each executor."""
    r = Rig(jit=request.param)
    yield r
    r.close()


def may(
    leaf: int, table: int, el: int, *, wxn: bool = False, pan: bool = False, epan: bool = False
) -> set[str]:
    """What a level may do with a page: r, w, x."""
    pr = pw = True
    ur = uw = bool(leaf & t.AP_EL0)
    if leaf & t.AP_RO:
        pw = uw = False
    if table & t.AP_EL0_TABLE:
        ur = uw = False
    if table & t.AP_RO_TABLE:
        pw = uw = False
    px = not (leaf & t.PXN or table & t.PXN_TABLE or uw)
    ux = not (leaf & t.UXN or table & t.UXN_TABLE)
    if pan and (ur or uw or (epan and ux)):
        pr = pw = False
    r, w, x = (ur, uw, ux) if el == 0 else (pr, pw, px)
    if wxn and w:
        x = False
    # WXN looks at what is writable before PAN.
    if wxn and el == 1 and pan and not leaf & t.AP_RO and not table & t.AP_RO_TABLE:
        x = False
    return {name for name, on in zip("rwx", (r, w, x), strict=True) if on}


def expect(kind: str, el: int, allowed: set[str], level: int = 3) -> Outcome:
    need = {"load": "r", "store": "w", "fetch": "x", "ldtr": "r", "sttr": "w", "atomic": "rw"}[kind]
    missing = [n for n in need if n not in allowed]
    if not missing:
        return Outcome(0)
    if kind == "fetch":
        return Outcome(1, esr(EC_IABT if el else EC_IABT_LOWER, PERM | level), VA)
    wnr = WNR if missing[0] == "w" else 0
    return Outcome(1, esr(EC_DABT if el else EC_DABT_LOWER, PERM | level | wnr), VA)


class Bench:
    """One page whose leaf and table bits change."""

    def __init__(self, rig: Rig, sctlr: int = 0, tcr: int = 0) -> None:
        self.g = Guest(rig, sctlr=sctlr, stage1=Stage1(tcr=tcr))
        self.slot = self.g.low.slot(VA, 3)
        self.table_slot = self.g.low.slot(VA, 2)
        self.table = rig.read(self.table_slot)[0]
        rig.code(PAGE, hvc(t.DONE))

    def set(self, leaf: int, table: int = 0) -> None:
        self.g.rig.mem(self.slot, PAGE | leaf | t.TABLE)
        self.g.rig.mem(self.table_slot, self.table | table)
        self.g.flush()

    def run(self, kind: str, el: int, pstate: int = 0) -> Outcome:
        el0 = el == 0
        # In the page there is an HVC for EL1 and for EL0 an SVC.
        self.g.rig.code(PAGE, 0xD4000001 | t.DONE << 5 if el0 else hvc(t.DONE))
        return outcome(self.g.run(WORDS[kind], el0=el0, pstate=pstate, x1=VA), el0)


LEAVES = [
    t.LEAF | sum(bits)
    for bits in itertools.product((0, t.AP_EL0), (0, t.AP_RO), (0, t.UXN), (0, t.PXN))
]
TABLE_BITS = [
    sum(bits)
    for bits in itertools.product(
        (0, t.AP_EL0_TABLE), (0, t.AP_RO_TABLE), (0, t.UXN_TABLE), (0, t.PXN_TABLE)
    )
]


@pytest.mark.parametrize("wxn", [False, True])
def test_leaf_and_table(rig: Rig, wxn: bool) -> None:
    """AP, UXN, PXN of the leaf under those of the table, with and without WXN."""
    bench = Bench(rig, WXN if wxn else 0)
    for leaf, table in itertools.product(LEAVES, TABLE_BITS):
        bench.set(leaf, table)
        for el in (0, 1):
            allowed = may(leaf, table, el, wxn=wxn)
            for kind in ("load", "store", "fetch"):
                got = bench.run(kind, el)
                assert got == expect(kind, el, allowed), (hex(leaf), hex(table), el, kind)


def test_hierarchy_switched_off(rig: Rig) -> None:
    """With HPD0 the bits of tables mean nothing."""
    bench = Bench(rig, tcr=1 << 41)
    leaf = t.LEAF | t.AP_EL0
    bench.set(leaf, sum((t.AP_EL0_TABLE, t.AP_RO_TABLE, t.UXN_TABLE, t.PXN_TABLE)))
    for el in (0, 1):
        for kind in ("load", "store", "fetch"):
            assert bench.run(kind, el) == expect(kind, el, may(leaf, 0, el)), (el, kind)


@pytest.mark.parametrize("epan", [False, True])
@pytest.mark.parametrize("pan", [False, True])
@pytest.mark.parametrize("uao", [False, True])
@pytest.mark.parametrize("wxn", [False, True])
def test_privileged_access_never(rig: Rig, pan: bool, epan: bool, uao: bool, wxn: bool) -> None:
    """PAN keeps EL1 off EL0's pages, EPAN off what EL0 executes; LDTR goes by UAO."""
    bench = Bench(rig, (EPAN if epan else 0) | (WXN if wxn else 0))
    pstate = (PAN if pan else 0) | (UAO if uao else 0)
    for leaf, table in itertools.product(LEAVES, (0, t.AP_EL0_TABLE, t.UXN_TABLE)):
        bench.set(leaf, table)
        own = may(leaf, table, 1, pan=pan, epan=epan, wxn=wxn)
        for kind in ("load", "store", "fetch", "atomic"):
            assert bench.run(kind, 1, pstate) == expect(kind, 1, own), (hex(leaf), kind)
        unprivileged = own if uao else may(leaf, table, 0, wxn=wxn)
        for kind in ("ldtr", "sttr"):
            got = bench.run(kind, 1, pstate)
            assert got == expect(kind, 1, unprivileged), (hex(leaf), kind)
        at_el0 = may(leaf, table, 0, wxn=wxn)
        assert bench.run("load", 0, pstate) == expect("load", 0, at_el0)


def test_pan_on_entry(rig: Rig) -> None:
    """An exception to EL1 sets PSTATE.PAN when SCTLR_EL1.SPAN is 0, and keeps it otherwise."""
    for span in (0, 1):
        for pan in (0, PAN):
            g = Guest(rig)
            rig.set("SCTLR_EL1", rig.value("SCTLR_EL1") & ~(1 << 23) | span << 23)
            r = g.run(0, pstate=pan)  # UDF
            assert r.esr1 == esr(EC_UNKNOWN)
            assert r.spsr2 & PAN == (pan if span else PAN)
            assert r.spsr1 & PAN == pan


# -- stage 2 ---------------------------------------------------------------------------------
@pytest.mark.parametrize("xnx", [False, True])
def test_stage2_execute_never(rig: Rig, xnx: bool) -> None:
    """XN[1:0] of stage 2 tells EL0 and EL1 apart with FEAT_XNX."""
    features = feat.ALL if xnx else feat.ALL & ~feat.BIT["XNX"]
    g = Guest(rig, features)
    s2 = g.with_stage2(level=1)
    g.low.map(VA, IPA, t.LEAF | t.AP_EL0 | t.AP_RO)
    for xn in range(4):
        s2.map(IPA, PAGE, t.S2_LEAF | xn << 53)
        g.flush()
        for el0 in (False, True):
            rig.code(PAGE, 0xD4000001 | t.DONE << 5 if el0 else hvc(t.DONE))
            got = outcome(g.run(BR, el0=el0, x1=VA), el0)
            if xnx:
                allowed = {0: True, 1: el0, 2: False, 3: not el0}[xn]
            else:
                allowed = xn < 2
            want = Outcome(2, esr(EC_IABT_LOWER, PERM | 3), VA, IPA >> 12 << 4)
            assert got == (Outcome(0) if allowed else want), (xn, el0)


# -- access flag and dirty state -----------------------------------------------------------------
HA, HD = 1 << 39, 1 << 40
CLEAN = t.LEAF | t.DBM | t.AP_RO | t.AP_EL0
AT_R, AT_W = enc(1, 0, 7, 8, 0), enc(1, 0, 7, 8, 1)


@pytest.mark.parametrize("stage2", [False, True])
@pytest.mark.parametrize("ha", [False, True])
@pytest.mark.parametrize("hd", [False, True])
def test_flags_of_stage1(rig: Rig, ha: bool, hd: bool, stage2: bool) -> None:
    """HA sets the access flag, HD with HA and DBM makes pages dirty; AT and DC never do."""
    g = Guest(rig, stage1=Stage1(tcr=(HA if ha else 0) | (HD if hd else 0)))
    pa = PAGE
    if stage2:
        s2 = g.with_stage2(level=1)
        s2.map(IPA, PAGE, t.S2_LEAF)
        pa = IPA
    slot = g.low.slot(VA, 3)
    dbm = ha and hd
    accesses = {
        "load": (LDR, False, False),
        "store": (STR, True, True),
        "atomic": (LDADD, True, True),
        "DC CVAC": (sys(enc(1, 3, 7, 10, 1), 1), False, False),
        "DC IVAC": (sys(enc(1, 0, 7, 6, 1), 1), True, False),
        "AT S1E1R": (sys(AT_R, 1), False, False),
        "AT S1E1W": (sys(AT_W, 1), True, False),
    }
    for af, clean in itertools.product((0, t.AF), (False, True)):
        leaf = pa | t.TABLE | (CLEAN if clean else t.LEAF | t.AP_EL0) & ~t.AF | af
        for name, (word, writes, dirties) in accesses.items():
            rig.mem(slot, leaf)
            g.flush()
            r = g.run(word, mrs(5, rig.enc["PAR_EL1"]), x1=VA)
            got = outcome(r)
            at = name.startswith("AT")
            cm = CM | WNR if name.startswith("DC") else 0
            wnr = WNR if name == "store" else 0
            want, after = Outcome(0), leaf
            fault = None
            if not af and not ha:
                fault = ACCESS | 3
            elif clean and writes and not dbm:
                fault = PERM | 3
                wnr = WNR
            if fault is not None:
                want = Outcome(1, esr(EC_DABT, fault | wnr | cm), VA)
            else:
                after |= t.AF
                if dirties and clean:
                    after &= ~t.AP_RO
            if at:
                par = r.x[5]
                assert got == Outcome(0)
                assert par & 1 == int(fault is not None), (name, hex(leaf))
                if fault is not None:
                    assert par >> 1 & 0x3F == fault
            else:
                assert got == want, (name, hex(leaf))
            assert rig.read(slot)[0] == after, (name, hex(leaf))


def test_clean_pages_are_writable_for_wxn(rig: Rig) -> None:
    """With HD a clean page counts as writable: WXN forbids to execute it."""
    g = Guest(rig, sctlr=WXN, stage1=Stage1(tcr=HA | HD))
    rig.code(PAGE, hvc(t.DONE))
    for dbm in (0, t.DBM):
        g.low.map(VA, PAGE, t.LEAF | t.AP_RO | dbm)
        g.flush()
        want = Outcome(1, esr(EC_IABT, PERM | 3), VA) if dbm else Outcome(0)
        assert outcome(g.run(BR, x1=VA)) == want


def test_flags_need_the_feature(rig: Rig) -> None:
    """Without FEAT_HAFDBS, HA and HD do nothing."""
    g = Guest(rig, feat.ALL & ~feat.BIT["HAFDBS"], Stage1(tcr=HA | HD))
    g.low.map(VA, PAGE, t.LEAF & ~t.AF)
    assert outcome(g.run(LDR, x1=VA)) == Outcome(1, esr(EC_DABT, ACCESS | 3), VA)
    g.low.map(VA, PAGE, CLEAN)
    g.flush()
    assert outcome(g.run(STR, x1=VA)) == Outcome(1, esr(EC_DABT, PERM | 3 | WNR), VA)


@pytest.mark.parametrize("kind", ["load", "store"])
def test_flag_in_a_table_that_stage2_protects(rig: Rig, kind: str) -> None:
    """A flag that may not be set: stage-2 permission fault, S1PTW, WnR, HPFAR the table."""
    g = Guest(rig, stage1=Stage1(tcr=HA | HD))
    s2 = g.with_stage2(level=1)
    s2.map(IPA, PAGE, t.S2_LEAF)
    slot = g.low.map(VA, IPA, (CLEAN if kind == "store" else t.LEAF) & ~t.AF)
    table = slot & ~0xFFF
    block = table & ~0x1FFFFF
    s2.put(block, 2, 0)
    for page in range(block, block + 0x200000, 0x1000):
        s2.map(page, page, t.S2_LEAF if page != table else t.S2_LEAF & ~t.S2_W)
    g.flush()
    before = rig.read(slot)
    got = outcome(g.run(WORDS[kind], x1=VA))
    want = esr(EC_DABT_LOWER, PERM | 3 | S1PTW | WNR)
    assert got == Outcome(2, want, VA, table >> 12 << 4)
    assert rig.read(slot) == before
    s2.map(table, table, t.S2_LEAF)
    g.flush()
    assert outcome(g.run(WORDS[kind], x1=VA)) == Outcome(0)
    assert rig.read(slot)[0] & t.AF


@pytest.mark.parametrize("ha", [False, True])
@pytest.mark.parametrize("hd", [False, True])
def test_flags_of_stage2(rig: Rig, ha: bool, hd: bool) -> None:
    """VTCR_EL2.HA and HD manage the flags of stage 2."""
    g = Guest(rig)
    s2 = g.with_stage2(level=1, extra=int(ha) << 21 | int(hd) << 22)
    g.low.map(VA, IPA, t.LEAF)
    clean = t.S2_LEAF & ~t.S2_W | t.DBM
    isv = 1 << 24 | 3 << 22 | 1 << 15
    for af, is_clean in itertools.product((0, t.AF), (False, True)):
        leaf = (clean if is_clean else t.S2_LEAF) & ~t.AF | af
        for kind in ("load", "store"):
            slot = s2.map(IPA, PAGE, leaf)
            g.flush()
            got = outcome(g.run(WORDS[kind], x1=VA))
            wnr = WNR if kind == "store" else 0
            want, after = Outcome(0), leaf
            if not af and not ha:
                want = Outcome(2, esr(EC_DABT_LOWER, ACCESS | 3 | wnr | isv), VA, IPA >> 12 << 4)
            elif is_clean and kind == "store" and not (ha and hd):
                want = Outcome(2, esr(EC_DABT_LOWER, PERM | 3 | wnr | isv), VA, IPA >> 12 << 4)
            else:
                after |= t.AF
                if is_clean and kind == "store":
                    after |= t.S2_W
            assert got == want
            assert rig.read(slot)[0] == PAGE | t.TABLE | after


# -- AT and PAR_EL1 ------------------------------------------------------------------------------
def at(g: Guest, op2: int, va: int, crm: int = 8, pstate: int = 0) -> int:
    """AT S1E.. at EL1: PAR_EL1."""
    word = sys(enc(1, 0, 7, crm, op2), 1)
    r = g.run(word, mrs(5, g.rig.enc["PAR_EL1"]), pstate=pstate, x1=va)
    assert outcome(r) == Outcome(0)
    return r.x[5]


def at12(g: Guest, op2: int, va: int) -> int:
    """AT S12E.. at EL2: PAR_EL1."""
    assert g.rig.sys(enc(1, 4, 7, 8, op2), va)
    return g.rig.value("PAR_EL1")


ATTRS = {
    # MAIR byte, shareability of the descriptor: what PAR_EL1 shows
    0xFF: {0: 0, 2: 2, 3: 3},
    0xBB: {0: 0, 2: 2, 3: 3},
    0xF4: {0: 0, 2: 2, 3: 3},
    0x44: {0: 2, 2: 2, 3: 2},
    0x00: {0: 2, 3: 2},
    0x04: {0: 2, 3: 2},
    0x08: {3: 2},
    0x0C: {3: 2},
}


def test_at_stage1(rig: Rig) -> None:
    """PAR_EL1 has the address, the attributes and the shareability in effect."""
    g = Guest(rig)
    for attr, shareabilities in ATTRS.items():
        rig.set("MAIR_EL1", attr << 40 | 0xFF)
        for sh, shown in shareabilities.items():
            g.low.map(VA, PAGE, t.LEAF & ~t.SH_INNER | sh << 8 | 5 << 2)
            g.flush()
            par = at(g, 0, VA + 0x123)
            assert par & ~(1 << 9) == PAGE | attr << 56 | shown << 7 | 1 << 11, (hex(attr), sh)


COMBINED = {
    # stage 1, stage-2 MemAttr, both as PAR shows them
    (0xFF, 0xF): 0xFF,
    (0xFF, 0xA): 0xBB,
    (0xFF, 0x5): 0x44,
    (0xEE, 0xA): 0xAA,
    (0xBB, 0xF): 0xBB,
    (0x44, 0xF): 0x44,
    (0xF4, 0xF): 0xF4,
    (0xFF, 0xD): 0xF4,
    (0xFF, 0x7): 0x4F,
    (0xFF, 0x1): 0x04,
    (0xFF, 0x0): 0x00,
    (0x0C, 0xF): 0x0C,
    (0x0C, 0x1): 0x04,
    (0x00, 0x3): 0x00,
}


def test_at_both_stages(rig: Rig) -> None:
    """AT S12E1R combines the attributes and shareability of the stages."""
    g = Guest(rig)
    s2 = g.with_stage2(level=1)
    for (attr, memattr), shown in COMBINED.items():
        rig.set("MAIR_EL1", attr << 40 | 0xFF)
        for sh1, sh2, both in ((0, 0, 0), (0, 3, 3), (3, 0, 3), (3, 2, 2), (2, 0, 2), (3, 3, 3)):
            g.low.map(VA, IPA, t.LEAF & ~t.SH_INNER | sh1 << 8 | 5 << 2)
            s2.map(IPA, PAGE, t.S2_LEAF & ~(t.S2_NORMAL | 3 << 8) | memattr << 2 | sh2 << 8)
            g.flush()
            sh = 2 if shown >> 4 == 0 or shown == 0x44 else both
            par = at12(g, 4, VA)
            assert par & ~(1 << 9) == PAGE | shown << 56 | sh << 7 | 1 << 11, (
                hex(attr),
                hex(memattr),
                sh1,
                sh2,
            )
            # Stage 1 alone shows the IPA.
            assert at(g, 0, VA) & 0xFFFF_FFFF_F000 == IPA


def test_at_permissions(rig: Rig) -> None:
    """S1E1R, S1E1W, S1E0R, S1E0W fault as the access would; S1E1RP and WP heed PAN."""
    bench = Bench(rig)
    for leaf in LEAVES:
        bench.set(leaf)
        for op2, el, need in ((0, 1, "r"), (1, 1, "w"), (2, 0, "r"), (3, 0, "w")):
            par = at(bench.g, op2, VA)
            good = need in may(leaf, 0, el)
            assert par & 1 == int(not good), (hex(leaf), op2)
            if not good:
                assert par & ~(0xFFFF << 48) == 1 | (PERM | 3) << 1 | 1 << 11
        for op2, need in ((0, "r"), (1, "w")):
            for pan in (0, PAN):
                par = at(bench.g, op2, VA, 9, pan)
                good = need in may(leaf, 0, 1, pan=bool(pan))
                assert par & 1 == int(not good), (hex(leaf), op2, pan)


def test_at_faults(rig: Rig) -> None:
    """FST is the status, S the stage, PTW a walk; a stage-2 fault of EL1's own AT traps."""
    g = Guest(rig)
    s2 = g.with_stage2(level=1)
    s2.map(PAGE & ~0x1FFFFF, PAGE & ~0x1FFFFF, t.S2_LEAF, 2)
    assert at(g, 0, VA) & ~(0xFFFF << 48) == 1 | 0x05 << 1 | 1 << 11
    slot = g.low.map(VA, IPA, t.LEAF)
    g.flush()
    assert at12(g, 4, VA) & ~(0xFFFF << 48) == 1 | 0x05 << 1 | 1 << 9 | 1 << 11
    assert at(g, 0, VA) & 1 == 0
    table = slot & ~0xFFF
    block = table & ~0x1FFFFF
    s2.put(block, 2, 0)
    for page in range(block, block + 0x200000, 0x1000):
        if page != table:
            s2.map(page, page, t.S2_LEAF)
    g.flush()
    assert at12(g, 4, VA) & ~(0xFFFF << 48) == 1 | 0x07 << 1 | 1 << 8 | 1 << 9 | 1 << 11
    got = outcome(g.run(sys(AT_W, 1), x1=VA))
    want = esr(EC_DABT_LOWER, 0x07 | S1PTW | CM | WNR)
    assert got == Outcome(2, want, VA, table >> 12 << 4)


def test_at_external_abort(rig: Rig) -> None:
    """An external abort on the walk of an AT is an exception, not a PAR_EL1."""
    g = Guest(rig)
    g.low.put(VA, 2, t.NOWHERE | t.VALID | t.TABLE)
    got = outcome(g.run(sys(AT_R, 1), x1=VA))
    assert got == Outcome(1, esr(EC_DABT, 0x17 | CM | WNR), VA)


def test_at_levels(rig: Rig) -> None:
    """EL1 has no S12 and S1E2 forms, EL0 none at all."""
    g = Guest(rig)
    for op2 in (0, 1, 4, 5, 6, 7):
        assert outcome(g.run(sys(enc(1, 4, 7, 8, op2), 1))) == Outcome(1, esr(EC_UNKNOWN))
    for op2 in range(4):
        got = outcome(g.run(sys(enc(1, 0, 7, 8, op2), 1), el0=True), True)
        assert got == Outcome(1, esr(EC_UNKNOWN))
