"""The cheap parts of `make lint`, in the suite: ruff and clang-format. mypy is left to make."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUFF = Path(sys.executable).with_name("ruff")
C_FOLDERS = ("vmmcore", "guests", "tests", "bench")


def _run(*argv: str | Path) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, (done.stdout + done.stderr)[-4000:]


def test_ruff_finds_nothing() -> None:
    """No rule of pyproject.toml is broken."""
    _run(RUFF, "check", ".")


def test_python_is_laid_out_by_ruff() -> None:
    """`make format` would change no Python file."""
    _run(RUFF, "format", "--check", ".")


def test_c_is_laid_out_by_clang_format() -> None:
    """`make format` would change no C file."""
    if shutil.which("clang-format") is None:
        pytest.skip("clang-format is not installed")
    argv = ["git", "-C", ROOT, "ls-files", "-z", *C_FOLDERS]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    files = [n for n in done.stdout.split("\0") if n.endswith((".c", ".h", ".inc"))]
    assert files
    _run("clang-format", "--dry-run", "--Werror", *files)
