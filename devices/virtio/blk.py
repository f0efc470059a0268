"""virtio-blk: a disk (virtio 1.2, 5.2) on a raw file or a block device.

Responsible for requests and the configuration space. Not for the file (diskfile.py).
A request is a 16-byte header, data, and a status byte, which is the last writable byte
of the chain. How they are cut into descriptors is the driver's business (ANY_LAYOUT).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import md5
from typing import Any, ClassVar

from bhyvepy.virtq import BlkPath, Result

from ..base import DeviceError, GuestLog
from .device import VirtioDevice
from .diskfile import SECTOR, DiskFile
from .incore import in_core
from .queue import Chain, Queue

F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH = 1 << 2, 1 << 5, 1 << 6, 1 << 9
F_TOPOLOGY, F_CONFIG_WCE, F_DISCARD, F_WRITE_ZEROES = 1 << 10, 1 << 11, 1 << 13, 1 << 14

T_IN, T_OUT, T_FLUSH, T_GET_ID, T_DISCARD, T_WRITE_ZEROES = 0, 1, 4, 8, 11, 13
S_OK, S_IOERR, S_UNSUPP = b"\0", b"\1", b"\2"

QUEUE_SIZE = 256
# Requests in C before the driver hears of them.
BATCH = 4
SEG_MAX = QUEUE_SIZE - 2  # a header and a status beside the data
ID_BYTES = 20
WCE_OFFSET = 32

_HEADER = struct.Struct("<IIQ")
_SEGMENT = struct.Struct("<QII")
MAX_SEGMENTS = 16
MAX_DISCARD_SECTORS = 1 << 22
MAX_ZERO_SECTORS = 1 << 14  # 8 MiB a segment: zeroes may have to be written out
SEGMENT_F_UNMAP = 1


class UnsupportedError(Exception):
    """The request is not one that we offered."""


class RequestError(Exception):
    """The request is nonsense: IOERR."""


@dataclass(frozen=True)
class BlkOptions:
    """What ``-s n,virtio-blk,...`` can say."""

    path: str
    readonly: bool = False
    nocache: bool = False
    sync: bool = False
    nodelete: bool = False
    serial: str = ""
    logical: int = SECTOR
    physical: int = SECTOR

    @staticmethod
    def parse(options: Mapping[str, str]) -> BlkOptions:
        """From key=value pairs; DeviceError names the first that is wrong."""
        known = {"path", "ro", "nocache", "direct", "sync", "nodelete", "ser", "sectorsize"}
        known |= {"bootindex"}  # means nothing without firmware
        for key in options:
            if key not in known:
                raise DeviceError(
                    f"virtio-blk has no option {key!r}; it has {', '.join(sorted(known))}"
                )
        path = options.get("path", "")
        if not path:
            raise DeviceError("virtio-blk wants a disk: -s n,virtio-blk,/path/of/disk.img")
        serial = options.get("ser", "")
        if not serial.isascii() or len(serial) > ID_BYTES:
            raise DeviceError(f"virtio-blk: ser= takes up to {ID_BYTES} ASCII characters")
        logical, physical = _sector_sizes(options.get("sectorsize", "512"))
        return BlkOptions(
            path=path,
            readonly="ro" in options,
            nocache="nocache" in options,
            sync="direct" in options or "sync" in options,
            nodelete="nodelete" in options,
            serial=serial,
            logical=logical,
            physical=physical,
        )


def _sector_sizes(text: str) -> tuple[int, int]:
    parts = text.split("/")
    sizes = [int(p) for p in parts if p.isascii() and p.isdigit() and len(p) < 8]
    good = len(sizes) == len(parts) <= 2 and all(
        SECTOR <= s <= 65536 and not s & (s - 1) for s in sizes
    )
    if not good or sizes[-1] < sizes[0]:
        raise DeviceError(
            f"virtio-blk: sectorsize={text[:40]!r} is not logical[/physical] with powers"
            " of two from 512 to 65536, physical the larger"
        )
    return sizes[0], sizes[-1]


def default_serial(path: str) -> str:
    """bhyve's: from the MD5 of the path, so that it stays the same from run to run."""
    d = md5(path.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest().upper()
    return f"BHYVE-{d[0:4]}-{d[4:8]}-{d[8:12]}"


class VirtioBlk(VirtioDevice):
    """One disk."""

    kind: ClassVar[str] = "virtio-blk"
    device_id: ClassVar[int] = 2
    queue_sizes = (QUEUE_SIZE,)
    fast = True  # plain reads and writes in C

    def __init__(self, options: BlkOptions, log: GuestLog | None = None) -> None:
        self.options = options
        self.log = log or GuestLog(self.kind)
        self.disk = DiskFile(
            options.path,
            readonly=options.readonly,
            direct=options.nocache,
            sync=options.sync,
            discard=not options.nodelete,
        )
        self.disk.sectors -= self.disk.sectors % (options.logical // SECTOR)
        if not self.disk.sectors:
            self.disk.close()
            raise DeviceError(f"disk {options.path}: less than one sector of {options.logical}")
        self.serial = (options.serial or default_serial(options.path)).encode("ascii")
        self.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE
        if options.readonly:
            self.features |= F_RO
        else:
            self.features |= F_WRITE_ZEROES
            if self.disk.can_discard:
                self.features |= F_DISCARD
        self._writeback = True
        self._path: BlkPath | None = None

    # -- configuration space --------------------------------------------------------------

    def config(self) -> bytes:
        """struct virtio_blk_config (virtio 1.2, 5.2.4)."""
        ratio = self.options.physical // self.options.logical
        discard = bool(self.features & F_DISCARD)
        zeroes = bool(self.features & F_WRITE_ZEROES)
        return struct.pack(
            "<QIIHBBIBBHIBBHIIIIIB3x",
            self.disk.sectors,
            0,  # size_max: not offered
            SEG_MAX,
            0,  # geometry: not offered
            0,
            0,
            self.options.logical,
            ratio.bit_length() - 1,
            0,  # alignment offset
            ratio,
            0,  # optimal size: unknown
            self._writeback,
            0,
            1,  # queues
            MAX_DISCARD_SECTORS if discard else 0,
            MAX_SEGMENTS if discard else 0,
            1 if discard else 0,
            MAX_ZERO_SECTORS if zeroes else 0,
            MAX_SEGMENTS if zeroes else 0,
            discard,
        )

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Only `writeback`, when negotiated."""
        if offset == WCE_OFFSET and size == 1 and self.negotiated & F_CONFIG_WCE:
            self._writeback = bool(value)

    def reset(self) -> None:
        """The cache is on until the driver says otherwise."""
        self._writeback = True

    def close(self) -> None:
        """Close the file and with it the lock."""
        self.disk.close()

    def save(self) -> dict[str, Any]:
        """The cache mode; the file is the user's."""
        return {"writeback": self._writeback}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self._writeback = bool(state["writeback"])

    # -- requests -------------------------------------------------------------------------

    def serve(self, index: int, queue: Queue) -> bool | None:
        """Plain reads and writes, in C."""
        memory = queue.memory
        ram = memory.direct()
        if not ram or not self.fast:
            return None
        if self._path is None:
            self._path = BlkPath(ram)
            self._path.disk.batch = BATCH
        disk = self._path.disk
        disk.fd, disk.sectors = self.disk.fileno(), self.disk.sectors
        # A driver that cannot flush, or that wants no cache, gets write-through (_written()).
        cached = self._writeback and self.negotiated & F_FLUSH
        disk.writes = bool(cached and not self.options.readonly)
        result = in_core(self._path, memory, lambda path: path.run(queue))
        return None if result is Result.LONG else result is Result.MORE

    def handle(self, index: int, chain: Chain) -> int:
        """One request; its length is the data written plus the status byte."""
        if not chain.writable:
            self.log.complain("request without a status byte")
            return 0
        *room, last = chain.writable
        if len(last) > 1:
            room.append(last[:-1])
        header, data = _take(chain.readable, _HEADER.size)
        written = 0
        try:
            if len(header) < _HEADER.size:
                raise RequestError("short header")
            kind, _, sector = _HEADER.unpack(header)
            request = _REQUESTS.get(kind)
            if request is None:
                raise UnsupportedError
            written = request(self, sector, data, room)
            status = S_OK
        except UnsupportedError:
            status = S_UNSUPP
        except RequestError as err:
            self.log.complain(f"bad request: {err}")
            status = S_IOERR
        except OSError as err:
            self.log.complain(f"I/O error: {err.strerror}")
            status = S_IOERR
        last[-1:] = status
        return written + 1

    def _range(self, sector: int, length: int) -> int:
        """The byte offset of a transfer that lies on the disk."""
        if length % SECTOR:
            raise RequestError(f"{length} bytes")
        if sector + length // SECTOR > self.disk.sectors:
            raise RequestError(f"sector {sector} + {length} bytes is beyond the end")
        return sector * SECTOR

    def _in(self, sector: int, data: list[memoryview], room: list[memoryview]) -> int:
        length = sum(map(len, room))
        self.disk.read(room, self._range(sector, length))
        return length

    def _out(self, sector: int, data: list[memoryview], room: list[memoryview]) -> int:
        self._must_write()
        self.disk.write(data, self._range(sector, sum(map(len, data))))
        self._written()
        return 0

    def _flush(self, sector: int, data: list[memoryview], room: list[memoryview]) -> int:
        if not self.options.readonly:
            self.disk.flush()
        return 0

    def _get_id(self, sector: int, data: list[memoryview], room: list[memoryview]) -> int:
        text = self.serial.ljust(ID_BYTES, b"\0")
        done = 0
        for view in room:
            part = text[done : done + len(view)]
            view[: len(part)] = part
            done += len(part)
        return done

    def _discard(self, sector: int, data: list[memoryview], room: list[memoryview]) -> int:
        if not self.features & F_DISCARD:
            raise UnsupportedError
        for start, count, flags in self._segments(data, MAX_DISCARD_SECTORS):
            if flags:
                raise UnsupportedError  # virtio 1.2, 5.2.6.2: unmap must be 0 here
            self.disk.discard(start * SECTOR, count * SECTOR)
        self._written()
        return 0

    def _write_zeroes(self, sector: int, data: list[memoryview], room: list[memoryview]) -> int:
        if not self.features & F_WRITE_ZEROES:
            raise UnsupportedError
        for start, count, flags in self._segments(data, MAX_ZERO_SECTORS):
            unmap = bool(flags & SEGMENT_F_UNMAP) and self.disk.can_discard
            self.disk.zero(start * SECTOR, count * SECTOR, unmap)
        self._written()
        return 0

    def _segments(self, data: list[memoryview], limit: int) -> list[tuple[int, int, int]]:
        """(sector, count, flags) of each segment; all are checked before any is done."""
        self._must_write()
        total = sum(map(len, data))
        if not total or total % _SEGMENT.size or total > MAX_SEGMENTS * _SEGMENT.size:
            raise RequestError(f"{total} bytes of segments")
        raw, _ = _take(data, total)
        out = []
        for start, count, flags in _SEGMENT.iter_unpack(raw):
            if flags & ~SEGMENT_F_UNMAP:
                raise UnsupportedError
            if count > limit:
                raise RequestError(f"segment of {count} sectors")
            self._range(start, count * SECTOR)
            if count:
                out.append((start, count, flags))
        return out

    def _must_write(self) -> None:
        if self.options.readonly:
            raise RequestError("write to a read-only disk")

    def _written(self) -> None:
        """A driver that cannot flush, or that wants no cache, gets write-through."""
        if not self._writeback or not self.negotiated & F_FLUSH:
            self.disk.flush()


def _take(views: list[memoryview], n: int) -> tuple[bytes, list[memoryview]]:
    """A copy of the first n bytes (fewer if there are fewer), and the rest as views."""
    if views and len(views[0]) == n:  # nearly every header
        return bytes(views[0]), views[1:]
    got = b""
    for i, view in enumerate(views):
        part = n - len(got)
        got += bytes(view[:part])
        if len(got) == n:
            rest = views[i + 1 :]
            return got, [view[part:], *rest] if len(view) > part else rest
    return got, []


Request = Callable[[VirtioBlk, int, list[memoryview], list[memoryview]], int]

_REQUESTS: dict[int, Request] = {
    T_IN: VirtioBlk._in,
    T_OUT: VirtioBlk._out,
    T_FLUSH: VirtioBlk._flush,
    T_GET_ID: VirtioBlk._get_id,
    T_DISCARD: VirtioBlk._discard,
    T_WRITE_ZEROES: VirtioBlk._write_zeroes,
}
