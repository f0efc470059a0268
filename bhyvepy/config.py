"""The configuration: one tree of key=value pairs, as in bhyve_config(5).

Every option of a command is a front end of this tree: `-m 256M` and
`-o memory.size=256M` are the same. Also the parsers of values: sizes, numbers,
booleans, CPU counts. Unknown keys are kept and ignored, as in bhyve. Not here:
what a key means (bhyverun.py, boot/), and the -s syntax (devices/slots.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from bhyvepy.errors import ConfigError, os_error, printable
from bhyvepy.layout import GIB, IPA_LIMIT, KIB, MIB

DEFAULT_MEMORY = "128M"

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*\Z")
_SIZE = re.compile(r"([0-9]+)([KMGT]?)(I?B)?\Z", re.IGNORECASE)
_VARIABLE = re.compile(r"%(%|\(([^)]*)\))")
_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": KIB * GIB}
_TRUE = frozenset({"true", "on", "yes", "1"})
_FALSE = frozenset({"false", "off", "no", "0"})
_MAX_TEXT = 1 << 20
_MAX_DEPTH = 16


class Config:
    """The tree. A later value replaces an earlier one."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values: dict[str, str] = dict(values or {})

    def set(self, key: str, value: str) -> None:
        """Set one variable."""
        if not _KEY.match(key):
            raise ConfigError(f"bad variable name '{printable(key, 40)}': use a.b.c=value")
        if "\0" in value or "\n" in value or len(value) > _MAX_TEXT:
            raise ConfigError(f"bad value of {key}: {printable(value, 40)}")
        self._values[key] = value

    def set_default(self, key: str, value: str) -> None:
        """Set one variable unless it is set."""
        self._values.setdefault(key, value)

    def parse(self, text: str) -> None:
        """One var=value pair of -o."""
        key, eq, value = text.partition("=")
        if not eq or not key.strip() or not value:
            raise ConfigError(f"'{printable(text, 40)}' is not of the form var=value")
        self.set(key.strip(), value)

    def load_file(self, path: str) -> None:
        """A -k file: var=value lines, # comments."""
        try:
            with open(path, encoding="utf-8") as f:
                lines = f.read(_MAX_TEXT + 1)
        except OSError as err:
            raise os_error("read", path, err) from None
        except UnicodeDecodeError:
            raise ConfigError(f"{printable(path, 200)} is not a text file") from None
        if len(lines) > _MAX_TEXT:
            raise ConfigError(f"{printable(path, 200)} is too long for a configuration file")
        for number, line in enumerate(lines.splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            try:
                self.parse(text)
            except ConfigError as err:
                raise ConfigError(f"{printable(path, 200)}:{number}: {err}") from None

    def get(self, key: str, default: str | None = None) -> str | None:
        """A value with its %(variables) expanded."""
        value = self._values.get(key)
        return default if value is None else self._expand(value, 0)

    def text(self, key: str, default: str = "") -> str:
        """A value that is there at least by default."""
        value = self.get(key)
        return default if value is None else value

    def _expand(self, value: str, depth: int) -> str:
        if "%" not in value:
            return value
        if depth > _MAX_DEPTH:
            raise ConfigError("a variable refers to itself")

        def one(m: re.Match[str]) -> str:
            if m[1] == "%":
                return "%"
            inner = self._values.get(m[2])
            return "" if inner is None else self._expand(inner, depth + 1)

        return _VARIABLE.sub(one, value)

    def boolean(self, key: str, default: bool = False) -> bool:
        """true/on/yes/1 and false/off/no/0."""
        value = self.get(key)
        return default if value is None else parse_bool(value, key)

    def number(self, key: str, default: int = 0) -> int:
        """A number by C's rules: 0x for hex, 0 for octal."""
        value = self.get(key)
        return default if value is None else parse_number(value, key)

    def size(self, key: str, default: str = DEFAULT_MEMORY) -> int:
        """A memory size."""
        value = self.get(key)
        return parse_size(default if value is None else value)

    def under(self, prefix: str) -> dict[str, str]:
        """The variables below a node, with the prefix cut off."""
        start = prefix + "."
        return {
            k[len(start) :]: self._expand(v, 0)
            for k, v in self._values.items()
            if k.startswith(start)
        }

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._values))

    def dump(self) -> Iterator[str]:
        """var=value lines, by name."""
        for key in self:
            yield f"{key}={self.get(key)}"

    def as_dict(self) -> dict[str, str]:
        """A copy, unexpanded."""
        return dict(self._values)


def parse_bool(text: str, what: str = "value") -> bool:
    """A truth value."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ConfigError(f"{what}: '{printable(text, 40)}' is neither true nor false")


def parse_number(text: str, what: str = "value") -> int:
    """A number: decimal, 0x hexadecimal or 0 octal; ASCII digits only."""
    word = text.strip()
    body = word[1:] if word[:1] in "+-" else word
    try:
        if not body.isascii() or "_" in body or not body:
            raise ValueError
        if len(body) > 1 and body[0] == "0" and body.isdigit():
            value = int(body, 8)
        else:
            value = int(body, 0)
    except ValueError:
        raise ConfigError(f"{what}: '{printable(text, 40)}' is not a number") from None
    return -value if word[:1] == "-" else value


def parse_address(text: str, what: str = "address") -> int:
    """A guest physical address, UL suffix tolerated; decimal, hex or with K, M, G."""
    word = text.strip()
    bare = word.rstrip("uUlL")
    try:
        value = parse_number(bare, what)
    except ConfigError:
        m = _SIZE.match(word)
        if not m:
            raise
        value = int(m[1]) * _UNITS[m[2].upper()]
    if not 0 <= value < IPA_LIMIT:
        raise ConfigError(f"{what}: {printable(text, 40)} is not below {IPA_LIMIT:#x}")
    return value


def parse_size(text: str, what: str = "memory size") -> int:
    """A memory size: 128M, 1G, 512MB, 1024K. A bare number below 1 MiB is in MB."""
    m = _SIZE.match(text)
    if not m:
        raise ConfigError(
            f"{what} '{printable(text, 40)}' is not a number with an optional K, M, G or T"
        )
    value = int(m[1][:20])
    if not m[2] and not m[3] and value < MIB:
        value *= MIB
    else:
        value *= _UNITS[m[2].upper()]
    if len(m[1]) > 20 or value >= IPA_LIMIT:
        raise ConfigError(f"{what} {printable(text, 40)} is too large; the limit is 1T")
    if value == 0:
        raise ConfigError(f"{what} is 0; give at least 2M")
    if value % MIB:
        raise ConfigError(f"{what} {printable(text, 40)} is not a multiple of 1M")
    return value


def parse_cpus(text: str) -> dict[str, str]:
    """-c [[cpus=]N][,sockets=N][,cores=N][,threads=N] as variables of the tree."""
    out: dict[str, str] = {}
    if not text:
        return {"cpus": "1"}
    for part in text.split(","):
        key, eq, value = part.partition("=")
        if not eq:
            key, value = "cpus", part
        if key not in ("cpus", "sockets", "cores", "threads") or key in out:
            raise ConfigError(
                f"bad -c '{printable(text, 40)}': use [[cpus=]N][,sockets=N][,cores=N][,threads=N]"
            )
        number = parse_number(value, f"-c {key}")
        if not 1 <= number <= 65535:
            raise ConfigError(f"-c {key}: {printable(value, 40)} is not in 1 to 65535")
        out[key] = str(number)
    return out


def parse_cpuset(text: str) -> set[int]:
    """0,2,4-7."""
    out: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isascii() and first.isdigit() and (last.isdigit() or not dash)):
            raise ConfigError(f"bad CPU set '{printable(text, 40)}': use 0,2,4-7")
        lo, hi = int(first[:9]), int((last if dash else first)[:9])
        if hi < lo or hi > 65535:
            raise ConfigError(f"bad CPU set '{printable(text, 40)}': use 0,2,4-7")
        out.update(range(lo, hi + 1))
    return out


def topology(config: Config) -> tuple[int, int, int, int]:
    """(cpus, sockets, cores, threads), by bhyve's rules: sockets = cpus unless given."""
    cpus = config.number("cpus", 1)
    cores, threads = config.number("cores", 1), config.number("threads", 1)
    sockets = config.number("sockets", cpus)
    product = sockets * cores * threads
    if min(cpus, sockets, cores, threads) < 1 or ("cpus" in config and cpus != product):
        raise ConfigError(
            f"{cpus} vCPUs are not {sockets} sockets of {cores} cores with {threads} threads;"
            " cpus must be sockets * cores * threads"
        )
    return product, sockets, cores, threads
