"""virtio-console: ports, the control queue, sizes, hostile drivers."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
import time

import pytest

from bhyvepy.devices.base import GuestLog
from bhyvepy.devices.endpoint import FdEndpoint, PtyEndpoint, open_port
from bhyvepy.devices.virtio.console import MAX_MESSAGES, VirtioConsole
from bhyvepy.errors import DeviceError

SIZE, MULTIPORT, EMERG = 1, 2, 4
READY, ADD, PORT_READY, CONSOLE, RESIZE, OPEN, NAME = 0, 1, 3, 4, 5, 6, 7


class Box:
    """A device with ports whose clients the test holds, and its driver."""

    def __init__(self, kit, version, names, features=MULTIPORT, endpoints=None):
        self.kit = kit
        self.clients = []
        ports = []
        for name in names:
            ours, far = socket.socketpair()
            ours.setblocking(False)
            far.settimeout(5)
            self.clients.append(far)
            ports.append((name, FdEndpoint(ours)))
        ports += endpoints or []
        self.device = VirtioConsole(ports, GuestLog("con"))
        self.first = kit.Driver(self.device, version)
        self.memory = self.first.memory
        self.queues = [self.first]
        self.queues += [self.first.sibling(i) for i in range(1, len(self.device.queue_sizes))]
        self.first.start(features, 8, self.queues[1:])

    def rx(self, number):
        return self.queues[2 * number + 2 if number else 0]

    def tx(self, number):
        return self.queues[2 * number + 3 if number else 1]

    def give(self, queue, size=64, count=1):
        """Offer buffers; their addresses."""
        out = []
        for i in range(count):
            at = self.kit.BUF + 0x4000 * (queue.index + 1) + 0x100 * i
            self.memory.write(at, b"\xee" * size)
            queue.desc(i, at, size, self.kit.WRITE)
            queue.offer(i)
            out.append(at)
        queue.kick()
        return out

    def send(self, queue, data):
        """A chain of the driver's."""
        at = self.kit.BUF + 0x40000 + 0x1000 * queue.index
        self.memory.write(at, data)
        queue.chain((at, len(data), False))
        queue.offer(0)
        queue.kick()

    def control(self, number, event, value=1):
        self.send(self.queues[3], struct.pack("<IHH", number, event, value))
        assert [(0, 0)] == self.queues[3].used()

    def told(self):
        """The next message of the device's."""
        [at] = self.give(self.queues[2])
        [(_, length)] = self.queues[2].used()
        text = self.memory.read(at, length)
        return (*struct.unpack_from("<IHH", text), text[8:])

    def hello(self, number=0):
        """All that a driver does until a port is open."""
        self.control(0, READY)
        for n in range(len(self.device.ports)):
            assert (n, ADD, 1, b"") == self.told()
        self.control(number, PORT_READY)
        name = self.device.ports[number].name
        if self.device.ports[number].console:
            assert (number, CONSOLE, 1, b"") == self.told()
            if self.device.ports[number].size:
                assert RESIZE == self.told()[1]
        assert (number, NAME, 1, name.encode() + b"\0") == self.told()
        assert (number, OPEN, 1, b"") == self.told()
        self.control(number, OPEN)

    def close(self):
        self.first.close()
        for client in self.clients:
            client.close()


@pytest.fixture(params=[1, 2])
def box(kit, request):
    """Two ports, in both versions."""
    it = Box(kit, request.param, ["a", "b"])
    yield it
    it.close()


@pytest.fixture(params=[1, 2])
def lone(kit, request):
    """A console alone."""
    it = Box(kit, request.param, ["console"], SIZE | EMERG)
    yield it
    it.close()


def test_handshake(box):
    """Ports are announced, named, and open when a client is there."""
    box.hello(0)
    box.control(1, PORT_READY)
    assert (1, NAME, 1, b"b\0") == box.told()
    assert (1, OPEN, 1, b"") == box.told()


@pytest.mark.parametrize("number", [0, 1])
def test_both_ways(box, number):
    """Bytes arrive as they were sent."""
    box.hello(number)
    client = box.clients[number]
    box.send(box.tx(number), b"from the guest")
    assert [(0, 0)] == box.tx(number).used()
    assert b"from the guest" == client.recv(100)
    client.sendall(b"from the host")
    [at] = box.give(box.rx(number))
    assert [(0, 13)] == box.rx(number).used()
    assert b"from the host\xee" == box.memory.read(at, 14)


def test_lone_console(lone):
    """A console alone works without the control queue and before anything is said."""
    lone.send(lone.tx(0), b"boot\n")
    assert [(0, 0)] == lone.tx(0).used()
    assert b"boot\n" == lone.clients[0].recv(100)
    lone.clients[0].sendall(b"x" * 100)
    lone.give(lone.rx(0), 64, 2)
    assert [(0, 64), (1, 36)] == lone.rx(0).used(2)
    assert 2 == len(lone.device.queue_sizes)


def test_driver_without_several_ports(kit):
    """A driver that does not take MULTIPORT has port 0, and it is always open."""
    box = Box(kit, 2, ["a", "b"], 0)
    box.send(box.tx(0), b"hi")
    assert b"hi" == box.clients[0].recv(10)
    box.close()


def test_input_waits_until_the_port_is_open(box):
    """Nothing is read from a client before the guest has opened the port."""
    box.give(box.rx(0))
    box.clients[0].sendall(b"early")
    time.sleep(0.05)
    assert 0 == box.rx(0).used_idx
    box.hello(0)
    assert [(0, 5)] == box.rx(0).used()
    box.control(0, OPEN, 0)
    box.give(box.rx(0))
    box.clients[0].sendall(b"late")
    time.sleep(0.05)
    assert 1 == box.rx(0).used_idx


def test_slow_client_holds_the_guest_back(box):
    """What a client does not take stays in the guest, whole and in order."""
    box.hello(0)
    total = 0
    tx = box.tx(0)
    chunk = bytes(range(256)) * 15
    for _ in range(3000):
        box.send(tx, chunk)
        total += len(chunk)
        time.sleep(0.0005)
        if tx.used_idx - tx.seen & 0xFFFF == 0:
            break
        tx.used()
    else:
        pytest.fail("the client took everything without reading")
    got = b""
    while len(got) < total:
        got += box.clients[0].recv(1 << 16)
    assert chunk * (total // len(chunk)) == got
    assert [(0, 0)] == tx.used()
    # And the other port was not held up.
    box.send(box.tx(1), b"beside")
    assert b"beside" == box.clients[1].recv(10)


def test_v04_input_without_buffers(box):
    """V04: input for a guest that gives no buffers stays with the client, without CPU use."""
    box.hello(0)
    client = box.clients[0]
    client.setblocking(False)
    sent = 0
    try:
        while sent < 64 << 20:
            sent += client.send(b"q" * 65536)
    except BlockingIOError:
        pass
    assert sent < 64 << 20
    began = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - began < 0.1
    got = 0
    while got < sent:
        box.give(box.rx(0), 4096)
        [(_, n)] = box.rx(0).used()
        got += n
    assert got == sent


def test_client_goes(box):
    """A client that leaves closes the port for the guest; output then goes nowhere."""
    box.hello(0)
    box.give(box.rx(0))
    box.clients[0].close()
    assert (0, OPEN, 0, b"") == box.told()
    box.send(box.tx(0), b"to nobody")
    assert [(0, 0)] == box.tx(0).used()
    assert 0 == box.rx(0).used_idx


def test_listening_port(kit, tmp_path):
    """Clients of a UNIX socket come and go; one at a time; the guest is told each time."""
    path = tmp_path / "s"
    box = Box(kit, 2, [], endpoints=[("agent", open_port(str(path)))])
    box.control(0, READY)
    box.told()
    box.control(0, PORT_READY)
    assert (0, NAME, 1, b"agent\0") == box.told()
    box.control(0, OPEN)
    box.send(box.tx(0), b"nobody")
    assert [(0, 0)] == box.tx(0).used()
    box.give(box.rx(0), 64, 4)
    for i in range(2):
        with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as other:
            client.settimeout(5)
            client.connect(str(path))
            assert (0, OPEN, 1, b"") == box.told()
            other.settimeout(5)
            other.connect(str(path))
            assert b"" == other.recv(1)
            client.sendall(b"%d" % i)
            assert [(i, 1)] == box.rx(0).used()
            box.send(box.tx(0), b"answer")
            assert b"answer" == client.recv(10)
            box.tx(0).used()
        assert (0, OPEN, 0, b"") == box.told()
    box.close()
    assert not path.exists()


def test_size_of_a_lone_console(kit):
    """The size is in the configuration space; a change is a configuration interrupt."""
    pty = PtyEndpoint()

    def resize(rows, cols):
        fd = os.open(pty.where, os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        os.close(fd)

    resize(25, 80)
    box = Box(kit, 2, [], SIZE, [("console", pty)])
    assert (80, 25) == struct.unpack("<HH", box.first.mmio.read(0x100, 4).to_bytes(4, "little"))
    generation = box.first.r(0xFC)
    resize(50, 132)
    box.device.resized()
    assert (132, 50) == struct.unpack("<HH", box.first.mmio.read(0x100, 4).to_bytes(4, "little"))
    assert generation != box.first.r(0xFC)
    assert box.first.r(0x060) & 2
    box.device.resized()
    assert generation + 1 == box.first.r(0xFC)
    box.close()


def test_size_that_was_there_before(kit):
    """A lone console's driver is told of the size once, some time after its first output."""
    pty = PtyEndpoint()
    fcntl.ioctl(pty.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 80, 0, 0))
    box = Box(kit, 2, [], SIZE, [("console", pty)])
    for _ in range(5):
        box.device.resized()
    assert not box.first.r(0x060) & 2
    box.send(box.tx(0), b"hello")
    box.tx(0).used()
    told = []
    for _ in range(5):
        box.device.resized()
        told.append(bool(box.first.r(0x060) & 2))
        box.first.w(0x064, 2)
    assert [False, True, False, False, False] == told
    box.close()


def test_size_of_one_port_of_several(kit):
    """With several ports the size is a message, columns first (5.3.6.2)."""
    pty = PtyEndpoint()
    fcntl.ioctl(pty.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 80, 0, 0))
    box = Box(kit, 2, ["a"], MULTIPORT | SIZE, [("console", pty)])
    box.hello(1)
    fcntl.ioctl(pty.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    box.device.resized()
    assert (1, RESIZE, 0, struct.pack("<HH", 100, 40)) == box.told()
    box.close()


def test_emergency_write(lone):
    """Bytes written to emerg_wr come out, before DRIVER_OK too."""
    lone.first.w(0x070, 0)
    lone.first.w(0x070, 1)
    lone.first.w(0x070, 3)
    for byte in b"panic":
        lone.first.mmio.write(0x108, 4, byte)
    assert b"panic" == lone.clients[0].recv(10)


# -- hostile drivers -----------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 4, 7])
def test_v26_short_control_message(box, length):
    """V26: a control message that is cut is ignored and put back."""
    box.send(box.queues[3], bytes(length))
    assert [(0, 0)] == box.queues[3].used()
    box.hello(0)


def test_control_message_in_pieces(box):
    """A control message may be cut into descriptors."""
    text = struct.pack("<IHH", 0, READY, 1)
    at = box.kit.BUF
    box.memory.write(at, text)
    box.queues[3].chain(*((at + i, 1, False) for i in range(8)))
    box.queues[3].offer(0)
    box.queues[3].kick()
    assert [(0, 0)] == box.queues[3].used()
    assert (0, ADD, 1, b"") == box.told()


@pytest.mark.parametrize("number", [2, 16, 0x7FFFFFFF, 0xFFFFFFFF])
def test_unknown_port(box, number):
    """Ports that there are not are not opened, named or remembered."""
    for event in (PORT_READY, OPEN, NAME, RESIZE):
        box.control(number, event)
    box.hello(0)


@pytest.mark.parametrize("event", [2, 4, 5, 7, 8, 0xFFFF])
def test_unknown_event(box, event):
    """Events that only a device sends, or nobody, are ignored: names from a driver too."""
    box.control(0, event)
    assert "a" == box.device.ports[0].name
    box.hello(0)


def test_f11_messages_are_bounded(box):
    """F11, F19: a driver that asks for ever and gives no buffers costs a bounded list."""
    for _ in range(2 * MAX_MESSAGES):
        box.control(0, READY)
    assert len(box.device._messages) <= MAX_MESSAGES
    box.first.start(MULTIPORT, 8, box.queues[1:])
    box.hello(0)


def test_small_control_buffer(box):
    """A control buffer that is too small is put back empty, and the message is lost."""
    box.control(0, READY)
    box.give(box.queues[2], 7)
    assert [(0, 0)] == box.queues[2].used()
    assert (1, ADD, 1, b"") == box.told()


def test_readable_receive_buffer(box):
    """A receive buffer that may only be read is put back."""
    box.hello(0)
    box.rx(0).desc(0, box.kit.BUF, 64, 0)
    box.rx(0).offer(0)
    box.rx(0).kick()
    assert [(0, 0)] == box.rx(0).used()


def test_f19_long_output(box):
    """F19: a chain of a gigabyte over one page is sent as it is, and a reset ends it."""
    box.hello(0)
    tx = box.tx(0)
    tx.chain(*((box.kit.BUF, 0xF0000, False) for _ in range(8)))
    tx.offer(0)
    tx.kick()
    assert b"" != box.clients[0].recv(100)
    began = time.monotonic()
    box.first.w(0x070, 0)
    assert 0 == box.first.r(0x070)
    assert time.monotonic() - began < 1
    box.first.start(MULTIPORT, 8, box.queues[1:])
    box.hello(0)


def test_zero_length_output(box):
    """Chains without a byte come back."""
    box.hello(0)
    for _ in range(100):
        box.tx(0).chain((box.kit.BUF, 0, False))
        box.tx(0).offer(0)
        box.tx(0).kick()
        assert [(0, 0)] == box.tx(0).used()


def test_save_and_load(kit):
    """An open port stays open; input of afterwards arrives."""
    box = Box(kit, 2, ["a", "b"])
    box.hello(1)
    box.first.settle()
    state = box.first.mmio.save()
    other = Box(kit, 2, ["a", "b"])
    for at, data in box.memory.parts:
        other.memory.write(at, bytes(data))
    other.first.mmio.load(state)
    other.rx(1).seen = other.rx(1).used_idx
    other.clients[1].sendall(b"after")
    other.give(other.rx(1))
    assert [(0, 5)] == other.rx(1).used()
    box.close()
    other.close()


# -- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "wants a port"),
        ({f"p{i}": "pty" for i in range(17)}, "at most 16"),
        ({"a\tb": "pty"}, "no name for a port"),
        ({"ü": "pty"}, "no name for a port"),
        ({"x" * 41: "pty"}, "no name for a port"),
        ({"ok": "pty", "bad": "/nonexistent/x"}, "cannot listen"),
        ({"ok": "pty", "bad": "/dev/null"}, "not a terminal"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_bad_options(options, words):
    """Each is one line, and nothing stays open."""
    with pytest.raises(DeviceError, match=words):
        VirtioConsole.make(options, open_port, GuestLog("con"))


def test_console_comes_first():
    """A driver without several ports gets the console."""
    device = VirtioConsole.make({"a": "pty", "console": "pty"}, open_port, GuestLog("con"))
    assert ["console", "a"] == [p.name for p in device.ports]
    device.close()
