"""PL031: the count, the alarm and its interrupt, the host's clock being set."""

from __future__ import annotations

import threading
import time

import pytest

from bhyvepy.devices.pl031 import PL031

DR, MR, LR, CR, IMSC, RIS, MIS, ICR = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x1C
NOW = 1_700_000_000.25


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def rtc(kit):
    """A clock whose time a test moves by hand."""
    k = kit.make_env()
    clock = Clock()
    dev = PL031(k.env, now=clock)
    dev.k, dev.clock = k, clock
    yield dev
    dev.close()


def r(dev, reg):
    return dev.read(reg, 4)


def w(dev, reg, value):
    dev.write(reg, 4, value)


def test_identification(rtc):
    """The AMBA id registers name Arm's PL031."""
    ids = [r(rtc, 0xFE0 + 4 * i) for i in range(8)]
    assert ids == [0x31, 0x10, 0x04, 0x00, 0x0D, 0xF0, 0x05, 0xB1]


def test_it_counts_the_seconds_of_the_host(rtc):
    """DR is the wall clock until LR is written, and runs on from there."""
    assert r(rtc, DR) == int(NOW)
    w(rtc, LR, 1000)
    assert (r(rtc, DR), r(rtc, LR)) == (1000, 1000)
    rtc.clock.now += 5
    assert (r(rtc, DR), r(rtc, LR)) == (1005, 1000)
    w(rtc, LR, 0xFFFFFFFF)
    rtc.clock.now += 1
    assert r(rtc, DR) == 0


def test_read_only_registers_and_control(rtc):
    """DR, RIS and MIS ignore writes; CR says running, whatever is written."""
    for reg in (DR, RIS, MIS):
        w(rtc, reg, 0xFFFFFFFF)
    w(rtc, CR, 0)
    assert (r(rtc, DR), r(rtc, RIS), r(rtc, MIS), r(rtc, CR)) == (int(NOW), 0, 0, 1)


def test_the_alarm_is_seen_by_polling(rtc):
    """RIS is set at the second that MR names, not before, and once."""
    w(rtc, MR, int(NOW) + 2)
    rtc.clock.now = int(NOW) + 1.99
    assert r(rtc, RIS) == 0
    rtc.clock.now = int(NOW) + 2.0
    assert (r(rtc, RIS), r(rtc, MIS)) == (1, 0)
    assert not rtc.k.irq.level
    w(rtc, IMSC, 1)
    assert r(rtc, MIS) == 1
    assert rtc.k.irq.level
    w(rtc, ICR, 1)
    assert not rtc.k.irq.level
    rtc.clock.now += 100
    assert r(rtc, RIS) == 0


def test_a_match_with_now_rings_at_once_and_one_in_the_past_never(rtc):
    """The comparator looks for equality."""
    w(rtc, IMSC, 1)
    w(rtc, MR, int(NOW) - 1)
    assert (r(rtc, RIS), rtc.k.irq.level) == (0, False)
    w(rtc, MR, int(NOW))
    assert (r(rtc, RIS), rtc.k.irq.level) == (1, True)


def test_setting_the_clock_moves_the_alarm(rtc):
    """MR is compared with the count, which LR changes."""
    w(rtc, MR, 5000)
    w(rtc, LR, 4990)
    rtc.clock.now += 9
    assert r(rtc, RIS) == 0
    rtc.clock.now += 1
    assert r(rtc, RIS) == 1


def test_the_interrupt_comes_by_itself(kit):
    """With the host's clock: nobody reads a register, the line rises in time."""
    k = kit.make_env()
    rtc = PL031(k.env)
    w(rtc, MR, r(rtc, DR) + 1)
    w(rtc, IMSC, 1)
    end = time.monotonic() + 5
    while not k.irq.level and time.monotonic() < end:
        time.sleep(0.01)
    assert k.irq.level
    assert r(rtc, DR) == r(rtc, MR)
    rtc.close()
    assert not [t for t in threading.enumerate() if t.name == rtc.name]


def test_without_an_alarm_there_is_no_thread(rtc):
    """A clock that nobody waits for costs nothing."""
    before = threading.active_count()
    w(rtc, MR, int(NOW) + 10)
    r(rtc, DR)
    assert threading.active_count() == before


def test_reset_and_state(rtc, kit):
    """Reset forgets offset and alarm; a state can be carried to another device."""
    w(rtc, LR, 77)
    w(rtc, MR, 80)
    w(rtc, IMSC, 1)
    state = rtc.save()
    other = PL031(kit.make_env().env, now=rtc.clock)
    other.load(state)
    assert (r(other, DR), r(other, MR), r(other, IMSC)) == (77, 80, 1)
    rtc.clock.now += 4
    assert r(other, RIS) == 1
    other.close()
    rtc.reset()
    assert (r(rtc, DR), r(rtc, MR), r(rtc, IMSC), r(rtc, RIS)) == (int(rtc.clock.now), 0, 0, 0)
