"""What the README and the manual pages show works as it stands."""

from __future__ import annotations

import re
import subprocess
import sys

from .framework import ROOT, Vmm


def _python_blocks() -> list[str]:
    readme = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    page = (ROOT / "man/vmmapi.3").read_text()
    shown = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", page, re.M | re.S)
    # The list of C names is no program; bhyvepy.vm() is tried in test_session.py.
    return [code for code in [*readme, *shown] if "from bhyvepy.vmmapi" in code]


def test_python_examples(vmm: Vmm) -> None:
    """Each Python example runs on a loaded VM called vm, and prints something."""
    vmm.load()
    blocks = _python_blocks()
    assert len(blocks) == 3
    for code in blocks:
        argv = [sys.executable, "-c", code]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("0x")
