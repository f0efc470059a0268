"""Starts the three commands by fork, from a process that has read their modules.

For tests that start hundreds of them: a fork takes milliseconds where a new
interpreter takes a quarter of a second, and a process that is killed at random dies in
our code instead of in Python's start-up. The commands run as always: their own main(),
in a process of their own, with the arguments, files and exit status of a user's.

This file is both ends: run as a script it is the parent of the commands; the class
Zygote is how tests speak to it, with one JSON line for a request and one for its answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

PROGRAMS = ("bhyveload", "bhyve", "bhyvectl")


@dataclass
class Command:
    """A command that was started."""

    zygote: Zygote
    pid: int
    out_path: Path
    err_path: Path
    status: int | None = None

    def poll(self) -> int | None:
        """Its exit status, -N for a signal, None while it runs."""
        if self.status is None:
            self.status = self.zygote.ask({"wait": self.pid})
        return self.status

    def wait(self, timeout: float = 30.0) -> int:
        """Its exit status; AssertionError when it does not end."""
        end = time.monotonic() + timeout
        nap = 0.001
        while self.poll() is None:
            assert time.monotonic() < end, f"still there after {timeout} s: {self.err}"
            time.sleep(nap)
            nap = min(nap * 1.5, 0.02)
        assert self.status is not None
        return self.status

    def kill(self) -> None:
        """SIGKILL; not once it was waited for, when the number may be another's."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self.out_path.read_text(errors="replace")

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self.err_path.read_text(errors="replace")


class Zygote:
    """The test's end."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.env: dict[str, str] = {}  # of the commands, beside that of their parent
        self._folder = folder
        self._count = 0
        self._running: list[Command] = []
        self._proc = subprocess.Popen(
            [sys.executable, __file__],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: dict[str, Any]) -> Any:
        """One request, one answer."""
        assert self._proc.stdin
        assert self._proc.stdout
        self._proc.stdin.write(json.dumps(request) + "\n")
        self._proc.stdin.flush()
        return json.loads(self._proc.stdout.readline())

    def start(
        self,
        prog: str,
        *argv: object,
        cwd: Path | None = None,
        stdin: Path | str = "/dev/null",
        env: Mapping[str, str] | None = None,
    ) -> Command:
        """Start a command."""
        self._count += 1
        out, err = (self._folder / f"{self._count}.{name}" for name in ("out", "err"))
        out.touch()
        err.touch()
        pid = self.ask(
            {
                "prog": prog,
                "argv": [str(a) for a in argv],
                "cwd": str(cwd or self._folder),
                "files": [str(stdin), str(out), str(err)],
                "env": {**self.env, **(env or {})},
            }
        )
        command = Command(self, pid, out, err)
        self._running.append(command)
        return command

    def run(self, prog: str, *argv: object, timeout: float = 30.0, **kw: Any) -> Command:
        """Run a command to its end."""
        command = self.start(prog, *argv, **kw)
        command.wait(timeout)
        return command

    def ok(self, prog: str, *argv: object, timeout: float = 30.0) -> str:
        """Run a command that must succeed without a complaint; its output."""
        done = self.run(prog, *argv, timeout=timeout)
        assert (done.status, done.err) == (0, ""), f"{prog} {argv}: {done.status} {done.err}"
        return done.out

    def end_all(self) -> None:
        """End all that still runs."""
        for command in self._running:
            command.kill()
            command.wait()
        self._running.clear()

    def close(self) -> None:
        """The end."""
        self.end_all()
        assert self._proc.stdin
        self._proc.stdin.close()
        self._proc.wait(10)
        assert self._proc.stdout
        self._proc.stdout.close()


# -- the other end ------------------------------------------------------------------


def _child(request: dict[str, Any], mains: Mapping[str, Any]) -> None:
    status = 70
    try:
        os.setsid()
        flags = (os.O_RDWR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_CREAT)
        for fd, (path, flag) in enumerate(zip(request["files"], flags, strict=True)):
            new = os.open(path, flag | os.O_NOCTTY, 0o600)
            os.dup2(new, fd)
            os.close(new)
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        sys.argv = [request["prog"], *request["argv"]]
        try:
            mains[request["prog"]]()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _serve() -> None:
    from importlib import import_module

    modules = {prog: import_module(f"bhyvepy.cli.{prog}") for prog in PROGRAMS}
    for name in ("startup", "loadvm", "bhyverun", "devices.registry", "devices.virtio.blk"):
        import_module(f"bhyvepy.{name}")
    # typer imports more when it first meets an option: let each command fail once.
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        modules["bhyvectl"].run(["--list"])
        modules["bhyveload"].run(["-k", "/nonexistent", "x"])
        modules["bhyve"].run(["-s", "1,virtio-rnd", "x"])
    mains = {prog: module.main for prog, module in modules.items()}
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                os.close(answers.fileno())
                _child(request, mains)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
