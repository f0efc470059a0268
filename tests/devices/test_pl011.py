"""PL011: registers, interrupts, FIFO, loopback."""

from __future__ import annotations

import pytest

from bhyvepy.devices.pl011 import PL011

DR, RSR, FR, IBRD, LCR_H, CR, IFLS = 0x00, 0x04, 0x18, 0x24, 0x2C, 0x30, 0x34
IMSC, RIS, MIS, ICR = 0x38, 0x3C, 0x40, 0x44


@pytest.fixture
def uart(kit):
    k = kit.make_env()
    dev = PL011(k.env)
    dev.k = k
    return dev


def r(dev, reg):
    return dev.read(reg, 4)


def w(dev, reg, value):
    dev.write(reg, 4, value)


def test_identification(uart):
    """The AMBA id registers name a PL011 of revision r1p4."""
    ids = [r(uart, 0xFE0 + 4 * i) for i in range(8)]
    assert ids == [0x11, 0x10, 0x24, 0x00, 0x0D, 0xF0, 0x05, 0xB1]


def test_reset_values(uart):
    """CR and IFLS as the manual says, nothing received, transmitter empty."""
    assert (r(uart, CR), r(uart, IFLS), r(uart, FR) & 0xD8) == (0x300, 0x12, 0x90)
    assert not uart.k.irq.level


@pytest.mark.parametrize("size", [1, 2, 4])
def test_output(uart, size):
    """A store of any width to DR sends its low byte and raises TXRIS."""
    uart.write(DR, size, 0x41)
    assert uart.k.port.sent == b"A"
    assert r(uart, RIS) == 0x20
    w(uart, IMSC, 0x20)
    assert uart.k.irq.level
    w(uart, ICR, 0x20)
    assert not uart.k.irq.level


def test_input(uart):
    """Input raises RX and the time-out, both gone when the FIFO is empty."""
    w(uart, LCR_H, 0x70)
    w(uart, IMSC, 0x50)
    assert uart.push(b"ab") == 2
    assert uart.k.irq.level
    assert r(uart, FR) & 0x10 == 0
    assert [r(uart, DR), r(uart, DR)] == [ord("a"), ord("b")]
    assert not uart.k.irq.level
    assert r(uart, FR) & 0x10
    assert r(uart, DR) == 0


@pytest.mark.parametrize(("ifls", "level"), [(0, 2), (1, 4), (2, 8), (3, 12), (4, 14), (7, 14)])
def test_trigger_levels(uart, ifls, level):
    """IFLS chooses when RXRIS is raised; the time-out is there from the first byte."""
    w(uart, LCR_H, 0x10)
    w(uart, IFLS, ifls << 3)
    for n in range(1, 17):
        uart.push(b"x")
        assert r(uart, RIS) & 0x50 == (0x50 if n >= level else 0x40)


def test_host_is_held_back(uart):
    """A full FIFO takes no more and sets RXFF."""
    assert uart.push(b"xy") == 1
    r(uart, DR)
    w(uart, LCR_H, 0x10)
    assert uart.push(bytes(40)) == 16
    assert r(uart, FR) & 0x40
    for _ in range(16):
        r(uart, DR)
    assert uart.k.port.spaces == 3


def test_loopback(uart):
    """With LBE output is input; the 17th byte overruns."""
    w(uart, LCR_H, 0x10)
    w(uart, CR, 0x381)
    for i in range(17):
        w(uart, DR, i)
    assert r(uart, RIS) & 0x400
    assert r(uart, RSR) == 8
    assert [r(uart, DR) for _ in range(16)] == list(range(16))
    w(uart, RSR, 0)
    assert r(uart, RSR) == 0
    assert uart.k.port.sent == b""


def test_masked_status(uart):
    """MIS is RIS and IMSC."""
    w(uart, DR, 65)
    assert (r(uart, RIS), r(uart, MIS)) == (0x20, 0)
    w(uart, IMSC, 0x7FF)
    assert r(uart, MIS) == 0x20


def test_odd_accesses(uart):
    """Unaligned and unknown offsets read zero; 8-byte accesses do no harm."""
    for offset in (1, 2, 3, 8, 0xC, 0x10, 0x4C, 0xFD0):
        w(uart, offset, 0xFF)
        assert r(uart, offset) == 0
    uart.write(IBRD, 8, 0x1FFFFFFFF)
    assert uart.read(IBRD, 8) == 0xFFFF
    assert uart.k.port.sent == b""


def test_save_load_reset(kit, uart):
    """State goes over to another instance; reset starts anew."""
    w(uart, LCR_H, 0x10)
    w(uart, IMSC, 0x10)
    uart.push(b"abcdefgh")
    k = kit.make_env()
    other = PL011(k.env)
    other.load(uart.save())
    assert k.irq.level
    assert r(other, DR) == ord("a")
    other.reset()
    assert not k.irq.level
    assert r(other, CR) == 0x300


def test_node(uart):
    """The node has both clocks, as the AMBA driver wants."""

    class Ctx:
        def fixed_clock(self, hz):
            assert hz == 24_000_000
            return 7

    node = uart.dt_node(Ctx())
    assert node.props["clocks"] == [7, 7]
    assert "arm,pl011" in node.compatible


def test_input_before_the_port_is_set_up(uart):
    """What the host sent first survives the FIFO's being turned on; what it recalls is gone."""
    assert uart.push(b"abc") == 1
    w(uart, LCR_H, 0x10)
    w(uart, IMSC, 0x50)
    assert uart.k.irq.level
    assert r(uart, DR) == ord("a")
    uart.push(b"bcd")
    w(uart, LCR_H, 0)
    assert r(uart, FR) & 0x10, "later it flushes"
    uart.push(b"e")
    assert uart.recall() == b"e"
    assert not uart.k.irq.level
