/* Choice of the world switch (vmm_handlers.h). */
#include "vmm/vmm_handlers.h"

int
vmm_enter_guest(struct pcpu *pcpu, struct hyp *hyp, struct hypctx *hypctx)
{
	uint64_t type;

	if (hyp->vhe != 0)
		return (vmm_vhe_enter_guest(pcpu, hypctx));
	if (vmm_nvhe_hvc(pcpu, HYP_ENTER_GUEST, vm_hypctx_pa(pcpu->vm, hypctx), &type) != 0)
		return (-1);
	return ((int)type);
}

void
vmm_clean_s2_tlbi(struct pcpu *pcpu)
{
	uint64_t none;

	if (pcpu->vhe != 0)
		vmm_vhe_clean_s2_tlbi(pcpu);
	else
		(void)vmm_nvhe_hvc(pcpu, HYP_CLEAN_S2_TLBI, 0, &none);
}

void
vmm_s2_tlbi_all(struct pcpu *pcpu, struct hyp *hyp)
{
	uint64_t none;

	if (pcpu->vhe != 0)
		vmm_vhe_s2_tlbi_all(pcpu, hyp->vttbr_el2);
	else
		(void)vmm_nvhe_hvc(pcpu, HYP_S2_TLBI_ALL, hyp->vttbr_el2, &none);
}
