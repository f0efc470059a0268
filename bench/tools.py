"""fio and iperf3 of Debian's userland in the guest, on both sides with the same devices.

The programs are on a read-only disk (guests/userland.py), fio's transfers go to a second one
that is a file in memory, and iperf3's other end is one of the host's: on its loopback for
user-mode networking, in the network namespace of the guest's process for a tap. Guests of
both sides stay up and take turns, row by row; those with a tap are guests of their own.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from results import Row
from sides import TAP_GUEST, TAP_HOST, Bhyve, Guest, Image, Qemu, Side

from bhyvepy.guests import debian, userland

PROGRAMS = ("bash", "fio", "iperf3")
PROMPT = "~ # "
DISK_MIB = 64
HOST = "10.0.2.2"
PORT = 5201
ROW_S = 120

FIO = (
    "fio --name=x --filename=/dev/vdb --direct=1 --thread --time_based --runtime={seconds}"
    " --output-format=terse --terse-version=3 --rw={rw} --bs={bs} {more}"
)
# What fio is asked, and the field of its terse output: KiB/s or IOPS of reads or writes.
DEEP = "--ioengine=libaio --iodepth=16"
DISK_ROWS: dict[str, tuple[str, tuple[str, str, str, int, int]]] = {
    "fio, 1 MiB reads in order": ("MiB/s", ("read", "1M", "--ioengine=psync", 7, 1024)),
    "fio, 1 MiB writes in order": ("MiB/s", ("write", "1M", "--ioengine=psync", 48, 1024)),
    "fio, 4 KiB reads anywhere, 16 at once": ("IOPS", ("randread", "4k", DEEP, 8, 1)),
    "fio, 4 KiB writes anywhere, 16 at once": ("IOPS", ("randwrite", "4k", DEEP, 49, 1)),
}
NET_ROWS = {"out of the guest": "", "into the guest": "-R"}


class BenchError(Exception):
    """A program failed, or is not there."""


@contextmanager
def iperf3(prefix: Sequence[str] = ()) -> Iterator[None]:
    """The other end, on the host or wherever the prefix leads."""
    program = shutil.which("iperf3")
    if program is None:
        raise BenchError("iperf3 is missing: scripts/packages bench")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen([*prefix, program, "-s", "-p", str(PORT)], **quiet)
    try:
        time.sleep(0.5)  # until it listens
        if child.poll() is not None:
            raise BenchError(f"iperf3 -s ended: is port {PORT} taken?")
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(10)


def _of(row: Row, side: Side) -> list[float]:
    return row.ours if isinstance(side, Bhyve) else row.qemu


def _fio(guest: Guest, what: tuple[str, str, str, int, int], seconds: float) -> float:
    rw, bs, more, field, divisor = what
    text = FIO.format(rw=rw, bs=bs, more=more, seconds=max(1, round(seconds)))
    found = guest.command(f"/enter {text}", r"\n(3;fio[^\r\n]*)\r", PROMPT, ROW_S)
    return terse(found, field) / divisor


def terse(line: str, field: int) -> float:
    """A field of fio's terse output, from 1 (fio(1), TERSE OUTPUT)."""
    fields = line.split(";")
    if len(fields) < 49 or fields[4] != "0":
        raise BenchError(f"fio failed: {line[:80]!r}")
    return float(fields[field - 1])


def _iperf(guest: Guest, host: str, mode: str, seconds: float) -> float:
    line = f"/enter iperf3 -c {host} -p {PORT} -t {max(1, round(seconds))} -f K {mode}"
    found = guest.command(line, r"([\d.]+) KBytes/sec[^\r\n]*receiver", PROMPT, ROW_S)
    return float(found) / 1024


def network(guest: Guest, address: str, host: str) -> None:
    """The card is up, and the other end answers."""
    up = f"ip link set eth0 up; ip addr add {address}/24 dev eth0"
    wait = f"until ping -c 1 -W 1 {host} >/dev/null; do :; done"
    guest.command(f"{up}; {wait}; echo Y''ES", "(YES)\r", PROMPT)


def run(
    kernel: str,
    rounds: int = 1,
    seconds: float = 2.0,
    progress: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """One row for each kind of transfer."""
    fetched = debian.fetch(kernel)
    programs = userland.disk(PROGRAMS)
    sides: tuple[Side, ...] = (Bhyve(), Qemu())
    out: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tools-", dir="/dev/shm") as scratch:
        initrd = Path(scratch) / "initrd.gz"
        initrd.write_bytes(userland.shell_initrd(fetched, {}))

        def guests(stack: ExitStack, tap: bool) -> dict[str, Guest]:
            found = {}
            for side in sides:
                disk = Path(scratch) / f"{side.name}.img"
                disk.write_bytes(bytes(DISK_MIB << 20))
                image = Image(
                    fetched.vmlinuz, initrd, PROMPT, programs, scratch=disk, network=True, tap=tap
                )
                guest = found[side.name] = side.start(image, "tools")
                stack.callback(side.stop, guest)
                if tap:
                    network(guest, TAP_GUEST, TAP_HOST)
                else:
                    network(guest, "10.0.2.15", HOST)
            return found

        def measure(row: Row, one: Callable[[Guest], float], found: dict[str, Guest]) -> None:
            for _ in range(rounds):
                for side in sides:
                    _of(row, side).append(one(found[side.name]))
            out.append(row)
            progress(row)

        with ExitStack() as stack:
            found = guests(stack, False)
            for name, (unit, what) in DISK_ROWS.items():
                row = Row(name, unit, True, goal="QEMU's")
                measure(row, partial(_fio, what=what, seconds=seconds), found)
            stack.enter_context(iperf3())
            for name, mode in NET_ROWS.items():
                row = Row(f"iperf3, user mode, {name}", "MiB/s", True, goal="QEMU's")
                measure(row, partial(_iperf, host=HOST, mode=mode, seconds=seconds), found)
        with ExitStack() as stack:
            found = guests(stack, True)
            for guest in found.values():
                inside = ["nsenter", "-t", str(guest.pid), "-U", "-n", "--preserve-credentials"]
                stack.enter_context(iperf3(inside))
            for name, mode in NET_ROWS.items():
                row = Row(f"iperf3, tap, {name}", "MiB/s", True, goal="QEMU's")
                measure(row, partial(_iperf, host=TAP_HOST, mode=mode, seconds=seconds), found)
    return out
