"""PL061: Arm's GPIO controller, eight lines, one of which is the power button.

Responsible for the registers (Arm DDI 0190, PL061 technical reference manual, chapter 3)
and for the button: a key on line 3, as on other virtual machines, which is pressed for a
moment when the machine shall be switched off in order. Whether the guest listens, and
what happens when it does not, is the runner's business (bhyverun.py).
"""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from .base import Device, DeviceEnv, DtContext, DtNode

LINES = 0xFF
POWER_LINE = 3
# How long a finger stays on the button: drivers wait out a bouncing contact.
PRESS_S = 0.1
APB_HZ = 24_000_000

DATA_END = 0x400
DIR, IS, IBE, IEV, IE, RIS, MIS, IC, AFSEL = range(0x400, 0x424, 4)

KEY_POWER = 116  # <linux/input-event-codes.h>

# PeriphID 0x00041061: Arm's, revision 0.
_IDS = {
    **{0xFE0 + 4 * i: b for i, b in enumerate((0x61, 0x10, 0x04, 0x00))},
    **{0xFF0 + 4 * i: b for i, b in enumerate((0x0D, 0xF0, 0x05, 0xB1))},
}


class PL061(Device):
    """Eight lines."""

    kind: ClassVar[str] = "pl061"
    size = 0x1000

    def __init__(self, env: DeviceEnv) -> None:
        super().__init__(env)
        self._lock = threading.Lock()
        self._inputs = 0  # what the outside drives
        self._timer: threading.Timer | None = None
        self._closed = False
        self._power_on()

    def _power_on(self) -> None:
        self._out = 0
        self._regs = dict.fromkeys((DIR, IS, IBE, IEV, IE, AFSEL), 0)
        self._edges = 0  # edges that were seen and not cleared
        self._levels = self._lines()

    # -- the guest's side -------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """A register, in the low byte; what is not aligned to 4 reads as zero."""
        if offset & 3:
            return 0
        with self._lock:
            if offset < DATA_END:
                return self._lines() & offset >> 2
            if offset == RIS:
                return self._raw()
            if offset == MIS:
                return self._raw() & self._regs[IE]
            return self._regs.get(offset, _IDS.get(offset, 0))

    def write(self, offset: int, size: int, value: int) -> None:
        """A register; address bits 9 to 2 are the mask of the data register."""
        if offset & 3:
            return
        with self._lock:
            if offset < DATA_END:
                mask = offset >> 2
                self._out = self._out & ~mask | value & mask
            elif offset == IC:
                self._edges &= ~value
            elif offset in self._regs:
                self._regs[offset] = value & LINES
            self._settle()

    # -- the lines --------------------------------------------------------------------

    def _lines(self) -> int:
        """What is on the lines: our output where it is one, the outside elsewhere."""
        way = self._regs[DIR]
        return self._out & way | self._inputs & ~way & LINES

    def _raw(self) -> int:
        """Level-sensitive lines as they are, and the edges of the others (3.3.8)."""
        sense, event = self._regs[IS], self._regs[IEV]
        return (~(self._levels ^ event) & sense | self._edges & ~sense) & LINES

    def _settle(self) -> None:
        """Look for edges, and drive the interrupt; lock held."""
        old, self._levels = self._levels, self._lines()
        changed = old ^ self._levels
        wanted = self._regs[IBE] | ~(self._levels ^ self._regs[IEV])
        self._edges |= changed & wanted & ~self._regs[IS] & LINES
        self.env.irq.set(bool(self._raw() & self._regs[IE]))

    def drive(self, line: int, high: bool) -> None:
        """The outside changes an input; any thread."""
        with self._lock:
            self._inputs = self._inputs & ~(1 << line) | high << line
            self._settle()

    # -- the button ---------------------------------------------------------------------

    @property
    def listening(self) -> bool:
        """Whether the guest has an interrupt on the button."""
        return bool(self._regs[IE] >> POWER_LINE & 1)

    def press(self) -> None:
        """Press the button for a moment; any thread."""
        self.drive(POWER_LINE, True)
        with self._lock:
            if self._timer is not None or self._closed:
                return
            self._timer = threading.Timer(PRESS_S, self._release)
            self._timer.daemon = True
        self._timer.start()

    def _release(self) -> None:
        self._timer = None
        if not self._closed:
            self.drive(POWER_LINE, False)

    # -- the machine's side --------------------------------------------------------------

    def reset(self) -> None:
        """All lines are inputs; the outside stays as it is."""
        with self._lock:
            self._power_on()
            self.env.irq.set(False)

    def close(self) -> None:
        """No finger stays on the button."""
        with self._lock:
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()

    def save(self) -> dict[str, Any]:
        """The registers."""
        with self._lock:
            return {"out": self._out, "edges": self._edges, "regs": dict(self._regs)}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse; nobody presses."""
        with self._lock:
            self._out = state["out"] & LINES
            self._regs = {k: state["regs"][k] & LINES for k in self._regs}
            self._levels = self._lines()
            self._edges = state["edges"] & LINES
            self.env.irq.set(bool(self._raw() & self._regs[IE]))

    def dt_node(self, ctx: DtContext) -> DtNode:
        """The controller, and a key that refers to it (gpio-keys)."""
        own = ctx.phandle()
        button = DtNode(
            "poweroff",
            (),
            {
                "label": "Power button",
                "linux,code": KEY_POWER,
                "gpios": [own, POWER_LINE, 0],  # active high
            },
        )
        ctx.beside(DtNode("gpio-keys", ("gpio-keys",), children=(button,)))
        return DtNode(
            "gpio",
            ("arm,pl061", "arm,primecell"),
            {
                "clocks": [ctx.fixed_clock(APB_HZ)],
                "clock-names": "apb_pclk",
                "gpio-controller": True,
                "#gpio-cells": 2,
                "phandle": own,
            },
        )
