"""A core in which any one guard of the list can be switched off.

Responsible for the copy of the C sources in which each guard asks GUARD_OFF whether it is
there, and for linking them in front of the core that is built. Not for the guards:
c_guard_list.py. One build does for all: the number is read when a process starts.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from guard_list import Guard

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "editable"  # where `make` builds the core of the tree
FLAGS = [
    *("-std=c11", "-O2", "-g", "-fPIC", "-mcx16", "-fvisibility=hidden", "-ffp-contract=off"),
    *("-D_GNU_SOURCE", f"-I{ROOT}/vmmcore", f"-I{ROOT}/vmmcore/include", f"-I{BUILT}/gen"),
]
CHOOSE = """\
#include <stdlib.h>
static int guard_off;
__attribute__((constructor)) static void
guard_choose(void)
{
	const char *s = getenv("GUARD_OFF");
	guard_off = s == NULL ? 0 : atoi(s);
}
#line 1
"""


def place(text: str, guard: Guard) -> int:
    """Where the guard stands in the source."""
    at = text.find(guard.where)
    start = text.find(guard.right, at + len(guard.where)) if at >= 0 else -1
    if start < 0:
        raise LookupError(f"{guard.file}: {guard.what}: no {guard.right!r} behind {guard.where!r}")
    return start


def switched(text: str, guards: list[tuple[int, Guard]]) -> str:
    """The source with every guard of it behind its number."""
    for start, number, g in sorted(((place(text, g), n, g) for n, g in guards), reverse=True):
        tail = text[start + len(g.right) :]
        # An operator at the end shows which of several the guard is.
        right, wrong, end = g.right, g.wrong, ""
        if right.endswith(" ||"):
            right, wrong, end = right[:-3], wrong[:-3], " ||"
        text = f"{text[:start]}(guard_off == {number} ? ({wrong}) : ({right})){end}{tail}"
    return CHOOSE + text


def write_sources(out: Path, guards: list[tuple[int, Guard]]) -> list[Path]:
    """The files that hold guards; what has not changed is not written."""
    files = []
    for name in sorted({g.file for _, g in guards}):
        text = switched((ROOT / name).read_text(), [(n, g) for n, g in guards if g.file == name])
        file = out / name.removeprefix("vmmcore/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
        files.append(file)
    return files


def _run(argv: list[str | Path]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv[0]}: {(done.stdout + done.stderr)[-3000:]}")


def build(guards: list[tuple[int, Guard]]) -> dict[str, str]:
    """The environment in which Python, and the tests that compile, take that core."""
    library = BUILT / "libvmmcore.a"
    if not library.exists():
        raise RuntimeError(f"{library} is missing: make .venv/stamp builds it")
    tree = zlib.crc32(str(ROOT).encode())
    out = Path(tempfile.gettempdir()) / f"bhyvepy-guards-{os.getuid()}-{tree:08x}"
    out.mkdir(mode=0o700, exist_ok=True)
    module = out / "_vmmcore.abi3.so"
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Headers and the rest of the core: as new as the library.
        made = library.stat().st_mtime
        argvs: list[list[str | Path]] = []
        objects = []
        for file in write_sources(out / "src", guards):
            obj = out / f"{file.stem}.o"
            objects.append(obj)
            if not obj.exists() or obj.stat().st_mtime < max(made, file.stat().st_mtime):
                argvs.append(["gcc", *FLAGS, "-c", file, "-o", obj])
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(_run, argvs))
        if argvs or not module.exists():
            # What an object defines is not taken from the library.
            ffi = BUILT / "CMakeFiles" / "_vmmcore.dir" / "_vmmcore.c.o"
            rest: list[str | Path] = [library, "-lm", "-ldl", "-pthread"]
            _run(["gcc", "-shared", ffi, *objects, *rest, "-o", module])
    return {
        "GUARD_MODULE": "bhyvepy._vmmcore",
        "GUARD_FILE": str(module),
        "GUARD_SOURCES": str(out / "src"),
    }
