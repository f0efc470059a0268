"""bhyvectl's deeper looks at a running Linux: tables, timers, device tree, plot of the exits."""

from __future__ import annotations

import json
import re
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bhyvepy.cli._symbols import Symbols

from .conftest import fetch
from .framework import OWN_PROMPT, POWERED_OFF, Vmm, until
from .test_gdb import free_port
from .test_machine import kernel
from .test_smp import boot, end

RAM = 0x80000000
GPIO_INTID = 41


@pytest.mark.fetch
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_linux(vmm: Vmm, tmp_path: Path) -> None:
    """What is shown is what the guest has."""
    guest = boot(vmm, fetch("6.12-cloud"), "2")
    # What Linux has asked its interrupt controller for: GICv3, INTID, trigger, device.
    asked = re.findall(r"GICv3 +(\d+) (Level|Edge) +(\S+)", guest.sh("cat /proc/interrupts"))
    # The virtual address of the kernel's text, as Linux knows it.
    text = int(guest.sh("grep ' _stext$' /proc/kallsyms | head -1").split()[0], 16)
    vmm.ctl("--pause")
    try:
        found = json.loads(vmm.ctl("--dump-stage1", "--dump-stage2", "--dump-timer", "--json"))
        rows = [line.split("\t") for line in vmm.ctl("--dump-gic").splitlines()]
        gic = json.loads(vmm.ctl("--dump-gic", "--json"))["gic"]
    finally:
        vmm.ctl("--resume")
    covering = [r for r in found["stage1"] if r["start"] <= text < r["end"]]
    assert len(covering) == 1, found["stage1"][:50]
    assert covering[0]["attributes"].startswith("EL1 r-x EL0 ---"), covering
    assert RAM <= covering[0]["to"] < RAM + (512 << 20)
    assert any("EL1 rw- EL0 ---" in r["attributes"] for r in found["stage1"])
    ram = [r for r in found["stage2"] if RAM <= r["start"] < RAM + (512 << 20)]
    assert sum(r["end"] - r["start"] for r in ram) >= 32 << 20
    assert found["timer"]["virtual"]["enabled"]
    check_gic(gic, rows, asked)
    dts = vmm.ctl("--dump-fdt")
    compiled = subprocess.run(
        ["dtc", "-q", "-I", "dts", "-O", "dtb"], input=dts.encode(), capture_output=True, check=True
    )
    assert compiled.stdout[:4] == b"\xd0\x0d\xfe\xed"
    assert 'compatible = "arm,gic-v3"' in dts
    assert "console=ttyS0" in dts
    plot = tmp_path / "exits.svg"
    vmm.ctl(f"--exits-plot={plot}")
    root = ET.parse(plot).getroot()
    words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a data abort" in words
    stats = dict(
        re.findall(r"^(.*?)\s*\t(\d+)$", vmm.ctl("--get-stats"), re.MULTILINE),
    )
    assert int(stats["blocks of code translated"]) > 1000
    assert int(stats["bytes of host code made of them"]) > 100000
    calls = int(stats["handlers called by translated code"])
    kinds = [int(v) for name, v in stats.items() if name.startswith("handlers called: ")]
    assert len(kinds) == 4
    assert sum(kinds) == calls > 1000
    # Of the instructions of a whole boot, few are not lowered or run seldom.
    assert 100 < int(stats["instructions in a million not translated"]) < 20000
    names = tmp_path / "System.map"
    names.write_text(guest.sh("cat /proc/kallsyms", 30))
    guest.sh("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done", 60)
    hot = json.loads(vmm.ctl("--get-stats", "--json", f"--symbols={names}"))["hot"]
    assert 1 <= len(hot) <= 10
    assert all(0 < h["share"] <= 1 for h in hot), hot
    assert any(not h["name"].startswith("0x") for h in hot), hot
    end(vmm, guest)


def check_gic(gic: Any, rows: list[list[str]], asked: list[tuple[str, str, str]]) -> None:
    """The interrupts that Linux of two vCPUs has asked for are on, as it has asked."""
    assert {"arch_timer", "ttyS0"} <= {name for _, _, name in asked}, asked
    assert (gic["version"], gic["its"], gic["gicd_ctlr"]) == (3, None, "0x53")
    assert [(c["vcpu"], c["asleep"], c["pmr"]) for c in gic["cpus"]] == [
        (0, False, 0xF0),
        (1, False, 0xF0),
    ]
    assert len(gic["interrupts"]) == 2 * 32 + 988
    enabled = {(i["intid"], i["vcpu"]): i for i in gic["interrupts"] if i["enabled"]}
    for intid, trigger, name in asked:
        for cpu in (0, 1) if int(intid) < 32 else (None,):
            irq = enabled[int(intid), cpu]
            assert irq["edge"] is (trigger == "Edge"), (name, irq)
            assert irq["target"] in (0, 1)
    spis = {int(n) for n, *_ in asked if int(n) >= 32}
    # The power button's PL061 is a controller of its own, whose parent Linux does not list.
    assert {n for n, _ in enabled if n >= 32} == spis | {GPIO_INTID}
    listed = [tuple(row[:4]) for row in rows if len(row) == 11 and row[0] != "INTID"]
    for (intid, _), irq in enabled.items():
        assert (str(intid), irq["kind"].upper(), str(irq["target"]), "yes") in listed
    assert len(listed) < 100


def test_trace(vmm: Vmm, tmp_path: Path) -> None:
    """Exits of a guest that runs, by kind, while they happen; it ends with the machine."""
    vmm.load("-k", kernel("rtc"), "-m", "64M")
    guest = vmm.bhyve("-b", "-G", f"w{free_port()}", "vm")  # held until the trace is on
    until("the VM runs", lambda: '"running"' in vmm.ok("bhyvectl", "--list", "--json"))
    out = tmp_path / "out"
    with out.open("wb") as f:
        tracer = vmm.start("bhyvectl", "--vm=vm", "--trace=mmio,hvc,sysreg", stdout=f)
        time.sleep(2)  # no vCPU runs yet, so nothing says that it is on
        vmm.ctl("--resume")
        guest.expect("DONE", 60)
        assert guest.wait() == POWERED_OFF
        assert tracer.wait(20) == 0
    lines = out.read_text().splitlines()
    assert lines
    form = re.compile(r"\d+\.\d{6} 0 (mmio|hvc|sysreg) 0x[0-9a-f]+ .*|\(\d+ lost\)")
    assert all(form.fullmatch(x) for x in lines), [x for x in lines if not form.fullmatch(x)][:5]
    text = "\n".join(lines)
    assert re.search(r" mmio 0x8\w+ write 1 0x10000 = 0x50\n", text), "the P of PASS"
    seconds = re.findall(r" mmio 0x8\w+ read 4 0x11000 = 0x(\w+)\n", text)
    assert seconds, "the RTC"
    assert abs(int(seconds[0], 16) - time.time()) < 3600, seconds
    assert re.search(r" mmio 0x8\w+ read 4 0x2f00\w+ = 0x\w+\n", text), "GICD, read in C"
    assert re.search(r" hvc 0x8\w+ 0x84000008$", text), "SYSTEM_OFF is the last"
    bad = vmm.run("bhyvectl", "--vm=vm", "--trace=mmio,nothing")
    assert (bad.status, bad.out) == (1, "")
    assert bad.err.startswith("bhyvectl: --trace: no kind 'nothing'; use mmio, sysreg")


def test_top(vmm: Vmm, tmp_path: Path) -> None:
    """Rates and hot functions by name, until the VM ends; a file without symbols is refused."""
    image = kernel("idle")
    vmm.load("-k", image, "-m", "64M")
    guest = vmm.bhyve("-b", "vm")
    until("the VM runs", lambda: '"running"' in vmm.ok("bhyvectl", "--list", "--json"))
    names = tmp_path / "map"
    names.write_text("0000000080000000 T the_kernel\n")
    out = tmp_path / "out"
    with out.open("wb") as f:
        top = vmm.start("bhyvectl", "--vm=vm", "--top", f"--symbols={names}", stdout=f)
        until("a screen", lambda: out.read_text().count("share  where") > 1, 20)
        vmm.ctl("--force-poweroff")
        assert top.wait(20) == 0
    guest.wait()
    text = out.read_text()
    assert re.search(r"^ +0 +\d+\.\d +\d+ +\d+ +\d+$", text, re.MULTILINE), text
    assert "100.0%  the_kernel" in text, text
    assert "secondary_main" in Symbols(f"{image}.elf").known
    names.write_text("nothing\n")
    bad = vmm.run("bhyvectl", "--vm=vm", "--top", f"--symbols={names}")
    assert (bad.status, bad.out) == (1, "")
    assert "has no symbols" in bad.err


def test_interrupts(vmm: Vmm, tmp_path: Path) -> None:
    """Our own kernel's tick: its rate by --top, and where it comes from by --trace=irq."""
    vmm.load()
    guest = vmm.bhyve("-b", "vm")
    guest.expect(OWN_PROMPT)
    screens, trace = tmp_path / "screens", tmp_path / "trace"
    with screens.open("wb") as f, trace.open("wb") as g:
        top = vmm.start("bhyvectl", "--vm=vm", "--top", stdout=f)
        tracer = vmm.start("bhyvectl", "--vm=vm", "--trace=irq", stdout=g)
        until("two screens", lambda: screens.read_text().count("share  where") > 2, 20)
        vmm.ctl("--force-poweroff")
        assert (top.wait(20), tracer.wait(20)) == (0, 0)
    guest.wait()
    rates = re.findall(r"^ +(\d+)  27 \(PPI 11\)$", screens.read_text(), re.MULTILINE)
    assert any(80 <= int(n) <= 120 for n in rates), screens.read_text()
    lines = [x for x in trace.read_text().splitlines() if not x.endswith(" lost)")]
    form = re.compile(r"\d+\.\d{6} 0 irq 0x[0-9a-f]+ (27 to the guest|\d+ (kick|vtimer|gone))")
    assert all(form.fullmatch(x) for x in lines), [x for x in lines if not form.fullmatch(x)][:5]
    assert sum(x.endswith("27 to the guest") for x in lines) > 100


def test_before_the_run(vmm: Vmm, tmp_path: Path) -> None:
    """Without an MMU nothing is mapped; a file that cannot be written is one line."""
    vmm.load("-k", kernel("rtc"), "-m", "64M")
    assert vmm.ctl("--dump-stage1") in ("", "\n")
    none = vmm.run("bhyvectl", "--vm=vm", "--dump-gic", "--json")
    assert (none.status, none.out) == (1, "")
    assert none.err == "bhyvectl: VM vm has no interrupt controller yet: bhyve gives it one\n"
    done = vmm.run("bhyvectl", "--vm=vm", f"--exits-plot={tmp_path}/none/x.svg")
    assert done.status != 0
    assert re.fullmatch(r"bhyvectl: .*no such file or directory\n", done.err), done.err
    vmm.ctl(f"--exits-plot={tmp_path}/x.svg")
    assert "no exits" in (tmp_path / "x.svg").read_text()
