"""Kernel images and boot protocols: from a kernel file to a plan of placements.

What a caller (bhyveload; bhyve with `-o kernel=`) does::

    from bhyvepy.boot import options, plan, record, source
    opts = options.LoadOptions(
        base=0x80000000, size=128 << 20,      # -b, -m
        kernel="vmlinuz",                     # the name, for messages and the record
        load=None,                            # -l ADDR, or None
        initrd=source.read(path, "initrd", limit=size),   # -i, or None
        bootargs="console=ttyS0",             # -a
        env=("a=b",),                         # -e, in the order given
        dtb=source.read(path, "device tree", limit=source.MAX_DTB),  # -t, or None
        fdt=False,                            # loader.fdt=true: FDT in x0 for a FreeBSD ELF
        seeds=record.make_seeds(None),        # fdt.seed=N gives N: the same seeds each time
    )
    kernel = source.read("vmlinuz", "kernel", limit=opts.size)
    p = plan.plan(kernel, opts)               # LoadPlan; pure: touches no VM
    # p.ram: [(gpa, length)] to map, holes cut out (layout.ram_ranges)
    # p.placements: [Placement(gpa, data, size, what)]: data goes to gpa; the rest up to
    #     size is bss, which fresh RAM already holds as zeros
    # p.record: LoadRecord; p.total: bytes of data, for a progress bar
    for piece in p.placements: mem.write(piece.gpa, piece.data)     # or:
    plan.place(p, mem.write, progress=callback_of_bytes_done)       # in 1 MiB steps
    vm.set_load_record(p.record.dump())

What bhyve does::

    rec = record.parse(vm.get_load_record())  # LoadError in one line when damaged
    # rec.memory_base, rec.memory_size; rec.entry -> PC; rec.x0 -> X0 (vCPU 0; EL1h, DAIF
    # masked: PSTATE 0x3c5, MMU off); rec.protocol: "fdt" | "modinfo" | "none";
    # rec.dtb_gpa, rec.dtb_room (0 = no tree wanted), rec.dtb_given (-t: leave it alone)
    # rec.kernel, rec.form, rec.bootargs, rec.env, rec.initrd (start, end) | None
    from bhyvepy import machdep
    blob = machdep.build_fdt(rec, ncpu, devices)    # devices: list[machdep.Attached]
    mem.write(rec.dtb_gpa, blob)                    # never when rec.dtb_given
    # machdep.Attached(base, size, irq, describe): describe is device.dt_node
    for line in machdep.missing_nodes(given_blob, devices): warn(line)   # with -t

Every bad input is a bhyvepy.errors.LoadError with one line that names the file and
the remedy. Nothing here writes to a VM, prints, or knows exit statuses.

One module per kernel form: image.py (Linux, FreeBSD and NetBSD Images), freebsd.py
(ELF with a MODINFO chain), elf.py (plain ELF), raw.py (flat image at -l). detect.py is
the table of recognisers, arena.py finds free RAM, record.py keeps what bhyve must know.
"""
