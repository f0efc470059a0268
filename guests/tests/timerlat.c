/*
 * Timer latency: how long after its deadline an interrupt of the virtual timer
 * is taken, from sleep (WFI) and from a loop.
 *
 *	deadlines=N	of 1 ms each (default 500)
 *	strict		fail unless 99 % come within 200 us: for an idle host core
 */
#include "lib.h"

#define PERIOD_US 1000
#define LIMIT_NS 200000

static volatile bool rang;
static uint64_t *late; /* ticks */
static volatile uint64_t deadline, latency;

static void
taken(unsigned intid)
{
	uint64_t now = ticks();

	if (intid != INTID_VTIMER)
		return;
	latency = now - deadline;
	msr(cntv_ctl_el0, 2);
	isb();
	rang = true;
}

static void
arm(void)
{
	rang = false;
	deadline = ticks() + us_to_ticks(PERIOD_US);
	msr(cntv_cval_el0, deadline);
	msr(cntv_ctl_el0, 1);
	isb();
}

static void
sort(uint64_t *v, unsigned n)
{
	for (unsigned gap = n / 2; gap > 0; gap /= 2)
		for (unsigned i = gap; i < n; i++)
			for (unsigned k = i; k >= gap && v[k - gap] > v[k]; k -= gap) {
				uint64_t t = v[k];

				v[k] = v[k - gap];
				v[k - gap] = t;
			}
}

static void
measure(const char *how, bool asleep, unsigned n)
{
	unsigned early = 0, lost = 0;
	uint64_t p99;

	for (unsigned i = 0; i < n; i++) {
		irq_off();
		arm();
		if (asleep)
			while (!rang) {
				wfi();
				irq_on();
				irq_off();
			}
		else {
			irq_on();
			lost += !wait_for(rang, 10000);
			irq_off();
		}
		early += (int64_t)latency < 0;
		late[i] = latency;
	}
	sort(late, n);
	p99 = ticks_to_ns(late[n * 99 / 100]);
	report(early == 0, "%s: no interrupt comes before its deadline", how);
	report(lost == 0, "%s: every deadline is an interrupt", how);
	if (arg_given("strict"))
		report(p99 <= LIMIT_NS, "%s: 99 %% of the deadlines within 200 us", how);
	info("%s: median %lu ns, 99 %% %lu ns, longest %lu ns", how, ticks_to_ns(late[n / 2]), p99,
	    ticks_to_ns(late[n - 1]));
}

void
test_main(void)
{
	unsigned n = (unsigned)arg_number("deadlines", 500);

	if (n > 4096)
		n = 4096;
	late = page_alloc(n * 8 / 4096 + 1);
	gic_init();
	irq_handler = taken;
	gic_enable(INTID_VTIMER, 0x80);
	measure("asleep", true, n);
	measure("in a loop", false, n);
}
