"""Every bad input that docs/reference/reliability.md lists for devices and loaders has a test.

The ids of its sections 1.3 (virtio) and 1.5 (files) stand in names of tests: V05 is
test_v05_something. The points of 4.1 (virtio) and 4.2 (serial port) have no ids:
reliability.toml says what tests each. What does not apply stands there with the reason.
"""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs/reference/reliability.md"
TABLE = tomllib.loads((TESTS / "style/reliability.toml").read_text())
# Besides 1.3 and 1.5: what descriptors that change under a device's eyes do.
MORE = ["F16"]


@cache
def all_tests() -> set[str]:
    """All tests as file::function, files by their path below tests/."""
    out = set()
    for path in TESTS.rglob("test_*.py"):
        where = path.relative_to(TESTS).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                out.add(f"{where}::{node.name}")
    return out


def section(number: str) -> str:
    """The text of a section."""
    text = PAGE.read_text()
    found = re.search(rf"^### {re.escape(number)} .*?(?=^###? |\Z)", text, re.M | re.S)
    assert found, number
    return found[0]


def ids() -> list[str]:
    """The first column of the tables of 1.3 and 1.5."""
    out = [i for n in ("1.3", "1.5") for i in re.findall(r"^\| ([A-Z]\d\d) \|", section(n), re.M)]
    assert len(out) == 31 + 8
    return out + MORE


def points() -> list[tuple[str, str]]:
    """(paragraph, point) of 4.1 and 4.2."""
    out = []
    for line in section("4.1").splitlines():
        if found := re.match(r"\*\*(.+?)\*\*:?\s*(.*)", line):
            out += [(found[1], part) for part in re.split(r"; |\. (?=[A-Z])", found[2])]
    for line in section("4.2").splitlines():
        if line.startswith("* "):
            [name] = [n for n in TABLE if line[2:].startswith(n)]
            out += [(name, part) for part in re.split(r"; |\. (?=[A-Z])", line[2:])]
    assert len(out) > 120
    return out


@pytest.mark.parametrize("name", ids())
def test_ids_have_tests(name: str) -> None:
    """Each id is in a test's name, or not applicable for a reason."""
    found = [
        t for t in all_tests() if re.search(rf"[_:]{name.lower()}_", t.partition("::")[2] + "_")
    ]
    reason = TABLE["no_test"].get(name)
    assert bool(found) != bool(reason), f"{name}: {found or 'no test'}, {reason or 'no reason'}"


def test_points_have_tests() -> None:
    """Each point of 4.1 and 4.2 is in the table once, with tests that exist or a reason."""
    todo = {(p, key) for p, rows in TABLE.items() if p != "no_test" for key in rows}
    for paragraph, text in points():
        keys = [k for k in TABLE.get(paragraph, {}) if text.strip().startswith(k)]
        assert len(keys) == 1, f"{paragraph}: {text!r} is begun by {keys}"
        todo.discard((paragraph, keys[0]))
    assert todo == set()


def test_what_the_table_names_exists() -> None:
    """Tests are called by their names."""
    missing = []
    for rows in (rows for p, rows in TABLE.items() if p != "no_test"):
        for value in rows.values():
            if value.startswith("- "):
                continue
            for test in value.split():
                full = test if "/" in test else f"devices/{test}"
                if full not in all_tests():
                    missing.append(test)
    assert missing == []
