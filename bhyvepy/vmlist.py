"""Which VMs there are: their names, and what can be said of one without opening it.

Not for what is in one (vmmapi.py), nor for the directory and its space (vmmdir.py). All of
it is in bhyvepy.vmmapi too.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Any

from bhyvepy._vmmcore import ffi, lib
from bhyvepy.errors import ConfigError, VmError, printable, vm_error
from bhyvepy.vmexit import SuspendHow, VmState
from bhyvepy.vmmdir import vmm_dir


def check_name(name: str) -> str:
    """A VM name that can be a file name on any system."""
    ok = 0 < len(name) <= int(lib.VM_MAX_NAMELEN) and name[0] not in ".-"
    if not ok or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
        raise ConfigError(
            f"bad VM name '{printable(name, 40)}': use 1 to {int(lib.VM_MAX_NAMELEN)} letters,"
            " digits, '.', '_' and '-', beginning with a letter, a digit or '_'"
        )
    return name


@dataclass(frozen=True, slots=True)
class VmInfo:
    """What `bhyvectl --list` shows; `damaged` VMs can only be destroyed."""

    name: str
    state: VmState | None
    how: SuspendHow
    maxcpus: int
    runner: int
    uid: int
    mem: int
    created: int

    @property
    def damaged(self) -> bool:
        """Half made, of another version, or with files missing."""
        return self.state is None

    @staticmethod
    def of(name: str, raw: Any) -> VmInfo:
        """From the core's struct vm_info."""
        return VmInfo(
            name,
            VmState(raw.state),
            SuspendHow(raw.how),
            int(raw.maxcpus),
            int(raw.runner),
            int(raw.uid),
            int(raw.mem),
            int(raw.created),
        )


def stat_vm(name: str) -> VmInfo:
    """Facts of a VM without opening it."""
    directory = vmm_dir()
    raw = ffi.new("struct vm_info *")
    err = lib.vm_stat(directory.encode(), check_name(name).encode(), raw)
    if err == errno.EPROTO:
        return VmInfo(name, None, SuspendHow.NONE, 0, 0, os.geteuid(), 0, 0)
    if err:
        raise vm_error(err, "look at", name, directory)
    return VmInfo.of(name, raw)


def list_vms() -> list[VmInfo]:
    """All VMs of this user, by name, damaged ones included."""
    out = []
    for entry in sorted(os.listdir(vmm_dir())):
        try:
            out.append(stat_vm(entry))
        except ConfigError:
            # Not a name: a VM that was never finished, under its temporary name.
            if entry.startswith("."):
                continue
        except VmError as err:
            if err.errno != errno.ENOENT:
                raise
    return out
