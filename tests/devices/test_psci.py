"""PSCI, SMCCC and TRNG calls: answers, power states, races."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhyvepy.devices.psci import CALLS, Action, Psci, Start

M64 = (1 << 64) - 1
MPIDRS = [0, 1, 2, 0x100]
CPU_ON32, CPU_ON64 = 0x84000003, 0xC4000003
CPU_OFF, AFF32, AFF64, FEATURES = 0x84000002, 0x84000004, 0xC4000004, 0x8400000A


@pytest.fixture
def psci():
    return Psci(MPIDRS, valid_entry=lambda gpa: 0x80000000 <= gpa < 0x90000000)


def call(psci, func, *args, vcpu=0):
    return psci.call(vcpu, func, [*args, *[0] * (7 - len(args))])


def x0(psci, func, *args, vcpu=0):
    """The first result as a signed number."""
    value = call(psci, func, *args, vcpu=vcpu).x[0]
    return value - (1 << 64) if value >> 63 else value


def test_versions(psci):
    """PSCI 1.1, SMCCC 1.2, TRNG 1.0."""
    assert x0(psci, 0x84000000) == 0x10001
    assert x0(psci, 0x80000000) == 0x10002
    assert x0(psci, 0x84000050) == 0x10000


@pytest.mark.parametrize("func", [0, 1, 0x84000005, 0x8400000E, 0x84020000, 0x8600FF00, 0xFFFFFFFF])
def test_unknown_calls(psci, func):
    """What is not implemented is NOT_SUPPORTED, sign-extended to 64 bits."""
    assert call(psci, func).x[0] == M64


def test_features_agree_with_the_table(psci):
    """PSCI_FEATURES says 0 for exactly the PSCI functions that there are, and SMCCC_VERSION."""
    for func in [*range(0x84000000, 0x84000060), *range(0xC4000000, 0xC4000060), 0x80000000]:
        known = func in CALLS and (func & 0xFF < 0x20)
        assert x0(psci, FEATURES, func) == (0 if known else -1), hex(func)


def test_the_sve_hint_is_not_part_of_the_function(psci):
    """Bit 16 of a fast call is a hint (SMCCC 1.3), of a yielding call part of its number."""
    assert call(psci, 0x84010000).x[0] == 0x10001
    assert call(psci, 0x04010000).x[0] == M64


def test_the_vendor_is_named(psci):
    """The call UID of vendor-specific services is ours, not another hypervisor's."""
    uid = call(psci, 0x8600FF01).x
    assert all(0 < word < 1 << 32 for word in uid)
    assert uid != (0xB66FB428, 0xE911C52E, 0x564BCAA9, 0x743A004D)  # KVM's
    assert call(psci, 0x8600FF03).x[:2] == (1, 0)


def test_stolen_time_is_offered_where_there_is_some(psci):
    """Without a structure no call admits to stolen time, with one all do."""
    for func, arg in ((0x80000001, 0xC5000020), (0xC5000020, 0xC5000021), (0xC5000021, 0)):
        assert x0(psci, func, arg) == -1
    psci = Psci(MPIDRS, stolen_time=lambda vcpu: 0x2F800000 + 64 * vcpu)
    assert x0(psci, 0x80000001, 0xC5000020) == 0
    assert x0(psci, 0xC5000020, 0xC5000020) == 0
    assert x0(psci, 0xC5000020, 0xC5000021) == 0
    assert x0(psci, 0xC5000020, 0xC5000022) == -1
    assert x0(psci, 0xC5000021, 0, vcpu=2) == 0x2F800080


def test_upper_half_of_the_function_id_is_ignored(psci):
    """The function id is W0."""
    assert call(psci, 0xDEADBEEF_84000000).x[0] == 0x10001


@pytest.mark.parametrize("func", [CPU_ON32, CPU_ON64])
def test_cpu_on(psci, func):
    """CPU_ON starts a vCPU with entry and context; AFFINITY_INFO follows."""
    assert x0(psci, AFF64, 1, 0) == 1
    assert x0(psci, func, 1, 0x80000100, 0x77) == 0
    assert x0(psci, AFF64, 1, 0) == 2
    assert x0(psci, func, 1, 0x80000100, 0) == -5
    assert psci.wait(1) == Start(0x80000100, 0x77)
    assert x0(psci, AFF64, 1, 0) == 0
    assert x0(psci, func, 1, 0x80000100, 0) == -4
    assert psci.is_on(1)


def test_cpu_on_of_oneself(psci):
    """The caller is on already."""
    assert x0(psci, CPU_ON64, 0, 0x80000000, 0) == -4


@pytest.mark.parametrize("target", [3, 0x101, 0x10000, 1 << 24, 1 << 31 | 1, 1 << 40, M64])
def test_cpu_on_of_nobody(psci, target):
    """A target that no vCPU has, or with reserved bits, is INVALID_PARAMETERS."""
    assert x0(psci, CPU_ON64, target, 0x80000000, 0) == -2


def test_smc32_ignores_upper_halves(psci):
    """The 32-bit form takes W registers."""
    assert x0(psci, CPU_ON32, 1 << 32 | 1, 1 << 32 | 0x80000100, 1 << 40 | 5) == 0
    assert psci.wait(1) == Start(0x80000100, 5)


@pytest.mark.parametrize("entry", [0, 0x7FFFFFFF, 0x80000002, 0x90000000])
def test_cpu_on_at_a_bad_address(psci, entry):
    """An entry that is not RAM, or not aligned, is INVALID_ADDRESS, and the vCPU stays off."""
    assert x0(psci, CPU_ON64, 1, entry, 0) == -9
    assert x0(psci, AFF64, 1, 0) == 1


def test_affinity_levels(psci):
    """Higher levels cover groups; a level above 3 and unknown groups are invalid."""
    assert x0(psci, AFF64, 0, 1) == 0
    assert x0(psci, AFF64, 0x100, 1) == 1
    assert x0(psci, AFF64, 0x100, 2) == 0
    assert x0(psci, AFF32, 0, 3) == 0
    assert x0(psci, AFF64, 0, 4) == -2
    assert x0(psci, AFF64, 0, M64) == -2
    assert x0(psci, AFF64, 0x200, 1) == -2


def test_cpu_off_and_on_again(psci):
    """A vCPU that turned itself off parks, and can be turned on again."""
    for i in range(100):
        assert x0(psci, CPU_ON64, 2, 0x80000000 + 4 * i, i) == 0
        assert psci.wait(2) == Start(0x80000000 + 4 * i, i)
        result = call(psci, CPU_OFF, vcpu=2)
        assert (result.action, result.x) == (Action.PARK, None)
        assert x0(psci, AFF64, 2, 0) == 1


def test_last_cpu_off_halts(psci):
    """When the last vCPU turns itself off the machine halts."""
    assert call(psci, CPU_OFF).action is Action.HALT


def test_one_success_in_a_race(psci):
    """Many CPU_ON of one vCPU at once: exactly one SUCCESS, the rest ALREADY_ON or ON_PENDING."""
    for _ in range(20):
        psci.reset()
        answers = []
        gate = threading.Barrier(8)

        def on(gate=gate, answers=answers):
            gate.wait()
            answers.append(x0(psci, CPU_ON64, 1, 0x80000000, 0))

        threads = [threading.Thread(target=on) for _ in range(8)]
        for t in threads:
            t.start()
        psci.wait(1)
        for t in threads:
            t.join()
        assert answers.count(0) == 1
        assert set(answers) <= {0, -4, -5}


def test_on_before_the_thread_parks(psci):
    """CPU_ON between CPU_OFF and the thread's wait() is not lost."""
    x0(psci, CPU_ON64, 1, 0x80000000, 1)
    psci.wait(1)
    call(psci, CPU_OFF, vcpu=1)
    assert x0(psci, CPU_ON64, 1, 0x80000004, 2) == 0
    assert psci.wait(1) == Start(0x80000004, 2)


def test_stop_wakes_the_parked(psci):
    """The end of the VM wakes every parked vCPU with nothing to start."""
    got = []
    t = threading.Thread(target=lambda: got.append(psci.wait(3)))
    t.start()
    psci.stop()
    t.join(5)
    assert got == [None]
    assert psci.wait(2) is None


@pytest.mark.parametrize(
    ("func", "args", "action"),
    [
        (0x84000008, (), Action.POWEROFF),
        (0x84000009, (), Action.RESET),
        (0x84000012, (0, 0), Action.RESET),
        (0xC4000012, (0x80000000, 5), Action.RESET),
    ],
)
def test_system_calls_do_not_return(psci, func, args, action):
    """SYSTEM_OFF, SYSTEM_RESET and SYSTEM_RESET2 end the VM and answer nothing."""
    result = call(psci, func, *args)
    assert (result.action, result.x) == (action, None)


def test_reset2_reserved_type(psci):
    """A reserved architectural reset type is INVALID_PARAMETERS."""
    assert x0(psci, 0xC4000012, 1) == -2


def test_migrate_info_type(psci):
    """There is no trusted OS to migrate."""
    assert x0(psci, 0x84000006) == 2


def test_cpu_suspend(psci):
    """Standby answers SUCCESS, power-down begins anew; bad states and entries are refused."""
    result = call(psci, 0xC4000001, 0, 0, 0)
    assert (result.action, result.x[0], result.start) == (Action.STANDBY, 0, None)
    result = call(psci, 0xC4000001, 0x10000, 0x80000000, 7)
    assert (result.action, result.x) == (Action.POWERDOWN, None)
    assert result.start == Start(0x80000000, 7)
    assert x0(psci, 0xC4000001, 0x10000, 0) == -9
    assert x0(psci, 0x84000001, 0x80000000) == -2


def test_arch_features(psci):
    """ARCH_FEATURES knows itself, the version and the workarounds, which are callable."""
    assert x0(psci, 0x80000001, 0x80000000) == 0
    assert x0(psci, 0x80000001, 0x80000001) == 0
    assert x0(psci, 0x80000001, 0x80008000) == 1
    assert x0(psci, 0x80000001, 0x80000002) == -1
    assert x0(psci, 0x80008000) == 0


@pytest.mark.parametrize(("func", "unit"), [(0x84000053, 32), (0xC4000053, 64)])
def test_trng(psci, func, unit):
    """Entropy fills x3, then x2, then x1; bits not asked for are zero; the size is checked."""
    for bits in (1, unit - 1, unit, unit + 1, 3 * unit):
        for _ in range(20):
            status, *words = call(psci, func, bits).x
            assert status == 0
            value = words[0] << 2 * unit | words[1] << unit | words[2]
            assert value < 1 << bits
    assert len({call(psci, func, 3 * unit).x for _ in range(10)}) == 10
    for bits in (0, 3 * unit + 1):
        assert x0(psci, func, bits) == -2


def test_trng_features_and_uuid(psci):
    """TRNG_FEATURES knows the TRNG functions; the UUID is not the forbidden all-ones start."""
    assert x0(psci, 0x84000051, 0xC4000053) == 0
    assert x0(psci, 0x84000051, 0x84000000) == -1
    assert call(psci, 0x84000052).x[0] != 0xFFFFFFFF


def test_save_and_load(psci):
    """A start that was not taken yet survives."""
    x0(psci, CPU_ON64, 1, 0x80000000, 9)
    other = Psci(MPIDRS)
    other.load(psci.save())
    assert other.wait(1) == Start(0x80000000, 9)


@settings(max_examples=300, deadline=None)
@given(
    func=st.one_of(st.sampled_from(sorted(CALLS)), st.integers(0, M64)),
    args=st.lists(st.integers(0, M64), min_size=7, max_size=7),
)
def test_any_call_is_answered(func, args):
    """No function id and no arguments make a call fail."""
    result = Psci(MPIDRS).call(0, func, args)
    assert isinstance(result.action, Action)
    if result.x is not None:
        assert all(0 <= x <= M64 for x in result.x)
