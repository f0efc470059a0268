"""The virtio-mmio transport: version 2 (virtio 1.2, 4.2) and version 1 (legacy, 4.2.4).

Responsible for the register window, the status machine, feature negotiation, the
interrupt and the I/O thread on which a device handles its chains. What the device does
is in a VirtioDevice (device.py), how rings work in queue.py.

Who holds which lock. `_io` covers work on the rings, one chain at a time, and is taken
first; `_lock` covers the registers and is held briefly. A reset, or a queue being taken
away, raises `_halt`, waits for `_io` (at most one request) and then changes things, so
nothing is written to guest memory once status reads back 0.

    driver: Notify -> doorbell eventfd -> I/O thread: pop, handle, push
                                            -> InterruptStatus.0 = 1, line up
    outside world: a descriptor is readable -> I/O thread: pull, push -> the same
    driver: InterruptACK -> line down when no bit is left
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from bhyvepy.errors import BhyveError

from ..base import (
    Device,
    DeviceEnv,
    DeviceError,
    Doorbell,
    DtContext,
    DtNode,
    GuestLog,
    IrqLatch,
    Latch,
    NoIrq,
)
from .device import (
    F_ANY_LAYOUT,
    F_EVENT_IDX,
    F_INDIRECT_DESC,
    F_VERSION_1,
    VENDOR_ID,
    VirtioDevice,
)
from .queue import Queue, QueueError, legacy_layout

MAGIC = 0x74726976
WINDOW = 0x200
CONFIG = 0x100

QUEUE_NOTIFY = 0x050
INTERRUPT_STATUS = 0x060
INTERRUPT_ACK = 0x064

ST_ACKNOWLEDGE, ST_DRIVER, ST_DRIVER_OK, ST_FEATURES_OK = 1, 2, 4, 8
ST_NEEDS_RESET, ST_FAILED = 64, 128

INT_USED, INT_CONFIG = 1, 2

MASK32 = 0xFFFFFFFF

# Chains of one queue that are served before other queues get a turn.
TURN = 64
# What close() gives a request in flight; a destroy has two seconds in all.
CLOSE_S = 1.0


class VirtioMmio(Device):
    """One virtio device behind a window of registers."""

    kind: ClassVar[str] = "virtio-mmio"

    def __init__(
        self, env: DeviceEnv, device: VirtioDevice, version: int = 2, size: int = WINDOW
    ) -> None:
        super().__init__(env)
        if version not in (1, 2):
            raise DeviceError(f"{env.name}: no virtio-mmio version {version}; take 1 or 2")
        self.device = device
        self.version = version
        self.size = size
        self.log = GuestLog(env.name)
        self.queues = [Queue(env.memory, n, self.log) for n in device.queue_sizes]
        self._reads = _READS[version]
        self._writes = _WRITES[version]
        common = F_INDIRECT_DESC | F_EVENT_IDX
        self.offered = device.features | common
        self.offered |= F_VERSION_1 if version == 2 else F_ANY_LAYOUT
        self._lock = threading.Lock()
        self._io = threading.Lock()
        self._halt = 0
        self._closed = False
        self._abandoned = False
        self._thread: threading.Thread | None = None
        self._kick = os.eventfd(0, os.EFD_CLOEXEC)
        self._generation = 0
        self._latch: Latch = IrqLatch(env.irq)  # InterruptStatus
        # Linux and FreeBSD write the legacy page size before they reset the device: a reset
        # keeps it.
        self._page_size = 0
        self._clear()
        device.transport = self
        if device.watch():
            self._start()

    def _clear(self) -> None:
        self.status = 0
        self._latch.change(MASK32, 0)
        self._features = 0
        self._features_sel = 0
        self._driver_sel = 0
        self._queue_sel = 0
        self._align = [0] * len(self.queues)
        self._pfn = [0] * len(self.queues)
        self.device.negotiated = 0
        for index, queue in enumerate(self.queues):
            queue.reset()
            self.device.stopped(index)

    # -- the guest's side -------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """A register (aligned, 4 bytes) or a field of configuration space."""
        if offset >= CONFIG:
            at = offset - CONFIG
            return int.from_bytes(self.device.config()[at : at + size], "little")
        if size != 4:
            return 0
        reader = self._reads.get(offset)
        return reader(self) if reader is not None else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """The same; whatever the state of the device does not allow is ignored."""
        if offset >= CONFIG:
            with self._lock:
                if self.status & ST_DRIVER and not self.status & ST_FAILED:
                    self.device.config_write(offset - CONFIG, size, value)
            return
        if size != 4:
            return
        writer = self._writes.get(offset)
        if writer is not None:
            writer(self, value & MASK32)

    # -- register functions: reads ------------------------------------------------------

    def _r_device_features(self) -> int:
        sel = self._features_sel
        return self.offered >> (32 * sel) & MASK32 if sel < 2 else 0

    def _r_queue_num_max(self) -> int:
        queue = self._queue()
        return 0 if queue is None else queue.max_size

    def _r_queue_ready(self) -> int:
        queue = self._queue()
        return 0 if queue is None else int(queue.ready)

    def _r_queue_pfn(self) -> int:
        return self._pfn[self._queue_sel] if self._queue() is not None else 0

    # -- register functions: writes -----------------------------------------------------

    def _w_features_sel(self, value: int) -> None:
        self._features_sel = value

    def _w_driver_sel(self, value: int) -> None:
        self._driver_sel = value

    def _w_driver_features(self, value: int) -> None:
        with self._lock:
            sel = self._driver_sel
            if not self.status & ST_DRIVER or self.status & (ST_FEATURES_OK | ST_DRIVER_OK):
                return
            if sel > 1:
                # Bits that do not exist: taking any makes FEATURES_OK fail.
                if value and self.version == 2:
                    self._features |= 1 << 64
                return
            self._features &= ~(MASK32 << 32 * sel)
            self._features |= value << 32 * sel
            if self.version == 1:
                self._features &= self.offered
                self.device.negotiated = self._features

    def _w_queue_sel(self, value: int) -> None:
        self._queue_sel = value

    def _w_queue_num(self, value: int) -> None:
        with self._lock:
            queue = self._configurable()
            if queue is not None:
                queue.num = value

    def _w_page_size(self, value: int) -> None:
        self._page_size = value

    def _w_queue_align(self, value: int) -> None:
        if self._queue() is not None:
            self._align[self._queue_sel] = value

    def _w_queue_pfn(self, value: int) -> None:
        """Legacy: where the queue is, in guest pages; 0 takes it away."""
        with self._quiesced(), self._lock:
            queue = self._queue()
            if queue is None or not self.status & ST_DRIVER:
                return
            num = queue.num
            queue.disable()
            self.device.stopped(self._queue_sel)
            self._pfn[self._queue_sel] = 0
            if value == 0:
                return
            page, align = self._page_size, self._align[self._queue_sel]
            if page < 1 or page & (page - 1) or align < 1 or align & (align - 1):
                self.log.complain(f"queue refused: page size {page}, alignment {align}")
                return
            queue.num = num
            if num > queue.max_size:
                self.log.complain(f"queue refused: size {num}")
                return
            queue.desc, queue.avail, queue.used = legacy_layout(value * page, num, align)
            if self._enable(queue):
                self._pfn[self._queue_sel] = value

    def _w_queue_ready(self, value: int) -> None:
        if value not in (0, 1):
            return
        if value == 0:
            with self._quiesced(), self._lock:
                queue = self._queue()
                if queue is not None and queue.ready:
                    queue.disable()
                    self.device.stopped(self._queue_sel)
            return
        with self._lock:
            queue = self._configurable()
            if queue is not None:
                self._enable(queue)

    def _w_queue_addr(self, field: str, shift: int, value: int) -> None:
        with self._lock:
            queue = self._configurable()
            if queue is not None:
                old = getattr(queue, field)
                setattr(queue, field, old & (MASK32 << (32 - shift)) | value << shift)

    def _w_notify(self, value: int) -> None:
        if value < len(self.queues):
            self.wake()

    def _w_interrupt_ack(self, value: int) -> None:
        self._latch.change(value, 0)

    def _w_status(self, value: int) -> None:
        value &= 0xFF
        if value == 0:
            self.reset()
            return
        with self._lock:
            kept = self.status & ST_NEEDS_RESET
            new = value & ~ST_NEEDS_RESET
            if self.version == 2 and not self._status_allowed(new):
                return
            if new & ~self.status & ST_FEATURES_OK and self.version == 2:
                if self._features & ~self.offered or not self._features & F_VERSION_1:
                    new &= ~ST_FEATURES_OK  # the driver re-reads status and sees it
                else:
                    self.device.negotiated = self._features
            started = bool(new & ~self.status & ST_DRIVER_OK)
            self.status = new | kept
        if started:
            self.wake()  # buffers may be there already

    def _status_allowed(self, new: int) -> bool:
        """Bits are only added, each after those that must come before (virtio 1.2, 3.1.1)."""
        old = self.status & ~ST_NEEDS_RESET
        if old & ~new:
            return False
        if new & ST_FAILED:
            return True
        if new & ST_DRIVER and not new & ST_ACKNOWLEDGE:
            return False
        if new & ST_FEATURES_OK and not new & ST_DRIVER:
            return False
        # FEATURES_OK must have been accepted before: not in the same write.
        return not (new & ST_DRIVER_OK and not old & ST_FEATURES_OK)

    # -- helpers --------------------------------------------------------------------------

    def _queue(self) -> Queue | None:
        sel = self._queue_sel
        return self.queues[sel] if sel < len(self.queues) else None

    def _configurable(self) -> Queue | None:
        """The selected queue, if its settings may change now."""
        queue = self._queue()
        if queue is None or queue.ready:
            return None
        if self.version == 1:
            return queue if self.status & ST_DRIVER else None
        state = self.status & (ST_FEATURES_OK | ST_DRIVER_OK | ST_FAILED | ST_NEEDS_RESET)
        return queue if state == ST_FEATURES_OK else None

    def _enable(self, queue: Queue) -> bool:
        taken = self.device.negotiated
        try:
            ok = queue.enable(bool(taken & F_EVENT_IDX), bool(taken & F_INDIRECT_DESC))
        except BhyveError as err:  # no room for guest memory
            self.env.fatal(err)
            return False
        if ok:
            self._start()
        return ok

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def _live(self) -> bool:
        """Whether rings may be worked on."""
        if self.status & (ST_NEEDS_RESET | ST_FAILED):
            return False
        # Legacy drivers (FreeBSD's among them) use a disk before DRIVER_OK.
        return bool(self.status & (ST_DRIVER_OK if self.version == 2 else ST_DRIVER))

    @contextmanager
    def _quiesced(self) -> Iterator[None]:
        """With the I/O thread between two chains, and kept there."""
        with self._lock:
            self._halt += 1
        try:
            with self._io:
                yield
        finally:
            with self._lock:
                self._halt -= 1
            self.wake()

    def wake(self) -> None:
        """Let the I/O thread look at everything."""
        if not self._closed:
            os.eventfd_write(self._kick, 1)

    def _interrupt(self, bits: int) -> None:
        self._latch.change(0, bits)

    def _needs_reset(self) -> None:
        with self._lock:
            self.status |= ST_NEEDS_RESET
            if self.status & ST_DRIVER_OK:
                self._latch.change(0, INT_CONFIG)

    def config_changed(self) -> None:
        """The device changed its configuration space by itself."""
        with self._lock:
            self._generation = (self._generation + 1) & MASK32
            if self.status & ST_DRIVER_OK:
                self._latch.change(0, INT_CONFIG)

    # -- the I/O thread ----------------------------------------------------------------

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        watched: list[tuple[int, int]] = []
        poll = select.poll()
        poll.register(self._kick, select.POLLIN)
        while True:
            watched = self._sleep(poll, watched)
            if self._closed:
                return
            more = True
            while more and not self._halt and not self._closed:
                more = False
                for index, queue in enumerate(self.queues):
                    if self._guarded(index, queue):
                        more = True

    def _sleep(self, poll: select.poll, watched: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Until there may be something to do; returns what was watched."""
        wanted = self.device.watch()
        if wanted != watched:
            for fd, _ in watched:
                with suppress(KeyError):
                    poll.unregister(fd)
            for fd, events in wanted:
                poll.register(fd, events)
        if not wanted:
            os.eventfd_read(self._kick)
            return wanted
        for fd, events in poll.poll():
            if self._closed:
                break
            if fd == self._kick:
                os.eventfd_read(fd)
                continue
            with self._io:
                try:
                    self.device.ready(fd, events)
                except Exception as err:
                    self._failed(err)
        return wanted

    def _guarded(self, index: int, queue: Queue) -> bool:
        """A turn for one queue; whatever goes wrong ends here."""
        try:
            if index in self.device.input_queues:
                return self._fill(index, queue)
            return self._drain(index, queue)
        except QueueError as err:
            self.log.complain(f"queue {index} is broken until reset: {err}")
            self._needs_reset()
        except Exception as err:
            self._failed(err)
        return False

    def _failed(self, err: Exception) -> None:
        self._needs_reset()
        if not isinstance(err, BhyveError):
            err = DeviceError(f"{self.name}: internal error: {err!r}")
        self.env.fatal(err)

    def _drain(self, index: int, queue: Queue) -> bool:
        """Serve a queue until it is empty, or somebody wants us to stop; True: not empty."""
        if (more := self._batch(index, queue)) is not None:
            return more
        handle = self.device.handle
        quiet = False
        turn = TURN
        while not self._halt:
            with self._io:
                if self._halt or self._closed or not queue.ready or not self._live():
                    return False
                if not quiet:
                    queue.quiet()
                    quiet = True
                if not turn:
                    return True
                turn -= 1
                chain = queue.pop()
                if chain is None:
                    more = queue.listen()
                    if queue.needs_interrupt():  # broken chains were put back
                        self._interrupt(INT_USED)
                    if not more:
                        return False
                    quiet = False
                    continue
                written = handle(index, chain)
                if self._abandoned:
                    return False
                queue.push(chain.head, written)
                if queue.needs_interrupt():
                    self._interrupt(INT_USED)
        return False

    def _batch(self, index: int, queue: Queue) -> bool | None:
        """What the device does by itself; None: nothing."""
        with self._io:
            if self._halt or self._closed or not queue.ready or not self._live():
                return False
            try:
                return self.device.serve(index, queue)
            finally:
                if queue.ready and not self._abandoned and queue.needs_interrupt():
                    self._interrupt(INT_USED)

    def _fill(self, index: int, queue: Queue) -> bool:
        """Let the device put what has arrived into the driver's buffers."""
        with self._io:
            if self._halt or self._closed or not queue.ready or not self._live():
                return False
            try:
                return self.device.pull(index, queue)
            finally:
                if queue.ready and queue.needs_interrupt():
                    self._interrupt(INT_USED)

    # -- the machine's side --------------------------------------------------------------

    def reset(self) -> None:
        """The driver's reset and the machine's: returns with nothing in flight."""
        with self._quiesced(), self._lock:
            self._clear()
            self.device.reset()

    def close(self) -> None:
        """Finish the request in flight, end the thread, close the device."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._kick, 1)
        if self._thread is not None:
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                # A disk that does not answer. The process is ending, and the VM is
                # closed: what comes back now must not touch it.
                self._abandoned = True
                self._latch = IrqLatch(NoIrq())
                return
        os.close(self._kick)
        self.device.close()

    def doorbells(self) -> list[Doorbell]:
        """QueueNotify: all queues wake the same thread."""
        return [Doorbell(QUEUE_NOTIFY, 4, None, self._kick)]

    def latch_at(self) -> tuple[int, int]:
        """InterruptStatus and InterruptACK: every interrupt costs one access to each."""
        return INTERRUPT_STATUS, INTERRUPT_ACK

    def use_latch(self, latch: Latch) -> None:
        """The core has them from now on."""
        latch.change(MASK32, self._latch.change(0, 0))
        self._latch = latch

    def dt_node(self, ctx: DtContext) -> DtNode:
        """As drivers/virtio/virtio_mmio.c and FreeBSD's virtio_mmio_fdt.c expect it."""
        return DtNode("virtio_mmio", ("virtio,mmio",), {"dma-coherent": True})

    def save(self) -> dict[str, Any]:
        """Registers, rings and the device, between two chains."""
        with self._quiesced(), self._lock:
            return {
                "version": self.version,
                "status": self.status,
                "isr": self._latch.change(0, 0),
                "features": self._features,
                "features_sel": self._features_sel,
                "driver_sel": self._driver_sel,
                "queue_sel": self._queue_sel,
                "page_size": self._page_size,
                "align": list(self._align),
                "pfn": list(self._pfn),
                "generation": self._generation,
                "queues": [q.save() for q in self.queues],
                "device": self.device.save(),
            }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse; buffers made available before are looked at anew."""
        if state["version"] != self.version or len(state["queues"]) != len(self.queues):
            raise DeviceError(f"{self.name}: the saved state is of another device")
        with self._quiesced(), self._lock:
            self._clear()
            self.status = state["status"] & 0xFF
            self._features = state["features"]
            self._features_sel = state["features_sel"]
            self._driver_sel = state["driver_sel"]
            self._queue_sel = state["queue_sel"]
            self._page_size = state["page_size"]
            self._align = list(state["align"])
            self._pfn = list(state["pfn"])
            self._generation = state["generation"]
            if self.version == 1 or self.status & ST_FEATURES_OK:
                self.device.negotiated = self._features & self.offered
            self.device.load(state["device"])
            for queue, saved in zip(self.queues, state["queues"], strict=True):
                queue.load(saved)
            for index, queue in enumerate(self.queues):
                if queue.ready:
                    self.device.load_queue(index, queue)
                    self._start()
            self._latch.change(MASK32, state["isr"] & (INT_USED | INT_CONFIG))


Reader = Callable[[VirtioMmio], int]
Writer = Callable[[VirtioMmio, int], None]


def _addr(field: str, shift: int) -> Writer:
    return lambda dev, value: dev._w_queue_addr(field, shift, value)


# Offset -> function. What is missing reads as zero and ignores writes.
_READS_BOTH: dict[int, Reader] = {
    0x000: lambda dev: MAGIC,
    0x004: lambda dev: dev.version,
    0x008: lambda dev: dev.device.device_id,
    0x00C: lambda dev: VENDOR_ID,
    0x010: VirtioMmio._r_device_features,
    0x034: VirtioMmio._r_queue_num_max,
    INTERRUPT_STATUS: lambda dev: dev._latch.change(0, 0),
    0x070: lambda dev: dev.status,
}
_WRITES_BOTH: dict[int, Writer] = {
    0x014: VirtioMmio._w_features_sel,
    0x020: VirtioMmio._w_driver_features,
    0x024: VirtioMmio._w_driver_sel,
    0x030: VirtioMmio._w_queue_sel,
    0x038: VirtioMmio._w_queue_num,
    QUEUE_NOTIFY: VirtioMmio._w_notify,
    INTERRUPT_ACK: VirtioMmio._w_interrupt_ack,
    0x070: VirtioMmio._w_status,
}
_READS: dict[int, dict[int, Reader]] = {
    1: _READS_BOTH
    | {
        0x040: VirtioMmio._r_queue_pfn,
    },
    2: _READS_BOTH
    | {
        0x044: VirtioMmio._r_queue_ready,
        # No shared memory: length and base of every region are all ones (4.2.2.1).
        0x0B0: lambda dev: MASK32,
        0x0B4: lambda dev: MASK32,
        0x0B8: lambda dev: MASK32,
        0x0BC: lambda dev: MASK32,
        0x0FC: lambda dev: dev._generation,
    },
}
_WRITES: dict[int, dict[int, Writer]] = {
    1: _WRITES_BOTH
    | {
        0x028: VirtioMmio._w_page_size,
        0x03C: VirtioMmio._w_queue_align,
        0x040: VirtioMmio._w_queue_pfn,
    },
    2: _WRITES_BOTH
    | {
        0x044: VirtioMmio._w_queue_ready,
        0x080: _addr("desc", 0),
        0x084: _addr("desc", 32),
        0x090: _addr("avail", 0),
        0x094: _addr("avail", 32),
        0x0A0: _addr("used", 0),
        0x0A4: _addr("used", 32),
    },
}
