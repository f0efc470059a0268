"""Names for guest addresses, for bhyvectl --top and --get-stats."""

from __future__ import annotations

from bisect import bisect_right

from bhyvepy.errors import ConfigError, os_error, printable


class Symbols:
    """Names for addresses, from an ELF file or a System.map."""

    def __init__(self, path: str | None) -> None:
        found: dict[int, str] = {}
        if path is not None:
            try:
                with open(path, "rb") as f:
                    head = f.read(4)
                    f.seek(0)
                    found = _elf(path) if head == b"\x7fELF" else _map(f.read())
            except OSError as err:
                raise os_error("read", path, err) from None
            if not found:
                raise ConfigError(f"{printable(path, 200)} has no symbols: give an ELF or a map")
        self._starts = sorted(found)
        self.known = [found[a] for a in self._starts]

    def name(self, address: int) -> str:
        """The symbol that an address is in, or the address."""
        i = bisect_right(self._starts, address) - 1
        return self.known[i] if i >= 0 else f"{address:#x}"


def _map(data: bytes) -> dict[int, str]:
    out = {}
    for line in data.decode("ascii", "replace").splitlines():
        words = line.split()
        if len(words) >= 3 and len(words[0]) == 16 and words[1] in "tTwW":
            try:
                out[int(words[0], 16)] = words[2]
            except ValueError:
                continue
    return out


def _elf(path: str) -> dict[int, str]:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    with open(path, "rb") as f:
        try:
            table = ELFFile(f).get_section_by_name(".symtab")
            symbols = list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []
        except (ELFError, ValueError, KeyError) as err:
            raise ConfigError(f"{printable(path, 200)} is a damaged ELF file: {err}") from None
    return {s["st_value"]: s.name for s in symbols if s["st_info"]["type"] == "STT_FUNC"}
