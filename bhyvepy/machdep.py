"""The device tree of our machine (docs/architecture.md, "The machine").

Responsible for describing to the guest what the address table says and what devices
the VM has: CPUs by MPIDR, GICv3, generic timer, PSCI, memory with its holes, /chosen,
and a node for each device that has one. Not responsible for addresses (layout.py), for
the blob format (devtree.py), or for which devices there are (bhyverun.py).

Shape: docs/reference/bhyve.md 1.10, without its quirks (reg of a CPU is its MPIDR
affinity, stdout-path only with a UART).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bhyvepy import devtree, layout
from bhyvepy.boot.record import LoadRecord
from bhyvepy.devices.base import DtContext, DtNode
from bhyvepy.devtree import Node, Tree, cells
from bhyvepy.errors import LoadError

# Interrupt specifiers: Linux Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.
_SPI, _PPI = 0, 1
_LEVEL_HIGH = 4

_PHANDLE_GIC = 1
_PHANDLE_CPU = 0x100  # of vCPU 0; clocks have the numbers in between
_PHANDLE_CACHE = 0x200  # of socket 0
_PHANDLE_ITS = 2
GICV2_CPUS = 8

# The order that the binding asks for: secure, non-secure, virtual, hypervisor.
_TIMERS = (
    layout.INTID_TIMER_SECURE,
    layout.INTID_TIMER_PHYS,
    layout.INTID_TIMER_VIRT,
    layout.INTID_TIMER_HYP,
)


@dataclass(frozen=True, slots=True)
class Attached:
    """A device in its place; `describe` is its dt_node()."""

    base: int
    size: int
    irq: int | None
    describe: Callable[[DtContext], DtNode | None]
    always: bool = False  # part of every machine: an old tree need not know it


@dataclass(frozen=True, slots=True)
class Gic:
    """Which interrupt controller the machine has."""

    version: int = 3
    its: bool = False


def affinity(vcpu: int) -> int:
    """The affinity fields of a vCPU's MPIDR: 16 to a cluster, as SGIs without range select."""
    aff0, aff1, aff2 = vcpu & 0xF, vcpu >> 4 & 0xFF, vcpu >> 12 & 0xFF
    return aff2 << 16 | aff1 << 8 | aff0


def mpidrs(ncpu: int) -> list[int]:
    """The affinities of vCPUs 0 to ncpu - 1."""
    return [affinity(vcpu) for vcpu in range(ncpu)]


def interrupt(intid: int) -> list[int]:
    """An INTID as a GICv3 specifier, active high level."""
    if intid < layout.SPI_BASE:
        return [_PPI, intid - layout.PPI_BASE, _LEVEL_HIGH]
    return [_SPI, intid - layout.SPI_BASE, _LEVEL_HIGH]


def _plain(parent: Node, told: DtNode) -> None:
    """A node without an address, and those in it."""
    node = parent.add(told.name)
    if told.compatible:
        node.set("compatible", list(told.compatible))
    for name, value in told.props.items():
        node.set(name, value)
    for child in told.children:
        _plain(node, child)


class _Context:
    """What devices may refer to: fixed clocks, made when first asked for."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._clocks: dict[int, int] = {}
        self._next = _PHANDLE_ITS + 1

    def fixed_clock(self, hz: int) -> int:
        """Phandle of a fixed clock of that rate."""
        if hz not in self._clocks:
            node = self._root.add(f"clock-{hz}")
            node.set("compatible", "fixed-clock")
            node.set("#clock-cells", 0)
            node.set("clock-frequency", hz)
            node.set("clock-output-names", f"clk{hz}")
            node.set("phandle", self._next)
            self._clocks[hz] = self.phandle()
        return self._clocks[hz]

    def phandle(self) -> int:
        """A number for a node that others refer to."""
        self._next += 1
        return self._next - 1

    def beside(self, node: DtNode) -> None:
        """A node without a place, in the root."""
        _plain(self._root, node)


def build_fdt(
    rec: LoadRecord,
    cpus: int | Sequence[int],
    devices: Iterable[Attached],
    *,
    topology: tuple[int, int, int] | None = None,
    conduit: str = "hvc",
    gic: Gic = Gic(),
    pmu: bool = False,
) -> bytes:
    """The tree for a load record, vCPUs (how many, or their MPIDR affinities) and devices.

    topology: sockets, cores of each, threads of each; None: nothing is said of it.
    conduit: how PSCI is called.
    pmu: the CPUs have performance monitors.
    """
    affinities = mpidrs(cpus) if isinstance(cpus, int) else list(cpus)
    root = Node("")
    root.set("compatible", ["freebsd,bhyve", "linux,dummy-virt"])
    root.set("model", "bhyvepy")
    root.set("#address-cells", 2)
    root.set("#size-cells", 2)
    root.set("interrupt-parent", _PHANDLE_GIC)

    chosen = root.add("chosen")
    aliases = root.add("aliases")
    _memory(root, rec)
    _cpus(root, affinities, topology)
    _psci(root, conduit)
    if gic.version == 2:
        _gic_v2(root)
    else:
        _gic(root, len(affinities), gic.its)
    _timer(root, (1 << len(affinities)) - 1 << 8 if gic.version == 2 else 0)
    if pmu:
        _pmu(root, (1 << len(affinities)) - 1 << 8 if gic.version == 2 else 0)
    stdout = _devices(root, aliases, devices)
    _chosen(chosen, rec, stdout)
    if not aliases.props:
        root.children.remove(aliases)

    blob = devtree.write(Tree(root))
    if len(blob) > rec.dtb_room:
        raise LoadError(
            f"the device tree has {len(blob)} bytes and its room {rec.dtb_room}: use fewer devices"
        )
    return blob


def _chosen(node: Node, rec: LoadRecord, stdout: str) -> None:
    if stdout:
        node.set("stdout-path", f"{stdout}:115200n8")
    if rec.bootargs:
        node.set("bootargs", rec.bootargs)
    if rec.initrd:
        node.set("linux,initrd-start", cells(rec.initrd[0]))
        node.set("linux,initrd-end", cells(rec.initrd[1]))
    node.set("kaslr-seed", cells(rec.seeds.kaslr))
    node.set("rng-seed", rec.seeds.rng)


def _memory(root: Node, rec: LoadRecord) -> None:
    ranges = layout.ram_ranges(rec.memory_base, rec.memory_size)
    node = root.add(f"memory@{ranges[0][0]:x}")
    node.set("device_type", "memory")
    node.set("reg", [cell for lo, size in ranges for cell in (*cells(lo), *cells(size))])


def _cpus(root: Node, affinities: list[int], topology: tuple[int, int, int] | None) -> None:
    cpus = root.add("cpus")
    cpus.set("#address-cells", 2)
    cpus.set("#size-cells", 0)
    per_socket = len(affinities)
    if topology is not None:
        _cpu_map(cpus.add("cpu-map"), *topology)
        per_socket //= topology[0]
    for n, aff in enumerate(affinities):
        cpu = cpus.add(f"cpu@{aff:x}")
        cpu.set("device_type", "cpu")
        cpu.set("compatible", "arm,armv8")
        cpu.set("reg", cells(aff))
        cpu.set("enable-method", "psci")
        cpu.set("phandle", _PHANDLE_CPU + n)
        cpu.set("next-level-cache", _PHANDLE_CACHE + n // per_socket)
    # The second level that CLIDR_EL1 tells of: without a word about who shares it Linux
    # takes it for a core's own, and threads for broken.
    for n in range(len(affinities) // per_socket):
        cache = cpus.add(f"l2-cache{n}")
        cache.set("compatible", "cache")
        cache.set("cache-level", 2)
        cache.set("cache-unified", True)
        cache.set("phandle", _PHANDLE_CACHE + n)


def _cpu_map(node: Node, sockets: int, cores: int, threads: int) -> None:
    """Devicetree binding cpu/cpu-topology.txt; vCPUs are numbered threads first."""
    n = _PHANDLE_CPU
    for s in range(sockets):
        cluster = node.add(f"socket{s}").add("cluster0")
        for c in range(cores):
            core = cluster.add(f"core{c}")
            for t in range(threads):
                place = core if threads == 1 else core.add(f"thread{t}")
                place.set("cpu", n)
                n += 1


def _psci(root: Node, conduit: str) -> None:
    node = root.add("psci")
    node.set("compatible", ["arm,psci-1.0", "arm,psci-0.2"])
    node.set("method", conduit)


def _gic(root: Node, ncpu: int, its: bool) -> None:
    dist, redist = layout.GICD, layout.gicr(ncpu)
    node = root.add(f"interrupt-controller@{dist.base:x}")
    node.set("compatible", "arm,gic-v3")
    node.set("interrupt-controller", True)
    node.set("#interrupt-cells", 3)
    node.set("#address-cells", 2)
    node.set("#size-cells", 2)
    node.set("ranges", True)
    node.set("#redistributor-regions", 1)
    reg = [number for w in (dist, redist) for number in (*cells(w.base), *cells(w.size))]
    node.set("reg", reg)
    node.set("interrupts", interrupt(layout.INTID_MAINT))
    node.set("phandle", _PHANDLE_GIC)
    if its:
        child = node.add(f"msi-controller@{layout.ITS.base:x}")
        child.set("compatible", "arm,gic-v3-its")
        child.set("msi-controller", True)
        child.set("#msi-cells", 1)
        child.set("reg", [*cells(layout.ITS.base), *cells(layout.ITS.size)])
        child.set("phandle", _PHANDLE_ITS)


def _gic_v2(root: Node) -> None:
    dist, cpuif = layout.GICD, layout.GICC
    node = root.add(f"interrupt-controller@{dist.base:x}")
    node.set("compatible", ["arm,cortex-a15-gic", "arm,gic-400"])
    node.set("interrupt-controller", True)
    node.set("#interrupt-cells", 3)
    node.set("#address-cells", 2)
    node.set("#size-cells", 2)
    node.set("ranges", True)
    # Of the windows, what a GICv2 fills.
    reg = [*cells(dist.base), *cells(0x1000), *cells(cpuif.base), *cells(0x2000)]
    node.set("reg", reg)
    node.set("phandle", _PHANDLE_GIC)


def _timer(root: Node, cpu_mask: int) -> None:
    node = root.add("timer")
    node.set("compatible", "arm,armv8-timer")
    specs = [interrupt(intid) for intid in _TIMERS]
    node.set("interrupts", [cell for a, b, c in specs for cell in (a, b, c | cpu_mask)])
    node.set("always-on", True)


def _pmu(root: Node, cpu_mask: int) -> None:
    node = root.add("pmu")
    node.set("compatible", "arm,armv8-pmuv3")
    kind, number, flags = interrupt(layout.INTID_PMU)
    node.set("interrupts", [kind, number, flags | cpu_mask])


def _devices(root: Node, aliases: Node, devices: Iterable[Attached]) -> str:
    """A node for each device; returns the path of the console UART, or ""."""
    context = _Context(root)
    serials: list[tuple[int, str]] = []
    counts: dict[str, int] = {}
    for device in sorted(devices, key=lambda d: d.base):
        told = device.describe(context)
        if told is None:
            continue
        node = root.add(f"{told.name}@{device.base:x}")
        node.set("compatible", list(told.compatible))
        node.set("reg", [*cells(device.base), *cells(device.size)])
        if device.irq is not None:
            node.set("interrupts", interrupt(device.irq))
        for name, value in told.props.items():
            node.set(name, value)
        for child in told.children:
            _plain(node, child)
        if told.alias:
            number = counts.get(told.alias, 0)
            counts[told.alias] = number + 1
            aliases.set(f"{told.alias}{number}", f"/{node.name}")
            if told.alias == "serial":
                serials.append((device.base, f"/{node.name}"))
    # com1's place is the console, whatever UART is there; else the first UART.
    for base, path in serials:
        if base == layout.COM1.base:
            return path
    return serials[0][1] if serials else ""


def missing_nodes(blob: bytes, devices: Iterable[Attached]) -> list[str]:
    """With -t: a line for each device that the given tree does not mention."""
    windows = devtree.device_windows(devtree.parse(blob, "the device tree"))
    lines = []
    for device in devices:
        told = None if device.always else device.describe(_Context(Node("")))
        if told is not None and device.base not in windows:
            lines.append(
                f"the device tree has no node for {told.name} at {device.base:#x}: "
                "the guest will not find it"
            )
    return lines
