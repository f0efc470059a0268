"""Registers of devices in the core (wires, latches), by a guest that cannot tell."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest
from vmm_guest import GICD, RAM, READ, WRITE, Vm, ffi, lib, ok

from bhyvepy.devices.base import DeviceEnv, IrqLatch
from bhyvepy.devices.ns16550a import NS16550A
from bhyvepy.wire import Latch, Wire

UART, INTID = 0x5000, 37
RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
OPS, RESULTS = RAM + 0x10000, RAM + 0x40000
LOAD, STORE, ASK, END = range(4)
WIRE_BYTES = lib.VM_WIRE_BYTES

# Executes (kind, register, value) from OPS; what a load gave, and whether the
# interrupt is up, go to RESULTS.
INTERPRETER = f"""
    mov x9, #{UART}
    ldr x10, ={OPS}
    ldr x11, ={RESULTS}
    ldr x12, ={GICD + 0x204}
1:  ldrb w0, [x10], #1
    ldrb w1, [x10], #1
    ldrb w2, [x10], #1
    cmp w0, #{STORE}
    b.eq 2f
    b.hi 3f
    ldrb w2, [x9, x1]
    b 4f
2:  strb w2, [x9, x1]
    b 4f
3:  mov x1, x0
    hvc #0
4:  ldr w3, [x12]
    ubfx w3, w3, #{INTID - 32}, #1
    strb w2, [x11], #1
    strb w3, [x11], #1
    b 1b
"""


class Line:
    """A line that remembers its level."""

    intid = INTID
    level = False

    def set(self, level: bool) -> None:
        self.level = level


class Port:
    """The host's end."""

    def __init__(self) -> None:
        self.sent = bytearray()

    def send(self, data: bytes) -> None:
        self.sent += data

    def touched(self) -> None:
        """Not of interest."""

    def space(self) -> None:
        """Not of interest."""


def uart() -> tuple[NS16550A, Line, Port]:
    line, port = Line(), Port()
    memory: Any = None
    return NS16550A(DeviceEnv("com1", memory, line, attach=lambda dev: port)), line, port


def random_ops(rng: random.Random, count: int) -> list[tuple[int, int, int]]:
    ops = []
    for _ in range(count):
        reg, value = rng.choice((RBR, RBR, IER, IIR, LSR, *range(8))), rng.getrandbits(8)
        if reg in (LCR, MCR) and rng.random() < 0.8:
            value = 3
        ops.append((rng.choice((LOAD, LOAD, STORE, STORE, ASK)), reg, value))
    return [*ops, (END, 0, 0)]


def serve(dev: NS16550A, seen: list[tuple[int, int]]) -> Any:
    """Answers what the core leaves to userland, as bhyverun does."""

    def answer(e: Any) -> None:
        seen.append((e.gpa - UART, e.dir))
        if e.dir == WRITE:
            dev.write(e.gpa - UART, e.access_size, e.data)
        else:
            e.data = dev.read(e.gpa - UART, e.access_size)

    return answer


@pytest.mark.parametrize("seed", range(12))
def test_a_wire_changes_nothing(vmm_dir: Path, seed: int) -> None:
    """Any accesses give the same values, interrupts, bytes and state with a wire and without."""
    rng = random.Random(seed)
    ops = random_ops(rng, 3000)
    pushes = {i: rng.randbytes(rng.randrange(20)) for i, op in enumerate(ops) if op[0] == ASK}
    plain, line, port = uart()
    wired, _, wired_port = uart()
    vm = Vm.flat(vmm_dir, "t", INTERPRETER)
    vm.vgic()
    vm.write(OPS, b"".join(bytes(op) for op in ops))
    wired.use_wire(Wire(vm.handle, UART, INTID))
    want, seen, at = bytearray(), [], 0
    while True:
        vm.run_until_hvc(serve(wired, seen))
        while ops[at][0] in (LOAD, STORE):
            kind, reg, value = ops[at]
            if kind == LOAD:
                value = plain.read(reg, 1)
            else:
                plain.write(reg, 1, value)
            want += bytes((value, line.level))
            at += 1
        assert plain.save() == wired.save(), at
        if ops[at][0] == END:
            break
        assert plain.push(pushes[at]) == wired.push(pushes[at])
        want += bytes((ops[at][2], line.level))
        at += 1
    got = vm.read(RESULTS, len(want))
    first = next((i for i in range(len(want)) if want[i] != got[i]), None)
    assert first is None, (first // 2, ops[first // 2], want[first], got[first])
    wired.close()
    assert port.sent == wired_port.sent
    assert (IIR, READ) not in seen
    assert wired_port.sent
    vm.close()


def test_output_never_leaves_the_core(vmm_dir: Path) -> None:
    """A driver that sends by interrupts, 16 bytes for each, costs userland nothing."""
    vm = Vm.flat(
        vmm_dir,
        "t",
        f"""mov x9, #{UART}
        mov w0, #2
        strb w0, [x9, #{IER}]
        mov w3, #500
        1: ldrb w0, [x9, #{IIR}]
        ldrb w1, [x9, #{LSR}]
        ldrb w2, [x9, #{MSR}]
        mov w4, #16
        2: strb w4, [x9]
        subs w4, w4, #1
        b.ne 2b
        subs w3, w3, #1
        b.ne 1b
        strb wzr, [x9, #{IER}]
        ldrb w5, [x9, #{IIR}]
        hvc #0""",
    )
    dev, _, port = uart()
    dev.use_wire(Wire(vm.handle, UART, 0))
    vm.run_until_hvc()
    assert (vm.get(0), vm.get(1), vm.get(2), vm.get(5)) == (0x02, 0x60, 0xB0, 0x01)
    dev.close()
    assert port.sent == bytes(range(16, 0, -1)) * 500
    vm.close()


def state(**values: int) -> Any:
    return ffi.new("struct vm_wire_state *", {"rx": lib.VM_WIRE_NO_CAUSE, "lsr": 0x60, **values})


def test_wire_has_an_end(vmm_dir: Path) -> None:
    """Bytes are kept up to the wire's room; what does not fit, or is no byte, is userland's."""
    vm = Vm.flat(
        vmm_dir,
        "t",
        f"""mov x9, #{UART}
        ldrb w2, [x9, #5]
        mov w3, #{WIRE_BYTES + 2}
        1: strb w3, [x9]
        subs w3, w3, #1
        b.ne 1b
        strh w3, [x9]
        ldrh w4, [x9, #4]
        ldrb w5, [x9]
        ldrh w6, [x9, #2]
        hvc #0""",
    )
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    wire, length = ffi.new("int *"), ffi.new("size_t *")
    room = ffi.new(f"uint8_t[{WIRE_BYTES}]")
    ok(lib.vm_wire_add(vm.handle, UART, 0, fd, wire))
    for irq in (1, 31, 1020, 1 << 31):
        assert lib.vm_wire_add(vm.handle, UART, irq, fd, ffi.new("int *")) == errno.EINVAL
    on = state(serve=lib.VM_WIRE_THR | lib.VM_WIRE_LSR | lib.VM_WIRE_IIR, lsr=0x61)
    assert lib.vm_wire_set(vm.handle, 7, on) == errno.EINVAL
    assert lib.vm_wire_hold(vm.handle, 7, on) == errno.EINVAL
    assert lib.vm_wire_put(vm.handle, -1, 0) == errno.EINVAL
    ok(lib.vm_wire_set(vm.handle, wire[0], on))
    seen: list[tuple[int, int, int]] = []
    vm.run_until_hvc(lambda e: seen.append((e.gpa, e.access_size, e.dir)))
    stores = [(UART, 1, WRITE)] * 2
    loads = [(UART + 4, 2, READ), (UART, 1, READ), (UART + 2, 2, READ)]
    assert seen == [*stores, (UART, 2, WRITE), *loads]
    assert vm.get(2) == 0x61
    assert os.eventfd_read(fd) == 1
    assert lib.vm_wire_put(vm.handle, wire[0], 1) == errno.EAGAIN
    take = (vm.handle, wire[0], room)
    assert lib.vm_wire_take(*take, WIRE_BYTES - 1, length) == errno.ERANGE
    ok(lib.vm_wire_take(*take, WIRE_BYTES, length))
    want = bytes(n & 0xFF for n in range(WIRE_BYTES + 2, 2, -1))
    assert bytes(ffi.buffer(room, length[0])) == want
    ok(lib.vm_wire_put(vm.handle, wire[0], 9))
    ok(lib.vm_wire_take(*take, WIRE_BYTES, length))
    assert bytes(ffi.buffer(room, length[0])) == b"\x09"
    os.close(fd)
    vm.close()


def test_wire_that_is_held(vmm_dir: Path) -> None:
    """A wire that is new or held serves nothing, and there is an end to their number."""
    vm = Vm.flat(vmm_dir, "t", "mov x9, #0x5000\n ldrb w2, [x9, #5]\n strb w2, [x9]\n hvc #0")
    fd, wire = os.eventfd(0, os.EFD_NONBLOCK), ffi.new("int *")
    ok(lib.vm_wire_add(vm.handle, UART, 0, fd, wire))
    ok(lib.vm_wire_set(vm.handle, wire[0], state(serve=31, ier=5)))
    now = state()
    ok(lib.vm_wire_hold(vm.handle, wire[0], now))
    assert (now.serve, now.ier, now.lsr) == (0, 5, 0x60)
    seen: list[tuple[int, int]] = []
    vm.run_until_hvc(lambda e: seen.append((e.gpa, e.dir)))
    assert seen == [(UART + 5, READ), (UART, WRITE)]
    for _ in range(7):
        ok(lib.vm_wire_add(vm.handle, 0x6000, 0, fd, wire))
    assert lib.vm_wire_add(vm.handle, 0x6000, 0, fd, wire) == errno.ENOSPC
    assert lib.vm_wire_add(vm.handle, 0x6000, 0, -1, wire) == errno.EINVAL
    assert lib.vm_wire_add(vm.handle, 0x6000, 31, fd, wire) == errno.EINVAL
    os.close(fd)
    vm.close()


LATCH = f"""
    mov x9, #{UART}
    ldr x12, ={GICD + 0x204}
1:  hvc #0
    ldr w0, [x9, #0x60]
    ldr w1, [x12]
    str w2, [x9, #0x64]
    ldr w3, [x9, #0x60]
    ldr w4, [x12]
    b 1b
"""


def test_latch(vmm_dir: Path) -> None:
    """The guest reads and acknowledges what the device raises; the line follows, exactly."""
    vm = Vm.flat(vmm_dir, "t", LATCH)
    vm.vgic()
    latch, model_line = Latch(vm.handle, UART + 0x60, UART + 0x64, INTID), Line()
    model = IrqLatch(model_line)
    rng = random.Random(1)
    bit = 1 << INTID - 32
    for _ in range(200):
        vm.run_until_hvc()
        bits, ack = rng.getrandbits(2), rng.getrandbits(32)
        assert latch.change(0, bits) == model.change(0, bits)
        vm.set(2, ack)
        before, up = model.change(0, 0), model_line.level
        after = model.change(ack, 0)
        vm.run_until_hvc()
        assert (vm.get(0), vm.get(1) & bit, vm.get(3)) == (before, bit * up, after)
        assert vm.get(4) & bit == bit * model_line.level
    assert latch.change(3, 0) == 0
    vm.close()


def test_latch_is_two_words(vmm_dir: Path) -> None:
    """Other widths, loads of ACK and stores to the status are userland's; there is an end."""
    vm = Vm.flat(
        vmm_dir,
        "t",
        f"""mov x9, #{UART}
        ldrh w0, [x9, #0x60]
        str w0, [x9, #0x60]
        ldr w0, [x9, #0x64]
        strb w0, [x9, #0x64]
        hvc #0""",
    )
    latch = Latch(vm.handle, UART + 0x60, UART + 0x64, 0)
    latch.change(0, 1)
    seen: list[tuple[int, int, int]] = []
    vm.run_until_hvc(lambda e: seen.append((e.gpa - UART, e.access_size, e.dir)))
    assert seen == [(0x60, 2, READ), (0x60, 4, WRITE), (0x64, 4, READ), (0x64, 1, WRITE)]
    assert latch.change(0, 0) == 1
    out = ffi.new("int *")
    for _ in range(lib.VM_MAX_LATCHES - 1):
        ok(lib.vm_latch_add(vm.handle, 0x9000, 0x9004, 0, out))
    assert lib.vm_latch_add(vm.handle, 0x9000, 0x9004, 0, out) == errno.ENOSPC
    for irq in (1, 31, 1020, 1 << 31):
        assert lib.vm_latch_add(vm.handle, 0x9000, 0x9004, irq, out) == errno.EINVAL
    bits = ffi.new("uint32_t *")
    assert lib.vm_latch_change(vm.handle, 64, 0, 1, bits) == errno.EINVAL
    assert lib.vm_latch_change(vm.handle, -1, 0, 1, bits) == errno.EINVAL
    vm.close()


LOADS = f"""
    mov x9, #{UART}
    mov x10, x9
    ldrsb w0, [x9, #5]
    ldrsb x1, [x9, #5]
    ldrb wzr, [x9, #5]
    ldrb w2, [x10, #5]!
    strb wzr, [x9]
    hvc #0
"""


@pytest.mark.parametrize("vhe", [0, 1])
@pytest.mark.parametrize("trace", [False, True])
def test_forms_of_access(vmm_dir: Path, vhe: int, trace: bool) -> None:
    """Sign extension, XZR and write-back, with a world switch (trace) and without."""
    vm = Vm.flat(vmm_dir, "t", LOADS, vhe=vhe)
    wire = Wire(vm.handle, UART, 0)
    wire.set(plain=True, ier=0, thre=False, rx=1, fifo=0, lsr=0xE0, msr=0)
    seq, count = ffi.new("uint64_t *"), ffi.new("unsigned *", 16)
    ok(lib.vm_trace(vm.handle, trace, seq))
    vm.run_until_hvc()
    assert [vm.get(n) for n in (0, 1, 2, 10)] == [0xFFFFFFE0, 2**64 - 32, 0xE0, UART + 5]
    assert wire.take() == b"\0"
    events = ffi.new("struct vm_trace_event[16]")
    ok(lib.vm_trace_read(vm.handle, seq, count, events))
    # Whoever watches sees every access.
    seen = [e.hpfar << 8 | e.far & 0xFFF for e in events[0 : count[0]] if e.esr >> 26 == 0x24]
    assert seen == ([UART + 5] * 4 + [UART] if trace else [])
    wire.close()
    vm.close()


def test_a_step_over_a_register_in_the_core(vmm_dir: Path) -> None:
    """A debugger that steps stops behind each access."""
    vm = Vm.flat(vmm_dir, "t", f"mov x9, #{UART}\n strb w9, [x9]\n strb w9, [x9]\n hvc #0")
    wire = Wire(vm.handle, UART, 0)
    wire.set(plain=True, ier=0, thre=False, rx=1, fifo=0, lsr=0x60, msr=0)
    ok(lib.vm_set_capability(vm.handle, 0, lib.VM_CAP_SS_EXIT, 1))
    pcs, vme = [], None
    for _ in range(3):
        vme = vm.run(vme)
        assert vme.exitcode == lib.VM_EXITCODE_SS
        pcs.append(vme.pc - RAM)
    assert pcs == [4, 8, 12]
    assert len(wire.take()) == 2
    wire.close()
    vm.close()
