"""bhyvectl on a stopped and on a running VM: the plain formats of bhyve, JSON, and control."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Callable

import pytest

from bhyvepy import vmmapi

from .framework import ERROR, OWN_PROMPT, POWERED_OFF, RESET, Guest, Vmm

REGISTER = re.compile(r"([a-z0-9_]+)\[0\]\t\t0x([0-9a-f]{16})")
STAT = re.compile(r"(.{40,})\t(-?\d+)")
HOT = re.compile(r" +\d+\.\d%  0x[0-9a-f]{16}")
GENERAL = [*(f"x{n}" for n in range(30)), "lr", "sp", "pc", "cpsr"]
SYSTEM = ["sctlr_el1", "ttbr0_el1", "ttbr1_el1", "tcr_el1", "mpidr_el1", "vbar_el1", "sp_el0"]


@pytest.fixture(params=["stopped", "running"])
def state(vmm: Vmm, request: pytest.FixtureRequest) -> str:
    """A VM that is loaded, or one that runs."""
    vmm.load()
    if request.param == "running":
        guest = vmm.bhyve("-b", "vm")
        guest.expect(OWN_PROMPT)
    return str(request.param)


def running(vmm: Vmm) -> Guest:
    vmm.load()
    guest = vmm.bhyve("-b", "vm")
    guest.expect(OWN_PROMPT)
    return guest


def registers(text: str) -> dict[str, int]:
    """name[0], two tabs, 16 hexadecimal digits."""
    return {name: int(value, 16) for name, value in REGISTER.findall(text)}


def test_get_all(vmm: Vmm, state: str) -> None:
    """Segments, map, all registers, CPU sets, counters and topology, in bhyvectl's order."""
    text = vmm.ctl("--get-all")
    lines = text.splitlines()
    active = "0" if state == "running" else "(none)"
    # bhyve adds the page in which the guest reads its stolen time.
    running = state == "running"
    head = [
        "ID   Length       Name",
        "0    128MB        sysmem",
        *["2    64KB         stolentime"] * running,
        "Address     Length      Segment     Offset      Prot        Flags",
        *["2FA00000    64KB        stolentime  0           R--"] * running,
        "80000000    128MB       sysmem      0           RWX",
    ]
    assert lines[: len(head)] == head
    regs = registers(text)
    assert list(regs)[: len(GENERAL)] == GENERAL
    assert set(regs) >= set(SYSTEM)
    after = lines[len(head) + len(regs) :]
    assert after[:4] == [
        f"active cpus:\t {active}",
        "suspended cpus:\t (none)",
        "debug cpus:\t (none)",
        "vcpu0 stats:",
    ]
    assert after[-1] == "cpu_topology:\tsockets=1, cores=1, threads=1, maxcpus=64"
    cut = after.index(next(line for line in after if "hottest" in line))
    assert all(STAT.fullmatch(line) for line in after[4:cut]), after
    assert re.fullmatch(r"vcpu0 hottest blocks, of \d+ samples:", after[cut])
    assert all(HOT.fullmatch(line) for line in after[cut + 1 : -1]), after
    if state == "stopped":
        assert (regs["pc"], regs["cpsr"]) == (0x80000000, 0x3C5)
        assert regs["x0"] == 0x80210000
        assert regs["mpidr_el1"] == 0x80000000
    else:
        assert 0x80000000 <= regs["pc"] < 0x80100000
        assert regs["vbar_el1"] != 0
        assert regs["sctlr_el1"] & 1


def test_every_register_has_its_options(vmm: Vmm, state: str) -> None:
    """--get-NAME shows what --get-all shows, for each register, in one call for all."""
    names = list(registers(vmm.ctl("--get-all")))
    text = vmm.ctl(*(f"--get-{name}" for name in names))
    assert list(registers(text)) == names
    assert len(names) > 60
    # Registers of a guest that sits in WFI differ in nothing but what the tick moves.
    assert vmm.ctl("--get-pc").startswith("pc[0]\t\t0x")


def test_stats(vmm: Vmm, state: str) -> None:
    """FreeBSD's counters: zero before the run, and growing while it lasts."""
    lines = vmm.ctl("--get-stats").splitlines()
    assert lines[0] == "vcpu0 stats:"
    found = [STAT.fullmatch(line) for line in lines[1:]]
    cut = found.index(None)
    assert re.fullmatch(r"vcpu0 hottest blocks, of \d+ samples:", lines[cut + 1])
    del found[cut:]
    stats = {m[1].rstrip(): int(m[2]) for m in found if m}
    assert "total number of vm exits" in stats
    assert "number of times wfi was intercepted" in stats
    if state == "stopped":
        assert set(stats.values()) == {0}
        assert lines[-1] == "vcpu0 hottest blocks, of 0 samples:"
        return
    assert stats["total number of vm exits"] > 10
    assert stats["number of times wfi was intercepted"] > 0
    later = json.loads(vmm.ctl("--get-stats", "--json"))["stats"]
    assert list(later) == list(stats)
    assert later["total number of vm exits"] > stats["total number of vm exits"]


def test_json(vmm: Vmm, state: str) -> None:
    """--json says the same as the plain form."""
    data = json.loads(vmm.ctl("--get-all", "--json"))
    assert data["memseg"][0] == {"id": 0, "length": 128 << 20, "name": "sysmem"}
    assert data["memmap"][-1] == {
        "address": 0x80000000,
        "length": 128 << 20,
        "segment": "sysmem",
        "offset": 0,
        "prot": "RWX",
        "wired": False,
    }
    assert data["active_cpus"] == ([0] if state == "running" else [])
    assert (data["suspended_cpus"], data["debug_cpus"]) == ([], [])
    assert data["cpu_topology"] == {"sockets": 1, "cores": 1, "threads": 1, "maxcpus": 64}
    assert set(data["registers"]) == set(registers(vmm.ctl("--get-all")))


def test_list(vmm: Vmm) -> None:
    """Name, state, RAM, vCPUs, owner and age of every VM, whatever its state."""
    assert vmm.ok("bhyvectl", "--list") == "NAME  STATE  RAM  VCPUS  OWNER  AGE\n"
    guest = running(vmm)
    vmm.ctl("--create", name="bare")
    vmm.ctl("--create", "--set-mem=30M", name="a-longer-name")
    me = getpass.getuser()
    rows = [line.split() for line in vmm.ok("bhyvectl", "--list").splitlines()]
    assert rows[0] == ["NAME", "STATE", "RAM", "VCPUS", "OWNER", "AGE"]
    assert [row[:2] for row in rows[1:]] == [
        ["a-longer-name", "empty"],
        ["bare", "empty"],
        ["vm", "running"],
    ]
    assert rows[1][2] == "30MB"
    assert rows[3][2:5] == ["128MB", "1", me]
    assert re.fullmatch(r"\d+s", rows[3][5])
    found = {vm["name"]: vm for vm in json.loads(vmm.ok("bhyvectl", "--list", "--json"))["vms"]}
    assert found["vm"]["pid"] == guest.pid
    assert found["vm"]["ram"] == 128 << 20
    assert found["bare"]["ram"] == 0
    guest.line("off")
    assert guest.wait() == POWERED_OFF
    found = {vm["name"]: vm for vm in json.loads(vmm.ok("bhyvectl", "--list", "--json"))["vms"]}
    assert (found["vm"]["state"], found["vm"]["ended_by"]) == ("ended", "poweroff")
    assert found["vm"]["pid"] == 0


def test_create_set_mem_destroy(vmm: Vmm) -> None:
    """A VM made by hand has the memory it was given, rounded up to 2 MiB."""
    vmm.ctl("--create", "--set-mem=5M")
    assert vmm.ctl("--get-memseg").splitlines()[1] == "0    6MB          sysmem"
    assert vmm.ctl("--get-active-cpus") == "active cpus:\t (none)\n"
    vmm.destroy()
    assert list(vmm.dir.iterdir()) == []


def test_set_registers(vmm: Vmm, state: str) -> None:
    """--set-x0 is what --get-x0 shows, on a running VM what its guest has."""
    if state == "running":
        vmm.ctl("--pause")
    vmm.ctl("--set-x0=0x123456789abcdef0", "--set-x29", "17", "--set-tpidr_el1=-1")
    regs = registers(vmm.ctl("--get-x0", "--get-x29", "--get-tpidr_el1"))
    assert regs == {"x0": 0x123456789ABCDEF0, "x29": 17, "tpidr_el1": (1 << 64) - 1}


def test_a_running_guest_gets_what_was_set(vmm: Vmm) -> None:
    """x0 of a loop that counts it up goes on from the value set from outside."""
    vmm.load()
    guest = vmm.bhyve("-b", "vm")
    guest.expect(OWN_PROMPT)
    guest.line("count")
    guest.expect("counting")
    vmm.ctl("--set-x0=0x4000000000000000")
    first, second = (registers(vmm.ctl("--get-x0"))["x0"] for _ in range(2))
    assert 0x4000000000000000 < first < second < 0x4100000000000000


def test_capabilities(vmm: Vmm, state: str) -> None:
    """--getcap shows all, --setcap sets one, and what arm64 lacks is not available."""
    text = vmm.ctl("--getcap")
    assert 'Capability "unrestricted_guest" is set on vcpu 0\n' in text
    assert 'Capability "pause_exit" is not available on vcpu 0\n' in text
    assert 'Capability "mask_hwintr" is not set on vcpu 0\n' in text
    vmm.ctl("--capname=mask_hwintr", "--setcap=1")
    one = vmm.ctl("--capname=mask_hwintr", "--getcap")
    assert one == 'Capability "mask_hwintr" is set on vcpu 0\n'
    vmm.ctl("--capname=mask_hwintr", "--setcap=0")
    done = vmm.run("bhyvectl", "--vm=vm", "--capname=pause_exit", "--setcap=1")
    assert (done.status, done.err) == (
        1,
        "bhyvectl: this capability is not available on arm64\n",
    )


@pytest.mark.parametrize(
    ("option", "status", "how"),
    [("--force-reset", RESET, "reset"), ("--force-poweroff", POWERED_OFF, "poweroff")],
)
@pytest.mark.parametrize("what", ["prompt", "spin", "wfi"])
def test_force(vmm: Vmm, option: str, status: int, how: str, what: str) -> None:
    """The run ends with the status of a reset or power-off of the guest's own."""
    guest = running(vmm)
    if what != "prompt":
        guest.line(what)
        guest.expect("ing")
    vmm.ctl(option)
    assert guest.wait(5) == status
    found = json.loads(vmm.ok("bhyvectl", "--list", "--json"))["vms"][0]
    assert (found["state"], found["ended_by"]) == ("ended", how)


def test_destroy_is_quick(vmm: Vmm, figure: Callable[[str], None]) -> None:
    """A loaded and an idle running VM are gone at once; bhyve exits with status 4."""
    vmm.load()
    stopped = vmm.destroy()
    guest = running(vmm)
    idle = vmm.destroy()
    assert guest.wait(5) == ERROR
    figure(f"bhyvectl --destroy: {stopped:.2f} s of a loaded VM, {idle:.2f} s of a running one")
    assert max(stopped, idle) < 2
    assert vmm.names() == []


def test_monitor_and_destroy_on_power_off(vmm: Vmm) -> None:
    """-M takes the VM away with bhyve, -D when the guest powers off, and only then."""
    for options, command, left in (
        ("-bM", "reset", []),
        ("-bD", "off", []),
        ("-bD", "reset", ["vm"]),
    ):
        vmm.load()
        guest = vmm.bhyve(options, "vm")
        guest.expect(OWN_PROMPT)
        guest.line(command)
        assert guest.wait() in (RESET, POWERED_OFF)
        assert vmm.names() == left
    vmm.destroy()


def test_from_python(vmm: Vmm) -> None:
    """The lines of the README: a running VM opened from Python."""
    running(vmm)
    with vmmapi.VM.open("vm") as vm:
        assert 0x80000000 <= vm.vcpu(0).get("pc") < 0x80100000
        assert vm.memory.read(0x80000038, 4) == b"ARM\x64"
        assert vm.info().state is not None
