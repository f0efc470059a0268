"""From the configuration to a loaded VM: what bhyveload does, and bhyve with a kernel of its own.

The plan of what goes where is made by boot/ before a VM is touched, so that a bad
kernel leaves nothing behind; a VM that cannot be completed is removed. Keys:

    kernel, initrd, dtb     files                        (-k, -i, -t)
    bootrom                 a flat image instead of a kernel, entered at the base
    fdt.bootargs            the kernel's command line    (-a)
    loader.env.N            name=value of the environment (-e)
    loader.address          where a flat image goes      (-l)
    loader.fdt              FDT in x0 for a FreeBSD ELF kernel
    fdt.address             where the device tree goes; behind the kernel if not said
    fdt.seed                the same seeds at every load
    memory.base, memory.size, memory.wired               (-b, -m, -S)
    cpu                     what the CPU can do: cpu.py
    vmm.vhe, vmm.list_regs, vmm.vmid_bits                the hypervisor's choices
    gic.lrs                 the same as vmm.list_regs

Not here: options (cli/), kernel formats (boot/).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from bhyvepy import layout
from bhyvepy.boot import options, plan, record, source
from bhyvepy.config import Config, parse_address
from bhyvepy.cpu import DEFAULT, has_feature, parse_cpu
from bhyvepy.errors import BhyveError, ConfigError, VmExistsError, VmNotFoundError
from bhyvepy.vmexit import VmState
from bhyvepy.vmmapi import VM, check_name, check_space, loading, stat_vm, vmm_dir

# PSTATE at the entry of a kernel: EL1h, DAIF masked (Documentation/arm64/booting).
ENTRY_PSTATE = 0x3C5
DEFAULT_KERNEL = "kernel.bin"
MAX_LIST_REGS = 16

Progress = Callable[[int, int], None]


def make_plan(config: Config) -> plan.LoadPlan:
    """Read the files and say what goes where; touches no VM."""
    base = parse_address(config.text("memory.base", hex(layout.RAM_BASE)), "memory base")
    size = config.size("memory.size")
    if base % layout.PAGE_SIZE:
        raise ConfigError(f"memory base {base:#x} is not a multiple of 4K")
    if base + size > layout.IPA_LIMIT:
        raise ConfigError(f"RAM of {size >> 20}M at {base:#x} ends above {layout.IPA_LIMIT:#x}")
    bootrom = config.get("bootrom")
    path = bootrom or config.text("kernel", DEFAULT_KERNEL)
    load = config.get("loader.address")
    address = None if load is None else parse_address(load, "load address")
    if bootrom and address is None:
        address = layout.ram_ranges(base, size)[0][0]
    env = sorted(config.under("loader.env").items(), key=lambda kv: int(kv[0]))
    fdt_at = config.get("fdt.address")
    initrd, dtb = config.get("initrd"), config.get("dtb")
    seed = config.number("fdt.seed") if "fdt.seed" in config else None
    opts = options.LoadOptions(
        base=base,
        size=size,
        kernel=path,
        load=address,
        initrd=None if initrd is None else source.read(initrd, "initrd", limit=size),
        bootargs=config.text("fdt.bootargs"),
        env=tuple(v for _, v in env),
        dtb=None if dtb is None else source.read(dtb, "device tree", limit=source.MAX_DTB),
        fdt=config.boolean("loader.fdt"),
        fdt_at=None if fdt_at is None else parse_address(fdt_at, "fdt.address"),
        flat=bootrom is not None,
        seeds=record.make_seeds(seed),
    )
    kernel = source.read(path, "bootrom" if bootrom else "kernel", limit=size)
    return plan.plan(kernel, opts)


def list_regs(config: Config) -> int:
    """gic.lrs, or vmm.list_regs; 0: what the core likes."""
    key = "gic.lrs" if "gic.lrs" in config else "vmm.list_regs"
    count = config.number(key)
    if not 0 <= count <= MAX_LIST_REGS:
        raise ConfigError(f"{key}={count} is not in 1 to {MAX_LIST_REGS}")
    return count


def load(name: str, config: Config, *, progress: Progress | None = None, again: bool = False) -> VM:
    """Load a VM and leave it open.

    The VM must be absent or empty; with `again` (bhyve with a kernel of its own) one
    that has ended is replaced too.
    """
    check_name(name)
    with loading(vmm_dir()):
        return _load(name, config, progress or (lambda done, total: None), again)


def _load(name: str, config: Config, progress: Progress, again: bool) -> VM:
    replace = False
    try:
        info = stat_vm(name)
        replaceable = [VmState.EMPTY]
        if again:
            replaceable += [VmState.LOADED, VmState.ENDED, VmState.DEAD]
        if info.state not in replaceable:
            state = "damaged" if info.state is None else info.state.name.lower()
            raise VmExistsError(
                f"VM {name} exists already ({state});"
                f" remove it with `bhyvectl --vm={name} --destroy`"
            )
        replace = True
    except VmNotFoundError:
        pass
    check_space(vmm_dir(), config.size("memory.size"))
    features = parse_cpu(config.text("cpu", DEFAULT))
    if config.boolean("vmm.vhe") and not has_feature(features, "vhe"):
        raise ConfigError("vmm.vhe needs a CPU with the feature vhe; add ,+vhe to cpu")
    what = make_plan(config)
    if replace:
        # An empty VM may be one whose loader was killed: its RAM is not zero.
        VM.destroy_named(name)
    vm = VM.create(
        name,
        vhe=config.boolean("vmm.vhe"),
        list_regs=list_regs(config),
        vmid_bits=config.number("vmm.vmid_bits"),
        features=features,
    )
    try:
        vm.set_topology(1, 1, 1)
        vm.setup_memory(
            what.record.memory_base,
            what.record.memory_size,
            reserve=config.boolean("memory.wired"),
        )
        plan.place(what, vm.memory.write, progress=lambda done: progress(done, what.total))
        vcpu = vm.vcpu(0)
        vcpu.reset()
        vcpu.set_many(
            {
                "pc": what.record.entry,
                "x0": what.record.x0,
                "x2": what.record.x2,
                "cpsr": ENTRY_PSTATE,
            }
        )
        vm.set_load_record(what.record.dump())
    except BaseException:
        vm.close()
        with contextlib.suppress(BhyveError):
            VM.destroy_named(name)
        raise
    return vm
