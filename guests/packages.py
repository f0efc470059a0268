"""Programs from Debian's arm64 packages, as an archive that goes behind an initrd.

    initrd = guest.initrd.read_bytes() + packages.archive("stress-ng")

Linux unpacks an initrd that is several compressed archives one after the other, so
nothing is built anew. Responsible for resolving what a package depends on, for taking
programs and libraries out of the packages, and for the cache. Not responsible for where
packages come from and how they are verified (debian.py), or for the archive's format
(cpio.py).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import debian
from .cpio import Cpio

# What programs do not need to run.
LEFT_OUT = tuple(
    f"usr/share/{name}/" for name in ("bash-completion", "doc", "info", "lintian", "locale", "man")
)
# The form of an archive; a change makes the cached ones void.
FORM = 1


def archive(*names: str, cache: Path | None = None) -> bytes:
    """A gzip-compressed cpio archive with the packages and all that they depend on."""
    cache = cache or debian.cache_dir()
    key = hashlib.sha256(repr((FORM, sorted(names))).encode()).hexdigest()[:16]
    path = cache / "packages" / f"{'+'.join(sorted(names))[:80]}-{key}.cpio.gz"
    with debian.locked(cache):
        if not path.exists():
            data = _download(names, cache)
            path.parent.mkdir(exist_ok=True)
            temp = path.with_suffix(f".{os.getpid()}")
            temp.write_bytes(data)
            temp.rename(path)
        return path.read_bytes()


def _download(names: Iterable[str], cache: Path) -> bytes:
    sources = debian.machine_sources()
    if not sources:
        raise debian.FetchError("this machine's apt sources name no Debian archive")
    with tempfile.TemporaryDirectory(prefix="apt-", dir=cache) as scratch:
        apt = debian.PrivateApt(Path(scratch), sources)
        apt.update()
        return pack(apt.download_with_dependencies(list(names)))


def pack(debs: Iterable[Path]) -> bytes:
    """Programs and libraries of packages as one archive; the first of two like files counts."""
    out = Cpio()
    seen: set[str] = set()
    for deb in debs:
        argv = ["dpkg-deb", "--fsys-tarfile", str(deb)]
        with (
            subprocess.Popen(argv, stdout=subprocess.PIPE) as proc,
            tarfile.open(fileobj=proc.stdout, mode="r|") as tar,
        ):
            for member in tar:
                name = member.name.removeprefix("./").strip("/")
                if not name or name in seen or name.startswith(LEFT_OUT):
                    continue
                if member.issym():
                    out.symlink(name, member.linkname)
                elif member.isfile() and (source := tar.extractfile(member)):
                    out.file(name, source.read(), member.mode & 0o777)
                else:
                    continue
                seen.add(name)
        if proc.returncode != 0:
            raise debian.FetchError(f"dpkg-deb cannot read {deb.name}")
    return gzip.compress(out.getvalue(), compresslevel=6, mtime=0)
