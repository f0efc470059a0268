"""The guards: where, what they are, what stands there without them, who must notice.

Responsible for the list alone. `where` is text of the file; the first `right` behind it is
replaced by `wrong`. Guards that another one stands behind are not here: taking one of
the two away changes nothing. The ids are those of docs/reference/reliability.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """One guard."""

    file: str
    where: str
    right: str
    wrong: str
    tests: str  # node ids, blanks between
    what: str


def _file(name: str, tests: str, *rows: tuple[str, str, str, str, str]) -> list[Guard]:
    """Rows are where, right, wrong, test functions, what; the tests are in the file `tests`."""
    out = []
    for where, right, wrong, functions, what in rows:
        ids = " ".join(f if "/" in f else f"{tests}::{f}" for f in functions.split())
        out.append(Guard(name, where, right, wrong, ids, what))
    return out


BAD_CHAIN = "test_v17_bad_chain_is_put_back_empty"
HOSTILE = "tests/devices/test_hostile.py"

GUARDS: list[Guard] = [
    *_file(
        "devices/virtio/queue.py",
        "tests/devices/test_virtqueue.py",
        (
            "def pop",
            "if waiting > self.num:",
            "if False:",
            f"test_v27_avail_index_jump_breaks_the_queue"
            f" {HOSTILE}::test_v17_v27_a_broken_ring_rests",
            "V27: an index beyond the ring",
        ),
        (
            "def pop",
            "if head >= self.num:",
            "if False:",
            "test_head_out_of_range_breaks_the_queue",
            "a head that is no descriptor",
        ),
        ("def pop", "self.push(head, 0)", "pass", BAD_CHAIN, "V13, V17: a bad chain is put back"),
        (
            "def _walk",
            "if not self.indirect:",
            "if False:",
            "test_indirect_not_negotiated",
            "INDIRECT that was not negotiated",
        ),
        ("def _walk", "if in_indirect:", "if False:", BAD_CHAIN, "a table in a table"),
        (
            "indirect descriptor in an",
            "if flags & DESC_F_NEXT:",
            "if False:",
            BAD_CHAIN,
            "INDIRECT with NEXT",
        ),
        (
            "def _walk",
            "if not length or length % DESC_SIZE:",
            "if not length:",
            BAD_CHAIN,
            "an indirect table cut in a descriptor",
        ),
        (
            "def _walk",
            "if not length or length % DESC_SIZE:",
            "if length % DESC_SIZE:",
            BAD_CHAIN,
            "an indirect table of nothing",
        ),
        (
            "def _walk",
            "if size > MAX_QUEUE_SIZE:",
            "if False:",
            BAD_CHAIN,
            "an indirect table beyond the limit",
        ),
        ("def _walk", "elif seen_writable:", "elif False:", BAD_CHAIN, "readable behind writable"),
        ("def _walk", "if following >= size:", "if False:", BAD_CHAIN, "next out of the table"),
        (
            "def _walk",
            "index = following",
            "index = _DESC.unpack_from(table, index * DESC_SIZE)[3]",
            f"{HOSTILE}::test_f16_descriptors_that_change_while_they_are_read",
            "F16: a descriptor is read once",
        ),
        (
            "def _map",
            "if n < 1 or n & (n - 1) or n > self.max_size:",
            "if n < 1:",
            "test_bad_rings_are_refused",
            "the size of a ring",
        ),
        (
            "def _map",
            "if addr & (align - 1):",
            "if False:",
            "test_bad_rings_are_refused",
            "the alignment of a ring",
        ),
        (
            "def _map",
            "if self.used < addr + length and addr < self.used + used_len:",
            "if False:",
            "test_bad_rings_are_refused",
            "a used ring over another",
        ),
        (
            "def _map",
            "self.memory.view(self.used, used_len, True)",
            "memoryview(bytearray(used_len))",
            "test_ring_in_read_only_memory_is_refused",
            "a used ring that cannot be written",
        ),
        (
            "def push(",
            "self._used32[at + 1] = length & 0xFFFFFFFF",
            "self._used32[at + 1] = length + 1 & 0xFFFFFFFF",
            f"{HOSTILE}::test_v24_length_is_what_was_written",
            "V24: used.len",
        ),
    ),
    *_file(
        "devices/virtio/mmio.py",
        "tests/devices/test_virtio_mmio.py",
        (
            "def _configurable",
            "if queue is None or queue.ready:",
            "if queue is not None and self.version == 2:\n            return queue\n"
            "        if queue is None or queue.ready:",
            f"test_v01_queue_settings_are_fixed_after_ready"
            f" {HOSTILE}::test_v01_everything_rewritten_while_live",
            "V01: settings of a live queue",
        ),
        (
            "def _status_allowed",
            "if old & ~new:",
            "if False:",
            "test_v06_status_order",
            "V06: bits of the status are not taken back",
        ),
        (
            "def _status_allowed",
            "if new & ST_DRIVER and not new & ST_ACKNOWLEDGE:",
            "if False:",
            "test_v06_status_order",
            "V06: DRIVER without ACKNOWLEDGE",
        ),
        (
            "def _status_allowed",
            "not (new & ST_DRIVER_OK and not old & ST_FEATURES_OK)",
            "True",
            "test_v06_status_order",
            "V06: DRIVER_OK without FEATURES_OK",
        ),
        (
            "def _live",
            "ST_NEEDS_RESET | ST_FAILED",
            "0",
            f"tests/devices/test_virtqueue.py::test_v27_avail_index_jump_breaks_the_queue"
            f" {HOSTILE}::test_v06_failed_is_the_end",
            "V06: a device that failed works on",
        ),
        (
            "def _w_status",
            "self._features & ~self.offered or ",
            "",
            f"test_features_must_be_offered {HOSTILE}::test_v19_no_packed_ring",
            "V19: features that were not offered",
        ),
        (
            "def _w_status",
            "or not self._features & F_VERSION_1",
            "",
            "test_version_1_is_required",
            "VERSION_1 is required",
        ),
        (
            "def _w_driver_features",
            "self._features |= 1 << 64",
            "pass",
            "test_features_beyond_64_are_refused",
            "features of a word that is not there",
        ),
        (
            "def _w_driver_features",
            "or self.status & (ST_FEATURES_OK | ST_DRIVER_OK)",
            "",
            "test_features_are_fixed_after_features_ok",
            "features behind FEATURES_OK",
        ),
        (
            "def _queue(",
            "if sel < len(self.queues) else None",
            "if True else None",
            "test_queue_that_is_not_there",
            "a queue that is not there",
        ),
        (
            "def _w_queue_ready",
            "if value not in (0, 1):",
            "if False:",
            "test_queue_ready_takes_0_and_1",
            "QueueReady of 2",
        ),
        (
            "def _w_queue_pfn",
            "or align & (align - 1)",
            "",
            "test_legacy_bad_page_size",
            "legacy alignments",
        ),
        (
            "def read(",
            "if size != 4:",
            "if False:",
            "test_registers_are_32_bit",
            "accesses that are not 32 bits",
        ),
        (
            "    def reset(self)",
            "with self._quiesced(), self._lock:",
            "with self._lock:",
            "test_reset_waits_for_the_request_in_flight",
            "a reset waits for what is in flight",
        ),
        (
            "def load(",
            'len(state["queues"]) != len(self.queues)',
            "False",
            f"{HOSTILE}::test_v30_state_of_another_device",
            "V30: a state of other queues",
        ),
    ),
    *_file(
        "devices/virtio/blk.py",
        "tests/devices/test_virtio_blk.py",
        (
            "def handle",
            "if not chain.writable:",
            "if False:",
            "test_v13_no_status_byte",
            "V13: no byte for the status",
        ),
        (
            "def handle",
            "if len(header) < _HEADER.size:",
            "if False:",
            f"test_short_header {HOSTILE}::test_v26_headers_of_every_length",
            "V26: a short header",
        ),
        (
            "def _range",
            "if length % SECTOR:",
            "if False:",
            "test_v18_out_of_range",
            "a transfer of half sectors",
        ),
        (
            "def _range",
            "if sector + length // SECTOR > self.disk.sectors:",
            "if False:",
            "test_v18_out_of_range",
            "V18: sectors beyond the end",
        ),
        (
            "def _segments",
            "if not total or total % _SEGMENT.size or total > MAX_SEGMENTS * _SEGMENT.size:",
            "if False:",
            "test_v15_bad_segments test_segment_of_odd_length",
            "how many segments",
        ),
        (
            "def _segments",
            "if flags & ~SEGMENT_F_UNMAP:",
            "if False:",
            "test_v15_bad_segments",
            "unknown flags of a segment",
        ),
        (
            "def _segments",
            "if count > limit:",
            "if False:",
            "test_segments_larger_than_offered",
            "a segment larger than was offered",
        ),
        (
            "def _segments",
            "self._range(start, count * SECTOR)",
            "pass",
            "test_v15_bad_segments",
            "V15: a segment beyond the end",
        ),
        (
            "def _discard",
            "if flags:",
            "if False:",
            "test_discard_with_unmap_flag",
            "DISCARD with the unmap flag",
        ),
        (
            "def _discard",
            "if not self.features & F_DISCARD:",
            "if False:",
            "test_nodelete",
            "DISCARD that was not offered",
        ),
        (
            "def handle",
            "except OSError as err:",
            "except ZeroDivisionError as err:",
            "test_host_error",
            "errors of the host",
        ),
        (
            "def _get_id",
            "done += len(part)\n        return done",
            "done += len(part)\n        return sum(map(len, room))",
            "test_f14_get_id",
            "F14: GET_ID says what it wrote",
        ),
    ),
    *_file(
        "devices/virtio/diskfile.py",
        "tests/devices/test_virtio_blk.py",
        (
            "def write",
            "views = _rest(views, n)",
            "views = views if n < 150 else _rest(views, n)",
            "test_v07_partial_writes_continue_without_repeats",
            "V07: nothing is written twice",
        ),
        (
            "def read",
            "if n == 0:",
            "if n == 0 and self.path == 0:",
            "test_image_cut_short",
            "an image that was cut",
        ),
        (
            "def _inspect",
            "if not self.regular and not stat.S_ISBLK(st.st_mode):",
            "if False:",
            "test_bad_images",
            "a disk that is a device or a FIFO",
        ),
    ),
    *_file(
        "devices/virtio/rnd.py",
        HOSTILE,
        (
            "def handle",
            "min(len(view), MAX_REQUEST - done)",
            "len(view)",
            "test_v05_aliased_gigabytes",
            "V05: entropy by the gigabyte",
        ),
    ),
    *_file(
        "devices/virtio/console.py",
        "tests/devices/test_virtio_console.py",
        (
            "def handle",
            "if len(text) < _CONTROL.size or",
            "if False or",
            "test_v26_short_control_message",
            "V26: a short control message",
        ),
        (
            "def handle",
            "elif number >= len(self.ports):",
            "elif False:",
            "test_unknown_port",
            "a port that is not there",
        ),
        (
            "def _control",
            "if len(self._messages) >= MAX_MESSAGES:",
            "if False:",
            "test_f11_messages_are_bounded",
            "F11: messages without end",
        ),
        (
            "def _tell",
            "if sum(map(len, chain.writable)) < len(text):",
            "if False:",
            "test_small_control_buffer",
            "a control buffer that is too small",
        ),
    ),
    *_file(
        "devices/virtio/net.py",
        "tests/devices/test_virtio_net.py",
        (
            "def _keep",
            "if chain.readable or size <= self._header:",
            "if False:",
            "test_v26_buffer_without_room test_readable_receive_buffer",
            "V26: buffers without room for a frame",
        ),
    ),
    *_file(
        "devices/base.py",
        "tests/devices/test_virtqueue.py",
        (
            "def complain",
            "if now < self._next:",
            "if False:",
            f"test_log_is_rate_limited {HOSTILE}::test_v31_a_flood_of_bad_chains",
            "V31: a flood of complaints",
        ),
    ),
    *_file(
        "devices/ns16550a.py",
        "tests/devices/test_ns16550a.py",
        (
            "def write",
            "if offset > SCR or size == 8 or offset & (size - 1):",
            "if False:",
            "test_odd_accesses_are_ignored",
            "writes of odd sizes",
        ),
        (
            "def push",
            "room = max(self._depth() - len(self._rx), 0)",
            "room = len(data)",
            "test_host_is_held_back",
            "V04: the FIFO holds no more than it has room for",
        ),
        (
            "def _receive",
            "if len(self._rx) < self._depth():",
            "if True:",
            "test_loopback_overrun_keeps_old_data",
            "an overrun in the loop",
        ),
        (
            "def write",
            "self._mcr = value & MCR_MASK",
            "self._mcr = value",
            "test_writable_bits",
            "bits of MCR that are not there",
        ),
    ),
    *_file(
        "devices/slots.py",
        "tests/devices/test_slots.py",
        (
            "def parse",
            "if not text.isprintable():",
            "if False:",
            "test_l07_bad_strings",
            "L07: control characters in -s",
        ),
        (
            "def parse",
            "if len(text) > MAX_TEXT:",
            "if False:",
            "test_l07_bad_strings",
            "L07: an argument without end",
        ),
        (
            "def check",
            "if spec.base < other.base + other.size and other.base < spec.base + spec.size:",
            "if False:",
            "test_clashes",
            "windows on top of each other",
        ),
    ),
    *_file(
        "bhyvepy/vmlist.py",
        "tests/functional/test_bad_input.py",
        (
            "def check_name",
            'if not ok or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):',
            "if not name:",
            "test_l07_vm_names",
            "L07: names of VMs",
        ),
    ),
    *_file(
        "bhyvepy/devtree.py",
        "tests/unit/test_fdt.py",
        (
            "magic != MAGIC",
            "if not _HEADER.size <= total <= _MAX_SIZE:",
            "if False:",
            "test_l01_bad_blobs",
            "L01: the size in a tree's header",
        ),
        (
            "class ",
            "if off_struct % 4 or off_reserved % 8:",
            "if False:",
            "test_l01_bad_blobs",
            "L01: misaligned blocks",
        ),
        (
            "misaligned",
            "if start < _HEADER.size or size < 0 or start + size > total:",
            "if False:",
            "test_l01_bad_blobs",
            "L01: blocks outside of the tree",
        ),
        (
            "class ",
            "if length > self.end - self.at:",
            "if False:",
            "test_l01_bad_blobs",
            "L01: a property without end",
        ),
        (
            "class ",
            "if len(stack) > _MAX_DEPTH:",
            "if False:",
            "test_l01_bad_blobs",
            "L01: nodes in nodes in nodes",
        ),
    ),
    *_file(
        "bhyvepy/boot/elf.py",
        "tests/unit/test_boot_forms.py",
        (
            "def parse",
            "if phentsize != _PHDR_SIZE:",
            "if False:",
            "test_l02_l03_bad_elf",
            "L02: the size of a program header",
        ),
        (
            "def parse",
            "if phoff + phnum * _PHDR_SIZE > len(data):",
            "if False:",
            "test_l02_l03_bad_elf",
            "L03: program headers behind the end",
        ),
        (
            "def parse",
            "if head.p_offset + head.p_filesz > len(data):",
            "if False:",
            "test_l02_l03_bad_elf",
            "L02: a segment behind the end",
        ),
        (
            "def parse",
            "if head.p_memsz < head.p_filesz:",
            "if False:",
            "test_l02_l03_bad_elf",
            "L02: more in the file than in memory",
        ),
        (
            "def parse",
            "if max(head.p_vaddr, head.p_paddr) + head.p_memsz > 1 << 64:",
            "if False:",
            "test_l02_l03_bad_elf",
            "L02: a segment around the end",
        ),
        (
            "def parse",
            "if low.vaddr + low.memsz > high.vaddr:",
            "if False:",
            "test_l02_l03_bad_elf",
            "L02: segments on top of each other",
        ),
        (
            "def parse",
            "if not any(s.executable and",
            "if False and any(s.executable and",
            "test_l02_l03_bad_elf",
            "L02: an entry nowhere",
        ),
    ),
    *_file(
        "bhyvepy/boot/source.py",
        "tests/unit/test_boot_plan.py",
        (
            "def read",
            "if not stat.S_ISREG(info.st_mode):",
            "if False:",
            "test_l03_files_that_are_refused",
            "L03: what is no regular file",
        ),
        (
            "def read",
            "if info.st_size > limit:",
            "if False:",
            "test_l03_files_that_are_refused",
            "L03: a sparse file of terabytes",
        ),
        (
            "def gunzip",
            "if len(out) > limit:",
            "if False:",
            "tests/unit/test_boot_forms.py::test_l04_a_gzip_bomb_stops_at_the_size_of_memory",
            "L04: a gzip bomb",
        ),
    ),
    *_file(
        "bhyvepy/boot/image.py",
        "tests/unit/test_boot_forms.py",
        (
            "def ",
            "if head.text_offset >= IPA_LIMIT or head.image_size >= IPA_LIMIT:",
            "if False:",
            "test_l04_bad_image_headers",
            "L04: an Image of exabytes",
        ),
    ),
]
