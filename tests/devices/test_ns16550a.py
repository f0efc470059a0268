"""NS16550A: registers, interrupts, FIFO, loopback, backpressure."""

from __future__ import annotations

import os
import random
import time

import pytest

from bhyvepy.devices.bvmconsole import BvmConsole
from bhyvepy.devices.ns16550a import NS16550A

RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)


@pytest.fixture
def uart(kit):
    k = kit.make_env()
    dev = NS16550A(k.env)
    dev.k = k
    return dev


def r(dev, reg):
    return dev.read(reg, 1)


def w(dev, reg, value):
    dev.write(reg, 1, value)


def test_reset_values(uart):
    """After power-on nothing is pending, the transmitter is empty and the line is low."""
    assert [r(uart, x) for x in range(8)] == [0, 0, 1, 0, 0, 0x60, 0xB0, 0]
    assert uart.k.irq.level is False


def test_output_reaches_the_port(uart):
    """A byte stored to THR goes to the port, and LSR says empty at once."""
    for c in b"hello":
        w(uart, RBR, c)
        assert r(uart, LSR) == 0x60
    assert uart.k.port.sent == b"hello"


def test_divisor_latch(uart):
    """With DLAB set offsets 0 and 1 are the divisor, which may be 0, and output is not."""
    w(uart, LCR, 0x83)
    w(uart, RBR, 0)
    w(uart, IER, 0xFF)
    assert (r(uart, RBR), r(uart, IER)) == (0, 0xFF)
    w(uart, LCR, 0x03)
    assert (r(uart, RBR), r(uart, IER)) == (0, 0)
    assert uart.k.port.sent == b""


@pytest.mark.parametrize(("reg", "mask"), [(IER, 0x0F), (MCR, 0x1F), (SCR, 0xFF), (LCR, 0xFF)])
def test_writable_bits(uart, reg, mask):
    """Registers keep their writable bits, the rest read zero."""
    w(uart, reg, 0xFF)
    if reg == LCR:
        assert r(uart, LCR) == 0xFF
    else:
        assert r(uart, reg) == mask


def test_thre_interrupt_on_enable(uart):
    """Setting IER.THRE raises the interrupt; reading IIR clears it; setting again re-raises."""
    w(uart, IER, 2)
    assert uart.k.irq.level
    assert r(uart, IIR) == 0x02
    assert not uart.k.irq.level
    assert r(uart, IIR) == 0x01
    w(uart, IER, 2)  # no rising edge of the bit
    assert not uart.k.irq.level
    w(uart, IER, 0)
    w(uart, IER, 2)
    assert uart.k.irq.level


def test_thre_interrupt_after_each_character(uart):
    """A character stored to THR is sent at once, so THRE is raised again."""
    w(uart, IER, 2)
    r(uart, IIR)
    w(uart, RBR, 65)
    assert uart.k.irq.level
    assert r(uart, IIR) == 0x02


def test_iir_read_keeps_thre_when_it_reports_something_else(uart):
    """Reading IIR clears THRE only when THRE is what it reports."""
    w(uart, IER, 3)
    uart.push(b"x")
    assert r(uart, IIR) == 0x04
    assert r(uart, RBR) == ord("x")
    assert uart.k.irq.level
    assert r(uart, IIR) == 0x02
    assert not uart.k.irq.level


def test_iir_truth_table(kit):
    """IIR reports the enabled cause of highest priority for all 16 IER x 16 cause sets."""
    order = [(4, 0x06), (1, 0x04), (2, 0x02), (8, 0x00)]
    for ier in range(16):
        for causes in range(16):
            k = kit.make_env()
            dev = NS16550A(k.env)
            w(dev, MCR, 0x10)
            r(dev, MSR)
            if causes & 4:  # overrun in loopback without a FIFO, then the data is read away
                w(dev, RBR, 1)
                w(dev, RBR, 2)
                r(dev, RBR)
            if causes & 1:
                w(dev, RBR, 3)
            if causes & 8:
                w(dev, MCR, 0x12)
            w(dev, IER, 0)
            w(dev, IER, ier)
            if not causes & 2:
                dev._thre_pending = False
                dev._update()
            active = (causes & 0x0D) | (2 if causes & 2 else 0)
            want = next((code for bit, code in order if ier & active & bit), 0x01)
            assert k.irq.level == (want != 0x01), (ier, causes)
            assert r(dev, IIR) & 0x0F == want, (ier, causes)


def test_level_stays_up_while_another_cause_is_left(uart):
    """Two causes overlap: the line drops only when both are gone."""
    w(uart, IER, 3)
    uart.push(b"a")
    r(uart, RBR)
    assert uart.k.irq.level
    r(uart, IIR)
    assert not uart.k.irq.level


def test_fifo_trigger_and_timeout(uart):
    """Below the trigger level input is a time-out (0xcc), from it on data (0xc4)."""
    w(uart, IIR, 0x81)  # FIFO on, trigger 8
    w(uart, IER, 1)
    uart.push(b"1234567")
    assert r(uart, IIR) == 0xCC
    uart.push(b"8")
    assert r(uart, IIR) == 0xC4
    assert bytes(r(uart, RBR) for _ in range(8)) == b"12345678"
    assert r(uart, IIR) == 0xC1
    assert not uart.k.irq.level


@pytest.mark.parametrize(("code", "level"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)])
def test_fifo_trigger_levels(uart, code, level):
    """FCR bits 7:6 choose 1, 4, 8 or 14."""
    w(uart, IIR, code)
    w(uart, IER, 1)
    for n in range(1, 17):
        assert uart.push(b"x") == 1
        assert r(uart, IIR) == (0xC4 if n >= level else 0xCC)


def test_host_is_held_back(uart):
    """A full FIFO takes no more, without an overrun, and says when it is empty again."""
    w(uart, IIR, 0x01)
    assert uart.push(bytes(range(40))) == 16
    assert uart.push(b"z") == 0
    assert r(uart, LSR) == 0x61
    spaces = uart.k.port.spaces
    assert [r(uart, RBR) for _ in range(16)] == list(range(16))
    assert uart.k.port.spaces == spaces + 1
    assert r(uart, LSR) == 0x60


def test_without_fifo_one_byte(uart):
    """With the FIFO off the receiver holds one byte."""
    assert uart.push(b"ab") == 1
    assert r(uart, RBR) == ord("a")
    assert r(uart, IIR) == 0x01


def test_fifo_enable_toggle_clears(uart):
    """A change of FCR.0 throws the input away; trigger bits need it set."""
    w(uart, IER, 1)
    w(uart, IIR, 1)
    uart.push(b"abc")
    w(uart, IIR, 0xC0)
    assert r(uart, LSR) == 0x60
    assert r(uart, IIR) == 0x01
    w(uart, IIR, 1)
    uart.push(b"abc")
    w(uart, IIR, 3)
    assert r(uart, LSR) == 0x60


def test_input_before_the_port_is_set_up(uart):
    """What the host sent first survives the driver's clearing; what it recalls is gone."""
    assert uart.push(b"abc") == 1
    w(uart, IIR, 7)
    w(uart, IER, 1)
    assert uart.k.irq.level
    assert r(uart, RBR) == ord("a")
    uart.push(b"bcd")
    assert uart.recall() == b"bcd"
    assert not uart.k.irq.level
    assert uart.recall() == b""
    w(uart, MCR, 0x10)
    w(uart, RBR, 0x55)
    assert uart.recall() == b"", "the guest's own"
    assert r(uart, RBR) == 0x55


def test_loopback(uart):
    """In loopback output comes back as input and not to the host, whose input is lost."""
    w(uart, MCR, 0x10)
    w(uart, IIR, 1)
    w(uart, RBR, 0x55)
    assert uart.push(b"host") == 4
    assert r(uart, RBR) == 0x55
    assert r(uart, LSR) == 0x60
    assert uart.k.port.sent == b""


def test_loopback_overrun_keeps_old_data(uart):
    """The 17th byte in loopback sets LSR.OE once; the 16 that were there stay."""
    w(uart, MCR, 0x10)
    w(uart, IIR, 1)
    w(uart, IER, 4)
    for i in range(17):
        w(uart, RBR, i)
    assert uart.k.irq.level
    assert r(uart, IIR) == 0xC6
    assert r(uart, LSR) == 0x63
    assert r(uart, LSR) == 0x61
    assert not uart.k.irq.level
    assert [r(uart, RBR) for _ in range(16)] == list(range(16))


def test_loopback_modem_lines(uart):
    """In loopback MCR drives MSR; deltas are set on a change and cleared by the read."""
    w(uart, MCR, 0x10)
    r(uart, MSR)
    for mcr, high in ((0x02, 0x10), (0x01, 0x20), (0x08, 0x80)):
        w(uart, MCR, 0x10 | mcr)
        assert r(uart, MSR) == high | high >> 4
        assert r(uart, MSR) == high
        w(uart, MCR, 0x10)
        assert r(uart, MSR) == high >> 4
    w(uart, MCR, 0x14)
    assert r(uart, MSR) == 0x40  # RI rising: no TERI
    w(uart, MCR, 0x10)
    assert r(uart, MSR) == 0x04


def test_modem_interrupt(uart):
    """A modem line change raises the interrupt of lowest priority, cleared by reading MSR."""
    w(uart, IER, 8)
    assert not uart.k.irq.level
    w(uart, MCR, 0x10)
    assert uart.k.irq.level
    assert r(uart, IIR) == 0x00
    r(uart, MSR)
    assert not uart.k.irq.level


@pytest.mark.parametrize("size", [1, 2, 4])
def test_wider_accesses_use_the_low_byte(uart, size):
    """Aligned 2- and 4-byte accesses see one register; it is zero-extended."""
    uart.write(4, size, 0xFFFFFF02)
    assert uart.read(4, size) == 2


def test_odd_accesses_are_ignored(uart):
    """8 bytes, unaligned, or beyond SCR: reads zero, writes nothing."""
    w(uart, SCR, 0x5A)
    for offset, size in ((7, 2), (7, 4), (5, 2), (0, 8), (8, 1), (0xFFF, 1), (0x100, 4)):
        uart.write(offset, size, 0xFF)
        assert uart.read(offset, size) == 0
    assert r(uart, SCR) == 0x5A
    assert uart.k.port.sent == b""


def test_long_loopback_with_random_fcr(uart):
    """10,000 bytes through the loop come back in order whatever FCR does in between."""
    rng = random.Random(1)
    w(uart, MCR, 0x10)
    w(uart, IIR, 1)
    for i in range(10000):
        w(uart, RBR, i & 0xFF)
        assert r(uart, RBR) == i & 0xFF
        w(uart, IIR, rng.randrange(256) | 1)


def test_v08_save_and_load(kit, uart):
    """A port restored in the middle of a transmission has its THRE interrupt still."""
    w(uart, IIR, 0x41)
    w(uart, IER, 3)
    uart.push(b"abcdef")
    w(uart, SCR, 7)
    k = kit.make_env()
    other = NS16550A(k.env)
    other.load(uart.save())
    assert k.irq.level
    assert r(other, SCR) == 7
    assert bytes(r(other, RBR) for _ in range(6)) == b"abcdef"
    assert r(other, IIR) == 0xC2
    assert not k.irq.level


def test_reset_lowers_the_line(uart):
    """The machine's reset clears FIFO, enables and line."""
    w(uart, IER, 0x0F)
    uart.push(b"x")
    uart.reset()
    assert not uart.k.irq.level
    assert r(uart, LSR) == 0x60
    assert r(uart, IER) == 0


def test_linux_autoconfig(uart):
    """The probe of Linux's 8250 driver finds a 16550A."""
    w(uart, IER, 0)
    assert r(uart, IER) == 0
    w(uart, IER, 0x0F)
    assert r(uart, IER) == 0x0F
    w(uart, IER, 0)
    w(uart, MCR, 0x1A)
    assert r(uart, MSR) & 0xF0 == 0x90
    w(uart, MCR, 0)
    w(uart, LCR, 0)
    w(uart, IIR, 1)
    assert r(uart, IIR) >> 6 == 3


def test_node(uart):
    """The node has what 8250_of requires."""
    node = uart.dt_node(None)
    assert node.compatible == ("ns16550a",)
    assert node.props["clock-frequency"] == 1843200


class TestBvmConsole:
    """bvmconsole: the one register."""

    def test_signature(self, kit):
        """A 2-byte load gives the signature, a 1-byte load all ones."""
        dev = BvmConsole(kit.make_env().env)
        assert dev.read(0, 2) == 0x6276
        assert dev.read(0, 1) == 0xFF
        assert dev.read(0, 8) == 0

    def test_input_and_output(self, kit):
        """4-byte loads give input or all ones; 4-byte stores send the low byte."""
        k = kit.make_env()
        dev = BvmConsole(k.env)
        assert dev.read(0, 4) == 0xFFFFFFFF
        assert dev.push(b"ok") == 2
        assert [dev.read(0, 4) for _ in range(3)] == [ord("o"), ord("k"), 0xFFFFFFFF]
        dev.write(0, 4, 0x141)
        dev.write(0, 1, 0x42)
        assert k.port.sent == b"A"
        assert k.port.touches == 4

    def test_input_is_bounded(self, kit):
        """A guest that never polls makes the host wait."""
        dev = BvmConsole(kit.make_env().env)
        assert dev.push(bytes(1000)) == 64
        assert dev.push(b"x") == 0
        other = BvmConsole(kit.make_env().env)
        other.load(dev.save())
        assert other.push(b"x") == 0


class FakeWire:
    """A wire that serves nothing but THR (tests/core/test_wire.py has the real one)."""

    def __init__(self):
        self.fd = os.eventfd(0, os.EFD_CLOEXEC)
        self.state = {"ier": 0, "thre": False}
        self.bytes = bytearray()

    def hold(self):
        return self.state["ier"], self.state["thre"]

    def set(self, **state):
        self.state = state

    def put(self, byte):
        self.bytes.append(byte)
        if len(self.bytes) == 1:
            os.eventfd_write(self.fd, 1)
        return True

    def take(self):
        data = bytes(self.bytes)
        self.bytes.clear()
        return data

    def close(self):
        os.close(self.fd)


def test_wire_carries_without_being_asked(kit):
    """What is on the wire arrives soon, and on close at the latest."""
    k = kit.make_env()
    dev = NS16550A(k.env)
    wire = FakeWire()
    dev.use_wire(wire)
    wire.put(65)
    end = time.monotonic() + 5
    while k.port.sent != b"A":
        assert time.monotonic() < end
        time.sleep(0.001)
    w(dev, RBR, 66)
    dev.close()
    dev.close()
    assert k.port.sent == b"AB"
