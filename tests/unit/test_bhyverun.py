"""The runner, over the fake core: exits from a script instead of a guest."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

READ = {"exitcode": 1, "access_size": 4, "dir": 0, "data": 0, "pc": 0x40}
WRITE = {"exitcode": 1, "access_size": 4, "dir": 1, "data": 7, "pc": 0x40}
SYSTEM_OFF = {"exitcode": 8, "func_id": 0x84000008, "args": [0] * 7}
CPU_ON = 0xC4000003


@pytest.fixture
def world(core: Any) -> Any:
    """A VM with 4 MiB of RAM, its machine, and a device class for tests."""
    base = core.load("devices.base")

    class Probe(base.Device):  # type: ignore[misc, name-defined]
        size = 0x100

        def __init__(self, value: int = 0x1234) -> None:
            super().__init__(base.DeviceEnv(name="probe", memory=None))
            self.value = value
            self.writes: list[tuple[int, int, int]] = []
            self.closed = False

        def read(self, offset: int, size: int) -> int:
            if offset == 0x80:
                raise RuntimeError("boom")
            return self.value + offset

        def write(self, offset: int, size: int, value: int) -> None:
            self.writes.append((offset, size, value))

        def close(self) -> None:
            self.closed = True

    vm = core.load("vmmapi").VM.create("a")
    vm.setup_memory(0x80000000, 4 << 20)
    core.world = (vm, Probe, core.vm("a"))
    return core


def machine(core: Any, cpus: int = 1) -> Any:
    return core.load("bhyverun").Machine(core.world[0], range(cpus))


def test_mmio_reaches_the_device(world: Any) -> None:
    """An access in a device's window reaches it with offset and size; power-off ends the run."""
    _, probe_class, fake = world.world
    m = machine(world)
    probe = probe_class()
    m.add_device(0x10000, probe)
    fake.script[0] = [READ | {"gpa": 0x10004}, WRITE | {"gpa": 0x10008}, SYSTEM_OFF]
    assert world.load("vmexit").SuspendHow.POWEROFF == m.run()
    assert [0x1238] == fake.completed
    assert [(8, 4, 7)] == probe.writes
    assert probe.closed


def test_nothing_there(world: Any) -> None:
    """Where nothing is: all-ones below 4 GiB, an external abort above."""
    _, _, fake = world.world
    m = machine(world)
    fake.script[0] = [
        READ | {"gpa": 0x20000},
        WRITE | {"gpa": 0x20000},
        {"exitcode": 1, "dir": 1, "gpa": 1 << 33, "far": 0xABC},
        SYSTEM_OFF,
    ]
    fake.regs[0, 33] = 0x3C5
    m.run()
    assert [(1 << 64) - 1] == fake.completed[:1]
    assert [(0x25 << 26 | 1 << 25 | 1 << 6 | 0x10, 0xABC)] == fake.injected


def test_access_across_the_end_of_a_window(world: Any) -> None:
    """An access that is only partly in a window does not reach the device."""
    _, probe_class, fake = world.world
    m = machine(world)
    m.add_device(0x10000, probe_class())
    fake.script[0] = [READ | {"gpa": 0x100FE}, SYSTEM_OFF]
    m.run()
    assert [(1 << 64) - 1] == fake.completed


def test_unknown_exception_is_undefined(world: Any) -> None:
    """A trapped register that nobody emulates is UNDEFINED to the guest, and the VM goes on."""
    _, _, fake = world.world
    m = machine(world)
    fake.script[0] = [{"exitcode": 5, "esr": 1}, {"exitcode": 2, "reg": 5}, SYSTEM_OFF]
    m.run()
    assert [(1 << 25, 0)] * 2 == fake.injected


def test_a_device_that_raises_ends_the_run(world: Any) -> None:
    """An exception in a device is one error that names it, never a hang."""
    _, probe_class, fake = world.world
    m = machine(world)
    m.add_device(0x10000, probe_class())
    fake.script[0] = [READ | {"gpa": 0x10080}]
    start = time.monotonic()
    with pytest.raises(world.load("errors").DeviceError, match="probe failed: RuntimeError: boom"):
        m.run()
    assert time.monotonic() - start < 2


def test_a_core_that_fails_ends_the_run(world: Any) -> None:
    """An errno of vm_run() ends the run with a line."""
    fake = world.world[2]
    m = machine(world)
    fake.script[0] = [5]
    with pytest.raises(world.load("errors").VmError, match="vCPU 0 of VM a"):
        m.run()


def test_unexpected_exit(world: Any) -> None:
    """An exit that should never reach userland ends the run with a line."""
    fake = world.world[2]
    m = machine(world)
    fake.script[0] = [{"exitcode": 7}]
    with pytest.raises(world.load("errors").BhyveError, match="unexpected exit 7"):
        m.run()


def test_secondary_vcpus(world: Any) -> None:
    """CPU_ON starts a second vCPU at its entry with x0; power-off from it ends both."""
    _, _, fake = world.world
    m = machine(world, 2)
    fake.script[0] = [{"exitcode": 8, "func_id": CPU_ON, "args": [1, 0x80001000, 99, 0, 0, 0, 0]}]
    fake.script[1] = [SYSTEM_OFF]
    assert world.load("vmexit").SuspendHow.POWEROFF == m.run()
    assert 0x80001000 == fake.regs[1, 32]
    assert 99 == fake.regs[1, 0]
    assert 0 == fake.regs[0, 0]
    assert not m.stuck


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_power_off(world: Any, signum: int) -> None:
    """SIGTERM, SIGINT and SIGHUP power the VM off, and their handlers are put back."""
    before = signal.getsignal(signum)
    m = machine(world)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signum))
    timer.start()
    assert world.load("vmexit").SuspendHow.POWEROFF == m.run()
    assert before == signal.getsignal(signum)


@pytest.mark.parametrize("how", [0, 1, 2, 3])
def test_ended_from_outside(world: Any, how: int) -> None:
    """Whoever suspends the VM decides how the run ends."""
    reason = list(world.load("vmexit").SuspendHow)[how + 1]
    m = machine(world)
    threading.Timer(0.1, world.world[0].suspend, (reason,)).start()
    assert reason == m.run()


def test_debug_set_holds_a_vcpu(world: Any) -> None:
    """A vCPU in the debug set waits until it is resumed."""
    vm, _, fake = world.world
    m = machine(world)
    vm.suspend_cpu(0)
    fake.script[0] = [SYSTEM_OFF]
    threading.Timer(0.3, vm.resume_cpu).start()
    start = time.monotonic()
    m.run()
    assert time.monotonic() - start > 0.2


def test_a_held_vcpu_can_be_ended(world: Any) -> None:
    """A VM that is paused for ever can be powered off and destroyed."""
    vm, _, _ = world.world
    m = machine(world)
    vm.suspend_cpu(0)
    reason = world.load("vmexit").SuspendHow.DESTROY
    threading.Timer(0.2, vm.suspend, (reason,)).start()
    assert reason == m.run()


def test_clashes(world: Any) -> None:
    """A device on top of another, of RAM or of the GIC is refused."""
    _, probe_class, _ = world.world
    m = machine(world)
    error = world.load("errors").DeviceError
    m.add_device(0x10000, probe_class())
    for base, words in (
        (0x100F8, "overlaps probe"),
        (0xFF80, "overlaps probe"),
        (0x80001000, "guest RAM"),
        (0x2F000000, "interrupt controller"),
        (0x2F110000, "interrupt controller"),
        ((1 << 40) - 8, "address space"),
    ):
        with pytest.raises(error, match=words):
            m.add_device(base, probe_class())


def test_line_reaches_the_gic_once(world: Any) -> None:
    """An interrupt line tells the core about changes only."""
    vm, _, fake = world.world
    line = world.load("bhyverun").SpiLine(vm, 44)
    line.set(True)
    line.set(True)
    assert {44} == fake.asserted
    line.set(False)
    assert set() == fake.asserted
