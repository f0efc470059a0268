"""What the end-to-end tests stand on: the three commands as a user starts them.

Responsible for a VM directory of the test's own, for starting commands (Vmm.run, and
Vmm.bhyve for one with a console), for talking to a guest (Guest), and for leaving
nothing behind, whatever the test did: only processes started here are ended. Not for
what a guest should say (the tests).
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pexpect

from .zygote import Zygote

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
OWN_KERNEL = ROOT / "guests" / "images" / "kernel"
OWN_PROMPT = "guest> "
LINUX_PROMPT = "~ # "

# Exit statuses of bhyve(8).
RESET, POWERED_OFF, HALTED, ERROR = 0, 1, 2, 4
# Patience, not a measure: the machine may have other work.
BOOT_S = 120
ANSWER_S = 30
# What the issue allows a destroy to take, from its start to bhyve's end.
DESTROY_S = 2.0

SMALLEST_SHM = 2 << 30


@dataclass(frozen=True)
class Result:
    """A command that has ended."""

    status: int
    out: str
    err: str
    seconds: float


def new_directory() -> Path:
    """A VM directory: in memory where there is room, as for users."""
    shm = Path("/dev/shm")
    room = shutil.disk_usage(shm).free if shm.is_dir() else 0
    return Path(tempfile.mkdtemp(prefix="bhyvepy-test-", dir=shm if room >= SMALLEST_SHM else None))


class Vmm:
    """The three commands over a VM directory of their own."""

    def __init__(self, directory: Path | None = None, zygote: Zygote | None = None) -> None:
        self.dir = directory or new_directory()
        self.env = {**self.environment(), "BHYVEPY_VMMDIR": str(self.dir)}
        self._zygote = zygote
        self._guests: list[Guest] = []
        self._procs: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def environment() -> dict[str, str]:
        """What commands find in their environment."""
        env = {**os.environ, "TERM": "dumb", "LC_ALL": "C"}
        env.pop("BHYVEPY_DEBUG", None)
        return env

    # -- commands ---------------------------------------------------------------------
    def run(
        self,
        prog: str,
        *argv: object,
        cwd: Path | None = None,
        stdin: str | None = None,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a command to its end."""
        began = time.monotonic()
        done = subprocess.run(
            [str(BIN / prog), *map(str, argv)],
            cwd=cwd,
            env={**self.env, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        took = time.monotonic() - began
        return Result(done.returncode, done.stdout, done.stderr, took)

    def ok(self, prog: str, *argv: object, cwd: Path | None = None) -> str:
        """Run a command that must succeed without a complaint; its output.

        Forked where that can be (zygote.py); run() starts the real one.
        """
        if self._zygote is not None and cwd is None:
            return self._zygote.ok(prog, *argv)
        result = self.run(prog, *argv, cwd=cwd)
        assert (result.status, result.err) == (0, ""), f"{prog} {argv}: {result}"
        return result.out

    def load(self, *argv: object, name: str = "vm") -> None:
        """bhyveload; without arguments our own kernel."""
        self.ok("bhyveload", *(argv or ("-k", OWN_KERNEL)), name)

    def ctl(self, *argv: object, name: str = "vm") -> str:
        """bhyvectl --vm=name; its output."""
        return self.ok("bhyvectl", f"--vm={name}", *argv)

    def destroy(self, name: str = "vm") -> float:
        """bhyvectl --destroy, as a user waits for it: seconds."""
        result = self.run("bhyvectl", f"--vm={name}", "--destroy")
        assert (result.status, result.out, result.err) == (0, "", ""), result
        return result.seconds

    def names(self) -> list[str]:
        """The VMs that --list shows."""
        lines = self.ok("bhyvectl", "--list").splitlines()
        return [line.split()[0] for line in lines[1:]]

    def bhyve(self, *argv: object, cwd: Path | None = None) -> Guest:
        """bhyve on a pseudo-terminal."""
        guest = Guest([str(BIN / "bhyve"), *map(str, argv)], self.env, cwd)
        self._guests.append(guest)
        return guest

    def start(self, prog: str, *argv: object, **kw: object) -> subprocess.Popen[bytes]:
        """A command with pipes, in the background."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        proc = subprocess.Popen(
            [str(BIN / prog), *map(str, argv)],
            env=self.env,
            **{**pipes, **kw},  # type: ignore
        )
        self._procs.append(proc)
        return proc

    def spawn(self, prog: str, argv: Sequence[str], cwd: Path | None = None) -> Guest:
        """Something else on a pseudo-terminal, such as a shell that starts bhyve."""
        guest = Guest([prog, *argv], self.env, cwd)
        self._guests.append(guest)
        return guest

    # -- the end ----------------------------------------------------------------------
    def close(self) -> None:
        """End what was started here, and remove the directory."""
        for guest in self._guests:
            guest.close()
        for proc in self._procs:
            if proc.poll() is None:
                proc.kill()
            proc.communicate()
        if self.dir.is_dir():
            for entry in os.listdir(self.dir):
                if not entry.startswith("."):
                    self.run("bhyvectl", f"--vm={entry}", "--destroy")
        shutil.rmtree(self.dir, ignore_errors=True)


class Guest:
    """A bhyve on a terminal, and the guest behind it."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None) -> None:
        self.started = time.monotonic()
        self.child = pexpect.spawn(
            argv[0],
            list(argv[1:]),
            env=dict(env),
            cwd=None if cwd is None else str(cwd),
            timeout=ANSWER_S,
            encoding="utf-8",
            codec_errors="replace",
            echo=False,
        )
        self.child.delaybeforesend = None
        self.log = _Tail()
        self.child.logfile_read = self.log

    @property
    def pid(self) -> int:
        """The process."""
        return int(self.child.pid)

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self.started

    def expect(self, text: str, timeout: float = ANSWER_S) -> str:
        """Wait for `text`; what came before it."""
        self.child.expect_exact(text, timeout=timeout)
        return str(self.child.before)

    def match(self, pattern: str, timeout: float = ANSWER_S) -> re.Match[str]:
        """Wait for a pattern."""
        self.child.expect(pattern, timeout=timeout)
        found = self.child.match
        assert isinstance(found, re.Match)
        return found

    def send(self, text: str) -> None:
        """Keys."""
        self.child.send(text)

    def line(self, text: str) -> None:
        """A line, ended as the Enter key does."""
        self.child.send(text + "\r")

    def own(self, command: str, prompt: str = OWN_PROMPT) -> str:
        """A command to our own kernel; its answer."""
        self.line(command)
        self.expect(command)
        return self.expect(prompt).replace("\r", "").strip()

    def sh(self, command: str, timeout: float = ANSWER_S) -> str:
        """A command to a shell in the guest, which must succeed; its output.

        The markers are typed in pieces, so that their echo is not taken for them.
        """
        self.line(f'echo "<""<<"; {command}; echo ">"">>$?"')
        self.expect("<<<", timeout)
        out = self.expect(">>>", timeout)
        status = self.match(r"(\d+)\r").group(1)
        assert status == "0", f"{command}: status {status}\n{out}"
        self.expect(LINUX_PROMPT)
        return out.replace("\r", "").strip()

    def wait(self, timeout: float = ANSWER_S) -> int:
        """Its exit status; what it still printed is in .log."""
        self.child.expect(pexpect.EOF, timeout=timeout)
        self.child.wait()
        assert self.child.signalstatus is None, f"ended by signal {self.child.signalstatus}"
        return int(self.child.exitstatus)

    def alive(self) -> bool:
        """Whether it runs."""
        return bool(self.child.isalive())

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def close(self) -> None:
        """The end, softly or not."""
        if self.child.isalive():
            self.child.kill(signal.SIGKILL)
            self.child.wait()
        self.child.close(force=True)


def read_until(pipe: IO[bytes] | None, text: bytes, timeout: float = ANSWER_S) -> bytes:
    """Read a pipe until `text` comes; all that came."""
    assert pipe is not None
    out = b""
    end = time.monotonic() + timeout
    while text not in out:
        ready = select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]
        data = os.read(pipe.fileno(), 65536) if ready else b""
        assert data, f"no {text!r} in {out!r}"
        out += data
    return out


class _Tail:
    """All that was read from a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        """pexpect's."""
        self.text += text

    def flush(self) -> None:
        """pexpect's."""


def until(what: str, done: object, timeout: float = 10.0) -> None:
    """Wait until done() is true."""
    assert callable(done)
    end = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.01)
