"""Interrupts and timers of guests that run: vectors, WFI, IPIs, lines from other threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vmm_guest import (
    EXIT_INST_EMUL,
    EXIT_SMCCC,
    EXIT_SUSPENDED,
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
    wait_for,
)

# x20 counts interrupts, x21 the last INTID; x22, x23 belong to the handler.
HANDLER = """
.org 0x280
    mrs x22, ICC_IAR1_EL1
    and w23, w22, #0x3ff
    cmp w23, #1020
    b.hs 9f
    mov x21, x22
    add x20, x20, #1
    b serve
9:  eret
.org 0x800
serve:
{serve}
    msr ICC_EOIR1_EL1, x22
    eret
"""

GIC_ON = f"""
    mov x9, #{GICD & 0xFFFF0000:#x}
    mov w10, #2
    str w10, [x9]
    mrs x12, mpidr_el1
    and x12, x12, #0xff
    mov x11, #{GICR & 0xFFFF0000:#x}
    add x11, x11, x12, lsl #17
    add x11, x11, #0x10000
    mov w10, #0xffffffff
    str w10, [x11, #0x100]
    mov x10, #0xf8
    msr ICC_PMR_EL1, x10
    mov x10, #1
    msr ICC_IGRPEN1_EL1, x10
    isb
"""

# Enable SPI 40, a level interrupt.
SPI_40 = """
    mov w10, #0x100
    str w10, [x9, #0x104]
"""


class Guests:
    """Makes guests for one test; stops what hangs and closes them at its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.vm: Vm | None = None

    def watchdog(self) -> None:
        assert self.vm is not None
        lib.vm_suspend(self.vm.handle, lib.VM_SUSPEND_POWEROFF)

    def __call__(self, source: str, serve: str, *, cpus: int = 1, **options: int) -> Vm:
        """A guest with its GIC on, EL1 vectors, and `serve` run for each interrupt."""
        vm = self.vm = Vm.create(self.directory, "t", maxcpus=cpus, **options)
        vm.ram(16 << 20)
        vm.write(RAM, assemble(GIC_ON + source))
        vm.write(RAM + 0x10000, assemble(HANDLER.format(serve=serve)))
        vm.start(cpus=cpus)
        for i in range(cpus):
            vm.set(VBAR_EL1, RAM + 0x10000, vcpu=i)
            vm.set(20, 0, vcpu=i)
        ok(lib.vm_attach_vgic(vm.handle, GICD, 0x10000, GICR, 0x20000 * cpus))
        return vm


@pytest.fixture
def make(vmm_dir: Path) -> Iterator[Guests]:
    """The maker of a test's guest."""
    guests = Guests(vmm_dir)
    timer = threading.Timer(20, guests.watchdog)
    timer.start()
    yield guests
    timer.cancel()
    timer.join()
    if guests.vm is not None:
        guests.vm.close()


# The next tick of 1 ms.
REARM = """
    mrs x23, cntv_cval_el0
    mov x24, #0x86a0
    movk x24, #1, lsl #16
    add x23, x23, x24
    msr cntv_cval_el0, x23
"""


@pytest.mark.parametrize("wait", ["wfi", "nop"])
def test_periodic_timer(make: Guests, wait: str) -> None:
    """100 ticks of 1 ms take 100 ms, at one exit a tick, waiting in WFI or spinning."""
    source = f"""
    mrs x0, cntvct_el0
    add x0, x0, #24, lsl #12
    msr cntv_cval_el0, x0
    mov x0, #1
    msr cntv_ctl_el0, x0
    msr daifclr, #2
1:  {wait}
    cmp x20, #100
    b.lo 1b
    msr daifset, #2
    hvc #0
    """
    vm = make(source, REARM)
    start = time.monotonic()
    assert vm.run().exitcode == EXIT_SMCCC
    elapsed = time.monotonic() - start
    # on a busy host the last ones may come in a row
    ticks = vm.get(20)
    assert 100 <= ticks < 200
    assert vm.get(21) == 27
    assert 0.098 < elapsed < 1
    # a WFI exit or an interrupt exit for each, and some to set up
    assert vm.stat("total number of vm exits") < ticks * 1.5 + 20


def test_emulated_physical_timer(make: Guests) -> None:
    """The EL1 physical timer interrupts a guest that spins: PPI 30 comes when it is due."""
    source = """
    mov x0, #50000
    msr cntp_tval_el0, x0
    mov x0, #1
    msr cntp_ctl_el0, x0
    msr daifclr, #2
1:  cbz x20, 1b
    msr daifset, #2
    mrs x1, cntpct_el0
    mrs x2, cntp_cval_el0
    hvc #0
    """
    vm = make(source, "mov x23, #2\n msr cntp_ctl_el0, x23")
    assert vm.run().exitcode == EXIT_SMCCC
    assert (vm.get(20), vm.get(21)) == (1, 30)
    assert vm.get(1) >= vm.get(2)


@pytest.mark.parametrize("wait", ["wfi", "nop"])
def test_lines_from_another_thread(make: Guests, wait: str) -> None:
    """Each assertion of a line by another thread interrupts once; the handler lowers it."""
    source = f"""{SPI_40}
    msr daifclr, #2
1:  {wait}
    cmp x20, #200
    b.lo 1b
    hvc #0
    """
    vm = make(source, "mov x23, #0x5000\n str w20, [x23]")
    served: list[int] = []
    up = threading.Semaphore(1)

    def device() -> None:
        for _ in range(200):
            assert up.acquire(timeout=10)
            assert lib.vm_assert_irq(vm.handle, 40) == 0

    thread = threading.Thread(target=device)
    thread.start()

    def on_mmio(vme: Any) -> None:
        assert vme.gpa == 0x5000
        served.append(vme.data)
        assert lib.vm_deassert_irq(vm.handle, 40) == 0
        up.release()

    vm.run_until_hvc(on_mmio)
    thread.join()
    assert served == list(range(1, 201))


IPI_PING = """
    mrs x12, mpidr_el1
    and x12, x12, #0xff
    mov x13, #1
    eor x14, x12, #1
    lsl x13, x13, x14       // the other one
    orr x13, x13, #3 << 24  // SGI 3
    msr daifclr, #2
    cbnz x12, 1f
    mov x15, #0x90000000 & 0xffff
2:  movz x15, #0x8008, lsl #16
    ldr x16, [x15]
    cbz x16, 2b             // until the other one is up
    msr ICC_SGI1R_EL1, x13
    b 3f
1:  movz x15, #0x8008, lsl #16
    mov x16, #1
    str x16, [x15]
3:  {wait}
    cmp x20, #1000
    b.lo 3b
    msr daifset, #2
    hvc #0
"""


@pytest.mark.parametrize("wait", ["wfi", "nop"])
def test_ping_pong_of_ipis(make: Guests, wait: str) -> None:
    """Two vCPUs send each other SGIs 1000 times: none is lost, whoever sleeps wakes up."""
    vm = make(IPI_PING.format(wait=wait), "msr ICC_SGI1R_EL1, x13", cpus=2)
    exits: list[int] = []

    def run(i: int) -> None:
        vme = ffi.new("struct vm_exit *")
        ok(lib.vm_run(vm.handle, i, vme))
        exits.append(vme.exitcode)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    lost = any(t.is_alive() for t in threads)
    lib.vm_suspend(vm.handle, lib.VM_SUSPEND_POWEROFF)
    for t in threads:
        t.join(5)
    assert not lost, (vm.get(20), vm.get(20, vcpu=1))
    assert exits == [EXIT_SMCCC] * 2
    assert time.monotonic() - start < 20


# vCPU 0 routes, masks and re-prioritises SPIs 48 to 63 at random; the others wait.
STORM = """
    mov x2, #0x8010
    lsl x2, x2, #16         // counters
    cbnz x12, 8f
    mov w10, #0xaaaaaaaa    // edges
    str w10, [x9, #0xc0c]
    mov w10, #0xffff0000
    str w10, [x9, #0x104]
    mov x3, #1234
    add x4, x9, #0x6000
    add x4, x4, #48 * 8
    mov x5, #0x4c95
    movk x5, #0x7f2d, lsl #16
    msr daifclr, #2
1:  mul x3, x3, x5
    add x3, x3, #99
    ubfx x6, x3, #40, #4    // which
    ubfx x7, x3, #50, #2    // to whom
    str x7, [x4, x6, lsl #3]
    ubfx x7, x3, #52, #4
    add x8, x9, #0x430
    lsl x7, x7, #4
    strb w7, [x8, x6]
    add x6, x6, #16
    mov x7, #1
    lsl x7, x7, x6
    ubfx x8, x3, #60, #2
    cbnz x8, 2f
    str w7, [x9, #0x184]
    ldr w8, [x9, #0x304]    // active
    ldr w8, [x9, #0x204]    // pending
    str w7, [x9, #0x104]
2:  ldr x7, [x2]
    cbz x7, 1b
    hvc #0
8:  msr daifclr, #2
9:  wfi
    b 9b
"""

COUNT_IT = """
    mov x23, #1
    and x24, x22, #0xff
    add x24, x2, x24, lsl #3
    ldadd x23, x25, [x24]
"""


@pytest.mark.parametrize("list_regs", [1, 4])
def test_storm(make: Guests, list_regs: int) -> None:
    """Edges raised at random while a guest moves and masks them on 4 vCPUs: each counts once."""
    vm = make(STORM, COUNT_IT, cpus=4, list_regs=list_regs)
    results = []

    def run(i: int) -> None:
        vme = ffi.new("struct vm_exit *")
        ok(lib.vm_run(vm.handle, i, vme))
        results.append(vme.exitcode)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    raised = [0] * 16

    def served() -> list[int]:
        data = vm.read(RAM + 0x100000 + 48 * 8, 16 * 8)
        return [int.from_bytes(data[8 * i : 8 * i + 8], "little") for i in range(16)]

    time.sleep(0.02)  # until they are edges
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        for i, n in enumerate(served()):
            assert n <= raised[i]
            if n == raised[i]:
                raised[i] += 1
                ok(lib.vm_assert_irq(vm.handle, 48 + i))
    wait_for(lambda: served() == raised, 5)
    assert sum(raised) > 1000
    vm.write(RAM + 0x100000, b"\1")
    threads[0].join(5)
    lib.vm_suspend(vm.handle, lib.VM_SUSPEND_POWEROFF)
    for t in threads:
        t.join(5)
    assert sorted(results) == [EXIT_SUSPENDED] * 3 + [EXIT_SMCCC]
    assert served() == raised


def test_masked_wfi_wakes(make: Guests) -> None:
    """WFI ends for an interrupt that PSTATE.I masks; it is taken after unmasking."""
    source = f"""{SPI_40}
    msr daifset, #2
    mov x23, #0x5000
    str w20, [x23]
    wfi
    mov x1, x20
    msr daifclr, #2
    isb
1:  cbz x20, 1b
    hvc #0
    """
    vm = make(source, "mov x23, #0x5000\n str w20, [x23]")

    def later() -> None:
        time.sleep(0.05)
        ok(lib.vm_assert_irq(vm.handle, 40))

    thread = threading.Thread(target=later)
    seen = []

    def on_mmio(vme: Any) -> None:
        seen.append(vme.data)
        if len(seen) == 1:
            thread.start()
        else:
            ok(lib.vm_deassert_irq(vm.handle, 40))

    vm.run_until_hvc(on_mmio)
    thread.join()
    assert seen == [0, 1]
    assert vm.get(1) == 0


def test_disabled_interrupt_does_not_wake(make: Guests) -> None:
    """A07: a vCPU in WFI sleeps through interrupts that it has not enabled."""
    vm = make("1: wfi\n add x20, x20, #1\n b 1b", "")
    ok(lib.vm_assert_irq(vm.handle, 41))
    with vm.running() as exits:
        time.sleep(0.2)
        cpu = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - cpu < 0.1
        ok(lib.vm_deassert_irq(vm.handle, 41))
    assert exits[-1].exitcode == EXIT_SUSPENDED
    assert vm.get(20) == 0


def test_irq_before_the_first_run(make: Guests) -> None:
    """An interrupt that was raised before the guest ran arrives when it is enabled."""
    vm = make(f"{SPI_40}\n msr daifclr, #2\n 1: cbz x20, 1b\n hvc #0",
              "mov x23, #0x5000\n str w20, [x23]")  # fmt: skip
    ok(lib.vm_assert_irq(vm.handle, 40))
    vme = vm.run()
    assert vme.exitcode == EXIT_INST_EMUL
    ok(lib.vm_deassert_irq(vm.handle, 40))
    assert vm.run(vme).exitcode == EXIT_SMCCC
    assert vm.get(21) == 40
    assert vm.get(PC) > RAM


def test_sgi_read_is_undefined(make: Guests) -> None:
    """A09: reading ICC_SGI1R_EL1 (EC 0 at the synchronous vector) does not reach the VM."""
    vm = make("mrs x0, S3_0_C12_C11_5\n hvc #0", "")
    vm.write(RAM + 0x10200, assemble("mrs x1, esr_el1\n mrs x2, elr_el1\n hvc #0"))
    assert vm.run().exitcode == EXIT_SMCCC
    assert vm.get(1) >> 26 == 0
    assert vm.read(vm.get(2), 4) == assemble("mrs x0, S3_0_C12_C11_5")


def test_vm_without_vgic(vmm_dir: Path) -> None:
    """Without a vGIC lines are refused, and a running timer does not stop the guest."""
    vm = Vm.flat(vmm_dir, "t", """
    msr cntv_cval_el0, xzr
    mov x0, #1
    msr cntv_ctl_el0, x0
    mov x1, #0x100000
1:  subs x1, x1, #1
    b.ne 1b
    mrs x2, cntv_ctl_el0
    hvc #0
    """)  # fmt: skip
    assert lib.vm_assert_irq(vm.handle, 40) != 0
    wait_for(lambda: vm.run().exitcode == EXIT_SMCCC, 5)
    assert vm.get(2) == 5
    assert vm.stat("total number of vm exits") < 50
    vm.close()
