"""What a load is asked to do, and the small types that the kernel forms share.

Not here: where options come from (the commands), or what is done with them (plan.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bhyvepy.boot.record import Seeds
from bhyvepy.layout import MIB, RAM_BASE

# A piece of guest memory that a file gives; memoryview, so that nothing is copied.
Data = bytes | memoryview

# Linux cuts its command line at COMMAND_LINE_SIZE (2048 with the final NUL on arm64).
MAX_BOOTARGS = 2047


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The options of one load; sizes and addresses in bytes."""

    seeds: Seeds
    base: int = RAM_BASE
    size: int = 128 * MIB
    kernel: str = "kernel"
    load: int | None = None
    initrd: bytes | None = None
    bootargs: str = ""
    env: tuple[str, ...] = ()
    dtb: bytes | None = None
    fdt: bool = False
    fdt_at: int | None = None  # where the device tree goes; None: behind the kernel
    flat: bool = False  # a boot ROM: entered at its first byte, whatever it looks like


@dataclass(frozen=True, slots=True)
class Placement:
    """`data` goes to `gpa`; from there to `size` bytes is zero."""

    gpa: int
    data: Data
    size: int
    what: str

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.gpa + self.size


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that has found its place."""

    form: str  # "linux-image", "freebsd-image", "freebsd-elf", "elf", "raw", ...
    protocol: str  # record.PROTOCOLS
    entry: int
    start: int  # all it needs lies in [start, end)
    end: int
    placements: list[Placement] = field(default_factory=list)
    # FreeBSD ELF: what the MODINFO chain says of it
    kernbase: int = 0
    # OpenBSD ELF: the end of kernel and symbols, which it gets in x0
    esym: int = 0


def human(size: int) -> str:
    """A size for a message."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << shift:
            text = f"{size / (1 << shift):.1f}"
            return f"{text.removesuffix('.0')} {unit}"
    return f"{size} bytes"
