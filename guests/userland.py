"""Debian's arm64 programs as a disk, and the script that runs some of them at boot.

    python -m bhyvepy.guests.userland                      the path of the disk
    python -m bhyvepy.guests.userland -s FILE -o INITRD    and an initrd that runs FILE there

The disk is an ext4 file system with packages unpacked but not configured: enough for
programs, made in seconds without an arm64 machine. It is meant to be attached read-only, so
that any number of guests share it. Responsible for the disk, for its cache, and for the
initrd whose /cmds.sh goes into the disk with chroot. Not responsible for fetching and
verifying packages (debian.py), or for what is run (the tests).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from . import debian
from .cpio import Cpio
from .packages import LEFT_OUT

# Programs that are worth running, with all that they depend on.
PROGRAMS = (
    "bash",
    "bc",
    "bzip2",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "gawk",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "libpython3.11-testsuite",
    "mawk",
    "openssl",
    "perl",
    "procps",
    "python3",
    "sed",
    "sqlite3",
    "stress-ng",
    "tar",
    "util-linux",
    "xz-utils",
    "zstd",
)
# Directories that Debian's packages know by two names.
MERGED = ("bin", "sbin", "lib")
# The form of the disk; a change makes the cached ones void.
FORM = 1
SPARE_MIB = 32

# Runs as /cmds.sh of the initramfs: the disk is mounted, /job of the initramfs is in its /tmp.
MOUNT = """\
mount -t ext4 -o ro /dev/vda /mnt || exit 1
mount -t proc proc /mnt/proc
mount -t sysfs sys /mnt/sys
mount --bind /dev /mnt/dev
mount -t tmpfs tmp /mnt/tmp
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
ifconfig lo 127.0.0.1 up
cp -r /job /mnt/tmp/job
ulimit -c 0
"""
# /enter of the initramfs: a command in the disk.
ENTER = """\
exec env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR=/tmp \\
	LC_ALL=C.UTF-8 TERM=dumb chroot /mnt "$@" </dev/null
"""
RUN = """\
/enter /bin/sh /tmp/job/run.sh
echo "WORK-STATUS $?"
poweroff -f
"""


def disk(programs: Iterable[str] = PROGRAMS, cache: Path | None = None) -> Path:
    """The disk image with these packages, from the cache or made."""
    cache = cache or debian.cache_dir()
    names = sorted(programs)
    key = hashlib.sha256(repr((FORM, names)).encode()).hexdigest()[:16]
    path = cache / "userland" / f"{key}.img"
    with debian.locked(cache):
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            _make(names, cache, path)
    return path


def _make(names: Sequence[str], cache: Path, path: Path) -> None:
    sources = debian.machine_sources()
    if not sources:
        raise debian.FetchError("this machine's apt sources name no Debian archive")
    with tempfile.TemporaryDirectory(prefix="apt-", dir=cache) as scratch:
        apt = debian.PrivateApt(Path(scratch) / "root", sources)
        apt.update()
        tree = Path(scratch) / "tree"
        unpack(apt.download_with_dependencies(list(names)), tree)
        image = Path(scratch) / "image"
        file_system(tree, image)
        image.rename(path)


def unpack(debs: Iterable[Path], tree: Path) -> None:
    """The files of packages, with /bin and its like in /usr as on a Debian system."""
    for name in MERGED:
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")
    for name in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "var/tmp"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    left_out = [f"--exclude=./{name}*" for name in LEFT_OUT]
    for deb in debs:
        # --fsys-tarfile and tar: dpkg-deb -x would replace /bin by a directory.
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE
        ) as proc:
            argv = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", *left_out]
            done = subprocess.run([*argv, "-C", str(tree)], stdin=proc.stdout, check=False)
        if proc.returncode != 0 or done.returncode != 0:
            raise debian.FetchError(f"{deb.name} cannot be unpacked")
    (tree / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    )
    (tree / "etc" / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (tree / "etc" / "hosts").write_text("127.0.0.1\tlocalhost\n")


def file_system(tree: Path, image: Path, spare_mib: int = SPARE_MIB, journal: bool = False) -> None:
    """The tree as an ext4 file system."""
    used = sum((p.lstat().st_size + 4095) // 4096 * 4096 for p in tree.rglob("*"))
    with image.open("wb") as f:
        f.truncate(used * 9 // 8 + (spare_mib << 20))
    mke2fs = shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if mke2fs is None:
        raise debian.FetchError("mke2fs is missing: install e2fsprogs")
    argv = [mke2fs, "-q", "-t", "ext4", "-E", "root_owner=0:0"]
    argv += [] if journal else ["-O", "^has_journal"]
    done = subprocess.run(
        [*argv, "-d", str(tree), str(image)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise debian.FetchError(f"mke2fs failed: {done.stderr.strip()}")


def initrd(guest: debian.Guest, script: str, files: Mapping[str, bytes] | None = None) -> bytes:
    """The kernel's initrd; at boot `script` runs in the disk, then the machine goes off.

    The script finds the files in /tmp/job; nothing but /tmp can be written.
    """
    return _initrd(guest, MOUNT + RUN, {**(files or {}), "run.sh": script.encode()})


def shell_initrd(guest: debian.Guest, files: Mapping[str, bytes]) -> bytes:
    """The kernel's initrd to its prompt, where `/enter COMMAND` runs a command in the disk."""
    return _initrd(guest, MOUNT, files)


def _initrd(guest: debian.Guest, commands: str, files: Mapping[str, bytes]) -> bytes:
    more = Cpio()
    more.file("cmds.sh", commands.encode(), 0o755)
    more.file("enter", b"#!/bin/sh\n" + ENTER.encode(), 0o755)
    for name, data in files.items():
        more.file(f"job/{name}", data)
    return guest.initrd.read_bytes() + gzip.compress(more.getvalue(), mtime=0)


# -- command line ----------------------------------------------------------------


def main(
    script: Annotated[str, typer.Option("-s", help="a script to run at boot")] = "",
    output: Annotated[str, typer.Option("-o", help="where the initrd for it goes")] = "",
    kernel: Annotated[str, typer.Option(help="the kernel it is for")] = "6.1-cloud",
) -> None:
    """Print the path of the disk; with -s and -o also write an initrd."""
    try:
        print(disk())
        if script:
            if not output:
                raise debian.FetchError("-s needs -o FILE for the initrd")
            Path(output).write_bytes(initrd(debian.fetch(kernel), Path(script).read_text()))
    except debian.FetchError as err:
        print(f"guests: {err}", file=sys.stderr)
        raise typer.Exit(debian.EX_UNAVAILABLE) from None
    except OSError as err:
        print(f"guests: {err.filename}: {err.strerror}", file=sys.stderr)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
