"""FreeBSD's ELF kernel: placement, the MODINFO chain byte by byte, arguments."""

from __future__ import annotations

import struct

import pytest

from bhyvepy.boot import freebsd, plan
from bhyvepy.errors import LoadError

from .bootlib import MIB, RAM, elf, memory, options, phdr

KERNBASE = 0xFFFF000000000000
BODY = bytes(range(256)) * 16
END = 0x305678  # _end - KERNBASE


def kernel(base: int = KERNBASE, osabi: int = 9) -> bytes:
    """The shape of a GENERIC kernel: headers in the first segment, p_paddr virtual."""
    heads = [
        phdr(base, 0, 0x1800, 0x1800),
        phdr(base + 0x200000, 0x1800, 0x800, END - 0x200000, flags=6),
    ]
    return elf(heads, base + 0x800, BODY, osabi=osabi)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def test_bytes_go_to_base_plus_va_minus_kernbase() -> None:
    """p_paddr, which is virtual, is ignored; the ELF headers are part of the first segment."""
    data = kernel()
    p = plan.plan(data, options())
    text, rest = p.placements[:2]
    assert (text.gpa, bytes(text.data), text.size) == (RAM, data[:0x1800], 0x1800)
    assert (rest.gpa, bytes(rest.data)) == (RAM + 0x200000, data[0x1800:0x2000])
    assert rest.end == RAM + END
    assert (p.record.entry, p.record.form) == (RAM + 0x800, "freebsd-elf")


def test_modinfo_chain_byte_by_byte() -> None:
    """Environment, DTB room and modulep follow _end page-aligned; x0 is modulep's VA."""
    p = plan.plan(kernel(), options(env=("a=b", "hw.foo=1 2")))
    env_at, dtb_at, modulep, kernend = (0x306000, 0x307000, 0x317000, 0x318000)
    assert p.record.protocol == "modinfo"
    assert p.record.x0 == KERNBASE + modulep
    assert (p.record.dtb_gpa, p.record.dtb_room) == (RAM + dtb_at, 0x10000)
    written = memory(p)
    assert written[RAM + env_at] == b"a=b\0hw.foo=1 2\0\0"
    assert written[RAM + modulep] == b"".join(
        (
            struct.pack("<II", 1, 7) + b"kernel\0\0",
            struct.pack("<II", 2, 11) + b"elf kernel\0" + bytes(5),
            struct.pack("<II", 3, 8) + u64(KERNBASE),
            struct.pack("<II", 4, 8) + u64(END),
            struct.pack("<II", 0x8007, 4) + struct.pack("<I", 0) + bytes(4),
            struct.pack("<II", 0x8006, 8) + u64(KERNBASE + env_at),
            struct.pack("<II", 0x9002, 8) + u64(KERNBASE + dtb_at),
            struct.pack("<II", 0x8008, 8) + u64(KERNBASE + kernend),
            struct.pack("<II", 0, 0),
        )
    )


def test_an_empty_environment_is_two_nuls() -> None:
    """ENVP always points to something, so that the kernel does not use bootargs."""
    p = plan.plan(kernel(), options())
    assert memory(p)[RAM + 0x306000] == b"\0\0"


def test_a_larger_environment_moves_the_rest() -> None:
    """The order environment, DTB room, modulep holds when the environment takes pages."""
    env = tuple(f"v{n}={'x' * 200}" for n in range(50))
    p = plan.plan(kernel(), options(env=env))
    assert p.record.dtb_gpa == RAM + 0x306000 + 0x3000
    assert p.record.x0 == KERNBASE + 0x306000 + 0x3000 + 0x10000


def test_boot_flags_become_howto() -> None:
    """-a "-sv name=value" sets RB_SINGLE and RB_VERBOSE and adds to the environment."""
    assert freebsd.boot_flags("-s -v x=1") == (0x802, ["x=1"])
    p = plan.plan(kernel(), options(bootargs="-v kern.x=1", env=("a=b",)))
    assert memory(p)[RAM + 0x306000] == b"a=b\0kern.x=1\0\0"
    chain = memory(p)[RAM + 0x317000]
    assert struct.pack("<III", 0x8007, 4, 0x800) in chain
    with pytest.raises(LoadError, match="no boot flag -z"):
        plan.plan(kernel(), options(bootargs="-z"))
    with pytest.raises(LoadError, match="neither a flag"):
        plan.plan(kernel(), options(bootargs="console"))


def test_loader_fdt_passes_the_tree_in_x0() -> None:
    """With loader.fdt=true there is no chain, and x0 is the tree's physical address."""
    p = plan.plan(kernel(), options(fdt=True, bootargs="-v"))
    assert p.record.protocol == "fdt"
    assert p.record.x0 == p.record.dtb_gpa
    assert p.record.dtb_gpa > RAM + END
    assert p.record.bootargs == "FreeBSD: -v"
    assert [x.what for x in p.placements] == ["kernel", "kernel", "device tree"]


@pytest.mark.parametrize("osabi", [0, 9])
def test_recognised_by_its_link_address_or_abi(osabi: int) -> None:
    """KERNBASE or the OS ABI tell a FreeBSD kernel from other ELF files."""
    assert freebsd.matches(kernel(osabi=osabi))
    assert not freebsd.matches(elf([phdr(RAM, 0, 0x100, 0x100)], RAM, osabi=9))
    assert not freebsd.matches(b"\x7fELF")


def test_the_interpreter_tells_too() -> None:
    """A kernel linked elsewhere in the upper half is known by /red/herring."""
    base = 0xFFFF000100000000
    heads = [phdr(base, 0, 0x1800, 0x1800), phdr(0, 0x1000, 13, 13, kind=3, flags=4)]
    assert freebsd.matches(elf(heads, base + 0x800, b"/red/herring\0" + BODY))
    assert not freebsd.matches(elf(heads, base + 0x800, b"/lib/ld.so.1\0" + BODY))


def test_base_is_2_mib_aligned_and_within_one_gib() -> None:
    """An odd RAM base is rounded up, and a 1 GiB line is not crossed."""
    assert plan.plan(kernel(), options(base=RAM + 0x5000)).record.entry == RAM + 0x200800
    near = 0xC0000000 - 4 * MIB
    assert plan.plan(kernel(), options(base=near)).record.entry == 0xC0000800


def test_l_places_it() -> None:
    """-l is the kernel's load address: a multiple of 2 MiB, not across a 1 GiB line."""
    p = plan.plan(kernel(), options(load=RAM + 32 * MIB))
    assert p.record.entry == RAM + 32 * MIB + 0x800
    assert p.record.x0 == KERNBASE + 0x317000
    with pytest.raises(LoadError, match="multiple of 2 MiB"):
        plan.plan(kernel(), options(load=RAM + 0x1000))
    with pytest.raises(LoadError, match="1 GiB line"):
        plan.plan(kernel(), options(base=RAM, size=2048 * MIB, load=0xC0000000 - 2 * MIB))


def test_overlapping_segments_are_refused() -> None:
    """L02: two segments of a FreeBSD kernel may not share an address."""
    heads = [phdr(KERNBASE, 0, 0x1800, 0x1800), phdr(KERNBASE + 0x17FF, 0, 1, 1, flags=6)]
    with pytest.raises(LoadError, match="overlap"):
        plan.plan(elf(heads, KERNBASE + 0x800, BODY), options())


def test_a_given_tree_lies_in_the_chain() -> None:
    """With -t the tree is in the DTB room that DTBP names, and the record says so."""
    from bhyvepy import devtree

    root = devtree.Node("")
    root.add("memory").set("reg", [*devtree.cells(RAM), *devtree.cells(128 * MIB, 1)])
    blob = devtree.write(devtree.Tree(root))
    p = plan.plan(kernel(), options(dtb=blob))
    assert memory(p)[RAM + 0x307000] == blob
    assert p.record.dtb_given
    assert not p.warnings


@pytest.mark.parametrize(
    ("kw", "text"),
    [
        ({"size": 2 * MIB}, "larger -m"),
        ({"size": 4 * MIB - 0x1000, "base": RAM}, ""),
        ({"size": 0x317000}, "boot metadata"),
        ({"initrd": b"x"}, "takes no initrd"),
        ({"env": ("novalue",)}, "name=value"),
        ({"env": ("=b",)}, "name=value"),
        ({"env": ("a=b\0c",)}, "name=value"),
    ],
)
def test_what_does_not_fit_is_refused(kw: dict[str, object], text: str) -> None:
    """Too little memory, an initrd and bad variables are one line each."""
    if not text:
        plan.plan(kernel(), options(**kw))
        return
    with pytest.raises(LoadError, match=text):
        plan.plan(kernel(), options(**kw))
