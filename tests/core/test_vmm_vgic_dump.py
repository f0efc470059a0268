"""vm_get_vgic(): the interrupt controller as another process sees it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from vmm_guest import GICD, GICR, RAM, Vm, assemble, ffi, lib, ok, wait_for

from .gic_machine import Machine
from .its_machine import LPI, Its

SPI = 40
PRIORITY = 0xA0
ALL = 32 + 988

# A level-sensitive SPI and PPI 27; x20 lets it acknowledge, x21 says that it has.
GUEST = f"""
    ldr x9, ={GICD}
    mov w0, #2
    str w0, [x9]
    mov w0, #{PRIORITY}
    strb w0, [x9, #{0x400 + SPI}]
    mov w0, #{1 << SPI % 32}
    str w0, [x9, #{0x100 + SPI // 32 * 4}]
    ldr x9, ={GICR}
    str wzr, [x9, #0x14]
    add x9, x9, #0x10000
    mov w0, #{1 << 27}
    str w0, [x9, #0x100]
    mov x0, #0xf0
    msr S3_0_C4_C6_0, x0
    mov x0, #1
    msr S3_0_C12_C12_7, x0
    isb
    mov x22, #1
1:  cbz x20, 1b
    mrs x21, S3_0_C12_C12_0
2:  b 2b
"""

OWNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from vmm_guest import Vm
vm = Vm(Path(sys.argv[1]), "t")
vm.start()
vm.run()
"""


class Look:
    """One vm_get_vgic()."""

    def __init__(self, vm: Vm, room: int = lib.VM_VGIC_IRQS) -> None:
        self.vgic, self.cpus = ffi.new("struct vm_vgic *"), ffi.new("struct vm_vgic_cpu[64]")
        count, irqs = ffi.new("unsigned *", room), ffi.new("struct vm_vgic_irq[]", room)
        ok(lib.vm_get_vgic(vm.handle, self.vgic, self.cpus, count, irqs))
        self.irqs = list(irqs[0 : count[0]])
        self._keep = irqs

    def irq(self, intid: int, cpu: int = -1) -> Any:
        (found,) = [i for i in self.irqs if (i.intid, i.cpu) == (intid, cpu)]
        return found

    @property
    def enabled(self) -> set[int]:
        return {i.intid for i in self.irqs if i.enabled}


def test_before_it_runs(vmm_dir: Path) -> None:
    """None is ENODEV; a new one has what reset gives it; too little room is ERANGE."""
    vm = Vm.create(vmm_dir, "t", maxcpus=3)
    with pytest.raises(OSError) as err:
        Look(vm)
    assert err.value.errno == errno.ENODEV
    ok(lib.vm_attach_vgic(vm.handle, GICD, 0x10000, GICR, 2 * 0x20000))
    for room in (0, 10, 64 + 987):
        with pytest.raises(OSError) as err:
            Look(vm, room)
        assert err.value.errno == errno.ERANGE
    look = Look(vm, 64 + 988)
    v = look.vgic
    assert (v.version, v.ncpus, v.its, v.list_regs) == (3, 2, 0, 4)
    assert (v.ctlr, v.dist, v.redist) == (0x50, GICD, GICR)
    assert look.enabled == set(range(16))
    assert [(i.intid, i.cpu) for i in look.irqs[30:66]] == [
        (30, 0), (31, 0), *((n, 1) for n in range(32)), (32, -1), (33, -1),
    ]  # fmt: skip
    assert all(look.irq(n, 1).edge for n in range(16))
    assert [look.cpus[n].asleep for n in range(2)] == [1, 1]
    assert [look.cpus[n].pmr for n in range(2)] == [0xF8, 0xF8]
    vm.close()


@pytest.mark.parametrize("paused", [False, True])
def test_of_a_running_guest(vmm_dir: Path, paused: bool) -> None:
    """Enabled, pending and active follow what the guest and the device do."""
    vm = Vm.flat(vmm_dir, "t", GUEST)
    vm.vgic()
    other = Vm(vmm_dir, "t")
    with vm.running() as exits:
        wait_for(lambda: other.get(22) == 1)
        assert not exits
        if paused:
            ok(lib.vm_pause(other.handle))
        look = Look(other)
        assert len(look.irqs) == ALL
        assert look.vgic.ctlr == 0x52
        assert look.enabled == {*range(16), 27, SPI}
        irq = look.irq(SPI)
        assert (irq.priority, irq.group, irq.edge, irq.target) == (PRIORITY, 1, 0, 0)
        assert (irq.pending, irq.active, irq.line) == (0, 0, 0)
        cpu = look.cpus[0]
        assert (cpu.asleep, cpu.pmr, cpu.running, cpu.nlr) == (0, 0xF0, 0xFF, 0)
        assert cpu.vmcr >> 24 & 0xFF == 0xF0
        assert cpu.vmcr & 2, "group 1 is on"
        ok(lib.vm_assert_irq(vm.handle, SPI))
        irq = Look(other).irq(SPI)
        assert (irq.pending, irq.active, irq.line) == (1, 0, 1)
        if paused:
            assert Look(other).cpus[0].nlr == 0, "the guest has not been in since"
            ok(lib.vm_unpause(other.handle))
        wait_for(lambda: Look(other).cpus[0].nlr == 1)
        lr = Look(other).cpus[0].lr[0]
        assert (lr & 0xFFFFFFFF, lr >> 48 & 0xFF, lr >> 62) == (SPI, PRIORITY, 1)
        other.set(20, 1)
        wait_for(lambda: other.get(21) == SPI)
        look = Look(other)
        irq = look.irq(SPI)
        assert (irq.active, irq.line) == (1, 1)
        assert look.cpus[0].running == PRIORITY
        ok(lib.vm_deassert_irq(vm.handle, SPI))
        irq = Look(other).irq(SPI)
        assert (irq.pending, irq.active, irq.line) == (0, 1, 0)
    other.close()
    vm.close()


def test_after_the_runner_was_killed(vmm_dir: Path) -> None:
    """What was loaded into the list registers of the dead counts."""
    vm = Vm.create(vmm_dir, "t")
    vm.ram(16 << 20)
    vm.write(RAM, assemble(GUEST))
    vm.vgic()
    where = os.path.dirname(__file__)
    with subprocess.Popen([sys.executable, "-c", OWNER, vmm_dir, where]) as owner:
        try:
            wait_for(lambda: vm.get(22) == 1, 30)
            ok(lib.vm_assert_irq(vm.handle, SPI))
            wait_for(lambda: Look(vm).cpus[0].nlr == 1)
        finally:
            owner.kill()
    look = Look(vm)
    irq = look.irq(SPI)
    assert (irq.enabled, irq.pending, irq.active, irq.line) == (1, 1, 0, 1)
    assert look.cpus[0].lr[0] & 0xFFFFFFFF == SPI
    assert {i.intid for i in look.irqs if i.pending} == {SPI}
    vm.close()


def test_of_a_gicv2(vmm_dir: Path) -> None:
    """Its interface is GICC_*."""
    vm = Vm.create(vmm_dir, "t", maxcpus=2)
    ok(lib.vm_attach_vgic_v2(vm.handle, GICD, 0x10000, 0x2F020000, 0x2000, 2))
    look = Look(vm)
    v = look.vgic
    assert (v.version, v.ncpus, v.ctlr, v.redist) == (2, 2, 0, 0x2F020000)
    assert (look.cpus[1].pmr, look.cpus[1].ctlr, look.irq(SPI).group) == (0, 0, 0)
    assert (look.irq(SPI).target, look.irq(3, 1).target) == (-1, 1)
    vm.close()


def test_an_its(vmm_dir: Path) -> None:
    """It is told of; LPIs that are not in use are not listed."""
    vm = Vm.create(vmm_dir, "t")
    vm.vgic()
    ok(lib.vm_attach_its(vm.handle, 0x2F040000, 0x20000))
    look = Look(vm, ALL)
    assert (look.vgic.its, look.vgic.its_base, len(look.irqs)) == (1, 0x2F040000, ALL)
    vm.close()


ENABLED, PENDING, ACTIVE, EDGE = 1, 2, 4, 8


def test_lpis_in_use() -> None:
    """An LPI is listed from when its property says that it is on."""
    with Machine(ncpus=2) as m:
        m.boot()
        its = Its(m)
        assert m.lib.m_look(m.m, -1, LPI + 7) == -1
        its.event(1, 0, LPI + 7)
        assert m.lib.m_look(m.m, -1, LPI + 7) == ENABLED | EDGE
        its.int_(1, 0)
        assert m.lib.m_look(m.m, -1, LPI + 7) == ENABLED | PENDING | EDGE
        assert m.lib.m_look(m.m, -1, LPI + 8) == -1


@pytest.mark.parametrize("edge", [False, True])
def test_of_one_that_is_in_a_list_register(edge: bool) -> None:
    """Where nobody comes out of the guest, what was loaded counts."""
    with Machine() as m:
        m.boot()
        m.setup_spi(SPI, edge=edge)
        want = ENABLED | EDGE * edge
        assert m.lib.m_look(m.m, -1, SPI) == want
        m.inject(SPI)
        assert m.lib.m_look(m.m, -1, SPI) == want | PENDING
        c = m.cpus[0]
        c.settle()
        assert c.in_guest
        assert m.lib.m_look(m.m, -1, SPI) == want | PENDING
        assert c.ack() == SPI
        m.inject(SPI, False)
        c.exit()
        assert m.lib.m_look(m.m, -1, SPI) == want | ACTIVE
        c.settle()
        assert c.in_guest
        assert m.lib.m_look(m.m, -1, SPI) == want | ACTIVE


def test_a_lock_that_is_held() -> None:
    """It is not waited for for ever, and is taken over from the dead, maps and all."""
    with Machine() as m:
        m.boot()
        m.setup_spi(SPI)
        assert m.lib.m_visit(m.m, True) == errno.ETIMEDOUT
        m.inject(SPI)
        m.lib.m_damage_maps(m.m)
        m.lib.m_die_locked(m.m)
        assert m.lib.m_visit(m.m, False) == 0
        assert m.cpus[0].ack() == SPI
