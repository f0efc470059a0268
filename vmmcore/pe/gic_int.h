/*
 * What the two halves of the GIC CPU interface share: gic_cpuif.c, the
 * physical interface and the ICC_* registers, and gic_virt.c, the virtual
 * interface behind ICV_* and the ICH_* registers. For these two only.
 */
#ifndef PE_GIC_INT_H
#define PE_GIC_INT_H

#include "pe/gic_cpuif.h"

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
	uint32_t active;   /* physical, bit per INTID 0 to 31 */
	uint32_t sgi_pend; /* SGIs this PE sent to itself */
	bool dirty;        /* the rest is out of date */
	bool virq, vfiq;
	bool maint;
	uint64_t misr;
};

/* Something that decides about signalling changed: look soon. */
static inline void
gic_changed(struct pe *pe)
{
	pe->gic->dirty = true;
	pe->slice = 0;
}

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

static inline void
vmcr_set(struct pe *pe, unsigned shift, uint64_t mask, uint64_t v)
{
	uint64_t *vmcr = &pe->sr[SR_ICH_VMCR_EL2];

	*vmcr = (*vmcr & ~(mask << shift)) | ((v & mask) << shift);
}

/* gic_virt.c: the virtual interface for group `grp`. */
void gic_virt_update(struct pe *);
uint32_t icv_running(const struct pe *);
uint64_t icv_iar(struct pe *, unsigned grp);
uint64_t icv_hppir(struct pe *, unsigned grp);
void icv_eoir(struct pe *, unsigned grp, uint32_t intid);
void icv_dir(struct pe *, uint32_t intid);

/* gic_cpuif.c: the end of a private physical interrupt. */
void gic_phys_deactivate(struct pe *, uint32_t intid);

#endif /* PE_GIC_INT_H */
