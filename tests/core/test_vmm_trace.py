"""The trace of exits: what was read, which interrupts came (vmm_trace.c)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vmm_guest import (
    GICD,
    RAM,
    VBAR_EL1,
    Vm,
    assemble,
    ffi,
    lib,
    ok,
)

SYNC, IRQ, VIRQ = lib.VM_TRACE_SYNC, lib.VM_TRACE_IRQ, lib.VM_TRACE_VIRQ
EC_HVC, EC_MSR, EC_DATA_ABORT = 0x16, 0x18, 0x24


def begin(vm: Vm) -> int:
    seq = ffi.new("uint64_t *")
    ok(lib.vm_trace(vm.handle, True, seq))
    return int(seq[0])


def events(vm: Vm, start: int) -> list[Any]:
    """Without faults of RAM that is used for the first time."""
    seq, count = ffi.new("uint64_t *", start), ffi.new("unsigned *", 512)
    out = ffi.new("struct vm_trace_event[]", 512)
    ok(lib.vm_trace_read(vm.handle, seq, count, out))
    found = list(out[0 : count[0]])
    return [e for e in found if not (ec(e) in (0x20, 0x24) and e.hpfar >> 4 << 12 >= RAM)]


def ec(e: Any) -> int:
    return int(e.esr) >> 26 & 63 if e.type == SYNC else 0


def answer(vme: Any) -> None:
    vme.data = 0xABCD1234


@pytest.mark.parametrize("vhe", [0, 1], ids=["nvhe", "vhe"])
def test_what_reads_gave(vmm_dir: Path, vhe: int) -> None:
    """Userland's answer, a register of the interrupt controller, a trapped MRS; none of a fault."""
    vm = Vm.flat(
        vmm_dir,
        "t",
        f"""
        mov x1, #0x5000
        ldrh w2, [x1]
        str w1, [x1, #4]
        ldr x3, ={GICD + 4}
        ldr w4, [x3]
        mrs x5, id_aa64isar0_el1
        ldp w6, w7, [x1]
        msr oslar_el1, x1
        ldrb w8, [x1]
        hvc #0
        """,
        vhe=vhe,
    )
    vm.vgic()
    start = begin(vm)
    vm.run_until_hvc(answer)
    got = events(vm, start)
    assert [e.seq for e in got] == sorted(e.seq for e in got)
    assert [ec(e) for e in got] == [
        *[EC_DATA_ABORT] * 3,
        EC_MSR,
        EC_DATA_ABORT,
        EC_MSR,
        EC_DATA_ABORT,
        EC_HVC,
    ]
    assert [(e.loaded, e.value) for e in got[:4]] == [
        (1, 0x1234),
        (0, 0x5000),
        (1, vm.get(4)),
        (1, vm.get(5)),
    ]
    assert got[4].loaded == 0, "a pair: no one register"
    assert (got[5].loaded, got[5].value) == (0, 0x5000)
    assert (got[6].loaded, got[6].value) == (1, 0x34)
    assert vm.get(4) != 0 != vm.get(5)
    assert [e.pc - RAM for e in got[:4]] == [4, 8, 16, 20]
    vm.close()


def test_a_read_that_faults_gave_nothing(vmm_dir: Path) -> None:
    """An abort in place of the value is not shown as one."""
    vm = Vm.flat(vmm_dir, "t", "mov x1, #0x5000\n ldr w2, [x1]\n b .")
    vm.write(RAM + 0x10200, assemble("hvc #0"))
    vm.set(VBAR_EL1, RAM + 0x10000)
    start = begin(vm)
    vm.run()
    ok(lib.vm_inject_exception(vm.handle, 0, 0x96000010, 0x5000))
    vm.run()
    got = events(vm, start)
    assert [(ec(e), e.loaded) for e in got] == [(EC_DATA_ABORT, 0), (EC_HVC, 0)]
    vm.close()


def test_interrupts_have_numbers(vmm_dir: Path) -> None:
    """The INTID that the guest is entered with, once for each time that it comes; acknowledged."""
    source = f"""
        ldr x1, ={GICD}
        mov w2, #0x12       // ARE, group 1
        str w2, [x1]
        mov w2, #-1
        str w2, [x1, #0x84] // IGROUPR1
        mov w2, #1 << 5
        str w2, [x1, #0x104] // ISENABLER1: INTID 37
        mov x2, #0xf0
        msr s3_0_c4_c6_0, x2 // PMR
        mov x2, #1
        msr s3_0_c12_c12_7, x2 // IGRPEN1
        hvc #0
    again:
        mrs x3, isr_el1
        cbz x3, again
        hvc #0
        hvc #0
        mrs x4, s3_0_c12_c12_0 // IAR1
        hvc #0
        msr s3_0_c12_c12_1, x4 // EOIR1
        hvc #0
        b again
    """
    vm = Vm.flat(vmm_dir, "t", source)
    vm.vgic()
    start = begin(vm)
    vm.run_until_hvc()
    for _ in range(2):
        ok(lib.vm_assert_irq(vm.handle, 37))
        vm.run_until_hvc()
        vm.run_until_hvc()  # it is still pending: no news
        vm.run_until_hvc()
        assert vm.get(4) == 37
        ok(lib.vm_deassert_irq(vm.handle, 37))
        vm.run_until_hvc()  # the end of the interrupt
    got = events(vm, start)
    assert [e.intid for e in got if e.type == VIRQ] == [37, 37]
    acked = ffi.new("uint64_t[]", lib.VM_IRQS)
    ok(lib.vm_get_irqs(vm.handle, 0, lib.VM_IRQS, acked))
    assert {n: c for n, c in enumerate(acked) if c} == {37: 2}
    assert lib.vm_get_irqs(vm.handle, 0, lib.VM_IRQS + 1, acked) != 0
    vm.close()
