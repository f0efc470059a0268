"""NS16550A: the serial port that com1 to com4 are, byte registers at stride 1.

The transmitter takes no time: THR is always empty again, so LSR.THRE and LSR.TEMT are
always 1, and "transmission complete" (THRE interrupt) happens at the write of THR. The
receiver holds back the host when its FIFO is full, so overruns happen in loopback only.
A character time-out is taken to have passed at once: input below the trigger level is
reported as a time-out, as bhyve does. Baud rate and frame format are stored, and mean
nothing. Not here: where the bytes go (console.py).

Registers (National Semiconductor PC16550D, table II):

    offset  DLAB=0 read   DLAB=0 write   DLAB=1
    0       RBR           THR            DLL
    1       IER           IER            DLM
    2       IIR           FCR            the same
    3       LCR           LCR
    4       MCR           MCR
    5       LSR           -
    6       MSR           -
    7       SCR           SCR
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from .base import Device, DeviceEnv, DtContext, DtNode, Wire

RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
THR, FCR, DLL, DLM = RBR, IIR, RBR, IER

IER_RX, IER_THRE, IER_RLS, IER_MS = 1, 2, 4, 8

IIR_NONE, IIR_RLS, IIR_TIMEOUT, IIR_RX, IIR_THRE, IIR_MS = 0x01, 0x06, 0x0C, 0x04, 0x02, 0x00
IIR_FIFO = 0xC0

FCR_ENABLE, FCR_RX_RESET, FCR_TX_RESET, FCR_DMA = 0x01, 0x02, 0x04, 0x08
TRIGGER = (1, 4, 8, 14)

LCR_DLAB = 0x80

MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 0x01, 0x02, 0x04, 0x08, 0x10
MCR_MASK = 0x1F

LSR_DR, LSR_OE, LSR_THRE, LSR_TEMT = 0x01, 0x02, 0x20, 0x40
LSR_EMPTY = LSR_THRE | LSR_TEMT

MSR_DCTS, MSR_DDSR, MSR_TERI, MSR_DDCD = 0x01, 0x02, 0x04, 0x08
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
MSR_DELTA = 0x0F
# The other end is always there: clear to send, set ready, carrier.
MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD

FIFO_SIZE = 16


# How long the end may wait for a reader who is slow.
CLOSE_S = 1.0
# A byte is rarely alone: the next ones come with it.
GATHER_S = 0.002


class NS16550A(Device):
    """One serial port."""

    kind: ClassVar[str] = "ns16550a"
    wants_wire: ClassVar[bool] = True
    size = 0x1000

    def __init__(self, env: DeviceEnv, clock_hz: int = 1_843_200) -> None:
        super().__init__(env)
        self.clock_hz = clock_hz
        self._lock = threading.Lock()
        self._irq = env.irq
        self._rx: deque[int] = deque()
        self._line = False
        self._wire: Wire | None = None
        self._out = threading.Lock()  # bytes leave in the order in which they came
        self._thread: threading.Thread | None = None
        self._power_on()
        self._port = env.attach(self)

    def _power_on(self) -> None:
        self._rx.clear()
        self._ier = 0
        self._lcr = 0
        self._mcr = 0
        self._scr = 0
        self._dll = 0
        self._dlm = 0
        self._fifo = False
        self._trigger = 1
        self._heard = False  # the guest reads, or waits for, input
        self._overrun = False
        self._thre_pending = False  # the THRE interrupt is armed
        self._msr = MSR_CONNECTED

    # -- the guest's side ---------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """A register; 2- and 4-byte loads see it in the low byte."""
        if offset > SCR or size == 8 or offset & (size - 1):
            return 0
        room = False
        touched = False
        with self._held():
            if offset == RBR:
                if self._lcr & LCR_DLAB:
                    return self._dll
                touched = self._heard = True
                value = 0
                if self._rx:
                    value = self._rx.popleft()
                    room = not self._rx  # refill in bursts, not byte by byte
            elif offset == IER:
                value = self._dlm if self._lcr & LCR_DLAB else self._ier
            elif offset == IIR:
                cause = self._cause()
                if cause == IIR_THRE:
                    # Reading IIR clears THRE only when it is what is reported.
                    self._thre_pending = False
                value = cause | (IIR_FIFO if self._fifo else 0)
            elif offset == LCR:
                value = self._lcr
            elif offset == MCR:
                value = self._mcr
            elif offset == LSR:
                value = self._lsr()
                self._overrun = False
            elif offset == MSR:
                value = self._msr
                self._msr &= ~MSR_DELTA
            else:
                value = self._scr
        # The port may come back with push(): no lock held here.
        if touched:
            self._port.touched()
            if room:
                self._port.space()
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """A register; 2- and 4-byte stores write the low byte."""
        value &= 0xFF
        if offset > SCR or size == 8 or offset & (size - 1):
            return
        room = False
        send = b""
        with self._held():
            if offset == THR:
                if self._lcr & LCR_DLAB:
                    self._dll = value
                elif self._mcr & MCR_LOOP:
                    self._receive(value)
                    self._thre_pending = True
                else:
                    if self._wire is None or not self._wire.put(value):
                        send = bytes((value,))
                    self._thre_pending = True
            elif offset == IER:
                if self._lcr & LCR_DLAB:
                    self._dlm = value
                else:
                    if value & ~self._ier & IER_THRE:
                        self._thre_pending = True  # THR is empty: enabling it raises it
                    self._ier = value & 0x0F
                    self._heard |= bool(value & IER_RX)
            elif offset == FCR:
                room = self._set_fcr(value)
            elif offset == LCR:
                self._lcr = value
            elif offset == MCR:
                self._mcr = value & MCR_MASK
                self._set_modem()
            elif offset == SCR:
                self._scr = value
        if send:
            self.drain()  # what came before
            self._port.send(send)
        if room:
            self._port.space()

    # -- the host's side ----------------------------------------------------------

    def push(self, data: bytes) -> int:
        """Host input: as much as the FIFO has room for; the caller keeps the rest."""
        with self._held():
            if self._mcr & MCR_LOOP:
                return len(data)  # the wire is cut off: input is lost
            room = max(self._depth() - len(self._rx), 0)
            taken = data[:room]
            if taken:
                self._rx.extend(taken)
            return len(taken)

    def recall(self) -> bytes:
        """Host input that the guest has not read; what it sent itself in a loop is its own."""
        with self._held():
            if self._mcr & MCR_LOOP:
                return b""
            data = bytes(self._rx)
            self._rx.clear()
            return data

    # -- inside, with the lock held -------------------------------------------------

    def _depth(self) -> int:
        return FIFO_SIZE if self._fifo else 1

    def _receive(self, value: int) -> None:
        """A character from the loop, which cannot be held back."""
        if len(self._rx) < self._depth():
            self._rx.append(value)
            return
        self._overrun = True
        if not self._fifo:
            self._rx[0] = value  # without a FIFO the new character replaces the old

    def _set_fcr(self, value: int) -> bool:
        """Returns whether there is room for host input now that there was not."""
        full = len(self._rx) >= self._depth()
        enable = bool(value & FCR_ENABLE)
        if enable != self._fifo:
            self._fifo = enable
            self._flush()
            self._overrun = False
            self._trigger = 1
        if enable:
            if value & FCR_RX_RESET:
                self._flush()
            self._trigger = TRIGGER[value >> 6]
        return full and len(self._rx) < self._depth()

    def _flush(self) -> None:
        """A driver clears the FIFO of noise as it sets the port up. The host's input is none:
        what came before the guest could take any stays."""
        if self._heard:
            self._rx.clear()

    def _set_modem(self) -> None:
        if self._mcr & MCR_LOOP:
            # RTS -> CTS, DTR -> DSR, OUT1 -> RI, OUT2 -> DCD (PC16550D, 8.6.7).
            now = 0
            for out, line in (
                (MCR_RTS, MSR_CTS),
                (MCR_DTR, MSR_DSR),
                (MCR_OUT1, MSR_RI),
                (MCR_OUT2, MSR_DCD),
            ):
                if self._mcr & out:
                    now |= line
        else:
            now = MSR_CONNECTED
        changed = (self._msr ^ now) & ~MSR_DELTA
        delta = (changed >> 4) & (MSR_DCTS | MSR_DDSR | MSR_DDCD)
        if self._msr & MSR_RI and not now & MSR_RI:
            delta |= MSR_TERI  # trailing edge only
        self._msr = now | (self._msr & MSR_DELTA) | delta

    def _lsr(self) -> int:
        return LSR_EMPTY | (LSR_DR if self._rx else 0) | (LSR_OE if self._overrun else 0)

    def _rx_cause(self) -> int:
        if not self._rx:
            return IIR_NONE
        return IIR_TIMEOUT if self._fifo and len(self._rx) < self._trigger else IIR_RX

    def _cause(self) -> int:
        """The enabled cause of highest priority, as IIR bits 3:0."""
        ier = self._ier
        if ier & IER_RLS and self._overrun:
            return IIR_RLS
        if ier & IER_RX and self._rx:
            return self._rx_cause()
        if ier & IER_THRE and self._thre_pending:
            return IIR_THRE
        if ier & IER_MS and self._msr & MSR_DELTA:
            return IIR_MS
        return IIR_NONE

    @contextmanager
    def _held(self) -> Iterator[None]:
        """With the lock, and all of the state here; the line and the wire follow at the end."""
        with self._lock:
            if self._wire is not None:
                self._ier, self._thre_pending = self._wire.hold()
            yield
            self._update()

    def _update(self) -> None:
        if self._wire is not None:
            self._tell(self._wire)
            return
        line = self._cause() != IIR_NONE
        if line != self._line:
            self._line = line
            self._irq.set(line)

    # -- the transmitter in the core ------------------------------------------------

    def use_wire(self, wire: Wire) -> None:
        """From now on bytes come from the wire too, on a thread of their own."""
        with self._lock:
            self._wire = wire
            self._update()
        self._thread = threading.Thread(target=self._carry, args=(wire,), daemon=True)
        self._thread.start()

    def _tell(self, wire: Wire) -> None:
        wire.set(
            plain=not self._lcr & LCR_DLAB and not self._mcr & MCR_LOOP,
            ier=self._ier,
            thre=self._thre_pending,
            rx=self._rx_cause(),
            fifo=IIR_FIFO if self._fifo else 0,
            lsr=self._lsr(),
            msr=self._msr,
        )

    def _carry(self, wire: Wire) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while self._wire is not None:
            os.eventfd_read(wire.fd)
            time.sleep(GATHER_S)
            self.drain()

    def drain(self) -> None:
        """What is on the wire goes to the port, before anything that comes later."""
        with self._out:
            if self._wire is not None and (data := self._wire.take()):
                self._port.send(data)

    def close(self) -> None:
        """The wire is taken down."""
        self.drain()
        wire, thread = self._wire, self._thread
        if wire is None or thread is None:
            return
        with self._lock:
            self._ier, self._thre_pending = wire.hold()
            self._wire = None
        os.eventfd_write(wire.fd, 1)
        thread.join(CLOSE_S)
        if not thread.is_alive():
            wire.close()

    # -- the machine's side ---------------------------------------------------------

    def reset(self) -> None:
        """Registers, FIFO and line as at power-on."""
        with self._held():
            self._power_on()
        self._port.space()

    def save(self) -> dict[str, Any]:
        """Every register and the receive FIFO."""
        with self._held():
            return {
                "rx": bytes(self._rx),
                "ier": self._ier,
                "lcr": self._lcr,
                "mcr": self._mcr,
                "scr": self._scr,
                "dll": self._dll,
                "dlm": self._dlm,
                "fifo": self._fifo,
                "trigger": self._trigger,
                "heard": self._heard,
                "overrun": self._overrun,
                "thre_pending": self._thre_pending,
                "msr": self._msr,
            }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse; the interrupt line is driven anew."""
        with self._held():
            self._ier = state["ier"] & 0x0F
            self._lcr = state["lcr"] & 0xFF
            self._mcr = state["mcr"] & MCR_MASK
            self._scr = state["scr"] & 0xFF
            self._dll = state["dll"] & 0xFF
            self._dlm = state["dlm"] & 0xFF
            self._fifo = bool(state["fifo"])
            self._trigger = state["trigger"] if state["trigger"] in TRIGGER else 1
            self._heard = bool(state["heard"])
            self._rx.clear()
            self._rx.extend(state["rx"][: self._depth()])
            self._overrun = bool(state["overrun"])
            self._thre_pending = bool(state["thre_pending"])
            self._msr = state["msr"] & 0xFF

    def dt_node(self, ctx: DtContext) -> DtNode:
        """As 8250_of and FreeBSD's ns8250 expect it: clock-frequency is required."""
        return DtNode(
            "serial",
            ("ns16550a",),
            {
                "clock-frequency": self.clock_hz,
                "current-speed": 115200,
                "reg-shift": 0,
                "reg-io-width": 1,
            },
            alias="serial",
        )
