"""bhyve's device names: which class is behind each, and how it is made.

A new device is one row of DEVICES. Strings are parsed in slots.py; com1 to com4 and the
bvmconsole are switched on by options of bhyve and constructed directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bhyvepy.errors import printable

from .base import Device, DeviceEnv, DeviceError, GuestLog
from .bvmconsole import BvmConsole
from .ns16550a import NS16550A
from .pl011 import PL011
from .virtio.blk import BlkOptions, VirtioBlk
from .virtio.device import VirtioDevice
from .virtio.mmio import CONFIG, WINDOW, VirtioMmio
from .virtio.rnd import VirtioRnd

VirtioMaker = Callable[[Mapping[str, str], DeviceEnv], VirtioDevice]
PlainMaker = Callable[[Mapping[str, str], DeviceEnv], Device]


@dataclass(frozen=True)
class Entry:
    """How a device of one name is made; exactly one of virtio and plain is set."""

    about: str
    virtio: VirtioMaker | None = None
    plain: PlainMaker | None = None
    first: str = ""  # the option that the first word sets
    first_bare: bool = False  # ... unless there is a '=' in it
    window: int = 8  # the least size of its window


def _no_options(name: str, options: Mapping[str, str]) -> None:
    if options:
        raise DeviceError(f"{name} takes no options, not {printable(next(iter(options)))!r}")


def _make_blk(options: Mapping[str, str], env: DeviceEnv) -> VirtioDevice:
    return VirtioBlk(BlkOptions.parse(options), GuestLog(env.name))


def _make_net(options: Mapping[str, str], env: DeviceEnv) -> VirtioDevice:
    from .virtio.net import VirtioNet  # brings what only a network needs

    return VirtioNet.make(options, env.name, env.vm, GuestLog(env.name))


def _make_rnd(options: Mapping[str, str], env: DeviceEnv) -> VirtioDevice:
    _no_options("virtio-rnd", options)
    return VirtioRnd()


def _make_console(options: Mapping[str, str], env: DeviceEnv) -> VirtioDevice:
    from .virtio.console import VirtioConsole

    device = VirtioConsole.make(options, env.endpoint, GuestLog(env.name))
    env.on_resize(device.resized)
    return device


def _wired(name: str, options: Mapping[str, str], env: DeviceEnv) -> DeviceEnv:
    """The environment of a serial port with the back end that its options name."""
    for key in options:
        if key != "path":
            raise DeviceError(f"{name} has no option {printable(key)!r}; it has path")
    path = options.get("path")
    return env if path is None else replace(env, attach=env.line(path))


def _make_pl011(options: Mapping[str, str], env: DeviceEnv) -> Device:
    return PL011(_wired("mmio-uart", options, env))


def _make_ns16550a(options: Mapping[str, str], env: DeviceEnv) -> Device:
    return NS16550A(_wired("ns16550a", options, env))


def _make_bvmconsole(options: Mapping[str, str], env: DeviceEnv) -> Device:
    _no_options("bvmconsole", options)
    return BvmConsole(env)


def _make_python(options: Mapping[str, str], env: DeviceEnv) -> Device:
    from .own import make

    return make(options, env)


DEVICES: dict[str, Entry] = {
    "virtio-blk": Entry(
        "disk: path[,ro][,nocache][,sync][,ser=][,sectorsize=]",
        _make_blk,
        first="path",
        window=CONFIG + 64,
    ),
    "virtio-net": Entry(
        "network: [slirp[,hostfwd=tcp:HOST:PORT-GUEST:PORT] | TAP][,mac=][,mtu=]",
        _make_net,
        first="backend",
        first_bare=True,
        window=CONFIG + 16,
    ),
    "virtio-console": Entry(
        "serial ports: name=socket-path|pty|tcp=ip:port[,...]; console=stdio",
        _make_console,
        window=CONFIG + 12,
    ),
    "virtio-rnd": Entry("entropy", _make_rnd, window=CONFIG),
    "mmio-uart": Entry(
        "PL011 serial port: [stdio|pty|tcp=ip:port|socket:path|/dev/...]",
        plain=_make_pl011,
        first="path",
        window=0x1000,
    ),
    "ns16550a": Entry(
        "NS16550A serial port: the same", plain=_make_ns16550a, first="path", window=8
    ),
    "python": Entry(
        "your own: FILE.py:CLASS[,option=value]", plain=_make_python, first="class", window=4
    ),
    "bvmconsole": Entry("old FreeBSD's console", plain=_make_bvmconsole, window=4),
}

# bhyve's command lines put a host bridge into slot 0: there is no PCI bus behind ours.
IGNORED = frozenset({"hostbridge", "amd_hostbridge"})

# Serial ports that are on the terminal unless a back end is named.
SERIAL = frozenset({"mmio-uart", "ns16550a"})

KNOWN = sorted([*DEVICES, *IGNORED])


def check_name(name: str) -> None:
    """DeviceError with the names that there are, unless this is one."""
    if name not in DEVICES and name not in IGNORED:
        raise DeviceError(f"no device {printable(name)!r}; there are {', '.join(KNOWN)}")


def is_virtio(name: str) -> bool:
    """Whether the device sits behind virtio-mmio."""
    entry = DEVICES.get(name)
    return entry is not None and entry.virtio is not None


def first_word(name: str, word: str) -> str:
    """The key that the first word of a device's options sets; "" if it is an option itself."""
    entry = DEVICES.get(name)
    if entry is None or (entry.first_bare and "=" in word):
        return ""
    return entry.first


def min_window(name: str) -> int:
    """Bytes that the device's registers need."""
    entry = DEVICES.get(name)
    return entry.window if entry is not None else 0


def describe() -> list[str]:
    """One line a device, for `-s help`."""
    width = max(map(len, DEVICES))
    return [f"{name:<{width}}  {entry.about}" for name, entry in sorted(DEVICES.items())]


def create(
    name: str, options: Mapping[str, str], env: DeviceEnv, version: int = 2, size: int = 0
) -> Device:
    """A device of that name; `size` is its window where the user gave one."""
    check_name(name)
    entry = DEVICES.get(name)
    if entry is None:
        raise DeviceError(f"{name} is nothing that can be made here")
    if entry.virtio is not None:
        return VirtioMmio(env, entry.virtio(options, env), version, size or WINDOW)
    assert entry.plain is not None
    device = entry.plain(options, env)
    if size:
        device.size = size
    return device
