/*
 * CPUs: starting, work, stopping, barriers and locks.
 */
#include "lib.h"

#define STACK_PAGES 4
#define PATIENCE_MS 60000
#define AFFINITY_OFF 1

struct cpu cpus[MAX_CPUS];
unsigned ncpus;

void secondary_main(struct cpu *cpu) __attribute__((noreturn));

static void
turn_off(void *arg)
{
	(void)arg;
	this_cpu()->state = CPU_OFF;
	dsb();
	psci(PSCI_CPU_OFF, 0, 0, 0);
	die("CPU_OFF does not return");
}

void
secondary_main(struct cpu *cpu)
{
	mmu_on();
	gic_cpu_init();
	cpu->fn = NULL;
	cpu->state = CPU_IDLE;
	for (;;) {
		sev();
		while (cpu->fn == NULL)
			wfe();
		dsb();
		cpu->fn(cpu->arg);
		irq_off();
		cpu->fn = NULL;
		dsb();
		cpu->state = CPU_IDLE;
	}
}

void
cpu_start(unsigned n)
{
	struct cpu *cpu = &cpus[n];
	int64_t error;

	if (n == 0 || cpu->state != CPU_OFF)
		return;
	if (cpu->stack == NULL)
		cpu->stack = (char *)page_alloc(STACK_PAGES) + STACK_PAGES * 4096;
	cpu->state = CPU_STARTING;
	dsb();
	error = psci(PSCI_CPU_ON, cpu->mpidr, (uintptr_t)secondary_entry, (uintptr_t)cpu);
	if (error != 0)
		die("CPU_ON of CPU %u succeeds, not %ld", n, error);
	if (!wait_for(cpu->state == CPU_IDLE, PATIENCE_MS))
		die("CPU %u starts within a minute", n);
}

void
cpu_start_all(void)
{
	for (unsigned n = 1; n < ncpus; n++)
		cpu_start(n);
}

void
cpu_run(unsigned n, void (*fn)(void *), void *arg)
{
	struct cpu *cpu = &cpus[n];

	cpu_start(n);
	cpu_wait(n);
	cpu->arg = arg;
	cpu->state = CPU_BUSY;
	dsb();
	cpu->fn = fn;
	sev();
}

void
cpu_wait(unsigned n)
{
	if (n != 0 && !wait_for(cpus[n].state != CPU_BUSY, PATIENCE_MS))
		die("CPU %u is done within a minute", n);
	dsb();
}

void
cpu_run_on(unsigned count, void (*fn)(void *), void *arg)
{
	for (unsigned n = 1; n < count; n++)
		cpu_run(n, fn, arg);
	fn(arg);
	for (unsigned n = 1; n < count; n++)
		cpu_wait(n);
}

void
cpu_stop(unsigned n)
{
	cpu_run(n, turn_off, NULL);
	if (!wait_for(psci(PSCI_AFFINITY_INFO, cpus[n].mpidr, 0, 0) == AFFINITY_OFF, PATIENCE_MS))
		die("CPU %u is off within a minute", n);
}

/* -- barriers and locks: exclusives, so that any Armv8.0 PE has them -------------------- */

static uint32_t
add(volatile uint32_t *p, uint32_t v)
{
	uint32_t old, val, failed;

	__asm__ volatile("1: ldaxr %w0, %3\n add %w1, %w0, %w4\n stlxr %w2, %w1, %3\n cbnz %w2, 1b"
			 : "=&r"(old), "=&r"(val), "=&r"(failed), "+Q"(*p)
			 : "r"(v)
			 : "memory");
	return (old);
}

void
barrier_wait(struct barrier *b, unsigned count)
{
	uint32_t generation = b->generation;

	dsb();
	if (add(&b->count, 1) == count - 1) {
		b->count = 0;
		dsb();
		b->generation = generation + 1;
		sev();
		return;
	}
	while (b->generation == generation)
		relax();
	dsb();
}

void
lock(struct lock *l)
{
	uint32_t old, failed;

	for (;;) {
		__asm__ volatile("ldaxr %w0, %2\n stlxr %w1, %w3, %2"
				 : "=&r"(old), "=&r"(failed), "+Q"(l->held)
				 : "r"(1)
				 : "memory");
		if (old == 0 && failed == 0)
			return;
		relax();
	}
}

void
unlock(struct lock *l)
{
	__asm__ volatile("stlr %w1, %0" : "=Q"(l->held) : "r"(0) : "memory");
}

void
delay_us(uint64_t us)
{
	uint64_t end = ticks() + us_to_ticks(us);

	while (ticks() < end)
		relax();
}
