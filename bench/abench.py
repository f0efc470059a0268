"""The abench programs (bint.c, bfp.c, bmem.c, bsys.c) inside Debian's kernel, on both sides.

One static arm64 binary goes into the initramfs; both guests stay up and take turns, row by
row, so that each ratio comes from neighbouring moments. Checksums of both sides must agree.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from results import Row
from sides import Bhyve, Guest, Image, Qemu

from bhyvepy.guests import debian

HERE = Path(__file__).resolve().parent
SOURCES = ("main.c", "bint.c", "bfp.c", "bmem.c", "bsys.c")
ROW_S = 300
_LINE = re.compile(
    r"B (?P<cls>\w+)\s+(?P<name>\w+)\s+(?P<ns>[\d.]+) ns/op\s+min (?P<min>[\d.]+)"
    r" max (?P<max>[\d.]+)\s.*ck (?P<ck>[0-9a-f]{16})"
)


class BenchError(Exception):
    """The two sides do not agree, or a program failed."""


def programs() -> list[tuple[str, str]]:
    """(name, class) of the programs in main.c's order."""
    found: list[tuple[str, str]] = []
    for source in SOURCES[1:]:
        for body in re.findall(
            r"_benches\[\] = \{(.*?)\};", (HERE / source).read_text(), re.DOTALL
        ):
            found += re.findall(r'\{ "(\w+)", "(\w+)"', body)
    return found


def build(into: Path, cross: str = "aarch64-linux-gnu-") -> Path:
    """The static binary."""
    out = into / "abench"
    argv = [f"{cross}gcc", "-O2", "-g0", "-Wall", "-static", "-pthread", "-o", str(out)]
    subprocess.run([*argv, *(str(HERE / s) for s in SOURCES), "-lm"], check=True)
    return out


def parse(text: str) -> dict[str, str]:
    """A result line of abench as its fields."""
    match = _LINE.search(text)
    if not match:
        raise BenchError(f"abench printed {text.strip()[-200:]!r}")
    return match.groupdict()


def run(
    kernel: str,
    only: Sequence[str] = (),
    rounds: int = 1,
    seconds: float = 0.3,
    progress: Callable[[Row], None] = lambda row: None,
    shares: dict[str, float] | None = None,
) -> list[Row]:
    """One row for each program (or those of the given names and classes); shares gets, for each
    class, the share of our instructions that handlers or the interpreter executed."""
    with tempfile.TemporaryDirectory(prefix="abench-") as scratch:
        guest = debian.fetch(kernel)
        initrd = Path(scratch) / "initrd.gz"
        binary = build(Path(scratch)).read_bytes()
        initrd.write_bytes(debian.build_initrd(guest, {"/abench": binary}))
        image = Image(guest.vmlinuz, initrd, "~ # ")
        sides = (Bhyve(), Qemu())
        guests = {side.name: side.start(image, "abench") for side in sides}
        ours = guests[sides[0].name]
        counts: dict[str, list[int]] = {}
        try:
            out = []
            for name, cls in programs():
                if only and not {name, cls} & set(only):
                    continue
                row = Row(name, "ns/op", cls=cls)
                before = sides[0].untranslated(ours)
                checks = set()
                for _ in range(rounds):
                    for side in sides:
                        line = _one(guests[side.name], name, seconds)
                        if line is None:
                            continue
                        values = row.ours if isinstance(side, Bhyve) else row.qemu
                        values.append(float(line["ns"]))
                        checks.add(line["ck"])
                if len(checks) > 1:
                    raise BenchError(f"{name}: checksums differ: {', '.join(sorted(checks))}")
                out.append(row)
                progress(row)
                after = sides[0].untranslated(ours)
                of_class = counts.setdefault(cls, [0, 0])
                for k in range(2):
                    of_class[k] += after[k] - before[k]
            if shares is not None:
                shares.update({cls: slow / max(n, 1) for cls, (slow, n) in counts.items()})
            return out
        finally:
            for side in sides:
                side.stop(guests[side.name])


def _one(guest: Guest, name: str, seconds: float) -> dict[str, str] | None:
    """One run; None when the CPU lacks the instructions (LSE on a Cortex-A57)."""
    answer = r"(B \w[^\r\n]*|Illegal instruction)\r"
    text = guest.command(f"/abench -r 3 -t {seconds} {name}", answer, "~ # ", ROW_S)
    return None if text.startswith("Illegal") else parse(text)
