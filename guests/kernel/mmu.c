/*
 * The MMU: an identity map of 512 GiB in 1 GiB blocks, RAM as Normal memory,
 * everything else as Device-nGnRnE (Arm ARM DDI 0487, D8).
 */
#include "kernel.h"

static uint64_t table[512] __attribute__((aligned(4096)));

#define BLOCK 1u
#define ATTR(n) ((uint64_t)(n) << 2)
#define INNER_SHAREABLE (3u << 8)
#define AF (1u << 10)
#define PXN (1ull << 53)
#define UXN (1ull << 54)

void
mmu_init(uint64_t ram, uint64_t kernel)
{
	for (uint64_t i = 0; i < 512; i++) {
		uint64_t pa = i << 30;

		if (i == ram >> 30 || i == kernel >> 30)
			table[i] = pa | BLOCK | ATTR(0) | INNER_SHAREABLE | AF | UXN;
		else
			table[i] = pa | BLOCK | ATTR(1) | AF | UXN | PXN;
	}
	msr(mair_el1, 0x00ff);
	/*
	 * T0SZ 25: 39 bits	TG0: 4K		walks cacheable, inner shareable
	 * EPD1: no upper half	IPS: 40 bits
	 */
	msr(tcr_el1, 25u | (1u << 8) | (1u << 10) | (3u << 12) | (1u << 23) | (2ull << 32));
	msr(ttbr0_el1, (uint64_t)(uintptr_t)table);
	dsb();
	isb();
	__asm__ volatile("tlbi vmalle1; dsb sy; isb" : : : "memory");
	msr(sctlr_el1, mrs(sctlr_el1) | 1u | (1u << 2) | (1u << 12));
	isb();
}
