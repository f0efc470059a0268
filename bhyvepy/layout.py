"""The machine's address table: every guest physical address and interrupt.

One row for each window (docs/architecture.md, "The machine"). Device models,
the device tree and the runner take their numbers from here and from nowhere
else. Not here: which devices a VM has (bhyverun.py), and how the device tree
describes them (machdep.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
PAGE_SIZE = 4 * KIB

# Guest physical space: VTCR_EL2.T0SZ = 24, ID_AA64MMFR0_EL1.PARange = 2.
IPA_BITS = 40
IPA_LIMIT = 1 << IPA_BITS


@dataclass(frozen=True, slots=True)
class Window:
    """A range of guest physical addresses, and the INTID that goes with it."""

    name: str
    base: int
    size: int
    intid: int | None = None

    @property
    def end(self) -> int:
        """First address behind the window."""
        return self.base + self.size

    def overlaps(self, base: int, size: int) -> bool:
        """Whether [base, base + size) touches the window."""
        return base < self.end and self.base < base + size


# -- interrupts (INTID) -----------------------------------------------------------
SPI_BASE = 32
SPI_LIMIT = 1020
PPI_BASE = 16

INTID_TIMER_SECURE = 29
INTID_TIMER_PHYS = 30
INTID_TIMER_VIRT = 27
INTID_TIMER_HYP = 26
INTID_PMU = 23
INTID_PMU = 23
INTID_MAINT = 25
INTID_PCI_INTX = (84, 85, 86, 87)
# SPIs raised by writes to the MSI doorbell (GICD_SETSPI_NSR).
INTID_MSI_FIRST = 256
INTID_MSI_COUNT = 64
# Where "#-1" takes its interrupt from, when the device tree is ours.
INTID_AUTO = range(88, INTID_MSI_FIRST)

TIMER_HZ = 100_000_000
UART_HZ = 1_843_200

# -- windows ----------------------------------------------------------------------
# Devices of the form -s size@addr#irq:..., as given by the user.
USER_DEVICES = Window("user devices", 0x4000, 0x4000)

COM1 = Window("com1", 0x10000, 0x1000, 37)
RTC = Window("rtc", 0x11000, 0x1000, 33)
COM2 = Window("com2", 0x12000, 0x1000, 38)
COM3 = Window("com3", 0x13000, 0x1000, 39)
COM4 = Window("com4", 0x14000, 0x1000, 40)
GPIO = Window("gpio", 0x15000, 0x1000, 41)
COMS = (COM1, COM2, COM3, COM4)

BVMCONS = Window("bvmconsole", 0x90000, 4)

VIRTIO_SLOTS = 32
VIRTIO_SLOT_SIZE = 0x200
VIRTIO_BASE = 0xA0000
VIRTIO_INTID = 48

GICD = Window("gicd", 0x2F000000, 0x10000)
GICC = Window("gicc", 0x2F020000, 0x10000)
ITS = Window("its", 0x2F040000, 0x20000)
GICR_BASE = 0x2F100000
GICR_STRIDE = 0x20000
# Structures of stolen time, 64 bytes a vCPU, in RAM that is not in /memory.
STOLEN_TIME = Window("stolen time", 0x2FA00000, 0x10000)
MSI_DOORBELL = GICD.base + 0x40

PCI_ECAM = Window("pci ecam", 0x30000000, 0x10000000)
PCI_MEM32 = Window("pci mem32", 0x40000000, 0x3F000000)
PCI_IO = Window("pci io", 0x7F000000, 0x01000000)

RAM_BASE = 0x80000000
# Below this, reads of nothing give all ones; above, an external abort.
HOLE_LIMIT = 0x1_0000_0000

# What a load record leaves for the device tree.
DTB_ROOM = 64 * KIB


def virtio_slot(slot: int) -> Window:
    """The virtio-mmio window of ``-s slot,virtio-...``."""
    if not 0 <= slot < VIRTIO_SLOTS:
        raise ValueError(f"slot {slot} is not in 0 to {VIRTIO_SLOTS - 1}")
    return Window(
        f"virtio slot {slot}",
        VIRTIO_BASE + slot * VIRTIO_SLOT_SIZE,
        VIRTIO_SLOT_SIZE,
        VIRTIO_INTID + slot,
    )


def gicr(cpus: int) -> Window:
    """The redistributors of `cpus` vCPUs."""
    return Window("gicr", GICR_BASE, GICR_STRIDE * cpus)


def stolen_time(vcpu: int) -> int:
    """The structure of a vCPU's stolen time."""
    return STOLEN_TIME.base + 64 * vcpu


# Holes in RAM when RAM is based below them, whatever the options: whole 2 MiB
# blocks, with room for the redistributors of as many vCPUs as there can be.
FIXED_WINDOWS = (
    Window("low devices", 0, 2 * MIB),
    Window("gic", GICD.base, 16 * MIB),
)


def ram_ranges(
    base: int, size: int, holes: Iterable[Window] = FIXED_WINDOWS
) -> list[tuple[int, int]]:
    """RAM of `size` bytes from `base` up, with `holes` cut out: (address, length) pairs.

    The size is what the guest gets: RAM goes on behind a hole.
    """
    cuts = sorted((h.base & ~(PAGE_SIZE - 1), -(-h.end // PAGE_SIZE) * PAGE_SIZE) for h in holes)
    out: list[tuple[int, int]] = []
    at, left = base, size
    for lo, hi in cuts:
        if left <= 0:
            break
        if hi <= at:
            continue
        if lo > at:
            take = min(left, lo - at)
            out.append((at, take))
            left -= take
        at = max(at, hi)
    if left > 0:
        out.append((at, left))
    return out
