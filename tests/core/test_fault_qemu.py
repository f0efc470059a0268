"""The fault matrix on QEMU's processor: the same tables, the same runs, a second opinion.

Each test here is one of test_fault_walks.py, with QEMU in the place of our PE.  Where
the two differ the Arm ARM decides: what QEMU does otherwise is named, in qemu_rig.py
and here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_fault_walks as walks
from pe_rig import Rig
from qemu_rig import QemuRig


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """QEMU, when there is one."""
    if shutil.which("qemu-system-aarch64") is None:
        pytest.skip("there is no qemu-system-aarch64")
    names = Rig()
    q = QemuRig(names, Path(tmp_path_factory.mktemp("q")))
    names.close()
    yield q
    q.close()


# QEMU 7.2 does these otherwise, in every case.
WRONG = {
    "test_stage1_switches": "a Neoverse N1 has no FEAT_E0PD",
    "test_stage2_address_size[0]": "it refuses an input size beyond VTCR_EL2.PS",
    "test_stage2_address_size[1]": "it refuses an input size beyond VTCR_EL2.PS",
    "test_stage2_reserved_configurations": "it takes sizes that the start level cannot cover",
    "test_abort_on_walk_goes_to_el2_with_tea": "it has no HCR_EL2.TEA",
}


@pytest.fixture(autouse=True)
def _known(request: pytest.FixtureRequest) -> None:
    if request.node.name in WRONG:
        why = WRONG[request.node.name]
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))


test_stage1 = walks.test_stage1
test_stage1_address_size = walks.test_stage1_address_size
test_stage1_input_size = walks.test_stage1_input_size
test_stage1_switches = walks.test_stage1_switches
test_stage1_tags = walks.test_stage1_tags
test_stage1_off = walks.test_stage1_off
test_stage2 = walks.test_stage2
test_stage2_address_size = walks.test_stage2_address_size
test_stage2_reserved_configurations = walks.test_stage2_reserved_configurations
test_stage2_input_size = walks.test_stage2_input_size
test_walk_under_stage2 = walks.test_walk_under_stage2
test_walk_through_device_memory = walks.test_walk_through_device_memory
test_abort_on_walk_goes_to_el2_with_tea = walks.test_abort_on_walk_goes_to_el2_with_tea
