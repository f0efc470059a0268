"""What a type of virtio device is, whatever transport carries it.

A VirtioDevice says what it is (id, features, configuration space, queues) and handles
one chain at a time on the transport's I/O thread. Registers, status, interrupts and
threads are the transport's (mmio.py); rings are queue.py's.

What comes from outside, such as frames of a network, waits for buffers instead of being
asked for by them: a queue of `input_queues` is filled by pull(). The I/O thread sleeps on
the descriptors of watch() too, and tells ready() which of them has something. A descriptor
that is reported must not be watched again until pull() has looked: a driver that is gone
must not keep the thread busy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

from .queue import Chain, Queue

# Feature bits of every device (virtio 1.2, section 6).
F_INDIRECT_DESC = 1 << 28
F_EVENT_IDX = 1 << 29
F_VERSION_1 = 1 << 32
# Legacy only: any descriptor layout will do.
F_ANY_LAYOUT = 1 << 27

VENDOR_ID = 0x1AF4


class Transport(Protocol):
    """What a device may ask of its transport, from any thread."""

    def config_changed(self) -> None:
        """Tell the driver that the configuration space is another than before."""
        ...

    def wake(self) -> None:
        """Let the I/O thread look at all queues and at watch()."""
        ...


class NoTransport:
    """Before there is one."""

    def config_changed(self) -> None:
        """Nobody has read it yet."""

    def wake(self) -> None:
        """Nobody sleeps."""


class VirtioDevice(ABC):
    """One type of device; an instance serves one transport."""

    kind: ClassVar[str]
    device_id: ClassVar[int]
    queue_sizes: tuple[int, ...] = (128,)
    features: int = 0  # offered bits of this type
    negotiated: int = 0  # what the driver took; set by the transport
    input_queues: frozenset[int] = frozenset()
    transport: Transport = NoTransport()  # set by the transport

    @abstractmethod
    def handle(self, index: int, chain: Chain) -> int:
        """Do one request of queue `index`; returns the bytes written to chain.writable.

        Called on the I/O thread, one call at a time.
        """

    def serve(self, index: int, queue: Queue) -> bool | None:
        """Do a batch of requests by itself, pushing them; None: chain by chain, with handle().

        Called on the I/O thread. True: there is more, only others should have a turn; False:
        the queue is empty, and the driver was asked to notify.
        """
        return None

    def pull(self, index: int, queue: Queue) -> bool:
        """Move what has arrived into buffers of input queue `index`.

        Called on the I/O thread. True: there is more, only others should have a turn.
        """
        return False

    def stopped(self, index: int) -> None:  # noqa: B027
        """Queue `index` was taken away: chains that pull() keeps are void."""

    def watch(self) -> list[tuple[int, int]]:
        """Descriptors, with poll events, that the I/O thread shall sleep on now."""
        return []

    def ready(self, fd: int, events: int) -> None:  # noqa: B027
        """One of them has something; on the I/O thread."""

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

    def load_queue(self, index: int, queue: Queue) -> None:  # noqa: B027
        """Behind load(): a queue that is ready again."""
