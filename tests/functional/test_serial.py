"""Serial ports that do not end on the terminal: console=, com1 to com4, virtio-console."""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bhyvepy.guests import debian, initramfs

from .framework import LINUX_PROMPT, OWN_PROMPT, POWERED_OFF, Guest, Vmm, read_until, until

FORMS = {"modern": "4,virtio-console", "legacy": "0x200@0x5000#42:virtio-console"}


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def patient(connect: Callable[[], socket.socket]) -> socket.socket:
    """Connect as soon as somebody listens."""
    end = time.monotonic() + 20
    while True:
        try:
            s = connect()
            s.settimeout(20)
            return s
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.02)


def on_unix(path: Path) -> socket.socket:
    """A client of a UNIX socket."""

    def connect() -> socket.socket:
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(path))
        return s

    return patient(connect)


def talk(fd: int, text: bytes, answer: bytes) -> bytes:
    """Write, and read until `answer`."""
    os.write(fd, text)
    out = b""
    end = time.monotonic() + 20
    while answer not in out:
        assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], out
        data = os.read(fd, 65536)
        assert data, out
        out += data
    return out


def the_end(proc: subprocess.Popen[bytes]) -> bytes:
    """bhyve's last words, after the guest has powered off."""
    _, err = proc.communicate(timeout=20)
    assert proc.returncode == POWERED_OFF, err
    return err


def test_console_on_tcp(vmm: Vmm) -> None:
    """A client may come, leave, and come again; the guest goes on."""
    vmm.load()
    port = free_port()
    proc = vmm.start("bhyve", "-o", f"console=tcp=127.0.0.1:{port}", "vm")
    for _ in range(2):
        with patient(lambda: socket.create_connection(("127.0.0.1", port))) as s:
            talk(s.fileno(), b"\rhelp\r", b"PSCI SYSTEM_OFF")
    with patient(lambda: socket.create_connection(("127.0.0.1", port))) as s:
        talk(s.fileno(), b"\r", OWN_PROMPT.encode())
        s.sendall(b"off\r")
        assert the_end(proc) == b""


def test_console_on_a_socket(vmm: Vmm, tmp_path: Path) -> None:
    """The name appears and goes with bhyve, whatever ends it."""
    vmm.load()
    path = tmp_path / "con"
    proc = vmm.start("bhyve", "-o", f"console=socket:{path}", "vm")
    with on_unix(path) as s:
        talk(s.fileno(), b"\r", OWN_PROMPT.encode())
    proc.send_signal(signal.SIGTERM)
    the_end(proc)
    assert not path.exists()


def test_console_on_a_pty(vmm: Vmm) -> None:
    """bhyve says which pty; it can be used like a terminal."""
    vmm.load()
    proc = vmm.start("bhyve", "-o", "console=pty", "vm")
    line = read_until(proc.stderr, b"\n")
    assert line.startswith(b"bhyve: a serial port is at /dev/pts/")
    fd = os.open(line.split()[-1], os.O_RDWR | os.O_NOCTTY)
    talk(fd, b"\r", OWN_PROMPT.encode())
    os.write(fd, b"off\r")
    assert the_end(proc) == b""
    os.close(fd)


@pytest.mark.parametrize("where", ["/nonexistent", "tcp=1.2.3.4:99999", "socket:/nonexistent/s"])
def test_bad_console(vmm: Vmm, where: str) -> None:
    """One line and status 4, before the VM is touched."""
    vmm.load()
    done = vmm.run("bhyve", "-o", f"console={where}", "vm")
    assert (done.status, done.out, done.err.count("\n")) == (4, "", 1)
    assert "loaded" in vmm.ok("bhyvectl", "--list")


def linux(vmm: Vmm, kernel: debian.Guest, *argv: object, bootargs: str = "console=ttyS0") -> Guest:
    """Debian's kernel up to its prompt."""
    load = ("-k", kernel.vmlinuz, "-i", kernel.initrd, "-m", "256M", "-a", bootargs)
    vmm.load(*load)
    guest = vmm.bhyve("-b", "-c", "2", *argv, "vm")
    guest.expect(initramfs.MARKER, 120)
    guest.expect(LINUX_PROMPT)
    return guest


def off(guest: Guest) -> None:
    """The guest powers off."""
    guest.line("poweroff -f")
    assert guest.wait() == POWERED_OFF


@pytest.mark.fetch
@pytest.mark.slow
def test_four_serial_ports(vmm: Vmm, debian_61: debian.Guest, tmp_path: Path) -> None:
    """com2 to com4 have an interrupt each and are ttyS1 to ttyS3 in Linux."""
    paths = [tmp_path / f"com{n}" for n in (2, 3, 4)]
    argv = [x for n, p in zip((2, 3, 4), paths, strict=True) for x in ("-l", f"com{n},socket:{p}")]
    guest = linux(vmm, debian_61, *argv)
    for n, path in enumerate(paths, 1):
        with on_unix(path) as s:
            guest.sh(f"exec 3<>/dev/ttyS{n}")
            guest.sh(f"stty -F /dev/ttyS{n} raw -echo")
            guest.line("head -c 3000 <&3 | md5sum")
            guest.expect("md5sum")
            text = os.urandom(3000)
            s.sendall(text)
            guest.expect(hashlib.md5(text, usedforsecurity=False).hexdigest())
            guest.expect(LINUX_PROMPT)
            guest.sh(f"echo port {n} > /dev/ttyS{n}")
            assert s.recv(100) == b"port %d\n" % n
            assert f"{n + 37}" in guest.sh(f"cat /sys/class/tty/ttyS{n}/irq; echo {n + 37}")
    off(guest)


@pytest.mark.fetch
@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_virtio_ports(vmm: Vmm, debian_kernel: debian.Guest, tmp_path: Path, form: str) -> None:
    """Named ports to sockets, both ways, more than buffers hold; hosts come and go."""
    a, b = tmp_path / "a", tmp_path / "b"
    guest = linux(vmm, debian_kernel, "-s", f"{FORMS[form]},sock={a},org.test.b={b}")
    assert "org.test.b" in guest.sh("cat /sys/class/virtio-ports/*/name")
    ports = "/sys/class/virtio-ports"
    guest.sh(f"for p in {ports}/*; do ln -sf /dev/${{p##*/}} /tmp/$(cat $p/name); done")
    data = os.urandom(1 << 20)
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    for path, name in ((a, "sock"), (b, "org.test.b")):
        with on_unix(path) as s:
            guest.line(f"head -c {len(data)} /tmp/{name} > /tmp/got")
            s.sendall(data)
            guest.expect(LINUX_PROMPT)
            assert digest in guest.sh("md5sum /tmp/got")
            guest.line(f"cat /tmp/got > /tmp/{name}")
            back = b""
            while len(back) < len(data):
                part = s.recv(1 << 16)
                assert part
                back += part
            assert back == data
            guest.expect(LINUX_PROMPT)
    off(guest)
    assert not a.exists()


@pytest.mark.fetch
@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_virtio_console_on_a_pty(vmm: Vmm, debian_kernel: debian.Guest, form: str) -> None:
    """hvc0 is a console: a shell on it, and Linux hears of a new size of the terminal."""
    guest = linux(vmm, debian_kernel, "-s", f"{FORMS[form]},console=pty")
    found = [x for x in guest.log.text.split() if x.startswith("/dev/pts/")]
    fd = os.open(found[0], os.O_RDWR | os.O_NOCTTY)
    guest.sh("setsid sh -c 'exec sh -i </dev/hvc0 >/dev/hvc0 2>&1' & sleep 0.3")
    assert b"42" in talk(fd, b"echo $((6*7))\r", b"42")
    for rows, cols in ((30, 100), (51, 133)):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

        def seen(want: str = f"{rows} {cols}") -> bool:
            return want in guest.sh("stty -F /dev/hvc0 size; true")

        until("Linux knows the size", seen)
    os.close(fd)
    off(guest)


@pytest.mark.fetch
@pytest.mark.slow
def test_virtio_console_on_the_terminal(vmm: Vmm, debian_61: debian.Guest) -> None:
    """console=stdio: the terminal is hvc0, with its size, its keys and the escape."""
    load = ("-k", debian_61.vmlinuz, "-i", debian_61.initrd, "-m", "256M")
    vmm.load(*load, "-a", "console=hvc0")
    guest = vmm.bhyve("-s", "4,virtio-console,console=stdio", "vm")
    guest.child.setwinsize(33, 99)
    guest.expect(LINUX_PROMPT, 120)
    until("Linux knows the size", lambda: "33 99" in guest.sh("stty size; true"))
    guest.line("echo rea''dy; cat")
    guest.expect("ready")
    guest.line("seen twice")
    guest.expect("seen twice")
    guest.expect("seen twice")
    guest.send("\x03")
    guest.expect(LINUX_PROMPT)
    guest.send("\r~.")
    assert guest.wait() == POWERED_OFF
