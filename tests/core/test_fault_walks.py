"""Fault status, level and registers of translation table walks, both stages, all granules.

Expected values are those of DDI 0487, D8 and the ISS of data and instruction aborts.
"""

from __future__ import annotations

from collections.abc import Iterator

import pe_tables as t
import pytest
from pe_rig import EC_DABT, EC_DABT_LOWER, EC_IABT, EC_IABT_LOWER, Rig, esr
from pe_tables import Guest, Outcome, Space, Stage1, outcome

ADDR, TRANS, ACCESS, PERM = 0x00, 0x04, 0x08, 0x0C
EXTERNAL, EXTERNAL_WALK = 0x10, 0x14
WNR, S1PTW = 1 << 6, 1 << 7
PAGE = t.DATA + 0x10000
VA = 0x12_3456_0000  # has an index other than zero at every level
LDR, STR = 0xF9400020, 0xF9000020  # ldr x0, [x1]; str x0, [x1]
BR = 0xD61F0020  # br x1
KINDS = {"load": LDR, "store": STR, "fetch": BR}
ISS_OF_ACCESS = 0x7FF << 14
ISV = 1 << 24 | 3 << 22 | 1 << 15  # of LDR X0 and STR X0


@pytest.fixture(scope="module", params=[False, True], ids=["interpreter", "jit"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Once with each executor."""
    r = Rig(jit=request.param)
    yield r
    r.close()


def abort(kind: str, el0: bool, fsc: int, va: int) -> Outcome:
    """A stage-1 abort taken to EL1."""
    if kind == "fetch":
        return Outcome(1, esr(EC_IABT_LOWER if el0 else EC_IABT, fsc), va)
    iss = fsc | (WNR if kind == "store" else 0)
    return Outcome(1, esr(EC_DABT_LOWER if el0 else EC_DABT, iss), va)


def abort2(kind: str, fsc: int, va: int, ipa: int, ptw: bool = False, wnr: bool = False) -> Outcome:
    """A stage-2 abort taken to EL2."""
    hpfar = ipa >> 12 << 4
    if kind == "fetch":
        return Outcome(2, esr(EC_IABT_LOWER, fsc | (S1PTW if ptw else 0)), va, hpfar)
    iss = fsc | (WNR if kind == "store" or wnr else 0)
    iss |= S1PTW if ptw else ISV
    return Outcome(2, esr(EC_DABT_LOWER, iss), va, hpfar)


def check(g: Guest, va: int, fsc: int, el0: bool = False, kinds: tuple[str, ...] = ()) -> None:
    """Every kind of access to va ends in this stage-1 fault."""
    g.flush()
    for kind in kinds or KINDS:
        got = outcome(g.run(KINDS[kind], el0=el0, x1=va), el0)
        assert got == abort(kind, el0, fsc, va), (kind, hex(fsc))


def levels(granule: int, bits: int) -> range:
    return range(t.start_level(granule, bits), 4)


SHAPES = [(12, 48), (12, 39), (12, 31), (14, 48), (14, 47), (14, 36), (16, 48), (16, 42), (16, 29)]


@pytest.mark.parametrize("el0", [False, True])
@pytest.mark.parametrize(("granule", "bits"), SHAPES)
def test_stage1(rig: Rig, granule: int, bits: int, el0: bool) -> None:
    """Each level of each granule reports its own number with each kind of fault."""
    g = Guest(rig, stage1=Stage1(granule, bits))
    va = VA & (1 << bits) - 1
    leaf = t.LEAF | t.AP_EL0 | t.PXN
    for level in levels(granule, bits):
        slot = g.low.put(va, level, 0)
        table = rig.read(slot)[0] | t.VALID | t.TABLE
        check(g, va, TRANS | level, el0)
        if level == 3:
            rig.mem(slot, PAGE | leaf)  # bit 1 clear: reserved
            check(g, va, TRANS | 3, el0)
        elif level == 0 or (level == 1 and granule != 12):
            if "blocks" not in rig.wrong:
                rig.mem(slot, leaf)  # no blocks here
                check(g, va, TRANS | level, el0)
        else:
            size = 1 << g.low.shift(level)
            rig.mem(slot, leaf & ~t.AF)
            check(g, va, ACCESS | level, el0)
            rig.mem(slot, leaf | t.AP_RO)
            check(g, va, PERM | level, el0, ("store",))
            rig.mem(slot, leaf & ~t.AP_EL0 if el0 else leaf | t.PXN)
            check(g, va, PERM | level, el0, ("load", "store") if el0 else ("fetch",))
            rig.mem(slot, leaf | t.UXN | t.PXN)
            check(g, va, PERM | level, el0, ("fetch",))
            if size <= 1 << 32:
                rig.mem(slot, leaf | t.NOWHERE & ~(size - 1) | 4 << 32)
                check(g, va, EXTERNAL, el0, ("load", "store", *(("fetch",) if el0 else ())))
        if level == 3:
            rig.mem(slot, PAGE | leaf & ~t.AF | t.TABLE)
            check(g, va, ACCESS | 3, el0)
            rig.mem(slot, PAGE | leaf | t.AP_RO | t.TABLE)
            check(g, va, PERM | 3, el0, ("store",))
            rig.mem(slot, PAGE | leaf | t.UXN | t.PXN | t.TABLE)
            check(g, va, PERM | 3, el0, ("fetch",))
            rig.mem(slot, t.NOWHERE | leaf | t.TABLE)
            check(g, va, EXTERNAL, el0, ("load", "store"))
        else:
            rig.mem(slot, t.NOWHERE | t.VALID | t.TABLE)
            check(g, va, EXTERNAL_WALK | level + 1, el0)
            rig.mem(slot, table)


@pytest.mark.parametrize("ips", range(6))
@pytest.mark.parametrize(("granule", "bits"), [(12, 48), (14, 48), (16, 48)])
def test_stage1_address_size(rig: Rig, granule: int, bits: int, ips: int) -> None:
    """What TCR_EL1.IPS does not reach is an address size fault of the descriptor's level."""
    limit = (32, 36, 40, 42, 44, 48)[ips]
    g = Guest(rig, stage1=Stage1(granule, bits, ips=ips))
    if limit == 48:
        return
    far = 1 << limit
    for level in levels(granule, bits):
        slot = g.low.slot(VA, level)
        if level < 3:
            rig.mem(slot, far | t.VALID | t.TABLE)
            check(g, VA, ADDR | level)
        if level == 3 or ((level == 2 or granule == 12) and level > 0):
            rig.mem(slot, far | t.LEAF | (t.TABLE if level == 3 else 0))
            check(g, VA, ADDR | level)
        rig.mem(slot, 0)
        g.low = Space(g, granule, bits)
        rig.set("TTBR0_EL1", g.low.root)
    rig.set("TTBR0_EL1", far)
    check(g, VA, ADDR | 0)


@pytest.mark.parametrize("granule", [12, 14, 16])
def test_stage1_input_size(rig: Rig, granule: int) -> None:
    """T0SZ outside 16 to 39 and addresses outside of it: translation fault, level 0."""
    g = Guest(rig, stage1=Stage1(granule, 48))
    g.low.map(VA, PAGE, t.LEAF)
    for tsz in (*range(16), *range(40, 64)):
        rig.set("TCR_EL1", g.tcr() & ~63 | tsz)
        check(g, 0x1000, TRANS | 0, kinds=("load",))
    for bits in range(25, 48):
        rig.set("TCR_EL1", g.tcr() & ~63 | 64 - bits)
        for va in (1 << bits, 1 << 54, (1 << 55) - 8, 1 << 63):
            check(g, va, TRANS | 0, kinds=("load", "fetch"))
    # The upper half has 39 bits; what lies under them is not inside.
    check(g, (1 << 64) - (1 << 39) - 8, TRANS | 0, kinds=("load",))
    check(g, (1 << 64) - (1 << 39), TRANS | 1, kinds=("load",))


def test_stage1_switches(rig: Rig) -> None:
    """EPD0 stops walks, E0PD0 stops EL0 at level 0."""
    g = Guest(rig)
    g.low.map(VA, PAGE, t.LEAF | t.AP_EL0 | t.PXN)
    rig.set("TCR_EL1", g.tcr() | 1 << 7)
    check(g, VA, TRANS | 0)
    check(g, VA, TRANS | 0, el0=True)
    rig.set("TCR_EL1", g.tcr() | 1 << 55)
    check(g, VA, TRANS | 0, el0=True)
    assert outcome(g.run(LDR, x1=VA)).target == 0


@pytest.mark.parametrize("tbi", [False, True])
def test_stage1_tags(rig: Rig, tbi: bool) -> None:
    """With TBI0 the tag is ignored, and FAR has it for data; without it is out of range."""
    g = Guest(rig)
    g.low.map(VA, PAGE, t.LEAF | t.AP_EL0)
    rig.set("TCR_EL1", g.tcr() | int(tbi) << 37)
    tagged = VA | 0x5A << 56
    if tbi:
        assert outcome(g.run(LDR, x1=tagged)).target == 0
        check(g, tagged + 0x10000, TRANS | 3, kinds=("load", "store"))
        got = outcome(g.run(BR, x1=tagged + 0x10000))
        assert got == abort("fetch", False, TRANS | 3, VA + 0x10000)
        # TBID0 takes the tag away from instructions alone.
        rig.set("TCR_EL1", g.tcr() | 1 << 37 | 1 << 51)
        assert outcome(g.run(LDR, x1=tagged)).target == 0
        check(g, tagged, TRANS | 0, kinds=("fetch",))
    else:
        check(g, tagged, TRANS | 0)


def test_stage1_off(rig: Rig) -> None:
    """Without stage 1, addresses over 48 bits are address size faults of level 0."""
    Guest(rig)
    rig.set("SCTLR_EL1", 0x30D00980)
    rig.set("VBAR_EL1", t.VECTORS)
    for va in (1 << 48, 1 << 55, 1 << 63):
        for kind, word in KINDS.items():
            rig.code(t.CODE, word)
            rig.x(1, va)
            rig.set("ELR_EL2", t.CODE)
            rig.set("SPSR_EL2", t.EL1H)
            assert outcome(rig.run()) == abort(kind, False, ADDR | 0, va), hex(va)


# -- stage 2 ---------------------------------------------------------------------------------
# Granule, IPA bits, start level: one table, and 2 to 16 concatenated ones.
S2_SHAPES = [
    (12, 40, 1), (12, 40, 0), (12, 43, 1), (12, 39, 1), (12, 34, 2), (12, 32, 2), (12, 48, 0),
    (14, 40, 2), (14, 40, 1), (14, 36, 2), (14, 47, 1),
    (16, 40, 2), (16, 42, 2), (16, 46, 2), (16, 33, 2),
]  # fmt: skip


@pytest.mark.parametrize(("granule", "bits", "first"), S2_SHAPES)
def test_stage2(rig: Rig, granule: int, bits: int, first: int) -> None:
    """Each level of stage 2 reports its own number to EL2, with the IPA in HPFAR_EL2."""
    g = Guest(rig)
    s2 = g.with_stage2(granule, bits, first)
    ipa = 1 << bits - 1 | 0x2_6A6A_0000 & (1 << bits) - 1
    g.low.map(VA, ipa & ~0xFFF, t.LEAF | t.AP_EL0 | t.PXN)
    g.low.map(VA + 0x1000, ipa & ~0xFFF, t.LEAF)
    ipa |= 0xA30
    va = VA | 0xA30

    def look(fsc: int, kinds: tuple[str, ...] = ("load", "store", "fetch")) -> None:
        g.flush()
        for kind in kinds:
            at = va + 0x1000 if kind == "fetch" else va
            got = outcome(g.run(KINDS[kind], x1=at))
            assert got == abort2(kind, fsc, at, ipa), (kind, hex(fsc))

    leaf = t.S2_LEAF
    for level in range(first, 4):
        slot = s2.put(ipa, level, 0)
        look(TRANS | level)
        if level == 3:
            rig.mem(slot, PAGE | leaf)
            look(TRANS | 3)
        elif (level == 0 or (level == 1 and granule != 12)) and "blocks" not in rig.wrong:
            rig.mem(slot, leaf)
            look(TRANS | level)
        bit = t.TABLE if level == 3 else 0
        if level == 3 or ((level == 2 or granule == 12) and level > 0):
            rig.mem(slot, leaf & ~t.AF | bit)
            look(ACCESS | level)
            rig.mem(slot, leaf & ~t.S2_W | bit)
            look(PERM | level, ("store",))
            rig.mem(slot, leaf & ~t.S2_R | bit)
            look(PERM | level, ("load",))
            rig.mem(slot, leaf | 2 << 53 | bit)
            look(PERM | level, ("fetch",))
        if level < 3:
            rig.mem(slot, t.NOWHERE | t.VALID | t.TABLE)
            g.flush()
            for kind in KINDS:
                at = va + 0x1000 if kind == "fetch" else va
                got = outcome(g.run(KINDS[kind], x1=at))
                # A second-stage fault, but without a valid syndrome or IPA.
                ec = EC_IABT_LOWER if kind == "fetch" else EC_DABT_LOWER
                wnr = WNR if kind == "store" else 0
                assert got.target == 2
                vague = ISS_OF_ACCESS if "syndrome" in rig.wrong else 0
                assert got.esr & ~vague == esr(ec, EXTERNAL_WALK | level + 1 | wnr)
                assert got.far == at
            rig.mem(slot, 0)
            s2._tables.pop((level, ipa >> s2.shift(level)), None)
    s2.map(ipa & ~((1 << granule) - 1), PAGE & ~((1 << granule) - 1), leaf)
    g.flush()
    assert outcome(g.run(LDR, x1=va)).target == 0


@pytest.mark.parametrize("ps", range(5))
def test_stage2_address_size(rig: Rig, ps: int) -> None:
    """What VTCR_EL2.PS does not reach is an address size fault."""
    far = 1 << (32, 36, 40, 42, 44)[ps]
    g = Guest(rig)
    s2 = g.with_stage2(level=1, ps=ps)
    ipa = 0x2_6A6A_0000
    g.low.map(VA, ipa, t.LEAF)
    for level, desc in ((1, t.VALID | t.TABLE), (2, t.VALID | t.TABLE), (2, t.S2_LEAF)):
        s2.put(ipa, level, far | desc)
        g.flush()
        assert outcome(g.run(LDR, x1=VA)) == abort2("load", ADDR | level, VA, ipa)
        s2.put(ipa, level, 0)
        s2._tables.clear()
    s2.map(ipa, far, t.S2_LEAF)
    g.flush()
    assert outcome(g.run(STR, x1=VA)) == abort2("store", ADDR | 3, VA, ipa)


def test_stage2_reserved_configurations(rig: Rig) -> None:
    """Start levels that are reserved or do not fit T0SZ: translation fault, level 0."""
    g = Guest(rig)
    g.with_stage2()
    vtcr = rig.value("VTCR_EL2")

    def faults(tg: int, sl0: int, tsz: int) -> bool:
        rig.set("VTCR_EL2", vtcr & ~0xC0FF | t.TG0[tg] | sl0 << 6 | tsz)
        g.flush()
        got = outcome(g.run(LDR, x1=VA))
        assert got.target == 2
        # The first walk is the one for the code.
        return got.esr == esr(EC_IABT_LOWER, TRANS | 0 | S1PTW)

    for tg, levels_of in (
        (12, {0: 2, 1: 1, 2: 0}),
        (14, {0: 3, 1: 2, 2: 1}),
        (16, {0: 3, 1: 2, 2: 1}),
    ):
        stride = tg - 3
        for sl0 in range(4):
            for tsz in range(16, 40):
                bits = 64 - tsz
                level = levels_of.get(sl0)
                want = True
                if level is not None:
                    least = tg + stride * (3 - level) + 1
                    want = not least <= bits <= least + stride - 1 + 4
                if want:
                    assert faults(tg, sl0, tsz), (tg, sl0, tsz)


def test_stage2_input_size(rig: Rig) -> None:
    """An IPA beyond VTCR_EL2.T0SZ is a translation fault of level 0."""
    g = Guest(rig)
    g.with_stage2()
    for ipa in (1 << 40, 1 << 47, (1 << 48) - 0x1000):
        g.low.map(VA, ipa, t.LEAF)
        g.flush()
        for kind in KINDS:
            got = outcome(g.run(KINDS[kind], x1=VA))
            assert got == abort2(kind, TRANS | 0, VA, ipa)


@pytest.mark.parametrize("level", range(1, 4))
@pytest.mark.parametrize("kind", KINDS)
def test_walk_under_stage2(rig: Rig, kind: str, level: int) -> None:
    """A stage-2 fault on a table of stage 1: S1PTW, FAR the VA, HPFAR the table's page."""
    g = Guest(rig)
    s2 = g.with_stage2()
    g.low.map(VA, PAGE, t.LEAF)
    s2.map(PAGE & ~0x1FFFFF, PAGE & ~0x1FFFFF, t.S2_LEAF, 2)
    table = g.low.slot(VA, level) & ~0xFFF
    # Break the block around the table into pages, to change one of them.
    block = table & ~0x1FFFFF
    s2.put(block, 2, 0)
    for page in range(block, block + 0x200000, 0x1000):
        s2.map(page, page, t.S2_LEAF)
    for fsc, desc in (
        (TRANS | 3, 0),
        (ACCESS | 3, table | t.S2_LEAF & ~t.AF | t.TABLE),
        (PERM | 3, table | t.S2_LEAF & ~t.S2_R | t.TABLE),
        (ADDR | 3, None),
    ):
        if desc is None:
            if "size" in rig.wrong:
                continue
            rig.set("VTCR_EL2", rig.value("VTCR_EL2") & ~(7 << 16))  # 32 bits
            desc = 1 << 40 | t.S2_LEAF | t.TABLE
        s2.put(table, 3, desc)
        g.flush()
        got = outcome(g.run(KINDS[kind], x1=VA))
        if "ptw-level" in rig.wrong:
            fsc = fsc & ~3 | level
        assert got == abort2(kind, fsc, VA, table, ptw=True), hex(fsc)


@pytest.mark.parametrize("kind", KINDS)
def test_walk_through_device_memory(rig: Rig, kind: str) -> None:
    """HCR_EL2.PTW forbids tables in stage-2 Device memory: permission fault with S1PTW."""
    for ptw in (False, True):
        g = Guest(rig)
        s2 = g.with_stage2()
        g.low.map(VA, PAGE, t.LEAF)
        s2.map(PAGE & ~0x1FFFFF, PAGE & ~0x1FFFFF, t.S2_LEAF, 2)
        table = g.low.slot(VA, 3) & ~0xFFF
        block = table & ~0x1FFFFF
        s2.put(block, 2, 0)
        for page in range(block, block + 0x200000, 0x1000):
            s2.map(page, page, t.S2_LEAF)
        s2.map(table, table, t.S2_LEAF & ~t.S2_NORMAL | t.S2_DEVICE)
        rig.set("HCR_EL2", g.hcr | int(ptw) << 2)
        g.flush()
        got = outcome(g.run(KINDS[kind], x1=VA))
        if ptw:
            assert got == abort2(kind, PERM | 3, VA, table, ptw=True)
        elif kind != "fetch":
            assert got.target == 0


def test_abort_on_walk_goes_to_el2_with_tea(rig: Rig) -> None:
    """HCR_EL2.TEA takes external aborts of EL1 and EL0 to EL2."""
    g = Guest(rig)
    g.low.map(VA, t.NOWHERE, t.LEAF | t.AP_EL0)
    for el0 in (False, True):
        rig.set("HCR_EL2", g.hcr | 1 << 37)
        got = outcome(g.run(STR, el0=el0, x1=VA), el0)
        assert got == Outcome(2, esr(EC_DABT_LOWER, EXTERNAL | WNR), VA)
