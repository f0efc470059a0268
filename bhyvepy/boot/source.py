"""Read the files of a load: kernel, initrd, device tree.

Responsible for taking nothing but a regular file of a sane size (reliability.md L03:
a FIFO would block, /dev/zero would never end, a sparse file may claim 16 TiB), and
for unpacking gzip with a limit (L04). Not for what is in the files.
"""

from __future__ import annotations

import os
import stat
import zlib

from bhyvepy.boot.options import human
from bhyvepy.errors import LoadError, os_error, printable
from bhyvepy.layout import MIB

MAX_DTB = 2 * MIB  # Linux: Documentation/arch/arm64/booting.rst, 2
GZIP_MAGIC = b"\x1f\x8b"
_STEP = MIB


def read(path: str, what: str, limit: int) -> bytes:
    """The bytes of a file of 1 to `limit` bytes; LoadError otherwise."""
    name = printable(path, 200)
    if "\0" in path:
        raise LoadError(f"cannot read {name}: no file name has a NUL in it")
    try:
        # Without O_NONBLOCK the open of a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise LoadError(str(os_error(f"read the {what}", path, err))) from None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            kind = "a directory" if stat.S_ISDIR(info.st_mode) else "not a regular file"
            raise LoadError(f"{name} is {kind}: the {what} must be a file")
        if info.st_size == 0:
            raise LoadError(f"{name} is empty: it holds no {what}")
        if info.st_size > limit:
            raise LoadError(_too_large(name, what, info.st_size, limit))
        with os.fdopen(os.dup(fd), "rb") as file:
            data = file.read(info.st_size + 1)  # never `limit`: it is read into one buffer
    except OSError as err:
        raise LoadError(str(os_error(f"read the {what}", path, err))) from None
    finally:
        os.close(fd)
    if len(data) > limit:
        raise LoadError(_too_large(name, what, len(data), limit))
    if len(data) < info.st_size:
        raise LoadError(f"{name} shrank while it was read: the {what} is incomplete")
    return data


def _too_large(name: str, what: str, size: int, limit: int) -> str:
    if what == "device tree":
        return f"{name} has {human(size)}: a device tree has at most {human(limit)}"
    return (
        f"{name} has {human(size)} and memory has {human(limit)}: "
        f"use a larger -m, or is this the right {what}?"
    )


def gunzip(data: bytes, name: str, limit: int) -> bytes:
    """Unpack one gzip stream, which must end, into at most `limit` bytes."""
    stream = zlib.decompressobj(wbits=31)  # gzip header and CRC
    out = bytearray()
    rest = data
    try:
        while not stream.eof:
            piece = stream.decompress(rest, _STEP)
            out += piece
            if len(out) > limit:
                raise LoadError(
                    f"{name} unpacks to more than the {human(limit)} of memory: use a larger -m"
                )
            rest = stream.unconsumed_tail
            if not piece and not rest and not stream.eof:
                raise LoadError(f"{name} is truncated: its gzip stream does not end")
    except zlib.error as err:
        raise LoadError(f"{name} is damaged: {err}") from None
    if stream.unused_data.strip(b"\0"):
        raise LoadError(f"{name} has data behind its gzip stream: it is no kernel as built")
    return bytes(out)
