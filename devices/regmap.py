"""Registers by declaration: names, offsets, fields, access, and values that print themselves.

    class Timer(OwnDevice):
        ID = Register(0x00, reset=0x7411, access="ro")
        CTRL = Register(0x04, fields={"enable": 0, "mode": (3, 1), "irq": 8})
        STATUS = Register(0x08, access="w1c", fields={"done": 0})
        CYCLES = SysReg("S3_0_C15_C2_0", access="ro")

    self.CTRL                 CTRL=0x00000103 enable=1 mode=1 irq=1
    self.CTRL.mode            1
    self.CTRL.mode = 2        self.CTRL = 0x105        int(self.CTRL)

Access "rw", "ro" (writes are ignored), "wo" (reads are 0), "w1c" (a one clears). Methods
of the class named read_NAME(self) -> int and write_NAME(self, value) are called at an
access of the guest, the second one after the value was stored; a class without them has
plain storage.

Responsible for the declaration and for accesses of any size to it. Not for the device
around it (own.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, overload

from .base import DeviceError

ACCESS = ("rw", "ro", "wo", "w1c")
# S<op0>_<op1>_C<CRn>_C<CRm>_<op2>: what the guest's userland can have (vm_user_sysregs()).
_SYSREG = re.compile(r"S3_([0-7])_C(11|15)_C(1[0-5]|\d)_([0-7])", re.ASCII | re.IGNORECASE)
_OP0 = 3

Fields = Mapping[str, int | tuple[int, int]]


class Value:
    """A register's value in one device; fields are its attributes."""

    __slots__ = ("_reg", "_value")
    _reg: Any  # a Register; but that is a descriptor
    _value: int

    def __init__(self, reg: Register) -> None:
        object.__setattr__(self, "_reg", reg)
        object.__setattr__(self, "_value", reg.reset)

    def __int__(self) -> int:
        return self._value

    __index__ = __int__

    def set(self, value: int) -> None:
        """All of it."""
        object.__setattr__(self, "_value", value & self._reg.mask)

    def __getattr__(self, name: str) -> int:
        reg: Register = object.__getattribute__(self, "_reg")
        field = reg.fields.get(name)
        if field is None:
            raise AttributeError(f"{reg.name} has no field {name}")
        high, low = field
        return self._value >> low & (1 << high - low + 1) - 1

    def __setattr__(self, name: str, value: int) -> None:
        field = self._reg.fields.get(name)
        if field is None:
            raise AttributeError(f"{self._reg.name} has no field {name}")
        high, low = field
        ones = (1 << high - low + 1) - 1
        self.set(self._value & ~(ones << low) | (int(value) & ones) << low)

    def __eq__(self, other: object) -> bool:
        return self._value == other if isinstance(other, int) else self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        digits = self._reg.size * 2
        words = [f"{self._reg.name}={self._value:#0{digits + 2}x}"]
        words += [f"{name}={getattr(self, name)}" for name in self._reg.fields]
        return " ".join(words)


class Register:
    """A register in the window of a device."""

    def __init__(
        self,
        offset: int,
        *,
        size: int = 4,
        reset: int = 0,
        access: str = "rw",
        fields: Fields | None = None,
        about: str = "",
    ) -> None:
        if size not in (1, 2, 4, 8) or offset < 0 or offset % size:
            raise DeviceError(f"a register of {size} bytes at {offset:#x}: align it to its size")
        self._common(size, reset, access, fields, about)
        self.offset = offset

    def _common(
        self, size: int, reset: int, access: str, fields: Fields | None, about: str
    ) -> None:
        if access not in ACCESS:
            raise DeviceError(f"register access {access!r}: use {', '.join(ACCESS)}")
        self.name = ""
        self.size = size
        self.mask = (1 << 8 * size) - 1
        self.reset = reset & self.mask
        self.access = access
        self.about = about
        self.fields: dict[str, tuple[int, int]] = {}
        taken = 0
        for name, where in (fields or {}).items():
            high, low = (where, where) if isinstance(where, int) else where
            bits = (1 << high + 1) - (1 << low) if 0 <= low <= high < 8 * size else 0
            if not bits or bits & taken or name.startswith("_") or name == "set":
                raise DeviceError(f"field {name} at {where}: not in the register, or taken")
            taken |= bits
            self.fields[name] = (high, low)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> Register: ...
    @overload
    def __get__(self, device: Any, owner: type) -> Value: ...
    def __get__(self, device: Any, owner: type) -> Register | Value:
        return self if device is None else device.values[self.name]

    def __set__(self, device: Any, value: int) -> None:
        device.values[self.name].set(int(value))

    def guest_read(self, device: Any) -> int:
        """What a guest reads."""
        hook = getattr(device, f"read_{self.name}", None)
        if hook is not None:
            return int(hook()) & self.mask
        return 0 if self.access == "wo" else int(device.values[self.name])

    def guest_write(self, device: Any, value: int, mask: int) -> None:
        """What a guest writes; only the bytes in mask."""
        cell: Value = device.values[self.name]
        old = int(cell)
        if self.access == "w1c":
            cell.set(old & ~(value & mask))
        elif self.access != "ro":
            cell.set(old & ~mask | value & mask)
        hook = getattr(device, f"write_{self.name}", None)
        if hook is not None:
            hook(value & mask if self.access in ("w1c", "ro") else int(cell))


class SysReg(Register):
    """A system register that a device answers for: op0 3, CRn 11 or 15."""

    def __init__(
        self,
        name: str,
        *,
        reset: int = 0,
        access: str = "rw",
        fields: Fields | None = None,
        about: str = "",
    ) -> None:
        match = _SYSREG.fullmatch(name)
        if match is None:
            raise DeviceError(
                f"system register {name!r}: devices have S3_<op1>_C11_<Cm>_<op2> and"
                " S3_<op1>_C15_<Cm>_<op2>"
            )
        self._common(8, reset, access, fields, about)
        op1, crn, crm, op2 = (int(match[n]) for n in (1, 2, 3, 4))
        self.encoding = _OP0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2


class RegisterMap:
    """The registers of a class, found by address."""

    def __init__(self, cls: type) -> None:
        found = {
            name: reg
            for base in reversed(cls.__mro__)
            for name, reg in vars(base).items()
            if isinstance(reg, Register)
        }
        self.all = list(found.values())
        self.sysregs = {r.encoding: r for r in self.all if isinstance(r, SysReg)}
        self.mmio = sorted(
            (r for r in self.all if not isinstance(r, SysReg)), key=lambda r: r.offset
        )
        self._bytes: dict[int, Register] = {}
        for reg in self.mmio:
            for at in range(reg.offset, reg.offset + reg.size):
                if at in self._bytes:
                    raise DeviceError(f"{reg.name} and {self._bytes[at].name} overlap")
                self._bytes[at] = reg
        self.end = max((r.offset + r.size for r in self.mmio), default=0)

    def parts(self, offset: int, size: int) -> Iterator[tuple[Register | None, int, int, int]]:
        """(register, its byte, byte of the access, count): an access of several, low first."""
        at = offset
        while at < offset + size:
            reg = self._bytes.get(at)
            end = at + 1 if reg is None else min(offset + size, reg.offset + reg.size)
            yield reg, at - (reg.offset if reg else at), at - offset, end - at
            at = end
