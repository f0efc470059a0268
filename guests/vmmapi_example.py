"""A VM from nothing with libvmmapi: one vCPU, 2 MiB of RAM, a UART, seven instructions.

python3 -m bhyvepy.guests.vmmapi_example
"""

import struct

from bhyvepy import libvmmapi as v
from bhyvepy.vmexit import InstEmulExit, SmcccExit, SuspendedExit, SuspendHow

UART, RAM = 0x10000, 0x80000000
CODE = [
    0xD2A00021,  # mov  x1, #0x10000
    0x10000102,  # adr  x2, text
    0x38401443,  # 1: ldrb w3, [x2], #1
    0x34000063,  # cbz  w3, 2f
    0x39000023,  # strb w3, [x1]
    0x17FFFFFD,  # b    1b
    0x52800100,  # 2: mov w0, #8
    0x72B08000,  # movk w0, #0x8400, lsl #16    PSCI SYSTEM_OFF
    0xD4000002,  # hvc  #0
]


def main(name: str = "example") -> str:
    """Run it to its end; what it printed."""
    v.vm_create(name)
    vm, out = v.vm_open(name), ""
    v.vm_setup_memory(vm, 2 << 20, RAM)
    v.vm_copyout(vm, struct.pack("<9I", *CODE) + b"Hello\n\0", [(RAM, 43)])
    vcpu = v.vm_vcpu_open(vm, 0)
    v.vm_set_register_set(vcpu, {"pc": RAM, "cpsr": 0x3C5})
    vm.set_load_record(b"{}")
    vm.run_begin()
    v.vm_activate_cpu(vcpu)
    while not isinstance(exit_ := v.vm_run(vcpu), SuspendedExit):
        if isinstance(exit_, InstEmulExit) and exit_.gpa == UART and exit_.write:
            out += chr(exit_.data)
        elif isinstance(exit_, SmcccExit):
            v.vm_suspend(vm, SuspendHow.POWEROFF)
    vm.run_end()
    v.vm_destroy(vm)
    return out


if __name__ == "__main__":
    print(main(), end="")
