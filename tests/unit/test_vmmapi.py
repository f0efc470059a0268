"""libvmmapi in Python, over the fake core."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest

HEADER = Path(__file__).resolve().parents[2] / "vmmcore/include/vmm.h"
MIB = 1 << 20


@pytest.mark.parametrize(
    ("enum", "prefix"),
    [("ExitCode", "VM_EXITCODE_"), ("SuspendHow", "VM_SUSPEND_"), ("VmState", "VM_STATE_")],
)
def test_numbers_are_those_of_the_header(core: Any, enum: str, prefix: str) -> None:
    """The enumerations of vmexit.py have the names and numbers of vmm.h."""
    header = {m[1]: int(m[2]) for m in re.finditer(rf"{prefix}(\w+) = (\d+)", HEADER.read_text())}
    header = {k: v for k, v in header.items() if k not in ("MAX", "LAST")}
    assert header == {m.name: int(m) for m in getattr(core.load("vmexit"), enum)}


def test_vm_directory_is_made_private(core: Any) -> None:
    """The VM directory is made with mode 0700."""
    path = core.load("vmmapi").vmm_dir()
    assert 0o700 == os.stat(path).st_mode & 0o777


@pytest.mark.parametrize("kind", ["symlink", "file", "open"])
def test_vm_directory_that_is_not_ours_alone(core: Any, tmp_path: Path, kind: str) -> None:
    """A VM directory that is a symlink, a file or open to others is refused with the remedy."""
    if kind == "symlink":
        (tmp_path / "other").mkdir()
        core.dir.symlink_to(tmp_path / "other")
    elif kind == "file":
        core.dir.write_text("")
    else:
        core.dir.mkdir()
        core.dir.chmod(0o755)
    with pytest.raises(core.load("errors").BhyveError, match="BHYVEPY_VMMDIR"):
        core.load("vmmapi").vmm_dir()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", ".x", "-x", "a/b", "a b", "a\0b", "a\nb", "é", "x" * 230]
)
def test_bad_names(core: Any, name: str) -> None:
    """A VM name that could be a path, an option or a control sequence is refused."""
    with pytest.raises(core.load("errors").ConfigError) as err:
        core.load("vmmapi").VM.create(name)
    assert str(err.value).isprintable()


@pytest.mark.parametrize("name", ["x", "x" * 128, "_a", "vm-1.2"])
def test_good_names(core: Any, name: str) -> None:
    """Names of 1 to 128 letters, digits, dots, underscores and dashes are taken."""
    assert name == core.load("vmmapi").VM.create(name).name


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (errno.ENOENT, "VmNotFoundError"),
        (errno.EEXIST, "VmExistsError"),
        (errno.EBUSY, "VmBusyError"),
        (errno.ENOSPC, "VmSpaceError"),
        (errno.EPROTO, "VmDamagedError"),
        (errno.EIO, "VmError"),
    ],
)
def test_errno_becomes_one_line(core: Any, code: int, cls: str) -> None:
    """Every errno becomes an exception of the one tree, with one line that names the VM."""
    errors = core.load("errors")
    core.lib.fail["vm_create"] = code
    with pytest.raises(getattr(errors, cls)) as err:
        core.load("vmmapi").VM.create("myvm")
    assert isinstance(err.value, errors.BhyveError)
    assert code == err.value.errno
    assert "\n" not in str(err.value)
    assert "myvm" in str(err.value) or "BHYVEPY_VMMDIR" in str(err.value)


def test_registers_by_name(core: Any) -> None:
    """Registers are read and written by Arm's names, in any case, with aliases."""
    vcpu = core.load("vmmapi").VM.create("a").vcpu(0)
    vcpu.set_many({"x0": 1, "lr": 2, "SCTLR_EL1": (1 << 64) - 1})
    vcpu.set("pc", -4)
    assert {"x0": 1, "x30": 2} == vcpu.get_set(["x0", "x30"])
    assert (1 << 64) - 1 == vcpu.get("sctlr_el1")
    assert (1 << 64) - 4 == vcpu.get("PC")
    with pytest.raises(core.load("errors").ConfigError, match="unknown register x31"):
        vcpu.get("x31")


def test_all_registers(core: Any) -> None:
    """get_all() has every general register in FreeBSD's order, then the system registers."""
    names = list(core.load("vmmapi").VM.create("a").vcpu(0).get_all())
    assert [f"x{n}" for n in range(30)] + ["lr", "sp", "pc", "cpsr"] == names[:34]
    assert "vbar_el1" in names[34:]


def test_memory(core: Any) -> None:
    """RAM is one segment around the holes; views are checked and reach the file."""
    vm = core.load("vmmapi").VM.create("a")
    fault = core.load("errors").GuestFault
    vm.setup_memory(0x2E000000, 64 * MIB)
    assert [(0, 64 * MIB, "sysmem")] == vm.memsegs()
    assert [(0x2E000000, 0), (0x30000000, 16 * MIB)] == [(m.gpa, m.segoff) for m in vm.memmap()]
    vm.write_memory(0x30000000, b"hello")
    assert b"hello" == vm.memory.read(0x30000000, 5)
    assert b"hello" == (core.dir / "a/seg0").read_bytes()[16 * MIB : 16 * MIB + 5]
    vm.memory.view(0x30000000, 2, True)[:] = b"HE"
    assert b"HEllo" == bytes(vm.map_gpa(0x30000000, 5))
    for gpa, n in ((0x2F000000, 1), (0x2EFFFFFF, 2), (0, 4), (1 << 63, 8), (0x30000000, -1)):
        with pytest.raises(fault):
            vm.memory.view(gpa, n, False)
    with pytest.raises(TypeError):
        vm.memory.view(0x30000000, 1, False)[0] = 1


def test_memory_outlives_the_vm(core: Any) -> None:
    """A view that is still held when the VM is closed stays valid."""
    vm = core.load("vmmapi").VM.create("a")
    vm.setup_memory(0x80000000, 4 * MIB)
    view = vm.memory.view(0x80000000, 4, True)
    vm.close()
    view[:] = b"abcd"
    assert b"abcd" == bytes(view)
    with pytest.raises(core.load("errors").VmError, match="closed"):
        vm.info()


def test_no_space_for_a_page(core: Any) -> None:
    """Guest memory that cannot be allocated is an error, not a SIGBUS."""
    vm = core.load("vmmapi").VM.create("a")
    vm.setup_memory(0x80000000, 4 * MIB)
    core.lib.fail["vm_memseg_populate"] = errno.ENOSPC
    with pytest.raises(core.load("errors").VmSpaceError, match="BHYVEPY_VMMDIR"):
        vm.memory.read(0x80000000, 1)


def test_more_memory_than_there_is(core: Any) -> None:
    """RAM that neither the directory nor the machine can hold is refused with the remedy."""
    vm = core.load("vmmapi").VM.create("a")
    with pytest.raises(core.load("errors").VmSpaceError, match="BHYVEPY_VMMDIR"):
        vm.setup_memory(0x80000000, 512 << 30)


def test_list_shows_damaged_vms(core: Any) -> None:
    """A VM that cannot be read is listed as damaged, and can be destroyed."""
    api = core.load("vmmapi")
    api.VM.create("good").close()
    (core.dir / "bad").mkdir()
    assert [("bad", True), ("good", False)] == [(i.name, i.damaged) for i in api.list_vms()]
    api.VM.destroy_named("bad")
    assert ["good"] == [i.name for i in api.list_vms()]


def test_load_record(core: Any) -> None:
    """The load record comes back byte for byte; there is none before a load."""
    vm = core.load("vmmapi").VM.create("a")
    assert vm.get_load_record() is None
    vm.set_load_record(b"\0x\xff")
    assert b"\0x\xff" == vm.get_load_record()
    with pytest.raises(core.load("errors").VmError, match="too long"):
        vm.set_load_record(bytes(300000))


@pytest.mark.parametrize(
    ("code", "own"),
    [
        (0, {}),
        (1, {"gpa": "gpa", "access_size": "size", "dir": "write", "data": "data"}),
        (2, {"reg": "reg", "dir": "write", "data": "data"}),
        (4, {"how": "how"}),
        (8, {"func_id": "func_id", "conduit_smc": "smc"}),
    ],
)
def test_exits_are_read_from_the_right_bytes(core: Any, code: int, own: dict[str, str]) -> None:
    """Each field of struct vm_exit, with a value of its own, arrives under its name."""
    vm = core.load("vmmapi").VM.create("a")
    common = {n: n for n in ("pc", "inst_length", "esr", "far", "hpfar")}
    values = {name: 0x11 * (i + 1) for i, name in enumerate(common | own)}
    values |= {n: 1 for n in ("dir", "conduit_smc") if n in own}
    args = list(range(0x101, 0x108))
    core.vm("a").script[0] = [{"exitcode": code, "args": args, **values}]
    e = vm.vcpu(0).run()
    assert code == e.code
    got = {name: getattr(e, attribute) for name, attribute in (common | own).items()}
    assert values == {name: int(v) for name, v in got.items()}
    if code == 8:
        assert tuple(args) == e.args


def test_answer(core: Any) -> None:
    """What a call gives back goes to x0 and up."""
    vm = core.load("vmmapi").VM.create("a")
    vcpu = vm.vcpu(0)
    vcpu.answer([5, (1 << 64) - 1])
    assert {"x0": 5, "x1": (1 << 64) - 1} == vcpu.get_set(["x0", "x1"])


def test_exits_are_typed(core: Any) -> None:
    """vm_run() gives one class an exit, and a read's value goes back to the core."""
    vmexit = core.load("vmexit")
    vm = core.load("vmmapi").VM.create("a")
    core.vm("a").script[0] = [
        {"exitcode": 1, "gpa": 0x10000, "access_size": 4, "dir": 0, "data": 0, "pc": 0x40},
        {"exitcode": 8, "func_id": 0x84000000, "args": [1, 2, 3, 4, 5, 6, 7]},
    ]
    vcpu = vm.vcpu(0)
    e = vcpu.run()
    assert isinstance(e, vmexit.InstEmulExit)
    assert (0x10000, 4, False, 0x40) == (e.gpa, e.size, e.write, e.pc)
    vcpu.complete(-1)
    e = vcpu.run()
    assert isinstance(e, vmexit.SmcccExit)
    assert (1, 2, 3, 4, 5, 6, 7) == e.args
    assert [(1 << 64) - 1] == core.vm("a").completed
    vm.suspend(vmexit.SuspendHow.RESET)
    e = vcpu.run()
    assert isinstance(e, vmexit.SuspendedExit)
    assert vmexit.SuspendHow.RESET == e.how
    assert not vm.suspend(vmexit.SuspendHow.POWEROFF)
