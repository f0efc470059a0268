"""FreeBSD's ELF kernel, and the MODINFO chain that its loader leaves behind it.

Responsible for placing the kernel by virtual address (its p_paddr is virtual too),
for the chain record by record, and for turning -a and -e into what FreeBSD reads.
Facts: docs/reference/boot.md. kernel.bin is an Image: image.py.

    base + VA - KERNBASE:   kernel .. _end | environment | DTB room | modulep
    (each page-aligned)                                               x0 = its VA

The kernel maps only [KERNBASE, modulep + at most 4 MiB) before it has read the chain,
so everything follows _end closely and modulep comes last. KERNEND tells it where free
memory begins.
"""

from __future__ import annotations

import struct

from bhyvepy.boot import elf
from bhyvepy.boot.arena import Arena, align_up
from bhyvepy.boot.options import Data, Kernel, LoadOptions, Placement, human
from bhyvepy.errors import LoadError, printable
from bhyvepy.layout import GIB, MIB, PAGE_SIZE

KERNBASE = 0xFFFF << 48
ALIGN = 2 * MIB
_OSABI_FREEBSD = 9
_INTERPRETER = b"/red/herring"  # PT_INTERP of every FreeBSD kernel

# sys/linker.h: record types; MODINFO_METADATA marks what belongs to the module.
MODINFO_END = 0x0000
MODINFO_NAME = 0x0001
MODINFO_TYPE = 0x0002
MODINFO_ADDR = 0x0003
MODINFO_SIZE = 0x0004
MODINFO_METADATA = 0x8000
MODINFOMD_ENVP = 0x0006
MODINFOMD_HOWTO = 0x0007
MODINFOMD_KERNEND = 0x0008
MODINFOMD_DTBP = 0x1002

# sys/boot.h: flags of the kernel's command line -> RB_*
_HOWTO = {
    "a": 0x1,  # ask for the root file system
    "s": 0x2,  # single user
    "r": 0x20,  # root from the kernel's configuration
    "d": 0x40,  # enter the debugger early
    "v": 0x800,  # verbose
    "h": 0x1000,  # serial console
    "C": 0x2000,  # root on a CD
    "g": 0x8000,  # debugger over gdb's protocol
    "m": 0x10000,  # mute the console
    "p": 0x100000,  # pause after each line
    "D": 0x20000000,  # several consoles
}


def matches(data: bytes) -> bool:
    """Whether an ELF file is a FreeBSD kernel; damaged files are left to elf.py."""
    try:
        file = elf.parse(data, "kernel")
    except LoadError:
        return False
    base = _kernbase(file)
    if base < KERNBASE:
        return False
    named = file.interpreter.rstrip(b"\0") == _INTERPRETER
    return file.osabi == _OSABI_FREEBSD or named or base == KERNBASE


def _kernbase(file: elf.ElfFile) -> int:
    return file.segments[0].vaddr & ~(ALIGN - 1)


def load(data: bytes, opts: LoadOptions, arena: Arena) -> Kernel:
    """Place byte VA of the kernel at base + (VA - KERNBASE)."""
    name = opts.kernel
    file = elf.parse(data, name)
    kernbase = _kernbase(file)
    span = file.segments[-1].vaddr + file.segments[-1].memsz - kernbase
    if span > arena.total:
        raise LoadError(
            f"{name} needs {human(span)} and memory has {human(arena.total)}: use a larger -m"
        )
    base = opts.load if opts.load is not None else _find_base(span, arena, name)
    if base % ALIGN:
        raise LoadError(f"-l {base:#x} does not suit {name}: it goes to a multiple of 2 MiB")
    if base // GIB != (base + span - 1) // GIB:
        raise LoadError(f"{name} may not cross a 1 GiB line, as at {base:#x}: use another -l or -b")
    arena.reserve(base, span, "kernel")
    placements = elf.by_virtual_address(file, data, base - kernbase)
    entry = base + file.entry - kernbase
    protocol = "fdt" if opts.fdt else "modinfo"
    return Kernel("freebsd-elf", protocol, entry, base, base + span, placements, kernbase)


def _find_base(span: int, arena: Arena, name: str) -> int:
    # The metadata behind the kernel must not cross the line either.
    need = span + 4 * MIB
    for lo, length in arena.ram:
        at = align_up(lo, ALIGN)
        if at // GIB != (at + need - 1) // GIB and need <= GIB:
            above = align_up(at, GIB)
            if above + span <= lo + length:
                at = above
        if at + span <= lo + length:
            return at
    raise LoadError(
        f"{name} needs {human(span)} in one piece of RAM ({arena.describe()}): "
        "use a larger -m or another -b"
    )


def boot_flags(bootargs: str) -> tuple[int, list[str]]:
    """-a "-sv name=value" as the loader's RB_ flags and more environment."""
    howto = 0
    env: list[str] = []
    for word in bootargs.removeprefix("FreeBSD:").split():
        if word.startswith("-"):
            for letter in word[1:]:
                if letter not in _HOWTO:
                    known = "".join(_HOWTO)
                    raise LoadError(f"-a: FreeBSD has no boot flag -{letter} (it has -{known})")
                howto |= _HOWTO[letter]
        elif "=" in word:
            env.append(word)
        else:
            raise LoadError(
                f"-a: {printable(word, 40)} is neither a flag such as -v nor name=value, "
                "which is what FreeBSD takes"
            )
    return howto, env


def command_line(opts: LoadOptions) -> str:
    """/chosen/bootargs for a FreeBSD that gets the device tree in x0.

    It reads the line only when it begins with "FreeBSD:".
    """
    words = opts.bootargs.removeprefix("FreeBSD:").split()
    for item in opts.env:
        if any(c.isspace() for c in item):
            raise LoadError(
                f"-e {printable(item, 40)}: no blanks may be in it with this form of kernel; "
                "the ELF kernel takes them"
            )
        words.append(item)
    return "FreeBSD: " + " ".join(words) if words else ""


def environment(env: list[str]) -> bytes:
    """Strings, each ended by a NUL, and one more NUL (two when there is none)."""
    block = b"".join(item.encode() + b"\0" for item in env)
    return (block or b"\0") + b"\0"


def record(kind: int, payload: bytes) -> bytes:
    """One MODINFO record: type, length, data padded to 8."""
    return struct.pack("<II", kind, len(payload)) + payload + bytes(-len(payload) % 8)


def chain(kernbase: int, size: int, howto: int, env_va: int, dtb_va: int, kernend_va: int) -> bytes:
    """The MODINFO chain, in the order of FreeBSD's loader."""
    meta = MODINFO_METADATA
    return b"".join(
        (
            record(MODINFO_NAME, b"kernel\0"),
            record(MODINFO_TYPE, b"elf kernel\0"),
            record(MODINFO_ADDR, struct.pack("<Q", kernbase)),
            record(MODINFO_SIZE, struct.pack("<Q", size)),
            record(meta | MODINFOMD_HOWTO, struct.pack("<I", howto)),
            record(meta | MODINFOMD_ENVP, struct.pack("<Q", env_va)),
            record(meta | MODINFOMD_DTBP, struct.pack("<Q", dtb_va)),
            record(meta | MODINFOMD_KERNEND, struct.pack("<Q", kernend_va)),
            record(MODINFO_END, b""),
        )
    )


def metadata(
    kernel: Kernel, opts: LoadOptions, arena: Arena, room: int, dtb: Data
) -> tuple[list[Placement], int, int]:
    """Lay out environment, DTB room and modulep; returns placements, x0, address of the room."""
    howto, extra = boot_flags(opts.bootargs)
    env = environment([*opts.env, *extra])
    env_at = align_up(kernel.end, PAGE_SIZE)
    dtb_at = align_up(env_at + len(env), PAGE_SIZE)
    modulep = align_up(dtb_at + room, PAGE_SIZE)

    def va(gpa: int) -> int:
        return kernel.kernbase + gpa - kernel.start

    size = kernel.end - kernel.start
    # Every field has a fixed size, so the length is known before KERNEND is.
    length = len(chain(kernel.kernbase, size, howto, 0, 0, 0))
    kernend = align_up(modulep + length, PAGE_SIZE)
    data = chain(kernel.kernbase, size, howto, va(env_at), va(dtb_at), va(kernend))
    arena.reserve(env_at, dtb_at - env_at, "boot environment")
    arena.reserve(dtb_at, room, "device tree")
    arena.reserve(modulep, kernend - modulep, "boot metadata")
    placements = [
        Placement(env_at, env, dtb_at - env_at, "environment"),
        Placement(dtb_at, dtb, room, "device tree"),
        Placement(modulep, data, kernend - modulep, "metadata"),
    ]
    return placements, va(modulep), dtb_at
