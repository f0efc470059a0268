"""Interrupts through the list registers: order, overflow, ends, nothing lost."""

from __future__ import annotations

import random

import pytest
from gic_machine import GICD, SPURIOUS, VIRQ, Machine


def take_all(m: Machine, limit: int = 200) -> list[int]:
    """Acknowledge and end interrupts until there is none."""
    cpu, got = m.cpus[0], []
    for _ in range(limit):
        intid = cpu.ack()
        if intid == SPURIOUS:
            return got
        got.append(intid)
        cpu.eoi(intid)
    raise AssertionError("interrupts do not end")


def test_six_spis_with_four_list_registers() -> None:
    """Six SPIs of rising priority are acknowledged highest first with 4 list registers."""
    with Machine(list_regs=4) as m:
        m.boot()
        for i in range(6):
            m.setup_spi(40 + i, prio=0xA0 - 8 * i)
        for i in range(6):
            m.inject(40 + i)
        assert take_all(m) == [45, 44, 43, 42, 41, 40]


@pytest.mark.parametrize("nlr", [1, 2, 4, 16])
@pytest.mark.parametrize("edge", [True, False])
def test_64_spis_none_lost(nlr: int, edge: bool) -> None:
    """A06: 64 SPIs at once come once each, by priority, with any number of list registers."""
    with Machine(list_regs=nlr) as m:
        m.boot()
        order = list(range(100, 164))
        random.Random(nlr).shuffle(order)
        prio = {i: 8 * (n % 30) for n, i in enumerate(order)}
        for i in order:
            m.setup_spi(i, prio=prio[i], edge=edge)
        for i in order:
            m.inject(i)
        cpu, got = m.cpus[0], []
        while (intid := cpu.ack()) != SPURIOUS:
            got.append(intid)
            m.inject(intid, False)
            cpu.eoi(intid)
        assert got == sorted(order, key=lambda i: (prio[i], i))


@pytest.mark.parametrize("nlr", [1, 2, 4])
def test_overflow_without_new_exits(nlr: int) -> None:
    """What found no list register arrives by maintenance, without another cause of an exit."""
    with Machine(list_regs=nlr) as m:
        m.boot()
        for i in range(nlr + 3):
            m.setup_spi(50 + i)
            m.inject(50 + i)
        assert take_all(m) == [50 + i for i in range(nlr + 3)]
        assert m.cpus[0].exits >= 1


@pytest.mark.parametrize("nlr", [1, 2, 4])
def test_nested_deeper_than_list_registers(nlr: int) -> None:
    """Preemption nests deeper than there are list registers; ends unwind in order."""
    with Machine(list_regs=nlr) as m:
        m.boot()
        depth = nlr + 4
        cpu = m.cpus[0]
        for i in range(depth):
            m.setup_spi(60 + i, prio=0xF0 - 8 * i, edge=False)
        for i in range(depth):
            m.inject(60 + i)
            assert cpu.ack() == 60 + i
            m.inject(60 + i, False)
        assert cpu.ack() == SPURIOUS
        for i in reversed(range(depth)):
            assert cpu["ICC_RPR_EL1"] == 0xF0 - 8 * i
            cpu.eoi(60 + i)
        assert cpu["ICC_RPR_EL1"] == 0xFF
        cpu.exit()
        assert all(cpu.load(GICD + 0x300 + 4 * n) == 0 for n in range(1, 32))
        for i in range(depth):  # and every one of them works again
            m.inject(60 + i)
        assert len(take_with_lower(m)) == depth


def test_end_outside_list_registers_is_noticed() -> None:
    """The end of an interrupt that found no list register lets its next edge in at once."""
    with Machine(list_regs=1) as m:
        m.boot()
        cpu = m.cpus[0]
        m.setup_spi(60, prio=0x80)
        m.setup_spi(61, prio=0x40)
        m.inject(60)
        assert cpu.ack() == 60
        m.inject(61)
        assert cpu.ack() == 61
        m.inject(60)
        cpu.eoi(61)
        cpu.eoi(60)
        assert cpu.ack() == 60


def take_with_lower(m: Machine) -> list[int]:
    """take_all for level interrupts whose handler quietens the device."""
    cpu, got = m.cpus[0], []
    while (intid := cpu.ack()) != SPURIOUS:
        got.append(intid)
        m.inject(intid, False)
        cpu.eoi(intid)
    return got


@pytest.mark.parametrize("nlr", [1, 2, 4])
def test_split_end_in_any_order(nlr: int) -> None:
    """With EOImode 1 interrupts deactivate by DIR in any order, also outside list registers."""
    with Machine(list_regs=nlr) as m:
        m.boot()
        cpu = m.cpus[0]
        cpu.enter()
        cpu["ICC_CTLR_EL1"] = 2
        ids = list(range(70, 76))
        for i in ids:
            m.setup_spi(i)
            m.inject(i)
        for i in ids:
            assert cpu.ack() == i
            cpu.eoi(i)  # drop only: the next one comes while this is active
        for i in ids:
            m.inject(i)
        assert cpu.ack() == SPURIOUS  # active and pending
        for i in (72, 70, 75, 71, 74, 73):
            cpu.dir(i)
        assert sorted(take_split(m)) == ids


def take_split(m: Machine) -> list[int]:
    cpu, got = m.cpus[0], []
    while (intid := cpu.ack()) != SPURIOUS:
        got.append(intid)
        cpu.eoi(intid)
        cpu.dir(intid)
    return got


def test_level_stays_until_quiet() -> None:
    """A level interrupt whose device stays up comes again after every end, without a kick."""
    with Machine() as m:
        m.boot()
        m.setup_spi(33, edge=False)
        m.inject(33)
        cpu = m.cpus[0]
        for _ in range(3):
            assert cpu.ack() == 33
            cpu.eoi(33)
        m.inject(33, False)
        assert cpu.ack() == SPURIOUS


def test_level_dropped_before_ack() -> None:
    """A level that falls before it was acknowledged is withdrawn from the running guest."""
    with Machine() as m:
        m.boot()
        m.setup_spi(33, edge=False)
        cpu = m.cpus[0]
        m.inject(33)
        cpu.settle()
        assert cpu.lines & VIRQ
        m.inject(33, False)
        assert cpu.ack() == SPURIOUS


def test_level_end_needs_no_exit_when_quietened() -> None:
    """A level interrupt whose handler made an MMIO exit ends without another exit."""
    with Machine() as m:
        m.boot()
        m.setup_spi(33, edge=False)
        cpu = m.cpus[0]
        m.inject(33)
        assert cpu.ack() == 33
        cpu.exit()  # the handler reads its device, which lowers the line
        m.inject(33, False)
        before = cpu.exits
        cpu.eoi(33)
        assert cpu.exits == before
        assert cpu.ack() == SPURIOUS


def test_edge_while_active() -> None:
    """An edge that comes while its interrupt is active is taken after the end, once."""
    with Machine() as m:
        m.boot()
        m.setup_spi(34)
        cpu = m.cpus[0]
        m.inject(34)
        assert cpu.ack() == 34
        m.inject(34)
        m.inject(34)
        assert cpu.ack() == SPURIOUS
        cpu.eoi(34)
        assert cpu.ack() == 34
        cpu.eoi(34)
        assert cpu.ack() == SPURIOUS


def test_preempts_from_outside() -> None:
    """A new interrupt of higher priority preempts although all list registers are in use."""
    with Machine(list_regs=2) as m:
        m.boot()
        cpu = m.cpus[0]
        for i in range(6):
            m.setup_spi(80 + i, prio=0x90)
            m.inject(80 + i)
        m.setup_spi(99, prio=0x10)
        assert cpu.ack() == 80
        m.inject(99)
        assert cpu.ack() == 99
        cpu.eoi(99)
        cpu.eoi(80)
        assert take_all(m) == [81, 82, 83, 84, 85]


def test_masked_group_does_not_block() -> None:
    """Pending group 0 interrupts that the CPU masks do not keep group 1 out."""
    with Machine(list_regs=2) as m:
        m.boot(groups=3)
        cpu = m.cpus[0]
        cpu.enter()
        cpu["ICC_IGRPEN0_EL1"] = 0
        for i in range(4):
            m.setup_spi(64 + i, prio=0)
        cpu.store(GICD + 0x80 + 8, 0xFFFFFFF0)
        m.setup_spi(96, prio=0x80)
        for i in (*range(64, 68), 96):
            m.inject(i)
        assert take_all(m) == [96]
        cpu["ICC_IGRPEN0_EL1"] = 1
        got = []
        for _ in range(4):
            cpu.settle()
            got.append(cpu["ICC_IAR0_EL1"])
            cpu["ICC_EOIR0_EL1"] = got[-1]
        assert got == [64, 65, 66, 67]


def test_enabled_group_comes_in() -> None:
    """A group that the CPU enables gets list registers at once, in order of priority."""
    with Machine(list_regs=2) as m:
        m.boot(groups=3)
        cpu = m.cpus[0]
        cpu.enter()
        cpu["ICC_IGRPEN0_EL1"] = 0
        m.setup_spi(64, prio=0)
        cpu.store(GICD + 0x80 + 8, 0xFFFFFFFE)
        for i in (64, 96, 97, 98):
            if i != 64:
                m.setup_spi(i)
            m.inject(i)
        cpu.settle()
        assert cpu.lines & VIRQ
        cpu["ICC_IGRPEN0_EL1"] = 1
        cpu.settle()
        assert cpu["ICC_IAR0_EL1"] == 64


@pytest.mark.parametrize("seed", range(4))
def test_random_edges_are_counted(seed: int) -> None:
    """Random raising, masking, routing and priorities: every edge is taken, none is stuck."""
    rng = random.Random(seed)
    with Machine(ncpus=3, list_regs=rng.choice([1, 2, 4])) as m:
        m.boot()
        ids = list(range(200, 220))
        for i in ids:
            m.setup_spi(i, prio=rng.randrange(0, 0xF0, 8), cpu=rng.randrange(3))
        owed = dict.fromkeys(ids, False)
        stacks: list[list[int]] = [[], [], []]
        for _ in range(1500):
            op, i, c = rng.randrange(8), rng.choice(ids), rng.randrange(3)
            cpu = m.cpus[c]
            if op < 3:
                m.inject(i)
                owed[i] = True
            elif op == 3:
                cpu.store(GICD + 0x180 + i // 32 * 4, 1 << i % 32)
            elif op == 4:
                cpu.store(GICD + 0x100 + i // 32 * 4, 1 << i % 32)
            elif op == 5:
                cpu.store(GICD + 0x6000 + 8 * i, rng.randrange(3), 8)
            elif op == 6 or not stacks[c]:
                got = cpu.ack()
                if got != SPURIOUS:
                    assert owed[got], f"{got} was not raised"
                    owed[got] = False
                    stacks[c].append(got)
            else:
                cpu.eoi(stacks[c].pop())
        for i in ids:
            m.cpus[0].store(GICD + 0x100 + i // 32 * 4, 1 << i % 32)
        for _ in range(3):
            for c, cpu in enumerate(m.cpus):
                while stacks[c]:
                    cpu.eoi(stacks[c].pop())
                while (got := cpu.ack()) != SPURIOUS:
                    assert owed[got]
                    owed[got] = False
                    cpu.eoi(got)
        assert not any(owed.values())
