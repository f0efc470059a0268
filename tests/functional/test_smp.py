"""Debian's kernels with several vCPUs: boot, hotplug, topology, pinning, clocks, load."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bhyvepy.guests import debian, initramfs

from .conftest import fetch
from .framework import BOOT_S, LINUX_PROMPT, POWERED_OFF, Guest, Vmm
from .test_debian import TROUBLE
from .test_machine import kernel as bare_metal

pytestmark = [pytest.mark.fetch, pytest.mark.slow, pytest.mark.timeout(600)]

CPUS = (1, 2, 4, 8, 16)
KERNELS = ("6.1-cloud", "6.12-cloud")
BOOTS_LONG = 20
ONLINE = "/sys/devices/system/cpu/online"


def boot(
    vmm: Vmm, kernel: debian.Guest, cpus: str, *argv: str, initrd: Path | None = None
) -> Guest:
    """Up to the prompt, with the kernel's messages off the console."""
    files = ("-k", kernel.vmlinuz, "-i", initrd or kernel.initrd, "-m", "512M")
    vmm.load(*files, "-a", "console=ttyS0")
    guest = vmm.bhyve("-b", "-c", cpus, *argv, "vm")
    guest.expect(initramfs.MARKER, BOOT_S)
    guest.expect(LINUX_PROMPT)
    guest.sh("dmesg -n 1")
    return guest


def end(vmm: Vmm, guest: Guest) -> None:
    """A log without trouble, and off."""
    log = guest.sh("dmesg")
    assert not TROUBLE.search(log), log
    guest.line("poweroff -f")
    assert guest.wait() == POWERED_OFF
    vmm.destroy()


def boot_and_count(vmm: Vmm, kernel: debian.Guest, cpus: int) -> float:
    """All vCPUs come up; seconds to the shell."""
    guest = boot(vmm, kernel, str(cpus))
    took = guest.seconds
    assert guest.sh(f"cat {ONLINE}") == (f"0-{cpus - 1}" if cpus > 1 else "0")
    assert guest.sh("grep -c ^processor /proc/cpuinfo") == str(cpus)
    end(vmm, guest)
    return took


@pytest.mark.parametrize(("name", "cpus"), [("6.1-cloud", 2), ("6.12-cloud", 16)])
def test_all_vcpus_come_up(vmm: Vmm, figure: Callable[[str], None], name: str, cpus: int) -> None:
    """A sample of kernels and numbers: the shell comes, every CPU is online, the log is clean."""
    took = boot_and_count(vmm, fetch(name), cpus)
    figure(f"{name} with {cpus} vCPUs: shell after {took:.1f} s")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cpus", CPUS)
@pytest.mark.parametrize("name", KERNELS)
def test_twenty_boots_of_twenty(
    vmm: Vmm, figure: Callable[[str], None], name: str, cpus: int
) -> None:
    """The same, twenty times each."""
    took = [boot_and_count(vmm, fetch(name), cpus) for _ in range(BOOTS_LONG)]
    figure(f"{name} with {cpus} vCPUs, {BOOTS_LONG} boots: {min(took):.1f} to {max(took):.1f} s")


def hotplug(guest: Guest, cpus: int, rounds: int) -> None:
    """Every CPU but the first off and on again, then the first."""
    one = "/sys/devices/system/cpu/cpu$c/online"
    others = " ".join(str(n) for n in range(1, cpus))
    for _ in range(rounds):
        guest.sh(f"for c in {others}; do echo 0 > {one} || exit 1; done")
        assert guest.sh(f"cat {ONLINE}") == "0"
        guest.sh(f"for c in {others}; do echo 1 > {one} || exit 1; done")
        guest.sh(f"c=0; echo 0 > {one}")
        assert guest.sh(f"cat {ONLINE}") == (f"1-{cpus - 1}" if cpus > 2 else "1")
        guest.sh(f"c=0; echo 1 > {one}")
    assert guest.sh(f"cat {ONLINE}") == f"0-{cpus - 1}"


def test_every_cpu_goes_off_and_on(vmm: Vmm, debian_61: debian.Guest) -> None:
    """Linux's hotplug: CPU_OFF, AFFINITY_INFO, CPU_ON; the boot CPU too."""
    guest = boot(vmm, debian_61, "4")
    hotplug(guest, 4, 3)
    end(vmm, guest)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", KERNELS)
def test_every_cpu_goes_off_and_on_a_hundred_times(vmm: Vmm, name: str) -> None:
    """The same, 100 times."""
    guest = boot(vmm, fetch(name), "4")
    hotplug(guest, 4, 100)
    end(vmm, guest)


def test_the_topology_is_what_was_asked_for(vmm: Vmm, debian_61: debian.Guest) -> None:
    """sockets, cores and threads of -c, as Linux finds them in the tree's cpu-map."""
    guest = boot(vmm, debian_61, "cpus=8,sockets=2,cores=2,threads=2")
    cpu = "/sys/devices/system/cpu/cpu"
    assert guest.sh(f"cat {cpu}[0-7]/topology/physical_package_id").split() == list("00001111")
    assert guest.sh(f"cat {cpu}5/topology/core_cpus_list") == "4-5"
    assert guest.sh(f"cat {cpu}5/topology/package_cpus_list") == "4-7"
    end(vmm, guest)


def test_vcpus_are_pinned(vmm: Vmm, debian_61: debian.Guest) -> None:
    """-p with one CPU, with a range of vCPUs and repeated: the threads' masks are those."""
    allowed = sorted(os.sched_getaffinity(0))
    first, last = allowed[0], allowed[-1]
    pins = ("-p", f"0:{last}", "-p", f"1-2:{first}", "-p", f"3:{first}", "-p", f"3:{last}")
    guest = boot(vmm, debian_61, "4", *pins)
    masks = [os.sched_getaffinity(int(task)) for task in os.listdir(f"/proc/{guest.pid}/task")]
    assert masks.count({first}) >= 2
    assert {last} in masks
    assert {first, last} in masks
    end(vmm, guest)


def test_smc_is_the_conduit_that_linux_takes(vmm: Vmm, debian_61: debian.Guest) -> None:
    """With -o psci.method=smc the tree says so, and CPUs come up and go off by it."""
    guest = boot(vmm, debian_61, "2", "-o", "psci.method=smc")
    assert guest.sh("tr -d '\\0' < /proc/device-tree/psci/method") == "smc"
    hotplug(guest, 2, 1)
    end(vmm, guest)


def test_spinning_vcpus_do_not_stop_the_rest(vmm: Vmm, debian_61: debian.Guest) -> None:
    """16 vCPUs, 12 busy: a shell command that touches every CPU is answered all the same."""
    guest = boot(vmm, debian_61, "16")
    guest.sh("i=0; while [ $i -lt 12 ]; do (while :; do :; done) & i=$((i+1)); done")
    began = time.monotonic()
    # modprobe makes all CPUs synchronise; the pipe makes processes and wakes CPUs.
    for _ in range(2):
        guest.sh("modprobe -r virtio_rng; modprobe virtio_rng; seq 100 | sort | tail -1")
    assert time.monotonic() - began < 60
    # Waited for: a SIGCHLD in the middle of write() would make the shell lose its prompt.
    guest.sh("kill $(jobs -p); wait")
    end(vmm, guest)


def test_linux_sets_its_clock_and_takes_the_alarm(vmm: Vmm, debian_61: debian.Guest) -> None:
    """rtc-pl031 is rtc0: the time is the host's, and wakealarm is an interrupt."""
    guest = boot(vmm, debian_61, "1")
    assert guest.sh("cat /sys/class/rtc/rtc0/name").startswith("rtc-pl031")
    assert abs(int(guest.sh("date +%s")) - time.time()) < 10
    assert abs(int(guest.sh("cat /sys/class/rtc/rtc0/since_epoch")) - time.time()) < 5
    count = "grep rtc-pl031 /proc/interrupts | tr -s ' ' | cut -d' ' -f3"
    assert guest.sh(count) == "0"
    guest.sh("echo +2 > /sys/class/rtc/rtc0/wakealarm; sleep 4")
    assert guest.sh(count) == "1"
    end(vmm, guest)


def test_linux_sees_stolen_time(vmm: Vmm, debian_61: debian.Guest) -> None:
    """Two busy vCPUs on one host CPU: what one does not get is steal in /proc/stat."""
    host = str(min(os.sched_getaffinity(0)))
    guest = boot(vmm, debian_61, "2", "-p", f"0-1:{host}")
    assert "arm-pv: using stolen time PV" in guest.sh("dmesg | grep arm-pv")
    guest.sh("(while :; do :; done) & (while :; do :; done) & sleep 3; kill $(jobs -p); wait")
    user, _, system, idle, _, _, _, steal = map(int, guest.sh("head -1 /proc/stat").split()[1:9])
    assert steal > 100, (user, system, idle, steal)
    end(vmm, guest)


def switches(pid: int) -> dict[str, int]:
    """How often each thread of a process has given its CPU away."""
    out = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", (task / "status").read_text(), re.M)
        assert found
        out[task.name] = int(found[1])
    return out


def cpu_ticks(pid: int) -> int:
    """CPU time of a process, in clock ticks."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


@pytest.mark.parametrize("how", ["", "wfe"])
def test_nobody_wakes_without_something_to_do(vmm: Vmm, how: str) -> None:
    """16 vCPUs in WFI, or in WFE without an event stream: no thread of bhyve runs at all."""
    vmm.load("-k", bare_metal("idle"), "-a", how or "wfi")
    guest = vmm.bhyve("-b", "-c", "16", "vm")
    guest.expect("DONE 1 passed")
    time.sleep(1)
    before, used = switches(guest.pid), cpu_ticks(guest.pid)
    time.sleep(3)
    assert switches(guest.pid) == before
    assert cpu_ticks(guest.pid) - used <= 1
    vmm.destroy()


def stress(vmm: Vmm, kernel: debian.Guest, initrd: Path, seconds: int) -> str:
    """The load of the issue: what stress-ng says of it."""
    guest = boot(vmm, kernel, "4", initrd=initrd)
    out = guest.sh(
        "stress-ng --cpu 4 --vm 2 --vm-bytes 64M --fork 2 --switch 2 --timer 2 --futex 2"
        f" --timeout {seconds}s --verify --metrics-brief 2>&1",
        seconds * 3 + 120,
    )
    end(vmm, guest)
    return out


def check_stress(out: str) -> None:
    """Every stressor did something and verified it."""
    assert "successful run completed" in out, out
    assert not re.search(r"fail|error", out), out


def test_stress_is_clean(vmm: Vmm, debian_61: debian.Guest, stress_initrd: Path) -> None:
    """Ten seconds of stress-ng on 4 vCPUs: everything verified, no line of trouble."""
    check_stress(stress(vmm, debian_61, stress_initrd, 10))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_minute_of_stress_is_clean(
    vmm: Vmm, debian_61: debian.Guest, stress_initrd: Path, figure: Callable[[str], None]
) -> None:
    """The same for a minute."""
    out = stress(vmm, debian_61, stress_initrd, 60)
    check_stress(out)
    for line in re.findall(r"metrc: \[\d+\] (\w+ +\d+ .*)", out):
        figure(f"stress-ng: {line.strip()}")
