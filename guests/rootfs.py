"""A Debian system for arm64 on a disk, which a virtual machine of ours has installed.

    python -m bhyvepy.guests.rootfs           prints the path of the disk image

The packages are unpacked here (userland.py); their maintainer scripts are arm64's, so the guest
runs them: it boots with the disk and lets dpkg unpack and configure every package again, as
debootstrap's second stage does. Responsible for the list of packages, that script, and the
cache. Root's password is `root`; the image is for tests and for trying things out.

    cp --sparse=always $(python -m bhyvepy.guests.rootfs) debian.img
    bhyveload -k vmlinuz -i initrd.gz -m 512M -a "console=ttyS0 root=/dev/vda rw" vm
    bhyve -s 3,virtio-blk,debian.img vm
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from . import debian, userland
from .cpio import Cpio

# All that is essential in Debian, and what it needs to run scripts.
ESSENTIAL = """
base-files base-passwd bash bsdutils coreutils dash debconf debianutils diffutils dpkg findutils
grep gzip hostname init-system-helpers libc-bin libpam-modules libpam-runtime login mawk
ncurses-base ncurses-bin passwd perl-base sed sysvinit-utils tar util-linux
"""
# A system that starts, is logged into and reaches a network.
SYSTEM = """
systemd systemd-sysv udev dbus kmod procps iproute2 iputils-ping netbase apt less e2fsprogs
debian-archive-keyring
"""
PACKAGES = tuple((ESSENTIAL + SYSTEM).split())
# Unpacked and configured before the rest, in this order, as debootstrap does.
FIRST = ("base-passwd", "base-files", "dpkg", "libc6", "perl-base", "mawk", "debconf")
FORM = 1
SPARE_MIB = 400
KERNEL = "6.1-cloud"
ARGS = "console=ttyS0 root=/dev/vda rw"
INSTALL_S = 3600
DONE = "bhyvepy: the system is installed"

# Runs as /cmds.sh of the initramfs.
ENTER = f"""\
mount -t ext4 /dev/vda /mnt || exit 1
mount -t proc proc /mnt/proc
mount -t sysfs sys /mnt/sys
mount --bind /dev /mnt/dev
cp /install.sh /mnt/install.sh
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C TERM=dumb \\
	DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true \\
	chroot /mnt /bin/sh /install.sh </dev/null
status=$?
rm /mnt/install.sh
umount /mnt/dev /mnt/sys /mnt/proc
umount /mnt && [ $status -eq 0 ] && echo "{DONE}"
poweroff -f
"""

INSTALL = f"""\
set -e
# Whoever unpacked the packages; modes with a set-id bit come back with dpkg.
find / -xdev -exec chown -h 0:0 {{}} +
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /etc/dpkg/dpkg.cfg.d
touch /var/lib/dpkg/status /var/lib/dpkg/available
ln -sf mawk /usr/bin/awk
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
cat > /etc/dpkg/dpkg.cfg.d/small <<X
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
force-unsafe-io
X
for name in {" ".join(FIRST)}; do
	dpkg --force-depends --force-overwrite --force-confnew --install /debs/${{name}}_*.deb
done
dpkg --force-depends --force-overwrite --force-confnew --unpack /debs/*.deb
dpkg --configure -a
[ -z "$(dpkg --audit)" ]
rm -r /debs /usr/sbin/policy-rc.d
echo root:root | chpasswd
echo debian > /etc/hostname
printf '127.0.0.1\\tlocalhost debian\\n' > /etc/hosts
echo '/dev/vda / ext4 defaults 0 1' > /etc/fstab
printf '[Match]\\nType=ether\\n[Network]\\nDHCP=yes\\n' > /etc/systemd/network/ether.network
systemctl enable systemd-networkd
"""


def image(cache: Path | None = None) -> Path:
    """The disk, from the cache or installed."""
    cache = cache or debian.cache_dir()
    key = hashlib.sha256(repr((FORM, PACKAGES, INSTALL)).encode()).hexdigest()[:16]
    final = cache / "rootfs" / f"{key}.img"
    kernel = debian.fetch(KERNEL, cache)
    final.parent.mkdir(exist_ok=True)
    # A lock of its own: this takes minutes, and others want the cache meanwhile.
    with debian.locked(final.parent):
        if not final.exists():
            with tempfile.TemporaryDirectory(prefix="new-", dir=final.parent) as scratch:
                disk = _unpacked(Path(scratch))
                _install(kernel, disk, Path(scratch))
                disk.rename(final)
    return final


def _unpacked(scratch: Path) -> Path:
    sources = debian.machine_sources()
    if not sources:
        raise debian.FetchError("this machine's apt sources name no Debian archive")
    apt = debian.PrivateApt(scratch / "root", sources)
    apt.update()
    debs = apt.download_with_dependencies(list(PACKAGES))
    tree, disk = scratch / "tree", scratch / "disk"
    userland.unpack(debs, tree)
    for name in ("passwd", "group", "hosts"):
        (tree / "etc" / name).unlink()  # base-passwd and we make these
    (tree / "debs").mkdir()
    for deb in debs:
        shutil.move(deb, tree / "debs" / deb.name)
    userland.file_system(tree, disk, SPARE_MIB, journal=True)
    return disk


def _install(kernel: debian.Guest, disk: Path, scratch: Path) -> None:
    """Boot a guest that configures what is on the disk."""
    more = Cpio()
    more.file("cmds.sh", ENTER.encode(), 0o755)
    more.file("install.sh", INSTALL.encode(), 0o755)
    initrd = scratch / "initrd.gz"
    initrd.write_bytes(kernel.initrd.read_bytes() + gzip.compress(more.getvalue(), mtime=0))
    vmmdir = scratch / "vmm"
    vmmdir.mkdir(0o700)
    env = {**os.environ, "BHYVEPY_VMMDIR": str(vmmdir)}

    def command(name: str, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).parent / name), *argv],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INSTALL_S,
            check=False,
        )

    files: Sequence[str] = ("-k", str(kernel.vmlinuz), "-i", str(initrd))
    command("bhyveload", *files, "-m", "1G", "-a", "console=ttyS0 loglevel=4", "rootfs")
    done = command("bhyve", "-b", "-c", "2", "-s", f"3,virtio-blk,{disk}", "rootfs")
    command("bhyvectl", "--vm=rootfs", "--destroy")
    if DONE not in done.stdout:
        tail = (done.stdout + done.stderr).strip().splitlines()[-12:]
        raise debian.FetchError("the guest did not install the system:\n" + "\n".join(tail))


def main() -> None:
    """Print the path of a Debian system's disk image, which is installed when it is not there."""
    try:
        print(image())
    except debian.FetchError as err:
        print(f"guests: {err}", file=sys.stderr)
        raise typer.Exit(debian.EX_UNAVAILABLE) from None


if __name__ == "__main__":
    typer.run(main)
