# The cffi module built from vmmcore/include/vmm.h; imported by vmmapi.py and mem.py only.
from typing import Any

ffi: Any
lib: Any
