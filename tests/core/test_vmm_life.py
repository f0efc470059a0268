"""The life of a VM as files: names, states, damage, ownership, sudden death."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pe_features as feat
import pytest
from vmm_guest import PC, RAM, Vm, assemble, ffi, lib, ok, wait_for

EMPTY, LOADED, RUNNING, ENDED, DEAD = range(5)
LOOP = "1: add x0, x0, #1\n b 1b"


def create(directory: Path, name: str, **options: int) -> int:
    opt = ffi.new("struct vm_options *", {"maxcpus": 1, **options})
    return int(lib.vm_create(os.fsencode(directory), name.encode(), opt))


def stat(directory: Path, name: str) -> tuple[int, int]:
    """(error, state)"""
    info = ffi.new("struct vm_info *")
    error = lib.vm_stat(os.fsencode(directory), name.encode(), info)
    return int(error), int(info.state)


def destroy(directory: Path, name: str) -> int:
    return int(lib.vm_destroy(os.fsencode(directory), name.encode()))


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "-x", "a/b", "a b", "a\n", "é", "x" * (lib.VM_MAX_NAMELEN + 1)]
)
def test_bad_names(vmm_dir: Path, name: str) -> None:
    """A name that could leave the folder or confuse a terminal is EINVAL everywhere."""
    assert create(vmm_dir, name) == errno.EINVAL
    assert stat(vmm_dir, name)[0] == errno.EINVAL
    assert destroy(vmm_dir, name) == errno.EINVAL
    assert not list(vmm_dir.iterdir())


def test_create_twice_and_destroy_twice(vmm_dir: Path) -> None:
    """The second of each fails and leaves nothing behind."""
    name = "x" * lib.VM_MAX_NAMELEN
    assert stat(vmm_dir, name)[0] == errno.ENOENT
    assert create(vmm_dir, name) == 0
    assert create(vmm_dir, name) == errno.EEXIST
    assert stat(vmm_dir, name) == (0, EMPTY)
    assert destroy(vmm_dir, name) == 0
    assert destroy(vmm_dir, name) == errno.ENOENT
    assert not list(vmm_dir.iterdir())


@pytest.mark.parametrize(
    "options",
    [{"maxcpus": 0}, {"maxcpus": 65}, {"list_regs": 17}, {"list_regs": -1}, {"vmid_bits": 9}],
)
def test_bad_options(vmm_dir: Path, options: dict[str, int]) -> None:
    """Options out of range are EINVAL, a world switch the PE cannot do ENOTSUP."""
    assert create(vmm_dir, "t", **options) == errno.EINVAL
    without = feat.ALL & ~feat.BIT["VHE"]
    assert create(vmm_dir, "t", vhe=1, features=without) == errno.ENOTSUP
    assert not list(vmm_dir.iterdir())


def test_the_folder_must_be_ours(vmm_dir: Path) -> None:
    """A folder others may enter, a link to one, or none at all is refused."""
    link = vmm_dir / "link"
    link.symlink_to(vmm_dir)
    assert create(link, "t") == errno.EPERM
    assert create(vmm_dir / "none", "t") == errno.ENOENT
    vmm_dir.chmod(0o750)
    assert create(vmm_dir, "t") == errno.EPERM
    assert stat(vmm_dir, "t")[0] == errno.EPERM
    vmm_dir.chmod(0o700)
    assert create(vmm_dir, "t") == 0
    assert (vmm_dir / "t").stat().st_mode & 0o777 == 0o700
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in (vmm_dir / "t").iterdir())


def test_states(vmm_dir: Path) -> None:
    """Empty, loaded, running, ended; only a loaded VM can be run, by one at a time."""
    vm = Vm.create(vmm_dir, "t")
    other = Vm(vmm_dir, "t")
    assert lib.vm_run_begin(vm.handle) == errno.EINVAL
    size = ffi.new("size_t *", 100)
    buf = ffi.new("char[100]")
    assert lib.vm_get_load_record(vm.handle, buf, size) == errno.ENOENT
    assert lib.vm_set_load_record(vm.handle, bytes(10), 262145) == errno.E2BIG
    assert lib.vm_set_load_record(vm.handle, b"", 0) == errno.EINVAL
    ok(lib.vm_set_load_record(vm.handle, b"record", 6))
    assert lib.vm_set_load_record(vm.handle, b"again", 5) == errno.EINVAL
    assert stat(vmm_dir, "t") == (0, LOADED)
    ok(lib.vm_get_load_record(other.handle, buf, size))
    assert ffi.string(buf, size[0]) == b"record"
    ok(lib.vm_run_begin(vm.handle))
    assert stat(vmm_dir, "t") == (0, RUNNING)
    info = ffi.new("struct vm_info *")
    ok(lib.vm_stat(os.fsencode(vmm_dir), b"t", info))
    assert (info.runner, info.uid, info.maxcpus) == (os.getpid(), os.getuid(), 1)
    assert lib.vm_run_begin(other.handle) == errno.EBUSY
    assert lib.vm_run_begin(vm.handle) == errno.EBUSY
    assert lib.vm_run_end(other.handle) == errno.EINVAL
    assert stat(vmm_dir, "t") == (0, RUNNING)
    ok(lib.vm_suspend(other.handle, lib.VM_SUSPEND_RESET))
    ok(lib.vm_run_end(vm.handle))
    assert stat(vmm_dir, "t") == (0, ENDED)
    assert lib.vm_run_begin(vm.handle) == errno.EINVAL
    ok(lib.vm_info(other.handle, info))
    assert (info.how, info.runner) == (lib.VM_SUSPEND_RESET, 0)
    vm.close()
    other.close()


def damages() -> list[tuple[str, object]]:
    """Ways to damage a VM folder."""

    def cut(path: Path) -> None:
        os.truncate(path / "control", 100)

    def noise(path: Path) -> None:
        data = bytearray((path / "control").read_bytes())
        data[:256] = random.Random(1).randbytes(256)
        (path / "control").write_bytes(data)

    def version(path: Path) -> None:
        with (path / "control").open("r+b") as f:
            f.seek(8)
            f.write(b"\x63")

    def patched(at: int, value: int) -> Callable[[Path], None]:
        def patch(path: Path) -> None:
            with (path / "control").open("r+b") as f:
                f.seek(at)
                f.write(value.to_bytes(4, "little"))

        return patch

    def longer(path: Path) -> None:
        os.truncate(path / "control", (path / "control").stat().st_size + 4096)

    def folder(path: Path) -> None:
        (path / "control").unlink()
        (path / "control").mkdir()

    def fifo(path: Path) -> None:
        (path / "control").unlink()
        os.mkfifo(path / "control")

    def link(path: Path) -> None:
        (path / "control").rename(path / "real")
        (path / "control").symlink_to("real")

    return [
        ("missing", lambda p: (p / "control").unlink()),
        ("empty", lambda p: os.truncate(p / "control", 0)),
        # struct vm_control
        ("another's", patched(0, 0x12345678)),
        ("no vcpu", patched(40, 0)),
        ("many vcpus", patched(40, 0xFFFF)),
        ("state", patched(48, 9)),
        *((f.__name__, f) for f in (cut, noise, version, longer, folder, fifo, link)),
    ]


@pytest.mark.parametrize(
    ("what", "damage"), damages(), ids=lambda x: x if isinstance(x, str) else ""
)
def test_damaged_vms(vmm_dir: Path, what: str, damage: object) -> None:
    """A damaged VM is EPROTO to look at and to open, and can be destroyed."""
    assert create(vmm_dir, "t") == 0
    damage(vmm_dir / "t")  # type: ignore[operator]
    assert stat(vmm_dir, "t")[0] == errno.EPROTO
    ref = ffi.new("struct vm **")
    assert lib.vm_open(os.fsencode(vmm_dir), b"t", ref) == errno.EPROTO
    assert create(vmm_dir, "t") == errno.EEXIST
    assert destroy(vmm_dir, "t") == 0
    assert not list(vmm_dir.iterdir())


def test_two_numbers_of_vcpus(vmm_dir: Path) -> None:
    """The head of the file and what is behind it must agree before anything is used."""
    assert create(vmm_dir, "t") == 0
    with (vmm_dir / "t" / "control").open("r+b") as f:
        f.seek(40)
        f.write(b"\x02")
    ref = ffi.new("struct vm **")
    assert lib.vm_open(os.fsencode(vmm_dir), b"t", ref) == errno.EPROTO


def test_damaged_load_record(vmm_dir: Path) -> None:
    """A length beyond the room for it is no record; a small buffer learns how long it is."""
    vm = Vm.create(vmm_dir, "t")
    ok(lib.vm_set_load_record(vm.handle, bytes(0x1357), 0x1357))
    size, buf = ffi.new("size_t *", 100), ffi.new("char[100]")
    assert lib.vm_get_load_record(vm.handle, buf, size) == errno.ERANGE
    assert size[0] == 0x1357
    control = vmm_dir / "t" / "control"
    with control.open("r+b") as f:
        at = f.read(8192).index((0x1357).to_bytes(4, "little"))
        f.seek(at)
        f.write((lib.VM_MAX_LOADREC + 1).to_bytes(4, "little"))
    assert lib.vm_get_load_record(vm.handle, buf, size) == errno.ENOENT
    vm.close()


def test_lost_stage_2_tables(vmm_dir: Path) -> None:
    """Without its tables a VM does not open."""
    assert create(vmm_dir, "t") == 0
    (vmm_dir / "t" / "stage2").unlink()
    ref = ffi.new("struct vm **")
    assert lib.vm_open(os.fsencode(vmm_dir), b"t", ref) == errno.EPROTO
    assert destroy(vmm_dir, "t") == 0


def test_vms_leak_nothing(vmm_dir: Path) -> None:
    """Creating and destroying costs no descriptors and no mappings."""

    def cycle() -> None:
        vm = Vm.flat(vmm_dir, "t", "hvc #0", size=1 << 20)
        vm.run()
        vm.close()
        assert destroy(vmm_dir, "t") == 0

    def counts() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text().count("bhyvepy-test")
        return len(os.listdir("/proc/self/fd")), maps

    cycle()
    before = counts()
    for _ in range(500):
        cycle()
    assert counts() == before


# A runner in a process of its own: python -c RUNNER dir name
RUNNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import pe_features as feat
from vmm_guest import *
vm = Vm(Path(sys.argv[1]), sys.argv[2])
ok(lib.vm_run_begin(vm.handle))
ok(lib.vm_activate_cpu(vm.handle, 0))
vm.set(PC, RAM)
print("running", flush=True)
vme = vm.run()
print(vme.exitcode, vme.how, flush=True)
lib.vm_run_end(vm.handle)
"""


def start_runner(directory: Path, name: str) -> subprocess.Popen[str]:
    proc = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(directory), name, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert proc.stdout is not None
    assert proc.stdout.readline() == "running\n"
    return proc


def load(directory: Path, name: str, source: str) -> Vm:
    vm = Vm.create(directory, name)
    vm.ram(1 << 20)
    vm.write(RAM, assemble(source))
    ok(lib.vm_set_load_record(vm.handle, b"x", 1))
    return vm


def test_killed_runner(vmm_dir: Path) -> None:
    """A killed runner leaves a dead VM that can be inspected and destroyed, not run."""
    vm = load(vmm_dir, "t", LOOP)
    proc = start_runner(vmm_dir, "t")
    assert stat(vmm_dir, "t") == (0, RUNNING)
    assert lib.vm_run_begin(vm.handle) == errno.EBUSY
    wait_for(lambda: vm.get(0) > 0)
    proc.kill()
    proc.wait()
    assert stat(vmm_dir, "t") == (0, DEAD)
    assert vm.get(PC) in range(RAM, RAM + 8)
    assert lib.vm_run_begin(vm.handle) == errno.EINVAL
    vm.close()
    assert destroy(vmm_dir, "t") == 0


@pytest.mark.parametrize(
    "source", [LOOP, "msr daifset, #15\n1: wfi\n b 1b", "1: wfe\n b 1b", "1: b ."]
)
def test_destroy_a_running_vm(vmm_dir: Path, source: str) -> None:
    """The runner leaves with DESTROY and the files are gone, in less than 0.4 s."""
    load(vmm_dir, "t", source).close()
    proc = start_runner(vmm_dir, "t")
    time.sleep(0.05)
    start = time.monotonic()
    assert destroy(vmm_dir, "t") == 0
    assert time.monotonic() - start < 0.4
    assert proc.communicate(timeout=5)[0] == f"4 {lib.VM_SUSPEND_DESTROY}\n"
    assert not list(vmm_dir.iterdir())


def test_destroy_while_another_process_pauses_it(vmm_dir: Path) -> None:
    """A VM held frozen from outside goes away too, within 2 s."""
    vm = load(vmm_dir, "t", LOOP)
    proc = start_runner(vmm_dir, "t")
    ok(lib.vm_pause(vm.handle))
    start = time.monotonic()
    assert destroy(vmm_dir, "t") == 0
    assert time.monotonic() - start < 2.1
    assert proc.communicate(timeout=5)[0] == f"4 {lib.VM_SUSPEND_DESTROY}\n"
    vm.close()


PAUSER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import pe_features as feat
from vmm_guest import *
vm = Vm(Path(sys.argv[1]), sys.argv[2])
ok(lib.vm_pause(vm.handle))
print("running", flush=True)
time.sleep(60)
"""


def test_killed_holder_thaws(vmm_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The death of a process that held a VM frozen lets it go on."""
    vm = Vm.flat(vmm_dir, "t", LOOP)
    with vm.running():
        wait_for(lambda: vm.get(0) > 0)
        monkeypatch.setitem(globals(), "RUNNER", PAUSER)
        proc = start_runner(vmm_dir, "t")
        proc.kill()
        proc.wait()
        before = vm.get(0)
        wait_for(lambda: vm.get(0) > before)
    vm.close()


WORKER = """
import sys, os
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import pe_features as feat
from vmm_guest import *
d, name = Path(sys.argv[1]), sys.argv[2].encode()
print("running", flush=True)
opt = ffi.new("struct vm_options *", {"maxcpus": 2})
info = ffi.new("struct vm_info *")
while True:
    lib.vm_create(os.fsencode(d), name, opt)
    lib.vm_stat(os.fsencode(d), name, info)
    ref = ffi.new("struct vm **")
    if lib.vm_open(os.fsencode(d), name, ref) == 0:
        vm = ref[0]
        lib.vm_alloc_memseg(vm, 0, 1 << 20, False)
        lib.vm_mmap_memseg(vm, RAM, 0, 0, 1 << 20, 7)
        lib.vm_copyout(vm, b"\\x00\\x00\\x00\\x14", RAM, 4)
        lib.vm_set_load_record(vm, b"x", 1)
        val = ffi.new("uint64_t *")
        for i in range(20):
            lib.vm_get_register(vm, 0, i, val)
            lib.vm_protect(vm, RAM, 4096, 5)
            lib.vm_protect(vm, RAM, 4096, 7)
        lib.vm_close(vm)
    lib.vm_destroy(os.fsencode(d), name)
"""


@pytest.mark.slow
def test_a_hundred_kills(vmm_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a process was doing to a VM when it was killed, the rest can go on."""
    monkeypatch.setitem(globals(), "RUNNER", WORKER)
    rng = random.Random(7)
    procs = [start_runner(vmm_dir, "t") for _ in range(2)]
    for i in range(100):
        time.sleep(rng.random() * 0.01)
        victim = procs.pop(rng.randrange(2))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        procs.append(start_runner(vmm_dir, "t"))
        if i % 10 == 0:
            assert stat(vmm_dir, "t")[0] in (0, errno.ENOENT)
    for proc in procs:
        proc.kill()
        proc.wait()
    assert stat(vmm_dir, "t")[0] in (0, errno.ENOENT)
    assert destroy(vmm_dir, "t") in (0, errno.ENOENT)
    assert create(vmm_dir, "t") == 0
    assert [p.name for p in vmm_dir.iterdir()] == ["t"], "no half-made VM is left"
    vm = Vm(vmm_dir, "t")
    assert vm.get(0) == 0
    vm.close()


def test_truncated_memory_ends_the_run(vmm_dir: Path) -> None:
    """When somebody truncates the RAM file the run ends with EIO, the process lives."""
    program = """
import sys, threading, os
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import pe_features as feat
from vmm_guest import *
vm = Vm.flat(Path(sys.argv[1]), "u", "1: ldr x1, [x0]\\n add x2, x2, #1\\n b 1b")
vm.set(0, RAM + 0x8000)
with vm.running() as exits:
    wait_for(lambda: vm.get(2) > 0)
    os.truncate(Path(sys.argv[1]) / "u" / "sysmem", 0)
    wait_for(lambda: bool(exits))
print("running", flush=True)
print(exits[0], lib.vm_memory_lost(), flush=True)
"""
    proc = subprocess.Popen(
        [sys.executable, "-c", program, str(vmm_dir), "u", str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert proc.communicate(timeout=20)[0] == f"running\n{errno.EIO} {errno.EIO}\n"
    assert proc.returncode == 0
