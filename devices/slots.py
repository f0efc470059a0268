"""The two forms of -s: what a device string says, before any device is made.

    n[:f],name[,conf]               bhyve's slots: n is 0 to 31
    size@addr#irq:name[,conf]       bhyvearm64's: hexadecimal size and address (0x may be
                                    left out), decimal INTID, -1 for none or any

and the same devices as variables of the configuration (bhyve_config(5)):

    pci.BUS.SLOT.FUNC.device=name   with pci.BUS.SLOT.FUNC.OPTION=value beside it
    mmio.ADDR.device=name           with mmio.ADDR.size, .irq and .OPTION beside it

Responsible for syntax, ranges and clashes between devices. Not for what a device does
with its options (the device), for making devices (registry.py), or for which interrupt
"-1" gets (machdep).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bhyvepy import layout
from bhyvepy.errors import printable

from . import registry
from .base import DeviceError

MAX_TEXT = 4096
FORMS = "the forms are n,name[,options] and size@addr#irq:name[,options]"

_SLOT = re.compile(r"\d+(:\d+){0,2}(,|$)", re.ASCII)
_ADDR = re.compile(
    r"(?:0[xX])?([0-9a-fA-F]{1,16})@(?:0[xX])?([0-9a-fA-F]{1,16})#(-?\d{1,9}):(.*)",
    re.ASCII | re.DOTALL,
)


@dataclass(frozen=True)
class DeviceSpec:
    """One -s: which device, with which options, where."""

    text: str
    device: str
    options: Mapping[str, str] = field(default_factory=dict)
    base: int = 0
    size: int = 0
    irq: int | None = None  # None: "#-1"
    version: int = 2  # of virtio-mmio
    slot: int | None = None
    func: int = 0

    @property
    def ignored(self) -> bool:
        """Accepted for the sake of bhyve's command lines, and nothing here."""
        return self.device in registry.IGNORED


def parse(text: str) -> DeviceSpec:
    """One -s argument; DeviceError in one line otherwise."""
    return parse_settings(text)[0]


def parse_settings(text: str) -> tuple[DeviceSpec, dict[str, str]]:
    """The same, and the variables that say it."""
    shown = printable(text)
    if len(text) > MAX_TEXT:
        raise DeviceError(f"-s argument of {len(text)} characters; the limit is {MAX_TEXT}")
    if not text.isprintable():
        raise DeviceError(f"-s {shown}: control characters")
    if _SLOT.match(text):
        return _parse_slot(text, shown)
    if match := _ADDR.fullmatch(text):
        return _parse_addr(text, shown, match)
    raise DeviceError(f"-s {shown or repr('')}: not a device; {FORMS}")


def _variables(node: str, device: str, options: Mapping[str, str]) -> dict[str, str]:
    return {f"{node}.{key}": value for key, value in {"device": device, **options}.items()}


def from_pci(place: str, options: Mapping[str, str]) -> DeviceSpec:
    """The device of a node pci.BUS.SLOT.FUNC."""
    rest = dict(options)
    device = _device_of(f"pci.{place}", rest)
    bus, slot, func = (_decimal(f"pci.{place}", part) for part in place.split("."))
    where = f"{bus}:{slot}:{func}" if bus or func else str(slot)
    text = ",".join([where, device, *(f"{k}={v}" for k, v in rest.items())])
    return _at_slot(text, printable(text), (bus, slot, func), device, rest)


def from_mmio(place: str, options: Mapping[str, str]) -> DeviceSpec:
    """The device of a node mmio.ADDR."""
    node, rest = f"mmio.{place}", dict(options)
    device = _device_of(node, rest)
    size, base = _hexadecimal(node, rest.pop("size", "200")), _hexadecimal(node, place)
    irq = rest.pop("irq", "-1")
    number = -1 if irq == "-1" else _decimal(node, irq)
    words = [device, *(f"{k}={v}" for k, v in rest.items())]
    text = f"{size:#x}@{base:#x}#{number}:{','.join(words)}"
    return _at_address(text, printable(text), (size, base, number), device, rest)


def _device_of(node: str, options: dict[str, str]) -> str:
    device = options.pop("device", None)
    if device is None:
        raise DeviceError(f"{node} has no device; set {node}.device")
    registry.check_name(device)
    return device


def _decimal(node: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise DeviceError(f"{printable(node)}: '{printable(text)}' is not a number")
    return int(text)


def _hexadecimal(node: str, text: str) -> int:
    if not re.fullmatch(r"(0[xX])?[0-9a-fA-F]{1,16}", text):
        raise DeviceError(f"{printable(node)}: '{printable(text)}' is not a hexadecimal number")
    return int(text, 16)


def _parse_slot(text: str, shown: str) -> tuple[DeviceSpec, dict[str, str]]:
    place, _, rest = text.partition(",")
    numbers = [int(p) for p in place.split(":") if len(p) < 10]
    if len(numbers) != len(place.split(":")):
        raise DeviceError(f"-s {shown}: slot numbers are 0 to {layout.VIRTIO_SLOTS - 1}")
    bus = numbers.pop(0) if len(numbers) == 3 else 0
    slot, func = numbers[0], numbers[1] if len(numbers) > 1 else 0
    if slot >= layout.VIRTIO_SLOTS:
        raise DeviceError(f"-s {shown}: slot numbers are 0 to {layout.VIRTIO_SLOTS - 1}")
    device, options = _parse_device(rest, shown)
    said = _variables(f"pci.{bus}.{slot}.{func}", device, options)
    return _at_slot(text, shown, (bus, slot, func), device, options), said


def _at_slot(
    text: str, shown: str, place: tuple[int, int, int], device: str, options: dict[str, str]
) -> DeviceSpec:
    bus, slot, func = place
    if slot >= layout.VIRTIO_SLOTS:
        raise DeviceError(f"-s {shown}: slot numbers are 0 to {layout.VIRTIO_SLOTS - 1}")
    if (bus or func) and device not in registry.IGNORED:
        raise DeviceError(
            f"-s {shown}: virtio-mmio slots have neither buses nor functions; use a free slot"
        )
    if device not in registry.IGNORED and not registry.is_virtio(device):
        raise DeviceError(
            f"-s {shown}: {device} does not go into a slot; give it an address:"
            f" -s 0x1000@0x10000#37:{device}"
        )
    window = layout.virtio_slot(slot)
    version = _take_version(options, 2, shown)
    return DeviceSpec(
        text, device, options, window.base, window.size, window.intid, version, slot, func
    )


def _parse_addr(text: str, shown: str, match: re.Match[str]) -> tuple[DeviceSpec, dict[str, str]]:
    size, base, irq = int(match[1], 16), int(match[2], 16), int(match[3])
    device, options = _parse_device(match[4], shown)
    said = _variables(f"mmio.{base:#x}", device, {"size": f"{size:#x}", "irq": str(irq), **options})
    return _at_address(text, shown, (size, base, irq), device, options), said


def _at_address(
    text: str, shown: str, place: tuple[int, int, int], device: str, options: dict[str, str]
) -> DeviceSpec:
    size, base, irq = place
    if device in registry.IGNORED:
        raise DeviceError(f"-s {shown}: {device} goes into a slot: -s 0,{device}")
    least = registry.min_window(device)
    if size < least or base + size > layout.IPA_LIMIT:
        raise DeviceError(
            f"-s {shown}: the window must be at least {least:#x} bytes and end below"
            f" {layout.IPA_LIMIT:#x}"
        )
    if base == 0:
        raise DeviceError(f"-s {shown}: address 0 is not chosen for you; 0x4000 to 0x7fff is free")
    if base % 8:
        raise DeviceError(f"-s {shown}: the address must be a multiple of 8")
    if irq != -1 and not layout.SPI_BASE <= irq < layout.SPI_LIMIT:
        raise DeviceError(
            f"-s {shown}: the interrupt is -1 or {layout.SPI_BASE} to {layout.SPI_LIMIT - 1}"
        )
    version = _take_version(options, 1, shown)
    return DeviceSpec(text, device, options, base, size, None if irq == -1 else irq, version)


def _parse_device(rest: str, shown: str) -> tuple[str, dict[str, str]]:
    device, comma, conf = rest.partition(",")
    if not device:
        raise DeviceError(f"-s {shown}: no device name; {FORMS}")
    registry.check_name(device)
    if comma and not conf:
        raise DeviceError(f"-s {shown}: nothing behind the last comma")
    return device, parse_options(device, conf)


def parse_options(device: str, conf: str) -> dict[str, str]:
    """``path,ro,ser=x`` as a dictionary; a bare word is "true" or the first-word key."""
    options: dict[str, str] = {}
    if not conf:
        return options
    first = registry.first_word(device, conf.partition(",")[0])
    for i, part in enumerate(conf.split(",")):
        key, equals, value = part.partition("=")
        if i == 0 and first and (not equals or key != first):
            key, value = first, part
        elif not equals:
            value = "true"
        if not key.strip() or not value:
            raise DeviceError(f"{device}: empty option in {printable(conf)!r}")
        if key in options:
            raise DeviceError(f"{device}: option {printable(key)!r} is given twice")
        options[key] = value
    return options


def _take_version(options: dict[str, str], default: int, shown: str) -> int:
    """The words ``modern`` and ``legacy`` choose the version of virtio-mmio."""
    version = default
    for word, number in (("modern", 2), ("legacy", 1)):
        if word in options:
            if options.pop(word) != "true":
                raise DeviceError(f"-s {shown}: {word} takes no value")
            version = number
    return version


def check(specs: Iterable[DeviceSpec]) -> None:
    """Two devices in one place, on one interrupt, or on top of the GIC."""
    seen: list[DeviceSpec] = []
    for spec in specs:
        for other in seen:
            if spec.slot is not None and (spec.slot, spec.func) == (other.slot, other.func):
                raise DeviceError(
                    f"slot {spec.slot} is taken twice: -s {printable(other.text)}"
                    f" and -s {printable(spec.text)}"
                )
            if spec.ignored or other.ignored:
                continue
            if spec.base < other.base + other.size and other.base < spec.base + spec.size:
                raise DeviceError(f"-s {printable(spec.text)} overlaps -s {printable(other.text)}")
            if spec.irq is not None and spec.irq == other.irq:
                raise DeviceError(
                    f"interrupt {spec.irq} is taken twice: -s {printable(other.text)}"
                    f" and -s {printable(spec.text)}"
                )
        for window in (layout.GICD, layout.GICC, layout.ITS, layout.gicr(1), layout.BVMCONS):
            if not spec.ignored and window.overlaps(spec.base, spec.size):
                raise DeviceError(f"-s {printable(spec.text)} overlaps the {window.name}")
        seen.append(spec)
