"""Why a vCPU came back to userland: the exits of vm_run(), typed.

The numbers are those of vmm.h (tests/unit/test_vmmapi.py compares them). What
is done about an exit is the business of bhyverun.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """enum vm_exitcode."""

    BOGUS = 0
    INST_EMUL = 1
    REG_EMUL = 2
    HVC = 3
    SUSPENDED = 4
    HYP = 5
    WFI = 6
    PAGING = 7
    SMCCC = 8
    DEBUG = 9
    BRK = 10
    SS = 11


class SuspendHow(IntEnum):
    """enum vm_suspend_how."""

    NONE = 0
    RESET = 1
    POWEROFF = 2
    HALT = 3
    DESTROY = 4


class VmState(IntEnum):
    """enum vm_state: the life of a VM."""

    EMPTY = 0
    LOADED = 1
    RUNNING = 2
    ENDED = 3
    DEAD = 4


DIR_READ = 0
DIR_WRITE = 1


@dataclass(slots=True)
class VmExit:
    """An exit without facts of its own (BOGUS, WFI, DEBUG, BRK, SS, ...)."""

    code: int
    pc: int
    inst_length: int
    esr: int
    far: int
    hpfar: int


@dataclass(slots=True)
class InstEmulExit(VmExit):
    """An access to guest physical memory that is not RAM."""

    gpa: int
    size: int
    write: bool
    data: int


@dataclass(slots=True)
class RegEmulExit(VmExit):
    """An access to a system register that the kernel part does not know."""

    reg: int
    write: bool
    data: int


@dataclass(slots=True)
class SuspendedExit(VmExit):
    """The VM's run is over."""

    how: int


@dataclass(slots=True)
class SmcccExit(VmExit):
    """HVC or SMC #0: a function id and arguments x1 to x7."""

    func_id: int
    args: tuple[int, ...]
    smc: bool


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """An exit from the guest as the trace has it: struct vm_trace_event."""

    seq: int
    time_ns: int
    vcpu: int
    type: int
    pc: int
    esr: int
    far: int
    hpfar: int
    value: int
    intid: int = 0
    loaded: bool = False


# Read at once from the bytes of struct vm_exit (vmm.h): field by field costs five times
# as much. tests/unit/test_vmmapi.py compares the offsets.
COMMON = struct.Struct("@ii4Q")
INST_EMUL = struct.Struct("@ii4QQiiQ")
REG_EMUL = struct.Struct("@ii4Q12xiQI")
HOW = struct.Struct("@ii4Q28xi")
SMCCC = struct.Struct("@ii4Q32xQ7Qi")


def _plain(raw: Any) -> VmExit:
    code, length, pc, esr, far, hpfar = COMMON.unpack_from(raw)
    return VmExit(code, pc, length, esr, far, hpfar)


def _inst_emul(raw: Any) -> VmExit:
    code, length, pc, esr, far, hpfar, gpa, size, way, data = INST_EMUL.unpack_from(raw)
    return InstEmulExit(code, pc, length, esr, far, hpfar, gpa, size, way == DIR_WRITE, data)


def _reg_emul(raw: Any) -> VmExit:
    code, length, pc, esr, far, hpfar, way, data, reg = REG_EMUL.unpack_from(raw)
    return RegEmulExit(code, pc, length, esr, far, hpfar, reg, way == DIR_WRITE, data)


def _suspended(raw: Any) -> VmExit:
    code, length, pc, esr, far, hpfar, how = HOW.unpack_from(raw)
    return SuspendedExit(code, pc, length, esr, far, hpfar, how)


def _smccc(raw: Any) -> VmExit:
    f = SMCCC.unpack_from(raw)
    return SmcccExit(f[0], f[2], f[1], f[3], f[4], f[5], f[6], f[7:14], f[14] != 0)


_EXITS: dict[int, Callable[[Any], VmExit]] = {
    ExitCode.INST_EMUL: _inst_emul,
    ExitCode.REG_EMUL: _reg_emul,
    ExitCode.SUSPENDED: _suspended,
    ExitCode.SMCCC: _smccc,
}


def read_exit(code: int, raw: Any) -> VmExit:
    """The exit in the bytes of a struct vm_exit whose exitcode is `code`."""
    return _EXITS.get(code, _plain)(raw)
