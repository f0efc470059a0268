/*
 * GICv3 with several CPUs: interrupts that go elsewhere, WFI, one of many, SGIs from each
 * to each. Interrupts stay masked; the test acknowledges by hand.
 *
 *	only=others,matrix	one of the parts
 */
#include "gic_v3.h"

static uint64_t d; /* the distributor */

static void
pend(unsigned intid)
{
	set_bit(d, ISPENDR, intid);
}

/* -- other CPUs ------------------------------------------------------------------------------------------ */

#include "gic_other.h"

static void
one_of_n_cpu(void *arg)
{
	unsigned got, *count = arg;

	while (step == 0) {
		if ((got = take()) != SPURIOUS) {
			__atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
			end(got);
		}
	}
}

static void
others(void)
{
	uint64_t r1;
	unsigned count = 0, n;
	bool ok = true;

	if (ncpus < 2) {
		skip("one CPU");
		return;
	}
	r1 = cpus[1].gicr + SGI;
	spi(SPI, 0x80);
	w64(d + IROUTER + SPI * 8, cpus[1].mpidr);
	step = 0;
	cpu_run(1, other_takes, NULL);
	pend(SPI);
	report(bit_of(d, ISPENDR, SPI), "an SPI that waits for another CPU reads as pending");
	report(!irq(), "and is not signalled here");
	set_bit(d, ICPENDR, SPI);
	report(!bit_of(d, ISPENDR, SPI), "it can be taken back from there");
	pend(SPI);
	step = 1;
	report(wait_for(step == 2, 5000) && seen_by_other == SPI, "it is taken there");
	report(bit_of(d, ISACTIVER, SPI), "and reads as active");
	w64(d + IROUTER + SPI * 8, this_cpu()->mpidr);
	pend(SPI);
	report(!irq(), "routed elsewhere while active it ends where it was taken");
	step = 3;
	report(wait_for(step == 4, 5000), "the other CPU ends it");
	report(take_soon() == SPI, "then the next one comes here");
	end(SPI);
	step = 5;
	report(wait_for(step == 6, 5000) && seen_by_other == SPURIOUS, "and not there");
	cpu_wait(1);

	/* A14 */
	w32(r1 + ICENABLER, 1u << 20);
	w32(this_cpu()->gicr + SGI + ISENABLER, 1u << 20);
	report(!bit_of(r1, ISENABLER, 20), "A14: a redistributor's write changes that one");
	w32(this_cpu()->gicr + SGI + ICENABLER, 1u << 20);
	w32(r1 + ISENABLER, 1u << 20);
	report(bit_of(r1, ISENABLER, 20) && !bit_of(this_cpu()->gicr + SGI, ISENABLER, 20),
	    "A14: also when another CPU writes it");
	w32(r1 + ICENABLER, 1u << 20);

	/* A08 */
	w32(d + GICD_CTLR, 1u << 4);
	w64(d + IROUTER + SPI * 8, cpus[1].mpidr);
	pend(SPI);
	step = 0;
	seen_by_other = 0;
	cpu_run(1, sleeps, NULL);
	wait_for(step == 1, 5000);
	delay_us(5000);
	report(cpus[1].state == CPU_BUSY, "a CPU waits while the distributor is off");
	w32(d + GICD_CTLR, 1u << 4 | 2);
	cpu_wait(1);
	report(seen_by_other == SPI, "A08: turning it on wakes it");

	/* 1 of N */
	spi(SPI, 0x80);
	w64(d + IROUTER + SPI * 8, IROUTER_IRM);
	step = 0;
	for (n = 1; n < ncpus; n++)
		cpu_run(n, one_of_n_cpu, &count);
	for (n = 0; n < 100 && ok; n++) {
		unsigned before = __atomic_load_n(&count, __ATOMIC_RELAXED), got;
		uint64_t stop = ticks() + us_to_ticks(5000000);

		pend(SPI);
		do {
			if ((got = take()) != SPURIOUS) {
				__atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
				end(got);
			}
		} while (__atomic_load_n(&count, __ATOMIC_RELAXED) == before && ticks() < stop);
		ok = count == before + 1;
	}
	delay_us(1000);
	step = 1;
	for (n = 1; n < ncpus; n++)
		cpu_wait(n);
	report(ok && count == 100, "a 1-of-N interrupt is taken once, by anybody");
	report(clean(), "nothing is left on the other CPUs");
}

/* -- A15: from each to each --------------------------------------------------------------------------------- */

static volatile uint32_t matrix[MAX_CPUS][MAX_CPUS]; /* [to][from] */
static struct barrier all;

static void
matrix_cpu(void *arg)
{
	unsigned me = this_cpu()->index, got, have;

	(void)arg;
	for (unsigned from = 0; from < ncpus; from++) {
		barrier_wait(&all, ncpus);
		if (me == from) {
			for (unsigned to = 0; to < ncpus; to++)
				gic_send(1 + from % 15, to);
		}
		have = take_soon();
		if (have == 1 + from % 15)
			matrix[me][from] = matrix[me][from] + 1;
		if (have != SPURIOUS)
			end(have);
	}
	barrier_wait(&all, ncpus);
	if ((got = take()) != SPURIOUS)
		matrix[me][me] = 99;
}

static void
sgi_matrix(void)
{
	unsigned wrong = 0;

	cpu_run_on(ncpus, matrix_cpu, NULL);
	for (unsigned to = 0; to < ncpus; to++) {
		for (unsigned from = 0; from < ncpus; from++)
			wrong += matrix[to][from] != 1;
	}
	report(wrong == 0, "A15: an SGI from each CPU to each arrives once");
}

static const struct {
	const char *name;
	void (*fn)(void);
} parts[] = {
	{ "others", others },
	{ "matrix", sgi_matrix },
};

void
test_main(void)
{
	gic_init();
	cpu_start_all();
	d = machine.gicd;
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (arg_selected(parts[i].name))
			parts[i].fn();
	}
}
