"""virtio-rnd: the entropy device (virtio 1.2, 5.4), fed by the host's urandom.

Each request is filled up to 64 KiB: more would let a guest keep the host's generator
busy. A request without room for a byte is put back empty.
"""

from __future__ import annotations

import os
from typing import ClassVar

from .device import VirtioDevice
from .queue import Chain

MAX_REQUEST = 64 * 1024


class VirtioRnd(VirtioDevice):
    """The entropy source; it has no configuration space and no features."""

    kind: ClassVar[str] = "virtio-rnd"
    device_id: ClassVar[int] = 4
    queue_sizes = (64,)

    def handle(self, index: int, chain: Chain) -> int:
        """Random bytes into the writable buffers."""
        done = 0
        for view in chain.writable:
            n = min(len(view), MAX_REQUEST - done)
            view[:n] = os.urandom(n)
            done += n
            if done == MAX_REQUEST:
                break
        return done
