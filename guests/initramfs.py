"""Build the busybox initramfs that Debian's kernels boot to a shell with.

Responsible for: the /init script, the choice and order of kernel modules, the
tables that modprobe reads, and the archive. Not responsible for where busybox
and the modules come from (debian.py) or for the archive format (cpio.py).

Debian keeps virtio_mmio and the virtio drivers as modules in every arm64 kernel,
so a kernel without this initramfs would see no disk. The builder decompresses
.ko.xz, because busybox cannot; what a module depends on is read from its own
.modinfo section, because the packages carry no modules.dep.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterable, Mapping
from io import BytesIO

from elftools.elf.elffile import ELFFile

from .cpio import Cpio

# Printed by /init when userland is up; tests and `make run` wait for it.
MARKER = "bhyvepy: userland is up"

# What is worth carrying, by module name; names a kernel lacks (built in, or
# absent from its configuration) are passed over. Dependencies come by themselves.
WANTED = (
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_console",
    "crc32c_generic",
    "ext4",
    "9p",
    "9pnet_virtio",
    "vmw_vsock_virtio_transport",
)

# One thing about this script is easy to break: the shell must be a session
# leader with the console as its controlling terminal (setsid cttyhack), else
# Ctrl-C does nothing. PID 1 itself never ends, which would panic the kernel.
INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root /mnt /sbin /usr/bin /usr/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir -p /dev/pts
/bin/busybox mount -t devpts pts /dev/pts
/bin/busybox --install -s
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM=vt100
cd /root

# The bus first, then whatever it has found.
modprobe virtio_mmio
[ -d /sys/bus/pci/devices ] && for d in /sys/bus/pci/devices/*; do
	[ -e "$d" ] && modprobe virtio_pci 2>/dev/null && break
done
for d in /sys/bus/virtio/devices/*; do
	[ -e "$d/modalias" ] && modprobe "$(cat "$d/modalias")" 2>/dev/null
done
hostname bhyvepy

# root=DEVICE: the system there instead of the shell here.
mode=ro
for word in $(cat /proc/cmdline); do
	case $word in
	root=*) root=${{word#root=}} ;;
	rw) mode=rw ;;
	esac
done
if [ -n "$root" ]; then
	if mount -o "$mode" "$root" /mnt; then
		for d in dev proc sys; do mount --move /$d /mnt/$d; done
		exec switch_root /mnt /sbin/init
	fi
	echo "$root cannot be mounted; this is the shell of the initramfs"
fi

echo "{MARKER}"
if [ -f /cmds.sh ]; then
	echo CMDS-START
	sh /cmds.sh
	echo CMDS-END
fi
while :; do
	setsid cttyhack sh
done
"""


class Module:
    """One kernel module: its plain ELF bytes and what .modinfo says of it."""

    def __init__(self, filename: str, data: bytes) -> None:
        if filename.endswith(".xz"):
            data = lzma.decompress(data)
            filename = filename[:-3]
        self.filename = filename.rpartition("/")[2]
        self.name = self.filename.removesuffix(".ko").replace("-", "_")
        self.data = data
        self.depends: list[str] = []
        self.softdeps: list[str] = []
        self.aliases: list[str] = []
        section = ELFFile(BytesIO(data)).get_section_by_name(".modinfo")
        for item in section.data().split(b"\0") if section else ():
            key, _, value = item.decode(errors="replace").partition("=")
            if key == "depends":
                self.depends += [d.replace("-", "_") for d in value.split(",") if d]
            elif key == "alias":
                self.aliases.append(value)
            elif key == "softdep" and value.startswith("pre:"):
                self.softdeps += [d.replace("-", "_") for d in value[4:].split()]


def module_name(path: str) -> str | None:
    """The module name of a path in a kernel package, or None when it is no module."""
    base = path.rpartition("/")[2].removesuffix(".xz")
    return base[:-3].replace("-", "_") if base.endswith(".ko") else None


def order(modules: Mapping[str, Module], wanted: Iterable[str]) -> list[Module]:
    """The wanted modules and all they depend on, dependencies first."""
    done: dict[str, Module] = {}

    def add(name: str, chain: tuple[str, ...]) -> None:
        module = modules.get(name)
        if module is None or name in done:
            return
        if name in chain:
            raise ValueError("module dependency loop: " + " -> ".join((*chain, name)))
        for dep in (*module.softdeps, *module.depends):
            add(dep, (*chain, name))
        done[name] = module

    for name in wanted:
        add(name, ())
    return list(done.values())


def build(
    release: str,
    busybox: bytes,
    modules: Mapping[str, Module],
    extra: Mapping[str, bytes] | None = None,
    wanted: Iterable[str] = WANTED,
) -> bytes:
    """The gzip-compressed initramfs for the kernel `release`.

    `extra` adds files by path in the guest; "/cmds.sh" is run once at boot.
    """
    archive = Cpio()
    archive.directory("dev")
    archive.chardev("dev/console", 5, 1)
    archive.chardev("dev/null", 1, 3, 0o666)
    archive.file("bin/busybox", busybox, 0o755)
    archive.symlink("bin/sh", "busybox")
    archive.file("init", INIT.encode(), 0o755)
    archive.directory("root", 0o700)
    # With a home directory on record the shell's prompt is "~ # ".
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    archive.file("etc/group", b"root:x:0:\n")

    chosen = order(modules, wanted)
    base = f"lib/modules/{release}"
    archive.directory(base)
    index = {m.name: m for m in chosen}
    for module in chosen:
        archive.file(f"{base}/{module.filename}", module.data)
    # modules.dep lists all that is needed, the nearest first, as depmod writes it.
    dep_lines = []
    for module in chosen:
        needed = [m.filename for m in reversed(order(index, [module.name]))][1:]
        dep_lines.append(f"{module.filename}: {' '.join(needed)}".rstrip())
    aliases = [f"alias {alias} {m.name}" for m in chosen for alias in m.aliases]
    archive.file(f"{base}/modules.dep", ("\n".join(dep_lines) + "\n").encode())
    archive.file(f"{base}/modules.alias", ("\n".join(aliases) + "\n").encode())
    archive.file(f"{base}/modules.symbols", b"")

    for path, data in (extra or {}).items():
        archive.file(path, data, 0o755)
    return gzip.compress(archive.getvalue(), compresslevel=9, mtime=0)
