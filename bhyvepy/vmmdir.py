"""The directory that plays /dev/vmm: where it is, who may use it, what fits into it.

Not here: what is in a VM's folder (vmmapi.py and the core).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from bhyvepy.errors import BhyveError, VmSpaceError, printable


def vmm_dir() -> str:
    """The directory that plays /dev/vmm, made when it is missing.

    It is ours alone: owner and mode are checked, and a symbolic link is not
    followed, since the default lies in a directory that all may write.
    """
    path = os.environ.get("BHYVEPY_VMMDIR") or f"/dev/shm/bhyvepy-{os.geteuid()}"  # noqa: S108
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as err:
        raise BhyveError(
            f"cannot make the VM directory {printable(path, 200)}: {(err.strerror or '').lower()};"
            " set BHYVEPY_VMMDIR to a place where you may write"
        ) from None
    st = os.lstat(path)
    reason = ""
    if not stat.S_ISDIR(st.st_mode):
        reason = "is not a directory"
    elif st.st_uid != os.geteuid():
        reason = "belongs to somebody else"
    elif st.st_mode & 0o077:
        reason = "is open to others"
    if reason:
        raise BhyveError(
            f"the VM directory {printable(path, 200)} {reason};"
            " set BHYVEPY_VMMDIR to a directory of yours alone (mode 700)"
        )
    return path


@contextlib.contextmanager
def loading(directory: str) -> Iterator[None]:
    """One load at a time in a VM directory: who holds this owns every empty VM in it.

    The lock is the kernel's, on the directory itself: a killed loader leaves none behind.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def check_space(directory: str, size: int) -> None:
    """Refuse RAM that the VM directory or the machine could not hold."""
    fs = os.statvfs(directory)
    free = fs.f_bavail * fs.f_frsize
    where = f"free in {directory}"
    avail = _mem_available()
    if avail is not None and avail < free:
        free, where = avail, "of memory available"
    if size > free:
        raise VmSpaceError(
            f"{format_size(size)} of RAM is more than the {format_size(free)} {where};"
            " use a smaller -m, or set BHYVEPY_VMMDIR to a larger directory",
            errno.ENOSPC,
        )


def _mem_available() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as f:
            for line in f:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def format_size(size: int) -> str:
    """humanize_number: 128MB, 1.5GB."""
    value, unit = float(size), "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if value < 1024 or unit == "TB":
            break
        value /= 1024
    return f"{value:.0f}{unit}" if value == int(value) or value >= 100 else f"{value:.1f}{unit}"
