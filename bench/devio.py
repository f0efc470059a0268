"""Disk, network and console of both sides with the same virtio-mmio devices, seen by Linux.

One static program (devio.c) in the initramfs does the transfers; the disk is a file in memory,
so that the host's disk does not count, and the network's other end is a thread here. Both
guests stay up and take turns, row by row.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from results import Row
from sides import Bhyve, Guest, Image, Qemu, Side

from bhyvepy.guests import debian

HERE = Path(__file__).resolve().parent
DISK_MIB = 64
NET_MIB = 16
PRINT_KIB = 1024
PROMPT = "~ # "
HOST = "10.0.2.2"

# Row -> what devio is asked, with the other end's port for {port}.
ROWS = {
    "virtio-blk, 1 MiB reads in order": ("MiB/s", "read /dev/vda {seconds}"),
    "virtio-blk, 1 MiB writes in order": ("MiB/s", "write /dev/vda {seconds}"),
    "virtio-blk, 4 KiB reads anywhere": ("IOPS", "randread /dev/vda {seconds}"),
    "virtio-blk, 4 KiB writes anywhere": ("IOPS", "randwrite /dev/vda {seconds}"),
    "virtio-net, user mode, into the guest": ("MiB/s", f"recv {HOST} {{port}} {NET_MIB}"),
    "virtio-net, user mode, out of it": ("MiB/s", f"send {HOST} {{port}} {NET_MIB}"),
}


def build(into: Path, cross: str = "aarch64-linux-gnu-") -> Path:
    """The static binary."""
    out = into / "devio"
    argv = [f"{cross}gcc", "-O2", "-g0", "-Wall", "-Wextra", "-static", "-o", str(out)]
    subprocess.run([*argv, str(HERE / "devio.c")], check=True)
    return out


def _serve(listener: socket.socket) -> None:
    """For each client: all that it may read, then all that it sends."""
    block = bytes(1 << 16)
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer:
            peer.settimeout(0.2)
            try:
                if peer.recv(1, socket.MSG_PEEK):
                    peer.settimeout(60)
                    while peer.recv(1 << 20):
                        pass
            except TimeoutError:  # it says nothing: it wants to hear
                peer.settimeout(60)
                for _ in range(NET_MIB * 16):
                    peer.sendall(block)


@contextmanager
def other_end() -> Iterator[int]:
    """The port of a listener on the host's loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _network(guest: Guest) -> None:
    up = "ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0"
    wait = f"until ping -c 1 -W 1 {HOST} >/dev/null; do :; done"
    guest.command(f"{up}; {wait}; echo Y''ES", "(YES)\r", PROMPT)


def _console(guest: Guest) -> float:
    """Seconds until a megabyte has come out of the terminal."""
    begin = time.monotonic()
    guest.child.sendline(f"/devio print {PRINT_KIB}; echo DO''NE")
    guest.child.expect_exact("DONE", timeout=300)
    took = time.monotonic() - begin
    guest.child.expect_exact(PROMPT)
    return took


def run(
    kernel: str,
    rounds: int = 1,
    seconds: float = 1.0,
    progress: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """One row for each kind of transfer."""
    with (
        tempfile.TemporaryDirectory(prefix="devio-", dir="/dev/shm") as scratch,
        other_end() as port,
    ):
        fetched = debian.fetch(kernel)
        initrd = Path(scratch) / "initrd.gz"
        binary = build(Path(scratch)).read_bytes()
        initrd.write_bytes(debian.build_initrd(fetched, {"/devio": binary}))
        sides: tuple[Side, ...] = (Bhyve(), Qemu())
        guests: dict[str, Guest] = {}
        out = []
        try:
            for side in sides:
                disk = Path(scratch) / f"{side.name}.img"
                disk.write_bytes(bytes(DISK_MIB << 20))
                image = Image(fetched.vmlinuz, initrd, PROMPT, disk, writable=True, network=True)
                guests[side.name] = side.start(image, "devio")
                _network(guests[side.name])
            for name, (unit, line) in ROWS.items():
                row = Row(name, unit, True, goal="QEMU's")
                for _ in range(rounds):
                    for side in sides:
                        text = "/devio " + line.format(port=port, seconds=seconds)
                        found = guests[side.name].command(text, r"D \w+ ([\d.]+) ", PROMPT)
                        _of(row, side).append(float(found))
                out.append(row)
                progress(row)
            row = Row(f"console, {PRINT_KIB} KiB of output", "s", goal="QEMU's")
            for _ in range(rounds):
                for side in sides:
                    _of(row, side).append(_console(guests[side.name]))
            out.append(row)
            progress(row)
        finally:
            for side in sides:
                if side.name in guests:
                    side.stop(guests[side.name])
        return out


def _of(row: Row, side: Side) -> list[float]:
    return row.ours if isinstance(side, Bhyve) else row.qemu
