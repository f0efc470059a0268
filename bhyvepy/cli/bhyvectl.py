"""bhyvectl(8): create, inspect, change, stop and destroy VMs.

Options and their order of execution only; the work is in vmmapi.py, the three
output forms in _output.py. --get-<register> and --set-<register> are generated
from the register table of the core.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from bhyvepy import config, layout, vmmapi
from bhyvepy.cli import _run
from bhyvepy.cli._output import Report
from bhyvepy.cli._symbols import Symbols
from bhyvepy.errors import ConfigError, VmDamagedError, VmNotFoundError, printable
from bhyvepy.vmexit import SuspendHow

PROG = "bhyvectl"
app = _run.new_app()

# --trace alone is all kinds.
OPTIONAL = {"--trace": _run.Optional(lambda _word: False, "")}

Flag = Annotated[bool, typer.Option()]


def _snapshot(name: str) -> Any:
    def callback(value: str | None) -> None:
        if value is not None:
            raise ConfigError(f"{name}: snapshots are not there yet")

    return typer.Option(name, hidden=True, callback=callback)


def _flag(name: str, text: str) -> Any:
    return typer.Option(name, help=text, show_default=False)


@app.command(
    context_settings=_run.SETTINGS,
    epilog="Every register has options of its own: --get-x0, --set-pc=VALUE, --get-sctlr_el1 ...",
)
def bhyvectl(
    vm: Annotated[str | None, typer.Option("--vm", metavar="NAME", help="The VM.")] = None,
    cpu: Annotated[int, typer.Option("--cpu", help="vCPU of the per-vCPU actions.")] = 0,
    list_: Annotated[bool, _flag("--list", "All VMs of yours.")] = False,
    create: Annotated[bool, _flag("--create", "Make an empty VM.")] = False,
    set_mem: Annotated[
        str | None, typer.Option("--set-mem", metavar="MB", help="Give an empty VM RAM.")
    ] = None,
    get_memseg: Annotated[bool, _flag("--get-memseg", "Memory segments.")] = False,
    get_memmap: Annotated[bool, _flag("--get-memmap", "Guest physical memory map.")] = False,
    get_reg: Annotated[
        list[str] | None, typer.Option("--get-reg", metavar="REG", help="One register.")
    ] = None,
    set_reg: Annotated[
        list[str] | None, typer.Option("--set-reg", metavar="REG=V", help="Set one register.")
    ] = None,
    capname: Annotated[str | None, typer.Option("--capname", help="A capability.")] = None,
    setcap: Annotated[int | None, typer.Option("--setcap", help="0 or 1.")] = None,
    getcap: Annotated[bool, _flag("--getcap", "The capability, or all.")] = False,
    get_active_cpus: Annotated[bool, _flag("--get-active-cpus", "Active vCPUs.")] = False,
    get_suspended_cpus: Annotated[
        bool, _flag("--get-suspended-cpus", "vCPUs that wait to be started or suspended.")
    ] = False,
    get_debug_cpus: Annotated[
        bool, _flag("--get-debug-cpus", "vCPUs held by --pause or a debugger.")
    ] = False,
    get_stats: Annotated[bool, _flag("--get-stats", "Counters of the vCPU.")] = False,
    get_cpu_topology: Annotated[bool, _flag("--get-cpu-topology", "Topology.")] = False,
    dump_stage1: Annotated[
        bool, _flag("--dump-stage1", "What the vCPU's translation tables map.")
    ] = False,
    dump_stage2: Annotated[bool, _flag("--dump-stage2", "What the VM's memory map maps.")] = False,
    dump_timer: Annotated[bool, _flag("--dump-timer", "Timers of the vCPU.")] = False,
    dump_gic: Annotated[
        bool, _flag("--dump-gic", "The interrupt controller: vCPUs and interrupts.")
    ] = False,
    dump_fdt: Annotated[bool, _flag("--dump-fdt", "The device tree, as source.")] = False,
    exits_plot: Annotated[
        str | None, typer.Option("--exits-plot", metavar="FILE", help="Draw the exits as SVG.")
    ] = None,
    get_all: Annotated[bool, _flag("--get-all", "All of the above, and all registers.")] = False,
    trace: Annotated[
        str | None,
        typer.Option("--trace", metavar="[=KIND,...]", help="Print exits as they happen."),
    ] = None,
    top: Annotated[bool, _flag("--top", "What the VM does, each second.")] = False,
    symbols: Annotated[
        str | None,
        typer.Option("--symbols", metavar="FILE", help="ELF or System.map: names of PCs."),
    ] = None,
    run_once: Annotated[bool, _flag("--run", "Run the vCPU up to its next exit.")] = False,
    pause: Annotated[bool, _flag("--pause", "Hold all vCPUs.")] = False,
    resume: Annotated[bool, _flag("--resume", "Let them go on.")] = False,
    force_reset: Annotated[bool, _flag("--force-reset", "Reset the VM.")] = False,
    force_poweroff: Annotated[bool, _flag("--force-poweroff", "Power the VM off.")] = False,
    destroy: Annotated[bool, _flag("--destroy", "Remove the VM.")] = False,
    checkpoint: Annotated[str | None, _snapshot("--checkpoint")] = None,
    suspend: Annotated[str | None, _snapshot("--suspend")] = None,
    completion: Annotated[
        str | None,
        typer.Option("--completion", metavar="SHELL", help="Completion for bash, zsh or fish."),
    ] = None,
    as_json: Annotated[bool, _flag("--json", "Print JSON.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_run.show_version(PROG), is_eager=True, help="Print the version."
        ),
    ] = False,
) -> int:
    """Inspect and control a VM. The actions are done in the order of this list."""
    if completion is not None:
        from bhyvepy.cli import _complete

        if completion not in _complete.SHELLS:
            known = ", ".join(_complete.SHELLS)
            raise ConfigError(f"--completion: no shell {printable(completion, 40)}; use {known}")
        print(_complete.SHELLS[completion](), end="")
        return 0
    report = Report(as_json)
    if list_:
        show_list(report)
    if vm is None:
        if not list_:
            raise typer.BadParameter("--vm=NAME is missing")
        report.show()
        return 0
    vmmapi.check_name(vm)
    asked = Asked(
        memseg=get_memseg or get_all,
        memmap=get_memmap or get_all,
        registers=list(get_reg or []),
        all_registers=get_all,
        symbols=symbols,
        active_cpus=get_active_cpus or get_all,
        suspended_cpus=get_suspended_cpus or get_all,
        debug_cpus=get_debug_cpus or get_all,
        stats=get_stats or get_all,
        topology=get_cpu_topology or get_all,
    )
    dumps = [
        name
        for name, on in (
            ("stage1", dump_stage1),
            ("stage2", dump_stage2),
            ("timer", dump_timer),
            ("gic", dump_gic),
            ("fdt", dump_fdt),
        )
        if on
    ]
    changes = (
        create or set_mem or set_reg or run_once or pause or resume or force_reset or force_poweroff
    )
    looks = bool(asked.anything or dumps or exits_plot)
    if trace is not None:
        from bhyvepy.cli import _trace

        kinds = _trace.parse_kinds(trace)
        with vmmapi.VM.open(vm) as machine:
            for line in _trace.follow(machine, kinds):
                print(line, flush=True)
        return 0
    if symbols is not None and not (top or get_stats or get_all):
        raise typer.BadParameter("--symbols is for --top and --get-stats")
    if top:
        from bhyvepy.cli import _top

        with vmmapi.VM.open(vm) as machine:
            _top.follow(machine, Symbols(symbols))
        return 0
    if changes or looks or getcap or setcap is not None:
        with vmmapi.VM.create(vm) if create else vmmapi.VM.open(vm) as machine:
            vcpu = machine.vcpu(cpu)
            if set_mem is not None:
                machine.setup_memory(layout.RAM_BASE, _set_mem_size(set_mem))
            if set_reg:
                vcpu.set_many(dict(_assignment(text) for text in set_reg))
            if setcap is not None:
                _set_capability(vcpu, capname, setcap)
            if getcap:
                show_capabilities(report, vcpu, capname)
            asked.show(report, machine, vcpu)
            if dumps or exits_plot:
                _look(report, machine, vcpu, dumps, exits_plot)
            if run_once:
                _run_once(machine, vcpu)
            if pause:
                machine.suspend_cpu()
            if resume:
                machine.resume_cpu()
            if force_reset:
                machine.suspend(SuspendHow.RESET)
            if force_poweroff:
                machine.suspend(SuspendHow.POWEROFF)
    elif not destroy:
        vmmapi.stat_vm(vm)
    report.show()
    if destroy:
        sys.stdout.flush()
        vmmapi.VM.destroy_named(vm)
    return 0


def _look(
    report: Report, vm: vmmapi.VM, vcpu: vmmapi.VCPU, dumps: Sequence[str], plot: str | None
) -> None:
    """The --dump- actions and the plot, in the order of the options."""
    from bhyvepy.cli import _dump, _gic

    show: dict[str, Callable[[], None]] = {
        "stage1": lambda: _dump.show_ranges(
            report, "stage1", f"Stage 1 of vCPU {vcpu.vcpuid}", _dump.stage1(vm, vcpu)
        ),
        "stage2": lambda: _dump.show_ranges(report, "stage2", "Stage 2", _dump.stage2(vm)),
        "timer": lambda: _dump.show_timer(report, vcpu),
        "gic": lambda: _gic.show(report, vm),
        "fdt": lambda: _dump.show_fdt(report, vm),
    }
    for name in dumps:
        show[name]()
    if plot is not None:
        with open(plot, "w", encoding="utf-8") as f:
            f.write(_dump.exits_svg(_dump.exit_counts(vm), f"Exits of {vm.name}"))


def _run_once(vm: vmmapi.VM, vcpu: vmmapi.VCPU) -> None:
    """One vm_run(), on a thread of its own: so Ctrl-C ends it."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            vcpu.run()
        except BaseException as err:
            errors.append(err)

    vm.run_begin()
    try:
        if vcpu.vcpuid not in vm.cpus():
            vm.activate_cpu(vcpu.vcpuid)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.2)
        except BaseException:
            vm.suspend(SuspendHow.HALT)
            thread.join()
            raise
    finally:
        vm.run_end()
    if errors:
        raise errors[0]


class Asked:
    """The --get- actions of a command line, and how each is shown."""

    def __init__(self, **wanted: Any) -> None:
        self.registers: list[str] = wanted.pop("registers")
        self.all_registers: bool = wanted.pop("all_registers")
        self.symbols: str | None = wanted.pop("symbols")
        self.wanted = [name for name, on in wanted.items() if on]

    @property
    def anything(self) -> bool:
        """Whether there is something to get."""
        return bool(self.wanted or self.registers or self.all_registers)

    def show(self, report: Report, vm: vmmapi.VM, vcpu: vmmapi.VCPU) -> None:
        """Collect it, in the fixed order of bhyvectl."""
        for name in ("memseg", "memmap"):
            if name in self.wanted:
                _SHOW[name](report, vm, vcpu)
        if self.all_registers:
            show_registers(report, vcpu, vcpu.get_all())
        elif self.registers:
            show_registers(report, vcpu, vcpu.get_set(self.registers))
        for name in ("active_cpus", "suspended_cpus", "debug_cpus", "stats", "topology"):
            if name in self.wanted:
                _SHOW[name](report, vm, vcpu)
            if name == "stats" and name in self.wanted:
                show_hot(report, vcpu, Symbols(self.symbols))


def show_memseg(report: Report, vm: vmmapi.VM, _vcpu: vmmapi.VCPU) -> None:
    """ID, length, name."""
    segs = vm.memsegs()
    rows = [(str(i), vmmapi.format_size(n), name) for i, n, name in segs]
    report.add(
        "memseg",
        [{"id": i, "length": n, "name": name} for i, n, name in segs],
        [f"{a:<4} {b:<12} {c}" for a, b, c in [("ID", "Length", "Name"), *rows]],
        title="Memory segments",
        columns=("ID", "Length", "Name"),
        rows=rows,
    )


def show_memmap(report: Report, vm: vmmapi.VM, _vcpu: vmmapi.VCPU) -> None:
    """Address, length, segment, offset, protection, flags."""
    rows, values = [], []
    for m in vm.memmap():
        prot = "".join(c if m.prot >> n & 1 else "-" for n, c in enumerate("RWX"))
        flags = "wired" if m.flags & 1 else ""
        seg = vmmapi.SEG_NAMES.get(m.segid, str(m.segid))
        rows.append((f"{m.gpa:X}", vmmapi.format_size(m.length), seg, f"{m.segoff:X}", prot, flags))
        values.append(
            {
                "address": m.gpa,
                "length": m.length,
                "segment": seg,
                "offset": m.segoff,
                "prot": prot,
                "wired": bool(flags),
            }
        )
    head = ("Address", "Length", "Segment", "Offset", "Prot", "Flags")
    report.add(
        "memmap",
        values,
        ["".join(f"{c:<12}" for c in row).rstrip() for row in [head, *rows]],
        title="Memory map",
        columns=head,
        rows=rows,
    )


def show_registers(report: Report, vcpu: vmmapi.VCPU, values: dict[str, int]) -> None:
    """name[vcpu] and 16 hexadecimal digits."""
    n = vcpu.vcpuid
    report.add(
        "registers",
        {name: f"{v:#018x}" for name, v in values.items()},
        [f"{name}[{n}]\t\t0x{v:016x}" for name, v in values.items()],
        title=f"Registers of vCPU {n}",
        columns=("Register", "Value"),
        rows=[(name, f"0x{v:016x}") for name, v in values.items()],
    )


def _show_cpus(which: int, key: str) -> Callable[[Report, vmmapi.VM, vmmapi.VCPU], None]:
    label = key.replace("_", " ")

    def show(report: Report, vm: vmmapi.VM, _vcpu: vmmapi.VCPU) -> None:
        cpus = vm.cpus(which)
        text = ", ".join(map(str, cpus)) or "(none)"
        report.add(
            key,
            cpus,
            [f"{label}:\t {text}"],
            title="",
            columns=(label, text),
            rows=[],
        )

    return show


INTERPRETED = "instructions interpreted, not translated yet"


def show_stats(report: Report, _vm: vmmapi.VM, vcpu: vmmapi.VCPU) -> None:
    """Counters, by FreeBSD's names."""
    stats = vcpu.stats()
    if INTERPRETED in stats:
        slow = stats["handlers called by translated code"] + stats[INTERPRETED]
        executed = stats["guest instructions executed"]
        stats["instructions in a million not translated"] = slow * 1_000_000 // max(executed, 1)
    report.add(
        "stats",
        stats,
        [f"vcpu{vcpu.vcpuid} stats:", *(f"{d:<40}\t{v}" for d, v in stats.items())],
        title=f"Counters of vCPU {vcpu.vcpuid}",
        columns=("Counter", "Value"),
        rows=[(d, str(v)) for d, v in stats.items()],
    )


def show_hot(report: Report, vcpu: vmmapi.VCPU, symbols: Symbols) -> None:
    """The blocks of guest code that were met most, with their share of all samples."""
    samples, hot = vcpu.hot()
    rows = [(f"{100 * n / samples:.1f}%", f"{pc:#018x}", symbols.name(pc)) for pc, n in hot if n]
    if not symbols.known:
        rows = [(share, pc, "") for share, pc, _ in rows]
    report.add(
        "hot",
        [{"pc": pc, "name": symbols.name(pc), "share": n / samples} for pc, n in hot if n],
        [
            f"vcpu{vcpu.vcpuid} hottest blocks, of {samples} samples:",
            *(f"{share:>7}  {pc}  {name}".rstrip() for share, pc, name in rows),
        ],
        title=f"Hottest blocks of vCPU {vcpu.vcpuid}, of {samples} samples",
        columns=("Share", "PC", "Symbol"),
        rows=rows,
    )


def show_topology(report: Report, vm: vmmapi.VM, _vcpu: vmmapi.VCPU) -> None:
    """Sockets, cores, threads, maxcpus."""
    names = ("sockets", "cores", "threads", "maxcpus")
    values = dict(zip(names, vm.topology(), strict=True))
    report.add(
        "cpu_topology",
        values,
        ["cpu_topology:\t" + ", ".join(f"{k}={v}" for k, v in values.items())],
        title="Topology",
        columns=names,
        rows=[[str(v) for v in values.values()]],
    )


_SHOW: dict[str, Callable[[Report, vmmapi.VM, vmmapi.VCPU], None]] = {
    "memseg": show_memseg,
    "memmap": show_memmap,
    "active_cpus": _show_cpus(vmmapi.CPUS_ACTIVE, "active_cpus"),
    "suspended_cpus": _show_cpus(vmmapi.CPUS_SUSPENDED, "suspended_cpus"),
    "debug_cpus": _show_cpus(vmmapi.CPUS_DEBUG, "debug_cpus"),
    "stats": show_stats,
    "topology": show_topology,
}


def show_list(report: Report) -> None:
    """Name, state, RAM, vCPUs, owner, age."""
    head = ("NAME", "STATE", "RAM", "VCPUS", "OWNER", "AGE")
    rows, values = [], []
    for info in vmmapi.list_vms():
        state = "damaged" if info.state is None else info.state.name.lower()
        cpus = 0
        if not info.damaged:
            try:
                with vmmapi.VM.open(info.name) as vm:
                    sockets, cores, threads, _ = vm.topology()
                    cpus = len(vm.cpus()) or sockets * cores * threads
            except VmNotFoundError:
                continue
            except VmDamagedError:
                state = "damaged"
        age = max(0, int(time.time()) - info.created) if info.created else 0
        rows.append(
            (
                info.name,
                state,
                vmmapi.format_size(info.mem),
                str(cpus) if cpus else "-",
                _user_name(info.uid),
                _age(age),
            )
        )
        values.append(
            {
                "name": info.name,
                "state": state,
                "ended_by": info.how.name.lower(),
                "ram": info.mem,
                "vcpus": cpus,
                "owner": _user_name(info.uid),
                "age": age,
                "pid": info.runner,
            }
        )
    widths = [max(len(r[n]) for r in [head, *rows]) for n in range(len(head))]
    report.add(
        "vms",
        values,
        [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in [head, *rows]
        ],
        title="Virtual machines",
        columns=head,
        rows=rows,
    )


def show_capabilities(report: Report, vcpu: vmmapi.VCPU, name: str | None) -> None:
    """Whether capabilities are set."""
    values = {n: vcpu.get_capability(c) for n, c in _capabilities(name).items()}
    words = {n: _CAPABILITY[v] for n, v in values.items()}
    report.add(
        "capabilities",
        {n: None if v is None else bool(v) for n, v in values.items()},
        [f'Capability "{n}" is {w} on vcpu {vcpu.vcpuid}' for n, w in words.items()],
        title=f"Capabilities of vCPU {vcpu.vcpuid}",
        columns=("Capability", "State"),
        rows=list(words.items()),
    )


_CAPABILITY = {None: "not available", 0: "not set", 1: "set"}


def _capabilities(name: str | None) -> dict[str, int]:
    known = dict(vmmapi.capabilities())
    if name is None:
        return known
    if name not in known:
        raise ConfigError(f"unknown capability {printable(name, 40)}; known are {', '.join(known)}")
    return {name: known[name]}


def _set_capability(vcpu: vmmapi.VCPU, name: str | None, value: int) -> None:
    if name is None or value not in (0, 1):
        raise ConfigError("--setcap=0 or --setcap=1 goes with --capname=NAME")
    vcpu.set_capability(_capabilities(name)[name], value)


def _set_mem_size(text: str) -> int:
    size = config.parse_size(text, "--set-mem")
    return -(-size // (2 * layout.MIB)) * 2 * layout.MIB


def _assignment(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    number = config.parse_number(value, f"--set-{name}")
    if not -(1 << 63) <= number < 1 << 64:
        raise ConfigError(f"--set-{name}: {printable(value, 40)} does not fit into 64 bits")
    return name, number


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _age(seconds: int) -> str:
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d{h:02}h"
    if hours:
        return f"{hours}h{m:02}m"
    return f"{m}m{s:02}s" if m else f"{s}s"


def _register_option(arg: str) -> list[str] | None:
    """--get-x0 and --set-pc=V; None for what is no register's option."""
    name, eq, value = arg.partition("=")
    for prefix, option in (("--get-", "--get-reg"), ("--set-", "--set-reg")):
        reg = name.removeprefix(prefix)
        if reg == name or not reg:
            continue
        try:
            vmmapi.register_number(reg)
        except ConfigError:
            return None
        if prefix == "--get-":
            return None if eq else [option, reg.lower()]
        return [option, f"{reg.lower()}={value}"] if eq else None
    return None


def run(argv: Sequence[str]) -> int:
    """The command, with its exit status."""
    try:
        args = _run.normalise(app, _join_set(argv), rewrite=_register_option, optional=OPTIONAL)
    except (ConfigError, OSError) as err:
        _run.complain(PROG, str(err))
        return 1
    return _run.run(app, PROG, args, usage=1, error=1)


def _join_set(argv: Sequence[str]) -> list[str]:
    """`--set-pc 5` is `--set-pc=5`, as with getopt_long."""
    out: list[str] = []
    for arg in argv:
        if out and out[-1].startswith("--set-") and "=" not in out[-1] and out[-1] != "--set-reg":
            out[-1] += "=" + arg
        else:
            out.append(arg)
    return out


def main() -> None:
    """Entry point."""
    os.umask(0o077)
    _run.leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
