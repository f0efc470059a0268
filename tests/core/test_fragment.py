"""The order of IPv4 fragments, by itself: the stack behind it would refuse most of this too."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import cffi
import pytest

CORE = Path(__file__).resolve().parents[2] / "vmmcore"
INSTEAD = Path(os.environ.get("GUARD_SOURCES", CORE))  # tests/mutants
CDEF = """
bool net_fragment_in_order(void *f, const uint8_t *frame, size_t len, int64_t now_ms);
"""
DATAGRAMS, SIZE = 32, 32 * 24
MORE = 0x2000


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """fragment.c, and cffi for it."""
    source = next(d / "net/fragment.c" for d in (INSTEAD, CORE) if (d / "net/fragment.c").exists())
    lib = tmp_path_factory.mktemp("fragment") / "fragment.so"
    argv = ["gcc", "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]
    argv += ["-fsanitize=undefined", "-fno-sanitize-recover=undefined"]
    argv += ["-fPIC", "-shared", f"-I{CORE}", str(source), "-o", str(lib)]
    subprocess.run(argv, check=True)
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    return ffi, ffi.dlopen(str(lib))


class Order:
    """What a stack remembers of datagrams."""

    def __init__(self, core: Any) -> None:
        self.ffi, self.lib = core
        self.state = self.ffi.new("uint64_t[]", SIZE // 8)

    def frame(self, data: bytes, now: int = 0) -> bool:
        """Whether it passes; a copy, so that a sanitizer sees the end."""
        copy = self.ffi.new("uint8_t[]", data)
        return bool(self.lib.net_fragment_in_order(self.state, copy, len(data), now))

    def part(self, number: int, at: int, length: int, *, more: bool = True, now: int = 0) -> bool:
        return self.frame(fragment(number, at, length, more=more), now)


def fragment(number: int, at: int, length: int, *, more: bool = True, **other: int) -> bytes:
    """A fragment of datagram `number`; other: ihl, total, proto, src."""
    o = {"ihl": 5, "total": 20 + length, "proto": 17, "src": 15} | other
    ip = struct.pack(">BBHHHBBHBBBBBBBB", 0x40 | o["ihl"], 0, o["total"], number,
                     (MORE if more else 0) | at // 8, 64, o["proto"], 0,
                     10, 0, 2, o["src"], 10, 0, 2, 2)  # fmt: skip
    return bytes(12) + b"\x08\x00" + ip + bytes(length)


def test_order(core: Any) -> None:
    """One behind the other; another source, protocol or number is another datagram."""
    o = Order(core)
    assert not o.part(1, 8, 8)
    assert o.part(1, 0, 16)
    assert not o.part(1, 8, 8)
    assert not o.part(1, 24, 8)
    assert not o.part(2, 16, 8)
    assert not o.frame(fragment(1, 16, 8, proto=6))
    assert not o.frame(fragment(1, 16, 8, src=16))
    assert not o.part(1, 0, 16), "its beginning came already"
    assert o.part(1, 16, 8)
    assert o.part(1, 24, 5, more=False)
    assert not o.part(1, 32, 5, more=False), "it is finished"
    assert o.part(1, 0, 16), "the number is used again"


def test_short_frames(core: Any) -> None:
    """What is no whole IPv4 header is not looked at: the bytes behind the end are not its."""
    o = Order(core)
    whole = fragment(1, 8, 64)
    assert not o.frame(whole)
    buffer = o.ffi.new("uint8_t[]", whole)
    for length in range(14 + 20):
        assert o.lib.net_fragment_in_order(o.state, buffer, length, 0)
    assert o.frame(whole[:12] + b"\x86\xdd" + whole[14:])


@pytest.mark.parametrize(
    ("length", "other"),
    [
        (12, {"ihl": 4}),
        (12, {"ihl": 0}),
        (16, {"total": 44}),
        (0, {}),
        (16, {"total": 20}),
        (16, {"total": 19}),
        (40, {"ihl": 15, "total": 60}),
        (12, {}),
        (7, {}),
    ],
)
def test_lengths(core: Any, length: int, other: dict[str, int]) -> None:
    """Headers and totals that cannot be, nothing in it, more to come behind an odd length."""
    assert not Order(core).frame(fragment(1, 0, length, **other))


def test_too_long(core: Any) -> None:
    """A datagram ends at 65,535 bytes, its header included (the ping of death)."""
    o = Order(core)
    for at in range(0, 64000, 3200):
        assert o.part(1, at, 3200)
    assert not o.part(1, 64000, 1520, more=False)
    assert o.part(1, 64000, 1515, more=False)


def test_many_unfinished(core: Any) -> None:
    """When as many are open as are remembered the next one waits; a finished one makes room."""
    o = Order(core)
    assert all(o.part(n, 0, 8) for n in range(DATAGRAMS))
    assert not o.part(99, 0, 8)
    assert o.part(7, 8, 8, more=False)
    assert o.part(99, 0, 8)
    assert not o.part(100, 0, 8)


def test_given_up(core: Any) -> None:
    """After a minute the rest does not come any more."""
    o = Order(core)
    assert all(o.part(n, 0, 8, now=1000) for n in range(DATAGRAMS))
    assert not o.part(99, 0, 8, now=60999)
    assert o.part(99, 0, 8, now=61000)
    assert not o.part(5, 8, 8, now=61000)
