"""Taking a guard away makes the test fail that is named for it: a sample of `make mutants`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import guards


def test_every_guard_has_its_place() -> None:
    """The text of each guard is still there, and the file runs without it as Python."""
    for guard in guards.PY_GUARDS:
        text = guards.without((guards.ROOT / guard.file).read_text(), guard)
        compile(text, guard.file, "exec")
    guards.c_core.build(guards.NUMBERED)


def test_names_are_unique() -> None:
    """A line of the score says which guard it was."""
    names = [(g.file, g.what) for g in guards.GUARDS]
    assert len(names) == len(set(names))


def test_names_of_tests_are_right() -> None:
    """Every test that is to notice a guard of the core is there."""
    for guard in guards.C_GUARDS:
        for test in guard.tests.split():
            file, name = test.split("::")
            assert f"def {name}(" in (guards.ROOT / file).read_text(), test


def noticed(guard: guards.Guard) -> None:
    verdict = guards.judge(guard)
    assert verdict.noticed, verdict.why


@pytest.mark.slow
@pytest.mark.parametrize("guard", guards.C_GUARDS[7::20], ids=lambda g: g.what.replace(" ", "-"))
def test_missing_guard_of_the_core_is_noticed(guard: guards.Guard) -> None:
    """A few of the C guards; make mutants tries all."""
    noticed(guard)


@pytest.mark.long
@pytest.mark.parametrize("guard", guards.PY_GUARDS[::8], ids=lambda g: g.what.replace(" ", "-"))
def test_missing_guard_is_noticed(guard: guards.Guard) -> None:
    """Every eighth guard in Python."""
    noticed(guard)
