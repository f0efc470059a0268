"""Guest RAM during a load: what is taken, and where there is room.

Responsible for overlap and size checks with messages that say what would help.
Not for what goes where (the kernel forms and plan.py decide).
"""

from __future__ import annotations

from dataclasses import dataclass

from bhyvepy.boot.options import human
from bhyvepy.errors import LoadError


@dataclass(frozen=True, slots=True)
class _Taken:
    start: int
    end: int
    what: str


def align_up(value: int, step: int) -> int:
    """`value` rounded up to a multiple of `step`."""
    return -(-value // step) * step


class Arena:
    """The RAM ranges of a VM and what is in them."""

    def __init__(self, ram: list[tuple[int, int]]) -> None:
        self.ram = ram
        self.total = sum(length for _, length in ram)
        self._taken: list[_Taken] = []

    def reserve(self, start: int, size: int, what: str) -> None:
        """Take [start, start + size), which must be RAM and free."""
        end = start + size
        if not any(lo <= start and end <= lo + length for lo, length in self.ram):
            raise LoadError(
                f"the {what} ({human(size)} at {start:#x}) does not lie in RAM "
                f"({self.describe()}): use a larger -m, or another -b or -l"
            )
        for other in self._taken:
            if start < other.end and other.start < end:
                raise LoadError(
                    f"the {what} ({start:#x} to {end:#x}) overlaps "
                    f"the {other.what} ({other.start:#x} to {other.end:#x})"
                )
        self._taken.append(_Taken(start, end, what))

    def find(self, size: int, align: int, after: int, what: str) -> int:
        """Take the first free room at or above `after`; below it when there is none."""
        for floor in (after, 0):
            for lo, length in self.ram:
                at = self._fit(max(lo, floor), lo + length, size, align)
                if at is not None:
                    self.reserve(at, size, what)
                    return at
        raise LoadError(
            f"the {what} ({human(size)}) does not fit into {human(self.total)} of memory "
            "beside the rest: use a larger -m"
        )

    def describe(self) -> str:
        """The RAM ranges for a message."""
        return ", ".join(f"{lo:#x} to {lo + length:#x}" for lo, length in self.ram)

    def _fit(self, lo: int, hi: int, size: int, align: int) -> int | None:
        at = align_up(lo, align)
        for other in sorted(self._taken, key=lambda t: t.start):
            if at < other.end and other.start < at + size:
                at = align_up(other.end, align)
        return at if at + size <= hi else None
