"""Which kernel form a file is: one row for each, tried in order.

Also rows for what is often mistaken for an arm64 kernel, with what to do about it.
Not here: the forms themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bhyvepy.boot import elf, freebsd, image, openbsd, raw
from bhyvepy.boot.arena import Arena
from bhyvepy.boot.options import Kernel, LoadOptions
from bhyvepy.errors import LoadError

Loader = Callable[[bytes, LoadOptions, Arena], Kernel]


@dataclass(frozen=True, slots=True)
class Form:
    """A kernel form: how to know it and what loads it."""

    name: str
    matches: Callable[[bytes], bool]
    load: Loader


@dataclass(frozen=True, slots=True)
class Mistake:
    """Bytes at an offset that say what the file is instead, and the remedy."""

    offset: int
    magic: bytes
    what: str


FORMS = (
    Form("Image", image.matches, image.load),
    Form("FreeBSD ELF", freebsd.matches, freebsd.load),
    Form("OpenBSD ELF", openbsd.matches, openbsd.load),
    Form("ELF", elf.matches, elf.load),
)

_UNPACK = "unpack it first"
MISTAKES = (
    Mistake(0x202, b"HdrS", "an x86 kernel: use an arm64 one"),
    Mistake(0x24, b"\x18\x28\x6f\x01", "a 32-bit Arm kernel: use an arm64 one"),
    Mistake(56, b"RSC\x05", "a RISC-V kernel: use an arm64 one"),
    Mistake(0, b"\x27\x05\x19\x56", "a U-Boot image: use the kernel inside it"),
    Mistake(0, b"\xd0\x0d\xfe\xed", "a device tree (-t takes it) or a FIT image, not a kernel"),
    Mistake(0, b"\xfd7zXZ\0", "compressed with xz: " + _UNPACK),
    Mistake(0, b"\x28\xb5\x2f\xfd", "compressed with zstd: " + _UNPACK),
    Mistake(0, b"BZh", "compressed with bzip2: " + _UNPACK),
    Mistake(0, b"\x04\x22\x4d\x18", "compressed with lz4: " + _UNPACK),
    Mistake(0, b"MZ", "an EFI program, not an arm64 kernel Image"),
)


def find(data: bytes, opts: LoadOptions) -> Loader:
    """The loader for these bytes. With -l anything unknown is a flat image."""
    if opts.flat and not elf.matches(data):
        return raw.load
    for form in FORMS:
        if form.matches(data):
            return form.load
    if opts.load is None:
        for mistake in MISTAKES:
            at = mistake.offset
            if data[at : at + len(mistake.magic)] == mistake.magic:
                raise LoadError(f"{opts.kernel} is {mistake.what}")
        raise LoadError(
            f"{opts.kernel} is of no known kernel format (arm64 Image, also gzip or zboot; "
            "FreeBSD, OpenBSD or plain ELF): -l ADDR loads it as a flat image"
        )
    return raw.load
