/*
 * A guest's performance monitors (FEAT_PMUv3): the PE's own, which no other guest
 * uses meanwhile, and the host never.
 *
 * Its registers are not switched at each entry: they stay in the PE, which a vCPU
 * comes back to, until another vCPU takes it. MDCR_EL2.HPMD keeps EL2 from being
 * counted. Overflow is the physical PPI 23, which the guest gets as its own and
 * whose end it sees to itself, as for the virtual timer (vgic_v3.c).
 */
#include <string.h>

#include "vmm/hyp.h"
#include "vmm/io/vgic.h"

#define PMCR_EL0 PE_SYSREG(3, 3, 9, 12, 0)
#define PMCNTENCLR_EL0 PE_SYSREG(3, 3, 9, 12, 2)
#define PMOVSCLR_EL0 PE_SYSREG(3, 3, 9, 12, 3)
#define PMINTENCLR_EL1 PE_SYSREG(3, 0, 9, 14, 2)
#define PMOVSSET_EL0 PE_SYSREG(3, 3, 9, 14, 3)
#define PMINTENSET_EL1 PE_SYSREG(3, 0, 9, 14, 1)
#define PMCR_E 1u

/* In the order in which they are restored: what counts comes last. */
static const uint32_t regs[VMM_PMU_REGS] = {
	PE_SYSREG(3, 3, 14, 8, 0), /* pmevcntr<n>_el0 */
	PE_SYSREG(3, 3, 14, 8, 1),
	PE_SYSREG(3, 3, 14, 8, 2),
	PE_SYSREG(3, 3, 14, 8, 3),
	PE_SYSREG(3, 3, 14, 8, 4),
	PE_SYSREG(3, 3, 14, 8, 5),
	PE_SYSREG(3, 3, 14, 12, 0), /* pmevtyper<n>_el0 */
	PE_SYSREG(3, 3, 14, 12, 1),
	PE_SYSREG(3, 3, 14, 12, 2),
	PE_SYSREG(3, 3, 14, 12, 3),
	PE_SYSREG(3, 3, 14, 12, 4),
	PE_SYSREG(3, 3, 14, 12, 5),
	PE_SYSREG(3, 3, 14, 15, 7), /* pmccfiltr_el0 */
	PE_SYSREG(3, 3, 9, 13, 0),  /* pmccntr_el0 */
	PE_SYSREG(3, 3, 9, 12, 5),  /* pmselr_el0 */
	PE_SYSREG(3, 3, 9, 14, 0),  /* pmuserenr_el0 */
	PMOVSSET_EL0,
	PMINTENSET_EL1,
	PE_SYSREG(3, 3, 9, 12, 1), /* pmcntenset_el0 */
	PMCR_EL0,
};

void
vmm_pmu_reset(struct hypctx *hypctx)
{
	memset(hypctx->pmu, 0, sizeof(hypctx->pmu));
	hypctx->pmu_gen++;
}

void
vmm_pmu_save(struct pcpu *pcpu)
{
	struct hypctx *hypctx = pcpu->pmu_of;

	pcpu->pmu_of = NULL;
	if (hypctx == NULL || hypctx->pmu_gen != pcpu->pmu_gen)
		return;
	for (unsigned i = 0; i < VMM_PMU_REGS; i++)
		(void)pe_mrs(pcpu->pe, regs[i], &hypctx->pmu[i]);
}

static void
load(struct pcpu *pcpu, struct hypctx *hypctx)
{
	(void)pe_msr(pcpu->pe, PMCR_EL0, 0);
	(void)pe_msr(pcpu->pe, PMCNTENCLR_EL0, UINT32_MAX);
	(void)pe_msr(pcpu->pe, PMINTENCLR_EL1, UINT32_MAX);
	(void)pe_msr(pcpu->pe, PMOVSCLR_EL0, UINT32_MAX);
	for (unsigned i = 0; i < VMM_PMU_REGS; i++)
		(void)pe_msr(pcpu->pe, regs[i], hypctx->pmu[i]);
	pcpu->pmu_of = hypctx;
	pcpu->pmu_gen = hypctx->pmu_gen;
}

void
vmm_pmu_enter(struct pcpu *pcpu, struct hypctx *hypctx)
{
	if ((pcpu->features >> PE_FEAT_PMUv3 & 1) == 0)
		return;
	if (pcpu->pmu_of != hypctx || pcpu->pmu_gen != hypctx->pmu_gen)
		load(pcpu, hypctx);
}

void
vmm_pmu_leave(struct pcpu *pcpu, struct hypctx *hypctx)
{
	uint64_t over = 0, want = 0, control = 0;
	bool level;

	if ((pcpu->features >> PE_FEAT_PMUv3 & 1) == 0)
		return;
	(void)pe_mrs(pcpu->pe, PMOVSSET_EL0, &over);
	if (over != 0) {
		(void)pe_mrs(pcpu->pe, PMINTENSET_EL1, &want);
		(void)pe_mrs(pcpu->pe, PMCR_EL0, &control);
	}
	level = (over & want) != 0 && (control & PMCR_E) != 0;
	if (hypctx->vgic_cpu.irq[PMU_IRQ].level != level)
		(void)vgic_inject_irq_self(hypctx, PMU_IRQ, level);
}
