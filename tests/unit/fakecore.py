"""A stand-in for the C core, for tests of the Python floors alone.

It keeps one Python object a VM and real files for memory, follows the errno
contract of vmm.h, and plays exits from a script instead of running a guest. The
real core is tested in tests/core; nothing outside of tests/unit uses this.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import types
from pathlib import Path
from typing import Any

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "vmmcore"))
import ffi_build  # noqa: E402

ffi = FFI()
for header in ffi_build.HEADERS.values():
    ffi.cdef(ffi_build.cdef(header.read_text(), values=True))
_consts = ffi.dlopen(None)

SYSREGS = ["sctlr_el1", "ttbr0_el1", "vbar_el1", "esr_el1"]
FEATURES = ["LSE", "PAuth", "PAuth_QARMA5", "BTI"]
MODELS = {"old": 0, "default": 1, "max": 11}
STATS = ["vcpu total runtime", "total number of vm exits", "number of vmexits for wfi"]


class FakeVm:
    """One VM."""

    def __init__(self, folder: Path, opt: Any) -> None:
        self.folder = folder
        self.maxcpus = opt.maxcpus
        self.state = 0
        self.how = 0
        self.running = False
        self.record: bytes | None = None
        self.segs: dict[int, int] = {}
        self.maps: list[tuple[int, int, int, int, int]] = []
        self.regs: dict[tuple[int, int], int] = {}
        self.sets = [0, 0, 0]
        self.topology = (1, 1, 1, 64)
        self.asserted: set[int] = set()
        self.gic: tuple[int, ...] | None = None
        self.its: tuple[int, ...] | None = None
        self.list_regs = 0
        self.doorbells: list[tuple[int, int, int]] = []
        self.script: dict[int, list[Any]] = {}
        self.completed: list[int] = []
        self.injected: list[tuple[int, int]] = []
        self.suspended = threading.Event()
        self.features = int(opt.features) & (1 << len(FEATURES)) - 1


class FakeLib:
    """The functions of vmm.h."""

    def __init__(self) -> None:
        self.vms: dict[str, FakeVm] = {}
        self.handles: dict[Any, FakeVm] = {}
        self.keep: list[Any] = []
        self.fail: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("VM_", "VMM_", "VIRTNET_")):
            return getattr(_consts, name)
        raise AttributeError(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *dir(_consts)]

    def _path(self, d: bytes, name: bytes) -> tuple[str, Path]:
        path = Path(os.fsdecode(d)) / name.decode()
        return str(path), path

    def _of(self, vm: Any) -> FakeVm:
        return self.handles[vm]

    def vm_create(self, d: bytes, name: bytes, opt: Any) -> int:
        if "vm_create" in self.fail:
            return self.fail["vm_create"]
        key, path = self._path(d, name)
        if path.exists():
            return errno.EEXIST
        path.mkdir()
        self.vms[key] = FakeVm(path, opt)
        return 0

    def vm_open(self, d: bytes, name: bytes, vmp: Any) -> int:
        key, path = self._path(d, name)
        if not path.exists():
            return errno.ENOENT
        if key not in self.vms:
            return errno.EPROTO
        handle = ffi.new("char *")
        self.keep.append(handle)
        vmp[0] = ffi.cast("struct vm *", handle)
        self.handles[vmp[0]] = self.vms[key]
        return 0

    def vm_close(self, vm: Any) -> None:
        del self.handles[vm]

    def vm_destroy(self, d: bytes, name: bytes) -> int:
        key, path = self._path(d, name)
        if not path.exists():
            return errno.ENOENT
        for f in path.iterdir():
            f.unlink()
        path.rmdir()
        self.vms.pop(key, None)
        return 0

    def _fill(self, vm: FakeVm, info: Any) -> int:
        info.state, info.how, info.maxcpus = vm.state, vm.how, vm.maxcpus
        info.uid = os.geteuid()
        info.runner = os.getpid() if vm.running else 0
        info.mem = sum(vm.segs.values())
        return 0

    def vm_stat(self, d: bytes, name: bytes, info: Any) -> int:
        key, path = self._path(d, name)
        if not path.exists():
            return errno.ENOENT
        return self._fill(self.vms[key], info) if key in self.vms else errno.EPROTO

    def vm_info(self, vm: Any, info: Any) -> int:
        return self._fill(self._of(vm), info)

    def vm_run_begin(self, vm: Any) -> int:
        v = self._of(vm)
        if v.running:
            return errno.EBUSY
        if v.state != 1:
            return errno.EINVAL
        v.running, v.state = True, 2
        return 0

    def vm_run_end(self, vm: Any) -> int:
        v = self._of(vm)
        v.running, v.state = False, 3
        return 0

    def vm_set_load_record(self, vm: Any, buf: bytes, n: int) -> int:
        v = self._of(vm)
        v.record, v.state = bytes(buf[:n]), 1
        return 0

    def vm_get_load_record(self, vm: Any, buf: Any, n: Any) -> int:
        v = self._of(vm)
        if v.record is None:
            return errno.ENOENT
        ffi.memmove(buf, v.record, len(v.record))
        n[0] = len(v.record)
        return 0

    def vm_alloc_memseg(self, vm: Any, segid: int, n: int, reserve: bool) -> int:
        v = self._of(vm)
        if segid in v.segs:
            return errno.EEXIST
        with open(v.folder / f"seg{segid}", "wb") as f:
            f.truncate(n)
        v.segs[segid] = n
        return 0

    def vm_get_memseg(self, vm: Any, segid: int, n: Any) -> int:
        n[0] = self._of(vm).segs.get(segid, 0)
        return 0

    def vm_memseg_path(self, vm: Any, segid: int, buf: Any, n: int) -> int:
        data = os.fsencode(self._of(vm).folder / f"seg{segid}") + b"\0"
        ffi.memmove(buf, data, len(data))
        return 0

    def vm_memseg_populate(self, vm: Any, segid: int, off: int, n: int) -> int:
        return self.fail.get("vm_memseg_populate", 0)

    def vm_mmap_memseg(self, vm: Any, gpa: int, segid: int, off: int, n: int, prot: int) -> int:
        if gpa % 4096 or n % 4096:
            return errno.EINVAL
        v = self._of(vm)
        v.maps.append((gpa, n, segid, off, prot))
        v.maps.sort()
        return 0

    def vm_mmap_getnext(self, vm: Any, info: Any) -> int:
        for gpa, n, segid, off, prot in self._of(vm).maps:
            if gpa >= info.gpa:
                info.gpa, info.len, info.segid, info.segoff, info.prot = gpa, n, segid, off, prot
                return 0
        return errno.ENOENT

    def vm_memory_written(self, vm: Any, gpa: int, n: int) -> int:
        return 0

    def vm_wire_add(self, vm: Any, gpa: int, irq: int, fd: int, out: Any) -> int:
        out[0] = 0
        return 0

    def vm_wire_hold(self, vm: Any, wire: int, state: Any) -> int:
        return 0

    def vm_wire_set(self, vm: Any, wire: int, state: Any) -> int:
        return 0

    def vm_wire_put(self, vm: Any, wire: int, byte: int) -> int:
        return errno.EAGAIN

    def vm_wire_take(self, vm: Any, wire: int, buf: Any, room: int, length: Any) -> int:
        length[0] = 0
        return 0

    def vm_latch_add(self, vm: Any, status: int, ack: int, irq: int, out: Any) -> int:
        out[0] = 0
        return 0

    def vm_latch_change(self, vm: Any, latch: int, clear: int, set_: int, bits: Any) -> int:
        bits[0] = set_
        return 0

    def vm_memory_guard(self, base: Any, n: int) -> int:
        return 0

    def vm_memory_unguard(self, base: Any) -> None:
        return None

    def vm_dirty_logging(self, vm: Any) -> bool:
        return False

    def vm_activate_cpu(self, vm: Any, cpu: int) -> int:
        self._of(vm).sets[0] |= 1 << cpu
        return 0

    def vm_get_cpus(self, vm: Any, which: int, mask: Any) -> int:
        mask[0] = self._of(vm).sets[which]
        return 0

    def vm_suspend_cpu(self, vm: Any, cpu: int) -> int:
        v = self._of(vm)
        v.sets[2] |= v.sets[0] if cpu < 0 else 1 << cpu
        return 0

    def vm_resume_cpu(self, vm: Any, cpu: int) -> int:
        v = self._of(vm)
        v.sets[2] &= 0 if cpu < 0 else ~(1 << cpu)
        return 0

    def vm_set_topology(self, vm: Any, s: int, c: int, t: int, m: int) -> int:
        self._of(vm).topology = (s, c, t, m or 64)
        return 0

    def vm_get_topology(self, vm: Any, *out: Any) -> int:
        for p, v in zip(out, self._of(vm).topology, strict=True):
            p[0] = v
        return 0

    def vm_stolen_time(self, vm: Any, gpa: int) -> int:
        self._of(vm).stolen = gpa
        return 0

    def vcpu_standby(self, vm: Any, cpu: int) -> int:
        return 0

    def vcpu_reset(self, vm: Any, cpu: int) -> int:
        return 0

    def vcpu_off(self, vm: Any, cpu: int) -> int:
        return 0

    def vm_suspend(self, vm: Any, how: int) -> int:
        v = self._of(vm)
        if v.how:
            return errno.EALREADY
        v.how = how
        v.suspended.set()
        return 0

    def vm_run(self, vm: Any, cpu: int, vme: Any) -> int:
        v = self._of(vm)
        if v.script.get(cpu) is not None and vme.exitcode == 1 and not vme.dir:
            v.completed.append(vme.data)
        script = v.script.setdefault(cpu, [])
        step: Any = None
        if v.sets[2] >> cpu & 1 and not v.how:
            vme.exitcode = 9
            return 0
        if script and not v.how:
            step = script.pop(0)
        if step is None:
            v.suspended.wait(10)
            vme.exitcode, vme.how = 4, v.how
            return 0
        if isinstance(step, int):
            return step
        for k, val in step.items():
            setattr(vme, k, val)
        return 0

    def vm_get_register_set(self, vm: Any, cpu: int, n: int, regs: Any, vals: Any) -> int:
        if not 0 <= cpu < 64:
            return errno.EINVAL
        for i in range(n):
            vals[i] = self._of(vm).regs.get(
                (cpu, regs[i]), 0x80000000 | cpu if regs[i] == 39 else 0
            )
        return 0

    def vm_set_register_set(self, vm: Any, cpu: int, n: int, regs: Any, vals: Any) -> int:
        if not 0 <= cpu < 64:
            return errno.EINVAL
        for i in range(n):
            self._of(vm).regs[cpu, regs[i]] = vals[i]
        return 0

    def vm_sysreg_info(self, n: int, name: Any, reg: Any) -> int:
        if n >= len(SYSREGS):
            return errno.ENOENT
        data = SYSREGS[n].upper().encode() + b"\0"
        ffi.memmove(name, data, len(data))
        reg[0] = 65536 + n
        return 0

    def vm_inject_exception(self, vm: Any, cpu: int, esr: int, far: int) -> int:
        self._of(vm).injected.append((esr, far))
        return 0

    def vm_attach_vgic(self, vm: Any, *where: int) -> int:
        self._of(vm).gic = where
        return 0

    def vm_attach_vgic_v2(self, vm: Any, *where: int) -> int:
        self._of(vm).gic = where
        return 0

    def vm_attach_its(self, vm: Any, *where: int) -> int:
        self._of(vm).its = where
        return 0

    def vm_set_list_regs(self, vm: Any, n: int) -> int:
        self._of(vm).list_regs = n
        return 0

    def vm_assert_irq(self, vm: Any, irq: int) -> int:
        self._of(vm).asserted.add(irq)
        return 0

    def vm_deassert_irq(self, vm: Any, irq: int) -> int:
        self._of(vm).asserted.discard(irq)
        return 0

    def vm_doorbell_add(self, vm: Any, gpa: int, size: int, any_: bool, v: int, fd: int) -> int:
        self._of(vm).doorbells.append((gpa, size, fd))
        return 0

    def vm_doorbell_del(self, vm: Any, gpa: int, fd: int) -> int:
        return 0

    def vm_stat_desc(self, n: int, desc: Any) -> int:
        if n >= len(STATS):
            return errno.ENOENT
        text = ffi.new("char[]", STATS[n].encode())
        self.keep.append(text)
        desc[0] = text
        return 0

    def vm_get_stats(self, vm: Any, cpu: int, n: int, vals: Any) -> int:
        for i in range(n):
            vals[i] = 10 * i + cpu
        return 0

    def vm_get_hot(self, vm: Any, cpu: int, n: Any, hot: Any, samples: Any) -> int:
        n[0], samples[0] = 2, 8
        hot[0].pc, hot[0].count, hot[0].over = 0xFFFF800080010000, 5, 1
        hot[1].pc, hot[1].count, hot[1].over = 0x400100, 2, 2
        return 0

    def vm_set_capability(self, vm: Any, cpu: int, cap: int, val: int) -> int:
        self._of(vm).regs[cpu, -1 - cap] = val
        return 0

    def vm_get_capability(self, vm: Any, cpu: int, cap: int, val: Any) -> int:
        val[0] = self._of(vm).regs.get((cpu, -1 - cap), 0)
        return 0

    def vmm_set_jit(self, flags: int, memory: int) -> None:
        self.jit = bool(flags & 1)

    def vm_feature_name(self, n: int, name: Any, desc: Any) -> int:
        if n >= len(FEATURES):
            return errno.ENOENT
        text = ffi.new("char[]", FEATURES[n].encode())
        self.keep.append(text)
        name[0] = desc[0] = text
        return 0

    def vm_cpu_model(self, n: int, name: Any, features: Any) -> int:
        if n >= len(MODELS):
            return errno.ENOENT
        text = ffi.new("char[]", list(MODELS)[n].encode())
        self.keep.append(text)
        name[0], features[0] = text, list(MODELS.values())[n]
        return 0

    def vm_feature_switch(self, features: Any, n: int, on: bool) -> int:
        features[0] = features[0] | 1 << n if on else features[0] & ~(1 << n)
        return 0

    def vm_get_features(self, vm: Any, features: Any) -> int:
        features[0] = self._of(vm).features
        return 0

    def vm_memory_lost(self) -> int:
        return 0

    def vmm_version(self) -> Any:
        return ffi.new("char[]", b"fake")


def module() -> types.ModuleType:
    """A module that can stand for bhyvepy._vmmcore."""
    mod = types.ModuleType("bhyvepy._vmmcore")
    mod.ffi = ffi  # type: ignore[attr-defined]
    mod.lib = FakeLib()  # type: ignore[attr-defined]
    return mod
