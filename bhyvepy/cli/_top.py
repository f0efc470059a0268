"""bhyvectl --top: what a running VM does, refreshed each second until it ends.

Rates are differences of the vCPUs' counters; hot addresses come from looking at each
vCPU's PC between two screens. Not here: what a counter counts (stats.def).
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from bhyvepy import vmmapi
from bhyvepy.cli._symbols import Symbols
from bhyvepy.vmexit import VmState

INTERVAL_S = 1.0
SAMPLES = 20
HOT = 10
INSNS = "guest instructions executed"
IRQS = "exceptions taken to EL1"
EXITS = "total number of vm exits"


def rates(before: dict[str, int], after: dict[str, int], seconds: float) -> dict[str, float]:
    """Per second, of the counters that moved."""
    return {k: (v - before.get(k, 0)) / seconds for k, v in after.items() if v != before.get(k, 0)}


def screen(
    vm: vmmapi.VM, per_cpu: dict[int, dict[str, float]], hot: Counter[str], samples: int
) -> str:
    """One screen as text."""
    lines = [f"VM {vm.name}", "", "vCPU      MIPS   exits/s  exceptions at EL1/s"]
    total: Counter[str] = Counter()
    for n, r in per_cpu.items():
        lines.append(
            f"{n:4} {r.get(INSNS, 0) / 1e6:9.1f} {r.get(EXITS, 0):9.0f} {r.get(IRQS, 0):9.0f}"
        )
        for name, value in r.items():
            if name.startswith("number of "):
                total[name.removeprefix("number of ")] += round(value)
    lines += ["", "      a second  what"]
    lines += [f"{value:14}  {name}" for name, value in total.most_common(HOT)]
    lines += ["", "  share  where"]
    lines += [f"{100 * n / max(1, samples):6.1f}%  {name}" for name, n in hot.most_common(HOT)]
    return "\n".join(lines)


def follow(vm: vmmapi.VM, symbols: Symbols) -> None:
    """Screens until the VM ends: in place on a terminal, else one after the other."""
    cpus = vm.cpus()
    before = {n: vm.vcpu(n).stats() for n in cpus}
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
                for n in cpus:
                    hot[symbols.name(vm.vcpu(n).get("pc"))] += 1
            now = time.monotonic()
            after = {n: vm.vcpu(n).stats() for n in cpus}
            per_cpu = {n: rates(before[n], after[n], now - start) for n in cpus}
            before, start = after, now
            text = screen(vm, per_cpu, hot, SAMPLES * len(cpus))
            if live is not None:
                from rich.text import Text

                live.update(Text(text), refresh=True)
            else:
                print(text, flush=True)
    finally:
        if live is not None:
            live.stop()
