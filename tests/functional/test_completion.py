"""Completion of the three commands, in the shells that read it: options, devices, VMs, files."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from collections.abc import Callable

import pexpect
import pytest
from typer.main import get_command

from .framework import BIN, ROOT, Vmm

# The widget on Ctrl-O says what the line has become, and begins a new one.
ZSH_SAYS = 'said() { print -r -- "<$BUFFER>"; BUFFER= }; zle -N said; bindkey "^O" said'


@pytest.fixture
def two_vms(vmm: Vmm) -> Vmm:
    """With VMs of the names alpha and beta."""
    vmm.load(name="alpha")
    vmm.load(name="beta")
    return vmm


def env(vmm: Vmm) -> dict[str, str]:
    """Of a shell that finds the commands."""
    return {**vmm.env, "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(vmm.dir)}


def shell(name: str) -> str:
    """Where a shell is; no test of it otherwise."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"not installed: {name} (apt-get install {name})")
    return path


def options_of(prog: str) -> set[str]:
    """Options that --help shows, as words."""
    params = get_command(importlib.import_module(f"bhyvepy.cli.{prog}").app).params
    return {
        f"{name}=" if name.startswith("--") and not getattr(param, "is_flag", False) else name
        for param in params
        if param.param_type_name != "argument" and not getattr(param, "hidden", False)
        for name in param.opts
    }


def bash(vmm: Vmm, *words: str) -> set[str]:
    """What bash offers for the last word."""
    script = 'eval "$(cat)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _bhyvepy\n'
    script += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env=env(vmm),
        input=vmm.ok("bhyvectl", "--completion", "bash"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash(two_vms: Vmm) -> None:
    """Options, devices, the names of VMs, and files."""
    vmm = two_vms
    assert bash(vmm, "bhyvectl", "--vm=") == {"--vm=alpha", "--vm=beta"}
    assert bash(vmm, "bhyvectl", "--vm", "=", "al") == {"alpha"}
    assert bash(vmm, "bhyvectl", "--get-c") >= {"--get-cpu-topology", "--get-cpsr"}
    assert bash(vmm, "bhyve", "b") == {"beta"}
    assert bash(vmm, "bhyve", "-s", "3,virtio-r") == {"3,virtio-rnd"}
    assert bash(vmm, "bhyve", "-") >= options_of("bhyve")
    assert bash(vmm, "bhyveload", "-k", str(ROOT / "READ")) == {str(ROOT / "README.md")}


def fish(vmm: Vmm) -> Callable[[str], set[str]]:
    """What fish offers for a line, without what it says of each."""
    path, script = shell("fish"), vmm.dir.parent / f"{vmm.dir.name}.fish"
    script.write_text(vmm.ok("bhyvectl", "--completion", "fish"))

    def offers(line: str) -> set[str]:
        argv = [path, "--no-config", "-c", f"source {script}; complete -C $argv[1]", line]
        done = subprocess.run(argv, env=env(vmm), capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return {word.split("\t")[0] for word in done.stdout.splitlines()}

    return offers


def test_fish(two_vms: Vmm) -> None:
    """The same in fish."""
    offers = fish(two_vms)
    try:
        assert offers("bhyvectl --vm=") == {"--vm=alpha", "--vm=beta"}
        assert offers("bhyve al") == {"alpha"}
        assert offers("bhyveload be") == {"beta"}
        assert offers("bhyve -s 3,virtio-r") == {"3,virtio-rnd"}
        assert offers("bhyvectl --get-vbar") == {"--get-vbar_el1"}
        assert offers(f"bhyveload -k {ROOT}/READ") == {f"{ROOT}/README.md"}
    finally:
        (two_vms.dir.parent / f"{two_vms.dir.name}.fish").unlink()


def test_zsh(two_vms: Vmm) -> None:
    """The same in zsh, on its own line editor, where nothing was set up before."""
    it = pexpect.spawn(
        shell("zsh"), ["-f", "-i"], env=env(two_vms), encoding="utf-8", dimensions=(50, 200)
    )
    try:
        it.sendline(f"unset zle_bracketed_paste; {ZSH_SAYS}")
        it.sendline('eval "$(bhyvectl --completion zsh)"; echo RE""ADY')
        it.expect("READY\r", timeout=30)
        assert "command not found" not in it.before
        for line, want in (
            ("bhyvectl --vm=al", "bhyvectl --vm=alpha "),
            ("bhyvectl --vm be", "bhyvectl --vm beta "),
            ("bhyve be", "bhyve beta "),
            ("bhyve -s 3,virtio-r", "bhyve -s 3,virtio-rnd "),
            ("bhyvectl --get-vbar", "bhyvectl --get-vbar_el1 "),
            (f"bhyveload -k {ROOT}/READ", f"bhyveload -k {ROOT}/README.md "),
        ):
            it.send(f"{line}\t\x0f")
            it.expect("<([^\r]*)>\r", timeout=30)
            assert it.match[1] == want
    finally:
        it.close(force=True)
