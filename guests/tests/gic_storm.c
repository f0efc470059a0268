/*
 * Interrupts from everywhere to everywhere: every CPU raises SPIs, SGIs and,
 * where there is an ITS, LPIs, moves, masks and reorders them, and takes what
 * comes, until there were enough.
 *
 * An interrupt is raised only when its flag is down, the flag goes up before
 * and down when it was acknowledged: so each raise must be taken exactly once.
 *
 *	interrupts=N	[20000]
 *	seed=N
 */
#include "lib.h"

#define GICD_TYPER 0x4
#define GICD_SETSPI 0x40
#define GICD_CLRSPI 0x48
#define ISENABLER 0x100
#define ICENABLER 0x180
#define ISPENDR 0x200
#define ISACTIVER 0x300
#define IPRIORITYR 0x400
#define IROUTER 0x6000
#define IROUTER_IRM (UINT64_C(1) << 31)

#define EDGES 64u /* SPIs from here */
#define NEDGES 32u
#define LEVELS (EDGES + NEDGES)
#define NLEVELS 8u
#define NSPI (NEDGES + NLEVELS)
#define NSGI 8u
#define SGI_WAKE 15u
#define LPI 8192u
#define NLPI 16u

#define GITS_CTLR 0x0
#define GITS_TYPER 0x8
#define GITS_CBASER 0x80
#define GITS_CWRITER 0x88
#define GITS_CREADR 0x90
#define GITS_BASER 0x100
#define GITS_TRANSLATER 0x10040
#define VALID (UINT64_C(1) << 63)

static uint64_t d, its;
static bool messages;
static volatile uint32_t spi_flag[NSPI], sgi_flag[MAX_CPUS][NSGI], lpi_flag[NLPI];
static volatile uint64_t raised, taken, unexpected;
static struct barrier all;
static volatile bool stop;
static uint64_t enough;
static struct lock its_lock;
static volatile uint64_t *queue;
static uint64_t rd_base[MAX_CPUS];

static uint64_t
add(volatile uint64_t *p, uint64_t n)
{
	return (__atomic_fetch_add(p, n, __ATOMIC_RELAXED));
}

static bool
up(volatile uint32_t *flag)
{
	uint32_t down = 0;

	if (!__atomic_compare_exchange_n(flag, &down, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return (false);
	add(&raised, 1);
	return (true);
}

static void
came(volatile uint32_t *flag)
{
	add(&taken, 1);
	if (__atomic_exchange_n(flag, 0, __ATOMIC_ACQ_REL) == 0)
		add(&unexpected, 1);
}

static void
handler(unsigned intid)
{
	if (intid >= LPI && intid < LPI + NLPI) {
		came(&lpi_flag[intid - LPI]);
	} else if (intid >= LEVELS && intid < LEVELS + NLEVELS) {
		w32(d + GICD_CLRSPI, intid);
		dsb();
		came(&spi_flag[intid - EDGES]);
	} else if (intid >= EDGES && intid < LEVELS) {
		came(&spi_flag[intid - EDGES]);
	} else if (intid < NSGI) {
		came(&sgi_flag[this_cpu()->index][intid]);
	} else if (intid != SGI_WAKE) {
		add(&unexpected, 1);
	}
}

/* -- LPIs ----------------------------------------------------------------------------- */

static void
command(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t at = r64(its + GITS_CWRITER) & 0xfffe0;
	volatile uint64_t *q = queue + at / 8;

	q[0] = a;
	q[1] = b;
	q[2] = c;
	q[3] = 0;
	dsb();
	w64(its + GITS_CWRITER, (at + 32) % 4096);
	while ((r64(its + GITS_CREADR) & 0xfffe0) != (r64(its + GITS_CWRITER) & 0xfffe0))
		relax();
}

static void
its_start(void)
{
	struct fdt_node node;
	uint8_t *props = page_alloc(4);
	uint64_t pend = ((uintptr_t)page_alloc(16 * ncpus + 16) + 0xffff) & ~0xffffull, r;

	if (!fdt_compatible("arm,gic-v3-its", 0, &node))
		return;
	its = fdt_cells2(&node, "reg", 0);
	for (unsigned n = 0; n < NLPI; n++)
		props[n] = 0x80 | 1;
	for (unsigned n = 0; n < ncpus; n++) {
		r = cpus[n].gicr;
		w64(r + 0x70, (uintptr_t)props | 13);
		w64(r + 0x78, pend + n * 0x10000ull);
		w32(r, r32(r) | 1);
		rd_base[n] =
		    (r64(its + GITS_TYPER) >> 19 & 1) != 0 ? r & ~0xffffull : (uint64_t)n << 16;
	}
	w64(its + GITS_BASER, VALID | (uintptr_t)page_alloc(1));
	w64(its + GITS_BASER + 8, VALID | (uintptr_t)page_alloc(1));
	queue = page_alloc(1);
	w64(its + GITS_CBASER, VALID | (uintptr_t)queue);
	w64(its + GITS_CWRITER, 0);
	w32(its + GITS_CTLR, 1);
	for (unsigned n = 0; n < ncpus; n++)
		command(9, 0, n | rd_base[n] | VALID);
	command(8, 4, (uintptr_t)page_alloc(1) | VALID);
	for (unsigned n = 0; n < NLPI; n++)
		command(0xa, n | (uint64_t)(LPI + n) << 32, n % ncpus);
}

static void
lpi_op(uint64_t r)
{
	unsigned n = r % NLPI;

	if ((r >> 8 & 7) != 0) {
		if (up(&lpi_flag[n]))
			w32(its + GITS_TRANSLATER, n);
		return;
	}
	lock(&its_lock);
	command(1, n, (r >> 16) % ncpus); /* MOVI */
	unlock(&its_lock);
}

/* -- the storm ------------------------------------------------------------------------ */

static void
spi_raise(unsigned n)
{
	if (n >= NEDGES && !messages)
		return;
	if (!up(&spi_flag[n]))
		return;
	if (n >= NEDGES)
		w32(d + GICD_SETSPI, EDGES + n);
	else
		w32(d + ISPENDR + (EDGES + n) / 32 * 4, 1u << (EDGES + n) % 32);
}

static void
one(uint64_t r)
{
	unsigned n = (unsigned)(r >> 8) % NSPI, intid = EDGES + n, to = (unsigned)(r >> 24) % ncpus;
	uint64_t word = intid / 32 * 4, mask = 1u << intid % 32;

	switch (r & 15) {
	case 0:
		w64(d + IROUTER + intid * 8ull, (r >> 40 & 7) == 0 ? IROUTER_IRM : cpus[to].mpidr);
		break;
	case 1:
		w32(d + ICENABLER + word, (uint32_t)mask);
		break;
	case 2:
	case 3:
		w32(d + ISENABLER + word, (uint32_t)mask);
		break;
	case 4:
		w8(d + IPRIORITYR + intid, (uint8_t)((1 + (r >> 32) % 28) << 3));
		break;
	case 5:
	case 6:
	case 7:
		if (up(&sgi_flag[to][n % NSGI]))
			gic_send(n % NSGI, to);
		break;
	case 8:
	case 9:
		if (its != 0)
			lpi_op(r >> 8);
		break;
	case 10:
		if ((r >> 40 & 3) == 0 && this_cpu()->index != 0 && !stop)
			wfi();
		break;
	default:
		spi_raise(n);
		break;
	}
}

static void
storm(void *arg)
{
	uint64_t seed = arg_number("seed", 1) * 0x9e3779b97f4a7c15u + this_cpu()->index + 1;
	uint64_t limit = ticks() + ticks_hz() * arg_number("patience", 900);

	(void)arg;
	irq_on();
	while (!stop) {
		one(random_next(&seed) >> 3);
		if (this_cpu()->index != 0)
			continue;
		if (__atomic_load_n(&taken, __ATOMIC_RELAXED) >= enough || ticks() > limit)
			stop = true;
	}
	/* wake who sleeps; when nobody raises any more, stay for what is still to come */
	if (this_cpu()->index == 0) {
		for (unsigned n = 1; n < ncpus; n++)
			gic_send(SGI_WAKE, n);
	}
	barrier_wait(&all, ncpus);
	if (this_cpu()->index == 0) {
		for (unsigned n = 0; n < NSPI; n++) {
			w64(d + IROUTER + (EDGES + n) * 8ull, cpus[n % ncpus].mpidr);
			w32(d + ISENABLER + (EDGES + n) / 32 * 4, 1u << (EDGES + n) % 32);
		}
	}
	wait_for(taken >= raised, 20000);
	irq_off();
}

void
test_main(void)
{
	uint64_t begin, ns, left = 0;

	enough = arg_number("interrupts", 20000);
	d = machine.gicd;
	gic_init();
	cpu_start_all();
	messages = (r32(d + GICD_TYPER) & 1u << 16) != 0;
	its_start();
	for (unsigned n = 0; n < NSPI; n++) {
		gic_set_edge(EDGES + n, n < NEDGES);
		gic_enable(EDGES + n, 0x80);
	}
	irq_handler = handler;
	begin = ticks();
	cpu_run_on(ncpus, storm, NULL);
	ns = ticks_to_ns(ticks() - begin);
	for (unsigned n = 0; n < NSPI; n++) {
		if (spi_flag[n] == 0)
			continue;
		left++;
		info("SPI %u: enabled %u, pending %u, active %u, priority %u, to %lx", EDGES + n,
		    r32(d + ISENABLER + (EDGES + n) / 32 * 4) >> (EDGES + n) % 32 & 1,
		    r32(d + ISPENDR + (EDGES + n) / 32 * 4) >> (EDGES + n) % 32 & 1,
		    r32(d + ISACTIVER + (EDGES + n) / 32 * 4) >> (EDGES + n) % 32 & 1,
		    r8(d + IPRIORITYR + EDGES + n), r64(d + IROUTER + (EDGES + n) * 8ull));
	}
	for (unsigned n = 0; n < NLPI; n++)
		left += lpi_flag[n];
	for (unsigned c = 0; c < ncpus; c++) {
		for (unsigned n = 0; n < NSGI; n++) {
			if (sgi_flag[c][n] == 0)
				continue;
			left++;
			info("SGI %u of CPU %u: pending %u, active %u", n, c,
			    r32(cpus[c].gicr + 0x10000 + ISPENDR) >> n & 1,
			    r32(cpus[c].gicr + 0x10000 + ISACTIVER) >> n & 1);
		}
	}
	info("%lu raised, %lu taken in %lu ms", raised, taken, ns / 1000000);
	report(taken >= enough, "there were as many interrupts as were to be");
	report(left == 0, "none is stuck");
	report(unexpected == 0, "none comes twice, or unasked");
	report(raised == taken, "each raise is taken exactly once");
}
