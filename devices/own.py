"""A device of the user's own, in Python: -s size@addr#irq:python,FILE.py:Class[,key=value].

    from bhyvepy.devices.own import OwnDevice, Register, SysReg, smccc

    class Thing(OwnDevice):
        compatible = ("example,thing",)
        ID = Register(0x0, reset=0x1234, access="ro")
        GO = Register(0x4, fields={"start": 0})

        def start(self, options):          # key=value of the command line
            self.step = int(options.get("step", "1"))

        def write_GO(self, value):
            self.irq(bool(self.GO.start))

        @smccc(0xC6000001)                 # HVC or SMC with this function id
        def add(self, a, b):
            return a + b

docs/devices.md is the manual, guests/adder.py an example. Registers are declared with
regmap.py. Methods are called by vCPU threads, one at a time for each device.

Responsible for the base class and for loading a class from a file, with one line for
whatever is wrong with it. Not for what it does.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from bhyvepy.errors import BhyveError, printable

from .base import LOG, Device, DeviceEnv, DeviceError, DtContext, DtNode, DtValue, GuestLog
from .regmap import Register as Register
from .regmap import RegisterMap, Value
from .regmap import SysReg as SysReg

_F = TypeVar("_F", bound=Callable[..., Any])
_CALL = "_bhyvepy_smccc"
# SMC Calling Convention (DEN0028), 2.5: what Arm has for itself and for PSCI is not for sale.
_OWNED = {0: "Arm's architecture calls", 4: "PSCI and the standard services"}
MASK64 = (1 << 64) - 1


def smccc(function: int) -> Callable[[_F], _F]:
    """A method that answers an SMCCC function: x1 and up in, x0 (or a sequence) out."""
    owner = function >> 24 & 0x3F
    if not 0 <= function < 1 << 32 or not function >> 31 or owner in _OWNED:
        why = _OWNED.get(owner, "it is not a fast call of 32 bits")
        raise DeviceError(f"SMCCC function {function:#x}: {why}; use 0xc6000000 and up")

    def mark(method: _F) -> _F:
        setattr(method, _CALL, function)
        return method

    return mark


class OwnDevice(Device):
    """The base class of devices in files of the user's own."""

    size: int = 0x1000
    compatible: ClassVar[tuple[str, ...]] = ()  # of its device tree node; empty: none
    node: ClassVar[str] = ""  # the node's name; the class's in lower case if empty
    props: ClassVar[Mapping[str, DtValue]] = {}  # more properties
    map: ClassVar[RegisterMap]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.map = RegisterMap(cls)

    def __init__(self, env: DeviceEnv, options: Mapping[str, str]) -> None:
        super().__init__(env)
        self.values: dict[str, Value] = {reg.name: Value(reg) for reg in self.map.all}
        self.memory = env.memory
        self.lock = threading.RLock()
        self._complaints = GuestLog(env.name)
        self.start(options)

    # -- for the class to define -----------------------------------------------------------
    def start(self, options: Mapping[str, str]) -> None:
        """Take the options of the command line; DeviceError in one line for a bad one."""
        for key in options:
            raise DeviceError(f"{type(self).__name__} takes no option {printable(key)!r}")

    # -- for the class to use --------------------------------------------------------------
    def irq(self, level: bool) -> None:
        """Drive the interrupt line."""
        self.env.irq.set(level)

    def say(self, text: str) -> None:
        """A line for the user, on bhyve's standard error."""
        LOG.warning("%s: %s", self.name, text)

    def __repr__(self) -> str:
        return "\n".join([f"{self.name} ({type(self).__name__})", *map(repr, self.values.values())])

    # -- the machine's side ----------------------------------------------------------------
    def read(self, offset: int, size: int) -> int:
        """A guest load, of whatever size."""
        out = 0
        with self.lock, _Blame(self):
            for reg, at, shift, count in self.map.parts(offset, size):
                if reg is None:
                    self._complaints.complain(f"read of {size} bytes at {offset:#x}: no register")
                    continue
                part = reg.guest_read(self) >> 8 * at & (1 << 8 * count) - 1
                out |= part << 8 * shift
        return out

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest store, of whatever size."""
        with self.lock, _Blame(self):
            for reg, at, shift, count in self.map.parts(offset, size):
                if reg is None:
                    self._complaints.complain(f"write of {size} bytes at {offset:#x}: no register")
                    continue
                part = value >> 8 * shift & (1 << 8 * count) - 1
                reg.guest_write(self, part << 8 * at, (1 << 8 * count) - 1 << 8 * at)

    def sysregs(self) -> Mapping[int, Callable[[int | None], int]]:
        """Its system registers, by encoding: None reads."""

        def access(reg: Register) -> Callable[[int | None], int]:
            def call(value: int | None) -> int:
                with self.lock, _Blame(self):
                    if value is None:
                        return reg.guest_read(self)
                    reg.guest_write(self, value, reg.mask)
                return 0

            return call

        return {encoding: access(reg) for encoding, reg in self.map.sysregs.items()}

    def calls(self) -> Mapping[int, Callable[[Sequence[int]], Sequence[int]]]:
        """Its SMCCC functions: x1 to x7 in, x0 to x3 out."""

        def wrap(method: Callable[..., Any]) -> Callable[[Sequence[int]], Sequence[int]]:
            count = len(inspect.signature(method).parameters)

            def call(args: Sequence[int]) -> Sequence[int]:
                with self.lock, _Blame(self):
                    got = method(*args[:count])
                    words = [0 if got is None else got] if not isinstance(got, tuple) else got
                    return [int(w) & MASK64 for w in words[:4]]
                return []

            return call

        found = inspect.getmembers(type(self), lambda m: hasattr(m, _CALL))
        return {getattr(m, _CALL): wrap(getattr(self, name)) for name, m in found}

    def reset(self) -> None:
        """Registers as declared, the line low; a class that has more adds to it."""
        with self.lock:
            for value in self.values.values():
                value.set(value._reg.reset)
            self.irq(False)

    def save(self) -> dict[str, Any]:
        """The registers."""
        return {name: int(value) for name, value in self.values.items()}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse."""
        for name, value in state.items():
            self.values[name].set(value)

    def dt_node(self, ctx: DtContext) -> DtNode | None:
        """Its node, when the class says what it is compatible with."""
        if not self.compatible:
            return None
        name = self.node or type(self).__name__.lower()
        return DtNode(name, tuple(self.compatible), dict(self.props))


class _Blame:
    """What fails inside is the user's class: the line says where."""

    def __init__(self, device: OwnDevice) -> None:
        self._device = device

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, err: Any, trace: Any) -> None:
        if kind is None or not issubclass(kind, Exception) or issubclass(kind, BhyveError):
            return
        where = traceback.extract_tb(trace)[-1]
        raise DeviceError(
            f"{self._device.name}: {Path(where.filename).name}:{where.lineno}:"
            f" {kind.__name__}: {err}"
        ) from err


def make(options: Mapping[str, str], env: DeviceEnv) -> Device:
    """The device of FILE.py:Class."""
    rest = dict(options)
    path, colon, name = rest.pop("class", "").rpartition(":")
    if not colon or not path or not name.isidentifier():
        raise DeviceError(
            "python wants a file and a class: -s 0x1000@0x30000#60:python,FILE.py:Class"
        )
    cls = getattr(_module(path), name, None)
    if not (isinstance(cls, type) and issubclass(cls, OwnDevice)):
        raise DeviceError(f"{printable(path)} has no class {name} that is an OwnDevice")
    try:
        return cls(env, rest)
    except BhyveError:
        raise
    except Exception as err:
        raise DeviceError(f"{printable(path)}: {_what(err, path)}") from err


def _module(path: str) -> Any:
    """The file, as a module; once for all devices of it."""
    full = str(Path(path).resolve())
    key = f"bhyvepy_own_{full}"
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, full)
    if spec is None or spec.loader is None or not path.endswith(".py"):
        raise DeviceError(f"{printable(path)} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError:
        del sys.modules[key]
        raise DeviceError(f"cannot read {printable(path)}: no such file or directory") from None
    except Exception as err:
        del sys.modules[key]
        raise DeviceError(f"{printable(path)}: {_what(err, path)}") from err
    return module


def _what(err: Exception, path: str) -> str:
    """The kind of an error and the line of the user's file."""
    line = err.lineno if isinstance(err, SyntaxError) else None
    for frame in traceback.extract_tb(err.__traceback__):
        if Path(frame.filename).name == Path(path).name:
            line = frame.lineno
    text = err.msg if isinstance(err, SyntaxError) else str(err)
    return f"line {line}: {type(err).__name__}: {printable(text, 200)}"
