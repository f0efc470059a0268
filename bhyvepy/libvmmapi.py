"""libvmmapi by FreeBSD's names: vm_create(), vm_run(), vm_set_register() and the rest.

For who knows the C library: a `ctx` is a VM, a `vcpu` a VCPU, an error is an exception
instead of -1 and errno, and what C returns through pointers is returned. The work is
vmmapi.py's; see it for what is Python's own. Functions without a meaning here are in
NOT_HERE with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from bhyvepy import config, layout, vmmapi
from bhyvepy.errors import ConfigError
from bhyvepy.mem import PROT_READ, Mapping
from bhyvepy.vmexit import VmExit
from bhyvepy.vmmapi import VCPU, VM

VMMAPI_VERSION = 0o200
VMMAPI_OPEN_CREATE = 1
VMMAPI_OPEN_REINIT = 2

NOT_HERE = {
    "vm_get_device_fd": "a VM is files, not a device",
    "vm_get_ioctls": "a VM is files, not a device",
    "vm_limit_rights": "there is no capsicum",
    "vm_get_guestmem_from_ctx": "guest memory has no fixed address here; use vm_map_gpa()",
    "vm_setup_memory_domains": "there is one memory domain",
    "vm_set_memflags": "vm_setup_memory(wired=True) reserves memory, VM.memory.lock() locks it",
    "vm_get_memflags": "see vm_set_memflags()",
    "vm_snapshot_req": "snapshots are not there yet",
    "vm_restore_time": "snapshots are not there yet",
}


# -- life ----------------------------------------------------------------------------------
def vm_create(name: str) -> None:
    """Make an empty VM."""
    VM.create(name).close()


def vm_open(name: str) -> VM:
    """Open one."""
    return VM.open(name)


def vm_openf(name: str, flags: int = 0) -> VM:
    """Open; with CREATE make it if there is none, with REINIT clear one that is not running."""
    names = [info.name for info in vmmapi.list_vms()]
    if flags & VMMAPI_OPEN_REINIT and name in names:
        with VM.open(name) as vm:
            vm_reinit(vm)
    elif flags & VMMAPI_OPEN_CREATE and name not in names:
        vm_create(name)
    return VM.open(name)


def vm_reinit(ctx: VM) -> None:
    """Make an open VM empty again; EBUSY while it runs."""
    ctx.reinit()


def vm_close(ctx: VM) -> None:
    """Close it; the VM stays."""
    ctx.close()


def vm_destroy(ctx: VM) -> None:
    """Remove it."""
    ctx.close()
    VM.destroy_named(ctx.name)


def vm_get_name(ctx: VM) -> str:
    """Its name."""
    return ctx.name


def vm_suspend(ctx: VM, how: int) -> bool:
    """End its run; False when it is ending already."""
    return ctx.suspend(how)


# -- memory --------------------------------------------------------------------------------
def vm_parse_memsize(text: str) -> int:
    """128M, 1G; a bare number below 1 MiB is in MB."""
    return config.parse_size(text)


def vm_setup_memory(
    ctx: VM, size: int, base: int = layout.RAM_BASE, *, wired: bool = False
) -> None:
    """RAM of `size` bytes from `base` up."""
    ctx.setup_memory(base, size, reserve=wired)


def vm_map_gpa(ctx: VM, gpa: int, length: int) -> memoryview:
    """A view of RAM; GuestFault outside."""
    return ctx.map_gpa(gpa, length)


vm_map_ipa = vm_map_gpa


def vm_rev_map_gpa(ctx: VM, view: memoryview) -> int:
    """The guest physical address of a view that vm_map_gpa() gave."""
    return ctx.memory.address_of(view)


def vm_get_memseg(ctx: VM, segid: int) -> tuple[int, str]:
    """(length, name) of a segment; (0, "") when it is not there."""
    found = [(length, name) for n, length, name in ctx.memsegs() if n == segid]
    return found[0] if found else (0, "")


def vm_mmap_memseg(ctx: VM, gpa: int, segid: int, off: int, length: int, prot: int) -> None:
    """Place part of a segment in guest physical space."""
    ctx.mmap_memseg(gpa, segid, off, length, prot)


def vm_munmap_memseg(ctx: VM, gpa: int, length: int) -> None:
    """Take a mapping away."""
    ctx.munmap_memseg(gpa, length)


def vm_mmap_getnext(ctx: VM, gpa: int) -> Mapping | None:
    """The first mapping at or above an address."""
    return next((m for m in ctx.memmap() if m.gpa >= gpa), None)


def vm_create_devmem(ctx: VM, segid: int, length: int) -> memoryview:
    """Make a segment for a device or a boot ROM; it is to be placed with vm_mmap_memseg()."""
    ctx.alloc_memseg(segid, length)
    return ctx.segment(segid)


def vm_get_lowmem_limit(_ctx: VM) -> int:
    """RAM below 4 GiB that has no hole: none is set apart on arm64."""
    return 0


def vm_get_lowmem_size(_ctx: VM) -> int:
    """All RAM is high memory, as in FreeBSD's arm64."""
    return 0


def vm_get_highmem_base(ctx: VM) -> int:
    """Where RAM begins."""
    return min((m.gpa for m in ctx.memmap() if m.segid == 0), default=layout.RAM_BASE)


def vm_get_highmem_size(ctx: VM) -> int:
    """How much there is."""
    return sum(m.length for m in ctx.memmap() if m.segid == 0)


def vm_get_gpa_pmap(ctx: VM, gpa: int) -> tuple[int, int]:
    """(stage-2 descriptor, level) of an address; (0, 0) when it is not mapped yet."""
    return ctx.gpa_pmap(gpa)


def vm_gla2gpa(vcpu: VCPU, gla: int, prot: int = PROT_READ) -> int | None:
    """Guest virtual to physical; None without a translation."""
    return vcpu.vm.gla2gpa(vcpu.vcpuid, gla, prot)


vm_gla2gpa_nofault = vm_gla2gpa


def vm_copy_setup(
    vcpu: VCPU, gla: int, length: int, prot: int = PROT_READ
) -> list[tuple[int, int]]:
    """[(gpa, length)] of a range of virtual addresses; GuestFault without a translation."""
    return vcpu.vm.translate(vcpu.vcpuid, gla, length, prot)


def vm_copyin(ctx: VM, pieces: Sequence[tuple[int, int]]) -> bytes:
    """The bytes of what vm_copy_setup() found."""
    return b"".join(ctx.memory.read(gpa, length) for gpa, length in pieces)


def vm_copyout(ctx: VM, data: bytes, pieces: Sequence[tuple[int, int]]) -> None:
    """Write bytes to what vm_copy_setup() found."""
    if len(data) != sum(length for _, length in pieces):
        raise ConfigError(f"{len(data)} bytes do not fit what was set up")
    at = 0
    for gpa, length in pieces:
        ctx.write_memory(gpa, data[at : at + length])
        at += length


def vm_copy_teardown(pieces: list[tuple[int, int]]) -> None:
    """Forget it."""
    pieces.clear()


# -- vCPUs ---------------------------------------------------------------------------------
def vm_vcpu_open(ctx: VM, vcpuid: int) -> VCPU:
    """A handle on a vCPU."""
    return ctx.vcpu(vcpuid)


def vm_vcpu_close(_vcpu: VCPU) -> None:
    """Give it back; it holds nothing."""


def vcpu_id(vcpu: VCPU) -> int:
    """Its number."""
    return vcpu.vcpuid


def vcpu_reset(vcpu: VCPU) -> None:
    """Registers as after power-on."""
    vcpu.reset()


def vm_run(vcpu: VCPU) -> VmExit:
    """Run until userland has something to do; VM.run_begin() comes first."""
    return vcpu.run()


def vm_set_register(vcpu: VCPU, reg: str, value: int) -> None:
    """One register, by name."""
    vcpu.set(reg, value)


def vm_get_register(vcpu: VCPU, reg: str) -> int:
    """One register, by name."""
    return vcpu.get(reg)


def vm_set_register_set(vcpu: VCPU, values: dict[str, int]) -> None:
    """Several of one moment."""
    vcpu.set_many(values)


def vm_get_register_set(vcpu: VCPU, regs: Sequence[str]) -> dict[str, int]:
    """Several of one moment."""
    return vcpu.get_set(regs)


def vm_inject_exception(vcpu: VCPU, esr: int, far: int) -> None:
    """An exception taken to EL1 before the next instruction."""
    vcpu.inject_exception(esr, far)


def vm_restart_instruction(vcpu: VCPU) -> None:
    """The next vm_run() does the instruction that left again."""
    vcpu.restart_instruction()


def vm_activate_cpu(vcpu: VCPU) -> None:
    """Make it part of the machine."""
    vcpu.vm.activate_cpu(vcpu.vcpuid)


def vm_suspend_cpu(vcpu: VCPU) -> None:
    """Put it into the debug set."""
    vcpu.vm.suspend_cpu(vcpu.vcpuid)


def vm_suspend_all_cpus(ctx: VM) -> None:
    """Put all into it."""
    ctx.suspend_cpu()


def vm_resume_cpu(vcpu: VCPU) -> None:
    """Take it out of it."""
    vcpu.vm.resume_cpu(vcpu.vcpuid)


def vm_resume_all_cpus(ctx: VM) -> None:
    """Take all out of it."""
    ctx.resume_cpu()


def vm_active_cpus(ctx: VM) -> list[int]:
    """vCPUs that are part of the machine."""
    return ctx.cpus(vmmapi.CPUS_ACTIVE)


def vm_suspended_cpus(ctx: VM) -> list[int]:
    """Those whose run is over."""
    return ctx.cpus(vmmapi.CPUS_SUSPENDED)


def vm_debug_cpus(ctx: VM) -> list[int]:
    """Those in the debug set."""
    return ctx.cpus(vmmapi.CPUS_DEBUG)


def vm_set_topology(ctx: VM, sockets: int, cores: int, threads: int, maxcpus: int = 0) -> None:
    """Sockets, cores of each, threads of each."""
    ctx.set_topology(sockets, cores, threads, maxcpus)


def vm_get_topology(ctx: VM) -> tuple[int, int, int, int]:
    """Sockets, cores, threads, maxcpus."""
    return ctx.topology()


# -- interrupts ----------------------------------------------------------------------------
def vm_attach_vgic(ctx: VM, dist: int, dist_size: int, redist: int, redist_size: int) -> None:
    """Give it a GICv3."""
    ctx.attach_vgic(dist, dist_size, redist, redist_size)


def vm_assert_irq(ctx: VM, irq: int) -> None:
    """Raise a level-triggered SPI, by INTID."""
    ctx.assert_irq(irq)


def vm_deassert_irq(ctx: VM, irq: int) -> None:
    """Lower it."""
    ctx.deassert_irq(irq)


def vm_raise_msi(ctx: VM, addr: int, msg: int, bus: int = 0, slot: int = 0, func: int = 0) -> None:
    """A message-signalled interrupt of a device on a bus."""
    ctx.raise_msi(addr, msg, bus << 8 | slot << 3 | func)


# -- capabilities and counters -------------------------------------------------------------
def vm_capability_name2type(name: str) -> int:
    """The number of a capability; -1: unknown."""
    return dict(vmmapi.capabilities()).get(name, -1)


def vm_capability_type2name(cap: int) -> str | None:
    """Its name."""
    return {n: name for name, n in vmmapi.capabilities()}.get(cap)


def vm_get_capability(vcpu: VCPU, cap: int) -> int | None:
    """Its value; None when it is not available."""
    return vcpu.get_capability(cap)


def vm_set_capability(vcpu: VCPU, cap: int, value: int) -> None:
    """Set it."""
    vcpu.set_capability(cap, value)


def vm_get_stats(vcpu: VCPU) -> list[int]:
    """The counters, in the order of vm_get_stat_desc()."""
    return list(vcpu.stats().values())


def vm_get_stat_desc(_ctx: VM, index: int) -> str | None:
    """What a counter counts; None behind the last."""
    names = vmmapi.stat_descriptions()
    return names[index] if 0 <= index < len(names) else None
