"""The Linux kernel's own tests of its cryptography, on our CPU's instructions.

The crypto manager tries an implementation against its test vectors when a module registers
it, and /proc/crypto says how that ended. tcrypt asks for all algorithms that there are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bhyvepy.guests import debian, modules

from .conftest import OFFLINE, fetch
from .framework import POWERED_OFF, Vmm

pytestmark = [pytest.mark.fetch, pytest.mark.slow, pytest.mark.timeout(600)]

# Parts of Arm's instruction set and an implementation that stands on each.
DRIVERS = {
    "AES": "cbc-aes-ce",
    "AES in CCM": "ccm-aes-ce",
    "PMULL": "gcm-aes-ce",
    "POLYVAL by PMULL": "polyval-ce",
    "CRC by PMULL": "crct10dif-arm64-ce",
    "SHA1": "sha1-ce",
    "SHA256": "sha256-ce",
    "SHA512": "sha512-ce",
    "SHA3": "sha3-256-ce",
    "AES by table lookups of Advanced SIMD": "cts-cbc-aes-neon",
    "AES by bit slices": "ctr-aes-neonbs",
    "ChaCha": "xchacha20-neon",
    "Poly1305": "poly1305-neon",
    "NHPoly1305": "nhpoly1305-neon",
    "SHA256 by Advanced SIMD": "sha256-arm64-neon",
    "none, by tcrypt alone": "wp512-generic",
}
# Debian builds some algorithms out: nothing to allocate (ENOENT) is no failed test.
FAILED = re.compile(r"^.*alg: .*(?:failed|mismatch|wrong)(?!.*(?:rc=-2\)|: -2)).*$", re.MULTILINE)


def crypto_modules(guest: debian.Guest) -> tuple[list[str], dict[str, modules.Module]]:
    """Names of arm64's modules, and all of cryptography; only OFFLINE=1 may skip."""
    try:
        return list(modules.fetch(guest, modules.CRYPTO_ARM64)), modules.fetch(
            guest, modules.CRYPTO
        )
    except debian.FetchError as err:
        if os.environ.get("OFFLINE") == "1":
            pytest.skip(f"{OFFLINE} and the modules are not cached: {err}")
        raise


def self_tests(vmm: Vmm, kernel: str, tmp_path: Path, *argv: str) -> dict[str, str]:
    """Each driver of /proc/crypto and what became of its tests."""
    guest = fetch(kernel)
    arm64, more = crypto_modules(guest)
    commands = "".join(f"modprobe {name}\n" for name in arm64)
    commands += "modprobe tcrypt 2>/dev/null\ncat /proc/crypto\ndmesg\npoweroff -f\n"
    initrd = tmp_path / "initrd.gz"
    initrd.write_bytes(modules.initrd(guest, more, {"/cmds.sh": commands.encode()}))
    vmm.load("-k", guest.vmlinuz, "-i", initrd, "-m", "512M", "-a", "console=ttyS0 quiet", *argv)
    done = vmm.run("bhyve", "-b", "vm", timeout=500)
    assert done.status == POWERED_OFF, done
    vmm.destroy()
    out = done.out.replace("\r", "")
    assert FAILED.findall(out) == []
    return dict(re.findall(r"^driver +: (\S+)$.*?^selftest +: (\S+)$", out, re.M | re.S))


def check(found: dict[str, str]) -> None:
    """All passed, and all parts were among them."""
    assert {name: state for name, state in found.items() if state != "passed"} == {}
    assert {part for part, driver in DRIVERS.items() if driver not in found} == set()


def test_the_kernel_trusts_its_cryptography(
    vmm: Vmm, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Every implementation of Debian's 6.1 passes its self-test."""
    found = self_tests(vmm, "6.1-cloud", tmp_path)
    check(found)
    figure(f"6.1-cloud: {len(found)} implementations of cryptography pass their self-tests")


@pytest.mark.long
@pytest.mark.parametrize(("kernel", "jit"), [("6.12-cloud", "on"), ("6.1-cloud", "off")])
def test_other_kernels_trust_theirs(vmm: Vmm, tmp_path: Path, kernel: str, jit: str) -> None:
    """The same with 6.12, and with the interpreter."""
    check(self_tests(vmm, kernel, tmp_path, "-o", f"jit={jit}"))


@pytest.mark.long
def test_a_cortex_a57_passes_what_it_has(vmm: Vmm, tmp_path: Path) -> None:
    """Without SHA512 and SHA3: these are done by other code, and nothing fails."""
    found = self_tests(vmm, "6.1-cloud", tmp_path, "-o", "cpu=cortex-a57")
    assert set(found.values()) == {"passed"}
    assert "sha512-ce" not in found
    assert "sha512-arm64" in found
