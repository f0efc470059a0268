"""What single operations of the machine cost: guests/tests/micro.c and timerlat.c on both sides.

Bare-metal kernels without a console to type at: they run, print figures, and switch off.
Each side runs the same image in turns.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from pathlib import Path

from results import ROOT, Row
from sides import BIN, Bhyve, cpu_seconds

SOURCES = ROOT / "guests" / "tests"
CPUS = 2
IDLE_CPUS = 16
IDLE_S = 5.0
RUN_S = 120

# Figure of micro.c -> what it is.
MICRO = {
    "svc": "exception to EL1 and back",
    "tlbi": "TLBI VAAE1IS and DSB, 2 CPUs",
    "id-register": "trapped system register",
    "hvc": "HVC round trip (PSCI_VERSION)",
    "gicd-read": "MMIO read served in C (GICD_TYPER)",
    "rtc-read": "MMIO read served in Python (PL031)",
    "sgi-awake": "SGI to a busy CPU and its answer",
    "sgi-asleep": "SGI to a CPU in WFI and its answer",
    "cache-line": "a word to another CPU and back",
}
# Of these, what leaves the guest: also with the host at EL2.
EXITS = ("id-register", "hvc", "gicd-read", "rtc-read")
VHE = "vmm.vhe=true"
QEMU = ["qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "max", "-accel", "tcg"]
QEMU += ["-m", "128", "-nodefaults", "-display", "none", "-serial", "stdio"]


def run(rounds: int) -> list[Row]:
    """One row a figure."""
    with tempfile.TemporaryDirectory(prefix="operations-") as scratch:
        subprocess.run(["make", "-s", "-C", str(SOURCES), f"OUT={scratch}"], check=True)
        folder = Path(scratch)
        rows = [Row(text, "ns") for text in MICRO.values()]
        exits = [Row(f"{MICRO[name]}, {VHE}", "ns") for name in EXITS]
        scaling = Row("two CPUs do as much as one", "%", True, goal="190 %")
        timers = [
            Row(f"1 ms deadline, {how}: {what}", "ns", goal=goal)
            for how in ("asleep", "in a loop")
            for what, goal in (("median", ""), ("99 %", "200000 ns"))
        ]
        for _ in range(rounds):
            for ours in (True, False):
                text = _output(folder / "micro", CPUS, "", ours)
                for row, name in zip(rows, MICRO, strict=True):
                    _side(row, ours).append(_number(rf"{name} (\d+) ns", text))
                _side(scaling, ours).append(_number(r"scaling (\d+) percent", text))
                text = _output(folder / "timerlat", 1, "deadlines=1000", ours)
                figures = re.findall(r"median (\d+) ns, 99 % (\d+) ns", text)
                for row, value in zip(timers, [v for pair in figures for v in pair], strict=True):
                    _side(row, ours).append(float(value))
            text = _output(folder / "micro", 1, f"only={','.join(EXITS)}", True, "-o", VHE)
            for row, name in zip(exits, EXITS, strict=True):
                row.ours.append(_number(rf"{name} (\d+) ns", text))
        idle = Row(f"idle with {IDLE_CPUS} CPUs", "% of a CPU")
        for ours in (True, False):
            _side(idle, ours).append(_idle(folder / "idle", ours))
        return [*rows, *exits, scaling, *timers, idle]


def _side(row: Row, ours: bool) -> list[float]:
    return row.ours if ours else row.qemu


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, f"no {pattern!r} in {text[-2000:]!r}"
    return float(found[1])


def _start(kernel: Path, cpus: int, args: str, ours: bool, *options: str) -> subprocess.Popen[str]:
    argv = [*QEMU, "-smp", str(cpus), "-kernel", str(kernel), "-append", args]
    if ours:
        _destroy()
        load = [str(BIN / "bhyveload"), *options, "-k", str(kernel)]
        load += ["-a", args] if args else []
        subprocess.run([*load, "operations"], check=True)
        argv = [str(BIN / "bhyve"), *Bhyve.options, "-b", "-c", str(cpus), "operations"]
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _destroy() -> None:
    argv = [str(BIN / "bhyvectl"), "--vm=operations", "--destroy"]
    subprocess.run(argv, check=False, capture_output=True)


def _output(kernel: Path, cpus: int, args: str, ours: bool, *options: str) -> str:
    """All that the kernel says; the options are bhyveload's."""
    out, err = _start(kernel, cpus, args, ours, *options).communicate(timeout=RUN_S)
    if ours:
        _destroy()
    assert "DONE" in out, out + err
    return out


def _idle(kernel: Path, ours: bool) -> float:
    """CPU time of the process while every CPU of the guest is in WFI, per cent of one."""
    proc = _start(kernel, IDLE_CPUS, "", ours)
    try:
        assert proc.stdout
        while "DONE" not in proc.stdout.readline():
            assert proc.poll() is None
        time.sleep(1)
        used, began = cpu_seconds(proc.pid), time.monotonic()
        time.sleep(IDLE_S)
        return (cpu_seconds(proc.pid) - used) / (time.monotonic() - began) * 100
    finally:
        proc.kill()
        proc.communicate()
        if ours:
            _destroy()
