"""Hostile guests for the device models: registers and queues full of nonsense.

Whatever a guest does, a device answers, changes no memory that it was not given, reports
nothing as its own bug, goes to sleep, and serves an honest driver after a reset. The same
with its state saved and loaded in between.
"""

from __future__ import annotations

import logging
import os
import random
import resource
import struct
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bhyvepy.devices.base import Device

from .conftest import Campaign
from .targets import LOUD, REGISTERS, VIRTIO, Target

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3600)]

# The first and the last page of each part of RAM belong to nobody.
PAGE = 0x1000
# What a campaign may add to the memory of the process; AddressSanitizer keeps what was freed.
ROOM_MB = 600 if "BHYVEPY_ASAN" in os.environ else 200
INTERESTING = (0, 1, 2, 3, 0xFF, 0x80, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 64) - 1)


def _touch(rng: random.Random, device: Device, kinds: tuple[int, ...] = (1, 2, 4, 8)) -> None:
    """One access as a guest could make it."""
    size = rng.choice([n for n in kinds if n <= device.size])
    offset = rng.randrange(0, device.size - size + 1, 1 if rng.random() < 0.2 else size)
    if rng.random() < 0.5:
        value = device.read(offset, size)
        assert 0 <= value < 1 << 8 * size
    else:
        value = rng.choice((*INTERESTING, rng.getrandbits(64))) & (1 << 8 * size) - 1
        device.write(offset, size, value)


def _near(rng: random.Random, device: Device) -> None:
    """The same among the first registers, where most devices have theirs."""
    size = rng.choice([n for n in (1, 2, 4) if n <= device.size])
    offset = rng.randrange(0, min(32, device.size - size + 1))
    if rng.random() < 0.5:
        assert 0 <= device.read(offset, size) < 1 << 8 * size
    else:
        device.write(offset, size, rng.getrandbits(8 * size))


@pytest.mark.parametrize("kind", REGISTERS)
def test_registers(kit: ModuleType, steps: Campaign, kind: str) -> None:
    """Random accesses end in numbers of the right size; what was saved can be loaded."""
    cases = steps()
    for rng in cases:
        box = kit.make_env()
        device = REGISTERS[kind](box.env)
        for _ in range(200):
            (_touch if rng.random() < 0.4 else _near)(rng, device)
            cases.step()
            if rng.random() < 0.1:
                _outside(rng, device)
        other = REGISTERS[kind](kit.make_env().env)
        other.load(device.save())
        assert other.save() == device.save()
        device.reset()
        fresh = REGISTERS[kind](kit.make_env().env)
        if kind != "pl031":  # its clock has gone on
            assert fresh.save() | {"inputs": 0} == device.save() | {"inputs": 0}
        assert not box.irq.level
        assert [] == box.fatal
        for one in (device, other, fresh):
            one.close()


def _outside(rng: random.Random, device: Any) -> None:
    """What comes from the host."""
    if hasattr(device, "push"):
        data = rng.randbytes(rng.randrange(40))
        assert 0 <= device.push(data) <= len(data)
    if hasattr(device, "drive"):
        device.drive(rng.randrange(8), rng.random() < 0.5)


# -- virtio ---------------------------------------------------------------------------------


class Guest:
    """A driver gone mad."""

    def __init__(self, rng: random.Random, target: Target, kit: ModuleType, version: int) -> None:
        self.rng, self.target, self.kit = rng, target, kit
        self.driver = kit.Driver(target.device, version)
        self.memory = self.driver.memory
        count = len(target.device.queue_sizes)
        self.queues = [self.driver, *(self.driver.sibling(i) for i in range(1, count))]
        for at in self.guards():
            self.memory.write(at, LOUD[:64])

    def guards(self) -> list[int]:
        """Places in RAM that no descriptor gives to the device."""
        kit = self.kit
        return [kit.RAM + 64, kit.RAM + 0xFF000, kit.RAM2 + 0x8000]

    def start(self, honest: bool = False) -> None:
        """All queues, with features and a size of the guest's choice."""
        rng, kit = self.rng, self.kit
        own = 0 if honest else rng.choice(self.target.features)
        ring = 0 if honest else rng.choice((0, kit.INDIRECT_DESC, kit.EVENT_IDX))
        size = 8 if honest else rng.choice((1, 8, 16))
        driver = self.driver
        driver.desc_at, driver.avail_at, driver.used_at = kit.DESC, kit.AVAIL, kit.USED
        driver.start(own | ring | kit.INDIRECT_DESC * rng.randrange(2), size, self.queues[1:])
        for queue in self.queues[1:]:
            queue.features = driver.features

    def address(self) -> int:
        """Of a buffer: mostly good, at an edge, or anywhere."""
        kit, rng = self.kit, self.rng
        if rng.random() < 0.6:
            return kit.BUF + rng.randrange(0, 0x8000, 16)
        queue = rng.choice(self.queues)
        return rng.choice(
            (
                kit.HOLE - 8,
                kit.HOLE,
                kit.RAM2,
                0,
                0xA0000,
                (1 << 64) - 16,
                queue.desc_at,
                queue.avail_at,
                queue.used_at,
                rng.getrandbits(64),
            )
        )

    def descriptor(self, queue: Any, i: int, table: int | None = None) -> None:
        """One, with little sense."""
        rng = self.rng
        length = rng.choice((0, 1, 15, 16, 17, 32, 512, 512, 4096, 0xFFFFFFFF))
        if length <= 4096 and rng.random() < 0.3:
            length = rng.choice((1, 16, 512))
        flags = rng.choice((0, 0, 1, 1, 1, 2, 2, 3, 3, 4, rng.getrandbits(16)))
        following = rng.choice((i + 1, i + 1, i + 1, rng.randrange(17), rng.getrandbits(16)))
        address = self.address()
        if length + address > self.kit.HOLE - PAGE and length > 4096:
            address = rng.choice((self.kit.HOLE, rng.getrandbits(64) | 1 << 63))  # not our guards
        queue.desc(i, address, length, flags, following & 0xFFFF, table)

    def request(self, queue: Any) -> None:
        """A chain as the device's own drivers make them, or nearly."""
        rng, kit = self.rng, self.kit
        header = rng.choice(self.target.headers)
        self.memory.write(kit.BUF, header)
        parts = [(kit.BUF, len(header), False)]
        at = kit.BUF + 0x100
        for length, writable in self.target.room(rng):
            parts.append((at, length, writable))
            at += length + rng.choice((0, 1, 512))
        if self.driver.version == 2 and rng.random() < 0.3:
            rng.shuffle(parts)
        queue.chain(*parts[: queue.size])
        if rng.random() < 0.2:
            self.descriptor(queue, rng.randrange(queue.size))

    def nonsense(self) -> int:
        """Rings without sense, and a notification; how many chains they hold."""
        rng, kit = self.rng, self.kit
        queue = rng.choice(self.queues)
        for i in range(queue.size):
            self.descriptor(queue, i)
        for i in range(rng.choice((0, 4))):
            self.descriptor(queue, i, kit.BUF + 0x1000)
        if self.target.headers and rng.random() < 0.7:
            self.request(queue)
        count = rng.randrange(1, queue.size + 1)
        for n in range(count):
            sane = n < queue.size and rng.random() < 0.97
            head = 0 if rng.random() < 0.3 else rng.randrange(queue.size)
            queue.offer(head if sane else rng.getrandbits(16))
        if rng.random() < 0.03:
            queue.avail_idx = rng.getrandbits(16)
        if rng.random() < 0.2:
            at = queue.avail_at + rng.choice((0, 4 + 2 * queue.size))
            self.memory.write(at, struct.pack("<H", rng.choice((0, 1, rng.getrandbits(16)))))
        queue.kick(rng.choice((None, None, None, rng.getrandbits(32))))
        return count

    def go_on(self) -> None:
        """A sane reset, now and then, lest all is refused."""
        if self.driver.r(0x070) & 0x40 or self.rng.random() < 0.2:
            self.start()


@pytest.mark.parametrize("kind", VIRTIO)
@pytest.mark.parametrize("version", [1, 2])
def test_virtio(
    kit: ModuleType,
    steps: Campaign,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    version: int,
) -> None:
    """After any nonsense a device of either version serves an honest driver."""
    caplog.set_level(logging.CRITICAL, "bhyvepy.devices")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cases = steps()
    for rng in cases:
        target = VIRTIO[kind](tmp_path)
        guest = Guest(rng, target, kit, version)
        driver = guest.driver
        try:
            guest.start()
            for _ in range(rng.randrange(1, 12)):
                cases.step(guest.nonsense())
                for _ in range(rng.randrange(6)):
                    _touch(rng, driver.mmio, rng.choice(((4,), (1, 2, 4, 8))))
                    cases.step()
                if rng.random() < 0.4:
                    target.outside(rng)
                if rng.random() < 0.1:
                    driver.mmio.load(driver.mmio.save())
                if rng.random() < 0.1:  # from another vCPU, with work in flight
                    thread = threading.Thread(target=driver.w, args=(0x070, 0))
                    thread.start()
                    cases.step(guest.nonsense())
                    thread.join(2)
                    assert not thread.is_alive(), "a reset does not come to its end"
                guest.go_on()
            driver.settle()
            assert [] == driver.kit.fatal
            guest.start(honest=True)
            target.honest(guest.queues, kit)
            for at in guest.guards():
                assert guest.memory.read(at, 64) == LOUD[:64], f"{at:#x} was not given to anybody"
        finally:
            driver.close()
            target.close()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < ROOM_MB, f"the process grew by {grown} MiB"
