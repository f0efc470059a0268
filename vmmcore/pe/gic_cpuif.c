/*
 * The GICv3 CPU interface of one PE: see gic_cpuif.h.
 *
 * Storage is pe->sr[]: ICC_* rows hold the physical interface, ICH_* rows the
 * virtual one (gic_virt.c).
 *
 * The physical side has one priority for everything: level-sensitive private
 * interrupts, all enabled, in group 1. Nothing is ever in group 0 there.
 */
#include <stdlib.h>

#include "pe/except.h"
#include "pe/gic_int.h"
#include "pe/timer.h"

/* Priority of every physical interrupt. */
#define PHYS_PRIO 0xa0u

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

/* Is an access to group `grp` (0, 1; 2: common registers) a virtual one? */
static inline bool
is_virtual(const struct pe *pe, unsigned grp)
{
	static const uint64_t bits[3] = { HCR_FMO, HCR_IMO, HCR_FMO | HCR_IMO };

	return (pe->el < 2 && (pe->sr[SR_HCR_EL2] & bits[grp]) != 0);
}

void
gic_phys_deactivate(struct pe *pe, uint32_t intid)
{
	if (intid < 32)
		pe->gic->active &= ~(UINT32_C(1) << intid);
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
		gic_virt_update(pe);
	if (pe->pmu.line)
		p |= UINT32_C(1) << PE_PPI_PMU;
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
	gic_changed(pe);
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
		gic_phys_deactivate(pe, intid);
	gic_changed(pe);
}

/* -- registers of both -------------------------------------------------------------- */

uint64_t
icc_rd_iar0(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (is_virtual(pe, 0) ? icv_iar(pe, 0) : GIC_SPURIOUS);
}

uint64_t
icc_rd_iar1(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (is_virtual(pe, 1) ? icv_iar(pe, 1) : phys_iar(pe));
}

uint64_t
icc_rd_hppir0(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (is_virtual(pe, 0) ? icv_hppir(pe, 0) : GIC_SPURIOUS);
}

uint64_t
icc_rd_hppir1(struct pe *pe, const struct sysreg *r)
{
	uint32_t p;

	(void)r;
	if (is_virtual(pe, 1))
		return (icv_hppir(pe, 1));
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
		return (icv_running(pe));
	return (apr_prio(pe->sr[SR_ICC_AP0R0_EL1] | pe->sr[SR_ICC_AP1R0_EL1]));
}

void
icc_wr_eoir0(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	v &= 0xffffff;
	if (is_virtual(pe, 0))
		icv_eoir(pe, 0, (uint32_t)v);
	else
		phys_eoir(pe, 0, (uint32_t)v);
}

void
icc_wr_eoir1(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	v &= 0xffffff;
	if (is_virtual(pe, 1))
		icv_eoir(pe, 1, (uint32_t)v);
	else
		phys_eoir(pe, 1, (uint32_t)v);
}

void
icc_wr_dir(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	v &= 0xffffff;
	if (is_virtual(pe, 2)) {
		icv_dir(pe, (uint32_t)v);
	} else if ((pe->sr[SR_ICC_CTLR_EL1] & CTLR_EOIMODE) != 0) {
		gic_phys_deactivate(pe, (uint32_t)v);
		gic_changed(pe);
	}
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
	gic_changed(pe);
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
	gic_changed(pe);
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
	gic_changed(pe);
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
	gic_changed(pe);
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
	gic_changed(pe);
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
	gic_changed(pe);
}

void
icc_wr_ignore(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)pe;
	(void)r;
	(void)v;
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
