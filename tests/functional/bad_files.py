"""Files that bhyveload must refuse, made byte by byte: kernels and device trees by name.

The layouts are those of tests/unit/bootlib.py, written down again from the documents
(Linux booting.rst, the PE, ELF and devicetree specifications), so that the end-to-end
tests stand alone.
"""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20
RAM = 0x80000000


def image(
    text_offset: int = 0, size: int = 64 * KIB, flags: int = 0xA, length: int = 4096
) -> bytes:
    """An arm64 Image whose header says this."""
    head = struct.pack("<IIQQQ", 0x14000200, 0, text_offset, size, flags)
    return (head + bytes(24) + b"ARM\x64" + bytes(4)).ljust(length, b"\0")


def efi_image(section_end: int, length: int, pe_offset: int = 64) -> bytes:
    """An Image with an EFI stub that has one section."""
    head = struct.pack("<4sIQQQ", b"MZ\x40\xfa", 0, 0, 64 * KIB, 0xA)
    head += bytes(24) + b"ARM\x64" + struct.pack("<I", pe_offset)
    pe = struct.pack("<4sHH12xHH", b"PE\0\0", 0xAA64, 1, 160, 0) + bytes(160)
    pe += struct.pack("<8sIIII16x", b".text", 4096, 4096, section_end - 4096, 4096)
    return (head + pe).ljust(length, b"\0")[:length]


def elf(
    segments: list[tuple[int, int, int, int]],
    entry: int = RAM,
    length: int = 0x3000,
    machine: int = 183,
    kind: int = 2,
    bits: int = 2,
    phoff: int = 64,
    phentsize: int = 56,
    phnum: int | None = None,
) -> bytes:
    """An ELF file with PT_LOAD segments of (address, offset, file size, memory size)."""
    count = len(segments) if phnum is None else phnum
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9)
    head = ident + struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, entry, phoff, 0, 0, 64, phentsize, count, 64, 0, 0
    )
    for at, offset, filesz, memsz in segments:
        head += struct.pack("<IIQQQQQQ", 1, 5, offset, at, at, filesz, memsz, 0x1000)
    return head.ljust(length, b"\0")[:length]


def magic(at: int, text: bytes) -> bytes:
    """A file that is something else, as its magic number says."""
    return (bytes(at) + text).ljust(4096, b"\0")


GOOD = image()
PACKED = gzip.compress(GOOD + os.urandom(4096), mtime=0)
ONE = (RAM, 0x1000, 0x1000, 0x1000)

KERNELS: dict[str, bytes] = {
    "good": GOOD,
    "empty": b"",
    "one-byte": b"M",
    "efi-cut": efi_image(section_end=0x8000, length=0x7FFF),
    "efi-no-header": efi_image(section_end=0x8000, length=0x8000, pe_offset=0x10000000),
    "efi-damaged": efi_image(section_end=0x8000, length=0x8000, pe_offset=0x4000),
    "gzip-cut": PACKED[:-40],
    "gzip-cut-crc": PACKED[:-8],
    "gzip-damaged": PACKED[:100] + bytes([PACKED[100] ^ 0xFF]) + PACKED[101:],
    "gzip-crc": PACKED[:-8] + bytes(4) + PACKED[-4:],
    "gzip-more": PACKED + b"more",
    "gzip-of-nothing": gzip.compress(b"", mtime=0),
    "gzip-bomb": gzip.compress(bytes(400 * MIB), compresslevel=1, mtime=0),
    "elf-cut-header": elf([ONE])[:40],
    "elf-cut-table": elf([ONE], phoff=0x2FF0),
    "elf-cut-segment": elf([(RAM, 0x2001, 0x1000, 0x1000)]),
    "elf-offset-wraps": elf([(RAM, (1 << 64) - 0x1000, 0x1000, 0x1000)]),
    "elf-phoff-huge": elf([ONE], phoff=1 << 63),
    "elf-x86": elf([ONE], machine=62),
    "elf-32-bit": elf([ONE], bits=1),
    "elf-object": elf([ONE], kind=1),
    "elf-no-segments": elf([]),
    "elf-65535-segments": elf([ONE], phnum=65535),
    "elf-phentsize-1": elf([ONE], phentsize=1),
    "elf-phentsize-0": elf([ONE], phentsize=0),
    "elf-file-over-memory": elf([(RAM, 0x1000, 0x1000, 0x800)]),
    "elf-wraps": elf([((1 << 64) - 0x1000, 0x1000, 0x1000, 0x2000)], entry=(1 << 64) - 0x1000),
    "elf-overlap": elf([ONE, (RAM + 0x800, 0x1000, 0x1000, 0x1000)]),
    "elf-entry": elf([ONE], entry=RAM + 0x5000),
    "elf-in-mmio": elf([(0x10000, 0x1000, 0x1000, 0x1000)], entry=0x10000),
    "elf-above-ram": elf([(RAM + (8 << 30), 0x1000, 0x1000, 0x1000)], entry=RAM + (8 << 30)),
    "elf-bss": elf([(RAM, 0x1000, 0x1000, 1 << 40)]),
    "x86": magic(0x202, b"HdrS"),
    "arm32": magic(0x24, b"\x18\x28\x6f\x01"),
    "riscv": magic(56, b"RSC\x05"),
    "uimage": magic(0, b"\x27\x05\x19\x56"),
    "xz": magic(0, b"\xfd7zXZ\0"),
    "zstd": magic(0, b"\x28\xb5\x2f\xfd"),
    "zboot": magic(0, b"MZ\0\0zimg"),
    "windows": magic(0, b"MZ\x90\0"),
    "text": b"#!/bin/sh\necho I am no kernel\n",
    "big-endian": image(flags=0xB),
    "text-offset": image(text_offset=1 << 63),
    "image-size": image(size=1 << 62),
    "image-over-ram": image(size=64 * MIB),
}

SOURCE = b"""/dts-v1/;
/ { #address-cells = <2>; #size-cells = <2>; compatible = "x";
    memory@80000000 { device_type = "memory"; reg = <0 0x80000000 0 0x8000000>; };
    chosen { };
};
"""


def _deep() -> bytes:
    body = b"".join(
        struct.pack(">I", 1) + (b"\0\0\0\0" if n == 0 else b"a\0\0\0") for n in range(10000)
    )
    body += struct.pack(">I", 2) * 10000 + struct.pack(">I", 9)
    total = 56 + len(body)
    head = struct.pack(">10I", 0xD00DFEED, total, 56, total, 40, 17, 16, 0, 0, len(body))
    return head + bytes(16) + body


def _with(blob: bytes, at: int, value: int) -> bytes:
    return blob[:at] + struct.pack(">I", value) + blob[at + 4 :]


def device_trees() -> dict[str, bytes]:
    """reliability.md L01, by name; "good" is what they were made from."""
    good = subprocess.run(
        ["dtc", "-q", "-I", "dts", "-O", "dtb"], input=SOURCE, capture_output=True, check=True
    ).stdout
    off_struct, off_strings = struct.unpack_from(">II", good, 8)
    strings_size = struct.unpack_from(">I", good, 32)[0]
    prop = good.index(struct.pack(">I", 3), off_struct)
    return {
        "good": good,
        "empty": b"",
        "not": b"no tree" * 20,
        "cut": good[:-1],
        "cut-header": good[:39],
        "totalsize-0": _with(good, 4, 0),
        "totalsize-max": _with(good, 4, 0xFFFFFFFF),
        "totalsize-below-header": _with(good, 4, 16),
        "totalsize-over-file": _with(good, 4, len(good) + 1),
        "struct-beyond": _with(good, 8, 0x10000000),
        "struct-misaligned": _with(good, 8, off_struct + 1),
        "strings-beyond": _with(good, 12, len(good)),
        "strings-unterminated": _with(good, 32, strings_size - 1),
        "reservations-beyond": _with(good, 16, len(good)),
        "version-0": _with(good, 20, 0),
        "version-99": _with(_with(good, 20, 99), 24, 99),
        "prop-2G": _with(good, prop + 4, 0x80000000),
        "prop-name": _with(good, prop + 8, 0x7FFFFFFF),
        "token": _with(good, off_struct, 7),
        "no-end": good[: off_strings - 4] + struct.pack(">I", 4) + good[off_strings:],
        "deep": _deep(),
        "too-large": good + bytes(3 * MIB),
    }


def write(folder: Path) -> None:
    """All of them, as k-NAME and t-NAME, and what is no regular file."""
    for name, data in KERNELS.items():
        (folder / f"k-{name}").write_bytes(data)
    for name, data in device_trees().items():
        (folder / f"t-{name}").write_bytes(data)
    (folder / "directory").mkdir()
    os.mkfifo(folder / "fifo")
    for name, size in (("sparse", 1 << 43), ("large", 200 * MIB), ("disk", MIB), ("tiny", 100)):
        with (folder / name).open("wb") as f:
            f.truncate(size)
    (folder / "no-bytes").touch()
    (folder / "lines").write_text("memory.size=32M\nthis is no pair\n")
    (folder / "binary").write_bytes(b"\xff\xfe\0\x80")
