/*
 * The GICv3 CPU interface of one PE: see gic_cpuif.h.
 *
 * Storage is pe->sr[]: ICC_* rows hold the physical interface, ICH_* rows the
 * virtual one. What follows from the virtual registers (is an interrupt
 * signalled, does maintenance ask for attention) is computed when somebody
 * looks after a change; the poll of the run loop reads two bits.
 *
 * The physical side has one priority for everything: level-sensitive private
 * interrupts, all enabled, in group 1. Nothing is ever in group 0 there.
 */
#include "pe/gic_cpuif.h"

#include <stdlib.h>

#include "pe/except.h"
#include "pe/timer.h"

/* Priority of every physical interrupt. */
#define PHYS_PRIO 0xa0u

/* ICC_CTLR_EL1 and ICV_CTLR_EL1 */
#define CTLR_CBPR BIT(0)
#define CTLR_EOIMODE BIT(1)
#define CTLR_RO (((GIC_PRIBITS - 1) << 8) | BIT(15) /* A3V */)

/* ICH_HCR_EL2 */
#define ICH_HCR_EN BIT(0)
#define ICH_HCR_UIE BIT(1)
#define ICH_HCR_LRENPIE BIT(2)
#define ICH_HCR_NPIE BIT(3)
#define ICH_HCR_VGRP0EIE BIT(4)
#define ICH_HCR_VGRP0DIE BIT(5)
#define ICH_HCR_VGRP1EIE BIT(6)
#define ICH_HCR_VGRP1DIE BIT(7)
#define ICH_HCR_TC BIT(10)
#define ICH_HCR_TALL0 BIT(11)
#define ICH_HCR_TALL1 BIT(12)
#define ICH_HCR_TDIR BIT(14)
#define ICH_HCR_EOICOUNT_SHIFT 27

/* ICH_MISR_EL2 */
#define MISR_EOI BIT(0)
#define MISR_U BIT(1)
#define MISR_LRENP BIT(2)
#define MISR_NP BIT(3)
#define MISR_VGRP0E BIT(4)
#define MISR_VGRP0D BIT(5)
#define MISR_VGRP1E BIT(6)
#define MISR_VGRP1D BIT(7)

/* ICH_VMCR_EL2 */
#define VMCR_VENG0 BIT(0)
#define VMCR_VENG1 BIT(1)
#define VMCR_VFIQEN BIT(3) /* RES1: there are no legacy interfaces */
#define VMCR_VCBPR BIT(4)
#define VMCR_VEOIM BIT(9)
#define VMCR_VBPR1_SHIFT 18
#define VMCR_VBPR0_SHIFT 21
#define VMCR_VPMR_SHIFT 24
#define MIN_BPR0 2u
#define MIN_BPR1 3u

/* ICH_LR<n>_EL2 */
#define LR_EOI BIT(41)
#define LR_GROUP1 BIT(60)
#define LR_HW BIT(61)
#define LR_PENDING BIT(62)
#define LR_ACTIVE BIT(63)
#define LR_STATE (LR_PENDING | LR_ACTIVE)
#define LR_INTID(lr) ((uint32_t)(lr))
#define LR_PINTID(lr) ((uint32_t)FIELD(lr, 32, 13))
#define LR_PRIO(lr) ((uint32_t)FIELD(lr, 48, 8) & GIC_PRIMASK)
#define LR_GRP(lr) ((unsigned)((lr) >> 60) & 1)

#define PRIO_IDLE 0xffu
#define LPI_FIRST 8192u
#define SPECIAL_FIRST 1020u

struct gic_cpuif {
	uint32_t active; /* physical, bit per INTID 0 to 31 */
	uint32_t sgi_pend; /* SGIs this PE sent to itself */
	bool dirty; /* the rest is out of date */
	bool virq, vfiq;
	bool maint;
	uint64_t misr;
};

struct gic_cpuif *
gic_create(struct pe *pe)
{
	(void)pe;
	return (calloc(1, sizeof(struct gic_cpuif)));
}

void
gic_destroy(struct gic_cpuif *g)
{
	free(g);
}

void
gic_reset(struct pe *pe)
{
	memset(pe->gic, 0, sizeof(*pe->gic));
	pe->gic->dirty = true;
}

/* Something that decides about signalling changed: look soon. */
static inline void
changed(struct pe *pe)
{
	pe->gic->dirty = true;
	pe->slice = 0;
}

/* Is an access to group `grp` (0, 1; 2: common registers) a virtual one? */
static inline bool
is_virtual(const struct pe *pe, unsigned grp)
{
	static const uint64_t bits[3] = { HCR_FMO, HCR_IMO, HCR_FMO | HCR_IMO };

	return (pe->el < 2 && (pe->sr[SR_HCR_EL2] & bits[grp]) != 0);
}

/* -- priorities --------------------------------------------------------------- */

/* Bits of a priority that count for preemption, by binary point (IHI 0069, 4.8.3). */
static inline uint32_t
group_mask(unsigned bpr)
{
	return ((UINT32_C(0xff) << (bpr + 1)) & 0xff);
}

static inline uint32_t
bpr_mask(unsigned grp, bool cbpr, unsigned bpr0, unsigned bpr1)
{
	return (group_mask(grp == 0 || cbpr ? bpr0 : bpr1 - 1));
}

static inline uint32_t
apr_prio(uint64_t apr)
{
	return ((uint32_t)apr == 0 ? PRIO_IDLE : (uint32_t)__builtin_ctz((uint32_t)apr) << 3);
}

/* -- virtual interface ---------------------------------------------------------- */

static inline uint64_t *
lrs(struct pe *pe)
{
	return (&pe->sr[SR_ICH_LR0_EL2]);
}

static uint32_t
virt_mask(const struct pe *pe, unsigned grp)
{
	uint64_t v = pe->sr[SR_ICH_VMCR_EL2];

	return (bpr_mask(grp, (v & VMCR_VCBPR) != 0, (unsigned)FIELD(v, VMCR_VBPR0_SHIFT, 3),
	    (unsigned)FIELD(v, VMCR_VBPR1_SHIFT, 3)));
}

static uint32_t
virt_running(const struct pe *pe)
{
	return (apr_prio(pe->sr[SR_ICH_AP0R0_EL2] | pe->sr[SR_ICH_AP1R0_EL2]));
}

/*
 * The pending list register that comes first among the enabled groups, or -1
 * (IHI 0069, HighestPriorityVirtualInterrupt). Ties go to the lowest INTID.
 */
static int
virt_highest(struct pe *pe)
{
	uint64_t vmcr = pe->sr[SR_ICH_VMCR_EL2], lr;
	uint32_t prio, best = 0x100;
	unsigned i;
	int idx = -1;

	if ((pe->sr[SR_ICH_HCR_EL2] & ICH_HCR_EN) == 0)
		return (-1);
	for (i = 0; i < pe->cfg.list_regs; i++) {
		lr = lrs(pe)[i];
		if ((lr & LR_STATE) != LR_PENDING || ((vmcr >> LR_GRP(lr)) & 1) == 0)
			continue;
		prio = LR_PRIO(lr);
		if (prio < best || (prio == best && LR_INTID(lr) < LR_INTID(lrs(pe)[idx]))) {
			best = prio;
			idx = (int)i;
		}
	}
	return (idx);
}

/* Does it pass the priority mask and preempt what is running? */
static bool
virt_can_signal(const struct pe *pe, uint64_t lr)
{
	uint32_t prio = LR_PRIO(lr), run = virt_running(pe), mask;

	if (prio >= (FIELD(pe->sr[SR_ICH_VMCR_EL2], VMCR_VPMR_SHIFT, 8) & GIC_PRIMASK))
		return (false);
	if (run == PRIO_IDLE)
		return (true);
	mask = virt_mask(pe, LR_GRP(lr));
	return ((prio & mask) < (run & mask));
}

static inline bool
lr_eoi_done(uint64_t lr)
{
	return ((lr & (LR_STATE | LR_HW | LR_EOI)) == LR_EOI);
}

static void
update(struct pe *pe)
{
	struct gic_cpuif *g = pe->gic;
	uint64_t hcr = pe->sr[SR_ICH_HCR_EL2], vmcr = pe->sr[SR_ICH_VMCR_EL2], lr;
	unsigned i, valid = 0;
	bool pending = false, eoi = false;
	int idx;

	g->dirty = false;
	g->virq = g->vfiq = g->maint = false;
	g->misr = 0;
	if ((hcr & ICH_HCR_EN) == 0)
		return;

	for (i = 0; i < pe->cfg.list_regs; i++) {
		lr = lrs(pe)[i];
		valid += (lr & LR_STATE) != 0;
		pending |= (lr & LR_PENDING) != 0;
		eoi |= lr_eoi_done(lr);
	}
	if (eoi)
		g->misr |= MISR_EOI;
	if ((hcr & ICH_HCR_UIE) != 0 && valid <= 1)
		g->misr |= MISR_U;
	if ((hcr & ICH_HCR_LRENPIE) != 0 && (hcr >> ICH_HCR_EOICOUNT_SHIFT) != 0)
		g->misr |= MISR_LRENP;
	if ((hcr & ICH_HCR_NPIE) != 0 && !pending)
		g->misr |= MISR_NP;
	if ((hcr & ICH_HCR_VGRP0EIE) != 0 && (vmcr & VMCR_VENG0) != 0)
		g->misr |= MISR_VGRP0E;
	if ((hcr & ICH_HCR_VGRP0DIE) != 0 && (vmcr & VMCR_VENG0) == 0)
		g->misr |= MISR_VGRP0D;
	if ((hcr & ICH_HCR_VGRP1EIE) != 0 && (vmcr & VMCR_VENG1) != 0)
		g->misr |= MISR_VGRP1E;
	if ((hcr & ICH_HCR_VGRP1DIE) != 0 && (vmcr & VMCR_VENG1) == 0)
		g->misr |= MISR_VGRP1D;
	g->maint = g->misr != 0;

	if (pending && (idx = virt_highest(pe)) >= 0 && virt_can_signal(pe, lrs(pe)[idx])) {
		if (LR_GRP(lrs(pe)[idx]) == 0)
			g->vfiq = true;
		else
			g->virq = true;
	}
}

bool
gic_virt_irq(struct pe *pe)
{
	if (unlikely(pe->gic->dirty))
		update(pe);
	return (pe->gic->virq);
}

bool
gic_virt_fiq(struct pe *pe)
{
	if (unlikely(pe->gic->dirty))
		update(pe);
	return (pe->gic->vfiq);
}

static uint64_t
virt_iar(struct pe *pe, unsigned grp)
{
	int idx = virt_highest(pe);
	uint64_t *lr;
	uint32_t intid;

	if (idx < 0)
		return (GIC_SPURIOUS);
	lr = &lrs(pe)[idx];
	if (LR_GRP(*lr) != grp || !virt_can_signal(pe, *lr))
		return (GIC_SPURIOUS);
	intid = LR_INTID(*lr);
	if (intid >= SPECIAL_FIRST && intid < LPI_FIRST)
		return (intid);
	pe->sr[grp == 0 ? SR_ICH_AP0R0_EL2 : SR_ICH_AP1R0_EL2] |=
	    BIT((LR_PRIO(*lr) & virt_mask(pe, grp)) >> 3);
	*lr &= ~LR_PENDING;
	if (intid < LPI_FIRST)
		*lr |= LR_ACTIVE; /* LPIs have no active state */
	/* nothing can become signalled by this but maintenance */
	pe->gic->dirty = true;
	if ((pe->sr[SR_ICH_HCR_EL2] & (ICH_HCR_NPIE | ICH_HCR_UIE)) != 0)
		pe->slice = 0;
	return (intid);
}

static uint64_t
virt_hppir(struct pe *pe, unsigned grp)
{
	int idx = virt_highest(pe);

	if (idx < 0 || LR_GRP(lrs(pe)[idx]) != grp)
		return (GIC_SPURIOUS);
	return (LR_INTID(lrs(pe)[idx]));
}

static void
phys_deactivate(struct pe *pe, uint32_t intid)
{
	if (intid < 32)
		pe->gic->active &= ~(UINT32_C(1) << intid);
}

static int
virt_find_active(struct pe *pe, uint32_t intid)
{
	unsigned i;

	for (i = 0; i < pe->cfg.list_regs; i++) {
		if ((lrs(pe)[i] & LR_ACTIVE) != 0 && LR_INTID(lrs(pe)[i]) == intid)
			return ((int)i);
	}
	return (-1);
}

static void
virt_deactivate(struct pe *pe, int idx)
{
	uint64_t *lr = &lrs(pe)[idx];

	if ((*lr & LR_HW) != 0)
		phys_deactivate(pe, LR_PINTID(*lr));
	*lr &= ~LR_ACTIVE;
}

/* An active interrupt that the hypervisor keeps outside ended. Saturates. */
static void
virt_eoicount(struct pe *pe)
{
	uint64_t *hcr = &pe->sr[SR_ICH_HCR_EL2];

	if ((*hcr >> ICH_HCR_EOICOUNT_SHIFT) < 0x1f)
		*hcr += UINT64_C(1) << ICH_HCR_EOICOUNT_SHIFT;
}

static void
virt_eoir(struct pe *pe, unsigned grp, uint32_t intid)
{
	uint64_t *ap0 = &pe->sr[SR_ICH_AP0R0_EL2], *ap1 = &pe->sr[SR_ICH_AP1R0_EL2], *ap;
	bool split = (pe->sr[SR_ICH_VMCR_EL2] & VMCR_VEOIM) != 0;
	uint32_t prio;
	int idx;

	if (intid >= SPECIAL_FIRST && intid < LPI_FIRST)
		return;
	/* priority drop: the highest active priority, of whichever group */
	prio = virt_running(pe);
	if (prio == PRIO_IDLE)
		return;
	ap = (*ap0 & BIT(prio >> 3)) != 0 ? ap0 : ap1;
	*ap &= *ap - 1;
	changed(pe);

	idx = virt_find_active(pe, intid);
	if (idx < 0) {
		if (!split && intid < LPI_FIRST)
			virt_eoicount(pe);
		return;
	}
	/*
	 * Out of order, or after its priority was changed: it ends all the same,
	 * as the INTID says which is meant. Of another group: only the drop.
	 */
	if (!split && LR_GRP(lrs(pe)[idx]) == grp)
		virt_deactivate(pe, idx);
}

static void
virt_dir(struct pe *pe, uint32_t intid)
{
	int idx;

	if ((pe->sr[SR_ICH_VMCR_EL2] & VMCR_VEOIM) == 0 || intid >= SPECIAL_FIRST)
		return;
	idx = virt_find_active(pe, intid);
	if (idx >= 0)
		virt_deactivate(pe, idx);
	else
		virt_eoicount(pe);
	changed(pe);
}

/* -- physical interface ------------------------------------------------------------ */

static uint32_t
phys_mask(const struct pe *pe)
{
	return (bpr_mask(1, (pe->sr[SR_ICC_CTLR_EL1] & CTLR_CBPR) != 0,
	    (unsigned)pe->sr[SR_ICC_BPR0_EL1], (unsigned)pe->sr[SR_ICC_BPR1_EL1]));
}

/* Private interrupts that are pending and not active. */
static uint32_t
phys_pending(struct pe *pe)
{
	struct gic_cpuif *g = pe->gic;
	uint32_t p = timer_lines(pe) | g->sgi_pend;

	if (unlikely(g->dirty))
		update(pe);
	if (g->maint)
		p |= UINT32_C(1) << PE_PPI_MAINT;
	if (pe->pins.kick != NULL && atomic_load_explicit(pe->pins.kick, memory_order_acquire) != 0)
		p |= 1;
	return (p & ~g->active);
}

static bool
phys_open(const struct pe *pe)
{
	uint32_t run, mask;

	if ((pe->sr[SR_ICC_IGRPEN1_EL1] & 1) == 0 || PHYS_PRIO >= pe->sr[SR_ICC_PMR_EL1])
		return (false);
	run = apr_prio(pe->sr[SR_ICC_AP0R0_EL1] | pe->sr[SR_ICC_AP1R0_EL1]);
	mask = phys_mask(pe);
	return (run == PRIO_IDLE || (PHYS_PRIO & mask) < (run & mask));
}

bool
gic_phys_irq(struct pe *pe)
{
	return (phys_pending(pe) != 0 && phys_open(pe));
}

bool
gic_phys_fiq(struct pe *pe)
{
	(void)pe;
	return (false);
}

uint32_t
pe_gicr_active(struct pe *pe)
{
	return (pe->gic->active);
}

void
pe_gicr_set_active(struct pe *pe, uint32_t mask, bool active)
{
	if (active)
		pe->gic->active |= mask;
	else
		pe->gic->active &= ~mask;
	pe->slice = 0;
}

static uint64_t
phys_iar(struct pe *pe)
{
	uint32_t p = phys_pending(pe), intid;

	if (p == 0 || !phys_open(pe))
		return (GIC_SPURIOUS);
	intid = (uint32_t)__builtin_ctz(p);
	pe->gic->active |= UINT32_C(1) << intid;
	pe->gic->sgi_pend &= ~(UINT32_C(1) << intid);
	pe->sr[SR_ICC_AP1R0_EL1] |= BIT((PHYS_PRIO & phys_mask(pe)) >> 3);
	changed(pe);
	return (intid);
}

static void
phys_eoir(struct pe *pe, unsigned grp, uint32_t intid)
{
	uint64_t *ap = &pe->sr[grp == 0 ? SR_ICC_AP0R0_EL1 : SR_ICC_AP1R0_EL1];

	if (intid >= SPECIAL_FIRST || *ap == 0)
		return;
	*ap &= *ap - 1;
	if (grp == 1 && (pe->sr[SR_ICC_CTLR_EL1] & CTLR_EOIMODE) == 0)
		phys_deactivate(pe, intid);
	changed(pe);
}

/* -- registers of both -------------------------------------------------------------- */

uint64_t
icc_rd_iar0(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (is_virtual(pe, 0) ? virt_iar(pe, 0) : GIC_SPURIOUS);
}

uint64_t
icc_rd_iar1(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (is_virtual(pe, 1) ? virt_iar(pe, 1) : phys_iar(pe));
}

uint64_t
icc_rd_hppir0(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (is_virtual(pe, 0) ? virt_hppir(pe, 0) : GIC_SPURIOUS);
}

uint64_t
icc_rd_hppir1(struct pe *pe, const struct sysreg *r)
{
	uint32_t p;

	(void)r;
	if (is_virtual(pe, 1))
		return (virt_hppir(pe, 1));
	p = phys_pending(pe);
	if (p == 0 || (pe->sr[SR_ICC_IGRPEN1_EL1] & 1) == 0)
		return (GIC_SPURIOUS);
	return ((uint64_t)__builtin_ctz(p));
}

uint64_t
icc_rd_rpr(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	if (is_virtual(pe, 2))
		return (virt_running(pe));
	return (apr_prio(pe->sr[SR_ICC_AP0R0_EL1] | pe->sr[SR_ICC_AP1R0_EL1]));
}

void
icc_wr_eoir0(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	v &= 0xffffff;
	if (is_virtual(pe, 0))
		virt_eoir(pe, 0, (uint32_t)v);
	else
		phys_eoir(pe, 0, (uint32_t)v);
}

void
icc_wr_eoir1(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	v &= 0xffffff;
	if (is_virtual(pe, 1))
		virt_eoir(pe, 1, (uint32_t)v);
	else
		phys_eoir(pe, 1, (uint32_t)v);
}

void
icc_wr_dir(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	v &= 0xffffff;
	if (is_virtual(pe, 2)) {
		virt_dir(pe, (uint32_t)v);
	} else if ((pe->sr[SR_ICC_CTLR_EL1] & CTLR_EOIMODE) != 0) {
		phys_deactivate(pe, (uint32_t)v);
		changed(pe);
	}
}

static inline void
vmcr_set(struct pe *pe, unsigned shift, uint64_t mask, uint64_t v)
{
	uint64_t *vmcr = &pe->sr[SR_ICH_VMCR_EL2];

	*vmcr = (*vmcr & ~(mask << shift)) | ((v & mask) << shift);
}

uint64_t
icc_rd_pmr(struct pe *pe, const struct sysreg *r)
{
	if (is_virtual(pe, 2))
		return (FIELD(pe->sr[SR_ICH_VMCR_EL2], VMCR_VPMR_SHIFT, 8) & GIC_PRIMASK);
	return (pe->sr[r->sr]);
}

void
icc_wr_pmr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	if (is_virtual(pe, 2))
		vmcr_set(pe, VMCR_VPMR_SHIFT, 0xff, v & GIC_PRIMASK);
	else
		pe->sr[r->sr] = v & GIC_PRIMASK;
	changed(pe);
}

/* With one binary point for both groups, BPR1 shows BPR0 + 1 (IHI 0069, 4.8.3). */
static inline uint64_t
common_bpr1(uint64_t bpr0)
{
	return (bpr0 + 1 > 7 ? 7 : bpr0 + 1);
}

uint64_t
icc_rd_bpr(struct pe *pe, const struct sysreg *r)
{
	unsigned grp = r->sr == SR_ICC_BPR1_EL1;
	uint64_t vmcr = pe->sr[SR_ICH_VMCR_EL2];

	if (is_virtual(pe, grp)) {
		if (grp == 1 && (vmcr & VMCR_VCBPR) != 0)
			return (common_bpr1(FIELD(vmcr, VMCR_VBPR0_SHIFT, 3)));
		return (FIELD(vmcr, grp == 0 ? VMCR_VBPR0_SHIFT : VMCR_VBPR1_SHIFT, 3));
	}
	if (grp == 1 && (pe->sr[SR_ICC_CTLR_EL1] & CTLR_CBPR) != 0)
		return (common_bpr1(pe->sr[SR_ICC_BPR0_EL1]));
	return (pe->sr[r->sr]);
}

void
icc_wr_bpr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	unsigned grp = r->sr == SR_ICC_BPR1_EL1;
	uint64_t min = grp == 0 ? MIN_BPR0 : MIN_BPR1;

	v &= 7;
	if (v < min)
		v = min;
	if (is_virtual(pe, grp)) {
		if (grp == 1 && (pe->sr[SR_ICH_VMCR_EL2] & VMCR_VCBPR) != 0)
			return;
		vmcr_set(pe, grp == 0 ? VMCR_VBPR0_SHIFT : VMCR_VBPR1_SHIFT, 7, v);
	} else {
		if (grp == 1 && (pe->sr[SR_ICC_CTLR_EL1] & CTLR_CBPR) != 0)
			return;
		pe->sr[r->sr] = v;
	}
	changed(pe);
}

static unsigned
apr_reg(const struct pe *pe, const struct sysreg *r)
{
	unsigned grp = r->sr == SR_ICC_AP1R0_EL1;

	if (is_virtual(pe, grp))
		return (grp == 0 ? SR_ICH_AP0R0_EL2 : SR_ICH_AP1R0_EL2);
	return (r->sr);
}

uint64_t
icc_rd_apr(struct pe *pe, const struct sysreg *r)
{
	return (pe->sr[apr_reg(pe, r)]);
}

void
icc_wr_apr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[apr_reg(pe, r)] = (uint32_t)v;
	changed(pe);
}

uint64_t
icc_rd_ctlr(struct pe *pe, const struct sysreg *r)
{
	uint64_t vmcr = pe->sr[SR_ICH_VMCR_EL2];

	if (is_virtual(pe, 2))
		return (CTLR_RO | ((vmcr & VMCR_VCBPR) != 0 ? CTLR_CBPR : 0) |
			((vmcr & VMCR_VEOIM) != 0 ? CTLR_EOIMODE : 0));
	return (CTLR_RO | pe->sr[r->sr]);
}

void
icc_wr_ctlr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	uint64_t *vmcr = &pe->sr[SR_ICH_VMCR_EL2];

	if (is_virtual(pe, 2)) {
		*vmcr &= ~(VMCR_VCBPR | VMCR_VEOIM);
		*vmcr |= ((v & CTLR_CBPR) != 0 ? VMCR_VCBPR : 0) |
			 ((v & CTLR_EOIMODE) != 0 ? VMCR_VEOIM : 0);
	} else {
		pe->sr[r->sr] = v & (CTLR_CBPR | CTLR_EOIMODE);
	}
	changed(pe);
}

uint64_t
icc_rd_igrpen(struct pe *pe, const struct sysreg *r)
{
	unsigned grp = r->sr == SR_ICC_IGRPEN1_EL1;

	if (is_virtual(pe, grp))
		return ((pe->sr[SR_ICH_VMCR_EL2] >> grp) & 1);
	return (pe->sr[r->sr]);
}

void
icc_wr_igrpen(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	unsigned grp = r->sr == SR_ICC_IGRPEN1_EL1;

	if (is_virtual(pe, grp))
		vmcr_set(pe, grp, 1, v);
	else
		pe->sr[r->sr] = v & 1;
	changed(pe);
}

/*
 * Physical SGIs: this PE has no way to the others (the kick pin is that), so
 * only one that names this PE arrives.
 */
void
icc_wr_sgi(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	uint64_t m = pe->cfg.mpidr;
	uint64_t aff = FIELD(v, 16, 8) << 8 | FIELD(v, 32, 8) << 16 | FIELD(v, 48, 8) << 32;

	if (r->sr != SR_ICC_SGI1R_EL1 || (v & BIT(40)) != 0)
		return;
	if (aff != (m & UINT64_C(0xff00ffff00)) || FIELD(v, 44, 4) != ((m & 0xff) >> 4) ||
	    ((v >> (m & 15)) & 1) == 0)
		return;
	pe->gic->sgi_pend |= UINT32_C(1) << FIELD(v, 24, 4);
	changed(pe);
}

void
icc_wr_ignore(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)pe;
	(void)r;
	(void)v;
}

/* -- ICH_* --------------------------------------------------------------------------- */

static inline bool
lr_missing(const struct pe *pe, const struct sysreg *r)
{
	return (r->sr - (unsigned)SR_ICH_LR0_EL2 >= pe->cfg.list_regs);
}

uint64_t
ich_rd_lr(struct pe *pe, const struct sysreg *r)
{
	return (lr_missing(pe, r) ? 0 : pe->sr[r->sr]);
}

void
ich_wr_lr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	if (lr_missing(pe, r))
		return;
	/* RES0: NMI and the bits around it; 16-bit INTIDs */
	pe->sr[r->sr] = v & ~(GENMASK(59, 56) | GENMASK(47, 45) | GENMASK(31, 16));
	changed(pe);
}

uint64_t
ich_rd_vtr(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	/* PRIbits, PREbits, A3V, nV4, TDS, ListRegs */
	return (((uint64_t)(GIC_PRIBITS - 1) << 29) | ((uint64_t)(GIC_PRIBITS - 1) << 26) |
		BIT(21) | BIT(20) | BIT(19) | (pe->cfg.list_regs - 1));
}

uint64_t
ich_rd_misr(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	if (pe->gic->dirty)
		update(pe);
	return (pe->gic->misr);
}

uint64_t
ich_rd_eisr(struct pe *pe, const struct sysreg *r)
{
	uint64_t v = 0;
	unsigned i;

	(void)r;
	for (i = 0; i < pe->cfg.list_regs; i++) {
		if (lr_eoi_done(lrs(pe)[i]))
			v |= BIT(i);
	}
	return (v);
}

uint64_t
ich_rd_elrsr(struct pe *pe, const struct sysreg *r)
{
	uint64_t v = 0;
	unsigned i;

	(void)r;
	for (i = 0; i < pe->cfg.list_regs; i++) {
		if ((lrs(pe)[i] & LR_STATE) == 0 && !lr_eoi_done(lrs(pe)[i]))
			v |= BIT(i);
	}
	return (v);
}

void
ich_wr_hcr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[r->sr] = v & r->wmask;
	changed(pe);
}

void
ich_wr_vmcr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	uint64_t bpr0 = FIELD(v, VMCR_VBPR0_SHIFT, 3), bpr1 = FIELD(v, VMCR_VBPR1_SHIFT, 3);

	pe->sr[r->sr] = (v & (VMCR_VENG0 | VMCR_VENG1 | VMCR_VCBPR | VMCR_VEOIM |
				 ((uint64_t)GIC_PRIMASK << VMCR_VPMR_SHIFT))) |
			VMCR_VFIQEN;
	vmcr_set(pe, VMCR_VBPR0_SHIFT, 7, bpr0 < MIN_BPR0 ? MIN_BPR0 : bpr0);
	vmcr_set(pe, VMCR_VBPR1_SHIFT, 7, bpr1 < MIN_BPR1 ? MIN_BPR1 : bpr1);
	changed(pe);
}

void
ich_wr_apr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[r->sr] = (uint32_t)v;
	changed(pe);
}

/* -- traps from EL1 (the access pseudocode of each register in IHI 0069) -------------- */

static int
trap_if(const struct pe *pe, uint64_t ich)
{
	if (pe->el == 0)
		return (-1);
	return ((pe->sr[SR_ICH_HCR_EL2] & ich) != 0 ? 2 : 0);
}

int
icc_trap_g0(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (trap_if(pe, ICH_HCR_TALL0));
}

int
icc_trap_g1(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (trap_if(pe, ICH_HCR_TALL1));
}

int
icc_trap_common(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (trap_if(pe, ICH_HCR_TC));
}

int
icc_trap_dir(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (trap_if(pe, ICH_HCR_TC | ICH_HCR_TDIR));
}

int
icc_trap_sgi(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	if (!write || pe->el == 0)
		return (-1);
	if ((pe->sr[SR_HCR_EL2] & (HCR_IMO | HCR_FMO)) != 0)
		return (2);
	return (trap_if(pe, ICH_HCR_TC));
}

int
icc_trap_sre(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	/* ICC_SRE_EL2.Enable is RAO/WI */
	return (pe->el == 0 ? -1 : 0);
}
