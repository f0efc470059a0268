"""SVC, ERET and the unmasking of interrupts: what EL0 and EL1 see, in hot code.

The translator has code of its own for these (jit/jit_levels.c, jit/lower_sys.c): each case
goes through a loop, and what it leaves in the registers is what the interpreter leaves and
what the Arm manual says (DDI 0487, D1.3 and D1.4).
"""

from __future__ import annotations

from collections.abc import Iterator

import pe_features as feat
import pytest
from pe_rig import EC_FP, EC_ILLEGAL, EC_SVC, ERET, ISB, Result, Rig, enc, esr, hvc, mrs, msr, svc
from pe_tables import CODE, DONE, EL0T, EL1H, HIGH, VECTORS, Guest

LOOPS = 40
BODY, IRQ = 0x30000, 0x280
EL1T = 0x3C4
PAN, UAO, DIT, SSBS, IL, SS = 1 << 22, 1 << 23, 1 << 24, 1 << 12, 1 << 20, 1 << 21
SPAN, DSSBS = 1 << 23, 1 << 44
SUBS = 0xF1000C1F  # subs xzr, x0, #3
SUBS_X0, BR_X19, CBZ = 0xF1000400, 0xD61F0260, 0xB4000040  # subs x0, x0, #1; cbz x0, .+8
SP_X5, SP_X6, SP_UP, X4_SP = 0x910003E5, 0x910003E6, 0x910043FF, 0x9100009F
FMOV, LDR, LDTR = 0x9E670000, 0xF9400054, 0xF8400854  # fmov d0, x0; ldr, ldtr x20, [x2]
DAIFCLR, DAIFSET = 0xD50340FF | 2 << 8, 0xD50340DF | 2 << 8
PAN_0 = 0xD500409F
ADD_X21 = 0x910006B5  # add x21, x21, #1
SEEN = ("SPSR_EL1", "ELR_EL1", "ESR_EL1", "DAIF", "PAN", "UAO", "SSBS", "CurrentEL", "SPSel")


@pytest.fixture(scope="module")
def rigs() -> Iterator[tuple[Rig, Rig]]:
    """The interpreter and the translator."""
    both = Rig(), Rig(jit=True)
    yield both
    for r in both:
        r.close()


def loop(rig: Rig, spsr: int, sctlr: int = 0, fpen: int = 3, body: tuple[int, ...] = ()) -> Result:
    """ERET with an SPSR, `body` and an SVC there, LOOPS times; SEEN in x7 up."""
    g = Guest(rig, features=feat.ALL & ~feat.BIT["BTI"], sctlr=sctlr)
    rig.put("CPACR_EL1", fpen << 20)
    e = rig.enc
    handler = [SP_X6, *(mrs(7 + n, e[name]) for n, name in enumerate(SEEN))]
    handler += [mrs(16, enc(3, 3, 4, 2, 0)), mrs(17, e["DIT"])]
    handler += [FMOV, SUBS_X0, CBZ, BR_X19, hvc(DONE)]
    for vector in (0, 0x200, 0x400):
        rig.code(VECTORS + vector, *handler)
    rig.code(BODY, SP_X5, SP_UP, SUBS, *body, svc(0x123))
    # What EL1 may read without PAN is in a TLB when it gets PAN.
    start = [PAN_0, LDR]
    start += [msr(e["SPSR_EL1"], 1), msr(e["ELR_EL1"], 2), msr(e["SP_EL0"], 3), X4_SP, ERET]
    return g.run(*start, x0=LOOPS, x1=spsr, x2=HIGH + BODY, x3=0x1230, x4=0x4560, x19=HIGH + CODE)


def same(rigs: tuple[Rig, Rig], *args: int, body: tuple[int, ...] = ()) -> Result:
    """The result of both."""
    a, b = (loop(r, *args, body=body) for r in rigs)
    assert a == b
    return a


@pytest.mark.parametrize("keep", [0, 1 << 6, 1 << 7, 1 << 9, PAN, DIT, SSBS, 1 << 30, 1 << 28])
def test_el0_and_back(rigs: tuple[Rig, Rig], keep: int) -> None:
    """ERET makes PSTATE of SPSR; SVC saves it, with flags, and masks everything."""
    r = same(rigs, keep, 0, 1)
    assert r.hvc == DONE
    flags = 8 << 28  # of 1 - 3
    assert r.x[5:7] == (0x1230, 0x4560)  # each level has its own stack pointer
    assert r.x[7] == (keep & ~(0xF << 28)) | flags
    assert r.x[8] == HIGH + BODY + 16
    assert r.x[9] == esr(EC_SVC, 0x123)
    # SPAN is set in this guest: PAN stays; DSSBS is clear.
    assert r.x[10:16] == (0x3C0, keep & PAN, 0, 0, 4, 1)
    assert (r.x[16], r.x[17]) == (flags, keep & DIT)


@pytest.mark.parametrize("spsr", [EL0T, EL1H, EL1T, EL0T | PAN, EL1H | PAN, EL1H | UAO, EL0T | UAO])
@pytest.mark.parametrize("sctlr", [0, SPAN, DSSBS, SPAN | DSSBS])
@pytest.mark.parametrize("fpen", [1, 3])
def test_each_way(rigs: tuple[Rig, Rig], spsr: int, sctlr: int, fpen: int) -> None:
    """EL0 and EL1, with loads that PAN and UAO decide about, with FP trapped at EL0 or not."""
    r = same(rigs, spsr, sctlr, fpen, body=(FMOV, LDTR, LDR))
    if spsr & 0xF == 0:
        assert r.x[9] == (esr(EC_FP, 0x1E00000) if fpen == 1 else esr(EC_SVC, 0x123))
    assert r.x[14] == 4


@pytest.mark.parametrize("spsr", [0x3C1, 0x3C2, 0x3D0, 0x3C9, 0x3CD, EL0T | IL, EL1H | IL])
def test_returns_that_are_not_legal(rigs: tuple[Rig, Rig], spsr: int) -> None:
    """PSTATE.IL is set and the next instruction is an Illegal Execution state exception."""
    assert same(rigs, spsr).x[9] == esr(EC_ILLEGAL)


def test_step_bit(rigs: tuple[Rig, Rig]) -> None:
    """Without MDSCR_EL1.SS, SPSR.SS is lost."""
    assert same(rigs, EL0T | SS).x[7] == EL0T | 8 << 28


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("way", ["daifclr", "daif", "eret", "svc"])
def test_a_waiting_interrupt_is_taken_at_once(rigs: tuple[Rig, Rig], jit: bool, way: str) -> None:
    """What is pending when it is unmasked is taken before the next instruction."""
    rig = rigs[jit]
    e = rig.enc
    g = Guest(rig, features=feat.ALL & ~feat.BIT["BTI"])
    rig.put("HCR_EL2", g.hcr | 1 << 7)  # VI: a virtual interrupt is pending
    unmask = {
        "daifclr": [DAIFCLR],
        "daif": [msr(e["DAIF"], 9)],
        "eret": [msr(e["SPSR_EL1"], 1), msr(e["ELR_EL1"], 2), ERET],
        "svc": [svc(1)],
    }[way]
    # The handler masks again in SPSR, so that the loop goes on, and counts in x22.
    irq = [mrs(23, e["ELR_EL1"]), 0x910006D6]
    rig.code(VECTORS + IRQ, *irq, msr(e["SPSR_EL1"], 24), ERET)
    rig.code(VECTORS + 0x200, mrs(25, e["SPSR_EL1"]), 0x9278FB39, msr(e["SPSR_EL1"], 25), ERET)
    # Some time passes; interrupts off; on again; x21 counts what comes behind.
    spin = [0xD282000C, 0xF100058C, 0x54FFFFE1]  # mov x12, #0x1000; subs; b.ne
    body = [DAIFSET, *spin, *unmask, ADD_X21]
    tail = [SUBS_X0, 0x54000000 | ((-(len(body) + 1)) & 0x7FFFF) << 5 | 1]
    after = HIGH + CODE + 4 * (len(body) - 1)
    r = g.run(*body, *tail, x0=LOOPS, x1=0x345, x2=after, x9=0x340, x24=EL1H)
    assert r.hvc == DONE
    assert (r.x[21], r.x[22]) == (LOOPS, LOOPS)
    assert r.x[23] == after


def test_isb_shows_new_code(rigs: tuple[Rig, Rig]) -> None:
    """Behind IC IVAU, DSB and ISB come the new instructions, in the same block too."""
    rig = rigs[True]
    g = Guest(rig)
    # Page 0 is mapped read-only in the upper half: the lower one has it for stores.
    g.low.map(0x1000, CODE & ~0xFFF, 0x703 | 1 << 6 | 1 << 10)
    at = CODE + 4 * 6
    code = [
        0xB9000062,  # str w2, [x3]
        0xD50B7B20 | 4,  # dc cvau, x4
        0xD5033F9F,
        0xD50B7520 | 4,  # ic ivau, x4
        0xD5033F9F,
        ISB,
        0x910006B5,  # add x21, x21, #1: becomes #2
    ]
    for _ in range(3):
        r = g.run(*code, x2=0x91000AB5, x3=0x1000 + (at & 0xFFF), x4=HIGH + at, x21=0)
        assert r.hvc == DONE
        assert r.x[21] == 2
