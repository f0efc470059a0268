"""The x86-64 encoder of the translator against a disassembler."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from core_lib import FLAGS, ROOT

SIZE = re.compile(r"\b(?:BYTE|WORD|DWORD|QWORD|OWORD|XMMWORD) PTR ")


def disassemble(code: Path) -> list[str]:
    """One text an instruction, without operand sizes and with one blank."""
    argv = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "-w", str(code)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 2]
    # Newer ones have a comma before {sae}.
    texts = [" ".join(SIZE.sub("", text).split()).replace(",{", "{") for _, _, text in lines]
    # objdump writes the shortest number of an address that wraps around.
    return [re.sub(r"\[rip\+0x[0-9a-f]+\]", "[rip]", text) for text in texts]


def test_encoder_writes_what_it_says(tmp_path: Path) -> None:
    """Each function of the encoder gives the instruction it is named after, with its operands."""
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    program, code = tmp_path / "encoder", tmp_path / "code"
    core = ROOT / "vmmcore"
    source = Path(__file__).with_name("jit_encoder.c")
    subprocess.run(["gcc", *FLAGS, "-O0", f"-I{core}", source, "-o", program], check=True)
    done = subprocess.run([program, code], capture_output=True, text=True, check=True)
    said = done.stdout.lower().splitlines()
    found = disassemble(code)
    wrong = [f"{a!r} is {b!r}" for a, b in zip(said, found, strict=False) if a != b]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(said)} differ", *wrong[:20]])
    assert len(said) == len(found) > 2000
