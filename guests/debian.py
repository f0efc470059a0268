"""Fetch Debian's arm64 kernels and make them ready to boot: vmlinuz and initrd.gz.

    python -m bhyvepy.guests.debian fetch 6.1-cloud

Responsible for: a private apt root (its own lists, state and architecture, so the
machine's are never touched), resolving today's version, apt's own verification
of signatures and hashes, unpacking, and a cache that other processes may use at
the same time. Not responsible for what is in the initramfs (initramfs.py).

The archive, its mirror, proxy and keyrings are the machine's own: the Debian
entries of its apt sources are copied for arm64, so nothing here names a host.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from . import cpio, initramfs

EX_UNAVAILABLE = 69  # sysexits.h: this machine cannot fetch; callers may tell it from a failure

SUITE = "bookworm"
# name -> meta package that always depends on the newest kernel of its line
KERNELS: dict[str, str] = {
    "6.1-cloud": "linux-image-cloud-arm64",
    "6.12-cloud": "linux-image-6.12-cloud-arm64",
    "6.1": "linux-image-arm64",
    "6.12": "linux-image-6.12-arm64",
    "6.12-16k": "linux-image-6.12-arm64-16k",  # pages of 16 KiB
    "6.12-rt": "linux-image-6.12-rt-arm64",  # PREEMPT_RT
}
BUSYBOX = "busybox-static"


class FetchError(Exception):
    """The kernel cannot be had; the message says why and what would help."""


@dataclass(frozen=True)
class Guest:
    """A kernel that is ready to boot."""

    name: str
    release: str
    version: str
    vmlinuz: Path
    initrd: Path


def cache_dir(override: str = "") -> Path:
    """Where fetched kernels are kept."""
    if override:
        return Path(override)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "bhyvepy"


# -- apt sources ---------------------------------------------------------------


def _entries_deb822(text: str) -> Iterator[tuple[list[str], list[str], str]]:
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and key:
                fields[key] += "\n" + line.strip()
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
            uris, suites = fields.get("uris", "").split(), fields.get("suites", "").split()
            yield uris, suites, fields.get("signed-by", "")


def _entries_one_line(text: str) -> Iterator[tuple[list[str], list[str], str]]:
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s", line + " ")
        if match:
            signed = re.search(r"signed-by=(\S+)", match[1] or "")
            yield [match[2]], [match[3]], signed[1] if signed else ""


# A Debian suite by code name or by its moving name, with its pocket.
_SUITE = re.compile(
    r"^(bullseye|bookworm|trixie|forky|sid|oldoldstable|oldstable|stable|testing|unstable)"
    r"(-security|-updates|/updates)?$"
)


def debian_sources(files: Mapping[str, str]) -> str:
    """sources.list lines for arm64 from the machine's own files (name -> text).

    Only entries with a Debian suite count; each keeps its pocket (updates,
    security) and gets the release that has our kernels.
    """
    lines: dict[str, None] = {}
    for name, text in sorted(files.items()):
        parse = _entries_deb822 if name.endswith(".sources") else _entries_one_line
        for uris, suites, signed_by in parse(text):
            for suite in suites:
                match = _SUITE.match(suite)
                if not match:
                    continue
                pocket = (match[2] or "").replace("/updates", "-security")
                # An inline key (deb822) cannot go into a one-line entry; the
                # keyrings of the machine are trusted without it.
                key = f" signed-by={signed_by}" if signed_by.startswith("/") else ""
                for uri in uris:
                    lines[f"deb [arch=arm64{key}] {uri} {SUITE}{pocket} main"] = None
    return "".join(line + "\n" for line in lines)


def machine_sources() -> str:
    """What debian_sources() makes of this machine."""
    files: dict[str, str] = {}
    main = Path("/etc/apt/sources.list")
    parts = Path("/etc/apt/sources.list.d")
    for path in [main, *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]:
        with contextlib.suppress(OSError):
            files[str(path)] = path.read_text(errors="replace")
    return debian_sources(files)


# -- private apt root ------------------------------------------------------------


class PrivateApt:
    """apt with a root of its own; nothing of the machine's is written."""

    def __init__(self, root: Path, sources: str) -> None:
        self.root = root
        for sub in ("lists/partial", "cache/archives/partial", "parts", "debs"):
            (root / sub).mkdir(parents=True, exist_ok=True)
        (root / "status").touch()
        (root / "sources.list").write_text(sources)
        # The machine's transport settings (proxy, time limits) count; its hooks do not.
        keep = [
            line
            for line in self._run(["apt-config", "dump"]).splitlines()
            if line.startswith("Acquire::") and "::IndexTargets" not in line
        ]
        settings = {
            "APT::Architecture": "arm64",
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::AllowWeakRepositories": "false",
            "Acquire::Retries": "3",
            "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": f"{root}/parts",
            "Dir::Etc::sourcelist": f"{root}/sources.list",
            "Dir::Etc::sourceparts": f"{root}/parts",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": f"{root}/parts",
            "Dir::State": str(root),
            "Dir::State::lists": f"{root}/lists",
            "Dir::State::status": f"{root}/status",
            "Dir::State::extended_states": f"{root}/extended_states",
            "Dir::Cache": f"{root}/cache",
            "Dir::Log": f"{root}",
        }
        text = "".join(line + "\n" for line in keep)
        text += 'APT::Architectures { "arm64"; };\nAcquire::Languages { "none"; };\n'
        text += "".join(f'{key} "{value}";\n' for key, value in settings.items())
        (root / "apt.conf").write_text(text)
        self.env = dict(os.environ, APT_CONFIG=str(root / "apt.conf"), LC_ALL="C.UTF-8")

    def _run(
        self, argv: list[str], env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> str:
        try:
            done = subprocess.run(
                argv, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=900
            )
        except FileNotFoundError:
            raise FetchError(f"{argv[0]} is missing: fetching needs Debian's apt") from None
        except subprocess.TimeoutExpired:
            raise FetchError(f"{argv[0]} took over 15 minutes: is the network up?") from None
        if done.returncode != 0:
            why = [ln for ln in done.stderr.splitlines() if ln.startswith(("E:", "W:"))]
            raise FetchError(f"{' '.join(argv[:2])} failed: {(why or ['no reason given'])[0]}")
        return done.stdout

    def update(self) -> None:
        """Fetch and verify the package lists. Any failed list is an error."""
        self._run(["apt-get", "-q", "--error-on=any", "update"], self.env)

    def resolve(self, meta: str) -> str:
        """The package that a meta package stands for today."""
        out = self._run(["apt-cache", "depends", "--important", meta], self.env)
        match = re.search(r"Depends: (linux-image-\S+)", out)
        if not match:
            raise FetchError(f"{meta} is not in this machine's Debian sources ({SUITE}, arm64)")
        return match[1]

    def version(self, package: str) -> str:
        """The candidate version of a package."""
        policy = self._run(["apt-cache", "policy", package], self.env)
        match = re.search(r"Candidate: (\S+)", policy)
        if not match or match[1] == "(none)":
            raise FetchError(f"{package} is not in this machine's Debian sources ({SUITE}, arm64)")
        return match[1]

    def download(self, package: str) -> Path:
        """Fetch one package; apt checks it against the signed lists."""
        into = Path(tempfile.mkdtemp(dir=self.root / "debs"))
        self._run(["apt-get", "-q", "download", package], self.env, into)
        debs = list(into.glob("*.deb"))
        if len(debs) != 1:
            raise FetchError(f"apt-get download {package} brought {len(debs)} files")
        return debs[0]

    def download_with_dependencies(self, packages: list[str]) -> list[Path]:
        """Fetch packages and all that they depend on; the system they go to is empty."""
        for package in packages:
            self.version(package)
        argv = ["apt-get", "-q", "-y", "--no-install-recommends", "--download-only", "install"]
        self._run([*argv, *packages], self.env)
        return sorted((self.root / "cache" / "archives").glob("*.deb"))


def _unpack(deb: Path, choose: Mapping[str, str], modules: bool, into: Path) -> None:
    """Take chosen files (path -> new name) and, if asked, wanted modules out of a .deb."""
    argv = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE) as proc,
        tarfile.open(fileobj=proc.stdout, mode="r|") as tar,
    ):
        for member in tar:
            if not member.isfile():
                continue
            name = member.name.removeprefix("./")
            target: Path | None = None
            for path, new in choose.items():
                if name == path:
                    target = into / new
            if modules and initramfs.module_name(name):
                target = into / "modules" / name.rpartition("/")[2]
            source = tar.extractfile(member) if target else None
            if target and source:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read())
    if proc.returncode != 0:
        raise FetchError(f"dpkg-deb cannot read {deb.name}")


# -- the cache -------------------------------------------------------------------


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """The cache belongs to the caller."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        fd = os.open(cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        why = f"cannot use the cache {cache}: {err.strerror}; --cache names another"
        raise FetchError(why) from err
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _publish(temp: Path, final: Path) -> None:
    """Rename a finished directory into place; a reader sees all of it or nothing."""
    shutil.rmtree(final, ignore_errors=True)
    temp.rename(final)


def _prune_modules(folder: Path) -> None:
    """Keep only what the initramfs wants; a kernel package has thousands."""
    paths = {initramfs.module_name(p.name): p for p in folder.iterdir()}
    keep: set[str] = set()
    todo = [name for name in initramfs.WANTED if name in paths]
    while todo:
        name = todo.pop()
        if name in keep:
            continue
        keep.add(name)
        path = paths[name]
        module = initramfs.Module(path.name, path.read_bytes())
        todo += [dep for dep in (*module.depends, *module.softdeps) if dep in paths]
    for found, path in paths.items():
        if found not in keep:
            path.unlink()


def _download(name: str, cache: Path, sources: str) -> None:
    for stale in (*cache.glob("apt-*"), *cache.glob(".*-*")):
        shutil.rmtree(stale, ignore_errors=True)  # of a fetch that was killed; we hold the lock
    with tempfile.TemporaryDirectory(prefix="apt-", dir=cache) as scratch:
        apt = PrivateApt(Path(scratch), sources)
        apt.update()
        package = apt.resolve(KERNELS[name])
        release = package.removeprefix("linux-image-")
        manifest = {
            "name": name,
            "package": package,
            "release": release,
            "version": apt.version(package),
            "busybox": apt.version(BUSYBOX),
        }
        final = cache / name
        if _manifest(final) == manifest:
            return
        temp = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
        try:
            boot = {f"boot/vmlinuz-{release}": "vmlinuz", f"boot/config-{release}": "config"}
            _unpack(apt.download(package), boot, True, temp)
            _unpack(apt.download(BUSYBOX), {"bin/busybox": "busybox"}, False, temp)
            for needed in ("vmlinuz", "busybox", "modules"):
                if not (temp / needed).exists():
                    raise FetchError(f"{package} has no {needed}: its layout has changed")
            _prune_modules(temp / "modules")
            (temp / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
            temp.chmod(0o755)
            _publish(temp, final)
        except BaseException:
            shutil.rmtree(temp, ignore_errors=True)
            raise


def _manifest(folder: Path) -> dict[str, str] | None:
    try:
        data = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _initrd(folder: Path, release: str) -> Path:
    """The initramfs for what is in the cache; rebuilt when the recipe has changed."""
    recipe = hashlib.sha256()
    for source in (initramfs.__file__, cpio.__file__):
        recipe.update(Path(source).read_bytes())
    stamp = folder / "initrd.recipe"
    initrd = folder / "initrd.gz"
    with contextlib.suppress(OSError):
        if initrd.exists() and stamp.read_text() == recipe.hexdigest():
            return initrd
    modules = {}
    for path in sorted((folder / "modules").iterdir()):
        module = initramfs.Module(path.name, path.read_bytes())
        modules[module.name] = module
    data = initramfs.build(release, (folder / "busybox").read_bytes(), modules)
    temp = folder / f".initrd.{os.getpid()}"
    temp.write_bytes(data)
    temp.rename(initrd)
    stamp.write_text(recipe.hexdigest())
    return initrd


def build_initrd(guest: Guest, extra: Mapping[str, bytes]) -> bytes:
    """An initramfs like the cached one with more files in it ("/cmds.sh" runs at boot)."""
    folder = guest.vmlinuz.parent
    found = [initramfs.Module(p.name, p.read_bytes()) for p in (folder / "modules").iterdir()]
    busybox = (folder / "busybox").read_bytes()
    return initramfs.build(guest.release, busybox, {m.name: m for m in found}, extra)


def fetch(name: str, cache: Path | None = None, refresh: bool = False, sources: str = "") -> Guest:
    """The named kernel from the cache, fetched first when it is not there."""
    if name not in KERNELS:
        raise FetchError(f"unknown kernel {name}: one of {', '.join(KERNELS)}")
    cache = cache or cache_dir()
    folder = cache / name
    with locked(cache):
        manifest = _manifest(folder)
        if manifest is None or refresh:
            sources = sources or machine_sources()
            if not sources:
                raise FetchError(
                    "this machine's apt sources name no Debian archive; --sources FILE gives them"
                )
            _download(name, cache, sources)
            manifest = _manifest(folder)
        if manifest is None:
            raise FetchError(f"the cache {folder} is damaged: remove it and fetch again")
        initrd = _initrd(folder, manifest["release"])
    return Guest(name, manifest["release"], manifest["version"], folder / "vmlinuz", initrd)


# -- command line ----------------------------------------------------------------

app = typer.Typer(add_completion=False, help=(__doc__ or "").partition("\n")[0])


@app.callback()
def _main() -> None:
    pass


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="one of " + ", ".join(KERNELS))],
    cache: Annotated[str, typer.Option(help="cache directory")] = "",
    refresh: Annotated[bool, typer.Option(help="look for a newer version")] = False,
    sources: Annotated[str, typer.Option(help="a sources.list to use")] = "",
    add: Annotated[list[str] | None, typer.Option(help="GUESTPATH=FILE into a new initrd")] = None,
    output: Annotated[str, typer.Option("-o", help="where that initrd goes")] = "",
) -> None:
    """Fetch a kernel and print the paths of vmlinuz and initrd.gz."""
    try:
        text = Path(sources).read_text() if sources else ""
        guest = fetch(name, cache_dir(cache), refresh, text)
        if add:
            pairs = [item.partition("=") for item in add]
            extra = {inside: Path(file).read_bytes() for inside, _, file in pairs}
            if not output:
                raise FetchError("--add needs -o FILE for the new initrd")
            Path(output).write_bytes(build_initrd(guest, extra))
    except FetchError as err:
        print(f"guests: {err}", file=sys.stderr)
        raise typer.Exit(EX_UNAVAILABLE) from None
    except OSError as err:
        print(f"guests: {err.filename}: {err.strerror}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(guest.vmlinuz)
    print(output or guest.initrd)


if __name__ == "__main__":
    app()
