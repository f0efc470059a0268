"""What a device model is and what it gets: the contracts of floor 4.

Responsible for the Device base class, the protocols a device sees (guest memory,
interrupt line, host backend), its errors and its rate-limited log. Not for the
machine's layout (machdep), the bus that finds a device by address (bhyverun) or
option parsing (slots.py, registry.py).

The public interface of bhyvepy.devices, for who wires a machine together
-------------------------------------------------------------------------

Parsing and making devices::

    from bhyvepy.devices import slots, registry
    spec = slots.parse("3,virtio-blk,disk.img,ro")            # DeviceSpec; DeviceError
    spec = slots.parse("0x200@0x7000#44:virtio-blk,disk.img")
    # spec.device "virtio-blk"; spec.options {"path": "disk.img", ...} (str -> str)
    # spec.base, spec.size: window in guest physical memory
    # spec.irq: INTID, or None ("#-1"): the caller picks one or wires nothing
    # spec.slot, spec.func: for the slot form, else None and 0
    # spec.version: virtio-mmio version, 1 or 2;  spec.text: the string as given
    slots.check(list_of_specs)     # duplicate slots, overlapping windows, shared INTIDs
    # spec.ignored: hostbridge and the like, nothing to make
    dev = registry.create(spec.device, spec.options, env, spec.version, spec.size)
    # registry.KNOWN: sorted names; registry.describe(): lines for `bhyve -s help`
    env = DeviceEnv(name="virtio-blk0", memory=mem, irq=line, attach=console.attach,
                    fatal=machine.stop_with)

A device (class Device): ``size`` (bytes of its window), ``read(offset, size) -> int``,
``write(offset, size, value)``, ``reset()``, ``close()``, ``save() -> dict``,
``load(dict)``, ``dt_node(ctx) -> DtNode | None``, ``doorbells() -> list[Doorbell]``.
read and write are called by vCPU threads with 0 <= offset < self.size and size in
{1, 2, 4, 8}, several threads at once; they never raise on what a guest does. reset() is
the machine's reset; close() flushes, joins the device's threads, and may be called twice.

Directly constructed devices::

    NS16550A(env, clock_hz=1843200)                # ns16550a.py; com1..com4
    PL011(env, clock_hz=24000000)                  # pl011.py; mmio-uart of the seeds
    BvmConsole(env)                                # bvmconsole.py; 4 bytes at 0x90000
    VirtioMmio(env, VirtioBlk(...), version=2)     # virtio/mmio.py; 0x200 bytes
    # Character devices call env.attach(dev) themselves and get a Port (below).

Console (console.py), run by the main thread::

    con = Console(in_fd=0, out_fd=1)        # nothing touched yet
    env = DeviceEnv(..., attach=con.attach)
    with con:                               # raw mode, restored on exit and by atexit
        while running:
            r, w, _ = select.select([wakeup, *con.read_fds()], con.write_fds(), [],
                                    con.timeout())
            if con.dispatch(r, w) is ConsoleEvent.POWEROFF: vm.suspend(POWEROFF)
    con.message("text")                     # our own line, CR LF when the tty is raw

PSCI (psci.py): no CPU is ever started from another CPU's thread::

    psci = Psci(mpidrs=[...], valid_entry=lambda gpa: bool)  # vCPU 0 is on, the rest off
    # a vCPU thread:
    start = psci.wait(vcpu)                 # Start(entry, context) or None: VM is ending;
                                            # vCPU 0 skips it the first time
    # reset the vCPU, X0 = start.context, PC = start.entry; vm_run...
    # on a SMCCC exit:
    res = psci.call(vcpu, func_id, args)    # Result(action, x)
    # res.x: (x0, x1, x2, x3) to write unless None; res.action:
    #   Action.CONTINUE; Action.STANDBY (continue; may wait for an interrupt first);
    #   Action.PARK: psci.wait(vcpu) again;  Action.POWEROFF / RESET / HALT: vm_suspend
    psci.stop()                             # wakes every waiter with None
    psci.is_on(vcpu), psci.reset()          # reset: vCPU 0 on, the rest off

Doorbells: Doorbell(offset, size, value, fd): a guest write of `size` bytes at window
offset `offset` (any value when value is None) may signal eventfd `fd` instead of
calling write(): pass each to vm_doorbell_add(base + offset, size, value is None,
value or 0, fd), and take it away before close(). Optional: write() does the same.

Guest memory raises bhyvepy.errors.GuestFault (a device survives it: the guest's fault) or
another BhyveError (no space left: the device calls env.fatal(exc), from any thread, and
the machine stops with that line). User errors are bhyvepy.errors.DeviceError: one line
with the remedy.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from bhyvepy.errors import DeviceError as DeviceError
from bhyvepy.errors import GuestFault as GuestFault
from bhyvepy.errors import printable

if TYPE_CHECKING:
    from bhyvepy.virtq import Ram

    from .endpoint import Endpoint

LOG = logging.getLogger("bhyvepy.devices")


class GuestMemory(Protocol):
    """Checked access to guest RAM: fails closed outside it (implemented by bhyvepy.mem)."""

    def view(self, gpa: int, length: int, write: bool) -> memoryview:
        """Zero-copy bytes of RAM; read-only unless `write`. GuestFault."""
        ...

    def read(self, gpa: int, n: int) -> bytes:
        """A copy of n bytes. GuestFault."""
        ...

    def write(self, gpa: int, data: bytes) -> None:
        """Store bytes. GuestFault."""
        ...

    def wrote(self, spans: Iterable[tuple[int, int]]) -> None:
        """Ranges (address, length) that were written through views: for the dirty log."""
        ...

    def direct(self) -> list[Ram]:
        """All of RAM for C code that checks as view() does; nothing during a dirty log."""
        ...


class IrqLine(Protocol):
    """A level interrupt line; callable from any thread, idempotent."""

    @property
    def intid(self) -> int:
        """Its number, for the core; 0: it is not a line of the core's."""
        ...

    def set(self, level: bool) -> None:
        """Drive the line."""
        ...


class NoIrq:
    """A line that ends nowhere (`#-1`)."""

    intid = 0

    def set(self, level: bool) -> None:
        """Nothing listens."""


class Port(Protocol):
    """A character device's side of the host: where its bytes go, and what to tell it."""

    def send(self, data: bytes) -> None:
        """The guest sent bytes; never blocks for long."""
        ...

    def touched(self) -> None:
        """The guest looked for input here: input follows the device last read."""
        ...

    def space(self) -> None:
        """There is room for input again."""
        ...


class CharDevice(Protocol):
    """What the host side needs of a character device."""

    def push(self, data: bytes) -> int:
        """Host input; returns how many leading bytes were taken. Any thread."""
        ...

    def recall(self) -> bytes:
        """Host input that the guest has not read, taken back. Any thread."""
        ...


class NoPort:
    """A port that nobody holds the other end of."""

    def send(self, data: bytes) -> None:
        """Drop."""

    def touched(self) -> None:
        """No input ever comes."""

    def space(self) -> None:
        """No input ever comes."""


def log_fatal(error: Exception) -> None:
    """The fatal function of a machine that has none of its own."""
    LOG.error("%s", error)


def no_attach(device: CharDevice) -> Port:
    """The attach function of a machine without a console."""
    return NoPort()


def no_settle() -> None:
    """Other ports have nothing under way."""


def no_line(where: str) -> Callable[[CharDevice], Port]:
    """The lines of a machine without a main thread."""
    raise DeviceError(f"there is no way to {printable(where, 60)} here")


def no_endpoint(where: str) -> Endpoint:
    """The same for ports that read and write themselves."""
    raise DeviceError(f"there is no way to {printable(where, 60)} here")


def no_resize(changed: Callable[[], None]) -> None:
    """Nobody looks at the size of terminals."""


@dataclass(frozen=True)
class DeviceEnv:
    """What the machine gives a device when it is made."""

    name: str
    memory: GuestMemory
    irq: IrqLine = field(default_factory=NoIrq)
    attach: Callable[[CharDevice], Port] = no_attach
    fatal: Callable[[Exception], None] = log_fatal
    vm: str = ""  # the name of the VM
    settle: Callable[[], None] = no_settle  # let what other ports have sent go out first
    # Where a port named in the device's options ends: stdio, and the forms of endpoint.py.
    line: Callable[[str], Callable[[CharDevice], Port]] = no_line
    endpoint: Callable[[str], Endpoint] = no_endpoint
    on_resize: Callable[[Callable[[], None]], None] = no_resize


@dataclass(frozen=True)
class Doorbell:
    """A register whose write may become a signal on an eventfd."""

    offset: int
    size: int
    value: int | None
    fd: int


class Wire(Protocol):
    """A serial port's registers, served by the core while the device lets it (wire.py).

    The interrupt line is the wire's from the first set() on.
    """

    fd: int  # an eventfd: there are bytes to take

    def hold(self) -> tuple[int, bool]:
        """Leave every access to the device; what IER and `thre` have become."""
        ...

    def set(
        self, *, plain: bool, ier: int, thre: bool, rx: int, fifo: int, lsr: int, msr: int
    ) -> None:
        """What the guest finds without the device from now on.

        plain: offsets 0 and 1 are THR and IER; thre: the transmitter's interrupt is pending;
        rx: the receiver's cause as IIR has it; fifo: the other bits of IIR.
        """
        ...

    def put(self, byte: int) -> bool:
        """One more behind those of the guest; False: it is full."""
        ...

    def take(self) -> bytes:
        """What it has written since the last time."""
        ...

    def close(self) -> None:
        """Off, for good."""
        ...


class Latch(Protocol):
    """Interrupt status bits that the guest reads and acknowledges in the core (wire.py).

    The interrupt line is up while there are any.
    """

    def change(self, clear: int, set_: int) -> int:
        """Clear bits, then set bits; what they are then."""
        ...


class IrqLatch:
    """The same without the core's help."""

    def __init__(self, irq: IrqLine) -> None:
        self._irq = irq
        self._lock = threading.Lock()
        self._bits = 0

    def change(self, clear: int, set_: int) -> int:
        """Clear bits, then set bits; what they are then."""
        with self._lock:
            self._bits = self._bits & ~clear | set_
            self._irq.set(bool(self._bits))
            return self._bits


# True: a property without value; int: one u32 cell; list of int: u32 cells.
DtValue = bool | int | str | bytes | list[int] | list[str]


@dataclass(frozen=True)
class DtNode:
    """A device's node without its place: the machine adds @unit, reg and interrupts."""

    name: str
    compatible: tuple[str, ...]
    props: dict[str, DtValue] = field(default_factory=dict)
    alias: str | None = None  # "serial": wants /aliases/serialN
    children: tuple[DtNode, ...] = ()  # nodes without a place


class DtContext(Protocol):
    """What a node may refer to in the tree that it becomes part of."""

    def fixed_clock(self, hz: int) -> int:
        """Phandle of a fixed clock of that rate."""
        ...

    def phandle(self) -> int:
        """A number for the "phandle" of a node that others refer to."""
        ...

    def beside(self, node: DtNode) -> None:
        """One more node, without a place, in the root."""
        ...


class Device(ABC):
    """One emulated device behind a window of guest physical memory."""

    kind: ClassVar[str] = "device"
    wants_wire: ClassVar[bool] = False  # it is an NS16550A with byte registers from offset 0
    size: int = 0x1000

    def __init__(self, env: DeviceEnv) -> None:
        self.env = env
        self.name = env.name

    @abstractmethod
    def read(self, offset: int, size: int) -> int:
        """A guest load."""

    @abstractmethod
    def write(self, offset: int, size: int, value: int) -> None:
        """A guest store; value is already cut to size."""

    def reset(self) -> None:  # noqa: B027 - nothing to do is a fair answer
        """Power-on state, with nothing in flight left."""

    def close(self) -> None:  # noqa: B027
        """Give host resources back; twice is harmless."""

    def save(self) -> dict[str, Any]:
        """State as plain values (ints, strings, bytes, lists, dicts)."""
        return {}

    def load(self, state: dict[str, Any]) -> None:  # noqa: B027
        """The inverse of save()."""

    def dt_node(self, ctx: DtContext) -> DtNode | None:
        """The device tree node, or None when the device has none."""
        return None

    def sysregs(self) -> Mapping[int, Callable[[int | None], int]]:
        """System registers that it answers for, by MRS encoding: None reads, a value writes."""
        return {}

    def calls(self) -> Mapping[int, Callable[[Sequence[int]], Sequence[int]]]:
        """SMCCC functions that it answers: x1 to x7 in, x0 and up out."""
        return {}

    def doorbells(self) -> list[Doorbell]:
        """Registers that the runner may turn into eventfd signals."""
        return []

    def use_wire(self, wire: Wire) -> None:  # noqa: B027
        """The core can serve it: for devices with `wants_wire`."""

    def latch_at(self) -> tuple[int, int] | None:
        """Offsets of an interrupt status register and of its acknowledge register."""
        return None

    def use_latch(self, latch: Latch) -> None:  # noqa: B027
        """The core can serve them: before the guest runs."""

    def drain(self) -> None:  # noqa: B027
        """The guest has stopped: what is still on a wire goes out now."""


class GuestLog:
    """Complaints about what a guest did: a line now and then, the rest counted.

    A guest can make a device complain a million times a second; it gets one line in
    `interval` seconds, and the next line says how many were left out.
    """

    def __init__(self, name: str, interval: float = 10.0) -> None:
        self._name = name
        self._interval = interval
        self._lock = threading.Lock()
        self._next = 0.0
        self._held = 0

    def complain(self, text: str) -> None:
        """One complaint; `text` holds no guest-chosen bytes, only numbers."""
        now = time.monotonic()
        with self._lock:
            if now < self._next:
                self._held += 1
                return
            held, self._held = self._held, 0
            self._next = now + self._interval
        more = f" ({held} more since the last line)" if held else ""
        LOG.warning("%s: %s%s", self._name, text, more)
