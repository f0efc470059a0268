"""Let a Python with this folder in PYTHONPATH take one module from another file.

guards.py sets GUARD_MODULE and GUARD_FILE, so that every command a test starts runs with
the guard missing, while all else is that of the tree.
"""

import importlib.util
import os
import sys

NAME = os.environ.get("GUARD_MODULE", "")


class Finder:
    """Finds one module."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """The one without the guard, and nothing else."""
        if name != NAME:
            return None
        return importlib.util.spec_from_file_location(name, os.environ["GUARD_FILE"])


if NAME:
    sys.meta_path.insert(0, Finder)
