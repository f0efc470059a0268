# The cffi module built from vmmcore/include/vmm.h; imported by what test_floors.py names only.
from typing import Any

ffi: Any
lib: Any
