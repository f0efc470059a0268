"""What the commands load and how long they take before they do something.

Processor time is compared, not the clock: other work on the machine does not count.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from .framework import BIN, OWN_KERNEL, OWN_PROMPT, POWERED_OFF, Vmm

# Imported when they are used: each costs more than the command itself.
LAZY = {"pydantic", "rich", "fdt", "elftools", "asyncio", "multiprocessing"}

SCRIPT = """
import sys
from bhyvepy.cli import {prog} as command
status = command.run({argv!r})
print(status, *sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("prog", "argv", "status"),
    [
        ("bhyvectl", ["--list"], 0),
        ("bhyvectl", ["--vm=vm", "--get-all"], 0),
        ("bhyveload", ["-k", str(OWN_KERNEL), "other"], 0),
        ("bhyve", ["-o", "config.dump=1", "-s", "3,virtio-rnd", "vm"], 1),
    ],
)
def test_commands_load_only_what_they_use(
    vmm: Vmm, prog: str, argv: list[str], status: int
) -> None:
    """None of the modules that take long is there at the end."""
    vmm.load()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(prog=prog, argv=argv)],
        env=vmm.env,
        capture_output=True,
        text=True,
        check=True,
    )
    got, *modules = done.stderr.split()
    assert got == str(status), done.stderr
    assert set(modules) & LAZY == set()


def cpu_seconds(run: Callable[[], object]) -> float:
    """Processor time of the children that `run` starts and waits for; the least of three."""
    best = 1e9
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = min(best, spent)
    return best


def test_start_up_takes_the_time_that_was_aimed_at(vmm: Vmm, figure: Callable[[str], None]) -> None:
    """bhyvectl a quarter of a second; bhyveload and bhyve together half of one."""

    def ctl() -> None:
        subprocess.run([BIN / "bhyvectl", "--list"], env=vmm.env, capture_output=True, check=True)

    def load_and_run() -> None:
        vmm.run("bhyveload", "-k", OWN_KERNEL, "vm")
        guest = vmm.bhyve("-b", "vm")
        guest.expect(OWN_PROMPT)
        guest.send("\r~.")
        assert guest.wait() == POWERED_OFF
        vmm.run("bhyvectl", "--vm=vm", "--destroy")

    one = cpu_seconds(ctl)
    # What load_and_run() starts besides: a bhyvectl, and the guest up to its prompt.
    both = cpu_seconds(load_and_run) - one
    figure(f"start-up: bhyvectl {one:.2f} s, bhyveload and bhyve {both:.2f} s of processor time")
    assert one < 0.25
    assert both < 0.75


@pytest.mark.parametrize("prog", ["bhyve", "bhyveload", "bhyvectl"])
def test_ctrl_c_while_the_modules_load(vmm: Vmm, prog: str) -> None:
    """Whenever it comes, nothing of ours is on the screen; Python's own start is Python's."""
    argv = {"bhyve": ["-b", "vm"], "bhyveload": ["-k", OWN_KERNEL, "vm"], "bhyvectl": ["--list"]}
    for ms in range(20, 320, 15):
        with subprocess.Popen(
            [BIN / prog, *argv[prog]], env=vmm.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as proc:  # fmt: skip
            time.sleep(ms / 1000)
            proc.send_signal(signal.SIGINT)
            said = proc.stderr.read() if proc.stderr else ""
        assert "bhyvepy/" not in said, (ms, said)
