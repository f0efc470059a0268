"""A flat image at an address that the user gives with -l.

It is entered at its first byte with x0 = the device tree, EL1h, MMU off.
"""

from __future__ import annotations

from bhyvepy.boot.arena import Arena
from bhyvepy.boot.options import Kernel, LoadOptions, Placement
from bhyvepy.errors import LoadError


def load(data: bytes, opts: LoadOptions, arena: Arena) -> Kernel:
    """Place the bytes at -l."""
    start = opts.load
    if start is None:
        raise LoadError(f"{opts.kernel} is of no known kernel format: -l ADDR loads it as it is")
    if start % 4:
        raise LoadError(
            f"-l {start:#x} is no multiple of 4: it is where the first instruction goes"
        )
    if len(data) < 4:
        what = "boot ROM" if opts.flat else "flat image"
        raise LoadError(
            f"{opts.kernel} has {len(data)} bytes, which is no instruction: it is no {what}"
        )
    arena.reserve(start, len(data), "kernel")
    placement = Placement(start, data, len(data), "kernel")
    return Kernel("raw", "fdt", start, start, start + len(data), [placement])
