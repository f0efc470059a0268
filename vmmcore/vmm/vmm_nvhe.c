/*
 * The nVHE form: the host is at EL1 and calls the code at EL2 with HVC, an
 * operation number and physical addresses.
 */
#include <errno.h>
#include <string.h>

#include "vmm/hyp.h"
#include "vmm/io/vgic.h"
#include "vmm/mmu.h"

#define HYP_VHE 0
#include "vmm/vmm_hyp.inc"

#define ICH_VTR_EL2 PE_SYSREG(3, 4, 12, 11, 1)
#define CNTHCTL_EL2 PE_SYSREG(3, 4, 14, 1, 0)

int
vmm_nvhe_hvc(struct pcpu *pcpu, unsigned op, uint64_t arg, uint64_t *result)
{
	struct hypctx *hypctx;

	*result = 0;
	switch (op) {
	case HYP_CLEANUP:
		return (0);
	case HYP_ENTER_GUEST:
		/* A kernel virtual address means nothing here. */
		if ((hypctx = pcpu_hypctx(pcpu, arg)) == NULL)
			return (EINVAL);
		pcpu->ctx_pa = arg;
		*result = (uint64_t)vmm_nvhe_switch(pcpu, hypctx);
		return (0);
	case HYP_READ_REGISTER:
		return (pe_mrs(pcpu->pe, arg == 1 ? ICH_VTR_EL2 : CNTHCTL_EL2, result));
	case HYP_CLEAN_S2_TLBI:
		return (pe_sys(pcpu->pe, TLBI_ALLE1IS, 0));
	case HYP_S2_TLBI_ALL:
		vmm_nvhe_s2_tlbi(pcpu->pe, arg);
		return (0);
	default:
		return (EINVAL);
	}
}
