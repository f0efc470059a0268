"""The value of -o cpu=, over the fake core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def cpu(core: Any) -> Any:
    """The module, over a core with the features lse, pauth, pauth-qarma5 and bti."""
    return core.load("cpu")


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("default", 1),
        ("max", 11),
        ("old", 0),
        ("default,-lse", 0),
        ("old,+lse,+pauth", 3),
        ("max,-pauth,+pauth-qarma5", 13),
        ("max,-bti,+bti", 11),
    ],
)
def test_models_and_switches(cpu: Any, text: str, features: int) -> None:
    """A model, then features switched on and off from left to right."""
    assert cpu.parse_cpu(text) == features


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "old, default, max"),
        ("cortex-z9", "old, default, max"),
        ("+lse", "old, default, max"),
        ("max,", "bti, lse, pauth, pauth-qarma5"),
        ("max,lse", "bti, lse, pauth, pauth-qarma5"),
        ("max,+LSE", "bti, lse, pauth, pauth-qarma5"),
        ("max,+sve", "bti, lse, pauth, pauth-qarma5"),
    ],
)
def test_bad_values_name_what_there_is(cpu: Any, text: str, says: str) -> None:
    """A value that means nothing is refused, and the known names are listed."""
    errors = cpu.ConfigError
    with pytest.raises(errors, match=says):
        cpu.parse_cpu(text)


def test_describe(cpu: Any) -> None:
    """A set is told as the nearest model and the difference."""
    for text in ("default", "max", "old", "default,+pauth", "default,+pauth-qarma5"):
        assert cpu.describe(cpu.parse_cpu(text)) == text
    assert cpu.describe(cpu.parse_cpu("max,-bti")) == "default,+pauth"


def test_kept_with_the_vm(core: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """bhyveload makes the VM with the set; bhyve with another is one line and status 4."""
    image = tmp_path / "flat"
    image.write_bytes(bytes(4096))
    load, run = core.load("cli.bhyveload").run, core.load("cli.bhyve").run
    flat = ["-k", str(image), "-l", "0x80000000", "-m", "64M"]
    assert load([*flat, "-o", "cpu=max,-bti", "a"]) == 0
    assert core.vm("a").features == 3
    assert run(["-o", "cpu=default", "a"]) == 4
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "cpu=default,+pauth;" in err
    assert load([*flat, "-o", "cpu=none", "b"]) == 1
    assert "not a model" in capsys.readouterr().err
