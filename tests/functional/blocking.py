"""A disk whose writes can be made to block: a file system of our own, or a FIFO.

Where it can be mounted (root, /dev/fuse), the image lies on a FUSE file system that
this process serves; it stops taking requests when told, and the next write(2) of bhyve
waits inside the kernel as on a server that went away. Elsewhere bhyve is started with
its pwritev() preceded by a read of an empty FIFO, which blocks the same thread in the
same place. Not for what is seen then (test_live.py).
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
import threading
from pathlib import Path

from .framework import Guest, Vmm

# linux/fuse.h
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
LOOKUP, GETATTR, SETATTR, OPEN, READ, WRITE = 1, 3, 4, 14, 15, 16
RELEASE, FSYNC, INIT, OPENDIR, RELEASEDIR = 18, 20, 26, 27, 29
ACCESS, INTERRUPT, FORGET, BATCH_FORGET = 34, 36, 2, 42
ROOT_ID, FILE_ID = 1, 2
ENOENT, ENOSYS = 2, 38
NO_REPLY = (FORGET, BATCH_FORGET, INTERRUPT)
S_IFDIR, S_IFREG = 0o040700, 0o100600
FOPEN_DIRECT_IO = 1
MNT_DETACH = 2

HOOK = """
import os, sys
from bhyvepy.devices.virtio import diskfile

fifo = sys.argv[1]

class Os:
    def __getattr__(self, name):
        return getattr(os, name)
    def pwritev(self, *args):
        if os.path.exists(fifo + ".on"):
            fd = os.open(fifo, os.O_RDWR)
            os.close(os.open(fifo + ".in", os.O_CREAT | os.O_WRONLY))
            os.read(fd, 1)
        return os.pwritev(*args)

diskfile.os = Os()
from bhyvepy.cli import bhyve
sys.argv = ["bhyve", *sys.argv[2:]]
bhyve.main()
"""


class BlockingDisk:
    """An image of `size` bytes, writes to which block after block()."""

    def __init__(self, folder: Path, size: int) -> None:
        self._fs: _FuseFile | None = None
        self._fifo = folder / "fifo"
        mount = folder / "fuse"
        mount.mkdir()
        try:
            self._fs = _FuseFile(mount, size)
        except OSError:
            self.path = folder / "disk.img"
            with self.path.open("wb") as f:
                f.truncate(size)
            os.mkfifo(self._fifo)
        else:
            self.path = mount / "disk.img"
            self.path.open("r+b").close()

    @property
    def how(self) -> str:
        """Which of the two."""
        return "FIFO" if self._fs is None else "FUSE"

    def bhyve(self, vmm: Vmm, *argv: object) -> Guest:
        """bhyve with this disk."""
        if self._fs is not None:
            return vmm.bhyve(*argv)
        return vmm.spawn(sys.executable, ["-c", HOOK, str(self._fifo), *map(str, argv)])

    def block(self) -> None:
        """From now on writes do not come back."""
        if self._fs is not None:
            self._fs.stop()
        else:
            Path(f"{self._fifo}.on").touch()

    def blocked(self) -> bool:
        """Whether one is waiting."""
        if self._fs is not None:
            return self._fs.waiting() > 0
        return Path(f"{self._fifo}.in").exists()

    def close(self) -> None:
        """Unmount."""
        if self._fs is not None:
            self._fs.close()


class _FuseFile:
    """A FUSE file system with one file, disk.img, in memory."""

    def __init__(self, mount: Path, size: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._mount = str(mount).encode()
        self._data = bytearray(size)
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        if self._libc.mount(b"bhyvepy-test", self._mount, b"fuse", 6, options.encode()) != 0:
            code = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(code, os.strerror(code))
        self._stop_r, self._stop_w = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests."""
        os.write(self._stop_w, b"x")
        self._thread.join(10)
        assert not self._thread.is_alive()

    def waiting(self) -> int:
        """Requests that were not taken: the kernel says when there is one to read."""
        return len(select.select([self._fd], [], [], 0)[0])

    def close(self) -> None:
        """Unmount; closing the device ends what still waits."""
        if self._thread.is_alive():
            self.stop()
        self._libc.umount2(self._mount, MNT_DETACH)
        for fd in (self._fd, self._stop_r, self._stop_w):
            os.close(fd)

    def _serve(self) -> None:
        while True:
            ready = select.select([self._fd, self._stop_r], [], [])[0]
            if self._stop_r in ready:
                return
            try:
                request = os.read(self._fd, 1 << 20)
            except OSError:
                return
            head = _IN.unpack_from(request)
            opcode, unique, node = head[1], head[2], head[3]
            if opcode in NO_REPLY:
                continue
            error, reply = self._answer(opcode, node, request[_IN.size :])
            os.write(self._fd, _OUT.pack(_OUT.size + len(reply), -error, unique) + reply)

    def _attr(self, node: int) -> bytes:
        mode, size = (S_IFDIR, 0) if node == ROOT_ID else (S_IFREG, len(self._data))
        return _ATTR.pack(
            *(node, size, size >> 9, 0, 0, 0, 0, 0, 0, mode, 1),
            *(os.getuid(), os.getgid(), 0, 4096, 0),
        )

    def _answer(self, opcode: int, node: int, body: bytes) -> tuple[int, bytes]:
        if opcode == INIT:
            # version 7.31, read-ahead 0, no flags, 12 requests in the background
            return 0, struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, 1 << 17, 1, 32, 0, 0)
        if opcode == LOOKUP:
            if body.rstrip(b"\0") != b"disk.img":
                return ENOENT, b""
            return 0, struct.pack("<QQQQII", FILE_ID, 0, 3600, 3600, 0, 0) + self._attr(FILE_ID)
        if opcode in (GETATTR, SETATTR):
            return 0, struct.pack("<QII", 3600, 0, 0) + self._attr(node)
        if opcode in (OPEN, OPENDIR):
            return 0, struct.pack("<QII", 1, FOPEN_DIRECT_IO, 0)
        if opcode == READ:
            at, size = struct.unpack_from("<8xQI", body)
            return 0, bytes(self._data[at : at + size])
        if opcode == WRITE:
            at, size = struct.unpack_from("<8xQI", body)
            self._data[at : at + size] = body[40 : 40 + size]
            return 0, struct.pack("<II", size, 0)
        if opcode in (FSYNC, RELEASE, RELEASEDIR, ACCESS):
            return 0, b""
        # FLUSH too: after that the kernel does not ask at a close(2), which would hang as well.
        return ENOSYS, b""
