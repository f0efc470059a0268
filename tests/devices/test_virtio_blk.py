"""virtio-blk: requests, errors, options, locking, the image file."""

from __future__ import annotations

import os
import struct
from dataclasses import replace

import pytest

from bhyvepy.devices.virtio.blk import BlkOptions, VirtioBlk, default_serial
from bhyvepy.errors import DeviceError

OK, IOERR, UNSUPP = 0, 1, 2
IN, OUT, FLUSH, GET_ID, DISCARD, ZEROES = 0, 1, 4, 8, 11, 13
F_RO, F_FLUSH, F_WCE, F_DISCARD, F_ZEROES = 1 << 5, 1 << 9, 1 << 11, 1 << 13, 1 << 14
SECTORS = 64


@pytest.fixture
def image(tmp_path):
    """A disk of 64 sectors, each filled with its number."""
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(bytes([i]) * 512 for i in range(SECTORS)))
    return path


@pytest.fixture
def disk(kit, image):
    """A running disk, with request helpers."""
    d = Disk(kit, image)
    yield d
    d.close()


class Disk:
    """The driver's view of a disk."""

    def __init__(self, kit, path, features=F_FLUSH, **options):
        self.kit = kit
        self.blk = VirtioBlk(BlkOptions(str(path), **options))
        self.drv = kit.Driver(self.blk)
        self.drv.start(features | kit.INDIRECT_DESC)
        self.mem = self.drv.memory
        self.hdr, self.data, self.status = kit.BUF, kit.BUF + 0x1000, kit.BUF + 0x800

    def close(self):
        self.drv.close()

    def request(self, kind, sector, *parts):
        """Status and used length of one request; parts are (addr, length, writable)."""
        self.mem.write(self.hdr, struct.pack("<IIQ", kind, 0, sector))
        self.mem.write(self.status, b"\xff")
        n = self.drv.run((self.hdr, 16, False), *parts, (self.status, 1, True))
        return self.mem.read(self.status, 1)[0], n

    def read(self, sector, length=512):
        return self.request(IN, sector, (self.data, length, True))

    def write(self, sector, data):
        self.mem.write(self.data, data)
        return self.request(OUT, sector, (self.data, len(data), False))

    def segments(self, kind, *segments):
        raw = b"".join(struct.pack("<QII", *s) for s in segments)
        self.mem.write(self.data, raw)
        return self.request(kind, 0, (self.data, len(raw), False))


def test_read(disk):
    """A read fills the buffers; the used length is data plus status."""
    assert disk.read(3, 1024) == (OK, 1025)
    assert disk.mem.read(disk.data, 1025) == b"\3" * 512 + b"\4" * 512 + b"\0"


def test_write(disk, image):
    """A write reaches the file and nothing beside it."""
    assert disk.write(5, b"x" * 512) == (OK, 1)
    data = image.read_bytes()
    assert data[5 * 512 : 6 * 512] == b"x" * 512
    assert data[: 5 * 512] == b"".join(bytes([i]) * 512 for i in range(5))
    assert data[6 * 512 :][:1] == b"\6"


def test_scattered_buffers(disk):
    """Data may be cut into buffers of any size, in both directions."""
    sizes = [1, 511, 500, 12]
    parts, at = [], disk.data
    for n in sizes:
        parts.append((at, n, True))
        at += n + 7
    assert disk.request(IN, 1, *parts) == (OK, 1025)
    got = b"".join(disk.mem.read(a, n) for a, n, _ in parts)
    assert got == b"\1" * 512 + b"\2" * 512
    assert disk.request(OUT, 9, *[(a, n, False) for a, n, _ in parts]) == (OK, 1)
    assert disk.read(9, 1024) == (OK, 1025)
    assert disk.mem.read(disk.data, 1024) == got


def test_header_split_and_status_in_a_longer_buffer(kit, disk):
    """ANY_LAYOUT: header over three buffers with data behind, status behind the data."""
    disk.mem.write(disk.hdr, struct.pack("<IIQ", IN, 0, 7))
    n = disk.drv.run(
        (disk.hdr, 1, False),
        (disk.hdr + 1, 10, False),
        (disk.hdr + 11, 5, False),
        (disk.data, 513, True),
    )
    assert n == 513
    assert disk.mem.read(disk.data, 513) == b"\7" * 512 + b"\0"
    disk.mem.write(disk.hdr, struct.pack("<IIQ", OUT, 0, 8) + b"y" * 512)
    assert disk.drv.run((disk.hdr, 16 + 512, False), (disk.status, 1, True)) == 1
    disk.read(8)
    assert disk.mem.read(disk.data, 512) == b"y" * 512


@pytest.mark.parametrize(
    ("sector", "length"),
    [
        (SECTORS, 512),
        (SECTORS - 1, 1024),
        (SECTORS + 1, 512),
        (1 << 55, 512),
        ((1 << 55) - 1, 1024),
        ((1 << 64) - 1, 512),
        (0, 511),
        (0, 513),
    ],
)
def test_v18_out_of_range(disk, image, sector, length):
    """Beyond the end, wrapping, or not whole sectors: IOERR, and not even a part is done."""
    before = image.read_bytes()
    disk.mem.write(disk.data, b"\xcc" * length)
    assert disk.request(IN, sector, (disk.data, length, True)) == (IOERR, 1)
    assert disk.mem.read(disk.data, length) == b"\xcc" * length
    assert disk.request(OUT, sector, (disk.data, length, False)) == (IOERR, 1)
    assert image.read_bytes() == before


def test_last_sector(disk):
    """The last sector can be read and written."""
    assert disk.read(SECTORS - 1) == (OK, 513)
    assert disk.write(SECTORS - 1, b"e" * 512) == (OK, 1)


def test_empty_transfer(disk):
    """A transfer of nothing succeeds."""
    assert disk.request(IN, 0) == (OK, 1)
    assert disk.request(OUT, 0) == (OK, 1)


@pytest.mark.parametrize("kind", [2, 3, 5, 6, 7, 9, 10, 12, 14, 0x80000000, 0xFFFFFFFF])
def test_unknown_request(disk, kind):
    """A request type that there is not is UNSUPP."""
    assert disk.request(kind, 0, (disk.data, 512, True)) == (UNSUPP, 1)


def test_v13_no_status_byte(kit, disk):
    """A request without a writable byte comes back with length 0."""
    assert disk.drv.run((disk.hdr, 16, False)) == 0
    assert disk.drv.run((disk.hdr, 16, False), (disk.status, 0, True)) == 0


@pytest.mark.parametrize("length", [0, 1, 15])
def test_short_header(disk, length):
    """A header of less than 16 bytes is IOERR."""
    assert disk.drv.run((disk.hdr, length, False), (disk.status, 1, True)) == 1
    assert disk.mem.read(disk.status, 1) == b"\1"


def test_flush(disk, monkeypatch):
    """FLUSH is fdatasync, with or without data and sector."""
    calls = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    assert disk.request(FLUSH, 0) == (OK, 1)
    assert disk.request(FLUSH, 99, (disk.data, 512, False)) == (OK, 1)
    assert len(calls) == 2


def test_write_through_without_flush(kit, image, monkeypatch):
    """A driver that did not take FLUSH has its writes on disk when they complete."""
    d = Disk(kit, image, features=0)
    calls = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    d.write(0, bytes(512))
    assert len(calls) == 1
    d.close()


def test_writeback_toggle(kit, image, monkeypatch):
    """CONFIG_WCE: writeback = 0 makes writes go through; reset turns the cache on again."""
    d = Disk(kit, image, features=F_FLUSH | F_WCE)
    calls = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    d.write(0, bytes(512))
    assert (d.drv.mmio.read(0x120, 1), calls) == (1, [])
    d.drv.mmio.write(0x120, 1, 0)
    assert d.drv.mmio.read(0x120, 1) == 0
    d.write(0, bytes(512))
    assert len(calls) == 1
    d.drv.w(0x70, 0)
    assert d.drv.mmio.read(0x120, 1) == 1
    d.close()


@pytest.mark.parametrize("room", [20, 19, 4, 21, 512])
def test_f14_get_id(kit, image, room):
    """GET_ID gives up to 20 bytes of serial number, whatever the buffer."""
    d = Disk(kit, image, serial="SER-1")
    assert d.request(GET_ID, 0, (d.data, room, True)) == (OK, min(room, 20) + 1)
    assert d.mem.read(d.data, min(room, 20)) == b"SER-1".ljust(20, b"\0")[:room]
    d.close()


def test_default_serial():
    """Without ser= it is bhyve's: BHYVE and a hash of the path, 20 characters."""
    assert default_serial("/a") == default_serial("/a") != default_serial("/b")
    assert len(default_serial("/a")) == 20


def test_read_only(kit, image):
    """A read-only disk says so, refuses writes without a trace, and still flushes."""
    before = image.read_bytes()
    d = Disk(kit, image, features=F_RO, readonly=True)
    assert d.blk.features & (F_RO | F_ZEROES | F_DISCARD) == F_RO
    assert d.read(1) == (OK, 513)
    assert d.write(1, b"w" * 512) == (IOERR, 1)
    assert d.segments(ZEROES, (0, 1, 0)) == (UNSUPP, 1)
    assert d.request(FLUSH, 0) == (OK, 1)
    assert image.read_bytes() == before
    d.close()


def test_discard(disk, image):
    """Discarded sectors read as zeroes; the rest stays."""
    if not disk.blk.disk.can_discard:
        pytest.skip("the file system cannot punch holes")
    assert disk.segments(DISCARD, (1, 2, 0), (10, 1, 0)) == (OK, 1)
    data = image.read_bytes()
    assert data[512:1536] == bytes(1024)
    assert data[5120:5632] == bytes(512)
    assert data[1536:1537] == b"\3"
    assert len(data) == SECTORS * 512


@pytest.mark.parametrize("flags", [0, 1])
def test_write_zeroes(disk, image, flags):
    """Zeroes are written, with unmap allowed or not."""
    assert disk.segments(ZEROES, (2, 3, flags)) == (OK, 1)
    data = image.read_bytes()
    assert data[1024:2560] == bytes(1536)
    assert (data[1023], data[2560]) == (1, 5)


@pytest.mark.parametrize(
    ("segments", "status"),
    [
        ([(SECTORS, 1, 0)], IOERR),
        ([(SECTORS - 1, 2, 0)], IOERR),
        ([((1 << 55) - 1, 0xFFFFFFFF, 0)], IOERR),
        ([((1 << 64) - 1, 2, 0)], IOERR),
        ([(0, 1, 0), (SECTORS, 1, 0)], IOERR),
        ([(0, 1, 2)], UNSUPP),
        ([(0, 1, 0xFFFFFFFF)], UNSUPP),
        ([], IOERR),
        ([(0, 1, 0)] * 17, IOERR),
        ([(0, 1 << 23, 0)], IOERR),
    ],
)
@pytest.mark.parametrize("kind", [DISCARD, ZEROES])
def test_v15_bad_segments(disk, image, kind, segments, status):
    """Segments out of range, too many or with unknown flags: nothing at all is done."""
    before = image.read_bytes()
    assert disk.segments(kind, *segments) == (status, 1)
    assert image.read_bytes() == before


@pytest.mark.parametrize(("kind", "most"), [(DISCARD, 1 << 22), (ZEROES, 1 << 14)])
def test_segments_larger_than_offered(kit, tmp_path, kind, most):
    """A segment of one sector more than the configuration space allows is refused."""
    path = tmp_path / "large.img"
    with path.open("wb") as f:
        f.truncate(8 << 30)
    d = Disk(kit, path)
    if kind == DISCARD and not d.blk.disk.can_discard:
        pytest.skip("the file system cannot punch holes")
    assert d.drv.mmio.read(0x124 if kind == DISCARD else 0x130, 4) == most
    assert d.segments(kind, (0, most, 0)) == (OK, 1)
    assert d.segments(kind, (0, most + 1, 0)) == (IOERR, 1)
    d.close()


def test_discard_with_unmap_flag(disk):
    """The unmap flag means nothing on DISCARD and is refused."""
    assert disk.segments(DISCARD, (0, 1, 1)) == (UNSUPP, 1)


def test_segment_of_odd_length(disk):
    """Segments that are not 16 bytes each are IOERR."""
    assert disk.request(ZEROES, 0, (disk.data, 17, False)) == (IOERR, 1)


def test_nodelete(kit, image):
    """nodelete: discard is neither offered nor done."""
    d = Disk(kit, image, nodelete=True)
    assert not d.blk.features & F_DISCARD
    assert d.segments(DISCARD, (0, 1, 0)) == (UNSUPP, 1)
    d.close()


def test_image_cut_short(disk, image):
    """An image that shrinks under the VM gives IOERR; the VM goes on."""
    os.truncate(image, 512)
    assert disk.read(5) == (IOERR, 1)
    assert disk.read(0) == (OK, 513)


def test_host_error(disk, monkeypatch):
    """ENOSPC of the host is IOERR for the guest, and the next request works."""
    monkeypatch.setattr(VirtioBlk, "fast", False)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(os, "pwritev", full)
        assert disk.write(0, bytes(512)) == (IOERR, 1)
    assert disk.write(0, bytes(512)) == (OK, 1)


def test_v07_partial_writes_continue_without_repeats(disk, monkeypatch):
    """V07: after a short write only the rest is written."""
    monkeypatch.setattr(VirtioBlk, "fast", False)
    calls = []
    real = os.pwritev

    def short(fd, views, offset):
        calls.append((offset, sum(map(len, views))))
        return real(fd, [views[0][:100]], offset)

    disk.mem.write(disk.data, bytes(i & 0xFF for i in range(512)))
    with monkeypatch.context() as m:
        m.setattr(os, "pwritev", short)
        status = disk.request(OUT, 2, (disk.data, 200, False), (disk.data + 200, 312, False))
    assert status == (OK, 1)
    assert calls[:3] == [(1024, 512), (1124, 412), (1224, 312)]
    disk.mem.write(disk.data, bytes(512))
    disk.read(2)
    assert disk.mem.read(disk.data, 512) == bytes(i & 0xFF for i in range(512))


def test_l05_never_probed(kit, image):
    """A qcow2 header with a backing file in sector 0 is data: the disk stays raw."""
    d = Disk(kit, image)
    magic = b"QFI\xfb" + bytes(4) + struct.pack(">QI", 0x200, 11) + b"/etc/passwd"
    d.write(0, magic.ljust(512, b"\0"))
    d.close()
    d = Disk(kit, image)
    assert d.blk.disk.sectors == SECTORS
    d.read(0)
    assert d.mem.read(d.data, len(magic)) == magic
    d.close()


def test_config_space(kit, image):
    """Capacity, block size, topology and limits are where virtio says."""
    d = Disk(kit, image, logical=512, physical=4096)
    m = d.drv.mmio
    assert m.read(0x100, 8) == SECTORS
    assert m.read(0x10C, 4) == 254
    assert m.read(0x114, 4) == 512
    assert m.read(0x118, 1) == 3
    assert m.read(0x11A, 2) == 8
    assert m.read(0x130, 4) > 0
    assert m.read(0x138, 1) == 1
    d.close()


def test_lock(kit, image):
    """A writable image belongs to one VM; readers share; all with a line that says so."""
    d = Disk(kit, image)
    for readonly in (False, True):
        with pytest.raises(DeviceError, match="in use by another VM"):
            VirtioBlk(BlkOptions(str(image), readonly=readonly))
    d.close()
    a = VirtioBlk(BlkOptions(str(image), readonly=True))
    b = VirtioBlk(BlkOptions(str(image), readonly=True))
    with pytest.raises(DeviceError, match="in use"):
        VirtioBlk(BlkOptions(str(image)))
    a.close()
    b.close()
    VirtioBlk(BlkOptions(str(image))).close()


def test_bad_images(tmp_path):
    """What is no disk is refused in one line with the remedy."""
    empty = tmp_path / "empty"
    empty.write_bytes(b"x" * 511)
    os.mkfifo(tmp_path / "fifo")
    for path, words in (
        (tmp_path / "none", "truncate"),
        (empty, "less than a sector"),
        (tmp_path, "directory"),
        ("/dev/zero", "not a file"),
        (tmp_path / "fifo", "not a file"),
        ("a\0b", "null"),
    ):
        with pytest.raises(DeviceError, match=words) as err:
            VirtioBlk(BlkOptions(str(path)))
        assert "\n" not in str(err.value)
    (tmp_path / "small").write_bytes(bytes(512))
    with pytest.raises(DeviceError, match="less than one sector"):
        VirtioBlk(BlkOptions(str(tmp_path / "small"), logical=4096, physical=4096))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "wants a disk"),
        ({"path": "x", "r0": "true"}, "no option 'r0'"),
        ({"path": "x", "ser": "a" * 21}, "20"),
        ({"path": "x", "ser": "\u00e9"}, "ASCII"),
        ({"path": "x", "sectorsize": "500"}, "sectorsize"),
        ({"path": "x", "sectorsize": "4096/512"}, "sectorsize"),
        ({"path": "x", "sectorsize": "512/4096/1"}, "sectorsize"),
        ({"path": "x", "sectorsize": ""}, "sectorsize"),
        ({"path": "x", "sectorsize": "1" * 5000}, "sectorsize"),
    ],
)
def test_bad_options(options, words):
    """Options that are wrong are named in one line."""
    with pytest.raises(DeviceError, match=words) as err:
        BlkOptions.parse(options)
    assert len(str(err.value)) < 300


def test_options():
    """Every option of bhyve's virtio-blk is understood."""
    got = BlkOptions.parse(
        {
            "path": "d",
            "ro": "true",
            "nocache": "true",
            "direct": "true",
            "nodelete": "true",
            "ser": "S",
            "sectorsize": "512/4096",
            "bootindex": "1",
        }
    )
    want = BlkOptions("d", True, True, True, True, "S", 512, 4096)
    assert got == want
    assert replace(BlkOptions.parse({"path": "d", "sync": "true"}), path="e").sync


def test_direct_io_with_unaligned_buffers(kit, tmp_path):
    """nocache works from buffers that O_DIRECT itself would refuse."""
    path = tmp_path / "direct.img"
    path.write_bytes(b"".join(bytes([i]) * 512 for i in range(64)))
    try:
        d = Disk(kit, path, nocache=True)
    except DeviceError:
        pytest.skip("the file system has no direct I/O")
    d.data += 3
    assert d.read(8, 4096)[0] == OK
    assert d.mem.read(d.data, 4096) == b"".join(bytes([i]) * 512 for i in range(8, 16))
    assert d.write(8, b"q" * 4096)[0] == OK
    d.close()
    assert path.read_bytes()[8 * 512 : 16 * 512] == b"q" * 4096
