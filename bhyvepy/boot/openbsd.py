"""OpenBSD's ELF kernel.

Responsible for placing it by virtual address (its p_paddr is virtual too) in the first
64 MiB of an area of its own, and for its command line. Facts: docs/reference/boot.md.

    base + VA - 0xffffff8000000000:   2 MiB hole | kernel .. _end | room up to 64 MiB
    x0 = the page behind _end (where symbols would end), x2 = the device tree
"""

from __future__ import annotations

from bhyvepy.boot import elf
from bhyvepy.boot.arena import Arena, align_up
from bhyvepy.boot.options import Kernel, LoadOptions, human
from bhyvepy.errors import LoadError
from bhyvepy.layout import MIB, PAGE_SIZE

KERNBASE = 0xFFFF_FF80_0000_0000
ALIGN = 2 * MIB
AREA = 64 * MIB  # what its first page tables map
_RANDOMIZE = (0x65A3DBE6).to_bytes(4, "little")  # p_type of PT_OPENBSD_RANDOMIZE


def matches(data: bytes) -> bool:
    """Whether it is linked where OpenBSD is, and has OpenBSD's own program header."""
    try:
        file = elf.parse(data, "kernel")
    except LoadError:
        return False
    phoff = int.from_bytes(data[32:40], "little")
    phnum = int.from_bytes(data[56:58], "little")
    types = [data[phoff + 56 * n : phoff + 56 * n + 4] for n in range(phnum)]
    first, last = file.segments[0], file.segments[-1]
    inside = first.vaddr >= KERNBASE and last.vaddr + last.memsz <= KERNBASE + AREA
    return inside and _RANDOMIZE in types


def load(data: bytes, opts: LoadOptions, arena: Arena) -> Kernel:
    """Place byte VA of the kernel at base + (VA - KERNBASE)."""
    name = opts.kernel
    file = elf.parse(data, name)
    base = opts.load if opts.load is not None else _find_base(arena, name)
    if base % ALIGN:
        raise LoadError(f"-l {base:#x} does not suit {name}: it goes to a multiple of 2 MiB")
    arena.reserve(base, AREA, "kernel")
    placements = elf.by_virtual_address(file, data, base - KERNBASE)
    end = max(p.end for p in placements)
    return Kernel(
        "openbsd-elf",
        "openbsd",
        base + file.entry - KERNBASE,
        base,
        base + AREA,
        placements,
        esym=align_up(end, PAGE_SIZE),
    )


def _find_base(arena: Arena, name: str) -> int:
    for lo, length in arena.ram:
        at = align_up(lo, ALIGN)
        if at + AREA <= lo + length:
            return at
    raise LoadError(
        f"{name} needs {human(AREA)} in one piece of RAM ({arena.describe()}): use a larger -m"
    )


def command_line(bootargs: str) -> str:
    """-a "-s" as OpenBSD reads it: the first word is the kernel's name."""
    return f"bsd {bootargs}" if bootargs.startswith("-") else bootargs
