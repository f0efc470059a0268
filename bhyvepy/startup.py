"""From the configuration to a running machine: what bhyve does before and after the run.

Opens (or loads) the VM, checks that the options fit what was loaded, becomes its
runner, puts the devices in place, writes the device tree, and hands over to
bhyverun.py; afterwards everything is given back whatever happened. Keys of its own:

    name                    the VM
    cpus, sockets, cores, threads                        (-c)
    fdt.bootargs            the kernel's command line, instead of the one that was loaded
    fdt.dump                a file that gets the device tree
    console                 where com1 ends: stdio, or one of endpoint.py's forms (-b)
    lpc.com1.path ... lpc.com4.path                      the same for each port (-l com1,...)
    destroy_on_poweroff, monitor                         (-D, -M)
    memory.wired, memory.guest_in_core                   (-S, -C)
    vcpu.N.cpuset           host CPUs of a vCPU          (-p)
    pci.BUS.SLOT.FUNC.*, mmio.ADDR.*     devices         (-s; devices/slots.py)
    psci.method             hvc or smc: what the device tree says; both work
    gic.version             3 or 2
    gic.its                 a GICv3 has a translation service for LPIs
    gic.lrs                 list registers, 1 to 16
    gdb.port, gdb.address, gdb.wait          a server for gdb (-G)

and those of loadvm.py when a kernel or bootrom is given. Not here: options (cli/),
exits (bhyverun.py), the contents of the device tree (machdep.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bhyvepy import layout, loadvm, machdep
from bhyvepy.bhyverun import Machine, SpiLine
from bhyvepy.boot import record
from bhyvepy.boot.options import MAX_BOOTARGS
from bhyvepy.config import Config, parse_address, parse_cpuset, parse_size, topology
from bhyvepy.cpu import describe, has_feature, parse_cpu
from bhyvepy.devices import registry, slots
from bhyvepy.devices.base import CharDevice, Device, DeviceEnv, IrqLine, NoIrq, Port, no_attach
from bhyvepy.devices.bvmconsole import BvmConsole
from bhyvepy.devices.console import Console
from bhyvepy.devices.endpoint import (
    FORMS,
    Endpoint,
    FdEndpoint,
    is_endpoint,
    open_endpoint,
    open_port,
)
from bhyvepy.devices.line import Bridge, Line
from bhyvepy.devices.ns16550a import NS16550A
from bhyvepy.devices.pl031 import PL031
from bhyvepy.devices.pl061 import PL061
from bhyvepy.devices.psci import MPIDR_AFF
from bhyvepy.errors import (
    BhyveError,
    ConfigError,
    DeviceError,
    VmError,
    os_error,
    printable,
    vm_error,
)
from bhyvepy.vmexit import SuspendHow, VmState
from bhyvepy.vmmapi import JIT_MEMORY, MAXCPU, VM, check_name, set_jit

if TYPE_CHECKING:
    from bhyvepy.gdb.server import GdbServer

# Bits of /proc/self/coredump_filter: file-backed shared mappings (core(5)).
CORE_SHARED = 1 << 3


def run_vm(config: Config) -> SuspendHow:
    """Run a VM to its end; BhyveError when it could not be, or broke off."""
    name = check_name(config.text("name"))
    cpus, sockets, cores, threads = topology(config)
    if cpus > MAXCPU:
        raise ConfigError(f"{cpus} vCPUs are too many; the limit is {MAXCPU}")
    pins = _pins(config, cpus)
    conduit = config.text("psci.method", "hvc")
    if conduit not in ("hvc", "smc"):
        raise ConfigError(f"psci.method={printable(conduit, 40)} is not known; use hvc or smc")
    gic = _gic(config, cpus)
    specs = devices(config)
    _set_jit(config)
    if config.boolean("memory.guest_in_core"):
        _dump_guest_memory()
    how = SuspendHow.NONE
    with ExitStack() as owned, ExitStack() as stack:
        vm = _open(name, config)
        stack.callback(vm.close)
        ours = owned.enter_context(ExitStack())
        if _loads(config):
            # What we made ourselves does not stay when it cannot be run.
            ours.callback(_destroy, name)
        rec = _bootargs(config, _load_record(vm))
        _check_memory(config, rec)
        _check_cpu(config, vm)
        _check_state(vm)
        machine = Machine(vm, machdep.mpidrs(cpus), pins=pins)
        stack.callback(machine.close)
        stack.callback(_log_to(machine))
        gdb = _gdb(config, machine)
        if gdb is not None:
            stack.callback(gdb.close)
        builder = _Builder(machine, rec, _Ends(machine, stack), _coms(config, specs))
        attached = builder.build(specs)
        if config.boolean("memory.wired"):
            vm.populate()
            vm.memory.lock()
        # Up to here nothing has changed: what can be refused is refused before.
        vm.run_begin()
        ours.pop_all()
        if config.boolean("monitor"):
            owned.callback(_destroy, name)
        stack.callback(_leave, vm)
        try:
            shape = (sockets, cores, threads)
            _power_on(vm, config, shape, gic)
            # -c 4 alone says nothing about sockets, so neither does the tree.
            shaped = any(key in config for key in ("sockets", "cores", "threads"))
            told = shape if shaped else None
            blob = _device_tree(vm, rec, machine, attached, shape=told, conduit=conduit, gic=gic)
            if dump := config.get("fdt.dump"):
                _dump(dump, blob)
            if gdb is not None:
                gdb.start(config.boolean("gdb.wait"))
            how = machine.run()
        finally:
            if machine.stuck:
                # A thread is inside the core: nothing may be unmapped under it.
                stack.pop_all()
    if how is SuspendHow.DESTROY:
        raise VmError(f"VM {name} was destroyed while it ran")
    if how is SuspendHow.POWEROFF and config.boolean("destroy_on_poweroff"):
        _destroy(name)
    return how


# -- the VM -----------------------------------------------------------------------
def _loads(config: Config) -> bool:
    """Whether bhyve does bhyveload's work too."""
    return "bootrom" in config or "kernel" in config


def _open(name: str, config: Config) -> VM:
    if _loads(config):
        return loadvm.load(name, config, again=True)
    return VM.open(name)


def _load_record(vm: VM) -> record.LoadRecord:
    data = vm.get_load_record()
    if data is None:
        raise BhyveError(
            f"nothing is loaded in VM {vm.name}; load it with `bhyveload -k kernel {vm.name}`,"
            " or give bhyve -o kernel= or -o bootrom="
        )
    return record.parse(data)


def _bootargs(config: Config, rec: record.LoadRecord) -> record.LoadRecord:
    """fdt.bootargs replaces what was loaded, as it does in bhyve(8)."""
    bootargs = config.get("fdt.bootargs")
    if bootargs is None or bootargs == rec.bootargs or _loads(config):
        return rec
    if rec.dtb_given:
        raise ConfigError("fdt.bootargs: the device tree came with -t and is used as it is")
    if len(bootargs.encode()) > MAX_BOOTARGS:
        raise ConfigError(f"fdt.bootargs is too long: kernels take {MAX_BOOTARGS} bytes")
    return dataclasses.replace(rec, bootargs=bootargs)


def _dump(path: str, blob: bytes) -> None:
    """The tree that the guest gets, for dtc."""
    try:
        with open(path, "wb") as f:
            f.write(blob)
    except OSError as err:
        raise os_error("write", path, err) from None


def _check_memory(config: Config, rec: record.LoadRecord) -> None:
    """-m and -e are only checked here: bhyveload has decided."""
    if "memory.size" in config:
        size = parse_size(config.text("memory.size"))
        if size != rec.memory_size:
            raise ConfigError(
                f"-m says {size >> 20}M, but the VM was loaded with {rec.memory_size >> 20}M;"
                " leave -m out, or load it again"
            )
    if "memory.base" in config:
        base = parse_address(config.text("memory.base"), "-e")
        if base != rec.memory_base:
            raise ConfigError(
                f"-e says {base:#x}, but RAM was loaded at {rec.memory_base:#x};"
                " leave -e out, or load it again"
            )


def _check_cpu(config: Config, vm: VM) -> None:
    """-o cpu= belongs to the load too."""
    if "cpu" in config and parse_cpu(config.text("cpu")) != vm.features():
        raise ConfigError(
            f"-o cpu={printable(config.text('cpu'), 40)}, but the VM was loaded with"
            f" cpu={describe(vm.features())}; leave it out, or load it again"
        )


def _check_state(vm: VM) -> None:
    """A VM runs once; run_begin() decides, this is for the line and for the devices."""
    info = vm.info()
    if info.state is VmState.RUNNING:
        raise vm_error(errno.EBUSY, "run", vm.name)
    if info.state is not VmState.LOADED:
        what = "has run already" if info.state is VmState.ENDED else "was left by a killed bhyve"
        raise VmError(
            f"VM {vm.name} {what}; load it again:"
            f" `bhyvectl --vm={vm.name} --destroy`, then bhyveload",
            errno.EINVAL,
        )


def _set_jit(config: Config) -> None:
    memory = parse_address(config.text("jit.memory", "0"), "jit.memory")
    if memory != 0 and not JIT_MEMORY[0] <= memory <= JIT_MEMORY[1]:
        raise ConfigError(
            f"jit.memory={printable(config.text('jit.memory'), 40)}: give 64K to 1G for each vCPU"
        )
    set_jit(
        config.boolean("jit", True),
        perf=config.boolean("jit.perf"),
        strict=config.boolean("jit.strict"),
        memory=memory,
    )


def _gic(config: Config, cpus: int) -> machdep.Gic:
    gic = machdep.Gic(config.number("gic.version", 3), config.boolean("gic.its"))
    if gic.version not in (2, 3):
        raise ConfigError(f"gic.version={gic.version} is not known; use 3 or 2")
    if gic.version == 2 and cpus > machdep.GICV2_CPUS:
        raise ConfigError(f"a GICv2 has at most {machdep.GICV2_CPUS} vCPUs; use gic.version=3")
    if gic.version == 2 and gic.its:
        raise ConfigError("gic.its=true needs gic.version=3")
    loadvm.list_regs(config)
    return gic


def _power_on(vm: VM, config: Config, shape: tuple[int, int, int], gic: machdep.Gic) -> None:
    """vCPUs, interrupt controller and memory, before the first instruction."""
    cpus = shape[0] * shape[1] * shape[2]
    vm.set_topology(*shape)
    for n, mpidr in enumerate(machdep.mpidrs(cpus)):
        vm.activate_cpu(n)
        if vm.vcpu(n).get("mpidr_el1") & MPIDR_AFF != mpidr:
            raise BhyveError(f"vCPU {n} has another MPIDR than the device tree says")
    if count := loadvm.list_regs(config):
        vm.set_list_regs(count)
    dist = layout.GICD
    if gic.version == 2:
        vm.attach_vgic_v2(dist.base, dist.size, layout.GICC.base, layout.GICC.size, cpus)
    else:
        vm.attach_vgic(dist.base, dist.size, layout.GICR_BASE, layout.GICR_STRIDE * cpus)
    if gic.its:
        vm.attach_its(layout.ITS.base, layout.ITS.size)
    vm.stolen_time(layout.STOLEN_TIME.base)


def _leave(vm: VM) -> None:
    with contextlib.suppress(VmError):
        vm.run_end()  # it may be destroyed already


def _destroy(name: str) -> None:
    with contextlib.suppress(VmError):
        VM.destroy_named(name)


def _dump_guest_memory() -> None:
    path = "/proc/self/coredump_filter"
    try:
        with open(path, encoding="ascii") as f:
            bits = int(f.read(), 16)
        with open(path, "w", encoding="ascii") as f:
            f.write(f"{bits | CORE_SHARED:#x}")
    except (OSError, ValueError):
        print("bhyve: -C: core dumps cannot be set up on this system", file=sys.stderr)


def _pins(config: Config, cpus: int) -> dict[int, set[int]]:
    allowed = os.sched_getaffinity(0)
    pins: dict[int, set[int]] = {}
    for n in range(cpus):
        text = config.get(f"vcpu.{n}.cpuset")
        if text is None:
            continue
        pins[n] = parse_cpuset(text)
        missing = pins[n] - allowed
        if missing:
            raise ConfigError(f"vCPU {n} cannot be pinned to CPU {min(missing)}: there is none")
    return pins


def devices(config: Config) -> list[slots.DeviceSpec]:
    """The devices of the nodes pci.BUS.SLOT.FUNC and mmio.ADDR; clashes are refused."""
    found = []
    for bus, dots, make in (("pci", 2, slots.from_pci), ("mmio", 0, slots.from_mmio)):
        nodes: dict[str, dict[str, str]] = {}
        for key, value in config.under(bus).items():
            parts = key.split(".", dots + 1)
            if len(parts) == dots + 2:
                nodes.setdefault(".".join(parts[:-1]), {})[parts[-1]] = value
        found += [make(place, options) for place, options in nodes.items()]
    slots.check(found)
    return found


# -- the machine --------------------------------------------------------------------
def _gdb(config: Config, machine: Machine) -> GdbServer | None:
    port = config.number("gdb.port", 0)
    if not port:
        return None
    if port > 65535:
        raise ConfigError(f"gdb.port={port} is not a port; use 1 to 65535")
    from bhyvepy.gdb.server import GdbServer

    server = GdbServer(
        machine.vm,
        machine.cpus,
        config.text("gdb.address", "localhost"),
        port,
        lambda: machine.suspend(SuspendHow.POWEROFF),
    )
    machine.debugger = server
    return server


def _coms(config: Config, specs: Sequence[slots.DeviceSpec]) -> list[str | None]:
    """Where com1 to com4 end; None: there is none (com1: it ends nowhere).

    A serial port of the command line without a back end of its own is on the terminal, with
    -b or without, as in bhyvearm64, and com1 with it.
    """
    out = [config.get(f"lpc.com{n}.path") for n in (1, 2, 3, 4)]
    if any(spec.device in registry.SERIAL and "path" not in spec.options for spec in specs):
        out[0] = out[0] or "stdio"
    out[0] = config.get("console", out[0])
    for n, path in enumerate(out, 1):
        if path is not None and path != "stdio" and not is_endpoint(path):
            name = "console" if n == 1 else f"com{n}"
            raise ConfigError(f"{name}={printable(path, 40)} is not known; use stdio, {FORMS}")
    return out


class _Ends:
    """Where serial ports end, opened when they are first wanted."""

    def __init__(self, machine: Machine, stack: ExitStack) -> None:
        self._machine = machine
        self._stack = stack

    def _console(self) -> Console:
        """The terminal in front of the machine."""
        if self._machine.console is None:
            self._machine.console = Console(0, 1)
        return self._machine.console

    def line(self, where: str) -> Callable[[CharDevice], Port]:
        """For a UART."""
        if where == "stdio":
            return self._console().attach
        if where.startswith("/") and self._machine.console is None:
            # A terminal: with its escapes, as if bhyve had been started on it.
            return self._terminal(where).attach
        line = Line(self._open(where))
        self._machine.lines.append(line)
        return line.attach

    def socket(self, where: str) -> Endpoint:
        """For a device that reads and writes itself."""
        if where != "stdio":
            return self._told(open_port(where))
        bridge = Bridge(self._console())
        self._machine.lines.append(bridge)
        return FdEndpoint(bridge.far, 0)

    def _terminal(self, path: str) -> Console:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as err:
            raise os_error("open console", path, err) from None
        self._stack.callback(os.close, fd)
        self._machine.console = Console(fd, fd)
        return self._machine.console

    def _open(self, where: str) -> Endpoint:
        return self._told(open_endpoint(where))

    def _told(self, end: Endpoint) -> Endpoint:
        if end.where:
            self._machine.say(f"a serial port is at {end.where}")
        return end


class _LogHandler(logging.Handler):
    """Complaints of the devices, printed by the main thread."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(logging.WARNING)
        self._machine = machine

    def emit(self, entry: logging.LogRecord) -> None:
        """One line."""
        self._machine.say(entry.getMessage())


def _log_to(machine: Machine) -> Callable[[], None]:
    log = logging.getLogger("bhyvepy.devices")
    handler = _LogHandler(machine)
    log.addHandler(handler)
    log.propagate = False

    def undo() -> None:
        log.removeHandler(handler)

    return undo


class _Builder:
    """Puts the devices of a command line, and those that are always there, in place."""

    def __init__(
        self, machine: Machine, rec: record.LoadRecord, ends: _Ends, coms: list[str | None]
    ) -> None:
        self._machine = machine
        self._rec = rec
        self._ends = ends
        self._coms = coms
        # Ports without a word of their own end where com1 does.
        self._attach = no_attach if coms[0] is None else ends.line(coms[0])
        self._attached: list[machdep.Attached] = []
        self._used: dict[int, str] = {}
        self._names: dict[str, int] = {}

    def build(self, specs: Sequence[slots.DeviceSpec]) -> list[machdep.Attached]:
        """All devices; what the device tree must know about them."""
        for spec in specs:
            if spec.irq is not None and not spec.ignored:
                self._used[spec.irq] = spec.text
        for spec in specs:
            if not spec.ignored:
                self._one(spec)
        bus = self._machine.bus
        for window, where in zip(layout.COMS, self._coms, strict=True):
            if (where is None and window is not layout.COM1) or bus.taken(window):
                continue
            assert window.intid is not None
            if window.intid in self._used:
                raise DeviceError(
                    f"interrupt {window.intid} of"
                    f" -s {printable(self._used[window.intid])} is {window.name}'s; use another"
                )
            env = self._env(window.name, window.intid)
            if where is not None and window is not layout.COM1:
                env = dataclasses.replace(env, attach=self._ends.line(where))
            self._put(window.base, window.intid, NS16550A(env, clock_hz=layout.UART_HZ))
        if not bus.taken(layout.RTC) and layout.RTC.intid not in self._used:
            rtc = PL031(self._env("rtc", layout.RTC.intid))
            self._put(layout.RTC.base, layout.RTC.intid, rtc, always=True)
        if not bus.taken(layout.GPIO) and layout.GPIO.intid not in self._used:
            gpio = PL061(self._env("gpio", layout.GPIO.intid))
            self._put(layout.GPIO.base, layout.GPIO.intid, gpio, always=True)
            self._machine.button = gpio
        if not bus.taken(layout.BVMCONS):
            self._machine.add_device(layout.BVMCONS.base, BvmConsole(self._env("bvmconsole", None)))
        return self._attached

    def _one(self, spec: slots.DeviceSpec) -> None:
        number = self._names.get(spec.device, 0)
        self._names[spec.device] = number + 1
        irq = spec.irq
        if irq is None and not self._rec.dtb_given:
            irq = next(n for n in layout.INTID_AUTO if n not in self._used)
            self._used[irq] = spec.text
        env = self._env(f"{spec.device}{number}", irq)
        device = registry.create(spec.device, spec.options, env, spec.version, spec.size)
        self._put(spec.base, irq, device)

    def _put(self, base: int, irq: int | None, device: Device, *, always: bool = False) -> None:
        self._machine.add_device(base, device)
        self._attached.append(machdep.Attached(base, device.size, irq, device.dt_node, always))

    def _env(self, name: str, irq: int | None) -> DeviceEnv:
        line: IrqLine = NoIrq() if irq is None else SpiLine(self._machine.vm, irq)
        return DeviceEnv(
            name=name,
            memory=self._machine.vm.memory,
            irq=line,
            attach=self._attach,
            fatal=self._machine.stop_with,
            vm=self._machine.vm.name,
            settle=self._machine.settle,
            line=self._ends.line,
            endpoint=self._ends.socket,
            on_resize=self._machine.resizers.append,
        )


def _device_tree(
    vm: VM,
    rec: record.LoadRecord,
    machine: Machine,
    attached: list[machdep.Attached],
    *,
    shape: tuple[int, int, int] | None,
    conduit: str,
    gic: machdep.Gic,
) -> bytes:
    """Rebuild the tree from the record and our options, unless it came with -t."""
    blob = b""
    if rec.dtb_given:
        blob = vm.memory.read(rec.dtb_gpa, rec.dtb_room)
        for line in machdep.missing_nodes(blob, attached):
            machine.say(line)
    elif rec.dtb_room:
        blob = machdep.build_fdt(
            rec,
            machine.cpus,
            attached,
            topology=shape,
            conduit=conduit,
            gic=gic,
            pmu=has_feature(vm.features(), "pmuv3"),
        )
        vm.write_memory(rec.dtb_gpa, blob)
    return blob
