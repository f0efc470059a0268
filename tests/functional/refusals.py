"""A command line that must be refused: what every refusal has in common."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .framework import Vmm
from .zygote import Zygote


class Refusals:
    """Runs commands that must be refused."""

    def __init__(self, vmm: Vmm, zygote: Zygote, files: Path) -> None:
        self.vmm = vmm
        self.zygote = zygote
        self.files = files

    def check(
        self, prog: str, argv: list[str], says: str, status: int, env: dict[str, str] | None = None
    ) -> None:
        """One refusal: status, one line, and the VM directory as it was."""
        before = self.state()
        argv = [a.replace("{d}", str(self.files)) for a in argv]
        done = self.zygote.run(prog, *argv, cwd=self.files / "directory", env=env)
        shown = f"{prog} {argv}\nstatus {done.status}\n{done.err}{done.out}"
        assert done.status == status, shown
        lines = done.err.splitlines()
        if len(lines) == 2:
            assert lines.pop() == f"{prog} --help shows the options", shown
        assert len(lines) == 1, shown
        assert lines[0].startswith(f"{prog}: "), shown
        assert re.search(says, lines[0]), shown
        assert len(lines[0]) < 520, shown
        assert lines[0].isprintable(), shown
        assert "internal error" not in lines[0], shown
        assert done.out == "", shown
        assert self.state() == before, shown

    def state(self) -> list[str]:
        """What is in the VM directory, hidden names too."""
        return sorted(os.listdir(self.vmm.dir)) if self.vmm.dir.is_dir() else []
