"""Serial ports that do not end on the terminal: the main thread between port and endpoint.

Responsible for a serial port's line to an endpoint (Line), and for a virtio-console port
on the terminal (Bridge). Both are run by the main thread like the console itself
(console.py): read_fds, write_fds, timeout, dispatch. Not for what an endpoint is
(endpoint.py).

While nobody is connected, what the guest sends is dropped, as on a cable without an end;
a slow client makes the guest wait for a moment, as the terminal does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress

from .base import CharDevice, Port
from .console import STALL, Console
from .endpoint import Endpoint, PtyEndpoint


class Line:
    """A serial port's way to an endpoint; implements base.Port."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._devices: list[CharDevice] = []
        self._console: Console | None = None
        self._ports: dict[int, Port] = {}
        # Nobody may ever read a pty: then its buffer is what there is.
        self._stall = 0.0 if isinstance(endpoint, PtyEndpoint) else STALL
        if endpoint.fd >= 0:
            self._connect()

    # -- the device's side: vCPU threads ---------------------------------------------------

    def attach(self, device: CharDevice) -> Port:
        """The port of a device; several may share a line, as on the terminal."""
        self._devices.append(device)
        if self._console is not None:
            self._ports[id(device)] = self._console.attach(device)
        return _LinePort(self, device)

    # -- the main thread ----------------------------------------------------------------------

    def read_fds(self) -> list[int]:
        """Who wants to connect, and what the client sends."""
        listen = self._endpoint.listen_fd
        out = [] if listen is None else [listen]
        if self._console is not None:
            out += self._console.read_fds()
        return out

    def write_fds(self) -> list[int]:
        """The client, when it is behind."""
        return [] if self._console is None else self._console.write_fds()

    def timeout(self) -> float | None:
        """When dispatch() has something to do."""
        return None if self._console is None else self._console.timeout()

    def dispatch(self, readable: Sequence[int], writable: Sequence[int]) -> None:
        """After select."""
        console = self._console
        if console is not None:
            console.dispatch(readable, writable)
            if console.ended:
                self._disconnect()
        if self._endpoint.listen_fd in readable:
            if self._endpoint.hung_up():
                self._disconnect()
            if self._endpoint.accept():
                self._connect()

    def _connect(self) -> None:
        fd = self._endpoint.fd
        console = Console(fd, fd, terminal=False, stall=self._stall)
        self._ports = {id(d): console.attach(d) for d in self._devices}
        self._console = console

    def _disconnect(self) -> None:
        console, self._console = self._console, None
        self._ports = {}
        if console is not None:
            console.close(quiet=True)
        self._endpoint.drop()

    def port_of(self, device: CharDevice) -> Port | None:
        """What the device talks to just now."""
        return self._ports.get(id(device))

    def close(self) -> None:
        """Last output, and the end."""
        self._disconnect()
        self._endpoint.close()


class _LinePort:
    """A device's port, whoever is connected."""

    def __init__(self, line: Line, device: CharDevice) -> None:
        self._line = line
        self._device = device

    def send(self, data: bytes) -> None:
        """To the client, if there is one."""
        port = self._line.port_of(self._device)
        if port is not None:
            port.send(data)

    def touched(self) -> None:
        """The guest reads here."""
        port = self._line.port_of(self._device)
        if port is not None:
            port.touched()

    def space(self) -> None:
        """There is room."""
        port = self._line.port_of(self._device)
        if port is not None:
            port.space()


class Bridge:
    """Between the console and a device that has a socket: a virtio-console port on stdio."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._near, self.far = socket.socketpair()
        self._near.setblocking(False)
        self.far.setblocking(False)
        self._full = False
        self._port = console.attach(self)
        self._port.touched()

    def push(self, data: bytes) -> int:
        """Input of the terminal; the main thread calls this."""
        try:
            return self._near.send(data)
        except BlockingIOError:
            self._full = True
            return 0
        except OSError:
            return len(data)  # the device is gone

    def recall(self) -> bytes:
        """The socket keeps what it has."""
        return b""

    def read_fds(self) -> list[int]:
        """What the guest sends."""
        return [self._near.fileno()]

    def write_fds(self) -> list[int]:
        """The guest, when it is behind."""
        return [self._near.fileno()] if self._full else []

    def timeout(self) -> float | None:
        """Nothing is ever due."""
        return None

    def dispatch(self, readable: Sequence[int], writable: Sequence[int]) -> None:
        """After select."""
        if self._near.fileno() in writable:
            self._full = False
            self._port.space()
        if self._near.fileno() in readable:
            with suppress(OSError):
                if data := os.read(self._near.fileno(), 1 << 16):
                    self._port.send(data)

    def close(self) -> None:
        """Both ends: the device has its own name for the other."""
        self._near.close()
