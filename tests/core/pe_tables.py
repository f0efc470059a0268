"""Translation tables for the tests of the MMU, and the machine around them.

Responsible for: building VMSAv8-64 tables of any granule in the memory of a rig, and
a guest whose code and vectors do not depend on what is tested: they live in the upper
half of stage 1 (TTBR1_EL1) and at identity in stage 2; the lower half is the test's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pe_features as feat
from pe_rig import DSB, ISB, Result, Rig, enc, hvc, svc, sys

# -- descriptors -------------------------------------------------------------------------
VALID, TABLE, AF = 1, 2, 1 << 10
ATTR_NORMAL, ATTR_DEVICE, ATTR_NC = 0 << 2, 1 << 2, 2 << 2
MAIR = 0x4404FF  # 0: Normal write-back, 1: Device-nGnRE, 2: Normal non-cacheable
SH_INNER = 3 << 8
AP_EL0, AP_RO = 1 << 6, 1 << 7
GP, DBM, CONTIG, PXN, UXN = 1 << 50, 1 << 51, 1 << 52, 1 << 53, 1 << 54
PXN_TABLE, UXN_TABLE, AP_EL0_TABLE, AP_RO_TABLE = 1 << 59, 1 << 60, 1 << 61, 1 << 62
S2_R, S2_W = 1 << 6, 1 << 7
S2_NORMAL, S2_DEVICE, S2_NC = 0xF << 2, 0x1 << 2, 0x5 << 2
LEAF = VALID | AF | SH_INNER | ATTR_NORMAL
S2_LEAF = VALID | AF | SH_INNER | S2_NORMAL | S2_R | S2_W

# -- layout of the rig's memory -----------------------------------------------------------
CODE, VECTORS = 0x10000, 0x20000
TABLES, DATA = 0x400000, 0x2000000
HIGH = 0xFFFF_FFFF_FFE0_0000  # where the first 2 MiB are in the upper half
NOWHERE = 0x3_0000_0000  # an address without memory
DONE = 1
EL1H, EL0T = 0x3C5, 0x3C0
HCR_RW, HCR_VM, HCR_IMO, HCR_DC = 1 << 31, 1, 1 << 4, 1 << 12
T1SZ = 25 << 16 | 2 << 30  # 39 bits in the upper half, 4 KiB
PS48 = 5

TG0 = {12: 0 << 14, 14: 2 << 14, 16: 1 << 14}


def start_level(granule: int, bits: int) -> int:
    """The first level of a walk that translates so many bits (D8.2.4)."""
    stride = granule - 3
    return 4 - -(-(bits - granule) // stride)


class Space:
    """One set of tables."""

    def __init__(self, guest: Guest, granule: int, bits: int, level: int | None = None) -> None:
        self.guest, self.granule, self.bits = guest, granule, bits
        self.stride = granule - 3
        self.level = start_level(granule, bits) if level is None else level
        self.first_bits = bits - self.shift(self.level)
        self.root = guest.alloc(max(8 << self.first_bits, 64))
        self._tables: dict[tuple[int, int], int] = {}

    def shift(self, level: int) -> int:
        return self.granule + self.stride * (3 - level)

    def slot(self, address: int, level: int) -> int:
        """Where the descriptor of `address` at a level is; tables are made on the way."""
        table = self.root
        for at in range(self.level, level + 1):
            width = self.first_bits if at == self.level else self.stride
            index = address >> self.shift(at) & (1 << width) - 1
            if at == level:
                return table + 8 * index
            key = (at, address >> self.shift(at))
            if key not in self._tables:
                self._tables[key] = self.guest.alloc(1 << self.granule)
                self.guest.rig.mem(table + 8 * index, self._tables[key] | VALID | TABLE)
            table = self._tables[key]
        raise AssertionError((address, level))

    def put(self, address: int, level: int, descriptor: int) -> int:
        """A descriptor; the address of its slot."""
        slot = self.slot(address, level)
        self.guest.rig.mem(slot, descriptor)
        return slot

    def map(self, address: int, pa: int, attributes: int, level: int = 3) -> int:
        """A page or block."""
        return self.put(address, level, pa | attributes | (TABLE if level == 3 else 0))


@dataclass
class Stage1:
    """What TCR_EL1 says of the lower half."""

    granule: int = 12
    bits: int = 39
    tcr: int = 0
    ips: int = PS48


class Guest:
    """EL1 and EL0 with code in the upper half, and stage 2 when asked for."""

    def __init__(
        self, rig: Rig, features: int = feat.ALL, stage1: Stage1 | None = None, sctlr: int = 0
    ) -> None:
        self.rig = rig
        self.next = TABLES
        rig.new(features)
        self.hcr = HCR_RW | HCR_IMO | 3 << 40  # IMO: a guest that hangs can be ended
        self.stage1 = stage1 or Stage1()
        for off in range(0, 0x800, 0x80):
            rig.code(VECTORS + off, hvc(0x100 + off // 0x80))
        high = Space(self, 12, 39)
        high.map(HIGH & (1 << 39) - 1, 0, LEAF | AP_EL0 | AP_RO, 2)
        self.low = Space(self, self.stage1.granule, self.stage1.bits)
        self.s2: Space | None = None
        for reg, value in (
            ("VBAR_EL1", HIGH + VECTORS),
            ("MAIR_EL1", MAIR),
            ("TTBR1_EL1", high.root),
            ("TTBR0_EL1", self.low.root),
            ("TCR_EL1", self.tcr()),
            ("SCTLR_EL1", 0x30D00981 | 1 << 12 | 1 << 23 | sctlr),
            ("CPACR_EL1", 3 << 20),
            ("CPTR_EL2", 0x33FF),
            ("HCR_EL2", self.hcr),
            ("CNTHCTL_EL2", 3),
        ):
            rig.set(reg, value)

    def alloc(self, size: int) -> int:
        """Zeroed memory for tables, aligned to its size."""
        self.next = self.next + size - 1 & ~(size - 1)
        at, self.next = self.next, self.next + size
        assert self.next <= DATA
        return at

    def tcr(self) -> int:
        s = self.stage1
        return s.tcr | 64 - s.bits | TG0[s.granule] | T1SZ | s.ips << 32

    def with_stage2(
        self,
        granule: int = 12,
        bits: int = 40,
        level: int | None = None,
        extra: int = 0,
        ps: int = PS48,
        identity: Sequence[int] = (0,),
    ) -> Space:
        """Switch stage 2 on; IPA 0 to 4 MiB (code) and the tables are at identity."""
        if level is None:
            level = start_level(granule, bits)
        self.s2 = Space(self, granule, bits, level)
        sl0 = {12: 2 - level, 14: 3 - level, 16: 3 - level}[granule] & 3
        vtcr = 1 << 31 | extra | ps << 16 | TG0[granule] | sl0 << 6 | 64 - bits
        block = self.s2.shift(2)
        for at in range(0, DATA, 1 << block):
            self.s2.map(at, at, S2_LEAF, 2)
        self.rig.set("VTCR_EL2", vtcr)
        self.rig.set("VTTBR_EL2", self.s2.root)
        self.hcr |= HCR_VM
        self.rig.set("HCR_EL2", self.hcr)
        return self.s2

    def flush(self) -> None:
        """TLBI ALLE1IS and IC IALLU."""
        self.rig.sys_put(enc(1, 4, 8, 3, 4))
        self.rig.sys_put(enc(1, 0, 7, 5, 0))

    def run(self, *code: int, el0: bool = False, pstate: int = 0, **x: int) -> Result:
        """Run code at EL1 or EL0 in the upper half, with registers x0=..., to its end."""
        self.rig.code(CODE, *code, svc(DONE) if el0 else hvc(DONE))
        self.rig.sys_put(enc(1, 0, 7, 5, 0))
        for name, value in x.items():
            self.rig.x(int(name[1:]), value)
        for reg in ("ESR_EL1", "FAR_EL1", "ESR_EL2", "FAR_EL2", "HPFAR_EL2", "ELR_EL1"):
            self.rig.put(reg, 0)
        self.rig.put("ELR_EL2", HIGH + CODE)
        self.rig.put("SPSR_EL2", (EL0T if el0 else EL1H) | pstate)
        return self.rig.run()


@dataclass(frozen=True)
class Outcome:
    """What an access ended in: nothing, or an exception to a level."""

    target: int  # 0: none
    esr: int = 0
    far: int = 0
    hpfar: int = 0


def outcome(r: Result, el0: bool = False) -> Outcome:
    """The exception of a run of Guest.run()."""
    if r.vec == 0x400 and r.hvc is None:
        return Outcome(2, r.esr2, r.far2, r.hpfar)
    if r.hvc == DONE:
        return Outcome(0)
    assert r.hvc is not None, r
    assert r.hvc == (0x108 if el0 else 0x104), r
    if el0 and r.esr1 == 0x15 << 26 | 1 << 25 | DONE:
        return Outcome(0)
    return Outcome(1, r.esr1, r.far1)


__all__ = ["DSB", "ISB", "Guest", "Outcome", "Space", "Stage1", "outcome", "sys"]
