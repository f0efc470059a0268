"""What the core is and has: registers, features of the CPU, counters, capabilities, the translator.

Responsible for the names of things that every VM of this build shares. Not for a VM
(vmmapi.py), nor for which there are (vmlist.py). All of it is in bhyvepy.vmmapi too.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from functools import cache

from bhyvepy._vmmcore import ffi, lib
from bhyvepy.errors import ConfigError, printable, vm_error

# Bytes for translated code of one vCPU: least and most.
JIT_MEMORY = (int(lib.VMM_JIT_MEMORY_MIN), int(lib.VMM_JIT_MEMORY_MAX))


# -- registers --------------------------------------------------------------------
@cache
def general_registers() -> dict[str, int]:
    """x0 to x29, lr, sp, pc and cpsr, in the order of FreeBSD's enum."""
    regs = {f"x{n}": int(lib.VM_REG_GUEST_X0) + n for n in range(30)}
    regs["lr"] = int(lib.VM_REG_GUEST_LR)
    regs["sp"] = int(lib.VM_REG_GUEST_SP)
    regs["pc"] = int(lib.VM_REG_GUEST_PC)
    regs["cpsr"] = int(lib.VM_REG_GUEST_CPSR)
    return regs


@cache
def system_registers() -> dict[str, int]:
    """The system registers that a vCPU keeps, by Arm's name in lower case."""
    regs: dict[str, int] = {}
    name, reg = ffi.new("char[]", 64), ffi.new("int *")
    n = 0
    while not (err := lib.vm_sysreg_info(n, name, reg)):
        regs[ffi.string(name).decode("ascii").lower()] = int(reg[0])
        n += 1
    if err != errno.ENOENT:
        raise vm_error(err, "list the system registers")
    regs.setdefault("mpidr_el1", int(lib.VM_REG_GUEST_MPIDR_EL1))
    return regs


@cache
def _vector_registers() -> dict[str, int]:
    """v0.lo, v0.hi to v31.hi: halves of the SIMD registers."""
    first = int(lib.VM_REG_GUEST_V0)
    return {
        f"v{n}.{half}": first + 2 * n + i for n in range(32) for i, half in enumerate(("lo", "hi"))
    }


# -- what the CPU can do ----------------------------------------------------------
@cache
def feature_names() -> tuple[str, ...]:
    """The extensions by number, in lower case with - for _."""
    names: list[str] = []
    name, desc = ffi.new("char const **"), ffi.new("char const **")
    while not lib.vm_feature_name(len(names), name, desc):
        names.append(ffi.string(name[0]).decode("ascii").lower().replace("_", "-"))
    return tuple(names)


@cache
def cpu_models() -> dict[str, int]:
    """The named CPUs and their sets of features."""
    models: dict[str, int] = {}
    name, features = ffi.new("char const **"), ffi.new("uint64_t *")
    while not lib.vm_cpu_model(len(models), name, features):
        models[ffi.string(name[0]).decode("ascii")] = int(features[0])
    return models


def switch_feature(features: int, number: int, on: bool) -> int:
    """A set with a feature and what it needs, or without it and what needs it."""
    cell = ffi.new("uint64_t *", features)
    if err := lib.vm_feature_switch(cell, number, on):
        raise vm_error(err, "switch a feature")
    return int(cell[0])


_ALIASES = {"x30": "lr", "fp": "x29", "pstate": "cpsr"}


def register_number(name: str) -> int:
    """The number of a register, by name."""
    key = _ALIASES.get(name.lower(), name.lower())
    reg = general_registers().get(key)
    if reg is None:
        reg = _vector_registers().get(key)
    if reg is None:
        reg = system_registers().get(key)
    if reg is None:
        raise ConfigError(f"unknown register {printable(name, 40)}")
    return reg


# -- facts of the core ------------------------------------------------------------
@cache
def stat_descriptions() -> tuple[str, ...]:
    """The names of the counters, in order."""
    out: list[str] = []
    desc = ffi.new("char **")
    while not lib.vm_stat_desc(len(out), ffi.cast("const char **", desc)):
        out.append(ffi.string(desc[0]).decode())
    return tuple(out)


def capabilities() -> Iterable[tuple[str, int]]:
    """(name, number) of the capabilities, by FreeBSD's names in lower case."""
    return [
        (n.removeprefix("VM_CAP_").lower(), int(getattr(lib, n)))
        for n in dir(lib)
        if n.startswith("VM_CAP_") and n != "VM_CAP_MAX"
    ]


def memory_lost() -> bool:
    """Whether a segment file was truncated under this process."""
    return bool(lib.vm_memory_lost())


def set_jit(on: bool, *, perf: bool = False, strict: bool = False, memory: int = 0) -> None:
    """Translate guest code to host code, or interpret it: for vCPUs started from now on.

    With `perf`, jit-PID.dump in the working directory describes translated code. With `strict`,
    code that the guest modifies without maintenance is seen at once. `memory` is the room for
    the code of one vCPU, within JIT_MEMORY, or 0: the usual.
    """
    flags = on * lib.VMM_JIT_ON | perf * lib.VMM_JIT_PERF | strict * lib.VMM_JIT_STRICT
    lib.vmm_set_jit(flags, memory)


def core_version() -> str:
    """Version and build facts of the core."""
    return str(ffi.string(lib.vmm_version()).decode())
