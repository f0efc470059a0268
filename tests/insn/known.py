"""Differences from qemu-aarch64 that are right, each with its reason.

Not for bugs of ours: a difference comes here only with the place in the Arm manual (DDI
0487) that allows it.  At most 20 entries, none for integer, branch, load or store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One test of one instruction: the states as name to value (x0-x30, sp, v0-v31, nzcv,
    fpcr, fpsr, status, mem, pc, far)."""

    row: str
    words: tuple[int, ...]
    before: dict[str, int]
    ours: dict[str, int]
    theirs: dict[str, int]

    @property
    def names(self) -> set[str]:
        """What differs."""
        return {k for k, v in self.ours.items() if v != self.theirs[k]}


@dataclass(frozen=True)
class Allowed:
    """An entry of the exception list."""

    rows: tuple[str, ...]
    section: str  # of the Arm ARM
    reason: str
    holds: Callable[[Difference], bool]


def half_scalar_to_fixed(d: Difference) -> bool:
    rd = f"v{d.words[0] & 31}"
    ours, theirs = d.ours[rd], d.theirs[rd]
    return d.names == {rd} and theirs == ours | 0xFFFF0000 and ours < 0x10000


def flushed_to_javascript(d: Difference) -> bool:
    source = d.before[f"v{d.words[0] >> 5 & 31}"] & (1 << 63) - 1
    flush = d.before["fpcr"] >> 24 & 1
    return d.names == {"nzcv"} and bool(flush) and 0 < source < 1 << 52


def res0_without_aarch32(d: Difference) -> bool:
    """FPCR.Stride and Len, FPSR.NZCV."""
    res0 = {"fpcr": 0x00370000, "fpsr": 0xF0000000}
    return all(n in res0 and d.ours[n] == d.theirs[n] & ~res0[n] for n in d.names)


ALLOWED = (
    Allowed(
        ("msr",),
        "C5.2.8, FPCR; C5.2.9, FPSR",
        "FPCR.Stride, FPCR.Len and FPSR.NZCV are RES0 without AArch32; QEMU's max keeps them",
        res0_without_aarch32,
    ),
    Allowed(
        ("fcvtzs_fix_ss_h",),
        "C7.2, FCVTZS (vector, fixed-point)",
        "QEMU before 8 leaves the sign above bit 15 of Hd; V[d] is zero-extended",
        half_scalar_to_fixed,
    ),
    Allowed(
        ("fjcvtzs",),
        "FPToFixedJS() in shared/functions/float",
        "QEMU before 8 calls a flushed denormal exact; it is not, and PSTATE.Z is clear",
        flushed_to_javascript,
    ),
)


def expected(d: Difference) -> bool:
    """True when this difference is allowed."""
    return any(d.row in entry.rows and entry.holds(d) for entry in ALLOWED)


# Words that are UNDEFINED to us and not to qemu-aarch64 -cpu max: mask, value, why.
LENIENT = (
    (0xFE400000, 0x68000000, "MTE: STGP"),
    (0xFF200000, 0xD9200000, "MTE: STG, LDG"),
    (0xBFC00000, 0x91800000, "MTE: ADDG, SUBG"),
    (0xDFE0E800, 0x9AC00000, "MTE: SUBP, IRG, GMI"),
    (0x3FA08000, 0x08800000, "LOR: LDLAR, STLLR"),
    (0x8F7E0C00, 0x0E700800, "unallocated: half-precision reductions with size<0> set"),
    (0xBFF8FC00, 0x2F00FC00, "unallocated: FMOV (vector, half) with op set"),
    (0x8F7E0C00, 0x0E780800, "unallocated FP16 words that end QEMU 7.2 with an assertion"),
)
# SVE and SME: op0 is 0000 or 0010, the reserved halves beside them too.
SVE_OP0 = range(4)


def lenient(word: int) -> bool:
    """True for words that QEMU may take for an instruction of an extension we lack."""
    if word >> 25 & 0xF in SVE_OP0:
        return True
    return any(word & mask == value for mask, value, _ in LENIENT)


# Words that objdump and our decoder see differently: mask, value, why ours is right.
DISPUTES = (
    # Not UNDEFINED to us
    (
        0x3FE08000,
        0x08C08000,
        "LDAR with should-be-one fields that are not (CONSTRAINED "
        "UNPREDICTABLE, K1.1.3): they are not looked at, as in QEMU",
    ),
    (0x3FE08000, 0x08808000, "STLR, the same"),
    (
        0xFE400000,
        0x68400000,
        "LDPSW with Rt = Rt2, or write-back to one of them (C6.2, LDPSW: "
        "CONSTRAINED UNPREDICTABLE)",
    ),
    # UNDEFINED to us: extensions that we do not have
    (0xFF200400, 0xF8200400, "PAuth: LDRAA, LDRAB"),
    (0xFFFFC000, 0xDAC10000, "PAuth: PACIA to XPACD"),
    (0xFFE0FC00, 0x9AC03000, "PAuth: PACGA"),
    (0xFF000010, 0x54000010, "HBC: BC.cond"),
    (0x7FE00000, 0x11C00000, "CSSC: SMAX to UMIN (immediate)"),
    (0x7FE0F000, 0x1AC06000, "CSSC: SMAX to UMIN"),
    (0x7FFFF800, 0x5AC01800, "CSSC: CTZ, CNT"),
    (0x7FFFFC00, 0x5AC02000, "CSSC: ABS"),
    (0x3B200C00, 0x19000400, "MOPS: CPY, SET"),
    (0xFF20FC00, 0xF8209000, "LS64: ST64B"),
    (0xFF20CC00, 0xF8208000, "LS64: LD64B, ST64BV"),
    (0xFFE0001F, 0xD4600000, "TME: TCANCEL"),
    (0xFFFFFFFF, 0xD503307F, "TME: TCOMMIT"),
    (0xFFFFFFE0, 0xD5233060, "TME: TSTART"),
    (0xFFE0001F, 0xD4400000, "HLT without a debugger (D2.3)"),
    (0xFFE0001C, 0xD4A00000, "DCPS outside of Debug state (H2.4)"),
    (0xFFFFFFFF, 0xD6BF03E0, "DRPS outside of Debug state"),
    # UNDEFINED to us: unallocated, and objdump does not look at every bit
    (0xFFD80000, 0xD5000000, "MSR with op0 = 0: PSTATE only (C4.1.93)"),
    (0xFFF80000, 0xD5200000, "MRS with op0 = 0"),
    (0x9F60FC00, 0x0E60EC00, "FMLAL, FMLSL with size<0> set"),
    (0x9F60FC00, 0x0E60CC00, "FMLAL2, FMLSL2 with size<0> set"),
)


def disputed(word: int) -> bool:
    """True when objdump's vote on this word is known to be wrong."""
    return any(word & mask == value for mask, value, _ in DISPUTES)
