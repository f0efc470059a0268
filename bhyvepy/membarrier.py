"""A full memory barrier on every thread of this process (membarrier(2)).

A device thread and a guest's vCPU thread look at each other's stores: each stores, orders
that before its next load, and loads what the other stored. When the device orders both
sides, which it does far less often than a guest executes DMB, the translator need not
order the guest's side (vmmcore/sys/membarrier.h). Not for ordering within a thread.
"""

from __future__ import annotations

import ctypes
import threading

_SYS_MEMBARRIER = 324  # x86-64
_PRIVATE_EXPEDITED = 1 << 3
_REGISTER_PRIVATE_EXPEDITED = 1 << 4

# It is over in microseconds: the GIL stays.
_syscall = ctypes.PyDLL(None).syscall
_lock = threading.Lock()


def _membarrier(command: int) -> bool:
    return bool(_syscall(_SYS_MEMBARRIER, command, 0, 0) == 0)


_registered = _membarrier(_REGISTER_PRIVATE_EXPEDITED)


def full_barrier() -> None:
    """Order earlier stores before later loads, here and in all running threads.

    On a kernel without membarrier(2) here alone: the translator then orders the guest's
    side. A lock's atomic exchange does that, x86 keeping all other orders by itself.
    """
    if not (_registered and _membarrier(_PRIVATE_EXPEDITED)):
        with _lock:
            pass
