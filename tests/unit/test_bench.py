"""bench/: what it makes of numbers, and what it reads of abench's output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import abench  # noqa: E402
import devio  # noqa: E402
import operations  # noqa: E402
import plot  # noqa: E402
import programs  # noqa: E402
import results  # noqa: E402
import tools  # noqa: E402
from results import Row  # noqa: E402


def test_ratio_is_times_as_fast() -> None:
    """Half the time and twice the rate are both a ratio of 2, by the medians."""
    time_row = Row("boot", "s", ours=[1.0, 2.0, 30.0], qemu=[4.0, 4.0, 1.0])
    rate_row = Row("loop", "MIPS", True, ours=[200.0], qemu=[100.0])
    assert time_row.ratio == 2.0
    assert rate_row.ratio == 2.0
    assert Row("alone", "s", ours=[1.0]).ratio is None
    assert (time_row.best(time_row.ours), rate_row.best([1.0, 3.0])) == (1.0, 3.0)


def test_spread_is_the_larger_half_range() -> None:
    """The spread is half of what lies between the extremes, relative to the median."""
    assert Row("x", "s", ours=[9.0, 10.0, 11.0], qemu=[5.0, 10.0, 15.0]).spread() == 0.5


def test_classes_have_geometric_means() -> None:
    """A class is the geometric mean of its rows; a row without a counterpart is left out."""
    rows = [
        Row("a", "ns", cls="int", ours=[1.0], qemu=[4.0]),
        Row("b", "ns", cls="int", ours=[4.0], qemu=[4.0]),
        Row("c", "ns", cls="int", ours=[4.0]),
        Row("d", "ns", cls="fp", ours=[2.0], qemu=[1.0]),
    ]
    assert results.classes(rows) == pytest.approx({"int": 2.0, "fp": 0.5})


def test_table_and_json_hold_every_row(tmp_path: Path) -> None:
    """The table has a line a row, and the JSON file every sample."""
    rows = [Row("a", "ns", cls="int", ours=[1.0, 3.0], qemu=[4.0]), Row("b", "s", ours=[0.3])]
    lines = results.table(rows)
    assert len(lines) == 4
    assert lines[2] == "| a | ns | 2 (1) | 4 | 2.00 | 50% |  |"
    assert lines[3] == "| b | s | 0.3 | - | - | 0% |  |"
    out = tmp_path / "bench.json"
    results.write_json(str(out), {"cpu": "x"}, rows)
    data = json.loads(out.read_text())
    assert data["machine"] == {"cpu": "x"}
    assert [r["bhyvepy"] for r in data["rows"]] == [[1.0, 3.0], [0.3]]
    assert data["rows"][0]["ratio"] == 2.0


def test_facts_have_no_names() -> None:
    """The facts of the machine name neither the host nor a folder."""
    facts = results.machine()
    assert {"cpu", "memory", "linux", "python", "commit", "date", "load"} == set(facts)
    assert not any("/" in v for v in facts.values())


def test_devices_rows_fit_the_program() -> None:
    """Each row of devio.py asks devio.c for something that it does, with all its words."""
    source = (BENCH / "devio.c").read_text()
    for unit, line in devio.ROWS.values():
        word, *rest = line.split()
        assert word in source
        assert len(rest) == (3 if word in ("recv", "send") else 2)
        assert f"{unit}\\n" in source


def test_a_line_of_abench_is_read() -> None:
    """Class, name, median and checksum of a result line; anything else is an error."""
    line = abench.parse(
        "B int  crc32                 13212.201 ns/op  min 11334.383 max 14101.054"
        " n 21488 ck 000000002fa53235"
    )
    assert (line["cls"], line["name"], line["ns"]) == ("int", "crc32", "13212.201")
    assert line["ck"] == "000000002fa53235"
    with pytest.raises(abench.BenchError):
        abench.parse("Illegal instruction")


def test_programs_are_those_of_the_sources() -> None:
    """Each program has one of the four classes and a name of its own."""
    found = abench.programs()
    assert {cls for _, cls in found} >= {"int", "fp", "mem", "sys"}
    assert len(found) == len({name for name, _ in found}) > 70


def test_operations_are_those_of_the_guest() -> None:
    """Each figure that is read has its name in the kernel that prints it."""
    source = (operations.SOURCES / "micro.c").read_text()
    for name in operations.MICRO:
        assert f'("{name}", ' in source, name


def test_whole_programs_are_functions_of_the_script() -> None:
    """A shell reads the script; names are taken from it, and each is there once."""
    found = programs.programs()
    assert {"python3", "perl", "sqlite3", "gzip", "xz", "zstd", "sort", "sha256", "dash"} <= set(
        found
    )
    assert len(found) == len(set(found))
    subprocess.run(["sh", "-n", str(programs.SCRIPT)], check=True)


def test_chart_has_a_bar_for_each_row_with_a_ratio(tmp_path: Path) -> None:
    """Worst first in its class, the class's mean, and nothing for a row that has no other side."""
    run, svg = tmp_path / "run.json", tmp_path / "chart.svg"
    rows = [
        {"name": "fast", "class": "int", "ratio": 4.0},
        {"name": "slow&", "class": "int", "ratio": 0.25},
        {"name": "alone", "class": "int", "ratio": None},
    ]
    run.write_text(json.dumps({"machine": {"commit": "abc"}, "rows": rows}))
    assert plot.main([str(run), str(svg)]) == 0
    text = svg.read_text()
    assert text.count("<rect") == 3  # with the background
    assert text.index(">slow&amp;<") < text.index(">fast<")
    assert "int: 1.00" in text
    assert "alone" not in text
    assert plot.main([]) == 2


def test_a_line_of_fio_is_read() -> None:
    """Rates are fields of the terse output; an error of fio's is one here."""
    fields = ["3", "fio-3.33", "x", "0", "0", *(str(n) for n in range(6, 131))]
    assert tools.terse(";".join(fields), 7) == 7
    assert [row[1][3] for row in tools.DISK_ROWS.values()] == [7, 48, 8, 49]
    fields[4] = "5"
    with pytest.raises(tools.BenchError):
        tools.terse(";".join(fields), 7)
    with pytest.raises(tools.BenchError):
        tools.terse("3;fio-3.33;x", 7)
