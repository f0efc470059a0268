/*
 * The tick: the virtual timer, PPI 27.
 */
#include "kernel.h"

#define INTID_VTIMER 27

volatile uint64_t ticks;
static uint64_t interval;

void
timer_init(unsigned hz)
{
	interval = mrs(cntfrq_el0) / hz;
	msr(cntv_cval_el0, mrs(cntvct_el0) + interval);
	msr(cntv_ctl_el0, 1);
	isb();
	gic_enable(INTID_VTIMER);
}

void
timer_irq(void)
{
	uint64_t next = mrs(cntv_cval_el0) + interval, now = mrs(cntvct_el0);

	ticks++;
	/* After a long stop, do not take the missed ticks one by one. */
	if (next <= now)
		next = now + interval;
	msr(cntv_cval_el0, next);
	isb();
}
