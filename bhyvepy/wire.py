"""Wires: a serial port's data and status registers, served by the core (vmm.h).

What a guest stores while a wire is on is kept for the device, which is told by an eventfd.
When a wire may be on is the device's to say (devices/ns16550a.py).
"""

from __future__ import annotations

import os
from typing import Any

from bhyvepy._vmmcore import ffi, lib
from bhyvepy.errors import vm_error


class Wire:
    """Bytes that a guest stores to one register, and what another one reads as."""

    def __init__(self, vm: Any, write_gpa: int, read_gpa: int) -> None:
        self._vm = vm
        self.fd = os.eventfd(0, os.EFD_CLOEXEC)
        out = ffi.new("int *")
        if error := lib.vm_wire_add(vm, write_gpa, read_gpa, self.fd, out):
            os.close(self.fd)
            raise vm_error(error, "add a wire")
        self._id = int(out[0])
        self._room = ffi.new("uint8_t[]", lib.VM_WIRE_BYTES)
        self._len = ffi.new("size_t *")

    def set(self, write_on: bool, read_on: bool, value: int) -> None:
        """What the guest may do by itself from now on."""
        lib.vm_wire_set(self._vm, self._id, write_on, read_on, value)

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
            self.set(False, False, 0)
            os.close(self.fd)
            self.fd = -1
