"""Every option of the commands, used: what it sets, and what it does.

The tables name each option that --help shows, which a test compares; tests/functional/
test_bad_input.py has what is refused.
"""

from __future__ import annotations

import importlib
import re
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from bhyvepy import devtree
from bhyvepy.cli import bhyve as bhyve_cli
from bhyvepy.devices import registry

from .framework import (
    BIN,
    ERROR,
    OWN_KERNEL,
    OWN_PROMPT,
    POWERED_OFF,
    ROOT,
    Guest,
    Vmm,
    until,
)
from .zygote import Zygote

# bhyve: option -> words, and the variables that they set (bhyve.md 1.1).
BHYVE: dict[str, tuple[list[str], dict[str, str]]] = {
    "-b": (["-b"], {"console": "stdio"}),
    "-C": (["-C"], {"memory.guest_in_core": "true"}),
    "-c": (
        ["-c", "4,sockets=1,cores=2,threads=2"],
        {"cpus": "4", "sockets": "1", "cores": "2", "threads": "2"},
    ),
    "-D": (["-D"], {"destroy_on_poweroff": "true"}),
    "-e": (["-e", "0x80000000UL"], {"memory.base": "0x80000000UL"}),
    "-k": (["-k", "{file}"], {"from.file": "yes", "uuid": "x"}),
    "-l": (["-l", "rom.bin"], {"bootrom": "rom.bin"}),
    "-M": (["-M"], {"monitor": "true"}),
    "-m": (["-m", "64M"], {"memory.size": "64M"}),
    "-o": (["-o", "a.b=%(name)-1"], {"a.b": "vm-1"}),
    "-p": (["-p", "0:1", "-p", "0:3"], {"vcpu.0.cpuset": "1,3"}),
    "-S": (["-S"], {"memory.wired": "true"}),
    "-s": (
        ["-s", "3,virtio-rnd", "-s", "0x200@0x7000#44:virtio-blk,a.img,ro"],
        {
            "pci.0.3.0.device": "virtio-rnd",
            "mmio.0x7000.device": "virtio-blk",
            "mmio.0x7000.size": "0x200",
            "mmio.0x7000.irq": "44",
            "mmio.0x7000.path": "a.img",
            "mmio.0x7000.ro": "true",
        },
    ),
    "-U": (
        ["-U", "12345678-1234-1234-1234-123456789ABC"],
        {"uuid": "12345678-1234-1234-1234-123456789abc"},
    ),
    "-W": (["-W"], {"virtio.msix": "false"}),
}
# Options that do something of their own, in tests of this or the named file.
ELSEWHERE = {"--version": "tests/unit/test_cli.py", "-G": "tests/functional/test_gdb.py"}

LOAD: dict[str, list[str]] = {
    "-k": ["-k", str(OWN_KERNEL)],
    "-i": ["-i", "{file}"],
    "-a": ["-a", "hello world"],
    "-b": ["-b", "0x80000000"],
    "-m": ["-m", "64M"],
    "-o": ["-o", "fdt.seed=1"],
    "-S": ["-S"],
    "-C": ["-C"],
}
LOAD_ELSEWHERE = {
    "-e": "tests/unit/test_boot_freebsd.py",
    "-l": "tests/unit/test_boot_forms.py",
    "-t": "tests/functional/test_old_lines.py",
    "--version": "tests/unit/test_cli.py",
}


def shown(name: str) -> set[str]:
    """Options that --help shows."""
    module = importlib.import_module(f"bhyvepy.cli.{name}")
    found: set[str] = set()
    for param in get_command(module.app).params:
        if param.param_type_name != "argument" and not getattr(param, "hidden", False):
            found |= set(param.opts)
    return found


def test_each_option_has_a_row() -> None:
    """An option that is added needs a row here, or a file that tries it."""
    assert shown("bhyve") - set(BHYVE) - set(ELSEWHERE) == set()
    assert shown("bhyveload") == {*LOAD, *LOAD_ELSEWHERE}
    for path in LOAD_ELSEWHERE.values():
        assert (ROOT / path).exists(), path


def variables(text: str) -> dict[str, str]:
    """What config.dump prints."""
    return dict(line.split("=", 1) for line in text.splitlines())


def dump(zygote: Zygote, *argv: str) -> dict[str, str]:
    """The configuration of a command line; exit status 1, as bhyve has it."""
    done = zygote.run("bhyve", "-o", "config.dump=1", *argv)
    assert (done.status, done.err) == (1, ""), done
    got = variables(done.out)
    assert got.pop("config.dump") == "1"
    return got


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A -k file, which is any other file too."""
    path = tmp_path / "file"
    path.write_text("# a comment\n\nfrom.file=yes\nuuid=x\n")
    return path


@pytest.mark.parametrize("option", BHYVE)
def test_an_option_of_bhyve_sets_its_variables(zygote: Zygote, file: Path, option: str) -> None:
    """Those of the table, and no others."""
    argv, want = BHYVE[option]
    argv = [word.replace("{file}", str(file)) for word in argv]
    assert dump(zygote, *argv, "vm") == {**want, "name": "vm"}


@pytest.mark.parametrize("option", BHYVE)
def test_a_dump_is_a_file_of_variables(
    zygote: Zygote, file: Path, option: str, tmp_path: Path
) -> None:
    """What config.dump prints says the same again with -k, the name included."""
    argv = [word.replace("{file}", str(file)) for word in BHYVE[option][0]]
    got = dump(zygote, *argv, "vm")
    again = tmp_path / "again"
    again.write_text("".join(f"{k}={v}\n" for k, v in got.items()))
    assert dump(zygote, "-k", str(again)) == got


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        ("-S -o memory.wired=false", "memory.wired", "false"),
        ("-o memory.wired=false -S", "memory.wired", "true"),
        ("-k {file} -o from.file=no", "from.file", "no"),
        ("-o from.file=no -k {file}", "from.file", "yes"),
        ("-s 3,virtio-blk,a.img -o pci.0.3.0.path=b.img", "pci.0.3.0.path", "b.img"),
        ("-m 1G -m 512MB", "memory.size", "512MB"),
        ("-l com2,stdio", "lpc.com2.path", "stdio"),
        ("-l com1,stdio", "console", "stdio"),
        ("-l bootrom,x", "bootrom", "x"),
    ],
)
def test_the_later_word_counts(zygote: Zygote, file: Path, argv: str, key: str, value: str) -> None:
    """Whatever the letters, options are processed from left to right."""
    assert dump(zygote, *argv.replace("{file}", str(file)).split(), "vm")[key] == value


FOREIGN = [*bhyve_cli.FOREIGN, *(f"{k}x" for k in bhyve_cli.FOREIGN_WITH_VALUE)]


@pytest.mark.parametrize("option", FOREIGN)
def test_options_of_other_machines_are_one_line(zygote: Zygote, option: str) -> None:
    """Exit status 4 and the reason."""
    done = zygote.run("bhyve", option, "vm")
    assert (done.status, done.out) == (ERROR, "")
    assert re.fullmatch(rf"bhyve: {option[:2]}: .*\n", done.err), done.err


def test_help_of_devices(vmm: Vmm) -> None:
    """-s help and -l help print names, one a line, and exit 0."""
    names = [line.split()[0] for line in vmm.ok("bhyve", "-s", "help").splitlines()]
    assert names == sorted(registry.DEVICES)
    assert vmm.ok("bhyve", "-l", "help").split() == ["bootrom", "com1", "com2", "com3", "com4"]


# -- what they do --------------------------------------------------------------------------
def boot(vmm: Vmm, *argv: str, load: list[str] | None = None) -> Guest:
    """Our kernel at its prompt."""
    vmm.load("-k", OWN_KERNEL, *(load or []))
    guest = vmm.bhyve("-b", *argv, "vm")
    guest.expect(OWN_PROMPT)
    return guest


@pytest.mark.parametrize("option", LOAD)
def test_an_option_of_bhyveload_loads(vmm: Vmm, file: Path, option: str) -> None:
    """With each of them the kernel comes to its prompt."""
    argv = [word.replace("{file}", str(file)) for word in LOAD[option]]
    vmm.load("-k", OWN_KERNEL, *argv)
    guest = vmm.bhyve("-b", "vm")
    seen = guest.expect(OWN_PROMPT)
    assert ("bootargs: hello world" in seen) == (option == "-a")
    assert ("+ 4000000" in seen) == (option == "-m")
    guest.line("off")
    assert guest.wait() == POWERED_OFF


def locked(pid: int) -> int:
    """Kilobytes of locked memory of a process."""
    found = re.search(r"^VmLck:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found
    return int(found[1])


def test_wired_memory_is_locked(vmm: Vmm) -> None:
    """-S locks all of RAM for as long as the guest runs; without it nothing is locked."""
    load = ["-m", "64M"]
    vmm.load("-k", OWN_KERNEL, *load)
    guest = vmm.bhyve("-b", "-S", "vm")
    if guest.child.expect(["guest> ", "cannot lock the memory of the VM"]) == 1:
        assert resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] < 64 << 20
        pytest.skip("this user may not lock 64 MB; the line says so")
    assert locked(guest.pid) >= 64 << 10
    vmm.destroy()
    guest.wait()
    guest = boot(vmm, load=load)
    assert locked(guest.pid) == 0


def test_memory_that_may_not_be_locked_is_one_line(vmm: Vmm) -> None:
    """The limit and the remedy are named, and the VM can be run without -S."""
    vmm.load("-k", OWN_KERNEL, "-m", "64M")
    line = f"ulimit -l 1024; exec setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock {BIN}/bhyve"
    argv = ["sh", "-c", f"{line} -S vm"]
    done = subprocess.run(argv, env=vmm.env, capture_output=True, text=True, check=False)
    if "setpriv" in done.stderr:
        pytest.skip("capabilities cannot be dropped here")
    assert done.returncode == ERROR, done
    assert re.fullmatch(r"bhyve: cannot lock the memory .*ulimit -l.*-S out\n", done.stderr)
    guest = vmm.bhyve("-b", "vm")
    guest.expect(OWN_PROMPT)


@pytest.mark.parametrize("option", ["-C", ""])
def test_a_core_dump_has_guest_memory(vmm: Vmm, tmp_path: Path, option: str) -> None:
    """With -C what the guest wrote is in bhyve's core, without it is not."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not re.fullmatch(r"core[.%\w]*", pattern):
        pytest.skip(f"cores go elsewhere on this machine ({pattern})")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("this user may have no cores of that size")
    vmm.load("-k", OWN_KERNEL, "-m", "48M")
    line = f"ulimit -c unlimited; exec {BIN}/bhyve -b {option} vm"
    guest = vmm.spawn("sh", ["-c", line], cwd=tmp_path)
    guest.expect(OWN_PROMPT)
    assert guest.own("fill 8") == "filled"
    guest.signal(signal.SIGABRT)
    until("bhyve has ended", lambda: not guest.alive(), 60)
    cores = list(tmp_path.glob("core*"))
    assert len(cores) == 1
    # Words 1 and 2 of the pattern: i * 0x9e3779b97f4a7c15.
    words = [(i * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "little") for i in (1, 2, 3)]
    assert (b"".join(words) in cores[0].read_bytes()) == bool(option)


def test_bootargs_of_bhyve_replace_what_was_loaded(vmm: Vmm) -> None:
    """-o fdt.bootargs= is /chosen/bootargs."""
    vmm.load("-k", OWN_KERNEL, "-a", "old words")
    guest = vmm.bhyve("-b", "-o", "fdt.bootargs=new words", "vm")
    guest.expect("bootargs: new words")


def test_the_tree_can_be_kept(vmm: Vmm, tmp_path: Path) -> None:
    """-o fdt.dump= writes the tree that the guest gets, devices and all."""
    kept = tmp_path / "vm.dtb"
    boot(vmm, "-c", "2", "-s", "3,virtio-rnd", "-o", f"fdt.dump={kept}")
    tree = devtree.parse(kept.read_bytes(), "it")
    assert 0xA0600 in devtree.device_windows(tree)
    done = vmm.run("bhyve", "-o", "fdt.dump=/nonexistent/x", "-o", f"kernel={OWN_KERNEL}", "b")
    assert done.status == ERROR
    assert "cannot write /nonexistent/x" in done.err


def test_one_command_loads_and_runs(vmm: Vmm, file: Path) -> None:
    """bhyve with kernel= and initrd= needs no bhyveload, again and again."""
    for size in ("64M", "96M"):
        guest = vmm.bhyve(
            "-b",
            *("-m", size, "-o", f"kernel={OWN_KERNEL}", "-o", f"initrd={file}"),
            *("-o", "fdt.bootargs=one command", "vm"),
        )
        guest.expect(f"RAM 80000000 + {int(size[:-1]) << 20:x}")
        guest.expect("bootargs: one command")
        guest.expect(OWN_PROMPT)
        guest.line("off")
        assert guest.wait() == POWERED_OFF


def test_one_command_that_fails_leaves_nothing(vmm: Vmm) -> None:
    """A VM that bhyve made itself does not stay when it could not be run."""
    done = vmm.run("bhyve", "-o", f"kernel={OWN_KERNEL}", "-o", "console=/nonexistent", "vm")
    assert done.status == ERROR
    assert vmm.names() == []


@pytest.mark.parametrize(("option", "left"), [("-D", []), ("-M", []), ("-W", ["vm"])])
def test_what_stays_after_a_power_off(vmm: Vmm, option: str, left: list[str]) -> None:
    """-D and -M remove the machine; without them it stays, ended."""
    guest = boot(vmm, option)
    guest.line("off")
    assert guest.wait() == POWERED_OFF
    assert vmm.names() == left


def test_monitor_removes_the_machine_however_bhyve_ends(vmm: Vmm) -> None:
    """-M: after SIGTERM too."""
    guest = boot(vmm, "-M")
    guest.signal(signal.SIGTERM)
    guest.wait()
    assert vmm.names() == []


def test_a_name_as_long_as_freebsds(vmm: Vmm) -> None:
    """229 bytes is a name, 230 is none."""
    name = "n" * 229
    vmm.load("-k", OWN_KERNEL, name=name)
    guest = vmm.bhyve("-b", name)
    guest.expect(OWN_PROMPT)
    vmm.destroy(name)
    assert vmm.run("bhyvectl", f"--vm={name}x", "--create").status == 1


OPENBSD_LIKE = """
	.globl _start
_start:	ldr	w3, [x2]		// the magic of a device tree, big-endian
	ldr	w4, =0xedfe0dd0
	cmp	w3, w4
	b.ne	1f
	tst	x0, #0xfff
	b.ne	1f
	adr	x3, _start
	sub	x3, x0, x3		// from here to esym: less than 64 MiB
	cbz	x3, 1f
	lsr	x3, x3, #26
	cbnz	x3, 1f
	ldr	w0, =0x84000008		// SYSTEM_OFF
	hvc	#0
1:	ldr	w0, =0x84000009		// SYSTEM_RESET
	hvc	#0
	b	.
"""


def test_an_openbsd_kernel_is_entered_as_it_expects(vmm: Vmm, tmp_path: Path) -> None:
    """Linked at OpenBSD's address with its program header: x0 is esym, x2 the tree."""
    source, script, out = (tmp_path / name for name in ("k.S", "k.lds", "bsd"))
    source.write_text(OPENBSD_LIKE)
    script.write_text(
        "ENTRY(_start) PHDRS { text PT_LOAD; random 0x65a3dbe6; }"
        " SECTIONS { . = 0xffffff8000200000; .text : { *(.text*) } :text :random }"
    )
    argv = ["aarch64-linux-gnu-gcc", "-nostdlib", "-static", "-Wl,--build-id=none"]
    subprocess.run([*argv, "-T", str(script), "-o", str(out), str(source)], check=True)
    vmm.load("-k", out, "-a", "-s")
    assert vmm.run("bhyve", "vm").status == POWERED_OFF


# -- bhyvectl ------------------------------------------------------------------------------
def test_each_option_of_bhyvectl_is_used_by_a_test() -> None:
    """An option that no test of the commands starts is not there."""
    text = "".join(
        path.read_text()
        for folder in ("functional", "unit")
        for path in sorted((ROOT / "tests" / folder).glob("*.py"))
    )
    unused = {name for name in shown("bhyvectl") if not re.search(rf'["\s]{name}\b', text)}
    assert unused == set()


def test_run_runs_one_vcpu_to_its_next_exit(vmm: Vmm) -> None:
    """--run prints nothing; the guest has moved on from its entry."""
    vmm.load()
    before = vmm.ctl("--get-pc")
    assert vmm.ctl("--run") == ""
    after = vmm.ctl("--get-pc")
    assert before != after
    assert int(after.split("0x")[1], 16) > 0x80000000


def test_suspended_cpus(vmm: Vmm) -> None:
    """None before the run; after a power-off those that it ended."""
    vmm.load()
    assert vmm.ctl("--get-suspended-cpus") == "suspended cpus:\t (none)\n"
    guest = vmm.bhyve("-b", "-c", "2", "vm")
    guest.expect(OWN_PROMPT)
    guest.line("off")
    assert guest.wait() == POWERED_OFF
    assert re.fullmatch(r"suspended cpus:\t [01, ]+\n", vmm.ctl("--get-suspended-cpus"))


@pytest.mark.parametrize("option", ["--checkpoint=x", "--suspend=x"])
def test_snapshots_are_one_line(vmm: Vmm, option: str) -> None:
    """They are not there, and say so."""
    done = vmm.run("bhyvectl", "--vm=vm", option)
    assert (done.status, done.out) == (1, "")
    assert done.err == f"bhyvectl: {option[:-2]}: snapshots are not there yet\n"
