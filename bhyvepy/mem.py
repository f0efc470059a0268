"""Guest RAM as the host side sees it: checked views of the segment files.

The one way in which the loader and the device models reach guest memory. Each
access names a guest physical range and a direction and fails closed (GuestFault)
unless every byte is RAM that may be accessed so. RAM is an mmap object: a view
keeps it alive, so closing a VM cannot leave a dangling pointer.

Writes through this file are like DMA: the guest, or vm_memory_written(), sees
to it that code is read anew. Not here: what RAM a VM has (vmmapi.py), where it
lies (layout.py).
"""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bhyvepy._vmmcore import ffi, lib
from bhyvepy.errors import BhyveError, VmError, vm_error
from bhyvepy.errors import GuestFault as GuestFault
from bhyvepy.layout import MIB
from bhyvepy.virtq import Ram

PROT_READ = 1
PROT_WRITE = 2
# The core allocates RAM in chunks of this size.
CHUNK = 2 * MIB


@dataclass(frozen=True, slots=True)
class Mapping:
    """Part of a segment at a place in guest physical space."""

    gpa: int
    length: int
    segid: int
    segoff: int
    prot: int
    flags: int = 0

    @property
    def end(self) -> int:
        """First address behind the mapping."""
        return self.gpa + self.length


class Segment:
    """One segment file, mapped."""

    def __init__(self, vm: Any, segid: int, length: int) -> None:
        self._vm = vm
        self._segid = segid
        buf = ffi.new("char[]", 4096)
        if err := lib.vm_memseg_path(vm, segid, buf, 4096):
            raise vm_error(err, "find the memory of the VM")
        path = os.fsdecode(ffi.string(buf))
        damaged = vm_error(errno.EPROTO, "map", os.path.basename(os.path.dirname(path)))
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            raise damaged from None
        try:
            if os.fstat(fd).st_size < length:
                raise damaged
            self.map = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(fd)
        # Devices touch it on their own threads: a truncated file must not kill them.
        base = ffi.from_buffer(self.map)
        address = ffi.cast("void *", base)
        del base
        if err := lib.vm_memory_guard(address, length):
            raise vm_error(err, "guard the memory of the VM")
        self._guard = weakref.finalize(self.map, lib.vm_memory_unguard, address)
        self._guard.atexit = False
        self.view = memoryview(self.map)
        self.read_view = self.view.toreadonly()
        self._present = bytearray(-(-length // CHUNK))
        self._length = length

    def populate(self, off: int, length: int) -> None:
        """Allocate what is behind a range: a touch of a hole could be a SIGBUS."""
        first, last = off // CHUNK, (off + length - 1) // CHUNK
        present = self._present
        while first <= last and present[first]:
            first += 1
        if first > last:
            return
        start = first * CHUNK
        size = min((last + 1) * CHUNK, self._length) - start
        if self._vm is None:
            raise VmError("this memory is gone: the VM was closed")
        if err := lib.vm_memseg_populate(self._vm, self._segid, start, size):
            raise vm_error(err, "allocate guest memory", directory="the VM directory")
        present[first : last + 1] = b"\1" * (last + 1 - first)


class GuestMemory:
    """The RAM of one VM, by guest physical address."""

    def __init__(self, vm: Any, mappings: list[Mapping], lengths: dict[int, int]) -> None:
        self._vm = vm
        self.mappings = sorted(mappings, key=lambda m: m.gpa)
        self._starts = [m.gpa for m in self.mappings]
        self._segments = {
            segid: Segment(vm, segid, lengths[segid])
            for segid in sorted({m.segid for m in mappings})
        }
        # The mapping of the last access is mostly that of the next.
        self._last: tuple[int, int, int, int, Segment] | None = None
        self._direct: list[Ram] | None = None

    @property
    def size(self) -> int:
        """Bytes of RAM."""
        return sum(m.length for m in self.mappings)

    def _find(self, gpa: int, length: int, write: bool) -> tuple[Segment, int]:
        last = self._last
        if last is None or not last[0] <= gpa < last[1]:
            i = bisect_right(self._starts, gpa) - 1
            if i < 0:
                raise GuestFault(gpa, length, write)
            m = self.mappings[i]
            last = (m.gpa, m.end, m.segoff - m.gpa, m.prot, self._segments[m.segid])
            self._last = last
        start, end, delta, prot, seg = last
        if length < 0 or gpa < start or gpa + length > end:
            raise GuestFault(gpa, length, write)
        if not prot & (PROT_WRITE if write else PROT_READ):
            raise GuestFault(gpa, length, write)
        off = gpa + delta
        if length:
            seg.populate(off, length)
        return seg, off

    def close(self) -> None:
        """The VM is closed: nothing new is allocated, and views stay what they are."""
        self._vm = None
        for seg in self._segments.values():
            seg._vm = None

    def address_of(self, view: memoryview) -> int:
        """The guest physical address of a view of this memory."""
        at = int(ffi.cast("uintptr_t", ffi.from_buffer(view)))
        for m in self.mappings:
            seg = self._segments[m.segid]
            first = int(ffi.cast("uintptr_t", ffi.from_buffer(seg.map))) + m.segoff
            if first <= at < first + m.length:
                return m.gpa + at - first
        raise GuestFault(0, view.nbytes, False)

    def lock(self) -> None:
        """Keep all of it in the host's memory for as long as it is mapped here (mlock(2))."""
        import ctypes  # takes long to load, and only -S wants it

        libc = ctypes.CDLL(None, use_errno=True)
        for seg in self._segments.values():
            at = int(ffi.cast("uintptr_t", ffi.from_buffer(seg.map)))
            if libc.mlock(ctypes.c_void_p(at), ctypes.c_size_t(len(seg.map))) != 0:
                raise BhyveError(
                    f"cannot lock the memory of the VM: {os.strerror(ctypes.get_errno()).lower()};"
                    " raise the limit with `ulimit -l`, or leave -S out"
                )

    def view(self, gpa: int, length: int, write: bool = False) -> memoryview:
        """A window on guest memory; writable only when asked for."""
        seg, off = self._find(gpa, length, write)
        return (seg.view if write else seg.read_view)[off : off + length]

    def read(self, gpa: int, length: int) -> bytes:
        """A copy of guest memory."""
        seg, off = self._find(gpa, length, False)
        return bytes(seg.read_view[off : off + length])

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Put bytes into guest memory."""
        length = len(data) if not isinstance(data, memoryview) else data.nbytes
        seg, off = self._find(gpa, length, True)
        seg.view[off : off + length] = data

    def direct(self) -> list[Ram]:
        """All of it for C code that keeps the rules of view(); nothing for a while that wants
        to know of each write (dirty log). What was begun before that ends with wrote()."""
        if self._vm is None or lib.vm_dirty_logging(self._vm):
            return []
        if self._direct is None:
            self._direct = [
                Ram(
                    m.gpa,
                    (seg.view if m.prot & PROT_WRITE else seg.read_view)[
                        m.segoff : m.segoff + m.length
                    ],
                    memoryview(seg._present),
                    m.segoff,
                    CHUNK,
                )
                for m in self.mappings
                if m.prot & PROT_READ
                for seg in (self._segments[m.segid],)
            ]
        return self._direct

    def wrote(self, spans: Iterable[tuple[int, int]]) -> None:
        """A device has written (address, length) ranges: the dirty log wants to know."""
        if self._vm is not None and lib.vm_dirty_logging(self._vm):
            for gpa, length in spans:
                lib.vm_dma_written(self._vm, gpa, length)

    def contains(self, gpa: int, length: int = 1) -> bool:
        """Whether every byte of a range is in one mapping."""
        i = bisect_right(self._starts, gpa) - 1
        return i >= 0 and length >= 0 and gpa + length <= self.mappings[i].end
