"""TLB maintenance: no stale entry survives the instruction that is meant to remove it.

The tables are changed behind the PE's back, then one TLBI of each kind is executed at EL1
(or at EL2, where it belongs), and data and instructions come from the new place.
"""

from __future__ import annotations

from collections.abc import Iterator

import pe_features as feat
import pe_tables as t
import pytest
from pe_rig import DSB, EC_UNKNOWN, ISB, Rig, enc, esr, hvc, sys
from pe_tables import Guest, Outcome, Stage1, outcome

VA, OLD, NEW = 0x12_3440_0000, t.DATA, t.DATA + 0x400000
LDR, BR = 0xF9400020, 0xD61F0020
NG = 1 << 11
# op2 of the EL1 forms; CRm 1 is outer shareable, 3 inner shareable, 7 this PE.
VMALLE1, VAE1, ASIDE1, VAAE1, VALE1, VAALE1 = 0, 1, 2, 3, 5, 7
RANGE = {1: "RVAE1", 3: "RVAAE1", 5: "RVALE1", 7: "RVAALE1"}


@pytest.fixture(scope="module", params=[False, True], ids=["interpreter", "jit"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Once with each executor."""
    r = Rig(jit=request.param)
    yield r
    r.close()


def operand(va: int, asid: int) -> int:
    return asid << 48 | va >> 12 & (1 << 44) - 1


def range_operand(va: int, asid: int, scale: int, num: int, granule: int = 12) -> int:
    """TG, SCALE, NUM, TTL 0, BaseADDR."""
    tg = {12: 1, 14: 2, 16: 3}[granule]
    base = va >> granule & (1 << 37) - 1
    return asid << 48 | tg << 46 | scale << 44 | num << 39 | base


class Bench:
    """A guest with ASIDs, some addresses that are in its TLB, and two places for them."""

    def __init__(self, rig: Rig, granule: int = 12, leaf: int = t.LEAF, as16: bool = True) -> None:
        # A1 is 0: the ASID is TTBR0's. Bit 36: 16-bit ASIDs.
        self.rig = rig
        self.g = Guest(rig, stage1=Stage1(granule, 40 if granule != 12 else 39, int(as16) << 36))
        self.leaf = leaf
        for page in range(0, 0x10000, 0x1000):
            rig.mem(OLD + page, 1)
            rig.mem(NEW + page, 2)
            rig.code(OLD + page + 0x100, 0xD2800023, hvc(t.DONE))  # mov x3, #1
            rig.code(NEW + page + 0x100, 0xD2800043, hvc(t.DONE))

    def asid(self, asid: int) -> None:
        self.rig.put("TTBR0_EL1", asid << 48 | self.g.low.root)

    def point(self, to: int, va: int = VA, level: int = 3, pages: int = 1) -> None:
        size = 1 << self.g.low.shift(level)
        for n in range(pages):
            self.g.low.map(va + n * size, to + n * size, self.leaf, level)

    def load(self, va: int = VA) -> int:
        r = self.g.run(LDR, x1=va)
        assert outcome(r) == Outcome(0), hex(va)
        return r.x[0]

    def fetch(self, va: int = VA) -> int:
        r = self.g.run(BR, x1=va + 0x100)
        assert r.hvc == t.DONE
        return r.x[3]

    def tlbi(self, e: int, xt: int) -> None:
        """At EL1."""
        assert outcome(self.g.run(sys(e, 1), DSB, ISB, x1=xt)) == Outcome(0)


@pytest.mark.parametrize("crm", [1, 3, 7])
@pytest.mark.parametrize("op2", [VMALLE1, VAE1, ASIDE1, VAAE1, VALE1, VAALE1])
def test_el1_forms(rig: Rig, op2: int, crm: int) -> None:
    """Each form removes a page of its ASID, for data and for instructions."""
    for leaf in (t.LEAF | NG, t.LEAF):
        if leaf == t.LEAF and op2 == ASIDE1:
            continue  # global entries stay
        bench = Bench(rig, leaf=leaf)
        bench.asid(0x1234)
        bench.point(OLD)
        assert (bench.load(), bench.fetch()) == (1, 1)
        bench.point(NEW)
        xt = {VMALLE1: 0, ASIDE1: 0x1234 << 48}.get(op2, operand(VA, 0x1234))
        bench.tlbi(enc(1, 0, 8, crm, op2), xt)
        assert (bench.load(), bench.fetch()) == (2, 2)


@pytest.mark.parametrize("op2", [VMALLE1, VAE1, ASIDE1, VAAE1, VALE1, VAALE1])
def test_an_asid_that_is_not_current(rig: Rig, op2: int) -> None:
    """What another address space left in the TLB goes too."""
    bench = Bench(rig, leaf=t.LEAF | NG)
    bench.asid(7)
    bench.point(OLD)
    assert (bench.load(), bench.fetch()) == (1, 1)
    bench.asid(8)
    bench.point(NEW)
    xt = {VMALLE1: 0, ASIDE1: 7 << 48}.get(op2, operand(VA, 7))
    bench.tlbi(enc(1, 0, 8, 7, op2), xt)
    bench.asid(7)
    assert (bench.load(), bench.fetch()) == (2, 2)


@pytest.mark.parametrize("op2", [VAE1, VAAE1, VALE1, VAALE1])
def test_global_pages_go_from_every_asid(rig: Rig, op2: int) -> None:
    """A global page is removed whichever ASID the operand names."""
    bench = Bench(rig)
    for asid in (1, 2, 3):
        bench.asid(asid)
        bench.point(OLD)
        assert bench.load() == 1
    bench.point(NEW)
    bench.tlbi(enc(1, 0, 8, 7, op2), operand(VA, 2))
    for asid in (1, 2, 3):
        bench.asid(asid)
        assert bench.load() == 2, asid


def test_short_asids(rig: Rig) -> None:
    """With 8-bit ASIDs the upper half of the operand and of TTBR is ignored."""
    bench = Bench(rig, leaf=t.LEAF | NG, as16=False)
    bench.asid(0x1207)
    bench.point(OLD)
    assert bench.load() == 1
    bench.point(NEW)
    bench.tlbi(enc(1, 0, 8, 7, ASIDE1), 0x3407 << 48)
    assert bench.load() == 2


@pytest.mark.parametrize(
    ("granule", "level"), [(12, 2), (12, 1), (14, 2), (16, 2), (14, 3), (16, 3)]
)
@pytest.mark.parametrize("op2", [VAE1, VALE1])
def test_any_address_of_a_block(rig: Rig, granule: int, level: int, op2: int) -> None:
    """A TLBI by an address inside a block or large page removes all of it."""
    bench = Bench(rig, granule)
    size = 1 << bench.g.low.shift(level)
    va = VA & ~(size - 1)
    old, new = 0, t.DATA & ~(size - 1) if size <= t.DATA else 0
    if old == new:  # nothing else to map it to: take it away instead
        new = -1
    rig.mem(old + 0x3000, 0x77)
    bench.point(old, va, level)
    for at in (0, 0x3000):
        bench.load(va + at)
    assert bench.load(va + 0x3000) == 0x77
    if new == -1:
        bench.g.low.put(va, level, 0)
    else:
        rig.mem(new + 0x3000, 0x78)
        bench.point(new, va, level)
    bench.tlbi(enc(1, 0, 8, 7, op2), operand(va + size // 2, 0))
    if new == -1:
        assert outcome(bench.g.run(LDR, x1=va + 0x3000)).target == 1
    else:
        assert bench.load(va + 0x3000) == 0x78


@pytest.mark.parametrize("level", [1, 2])
def test_walk_caches(rig: Rig, level: int) -> None:
    """A table that was replaced is not used after TLBI VAE1, only leaves after VALE1."""
    bench = Bench(rig)
    bench.point(OLD)
    assert bench.load() == 1
    slot = bench.g.low.slot(VA, level)
    bench.g.low._tables.clear()
    fresh = t.Space(bench.g, 12, 39)
    fresh.map(VA, NEW, t.LEAF)
    rig.mem(slot, rig.read(fresh.slot(VA, level))[0])
    bench.tlbi(enc(1, 0, 8, 7, VAE1), operand(VA, 0))
    assert bench.load() == 2


@pytest.mark.parametrize("crm", [2, 5, 6])
@pytest.mark.parametrize("op2", RANGE)
def test_ranges(rig: Rig, op2: int, crm: int) -> None:
    """The range forms remove every page of their range."""
    for scale, num, pages in ((0, 0, 2), (0, 3, 8), (1, 0, 16)):
        bench = Bench(rig, leaf=t.LEAF | NG)
        bench.asid(5)
        bench.point(OLD, pages=pages)
        for n in range(pages):
            assert bench.load(VA + n * 0x1000) == 1
        bench.point(NEW, pages=pages)
        bench.tlbi(enc(1, 0, 8, crm, op2), range_operand(VA, 5, scale, num))
        for n in range(pages):
            assert bench.load(VA + n * 0x1000) == 2, n


# -- stage 2, at EL2 ----------------------------------------------------------------------------
IPA = 0x8000_0000
EL2_FORMS = {
    # names and encodings (op1 is 4) of what removes a stage-2 translation
    "IPAS2E1": [(7, 4, 1)],
    "IPAS2LE1": [(7, 4, 5)],
}


@pytest.mark.parametrize("level", [3, 2, 1])
@pytest.mark.parametrize(
    ("crm", "op2"),
    [
        (0, 1),
        (0, 5),
        (4, 0),
        (4, 1),
        (4, 4),
        (4, 5),
        (0, 2),
        (0, 6),
        (4, 2),
        (4, 3),
        (4, 6),
        (4, 7),
    ],
)
def test_stage2_by_ipa(rig: Rig, crm: int, op2: int, level: int) -> None:
    """IPAS2E1, its last-level, shareable and range forms, with VMALLE1 after them."""
    g = Guest(rig)
    s2 = g.with_stage2(level=1)
    size = 1 << s2.shift(level)
    g.low.map(VA, IPA, t.LEAF)
    old, new = OLD & ~(size - 1), NEW & ~(size - 1)
    rig.mem(old, 1)
    s2.map(IPA, old, t.S2_LEAF, level)
    assert g.run(LDR, x1=VA).x[0] == 1
    if new == old:
        s2.put(IPA, level, 0)
    else:
        rig.mem(new, 2)
        s2.map(IPA, new, t.S2_LEAF, level)
    ranged = op2 in (2, 3, 6, 7)
    xt = range_operand(IPA, 0, 0, 0) if ranged else IPA >> 12
    assert rig.sys(enc(1, 4, 8, crm, op2), xt)
    assert rig.sys(enc(1, 0, 8, 3, VMALLE1))
    if new == old:
        assert outcome(g.run(LDR, x1=VA)).target == 2
    else:
        assert g.run(LDR, x1=VA).x[0] == 2


@pytest.mark.parametrize(("crm", "op2"), [(c, o) for c in (1, 3, 7) for o in (4, 6)])
def test_stage2_all(rig: Rig, crm: int, op2: int) -> None:
    """ALLE1 and VMALLS12E1 remove both stages."""
    g = Guest(rig)
    s2 = g.with_stage2(level=1)
    g.low.map(VA, IPA, t.LEAF)
    rig.mem(OLD, 1)
    rig.mem(NEW, 2)
    s2.map(IPA, OLD, t.S2_LEAF)
    assert g.run(LDR, x1=VA).x[0] == 1
    s2.map(IPA, NEW, t.S2_LEAF)
    assert rig.sys(enc(1, 4, 8, crm, op2))
    assert g.run(LDR, x1=VA).x[0] == 2


def test_stage2_tables_of_walks(rig: Rig) -> None:
    """A stage-1 table that stage 2 moves elsewhere is read from there afterwards."""
    g = Guest(rig)
    s2 = g.with_stage2(level=1)
    s2.map(OLD & ~0x1FFFFF, OLD & ~0x1FFFFF, t.S2_LEAF, 2)
    s2.map(NEW & ~0x1FFFFF, NEW & ~0x1FFFFF, t.S2_LEAF, 2)
    slot = g.low.map(VA, OLD, t.LEAF)
    rig.mem(OLD, 1)
    rig.mem(NEW, 2)
    assert g.run(LDR, x1=VA).x[0] == 1
    table = slot & ~0xFFF
    other = g.alloc(0x1000)
    rig.mem(other + (slot & 0xFFF), NEW | t.LEAF | t.TABLE)
    block = table & ~0x1FFFFF
    s2.put(block, 2, 0)
    for page in range(block, block + 0x200000, 0x1000):
        s2.map(page, other if page == table else page, t.S2_LEAF)
    assert rig.sys(enc(1, 4, 8, 0, 1), table >> 12)
    assert rig.sys(enc(1, 0, 8, 3, VMALLE1))
    assert g.run(LDR, x1=VA).x[0] == 2


def test_vmids_are_apart(rig: Rig) -> None:
    """One VMID's translations are not another's, with 8 and with 16 bits."""
    g = Guest(rig)
    s2 = g.with_stage2(level=1, extra=1 << 19)
    g.low.map(VA, IPA, t.LEAF)
    rig.mem(OLD, 1)
    rig.mem(NEW, 2)
    s2.map(IPA, OLD, t.S2_LEAF)
    root = rig.value("VTTBR_EL2")
    rig.set("VTTBR_EL2", root | 0x101 << 48)
    assert g.run(LDR, x1=VA).x[0] == 1
    s2.map(IPA, NEW, t.S2_LEAF)
    rig.set("VTTBR_EL2", root | 0x201 << 48)
    assert g.run(LDR, x1=VA).x[0] == 2
    # Back without maintenance the old translation may be seen; after it, not.
    rig.set("VTTBR_EL2", root | 0x101 << 48)
    assert g.run(LDR, x1=VA).x[0] in (1, 2)
    rig.sys(enc(1, 4, 8, 7, 6))
    assert g.run(LDR, x1=VA).x[0] == 2


def test_levels(rig: Rig) -> None:
    """EL0 has no TLBI, EL1 none of EL2's, and CRm and op2 that name nothing are UNDEFINED."""
    g = Guest(rig)
    known = {enc(1, 0, 8, crm, op2) for crm in (1, 3, 7) for op2 in (0, 1, 2, 3, 5, 7)}
    known |= {enc(1, 0, 8, crm, op2) for crm in (2, 5, 6) for op2 in RANGE}
    for op1 in range(8):
        for crm in range(16):
            for op2 in range(8):
                e = enc(1, op1, 8, crm, op2)
                want = Outcome(0) if e in known else Outcome(1, esr(EC_UNKNOWN))
                assert outcome(g.run(sys(e, 1))) == want, (op1, crm, op2)
                if e in known:
                    got = outcome(g.run(sys(e, 1), el0=True), True)
                    assert got == Outcome(1, esr(EC_UNKNOWN))


def test_instruction_cache(rig: Rig) -> None:
    """IC IVAU, IALLU and IALLUIS make new instructions seen, through another mapping too."""
    bench = Bench(rig, leaf=t.LEAF | t.AP_EL0 * 0)
    alias = VA + 0x800000
    for e, by_va in (
        (enc(1, 3, 7, 5, 1), True),
        (enc(1, 0, 7, 5, 0), False),
        (enc(1, 0, 7, 1, 0), False),
    ):
        bench.point(OLD)
        bench.g.low.map(alias, OLD, t.LEAF)
        rig.code(OLD + 0x100, 0xD2800023, hvc(t.DONE))
        bench.g.flush()
        assert bench.fetch() == 1
        rig.code(OLD + 0x100, 0xD28000A3)  # mov x3, #5
        bench.tlbi(e, alias + 0x100 if by_va else 0)
        assert bench.fetch() == 5
    assert feat.ALL
