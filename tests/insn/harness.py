"""Building and running the two executors of a batch of instructions.

Responsible for: compiling insn_host (our decoder and handlers) and insn_guest (the same
batch under qemu-aarch64), running them, reading the answers.  Not for choosing the
instructions: generate.py.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CORE = ROOT / "vmmcore"
TABLES = [CORE / "pe" / f"{name}.decode" for name in ("a64", "a64_simd", "a64_fp")]
# What the handlers need besides themselves; the rest of the PE is doubled in insn_host.c.
SOURCE_GLOBS = ("exec_*.c", "fp*.c", "softfloat*.c", "simd*.c", "crypto*.c", "pauth.c")
CFLAGS = [
    *("-std=c11", "-O2", "-Wall", "-Wextra", "-Wno-unused-function", "-D_GNU_SOURCE"),
    *("-ffp-contract=off", "-mcx16"),
]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
QEMU_CPU = "max,pauth=off"

CASE_CODE = 0x04000000
CASE_STRIDE = 32
CASE_MAX = 16384
CASE_SCRATCH = 0x04080C00
CASE_SCRATCH_LEN = 2048
NOP = 0xD503201F

CASE = struct.Struct("<4I31QQ64Q4I")
RESULT = struct.Struct("<31QQ64Q4I2Q")
STATUS = ("end", "taken", "UNDEFINED", "fault", "trap", "other")


@dataclass
class Case:
    """One case: the words, the state before them, and the row it is meant to test."""

    row: str
    words: tuple[int, ...]
    state: bytes


def missing_tools() -> list[str]:
    """The programs that the comparison needs and that are not installed."""
    tools = ("qemu-aarch64", "aarch64-linux-gnu-gcc", "gcc")
    return [t for t in tools if shutil.which(t) is None]


def run_tool(argv: list[str | Path]) -> None:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]}: {(done.stdout + done.stderr)[-3000:]}")


def tables() -> list[Path]:
    return [t for t in TABLES if t.exists()]


def build_dir() -> Path:
    """Where objects are kept between runs: INSN_BUILD, else a folder of this user."""
    default = (
        Path(tempfile.gettempdir())
        / f"bhyvepy-insn-{os.getuid()}-{zlib.crc32(str(ROOT).encode()):08x}"
    )
    path = Path(os.environ.get("INSN_BUILD", default))
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def stale(target: Path, sources: list[Path]) -> bool:
    if not target.exists():
        return True
    made = target.stat().st_mtime
    return any(s.stat().st_mtime > made for s in sources)


def generate(out: Path) -> None:
    run_tool(["python3", CORE / "tools" / "gen_decode.py", out, *tables()])


def build_host(out: Path, sanitize: bool = False) -> Path:
    """insn_host, rebuilt file by file when a source or any header is newer."""
    generate(out)
    headers = [*(CORE / "pe").glob("*.h"), *(CORE / "pe").glob("*.def"), *out.glob("pe/*.h")]
    headers.append(HERE / "insn_case.h")
    sources = [HERE / "insn_host.c", out / "pe" / "a64_decode.c"]
    for pattern in SOURCE_GLOBS:
        sources += sorted((CORE / "pe").glob(pattern))
    flags = CFLAGS + (SANITIZE if sanitize else [])
    kind = "san" if sanitize else "opt"
    objects = []
    for source in sources:
        obj = out / f"{source.stem}.{kind}.o"
        objects.append(obj)
        if stale(obj, [source, *headers]):
            includes = [f"-I{d}" for d in (CORE, CORE / "include", out, HERE)]
            run_tool(["gcc", *flags, *includes, "-c", source, "-o", obj])
    program = out / f"insn_host.{kind}"
    if stale(program, objects):
        run_tool(["gcc", *(SANITIZE if sanitize else []), *objects, "-o", program, "-lm"])
    return program


def build_guest(out: Path) -> Path:
    program = out / "insn_guest"
    source = HERE / "insn_guest.c"
    if stale(program, [source, HERE / "insn_case.h", HERE / "run_case.h"]):
        cc = "aarch64-linux-gnu-gcc"
        run_tool([cc, "-O2", "-static", f"-I{HERE}", source, "-o", program])
    return program


def build_sweep(out: Path) -> Path:
    """The decoder alone; the handler table refers to functions that are not there."""
    generate(out)
    program = out / "sweep"
    sources = [HERE / "sweep.c", out / "pe" / "a64_decode.c", CORE / "pe" / "ldst_iss.c"]
    if stale(program, [*sources, *(CORE / "pe").glob("*.h"), out / "pe" / "a64_ops.h"]):
        includes = [f"-I{d}" for d in (CORE, CORE / "include", out)]
        flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-no-pie", "-fno-pie", "-pthread"]
        run_tool(
            [
                "gcc",
                *flags,
                *includes,
                *sources,
                "-Wl,-z,lazy,--noinhibit-exec",
                "-Wl,--unresolved-symbols=ignore-all",
                "-o",
                program,
            ]
        )
    return program


def execute(argv: list[str], cases: list[Case], work: Path) -> list[bytes]:
    """Run a batch program over all cases, CASE_MAX at a time."""
    results = []
    for start in range(0, len(cases), CASE_MAX):
        batch = cases[start : start + CASE_MAX]
        (work / "batch").write_bytes(b"".join(encode(c) for c in batch))
        run_tool([*argv, work / "batch", work / "results"])
        data = (work / "results").read_bytes()
        if len(data) != len(batch) * RESULT.size:
            raise RuntimeError(f"{argv}: {len(data)} bytes for {len(batch)} cases")
        results += [data[i : i + RESULT.size] for i in range(0, len(data), RESULT.size)]
    return results


def encode(case: Case) -> bytes:
    words = (*case.words, NOP, NOP, NOP)[:4]
    return struct.pack("<4I", *words) + case.state


# -- reports ---------------------------------------------------------------------


def disassemble_each(words: list[int]) -> list[str]:
    """The text of objdump for each word."""
    with tempfile.NamedTemporaryFile() as f:
        f.write(struct.pack(f"<{len(words)}I", *words))
        f.flush()
        argv = ["aarch64-linux-gnu-objdump", "-D", "-z", "-b", "binary", "-m", "aarch64"]
        argv += ["-M", "no-aliases", f.name]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return re.findall(r"^ *[0-9a-f]+:\t[0-9a-f]{8} *\t(.*)$", text, re.MULTILINE)


def disassemble(words: tuple[int, ...]) -> str:
    """The text of objdump, or the bare words when it is not there."""
    if shutil.which("aarch64-linux-gnu-objdump") is None:
        return "; ".join(f"{w:08x}" for w in words)
    texts = disassemble_each(list(words))
    return "; ".join(f"{w:08x} {' '.join(t.split())}" for w, t in zip(words, texts, strict=True))


def unpack(data: bytes) -> dict[str, int]:
    v = RESULT.unpack(data)
    state = {f"x{i}": v[i] for i in range(31)}
    state["sp"] = v[31]
    for i in range(32):
        state[f"v{i}"] = v[32 + 2 * i] | v[33 + 2 * i] << 64
    state.update(zip(("nzcv", "fpcr", "fpsr", "status", "mem", "x31"), v[96:], strict=True))
    return state
