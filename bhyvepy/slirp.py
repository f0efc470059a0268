"""User-mode networking through libslirp: a descriptor that carries Ethernet frames.

Responsible for making a stack and for saying in one line why there is none. The stack
itself is C with a thread of its own (vmmcore/net/slirp.c); what a network card does with
the frames is the device's (devices/virtio/net.py).

The guest's network is QEMU's and bhyve's: 10.0.2.0/24, the host at .2, a name server at
.3, DHCP from .15 up.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from bhyvepy._vmmcore import ffi, lib
from bhyvepy.errors import DeviceError

LIBRARY = "libslirp.so.0"

NETWORK = IPv4Network("10.0.2.0/24")
HOST = IPv4Address("10.0.2.2")
NAMESERVER = IPv4Address("10.0.2.3")
GUEST = IPv4Address("10.0.2.15")


@dataclass(frozen=True)
class Forward:
    """A port of the host that leads to the guest."""

    udp: bool
    host: IPv4Address
    host_port: int
    guest: IPv4Address
    guest_port: int

    def __str__(self) -> str:
        kind = "udp" if self.udp else "tcp"
        return f"{kind}:{self.host}:{self.host_port}"


class Slirp:
    """A running stack; `fd` is the guest's end, a message a frame, non-blocking.

    With `headers` each frame has a struct virtio_net_hdr of 10 bytes in front, and the
    guest may leave out checksums and send TCP segments of any size.
    """

    def __init__(
        self,
        forwards: Iterable[Forward] = (),
        mtu: int = 1500,
        restricted: bool = False,
        library: str = LIBRARY,
        headers: bool = False,
    ) -> None:
        config = ffi.new("struct net_slirp_config *")
        config.network, config.netmask = int(NETWORK.network_address), int(NETWORK.netmask)
        config.host, config.nameserver = int(HOST), int(NAMESERVER)
        config.dhcp_start, config.mtu, config.restricted = int(GUEST), mtu, restricted
        config.headers = headers
        out = ffi.new("struct net_slirp **")
        self._stack = None
        error = lib.net_slirp_open(os.fsencode(library), config, out)
        if error == errno.ENOENT:
            raise DeviceError(
                f"user-mode networking needs {library}: apt-get install libslirp0;"
                " or use a tap: virtio-net,tap0"
            )
        if error == errno.EPROTO:
            raise DeviceError(
                f"{library} is not a libslirp of version 4: apt-get install libslirp0"
            )
        if error:
            raise DeviceError(f"user-mode networking: {os.strerror(error).lower()}")
        self._stack = out[0]
        try:
            self._forward(forwards)
            fd = ffi.new("int *")
            if error := lib.net_slirp_start(self._stack, fd):
                raise DeviceError(f"user-mode networking: {os.strerror(error).lower()}")
        except BaseException:
            self.close()
            raise
        self.fd = int(fd[0])

    def _forward(self, forwards: Iterable[Forward]) -> None:
        for f in forwards:
            error = lib.net_slirp_hostfwd(
                self._stack, f.udp, int(f.host), f.host_port, int(f.guest), f.guest_port
            )
            if error in (errno.EACCES, errno.EPERM):
                raise DeviceError(f"hostfwd={f}: not allowed; take a port from 1024 up")
            if error:
                why = os.strerror(error).lower()
                raise DeviceError(f"hostfwd={f}: {why}; take another port")

    def offload(self, checked: bool, merged: bool) -> None:
        """What the guest takes: frames whose sums it need not look at, merged segments."""
        if self._stack is not None:
            lib.net_slirp_offload(self._stack, checked, merged)

    def close(self) -> None:
        """End the thread and every connection; twice is harmless."""
        stack, self._stack = self._stack, None
        if stack is not None:
            lib.net_slirp_close(stack)
