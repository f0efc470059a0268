"""The generated decoder: every 32-bit word, and a sample against the rows themselves."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import generate
import harness
import pin
import pytest
from known import disputed, lenient


@pytest.fixture(scope="module")
def sweep() -> Path:
    """The decoder as a program."""
    if shutil.which("gcc") is None:
        pytest.skip("not installed: gcc")
    return harness.build_sweep(harness.build_dir())


def ask(sweep: Path, what: str, words: list[int]) -> list[int]:
    text = "".join(f"{w:08x}\n" for w in words)
    done = subprocess.run([sweep, what], input=text, capture_output=True, text=True, check=True)
    return [int(n) for n in done.stdout.split()]


def test_decoder_agrees_with_rows(sweep: Path) -> None:
    """The nested switches pick the row whose bits and constraints match, or none."""
    rng = random.Random(1)
    rows = generate.load_rows()
    gen = generate.Generator(1)
    words = [rng.getrandbits(32) for _ in range(3000)]
    for row in rows:
        word = gen.word(row)
        assert word is not None, row.name
        words += [word, word ^ 1 << rng.randrange(32), word ^ 1 << rng.randrange(32)]
    first = len(generate.gen_decode.PSEUDO_OPS)
    for word, op in zip(words, ask(sweep, "ops", words), strict=True):
        want = [i for i, row in enumerate(rows, first) if row.matches(word)]
        assert [op] == (want or [0]), f"{word:#010x}"


def test_undefined_words_are_undefined_in_qemu(
    sweep: Path, programs: tuple[Path, Path], tmp_path: Path
) -> None:
    """A word next to a row that no row takes is SIGILL under qemu-aarch64."""
    gen = generate.Generator(3)
    rng = gen.rng
    words: set[int] = set()
    for row in generate.load_rows():
        for _ in range(24):
            word = gen.word(row)
            assert word is not None
            for _ in range(rng.choice((1, 1, 2))):
                word ^= 1 << rng.randrange(32)
            if not lenient(word):
                words.add(word)
    ordered = sorted(words)
    undefined = [w for w, op in zip(ordered, ask(sweep, "ops", ordered), strict=True) if op == 0]
    assert len(undefined) > 5000
    x = [harness.CASE_SCRATCH + 0x200] * 32
    state = generate.STATE.pack(*x, *([0] * 64), 0, 0, 0, 1)
    cases = [harness.Case("undefined", (w,), state) for w in undefined]
    argv = ["qemu-aarch64", "-cpu", harness.QEMU_CPU, str(programs[1])]
    results = harness.execute(argv, cases, tmp_path)
    sigill = harness.STATUS.index("UNDEFINED")
    taken = [
        f"{c.words[0]:#010x} {harness.disassemble(c.words)}"
        for c, r in zip(cases, results, strict=True)
        if harness.unpack(r)["status"] != sigill
    ]
    assert not taken


def test_objdump_agrees_on_undefined(sweep: Path) -> None:
    """A third vote: objdump finds the same words of a sample UNDEFINED, or DISPUTES says why."""
    if shutil.which("aarch64-linux-gnu-objdump") is None:
        pytest.skip("not installed: aarch64-linux-gnu-objdump")
    gen = generate.Generator(5)
    words = {gen.rng.getrandbits(32) for _ in range(20000)}
    for row in generate.load_rows():
        for _ in range(6):
            word = gen.word(row)
            assert word is not None
            words |= {word, word ^ 1 << gen.rng.randrange(32)}
    ordered = sorted(words)
    texts = harness.disassemble_each(ordered)
    split = [
        f"{word:#010x} {text} ours {'UNDEFINED' if op == 0 else op}"
        for word, op, text in zip(ordered, ask(sweep, "ops", ordered), texts, strict=True)
        if (op == 0) != ("undefined" in text or text.startswith("udf"))
        and not lenient(word)
        and not disputed(word)
    ]
    assert not split, "\n".join(split[:40])


@pytest.mark.slow
def test_all_words_decode(sweep: Path) -> None:
    """All 2^32 words decode without a crash; the set of UNDEFINED ones is the pinned one."""
    found = pin.sweep_all(sweep)
    print(*found)
    assert found == pin.pinned(), "decided on purpose? tests/insn/pin.py --update REASON"


@pytest.mark.parametrize(
    ("text", "word", "isv", "sas", "sse", "srt", "sf", "ar"),
    [
        ("ldr x3, [x1, #8]", 0xF9400423, 1, 3, 0, 3, 1, 0),
        ("str w30, [x1]", 0xB900003E, 1, 2, 0, 30, 0, 0),
        ("strb wzr, [x1]", 0x3900003F, 1, 0, 0, 31, 0, 0),
        ("ldrsb x5, [x1]", 0x39800025, 1, 0, 1, 5, 1, 0),
        ("ldrsh w5, [x1]", 0x79C00025, 1, 1, 1, 5, 0, 0),
        ("ldrsw x5, [x1]", 0xB9800025, 1, 2, 1, 5, 1, 0),
        ("ldur x2, [x1, #-8]", 0xF85F8022, 1, 3, 0, 2, 1, 0),
        ("ldtr w2, [x1]", 0xB8400822, 1, 2, 0, 2, 0, 0),
        ("ldr w2, [x1, x3]", 0xB8636822, 1, 2, 0, 2, 0, 0),
        ("ldar w2, [x1]", 0x88DFFC22, 1, 2, 0, 2, 0, 1),
        ("stlr x2, [x1]", 0xC89FFC22, 1, 3, 0, 2, 1, 1),
        ("ldapr x2, [x1]", 0xF8BFC022, 1, 3, 0, 2, 1, 1),
        ("ldr w2, .+8", 0x18000042, 1, 2, 0, 2, 0, 0),
        ("ldr x2, .+8", 0x58000042, 1, 3, 0, 2, 1, 0),
        ("ldrsw x2, .+8", 0x98000042, 1, 2, 1, 2, 1, 0),
        ("prfm pldl1keep, .+8", 0xD8000040, 0, 0, 0, 0, 0, 0),
        ("ldraa x2, [x1, #8]", 0xF8201422, 1, 3, 0, 2, 1, 0),
        ("ldrab x2, [x1, #8]!", 0xF8A01C22, 0, 0, 0, 0, 0, 0),
        ("ldr x2, [x1], #8", 0xF8408422, 0, 0, 0, 0, 0, 0),
        ("str x2, [x1, #8]!", 0xF8008C22, 0, 0, 0, 0, 0, 0),
        ("ldp x2, x3, [x1]", 0xA9400C22, 0, 0, 0, 0, 0, 0),
        ("ldxr x2, [x1]", 0xC85F7C22, 0, 0, 0, 0, 0, 0),
        ("ldadd x2, x3, [x1]", 0xF8220023, 0, 0, 0, 0, 0, 0),
        ("prfm pldl1keep, [x1]", 0xF9800020, 0, 0, 0, 0, 0, 0),
        ("ldr q2, [x1]", 0x3DC00022, 0, 0, 0, 0, 0, 0),
        ("add x0, x1, x2", 0x8B020020, 0, 0, 0, 0, 0, 0),
    ],
)
def test_data_abort_syndrome(
    sweep: Path, text: str, word: int, isv: int, sas: int, sse: int, srt: int, sf: int, ar: int
) -> None:
    """A single load or store without write-back has a syndrome, nothing else has."""
    want = isv << 24 | sas << 22 | sse << 21 | srt << 16 | sf << 15 | ar << 14
    assert ask(sweep, "iss", [word]) == [want], text
