"""Programs of Debian's userland as whole processes, on both sides with one disk.

Both guests stay up with the disk of guests/userland.py and take turns, program by program;
the time is the guest's clock around the process, start and output included. What a program
prints must be the same on both sides.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from results import Row
from sides import Bhyve, Guest, Image, Qemu

from bhyvepy.guests import debian, userland

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "programs.sh"
FILES = HERE / "programs"
PROMPT = "~ # "
ROW_S = 600


class BenchError(Exception):
    """The two sides do not agree, or a program failed."""


def programs() -> list[str]:
    """Names, in the order of the script."""
    return re.findall(r"^p_(\w+)\(\)", SCRIPT.read_text(), re.MULTILINE)


def run(
    kernel: str,
    only: Sequence[str] = (),
    rounds: int = 1,
    progress: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """One row for each program (or those of the given names)."""
    with tempfile.TemporaryDirectory(prefix="programs-") as scratch:
        guest = debian.fetch(kernel)
        files = {path.name: path.read_bytes() for path in (SCRIPT, *FILES.iterdir())}
        initrd = Path(scratch) / "initrd.gz"
        initrd.write_bytes(userland.shell_initrd(guest, files))
        image = Image(guest.vmlinuz, initrd, PROMPT, userland.disk())
        sides = (Bhyve(), Qemu())
        guests = {side.name: side.start(image, "programs") for side in sides}
        try:
            for side in sides:
                _one(guests[side.name], "prepare")
            out = []
            for name in programs():
                if only and name not in only:
                    continue
                row = Row(name, "s", cls="program")
                digests = set()
                for _ in range(rounds):
                    for side in sides:
                        seconds, digest = _one(guests[side.name], name)
                        (row.ours if isinstance(side, Bhyve) else row.qemu).append(seconds)
                        digests.add(digest)
                if len(digests) > 1:
                    raise BenchError(f"{name}: the two sides print different things")
                out.append(row)
                progress(row)
            return out
        finally:
            for side in sides:
                side.stop(guests[side.name])


def _one(guest: Guest, name: str) -> tuple[float, str]:
    """One run: seconds and the digest of the output."""
    command = f"/enter /bin/sh /tmp/job/{SCRIPT.name} {name} || echo P failed"
    text = guest.command(command, r"\n(P [^\r\n]*)\r", PROMPT, ROW_S)
    found = re.fullmatch(r"P (\w+) (\d+) (\S+)", text)
    if not found or found[1] != name:
        raise BenchError(f"{name}: the guest printed {text!r}")
    return int(found[2]) / 1e9, found[3]
