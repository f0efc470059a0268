"""Plain ELF kernels: PT_LOAD segments at their physical addresses.

Responsible for checking an ELF file's header and program headers against the file
before anything is believed (reliability.md L02, L03), for use by freebsd.py too.
pyelftools decodes the structures; it is given no section table, which a loader does
not need and a bad file could make costly. Not for FreeBSD's rules (freebsd.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from bhyvepy.boot.arena import Arena
from bhyvepy.boot.options import Kernel, LoadOptions, Placement
from bhyvepy.errors import LoadError

MAGIC = b"\x7fELF"
_EHDR_SIZE = 64
_PHDR_SIZE = 56
_MAX_SEGMENTS = 128
_EM_AARCH64 = 183
_ET_EXEC, _ET_DYN = 2, 3
_PF_X = 1
_KERNEL_VA = 0xFFFF << 48  # addresses that only a kernel's own page tables give


@cache
def _structs() -> Any:
    """pyelftools' structures, loaded when the first ELF file comes."""
    from elftools.elf.structs import ELFStructs

    structs = ELFStructs(little_endian=True, elfclass=64)
    structs.create_basic_structs()
    structs.create_advanced_structs()
    return structs


@dataclass(frozen=True, slots=True)
class Segment:
    """One PT_LOAD with bytes in memory."""

    vaddr: int
    paddr: int
    offset: int
    filesz: int
    memsz: int
    executable: bool


@dataclass(frozen=True, slots=True)
class ElfFile:
    """A checked ELF header with its PT_LOADs by address."""

    entry: int
    osabi: int
    relocatable: bool  # ET_DYN
    segments: tuple[Segment, ...]
    interpreter: bytes


def matches(data: bytes) -> bool:
    """Whether it is an ELF file of any kind."""
    return data[:4] == MAGIC


def parse(data: bytes, name: str) -> ElfFile:
    """Check and read it. Every number is compared with the file before it is used."""

    def bad(reason: str) -> LoadError:
        return LoadError(f"{name} is a damaged ELF file: {reason}")

    if len(data) < _EHDR_SIZE:
        raise LoadError(f"{name} is truncated: its ELF header is incomplete")
    if data[4] != 2 or data[5] != 1:
        raise LoadError(f"{name} is no 64-bit little-endian ELF file: use an arm64 kernel")
    kind, machine = (int.from_bytes(data[at : at + 2], "little") for at in (16, 18))
    if machine != _EM_AARCH64:
        raise LoadError(
            f"{name} is for another processor (ELF machine {machine}): use an arm64 one"
        )
    if kind not in (_ET_EXEC, _ET_DYN):
        raise LoadError(f"{name} is not an executable ELF file (type {kind}): use a linked kernel")
    entry = int.from_bytes(data[24:32], "little")
    phoff = int.from_bytes(data[32:40], "little")
    phentsize, phnum = (int.from_bytes(data[at : at + 2], "little") for at in (54, 56))
    if phentsize != _PHDR_SIZE:
        raise bad(f"program headers of {phentsize} bytes instead of {_PHDR_SIZE}")
    if not 1 <= phnum <= _MAX_SEGMENTS:
        raise bad(f"{phnum} program headers; 1 to {_MAX_SEGMENTS} are allowed")
    if phoff + phnum * _PHDR_SIZE > len(data):
        raise LoadError(f"{name} is truncated: its program headers lie behind the end of the file")

    segments: list[Segment] = []
    interpreter = b""
    for index in range(phnum):
        at = phoff + index * _PHDR_SIZE
        head = _structs().Elf_Phdr.parse(data[at : at + _PHDR_SIZE])
        if head.p_type not in ("PT_LOAD", "PT_INTERP"):
            continue
        if head.p_offset + head.p_filesz > len(data):
            raise LoadError(
                f"{name} is truncated: segment {index} ends at {head.p_offset + head.p_filesz} "
                f"and the file has {len(data)} bytes"
            )
        if head.p_type == "PT_INTERP":
            interpreter = bytes(data[head.p_offset : head.p_offset + min(head.p_filesz, 256)])
            continue
        if head.p_memsz < head.p_filesz:
            raise bad(f"segment {index} has more bytes in the file than in memory")
        if head.p_memsz == 0:
            continue
        if max(head.p_vaddr, head.p_paddr) + head.p_memsz > 1 << 64:
            raise bad(f"segment {index} wraps around the end of the address space")
        segments.append(
            Segment(
                head.p_vaddr,
                head.p_paddr,
                head.p_offset,
                head.p_filesz,
                head.p_memsz,
                bool(head.p_flags & _PF_X),
            )
        )
    if not segments:
        raise bad("nothing in it is to be loaded")
    segments.sort(key=lambda seg: seg.vaddr)
    for low, high in pairwise(segments):
        if low.vaddr + low.memsz > high.vaddr:
            raise bad(f"segments at {low.vaddr:#x} and {high.vaddr:#x} overlap")
    if not any(s.executable and s.vaddr <= entry < s.vaddr + s.memsz for s in segments):
        raise bad(f"its entry {entry:#x} lies in no executable segment")
    return ElfFile(entry, data[7], kind == _ET_DYN, tuple(segments), interpreter)


def by_virtual_address(file: ElfFile, data: bytes, slide: int) -> list[Placement]:
    """The segments of a kernel that is linked high and moved down by its loader."""
    view = memoryview(data)
    return [
        Placement(s.vaddr + slide, view[s.offset : s.offset + s.filesz], s.memsz, "kernel")
        for s in file.segments
    ]


def load(data: bytes, opts: LoadOptions, arena: Arena) -> Kernel:
    """Place the segments at their physical addresses, an ET_DYN file from -l or RAM's start up."""
    name = opts.kernel
    file = parse(data, name)
    if file.segments[0].vaddr >= _KERNEL_VA and file.segments[0].paddr >= _KERNEL_VA:
        raise LoadError(
            f"{name} is linked at {file.segments[0].vaddr:#x} and is not FreeBSD's: "
            "use its Image form"
        )
    slide = 0
    if file.relocatable:
        slide = opts.load if opts.load is not None else arena.ram[0][0]
        slide -= min(seg.paddr for seg in file.segments)
    elif opts.load is not None:
        raise LoadError(f"{name} is linked at a fixed address: leave out -l")
    entry = 0
    placements = []
    view = memoryview(data)
    for seg in file.segments:
        gpa = seg.paddr + slide
        arena.reserve(gpa, seg.memsz, "kernel segment")
        content = view[seg.offset : seg.offset + seg.filesz]
        placements.append(Placement(gpa, content, seg.memsz, "kernel"))
        if seg.executable and seg.vaddr <= file.entry < seg.vaddr + seg.memsz:
            entry = file.entry - seg.vaddr + gpa
    if entry % 4:
        raise LoadError(f"{name} is a damaged ELF file: its entry {entry:#x} is not aligned")
    start = min(p.gpa for p in placements)
    end = max(p.end for p in placements)
    return Kernel("elf", "fdt", entry, start, end, placements)
