"""A whole Debian: a guest installs it, another starts it to a login."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bhyvepy.guests import debian, rootfs

from .conftest import OFFLINE, fetch
from .framework import POWERED_OFF, Guest, Vmm
from .test_debian import TROUBLE

pytestmark = [pytest.mark.fetch, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]

LOGIN_S = 600
SHELL = "debian-shell# "


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A copy of the installed system; only OFFLINE=1 may skip."""
    try:
        image = rootfs.image()
    except debian.FetchError as err:
        if os.environ.get("OFFLINE") == "1":
            pytest.skip(f"{OFFLINE} and the system is not cached: {err}")
        raise
    copy = tmp_path / "disk.img"
    subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
    return copy


def log_in(guest: Guest) -> None:
    """As root, to a prompt that does not occur in its own echo."""
    guest.expect("login: ", LOGIN_S)
    guest.line("root")
    guest.expect("Password: ", LOGIN_S)
    guest.line("root")
    guest.expect(":~# ", LOGIN_S)
    guest.line("bind 'set enable-bracketed-paste off'; stty -echo; PS1=debian-''shell#' '")
    guest.expect(SHELL, LOGIN_S)


def answer(guest: Guest, command: str) -> str:
    """What a command prints."""
    guest.line(command)
    return guest.expect(SHELL, LOGIN_S).replace("\r", "").strip()


def check_network(guest: Guest) -> None:
    """DHCP has given an address, the gateway answers, and a server on the host sends a file."""
    data = os.urandom(4 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        port = server.getsockname()[1]

        def send() -> None:
            connection = server.accept()[0]
            with connection:
                connection.sendall(data)

        answer(guest, "until ip -4 -br a show scope global | grep -q UP; do sleep 1; done")
        assert "10.0.2.15/24" in answer(guest, "ip -4 -br a")
        assert " 0% packet loss" in answer(guest, "ping -c 2 10.0.2.2")
        later = pool.submit(send)
        digest = answer(guest, f"sha256sum < /dev/tcp/10.0.2.2/{port}").split()[0]
        later.result(LOGIN_S)
    assert digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["6.1-cloud", "6.12-cloud"])
def test_debian_starts_to_a_login(
    vmm: Vmm, figure: Callable[[str], None], disk: Path, name: str
) -> None:
    """systemd starts every unit, root logs in, packages are in order, the disk stays sound."""
    kernel = fetch(name)
    vmm.load("-k", kernel.vmlinuz, "-i", kernel.initrd, "-m", "512M", "-a", rootfs.ARGS)
    guest = vmm.bhyve("-b", "-c", "2", "-s", f"3,virtio-blk,{disk}", "-s", "4,virtio-net", "vm")
    log_in(guest)
    figure(f"Debian 12 with {name}: logged in after {guest.seconds:.1f} s")
    assert answer(guest, "systemctl is-system-running --wait") == "running"
    assert answer(guest, "systemctl --failed --no-legend --no-pager") == ""
    assert answer(guest, "dpkg --audit") == ""
    assert int(answer(guest, "dpkg -l | grep -c ^ii")) > 90
    assert answer(guest, "perl -e 'print 6 * 7'") == "42"
    check_network(guest)
    log = answer(guest, "dmesg | grep -v sys-kernel-debug")
    assert not TROUBLE.search(log), log
    guest.line("poweroff")
    assert guest.wait(LOGIN_S) == POWERED_OFF
    vmm.destroy()
    done = subprocess.run(["/sbin/e2fsck", "-fn", str(disk)], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
