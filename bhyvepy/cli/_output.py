"""How bhyvectl shows things: FreeBSD's plain lines, rich tables, or JSON.

A Report collects what was asked for and prints it at once: plain when standard
output is not a terminal, tables when it is, one JSON object with --json. rich is
imported only for the second.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Section:
    """One thing that was asked for, in its three forms."""

    key: str
    value: Any
    plain: list[str]
    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]]


@dataclass(slots=True)
class Report:
    """All that a command prints on standard output."""

    as_json: bool = False
    sections: list[Section] = field(default_factory=list)

    def add(
        self,
        key: str,
        value: Any,
        plain: list[str],
        *,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
    ) -> None:
        """Add a section; sections of one key merge when they are dicts."""
        self.sections.append(Section(key, value, plain, title, columns, list(rows)))

    def show(self) -> None:
        """Print."""
        if not self.sections:
            return
        if self.as_json:
            out: dict[str, Any] = {}
            for s in self.sections:
                if isinstance(s.value, dict) and isinstance(out.get(s.key), dict):
                    out[s.key].update(s.value)
                else:
                    out[s.key] = s.value
            print(json.dumps(out, indent=2))
        elif sys.stdout.isatty():
            self._tables()
        else:
            for s in self.sections:
                print("\n".join(s.plain))

    def _tables(self) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console()
        for s in self.sections:
            table = Table(title=s.title, title_justify="left", header_style="bold")
            for n, column in enumerate(s.columns):
                table.add_column(column, no_wrap=n == 0)
            for row in s.rows:
                table.add_row(*(Text(cell) for cell in row))
            console.print(table)
