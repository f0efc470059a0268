"""bhyvepy.vm("name"): a VM at hand in a notebook or a test script.

    import bhyvepy
    vm = bhyvepy.vm("demo")
    vm.load(kernel="vmlinuz", initrd="initrd.gz", bootargs="console=ttyS0")
    vm.boot(cpus=2)
    vm.console.expect("login:")
    print(vm.regs, vm.mem[0x80000000:0x80000040].hex())
    vm.destroy()

boot() starts bhyve(8) in a session of its own: Ctrl-C in the notebook ends the line that
waits and leaves the guest alone. Registers and memory are read through vmmapi.py in this
process. Not here: what the pieces do (loadvm.py, vmmapi.py).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import tty
import weakref
from collections.abc import Iterator, Sequence

from bhyvepy import loadvm, vmmapi
from bhyvepy.config import Config
from bhyvepy.errors import BhyveError, ConfigError, VmError, VmNotFoundError
from bhyvepy.vmexit import SuspendHow, VmState

PATIENCE_S = 30.0


class Console:
    """What the guest prints and is told; a thread reads, so nothing is lost in between."""

    def __init__(self) -> None:
        self.text = ""  # all that came
        self._at = 0  # behind what expect() has found
        self._fd = -1
        self._open = False
        self._news = threading.Condition()

    def _attach(self, fd: int) -> None:
        with self._news:
            self._fd, self._open = fd, True
            self.text, self._at = "", 0
        threading.Thread(target=self._read, args=(fd,), daemon=True).start()

    def _read(self, fd: int) -> None:
        while True:
            try:
                data = os.read(fd, 65536)
            except OSError:  # EIO: the other end is closed
                data = b""
            with self._news:
                self.text += data.decode(errors="replace")
                self._open = bool(data)
                self._news.notify_all()
            if not data:
                os.close(fd)
                return

    def expect(self, pattern: str, timeout: float = PATIENCE_S) -> str:
        """Wait for a text, or a regular expression; what came before it."""
        found: re.Match[str] | None = None

        def here() -> bool:
            nonlocal found
            at = self.text.find(pattern, self._at)
            exact = re.compile(re.escape(pattern)) if at >= 0 else re.compile(pattern)
            found = exact.search(self.text, self._at)
            return found is not None or not self._open

        end = time.monotonic() + timeout
        with self._news:
            # Short waits: Ctrl-C is seen between them on every system.
            while not here() and time.monotonic() < end:
                self._news.wait(0.1)
            if found is None:
                why = "the console closed" if not self._open else f"not within {timeout:g} s"
                raise BhyveError(f"no {pattern!r} on the console: {why}")
            before, self._at = self.text[self._at : found.start()], found.end()
        return before

    def send(self, text: str) -> None:
        """Type."""
        if not self._open:
            raise VmError("the console is closed: the VM does not run here")
        os.write(self._fd, text.encode())

    def line(self, text: str) -> None:
        """Type a line."""
        self.send(text + "\r")

    def run(self, command: str, prompt: str, timeout: float = PATIENCE_S) -> str:
        """Type a command, wait for the prompt; what was printed in between."""
        self.line(command)
        self.expect(command, timeout)
        return self.expect(prompt, timeout).replace("\r", "").strip("\n")

    def _repr_pretty_(self, p: object, _cycle: bool) -> None:
        p.text(self.text[-2000:])  # type: ignore[attr-defined]


class Registers:
    """Registers of a vCPU: regs["pc"], regs.pc, regs.x0 = 1; printed as a table."""

    _of: tuple[Session, int]

    def __init__(self, session: Session, vcpuid: int) -> None:
        object.__setattr__(self, "_of", (session, vcpuid))

    def _vcpu(self) -> vmmapi.VCPU:
        session, vcpuid = self._of
        return session.vm.vcpu(vcpuid)

    def __getitem__(self, name: str) -> int:
        return self._vcpu().get(name)

    def __setitem__(self, name: str, value: int) -> None:
        self._vcpu().set(name, value)

    def __getattr__(self, name: str) -> int:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except ConfigError as err:
            raise AttributeError(str(err)) from None

    def __setattr__(self, name: str, value: int) -> None:
        self[name] = value

    def __iter__(self) -> Iterator[str]:
        return iter([*vmmapi.general_registers(), *vmmapi.system_registers()])

    def all(self) -> dict[str, int]:
        """Every register, of one moment."""
        return self._vcpu().get_all()

    def __repr__(self) -> str:
        values = self._vcpu().get_set(list(vmmapi.general_registers()))
        cells = [f"{name:>4} {value:016x}" for name, value in values.items()]
        return "\n".join("  ".join(cells[i : i + 4]) for i in range(0, len(cells), 4))


class Memory:
    """Guest physical memory: mem[a], mem[a:b], mem[a:b] = bytes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _range(self, where: slice) -> tuple[int, int]:
        if where.start is None or where.stop is None or where.step not in (None, 1):
            raise ConfigError("memory is mem[address:address + length]")
        return where.start, max(0, where.stop - where.start)

    def __getitem__(self, where: int | slice) -> bytes | int:
        memory = self._session.vm.memory
        if isinstance(where, slice):
            return memory.read(*self._range(where))
        return memory.read(where, 1)[0]

    def __setitem__(self, where: int | slice, data: bytes | int) -> None:
        if isinstance(data, int):
            data = bytes([data])
        start, length = self._range(where) if isinstance(where, slice) else (where, 1)
        if len(data) != length:
            raise ConfigError(f"{len(data)} bytes for {length} bytes of memory")
        self._session.vm.write_memory(start, data)


class Session:
    """One VM by name, whether it is there yet or not."""

    def __init__(self, name: str) -> None:
        self.name = vmmapi.check_name(name)
        self.console = Console()
        self.mem = Memory(self)
        self._vm: vmmapi.VM | None = None
        self._closed = False
        self._proc: subprocess.Popen[bytes] | None = None

    def _alive(self) -> None:
        if self._closed:
            raise VmError(f"VM {self.name} is closed")

    @property
    def vm(self) -> vmmapi.VM:
        """The open VM (vmmapi.VM)."""
        self._alive()
        if self._vm is None:
            self._vm = vmmapi.VM.open(self.name)
        return self._vm

    @property
    def regs(self) -> Registers:
        """The registers of vCPU 0."""
        return self.cpu(0)

    def cpu(self, n: int) -> Registers:
        """The registers of a vCPU."""
        self._alive()
        return Registers(self, n)

    @property
    def state(self) -> VmState | None:
        """EMPTY, LOADED, RUNNING, ENDED, DEAD; None: there is none of that name."""
        self._alive()
        try:
            return vmmapi.stat_vm(self.name).state
        except VmNotFoundError:
            return None

    def load(
        self,
        kernel: str,
        *,
        initrd: str | None = None,
        bootargs: str = "",
        memory: str = "128M",
        **settings: str,
    ) -> Session:
        """bhyveload's work; more variables of bhyve_config(5) with __ for the dot."""
        self._alive()
        self._forget()
        config = Config({"kernel": kernel, "memory.size": memory})
        if bootargs:
            config.set("fdt.bootargs", bootargs)
        if initrd is not None:
            config.set("initrd", initrd)
        for key, value in settings.items():
            config.set(key.replace("__", "."), value)
        loadvm.load(self.name, config, again=True).close()
        return self

    def boot(
        self, cpus: int = 1, devices: Sequence[str] = (), options: Sequence[str] = ()
    ) -> Session:
        """Run it in a bhyve of its own; devices are -s, options any words of bhyve(8)."""
        self._alive()
        if self._proc is not None and self._proc.poll() is None:
            raise VmError(f"VM {self.name} is running already")
        argv = [sys.executable, "-m", "bhyvepy.cli.bhyve", "-b", "-c", str(cpus)]
        for device in devices:
            argv += ["-s", device]
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        try:
            self._proc = subprocess.Popen(
                [*argv, *options, self.name],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        self.console._attach(ours)
        _RUNNING.add(self)
        end = time.monotonic() + PATIENCE_S
        while self.state is VmState.LOADED and time.monotonic() < end:
            if self._proc.poll() is not None:
                time.sleep(0.05)
                last = self.console.text.strip() or f"exit status {self._proc.returncode}"
                raise BhyveError(last.removeprefix("bhyve: "))
            time.sleep(0.005)
        return self

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """bhyve's exit status: 0 reset, 1 powered off, 2 halted, 4 error."""
        if self._proc is None:
            raise VmError(f"VM {self.name} was not started here")
        try:
            return self._proc.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BhyveError(f"VM {self.name} still runs after {timeout:g} s") from None

    def pause(self) -> None:
        """Hold all vCPUs."""
        self.vm.suspend_cpu()

    def resume(self) -> None:
        """Let them go on."""
        self.vm.resume_cpu()

    def poweroff(self) -> None:
        """End the run at once."""
        self.vm.suspend(SuspendHow.POWEROFF)

    def stats(self, cpu: int = 0) -> dict[str, int]:
        """The counters of a vCPU."""
        return self.vm.vcpu(cpu).stats()

    def destroy(self) -> None:
        """End it and remove it; the name can be loaded again."""
        self._alive()
        self._forget()
        with contextlib.suppress(VmNotFoundError):
            vmmapi.VM.destroy_named(self.name)
        self._end()

    def close(self) -> None:
        """Let go: a bhyve that was started here ends; the VM stays as it is."""
        self._forget()
        self._end()
        self._closed = True

    def _forget(self) -> None:
        vm, self._vm = self._vm, None
        if vm is not None:
            vm.close()

    def _end(self) -> None:
        proc, self._proc = self._proc, None
        if proc is not None and proc.poll() is None:
            proc.send_signal(signal.SIGTERM)
            try:
                proc.wait(5)
            except subprocess.TimeoutExpired:
                proc.kill()
                proc.wait()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return f"<VM {self.name}: closed>"
        state = self.state
        return f"<VM {self.name}: {'not there' if state is None else state.name.lower()}>"


_RUNNING: weakref.WeakSet[Session] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for session in list(_RUNNING):
        session._end()
