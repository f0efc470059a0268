"""Exclusives, atomics and acquire/release between two PEs in two threads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import harness
import pytest

# Each adds one to [x1], x2 times.
COUNTERS = {
    "ldxr and stxr": """
1:  ldxr x3, [x1]
    add x3, x3, #1
    stxr w4, x3, [x1]
    cbnz w4, 1b
    subs x2, x2, #1
    b.ne 1b
    brk #0
""",
    "ldaxrb and stlxrb, carry by hand": """
1:  ldaxrb w3, [x1]
    add w5, w3, #1
    stlxrb w4, w5, [x1]
    cbnz w4, 1b
    cmp w3, #255
    b.ne 2f
    mov x6, #256
    stadd x6, [x1]
2:  subs x2, x2, #1
    b.ne 1b
    brk #0
""",
    "ldxp and stxp": """
1:  ldxp x3, x5, [x1]
    cmp x3, x5
    b.ne 9f             // the pair is never seen torn by a store that succeeds
    add x3, x3, #1
    add x5, x5, #1
8:  stxp w4, x3, x5, [x1]
    cbnz w4, 1b
    subs x2, x2, #1
    b.ne 1b
    brk #0
9:  stxp w4, x3, x5, [x1]
    cbnz w4, 1b
    str xzr, [x1, #16]
    mov x3, #1
    str x3, [x1, #16]
    brk #0
""",
    "ldadd": """
    mov x3, #1
1:  ldadd x3, x4, [x1]
    subs x2, x2, #1
    b.ne 1b
    brk #0
""",
    "cas": """
1:  ldr x3, [x1]
2:  mov x5, x3
    add x4, x3, #1
    cas x3, x4, [x1]
    cmp x3, x5
    b.ne 2b
    subs x2, x2, #1
    b.ne 1b
    brk #0
""",
    "casp": """
1:  ldp x4, x5, [x1]
2:  mov x8, x4
    mov x9, x5
    add x6, x4, #1
    add x7, x5, #1
    casp x4, x5, x6, x7, [x1]
    cmp x4, x8
    ccmp x5, x9, #0, eq
    b.ne 2b
    subs x2, x2, #1
    b.ne 1b
    brk #0
""",
    "swp lock": """
    add x5, x1, #32
    mov w6, #1
1:  swpa w6, w7, [x5]
    cbnz w7, 1b
    ldr x3, [x1]
    add x3, x3, #1
    str x3, [x1]
    stlr wzr, [x5]
    subs x2, x2, #1
    b.ne 1b
    brk #0
""",
}

# Store buffering: each stores 1 to its own word and loads the other's. Both seeing 0 is
# counted at [x1, #32]. BARRIER k waits until both have passed it x9 times.
BARRIER = """
    mov x4, #1
    ldaddal x4, x5, [x1]
    add x9, x9, #2
3:  ldar x5, [x1]
    cmp x5, x9
    b.lo 3b
"""
STORE_BUFFER = f"""
    mov x9, #0
    add x10, x1, #512       // a cache line a thread
    add x10, x10, x0, lsl #7
    eor x11, x10, #128
    mov x6, #1
1:  {BARRIER}
    STORE x6, [x10]
    FENCE
    LOAD x7, [x11]
    str x7, [x10, #64]
    {BARRIER}
    ldr x7, [x10, #64]
    ldr x8, [x11, #64]
    orr x7, x7, x8
    cmp x7, #0
    cset x7, eq
    add x8, x1, #32
    stadd x7, [x8]
    {BARRIER}
    str xzr, [x10]
    subs x2, x2, #1
    b.ne 1b
    brk #0
"""


@pytest.fixture(scope="module")
def threads(programs: tuple[Path, Path]) -> Path:
    """insn_threads, linked from the objects of insn_host."""
    out = harness.build_dir()
    objects = [o for o in sorted(out.glob("*.opt.o")) if not o.stem.startswith("insn_host")]
    program = out / "insn_threads"
    sources = [harness.HERE / "insn_threads.c", harness.HERE / "insn_host.c"]
    if harness.stale(program, [*objects, *sources]):
        includes = [f"-I{d}" for d in (harness.CORE, harness.CORE / "include", out, harness.HERE)]
        argv = ["gcc", *harness.CFLAGS, "-pthread", *includes, sources[0], *objects]
        harness.run_tool([*argv, "-lm", "-o", program])
    return program


def run(threads: Path, tmp_path: Path, source: str, rounds: int) -> list[int]:
    (tmp_path / "p.s").write_text("    .arch armv8.4-a\n" + source)
    obj, code = tmp_path / "p.o", tmp_path / "p.bin"
    harness.run_tool(["aarch64-linux-gnu-gcc", "-c", tmp_path / "p.s", "-o", obj])
    harness.run_tool(["aarch64-linux-gnu-objcopy", "-O", "binary", "-j", ".text", obj, code])
    argv = [str(threads), str(code), str(rounds)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    *memory, _, status = done.stdout.split()
    assert status == str(harness.STATUS.index("trap"))
    return [int(n) for n in memory]


@pytest.mark.parametrize("name", COUNTERS)
def test_no_increment_is_lost(name: str, threads: Path, tmp_path: Path) -> None:
    """Two PEs that count the same word arrive at the sum."""
    rounds = 100_000
    memory = run(threads, tmp_path, COUNTERS[name], rounds)
    assert memory[0] == 2 * rounds
    assert memory[2] == 0, "a torn pair was stored"


@pytest.mark.parametrize(
    ("store", "fence", "load"),
    [("stlr", "", "ldar"), ("str", "dmb ish", "ldr"), ("str", "dsb sy", "ldr")],
)
def test_store_then_load_stay_in_order(
    store: str, fence: str, load: str, threads: Path, tmp_path: Path
) -> None:
    """STLR and LDAR, or a full barrier, keep a load behind an earlier store."""
    source = STORE_BUFFER.replace("STORE", store).replace("FENCE", fence).replace("LOAD", load)
    assert run(threads, tmp_path, source, 3000)[4] == 0
