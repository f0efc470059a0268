"""Loads and stores of every class, on every kind of page, at every alignment.

What must happen is computed from the Arm ARM (DDI 0487): AArch64.UnalignedAccessFaults(),
the order of checks in AArch64.S1Translate() and S2Translate(), and the ISS of a data
abort. An access that faults has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pe_features as feat
import pe_tables as t
import pytest
from pe_rig import EC_DABT, EC_DABT_LOWER, Rig, enc, esr, sys
from pe_tables import Guest, Outcome, outcome

VA = 0x40_0000_0000 - 0x200000  # page A; B is the next one
PA, IPA = t.DATA, 0x8000_0000
ALIGN, WNR = 0x21, 1 << 6
TRANS3, ACCESS3, PERM3 = 0x07, 0x0B, 0x0F


@dataclass(frozen=True)
class Insn:
    """An access through x1: bytes, alignment that counts, kind, class, syndrome."""

    word: int
    size: int
    align: int
    kind: str  # r, w, rw
    cls: str = "plain"  # plain, ordered, exclusive, atomic
    iss: tuple[int, int, int, int] | None = None  # SAS, SSE, SF, AR; SRT is 2
    before: int = 0  # pre-index: what is added to x1 first

    @property
    def syndrome(self) -> int:
        if self.iss is None:
            return 0
        sas, sse, sf, ar = self.iss
        return 1 << 24 | sas << 22 | sse << 21 | 2 << 16 | sf << 15 | ar << 14


def one(
    word: int, size: int, kind: str, sse: int = 0, sf: int | None = None, cls: str = "plain"
) -> Insn:
    sas = size.bit_length() - 1
    return Insn(
        word, size, size, kind, cls, (sas, sse, size == 8 if sf is None else sf, cls == "ordered")
    )


INSNS = {
    "ldrb w2, [x1]": one(0x39400022, 1, "r"),
    "ldrh w2, [x1]": one(0x79400022, 2, "r"),
    "ldr w2, [x1]": one(0xB9400022, 4, "r"),
    "ldr x2, [x1]": one(0xF9400022, 8, "r"),
    "ldrsb x2, [x1]": one(0x39800022, 1, "r", 1, 1),
    "ldrsb w2, [x1]": one(0x39C00022, 1, "r", 1, 0),
    "ldrsh x2, [x1]": one(0x79800022, 2, "r", 1, 1),
    "ldrsh w2, [x1]": one(0x79C00022, 2, "r", 1, 0),
    "ldrsw x2, [x1]": one(0xB9800022, 4, "r", 1, 1),
    "strb w2, [x1]": one(0x39000022, 1, "w"),
    "strh w2, [x1]": one(0x79000022, 2, "w"),
    "str w2, [x1]": one(0xB9000022, 4, "w"),
    "str x2, [x1]": one(0xF9000022, 8, "w"),
    "ldur x2, [x1, #-8]": Insn(0xF85F8022, 8, 8, "r", iss=(3, 0, 1, 0), before=-8),
    "stur w2, [x1, #3]": Insn(0xB8003022, 4, 4, "w", iss=(2, 0, 0, 0), before=3),
    "ldr w2, [x1, x3]": one(0xB8636822, 4, "r"),
    "str x2, [x1, w3, sxtw #3]": one(0xF823D822, 8, "w"),
    "ldr x2, [x1], #8": Insn(0xF8408422, 8, 8, "r"),
    "str x2, [x1], #8": Insn(0xF8008422, 8, 8, "w"),
    "ldr w2, [x1, #16]!": Insn(0xB8410C22, 4, 4, "r", before=16),
    "strh w2, [x1, #-2]!": Insn(0x781FEC22, 2, 2, "w", before=-2),
    "ldtr x2, [x1]": one(0xF8400822, 8, "r"),
    "sttrh w2, [x1]": one(0x78000822, 2, "w"),
    "ldp x2, x3, [x1]": Insn(0xA9400C22, 16, 8, "r"),
    "stp x2, x3, [x1]": Insn(0xA9000C22, 16, 8, "w"),
    "ldp w2, w3, [x1], #8": Insn(0x28C10C22, 8, 4, "r"),
    "stp w2, w3, [x1, #8]!": Insn(0x29810C22, 8, 4, "w", before=8),
    "ldpsw x2, x3, [x1]": Insn(0x69400C22, 8, 4, "r"),
    "ldnp x2, x3, [x1]": Insn(0xA8400C22, 16, 8, "r"),
    "ldr b2, [x1]": Insn(0x3D400022, 1, 1, "r"),
    "ldr h2, [x1]": Insn(0x7D400022, 2, 2, "r"),
    "ldr s2, [x1]": Insn(0xBD400022, 4, 4, "r"),
    "str d2, [x1]": Insn(0xFD000022, 8, 8, "w"),
    "ldr q2, [x1]": Insn(0x3DC00022, 16, 16, "r"),
    "str q2, [x1], #16": Insn(0x3C810422, 16, 16, "w"),
    "ldp q2, q3, [x1]": Insn(0xAD400C22, 32, 16, "r"),
    "stp q2, q3, [x1]": Insn(0xAD000C22, 32, 16, "w"),
    "stp s2, s3, [x1]": Insn(0x2D000C22, 8, 4, "w"),
    "ld1 {v2.16b}, [x1]": Insn(0x4C407022, 16, 1, "r"),
    "ld1 {v2.2d-v5.2d}, [x1]": Insn(0x4C402C22, 64, 8, "r"),
    "st1 {v2.4s-v5.4s}, [x1]": Insn(0x4C002822, 64, 4, "w"),
    "ld4 {v2.8h-v5.8h}, [x1], #64": Insn(0x4CDF0422, 64, 2, "r"),
    "st2 {v2.2s, v3.2s}, [x1]": Insn(0x0C008822, 16, 4, "w"),
    "ld1r {v2.4s}, [x1]": Insn(0x4D40C822, 4, 4, "r"),
    "ld1 {v2.d}[1], [x1]": Insn(0x4D408422, 8, 8, "r"),
    "st1 {v2.h}[1], [x1], #2": Insn(0x0D9F4822, 2, 2, "w"),
    "ldar x2, [x1]": one(0xC8DFFC22, 8, "r", cls="ordered"),
    "ldarh w2, [x1]": one(0x48DFFC22, 2, "r", cls="ordered"),
    "stlr w2, [x1]": one(0x889FFC22, 4, "w", cls="ordered"),
    "stlr x2, [x1]": one(0xC89FFC22, 8, "w", cls="ordered"),
    "ldapr w2, [x1]": one(0xB8BFC022, 4, "r", cls="ordered"),
    "ldapur x2, [x1]": one(0xD9400022, 8, "r", cls="ordered"),
    "ldapursh x2, [x1]": one(0x59800022, 2, "r", 1, 1, "ordered"),
    "stlur w2, [x1]": one(0x99000022, 4, "w", cls="ordered"),
    "ldxr x2, [x1]": Insn(0xC85F7C22, 8, 8, "r", "exclusive"),
    "ldaxrh w2, [x1]": Insn(0x485FFC22, 2, 2, "r", "exclusive"),
    "ldxp w2, w3, [x1]": Insn(0x887F0C22, 8, 8, "r", "exclusive"),
    "ldxp x2, x3, [x1]": Insn(0xC87F0C22, 16, 16, "r", "exclusive"),
    "stxr w4, x2, [x1]": Insn(0xC8047C22, 8, 8, "w", "exclusive"),
    "stlxrb w4, w2, [x1]": Insn(0x0804FC22, 1, 1, "w", "exclusive"),
    "stxp w4, x2, x3, [x1]": Insn(0xC8240C22, 16, 16, "w", "exclusive"),
    "ldadd x3, x2, [x1]": Insn(0xF8230022, 8, 8, "rw", "atomic"),
    "ldsmaxh w3, w2, [x1]": Insn(0x78234022, 2, 2, "rw", "atomic"),
    "swpal w3, w2, [x1]": Insn(0xB8E38022, 4, 4, "rw", "atomic"),
    "stclrb w3, [x1]": Insn(0x3823103F, 1, 1, "rw", "atomic"),
    "cas x3, x2, [x1]": Insn(0xC8A37C22, 8, 8, "rw", "atomic"),
    "casp w4, w5, w2, w3, [x1]": Insn(0x08247C22, 8, 8, "rw", "atomic"),
    "casp x4, x5, x2, x3, [x1]": Insn(0x48247C22, 16, 16, "rw", "atomic"),
}  # fmt: skip


@dataclass(frozen=True)
class Page:
    """The state of a page: stage-1 and stage-2 leaf bits; None is invalid."""

    s1: int | None = t.LEAF | t.AP_EL0
    s2: int | None = t.S2_LEAF

    @property
    def device1(self) -> bool:
        return self.s1 is not None and self.s1 & 7 << 2 == t.ATTR_DEVICE

    @property
    def device2(self) -> bool:
        return self.s2 is not None and self.s2 & 0xF << 2 == t.S2_DEVICE


S1 = t.LEAF | t.AP_EL0
S1_DEVICE = S1 & ~(7 << 2) | t.ATTR_DEVICE
S2_DEVICE = t.S2_LEAF & ~(0xF << 2) | t.S2_DEVICE
PAGES = {
    "good": Page(),
    "unmapped": Page(None),
    "old": Page(S1 & ~t.AF),
    "read-only": Page(S1 | t.AP_RO),
    "not EL0's": Page(S1 & ~t.AP_EL0),
    "device": Page(S1_DEVICE),
    "device, read-only": Page(S1_DEVICE | t.AP_RO),
    "stage 2: unmapped": Page(S1, None),
    "stage 2: old": Page(S1, t.S2_LEAF & ~t.AF),
    "stage 2: read-only": Page(S1, t.S2_LEAF & ~t.S2_W),
    "stage 2: write-only": Page(S1, t.S2_LEAF & ~t.S2_R),
    "stage 2: nothing": Page(S1, t.S2_LEAF & ~t.S2_R & ~t.S2_W),
    "stage 2: device": Page(S1, S2_DEVICE),
    "stage 2: device, write-only": Page(S1, S2_DEVICE & ~t.S2_R),
    "both read-only": Page(S1 | t.AP_RO, t.S2_LEAF & ~t.S2_W),
}


@dataclass(frozen=True)
class Setting:
    """What the alignment rules depend on."""

    lse2: bool = True
    naa: bool = False
    a: bool = False
    el0: bool = False


def permission(kind: str, read: bool, write: bool) -> str | None:
    """Which half of an access a page denies: the read first."""
    if "r" in kind and not read:
        return "r"
    if "w" in kind and not write:
        return "w"
    return None


def on_page(i: Insn, page: Page, aligned: bool, el0: bool, at: int, ipa: int) -> Outcome | None:
    """The fault of an access to one page at address `at`, in the order of the pseudocode."""
    el0 = el0 or i.word & 0x3F200C00 == 0x38000800  # LDTR, STTR
    ec = EC_DABT_LOWER
    own = WNR if i.kind == "w" else 0  # an atomic reads first

    def first(fsc: int, wnr: int = own) -> Outcome:
        return Outcome(1, wnr | fsc, at)

    def second(fsc: int, wnr: int = own) -> Outcome:
        return Outcome(2, esr(ec, fsc | wnr | i.syndrome), at, ipa >> 12 << 4)

    if page.s1 is None:
        return first(TRANS3)
    if not page.s1 & t.AF:
        return first(ACCESS3)
    if page.device1 and not aligned:
        return first(ALIGN)
    may = bool(page.s1 & t.AP_EL0) or not el0
    denied = permission(i.kind, may, may and not page.s1 & t.AP_RO)
    if denied:
        return first(PERM3, WNR if denied == "w" else 0)
    if page.s2 is None:
        return second(TRANS3)
    if not page.s2 & t.AF:
        return second(ACCESS3)
    if page.device2 and not aligned:
        return second(ALIGN)
    denied = permission(i.kind, bool(page.s2 & t.S2_R), bool(page.s2 & t.S2_W))
    if denied:
        return second(PERM3, WNR if denied == "w" else 0)
    return None


def expected(i: Insn, s: Setting, addr: int, pages: list[Page]) -> Outcome:
    """What an access must end in."""
    aligned = addr % i.align == 0
    size = i.align if i.cls != "plain" else i.size
    inside = addr // 16 == (addr + size - 1) // 16
    strict = {
        "plain": False,
        "ordered": not s.lse2 or not (s.naa or inside),
        "exclusive": not s.lse2 or not inside,
        "atomic": not s.lse2 or not inside,
    }[i.cls]
    found: Outcome | None = None
    if not aligned and (s.a or strict):
        found = Outcome(1, ALIGN | (WNR if i.kind == "w" else 0), addr)
    at = addr
    while found is None and at < addr + i.size:
        n = (at - VA) // 0x1000
        ipa = IPA + (at - VA)
        found = on_page(i, pages[n], aligned, s.el0, at, ipa)
        at = (at & ~0xFFF) + 0x1000
    if found is None:
        return Outcome(0)
    if found.target == 1:
        return Outcome(1, esr(EC_DABT_LOWER if s.el0 else EC_DABT, found.esr), found.far)
    return found


class Bench:
    """A guest with pages A and B in one state after the other."""

    def __init__(self, rig: Rig, s: Setting) -> None:
        self.s = s
        sctlr = int(s.a) << 1 | int(s.naa) << 6
        features = feat.ALL if s.lse2 else feat.ALL & ~feat.BIT["LSE2"]
        self.g = Guest(rig, features, sctlr=sctlr)
        self.s2 = self.g.with_stage2(level=1)
        self.pages: list[Page] = []

    def map(self, pages: list[Page]) -> None:
        self.pages = pages
        for n, page in enumerate(pages):
            off = n * 0x1000
            s1 = 0 if page.s1 is None else IPA + off | page.s1 | t.TABLE
            s2 = 0 if page.s2 is None else PA + off | page.s2 | t.TABLE
            self.g.low.put(VA + off, 3, s1)
            self.s2.put(IPA + off, 3, s2)
        self.g.flush()

    def check(self, name: str, addr: int) -> None:
        """Run one access at addr, compare all there is to see."""
        i = INSNS[name]
        before = {"x1": addr - i.before, "x2": 0x2222222222222222, "x3": 0, "x4": 0x44, "x5": 5}
        window = PA + (addr - VA & ~7) - 16
        memory = self.g.rig.read(window, 14)
        r = self.g.run(i.word, el0=self.s.el0, **before)
        got = outcome(r, self.s.el0)
        want = expected(i, self.s, addr, self.pages)
        assert got == want, (name, hex(addr), self.pages, self.s)
        if got.target:
            assert r.x[1:6] == tuple(before.values()), (name, hex(addr))
            assert self.g.rig.read(window, 14) == memory, (name, hex(addr))


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """The interpreter."""
    r = Rig()
    yield r
    r.close()


@pytest.fixture(scope="module")
def jit() -> Iterator[Rig]:
    """The translator."""
    r = Rig(jit=True)
    yield r
    r.close()


INSIDE = (0x100, 0x101, 0x104, 0x108, 0x10C, 0x10F)
SETTINGS = [
    Setting(),
    Setting(el0=True),
    Setting(lse2=False),
    Setting(naa=True),
    Setting(a=True),
    Setting(a=True, el0=True),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("state", PAGES)
def test_one_page(rig: Rig, setting: Setting, state: str) -> None:
    """An access inside a page, at several alignments."""
    one_page(rig, setting, state)


def one_page(rig: Rig, setting: Setting, state: str) -> None:
    bench = Bench(rig, setting)
    bench.map([PAGES[state], Page()])
    offsets = INSIDE if state in ("good", "device", "read-only", "stage 2: device") else INSIDE[:2]
    for name in INSNS:
        for offset in offsets:
            bench.check(name, VA + offset)


@pytest.mark.parametrize("state", PAGES)
def test_one_page_translated(jit: Rig, state: str) -> None:
    """The same when the access is translated code."""
    one_page(jit, Setting(), state)


@pytest.mark.parametrize("setting", [Setting(), Setting(naa=True), Setting(el0=True)], ids=str)
@pytest.mark.parametrize("state", [s for s in PAGES if "device" not in s])
def test_two_pages(rig: Rig, setting: Setting, state: str) -> None:
    """An access that crosses into or out of a page that is in a bad state."""
    two_pages(rig, setting, state)


@pytest.mark.parametrize("state", ["unmapped", "read-only", "stage 2: read-only"])
def test_two_pages_translated(jit: Rig, state: str) -> None:
    """The same when the access is translated code."""
    two_pages(jit, Setting(), state)


def two_pages(rig: Rig, setting: Setting, state: str) -> None:
    for pages in ([PAGES[state], Page()], [Page(), PAGES[state]]):
        bench = Bench(rig, setting)
        bench.map(pages)
        for name, i in INSNS.items():
            if i.size == 1:
                continue
            for back in {1, i.align, i.size // 2}:
                bench.check(name, VA + 0x1000 - back)


# -- maintenance by address ---------------------------------------------------------------------
DC = {
    "ivac": (enc(1, 0, 7, 6, 1), "w"),
    "cvac": (enc(1, 3, 7, 10, 1), ""),
    "cvap": (enc(1, 3, 7, 12, 1), ""),
    "cvau": (enc(1, 3, 7, 11, 1), ""),
    "civac": (enc(1, 3, 7, 14, 1), ""),
    "ivau": (enc(1, 3, 7, 5, 1), ""),
}


@pytest.mark.parametrize("el0", [False, True])
@pytest.mark.parametrize("state", PAGES)
@pytest.mark.parametrize("op", DC)
def test_cache_maintenance(rig: Rig, op: str, state: str, el0: bool) -> None:
    """DC and IC by VA: CM and WnR set, no ISV; only EL0 and DC IVAC need permission."""
    e, need = DC[op]
    if el0 and op == "ivac":
        return
    page = PAGES[state]
    bench = Bench(rig, Setting(el0=el0))
    rig.set("SCTLR_EL1", rig.value("SCTLR_EL1") | 1 << 26)  # UCI
    bench.map([page, Page()])
    need = "r" if el0 else need
    va = VA + 0x123
    got = outcome(bench.g.run(sys(e, 1), el0=el0, x1=va), el0)
    cm = 1 << 8 | WNR
    want = Outcome(0)
    may = bool((page.s1 or 0) & t.AP_EL0) or not el0
    ec = EC_DABT_LOWER if el0 else EC_DABT
    hpfar = IPA >> 12 << 4
    if page.s1 is None:
        want = Outcome(1, esr(ec, TRANS3 | cm), va)
    elif not page.s1 & t.AF:
        want = Outcome(1, esr(ec, ACCESS3 | cm), va)
    elif permission(need, may, may and not page.s1 & t.AP_RO):
        want = Outcome(1, esr(ec, PERM3 | cm), va)
    elif page.s2 is None:
        want = Outcome(2, esr(EC_DABT_LOWER, TRANS3 | cm), va, hpfar)
    elif not page.s2 & t.AF:
        want = Outcome(2, esr(EC_DABT_LOWER, ACCESS3 | cm), va, hpfar)
    elif permission(need, bool(page.s2 & t.S2_R), bool(page.s2 & t.S2_W)):
        want = Outcome(2, esr(EC_DABT_LOWER, PERM3 | cm), va, hpfar)
    assert got == want


@pytest.mark.parametrize("el0", [False, True])
@pytest.mark.parametrize("state", PAGES)
def test_dc_zva(rig: Rig, state: str, el0: bool) -> None:
    """DC ZVA is a store of 64 aligned bytes without a syndrome; Device memory refuses it."""
    page = PAGES[state]
    bench = Bench(rig, Setting(el0=el0))
    rig.set("SCTLR_EL1", rig.value("SCTLR_EL1") | 1 << 14)  # DZE
    bench.map([page, Page()])
    rig.mem(PA + 0x100, *[0xAAAA] * 16)
    va = VA + 0x123
    got = outcome(bench.g.run(sys(enc(1, 3, 7, 4, 1), 1), el0=el0, x1=va), el0)
    zva = Insn(0, 64, 1, "w")
    want = on_page(zva, page, False, el0, va, IPA) or Outcome(0)
    if want.target == 1:
        want = Outcome(1, esr(EC_DABT_LOWER if el0 else EC_DABT, want.esr), va)
    assert got == want
    done = not want.target
    assert rig.read(PA + 0x100, 16) == [0 if done else 0xAAAA] * 8 + [0xAAAA] * 8
