"""What `make bench` measures without any program in the guest but its own kernel and shell.

Each function takes its samples in turns, one of ours and one of QEMU's, so that a machine
that slows down in between harms both.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from results import Row
from sides import BIN, MIB, Bhyve, Guest, Image, Qemu, Side, cpu_seconds, resident

LOOP_S = 1.0
IDLE_S = 10.0
SETTLE_S = 3.0


def _sides(row: Row) -> Iterator[tuple[Side, list[float]]]:
    yield Bhyve(), row.ours
    yield Qemu(), row.qemu


def loops(image: Image, rounds: int) -> list[Row]:
    """Guest instructions per second of CPU time in two loops of eight instructions."""
    rows = [
        Row("loop", "MIPS", True, goal="80 MIPS"),
        Row("memloop", "MIPS", True),
    ]
    guests = {side.name: side.start(image) for side in (Bhyve(), Qemu())}
    try:
        for row in rows:
            count = {name: _calibrate(guest, row.name, image) for name, guest in guests.items()}
            for _ in range(rounds):
                for side, values in _sides(row):
                    values.append(_loop(guests[side.name], row.name, count[side.name], image))
    finally:
        for side in (Bhyve(), Qemu()):
            side.stop(guests[side.name])
    return rows


def start(image: Image, rounds: int) -> Row:
    """Seconds until a kernel that does nothing first has printed its prompt."""
    row = Row("start of the commands to the first prompt of a small kernel", "s", goal="0.5 s")
    for _ in range(rounds):
        for side, values in _sides(row):
            guest = side.start(image)
            values.append(guest.seconds)
            side.stop(guest)
    return row


def _loop(guest: Guest, what: str, count: int, image: Image) -> float:
    """MIPS of one run, by CPU time: what else the machine does counts little then."""
    used = -cpu_seconds(guest.pid)
    guest.command(f"{what} {count}", r"instructions in (\d+) us", image.prompt)
    return count * 8e-6 / (used + cpu_seconds(guest.pid))


def _calibrate(guest: Guest, what: str, image: Image) -> int:
    """The rounds that take about LOOP_S."""
    count = 1_000_000
    mips = _loop(guest, what, count, image)
    mips = _loop(guest, what, int(mips * 1e6 / 8 * 0.2), image)
    return int(mips * 1e6 / 8 * LOOP_S)


def boot(image: Image, rounds: int) -> list[Row]:
    """Seconds to the shell prompt, and what an idle guest costs once it is there."""
    prompt = Row("shell prompt of Debian 6.1", "s", goal="30 s")
    cpu = Row("CPU time of that", "s")
    idle = Row("idle guest", "% of a CPU", goal="3 %")
    extra = Row("resident beside guest RAM", "MiB", goal="100 MiB")
    ram = Row("guest RAM resident", "MiB")
    destroy = Row("bhyvectl --destroy, running guest", "s", goal="0.4 s")
    for n in range(rounds):
        for side in (Bhyve(), Qemu()):
            ours = isinstance(side, Bhyve)
            guest = side.start(image)
            try:
                (prompt.ours if ours else prompt.qemu).append(guest.seconds)
                (cpu.ours if ours else cpu.qemu).append(guest.cpu)
                if n == 0:
                    time.sleep(SETTLE_S)
                    used = cpu_seconds(guest.pid)
                    begin = time.monotonic()
                    time.sleep(IDLE_S)
                    used = (cpu_seconds(guest.pid) - used) / (time.monotonic() - begin)
                    (idle.ours if ours else idle.qemu).append(used * 100)
                    total, of_guest = resident(side, guest.pid)
                    (extra.ours if ours else extra.qemu).append((total - of_guest) / MIB)
                    (ram.ours if ours else ram.qemu).append(of_guest / MIB)
                if isinstance(side, Bhyve):
                    begin = time.monotonic()
                    argv = [str(BIN / "bhyvectl"), f"--vm={guest.vm}", "--destroy"]
                    subprocess.run(argv, check=True)
                    destroy.ours.append(time.monotonic() - begin)
            finally:
                side.stop(guest)
    return [prompt, cpu, idle, extra, ram, destroy]
