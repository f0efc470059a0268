"""Which guest code is hot: the table of PCs that a vCPU is seen at (vmm_hot.c)."""

from __future__ import annotations

from pathlib import Path

import pytest
from vmm_guest import RAM, Vm, ffi, lib, ok, wait_for

ROOM = 64


def hot(vm: Vm, room: int = ROOM) -> tuple[int, list[tuple[int, int, int]]]:
    """Samples, and (address, count, over)."""
    table, count = ffi.new("struct vm_hot[]", room), ffi.new("unsigned *", room)
    samples = ffi.new("uint64_t *")
    ok(lib.vm_get_hot(vm.handle, 0, count, table, samples))
    return int(samples[0]), [(h.pc, h.count, h.over) for h in table[0 : count[0]]]


@pytest.mark.parametrize("jit", [0, 1], ids=["interpreted", "translated"])
def test_the_hot_loop_is_first(vmm_dir: Path, jit: int) -> None:
    """Among more loops than the table holds, the one with most instructions; no count is lost."""
    lib.vmm_set_jit(jit, 0)
    cold = "mov x0, #0x20000\n 1: subs x0, x0, #1\n b.ne 1b"
    rounds = 80
    source = f"""
        mov x2, #{rounds}
        adr x3, colds
    next:
        blr x3
        mov x0, #0x60000
    hot:
        subs x0, x0, #1
        b.ne hot
        add x3, x3, #16
        subs x2, x2, #1
        b.ne next
        hvc #0
    colds:
        .rept {rounds}
        {cold}
        ret
        .endr
    """
    vm = Vm.flat(vmm_dir, "t", source, mmu=True)
    try:
        assert hot(vm) == (0, [])
        vm.run_until_hvc()
        samples, table = hot(vm)
        executed = vm.stat("guest instructions executed")
        assert executed > 50_000_000
        # One for eight slices, a little more when they do not end with a loop's round.
        assert executed / (8 * 8192) * 0.7 < samples <= executed / (8 * 8192)
        assert len(table) == ROOM
        assert sum(count for _, count, _ in table) == samples
        seen = [count - over for _, count, over in table]
        assert seen == sorted(seen, reverse=True)
        pc, count, over = table[0]
        assert pc == RAM + 16
        # Three quarters of all instructions are there.
        assert over <= samples / ROOM
        assert 0.65 * samples < count < 0.85 * samples
        assert hot(vm, 1) == (samples, table[:1])
        with pytest.raises(OSError, match="Invalid"):
            ok(lib.vm_get_hot(vm.handle, 64, ffi.new("unsigned *"), ffi.NULL, ffi.NULL))
    finally:
        lib.vmm_set_jit(0, 0)
        vm.close()


def test_counted_while_it_runs(vmm_dir: Path) -> None:
    """A guest that never leaves for userland is sampled and counted, for other processes too."""
    vm = Vm.flat(vmm_dir, "t", "b .", mmu=True)
    other = Vm(vmm_dir, "t")
    try:
        with vm.running():
            wait_for(lambda: hot(other)[0] > 20)
            before = other.stat("guest instructions executed")
            assert before >= 20 * 8 * 8192
            wait_for(lambda: other.stat("guest instructions executed") > before)
        assert [pc for pc, _, _ in hot(other)[1]] == [RAM]
    finally:
        other.close()
        vm.close()
