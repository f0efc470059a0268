"""Hostile files for the loader: a plan inside of RAM, or one line; nothing else, and soon."""

from __future__ import annotations

import gzip
import itertools
import random
from types import ModuleType

import pytest

from bhyvepy import config, devtree
from bhyvepy.boot import plan, record
from bhyvepy.devices import slots
from bhyvepy.errors import BhyveError

from .conftest import Campaign, mutate

pytestmark = [pytest.mark.long, pytest.mark.fuzz, pytest.mark.timeout(3600)]

MIB = 1 << 20


def _kernels(forms: ModuleType) -> list[bytes]:
    ram, high = forms.RAM, 0xFFFF << 48
    body = bytes(range(256)) * 16
    elf = forms.elf([forms.phdr(ram, 0x1000, 0x800, 0x2000)], ram + 16, body)
    bsd = forms.elf(
        [
            forms.phdr(high, 0x1000, 0x800, 0x800),
            forms.phdr(high + 0x200000, 0x1800, 0x800, 0x4000, flags=6),
        ],
        high + 64,
        body,
        osabi=9,
    )
    efi = forms.efi_image([(b".text", 0x1000, 0x1000), (b".data", 0x2000, 0x200)], 0x2200)
    image = forms.image(body=body)
    return [image, efi, elf, bsd, gzip.compress(image, 1), gzip.compress(efi, 1)]


def _one_line(err: BhyveError, what: object = None) -> None:
    assert "\n" not in str(err), what


def _inside(what: plan.LoadPlan) -> None:
    for piece in what.placements:
        assert len(piece.data) <= piece.size
        assert any(lo <= piece.gpa and piece.end <= lo + size for lo, size in what.ram)
    ends = sorted((p.gpa, p.end) for p in what.placements if p.size)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ends))


def test_kernels(forms: ModuleType, campaign: Campaign) -> None:
    """A damaged kernel of any form is placed inside of RAM without overlap, or refused."""
    kernels = _kernels(forms)
    for rng in campaign():
        data = mutate(rng, rng.choice(kernels))
        opts = forms.options(
            kernel="kernel",
            size=rng.choice((2, 16, 128, 1024)) * MIB,
            base=rng.choice((0x80000000, 0, 0x40000000, 0xFFE00000)),
            load=rng.choice((None, None, 0x80200000, 0x80000001)),
            initrd=rng.choice((None, bytes(5000))),
            fdt=rng.random() < 0.5,
        )
        try:
            what = plan.plan(data, opts)
        except BhyveError as err:
            _one_line(err)
        else:
            _inside(what)


def test_device_trees(forms: ModuleType, campaign: Campaign) -> None:
    """A damaged blob is a tree that can be asked everything, or one line."""
    root = devtree.Node("")
    root.set("#address-cells", 2)
    root.set("#size-cells", 2)
    chosen = root.add("chosen")
    chosen.set("linux,initrd-start", devtree.cells(0x88000000))
    chosen.set("linux,initrd-end", devtree.cells(0x88100000))
    memory = root.add("memory@80000000")
    memory.set("device_type", "memory")
    memory.set("reg", [*devtree.cells(0x80000000), *devtree.cells(128 * MIB)])
    root.add("serial@10000").set("reg", [*devtree.cells(0x10000), *devtree.cells(0x100)])
    blob = devtree.write(devtree.Tree(root))
    kernel = forms.image(body=bytes(4096))
    for rng in campaign():
        bad = mutate(rng, blob)
        try:
            tree = devtree.parse(bad, "tree")
            devtree.memory_warnings(tree, [(0x80000000, 128 * MIB)])
            devtree.initrd_range(tree)
            devtree.device_windows(tree)
            _inside(plan.plan(kernel, forms.options(dtb=bad, initrd=bytes(64))))
        except BhyveError as err:
            _one_line(err)


def test_load_records(forms: ModuleType, campaign: Campaign) -> None:
    """A damaged record in the control file is refused, or says what it said."""
    good = plan.plan(forms.image(body=bytes(64)), forms.options(bootargs="a=b")).record.dump()
    for rng in campaign():
        try:
            rec = record.parse(mutate(rng, good))
        except BhyveError as err:
            _one_line(err)
        else:
            rec.dump()


def _word(rng: random.Random, words: tuple[str, ...]) -> str:
    picked = [rng.choice(words) for _ in range(rng.randrange(1, 8))]
    if rng.random() < 0.3:
        picked.insert(rng.randrange(len(picked)), chr(rng.choice((0, 9, 10, 127, 0x660, 0x2028))))
    return "".join(picked)


def test_options(campaign: Campaign) -> None:
    """Any text behind -s, -m, -c, -p, -o and -l is taken or is one line."""
    words = ("0", "31", "3:1", ",", ":", "#", "@", "=", "-1", "0x200", "7000", "virtio-blk")
    words += (
        "virtio-rnd",
        "ro",
        "path",
        "hostbridge",
        "G",
        "M",
        "cpus",
        "9" * 30,
        " ",
        "%(a)",
        "e",
    )
    for rng in campaign():
        text = _word(rng, words)
        for parse in (
            slots.parse,
            config.parse_size,
            config.parse_cpus,
            config.parse_cpuset,
            config.parse_number,
            config.parse_address,
            config.Config().parse,
        ):
            try:
                parse(text)
            except BhyveError as err:
                _one_line(err, parse)
