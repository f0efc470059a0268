"""An example of a device in Python: it adds two numbers, in three ways.

    bhyveload -k kernel vm
    bhyve -b -s 0x1000@0x30000#60:python,guests/adder.py:Adder,step=5 vm

Write A and B, set CTRL.start: SUM has the result, STATUS.done is set, and with CTRL.irq
the interrupt is raised until the guest writes 1 to STATUS.done. The SMCCC function
0xc6000001 adds x1 and x2. The system register S3_0_C15_C2_0 counts up by `step` at each
read, and a write sets it. docs/devices.md explains it line by line.
"""

from collections.abc import Mapping

from bhyvepy.devices.own import OwnDevice, Register, SysReg, smccc


class Adder(OwnDevice):
    """The device; one instance for each -s."""

    compatible = ("bhyvepy,adder",)

    ID = Register(0x00, reset=0x00ADDE12, access="ro")
    A = Register(0x08, size=8)
    B = Register(0x10, size=8)
    SUM = Register(0x18, size=8, access="ro")
    CTRL = Register(0x20, fields={"start": 0, "irq": 1, "mode": (5, 4)})
    STATUS = Register(0x24, access="w1c", fields={"done": 0, "overflow": 1})
    COUNT = SysReg("S3_0_C15_C2_0")

    def start(self, options: Mapping[str, str]) -> None:
        """step=N: what COUNT goes up by."""
        self.step = int(options.get("step", "1"))

    def write_CTRL(self, value: int) -> None:  # noqa: N802
        """The guest wrote CTRL."""
        if self.CTRL.start:
            total = int(self.A) + int(self.B)
            self.SUM = total
            self.STATUS.done = 1
            self.STATUS.overflow = total >> 64
            self.CTRL.start = 0
        self._line()

    def write_STATUS(self, value: int) -> None:  # noqa: N802
        """The guest cleared bits."""
        self._line()

    def _line(self) -> None:
        self.irq(bool(self.CTRL.irq and self.STATUS.done))

    def read_COUNT(self) -> int:  # noqa: N802
        """The guest read S3_0_C15_C2_0."""
        self.COUNT = int(self.COUNT) + self.step
        return int(self.COUNT)

    @smccc(0xC6000001)
    def add(self, a: int, b: int) -> int:
        """HVC with x0 = 0xc6000001."""
        return a + b

    @smccc(0xC6000002)
    def show(self) -> None:
        """Print all registers on the host's standard error."""
        self.say(f"{self.CTRL}, {self.STATUS}, {self.SUM}")
