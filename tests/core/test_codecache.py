"""More code than is kept decoded: old pages make room, and come back as they are by then."""

from __future__ import annotations

import pe_tables as t
import pytest
from pe_rig import Rig, enc
from pe_tables import DATA, DONE, LEAF, Guest

PAGES = 3072 + 200  # codecache.c keeps 3072
ADD_X20, SUBS_X0, BR_X1 = 0x91000694, 0xF1000400, 0xD61F0020


@pytest.mark.parametrize("jit", [False, True])
def test_many_pages(jit: bool) -> None:
    """Each page counts once a round; one that is changed between rounds counts double."""
    rig = Rig(jit=jit)
    g = Guest(rig)
    for block in range(PAGES // 512 + 1):
        g.low.map(block << 21, DATA + (block << 21), LEAF | t.AP_RO, 2)
    for n in range(PAGES):
        # The last one returns to x1.
        rig.code(DATA + 4096 * n, ADD_X20, 0x14000000 | 4095 // 4 if n < PAGES - 1 else BR_X1)
    here = t.HIGH + t.CODE
    # subs x0; b.eq .+8; br x2; and the end
    code = (SUBS_X0, 0x54000040, 0xD61F0040)
    r = g.run(*code, x0=4, x1=here, x2=0, x20=0)
    assert r.hvc == DONE
    assert r.x[20] == 3 * PAGES
    for n in (0, 70, PAGES - 1):
        rig.code(DATA + 4096 * n, ADD_X20 + (1 << 10))
    rig.sys_put(enc(1, 0, 7, 5, 0))
    assert g.run(*code, x0=3, x1=here, x2=0, x20=0).x[20] == 2 * PAGES + 6
    rig.close()
