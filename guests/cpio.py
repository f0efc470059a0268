"""A writer for cpio archives in the "newc" form that Linux unpacks as an initramfs.

Responsible for: the archive format (110-byte ASCII header, names and data padded
to 4 bytes, the TRAILER!!! entry) and for making the same bytes every time.
Not responsible for what goes in (initramfs.py) or for compression.

Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field


@dataclass
class Cpio:
    """An archive under construction; parents of a path are made as needed."""

    _parts: list[bytes] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _inode: int = 0

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory."""
        self._add(path, stat.S_IFDIR | mode, b"", nlink=2)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._add(path, stat.S_IFREG | mode, data)

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def chardev(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device; needs no privilege, it is only an archive entry."""
        self._add(path, stat.S_IFCHR | mode, b"", rdev=(major, minor))

    def getvalue(self) -> bytes:
        """The whole archive, padded to 512 bytes as cpio(1) does."""
        trailer = self._entry("TRAILER!!!", 0, b"", 0, 1, (0, 0))
        body = b"".join(self._parts) + trailer
        return body + bytes(-len(body) % 512)

    def _add(
        self, path: str, mode: int, data: bytes, nlink: int = 1, rdev: tuple[int, int] = (0, 0)
    ) -> None:
        name = path.strip("/")
        if not name or "\0" in name or ".." in name.split("/"):
            raise ValueError(f"bad path in an archive: {path!r}")
        if name in self._names:
            if stat.S_ISDIR(mode):
                return
            raise ValueError(f"{path} is in the archive already")
        parent = name.rpartition("/")[0]
        if parent and parent not in self._names:
            self.directory(parent)
        self._names.add(name)
        self._inode += 1
        self._parts.append(self._entry(name, mode, data, self._inode, nlink, rdev))

    @staticmethod
    def _entry(
        name: str, mode: int, data: bytes, inode: int, nlink: int, rdev: tuple[int, int]
    ) -> bytes:
        if len(data) > 0xFFFFFFFF:
            raise ValueError(f"{name} is too large for a cpio archive")
        raw = name.encode() + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (inode, mode, 0, 0, nlink, 0, len(data), 0, 0, *rdev, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        head += bytes(-len(head) % 4)
        return head + data + bytes(-len(data) % 4)
