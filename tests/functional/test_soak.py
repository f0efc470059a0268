"""Four vCPUs under load for a long time: `make soak`, on a core with sanitizers.

Rounds of one Linux and of the test kernels that race with each other, until SOAK_MINUTES
are over. Linux runs stress-ng, which verifies what it computes, while kernel code is
patched (static keys, modules), CPUs go off and on, and somebody looks from outside.
Everything has to be right in every round; what it adds up to is printed.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from bhyvepy.guests import debian

from .framework import Guest, Vmm
from .test_machine import Run, on_bhyve
from .test_smp import KERNELS, boot, check_stress, end, fetch

pytestmark = [pytest.mark.fetch, pytest.mark.slow, pytest.mark.long]

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
CPUS = 4
STRESS_S = 60
# Each answer takes longer on a core with sanitizers and a busy host.
PATIENCE_S = 600

# Loads that share little: compute, memory, page tables, processes, signals, code that changes.
LOADS = (
    "--cpu 4 --vm 2 --vm-bytes 64M --fork 2 --switch 2 --timer 2 --futex 2",
    "--icache 2 --mmap 2 --mmap-bytes 32M --sigsegv 2 --vecmath 2 --matrix 2",
    "--mprotect 2 --pthread 2 --pthread-max 64 --atomic 2 --tsearch 2 --branch 2",
    "--pipe 2 --fault 2 --qsort 2 --exec 2 --sem 2 --crypt 1 --hash 1",
)
# So little room for translated code that the oldest makes room; code watched for changes.
OPTIONS: tuple[tuple[str, ...], ...] = (
    (),
    ("-o", "jit.memory=1M"),
    ("-o", "jit.strict=true"),
)
# Static keys and modules: Linux writes instructions, and tells every CPU.
PATCHING = (
    "while :; do"
    " echo 1 > /proc/sys/kernel/sched_schedstats; echo 0 > /proc/sys/kernel/sched_schedstats;"
    " modprobe virtio_rng; modprobe -r virtio_rng;"
    " done > /dev/null 2>&1 & true"
)
BARE_METAL = (
    Run("soak-tlbi", "tlbi", cpus=4, args="rounds=100", seconds=PATIENCE_S),
    Run("soak-litmus", "litmus", cpus=4, args="iterations=2000 seek=0", seconds=PATIENCE_S),
    Run("soak-smp", "smp", cpus=4, args="rounds=20", seconds=PATIENCE_S),
    Run(
        "soak-storm",
        "gic_storm",
        cpus=4,
        args="interrupts=20000",
        bhyve=["-o", "gic.its=true"],
        seconds=PATIENCE_S,
    ),
)
STAT = re.compile(r"^(.+?)\s+(\d+)$", re.MULTILINE)


def stats(vmm: Vmm) -> Counter[str]:
    """What all vCPUs of the running guest have counted."""
    out: Counter[str] = Counter()
    for cpu in range(CPUS):
        for name, value in STAT.findall(vmm.ctl(f"--cpu={cpu}", "--get-stats")):
            out[name] += int(value)
    return out


def under_load(guest: Guest, load: str) -> None:
    """stress-ng and changes of code at once."""
    # Only with -v does stress-ng say which of its processes was ended by a signal.
    guest.sh(PATCHING)
    out = guest.sh(
        f"stress-ng -v {load} --timeout {STRESS_S}s --verify --metrics-brief 2>&1",
        STRESS_S * 3 + PATIENCE_S,
    )
    check_stress("\n".join(line for line in out.splitlines() if "stress-ng: debug" not in line))
    # The loop itself; what it started last may be under way.
    guest.sh("kill $!; wait $!; true", PATIENCE_S)


def linux(
    vmm: Vmm, kernel: debian.Guest, initrd: Path, load: str, options: tuple[str, ...]
) -> Counter[str]:
    """One boot, its load, and a clean end."""
    guest = boot(vmm, kernel, str(CPUS), *options, initrd=initrd)
    under_load(guest, load)
    counted = stats(vmm)
    end(vmm, guest)
    return counted


@pytest.mark.timeout(int(MINUTES * 60) + 3600)
def test_four_vcpus_hold_out(
    vmm: Vmm, debian_61: debian.Guest, stress_initrd: Path, figure: Callable[[str], None]
) -> None:
    """Round after round, everything is verified and no kernel complains."""
    more = stress_initrd.read_bytes()[len(debian_61.initrd.read_bytes()) :]
    kernels = [(name, fetch(name), stress_initrd.with_name(f"{name}.gz")) for name in KERNELS]
    for _, kernel, initrd in kernels:
        initrd.write_bytes(kernel.initrd.read_bytes() + more)
    began = time.monotonic()
    counted: Counter[str] = Counter()
    boots = 0
    while time.monotonic() - began < MINUTES * 60:
        name, kernel, initrd = kernels[boots // len(LOADS) % len(kernels)]
        load = LOADS[boots % len(LOADS)]
        options = OPTIONS[boots % len(OPTIONS)]
        counted += linux(vmm, kernel, initrd, load, options)
        run = BARE_METAL[boots % len(BARE_METAL)]
        told = on_bhyve(vmm, run)
        assert (told.failed, told.done) == ([], True), told.text
        boots += 1
        print(
            f"{(time.monotonic() - began) / 60:.1f} min, boot {boots}: {name} {options}, {load}",
            flush=True,
        )
    figure(
        f"soak: {(time.monotonic() - began) / 60:.1f} minutes, {boots} boots of Linux,"
        f" {boots} of test kernels"
    )
    for name, value in sorted(counted.items()):
        figure(f"soak: {name}: {value}")
