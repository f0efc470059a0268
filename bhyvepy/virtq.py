"""The data paths of virtio-net and virtio-blk in C (vmmcore/virtio), for a queue of devices/virtio.

Responsible for handing a queue's position and the guest's RAM to C and for taking the position
back. What a result means for a device is the device's (devices/virtio/net.py, blk.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from bhyvepy._vmmcore import ffi, lib


@dataclass(frozen=True)
class Ram:
    """A range of guest RAM and where this process has it."""

    gpa: int
    buffer: memoryview  # writable if the range is
    present: memoryview | None = None  # a byte for each chunk that is allocated; None: all are
    offset: int = 0  # of the buffer, from where the chunks begin
    chunk: int = 1


class Result(IntEnum):
    """Why a batch ended (virtio/virtnet.h)."""

    EMPTY = lib.VIRTNET_EMPTY
    IDLE = lib.VIRTNET_IDLE
    MORE = lib.VIRTNET_MORE
    BROKEN = lib.VIRTNET_BROKEN
    ABSENT = lib.VIRTNET_ABSENT
    TURN = lib.VIRTNET_TURN
    LONG = lib.VIRTNET_LONG  # not for C: the next chain, or anything just now


class Position(Protocol):
    """A queue as far as C sees it."""

    num: int
    desc: int
    avail: int
    used: int
    event_idx: bool
    indirect: bool
    last_avail: int
    used_idx: int


def _address(view: memoryview) -> Any:
    """Where it is, for as long as there is the view: nothing exported is closed or moved.

    No cdata is kept that holds the view: the collector may clear the view first, and cffi
    then gives back what is not there any more.
    """
    return ffi.cast("void *", ffi.from_buffer(view))


class Path:
    """A queue's way through C."""

    def __init__(self, ram: Sequence[Ram]) -> None:
        self.ram = ram
        self._table = ffi.new("struct virtq_ram[]", max(len(ram), 1))
        for r, row in zip(ram, self._table, strict=False):
            row.gpa, row.len, row.base = r.gpa, r.buffer.nbytes, _address(r.buffer)
            row.present = ffi.NULL if r.present is None else _address(r.present)
            row.offset, row.chunk, row.writable = r.offset, r.chunk, not r.buffer.readonly
        self._queue = ffi.new("struct virtq *")
        self._queue.ram, self._queue.nram = self._table, len(ram)

    def _run(self, work: Callable[[Any, Any], int], card: Any, queue: Position) -> Result:
        """A batch; the queue's position follows."""
        q = self._queue
        q.desc, q.avail, q.used, q.num = queue.desc, queue.avail, queue.used, queue.num
        q.event_idx, q.indirect = queue.event_idx, queue.indirect
        q.last_avail, q.used_idx = queue.last_avail, queue.used_idx
        q.shown = queue.used_idx
        result = work(q, card)
        queue.last_avail, queue.used_idx = q.last_avail, q.used_idx
        return Result(result)

    @property
    def why(self) -> str:
        """What was wrong with the last bad chain or with the ring."""
        return ffi.string(self._queue.why).decode() if self._queue.why != ffi.NULL else ""

    @property
    def absent(self) -> tuple[int, int, bool]:
        """(address, length, write) of what must be allocated first."""
        q = self._queue
        return q.absent_gpa, q.absent_len, q.absent_write


class NetPath(Path):
    """One direction of a card: its settings are fields of `card` (struct virtnet)."""

    def __init__(self, ram: Sequence[Ram]) -> None:
        super().__init__(ram)
        self.card: Any = ffi.new("struct virtnet *")

    def run(self, receive: bool, queue: Position) -> Result:
        """A batch of frames."""
        return self._run(lib.virtnet_receive if receive else lib.virtnet_send, self.card, queue)


class BlkPath(Path):
    """A disk: its settings are fields of `disk` (struct virtblk)."""

    def __init__(self, ram: Sequence[Ram]) -> None:
        super().__init__(ram)
        self.disk: Any = ffi.new("struct virtblk *")

    def run(self, queue: Position) -> Result:
        """A batch of plain reads and writes."""
        return self._run(lib.virtblk_serve, self.disk, queue)
