"""Fixtures of the end-to-end tests, and the lines at the end of their run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bhyvepy.guests import debian, packages

from .bad_files import write as write_bad_files
from .framework import Vmm
from .zygote import Zygote

OFFLINE = "OFFLINE=1"
_figures: list[str] = []


@pytest.fixture(scope="session")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """The process that commands are forked from."""
    it = Zygote(Vmm.environment(), tmp_path_factory.mktemp("zygote"))
    yield it
    it.close()


@pytest.fixture
def vmm(monkeypatch: pytest.MonkeyPatch, parent: Zygote) -> Iterator[Vmm]:
    """The commands over an empty VM directory, which is this process's too."""
    it = Vmm(zygote=parent)
    monkeypatch.setenv("BHYVEPY_VMMDIR", str(it.dir))
    parent.env = {"BHYVEPY_VMMDIR": str(it.dir)}
    try:
        yield it
    finally:
        parent.end_all()
        it.close()


@pytest.fixture
def zygote(vmm: Vmm, parent: Zygote) -> Zygote:
    """The commands over the same VM directory, started by fork."""
    return parent


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of files that must be refused."""
    folder = tmp_path_factory.mktemp("bad")
    write_bad_files(folder)
    return folder


@pytest.fixture
def figure() -> Callable[[str], None]:
    """A measured value, shown at the end of the run."""
    return _figures.append


def fetch(name: str) -> debian.Guest:
    """A Debian kernel from the cache, or fetched; only OFFLINE=1 may skip."""
    try:
        return debian.fetch(name)
    except debian.FetchError as err:
        if os.environ.get("OFFLINE") == "1":
            pytest.skip(f"{OFFLINE} and {name} is not cached: {err}")
        raise


@pytest.fixture(params=["6.1-cloud", "6.12-cloud"])
def debian_kernel(request: pytest.FixtureRequest) -> debian.Guest:
    """Both of Debian's kernels."""
    return fetch(request.param)


@pytest.fixture
def debian_61() -> debian.Guest:
    """One of them, for what does not depend on the kernel."""
    return fetch("6.1-cloud")


@pytest.fixture
def stress_initrd(debian_61: debian.Guest, tmp_path: Path) -> Path:
    """Debian's stress-ng behind the kernel's initrd."""
    try:
        more = packages.archive("stress-ng")
    except debian.FetchError as err:
        if os.environ.get("OFFLINE") == "1":
            pytest.skip(f"{OFFLINE} and stress-ng is not cached: {err}")
        raise
    path = tmp_path / "initrd.gz"
    path.write_bytes(debian_61.initrd.read_bytes() + more)
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures, and how many tests OFFLINE=1 skipped."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if OFFLINE in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{OFFLINE}: {len(skipped)} tests skipped", yellow=True)
    if _figures:
        terminalreporter.section("figures of the end-to-end tests")
        for line in _figures:
            terminalreporter.write_line(line)
