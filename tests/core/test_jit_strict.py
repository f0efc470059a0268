"""Code that a guest modifies without IC IVAU: with jit.strict it is seen at once.

By the same vCPU in another page, in the page that it runs in, and in the straight line
that it runs; by every kind of store; and by another vCPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from vmm_guest import CPACR_EL1, EXIT_SMCCC, MIB, RAM, Vm, lib, wait_for

ROUNDS = 2000
HANDOVERS = 300  # to another vCPU, which may have to wait for a host CPU
SUM = ROUNDS * (ROUNDS - 1) // 2
TABLE = RAM + 15 * MIB
JIT, STRICT = int(lib.VMM_JIT_ON), int(lib.VMM_JIT_STRICT)
SECONDS = 60

# How `mov x0, #round` (w6; with the RET behind it x9) gets to x4.
STORES = {
    "str": "str w6, [x4]",
    "post": "mov x8, x4\n str w6, [x8], #8\n sub x8, x8, #8\n sub x8, x8, x4\n cbnz x8, bad",
    "pair": "lsr x8, x9, #32\n stp w6, w8, [x4]",
    "release": "stlr w6, [x4]",
    "exclusive": "7: ldxr w8, [x4]\n stxr w8, w6, [x4]\n cbnz w8, 7b",
    "swap": "swp w6, w8, [x4]",
    "vector": "fmov d0, x9\n str d0, [x4]",
    "lane": "fmov s0, w6\n st1 {v0.s}[0], [x4]",
    "bytes": "strb w6, [x4]\n lsr w8, w6, #8\n strb w8, [x4, #1]\n lsr w8, w6, #16\n"
    "strb w8, [x4, #2]\n lsr w8, w6, #24\n strb w8, [x4, #3]",
    # A loop that the translator keeps in one block.
    "copy": "str x9, [x11]\n mov x12, x11\n mov x13, x4\n mov x14, #8\n"
    "8: ldrb w8, [x12], #1\n strb w8, [x13], #1\n subs x14, x14, #1\n b.ne 8b",
}
# Where the function lies; 8 bytes from 0xffc on are in two pages.
PLACES = {"same page": "", "other page": ".balign 4096", "two pages": ".balign 4096\n.skip 4092"}
HEAD = """
    mov x2, #0
    mov x3, #0
    adr x4, f
    adr x11, data
    mov w7, #0xd2800000
    movz x10, #0xd65f, lsl #48
    movk x10, #0x03c0, lsl #32
1:  orr w6, w7, w3, lsl #5
    orr x9, x10, x6
"""
TAIL = f"""
    add x2, x2, x0
    add x3, x3, #1
    mov x0, #{ROUNDS}
    cmp x3, x0
    b.ne 1b
    hvc #0
bad: hvc #1
"""


@contextmanager
def engine(flags: int) -> Iterator[None]:
    lib.vmm_set_jit(flags, 0)
    try:
        yield
    finally:
        lib.vmm_set_jit(0, 0)


def total(directory: Path, flags: int, source: str) -> int:
    """x2 at the end."""
    with engine(flags):
        vm = Vm.flat(directory, "t", source)
        vm.mmu_on(TABLE)
        vm.set(CPACR_EL1, 3 << 20)
        vme = vm.run_until_hvc()
        assert (vme.exitcode, vme.esr & 0xFFFF) == (EXIT_SMCCC, 0)
        out = vm.get(2)
        vm.close()
    return out


def calls(store: str, place: str) -> str:
    function = f"{PLACES[place]}\nf: mov x0, #0\n ret"
    data = ".balign 4096\n.skip 2048\ndata: .quad 0"
    return f"{HEAD}\n{STORES[store]}\n bl f\n{TAIL}\n{function}\n{data}"


@pytest.mark.parametrize("flags", [JIT | STRICT, STRICT], ids=["jit", "interpreter"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("store", STORES)
def test_the_next_call_runs_what_was_stored(
    vmm_dir: Path, store: str, place: str, flags: int
) -> None:
    """A function is overwritten and called, a few thousand times, without maintenance."""
    assert total(vmm_dir, flags, calls(store, place)) == SUM


@pytest.mark.parametrize("flags", [JIT | STRICT, STRICT], ids=["jit", "interpreter"])
def test_the_next_instruction_is_what_was_stored(vmm_dir: Path, flags: int) -> None:
    """The instruction behind the store is the one that it stores."""
    source = f"{HEAD}\n str w6, [x4]\nf: mov x0, #0\n{TAIL}\ndata: .quad 0"
    assert total(vmm_dir, flags, source) == SUM


@pytest.mark.parametrize("flags", [JIT, 0], ids=["jit", "interpreter"])
def test_without_it_old_code_may_run(vmm_dir: Path, flags: int) -> None:
    """The same program sees old instructions by default: the tests above can fail."""
    assert total(vmm_dir, flags, calls("str", "other page")) != SUM


@pytest.mark.parametrize("flags", [JIT | STRICT, STRICT], ids=["jit", "interpreter"])
@pytest.mark.parametrize("place", ["same page", "other page"])
def test_another_vcpu_runs_what_was_stored(vmm_dir: Path, place: str, flags: int) -> None:
    """One vCPU stores the instruction and then says so; the other sees that, and runs it."""
    source = f"""
        mrs x8, mpidr_el1
        and x8, x8, #0xff
        adr x11, data
        cbnz x8, runner
        {HEAD}
        str w6, [x4]
        add x12, x3, #1
        stlr x12, [x11]
    2:  ldr x13, [x11, #8]
        cmp x13, x12
        b.ne 2b
        mov x0, x3
        {TAIL.replace(str(ROUNDS), str(HANDOVERS))}
    runner:
        mov x2, #0
        mov x3, #1
    3:  ldar x12, [x11]
        cmp x12, x3
        b.ne 3b
        isb
        bl f
        add x2, x2, x0
        str x3, [x11, #8]
        add x3, x3, #1
        mov x0, #{HANDOVERS + 1}
        cmp x3, x0
        b.ne 3b
        hvc #0
        {PLACES[place]}
    f:  mov x0, #0
        ret
        .balign 4096
        .skip 2048
    data: .quad 0, 0
    """
    with engine(flags):
        vm = Vm.pair(vmm_dir, "t", source, TABLE)
        with vm.running(vcpu=1) as exits:
            assert vm.run_until_hvc().exitcode == EXIT_SMCCC
            wait_for(lambda: bool(exits), SECONDS)
            want = HANDOVERS * (HANDOVERS - 1) // 2
            assert [e.exitcode for e in exits] == [EXIT_SMCCC]
            assert (vm.get(2), vm.get(2, vcpu=1)) == (want, want)
        vm.close()
