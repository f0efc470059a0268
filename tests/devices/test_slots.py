"""-s strings, device options and the registry."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhyvepy.devices import registry, slots
from bhyvepy.devices.ns16550a import NS16550A
from bhyvepy.devices.pl011 import PL011
from bhyvepy.devices.virtio.mmio import VirtioMmio
from bhyvepy.errors import DeviceError


def test_slot_form():
    """n,name puts a modern virtio device at the slot's window and interrupt."""
    s = slots.parse("3,virtio-blk,/tmp/a.img,ro,ser=x=y")
    assert (s.device, s.base, s.size, s.irq, s.version, s.slot) == (
        "virtio-blk",
        0xA0600,
        0x200,
        51,
        2,
        3,
    )
    assert s.options == {"path": "/tmp/a.img", "ro": "true", "ser": "x=y"}
    assert slots.parse("31:0,virtio-rnd").irq == 79
    assert slots.parse("0:4:0,virtio-rnd").slot == 4


def test_slot_form_with_a_strange_path():
    """A path with characters of the other form is still a path."""
    s = slots.parse("1,virtio-blk,/a@b#1:c=d")
    assert s.options == {"path": "/a@b#1:c=d"}
    assert slots.parse("1,virtio-blk,path=/x").options == {"path": "/x"}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0x200@0x7000#44:virtio-blk,virtio.img", ("virtio-blk", 0x7000, 0x200, 44, 1)),
        ("200@7000#44:virtio-blk,virtio.img", ("virtio-blk", 0x7000, 0x200, 44, 1)),
        ("0x200@0x4000#-1:virtio-rnd", ("virtio-rnd", 0x4000, 0x200, None, 1)),
        ("0x200@0x4000#41:virtio-rnd,modern", ("virtio-rnd", 0x4000, 0x200, 41, 2)),
        ("0x1000@0x10000#37:mmio-uart", ("mmio-uart", 0x10000, 0x1000, 37, 1)),
        ("0x1000@0x10000#37:mmio-uart,stdio", ("mmio-uart", 0x10000, 0x1000, 37, 1)),
    ],
)
def test_address_form(text, want):
    """The seeds' form: hexadecimal size and base, decimal interrupt, legacy virtio."""
    s = slots.parse(text)
    assert (s.device, s.base, s.size, s.irq, s.version) == want
    assert s.slot is None


def test_hostbridge_is_accepted():
    """bhyve's command lines start with a host bridge: it is nothing here."""
    assert slots.parse("0,hostbridge").ignored
    assert slots.parse("0:0,hostbridge").ignored
    assert not slots.parse("1,virtio-rnd").ignored


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "forms"),
        (",", "forms"),
        ("help", "forms"),
        ("1", "no device name"),
        ("1,", "no device name"),
        ("99,", "slot numbers"),
        ("32,virtio-rnd", "slot numbers"),
        ("9" * 400 + ",virtio-rnd", "slot numbers"),
        ("-1,virtio-rnd", "forms"),
        ("1,virtio-rnd,", "last comma"),
        ("1,virtio-blk,a,,ro", "empty option"),
        ("1,virtio-blk,a,=x", "empty option"),
        ("1,virtio-blk,a,ser=", "empty option"),
        ("1,virtio-blk,a,ro,ro", "twice"),
        ("1,virtio-blk,a, ", "empty option"),
        ("1:1,virtio-rnd", "functions"),
        ("1:0:0,virtio-rnd", "buses"),
        ("1,nvme,x", "no device 'nvme'; there are .*virtio-blk"),
        ("1,mmio-uart", "give it an address"),
        ("1,virtio-rnd,x", "no options"),
        ("1,virtio-blk,a,modern=2", "takes no value"),
        ("0x200@0x7000#31:virtio-rnd", "32 to 1019"),
        ("0x200@0x7000#1020:virtio-rnd", "32 to 1019"),
        ("0x200@0x7000#-2:virtio-rnd", "32 to 1019"),
        ("0x200@0x7000#0x2c:virtio-rnd", "forms"),
        ("0x200@0#44:virtio-rnd", "address 0"),
        ("0x200@0x7001#44:virtio-rnd", "multiple of 8"),
        ("0x80@0x7000#44:virtio-rnd", "at least"),
        ("0@0x7000#44:virtio-rnd", "at least"),
        ("0x200@0xfffffffe00#44:virtio-rnd,x", "no options"),
        ("0x200@0xfffffffe08#44:virtio-rnd", "end below"),
        ("ffffffffffffffff@ffffffffffffffff#44:virtio-rnd", "end below"),
        ("0x1000@0x9000#-1:hostbridge", "slot"),
        ("1,virtio-rnd\n", "control"),
        ("1,virtio-blk,\0", "control"),
        ("1,virtio-blk," + "a" * 5000, "limit"),
        ("1,virtio-blk", None),
    ],
)
def test_l07_bad_strings(kit, text, words):
    """Every mistake is one short line that says what to do."""
    if words in ("no options", None):
        spec = slots.parse(text)
        with pytest.raises(DeviceError, match=words or "wants a disk") as err:
            registry.create(spec.device, spec.options, kit.make_env().env)
    else:
        with pytest.raises(DeviceError, match=words) as err:
            slots.parse(text)
    assert "\n" not in str(err.value)
    assert len(str(err.value)) < 400


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["1,virtio-rnd", "1,virtio-rnd"], "slot 1 is taken twice"),
        (["0,hostbridge", "0,virtio-rnd"], "slot 0 is taken twice"),
        (["0x200@0x7000#44:virtio-rnd", "0x200@0x7100#45:virtio-rnd"], "overlaps"),
        (["0x200@0x7000#44:virtio-rnd", "0x200@0x7200#44:virtio-rnd"], "interrupt 44"),
        (["2,virtio-rnd", "0x200@0x7200#50:virtio-rnd"], "interrupt 50"),
        (["0x200@0x2f000000#44:virtio-rnd"], "overlaps the gicd"),
        (["0x200@0x90000#44:virtio-rnd"], "overlaps the bvmconsole"),
    ],
)
def test_clashes(texts, words):
    """Two devices in one slot, place or interrupt, or on the GIC, are refused."""
    with pytest.raises(DeviceError, match=words):
        slots.check([slots.parse(t) for t in texts])


def test_no_clash():
    """The seeds' devices and a few slots go together."""
    texts = [
        "0x200@0x4000#-1:virtio-rnd",
        "0x200@0x7000#44:virtio-blk,x",
        "0,hostbridge",
        "1,virtio-rnd",
        "2,virtio-rnd",
        "0x200@0x4200#-1:virtio-rnd",
        "0x1000@0x10000#37:mmio-uart",
    ]
    slots.check([slots.parse(t) for t in texts])


def test_create(kit, tmp_path):
    """The registry makes each device with its window."""
    path = tmp_path / "d"
    path.write_bytes(bytes(4096))
    made = []
    for text, cls, size in (
        (f"1,virtio-blk,{path}", VirtioMmio, 0x200),
        ("0x400@0x7000#44:virtio-rnd", VirtioMmio, 0x400),
        ("0x1000@0x10000#37:mmio-uart", PL011, 0x1000),
        ("0x100@0x20000#38:ns16550a", NS16550A, 0x100),
    ):
        spec = slots.parse(text)
        env = kit.make_env().env
        dev = registry.create(spec.device, spec.options, env, spec.version, spec.size)
        assert isinstance(dev, cls)
        assert dev.size == size
        made.append(dev)
    assert [d.read(4, 4) for d in made[:2]] == [2, 1]
    for dev in made:
        dev.close()


def test_uart_back_ends(kit):
    """A serial port asks for the back end that its option names, and knows no other option."""
    asked = []
    kit_ = kit.make_env()
    env = dataclasses.replace(kit_.env, line=lambda where: asked.append(where) or kit_.env.attach)
    for name in ("mmio-uart", "ns16550a"):
        registry.create(name, {"path": "tcp=127.0.0.1:5000"}, env)
        with pytest.raises(DeviceError, match="no option 'colour'"):
            registry.create(name, {"colour": "red"}, env)
    assert ["tcp=127.0.0.1:5000"] * 2 == asked


def test_help():
    """The list for help has a line for every device."""
    assert len(registry.describe()) == len(registry.DEVICES)
    assert set(registry.KNOWN) >= set(registry.DEVICES)


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="0123456789x@#:,-=virtobnd ", max_size=60),
        st.from_regex(r"[0-9]{1,3}(:[0-9]{1,3})?,virtio-(blk|rnd)(,.{0,10}){0,3}", fullmatch=True),
    )
)
def test_any_string_is_parsed_or_refused(text):
    """No string at all does anything but parse or raise DeviceError."""
    try:
        spec = slots.parse(text)
    except DeviceError as err:
        message = str(err)
    else:
        message = ""
        assert spec.text == text
    assert "\n" not in message
