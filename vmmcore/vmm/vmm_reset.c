/* Reset values of a vCPU (bhyve.md 5.6). */
#include <string.h>

#include "vmm/hyp.h"
#include "vmm/io/vgic.h"

/*
 * HCR_EL2
 *	RW		EL1 is AArch64
 *	TID3		ID registers trap
 *	TWI		WFI traps
 *	TSC		SMC traps
 *	BSU_IS, FB	barriers and TLBI of the guest reach the inner shareable domain
 *	AMO, IMO, FMO	interrupts come to EL2; the guest sees virtual ones
 *	SWIO		DC ISW is DC CISW
 *	VM		stage 2
 *	TIDCP		IMPLEMENTATION DEFINED registers, for vm_user_sysregs()
 *	API, APK	pointer authentication is the guest's own
 */
#define HCR_GUEST                                                                          \
	(HCR_RW | HCR_TID3 | HCR_TWI | HCR_TSC | HCR_BSU_IS | HCR_FB | HCR_AMO | HCR_IMO | \
	    HCR_FMO | HCR_SWIO | HCR_VM)

/*
 * MDCR_EL2
 *	TDOSA	OS lock and double lock trap
 *	TDRA	debug ROM addresses trap
 *	TPMS, TTRF	statistical profiling and trace filter trap
 *	HPMN, HPMD	the performance monitors are the guest's, and do not count EL2
 */
#define MDCR_GUEST \
	((UINT64_C(1) << 10) | (UINT64_C(1) << 11) | (UINT64_C(1) << 14) | (UINT64_C(1) << 19))

#define MDCR_PMU (UINT64_C(6) | (UINT64_C(1) << 17))

/* CPTR_EL2: RES1 (TZ among it: SVE traps), trace traps, FP and CPACR do not. */
#define CPTR_NVHE (UINT64_C(0x33ff) | (UINT64_C(1) << 20))
/* Under VHE it has the layout of CPACR: FPEN, and TTA. */
#define CPTR_VHE ((UINT64_C(3) << 20) | (UINT64_C(1) << 28))

/* SCTLR_EL1: EOS, TSCXT, EIS, SPAN, nTLSMD, LSMAOE and CP15BEN; M, C and I off. */
#define SCTLR_RESET UINT64_C(0x30d00820)

#define PSTATE_RESET UINT64_C(0x3c5)     /* EL1h, DAIF */
#define VPIDR_GUEST UINT64_C(0x410fd000) /* Arm, architected by ID registers, Foundation */

void
vm_reset_ctx(struct hyp *hyp, struct hypctx *hypctx)
{
	memset(&hypctx->tf, 0, sizeof(hypctx->tf));
	for (unsigned i = 0; i < hyp_regs_count; i++)
		*hyp_reg(hypctx, i) = 0;
	hypctx->tf.tf_spsr = PSTATE_RESET;
	hypctx->sctlr_el1 = SCTLR_RESET;
	hypctx->hcr_el2 = HCR_GUEST;
	if (((hyp->features >> PE_FEAT_PAuth) & 1) != 0)
		hypctx->hcr_el2 |= HCR_API | HCR_APK;
	if (hyp->vhe != 0)
		hypctx->hcr_el2 |= HCR_E2H;
	if (hyp->user_sysregs != 0)
		hypctx->hcr_el2 |= HCR_TIDCP;
	hypctx->mdcr_el2 = MDCR_GUEST;
	if (((hyp->features >> PE_FEAT_PMUv3) & 1) != 0)
		hypctx->mdcr_el2 |= MDCR_PMU;
	vmm_pmu_reset(hypctx);
	hypctx->cptr_el2 = hyp->vhe != 0 ? CPTR_VHE : CPTR_NVHE;
	hypctx->vpidr_el2 = VPIDR_GUEST;
	hypctx->vmpidr_el2 = (UINT64_C(1) << 31) | vgic_vcpu_affinity(hypctx->vcpuid);
	hypctx->dbg_oslock = 0;
	hypctx->pending = PENDING_NONE;
	memset(&hypctx->vie, 0, sizeof(hypctx->vie));
	memset(&hypctx->exit_info, 0, sizeof(hypctx->exit_info));
	vtimer_cpuinit(hypctx);
	vgic_cpuinit(hypctx);
}
