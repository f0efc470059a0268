"""VMs and VM directories in the wrong state: exists, runs, has ended, damaged, no room.

Like test_bad_input.py, but with something there before: one line that says what to do,
the right exit status, and what was there untouched.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .framework import BIN, ERROR, OWN_KERNEL, OWN_PROMPT, POWERED_OFF, RESET, Vmm, until
from .refusals import Refusals
from .zygote import Zygote


def test_a_vm_that_exists(vmm: Vmm, zygote: Zygote, bad_files: Path) -> None:
    """bhyveload on a loaded, an ended and a running VM: refused with the remedy."""
    check = Refusals(vmm, zygote, bad_files).check
    zygote.ok("bhyveload", "-k", OWN_KERNEL, "vm")
    load = ["-k", str(OWN_KERNEL), "vm"]
    remedy = r"remove it with `bhyvectl --vm=vm --destroy`"
    check("bhyveload", load, rf"VM vm exists already \(loaded\); {remedy}", 1)
    guest = vmm.bhyve("-b", "vm")
    guest.expect(OWN_PROMPT)
    check("bhyveload", load, rf"VM vm exists already \(running\); {remedy}", 1)
    check("bhyvectl", ["--vm=vm", "--create"], rf"VM vm exists already; {remedy}", 1)
    guest.line("off")
    assert guest.wait() == POWERED_OFF
    check("bhyveload", load, rf"VM vm exists already \(ended\); {remedy}", 1)
    check("bhyve", ["vm"], r"VM vm has run already; load it again: .*--destroy", ERROR)


def test_a_second_bhyve(vmm: Vmm, zygote: Zygote, bad_files: Path) -> None:
    """It is refused with status 4, and the first does not notice."""
    disk = ("-s", f"3,virtio-blk,{bad_files}/disk")
    zygote.ok("bhyveload", "-k", OWN_KERNEL, "vm")
    guest = vmm.bhyve("-b", *disk, "vm")
    guest.expect(OWN_PROMPT)
    check = Refusals(vmm, zygote, bad_files).check
    for argv in (["vm"], ["-b", "vm"], ["-m", "128M", "vm"]):
        check("bhyve", argv, r"VM vm is running already", ERROR)
        assert guest.own("echo here") == "here"
    # The other VM may not have its disk.
    zygote.ok("bhyveload", "-k", OWN_KERNEL, "-m", "32M", "other")
    check("bhyve", [*disk, "other"], r"in use by another VM; stop that one, or give both", ERROR)
    assert guest.own("echo still here") == "still here"
    guest.line("reset")
    assert guest.wait() == RESET


def test_a_vm_without_a_kernel(vmm: Vmm, zygote: Zygote, bad_files: Path) -> None:
    """bhyve on a VM that was only created says how to load it; bhyveload may fill it."""
    zygote.ok("bhyvectl", "--vm=vm", "--create")
    check = Refusals(vmm, zygote, bad_files).check
    check("bhyve", ["vm"], r"nothing is loaded in VM vm; load it with `bhyveload -k", ERROR)
    zygote.ok("bhyveload", "-k", OWN_KERNEL, "vm")


def test_a_vm_whose_bhyve_was_killed(vmm: Vmm, zygote: Zygote, bad_files: Path) -> None:
    """bhyve and bhyveload say what happened and what to do."""
    zygote.ok("bhyveload", "-k", OWN_KERNEL, "vm")
    run = zygote.start("bhyve", "-b", "vm")
    until("the prompt", lambda: OWN_PROMPT in run.out)
    run.kill()
    assert run.wait() == -9
    check = Refusals(vmm, zygote, bad_files).check
    check("bhyve", ["vm"], r"VM vm was left by a killed bhyve; load it again: ", ERROR)
    check("bhyveload", ["-k", str(OWN_KERNEL), "vm"], r"exists already \(dead\); remove it", 1)
    zygote.ok("bhyvectl", "--vm=vm", "--destroy")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "control-empty": lambda vm: (vm / "control").write_bytes(b""),
    "control-short": lambda vm: os.truncate(vm / "control", 4096),
    "control-zeroed": lambda vm: _overwrite(vm / "control", bytes(4096)),
    "control-noise": lambda vm: _overwrite(vm / "control", os.urandom(4096)),
    "control-missing": lambda vm: (vm / "control").unlink(),
    "memory-missing": lambda vm: (vm / "sysmem").unlink(),
    "memory-short": lambda vm: os.truncate(vm / "sysmem", 4096),
    "stage2-missing": lambda vm: (vm / "stage2").unlink(),
    "control-a-link": lambda vm: (
        (vm / "control").unlink(),
        (vm / "control").symlink_to("/etc/passwd"),
    ),
    "control-a-directory": lambda vm: ((vm / "control").unlink(), (vm / "control").mkdir()),
}


def _overwrite(path: Path, data: bytes) -> None:
    with path.open("r+b") as f:
        f.write(data)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_vm(vmm: Vmm, zygote: Zygote, bad_files: Path, damage: str) -> None:
    """It is listed, refused by bhyve in one line, and can be destroyed."""
    zygote.ok("bhyveload", "-k", OWN_KERNEL, "-m", "16M", "vm")
    DAMAGE[damage](vmm.dir / "vm")
    check = Refusals(vmm, zygote, bad_files).check
    assert zygote.ok("bhyvectl", "--list").splitlines()[1].startswith("vm ")
    check("bhyve", ["vm"], r"VM vm", ERROR)
    check("bhyveload", ["-k", str(OWN_KERNEL), "vm"], r"VM vm exists already .*remove it", 1)
    zygote.ok("bhyvectl", "--vm=vm", "--destroy")
    assert os.listdir(vmm.dir) == []


# -- the VM directory -----------------------------------------------------------------
DIRECTORIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no-parent": (lambda p: None, r"cannot make the VM directory .*set BHYVEPY_VMMDIR"),
    "a-file": (lambda p: p.write_text(""), r"is not a directory; set BHYVEPY_VMMDIR"),
    "a-link": (lambda p: p.symlink_to("/tmp"), r"is not a directory; set BHYVEPY_VMMDIR"),
    "open-to-others": (
        lambda p: (p.mkdir(), p.chmod(0o755)),
        r"is open to others; set BHYVEPY_VMMDIR .*mode 700",
    ),
}


@pytest.mark.parametrize("what", DIRECTORIES)
def test_l06_a_bad_vm_directory(
    vmm: Vmm, zygote: Zygote, bad_files: Path, tmp_path: Path, what: str
) -> None:
    """All three commands refuse a VM directory that is not safely ours."""
    make, says = DIRECTORIES[what]
    path = tmp_path / ("no/where" if what == "no-parent" else "vmmdir")
    make(path)
    env = {"BHYVEPY_VMMDIR": str(path)}
    check = Refusals(vmm, zygote, bad_files).check
    check("bhyveload", ["-k", str(OWN_KERNEL), "vm"], says, 1, env)
    check("bhyve", ["vm"], says, ERROR, env)
    check("bhyvectl", ["--list"], says, 1, env)
    check("bhyvectl", ["--vm=vm", "--destroy"], says, 1, env)


SCRIPT_S = 120


class SmallSpace:
    """Commands in a mount namespace of their own, where the VM directory is a small tmpfs."""

    def __init__(self, vmm: Vmm) -> None:
        self.vmm = vmm
        self.unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
        done = subprocess.run([*self.unshare, "true"], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("no mount namespace of one's own: not root, and no user namespaces")

    def script(self, size: str, body: str) -> subprocess.CompletedProcess[str]:
        """A shell script with the commands in its PATH and $D the directory."""
        head = f'mount -t tmpfs -o size={size},mode=700 none "$D" && export BHYVEPY_VMMDIR="$D"\n'
        env = {**self.vmm.env, "D": str(self.vmm.dir), "K": str(OWN_KERNEL)}
        env["PATH"] = f"{BIN}:{env['PATH']}"
        proc = subprocess.Popen(
            [*self.unshare, "/bin/sh", "-c", head + body],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = proc.communicate(timeout=SCRIPT_S)
        except subprocess.TimeoutExpired:
            os.killpg(proc.pid, signal.SIGKILL)
            out, err = proc.communicate()
            raise AssertionError(f"not done in {SCRIPT_S} s: {out}{err}") from None
        return subprocess.CompletedProcess(proc.args, proc.returncode, out, err)


@pytest.fixture
def small(vmm: Vmm) -> SmallSpace:
    """Little room."""
    return SmallSpace(vmm)


def one_line(text: str, says: str) -> None:
    """Standard error is one line that says this."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert re.search(says, lines[0]), text
    assert "internal error" not in text


def test_a_directory_too_small_for_the_memory(small: SmallSpace) -> None:
    """bhyveload refuses before it makes anything, naming the remedy."""
    done = small.script("64m", 'bhyveload -k "$K" -m 128M vm; echo $?; ls -A "$D"')
    assert done.stdout == "1\n"
    one_line(done.stderr, r"128MB of RAM is more than the .*MB free in .*set BHYVEPY_VMMDIR")


@pytest.mark.parametrize("size", ["4k", "64k", "1m"])
def test_a_directory_too_small_for_a_vm(small: SmallSpace, size: str) -> None:
    """One line, no half-made VM, with bhyveload and with bhyvectl --create."""
    done = small.script(
        size, 'bhyveload -k "$K" -m 2M vm; echo $?; ls -A "$D" | grep -v tmp; bhyvectl --list'
    )
    assert done.stdout.splitlines()[0] == "1"
    assert done.stdout.splitlines()[1].startswith("NAME")
    assert len(done.stdout.splitlines()) == 2
    one_line(done.stderr, r"set BHYVEPY_VMMDIR to a larger directory")


def test_a_full_directory(small: SmallSpace) -> None:
    """With the room gone after a load, other loads are refused, the VM can be destroyed."""
    done = small.script(
        "64m",
        'bhyveload -k "$K" -m 16M vm; echo $?\n'
        'dd if=/dev/zero of="$D/.filler" bs=1M 2>/dev/null\n'
        'bhyveload -k "$K" -m 16M other; echo $?\n'
        "bhyvectl --list | cut -c1-2; bhyvectl --vm=vm --destroy; echo $?\n"
        'ls -A "$D"',
    )
    assert done.stdout.split() == ["0", "1", "NA", "vm", "0", ".filler"]
    one_line(done.stderr, r"16MB of RAM is more than .*set BHYVEPY_VMMDIR")


def test_a_directory_that_fills_up_while_the_guest_runs(small: SmallSpace) -> None:
    """Page-in without room ends the run with one line and status 4; the terminal is sane."""
    done = small.script(
        "64m",
        'bhyveload -k "$K" -m 60M vm || exit\n'
        'dd if=/dev/zero of="$D/.filler" bs=1M count=40 2>/dev/null\n'
        '(while sleep 0.5; do echo "fill 20"; done) 2>&- |'
        ' bhyve -b vm; echo "status $?"\n'
        "bhyvectl --vm=vm --destroy; echo $?",
    )
    assert "status 4\n0\n" in done.stdout
    assert "filled" not in done.stdout
    one_line(done.stderr, r"no space left.*set BHYVEPY_VMMDIR|not enough")


def test_reserving_memory(small: SmallSpace) -> None:
    """-S takes all memory at once, or refuses and leaves nothing."""
    done = small.script(
        "64m",
        'dd if=/dev/zero of="$D/.filler" bs=1M count=40 2>/dev/null\n'
        'bhyveload -S -k "$K" -m 22M vm; echo $?; du -m "$D/vm/sysmem"\n'
        'bhyveload -S -k "$K" -m 2M other; echo $?; bhyvectl --list | wc -l',
    )
    assert re.fullmatch(r"0\n22\t.*\n1\n2\n", done.stdout), done.stdout
    one_line(done.stderr, r"set BHYVEPY_VMMDIR")


def test_a_read_only_disk(small: SmallSpace) -> None:
    """A disk that may not be written is refused; ,ro takes it."""
    done = small.script(
        "64m",
        'bhyveload -k "$K" -m 16M vm || exit\n'
        'mkdir "$D/.m" && mount -t tmpfs none "$D/.m" && truncate -s 1M "$D/.m/disk"\n'
        'mount -o remount,ro "$D/.m"\n'
        'bhyve -s "3,virtio-blk,$D/.m/disk" vm; echo "status $?"\n'
        "(while sleep 0.5; do echo off; done) 2>&- |"
        ' bhyve -b -s "3,virtio-blk,$D/.m/disk,ro" vm; echo "status $?"',
    )
    assert re.findall(r"status (\d)", done.stdout) == ["4", "1"]
    one_line(done.stderr, r"disk .*: not writable; add ,ro to only read it")
