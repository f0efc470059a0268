"""Builds the C core as a static library, for tests in C that look inside it.

Under `make test-asan` (BHYVEPY_ASAN names its build) with the sanitizers, as everything is.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASAN = os.environ.get("BHYVEPY_ASAN")
BUILD = Path(ASAN) if ASAN else ROOT / "build" / "test-core"
FLAGS = ["-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]
FLAGS += ["-fsanitize=address,undefined"] if ASAN else []


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
