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


ALLOWED = (half_scalar_to_fixed, flushed_to_javascript)


def expected(m: Mismatch) -> bool:
    """True when this difference is allowed."""
    return any(rule(m) for rule in ALLOWED)
