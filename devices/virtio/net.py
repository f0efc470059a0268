"""virtio-net: a network card (virtio 1.2, 5.1) with one pair of queues.

Responsible for frames between buffers and a back end (netback.py), mergeable buffers,
and the configuration space: MAC, link status, MTU. Offloads are the back end's, which
gets the driver's header if the driver took them, and else one that asks for nothing.

Frames are read straight into the driver's buffers, with a spare behind them that shows
whether one was too long. The buffers have to be known first: chains that were taken for a
frame and not needed are kept for the next one.
"""

from __future__ import annotations

import os
import re
import select
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import md5
from typing import Any, ClassVar

from bhyvepy.errors import printable
from bhyvepy.virtq import NetPath, Result

from ..base import DeviceError, GuestLog
from ..netback import (
    F_CSUM,
    F_GUEST_CSUM,
    F_GUEST_TSO4,
    F_GUEST_TSO6,
    SEND_WAIT_MS,
    Backend,
    open_backend,
)
from .device import F_VERSION_1, VirtioDevice
from .incore import in_core
from .queue import Chain, Queue

F_MTU, F_MAC, F_MRG_RXBUF, F_STATUS = 1 << 3, 1 << 5, 1 << 15, 1 << 16
S_LINK_UP = 1

RX, TX = 0, 1
QUEUE_SIZE = 256

# struct virtio_net_hdr; num_buffers is only there with VERSION_1 or MRG_RXBUF.
HEADER, SHORT_HEADER = 12, 10
ETHER_HEADER = 14
MTU_MIN, MTU_MAX = 68, 65535
# What a frame has around its packet: addresses, type, a VLAN tag.
FRAMING = 18
FRAME_MAX = MTU_MAX + FRAMING
# Frames that are read before the other queue gets a turn.
BATCH = 32

# gso_type of the header, and who takes it.
GSO_ECN = 0x80
_LARGE = {1: F_GUEST_TSO4, 4: F_GUEST_TSO6}

# FreeBSD's OUI for bhyve.
OUI = bytes.fromhex("589cfc")

_MAC = re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}", re.ASCII)


@dataclass(frozen=True)
class NetOptions:
    """What ``-s n,virtio-net,...`` can say."""

    backend: str = "slirp"
    mac: bytes = b""
    mtu: int | None = None

    KNOWN: ClassVar[frozenset[str]] = frozenset(
        {"backend", "type", "mac", "mtu", "hostfwd", "open", "bootindex"}
    )

    @staticmethod
    def parse(options: Mapping[str, str]) -> NetOptions:
        """From key=value pairs; DeviceError names the first that is wrong."""
        for key in options:
            if key not in NetOptions.KNOWN:
                names = ", ".join(sorted(NetOptions.KNOWN - {"backend", "type"}))
                raise DeviceError(
                    f"virtio-net has no option {printable(key, 40)!r}; it has {names}"
                )
        text = options.get("mtu")
        mtu = int(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else None
        if text is not None and (mtu is None or not MTU_MIN <= mtu <= MTU_MAX):
            raise DeviceError(
                f"virtio-net: mtu={printable(text, 20)} is not {MTU_MIN} to {MTU_MAX}"
            )
        mac = parse_mac(options["mac"]) if "mac" in options else b""
        return NetOptions(options.get("backend", "slirp"), mac, mtu)


def parse_mac(text: str) -> bytes:
    """A unicast MAC address that is not all zeroes; DeviceError."""
    if not _MAC.fullmatch(text):
        raise DeviceError(
            f"virtio-net: mac={printable(text, 40)} is not of the form 58:9c:fc:01:02:03"
        )
    mac = bytes(int(p, 16) for p in text.split(":"))
    if mac[0] & 1 or not any(mac):
        raise DeviceError(f"virtio-net: mac={printable(text, 40)} is not a unicast address")
    return mac


def default_mac(place: str, vm: str) -> bytes:
    """bhyve's: from the MD5 of place and VM, so that it stays the same from run to run."""
    return OUI + md5(f"{place}-{vm}".encode(errors="replace"), usedforsecurity=False).digest()[:3]


@dataclass
class _Room:
    """A chain that waits for a frame."""

    head: int
    views: list[memoryview]
    size: int


class VirtioNet(VirtioDevice):
    """One card."""

    kind: ClassVar[str] = "virtio-net"
    device_id: ClassVar[int] = 1
    queue_sizes = (QUEUE_SIZE, QUEUE_SIZE)
    input_queues = frozenset({RX})
    fast = True  # take what NetPath can do

    def __init__(
        self,
        backend: Backend,
        mac: bytes,
        mtu: int | None = None,
        log: GuestLog | None = None,
    ) -> None:
        self.backend = backend
        self._own_mac = self.mac = mac
        self._mtu = mtu
        self.log = log or GuestLog(self.kind)
        self.features = F_MAC | F_MRG_RXBUF | F_STATUS | (F_MTU if mtu else 0)
        self.features |= backend.offloads
        self._offloads = 0  # as the back end was last told
        self._note = bytearray(backend.header)  # what a frame of its comes with
        self.lost = 0  # frames without room, too long or too short, either way
        self._paths: dict[int, NetPath] = {}  # in C, by queue
        self._rooms: deque[_Room] = deque()
        self._room = 0
        self._armed = False  # all that came was delivered: watch for more
        self._spare = memoryview(bytearray(FRAME_MAX))
        self._small_frame = max(backend.mtu, mtu or 0) + FRAMING

    @staticmethod
    def make(options: Mapping[str, str], place: str, vm: str, log: GuestLog) -> VirtioNet:
        """The card of a command line."""
        own = NetOptions.parse(options)
        backend = open_backend(own.backend, options, own.mtu)
        return VirtioNet(backend, own.mac or default_mac(place, vm), own.mtu, log)

    @property
    def _header(self) -> int:
        return HEADER if self.negotiated & (F_VERSION_1 | F_MRG_RXBUF) else SHORT_HEADER

    @property
    def _frame_max(self) -> int:
        large = self.negotiated & (F_GUEST_TSO4 | F_GUEST_TSO6)
        return FRAME_MAX if large else self._small_frame

    def _agree(self) -> None:
        """The back end knows what the driver took; large segments only with checksums."""
        want = self.negotiated & self.backend.offloads
        if not want & F_GUEST_CSUM:
            want &= ~(F_GUEST_TSO4 | F_GUEST_TSO6)
        if want != self._offloads:
            self._offloads = want
            self.backend.offload(want)

    # -- configuration space --------------------------------------------------------------

    def config(self) -> bytes:
        """struct virtio_net_config (5.1.4)."""
        status = S_LINK_UP if self.backend.link_up else 0
        return self.mac + struct.pack("<HHH", status, 1, self._mtu or 1500)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Legacy drivers set the MAC here (5.1.4.3)."""
        if not self.negotiated & F_VERSION_1 and offset + size <= len(self.mac):
            mac = bytearray(self.mac)
            mac[offset : offset + size] = value.to_bytes(size, "little")
            self.mac = bytes(mac)

    def reset(self) -> None:
        """The address is the card's own again, and no offload is on."""
        self.mac = self._own_mac
        self._agree()

    def close(self) -> None:
        """Give the back end back."""
        self.backend.close()

    # -- both directions --------------------------------------------------------------------

    def _fast(self, index: int, queue: Queue) -> Result:
        """A batch in C."""
        memory = queue.memory
        ram = memory.direct()
        if not ram or not self.fast:
            return Result.LONG
        path = self._paths.get(index)
        if path is None:
            path = self._paths[index] = NetPath(ram)
            path.card.fd, path.card.note = self.backend.fd, self.backend.header
            path.card.wait_ms, path.card.batch = SEND_WAIT_MS, BATCH
        card, got = path.card, self._offloads
        card.header, card.frame_max = self._header, self._frame_max
        card.mergeable = bool(self.negotiated & F_MRG_RXBUF)
        card.checksums = bool(self.backend.header and self.negotiated & F_CSUM)
        card.guest_csum = bool(got & F_GUEST_CSUM)
        card.guest_gso = sum(1 << kind for kind, bit in _LARGE.items() if got & bit)

        def run(path: NetPath) -> Result:
            result = path.run(index == RX, queue)
            self.lost += card.lost
            if card.bad:
                self.log.complain(path.why)
            return result

        return in_core(path, memory, run)

    # -- to the network ---------------------------------------------------------------------

    def serve(self, index: int, queue: Queue) -> bool | None:
        """Frames of the driver's, in C."""
        result = self._fast(index, queue)
        return None if result is Result.LONG else result is not Result.EMPTY

    def handle(self, index: int, chain: Chain) -> int:
        """One frame of the driver's."""
        if not chain.readable:
            self._drop("the driver sent nothing")
            return 0
        head, views = _cut(chain.readable, self._header)
        if note := self.backend.header:
            if self.negotiated & F_CSUM:
                header = memoryview(b"".join(head)[:note].ljust(note, b"\0"))
            else:
                header = memoryview(bytes(note))
            if ETHER_HEADER <= sum(map(len, views)) <= FRAME_MAX:
                if not self.backend.send([header, *views]):
                    self.lost += 1
                return 0
        if not ETHER_HEADER <= sum(map(len, views)) <= FRAME_MAX:
            self._drop("the driver sent a frame of no possible length")
        elif not self.backend.send(views):
            self.lost += 1
        return 0

    def _drop(self, why: str) -> None:
        self.lost += 1
        self.log.complain(why)

    # -- from the network -------------------------------------------------------------------

    def watch(self) -> list[tuple[int, int]]:
        """The network when buffers are there, and the link always."""
        out = [(self.backend.fd, select.POLLIN)] if self._armed else []
        if self.backend.link_fd is not None:
            out.append((self.backend.link_fd, select.POLLIN))
        return out

    def ready(self, fd: int, events: int) -> None:
        """A frame came, or the link changed."""
        if fd == self.backend.fd:
            self._armed = False
        elif self.backend.look():
            self.transport.config_changed()

    def pull(self, index: int, queue: Queue) -> bool:
        """Frames into buffers, until one of them runs out."""
        self._armed = False
        self._agree()
        if not self._rooms:
            result = self._fast(index, queue)
            self._armed = result is Result.IDLE
            if result is not Result.LONG:
                return result in (Result.MORE, Result.TURN)
        done: list[tuple[int, int]] = []
        try:
            for _ in range(BATCH):
                if not self._gather(queue):
                    return False  # the driver will tell when there are buffers again
                if not self._read(done):
                    self._armed = True
                    return False
        finally:
            if done:
                queue.push_many(done)
        return True

    def _gather(self, queue: Queue) -> bool:
        """Have room for a frame of any length; False: there is not."""
        mergeable = bool(self.negotiated & F_MRG_RXBUF)
        wanted = self._header + self._frame_max if mergeable else 1
        while self._room < wanted:
            queue.quiet()
            chain = queue.pop()
            if chain is not None:
                self._keep(queue, chain)
            elif not queue.listen():
                # All that the queue holds is no more: then it has to do.
                return len(self._rooms) >= queue.num
        return True

    def _keep(self, queue: Queue, chain: Chain) -> None:
        size = sum(map(len, chain.writable))
        # A header in pieces is legal; a chain that holds no more than that is not.
        if chain.readable or size <= self._header:
            self.log.complain("the driver gave a buffer that cannot hold a frame")
            queue.push(chain.head, 0)
            return
        self._rooms.append(_Room(chain.head, chain.writable, size))
        self._room += size

    def _read(self, done: list[tuple[int, int]]) -> bool:
        """One frame into the first rooms; False: there is none."""
        header, first = self._header, self._rooms[0]
        head, views = _cut(first.views, header)
        room = first.size
        if room < header + self._frame_max and self.negotiated & F_MRG_RXBUF:
            views = [*views, *(v for r in list(self._rooms)[1:] for v in r.views)]
            room = self._room
        try:
            got = os.readv(self.backend.fd, [self._note, *views, self._spare])
        except OSError:
            # Nothing there; or the interface is down, which the link tells of.
            return False
        got -= len(self._note)
        if header + got > room or got < ETHER_HEADER or not self._takes_note():
            self.lost += 1  # the buffers are good for the next one
            return True
        left, count = header + got, 0
        while left:
            taken = self._rooms.popleft()
            self._room -= taken.size
            part = min(left, taken.size)
            done.append((taken.head, part))
            left -= part
            count += 1
        note = self._note or bytes(SHORT_HEADER)
        text = (bytes(note) + count.to_bytes(2, "little"))[:header]
        for view in head:
            view[:] = text[: len(view)]
            text = text[len(view) :]
        return True

    def _takes_note(self) -> bool:
        """Whether the driver understands what the back end says of a frame."""
        if not any(self._note):
            return True
        flags, kind = self._note[:2]
        if flags and not self._offloads & F_GUEST_CSUM:
            return False
        return not kind or bool(self._offloads & _LARGE.get(kind & ~GSO_ECN, 0))

    def stopped(self, index: int) -> None:
        """The rooms were the queue's."""
        if index == RX:
            self._rooms.clear()
            self._room = 0
            self._armed = False

    # -- state --------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """The address, and the chains that were taken."""
        return {"mac": self.mac, "rooms": [r.head for r in self._rooms]}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse; frames under way were lost."""
        self.mac = bytes(state["mac"])
        self._saved = list(state["rooms"])

    _saved: list[int]

    def load_queue(self, index: int, queue: Queue) -> None:
        """Look at the chains again."""
        if index == RX:
            for head in self._saved:
                chain = queue.again(head)
                if chain is not None:
                    self._keep(queue, chain)


def _cut(views: list[memoryview], n: int) -> tuple[list[memoryview], list[memoryview]]:
    """The first n bytes, and what is behind them."""
    first = views[0]
    if len(first) > n:
        return [first[:n]], [first[n:], *views[1:]]
    head, at = [], 0
    while n and at < len(views):
        part = views[at]
        if len(part) > n:
            head.append(part[:n])
            return head, [part[n:], *views[at + 1 :]]
        head.append(part)
        n -= len(part)
        at += 1
    return head, views[at:]
