/*
 * What the tests of interrupt controllers share: the distributor's registers, and what is
 * signalled to this CPU. Interrupts stay masked; a test looks at ISR_EL1.
 */
#ifndef GIC_REGS_H
#define GIC_REGS_H

#include "lib.h"

#define GICD_CTLR 0x0
#define GICD_TYPER 0x4
#define GICD_SETSPI 0x40
#define GICD_CLRSPI 0x48
#define IGROUPR 0x80
#define ISENABLER 0x100
#define ICENABLER 0x180
#define ISPENDR 0x200
#define ICPENDR 0x280
#define ISACTIVER 0x300
#define ICACTIVER 0x380
#define IPRIORITYR 0x400
#define ICFGR 0xc00
#define IROUTER 0x6000
#define IROUTER_IRM (UINT64_C(1) << 31)
#define PIDR2 0xffe8
#define GICR_TYPER 0x8
#define GICR_WAKER 0x14
#define SGI 0x10000
#define SPURIOUS 1023u

/* The interrupts that the tests of a distributor use. */
#define SPI 64u
#define NSPI 64u

static inline void
settle(void)
{
	dsb();
	isb();
}

static inline bool
irq(void)
{
	settle();
	return ((mrs(isr_el1) & 0x80) != 0);
}

static inline bool
fiq(void)
{
	settle();
	return ((mrs(isr_el1) & 0x40) != 0);
}

/* A register with a bit for each interrupt. */
static inline bool
bit_of(uint64_t base, unsigned reg, unsigned intid)
{
	return ((r32(base + reg + intid / 32 * 4) >> intid % 32 & 1) != 0);
}

static inline void
set_bit(uint64_t base, unsigned reg, unsigned intid)
{
	w32(base + reg + intid / 32 * 4, 1u << intid % 32);
	dsb();
}

#endif /* GIC_REGS_H */
