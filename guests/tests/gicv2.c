/*
 * GICv2: distributor and CPU interface, both by MMIO. Interrupts stay masked;
 * the test acknowledges by hand what ISR_EL1 says is there.
 *
 *	only=id,bits,...	some of the parts
 */
#include "gic_regs.h"

#define ITARGETSR 0x800
#define SGIR 0xf00
#define CPENDSGIR 0xf10
#define SPENDSGIR 0xf20

#define GICC_CTLR 0x0
#define PMR 0x4
#define BPR 0x8
#define IAR 0xc
#define EOIR 0x10
#define RPR 0x14
#define HPPIR 0x18
#define AIAR 0x20
#define AEOIR 0x24
#define AHPPIR 0x28
#define DIR 0x1000

static uint64_t d, c; /* GICD, GICC */
static unsigned last_intid;
static uint8_t target[MAX_CPUS]; /* the bit of each CPU */

static unsigned
take(void)
{
	settle();
	return (r32(c + IAR));
}

static unsigned
take_soon(void)
{
	return (wait_for(irq(), 2000) ? take() : SPURIOUS);
}

static void
end(unsigned iar)
{
	w32(c + EOIR, iar);
	settle();
}

static void
pend(unsigned intid)
{
	set_bit(d, ISPENDR, intid);
}

static void
set_edge(unsigned intid, bool edge)
{
	uint64_t reg = d + ICFGR + intid / 16 * 4;
	uint32_t b = 2u << intid % 16 * 2;

	w32(reg, edge ? r32(reg) | b : r32(reg) & ~b);
}

/* An edge with a priority, for this CPU. */
static void
spi(unsigned intid, unsigned priority)
{
	set_edge(intid, true);
	w8(d + IPRIORITYR + intid, (uint8_t)priority);
	w8(d + ITARGETSR + intid, target[this_cpu()->index]);
	set_bit(d, ISENABLER, intid);
}

static bool
clean(void)
{
	bool was = take() == SPURIOUS && r32(c + RPR) == 0xff;

	for (unsigned n = SPI; n < SPI + NSPI; n += 32) {
		was = was && r32(d + ISACTIVER + n / 8) == 0 && r32(d + ISPENDR + n / 8) == 0;
		w32(d + ICENABLER + n / 8, ~0u);
		w32(d + ICPENDR + n / 8, ~0u);
		w32(d + ICACTIVER + n / 8, ~0u);
	}
	return (was);
}

/* Each CPU: its interface on, its bit. */
static void
cpu_init(void *arg)
{
	unsigned me = this_cpu()->index;

	(void)arg;
	target[me] = ncpus == 1 ? 1 : (uint8_t)r32(d + ITARGETSR);
	for (unsigned n = 0; n < 16; n++)
		w8(d + IPRIORITYR + n, 0x80);
	w32(d + ISENABLER, 0xffff);
	w32(c + PMR, 0xf8);
	w32(c + GICC_CTLR, 1);
}

/* -- the parts ------------------------------------------------------------------------ */

static void
identification(void)
{
	bool distinct = true;
	uint8_t seen = 0;

	report((r32(d + GICD_TYPER) >> 5 & 7) == ncpus - 1, "TYPER has the number of CPUs");
	for (unsigned n = 0; n < ncpus; n++) {
		distinct = distinct && target[n] != 0 && (target[n] & (target[n] - 1)) == 0 &&
			   (seen & target[n]) == 0;
		seen |= target[n];
	}
	if (ncpus > 1)
		report(distinct, "each CPU has a bit of its own in ITARGETSR0");
	report(r32(c + IAR) == SPURIOUS && r32(c + HPPIR) == SPURIOUS, "nothing is pending");
	report(r32(c + RPR) == 0xff, "RPR is idle");
	report((mrs(id_aa64pfr0_el1) >> 24 & 15) == 0, "there are no system registers of a GIC");
}

static bool
walk(unsigned set_reg, unsigned clear_reg)
{
	bool ok = true;

	for (unsigned n = 32; n <= last_intid; n++) {
		w32(d + clear_reg + n / 32 * 4, ~0u);
		set_bit(d, set_reg, n);
		ok = ok && r32(d + set_reg + n / 32 * 4) == 1u << n % 32;
		ok = ok && r32(d + clear_reg + n / 32 * 4) == 1u << n % 32;
		set_bit(d, clear_reg, n);
		ok = ok && r32(d + set_reg + n / 32 * 4) == 0;
	}
	return (ok);
}

static void
bits(void)
{
	bool ok = true;

	w32(d + GICD_CTLR, 0);
	report(walk(ISENABLER, ICENABLER), "A01: each SPI is enabled and disabled alone");
	report(walk(ISPENDR, ICPENDR), "each SPI is made pending and not alone");
	report(walk(ISACTIVER, ICACTIVER), "each SPI is made active and not alone");
	w32(d + GICD_CTLR, 1);
	for (unsigned n = 32; n <= last_intid; n++) {
		w8(d + IPRIORITYR + n, (uint8_t)(n << 3));
		w8(d + ITARGETSR + n, target[n % ncpus]);
	}
	for (unsigned n = 32; n <= last_intid; n++) {
		ok = ok && r8(d + IPRIORITYR + n) == (uint8_t)(n << 3);
		ok = ok && (ncpus == 1 || r8(d + ITARGETSR + n) == target[n % ncpus]);
	}
	report(ok, "priorities and targets are a byte for each");
	w8(d + ITARGETSR + SPI, 0xff);
	if (ncpus > 1)
		report(r8(d + ITARGETSR + SPI) == (1u << ncpus) - 1, "targets are CPUs that exist");
	if (ncpus == 1)
		report(r8(d + ITARGETSR + SPI) == 0, "one CPU has no targets");
	report((r32(d + ICFGR) & 0xaaaaaaaa) == 0xaaaaaaaa, "SGIs are edges");
	for (unsigned n = 32; n <= last_intid; n++)
		w8(d + IPRIORITYR + n, 0x80);
}

static void
simple(void)
{
	spi(SPI, 0x80);
	pend(SPI);
	report(irq() && r32(c + HPPIR) == SPI, "a pending SPI is signalled");
	report(take() == SPI && r32(c + RPR) == 0x80, "IAR returns it, RPR is its priority");
	report(!bit_of(d, ISPENDR, SPI) && bit_of(d, ISACTIVER, SPI), "it is active");
	pend(SPI);
	report(!irq() && take() == SPURIOUS, "active and pending it is not signalled");
	end(SPI);
	report(irq() && take() == SPI, "it comes again after the end");
	set_bit(d, ICENABLER, SPI);
	end(SPI);
	report(
	    !bit_of(d, ISACTIVER, SPI), "A02: an end is not lost while the interrupt is disabled");
	pend(SPI);
	report(!irq() && bit_of(d, ISPENDR, SPI), "a disabled interrupt waits");
	set_bit(d, ISENABLER, SPI);
	report(take() == SPI, "A02: and fires when it is enabled");
	end(SPI);
	pend(SPI);
	set_bit(d, ICPENDR, SPI);
	report(!irq() && take() == SPURIOUS, "ICPENDR takes it back");
	pend(SPI);
	take();
	end(SPURIOUS);
	report(
	    bit_of(d, ISACTIVER, SPI) && r32(c + RPR) == 0x80, "the end of 1023 changes nothing");
	end(SPI);
	w32(c + GICC_CTLR, 0);
	pend(SPI);
	report(!irq(), "an interface that is off does not signal");
	w32(c + GICC_CTLR, 1);
	w32(d + GICD_CTLR, 0);
	report(!irq(), "nor does a distributor that is off");
	w32(d + GICD_CTLR, 1);
	report(irq() && take() == SPI, "until it is on");
	end(SPI);
	report(clean(), "nothing is left behind");
}

static void
order(void)
{
	uint64_t seed = 88172645463325252u, seen = 0;
	uint8_t prio[NSPI];
	unsigned n, got, before = 0;
	bool ok = true, unique = true;

	for (n = 0; n < NSPI; n++) {
		prio[n] = (uint8_t)(1 + random_next(&seed) % 28) << 3;
		spi(SPI + n, prio[n]);
	}
	w32(d + ISPENDR + SPI / 8, ~0u);
	w32(d + ISPENDR + SPI / 8 + 4, ~0u);
	for (n = 0; n < NSPI; n++) {
		got = take();
		if (got < SPI || got >= SPI + NSPI) {
			unique = false;
			break;
		}
		unique = unique && (seen >> (got - SPI) & 1) == 0;
		seen |= UINT64_C(1) << (got - SPI);
		ok = ok && prio[got - SPI] >= before;
		before = prio[got - SPI];
		end(got);
	}
	report(unique && seen == ~UINT64_C(0), "A06: of 64 SPIs at once each comes once");
	report(ok, "A06: by priority");
	report(clean(), "nothing is left after that");
}

static void
preemption(void)
{
	unsigned n, depth = 28;
	bool ok = true;

	for (n = 0; n < depth; n++)
		spi(SPI + n, (depth - n) * 8);
	for (n = 0; n < depth; n++) {
		pend(SPI + n);
		ok = ok && take() == SPI + n && r32(c + RPR) == (depth - n) * 8;
	}
	report(ok, "28 interrupts nest, each of a higher priority");
	ok = true;
	for (n = depth; n-- != 0;) {
		ok = ok && r32(c + RPR) == (depth - n) * 8;
		end(SPI + n);
	}
	report(ok && r32(c + RPR) == 0xff, "they end in turn");

	spi(SPI, 0x80);
	spi(SPI + 1, 0x80);
	spi(SPI + 2, 0x78);
	pend(SPI);
	take();
	pend(SPI + 1);
	report(!irq(), "the same priority does not preempt");
	w32(c + PMR, 0x78);
	pend(SPI + 2);
	report(!irq(), "a priority equal to PMR is masked");
	w32(c + PMR, 0x80);
	report(irq(), "one above PMR is not");
	w32(c + PMR, 0xf8);
	report(take() == SPI + 2, "it preempts");
	end(SPI + 2);
	end(SPI);
	report(take() == SPI + 1, "the other one follows");
	end(SPI + 1);

	w32(c + BPR, 5); /* groups: bits 7 and 6 */
	spi(SPI, 0xa0);
	spi(SPI + 1, 0x80);
	spi(SPI + 2, 0x60);
	pend(SPI);
	take();
	pend(SPI + 1);
	report(!irq(), "the same group of priorities does not preempt");
	pend(SPI + 2);
	report(take() == SPI + 2, "another does");
	end(SPI + 2);
	end(SPI);
	report(take() == SPI + 1, "in a group priorities still give the order");
	end(SPI + 1);
	w32(c + BPR, 0);
	report(clean(), "nothing is left after preemption");
}

static void
split_end(void)
{
	bool ok = true;

	w32(c + GICC_CTLR, 1 | 1u << 9);
	for (unsigned n = 0; n < 8; n++)
		spi(SPI + n, 0x80);
	w32(d + ISPENDR + SPI / 8, 0xff);
	for (unsigned n = 0; n < 8; n++) {
		ok = ok && take() == SPI + n;
		end(SPI + n);
		ok = ok && r32(c + RPR) == 0xff && bit_of(d, ISACTIVER, SPI + n);
	}
	report(ok, "with EOImode 1 EOIR drops the priority and leaves 8 active");
	ok = true;
	w32(d + ISPENDR + SPI / 8, 0xff);
	report(!irq(), "active ones that are pending again are not signalled");
	for (unsigned i = 0, n = 3; i < 8; i++, n = (n + 3) & 7) {
		w32(c + DIR, SPI + n);
		ok = ok && !bit_of(d, ISACTIVER, SPI + n) && take() == SPI + n;
		end(SPI + n);
	}
	report(ok, "DIR deactivates in any order, and each comes again");
	for (unsigned n = 0; n < 8; n++)
		w32(c + DIR, SPI + n);
	w32(c + GICC_CTLR, 1);
	report(clean(), "nothing is left after split ends");
}

static void
groups(void)
{
	w32(d + GICD_CTLR, 3);
	spi(SPI, 0x80);
	set_bit(d, IGROUPR, SPI);
	if (!bit_of(d, IGROUPR, SPI)) {
		skip("no groups");
		return;
	}
	w32(c + GICC_CTLR, 3);
	pend(SPI);
	report(irq(), "group 1 is signalled");
	report(take() == 1022, "IAR says 1022 of it");
	report(r32(c + HPPIR) == 1022 && r32(c + AHPPIR) == SPI, "so does HPPIR, but not AHPPIR");
	report(r32(c + AIAR) == SPI, "AIAR returns it");
	w32(c + AEOIR, SPI);
	report(!bit_of(d, ISACTIVER, SPI), "AEOIR ends it");
	w32(c + GICC_CTLR, 7);
	pend(SPI);
	report(take() == SPI, "with AckCtl IAR returns it");
	end(SPI);
	w32(c + GICC_CTLR, 0xb);
	spi(SPI + 1, 0xa0);
	pend(SPI + 1);
	report(fiq() && !irq(), "with FIQEn group 0 is signalled as FIQ");
	report(take() == SPI + 1, "and returned by IAR");
	end(SPI + 1);
	pend(SPI);
	report(irq() && !fiq(), "group 1 as IRQ");
	set_bit(d, ICPENDR, SPI);
	w32(d + IGROUPR + SPI / 8, 0);
	w32(c + GICC_CTLR, 1);
	w32(d + GICD_CTLR, 1);
	report(clean(), "nothing is left of the groups");
}

static void
levels(void)
{
	w8(d + IPRIORITYR + INTID_VTIMER, 0x80);
	set_bit(d, ISENABLER, INTID_VTIMER);
	msr(cntv_cval_el0, 0);
	msr(cntv_ctl_el0, 1);
	report(wait_for(irq(), 1000), "the timer that is due is signalled");
	set_bit(d, ICPENDR, INTID_VTIMER);
	report(irq() && bit_of(d, ISPENDR, INTID_VTIMER), "ICPENDR does not take a level away");
	report(take() == INTID_VTIMER && !irq(), "it is taken, and quiet while active");
	end(INTID_VTIMER);
	report(wait_for(irq(), 1000) && take() == INTID_VTIMER, "it comes again while it is up");
	msr(cntv_ctl_el0, 0);
	settle();
	end(INTID_VTIMER);
	report(!irq() && take() == SPURIOUS, "and not when it is down");
	set_bit(d, ICENABLER, INTID_VTIMER);
}

static void
sgis(void)
{
	bool ok = true;

	for (unsigned n = 0; n < 16; n++) {
		w32(d + SGIR, 2u << 24 | n);
		ok = ok && (take_soon() & 0x3ff) == n;
		end(n);
	}
	report(ok, "each SGI to oneself arrives");
	w32(d + SGIR, 1u << 24 | 5);
	delay_us(100);
	report(!irq(), "one to all others does not reach the sender");
	w8(d + SPENDSGIR + 5, target[0]);
	report(r8(d + CPENDSGIR + 5) == target[0] && bit_of(d, ISPENDR, 5),
	    "SPENDSGIR makes one pending");
	w8(d + CPENDSGIR + 5, target[0]);
	report(!irq() && !bit_of(d, ISPENDR, 5), "CPENDSGIR takes it back");
	pend(6);
	report(!bit_of(d, ISPENDR, 6), "ISPENDR does not touch SGIs");
}

#include "gic_other.h"

static void
send_five(void *arg)
{
	unsigned got;

	(void)arg;
	while ((got = take()) != SPURIOUS)
		end(got);
	w32(d + SGIR, (uint32_t)target[0] << 16 | 5);
	w32(d + SGIR, (uint32_t)target[0] << 16 | 5);
	dsb();
}

static void
others(void)
{
	unsigned got, sources = 0;
	bool ok = true;

	if (ncpus < 2) {
		skip("one CPU");
		return;
	}
	for (unsigned n = 1; n < ncpus; n++) {
		cpu_run(n, send_five, NULL);
		cpu_wait(n);
	}
	for (unsigned n = 1; n < ncpus; n++) {
		got = take_soon();
		ok = ok && (got & 0x3ff) == 5;
		sources |= 1u << (got >> 10);
		end(got);
	}
	report(ok && !irq() && sources == (1u << ncpus) - 1 - target[0],
	    "the same SGI of several CPUs arrives once from each, with its sender");

	spi(SPI, 0x80);
	w8(d + ITARGETSR + SPI, target[1]);
	step = 0;
	cpu_run(1, other_takes, NULL);
	pend(SPI);
	report(bit_of(d, ISPENDR, SPI) && !irq(),
	    "an SPI that waits for another CPU reads as pending");
	set_bit(d, ICPENDR, SPI);
	report(!bit_of(d, ISPENDR, SPI), "it can be taken back from there");
	pend(SPI);
	step = 1;
	report(wait_for(step == 2, 5000) && seen_by_other == SPI, "it is taken there");
	report(bit_of(d, ISACTIVER, SPI), "and reads as active");
	w8(d + ITARGETSR + SPI, target[0]);
	pend(SPI);
	report(!irq(), "moved while active it ends where it was taken");
	step = 3;
	wait_for(step == 4, 5000);
	report(take_soon() == SPI, "then the next one comes here");
	end(SPI);
	step = 5;
	report(wait_for(step == 6, 5000) && seen_by_other == SPURIOUS, "and not there");
	cpu_wait(1);

	w32(d + GICD_CTLR, 0);
	w8(d + ITARGETSR + SPI, target[1]);
	pend(SPI);
	step = seen_by_other = 0;
	cpu_run(1, sleeps, NULL);
	wait_for(step == 1, 5000);
	delay_us(5000);
	report(cpus[1].state == CPU_BUSY, "a CPU waits while the distributor is off");
	w32(d + GICD_CTLR, 1);
	cpu_wait(1);
	report(seen_by_other == SPI, "A08: turning it on wakes it");
	report(clean(), "nothing is left on the other CPUs");
}

static volatile uint32_t matrix[MAX_CPUS][MAX_CPUS];
static struct barrier all;

static void
matrix_cpu(void *arg)
{
	unsigned me = this_cpu()->index, got;

	(void)arg;
	for (unsigned from = 0; from < ncpus; from++) {
		barrier_wait(&all, ncpus);
		if (me == from) {
			dsb();
			for (unsigned to = 0; to < ncpus; to++)
				w32(d + SGIR, (uint32_t)target[to] << 16 | (1 + from));
		}
		got = take_soon();
		if ((got & 0x3ff) == 1 + from && 1u << (got >> 10) == target[from])
			matrix[me][from] = matrix[me][from] + 1;
		if (got != SPURIOUS)
			end(got);
	}
}

static void
sgi_matrix(void)
{
	unsigned wrong = 0;

	if (ncpus < 2) {
		skip("one CPU has no bit");
		return;
	}
	cpu_run_on(ncpus, matrix_cpu, NULL);
	for (unsigned to = 0; to < ncpus; to++) {
		for (unsigned from = 0; from < ncpus; from++)
			wrong += matrix[to][from] != 1;
	}
	report(wrong == 0, "an SGI from each CPU to each arrives once");
}

static const struct {
	const char *name;
	void (*fn)(void);
} parts[] = {
	{ "id", identification },
	{ "bits", bits },
	{ "simple", simple },
	{ "order", order },
	{ "preemption", preemption },
	{ "split", split_end },
	{ "groups", groups },
	{ "levels", levels },
	{ "sgis", sgis },
	{ "others", others },
	{ "matrix", sgi_matrix },
};

void
test_main(void)
{
	struct fdt_node gic;

	if (!fdt_compatible("arm,cortex-a15-gic", 0, &gic))
		die("the machine has a GICv2");
	d = fdt_cells2(&gic, "reg", 0);
	c = fdt_cells2(&gic, "reg", 4);
	last_intid = ((r32(d + GICD_TYPER) & 31) + 1) * 32 - 1;
	if (last_intid > 991) /* whole words */
		last_intid = 991;
	w32(d + GICD_CTLR, 1);
	cpu_init(NULL);
	for (unsigned n = 1; n < ncpus; n++) {
		cpu_start(n);
		cpu_run(n, cpu_init, NULL);
		cpu_wait(n);
	}
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (arg_selected(parts[i].name))
			parts[i].fn();
	}
}
