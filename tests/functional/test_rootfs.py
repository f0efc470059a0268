"""A whole Debian: a guest installs it, another starts it to a login."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
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


@pytest.mark.parametrize("name", ["6.1-cloud", "6.12-cloud"])
def test_debian_starts_to_a_login(
    vmm: Vmm, figure: Callable[[str], None], disk: Path, name: str
) -> None:
    """systemd starts every unit, root logs in, packages are in order, the disk stays sound."""
    kernel = fetch(name)
    vmm.load("-k", kernel.vmlinuz, "-i", kernel.initrd, "-m", "512M", "-a", rootfs.ARGS)
    guest = vmm.bhyve("-b", "-c", "2", "-s", f"3,virtio-blk,{disk}", "vm")
    log_in(guest)
    figure(f"Debian 12 with {name}: logged in after {guest.seconds:.1f} s")
    assert answer(guest, "systemctl is-system-running --wait") == "running"
    assert answer(guest, "systemctl --failed --no-legend --no-pager") == ""
    assert answer(guest, "dpkg --audit") == ""
    assert int(answer(guest, "dpkg -l | grep -c ^ii")) > 90
    assert answer(guest, "perl -e 'print 6 * 7'") == "42"
    log = answer(guest, "dmesg | grep -v sys-kernel-debug")
    assert not TROUBLE.search(log), log
    guest.line("poweroff")
    assert guest.wait(LOGIN_S) == POWERED_OFF
    vmm.destroy()
    done = subprocess.run(["/sbin/e2fsck", "-fn", str(disk)], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
