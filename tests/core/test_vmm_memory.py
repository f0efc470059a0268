"""Guest memory: segments, stage-2 tables, page-in, protection, dirty log."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from vmm_guest import (
    EXIT_PAGING,
    EXIT_SMCCC,
    EXIT_SUSPENDED,
    MIB,
    PC,
    RAM,
    RWX,
    Vm,
    assemble,
    ffi,
    lib,
    ok,
    sysreg,
    wait_for,
)

VALID, AP_R, AP_W, AF = 1, 1 << 6, 1 << 7, 1 << 10
OA = 0x0000FFFFFFFFF000
PAR_EL1 = sysreg(3, 0, 7, 4, 0)


def pte(vm: Vm, gpa: int) -> tuple[int, int] | None:
    """Stage-2 descriptor and level, or None while nothing is mapped."""
    val, level = ffi.new("uint64_t *"), ffi.new("int *")
    error = lib.vm_get_gpa_pmap(vm.handle, gpa, val, level)
    assert error in (0, errno.ENOENT)
    return None if error else (int(val[0]), int(level[0]))


# Touch the page in x0 (write x1), then call.
TOUCH = "1: str x1, [x0]\n ldr x2, [x0]\n hvc #0\n b 1b"


def touch(vm: Vm, gpa: int, value: int = 0x5A) -> None:
    vm.set(0, gpa)
    vm.set(1, value)
    assert vm.run().exitcode == EXIT_SMCCC
    assert vm.get(2) == value


def test_page_in_maps_2_mib_blocks(vmm_dir: Path) -> None:
    """A first touch allocates a chunk of the file and maps it with one block."""
    vm = Vm.flat(vmm_dir, "t", TOUCH, size=16 * MIB)
    file = vmm_dir / "t" / "sysmem"
    before = file.stat().st_blocks * 512
    assert pte(vm, RAM + 6 * MIB) is None
    touch(vm, RAM + 7 * MIB)
    desc, level = pte(vm, RAM + 7 * MIB) or (0, 0)
    assert (level, desc & 3) == (2, 1)
    assert desc & (AF | AP_R | AP_W) == AF | AP_R | AP_W
    assert desc & OA == (1 << 42) + 6 * MIB
    assert file.stat().st_blocks * 512 - before == 2 * MIB
    assert vm.read64(RAM + 7 * MIB) == 0x5A
    assert pte(vm, RAM + 8 * MIB) is None
    vm.close()


def test_small_and_unaligned_ram_uses_pages(vmm_dir: Path) -> None:
    """Where a block does not fit, or does not line up with the file, pages are mapped."""
    vm = Vm.create(vmm_dir, "t")
    vm.ram(MIB)
    ok(lib.vm_alloc_memseg(vm.handle, 1, 4 * MIB, False))
    ok(lib.vm_mmap_memseg(vm.handle, RAM + 8 * MIB, 1, 4096, 3 * MIB, RWX))
    vm.write(RAM, assemble(TOUCH))
    vm.start()
    touch(vm, RAM + 0x8000)
    touch(vm, RAM + 8 * MIB)
    assert (pte(vm, RAM + 0x8000) or (0, 0))[1] == 3
    desc, level = pte(vm, RAM + 8 * MIB) or (0, 0)
    assert (level, desc & OA) == (3, (2 << 42) + 4096)
    vm.close()


def test_reserved_ram_uses_1_gib_blocks(vmm_dir: Path) -> None:
    """RAM whose whole gibibyte has its blocks is mapped with one level-1 descriptor."""
    statvfs = os.statvfs(vmm_dir)
    if statvfs.f_bavail * statvfs.f_frsize < 3 << 30:
        pytest.skip("less than 3 GiB of room in /dev/shm")
    vm = Vm.create(vmm_dir, "t")
    vm.ram(1 << 30, reserve=True)
    vm.write(RAM, assemble(TOUCH))
    vm.start()
    touch(vm, RAM + 600 * MIB)
    desc, level = pte(vm, RAM + 600 * MIB) or (0, 0)
    assert (level, desc & OA) == (1, 1 << 42)
    # A hole splits it, and what is left stays mapped.
    ok(lib.vm_munmap_memseg(vm.handle, RAM + 600 * MIB, 4096))
    assert pte(vm, RAM + 600 * MIB) is None
    assert (pte(vm, RAM + 600 * MIB + 4096) or (0, 0))[1] == 3
    assert (pte(vm, RAM + 602 * MIB) or (0, 0))[1] == 2
    vm.close()


def test_unmap_under_a_running_guest(vmm_dir: Path) -> None:
    """After vm_munmap_memseg() returns no store of the guest reaches the memory."""
    source = "1: add x1, x1, #1\n str x1, [x0]\n b 1b"
    vm = Vm.flat(vmm_dir, "t", source, mmu=True)
    vm.set(0, RAM + 4 * MIB)
    raw = vmm_dir / "t" / "sysmem"

    def word() -> int:
        with raw.open("rb") as f:
            f.seek(4 * MIB)
            return int.from_bytes(f.read(8), "little")

    with vm.running() as exits:
        wait_for(lambda: word() > 0)
        ok(lib.vm_munmap_memseg(vm.handle, RAM + 4 * MIB, 2 * MIB))
        frozen = word()
        time.sleep(0.05)
        assert word() == frozen
        wait_for(lambda: bool(exits))
        assert exits[0].exitcode == 1
        assert exits[0].gpa == RAM + 4 * MIB
    vm.close()


def test_map_again_shows_the_new_memory(vmm_dir: Path) -> None:
    """A range mapped elsewhere is reached at its new place, not through a stale TLB."""
    vm = Vm.flat(vmm_dir, "t", TOUCH, mmu=True)
    gpa = RAM + 4 * MIB
    touch(vm, gpa, 0x11)
    ok(lib.vm_munmap_memseg(vm.handle, gpa, 2 * MIB))
    ok(lib.vm_mmap_memseg(vm.handle, gpa, 0, 8 * MIB, 2 * MIB, RWX))
    touch(vm, gpa, 0x22)
    assert vm.read64(RAM + 8 * MIB) == 0x22
    assert lib.vm_mmap_memseg(vm.handle, gpa, 0, 0, 4096, RWX) == errno.EEXIST
    assert lib.vm_mmap_memseg(vm.handle, gpa, 0, 8 * MIB, 2 * MIB, RWX) == 0
    vm.close()


def test_protected_memory(vmm_dir: Path) -> None:
    """A write to what vm_protect() made read-only is a PAGING exit; reads go on."""
    vm = Vm.flat(vmm_dir, "t", TOUCH, mmu=True)
    gpa = RAM + 4 * MIB
    touch(vm, gpa)
    ok(lib.vm_protect(vm.handle, gpa, 4096, 1))
    touch(vm, gpa + 4096)
    vm.set(0, gpa)
    vme = vm.run()
    assert (vme.exitcode, vme.gpa, vme.dir) == (EXIT_PAGING, gpa, 1)
    ok(lib.vm_protect(vm.handle, gpa, 4096, 7))
    touch(vm, gpa, 0x99)
    assert lib.vm_protect(vm.handle, 0x5000, 4096, 1) == errno.EFAULT
    vm.close()


@pytest.mark.parametrize("vhe", [0, 1], ids=["nvhe", "vhe"])
def test_a_permission_fault_asks_stage_1_unseen(vmm_dir: Path, vhe: int) -> None:
    """HPFAR_EL2 is not valid then: AT finds the address, and the guest keeps its PAR_EL1."""
    vm = Vm.flat(vmm_dir, "t", TOUCH, mmu=True, vhe=vhe)
    gpa, par = RAM + 4 * MIB, 0x123456789A000
    touch(vm, gpa)
    ok(lib.vm_protect(vm.handle, gpa, 4096, 1))
    vm.set(PAR_EL1, par)
    vm.set(0, gpa + 8)
    vme = vm.run()
    assert (vme.exitcode, vme.gpa, vme.hpfar) == (EXIT_PAGING, gpa + 8, gpa >> 8)
    assert vm.get(PAR_EL1) == par
    vm.close()


def dirty(vm: Vm, gpa: int, size: int) -> set[int]:
    pages = size // 4096
    bitmap = ffi.new("uint8_t[]", (pages + 7) // 8)
    ok(lib.vm_dirty_log_get(vm.handle, gpa, size, bitmap, len(bitmap)))
    return {i for i in range(pages) if bitmap[i // 8] >> (i % 8) & 1}


def test_dirty_log(vmm_dir: Path) -> None:
    """The log names exactly the pages written since it was read, by guest or host."""
    vm = Vm.flat(vmm_dir, "t", TOUCH, mmu=True)
    base, size = RAM + 4 * MIB, 8 * MIB
    touch(vm, base)
    ok(lib.vm_dirty_log_start(vm.handle, base, size))
    assert dirty(vm, base, size) == set()
    touch(vm, base)
    touch(vm, base + 5 * 4096 + 8)
    touch(vm, base + 6 * MIB)
    vm.write(base + 3 * MIB, b"host")
    assert dirty(vm, base, size) == {0, 5, 6 * 256, 3 * 256}
    assert dirty(vm, base, size) == set()
    touch(vm, base)
    touch(vm, base + 3 * MIB)
    assert dirty(vm, base, size) == {0, 3 * 256}
    vm.close()


def test_dirty_log_of_dma(vmm_dir: Path) -> None:
    """What a device wrote is logged when it says so, and costs nothing without a log."""
    vm = Vm.flat(vmm_dir, "t", TOUCH, mmu=True)
    base, size = RAM + 4 * MIB, 8 * MIB
    assert not lib.vm_dirty_logging(vm.handle)
    ok(lib.vm_dirty_log_start(vm.handle, base, size))
    assert lib.vm_dirty_logging(vm.handle)
    ok(lib.vm_dma_written(vm.handle, base + 4096 * 7 + 4095, 2))
    ok(lib.vm_dma_written(vm.handle, base - 4096, 4096))
    ok(lib.vm_dma_written(vm.handle, base, 0))
    assert dirty(vm, base, size) == {7, 8}
    assert lib.vm_dma_written(vm.handle, 0xFFFFFFFFFFFFFFFF, 2) == errno.EINVAL
    vm.close()


TRUNCATE = """
import os, sys
from bhyvepy._vmmcore import lib
from bhyvepy.vmmapi import VM
vm = VM.create("t")
vm.setup_memory(0x80000000, 4 << 20)
view = vm.memory.view(0x80000000, 4 << 20, True)
view[0] = 1
os.truncate(os.path.join(os.environ["BHYVEPY_VMMDIR"], "t", "sysmem"), 0)
if sys.argv[1] == "bare":
    for segment in vm.memory._segments.values():
        segment._guard()
assert lib.vm_memory_lost() == 0
view[1 << 20] = 1
print(os.strerror(lib.vm_memory_lost()))
"""


@pytest.mark.parametrize(
    ("how", "end"), [("guarded", (0, "Input/output error\n")), ("bare", (-7, ""))]
)
def test_f21_truncated_under_a_device(vmm_dir: Path, how: str, end: tuple[int, str]) -> None:
    """F21: a device that touches truncated memory leaves a mark, where it would be killed."""
    env = {**os.environ, "BHYVEPY_VMMDIR": str(vmm_dir)}
    if "ASAN_OPTIONS" in env:  # which would report what kills the bare one
        env["ASAN_OPTIONS"] += ":handle_sigbus=0"
    done = subprocess.run(
        [sys.executable, "-c", TRUNCATE, how], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == end, done.stderr


def test_descriptor_edit_and_tlbi(vmm_dir: Path) -> None:
    """The PE follows the tables in memory: an edited descriptor counts after a TLBI."""
    vm = Vm.flat(vmm_dir, "t", TOUCH, mmu=True)
    touch(vm, RAM + 6 * MIB, 0x66)
    touch(vm, RAM + 4 * MIB, 0x44)  # the last one: it is in the TLB
    # Exchange the two 2 MiB blocks by hand in the stage-2 segment.
    with (vmm_dir / "t" / "stage2").open("r+b") as f:
        root = f.read(8192)
        l1 = int.from_bytes(root[(RAM >> 30) * 8 :][:8], "little")
        table = (l1 & OA) - (5 << 42)
        at = [table + 8 * ((RAM + off >> 21) & 511) for off in (4 * MIB, 6 * MIB)]
        entries = []
        for a in at:
            f.seek(a)
            entries.append(f.read(8))
        for a, e in zip(at, reversed(entries), strict=True):
            f.seek(a)
            f.write(e)
    # Any operation that makes stage 2 stricter ends with a TLBI on every vCPU.
    ok(lib.vm_munmap_memseg(vm.handle, RAM + 8 * MIB, 2 * MIB))
    vm.write(RAM + 0x1000, assemble("ldr x2, [x0]\n hvc #0"))
    vm.set(0, RAM + 4 * MIB)
    vm.set(PC, RAM + 0x1000)
    assert vm.run().exitcode == EXIT_SMCCC
    assert vm.get(2) == 0x66
    vm.close()


def test_bad_segments_and_mappings(vmm_dir: Path) -> None:
    """Bad segments and mappings are refused by name of the error."""
    vm = Vm.create(vmm_dir, "t")
    assert lib.vm_alloc_memseg(vm.handle, 0, 0, False) == errno.EINVAL
    assert lib.vm_alloc_memseg(vm.handle, 0, 4097, False) == errno.EINVAL
    assert lib.vm_alloc_memseg(vm.handle, 9, 4096, False) == errno.EINVAL
    length = ffi.new("uint64_t *")
    for segid in (-1, -100, lib.VM_MAX_MEMSEGS):
        assert lib.vm_alloc_memseg(vm.handle, segid, 4096, False) == errno.EINVAL
        assert lib.vm_get_memseg(vm.handle, segid, length) == errno.EINVAL
    assert lib.vm_alloc_memseg(vm.handle, 0, 1 << 45, False) == errno.ENOMEM
    assert lib.vm_alloc_memseg(vm.handle, 0, 1 << 38, True) == errno.ENOSPC
    ok(lib.vm_alloc_memseg(vm.handle, 1, MIB, False))
    assert lib.vm_alloc_memseg(vm.handle, 1, 2 * MIB, False) == errno.EINVAL
    for gpa, off, length in (
        (1, 0, 4096),
        (0, 1, 4096),
        (0, 0, 100),
        (0, MIB, 4096),
        (0, 0, 2 * MIB),
        (1 << 40, 0, 4096),
        ((1 << 40) - 4096, 0, 8192),
    ):
        assert lib.vm_mmap_memseg(vm.handle, gpa, 1, off, length, RWX) == errno.EINVAL
    for gpa, off, length, prot in (
        (0, 0, 0, RWX),
        (0, 2 * MIB, 4096, RWX),
        ((1 << 40) + 0x10000, 0, 4096, RWX),
        (0, 0, 4096, 0),
        (0, 0, 4096, 8 | RWX),
    ):
        assert lib.vm_mmap_memseg(vm.handle, gpa, 1, off, length, prot) == errno.EINVAL
    pte, level = ffi.new("uint64_t *"), ffi.new("int *")
    assert lib.vm_get_gpa_pmap(vm.handle, 1 << 40, pte, level) == errno.EINVAL
    buf = ffi.new("uint8_t[16]")
    ok(lib.vm_mmap_memseg(vm.handle, 0x10000, 1, 0, MIB, RWX))
    assert lib.vm_copyin(vm.handle, 0x10000 + MIB - 8, buf, 16) == errno.EFAULT
    assert lib.vm_copyin(vm.handle, (1 << 64) - 8, buf, 16) == errno.EFAULT
    assert lib.vm_copyin(vm.handle, 0x10000 + MIB - 16, buf, 16) == 0
    vm.close()


def test_stage_1_walk(vmm_dir: Path) -> None:
    """vm_gla2gpa() follows the guest's tables with their permissions."""
    vm = Vm.flat(vmm_dir, "t", "b .")
    l1, l2, l3 = RAM + 0x10000, RAM + 0x11000, RAM + 0x12000

    def put(gpa: int, value: int) -> None:
        vm.write(gpa, value.to_bytes(8, "little"))

    put(l1 + 8 * 1, l2 | 3)  # VA 1 GiB
    put(l2 + 8 * 2, RAM | 0x401)  # 2 MiB block, EL1 read-write
    put(l2 + 8 * 3, l3 | 3)
    put(l3 + 8 * 4, RAM + 0x5000 | 0x4C3)  # page, EL0 too, read-only
    vm.set(35, l1)
    vm.set(37, 25 | 25 << 16 | 2 << 30)
    gpa, fault = ffi.new("uint64_t *"), ffi.new("int *")

    def walk(va: int, prot: int = 1) -> int | None:
        ok(lib.vm_gla2gpa(vm.handle, 0, va, prot, gpa, fault))
        return None if fault[0] else int(gpa[0])

    assert walk(0x1234) == 0x1234, "MMU off: identity"
    vm.set(34, 0x30D00821)
    base = 1 << 30
    assert walk(base + 2 * (2 << 20) + 0x123) == RAM + 0x123
    assert walk(base + 3 * (2 << 20) + 0x4567) == RAM + 0x5567
    assert walk(base + 3 * (2 << 20) + 0x4567, 2) is None
    assert walk(base) is None
    assert walk(1 << 39) is None
    vm.set(33, 0x3C0)  # EL0
    assert walk(base + 2 * (2 << 20)) is None
    assert walk(base + 3 * (2 << 20) + 0x4000) == RAM + 0x5000
    vm.close()


COUNTER = "1: ldr x2, [x0]\n add x2, x2, #1\n str x2, [x0]\n hvc #0\n b 1b"


def counter_vm(directory: Path, i: int) -> Vm:
    """A VM that counts in its memory, from i << 32, with caches and MMU on: TLBs are used."""
    vm = Vm.create(directory, f"v{i}", vmid_bits=8)
    vm.ram(MIB)
    vm.write(RAM, assemble(COUNTER))
    vm.start()
    vm.set(0, RAM + 0x8000)
    vm.write(RAM + 0x8000, (i << 32).to_bytes(8, "little"))
    vm.mmu_on(RAM + 0xC000)
    return vm


def test_three_hundred_vms_with_8_bit_vmids(vmm_dir: Path) -> None:
    """More VMs than VMIDs, in turns in one process: each sees its own memory only."""
    vms = [counter_vm(vmm_dir, i) for i in range(300)]
    for turn in range(1, 4):
        for i, vm in enumerate(vms):
            assert vm.run().exitcode == EXIT_SMCCC
            assert vm.get(2) == (i << 32) + turn
    for i, vm in enumerate(vms):
        assert vm.read64(RAM + 0x8000) == (i << 32) + 3
        vm.close()


def test_a_vmid_used_again_finds_no_old_translation(vmm_dir: Path) -> None:
    """254 VMs take VMIDs without entering a guest, so that all others get the same one."""
    idle = [Vm.flat(vmm_dir, f"i{i}", "hvc #0", size=MIB, vmid_bits=8) for i in range(254)]
    for vm in idle:
        ok(lib.vm_suspend(vm.handle, lib.VM_SUSPEND_HALT))
    vms = [counter_vm(vmm_dir, i) for i in range(3)]
    for turn in range(1, 5):
        for i, vm in enumerate(vms):
            assert vm.run().exitcode == EXIT_SMCCC
            assert vm.get(2) == (i << 32) + turn
            for other in idle:
                assert other.run().exitcode == EXIT_SUSPENDED
    for vm in (*vms, *idle):
        vm.close()


def test_no_room_for_guest_memory(tmp_path: Path) -> None:
    """A guest that touches what the file system has no room for ends vm_run() with ENOSPC."""
    program = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from vmm_guest import *
vm = Vm.flat(Path(sys.argv[1]), "t", "1: str x0, [x0]\\n add x0, x0, #4096\\n b 1b", size=64 * MIB)
vm.set(0, RAM + 4096)
vme = ffi.new("struct vm_exit *")
print(lib.vm_run(vm.handle, 0, vme), (vm.get(0) - RAM) // MIB < 16)
with open(sys.argv[1] + "/fill", "wb", buffering=0) as f:
    try:
        while True:
            f.write(bytes(4096))
    except OSError:
        pass
print(lib.vm_create(sys.argv[1].encode(), b"u", ffi.NULL))
import os; print(sorted(os.listdir(sys.argv[1])))
"""
    script = f"mount -t tmpfs -o size=12m,mode=700 none {tmp_path} && exec {sys.executable} - "
    argv = ["unshare", "-rm", "sh", "-c", f"{script} {tmp_path} {Path(__file__).parent}"]
    if subprocess.run([*argv[:2], "true"], check=False).returncode != 0:
        pytest.skip("no user namespaces here")
    done = subprocess.run(
        argv,
        input=program,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == f"{errno.ENOSPC} True\n{errno.ENOSPC}\n['fill', 't']\n", done.stderr
