/*
 * GICv3: distributor, redistributors, CPU interface. Interrupts stay masked;
 * the test acknowledges by hand what ISR_EL1 says is there.
 *
 *	only=id,bits,...	some of the parts
 */
#include "gic_v3.h"

static uint64_t d;          /* the distributor */
static unsigned last_intid; /* the highest SPI */

static void
pend(unsigned intid)
{
	set_bit(d, ISPENDR, intid);
}

/* -- identification ---------------------------------------------------------------------- */

static void
identification(void)
{
	uint64_t r = this_cpu()->gicr, typer, a;
	unsigned frames = 0, lasts = 0;
	bool order = true;

	report((r32(d + PIDR2) >> 4 & 15) == 3, "the distributor says GICv3");
	report((r32(r + PIDR2) >> 4 & 15) == 3, "the redistributor says GICv3");
	report((r32(d + GICD_TYPER) >> 19 & 31) + 1 >= 10, "there are at least 10 bits of INTID");
	report((r32(d + GICD_CTLR) & 1u << 4) != 0, "affinity routing is on");
	report((r32(d + GICD_CTLR) & 1u << 31) == 0, "no register write is pending");
	for (a = machine.gicr;; a += 0x20000) {
		typer = r64(a + GICR_TYPER);
		order = order && (uint32_t)typer >> 8 == (frames | (uint32_t)typer >> 24 << 16);
		frames++;
		lasts += typer >> 4 & 1;
		if ((typer & 1u << 4) != 0 || frames == MAX_CPUS)
			break;
	}
	report(frames == ncpus && lasts == 1, "Last marks the last redistributor only");
	report(order, "redistributors have processor numbers from 0 up");
	report(r32(r + GICR_TYPER) == (uint32_t)r64(r + GICR_TYPER) &&
		   r32(r + GICR_TYPER + 4) == r64(r + GICR_TYPER) >> 32,
	    "GICR_TYPER can be read in halves");
	w32(r + GICR_WAKER, 2);
	report(wait_for((r32(r + GICR_WAKER) & 4) != 0, 1000),
	    "ProcessorSleep puts children to sleep");
	w32(r + GICR_WAKER, 0);
	report(wait_for((r32(r + GICR_WAKER) & 6) == 0, 1000), "and wakes them");
	report((get_ctlr() >> 8 & 7) >= 4, "there are at least 5 bits of priority");
	report((mrs(S3_0_C12_C12_5) & 1) != 0, "system registers are on");
	msr(S3_0_C12_C12_5, 0);
	isb();
	report((mrs(S3_0_C12_C12_5) & 1) != 0 || !machine.bhyve, "and cannot be turned off");
	msr(S3_0_C12_C12_5, 7);
	isb();
}

/* -- a bit per interrupt ------------------------------------------------------------------- */

/* Set each bit of a bank alone, and clear it alone; `both` registers show it. */
static bool
walk(unsigned set_reg, unsigned clear_reg)
{
	bool ok = true;

	for (unsigned n = 32; n <= last_intid; n++) {
		w32(d + clear_reg + n / 32 * 4, ~0u);
		set_bit(d, set_reg, n);
		ok = ok && r32(d + set_reg + n / 32 * 4) == 1u << n % 32;
		ok = ok && r32(d + clear_reg + n / 32 * 4) == 1u << n % 32;
		w32(d + set_reg + n / 32 * 4, ~0u);
		set_bit(d, clear_reg, n);
		ok = ok && (r32(d + set_reg + n / 32 * 4) | 1u << n % 32) ==
			       (last_intid / 32 == n / 32 && last_intid % 32 != 31
				       ? (2u << last_intid % 32) - 1
				       : ~0u);
		ok = ok && !bit_of(d, set_reg, n);
		w32(d + clear_reg + n / 32 * 4, ~0u);
	}
	return (ok);
}

static void
bits(void)
{
	bool ok = true;
	uint64_t r = this_cpu()->gicr + SGI;

	w32(d + GICD_CTLR, 1u << 4);
	report(walk(ISENABLER, ICENABLER), "A01: each SPI is enabled and disabled alone");
	report(walk(ISPENDR, ICPENDR), "each SPI is made pending and not alone");
	report(walk(ISACTIVER, ICACTIVER), "each SPI is made active and not alone");
	w32(d + GICD_CTLR, 1u << 4 | 2);

	for (unsigned n = 32; n <= last_intid; n++)
		w8(d + IPRIORITYR + n, (uint8_t)(n << 3));
	for (unsigned n = 32; n <= last_intid; n++)
		ok = ok && r8(d + IPRIORITYR + n) == (uint8_t)(n << 3);
	report(ok, "each priority is a byte of its own");
	w32(d + IPRIORITYR + SPI, 0x80604020);
	report(r8(d + IPRIORITYR + SPI + 2) == 0x60 && r32(d + IPRIORITYR + SPI) == 0x80604020,
	    "priorities can be written by word and read by byte");

	gic_set_edge(SPI, true);
	gic_set_edge(SPI + 1, false);
	report((r32(d + ICFGR + SPI / 4) & 0xf) == 2, "ICFGR is two bits for each");
	report((r32(r + ICFGR) & 0xaaaaaaaa) == 0xaaaaaaaa, "SGIs are edges");

	w64(d + IROUTER + SPI * 8, UINT64_C(0x1200345600) | 0x78);
	report(r64(d + IROUTER + SPI * 8) == UINT64_C(0x1200345678), "IROUTER is 64 bits");
	w32(d + IROUTER + SPI * 8 + 4, 0x9a);
	report(r64(d + IROUTER + SPI * 8) == UINT64_C(0x9a00345678),
	    "A03: its upper half can be written alone");
	w32(d + IROUTER + SPI * 8, 1);
	report(r32(d + IROUTER + SPI * 8 + 4) == 0x9a && r32(d + IROUTER + SPI * 8) == 1,
	    "and its lower half");
	report(r32(d + ISENABLER) == 0 && r32(d + ISPENDR) == 0 && r32(d + IPRIORITYR) == 0,
	    "private interrupts are not in the distributor");
	for (unsigned n = 32; n <= last_intid; n++)
		w8(d + IPRIORITYR + n, 0x80);
}

/* -- acknowledge and end --------------------------------------------------------------------- */

static void
simple(void)
{
	spi(SPI, 0x80);
	report(take() == SPURIOUS && hppir1() == SPURIOUS, "with nothing pending IAR says 1023");
	report(rpr() == 0xff, "and RPR is idle");
	pend(SPI);
	report(irq(), "a pending SPI is signalled");
	report(hppir1() == SPI, "HPPIR shows it");
	report(bit_of(d, ISPENDR, SPI), "it reads as pending before IAR");
	report(take() == SPI, "IAR returns it");
	report(rpr() == 0x80, "RPR is its priority");
	report(
	    !bit_of(d, ISPENDR, SPI) && bit_of(d, ISACTIVER, SPI), "it reads as active afterwards");
	report(!irq() && take() == SPURIOUS, "it is not signalled again");
	pend(SPI);
	report(
	    bit_of(d, ISPENDR, SPI) && bit_of(d, ISACTIVER, SPI), "it can be active and pending");
	report(!irq(), "which is not signalled either");
	end(SPI);
	report(rpr() == 0xff && irq() && take() == SPI, "it comes again after the end");
	end(SPI);
	report(!irq() && !bit_of(d, ISACTIVER, SPI), "after the last end it is gone");

	/* A02 */
	pend(SPI);
	take();
	gic_disable(SPI);
	end(SPI);
	report(
	    !bit_of(d, ISACTIVER, SPI), "A02: an end is not lost while the interrupt is disabled");
	gic_enable(SPI, 0x80);
	pend(SPI);
	report(take() == SPI, "A02: and it fires again");
	end(SPI);

	gic_disable(SPI);
	pend(SPI);
	report(
	    !irq() && bit_of(d, ISPENDR, SPI), "a disabled interrupt pends but is not signalled");
	gic_enable(SPI, 0x80);
	report(irq(), "until it is enabled");
	set_bit(d, ICPENDR, SPI);
	report(!irq() && take() == SPURIOUS, "ICPENDR takes it back");

	/* made active by hand */
	set_bit(d, ISACTIVER, SPI);
	pend(SPI);
	report(!irq(), "one that was made active is not signalled");
	set_bit(d, ICACTIVER, SPI);
	report(irq() && take() == SPI, "until it is made inactive");
	end(SPI);

	/* ends of what is not active */
	pend(SPI);
	take();
	end(1020);
	end(1023);
	report(rpr() == 0x80 && bit_of(d, ISACTIVER, SPI), "ends of special INTIDs change nothing");
	end(SPI);
	report(clean(), "nothing is left behind");
}

static void
routes(void)
{
	spi(SPI, 0x80);
	w64(d + IROUTER + SPI * 8, UINT64_C(0xff00ffffff));
	pend(SPI);
	report(!irq(), "A04: an SPI for a CPU that is not there is not signalled");
	report(bit_of(d, ISPENDR, SPI), "A04: and stays pending");
	w64(d + IROUTER + SPI * 8, this_cpu()->mpidr);
	settle();
	report(take_soon() == SPI, "A04: until it is routed to one that is");
	end(SPI);
	if ((r32(d + GICD_TYPER) & 1u << 16) != 0) {
		for (unsigned n = 0; n < 32; n++)
			w32(d + GICD_SETSPI, n);
		w32(d + GICD_SETSPI, 1020);
		w32(d + GICD_SETSPI, 1023);
		report(!irq(), "A05: SETSPI of what is no SPI does nothing");
		w32(d + GICD_SETSPI, SPI);
		report(take() == SPI, "SETSPI makes an edge pending");
		end(SPI);
		gic_set_edge(SPI, false);
		w32(d + GICD_SETSPI, SPI);
		report(take() == SPI, "and raises a level");
		end(SPI);
		report(take() == SPI, "which comes again");
		w32(d + GICD_CLRSPI, SPI);
		end(SPI);
		report(!irq(), "until CLRSPI");
	} else {
		skip("no message-based SPIs");
	}
	report(clean(), "nothing is left after routing");
}

/* -- priorities -------------------------------------------------------------------------------- */

static void
order(void)
{
	uint64_t seed = 88172645463325252u;
	uint8_t prio[NSPI];
	unsigned n, got, before = 0, lowest;
	bool ok = true, unique = true;
	uint64_t seen = 0;

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
	for (n = 0; n < NSPI; n++)
		w8(d + IPRIORITYR + SPI + n, 0x80);
	w32(d + ISPENDR + SPI / 8, ~0u);
	w32(d + ISPENDR + SPI / 8 + 4, ~0u);
	ok = true;
	for (n = 0; n < NSPI; n++) {
		lowest = take();
		ok = ok && lowest == SPI + n;
		end(lowest);
	}
	report(ok, "of equal priority the lowest INTID is first");
	report(clean(), "nothing is left after that");
}

static void
preemption(void)
{
	unsigned n, depth = 28;
	bool ok = true;

	/* nested as deep as priorities go, deeper than list registers */
	for (n = 0; n < depth; n++)
		spi(SPI + n, (depth - n) * 8);
	for (n = 0; n < depth; n++) {
		pend(SPI + n);
		ok = ok && take() == SPI + n && rpr() == (depth - n) * 8;
	}
	report(ok, "28 interrupts nest, each of a higher priority");
	ok = true;
	for (n = depth; n-- != 0;) {
		ok = ok && rpr() == (depth - n) * 8;
		pend(SPI + n); /* again while active */
		end(SPI + n);
		if (n != 0) {
			/* it preempts what it had preempted */
			ok = ok && take() == SPI + n;
			end(SPI + n);
		}
	}
	ok = ok && take() == SPI;
	end(SPI);
	report(ok && rpr() == 0xff, "they end in turn, and come again");

	spi(SPI, 0x80);
	spi(SPI + 1, 0x80);
	spi(SPI + 2, 0x78);
	pend(SPI);
	take();
	pend(SPI + 1);
	report(!irq(), "the same priority does not preempt");
	report(hppir1() == SPI + 1, "though HPPIR shows it");
	set_pmr(0x78);
	pend(SPI + 2);
	report(!irq(), "a priority equal to PMR is masked");
	set_pmr(0x80);
	report(irq(), "one above PMR is not");
	set_pmr(0xf8);
	report(take() == SPI + 2, "it preempts");
	end(SPI + 2);
	end(SPI);
	report(take() == SPI + 1, "the other one follows");
	end(SPI + 1);

	report(bpr1() >= 1, "BPR1 is not 0");
	set_bpr1(0);
	n = bpr1();
	set_bpr1(7);
	report(bpr1() == 7 && n >= 1, "BPR1 has a least value, and takes 7");
	set_bpr1(6); /* groups: bits 7 and 6 */
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
	set_bpr1(0);
	report(clean(), "nothing is left after preemption");
}

static void
split_end(void)
{
	bool ok = true;

	set_ctlr(get_ctlr() | 2);
	isb();
	for (unsigned n = 0; n < 8; n++)
		spi(SPI + n, 0x80);
	w32(d + ISPENDR + SPI / 8, 0xff);
	for (unsigned n = 0; n < 8; n++) {
		ok = ok && take() == SPI + n;
		end(SPI + n);
		ok = ok && rpr() == 0xff && bit_of(d, ISACTIVER, SPI + n);
	}
	report(ok, "with EOImode 1 EOIR drops the priority and leaves 8 active");
	ok = true;
	w32(d + ISPENDR + SPI / 8, 0xff);
	report(!irq(), "active ones that are pending again are not signalled");
	for (unsigned i = 0, n = 3; i < 8; i++, n = (n + 3) & 7) {
		dir(SPI + n);
		isb();
		ok = ok && !bit_of(d, ISACTIVER, SPI + n) && take() == SPI + n;
		end(SPI + n);
	}
	report(ok, "DIR deactivates in any order, and each comes again");
	for (unsigned n = 0; n < 8; n++)
		dir(SPI + n);
	isb();
	set_ctlr(get_ctlr() & ~2ull);
	report(clean(), "nothing is left after split ends");
}

static void
groups(void)
{
	uint32_t was = r32(d + IGROUPR + SPI / 8);
	unsigned got;

	w32(d + GICD_CTLR, 1u << 4 | 3);
	spi(SPI, 0x80);
	spi(SPI + 1, 0xa0);
	w32(d + IGROUPR + SPI / 8, was & ~1u);
	if ((r32(d + IGROUPR + SPI / 8) & 1) != 0) {
		skip("group 0 is not ours");
		return;
	}
	set_grp0(1);
	pend(SPI);
	report(fiq() && !irq(), "group 0 is signalled as FIQ");
	report(take() == SPURIOUS && hppir1() == SPURIOUS, "IAR1 does not return it");
	report(hppir0() == SPI && iar0() == SPI, "IAR0 does");
	report(rpr() == 0x80, "and its priority runs");
	pend(SPI + 1);
	report(!irq() && !fiq(), "which holds back a lower one of group 1");
	eoir0(SPI);
	isb();
	report(take() == SPI + 1 && iar0() == SPURIOUS, "until its end");
	pend(SPI);
	report(fiq() && iar0() == SPI, "group 0 preempts group 1");
	eoir0(SPI);
	end(SPI + 1);
	set_grp0(0);
	pend(SPI);
	report(!fiq() && hppir0() == SPURIOUS, "a closed group is not signalled");
	pend(SPI + 1);
	got = take();
	report(got == SPI + 1, "and does not hold the other back");
	if (got == SPURIOUS) { /* it did */
		set_grp0(1);
		isb();
		eoir0(iar0());
		got = take();
		end(got);
		set_grp0(0);
		pend(SPI);
	} else {
		end(got);
	}
	w32(d + GICD_CTLR, 1u << 4 | 2);
	set_grp0(1);
	report(!fiq(), "nor is one that the distributor closes");
	w32(d + GICD_CTLR, 1u << 4 | 3);
	report(fiq(), "it is when that opens it");
	set_bit(d, ICPENDR, SPI);
	set_grp0(0);
	w32(d + IGROUPR + SPI / 8, was | 3);
	w32(d + GICD_CTLR, 1u << 4 | 2);
	set_grp1(0);
	pend(SPI);
	report(!irq() && take() == SPURIOUS, "nor is group 1 when it is closed");
	set_grp1(1);
	report(irq(), "until it opens");
	take();
	end(SPI);
	report(clean(), "nothing is left of the groups");
}

/* Take what is there; *arg is the last of it. */
static void
drain(void *arg)
{
	unsigned got, *seen = arg;

	while ((got = take()) != SPURIOUS) {
		end(got);
		if (seen != NULL)
			*seen = got;
	}
}

/* -- levels and SGIs --------------------------------------------------------------------------------- */

static void
levels(void)
{
	uint64_t r = this_cpu()->gicr + SGI;

	gic_enable(INTID_VTIMER, 0x80);
	msr(cntv_cval_el0, 0);
	msr(cntv_ctl_el0, 1);
	report(wait_for(irq(), 1000), "the timer that is due is signalled");
	report(bit_of(r, ISPENDR, INTID_VTIMER), "its level reads as pending");
	set_bit(r, ICPENDR, INTID_VTIMER);
	report(irq() && bit_of(r, ISPENDR, INTID_VTIMER), "ICPENDR does not take a level away");
	report(take() == INTID_VTIMER, "it is taken");
	report(!irq(), "a level that is active is not signalled");
	end(INTID_VTIMER);
	report(wait_for(irq(), 1000) && take() == INTID_VTIMER, "it comes again while it is up");
	msr(cntv_ctl_el0, 0);
	settle();
	end(INTID_VTIMER);
	report(!irq(), "and not when it is down");
	msr(cntv_ctl_el0, 1);
	report(wait_for(irq(), 1000), "it is signalled anew");
	msr(cntv_ctl_el0, 0);
	settle();
	gic_disable(INTID_VTIMER);
	report(!irq() && take() == SPURIOUS, "and not once it is down and disabled");
}

static void
sgis(void)
{
	uint64_t r = this_cpu()->gicr + SGI, m = this_cpu()->mpidr;
	uint64_t to = (m >> 16 & 0xff) << 32 | (m >> 8 & 0xff) << 16 | UINT64_C(1) << (m & 15);
	struct caught c;
	unsigned seen;
	bool ok = true;

	for (unsigned n = 0; n < 16; n++) {
		sgi1r(to | (uint64_t)n << 24);
		isb();
		ok = ok && take_soon() == n;
		end(n);
	}
	report(ok, "each SGI to oneself arrives");
	sgi1r(to | 5 << 24);
	sgi1r(to | 5 << 24);
	isb();
	report(take_soon() == 5, "an SGI that is sent twice");
	end(5);
	report(!irq(), "arrives once");
	sgi1r(to | UINT64_C(1) << 44 | 5 << 24);
	isb();
	delay_us(100);
	report(!irq(), "A09: a range that names no CPU reaches none");
	drain(NULL);
	sgi1r(UINT64_C(1) << 40 | 5 << 24);
	isb();
	delay_us(100);
	report(!irq(), "IRM does not reach the sender");
	drain(NULL);
	for (unsigned n = 1; n < ncpus; n++) {
		seen = SPURIOUS;
		cpu_run(n, drain, &seen);
		cpu_wait(n);
		ok = ok && seen == 5;
	}
	report(ok, "it reaches all others");
	catch_begin(&c);
	(void)mrs(S3_0_C12_C11_5);
	catch_end();
	report(c.count == 1 && ESR_EC(c.esr) == 0, "A09: ICC_SGI1R cannot be read");
	set_bit(r, ISPENDR, 7);
	report(take_soon() == 7, "SGIs can be made pending");
	end(7);
	gic_disable(7);
	sgi1r(to | 7 << 24);
	isb();
	delay_us(100);
	report(!irq() && bit_of(r, ISPENDR, 7), "a disabled SGI waits");
	gic_enable(7, 0x80);
	report(take_soon() == 7, "until it is enabled");
	end(7);
}

static const struct {
	const char *name;
	void (*fn)(void);
} parts[] = {
	{ "id", identification },
	{ "bits", bits },
	{ "simple", simple },
	{ "routes", routes },
	{ "order", order },
	{ "preemption", preemption },
	{ "split", split_end },
	{ "groups", groups },
	{ "levels", levels },
	{ "sgis", sgis },
};

void
test_main(void)
{
	gic_init();
	cpu_start_all();
	d = machine.gicd;
	last_intid = ((r32(d + GICD_TYPER) & 31) + 1) * 32 - 1;
	if (last_intid > 1019)
		last_intid = 1019;
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (arg_selected(parts[i].name))
			parts[i].fn();
	}
}
