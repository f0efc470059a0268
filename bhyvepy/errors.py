"""The one exception tree of bhyvepy, and errno values as lines for a user.

A BhyveError is a message of one line that ends with the remedy where there is
one; the commands print it and exit (cli/_run.py). Nothing here knows exit
statuses.
"""

from __future__ import annotations

import errno
import os


class BhyveError(Exception):
    """Something that a user can be told in one line."""


class ConfigError(BhyveError):
    """A bad option, key or value."""


class SyntaxOptionError(ConfigError):
    """An option whose value is not of its form (EX_USAGE of bhyve(8))."""


class LoadError(BhyveError):
    """A kernel, initrd or device tree that cannot be loaded."""


class DeviceError(BhyveError):
    """A device that cannot be made, or that failed while the guest ran."""


class VmError(BhyveError):
    """The core refused; `errno` says why."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.errno = code


class VmNotFoundError(VmError):
    """No VM of that name."""


class VmExistsError(VmError):
    """The name is taken."""


class VmBusyError(VmError):
    """Another process runs the VM."""


class VmSpaceError(VmError):
    """Memory, or room in the VM directory, is short."""


class VmDamagedError(VmError):
    """Files of another version, or damaged ones."""


class GuestFault(BhyveError):  # noqa: N818 - a fault, as the architecture calls it
    """An access outside of RAM, or against its protection."""

    def __init__(self, gpa: int, length: int, write: bool) -> None:
        what = "write" if write else "read"
        super().__init__(f"{what} of {length} bytes at {gpa:#x} is not in guest RAM")
        self.gpa = gpa
        self.length = length
        self.write = write


# errno -> (class, text with {name} and {dir}). One row, one line, one remedy.
_VM_ERRORS: dict[int, tuple[type[VmError], str]] = {
    errno.ENOENT: (
        VmNotFoundError,
        "there is no VM {name}; `bhyvectl --list` shows the VMs, bhyveload makes one",
    ),
    errno.EEXIST: (
        VmExistsError,
        "VM {name} exists already; remove it with `bhyvectl --vm={name} --destroy`",
    ),
    errno.EBUSY: (VmBusyError, "VM {name} is running already"),
    errno.ENOSPC: (
        VmSpaceError,
        "no space left in {dir}; free some, or set BHYVEPY_VMMDIR to a larger directory",
    ),
    errno.ENOMEM: (VmSpaceError, "not enough memory for VM {name}; use a smaller -m"),
    errno.EPROTO: (
        VmDamagedError,
        "VM {name} is damaged or of another version;"
        " remove it with `bhyvectl --vm={name} --destroy`",
    ),
    errno.EPERM: (
        VmError,
        "{dir} does not belong to you; set BHYVEPY_VMMDIR to a directory that does",
    ),
    errno.EACCES: (VmError, "no access to VM {name} in {dir}"),
}


def vm_error(code: int, what: str, name: str = "", directory: str = "") -> VmError:
    """The exception for an errno of the core; `what` is what was tried."""
    cls, text = _VM_ERRORS.get(code, (VmError, ""))
    if not text:
        text = os.strerror(code).lower()
        who = f" VM {printable(name)}" if name else ""
        return cls(f"cannot {what}{who}: {text}", code)
    return cls(text.format(name=printable(name), dir=directory), code)


def printable(text: str, limit: int = 80) -> str:
    """User input for a message: one line, no control characters, not too long."""
    out = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[: limit + 1])
    return out if len(text) <= limit else out[:limit] + "..."


def os_error(what: str, path: str, err: OSError) -> BhyveError:
    """A file that could not be opened, read or written."""
    reason = (err.strerror or str(err)).lower()
    return BhyveError(f"cannot {what} {printable(path, 200)}: {reason}")
