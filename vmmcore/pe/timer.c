/*
 * The generic timer of one PE (DDI 0487, D12.1 and D12.2).
 *
 * A timer's condition is an unsigned comparison, count >= CVAL, where count is
 * the physical count minus the timer's offset. Lines change either when a
 * register is written or when the counter reaches `next`, so the poll of the
 * run loop is one counter read and one compare.
 *
 * Not here: interrupt state (gic_cpuif.c). The event streams of CNTKCTL and
 * CNTHCTL matter to a WFE that sleeps only: they end it (pe_wfe()).
 */
#include "pe/timer.h"

#include <stdlib.h>

#include "pe/except.h"

/* CNTKCTL_EL1, and CNTHCTL_EL2 with E2H, for EL0. */
#define CNTK_EL0PCTEN BIT(0)
#define CNTK_EL0VCTEN BIT(1)
#define CNTK_EL0VTEN BIT(8)
#define CNTK_EL0PTEN BIT(9)
/* The event stream, in both registers (D12.2.5). */
#define CNT_EVNTEN BIT(2)
#define CNT_EVNTDIR BIT(3)
#define CNT_EVNTI(ctl) FIELD(ctl, 4, 4)
#define CNT_EVNTIS BIT(17) /* FEAT_ECV: EVNTI counts from bit 8 */
/* CNTHCTL_EL2 without and with E2H. */
#define CNTH_EL1PCTEN BIT(0)
#define CNTH_EL1PCEN BIT(1)
#define CNTH_E2H_EL1PCTEN BIT(10)
#define CNTH_E2H_EL1PTEN BIT(11)
/* FEAT_ECV */
#define CNTH_ECV BIT(12)
#define CNTH_EL1TVT BIT(13)
#define CNTH_EL1TVCT BIT(14)
#define CNT_ECV_BITS (CNTH_ECV | CNTH_EL1TVT | CNTH_EL1TVCT | CNT_EVNTIS)

enum timer_id { T_PHYS, T_VIRT, T_HPHYS, T_HVIRT, T_COUNT };

static const struct {
	uint16_t ctl, cval;
	uint8_t ppi;
} timers[T_COUNT] = {
	[T_PHYS] = { SR_CNTP_CTL_EL0, SR_CNTP_CVAL_EL0, PE_PPI_PTIMER },
	[T_VIRT] = { SR_CNTV_CTL_EL0, SR_CNTV_CVAL_EL0, PE_PPI_VTIMER },
	[T_HPHYS] = { SR_CNTHP_CTL_EL2, SR_CNTHP_CVAL_EL2, PE_PPI_HYPTIMER },
	[T_HVIRT] = { SR_CNTHV_CTL_EL2, SR_CNTHV_CVAL_EL2, PE_PPI_HVTIMER },
};

struct pe_timer {
	uint32_t lines; /* bit per PPI, valid while the count is below next */
	uint64_t next;
};

static inline uint64_t
now(struct pe *pe)
{
	return (pe->pins.counter(pe->pins.ctx));
}

static inline bool
e2h(const struct pe *pe)
{
	return ((pe->sr[SR_HCR_EL2] & HCR_E2H) != 0);
}

/* EL0 of a host at EL2: {E2H, TGE} = {1, 1}. */
static inline bool
host_el0(const struct pe *pe)
{
	return ((pe->sr[SR_HCR_EL2] & (HCR_E2H | HCR_TGE)) == (HCR_E2H | HCR_TGE));
}

static inline uint64_t
poff(const struct pe *pe)
{
	return (pe_has(pe, PE_FEAT_ECV) && (pe->sr[SR_CNTHCTL_EL2] & CNTH_ECV) != 0
		    ? pe->sr[SR_CNTPOFF_EL2]
		    : 0);
}

/* What a timer's comparator subtracts from the physical count. */
static inline uint64_t
offset(const struct pe *pe, enum timer_id t)
{
	switch (t) {
	case T_VIRT:
		return (pe->sr[SR_CNTVOFF_EL2]);
	case T_PHYS:
		return (poff(pe));
	default:
		return (0);
	}
}

static void
recompute(struct pe *pe, uint64_t count)
{
	struct pe_timer *tm = pe->timer;
	uint64_t ctl, cval, c;
	unsigned t;

	tm->lines = 0;
	tm->next = UINT64_MAX;
	for (t = 0; t < T_COUNT; t++) {
		ctl = pe->sr[timers[t].ctl];
		if ((ctl & (CNT_CTL_ENABLE | CNT_CTL_IMASK)) != CNT_CTL_ENABLE)
			continue;
		cval = pe->sr[timers[t].cval];
		c = count - offset(pe, t);
		if (c >= cval) {
			tm->lines |= UINT32_C(1) << timers[t].ppi;
		} else if (cval - c < tm->next - count) {
			/* a target past 2^64 of the physical count never comes */
			tm->next = count + (cval - c);
		}
	}
}

struct pe_timer *
pe_timer_create(struct pe *pe)
{
	(void)pe;
	return (calloc(1, sizeof(struct pe_timer)));
}

void
pe_timer_destroy(struct pe_timer *tm)
{
	free(tm);
}

void
pe_timer_reset(struct pe *pe)
{
	pe->timer->lines = 0;
	pe->timer->next = 0; /* first look computes */
}

void
timer_changed(struct pe *pe)
{
	if (pe->timer == NULL)
		return;
	pe->timer->next = 0;
	pe->slice = 0;
}

uint32_t
timer_lines(struct pe *pe)
{
	struct pe_timer *tm = pe->timer;
	uint64_t count;

	if (tm->next == UINT64_MAX)
		return (tm->lines);
	count = now(pe);
	if (count >= tm->next)
		recompute(pe, count);
	return (tm->lines);
}

bool
timer_line(struct pe *pe, unsigned ppi)
{
	return (ppi < 32 && ((timer_lines(pe) >> ppi) & 1) != 0);
}

uint64_t
timer_next(struct pe *pe)
{
	(void)timer_lines(pe);
	return (pe->timer->next);
}

/* Counts from `count` to the next event of a stream; UINT64_MAX: there is none. */
static uint64_t
event_in(const struct pe *pe, uint64_t ctl, uint64_t count)
{
	uint64_t half;

	if ((ctl & CNT_EVNTEN) == 0)
		return (UINT64_MAX);
	half = BIT(CNT_EVNTI(ctl) + (pe_has(pe, PE_FEAT_ECV) && (ctl & CNT_EVNTIS) != 0 ? 8 : 0));
	/* The bit goes to 1 in the middle of its period, to 0 at the end. */
	if ((ctl & CNT_EVNTDIR) == 0)
		count += half;
	return (2 * half - (count & (2 * half - 1)));
}

uint64_t
timer_event_next(struct pe *pe, uint64_t count)
{
	uint64_t virt = event_in(pe, pe->sr[SR_CNTKCTL_EL1], count - pe->sr[SR_CNTVOFF_EL2]);
	uint64_t phys = event_in(pe, pe->sr[SR_CNTHCTL_EL2], count);
	uint64_t next = virt < phys ? virt : phys;

	return (next == UINT64_MAX ? next : count + next);
}

/* -- registers ------------------------------------------------------------- */

/* The timer a row means for who executes now. */
static enum timer_id
which(const struct pe *pe, const struct sysreg *r)
{
	bool el2 = (pe->el == 2 && e2h(pe)) || (pe->el == 0 && host_el0(pe));

	switch (r->sr) {
	case SR_CNTP_CTL_EL0:
	case SR_CNTP_CVAL_EL0:
	case SR_CNTP_TVAL_EL0:
		return (el2 ? T_HPHYS : T_PHYS);
	case SR_CNTV_CTL_EL0:
	case SR_CNTV_CVAL_EL0:
	case SR_CNTV_TVAL_EL0:
		return (el2 ? T_HVIRT : T_VIRT);
	case SR_CNTP_CTL_EL02:
	case SR_CNTP_CVAL_EL02:
	case SR_CNTP_TVAL_EL02:
		return (T_PHYS);
	case SR_CNTV_CTL_EL02:
	case SR_CNTV_CVAL_EL02:
	case SR_CNTV_TVAL_EL02:
		return (T_VIRT);
	case SR_CNTHP_CTL_EL2:
	case SR_CNTHP_CVAL_EL2:
	case SR_CNTHP_TVAL_EL2:
		return (T_HPHYS);
	default:
		return (T_HVIRT);
	}
}

/*
 * TVAL counts with what the reader sees, not with the comparator: at EL2 the
 * physical timer has no offset (DDI 0487, D12.1.1).
 */
static uint64_t
tval_count(struct pe *pe, enum timer_id t)
{
	uint64_t c = now(pe);

	if (t == T_VIRT || (t == T_PHYS && pe->el < 2))
		c -= offset(pe, t);
	return (c);
}

uint64_t
timer_rd_cntpct(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (now(pe) - (pe->el < 2 && !(pe->el == 0 && host_el0(pe)) ? poff(pe) : 0));
}

uint64_t
timer_rd_cntvct(struct pe *pe, const struct sysreg *r)
{
	bool none = (pe->el == 2 && e2h(pe)) || (pe->el == 0 && host_el0(pe));

	(void)r;
	return (now(pe) - (none ? 0 : pe->sr[SR_CNTVOFF_EL2]));
}

uint64_t
timer_rd_ctl(struct pe *pe, const struct sysreg *r)
{
	enum timer_id t = which(pe, r);
	uint64_t ctl = pe->sr[timers[t].ctl] & (CNT_CTL_ENABLE | CNT_CTL_IMASK);

	/* ISTATUS does not depend on IMASK */
	if ((ctl & CNT_CTL_ENABLE) != 0 && now(pe) - offset(pe, t) >= pe->sr[timers[t].cval])
		ctl |= CNT_CTL_ISTATUS;
	return (ctl);
}

void
timer_wr_ctl(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[timers[which(pe, r)].ctl] = v & (CNT_CTL_ENABLE | CNT_CTL_IMASK);
	timer_changed(pe);
}

uint64_t
timer_rd_cval(struct pe *pe, const struct sysreg *r)
{
	return (pe->sr[timers[which(pe, r)].cval]);
}

void
timer_wr_cval(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[timers[which(pe, r)].cval] = v;
	timer_changed(pe);
}

uint64_t
timer_rd_tval(struct pe *pe, const struct sysreg *r)
{
	enum timer_id t = which(pe, r);

	return ((uint32_t)(pe->sr[timers[t].cval] - tval_count(pe, t)));
}

void
timer_wr_tval(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	enum timer_id t = which(pe, r);

	pe->sr[timers[t].cval] = tval_count(pe, t) + (uint64_t)(int64_t)(int32_t)(uint32_t)v;
	timer_changed(pe);
}

/* CNTHCTL_EL2 has a row of its own, and CNTKCTL_EL1's for a host at EL2. */
static unsigned
cntkctl(const struct pe *pe, const struct sysreg *r)
{
	bool host = r->sr == SR_CNTHCTL_EL2 || (r->sr == SR_CNTKCTL_EL1 && pe->el == 2 && e2h(pe));

	return (host ? SR_CNTHCTL_EL2 : SR_CNTKCTL_EL1);
}

uint64_t
timer_rd_cntkctl(struct pe *pe, const struct sysreg *r)
{
	return (pe->sr[cntkctl(pe, r)]);
}

void
timer_wr_cntkctl(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	unsigned sr = cntkctl(pe, r);

	v &= sysregs[sr].wmask;
	if (!pe_has(pe, PE_FEAT_ECV))
		v &= ~CNT_ECV_BITS;
	pe->sr[sr] = v;
	timer_changed(pe);
}

void
timer_wr_plain(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[r->sr] = v & r->wmask;
	timer_changed(pe);
}

/* -- traps (DDI 0487, D12.1.3 and the access pseudocode of each register) ----- */

/* EL0's enable bits are in CNTKCTL_EL1, or in CNTHCTL_EL2 for a host's EL0. */
static bool
el0_denied(const struct pe *pe, uint64_t bits)
{
	uint64_t k = pe->sr[host_el0(pe) ? SR_CNTHCTL_EL2 : SR_CNTKCTL_EL1];

	return (pe->el == 0 && (k & bits) == 0);
}

static bool
el2_denied(const struct pe *pe, uint64_t nvhe, uint64_t vhe)
{
	if (pe->el == 0 && host_el0(pe))
		return (false);
	return ((pe->sr[SR_CNTHCTL_EL2] & (e2h(pe) ? vhe : nvhe)) == 0);
}

static bool
ecv_trapped(const struct pe *pe, uint64_t bit)
{
	if (pe->el == 0 && host_el0(pe))
		return (false);
	return (pe_has(pe, PE_FEAT_ECV) && (pe->sr[SR_CNTHCTL_EL2] & bit) != 0);
}

int
timer_trap_frq(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (el0_denied(pe, CNTK_EL0PCTEN | CNTK_EL0VCTEN) ? 1 : 0);
}

int
timer_trap_pct(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	if (el0_denied(pe, CNTK_EL0PCTEN))
		return (1);
	return (el2_denied(pe, CNTH_EL1PCTEN, CNTH_E2H_EL1PCTEN) ? 2 : 0);
}

int
timer_trap_vct(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	if (el0_denied(pe, CNTK_EL0VCTEN))
		return (1);
	return (ecv_trapped(pe, CNTH_EL1TVCT) ? 2 : 0);
}

int
timer_trap_pctss(struct pe *pe, const struct sysreg *r, bool write)
{
	return (pe_has(pe, PE_FEAT_ECV) ? timer_trap_pct(pe, r, write) : -1);
}

int
timer_trap_vctss(struct pe *pe, const struct sysreg *r, bool write)
{
	return (pe_has(pe, PE_FEAT_ECV) ? timer_trap_vct(pe, r, write) : -1);
}

int
timer_trap_ptimer(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	if (el0_denied(pe, CNTK_EL0PTEN))
		return (1);
	return (el2_denied(pe, CNTH_EL1PCEN, CNTH_E2H_EL1PTEN) ? 2 : 0);
}

int
timer_trap_vtimer(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	if (el0_denied(pe, CNTK_EL0VTEN))
		return (1);
	return (ecv_trapped(pe, CNTH_EL1TVT) ? 2 : 0);
}
