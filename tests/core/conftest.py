"""Helper modules of the tests of the C core are found beside them."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def vmm_dir() -> Iterator[Path]:
    """A VM directory of the test's own, in memory."""
    path = Path(tempfile.mkdtemp(prefix="bhyvepy-test-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
