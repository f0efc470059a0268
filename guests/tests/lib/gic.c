/*
 * GICv3 (IHI 0069): as much as a test needs before it takes over.
 */
#include "lib.h"

#define GICD_CTLR 0x0
#define GICD_IGROUPR 0x80
#define GICD_ISENABLER 0x100
#define GICD_ICENABLER 0x180
#define GICD_IPRIORITYR 0x400
#define GICD_ICFGR 0xc00
#define GICD_IROUTER 0x6000
#define GICR_TYPER 0x8
#define GICR_WAKER 0x14
#define GICR_STRIDE 0x20000
#define SGI_BASE 0x10000

static bool initialised;

/* The frame whose GICR_TYPER has our affinity. */
static uint64_t
redistributor(void)
{
	uint64_t mpidr = this_cpu()->mpidr, typer;
	uint32_t want = (uint32_t)(mpidr & 0xffffff) | (uint32_t)(mpidr >> 32 & 0xff) << 24;

	for (uint64_t a = machine.gicr; a < machine.gicr + machine.gicr_size; a += GICR_STRIDE) {
		typer = r64(a + GICR_TYPER);
		if (typer >> 32 == want)
			return (a);
		if ((typer & 1u << 4) != 0) /* Last */
			break;
	}
	die("CPU %u has a redistributor", this_cpu()->index);
}

void
gic_cpu_init(void)
{
	struct cpu *cpu = this_cpu();

	if (!initialised)
		return;
	cpu->gicr = redistributor();
	w32(cpu->gicr + GICR_WAKER, r32(cpu->gicr + GICR_WAKER) & ~2u);
	while ((r32(cpu->gicr + GICR_WAKER) & 4u) != 0)
		relax();
	w32(cpu->gicr + SGI_BASE + GICD_IGROUPR, ~0u);
	msr(S3_0_C12_C12_5, mrs(S3_0_C12_C12_5) | 1); /* ICC_SRE_EL1 */
	isb();
	msr(S3_0_C4_C6_0, 0xf8); /* ICC_PMR_EL1 */
	msr(S3_0_C12_C12_7, 1);  /* ICC_IGRPEN1_EL1 */
	isb();
	for (unsigned i = 0; i < 16; i++)
		gic_enable(i, 0x80);
}

void
gic_init(void)
{
	if (machine.gicd == 0)
		die("the machine has a GICv3");
	w32(machine.gicd + GICD_CTLR, 1u << 4 | 1u << 1); /* ARE, group 1 */
	initialised = true;
	gic_cpu_init();
}

static uint64_t
bank(unsigned intid)
{
	return (intid < 32 ? this_cpu()->gicr + SGI_BASE : machine.gicd);
}

void
gic_enable(unsigned intid, unsigned priority)
{
	uint64_t b = bank(intid), group = b + GICD_IGROUPR + intid / 32 * 4;

	w8(b + GICD_IPRIORITYR + intid, (uint8_t)priority);
	w32(group, r32(group) | 1u << intid % 32);
	if (intid >= 32)
		w64(b + GICD_IROUTER + intid * 8ull, this_cpu()->mpidr);
	w32(b + GICD_ISENABLER + intid / 32 * 4, 1u << intid % 32);
	dsb();
}

void
gic_disable(unsigned intid)
{
	w32(bank(intid) + GICD_ICENABLER + intid / 32 * 4, 1u << intid % 32);
	dsb();
}

void
gic_set_edge(unsigned intid, bool edge)
{
	uint64_t reg = bank(intid) + GICD_ICFGR + intid / 16 * 4;
	uint32_t bit = 2u << intid % 16 * 2;

	w32(reg, edge ? r32(reg) | bit : r32(reg) & ~bit);
	dsb();
}

void
gic_send(unsigned intid, unsigned n)
{
	uint64_t m = cpus[n].mpidr;

	dsb();
	/* ICC_SGI1R_EL1: Aff3 55:48, RS 47:44, Aff2 39:32, INTID 27:24, Aff1 23:16, list 15:0 */
	msr(S3_0_C12_C11_5, (m >> 32 & 0xff) << 48 | (m >> 4 & 0xf) << 44 | (m >> 16 & 0xff) << 32 |
				(uint64_t)intid << 24 | (m >> 8 & 0xff) << 16 |
				UINT64_C(1) << (m & 0xf));
	isb();
}
