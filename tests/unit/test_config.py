"""The configuration tree and its values."""

from __future__ import annotations

from pathlib import Path

import pytest

from bhyvepy import config, layout
from bhyvepy.errors import ConfigError

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("128M", 128 * MIB),
        ("128", 128 * MIB),
        ("1G", 1024 * MIB),
        ("512MB", 512 * MIB),
        ("2GiB", 2048 * MIB),
        ("131072K", 128 * MIB),
        ("131072kb", 128 * MIB),
        ("134217728", 128 * MIB),
        ("134217728B", 128 * MIB),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """A size is a number with a unit; a bare number below 1 MiB is in MB."""
    assert size == config.parse_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "18446744073709551615",
        "17592186044416M",
        "0",
        "0M",
        "-1",
        "1e3",
        "0x10",
        "1G ",
        " 1G",
        "",
        "M",
        "12X",
        "1.5G",
        "1T",
        "99999999999999999999999999G",
        "4K",
        "١٢M",
    ],
)
def test_v11_bad_sizes(text: str) -> None:
    """A size that is zero, negative, absurd or not a number is refused in one line."""
    with pytest.raises(ConfigError) as err:
        config.parse_size(text)
    assert "\n" not in str(err.value)


@pytest.mark.parametrize(
    ("text", "value"), [("0x80000000UL", 0x80000000), ("2147483648", 1 << 31), ("2G", 1 << 31)]
)
def test_addresses(text: str, value: int) -> None:
    """An address may carry C's UL suffix, as bhyvearm64's -e did."""
    assert value == config.parse_address(text)


@pytest.mark.parametrize("text", ["-1", "0x10000000000", "x", "", "1_000"])
def test_bad_addresses(text: str) -> None:
    """An address outside of guest physical space is refused."""
    with pytest.raises(ConfigError):
        config.parse_address(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("ON", True), ("1", True), ("no", False), ("Off", False), ("0", False)],
)
def test_booleans(text: str, value: bool) -> None:
    """true/on/yes/1 and false/off/no/0 are the truth values, in any case."""
    assert value is config.parse_bool(text)


def test_bad_boolean() -> None:
    """Anything else is refused by name."""
    with pytest.raises(ConfigError, match=r"memory\.wired"):
        config.Config({"memory.wired": "maybe"}).boolean("memory.wired")


@pytest.mark.parametrize("text", ["a", "=b", "a=", "", "a b=c", "a..b=c", ".a=b", "a\0=b"])
def test_bad_pairs(text: str) -> None:
    """-o wants var=value with a name and a value."""
    with pytest.raises(ConfigError):
        config.Config().parse(text)


def test_later_wins_and_unknown_is_kept() -> None:
    """A later value replaces an earlier one, and unknown variables are kept."""
    c = config.Config()
    c.parse("x.y=1")
    c.parse("x.y=2=3")
    assert "2=3" == c.get("x.y")
    assert {"y": "2=3"} == c.under("x")


def test_expansion() -> None:
    """%(var) is replaced by its value, %% is a percent sign, a missing variable is empty."""
    c = config.Config({"a": "x%(b)y%%%(c)", "b": "[%(d)]", "d": "1"})
    assert "x[1]y%" == c.get("a")


def test_expansion_loop() -> None:
    """A variable that refers to itself is an error, not a hang."""
    with pytest.raises(ConfigError, match="itself"):
        config.Config({"a": "%(a)"}).get("a")


def test_file(tmp_path: Path) -> None:
    """A -k file has var=value lines, comments and empty lines."""
    f = tmp_path / "c"
    f.write_text("# hello\n\n memory.size=256M \nname=x\n")
    c = config.Config()
    c.load_file(str(f))
    assert ["memory.size=256M", "name=x"] == list(c.dump())


def test_bad_file_names_the_line(tmp_path: Path) -> None:
    """An error in a -k file names file and line."""
    f = tmp_path / "c"
    f.write_text("a=b\nnonsense\n")
    with pytest.raises(ConfigError, match=r"c:2: "):
        config.Config().load_file(str(f))


def test_binary_file(tmp_path: Path) -> None:
    """A -k file that is no text is refused."""
    f = tmp_path / "c"
    f.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        config.Config().load_file(str(f))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (1, 1, 1, 1)),
        ("4", (4, 4, 1, 1)),
        ("cpus=4,sockets=1,cores=2,threads=2", (4, 1, 2, 2)),
        ("8,sockets=2,cores=4", (8, 2, 4, 1)),
        ("sockets=2,cores=2", (4, 2, 2, 1)),
    ],
)
def test_topology(text: str, expected: tuple[int, int, int, int]) -> None:
    """vCPUs are sockets * cores * threads; sockets default to the vCPUs."""
    assert expected == config.topology(config.Config(config.parse_cpus(text)))


@pytest.mark.parametrize("text", ["4,sockets=3", "4,cores=3", "4,cores=2"])
def test_bad_topology(text: str) -> None:
    """A product that is not the number of vCPUs is refused."""
    with pytest.raises(ConfigError):
        config.topology(config.Config(config.parse_cpus(text)))


@pytest.mark.parametrize("text", ["0", "-1", "1e9", "65536", "x=1", "cpus=", "1,2", "cpus", "1,"])
def test_bad_cpus(text: str) -> None:
    """-c 0, -1, absurd numbers and unknown keys are refused."""
    with pytest.raises(ConfigError):
        config.parse_cpus(text)


def test_cpu_sets() -> None:
    """A CPU set is a list of numbers and ranges."""
    assert {0, 2, 4, 5, 6, 7} == config.parse_cpuset("0,2,4-7")
    for bad in ("", "a", "3-1", "1,", "-1"):
        with pytest.raises(ConfigError):
            config.parse_cpuset(bad)


def test_ram_has_holes() -> None:
    """RAM based below the fixed windows goes around them and keeps its size."""
    ranges = layout.ram_ranges(0x20000000, 1 << 30)
    assert 1 << 30 == sum(n for _, n in ranges)
    for base, n in ranges:
        assert not any(w.overlaps(base, n) for w in layout.FIXED_WINDOWS)
    assert [(layout.RAM_BASE, 64 * MIB)] == layout.ram_ranges(layout.RAM_BASE, 64 * MIB)


def test_windows_do_not_overlap() -> None:
    """No two rows of the address table overlap, and every INTID is used once."""
    rows = [*layout.COMS, layout.RTC, layout.BVMCONS, layout.GICD, layout.GICC, layout.ITS]
    rows += [layout.virtio_slot(n) for n in range(layout.VIRTIO_SLOTS)] + [layout.gicr(64)]
    for i, a in enumerate(rows):
        assert not [b.name for b in rows[i + 1 :] if a.overlaps(b.base, b.size)]
    intids = [r.intid for r in rows if r.intid is not None]
    assert len(intids) == len(set(intids))
