"""A batch of a queue's work in C (bhyvepy/virtq.py), and what has to be done around it.

Responsible for RAM that must be allocated first, for a dirty log, and for a ring that makes
no sense. What is in a batch is the device's (net.py, blk.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bhyvepy.virtq import Path, Result

from ..base import GuestMemory
from .queue import QueueError

P = TypeVar("P", bound=Path)


def in_core(path: P, memory: GuestMemory, run: Callable[[P], Result]) -> Result:
    """run(), as often as it takes until all the RAM that it wants is there."""
    while True:
        result = run(path)
        # A dirty log that began meanwhile does not know where: it is everywhere.
        memory.wrote((r.gpa, r.buffer.nbytes) for r in path.ram)
        if result is Result.BROKEN:
            raise QueueError(path.why)
        if result is not Result.ABSENT:
            return result
        memory.view(*path.absent)
