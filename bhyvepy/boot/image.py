"""The arm64 "Image" form: Linux, FreeBSD's kernel.bin and NetBSD's netbsd.img.

Responsible for the 64-byte header (Linux Documentation/arch/arm64/booting.rst, 4), for
checking that an Image with an EFI stub is whole, and for its place in RAM. Not for
the device tree and the initrd beside it (plan.py).

    0  code0        8  text_offset   24  flags         56  magic "ARM\\x64"
    4  code1       16  image_size    32  res2..res4    60  res5, offset of the PE header

An Image does not say how long its file is, so a truncated one would only be noticed
by a guest that dies. An EFI stub's PE header does say it: its sections must lie in
the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bhyvepy.boot.arena import Arena, align_up
from bhyvepy.boot.options import Kernel, LoadOptions, Placement, human
from bhyvepy.errors import LoadError
from bhyvepy.layout import IPA_LIMIT, MIB

MAGIC = b"ARM\x64"
HEADER = struct.Struct("<IIQQQQQQ4sI")
ALIGN = 2 * MIB

_OLD_TEXT_OFFSET = 0x80000  # where image_size is 0 (Linux before 3.17)
_PE_MACHINE_ARM64 = 0xAA64

# Who built it: text that each kernel carries, and the form we call it.
_BUILDERS = (
    (b"The FreeBSD Project", "freebsd-image"),
    (b"The NetBSD Foundation", "netbsd-image"),
)


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says."""

    text_offset: int
    image_size: int
    flags: int
    pe_offset: int


def matches(data: bytes) -> bool:
    """Whether the magic is there."""
    return len(data) >= HEADER.size and data[56:60] == MAGIC


def parse(data: bytes, name: str) -> Header:
    """The header, checked."""
    fields = HEADER.unpack_from(data)
    head = Header(fields[2], fields[3], fields[4], fields[9])
    if head.flags & 1:
        raise LoadError(f"{name} is a big-endian kernel: only little-endian ones run here")
    if head.text_offset >= IPA_LIMIT or head.image_size >= IPA_LIMIT:
        raise LoadError(
            f"{name} has a damaged header: text offset {head.text_offset:#x}, "
            f"image size {head.image_size:#x}"
        )
    if data[:2] == b"MZ":
        _check_pe(data, head.pe_offset, name)
    return head


def _check_pe(data: bytes, offset: int, name: str) -> None:
    """Every section of the EFI stub's PE header must lie in the file."""
    truncated = LoadError(f"{name} is truncated: its EFI header lies behind the end of the file")
    if offset + 24 > len(data):
        raise truncated
    signature, machine, count, optional = struct.unpack_from("<4sHH12xH", data, offset)
    if signature != b"PE\0\0" or machine != _PE_MACHINE_ARM64:
        raise LoadError(f"{name} has a damaged EFI header: no arm64 PE header at {offset:#x}")
    table = offset + 24 + optional
    if table + 40 * count > len(data):
        raise truncated
    for index in range(count):
        at = table + 40 * index
        size, start = struct.unpack_from("<II", data, at + 16)
        if start + size > len(data):
            section = data[at : at + 8].rstrip(b"\0").decode("ascii", "replace")
            raise LoadError(
                f"{name} is truncated: it has {len(data)} bytes and its "
                f"section {section!a} ends at {start + size}"
            )


def form(data: bytes) -> str:
    """Whose Image it is."""
    if data[:2] != b"MZ":
        for text, found in _BUILDERS:
            if text in data:
                return found
    return "linux-image"


def load(data: bytes, opts: LoadOptions, arena: Arena) -> Kernel:
    """Find its place: 2 MiB aligned plus text_offset, as low as it goes."""
    name = opts.kernel
    head = parse(data, name)
    text_offset = head.text_offset if head.image_size else _OLD_TEXT_OFFSET
    size = max(head.image_size, len(data))
    if text_offset + size > arena.total:
        raise LoadError(
            f"{name} needs {human(text_offset + size)} and memory has {human(arena.total)}: "
            "use a larger -m"
        )
    if opts.load is not None:
        start = opts.load
        if (start - text_offset) % ALIGN:
            raise LoadError(
                f"-l {start:#x} does not suit {name}: an Image goes to a multiple of 2 MiB"
                + (f" plus {text_offset:#x}" if text_offset else "")
            )
        arena.reserve(start, size, "kernel")
    else:
        for lo, length in arena.ram:
            start = align_up(lo, ALIGN) + text_offset
            if start + size <= lo + length:
                break
        else:
            raise LoadError(
                f"{name} needs {human(size)} in one piece of RAM ({arena.describe()}): "
                "use a larger -m or another -b"
            )
        arena.reserve(start, size, "kernel")
    placement = Placement(start, data, size, "kernel")
    return Kernel(form(data), "fdt", start, start, start + size, [placement])
