"""The gdb server of bhyve -G: one debugger at a time, vCPUs as threads, all of them stop.

A thread of its own serves the socket. A machine that is stopped has all its vCPUs
in the debug set, where the core keeps them out of the guest; vCPU threads report
BRK and SS exits with stopped(). Thread n + 1 of gdb is vCPU n. Bad packets get an
error as the answer; whatever happens to a connection, the guest goes on without it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import ClassVar

from bhyvepy import vmmapi
from bhyvepy.errors import BhyveError, ConfigError, printable
from bhyvepy.gdb import packet, target
from bhyvepy.gdb.packet import BadPacketError, number, numbers, unhex
from bhyvepy.vmexit import ExitCode, VmExit

EC_BREAKPOINT, EC_WATCHPOINT, EC_BRK = 0x30, 0x34, 0x3C
SIGINT, SIGTRAP = 2, 5
ALL = -1
_FEATURES = "QStartNoAckMode+;qXfer:features:read+;swbreak+;hwbreak+;vContSupported+"
_WATCH = {"2": "watch", "3": "rwatch", "4": "awatch"}


class _GoneError(Exception):
    """The session is over."""


class GdbServer:
    """Listens from the moment it is made; start() before the vCPUs run, close() after."""

    def __init__(
        self, vm: vmmapi.VM, cpus: int, address: str, port: int, kill: Callable[[], None]
    ) -> None:
        self._vm, self._cpus, self._kill = vm, cpus, kill
        self._target = target.Target(vm, cpus)
        self._lock = threading.Lock()
        self._running = True
        self._attached = False
        self._closing = False
        self._reason = ""
        self._conn: socket.socket | None = None
        self._reader = packet.Reader()
        self._general = 0  # vCPU that g, m and their kin mean
        self._thread: threading.Thread | None = None
        try:
            family, kind, proto, _, where = socket.getaddrinfo(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._listener = socket.socket(family, kind, proto)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(where)
            self._listener.listen(1)
        except OSError as err:
            raise ConfigError(
                f"gdb cannot be served at {printable(address, 60)}:{port}:"
                f" {(err.strerror or str(err)).lower()}"
            ) from None
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def start(self, wait: bool) -> None:
        """Serve; with `wait` no vCPU runs before a debugger says so."""
        if wait:
            self._running = False
            self._reason = f"T{SIGTRAP:02x}thread:1;"
            self._vm.suspend_cpu(ALL)
        self._thread = threading.Thread(target=self._serve, name="gdb", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The VM is over: tell gdb."""
        self._closing = True
        self._wake()
        if self._thread is not None:
            self._thread.join(2.0)
        self._listener.close()
        if self._thread is None or not self._thread.is_alive():
            os.close(self._wake_r)
            os.close(self._wake_w)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_w, b"\0")

    # -- vCPU threads -----------------------------------------------------------------
    def stopped(self, vcpu: int, e: VmExit) -> bool:
        """A BRK or SS exit. False: it is the guest's own affair."""
        reason = ""
        ec = e.esr >> 26 & 0x3F
        with self._lock:
            if not self._attached:
                return False
            if e.code == ExitCode.BRK:
                if ec == EC_BRK:
                    if e.pc not in self._target.software:
                        return False
                    reason += "swbreak:;"
                elif ec == EC_WATCHPOINT:
                    if found := self._target.hit(e.far):
                        reason += f"{_WATCH[found[0]]}:{found[1]:x};"
                else:
                    reason += "hwbreak:;"
            # A second one at the same time comes again when the machine goes on.
            if self._running:
                self._halt(vcpu, SIGTRAP, reason)
        return True

    def _halt(self, vcpu: int, signal: int, reason: str = "") -> None:
        """Stop everything; the server's thread tells gdb. With the lock."""
        self._running = False
        self._reason = f"T{signal:02x}thread:{vcpu + 1:x};{reason}"
        self._general = vcpu  # as gdb assumes after a stop
        self._vm.suspend_cpu(ALL)
        self._wake()

    # -- the server's thread ------------------------------------------------------------
    def _serve(self) -> None:
        while not self._closing:
            ready, _, _ = select.select([self._listener.fileno(), self._wake_r], [], [])
            self._drain()
            if self._listener.fileno() not in ready:
                continue
            conn, _ = self._listener.accept()
            with conn:
                try:
                    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._session(conn)
                except (OSError, _GoneError):
                    pass
                finally:
                    self._conn = None
                    with contextlib.suppress(BhyveError):
                        self._leave()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_r, 4096)

    def _session(self, conn: socket.socket) -> None:
        self._conn, self._reader = conn, packet.Reader()
        self._general = 0
        with self._lock:
            self._attached = True
            if self._running:
                self._halt(0, SIGTRAP)
        self._drain()
        while True:
            ready, _, _ = select.select([conn.fileno(), self._wake_r], [], [])
            if self._closing:
                self._send("W00")
                return
            if self._wake_r in ready:
                self._drain()
                if not self._running:
                    self._target.step(())
                    self._send(self._reason)
            if conn.fileno() in ready:
                data = conn.recv(65536)
                if not data:
                    return
                packets, acks = self._reader.feed(data)
                if acks:
                    conn.sendall(acks)
                for p in packets:
                    self._packet(p)

    def _leave(self) -> None:
        """As if nobody had been here."""
        with self._lock:
            self._attached = False
            self._target.remove_all()
            if not self._running:
                self._running = True
                self._vm.resume_cpu(ALL)

    def _send(self, text: str | bytes) -> None:
        if self._conn is not None:
            self._conn.sendall(packet.frame(text))

    def _packet(self, body: bytes) -> None:
        if body == packet.INTERRUPT:
            with self._lock:
                if self._running:
                    self._halt(self._general, SIGINT)
            return
        text = body.decode("latin-1")
        handler = self._HANDLERS.get(text[:1])
        if handler is None:
            self._send("")
            return
        try:
            answer = handler(self, text[1:])
        except BadPacketError:
            answer = "E01"
        except BhyveError:
            answer = "E0e"  # EFAULT, as gdb prints it
        if answer is not None:
            self._send(answer)

    # -- packets: each answers, or None when the answer comes later -------------------------
    def _status(self, _: str) -> str:
        return self._reason

    def _vcpu(self, text: str) -> int:
        """A thread id; any and all mean the one that is looked at."""
        if text in ("-1", "0"):
            return self._general
        n = number(text)
        if not 1 <= n <= self._cpus:
            raise BadPacketError("no such thread")
        return n - 1

    def _set_thread(self, text: str) -> str:
        if text[:1] == "g":
            self._general = self._vcpu(text[1:])
        elif text[:1] == "c":
            self._vcpu(text[1:])
        else:
            return ""
        return "OK"

    def _alive(self, text: str) -> str:
        self._vcpu(text)
        return "OK"

    def _read_all(self, _: str) -> str:
        return self._target.read_registers(self._general, target.registers()[:68]).hex()

    def _write_all(self, text: str) -> str:
        regs = target.registers()[:68]
        data = unhex(text)
        if len(data) != sum(r.bits // 8 for r in regs):
            raise BadPacketError("another number of registers")
        self._target.write_registers(self._general, regs, data)
        return "OK"

    def _register(self, text: str) -> target.Register:
        n = number(text)
        if n >= len(target.registers()):
            raise BadPacketError("no such register")
        return target.registers()[n]

    def _read_one(self, text: str) -> str:
        return self._target.read_registers(self._general, [self._register(text)]).hex()

    def _write_one(self, text: str) -> str:
        which, _, value = text.partition("=")
        r, data = self._register(which), unhex(value)
        if len(data) != r.bits // 8:
            raise BadPacketError("another size")
        self._target.write_registers(self._general, [r], data)
        return "OK"

    def _read_memory(self, text: str) -> str:
        va, length = numbers(text)
        return self._target.read_memory(
            self._general, va, min(length, packet.MAX_PACKET // 2 - 8)
        ).hex()

    def _write_memory(self, text: str) -> str:
        where, colon, data = text.partition(":")
        va, length = numbers(where)
        return self._store(va, length, unhex(data), colon)

    def _write_binary(self, text: str) -> str:
        where, colon, data = text.partition(":")
        va, length = numbers(where)
        return self._store(va, length, data.encode("latin-1"), colon)

    def _store(self, va: int, length: int, data: bytes, colon: str) -> str:
        if not colon or len(data) != length:
            raise BadPacketError("another length")
        self._target.write_memory(self._general, va, data)
        return "OK"

    def _insert(self, text: str) -> str:
        kind, va, length = self._point(text)
        if kind not in "01234":
            return ""
        with self._lock:
            return "OK" if self._target.insert(self._general, kind, va, length) else "E1c"

    def _remove(self, text: str) -> str:
        kind, va, length = self._point(text)
        if kind not in "01234":
            return ""
        with self._lock:
            self._target.remove(kind, va, length)
        return "OK"

    @staticmethod
    def _point(text: str) -> tuple[str, int, int]:
        kind, _, rest = text.partition(",")
        if len(kind) != 1:
            raise BadPacketError("no kind of breakpoint")
        return kind, *numbers(rest.partition(";")[0])

    def _resume(self, actions: dict[int, bool]) -> None:
        """vCPU -> whether it steps; those that are not named stay where they are."""
        with self._lock:
            if self._running or not actions:
                raise BadPacketError("it runs already")
            self._target.step([n for n, step in actions.items() if step])
            self._running = True
            for n in range(self._cpus):
                if n in actions:
                    self._vm.resume_cpu(n)

    def _continue(self, text: str, step: bool = False) -> None:
        if text:
            self._target.vcpus[self._general].set("pc", number(text))
        actions = dict.fromkeys(range(self._cpus), False)
        self._resume({self._general: True} if step else actions)

    def _step(self, text: str) -> None:
        self._continue(text, True)

    def _detach(self, _: str) -> None:
        self._send("OK")
        raise _GoneError

    def _die(self, _: str) -> None:
        self._kill()
        raise _GoneError

    def _v(self, text: str) -> str | None:
        name, _, rest = text.partition(";")
        if name == "Cont?":
            return "vCont;c;C;s;S"
        if name == "Kill":
            self._send("OK")
            self._die("")
        if name != "Cont":
            return ""
        actions: dict[int, bool] = {}
        for item in rest.split(";"):
            what, colon, thread = item.partition(":")
            if what[:1] not in ("c", "C", "s", "S"):
                raise BadPacketError("no such action")
            everyone = not colon or thread == "-1"
            # The leftmost action that names a thread counts.
            for n in range(self._cpus) if everyone else (self._vcpu(thread),):
                actions.setdefault(n, what[0] in "sS")
        self._resume(actions)
        return None

    def _query(self, text: str) -> str:
        name, _, rest = text.partition(":")
        if name == "Supported":
            return f"PacketSize={packet.MAX_PACKET:x};{_FEATURES}"
        if name == "Xfer" and rest.startswith("features:read:target.xml:"):
            offset, length = numbers(rest.rpartition(":")[2])
            xml = target.description()
            return ("m" if offset + length < len(xml) else "l") + xml[offset : offset + length]
        if name.startswith("ThreadExtraInfo,"):
            return f"vCPU {self._vcpu(name.partition(',')[2])}".encode().hex()
        return {
            "C": f"QC{self._general + 1:x}",
            "Attached": "1",
            "fThreadInfo": "m" + ",".join(f"{n + 1:x}" for n in range(self._cpus)),
            "sThreadInfo": "l",
            "Symbol": "OK",
        }.get(name, "")

    def _set(self, text: str) -> str:
        if text != "StartNoAckMode":
            return ""
        self._reader.ack = False
        return "OK"

    _HANDLERS: ClassVar[dict[str, Callable[[GdbServer, str], str | None]]] = {
        "?": _status,
        "H": _set_thread,
        "T": _alive,
        "g": _read_all,
        "G": _write_all,
        "p": _read_one,
        "P": _write_one,
        "m": _read_memory,
        "M": _write_memory,
        "X": _write_binary,
        "Z": _insert,
        "z": _remove,
        "c": _continue,
        "s": _step,
        "D": _detach,
        "k": _die,
        "v": _v,
        "q": _query,
        "Q": _set,
    }
