"""Translated instructions against interpreted ones: the handlers are the reference.

The conformance executor runs the same generated instructions and blocks with both engines;
every register, the flags, FPSR and the memory must be equal. The translator is also built as
for hosts that have less.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

CONFORMANCE = Path(__file__).parents[1] / "conformance"
sys.path[:0] = [str(CONFORMANCE), str(CONFORMANCE.parent / "insn")]

import conf_build  # noqa: E402
import conf_rows  # noqa: E402

EACH = 32  # encodings of a row
TESTS = 32  # inputs of an encoding
BLOCKS = 6000
PROGRAMS = {"group": 4000, "base": 8000, "strip": 4000, "late": 60000}  # of jit_NAME.c
# What the host may have: everything it has, AVX2 without the extensions, only BMI2.
HOSTS = {"all": "~0u", "avx2": "HOST_AVX2", "plain": "0"}


@cache
def executor(host: str) -> Path:
    """conf_host whose tables of lowerings were built for a host with less."""
    out = conf_build.build_dir()
    program = conf_build.build_host(out)
    if host == "all":
        return program
    core = conf_build.CORE
    sources, _ = conf_build.pe_sources(core, out)
    sources += [*conf_build.SHARED, CONFORMANCE / "exec_host.c"]
    objects = [out / f"{s.parent.name}-{s.stem}.o" for s in sources if s.stem != "jit_tables"]
    reduced = out / f"conf_host-{host}"
    if conf_build.stale(reduced, [program]):
        includes = [f"-I{d}" for d in (core, core / "include", out)]
        tables = out / f"jit_tables-{host}.o"
        mask = f"-DJIT_HOST_MASK={HOSTS[host]}"
        source = core / "pe" / "jit" / "jit_tables.c"
        compiler = ["gcc", *conf_build.CFLAGS]
        conf_build.run_tool([*compiler, mask, *includes, "-c", source, "-o", tables])
        conf_build.run_tool(["gcc", *objects, tables, "-o", reduced, "-lm", "-pthread"])
    return reduced


def hashes(program: Path, engine: str, out: Path, *args: object) -> list[int]:
    """One hash for each group of tests, or block."""
    argv = [str(program), "--engine", engine, *map(str, args), str(out)]
    subprocess.run(argv, check=True, capture_output=True)
    data = out.read_bytes()
    return list(struct.unpack(f"<{len(data) // 8}Q", data))


@pytest.mark.parametrize("host", HOSTS)
def test_every_row_translated_is_as_interpreted(host: str, tmp_path: Path) -> None:
    """A translated instruction leaves the state that its handler leaves, whatever the host has."""
    rows = conf_rows.load()
    args = ("insn", 2, EACH, TESTS, 0, len(rows) * EACH)
    program, out = executor(host), tmp_path / "out"
    interp, jit = (hashes(program, engine, out, *args) for engine in ("interp", "jit"))
    wrong = {
        rows[i // EACH].name for i, (a, b) in enumerate(zip(interp, jit, strict=True)) if a != b
    }
    assert not wrong, sorted(wrong)
    assert len({*interp}) > len(rows)


@pytest.mark.parametrize("host", HOSTS)
def test_blocks_translated_are_as_interpreted(host: str, tmp_path: Path) -> None:
    """Blocks of up to 64 random instructions leave the same state and memory on both engines."""
    args = ("block", 2, 4, 0, BLOCKS)
    program, out = executor(host), tmp_path / "out"
    interp, jit = (hashes(program, engine, out, *args) for engine in ("interp", "jit"))
    wrong = [i for i, (a, b) in enumerate(zip(interp, jit, strict=True)) if a != b]
    assert not wrong, wrong[:10]
    assert len({*interp}) > BLOCKS // 2


@pytest.mark.parametrize(
    "engine", ["jit-single", "jit-forced", "jit-irq", "jit-strict", "jit-small"]
)
def test_blocks_under_forced_settings_are_as_interpreted(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same when translated code is left behind every instruction or block and nothing stays
    in the TLB, when an interrupt comes between any two instructions, and when the code memory is
    full all the time."""
    if engine == "jit-irq":  # which clears the exclusive monitor
        monkeypatch.setenv("CONF_NO_EXCLUSIVES", "1")
    args = ("block", 3, 4, 0, BLOCKS // 3)
    program, out = executor("all"), tmp_path / "out"
    interp, jit = (hashes(program, name, out, *args) for name in ("interp", engine))
    assert [i for i, (a, b) in enumerate(zip(interp, jit, strict=True)) if a != b] == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_generated_programs_are_as_interpreted(name: str, tmp_path: Path) -> None:
    """Loads and stores near each other, over page boundaries and moving bases, do the same; so
    do those of loops whose addresses go up by constants; and flags made again when the block is
    left, whatever instruction came between."""
    out = conf_build.build_dir()
    executor("all")
    core = conf_build.CORE
    sources, _ = conf_build.pe_sources(core, out)
    sources += [s for s in conf_build.SHARED if s.stem != "driver"]
    sources.append(CONFORMANCE / "exec_host.c")
    objects = [out / f"{s.parent.name}-{s.stem}.o" for s in sources]
    includes = [f"-I{d}" for d in (core, core / "include", out, CONFORMANCE)]
    program = tmp_path / name
    source = Path(__file__).with_name(f"jit_{name}.c")
    compiler = ["gcc", *conf_build.CFLAGS, *includes]
    conf_build.run_tool([*compiler, source, *objects, "-o", program, "-lm", "-pthread"])
    found = []
    for engine in ("interp", "jit", "jit-forced"):
        argv = [str(program), "--engine", engine, "1", str(PROGRAMS[name])]
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        found.append(done.stdout.split())
    assert len(set(found[0])) == PROGRAMS[name]
    assert [i for i, (a, b, c) in enumerate(zip(*found, strict=True)) if a != b or a != c] == []
