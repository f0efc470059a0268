"""The command lines of the bhyvearm64 scripts, as they stand there.

The files that they name are made in a directory of the test's own; the tap device lives
in a network namespace of the test's own.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from bhyvepy.guests import debian, uboot

from .framework import BIN, OWN_KERNEL, OWN_PROMPT, POWERED_OFF, ROOT, Guest, Vmm
from .test_machine import Transcript, kernel

DEVICES = (
    ("virtio-blk", "-s '0x200@0x7000#44:virtio-blk,virtio.img'"),
    ("virtio-net", "-s '0x200@0x6000#43:virtio-net,tap0'"),
    ("virtio-console", "-s '0x200@0x5000#42:virtio-console,sock=console.skt'"),
    ("virtio-rnd", "-s '0x200@0x4000#-1:virtio-rnd'"),
    ("mmio-uart", "-s '0x1000@0x10000#37:mmio-uart'"),
)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with the files of the scripts."""
    for name in ("kernel", "kernel.bin", "kernel.img"):
        shutil.copy(OWN_KERNEL, tmp_path / name)
    disk = bytearray(1 << 20)
    disk[:21] = b"This is sector zero.\n"
    (tmp_path / "virtio.img").write_bytes(disk)
    argv = ["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", str(tmp_path / "device-tree.dtb")]
    subprocess.run([*argv, str(ROOT / "guests/device-tree.dts")], check=True)
    return tmp_path


def load(vmm: Vmm, line: str, cwd: Path) -> None:
    """A line of bhyveload, which has nothing to say."""
    prog, *argv = shlex.split(line)
    assert vmm.ok(prog, *argv, cwd=cwd) == ""


def bhyve(vmm: Vmm, line: str, cwd: Path) -> Guest:
    """A line of bhyve, on a terminal."""
    prog, *argv = shlex.split(line)
    assert prog == "bhyve"
    return vmm.bhyve(*argv, cwd=cwd)


def off(guest: Guest) -> None:
    """Our kernel powers off."""
    guest.expect(OWN_PROMPT)
    guest.line("off")
    assert guest.wait() == POWERED_OFF


def test_a_kernel_on_bvmconsole(vmm: Vmm, here: Path) -> None:
    """run_vm.sh: the kernel alone, base and size in the forms of that time."""
    load(vmm, "bhyveload -k kernel.bin vm", here)
    guest = bhyve(vmm, "bhyve -e 0x80000000UL -m 128MB -b vm", here)
    guest.expect("RAM 80000000 + 8000000")
    off(guest)


def in_namespace(line: str) -> list[str] | None:
    """The line in a network namespace with tap0; None where there can be none."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "-r", "--net"]
    make = "ip tuntap add tap0 mode tap && ip link set tap0 up"
    done = subprocess.run([*unshare, "sh", "-c", make], capture_output=True, check=False)
    run = f"{make} && PATH={BIN}:$PATH && exec {line}"
    return [*unshare, "sh", "-c", run] if done.returncode == 0 else None


@pytest.mark.parametrize("net", [False, True], ids=["without-tap", "all"])
def test_a_device_tree_and_all_devices(vmm: Vmm, here: Path, net: bool) -> None:
    """virtio_run.sh: every device is found in its place, as version 1, and does its work."""
    shutil.copy(kernel("virtio_old"), here / "kernel")
    load(vmm, "bhyveload -k kernel -t device-tree.dtb vm", here)
    known = [(name, text) for name, text in DEVICES if net or name != "virtio-net"]
    line = f"bhyve -c -m 128MB {' '.join(text for _, text in known)} vm"
    if net:
        argv = in_namespace(line)
        if argv is None:
            pytest.skip("no network namespaces or tap devices for this user")
        guest = vmm.spawn(argv[0], argv[1:], cwd=here)
    else:
        guest = bhyve(vmm, line, here)
    status = guest.wait()
    # What bhyve says of the request behind the end may fall into the middle of a line.
    said = Transcript.parse(re.sub(r"bhyve: virtio-blk0: bad request[^\n]*\n", "", guest.log.text))
    assert status == POWERED_OFF, said.text
    assert said.done, said.text
    assert not said.failed, said.text
    assert "INFO sector 0: This is sector zero." in said.text
    for at, (name, _) in zip(("7000", "6000", "5000", "4000"), DEVICES, strict=False):
        found = f"the device at {at} is of version 1" in said.passed
        assert found == (name in dict(known)), said.text


def test_a_boot_rom_and_two_pinned_cpus(vmm: Vmm, here: Path) -> None:
    """bootrom_run.sh: bhyve makes the machine, the ROM loads a kernel from the disk."""
    if len(os.sched_getaffinity(0)) < 2 or not {0, 1} <= os.sched_getaffinity(0):
        pytest.skip("the line pins to the host's CPUs 0 and 1")
    shutil.copy(kernel("bootrom"), here / "u-boot.bin")
    (here / "disk.img").write_bytes(OWN_KERNEL.read_bytes().ljust(1 << 20, b"\0"))
    line = (
        "bhyve -c -p 0:0 -p 1:1 -m 768MB -l u-boot.bin"
        " -s '0x200@0x7000#44:virtio-blk,disk.img' -s '0x1000@0x10000#37:mmio-uart' vm"
    )
    for _ in range(2):
        guest = bhyve(vmm, line, here)
        guest.expect("bhyvepy boot ROM")
        guest.expect("disk at 7000, virtio-mmio version 1")
        guest.expect("RAM 80000000 + 30000000, pl011 at 10000 irq 37")
        off(guest)
    assert vmm.ctl("--get-cpu-topology").endswith("sockets=16, cores=1, threads=1, maxcpus=64\n")


@pytest.mark.fetch
def test_debians_u_boot_loads_a_kernel(vmm: Vmm, here: Path) -> None:
    """u-boot-qemu comes to its prompt, reads the disk and starts the kernel on it."""
    try:
        rom = uboot.fetch()
    except debian.FetchError as err:
        if os.environ.get("OFFLINE") == "1":
            pytest.skip(f"OFFLINE=1 and {uboot.PACKAGE} is not cached: {err}")
        raise
    (here / "disk.img").write_bytes(OWN_KERNEL.read_bytes().ljust(1 << 20, b"\0"))
    shutil.copy(rom, here / "u-boot.bin")
    line = "bhyve -m 256MB -e 0x40000000 -l u-boot.bin -s '0x200@0x7000#44:virtio-blk,disk.img' vm"
    prog, *argv = shlex.split(line)
    guest = vmm.bhyve(*uboot.OPTIONS, *argv, cwd=here)
    assert prog == "bhyve"
    guest.expect("DRAM:  256 MiB", 60)
    guest.expect("Hit any key")
    guest.send("\r")
    guest.expect("=> ")
    guest.line("virtio scan; virtio read 48000000 0 800; booti 48000000 - $fdtcontroladdr")
    guest.expect("RAM 40000000 + 10000000, pl011 at 10000 irq 37", 60)
    off(guest)


@pytest.mark.parametrize("base", ["0x1000", "0x60000000"])
def test_memory_below_the_devices(vmm: Vmm, here: Path, base: str) -> None:
    """-b below 0x80000000: the fixed windows are holes in RAM, which goes on behind them."""
    load(vmm, f"bhyveload -k kernel.img -b {base} -m 128MB vm", here)
    guest = bhyve(vmm, f"bhyve -b -e {base} -m 128MB vm", here)
    start = "200000" if base == "0x1000" else base[2:]
    guest.expect(f"RAM {start} + 8000000, ns16550a at 10000 irq 37")
    off(guest)
    assert f"{start.upper():<12}128MB       sysmem" in vmm.ctl("--get-memmap")


def test_memory_around_the_gic(vmm: Vmm, here: Path) -> None:
    """RAM that begins below the GIC's windows is in two pieces."""
    load(vmm, "bhyveload -k kernel.img -b 0x2c000000 -m 128MB vm", here)
    guest = bhyve(vmm, "bhyve -b vm", here)
    guest.expect("RAM 30000000 + 5000000,")
    guest.line("fill 8")
    guest.expect("filled")
    off(guest)
    rows = vmm.ctl("--get-memmap").splitlines()[1:]
    assert [row.split()[:2] for row in rows if "sysmem" in row] == [
        ["2C000000", "48MB"],
        ["30000000", "80MB"],
    ]


@pytest.mark.parametrize(
    ("words", "cpus"), [("-c", 16), ("-c 2", 2), ("-c cpus=2", 2), ("-b -c", 16), ("-c2", 2)]
)
def test_cpus_with_and_without_a_number(vmm: Vmm, here: Path, words: str, cpus: int) -> None:
    """-c takes the next word only if it says how many."""
    load(vmm, "bhyveload vm", here)
    guest = bhyve(vmm, f"bhyve {words} {'' if '-b' in words else '-b '}vm", here)
    off(guest)
    assert f"sockets={cpus}," in vmm.ctl("--get-cpu-topology")
