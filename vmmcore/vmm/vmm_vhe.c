/* The VHE form: the host runs at EL2 (HCR_EL2.E2H) and calls this directly. */
#include <string.h>

#include "vmm/hyp.h"
#include "vmm/io/vgic.h"
#include "vmm/mmu.h"

#define HYP_VHE 1
#include "vmm/vmm_hyp.inc"

int
vmm_vhe_enter_guest(struct pcpu *pcpu, struct hypctx *hypctx)
{
	pcpu->ctx_pa = vm_hypctx_pa(pcpu->vm, hypctx);
	return (vmm_vhe_switch(pcpu, hypctx));
}

void
vmm_vhe_clean_s2_tlbi(struct pcpu *pcpu)
{
	(void)pe_sys(pcpu->pe, TLBI_ALLE1IS, 0);
}

void
vmm_vhe_s2_tlbi_all(struct pcpu *pcpu, uint64_t vttbr)
{
	vmm_vhe_s2_tlbi(pcpu->pe, vttbr);
}
