"""What a debugger asks of the vmm: breakpoint exits, steps, masked interrupts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vmm_guest import (
    CPACR_EL1,
    CPSR,
    ELR_EL1,
    ESR_EL1,
    EXIT_INST_EMUL,
    EXIT_SMCCC,
    GICD,
    GICR,
    PC,
    RAM,
    VBAR_EL1,
    Vm,
    assemble,
    ffi,
    lib,
    ok,
    sysreg,
)

EXIT_BRK, EXIT_SS = 10, 11
CAP_BRK, CAP_SS, CAP_MASK = 3, 4, 5
EC_BKPT, EC_WATCH, EC_BRK = 0x30, 0x34, 0x3C
MDSCR_EL1 = sysreg(2, 0, 0, 2, 2)
DBGBVR0_EL1, DBGBCR0_EL1 = sysreg(2, 0, 0, 0, 4), sysreg(2, 0, 0, 0, 5)
SPSR_SS = 1 << 21
# Every vector calls HVC with its offset in x17.
VECTORS = "\n".join(f".org {i * 0x80}\n mov x17, #{i * 0x80}\n hvc #0" for i in range(16))


def guest(directory: Path, source: str) -> Vm:
    """A guest with vectors."""
    vm = Vm.flat(directory, "t", source)
    vm.write(RAM + 0x10000, assemble(VECTORS))
    vm.set(VBAR_EL1, RAM + 0x10000)
    vm.set(CPACR_EL1, 3 << 20)
    return vm


def cap(vm: Vm, which: int, on: bool) -> None:
    ok(lib.vm_set_capability(vm.handle, 0, which, int(on)))


def ec(vme: Any) -> int:
    return int(vme.esr) >> 26


def step(vm: Vm) -> int:
    """Step once; the new PC."""
    vme = vm.run()
    assert vme.exitcode == EXIT_SS, vme.exitcode
    return vm.get(PC) - RAM


@pytest.mark.parametrize("jit", [0, 1])
def test_brk_is_the_guests_or_the_debuggers(vmm_dir: Path, jit: int) -> None:
    """With BRK_EXIT a BRK is an exit at its own address; without it the guest takes it."""
    lib.vmm_set_jit(jit, 0)
    try:
        vm = guest(vmm_dir, "nop\n brk #5\n mov x1, #1\n hvc #0")
        cap(vm, CAP_BRK, True)
        vme = vm.run()
        assert (vme.exitcode, ec(vme), vme.esr & 0xFFFF) == (EXIT_BRK, EC_BRK, 5)
        assert vm.get(PC) == vme.pc == RAM + 4
        assert vm.run().exitcode == EXIT_BRK, "again, as nobody has moved on"
        cap(vm, CAP_BRK, False)
        vme = vm.run()
        assert vme.exitcode == EXIT_SMCCC
        assert vm.get(17) == 0x200
        assert (vm.get(ESR_EL1) >> 26, vm.get(ELR_EL1)) == (EC_BRK, RAM + 4)
        vm.close()
    finally:
        lib.vmm_set_jit(0, 0)


@pytest.mark.parametrize("jit", [0, 1])
def test_steps(vmm_dir: Path, jit: int) -> None:
    """A step is one instruction: plain, a branch, emulated by C or by userland, a call, BRK."""
    lib.vmm_set_jit(jit, 0)
    source = f"""
        nop
        b 1f
        brk #1
    1:  mrs x1, id_aa64pfr0_el1
        ldr x9, ={GICD}
        ldr w2, [x9]
        mov x9, #0x5000
        ldr w3, [x9]
        mrs x4, mdscr_el1
        hvc #0
        wfi
        brk #2
    """
    try:
        vm = guest(vmm_dir, source)
        vm.vgic()
        cap(vm, CAP_SS, True)
        assert [step(vm) for _ in range(6)] == [4, 12, 16, 20, 24, 28]
        vme = vm.run()
        assert vme.exitcode == EXIT_INST_EMUL
        vme.data = 77
        vme = vm.run(vme)
        assert (vme.exitcode, vm.get(PC) - RAM, vm.get(3)) == (EXIT_SS, 32, 77)
        assert step(vm) == 36
        assert vm.get(4) == 0, "the guest does not see the debugger's MDSCR_EL1.SS"
        vme = vm.run()
        assert vme.exitcode == EXIT_SMCCC
        assert step(vm) == 40
        assert step(vm) == 44, "a WFI is over at once"
        assert step(vm) == 0x10200, "a BRK that is not the debugger's goes to the vector"
        assert vm.get(CPSR) & SPSR_SS == 0
        cap(vm, CAP_SS, False)
        vme = vm.run()
        assert (vme.exitcode, vm.get(17)) == (EXIT_SMCCC, 0x200)
        vm.close()
    finally:
        lib.vmm_set_jit(0, 0)


@pytest.mark.parametrize("jit", [0, 1])
def test_breakpoints_of_the_debugger(vmm_dir: Path, jit: int) -> None:
    """They stop the guest, which keeps its own registers and does not see them."""
    lib.vmm_set_jit(jit, 0)
    source = """
        mov x0, #0x1000
    1:  subs x0, x0, #1
        b.ne 1b
        ldr x9, =0x80002000
        str x0, [x9, #8]
        mrs x1, dbgbvr0_el1
        mrs x2, dbgbcr0_el1
        mov x3, #0x2000
        msr dbgbvr1_el1, x3
        mrs x4, dbgbvr1_el1
        hvc #0
    """
    try:
        vm = guest(vmm_dir, source)
        vm.set(DBGBVR0_EL1, 0x4440)
        regs = ffi.new("struct vm_debug *")
        regs.bvr[0], regs.bcr[0] = RAM + 12, 0x1E7
        regs.wvr[0], regs.wcr[0] = RAM + 0x2008, 0xFF << 5 | 3 << 3 | 7
        ok(lib.vm_set_debug(vm.handle, 0, regs))
        vme = vm.run()
        assert (vme.exitcode, ec(vme), vme.pc) == (EXIT_BRK, EC_BKPT, RAM + 12)
        assert vm.get(0) == 0
        regs.bcr[0] = 0
        ok(lib.vm_set_debug(vm.handle, 0, regs))
        vme = vm.run()
        assert (vme.exitcode, ec(vme), vme.far) == (EXIT_BRK, EC_WATCH, RAM + 0x2008)
        assert vme.pc == RAM + 16
        regs.wcr[0] = 0
        regs.bvr[1], regs.bcr[1] = 0x9990, 0x1E7
        ok(lib.vm_set_debug(vm.handle, 0, regs))
        assert vm.run().exitcode == EXIT_SMCCC
        assert (vm.get(1), vm.get(2), vm.get(4)) == (0x4440, 0, 0x2000)
        vm.close()
    finally:
        lib.vmm_set_jit(0, 0)


def test_masked_interrupts_wait(vmm_dir: Path) -> None:
    """MASK_HWINTR holds a pending interrupt back from a guest that would take it."""
    source = f"""
        ldr x9, ={GICR + 0x10000}
        mov w0, #0xffffffff
        str w0, [x9, #0x80]         // GICR_IGROUPR0
        mov w0, #(1 << 27)
        str w0, [x9, #0x100]        // GICR_ISENABLER0: the virtual timer
        ldr x9, ={GICD}
        mov w0, #2
        str w0, [x9]
        mov x0, #1
        msr s3_0_c12_c12_7, x0      // ICC_IGRPEN1_EL1
        mov x0, #0xff
        msr s3_0_c4_c6_0, x0        // ICC_PMR_EL1
        msr cntv_cval_el0, xzr
        mov x0, #1
        msr cntv_ctl_el0, x0
        msr daifclr, #2
        mov x5, #1
        hvc #0
        nop
        hvc #0
    """
    vm = Vm.flat(vmm_dir, "t", source)
    vm.vgic()
    vm.write(RAM + 0x10000, assemble(VECTORS))
    vm.set(VBAR_EL1, RAM + 0x10000)
    cap(vm, CAP_MASK, True)
    vme = vm.run()
    assert (vme.exitcode, vm.get(5), vm.get(17)) == (EXIT_SMCCC, 1, 0)
    assert vm.get(CPSR) & 0x80 == 0
    cap(vm, CAP_MASK, False)
    vme = vm.run()
    assert (vme.exitcode, vm.get(17)) == (EXIT_SMCCC, 0x280), "taken when it is let through"
    vm.close()
