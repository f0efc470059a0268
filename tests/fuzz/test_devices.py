"""Hostile guests for the device models: registers and queues full of nonsense.

Whatever a guest does, a device answers, writes nothing outside of RAM, reports nothing as
its own bug, and serves an honest driver after a reset.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bhyvepy.devices.base import Device
from bhyvepy.devices.bvmconsole import BvmConsole
from bhyvepy.devices.ns16550a import NS16550A
from bhyvepy.devices.pl011 import PL011
from bhyvepy.devices.virtio.blk import BlkOptions, VirtioBlk
from bhyvepy.devices.virtio.rnd import VirtioRnd

from .conftest import Campaign

pytestmark = [pytest.mark.long, pytest.mark.fuzz, pytest.mark.timeout(3600)]

SECTORS = 64


def _touch(rng: random.Random, device: Device) -> None:
    """One access as a guest could make it."""
    size = rng.choice([n for n in (1, 2, 4, 8) if n <= device.size])
    offset = rng.randrange(0, device.size - size + 1, 1 if rng.random() < 0.2 else size)
    if rng.random() < 0.5:
        value = device.read(offset, size)
        assert 0 <= value < 1 << 8 * size
    else:
        device.write(offset, size, rng.choice((0, 1, 0xFF, rng.getrandbits(8 * size))))


@pytest.mark.parametrize("make", [NS16550A, PL011, BvmConsole], ids=lambda m: str(m.__name__))
def test_registers(kit: ModuleType, campaign: Campaign, make: Any) -> None:
    """Random accesses of a serial port end in numbers of the right size, with input or not."""
    for rng in campaign():
        box = kit.make_env()
        device = make(box.env)
        for _ in range(200):
            _touch(rng, device)
            if rng.random() < 0.1 and box.port is not None:
                device.push(rng.randbytes(rng.randrange(40)))
        assert [] == box.fatal
        device.close()


def _nonsense(rng: random.Random, driver: Any, kit: ModuleType) -> None:
    """Descriptors, rings and registers without sense."""
    for i in range(driver.size):
        addr = rng.choice((kit.RAM, kit.BUF, kit.HOLE - 8, kit.RAM2, 0, rng.getrandbits(64)))
        length = rng.choice((0, 1, 16, 512, 4096, 0xFFFFFFFF))
        driver.desc(i, addr, length, rng.getrandbits(3), rng.choice((i + 1, rng.randrange(16))))
    # Some of the chains begin like requests.
    kind = rng.choice((0, 1, 4, 8, 11, 13, 99))
    sector = rng.choice((0, SECTORS - 1, SECTORS, 1 << 63))
    driver.memory.write(kit.BUF, kind.to_bytes(8, "little") + sector.to_bytes(8, "little"))
    for _ in range(rng.randrange(1, driver.size + 1)):
        driver.offer(rng.choice((0, rng.randrange(driver.size), rng.getrandbits(16))))
    if rng.random() < 0.1:
        driver.avail_idx = rng.getrandbits(16)
    driver.kick(rng.choice((0, 0, 0, 1, 0xFFFF)))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", ["blk", "rnd"])
def test_queues(
    kit: ModuleType,
    campaign: Campaign,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    version: int,
) -> None:
    """After any nonsense in its queue a device serves an honest driver."""
    caplog.set_level(logging.CRITICAL, "bhyvepy.devices")
    image = tmp_path / "disk.img"
    for rng in campaign():
        image.write_bytes(bytes(512 * SECTORS))
        device = VirtioBlk(BlkOptions(str(image))) if kind == "blk" else VirtioRnd()
        driver = kit.Driver(device, version)
        try:
            features = rng.choice((0, kit.INDIRECT_DESC, kit.EVENT_IDX | kit.INDIRECT_DESC))
            driver.start(features, rng.choice((1, 8, 16)))
            for _ in range(rng.randrange(1, 5)):
                _nonsense(rng, driver, kit)
                for _ in range(rng.randrange(8)):
                    _touch(rng, driver.mmio)
            driver.settle()
            assert [] == driver.kit.fatal
            driver.desc_at, driver.avail_at, driver.used_at = kit.DESC, kit.AVAIL, kit.USED
            driver.start()
            if kind == "blk":
                driver.memory.write(kit.BUF, (8).to_bytes(16, "little"))
                status = kit.BUF + 0x100
                parts = ((kit.BUF, 16, False), (kit.BUF + 0x80, 20, True), (status, 1, True))
                assert 21 == driver.run(*parts)
            else:
                assert 64 == driver.run((kit.BUF, 64, True))
        finally:
            driver.close()
        assert 512 * SECTORS == image.stat().st_size
