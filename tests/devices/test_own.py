"""Register maps by declaration, and loading a device from a file of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from bhyvepy.devices.base import DeviceEnv
from bhyvepy.devices.own import OwnDevice, Register, SysReg, make, smccc
from bhyvepy.errors import DeviceError


class Line:
    """An interrupt line that remembers."""

    level = False

    def set(self, level: bool) -> None:
        """The device's."""
        self.level = level


class Thing(OwnDevice):
    """A device with one register of each kind."""

    RW = Register(0x0, reset=0x12345678, fields={"low": (7, 0), "top": 31})
    RO = Register(0x4, reset=7, access="ro")
    WO = Register(0x8, access="wo")
    W1C = Register(0xC, reset=0xFF, access="w1c")
    WIDE = Register(0x10, size=8)
    BYTE = Register(0x18, size=1)
    SYS = SysReg("S3_7_C15_C15_7", reset=5)

    def start(self, options):
        self.seen = []

    def write_WO(self, value):  # noqa: N802
        self.seen.append(value)
        self.irq(value == 1)

    def read_WIDE(self):  # noqa: N802
        return 0x1122334455667788


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def thing(line):
    return Thing(DeviceEnv("thing0", None, line), {})


def test_values_print_themselves(thing):
    """Name, value in the register's width, and each field."""
    assert repr(thing.RW) == "RW=0x12345678 low=120 top=0"
    assert repr(thing.WIDE) == "WIDE=0x0000000000000000"
    assert "thing0 (Thing)\nRW=0x12345678" in repr(thing)


def test_fields_are_attributes(thing):
    """Read, write, cut to their width; a name that is none is an error."""
    thing.RW.top = 3
    thing.RW.low = 0x1FF
    assert (int(thing.RW), thing.RW.top, thing.RW.low) == (0x923456FF, 1, 0xFF)
    thing.RW = 0x1_0000_0001
    assert thing.RW == 1
    with pytest.raises(AttributeError, match="RW has no field middle"):
        thing.RW.middle = 1
    with pytest.raises(AttributeError, match="RW has no field middle"):
        _ = thing.RW.middle


def test_access_kinds(thing, line):
    """ro ignores writes, wo reads zero and calls its hook, w1c clears."""
    thing.write(0x4, 4, 9)
    assert thing.read(0x4, 4) == 7
    thing.write(0x8, 4, 1)
    assert (thing.read(0x8, 4), thing.seen, line.level) == (0, [1], True)
    thing.write(0xC, 4, 0x0F)
    assert thing.read(0xC, 4) == 0xF0
    thing.reset()
    assert (thing.read(0xC, 4), line.level) == (0xFF, False)


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [
        (0x0, 1, 0x78),
        (0x1, 1, 0x56),
        (0x2, 2, 0x1234),
        (0x0, 8, 0x0000000712345678),
        (0x10, 8, 0x1122334455667788),
        (0x14, 4, 0x11223344),
        (0x16, 8, 0x1122),
        (0x3, 4, 0x00000712),
        (0x800, 4, 0),
        (0xFFC, 8, 0),
    ],
)
def test_reads_of_any_size(thing, offset, size, value):
    """Parts of a register, several at once, and none."""
    assert thing.read(offset, size) == value


def test_writes_of_any_size(thing):
    """Bytes that are not written stay."""
    thing.write(0x1, 1, 0xAB)
    assert thing.RW == 0x1234AB78
    thing.write(0x0, 8, 0xFFFFFFFF_00000001)
    assert (int(thing.RW), int(thing.RO)) == (1, 7)
    thing.write(0x17, 2, 0xCDEF)
    assert (int(thing.WIDE) >> 56, int(thing.BYTE)) == (0xEF, 0xCD)


def test_system_registers_and_state(thing):
    """By encoding; save() and load() carry all registers."""
    (encoding,) = thing.sysregs()
    assert encoding == 3 << 14 | 7 << 11 | 15 << 7 | 15 << 3 | 7
    call = thing.sysregs()[encoding]
    assert call(None) == 5
    call(1 << 63)
    other = Thing(thing.env, {})
    other.load(thing.save())
    assert other.SYS == 1 << 63


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Register(2),
        lambda: Register(0, size=3),
        lambda: Register(0, access="rx"),
        lambda: Register(0, fields={"a": 32}),
        lambda: Register(0, fields={"a": (0, 3)}),
        lambda: Register(0, fields={"a": (3, 0), "b": 3}),
        lambda: SysReg("S3_0_C1_C0_0"),
        lambda: SysReg("MIDR_EL1"),
        lambda: smccc(0x84000008),
        lambda: smccc(0xC6),
        lambda: type("Two", (OwnDevice,), {"A": Register(0), "B": Register(2, size=2)}),
    ],
)
def test_bad_declarations(declare):
    """Each is one line when the class is made."""
    with pytest.raises(DeviceError) as caught:
        declare()
    assert "\n" not in str(caught.value)


GOOD = """
from bhyvepy.devices.own import OwnDevice, Register, smccc
class D(OwnDevice):
    R = Register(0)
    def start(self, options):
        self.n = int(options["n"])
    def read_R(self):
        return 1 // self.n
    @smccc(0xc6000009)
    def pair(self, a, b, c):
        return b, c
class Plain(OwnDevice):
    R = Register(0)
"""


@pytest.fixture
def file(tmp_path):
    def write(text: str, name: str = "dev.py") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_a_class_from_a_file(file):
    """Options arrive, functions answer, and a failure names file and line."""
    path = file(GOOD)
    device = make({"class": f"{path}:D", "n": "1"}, DeviceEnv("python0", None))
    assert device.read(0, 4) == 1
    assert list(device.calls()[0xC6000009]((1, 2, -3))) == [2, (1 << 64) - 3]
    device.n = 0
    with pytest.raises(DeviceError, match=r"python0: dev\.py:8: ZeroDivisionError: "):
        device.read(0, 4)


@pytest.mark.parametrize(
    ("options", "text", "says"),
    [
        ({"class": "{f}:D"}, GOOD, r"line 6: KeyError: 'n'"),
        ({"class": "{f}:D", "n": "x"}, GOOD, r"line 6: ValueError"),
        ({"class": "{f}:Plain", "speed": "1"}, GOOD, r"Plain takes no option 'speed'"),
        ({"class": "{f}:Other"}, GOOD, r"has no class Other that is an OwnDevice"),
        ({"class": "{f}:OwnDevice2"}, "OwnDevice2 = 5", r"has no class OwnDevice2"),
        ({"class": "{f}"}, GOOD, r"wants a file and a class"),
        ({}, GOOD, r"wants a file and a class"),
        ({"class": "{f}:D"}, "def x(:", r"line 1: SyntaxError"),
        ({"class": "{f}:D"}, "import no_such_module", r"line 1: ModuleNotFoundError"),
        ({"class": "{f}:D"}, "\n1/0", r"line 2: ZeroDivisionError"),
        ({"class": "/nonexistent/x.py:D"}, "", r"cannot read .*: no such file"),
        ({"class": "/etc/passwd:D"}, "", r"its name must end in \.py"),
    ],
)
def test_what_is_wrong_with_a_file(file, options, text, says):
    """One line, with the place where there is one."""
    path = file(text)
    options = {k: v.replace("{f}", path) for k, v in options.items()}
    with pytest.raises(DeviceError, match=says) as caught:
        make(options, DeviceEnv("python0", None))
    assert "\n" not in str(caught.value)


def test_the_example_is_documented():
    """docs/devices.md shows the file as it is."""
    root = Path(__file__).resolve().parents[2]
    body = (root / "guests/adder.py").read_text().split("class Adder")[1]
    page = (root / "docs/devices.md").read_text()
    for block in body.split("\n\n")[1:3]:
        assert block.strip("\n") in page
