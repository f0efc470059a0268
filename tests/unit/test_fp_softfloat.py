"""The PE's floating-point arithmetic against Berkeley SoftFloat, bit for bit with flags.

Every operation runs twice: with FPSR clear, and with FPSR.IXC already set, when the host
may answer.  What SoftFloat leaves to the architecture (which NaN, saturation) is modelled
here; FZ, DN and AHP are compared with values worked out from the Arm ARM's pseudocode.
"""

from __future__ import annotations

import ctypes
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

softfloat = pytest.importorskip("softfloatpy")

CORE = Path(__file__).resolve().parents[2] / "vmmcore"
SOURCES = ["fp.c", "fp_arith.c", "fp_cmp.c", "fp_conv.c", "fp_est.c", "fp_host.c"]
H, S, D = 1, 2, 3
BITS = {H: 16, S: 32, D: 64}
FRAC = {H: 10, S: 23, D: 52}
OPS = [
    *("add", "sub", "mul", "div", "sqrt", "muladd", "convert", "to_signed", "to_unsigned"),
    *("from_signed", "from_unsigned", "round_int", "compare", "max", "min", "recpe", "rsqrte"),
]
IOC, DZC, OFC, UFC, IXC, IDC = 1, 2, 4, 8, 16, 128
DN, FZ, AHP, FZ16 = 1 << 25, 1 << 24, 1 << 26, 1 << 19
# FPCR.RMode, and 4 for ties away, as SoftFloat numbers them
MODES = [softfloat.RoundingMode(n) for n in (0, 3, 2, 1, 4)]
FLAGS = {1: IXC, 2: UFC, 4: OFC, 8: DZC, 16: IOC}
CLASS = {H: softfloat.Float16, S: softfloat.Float32, D: softfloat.Float64}
PREFIX = {H: "f16", S: "f32", D: "f64"}
INT = {
    ("i", 32): softfloat.Int32,
    ("i", 64): softfloat.Int64,
    ("ui", 32): softfloat.UInt32,
    ("ui", 64): softfloat.UInt64,
}
COUNT = 1500

Operands = list[tuple[int, int, int]]
Answers = list[tuple[int, int]]
Batch = Callable[..., Answers]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """Build the arithmetic with its batch driver and return a caller."""
    out = tmp_path_factory.mktemp("fp")
    tables = [CORE / "pe" / f"{name}.decode" for name in ("a64", "a64_simd", "a64_fp")]
    gen = CORE / "tools" / "gen_decode.py"
    subprocess.run([sys.executable, str(gen), str(out), *map(str, tables)], check=True)
    lib = out / "fp.so"
    includes = [f"-I{out}", f"-I{CORE}", f"-I{CORE / 'include'}"]
    flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-shared", "-fPIC"]
    sources = [str(CORE / "pe" / s) for s in SOURCES] + [str(Path(__file__).parent / "fp_batch.c")]
    subprocess.run(["cc", *flags, *includes, "-o", str(lib), *sources], check=True)
    fn = ctypes.CDLL(str(lib)).fp_batch
    fn.restype = None

    def call(
        op: str,
        sz: int,
        operands: Operands,
        fpcr: int = 0,
        extra: int = 0,
        mode: int = 0,
        fpsr: int = 0,
    ) -> Answers:
        n = len(operands)
        column = ctypes.c_uint64 * n
        a, b, c = (column(*col) for col in zip(*operands, strict=True))
        result, status = column(), (ctypes.c_uint32 * n)()
        fn(
            OPS.index(op), sz, extra, mode, ctypes.c_size_t(n), a, b, c,
            ctypes.c_uint32(fpcr), ctypes.c_uint32(fpsr), result, status,
        )  # fmt: skip
        return list(zip(result, status, strict=True))

    return call


def specials(sz: int) -> list[int]:
    """Zeros, denormals, edges of the ranges, infinities and NaNs of both signs."""
    f, w = FRAC[sz], BITS[sz]
    one = ((1 << (w - f - 2)) - 1) << f
    inf = ((1 << (w - f - 1)) - 1) << f
    low = [0, 1, 2, (1 << f) - 1, 1 << f, (1 << f) + 1, 2 << f, one, one + 1, one - 1, inf - 1]
    low += [one + (1 << f), one - (1 << f), inf, inf | 1, inf | 1 << (f - 1), inf | 3 << (f - 2)]
    return low + [v | 1 << (w - 1) for v in low]


def numbers(rng: random.Random, sz: int, near: int | None = None) -> int:
    """A random number: special, uniform, few significant bits, or close in exponent."""
    f, w = FRAC[sz], BITS[sz]
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(specials(sz))
    if kind < 3:
        return rng.getrandbits(w)
    exp_max = (1 << (w - f - 1)) - 1
    bias = exp_max >> 1
    if near is not None and kind < 6:
        exp = min(max((near >> f & exp_max) + rng.randint(-3, 3), 0), exp_max)
    else:
        exp = min(max(bias + rng.randint(-f - 3, f + 3), 0), exp_max)
    frac = rng.getrandbits(f)
    if kind & 1:
        frac &= ~((1 << rng.randrange(f)) - 1)
    return rng.getrandbits(1) << (w - 1) | exp << f | frac


def operands(seed: str, sz: int, count: int = COUNT) -> Operands:
    """All pairs of specials, some as triples, and random ones."""
    rng = random.Random(seed)
    s = specials(sz)
    out = [(x, y, rng.choice(s)) for x in s for y in s]
    for _ in range(count):
        a = numbers(rng, sz)
        b = numbers(rng, sz, a)
        out.append((a, b, numbers(rng, sz, b)))
    return out


def unpack(sz: int, bits: int) -> object:
    return CLASS[sz].from_bytes(bits.to_bytes(BITS[sz] // 8, "big"))


def is_nan(sz: int, bits: int) -> bool:
    f, w = FRAC[sz], BITS[sz]
    return (bits & ((1 << (w - 1)) - 1)) > ((1 << (w - f - 1)) - 1) << f


def quiet(sz: int, bits: int) -> int:
    return bits | 1 << (FRAC[sz] - 1)


def default_nan(sz: int) -> int:
    f, w = FRAC[sz], BITS[sz]
    return ((1 << (w - f)) - 1) << (f - 1)


def pick_nan(sz: int, ops: tuple[int, ...]) -> tuple[int, int] | None:
    """FPProcessNaNs(): the first signaling operand, else the first quiet one."""
    nans = [x for x in ops if is_nan(sz, x)]
    signaling = [x for x in nans if quiet(sz, x) != x]
    if signaling:
        return quiet(sz, signaling[0]), IOC
    return (nans[0], 0) if nans else None


def soft(mode: int, fn: Callable[..., object], *args: object) -> tuple[object, int]:
    """Call SoftFloat: the result and the flags as FPSR bits."""
    softfloat.set_rounding_mode(MODES[mode])
    softfloat.set_tininess_mode(softfloat.TininessMode.BEFORE_ROUNDING)
    softfloat.set_exception_flags(softfloat.ExceptionFlag(0))
    value = fn(*args)
    raised = int(softfloat.get_exception_flags())
    return value, sum(bit for flag, bit in FLAGS.items() if raised & flag)


def bits_of(value: object) -> int:
    return int.from_bytes(value.to_bytes(), "big")  # type: ignore[attr-defined]


def check(
    name: str, got: Callable[[int], Answers], cases: Operands, want: Iterator[tuple[int, int]]
) -> None:
    """Compare with FPSR clear and with FPSR.IXC set before."""
    expected = list(want)
    for fpsr in (0, IXC):
        bad = [
            f"{name}: {' '.join(f'{v:#x}' for v in case)}: "
            f"got {g[0]:#x} {g[1]:#x} want {w[0]:#x} {w[1] | fpsr:#x}"
            for case, g, w in zip(cases, got(fpsr), expected, strict=True)
            if g != (w[0], w[1] | fpsr)
        ]
        assert not bad, f"{len(bad)} of {len(expected)} differ\n" + "\n".join(bad[:5])


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("sz", [H, S, D])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "sqrt", "muladd"])
def test_arithmetic(batch: Batch, op: str, sz: int, mode: int) -> None:
    """Results, NaNs and flags of the basic operations are exact in all four modes."""
    cases = operands(f"{op}{sz}{mode}", sz)
    arity = {"sqrt": 1, "muladd": 3}.get(op, 2)
    fn = getattr(softfloat, f"{PREFIX[sz]}_{'mul_add' if op == 'muladd' else op}")

    def want() -> Iterator[tuple[int, int]]:
        for case in cases:
            ops = case[:arity]
            value, flags = soft(mode, fn, *(unpack(sz, x) for x in ops))
            # FPMulAdd() looks at the addend first
            nan = pick_nan(sz, (case[2], *case[:2]) if arity == 3 else ops)
            if arity == 3 and nan and is_nan(sz, case[2]) and not nan[1]:
                _, invalid = soft(
                    mode, getattr(softfloat, f"{PREFIX[sz]}_mul"), *(unpack(sz, x) for x in ops[:2])
                )
                if invalid & IOC:
                    nan = (default_nan(sz), IOC)
            if nan:
                yield nan
            elif is_nan(sz, bits_of(value)):
                yield default_nan(sz), flags
            else:
                yield bits_of(value), flags

    check(op, lambda fpsr: batch(op, sz, cases, mode << 22, fpsr=fpsr), cases, want())


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize(("sz", "to"), [(a, b) for a in (H, S, D) for b in (H, S, D) if a != b])
def test_convert(batch: Batch, sz: int, to: int, mode: int) -> None:
    """FCVT between half, single and double keeps payloads of NaNs and raises the flags."""
    cases = operands(f"cvt{sz}{to}{mode}", sz)
    fn = getattr(softfloat, f"{PREFIX[sz]}_to_{PREFIX[to]}")

    def want() -> Iterator[tuple[int, int]]:
        for a, _, _ in cases:
            if is_nan(sz, a):
                frac = (a & ((1 << FRAC[sz]) - 1)) << 52 >> FRAC[sz] >> (52 - FRAC[to])
                sign = a >> (BITS[sz] - 1) << (BITS[to] - 1)
                yield sign | default_nan(to) | frac, 0 if quiet(sz, a) == a else IOC
            else:
                value, flags = soft(mode, fn, unpack(sz, a))
                yield bits_of(value), flags

    check(
        "convert",
        lambda fpsr: batch("convert", sz, cases, mode << 22, to, fpsr=fpsr),
        cases,
        want(),
    )


@pytest.mark.parametrize("mode", range(5))
@pytest.mark.parametrize("sz", [H, S, D])
@pytest.mark.parametrize(("kind", "bits"), list(INT))
def test_to_integer(batch: Batch, kind: str, bits: int, sz: int, mode: int) -> None:
    """FCVTxS and FCVTxU saturate, NaNs become zero, in five rounding modes."""
    rng = random.Random(f"{kind}{bits}{sz}{mode}")
    edges = [x for n in (15, 16, 31, 32, 63, 64) for x in _around(rng, sz, n)]
    cases = operands(f"int{kind}{bits}{sz}{mode}", sz, 600) + [(x, 0, 0) for x in edges]
    fn = getattr(softfloat, f"{PREFIX[sz]}_to_{kind}{bits}")
    op = "to_signed" if kind == "i" else "to_unsigned"

    def want() -> Iterator[tuple[int, int]]:
        for a, _, _ in cases:
            value, flags = soft(0, fn, unpack(sz, a), MODES[mode], True)
            negative = a >> (BITS[sz] - 1)
            if not flags & IOC:
                yield bits_of(value), flags
            elif is_nan(sz, a):
                yield 0, IOC
            elif kind == "i":
                yield (1 << (bits - 1)) - (1 - negative), IOC
            else:
                yield (0 if negative else (1 << bits) - 1), IOC

    check(op, lambda fpsr: batch(op, sz, cases, 0, bits, mode, fpsr), cases, want())


def _around(rng: random.Random, sz: int, n: int) -> list[int]:
    """Numbers of both signs next to 2^n."""
    bias = (1 << (BITS[sz] - FRAC[sz] - 2)) - 1
    if n > bias:
        return []
    centre = (bias + n) << FRAC[sz]
    out = [centre + d for d in (-2, -1, 0, 1, 2)] + [centre - rng.getrandbits(12) for _ in range(9)]
    return out + [x | 1 << (BITS[sz] - 1) for x in out]


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("sz", [H, S, D])
@pytest.mark.parametrize("kind", ["i", "ui"])
def test_from_integer(batch: Batch, kind: str, sz: int, mode: int) -> None:
    """SCVTF and UCVTF of 64-bit integers are rounded once."""
    rng = random.Random(f"from{kind}{sz}{mode}")
    values = [0, 1, (1 << 64) - 1, 1 << 63, (1 << 63) - 1, (1 << 53) + 1, (1 << 24) + 1]
    values += [rng.getrandbits(64) >> rng.randrange(64) for _ in range(1500)]
    values += [-v & (1 << 64) - 1 for v in values]
    cases = [(v, 0, 0) for v in values]
    fn = getattr(softfloat, f"{kind}64_to_{PREFIX[sz]}")
    integer = INT[kind, 64]
    op = "from_signed" if kind == "i" else "from_unsigned"

    def want() -> Iterator[tuple[int, int]]:
        for v in values:
            value, flags = soft(mode, fn, integer.from_bytes(v.to_bytes(8, "big")))
            yield bits_of(value), flags

    check(op, lambda fpsr: batch(op, sz, cases, mode << 22, fpsr=fpsr), cases, want())


@pytest.mark.parametrize("mode", range(5))
@pytest.mark.parametrize("sz", [H, S, D])
@pytest.mark.parametrize("exact", [0, 1])
def test_round_to_integral(batch: Batch, exact: int, sz: int, mode: int) -> None:
    """FRINTx rounds in five modes; only FRINTX raises Inexact."""
    cases = operands(f"rint{sz}{mode}", sz, 800)
    fn = getattr(softfloat, f"{PREFIX[sz]}_round_to_int")

    def want() -> Iterator[tuple[int, int]]:
        for a, _, _ in cases:
            nan = pick_nan(sz, (a,))
            if nan:
                yield nan
            else:
                value, flags = soft(0, fn, unpack(sz, a), MODES[mode], bool(exact))
                yield bits_of(value), flags

    check(
        "round_int", lambda fpsr: batch("round_int", sz, cases, 0, exact, mode, fpsr), cases, want()
    )


@pytest.mark.parametrize("sz", [H, S, D])
@pytest.mark.parametrize("signal", [0, 1])
def test_compare(batch: Batch, signal: int, sz: int) -> None:
    """FCMP and FCMPE order all numbers and differ in which NaNs are invalid."""
    cases = operands(f"cmp{sz}", sz)
    eq = getattr(softfloat, f"{PREFIX[sz]}_eq{'_signaling' if signal else ''}")
    lt = getattr(softfloat, f"{PREFIX[sz]}_lt_quiet")

    def want() -> Iterator[tuple[int, int]]:
        for a, b, _ in cases:
            equal, flags = soft(0, eq, unpack(sz, a), unpack(sz, b))
            if is_nan(sz, a) or is_nan(sz, b):
                yield 3, flags
            elif equal:
                yield 6, flags
            else:
                yield (8 if soft(0, lt, unpack(sz, a), unpack(sz, b))[0] else 2), flags

    check("compare", lambda fpsr: batch("compare", sz, cases, 0, signal, 0, fpsr), cases, want())


FLUSH = [
    # op, size, a, b, FPCR, extra, result, FPSR
    ("add", S, 0x00000001, 0x3F800000, FZ, 0, 0x3F800000, IDC),
    ("add", S, 0x00000001, 0x80000001, FZ, 0, 0x00000000, IDC),
    ("mul", S, 0x00800000, 0x3F000000, FZ, 0, 0x00000000, UFC),
    ("mul", S, 0x80800000, 0x3F000000, FZ, 0, 0x80000000, UFC),
    ("mul", S, 0x00800000, 0x3F7FFFFF, FZ, 0, 0x00000000, UFC),
    ("mul", D, 0x0010000000000000, 0x3FE0000000000000, FZ, 0, 0, UFC),
    ("mul", D, 0x0010000000000000, 0x3FE0000000000000, 0, 0, 0x0008000000000000, 0),
    ("mul", H, 0x0400, 0x3800, FZ16, 0, 0, UFC),
    ("add", H, 0x0001, 0x0000, FZ16, 0, 0, 0),
    ("add", H, 0x0001, 0x0000, FZ, 0, 1, 0),
    ("div", S, 0x3F800000, 0x00000001, FZ, 0, 0x7F800000, IDC | DZC),
    ("max", S, 0x80000001, 0x00000000, FZ, 0, 0, IDC),
    ("max", D, 0x8000000000000000, 0, 0, 0, 0, 0),
    ("min", D, 0, 0x8000000000000000, 0, 0, 0x8000000000000000, 0),
    ("compare", D, 1, 0, FZ, 0, 6, IDC),
    ("convert", S, 0x00000001, 0, FZ, D, 0, IDC),
    ("convert", H, 0x0001, 0, FZ16, S, 0x33800000, 0),
    ("convert", S, 0x33800000, 0, FZ | FZ16, H, 0x0001, 0),
    ("to_signed", S, 0x00000001, 0, FZ, 32, 0, IDC),
    # default NaN
    ("add", S, 0xFFC12345, 0x3F800000, DN, 0, 0x7FC00000, 0),
    ("add", D, 0x7FF0000000000001, 0, DN, 0, 0x7FF8000000000000, IOC),
    ("convert", D, 0xFFF8000000000001, 0, DN, S, 0x7FC00000, 0),
    # alternative half precision has neither infinities nor NaNs
    ("convert", S, 0x7F800000, 0, AHP, H, 0x7FFF, IOC),
    ("convert", S, 0xFFC00000, 0, AHP, H, 0x8000, IOC),
    ("convert", S, 0x47FFE000, 0, AHP, H, 0x7FFF, 0),
    ("convert", S, 0x48000000, 0, AHP, H, 0x7FFF, IOC),
    ("convert", H, 0x7C00, 0, AHP, S, 0x47800000, 0),
    ("add", H, 0x7C00, 0x3C00, AHP, 0, 0x7C00, 0),
    # estimates
    ("recpe", S, 0x3F800000, 0, 0, 0, 0x3F7F8000, 0),
    ("recpe", S, 0x00000001, 0, 0, 0, 0x7F800000, OFC | IXC),
    ("recpe", S, 0x00000001, 0, 3 << 22, 0, 0x7F7FFFFF, OFC | IXC),
    ("recpe", S, 0x80000000, 0, 0, 0, 0xFF800000, DZC),
    ("recpe", S, 0x7F000000, 0, FZ, 0, 0, UFC),
    ("recpe", S, 0x7F000000, 0, 0, 0, 0x003FE000, 0),
    ("rsqrte", S, 0x3F800000, 0, 0, 0, 0x3F7F8000, 0),
    ("rsqrte", D, 0x4010000000000000, 0, 0, 0, 0x3FDFF00000000000, 0),
    ("rsqrte", S, 0xBF800000, 0, 0, 0, 0x7FC00000, IOC),
    ("rsqrte", H, 0x0000, 0, 0, 0, 0x7C00, DZC),
]


@pytest.mark.parametrize(("op", "sz", "a", "b", "fpcr", "extra", "result", "flags"), FLUSH)
def test_arm_rules(
    batch: Batch, op: str, sz: int, a: int, b: int, fpcr: int, extra: int, result: int, flags: int
) -> None:
    """Flushing, default NaNs, alternative half precision and estimates follow the Arm ARM."""
    assert batch(op, sz, [(a, b, 0)], fpcr, extra) == [(result, flags)]
