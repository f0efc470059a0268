"""Plans, the load record, and the files a load reads."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest

from bhyvepy import devtree, layout
from bhyvepy.boot import plan, record, source
from bhyvepy.errors import LoadError

from .bootlib import MIB, RAM, image, memory, options

KERNEL = image(image_size=4 * MIB, body=b"kernel")
INITRD = b"initrd" * 1000


def tree(*, memory_size: int = 128 * MIB, initrd: tuple[int, int] | None = None) -> bytes:
    """A user's tree."""
    root = devtree.Node("")
    root.set("#address-cells", 2)
    root.set("#size-cells", 2)
    root.add("memory@80000000").set("reg", [0, RAM, 0, memory_size])
    if initrd:
        chosen = root.add("chosen")
        chosen.set("linux,initrd-start", devtree.cells(initrd[0]))
        chosen.set("linux,initrd-end", devtree.cells(initrd[1]))
    return devtree.write(devtree.Tree(root))


def refused(text: str, data: bytes = KERNEL, **kw: object) -> None:
    """The plan fails in one line."""
    with pytest.raises(LoadError, match=text) as caught:
        plan.plan(data, options(**kw))
    assert "\n" not in str(caught.value)


def test_nothing_overlaps_and_all_is_in_ram() -> None:
    """Kernel, tree and initrd lie in RAM, apart from each other and in this order."""
    p = plan.plan(KERNEL, options(initrd=INITRD, bootargs="console=ttyS0"))
    spans = [(x.gpa, x.end) for x in p.placements]
    assert spans == sorted(spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert spans[0][0] >= RAM
    assert spans[-1][1] <= RAM + 128 * MIB
    assert p.record.initrd == (p.placements[2].gpa, p.placements[2].gpa + len(INITRD))
    assert p.record.initrd[0] % 4096 == 0


def test_the_tree_has_64_kib_that_do_not_cross_2_mib() -> None:
    """The DTB room is 64 KiB in one 2 MiB block and well clear of the kernel's end."""
    for size in range(MIB, 5 * MIB, MIB // 3):
        rec = plan.plan(image(image_size=size), options()).record
        assert rec.dtb_room == 0x10000
        assert rec.dtb_gpa // (2 * MIB) == (rec.dtb_gpa + 0xFFFF) // (2 * MIB)
        assert rec.dtb_gpa >= RAM + size + 2 * MIB


def test_room_below_the_kernel_is_used_when_there_is_none_above() -> None:
    """A kernel at the top of RAM leaves tree and initrd below it."""
    p = plan.plan(KERNEL, options(load=RAM + 124 * MIB, initrd=INITRD))
    assert p.record.dtb_gpa < p.record.entry
    assert p.record.initrd is not None
    assert p.record.initrd[1] <= p.record.entry


def test_a_low_base_has_holes() -> None:
    """RAM below 0x80000000 goes around the fixed windows, and so does all that is placed."""
    p = plan.plan(KERNEL, options(base=0, size=1024 * MIB, initrd=bytes(800 * MIB // 4096)))
    holes = layout.FIXED_WINDOWS
    assert p.ram[0][0] == 2 * MIB
    assert sum(length for _, length in p.ram) == 1024 * MIB
    for lo, length in p.ram:
        assert not any(hole.overlaps(lo, length) for hole in holes)
    assert p.record.entry == 2 * MIB
    assert p.record.memory_base == 0


def test_an_initrd_that_fits_only_behind_a_hole() -> None:
    """A large piece goes to a RAM range that holds it."""
    p = plan.plan(KERNEL, options(base=0x2E000000, size=128 * MIB, initrd=bytes(32 * MIB)))
    assert p.record.entry == 0x2E000000
    assert p.record.initrd is not None
    assert p.record.initrd[0] >= 0x30000000


def test_place_writes_in_steps_and_tells() -> None:
    """place() writes all data, in pieces of at most 1 MiB, and reports progress."""
    p = plan.plan(KERNEL, options(initrd=os.urandom(3 * MIB + 5)))
    ram = bytearray(128 * MIB)
    steps: list[int] = []

    def write(gpa: int, data: memoryview) -> None:
        assert len(data) <= MIB
        ram[gpa - RAM : gpa - RAM + len(data)] = data

    plan.place(p, write, steps.append)
    for piece in p.placements:
        at = piece.gpa - RAM
        assert ram[at : at + len(piece.data)] == piece.data
    assert steps == sorted(steps)
    assert steps[-1] == p.total


@pytest.mark.parametrize(
    ("kw", "text"),
    [
        ({"size": 0}, "change -m"),
        ({"size": -4096}, "change -m"),
        ({"size": 4097}, "change -m"),
        ({"size": 1 << 40}, "smaller -m"),
        ({"size": MIB}, "larger -m"),
        ({"base": 0x80000001}, "-b 0x80000001"),
        ({"base": 1 << 40}, "-b 0x10000000000"),
        ({"base": (1 << 40) - 4096}, "smaller -m"),
        ({"load": -4}, "-l"),
        ({"initrd": b""}, "initrd is empty"),
        ({"initrd": bytes(125 * MIB)}, "initrd .* larger -m"),
        ({"bootargs": "x" * 2048}, "2048 bytes"),
        ({"bootargs": "a\nb"}, "line ends"),
        ({"bootargs": "a\0b"}, "line ends"),
        ({"env": ("a=b",)}, "FreeBSD"),
    ],
)
def test_bad_options(kw: dict[str, object], text: str) -> None:
    """Sizes, addresses and arguments that cannot be: one line that names the option."""
    refused(text, **kw)


# -- a given tree ------------------------------------------------------------------


def test_a_given_tree_is_placed_as_it_is() -> None:
    """-t puts the user's bytes into the room and the record says not to touch them."""
    blob = tree()
    p = plan.plan(KERNEL, options(dtb=blob))
    assert memory(p)[p.record.dtb_gpa] == blob
    assert p.record.dtb_given
    assert p.warnings == []


def test_a_given_tree_and_options_that_would_edit_it() -> None:
    """-a and -i need a place in the tree; what the tree says is used."""
    refused("-t takes the tree as it is", dtb=tree(), bootargs="quiet")
    refused("linux,initrd-start", dtb=tree(), initrd=INITRD)
    at = RAM + 64 * MIB
    p = plan.plan(KERNEL, options(dtb=tree(initrd=(at, at + MIB)), initrd=INITRD))
    assert p.record.initrd == (at, at + len(INITRD))
    refused("linux,initrd-end", dtb=tree(initrd=(at, at + 10)), initrd=INITRD)
    refused("does not lie in RAM", dtb=tree(initrd=(4096, 4096 + MIB)), initrd=INITRD)
    refused("overlaps the kernel", dtb=tree(initrd=(RAM, RAM + MIB)), initrd=INITRD)


def test_memory_that_the_vm_has_not_is_a_warning() -> None:
    """A given tree with more memory than -m is loaded with a warning."""
    p = plan.plan(KERNEL, options(dtb=tree(memory_size=256 * MIB)))
    assert len(p.warnings) == 1
    assert "0x80000000 to 0x90000000" in p.warnings[0]


# -- the record --------------------------------------------------------------------


def test_the_record_survives_a_round_trip() -> None:
    """What dump() writes, parse() reads."""
    rec = plan.plan(KERNEL, options(initrd=INITRD, bootargs='a="ü" \\')).record
    assert record.parse(rec.dump()) == rec


def test_seeds_repeat_with_a_number_only() -> None:
    """fdt.seed=N gives the same seeds each time; none gives new ones."""
    assert record.make_seeds(5) == record.make_seeds(5) != record.make_seeds(6)
    assert record.make_seeds(None) != record.make_seeds(None)
    assert len(record.make_seeds(-1).rng) == 64
    assert 0 < record.make_seeds(0).kaslr < 1 << 64


def changed(**kw: object) -> bytes:
    """A record with some fields replaced."""
    data = json.loads(plan.plan(KERNEL, options()).record.dump())
    data.update(kw)
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100000,
        b'{"magic": "bhyvepy-load-record"}',
        b" " * 300000,
        changed(magic="other"),
        changed(version=2),
        changed(version="1"),
        changed(entry=-1),
        changed(entry=1 << 40),
        changed(entry=True),
        changed(entry=1.5),
        changed(entry="0"),
        changed(x0=1 << 64),
        changed(protocol="bios"),
        changed(memory=None),
        changed(memory={"base": 0, "size": 0}),
        changed(memory={"base": 1 << 39, "size": (1 << 39) + 1}),
        changed(dtb={"gpa": 4, "room": 0, "given": False}),
        changed(dtb={"gpa": 8, "room": (1 << 40) - 1, "given": False}),
        changed(dtb={"gpa": 8, "room": 8, "given": 0}),
        changed(seeds={"kaslr": 0, "rng": "xyz"}),
        changed(seeds={"kaslr": 0, "rng": "00" * 5000}),
        changed(env=[1]),
        changed(env="a=b"),
        changed(env=["a=\0"]),
        changed(bootargs=None),
        changed(bootargs="a\0"),
        changed(initrd=[1]),
        changed(initrd=[2, 1]),
        changed(initrd=[0, 1 << 41]),
    ],
)
def test_a_damaged_record_is_one_line(raw: bytes) -> None:
    """A record that is not as written fails closed, with the remedy."""
    with pytest.raises(LoadError, match="load it again") as caught:
        record.parse(raw)
    assert "\n" not in str(caught.value)


def test_every_truncation_of_a_record_is_refused() -> None:
    """No prefix of a record is a record."""
    raw = plan.plan(KERNEL, options()).record.dump()
    for cut in range(len(raw)):
        with pytest.raises(LoadError):
            record.parse(raw[:cut])


def test_a_record_too_long_for_the_vm_is_refused() -> None:
    """The environment may not outgrow the record."""
    env = tuple(f"a{n}={'x' * 1000}" for n in range(300))
    refused("fewer or shorter -e", image(body=b"The FreeBSD Project"), env=env)


# -- files -------------------------------------------------------------------------


def test_read_returns_the_bytes(tmp_path: Path) -> None:
    """A regular file within the limit is read whole."""
    path = tmp_path / "k"
    path.write_bytes(b"abc")
    assert source.read(str(path), "kernel", 3) == b"abc"


def test_l03_files_that_are_refused(tmp_path: Path) -> None:
    """L03: missing, empty, a directory, a FIFO, a device, huge and sparse, unreadable names."""
    empty = tmp_path / "empty"
    empty.touch()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 43)
    for path, text in (
        (tmp_path / "none", "no such file"),
        (empty, "is empty"),
        (tmp_path, "is a directory"),
        (fifo, "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (sparse, "8 TiB and memory has 1 MiB: use a larger -m"),
    ):
        with pytest.raises(LoadError, match=text) as caught:
            source.read(str(path), "kernel", MIB)
        assert "\n" not in str(caught.value)
    with pytest.raises(LoadError, match="NUL"):
        source.read("a\0b", "kernel", MIB)
    with pytest.raises(LoadError, match="at most 2 MiB"):
        source.read(str(sparse), "device tree", source.MAX_DTB)
