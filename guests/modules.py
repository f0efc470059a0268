"""Modules of a Debian kernel that its initrd does not carry, such as those of its cryptography.

Responsible for fetching a cached kernel's package once more, for taking folders of modules out
of it, and for their cache beside the kernel. Not responsible for what an initrd is made of
(initramfs.py) or for the kernel itself (debian.py).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from . import debian, initramfs
from .initramfs import Module

# Folders under lib/modules/RELEASE/kernel.
CRYPTO_ARM64 = ("arch/arm64/crypto",)
CRYPTO = (*CRYPTO_ARM64, "crypto", "lib")


def fetch(guest: debian.Guest, folders: Iterable[str]) -> dict[str, Module]:
    """All modules in these folders, from the cache or from the kernel's package."""
    wanted = sorted(folders)
    home = guest.vmlinuz.parent
    key = hashlib.sha256(repr(wanted).encode()).hexdigest()[:12]
    final = home / f"modules-{key}"
    with debian.locked(home.parent):
        if not final.exists():
            _download(guest, wanted, home, final)
        found = [Module(path.name, path.read_bytes()) for path in sorted(final.iterdir())]
    return {module.name: module for module in found}


def _download(guest: debian.Guest, wanted: list[str], home: Path, final: Path) -> None:
    manifest = json.loads((home / "manifest.json").read_text())
    with tempfile.TemporaryDirectory(prefix="apt-", dir=home.parent) as scratch:
        apt = debian.PrivateApt(Path(scratch), debian.machine_sources())
        apt.update()
        deb = apt.download(f"{manifest['package']}={manifest['version']}")
        temp = Path(scratch) / "modules"
        temp.mkdir()
        unpack(deb, wanted, temp)
        if not any(temp.iterdir()):
            raise debian.FetchError(f"{manifest['package']} has no modules in {', '.join(wanted)}")
        shutil.rmtree(final, ignore_errors=True)
        temp.rename(final)


def unpack(deb: Path, wanted: Iterable[str], into: Path) -> None:
    """The modules in folders of a kernel package."""
    prefixes = tuple(f"{folder}/" for folder in wanted)
    argv = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE) as proc,
        tarfile.open(fileobj=proc.stdout, mode="r|") as tar,
    ):
        for member in tar:
            inside = member.name.partition("/kernel/")[2]
            if initramfs.module_name(inside) and inside.startswith(prefixes):
                source = tar.extractfile(member)
                if source:
                    (into / inside.rpartition("/")[2]).write_bytes(source.read())
    if proc.returncode != 0:
        raise debian.FetchError(f"dpkg-deb cannot read {deb.name}")


def initrd(
    guest: debian.Guest, more: Mapping[str, Module], extra: Mapping[str, bytes] | None = None
) -> bytes:
    """The kernel's initrd with more modules, which modprobe finds, and files."""
    home = guest.vmlinuz.parent
    own = [Module(path.name, path.read_bytes()) for path in (home / "modules").iterdir()]
    return initramfs.build(
        guest.release,
        (home / "busybox").read_bytes(),
        {module.name: module for module in own} | dict(more),
        extra,
        (*initramfs.WANTED, *more),
    )
