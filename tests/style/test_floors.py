"""Floors: nothing imports or includes what is above it (docs/architecture.md, section 1)."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "vmmcore"

# Module -> floor. A package's floor is that of its files.
PYTHON = {
    "errors": 0,
    "membarrier": 0,
    "layout": 0,
    "vmexit": 0,
    "config": 1,
    "_vmmcore": 1,
    "mem": 2,
    "slirp": 2,
    "virtq": 2,
    "wire": 2,
    "coreinfo": 2,
    "vmlist": 3,
    "vmmapi": 3,
    "vgic": 3,
    "libvmmapi": 3,
    "vmmdir": 3,
    "session": 7,
    "cpu": 4,
    "devices": 4,
    "devtree": 4,
    "boot": 5,
    "machdep": 6,
    "gdb": 5,
    "bhyverun": 6,
    "loadvm": 6,
    "startup": 7,
    "guests": 7,
    "cli": 8,
}
# Only these may use the extension.
CORE_USERS = {"coreinfo", "vmlist", "vmmapi", "mem", "slirp", "vgic", "virtq", "wire"}
# Devices see guest memory through a protocol, never the VM.
DEVICE_MAY = {"errors", "membarrier", "layout", "config", "slirp", "virtq", "devices"}

C_FLOORS = {"sys": 0, "net": 0, "virtio": 0, "pe": 1, "vmm": 2}
# What a hypervisor may know about the silicon.
PE_API = {"pe/pe.h", "pe/pe_counter.def", "pe/pe_feature.def", "pe/a64_ops.h"}


def _python_files() -> list[tuple[str, Path]]:
    out = []
    for path in sorted((ROOT / "bhyvepy").glob("*.py")):
        out.append((path.stem, path))
    for folder, where in (
        ("cli", ROOT / "bhyvepy/cli"),
        ("boot", ROOT / "bhyvepy/boot"),
        ("gdb", ROOT / "bhyvepy/gdb"),
        ("devices", ROOT / "devices"),
        ("guests", ROOT / "guests"),
    ):
        out += [(folder, path) for path in sorted(where.rglob("*.py"))]
    return [(m, p) for m, p in out if m != "__init__" and "__pycache__" not in p.parts]


def _imports(path: Path) -> set[str]:
    """Modules of bhyvepy that a file imports, by their first name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            parts = node.module.split(".")
            if parts[0] == "bhyvepy":
                found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "bhyvepy" and len(parts) > 1:
                    found.add(parts[1])
    return found - {"__version__"}


@pytest.mark.parametrize(
    ("module", "path"), _python_files(), ids=lambda v: str(getattr(v, "name", v))
)
def test_python_imports_go_down(module: str, path: Path) -> None:
    """A Python file imports only modules of its own floor or below."""
    assert module in PYTHON, f"{module}: give it a floor in this test and in architecture.md"
    for name in _imports(path):
        assert name in PYTHON, f"{path.name} imports the unknown {name}"
        assert PYTHON[name] <= PYTHON[module], f"{path.name} imports {name}, which is above it"
        if name == "_vmmcore":
            assert module in CORE_USERS, f"{path.name} imports the extension"
        if module == "devices":
            assert name in DEVICE_MAY, f"a device imports {name}"


def _c_files() -> list[Path]:
    return sorted(
        p
        for p in CORE.rglob("*")
        if p.suffix in (".c", ".h", ".inc", ".def") and p.parent != CORE / "tools"
    )


@pytest.mark.parametrize("path", _c_files(), ids=lambda p: str(p.relative_to(CORE)))
def test_c_includes_go_down(path: Path) -> None:
    """A C file includes only headers of its own floor or below; vmm sees pe/pe.h only."""
    folder = path.relative_to(CORE).parts[0]
    includes = re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE)
    for name in includes:
        first = name.split("/")[0] if "/" in name else folder
        if name == "vmm.h" or first == "include":
            assert folder in ("vmm", "include"), f"{path.name} includes the API from below"
            continue
        if folder == "include":
            pytest.fail(f"{path.name} stands alone, but includes {name}")
        if first in C_FLOORS:
            assert C_FLOORS[first] <= C_FLOORS[folder], f"{path.name} includes {name}"
        if name.startswith("pe/jit/") and path.parent.name != "jit":
            assert name == "pe/jit/jit.h", f"{path.name} reaches into the translator: {name}"
        if folder == "vmm" and first == "pe":
            assert name in PE_API, f"{path.name} reaches into the PE: {name}"


def _headers() -> list[Path]:
    return sorted(p for p in CORE.rglob("*.h"))


@pytest.fixture(scope="session")
def gen_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the generated headers."""
    out = tmp_path_factory.mktemp("gen")
    (out / "pe").mkdir()
    tables = [CORE / "pe" / f"a64{x}.decode" for x in ("", "_simd", "_fp")]
    tables = [t for t in tables if t.exists()]
    gen = CORE / "tools/gen_decode.py"
    subprocess.run(["python3", gen, out, *tables], check=True, capture_output=True)
    return out


@pytest.mark.parametrize("path", _headers(), ids=lambda p: str(p.relative_to(CORE)))
def test_headers_compile_alone(path: Path, gen_dir: Path) -> None:
    """Every header compiles by itself, warnings being errors."""
    cmd = ["gcc", "-std=c11", "-fsyntax-only", "-x", "c", "-D_GNU_SOURCE", "-Wall", "-Wextra"]
    cmd += ["-Werror", "-Wno-unused-function", "-Wno-unused-const-variable"]
    cmd += [f"-I{CORE}", f"-I{CORE}/include", f"-I{gen_dir}", "-include", str(path), "/dev/null"]
    done = subprocess.run(cmd, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
