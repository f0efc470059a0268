"""What a VM's interrupt controller holds, at one moment: vm_get_vgic() of the core.

For bhyvectl --dump-gic and tests. Not here: how it is shown (cli/_gic.py), and giving a
machine its controller (vmmapi.py, machdep.py).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from bhyvepy import vmmapi
from bhyvepy._vmmcore import ffi, lib
from bhyvepy.errors import BhyveError, vm_error

LPI_FIRST = 8192


@dataclass(frozen=True, slots=True)
class Interface:
    """A vCPU's redistributor and CPU interface: struct vm_vgic_cpu."""

    vcpu: int
    asleep: bool
    lpis: bool
    pmr: int
    running: int
    ctlr: int
    vmcr: int
    hcr: int
    list_registers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An interrupt: struct vm_vgic_irq; `vcpu` None for those that all share."""

    intid: int
    vcpu: int | None
    target: int | None
    route: int
    priority: int
    group: int
    edge: bool
    line: bool
    enabled: bool
    pending: bool
    active: bool

    @property
    def kind(self) -> str:
        """SGI, PPI, SPI or LPI."""
        if self.intid >= LPI_FIRST:
            return "LPI"
        return "SGI" if self.intid < 16 else "PPI" if self.intid < 32 else "SPI"


@dataclass(frozen=True, slots=True)
class Vgic:
    """The distributor: struct vm_vgic, and all that it has."""

    version: int
    list_regs: int
    ctlr: int
    dist: int
    redist: int
    its: int | None
    cpus: list[Interface]
    interrupts: list[Interrupt]


def read(vm: vmmapi.VM) -> Vgic:
    """All of it; the vCPUs stand still meanwhile."""
    raw, cpus = ffi.new("struct vm_vgic *"), ffi.new("struct vm_vgic_cpu[]", vmmapi.MAXCPU)
    count = ffi.new("unsigned *", int(lib.VM_VGIC_IRQS))
    irqs = ffi.new("struct vm_vgic_irq[]", count[0])
    if err := lib.vm_get_vgic(vm.handle, raw, cpus, count, irqs):
        if err == errno.ENODEV:
            raise BhyveError(f"VM {vm.name} has no interrupt controller yet: bhyve gives it one")
        raise vm_error(err, "look at the interrupt controller of", vm.name, vm.directory)
    return Vgic(
        raw.version,
        raw.list_regs,
        raw.ctlr,
        raw.dist,
        raw.redist,
        raw.its_base if raw.its else None,
        [
            Interface(
                n,
                bool(c.asleep),
                bool(c.lpis),
                c.pmr,
                c.running,
                c.ctlr,
                c.vmcr,
                c.hcr,
                tuple(c.lr[0 : c.nlr]),
            )
            for n, c in enumerate(cpus[0 : raw.ncpus])
        ],
        [
            Interrupt(
                i.intid,
                i.cpu if i.cpu >= 0 else None,
                i.target if i.target >= 0 else None,
                i.route,
                i.priority,
                i.group,
                bool(i.edge),
                bool(i.line),
                bool(i.enabled),
                bool(i.pending),
                bool(i.active),
            )
            for i in irqs[0 : count[0]]
        ],
    )
