/*
 * The seam between the kernel module and the silicon: where FreeBSD's ifuncs
 * choose between the VHE and the nVHE form.
 */
#ifndef VMM_HANDLERS_H
#define VMM_HANDLERS_H

#include "vmm/hyp.h"

/* EXCP_TYPE_*, or -1: the hypctx was refused. */
int vmm_enter_guest(struct pcpu *pcpu, struct hyp *hyp, struct hypctx *hypctx);
/* Forget every stage-1 and stage-2 translation of all VMs, on all PEs. */
void vmm_clean_s2_tlbi(struct pcpu *pcpu);
/* The same for the VM of `hyp`. */
void vmm_s2_tlbi_all(struct pcpu *pcpu, struct hyp *hyp);

#endif /* VMM_HANDLERS_H */
