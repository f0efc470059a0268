"""The three commands, over the fake core: options, output, exit statuses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A flat image."""
    path = tmp_path / "flat"
    path.write_bytes(bytes(4096))
    return path


@pytest.fixture
def sh(core: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command line: (status, stdout, stderr)."""

    def run(line: str) -> tuple[int, str, str]:
        prog, *argv = shlex.split(line)
        status = core.load(f"cli.{prog}").run(argv)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    run.core = core  # type: ignore[attr-defined]
    return run


def test_registers_by_option(sh: Any) -> None:
    """--get-REG and --set-REG exist for every register, with = or a blank."""
    sh("bhyvectl --vm=a --create")
    status, out, _ = sh("bhyvectl --vm=a --set-pc=0x80 --set-x0 5 --get-pc --get-x0 --get-VBAR_EL1")
    assert 0 == status
    assert "pc[0]\t\t0x0000000000000080\nx0[0]\t\t0x0000000000000005\n" in out
    assert "vbar_el1[0]" in out


@pytest.mark.parametrize(
    "args",
    [
        "",
        "--vm=a --get-foo",
        "--vm=a --set-x31=1",
        "--vm=a --set-pc",
        "--vm=a --set-pc=x",
        "--vm=a --set-pc=0x10000000000000000",
        "--vm=a --cpu=64 --get-pc",
        "--vm=a --cpu=x",
        "--vm=../a --destroy",
        "--vm= --destroy",
        "--vm=none --get-pc",
        "--vm=none --destroy",
        "--vm=none",
        "--vm=a --create",
        "--vm=a --setcap=1",
        "--vm=a --capname=foo --getcap",
        "--vm=a --set-mem=0",
        "--vm=a extra",
        "--bogus",
    ],
)
def test_bhyvectl_errors(sh: Any, args: str) -> None:
    """A usage error or a failure of bhyvectl is one line on stderr and status 1."""
    sh("bhyvectl --vm=a --create")
    status, out, err = sh(f"bhyvectl {args}")
    assert 1 == status
    assert "" == out
    assert err.startswith("bhyvectl: ")
    assert 1 == len([x for x in err.splitlines() if "--help" not in x])


def test_plain_formats(sh: Any, tmp_path: Path) -> None:
    """Not on a terminal the formats are those of FreeBSD's bhyvectl."""
    sh("bhyvectl --vm=a --create --set-mem=64")
    out = sh("bhyvectl --vm=a --get-memseg --get-memmap --get-active-cpus --get-cpu-topology")[1]
    assert out.splitlines() == [
        "ID   Length       Name",
        "0    64MB         sysmem",
        "Address     Length      Segment     Offset      Prot        Flags",
        "80000000    64MB        sysmem      0           RWX",
        "active cpus:\t (none)",
        "cpu_topology:\tsockets=1, cores=1, threads=1, maxcpus=64",
    ]
    out = sh("bhyvectl --vm=a --get-stats")[1].splitlines()
    assert ["vcpu0 stats:", "vcpu total runtime" + " " * 22 + "\t0"] == out[:2]
    # Four of eight samples for certain; what only inherited its count is not hot.
    assert ["vcpu0 hottest blocks, of 8 samples:", "  50.0%  0xffff800080010000"] == out[-2:]
    names = tmp_path / "System.map"
    names.write_text("ffff800080000000 T _text\nffff80008000f000 t memcpy\n")
    out = sh(f"bhyvectl --vm=a --get-stats --symbols={names}")[1].splitlines()
    assert "  50.0%  0xffff800080010000  memcpy" == out[-1]
    status, _, err = sh(f"bhyvectl --vm=a --get-reg=x0 --symbols={names}")
    assert (1, True) == (status, "--symbols is for --top and --get-stats" in err)


def test_json(sh: Any) -> None:
    """--json prints one object with all that was asked for."""
    sh("bhyvectl --vm=a --create --set-mem=64")
    got = json.loads(sh("bhyvectl --vm=a --get-all --json")[1])
    assert {
        "memseg",
        "memmap",
        "registers",
        "active_cpus",
        "suspended_cpus",
        "debug_cpus",
        "stats",
        "hot",
        "cpu_topology",
    } == set(got)
    assert "0x0000000000000000" == got["registers"]["sctlr_el1"]
    assert [{"id": 0, "length": 64 << 20, "name": "sysmem"}] == got["memseg"]


def test_list(sh: Any) -> None:
    """--list shows name, state, RAM, vCPUs, owner and age, damaged VMs included."""
    sh("bhyvectl --vm=a --create --set-mem=64")
    (sh.core.dir / "b").mkdir()
    got = json.loads(sh("bhyvectl --list --json")[1])["vms"]
    assert [("a", "empty", 64 << 20), ("b", "damaged", 0)] == [
        (v["name"], v["state"], v["ram"]) for v in got
    ]
    lines = sh("bhyvectl --list")[1].splitlines()
    assert ["NAME", "STATE", "RAM", "VCPUS", "OWNER", "AGE"] == lines[0].split()
    assert 0 == sh("bhyvectl --vm=b --destroy")[0]


def test_rich_tables_on_a_terminal(sh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal bhyvectl prints tables; rich is loaded for that alone."""
    sh("bhyvectl --vm=a --create --set-mem=64")
    sys.modules.pop("rich.table", None)
    sh("bhyvectl --vm=a --get-memmap")
    assert "rich.table" not in sys.modules
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = sh("bhyvectl --vm=a --get-memmap")[1]
    assert "80000000" in out
    assert "Memory map" in out


def test_load(sh: Any, flat: Path) -> None:
    """bhyveload leaves a loaded VM with its entry in pc, the tree in x0, and EL1h."""
    assert (0, "", "") == sh(f"bhyveload -k {flat} -l 0x80000000 -m 64M vm")
    vm = sh.core.vm("vm")
    assert 1 == vm.state
    assert 0x80000000 == vm.regs[0, 32]
    assert 0x3C5 == vm.regs[0, 33]


def test_load_replaces_an_empty_vm(sh: Any, flat: Path) -> None:
    """An empty VM may be loaded; a loaded one may not, and stays as it is."""
    sh("bhyvectl --vm=vm --create")
    assert 0 == sh(f"bhyveload -k {flat} -l 0x80000000 vm")[0]
    first = sh.core.vm("vm")
    status, _, err = sh(f"bhyveload -k {flat} -l 0x80000000 vm")
    assert 1 == status
    assert "--destroy" in err
    assert first is sh.core.vm("vm")


@pytest.mark.parametrize(
    "args",
    [
        "",
        "vm extra",
        "-m 0 vm",
        "-m -1 vm",
        "-m 18446744073709551615 vm",
        "-m 1e3 vm",
        "-m '1G ' vm",
        "-m 900G vm",
        "-b 1 vm",
        "-b 0xffffe00000 -m 64M vm",
        "-b x vm",
        "-l x vm",
        "-l 0x1000 vm",
        "-e foo vm",
        "-e =foo vm",
        "-o foo vm",
        "-o fdt.seed=x vm",
        "-o loader.fdt=maybe vm",
        "-k /nonexistent vm",
        "-k / vm",
        "-k /dev/null vm",
        "-i /nonexistent vm",
        "-t /nonexistent vm",
        "-z vm",
        "-m",
        "../vm",
        "-- -vm",
        "''",
        "$'a\\nb'",
    ],
)
def test_bhyveload_errors(sh: Any, flat: Path, args: str) -> None:
    """A bad option or file of bhyveload is one line, status 1, and no VM."""
    where = "" if "-l" in args else "-l 0x80000000"
    status, out, err = sh(f"bhyveload -k {flat} {where} {args}")
    assert 1 == status
    assert "" == out
    assert 1 == len([x for x in err.splitlines() if "--help" not in x])
    assert {} == sh.core.lib.vms


def test_bhyveload_that_fails_late_leaves_nothing(sh: Any, flat: Path) -> None:
    """A VM that cannot be completed is removed."""
    sh.core.load("vmmapi")
    sh.core.lib.fail["vm_memseg_populate"] = 28
    status, _, err = sh(f"bhyveload -k {flat} -l 0x80000000 vm")
    assert 1 == status
    assert "BHYVEPY_VMMDIR" in err
    assert [] == os.listdir(sh.core.dir)


def ends(core: Any, how: int) -> None:
    """End the VM's run from outside, in a moment."""

    def end() -> None:
        vm = core.vm("vm")
        vm.how = how
        vm.suspended.set()

    threading.Timer(0.2, end).start()


@pytest.mark.parametrize(("how", "status"), [(1, 0), (2, 1), (3, 2), (4, 4)])
def test_exit_status(sh: Any, flat: Path, how: int, status: int) -> None:
    """bhyve exits 0 after a reset, 1 power-off, 2 halt, 4 when the VM was destroyed."""
    sh(f"bhyveload -k {flat} -l 0x80000000 vm")
    ends(sh.core, how)
    assert status == sh("bhyve vm")[0]
    assert 3 == sh.core.vm("vm").state


@pytest.mark.parametrize(
    "args",
    [
        "",
        "none",
        "../vm",
        "vm extra",
        "-z vm",
        "-m 65M vm",
        "-m 0 vm",
        "-e 0x90000000UL vm",
        "-c 0 vm",
        "-c 65 vm",
        "-c 1000000000 vm",
        "-c 4,sockets=3 vm",
        "-c foo=1 vm",
        "-p x vm",
        "-p 0:65535 vm",
        "-U x vm",
        "-o a vm",
        "-o =b vm",
        "-o console=foo vm",
        "-o console=/nonexistent vm",
        "-k /nonexistent vm",
        "-s '' vm",
        "-s , vm",
        "-s 99,virtio-rnd vm",
        "-s 1,virtio-blk vm",
        "-s 1,virtio-blk,/nonexistent vm",
        "-s 1,nothing vm",
        "-s 1,virtio-rnd -s 1,virtio-rnd vm",
        "-s 0x200@0x80000000#44:virtio-rnd vm",
        "-s 0x200@0x5000#37:virtio-rnd vm",
        "-o pci.0.1.0.path=x vm",
        "-l bootrom, vm",
        "-l /nonexistent vm",
        "-A vm",
        "-H vm",
        "-G 70000 vm",
        "-xY vm",
    ],
)
def test_bhyve_errors(sh: Any, flat: Path, args: str) -> None:
    """A bad option of bhyve is one line and status 4 or 64; the loaded VM can still be run."""
    sh(f"bhyveload -k {flat} -l 0x80000000 -m 64M vm")
    status, out, err = sh(f"bhyve {args}")
    form = args in ("-m 0 vm", "-c 0 vm", "-c 1000000000 vm", "-c foo=1 vm", "-p x vm")
    form = form or args in ("-o a vm", "-o =b vm")
    assert (64 if form else 4) == status, (out, err)
    assert "" == out
    assert 1 == len([x for x in err.splitlines() if "--help" not in x])
    assert 1 == sh.core.vm("vm").state


def test_bhyve_on_a_running_vm(sh: Any, flat: Path) -> None:
    """A second bhyve is refused and the first untouched."""
    sh(f"bhyveload -k {flat} -l 0x80000000 vm")
    vm = sh.core.vm("vm")
    vm.state, vm.running = 2, True
    status, _, err = sh("bhyve vm")
    assert 4 == status
    assert "running already" in err
    assert (2, True, 0) == (vm.state, vm.running, vm.how)


def test_bhyve_twice(sh: Any, flat: Path) -> None:
    """A VM that has ended is not run again: it must be loaded again."""
    sh(f"bhyveload -k {flat} -l 0x80000000 vm")
    ends(sh.core, 2)
    sh("bhyve vm")
    status, _, err = sh("bhyve vm")
    assert 4 == status
    assert "load it again" in err


def test_old_command_lines(sh: Any, flat: Path) -> None:
    """A command line of bhyvearm64 works: -c without a value, -m in MB, size@addr#irq."""
    sh(f"bhyveload -k {flat} -l 0x80000000 -m 128MB test")
    vm = sh.core.vm("test")

    def end() -> None:
        vm.how = 1
        vm.suspended.set()

    threading.Timer(0.3, end).start()
    line = "bhyve -c -p 0:0 -m 128MB -e 0x80000000UL -b"
    line += f" -s 0x200@0x7000#44:virtio-blk,{flat},ro -s 0x200@0x4000#-1:virtio-rnd test"
    assert 0 == sh(line)[0]
    assert bin(vm.sets[0]).count("1") == 16
    assert 0x7050 in [gpa for gpa, _, _ in vm.doorbells]


@pytest.mark.parametrize(
    ("line", "size"),
    [("-m 5M -o memory.size=7M", "7M"), ("-o memory.size=7M -m 5M -o x=1", "5M"), ("-m5M", "5M")],
)
def test_later_option_wins(sh: Any, line: str, size: str) -> None:
    """Options count from left to right, whatever their letters."""
    status, out, _ = sh(f"bhyve -o config.dump=1 {line} x")
    assert 1 == status
    assert f"memory.size={size}" in out.splitlines()


def test_destroy_on_poweroff(sh: Any, flat: Path) -> None:
    """-D removes the VM after a power-off, not after a reset."""
    for how, left in ((1, ["vm"]), (2, [])):
        sh("bhyvectl --vm=vm --destroy")
        sh(f"bhyveload -k {flat} -l 0x80000000 vm")
        ends(sh.core, how)
        sh("bhyve -D vm")
        assert left == os.listdir(sh.core.dir)


def test_device_help(sh: Any) -> None:
    """-s help lists the devices and exits 0."""
    status, out, _ = sh("bhyve -s help")
    assert 0 == status
    assert "virtio-blk" in out


@pytest.mark.parametrize("prog", ["bhyve", "bhyveload", "bhyvectl"])
@pytest.mark.parametrize("option", ["-h", "--help", "--version"])
def test_help_and_version(sh: Any, prog: str, option: str) -> None:
    """-h, --help and --version print on stdout and exit 0."""
    status, out, err = sh(f"{prog} {option}")
    assert (0, "") == (status, err)
    assert prog in out


def test_nobody_reads() -> None:
    """A closed standard output is an error without a traceback."""
    code = "from bhyvepy.cli import _run, bhyveload as b; _run.leave(b.run(['-h']))"
    done = subprocess.run(
        ["/bin/bash", "-c", '"$0" -c "$1" | true; exit ${PIPESTATUS[0]}', sys.executable, code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert "" == done.stderr
