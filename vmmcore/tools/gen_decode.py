#!/usr/bin/env python3
"""Generate the A64 decoder from the decode tables.

    gen_decode.py OUTDIR TABLE...      write OUTDIR/pe/a64_ops.h, a64_handlers.h, a64_decode.c
    gen_decode.py --json TABLE...      print the rows as JSON (for test generators)
    gen_decode.py --check TABLE...     parse and look for overlaps only

A table that does not exist is skipped with a note, so that the integer and the SIMD
tables can be worked on apart.  A row:

    name  0/1 bits, `.` any bit, field:width ...  | rd=wsp imm=addsub when f!=3 feat=LSE

Options:
    rd rn rm ra  r: 31 reads zero; rsp, wsp: 31 is SP; w: 31 is the sink; absent: raw number
    imm          a kind of IMM_KINDS, or a field or hi:lo fields (unsigned)
    a b          a field, or fields joined with `:` (at most 8 bits are kept)
    when         FIELD OP VALUE, OP one of == != < > <= >= in notin; `in` takes a,b,c;
                 VALUE may be another field; FIELD may be joined fields
    feat         a name of pe_feature.def;   fn   handler shared with other rows
A trailing backslash joins lines.

Not here: what the instructions do (exec_*.c).  Standard library only.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

# Kinds of `imm=`: C expressions over `w`.  Field places are those of the Arm ARM.
IMM_KINDS = {
    "imm26": "(int32_t)(w << 6) >> 4",  # B, BL: bytes
    "imm19": "((int32_t)(w << 8) >> 11) & ~3",  # B.cond, CBZ, LDR literal: bytes
    "imm14": "((int32_t)(w << 13) >> 16) & ~3",  # TBZ: bytes
    "adr": "(((int32_t)(w << 8) >> 11) & ~3) | (int32_t)FIELD(w, 29, 2)",
    "addsub": "(int32_t)(FIELD(w, 10, 12) << (FIELD(w, 22, 1) * 12))",
    "logic": "(int32_t)FIELD(w, 10, 13)",  # N:immr:imms, an index
    "simm9": "(int32_t)(w << 11) >> 23",
    "simm10": "((int32_t)(FIELD(w, 22, 1) << 31 | FIELD(w, 12, 9) << 22) >> 22) * 8",  # LDRAA
    "uimm12": "(int32_t)(FIELD(w, 10, 12) << FIELD(w, 30, 2))",  # scaled by size
    "uimm12v": "(int32_t)(FIELD(w, 10, 12) << (FIELD(w, 23, 1) * 4 + FIELD(w, 30, 2)))",
    "simm7": "((int32_t)(w << 10) >> 25) * (int32_t)(4 << FIELD(w, 31, 1))",
    "simm7v": "((int32_t)(w << 10) >> 25) * (int32_t)(4 << FIELD(w, 30, 2))",
}
REG_FIELDS = {"rd": 0, "rn": 5, "rm": 16, "ra": 10}
REG_MAPS = {"r": "REG_ZR", "rsp": "REG_SP", "w": "REG_SINK", "wsp": "REG_SP"}
PSEUDO_OPS = ("UNDECODED", "UNDEFINED", "PAGE_END")

WHEN = re.compile(r"when\s+([\w:]+)\s*(==|!=|<=|>=|<|>|notin\b|in\b)\s*(\w+(?:,\w+)*)")
NAME = re.compile(r"[a-z][a-z0-9_]*$")


class TableError(Exception):
    """A mistake in a decode table; the text names the file and line."""


@dataclass(frozen=True)
class Extract:
    """Pieces of the word, most significant first: (lowest bit, width)."""

    parts: tuple[tuple[int, int], ...]

    @property
    def mask(self) -> int:
        return sum(((1 << w) - 1) << lo for lo, w in self.parts)

    def get(self, word: int) -> int:
        value = 0
        for lo, width in self.parts:
            value = value << width | (word >> lo) & ((1 << width) - 1)
        return value

    def c_expr(self) -> str:
        shift = 0
        terms = []
        for lo, width in reversed(self.parts):
            term = f"FIELD(w, {lo}, {width})"
            terms.append(f"{term} << {shift}" if shift else term)
            shift += width
        if len(terms) == 1:
            return terms[0]
        return "(" + " | ".join(f"({t})" for t in reversed(terms)) + ")"


@dataclass(frozen=True)
class Constraint:
    left: Extract
    op: str
    right: Extract | tuple[int, ...]
    text: str

    @property
    def mask(self) -> int:
        return self.left.mask | (self.right.mask if isinstance(self.right, Extract) else 0)

    def holds(self, word: int) -> bool:
        left = self.left.get(word)
        if isinstance(self.right, Extract):
            values: tuple[int, ...] = (self.right.get(word),)
        else:
            values = self.right
        value = values[0]
        return {
            "==": left == value,
            "!=": left != value,
            "<": left < value,
            ">": left > value,
            "<=": left <= value,
            ">=": left >= value,
            "in": left in values,
            "notin": left not in values,
        }[self.op]

    def c_expr(self) -> str:
        left = self.left.c_expr()
        if isinstance(self.right, Extract):
            return f"{left} {self.op} {self.right.c_expr()}"
        if self.op == "in":
            return "(" + " || ".join(f"{left} == {v}" for v in self.right) + ")"
        if self.op == "notin":
            return " && ".join(f"{left} != {v}" for v in self.right)
        return f"{left} {self.op} {self.right[0]}"


@dataclass
class Row:
    name: str
    where: str
    mask: int = 0
    value: int = 0
    fields: dict[str, tuple[int, int]] = field(default_factory=dict)
    constraints: list[Constraint] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    table: str = ""

    @property
    def handler(self) -> str:
        fn = self.options.get("fn", self.name)
        return fn if fn.startswith("op_") else "op_" + fn

    def matches(self, word: int) -> bool:
        return word & self.mask == self.value and all(c.holds(word) for c in self.constraints)

    def extract(self, text: str) -> Extract:
        parts = []
        for name in text.split(":"):
            if name not in self.fields:
                raise TableError(f"{self.where}: {self.name}: no field {name!r}")
            parts.append(self.fields[name])
        return Extract(tuple(parts))

    def c_test(self, known: int) -> str:
        tests = []
        if self.mask & ~known:
            tests.append(f"(w & {self.mask:#010x}) == {self.value:#010x}")
        tests += [c.c_expr() for c in self.constraints]
        return " && ".join(tests)


def parse_pattern(row: Row, text: str) -> None:
    pos = 32
    for token in text.split():
        m = re.fullmatch(r"([A-Za-z]\w*):(\d+)", token)
        if m:
            width = int(m[2])
            pos -= width
            if m[1] in row.fields:
                raise TableError(f"{row.where}: field {m[1]!r} twice")
            row.fields[m[1]] = (pos, width)
        elif re.fullmatch(r"[01.]+", token):
            for bit in token:
                pos -= 1
                if bit != "." and pos >= 0:
                    row.mask |= 1 << pos
                    row.value |= int(bit) << pos
        else:
            raise TableError(f"{row.where}: bad token {token!r}")
    if pos != 0:
        raise TableError(f"{row.where}: {row.name}: pattern has {32 - pos} bits")


def parse_constraint(row: Row, m: re.Match[str]) -> Constraint:
    right: Extract | tuple[int, ...]
    if m[3][0].isalpha():
        right = row.extract(m[3])
    else:
        right = tuple(int(v, 0) for v in m[3].split(","))
    return Constraint(row.extract(m[1]), m[2], right, " ".join(m[0].split()[1:]))


def parse_line(line: str, where: str) -> Row:
    head, _, tail = line.partition("|")
    name, _, pattern = head.strip().partition(" ")
    row = Row(name, where, table=where.partition(":")[0])
    if not NAME.match(name):
        raise TableError(f"{where}: bad name {name!r}")
    parse_pattern(row, pattern)
    for m in WHEN.finditer(tail):
        row.constraints.append(parse_constraint(row, m))
    for token in WHEN.sub(" ", tail).split():
        key, eq, value = token.partition("=")
        if not eq or key not in {"rd", "rn", "rm", "ra", "imm", "a", "b", "feat", "fn"}:
            raise TableError(f"{where}: {name}: bad option {token!r}")
        if key in REG_FIELDS and value not in REG_MAPS:
            raise TableError(f"{where}: {name}: bad register map {token!r}")
        if key in {"a", "b"} or (key == "imm" and value not in IMM_KINDS):
            row.extract(value)
        row.options[key] = value
    return row


def parse_table(path: Path) -> list[Row]:
    rows = []
    pending = ""
    for number, raw in enumerate(path.read_text().splitlines(), 1):
        line = pending + raw.partition("#")[0].rstrip()
        pending = ""
        if line.endswith("\\"):
            pending = line[:-1] + " "
        elif line.strip():
            rows.append(parse_line(line, f"{path.name}:{number}"))
    return rows


def load(paths: list[Path]) -> list[Row]:
    rows: list[Row] = []
    for path in paths:
        if path.exists():
            rows += parse_table(path)
        else:
            print(f"gen_decode: {path.name}: no such table, skipped", file=sys.stderr)
    seen: dict[str, str] = {}
    for row in rows:
        if row.name in seen:
            raise TableError(f"{row.where}: name {row.name!r} already at {seen[row.name]}")
        seen[row.name] = row.where
    return rows


def overlap(a: Row, b: Row) -> int | None:
    """A word that both rows accept, or None."""
    if (a.value ^ b.value) & a.mask & b.mask:
        return None
    base = a.value | b.value
    free = 0
    for c in a.constraints + b.constraints:
        free |= c.mask
    free &= ~(a.mask | b.mask)
    bits = [1 << i for i in range(32) if free >> i & 1]
    if len(bits) > 20:
        raise TableError(f"{a.where}, {b.where}: too many constrained bits to enumerate")
    for n in range(1 << len(bits)):
        word = base
        for i, bit in enumerate(bits):
            if n >> i & 1:
                word |= bit
        if a.matches(word) and b.matches(word):
            return word
    return None


def check_overlaps(rows: list[Row]) -> None:
    errors = []
    for i, a in enumerate(rows):
        for b in rows[i + 1 :]:
            if not (a.value ^ b.value) & a.mask & b.mask:
                word = overlap(a, b)
                if word is not None:
                    errors.append(
                        f"{b.where}: {b.name} overlaps {a.name} ({a.where}) at {word:#010x}"
                    )
    if errors:
        raise TableError("\n".join(errors))


class Tree:
    """Nested switches over windows of the word that separate the rows best."""

    def __init__(self) -> None:
        self.out: list[str] = []

    def best_window(self, rows: list[Row], seen: int) -> tuple[int, int] | None:
        """The window with the fewest rows left on average; wide ones pay a little."""
        best: tuple[float, int, int] | None = None
        agree = 0xFFFFFFFF  # bits fixed alike in all rows separate nothing
        for row in rows:
            agree &= row.mask & ~(row.value ^ rows[0].value)
        fixed = [r.mask & ~seen & ~agree for r in rows]
        for width in range(1, 9):
            for lo in range(33 - width):
                window = ((1 << width) - 1) << lo
                left = sum(2.0 ** -(m & window).bit_count() for m in fixed)
                score = left + 0.04 * width
                if left < len(rows) and (best is None or score < best[0]):
                    best = (score, lo, width)
        return best[1:] if best else None

    def emit(self, rows: list[Row], depth: int, seen: int = 0) -> None:
        pad = "\t" * depth
        window = self.best_window(rows, seen) if len(rows) > 2 else None
        groups: dict[tuple[int, ...], list[int]] = {}
        if window is not None:
            lo, width = window
            seen |= ((1 << width) - 1) << lo
            for v in range(1 << width):
                m = ((1 << width) - 1) << lo
                key = tuple(i for i, r in enumerate(rows) if not (r.value ^ (v << lo)) & r.mask & m)
                if key:
                    groups.setdefault(key, []).append(v)
        if window is None:
            for row in rows:
                test = row.c_test(0)
                self.out.append(f"{pad}if ({test})")
                self.out.append(f"{pad}\treturn (A64_{row.name.upper()});")
            self.out.append(f"{pad}return (0);")
            return
        self.out.append(f"{pad}switch (FIELD(w, {lo}, {width})) {{")
        for key, values in groups.items():
            for i in range(0, len(values), 6):
                cases = " ".join(f"case {v}:" for v in values[i : i + 6])
                self.out.append(f"{pad}{cases}")
            self.emit([rows[i] for i in key], depth + 1, seen)
        self.out.append(f"{pad}default:")
        self.out.append(f"{pad}\treturn (0);")
        self.out.append(f"{pad}}}")


BANNER = "/* Generated by gen_decode.py from {}: do not edit. */\n"


def gen_ops(rows: list[Row], banner: str) -> str:
    out = [banner, "#ifndef PE_A64_OPS_H", "#define PE_A64_OPS_H", "", "enum a64_op {"]
    out += [f"\tA64_{name}," for name in PSEUDO_OPS]
    out += [f"\tA64_{row.name.upper()}," for row in rows]
    out += ["\tA64_OP_COUNT", "};", ""]
    out += ["extern const char *const a64_op_name[];"]
    out += ["/* enum pe_feature, or -1 for what every PE has */"]
    out += ["extern const signed char a64_op_feature[];", "", "#endif", ""]
    return "\n".join(out)


def gen_handlers(rows: list[Row], banner: str) -> str:
    out = [banner, "#ifndef PE_A64_HANDLERS_H", "#define PE_A64_HANDLERS_H", ""]
    out += ['#include "pe/pe_internal.h"', ""]
    names = [f"op_{name.lower()}" for name in PSEUDO_OPS]
    for handler in dict.fromkeys(names + [r.handler for r in rows]):
        out.append(f"int {handler}(struct pe *, const struct insn *);")
    out += ["", "#endif", ""]
    return "\n".join(out)


def gen_decode(rows: list[Row], banner: str) -> str:
    pseudo = [(f"op_{n.lower()}", n.lower()) for n in PSEUDO_OPS]
    out = [banner, '#include "pe/a64_handlers.h"', ""]
    tree = Tree()
    tree.emit(rows, 1)
    out += ["unsigned", "a64_decode(uint32_t w)", "{", *tree.out, "}", ""]
    # Extraction: distinct expressions get a number each.
    kinds: dict[str, int] = {"0": 0}
    table = []
    for row in rows:
        regs = [REG_MAPS[row.options[r]] if r in row.options else "31" for r in REG_FIELDS]
        nums = []
        for key, cast in (("imm", "int32_t"), ("a", "uint8_t"), ("b", "uint8_t")):
            value = row.options.get(key)
            if value is None:
                expr = "0"
            elif key == "imm" and value in IMM_KINDS:
                expr = IMM_KINDS[value]
            else:
                expr = f"({cast}){row.extract(value).c_expr()}"
            nums.append(str(kinds.setdefault(expr, len(kinds))))
        table.append("\t{" + ", ".join(regs + nums) + f"}}, /* {row.name} */")
    out += ["/* What 31 means in each register field, and which extract() fills imm, a, b. */"]
    out += ["static const struct shape {", "\tuint8_t rd, rn, rm, ra, imm, a, b;", "} shapes[] = {"]
    out += ["\t{31, 31, 31, 31, 0, 0, 0},"] * len(PSEUDO_OPS) + table + ["};", ""]
    out += ["static int32_t", "extract(unsigned kind, uint32_t w)", "{", "\tswitch (kind) {"]
    for expr, number in kinds.items():
        if number:
            out += [f"\tcase {number}:", f"\t\treturn ({expr});"]
    out += ["\tdefault:", "\t\treturn (0);", "\t}", "}", ""]
    out += DECODE_INSN.splitlines()
    out += ["", "const insn_fn a64_handler[] = {"]
    out += [f"\t{h}," for h, _ in pseudo] + [f"\t{r.handler}," for r in rows] + ["};", ""]
    out += ["const char *const a64_op_name[] = {"]
    out += [f'\t"{n}",' for _, n in pseudo] + [f'\t"{r.name}",' for r in rows] + ["};", ""]
    out += ["const signed char a64_op_feature[] = {"] + ["\t-1,"] * len(pseudo)
    for row in rows:
        feat = row.options.get("feat")
        out.append(f"\tPE_FEAT_{feat}," if feat else "\t-1,")
    return "\n".join([*out, "};", ""])


DECODE_INSN = """\
static uint8_t
map_reg(uint32_t w, unsigned lo, uint8_t r31)
{
	uint8_t r = FIELD(w, lo, 5);

	return (r == 31 ? r31 : r);
}

void
a64_decode_insn(uint32_t w, struct insn *in)
{
	unsigned op = a64_decode(w);
	const struct shape *s;

	if (op == A64_UNDECODED)
		op = A64_UNDEFINED;
	s = &shapes[op];
	in->op = op;
	in->rd = map_reg(w, 0, s->rd);
	in->rn = map_reg(w, 5, s->rn);
	in->rm = map_reg(w, 16, s->rm);
	in->ra = map_reg(w, 10, s->ra);
	in->a = extract(s->a, w);
	in->b = extract(s->b, w);
	in->imm = extract(s->imm, w);
	in->word = w;
}"""


def to_json(rows: list[Row]) -> str:
    items = []
    for number, row in enumerate(rows, len(PSEUDO_OPS)):
        items.append(
            {
                "op": number,
                "name": row.name,
                "table": row.table,
                "where": row.where,
                "mask": row.mask,
                "value": row.value,
                "fields": {k: list(v) for k, v in row.fields.items()},
                "when": [c.text for c in row.constraints],
                "options": row.options,
                "handler": row.handler,
            }
        )
    return json.dumps(items, indent=1)


def write_if_changed(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main(argv: list[str]) -> int:
    if len(argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    paths = [Path(p) for p in argv[1:]]
    try:
        rows = load(paths)
        if argv[0] == "--json":
            print(to_json(rows))
            return 0
        check_overlaps(rows)
        if argv[0] == "--check":
            print(f"{len(rows)} rows, {len({r.handler for r in rows})} handlers")
            return 0
        banner = BANNER.format(", ".join(p.name for p in paths))
        out = Path(argv[0]) / "pe"
        write_if_changed(out / "a64_ops.h", gen_ops(rows, banner))
        write_if_changed(out / "a64_handlers.h", gen_handlers(rows, banner))
        write_if_changed(out / "a64_decode.c", gen_decode(rows, banner))
    except TableError as e:
        print(f"gen_decode: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
