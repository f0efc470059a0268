/*
 * What single operations of the machine cost, in ns: INFO lines for make bench,
 * which runs this kernel on both sides. Each figure is the median of ROUNDS
 * batches, so that what the host does meanwhile counts little.
 *
 *	only=hvc,sgi	some of them
 */
#include "lib.h"

#define ROUNDS 15u

static uint64_t batch[ROUNDS];

static uint64_t
median(void)
{
	for (unsigned i = 1; i < ROUNDS; i++)
		for (unsigned k = i; k > 0 && batch[k - 1] > batch[k]; k--) {
			uint64_t t = batch[k];

			batch[k] = batch[k - 1];
			batch[k - 1] = t;
		}
	return (batch[ROUNDS / 2]);
}

static void
figure(const char *name, void (*once)(void), unsigned count)
{
	uint64_t began;

	if (!arg_selected(name))
		return;
	once();
	for (unsigned r = 0; r < ROUNDS; r++) {
		began = ticks();
		for (unsigned i = 0; i < count; i++)
			once();
		batch[r] = ticks_to_ns(ticks() - began) / count;
	}
	info("%s %lu ns", name, median());
}

/* -- leaving the guest ------------------------------------------------------------------ */

static void
hvc(void)
{
	psci(PSCI_VERSION, 0, 0, 0);
}

static uint64_t rtc;

static void
rtc_read(void)
{
	r32(rtc + 8); /* LR: nothing but a stored value */
}

static void
gicd_read(void)
{
	r32(machine.gicd + 4); /* TYPER */
}

static void
sysreg(void)
{
	(void)mrs(id_aa64isar0_el1);
}

/* -- inside ------------------------------------------------------------------------------- */

static void
counter(void)
{
	(void)ticks();
}

static void
tlbi_one(void)
{
	window_flush(0);
}

static unsigned svcs;

static void
svc_taken(struct frame *f)
{
	(void)f;
	svcs++;
}

static void
svc(void)
{
	__asm__ volatile("svc #0" : : : "memory");
}

/* -- to another CPU -------------------------------------------------------------------------- */

static volatile uint64_t answers;
static volatile bool stop;
static unsigned lost;

static void
answer(unsigned intid)
{
	if (intid == 1)
		answers++;
}

static void
awake(void *arg)
{
	(void)arg;
	irq_on();
	while (!stop)
		relax();
}

static void
asleep(void *arg)
{
	(void)arg;
	irq_on();
	while (!stop)
		wfi();
}

static void
send(void)
{
	uint64_t before = answers;

	gic_send(1, 1);
	lost += !wait_for(answers != before, 1000);
}

static void
sgi(const char *name, void (*fn)(void *))
{
	stop = false;
	cpu_run(1, fn, NULL);
	delay_us(1000);
	figure(name, send, 20);
	stop = true;
	dsb();
	gic_send(2, 1);
	cpu_wait(1);
}

static volatile uint32_t ball __attribute__((aligned(64)));

static void
return_ball(void *arg)
{
	(void)arg;
	while (!stop)
		if ((ball & 1) != 0)
			ball++;
}

static void throw(void)
{
	ball++;
	lost += !wait_for((ball & 1) == 0, 1000);
}

/* -- one CPU and two ---------------------------------------------------------------------------- */

static uint64_t done[MAX_CPUS];

static void
work(void *arg)
{
	uint64_t end = ticks() + us_to_ticks(*(uint64_t *)arg), n = 0, x = 1;

	while (ticks() < end) {
		for (unsigned i = 0; i < 1000; i++)
			x = x * 6364136223846793005ull + 1442695040888963407ull;
		n++;
	}
	__asm__ volatile("" : : "r"(x));
	done[this_cpu()->index] = n;
}

static void
scaling(void)
{
	uint64_t us = 300000, one;

	if (!arg_selected("scaling"))
		return;
	cpu_run_on(1, work, &us);
	one = done[0];
	cpu_run_on(2, work, &us);
	report(one != 0 && done[1] != 0, "both CPUs work");
	info("scaling %lu percent", one == 0 ? 0 : (done[0] + done[1]) * 100 / one);
}

void
test_main(void)
{
	struct fdt_node node;

	gic_init();
	irq_handler = answer;
	exception_hook[VEC_SYNC] = svc_taken;
	figure("counter", counter, 2000);
	figure("svc", svc, 2000);
	figure("id-register", sysreg, 500);
	figure("tlbi", tlbi_one, 500);
	figure("hvc", hvc, 200);
	figure("gicd-read", gicd_read, 500);
	if (fdt_compatible("arm,pl031", 0, &node)) {
		rtc = fdt_cells2(&node, "reg", 0);
		figure("rtc-read", rtc_read, 200);
	}
	if (ncpus > 1) {
		cpu_start(1);
		sgi("sgi-awake", awake);
		sgi("sgi-asleep", asleep);
		stop = false;
		cpu_run(1, return_ball, NULL);
		figure("cache-line", throw, 1000);
		stop = true;
		cpu_wait(1);
		scaling();
		report(lost == 0, "every SGI and every word to another CPU is answered");
	}
	report(svcs > 0 || !arg_selected("svc"), "SVC is an exception");
}
