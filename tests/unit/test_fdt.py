"""Device trees: the strict reader, the writer proven with dtc, and our machine's tree."""

from __future__ import annotations

import dataclasses
import re
import struct
import subprocess
from collections.abc import Callable

import pytest

from bhyvepy import devtree, layout, machdep
from bhyvepy.boot import plan, record
from bhyvepy.boot.record import LoadRecord
from bhyvepy.devices.base import DtContext, DtNode
from bhyvepy.errors import LoadError

from .bootlib import image, options


def dtc(blob: bytes, warnings: bool = False) -> str:
    """The tree as dtc reads it; a warning of dtc is a failure unless asked for."""
    done = subprocess.run(["dtc", "-I", "dtb", "-O", "dts"], input=blob, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert warnings or done.stderr == b""
    return done.stdout.decode()


def compiled(source: str) -> bytes:
    """A blob by dtc."""
    return subprocess.run(
        ["dtc", "-I", "dts", "-O", "dtb"], input=source.encode(), capture_output=True, check=True
    ).stdout


SOURCE = """/dts-v1/;
/memreserve/ 0x1000 0x2000;
/memreserve/ 0x90000000 0x1000;
/ {
    #address-cells = <2>; #size-cells = <2>;
    empty; text = "a", "bc"; bytes = [01 02 03]; cells = <1 0xffffffff>;
    memory@80000000 { device_type = "memory"; reg = <0 0x80000000 0 0x8000000>; };
    soc {
        compatible = "simple-bus"; #address-cells = <1>; #size-cells = <1>;
        ranges = <0x0 0x0 0x4000 0x10000>;
        a@0 { reg = <0x0 0x100>; }; b@2000 { reg = <0x2000 0x200>; };
    };
    chosen { linux,initrd-start = <0x90000000>; linux,initrd-end = <0 0x90001000>; };
};
"""


# -- reading and writing -------------------------------------------------------------


def test_reads_what_dtc_compiles() -> None:
    """Names, values and reservations of a blob by dtc are read as they are."""
    tree = devtree.parse(compiled(SOURCE), "x")
    assert tree.reserved == [(0x1000, 0x2000), (0x90000000, 0x1000)]
    assert tree.root.props["empty"] == b""
    assert tree.root.strings("text") == ["a", "bc"]
    assert tree.root.props["bytes"] == b"\1\2\3"
    assert tree.root.props["cells"] == b"\0\0\0\1\xff\xff\xff\xff"
    assert devtree.memory_ranges(tree) == [(0x80000000, 0x8000000)]
    assert devtree.initrd_range(tree) == (0x90000000, 0x90001000)


def test_writes_what_dtc_reads() -> None:
    """A tree written by us and one compiled by dtc decompile to the same source."""
    blob = compiled(SOURCE)
    assert dtc(devtree.write(devtree.parse(blob, "x")), True) == dtc(blob, True)


def test_a_tree_is_not_mixed_up_with_the_one_before() -> None:
    """Reservations of one tree do not turn up in the next (the fdt package shares them)."""
    first = devtree.parse(compiled(SOURCE), "x")
    devtree.write(first)
    assert devtree.parse(devtree.write(devtree.Tree(devtree.Node(""))), "y").reserved == []


def test_windows_of_devices_are_found_through_buses() -> None:
    """A node's address is translated by its bus's ranges."""
    windows = devtree.device_windows(devtree.parse(compiled(SOURCE), "x"))
    assert windows[0x4000] == "/soc/a@0"
    assert windows[0x6000] == "/soc/b@2000"


GOOD = compiled(SOURCE)


def header(index: int, value: int) -> bytes:
    """GOOD with one word of its header replaced."""
    return GOOD[: 4 * index] + struct.pack(">I", value) + GOOD[4 * index + 4 :]


def patched(old: bytes, new: bytes) -> bytes:
    """GOOD with some bytes replaced by as many others."""
    assert old in GOOD
    assert len(old) == len(new)
    return GOOD.replace(old, new, 1)


def tokens(*words: int | bytes, strings: bytes = b"p\0") -> bytes:
    """A blob around a structure block of our own."""
    body = b"".join(w if isinstance(w, bytes) else struct.pack(">I", w) for w in words)
    head = (0xD00DFEED, 56 + len(body) + len(strings), 56, 56 + len(body), 40, 17, 16, 0)
    sizes = (len(strings), len(body))
    return struct.pack(">10I", *head, *sizes) + bytes(16) + body + strings


ROOT = struct.pack(">II", 1, 0)


@pytest.mark.parametrize(
    ("blob", "text"),
    [
        (b"", "incomplete"),
        (GOOD[:39], "incomplete"),
        (b"/dts-v1/;" + bytes(100), "compile it with dtc"),
        (GOOD[:-1], "truncated"),
        (header(1, 0), "total size of 0"),
        (header(1, 39), "total size of 39"),
        (header(1, 0xFFFFFFFF), "total size of 4294967295"),
        (header(1, len(GOOD) + 1), "truncated"),
        (header(2, 0xFFFFFFF0), "structure block lies outside"),
        (header(2, 57), "misaligned"),
        (header(2, 0), "structure block lies outside"),
        (header(3, 0x7FFFFFFF), "strings block lies outside"),
        (header(4, 41), "misaligned"),
        (header(4, 0xFFFFFFF8), "reservation block lies outside"),
        (header(5, 0), "version 0"),
        (header(5, 15), "version 15"),
        (header(6, 99), "compatible with 99"),
        (header(8, 0xFFFFFFFF), "strings block lies outside"),
        (header(9, 0x7FFFFFFF), "structure block lies outside"),
        (header(9, 8), "does not end"),
        (patched(b"\0\0\0\3\0\0\0\3", b"\0\0\0\3\x80\0\0\0"), "of 2147483648 bytes"),
        (tokens(ROOT, 9), "token 0x9 out of place"),
        (tokens(ROOT, 2), "does not end"),
        (tokens(ROOT, 2, 2, 9), "token 0x2 out of place"),
        (tokens(ROOT, 2, ROOT, 2, 9), "two root nodes"),
        (tokens(ROOT, 7, 2, 9), "token 0x7"),
        (tokens(9), "token 0x9"),
        (tokens(3, 0, 0, ROOT, 2, 9), "token 0x3"),
        (tokens(ROOT, 3, 0, 2, 2, 9), "unterminated property name"),
        (tokens(ROOT, 3, 0, 0, 2, 9, strings=b"p"), "unterminated property name"),
        (tokens(ROOT, 1, b"abcd", strings=b""), "unterminated node name"),
        (tokens(ROOT, 1, b"a\nb\0", 2, 2, 9), "no plain text"),
        (tokens(1, b"abc\0", 2, 9), "root node with a name"),
        (tokens(ROOT, 3, 0, 0, 3, 0, 0, 2, 9), "property p out of place"),
        (tokens(ROOT, 1, b"a\0\0\0", 2, 1, b"a\0\0\0", 2, 2, 9), "two nodes a"),
        (tokens(ROOT, *[struct.pack(">I", 1) + b"n\0\0\0"] * 10000), "deeper than 64"),
    ],
)
def test_l01_bad_blobs(blob: bytes, text: str) -> None:
    """L01: header arithmetic, names, depth and tokens that cannot be: one line each."""
    with pytest.raises(LoadError, match=text) as caught:
        devtree.parse(blob, "bad.dtb")
    assert str(caught.value).startswith("bad.dtb ")
    assert "\n" not in str(caught.value)


def test_a_reservation_block_must_end() -> None:
    """Reservations that run to the end of the blob are refused."""
    blob = bytearray(tokens(ROOT, 2, 9))
    blob[40:56] = b"\1" * 16
    with pytest.raises(LoadError, match="reservation block does not end"):
        devtree.parse(bytes(blob), "x")


def test_any_byte_may_be_anything() -> None:
    """Each byte of a blob set to odd values gives a tree or a LoadError, nothing else."""
    for at in range(len(GOOD)):
        for value in (0, 1, 2, 3, 9, 0x80, 0xFF):
            blob = bytearray(GOOD)
            blob[at] = value
            try:
                tree = devtree.parse(bytes(blob), "x")
            except LoadError:
                continue
            devtree.memory_ranges(tree)
            devtree.device_windows(tree)
            devtree.initrd_range(tree)


def test_every_truncation_is_refused() -> None:
    """No prefix of a blob is a blob."""
    for cut in range(len(GOOD)):
        with pytest.raises(LoadError):
            devtree.parse(GOOD[:cut], "x")


# -- our machine ----------------------------------------------------------------------


def rec(**kw: object) -> LoadRecord:
    """The record of a small kernel."""
    return plan.plan(image(), options(**kw)).record


def uart(ctx: DtContext) -> DtNode:
    return DtNode("serial", ("ns16550a",), {"clock-frequency": 1843200}, "serial")


def virtio(ctx: DtContext) -> DtNode:
    return DtNode("virtio_mmio", ("virtio,mmio",))


def rtc(ctx: DtContext) -> DtNode:
    clock = ctx.fixed_clock(24_000_000)
    return DtNode(
        "rtc", ("arm,pl031", "arm,primecell"), {"clocks": clock, "clock-names": "apb_pclk"}
    )


def at(
    base: int, irq: int | None, describe: Callable[[DtContext], DtNode | None], size: int = 0x200
) -> machdep.Attached:
    return machdep.Attached(base, size, irq, describe)


COM1 = at(0x10000, 37, uart, 0x1000)


def build(
    record_: LoadRecord | None = None,
    cpus: int = 1,
    devices: tuple[machdep.Attached, ...] = (COM1,),
    gic: machdep.Gic | None = None,
) -> devtree.Tree:
    """Our tree, read back; dtc must like it too."""
    blob = machdep.build_fdt(record_ or rec(), cpus, devices, gic=gic or machdep.Gic())
    dtc(blob)
    return devtree.parse(blob, "x")


def node(tree: devtree.Tree, path: str) -> devtree.Node:
    found = tree.root.find(path)
    assert found is not None, path
    return found


def words(value: bytes) -> list[int]:
    return list(struct.unpack(f">{len(value) // 4}I", value))


def test_cpus_are_named_by_mpidr() -> None:
    """reg and unit address of a CPU are its MPIDR affinity, which skips from 15 to 0x100."""
    cpus = node(build(cpus=18), "cpus").children
    assert cpus.pop().name == "l2-cache0"
    assert [c.name for c in cpus[:2] + cpus[15:]] == [
        "cpu@0",
        "cpu@1",
        "cpu@f",
        "cpu@100",
        "cpu@101",
    ]
    assert words(cpus[17].props["reg"]) == [0, 0x101]
    assert cpus[17].strings("enable-method") == ["psci"]
    assert machdep.mpidrs(64)[63] == 0x30F
    blob = machdep.build_fdt(rec(), [0, 0x80000000F], [])
    assert words(node(devtree.parse(blob, "x"), "cpus/cpu@80000000f").props["reg"]) == [8, 0xF]


def test_the_topology_is_a_cpu_map() -> None:
    """Sockets, cores and threads hold each CPU once, in the order of the vCPUs."""
    blob = machdep.build_fdt(rec(), 8, [], topology=(2, 2, 2))
    dtc(blob)
    tree = devtree.parse(blob, "x")
    phandles = [
        words(c.props["phandle"])[0]
        for c in node(tree, "cpus").children
        if c.name.startswith("cpu@")
    ]
    found = [
        words(node(tree, f"cpus/cpu-map/socket{s}/cluster0/core{c}/thread{t}").props["cpu"])[0]
        for s in range(2)
        for c in range(2)
        for t in range(2)
    ]
    assert found == phandles
    tree = devtree.parse(machdep.build_fdt(rec(), 4, [], topology=(2, 2, 1)), "x")
    assert "cpu" in node(tree, "cpus/cpu-map/socket1/cluster0/core1").props
    assert tree.root.find("cpus/cpu-map/socket2") is None
    caches = [words(c.props["next-level-cache"])[0] for c in node(tree, "cpus").children[1:5]]
    assert caches[0] == caches[1] != caches[2] == caches[3]
    assert node(build(cpus=4), "cpus").find("cpu-map") is None


def test_the_conduit_of_psci_is_what_was_asked_for() -> None:
    """HVC unless it is to be SMC."""
    for conduit in ("hvc", "smc"):
        tree = devtree.parse(machdep.build_fdt(rec(), 1, [], conduit=conduit), "x")
        assert node(tree, "psci").strings("method") == [conduit]


def test_the_its_is_below_the_gic() -> None:
    """With an ITS, the GIC has a child that takes messages; without, there is none."""
    gic = node(build(gic=machdep.Gic(its=True)), "interrupt-controller")
    [its] = gic.children
    assert its.name == "msi-controller@2f040000"
    assert its.strings("compatible") == ["arm,gic-v3-its"]
    assert its.props["msi-controller"] == b""
    assert its.cell("#msi-cells", 0) == 1
    assert words(its.props["reg"]) == [0, 0x2F040000, 0, 0x20000]
    assert node(build(), "interrupt-controller").children == []


def test_a_gicv2_has_cpu_interfaces() -> None:
    """With gic.version=2, GICD and GICC instead, and timers with the mask of CPUs."""
    tree = build(cpus=3, gic=machdep.Gic(version=2))
    gic = node(tree, "interrupt-controller")
    assert gic.strings("compatible") == ["arm,cortex-a15-gic", "arm,gic-400"]
    assert words(gic.props["reg"]) == [0, 0x2F000000, 0, 0x1000, 0, 0x2F020000, 0, 0x2000]
    assert words(node(tree, "timer").props["interrupts"])[2::3] == [0x704] * 4


def test_the_gic_has_a_redistributor_for_each_vcpu() -> None:
    """GICD and GICR windows come from the address table; 128 KiB a vCPU."""
    gic = node(build(cpus=3), "interrupt-controller")
    assert words(gic.props["reg"]) == [0, 0x2F000000, 0, 0x10000, 0, 0x2F100000, 0, 0x60000]
    assert gic.strings("compatible") == ["arm,gic-v3"]
    assert words(gic.props["interrupts"]) == [1, 9, 4]
    assert gic.props["interrupt-controller"] == b""
    assert gic.cell("#interrupt-cells", 0) == 3


def test_timers_are_in_the_order_of_the_binding() -> None:
    """PPIs 13, 14, 11, 10: secure, non-secure, virtual, hypervisor; no clock-frequency."""
    timer = node(build(), "timer")
    assert words(timer.props["interrupts"])[1::3] == [13, 14, 11, 10]
    assert set(words(timer.props["interrupts"])[0::3]) == {1}
    assert "clock-frequency" not in timer.props


def test_psci_is_called_with_hvc() -> None:
    """PSCI 1.0 with the HVC conduit, and 0.2 for kernels that know no other."""
    psci = node(build(), "psci")
    assert psci.strings("compatible") == ["arm,psci-1.0", "arm,psci-0.2"]
    assert psci.strings("method") == ["hvc"]


def test_chosen_says_what_was_loaded() -> None:
    """bootargs, initrd, seeds and console are in /chosen."""
    r = rec(bootargs="console=ttyS0", initrd=b"x" * 5000)
    chosen = node(build(r), "chosen")
    assert r.initrd is not None
    assert chosen.strings("bootargs") == ["console=ttyS0"]
    assert words(chosen.props["linux,initrd-start"]) == [0, r.initrd[0]]
    assert words(chosen.props["linux,initrd-end"]) == [0, r.initrd[0] + 5000]
    assert chosen.props["kaslr-seed"] == r.seeds.kaslr.to_bytes(8, "big")
    assert chosen.props["rng-seed"] == r.seeds.rng
    assert chosen.strings("stdout-path") == ["/serial@10000:115200n8"]


def test_the_same_seed_gives_the_same_tree() -> None:
    """With fdt.seed=N two builds are equal, byte by byte; fresh seeds differ."""
    one = machdep.build_fdt(rec(), 2, [COM1])
    assert one == machdep.build_fdt(rec(), 2, [COM1])
    other = dataclasses.replace(rec(), seeds=record.make_seeds(None))
    assert one != machdep.build_fdt(other, 2, [COM1])


def test_no_uart_no_stdout() -> None:
    """Without a UART there is no stdout-path and no alias; without bootargs no bootargs."""
    tree = build(devices=())
    assert "stdout-path" not in node(tree, "chosen").props
    assert "bootargs" not in node(tree, "chosen").props
    assert tree.root.find("aliases") is None


def test_the_console_is_what_is_at_com1() -> None:
    """Serial ports are numbered by address; the one in com1's place is the console."""
    tree = build(devices=(at(0x12000, 38, uart), COM1, at(0x5000, 42, uart)))
    aliases = node(tree, "aliases")
    assert [aliases.strings(f"serial{n}")[0] for n in range(3)] == [
        "/serial@5000",
        "/serial@10000",
        "/serial@12000",
    ]
    assert node(tree, "chosen").strings("stdout-path") == ["/serial@10000:115200n8"]


def test_devices_have_reg_and_level_interrupts() -> None:
    """A device's window and SPI come from where it is attached; no line, no property."""
    tree = build(devices=(at(0x7000, 44, virtio), at(0x4000, None, virtio), COM1))
    blk = node(tree, "virtio_mmio@7000")
    assert words(blk.props["reg"]) == [0, 0x7000, 0, 0x200]
    assert words(blk.props["interrupts"]) == [0, 12, 4]
    assert "interrupts" not in node(tree, "virtio_mmio@4000").props


def test_a_device_without_a_node_is_left_out() -> None:
    """describe() may return None."""
    tree = build(devices=(at(0x90000, None, lambda ctx: None), COM1))
    assert not any("90000" in child.name for child in tree.root.children)


def test_clocks_are_shared() -> None:
    """Two devices that want the same rate refer to one clock node."""
    tree = build(devices=(at(0x11000, 33, rtc), at(0x15000, 34, rtc)))
    clocks = [c for c in tree.root.children if c.name.startswith("clock")]
    assert len(clocks) == 1
    for name in ("rtc@11000", "rtc@15000"):
        assert node(tree, name).props["clocks"] == clocks[0].props["phandle"]


def test_memory_is_split_by_holes() -> None:
    """With a low base the memory node lists what is between the fixed windows."""
    r = rec(base=0x20000000, size=1 << 30)
    assert devtree.memory_ranges(build(r)) == layout.ram_ranges(0x20000000, 1 << 30)
    assert len(layout.ram_ranges(0x20000000, 1 << 30)) == 2


def test_a_tree_that_outgrows_its_room_is_refused() -> None:
    """More nodes than fit into the room are one line."""
    many = [at(0x100000 + 0x1000 * n, None, virtio) for n in range(900)]
    with pytest.raises(LoadError, match=re.escape("its room 65536")):
        machdep.build_fdt(rec(), 1, many)
    assert len(machdep.build_fdt(rec(), 64, many[:32])) < 0x10000


def test_devices_missing_from_a_given_tree_are_named() -> None:
    """With -t each device that the tree does not mention is one warning."""
    devices = [at(0x4000, 40, virtio), at(0x7000, 44, virtio), at(0x90000, None, lambda c: None)]
    lines = machdep.missing_nodes(GOOD, devices)
    assert len(lines) == 1
    assert "virtio_mmio at 0x7000" in lines[0]
