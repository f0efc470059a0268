"""Differences from qemu-aarch64 that are right, each with its reason.

Not for bugs of ours: a difference comes here only with the place in the Arm manual that
allows it.
"""

from __future__ import annotations

from harness import Mismatch, before, unpack


def differing(m: Mismatch) -> set[str]:
    """The names of what differs: x0-x30, sp, v0-v31, nzcv, fpcr, fpsr, status, mem."""
    ours, qemu = unpack(m.ours), unpack(m.qemu)
    return {name for name in ours if ours[name] != qemu[name]}


def half_scalar_to_fixed(m: Mismatch) -> bool:
    """QEMU before 8 leaves the sign above bit 15 of Hd; V[d] is zero-extended (C7.2)."""
    if m.case.row != "fcvtzs_fix_ss_h":
        return False
    rd = f"v{m.case.words[0] & 31}"
    ours, qemu = unpack(m.ours)[rd], unpack(m.qemu)[rd]
    return differing(m) == {rd} and qemu == ours | 0xFFFF0000 and ours < 0x10000


def flushed_to_javascript(m: Mismatch) -> bool:
    """QEMU before 8 calls a flushed denormal exact; FPToFixedJS() clears PSTATE.Z for it."""
    if m.case.row != "fjcvtzs" or differing(m) != {"nzcv"}:
        return False
    old = before(m.case)
    source = old[f"v{m.case.words[0] >> 5 & 31}"] & (1 << 63) - 1
    return bool(old["fpcr"] >> 24 & 1) and 0 < source < 1 << 52


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


ALLOWED = (half_scalar_to_fixed, flushed_to_javascript)


def expected(m: Mismatch) -> bool:
    """True when this difference is allowed."""
    return any(rule(m) for rule in ALLOWED)
