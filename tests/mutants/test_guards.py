"""Taking a guard away makes the test fail that is named for it: a sample of `make mutants`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import guards


def test_every_guard_has_its_place() -> None:
    """The text of each guard is still there, and the file runs without it as Python."""
    for guard in guards.GUARDS:
        text = guards.without((guards.ROOT / guard.file).read_text(), guard)
        compile(text, guard.file, "exec")


def test_names_are_unique() -> None:
    """A line of the score says which guard it was."""
    names = [(g.file, g.what) for g in guards.GUARDS]
    assert len(names) == len(set(names))


@pytest.mark.long
@pytest.mark.parametrize("guard", guards.GUARDS[::8], ids=lambda g: g.what.replace(" ", "-"))
def test_missing_guard_is_noticed(guard: guards.Guard) -> None:
    """Every eighth guard; make mutants tries all."""
    verdict = guards.judge(guard)
    assert verdict.noticed, verdict.why
