"""bhyvectl --top: what a running VM does, refreshed each second until it ends.

Rates are differences of the vCPUs' counters; hot addresses come from looking at each
vCPU's PC between two screens. Not here: what a counter counts (stats.def).
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

from bhyvepy import vmmapi
from bhyvepy.cli._symbols import Symbols
from bhyvepy.vmexit import VmState

INTERVAL_S = 1.0
SAMPLES = 20
HOT = 10
INSNS = "guest instructions executed"
EXCEPTIONS = "exceptions taken to EL1"
EXITS = "total number of vm exits"


K = TypeVar("K", str, int)


def rates(before: dict[K, int], after: dict[K, int], seconds: float) -> dict[K, float]:
    """Per second, of the counters that moved."""
    return {k: (v - before.get(k, 0)) / seconds for k, v in after.items() if v != before.get(k, 0)}


@dataclass(slots=True)
class Load:
    """What one vCPU did in a second: its counters, the interrupts that it took by INTID."""

    counters: dict[str, float]
    irqs: dict[int, float]


def screen(name: str, per_cpu: dict[int, Load], hot: Counter[str], samples: int) -> str:
    """One screen as text."""
    lines = [f"VM {name}", "", "vCPU      MIPS   exits/s  interrupts/s  exceptions at EL1/s"]
    total: Counter[str] = Counter()
    irqs: Counter[int] = Counter()
    for n, load in per_cpu.items():
        r = load.counters
        lines.append(
            f"{n:4} {r.get(INSNS, 0) / 1e6:9.1f} {r.get(EXITS, 0):9.0f}"
            f" {sum(load.irqs.values()):13.0f} {r.get(EXCEPTIONS, 0):9.0f}"
        )
        for counter, value in r.items():
            if counter.startswith("number of "):
                total[counter.removeprefix("number of ")] += round(value)
        for intid, value in load.irqs.items():
            irqs[intid] += round(value)
    lines += ["", "      a second  what"]
    lines += [f"{value:14}  {counter}" for counter, value in total.most_common(HOT)]
    lines += ["", "      a second  interrupt"]
    lines += [f"{value:14}  {intid_name(intid)}" for intid, value in irqs.most_common(HOT)]
    lines += ["", "  share  where"]
    lines += [f"{100 * n / max(1, samples):6.1f}%  {where}" for where, n in hot.most_common(HOT)]
    return "\n".join(lines)


def intid_name(intid: int) -> str:
    """An interrupt as `--dump-gic` and a device tree have it."""
    if intid == vmmapi.IRQ_LPI:
        return "LPIs"
    kind = "SGI" if intid < 16 else "PPI" if intid < 32 else "SPI"
    return f"{intid} ({kind} {intid - {'SGI': 0, 'PPI': 16, 'SPI': 32}[kind]})"


def _counts(vm: vmmapi.VM) -> dict[int, tuple[dict[str, int], dict[int, int]]]:
    return {n: (vm.vcpu(n).stats(), vm.vcpu(n).irqs()) for n in vm.cpus()}


def follow(vm: vmmapi.VM, symbols: Symbols) -> None:
    """Screens until the VM ends: in place on a terminal, else one after the other."""
    before = _counts(vm)
    start = time.monotonic()
    live = None
    if sys.stdout.isatty():
        from rich.live import Live

        live = Live(auto_refresh=False, screen=True)
        live.start()
    try:
        while vm.info().state is VmState.RUNNING:
            hot: Counter[str] = Counter()
            for _ in range(SAMPLES):
                time.sleep(INTERVAL_S / SAMPLES)
                for n in before:
                    hot[symbols.name(vm.vcpu(n).get("pc"))] += 1
            now = time.monotonic()
            after, seconds = _counts(vm), now - start
            per_cpu = {
                n: Load(rates(old[0], after[n][0], seconds), rates(old[1], after[n][1], seconds))
                for n, old in before.items()
            }
            before, start = after, now
            text = screen(vm.name, per_cpu, hot, SAMPLES * len(before))
            if live is not None:
                from rich.text import Text

                live.update(Text(text), refresh=True)
            else:
                print(text, flush=True)
    finally:
        if live is not None:
            live.stop()
