"""Debian's installer for arm64: the kernel and the initrd of its netboot form.

    python -m bhyvepy.guests.installer        prints the paths of linux and initrd.gz

Responsible for taking the two files out of Debian's package and for their cache. Packages are
fetched and verified by debian.py.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import typer

from . import debian

PACKAGE = "debian-installer-12-netboot-arm64"
FOLDER = "usr/lib/debian-installer/images/12/arm64/text/debian-installer/arm64"
# bhyveload's -a: one question after the other instead of a full-screen dialogue.
ARGS = "console=ttyS0 DEBIAN_FRONTEND=text TERM=dumb"
MEMORY = "1G"


@dataclass(frozen=True)
class Installer:
    """What bhyveload takes with -k and -i."""

    linux: Path
    initrd: Path


def fetch(cache: Path | None = None) -> Installer:
    """The installer, from the cache or from its package."""
    cache = cache or debian.cache_dir()
    final = cache / PACKAGE
    with debian.locked(cache):
        if not final.exists():
            _download(cache, final)
    return Installer(final / "linux", final / "initrd.gz")


def _download(cache: Path, final: Path) -> None:
    sources = debian.machine_sources()
    if not sources:
        raise debian.FetchError("this machine's apt sources name no Debian archive")
    with tempfile.TemporaryDirectory(prefix="apt-", dir=cache) as scratch:
        apt = debian.PrivateApt(Path(scratch) / "root", sources)
        apt.update()
        tree = Path(scratch) / "tree"
        argv = ["dpkg-deb", "-x", str(apt.download(PACKAGE)), str(tree)]
        if subprocess.run(argv, capture_output=True, check=False).returncode != 0:
            raise debian.FetchError(f"dpkg-deb cannot read {PACKAGE}")
        found = tree / FOLDER
        if not (found / "linux").is_file() or not (found / "initrd.gz").is_file():
            raise debian.FetchError(f"{PACKAGE} has no {FOLDER}: its layout has changed")
        found.rename(final)


def main() -> None:
    """Print the paths of Debian's installer, fetched when it is not in the cache."""
    try:
        found = fetch()
    except debian.FetchError as err:
        print(f"guests: {err}", file=sys.stderr)
        raise typer.Exit(debian.EX_UNAVAILABLE) from None
    print(found.linux)
    print(found.initrd)


if __name__ == "__main__":
    typer.run(main)
