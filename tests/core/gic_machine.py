"""The machine of gic_double.c for tests: builds it once, and plays guest and run loop."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import cffi

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "vmmcore"
# Files that stand for those of the core (tests/mutants).
INSTEAD = Path(os.environ.get("GUARD_SOURCES", CORE))

GICD = 0x2F000000
GICC = 0x2F020000
ITS = 0x2F040000
GICR = 0x2F100000
RAM = 0x80000000
SPURIOUS = 1023
IRQ, FIQ, VIRQ, VFIQ = 1, 2, 4, 8
HCR_IMO_FMO = 0x18
U64 = (1 << 64) - 1

CDEF = """
struct machine;
struct machine *m_new(unsigned ncpus, unsigned list_regs, int vhe);
void m_free(struct machine *m);
int m_attach(struct machine *m, uint64_t dist, uint64_t dlen, uint64_t redist, uint64_t rlen);
int m_access(struct machine *, unsigned cpu, unsigned el, uint32_t enc, int wr, uint64_t *val);
void m_set_counter(struct machine *m, uint64_t v);
uint64_t m_counter(struct machine *m);
unsigned m_lines(struct machine *m, unsigned cpu);
int m_timer_line(struct machine *m, unsigned cpu, unsigned ppi);
uint64_t m_timer_next(struct machine *m, unsigned cpu);
void m_kick(struct machine *m, unsigned cpu, uint32_t v);
uint32_t m_phys_active(struct machine *m, unsigned cpu);
void m_enter(struct machine *m, unsigned cpu);
void m_exit(struct machine *m, unsigned cpu);
int m_in_guest(struct machine *m, unsigned cpu);
uint32_t m_host_irq(struct machine *m, unsigned cpu);
int m_inject(struct machine *m, int cpu, uint32_t intid, int level);
int m_msi(struct machine *m, uint64_t addr, uint64_t msg, uint32_t devid);
int m_attach_v2(struct machine *, uint64_t dist, uint64_t dlen, uint64_t cpuif, uint64_t clen);
int m_attach_its(struct machine *m, uint64_t base, uint64_t len);
int m_list_regs(struct machine *m, unsigned n);
int m_ram(struct machine *m, uint64_t gpa, void *buf, uint64_t len, int write);
int m_mmio(struct machine *, unsigned cpu, uint64_t gpa, unsigned size, int wr, uint64_t *val);
int m_sysreg(struct machine *m, unsigned cpu, uint32_t enc, int wr, uint64_t *val);
int m_pending(struct machine *m, unsigned cpu);
uint64_t m_deadline(struct machine *m, unsigned cpu);
uint64_t m_notified(struct machine *m, unsigned cpu);
void m_set_active(struct machine *m, unsigned cpu, int active);
void m_reset(struct machine *m, unsigned cpu);
void m_damage_maps(struct machine *m);
void m_die_locked(struct machine *m);
int m_visit(struct machine *m, int held);
int m_look(struct machine *m, int cpu, uint32_t intid);
"""

SOURCES = [
    "pe/gic_cpuif.c",
    "pe/gic_virt.c",
    "pe/timer.c",
    "vmm/io/vgic.c",
    "vmm/io/vgic_dump.c",
    "vmm/io/vgic_init.c",
    "vmm/io/vgic_its.c",
    "vmm/io/vgic_its_mmio.c",
    "vmm/io/vgic_v2.c",
    "vmm/io/vgic_v3.c",
    "vmm/io/vgic_v3_mmio.c",
    "vmm/io/vtimer.c",
    "sys/clock.c",
    "sys/lock.c",
]

_lib: tuple[cffi.FFI, Any] | None = None


def _encodings() -> dict[str, int]:
    """MRS encodings by register name, from the tables themselves."""
    row = re.compile(r"^SYSREG(?:_FEAT\(\w+, |\()(\w+), (\d), (\d), (\d+), (\d+), (\d)", re.M)
    regs = {}
    for name in ("sysreg_gic.def", "sysreg_timer.def"):
        for m in row.finditer((CORE / "pe" / name).read_text()):
            op0, op1, crn, crm, op2 = (int(x) for x in m.groups()[1:])
            regs[m.group(1)] = op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
    regs["HCR_EL2"] = 3 << 14 | 4 << 11 | 1 << 7 | 1 << 3
    return regs


REGS = _encodings()


def _load() -> tuple[cffi.FFI, Any]:
    global _lib
    if _lib is None:
        tmp = tempfile.TemporaryDirectory(prefix="gic-double-")
        out = Path(tmp.name)
        (out / "pe").mkdir()
        (out / "pe" / "a64_ops.h").write_text("enum a64_op { A64_NONE };\n")
        lib = out / "double.so"
        cmd = [
            os.environ.get("CC", "gcc"), "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror",
            "-D_GNU_SOURCE", "-fPIC", "-shared", "-fvisibility=hidden", f"-I{CORE}",
            f"-I{CORE}/include", f"-I{out}", "-fsanitize=undefined",
            "-fno-sanitize-recover=undefined", str(Path(__file__).with_name("gic_double.c")),
            *[str(INSTEAD / s if (INSTEAD / s).exists() else CORE / s) for s in SOURCES],
            "-lpthread", "-o", str(lib),
        ]  # fmt: skip
        subprocess.run(cmd, check=True)
        ffi = cffi.FFI()
        ffi.cdef(CDEF)
        _lib = ffi, ffi.dlopen(str(lib))
        tmp.cleanup()
    return _lib


class UndefinedError(Exception):
    """The access is UNDEFINED."""


class TrapError(Exception):
    """The access traps; `level` is where to."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.level = level


class Machine:
    """A VM of `ncpus` vCPUs with a GICv3, each with a PE of its own."""

    def __init__(
        self, ncpus: int = 1, list_regs: int = 4, vhe: bool = False, attach: bool = True
    ) -> None:
        self.ffi, self.lib = _load()
        self.m = self.lib.m_new(ncpus, list_regs, vhe)
        self.ncpus = ncpus
        self.cpus = [Cpu(self, i) for i in range(ncpus)]
        if attach:
            assert self.attach() == 0

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.lib.m_free(self.m)

    def attach(
        self, dist: int = GICD, dlen: int = 0x10000, redist: int = GICR, rlen: int = -1
    ) -> int:
        if rlen < 0:
            rlen = 0x20000 * self.ncpus
        return int(self.lib.m_attach(self.m, dist, dlen, redist, rlen))

    @property
    def now(self) -> int:
        return int(self.lib.m_counter(self.m))

    @now.setter
    def now(self, v: int) -> None:
        self.lib.m_set_counter(self.m, v & U64)

    def inject(self, intid: int, level: bool = True, cpu: int = -1) -> int:
        return int(self.lib.m_inject(self.m, cpu, intid, level))

    def msi(self, msg: int, addr: int = GICD + 0x40, devid: int = 0) -> int:
        return int(self.lib.m_msi(self.m, addr, msg, devid))

    def attach_v2(
        self, dist: int = GICD, dlen: int = 0x10000, cpuif: int = GICC, clen: int = 0x2000
    ) -> int:
        return int(self.lib.m_attach_v2(self.m, dist, dlen, cpuif, clen))

    def attach_its(self, base: int = ITS, size: int = 0x20000) -> int:
        return int(self.lib.m_attach_its(self.m, base, size))

    def set_list_regs(self, n: int) -> int:
        return int(self.lib.m_list_regs(self.m, n))

    def peek(self, gpa: int, size: int = 8) -> int:
        """Guest memory as a number."""
        buf = self.ffi.new("uint8_t[]", size)
        assert self.lib.m_ram(self.m, gpa, buf, size, False) == 0
        return int.from_bytes(bytes(buf), "little")

    def poke(self, gpa: int, val: int, size: int = 8) -> None:
        """Write a number to guest memory."""
        data = (val & (1 << 8 * size) - 1).to_bytes(size, "little")
        assert self.lib.m_ram(self.m, gpa, self.ffi.from_buffer(data), size, True) == 0

    def setup_spi(self, intid: int, prio: int = 0x80, edge: bool = True, cpu: int = 0) -> None:
        """Configure and enable one SPI as a guest's driver does."""
        c = self.cpus[0]
        reg = GICD + 0xC00 + intid // 16 * 4
        cfg = c.load(reg) & ~(3 << intid % 16 * 2)
        c.store(reg, cfg | (2 if edge else 0) << intid % 16 * 2)
        c.store(GICD + 0x400 + intid, prio, 1)
        c.store(GICD + 0x6000 + 8 * intid, cpu & 15 | cpu >> 4 << 8, 8)
        c.store(GICD + 0x100 + intid // 32 * 4, 1 << intid % 32)

    def boot(self, groups: int = 2) -> None:
        """Distributor and every CPU interface on, nothing masked."""
        self.cpus[0].store(GICD, groups)
        for c in self.cpus:
            c.store(c.gicr + 0x14, 0)
            c.enter()
            c["ICC_PMR_EL1"] = 0xF8
            c["ICC_IGRPEN1_EL1"] = 1
            c.exit()


class Cpu:
    """One vCPU: the guest's registers by name, frames by address, entries and exits."""

    def __init__(self, machine: Machine, num: int) -> None:
        self.machine, self.num = machine, num
        self.lib, self.m = machine.lib, machine.m
        self.gicr = GICR + 0x20000 * num
        self.sgi = self.gicr + 0x10000
        self.el = 1
        self.exits = 0

    def _access(self, reg: str, write: bool, val: int) -> int:
        p = self.machine.ffi.new("uint64_t *", val & U64)
        r = self.lib.m_access(self.m, self.num, self.el, REGS[reg], write, p)
        if r < 0:
            raise UndefinedError(reg)
        if r > 0:
            raise TrapError(r)
        return int(p[0])

    def __getitem__(self, reg: str) -> int:
        return self._access(reg, False, 0)

    def __setitem__(self, reg: str, val: int) -> None:
        self._access(reg, True, val)

    def at(self, el: int) -> Cpu:
        """The same vCPU executing at another level."""
        c = Cpu(self.machine, self.num)
        c.el = el
        return c

    @property
    def lines(self) -> int:
        return int(self.lib.m_lines(self.m, self.num))

    def enter(self) -> None:
        self.lib.m_enter(self.m, self.num)

    def exit(self) -> None:
        self.lib.m_exit(self.m, self.num)

    @property
    def in_guest(self) -> bool:
        return bool(self.lib.m_in_guest(self.m, self.num))

    @property
    def pending(self) -> bool:
        return bool(self.lib.m_pending(self.m, self.num))

    @property
    def notified(self) -> int:
        return int(self.lib.m_notified(self.m, self.num))

    @property
    def deadline(self) -> int:
        return int(self.lib.m_deadline(self.m, self.num))

    def settle(self) -> None:
        """Run until the guest would execute: serve what takes it out of the guest."""
        for _ in range(8):
            if not self.in_guest:
                self.enter()
            if not self.lines & IRQ:
                return
            self.exits += 1
            self.exit()
            self.lib.m_kick(self.m, self.num, 0)
            self.lib.m_host_irq(self.m, self.num)
        raise AssertionError("the guest makes no progress: an interrupt storm")

    def sysreg(self, reg: str, val: int = 0, write: bool = True) -> tuple[int, int]:
        """A trapped access as the hypervisor serves it: errno and value."""
        if self.in_guest:
            self.exit()
        p = self.machine.ffi.new("uint64_t *", val & U64)
        r = self.lib.m_sysreg(self.m, self.num, REGS[reg], write, p)
        return int(r), int(p[0])

    def ack(self) -> int:
        """Take an interrupt if one is signalled: its INTID."""
        self.settle()
        if not self.lines & VIRQ:
            return SPURIOUS
        return self["ICC_IAR1_EL1"]

    def eoi(self, intid: int) -> None:
        self.settle()
        self["ICC_EOIR1_EL1"] = intid
        self.settle()

    def dir(self, intid: int) -> None:
        """ICC_DIR_EL1, through the hypervisor when it traps."""
        self.settle()
        try:
            self["ICC_DIR_EL1"] = intid
        except TrapError:
            self.sysreg("ICC_DIR_EL1", intid)
        self.settle()

    def mmio(self, gpa: int, size: int, write: bool, val: int = 0) -> tuple[int, int]:
        if self.in_guest:
            self.exit()
        p = self.machine.ffi.new("uint64_t *", val & U64)
        r = self.lib.m_mmio(self.m, self.num, gpa, size, write, p)
        return int(r), int(p[0])

    def load(self, gpa: int, size: int = 4) -> int:
        r, v = self.mmio(gpa, size, False)
        assert r == 0
        return v

    def store(self, gpa: int, val: int, size: int = 4) -> None:
        assert self.mmio(gpa, size, True, val)[0] == 0
