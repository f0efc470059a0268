"""SIGTERM presses the power button: a guest that listens ends in order."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from bhyvepy.guests import initramfs, modules

from .conftest import fetch
from .framework import LINUX_PROMPT, POWERED_OFF, Guest, Vmm

pytestmark = [pytest.mark.fetch, pytest.mark.slow]


@pytest.fixture
def linux(vmm: Vmm, tmp_path: Path) -> Guest:
    """Debian's own kernel (the cloud one has no driver for keys), with the key's drivers."""
    kernel = fetch("6.1")
    found = modules.fetch(kernel, ("drivers/input",))
    initrd = tmp_path / "initrd.gz"
    keys = {name: found[name] for name in ("gpio_keys", "evdev")}
    initrd.write_bytes(modules.initrd(kernel, keys))
    load = ("-k", kernel.vmlinuz, "-i", initrd, "-m", "512M", "-a", "console=ttyS0")
    vmm.load(*load)
    guest = vmm.bhyve("-b", "-c", "2", "vm")
    guest.expect(initramfs.MARKER, 240)
    guest.expect(LINUX_PROMPT)
    return guest


def test_in_order(linux: Guest) -> None:
    """KEY_POWER is pressed and released; a program that waits for it powers off."""
    linux.sh("modprobe evdev && modprobe gpio_keys")
    assert "gpio-keys" in linux.sh("cat /sys/class/input/event0/device/name")
    # Two events (key, end) of 24 bytes each for press and release.
    wait = "head -c 96 /dev/input/event0 > /tmp/keys; hexdump -C /tmp/keys; poweroff -f"
    linux.line(f"({wait}) & echo wait''ing")
    linux.expect("waiting")
    linux.expect(LINUX_PROMPT)
    linux.signal(signal.SIGTERM)
    linux.expect("the power button is pressed")
    linux.expect("01 00 74 00 01 00 00 00")  # EV_KEY, KEY_POWER (116), down
    linux.expect("01 00 74 00 00 00 00 00")  # up
    assert linux.wait() == POWERED_OFF
    assert "reboot: Power down" in linux.log.text


def test_twice(linux: Guest) -> None:
    """A guest that hears the button and does nothing is powered off by the second SIGTERM."""
    linux.sh("modprobe gpio_keys")
    linux.signal(signal.SIGTERM)
    linux.expect("a second SIGTERM powers off at once")
    linux.sh("true")
    linux.signal(signal.SIGTERM)
    assert linux.wait() == POWERED_OFF
    assert "Power down" not in linux.log.text


def test_nobody_listens(linux: Guest) -> None:
    """Without a driver the first one does it."""
    linux.signal(signal.SIGTERM)
    assert linux.wait() == POWERED_OFF
