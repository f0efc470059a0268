"""Debian's U-Boot for QEMU's virt machine, as a boot ROM: u-boot.bin of u-boot-qemu.

    rom = uboot.fetch()
    bhyve -m 256M -e 0x40000000 <uboot.OPTIONS> -l <rom> -s '0x200@0x7000#44:virtio-blk,...' vm

It runs where it is placed, but its platform is fixed: RAM begins at 0x40000000 with the
device tree at its start, and messages before the tree is read go to a PL011 at 0x9000000
that nobody else uses. OPTIONS gives it both, and com1 as the PL011 that it has a driver for.
What it misses: flash for its environment (it warns and takes the default one), and a
way to reset (it has no driver for the tree's PSCI node).

Responsible for the package and its cache; where packages come from is debian.py's.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from . import debian

PACKAGE = "u-boot-qemu"
FILE = "usr/lib/u-boot/qemu_arm64/u-boot.bin"
OPTIONS = (
    "-o",
    "loader.address=0x44000000",
    "-o",
    "fdt.address=0x40000000",
    "-s",
    "0x1000@0x10000#37:mmio-uart",
    "-s",
    "0x1000@0x9000000#41:mmio-uart",
)


def fetch(cache: Path | None = None) -> Path:
    """u-boot.bin, from the cache or from Debian's package servers."""
    cache = cache or debian.cache_dir()
    path = cache / PACKAGE / "u-boot.bin"
    with debian.locked(cache):
        if not path.exists():
            sources = debian.machine_sources()
            if not sources:
                raise debian.FetchError("this machine's apt sources name no Debian archive")
            with tempfile.TemporaryDirectory(prefix="apt-", dir=cache) as scratch:
                apt = debian.PrivateApt(Path(scratch), sources)
                apt.update()
                argv = ["dpkg-deb", "-x", str(apt.download(PACKAGE)), f"{scratch}/files"]
                subprocess.run(argv, check=True)
                path.parent.mkdir(exist_ok=True)
                temp = path.with_suffix(f".{os.getpid()}")
                temp.write_bytes((Path(scratch) / "files" / FILE).read_bytes())
                temp.rename(path)
    return path
