"""The small guest kernel through the three commands: console, terminal, ways to end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bhyvepy import vmmapi

from .framework import (
    BIN,
    ERROR,
    OWN_KERNEL,
    OWN_PROMPT,
    POWERED_OFF,
    RESET,
    ROOT,
    Guest,
    Vmm,
    read_until,
    until,
)


def boot(vmm: Vmm, *argv: str) -> Guest:
    """Our kernel at its prompt."""
    vmm.load()
    guest = vmm.bhyve("-b", *argv, "vm")
    guest.expect(OWN_PROMPT)
    return guest


def test_the_three_lines_of_the_readme(vmm: Vmm, tmp_path: Path) -> None:
    """The README's first three commands, as they stand, in a directory with a `kernel`."""
    text = (ROOT / "README.md").read_text()
    lines = [
        line.partition("#")[0].strip()
        for line in re.findall(r"^    (bhyve.*)$", text, re.MULTILINE)[:3]
    ]
    assert lines == [
        "bhyveload -k kernel -m 128M vm",
        "bhyve -b vm",
        "bhyvectl --vm=vm --destroy",
    ]
    shutil.copy(OWN_KERNEL, tmp_path / "kernel")
    load, run, destroy = (line.split() for line in lines)
    assert vmm.ok(*load, cwd=tmp_path) == ""
    guest = vmm.bhyve(*run[1:], cwd=tmp_path)
    guest.expect("bhyvepy guest kernel, EL1")
    guest.expect("RAM 80000000 + 8000000, ns16550a at 10000 irq 37, bvmconsole yes")
    guest.expect(OWN_PROMPT)
    assert guest.own("echo as they stand") == "as they stand"
    guest.send("~.")
    assert guest.wait() == POWERED_OFF
    assert vmm.ok(*destroy, cwd=tmp_path) == ""
    assert list(vmm.dir.iterdir()) == []


def test_timer_ticks_come_at_the_rate_of_the_host_clock(
    vmm: Vmm, figure: Callable[[str], None]
) -> None:
    """100 Hz of the guest is 100 Hz of the host over two seconds, within 2 %."""
    guest = boot(vmm)

    def sample() -> tuple[float, int, int]:
        before = time.monotonic()
        answer = guest.own("ticks")
        found = re.fullmatch(r"(\d+) ticks, counter (\d+) at 100000000 Hz", answer)
        assert found, answer
        return (before + time.monotonic()) / 2, int(found[1]), int(found[2])

    t0, ticks0, counter0 = sample()
    time.sleep(2)
    t1, ticks1, counter1 = sample()
    rate = (ticks1 - ticks0) / (t1 - t0)
    clock = (counter1 - counter0) / (t1 - t0)
    figure(f"own kernel: {rate:.1f} ticks/s, counter {clock / 1e6:.2f} MHz of host time")
    assert 98 < rate < 102
    assert 0.98e8 < clock < 1.02e8


def test_sleep_takes_as_long_as_it_says(vmm: Vmm) -> None:
    """WFI until the 50th tick is half a second, and not much more."""
    guest = boot(vmm)
    began = time.monotonic()
    assert guest.own("sleep 50").startswith("slept until tick")
    assert 0.45 < time.monotonic() - began < 1.5


def test_bvmconsole_comes_out_on_the_terminal(vmm: Vmm) -> None:
    """Output of bvmconsole and of the UART are merged."""
    guest = boot(vmm)
    assert guest.own("bvm by the other port") == "by the other port"


@pytest.mark.parametrize(("command", "status"), [("off", POWERED_OFF), ("reset", RESET)])
def test_psci_ends_the_run(vmm: Vmm, command: str, status: int) -> None:
    """SYSTEM_OFF is exit status 1, SYSTEM_RESET 0, and the VM has to be loaded again."""
    guest = boot(vmm)
    guest.line(command)
    assert guest.wait() == status
    assert vmm.ctl("--get-active-cpus") == "active cpus:\t 0\n"
    again = vmm.run("bhyve", "-b", "vm")
    assert again.status == ERROR
    assert "VM vm has run already; load it again" in again.err
    vmm.destroy()
    guest = boot(vmm)
    guest.line(command)
    assert guest.wait() == status


def test_tilde_dot_powers_off_and_leaves(vmm: Vmm) -> None:
    """~. at the start of a line ends the run with exit status 1, on a busy guest too."""
    guest = boot(vmm)
    guest.line("spin")
    guest.expect("spinning")
    guest.send("\r~.")
    assert guest.wait(5) == POWERED_OFF


def test_tilde_question_mark_helps(vmm: Vmm) -> None:
    """~? lists the escapes, ~~ is one tilde, and a tilde inside a line is only that."""
    guest = boot(vmm)
    guest.send("~?")
    guest.expect("~.  power off and leave")
    guest.expect("~~  one ~")
    assert guest.own("echo a~.b") == "a~.b"
    guest.send("~~")
    guest.expect("~")
    guest.line("")
    guest.expect("~: unknown")
    guest.expect(OWN_PROMPT)
    assert guest.alive()


def test_ctrl_c_goes_to_the_guest(vmm: Vmm) -> None:
    """Ctrl-C, Ctrl-Z and Ctrl-\\ are bytes for the guest, not signals for bhyve."""
    guest = boot(vmm)
    # Our kernel drops control characters: the command arrives whole.
    guest.send("echo be\x03fo\x1are\x1c\r")
    guest.expect("\nbefore")
    guest.expect(OWN_PROMPT)
    assert guest.alive()


def test_without_b_the_terminal_is_not_attached(vmm: Vmm) -> None:
    """The guest runs, nothing comes out, keys do not reach it; SIGTERM powers it off."""
    vmm.load()
    guest = vmm.bhyve("vm")
    with vmmapi.VM.open("vm") as vm:
        until("the guest has its vectors", lambda: vm.vcpu(0).get("vbar_el1"))
    guest.line("off")
    time.sleep(0.5)
    assert guest.alive()
    guest.signal(signal.SIGTERM)
    assert guest.wait() == POWERED_OFF
    assert OWN_PROMPT not in guest.log.text
    assert "guest kernel" not in guest.log.text


def test_the_end_of_standard_input_does_not_end_the_vm(vmm: Vmm) -> None:
    """With input from a pipe that closes, or from /dev/null, the guest goes on."""
    vmm.load()
    proc = vmm.start("bhyve", "-b", "vm")
    read_until(proc.stdout, b"guest> ")
    assert proc.stdin
    proc.stdin.write(b"echo in\r")
    proc.stdin.close()
    proc.stdin = None
    read_until(proc.stdout, b"\nin\r\nguest> ")
    time.sleep(0.3)
    assert proc.poll() is None
    vmm.ctl("--force-poweroff")
    assert proc.wait(10) == POWERED_OFF
    vmm.destroy()
    vmm.load()
    proc = vmm.start("bhyve", "-b", "vm", stdin=subprocess.DEVNULL)
    read_until(proc.stdout, b"guest> ")
    time.sleep(0.3)
    assert proc.poll() is None


@pytest.mark.parametrize("argv", [["-b"], ["-o", "console=stdio"],
                                  ["-b", "-s", "0x1000@0x30000#41:mmio-uart"]])  # fmt: skip
def test_input_that_waits_before_the_guest_does_is_not_lost(vmm: Vmm, argv: list[str]) -> None:
    """Typed ahead or piped in: every character reaches the shell, the first one included."""
    for _ in range(3):
        vmm.load()
        read, write = os.pipe()
        os.write(write, b"echo abcdef\roff\r")
        os.close(write)
        proc = vmm.start("bhyve", *argv, "vm", stdin=read)
        os.close(read)
        out = proc.stdout.read() if proc.stdout else b""
        assert b"guest> echo abcdef\r\nabcdef\r\n" in out
        assert proc.wait(10) == POWERED_OFF
        vmm.destroy()


def _own_shell(vmm: Vmm, body: str) -> Guest:
    """A shell on a terminal of its own, which shows the settings before and after."""
    script = f"stty -a; echo ===; {body}; echo status=$?; echo ===; stty -a; echo ==="
    return vmm.spawn("/bin/sh", ["-c", script])


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("off", POWERED_OFF),
        ("~.", POWERED_OFF),
        (signal.SIGTERM, POWERED_OFF),
        (signal.SIGINT, POWERED_OFF),
        (signal.SIGHUP, POWERED_OFF),
        ("--destroy", ERROR),
    ],
)
def test_the_terminal_is_restored(vmm: Vmm, how: str | int, status: int) -> None:
    """Whatever ends bhyve, the terminal's settings are those from before; raw in between."""
    vmm.load()
    shell = _own_shell(vmm, f"{BIN}/bhyve -b vm")
    before = shell.expect("===")
    assert " icanon" in before
    shell.expect(OWN_PROMPT)
    flags = termios.tcgetattr(shell.child.child_fd)[3]
    assert not flags & (termios.ICANON | termios.ECHO | termios.ISIG)
    if how == "--destroy":
        vmm.destroy()
    elif isinstance(how, str):
        shell.send(how if how == "~." else how + "\r")
    else:
        with vmmapi.VM.open("vm") as vm:
            os.kill(vm.info().runner, how)
    shell.expect(f"status={status}\r\n")
    shell.expect("===")
    after = shell.expect("===")
    assert after.split() == before.split()
