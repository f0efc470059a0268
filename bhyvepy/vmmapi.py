"""libvmmapi in Python: VM and VCPU over the C core.

Others that import the extension: coreinfo.py, vmlist.py, mem.py, vgic.py, wire.py, virtq.py and
slirp.py. A VM lives in files of the VM directory; any process of its owner may open it
(docs/architecture.md, section 3). Every failure of the core becomes one VmError with a line
that says what to do. Not here: what a machine consists of (layout.py, machdep.py), and what
is done about an exit (bhyverun.py).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bhyvepy import layout
from bhyvepy._vmmcore import ffi, lib
from bhyvepy.coreinfo import JIT_MEMORY as JIT_MEMORY
from bhyvepy.coreinfo import capabilities as capabilities
from bhyvepy.coreinfo import core_version as core_version
from bhyvepy.coreinfo import cpu_models as cpu_models
from bhyvepy.coreinfo import feature_names as feature_names
from bhyvepy.coreinfo import general_registers as general_registers
from bhyvepy.coreinfo import memory_lost as memory_lost
from bhyvepy.coreinfo import register_number as register_number
from bhyvepy.coreinfo import set_jit as set_jit
from bhyvepy.coreinfo import stat_descriptions as stat_descriptions
from bhyvepy.coreinfo import switch_feature as switch_feature
from bhyvepy.coreinfo import system_registers as system_registers
from bhyvepy.errors import (
    ConfigError,
    GuestFault,
    VmError,
    vm_error,
)
from bhyvepy.mem import PROT_READ, PROT_WRITE, GuestMemory, Segment
from bhyvepy.mem import Mapping as MemMapping
from bhyvepy.vmexit import SuspendHow, TraceEvent, VmExit, VmState, read_exit
from bhyvepy.vmlist import VmInfo as VmInfo
from bhyvepy.vmlist import check_name as check_name
from bhyvepy.vmlist import list_vms as list_vms
from bhyvepy.vmlist import stat_vm as stat_vm
from bhyvepy.vmmdir import check_space as check_space
from bhyvepy.vmmdir import format_size as format_size
from bhyvepy.vmmdir import loading as loading
from bhyvepy.vmmdir import vmm_dir as vmm_dir

PROT_EXEC = 4
PROT_ALL = PROT_READ | PROT_WRITE | PROT_EXEC
MAXCPU = 64
CLOSE_S = 2.0  # what close() waits for vCPUs
SEG_NAMES = {0: "sysmem", 1: "bootrom", 2: "stolentime"}

CPUS_ACTIVE = 0
CPUS_SUSPENDED = 1
CPUS_DEBUG = 2
IRQ_LPI = 1020  # VCPU.irqs() counts all LPIs as one

_X_REGS = ffi.new("int[]", list(range(18)))  # the numbers of x0 to x17


class VM:
    """An open VM."""

    def __init__(self, name: str, directory: str, handle: Any) -> None:
        self.name = name
        self.directory = directory
        self._vm = handle
        self._memory: GuestMemory | None = None
        self._memories: list[GuestMemory] = []  # all that were given away
        self._inside: set[int] = set()  # vCPUs that this process runs just now

    # -- life ---------------------------------------------------------------------
    @classmethod
    def create(
        cls,
        name: str,
        *,
        maxcpus: int = MAXCPU,
        vhe: bool = False,
        list_regs: int = 0,
        vmid_bits: int = 0,
        features: int | None = None,
    ) -> VM:
        """Make an empty VM and open it; features None is `-o cpu=default`."""
        check_name(name)
        directory = vmm_dir()
        opt = ffi.new(
            "struct vm_options *",
            {
                "maxcpus": maxcpus,
                "vhe": int(vhe),
                "list_regs": list_regs,
                "vmid_bits": vmid_bits,
                "features": 0 if features is None else features | lib.VM_FEATURES_EXACT,
            },
        )
        if err := lib.vm_create(directory.encode(), name.encode(), opt):
            raise vm_error(err, "create", name, directory)
        return cls.open(name)

    @classmethod
    def open(cls, name: str) -> VM:
        """Open a VM that exists."""
        check_name(name)
        directory = vmm_dir()
        vmp = ffi.new("struct vm **")
        if err := lib.vm_open(directory.encode(), name.encode(), vmp):
            raise vm_error(err, "open", name, directory)
        return cls(name, directory, vmp[0])

    @staticmethod
    def destroy_named(name: str) -> None:
        """Remove a VM, running or not, damaged or not."""
        check_name(name)
        directory = vmm_dir()
        if err := lib.vm_destroy(directory.encode(), name.encode()):
            raise vm_error(err, "destroy", name, directory)

    def close(self) -> None:
        """Unmap; a vCPU that still runs here is ended first. Idempotent."""
        if self._vm is None:
            return
        if self._inside:
            self.suspend(SuspendHow.HALT)
            end = time.monotonic() + CLOSE_S
            while self._inside and time.monotonic() < end:
                time.sleep(0.001)
            if self._inside:
                raise VmError(f"VM {self.name} cannot be closed: a vCPU is running", errno.EBUSY)
        handle, self._vm = self._vm, None
        self._memory = None
        for memory in self._memories:
            memory.close()
        self._memories.clear()
        lib.vm_close(handle)

    def reinit(self) -> None:
        """Make it empty again, with the same CPUs; EBUSY while it runs."""
        info, features = self.info(), self.features()
        if info.state is VmState.RUNNING:
            raise vm_error(errno.EBUSY, "clear", self.name)
        self.close()
        self.destroy_named(self.name)
        made = self.create(self.name, maxcpus=info.maxcpus, features=features)
        self._vm, made._vm = made._vm, None

    def __enter__(self) -> VM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, err: int, what: str) -> None:
        if err:
            raise vm_error(err, what, self.name, self.directory)

    @property
    def handle(self) -> Any:
        """The core's struct vm."""
        if self._vm is None:
            raise VmError(f"VM {self.name} is closed")
        return self._vm

    def info(self) -> VmInfo:
        """State, reason of the last end, runner, memory, age."""
        raw = ffi.new("struct vm_info *")
        self._check(lib.vm_info(self.handle, raw), "look at")
        return VmInfo.of(self.name, raw)

    def features(self) -> int:
        """The set of features that its CPUs have."""
        cell = ffi.new("uint64_t *")
        self._check(lib.vm_get_features(self.handle, cell), "look at")
        return int(cell[0])

    def run_begin(self) -> None:
        """Become the process that runs the VM."""
        self._check(lib.vm_run_begin(self.handle), "run")

    def run_end(self) -> None:
        """Leave it."""
        self._check(lib.vm_run_end(self.handle), "leave")

    def suspend(self, how: int) -> bool:
        """End the run; False when it is ending already."""
        err = lib.vm_suspend(self.handle, how)
        if err == errno.EALREADY:
            return False
        self._check(err, "stop")
        return True

    def pause(self) -> None:
        """Freeze every vCPU and hold it."""
        self._check(lib.vm_pause(self.handle), "pause")

    def unpause(self) -> None:
        """Let the vCPUs go on."""
        self._check(lib.vm_unpause(self.handle), "resume")

    # -- load record --------------------------------------------------------------
    def set_load_record(self, data: bytes) -> None:
        """Leave bytes for bhyve; the VM is loaded now."""
        if len(data) > int(lib.VM_MAX_LOADREC):
            raise VmError(f"load record of {len(data)} bytes is too long", errno.E2BIG)
        self._check(lib.vm_set_load_record(self.handle, data, len(data)), "load")

    def get_load_record(self) -> bytes | None:
        """What bhyveload left; None when nothing is loaded."""
        buf = ffi.new("char[]", int(lib.VM_MAX_LOADREC))
        size = ffi.new("size_t *", len(buf))
        err = lib.vm_get_load_record(self.handle, buf, size)
        if err == errno.ENOENT:
            return None
        self._check(err, "read the load record of")
        return bytes(ffi.buffer(buf, size[0]))

    # -- memory -------------------------------------------------------------------
    def setup_memory(self, base: int, size: int, *, reserve: bool = False) -> None:
        """Give the VM RAM of `size` bytes from `base` up, around the fixed windows."""
        ranges = layout.ram_ranges(base, size)
        if not ranges or ranges[-1][0] + ranges[-1][1] > layout.IPA_LIMIT:
            raise ConfigError(
                f"{size} bytes of RAM at {base:#x} do not fit below {layout.IPA_LIMIT:#x}"
            )
        check_space(self.directory, size)
        self.alloc_memseg(0, size, reserve=reserve)
        off = 0
        for gpa, length in ranges:
            self.mmap_memseg(gpa, 0, off, length, PROT_ALL)
            off += length

    def alloc_memseg(self, segid: int, length: int, *, reserve: bool = False) -> None:
        """Make a memory segment."""
        self._check(lib.vm_alloc_memseg(self.handle, segid, length, reserve), "allocate memory of")

    def populate(self) -> None:
        """Allocate all memory now."""
        for segid, length, _ in self.memsegs():
            self._check(
                lib.vm_memseg_populate(self.handle, segid, 0, length), "reserve the memory of"
            )

    def mmap_memseg(self, gpa: int, segid: int, segoff: int, length: int, prot: int) -> None:
        """Place part of a segment in guest physical space."""
        self._check(
            lib.vm_mmap_memseg(self.handle, gpa, segid, segoff, length, prot),
            f"place memory at {gpa:#x} of",
        )
        self._memory = None

    def munmap_memseg(self, gpa: int, length: int) -> None:
        """Take a mapping away."""
        self._check(lib.vm_munmap_memseg(self.handle, gpa, length), f"take memory at {gpa:#x} from")
        self._memory = None

    def segment(self, segid: int) -> memoryview:
        """The bytes of a segment, wherever it is placed."""
        lengths = {n: length for n, length, _ in self.memsegs()}
        if segid not in lengths:
            raise ConfigError(f"VM {self.name} has no memory segment {segid}")
        seg = Segment(self.handle, segid, lengths[segid])
        seg.populate(0, lengths[segid])
        return seg.view

    def memsegs(self) -> list[tuple[int, int, str]]:
        """(id, length, name) of the segments there are."""
        out = []
        length = ffi.new("uint64_t *")
        for segid in range(int(lib.VM_MAX_MEMSEGS)):
            err = lib.vm_get_memseg(self.handle, segid, length)
            if err in (errno.ENOENT, errno.EINVAL) or (not err and not length[0]):
                continue
            self._check(err, "list the memory of")
            out.append((segid, int(length[0]), SEG_NAMES.get(segid, str(segid))))
        return out

    def memmap(self) -> list[MemMapping]:
        """The guest physical map."""
        out: list[MemMapping] = []
        raw = ffi.new("struct vm_meminfo *")
        gpa = 0
        while True:
            raw.gpa = gpa
            err = lib.vm_mmap_getnext(self.handle, raw)
            if err == errno.ENOENT:
                return out
            self._check(err, "list the memory map of")
            m = MemMapping(
                int(raw.gpa), int(raw.len), int(raw.segid), int(raw.segoff), raw.prot, raw.flags
            )
            out.append(m)
            gpa = m.end

    @property
    def memory(self) -> GuestMemory:
        """RAM, for the loader and the devices."""
        if self._memory is None:
            lengths = {segid: length for segid, length, _ in self.memsegs()}
            self._memory = GuestMemory(self.handle, self.memmap(), lengths)
            self._memories.append(self._memory)
        return self._memory

    def map_gpa(self, gpa: int, length: int, *, write: bool = True) -> memoryview:
        """vm_map_gpa: a view of RAM; GuestFault outside."""
        return self.memory.view(gpa, length, write)

    def write_memory(self, gpa: int, data: bytes) -> None:
        """Write guest memory from outside; executors drop code of those pages."""
        self.memory.write(gpa, data)
        self.memory_written(gpa, len(data))

    def memory_written(self, gpa: int, length: int) -> None:
        """The host wrote [gpa, gpa + length)."""
        self._check(lib.vm_memory_written(self.handle, gpa, length), "write memory of")

    def gla2gpa(self, vcpu: int, gla: int, prot: int = PROT_READ) -> int | None:
        """Guest virtual to physical; None without a translation."""
        gpa, fault = ffi.new("uint64_t *"), ffi.new("int *")
        self._check(lib.vm_gla2gpa(self.handle, vcpu, gla, prot, gpa, fault), "translate for")
        return None if fault[0] else int(gpa[0])

    def translate(
        self, vcpu: int, gla: int, length: int, prot: int = PROT_READ
    ) -> list[tuple[int, int]]:
        """[(gpa, length)] behind a range of virtual addresses; GuestFault without one."""
        out: list[tuple[int, int]] = []
        end = gla + length
        while gla < end:
            size = min(end, (gla | layout.PAGE_SIZE - 1) + 1) - gla
            gpa = self.gla2gpa(vcpu, gla, prot)
            if gpa is None:
                raise GuestFault(gla, size, bool(prot & PROT_WRITE))
            if out and sum(out[-1]) == gpa:
                out[-1] = (out[-1][0], out[-1][1] + size)
            else:
                out.append((gpa, size))
            gla += size
        return out

    def gpa_pmap(self, gpa: int) -> tuple[int, int]:
        """(stage-2 descriptor, level) of an address; (0, 0) when it is not mapped yet."""
        pte, level = ffi.new("uint64_t *"), ffi.new("int *")
        err = lib.vm_get_gpa_pmap(self.handle, gpa, pte, level)
        if err == errno.ENOENT:
            return 0, 0
        self._check(err, "look at the stage-2 tables of")
        return int(pte[0]), int(level[0])

    # -- vCPUs --------------------------------------------------------------------
    def vcpu(self, vcpuid: int) -> VCPU:
        """A handle on one vCPU."""
        return VCPU(self, vcpuid)

    def activate_cpu(self, vcpuid: int) -> None:
        """Make a vCPU part of the machine."""
        self._check(lib.vm_activate_cpu(self.handle, vcpuid), f"activate vCPU {vcpuid} of")

    def cpus(self, which: int = CPUS_ACTIVE) -> list[int]:
        """Active, suspended or debugged vCPUs."""
        mask = ffi.new("uint64_t *")
        self._check(lib.vm_get_cpus(self.handle, which, mask), "list the vCPUs of")
        return [n for n in range(MAXCPU) if mask[0] >> n & 1]

    def user_sysregs(self) -> None:
        """IMPLEMENTATION DEFINED system registers of the guest are RegEmulExits from now on."""
        self._check(lib.vm_user_sysregs(self.handle), "set up")

    def stolen_time(self, gpa: int) -> None:
        """Let the guest read what each vCPU waited for the host: 64 bytes each from gpa on."""
        self._check(lib.vm_stolen_time(self.handle, gpa), "add memory to")

    def suspend_cpu(self, vcpuid: int = -1) -> None:
        """Put a vCPU (-1: all) into the debug set."""
        self._check(lib.vm_suspend_cpu(self.handle, vcpuid), "suspend a vCPU of")

    def resume_cpu(self, vcpuid: int = -1) -> None:
        """Take a vCPU (-1: all) out of the debug set."""
        self._check(lib.vm_resume_cpu(self.handle, vcpuid), "resume a vCPU of")

    def set_topology(self, sockets: int, cores: int, threads: int, maxcpus: int = 0) -> None:
        """Sockets, cores, threads."""
        self._check(
            lib.vm_set_topology(self.handle, sockets, cores, threads, maxcpus),
            "set the topology of",
        )

    def topology(self) -> tuple[int, int, int, int]:
        """Sockets, cores, threads, maxcpus."""
        out = [ffi.new("int *") for _ in range(4)]
        self._check(lib.vm_get_topology(self.handle, *out), "get the topology of")
        return int(out[0][0]), int(out[1][0]), int(out[2][0]), int(out[3][0])

    def trace(self, on: bool) -> int:
        """Record exits in the VM's ring, or stop it: the number of the next one."""
        seq = ffi.new("uint64_t *")
        self._check(lib.vm_trace(self.handle, on, seq), "trace")
        return int(seq[0])

    def trace_read(self, seq: int) -> tuple[int, list[TraceEvent]]:
        """Exits from number `seq` on, and the number to ask for next."""
        at, count = ffi.new("uint64_t *", seq), ffi.new("unsigned *", 512)
        events = ffi.new("struct vm_trace_event[]", 512)
        self._check(lib.vm_trace_read(self.handle, at, count, events), "trace")
        return int(at[0]), [
            TraceEvent(
                *(e.seq, e.time_ns, e.vcpu, e.type, e.pc, e.esr, e.far, e.hpfar, e.value),
                *(e.intid, bool(e.loaded)),
            )
            for e in events[0 : count[0]]
        ]

    # -- interrupts ---------------------------------------------------------------
    def attach_vgic(self, dist: int, dist_size: int, redist: int, redist_size: int) -> None:
        """Give the machine its GICv3."""
        self._check(
            lib.vm_attach_vgic(self.handle, dist, dist_size, redist, redist_size),
            "attach a GIC to",
        )

    def attach_vgic_v2(
        self, dist: int, dist_size: int, cpuif: int, cpuif_size: int, ncpus: int
    ) -> None:
        """Give the machine a GICv2 instead, of at most 8 vCPUs."""
        self._check(
            lib.vm_attach_vgic_v2(self.handle, dist, dist_size, cpuif, cpuif_size, ncpus),
            "attach a GICv2 to",
        )

    def attach_its(self, base: int, size: int) -> None:
        """Give its GICv3 a translation service."""
        self._check(lib.vm_attach_its(self.handle, base, size), "attach an ITS to")

    def set_list_regs(self, count: int) -> None:
        """List registers of the CPUs, before the GIC is attached."""
        self._check(lib.vm_set_list_regs(self.handle, count), "set the list registers of")

    def assert_irq(self, irq: int) -> None:
        """Raise a level-triggered SPI, by INTID."""
        if err := lib.vm_assert_irq(self._vm or self.handle, irq):
            self._check(err, f"raise interrupt {irq} of")

    def deassert_irq(self, irq: int) -> None:
        """Lower it."""
        if err := lib.vm_deassert_irq(self._vm or self.handle, irq):
            self._check(err, f"lower interrupt {irq} of")

    def raise_msi(self, addr: int, msg: int, devid: int = 0) -> None:
        """A message-signalled interrupt; `devid` is what an ITS knows the device by."""
        self._check(lib.vm_raise_msi_from(self.handle, addr, msg, devid), "raise an MSI of")

    def doorbell_add(self, gpa: int, size: int, fd: int, value: int | None = None) -> None:
        """Let a guest write of `size` bytes to gpa signal an eventfd."""
        self._check(
            lib.vm_doorbell_add(self.handle, gpa, size, value is None, value or 0, fd),
            "add a doorbell to",
        )

    def doorbell_del(self, gpa: int, fd: int) -> None:
        """Undo doorbell_add()."""
        self._check(lib.vm_doorbell_del(self.handle, gpa, fd), "remove a doorbell of")


class VCPU:
    """One vCPU of an open VM. run() belongs to one thread, the rest to any."""

    def __init__(self, vm: VM, vcpuid: int) -> None:
        self.vm = vm
        self.vcpuid = vcpuid
        self._vme = ffi.new("struct vm_exit *")
        self._bytes = ffi.buffer(self._vme)
        self._x = ffi.new("uint64_t[]", len(_X_REGS))

    def run(self) -> VmExit:
        """Run until userland has something to do."""
        vme, inside = self._vme, self.vm._inside
        inside.add(self.vcpuid)
        try:
            err = lib.vm_run(self.vm._vm or self.vm.handle, self.vcpuid, vme)
        finally:
            inside.discard(self.vcpuid)
        if err:
            self.vm._check(err, f"run vCPU {self.vcpuid} of")
        return read_exit(vme.exitcode, self._bytes)

    def complete(self, value: int) -> None:
        """The value that an InstEmulExit or RegEmulExit read gets."""
        self._vme.data = value & 0xFFFFFFFFFFFFFFFF

    def answer(self, values: Sequence[int]) -> None:
        """x0 and up, at most x17: what a call gives back. Its own thread's, after run()."""
        x, count = self._x, len(values)
        x[0:count] = values
        err = lib.vm_set_register_set(self.vm._vm or self.vm.handle, self.vcpuid, count, _X_REGS, x)
        if err:
            self._check(err, "write registers of")

    def _check(self, err: int, what: str) -> None:
        if err == errno.EINVAL and not 0 <= self.vcpuid < MAXCPU:
            raise ConfigError(f"there is no vCPU {self.vcpuid}; use --cpu=0 to {MAXCPU - 1}")
        self.vm._check(err, f"{what} vCPU {self.vcpuid} of")

    def reset(self) -> None:
        """Registers as after power-on."""
        self._check(lib.vcpu_reset(self.vm.handle, self.vcpuid), "reset")

    def off(self) -> None:
        """The guest turned it off: what any of several vCPUs may take goes to others."""
        self._check(lib.vcpu_off(self.vm.handle, self.vcpuid), "turn off")

    def standby(self) -> None:
        """Make the next run() wait for an interrupt, and return with a WFI exit."""
        self._check(lib.vcpu_standby(self.vm.handle, self.vcpuid), "stop")

    def get(self, name: str) -> int:
        """One register, by name."""
        return self.get_set([name])[name]

    def set(self, name: str, value: int) -> None:
        """One register, by name."""
        self.set_many({name: value})

    def get_set(self, names: Sequence[str]) -> dict[str, int]:
        """Registers under one freeze: they belong to one moment."""
        regs = [register_number(n) for n in names]
        vals = ffi.new("uint64_t[]", max(1, len(regs)))
        self._check(
            lib.vm_get_register_set(self.vm.handle, self.vcpuid, len(regs), regs, vals),
            "read registers of",
        )
        return dict(zip(names, ffi.unpack(vals, len(regs)), strict=True)) if regs else {}

    def set_many(self, values: Mapping[str, int]) -> None:
        """Write registers under one freeze."""
        regs = [register_number(n) for n in values]
        vals = [v & 0xFFFFFFFFFFFFFFFF for v in values.values()]
        self._check(
            lib.vm_set_register_set(self.vm.handle, self.vcpuid, len(regs), regs, vals),
            "write registers of",
        )

    def get_all(self) -> dict[str, int]:
        """Every general and system register, under one freeze."""
        return self.get_set([*general_registers(), *system_registers()])

    def stats(self) -> dict[str, int]:
        """Counters by FreeBSD's names."""
        descs = stat_descriptions()
        vals = ffi.new("uint64_t[]", max(1, len(descs)))
        self._check(
            lib.vm_get_stats(self.vm.handle, self.vcpuid, len(descs), vals), "read counters of"
        )
        return dict(zip(descs, ffi.unpack(vals, len(descs)), strict=True)) if descs else {}

    def irqs(self) -> dict[int, int]:
        """How often it acknowledged each interrupt, by INTID; LPIs are IRQ_LPI."""
        acked = ffi.new("uint64_t[]", lib.VM_IRQS)
        self._check(
            lib.vm_get_irqs(self.vm.handle, self.vcpuid, lib.VM_IRQS, acked), "read interrupts of"
        )
        return {n: c for n, c in enumerate(ffi.unpack(acked, lib.VM_IRQS)) if c}

    def hot(self, most: int = 10) -> tuple[int, list[tuple[int, int]]]:
        """Samples of the PC, and the addresses seen most with how often they were for certain."""
        hot, count = ffi.new("struct vm_hot[]", max(1, most)), ffi.new("unsigned *", most)
        samples = ffi.new("uint64_t *")
        self._check(
            lib.vm_get_hot(self.vm.handle, self.vcpuid, count, hot, samples), "read samples of"
        )
        return int(samples[0]), [(h.pc, h.count - h.over) for h in hot[0 : count[0]]]

    def inject_exception(self, esr: int, far: int) -> None:
        """An exception taken to EL1 before the next instruction."""
        self._check(lib.vm_inject_exception(self.vm.handle, self.vcpuid, esr, far), "interrupt")

    def restart_instruction(self) -> None:
        """The next run() does the instruction that left again."""
        self._check(lib.vm_restart_instruction(self.vm.handle, self.vcpuid), "restart")

    def set_capability(self, cap: int, value: int) -> None:
        """An enum vm_cap_type."""
        err = lib.vm_set_capability(self.vm.handle, self.vcpuid, cap, value)
        if err == errno.ENOENT:
            raise ConfigError("this capability is not available on arm64")
        self._check(err, "set up")

    def set_debug(
        self,
        breakpoints: Sequence[tuple[int, int]] = (),
        watchpoints: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Breakpoints and watchpoints of a debugger: (value, control) as DBGBVR, DBGBCR have."""
        regs = ffi.new("struct vm_debug *")
        for i, (value, control) in enumerate(breakpoints):
            regs.bvr[i], regs.bcr[i] = value, control
        for i, (value, control) in enumerate(watchpoints):
            regs.wvr[i], regs.wcr[i] = value, control
        self._check(lib.vm_set_debug(self.vm.handle, self.vcpuid, regs), "debug")

    def get_capability(self, cap: int) -> int | None:
        """An enum vm_cap_type; None for one that is not available here."""
        val = ffi.new("int *")
        err = lib.vm_get_capability(self.vm.handle, self.vcpuid, cap, val)
        if err == errno.ENOENT:
            return None
        self._check(err, "look at")
        return int(val[0])
