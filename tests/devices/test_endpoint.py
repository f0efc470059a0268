"""Where serial lines end: sockets, pseudo-terminals, terminals, and the main thread between."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import termios
import time
import tty

import pytest

from bhyvepy.devices import endpoint as endpoint_module
from bhyvepy.devices.console import Console
from bhyvepy.devices.endpoint import open_endpoint, open_port
from bhyvepy.devices.line import Bridge, Line
from bhyvepy.errors import DeviceError


class Sink:
    """A character device with room for so much."""

    def __init__(self, room=1 << 20):
        self.got = bytearray()
        self.room = room

    def push(self, data):
        n = min(len(data), self.room - len(self.got))
        self.got += data[:n]
        return n

    def recall(self):
        data, self.got = bytes(self.got), bytearray()
        return data


def turn(line, seconds=0.05):
    """One turn of the main thread's loop."""
    timeout = line.timeout()
    timeout = seconds if timeout is None else min(timeout, seconds)
    r, w, _ = select.select(line.read_fds(), line.write_fds(), [], timeout)
    line.dispatch(r, w)


def until(line, done):
    """Turns until done() holds."""
    end = time.monotonic() + 5
    while not done():
        assert time.monotonic() < end
        turn(line, 0.01)


def free_port():
    """A port that nobody has just now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(params=["tcp", "unix"])
def place(request, tmp_path):
    """A listening form, and a function that connects to it."""
    if request.param == "tcp":
        port = free_port()
        return f"tcp=127.0.0.1:{port}", lambda: socket.create_connection(("127.0.0.1", port), 5)
    path = str(tmp_path / "com.sock")

    def connect():
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        s.connect(path)
        return s

    return f"socket:{path}", connect


def test_client_comes_and_goes(place):
    """Without a client output is lost; with one both ways work; the next may come after it."""
    text, connect = place
    line = Line(open_endpoint(text))
    sink = Sink()
    port = line.attach(sink)
    port.send(b"nobody hears this\n")
    for i in range(3):
        with connect() as client:
            until(line, lambda: line.port_of(sink) is not None)
            port.send(b"hello %d\n" % i)
            turn(line)
            assert b"hello %d\n" % i == client.recv(100)
            client.sendall(b"input %d" % i)
            want = b"input %d" % i
            until(line, lambda: sink.got == want)  # noqa: B023
            sink.got.clear()
        until(line, lambda: line.port_of(sink) is None)
        port.send(b"nobody hears this either\n")
    line.close()


def test_one_client_at_a_time(place):
    """A second client is turned away; the first is not disturbed."""
    text, connect = place
    line = Line(open_endpoint(text))
    sink = Sink()
    port = line.attach(sink)
    with connect() as first, connect() as second:
        until(line, lambda: line.port_of(sink) is not None)
        for _ in range(3):
            turn(line)
        assert b"" == second.recv(10)
        port.send(b"x\n")
        turn(line)
        assert b"x\n" == first.recv(10)
    line.close()


def test_a_client_that_hung_up_makes_room(place):
    """A guest that reads nothing does not keep the line for a client that is gone."""
    text, connect = place
    line = Line(open_endpoint(text))
    sink = Sink(room=0)
    port = line.attach(sink)
    with connect() as first:
        until(line, lambda: line.port_of(sink) is not None)
        first.sendall(b"not read")
        for _ in range(3):
            turn(line)
    with connect() as second:
        for _ in range(5):
            turn(line)
        port.send(b"for the second\n")
        turn(line)
        assert b"for the second\n" == second.recv(100)
    line.close()


def test_v04_input_waits_for_room(place):
    """V04: what the guest does not take stays with the client, not in our memory."""
    text, connect = place
    line = Line(open_endpoint(text))
    sink = Sink(room=100)
    port = line.attach(sink)
    with connect() as client:
        client.setblocking(False)
        until(line, lambda: line.port_of(sink) is not None)
        sent = 0
        try:
            for _ in range(100000):
                sent += client.send(b"z" * 4096)
                turn(line, 0)
        except BlockingIOError:
            pass
        assert sent < 64 << 20
        assert 100 == len(sink.got)
        sink.room = sent
        port.space()
        until(line, lambda: len(sink.got) >= sent)
        assert sent == len(sink.got)
    line.close()


def test_pty():
    """A pty says where it is, is raw, keeps output for who comes later, and never stalls."""
    end = open_endpoint("pty")
    line = Line(end)
    port = line.attach(Sink())
    port.send(b"early\n")
    turn(line)
    fd = os.open(end.where, os.O_RDWR | os.O_NOCTTY)
    assert not termios.tcgetattr(fd)[3] & (termios.ECHO | termios.ICANON)
    assert b"early\n" == os.read(fd, 100)
    began = time.monotonic()
    for _ in range(100):
        port.send(b"y" * 60000)
    assert time.monotonic() - began < 1
    os.close(fd)
    line.close()


def test_pty_input():
    """What is typed on a pty arrives, also after it was closed and opened again."""
    end = open_endpoint("pty")
    line = Line(end)
    sink = Sink()
    line.attach(sink)
    for _ in range(2):
        fd = os.open(end.where, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"keys\r")
        until(line, lambda: sink.got.endswith(b"keys\r"))
        os.close(fd)
        turn(line)
    assert b"keys\rkeys\r" == sink.got
    line.close()


def test_terminal_device():
    """A terminal is raw while it is used, and as before afterwards."""
    master, slave = os.openpty()
    tty.setcbreak(slave)
    before = termios.tcgetattr(slave)
    end = open_endpoint(os.ttyname(slave))
    assert before != termios.tcgetattr(slave)
    os.write(master, b"k")
    assert select.select([end.fd], [], [], 5)[0]
    assert b"k" == os.read(end.fd, 10)
    end.close()
    end.close()
    assert before == termios.tcgetattr(slave)
    os.close(master)
    os.close(slave)


def test_unix_socket_is_private_and_goes_away(tmp_path):
    """Mode 0600; removed at the end; what a killed process left is replaced, nothing else is."""
    path = tmp_path / "s"
    end = open_endpoint(f"socket:{path}")
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    with pytest.raises(DeviceError, match="in use"):
        open_endpoint(f"socket:{path}")
    end.close()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    end = open_endpoint(f"socket:{path}")
    path.unlink()
    path.write_text("somebody else's")
    end.close()
    assert "somebody else's" == path.read_text()
    with pytest.raises(DeviceError, match="there is a file"):
        open_endpoint(f"socket:{path}")
    assert "somebody else's" == path.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "there are stdio, tcp="),
        ("", "there are stdio"),
        ("tcp=127.0.0.1:0", "1 to 65535"),
        ("tcp=127.0.0.1:65536", "1 to 65535"),
        ("tcp=127.0.0.1", "there are stdio"),
        ("tcp=192.0.2.1:5000", "cannot listen on 192.0.2.1:5000"),
        ("tcp=no host:5000", "cannot listen"),
        ("socket:", "there are stdio"),
        ("socket:/nonexistent/x", "cannot listen on /nonexistent/x"),
        ("socket:/tmp/" + "a" * 200, "cannot listen"),
        ("socket:a\0b", "cannot listen"),
        ("/dev/null", "not a terminal"),
        ("/nonexistent", "cannot open console"),
    ],
    ids=str,
)
def test_bad_forms(text, words):
    """Each is one line."""
    with pytest.raises(DeviceError) as caught:
        open_endpoint(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_port_paths(tmp_path, monkeypatch):
    """For a virtio-console port a path is a UNIX socket, as in bhyve."""
    monkeypatch.chdir(tmp_path)
    for text, name in (("console.skt", "console.skt"), (str(tmp_path / "b"), "b")):
        end = open_port(text)
        assert stat.S_ISSOCK((tmp_path / name).stat().st_mode)
        end.close()


def test_bridge():
    """A device with a socket and the terminal: both ways, and back pressure."""
    in_r, in_w = os.pipe()
    out_r, out_w = os.pipe()
    con = Console(in_r, out_w)
    bridge = Bridge(con)
    far = bridge.far

    def turns(done):
        end = time.monotonic() + 5
        while not done():
            assert time.monotonic() < end
            fds = [*con.read_fds(), *bridge.read_fds()]
            r, w, _ = select.select(fds, [*con.write_fds(), *bridge.write_fds()], [], 0.01)
            con.dispatch(r, w)
            bridge.dispatch(r, w)

    far.sendall(b"out\n")
    turns(lambda: select.select([out_r], [], [], 0)[0])
    assert b"out\n" == os.read(out_r, 100)
    os.write(in_w, b"in")
    turns(lambda: select.select([far], [], [], 0)[0])
    assert b"in" == far.recv(100)
    # The device does not read: the pipe fills, nothing is lost.
    os.set_blocking(in_w, False)
    sent = 0
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            sent += os.write(in_w, b"q" * 4096)
        except BlockingIOError:
            if bridge.write_fds():
                break
        turns(lambda: True)
        r, w, _ = select.select(con.read_fds(), [], [], 0)
        con.dispatch(r, w)
    assert bridge.write_fds()
    got = 0

    def take():
        nonlocal got
        with contextlib.suppress(BlockingIOError):
            got += len(far.recv(1 << 20))
        return got >= sent

    turns(take)
    assert got == sent
    con.close()
    bridge.close()
    far.close()
    for fd in (in_r, in_w, out_r, out_w):
        os.close(fd)


def test_no_descriptors_left_does_not_spin(place, monkeypatch):
    """A client that cannot be let in for want of descriptors costs a moment, not a core."""
    text, _connect = place
    end = open_endpoint(text)

    class Full:
        def accept(self):
            raise OSError(24, "Too many open files")

    slept = []
    monkeypatch.setattr(endpoint_module.time, "sleep", slept.append)
    listener, end._listener = end._listener, Full()
    assert not end.accept()
    assert slept
    end._listener = listener
    end.close()
