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
	return (vmm_vhe_switch(pcpu, hypctx));
}
