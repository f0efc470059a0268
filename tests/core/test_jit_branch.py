"""Indirect branches of translated code: where they lead, and what they must not find."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_jit_memory import ON, TABLE, translator
from vmm_guest import ESR_EL1, EXIT_SMCCC, FAR_EL1, Vm

PC_ALIGNMENT = 0x22  # EC of ESR_EL1


@pytest.mark.parametrize("how", ["br x1", "blr x1", "mov x30, x1\nret", "msr elr_el1, x1\neret"])
@pytest.mark.parametrize("target", [1, 2, 3, 4096 + 1, 1 << 24 | 1])
def test_a_branch_to_a_misaligned_address_is_a_fault(vmm_dir: Path, how: str, target: int) -> None:
    """Also to one that looks like the mark of an entry that holds nothing."""
    source = f"""
        b start
        .balign 4096 // the entry of address 1 is that of the first page
    start:
        mrs x0, ttbr0_el1 // with another ASID it was never filled
        orr x0, x0, #1 << 48
        msr ttbr0_el1, x0
        isb
        adr x0, vectors
        msr vbar_el1, x0
        mov x2, #40
    next:
        mov x3, #0x3c5
        msr spsr_el1, x3
        ldr x1, =0x{target:x}
        cbz x2, 1f
        {how}
    1:  hvc #0
        .balign 2048
    vectors:
        .skip 0x200
        sub x2, x2, #1
        adr x3, next
        br x3
        .ltorg
    """
    with translator(ON):
        vm = Vm.flat(vmm_dir, "t", source)
        vm.mmu_on(TABLE)
        assert vm.run_until_hvc().exitcode == EXIT_SMCCC
        assert (vm.get(ESR_EL1) >> 26, vm.get(FAR_EL1)) == (PC_ALIGNMENT, target)
        vm.close()
