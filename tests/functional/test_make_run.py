"""What `make run` does, with and without a terminal, with and without package servers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bhyvepy.guests import debian

from .framework import BOOT_S, LINUX_PROMPT, OWN_KERNEL, ROOT, Vmm

DEMO = [sys.executable, "-m", "bhyvepy.guests.demo"]


def demo(vmm: Vmm, **env: str) -> subprocess.CompletedProcess[str]:
    """The module behind `make run`, without a terminal."""
    return subprocess.run(
        DEMO,
        env={**vmm.env, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOOT_S,
        check=False,
    )


def test_make_run_starts_this_module() -> None:
    """The Makefile's target is the module that is tested here."""
    text = (ROOT / "Makefile").read_text()
    assert "\nrun: $(VENV)/stamp\n\t$(PY) -m bhyvepy.guests.demo\n" in text


@pytest.mark.fetch
def test_without_a_terminal(vmm: Vmm, debian_61: debian.Guest) -> None:
    """It types `uname -a` and `poweroff -f` into Debian's kernel and exits 0."""
    vmm.load(name="demo")  # one that was left over is no trouble
    done = demo(vmm)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert f"# uname -a\nLinux bhyvepy {debian_61.release} " in done.stdout.replace("\r", "")
    assert "# poweroff -f" in done.stdout
    assert "reboot: Power down" in done.stdout
    assert "+ bhyve's exit status: 1" in done.stdout
    assert list(vmm.dir.iterdir()) == []


@pytest.mark.fetch
def test_on_a_terminal(vmm: Vmm, debian_61: debian.Guest) -> None:
    """The console is the user's; leaving with ~. is a success."""
    guest = vmm.spawn(DEMO[0], DEMO[1:])
    guest.expect("(the console is yours; ~. leaves)")
    guest.expect(LINUX_PROMPT, BOOT_S)
    assert guest.sh("uname -r") == debian_61.release
    guest.send("\r~.")
    guest.expect("bhyve's exit status: 1")
    assert guest.wait() == 0
    assert list(vmm.dir.iterdir()) == []


def test_without_package_servers(vmm: Vmm, tmp_path: Path) -> None:
    """With nothing cached and no server to reach, the kernel that is shipped is booted."""
    settings = tmp_path / "apt.conf"
    settings.write_text(
        "".join(f'Acquire::{way}::Proxy "http://127.0.0.1:9";\n' for way in ("http", "https"))
        + 'Acquire::Retries "0";\n'
    )
    done = demo(
        vmm,
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        APT_CONFIG=str(settings),
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), ""),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Booting the kernel shipped with bhyvepy instead." in done.stdout
    assert "bhyvepy guest kernel, EL1" in done.stdout
    assert " ticks, counter " in done.stdout
    assert "+ bhyve's exit status: 1" in done.stdout
    assert list(vmm.dir.iterdir()) == []


@pytest.mark.long
def test_a_wheel_in_a_fresh_environment(vmm: Vmm, tmp_path: Path) -> None:
    """What is built installs elsewhere, with its devices, guests and commands, and boots."""
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps"]
    subprocess.run(
        [*pip, "-C", f"build-dir={tmp_path}/build", "-w", str(tmp_path), str(ROOT)],
        check=True,
        env=env,
        timeout=280,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert "-abi3-" in wheel.name
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    binary = tmp_path / "venv" / "bin"
    subprocess.run(
        [str(binary / "pip"), "install", "-q", str(wheel)], check=True, env=env, timeout=280
    )

    def run(*argv: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(binary / str(argv[0])), *map(str, argv[1:])],
            cwd=tmp_path,
            env=vmm.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    for prog in ("bhyveload", "bhyve", "bhyvectl"):
        done = run(prog, "-h")
        assert (done.returncode, done.stderr) == (0, ""), prog
        assert "Usage:" in done.stdout
    where = "import bhyvepy.guests.demo as d; print(d.OWN_KERNEL)"
    kernel = Path(run("python", "-c", where).stdout.strip())
    assert kernel.read_bytes() == OWN_KERNEL.read_bytes()
    assert (tmp_path / "venv") in kernel.parents
    for name in ("devices", "guests"):
        assert run("python", "-c", f"import {name}").returncode == 1
    assert run("bhyveload", "-k", kernel, "vm").returncode == 0
    guest = vmm.spawn(str(binary / "bhyve"), ["-b", "vm"])
    guest.expect("guest> ")
    guest.line("off")
    assert guest.wait() == 1
