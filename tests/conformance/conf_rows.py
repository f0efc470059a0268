"""The decode tables as C, for the generator: rows.inc.

Responsible for: what kind and class a row has, which rows cannot run in user mode, edge
values.  Not for choosing words or operands: gen.c.

    conf_rows.py OUT      write OUT/rows.inc
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORE = Path(os.environ.get("CONF_CORE", HERE.parent.parent / "vmmcore"))
TABLES = [CORE / "pe" / f"{name}.decode" for name in ("a64", "a64_simd", "a64_fp")]
sys.path.insert(0, str(CORE / "tools"))
sys.path.insert(0, str(HERE.parent / "insn"))
import gen_decode  # noqa: E402
import known  # noqa: E402
from gen_decode import Row  # noqa: E402

CLASSES = (
    "integer",
    "branch",
    "load/store",
    "exclusive/atomic",
    "FP",
    "AdvSIMD",
    "crypto",
    "system",
)

C_CLASSES = (
    *("CL_INT", "CL_BRANCH", "CL_LDST", "CL_ATOMIC"),
    *("CL_FP", "CL_SIMD", "CL_CRYPTO", "CL_SYSTEM"),
)

SKIP = {
    "svc": "a Linux system call under qemu",
    "hvc": "not at EL0",
    "smc": "not at EL0",
    "eret": "not at EL0",
    "wfe": "waits",
    "wfi": "waits",
    "wfet": "waits",
    "wfit": "waits",
    "msr_imm": "PSTATE fields of EL1",
    "sys": "cache maintenance and translation: tests/core",
    "sysl": "UNDEFINED",
}
# The algorithm of our PAuth is our own choice (DDI 0487, D8.9): nothing to compare with.
SKIP_FEATURES = {"PAuth"}

BRANCHES = re.compile(r"(b|bl|br|blr|ret|b_cond|cbz_.|cbnz_.|tbz|tbnz|brk)$")
ATOMIC = re.compile(r"(ld|st)a?x|cas|ld(add|clr|eor|set|smax|smin|umax|umin)_|swp|ldar|stlr|ldapr_")
CRYPTO = {"AES", "PMULL", "SHA1", "SHA256", "SHA512", "SHA3", "SM3", "SM4"}


def is_memory(row: Row) -> bool:
    """Op0 x1x0: loads and stores."""
    return bool(row.value >> 25 & 5 == 4 and row.mask >> 25 & 5 == 5)


def row_class(row: Row) -> str:
    if is_memory(row):
        return "CL_ATOMIC" if ATOMIC.match(row.name) else "CL_LDST"
    if row.table == "a64_fp.decode":
        return "CL_FP"
    if row.table == "a64_simd.decode":
        return "CL_CRYPTO" if row.options.get("feat") in CRYPTO else "CL_SIMD"
    if BRANCHES.match(row.name):
        return "CL_BRANCH"
    return "CL_SYSTEM" if row.value >> 24 == 0xD5 else "CL_INT"


def class_number(row: Row) -> int:
    """Index into CLASSES."""
    return C_CLASSES.index(row_class(row))


def row_kind(row: Row) -> str:
    name = row.name
    if name in SKIP or row.options.get("feat") in SKIP_FEATURES:
        return "K_SKIP"
    if is_memory(row):
        if name.startswith(("stxr", "stxp")):
            return "K_STORE_EXCL"
        return "K_LOAD_EXCL" if name.startswith(("ldxr", "ldxp")) else "K_MEM"
    if name in ("br", "blr", "ret"):
        return "K_BR_REG"
    if name in ("b", "bl"):
        return "K_BR26"
    if name == "b_cond" or name.startswith(("cbz", "cbnz")):
        return "K_BR19"
    if name in ("tbz", "tbnz"):
        return "K_BR14"
    return "K_SYSREG" if name in ("mrs", "msr") else "K_PLAIN"


def row_flags(row: Row) -> str:
    flags = []
    general = row.table == "a64.decode"
    if general or is_memory(row) or any(row.options.get(r) in ("w", "r") for r in ("rd", "rn")):
        flags.append("ROW_X")
    if not general or row.name in ("mrs", "msr"):
        flags.append("ROW_V")
    if row.name.startswith(("tbl", "tbx")):
        flags.append("ROW_LIST")
    if row.name.startswith("casp"):
        flags.append("ROW_PAIR")
    if row.name == "brk":
        flags.append("ROW_TRAP")
    if any(row.name in entry.rows for entry in known.ALLOWED):
        flags.append("ROW_KNOWN")
    return " | ".join(flags) or "0"


# -- edge values -----------------------------------------------------------------

M64 = (1 << 64) - 1
INTS = [0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF]
INTS += [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, 0x7FFFFFFFFFFFFFFF]
INTS += [0x8000000000000000, M64, M64 - 1, 0x5555555555555555, 0xFF00FF00FF00FF00]

# Exponent, fraction width by size in bits.
FORMATS = {16: (5, 10), 32: (8, 23), 64: (11, 52)}


def float_edges(bits: int) -> list[int]:
    """Zero, denormals, one, limits, infinity, NaNs, half-integers, of both signs."""
    exp, frac = FORMATS[bits]
    bias = (1 << (exp - 1)) - 1
    top = ((1 << exp) - 1) << frac
    values = [0, 1, 2, (1 << frac) - 1, 1 << frac, (1 << frac) + 1]  # tiny
    values += [top - 1, top - 2, top, top | 1, top | 1 << (frac - 1), top | (1 << frac) - 1]
    for e in (-frac - 2, -frac, -2, -1, 0, 1, 2, 7, 8, 15, 16, 31, 32, 52, 62, 63, 64):
        if 0 < e + bias < (1 << exp) - 1:
            base = (e + bias) << frac
            values += [base, base + 1, base - 1, base | 1 << (frac - 1), base | 3 << (frac - 2)]
    return values + [v | 1 << (bits - 1) for v in values]


def float_specials(bits: int) -> list[int]:
    """Zero, denormal, one, the largest, infinity, NaNs (one of each kind), of both signs."""
    exp, frac = FORMATS[bits]
    top = ((1 << exp) - 1) << frac
    values = [0, 1, ((1 << (exp - 1)) - 1) << frac, 1 << frac, top - 1, top]
    values += [top | 1 << (frac - 2), top | 1 << (frac - 1) | 3]
    return values + [v | 1 << (bits - 1) for v in values]


def array(name: str, values: list[int]) -> str:
    items = ", ".join(f"UINT64_C({v:#x})" for v in values)
    return f"static const uint64_t {name}[] = {{ {items} }};\n"


def load() -> list[Row]:
    rows: list[Row] = gen_decode.load(TABLES)
    return rows


def rows_inc(rows: list[Row]) -> str:
    out = ["/* Generated by conf_rows.py: do not edit. */\n"]
    out.append("#define FIELD(v, lo, n) (((v) >> (lo)) & ((1u << (n)) - 1))\n")
    out.append(array("edges_int", INTS))
    out += [array(f"edges_{bits}", float_edges(bits)) for bits in FORMATS]
    out += [array(f"specials_{bits}", float_specials(bits)) for bits in FORMATS]
    out.append("const struct row rows[] = {\n")
    for row in rows:
        what = f"{row_class(row)}, {row_kind(row)}, {row_flags(row)}"
        out.append(f'\t{{ "{row.name}", {row.mask:#010x}, {row.value:#010x}, {what} }},\n')
    out.append("};\nconst unsigned row_count = sizeof(rows) / sizeof(rows[0]);\n\n")
    out.append("bool\nrow_match(unsigned row, uint32_t w)\n{\n")
    out.append("\tif ((w & rows[row].mask) != rows[row].value)\n\t\treturn (false);\n")
    out.append("\tswitch (row) {\n")
    for n, row in enumerate(rows):
        if row.constraints:
            test = " && ".join(f"({c.c_expr()})" for c in row.constraints)
            out.append(f"\tcase {n}:\n\t\treturn ({test});\n")
    out.append("\tdefault:\n\t\treturn (true);\n\t}\n}\n")
    return "".join(out)


def write(out: Path) -> None:
    text = rows_inc(load())
    path = out / "rows.inc"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
