"""Where a network card's frames go: user-mode networking (slirp) or a tap of the host.

Responsible for the words behind virtio-net that choose and configure the host's side,
for opening it, and for what it can say of the link. A back end is a descriptor with one
frame a read or write. Not responsible for virtio (virtio/net.py), nor for how libslirp
is driven (bhyvepy/slirp.py).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address

from bhyvepy.errors import printable
from bhyvepy.slirp import GUEST, LIBRARY, Forward, Slirp

from .base import DeviceError

# <linux/if_tun.h>, <linux/sockios.h>, <linux/rtnetlink.h>
TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
SIOCGIFFLAGS, SIOCGIFMTU = 0x8913, 0x8921
IFF_UP = 1
RTMGRP_LINK = 1
NAME_MAX = 15

# virtio-net's feature bits (virtio 1.2, 5.1.3), and what the kernel calls those of the guest.
F_CSUM, F_GUEST_CSUM = 1 << 0, 1 << 1
F_GUEST_TSO4, F_GUEST_TSO6, F_HOST_TSO4, F_HOST_TSO6 = 1 << 7, 1 << 8, 1 << 11, 1 << 12
HEADER = 10
TUN_OFFLOADS = ((F_GUEST_CSUM, 0x01), (F_GUEST_TSO4, 0x02), (F_GUEST_TSO6, 0x04))

# A full pipe is waited for so long, then the frame is lost, as on a wire.
SEND_WAIT_MS = 10

# bhyve's other back ends are FreeBSD's: why there is nothing behind their names.
FOREIGN = ("netgraph", "netmap", "vale")

_FORWARD = re.compile(r"(tcp|udp):([^:]*):(\d{1,5})-([^:]*):(\d{1,5})", re.ASCII)


class Backend:
    """A descriptor that carries frames."""

    fd: int
    link_up: bool = True
    link_fd: int | None = None  # readable when the state of the link may have changed
    mtu: int = 1500
    header = 0  # bytes of struct virtio_net_hdr in front of each frame, here and there
    offloads = 0  # virtio-net's feature bits that the header makes possible

    def offload(self, features: int) -> None:
        """The driver took these of them."""

    def send(self, frame: Sequence[memoryview]) -> bool:
        """One frame; False: it was lost."""
        try:
            os.writev(self.fd, frame)
        except BlockingIOError:
            poll = select.poll()
            poll.register(self.fd, select.POLLOUT)
            poll.poll(SEND_WAIT_MS)
            try:
                os.writev(self.fd, frame)
            except OSError:
                return False
        except OSError:  # the interface is down, or the frame too long for it
            return False
        return True

    def look(self) -> bool:
        """link_fd was readable: whether link_up is another than before."""
        return False

    def close(self) -> None:
        """Give it back; twice is harmless."""


class SlirpBackend(Backend):
    """User-mode networking."""

    header = HEADER
    offloads = F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_HOST_TSO4

    def __init__(self, options: Mapping[str, str], mtu: int | None, library: str = LIBRARY) -> None:
        self.mtu = mtu or 1500
        restricted = False
        if "open" in options:  # bhyve's word; here the network is open by itself
            word = options["open"].lower()
            if word not in ("true", "on", "yes", "1", "false", "off", "no", "0"):
                raise DeviceError("virtio-net: open= is true or false")
            restricted = word in ("false", "off", "no", "0")
        forwards = parse_forwards(options.get("hostfwd", ""))
        self._slirp = Slirp(forwards, self.mtu, restricted, library, headers=True)
        self.fd = self._slirp.fd

    def offload(self, features: int) -> None:
        """What the stack may do with frames to the guest."""
        self._slirp.offload(bool(features & F_GUEST_CSUM), bool(features & F_GUEST_TSO4))

    def close(self) -> None:
        """End the stack."""
        self._slirp.close()


def parse_forwards(text: str) -> list[Forward]:
    """``tcp:127.0.0.1:2222-:22;udp::5353-10.0.2.15:53``; DeviceError."""
    out = []
    for part in filter(None, text.split(";")):
        match = _FORWARD.fullmatch(part)
        try:
            if match is None:
                raise ValueError
            host = IPv4Address(match[2] or "0.0.0.0")  # noqa: S104 - bhyve's default
            guest = IPv4Address(match[4]) if match[4] else GUEST
            ports = int(match[3]), int(match[5])
            if not all(0 < p < 65536 for p in ports):
                raise ValueError
        except ValueError:
            raise DeviceError(
                f"hostfwd={printable(part, 60)} is not"
                " tcp|udp:hostaddr:hostport-guestaddr:guestport, such as tcp:127.0.0.1:2222-:22"
            ) from None
        out.append(Forward(match[1] == "udp", host, ports[0], guest, ports[1]))
    return out


class TapBackend(Backend):
    """A tap interface of the host, which must exist."""

    header = HEADER
    offloads = F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_HOST_TSO4 | F_HOST_TSO6

    def __init__(self, name: str, mtu: int | None) -> None:
        shown = printable(name, 40)
        if len(name.encode(errors="replace")) > NAME_MAX or "/" in name:
            raise DeviceError(f"network {shown}: interface names have up to {NAME_MAX} characters")
        self._name = name.encode()
        self._ctl = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.fd = -1
        try:
            # TUNSETIFF would make one, which nobody has put anywhere.
            if self._ioctl(SIOCGIFFLAGS) is None:
                raise DeviceError(
                    f"network {shown}: no such interface; make it with"
                    f" `ip tuntap add {shown} mode tap user $USER`, or use virtio-net,slirp"
                )
            self._open(shown)
            self.mtu = mtu or self._number(SIOCGIFMTU, "i")
            events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._events = events
            events.setblocking(False)
            events.bind((0, RTMGRP_LINK))
        except BaseException:
            self.close()
            raise
        self.link_fd = events.fileno()
        self.link_up = self._up()

    _events: socket.socket | None = None

    def _open(self, shown: str) -> None:
        try:
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as err:
            why = (err.strerror or "").lower()
            raise DeviceError(
                f"network {shown}: cannot open /dev/net/tun: {why}; use virtio-net,slirp"
            ) from None
        request = struct.pack("16sH22x", self._name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        try:
            fcntl.ioctl(self.fd, TUNSETIFF, request)
            fcntl.ioctl(self.fd, TUNSETVNETHDRSZ, struct.pack("i", HEADER))
            self.offload(0)
        except OSError as err:
            why = {
                errno.EPERM: "it is not yours; make it with `ip tuntap add ... user $USER`",
                errno.EBUSY: "in use by another VM",
                errno.EINVAL: "it is not a tap, or has several queues",
            }.get(err.errno or 0, (err.strerror or "").lower())
            raise DeviceError(f"network {shown}: {why}") from None

    def offload(self, features: int) -> None:
        """What the kernel may give us; what it may be given goes by the header."""
        bits = sum(bit for feature, bit in TUN_OFFLOADS if features & feature)
        fcntl.ioctl(self.fd, TUNSETOFFLOAD, bits)

    def _ioctl(self, what: int) -> bytes | None:
        try:
            return fcntl.ioctl(self._ctl.fileno(), what, struct.pack("16s24x", self._name))
        except OSError:
            return None

    def _number(self, what: int, form: str) -> int:
        raw = self._ioctl(what)
        return 0 if raw is None else int(struct.unpack_from(form, raw, 16)[0])

    def _up(self) -> bool:
        return bool(self._number(SIOCGIFFLAGS, "H") & IFF_UP)

    def look(self) -> bool:
        """Some interface changed: is it ours?"""
        assert self._events is not None
        with suppress(OSError):  # ENOBUFS: so many changes that some are not told
            while self._events.recv(65536):
                pass
        before, self.link_up = self.link_up, self._up()
        return before != self.link_up

    def close(self) -> None:
        """The interface stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._ctl.close()
        if self._events is not None:
            self._events.close()


def open_backend(word: str, options: Mapping[str, str], mtu: int | None) -> Backend:
    """The back end that the first word names."""
    if word == "slirp":
        return SlirpBackend(options, mtu)
    for key in ("hostfwd", "open"):
        if key in options:
            raise DeviceError(f"virtio-net: {key}= belongs to the slirp back end, not to a tap")
    if word.startswith(FOREIGN):
        raise DeviceError(
            f"virtio-net: {printable(word, 40)} is FreeBSD's; here there are slirp and taps"
        )
    return TapBackend(word, mtu)
