"""What `make run` does: fetch a real kernel and boot it to a console with the three commands.

At a terminal the console is yours. Without one, `uname -a` and `poweroff -f` are typed
into the guest and the exit status is 0 when both did what they should. Where no package
server can be reached, the small kernel shipped in guests/images is booted instead.

Responsible for the order of the commands and for talking to the guest; fetching is
debian.py's business.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import debian

VM = "demo"
KERNEL = "6.1-cloud"
OWN_KERNEL = Path(__file__).resolve().parent / "images" / "kernel"
BIN = Path(sys.executable).parent
POWERED_OFF = 1  # exit status of bhyve(8)
BOOT_SECONDS = 300.0


class DemoError(Exception):
    """The guest did not do what it should."""


def command(name: str, *args: str) -> list[str]:
    """One of our commands, from the environment this Python belongs to, echoed for the reader."""
    argv = [str(BIN / name), *args]
    print("+", shlex.join([name, *args]), flush=True)
    return argv


class Typist:
    """A bhyve on a pseudo-terminal, for when there is no person at one."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(argv[0], list(argv))  # noqa: S606
        self.seen = ""

    def expect(self, pattern: str, seconds: float) -> None:
        """Copy output to ours until `pattern` shows up."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            if not select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise DemoError(f"no '{pattern}' from the guest within {seconds:.0f} s")
            if not self._copy():
                raise DemoError(f"bhyve ended before '{pattern}' was seen")

    def type(self, text: str) -> None:
        """Type a line."""
        self.seen = ""
        os.write(self.fd, text.encode() + b"\n")

    def wait(self) -> int:
        """Copy what is left; the exit status."""
        while self._copy():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _copy(self) -> bool:
        try:
            data = os.read(self.fd, 4096)
        except OSError:
            return False
        # Terminal queries of the guest's shell are for a terminal, not for a log.
        sys.stdout.write(data.decode(errors="replace").replace("\x1b[6n", ""))
        sys.stdout.flush()
        self.seen += data.decode(errors="replace")
        return bool(data)


def run_guest(prompt: str, script: Sequence[tuple[str, str | None]]) -> int:
    """bhyve on the loaded VM: a person's, or `script` of (line to type, what to expect)."""
    argv = command("bhyve", "-b", VM)
    if sys.stdin.isatty() and sys.stdout.isatty():
        print("(the console is yours; ~. leaves)")
        return subprocess.run(argv, check=False).returncode
    guest = Typist(argv)
    guest.expect(prompt, BOOT_SECONDS)
    for line, answer in script:
        guest.type(line)
        if answer is not None:
            guest.expect(answer, 60)
    return guest.wait()


def main() -> int:
    """Boot, talk, clean up."""
    subprocess.run(
        [str(BIN / "bhyvectl"), f"--vm={VM}", "--destroy"], capture_output=True, check=False
    )
    try:
        kernel = debian.fetch(KERNEL)
    except debian.FetchError as error:
        print(f"{error}\nBooting the kernel shipped with bhyvepy instead.")
        load = ["-k", str(OWN_KERNEL), "-m", "128M", VM]
        prompt, script = "guest> ", [("ticks", r"\d+ ticks[^\n]*\n"), ("off", None)]
    else:
        load = [
            "-k",
            str(kernel.vmlinuz),
            "-i",
            str(kernel.initrd),
            "-a",
            "console=ttyS0",
            "-m",
            "256M",
            VM,
        ]
        prompt = "~ # "
        script = [("uname -a", r"aarch64 GNU/Linux"), ("poweroff -f", None)]
    try:
        subprocess.run(command("bhyveload", *load), check=True)
        status = run_guest(prompt, script)
        print(f"\n+ bhyve's exit status: {status}")
    except (DemoError, subprocess.CalledProcessError) as error:
        print(f"\nmake run: {error}", file=sys.stderr)
        status = 4
    subprocess.run(command("bhyvectl", f"--vm={VM}", "--destroy"), check=False)
    return 0 if status == POWERED_OFF else 1


if __name__ == "__main__":
    sys.exit(main())
