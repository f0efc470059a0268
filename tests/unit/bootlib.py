"""Makers of kernel files for the loader's tests: headers and layouts byte by byte."""

from __future__ import annotations

import struct
from typing import Any

from bhyvepy.boot import plan, record
from bhyvepy.boot.options import LoadOptions

MIB = 1 << 20
RAM = 0x80000000


def image(
    text_offset: int = 0,
    image_size: int = 4 * MIB,
    flags: int = 0xA,
    body: bytes = b"",
    code0: bytes = b"\x00\x02\x00\x14",  # b 0x800
    pe_offset: int = 0,
) -> bytes:
    """An arm64 Image: the 64-byte header and what follows."""
    head = code0 + bytes(4) + struct.pack("<QQQ", text_offset, image_size, flags)
    head += bytes(24) + b"ARM\x64" + struct.pack("<I", pe_offset)
    assert len(head) == 64
    return head + body


def efi_image(sections: list[tuple[bytes, int, int]], size: int, **kw: Any) -> bytes:
    """An Image with an EFI stub: sections are (name, offset in the file, size)."""
    pe = struct.pack("<4sHH12xHH", b"PE\0\0", 0xAA64, len(sections), 160, 0) + bytes(160)
    for name, offset, length in sections:
        pe += struct.pack("<8sIIII16x", name, length, offset, length, offset)
    raw = image(code0=b"MZ\x40\xfa", pe_offset=64, body=pe, **kw)
    return raw + bytes(size - len(raw))


def phdr(
    vaddr: int,
    offset: int,
    filesz: int,
    memsz: int,
    paddr: int | None = None,
    flags: int = 5,
    kind: int = 1,
) -> bytes:
    """One ELF program header."""
    paddr = vaddr if paddr is None else paddr
    return struct.pack("<IIQQQQQQ", kind, flags, offset, vaddr, paddr, filesz, memsz, 0x1000)


def elf(
    phdrs: list[bytes],
    entry: int,
    body: bytes = b"",
    kind: int = 2,
    machine: int = 183,
    osabi: int = 0,
    **over: int,
) -> bytes:
    """An ELF file; the body follows the program headers, padded to 0x1000."""
    phoff = over.get("phoff", 64)
    head = b"\x7fELF\x02\x01\x01" + bytes([osabi]) + bytes(8)
    head += struct.pack("<HHIQQQIHHH", kind, machine, 1, entry, phoff, 0, 0, 64, 56, 0)[:-2]
    head = head[:54] + struct.pack(
        "<HHHHH", over.get("phentsize", 56), over.get("phnum", len(phdrs)), 64, 0, 0
    )
    raw = head + b"".join(phdrs)
    return raw + bytes(0x1000 - len(raw)) + body


def options(**kw: Any) -> LoadOptions:
    """Options with repeatable seeds."""
    return LoadOptions(seeds=record.make_seeds(7), **kw)


def memory(what: plan.LoadPlan) -> dict[int, bytes]:
    """What place() writes, by address."""
    out: dict[int, bytes] = {}
    plan.place(what, lambda gpa, data: out.__setitem__(gpa, bytes(data)))
    return out
