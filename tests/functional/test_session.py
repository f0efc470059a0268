"""libvmmapi by FreeBSD's names, the example that builds a VM, and bhyvepy.vm()."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import bhyvepy
from bhyvepy import libvmmapi, vmmapi
from bhyvepy.errors import BhyveError, ConfigError, GuestFault, VmError
from bhyvepy.guests import vmmapi_example
from bhyvepy.session import Session
from bhyvepy.vmexit import InstEmulExit, SuspendedExit, SuspendHow, VmState

from .framework import OWN_KERNEL, OWN_PROMPT, POWERED_OFF, ROOT, Vmm

RAM = 0x80000000


# -- the names -----------------------------------------------------------------------------
def names_of_the_reference() -> set[str]:
    """The public functions in docs/reference/bhyve.md, section 4."""
    text = (ROOT / "docs/reference/bhyve.md").read_text()
    part = text.split("Public functions (arm64-relevant):")[1].split("\n\n")[0]
    part = part.split("ppt functions")[0]
    return set(re.findall(r"\b(?:vm|vcpu)_\w+", part)) | {"vcpu_id"}


def test_every_name_of_libvmmapi_is_there() -> None:
    """Each is a function, or stands in NOT_HERE with a reason."""
    names = names_of_the_reference()
    assert len(names) > 60
    missing = {n for n in names if not hasattr(libvmmapi, n)} - set(libvmmapi.NOT_HERE)
    assert missing == set()
    assert not [n for n in libvmmapi.NOT_HERE if hasattr(libvmmapi, n)]
    own = {n for n, f in vars(libvmmapi).items() if inspect.isfunction(f)} & names
    page = (ROOT / "man/vmmapi.3").read_text()
    for name in own | set(libvmmapi.NOT_HERE):
        assert re.search(rf"\b{name}\b", page), f"{name} is not in vmmapi(3)"


def test_the_names_do_their_work(vmm: Vmm) -> None:
    """Memory, registers, vCPUs, interrupts, capabilities and counters of one VM."""
    v = libvmmapi
    v.vm_create("a")
    vm = v.vm_openf("a")
    assert v.vm_get_name(vm) == "a"
    v.vm_setup_memory(vm, v.vm_parse_memsize("64M"))
    assert (v.vm_get_highmem_base(vm), v.vm_get_highmem_size(vm)) == (RAM, 64 << 20)
    assert (v.vm_get_lowmem_limit(vm), v.vm_get_lowmem_size(vm)) == (0, 0)
    assert v.vm_get_memseg(vm, 0) == (64 << 20, "sysmem")
    assert v.vm_get_memseg(vm, 1) == (0, "")
    view = v.vm_map_gpa(vm, RAM + 0x5000, 16)
    view[:4] = b"abcd"
    assert v.vm_rev_map_gpa(vm, view) == RAM + 0x5000
    with pytest.raises(GuestFault):
        v.vm_map_gpa(vm, RAM - 16, 16)
    rom = v.vm_create_devmem(vm, 1, 4096)
    rom[:3] = b"rom"
    v.vm_mmap_memseg(vm, 0x1000000, 1, 0, 4096, vmmapi.PROT_READ)
    found = v.vm_mmap_getnext(vm, 0)
    assert found is not None
    assert (found.gpa, found.segid) == (0x1000000, 1)
    v.vm_munmap_memseg(vm, 0x1000000, 4096)
    found = v.vm_mmap_getnext(vm, 0)
    assert found is not None
    assert found.gpa == RAM

    vcpu = v.vm_vcpu_open(vm, 0)
    assert v.vcpu_id(vcpu) == 0
    v.vcpu_reset(vcpu)
    v.vm_set_register(vcpu, "x5", 7)
    v.vm_set_register_set(vcpu, {"pc": RAM, "cpsr": 0x3C5})
    assert v.vm_get_register(vcpu, "x5") == 7
    assert v.vm_get_register_set(vcpu, ["pc", "x5"]) == {"pc": RAM, "x5": 7}
    # With the MMU off a virtual address is a physical one.
    assert v.vm_gla2gpa(vcpu, RAM + 0x5001) == RAM + 0x5001
    pieces = v.vm_copy_setup(vcpu, RAM + 0x5FFE, 4)
    assert pieces == [(RAM + 0x5FFE, 4)]
    v.vm_copyout(vm, b"wxyz", pieces)
    assert v.vm_copyin(vm, pieces) == b"wxyz"
    with pytest.raises(ConfigError):
        v.vm_copyout(vm, b"x", pieces)
    v.vm_copy_teardown(pieces)
    assert v.vm_copyin(vm, pieces) == b""

    v.vm_set_topology(vm, 1, 2, 1)
    assert v.vm_get_topology(vm)[:3] == (1, 2, 1)
    v.vm_activate_cpu(vcpu)
    assert (v.vm_active_cpus(vm), v.vm_debug_cpus(vm)) == ([0], [])
    v.vm_suspend_cpu(vcpu)
    assert v.vm_debug_cpus(vm) == [0]
    v.vm_resume_cpu(vcpu)
    v.vm_suspend_all_cpus(vm)
    v.vm_resume_all_cpus(vm)
    assert v.vm_suspended_cpus(vm) == []
    v.vm_attach_vgic(vm, 0x2F000000, 0x10000, 0x2F100000, 0x20000)
    v.vm_assert_irq(vm, 40)
    v.vm_deassert_irq(vm, 40)
    v.vm_raise_msi(vm, 0x2F000040, 260)
    with pytest.raises(VmError):
        v.vm_assert_irq(vm, 5000)

    cap = v.vm_capability_name2type("unrestricted_guest")
    assert v.vm_capability_type2name(cap) == "unrestricted_guest"
    assert v.vm_get_capability(vcpu, cap) == 1
    assert v.vm_capability_name2type("none") == -1
    v.vm_set_capability(vcpu, v.vm_capability_name2type("ss_exit"), 0)
    assert len(v.vm_get_stats(vcpu)) == len(vmmapi.stat_descriptions())
    assert v.vm_get_stat_desc(vm, 1) == "total number of vm exits"
    assert v.vm_get_stat_desc(vm, 10000) is None

    # str x5, [x0] at an address without memory; once more after a restart.
    v.vm_copyout(vm, (0xF9000005).to_bytes(4, "little"), [(RAM, 4)])
    v.vm_set_register(vcpu, "x0", 0x9000)
    vm.set_load_record(b"{}")
    vm.run_begin()
    for again in (True, False):
        exit_ = v.vm_run(vcpu)
        assert isinstance(exit_, InstEmulExit)
        assert (exit_.gpa, exit_.data, exit_.pc) == (0x9000, 7, RAM)
        if again:
            v.vm_restart_instruction(vcpu)
    assert v.vm_get_gpa_pmap(vm, RAM)[0] & 1
    assert v.vm_get_gpa_pmap(vm, RAM + (32 << 20)) == (0, 0)
    v.vm_inject_exception(vcpu, 0x2000000, 0)
    assert v.vm_suspend(vm, SuspendHow.HALT)
    assert not v.vm_suspend(vm, SuspendHow.HALT)
    assert isinstance(v.vm_run(vcpu), SuspendedExit)
    vm.run_end()
    v.vm_vcpu_close(vcpu)
    v.vm_reinit(vm)
    assert (vm.info().state, vm.memsegs()) == (VmState.EMPTY, [])
    v.vm_close(vm)
    v.vm_destroy(v.vm_openf("b", v.VMMAPI_OPEN_CREATE))
    v.vm_destroy(v.vm_openf("a", v.VMMAPI_OPEN_REINIT))
    assert vmm.names() == []


def test_the_example_builds_a_vm_in_30_lines(vmm: Vmm) -> None:
    """It prints what its guest wrote, and is no longer than promised."""
    argv = [sys.executable, "-m", "bhyvepy.guests.vmmapi_example"]
    done = subprocess.run(argv, env=vmm.env, capture_output=True, text=True, check=True)
    assert done.stdout == "Hello\n"
    assert len(inspect.getsource(vmmapi_example.main).splitlines()) <= 30
    assert vmm.names() == []


# -- what is closed raises -------------------------------------------------------------------
def test_a_closed_vm_raises(vmm: Vmm) -> None:
    """Every method of a closed VM, its vCPU and its memory: an exception, never a crash."""
    vmm.load()
    vm = vmmapi.VM.open("vm")
    vcpu, memory = vm.vcpu(0), vm.memory
    view = memory.view(RAM, 16)
    vm.close()
    vm.close()
    calls = [
        *(lambda f=f: f() for f in (vm.info, vm.features, vm.run_begin, vm.memmap, vm.cpus)),
        *(lambda f=f: f() for f in (vcpu.run, vcpu.reset, vcpu.get_all, vcpu.stats, vcpu.off)),
        lambda: vm.assert_irq(40),
        lambda: vm.deassert_irq(40),
        lambda: vm.memory.read(RAM, 4),
        lambda: memory.read(RAM + (100 << 20), 4),
        lambda: vm.write_memory(RAM, b"x"),
        lambda: vm.gla2gpa(0, RAM),
        lambda: vm.suspend(1),
    ]
    for call in calls:
        with pytest.raises(VmError, match="closed"):
            call()
    assert len(bytes(view)) == 16


def test_closing_ends_a_vcpu_that_runs(vmm: Vmm) -> None:
    """close() while a thread is inside run(): the thread comes home first."""
    vm = vmmapi.VM.create("spin")
    vm.setup_memory(RAM, 2 << 20)
    vm.write_memory(RAM, (0x14000000).to_bytes(4, "little"))  # b .
    vm.vcpu(0).set_many({"pc": RAM, "cpsr": 0x3C5})
    vm.set_load_record(b"{}")
    vm.run_begin()
    vm.activate_cpu(0)
    exits: list[object] = []
    thread = threading.Thread(target=lambda: exits.append(vm.vcpu(0).run()))
    thread.start()
    time.sleep(0.2)
    vm.close()
    thread.join(5)
    assert isinstance(exits[0], SuspendedExit)


# -- bhyvepy.vm() ------------------------------------------------------------------------------
@pytest.fixture
def session(vmm: Vmm) -> Iterator[Session]:
    """A VM that is not there yet."""
    with bhyvepy.vm("nb") as it:
        yield it
        it.destroy()


def test_a_session_from_load_to_destroy(session: Session) -> None:
    """Load, boot, console, registers, memory, pause, the end."""
    assert repr(session) == "<VM nb: not there>"
    session.load(kernel=str(OWN_KERNEL), bootargs="hello", memory="64M", fdt__seed="1")
    assert session.state is VmState.LOADED
    session.boot(cpus=2, devices=["3,virtio-rnd"])
    assert "bootargs: hello" in session.console.expect(OWN_PROMPT)
    assert session.console.run("echo words", OWN_PROMPT) == "words"
    session.console.line("count")
    session.console.expect(r"count\w+\r?\n")
    time.sleep(0.1)
    session.pause()
    until = time.monotonic() + 5
    while session.vm.cpus(vmmapi.CPUS_DEBUG) != [0, 1] and time.monotonic() < until:
        time.sleep(0.01)
    regs = session.regs
    assert regs["x0"] - regs.x1 in (0, 1)
    assert regs.pc == regs.all()["pc"]
    assert f"x0 {regs.x0:016x}" in repr(regs)
    regs.x20 = 0x1234
    assert session.cpu(0)["x20"] == 0x1234
    assert {"pc", "sctlr_el1"} <= set(regs)
    with pytest.raises(AttributeError):
        _ = regs.no_such
    magic = session.mem[RAM + 56 : RAM + 60]
    assert magic == b"ARM\x64"
    session.mem[RAM + (60 << 20)] = 7
    session.mem[RAM + (60 << 20) + 1 : RAM + (60 << 20) + 3] = b"ab"
    assert session.mem[RAM + (60 << 20) : RAM + (60 << 20) + 3] == b"\7ab"
    assert session.mem[RAM + (60 << 20)] == 7
    with pytest.raises(ConfigError):
        _ = session.mem[RAM:]
    assert session.stats()["total number of vm exits"] > 0
    session.resume()
    session.poweroff()
    assert session.wait() == POWERED_OFF
    assert session.state is VmState.ENDED
    # And once more, by the same name.
    session.load(kernel=str(OWN_KERNEL)).boot()
    session.console.expect(OWN_PROMPT)


def test_what_a_session_cannot_do_is_one_line(session: Session) -> None:
    """A kernel that is not there, a device that is not, a text that does not come."""
    with pytest.raises(BhyveError, match="no such file"):
        session.load(kernel="/nonexistent")
    session.load(kernel=str(OWN_KERNEL))
    with pytest.raises(BhyveError, match="no device 'nothing'"):
        session.boot(devices=["3,nothing"])
    session.boot()
    with pytest.raises(VmError, match="running already"):
        session.boot()
    with pytest.raises(BhyveError, match=r"not within 0\.2 s"):
        session.console.expect("login:", timeout=0.2)
    session.destroy()
    with pytest.raises(BhyveError, match="the console closed"):
        session.console.expect("login:")
    with pytest.raises(VmError, match="there is no VM nb"):
        _ = session.regs.pc
    session.close()
    for what in (lambda: session.regs, lambda: session.mem[0], lambda: session.boot()):
        with pytest.raises(VmError, match="VM nb is closed"):
            what()
    assert repr(session) == "<VM nb: closed>"
    session._closed = False  # for the fixture


INTERRUPTED = """
import sys, time, bhyvepy
vm = bhyvepy.vm("nb").load(kernel=sys.argv[1]).boot()
vm.console.expect("guest> ")
try:
    print("waiting", flush=True)
    vm.console.expect("never", timeout=600)
except KeyboardInterrupt:
    print("interrupted", vm.console.run("echo alive", "guest> "), flush=True)
"""


def test_ctrl_c_returns_at_once_and_the_guest_lives(vmm: Vmm, tmp_path: Path) -> None:
    """SIGINT ends the wait in well under a second; the guest answers afterwards."""
    proc = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(OWN_KERNEL)],
        env=vmm.env,
        stdout=subprocess.PIPE,
        text=True,
        # A shell's background job ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert proc.stdout is not None
        assert proc.stdout.readline() == "waiting\n"
        began = time.monotonic()
        os.kill(proc.pid, signal.SIGINT)
        assert proc.stdout.readline() == "interrupted alive\n"
        assert time.monotonic() - began < 3
        assert proc.wait(20) == 0
    finally:
        proc.kill()
        proc.wait()
    assert vmmapi.stat_vm("nb").state is VmState.ENDED
