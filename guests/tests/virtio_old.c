/*
 * The virtio-mmio devices of the tree, as the drivers of bhyvearm64's time found them:
 * each is there in version 1, and a disk, a source of entropy, a console and a network
 * card take a request.
 */
#include "lib.h"

static void
blk(struct virtio *v)
{
	uint64_t sectors = virtio_blk_sectors(v);
	uint8_t *a = page_alloc(1), *b = page_alloc(1);
	bool same = true;

	report(sectors >= 2, "the disk has sectors");
	report(virtio_begin(v, 0), "the disk's driver starts");
	report(virtio_blk(v, false, 0, a, 1), "a sector can be read");
	put_string("INFO sector 0: ");
	for (unsigned i = 0; i < 32 && a[i] >= ' ' && a[i] < 127; i++)
		put_string((char[]){ (char)a[i], '\0' });
	put_string("\n");
	for (unsigned i = 0; i < 512; i++)
		a[i] ^= 0x20;
	report(virtio_blk(v, true, sectors - 1, a, 1), "the last one can be written");
	report(virtio_blk(v, false, sectors - 1, b, 1), "and read again");
	for (unsigned i = 0; i < 512; i++)
		same = same && a[i] == b[i];
	report(same, "with what was written");
	report(!virtio_blk(v, false, sectors, b, 1), "there is none behind it");
}

static void
rnd(struct virtio *v)
{
	uint64_t *a = page_alloc(1);
	struct virtio_buf buf = { a, 64, true };

	report(virtio_begin(v, 0), "the entropy driver starts");
	report(virtio_do(v, &buf, 1) == 64, "64 bytes come");
	report(a[0] != a[1] && a[2] != a[3] && a[7] != 0, "and look random");
}

/* Queue 1 of both takes what is sent. */
static void
console(struct virtio *v)
{
	static char text[] = "hello from the guest\n";
	struct virtio_buf buf = { text, sizeof(text) - 1, false };

	report(virtio_begin(v, 1), "the console's driver starts");
	report(virtio_do(v, &buf, 1) == 0, "the console takes a line");
}

static void
net(struct virtio *v)
{
	/* The legacy header of 10 bytes (5.1.6), and a broadcast frame of an unknown type. */
	uint8_t *frame = page_alloc(1);
	struct virtio_buf bufs[] = { { frame, 10, false }, { frame + 10, 60, false } };

	for (unsigned i = 0; i < 6; i++)
		frame[10 + i] = 0xff;
	frame[10 + 6] = 0x02;
	frame[10 + 12] = 0x88;
	frame[10 + 13] = 0xb5;
	report(virtio_begin(v, 1), "the network driver starts");
	report(virtio_do(v, bufs, 2) == 0, "the network takes a frame");
}

void
test_main(void)
{
	struct virtio v;
	unsigned found = 0;

	for (unsigned n = 0; virtio_find(n, &v); n++) {
		if (v.magic != VIRTIO_MAGIC) {
			info("nothing at %lx", v.base);
			continue;
		}
		info("virtio-mmio at %lx: version %u, device %u", v.base, v.version, v.device);
		report(v.version == 1, "the device at %lx is of version 1", v.base);
		switch (v.device) {
		case VIRTIO_BLK:
			blk(&v);
			break;
		case VIRTIO_RND:
			rnd(&v);
			break;
		case VIRTIO_CONSOLE:
			console(&v);
			break;
		case VIRTIO_NET:
			net(&v);
			break;
		default:
			continue;
		}
		found++;
	}
	report(found != 0, "there are virtio devices");
}
