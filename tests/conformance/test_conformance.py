"""`make conformance SMALL=1` as tests: instructions, blocks and floating point.

CONF_SEED picks other inputs, CONF_ENGINE the executor of our PE.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import conf_build
import conf_fp
import conf_rows
import conf_run
import harness
import known
import mutant_list
import mutants
import pytest

SEED = int(os.environ.get("CONF_SEED", "1"))


@pytest.fixture(scope="module")
def executors() -> conf_run.Executors:
    """conf_host and conf_guest, up to date."""
    gone = harness.missing_tools()
    if gone:
        pytest.skip("not installed: " + ", ".join(gone))
    return conf_run.executors()


@pytest.mark.slow
def test_instructions_agree_with_qemu(executors: conf_run.Executors, tmp_path: Path) -> None:
    """20 million tests over every row: registers, flags, memory and faults are QEMU's."""
    size = conf_run.SIZES["small"]
    tally = conf_run.run_insn(executors, tmp_path, SEED, size["each"], size["tests"])
    print(f"seed {SEED}", tally.table(), sep="\n")
    assert sum(tally.tests.values()) >= 20_000_000
    assert not sum(tally.wrong.values()), "\n".join(tally.reports)


@pytest.mark.slow
def test_translated_instructions_agree_with_qemu(
    executors: conf_run.Executors, tmp_path: Path
) -> None:
    """The same with the translator, which takes every instruction at its first execution."""
    size = conf_run.SIZES["small"]
    jit = replace(executors, engine="jit")
    tally = conf_run.run_insn(jit, tmp_path, SEED + 1, size["each"], size["tests"] // 8)
    print(f"seed {SEED + 1}", tally.table(), sep="\n")
    assert not sum(tally.wrong.values()), "\n".join(tally.reports)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["interp", "jit"])
def test_blocks_agree_with_qemu(engine: str, executors: conf_run.Executors, tmp_path: Path) -> None:
    """Random blocks of 2 to 64 instructions leave the same registers and memory as in QEMU."""
    size = conf_run.SIZES["small"]
    executors = replace(executors, engine=engine)
    tally = conf_run.run_block(executors, tmp_path, SEED, size["count"], size["inputs"])
    print(f"seed {SEED}", tally.table(), sep="\n")
    assert not sum(tally.wrong.values()), "\n".join(tally.reports)


@pytest.mark.slow
def test_arithmetic_agrees_with_softfloat() -> None:
    """12 million operations of 16, 32 and 64 bits in all modes: results and flags exact."""
    pytest.importorskip("softfloatpy")
    tests, wrong, lines = conf_fp.run(conf_fp.load(), SEED, conf_fp.SMALL)
    print(f"seed {SEED}", conf_fp.table(tests, wrong, 0), sep="\n")
    assert sum(tests.values()) >= 12_000_000
    assert not lines, "\n".join(lines)


def test_every_row_is_run_or_has_a_reason(executors: conf_run.Executors, tmp_path: Path) -> None:
    """No row of the decode tables goes without a test unless it cannot run in user mode."""
    rows = conf_rows.load()
    seen = {
        rows[n].name
        for n, ours, _ in executors.hashes(tmp_path, "insn", [SEED, 1, 1], 0, len(rows))
        if ours
    }
    secret = {r.name for r in rows if r.options.get("feat") in conf_rows.SKIP_FEATURES}
    assert {r.name for r in rows} - seen == set(conf_rows.SKIP) | secret


def test_exception_list_is_short() -> None:
    """At most 20 entries, each with a section, none in integer, branch or load/store."""
    assert len(known.ALLOWED) <= 20
    classes = {r.name: conf_rows.CLASSES[conf_rows.class_number(r)] for r in conf_rows.load()}
    for entry in known.ALLOWED:
        assert entry.section
        assert entry.reason
        for row in entry.rows:
            assert classes[row] not in ("integer", "branch", "load/store"), row


def test_every_mutant_has_its_place() -> None:
    """The text that each seeded bug replaces is still there: `make mutants` can be built."""
    pe = conf_build.CORE / "pe"
    assert len(mutant_list.MUTANTS) == 100
    for name in {m.file for m in mutant_list.MUTANTS} - {mutants.GENERATED}:
        assert "MUT(" in mutants.mutate(name, (pe / name).read_text())


def test_a_difference_is_seen(executors: conf_run.Executors, tmp_path: Path) -> None:
    """The comparison fails when the two sides do not run the same thing."""
    hashes = executors.run(True, tmp_path, "insn", 1, 4, 4, 0, 200)
    other = executors.run(False, tmp_path, "insn", 2, 4, 4, 0, 200)
    same = sum(hashes[i : i + 8] == other[i : i + 8] for i in range(0, len(hashes), 8))
    assert same < 10
