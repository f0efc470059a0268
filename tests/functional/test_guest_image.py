"""The kernel that is shipped is the one that its sources make."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .framework import OWN_KERNEL, OWN_PROMPT, POWERED_OFF, ROOT, Vmm

COMPILER = "aarch64-linux-gnu-gcc"
# What the shipped image was built with; others make other bytes of the same program.
BUILT_WITH = "12.2.0"


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image from the sources of today."""
    assert shutil.which(COMPILER), "install gcc-aarch64-linux-gnu (scripts/packages test)"
    folder = tmp_path_factory.mktemp("kernel")
    out = folder / "kernel"
    subprocess.run(
        ["make", "-s", "-C", ROOT / "guests/kernel", f"OUT={out}", f"BUILD={folder}/build"],
        check=True,
        capture_output=True,
    )
    return out


def test_the_shipped_image_is_what_its_sources_make(rebuilt: Path) -> None:
    """The same compiler makes the same bytes."""
    version = subprocess.run(
        [COMPILER, "-dumpfullversion"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if version != BUILT_WITH:
        pytest.skip(f"{COMPILER} is {version}; the image was built with {BUILT_WITH}")
    assert rebuilt.read_bytes() == OWN_KERNEL.read_bytes(), "run make -C guests/kernel"


def test_the_rebuilt_image_boots(vmm: Vmm, rebuilt: Path) -> None:
    """Whatever compiler there is, what it makes of the sources comes to its prompt."""
    vmm.load("-k", rebuilt)
    guest = vmm.bhyve("-b", "vm")
    guest.expect(OWN_PROMPT)
    assert guest.own("fill 2") == "filled"
    assert guest.own("hash 2").startswith("hash ")
    guest.line("off")
    assert guest.wait() == POWERED_OFF


def test_it_can_be_packed_and_placed_elsewhere(vmm: Vmm, rebuilt: Path, tmp_path: Path) -> None:
    """The same Image, gzip-compressed and at another RAM base, comes to its prompt."""
    packed = tmp_path / "kernel.gz"
    with packed.open("wb") as f:
        subprocess.run(["gzip", "-c", rebuilt], stdout=f, check=True)
    vmm.load("-k", packed, "-b", "0x40000000", "-m", "64MB", "-a", "hello=there")
    guest = vmm.bhyve("-b", "-e", "0x40000000", "-m", "64M", "vm")
    guest.expect("RAM 40000000 + 4000000")
    guest.expect("bootargs: hello=there")
    guest.expect(OWN_PROMPT)
    guest.line("off")
    assert guest.wait() == POWERED_OFF
