"""PL061: registers, edges and levels, the power button."""

from __future__ import annotations

import time

import pytest

from bhyvepy.devices import pl061
from bhyvepy.devices.pl061 import DIR, IBE, IC, IE, IEV, IS, MIS, PL061, POWER_LINE, RIS

POWER = 1 << POWER_LINE


@pytest.fixture
def box(kit):
    """A controller and its line."""
    it = kit.make_env()
    it.gpio = PL061(it.env)
    yield it
    it.gpio.close()


def test_identity(box):
    """Peripheral and cell identification, as drivers of AMBA devices read them."""
    want = [0x61, 0x10, 0x04, 0x00, 0x0D, 0xF0, 0x05, 0xB1]
    assert want == [box.gpio.read(0xFE0 + 4 * i, 4) for i in range(8)]


def test_data_is_masked_by_the_address(box):
    """Address bits 9 to 2 choose the lines that are read and written; only outputs are driven."""
    g = box.gpio
    g.write(DIR, 4, 0xF0)
    g.write(0x3FC, 4, 0xFF)
    assert 0xF0 == g.read(0x3FC, 4)
    g.write(0x10 << 2, 4, 0)
    assert 0xE0 == g.read(0x3FC, 4)
    assert 0x20 == g.read(0x20 << 2, 4)
    g.drive(0, True)
    assert 0xE1 == g.read(0x3FC, 4)
    g.drive(7, False)  # an output is what we say
    assert 0xE1 == g.read(0x3FC, 4)


@pytest.mark.parametrize(
    ("ibe", "iev", "changes", "edges"),
    [(0, 0, [1, 0], [0, 1]), (0, 1, [1, 0], [1, 1]), (1, 0, [1], [1]), (1, 1, [1], [1])],
)
def test_edges(box, ibe, iev, changes, edges):
    """Rising, falling or both edges are kept until they are cleared, and only then masked out."""
    g = box.gpio
    g.write(IBE, 4, POWER * ibe)
    g.write(IEV, 4, POWER * iev)
    for high, seen in zip(changes, edges, strict=True):
        g.drive(POWER_LINE, bool(high))
        assert POWER * seen == g.read(RIS, 4)
        assert 0 == g.read(MIS, 4)
        assert not box.irq.level
    g.write(IE, 4, POWER)
    assert box.irq.level
    assert POWER == g.read(MIS, 4)
    g.write(IC, 4, POWER)
    assert not box.irq.level
    assert 0 == g.read(RIS, 4)


def test_levels(box):
    """A level is not cleared by a write, only by the line."""
    g = box.gpio
    g.write(IS, 4, POWER)
    g.write(IEV, 4, POWER)
    g.write(IE, 4, POWER)
    assert not box.irq.level
    g.drive(POWER_LINE, True)
    assert box.irq.level
    g.write(IC, 4, 0xFF)
    assert box.irq.level
    g.drive(POWER_LINE, False)
    assert not box.irq.level


def test_odd_accesses(box):
    """Unaligned offsets and unknown registers read zero and do nothing, whatever their size."""
    g = box.gpio
    for offset in range(0x1000):
        for size in (1, 2, 4, 8):
            value = g.read(offset, size)
            assert 0 <= value <= 0xFF
            if offset & 3:
                assert 0 == value
            g.write(offset, size, (1 << 8 * size) - 1)
    g.reset()
    assert (0, 0, 0) == (g.read(DIR, 4), g.read(IE, 4), g.read(RIS, 4))
    assert not box.irq.level


def test_button(box, monkeypatch):
    """A press is a rising and a falling edge; more presses meanwhile are the same one."""
    monkeypatch.setattr(pl061, "PRESS_S", 0.05)
    g = box.gpio
    assert not g.listening
    g.write(IBE, 4, POWER)
    g.write(IE, 4, POWER)
    assert g.listening
    g.press()
    g.press()
    assert box.irq.level
    assert POWER == g.read(0x3FC, 4)
    g.write(IC, 4, POWER)
    end = time.monotonic() + 5
    while not box.irq.level:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert 0 == g.read(0x3FC, 4)
    assert 2 == box.irq.rises


def test_close_during_a_press(box):
    """Closing with the button held leaves no thread, and no interrupt comes afterwards."""
    box.gpio.press()
    box.gpio.close()
    box.gpio.close()
    box.gpio.press()


def test_save_and_load(kit, box):
    """An edge that was not served rings in the copy."""
    g = box.gpio
    g.write(IBE, 4, POWER)
    g.write(IE, 4, POWER)
    g.drive(POWER_LINE, True)
    other = kit.make_env()
    copy = PL061(other.env)
    copy.load(g.save())
    assert other.irq.level
    copy.write(IC, 4, POWER)
    assert not other.irq.level
