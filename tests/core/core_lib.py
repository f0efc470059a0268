"""Builds the C core as a static library, for tests in C that look inside it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "test-core"
FLAGS = ["-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]


@cache
def core_library() -> Path:
    """libvmmcore.a, built anew where its sources changed."""
    for argv in (
        ["cmake", "-S", ROOT / "vmmcore", "-B", BUILD],
        ["cmake", "--build", BUILD, "-j2", "--target", "vmmcore"],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return BUILD / "libvmmcore.a"


def build_program(source: Path, out: Path) -> Path:
    """A test program linked with the core."""
    lib = core_library()
    core = ROOT / "vmmcore"
    include = [f"-I{core}", f"-I{core / 'include'}", f"-I{BUILD / 'gen'}"]
    subprocess.run(["gcc", *FLAGS, *include, source, lib, "-lm", "-pthread", "-o", out], check=True)
    return out
