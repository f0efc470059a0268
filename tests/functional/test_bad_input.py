"""Bad input, by name: one line that says what to do, the right exit status, nothing left.

Three tables, one for each command. A row is a name, the command line, and what the line
on standard error has to say; {d} is a directory with bad files (bad_files.py), and the
word before the command line says what is there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bhyvepy._vmmcore import lib

from .framework import ERROR, OWN_KERNEL, Vmm, new_directory
from .refusals import Refusals
from .zygote import Zygote

Row = tuple[str, str, str]

# bhyveload: the VM is named vm where the row does not say.
KERNEL_ROWS: list[Row] = [
    ("vhe-cpu", "-k {d}/k-good -o vmm.vhe=true -o cpu=cortex-a57 vm", r"vmm\.vhe.*\+vhe"),
    ("missing", "-k {d}/nothing vm", r"cannot read the kernel .*/nothing: no such file"),
    ("default-missing", "vm", r"cannot read the kernel kernel\.bin: no such file"),
    ("directory", "-k {d}/directory vm", r"is a directory: the kernel must be a file"),
    ("fifo", "-k {d}/fifo vm", r"is not a regular file"),
    ("device", "-k /dev/zero vm", r"is not a regular file"),
    ("sparse-8T", "-k {d}/sparse vm", r"has 8 TiB and memory has 128 MiB: use a larger -m"),
    ("oversized", "-k {d}/large vm", r"has 200 MiB and memory has 128 MiB: use a larger -m"),
    ("empty", "-k {d}/k-empty vm", r"is empty: it holds no kernel"),
    ("one-byte", "-k {d}/k-one-byte vm", r"no known kernel format .*-l ADDR"),
    ("efi-cut", "-k {d}/k-efi-cut vm", r"is truncated: .*section '\.text' ends at"),
    ("efi-no-header", "-k {d}/k-efi-no-header vm", r"is truncated: its EFI header"),
    ("efi-damaged", "-k {d}/k-efi-damaged vm", r"damaged EFI header"),
    ("gzip-cut", "-k {d}/k-gzip-cut vm", r"is truncated: its gzip stream does not end"),
    ("gzip-cut-crc", "-k {d}/k-gzip-cut-crc vm", r"is truncated: its gzip stream does not end"),
    ("gzip-damaged", "-k {d}/k-gzip-damaged vm", r"is damaged"),
    ("gzip-crc", "-k {d}/k-gzip-crc vm", r"is damaged"),
    ("gzip-more", "-k {d}/k-gzip-more vm", r"data behind its gzip stream"),
    ("gzip-of-nothing", "-k {d}/k-gzip-of-nothing vm", r"no known kernel format|empty"),
    ("gzip-bomb", "-k {d}/k-gzip-bomb vm", r"unpacks to more than the 128 MiB.*larger -m"),
    ("elf-cut-header", "-k {d}/k-elf-cut-header vm", r"is truncated: its ELF header"),
    ("elf-cut-table", "-k {d}/k-elf-cut-table vm", r"is truncated: its program headers"),
    ("elf-cut-segment", "-k {d}/k-elf-cut-segment vm", r"is truncated"),
    ("elf-offset-wraps", "-k {d}/k-elf-offset-wraps vm", r"is truncated"),
    ("elf-phoff-huge", "-k {d}/k-elf-phoff-huge vm", r"is truncated"),
    ("elf-x86", "-k {d}/k-elf-x86 vm", r"x86|machine 62|arm64"),
    ("elf-32-bit", "-k {d}/k-elf-32-bit vm", r"is no 64-bit little-endian ELF.*arm64"),
    ("elf-object", "-k {d}/k-elf-object vm", r"not an executable ELF file.*linked kernel"),
    ("elf-no-segments", "-k {d}/k-elf-no-segments vm", r"damaged ELF file: 0 program headers"),
    ("elf-65535", "-k {d}/k-elf-65535-segments vm", r"damaged ELF file: 65535 program headers"),
    ("elf-phentsize-0", "-k {d}/k-elf-phentsize-0 vm", r"damaged ELF file: .* of 0 bytes"),
    ("elf-phentsize-1", "-k {d}/k-elf-phentsize-1 vm", r"damaged ELF file: .* of 1 bytes"),
    ("elf-file-over-memory", "-k {d}/k-elf-file-over-memory vm", r"more bytes in the file"),
    ("elf-wraps", "-k {d}/k-elf-wraps vm", r"wraps around the end"),
    ("elf-overlap", "-k {d}/k-elf-overlap vm", r"segments at .* overlap"),
    ("elf-entry", "-k {d}/k-elf-entry vm", r"entry 0x80005000 lies in no executable segment"),
    ("elf-in-mmio", "-k {d}/k-elf-in-mmio vm", r"0x10000"),
    ("elf-above-ram", "-k {d}/k-elf-above-ram vm", r"0x280000000"),
    ("elf-bss", "-k {d}/k-elf-bss vm", r"larger -m|does not fit|RAM"),
    ("x86", "-k {d}/k-x86 vm", r"is an x86 kernel: use an arm64 one"),
    ("arm32", "-k {d}/k-arm32 vm", r"is a 32-bit Arm kernel: use an arm64 one"),
    ("riscv", "-k {d}/k-riscv vm", r"is a RISC-V kernel: use an arm64 one"),
    ("uimage", "-k {d}/k-uimage vm", r"is a U-Boot image"),
    ("xz", "-k {d}/k-xz vm", r"compressed with xz: unpack it first"),
    ("zstd", "-k {d}/k-zstd vm", r"compressed with zstd: unpack it first"),
    ("zboot", "-k {d}/k-zboot vm", r"its zboot header is incomplete|does not lie in its"),
    ("windows", "-k {d}/k-windows vm", r"an EFI program, not an arm64 kernel"),
    ("a-tree-as-kernel", "-k {d}/t-good vm", r"a device tree \(-t takes it\)"),
    ("unknown-format", "-k {d}/k-text vm", r"no known kernel format .*-l ADDR"),
    ("big-endian", "-k {d}/k-big-endian vm", r"is a big-endian kernel"),
    ("text-offset", "-k {d}/k-text-offset vm", r"damaged header: text offset 0x8000000000000000"),
    ("image-size", "-k {d}/k-image-size vm", r"damaged header: .*image size 0x4000000000000000"),
    (
        "image-over-ram",
        "-k {d}/k-image-over-ram -m 32M vm",
        r"needs 64 MiB and memory has 32 MiB.*larger -m",
    ),
    ("flat-below-ram", "-k {d}/k-text -l 0x1000 vm", r"0x1000"),
    ("flat-at-the-end", "-k {d}/k-text -l 0x87ffffff vm", r"0x87ffffff"),
    ("flat-above-ram", "-k {d}/k-text -l 0xffffffffffffffff vm", r"is not below 0x10000000000"),
    ("flat-nonsense", "-k {d}/k-text -l here vm", r"'here' is not a number"),
    ("image-misplaced", "-k {d}/k-good -l 0x80001000 vm", r"a multiple of 2 MiB"),
    ("initrd-missing", "-k {d}/k-good -i {d}/nothing vm", r"cannot read the initrd .*no such"),
    ("initrd-empty", "-k {d}/k-good -i {d}/k-empty vm", r"is empty: it holds no initrd"),
    ("initrd-directory", "-k {d}/k-good -i {d}/directory vm", r"is a directory"),
    ("initrd-oversized", "-k {d}/k-good -i {d}/large vm", r"larger -m"),
    ("initrd-no-room", "-k {d}/k-image-over-ram -i {d}/large -m 210M vm", r"larger -m|no room"),
    ("bootargs-long", "-k {d}/k-good -a " + "x" * 5000 + " vm", r"-a has 5000 bytes"),
    ("env-for-linux", "-k {d}/k-good -e a=b vm", r"-e is for FreeBSD kernels"),
    ("env-no-pair", "-k {d}/k-good -e nopair vm", r"bad -e 'nopair': use name=value"),
    ("option-no-pair", "-k {d}/k-good -o a vm", r"'a' is not of the form var=value"),
    ("option-no-name", "-k {d}/k-good -o =b vm", r"'=b' is not of the form var=value"),
]
TREE_ROWS: list[Row] = [
    ("missing", "{d}/nothing", r"cannot read the device tree .*no such file"),
    ("empty", "{d}/t-empty", r"is empty"),
    ("not", "{d}/t-not", r"is no device tree blob: compile it with dtc"),
    ("cut", "{d}/t-cut", r"is truncated: it has \d+ of \d+ bytes"),
    ("cut-header", "{d}/t-cut-header", r"its header is incomplete"),
    ("totalsize-0", "{d}/t-totalsize-0", r"a total size of 0 bytes"),
    ("totalsize-max", "{d}/t-totalsize-max", r"a total size of 4294967295 bytes"),
    ("totalsize-below-header", "{d}/t-totalsize-below-header", r"a total size of 16 bytes"),
    ("totalsize-over-file", "{d}/t-totalsize-over-file", r"is truncated"),
    ("struct-beyond", "{d}/t-struct-beyond", r"structure block lies outside"),
    ("struct-misaligned", "{d}/t-struct-misaligned", r"misaligned blocks"),
    ("strings-beyond", "{d}/t-strings-beyond", r"strings block lies outside"),
    ("strings-unterminated", "{d}/t-strings-unterminated", r"unterminated property name"),
    ("reservations-beyond", "{d}/t-reservations-beyond", r"reservation block lies outside|misal"),
    ("version-0", "{d}/t-version-0", r"version 0"),
    ("version-99", "{d}/t-version-99", r"version 99"),
    ("prop-2G", "{d}/t-prop-2G", r"of 2147483648 bytes"),
    ("prop-name", "{d}/t-prop-name", r"unterminated property name"),
    ("token", "{d}/t-token", r"token 0x7 out of place"),
    ("no-end", "{d}/t-no-end", r"does not end"),
    ("deep", "{d}/t-deep", r"nodes nest deeper than"),
    ("too-large", "{d}/t-too-large", r"a device tree has at most 2 MiB"),
]
SIZES: list[Row] = [
    ("0", "0", r"memory size is 0; give at least 2M"),
    ("0M", "0M", r"memory size is 0"),
    ("negative", "-1", r"'-1' is not a number"),
    ("negative-M", "-128M", r"'-128M' is not a number"),
    ("float", "1.5G", r"'1\.5G' is not a number"),
    ("suffix", "128Q", r"'128Q' is not a number with an optional K, M, G or T"),
    ("suffix-long", "128MBB", r"is not a number"),
    ("words", "much", r"'much' is not a number"),
    ("space", "12 M", r"'12 M' is not a number"),
    ("odd", "1500000", r"is not a multiple of 1M"),
    ("1K", "1K", r"is not a multiple of 1M"),
    ("over-the-limit", "2T", r"is too large; the limit is 1T"),
    ("absurd", "9" * 60, r"is too large; the limit is 1T"),
    ("absurd-suffix", "999999999999T", r"is too large; the limit is 1T"),
    ("over-the-machine", "500G", r"more than the .* use a smaller -m, or set BHYVEPY_VMMDIR"),
    ("not-ascii", "１２８M", r"is not a number"),
]
BASES: list[Row] = [
    ("odd", "0x80000001", r"is not a multiple of 4K"),
    ("over", "0xffffffffffffffff", r"is not below"),
    ("at-the-end", "0xffffe00000", r"ends above 0x10000000000"),
    ("words", "there", r"'there' is not a number"),
    ("negative", "-0x80000000", r"is not below"),
]
NAMES: list[Row] = [
    ("empty", "", r"bad VM name ''"),
    ("dot", ".", r"bad VM name '\.'"),
    ("dots", "..", r"bad VM name '\.\.'"),
    ("hidden", ".x", r"bad VM name"),
    ("path", "a/b", r"bad VM name 'a/b': use 1 to \d+ letters"),
    ("up", "../x", r"bad VM name"),
    ("absolute", "/etc", r"bad VM name"),
    ("space", "a b", r"bad VM name 'a b'"),
    ("newline", "a\nb", r"bad (VM name|value of name).*a.x0ab"),
    ("escape", "a\x1b[2Jb", r"bad VM name 'a.x1b\[2Jb'"),
    ("unicode", "vé", r"bad VM name"),
    ("not-utf-8", "v\udcff", r"bad VM name"),
    ("long", "x" * (int(lib.VM_MAX_NAMELEN) + 1), r"bad VM name 'x+\.\.\.'"),
]


@pytest.fixture(scope="module")
def module_refusals(
    bad_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Refusals]:
    """One zygote for all rows; the VM directory must stay empty."""
    vmm = Vmm(new_directory())
    zygote = Zygote(vmm.env, tmp_path_factory.mktemp("zygote"))
    yield Refusals(vmm, zygote, bad_files)
    zygote.close()
    vmm.close()


@pytest.fixture
def refused(module_refusals: Refusals) -> Refusals:
    """Over a VM directory in which nothing is."""
    for name in module_refusals.vmm.names() if module_refusals.state() else []:
        module_refusals.vmm.destroy(name)  # of a row that was not refused
    return module_refusals


def rows(table: list[Row]) -> pytest.MarkDecorator:
    """A table as parameters, with its names."""
    return pytest.mark.parametrize(
        ("argv", "says"), [(a, s) for _, a, s in table], ids=[n for n, _, _ in table]
    )


@rows(KERNEL_ROWS)
def test_bhyveload_refuses_kernels(refused: Refusals, argv: str, says: str) -> None:
    """Kernels, initrds and their options."""
    refused.check("bhyveload", argv.split(), says, 1)


@rows(TREE_ROWS)
def test_bhyveload_refuses_device_trees(refused: Refusals, argv: str, says: str) -> None:
    """-t with a damaged tree."""
    refused.check("bhyveload", ["-k", "{d}/k-good", "-t", argv, "vm"], says, 1)


@rows(SIZES)
def test_bhyveload_refuses_sizes(refused: Refusals, argv: str, says: str) -> None:
    """-m."""
    refused.check("bhyveload", ["-k", "{d}/k-good", f"-m{argv}", "vm"], says, 1)


@rows(BASES)
def test_bhyveload_refuses_bases(refused: Refusals, argv: str, says: str) -> None:
    """-b."""
    refused.check("bhyveload", ["-k", "{d}/k-good", f"-b{argv}", "vm"], says, 1)


@rows(NAMES)
def test_l07_vm_names(refused: Refusals, argv: str, says: str) -> None:
    """The same names are refused by all three commands."""
    refused.check("bhyveload", ["-k", "{d}/k-good", "--", argv], says, 1)
    refused.check("bhyve", ["--", argv], says, ERROR)
    refused.check("bhyvectl", [f"--vm={argv}", "--get-all"], says, 1)
    refused.check("bhyvectl", [f"--vm={argv}", "--destroy"], says, 1)


def test_the_longest_name_is_a_name(refused: Refusals) -> None:
    """It can be made, listed and destroyed."""
    name = "x" * int(lib.VM_MAX_NAMELEN)
    refused.zygote.ok("bhyveload", "-k", OWN_KERNEL, name)
    assert name in refused.zygote.ok("bhyvectl", "--list")
    refused.zygote.ok("bhyvectl", f"--vm={name}", "--destroy")


USAGE: list[Row] = [
    ("bhyveload-no-name", "bhyveload -k x", r"[Mm]issing argument|name"),
    ("bhyveload-two-names", "bhyveload -k x a b", r"unexpected extra argument|extra"),
    ("bhyveload-option", "bhyveload -Z vm", r"[Nn]o such option"),
    ("bhyveload-value", "bhyveload vm -k", r"requires an argument"),
    ("bhyve-no-name", "bhyve -b", r"the name of a VM is missing"),
    ("bhyve-two-names", "bhyve a b", r"extra"),
    ("bhyve-option", "bhyve -Z vm", r"[Nn]o such option"),
    ("bhyve-foreign", "bhyve -A vm", r"-A: there are no ACPI tables"),
    ("bhyve-gdb", "bhyve -G wport vm", r"-G wport: use \[w\]\[address:\]port"),
    ("bhyvectl-no-name", "bhyvectl --get-all", r"--vm=NAME is missing"),
    ("bhyvectl-nothing", "bhyvectl", r"--vm=NAME is missing"),
    ("bhyvectl-option", "bhyvectl --vm=vm --get-nothing", r"[Nn]o such option"),
    ("bhyvectl-argument", "bhyvectl --vm=vm vm", r"extra"),
    ("bhyvectl-unknown-vm", "bhyvectl --vm=vm", r"there is no VM vm; `bhyvectl --list`"),
    ("bhyvectl-get", "bhyvectl --vm=vm --get-all", r"there is no VM vm"),
    ("bhyvectl-destroy", "bhyvectl --vm=vm --destroy", r"there is no VM vm"),
    ("bhyvectl-reset", "bhyvectl --vm=vm --force-reset", r"there is no VM vm"),
    ("bhyve-unknown-vm", "bhyve vm", r"there is no VM vm; .*bhyveload makes one"),
]


@rows(USAGE)
def test_usage(refused: Refusals, argv: str, says: str) -> None:
    """Command lines that cannot be meant, and VMs that are not there."""
    prog, *rest = argv.split()
    refused.check(prog, rest, says, ERROR if prog == "bhyve" else 1)


# Values of -c, -m, -o and -p that are not of their form.
FORM: list[Row] = [
    ("m-nonsense", "-m lots vm", r"'lots' is not a number"),
    ("c-0", "-c 0 vm", r"0 is not in 1 to 65535"),
    ("c-negative", "-c=-1 vm", r"not in 1 to 65535|bad -c"),
    ("c-billion", "-c 1000000000 vm", r"not in 1 to 65535"),
    ("c-key", "-c dies=2 vm", r"bad -c 'dies=2'"),
    ("o-pair", "-o a vm", r"'a' is not of the form var=value"),
    ("o-key", "-o a..b=1 vm", r"bad variable name"),
    ("p-form", "-p 0 vm", r"bad -p '0': use vcpu:hostcpu"),
]

# bhyve with a VM that is loaded (128M at 0x80000000).
BHYVE: list[Row] = [
    ("other-m", "-m 256M vm", r"-m says 256M, but the VM was loaded with 128M; leave -m out"),
    ("other-base", "-e 0x40000000 vm", r"-e says 0x40000000, but RAM was loaded at 0x80000000"),
    ("c-many", "-c 65 vm", r"65 vCPUs are too many; the limit is 64"),
    ("jit-memory", "-o jit.memory=1K vm", r"jit.memory=1K: give 64K to 1G for each vCPU"),
    ("gic-version", "-o gic.version=4 vm", r"gic.version=4 is not known; use 3 or 2"),
    ("gic-cpus", "-o gic.version=2 -c 9 vm", r"a GICv2 has at most 8 vCPUs"),
    ("gic-its", "-o gic.version=2 -o gic.its=true vm", r"gic.its=true needs gic.version=3"),
    ("gic-lrs", "-o gic.lrs=17 vm", r"gic.lrs=17 is not in 1 to 16"),
    ("c-product", "-c cpus=3,cores=2 vm", r"cpus must be sockets \* cores \* threads"),
    ("k-missing", "-k {d}/nothing vm", r"cannot read .*nothing: no such file"),
    ("k-lines", "-k {d}/lines vm", r"lines:2: 'this is no pair' is not of the form"),
    ("k-binary", "-k {d}/binary vm", r"is not a text file"),
    ("p-cpu", "-p 0:60000 vm", r"cannot be pinned to CPU 60000"),
    ("U", "-U no vm", r"-U no is not a UUID"),
    ("console", "-o console=nonsense vm", r"console=nonsense is not known"),
    ("console-missing", "-o console={d}/nothing vm", r"cannot open console"),
    ("lpc-device", "-l tpm,swtpm vm", r"give the file of a boot ROM, or bootrom,FILE"),
    ("lpc-empty", "-l com2, vm", r"give the file of a boot ROM, or bootrom,FILE"),
    ("s-comma", "-s , vm", r"not a device; the forms are"),
    ("s-word", "-s word vm", r"not a device; the forms are"),
    ("s-99", "-s 99,virtio-rnd vm", r"slot numbers are 0 to 31"),
    ("s-huge-slot", "-s 99999999999999,virtio-rnd vm", r"slot numbers are 0 to 31"),
    ("s-no-device", "-s 1 vm", r"no device name"),
    ("s-empty-device", "-s 1, vm", r"no device name"),
    ("s-unknown", "-s 1,nothing vm", r"nothing"),
    ("s-no-disk", "-s 1,virtio-blk vm", r"virtio-blk wants a disk"),
    ("s-empty-option", "-s 1,virtio-blk,{d}/disk,, vm", r"empty option"),
    ("s-last-comma", "-s 1,virtio-rnd, vm", r"nothing behind the last comma"),
    ("s-bad-option", "-s 1,virtio-blk,{d}/disk,fast vm", r"virtio-blk has no option 'fast'"),
    ("s-sector", "-s 1,virtio-blk,{d}/disk,sectorsize=3 vm", r"sectorsize='3' is not"),
    ("s-serial", "-s 1,virtio-blk,{d}/disk,ser=" + "x" * 21 + " vm", r"ser= takes up to 20"),
    ("s-twice", "-s 1,virtio-rnd -s 1,virtio-rnd vm", r"slot 1 is taken twice"),
    ("s-bus", "-s 1:0:0,virtio-rnd vm", r"neither buses nor functions"),
    ("s-long", "-s 1,virtio-blk," + "x" * 5000 + " vm", r"5\d\d\d characters; the limit is 4096"),
    ("s-zero-address", "-s 0x200@0x0#44:virtio-rnd vm", r"address 0 is not chosen for you"),
    (
        "s-small",
        "-s 0x10@0x7000#44:virtio-rnd vm",
        r"the window must be at least 0x100 bytes and end below",
    ),
    ("s-odd", "-s 0x200@0x7001#44:virtio-rnd vm", r"must be a multiple of 8"),
    ("s-irq-low", "-s 0x200@0x7000#5:virtio-rnd vm", r"the interrupt is -1 or 32 to 1019"),
    ("s-irq-high", "-s 0x200@0x7000#2000:virtio-rnd vm", r"the interrupt is -1 or 32 to 1019"),
    ("s-no-irq", "-s 0x200@0x7000:virtio-rnd vm", r"not a device; the forms are"),
    ("s-irq-com1", "-s 0x200@0x7000#37:virtio-rnd vm", r"interrupt 37 .* is com1's"),
    (
        "s-irq-twice",
        "-s 0x200@0x7000#44:virtio-rnd -s 0x200@0x6000#44:virtio-rnd vm",
        r"interrupt 44 is taken twice",
    ),
    (
        "s-overlap",
        "-s 0x200@0x7000#44:virtio-rnd -s 0x200@0x7100#45:virtio-rnd vm",
        r"overlaps -s",
    ),
    ("s-on-the-gic", "-s 0x200@0x2f000000#44:virtio-rnd vm", r"overlaps the"),
    ("s-in-ram", "-s 0x200@0x80000000#44:virtio-rnd vm", r"overlaps|RAM|memory"),
    ("s-above", "-s 0x200@0xffffffffffff#44:virtio-rnd vm", r"end below"),
    ("disk-missing", "-s 3,virtio-blk,{d}/nothing vm", r"no such file; make an empty one"),
    ("disk-directory", "-s 3,virtio-blk,{d}/directory vm", r"disk .*directory: "),
    ("disk-fifo", "-s 3,virtio-blk,{d}/fifo vm", r"not a file or a block device"),
    ("disk-device", "-s 3,virtio-blk,/dev/null vm", r"not a file or a block device"),
    ("disk-empty", "-s 3,virtio-blk,{d}/no-bytes vm", r"0 bytes, less than a sector; grow it"),
    ("disk-tiny", "-s 3,virtio-blk,{d}/tiny vm", r"100 bytes, less than a sector; grow it"),
    (
        "disk-twice",
        "-s 3,virtio-blk,{d}/disk -s 4,virtio-blk,{d}/disk vm",
        r"in use by another VM|twice",
    ),
]


@pytest.fixture(scope="module")
def loaded_module(
    module_refusals: Refusals, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Refusals]:
    """Over a VM directory of its own in which vm is loaded."""
    vmm = Vmm(new_directory())
    zygote = Zygote(vmm.env, tmp_path_factory.mktemp("zygote"))
    zygote.ok("bhyveload", "-k", OWN_KERNEL, "vm")
    yield Refusals(vmm, zygote, module_refusals.files)
    zygote.close()
    vmm.close()


@pytest.fixture
def loaded(loaded_module: Refusals) -> Iterator[Refusals]:
    """The same; the VM must be as it was afterwards."""
    yield loaded_module
    listed = loaded_module.zygote.ok("bhyvectl", "--list").splitlines()[1]
    assert listed.split()[:3] == ["vm", "loaded", "128MB"]


@rows(BHYVE)
def test_bhyve_refuses(loaded: Refusals, argv: str, says: str) -> None:
    """Exit status 4, and the VM can still be run with better options."""
    loaded.check("bhyve", argv.split(), says, ERROR)


@rows(FORM)
def test_bhyve_refuses_a_form(loaded: Refusals, argv: str, says: str) -> None:
    """Exit status 64, as bhyve(8) has it for values of a bad form; the VM stays loaded."""
    loaded.check("bhyve", argv.split(), says, 64)


def test_bhyve_refuses_an_empty_device(loaded: Refusals) -> None:
    """-s with nothing, with blanks and with control characters."""
    for text, says in (("", "not a device"), (" ", "not a device"), ("1,\n", "control char")):
        loaded.check("bhyve", ["-s", text, "vm"], says, ERROR)


ROMS: list[Row] = [
    ("larger", "-m 128M -l {d}/large new", r"has 200 MiB and memory has 128 MiB: use a larger -m"),
    ("all-of-it", "-m 200M -l {d}/large new", r"device tree .* does not fit into 200 MiB"),
    ("huge", "-l {d}/sparse new", r"has 8 TiB and memory has"),
    ("empty", "-l {d}/k-empty new", r"is empty: it holds no bootrom"),
    ("directory", "-l {d}/directory new", r"is a directory"),
    ("fifo", "-l {d}/fifo new", r"is not a regular file"),
    ("device", "-l /dev/zero new", r"is not a regular file"),
    ("missing", "-l {d}/nothing new", r"cannot read the bootrom .*no such file"),
]


@rows(ROMS)
def test_l08_boot_roms(refused: Refusals, argv: str, says: str) -> None:
    """L08: a boot ROM that leaves no room for the tree, or is none, and no VM is made."""
    refused.check("bhyve", argv.split(), says, ERROR)


BHYVECTL: list[Row] = [
    ("create", "--create", r"VM vm exists already; remove it with `bhyvectl --vm=vm --destroy`"),
    ("register", "--get-reg=nothing", r"unknown register nothing"),
    ("set-register", "--set-reg=nothing=1", r"unknown register nothing"),
    ("set-no-value", "--set-reg=pc", r"'' is not a number"),
    ("set-words", "--set-pc=there", r"--set-pc: 'there' is not a number"),
    ("set-large", "--set-pc=0x10000000000000000", r"does not fit into 64 bits"),
    ("set-nothing", "--set-pc=", r"'' is not a number"),
    ("cpu-99", "--cpu=99 --get-pc", r"there is no vCPU 99"),
    ("cpu-negative", "--cpu=-1 --get-pc", r"there is no vCPU -1"),
    ("cpu-words", "--cpu=one --get-pc", r"--cpu.*int"),
    ("cap", "--capname=nothing --getcap", r"unknown capability nothing; known are"),
    ("setcap-alone", "--setcap=1", r"goes with --capname=NAME"),
    ("setcap-7", "--capname=brk_exit --setcap=7", r"--setcap=0 or --setcap=1"),
    ("set-mem-loaded", "--set-mem=64M", r"vm"),
    ("set-mem-0", "--set-mem=0", r"--set-mem is 0"),
    ("set-mem-words", "--set-mem=lots", r"'lots' is not a number"),
]


@rows(BHYVECTL)
def test_bhyvectl_refuses(loaded: Refusals, argv: str, says: str) -> None:
    """Exit status 1, and the VM is as it was."""
    loaded.check("bhyvectl", ["--vm=vm", *argv.split()], says, 1)


def test_a_failed_action_stops_a_destroy(loaded: Refusals) -> None:
    """--destroy is only done when all that stood with it was."""
    loaded.check("bhyvectl", ["--vm=vm", "--get-reg=nothing", "--destroy"], "unknown register", 1)


def test_the_rows_of_the_tables_have_names_of_their_own() -> None:
    """No two rows are called the same."""
    for table in (KERNEL_ROWS, TREE_ROWS, SIZES, BASES, NAMES, USAGE, BHYVE, ROMS, BHYVECTL):
        names = [name for name, _, _ in table]
        assert len(names) == len(set(names))
