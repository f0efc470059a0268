"""bhyvectl --trace: exits from the guest as they happen, one line each.

What an exit was is read from its syndrome (Arm ARM DDI 0487, ESR_ELx). The ring and
its reading are vmmapi's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from bhyvepy import vmmapi
from bhyvepy.errors import ConfigError, VmError, printable
from bhyvepy.vmexit import TraceEvent, VmState

KINDS = ("mmio", "sysreg", "hvc", "irq", "fault", "wfi", "debug", "other")
SLEEP_S = 0.02
IRQ, FIQ, VIRQ = 1, 2, 8  # VM_TRACE_*
# What interrupts a PE while a guest runs on it; the host's own INTIDs.
_HOST_IRQS = {0: "kick", 23: "pmu", 26: "ptimer", 27: "vtimer", 1023: "gone"}
_EC = {0x01: "wfi", 0x16: "hvc", 0x17: "hvc", 0x18: "sysreg"}
_EC |= dict.fromkeys((48, 50, 52, 60), "debug")


def parse_kinds(text: str) -> frozenset[str]:
    """The value of --trace."""
    kinds = frozenset(text.split(",")) if text else frozenset(KINDS)
    for kind in sorted(kinds - set(KINDS)):
        raise ConfigError(f"--trace: no kind {printable(kind, 40)!r}; use {', '.join(KINDS)}")
    return kinds


class Tracer:
    """Turns events of one VM into lines."""

    def __init__(self, vm: vmmapi.VM) -> None:
        self._ram = [(m.gpa, m.end) for m in vm.memmap()]
        # The low 16 bits of a system register's number are its encoding.
        self._names = {r & 0xFFFF: n for n, r in vmmapi.system_registers().items()}

    def kind(self, e: TraceEvent) -> str:
        """One of KINDS."""
        if e.type in (IRQ, FIQ, VIRQ):
            return "irq"
        ec = e.esr >> 26 & 0x3F
        if e.type != 0:
            return "other"
        if ec in (0x20, 0x24):
            gpa = self._gpa(e)
            ram = any(a <= gpa < b for a, b in self._ram)
            return "fault" if ram or ec == 0x20 else "mmio"
        return _EC.get(ec, "other")

    @staticmethod
    def _gpa(e: TraceEvent) -> int:
        return e.hpfar >> 4 << 12 | e.far & 0xFFF

    def line(self, e: TraceEvent, kind: str) -> str:
        """Seconds, vCPU, kind, PC, and what is to say about it."""
        return f"{e.time_ns / 1e9:.6f} {e.vcpu} {kind} {e.pc:#x}{self._facts(e, kind)}"

    def _facts(self, e: TraceEvent, kind: str) -> str:
        iss = e.esr & 0x1FFFFFF
        if kind == "irq":
            if e.type == VIRQ:
                return f" {e.intid} to the guest"
            return f" {e.intid} {_HOST_IRQS.get(e.intid, '')}".rstrip()
        if kind == "mmio":
            if not iss >> 24:
                return f" {self._gpa(e):#x}"
            size = 1 << (iss >> 22 & 3)
            known = iss & 64 or e.loaded
            value = f" = {e.value & (1 << 8 * size) - 1:#x}" if known else ""
            return f" {'write' if iss & 64 else 'read'} {size} {self._gpa(e):#x}{value}"
        if kind == "fault":
            return f" {self._gpa(e):#x} va {e.far:#x}"
        if kind == "sysreg":
            enc = (iss >> 20 & 3) << 14 | (iss >> 14 & 7) << 11 | (iss >> 10 & 15) << 7
            enc |= (iss >> 1 & 15) << 3 | iss >> 17 & 7
            fields = (enc >> 14, enc >> 11 & 7, enc >> 7 & 15, enc >> 3 & 15, enc & 7)
            name = self._names.get(enc, "s{}_{}_c{}_c{}_{}".format(*fields))
            value = f" = {e.value:#x}" if e.loaded or not iss & 1 else ""
            return f" {'read' if iss & 1 else 'write'} {name}{value}"
        if kind == "hvc":
            return f" {e.value:#x}"
        return f" esr {e.esr:#x}" if kind in ("debug", "other") else ""


def follow(vm: vmmapi.VM, kinds: frozenset[str]) -> Iterator[str]:
    """Lines until the VM ends; the reader stops it when it likes."""
    tracer = Tracer(vm)
    seq = vm.trace(True)
    expected = seq
    ended = False
    try:
        while True:
            seq, events = vm.trace_read(seq)
            for e in events:
                if e.seq > expected:
                    yield f"({e.seq - expected} lost)"
                expected = e.seq + 1
                kind = tracer.kind(e)
                if kind in kinds:
                    yield tracer.line(e, kind)
            if events:
                continue
            if ended:  # and what it did before it did so was read
                return
            ended = vm.info().state is not VmState.RUNNING
            if not ended:
                time.sleep(SLEEP_S)
    finally:
        with suppress(VmError):
            vm.trace(False)
