"""The manual pages: clean for mandoc, and true to the commands and to vmmapi.py."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "man"
PAGES = sorted(MAN.glob("*.[358]"))
COMMANDS = ("bhyve", "bhyvectl", "bhyveload")


def _documented(page: Path) -> set[str]:
    """Options that head an item of a list."""
    out = set()
    for line in page.read_text().splitlines():
        if line.startswith(".It Fl "):
            out |= {"-" + name for name in re.findall(r"Fl (\S+)", line)}
    return out


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.name))
def test_pages_are_clean(page: Path) -> None:
    """mandoc has no warning about a page."""
    cmd = ["mandoc", "-T", "lint", "-W", "warning", str(page)]
    done = subprocess.run(cmd, capture_output=True, text=True, check=False)
    assert "" == done.stdout + done.stderr
    assert 0 == done.returncode


def test_there_is_a_page_for_everything() -> None:
    """The commands, the configuration and the Python API have a page each."""
    want = {f"{name}.8" for name in COMMANDS} | {"bhyve_config.5", "vmmapi.3"}
    assert want == {page.name for page in PAGES}


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_those_of_the_command(name: str) -> None:
    """A page has every option that --help shows, and no other."""
    module = importlib.import_module(f"bhyvepy.cli.{name}")
    shown = {"-h", "--help"}
    for param in get_command(module.app).params:
        if getattr(param, "hidden", False) or "argument" == param.param_type_name:
            continue
        shown |= {o for o in param.opts if o.startswith("-")}
    assert shown == _documented(MAN / f"{name}.8")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_what_typer_knows(name: str) -> None:
    """--help prints each documented option (the comparison above is about typer's own list)."""
    module = importlib.import_module(f"bhyvepy.cli.{name}")
    command = get_command(module.app)
    text = command.get_help(command.make_context(name, [], resilient_parsing=True))
    for option in _documented(MAN / f"{name}.8"):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), option


def _read_keys() -> set[str]:
    """Variables that the sources read from the configuration; N stands for a number."""
    found = set()
    read = r'config\.(?:get|text|boolean|number|size|under)\(\s*f?"([^"]+)"'
    used = r'"([a-z][\w.]*)" in config'
    for path in [*(ROOT / "bhyvepy").glob("*.py"), *(ROOT / "bhyvepy/cli").glob("*.py")]:
        text = path.read_text()
        found |= set(re.findall(read, text)) | set(re.findall(used, text))
    return {re.sub(r"\{\w+\}", "N", key) for key in found}


def _page_keys() -> set[str]:
    """Variables that bhyve_config(5) describes."""
    keys = set()
    for line in re.findall(r"^\.It Va (.*)$", (MAN / "bhyve_config.5").read_text(), re.MULTILINE):
        words = line.split(" Pq ")[0].split()
        text = "".join(w for w in words if w not in ("Va", "Ar", "Ns"))
        keys |= set(text.split(","))
    return keys


def test_variables_are_those_that_are_read() -> None:
    """bhyve_config(5) has every variable that the programs read."""
    page = _page_keys()
    for key in _read_keys():
        assert key in page or any(k.startswith(key + ".") for k in page), key


def test_the_api_page_names_the_api() -> None:
    """vmmapi(3) has every public function and method of bhyvepy.vmmapi, and no other."""
    page = (MAN / "vmmapi.3").read_text()
    named = {n.split(".")[-1] for n in re.findall(r"Fn (\S+)", page)}
    public: set[str] = set()
    sources = [
        ROOT / "bhyvepy" / name for name in ("vmmapi.py", "coreinfo.py", "vmlist.py", "vmmdir.py")
    ]
    for node in [n for path in sources for n in ast.parse(path.read_text()).body]:
        if isinstance(node, ast.FunctionDef):
            public.add(node.name)
        elif isinstance(node, ast.ClassDef) and node.name in ("VM", "VCPU"):
            public |= {
                f.name
                for f in node.body
                if isinstance(f, ast.FunctionDef)
                and not any(
                    isinstance(d, ast.Name) and d.id == "property" for d in f.decorator_list
                )
            }
    public = {n for n in public if not n.startswith("_")}
    named -= {n for n in named if n.startswith(("vm_", "vcpu_"))} - public  # libvmmapi.py
    assert set() == public - named
    assert set() == named - public - {"read", "write", "view", "contains", "vm"}
