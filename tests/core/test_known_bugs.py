"""Bugs of FreeBSD's vmm and of others, replayed (docs/reference/reliability.md, 1.2).

A01 to A09, A14 and A15 are about the vGIC: test_vgic_dist.py and test_vgic_order.py name
them, guests/tests/gic*.c try them from inside. Here are the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from vmm_guest import (
    EXIT_DEBUG,
    EXIT_INST_EMUL,
    EXIT_SMCCC,
    EXIT_SUSPENDED,
    GICD,
    GICR,
    PC,
    RAM,
    SCTLR_EL1,
    VBAR_EL1,
    Vm,
    ffi,
    lib,
    ok,
)

ITS = 0x2F040000
DESTROY_S = 2.0


def resident() -> int:
    """Bytes of this process in memory, shared files not counted."""
    size, shared = Path("/proc/self/statm").read_text().split()[1:3]
    return (int(size) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def cycle(directory: Path) -> None:
    """Create with all there is, run, destroy."""
    vm = Vm.flat(directory, "t", "hvc #0", size=1 << 20)
    vm.vgic()
    ok(lib.vm_attach_its(vm.handle, ITS, 0x20000))
    vm.run()
    vm.close()
    ok(lib.vm_destroy(os.fsencode(directory), b"t"))


@pytest.mark.parametrize(
    "count", [300, pytest.param(10000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_a10_vms_leak_no_memory(vmm_dir: Path, count: int) -> None:
    """A10: creating VMs with a GIC, running and destroying them leaves memory as it was."""
    for _ in range(50):
        cycle(vmm_dir)
    before = resident()
    for _ in range(count):
        cycle(vmm_dir)
    assert resident() - before < 1 << 20
    assert not list(vmm_dir.iterdir())


A11 = {
    "wfi, masked": "msr daifset, #15\n1: wfi\n b 1b",
    "branch to itself": "b .",
    "wfe": "1: wfe\n b 1b",
    "mmio": "mov x9, #0x5000\n ldr w0, [x9]\n b .",
    "debug": "b .",
}


@pytest.mark.parametrize("what", A11)
def test_a11_destroy_ends_it(vmm_dir: Path, what: str) -> None:
    """A11: a vCPU that waits, spins, is held or is with userland does not delay a destroy."""
    vm = Vm.flat(vmm_dir, "t", A11[what])
    vm.vgic()
    done = threading.Event()
    exits = []

    def run() -> None:
        vme = None
        while True:
            vme = vm.run(vme)
            exits.append(vme.exitcode)
            if vme.exitcode == EXIT_SUSPENDED:
                break
            if vme.exitcode == EXIT_INST_EMUL:
                time.sleep(0.5)  # userland is slow
        ok(lib.vm_run_end(vm.handle))
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.05)
    if what == "debug":
        ok(lib.vm_suspend_cpu(vm.handle, 0))
        time.sleep(0.05)
    start = time.monotonic()
    # another process, as bhyvectl is
    code = (
        "import sys; from bhyvepy._vmmcore import lib;"
        "sys.exit(lib.vm_destroy(sys.argv[1].encode(), b't'))"
    )
    argv = [sys.executable, "-c", code, str(vmm_dir)]
    began = subprocess.run(argv, check=False, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    assert began.returncode == 0
    assert done.wait(5)
    assert time.monotonic() - start < DESTROY_S + 1  # and the start of a Python
    thread.join()
    assert (EXIT_DEBUG in exits) == (what == "debug")
    vm.close()
    assert not list(vmm_dir.iterdir())


def test_a12_reset_is_complete(vmm_dir: Path) -> None:
    """A12: what CPU_ON does to a vCPU leaves nothing of what was in its registers."""
    vm = Vm.flat(vmm_dir, "t", "hvc #0")
    names = ffi.new("char[32]")
    reg = ffi.new("int *")
    regs, n = [], 0
    ok(lib.vcpu_reset(vm.handle, 0))
    while lib.vm_sysreg_info(n, names, reg) == 0:
        regs.append(reg[0])
        n += 1
    regs += [*range(34), *range(64, 128)]
    fresh = vm.get_set(*regs)
    for i in range(31):
        vm.set(i, 0x1111 * i)
    for i in range(64, 128):
        vm.set(i, i)
    vm.set(VBAR_EL1, 0x80000800)
    vm.set(SCTLR_EL1, 0x30D01825)
    vm.set(PC, RAM + 64)
    assert vm.get_set(*regs) != fresh
    ok(lib.vcpu_reset(vm.handle, 0))
    assert vm.get_set(*regs) == fresh
    vm.close()


@pytest.mark.parametrize("reg", ["cntp_cval_el0", "cntp_ctl_el0"])
def test_a13_xzr_is_zero(vmm_dir: Path, reg: str) -> None:
    """A13: register 31 of a trapped MSR is zero and of a trapped MRS nowhere, not SP."""
    vm = Vm.flat(vmm_dir, "t", f"""
        mov x0, #0x7ff0
        mov sp, x0
        mov x1, #2
        msr {reg}, x1
        mrs x2, {reg}
        msr {reg}, xzr
        mrs x3, {reg}
        mrs xzr, cntpct_el0
        mov x4, sp
        hvc #0
    """)  # fmt: skip
    assert vm.run().exitcode == EXIT_SMCCC
    assert vm.get_set(2, 3, 4) == [2, 0, 0x7FF0]
    vm.close()


def test_a13_gic_frames(vmm_dir: Path) -> None:
    """A13: STR of WZR to a GIC register writes zero."""
    vm = Vm.flat(vmm_dir, "t", f"""
        mov x0, #0x7ff0
        mov sp, x0
        mov x9, #{GICD >> 16:#x}
        lsl x9, x9, #16
        mov w1, #0xa0a0
        movk w1, #0xa0a0, lsl #16
        str w1, [x9, #0x420]
        ldr w2, [x9, #0x420]
        str wzr, [x9, #0x420]
        ldr w3, [x9, #0x420]
        ldr wzr, [x9, #4]
        mov x4, sp
        hvc #0
    """)  # fmt: skip
    vm.vgic()
    assert vm.run().exitcode == EXIT_SMCCC
    assert vm.get_set(2, 3, 4) == [0xA0A0A0A0, 0, 0x7FF0]
    vm.close()


def test_a13_wfe_and_wfit_are_not_wfi(vmm_dir: Path) -> None:
    """A13: WFE goes on for an event, WFIT at its deadline; neither needs an interrupt."""
    vm = Vm.flat(vmm_dir, "t", """
        sevl
        wfe
        mrs x0, id_aa64isar2_el1
        and x0, x0, #15
        cbz x0, 1f
        mrs x1, cntvct_el0
        add x1, x1, #24, lsl #12
        .inst 0xd5031021        // wfit x1
        mrs x2, cntvct_el0
        subs x2, x2, x1
    1:  hvc #0
    """)  # fmt: skip
    vm.vgic()
    start = time.monotonic()
    assert vm.run().exitcode == EXIT_SMCCC
    assert time.monotonic() - start < 2
    if vm.get(0):
        assert vm.get(2) < 1 << 63, "not before its time"
    vm.close()


def test_a14_another_cpus_frame(vmm_dir: Path) -> None:
    """A14: a frame whose vCPU does not exist aborts; one of another vCPU is that one's."""
    vm = Vm.flat(vmm_dir, "t", f"""
        mov x9, #{GICR >> 16:#x}
        lsl x9, x9, #16
        add x9, x9, #0x30, lsl #12
        mov w1, #0x100000
        str w1, [x9, #0x100]
        ldr w2, [x9, #0x100]
        sub x9, x9, #0x20, lsl #12
        ldr w3, [x9, #0x100]
        hvc #0
    """, maxcpus=2)  # fmt: skip
    ok(lib.vm_attach_vgic(vm.handle, GICD, 0x10000, GICR, 0x40000))
    assert vm.run().exitcode == EXIT_SMCCC
    assert vm.get_set(2, 3) == [0x10FFFF, 0xFFFF]
    vm.close()
