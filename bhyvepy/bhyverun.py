"""The runner: vCPU threads, the MMIO bus, exits, and how a run begins and ends.

One thread a vCPU calls vm_run() and serves its exits from a table. The main
thread never does: it waits in select, owns signals and the terminal, and prints
(docs/architecture.md, section 4). The machine's devices and addresses come from
the caller (machdep.py) by add_device(); exit statuses are given by cli/bhyve.py.

Every way out is the same: someone calls vm_suspend() or stop_with(), the vCPU
threads come home, devices close, and run() returns the reason or raises the
first error. A thread that does not come home is left behind, never waited for.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Protocol

from bhyvepy import layout, vmmapi
from bhyvepy.devices.psci import CONTINUE, Action, Psci, Start
from bhyvepy.errors import BhyveError, DeviceError, printable
from bhyvepy.vmexit import (
    ExitCode,
    InstEmulExit,
    RegEmulExit,
    SmcccExit,
    SuspendedExit,
    SuspendHow,
    VmExit,
)
from bhyvepy.wire import Latch, Wire

if TYPE_CHECKING:
    from bhyvepy.devices.base import Device
    from bhyvepy.devices.console import Console
    from bhyvepy.devices.line import Bridge, Line
    from bhyvepy.devices.pl061 import PL061

# A busy thread may keep the GIL so long when another wants it.
SWITCH_INTERVAL_S = 50e-6
# How long vCPU threads may take to come home.
JOIN_S = 2.0
# How often a vCPU held by a debugger looks whether it may go on.
DEBUG_POLL_S = 0.005
# How often the size of a terminal is looked at: nobody tells of a pty's.
RESIZE_POLL_S = 1.0

# What the core has room for; the rest is served here.
MAX_WIRES = 8
MAX_LATCHES = 64

# Signals that belong to the thread that caused them; the core handles SIGBUS.
SYNCHRONOUS = {signal.SIGBUS, signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}

MASK64 = 0xFFFFFFFFFFFFFFFF

# ESR_EL1 of exceptions that we inject (Arm ARM DDI 0487, D24.2.37).
ESR_EC_SHIFT = 26
ESR_IL = 1 << 25
ESR_WNR = 1 << 6
EC_UNKNOWN = 0x00
EC_DABT_LOWER = 0x24
EC_DABT_CURRENT = 0x25
DFSC_EXTERNAL = 0x10
CPSR_MODE_EL0 = 0x0


class Next(Enum):
    """What a vCPU thread does after an exit."""

    GO = "go"
    PARK = "park"  # PSCI turned the vCPU off
    END = "end"


GO = Next.GO  # as a name of the module: each exit needs it


class Bus:
    """Devices by guest physical address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._entries: list[tuple[int, int, Device]] = []

    def add(self, base: int, device: Device) -> None:
        """Put a device at an address."""
        end = base + device.size
        if base < 0 or end > layout.IPA_LIMIT:
            raise DeviceError(f"{device.name} at {base:#x} is outside of the address space")
        for start, stop, other in self._entries:
            if base < stop and start < end:
                raise DeviceError(f"{device.name} at {base:#x} overlaps {other.name} at {start:#x}")
        i = bisect_right(self._starts, base)
        self._starts.insert(i, base)
        self._entries.insert(i, (base, end, device))

    def find(self, gpa: int, size: int) -> tuple[Device, int] | None:
        """The device behind an access that lies within its window, and the offset."""
        i = bisect_right(self._starts, gpa) - 1
        if i >= 0:
            base, end, device = self._entries[i]
            if gpa + size <= end:
                return device, gpa - base
        return None

    def taken(self, window: layout.Window) -> bool:
        """Whether a device overlaps a window."""
        return any(window.overlaps(base, end - base) for base, end, _ in self._entries)

    @property
    def devices(self) -> list[tuple[int, Device]]:
        """(base, device), lowest first."""
        return [(base, device) for base, _, device in self._entries]


class SpiLine:
    """A level-triggered shared interrupt of the vGIC, as a device's line."""

    def __init__(self, vm: vmmapi.VM, intid: int) -> None:
        self._vm = vm
        self.intid = intid
        self._level = False
        self._lock = threading.Lock()

    def set(self, level: bool) -> None:
        """Drive the line; only changes reach the core."""
        with self._lock:
            if level != self._level:
                self._level = level
                if level:
                    self._vm.assert_irq(self.intid)
                else:
                    self._vm.deassert_irq(self.intid)


class Debugger(Protocol):
    """Who is told of BRK and SS exits (gdb/server.py)."""

    def stopped(self, vcpu: int, e: VmExit) -> bool:
        """False: the guest's own affair."""


class Machine:
    """A VM with devices, ready to be run by this process."""

    def __init__(
        self,
        vm: vmmapi.VM,
        mpidrs: Sequence[int],
        *,
        console: Console | None = None,
        pins: dict[int, set[int]] | None = None,
    ) -> None:
        self.vm = vm
        self.cpus = len(mpidrs)
        self.console = console
        # What else the main thread moves bytes for, and who wants to know of a new size.
        self.lines: list[Line | Bridge] = []
        self.resizers: list[Callable[[], None]] = []
        self.button: PL061 | None = None  # what SIGTERM presses
        self._pressed = False
        self._wires = self._latches = 0
        self.bus = Bus()
        self._pins = pins or {}
        self._vcpus = [vm.vcpu(n) for n in range(self.cpus)]
        self.psci = Psci(mpidrs, valid_entry=vm.memory.contains, stolen_time=layout.stolen_time)
        # What devices answer for besides memory.
        self._sysregs: dict[int, Callable[[int | None], int]] = {}
        self._calls: dict[int, Callable[[Sequence[int]], Sequence[int]]] = {}
        self._resume: list[Start | None] = [None] * self.cpus
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._how = SuspendHow.NONE
        self._ended = threading.Event()
        self._messages: deque[str] = deque(maxlen=1000)
        self._signal: int | None = None
        # Other threads and signals wake the main thread through it.
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._complaints: dict[str, float] = {}
        self.debugger: Debugger | None = None
        self.stuck = False  # a vCPU thread did not come home

    # -- building -------------------------------------------------------------------
    def add_device(self, base: int, device: Device, *, doorbells: bool = True) -> None:
        """Put a device on the bus, with its doorbells."""
        for m in self.vm.memory.mappings:
            if base < m.end and m.gpa < base + device.size:
                raise DeviceError(f"{device.name} at {base:#x} lies in guest RAM")
        for w, what in (
            (layout.GICD, "the interrupt controller"),
            (layout.gicr(self.cpus), "the interrupt controller"),
            (layout.STOLEN_TIME, "the stolen time of the vCPUs"),
        ):
            if w.overlaps(base, device.size):
                raise DeviceError(f"{device.name} at {base:#x} overlaps {what}")
        self.bus.add(base, device)
        self._claim(device)
        if doorbells:
            for bell in device.doorbells():
                self.vm.doorbell_add(base + bell.offset, bell.size, bell.fd, bell.value)
            if device.wants_wire and self._wires < MAX_WIRES:
                self._wires += 1
                device.use_wire(Wire(self.vm.handle, base, device.env.irq.intid))
            if (at := device.latch_at()) is not None and self._latches < MAX_LATCHES:
                self._latches += 1
                line = device.env.irq.intid
                device.use_latch(Latch(self.vm.handle, base + at[0], base + at[1], line))

    def _claim(self, device: Device) -> None:
        """Give a device the SMCCC functions and system registers that it answers for."""
        sysregs, calls = device.sysregs(), device.calls()
        for number in [*(set(sysregs) & set(self._sysregs)), *(set(calls) & set(self._calls))]:
            raise DeviceError(f"{device.name}: {number:#x} is another device's already")
        if sysregs:
            self.vm.user_sysregs()
        self._sysregs.update(sysregs)
        self._calls.update(calls)

    # -- from any thread --------------------------------------------------------------
    def stop_with(self, error: BaseException) -> None:
        """End the run because of an error; the first one counts."""
        with self._lock:
            if self._error is None:
                self._error = error
        self._end(SuspendHow.HALT)

    def suspend(self, how: int) -> None:
        """End the run for a reason of the guest's or the user's."""
        self._end(how)

    def _end(self, how: int) -> None:
        try:
            self.vm.suspend(how)
        except BhyveError as err:
            with self._lock:
                self._error = self._error or err
            # The core cannot be told: do not wait for it either.
            self._ended.set()
        self.psci.stop()
        self._wake()

    def settle(self) -> None:
        """What the guest has sent is on its way: serial ports gather bytes for a moment."""
        for _, device in self.bus.devices:
            device.drain()

    def say(self, line: str) -> None:
        """One line for the user while the guest runs."""
        self._messages.append(line)
        self._wake()

    def say_rarely(self, kind: str, line: str) -> None:
        """The same, at most once in ten seconds for each kind: guests can be noisy."""
        now = time.monotonic()
        with self._lock:
            if now < self._complaints.get(kind, 0.0):
                return
            self._complaints[kind] = now + 10.0
        self.say(line)

    def _wake(self) -> None:
        # The pipe is full: it will wake up; or closed: nobody sleeps.
        with suppress(OSError):
            os.write(self._wake_w, b"\0")

    # -- the main thread --------------------------------------------------------------
    def run(self) -> SuspendHow:
        """Run the guest to its end and say how it ended; raise what went wrong."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        threads = [
            threading.Thread(target=self._thread, args=(n,), name=f"vcpu {n}", daemon=True)
            for n in range(self.cpus)
        ]
        with ExitStack() as stack:
            stack.callback(self._close_devices)
            self._take_signals(stack)
            if self.console is not None:
                stack.enter_context(self.console)
            try:
                for t in threads:
                    t.start()
                self._wait()
            except BaseException as err:
                self.stop_with(err)
            self.psci.stop()
            deadline = time.monotonic() + JOIN_S
            for t in threads:
                if t.ident is not None:
                    t.join(max(0.0, deadline - time.monotonic()))
            self.settle()
            self._print_messages()
        self.stuck = any(t.is_alive() for t in threads)
        if self._error is not None:
            raise self._error
        return self._how

    def _wait(self) -> None:
        while not self._ended.is_set():
            con = self.console
            reads: list[int] = [self._wake_r]
            writes: list[int] = []
            timeout = None
            if con is not None:
                reads += con.read_fds()
                writes += con.write_fds()
                timeout = con.timeout()
            for line in self.lines:
                reads += line.read_fds()
                writes += line.write_fds()
                timeout = _sooner(timeout, line.timeout())
            if self.resizers:
                timeout = _sooner(timeout, RESIZE_POLL_S)
            r, w, _ = select.select(reads, writes, [], timeout)
            if self._wake_r in r:
                r.remove(self._wake_r)
                self._drain()
            if self._signal is not None:
                signum, self._signal = self._signal, None
                if signum != signal.SIGTERM or not self._press():
                    self.suspend(SuspendHow.POWEROFF)
            if con is not None:
                from bhyvepy.devices.console import ConsoleEvent

                if con.dispatch(r, w) is ConsoleEvent.POWEROFF:
                    self.suspend(SuspendHow.POWEROFF)
            for line in self.lines:
                line.dispatch(r, w)
            for changed in self.resizers:
                changed()
            self._print_messages()

    def _press(self) -> bool:
        """The power button, once; False: nobody in the guest listens, or not any more."""
        button = self.button
        if button is None or self._pressed or not button.listening:
            return False
        self._pressed = True
        button.press()
        self.say("the power button is pressed; a second SIGTERM powers off at once")
        return True

    def _drain(self) -> None:
        try:
            while len(os.read(self._wake_r, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _print_messages(self) -> None:
        while self._messages:
            line = "bhyve: " + printable(self._messages.popleft(), 400)
            if self.console is not None:
                self.console.message(line)
            else:
                print(line, file=sys.stderr, flush=True)

    def _take_signals(self, stack: ExitStack) -> None:
        def note(signum: int, _frame: object) -> None:
            self._signal = signum

        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            stack.callback(signal.signal, signum, signal.signal(signum, note))
        # A new size of the terminal only has to wake us.
        old_size = signal.signal(signal.SIGWINCH, lambda *_: None)
        stack.callback(signal.signal, signal.SIGWINCH, old_size)
        old = signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        stack.callback(signal.set_wakeup_fd, old)

    def close(self) -> None:
        """Give back what a machine that was never run holds too."""
        self._close_devices()
        for fd in (self._wake_r, self._wake_w):
            with suppress(OSError):
                os.close(fd)
        self._wake_r = self._wake_w = -1

    def _close_devices(self) -> None:
        for _, device in self.bus.devices:
            try:
                device.close()
            except Exception as err:
                with self._lock:
                    self._error = self._error or _named(device, err)
        for line in self.lines:
            line.close()

    # -- vCPU threads -----------------------------------------------------------------
    def _thread(self, n: int) -> None:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - SYNCHRONOUS)
            if n in self._pins:
                os.sched_setaffinity(0, self._pins[n])
            vcpu = self._vcpus[n]
            parked = n != 0
            while True:
                if parked:
                    start = self.psci.wait(n)
                    if start is None:
                        break
                    self._power_up(vcpu, start)
                if self._guest(vcpu) is Next.END:
                    break
                vcpu.off()
                parked = True
        except BaseException as err:
            lost = BhyveError(f"the memory file of VM {self.vm.name} was truncated")
            self.stop_with(lost if vmmapi.memory_lost() else err)
        finally:
            # The first vCPU to leave ends the run; vm_suspend() has reached all.
            self._ended.set()
            self._wake()

    def _guest(self, vcpu: vmmapi.VCPU) -> Next:
        run, go, handlers = vcpu.run, GO, self._HANDLERS
        while True:
            exit_ = run()
            handler = handlers.get(exit_.code)
            if handler is None:
                raise BhyveError(f"unexpected exit {exit_.code} at pc {exit_.pc:#x}")
            what = handler(self, vcpu, exit_)
            if what is not go:
                return what

    def _inst_emul(self, vcpu: vmmapi.VCPU, e: VmExit) -> Next:
        assert isinstance(e, InstEmulExit)
        found = self.bus.find(e.gpa, e.size)
        if found is None:
            return self._nothing_there(vcpu, e)
        device, offset = found
        try:
            if e.write:
                device.write(offset, e.size, e.data)
            else:
                vcpu.complete(device.read(offset, e.size))
        except Exception as err:
            raise _named(device, err) from err
        return GO

    def _nothing_there(self, vcpu: vmmapi.VCPU, e: InstEmulExit) -> Next:
        """Below 4 GiB all-ones, as from an empty PCI bus; above an external abort."""
        if e.gpa + e.size <= layout.HOLE_LIMIT:
            if not e.write:
                vcpu.complete(MASK64)
            return Next.GO
        el0 = vcpu.get("cpsr") & 0xF == CPSR_MODE_EL0
        ec = EC_DABT_LOWER if el0 else EC_DABT_CURRENT
        esr = ec << ESR_EC_SHIFT | ESR_IL | (ESR_WNR if e.write else 0) | DFSC_EXTERNAL
        vcpu.inject_exception(esr, e.far)
        return Next.GO

    def _undefined(self, vcpu: vmmapi.VCPU, e: VmExit) -> Next:
        """What the kernel part cannot emulate is UNDEFINED to the guest."""
        reg = f", register {e.reg:#x}" if isinstance(e, RegEmulExit) else ""
        self.say_rarely(
            "undefined",
            f"vCPU {vcpu.vcpuid}: unhandled exception at pc {e.pc:#x}, esr {e.esr:#x}{reg};"
            " the guest gets an UNDEFINED exception",
        )
        vcpu.inject_exception(EC_UNKNOWN << ESR_EC_SHIFT | ESR_IL, 0)
        return Next.GO

    def _brk(self, vcpu: vmmapi.VCPU, e: VmExit) -> Next:
        """A BRK that no debugger wants is the guest's own."""
        if self.debugger is not None and self.debugger.stopped(vcpu.vcpuid, e):
            return Next.GO
        vcpu.inject_exception(e.esr, vcpu.get("far_el1"))
        return Next.GO

    def _ss(self, vcpu: vmmapi.VCPU, e: VmExit) -> Next:
        if self.debugger is not None:
            self.debugger.stopped(vcpu.vcpuid, e)
        return Next.GO

    def _reg_emul(self, vcpu: vmmapi.VCPU, e: VmExit) -> Next:
        """A system register that a device answers for."""
        assert isinstance(e, RegEmulExit)
        own = self._sysregs.get(e.reg)
        if own is None:
            return self._undefined(vcpu, e)
        if e.write:
            own(e.data)
        else:
            vcpu.complete(own(None))
        return Next.GO

    def _smccc(self, vcpu: vmmapi.VCPU, e: VmExit) -> Next:
        assert isinstance(e, SmcccExit)
        own = self._calls.get(e.func_id & 0xFFFFFFFF)
        if own is not None:
            vcpu.answer([v & MASK64 for v in own(e.args)])
            return GO
        result = self.psci.call(vcpu.vcpuid, e.func_id, e.args)
        if result.x is not None:
            vcpu.answer(result.x)
        if result.action is CONTINUE:
            return GO
        if result.action in (Action.STANDBY, Action.POWERDOWN):
            self._resume[vcpu.vcpuid] = result.start
            vcpu.standby()
            return Next.GO
        how = _SUSPEND.get(result.action)
        if how is not None:
            # The next vm_run() says SUSPENDED, on every vCPU.
            self.vm.suspend(how)
            return Next.GO
        return Next.PARK if result.action is Action.PARK else Next.GO

    def _woken(self, vcpu: vmmapi.VCPU, _e: VmExit) -> Next:
        """An interrupt ended a CPU_SUSPEND; after a power-down the vCPU begins anew."""
        start = self._resume[vcpu.vcpuid]
        if start is not None:
            self._resume[vcpu.vcpuid] = None
            # The timers are always on (the device tree says so).
            timers = vcpu.get_set(_TIMERS)
            self._power_up(vcpu, start)
            vcpu.set_many(timers)
        return Next.GO

    def _power_up(self, vcpu: vmmapi.VCPU, start: Start) -> None:
        vcpu.reset()
        vcpu.set_many({"x0": start.context, "pc": start.entry})

    def _suspended(self, _vcpu: vmmapi.VCPU, e: VmExit) -> Next:
        assert isinstance(e, SuspendedExit)
        with self._lock:
            if self._how is SuspendHow.NONE:
                self._how = SuspendHow(e.how)
        self.psci.stop()
        return Next.END

    def _debug(self, _vcpu: vmmapi.VCPU, _e: VmExit) -> Next:
        """Held by bhyvectl --pause or a debugger: the next vm_run() says whether still."""
        time.sleep(DEBUG_POLL_S)
        return Next.GO

    def _again(self, _vcpu: vmmapi.VCPU, _e: VmExit) -> Next:
        return Next.GO

    _HANDLERS: ClassVar[dict[int, Callable[[Machine, vmmapi.VCPU, VmExit], Next]]] = {
        ExitCode.BOGUS: _again,
        ExitCode.INST_EMUL: _inst_emul,
        ExitCode.REG_EMUL: _reg_emul,
        ExitCode.SUSPENDED: _suspended,
        ExitCode.HYP: _undefined,
        ExitCode.WFI: _woken,
        ExitCode.SMCCC: _smccc,
        ExitCode.DEBUG: _debug,
        ExitCode.BRK: _brk,
        ExitCode.SS: _ss,
    }


def _sooner(a: float | None, b: float | None) -> float | None:
    """The shorter of two timeouts; None is for ever."""
    return b if a is None else a if b is None else min(a, b)


_TIMERS = ("cntp_ctl_el0", "cntp_cval_el0", "cntv_ctl_el0", "cntv_cval_el0")

_SUSPEND = {
    Action.POWEROFF: SuspendHow.POWEROFF,
    Action.RESET: SuspendHow.RESET,
    Action.HALT: SuspendHow.HALT,
}


def _named(device: Device, err: Exception) -> Exception:
    """A device's failure as a line that names the device."""
    if isinstance(err, BhyveError):
        return err
    return DeviceError(f"{device.name} failed: {type(err).__name__}: {err}")
