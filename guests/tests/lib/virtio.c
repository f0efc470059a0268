/*
 * A polled driver for one queue of a virtio-mmio device, version 1 (legacy) or 2:
 * what a boot ROM needs, and what shows that a device does its work.
 *
 * Virtio 1.2, 4.2.2 (registers), 4.2.4 (legacy interface), 2.7 (split queues).
 */
#include "lib.h"

#define R_MAGIC 0x00
#define R_VERSION 0x04
#define R_DEVICE 0x08
#define R_HOST_FEATURES 0x10
#define R_HOST_SEL 0x14
#define R_GUEST_FEATURES 0x20
#define R_GUEST_SEL 0x24
#define R_PAGE_SIZE 0x28 /* legacy */
#define R_QUEUE_SEL 0x30
#define R_QUEUE_MAX 0x34
#define R_QUEUE_NUM 0x38
#define R_QUEUE_ALIGN 0x3c /* legacy */
#define R_QUEUE_PFN 0x40   /* legacy */
#define R_QUEUE_READY 0x44
#define R_NOTIFY 0x50
#define R_INT_STATUS 0x60
#define R_INT_ACK 0x64
#define R_STATUS 0x70
#define R_DESC 0x80
#define R_AVAIL 0x90
#define R_USED 0xa0

#define S_ACKNOWLEDGE 1u
#define S_DRIVER 2u
#define S_DRIVER_OK 4u
#define S_FEATURES_OK 8u
#define S_FAILED 128u

#define TIMEOUT_MS 20000

bool
virtio_find(unsigned n, struct virtio *v)
{
	struct fdt_node node;

	if (!fdt_compatible("virtio,mmio", n, &node))
		return (false);
	v->want = 0;
	v->desc = NULL;
	v->base = fdt_cells2(&node, "reg", 0);
	v->magic = r32(v->base + R_MAGIC);
	v->version = r32(v->base + R_VERSION);
	v->device = v->magic == VIRTIO_MAGIC ? r32(v->base + R_DEVICE) : 0;
	return (true);
}

static void
queue_addresses(struct virtio *v)
{
	uint64_t at[3] = { (uintptr_t)v->desc, (uintptr_t)v->avail, (uintptr_t)v->used };

	for (unsigned i = 0; i < 3; i++) {
		w32(v->base + R_DESC + i * 0x10, (uint32_t)at[i]);
		w32(v->base + R_DESC + i * 0x10 + 4, (uint32_t)(at[i] >> 32));
	}
	w32(v->base + R_QUEUE_READY, 1);
}

bool
virtio_begin(struct virtio *v, unsigned queue)
{
	/* The legacy layout serves both: descriptors, available ring, used ring on a page. */
	uint8_t *ring = v->desc != NULL ? (uint8_t *)v->desc : page_alloc(2);
	uint32_t status = S_ACKNOWLEDGE | S_DRIVER;

	v->queue = queue;
	v->desc = (struct virtio_desc *)ring;
	v->avail = (volatile uint16_t *)(ring + VIRTIO_NUM * sizeof(struct virtio_desc));
	v->used = (struct virtio_used *)(ring + 4096);
	v->seen = 0;
	w32(v->base + R_STATUS, 0);
	for (unsigned i = 0; i < 2 * 4096; i += 8)
		w64((uintptr_t)ring + i, 0);
	w32(v->base + R_STATUS, status);
	for (unsigned sel = 0; sel < 2; sel++) {
		w32(v->base + R_GUEST_SEL, sel);
		/* VIRTIO_F_VERSION_1 is bit 32. */
		w32(v->base + R_GUEST_FEATURES, sel == 0 ? v->want : v->version == 2);
	}
	if (v->version == 2) {
		status |= S_FEATURES_OK;
		w32(v->base + R_STATUS, status);
		if ((r32(v->base + R_STATUS) & S_FEATURES_OK) == 0)
			return (false);
	} else
		w32(v->base + R_PAGE_SIZE, 4096);
	w32(v->base + R_QUEUE_SEL, queue);
	if (r32(v->base + R_QUEUE_MAX) < VIRTIO_NUM)
		return (false);
	w32(v->base + R_QUEUE_NUM, VIRTIO_NUM);
	if (v->version == 2)
		queue_addresses(v);
	else {
		w32(v->base + R_QUEUE_ALIGN, 4096);
		w32(v->base + R_QUEUE_PFN, (uint32_t)((uintptr_t)ring >> 12));
	}
	w32(v->base + R_STATUS, status | S_DRIVER_OK);
	return ((r32(v->base + R_STATUS) & S_FAILED) == 0);
}

void
virtio_offer(struct virtio *v, unsigned head)
{
	uint16_t idx = v->avail[1];

	v->avail[2 + idx % VIRTIO_NUM] = (uint16_t)head;
	dsb();
	v->avail[1] = (uint16_t)(idx + 1);
	dsb();
	w32(v->base + R_NOTIFY, v->queue);
}

int64_t
virtio_wait(struct virtio *v, unsigned ms)
{
	if (!wait_for(v->used->idx != v->seen, ms))
		return (-1);
	dsb();
	w32(v->base + R_INT_ACK, r32(v->base + R_INT_STATUS));
	return (v->used->ring[v->seen++ % VIRTIO_NUM].len);
}

int64_t
virtio_do(struct virtio *v, const struct virtio_buf *bufs, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint16_t more = i + 1 < n ? VIRTIO_D_NEXT : 0;

		v->desc[i].addr = (uintptr_t)bufs[i].at;
		v->desc[i].len = bufs[i].len;
		v->desc[i].flags = (uint16_t)((bufs[i].in ? VIRTIO_D_WRITE : 0) | more);
		v->desc[i].next = (uint16_t)(i + 1);
	}
	virtio_offer(v, 0);
	return (virtio_wait(v, TIMEOUT_MS));
}

/* Virtio 1.2, 5.2.6: a header, the data, a status byte. */
bool
virtio_blk(struct virtio *v, bool write, uint64_t sector, void *data, uint32_t sectors)
{
	static struct {
		uint32_t type, reserved;
		uint64_t sector;
	} head;
	static volatile uint8_t status;
	struct virtio_buf bufs[] = {
		{ &head, sizeof(head), false },
		{ data, sectors * 512, !write },
		{ (void *)(uintptr_t)&status, 1, true },
	};

	head.type = write;
	head.sector = sector;
	status = 0xff;
	return (virtio_do(v, bufs, 3) >= 1 && status == 0);
}

uint64_t
virtio_blk_sectors(const struct virtio *v)
{
	return (r32(v->base + 0x100) | (uint64_t)r32(v->base + 0x104) << 32);
}
