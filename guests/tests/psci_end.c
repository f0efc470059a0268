/*
 * The calls that end the machine: none of them returns.
 *
 *	off, reset, reset2, race (both from all CPUs), halt (all CPUs off)
 */
#include "lib.h"

static struct barrier gate;

static void
race(void *arg)
{
	(void)arg;
	barrier_wait(&gate, ncpus);
	psci(this_cpu()->index % 2 == 0 ? PSCI_SYSTEM_OFF : PSCI_SYSTEM_RESET, 0, 0, 0);
	die("SYSTEM_OFF and SYSTEM_RESET do not return");
}

static void
off(void *arg)
{
	(void)arg;
	psci(PSCI_CPU_OFF, 0, 0, 0);
	die("CPU_OFF does not return");
}

void
test_main(void)
{
	cpu_start_all();
	report(psci(PSCI_VERSION, 0, 0, 0) > 0, "the machine is up");
	summary();
	if (arg_given("off"))
		psci(PSCI_SYSTEM_OFF, 0, 0, 0);
	if (arg_given("reset"))
		psci(PSCI_SYSTEM_RESET, 0, 0, 0);
	if (arg_given("reset2"))
		psci(PSCI_SYSTEM_RESET2, 0, 0, 0);
	if (arg_given("race"))
		cpu_run_on(ncpus, race, NULL);
	if (arg_given("halt")) {
		for (unsigned n = 1; n < ncpus; n++)
			cpu_run(n, off, NULL);
		off(NULL);
	}
	die("the call does not return");
}
