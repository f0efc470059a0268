"""Room for translated code: what is full makes room, and what has to go is not run again.

A program whose code is many times larger than the room calls its functions in an order
that repeats late. Its sum must be the interpreter's, whatever was translated how often.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmm_guest import CPACR_EL1, EXIT_SMCCC, MIB, RAM, Vm, lib, wait_for

FUNCTIONS, CALLS = 600, 30000
INVALIDATIONS = 100
TABLE = RAM + 15 * MIB
EVICTIONS = "blocks of translated code that made room for others"
DROPS = "times that all translated code was dropped"
BLOCKS = "blocks of code translated"
BYTES = "bytes of host code made of them"
ON = int(lib.VMM_JIT_ON)


@contextmanager
def translator(flags: int, memory: int = 0) -> Iterator[None]:
    lib.vmm_set_jit(flags, memory)
    try:
        yield
    finally:
        lib.vmm_set_jit(0, 0)


def arithmetic(rng: random.Random, count: int) -> str:
    """Changes of x0 by x1."""
    kinds = (
        "add x0, x0, #{n}",
        "eor x0, x0, x0, ror #{s}",
        "madd x0, x0, x1, x0",
        "sub x0, x0, x1, lsl #{s}",
        "adds x0, x0, x1",
        "cinc x0, x0, ne",
    )
    lines = [rng.choice(kinds) for _ in range(count)]
    return "\n".join(k.format(n=rng.randrange(4096), s=rng.randrange(1, 63)) for k in lines)


def program() -> str:
    """Functions with loops, ways that part, and calls of others, called at random."""
    rng = random.Random(1)
    parts = [
        f"""
        mov x0, #1
        movz x1, #0x4f2d, lsl #16
        movk x1, #0x4c95
        movk x1, #0x5851, lsl #32
        mov x2, #{CALLS}
        mov x3, #17
        adr x4, table
    0:  madd x3, x3, x1, x1
        lsr x5, x3, #33
        mov x6, #{FUNCTIONS}
        udiv x7, x5, x6
        msub x5, x7, x6, x5
        ldrsw x5, [x4, x5, lsl #2]
        add x5, x5, x4
        blr x5
        subs x2, x2, #1
        b.ne 0b
        hvc #0
        """
    ]
    for n in range(FUNCTIONS):
        callee = rng.randrange(FUNCTIONS)
        parts.append(f"""
    f{n}: mov x28, x30
        mov x27, #{rng.randrange(1, 4)}
    1:  {arithmetic(rng, rng.randrange(4, 30))}
        subs x27, x27, #1
        b.ne 1b
        bl g{callee}
        tbz x0, #{rng.randrange(8)}, 2f
        {arithmetic(rng, rng.randrange(1, 8))}
        b 3f
    2:  {arithmetic(rng, 2)}
    3:  ret x28
    g{n}: {arithmetic(rng, rng.randrange(1, 12))}
        ret
        """)
    table = "\n".join(f".word f{n} - table" for n in range(FUNCTIONS))
    return "\n".join(parts) + f"\n.balign 4096\ntable:\n{table}\n"


def run(directory: Path, name: str) -> tuple[int, dict[str, int]]:
    vm = Vm.flat(directory, name, program())
    vm.mmu_on(TABLE)
    assert vm.run_until_hvc().exitcode == EXIT_SMCCC
    counted = {what: vm.stat(what) for what in (EVICTIONS, DROPS, BLOCKS)}
    out = vm.get(0)
    vm.close()
    return out, counted


def test_code_that_does_not_fit_runs_as_interpreted(vmm_dir: Path) -> None:
    """With room for a part of the code, blocks go and come again, and nothing else changes."""
    with translator(0):
        want, counted = run(vmm_dir, "interpreted")
    assert counted[BLOCKS] == 0
    with translator(ON):
        got, plenty = run(vmm_dir, "plenty")
    assert (got, plenty[EVICTIONS]) == (want, 0)
    assert plenty[BLOCKS] > FUNCTIONS
    for kib in (64, 80, 128, 512, 1024):
        with translator(ON, kib << 10):
            got, counted = run(vmm_dir, f"k{kib}")
        assert got == want, kib
        if kib < 512:
            assert counted[EVICTIONS] > 1000, (kib, counted)
        assert counted[BLOCKS] - counted[EVICTIONS] <= plenty[BLOCKS], (kib, counted)
        # All at once only at the start.
        assert counted[DROPS] < 10, (kib, counted)


def test_a_page_invalidated_line_by_line_takes_no_other_code(vmm_dir: Path) -> None:
    """IC IVAU for all lines of a page: what another vCPU runs elsewhere stays translated."""
    source = f"""
        mrs x8, mpidr_el1
        and x8, x8, #0xff
        adr x11, data
        cbnz x8, other
        mov x2, #{INVALIDATIONS}
    0:  ldr x3, [x11, #8]
        cbz x3, 0b
    1:  add x4, x11, #4096
        mov x5, #64
    2:  ic ivau, x4
        add x4, x4, #64
        subs x5, x5, #1
        b.ne 2b
        dsb ish
        isb
        subs x2, x2, #1
        b.ne 1b
        mov x3, #1
        stlr x3, [x11]
        hvc #0
    other:
        mov x3, #1
        str x3, [x11, #8]
    3:  ldar x3, [x11]
        cbz x3, 3b
        hvc #0
        .balign 4096
    data: .quad 0, 0
    """
    with translator(ON):
        vm = Vm.pair(vmm_dir, "t", source, TABLE)
        with vm.running(vcpu=1) as exits:
            assert vm.run_until_hvc().exitcode == EXIT_SMCCC
            wait_for(lambda: bool(exits), 60)
        assert vm.stat(DROPS, vcpu=1) < 10
        vm.close()


def test_an_addition_of_d1_is_not_a_change_of_x1(vmm_dir: Path) -> None:
    """Loops are translated alike whether or not their V registers have a base's number."""

    def code(d: int) -> int:
        vm = Vm.flat(
            vmm_dir,
            f"d{d}",
            f"""
            adr x1, data
            adr x2, data + 512
            mov x0, #60
        0:  ldr d{d}, [x1]
            fadd d{d}, d{d}, d{d}
            fcmp d{d}, d{d}
            fsqrt d{d + 1}, d{d}
            add x1, x1, #8
            str d{d + 1}, [x2]
            add x2, x2, #8
            subs x0, x0, #1
            b.ne 0b
            hvc #0
            .balign 4096
        data: .fill 1024
            """,
        )
        vm.mmu_on(TABLE)
        vm.set(CPACR_EL1, 3 << 20)
        assert vm.run_until_hvc().exitcode == EXIT_SMCCC
        size = vm.stat(BYTES)
        vm.close()
        return size

    with translator(ON):
        assert code(1) == code(11) > 0
