/*
 * GICv3: distributor, the first redistributor, CPU interface (IHI 0069).
 */
#include "kernel.h"

#define GICD_CTLR 0x0
#define GICD_IGROUPR 0x80
#define GICD_ISENABLER 0x100
#define GICD_IPRIORITYR 0x400
#define GICD_IROUTER 0x6000
#define GICR_WAKER 0x14
#define SGI_BASE 0x10000

void
gic_init(void)
{
	uint64_t rd = machine.redist, sgi = rd + SGI_BASE;

	w32(machine.dist + GICD_CTLR, 1u << 4 | 1u << 1); /* ARE, group 1 */
	w32(rd + GICR_WAKER, r32(rd + GICR_WAKER) & ~2u);
	while ((r32(rd + GICR_WAKER) & 4u) != 0)
		;
	w32(sgi + GICD_IGROUPR, ~0u);
	msr(S3_0_C12_C12_5, mrs(S3_0_C12_C12_5) | 1); /* ICC_SRE_EL1 */
	isb();
	msr(S3_0_C4_C6_0, 0xf0); /* ICC_PMR_EL1 */
	msr(S3_0_C12_C12_7, 1);  /* ICC_IGRPEN1_EL1 */
	isb();
}

void
gic_enable(uint32_t intid)
{
	uint64_t base = intid < 32 ? machine.redist + SGI_BASE : machine.dist;

	w8(base + GICD_IPRIORITYR + intid, 0x80);
	if (intid >= 32) {
		w32(base + GICD_IGROUPR + intid / 32 * 4,
		    r32(base + GICD_IGROUPR + intid / 32 * 4) | 1u << (intid % 32));
		*(volatile uint64_t *)(base + GICD_IROUTER + intid * 8ull) =
		    mrs(mpidr_el1) & 0xff00ffffffull;
	}
	w32(base + GICD_ISENABLER + intid / 32 * 4, 1u << (intid % 32));
}

uint32_t
gic_ack(void)
{
	return ((uint32_t)mrs(S3_0_C12_C12_0)); /* ICC_IAR1_EL1 */
}

void
gic_eoi(uint32_t intid)
{
	msr(S3_0_C12_C12_1, intid); /* ICC_EOIR1_EL1 */
	isb();
}
