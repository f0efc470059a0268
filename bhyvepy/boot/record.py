"""The load record: what bhyveload leaves in a VM for bhyve.

A JSON object with a magic and a version. Whoever may write the VM's files may write
it, so parse() takes nothing on trust: types, ranges and lengths are checked, and
anything odd is one LoadError. Not here: how the values come about (plan.py), or the
device tree made from them (machdep.py).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from bhyvepy.errors import LoadError
from bhyvepy.layout import IPA_LIMIT

MAGIC = "bhyvepy-load-record"
VERSION = 1
MAX_BYTES = 262144  # VM_MAX_LOADREC
RNG_SEED_BYTES = 64

# How the kernel is told about its machine:
#   fdt      x0 = physical address of the device tree
#   modinfo  x0 = virtual address of a FreeBSD MODINFO chain, which names the tree
#   openbsd  x0 = where the kernel ends, x2 = physical address of the device tree
#   none     no device tree
PROTOCOLS = ("fdt", "modinfo", "openbsd", "none")


@dataclass(frozen=True, slots=True)
class Seeds:
    """Randomness for the guest's /chosen node."""

    kaslr: int  # u64, /chosen/kaslr-seed
    rng: bytes  # RNG_SEED_BYTES, /chosen/rng-seed


def make_seeds(seed: int | None) -> Seeds:
    """Fresh seeds, or with a number (`-o fdt.seed=N`) the same ones each time."""
    if seed is None:
        raw = os.urandom(8 + RNG_SEED_BYTES)
    else:
        raw = hashlib.shake_256(b"bhyvepy fdt.seed %d" % seed).digest(8 + RNG_SEED_BYTES)
    # Linux takes a kaslr-seed of 0 as "none given".
    return Seeds(int.from_bytes(raw[:8], "big") or 1, raw[8:])


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """All that bhyve must know of a load."""

    kernel: str
    form: str
    protocol: str
    entry: int
    x0: int
    memory_base: int
    memory_size: int
    seeds: Seeds
    dtb_gpa: int = 0
    dtb_room: int = 0
    dtb_given: bool = False
    bootargs: str = ""
    env: tuple[str, ...] = ()
    initrd: tuple[int, int] | None = None
    x2: int = 0

    def dump(self) -> bytes:
        """As bytes for vm_set_load_record()."""
        data = {
            "magic": MAGIC,
            "version": VERSION,
            "kernel": self.kernel,
            "form": self.form,
            "protocol": self.protocol,
            "entry": self.entry,
            "x0": self.x0,
            "x2": self.x2,
            "memory": {"base": self.memory_base, "size": self.memory_size},
            "dtb": {"gpa": self.dtb_gpa, "room": self.dtb_room, "given": self.dtb_given},
            "seeds": {"kaslr": self.seeds.kaslr, "rng": self.seeds.rng.hex()},
            "bootargs": self.bootargs,
            "env": list(self.env),
            "initrd": list(self.initrd) if self.initrd else None,
        }
        raw = json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode()
        if len(raw) > MAX_BYTES:
            raise LoadError(
                f"the load record has {len(raw)} bytes and may have {MAX_BYTES}: "
                "use fewer or shorter -e variables"
            )
        return raw


class _BadRecordError(Exception):
    pass


def parse(raw: bytes) -> LoadRecord:
    """Read what dump() wrote; LoadError for anything else."""
    try:
        if len(raw) > MAX_BYTES:
            raise _BadRecordError("it is too long")
        data = json.loads(raw)
        if not isinstance(data, dict) or data.get("magic") != MAGIC:
            raise _BadRecordError("it is none of ours")
        if data.get("version") != VERSION:
            raise _BadRecordError(f"version {data.get('version')!r:.20} is not {VERSION}")
        return _build(data)
    except (ValueError, RecursionError) as err:
        reason = "it is no JSON" if not isinstance(err, UnicodeError) else "it is no text"
        raise LoadError(_message(reason)) from None
    except _BadRecordError as err:
        raise LoadError(_message(str(err))) from None


def _message(reason: str) -> str:
    return f"the load record of the VM is damaged ({reason}): destroy the VM and load it again"


def _build(data: dict[str, Any]) -> LoadRecord:
    memory, dtb, seeds = (_dict(data, key) for key in ("memory", "dtb", "seeds"))
    initrd = data.get("initrd")
    if initrd is not None:
        if not isinstance(initrd, list) or len(initrd) != 2:
            raise _BadRecordError("initrd")
        pair = {"start": initrd[0], "end": initrd[1]}
        initrd = (_int(pair, "start", IPA_LIMIT), _int(pair, "end", IPA_LIMIT))
        if initrd[0] >= initrd[1]:
            raise _BadRecordError("initrd")
    env = data.get("env")
    if not isinstance(env, list) or not all(isinstance(item, str) for item in env):
        raise _BadRecordError("env")
    given = dtb.get("given")
    if not isinstance(given, bool):
        raise _BadRecordError("dtb.given")
    try:
        rng = bytes.fromhex(_str(seeds, "rng"))
    except ValueError:
        raise _BadRecordError("seeds.rng") from None
    rec = LoadRecord(
        kernel=_str(data, "kernel"),
        form=_str(data, "form"),
        protocol=_str(data, "protocol"),
        entry=_int(data, "entry", IPA_LIMIT),
        x0=_int(data, "x0", 1 << 64),
        memory_base=_int(memory, "base", IPA_LIMIT),
        memory_size=_int(memory, "size", IPA_LIMIT),
        seeds=Seeds(_int(seeds, "kaslr", 1 << 64), rng),
        dtb_gpa=_int(dtb, "gpa", IPA_LIMIT),
        dtb_room=_int(dtb, "room", IPA_LIMIT),
        dtb_given=given,
        bootargs=_str(data, "bootargs"),
        env=tuple(env),
        initrd=initrd,
        x2=_int(data, "x2", 1 << 64),
    )
    if rec.protocol not in PROTOCOLS:
        raise _BadRecordError("protocol")
    if rec.dtb_gpa % 8 or rec.dtb_gpa + rec.dtb_room > IPA_LIMIT:
        raise _BadRecordError("dtb")
    if rec.memory_size == 0 or rec.memory_base + rec.memory_size > IPA_LIMIT:
        raise _BadRecordError("memory")
    if len(rng) > 4096 or "\0" in rec.bootargs or any("\0" in item for item in env):
        raise _BadRecordError("text")
    return rec


def _dict(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    if not isinstance(value, dict):
        raise _BadRecordError(key)
    return value


def _int(data: dict[str, Any], key: str, limit: int) -> int:
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
        raise _BadRecordError(key)
    return value


def _str(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise _BadRecordError(key)
    return value
