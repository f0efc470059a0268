"""Debian's arm64 programs on our machine and on qemu-system-aarch64: the same output.

One disk and one initrd for both sides. What is run is in userland/ and in the table below; the
lines that hold times are left out of the comparison.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from bhyvepy.guests import debian, userland

from .conftest import OFFLINE, fetch
from .framework import POWERED_OFF, Vmm
from .test_debian import TROUBLE

pytestmark = [pytest.mark.fetch, pytest.mark.slow]

KERNEL = "6.1-cloud"
CPUS = 2
MEMORY = "1G"
QUICK_S = 600
LONG_S = 3000
ARGS = "console={tty} loglevel=4 panic=-1 cryptomgr.notests"
QEMU_CPU = "max,pauth=off,sve=off"
SCRIPTS = Path(__file__).with_name("userland")


@dataclass(frozen=True)
class Step:
    """A shell command in the guest, with $W the folder of the scripts."""

    name: str
    command: str
    quick: bool = False  # part of `make test`


# Modules of Python whose own tests are run; each line is one boot. Not threading: its tests
# print in the order in which threads happen to run.
PYTHON = (
    ("cmath", "math", "struct", "float", "complex", "strtod"),
    ("decimal", "fractions", "statistics", "numeric_tower"),
    ("hashlib", "hmac", "zlib", "gzip", "bz2", "lzma", "binascii", "base64"),
    ("random", "long", "int", "array", "memoryview", "bytes"),
    ("ctypes", "signal", "fork1", "queue", "select", "selectors"),
    ("mmap", "subprocess", "json", "pickle", "re", "unicode", "codecs", "datetime", "time"),
    ("generators", "coroutines", "asyncgen", "dict", "set", "list", "sort", "itertools", "heapq"),
    ("io", "tempfile", "shutil", "csv", "gc", "weakref", "exceptions", "compile", "ast", "marshal"),
)
STEPS = (
    Step("digests", ". $W/digests.sh", True),
    Step("openssl", ". $W/openssl.sh"),
    Step("public-keys", ". $W/public-keys.sh"),
    Step("speed", ". $W/speed.sh"),
    Step("round-trips", ". $W/round-trips.sh"),
    Step("sqlite", "sqlite3 t.db < $W/sqlite.sql", True),
    Step("database", "python3 $W/database.py", True),
    Step("libm-quick", "python3 $W/libm.py 300", True),
    Step("libm", "python3 $W/libm.py 10000"),
    Step("perl", "perl $W/perl.pl", True),
    Step("text", ". $W/text.sh"),
    Step("stress", ". $W/stress.sh"),
    *(
        Step(
            f"python-{name}",
            f"python3 -m test -v -i 'test_find_library_with_*' test_{name} 2>&1",
            name == "cmath",
        )
        for line in PYTHON
        for name in line
    ),
)

# Lines of Python's regrtest that hold times or the load, and what stays of them.
TIMES = re.compile(
    r"^\d+:\d\d:\d\d load avg: [\d.]+ (.*\n)|^(Ran \d+ tests?) in .*|^Total duration: .*\n"
    r"|^\w+ passed in .*\n|^== .*\n|^Using random seed .*\n|^SPEED .*\n",
    re.MULTILINE,
)
BLOCK = re.compile(r"^<<< (\S+)\n(.*?)^>>> \1 (\d+)$", re.MULTILINE | re.DOTALL)
KERNEL_LINE = re.compile(r"^\[ *\d+\.\d{6}\] .*\n", re.MULTILINE)


def script(steps: Sequence[Step]) -> str:
    """What the guest runs."""
    parts = [f'echo "<<< {s.name}"\n({s.command})\necho ">>> {s.name} $?"\n' for s in steps]
    return ". /tmp/job/prepare.sh\n" + "".join(parts)


def blocks(text: str) -> dict[str, tuple[str, int]]:
    """Output and status of each step, without what differs from run to run."""
    text = KERNEL_LINE.sub("", text.replace("\r", ""))
    found = {m[1]: (m[2], int(m[3])) for m in BLOCK.finditer(text)}
    return {name: (TIMES.sub(r"\1\2", out), status) for name, (out, status) in found.items()}


@pytest.fixture
def disk() -> Path:
    """The userland; only OFFLINE=1 may skip."""
    try:
        return userland.disk()
    except debian.FetchError as err:
        if os.environ.get("OFFLINE") == "1":
            pytest.skip(f"{OFFLINE} and the userland is not cached: {err}")
        raise


def on_bhyve(
    vmm: Vmm, kernel: debian.Guest, initrd: Path, disk: Path, seconds: float, *options: str
) -> str:
    """What our guest prints; the options are bhyveload's."""
    files = ("-k", kernel.vmlinuz, "-i", initrd, "-m", MEMORY)
    vmm.load(*files, "-a", ARGS.format(tty="ttyS0"), *options)
    argv = ("-b", "-c", CPUS, "-s", f"3,virtio-blk,{disk},ro", "vm")
    done = vmm.run("bhyve", *argv, timeout=seconds)
    assert (done.status, done.err) == (POWERED_OFF, ""), done
    vmm.destroy()
    return done.out


def on_qemu(kernel: debian.Guest, initrd: Path, disk: Path, seconds: float) -> str:
    """What QEMU's guest prints."""
    argv = ["qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", QEMU_CPU, "-accel", "tcg"]
    argv += ["-smp", str(CPUS), "-m", MEMORY, "-nographic", "-nic", "none", "-no-reboot"]
    argv += ["-kernel", str(kernel.vmlinuz), "-initrd", str(initrd)]
    argv += ["-append", ARGS.format(tty="ttyAMA0")]
    argv += ["-drive", f"if=none,id=d,file={disk},format=raw,readonly=on"]
    argv += ["-device", "virtio-blk-device,drive=d"]
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


def write_initrd(path: Path, steps: Sequence[Step]) -> Path:
    """The kernel's initrd with the scripts in it."""
    files = {file.name: file.read_bytes() for file in SCRIPTS.iterdir()}
    path.write_bytes(userland.initrd(fetch(KERNEL), script(steps), files))
    return path


def check_same(ours: str, theirs: str, steps: Sequence[Step]) -> None:
    """Every step came to a good end and printed the same, and the kernel has no complaint."""
    assert [line for line in ours.splitlines() if line[:1] == "[" and TROUBLE.search(line)] == []
    assert "WORK-STATUS 0" in ours, ours[-2000:]
    here, there = blocks(ours), blocks(theirs)
    assert list(here) == [s.name for s in steps] == list(there)
    for name, (out, status) in here.items():
        differ = difflib.unified_diff(
            there[name][0].splitlines(), out.splitlines(), "theirs", "ours", lineterm=""
        )
        assert "\n".join(differ) == "", name
        assert status == there[name][1] == 0, (name, status, out[-4000:])


def compare(vmm: Vmm, disk: Path, tmp_path: Path, steps: Sequence[Step], seconds: float) -> str:
    """Run the steps on both sides at once; our output."""
    initrd = write_initrd(tmp_path / "initrd.gz", steps)
    kernel = fetch(KERNEL)
    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(on_qemu, kernel, initrd, disk, seconds)
        ours = on_bhyve(vmm, kernel, initrd, disk, seconds)
        check_same(ours, theirs.result(), steps)
    return ours


@pytest.mark.timeout(QUICK_S)
def test_programs_print_what_they_print_under_qemu(
    vmm: Vmm, disk: Path, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """A sample: digests, compression, SQL, the C library's functions, Perl, Python's cmath."""
    steps = [step for step in STEPS if step.quick]
    compare(vmm, disk, tmp_path, steps, QUICK_S)
    figure(f"userland: {len(steps)} steps print the same as under QEMU")


def _groups() -> list[object]:
    """The steps of the long run, by boots."""
    by_name = {step.name: step for step in STEPS}
    groups = [[s] for s in STEPS if not s.name.startswith("python-")]
    groups += [[by_name[f"python-{name}"] for name in line] for line in PYTHON]
    return [pytest.param(g, id=g[0].name) for g in groups]


@pytest.mark.long
@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize("steps", _groups())
def test_all_programs_print_what_they_print_under_qemu(
    vmm: Vmm, disk: Path, tmp_path: Path, figure: Callable[[str], None], steps: list[Step]
) -> None:
    """Everything, Python's own tests among them."""
    text = compare(vmm, disk, tmp_path, steps, LONG_S)
    for line in re.findall(r"^SPEED (.*?)\r?$", text, re.MULTILINE):
        figure(f"openssl speed: {line}")


@pytest.mark.long
@pytest.mark.timeout(LONG_S)
def test_other_cpus_and_the_interpreter_print_the_same(
    vmm: Vmm, disk: Path, tmp_path: Path
) -> None:
    """The sample as a Cortex-A57, as the largest CPU, and without the translator."""
    steps = [step for step in STEPS if step.quick]
    initrd = write_initrd(tmp_path / "initrd.gz", steps)
    kernel = fetch(KERNEL)
    first = on_bhyve(vmm, kernel, initrd, disk, QUICK_S)
    for option in ("cpu=cortex-a57", "cpu=neoverse-n1", "cpu=max", "jit=off"):
        check_same(on_bhyve(vmm, kernel, initrd, disk, LONG_S, "-o", option), first, steps)
