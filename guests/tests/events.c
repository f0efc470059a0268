/*
 * WFE and WFI: what ends them. A PE may end a WFE for no reason, so that each
 * check is that it does end, and that nothing is lost on the way.
 *
 *	rounds=N	of what is repeated
 */
#include "lib.h"

#define EVNTEN (1u << 2)
#define EVNTI(n) ((uint64_t)(n) << 4)
#define WFET(reg) ".inst 0xd5031000 | " #reg "\n"
#define WFIT(reg) ".inst 0xd5031020 | " #reg "\n"

static volatile uint32_t flag, asleep, woken;

static void
until_flag(void *arg)
{
	(void)arg;
	asleep = 1;
	dsb();
	while (flag == 0)
		wfe();
	woken = 1;
}

/* Asleep for a while, then woken by `how`. */
static bool
wakes(void (*fn)(void *), void (*how)(void))
{
	bool ok;

	flag = asleep = woken = 0;
	dsb();
	cpu_run(1, fn, NULL);
	wait_for(asleep != 0, 10000);
	delay_us(3000);
	how();
	ok = wait_for(woken != 0, 10000);
	flag = 1;
	sev();
	cpu_wait(1);
	return (ok);
}

static void
by_sev(void)
{
	flag = 1;
	sev();
}

/* The location is in the exclusive monitor; nobody sends an event. */
static void
until_opened(void *arg)
{
	uint32_t v;

	(void)arg;
	asleep = 1;
	dsb();
	for (;;) {
		__asm__ volatile("ldaxr %w0, [%1]" : "=r"(v) : "r"(&flag) : "memory");
		if (v != 0)
			break;
		wfe();
	}
	woken = 1;
}

static void
by_store(void)
{
	__atomic_store_n(&flag, 1, __ATOMIC_RELEASE);
}

static volatile uint32_t turn;

static void
play(void *arg)
{
	unsigned me = this_cpu()->index, rounds = *(unsigned *)arg;

	for (unsigned n = me; n < rounds; n += 2) {
		while (turn != n)
			wfe();
		/* Now and then the other falls asleep. */
		if (n % 16 < 2)
			delay_us(200);
		turn = n + 1;
		sev();
	}
}

static void
ping_pong(unsigned rounds)
{
	turn = 0;
	cpu_run_on(2, play, &rounds);
	report(turn == rounds, "no event of another CPU is lost");
}

static void
event_stream(void)
{
	uint64_t before;

	msr(cntkctl_el1, EVNTEN | EVNTI(14));
	isb();
	before = ticks();
	for (unsigned i = 0; i < 20; i++)
		wfe();
	msr(cntkctl_el1, 0);
	isb();
	/* 20 events, 2^15 counts apart. */
	report(ticks() - before < us_to_ticks(2000000), "the event stream ends WFE");
}

static void
timer_taken(unsigned intid)
{
	(void)intid;
	msr(cntv_ctl_el0, 2);
	isb();
	woken = 1;
}

static void
interrupts(void)
{
	irq_handler = timer_taken;
	gic_enable(INTID_VTIMER, 0x80);
	woken = 0;
	msr(cntv_cval_el0, ticks() + us_to_ticks(5000));
	msr(cntv_ctl_el0, 1);
	irq_on();
	while (!woken)
		wfe();
	irq_off();
	report(true, "an interrupt ends WFE");
	msr(cntv_cval_el0, ticks() + us_to_ticks(5000));
	msr(cntv_ctl_el0, 1);
	isb();
	wfi();
	report((mrs(cntv_ctl_el0) & 4) != 0, "a masked interrupt ends WFI");
	msr(cntv_ctl_el0, 2);
	isb();
	/* Whether it is still taken depends on the machine: list registers keep it. */
	irq_on();
	irq_off();
}

static void
timeouts(void)
{
	register uint64_t until __asm__("x0");
	uint64_t end;

	if ((mrs(S3_0_C0_C6_2) & 0xf) != 2) { /* ID_AA64ISAR2_EL1.WFxT */
		skip("the CPU has no WFET");
		return;
	}
	end = ticks() + us_to_ticks(5000);
	while (ticks() < end) {
		until = end;
		__asm__ volatile(WFET(0) : : "r"(until) : "memory");
	}
	report(ticks() - end < us_to_ticks(1000000), "WFET ends at its time");
	end = ticks() + us_to_ticks(5000);
	until = end;
	__asm__ volatile(WFIT(0) : : "r"(until) : "memory");
	report(ticks() >= end, "WFIT does not end before its time without an interrupt");
	report(ticks() - end < us_to_ticks(1000000), "and ends then");
	until = 0;
	__asm__ volatile(WFIT(0) : : "r"(until) : "memory");
	report(true, "WFIT with a time in the past ends at once");
}

void
test_main(void)
{
	unsigned rounds = (unsigned)arg_number("rounds", 400);

	__asm__ volatile("sevl; wfe");
	report(true, "SEVL ends the next WFE");
	gic_init();
	event_stream();
	interrupts();
	timeouts();
	if (ncpus < 2)
		return;
	report(wakes(until_flag, by_sev), "SEV ends the WFE of a CPU that sleeps");
	report(wakes(until_opened, by_store), "a store to what the monitor watches ends WFE");
	ping_pong(rounds);
}
