"""Floating point in translated code equals the interpreter's, bit for bit, flags included."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from core_lib import ROOT, build_program

CORE = ROOT / "vmmcore"


def fp_rows() -> list[str]:
    """The rows of a64_fp.decode as initialisers of struct row."""
    tables = [str(CORE / "pe" / "a64_fp.decode")]
    out = subprocess.run(
        [sys.executable, str(CORE / "tools" / "gen_decode.py"), "--json", *tables],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [
        f'{{ "{row["name"]}", {row["mask"]:#x}u, {row["value"]:#x}u }},' for row in json.loads(out)
    ]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The comparing program."""
    out = tmp_path_factory.mktemp("jit_fp")
    (out / "jit_fp_rows.inc").write_text("\n".join(fp_rows()))
    source = out / "jit_fp.c"
    source.write_text((Path(__file__).parent / "jit_fp.c").read_text())
    return build_program(source, out / "jit_fp")


def test_translated_floating_point(program: Path) -> None:
    """Each row, in 12 encodings with 12 operands, and 6000 sequences give the same state."""
    done = subprocess.run(
        [program, "1", "12", "12", "6000"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
