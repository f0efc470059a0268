"""Pointer authentication: codes, pointers, traps, against the pseudocode and QEMU."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pe_features as feat
import pytest
from pe_rig import EC_IABT, EC_PAC, EC_SYSREG, Rig, enc, esr, hvc, mrs, msr

M64 = (1 << 64) - 1
CODE, DATA, VECTORS = 0x10000, 0x20000, 0x30000
DONE, TRAPPED = 1, 2
EL1H = 0x3C5
EN = {"IA": 31, "IB": 30, "DA": 27, "DB": 13}
ENABLED = sum(1 << b for b in EN.values())
KEYS = ("IA", "IB", "DA", "DB")
RET = 0xD65F03C0


def pac_word(key: str, auth: bool, rd: int, rn: int | None) -> int:
    word = 0xDAC10000 | KEYS.index(key) << 10 | int(auth) << 12 | rd
    return word | (0x2000 | 31 << 5 if rn is None else rn << 5)


def xpac_word(data: bool, rd: int) -> int:
    return 0xDAC143E0 | int(data) << 10 | rd


def pacga_word(rd: int, rn: int, rm: int) -> int:
    return 0x9AC03000 | rm << 16 | rn << 5 | rd


@pytest.fixture(scope="module", params=[False, True], ids=["interpreter", "jit"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Once with each executor."""
    r = Rig(jit=request.param)
    yield r
    r.close()


def prepare(rig: Rig, qarma5: bool = True, hcr: int = 3 << 40) -> None:
    rig.new(feat.ALL | (feat.BIT["PAuth_QARMA5"] if qarma5 else 0))
    for off in (0x200, 0x400):
        rig.code(VECTORS + off, hvc(TRAPPED))
    rig.set("VBAR_EL1", VECTORS)
    rig.set("HCR_EL2", 1 << 31 | hcr)
    rig.set("SCTLR_EL1", ENABLED)


def start(rig: Rig, *code: int, el0: bool = False) -> None:
    rig.code(CODE, *code)
    rig.set("ELR_EL2", CODE)
    rig.set("SPSR_EL2", 0x3C0 if el0 else EL1H)


# -- the pseudocode (DDI 0487, shared/functions/aarch64/pac) -----------------------------
def fold(a: int, b: int) -> int:
    p = a * b
    return (p ^ p >> 64) & M64


def impdef(data: int, modifier: int, key: tuple[int, int]) -> int:
    """The algorithm of pauth.c; key is (low, high)."""
    lo, hi = key
    h = fold(data ^ hi ^ 0x243F6A8885A308D3, modifier ^ lo ^ 0x13198A2E03707344)
    return fold(h ^ lo ^ 0xA4093822299F31D0, h ^ data ^ hi ^ 0x082EFA98EC4E6C89)


class Model:
    """AddPAC, Auth and Strip at EL1 with a TCR_EL1."""

    def __init__(self, tcr: int, compute) -> None:  # type: ignore[no-untyped-def]
        self.tcr = tcr
        self.compute = compute

    def tbi(self, upper: int, data: bool) -> bool:
        tbi, tbid = self.tcr >> (37 + upper) & 1, self.tcr >> (51 + upper) & 1
        return bool(tbi and not (tbid and not data))

    def bottom(self, upper: int) -> int:
        return 64 - min(max(self.tcr >> 16 * upper & 63, 16), 39)

    def extend(self, ptr: int, tbi: bool, bottom: int, sel: int) -> int:
        top = 56 if tbi else 64
        field = ((1 << top - bottom) - 1) * sel
        high = ptr >> 56 << 56 if tbi else 0
        return high | field << bottom | ptr & (1 << bottom) - 1

    def add(self, ptr: int, modifier: int, key: object, data: bool) -> int:
        tbi = self.tbi(ptr >> 55 & 1, data)
        any_tbi = self.tbi(0, data) or self.tbi(1, data)
        sel = ptr >> (55 if any_tbi else 63) & 1
        bottom = self.bottom(sel)
        pac = self.compute(self.extend(ptr, tbi, bottom, sel), modifier, key)
        top_bit = 55 if tbi else 63
        field = ptr >> bottom & (1 << top_bit - bottom + 1) - 1
        if field not in (0, (1 << top_bit - bottom + 1) - 1):
            pac ^= 1 << top_bit - 1
        low = ptr & (1 << bottom) - 1
        middle = pac & (1 << 55) - (1 << bottom)
        high = (ptr if tbi else pac) >> 56 << 56
        return high | sel << 55 | middle | low

    def auth(self, ptr: int, modifier: int, key: object, data: bool, number: int) -> int:
        sel = ptr >> 55 & 1
        tbi, bottom = self.tbi(sel, data), self.bottom(sel)
        orig = self.extend(ptr, tbi, bottom, sel)
        pac = self.compute(orig, modifier, key)
        mask = (1 << 55) - (1 << bottom)
        if not tbi:
            mask |= 0xFF << 56
        if pac & mask == ptr & mask:
            return orig
        at = 53 if tbi else 61
        return orig & ~(3 << at) | (2 if number else 1) << at

    def strip(self, ptr: int, data: bool) -> int:
        sel = ptr >> 55 & 1
        return self.extend(ptr, self.tbi(sel, data), self.bottom(sel), sel)


def tcrs(rng: random.Random, count: int) -> list[int]:
    out = []
    for _ in range(count):
        tcr = rng.choice((16, 17, 25, 32, 39)) | rng.choice((16, 25, 39)) << 16 | 2 << 30
        tcr |= rng.getrandbits(2) << 37 | rng.getrandbits(2) << 51
        out.append(tcr)
    return out


def pointers(rng: random.Random) -> int:
    kind = rng.randrange(4)
    value = rng.getrandbits(64)
    if kind == 0:
        return value & (1 << 39) - 1
    if kind == 1:
        return M64 ^ value & (1 << 39) - 1
    if kind == 2:
        return value & (1 << 48) - 1 | rng.choice((0, 0xFF80 << 48))
    return value


@pytest.mark.parametrize("qarma5", [True, False])
def test_pointers_follow_the_pseudocode(rig: Rig, qarma5: bool) -> None:
    """Signed, authenticated, corrupted and stripped pointers are those of the manual."""
    rng = random.Random(5)
    prepare(rig, qarma5)
    cache: dict[tuple[int, int, tuple[int, int]], int] = {}

    def compute(data: int, modifier: int, key: tuple[int, int]) -> int:
        if not qarma5:
            return impdef(data, modifier, key)
        where = (data, modifier, key)
        if where not in cache:
            cache[where] = rig.qarma5(data, modifier, key[1], key[0])
        return cache[where]

    for tcr in tcrs(rng, 12):
        model = Model(tcr, compute)
        rig.set("TCR_EL1", tcr)
        for name in KEYS:
            key = (rng.getrandbits(64), rng.getrandbits(64))
            rig.set(f"AP{name}KeyLo_EL1", key[0])
            rig.set(f"AP{name}KeyHi_EL1", key[1])
            data = name[0] == "D"
            for _ in range(6):
                ptr, modifier = pointers(rng), rng.choice((0, rng.getrandbits(64)))
                start(
                    rig,
                    pac_word(name, False, 1, 2 if modifier else None),
                    0xAA0103E3,  # mov x3, x1
                    pac_word(name, True, 3, 2 if modifier else None),
                    0xAA0103E4,  # mov x4, x1
                    0xD2400084 | rng.choice((0, 8, 20)) << 16,  # eor x4, x4, #bit
                    0xAA0403E5,
                    pac_word(name, True, 4, 2 if modifier else None),
                    0xAA0103E6,
                    xpac_word(data, 6),
                    hvc(DONE),
                )
                rig.x(1, ptr)
                rig.x(2, modifier)
                r = rig.run()
                assert r.hvc == DONE
                signed = model.add(ptr, modifier, key, data)
                number = int(name[1] == "B")
                assert r.x[1] == signed, (hex(tcr), name, hex(ptr))
                assert r.x[3] == model.auth(signed, modifier, key, data, number)
                assert r.x[4] == model.auth(r.x[5], modifier, key, data, number)
                assert r.x[6] == model.strip(signed, data)


def test_qarma5_vector(rig: Rig) -> None:
    """The vector of QARMA's paper for QARMA5-64 with the second S-box."""
    pac = rig.qarma5(0xFB623599DA6E8127, 0x477D469DEC0B8762, 0x84BE85CE9804E94B, 0xEC2802D4E0A488E9)
    assert pac == 0xC003B93999B33765


# -- the same instructions under QEMU -------------------------------------------------------
UART = 0x09000000


def load_const(rd: int, value: int) -> list[int]:
    return [
        (0xD2800000 if n == 0 else 0xF2800000) | n << 21 | (value >> 16 * n & 0xFFFF) << 5 | rd
        for n in range(4)
    ]


def print_reg(rt: int) -> list[int]:
    """Eight bytes of Xt to the UART at x20; uses x21."""
    out = []
    for shift in range(0, 64, 8):
        out.append(0xD340FC15 | shift << 16 | rt << 5)  # lsr x21, xt, #shift
        out.append(0xB9000295)  # str w21, [x20]
    return out


def test_codes_are_those_of_qemu(rig: Rig, tmp_path: Path) -> None:
    """PACIA, AUTDB, XPAC and PACGA with QARMA5 agree with QEMU's, with random keys."""
    qemu = shutil.which("qemu-system-aarch64")
    if qemu is None:
        pytest.skip("not installed: qemu-system-aarch64")
    rng = random.Random(9)
    cases = []
    for tcr in tcrs(rng, 8):
        # Both halves alike: QEMU 7.2 chooses one by bit 55 where the manual takes bit 63.
        half = tcr & 63
        tcr = 2 << 30 | half | half << 16 | (3 << 37 if tcr >> 37 & 1 else 0)
        for _ in range(6):
            keys = [rng.getrandbits(64) for _ in range(10)]
            cases.append((tcr, keys, pointers(rng), rng.getrandbits(64), rng.choice(KEYS)))
    names = [f"AP{k}Key{h}_EL1" for k in (*KEYS, "GA") for h in ("Lo", "Hi")]
    code = load_const(20, UART)
    for tcr, keys, ptr, modifier, key in cases:
        for reg, value in [("TCR_EL1", tcr), ("SCTLR_EL1", 0x30D00800 | ENABLED)]:
            code += [*load_const(0, value), msr(rig.enc[reg], 0)]
        for reg, value in zip(names, keys, strict=True):
            code += [*load_const(0, value), msr(rig.enc[reg], 0)]
        code += [*load_const(1, ptr), *load_const(2, modifier), 0xD5033FDF]
        code += body(key)
        for reg in (1, 3, 4, 5, 6):
            code += print_reg(reg)
    code += [*load_const(0, 0x84000008), hvc(0)]  # PSCI SYSTEM_OFF
    image, out = tmp_path / "image", tmp_path / "serial"
    image.write_bytes(struct.pack(f"<{len(code)}I", *code))
    subprocess.run(
        [
            *(qemu, "-M", "virt", "-cpu", "max,pauth-impdef=off", "-nodefaults", "-nographic"),
            *("-nic", "none", "-serial", f"file:{out}"),
            *("-device", f"loader,file={image},addr=0x40200000,force-raw=on"),
            *("-device", "loader,addr=0x40200000,cpu-num=0"),
        ],
        check=True,
        timeout=60,
    )
    theirs = list(struct.iter_unpack("<5Q", out.read_bytes()))
    assert len(theirs) == len(cases)
    prepare(rig)
    for (tcr, keys, ptr, modifier, key), want in zip(cases, theirs, strict=True):
        rig.set("TCR_EL1", tcr)
        for reg, value in zip(names, keys, strict=True):
            rig.set(reg, value)
        start(rig, *body(key), hvc(DONE))
        rig.x(1, ptr)
        rig.x(2, modifier)
        r = rig.run()
        assert r.hvc == DONE
        got = tuple(r.x[n] for n in (1, 3, 4, 5, 6))
        assert got == want, (hex(tcr), key, hex(ptr))


def body(key: str) -> list[int]:
    """x1 signed, x3 authenticated, x4 authenticated wrongly, x5 stripped, x6 generic."""
    return [
        pacga_word(6, 1, 2),
        pac_word(key, False, 1, 2),
        0xAA0103E3,
        pac_word(key, True, 3, 2),
        0xAA0103E4,
        pac_word(key, True, 4, None),
        0xAA0103E5,
        xpac_word(key[0] == "D", 5),
    ]


# -- instructions ---------------------------------------------------------------------------
def sign(rig: Rig, key: str, ptr: int, modifier: int) -> int:
    start(rig, pac_word(key, False, 1, 2), hvc(DONE))
    rig.x(1, ptr)
    rig.x(2, modifier)
    return rig.run().x[1]


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("key", ["IA", "IB"])
def test_branches(rig: Rig, key: str, link: bool) -> None:
    """BRAA, BLRAA, their Z forms, RETAA: to the signed target, else nowhere."""
    prepare(rig)
    rig.set("TCR_EL1", 25 | 25 << 16)
    for n in range(4):
        rig.set(enc(3, 0, 2, 1, n), 0x1234567890ABCDEF * (n + 3) & M64)
    m = int(key == "IB") << 10
    target = CODE + 0x100
    rig.code(target, hvc(TRAPPED))
    word = (0xD73F0800 if link else 0xD71F0800) | m
    for modifier, braz in ((0x55AA, False), (0, True)):
        signed = sign(rig, key, target, modifier)
        assert signed != target
        op = word & ~(1 << 24) | 31 if braz else word | 2
        start(rig, op | 1 << 5, hvc(DONE))
        rig.x(1, signed)
        rig.x(2, modifier)
        r = rig.run()
        assert r.hvc == TRAPPED
        assert r.elr2 == target + 4
        if link:
            assert r.x[30] == CODE + 4
        rig.x(1, signed ^ 1 << 60)
        start(rig, op | 1 << 5, hvc(DONE))
        r = rig.run()
        # Not canonical: an address size fault with stage 1 off, IFSC 0.
        assert r.hvc == TRAPPED
        assert r.esr1 == esr(EC_IABT, 0)
        assert r.far1 == target | (2 if key == "IB" else 1) << 61
    rig.set("SP_EL1", DATA)
    signed = sign(rig, key, target, DATA)
    start(rig, 0xD65F0BFF | m)
    rig.x(30, signed)
    assert rig.run().elr2 == target + 4


@pytest.mark.parametrize("key", ["IA", "IB"])
def test_exception_return(rig: Rig, key: str) -> None:
    """ERETAA authenticates ELR with SP."""
    prepare(rig)
    rig.set("TCR_EL1", 25 | 25 << 16)
    target = CODE + 0x100
    rig.code(target, hvc(TRAPPED))
    rig.set("SP_EL1", DATA)
    signed = sign(rig, key, target, DATA)
    rig.set("ELR_EL1", signed)
    rig.set("SPSR_EL1", EL1H)
    start(rig, 0xD69F0BFF | int(key == "IB") << 10)
    r = rig.run()
    assert r.hvc == TRAPPED
    assert r.elr2 == target + 4


@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize("key", ["DA", "DB"])
def test_loads(rig: Rig, key: str, pre: bool) -> None:
    """LDRAA loads through an authenticated base and writes the plain address back."""
    prepare(rig)
    rig.set("TCR_EL1", 25 | 25 << 16)
    rig.mem(DATA - 0x1000, *[n * 3 for n in range(1024)])
    signed = sign(rig, key, DATA, 0)
    for imm in (-512, -1, 0, 1, 511):
        word = 0xF8200400 | int(key == "DB") << 23 | (imm >> 9 & 1) << 22 | (imm & 0x1FF) << 12
        start(rig, word | int(pre) << 11 | 1 << 5 | 3, hvc(DONE))
        rig.x(1, signed)
        r = rig.run()
        assert r.hvc == DONE
        assert r.x[3] == (512 + imm) * 3
        assert r.x[1] == (DATA + 8 * imm if pre else signed)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("el0", [False, True])
def test_enable_and_trap(rig: Rig, key: str, el0: bool) -> None:
    """A key that is off leaves pointers alone; on, HCR_EL2.API decides; PACGA is never off."""
    modified = pac_word(key, False, 1, 2)
    done = 0xD4000001 if el0 else hvc(DONE)
    for enabled in (False, True):
        for api in (False, True):
            prepare(rig, hcr=int(api) << 41)
            rig.set("SCTLR_EL1", 1 << EN[key] if enabled else ENABLED & ~(1 << EN[key]))
            start(rig, modified, done, el0=el0)
            rig.x(1, DATA)
            r = rig.run()
            if enabled and not api:
                assert r.esr2 == esr(EC_PAC)
                assert r.elr2 == CODE
                assert r.vec == 0x400
            else:
                assert r.hvc == (TRAPPED if el0 else DONE)
                assert (r.x[1] != DATA) == enabled
            start(rig, pacga_word(3, 1, 2), done, el0=el0)
            r = rig.run()
            if api:
                assert r.hvc == (TRAPPED if el0 else DONE)
            else:
                assert r.esr2 == esr(EC_PAC)
            start(rig, xpac_word(key[0] == "D", 1), done, el0=el0)
            assert rig.run().hvc == (TRAPPED if el0 else DONE)


def test_key_registers_trap(rig: Rig) -> None:
    """HCR_EL2.APK lets EL1 at the keys, else EC 0x18 with the register's ISS."""
    for apk in (False, True):
        prepare(rig, hcr=int(apk) << 40)
        for op2, crm in [(n, 1) for n in range(4)] + [(n, 2) for n in range(4)] + [(0, 3), (1, 3)]:
            e = enc(3, 0, 2, crm, op2)
            for read in (False, True):
                start(rig, mrs(4, e) if read else msr(e, 4), hvc(DONE))
                r = rig.run()
                if apk:
                    assert r.hvc == DONE
                else:
                    iss = 3 << 20 | op2 << 17 | 2 << 10 | 4 << 5 | crm << 1 | int(read)
                    assert r.esr2 == esr(EC_SYSREG, iss)


def test_hints(rig: Rig) -> None:
    """PACIA1716, PACIASP, PACIAZ, their AUT and B forms, and XPACLRI."""
    prepare(rig)
    rig.set("TCR_EL1", 25 | 25 << 16)
    for n in range(4):
        rig.set(enc(3, 0, 2, 1, n), 0xFEDCBA9876543211 * (n + 1) & M64)
    rig.set("SP_EL1", DATA)
    for key, first in (("IA", (8, 24, 25)), ("IB", (10, 26, 27))):
        for number, reg, modifier in zip(first, (17, 30, 30), (0x77, 0, DATA), strict=True):
            want = sign(rig, key, DATA, modifier)
            start(rig, 0xD503201F | number << 5, hvc(DONE))
            rig.x(reg, DATA)
            rig.x(16, 0x77)
            r = rig.run()
            assert r.x[reg] == want, number
            start(rig, 0xD503201F | (number + 4) << 5, hvc(DONE))
            assert rig.run().x[reg] == DATA, number + 4
            start(rig, 0xD503201F | 7 << 5, hvc(DONE))
            rig.x(30, want)
            assert rig.run().x[30] == DATA
