/*
 * Counters, events, filters, overflow and the registers of the PMU: see pmu.h.
 *
 * 6 event counters of 32 bits, the cycle counter of 64. Without AArch32 PMCR_EL0.LC
 * is 1 and D is 0. No EL3: the secure filters are RES0.
 */
#include "pe/pmu.h"

#include "pe/except.h"
#include "pe/sysreg_fn.h"

#define PMCR_E BIT(0)
#define PMCR_P BIT(1)
#define PMCR_C BIT(2)
#define PMCR_X BIT(4)
#define PMCR_DP BIT(5)
#define PMCR_LC BIT(6)
#define PMCR_IMP (UINT64_C(0x41) << 24)
#define TYPER_P BIT(31)   /* not EL1 */
#define TYPER_U BIT(30)   /* not EL0 */
#define TYPER_NSH BIT(27) /* EL2 too */
#define TYPER_FILTERS (TYPER_P | TYPER_U | TYPER_NSH)
#define MDCR_HPMN(v) ((unsigned)((v)&0x1f))
#define MDCR_HPME BIT(7)
#define MDCR_HPMD BIT(17)
#define USER_EN BIT(0)
#define USER_SW BIT(1)
#define USER_CR BIT(2)
#define USER_ER BIT(3)
#define MDCR_TPM BIT(6)
#define MDCR_TPMCR BIT(5)

#define CYCLES BIT(PMU_CYCLES)
#define ALL_COUNTERS (CYCLES | (BIT(PMU_COUNTERS) - 1))

/* Event numbers (D13.12), and where each is counted. */
enum { EV_SW_INCR = 0x00, EV_CHAIN = 0x1e };
enum source { NONE, INSNS, FETCH_FILL, TLB_FILL, EXCEPTIONS, LOADS, STORES, ACCESSES, BRANCHES };

static const struct {
	uint8_t event, source;
} events[] = {
	{ EV_SW_INCR, NONE }, { 0x02, FETCH_FILL }, /* L1I_TLB_REFILL */
	{ 0x05, TLB_FILL },                         /* L1D_TLB_REFILL */
	{ 0x06, LOADS },                            /* LD_RETIRED */
	{ 0x07, STORES },                           /* ST_RETIRED */
	{ 0x08, INSNS },                            /* INST_RETIRED */
	{ 0x09, EXCEPTIONS },                       /* EXC_TAKEN */
	{ 0x11, INSNS },                            /* CPU_CYCLES */
	{ 0x13, ACCESSES },                         /* MEM_ACCESS */
	{ EV_CHAIN, NONE }, { 0x21, BRANCHES },     /* BR_RETIRED */
	{ 0x23, NONE },                             /* STALL_FRONTEND: nothing stalls */
	{ 0x24, NONE },                             /* STALL_BACKEND */
};

static enum source
source_of(uint64_t typer)
{
	unsigned ev = (unsigned)(typer & 0xffff);

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (events[i].event == ev)
			return ((enum source)events[i].source);
	return (NONE);
}

static inline uint64_t *
counter(struct pe *pe, unsigned n)
{
	return (&pe->sr[n == PMU_CYCLES ? SR_PMCCNTR_EL0 : SR_PMEVCNTR0_EL0 + n]);
}

static inline uint64_t
typer(const struct pe *pe, unsigned n)
{
	return (pe->sr[n == PMU_CYCLES ? SR_PMCCFILTR_EL0 : SR_PMEVTYPER0_EL0 + n]);
}

/* Counters below MDCR_EL2.HPMN are EL1's; EL2 sees all. */
static unsigned
first_of_el2(const struct pe *pe)
{
	unsigned n = MDCR_HPMN(pe->sr[SR_MDCR_EL2]);

	return (n > PMU_COUNTERS ? PMU_COUNTERS : n);
}

static uint64_t
visible(const struct pe *pe)
{
	return (pe->el == 2 ? ALL_COUNTERS : CYCLES | (BIT(first_of_el2(pe)) - 1));
}

/* Counters that PMCR_EL0.E, MDCR_EL2.HPME and PMCNTENSET let count. */
static uint64_t
enabled(const struct pe *pe)
{
	uint64_t low = CYCLES | (BIT(first_of_el2(pe)) - 1), on = 0;

	if ((pe->sr[SR_PMCR_EL0] & PMCR_E) != 0)
		on |= low;
	if ((pe->sr[SR_MDCR_EL2] & MDCR_HPME) != 0)
		on |= ALL_COUNTERS & ~low;
	return (on & pe->sr[SR_PMCNTENSET_EL0]);
}

/* Does counter n count at a level (CountPMUEvents())? */
static bool
counts_at(const struct pe *pe, unsigned n, unsigned el)
{
	uint64_t t = typer(pe, n);

	switch (el) {
	case 0:
		return ((t & TYPER_U) == 0);
	case 1:
		return ((t & TYPER_P) == 0);
	default:
		if ((pe->sr[SR_MDCR_EL2] & MDCR_HPMD) != 0 &&
		    (n == PMU_CYCLES ? (pe->sr[SR_PMCR_EL0] & PMCR_DP) != 0 : n < first_of_el2(pe)))
			return (false);
		return ((t & TYPER_NSH) != 0);
	}
}

static void
update_line(struct pe *pe)
{
	uint64_t low = CYCLES | (BIT(first_of_el2(pe)) - 1), on = 0;
	bool line;

	if ((pe->sr[SR_PMCR_EL0] & PMCR_E) != 0)
		on |= low;
	if ((pe->sr[SR_MDCR_EL2] & MDCR_HPME) != 0)
		on |= ALL_COUNTERS & ~low;
	line = (on & pe->sr[SR_PMOVSSET_EL0] & pe->sr[SR_PMINTENSET_EL1]) != 0;
	if (line && !pe->pmu.line)
		pe->slice = 0;
	pe->pmu.line = line;
}

static void
add(struct pe *pe, unsigned n, uint64_t delta)
{
	uint64_t *c = counter(pe, n), v = *c + delta, on;

	if (n == PMU_CYCLES) {
		if (v < *c)
			pe->sr[SR_PMOVSSET_EL0] |= CYCLES;
		*c = v;
		return;
	}
	*c = v & UINT32_MAX;
	if (v >> 32 == 0)
		return;
	pe->sr[SR_PMOVSSET_EL0] |= BIT(n);
	on = enabled(pe);
	if (n % 2 == 0 && n + 1 < PMU_COUNTERS && (on >> (n + 1) & 1) != 0 &&
	    (typer(pe, n + 1) & 0xffff) == EV_CHAIN && counts_at(pe, n + 1, pe->pmu.el))
		add(pe, n + 1, v >> 32);
}

static void
look(const struct pe *pe, uint64_t *now)
{
	now[NONE] = 0;
	now[INSNS] = pe->count.insns;
	now[FETCH_FILL] = pe->count.fetch_fill;
	now[TLB_FILL] = pe->count.tlb_fill;
	now[EXCEPTIONS] = pe->count.exc_el1 + pe->count.exc_el2;
	now[LOADS] = pe->pmu.loads;
	now[STORES] = pe->pmu.stores;
	now[ACCESSES] = pe->pmu.loads + pe->pmu.stores;
	now[BRANCHES] = pe->pmu.branches;
}

void
pmu_sync(struct pe *pe)
{
	uint64_t now[PMU_SOURCES], on = enabled(pe), delta;

	look(pe, now);
	for (; on != 0; on &= on - 1) {
		unsigned n = (unsigned)__builtin_ctzll(on);
		enum source s = n == PMU_CYCLES ? INSNS : source_of(typer(pe, n));

		delta = now[s] - pe->pmu.seen[s];
		if (delta != 0 && counts_at(pe, n, pe->pmu.el))
			add(pe, n, delta);
	}
	memcpy(pe->pmu.seen, now, sizeof(now));
	update_line(pe);
}

void
pmu_before_run(struct pe *pe)
{
	uint64_t on = enabled(pe) & ~CYCLES, left;

	pe->pmu.el = pe->el;
	for (; on != 0; on &= on - 1) {
		unsigned n = (unsigned)__builtin_ctzll(on);

		left = (UINT64_C(1) << 32) - *counter(pe, n);
		if (pe->slice > 0 && left < (uint64_t)pe->slice && counts_at(pe, n, pe->el))
			pe->slice = (int32_t)left;
	}
}

void
pmu_changed(struct pe *pe)
{
	uint64_t on = enabled(pe);
	bool was = pe->pmu.on;

	pe->pmu.on = on != 0;
	pe->levels.ready = false;
	pe->pmu.each = false;
	for (on &= ~CYCLES; on != 0; on &= on - 1)
		if (source_of(typer(pe, (unsigned)__builtin_ctzll(on))) >= LOADS)
			pe->pmu.each = true;
	if (!was) {
		look(pe, pe->pmu.seen);
		pe->pmu.el = pe->el;
	}
	update_line(pe);
}

void
pmu_reset(struct pe *pe)
{
	memset(&pe->pmu, 0, sizeof(pe->pmu));
	if (!pe_has(pe, PE_FEAT_PMUv3))
		return;
	pe->sr[SR_MDCR_EL2] |= PMU_COUNTERS;
	pe->sr[SR_PMCR_EL0] = PMCR_LC;
}

/* Loads and stores, and branches, by their places in the A64 encoding (C4.1). */
void
pmu_saw(struct pe *pe, uint32_t word)
{
	if ((word & 0x0a000000) == 0x08000000) {
		bool simd = (word >> 26 & 1) != 0, store;

		if ((word & 0x3b000000) == 0x18000000) /* literal */
			store = false;
		else if ((word & 0x3a000000) == 0x28000000) /* pairs */
			store = (word >> 22 & 1) == 0;
		else if ((word & 0x3b200c00) == 0x38200000) /* atomics: a load and a store */
			store = true;
		else if ((word & 0x3a000000) == 0x38000000)
			store = simd ? (word >> 22 & 1) == 0 : (word >> 22 & 3) == 0;
		else /* exclusives, ordered; vector structures */
			store = (word >> 22 & 1) == 0;
		if (store)
			pe->pmu.stores++;
		if (!store || (word & 0x3b200c00) == 0x38200000)
			pe->pmu.loads++;
		return;
	}
	if ((word & 0x7c000000) == 0x14000000 || (word & 0x7c000000) == 0x34000000 ||
	    (word & 0xfe000000) == 0x54000000 || (word & 0xfe000000) == 0xd6000000)
		pe->pmu.branches++;
}

bool
pmu_exact(struct pe *pe, const struct insn *in)
{
	uint64_t pc = pe_pc(pe, in);

	if (pe->debug.step || (pe->pmu.again && pe->pmu.again_pc == pc)) {
		pe->pmu.again = false;
		if (pe->pmu.on)
			pmu_sync(pe);
		return (true);
	}
	pe->pmu.again = true;
	pe->pmu.again_pc = pc;
	pe->pc = pc;
	pe->count.insns--; /* the run loop will think that it was executed */
	return (false);
}

/* -- registers ------------------------------------------------------------------- */

int
trap_pmu(struct pe *pe, const struct sysreg *r, bool write)
{
	uint64_t user = pe->sr[SR_PMUSERENR_EL0], mdcr = pe->sr[SR_MDCR_EL2], allow = USER_EN;
	bool event = r->sr >= SR_PMEVCNTR0_EL0 && r->sr <= SR_PMEVCNTR5_EL0;
	bool type = r->sr >= SR_PMEVTYPER0_EL0 && r->sr <= SR_PMEVTYPER5_EL0;
	unsigned n = r->sr - (event ? SR_PMEVCNTR0_EL0 : SR_PMEVTYPER0_EL0);

	if (pe->el == 0 && r->sr != SR_PMUSERENR_EL0) {
		if (r->sr == SR_PMSWINC_EL0)
			allow |= USER_SW;
		if (r->sr == SR_PMCCNTR_EL0 && !write)
			allow |= USER_CR;
		if (((event || r->sr == SR_PMXEVCNTR_EL0) && !write) || r->sr == SR_PMSELR_EL0)
			allow |= USER_ER;
		if ((user & allow) == 0)
			return (1);
	}
	if ((mdcr & MDCR_TPM) != 0 && !pe_in_host(pe, pe->el))
		return (2);
	if (r->sr == SR_PMCR_EL0 && (mdcr & MDCR_TPMCR) != 0 && !pe_in_host(pe, pe->el))
		return (2);
	return ((event || type) && n >= first_of_el2(pe) ? -1 : 0);
}

uint64_t
pmu_rd_cr(struct pe *pe, const struct sysreg *r)
{
	unsigned n = pe->el == 2 ? PMU_COUNTERS : first_of_el2(pe);

	return (pe->sr[r->sr] | PMCR_IMP | (uint64_t)n << 11);
}

void
pmu_wr_cr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	unsigned n = pe->el == 2 ? PMU_COUNTERS : first_of_el2(pe);

	if (pe->pmu.on)
		pmu_sync(pe);
	if ((v & PMCR_P) != 0)
		memset(counter(pe, 0), 0, n * sizeof(uint64_t));
	if ((v & PMCR_C) != 0)
		*counter(pe, PMU_CYCLES) = 0;
	pe->sr[r->sr] = (v & (PMCR_E | PMCR_X | PMCR_DP)) | PMCR_LC;
	pmu_changed(pe);
}

/* Where the bits of a SET or CLR register are. */
static uint64_t *
bits_of(struct pe *pe, const struct sysreg *r)
{
	switch (r->sr) {
	case SR_PMCNTENSET_EL0:
	case SR_PMCNTENCLR_EL0:
		return (&pe->sr[SR_PMCNTENSET_EL0]);
	case SR_PMINTENSET_EL1:
	case SR_PMINTENCLR_EL1:
		return (&pe->sr[SR_PMINTENSET_EL1]);
	default:
		return (&pe->sr[SR_PMOVSSET_EL0]);
	}
}

uint64_t
pmu_rd_bits(struct pe *pe, const struct sysreg *r)
{
	if (pe->pmu.on)
		pmu_sync(pe);
	return (*bits_of(pe, r) & visible(pe));
}

static void
change_bits(struct pe *pe, const struct sysreg *r, uint64_t set, uint64_t clr)
{
	uint64_t *bits = bits_of(pe, r);

	if (pe->pmu.on)
		pmu_sync(pe);
	*bits = (*bits | (set & visible(pe))) & ~(clr & visible(pe));
	pmu_changed(pe);
}

void
pmu_wr_set(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	change_bits(pe, r, v, 0);
}

void
pmu_wr_clr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	change_bits(pe, r, 0, v);
}

void
pmu_wr_swinc(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	uint64_t on = enabled(pe) & visible(pe) & v & ~CYCLES;

	(void)r;
	for (; on != 0; on &= on - 1) {
		unsigned n = (unsigned)__builtin_ctzll(on);

		if ((typer(pe, n) & 0xffff) == EV_SW_INCR && counts_at(pe, n, pe->el))
			add(pe, n, 1);
	}
	update_line(pe);
}

void
pmu_wr_selr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[r->sr] = v & 0x1f;
}

void
pmu_wr_userenr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[r->sr] = v & (USER_EN | USER_SW | USER_CR | USER_ER);
}

uint64_t
pmu_rd_ceid(struct pe *pe, const struct sysreg *r)
{
	unsigned base = r->sr == SR_PMCEID1_EL0 ? 32 : 0;
	uint64_t v = 0;

	(void)pe;
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (events[i].event / 32 * 32 == base)
			v |= BIT(events[i].event - base);
	return (v);
}

/* A counter or type register by number; one that is not there reads 0, keeps nothing. */
static bool
is_there(const struct pe *pe, unsigned n)
{
	return (n < PMU_COUNTERS && (visible(pe) >> n & 1) != 0);
}

static uint64_t
get_counter(struct pe *pe, unsigned n)
{
	if (pe->pmu.on)
		pmu_sync(pe);
	return (*counter(pe, n));
}

static void
set_counter(struct pe *pe, unsigned n, uint64_t v)
{
	if (pe->pmu.on)
		pmu_sync(pe);
	*counter(pe, n) = n == PMU_CYCLES ? v : v & UINT32_MAX;
}

static void
set_type(struct pe *pe, unsigned n, uint64_t v)
{
	uint64_t keep = TYPER_FILTERS | (n == PMU_CYCLES ? 0 : 0xffff);

	if (pe->pmu.on)
		pmu_sync(pe);
	pe->sr[n == PMU_CYCLES ? SR_PMCCFILTR_EL0 : SR_PMEVTYPER0_EL0 + n] = v & keep;
	pmu_changed(pe);
}

static unsigned
number(const struct sysreg *r)
{
	if (r->sr == SR_PMCCNTR_EL0 || r->sr == SR_PMCCFILTR_EL0)
		return (PMU_CYCLES);
	return (r->sr - (r->sr >= SR_PMEVTYPER0_EL0 ? SR_PMEVTYPER0_EL0 : SR_PMEVCNTR0_EL0));
}

uint64_t
pmu_rd_counter(struct pe *pe, const struct sysreg *r)
{
	return (get_counter(pe, number(r)));
}

void
pmu_wr_counter(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	set_counter(pe, number(r), v);
}

uint64_t
pmu_rd_type(struct pe *pe, const struct sysreg *r)
{
	return (typer(pe, number(r)));
}

void
pmu_wr_type(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	set_type(pe, number(r), v);
}

uint64_t
pmu_rd_xcounter(struct pe *pe, const struct sysreg *r)
{
	unsigned n = (unsigned)pe->sr[SR_PMSELR_EL0];

	(void)r;
	return (is_there(pe, n) ? get_counter(pe, n) : 0);
}

void
pmu_wr_xcounter(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	unsigned n = (unsigned)pe->sr[SR_PMSELR_EL0];

	(void)r;
	if (is_there(pe, n))
		set_counter(pe, n, v);
}

uint64_t
pmu_rd_xtype(struct pe *pe, const struct sysreg *r)
{
	unsigned n = (unsigned)pe->sr[SR_PMSELR_EL0];

	(void)r;
	return (is_there(pe, n) || n == PMU_CYCLES ? typer(pe, n) : 0);
}

void
pmu_wr_xtype(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	unsigned n = (unsigned)pe->sr[SR_PMSELR_EL0];

	(void)r;
	if (is_there(pe, n) || n == PMU_CYCLES)
		set_type(pe, n, v);
}

/* HPMN, TPMCR, TPM, HPME and HPMD are the PMU's; the rest is debug's. */
#define MDCR_PMU (UINT64_C(0xff) | MDCR_HPMD)

void
wr_mdcr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	uint64_t old = pe->sr[r->sr];

	v &= pe_has(pe, PE_FEAT_PMUv3) ? r->wmask : r->wmask & ~MDCR_PMU;
	if (((old ^ v) & MDCR_PMU) == 0) {
		pe->sr[r->sr] = v;
		return;
	}
	if (pe->pmu.on)
		pmu_sync(pe);
	pe->sr[r->sr] = v;
	pmu_changed(pe);
}
