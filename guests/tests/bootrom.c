/*
 * A boot ROM: `bhyve -l bootrom -s 0x200@0x7000#44:virtio-blk,disk.img vm` loads a
 * kernel from a disk and starts it.
 *
 * It runs where it is placed, finds everything through the device tree in x0, and
 * takes the first virtio-blk disk that begins with an arm64 Image (Linux
 * Documentation/arch/arm64/booting.rst). The kernel goes 32 MiB behind the start of RAM
 * and is entered as that text asks: MMU and caches off, x0 = the device tree.
 */
#include "lib.h"

#define OFFSET (UINT64_C(32) << 20)
#define STEP 64u /* sectors of a read */

struct image {
	uint32_t code[2];
	uint64_t text_offset, image_size, flags, reserved[3];
	uint8_t magic[4];
	uint32_t pe;
};

static void start(uint64_t entry) __attribute__((noreturn));

static void
start(uint64_t entry)
{
	__asm__ volatile("dsb sy\n\t"
			 "msr sctlr_el1, %0\n\t"
			 "isb\n\t"
			 "ic iallu; dsb sy; isb\n\t"
			 "mov x0, %1\n\t"
			 "mov x1, xzr; mov x2, xzr; mov x3, xzr\n\t"
			 "br %2"
			 :
			 : "r"(mrs(sctlr_el1) & ~UINT64_C(0x1005)), "r"(fdt), "r"(entry)
			 : "x0", "x1", "x2", "x3", "memory");
	__builtin_unreachable();
}

static void
try(struct virtio *disk)
{
	uint64_t sectors = virtio_blk_sectors(disk), at, wanted;
	struct image *head = page_alloc(1);

	info(
	    "disk at %lx, virtio-mmio version %u, %lu sectors", disk->base, disk->version, sectors);
	if (!virtio_begin(disk, 0) || !virtio_blk(disk, false, 0, head, 1)) {
		info("it cannot be read");
		return;
	}
	if (head->magic[0] != 'A' || head->magic[1] != 'R' || head->magic[2] != 'M' ||
	    head->magic[3] != 0x64) {
		info("it does not begin with an arm64 Image");
		return;
	}
	at = ((machine.ram + (2u << 20) - 1) & ~UINT64_C(0x1fffff)) + OFFSET + head->text_offset;
	if (at + sectors * 512 > machine.ram + machine.ram_size) {
		info("memory is too small for it");
		return;
	}
	wanted = head->image_size / 512 + 1;
	if (wanted > sectors)
		wanted = sectors;
	for (uint64_t n = 0; n < wanted; n += STEP) {
		uint32_t count = (uint32_t)(wanted - n < STEP ? wanted - n : STEP);

		if (!virtio_blk(disk, false, n, (void *)(at + n * 512), count)) {
			info("sector %lu cannot be read", n);
			return;
		}
	}
	info("kernel at %lx, starting it", at);
	start(at);
}

void
test_main(void)
{
	struct virtio device;

	put_string("bhyvepy boot ROM\n");
	for (unsigned n = 0; virtio_find(n, &device); n++)
		if (device.device == VIRTIO_BLK)
			try(&device);
	report(false, "there is a disk that begins with a kernel");
}
