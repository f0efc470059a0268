"""PL031: Arm's real-time clock, in seconds, with an alarm.

It counts with the host's wall clock; the load register moves it against that, for this VM
only. The alarm is an interrupt when the count becomes equal to the match register; a
thread waits for it while one is to come and unmasked, and there is none otherwise.
Arm DDI 0224 (PL031 technical reference manual), chapter 3.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from .base import Device, DeviceEnv, DtContext, DtNode

DR, MR, LR, CR = 0x00, 0x04, 0x08, 0x0C
IMSC, RIS, MIS, ICR = 0x10, 0x14, 0x18, 0x1C
MASK32 = 0xFFFFFFFF
APB_HZ = 24_000_000
# The host's clock may be set while an alarm is waited for: look at it that often.
LOOK_S = 30.0

# PeriphID 0x00041031: Arm's, revision 0.
_IDS = {
    **{0xFE0 + 4 * i: b for i, b in enumerate((0x31, 0x10, 0x04, 0x00))},
    **{0xFF0 + 4 * i: b for i, b in enumerate((0x0D, 0xF0, 0x05, 0xB1))},
}


class PL031(Device):
    """The clock; `now` gives seconds since 1970."""

    kind: ClassVar[str] = "pl031"
    size = 0x1000

    def __init__(self, env: DeviceEnv, now: Callable[[], float] = time.time) -> None:
        super().__init__(env)
        self._now = now
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._line = False
        self._power_on()

    def _power_on(self) -> None:
        self._offset = 0.0  # the count minus the host's clock
        self._load = 0
        self._match = 0
        self._unmasked = 0
        self._raw = 0
        self._due: float | None = None  # the alarm, in the host's time

    # -- the guest's side -------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """A register, in the low bytes; what is not aligned to 4 reads as zero."""
        if offset & 3:
            return 0
        with self._changed:
            self._look()
            register = _READ.get(offset)
            value = _IDS.get(offset, 0) if register is None else register(self)
        return value & ((1 << 8 * size) - 1)

    def write(self, offset: int, size: int, value: int) -> None:
        """A register."""
        if offset & 3:
            return
        with self._changed:
            self._look()
            if offset == MR:
                self._match = value & MASK32
                self._arm()
            elif offset == LR:
                self._load = value & MASK32
                self._offset = self._load - self._now()
                self._arm()
            elif offset == IMSC:
                self._unmasked = value & 1
            elif offset == ICR:
                self._raw &= ~value
            self._update()

    # -- inside, with the lock held ---------------------------------------------------

    def _arm(self) -> None:
        """The next moment the count becomes the match value; a whole turn is never."""
        count = self._now() + self._offset
        ahead = (self._match - int(count)) & MASK32
        if ahead == 0:
            self._raw = 1
            self._due = None
        elif ahead < 1 << 31:
            self._due = self._now() + ahead - count % 1
        else:
            self._due = None

    def _look(self) -> None:
        if self._due is not None and self._now() >= self._due:
            self._raw = 1
            self._due = None

    def _update(self) -> None:
        line = bool(self._raw & self._unmasked)
        if line != self._line:
            self._line = line
            self.env.irq.set(line)
        if self._due is not None and self._unmasked and not self._closed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._wait, name=self.name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _wait(self) -> None:
        """The alarm's thread: ends when there is nothing to wait for."""
        with self._changed:
            while self._due is not None and self._unmasked and not self._closed:
                self._changed.wait(min(max(self._due - self._now(), 0.0), LOOK_S))
                self._look()
                self._update()
            self._thread = None

    # -- the machine's side -------------------------------------------------------------

    def reset(self) -> None:
        """As at power-on: the host's time, no alarm."""
        with self._changed:
            self._power_on()
            self._update()
            self._changed.notify_all()

    def close(self) -> None:
        """End the alarm's thread."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def save(self) -> dict[str, Any]:
        """The registers; the count goes on with the wall clock."""
        with self._changed:
            self._look()
            return {
                "offset": self._offset,
                "load": self._load,
                "match": self._match,
                "unmasked": self._unmasked,
                "raw": self._raw,
                "armed": self._due is not None,
            }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse; an alarm that passed meanwhile rings now."""
        with self._changed:
            self._offset = float(state["offset"])
            self._load = state["load"] & MASK32
            self._match = state["match"] & MASK32
            self._unmasked = state["unmasked"] & 1
            self._raw = state["raw"] & 1
            self._due = None
            if state["armed"]:
                self._arm()
                if self._due is None:
                    self._raw = 1
            self._line = bool(self._raw & self._unmasked)
            self.env.irq.set(self._line)
            self._update()

    def dt_node(self, ctx: DtContext) -> DtNode:
        """An AMBA device: its bus clock is in the node."""
        return DtNode(
            "rtc",
            ("arm,pl031", "arm,primecell"),
            {"clocks": [ctx.fixed_clock(APB_HZ)], "clock-names": "apb_pclk"},
        )


_READ: dict[int, Callable[[PL031], int]] = {
    DR: lambda rtc: int(rtc._now() + rtc._offset) & MASK32,
    MR: lambda rtc: rtc._match,
    LR: lambda rtc: rtc._load,
    CR: lambda rtc: 1,  # it cannot be stopped
    IMSC: lambda rtc: rtc._unmasked,
    RIS: lambda rtc: rtc._raw,
    MIS: lambda rtc: rtc._raw & rtc._unmasked,
}
