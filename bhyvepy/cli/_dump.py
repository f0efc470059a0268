"""bhyvectl's deeper looks: translation tables, timers, the device tree, a plot of the exits.

Tables belong to the guest and may hold anything: what is read is bounded, and what
points outside of RAM ends there. Not here: options (bhyvectl.py), forms (_output.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from bhyvepy import devtree, vmmapi
from bhyvepy.boot import record
from bhyvepy.cli._output import Report
from bhyvepy.errors import BhyveError, GuestFault

PAGE_BITS = {0: 12, 1: 16, 2: 14}  # TCR_EL1.TG0
TG1 = {1: 14, 2: 12, 3: 16}
OUTPUT = (1 << 48) - 1
# Descriptors that are looked at; a table that names itself would have no end.
MAX_TABLES = 65536


@dataclass(slots=True)
class Range:
    """Addresses next to each other that are mapped alike."""

    start: int
    end: int
    to: int
    what: str


def merge(pieces: Iterator[Range]) -> list[Range]:
    """Neighbours as one."""
    out: list[Range] = []
    for p in pieces:
        last = out[-1] if out else None
        if (
            last is not None
            and (last.end, last.what) == (p.start, p.what)
            and last.to + last.end - last.start == p.to
        ):
            last.end = p.end
        else:
            out.append(p)
    return out


def stage1_attributes(pte: int, el0_never: bool = False) -> str:
    """AP, XN, AttrIndx and the flags of a leaf (Arm ARM DDI 0487, D8.3)."""
    el1 = "r-" if pte & 1 << 7 else "rw"
    el0 = ("r-" if pte & 1 << 7 else "rw") if pte & 1 << 6 and not el0_never else "--"
    el1 += "-" if pte & 1 << 53 else "x"
    el0 += "-" if pte & 1 << 54 else "x"
    flags = "" if pte & 1 << 11 else " global"
    flags += "" if pte & 1 << 10 else " !AF"
    return f"EL1 {el1} EL0 {el0} attr {pte >> 2 & 7}{flags}"


def stage1(vm: vmmapi.VM, vcpu: vmmapi.VCPU) -> list[Range]:
    """What the vCPU's stage-1 tables map now, both halves; empty with the MMU off."""
    regs = vcpu.get_set(["sctlr_el1", "tcr_el1", "ttbr0_el1", "ttbr1_el1"])
    if not regs["sctlr_el1"] & 1:
        return []
    tcr, left = regs["tcr_el1"], [MAX_TABLES]
    out: list[Range] = []
    for half, shift, granule in ((0, 0, PAGE_BITS), (1, 16, TG1)):
        page_bits = granule.get(tcr >> (30 if half else 14) & 3)
        size = 64 - (tcr >> shift & 63)
        if page_bits is None or tcr >> (23 if half else 7) & 1 or not page_bits < size <= 48:
            continue
        base = ((1 << 64) - (1 << size)) if half else 0
        index = page_bits - 3
        level = 4 - (size - page_bits + index - 1) // index
        table = regs["ttbr1_el1" if half else "ttbr0_el1"] & OUTPUT & ~1
        out += merge(_walk(vm, table, base, level, page_bits, size, left))
    return out


def _walk(
    vm: vmmapi.VM, table: int, base: int, level: int, page_bits: int, size: int, left: list[int]
) -> Iterator[Range]:
    index = page_bits - 3
    shift = page_bits + (3 - level) * index
    count = 1 << min(index, size - shift)
    left[0] -= 1
    if left[0] < 0:
        return
    try:
        ptes = struct.unpack(f"<{count}Q", vm.memory.read(table, 8 * count))
    except GuestFault:
        return
    for i, pte in enumerate(ptes):
        va = base + (i << shift)
        if not pte & 1:
            continue
        if level < 3 and pte & 2:
            yield from _walk(
                vm, pte & OUTPUT & -(1 << page_bits), va, level + 1, page_bits, shift, left
            )
        elif (level == 3 and pte & 2) or 0 < level < 3:
            yield Range(va, va + (1 << shift), pte & OUTPUT & -(1 << shift), stage1_attributes(pte))


def stage2(vm: vmmapi.VM) -> list[Range]:
    """What the hypervisor's tables map now: guest to emulated physical addresses."""

    def pieces() -> Iterator[Range]:
        for m in vm.memmap():
            gpa = m.gpa
            while gpa < m.end:
                pte, level = vm.gpa_pmap(gpa)
                if not pte:
                    gpa += 4096
                    continue
                size = 1 << 12 + 9 * (3 - level)
                start = gpa & -size
                prot = ("r" if pte & 1 << 6 else "-") + ("w" if pte & 1 << 7 else "-")
                prot += "-" if pte >> 53 & 2 else "x"
                yield Range(start, start + size, pte & OUTPUT & -size, f"{prot} level {level}")
                gpa = start + size

    return merge(pieces())


def show_ranges(report: Report, key: str, title: str, ranges: list[Range]) -> None:
    """Start, end, where to, how."""
    rows = [(f"{r.start:016x}", f"{r.end - 1:016x}", f"{r.to:012x}", r.what) for r in ranges]
    report.add(
        key,
        [{"start": r.start, "end": r.end, "to": r.to, "attributes": r.what} for r in ranges],
        ["\t".join(row) for row in rows],
        title=title,
        columns=("From", "To", "Maps to", "Attributes"),
        rows=rows,
    )


def show_timer(report: Report, vcpu: vmmapi.VCPU) -> None:
    """The virtual and the physical timer of a vCPU."""
    values, rows = {}, []
    for name, key in (("virtual", "v"), ("physical", "p")):
        regs = vcpu.get_set([f"cnt{key}_ctl_el0", f"cnt{key}_cval_el0"])
        ctl, cval = regs.values()
        values[name] = {"enabled": bool(ctl & 1), "masked": bool(ctl & 2), "compare": cval}
        rows.append((name, *(("no", "yes")[bool(ctl & b)] for b in (1, 2)), f"{cval:#x}"))
    report.add(
        "timer",
        values,
        ["\t".join(row) for row in rows],
        title=f"Timers of vCPU {vcpu.vcpuid}",
        columns=("Timer", "Enabled", "Masked", "Compare value"),
        rows=rows,
    )


def source(node: devtree.Node, indent: str = "") -> list[str]:
    """A node as dtc(1) reads it; bytes decide what a property looks like."""
    out = [f"{indent}{node.name or '/'} {{"]
    for name, raw in node.props.items():
        out.append(f"{indent}\t{name}{_value(raw)};")
    for child in node.children:
        out += source(child, indent + "\t")
    return [*out, f"{indent}}};"]


def _value(raw: bytes) -> str:
    if not raw:
        return ""
    words = raw[:-1].split(b"\0")
    if raw[-1] == 0 and all(w and all(32 <= c < 127 and c not in b'"\\' for c in w) for w in words):
        return " = " + ", ".join(f'"{w.decode()}"' for w in words)
    if len(raw) % 4 == 0:
        cells = struct.unpack(f">{len(raw) // 4}I", raw)
        return f" = <{' '.join(f'{c:#x}' for c in cells)}>"
    return f" = [{raw.hex(' ')}]"


def show_fdt(report: Report, vm: vmmapi.VM) -> None:
    """The device tree as it stands in guest memory now, as source."""
    data = vm.get_load_record()
    rec = record.parse(data) if data is not None else None
    if rec is None or not rec.dtb_gpa:
        raise BhyveError(f"VM {vm.name} has no device tree")
    head = vm.memory.read(rec.dtb_gpa, 8)
    magic, size = struct.unpack(">II", head)
    if magic != 0xD00DFEED or not 40 <= size <= max(rec.dtb_room, 1 << 21):
        raise BhyveError(
            f"there is no device tree at {rec.dtb_gpa:#x} any more: the guest has used its place"
        )
    tree = devtree.parse(vm.memory.read(rec.dtb_gpa, size), "the device tree of the guest")
    lines = ["/dts-v1/;", *source(tree.root)]
    report.add(
        "fdt",
        "\n".join(lines),
        lines,
        title="Device tree",
        columns=("Source",),
        rows=[(x,) for x in lines],
    )


# -- a plot ---------------------------------------------------------------------------
WIDTH, BAR, LABEL = 900, 22, 420


def exits_svg(counts: dict[str, int], title: str) -> str:
    """A histogram of the exits, largest first, as a picture."""
    rows = sorted(((n, k) for k, n in counts.items() if n), reverse=True)
    most = rows[0][0] if rows else 1
    height = 50 + BAR * max(1, len(rows))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="24" font-size="16">{escape(title)}</text>',
    ]
    for i, (n, name) in enumerate(rows):
        y = 40 + BAR * i
        width = max(1, round((WIDTH - LABEL - 110) * n / most))
        out.append(
            f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{LABEL}" y="{y + 3}" width="{width}" height="{BAR - 6}" fill="#4878a8"/>'
            f'<text x="{LABEL + width + 6}" y="{y + 15}">{n}</text>'
        )
    if not rows:
        out.append('<text x="10" y="55">no exits</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def exit_counts(vm: vmmapi.VM) -> dict[str, int]:
    """Exits by cause, of all vCPUs."""
    out: dict[str, int] = {}
    for n in vm.cpus() or [0]:
        for name, value in vm.vcpu(n).stats().items():
            cause = name.removeprefix("number of ").removeprefix("vmexits for ")
            if name.startswith("number of vmexits for ") or name.endswith("was intercepted"):
                out[cause] = out.get(cause, 0) + value
    return out
