"""PL011: Arm's serial port, which the seeds' device trees call mmio-uart.

Word registers; transmission takes no time, so the transmit FIFO is always empty and
TXRIS follows each character. The receiver holds back the host when its FIFO is full. A
receive time-out is taken to have passed at once. Baud rate, DMA and modem lines are
stored and mean nothing. Arm DDI 0183 (PL011 technical reference manual), chapter 3.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, ClassVar

from .base import Device, DeviceEnv, DtContext, DtNode

DR, RSR, FR, ILPR, IBRD, FBRD, LCR_H, CR = 0x00, 0x04, 0x18, 0x20, 0x24, 0x28, 0x2C, 0x30
IFLS, IMSC, RIS, MIS, ICR, DMACR = 0x34, 0x38, 0x3C, 0x40, 0x44, 0x48

FR_CTS, FR_DSR, FR_DCD, FR_RXFE, FR_RXFF, FR_TXFE = 0x01, 0x02, 0x04, 0x10, 0x40, 0x80
LCR_FEN = 0x10
CR_UARTEN, CR_LBE, CR_TXE, CR_RXE = 0x001, 0x080, 0x100, 0x200
INT_RX, INT_TX, INT_RT, INT_OE = 0x010, 0x020, 0x040, 0x400
INT_MASK = 0x7FF
FIFO_SIZE = 16
# IFLS.RXIFLSEL: 1/8, 1/4, 1/2, 3/4, 7/8 of the FIFO.
LEVELS = (2, 4, 8, 12, 14)

# Stored registers: offset -> (reset value, writable bits).
_PLAIN = {
    ILPR: (0, 0xFF),
    IBRD: (0, 0xFFFF),
    FBRD: (0, 0x3F),
    LCR_H: (0, 0xFF),
    CR: (CR_TXE | CR_RXE, 0xFF87),
    IFLS: (0x12, 0x3F),
    IMSC: (0, INT_MASK),
    DMACR: (0, 0x07),
}

# PeriphID 0x00241011, r1p4: from r1p5 on, drivers take the FIFO to be 32 deep.
_IDS = {
    **{0xFE0 + 4 * i: b for i, b in enumerate((0x11, 0x10, 0x24, 0x00))},
    **{0xFF0 + 4 * i: b for i, b in enumerate((0x0D, 0xF0, 0x05, 0xB1))},
}


class PL011(Device):
    """One serial port."""

    kind: ClassVar[str] = "pl011"
    size = 0x1000

    def __init__(self, env: DeviceEnv, clock_hz: int = 24_000_000) -> None:
        super().__init__(env)
        self.clock_hz = clock_hz
        self._lock = threading.Lock()
        self._rx: deque[int] = deque()
        self._line = False
        self._power_on()
        self._port = env.attach(self)

    def _power_on(self) -> None:
        self._rx.clear()
        self._regs = {offset: reset for offset, (reset, _) in _PLAIN.items()}
        self._ris = 0
        self._rsr = 0
        self._heard = False  # the guest reads, or waits for, input

    def read(self, offset: int, size: int) -> int:
        """A register, in the low bytes; what is not aligned to 4 reads as zero."""
        if offset == FR:
            n = len(self._rx)
            full = FR_RXFF if n >= self._depth() else 0
            return FR_TXFE | FR_CTS | FR_DSR | FR_DCD | full | (0 if n else FR_RXFE)
        if offset & 3:
            return 0
        if offset == DR:
            room = False
            value = 0
            with self._lock:
                self._heard = True
                if self._rx:
                    value = self._rx.popleft()
                    room = not self._rx
                    self._levels()
                    self._update()
            self._port.touched()
            if room:
                self._port.space()
        else:
            with self._lock:
                if offset == RIS:
                    value = self._ris
                elif offset == MIS:
                    value = self._ris & self._regs[IMSC]
                elif offset == RSR:
                    value = self._rsr
                else:
                    value = self._regs.get(offset, _IDS.get(offset, 0))
        return value & ((1 << 8 * size) - 1)

    def write(self, offset: int, size: int, value: int) -> None:
        """A register."""
        if offset & 3:
            return
        send = b""
        room = False
        with self._lock:
            if offset == DR:
                if self._regs[CR] & CR_LBE:
                    self._loop(value & 0xFF)
                else:
                    send = bytes((value & 0xFF,))
                self._ris |= INT_TX
            elif offset == ICR:
                self._ris &= ~value
            elif offset == RSR:
                self._rsr = 0
            elif offset in _PLAIN:
                old = self._regs[offset]
                self._regs[offset] = value & _PLAIN[offset][1]
                if offset == LCR_H and (old ^ value) & LCR_FEN:
                    # The FIFO is flushed when it is turned on or off; but what the host sent
                    # before the guest could take any stays (as in ns16550a.py).
                    if self._heard:
                        self._rx.clear()
                    room = True
                self._heard |= bool(self._regs[IMSC] & (INT_RX | INT_RT))
                self._levels()
            self._update()
        if send:
            self.env.settle()
            self._port.send(send)
        if room:
            self._port.space()

    def push(self, data: bytes) -> int:
        """Host input: as much as there is room for."""
        with self._lock:
            if self._regs[CR] & CR_LBE:
                return len(data)
            taken = data[: max(self._depth() - len(self._rx), 0)]
            if taken:
                self._rx.extend(taken)
                self._levels()
                self._update()
            return len(taken)

    def recall(self) -> bytes:
        """Host input that the guest has not read; what it sent itself in a loop is its own."""
        with self._lock:
            if self._regs[CR] & CR_LBE:
                return b""
            data = bytes(self._rx)
            self._rx.clear()
            self._levels()
            self._update()
            return data

    # -- inside, with the lock held ---------------------------------------------------

    def _depth(self) -> int:
        return FIFO_SIZE if self._regs[LCR_H] & LCR_FEN else 1

    def _loop(self, value: int) -> None:
        if len(self._rx) < self._depth():
            self._rx.append(value)
            self._levels()
        else:
            self._ris |= INT_OE
            self._rsr |= 0x8

    def _levels(self) -> None:
        """RX and RT follow the fill level."""
        n = len(self._rx)
        fifo = self._regs[LCR_H] & LCR_FEN
        trigger = LEVELS[min(self._regs[IFLS] >> 3 & 7, 4)] if fifo else 1
        self._ris &= ~(INT_RX | INT_RT)
        if n >= trigger:
            self._ris |= INT_RX
        if n:
            self._ris |= INT_RT

    def _update(self) -> None:
        line = bool(self._ris & self._regs[IMSC])
        if line != self._line:
            self._line = line
            self.env.irq.set(line)

    # -- the machine's side ---------------------------------------------------------------

    def reset(self) -> None:
        """As at power-on."""
        with self._lock:
            self._power_on()
            self._update()
        self._port.space()

    def save(self) -> dict[str, Any]:
        """Registers and the receive FIFO."""
        with self._lock:
            return {
                "regs": {str(k): v for k, v in self._regs.items()},
                "ris": self._ris,
                "rsr": self._rsr,
                "heard": self._heard,
                "rx": bytes(self._rx),
            }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse."""
        with self._lock:
            for offset, (reset, mask) in _PLAIN.items():
                self._regs[offset] = state["regs"].get(str(offset), reset) & mask
            self._ris = state["ris"] & INT_MASK
            self._heard = bool(state["heard"])
            self._rsr = state["rsr"] & 0xF
            self._rx.clear()
            self._rx.extend(state["rx"][: self._depth()])
            self._line = bool(self._ris & self._regs[IMSC])
            self.env.irq.set(self._line)

    def dt_node(self, ctx: DtContext) -> DtNode:
        """Linux's amba-pl011 wants both clocks."""
        clock = ctx.fixed_clock(self.clock_hz)
        return DtNode(
            "serial",
            ("arm,pl011", "arm,primecell"),
            {"clocks": [clock, clock], "clock-names": ["uartclk", "apb_pclk"]},
            alias="serial",
        )
