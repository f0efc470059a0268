"""Let a Python with this folder in PYTHONPATH use the core that BHYVEPY_ASAN names.

scripts/test-asan sets both, so that every command a test starts runs on the core
with AddressSanitizer, while the Python files stay those of the tree.
"""

import importlib.util
import os
import sys
from pathlib import Path

NAME = "bhyvepy._vmmcore"


class Finder:
    """Finds one module."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """The sanitized core, and nothing else."""
        if name != NAME:
            return None
        built = list(Path(os.environ["BHYVEPY_ASAN"]).glob("_vmmcore*.so"))
        if len(built) != 1:
            raise ImportError(f"{os.environ['BHYVEPY_ASAN']} has {len(built)} builds of {NAME}")
        return importlib.util.spec_from_file_location(name, built[0])


if "BHYVEPY_ASAN" in os.environ:
    sys.meta_path.insert(0, Finder)
