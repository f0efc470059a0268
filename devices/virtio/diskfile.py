"""The file behind a disk: opened once, locked, raw, never probed for a format.

Responsible for opening and locking an image, for moving data between it and guest
memory without copies, for flush, discard and zeroes. Not for virtio (blk.py). Errors
while the guest runs are OSError; errors at opening are DeviceError, one line each.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Sequence

from bhyvepy.errors import printable

from ..base import DeviceError

SECTOR = 512
ZERO_CHUNK = 1 << 20

FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 0x01, 0x02, 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    while _libc.fallocate(fd, mode, offset, length) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def _rest(views: Sequence[memoryview], done: int) -> list[memoryview]:
    """What is left of `views` behind the first `done` bytes."""
    out = []
    for view in views:
        if done >= len(view):
            done -= len(view)
        else:
            out.append(view[done:] if done else view)
            done = 0
    return out


class DiskFile:
    """A regular file or block device as an array of 512-byte sectors."""

    def __init__(
        self,
        path: str,
        readonly: bool = False,
        direct: bool = False,
        sync: bool = False,
        discard: bool = True,
    ) -> None:
        self.path = path
        self.readonly = readonly
        self._direct = direct
        self._fd = self._open(path, readonly, direct, sync)
        try:
            self._inspect(discard)
        except BaseException:
            os.close(self._fd)
            raise

    @staticmethod
    def _open(path: str, readonly: bool, direct: bool, sync: bool) -> int:
        shown = printable(path, 200)
        flags = os.O_RDONLY if readonly else os.O_RDWR
        flags |= os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a FIFO must not hang us
        if direct:
            flags |= os.O_DIRECT
        if sync:
            flags |= os.O_DSYNC
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            raise DeviceError(
                f"disk {shown}: no such file; make an empty one with `truncate -s 8G FILE`"
            ) from None
        except (OSError, ValueError) as err:  # ValueError: a NUL in the path
            code = (err.errno or 0) if isinstance(err, OSError) else 0
            if not readonly and code in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise DeviceError(f"disk {shown}: not writable; add ,ro to only read it") from None
            if direct and code == errno.EINVAL:
                raise DeviceError(
                    f"disk {shown}: its file system has no direct I/O; leave out nocache"
                ) from None
            why = os.strerror(code).lower() if code else str(err)
            raise DeviceError(f"disk {shown}: {why}") from None

    def _inspect(self, discard: bool) -> None:
        shown = printable(self.path, 200)
        st = os.fstat(self._fd)
        self.regular = stat.S_ISREG(st.st_mode)
        if not self.regular and not stat.S_ISBLK(st.st_mode):
            raise DeviceError(f"disk {shown}: not a file or a block device")
        try:
            fcntl.flock(
                self._fd, (fcntl.LOCK_SH if self.readonly else fcntl.LOCK_EX) | fcntl.LOCK_NB
            )
        except OSError as err:
            if err.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise DeviceError(f"disk {shown}: cannot lock: {err.strerror}") from None
            raise DeviceError(
                f"disk {shown}: in use by another VM; stop that one, or give both ,ro"
            ) from None
        size = os.lseek(self._fd, 0, os.SEEK_END)
        self.sectors = size // SECTOR
        if not self.sectors:
            raise DeviceError(
                f"disk {shown}: {size} bytes, less than a sector; grow it with `truncate -s 8G`"
            )
        self.can_discard = False
        if discard and self.regular and not self.readonly:
            try:  # beyond the end this changes nothing, and says whether it would work
                _fallocate(self._fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, size, 4096)
                self.can_discard = True
            except OSError:
                pass

    def fileno(self) -> int:
        """For whoever reads and writes whole sectors of it."""
        return self._fd

    def close(self) -> None:
        """Give the lock back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, views: list[memoryview], offset: int) -> None:
        """Fill `views`; EIO when the file ends before they do (it was cut)."""
        while views:
            try:
                n = os.preadv(self._fd, views, offset)
            except OSError as err:
                if err.errno != errno.EINVAL or not self._direct:
                    raise
                n = self._read_bounced(views, offset)
            if n == 0:
                raise OSError(errno.EIO, "the image is shorter than it was")
            offset += n
            views = _rest(views, n)

    def write(self, views: list[memoryview], offset: int) -> None:
        """Store `views`; after an error nothing is written twice."""
        while views:
            try:
                n = os.pwritev(self._fd, views, offset)
            except OSError as err:
                if err.errno != errno.EINVAL or not self._direct:
                    raise
                n = self._write_bounced(views, offset)
            if n == 0:
                raise OSError(errno.EIO, "nothing was written")
            offset += n
            views = _rest(views, n)

    # O_DIRECT wants aligned memory, and a guest may use any: such requests take a copy.

    def _read_bounced(self, views: list[memoryview], offset: int) -> int:
        want = sum(len(v) for v in views)
        with mmap.mmap(-1, want) as page:
            got = os.preadv(self._fd, [page], offset)
            at = 0
            for view in views:
                n = min(len(view), got - at)
                view[:n] = page[at : at + n]
                at += n
        return got

    def _write_bounced(self, views: list[memoryview], offset: int) -> int:
        want = sum(len(v) for v in views)
        with mmap.mmap(-1, want) as page:
            for view in views:
                page.write(view)
            return os.pwritev(self._fd, [page], offset)

    def flush(self) -> None:
        """Everything written before is on stable storage when this returns."""
        os.fdatasync(self._fd)

    def discard(self, offset: int, length: int) -> None:
        """Give the space back; it reads as zeroes."""
        _fallocate(self._fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length)

    def zero(self, offset: int, length: int, may_unmap: bool) -> None:
        """Zeroes, by the cheapest means that is allowed and works."""
        modes = (FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE) if may_unmap else (FALLOC_ZERO_RANGE,)
        if self.regular:
            for mode in modes:
                try:
                    _fallocate(self._fd, mode | FALLOC_KEEP_SIZE, offset, length)
                    return
                except OSError as err:
                    if err.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                        raise
        with mmap.mmap(-1, min(length, ZERO_CHUNK)) as zeroes, memoryview(zeroes) as view:
            while length:
                n = min(length, ZERO_CHUNK)
                with view[:n] as part:
                    self.write([part], offset)
                offset += n
                length -= n
