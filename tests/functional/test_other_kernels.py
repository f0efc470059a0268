"""More of Debian's kernels: pages of 16 KiB, PREEMPT_RT, and the ones for every machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import fetch
from .framework import Vmm
from .test_smp import boot, end, hotplug

pytestmark = [pytest.mark.fetch, pytest.mark.slow, pytest.mark.timeout(600)]

# Kernel, the size of its pages, and a word of its version.
KERNELS = (
    pytest.param("6.12-16k", "16 kB", "16k"),
    pytest.param("6.12-rt", "4 kB", "PREEMPT_RT", marks=pytest.mark.long),
    pytest.param("6.1", "4 kB", "SMP", marks=pytest.mark.long),
    pytest.param("6.12", "4 kB", "SMP", marks=pytest.mark.long),
)


@pytest.mark.parametrize(("name", "page", "word"), KERNELS)
def test_a_kernel_uses_every_cpu(
    vmm: Vmm, figure: Callable[[str], None], name: str, page: str, word: str
) -> None:
    """The shell comes, the pages have their size, programs run, CPUs go off and on, no trouble."""
    guest = boot(vmm, fetch(name), "4")
    figure(f"{name}: shell after {guest.seconds:.1f} s with 4 vCPUs")
    assert word in guest.sh("uname -rv")
    assert page in guest.sh("grep -m 1 MMUPageSize /proc/self/smaps")
    assert guest.sh("seq 1 100000 | sha256sum | cut -c1-16") == "b2bc7d3f8b652d2e"
    hotplug(guest, 4, 2)
    end(vmm, guest)
