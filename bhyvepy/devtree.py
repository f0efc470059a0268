"""Device tree blobs: a strict reader, and a writer over the `fdt` package.

Responsible for the flattened format (Devicetree Specification 0.4, chapter 5) and for
trusting nothing of a user's file (reliability.md L01). The fdt package checks little,
raises anything, shares its list of reservations between all trees that it reads, and
writes right only with version=17: so reading is done here, and writing there. Not
responsible for what our machine's tree says (machdep.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bhyvepy.devices.base import DtValue
from bhyvepy.errors import LoadError

if TYPE_CHECKING:
    import fdt

MAGIC = 0xD00DFEED
VERSION = 17
_COMPATIBLE_VERSION = 16
_HEADER = struct.Struct(">10I")
_MAX_SIZE = 2 << 20  # Linux: booting.rst, 2
_MAX_DEPTH = 64

_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9


@dataclass(slots=True)
class Node:
    """A node: properties as raw bytes, children in order."""

    name: str
    props: dict[str, bytes] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)

    def set(self, name: str, value: DtValue) -> None:
        """Set a property; False leaves it out."""
        if value is not False:
            self.props[name] = encode(value)

    def add(self, name: str) -> Node:
        """Append a new child."""
        node = Node(name)
        self.children.append(node)
        return node

    def walk(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """This node and all below it, with their paths."""
        here = f"{path}/{self.name}" if self.name else path
        yield here or "/", self
        for child in self.children:
            yield from child.walk(here)

    def find(self, path: str) -> Node | None:
        """The node at a path below this one; unit addresses may be left out."""
        node = self
        for name in path.strip("/").split("/"):
            for child in node.children:
                if child.name == name or child.name.partition("@")[0] == name:
                    node = child
                    break
            else:
                return None
        return node

    def cell(self, name: str, default: int) -> int:
        """A property of one u32 cell."""
        value = self.props.get(name, b"")
        return int.from_bytes(value, "big") if len(value) == 4 else default

    def strings(self, name: str) -> list[str]:
        """A property of strings."""
        raw = self.props.get(name, b"").rstrip(b"\0")
        return [part.decode(errors="replace") for part in raw.split(b"\0")] if raw else []


@dataclass(slots=True)
class Tree:
    """A tree and its memory reservations."""

    root: Node
    reserved: list[tuple[int, int]] = field(default_factory=list)


# -- values --------------------------------------------------------------------------


def encode(value: DtValue) -> bytes:
    """A value as the bytes of a property."""
    if isinstance(value, bool):
        return b""
    if isinstance(value, int):
        return struct.pack(">I", value)
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode() + b"\0"
    return b"".join(encode(item) for item in value)


def cells(value: int, count: int = 2) -> list[int]:
    """A number as `count` u32 cells, the highest first."""
    return [value >> 32 * index & 0xFFFFFFFF for index in reversed(range(count))]


def pairs(node: Node, name: str, addr_cells: int, size_cells: int) -> list[tuple[int, int]]:
    """A reg-like property as (address, size) pairs; [] when its length does not fit."""
    raw = node.props.get(name, b"")
    step = 4 * (addr_cells + size_cells)
    if not step or len(raw) % step or not 0 < addr_cells <= 4 or not 0 <= size_cells <= 4:
        return []
    split = 4 * addr_cells
    return [
        (
            int.from_bytes(raw[at : at + split], "big"),
            int.from_bytes(raw[at + split : at + step], "big"),
        )
        for at in range(0, len(raw), step)
    ]


# -- writing -------------------------------------------------------------------------


def write(tree: Tree) -> bytes:
    """The blob, version 17. What the package wrote is read back before it is believed."""
    import fdt  # bhyveload does without

    out = fdt.FDT(entries=[{"address": a, "size": s} for a, s in tree.reserved])
    out.root = _package_node(tree.root, "/")
    blob = bytes(out.to_dtb(version=VERSION, last_comp_version=_COMPATIBLE_VERSION))
    if parse(blob, "the generated device tree") != tree:
        raise LoadError("the generated device tree is damaged: this fdt package cannot be used")
    return blob


def _package_node(node: Node, name: str) -> fdt.Node:
    import fdt

    out = fdt.Node(name)
    for key, value in node.props.items():
        out.append(fdt.PropBytes(key, data=value) if value else fdt.Property(key))
    for child in node.children:
        out.append(_package_node(child, child.name))
    return out


# -- reading -------------------------------------------------------------------------


class _Reader:
    def __init__(self, blob: bytes, name: str) -> None:
        self.blob = blob
        self.name = name
        if len(blob) < _HEADER.size:
            raise self.bad("its header is incomplete")
        head = _HEADER.unpack_from(blob)
        magic, total, off_struct, off_strings, off_reserved, version, compatible = head[:7]
        if magic != MAGIC:
            raise LoadError(f"{name} is no device tree blob: compile it with dtc")
        if not _HEADER.size <= total <= _MAX_SIZE:
            raise self.bad(f"a total size of {total} bytes")
        if total > len(blob):
            raise LoadError(f"{name} is truncated: it has {len(blob)} of {total} bytes")
        if version < _COMPATIBLE_VERSION or not _COMPATIBLE_VERSION <= compatible <= VERSION:
            raise self.bad(f"version {version}, compatible with {compatible}; 17 is needed")
        strings_size = head[8]
        struct_size = head[9] if version >= VERSION else total - off_struct
        if off_struct % 4 or off_reserved % 8:
            raise self.bad("misaligned blocks")
        for what, start, size in (
            ("structure", off_struct, struct_size),
            ("strings", off_strings, strings_size),
            ("reservation", off_reserved, 16),
        ):
            if start < _HEADER.size or size < 0 or start + size > total:
                raise self.bad(f"its {what} block lies outside of it")
        self.total = total
        self.at = off_struct
        self.end = off_struct + struct_size
        self.off_reserved = off_reserved
        self.strings = blob[off_strings : off_strings + strings_size]
        self._names: dict[int, str] = {}

    def bad(self, reason: str) -> LoadError:
        return LoadError(f"{self.name} is a damaged device tree: {reason}")

    def reservations(self) -> list[tuple[int, int]]:
        out: list[tuple[int, int]] = []
        for at in range(self.off_reserved, self.total - 15, 16):
            address, size = struct.unpack_from(">QQ", self.blob, at)
            if not address and not size:
                return out
            out.append((address, size))
        raise self.bad("its reservation block does not end")

    def word(self) -> int:
        if self.at + 4 > self.end:
            raise self.bad("its structure block does not end")
        value = int.from_bytes(self.blob[self.at : self.at + 4], "big")
        self.at += 4
        return value

    def text(self) -> str:
        stop = self.blob.find(b"\0", self.at, self.end)
        if stop < 0:
            raise self.bad("an unterminated node name")
        raw = self.blob[self.at : stop]
        self.at = (stop + 4) & ~3
        return self.decode(raw)

    def decode(self, raw: bytes) -> str:
        if len(raw) > 255 or not raw.isascii() or not raw.decode("ascii", "replace").isprintable():
            raise self.bad("a name that is no plain text")
        return raw.decode("ascii")

    def prop_name(self, offset: int) -> str:
        known = self._names.get(offset)
        if known is None:
            stop = self.strings.find(b"\0", offset) if offset < len(self.strings) else -1
            if stop < 0:
                raise self.bad("an unterminated property name")
            known = self._names[offset] = self.decode(self.strings[offset:stop])
        return known

    def prop(self) -> tuple[str, bytes]:
        length = self.word()
        name = self.prop_name(self.word())
        if length > self.end - self.at:
            raise self.bad(f"property {name} of {length} bytes")
        value = self.blob[self.at : self.at + length]
        self.at = (self.at + length + 3) & ~3
        return name, value

    def root(self) -> Node:
        stack: list[Node] = []
        names: list[set[str]] = []  # of the children, level by level
        root: Node | None = None
        while True:
            token = self.word()
            if token == _BEGIN_NODE:
                node = Node(self.text())
                if stack:
                    if node.name in names[-1]:
                        raise self.bad(f"two nodes {node.name}")
                    names[-1].add(node.name)
                    stack[-1].children.append(node)
                elif root is None:
                    root = node
                    if node.name:
                        raise self.bad("a root node with a name")
                else:
                    raise self.bad("two root nodes")
                stack.append(node)
                names.append(set())
                if len(stack) > _MAX_DEPTH:
                    raise self.bad(f"nodes nest deeper than {_MAX_DEPTH}")
            elif token == _END_NODE and stack:
                stack.pop()
                names.pop()
            elif token == _PROP and stack:
                name, value = self.prop()
                if stack[-1].children or name in stack[-1].props:
                    raise self.bad(f"property {name} out of place")
                stack[-1].props[name] = value
            elif token == _END and not stack and root is not None:
                return root
            elif token != _NOP:
                raise self.bad(f"token {token:#x} out of place")


def parse(blob: bytes, name: str) -> Tree:
    """Read a blob; LoadError in one line for anything that is not right."""
    reader = _Reader(bytes(blob), name)
    return Tree(reader.root(), reader.reservations())


# -- questions to a user's tree -------------------------------------------------------


def memory_ranges(tree: Tree) -> list[tuple[int, int]]:
    """RAM as the tree tells it."""
    root = tree.root
    size = (root.cell("#address-cells", 2), root.cell("#size-cells", 1))
    out: list[tuple[int, int]] = []
    for node in root.children:
        if node.strings("device_type") == ["memory"] or node.name.partition("@")[0] == "memory":
            out += pairs(node, "reg", *size)
    return out


def memory_warnings(tree: Tree, ram: list[tuple[int, int]]) -> list[str]:
    """A line for each memory range of a given tree that this VM does not have."""
    told = memory_ranges(tree)
    if not told:
        return ["the device tree has no memory node: most kernels need one"]
    return [
        f"the device tree has memory at {lo:#x} to {lo + size:#x}, which this VM has not"
        for lo, size in told
        if not any(start <= lo and lo + size <= start + length for start, length in ram)
    ]


def initrd_range(tree: Tree) -> tuple[int, int] | None:
    """Where /chosen says that the initrd is."""
    chosen = tree.root.find("chosen")
    ends = [
        int.from_bytes(chosen.props.get(f"linux,initrd-{end}", b""), "big") if chosen else 0
        for end in ("start", "end")
    ]
    return (ends[0], ends[1]) if ends[0] and ends[1] else None


def device_windows(tree: Tree) -> dict[int, str]:
    """Base address -> path of every node with a reg, through simple buses with `ranges`."""
    out: dict[int, str] = {}

    def visit(node: Node, path: str, maps: list[tuple[int, int, int]] | None) -> None:
        addr, size = node.cell("#address-cells", 2), node.cell("#size-cells", 1)
        for child in node.children:
            here = f"{path}/{child.name}"
            for base, _ in pairs(child, "reg", addr, size) if size else []:
                if maps is None:
                    out.setdefault(base, here)
                else:
                    for bus, parent, length in maps:
                        if bus <= base < bus + length:
                            out.setdefault(parent + base - bus, here)
            inner = child.props.get("ranges")
            if inner == b"":
                visit(child, here, maps)
            elif inner is not None:
                visit(child, here, _ranges(child, addr))

    visit(tree.root, "", None)
    return out


def _ranges(node: Node, parent_cells: int) -> list[tuple[int, int, int]]:
    own, size = node.cell("#address-cells", 2), node.cell("#size-cells", 1)
    raw = node.props["ranges"]
    step = 4 * (own + parent_cells + size)
    if not step or len(raw) % step:
        return []
    out = []
    for at in range(0, len(raw), step):
        cut = [at, at + 4 * own, at + 4 * (own + parent_cells), at + step]
        a, b, c = (int.from_bytes(raw[cut[i] : cut[i + 1]], "big") for i in range(3))
        out.append((a, b, c))
    return out
