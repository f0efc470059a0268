/*
 * A guest's generic timer: see vtimer.h for the scheme.
 *
 * The comparison is unsigned, count >= CVAL (DDI 0487, D12.1.2); count is
 * CNTPCT - CNTVOFF for both timers, so that a guest sees one time base.
 *
 * Not here: the timer registers of the PE (pe/timer.c).
 */
#include "vmm/io/vtimer.h"

#include <errno.h>

#include "vmm/arm64.h"
#include "vmm/io/vgic.h"

#define CNT_CTL_ENABLE 1u
#define CNT_CTL_IMASK 2u
#define CNT_CTL_ISTATUS 4u

#define CNTPCT_EL0 PE_SYSREG(3, 3, 14, 0, 1)
#define CNTPCTSS_EL0 PE_SYSREG(3, 3, 14, 0, 5)
#define CNTP_TVAL_EL0 PE_SYSREG(3, 3, 14, 2, 0)
#define CNTP_CTL_EL0 PE_SYSREG(3, 3, 14, 2, 1)
#define CNTP_CVAL_EL0 PE_SYSREG(3, 3, 14, 2, 2)
#define CNTV_CTL_EL0 PE_SYSREG(3, 3, 14, 3, 1)
#define CNTV_CVAL_EL0 PE_SYSREG(3, 3, 14, 3, 2)
#define CNTV_CTL_EL02 PE_SYSREG(3, 5, 14, 3, 1)
#define CNTV_CVAL_EL02 PE_SYSREG(3, 5, 14, 3, 2)
#define CNTKCTL_EL1 PE_SYSREG(3, 0, 14, 1, 0)
#define CNTKCTL_EL12 PE_SYSREG(3, 5, 14, 1, 0)
#define CNTVOFF_EL2 PE_SYSREG(3, 4, 14, 0, 3)
#define CNTHCTL_EL2 PE_SYSREG(3, 4, 14, 1, 0)
#define CNTHP_CTL_EL2 PE_SYSREG(3, 4, 14, 2, 1)
#define CNTHP_CVAL_EL2 PE_SYSREG(3, 4, 14, 2, 2)

static inline uint64_t
guest_count(struct hypctx *hypctx, uint64_t now)
{
	return (now - hypctx_hyp(hypctx)->vtimer.cntvoff_el2);
}

static inline bool
armed(const struct vtimer_timer *t)
{
	return ((t->cntx_ctl_el0 & (CNT_CTL_ENABLE | CNT_CTL_IMASK)) == CNT_CTL_ENABLE);
}

void
vtimer_vminit(struct hyp *hyp, uint64_t now)
{
	hyp->vtimer.cntvoff_el2 = now;
}

void
vtimer_cpuinit(struct hypctx *hypctx)
{
	static const struct vtimer_timer off = { 0, CNT_CTL_IMASK };

	hypctx->vtimer_cpu.phys_timer = off;
	hypctx->vtimer_cpu.virt_timer = off;
	hypctx->vtimer_cpu.cntkctl_el1 = 0;
}

/* -- lines ---------------------------------------------------------------------------- */

static void
drive(struct hypctx *hypctx, const struct vtimer_timer *t, uint32_t intid, uint64_t count)
{
	bool level = armed(t) && count >= t->cntx_cval_el0;

	/* only this thread drives these lines: no lock to see that nothing changed */
	if (hypctx->vgic_cpu.irq[intid].level != level)
		(void)vgic_inject_irq_self(hypctx, intid, level);
}

void
vtimer_sync_hwstate(struct hypctx *hypctx, uint64_t now)
{
	uint64_t count = guest_count(hypctx, now);

	drive(hypctx, &hypctx->vtimer_cpu.virt_timer, GT_VIRT_IRQ, count);
	drive(hypctx, &hypctx->vtimer_cpu.phys_timer, GT_PHYS_NS_IRQ, count);
}

void
vtimer_flush_hwstate(struct hypctx *hypctx, uint64_t now)
{
	vtimer_sync_hwstate(hypctx, now);
}

/* CNTPCT at which an armed timer will fire; UINT64_MAX: it has, or never will. */
static uint64_t
fires_at(const struct vtimer_timer *t, uint64_t count, uint64_t now)
{
	uint64_t delta;

	if (!armed(t) || count >= t->cntx_cval_el0)
		return (UINT64_MAX);
	delta = t->cntx_cval_el0 - count;
	return (delta > UINT64_MAX - now ? UINT64_MAX : now + delta);
}

uint64_t
vtimer_deadline(struct hypctx *hypctx, uint64_t now)
{
	const struct vtimer_cpu *vt = &hypctx->vtimer_cpu;
	uint64_t count = guest_count(hypctx, now);
	uint64_t a = fires_at(&vt->virt_timer, count, now);
	uint64_t b = fires_at(&vt->phys_timer, count, now);

	return (a < b ? a : b);
}

/* -- world switch ------------------------------------------------------------------------ */

void
vtimer_restore(struct pe *pe, struct hypctx *hypctx, bool vhe)
{
	struct vtimer_cpu *vt = &hypctx->vtimer_cpu;
	const struct vtimer_timer *pt = &vt->phys_timer;
	struct vtimer_host *host = &vt->host;

	pe_mrs(pe, CNTHCTL_EL2, &host->cnthctl_el2);
	pe_mrs(pe, CNTVOFF_EL2, &host->cntvoff_el2);
	if (!vhe)
		pe_mrs(pe, CNTKCTL_EL1, &host->cntkctl_el1);

	/*
	 * CNTHCTL_EL2 for the guest:
	 *	EL1PCTEN 0	the physical counter traps
	 *	EL1PCEN 0	so does the physical timer (EL1PTEN with E2H)
	 *	EVNTEN 0	no event stream
	 */
	pe_msr(pe, CNTHCTL_EL2, 0);
	pe_msr(pe, CNTVOFF_EL2, hypctx_hyp(hypctx)->vtimer.cntvoff_el2);
	pe_msr(pe, vhe ? CNTKCTL_EL12 : CNTKCTL_EL1, vt->cntkctl_el1);
	pe_msr(pe, vhe ? CNTV_CVAL_EL02 : CNTV_CVAL_EL0, vt->virt_timer.cntx_cval_el0);
	pe_msr(pe, vhe ? CNTV_CTL_EL02 : CNTV_CTL_EL0, vt->virt_timer.cntx_ctl_el0);

	/* the alarm of the emulated timer, until its line is up */
	if (armed(pt) && !hypctx->vgic_cpu.irq[GT_PHYS_NS_IRQ].level) {
		pe_msr(
		    pe, CNTHP_CVAL_EL2, pt->cntx_cval_el0 + hypctx_hyp(hypctx)->vtimer.cntvoff_el2);
		pe_msr(pe, CNTHP_CTL_EL2, CNT_CTL_ENABLE);
	}
}

void
vtimer_save(struct pe *pe, struct hypctx *hypctx, bool vhe)
{
	struct vtimer_cpu *vt = &hypctx->vtimer_cpu;
	const struct vtimer_host *host = &vt->host;
	uint64_t v;

	if (pe_mrs(pe, vhe ? CNTV_CTL_EL02 : CNTV_CTL_EL0, &v) == 0)
		vt->virt_timer.cntx_ctl_el0 = (uint32_t)v & (CNT_CTL_ENABLE | CNT_CTL_IMASK);
	if (pe_mrs(pe, vhe ? CNTV_CVAL_EL02 : CNTV_CVAL_EL0, &v) == 0)
		vt->virt_timer.cntx_cval_el0 = v;
	if (pe_mrs(pe, vhe ? CNTKCTL_EL12 : CNTKCTL_EL1, &v) == 0)
		vt->cntkctl_el1 = v;
	pe_msr(pe, vhe ? CNTV_CTL_EL02 : CNTV_CTL_EL0, 0);
	pe_msr(pe, CNTHP_CTL_EL2, 0);

	pe_msr(pe, CNTVOFF_EL2, host->cntvoff_el2);
	pe_msr(pe, CNTHCTL_EL2, host->cnthctl_el2);
	if (!vhe)
		pe_msr(pe, CNTKCTL_EL1, host->cntkctl_el1);
}

/* -- trapped registers --------------------------------------------------------------------- */

int
vtimer_sysreg(struct hypctx *hypctx, uint32_t enc, int dir, uint64_t *val, uint64_t now)
{
	struct vtimer_timer *t = &hypctx->vtimer_cpu.phys_timer;
	uint64_t count = guest_count(hypctx, now);
	bool write = dir == VM_DIR_WRITE;

	switch (enc) {
	case CNTPCT_EL0:
	case CNTPCTSS_EL0:
		if (!write)
			*val = count;
		return (0);
	case CNTP_CTL_EL0:
		if (write) {
			t->cntx_ctl_el0 = (uint32_t)*val & (CNT_CTL_ENABLE | CNT_CTL_IMASK);
			break;
		}
		*val = t->cntx_ctl_el0;
		if ((*val & CNT_CTL_ENABLE) != 0 && count >= t->cntx_cval_el0)
			*val |= CNT_CTL_ISTATUS;
		return (0);
	case CNTP_CVAL_EL0:
		if (write) {
			t->cntx_cval_el0 = *val;
			break;
		}
		*val = t->cntx_cval_el0;
		return (0);
	case CNTP_TVAL_EL0:
		if (write) {
			t->cntx_cval_el0 = count + (uint64_t)(int64_t)(int32_t)(uint32_t)*val;
			break;
		}
		*val = (uint32_t)(t->cntx_cval_el0 - count);
		return (0);
	default:
		return (ENOENT);
	}
	vtimer_sync_hwstate(hypctx, now);
	return (0);
}
