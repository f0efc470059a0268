"""bhyve(8): run a VM. Options and exit status only; the work is in startup.py."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from bhyvepy.cli import _run
from bhyvepy.config import Config, parse_cpus, parse_size
from bhyvepy.errors import ConfigError, printable
from bhyvepy.vmexit import SuspendHow

PROG = "bhyve"
ERROR = 4
# bhyve(8), EXIT STATUS: how a run ended -> status.
STATUS = {
    SuspendHow.RESET: 0,
    SuspendHow.POWEROFF: 1,
    SuspendHow.HALT: 2,
    SuspendHow.DESTROY: ERROR,
}
STATUS_UNKNOWN = 100
EX_USAGE = 64  # sysexits(3): the value of -c, -m, -o or -p is not of its form

app = _run.new_app()
ORDERED = frozenset({"-G", "-c", "-m", "-e", "-k", "-o", "-p", "-l", "-s", "-U"})
# Flags that are a setting: they count in their place, as -o does.
FLAGS = {
    "-b": "console=stdio",
    "-C": "memory.guest_in_core=true",
    "-D": "destroy_on_poweroff=true",
    "-M": "monitor=true",
    "-S": "memory.wired=true",
    "-W": "virtio.msix=false",
}
_CPUS = re.compile(r"(0[xX][0-9a-fA-F]+|\d+)?(,|\Z)|[a-z]+=", re.ASCII)
OPTIONAL = {
    # bhyvearm64's -c has no value and means 16; today's has one. A name may follow either.
    "-c": _run.Optional(lambda word: bool(_CPUS.match(word)), "16"),
    # bhyvearm64's -e is where RAM begins; amd64's has no value.
    "-e": _run.Optional(lambda word: word[:1].isdigit(), ""),
}

# Flags of other machines: letter -> why there is nothing behind it here.
FOREIGN = {
    "-a": "the xAPIC is part of amd64 machines",
    "-A": "there are no ACPI tables; the guest gets a device tree",
    "-e": "I/O ports are part of amd64 machines; the start of RAM is -e ADDR",
    "-H": "HLT is an amd64 instruction; WFI never leaves the guest here",
    "-P": "PAUSE is an amd64 instruction",
    "-u": "the clock is in UTC always",
    "-w": "MSRs are part of amd64 machines",
    "-x": "the x2APIC is part of amd64 machines",
    "-Y": "the MPtable is part of amd64 machines",
}
FOREIGN_WITH_VALUE = {
    "-f": "fw_cfg is not there on arm64",
    "-K": "keyboard layouts belong to a frame buffer, which is not there",
    "-n": "NUMA domains are not there on arm64",
    "-r": "snapshots are not there yet",
}

Placed = list[_run.Placed] | None


def _setting(*names: str, metavar: str, text: str) -> Any:
    return typer.Option(*names, metavar=metavar, parser=_run.placed, help=text)


def _refuse(letter: str, reason: str) -> Any:
    def callback(value: Any) -> None:
        if value:
            raise ConfigError(f"{letter}: {reason}")

    return typer.Option(letter, hidden=True, callback=callback, show_default=False)


def _flag(letter: str, text: str) -> Any:
    return typer.Option(letter, help=text, show_default=False)


@app.command(context_settings=_run.SETTINGS)
def bhyve(
    vmname: Annotated[str | None, typer.Argument(metavar="vmname", help="The VM to run.")] = None,
    console: Annotated[bool, _flag("-b", "Consoles on this terminal (~. ends, ~? helps).")] = False,
    cpus: Annotated[
        Placed,
        _setting("-c", metavar="[cpus=]N[,sockets=N][,cores=N][,threads=N]", text="vCPUs."),
    ] = None,
    memory: Annotated[
        Placed, _setting("-m", metavar="SIZE", text="RAM; must be what was loaded.")
    ] = None,
    base: Annotated[
        Placed, _setting("-e", metavar="ADDR", text="Start of RAM; must be what was loaded.")
    ] = None,
    device: Annotated[
        Placed,
        _setting(
            "-s",
            metavar="SLOT,DEV[,OPTS]|SIZE@ADDR#IRQ:DEV[,OPTS]",
            text="A device; `-s help` lists them.",
        ),
    ] = None,
    option: Annotated[Placed, _setting("-o", metavar="KEY=VALUE", text="Set a variable.")] = None,
    file: Annotated[
        Placed, _setting("-k", metavar="FILE", text="Set the variables of a file.")
    ] = None,
    pin: Annotated[
        Placed, _setting("-p", metavar="VCPU:HOSTCPU", text="Pin a vCPU; may be repeated.")
    ] = None,
    bootrom: Annotated[
        Placed, _setting("-l", metavar="FILE|LPCDEV,CONF", text="Boot ROM; makes the VM itself.")
    ] = None,
    gdb: Annotated[
        Placed, _setting("-G", metavar="[w][ADDR:]PORT", text="Serve gdb; w waits for it.")
    ] = None,
    uuid: Annotated[Placed, _setting("-U", metavar="UUID", text="UUID of the machine.")] = None,
    wired: Annotated[bool, _flag("-S", "Reserve all guest memory now.")] = False,
    destroy: Annotated[bool, _flag("-D", "Destroy the VM when it powers off.")] = False,
    monitor: Annotated[bool, _flag("-M", "Destroy the VM when bhyve ends.")] = False,
    core: Annotated[bool, _flag("-C", "Guest memory in core dumps.")] = False,
    no_msix: Annotated[bool, _flag("-W", "No MSI-X for virtio-pci.")] = False,
    xapic: Annotated[bool, _refuse("-a", FOREIGN["-a"])] = False,
    acpi: Annotated[bool, _refuse("-A", FOREIGN["-A"])] = False,
    hlt: Annotated[bool, _refuse("-H", FOREIGN["-H"])] = False,
    pause: Annotated[bool, _refuse("-P", FOREIGN["-P"])] = False,
    utc: Annotated[bool, _refuse("-u", FOREIGN["-u"])] = False,
    msrs: Annotated[bool, _refuse("-w", FOREIGN["-w"])] = False,
    x2apic: Annotated[bool, _refuse("-x", FOREIGN["-x"])] = False,
    mptable: Annotated[bool, _refuse("-Y", FOREIGN["-Y"])] = False,
    fwcfg: Annotated[str | None, _refuse("-f", FOREIGN_WITH_VALUE["-f"])] = None,
    keyboard: Annotated[str | None, _refuse("-K", FOREIGN_WITH_VALUE["-K"])] = None,
    numa: Annotated[str | None, _refuse("-n", FOREIGN_WITH_VALUE["-n"])] = None,
    restore: Annotated[str | None, _refuse("-r", FOREIGN_WITH_VALUE["-r"])] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_run.show_version(PROG), is_eager=True, help="Print the version."
        ),
    ] = False,
) -> int:
    """Run a VM. Exit status: 0 reset, 1 powered off, 2 halted, 4 error."""
    devices = device or []
    if any(p.value == "help" for p in [*devices, *(bootrom or [])]):
        from bhyvepy.devices import registry

        lpc = any(p.value == "help" for p in bootrom or [])
        print("\n".join(LPC_DEVICES if lpc else registry.describe()))
        return 0
    config = Config()
    settings = [("memory.size", _size(p)) for p in memory or []]
    settings += [("memory.base", _base(p)) for p in base or []]
    settings += [("", p) for p in option or []] + [("<", p) for p in file or []]
    settings += [_bootrom(p) for p in bootrom or []]
    for p in gdb or []:
        settings += [(k, _run.Placed(p.place, v)) for k, v in _gdb(p.value).items()]
    settings += [("uuid", _run.Placed(p.place, _uuid(p.value))) for p in uuid or []]
    for p in cpus or []:
        with _run.form():
            said = parse_cpus(p.value)
        settings += [(k, _run.Placed(p.place, v)) for k, v in said.items()]
    settings += _devices(devices)
    _run.apply(config, settings)
    with _run.form():
        pins = _pins([p.value for p in pin or []])
    for vcpu, hosts in pins.items():
        config.set(f"vcpu.{vcpu}.cpuset", hosts)
    if vmname is not None:
        config.set("name", _run.literal(vmname))
    if config.boolean("config.dump"):
        print("\n".join(config.dump()))
        return 1
    if "name" not in config:
        raise typer.BadParameter("the name of a VM is missing")
    from bhyvepy import startup

    how = startup.run_vm(config)
    return STATUS.get(how, STATUS_UNKNOWN)


LPC_DEVICES = ("bootrom", "com1", "com2", "com3", "com4")
_NO_LPC = ("tpm", "fwcfg", "pc-testdev")


def _bootrom(p: _run.Placed) -> tuple[str, _run.Placed]:
    """-l FILE of bhyvearm64, or an LPC device as on amd64: bootrom,FILE and com1,BACKEND."""
    kind, comma, rest = p.value.partition(",")
    key = "bootrom"
    if comma and kind in LPC_DEVICES and rest:
        value = rest
        if kind != "bootrom":
            key = "console" if kind == "com1" else f"lpc.{kind}.path"
    elif kind in (*LPC_DEVICES, *_NO_LPC, "") and (comma or not kind or kind in _NO_LPC):
        raise ConfigError(
            f"-l {printable(p.value, 40)}: give the file of a boot ROM, or bootrom,FILE or"
            " com1,BACKEND to com4,BACKEND"
        )
    else:
        value = p.value
    return key, _run.Placed(p.place, _run.literal(value))


def _size(p: _run.Placed) -> _run.Placed:
    if "%" not in p.value:
        with _run.form():
            parse_size(p.value)
    return p


def _base(p: _run.Placed) -> _run.Placed:
    if not p.value:
        raise ConfigError(f"-e: {FOREIGN['-e']}")
    return p


def _devices(texts: Sequence[_run.Placed]) -> list[tuple[str, _run.Placed]]:
    """-s as variables; two of them in one place are an error, unlike two -o."""
    if not texts:
        return []
    from bhyvepy.devices import slots

    found = [(p.place, *slots.parse_settings(p.value)) for p in texts]
    slots.check([spec for _, spec, _ in found])
    return [(k, _run.Placed(at, v)) for at, _, said in found for k, v in said.items()]


def _gdb(text: str) -> dict[str, str]:
    """-G [w][address:]port."""
    wait, rest = text[:1] == "w", text.removeprefix("w")
    address, _, port = rest.rpartition(":")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ConfigError(f"-G {printable(text, 60)}: use [w][address:]port, port 1 to 65535")
    out = {"gdb.port": port, "gdb.wait": "true" if wait else "false"}
    if address:
        out["gdb.address"] = _run.literal(address.removeprefix("[").removesuffix("]"))
    return out


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ConfigError(f"-U {printable(text, 40)} is not a UUID") from None


def _pins(texts: Sequence[str]) -> dict[int, str]:
    """-p vcpu[-vcpu]:hostcpu[-hostcpu]; repeated for one vCPU it adds."""
    from bhyvepy.config import parse_cpuset

    out: dict[int, str] = {}
    for text in texts:
        vcpus, colon, hosts = text.partition(":")
        if not colon:
            raise ConfigError(f"bad -p '{printable(text, 40)}': use vcpu:hostcpu")
        parse_cpuset(hosts)
        for n in parse_cpuset(vcpus):
            out[n] = f"{out[n]},{hosts}" if n in out else hosts
    return out


def run(argv: Sequence[str]) -> int:
    """The command, with its exit status."""
    args = _run.normalise(app, argv, ordered=ORDERED, flags=FLAGS, optional=OPTIONAL)
    return _run.run(app, PROG, args, usage=ERROR, error=ERROR, form=EX_USAGE)


def main() -> None:
    """Entry point."""
    os.umask(0o077)
    _run.leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
