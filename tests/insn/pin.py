"""The pinned hash of the set of UNDEFINED words: undefined.pin.

    pin.py                    decode all 2^32 words and compare
    pin.py --update REASON    append the new hash with the reason

Responsible for: the file and the comparison.  Not for decoding: sweep.c.  A line of the file
is the number of UNDEFINED words, the hash, and why it changed; the last one counts.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness

PIN = Path(__file__).resolve().parent / "undefined.pin"


def sweep_all(sweep: Path) -> tuple[str, str]:
    """How many words are UNDEFINED, and the hash of their set."""
    done = subprocess.run([sweep, "all", "2"], capture_output=True, text=True, check=True)
    m = re.match(r"rows (\d+) undefined (\d+) hash ([0-9a-f]{16})$", done.stdout.strip())
    if m is None:
        raise RuntimeError(done.stdout)
    return m[2], m[3]


def pinned() -> tuple[str, str]:
    """The same, as last agreed on."""
    lines = [s for s in PIN.read_text().splitlines() if s and not s.startswith("#")]
    words, digest, *_ = lines[-1].split(maxsplit=2)
    return words, digest


def main(argv: list[str]) -> int:
    found = sweep_all(harness.build_sweep(harness.build_dir()))
    if argv[:1] == ["--update"] and len(argv) == 2:
        with PIN.open("a") as f:
            f.write(" ".join([*found, argv[1]]) + "\n")
        return 0
    if argv:
        print(__doc__, file=sys.stderr)
        return 2
    print("found ", *found)
    print("pinned", *pinned())
    return found != pinned()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
