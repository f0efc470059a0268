"""The recipes for real kernels: archive, modules, initramfs, apt sources, cache."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bhyvepy.guests import cpio, debian, initramfs, modules, packages, rootfs, userland

from .bootlib import elf

# -- cpio ------------------------------------------------------------------------


def test_an_archive_that_cpio_reads(tmp_path: Path) -> None:
    """Names, kinds, modes, targets and contents come out as they went in."""
    archive = cpio.Cpio()
    archive.file("a/b/c.txt", b"hello", 0o640)
    archive.symlink("a/link", "b/c.txt")
    archive.chardev("dev/console", 5, 1)
    archive.directory("a/b")
    raw = archive.getvalue()
    assert len(raw) % 512 == 0
    names = [line.split() for line in read_newc(raw)]
    assert [n[0] for n in names] == ["a", "a/b", "a/b/c.txt", "a/link", "dev", "dev/console"]
    assert names[2] == ["a/b/c.txt", "100640", "hello"]
    assert names[3] == ["a/link", "120777", "b/c.txt"]
    assert names[5] == ["dev/console", "020600", "5,1"]


def read_newc(raw: bytes) -> list[str]:
    """A reader written from the format's description: name, mode, contents or device."""
    out = []
    at = 0
    while True:
        assert raw[at : at + 6] == b"070701"
        assert at % 4 == 0
        field = [int(raw[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = raw[at + 110 : at + 110 + field[11] - 1].decode()
        at = (at + 110 + field[11] + 3) & ~3
        data = raw[at : at + field[6]].decode()
        at = (at + field[6] + 3) & ~3
        if name == "TRAILER!!!":
            return out
        if field[1] >> 12 == 2:
            data = f"{field[9]},{field[10]}"
        out.append(f"{name} {field[1]:06o} {data}")


def test_the_same_archive_twice_is_the_same_bytes() -> None:
    """Nothing of the machine or the clock gets into an archive."""

    def make() -> bytes:
        archive = cpio.Cpio()
        archive.file("init", b"x", 0o755)
        return archive.getvalue()

    assert make() == make()


@pytest.mark.parametrize("path", ["", "/", "a/../b", "a\0b"])
def test_bad_paths_are_refused(path: str) -> None:
    """A path that leaves the archive, or is none, is an error."""
    with pytest.raises(ValueError, match="bad path"):
        cpio.Cpio().file(path, b"")


def test_a_file_twice_is_refused() -> None:
    """The same file twice would be unpacked twice."""
    archive = cpio.Cpio()
    archive.file("a", b"")
    with pytest.raises(ValueError, match="already"):
        archive.file("/a", b"")


# -- modules ---------------------------------------------------------------------


def module(name: str, info: str, xz: bool = False) -> initramfs.Module:
    """A kernel module with nothing but a .modinfo section."""
    data = info.replace(" ; ", "\0").encode() + b"\0"
    names = b"\0.modinfo\0.shstrtab\0"
    raw = bytearray(elf([], 0, data + names, kind=1))
    shoff = len(raw) + -len(raw) % 8
    raw += bytes(shoff - len(raw))
    raw[40:48] = shoff.to_bytes(8, "little")
    raw[58:64] = b"".join(n.to_bytes(2, "little") for n in (64, 3, 2))

    def section(name_at: int, kind: int, offset: int, size: int) -> bytes:
        numbers = [0, 0, offset, size]
        head = name_at.to_bytes(4, "little") + kind.to_bytes(4, "little")
        return head + b"".join(n.to_bytes(8, "little") for n in numbers) + bytes(24)

    raw += bytes(64) + section(1, 1, 0x1000, len(data))
    raw += section(10, 3, 0x1000 + len(data), len(names))
    if xz:
        return initramfs.Module(name + ".ko.xz", lzma.compress(bytes(raw)))
    return initramfs.Module(name + ".ko", bytes(raw))


def test_modinfo_is_read() -> None:
    """Dependencies, soft dependencies and aliases come from .modinfo; dashes are underscores."""
    found = module(
        "virtio-rng",
        "depends=virtio,virtio-ring ; softdep=pre: crc32c ; alias=virtio:d4v*",
        xz=True,
    )
    assert (found.name, found.filename) == ("virtio_rng", "virtio-rng.ko")
    assert found.depends == ["virtio", "virtio_ring"]
    assert found.softdeps == ["crc32c"]
    assert found.aliases == ["virtio:d4v*"]
    assert found.data[:4] == b"\x7fELF"


def test_dependencies_come_first() -> None:
    """The order is one in which insmod works; what the kernel lacks is passed over."""
    modules = {
        m.name: m
        for m in (
            module("c", "depends=b,a"),
            module("b", "depends=a"),
            module("a", "depends="),
            module("other", "depends="),
        )
    }
    assert [m.name for m in initramfs.order(modules, ["c", "builtin"])] == ["a", "b", "c"]


def test_a_dependency_loop_is_an_error() -> None:
    """Modules that depend on each other cannot be ordered."""
    modules = {m.name: m for m in (module("a", "depends=b"), module("b", "depends=a"))}
    with pytest.raises(ValueError, match="a -> b -> a"):
        initramfs.order(modules, ["a"])


def test_the_initramfs_has_what_a_boot_needs() -> None:
    """init, busybox, console, modules and modprobe's tables, and extra files."""
    modules = {
        m.name: m
        for m in (
            module("virtio_blk", "depends=virtio ; alias=virtio:d00000002v*"),
            module("virtio", "depends=virtio_ring"),
            module("virtio_ring", "depends="),
            module("unwanted", "depends="),
        )
    }
    raw = initramfs.build("6.1.0-x", b"BUSYBOX", modules, {"/cmds.sh": b"true"})
    text = gzip.decompress(raw)
    assert b"unwanted" not in text
    base = "lib/modules/6.1.0-x"
    entries = entries_of(text)
    assert entries["bin/busybox"] == b"BUSYBOX"
    assert entries["bin/sh"] == b"busybox"
    assert entries["cmds.sh"] == b"true"
    assert initramfs.MARKER.encode() in entries["init"]
    assert b"setsid cttyhack sh" in entries["init"]
    assert entries[f"{base}/modules.dep"].decode().splitlines() == [
        "virtio_ring.ko:",
        "virtio.ko: virtio_ring.ko",
        "virtio_blk.ko: virtio.ko virtio_ring.ko",
    ]
    assert entries[f"{base}/modules.alias"] == b"alias virtio:d00000002v* virtio_blk\n"
    assert "dev/console" in entries
    assert raw == initramfs.build("6.1.0-x", b"BUSYBOX", modules, {"/cmds.sh": b"true"})


def entries_of(raw: bytes) -> dict[str, bytes]:
    """Name -> data of a newc archive."""
    out: dict[str, bytes] = {}
    at = 0
    while True:
        size, name_size = int(raw[at + 54 : at + 62], 16), int(raw[at + 94 : at + 102], 16)
        name = raw[at + 110 : at + 110 + name_size - 1].decode()
        at = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return out
        out[name] = raw[at : at + size]
        at = (at + size + 3) & ~3


@pytest.mark.parametrize("script", [rootfs.ENTER, rootfs.INSTALL, userland.ENTER, userland.MOUNT])
def test_what_guests_run_is_shell(script: str) -> None:
    """A shell reads the scripts without complaint."""
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_init_is_a_shell_script() -> None:
    """The script parses."""
    subprocess.run(["sh", "-n"], input=initramfs.INIT.encode(), check=True)


# -- apt sources -------------------------------------------------------------------


def test_sources_of_both_forms_become_arm64_lines() -> None:
    """deb822 and one-line entries with a Debian suite are copied; other vendors' are not."""
    files = {
        "/etc/apt/sources.list": "# comment\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror/main stable main contrib\n"
        "deb-src http://mirror/main stable main\n"
        "deb http://vendor/apt vendor-stable main\n",
        "/etc/apt/sources.list.d/debian.sources": "Types: deb\n# note\nURIs: http://mirror/sec\n"
        "Suites: trixie-security\nComponents: main\nSigned-By: /keys.gpg\n\n"
        "Types: deb\nEnabled: no\nURIs: http://off\nSuites: bookworm\n\n"
        "Types: deb deb-src\nURIs: http://a http://b\nSuites: bookworm bookworm-updates\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n",
    }
    assert debian.debian_sources(files).splitlines() == [
        "deb [arch=arm64 signed-by=/k.gpg] http://mirror/main bookworm main",
        "deb [arch=arm64 signed-by=/keys.gpg] http://mirror/sec bookworm-security main",
        "deb [arch=arm64] http://a bookworm main",
        "deb [arch=arm64] http://b bookworm main",
        "deb [arch=arm64] http://a bookworm-updates main",
        "deb [arch=arm64] http://b bookworm-updates main",
    ]


def test_a_machine_without_debian_sources_gives_none() -> None:
    """No Debian entry, no lines: the caller says so."""
    assert debian.debian_sources({"x.list": "deb http://archive/ubuntu noble main\n"}) == ""


# -- cache and command -----------------------------------------------------------------


def fetch(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bhyvepy.guests.debian", "fetch", *args],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


def fill(cache: Path) -> Path:
    """A cache as a fetch leaves it, with made-up contents."""
    folder = cache / "6.1-cloud"
    (folder / "modules").mkdir(parents=True)
    (folder / "modules/virtio_mmio.ko").write_bytes(module("virtio_mmio", "depends=").data)
    (folder / "vmlinuz").write_bytes(b"kernel")
    (folder / "busybox").write_bytes(b"busybox")
    (folder / "manifest.json").write_text(json.dumps({"release": "6.1.0-x", "version": "1"}))
    return folder


def test_what_is_cached_is_not_fetched(tmp_path: Path) -> None:
    """With a filled cache the command needs no network, and builds the initrd."""
    folder = fill(tmp_path / "bhyvepy")
    done = fetch("6.1-cloud", "--sources", "/nonexistent", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 1
    done = fetch("6.1-cloud", XDG_CACHE_HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [str(folder / "vmlinuz"), str(folder / "initrd.gz")]
    first = (folder / "initrd.gz").stat()
    assert fetch("6.1-cloud", XDG_CACHE_HOME=str(tmp_path)).returncode == 0
    assert (folder / "initrd.gz").stat().st_ino == first.st_ino
    (folder / "initrd.recipe").write_text("an older recipe")
    assert fetch("6.1-cloud", XDG_CACHE_HOME=str(tmp_path)).returncode == 0
    assert (folder / "initrd.gz").stat().st_ino != first.st_ino


def test_commands_can_be_added(tmp_path: Path) -> None:
    """--add puts files into an initrd of its own and leaves the cached one alone."""
    fill(tmp_path / "bhyvepy")
    script = tmp_path / "s"
    script.write_text("uname -a\n")
    out = tmp_path / "my.gz"
    done = fetch(
        "6.1-cloud", "--add", f"/cmds.sh={script}", "-o", str(out), XDG_CACHE_HOME=str(tmp_path)
    )
    assert done.returncode == 0
    assert entries_of(gzip.decompress(out.read_bytes()))["cmds.sh"] == b"uname -a\n"


def test_a_machine_that_cannot_fetch_says_so(tmp_path: Path) -> None:
    """Nothing to fetch from: one line, exit status 69, nothing left behind but the lock,
    not even by an earlier fetch that was killed."""
    nowhere = tmp_path / "sources.list"
    nowhere.write_text(f"deb [trusted=no] file:{tmp_path}/none bookworm main\n")
    for stale in ("apt-killed/lists", ".6.1-cloud-killed"):
        (tmp_path / "c" / stale).mkdir(parents=True)
    done = fetch("6.1-cloud", "--sources", str(nowhere), "--cache", str(tmp_path / "c"))
    assert done.returncode == debian.EX_UNAVAILABLE
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("guests: ")
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["lock"]


def test_an_unknown_kernel_names_the_known_ones(tmp_path: Path) -> None:
    """A typing error is answered with the list."""
    done = fetch("5.4", "--cache", str(tmp_path))
    assert done.returncode == debian.EX_UNAVAILABLE
    assert "6.1-cloud" in done.stderr


def test_the_package_is_not_top_level() -> None:
    """guests/ at the top of the tree refuses to be imported under that name."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", "import guests"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "import bhyvepy.guests" in done.stderr


# -- packages --------------------------------------------------------------------


def deb(tmp_path: Path, name: str, files: dict[str, str], links: dict[str, str]) -> Path:
    """A package made by dpkg-deb."""
    tree = tmp_path / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: arm64\nMaintainer: a\nDescription: b\n"
    )
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(0o755)
    for path, target in links.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(target)
    out = tmp_path / f"{name}.deb"
    subprocess.run(["dpkg-deb", "-b", str(tree), str(out)], check=True, capture_output=True)
    return out


def test_packages_become_an_archive_without_their_documentation(tmp_path: Path) -> None:
    """Programs, libraries and links of all packages; manuals stay out, modes are kept."""
    one = deb(tmp_path, "one", {"usr/bin/prog": "p", "usr/share/man/man1/prog.1": "m"}, {})
    two = deb(
        tmp_path, "two", {"usr/lib/x/libz.so.1.2": "z"}, {"usr/lib/x/libz.so.1": "libz.so.1.2"}
    )
    raw = gzip.decompress(packages.pack([one, two]))
    assert packages.pack([one, two]) == packages.pack([one, two])
    names = dict(line.split()[::2] for line in read_newc(raw) if len(line.split()) == 3)
    assert names == {
        "usr/bin/prog": "p",
        "usr/lib/x/libz.so.1.2": "z",
        "usr/lib/x/libz.so.1": "libz.so.1.2",
    }


def test_an_archive_of_packages_is_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time it comes from the cache, whatever the order of the names."""
    calls: list[tuple[str, ...]] = []

    def download(names: tuple[str, ...], cache: Path) -> bytes:
        calls.append(names)
        return b"archive"

    monkeypatch.setattr(packages, "_download", download)
    assert packages.archive("b", "a", cache=tmp_path) == b"archive"
    assert packages.archive("a", "b", cache=tmp_path) == b"archive"
    assert calls == [("b", "a")]


def test_packages_become_a_disk(tmp_path: Path) -> None:
    """/bin and /usr/bin are one, whichever a package names; the file system is sound."""
    one = deb(tmp_path, "one", {"bin/sh": "s", "usr/share/man/man1/sh.1": "m"}, {})
    two = deb(tmp_path, "two", {"usr/bin/prog": "p", "lib/libz.so.1": "z"}, {})
    tree, image = tmp_path / "tree", tmp_path / "image"
    userland.unpack([one, two], tree)
    assert sorted(p.name for p in (tree / "usr" / "bin").iterdir()) == ["prog", "sh"]
    assert (tree / "lib").is_symlink()
    assert (tree / "usr" / "lib" / "libz.so.1").read_text() == "z"
    assert list((tree / "usr" / "share").rglob("*.1")) == []
    userland.file_system(tree, image)
    subprocess.run(["/sbin/e2fsck", "-fn", str(image)], check=True, capture_output=True)
    argv = ["/sbin/debugfs", "-R", "cat /usr/bin/prog", str(image)]
    assert subprocess.run(argv, capture_output=True, check=True).stdout == b"p"


def test_the_initrd_of_a_disk_starts_the_script(tmp_path: Path) -> None:
    """The kernel's own initrd stays in front; the script and its files are behind it."""
    base = tmp_path / "initrd.gz"
    base.write_bytes(gzip.compress(b"base"))
    guest = debian.Guest("n", "r", "v", tmp_path / "vmlinuz", base)
    data = userland.initrd(guest, "true\n", {"a.py": b"pass"})
    assert data.startswith(base.read_bytes())
    more = gzip.decompress(data.removeprefix(base.read_bytes()))
    assert b"job/run.sh" in more
    assert b"job/a.py" in more
    assert b"chroot /mnt" in more


def test_folders_of_modules_come_out_of_a_kernel_package(tmp_path: Path) -> None:
    """Modules below the folders that were asked for, and nothing else."""
    base = "lib/modules/6.1/kernel"
    files = {f"{base}/crypto/a.ko": "a", f"{base}/arch/arm64/crypto/b.ko.xz": "b"}
    files |= {f"{base}/drivers/crypto/c.ko": "c", f"{base}/crypto/notes.txt": "n"}
    into = tmp_path / "into"
    into.mkdir()
    modules.unpack(deb(tmp_path, "kernel", files, {}), modules.CRYPTO, into)
    assert sorted(p.name for p in into.iterdir()) == ["a.ko", "b.ko.xz"]
