"""Turn include/vmm.h and net/slirp.h into the C source of the cffi module bhyvepy._vmmcore.

The headers are the cdef: nothing is declared twice. Run by CMake as
``ffi_build.py OUT.c``; standard library and cffi only.
"""

import re
import sys
from pathlib import Path

from cffi import FFI

CORE = Path(__file__).resolve().parent
OWN = ("net/slirp.h", "net/offload.h", "virtio/virtnet.h", "virtio/virtblk.h")
HEADERS = {"vmm.h": CORE / "include" / "vmm.h"} | {name: CORE / name for name in OWN}

# Object-like macros with a number for a value; strings and F(x) are left out.
_CONSTANT = re.compile(r'#define\s+([A-Z][A-Z0-9_]*)[ \t]+([^"\s].*)')


def cdef(text: str, *, values: bool = False) -> str:
    """The declarations of a header, with macros as constants.

    The value of a macro is left to the compiler (``...``), or copied when
    `values` is set, for a cffi without a compiler (the tests' fake core).
    """
    out = []
    for line in text.splitlines():
        if not line.startswith("#"):
            out.append(line)
        elif m := _CONSTANT.match(line):
            out.append(f"#define {m[1]} {m[2] if values else '...'}")
    return "\n".join(out)


def make_ffi() -> FFI:
    """The module as cffi sees it."""
    ffi = FFI()
    for header in HEADERS.values():
        ffi.cdef(cdef(header.read_text()))
    ffi.set_source("bhyvepy._vmmcore", "\n".join(f'#include "{name}"' for name in HEADERS))
    return ffi


if __name__ == "__main__":
    make_ffi().emit_c_code(sys.argv[1])
