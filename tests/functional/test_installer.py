"""Debian's installer: an initrd of 40 MB, udebs, debconf, and questions at the serial line."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from bhyvepy.guests import debian, installer

from .conftest import OFFLINE
from .framework import Vmm

pytestmark = [pytest.mark.fetch, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

SCREEN_S = 600


def test_the_installer_asks_its_first_questions(vmm: Vmm, figure: Callable[[str], None]) -> None:
    """The language, then the location for that language."""
    try:
        found = installer.fetch()
    except debian.FetchError as err:
        if os.environ.get("OFFLINE") == "1":
            pytest.skip(f"{OFFLINE} and the installer is not cached: {err}")
        raise
    files = ("-k", found.linux, "-i", found.initrd)
    vmm.load(*files, "-m", installer.MEMORY, "-a", installer.ARGS)
    guest = vmm.bhyve("-b", "vm")
    guest.expect("Select a language", SCREEN_S)
    figure(f"Debian's installer: first question after {guest.seconds:.1f} s")
    guest.expect("2: English [*]")
    guest.expect("default=2>")
    guest.line("2")
    guest.expect("Select your location", SCREEN_S)
    guest.match(r"(\d+): United Kingdom")
    vmm.destroy()
