"""What holds for every tracked file: size, first comment, nothing of one machine."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 800
# Files over the limit -> why they are not two files.
LONG: dict[str, str] = {}

SOURCE = {".c", ".h", ".inc", ".def", ".decode", ".S", ".py", ".pyi", ".lds"}
# Where a comment may begin.
COMMENT = ("/*", "//", '"""', "#", '.\\"')
# Text of others, kept as it was gathered.
GIVEN = ("docs/reference/",)

# What belongs to one machine or to its network.
MACHINE = re.compile(
    r"(?<![\w.])/(?:home|root|work|Users|opt)/\w"  # somebody's folders
    r"|https?://(?!127\.|(?:mirror|vendor|off|a|b|archive)[/ \"])[\w.-]*"
    r"(?:pypi|artifact|registry|mirror|proxy|internal|\d+\.\d+\.\d+\.\d+)"
)


@cache
def tracked() -> list[str]:
    """Files in the repository, by name; all files of a tree that is no repository."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git repository")
    return [n for n in done.stdout.split("\0") if n and (ROOT / n).is_file()]


def text_of(name: str) -> str | None:
    """The text of a file; None for a binary one or a link."""
    path = ROOT / name
    if path.is_symlink():
        return None
    data = path.read_bytes()
    return None if b"\0" in data else data.decode()


def sources() -> list[str]:
    """Tracked files that people write."""
    return [n for n in tracked() if Path(n).suffix in SOURCE and not n.startswith(GIVEN)]


def test_files_are_short() -> None:
    """No source has over 800 lines, unless the reason stands here."""
    long = {n for n in sources() if len((text_of(n) or "").splitlines()) > MAX_LINES}
    assert set() == long - set(LONG), "split it, or give the reason"
    assert set() == set(LONG) - long, "not long any more"


def test_first_comment_says_what_a_file_is_for() -> None:
    """A source begins with a comment of at least three words."""
    bad = []
    for name in sources():
        text = (text_of(name) or "").lstrip()
        if text.startswith("#!"):
            text = text.partition("\n")[2].lstrip()
        head = text[:400]
        if not head:
            continue  # an __init__.py without a word
        words = re.findall(r"[A-Za-z]{2,}", head.partition("\n\n")[0])
        if not head.startswith(COMMENT) or len(words) < 3:
            bad.append(name)
    assert [] == bad


def test_nothing_of_one_machine() -> None:
    """No tracked text names folders, hosts or package servers of a machine."""
    bad = []
    for name in tracked():
        if name.startswith(GIVEN) or name == "tests/style/test_tree.py":
            continue
        for number, line in enumerate((text_of(name) or "").splitlines(), 1):
            if found := MACHINE.search(line):
                bad.append(f"{name}:{number}: {found[0]}")
    assert [] == bad


def test_no_trailing_blanks_and_one_end() -> None:
    """Sources and pages have no blanks at line ends, and end with one newline."""
    bad = []
    for name in [*sources(), *(n for n in tracked() if re.search(r"\.(md|[358]|toml|sh)$", n))]:
        text = text_of(name)
        if not text or name.startswith(GIVEN):
            continue
        if not text.endswith("\n") or text.endswith("\n\n"):
            bad.append(f"{name}: end")
        bad += [f"{name}:{n}" for n, ln in enumerate(text.split("\n"), 1) if ln != ln.rstrip()]
    assert [] == bad


def test_generated_and_fetched_files_stay_out() -> None:
    """Build results, caches and kernels are not tracked, save the one shipped kernel."""
    allowed = {"guests/images/kernel"}
    bad = [
        n
        for n in tracked()
        if n not in allowed
        and (
            re.search(r"(^|/)(build|__pycache__|\.venv)/|\.(so|o|a|pyc|deb|img)$", n)
            or (text_of(n) is None and not (ROOT / n).is_symlink())
        )
    ]
    assert [] == bad
