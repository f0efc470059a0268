"""Debian's kernels through the recipes and the loader, with QEMU as the second opinion.

Our own machine is not needed here: a plan made by boot/ is carried out by QEMU's loader
devices, on QEMU's virt machine, with QEMU's own device tree edited by devtree.py.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pexpect
import pytest

from bhyvepy import devtree
from bhyvepy.boot import options, plan, record
from bhyvepy.errors import LoadError
from bhyvepy.guests import debian, initramfs

NAMES = ("6.1-cloud", "6.12-cloud")
MIB = 1 << 20
PROMPT = "~ # "
VIRT = ["-M", "virt,gic-version=3", "-cpu", "cortex-a57", "-m", "512"]
HEADLESS = ["-nographic", "-nic", "none"]

pytestmark = pytest.mark.fetch


@pytest.fixture(params=NAMES, scope="module")
def guest(request: pytest.FixtureRequest) -> debian.Guest:
    """A kernel from the cache, or fetched; only OFFLINE=1 may skip."""
    try:
        return debian.fetch(request.param)
    except debian.FetchError as err:
        if os.environ.get("OFFLINE") == "1":
            pytest.skip(f"OFFLINE=1 and {request.param} is not cached: {err}")
        raise


@pytest.fixture
def qemu() -> str:
    """QEMU, which is part of the test's tools."""
    found = shutil.which("qemu-system-aarch64")
    assert found, "install qemu-system-arm"
    return found


def opts(**kw: object) -> options.LoadOptions:
    return options.LoadOptions(seeds=record.make_seeds(1), **kw)  # type: ignore[arg-type]


def test_a_debian_kernel_is_placed(guest: debian.Guest) -> None:
    """vmlinuz is a Linux Image that goes to the RAM base with its bss and fits 128M."""
    data = guest.vmlinuz.read_bytes()
    p = plan.plan(data, opts(initrd=guest.initrd.read_bytes()))
    size = struct.unpack_from("<Q", data, 16)[0]
    assert (p.record.form, p.record.entry) == ("linux-image", 0x80000000)
    assert p.placements[0].size == size > len(data)


def test_a_debian_kernel_that_was_cut_is_refused(guest: debian.Guest) -> None:
    """Every length short of the last section is noticed, down to one byte less."""
    data = guest.vmlinuz.read_bytes()
    with pytest.raises(LoadError, match="truncated"):
        plan.plan(data[: len(data) // 2], opts())
    pe = struct.unpack_from("<I", data, 60)[0]
    count, optional = struct.unpack_from("<H12xH", data, pe + 6)
    ends = [
        sum(struct.unpack_from("<II", data, pe + 24 + optional + 40 * n + 16)) for n in range(count)
    ]
    plan.plan(data[: max(ends)], opts())
    with pytest.raises(LoadError, match="truncated"):
        plan.plan(data[: max(ends) - 1], opts())


def spawn(qemu: str, *argv: str) -> pexpect.spawn:
    return pexpect.spawn(qemu, [*VIRT, *HEADLESS, "-no-reboot", *argv], timeout=120)


def shell(child: pexpect.spawn, release: str) -> None:
    """Wait for the prompt, see who answers, switch off."""
    child.expect_exact(initramfs.MARKER)
    child.expect_exact(PROMPT)
    child.sendline("uname -r")
    child.expect_exact(release)
    child.expect_exact(PROMPT)
    child.sendline("poweroff -f")
    child.expect_exact("Power down")
    child.expect(pexpect.EOF)


def test_the_recipe_boots_under_qemu(guest: debian.Guest, qemu: str) -> None:
    """The fetched kernel and our initramfs come to a shell, with commands run at boot."""
    initrd = guest.initrd.parent / f".test-{os.getpid()}.gz"
    initrd.write_bytes(debian.build_initrd(guest, {"/cmds.sh": b"echo sum=$((40+2))\n"}))
    try:
        child = spawn(
            qemu,
            *("-kernel", str(guest.vmlinuz), "-initrd", str(initrd)),
            *("-append", "console=ttyAMA0"),
        )
        child.expect_exact("CMDS-START")
        child.expect_exact("sum=42")
        child.expect_exact("CMDS-END")
        child.expect_exact(PROMPT)
        child.close(force=True)
    finally:
        initrd.unlink()


def test_our_plan_boots_under_qemu(guest: debian.Guest, qemu: str, tmp_path: Path) -> None:
    """Kernel, tree and initrd where plan() puts them, entered as it says: a shell.

    The tree is QEMU's, read and written by devtree.py; three instructions stand in for
    what bhyve does with x0 and the PC.
    """
    subprocess.run(
        [qemu, "-M", f"{VIRT[1]},dumpdtb={tmp_path}/virt.dtb", *VIRT[2:], *HEADLESS],
        check=True,
        capture_output=True,
    )
    tree = devtree.parse((tmp_path / "virt.dtb").read_bytes(), "virt.dtb")
    base, size = 0x48000000, 256 * MIB
    initrd = guest.initrd.read_bytes()
    chosen = tree.root.find("chosen")
    assert chosen is not None
    chosen.set("bootargs", "console=ttyAMA0")
    chosen.set("linux,initrd-start", devtree.cells(base + 128 * MIB))
    chosen.set("linux,initrd-end", devtree.cells(base + 128 * MIB + len(initrd)))
    p = plan.plan(
        guest.vmlinuz.read_bytes(),
        opts(base=base, size=size, initrd=initrd, dtb=devtree.write(tree)),
    )
    stub = base + size
    # ldr x0, 1f; ldr x4, 2f; br x4; nop; 1: .quad x0; 2: .quad entry
    code = struct.pack("<IIII", 0x58000080, 0x580000A4, 0xD61F0080, 0xD503201F)
    pieces = [(stub, code + struct.pack("<QQ", p.record.x0, p.record.entry))]
    pieces += [(piece.gpa, bytes(piece.data)) for piece in p.placements]
    argv: list[str] = []
    for n, (gpa, data) in enumerate(pieces):
        (tmp_path / f"{n}").write_bytes(data)
        argv += ["-device", f"loader,file={tmp_path}/{n},addr={gpa:#x},force-raw=on"]
    shell(spawn(qemu, *argv, "-device", f"loader,addr={stub:#x},cpu-num=0"), guest.release)
