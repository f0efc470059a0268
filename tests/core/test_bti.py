"""Branch target identification: who may land where in a guarded page."""

from __future__ import annotations

from collections.abc import Iterator

import pe_features as feat
import pytest
from pe_rig import BRK, EC_BRK, EC_BTI, EC_PC, EC_UNKNOWN, NOP, Result, Rig, enc, esr, hvc, mrs, svc

# Identity-mapped at level 2 by two blocks of 2 MiB; the second one is guarded.
TABLE1, TABLE2 = 0x1000, 0x2000
PLAIN, GUARDED, VECTORS = 0x10000, 0x210000, 0x30000
DONE, TRAPPED = 1, 2
EL1H, EL0T = 0x3C5, 0x3C0
GP = 1 << 50
BLOCK = 1 | 1 << 10 | 3 << 8
RO_EL0 = 3 << 6  # what EL0 may read, both levels may execute

BTI = {"none": 0xD503241F, "c": 0xD503245F, "j": 0xD503249F, "jc": 0xD50324DF}
PACIASP, PACIBSP = 0xD503233F, 0xD503237F
# Branches with the BTYPE that they set from an unguarded and from a guarded page.
BRANCHES = {
    "br x1": (0xD61F0020, 1, 3),
    "br x16": (0xD61F0200, 1, 1),
    "br x17": (0xD61F0220, 1, 1),
    "blr x1": (0xD63F0020, 2, 2),
    "blr x16": (0xD63F0200, 2, 2),
    "ret x1": (0xD65F0020, 0, 0),
    "braaz x1": (0xD61F083F, 1, 3),
    "braa x16, sp": (0xD71F0A1F, 1, 1),
    "blraaz x1": (0xD63F083F, 2, 2),
    "retaa": (0xD65F0BFF, 0, 0),
    "b": (0, 0, 0),
}
# BTypeCompatible_BTI(), _PACIXSP() with SCTLR.BT clear and set, and of the rest.
COMPATIBLE = {
    BTI["none"]: (),
    BTI["c"]: (1, 2),
    BTI["j"]: (1, 3),
    BTI["jc"]: (1, 2, 3),
    PACIASP: (1, 2, 3),
    PACIBSP: (1, 2, 3),
    NOP: (),
    mrs(0, enc(3, 3, 13, 0, 2)): (),  # TPIDR_EL0
}


@pytest.fixture(scope="module", params=[False, True], ids=["interpreter", "jit"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Once with each executor."""
    r = Rig(jit=request.param)
    yield r
    r.close()


def prepare(rig: Rig, features: int = feat.ALL, sctlr: int = 0) -> None:
    rig.new(features)
    rig.mem(TABLE1, TABLE2 | 3)
    rig.mem(TABLE2, BLOCK | RO_EL0, 0x200000 | BLOCK | RO_EL0 | GP)
    for off in (0x200, 0x400):
        rig.code(VECTORS + off, hvc(TRAPPED))
    rig.set("VBAR_EL1", VECTORS)
    rig.set("HCR_EL2", 1 << 31 | 3 << 40)
    rig.set("MAIR_EL1", 0xFF)
    rig.set("TCR_EL1", 25 | 25 << 16 | 2 << 30 | 5 << 32)
    rig.set("TTBR0_EL1", TABLE1)
    rig.set("SCTLR_EL1", 0x30D00801 | 1 << 12 | sctlr)


def jump(rig: Rig, word: int, where: int, target: int, *code: int, el0: bool = False) -> Result:
    """Branch from `where` to `target`."""
    rig.code(where, word or 0x14000000 | (target - where) // 4 & 0x3FFFFFF)
    rig.code(target, *code)
    rig.sys(enc(1, 0, 7, 5, 0))  # IC IALLU: the words changed
    for n in (1, 16, 17, 30):
        rig.x(n, target)
    rig.set("ESR_EL1", 0)
    rig.set("ELR_EL2", where)
    rig.set("SPSR_EL2", EL0T if el0 else EL1H)
    return rig.run()


@pytest.mark.parametrize("el0", [False, True])
@pytest.mark.parametrize("branch", BRANCHES)
def test_landing_pads(rig: Rig, branch: str, el0: bool) -> None:
    """A branch may land only on what fits its BTYPE; elsewhere EC 0x0D with the BTYPE."""
    word, plain, guarded = BRANCHES[branch]
    end = svc(0) if el0 else hvc(DONE)
    prepare(rig)
    for source, btype in ((PLAIN, plain), (GUARDED, guarded)):
        for pad, fits in COMPATIBLE.items():
            target = GUARDED + 0x400
            r = jump(rig, word, source, target, pad, end, el0=el0)
            if btype == 0 or btype in fits:
                assert r.hvc == (TRAPPED if el0 else DONE), (source, hex(pad))
                assert r.esr1 >> 26 != EC_BTI
            else:
                assert r.hvc == TRAPPED
                assert r.esr1 == esr(EC_BTI, btype), (source, hex(pad))
                assert r.elr1 == target
                assert r.spsr1 >> 10 & 3 == btype


@pytest.mark.parametrize("branch", BRANCHES)
def test_unguarded_pages(rig: Rig, branch: str) -> None:
    """In a page without GP everything is a landing pad, and BTYPE is gone after it."""
    prepare(rig)
    for source in (PLAIN, GUARDED):
        r = jump(rig, BRANCHES[branch][0], source, PLAIN + 0x400, NOP, hvc(DONE))
        assert r.hvc == DONE
        assert r.spsr2 >> 10 & 3 == 0


@pytest.mark.parametrize("el0", [False, True])
def test_sctlr_bt(rig: Rig, el0: bool) -> None:
    """SCTLR_EL1.BT0 and BT1 keep PACIASP from taking a BR (BTYPE 3)."""
    end = svc(0) if el0 else hvc(DONE)
    for bt in (35, 36):
        prepare(rig, sctlr=1 << bt)
        refused = bt == (35 if el0 else 36)
        for pad in (PACIASP, PACIBSP):
            r = jump(rig, 0xD61F0020, GUARDED, GUARDED + 0x400, pad, end, el0=el0)
            assert (r.hvc == TRAPPED and r.esr1 == esr(EC_BTI, 3)) == refused
            r = jump(rig, 0xD63F0020, GUARDED, GUARDED + 0x400, pad, end, el0=el0)
            assert r.esr1 >> 26 != EC_BTI


def test_breakpoints_take_btype_along(rig: Rig) -> None:
    """BRK is compatible with every BTYPE, which its SPSR holds."""
    prepare(rig)
    r = jump(rig, 0xD61F0020, GUARDED, GUARDED + 0x400, BRK | 5 << 5)
    assert r.hvc == TRAPPED
    assert r.esr1 == esr(EC_BRK, 5)
    assert r.spsr1 >> 10 & 3 == 3


def test_return_with_btype(rig: Rig) -> None:
    """ERET restores BTYPE, and the target is checked."""
    prepare(rig)
    rig.code(GUARDED, NOP, hvc(DONE))
    for btype in range(4):
        rig.set("ELR_EL2", GUARDED)
        rig.set("SPSR_EL2", EL1H | btype << 10)
        r = rig.run()
        if btype == 0:
            assert r.hvc == DONE
        else:
            assert r.esr1 == esr(EC_BTI, btype)


def test_priorities(rig: Rig) -> None:
    """A misaligned PC and an abort of the fetch come before, an UNDEFINED word after BTI."""
    prepare(rig)
    r = jump(rig, 0xD61F0020, GUARDED, GUARDED + 0x402, NOP)
    assert r.esr1 == esr(EC_PC)
    assert r.elr1 == r.far1 == GUARDED + 0x402
    assert r.spsr1 >> 10 & 3 == 3
    r = jump(rig, 0xD61F0020, GUARDED, 0x400000, NOP)
    assert r.esr1 >> 26 == 0x21
    assert r.spsr1 >> 10 & 3 == 3
    r = jump(rig, 0xD61F0020, GUARDED, GUARDED + 0x400, 0)
    assert r.esr1 == esr(EC_BTI, 3)
    r = jump(rig, 0xD65F0020, GUARDED, GUARDED + 0x400, 0)
    assert r.esr1 == esr(EC_UNKNOWN)


def test_guarded_is_the_page_of_the_branch(rig: Rig) -> None:
    """Where code goes back and forth between pages, each BR counts by the page it is in."""
    prepare(rig)
    start = GUARDED + 0x1000  # not where PLAIN is in a TLB
    rig.code(PLAIN, 0x14000000 | (start - PLAIN) // 4)
    rig.x(5, 20)
    back = 0x14000000 | (PLAIN - start - 12) // 4 & 0x3FFFFFF
    rig.code(start + 4, 0xF10004A5, 0x54000040, back, 0xD61F0020)  # subs x5; b.eq .+8; b; br x1
    r = jump(rig, NOP, start, GUARDED + 0x400, BTI["c"], hvc(DONE))
    assert r.hvc == TRAPPED
    assert r.esr1 == esr(EC_BTI, 3)


def test_a_loop_of_branches_is_polled(rig: Rig) -> None:
    """A guest that does nothing but BR can be interrupted."""
    prepare(rig)
    rig.set("HCR_EL2", 1 << 31 | 3 << 40 | 1 << 4)
    # The rig's alarm ends it.
    r = jump(rig, 0xD61F0020, GUARDED, GUARDED, BTI["j"], 0xD61F0020)
    assert r.vec == 0x480


def test_without_the_feature(rig: Rig) -> None:
    """GP and BTYPE mean nothing without FEAT_BTI."""
    prepare(rig, feat.ALL & ~feat.BIT["BTI"])
    r = jump(rig, 0xD61F0020, GUARDED, GUARDED + 0x400, NOP, hvc(DONE))
    assert r.hvc == DONE
    rig.set("ELR_EL2", GUARDED + 0x400)
    rig.set("SPSR_EL2", EL1H | 3 << 10)
    r = rig.run()
    assert r.hvc == DONE
    assert r.spsr2 >> 10 & 3 == 0
