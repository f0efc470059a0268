"""Bugs that other emulators had, each by name (docs/reference/reliability.md, 1.7 and 1.8).

Every program runs on our PE, with the interpreter and the translator, against values worked
out here.  Members of the list that have no place here: SVE and SME (not implemented), AArch32,
EL3, the GIC's (tests/core/test_vgic_*.py).
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import conf_run
import harness
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

M64 = (1 << 64) - 1
SCRATCH = 0x04080C00
Program = Callable[..., dict[str, int]]


def assemble(source: str, work: Path) -> list[int]:
    """The words of a program."""
    (work / "p.s").write_text("    .arch armv8.6-a+crypto+fp16fml\n" + source)
    argv = ["aarch64-linux-gnu-gcc", "-c", str(work / "p.s"), "-o", str(work / "p.o")]
    subprocess.run(argv, check=True)
    argv = ["aarch64-linux-gnu-objcopy", "-O", "binary", "-j", ".text"]
    subprocess.run([*argv, str(work / "p.o"), str(work / "p.bin")], check=True)
    data = (work / "p.bin").read_bytes()
    return list(struct.unpack(f"<{len(data) // 4}I", data))


@pytest.fixture(params=["interp", "jit"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    """Runs a program from given registers (x0=..., v1=...) and gives those after it."""
    gone = harness.missing_tools()
    if gone:
        pytest.skip("not installed: " + ", ".join(gone))
    ex = conf_run.executors(request.param)

    def run(source: str, **registers: int) -> dict[str, int]:
        words = assemble(source, tmp_path)
        values = [registers.get(f"x{i}", 0) & M64 for i in range(31)] + [SCRATCH + 0x200]
        for i in range(32):
            v = registers.get(f"v{i}", 0)
            values += [v & M64, v >> 64]
        values += [registers.get("nzcv", 0), registers.get("fpcr", 0), 0, 0, 0, 0, 0]
        path = tmp_path / "in"
        path.write_bytes(struct.pack(f"<I{len(words)}I", len(words), *words))
        with path.open("ab") as f:
            f.write(conf_run.STATE.pack(*values))
        after = conf_run.unpack(ex.run(True, tmp_path, "run", path))
        assert conf_run.STATUS[after["status"]] == registers.get("status", "end")
        return after

    return run


def lanes(bits: int, *values: int) -> int:
    """A vector, lane 0 first."""
    return sum((v & (1 << bits) - 1) << i * bits for i, v in enumerate(values))


def split(bits: int, value: int) -> list[int]:
    """Unsigned lanes of a vector."""
    return [value >> i & (1 << bits) - 1 for i in range(0, 128, bits)]


def signed(bits: int, value: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def single(value: float) -> int:
    return int.from_bytes(struct.pack("<f", value), "little")


def half(value: float) -> int:
    return int.from_bytes(struct.pack("<e", value), "little")


def test_ssra_of_64_bits(program: Program) -> None:
    """SSRA by 64 adds the sign, not zero; by 1 to 63 it shifts arithmetically."""
    for n in (1, 31, 32, 63, 64):
        for a in (-5, 5, -(1 << 63), (1 << 63) - 1):
            after = program(f"ssra d0, d1, #{n}", v0=100, v1=a & M64)
            assert after["v0"] == (100 + (a >> n)) & M64, (n, a)


@pytest.mark.parametrize(("letter", "bits"), [("b", 8), ("h", 16)])
def test_ldsmin_ldsmax_of_bytes_and_halfwords(program: Program, letter: str, bits: int) -> None:
    """Memory is compared as signed, the old value comes back zero-extended."""
    for op, choose in (("ldsmin", min), ("ldsmax", max)):
        for old, arg in ((0x80, 0x7F), (0x7F, 0x80), (0xFF, 0), (0, 0xFF), (1, 2)):
            if bits == 16:
                old, arg = old << 8, arg << 8
            after = program(
                f"str x2, [x1]\n {op}{letter} w3, w4, [x1]\n ldr x5, [x1]",
                x1=SCRATCH, x2=old, x3=arg | 0xABCD0000, x4=M64,
            )  # fmt: skip
            want = choose(signed(bits, old), signed(bits, arg)) & (1 << bits) - 1
            assert (after["x4"], after["x5"]) == (old, want), (op, old, arg)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_fcmla_by_element(program: Program, rotation: int) -> None:
    """VCMLA indexed: the element is a pair, picked by the index, turned as asked."""
    n, m, d = [2.0, 3.0, 5.0, 7.0], [11.0, 13.0, 17.0, 19.0], [1.0, 1.0, 1.0, 1.0]
    for index in (0, 1):
        re, im = m[2 * index], m[2 * index + 1]
        want = []
        for i in (0, 2):
            part = n[i] if rotation % 180 == 0 else n[i + 1]
            turned = {0: (re, im), 90: (-im, re), 180: (-re, -im), 270: (im, -re)}[rotation]
            want += [d[i] + part * turned[0], d[i + 1] + part * turned[1]]
        after = program(
            f"fcmla v0.4s, v1.4s, v2.s[{index}], #{rotation}",
            v0=lanes(32, *map(single, d)),
            v1=lanes(32, *map(single, n)),
            v2=lanes(32, *map(single, m)),
        )
        assert after["v0"] == lanes(32, *map(single, want)), index


def test_permutes_of_two_doublewords(program: Program) -> None:
    """ZIP, UZP and TRN of 64-bit lanes pick the halves they should."""
    for op in ("zip", "uzp", "trn"):
        regs = {"v1": lanes(64, 1, 2), "v2": lanes(64, 3, 4)}
        assert program(f"{op}1 v0.2d, v1.2d, v2.2d", **regs)["v0"] == lanes(64, 1, 3), op
        assert program(f"{op}2 v0.2d, v1.2d, v2.2d", **regs)["v0"] == lanes(64, 2, 4), op


@pytest.mark.parametrize(
    ("op", "first", "second"),
    [("sdot", 1, 1), ("udot", 0, 0), ("usdot", 0, 1), ("sudot", 1, 0)],
)
def test_dot_product_by_element(program: Program, op: str, first: int, second: int) -> None:
    """SDOT, UDOT, USDOT and SUDOT take four bytes of Vm at the index for every lane."""
    n, m = bytes(range(120, 136)), bytes(range(250, 255)) + bytes(range(1, 12))
    acc = [0xFFFFFFFF, 0, 1, 0x80000000]

    def byte(value: int, is_signed: int) -> int:
        return signed(8, value) if is_signed else value

    for index in range(4):
        want = []
        for i in range(4):
            products = (
                byte(n[4 * i + k], first) * byte(m[4 * index + k], second) for k in range(4)
            )
            want.append(acc[i] + sum(products))
        after = program(
            f"    .arch_extension i8mm\n {op} v0.4s, v1.16b, v2.4b[{index}]",
            v0=lanes(32, *acc),
            v1=int.from_bytes(n, "little"),
            v2=int.from_bytes(m, "little"),
        )
        assert after["v0"] == lanes(32, *want), index


def test_nan_of_a_widening_dot_product(program: Program) -> None:
    """FMLAL: a signaling NaN goes first, then the addend, then Rn, then Rm."""
    quiet1, quiet2, snan = 0x7E01, 0x7E02, 0x7C03
    acc = 0x7FC12345

    def widened(h: int) -> int:
        return 0x7FC00000 | (h & 0x3FF) << 13

    def result(a: int, n: int, m: int) -> int:
        return program("fmlal v0.2s, v1.2h, v2.2h", v0=a, v1=n, v2=m)["v0"] & 0xFFFFFFFF

    assert result(acc, quiet1, quiet2) == acc
    assert result(single(1.0), quiet1, quiet2) == widened(quiet1)
    assert result(single(1.0), half(1.0), quiet2) == widened(quiet2)
    assert result(acc, quiet1, snan) == widened(snan)
    assert result(acc, half(float("inf")), 0) == 0x7FC00000


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_shift_immediates_at_their_ends(program: Program, size: int) -> None:
    """immh:immb at both ends: right by all the bits, left by none, never by -1."""
    letter = {8: "16b", 16: "8h", 32: "4s", 64: "2d"}[size]
    top = 1 << (size - 1)
    values = [top, top - 1, 1, 0, (1 << size) - 1, top | 1, 2, top >> 1][: 128 // size]
    values += [top] * (128 // size - len(values))
    v1 = lanes(size, *values)

    def run(op: str, n: int) -> list[int]:
        return split(size, program(f"{op} v0.{letter}, v1.{letter}, #{n}", v1=v1)["v0"])

    mask = (1 << size) - 1
    assert run("sshr", size) == [signed(size, v) >> size & mask for v in values]
    assert run("ushr", size) == [0] * len(values)
    assert run("urshr", size) == [v >> (size - 1) for v in values]
    assert run("srshr", size) == [0] * len(values)
    assert run("sshr", 1) == [signed(size, v) >> 1 & mask for v in values]
    assert run("shl", 0) == values
    assert run("shl", size - 1) == [v << (size - 1) & mask for v in values]
    assert run("sri", size) == [0] * len(values)
    assert run("sqshlu", 0) == [0 if v & top else v for v in values]


def test_compare_and_mask_sequence(program: Program) -> None:
    """cmp, cset, and, cmp, csetm, lsr in a row: right alone, wrong as a block in QEMU 8.2."""
    source = """
    cmp x0, x1
    cset w2, lt
    and w2, w2, w3
    cmp w2, #0
    csetm x4, ne
    lsr x5, x4, #63
    lsr w6, w4, #31
    asr x7, x4, #32
    csel x8, x0, x1, ne
    """
    for a, b, mask in ((1, 2, 1), (2, 1, 1), (1, 2, 0), (M64, 0, 1), (0, M64, 1)):
        after = program(source, x0=a, x1=b, x3=mask)
        less = signed(64, a) < signed(64, b) and mask & 1
        assert after["x4"] == (M64 if less else 0)
        assert (after["x5"], after["x6"]) == ((1, 1) if less else (0, 0))
        assert after["x7"] == (M64 if less else 0)
        assert after["x8"] == (a if less else b)


def test_bitfield_extracts_after_each_other(program: Program) -> None:
    """UBFX, SBFX, EXTR and shifts of each other's results: TCG's combined extracts."""
    v = 0xFEDCBA9876543210
    after = program(
        """
        ubfx x1, x0, #20, #24
        sbfx x2, x1, #19, #5
        extr x3, x0, x0, #60
        extr w4, w0, w1, #31
        lsr x5, x3, #4
        sbfiz x6, x2, #60, #4
        """,
        x0=v,
    )
    x1 = v >> 20 & 0xFFFFFF
    x2 = signed(5, x1 >> 19 & 31) & M64
    x3 = (v << 4 | v >> 60) & M64
    x4 = ((v & 0xFFFFFFFF) << 32 | x1) >> 31 & 0xFFFFFFFF
    assert [after[f"x{i}"] for i in range(1, 5)] == [x1, x2, x3, x4]
    assert (after["x5"], after["x6"]) == (x3 >> 4, signed(4, x2 & 15) << 60 & M64)


def test_branch_to_the_last_word_of_the_address_space(program: Program) -> None:
    """PC 0xfffffffffffffffc is fetched, faults there, and nothing else happens."""
    after = program("mov x0, #-4\n br x0", status="fault")
    assert after["pc"] == M64 - 3


def test_branch_to_an_odd_address(program: Program) -> None:
    """A misaligned PC is a PC alignment fault at the target (test pcalign-a64)."""
    after = program("adr x0, 1f\n add x0, x0, #2\n br x0\n1: nop", status="fault")
    assert after["pc"] & 3 == 2


def test_exclusive_pair_over_a_page(program: Program) -> None:
    """LDXP and STXP next to the end of a page store both words or none."""
    at = SCRATCH + 0x400 - 16
    after = program(
        "stp x2, x3, [x1]\n ldxp x4, x5, [x1]\n stxp w6, x5, x4, [x1]\n ldp x7, x8, [x1]",
        x1=at, x2=11, x3=22,
    )  # fmt: skip
    assert [after[f"x{i}"] for i in (4, 5, 6, 7, 8)] == [11, 22, 0, 22, 11]


# -- what only EL1 sees --------------------------------------------------------------


def exception_of(directory: Path, source: str) -> tuple[int, int]:
    """Vector offset and ESR_EL1 of the exception that a line of code takes at EL1."""
    guest = pytest.importorskip("vmm_guest")
    vectors = "\n".join(f".org {i * 0x80}\n mov x17, #{i * 0x80}\n hvc #0" for i in range(16))
    vm = guest.Vm.flat(directory, "t", source)
    try:
        vm.write(guest.RAM + 0x10000, guest.assemble(vectors))
        vm.set(guest.VBAR_EL1, guest.RAM + 0x10000)
        vm.run_until_hvc()
        return vm.get(17), vm.get(guest.ESR_EL1)
    finally:
        vm.close()


@pytest.mark.parametrize(
    "insn",
    [
        "mrs x0, s3_0_c10_c4_3",  # LORC_EL1
        "mrs x0, s3_0_c10_c4_7",  # LORID_EL1
        "mrs x0, s3_7_c14_c2_1",  # CNTPS_CTL_EL1
        "at s1e2r, x0",
        "mrs x0, s3_3_c4_c2_2",  # SVCR
        ".inst 0x00000000",
    ],
)
def test_undefined_syndrome(tmp_path: Path, insn: str) -> None:
    """LOR, CNTPS, AT S1E2 and SVCR are UNDEFINED at EL1: EC 0, IL set, ISS 0."""
    assert exception_of(tmp_path, f"msr spsel, #1\n {insn}\n hvc #0") == (0x200, 1 << 25)
