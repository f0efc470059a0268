"""What the three commands share: argv before typer, exceptions and exit statuses after it.

typer exits 2 on a usage error, which means "halted" in bhyve(8): run() is the one
place where a way of ending becomes an exit status. Nothing else in bhyvepy calls
sys.exit(). Errors are one line on standard error; a traceback is shown only with
BHYVEPY_DEBUG in the environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.main import get_command

from bhyvepy import __version__
from bhyvepy.config import Config
from bhyvepy.errors import BhyveError, ConfigError, SyntaxOptionError, printable

# typer may carry its own click: reach its classes through typer's names only.
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
_POSITION = "\x1f"


@dataclass(frozen=True, slots=True)
class Placed:
    """An option's value with its place on the command line.

    bhyve processes its options left to right, and a later one wins whatever its
    letter; typer collects them by letter. normalise() writes the place in front.
    """

    place: int
    value: str


def placed(text: str) -> Placed:
    """The typer parser of options whose order counts."""
    place, sep, value = text.partition(_POSITION)
    return Placed(int(place), value) if sep else Placed(0, text)


def literal(text: str) -> str:
    """A value that no %(variable) of the configuration is looked for in."""
    return text.replace("%", "%%")


@contextlib.contextmanager
def form() -> Iterator[None]:
    """What is refused inside is the form of an option's value."""
    try:
        yield
    except ConfigError as err:
        raise SyntaxOptionError(str(err)) from None


def pair(text: str, option: str) -> str:
    """name=value, with a name."""
    if not text.partition("=")[0] or "=" not in text:
        raise ConfigError(f"bad {option} '{printable(text, 40)}': use name=value")
    return text


def apply(config: Config, settings: Iterable[tuple[str, Placed]]) -> None:
    """Set variables in the order of the command line.

    Key "" stands for -o (the value is var=value), "<" for -k (a file of them).
    """
    for key, p in sorted(settings, key=lambda kv: kv[1].place):
        if key == "":
            with form():
                config.parse(p.value)
        elif key == "<":
            config.load_file(p.value)
        else:
            config.set(key, p.value)


def new_app() -> typer.Typer:
    """A typer app without the parts that load rich or ask questions."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


SETTINGS = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True, slots=True)
class Optional:
    """An option that may stand without a value: which words are one, and what it means alone."""

    takes: Callable[[str], bool]
    alone: str


def normalise(
    app: typer.Typer,
    argv: Sequence[str],
    *,
    ordered: frozenset[str] = frozenset(),
    flags: Mapping[str, str] | None = None,
    optional: Mapping[str, Optional] | None = None,
    rewrite: Callable[[str], list[str] | None] = lambda _: None,
) -> list[str]:
    """Bring argv into the form that typer understands.

    ordered: options whose values get their place in front (see Placed).
    flags: options without a value that are a setting -> the -o that says it, in its place.
    optional: options that may stand without a value.
    rewrite: long options that are generated from a table -> their replacement.
    """
    flags, optional = flags or {}, optional or {}
    takes: dict[str, bool] = {}
    for param in get_command(app).params:
        for name in [*param.opts, *param.secondary_opts]:
            if name.startswith("-"):
                takes[name] = not getattr(param, "is_flag", False)
    out: list[str] = []
    args = list(argv)
    i = 0

    def value_of(name: str, rest: str | None) -> list[str]:
        nonlocal i
        may = optional.get(name)
        if rest is None and may and not (i < len(args) and may.takes(args[i])):
            rest = may.alone
        if rest is None:
            if i >= len(args):
                return [name]
            rest = args[i]
            i += 1
        if name in ordered:
            rest = f"{i}{_POSITION}{rest}"
        return [name, rest]

    while i < len(args):
        arg = args[i]
        i += 1
        if arg == "--":
            out += ["--", *args[i:]]
            break
        if arg.startswith("--"):
            name, eq, rest = arg.partition("=")
            if new := rewrite(arg):
                out += new
            elif takes.get(name):
                out += value_of(name, rest if eq else None)
            else:
                out.append(arg)
        elif arg.startswith("-") and len(arg) > 1:
            letters = arg[1:]
            while letters:
                name, letters = "-" + letters[0], letters[1:]
                if takes.get(name):
                    out += value_of(name, letters or None)
                    break
                out += ["-o", f"{i}{_POSITION}{flags[name]}"] if name in flags else [name]
        else:
            out.append(arg)
    return out


def run(
    app: typer.Typer,
    prog: str,
    argv: Sequence[str],
    *,
    usage: int,
    error: int,
    form: int | None = None,
) -> int:
    """Run a command and give its exit status: its own, or `usage`, or `error`.

    form: the status for an option's value of a bad form, when it is not `error`.
    """
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see __init__.py
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = app(args=list(argv), prog_name=prog, standalone_mode=False)
    except _USAGE_ERROR as err:
        complain(prog, _one_line(err.format_message()).removeprefix("Invalid value: "))
        print(f"{prog} --help shows the options", file=sys.stderr)
        status = usage
    except BhyveError as err:
        complain(prog, _one_line(str(err)))
        bad_form = isinstance(err, SyntaxOptionError) and form is not None
        status = form if bad_form else error
    except (KeyboardInterrupt, typer.Abort):
        status = error
    except BrokenPipeError:
        # Nobody reads the output any more: leave without a second complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = error
    except OSError as err:
        name = f"{printable(str(err.filename), 200)}: " if err.filename else ""
        complain(prog, name + (err.strerror or str(err)).lower())
        status = error
    except Exception as err:
        if os.environ.get("BHYVEPY_DEBUG"):
            raise
        complain(
            prog,
            f"internal error: {type(err).__name__}: {_one_line(str(err))};"
            " set BHYVEPY_DEBUG=1 for the traceback",
        )
        status = error
    return int(status or 0)


def leave(status: int) -> None:
    """End the process: standard output that cannot be written is an error."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or 1
    sys.exit(status)


def complain(prog: str, line: str) -> None:
    """One line on standard error."""
    with contextlib.suppress(OSError, UnicodeError):
        print(f"{prog}: {line}", file=sys.stderr)


def show_version(prog: str) -> Callable[[bool], None]:
    """The callback of --version."""

    def callback(value: bool) -> None:
        if value:
            print(f"{prog} (bhyvepy) {__version__}")
            raise typer.Exit(0)

    return callback


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()), 400)
