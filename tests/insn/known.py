"""Differences from qemu-aarch64 that are right, each with its reason.

Not for bugs of ours: a difference comes here only with the place in the Arm manual that
allows it.
"""

from __future__ import annotations

from harness import Mismatch, unpack


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


ALLOWED = (half_scalar_to_fixed,)


def expected(m: Mismatch) -> bool:
    """True when this difference is allowed."""
    return any(rule(m) for rule in ALLOWED)
