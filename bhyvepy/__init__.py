"""bhyvepy: 64-bit Arm guests with FreeBSD's bhyveload, bhyve and bhyvectl.

Nothing is imported here: the commands must start quickly, and a floor that is
not needed must not be loaded. bhyvepy.vm("name") is session.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bhyvepy.session import Session

__version__ = "0.1.0"


def vm(name: str) -> Session:
    """A VM at hand: load, boot, console, registers, memory."""
    from bhyvepy.session import Session

    return Session(name)
