"""From a kernel and options to a plan: what goes where, and the load record.

Pure: a plan touches no VM and no file, so that every placement can be tested byte by
byte. place() carries one out through a write function. Not here: the kernel forms,
reading files (source.py), and the device tree that bhyve writes into the room that is
left for it (machdep.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bhyvepy import devtree
from bhyvepy.boot import detect, freebsd, openbsd, source, zboot
from bhyvepy.boot.arena import Arena, align_up
from bhyvepy.boot.options import MAX_BOOTARGS, Data, Kernel, LoadOptions, Placement, human
from bhyvepy.boot.record import LoadRecord
from bhyvepy.errors import LoadError, printable
from bhyvepy.layout import DTB_ROOM, IPA_LIMIT, MIB, PAGE_SIZE, ram_ranges

_STEP = MIB
# FreeBSD copies the tree to just behind its end, and older kernels use a little memory
# there before they know better: keep away from it.
_GAP = 2 * MIB


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """All that a load does to a VM."""

    ram: list[tuple[int, int]]
    placements: list[Placement]
    record: LoadRecord
    warnings: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Bytes that place() writes."""
        return sum(len(p.data) for p in self.placements)


def plan(data: bytes, opts: LoadOptions) -> LoadPlan:
    """Find a place for everything; LoadError in one line when there is none."""
    _check(opts)
    ram = ram_ranges(opts.base, opts.size)
    if ram[-1][0] + ram[-1][1] > IPA_LIMIT:
        raise LoadError(
            f"{human(opts.size)} of memory at {opts.base:#x} ends behind the "
            f"{human(IPA_LIMIT)} of guest physical space: use a smaller -m or -b"
        )
    if data[:2] == source.GZIP_MAGIC and not opts.flat:
        data = source.gunzip(data, opts.kernel, opts.size)
    if zboot.matches(data) and not opts.flat:
        data = zboot.unpack(data, opts)
    arena = Arena(ram)
    kernel = detect.find(data, opts)(data, opts, arena)
    opts = _arguments(opts, kernel)

    tree = devtree.parse(opts.dtb, "the device tree") if opts.dtb is not None else None
    warnings = devtree.memory_warnings(tree, ram) if tree else []
    content: Data = opts.dtb or b""
    room = max(DTB_ROOM, align_up(len(content), PAGE_SIZE))
    placements = list(kernel.placements)
    if kernel.protocol == "modinfo":
        more, x0, dtb_gpa = freebsd.metadata(kernel, opts, arena, room, content)
        placements += more
    else:
        # 8-byte aligned and within one 2 MiB block (booting.rst, 2).
        align = room if room == DTB_ROOM else 2 * MIB
        after = kernel.end + _GAP
        if opts.fdt_at is None:
            dtb_gpa = arena.find(room, align, after, "device tree")
        else:
            dtb_gpa = opts.fdt_at
            arena.reserve(dtb_gpa, room, "device tree")
        placements.append(Placement(dtb_gpa, content, room, "device tree"))
        x0 = dtb_gpa
    x2 = 0
    if kernel.protocol == "openbsd":
        x0, x2 = kernel.esym, dtb_gpa

    initrd = None
    if opts.initrd is not None:
        initrd = _initrd(opts.initrd, tree, dtb_gpa + room, arena)
        placements.append(Placement(initrd[0], opts.initrd, initrd[1] - initrd[0], "initrd"))

    rec = LoadRecord(
        kernel=printable(opts.kernel, 255),
        form=kernel.form,
        protocol=kernel.protocol,
        entry=kernel.entry,
        x0=x0,
        memory_base=opts.base,
        memory_size=opts.size,
        seeds=opts.seeds,
        dtb_gpa=dtb_gpa,
        dtb_room=room,
        dtb_given=tree is not None,
        bootargs=opts.bootargs,
        env=opts.env,
        initrd=initrd,
        x2=x2,
    )
    rec.dump()  # too long a record must fail before anything is made
    return LoadPlan(ram, placements, rec, warnings)


def place(
    what: LoadPlan,
    write: Callable[[int, memoryview], object],
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write the data of a plan into fresh RAM, which is zero already.

    `progress` is told how many bytes have been written so far.
    """
    done = 0
    for piece in what.placements:
        view = memoryview(piece.data)
        for at in range(0, len(view), _STEP):
            part = view[at : at + _STEP]
            write(piece.gpa + at, part)
            done += len(part)
            if progress:
                progress(done)


def _check(opts: LoadOptions) -> None:
    if opts.size <= 0 or opts.size % PAGE_SIZE:
        raise LoadError(f"a memory size of {opts.size} bytes is no multiple of 4 KiB: change -m")
    if opts.base < 0 or opts.base % PAGE_SIZE or opts.base >= IPA_LIMIT:
        raise LoadError(f"-b {opts.base:#x}: give a multiple of 4 KiB below {IPA_LIMIT:#x}")
    if opts.load is not None and not 0 <= opts.load < IPA_LIMIT:
        raise LoadError(f"-l {opts.load:#x}: give an address in RAM")
    if opts.fdt_at is not None and opts.fdt_at % DTB_ROOM:
        raise LoadError(f"fdt.address={opts.fdt_at:#x}: give a multiple of 64 KiB in RAM")
    args = opts.bootargs
    if len(args.encode()) > MAX_BOOTARGS:
        raise LoadError(f"-a has {len(args.encode())} bytes: kernels take {MAX_BOOTARGS}")
    if any(c in args for c in "\0\n\r"):
        raise LoadError("-a may have no line ends in it")
    for item in opts.env:
        name, equals, _ = item.partition("=")
        if not name or not equals or "\0" in item or not name.isprintable() or " " in name:
            raise LoadError(f"-e {printable(item, 40)}: give name=value")
    if opts.initrd is not None and not opts.initrd:
        raise LoadError("the initrd is empty")
    if opts.dtb is not None and opts.bootargs:
        raise LoadError("-t takes the tree as it is: put bootargs into its /chosen, not into -a")


def _arguments(opts: LoadOptions, kernel: Kernel) -> LoadOptions:
    """-a and -e as this kernel wants them."""
    bsd = kernel.form.startswith("freebsd")
    if opts.env and not bsd:
        raise LoadError(f"-e is for FreeBSD kernels and {opts.kernel} is none: use -a")
    if kernel.protocol == "openbsd":
        if opts.initrd is not None:
            raise LoadError("an OpenBSD kernel takes no initrd: leave out -i")
        return replace(opts, bootargs=openbsd.command_line(opts.bootargs))
    if bsd and opts.initrd is not None:
        raise LoadError("a FreeBSD kernel takes no initrd: leave out -i")
    if bsd and kernel.protocol == "fdt":
        if opts.dtb is not None and opts.env:
            raise LoadError("-t takes the tree as it is: put -e into its /chosen/bootargs")
        return replace(opts, bootargs=freebsd.command_line(opts))
    return opts


def _initrd(data: bytes, tree: devtree.Tree | None, after: int, arena: Arena) -> tuple[int, int]:
    """Where the initrd goes: behind the tree, or where a given tree says."""
    size = len(data)
    if tree is None:
        start = arena.find(align_up(size, PAGE_SIZE), PAGE_SIZE, after, "initrd")
        return start, start + size
    named = devtree.initrd_range(tree)
    if named is None:
        raise LoadError(
            "-t takes the tree as it is and its /chosen has no linux,initrd-start and "
            "linux,initrd-end: add them, or leave out -i"
        )
    if named[1] - named[0] < size:
        raise LoadError(
            f"the initrd has {human(size)} and the tree given with -t has "
            f"{human(max(0, named[1] - named[0]))} for it: correct linux,initrd-end"
        )
    arena.reserve(named[0], size, "initrd")
    return named[0], named[0] + size
