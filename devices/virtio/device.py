"""What a type of virtio device is, whatever transport carries it.

A VirtioDevice says what it is (id, features, configuration space, queues) and handles
one chain at a time on the transport's I/O thread. Registers, status, interrupts and
threads are the transport's (mmio.py); rings are queue.py's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from .queue import Chain

# Feature bits of every device (virtio 1.2, section 6).
F_INDIRECT_DESC = 1 << 28
F_EVENT_IDX = 1 << 29
F_VERSION_1 = 1 << 32
# Legacy only: any descriptor layout will do.
F_ANY_LAYOUT = 1 << 27

VENDOR_ID = 0x1AF4


class VirtioDevice(ABC):
    """One type of device; an instance serves one transport."""

    kind: ClassVar[str]
    device_id: ClassVar[int]
    queue_sizes: tuple[int, ...] = (128,)
    features: int = 0  # offered bits of this type
    negotiated: int = 0  # what the driver took; set by the transport

    @abstractmethod
    def handle(self, index: int, chain: Chain) -> int:
        """Do one request of queue `index`; returns the bytes written to chain.writable.

        Called on the I/O thread, one call at a time.
        """

    def config(self) -> bytes:
        """The configuration space as it is now."""
        return b""

    def config_write(self, offset: int, size: int, value: int) -> None:  # noqa: B027
        """A driver's store to configuration space."""

    def reset(self) -> None:  # noqa: B027
        """The driver reset the device; no request is in flight."""

    def close(self) -> None:  # noqa: B027
        """Give host resources back."""

    def save(self) -> dict[str, Any]:
        """State besides features and rings."""
        return {}

    def load(self, state: dict[str, Any]) -> None:  # noqa: B027
        """The inverse."""
