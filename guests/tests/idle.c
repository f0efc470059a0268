/*
 * CPUs with nothing to do: all of them wait for ever, so that the host can see
 * what that costs. It never ends by itself.
 *
 *	wfe		wait for an event instead of an interrupt
 */
#include "lib.h"

static void
wait_on(void *arg)
{
	(void)arg;
	if (arg_given("wfe"))
		for (;;)
			wfe();
	for (;;)
		wfi();
}

void
test_main(void)
{
	gic_init();
	for (unsigned n = 1; n < ncpus; n++)
		cpu_run(n, wait_on, NULL);
	report(true, "all CPUs are up");
	summary();
	wait_on(NULL);
}
