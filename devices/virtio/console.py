"""virtio-console: serial ports between the guest and sockets or terminals (virtio 1.2, 5.3).

Responsible for the ports' bytes, for the control queue, and for the size of a terminal.
Not for what is behind a port (endpoint.py).

The ports are bhyve's: NAME=PATH listens on a UNIX socket and is /dev/virtio-ports/NAME in
the guest. A port whose name is `console` is a console, hvc0. A device with that one port
alone does not offer several, so that the size of its terminal is in the configuration
space: drivers disagree about the order of columns and rows in the message.

Bytes go by readv and writev between descriptors and the guest's buffers. What a client
does not take waits in the guest; what a guest does not take waits in the client.
"""

from __future__ import annotations

import os
import select
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from bhyvepy.errors import printable

from ..base import DeviceError, GuestLog
from ..endpoint import Endpoint
from .device import VirtioDevice
from .queue import Chain, Queue

F_SIZE, F_MULTIPORT, F_EMERG_WRITE = 1 << 0, 1 << 1, 1 << 2

# Events of the control queue (5.3.6.2).
DEVICE_READY, PORT_ADD, PORT_REMOVE, PORT_READY = 0, 1, 2, 3
CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME = 4, 5, 6, 7

CONTROL_RX, CONTROL_TX = 2, 3
MAX_PORTS = 16
QUEUE_SIZE = 64
EMERG_OFFSET = 8
# Chains of one port before others get a turn.
BATCH = 16
# Messages that wait for a driver's buffers; a driver that asks for more is none.
MAX_MESSAGES = 16 * MAX_PORTS

_CONTROL = struct.Struct("<IHH")

OpenPort = Callable[[str], Endpoint]


class _Port:
    """One port: an endpoint, and what is under way."""

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        self.name = name
        self.endpoint = endpoint
        self.console = name == "console"
        self.guest_open = False
        self.size: tuple[int, int] | None = None
        self.head = -1  # of the chain that is being sent
        self.rest: list[memoryview] = []
        self.reads = False  # tell me when the client has sent something
        self.writes = False  # ... when it takes something
        self.alive = 0  # looks at the size since the driver has sent something

    def forget(self) -> None:
        """The driver is gone."""
        self.guest_open = False
        self.head, self.rest = -1, []
        self.reads = self.writes = False
        self.alive = 0


class VirtioConsole(VirtioDevice):
    """One device with up to 16 ports."""

    kind: ClassVar[str] = "virtio-console"
    device_id: ClassVar[int] = 3

    def __init__(self, ports: Sequence[tuple[str, Endpoint]], log: GuestLog | None = None) -> None:
        self.ports = [_Port(name, end) for name, end in ports]
        self.log = log or GuestLog(self.kind)
        lone = len(ports) == 1 and self.ports[0].console
        self.features = F_SIZE | F_EMERG_WRITE | (0 if lone else F_MULTIPORT)
        # Port 0, control, ports 1 to n (5.3.2); a lone console has no control queues.
        count = 2 if lone else 2 + 2 * len(ports)
        self.queue_sizes = (QUEUE_SIZE,) * count
        self.input_queues = frozenset(range(count)) - {CONTROL_TX}
        self._messages: deque[bytes] = deque()
        self._emergency = bytearray()
        for port in self.ports:
            port.size = port.endpoint.size()

    @staticmethod
    def make(options: Mapping[str, str], open_port: OpenPort, log: GuestLog) -> VirtioConsole:
        """The ports of a command line, in its order; `open_port` knows stdio too."""
        if not options:
            raise DeviceError(
                "virtio-console wants a port: name=socket-path, name=tcp=address:port,"
                " name=pty, or console=stdio"
            )
        if len(options) > MAX_PORTS:
            raise DeviceError(f"virtio-console has at most {MAX_PORTS} ports")
        ports: list[tuple[str, Endpoint]] = []
        try:
            # A driver without several ports has the first: let it be the console.
            for name in sorted(options, key=lambda n: n != "console"):
                if not name.isascii() or not name.isprintable() or len(name) > 40:
                    raise DeviceError(
                        f"virtio-console: {printable(name, 50)!r} is no name for a port"
                    )
                ports.append((name, open_port(options[name])))
        except BaseException:
            for _, end in ports:
                end.close()
            raise
        return VirtioConsole(ports, log)

    # -- configuration space --------------------------------------------------------------

    def config(self) -> bytes:
        """struct virtio_console_config (5.3.4)."""
        cols, rows = self.ports[0].size or (0, 0)
        return struct.pack("<HHII", cols, rows, len(self.ports), 0)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Emergency output of port 0: a byte each, from the first moment on."""
        if offset == EMERG_OFFSET and size in (1, 2, 4):
            self._emergency.append(value & 0xFF)
            fd = self.ports[0].endpoint.fd
            try:
                if fd >= 0:
                    os.write(fd, self._emergency)
            except OSError:
                del self._emergency[:-4096]  # nobody reads it
                return
            self._emergency.clear()

    def resized(self) -> None:
        """Somebody may have changed the size of a terminal; called about once a second.

        Linux does not read the size of a lone console when it starts, only when it is told
        of a change, and must not be told before its console is complete, which can be a
        while after DRIVER_OK: the second look after its first output is late enough.
        """
        changed = False
        first = self.ports[0]
        if first.alive and len(self.queue_sizes) == 2:
            first.alive += 1
            changed = first.alive == 3 and first.size is not None
        for number, port in enumerate(self.ports):
            size = port.endpoint.size()
            if size is None or size == port.size:
                continue
            port.size = size
            changed = True
            if self.negotiated & F_MULTIPORT and port.guest_open:
                self._resize(number, port)
        if changed:
            self.transport.config_changed()
            self.transport.wake()

    # -- queues and ports -------------------------------------------------------------------

    def _port_of(self, index: int) -> tuple[int, _Port]:
        number = index // 2 - 1 if index > CONTROL_TX else 0
        return number, self.ports[number]

    def _is_open(self, port: _Port) -> bool:
        """Without several ports there is nobody to say so."""
        return port.guest_open or not self.negotiated & F_MULTIPORT

    def pull(self, index: int, queue: Queue) -> bool:
        """A turn for one queue."""
        if index == CONTROL_RX and len(self.queue_sizes) > CONTROL_RX:
            return self._tell(queue)
        number, port = self._port_of(index)
        if index % 2:
            return self._send(number, port, queue)
        return self._receive(number, port, queue)

    def _receive(self, number: int, port: _Port, queue: Queue) -> bool:
        """From the client into buffers."""
        end = port.endpoint
        for _ in range(BATCH):
            port.reads = False
            if end.fd < 0 or not self._is_open(port):
                return False
            chain = queue.pop()
            if chain is None:
                if queue.listen():
                    continue
                return False
            if chain.readable or not chain.writable:
                self.log.complain("the driver gave a buffer without room")
                queue.push(chain.head, 0)
                continue
            try:
                got = os.readv(end.fd, chain.writable)
            except BlockingIOError:
                queue.unpop()
                port.reads = True
                return False
            except OSError:  # EIO: the terminal is gone
                got = 0
            if not got:
                queue.unpop()
                self._gone(number, port)
                return False
            queue.push(chain.head, got)
        return True

    def _send(self, number: int, port: _Port, queue: Queue) -> bool:
        """From buffers to the client, or to nobody."""
        end = port.endpoint
        for _ in range(BATCH):
            port.writes = False
            if port.head < 0:
                chain = queue.pop()
                if chain is None:
                    if queue.listen():
                        continue
                    return False
                port.head, port.rest = chain.head, chain.readable
                port.alive = port.alive or 1
            while port.rest and end.fd >= 0:
                try:
                    sent = os.writev(end.fd, port.rest)
                except BlockingIOError:
                    port.writes = True
                    return False
                except OSError:
                    self._gone(number, port)
                    break
                port.rest = _behind(port.rest, sent)
            queue.push(port.head, 0)
            port.head, port.rest = -1, []
        return True

    def stopped(self, index: int) -> None:
        """A queue was taken away; with the first of them the driver is."""
        if index in (CONTROL_RX, CONTROL_TX):
            self._messages.clear()
            return
        _, port = self._port_of(index)
        if index % 2:
            port.head, port.rest, port.writes = -1, [], False
        else:
            port.reads = False

    def reset(self) -> None:
        """The driver is gone; clients stay."""
        self._messages.clear()
        for port in self.ports:
            port.forget()

    # -- clients ---------------------------------------------------------------------------

    def watch(self) -> list[tuple[int, int]]:
        """Who may connect, and clients that were waited for."""
        out = []
        for port in self.ports:
            end = port.endpoint
            if end.listen_fd is not None:
                out.append((end.listen_fd, select.POLLIN))
            events = (select.POLLIN if port.reads else 0) | (select.POLLOUT if port.writes else 0)
            if events and end.fd >= 0:
                out.append((end.fd, events))
        return out

    def ready(self, fd: int, events: int) -> None:
        """A client came, sent or takes something."""
        for number, port in enumerate(self.ports):
            end = port.endpoint
            if fd == end.fd:
                port.reads = port.writes = False
            elif fd == end.listen_fd:
                if end.hung_up():
                    self._gone(number, port)
                if end.accept():
                    self._control(number, PORT_OPEN, 1)

    def _gone(self, number: int, port: _Port) -> None:
        port.reads = port.writes = False
        if port.endpoint.listen_fd is None:
            port.endpoint.close()
        else:
            port.endpoint.drop()
        self._control(number, PORT_OPEN, 0)
        self.transport.wake()

    # -- the control queue --------------------------------------------------------------------

    def _control(self, number: int, event: int, value: int, more: bytes = b"") -> None:
        if not self.negotiated & F_MULTIPORT:
            return
        if len(self._messages) >= MAX_MESSAGES:
            self.log.complain("the driver asks for much and takes nothing")
            return
        self._messages.append(_CONTROL.pack(number, event, value) + more)

    def _resize(self, number: int, port: _Port) -> None:
        if port.size is not None:
            cols, rows = port.size
            self._control(number, RESIZE, 0, struct.pack("<HH", cols, rows))

    def _tell(self, queue: Queue) -> bool:
        """Waiting messages into the driver's buffers; one that does not fit is lost."""
        while self._messages:
            chain = queue.pop()
            if chain is None:
                if queue.listen():
                    continue
                return False
            text = self._messages.popleft()
            if sum(map(len, chain.writable)) < len(text):
                self.log.complain("the driver gave a control buffer that is too small")
                queue.push(chain.head, 0)
                continue
            done = 0
            for view in chain.writable:
                part = text[done : done + len(view)]
                view[: len(part)] = part
                done += len(part)
            queue.push(chain.head, done)
        return False

    def handle(self, index: int, chain: Chain) -> int:
        """A control message of the driver's."""
        text = b"".join(bytes(v[: _CONTROL.size]) for v in chain.readable[: _CONTROL.size])
        if len(text) < _CONTROL.size or not self.negotiated & F_MULTIPORT:
            self.log.complain("the driver sent a short control message")
            return 0
        number, event, value = _CONTROL.unpack_from(text)
        if event == DEVICE_READY:
            if value == 1:
                for n in range(len(self.ports)):
                    self._control(n, PORT_ADD, 1)
        elif number >= len(self.ports):
            self.log.complain(f"the driver speaks of port {number}")
        elif event == PORT_READY and value == 1:
            self._introduce(number, self.ports[number])
        elif event == PORT_OPEN:
            self.ports[number].guest_open = value == 1
        self.transport.wake()
        return 0

    def _introduce(self, number: int, port: _Port) -> None:
        """What the driver should know about a port."""
        if port.console:
            self._control(number, CONSOLE_PORT, 1)
            self._resize(number, port)
        self._control(number, PORT_NAME, 1, port.name.encode("ascii") + b"\0")
        if port.endpoint.fd >= 0:
            self._control(number, PORT_OPEN, 1)

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Clients are cut off, names of sockets go."""
        for port in self.ports:
            port.endpoint.close()

    def save(self) -> dict[str, Any]:
        """Which ports the driver has open, and the chains under way."""
        return {
            "open": [p.guest_open for p in self.ports],
            "heads": [p.head for p in self.ports],
            "messages": list(self._messages),
        }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse; clients are other ones."""
        self._messages = deque(state["messages"])
        for port, is_open in zip(self.ports, state["open"], strict=True):
            port.guest_open = is_open
        self._heads = list(state["heads"])

    _heads: list[int]

    def load_queue(self, index: int, queue: Queue) -> None:
        """A chain that was half sent is sent again: nothing is lost, something may come twice."""
        if index % 2 and index != CONTROL_TX:
            number, port = self._port_of(index)
            chain = queue.again(self._heads[number])
            if chain is not None:
                port.head, port.rest = chain.head, chain.readable


def _behind(views: list[memoryview], done: int) -> list[memoryview]:
    """What is left behind the first `done` bytes."""
    for i, view in enumerate(views):
        if done < len(view):
            return [view[done:] if done else view, *views[i + 1 :]]
        done -= len(view)
    return []
