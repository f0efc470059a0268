"""Registers of a device that the core serves: a serial port's wire, an interrupt latch (vmm.h).

What a guest stores while a wire is on is kept for the device, which is told by an eventfd.
What a wire may serve is the device's to say (devices/ns16550a.py); a latch is the interrupt
status of a device, which only the device raises and only the guest acknowledges.
"""

from __future__ import annotations

import os
from typing import Any

from bhyvepy._vmmcore import ffi, lib
from bhyvepy.errors import vm_error


class Wire:
    """A serial port's hot registers."""

    def __init__(self, vm: Any, gpa: int, intid: int) -> None:
        self._vm = vm
        self.fd = os.eventfd(0, os.EFD_CLOEXEC)
        out = ffi.new("int *")
        if error := lib.vm_wire_add(vm, gpa, intid, self.fd, out):
            os.close(self.fd)
            raise vm_error(error, "add a wire")
        self._id = int(out[0])
        self._state = ffi.new("struct vm_wire_state *")
        self._room = ffi.new("uint8_t[]", lib.VM_WIRE_BYTES)
        self._len = ffi.new("size_t *")

    def hold(self) -> tuple[int, bool]:
        """Leave every access to the device; IER, and whether the THRE interrupt is pending."""
        lib.vm_wire_hold(self._vm, self._id, self._state)
        return self._state.ier, bool(self._state.thre)

    def set(
        self, *, plain: bool, ier: int, thre: bool, rx: int, fifo: int, lsr: int, msr: int
    ) -> None:
        """What the guest may do by itself from now on, and the state that it finds."""
        s = self._state
        s.serve = lib.VM_WIRE_IIR | lib.VM_WIRE_LSR | lib.VM_WIRE_MSR
        if plain:
            s.serve |= lib.VM_WIRE_THR | lib.VM_WIRE_IER
        s.ier, s.thre, s.rx, s.fifo, s.lsr, s.msr = ier, thre, rx, fifo, lsr, msr
        lib.vm_wire_set(self._vm, self._id, s)

    def put(self, byte: int) -> bool:
        """One more behind those of the guest; False: it is full."""
        return not lib.vm_wire_put(self._vm, self._id, byte)

    def take(self) -> bytes:
        """What it has written since the last time; one caller at a time."""
        lib.vm_wire_take(self._vm, self._id, self._room, lib.VM_WIRE_BYTES, self._len)
        return bytes(ffi.buffer(self._room, self._len[0]))

    def close(self) -> None:
        """Off, for good."""
        if self.fd >= 0:
            self.hold()
            os.close(self.fd)
            self.fd = -1


class Latch:
    """An interrupt status register, its acknowledge register, and the line."""

    def __init__(self, vm: Any, status_gpa: int, ack_gpa: int, intid: int) -> None:
        self._vm = vm
        out = ffi.new("int *")
        if error := lib.vm_latch_add(vm, status_gpa, ack_gpa, intid, out):
            raise vm_error(error, "add a latch")
        self._id = int(out[0])

    def change(self, clear: int, set_: int) -> int:
        """Clear bits, then set bits; what they are then."""
        bits = ffi.new("uint32_t *")
        lib.vm_latch_change(self._vm, self._id, clear, set_, bits)
        return int(bits[0])
