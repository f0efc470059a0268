"""PSCI 1.1 and SMCCC 1.2: the firmware calls that a guest makes with HVC or SMC.

Responsible for which vCPU is on, for what each function answers, and for parking the
threads of vCPUs that are off. Not for registers or for ending the VM: call() returns
what to write to x0-x3 and an action for the runner, and a parked vCPU's own thread gets
its start address from wait(), so that no vCPU's registers are set by another's thread.

Arm DEN 0022 (PSCI), DEN 0028 (SMCCC), DEN 0057 (paravirtualized time), DEN 0098 (TRNG).
A call not in the table answers NOT_SUPPORTED, and PSCI_FEATURES says the same of it.
Left out: SYSTEM_SUSPEND, MEM_PROTECT, STAT_*, OS-initiated suspend, and SOC_ID, which is
for who has a JEP-106 number.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

MASK32 = 0xFFFFFFFF
MASK64 = 0xFFFFFFFF_FFFFFFFF

SUCCESS = 0
NOT_SUPPORTED = -1
INVALID_PARAMETERS = -2
DENIED = -3
ALREADY_ON = -4
ON_PENDING = -5
INVALID_ADDRESS = -9
# SMCCC and TRNG codes that have other names for the same numbers.
NOT_REQUIRED = -2
TRNG_INVALID = -2

PSCI_VERSION_1_1 = 0x10001
SMCCC_VERSION_1_2 = 0x10002
TRNG_VERSION_1_0 = 0x10000

AFFINITY_ON, AFFINITY_OFF, AFFINITY_ON_PENDING = 0, 1, 2
# Aff3 and Aff2-0 of an MPIDR: all other bits of a target must be zero.
MPIDR_AFF = 0xFF_00FFFFFF
AFF_LEVEL_MASK = (0xFF_00FFFFFF, 0xFF_00FFFF00, 0xFF_00FF0000, 0xFF_00000000)
# power_state, original format: level 25:24, type 16 (1 = power-down), state 15:0.
POWER_STATE_VALID = 0x0301FFFF
POWER_STATE_DOWN = 1 << 16
MIGRATE_NOT_REQUIRED = 2
# SMCCC 1.3: the caller has no live SVE state; part of the id of fast calls, not of the function.
FAST_CALL = 1 << 31
SVE_HINT = 1 << 16
WIDE_CALL = 1 << 30

# The UUID that TRNG_GET_UUID gives: that of this back end (the host's urandom).
TRNG_UUID = (0x6D7674B2, 0x51E3476F, 0x9A0CB42C, 0x7E1D0B58)
# Whose hypervisor this is (the call UID of vendor-specific hypervisor services).
VENDOR_UUID = (0x1F7A5C93, 0x4E1BD07A, 0xB85E22AB, 0x64C9E10D)
VENDOR_REVISION = (1, 0)


class Action(Enum):
    """What the runner does after a call, besides writing x0-x3."""

    CONTINUE = "continue"
    STANDBY = "standby"  # wait for an interrupt, then go on
    POWERDOWN = "powerdown"  # wait for an interrupt, then reset and begin at Result.start
    PARK = "park"  # wait() until the vCPU is turned on again
    POWEROFF = "poweroff"
    RESET = "reset"
    HALT = "halt"  # the last vCPU turned itself off


@dataclass(frozen=True)
class Start:
    """Where a vCPU that was turned on begins."""

    entry: int
    context: int


class Result(NamedTuple):
    """The answer to one call; x is None when the caller does not get one."""

    action: Action
    x: tuple[int, int, int, int] | None
    start: Start | None = None


class Power(Enum):
    """A vCPU's power state as AFFINITY_INFO reports it."""

    ON = AFFINITY_ON
    OFF = AFFINITY_OFF
    ON_PENDING = AFFINITY_ON_PENDING


Handler = Callable[["Psci", int, Sequence[int], bool], "int | Result"]


CONTINUE = Action.CONTINUE  # as a name of the module: each call needs it


def _answer(x0: int, x1: int = 0, x2: int = 0, x3: int = 0) -> Result:
    return Result(CONTINUE, (x0 & MASK64, x1 & MASK64, x2 & MASK64, x3 & MASK64))


@lru_cache(64)
def _number(x0: int) -> Result:
    """What most calls answer, made once: numbers are few."""
    return _answer(x0)


class Psci:
    """The power state of a VM's vCPUs."""

    def __init__(
        self,
        mpidrs: Sequence[int],
        valid_entry: Callable[[int], bool] = lambda gpa: True,
        stolen_time: Callable[[int], int | None] = lambda vcpu: None,
    ) -> None:
        """stolen_time: where a vCPU's stolen time structure is, None if there is none."""
        self._mpidrs = [m & MPIDR_AFF for m in mpidrs]
        self._valid_entry = valid_entry
        self._stolen_time = stolen_time
        self._cond = threading.Condition()
        self._power = [Power.OFF] * len(self._mpidrs)
        self._start: list[Start | None] = [None] * len(self._mpidrs)
        self._stopped = False
        self.reset()

    def reset(self) -> None:
        """vCPU 0 on, the rest off."""
        with self._cond:
            self._power[:] = [Power.OFF] * len(self._mpidrs)
            self._power[0] = Power.ON
            self._start[:] = [None] * len(self._mpidrs)
            self._stopped = False

    def stop(self) -> None:
        """The VM is ending: every wait() returns None from now on."""
        with self._cond:
            self._stopped = True
            self._cond.notify_all()

    def is_on(self, vcpu: int) -> bool:
        """Whether the vCPU runs (a pending one does not yet)."""
        return self._power[vcpu] is Power.ON

    def wait(self, vcpu: int) -> Start | None:
        """Park until the vCPU is turned on; its thread is the only caller."""
        with self._cond:
            self._cond.wait_for(lambda: self._stopped or self._start[vcpu] is not None)
            if self._stopped:
                return None
            start, self._start[vcpu] = self._start[vcpu], None
            self._power[vcpu] = Power.ON
            return start

    def call(self, vcpu: int, func_id: int, args: Sequence[int]) -> Result:
        """One HVC or SMC with immediate 0; args are x1 and up (three are enough)."""
        func_id &= MASK32
        if func_id & FAST_CALL:
            func_id &= ~SVE_HINT
        handler = CALLS.get(func_id)
        if handler is None:
            return _number(NOT_SUPPORTED)
        wide = bool(func_id & WIDE_CALL)
        mask = MASK64 if wide else MASK32
        result = handler(self, vcpu, (args[0] & mask, args[1] & mask, args[2] & mask), wide)
        return result if isinstance(result, Result) else _number(result)

    def save(self) -> dict[str, Any]:
        """Power states and starts not yet taken."""
        with self._cond:
            return {
                "power": [p.value for p in self._power],
                "start": [None if s is None else [s.entry, s.context] for s in self._start],
            }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse."""
        with self._cond:
            self._power[:] = [Power(p) for p in state["power"]]
            self._start[:] = [None if s is None else Start(s[0], s[1]) for s in state["start"]]
            self._cond.notify_all()

    # -- handlers -------------------------------------------------------------------

    def _version(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        return PSCI_VERSION_1_1

    def _features(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        asked = args[0] & MASK32
        known = asked in CALLS and (asked & 0x3F00FFE0 == 0x04000000 or asked == FN_SMCCC_VERSION)
        # CPU_SUSPEND: flags 0 = original power_state format, no OS-initiated mode.
        return SUCCESS if known else NOT_SUPPORTED

    def _cpu_suspend(self, vcpu: int, args: Sequence[int], wide: bool) -> int | Result:
        if args[0] & ~POWER_STATE_VALID:
            return INVALID_PARAMETERS
        if not args[0] & POWER_STATE_DOWN:
            return Result(Action.STANDBY, (SUCCESS, 0, 0, 0))
        if not self._entry_ok(args[1]):
            return INVALID_ADDRESS
        return Result(Action.POWERDOWN, None, Start(args[1], args[2]))

    def _cpu_off(self, vcpu: int, args: Sequence[int], wide: bool) -> Result:
        with self._cond:
            self._power[vcpu] = Power.OFF
            if all(p is Power.OFF for p in self._power):
                return Result(Action.HALT, None)
        return Result(Action.PARK, None)

    def _entry_ok(self, entry: int) -> bool:
        return not entry & 3 and self._valid_entry(entry)

    def _cpu_on(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        target, entry, context = args[0], args[1], args[2]
        if target not in self._mpidrs:
            return INVALID_PARAMETERS
        index = self._mpidrs.index(target)
        with self._cond:
            if self._power[index] is Power.ON:
                return ALREADY_ON
            if self._power[index] is Power.ON_PENDING:
                return ON_PENDING
            if not self._entry_ok(entry):
                return INVALID_ADDRESS
            self._power[index] = Power.ON_PENDING
            self._start[index] = Start(entry, context)
            self._cond.notify_all()
        return SUCCESS

    def _affinity_info(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        target, level = args[0], args[1]
        if level >= len(AFF_LEVEL_MASK) or target & ~MPIDR_AFF:
            return INVALID_PARAMETERS
        mask = AFF_LEVEL_MASK[level]
        with self._cond:
            found = [
                p
                for m, p in zip(self._mpidrs, self._power, strict=True)
                if m & mask == target & mask
            ]
        if not found:
            return INVALID_PARAMETERS
        for state in (Power.ON, Power.ON_PENDING):
            if state in found:
                return int(state.value)
        return AFFINITY_OFF

    def _migrate_info_type(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        return MIGRATE_NOT_REQUIRED

    def _system_off(self, vcpu: int, args: Sequence[int], wide: bool) -> Result:
        return Result(Action.POWEROFF, None)

    def _system_reset(self, vcpu: int, args: Sequence[int], wide: bool) -> Result:
        return Result(Action.RESET, None)

    def _system_reset2(self, vcpu: int, args: Sequence[int], wide: bool) -> int | Result:
        reset_type = args[0] & MASK32
        if reset_type & 1 << 31:
            return Result(Action.RESET, None)  # vendor-specific: all are the same here
        if reset_type != 0:  # architectural: 0 is SYSTEM_WARM_RESET, the rest reserved
            return INVALID_PARAMETERS
        return Result(Action.RESET, None)

    def _smccc_version(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        return SMCCC_VERSION_1_2

    def _arch_features(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        asked = args[0] & MASK32
        if asked == FN_PV_TIME_FEATURES:
            return NOT_SUPPORTED if self._stolen_time(vcpu) is None else SUCCESS
        return ARCH_FEATURES.get(asked, NOT_SUPPORTED)

    def _workaround(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        return SUCCESS  # this PE does not speculate

    def _vendor_uid(self, vcpu: int, args: Sequence[int], wide: bool) -> Result:
        return _answer(*VENDOR_UUID)

    def _vendor_revision(self, vcpu: int, args: Sequence[int], wide: bool) -> Result:
        return _answer(*VENDOR_REVISION)

    def _pv_time_features(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        known = args[0] & MASK32 in (FN_PV_TIME_FEATURES, FN_PV_TIME_ST)
        return SUCCESS if known and self._stolen_time(vcpu) is not None else NOT_SUPPORTED

    def _pv_time_st(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        gpa = self._stolen_time(vcpu)
        return NOT_SUPPORTED if gpa is None else gpa

    def _trng_version(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        return TRNG_VERSION_1_0

    def _trng_features(self, vcpu: int, args: Sequence[int], wide: bool) -> int:
        return SUCCESS if args[0] & MASK32 in TRNG_CALLS else NOT_SUPPORTED

    def _trng_uuid(self, vcpu: int, args: Sequence[int], wide: bool) -> Result:
        return _answer(*TRNG_UUID)

    def _trng_rnd(self, vcpu: int, args: Sequence[int], wide: bool) -> int | Result:
        """x3 gets the first bits asked for, then x2, then x1; unasked bits are zero."""
        unit = 64 if wide else 32
        bits = args[0]
        if not 0 < bits <= 3 * unit:
            return TRNG_INVALID
        value = int.from_bytes(os.urandom(24), "little") & ((1 << bits) - 1)
        mask = (1 << unit) - 1
        return _answer(SUCCESS, value >> 2 * unit & mask, value >> unit & mask, value & mask)


FN_SMCCC_VERSION = 0x80000000
FN_PV_TIME_FEATURES = 0xC5000020
FN_PV_TIME_ST = 0xC5000021

TRNG_CALLS: dict[int, Handler] = {
    0x84000050: Psci._trng_version,
    0x84000051: Psci._trng_features,
    0x84000052: Psci._trng_uuid,
    0x84000053: Psci._trng_rnd,
    0xC4000053: Psci._trng_rnd,
}

CALLS: dict[int, Handler] = {
    FN_SMCCC_VERSION: Psci._smccc_version,
    0x80000001: Psci._arch_features,
    0x80008000: Psci._workaround,  # SMCCC_ARCH_WORKAROUND_1
    0x80003FFF: Psci._workaround,  # SMCCC_ARCH_WORKAROUND_3
    0x84000000: Psci._version,
    0x84000001: Psci._cpu_suspend,
    0xC4000001: Psci._cpu_suspend,
    0x84000002: Psci._cpu_off,
    0x84000003: Psci._cpu_on,
    0xC4000003: Psci._cpu_on,
    0x84000004: Psci._affinity_info,
    0xC4000004: Psci._affinity_info,
    0x84000006: Psci._migrate_info_type,
    0x84000008: Psci._system_off,
    0x84000009: Psci._system_reset,
    0x8400000A: Psci._features,
    0x84000012: Psci._system_reset2,
    0xC4000012: Psci._system_reset2,
    0x8600FF01: Psci._vendor_uid,
    0x8600FF03: Psci._vendor_revision,
    FN_PV_TIME_FEATURES: Psci._pv_time_features,
    FN_PV_TIME_ST: Psci._pv_time_st,
    **TRNG_CALLS,
}

# SMCCC_ARCH_FEATURES: 1 and NOT_REQUIRED both say "this PE does not need it".
ARCH_FEATURES: dict[int, int] = {
    FN_SMCCC_VERSION: SUCCESS,
    0x80000001: SUCCESS,
    0x80008000: 1,
    0x80007FFF: NOT_REQUIRED,  # SMCCC_ARCH_WORKAROUND_2
    0x80003FFF: 1,
}
