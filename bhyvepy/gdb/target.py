"""What gdb sees of a machine: registers, memory by virtual address, breakpoints.

Registers are those of the features org.gnu.gdb.aarch64.core and .fpu, and after
them the system registers that a vCPU keeps. Memory is read through the stage-1
tables of the vCPU that gdb looks at. Not here: packets, who runs (server.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bhyvepy import vmmapi
from bhyvepy.errors import BhyveError, GuestFault

PAGE = 4096
BRK = (0xD4200000).to_bytes(4, "little")
CPSR_SP = 0x1
CPSR_MODE = 0xF
NBREAK, NWATCH = 6, 4
# DBGBCR: enabled, at EL1 and EL0, all bytes.
BCR = 1 | 3 << 1 | 0xF << 5
WCR = 1 | 3 << 1


@dataclass(frozen=True, slots=True)
class Register:
    """A register by gdb's number: its name, bits, and the names that the core knows."""

    name: str
    bits: int
    parts: tuple[str, ...]
    type: str
    group: str | None = None


@cache
def registers() -> tuple[Register, ...]:
    """In the order of the target description, which is that of the g packet."""
    out = [Register(f"x{n}", 64, (f"x{n}",), "int64") for n in range(30)]
    out.append(Register("x30", 64, ("lr",), "int64"))
    out.append(Register("sp", 64, ("sp",), "data_ptr"))
    out.append(Register("pc", 64, ("pc",), "code_ptr"))
    out.append(Register("cpsr", 32, ("cpsr",), "int32"))
    out += [Register(f"v{n}", 128, (f"v{n}.lo", f"v{n}.hi"), "vec128") for n in range(32)]
    out += [Register(n, 32, (n,), "int32", "float") for n in ("fpsr", "fpcr")]
    taken = {"fpsr", "fpcr"}
    system = [n for n in vmmapi.system_registers() if n not in taken]
    out += [Register(n.upper(), 64, (n,), "int64", "system") for n in system]
    return tuple(out)


def description() -> str:
    """target.xml."""
    regs = registers()

    def rows(chosen: Sequence[Register]) -> str:
        return "".join(
            f'<reg name="{r.name}" bitsize="{r.bits}" type="{r.type}"'
            + (f' group="{r.group}"' if r.group else "")
            + "/>"
            for r in chosen
        )

    return (
        '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">'
        "<architecture>aarch64</architecture>"
        f'<feature name="org.gnu.gdb.aarch64.core">{rows(regs[:34])}</feature>'
        '<feature name="org.gnu.gdb.aarch64.fpu">'
        '<vector id="v2d" type="ieee_double" count="2"/><vector id="v2u" type="uint64" count="2"/>'
        '<vector id="v4f" type="ieee_single" count="4"/><vector id="v4u" type="uint32" count="4"/>'
        '<vector id="v16u" type="uint8" count="16"/>'
        '<union id="vec128"><field name="d" type="v2d"/><field name="f" type="v4f"/>'
        '<field name="u64" type="v2u"/><field name="u32" type="v4u"/>'
        '<field name="u8" type="v16u"/><field name="u" type="uint128"/></union>'
        f"{rows(regs[34:68])}</feature>"
        f'<feature name="org.bhyvepy.system">{rows(regs[68:])}</feature></target>'
    )


class Target:
    """The vCPUs and the memory of one VM."""

    def __init__(self, vm: vmmapi.VM, cpus: int) -> None:
        self.vm = vm
        self.vcpus = [vm.vcpu(n) for n in range(cpus)]
        self.software: dict[int, tuple[int, bytes]] = {}  # va -> (gpa, what was there)
        self.hardware: list[int] = []
        self.watched: list[tuple[str, int, int]] = []  # kind, address, length
        caps = dict(vmmapi.capabilities())
        self._brk, self._ss, self._mask = caps["brk_exit"], caps["ss_exit"], caps["mask_hwintr"]

    # -- registers ------------------------------------------------------------------
    def _sp(self, n: int) -> str:
        """Which stack pointer the vCPU uses now."""
        cpsr = self.vcpus[n].get("cpsr")
        return "sp" if cpsr & CPSR_SP else "sp_el0"

    def read_registers(self, n: int, which: Sequence[Register]) -> bytes:
        """Their bytes, little endian, of one moment."""
        sp = self._sp(n)
        names = [sp if p == "sp" else p for r in which for p in r.parts]
        values = self.vcpus[n].get_set(names)
        out = bytearray()
        for r in which:
            for p in r.parts:
                value = values[sp if p == "sp" else p]
                size = r.bits // 8 // len(r.parts)
                out += (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        return bytes(out)

    def write_registers(self, n: int, which: Sequence[Register], data: bytes) -> None:
        """The same bytes back; what may not be written stays as it is."""
        sp = self._sp(n)
        values: dict[str, int] = {}
        for r in which:
            for p in r.parts:
                size = r.bits // 8 // len(r.parts)
                values[sp if p == "sp" else p] = int.from_bytes(data[:size], "little")
                data = data[size:]
        self.vcpus[n].set_many(values)

    # -- memory ---------------------------------------------------------------------
    def _pieces(self, n: int, va: int, length: int) -> list[tuple[int, int]]:
        """(gpa, bytes) of a range of virtual addresses."""
        out = []
        while length > 0:
            size = min(length, PAGE - va % PAGE)
            gpa = self.vm.gla2gpa(n, va & (1 << 64) - 1, 0)
            if gpa is None:
                raise GuestFault(va, length, False)
            out.append((gpa, size))
            va, length = va + size, length - size
        return out

    def read_memory(self, n: int, va: int, length: int) -> bytes:
        """As the guest has it: without our breakpoints. As far as there is memory."""
        data = bytearray()
        try:
            for gpa, size in self._pieces(n, va, min(length, PAGE - va % PAGE)):
                data += self.vm.memory.read(gpa, size)
            if length > len(data):
                data += self.read_memory(n, va + len(data), length - len(data))
        except BhyveError:
            if not data:
                raise
        for at, (_, saved) in self.software.items():
            for i in range(4):
                if 0 <= at + i - va < len(data):
                    data[at + i - va] = saved[i]
        return bytes(data)

    def write_memory(self, n: int, va: int, data: bytes) -> None:
        """All or nothing; breakpoints stay."""
        pieces = self._pieces(n, va, len(data))
        for gpa, size in pieces:
            self.vm.memory.view(gpa, size, True)
        out = bytearray(data)
        for at, (gpa, saved) in list(self.software.items()):
            new = bytearray(saved)
            for i in range(4):
                if 0 <= at + i - va < len(data):
                    new[i] = data[at + i - va]
                    out[at + i - va] = BRK[i]
            self.software[at] = (gpa, bytes(new))
        done = 0
        for gpa, size in pieces:
            self.vm.write_memory(gpa, bytes(out[done : done + size]))
            done += size

    # -- breakpoints ------------------------------------------------------------------
    def insert(self, n: int, kind: str, va: int, length: int) -> bool:
        """Z packet 0 to 4; False when there are too many or it cannot be watched."""
        if kind == "0":
            if va in self.software:
                return True
            saved = self.read_memory(n, va, 4)
            if len(saved) != 4 or va % 4:
                return False
            ((gpa, _),) = self._pieces(n, va, 4)
            self.vm.write_memory(gpa, BRK)
            self.software[va] = (gpa, saved)
        elif kind == "1":
            if va in self.hardware:
                return True
            if len(self.hardware) >= NBREAK or va % 4:
                return False
            self.hardware.append(va)
        else:
            if (kind, va, length) in self.watched:
                return True
            if len(self.watched) >= NWATCH or _watch(kind, va, length) is None:
                return False
            self.watched.append((kind, va, length))
        self._arm()
        return True

    def remove(self, kind: str, va: int, length: int) -> None:
        """z packet; what is not there is no error."""
        if kind == "0":
            if va in self.software:
                gpa, saved = self.software.pop(va)
                self.vm.write_memory(gpa, saved)
        elif kind == "1":
            if va in self.hardware:
                self.hardware.remove(va)
        elif (kind, va, length) in self.watched:
            self.watched.remove((kind, va, length))
        self._arm()

    def remove_all(self) -> None:
        """Leave no trace of a debugger."""
        for gpa, saved in self.software.values():
            self.vm.write_memory(gpa, saved)
        self.software.clear()
        self.hardware.clear()
        self.watched.clear()
        self._arm()
        self.step(())

    def _arm(self) -> None:
        breaks = [(va, BCR) for va in self.hardware]
        watches = [w for kind, va, length in self.watched if (w := _watch(kind, va, length))]
        for vcpu in self.vcpus:
            vcpu.set_debug(breaks, watches)
            vcpu.set_capability(self._brk, int(bool(self.software)))

    def step(self, which: Sequence[int]) -> None:
        """These vCPUs stop after one instruction, without interrupts; the others do not."""
        for n, vcpu in enumerate(self.vcpus):
            for cap in (self._ss, self._mask):
                vcpu.set_capability(cap, int(n in which))

    def hit(self, far: int) -> tuple[str, int] | None:
        """The kind and address of the watchpoint that an address belongs to."""
        for kind, va, length in self.watched:
            if va <= far < va + length:
                return kind, va
        return None


def _watch(kind: str, va: int, length: int) -> tuple[int, int] | None:
    """DBGWVR and DBGWCR of a range, or None: up to 8 bytes of a doubleword, or a power of two."""
    if length < 1 or va + length > 1 << 64:
        return None
    wcr = WCR | {"2": 2, "3": 1, "4": 3}[kind] << 3
    if va % 8 + length <= 8:
        return va & ~7, wcr | ((1 << length) - 1) << va % 8 << 5
    if length & (length - 1) == 0 and va % length == 0 and length <= 1 << 31:
        return va, wcr | 0xFF << 5 | (length.bit_length() - 1) << 24
    return None
