"""vm_run(): exits, emulated accesses, injection, WFI, freezing from outside."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from vmm_guest import (
    CPACR_EL1,
    ELR_EL1,
    ESR_EL1,
    EXIT_DEBUG,
    EXIT_INST_EMUL,
    EXIT_SMCCC,
    EXIT_SUSPENDED,
    FAR_EL1,
    PC,
    RAM,
    READ,
    SPSR_EL1,
    VBAR_EL1,
    WRITE,
    Vm,
    assemble,
    ffi,
    lib,
    ok,
    wait_for,
)

# Every vector calls HVC with its offset in x17.
VECTORS = "\n".join(f".org {i * 0x80}\n mov x17, #{i * 0x80}\n hvc #0" for i in range(16))
M64 = (1 << 64) - 1


def run_with_vectors(directory: Path, source: str, name: str = "t", mmu: bool = False) -> Vm:
    """A guest whose exceptions end in HVC with x17 = vector offset."""
    vm = Vm.flat(directory, name, source, mmu=mmu)
    vm.write(RAM + 0x10000, assemble(VECTORS))
    vm.set(VBAR_EL1, RAM + 0x10000)
    vm.set(CPACR_EL1, 3 << 20)
    return vm


@pytest.mark.parametrize(
    ("insn", "size", "data", "want"),
    [
        ("ldrb w1, [x9]", 1, 0xFF8A, 0x8A),
        ("ldrsb w1, [x9]", 1, 0x8A, 0xFFFFFF8A),
        ("ldrsb x1, [x9]", 1, 0x8A, 0xFFFFFFFFFFFFFF8A),
        ("ldrh w1, [x9, #2]", 2, 0x18001, 0x8001),
        ("ldrsh w1, [x9]", 2, 0x8001, 0xFFFF8001),
        ("ldrsw x1, [x9]", 4, 0x80000001, 0xFFFFFFFF80000001),
        ("ldr w1, [x9]", 4, 0x1_80000001, 0x80000001),
        ("ldr x1, [x9]", 8, M64, M64),
        ("ldar w1, [x9]", 4, 7, 7),
        ("ldr x1, [x9], #8", 8, 5, 5),
        ("ldrsb w1, [x9, #-1]!", 1, 0x80, 0xFFFFFF80),
    ],
)
def test_loads_from_a_device(vmm_dir: Path, insn: str, size: int, data: int, want: int) -> None:
    """A load gets the value that userland gives, cut and extended as the instruction says."""
    vm = Vm.flat(vmm_dir, "t", f"mov x9, #0x5000\n {insn}\n hvc #0")
    vme = vm.run()
    assert (vme.exitcode, vme.dir, vme.access_size) == (EXIT_INST_EMUL, READ, size)
    assert vm.get(PC) == RAM + 4, "not done before userland answers"
    vme.data = data
    assert vm.run(vme).exitcode == EXIT_SMCCC
    assert vm.get(1) == want
    if "#8" in insn:
        assert vm.get(9) == 0x5008
    if "!" in insn:
        assert vm.get(9) == 0x4FFF
    vm.close()


@pytest.mark.parametrize(
    ("insn", "writes"),
    [
        ("strb w1, [x9]", [(0x5000, 1, 0x88)]),
        ("strh w1, [x9, #6]", [(0x5006, 2, 0x7788)]),
        ("str w1, [x9]", [(0x5000, 4, 0x55667788)]),
        ("str x1, [x9]", [(0x5000, 8, 0x1122334455667788)]),
        ("str wzr, [x9]", [(0x5000, 4, 0)]),
        ("str xzr, [x9], #16", [(0x5000, 8, 0)]),
        ("stp w1, w2, [x9, #8]", [(0x5008, 4, 0x55667788), (0x500C, 4, 2)]),
        ("stp x1, xzr, [x9, #-16]!", [(0x4FF0, 8, 0x1122334455667788), (0x4FF8, 8, 0)]),
        ("stp q0, q1, [x9]", [(0x5000, 8, 10), (0x5008, 8, 11), (0x5010, 8, 12), (0x5018, 8, 13)]),
        ("str b0, [x9, #3]", [(0x5003, 1, 10)]),
        ("str d1, [x9, x2, lsl #3]", [(0x5010, 8, 12)]),
        ("stlr w1, [x9]", [(0x5000, 4, 0x55667788)]),
    ],
)
def test_stores_to_a_device(vmm_dir: Path, insn: str, writes: list[tuple[int, int, int]]) -> None:
    """Stores reach userland in order, a pair or Q register as several, 31 as zero."""
    vm = Vm.flat(vmm_dir, "t", f"mov x9, #0x5000\n mov x2, #2\n {insn}\n hvc #0")
    vm.set(CPACR_EL1, 3 << 20)
    vm.set(1, 0x1122334455667788)
    for i in range(4):
        vm.set(64 + i, 10 + i)
    seen = []

    def device(vme: Any) -> None:
        assert vme.dir == WRITE
        seen.append((vme.gpa, vme.access_size, vme.data))

    vm.run_until_hvc(device)
    assert seen == writes
    if "!" in insn:
        assert vm.get(9) == 0x4FF0
    elif "#16" in insn:
        assert vm.get(9) == 0x5010
    vm.close()


def test_load_pair_signed_and_across_pages(vmm_dir: Path) -> None:
    """LDPSW sign-extends both halves; a pair that ends in RAM takes the rest from there."""
    vm = Vm.flat(vmm_dir, "t", "ldpsw x1, x2, [x9]\n ldp x3, x4, [x10]\n hvc #0")
    vm.set(9, 0x5000)
    vm.set(10, RAM - 8)
    answers = iter([(0x5000, 4, 0x80000000), (0x5004, 4, 1), (RAM - 8, 8, 77)])

    def device(vme: Any) -> None:
        gpa, size, vme.data = next(answers)
        assert (vme.gpa, vme.access_size) == (gpa, size)

    first = vm.read64(RAM)
    vm.run_until_hvc(device)
    assert vm.get_set(1, 2, 3, 4) == [0xFFFFFFFF80000000, 1, 77, first]
    vm.close()


@pytest.mark.parametrize(
    "insn",
    [
        "ldxr x1, [x9]",
        "ldadd x1, x2, [x9]",
        "ldadda w1, w2, [x9]",
        "swpa w1, w2, [x9]",
        "cas x1, x2, [x9]",
        "ld2 {v0.4s,v1.4s}, [x9]",
    ],
)
def test_what_a_device_cannot_do_is_an_external_abort(vmm_dir: Path, insn: str) -> None:
    """Exclusives, atomics and structure loads on MMIO abort in the guest with DFSC 0x10."""
    vm = run_with_vectors(vmm_dir, f"mov x9, #0x5000\n nop\n {insn}\n b .")
    vm.run_until_hvc()
    assert vm.get(17) == 0x200
    esr = vm.get(ESR_EL1)
    assert (esr >> 26, esr & 0x3F) == (0x25, 0x10)
    assert vm.get_set(ELR_EL1, FAR_EL1) == [RAM + 8, 0x5000]
    vm.close()


BEYOND = RAM + (16 << 20)  # mapped as cacheable memory where there is none


def test_register_over_the_end_of_a_page(vmm_dir: Path) -> None:
    """Half a register of a pair here and half in the next page: an alignment fault, no access."""
    vm = run_with_vectors(vmm_dir, "ldp x1, x2, [x9]\n b .", mmu=True)
    vm.set(9, BEYOND + 0xFFC)
    vm.run_until_hvc()
    assert vm.get(ESR_EL1) & 0x3F == 0x21
    assert vm.get(FAR_EL1) == BEYOND + 0xFFC
    vm.close()


# UNDEFINED, though it looks like a load of a pair: LDPSW without a hint of its own.
NO_PAIR = ".inst 0x68400921"


@pytest.mark.parametrize("word", ["stp x1, x2, [x9]", "nop", NO_PAIR])
def test_code_changed_under_the_access(vmm_dir: Path, word: str) -> None:
    """The word that faulted is read again, and the guest may have written another there.

    Without IC IVAU the old one runs on. What is there now is not done in its stead.
    """
    vm = run_with_vectors(
        vmm_dir,
        f"adr x10, 1f\n adr x12, 2f\n ldr w11, [x12]\n mov x13, #0\n b 1f\n .balign 64\n"
        f"1: ldp x1, x2, [x9]\n cbnz x13, 3f\n mov x13, #1\n str w11, [x10]\n b 1b\n"
        f"3: hvc #0\n .balign 64\n2: {word}",
        mmu=True,
    )
    vm.set(9, BEYOND)
    seen = []
    vm.run_until_hvc(lambda vme: seen.append((vme.gpa, vme.dir)))
    assert seen == [(BEYOND, READ), (BEYOND + 8, READ)]
    assert vm.get(ESR_EL1) & 0x3F == 0x10
    assert vm.get_set(13, ELR_EL1) == [1, vm.get(10)]
    vm.close()


def test_fetch_outside_ram_aborts_in_the_guest(vmm_dir: Path) -> None:
    """A jump to where no memory is becomes an instruction abort with an external IFSC."""
    vm = run_with_vectors(vmm_dir, "mov x9, #0x5000\n br x9")
    vm.run_until_hvc()
    esr = vm.get(ESR_EL1)
    assert (esr >> 26, esr & 0x3F, vm.get(ELR_EL1)) == (0x21, 0x10, 0x5000)
    vm.close()


@pytest.mark.parametrize(
    "insn", ["hvc #1", "smc #7", "msr s3_0_c15_c2_0, x0", "mrs x0, icc_sgi1r_el1"]
)
def test_undefined_for_the_guest(vmm_dir: Path, insn: str) -> None:
    """HVC and SMC with an immediate and registers that are not there are UNDEFINED."""
    vm = run_with_vectors(vmm_dir, f"nop\n {insn}\n b .")
    vm.run_until_hvc()
    assert vm.get(ESR_EL1) == 1 << 25
    assert vm.get_set(ELR_EL1, 17) == [RAM + 4, 0x200]
    vm.close()


def test_smccc_by_hvc_and_smc(vmm_dir: Path) -> None:
    """Both conduits give function and arguments, and continue behind the instruction."""
    vm = Vm.flat(vmm_dir, "t", "mov w0, #0x84000000\n mov x7, #9\n hvc #0\n smc #0\n hvc #0")
    for i in range(2):
        vme = vm.run()
        assert vme.exitcode == EXIT_SMCCC
        assert (vme.func_id, vme.args[6], vme.conduit_smc) == (0x84000000, 9, i)
        assert vm.get(PC) == RAM + 12 + 4 * i
    vm.close()


def test_injected_exception_state(vmm_dir: Path) -> None:
    """Injection enters as hardware does: DAIF, PAN by SPAN, flags kept, vector by mode."""
    vm = Vm.flat(vmm_dir, "t", "b .")
    vm.set(VBAR_EL1, 0x90000000)
    for sctlr, pan in ((0x30D00820, 0), (0x30D00820 & ~(1 << 23), 1 << 22)):
        for mode, offset in ((0, 0x400), (4, 0), (5, 0x200)):
            vm.set(34, sctlr)
            vm.set(33, 0xA0000000 | mode)
            vm.set(PC, RAM + 0x40)
            ok(lib.vm_inject_exception(vm.handle, 0, 0x96000010, 0x1234))
            assert vm.get(33) == 0xA00003C5 | pan
            assert vm.get(PC) == 0x90000000 + offset
            assert vm.get_set(ELR_EL1, SPSR_EL1, ESR_EL1, FAR_EL1) == [
                RAM + 0x40,
                0xA0000000 | mode,
                0x96000010,
                0x1234,
            ]
    vm.close()


def test_identification_registers(vmm_dir: Path) -> None:
    """A guest sees no EL2 or EL3, 40 physical bits, its own MPIDR, zero for AArch32."""
    vm = Vm.flat(
        vmm_dir,
        "t",
        "mrs x0, id_aa64pfr0_el1\n mrs x1, id_aa64mmfr0_el1\n mrs x2, id_isar0_el1\n"
        "mrs x3, mpidr_el1\n mrs x4, midr_el1\n mrs x5, id_aa64mmfr1_el1\n"
        "mrs x6, oslsr_el1\n msr oslar_el1, x4\n mov x7, #1\n msr oslar_el1, x7\n"
        "mrs x8, oslsr_el1\n mrs xzr, id_aa64pfr0_el1\n hvc #0",
    )
    vm.run_until_hvc()
    pfr0, mmfr0, isar0, mpidr, midr, mmfr1 = vm.get_set(0, 1, 2, 3, 4, 5)
    assert pfr0 & 0xFFFF == 0x0011
    assert mmfr0 & 0xF == 2
    assert (isar0, mpidr, midr) == (0, 0x80000000, 0x410FD000)
    assert mmfr1 & 0xFF0 == 0
    assert vm.get_set(6, 8) == [0x8, 0xA]
    vm.close()


COUNT = "mov x0, #0\n mov x1, #0\n1: add x0, x0, #1\n add x1, x1, #1\n b 1b"


def test_samples_of_a_running_guest_are_consistent(vmm_dir: Path) -> None:
    """Another open of the VM sees registers at one instruction boundary, and progress."""
    vm = Vm.flat(vmm_dir, "t", COUNT)
    other = Vm(vmm_dir, "t")
    with vm.running():
        wait_for(lambda: other.get(0) > 0)
        samples = [other.get_set(0, 1) for _ in range(1000)]
    assert all(0 <= x - y <= 1 for x, y in samples)
    steps = [b[0] - a[0] for a, b in itertools.pairwise(samples)]
    # The guest has its turn between two samples, if the host runs its thread in that time.
    assert min(steps) >= 0
    assert sum(step > 0 for step in steps) > 900
    other.close()
    vm.close()


def test_pause_stops_and_unpause_continues(vmm_dir: Path) -> None:
    """Between pause and unpause nothing moves; registers stay readable meanwhile."""
    vm = Vm.flat(vmm_dir, "t", COUNT)
    other = Vm(vmm_dir, "t")
    with vm.running():
        wait_for(lambda: other.get(0) > 0)
        ok(lib.vm_pause(other.handle))
        before = other.get(0)
        time.sleep(0.05)
        assert other.get(0) == before
        ok(lib.vm_unpause(other.handle))
        wait_for(lambda: other.get(0) > before)
    other.close()
    vm.close()


@pytest.mark.parametrize(
    "source", [COUNT, "1: wfi\n b 1b", "1: wfe\n b 1b", "msr daifset, #15\n1: wfi\n b 1b"]
)
def test_suspend_ends_a_run_at_once(vmm_dir: Path, source: str) -> None:
    """Whatever the guest does, suspension comes out of vm_run() within 0.2 s."""
    vm = Vm.flat(vmm_dir, "t", source)
    vm.vgic()
    with vm.running() as exits:
        time.sleep(0.05)
        assert not exits
        start = time.monotonic()
        ok(lib.vm_suspend(vm.handle, lib.VM_SUSPEND_HALT))
        wait_for(lambda: bool(exits))
        assert time.monotonic() - start < 0.2
    assert (exits[0].exitcode, exits[0].how) == (EXIT_SUSPENDED, lib.VM_SUSPEND_HALT)
    assert lib.vm_suspend(vm.handle, lib.VM_SUSPEND_HALT) == errno.EALREADY
    assert lib.vm_suspend(vm.handle, 9) == errno.EINVAL
    vm.close()


def test_wfi_sleeps_without_waking_up(vmm_dir: Path) -> None:
    """A vCPU in WFI with nothing to come costs no processor time and no wake-ups."""
    vm = Vm.flat(vmm_dir, "t", "1: wfi\n b 1b")
    vm.vgic()
    with vm.running():
        wait_for(lambda: vm.stat("number of times the vcpu slept") > 0)
        time.sleep(0.05)
        slept = vm.stat("number of times the vcpu slept")
        cpu = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - cpu < 0.05
        assert vm.stat("number of times the vcpu slept") <= slept + 1
    vm.close()


def test_debug_set(vmm_dir: Path) -> None:
    """A vCPU put in the debug set says so once, then waits until it is resumed."""
    vm = Vm.flat(vmm_dir, "t", COUNT)
    with vm.running() as exits:
        wait_for(lambda: vm.get(0) > 0)
        ok(lib.vm_suspend_cpu(vm.handle, 0))
        wait_for(lambda: bool(exits))
        time.sleep(0.05)
        assert [e.exitcode for e in exits] == [EXIT_DEBUG]
        before = vm.get(0)
        time.sleep(0.02)
        assert vm.get(0) == before
        ok(lib.vm_resume_cpu(vm.handle, 0))
        wait_for(lambda: vm.get(0) > before)
        assert lib.vm_resume_cpu(vm.handle, 0) == errno.EINVAL
    vm.close()


def test_run_needs_the_runner_and_one_thread(vmm_dir: Path) -> None:
    """vm_run() is EINVAL before activation, EBUSY while the vCPU runs elsewhere."""
    vm = Vm.create(vmm_dir, "t", maxcpus=2)
    vm.ram(1 << 20)
    vm.write(RAM, b"\x00\x00\x00\x14")
    vme = ffi.new("struct vm_exit *")
    assert lib.vm_run(vm.handle, 0, vme) == errno.EINVAL
    vm.start()
    assert lib.vm_run(vm.handle, 1, vme) == errno.EINVAL
    with vm.running():
        wait_for(lambda: vm.stat("total number of vm exits") > 0)
        assert lib.vm_run(vm.handle, 0, vme) == errno.EBUSY
    vm.close()


def test_doorbell_stays_in_the_core(vmm_dir: Path) -> None:
    """A matching write signals the eventfd; another value or size comes to userland."""
    vm = Vm.flat(
        vmm_dir,
        "t",
        "mov x9, #0x5000\n mov w1, #3\n str w1, [x9]\n mov w1, #4\n str w1, [x9]\n hvc #0",
    )
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    ok(lib.vm_doorbell_add(vm.handle, 0x5000, 4, False, 3, fd))
    seen = []
    vm.run_until_hvc(lambda e: seen.append((e.gpa, e.data)))
    assert seen == [(0x5000, 4)]
    assert os.eventfd_read(fd) == 1
    ok(lib.vm_doorbell_del(vm.handle, 0x5000, fd))
    assert lib.vm_doorbell_del(vm.handle, 0x5000, fd) == errno.ENOENT
    os.close(fd)
    vm.close()


def test_doorbells_that_are_refused(vmm_dir: Path) -> None:
    """No such width, nobody to hear it, twice the same, more than there is room for."""
    vm = Vm.create(vmm_dir, "t")
    fd = os.eventfd(0, os.EFD_NONBLOCK)

    def add(gpa: int, size: int, fd: int, value: int = 0) -> int:
        return int(lib.vm_doorbell_add(vm.handle, gpa, size, False, value, fd))

    assert [add(0x5000, size, fd) for size in (0, 3, 5, 16, -1)] == [errno.EINVAL] * 5
    assert add(0x5000, 4, -1) == errno.EINVAL
    assert [add(0x5000 + 16 * size, size, fd) for size in (1, 2, 4, 8)] == [0] * 4
    assert add(0x5040, 4, fd) == errno.EEXIST
    assert add(0x5040, 4, fd, 1) == 0
    rest = [add(0x6000 + 8 * i, 4, fd) for i in range(lib.VM_MAX_DOORBELLS)]
    assert rest == [0] * (len(rest) - 5) + [errno.ENOSPC] * 5
    os.close(fd)
    vm.close()


def test_setting_the_pc_drops_a_pending_access(vmm_dir: Path) -> None:
    """After userland moved the PC the interrupted load is forgotten."""
    vm = Vm.flat(vmm_dir, "t", "mov x9, #0x5000\n ldr x1, [x9]\n hvc #0")
    vme = vm.run()
    vm.set(PC, RAM + 8)
    vme.data = 99
    assert vm.run(vme).exitcode == EXIT_SMCCC
    assert vm.get(1) == 0
    vm.close()


def test_general_registers_are_checked(vmm_dir: Path) -> None:
    """Unknown numbers and a PSTATE that names EL2 or AArch32 are refused."""
    vm = Vm.flat(vmm_dir, "t", "b .")
    val = ffi.new("uint64_t *")
    assert lib.vm_get_register(vm.handle, 0, 50, val) == errno.EINVAL
    assert lib.vm_get_register(vm.handle, 1, 0, val) == errno.EINVAL
    for cpsr in (0x3C9, 0x3C8, 0x10, 0x3C1):
        assert lib.vm_set_register(vm.handle, 0, 33, cpsr) == errno.EINVAL
    name, reg = ffi.new("char[32]"), ffi.new("int *")
    names = set()
    while lib.vm_sysreg_info(len(names), name, reg) == 0:
        names.add(ffi.string(name).decode())
        ok(lib.vm_get_register(vm.handle, 0, reg[0], val))
    assert {"SCTLR_EL1", "TTBR1_EL1", "SP_EL0", "VBAR_EL1", "CNTV_CTL_EL0", "CNTKCTL_EL1"} <= names
    vm.close()


def test_four_vcpus_run_at_once(vmm_dir: Path) -> None:
    """Each vCPU has its own registers and MPIDR and sees the others' stores."""
    source = """
        mrs x1, mpidr_el1
        and x1, x1, #0xff
        add x2, x20, x1, lsl #3
    1:  ldr x3, [x2]
        add x3, x3, #1
        str x3, [x2]
        b 1b
    """
    vm = Vm.create(vmm_dir, "t", maxcpus=4)
    vm.ram(16 << 20)
    vm.write(RAM, assemble(source))
    vm.start(cpus=4)
    threads = []
    for i in range(4):
        vm.set(20, RAM + 0x100000, vcpu=i)
        vme = ffi.new("struct vm_exit *")
        threads.append(threading.Thread(target=lib.vm_run, args=(vm.handle, i, vme)))
        threads[-1].start()
    wait_for(lambda: all(vm.read64(RAM + 0x100000 + 8 * i) > 1000 for i in range(4)))
    ok(lib.vm_suspend(vm.handle, lib.VM_SUSPEND_POWEROFF))
    for t in threads:
        t.join(5)
        assert not t.is_alive()
    vm.close()
