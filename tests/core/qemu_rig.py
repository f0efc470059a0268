"""QEMU's processor on the bench of pe_rig.py: the same memory, the same runs, another model.

Responsible for: a qemu-system-aarch64 whose CPU starts at EL2 with 64 MiB at address 0,
driven through its gdbstub, with the commands of Rig.  What Rig does at EL2 by hand is a
small program here: MSR, MRS and system instructions, then ERET; an exception to EL2 saves
what Result holds and stops at a breakpoint.  Not for what should happen.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

from pe_rig import ERET, ISB, Result, Rig, mrs, msr, sys

PROGRAM, STACK, SAVED, GENERAL, VBAR = 0x4000, 0x3000, 0x7000, 0x7400, 0x800
END = VBAR + 0x800
EL2H = 0x3C9
PATIENCE_S = 10.0
# What an exception saves behind x0 to x30 and the vector, in the order of Result.
SAVES = ("ESR_EL2", "FAR_EL2", "HPFAR_EL2", "ELR_EL2", "SPSR_EL2")
SAVES += ("ESR_EL1", "FAR_EL1", "ELR_EL1", "SPSR_EL1")


def load(rd: int, value: int) -> list[int]:
    """MOVZ and MOVK."""
    words = [0xD2800000 | (value & 0xFFFF) << 5 | rd]
    for hw in (1, 2, 3):
        part = value >> 16 * hw & 0xFFFF
        if part:
            words.append(0xF2800000 | hw << 21 | part << 5 | rd)
    return words


def stp(rt: int, offset: int, load_it: bool = False) -> int:
    return 0xA9000000 | int(load_it) << 22 | offset // 8 << 15 | rt + 1 << 10 | 30 << 5 | rt


def str_x0(offset: int) -> int:
    return 0xF9000000 | offset // 8 << 10 | 30 << 5


class QemuRig(Rig):
    """One running QEMU 7.2, a Neoverse N1.

    wrong: "blocks", it takes a block at a level that has none (DDI 0487, D8.3.1);
    "syndrome", an external abort on a stage-2 walk has a valid one (ISS, ISV);
    "ptw-level", a stage-2 fault on a stage-1 walk says the level of stage 1;
    "size", it refuses a stage-2 input size beyond VTCR_EL2.PS.
    """

    wrong = frozenset({"blocks", "syndrome", "ptw-level", "size"})

    def __init__(self, names: Rig, directory: Path) -> None:
        """names: a Rig that knows the encodings of registers."""
        self.registers, self.enc = names.registers, names.enc
        self.jit = False
        path = directory / "gdb"
        argv = [shutil.which("qemu-system-aarch64") or "qemu-system-aarch64", "-M", "none"]
        argv += ["-cpu", "neoverse-n1,has_el3=off", "-m", "64M", "-display", "none", "-S"]
        argv += ["-gdb", f"unix:{path},server=on,wait=off"]
        self._q = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        self._s = socket.socket(socket.AF_UNIX)
        self._s.settimeout(PATIENCE_S)
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._s.connect(str(path))
                break
            except OSError:
                assert time.monotonic() < until, "QEMU does not listen"
                time.sleep(0.02)
        self._buf = b""
        self._touched: set[int] = set()
        self._general = [0] * 31
        self._todo: list[int] = []
        # Single registers can be written once the description was asked for.
        self._ask("qXfer:features:read:target.xml:0,ffb")
        self._vectors()
        self._ask(f"Z1,{END:x},4")

    def close(self) -> None:
        self._s.close()
        self._q.kill()
        self._q.wait(10)

    # -- the gdb protocol -----------------------------------------------------------------
    def _ask(self, text: str) -> str:
        data = text.encode()
        self._s.sendall(b"$" + data + f"#{sum(data) & 255:02x}".encode())
        while True:
            begin = self._buf.find(b"$")
            end = self._buf.find(b"#", begin)
            if begin >= 0 and end >= 0 and len(self._buf) >= end + 3:
                answer = self._buf[begin + 1 : end].decode()
                self._buf = self._buf[end + 3 :]
                self._s.sendall(b"+")
                assert not answer.startswith("E"), (text[:40], answer)
                return answer
            got = self._s.recv(1 << 16)
            assert got, "QEMU has gone"
            self._buf += got

    def _poke(self, at: int, data: bytes) -> None:
        for i in range(0, len(data), 1024):
            part = data[i : i + 1024]
            self._ask(f"M{at + i:x},{len(part):x}:{part.hex()}")
        self._touched.update(range(at >> 12, (at + len(data) - 1 >> 12) + 1))

    def _peek(self, at: int, size: int) -> bytes:
        out = b""
        while len(out) < size:
            out += bytes.fromhex(self._ask(f"m{at + len(out):x},{min(1024, size - len(out)):x}"))
        return out

    # -- at EL2 -------------------------------------------------------------------------------
    def _vectors(self) -> None:
        common = [stp(rt, 8 * rt) for rt in range(2, 30, 2)]
        common += [str_x0(8 * 31), 0xD53CD040, str_x0(8 * 30)]  # the vector; mrs x0, tpidr_el2
        for n, name in enumerate(SAVES):
            common += [mrs(0, self.enc[name]), str_x0(8 * (32 + n))]
        at = END + 0x100
        go = (END - (at + 4 * len(common))) // 4 & 0x3FFFFFF
        self._poke(at, struct.pack(f"<{len(common) + 1}I", *common, 0x14000000 | go))
        for off in range(0, 0x800, 0x80):
            here = VBAR + off
            words = [0xD51CD05E, *load(30, SAVED), stp(0, 0), *load(0, off)]
            words.append(0x14000000 | (at - (here + 4 * len(words))) // 4 & 0x3FFFFFF)
            self._poke(here, struct.pack(f"<{len(words)}I", *words))
        self._poke(END, struct.pack("<I", 0x14000000))

    def _go(self, words: list[int]) -> None:
        """Run a program at EL2, up to END."""
        words = [*load(0, VBAR), 0xD51CC000, ISB, *words]
        self._poke(PROGRAM, struct.pack(f"<{len(words)}I", *words))
        self._ask(f"P20={struct.pack('<Q', PROGRAM).hex()}")
        self._ask(f"P21={struct.pack('<I', EL2H).hex()}")
        stop = self._ask("c")
        assert stop.startswith("T05"), stop

    def _done(self, words: list[int]) -> list[int]:
        """What was queued and a bit more, without leaving EL2."""
        todo, self._todo = [*self._todo, *words], []
        at = PROGRAM + 4 * (len(load(0, VBAR)) + 2 + len(todo))
        self._go([*todo, 0x14000000 | (END - at) // 4 & 0x3FFFFFF])
        return []

    # -- the commands of Rig --------------------------------------------------------------------
    def new(self, features: int, vmid_bits: int = 16) -> None:
        for page in sorted(self._touched):
            if page > 8:
                self._poke(page << 12, bytes(4096))
        self._touched.clear()
        self._general = [0] * 31
        for name, value in (("HCR_EL2", 1 << 31), ("VTCR_EL2", 1 << 31), ("SCTLR_EL1", 0x30D00980)):
            self.put(name, value)
        self.sys_put(1 << 14 | 4 << 11 | 8 << 7 | 7 << 3 | 4)  # TLBI ALLE1

    def mem(self, pa: int, *words: int) -> None:
        self._poke(pa, struct.pack(f"<{len(words)}Q", *words))

    def code(self, pa: int, *words: int) -> None:
        self._poke(pa, struct.pack(f"<{len(words)}I", *words))

    def read(self, pa: int, count: int = 1) -> list[int]:
        # What a run may have written is to be cleared, too.
        self._touched.update(range(pa >> 12, (pa + 8 * count - 1 >> 12) + 1))
        return list(struct.unpack(f"<{count}Q", self._peek(pa, 8 * count)))

    def put(self, reg: int | str, value: int) -> None:
        self._todo += [*load(0, value), msr(self._enc(reg), 0), ISB]

    def set(self, reg: int | str, value: int) -> bool:
        self.put(reg, value)
        return True

    def get(self, reg: int | str) -> int | None:
        self._done([mrs(0, self._enc(reg)), *load(30, SAVED), str_x0(0)])
        return int(struct.unpack("<Q", self._peek(SAVED, 8))[0])

    def x(self, n: int, value: int) -> None:
        self._general[n] = value & (1 << 64) - 1

    def sys_put(self, e: int, xt: int = 0) -> None:
        self._todo += [*load(0, xt), sys(e, 0), 0xD5033F9F, ISB]  # dsb sy

    def sys(self, e: int, xt: int = 0) -> bool:
        self.sys_put(e, xt)
        return True

    def run(self) -> Result:
        self._poke(GENERAL, struct.pack("<31Q", *self._general))
        words = [*self._todo, *load(30, GENERAL)]
        words += [stp(rt, 8 * rt, True) for rt in range(0, 30, 2)]
        words += [0xF9400000 | 30 << 10 | 30 << 5 | 30, ERET]
        self._todo = []
        self._go(words)
        v = struct.unpack("<41Q", self._peek(SAVED, 41 * 8))
        self._general = list(v[:31])
        return Result(v[31], *v[32:41], v[:31])
