"""Every extension can be switched: off it is UNDEFINED, on the ID registers say so."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pe_features as feat
import pe_rig
import pytest
from core_lib import ROOT
from pe_rig import EC_UNKNOWN, Result, Rig, enc, hvc, mrs, msr

sys.path.insert(0, str(ROOT / "vmmcore" / "tools"))
import gen_decode

CODE, DATA, VECTORS = 0x10000, 0x20000, 0x30000
DONE, TRAPPED = 1, 2
EL1H = 0x3C5

# DDI 0487, D19.2: register, lowest bit of the field, value with and without the feature
# (with all others on).
ID_FIELDS = {
    "AES": ("ID_AA64ISAR0_EL1", 4, 2, 0),
    "PMULL": ("ID_AA64ISAR0_EL1", 4, 2, 1),
    "SHA1": ("ID_AA64ISAR0_EL1", 8, 1, 0),
    "SHA256": ("ID_AA64ISAR0_EL1", 12, 2, 0),
    "SHA512": ("ID_AA64ISAR0_EL1", 12, 2, 1),
    "SHA3": ("ID_AA64ISAR0_EL1", 32, 1, 0),
    "SM3": ("ID_AA64ISAR0_EL1", 36, 1, 0),
    "SM4": ("ID_AA64ISAR0_EL1", 40, 1, 0),
    "CRC32": ("ID_AA64ISAR0_EL1", 16, 1, 0),
    "LSE": ("ID_AA64ISAR0_EL1", 20, 2, 0),
    "RDM": ("ID_AA64ISAR0_EL1", 28, 1, 0),
    "FP16": ("ID_AA64PFR0_EL1", 16, 1, 0),
    "DotProd": ("ID_AA64ISAR0_EL1", 44, 1, 0),
    "FHM": ("ID_AA64ISAR0_EL1", 48, 1, 0),
    "JSCVT": ("ID_AA64ISAR1_EL1", 12, 1, 0),
    "FCMA": ("ID_AA64ISAR1_EL1", 16, 1, 0),
    "LRCPC": ("ID_AA64ISAR1_EL1", 20, 2, 0),
    "LRCPC2": ("ID_AA64ISAR1_EL1", 20, 2, 1),
    "LSE2": ("ID_AA64MMFR2_EL1", 32, 1, 0),
    "FlagM": ("ID_AA64ISAR0_EL1", 52, 2, 0),
    "FlagM2": ("ID_AA64ISAR0_EL1", 52, 2, 1),
    "FRINTTS": ("ID_AA64ISAR1_EL1", 32, 1, 0),
    "DIT": ("ID_AA64PFR0_EL1", 48, 1, 0),
    "SB": ("ID_AA64ISAR1_EL1", 36, 1, 0),
    "SSBS": ("ID_AA64PFR1_EL1", 4, 2, 0),
    "SPECRES": ("ID_AA64ISAR1_EL1", 40, 1, 0),
    "DPB": ("ID_AA64ISAR1_EL1", 0, 1, 0),
    "BTI": ("ID_AA64PFR1_EL1", 0, 1, 0),
    "PAuth": ("ID_AA64ISAR1_EL1", 8, 1, 0),
    "PAN": ("ID_AA64MMFR1_EL1", 20, 3, 0),
    "PAN2": ("ID_AA64MMFR1_EL1", 20, 3, 1),
    "EPAN": ("ID_AA64MMFR1_EL1", 20, 3, 2),
    "UAO": ("ID_AA64MMFR2_EL1", 4, 1, 0),
    "XNX": ("ID_AA64MMFR1_EL1", 28, 1, 0),
    "E0PD": ("ID_AA64MMFR2_EL1", 60, 1, 0),
    "HAFDBS": ("ID_AA64MMFR1_EL1", 0, 2, 0),
    "TTL": ("ID_AA64MMFR2_EL1", 48, 1, 0),
    "TLBIOS": ("ID_AA64ISAR0_EL1", 56, 2, 0),
    "TLBIRANGE": ("ID_AA64ISAR0_EL1", 56, 2, 1),
    "VHE": ("ID_AA64MMFR1_EL1", 8, 1, 0),
    "ECV": ("ID_AA64MMFR0_EL1", 60, 2, 0),
    "IESB": ("ID_AA64MMFR2_EL1", 12, 1, 0),
    "I8MM": ("ID_AA64ISAR1_EL1", 52, 1, 0),
    "BF16": ("ID_AA64ISAR1_EL1", 44, 1, 0),
    "RNG": ("ID_AA64ISAR0_EL1", 60, 1, 0),
    "WFxT": ("ID_AA64ISAR2_EL1", 0, 2, 0),
    "CSV2": ("ID_AA64PFR0_EL1", 56, 1, 0),
    "CSV3": ("ID_AA64PFR0_EL1", 60, 1, 0),
    "PMUv3": ("ID_AA64DFR0_EL1", 8, 4, 0),
}
# What counts on another feature, whose absence takes this one away too.
NEEDS = {
    "PMULL": {"AES"},
    "SHA1": {"SHA256"},
    "SHA256": {"SHA1"},
    "SHA512": {"SHA256", "SHA1"},
    "SHA3": {"SHA512", "SHA256", "SHA1"},
    "SM3": {"SM4"},
    "SM4": {"SM3"},
    "FHM": {"FP16"},
    "LRCPC2": {"LRCPC"},
    "FlagM2": {"FlagM"},
    "PAN2": {"PAN"},
    "EPAN": {"PAN2", "PAN"},
    "TLBIRANGE": {"TLBIOS"},
}
# Not rows of the decode table: op1, CRn, CRm, op2 of SYS and the PSTATE field of MSR (imm).
SYS_OPS = {
    "DPB": [(3, 7, 12, 1)],
    "PAN2": [(0, 7, 9, 0), (0, 7, 9, 1)],
    "SPECRES": [(3, 7, 3, 4), (3, 7, 3, 5), (3, 7, 3, 7)],
    "TLBIOS": [(0, 8, 1, n) for n in (0, 1, 2, 3, 5, 7)],
    "TLBIRANGE": [(0, 8, crm, n) for crm in (2, 5, 6) for n in (1, 3, 5, 7)],
}
PSTATE_IMM = {"UAO": (0, 3), "PAN": (0, 4), "SSBS": (3, 1), "DIT": (3, 2)}
SCTLR_BITS = {
    "LSE2": [6],
    "SPECRES": [10],
    "PAuth": [13, 27, 30, 31],
    "IESB": [21],
    "BTI": [35, 36],
    "SSBS": [44],
    "EPAN": [57],
}


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    r = Rig()
    yield r
    r.close()


def without(name: str) -> int:
    """All but a feature, and but those that need it."""
    out = feat.ALL & ~feat.BIT[name]
    for other, needs in NEEDS.items():
        if name in needs:
            out &= ~feat.BIT[other]
    return out


def prepare(rig: Rig, features: int) -> None:
    rig.new(features)
    rig.code(VECTORS + 0x200, hvc(TRAPPED))
    rig.set("VBAR_EL1", VECTORS)
    rig.set("CPACR_EL1", 3 << 20)
    rig.set("CPTR_EL2", 0x33FF)
    rig.set("HCR_EL2", 1 << 31 | 3 << 40)
    rig.set("CNTHCTL_EL2", 3)
    rig.set("VBAR_EL2", 0)


def execute(rig: Rig, word: int) -> Result:
    """Run one instruction at EL1; addresses lead to DATA, branches to an HVC."""
    rig.code(CODE, word, *[hvc(DONE)] * 64)
    for n in range(31):
        rig.x(n, DATA)
    rig.code(DATA, hvc(DONE))
    rig.set("SP_EL1", DATA)
    rig.set("ELR_EL1", DATA)
    rig.set("SPSR_EL1", EL1H)
    rig.set("ESR_EL1", 0)
    rig.set("ELR_EL2", CODE)
    rig.set("SPSR_EL2", EL1H)
    return rig.run()


def undefined(r: Result) -> bool:
    return r.hvc == TRAPPED and r.esr1 >> 26 == EC_UNKNOWN and r.elr1 == CODE


def a_word(row: gen_decode.Row, rng: random.Random) -> int:
    for _ in range(10000):
        word = row.value | rng.getrandbits(32) & ~row.mask
        if row.matches(word):
            return word
    raise AssertionError(row.name)


def rows_of(name: str) -> list[gen_decode.Row]:
    pe = Path(ROOT) / "vmmcore" / "pe"
    tables = [pe / f"{t}.decode" for t in ("a64", "a64_simd", "a64_fp")]
    return [r for r in gen_decode.load(tables) if r.options.get("feat") == name]


SWITCHABLE = [n for n in feat.NAMES if n != "PAuth_QARMA5"]


@pytest.mark.parametrize("name", SWITCHABLE)
def test_id_field(rig: Rig, name: str) -> None:
    """The field reads the manual's value with the feature, and without it."""
    reg, shift, on, off = ID_FIELDS[name]
    for features, want in ((feat.ALL, on), (without(name), off)):
        rig.new(features)
        assert rig.value(reg) >> shift & 15 == want


def test_id_registers_of_nothing(rig: Rig) -> None:
    """Without extensions every ID field is that of Armv8.0."""
    rig.new(feat.NONE)
    assert rig.value("ID_AA64PFR0_EL1") == 0x01000111
    assert rig.value("ID_AA64PFR1_EL1") == 0
    for n in (0, 1, 2):
        assert rig.value(f"ID_AA64ISAR{n}_EL1") == 0
    assert rig.value("ID_AA64MMFR0_EL1") == 0x00100025
    assert rig.value("ID_AA64MMFR1_EL1") == 0x00001020
    assert rig.value("ID_AA64MMFR2_EL1") == 0


def test_id_qarma5(rig: Rig) -> None:
    """The algorithm moves the field from API and GPI to APA and GPA."""
    rig.new(feat.ALL)
    assert rig.value("ID_AA64ISAR1_EL1") & 0xFF000FF0 == 0x10000100
    rig.new(feat.ALL | feat.BIT["PAuth_QARMA5"])
    assert rig.value("ID_AA64ISAR1_EL1") & 0x0F000FF0 == 0x01000010
    assert rig.value("ID_AA64ISAR1_EL1") >> 28 & 15 == 0


@pytest.mark.parametrize("name", [n for n in SWITCHABLE if rows_of(n)])
def test_instructions(rig: Rig, name: str) -> None:
    """Each row of a feature is UNDEFINED without it and executes with it."""
    rng = random.Random(name)
    words = [(row.name, a_word(row, rng)) for row in rows_of(name)]
    prepare(rig, without(name))
    assert [row for row, word in words if not undefined(execute(rig, word))] == []
    prepare(rig, feat.ALL)
    assert [row for row, word in words if undefined(execute(rig, word))] == []


@pytest.mark.parametrize("name", SYS_OPS)
def test_system_instructions(rig: Rig, name: str) -> None:
    """SYS encodings of a feature are UNDEFINED without it."""
    words = [pe_rig.sys(enc(1, *op), 0) for op in SYS_OPS[name]]
    prepare(rig, without(name))
    assert all(undefined(execute(rig, w)) for w in words)
    prepare(rig, feat.ALL)
    assert not any(undefined(execute(rig, w)) for w in words)


@pytest.mark.parametrize("name", PSTATE_IMM)
def test_pstate_fields(rig: Rig, name: str) -> None:
    """MSR (immediate), MRS, and the SPSR bit of a PSTATE field come with the feature."""
    op1, op2 = PSTATE_IMM[name]
    bit = {"UAO": 23, "PAN": 22, "SSBS": 12, "DIT": 24}[name]
    word = 0xD500401F | op1 << 16 | 1 << 8 | op2 << 5
    prepare(rig, without(name))
    assert undefined(execute(rig, word))
    assert undefined(execute(rig, mrs(0, rig.enc[name])))
    rig.code(CODE, hvc(DONE))
    rig.set("ELR_EL2", CODE)
    rig.set("SPSR_EL2", EL1H | 1 << bit)
    assert rig.run().spsr2 & 1 << bit == 0
    prepare(rig, feat.ALL)
    r = execute(rig, word)
    assert r.hvc == DONE
    assert r.spsr2 & 1 << bit
    rig.code(CODE, hvc(DONE))
    rig.set("ELR_EL2", CODE)
    rig.set("SPSR_EL2", EL1H | 1 << bit)
    assert rig.run().spsr2 & 1 << bit


def test_registers(rig: Rig) -> None:
    """A register of a feature is UNDEFINED without it, at EL1 and at EL2."""
    of_feature = {n: v for n, v in rig.registers.items() if v[2] != 0}
    assert len(of_feature) > 20
    for name in {feat.NAMES[v[2] - 1] for v in of_feature.values()}:
        mine = [(n, v) for n, v in of_feature.items() if feat.NAMES[v[2] - 1] == name]
        prepare(rig, without(name))
        for reg, (e, _, _) in mine:
            assert rig.get(e) is None, reg
            assert undefined(execute(rig, mrs(0, e))), reg
            assert undefined(execute(rig, msr(e, 0))), reg
        prepare(rig, feat.ALL)
        for reg, (e, acc, _) in mine:
            if acc & 4:
                assert execute(rig, mrs(0, e)).hvc == DONE, reg
            if acc & 8:
                assert execute(rig, msr(e, 0)).hvc == DONE, reg


@pytest.mark.parametrize("name", SCTLR_BITS)
def test_sctlr_bits(rig: Rig, name: str) -> None:
    """SCTLR_EL1 keeps the bits of a feature only with it."""
    mask = sum(1 << b for b in SCTLR_BITS[name])
    rig.new(without(name))
    rig.set("SCTLR_EL1", (1 << 64) - 1)
    assert rig.value("SCTLR_EL1") & mask == 0
    rig.new(feat.ALL)
    rig.set("SCTLR_EL1", (1 << 64) - 1)
    assert rig.value("SCTLR_EL1") & mask == mask
    rig.set("SCTLR_EL1", 0)
    assert rig.value("SCTLR_EL1") & mask == 0


def test_hints_of_pauth_are_nops(rig: Rig) -> None:
    """PACIASP and the other hints change nothing without the feature."""
    hints = [7, 8, 10, 12, 14, *range(24, 32)]
    prepare(rig, without("PAuth"))
    for n in hints:
        r = execute(rig, 0xD503201F | n << 5)
        assert (r.hvc, set(r.x)) == (DONE, {DATA}), n


def test_random_numbers(rig: Rig) -> None:
    """RNDR gives another number each time and clears NZCV."""
    prepare(rig, feat.ALL)
    seen = set()
    for name in ("RNDR", "RNDRRS") * 4:
        rig.code(CODE, mrs(3, rig.enc[name]), hvc(DONE))
        rig.set("ELR_EL2", CODE)
        rig.set("SPSR_EL2", EL1H | 0xF << 28)
        r = rig.run()
        assert r.hvc == DONE
        assert r.spsr2 >> 28 == 0
        seen.add(r.x[3])
    assert len(seen) == 8


def test_wait_with_timeout(rig: Rig) -> None:
    """WFIT and WFET go on when the count is reached; else the trap names the register."""
    prepare(rig, feat.ALL)
    rig.set("HCR_EL2", 1 << 31 | 1 << 13 | 1 << 14)
    wfe = 0xD503205F
    for word, ti in ((0xD5031020, 2), (0xD5031000, 3)):
        # WFE first uses the event up that the entry has left.
        rig.code(CODE, wfe, word | 7, hvc(DONE))
        for until, trap in ((0, False), ((1 << 64) - 1, True)):
            rig.x(7, until)
            rig.set("ELR_EL2", CODE)
            rig.set("SPSR_EL2", EL1H)
            r = rig.run()
            if trap:
                iss = 1 << 24 | 0xE << 20 | 7 << 5 | 1 << 2 | ti
                assert r.esr2 == pe_rig.esr(pe_rig.EC_WFX, iss)
                assert r.elr2 == CODE + 4
            else:
                assert r.hvc == DONE
