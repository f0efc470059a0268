"""Small guests for tests of the vmm: assemble, load flat, run, look inside."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bhyvepy._vmmcore import ffi, lib

RAM = 0x80000000
MIB = 1 << 20
PC, CPSR = 32, 33
SYSREG = 65536
EXIT_INST_EMUL, EXIT_SUSPENDED, EXIT_PAGING, EXIT_SMCCC, EXIT_DEBUG = 1, 4, 7, 8, 9
READ, WRITE = 0, 1
RWX = 7
GICD, GICR = 0x2F000000, 0x2F100000

_CODE = Path(tempfile.gettempdir()) / f"bhyvepy-asm-{os.getuid()}"


def sysreg(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    """Register number of a system register for vm_get_register()."""
    return SYSREG + (op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2)


VBAR_EL1 = sysreg(3, 0, 12, 0, 0)
ESR_EL1 = sysreg(3, 0, 5, 2, 0)
ELR_EL1 = sysreg(3, 0, 4, 0, 1)
FAR_EL1 = sysreg(3, 0, 6, 0, 0)
SPSR_EL1 = sysreg(3, 0, 4, 0, 0)
CPACR_EL1 = sysreg(3, 0, 1, 0, 2)
MAIR_EL1 = sysreg(3, 0, 10, 2, 0)
SCTLR_EL1 = sysreg(3, 0, 1, 0, 0)


def assemble(source: str) -> bytes:
    """The bytes of an A64 program, cached by its text."""
    _CODE.mkdir(mode=0o700, exist_ok=True)
    out = _CODE / hashlib.sha256(source.encode()).hexdigest()
    if not out.exists():
        with tempfile.TemporaryDirectory() as tmp:
            src, obj, bin_ = (Path(tmp) / f"g.{x}" for x in ("S", "o", "bin"))
            src.write_text(source + "\n")
            subprocess.run(
                ["aarch64-linux-gnu-gcc", "-march=armv8.6-a+crypto", "-c", src, "-o", obj],
                check=True,
            )
            subprocess.run(["aarch64-linux-gnu-objcopy", "-O", "binary", obj, bin_], check=True)
            os.replace(bin_, out)
    return out.read_bytes()


class Vm:
    """A VM opened in this process, straight over the C API."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        ref = ffi.new("struct vm **")
        ok(lib.vm_open(os.fsencode(directory), name.encode(), ref))
        self.handle: Any = ref[0]

    @classmethod
    def create(cls, directory: Path, name: str, **options: int) -> Vm:
        """Create and open."""
        opt = ffi.new("struct vm_options *", {"maxcpus": 1, **options})
        ok(lib.vm_create(os.fsencode(directory), name.encode(), opt))
        return cls(directory, name)

    @classmethod
    def flat(
        cls,
        directory: Path,
        name: str,
        source: str,
        *,
        size: int = 16 * MIB,
        mmu: bool = False,
        **options: int,
    ) -> Vm:
        """A VM with RAM and a program at its start, ready to run vCPU 0."""
        vm = cls.create(directory, name, **options)
        vm.ram(size)
        vm.write(RAM, assemble(source))
        vm.start()
        if mmu:
            vm.mmu_on(RAM + 0xC000)
        return vm

    @classmethod
    def pair(cls, directory: Path, name: str, source: str, table: int) -> Vm:
        """Two vCPUs at the start of a program, both with stage 1 of mmu_on()."""
        vm = cls.flat(directory, name, source, maxcpus=2)
        ok(lib.vm_activate_cpu(vm.handle, 1))
        vm.set(PC, RAM, vcpu=1)
        for vcpu in range(2):
            vm.mmu_on(table, vcpu=vcpu)
        return vm

    def ram(self, size: int, *, base: int = RAM, reserve: bool = False) -> None:
        ok(lib.vm_alloc_memseg(self.handle, 0, size, reserve))
        ok(lib.vm_mmap_memseg(self.handle, base, 0, 0, size, RWX))

    def start(self, *, cpus: int = 1) -> None:
        ok(lib.vm_set_load_record(self.handle, b"test", 4))
        ok(lib.vm_run_begin(self.handle))
        for i in range(cpus):
            ok(lib.vm_activate_cpu(self.handle, i))
            self.set(PC, RAM, vcpu=i)

    def mmu_on(self, table: int, *, vcpu: int = 0) -> None:
        """Stage 1 from one level-1 table: the gibibyte of RAM, cacheable, as it is."""
        entry = RAM | 0x701  # block, AF, inner shareable, attribute 0
        self.write(table + 8 * (RAM >> 30), entry.to_bytes(8, "little"))
        self.set(35, table, vcpu=vcpu)  # TTBR0_EL1
        self.set(MAIR_EL1, 0xFF, vcpu=vcpu)
        self.set(37, 25 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 32, vcpu=vcpu)  # TCR_EL1
        self.set(34, 0x30D01825, vcpu=vcpu)  # SCTLR_EL1: M, C, I

    def vgic(self) -> None:
        ok(lib.vm_attach_vgic(self.handle, GICD, 0x10000, GICR, 0x20000))

    def write(self, gpa: int, data: bytes) -> None:
        ok(lib.vm_copyout(self.handle, data, gpa, len(data)))

    def read(self, gpa: int, size: int) -> bytes:
        buf = ffi.new("uint8_t[]", size)
        ok(lib.vm_copyin(self.handle, gpa, buf, size))
        return bytes(ffi.buffer(buf))

    def read64(self, gpa: int) -> int:
        return int.from_bytes(self.read(gpa, 8), "little")

    def get(self, reg: int, *, vcpu: int = 0) -> int:
        val = ffi.new("uint64_t *")
        ok(lib.vm_get_register(self.handle, vcpu, reg, val))
        return int(val[0])

    def get_set(self, *regs: int, vcpu: int = 0) -> list[int]:
        vals = ffi.new("uint64_t[]", len(regs))
        ok(lib.vm_get_register_set(self.handle, vcpu, len(regs), list(regs), vals))
        return list(vals)

    def set(self, reg: int, value: int, *, vcpu: int = 0) -> None:
        ok(lib.vm_set_register(self.handle, vcpu, reg, value))

    def stat(self, name: str, *, vcpu: int = 0) -> int:
        vals = ffi.new("uint64_t[64]")
        ok(lib.vm_get_stats(self.handle, vcpu, 64, vals))
        desc = ffi.new("const char **")
        i = 0
        while lib.vm_stat_desc(i, desc) == 0:
            if ffi.string(desc[0]).decode() == name:
                return int(vals[i])
            i += 1
        raise KeyError(name)

    def run(self, vme: Any = None, *, vcpu: int = 0) -> Any:
        """One vm_run(); pass the last exit to complete it."""
        vme = vme if vme is not None else ffi.new("struct vm_exit *")
        ok(lib.vm_run(self.handle, vcpu, vme))
        return vme

    def run_until_hvc(self, on_mmio: Callable[[Any], None] | None = None) -> Any:
        """Run until the guest calls HVC #0; `on_mmio` answers accesses."""
        vme = None
        while True:
            vme = self.run(vme)
            if vme.exitcode == EXIT_SMCCC:
                return vme
            assert vme.exitcode == EXIT_INST_EMUL, vme.exitcode
            assert on_mmio is not None, hex(vme.gpa)
            on_mmio(vme)

    @contextmanager
    def running(self, *, vcpu: int = 0) -> Iterator[list[Any]]:
        """The guest runs in a thread; the list gets its exits. Suspended at the end."""
        exits: list[Any] = []

        def loop() -> None:
            while True:
                vme = ffi.new("struct vm_exit *")
                error = lib.vm_run(self.handle, vcpu, vme)
                exits.append(error or vme)
                if error or vme.exitcode not in (EXIT_DEBUG,):
                    return

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield exits
        finally:
            lib.vm_suspend(self.handle, lib.VM_SUSPEND_POWEROFF)
            thread.join(10)
            assert not thread.is_alive()

    def close(self) -> None:
        if self.handle is not None:
            lib.vm_close(self.handle)
            self.handle = None


def ok(error: int) -> None:
    """0, or the error by name."""
    if error:
        raise OSError(error, os.strerror(error))


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something another thread or process does has happened."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.001)
