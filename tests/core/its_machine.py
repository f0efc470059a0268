"""An ITS of the machine in gic_machine.py, driven as a guest's driver drives one."""

from __future__ import annotations

from .gic_machine import GICR, ITS, RAM, Machine

CTLR, TYPER, IMPDEF = ITS + 0x0, ITS + 0x8, ITS + 0x20
CBASER, CWRITER, CREADR = ITS + 0x80, ITS + 0x88, ITS + 0x90
BASER = ITS + 0x100
TRANSLATER = ITS + 0x10040
VALID = 1 << 63
INDIRECT = 1 << 62
LPI = 8192

QUEUE, DEVICES, COLLECTIONS, ITTS = RAM, RAM + 0x10000, RAM + 0x20000, RAM + 0x40000
PROPS, PENDING = RAM + 0x80000, RAM + 0x100000


class Its:
    """Tables in place, LPIs of every vCPU on, collection n on vCPU n."""

    def __init__(self, m: Machine, queue_pages: int = 1) -> None:
        self.m = m
        self.cpu = m.cpus[0]
        self.queue_size = queue_pages << 12
        assert m.attach_its() == 0
        c = self.cpu
        for i in range(m.ncpus):
            self.redist(i, 0x70, PROPS | 13)
            self.redist(i, 0x78, PENDING + (i << 16))
            c.store(GICR + 0x20000 * i, 1)
        c.store(BASER, VALID | DEVICES | 15, 8)
        c.store(BASER + 8, VALID | COLLECTIONS | 15, 8)
        c.store(CBASER, VALID | QUEUE | queue_pages - 1, 8)
        c.store(CWRITER, 0, 8)
        c.store(CTLR, 1)
        for i in range(m.ncpus):
            self.mapc(i, i)

    def redist(self, cpu: int, reg: int, val: int) -> None:
        self.cpu.store(GICR + 0x20000 * cpu + reg, val, 8)

    # -- the queue ----------------------------------------------------------------
    def queue(self, *commands: tuple[int, ...]) -> None:
        """Put commands into the queue and tell; serves until nothing moves any more."""
        at = self.cpu.load(CWRITER, 8)
        for words in commands:
            for i, word in enumerate((*words, 0, 0, 0, 0)[:4]):
                self.m.poke(QUEUE + at + 8 * i, word)
            at = (at + 32) % self.queue_size
        self.ring(at)

    def ring(self, at: int) -> None:
        """Write CWRITER as often as it is asked for."""
        for _ in range(1000):
            if self.cpu.mmio(CWRITER, 8, True, at)[0] == 0:
                return
        raise AssertionError("the queue never ends")

    def run(self, *words: int) -> int:
        """One command; the reason why it was ignored, or 0."""
        self.cpu.store(IMPDEF, 0)
        self.queue(words)
        assert not self.stalled, "stalled"
        return self.error

    @property
    def error(self) -> int:
        return self.cpu.load(IMPDEF)

    @property
    def stalled(self) -> bool:
        return bool(self.cpu.load(CREADR, 8) & 1)

    # -- commands -----------------------------------------------------------------
    def mapd(self, device: int, bits: int = 5, itt: int = ITTS, valid: bool = True) -> int:
        return self.run(0x08 | device << 32, bits - 1, itt | (VALID if valid else 0))

    def mapc(self, icid: int, cpu: int, valid: bool = True) -> int:
        return self.run(0x09, 0, icid | cpu << 16 | (VALID if valid else 0))

    def mapti(self, device: int, event: int, intid: int, icid: int = 0) -> int:
        return self.run(0x0A | device << 32, event | intid << 32, icid)

    def mapi(self, device: int, event: int, icid: int = 0) -> int:
        return self.run(0x0B | device << 32, event, icid)

    def movi(self, device: int, event: int, icid: int) -> int:
        return self.run(0x01 | device << 32, event, icid)

    def movall(self, source: int, target: int) -> int:
        return self.run(0x0E, 0, source << 16, target << 16)

    def on_event(self, command: int, device: int, event: int) -> int:
        """INT 3, CLEAR 4, INV 12, DISCARD 15."""
        return self.run(command | device << 32, event)

    def int_(self, device: int, event: int) -> int:
        return self.on_event(0x03, device, event)

    def clear(self, device: int, event: int) -> int:
        return self.on_event(0x04, device, event)

    def inv(self, device: int, event: int) -> int:
        return self.on_event(0x0C, device, event)

    def discard(self, device: int, event: int) -> int:
        return self.on_event(0x0F, device, event)

    def invall(self, icid: int) -> int:
        return self.run(0x0D, 0, icid)

    def sync(self, cpu: int) -> int:
        return self.run(0x05, 0, cpu << 16)

    def prop(self, intid: int, prio: int = 0x80, enabled: bool = True) -> None:
        """The byte of an LPI in the property table; cached until INV."""
        self.m.poke(PROPS + intid - LPI, prio & 0xFC | enabled, 1)

    def event(self, device: int, event: int, intid: int, icid: int = 0, prio: int = 0x80) -> None:
        """Map an event, with its device when it has none yet, and enable its LPI."""
        if not self.m.peek(DEVICES + 8 * device) & VALID:
            assert self.mapd(device, itt=ITTS + 0x1000 * device) == 0
        self.prop(intid, prio)
        assert self.mapti(device, event, intid, icid) == 0
