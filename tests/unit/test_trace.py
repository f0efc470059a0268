"""bhyvectl --trace: what a VM did last is read, whenever it ends."""

from __future__ import annotations

from typing import Any

import pytest

HVC = 0x16 << 26


class EndsBetween:
    """A VM that calls SYSTEM_OFF after a reader saw no event and before it asks for the state."""

    def __init__(self, core: Any) -> None:
        self._event, self._info = core.load("vmexit").TraceEvent, core.load("vmexit").VmState
        self.events: list[Any] = []
        self.state = self._info.RUNNING

    def memmap(self) -> list[Any]:
        return []

    def trace(self, on: bool) -> int:
        return 0

    def trace_read(self, seq: int) -> tuple[int, list[Any]]:
        return len(self.events), self.events[seq:]

    def info(self) -> EndsBetween:
        if not self.events:
            self.events.append(self._event(0, 10**9, 0, 0, 0x80000000, HVC, 0, 0, 0x84000008))
            self.state = self._info.ENDED
        return self


def test_the_last_exit_is_shown(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a VM did between the last look and its end is not lost."""
    trace = core.load("cli._trace")
    monkeypatch.setattr(trace.vmmapi, "system_registers", dict)
    lines = list(trace.follow(EndsBetween(core), frozenset(["hvc"])))
    assert lines == ["1.000000 0 hvc 0x80000000 0x84000008"]
