"""The terminal in front of the machine: one fd in, one fd out, several ports behind.

Responsible for raw mode and its restoration, for escapes, for merging what the ports
send, and for giving input to the port that the guest last read. The main thread runs it
with select (read_fds, write_fds, timeout, dispatch); ports are used by vCPU threads.

Output never stops the guest for good. It is collected for a moment and written without
blocking; when the reader is slow a vCPU waits for it, at most STALL seconds in a row,
and after that output is dropped and counted until the reader takes some again.

Input is held back where that is possible: a port takes what it has room for and the
rest waits here; when the guest turns to another port, what it did not read follows. A
terminal is always read, so that the escape works on a guest that does not read; what does
not fit into PENDING bytes is dropped. A pipe or file is not read while bytes wait.

Escapes, at the start of a line, when input is a terminal:  ~.  power off and leave;
~?  help;  ~~  one tilde.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import stat
import termios
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from types import TracebackType

from .base import LOG, CharDevice, Port

OUT_LIMIT = 1 << 20
OUT_FLUSH = 512  # so many bytes, or a line, are written at once ...
OUT_DELAY = 0.004  # ... and anything else after this long
STALL = 2.0
PENDING = 1 << 20  # a long paste into a slow guest
BACKGROUND_POLL = 0.5
READ_SIZE = 1024

ESCAPE = ord("~")
HELP = "\r\n~.  power off and leave\r\n~?  this list\r\n~~  one ~\r\n"


class ConsoleEvent(Enum):
    """What the user asked for."""

    NONE = "none"
    POWEROFF = "poweroff"


class _Port:
    """One device's end; implements base.Port."""

    def __init__(self, console: Console, device: CharDevice) -> None:
        self._console = console
        self.device = device
        self.send = console.output

    def touched(self) -> None:
        """The guest reads here: input comes here from now on."""
        if self._console._focus is not self:
            self._console._refocus(self)

    def space(self) -> None:
        """Called on a vCPU thread: the main thread fills the device again."""
        if self._console._pending:
            self._console._wake()


class Console:
    """The host's side of the machine's serial ports."""

    def __init__(
        self,
        in_fd: int = 0,
        out_fd: int = 1,
        escape: bool | None = None,
        *,
        terminal: bool | None = None,
        stall: float | None = None,
    ) -> None:
        self._in = in_fd
        self._out = out_fd
        self._tty = os.isatty(in_fd) if terminal is None else terminal
        self._stall = STALL if stall is None else stall
        self._escape = self._tty if escape is None else escape
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()  # output
        self._buf = bytearray()
        self._flush_at: float | None = None
        self._gone = False  # the reader is: do not wait for it
        self.dropped_output = 0
        self._ports: list[_Port] = []
        self._focus: _Port | None = None
        self._fed: _Port | None = None  # who was given input last; main thread only
        self._pending = bytearray()  # input no port has taken; main thread only
        self.dropped_input = 0
        try:
            os.fstat(in_fd)
            self._eof = False
        except OSError:
            self._eof = True
        self._line_start = True
        self._tilde = False
        self._saved: list[object] | None = None
        self._want_raw = False
        self._writer = _Writer(out_fd)
        self._closed = False

    def attach(self, device: CharDevice) -> Port:
        """A port for a device; the first one gets input until the guest reads another."""
        port = _Port(self, device)
        self._ports.append(port)
        if self._focus is None:
            self._focus = port
        return port

    # -- output: any thread ---------------------------------------------------------------

    def output(self, data: bytes) -> None:
        """Bytes from the guest."""
        with self._lock:
            buf = self._buf
            if not buf:
                self._flush_at = time.monotonic() + OUT_DELAY
                wake = True
            else:
                wake = False
            buf += data
            if len(buf) >= OUT_FLUSH or data.endswith(b"\n"):
                self._flush()
                wake = bool(buf)
        if wake:
            self._wake()

    def _flush(self) -> None:
        """Write what can be written; bound what cannot. Lock held."""
        buf = self._buf
        deadline = 0.0
        while buf:
            n = self._writer.write(buf)
            if n:
                del buf[:n]
                self._gone = False
                continue
            if len(buf) < OUT_LIMIT or self._writer.broken:
                break
            now = time.monotonic()
            deadline = deadline or now + self._stall
            if self._gone or now >= deadline:
                self._gone = True
                break
            self._writer.wait(deadline - now)
        if buf and (self._gone or self._writer.broken):
            over = len(buf) if self._writer.broken else len(buf) - OUT_LIMIT
            if over > 0:
                del buf[:over]
                self.dropped_output += over
        self._flush_at = None

    def message(self, text: str) -> None:
        """A line of our own on standard error."""
        end = "\r\n" if self._saved is not None else "\n"
        with self._lock:
            self._flush()
        with suppress(OSError):  # nobody reads it
            os.write(2, (text + end).encode(errors="replace"))

    # -- the main thread's loop -------------------------------------------------------------

    def read_fds(self) -> list[int]:
        """Descriptors to wait on for reading."""
        fds = [self._event]
        if self._eof:
            return fds
        if self._tty:
            if self._foreground():
                if self._want_raw and self._saved is None:
                    self.raw()  # started in the background, brought to the front since
                fds.append(self._in)
        elif self._ports and not self._pending:
            fds.append(self._in)
        return fds

    def write_fds(self) -> list[int]:
        """Descriptors to wait on for writing: the output, when it is behind."""
        if self._buf and self._flush_at is None and not self._writer.broken:
            return [self._writer.fd]
        return []

    def timeout(self) -> float | None:
        """Seconds after which dispatch() has something to do."""
        due = self._flush_at
        if due is not None:
            return max(due - time.monotonic(), 0.0)
        # A shell's `fg` tells a running job nothing: look now and then.
        return BACKGROUND_POLL if self._want_raw and self._saved is None else None

    def dispatch(self, readable: Sequence[int], writable: Sequence[int] = ()) -> ConsoleEvent:
        """After select: move output and input."""
        if self._event in readable:
            with suppress(BlockingIOError):
                os.eventfd_read(self._event)
        due = self._flush_at
        if self._writer.fd in writable or (due is not None and time.monotonic() >= due):
            with self._lock:
                self._flush()
        event = ConsoleEvent.NONE
        if self._in in readable:
            event = self.handle_input()
        self._deliver()
        return event

    def handle_input(self) -> ConsoleEvent:
        """Read once, act on escapes, keep the rest for the guest."""
        try:
            data = os.read(self._in, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return ConsoleEvent.NONE
        except OSError:  # the terminal is gone: the VM goes on
            data = b""
        if not data:
            self._eof = True
            return ConsoleEvent.NONE
        out, event = self._escapes(data) if self._escape else (data, ConsoleEvent.NONE)
        room = max(PENDING - len(self._pending), 0)
        self._pending += out[:room]
        self.dropped_input += max(len(out) - room, 0)
        return event

    def _escapes(self, data: bytes) -> tuple[bytes, ConsoleEvent]:
        out = bytearray()
        for byte in data:
            if self._tilde:
                self._tilde = False
                if byte == ord("."):
                    return bytes(out), ConsoleEvent.POWEROFF
                if byte == ord("?"):
                    self.output(HELP.encode())
                    continue  # still at the start of a line
                if byte != ESCAPE:
                    out.append(ESCAPE)
            elif byte == ESCAPE and self._line_start:
                self._tilde = True
                continue
            out.append(byte)
            self._line_start = byte in b"\r\n"
        return bytes(out), ConsoleEvent.NONE

    def _deliver(self) -> None:
        port, fed = self._focus, self._fed
        if fed is not None and fed is not port:
            self._pending[:0] = fed.device.recall()
            self._fed = None
        while self._pending and port is not None:
            self._fed = port
            part = bytes(self._pending[:READ_SIZE])
            taken = port.device.push(part)
            del self._pending[:taken]
            if taken < len(part):
                return  # full: space() says when it is not

    def _refocus(self, port: _Port) -> None:
        """On a vCPU thread: the guest reads another port than before."""
        self._focus = port
        self._wake()

    def _wake(self) -> None:
        with suppress(OSError):  # closed: the machine is going down
            os.eventfd_write(self._event, 1)

    # -- the terminal ---------------------------------------------------------------------

    def __enter__(self) -> Console:
        self.raw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _foreground(self) -> bool:
        """Whether reading the terminal, or setting it, would not stop us."""
        try:
            return os.tcgetpgrp(self._in) == os.getpgrp()
        except OSError:
            return True  # not our controlling terminal: no job control on it

    def raw(self) -> None:
        """Every key goes to the guest, Ctrl-C too. Not in the background, not a pipe."""
        if not self._tty or self._saved is not None:
            return
        self._want_raw = True
        if not self._foreground():
            return
        try:
            saved = termios.tcgetattr(self._in)
            mode = termios.tcgetattr(self._in)
            mode[0] &= ~(
                termios.IGNBRK
                | termios.BRKINT
                | termios.PARMRK
                | termios.ISTRIP
                | termios.INLCR
                | termios.IGNCR
                | termios.ICRNL
                | termios.IXON
            )
            mode[1] &= ~termios.OPOST
            mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
            mode[3] &= ~(
                termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN
            )
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
            self._saved = saved
            atexit.register(self.restore)
            termios.tcsetattr(self._in, termios.TCSADRAIN, mode)
        except (OSError, termios.error) as err:
            self._saved, self._want_raw = None, False
            LOG.warning("the terminal stays as it is: %s", err)

    def restore(self) -> None:
        """The terminal as it was; twice is harmless."""
        saved, self._saved, self._want_raw = self._saved, None, False
        if saved is None:
            return
        atexit.unregister(self.restore)
        with suppress(OSError, termios.error):  # the terminal is gone
            termios.tcsetattr(self._in, termios.TCSANOW, saved)  # type: ignore[arg-type]

    @property
    def ended(self) -> bool:
        """Whether whoever was at the other end is gone."""
        return self._eof or self._writer.broken

    def close(self, quiet: bool = False) -> None:
        """Last output, terminal restored, and a word about what was lost unless `quiet`."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + (0.0 if quiet else self._stall)
        with self._lock:
            while self._buf and not self._writer.broken and time.monotonic() < deadline:
                self._flush()
                if self._buf:
                    self._writer.wait(0.1)
            self.dropped_output += len(self._buf)
            self._buf.clear()
        self.restore()
        self._writer.close()
        os.close(self._event)
        self._event = -1
        if self.dropped_output and not quiet:
            self.message(f"console: {self.dropped_output} bytes of output were dropped")


class _Writer:
    """Writes that do not block, without changing the flags of a shared descriptor.

    O_NONBLOCK belongs to the open file, which we share with the shell; so a terminal or
    FIFO is opened once more, a socket gets MSG_DONTWAIT, and a file does not block.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.broken = False
        self._own = False
        self._plain = False  # it does not block, for all who share it
        self._sock: socket.socket | None = None
        try:
            mode = os.fstat(fd).st_mode
            self._plain = not os.get_blocking(fd)
        except OSError:
            self.broken = True
            return
        if stat.S_ISSOCK(mode):
            self._sock = socket.socket(fileno=os.dup(fd))
        elif self._plain:
            pass
        elif stat.S_ISFIFO(mode) or os.isatty(fd):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                self.fd = os.open(f"/proc/self/fd/{fd}", flags)
                self._own = True
            except OSError:
                pass  # not ours to open: write() asks poll first

    def write(self, data: bytes | bytearray) -> int:
        """Bytes written; 0 when it would block or the reader is gone (broken)."""
        if self.broken:
            return 0
        try:
            if self._sock is not None:
                return self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            if not self._own and not self._plain:
                if not self.wait(0):
                    return 0
                return os.write(self.fd, data[:512])
            return os.write(self.fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.broken = True
            return 0

    def wait(self, seconds: float) -> bool:
        """Whether a write would get somewhere, after at most so long."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return bool(poll.poll(max(seconds, 0.0) * 1000))

    def close(self) -> None:
        """Only what is our own."""
        if self._own:
            os.close(self.fd)
            self._own = False
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self.broken = True
