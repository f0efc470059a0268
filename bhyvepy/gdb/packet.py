"""Packets of gdb's remote protocol: framing, checksums, numbers in hexadecimal.

The GDB manual, appendix E. What a packet means is server.py's business. Input is
from the network: nothing here believes a length or a digit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Between '$' and '#', as we tell gdb (PacketSize); longer ones are thrown away.
MAX_PACKET = 0x4000
INTERRUPT = b"\x03"


class BadPacketError(ValueError):
    """What was received makes no sense; the answer is E01."""


@dataclass(slots=True)
class Reader:
    """Bytes in, packets and interrupts out."""

    ack: bool = True
    _data: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The packets that are complete now (INTERRUPT for Ctrl-C), and what to acknowledge."""
        self._data += data
        found: list[bytes] = []
        answer = b""
        while self._data:
            first = self._data[0]
            if first == INTERRUPT[0]:
                found.append(INTERRUPT)
                del self._data[0]
            elif first != ord("$"):
                del self._data[0]
            else:
                end = self._data.find(b"#")
                if end < 0:
                    if len(self._data) > 2 * MAX_PACKET:
                        self._data.clear()
                    break
                if len(self._data) < end + 3:
                    break
                body, check = bytes(self._data[1:end]), bytes(self._data[end + 1 : end + 3])
                del self._data[: end + 3]
                good = checksum(body) == check.lower() and len(body) <= MAX_PACKET
                if self.ack:
                    answer += b"+" if good else b"-"
                if good:
                    found.append(unescape(body))
        return found, answer


def checksum(body: bytes) -> bytes:
    """Two digits."""
    return b"%02x" % (sum(body) & 0xFF)


def frame(text: str | bytes) -> bytes:
    """A packet as it goes out."""
    body = text.encode("latin-1") if isinstance(text, str) else text
    out = bytearray()
    for byte in body:
        if byte in b"$#}*":
            out += bytes((ord("}"), byte ^ 0x20))
        else:
            out.append(byte)
    return b"$" + bytes(out) + b"#" + checksum(bytes(out))


def unescape(body: bytes) -> bytes:
    """Without '}' escapes."""
    if b"}" not in body:
        return body
    out = bytearray()
    it = iter(body)
    for byte in it:
        out.append(next(it, 0) ^ 0x20 if byte == ord("}") else byte)
    return bytes(out)


def number(text: str, limit: int = 1 << 64) -> int:
    """An unsigned hexadecimal number below a limit."""
    if not text or len(text) > 16 or any(c not in "0123456789abcdefABCDEF" for c in text):
        raise BadPacketError(f"no number: {text[:20]!r}")
    value = int(text, 16)
    if value >= limit:
        raise BadPacketError(f"too large: {value:#x}")
    return value


def numbers(text: str, separator: str = ",") -> tuple[int, int]:
    """Two of them."""
    a, sep, b = text.partition(separator)
    if not sep:
        raise BadPacketError(f"no pair of numbers: {text[:20]!r}")
    return number(a), number(b)


def unhex(text: str) -> bytes:
    """Bytes in hexadecimal."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise BadPacketError("no bytes in hexadecimal") from None
