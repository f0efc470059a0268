"""gdb-multiarch on bhyve -G: our own kernel from its first instruction, Debian's as it runs."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from bhyvepy.gdb import packet

from .conftest import fetch
from .framework import POWERED_OFF, Vmm, until
from .test_machine import kernel
from .test_smp import boot, end

pytestmark = [pytest.mark.timeout(300)]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def gdb(port: int, script: str, path: Path) -> str:
    """A batch session."""
    exe = shutil.which("gdb-multiarch")
    assert exe, "install gdb-multiarch"
    path.write_text(
        "set pagination off\nset confirm off\nset remotetimeout 20\n"
        f"set tcp connect-timeout 20\ntarget remote localhost:{port}\n{script}"
    )
    done = subprocess.run(
        [exe, "-batch", "-nx", "-x", path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "Error in sourced command" not in said, said
    return said


OWN = """
info threads
printf "entry %lx\\n", $pc
add-symbol-file {elf} -o 0x80000000
break test_main
continue
printf "at %d %d\\n", $pc == (long)&test_main || $pc == (long)&test_main + 8, $cpsr & 15
printf "vbar %d\\n", $VBAR_EL1 == (long)&vectors
set $before = $pc
stepi
printf "step %d\\n", $pc - $before
hbreak psci
continue
printf "fn %lx\\n", $x0
delete
watch *(unsigned long *)$sp
tbreak *$lr
continue
delete
set $x9 = 0x1234567890
set $v3.u64[1] = 77
printf "set %lx %d\\n", $x9, $v3.u64[1]
hbreak cpu_start
continue
delete
hbreak secondary_main
continue
info threads
printf "second %d\\n", $_thread
delete
x/2i secondary_main
detach
"""


def test_own_kernel(vmm: Vmm, tmp_path: Path) -> None:
    """Wait for gdb; breakpoints of both kinds, steps, registers, a second vCPU; then detach."""
    image, port = kernel("smp"), free_port()
    vmm.load("-k", image, "-m", "128M", "-a", "rounds=20")
    guest = vmm.bhyve("-b", "-c", "2", "-G", f"w127.0.0.1:{port}", "vm")
    said = gdb(port, OWN.format(elf=f"{image}.elf"), tmp_path / "script")
    assert re.search(r"\* 1 +Thread 1 \(vCPU 0\)", said), said
    assert "entry 80000000" in said
    assert "hit Breakpoint 1, " in said
    assert "at 1 5" in said, said
    assert "vbar 1" in said
    assert "step 4" in said
    assert re.search(r"fn (8400000|c400000)\d", said), said
    assert "set 1234567890 77" in said
    assert "second 2" in said, said
    assert "detached" in said
    assert guest.wait() == POWERED_OFF
    assert " 0 failed" in guest.log.text, guest.log.text


LINUX = """
info threads
printf "vbar %lx\\n", $VBAR_EL1
x/4i $VBAR_EL1
printf "sp %d\\n", *(long *)$sp == *(long *)$sp
hbreak *($VBAR_EL1 + 0x280)
continue
printf "el %d\\n", $cpsr & 15
printf "hard %lx\\n", $pc - $VBAR_EL1
stepi
stepi
printf "steps %lx\\n", $pc - $VBAR_EL1
delete
break *($VBAR_EL1 + 0x400)
continue
printf "soft %lx\\n", $pc - $VBAR_EL1
printf "svc %d\\n", ($ESR_EL1 >> 26) & 63
x/i $pc
delete
detach
"""


@pytest.mark.fetch
@pytest.mark.slow
def test_linux(vmm: Vmm, tmp_path: Path) -> None:
    """A running Linux is stopped, looked at, stopped in its vectors, stepped, and goes on."""
    port = free_port()
    guest = boot(vmm, fetch("6.12-cloud"), "2", "-G", str(port))
    guest.line("dd if=/dev/zero of=/dev/null bs=4k &")
    said = gdb(port, LINUX, tmp_path / "script")
    assert len(re.findall(r"Thread [12] \(vCPU [01]\)", said)) >= 2, said
    assert re.search(r"vbar ffff[0-9a-f]{12}", said)
    for line in ("sp 1", "el 5", "hard 280", "soft 400"):
        assert line in said, said
    assert re.search(r"steps 28[48]|steps [0-9a-f]{3,}", said), said
    assert re.search(r"svc (21|36|32)", said), said
    assert "detached" in said
    guest.sh("kill %1; wait")
    assert "of" in guest.sh("cat /proc/loadavg; echo end of")
    end(vmm, guest)


HOSTILE = [
    "",
    "g0",
    "gffff",
    "G",
    "Gzz",
    "G00",
    "p",
    "pffffffff",
    "p-1",
    "P",
    "P0=",
    "P0=zz",
    "P0=00",
    "P22=00000000000000000",
    "m",
    "m,",
    "m0",
    "m0,0",
    "mffffffffffffffff,ffff",
    "m0,ffffffffffffffff",
    "m10000000000000000,1",
    "M0,4:00",
    "M0,4:zzzzzzzz",
    "M80000000,ffffffff:00",
    "X0,ff:x",
    "Z",
    "Z0",
    "Z0,zz,4",
    "Z0,1,4",
    "Z0,5,4",
    "Z9,0,4",
    "Z1,2,4",
    "Z2,ffffffffffffffff,8",
    "Z2,80000001,0",
    "Z3,80000001,10",
    "z0,99,4",
    "z2,1,2",
    "Hg99",
    "Hgzz",
    "Hx",
    "T0ff",
    "T",
    "vCont",
    "vCont;",
    "vCont;x",
    "vCont;c:77",
    "vCont;s:zz",
    "vKillx",
    "qXfer:features:read:target.xml:zz",
    "qXfer:features:read:target.xml:ffffffff,ff",
    "qThreadExtraInfo,99",
    "qSupported:" + "x" * 5000,
    "czz",
    "s-",
    "\x00\xff\xfe",
]


def test_hostile_packets(vmm: Vmm) -> None:
    """Packets without sense get an error or nothing to say; the guest and bhyve go on."""
    port = free_port()
    vmm.load("-k", kernel("rtc"), "-m", "128M")
    guest = vmm.bhyve("-b", "-G", f"w{port}", "vm")

    def connect() -> bool:
        try:
            socket.create_connection(("localhost", port)).close()
        except OSError:
            return False
        return True

    until("bhyve listens", connect)
    # The guest was let go when that connection ended; a new one stops it.
    with socket.create_connection(("localhost", port)) as s:
        s.settimeout(20)
        for text in HOSTILE:
            s.sendall(packet.frame(text))
            answer = b""
            while b"#" not in answer or len(answer.partition(b"#")[2]) < 2:
                answer += s.recv(65536)
            assert answer.startswith(b"+$"), (text, answer)
        s.sendall(b"$g#00")  # a wrong checksum
        assert s.recv(1) == b"-"
        s.sendall(b"$" + b"x" * 100000)  # never ends
    with socket.create_connection(("localhost", port)) as s:
        s.settimeout(20)
        s.sendall(packet.frame("?"))
        answer = b""
        while b"#" not in answer:
            answer += s.recv(100)
        assert b"T05thread:1" in answer
        s.sendall(packet.frame("D"))
    assert guest.wait(60) == POWERED_OFF
    assert " 0 failed" in guest.log.text, guest.log.text


def test_kill_and_a_taken_port(vmm: Vmm, tmp_path: Path) -> None:
    """k powers the machine off; a port that is taken is one line and status 4."""
    port = free_port()
    vmm.load("-k", kernel("rtc"), "-m", "128M")
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
        done = vmm.run("bhyve", "-G", f"127.0.0.1:{port}", "vm")
        assert done.status == 4
        assert re.fullmatch(rf"bhyve: gdb cannot be served at 127.0.0.1:{port}: .*\n", done.err)
    guest = vmm.bhyve("-b", "-G", f"w127.0.0.1:{port}", "vm")
    assert "killed" in gdb(port, "kill\n", tmp_path / "script")
    assert guest.wait() == POWERED_OFF
