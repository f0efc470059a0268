"""The kernel forms: Image, plain ELF, flat; headers that a loader must not believe."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import struct
import subprocess

import pytest

from bhyvepy.boot import detect, plan, record
from bhyvepy.errors import LoadError

from .bootlib import MIB, RAM, efi_image, elf, image, memory, options, phdr

CODE = bytes(range(256)) * 16


def refused(data: bytes, text: str, **kw: object) -> str:
    """The one line that refuses a kernel."""
    with pytest.raises(LoadError, match=text) as caught:
        plan.plan(data, options(**kw))
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 300
    return line


# -- Image ---------------------------------------------------------------------


def test_image_goes_to_the_start_of_ram() -> None:
    """A Linux Image is placed at the RAM base, entered at its first byte, with x0 = the tree."""
    data = image(image_size=3 * MIB + 0x123, body=CODE)
    p = plan.plan(data, options())
    kernel = p.placements[0]
    assert (kernel.gpa, bytes(kernel.data), kernel.size) == (RAM, data, 3 * MIB + 0x123)
    assert (p.record.entry, p.record.form, p.record.protocol) == (RAM, "linux-image", "fdt")
    assert p.record.x0 == p.record.dtb_gpa


def test_text_offset_counts_from_a_2_mib_boundary() -> None:
    """text_offset is added to a 2 MiB aligned address, whatever the RAM base is."""
    p = plan.plan(image(text_offset=0x80000), options(base=RAM + 0x1000))
    assert p.record.entry == RAM + 2 * MIB + 0x80000


def test_an_old_image_without_a_size_has_text_offset_0x80000() -> None:
    """image_size 0 means text_offset 0x80000 (before Linux 3.17)."""
    p = plan.plan(image(text_offset=0, image_size=0), options())
    assert p.record.entry == RAM + 0x80000


def test_an_image_longer_than_its_size_keeps_its_bytes() -> None:
    """A file longer than image_size is placed in full and nothing overlaps it."""
    data = image(image_size=64, body=bytes(5 * MIB))
    p = plan.plan(data, options())
    assert p.placements[0].size == len(data)
    assert p.record.dtb_gpa >= RAM + len(data)


def test_l_places_an_image() -> None:
    """-l says where an Image goes, when its alignment allows."""
    p = plan.plan(image(), options(load=RAM + 16 * MIB))
    assert p.record.entry == RAM + 16 * MIB
    refused(image(), "multiple of 2 MiB", load=RAM + 0x1000)
    refused(image(), "does not lie in RAM", load=RAM - 2 * MIB)


@pytest.mark.parametrize("flags", [0x8, 0xA, 0xC, 0xE], ids=["any", "4k", "16k", "64k"])
def test_kernels_of_every_page_size(flags: int) -> None:
    """An Image built for 16 or 64 KiB pages is taken: the MMU has all granules."""
    assert plan.plan(image(flags=flags), options()).record.entry == RAM


def test_freebsd_and_netbsd_images_are_known_by_their_text() -> None:
    """kernel.bin and netbsd.img share the form and get their own name in the record."""
    freebsd = image(body=b"Copyright (c) 1992-2021 The FreeBSD Project.")
    netbsd = image(body=b"The NetBSD Foundation, Inc.")
    assert plan.plan(freebsd, options()).record.form == "freebsd-image"
    assert plan.plan(netbsd, options()).record.form == "netbsd-image"


def test_a_freebsd_image_gets_flags_and_environment_in_bootargs() -> None:
    """FreeBSD reads /chosen/bootargs only behind "FreeBSD:", so that is what it gets."""
    data = image(body=b"The FreeBSD Project")
    p = plan.plan(data, options(bootargs="-v", env=("vfs.root.mountfrom=ufs:/dev/vtbd0",)))
    assert p.record.bootargs == "FreeBSD: -v vfs.root.mountfrom=ufs:/dev/vtbd0"
    assert plan.plan(data, options()).record.bootargs == ""
    assert plan.plan(data, options(bootargs="FreeBSD: -s")).record.bootargs == "FreeBSD: -s"


def test_gzip_is_unpacked() -> None:
    """A gzip-compressed Image is placed unpacked."""
    data = image(body=CODE)
    p = plan.plan(gzip.compress(data), options())
    assert memory(p)[RAM] == data


def test_gzip_must_end() -> None:
    """A truncated gzip stream is refused at every length, and so is a damaged one."""
    packed = gzip.compress(image(body=CODE))
    for cut in (2, 9, 10, 100, len(packed) // 2, len(packed) - 1):
        refused(packed[:cut], "truncated")
    broken = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    refused(broken, "damaged")
    refused(packed + b"more", "behind its gzip stream")


def test_l04_a_gzip_bomb_stops_at_the_size_of_memory() -> None:
    """L04: what unpacks to more than memory is refused without unpacking it all."""
    bomb = gzip.compress(bytes(64 * MIB))
    assert len(bomb) < MIB
    refused(bomb, "larger -m", size=8 * MIB)


def zboot(payload: bytes, kind: bytes, offset: int = 512, size: int | None = None) -> bytes:
    """An EFI zboot kernel: header, padding, payload."""
    length = len(payload) if size is None else size
    head = struct.pack("<4s4sII8x32s", b"MZ\0\0", b"zimg", offset, length, kind)
    return head.ljust(512, b"\0") + payload + b"\0" * 64


PACKERS = {
    b"gzip": gzip.compress,
    b"xzkern": lzma.compress,
    b"lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    b"zstd22": lambda data: (
        subprocess.run(["zstd", "-cq"], input=data, capture_output=True, check=True).stdout
    ),
}


@pytest.mark.parametrize("kind", PACKERS, ids=bytes.decode)
def test_a_zboot_kernel_is_unpacked(kind: bytes) -> None:
    """The Image behind an EFI zboot header is loaded as if it stood alone."""
    data = image(body=CODE * 100)
    p = plan.plan(zboot(PACKERS[kind](data), kind), options())
    assert memory(p)[RAM] == data
    assert p.record.form == "linux-image"


@pytest.mark.parametrize("kind", PACKERS, ids=bytes.decode)
def test_a_bad_zboot_kernel_is_refused(kind: bytes) -> None:
    """Truncated, damaged, too large or behind the end of the file: one line each."""
    packed = PACKERS[kind](image(body=CODE * 5000))
    refused(zboot(packed[: len(packed) // 2], kind), "truncated|damaged")
    refused(zboot(b"\xff" * 100, kind), "damaged|truncated")
    refused(zboot(packed, kind, size=1 << 30), "does not lie in its")
    refused(zboot(packed, kind, offset=4), "does not lie in its")
    refused(zboot(PACKERS[kind](bytes(64 * MIB)), kind), "larger -m", size=8 * MIB)
    refused(zboot(packed, b"lzop"), "compressed with 'lzop'; known are gzip")
    refused(zboot(packed, kind)[:40], "header is incomplete")


def test_zstd_needs_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without zstd on the machine the line says what to install."""
    monkeypatch.setenv("PATH", "/nonexistent")
    refused(zboot(bytes(100), b"zstd"), "apt-get install zstd")


def openbsd(**over: int) -> bytes:
    """An OpenBSD kernel: linked high, virtual p_paddr, its own program header."""
    base = 0xFFFFFF8000200000
    return elf(
        [
            phdr(base, 0x1000, 0x100, 0x1000),
            phdr(base + 0x200000, 0x2000, 0x80, 0x3010, flags=6),
            phdr(base + 0x200000, 0x2000, 8, 8, kind=over.get("kind", 0x65A3DBE6)),
        ],
        entry=base + 0x40,
        body=CODE[:0x100].ljust(0x1000, b"\1") + b"\2" * 0x80,
    )


def test_an_openbsd_kernel_is_placed_by_virtual_address() -> None:
    """VA - 0xffffff8000000000 from RAM's start; x0 the page behind it, x2 the tree."""
    p = plan.plan(openbsd(), options(bootargs="-s"))
    placed = {x.gpa: (len(x.data), x.size) for x in p.placements if x.what == "kernel"}
    assert placed == {RAM + 0x200000: (0x100, 0x1000), RAM + 0x400000: (0x80, 0x3010)}
    r = p.record
    assert (r.form, r.protocol, r.entry) == ("openbsd-elf", "openbsd", RAM + 0x200040)
    assert r.x0 == RAM + 0x404000
    assert r.x2 == r.dtb_gpa >= RAM + 64 * MIB
    assert r.bootargs == "bsd -s"
    assert record.parse(r.dump()) == r


def test_what_openbsd_cannot_take_is_refused() -> None:
    """Too little memory, an initrd, and the same file without OpenBSD's header."""
    refused(openbsd(), "needs 64 MiB in one piece", size=64 * MIB - 4096)
    refused(openbsd(), "takes no initrd", initrd=b"x")
    refused(openbsd(), "multiple of 2 MiB", load=RAM + 4096)
    refused(openbsd(kind=4), "is not FreeBSD's: use its Image form")


def test_efi_sections_must_lie_in_the_file() -> None:
    """An Image with an EFI stub that was cut anywhere is noticed by its section table."""
    whole = efi_image([(b".text", 0x1000, 0x3000), (b".data", 0x4000, 0x2000)], 0x6000)
    plan.plan(whole, options())
    for cut in (64, 70, 0x100, 0x1000, 0x5FFF):
        assert "truncated" in refused(whole[:cut], "truncated")
    assert "'.data' ends at 24576" in refused(whole[:0x5FFF], "section")


def test_a_damaged_efi_header_is_refused() -> None:
    """The stub's PE signature and machine must be there."""
    whole = bytearray(efi_image([(b".text", 0x200, 0x100)], 0x400))
    whole[64:66] = b"XX"
    refused(bytes(whole), "no arm64 PE header")
    refused(image(code0=b"MZ\x40\xfa", pe_offset=0xFFFFFFFF, body=bytes(512)), "truncated")


@pytest.mark.parametrize(
    ("kw", "text"),
    [
        ({"text_offset": 1 << 63}, "damaged header"),
        ({"image_size": (1 << 64) - 1}, "damaged header"),
        ({"image_size": 1 << 39}, "larger -m"),
        ({"image_size": 128 * MIB + 1}, "larger -m"),
        ({"flags": 0xB}, "big-endian"),
    ],
)
def test_l04_bad_image_headers(kw: dict[str, int], text: str) -> None:
    """L04: numbers in an Image header that cannot be, or do not suit this machine."""
    refused(image(**kw), text)  # type: ignore[arg-type]


@pytest.mark.parametrize("flags", [0x8, 0xA, 0xC, 0xE])
def test_kernels_of_every_page_size_load(flags: int) -> None:
    """Pages of 4, 16 or 64 KiB, or not said: the CPU has all three granules."""
    plan.plan(image(flags=flags), options())


# -- plain ELF -------------------------------------------------------------------


def test_elf_segments_go_to_their_physical_addresses() -> None:
    """Each PT_LOAD goes to p_paddr with room for its bss; the entry is translated with it."""
    heads = [
        phdr(0x40000000, 0x1000, 0x100, 0x100, paddr=RAM + 0x1000),
        phdr(0x40010000, 0x1100, 0x80, 0x5000, paddr=RAM + 0x11000, flags=6),
    ]
    p = plan.plan(elf(heads, 0x40000010, CODE), options())
    text, data = p.placements[:2]
    assert (text.gpa, bytes(text.data), text.size) == (RAM + 0x1000, CODE[:0x100], 0x100)
    assert (data.gpa, bytes(data.data), data.size) == (RAM + 0x11000, CODE[0x100:0x180], 0x5000)
    assert (p.record.entry, p.record.form) == (RAM + 0x1010, "elf")
    assert p.record.x0 == p.record.dtb_gpa >= data.end


def test_a_relocatable_elf_goes_where_l_says() -> None:
    """An ET_DYN file is placed from the RAM base up, or from -l."""
    data = elf([phdr(0x200, 0x1000, 0x100, 0x100)], 0x204, CODE, kind=3)
    assert plan.plan(data, options()).record.entry == RAM + 4
    assert plan.plan(data, options(load=RAM + MIB)).record.entry == RAM + MIB + 4


def test_l_with_a_fixed_elf_is_refused() -> None:
    """A linked address is not moved."""
    refused(elf([phdr(RAM, 0x1000, 16, 16)], RAM, CODE), "leave out -l", load=RAM)


GOOD = phdr(RAM, 0x1000, 0x100, 0x100)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (elf([GOOD], RAM, CODE)[:40], "truncated"),
        (elf([GOOD], RAM, CODE, phentsize=0), "program headers of 0 bytes"),
        (elf([GOOD], RAM, CODE, phentsize=1), "program headers of 1 bytes"),
        (elf([GOOD], RAM, CODE, phnum=0), "0 program headers"),
        (elf([GOOD], RAM, CODE, phnum=65535), "65535 program headers"),
        (elf([GOOD], RAM, CODE, phoff=1 << 63), "behind the end"),
        (elf([GOOD], RAM, CODE, phoff=0x2000 - 55), "behind the end"),
        (elf([phdr(RAM, 0x1000, 0x1001, 0x2000)], RAM, CODE), "truncated"),
        (elf([phdr(RAM, (1 << 64) - 1, 1, 1)], RAM, CODE), "truncated"),
        (elf([phdr(RAM, 0x1000, 0x100, 0xFF)], RAM, CODE), "more bytes in the file"),
        (elf([phdr((1 << 64) - 16, 0x1000, 16, 32)], RAM, CODE), "wraps around"),
        (elf([phdr(0x1000, 0x1000, 16, 16)], 0x1000, CODE), "does not lie in RAM"),
        (elf([phdr(0x2F000000, 0x1000, 16, 16)], 0x2F000000, CODE), "does not lie in RAM"),
        (elf([phdr(RAM + 128 * MIB - 8, 0x1000, 4, 16)], RAM + 128 * MIB - 8, CODE), "RAM"),
        (elf([phdr(RAM, 0x1000, 4, 1 << 38)], RAM, CODE), "larger -m"),
        (elf([GOOD, phdr(RAM + 0xFF, 0x1000, 1, 1)], RAM, CODE), "overlap"),
        (elf([GOOD, phdr(RAM + 0xFF, 0x1000, 1, 1, paddr=RAM + MIB)], RAM, CODE), "overlap"),
        (
            elf([GOOD, phdr(RAM + MIB, 0x1000, 1, 1, paddr=RAM + 8)], RAM, CODE),
            "overlaps the kernel segment",
        ),
        (elf([GOOD], RAM + 0x100, CODE), "no executable segment"),
        (elf([phdr(RAM, 0x1000, 16, 16, flags=6)], RAM, CODE), "no executable segment"),
        (elf([GOOD], RAM + 2, CODE), "not aligned"),
        (elf([phdr(RAM, 0x1000, 0, 0)], RAM, CODE), "nothing in it"),
        (elf([phdr(RAM, 0x1000, 16, 16, kind=2)], RAM, CODE), "nothing in it"),
        (elf([GOOD], RAM, CODE, machine=62), "another processor"),
        (elf([GOOD], RAM, CODE, kind=1), "not an executable"),
        (b"\x7fELF\x01\x01\x01" + bytes(100), "no 64-bit"),
        (b"\x7fELF\x02\x02\x01" + bytes(100), "no 64-bit"),
        (elf([phdr(0xFFFF800008000000, 0x1000, 16, 16)], 0xFFFF800008000000, CODE), "Image form"),
    ],
)
def test_l02_l03_bad_elf(data: bytes, text: str) -> None:
    """L02, L03: an ELF file's sizes, offsets and addresses are checked before use."""
    refused(data, text)


def test_a_kernel_of_random_damage_never_breaks_the_loader() -> None:
    """Any byte of an ELF or Image header may be anything: a plan or one LoadError comes out."""
    for whole in (
        elf([GOOD, phdr(RAM + MIB, 0x1100, 16, 0x1000, flags=6)], RAM, CODE),
        efi_image([(b".text", 0x200, 0x100)], 0x400),
    ):
        for at in range(320):
            for value in (0, 1, 0x7F, 0x80, 0xFF):
                data = bytearray(whole)
                data[at] = value
                with contextlib.suppress(LoadError):
                    plan.plan(bytes(data), options(size=8 * MIB))


# -- flat and unknown ---------------------------------------------------------------


def test_a_flat_image_goes_to_l() -> None:
    """Unknown bytes with -l are placed as they are, entered at the first, with x0 = the tree."""
    p = plan.plan(CODE, options(load=RAM + 0x40000))
    assert memory(p) == {RAM + 0x40000: CODE}
    assert (p.record.entry, p.record.form) == (RAM + 0x40000, "raw")
    assert p.record.x0 == p.record.dtb_gpa != 0


def test_a_flat_image_must_fit() -> None:
    """A flat image that ends behind RAM, or starts off a word, is refused."""
    refused(CODE, "does not lie in RAM", load=RAM + 128 * MIB - len(CODE) + 4)
    plan.plan(CODE, options(load=RAM + 128 * MIB - len(CODE)))
    refused(CODE, "multiple of 4", load=RAM + 2)
    refused(b"\x1f\x20\x03", "3 bytes, which is no instruction: it is no flat", load=RAM)
    refused(b"\x1f\x20\x03", "it is no boot ROM", load=RAM, flat=True)
    refused(CODE, "give an address", load=1 << 40)


@pytest.mark.parametrize("data", [b"x", b"\0" * 4096, b"ARM\x64", b"#!/bin/sh\n"])
def test_an_unknown_format_names_the_remedy(data: bytes) -> None:
    """Bytes of no known format are one line that mentions -l."""
    assert "-l ADDR" in refused(data, "no known kernel format")


@pytest.mark.parametrize("mistake", detect.MISTAKES, ids=lambda m: m.what.split(":")[0])
def test_common_mistakes_are_named(mistake: detect.Mistake) -> None:
    """An x86 kernel, a compressed one and so on are called by their name."""
    data = bytearray(1024)
    data[mistake.offset : mistake.offset + len(mistake.magic)] = mistake.magic
    assert mistake.what in refused(bytes(data), "kernel")


def test_the_size_of_a_header_is_not_a_header() -> None:
    """63 bytes of an Image are no Image."""
    refused(image()[:63], "no known kernel format")
    assert struct.calcsize("<IIQQQQQQ4sI") == 64
