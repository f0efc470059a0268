"""A processing element on the bench, driven from Python.

Responsible for: talking to pe_rig.c, the registers, instruction words and descriptors
that tests need by name.  Not for what should happen: the tests say that, from the Arm
manual.  Commands are queued; an answer is fetched when somebody looks at it.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from core_lib import BUILD, build_program

HERE = Path(__file__).parent


def enc(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    return op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2


# -- instruction words -----------------------------------------------------------------
NOP = 0xD503201F
ISB = 0xD5033FDF
ERET = 0xD69F03E0
DSB = 0xD5033F9F
BRK = 0xD4200000
UDF = 0


def hvc(imm: int) -> int:
    return 0xD4000002 | imm << 5


def svc(imm: int) -> int:
    return 0xD4000001 | imm << 5


def mrs(rt: int, e: int) -> int:
    return 0xD5200000 | e << 5 | rt


def msr(e: int, rt: int) -> int:
    return 0xD5000000 | e << 5 | rt


def sys(e: int, rt: int = 31) -> int:
    return 0xD5000000 | e << 5 | rt


# -- exception classes (ESR_ELx.EC) ------------------------------------------------------
EC_UNKNOWN, EC_WFX, EC_FP, EC_PAC, EC_BTI, EC_ILLEGAL = 0x00, 0x01, 0x07, 0x09, 0x0D, 0x0E
EC_SVC, EC_HVC, EC_SMC, EC_SYSREG = 0x15, 0x16, 0x17, 0x18
EC_IABT_LOWER, EC_IABT, EC_PC, EC_DABT_LOWER, EC_DABT, EC_SP = 0x20, 0x21, 0x22, 0x24, 0x25, 0x26
EC_BRK = 0x3C
IL = 1 << 25


def esr(ec: int, iss: int = 0) -> int:
    """ESR of a 32-bit instruction."""
    return ec << 26 | IL | iss


@dataclass(frozen=True)
class Result:
    """How a run ended: the vector offset, the EL2 and EL1 syndrome registers, x0 to x30."""

    vec: int
    esr2: int
    far2: int
    hpfar: int
    elr2: int
    spsr2: int
    esr1: int
    far1: int
    elr1: int
    spsr1: int
    x: tuple[int, ...]

    @property
    def hvc(self) -> int | None:
        """The number of the HVC that ended the run."""
        return self.esr2 & 0xFFFF if self.esr2 >> 26 == EC_HVC and self.vec == 0x400 else None


@cache
def rig_program() -> Path:
    return build_program(HERE / "pe_rig.c", BUILD / "pe_rig")


class Rig:
    """One running pe_rig."""

    # Where a model is known not to do what the Arm ARM says (qemu_rig.py).
    wrong: frozenset[str] = frozenset()

    def __init__(self, jit: bool = False) -> None:
        self.jit = jit
        self._p = subprocess.Popen(
            [rig_program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._p.stdin is not None
        assert self._p.stdout is not None
        self._in: IO[str] = self._p.stdin
        self._out: IO[str] = self._p.stdout
        self.registers = self._registers()
        self.enc = {name: e for name, (e, _, _) in self.registers.items()}

    def close(self) -> None:
        self._in.close()
        self._p.wait(10)

    def _say(self, text: str) -> None:
        self._in.write(text + "\n")

    def _answer(self, head: str) -> list[str]:
        self._in.flush()
        words = self._out.readline().split()
        assert words[:1] == [head], (head, words)
        return words[1:]

    def _registers(self) -> dict[str, tuple[int, int, int]]:
        """Name to encoding, access bits and feature number + 1."""
        self._say("regs")
        self._in.flush()
        out = {}
        for line in self._out:
            words = line.split()
            if words == ["end"]:
                break
            out[words[0]] = (int(words[1], 16), int(words[2], 16), int(words[3]))
        return out

    def new(self, features: int, vmid_bits: int = 16) -> None:
        self._say(f"new {features:x} {vmid_bits:x} {int(self.jit):x}")

    def mem(self, pa: int, *words: int) -> None:
        for i in range(0, len(words), 1024):
            text = " ".join(f"{w:x}" for w in words[i : i + 1024])
            self._say(f"m {pa + 8 * i:x} {text}")

    def code(self, pa: int, *words: int) -> None:
        self._say(f"i {pa:x} " + " ".join(f"{w:x}" for w in words))

    def read(self, pa: int, count: int = 1) -> list[int]:
        self._say(f"r {pa:x} {count:x}")
        return [int(w, 16) for w in self._answer("r")]

    def _enc(self, reg: int | str) -> int:
        return self.enc[reg] if isinstance(reg, str) else reg

    def set(self, reg: int | str, value: int) -> bool:
        """MSR at EL2; False: UNDEFINED there."""
        self._say(f"s {self._enc(reg):x} {value:x}")
        return self._answer("s") == ["0"]

    def put(self, reg: int | str, value: int) -> None:
        """MSR at EL2 of a register that is there; does not wait."""
        self._say(f"p {self._enc(reg):x} {value:x}")

    def get(self, reg: int | str) -> int | None:
        """MRS at EL2; None: UNDEFINED there."""
        self._say(f"g {self._enc(reg):x}")
        text = self._answer("g")[0]
        return None if text == "-" else int(text, 16)

    def value(self, reg: int | str) -> int:
        v = self.get(reg)
        assert v is not None, reg
        return v

    def x(self, n: int, value: int) -> None:
        self._say(f"x {n:x} {value & (1 << 64) - 1:x}")

    def sys_put(self, e: int, xt: int = 0) -> None:
        """The same as sys(), without waiting."""
        self._say(f"psys {e:x} {xt:x}")

    def sys(self, e: int, xt: int = 0) -> bool:
        self._say(f"sys {e:x} {xt:x}")
        return self._answer("sys") == ["0"]

    def run(self) -> Result:
        self._say("run")
        head = [int(w, 16) for w in self._answer("run")]
        return Result(*head, tuple(int(w, 16) for w in self._answer("x")))

    def qarma5(self, data: int, modifier: int, key0: int, key1: int) -> int:
        self._say(f"pac {data:x} {modifier:x} {key0:x} {key1:x}")
        return int(self._answer("pac")[0], 16)
