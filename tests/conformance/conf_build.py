"""Building the two executors: conf_host (our PE) and conf_guest (for qemu-aarch64)."""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import conf_rows as rows

HERE = Path(__file__).resolve().parent
# The core to test; another tree of it may be named.
CORE = Path(os.environ.get("CONF_CORE", HERE.parent.parent / "vmmcore"))
SHARED = [HERE / name for name in ("gen.c", "block.c", "driver.c")]
CFLAGS = [
    *("-std=c11", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE"),
    *("-ffp-contract=off", "-mcx16"),
]


def build_dir() -> Path:
    """Where objects are kept between runs: CONF_BUILD, else a folder of this user and tree."""
    tree = zlib.crc32(str(CORE).encode())
    default = Path(tempfile.gettempdir()) / f"bhyvepy-conf-{os.getuid()}-{tree:08x}"
    path = Path(os.environ.get("CONF_BUILD", default))
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def one_at_a_time(build: Callable[..., Path]) -> Callable[..., Path]:
    """Only one process builds in a folder at a time."""

    @functools.wraps(build)
    def locked(out: Path, mutants: bool = False, **more: object) -> Path:
        with (out / "lock").open("w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            return build(out, mutants, **more)

    return locked


def run_tool(argv: list[str | Path]) -> None:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]}: {(done.stdout + done.stderr)[-3000:]}")


def stale(target: Path, sources: list[Path]) -> bool:
    if not target.exists():
        return True
    made = target.stat().st_mtime
    return any(s.stat().st_mtime > made for s in sources)


def generate(out: Path, mutants: bool) -> None:
    """The decoder, with seeded bugs if asked, and the rows for the generator."""
    rows.write(out)
    target = out / "gen" if mutants else out
    run_tool([sys.executable, CORE / "tools" / "gen_decode.py", target, *rows.TABLES])
    if mutants:
        import mutants as seeded

        for source in (target / "pe").glob("a64_*"):
            text = seeded.mutate(source.name, source.read_text())
            seeded.write_if_changed(out / "pe" / source.name, text)


def compile_all(
    out: Path, sources: list[Path], flags: list[str], depends: list[Path]
) -> list[Path]:
    """Objects of the sources, what is out of date compiled two at a time."""
    work = []
    objects = []
    for source in sources:
        obj = out / f"{source.parent.name}-{source.stem}.o"
        objects.append(obj)
        if stale(obj, [source, *depends]):
            work.append(["gcc", *flags, "-c", source, "-o", obj])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run_tool, work))
    return objects


def pe_sources(core: Path, out: Path) -> tuple[list[Path], list[Path]]:
    """The C files of the PE and the host layer below, and everything they include."""
    pe = core / "pe"
    sources = [*sorted(pe.rglob("*.c")), *sorted((core / "sys").glob("*.c"))]
    sources.append(out / "pe" / "a64_decode.c")
    depends = [
        *(core / "sys").glob("*.h"),
        *pe.rglob("*.h"),
        *pe.rglob("*.def"),
        *pe.rglob("*.inc"),
        out / "pe" / "a64_ops.h",
    ]
    return sources, depends


def sources_of(out: Path, mutants: bool) -> tuple[Path, Path]:
    """The core to build and where to."""
    core = CORE
    if mutants:
        import mutants as seeded

        out = out / "mutants"
        core = seeded.write_sources(out / "src")
    (out / "pe").mkdir(parents=True, exist_ok=True)
    return core, out


@one_at_a_time
def build_host(out: Path, mutants: bool, tiny_tlb: bool = False) -> Path:
    """conf_host; with mutants from a copy of the PE that can be broken (mutants.py); with
    TLBs of two entries, for instructions of one."""
    flags = list(CFLAGS)
    if tiny_tlb:
        flags += ["-DTLB_BITS=1", "-DFETCH_BITS=0"]
        out = out / "tiny-tlb"
    core, out = sources_of(out, mutants)
    if mutants:
        flags += ["-include", str(HERE / "mutant.h")]
    generate(out, mutants)
    includes = [f"-I{d}" for d in (core, CORE / "include", out, HERE)]
    sources, depends = pe_sources(core, out)
    own = [HERE / "conf.h", out / "rows.inc"]
    objects = compile_all(out, sources, [*flags, *includes], depends)
    shared = [*SHARED, HERE / "exec_host.c", *([HERE / "mutant.c"] if mutants else [])]
    objects += compile_all(out, shared, [*flags, *includes], depends + own)
    program = out / "conf_host"
    if stale(program, objects):
        run_tool(["gcc", *objects, "-o", program, "-lm", "-pthread"])
    return program


@one_at_a_time
def build_guest(out: Path, _mutants: bool) -> Path:
    rows.write(out)
    program = out / "conf_guest"
    sources = [*SHARED, HERE / "exec_guest.c"]
    own = [HERE / "conf.h", HERE.parent / "insn" / "run_case.h", out / "rows.inc"]
    if stale(program, [*sources, *own]):
        flags = ["-O2", "-Wall", "-Wextra", "-static", f"-I{HERE}", f"-I{out}"]
        run_tool(["aarch64-linux-gnu-gcc", *flags, *sources, "-o", program])
    return program


@one_at_a_time
def build_vixl(out: Path, _mutants: bool) -> Path:
    """conf_vixl: Debian's libvixl-dev, an independent simulator (scripts/packages conformance)."""
    rows.write(out)
    includes = [f"-I{HERE}", f"-I{out}", "-I/usr/include/vixl"]
    objects = []
    for source in SHARED:
        obj = out / f"vixl-{source.stem}.o"
        objects.append(obj)
        if stale(obj, [source, HERE / "conf.h", out / "rows.inc"]):
            run_tool(["gcc", "-O2", "-D_GNU_SOURCE", *includes, "-c", source, "-o", obj])
    program = out / "conf_vixl"
    source = HERE / "exec_vixl.cc"
    if stale(program, [source, *objects]):
        flags = ["-O2", "-std=c++17", "-DVIXL_INCLUDE_TARGET_A64", "-DVIXL_CODE_BUFFER_MMAP"]
        flags.append("-DVIXL_INCLUDE_SIMULATOR_AARCH64")
        run_tool(["g++", *flags, *includes, source, *objects, "-lvixl", "-o", program])
    return program


@one_at_a_time
def build_fp(out: Path, mutants: bool) -> Path:
    """fp_check.so: the arithmetic alone; SoftFloat is found when it is loaded."""
    flags = [*CFLAGS, "-fPIC", "-Wno-unused-function"]
    core, out = sources_of(out, mutants)
    if mutants:
        flags += ["-include", str(HERE / "mutant.h")]
    generate(out, mutants)
    own = [HERE / "fp_check.c", *([HERE / "mutant.c"] if mutants else [])]
    sources = [*sorted((core / "pe").glob("fp*.c")), *own]
    headers = [*(core / "pe").glob("*.h"), *(core / "pe").glob("*.def"), out / "pe" / "a64_ops.h"]
    program = out / "fp_check.so"
    if stale(program, [*sources, *headers]):
        includes = [f"-I{d}" for d in (core, CORE / "include", out)]
        run_tool(["gcc", *flags, *includes, "-shared", *sources, "-o", program])
    return program
