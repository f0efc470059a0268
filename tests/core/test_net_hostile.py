"""A guest's nonsense for the C parts that meet it first: user-mode networking, wires, latches.

With the usual core this shows that they live and answer; `make test-asan` runs it to see
what they touch meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from vmm_guest import Vm, ffi, lib, ok

from bhyvepy.slirp import Slirp

MAC = bytes.fromhex("589cfc010203")
HEADER = 10
US, HOST = socket.inet_aton("10.0.2.15"), socket.inet_aton("10.0.2.2")
FRAME_MAX = 65535 + 18


def ethernet(kind: int, rest: bytes) -> bytes:
    return b"\xff" * 6 + MAC + struct.pack(">H", kind) + rest


def arp() -> bytes:
    """Who is the host?"""
    return ethernet(
        0x806, struct.pack(">HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, MAC, US, bytes(6), HOST)
    )


def packet(rng: random.Random) -> bytes:
    """IPv4 with TCP, UDP or ICMP in it, of which most numbers are true."""
    proto = rng.choice((6, 17, 1, rng.randrange(256)))
    body = rng.randbytes(rng.choice((0, 4, 8, 20, 60, 1400)))
    if proto == 6 and len(body) >= 20:
        offset = rng.choice((5, 5, 5, 0, 15)) << 4
        body = struct.pack(">HHIIBBHHH", 1024, rng.choice((53, 80, 0)), rng.getrandbits(32), 0,
                           offset, rng.getrandbits(6), 8192, 0, 0) + body[20:]  # fmt: skip
    total = rng.choice((20 + len(body),) * 4 + (0, 19, 0xFFFF))
    first = rng.choice((0x45,) * 4 + (0x4F, 0x40, 0x65))
    to = rng.choice((HOST, socket.inet_aton("10.0.2.3"), b"\xff" * 4, US, rng.randbytes(4)))
    frag = rng.choice((0, 0, 0, 0x2000, 0x1FFF))
    ip = struct.pack(">BBHHHBBH4s4s", first, 0, total, 1, frag, 64, proto, 0, US, to)
    check = sum(struct.unpack(">10H", ip))
    check = (check & 0xFFFF) + (check >> 16)
    ip = ip[:10] + struct.pack(">H", ~(check + (check >> 16)) & 0xFFFF) + ip[12:]
    return ethernet(0x800, ip + body)


def virtio_header(rng: random.Random) -> bytes:
    """F05, F09: offsets and sizes of no possible frame among them."""
    far = (0, 13, 14, 34, 50, 54, 16, 0x7FFF, 0xFFFE, 0xFFFF)
    flags, gso = rng.choice((0, 1, 1, 1, 2, 255)), rng.choice((0, 0, 1, 3, 4, 129))
    return struct.pack("<BBHHHH", flags, gso, *(rng.choice(far) for _ in range(4)))


def answers(stack: Slirp, head: bytes) -> bool:
    """Whether the host is still there for the guest."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            os.write(stack.fd, head + arp())
        while select.select([stack.fd], [], [], 0.05)[0]:
            got = os.read(stack.fd, 1 << 17)[len(head) :]
            if got[12:14] == b"\x08\x06" and got[28:32] == HOST:
                return True
    return False


@pytest.mark.parametrize("headers", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_f05_f09_frames_without_sense(seed: int, headers: bool) -> None:
    """F05, F09, F19: whatever frames and headers a guest sends, the stack answers the next."""
    rng = random.Random(seed)
    stack = Slirp(restricted=True, headers=headers)
    try:
        if headers:
            stack.offload(True, bool(seed & 1))
        for n in range(3000):
            noise = rng.randbytes(rng.choice((0, 1, 9, 13, 14, 60, 1514)))
            other = ethernet(rng.choice((0x806, 0x86DD, 0)), rng.randbytes(60))
            frame = rng.choice((packet(rng), packet(rng), other, noise))
            if rng.random() < 0.2:
                frame = frame[: rng.randrange(len(frame) + 1)]
            if rng.random() < 0.01:
                frame = frame.ljust(rng.choice((FRAME_MAX - 1, FRAME_MAX, FRAME_MAX + 20)), b"x")
            head = virtio_header(rng)[: rng.choice((10, 10, 10, 3))] if headers else b""
            try:
                os.write(stack.fd, head + frame)
            except OSError:
                time.sleep(0.001)  # it has enough to do, or it is too long
            if n % 3 == 0:  # not all is taken: the way back fills up
                while select.select([stack.fd], [], [], 0)[0]:
                    os.read(stack.fd, 1 << 17)
        assert answers(stack, bytes(HEADER * headers))
    finally:
        stack.close()


def internet_sum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(number: int, length: int, piece: int) -> list[bytes]:
    """An echo request to the host, in fragments."""
    data = struct.pack(">BBHHH", 8, 0, 0, 1, number) + bytes(length)
    data = data[:2] + struct.pack(">H", internet_sum(data)) + data[4:]
    out = []
    for at in range(0, len(data), piece):
        part = data[at : at + piece]
        more = 0x2000 if at + piece < len(data) else 0
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(part), number, more | at // 8, 64, 1,
                         0, US, HOST)  # fmt: skip
        ip = ip[:10] + struct.pack(">H", internet_sum(ip)) + ip[12:]
        out.append(ethernet(0x800, ip + part))
    return out


def echoes(stack: Slirp, frames: list[bytes]) -> bool:
    """Whether an answer comes: its first fragment."""
    number = frames[0][18:20]
    for frame in frames:
        os.write(stack.fd, frame)
    while select.select([stack.fd], [], [], 0.3)[0]:
        got = os.read(stack.fd, 1 << 17)
        reply = got[12:14] == b"\x08\x00" and got[23] == 1 and got[34] == 0
        if reply and not got[21] and not got[20] & 0x1F and got[40:42] == number:
            return True
    return False


def test_fragments_in_order_only() -> None:
    """A datagram in fragments arrives; out of order, twice or too long it is lost, alone."""
    stack = Slirp()
    try:
        assert answers(stack, b"")
        assert echoes(stack, ping(1, 4096, 1480))
        four = ping(2, 4096, 1480)
        assert not echoes(stack, four[::-1])
        assert echoes(stack, ping(2, 4096, 1480))
        assert not echoes(stack, [four[0], four[2]])
        assert not echoes(stack, [four[0], four[0], four[2]])
        for offset in (1, 2, 0x100, 0x1FFF):
            lone = bytearray(ping(9, 8, 1480)[0])
            lone[20:22] = struct.pack(">H", offset)
            lone[24:26] = bytes(2)
            lone[24:26] = struct.pack(">H", internet_sum(bytes(lone[14:34])))
            assert not echoes(stack, [bytes(lone)])
        # More unfinished ones than are remembered: whole ones are served, and finished ones
        # once there is room.
        for number in range(100, 200):
            os.write(stack.fd, ping(number, 4096, 1480)[0])
        assert echoes(stack, ping(300, 56, 1480))
        assert not echoes(stack, ping(301, 4096, 1480))
        assert echoes(stack, ping(110, 4096, 1480)[1:])
        assert echoes(stack, ping(302, 4096, 1480))
        assert answers(stack, b"")
    finally:
        stack.close()


def test_stacks_come_and_go() -> None:
    """Forty stacks, some of them with frames under way, leave no thread and no descriptor."""
    threads, fds = threading.active_count(), len(os.listdir("/proc/self/fd"))
    tasks = len(os.listdir("/proc/self/task"))
    for n in range(40):
        stack = Slirp(restricted=True, headers=bool(n & 1))
        for _ in range(n):
            os.write(stack.fd, bytes(HEADER * (n & 1)) + arp())
        stack.close()
        stack.close()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == fds
    assert len(os.listdir("/proc/self/task")) <= tasks


def test_forwards_come_first() -> None:
    """A running stack, which has a thread of its own, takes no forward any more."""
    stack = Slirp(restricted=True)
    args = (False, 0x7F000001, 0, 0x0A00020F, 22)
    assert lib.net_slirp_hostfwd(stack._stack, *args) == errno.EBUSY
    stack.close()


def test_wire_that_everybody_pulls_at(vmm_dir: Path) -> None:
    """Bytes of several threads, taken, held and set by others meanwhile: none twice, none lost."""
    vm = Vm.flat(vmm_dir, "t", "hvc #0")
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    wire = ffi.new("int *")
    ok(lib.vm_wire_add(vm.handle, 0x10000, 40, fd, wire))
    stop = threading.Event()
    sent = [0] * 3
    got = bytearray()

    def put(who: int) -> None:
        while sent[who] < 20000:
            if lib.vm_wire_put(vm.handle, wire[0], who) == 0:
                sent[who] += 1
            else:
                time.sleep(0.0005)

    def change() -> None:
        rng = random.Random(5)
        state = ffi.new("struct vm_wire_state *")
        while not stop.is_set():
            for field in ("serve", "ier", "thre", "rx", "fifo", "lsr", "msr"):
                setattr(state, field, rng.getrandbits(8))
            lib.vm_wire_set(vm.handle, wire[0], state)
            lib.vm_wire_hold(vm.handle, rng.choice((wire[0], -1, 8, 1 << 30)), state)

    threads = [threading.Thread(target=put, args=(n,)) for n in range(3)]
    changer = threading.Thread(target=change)
    for thread in (*threads, changer):
        thread.start()
    room, length = ffi.new("uint8_t[]", lib.VM_WIRE_BYTES), ffi.new("size_t *")
    while any(t.is_alive() for t in threads):
        ok(lib.vm_wire_take(vm.handle, wire[0], room, lib.VM_WIRE_BYTES, length))
        got += bytes(ffi.buffer(room, length[0]))
        time.sleep(0.0002)
    stop.set()
    changer.join()
    ok(lib.vm_wire_take(vm.handle, wire[0], room, lib.VM_WIRE_BYTES, length))
    got += bytes(ffi.buffer(room, length[0]))
    assert [got.count(n) for n in range(3)] == [20000] * 3
    assert len(got) == 60000
    os.close(fd)
    vm.close()
