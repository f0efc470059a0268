/*
 * The virtual half of the GIC CPU interface: list registers, what they signal
 * (IHI 0069, chapter 6), and the ICH_* registers of EL2.
 *
 * Whether an interrupt is signalled and whether maintenance asks for attention
 * is computed when somebody looks after a change; the poll of the run loop
 * reads two bits.
 */
#include "pe/gic_int.h"

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

uint32_t
icv_running(const struct pe *pe)
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
	uint32_t prio = LR_PRIO(lr), run = icv_running(pe), mask;

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

void
gic_virt_update(struct pe *pe)
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
		gic_virt_update(pe);
	return (pe->gic->virq);
}

bool
gic_virt_fiq(struct pe *pe)
{
	if (unlikely(pe->gic->dirty))
		gic_virt_update(pe);
	return (pe->gic->vfiq);
}

uint64_t
icv_iar(struct pe *pe, unsigned grp)
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
	if (pe->pins.acked != NULL)
		pe->pins.acked(pe->pins.ctx, intid);
	return (intid);
}

uint64_t
icv_hppir(struct pe *pe, unsigned grp)
{
	int idx = virt_highest(pe);

	if (idx < 0 || LR_GRP(lrs(pe)[idx]) != grp)
		return (GIC_SPURIOUS);
	return (LR_INTID(lrs(pe)[idx]));
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
		gic_phys_deactivate(pe, LR_PINTID(*lr));
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

void
icv_eoir(struct pe *pe, unsigned grp, uint32_t intid)
{
	uint64_t *ap0 = &pe->sr[SR_ICH_AP0R0_EL2], *ap1 = &pe->sr[SR_ICH_AP1R0_EL2], *ap;
	bool split = (pe->sr[SR_ICH_VMCR_EL2] & VMCR_VEOIM) != 0;
	uint32_t prio;
	int idx;

	if (intid >= SPECIAL_FIRST && intid < LPI_FIRST)
		return;
	/* priority drop: the highest active priority, of whichever group */
	prio = icv_running(pe);
	if (prio == PRIO_IDLE)
		return;
	ap = (*ap0 & BIT(prio >> 3)) != 0 ? ap0 : ap1;
	*ap &= *ap - 1;
	gic_changed(pe);

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

void
icv_dir(struct pe *pe, uint32_t intid)
{
	int idx;

	if ((pe->sr[SR_ICH_VMCR_EL2] & VMCR_VEOIM) == 0 || intid >= SPECIAL_FIRST)
		return;
	idx = virt_find_active(pe, intid);
	if (idx >= 0)
		virt_deactivate(pe, idx);
	else
		virt_eoicount(pe);
	gic_changed(pe);
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
	gic_changed(pe);
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
		gic_virt_update(pe);
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
	gic_changed(pe);
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
	gic_changed(pe);
}

void
ich_wr_apr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[r->sr] = (uint32_t)v;
	gic_changed(pe);
}
