"""A device in Python, used by a guest: registers, interrupt, SMCCC, system register."""

from __future__ import annotations

from pathlib import Path

import pytest

from .framework import ERROR, OWN_KERNEL, POWERED_OFF, ROOT, Vmm
from .test_machine import Transcript, kernel

ADDER = ROOT / "guests/adder.py"
PLACE = "0x1000@0x30000#60:python"


@pytest.mark.parametrize("jit", ["on", "off"])
def test_the_example_does_what_its_guest_expects(vmm: Vmm, jit: str) -> None:
    """All checks of guests/tests/own_device.c pass, and say() reaches the user."""
    vmm.load("-k", kernel("own_device"))
    device = f"{PLACE},{ADDER}:Adder,step=5"
    done = vmm.run("bhyve", "-b", "-o", f"jit={jit}", "-s", device, "vm")
    said = Transcript.parse(done.out)
    assert done.status == POWERED_OFF, done
    assert said.done, done
    assert not said.failed, done
    assert len(said.passed) == 18
    assert "CTRL=0x00000002 start=0 irq=1 mode=0, STATUS=0x00000000 done=0 overflow=0" in done.err
    assert "read of 4 bytes at 0x800: no register" in done.err


def test_a_device_that_fails_ends_the_run_in_one_line(vmm: Vmm, tmp_path: Path) -> None:
    """The line names the device, the file, the line and the error."""
    (tmp_path / "bad.py").write_text(
        "from bhyvepy.devices.own import *\n"
        "class Bad(OwnDevice):\n"
        "    R = Register(0)\n"
        "    compatible = ('bhyvepy,adder',)\n"
        "    def read_R(self):\n"
        "        return None + 1\n"
    )
    vmm.load("-k", kernel("own_device"))
    done = vmm.run("bhyve", "-b", "-s", f"{PLACE},{tmp_path}/bad.py:Bad", "vm")
    assert done.status == ERROR
    assert "bhyve: python0: bad.py:6: TypeError: " in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (f"{PLACE},/nonexistent.py:X", "cannot read /nonexistent.py"),
        (f"{PLACE}", "python wants a file and a class"),
        (f"{PLACE},{ADDER}:Adder,step=x", "line 32: ValueError"),
        (f"3,python,{ADDER}:Adder", "does not go into a slot; give it an address"),
    ],
)
def test_what_cannot_be_made_is_refused(vmm: Vmm, device: str, says: str) -> None:
    """One line, status 4, and the VM can still be run."""
    vmm.load("-k", OWN_KERNEL)
    done = vmm.run("bhyve", "-s", device, "vm")
    assert done.status == ERROR
    assert says in done.err
    assert done.err.count("\n") == 1
    two = ["-s", f"{PLACE},{ADDER}:Adder", "-s", f"0x1000@0x31000#61:python,{ADDER}:Adder"]
    done = vmm.run("bhyve", *two, "vm")
    assert "is another device's already" in done.err
