"""make bench: the same guests on bhyvepy and on qemu-system-aarch64, as ratios.

    bench/bench.py [--rounds N] [--json FILE]
    bench/bench.py --operations
    bench/bench.py --programs [--only NAME]...
    bench/bench.py --devices
    bench/bench.py --abench [--only NAME|CLASS]... [--kernel 6.1-cloud]

Responsible for the command line and for the order of things; see sides.py (what is
compared), measure.py, operations.py, programs.py, devio.py and abench.py (what is
measured; tools.py: by fio and iperf3), results.py (what is made of it).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

import abench
import devio
import measure
import operations
import programs
import tools
from results import Row, classes, machine, number, table, write_json
from rich.console import Console
from rich.table import Table
from sides import Bhyve, Image, Qemu

from bhyvepy.guests import debian
from bhyvepy.guests.demo import OWN_KERNEL

# Context switches in Linux: sched_yield(), and a byte to another process and back by pipes.
SWITCHES = ("yield", "pingpong")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="samples of each side [3]")
    parser.add_argument("--kernel", default="6.1-cloud", help="Debian kernel to boot")
    parser.add_argument("--json", metavar="FILE", help="write all samples")
    parser.add_argument("--abench", action="store_true", help="programs inside Debian's kernel")
    parser.add_argument("--programs", action="store_true", help="programs of Debian's userland")
    parser.add_argument(
        "--devices", action="store_true", help="disk, network, console; fio, iperf3"
    )
    parser.add_argument("--operations", action="store_true", help="what single operations cost")
    parser.add_argument("--only", action="append", default=[], help="of these, a name or class")
    parser.add_argument("--seconds", type=float, default=0.3, help="of one abench sample [0.3]")
    parser.add_argument("-o", dest="set", action="append", default=[], help="bhyve's -o KEY=VALUE")
    return parser.parse_args()


def show(rows: list[Row], facts: dict[str, str]) -> None:
    """The table (Markdown unless at a terminal), then the geometric means."""
    for key, value in facts.items():
        print(f"{key}: {value}")
    lines = table(rows)
    if not sys.stdout.isatty():
        print("\n" + "\n".join(lines) + "\n")
    else:
        grid = Table(header_style="bold")
        head, _, *body = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
        for n, column in enumerate(head):
            grid.add_column(column, justify="right" if 2 <= n <= 5 else "left", no_wrap=True)
        for cells in body:
            grid.add_row(*cells)
        Console().print(grid)
    for cls, ratio in classes(rows).items():
        print(f"{cls}: {number(ratio)} times as fast as QEMU (geometric mean)")


def main() -> int:
    """Measure and print."""
    opts = options()
    Bhyve.options[:] = [word for setting in opts.set for word in ("-o", setting)]
    facts = machine() | {side.name: side.version() for side in (Bhyve(), Qemu())}
    facts["options"] = " ".join(Bhyve.options)
    # VMs of a benchmark are nobody else's business.
    with tempfile.TemporaryDirectory(prefix="bhyvepy-bench-", dir="/dev/shm") as vmmdir:
        os.environ["BHYVEPY_VMMDIR"] = vmmdir

        def progress(row: Row) -> None:
            print(table([row])[-1], file=sys.stderr, flush=True)

        shares: dict[str, float] = {}
        if opts.abench:
            rows = abench.run(opts.kernel, opts.only, opts.rounds, opts.seconds, progress, shares)
        elif opts.programs:
            rows = programs.run(opts.kernel, opts.only, opts.rounds, progress)
        elif opts.devices:
            rows = devio.run(opts.kernel, opts.rounds, 1.0, progress)
            rows += tools.run(opts.kernel, opts.rounds, 2.0, progress)
        elif opts.operations:
            rows = operations.run(opts.rounds)
        else:
            debian_kernel = debian.fetch(opts.kernel)
            rows = measure.loops(Image(OWN_KERNEL, None, "guest> "), opts.rounds)
            rows.append(measure.start(Image(OWN_KERNEL, None, "guest> "), opts.rounds))
            real = Image(debian_kernel.vmlinuz, debian_kernel.initrd, "~ # ")
            rows += measure.boot(real, opts.rounds)
            rows += operations.run(opts.rounds)
            rows += devio.run(opts.kernel, opts.rounds)
            rows += abench.run(opts.kernel, SWITCHES, opts.rounds, opts.seconds)
    print()
    show(rows, facts)
    for cls, share in shares.items():
        print(f"{cls}: {100 * share:.3f} % of the instructions not by translated code")
    if opts.json:
        write_json(opts.json, facts, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
