"""bvmconsole: the paravirtual console of old FreeBSD kernels, one 4-byte register.

    load of 2 bytes   signature 'b' << 8 | 'v'
    load of 1 byte    0xff, so that a probe for an ISA device finds nothing
    load of 4 bytes   the next input byte, or all ones when there is none
    store of 4 bytes  the low byte is output
    anything else     zero, ignored

It has no interrupt: the guest polls. Where the bytes go is console.py's business.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any, ClassVar

from .base import Device, DeviceEnv

SIGNATURE = ord("b") << 8 | ord("v")
NO_INPUT = 0xFFFFFFFF
# The guest polls four times a second and takes up to 16 bytes each time.
QUEUE = 64


class BvmConsole(Device):
    """The console at 0x90000."""

    kind: ClassVar[str] = "bvmconsole"
    size = 4

    def __init__(self, env: DeviceEnv) -> None:
        super().__init__(env)
        self._rx: deque[int] = deque()  # its operations are atomic
        self._port = env.attach(self)

    def read(self, offset: int, size: int) -> int:
        """Signature or input, by the size of the load."""
        if size == 1:
            return 0xFF
        if offset != 0:
            return 0
        if size == 2:
            return SIGNATURE
        if size != 4:
            return 0
        self._port.touched()
        try:
            value = self._rx.popleft()
        except IndexError:
            return NO_INPUT
        if not self._rx:
            self._port.space()
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Output of one byte."""
        if offset == 0 and size == 4:
            self.env.settle()
            self._port.send(bytes((value & 0xFF,)))

    def push(self, data: bytes) -> int:
        """Host input, as much as there is room for."""
        taken = data[: max(QUEUE - len(self._rx), 0)]
        self._rx.extend(taken)
        return len(taken)

    def recall(self) -> bytes:
        """Input that the guest left here."""
        data = bytearray()
        while self._rx:
            with suppress(IndexError):  # the guest was quicker
                data.append(self._rx.popleft())
        return bytes(data)

    def reset(self) -> None:
        """Input that was not read is gone."""
        self._rx.clear()
        self._port.space()

    def save(self) -> dict[str, Any]:
        """Input that was not read."""
        return {"rx": bytes(self._rx)}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self._rx.clear()
        self._rx.extend(state["rx"][:QUEUE])
