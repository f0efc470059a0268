"""bhyveload(8): place a kernel in a named VM. Options only; the work is in loadvm.py."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from bhyvepy.cli import _run
from bhyvepy.config import Config

PROG = "bhyveload"
app = _run.new_app()
ORDERED = frozenset({"-o", "-m", "-b", "-e"})
# Loads shorter than this need no bar.
BAR_AFTER_S = 1.0

Placed = list[_run.Placed] | None


@app.command(context_settings=_run.SETTINGS)
def bhyveload(
    vmname: Annotated[str, typer.Argument(metavar="vmname", help="The VM to make.")],
    kernel: Annotated[
        str, typer.Option("-k", metavar="FILE", help="Kernel: Image, Image.gz, ELF, or flat.")
    ] = "kernel.bin",
    initrd: Annotated[
        str | None, typer.Option("-i", metavar="FILE", help="Initial RAM disk.")
    ] = None,
    bootargs: Annotated[
        str | None, typer.Option("-a", metavar="ARGS", help="The kernel's command line.")
    ] = None,
    env: Annotated[
        Placed,
        typer.Option(
            "-e", metavar="NAME=VALUE", parser=_run.placed, help="Boot environment (FreeBSD)."
        ),
    ] = None,
    load: Annotated[
        str | None, typer.Option("-l", metavar="ADDR", help="Where a flat image goes.")
    ] = None,
    base: Annotated[
        Placed,
        typer.Option(
            "-b", metavar="ADDR", parser=_run.placed, help="Start of RAM. [default: 0x80000000]"
        ),
    ] = None,
    memory: Annotated[
        Placed,
        typer.Option("-m", metavar="SIZE", parser=_run.placed, help="RAM. [default: 128M]"),
    ] = None,
    dtb: Annotated[
        str | None, typer.Option("-t", metavar="FILE", help="Device tree blob, used as it is.")
    ] = None,
    option: Annotated[
        Placed,
        typer.Option("-o", metavar="KEY=VALUE", parser=_run.placed, help="Set a variable."),
    ] = None,
    wired: Annotated[
        bool, typer.Option("-S", help="Reserve all memory now.", show_default=False)
    ] = False,
    core: Annotated[
        bool, typer.Option("-C", help="Guest memory in core dumps.", show_default=False)
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_run.show_version(PROG), is_eager=True, help="Print the version."
        ),
    ] = False,
) -> int:
    """Place a kernel in a VM, for bhyve(8) to run."""
    config = Config()
    config.set("kernel", _run.literal(kernel))
    for key, value in (
        ("initrd", initrd),
        ("fdt.bootargs", bootargs),
        ("loader.address", load),
        ("dtb", dtb),
    ):
        if value is not None:
            config.set(key, _run.literal(value))
    if wired:
        config.set("memory.wired", "true")
    if core:
        config.set("memory.guest_in_core", "true")
    for n, pair in enumerate(env or []):
        config.set(f"loader.env.{n}", _run.literal(_run.pair(pair.value, "-e")))
    _run.apply(
        config,
        [("memory.base", p) for p in base or []]
        + [("memory.size", p) for p in memory or []]
        + [("", p) for p in option or []],
    )
    from bhyvepy import loadvm

    with _Bar(kernel) as bar:
        loadvm.load(vmname, config, progress=bar.update).close()
    return 0


class _Bar:
    """A progress bar for loads that take long, when somebody watches."""

    def __init__(self, what: str) -> None:
        self._what = os.path.basename(what)
        self._start = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """So many bytes of so many are in place."""
        if self._bar is None:
            if time.monotonic() - self._start < BAR_AFTER_S or not sys.stderr.isatty():
                return
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn(self._what, markup=False),
                BarColumn(),
                DownloadColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("load", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done)


def run(argv: Sequence[str]) -> int:
    """The command, with its exit status."""
    args = _run.normalise(app, argv, ordered=ORDERED)
    return _run.run(app, PROG, args, usage=1, error=1)


def main() -> None:
    """Entry point."""
    os.umask(0o077)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C: a VM half made is removed on the way out.
        signal.signal(signum, signal.default_int_handler)
    _run.leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
