"""SIGKILL at random moments: every VM can be listed and destroyed afterwards.

200 kills in all, from a seed that is printed. What is killed is a command in the middle
of its work; what is checked is done by new processes, which would hang on a lock that
the dead one held.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from bhyvepy import vmmapi

from .framework import OWN_KERNEL, OWN_PROMPT, POWERED_OFF, Vmm, until
from .zygote import Command, Zygote

KILLS = {"bhyveload": 70, "bhyve": 60, "bhyvectl": 70}
# A check takes milliseconds: this long means that it hangs.
CHECK_S = 10.0


@pytest.fixture
def rng(figure: Callable[[str], None], request: pytest.FixtureRequest) -> random.Random:
    """Random moments, which can be had again: BHYVEPY_TEST_SEED."""
    seed = int(os.environ.get("BHYVEPY_TEST_SEED") or random.randrange(1 << 32))
    figure(f"{request.node.name}: BHYVEPY_TEST_SEED={seed}")
    return random.Random(seed)


def duration(command: Callable[[], Command], rounds: int = 3) -> float:
    """How long a command takes here and now."""
    took = []
    for _ in range(rounds):
        began = time.monotonic()
        assert command().wait() == 0
        took.append(time.monotonic() - began)
    return sorted(took)[rounds // 2]


def kill_after(command: Command, seconds: float) -> bool:
    """Whether it was killed, and not done before."""
    end = time.monotonic() + seconds
    while command.poll() is None and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.005))
    command.kill()
    return command.wait(CHECK_S) == -9


def destroy_what_is_left(zygote: Zygote, vmm: Vmm) -> list[str]:
    """List, look into, destroy: the state seen. Nothing may be left then, no file at all."""
    done = zygote.run("bhyvectl", "--vm=vm", "--list", "--get-all", "--destroy", timeout=CHECK_S)
    states = [line.split()[1] for line in done.out.splitlines()[1:] if line.startswith("vm ")]
    if done.status != 0 and os.path.exists(vmm.dir / "vm"):
        # A damaged one can still be listed and destroyed.
        listed = zygote.ok("bhyvectl", "--list", timeout=CHECK_S).splitlines()
        states = [line.split()[1] for line in listed[1:]]
        zygote.ok("bhyvectl", "--vm=vm", "--destroy", timeout=CHECK_S)
    elif done.status != 0:
        # What a killed process left under a temporary name goes with the next VM.
        assert "there is no VM vm" in done.err
        zygote.ok("bhyvectl", "--vm=vm", "--create", "--destroy", timeout=CHECK_S)
    assert os.listdir(vmm.dir) == []
    return states


def load(zygote: Zygote, name: str = "vm") -> Command:
    return zygote.start("bhyveload", "-k", OWN_KERNEL, "-m", "32M", name)


def loading(zygote: Zygote) -> float:
    """How long a load takes."""
    names = iter("abc")
    span = duration(lambda: load(zygote, next(names)))
    for name in "abc":
        zygote.ok("bhyvectl", f"--vm={name}", "--destroy")
    return span


class Kills:
    """How many there were; a command that was done before it was hit does not count."""

    def __init__(self, prog: str) -> None:
        self.prog = prog
        self.tries = 0
        self.killed = 0

    def more(self) -> bool:
        """Whether there are more to do."""
        if self.killed >= KILLS[self.prog]:
            return False
        self.tries += 1
        assert self.tries < 6 * KILLS[self.prog]
        return True

    def summary(self, states: list[str]) -> str:
        """A line for the reader."""
        counts = ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states)))
        return f"{self.prog} killed {self.killed} times at work; VMs left: {counts or 'none'}"


def test_killed_loaders(
    vmm: Vmm, zygote: Zygote, rng: random.Random, figure: Callable[[str], None]
) -> None:
    """A killed bhyveload leaves no VM, an empty one, or one that is complete."""
    span = loading(zygote)
    states: list[str] = []
    count = Kills("bhyveload")
    while count.more():
        if kill_after(load(zygote), rng.uniform(span / 3, span)):
            count.killed += 1
            states += destroy_what_is_left(zygote, vmm)
        else:
            assert destroy_what_is_left(zygote, vmm) == ["loaded"]
    assert set(states) <= {"empty", "loaded"}
    figure(count.summary(states))


def test_a_loader_comes_after_a_killed_one(vmm: Vmm, zygote: Zygote, rng: random.Random) -> None:
    """Whatever a killed bhyveload left under the name is replaced, or refused as loaded."""
    span = loading(zygote)
    for _ in range(10):
        kill_after(load(zygote), rng.uniform(0, span))
        again = load(zygote)
        if again.wait(CHECK_S) != 0:
            assert "VM vm exists already (loaded)" in again.err
        run = zygote.start("bhyve", "vm")
        with vmmapi.VM.open("vm") as vm:
            until("it runs", lambda vm=vm: vm.vcpu(0).get("vbar_el1"))
        zygote.ok("bhyvectl", "--vm=vm", "--force-poweroff")
        assert run.wait() == POWERED_OFF
        zygote.ok("bhyvectl", "--vm=vm", "--destroy")


def test_killed_runners(
    vmm: Vmm, zygote: Zygote, rng: random.Random, figure: Callable[[str], None]
) -> None:
    """A killed bhyve leaves a VM that is loaded, or dead, and says so; nothing is locked."""
    states: list[str] = []
    count = Kills("bhyve")
    disk = vmm.dir.parent / f"{vmm.dir.name}.img"
    try:
        with disk.open("wb") as f:
            f.truncate(1 << 20)
        # The disk's lock must go as well.
        argv = ("bhyve", "-b", "-s", f"3,virtio-blk,{disk}", "vm")
        span = 0.0
        while count.more():
            assert load(zygote).wait() == 0
            began = time.monotonic()
            run = zygote.start(*argv)
            if not span:
                until("the prompt", lambda run=run: OWN_PROMPT in run.out)
                span = time.monotonic() - began
            count.killed += kill_after(run, rng.uniform(0, span * 1.5))
            states += destroy_what_is_left(zygote, vmm)
    finally:
        disk.unlink()
    assert set(states) <= {"loaded", "dead"}
    assert "dead" in states
    figure(count.summary(states))


# What bhyvectl is asked while it is killed: a VM that runs must go on after each.
ASKED: tuple[tuple[str, ...], ...] = (
    ("--get-all",),
    ("--get-stats", "--get-pc"),
    ("--pause",),
    ("--resume",),
    ("--set-tpidr_el0=5",),
    ("--list",),
)


def test_killed_controllers(
    vmm: Vmm, zygote: Zygote, rng: random.Random, figure: Callable[[str], None]
) -> None:
    """A killed bhyvectl leaves the VM it looked at running, and stopped by nobody."""
    assert load(zygote).wait() == 0
    run = zygote.start("bhyve", "vm")
    count = Kills("bhyvectl")
    with vmmapi.VM.open("vm") as vm:
        until("it runs", lambda: vm.vcpu(0).get("vbar_el1"))
    before = -1
    span = duration(lambda: zygote.run("bhyvectl", "--vm=vm", "--get-all"))
    while count.more():
        command = zygote.start("bhyvectl", "--vm=vm", *ASKED[count.tries % len(ASKED)])
        count.killed += kill_after(command, rng.uniform(0, span))
        # A hundred ticks a second: it has run since the last --resume.
        stats = zygote.ok("bhyvectl", "--vm=vm", "--get-stats", "--resume", timeout=CHECK_S)
        counters = stats.partition("vcpu0 hottest")[0].splitlines()[1:]
        now = sum(int(line.rpartition("\t")[2]) for line in counters if line)
        assert now > before
        before = now
        assert run.poll() is None
    zygote.ok("bhyvectl", "--vm=vm", "--destroy", timeout=CHECK_S)
    assert run.wait(CHECK_S) == 4
    assert os.listdir(vmm.dir) == []
    figure(count.summary(["running"]))


def test_killed_in_the_middle_of_a_destroy(vmm: Vmm, zygote: Zygote, rng: random.Random) -> None:
    """A killed --destroy or --create leaves the VM, or nothing."""
    assert load(zygote).wait() == 0
    verbs = iter(("--destroy", "--create", "--destroy"))
    span = duration(lambda: zygote.run("bhyvectl", "--vm=vm", next(verbs)))
    for n in range(20):
        if n % 2 == 0:
            assert load(zygote).wait() == 0
        verb = "--create" if n % 2 else "--destroy"
        kill_after(zygote.start("bhyvectl", "--vm=vm", verb), rng.uniform(0, span))
        assert set(destroy_what_is_left(zygote, vmm)) <= {"loaded", "empty"}
