"""The terminal front end: output, input, escapes, raw mode, lost readers."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
import termios
import threading
import time

import pytest

from bhyvepy.devices import console as console_module
from bhyvepy.devices.console import OUT_LIMIT, PENDING, Console, ConsoleEvent


class Sink:
    """A character device that takes so many bytes at a time."""

    def __init__(self, room=1 << 30):
        self.room = room
        self.got = bytearray()

    def push(self, data):
        n = min(self.room, len(data))
        self.got += data[:n]
        self.room -= n
        return n

    def recall(self):
        data, self.got = bytes(self.got), bytearray()
        return data


@pytest.fixture
def pipes():
    """(write end of input, console's input, console's output, read end of output)."""
    i_r, i_w = os.pipe()
    o_r, o_w = os.pipe()
    fds = [i_w, i_r, o_w, o_r]
    yield fds
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def turn(con, timeout=0.05):
    """One round of the main thread's loop."""
    t = con.timeout()
    t = timeout if t is None else min(t, timeout)
    r, w, _ = select.select(con.read_fds(), con.write_fds(), [], t)
    return con.dispatch(r, w)


def drain(fd):
    """What is there to read now."""
    out = b""
    while select.select([fd], [], [], 0)[0]:
        data = os.read(fd, 65536)
        if not data:
            break
        out += data
    return out


def test_a_line_is_written_at_once(pipes):
    """Output that ends a line needs no main thread; the rest comes after a moment."""
    _, i_r, o_w, o_r = pipes
    con = Console(i_r, o_w)
    port = con.attach(Sink())
    for c in b"login\n":
        port.send(bytes([c]))
    assert drain(o_r) == b"login\n"
    port.send(b"# ")
    assert drain(o_r) == b""
    time.sleep(0.01)
    turn(con)
    assert drain(o_r) == b"# "
    assert con.timeout() is None
    con.close()


def test_ports_merge(pipes):
    """Output of several ports goes to one place."""
    _, i_r, o_w, o_r = pipes
    con = Console(i_r, o_w)
    a, b = con.attach(Sink()), con.attach(Sink())
    a.send(b"one\n")
    b.send(b"two\n")
    assert drain(o_r) == b"one\ntwo\n"
    con.close()


def test_close_flushes(pipes):
    """Nothing that was sent is lost at the end."""
    _, i_r, o_w, o_r = pipes
    con = Console(i_r, o_w)
    con.attach(Sink()).send(b"no newline")
    con.close()
    con.close()
    assert drain(o_r) == b"no newline"


def test_input_goes_to_the_first_port(pipes):
    """The first port gets input until the guest reads another; what it did not read follows."""
    i_w, i_r, o_w, _ = pipes
    con = Console(i_r, o_w)
    a, b = Sink(), Sink()
    con.attach(a)
    port_b = con.attach(b)
    os.write(i_w, b"to a")
    turn(con)
    assert bytes(a.got) == b"to a"
    del a.got[:3]  # the guest reads
    port_b.touched()
    os.write(i_w, b" to b")
    turn(con)
    turn(con)
    assert (bytes(a.got), bytes(b.got)) == (b"", b"a to b")
    con.close()


def test_input_waits_for_room(pipes):
    """What a port does not take waits, the pipe is not read, and space() goes on."""
    i_w, i_r, o_w, _ = pipes
    con = Console(i_r, o_w)
    dev = Sink(room=3)
    port = con.attach(dev)
    os.write(i_w, b"abcdefgh")
    turn(con)
    assert bytes(dev.got) == b"abc"
    assert i_r not in con.read_fds()
    dev.room = 100
    threading.Timer(0.01, port.space).start()
    turn(con, 2)
    assert bytes(dev.got) == b"abcdefgh"
    assert i_r in con.read_fds()
    assert con.dropped_input == 0
    con.close()


def test_eof_does_not_end_anything(pipes):
    """End of input: output goes on and the descriptor is no longer selected."""
    i_w, i_r, o_w, o_r = pipes
    con = Console(i_r, o_w)
    port = con.attach(Sink())
    os.close(i_w)
    pipes[0] = -1
    assert turn(con) is ConsoleEvent.NONE
    assert i_r not in con.read_fds()
    port.send(b"alive\n")
    assert drain(o_r) == b"alive\n"
    con.close()


def test_closed_stdin(pipes):
    """An input that was never open is not selected."""
    _, i_r, o_w, _ = pipes
    os.close(i_r)
    pipes[1] = -1
    con = Console(i_r, o_w)
    con.attach(Sink())
    turn(con, 0)
    con.close()


def test_no_escapes_from_a_pipe(pipes):
    """Input that is no terminal is data, tildes and all."""
    i_w, i_r, o_w, _ = pipes
    con = Console(i_r, o_w)
    dev = Sink()
    con.attach(dev)
    os.write(i_w, b"~.\n~.")
    assert turn(con) is ConsoleEvent.NONE
    assert bytes(dev.got) == b"~.\n~."
    con.close()


@pytest.mark.parametrize(
    ("typed", "guest", "event"),
    [
        (b"~.", b"", ConsoleEvent.POWEROFF),
        (b"a\r~.", b"a\r", ConsoleEvent.POWEROFF),
        (b"a~.", b"a~.", ConsoleEvent.NONE),
        (b"~~.", b"~.", ConsoleEvent.NONE),
        (b"~~\r~~x", b"~\r~x", ConsoleEvent.NONE),
        (b"~x~.", b"~x~.", ConsoleEvent.NONE),
        (b"\r~\r~.", b"\r~\r", ConsoleEvent.POWEROFF),
        (b"\x03~", b"\x03~", ConsoleEvent.NONE),
        (b"~?~.", b"", ConsoleEvent.POWEROFF),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_escapes(pipes, typed, guest, event, bytewise):
    """Tilde escapes count at the start of a line only; everything else is the guest's."""
    i_w, i_r, o_w, o_r = pipes
    con = Console(i_r, o_w, escape=True)
    dev = Sink()
    con.attach(dev)
    got = ConsoleEvent.NONE
    for part in [bytes([c]) for c in typed] if bytewise else [typed]:
        os.write(i_w, part)
        got = turn(con)
        if got is ConsoleEvent.POWEROFF:
            break
    assert (bytes(dev.got), got) == (guest, event)
    con.close()
    assert (b"power off" in drain(o_r)) == (b"~?" in typed)


def test_reader_gone(pipes):
    """A closed reader costs the guest nothing: output is dropped and counted."""
    _, i_r, o_w, o_r = pipes
    con = Console(i_r, o_w)
    port = con.attach(Sink())
    os.close(o_r)
    pipes[3] = -1
    start = time.monotonic()
    for _ in range(1000):
        port.send(b"x" * 99 + b"\n")
    assert time.monotonic() - start < 1
    assert con.dropped_output == 100000
    assert con.write_fds() == []
    con.close()


def test_reader_that_does_not_read(pipes, monkeypatch):
    """A stopped reader stalls the guest once, bounded; what is kept arrives later, in order."""
    _, i_r, o_w, o_r = pipes
    monkeypatch.setattr(console_module, "STALL", 0.1)
    con = Console(i_r, o_w)
    port = con.attach(Sink())
    total = 2 * OUT_LIMIT
    start = time.monotonic()
    for _ in range(total // 1024):
        port.send(b"y" * 1023 + b"\n")
    assert time.monotonic() - start < 2
    assert len(con._buf) <= OUT_LIMIT
    assert con.dropped_output > 0
    assert con.write_fds()
    got = len(drain(o_r))
    end = time.monotonic() + 5
    while con.write_fds() and time.monotonic() < end:
        turn(con)
        got += len(drain(o_r))
    assert got + con.dropped_output == total
    port.send(b"z\n")
    assert drain(o_r) == b"z\n"
    con.close()


def test_slow_reader_loses_nothing(pipes):
    """A reader that is only slow gets every byte."""
    _, i_r, o_w, o_r = pipes
    con = Console(i_r, o_w)
    port = con.attach(Sink())
    data = bytes(range(256)) * 4 * 1200
    got = bytearray()

    def reader():
        while len(got) < len(data):
            got.extend(os.read(o_r, 4096))

    t = threading.Thread(target=reader)
    t.start()
    for at in range(0, len(data), 256):
        port.send(data[at : at + 256])
    end = time.monotonic() + 10
    while t.is_alive() and time.monotonic() < end:
        turn(con, 0.01)
    t.join(1)
    assert bytes(got) == data
    assert con.dropped_output == 0
    con.close()


def test_flags_of_the_shared_descriptor_stay(pipes):
    """The descriptor that we share with others does not become non-blocking."""
    _, i_r, o_w, _ = pipes
    con = Console(i_r, o_w)
    con.attach(Sink()).send(b"x\n")
    assert os.get_blocking(o_w)
    assert os.get_blocking(i_r)
    con.close()


def test_output_to_a_file_is_appended(tmp_path, pipes):
    """Output redirected to a file goes on where the file is."""
    with open(tmp_path / "log", "wb") as f:
        f.write(b"before\n")
        f.flush()
        con = Console(pipes[1], f.fileno())
        con.attach(Sink()).send(b"guest\n")
        con.close()
        f.write(b"after\n")
    assert (tmp_path / "log").read_bytes() == b"before\nguest\nafter\n"


def test_output_to_a_socket(pipes):
    """A socket works as well, and its going away is survived."""
    a, b = socket.socketpair()
    con = Console(pipes[1], a.fileno())
    port = con.attach(Sink())
    port.send(b"hi\n")
    assert b.recv(10) == b"hi\n"
    b.close()
    port.send(b"lost\n")
    assert con.dropped_output == 5
    con.close()
    a.close()


class TestTerminal:
    """With a terminal for input."""

    @pytest.fixture
    def tty(self):
        """(master, slave) of a new terminal."""
        master, slave = pty.openpty()
        yield master, slave
        os.close(master)
        os.close(slave)

    def test_raw_and_restored(self, tty):
        """The terminal is raw inside, Ctrl-C is a byte, and everything is restored after."""
        master, slave = tty
        before = termios.tcgetattr(slave)
        dev = Sink()
        con = Console(slave, slave)
        con.attach(dev)
        with con:
            mode = termios.tcgetattr(slave)
            assert not mode[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
            os.write(master, b"\x03\x1a\r\x11")
            turn(con, 1)
            assert bytes(dev.got) == b"\x03\x1a\r\x11"
        assert termios.tcgetattr(slave) == before

    def test_background(self, tty, monkeypatch):
        """In the background the terminal is left alone; in front again it is taken."""
        _, slave = tty
        before = termios.tcgetattr(slave)
        con = Console(slave, slave)
        con.attach(Sink())
        monkeypatch.setattr(con, "_foreground", lambda: False)
        with con:
            assert slave not in con.read_fds()
            assert con.timeout() == console_module.BACKGROUND_POLL
            assert termios.tcgetattr(slave) == before
            monkeypatch.setattr(con, "_foreground", lambda: True)
            assert slave in con.read_fds()
            assert con.timeout() is None
            assert termios.tcgetattr(slave) != before
        assert termios.tcgetattr(slave) == before

    def test_restored_after_an_exception(self, tty):
        """An exception inside restores the terminal too."""
        _, slave = tty
        before = termios.tcgetattr(slave)
        with pytest.raises(RuntimeError), Console(slave, slave):
            raise RuntimeError
        assert termios.tcgetattr(slave) == before

    def test_restored_by_atexit(self, tty):
        """A process that ends without closing the console restores the terminal."""
        _, slave = tty
        before = termios.tcgetattr(slave)
        code = (
            "import sys, termios; from bhyvepy.devices.console import Console;"
            "c = Console(0, 1); c.raw(); assert not termios.tcgetattr(0)[3] & termios.ECHO;"
            "sys.exit(3)"
        )
        done = subprocess.run([sys.executable, "-c", code], stdin=slave, stdout=slave, check=False)
        assert done.returncode == 3
        assert termios.tcgetattr(slave) == before

    def test_escape_works_on_a_guest_that_does_not_read(self, tty):
        """Input beyond the limit is dropped and counted, but ~. is seen."""
        master, slave = tty
        con = Console(slave, slave)
        con.attach(Sink(room=0))
        with con:
            for _ in range(PENDING // 1000 + 2):
                os.write(master, b"x" * 999 + b"\r")
                turn(con, 1)
            assert con.dropped_input > 0
            os.write(master, b"~.")
            assert turn(con, 1) is ConsoleEvent.POWEROFF

    def test_a_long_paste_arrives_whole(self, tty):
        """20 kB at once into a guest that takes 16 bytes at a time: nothing is lost."""
        master, slave = tty
        con = Console(slave, slave)
        sink = Sink(room=0)
        port = con.attach(sink)
        text = b"".join(b"%063d\r" % n for n in range(320))
        with con:
            for at in range(0, len(text), 1024):
                os.write(master, text[at : at + 1024])
                turn(con, 1)
            while len(sink.got) < len(text):
                sink.room = 16
                port.space()
                turn(con, 1)
        assert sink.got == text
        assert con.dropped_input == 0

    def test_hangup(self, tty, pipes):
        """A terminal that goes away does not end the VM."""
        master, slave = pty.openpty()
        con = Console(slave, pipes[2])
        con.attach(Sink())
        with con:
            os.close(master)
            for _ in range(3):
                assert turn(con, 0.01) is ConsoleEvent.NONE
            assert slave not in con.read_fds()
        os.close(slave)

    def test_message_has_carriage_returns_when_raw(self, tty, capfd):
        """Our own lines come out straight on a raw terminal."""
        _, slave = tty
        con = Console(slave, slave)
        con.message("one")
        with con:
            con.message("two")
        assert capfd.readouterr().err == "one\ntwo\r\n"
