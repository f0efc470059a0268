/*
 * The CPU interface of GICv3 for the tests that acknowledge by hand.
 */
#ifndef GIC_V3_H
#define GIC_V3_H

#include "gic_regs.h"

#define iar0() ((unsigned)mrs(S3_0_C12_C8_0))
#define eoir0(n) msr(S3_0_C12_C8_1, n)
#define hppir0() ((unsigned)mrs(S3_0_C12_C8_2))
#define bpr0() ((unsigned)mrs(S3_0_C12_C8_3))
#define set_bpr0(v) msr(S3_0_C12_C8_3, v)
#define iar1() ((unsigned)mrs(S3_0_C12_C12_0))
#define eoir1(n) msr(S3_0_C12_C12_1, n)
#define hppir1() ((unsigned)mrs(S3_0_C12_C12_2))
#define bpr1() ((unsigned)mrs(S3_0_C12_C12_3))
#define set_bpr1(v) msr(S3_0_C12_C12_3, v)
#define dir(n) msr(S3_0_C12_C11_1, n)
#define rpr() ((unsigned)mrs(S3_0_C12_C11_3))
#define set_pmr(v) msr(S3_0_C4_C6_0, v)
#define get_ctlr() mrs(S3_0_C12_C12_4)
#define set_ctlr(v) msr(S3_0_C12_C12_4, v)
#define set_grp0(v) msr(S3_0_C12_C12_6, v)
#define set_grp1(v) msr(S3_0_C12_C12_7, v)
#define sgi1r(v) msr(S3_0_C12_C11_5, v)

/* What is signalled now, else 1023; what soon is (from another CPU). */
static inline unsigned
take(void)
{
	settle();
	return (iar1());
}

static inline unsigned
take_soon(void)
{
	return (wait_for(irq(), 2000) ? take() : SPURIOUS);
}

static inline void
end(unsigned intid)
{
	eoir1(intid);
	isb();
}

/* An edge-triggered SPI of a priority, to this CPU. */
static inline void
spi(unsigned intid, unsigned priority)
{
	gic_set_edge(intid, true);
	gic_enable(intid, priority);
}

/* Nothing pending, active or enabled among the SPIs that are used here. */
static inline bool
clean(void)
{
	uint64_t d = machine.gicd;
	bool was = take() == SPURIOUS && rpr() == 0xff;

	for (unsigned n = SPI; n < SPI + NSPI; n += 32) {
		was = was && r32(d + ISACTIVER + n / 8) == 0 && r32(d + ISPENDR + n / 8) == 0;
		w32(d + ICENABLER + n / 8, ~0u);
		w32(d + ICPENDR + n / 8, ~0u);
		w32(d + ICACTIVER + n / 8, ~0u);
	}
	return (was);
}

#endif /* GIC_V3_H */
