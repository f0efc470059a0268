"""The generator of the decoder: what it accepts, what it rejects, what it emits."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

CORE = Path(__file__).resolve().parents[2] / "vmmcore"
TOOL = CORE / "tools" / "gen_decode.py"


@pytest.fixture(scope="module")
def gen() -> ModuleType:
    """tools/gen_decode.py as a module."""
    spec = importlib.util.spec_from_file_location("gen_decode_under_test", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def row(gen: ModuleType, line: str) -> object:
    return gen.parse_line(line, "t:1")


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "t.decode"
    path.write_text(text)
    return path


def run(*argv: object) -> subprocess.CompletedProcess[str]:
    cmd = [sys.executable, str(TOOL), *map(str, argv)]
    return subprocess.run(cmd, capture_output=True, text=True, check=False)


def test_pattern_gives_mask_and_value(gen: ModuleType) -> None:
    """Fixed bits go to mask and value, dots and fields to neither."""
    r = row(gen, "x 1 0 . a:5 00000000 b:8 . . 000 111 |")
    assert r.mask == 0xC0FF003F
    assert r.value == 0x80000007
    assert r.fields == {"a": (24, 5), "b": (8, 8)}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x 1 0 1 |", "bits"),
        ("x " + "0" * 33 + " |", "bits"),
        ("X " + "0" * 32 + " |", "bad name"),
        ("x " + "x" * 32 + " |", "bad token"),
        ("x a:16 a:16 |", "twice"),
        ("x a:32 | rd=q", "register map"),
        ("x a:32 | colour=red", "bad option"),
        ("x a:32 | imm=nosuch", "no field"),
        ("x a:32 | when b!=0", "no field"),
    ],
)
def test_mistakes_are_named(gen: ModuleType, line: str, why: str) -> None:
    """A mistake in a row is an error that names the line."""
    with pytest.raises(gen.TableError, match=why) as info:
        row(gen, line)
    assert "t:1" in str(info.value)


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ("when a==3", 3, 4),
        ("when a!=3", 4, 3),
        ("when a<3", 2, 3),
        ("when a<=3", 3, 4),
        ("when a>3", 4, 3),
        ("when a>=3", 3, 2),
        ("when a in 1,0x5", 5, 3),
        ("when a notin 1,5", 3, 5),
        ("when a>=b", 0x21, 0x12),
        ("when b:a==0x21", 0x12 << 0 | 0, 0x21),
        ("when a!=3 when a!=4", 5, 4),
    ],
)
def test_constraints(gen: ModuleType, when: str, yes: int, no: int) -> None:
    """Each operator accepts and refuses; several constraints must all hold."""
    if ":" in when or ">=b" in when:
        r = row(gen, "x " + "0" * 24 + f" a:4 b:4 | {when}")
    else:
        r = row(gen, "x " + "0" * 24 + f" a:8 | {when}")
    assert r.matches(yes)
    assert not r.matches(no)


def test_overlap_is_found_under_constraints(gen: ModuleType) -> None:
    """Two rows overlap only if one word satisfies the bits and all constraints of both."""
    zeros = "0" * 24
    a = row(gen, f"a {zeros} s:2 ...... | when s!=3")
    b = row(gen, f"b {zeros} 11 ...... |")
    c = row(gen, f"c {zeros} s:2 t:6 | when s>=2 when t==9")
    assert gen.overlap(a, b) is None
    assert gen.overlap(b, c) == 0xC9
    assert gen.overlap(a, c) == 0x89


def test_generator_refuses_overlaps(tmp_path: Path) -> None:
    """The command fails, names both rows and a word, and writes nothing."""
    path = table(tmp_path, "a " + "." * 32 + "\nb " + "1" * 32 + "\n")
    done = run(tmp_path / "out", path)
    assert done.returncode == 1
    assert "b overlaps a" in done.stderr
    assert "0xffffffff" in done.stderr
    assert not (tmp_path / "out").exists()


def test_same_name_twice_is_refused(tmp_path: Path) -> None:
    """Names are unique over all tables."""
    path = table(tmp_path, "a " + "0" * 32 + "\na " + "1" * 32 + "\n")
    assert "already" in run("--check", path).stderr


def test_missing_table_is_skipped_with_a_note(tmp_path: Path) -> None:
    """A table that does not exist yet is named on standard error and skipped."""
    path = table(tmp_path, "a " + "0" * 32 + "\n")
    done = run("--check", path, tmp_path / "none.decode")
    assert done.returncode == 0
    assert "none.decode" in done.stderr
    assert done.stdout == "1 rows, 1 handlers\n"


def test_outputs(tmp_path: Path) -> None:
    """Ops, prototypes, handler table and features follow the rows; lines may be joined."""
    one, two = "0" * 31 + "1", "0" * 30 + "10"
    path = table(tmp_path, f"one {one} | feat=LSE fn=both\ntwo {two} \\\n | fn=both\n")
    assert run(tmp_path, path).returncode == 0
    ops = (tmp_path / "pe" / "a64_ops.h").read_text()
    code = (tmp_path / "pe" / "a64_decode.c").read_text()
    protos = (tmp_path / "pe" / "a64_handlers.h").read_text()
    assert ops.index("A64_UNDECODED") < ops.index("A64_PAGE_END") < ops.index("A64_ONE")
    assert protos.count("int op_both(") == 1
    assert code.count("\top_both,") == 2
    assert "PE_FEAT_LSE," in code


def test_outputs_are_left_alone_when_equal(tmp_path: Path) -> None:
    """A second run with the same rows does not touch the files."""
    path = table(tmp_path, "one " + "0" * 31 + "1\n")
    run(tmp_path, path)
    made = (tmp_path / "pe" / "a64_decode.c").stat().st_mtime_ns
    run(tmp_path, path)
    assert (tmp_path / "pe" / "a64_decode.c").stat().st_mtime_ns == made


def test_json_has_every_row(tmp_path: Path) -> None:
    """--json lists the rows with numbers as in enum a64_op."""
    path = table(tmp_path, "one f:8 " + "0" * 23 + "1 | when f!=3 rd=w\n")
    (item,) = json.loads(run("--json", path).stdout)
    assert item["op"] == 3
    assert item["fields"] == {"f": [24, 8]}
    assert item["when"] == ["f!=3"]
    assert item["handler"] == "op_one"


def test_project_tables_are_consistent() -> None:
    """The tables of the project have no overlaps, and every feature is in pe_feature.def."""
    tables = sorted((CORE / "pe").glob("*.decode"))
    done = run("--check", *tables)
    assert done.returncode == 0, done.stderr
    features = (CORE / "pe" / "pe_feature.def").read_text()
    for item in json.loads(run("--json", *tables).stdout):
        feat = item["options"].get("feat")
        assert feat is None or f"PE_FEATURE({feat}," in features, item["where"]
