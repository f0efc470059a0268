"""Feature numbers of the PE, read from pe_feature.def."""

from __future__ import annotations

import re
from collections.abc import Iterable

from core_lib import ROOT

NAMES: tuple[str, ...] = tuple(
    re.findall(r"^PE_FEATURE\((\w+),", (ROOT / "vmmcore/pe/pe_feature.def").read_text(), re.M)
)
BIT = {name: 1 << n for n, name in enumerate(NAMES)}
# Everything at once, with pointer authentication in its implementation-defined form.
ALL = (1 << len(NAMES)) - 1 & ~BIT["PAuth_QARMA5"]
# Plain Armv8.0.
NONE = 1 << 63 & 0


def features(names: Iterable[str]) -> int:
    """A mask from names."""
    out = 0
    for name in names:
        out |= BIT[name]
    return out
