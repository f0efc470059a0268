"""Linux's virtio-net driver on our network card: user-mode networking and a tap."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from bhyvepy.guests import debian, initramfs

from .framework import BIN, LINUX_PROMPT, POWERED_OFF, Guest, Vmm, until

pytestmark = [pytest.mark.fetch, pytest.mark.slow]

SIZE = 3 << 20
# The host, as the guest sees it: in user mode, and on the tap.
HTTP, HOST, TAP_HOST = "http:" + "//", "10.0.2.2", "10.9.0.1"
SLOTS = {"modern": "3,virtio-net", "legacy": "0x200@0x6000#43:virtio-net"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that keeps to itself."""

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with something to download."""
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "big").write_bytes(os.urandom(SIZE))
    return folder


@pytest.fixture
def server(files: Path) -> Iterator[int]:
    """The port of a web server on the host's loopback."""
    handler = partial(Quiet, directory=str(files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield httpd.server_address[1]
        httpd.shutdown()
        thread.join()


def sum_of(path: Path) -> str:
    """As md5sum prints it."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def load(vmm: Vmm, guest: debian.Guest) -> None:
    """A Debian kernel with a shell."""
    argv = ("-k", guest.vmlinuz, "-i", guest.initrd, "-m", "256M", "-a", "console=ttyS0")
    vmm.load(*argv)


def booted(guest: Guest) -> Guest:
    """Up to the prompt."""
    guest.expect(initramfs.MARKER, 120)
    guest.expect(LINUX_PROMPT)
    return guest


def offloads(guest: Guest, *bits: int) -> None:
    """Linux has taken these features of the card."""
    taken = guest.sh("cat /sys/class/net/eth0/device/features")
    found = re.search(r"[01]{64}", taken)
    assert found
    assert [found[0][bit] for bit in bits] == ["1"] * len(bits)


def off(guest: Guest) -> None:
    """The guest powers off."""
    guest.line("poweroff -f")
    assert guest.wait() == POWERED_OFF


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.parametrize("form", SLOTS)
def test_user_mode(
    vmm: Vmm,
    debian_61: debian.Guest,
    files: Path,
    server: int,
    form: str,
    figure: Callable[[str], None],
) -> None:
    """DHCP, ping, a download from the host's loopback, an upload, and a port into the guest."""
    load(vmm, debian_61)
    port = free_port()
    words = f"slirp,hostfwd=tcp:127.0.0.1:{port}-:2323,mac=58:9c:fc:0a:0b:0c"
    guest = booted(vmm.bhyve("-b", "-c", "2", "-s", f"{SLOTS[form]},{words}", "vm"))
    assert "58:9c:fc:0a:0b:0c" in guest.sh("cat /sys/class/net/eth0/address")
    offloads(guest, 0, 1, 7, 11)
    guest.sh("ip link set eth0 up")
    guest.sh("until grep -q 1 /sys/class/net/eth0/carrier; do :; done")
    lease = guest.sh("udhcpc -i eth0 -n -q -f -s /bin/true")
    assert "lease of 10.0.2.15 obtained from 10.0.2.2" in lease
    guest.sh("ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2")
    assert "2 packets received" in guest.sh("ping -c 2 -i 0.2 10.0.2.2")

    # In: from a server on the host's loopback.
    out = guest.sh(f"time wget -q -O /tmp/big {HTTP}{HOST}:{server}/big")
    assert sum_of(files / "big") in guest.sh("md5sum /tmp/big")
    if took := re.search(r"real\s+(\d+)m ([\d.]+)s", out):
        seconds = int(took[1]) * 60 + float(took[2])
        figure(f"virtio-net {form}, user mode, {SIZE >> 20} MiB in: {seconds:.2f} s")

    # Out: to a listener on the host's loopback.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        guest.line(f"nc 10.0.2.2 {listener.getsockname()[1]} < /tmp/big")
        listener.settimeout(20)
        peer, _ = listener.accept()
        digest = hashlib.md5(usedforsecurity=False)
        with peer:
            peer.settimeout(20)
            left = SIZE
            while left and (data := peer.recv(1 << 16)):
                digest.update(data)
                left -= len(data)
        assert digest.hexdigest() == sum_of(files / "big")
    guest.expect(LINUX_PROMPT)

    # hostfwd: a listener in the guest.
    guest.sh("(echo from the guest | nc -l -p 2323 > /tmp/heard) & sleep 0.2")
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.settimeout(20)
        s.sendall(b"from the host\n")
        s.shutdown(socket.SHUT_WR)
        heard = b""
        while data := s.recv(1000):
            heard += data
    assert heard == b"from the guest\n"
    assert "from the host" in guest.sh("cat /tmp/heard")
    off(guest)


def test_closed_network(vmm: Vmm, debian_61: debian.Guest, server: int) -> None:
    """With open=false the guest reaches nothing."""
    load(vmm, debian_61)
    guest = booted(vmm.bhyve("-b", "-s", "3,virtio-net,slirp,open=false", "vm"))
    guest.sh("ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0")
    guest.sh(f"! wget -q -T 2 -O /tmp/big {HTTP}{HOST}:{server}/big")
    off(guest)


@pytest.mark.parametrize("form", SLOTS)
def test_tap(vmm: Vmm, debian_61: debian.Guest, files: Path, form: str) -> None:
    """Traffic over a tap, large frames, and a link that follows the interface."""
    load(vmm, debian_61)
    setup = (
        "ip link set lo up && ip tuntap add tap0 mode tap && ip link set tap0 mtu 9000 up"
        ' && ip addr add 10.9.0.1/24 dev tap0 && exec "$@"'
    )
    bhyve = [str(BIN / "bhyve"), "-b", "-s", f"{SLOTS[form]},tap0,mtu=9000", "vm"]
    namespace = ["-r", "-n", "sh", "-c", setup, "sh", *bhyve]
    guest = booted(vmm.spawn("unshare", namespace))
    inside = ["nsenter", "-t", str(guest.pid), "-U", "-n", "--preserve-credentials"]
    web = ["python3", "-m", "http.server", "-d", str(files), "-b", "10.9.0.1", "8000"]
    with subprocess.Popen([*inside, *web], stdout=-3, stderr=-3) as httpd:
        try:
            assert "9000" in guest.sh("cat /sys/class/net/eth0/mtu")
            offloads(guest, 0, 1, 7, 8, 11, 12)
            guest.sh("ip link set eth0 up && ip addr add 10.9.0.2/24 dev eth0")
            assert "2 packets received" in guest.sh("ping -c 2 -i 0.2 10.9.0.1")
            assert "2 packets received" in guest.sh("ping -c 2 -i 0.2 -s 8900 10.9.0.1")
            fetch = f"wget -q -O /tmp/big {HTTP}{TAP_HOST}:8000/big"
            guest.sh(f"until {fetch}; do sleep 0.1; done")
            assert sum_of(files / "big") in guest.sh("md5sum /tmp/big")
            for state, carrier in (("down", "0"), ("up", "1")):
                subprocess.run([*inside, "ip", "link", "set", "tap0", state], check=True)
                wait = f"until grep -q {carrier} /sys/class/net/eth0/carrier; do :; done"
                guest.sh(f"timeout 10 sh -c '{wait}'")
            guest.sh("until ping -c 1 -W 1 10.9.0.1; do :; done")
            busy = [str(BIN / "bhyve"), "-s", "3,virtio-net,tap0", "vm2"]
            vmm.ok("bhyveload", "-k", debian_61.vmlinuz, "-m", "256M", "vm2")
            done = subprocess.run(
                [*inside, *busy], env=vmm.env, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (
                4,
                "bhyve: network tap0: in use by another VM\n",
            )
        finally:
            httpd.terminate()
    off(guest)


def test_reset_under_load(vmm: Vmm, debian_61: debian.Guest, files: Path, server: int) -> None:
    """The driver is unbound and bound again while frames come; then it works as before."""
    load(vmm, debian_61)
    guest = booted(vmm.bhyve("-b", "-c", "2", "-s", "3,virtio-net", "vm"))
    up = "ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0"
    get = f"wget -q -O /tmp/big {HTTP}{HOST}:{server}/big"
    drv = "/sys/bus/virtio/drivers/virtio_net"
    guest.sh(up)
    for _ in range(3):
        guest.sh(f"({get} &) ; sleep 0.05; echo virtio0 > {drv}/unbind; killall wget; true")
        guest.sh(f"echo virtio0 > {drv}/bind && {up}")
    guest.sh(get)
    assert sum_of(files / "big") in guest.sh("md5sum /tmp/big")
    until("the guest is alive", guest.alive)
    off(guest)
