"""The test kernels of guests/tests, on bhyve and on qemu-system-aarch64.

One test for each row of guests.toml, machine and number of list registers. What a row
means stands in guests.toml, what a kernel prints in guests/tests/README.md.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .framework import POWERED_OFF, ROOT, Vmm

SOURCES = ROOT / "guests" / "tests"
BUILD = ROOT / "build" / "guest-tests"
DEFAULT_LIST_REGS = 4


@dataclass(frozen=True)
class Run:
    """One row of the table."""

    name: str
    kernel: str
    cpus: int = 1
    args: str = ""
    memory: str = "128M"
    load: list[str] = field(default_factory=list)
    bhyve: list[str] = field(default_factory=list)
    qemu: list[str] | None = None
    qemu_fails: list[str] = field(default_factory=list)
    list_regs: list[int] = field(default_factory=lambda: [DEFAULT_LIST_REGS])
    seconds: float = 60
    status: list[int] = field(default_factory=lambda: [POWERED_OFF])
    long: bool = False


@dataclass(frozen=True)
class Transcript:
    """What a kernel said."""

    text: str
    passed: list[str]
    failed: list[str]
    figures: list[str]
    done: bool

    @classmethod
    def parse(cls, text: str) -> Transcript:
        """From the console."""
        found: dict[str, list[str]] = {"PASS": [], "FAIL": [], "INFO": []}
        for tag, sentence in re.findall(r"^(PASS|FAIL|INFO) (.*?)\r?$", text, re.MULTILINE):
            found[tag].append(sentence)
        total = re.search(r"^DONE (\d+) passed, (\d+) failed, \d+ skipped", text, re.MULTILINE)
        done = total is not None and (int(total[1]), int(total[2])) == (
            len(found["PASS"]),
            len(found["FAIL"]),
        )
        return cls(text, found["PASS"], found["FAIL"], found["INFO"], done)

    @property
    def sentences(self) -> set[str]:
        """All that was checked."""
        return {*self.passed, *self.failed}


def _table() -> list[Run]:
    rows: list[dict[str, Any]] = tomllib.loads((SOURCES / "guests.toml").read_text())["run"]
    return [Run(**row) for row in rows]


def _params() -> list[Any]:
    out = []
    for run in _table():
        marks = [pytest.mark.timeout(int(run.seconds) + 30)]
        marks += [pytest.mark.long] if run.long else []
        for n in run.list_regs:
            suffix = "" if run.list_regs == [DEFAULT_LIST_REGS] else f"-{n}lr"
            out.append(pytest.param(run, n, id=f"{run.name}{suffix}", marks=marks))
    return out


def _qemu_params() -> list[Any]:
    return [
        pytest.param(run, id=run.name, marks=[pytest.mark.long] if run.long else [])
        for run in _table()
        if run.qemu is not None
    ]


@cache
def kernel(name: str) -> Path:
    """A kernel, built from source."""
    argv = ["make", "-s", "-C", str(SOURCES), f"OUT={BUILD}", str(BUILD / name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return BUILD / name


def on_bhyve(vmm: Vmm, run: Run, list_regs: int = DEFAULT_LIST_REGS) -> Transcript:
    """Through the three commands."""
    argv: list[str] = ["-k", str(kernel(run.kernel)), "-m", run.memory]
    argv += ["-o", f"vmm.list_regs={list_regs}", *run.load]
    if run.args:
        argv += ["-a", run.args]
    vmm.load(*argv, name=run.name)
    done = vmm.run("bhyve", "-b", "-c", str(run.cpus), *run.bhyve, run.name, timeout=run.seconds)
    vmm.destroy(run.name)
    assert done.status in run.status, done
    assert done.err == "", done
    return Transcript.parse(done.out)


def on_qemu(run: Run) -> Transcript:
    """On QEMU's virt machine."""
    qemu = shutil.which("qemu-system-aarch64")
    assert qemu, "install qemu-system-arm"
    assert run.qemu is not None
    argv = [qemu, "-M", "virt,gic-version=3", "-cpu", "max", "-smp", str(run.cpus)]
    argv += ["-m", run.memory, "-nographic", "-nic", "none", "-no-reboot"]
    argv += ["-kernel", str(kernel(run.kernel)), "-append", run.args, *run.qemu]
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=run.seconds,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return Transcript.parse(done.stdout)


_ours: dict[str, Transcript] = {}


@pytest.mark.parametrize(("run", "list_regs"), _params())
def test_every_check_passes(
    vmm: Vmm, figure: Callable[[str], None], run: Run, list_regs: int
) -> None:
    """Each line of the kernel says PASS, and it comes to its end."""
    told = _ours[run.name] = on_bhyve(vmm, run, list_regs)
    for line in told.figures:
        figure(f"{run.name}: {line}")
    assert told.failed == [], told.text
    assert told.done, told.text
    assert told.passed or "SKIP" in told.text, told.text


@pytest.mark.parametrize("run", _qemu_params())
def test_qemu_agrees(vmm: Vmm, run: Run) -> None:
    """QEMU passes the same checks, but for those that it is known to fail."""
    theirs = on_qemu(run)
    assert theirs.done, theirs.text
    assert set(theirs.failed) <= set(run.qemu_fails), theirs.text
    assert theirs.passed, theirs.text
    ours = _ours.get(run.name) or on_bhyve(vmm, run)
    assert theirs.sentences <= ours.sentences, theirs.text
