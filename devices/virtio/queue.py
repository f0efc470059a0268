"""The device side of a virtio split virtqueue (virtio 1.2, section 2.7).

Responsible for taking chains of buffers that a driver made available, for putting them
back with a length, and for saying when the driver wants to hear of it. Not for
registers, interrupts or threads (mmio.py), nor for what the buffers hold.

Everything in a ring is the guest's, and may change at any time. So: each descriptor is
copied once, the copy is checked, the copy is used. A broken chain whose head is known
is put back with length 0; a ring whose indices make no sense is dead until reset
(QueueError). Both end: no loop here is longer than the queue.

Rings are read and written with 16- and 32-bit accesses through typed memoryviews, which
are single loads and stores on the x86-64 hosts that we run on.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bhyvepy.membarrier import full_barrier

from ..base import DeviceError, GuestFault, GuestLog, GuestMemory

DESC_F_NEXT, DESC_F_WRITE, DESC_F_INDIRECT = 1, 2, 4
AVAIL_F_NO_INTERRUPT = 1
USED_F_NO_NOTIFY = 1

MAX_QUEUE_SIZE = 32768
MAX_CHAIN_BYTES = 1 << 32

_DESC = struct.Struct("<QIHH")
DESC_SIZE = _DESC.size


class QueueError(Exception):
    """The ring itself makes no sense: the device needs a reset."""


class ChainError(Exception):
    """One chain makes no sense; its head can be put back."""


@dataclass
class Chain:
    """Buffers of one request: all that is readable comes before all that is writable.

    Empty buffers are left out.
    """

    head: int
    readable: list[memoryview] = field(default_factory=list)
    writable: list[memoryview] = field(default_factory=list)


def legacy_layout(base: int, size: int, align: int) -> tuple[int, int, int]:
    """(desc, avail, used) of a queue that is one block of memory (virtio 1.2, 2.7.2)."""
    avail = base + DESC_SIZE * size
    used = (avail + 6 + 2 * size + align - 1) & ~(align - 1)
    return base, avail, used


class Queue:
    """One virtqueue. `num`, `desc`, `avail` and `used` are set before enable()."""

    def __init__(self, memory: GuestMemory, max_size: int, log: GuestLog) -> None:
        if max_size < 1 or max_size & (max_size - 1) or max_size > MAX_QUEUE_SIZE:
            raise DeviceError(f"a queue of {max_size} is not a power of two up to 32768")
        self.memory = memory
        self.max_size = max_size
        self._log = log
        self.reset()

    def reset(self) -> None:
        """As never set up: no view of guest memory is kept."""
        self.num = self.max_size
        self.desc = self.avail = self.used = 0
        self.ready = False
        self.event_idx = False
        self.indirect = False
        self.last_avail = 0
        self.used_idx = 0
        self._signalled = 0
        self._spans: dict[int, list[tuple[int, int]]] = {}  # head -> what a device may write
        self._desc_view = memoryview(b"")
        self._avail_view = memoryview(b"")
        self._used16 = memoryview(b"")
        self._used32 = memoryview(b"")

    # -- set-up -----------------------------------------------------------------------

    def enable(self, event_idx: bool, indirect: bool) -> bool:
        """Check the rings and start using them; False (and a complaint) if they are bad."""
        try:
            self._map(event_idx, indirect)
        except (QueueError, GuestFault) as err:
            self._log.complain(f"queue refused: {err}")
            return False
        self.ready = True
        return True

    def _map(self, event_idx: bool, indirect: bool) -> None:
        n = self.num
        if n < 1 or n & (n - 1) or n > self.max_size:
            raise QueueError(f"size {n} is not a power of two up to {self.max_size}")
        for what, addr, align in (
            ("descriptor table", self.desc, 16),
            ("available ring", self.avail, 2),
            ("used ring", self.used, 4),
        ):
            if addr & (align - 1):
                raise QueueError(f"{what} at {addr:#x} is not aligned to {align}")
        tail = 2 if event_idx else 0
        avail_len = 4 + 2 * n + tail
        used_len = 4 + 8 * n + tail
        for what, addr, length in (
            ("descriptor table", self.desc, DESC_SIZE * n),
            ("available ring", self.avail, avail_len),
        ):
            if self.used < addr + length and addr < self.used + used_len:
                raise QueueError(f"used ring overlaps the {what}")
        desc = self.memory.view(self.desc, DESC_SIZE * n, False)
        avail = self.memory.view(self.avail, avail_len, False)
        used = self.memory.view(self.used, used_len, True)
        self._desc_view = desc
        self._avail_view = avail.cast("H")
        self._used16 = used.cast("H")
        self._used32 = used[: 4 + 8 * n].cast("I")
        self.event_idx = event_idx
        self.indirect = indirect

    def disable(self) -> None:
        """Forget the rings; the driver's settings stay."""
        self.ready = False
        self._spans.clear()
        self.last_avail = self.used_idx = self._signalled = 0
        self._desc_view = self._avail_view = memoryview(b"")
        self._used16 = self._used32 = memoryview(b"")

    # -- taking chains ------------------------------------------------------------------

    def pop(self) -> Chain | None:
        """The next chain, or None; broken chains are put back on the way (length 0).

        Looks at most at one queue's worth of chains; QueueError when the indices of the
        ring make no sense.
        """
        for _ in range(self.num):
            avail = self._avail_view
            waiting = (avail[1] - self.last_avail) & 0xFFFF
            if waiting == 0:
                return None
            if waiting > self.num:
                raise QueueError(f"{waiting} chains available in a queue of {self.num}")
            head = avail[2 + (self.last_avail & (self.num - 1))]
            if head >= self.num:
                raise QueueError(f"head {head} in a queue of {self.num}")
            self.last_avail = (self.last_avail + 1) & 0xFFFF
            try:
                return self._walk(head)
            except (ChainError, GuestFault) as err:
                self._log.complain(f"bad chain at head {head}: {err}")
                self.push(head, 0)
        return None

    def unpop(self) -> None:
        """The chain that pop() returned last was not touched: it is still there."""
        self.last_avail = (self.last_avail - 1) & 0xFFFF

    def again(self, head: int) -> Chain | None:
        """A chain that was taken before the state was saved; None if it is none any more."""
        try:
            return self._walk(head) if 0 <= head < self.num else None
        except (ChainError, GuestFault):
            return None

    def _walk(self, head: int) -> Chain:
        chain = Chain(head)
        readable, writable = chain.readable, chain.writable
        view = self.memory.view
        table, size = self._desc_view, self.num
        in_indirect = False
        index = head
        total = count = 0
        seen_writable = False
        spans: list[tuple[int, int]] = []
        # A chain is no longer than the queue, indirect or not, so a loop ends here.
        for _ in range(self.num + 1):
            addr, length, flags, following = _DESC.unpack_from(table, index * DESC_SIZE)
            if flags & DESC_F_INDIRECT:
                if not self.indirect:
                    raise ChainError("indirect descriptor, not negotiated")
                if in_indirect:
                    raise ChainError("indirect descriptor in an indirect table")
                if flags & DESC_F_NEXT:
                    raise ChainError("indirect descriptor with NEXT")
                if not length or length % DESC_SIZE:
                    raise ChainError(f"indirect table of {length} bytes")
                size = length // DESC_SIZE
                if size > MAX_QUEUE_SIZE:
                    raise ChainError(f"indirect table of {size} descriptors")
                table, in_indirect, index = view(addr, length, False), True, 0
                continue
            count += 1
            if count > self.num:
                raise ChainError(f"more than {self.num} descriptors")
            total += length
            if total > MAX_CHAIN_BYTES:
                raise ChainError("more than 4 GiB")
            if flags & DESC_F_WRITE:
                seen_writable = True
                if length:
                    writable.append(view(addr, length, True))
                    spans.append((addr, length))
            elif seen_writable:
                raise ChainError("readable descriptor after a writable one")
            elif length:
                readable.append(view(addr, length, False))
            if not flags & DESC_F_NEXT:
                self._spans[head] = spans
                return chain
            if following >= size:
                raise ChainError(f"next {following} in a table of {size}")
            index = following
        raise ChainError(f"more than {self.num} descriptors, or a loop")

    # -- giving them back -----------------------------------------------------------------

    def push(self, head: int, length: int) -> None:
        """Put a chain into the used ring: `length` bytes of it were written."""
        at = 1 + 2 * (self.used_idx & (self.num - 1))
        self._used32[at] = head
        self._used32[at + 1] = length & 0xFFFFFFFF
        self.used_idx = (self.used_idx + 1) & 0xFFFF
        # x86 keeps stores in order: the element is visible before the index.
        self._used16[1] = self.used_idx
        self._wrote([head])

    def push_many(self, done: Sequence[tuple[int, int]]) -> None:
        """Put (head, length) pairs back; the driver sees all of them or none."""
        used32, mask, at = self._used32, self.num - 1, self.used_idx
        for head, length in done:
            slot = 1 + 2 * (at & mask)
            used32[slot] = head
            used32[slot + 1] = length & 0xFFFFFFFF
            at = (at + 1) & 0xFFFF
        self.used_idx = at
        self._used16[1] = at
        self._wrote([head for head, _ in done])

    def _wrote(self, heads: Sequence[int]) -> None:
        """Buffers and the used ring have changed, for whoever copies memory meanwhile."""
        spans = [span for head in heads for span in self._spans.pop(head, ())]
        spans.append((self.used, 6 + 8 * self.num))
        self.memory.wrote(spans)

    def needs_interrupt(self) -> bool:
        """Whether the driver wants to hear of what was pushed since the last yes."""
        new, old = self.used_idx, self._signalled
        if new == old:
            return False
        full_barrier()  # the index is out before we look at what the driver wants
        if not self.event_idx:
            self._signalled = new
            return not self._avail_view[0] & AVAIL_F_NO_INTERRUPT
        event = self._avail_view[2 + self.num]  # used_event
        self._signalled = new
        return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF

    def quiet(self) -> None:
        """Tell the driver that it need not notify: we are looking anyway."""
        if not self.event_idx:
            self._used16[0] = USED_F_NO_NOTIFY

    def listen(self) -> bool:
        """Ask for a notification of the next chain; True if one came already."""
        if self.event_idx:
            self._used16[2 + 4 * self.num] = self.last_avail  # avail_event
        else:
            self._used16[0] = 0
        full_barrier()
        return bool(self._avail_view[1] != self.last_avail)

    # -- state ------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Settings and positions; the rings are in guest memory."""
        return {
            "num": self.num,
            "desc": self.desc,
            "avail": self.avail,
            "used": self.used,
            "ready": self.ready,
            "event_idx": self.event_idx,
            "indirect": self.indirect,
            "last_avail": self.last_avail,
            "used_idx": self.used_idx,
            "signalled": self._signalled,
        }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse; a queue whose rings are no longer there is not ready."""
        self.reset()
        self.num, self.desc = state["num"], state["desc"]
        self.avail, self.used = state["avail"], state["used"]
        if state["ready"] and self.enable(bool(state["event_idx"]), bool(state["indirect"])):
            self.last_avail = state["last_avail"] & 0xFFFF
            self.used_idx = state["used_idx"] & 0xFFFF
            self._signalled = state["signalled"] & 0xFFFF
