/*
 * Translation tables: 39-bit addresses, 4 KiB granule. 1 GiB blocks map every
 * address to itself, RAM as Normal memory and all else as Device-nGnRE, but the
 * last GiB has the window of pages that tests change.
 */
#include "lib.h"

/* DDI 0487, D8.3: block or page, AF, inner shareable, AttrIndx. */
#define BLOCK_NORMAL UINT64_C(0x701)
#define BLOCK_DEVICE UINT64_C(0x405)
#define TABLE UINT64_C(3)
#define GIB (UINT64_C(1) << 30)

/* MAIR: 0 Normal write-back, 1 Device-nGnRE. */
#define MAIR UINT64_C(0x04ff)
/* T0SZ 25, write-back inner shareable walks, EPD1, 40-bit output. */
#define TCR (UINT64_C(25) | 1u << 8 | 1u << 10 | 3u << 12 | 1u << 23 | UINT64_C(2) << 32)
#define SCTLR_M 1u
#define SCTLR_C (1u << 2)
#define SCTLR_I (1u << 12)

static uint64_t l1[512] __attribute__((aligned(4096)));
static uint64_t l2[512] __attribute__((aligned(4096)));
static volatile uint64_t l3[512] __attribute__((aligned(4096)));

static void
build(void)
{
	for (uint64_t i = 0; i < 511; i++) {
		bool ram = i * GIB < machine.ram + machine.ram_size && (i + 1) * GIB > machine.ram;

		l1[i] = i * GIB | (ram ? BLOCK_NORMAL : BLOCK_DEVICE);
	}
	l1[511] = (uintptr_t)l2 | TABLE;
	l2[0] = (uintptr_t)l3 | TABLE;
}

void
mmu_on(void)
{
	if (l1[511] == 0)
		build();
	dsb();
	msr(mair_el1, MAIR);
	msr(tcr_el1, TCR);
	msr(ttbr0_el1, (uintptr_t)l1);
	__asm__ volatile("isb; tlbi vmalle1; dsb nsh; isb" : : : "memory");
	msr(sctlr_el1, mrs(sctlr_el1) | SCTLR_M | SCTLR_C | SCTLR_I);
	isb();
}

void
window_set(unsigned page, uint64_t descriptor)
{
	l3[page] = descriptor;
	__asm__ volatile("dsb ishst; isb" : : : "memory");
}

void
window_flush(unsigned page)
{
	__asm__ volatile("dsb ishst; tlbi vaae1is, %0; dsb ish; isb"
			 :
			 : "r"((WINDOW_VA >> 12) + page)
			 : "memory");
}
