"""EFI zboot kernels: a compressed Image behind an EFI program that unpacks it.

Responsible for the header (Linux drivers/firmware/efi/libstub/zboot-header.S) and for
unpacking what it names, with a limit, so that the Image inside can be loaded without
EFI. Not for what is inside (image.py).

    0  "MZ"  4  "zimg"  8  offset of the payload  12  its size  24  name of its compression
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from bhyvepy.boot import source
from bhyvepy.boot.options import LoadOptions, human
from bhyvepy.errors import LoadError, printable

if TYPE_CHECKING:
    from subprocess import Popen

_HEADER = struct.Struct("<4s4sII8x32s")


def matches(data: bytes) -> bool:
    """Whether it is one."""
    return data[:2] == b"MZ" and data[4:8] == b"zimg"


def unpack(data: bytes, opts: LoadOptions) -> bytes:
    """The kernel inside."""
    name = opts.kernel
    if len(data) < _HEADER.size:
        raise LoadError(f"{name} is truncated: its zboot header is incomplete")
    _, _, offset, size, kind = _HEADER.unpack_from(data)
    if offset < _HEADER.size or size == 0 or offset + size > len(data):
        raise LoadError(
            f"{name} is truncated or damaged: its payload of {size} bytes at {offset} does not"
            f" lie in its {len(data)} bytes"
        )
    word = kind.split(b"\0")[0].decode("ascii", "replace")
    how = UNPACKERS.get(word)
    if how is None:
        raise LoadError(
            f"{name} is a zboot kernel compressed with {printable(word, 20)!a}; known are"
            f" {', '.join(UNPACKERS)}: use its plain Image"
        )
    return how(data[offset : offset + size], name, opts.size)


def _xz(data: bytes, name: str, limit: int) -> bytes:
    import lzma

    stream = lzma.LZMADecompressor()
    try:
        out = stream.decompress(data, limit + 1)
    except lzma.LZMAError as err:
        raise LoadError(f"{name} is damaged: {printable(str(err), 80).lower()}") from None
    if len(out) > limit:
        raise _too_large(name, limit)
    if not stream.eof:
        raise LoadError(f"{name} is truncated: its compressed stream does not end")
    return out


def _zstd(data: bytes, name: str, limit: int) -> bytes:
    """By the zstd program: Python's library has it from 3.14 on."""
    import shutil
    import subprocess
    import threading

    tool = shutil.which("zstd")
    if tool is None:
        raise LoadError(
            f"{name} is compressed with zstd: apt-get install zstd, or use its plain Image"
        )
    with subprocess.Popen(
        [tool, "-dcq", "-M512MB"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as proc:
        assert proc.stdin is not None
        assert proc.stdout is not None
        feeder = threading.Thread(target=_feed, args=(proc, data), daemon=True)
        feeder.start()
        out = bytearray()
        while len(out) <= limit and (piece := proc.stdout.read(1 << 20)):
            out += piece
        if len(out) > limit:
            proc.kill()
        feeder.join()
    if len(out) > limit:
        raise _too_large(name, limit)
    if proc.returncode != 0:
        raise LoadError(f"{name} is damaged: its zstd stream cannot be unpacked")
    return bytes(out)


def _feed(proc: Popen[bytes], data: bytes) -> None:
    assert proc.stdin is not None
    try:
        proc.stdin.write(data)
        proc.stdin.close()
    except OSError:
        pass  # its exit status tells


def _too_large(name: str, limit: int) -> LoadError:
    return LoadError(f"{name} unpacks to more than the {human(limit)} of memory: use a larger -m")


# By the name in the header: CONFIG_KERNEL_* as the kernel's Makefile.zboot calls them.
UNPACKERS: dict[str, Callable[[bytes, str, int], bytes]] = {
    "gzip": source.gunzip,
    "zstd": _zstd,
    "zstd22": _zstd,
    "xz": _xz,
    "xzkern": _xz,
    "lzma": _xz,
}
