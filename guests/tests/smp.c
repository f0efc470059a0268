/*
 * CPUs: turned on, off and on again by PSCI, races included; interrupts from
 * each to each; the counter and shared data seen by all.
 *
 *	rounds=N	of what is repeated
 */
#include "lib.h"

#define AFFINITY_ON 0
#define AFFINITY_OFF 1

/* -- the state a CPU starts in -------------------------------------------------------- */

struct start_state {
	uint64_t context, el, sctlr, daif, spsel, mpidr;
};
static struct start_state seen __attribute__((used));

/* x0 is the context: a struct cpu. Note what we find, then go the usual way. */
__asm__(".text\n"
	"probe_entry:\n"
	"	adrp	x1, seen\n"
	"	add	x1, x1, :lo12:seen\n"
	"	mrs	x2, CurrentEL\n"
	"	stp	x0, x2, [x1]\n"
	"	mrs	x2, sctlr_el1\n"
	"	mrs	x3, daif\n"
	"	stp	x2, x3, [x1, #16]\n"
	"	mrs	x2, spsel\n"
	"	mrs	x3, mpidr_el1\n"
	"	stp	x2, x3, [x1, #32]\n"
	"	dsb	sy\n"
	"	b	secondary_entry\n");
void probe_entry(void);

static int64_t
on(unsigned n, void (*entry)(void))
{
	return (psci(PSCI_CPU_ON, cpus[n].mpidr, (uintptr_t)entry, (uintptr_t)&cpus[n]));
}

static void
give_stack(unsigned n)
{
	if (cpus[n].stack == NULL)
		cpus[n].stack = (char *)page_alloc(4) + 4 * 4096;
}

static void
start_state(void)
{
	give_stack(1);
	cpus[1].state = CPU_STARTING;
	dsb();
	report(on(1, probe_entry) == PSCI_SUCCESS, "CPU_ON of a CPU that is off succeeds");
	report(wait_for(cpus[1].state == CPU_IDLE, 10000), "the CPU comes up");
	report(seen.context == (uintptr_t)&cpus[1], "x0 of a started CPU is the context");
	report(seen.el == 4 && seen.spsel == 1, "it starts at EL1 with its own stack pointer");
	report((seen.sctlr & 0x1005) == 0, "its MMU and caches are off");
	report(seen.daif == 0x3c0, "its interrupts are masked");
	report((seen.mpidr & 0xff00ffffffull) == cpus[1].mpidr, "its MPIDR is the tree's");
}

/* -- CPU_ON and AFFINITY_INFO with wrong and right arguments --------------------------- */

static void
arguments(void)
{
	uint64_t off = cpus[ncpus - 1].mpidr;

	report(on(1, secondary_entry) == PSCI_ALREADY_ON, "CPU_ON of a running CPU: ALREADY_ON");
	report(on(0, secondary_entry) == PSCI_ALREADY_ON, "CPU_ON of oneself: ALREADY_ON");
	report(
	    psci(PSCI_CPU_ON, 0xff00ffff, (uintptr_t)secondary_entry, 0) == PSCI_INVALID_PARAMETERS,
	    "CPU_ON of an affinity that is not there: INVALID_PARAMETERS");
	report(psci(PSCI_CPU_ON, cpus[1].mpidr | UINT64_C(1) << 24, (uintptr_t)secondary_entry,
		   0) == PSCI_INVALID_PARAMETERS,
	    "CPU_ON with a reserved bit: INVALID_PARAMETERS");
	report(psci(PSCI_AFFINITY_INFO, cpus[0].mpidr, 0, 0) == AFFINITY_ON,
	    "AFFINITY_INFO of oneself: ON");
	if (ncpus > 2)
		report(psci(PSCI_AFFINITY_INFO, off, 0, 0) == AFFINITY_OFF,
		    "AFFINITY_INFO of a CPU that was never on: OFF");
	report(psci(PSCI_AFFINITY_INFO, 0xff00ffff, 0, 0) == PSCI_INVALID_PARAMETERS,
	    "AFFINITY_INFO of nobody: INVALID_PARAMETERS");
	report(psci(PSCI_AFFINITY_INFO, cpus[0].mpidr, 4, 0) == PSCI_INVALID_PARAMETERS,
	    "AFFINITY_INFO with level 4: INVALID_PARAMETERS");
	/* Levels above 0 are optional from PSCI 1.0 on (DEN 0022, 5.7). */
	if (machine.bhyve) {
		report(psci(PSCI_AFFINITY_INFO, cpus[0].mpidr, 1, 0) == AFFINITY_ON,
		    "AFFINITY_INFO of a cluster with a CPU that is on: ON");
		report(psci(PSCI_AFFINITY_INFO, cpus[0].mpidr, 3, 0) == AFFINITY_ON,
		    "AFFINITY_INFO of the whole machine: ON");
	}
}

/* -- exactly one SUCCESS ------------------------------------------------------------------ */

static struct barrier gate;
static unsigned racers;
static volatile int64_t answer[MAX_CPUS];

static void
race(void *arg)
{
	unsigned target = *(unsigned *)arg;

	barrier_wait(&gate, racers);
	answer[this_cpu()->index] = on(target, secondary_entry);
	barrier_wait(&gate, racers);
}

static void
races(unsigned rounds)
{
	unsigned target = ncpus - 1, bad = 0, late = 0;

	racers = ncpus - 1;
	for (unsigned r = 0; r < rounds; r++) {
		unsigned won = 0, told = 0;

		if (cpus[target].state != CPU_OFF)
			cpu_stop(target);
		give_stack(target);
		cpus[target].state = CPU_STARTING;
		dsb();
		cpu_run_on(racers, race, &target);
		for (unsigned n = 0; n < racers; n++) {
			won += answer[n] == PSCI_SUCCESS;
			told += answer[n] == PSCI_ALREADY_ON || answer[n] == PSCI_ON_PENDING;
		}
		bad += won != 1 || won + told != racers;
		late += !wait_for(cpus[target].state == CPU_IDLE, 10000);
	}
	report(bad == 0, "of all CPUs that turn the same one on, one gets SUCCESS");
	report(late == 0, "and it comes up each time");
}

static void
cycles(unsigned rounds)
{
	unsigned bad = 0;

	for (unsigned r = 0; r < rounds; r++) {
		unsigned n = 1 + r % (ncpus - 1);

		if (cpus[n].state == CPU_OFF)
			cpu_start(n);
		cpu_stop(n);
		bad += psci(PSCI_AFFINITY_INFO, cpus[n].mpidr, 0, 0) != AFFINITY_OFF;
		cpu_start(n);
		bad += psci(PSCI_AFFINITY_INFO, cpus[n].mpidr, 0, 0) != AFFINITY_ON;
	}
	report(bad == 0, "CPUs go off and come on again, and AFFINITY_INFO says so");
}

/* -- interrupts from each to each ------------------------------------------------------------- */

static volatile uint32_t got[MAX_CPUS][16];

static void
count_sgi(unsigned intid)
{
	if (intid < 16)
		got[this_cpu()->index][intid]++;
}

static volatile bool stop;

static void
take(void *arg)
{
	(void)arg;
	irq_on();
	if (this_cpu()->index != 0)
		while (!stop)
			wfi();
}

static void
sgi_matrix(unsigned rounds)
{
	unsigned lost = 0, want = 0;

	irq_handler = count_sgi;
	gic_init();
	for (unsigned n = 1; n < ncpus; n++) {
		if (cpus[n].state == CPU_OFF)
			cpu_start(n);
		else
			cpu_run(n, (void (*)(void *))gic_cpu_init, NULL), cpu_wait(n);
	}
	stop = false;
	for (unsigned n = 1; n < ncpus; n++)
		cpu_run(n, take, NULL);
	irq_on();
	for (unsigned r = 0; r < rounds; r++)
		for (unsigned n = 0; n < ncpus; n++) {
			unsigned id = (r + n) % 15;
			uint32_t before = got[n][id];

			gic_send(id, n);
			want++;
			lost += !wait_for(got[n][id] == before + 1, 10000);
		}
	report(lost == 0, "an SGI to each CPU is taken there, once");
	/* A CPU asleep in WFI comes back through an interrupt. */
	stop = true;
	dsb();
	for (unsigned n = 1; n < ncpus; n++) {
		gic_send(15, n);
		cpu_wait(n);
	}
	irq_off();
	for (unsigned n = 0; n < ncpus; n++)
		for (unsigned i = 0; i < 15; i++)
			want -= got[n][i];
	report(want == 0, "nobody took one that was not for it");
}

/* -- shared data --------------------------------------------------------------------------------- */

static uint64_t shared_excl, shared_lse, shared_lock;
static struct lock shared_guard;
static unsigned per_cpu;

static void
add_up(void *arg)
{
	uint64_t old, failed;

	(void)arg;
	barrier_wait(&gate, ncpus);
	for (unsigned i = 0; i < per_cpu; i++) {
		__asm__ volatile("1: ldxr %0, %2\n add %0, %0, #1\n stxr %w1, %0, %2\n cbnz %w1, 1b"
				 : "=&r"(old), "=&r"(failed), "+Q"(shared_excl));
		__asm__ volatile(".arch_extension lse\n ldadd %1, %0, %2"
				 : "=&r"(old)
				 : "r"((uint64_t)1), "Q"(shared_lse)
				 : "memory");
		lock(&shared_guard);
		shared_lock++;
		unlock(&shared_guard);
	}
}

static void
counters(unsigned rounds)
{
	per_cpu = rounds;
	cpu_run_on(ncpus, add_up, NULL);
	report(shared_excl == (uint64_t)rounds * ncpus, "no increment by exclusives is lost");
	report(shared_lse == (uint64_t)rounds * ncpus, "no increment by LDADD is lost");
	report(shared_lock == (uint64_t)rounds * ncpus, "no increment under a lock is lost");
}

/* The counter, handed from CPU to CPU with release and acquire, never goes back. */
static uint64_t last_count;
static unsigned turn, backwards, turns;

static void
ping_pong(void *arg)
{
	unsigned me = this_cpu()->index, count = *(unsigned *)arg;

	for (;;) {
		unsigned t = __atomic_load_n(&turn, __ATOMIC_ACQUIRE);
		uint64_t now;

		if (t >= turns)
			return;
		if (t % count != me) {
			relax();
			continue;
		}
		now = ticks();
		backwards += now < last_count;
		last_count = now;
		__atomic_store_n(&turn, t + 1, __ATOMIC_RELEASE);
	}
}

static void
clock_is_one(unsigned rounds)
{
	unsigned count = ncpus < 4 ? ncpus : 4;

	turns = rounds;
	cpu_run_on(count, ping_pong, &count);
	report(backwards == 0, "the counter never goes back from one CPU to the next");
}

/* SEV wakes WFE. */
static volatile uint32_t woken, asleep;

static void
sleep_once(void *arg)
{
	(void)arg;
	__asm__ volatile("sevl; wfe");
	asleep = 1;
	dsb();
	wfe();
	woken = 1;
}

static void
events(void)
{
	cpu_run(1, sleep_once, NULL);
	wait_for(asleep != 0, 10000);
	delay_us(1000);
	sev();
	report(wait_for(woken != 0, 10000), "SEV wakes a CPU from WFE");
	cpu_wait(1);
}

void
test_main(void)
{
	unsigned rounds = (unsigned)arg_number("rounds", 100);

	if (ncpus < 2) {
		skip("there is one CPU only");
		return;
	}
	info("%u CPUs", ncpus);
	start_state();
	arguments();
	if (ncpus > 2)
		races(rounds / 4 + 1);
	cycles(rounds);
	sgi_matrix(rounds / 10 + 1);
	counters(rounds * 10);
	clock_is_one(rounds * 10);
	events();
}
