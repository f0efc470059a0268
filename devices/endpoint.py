"""The host's end of a serial line: a socket, a pseudo-terminal or a terminal device.

    tcp=ADDRESS:PORT    listens; one client at a time, others are turned away
    socket:PATH         the same on a UNIX socket, made and removed here
    pty                 a new pseudo-terminal, in raw mode
    /dev/...            a terminal device

Responsible for opening these, for who is connected, and for the size of a terminal. A
connection is a non-blocking descriptor. Who reads and writes it, and when, is the
device's business (virtio/console.py) or the main thread's (line.py).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import socket
import stat
import struct
import termios
import time
import tty
from contextlib import suppress

from bhyvepy.errors import printable

from .base import DeviceError

FORMS = "tcp=address:port, socket:path, pty or /dev/..."
_TCP = re.compile(r"tcp=(?:(\[[^]]*\]|[^:]*):)?(\d{1,5})", re.ASCII)


class Endpoint:
    """Somewhere that bytes come from and go to; `fd` is -1 while nobody is there."""

    fd: int = -1
    listen_fd: int | None = None  # readable when somebody wants to connect
    where: str = ""  # what the user must know to get there, if it was not given

    def accept(self) -> bool:
        """listen_fd was readable; True: somebody is connected who was not before."""
        return False

    def hung_up(self) -> bool:
        """Whether the one who is connected will send no more."""
        return False

    def drop(self) -> None:
        """The one who was connected is gone."""

    def size(self) -> tuple[int, int] | None:
        """(columns, rows) of a terminal."""
        return None

    def close(self) -> None:
        """Give everything back; twice is harmless."""


class _Server(Endpoint):
    """A listening socket, and at most one connection."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._peer: socket.socket | None = None
        listener.setblocking(False)
        listener.listen(4)
        self.listen_fd = listener.fileno()

    def accept(self) -> bool:
        """The first comes in; while it is there others are turned away."""
        try:
            peer, _ = self._listener.accept()
        except OSError as err:
            if err.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                time.sleep(0.05)  # it keeps knocking: do not spin
            return False
        if self._peer is not None:
            peer.close()
            return False
        peer.setblocking(False)
        with suppress(OSError):  # not on UNIX sockets
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer, self.fd = peer, peer.fileno()
        return True

    def hung_up(self) -> bool:
        """Asked when another wants to connect."""
        if self.fd < 0:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLRDHUP)
        return bool(poll.poll(0))

    def drop(self) -> None:
        """The next may come."""
        self.fd = -1
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def close(self) -> None:
        """Nobody may come any more."""
        self.drop()
        self._listener.close()


class TcpEndpoint(_Server):
    """tcp=ADDRESS:PORT."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            super().__init__(listener)
        except (OSError, UnicodeError) as err:
            listener.close()
            why = (getattr(err, "strerror", None) or str(err)).lower()
            raise DeviceError(f"cannot listen on {printable(host, 60)}:{port}: {why}") from None


class UnixEndpoint(_Server):
    """socket:PATH; a socket that nobody listens on is taken away first."""

    def __init__(self, path: str) -> None:
        shown = printable(path, 120)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path: str | None = None
        try:
            self._clear(path)
            listener.bind(path)
            self._path, self._id = path, self._identity(path)
            os.chmod(path, 0o600)
            super().__init__(listener)
        except (OSError, ValueError) as err:
            listener.close()
            why = (getattr(err, "strerror", None) or str(err)).lower()
            raise DeviceError(f"cannot listen on {shown}: {why}") from None
        except DeviceError:
            listener.close()
            raise

    @staticmethod
    def _identity(path: str) -> tuple[int, int]:
        st = os.lstat(path)
        return st.st_dev, st.st_ino

    @staticmethod
    def _clear(path: str) -> None:
        """What a killed process left; never a file, never a socket in use."""
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        shown = printable(path, 120)
        if not stat.S_ISSOCK(mode):
            raise DeviceError(f"cannot listen on {shown}: there is a file of that name")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            code = probe.connect_ex(path)
        if code != errno.ECONNREFUSED:
            raise DeviceError(f"cannot listen on {shown}: in use; take another name")
        os.unlink(path)

    def close(self) -> None:
        """The name goes with it, if it is still ours."""
        super().close()
        path, self._path = self._path, None
        if path is not None:
            with suppress(OSError):
                if self._identity(path) == self._id:
                    os.unlink(path)


class PtyEndpoint(Endpoint):
    """A pseudo-terminal; somebody is always connected, if only the kernel's buffer."""

    def __init__(self) -> None:
        try:
            self.fd, self._slave = os.openpty()
        except OSError as err:
            raise DeviceError(f"cannot make a pty: {(err.strerror or '').lower()}") from None
        # The slave stays open, or reading would fail while nobody has it open.
        os.set_blocking(self.fd, False)
        tty.setraw(self._slave)
        self.where = os.ttyname(self._slave)

    def size(self) -> tuple[int, int] | None:
        """As whoever uses it has set it."""
        return terminal_size(self.fd)

    def close(self) -> None:
        """Both ends."""
        fds = {self.fd, self._slave} - {-1}
        self.fd = self._slave = -1
        for fd in fds:
            os.close(fd)


class DeviceEndpoint(Endpoint):
    """A terminal device of the host, in raw mode until it is closed."""

    def __init__(self, path: str) -> None:
        shown = printable(path, 120)
        try:
            flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK
            self.fd = os.open(path, flags)
        except (OSError, ValueError) as err:
            why = (getattr(err, "strerror", None) or str(err)).lower()
            raise DeviceError(f"cannot open console {shown}: {why}") from None
        if not os.isatty(self.fd):
            os.close(self.fd)
            raise DeviceError(f"cannot open console {shown}: not a terminal; there are {FORMS}")
        self._saved = termios.tcgetattr(self.fd)
        tty.setraw(self.fd)

    def size(self) -> tuple[int, int] | None:
        """The terminal's."""
        return terminal_size(self.fd)

    def close(self) -> None:
        """As it was before."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError, termios.error):
                termios.tcsetattr(fd, termios.TCSANOW, self._saved)
            os.close(fd)


class FdEndpoint(Endpoint):
    """A connected socket that another part of this process has the other end of."""

    def __init__(self, sock: socket.socket, size_fd: int | None = None) -> None:
        self._sock = sock
        self._size_fd = size_fd
        self.fd = sock.fileno()

    def size(self) -> tuple[int, int] | None:
        """Of the terminal behind it."""
        return None if self._size_fd is None else terminal_size(self._size_fd)

    def close(self) -> None:
        """Our end."""
        self.fd = -1
        self._sock.close()


def terminal_size(fd: int) -> tuple[int, int] | None:
    """(columns, rows), or None when nobody has said."""
    try:
        raw = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return None
    rows, cols = struct.unpack_from("HH", raw)
    return (cols, rows) if cols and rows else None


def is_endpoint(text: str) -> bool:
    """Whether a word has one of the forms; not whether it can be opened."""
    return text == "pty" or text.startswith(("tcp=", "socket:", "/"))


def open_endpoint(text: str) -> Endpoint:
    """One of the forms above; DeviceError in one line."""
    if text == "pty":
        return PtyEndpoint()
    if match := _TCP.fullmatch(text):
        port = int(match[2])
        if not 0 < port < 65536:
            raise DeviceError(f"{printable(text, 60)}: ports are 1 to 65535")
        return TcpEndpoint((match[1] or "0.0.0.0").strip("[]"), port)  # noqa: S104 - bhyve's
    if text.startswith("socket:") and len(text) > 7:
        return UnixEndpoint(text[7:])
    if text.startswith("/"):
        return DeviceEndpoint(text)
    raise DeviceError(f"{printable(text, 60)} is not known; there are stdio, {FORMS}")


def open_port(text: str) -> Endpoint:
    """A port's endpoint: a bare path is a UNIX socket, as in bhyve."""
    if is_endpoint(text) and not (text.startswith("/") and not text.startswith("/dev/")):
        return open_endpoint(text)
    return open_endpoint(f"socket:{text}")
