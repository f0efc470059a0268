/*
 * What becomes of an instruction that trapped: it was emulated, or the guest
 * takes an exception to EL1, on the state in struct hypctx as hardware does at
 * an exception entry (DDI 0487, D1.3.1).
 */
#include "vmm/hyp.h"

#define PSR_M 0x1fu
#define PSR_M_EL1H 0x05u
#define PSR_SP 1u
#define PSR_DAIF UINT64_C(0x3c0)
#define PSR_SSBS (UINT64_C(1) << 12)
#define PSR_IL (UINT64_C(1) << 20)
#define PSR_PAN (UINT64_C(1) << 22)
#define PSR_UAO (UINT64_C(1) << 23)
#define SCTLR_SPAN (UINT64_C(1) << 23)
#define SCTLR_DSSBS (UINT64_C(1) << 44)

#define EC_INSN_ABORT_CUR 0x21u
#define EC_DATA_ABORT_CUR 0x25u

static bool
has(const struct hyp *hyp, enum pe_feature f)
{
	return (((hyp->features >> f) & 1) != 0);
}

/* As after any instruction: BTYPE is 0, and a software step has been done (SSAdvance()). */
void
hypctx_skip(struct hypctx *hypctx)
{
	hypctx->tf.tf_elr += 4;
	hypctx->tf.tf_spsr &= ~(PSR_BTYPE | PSR_SS);
	vmm_debug_stepped(hypctx);
}

void
hypctx_inject(struct hypctx *hypctx, uint64_t esr, uint64_t far)
{
	struct hyp *hyp = hypctx_hyp(hypctx);
	uint64_t ps = hypctx->tf.tf_spsr, new;
	uint64_t vector;

	if ((ps & PSR_M) == 0)
		vector = 0x400; /* lower level, AArch64 */
	else
		vector = (ps & PSR_SP) != 0 ? 0x200 : 0x000;
	/* Flags and DIT stay; UAO, SS, IL and BTYPE are cleared. */
	new = (ps & ~(PSR_M | PSR_BTYPE | PSR_SSBS | PSR_IL | PSR_SS | PSR_UAO)) | PSR_M_EL1H |
	      PSR_DAIF;
	if (has(hyp, PE_FEAT_PAN) && (hypctx->sctlr_el1 & SCTLR_SPAN) == 0)
		new |= PSR_PAN;
	if (has(hyp, PE_FEAT_SSBS) && (hypctx->sctlr_el1 & SCTLR_DSSBS) != 0)
		new |= PSR_SSBS;
	hypctx->elr_el1 = hypctx->tf.tf_elr;
	hypctx->spsr_el1 = ps;
	hypctx->esr_el1 = esr;
	hypctx->far_el1 = far;
	hypctx->tf.tf_elr = (hypctx->vbar_el1 & ~UINT64_C(0x7ff)) + vector;
	hypctx->tf.tf_spsr = new;
	/* The instruction that was under way is not completed. */
	hypctx->pending = PENDING_NONE;
	hypctx->vie.active = 0;
	vmm_debug_stepped(hypctx);
}

void
hypctx_inject_undef(struct hypctx *hypctx)
{
	/* EC 0; FAR_EL1 keeps its value. */
	hypctx_inject(hypctx, ESR_IL_BIT, hypctx->far_el1);
}

void
hypctx_inject_abort(struct hypctx *hypctx, bool insn, unsigned fsc, uint64_t far)
{
	bool same = (hypctx->tf.tf_spsr & PSR_M) != 0;
	uint64_t ec, iss = fsc;

	if (insn)
		ec = same ? EC_INSN_ABORT_CUR : EC_INSN_ABORT_LOWER;
	else {
		ec = same ? EC_DATA_ABORT_CUR : EC_DATA_ABORT_LOWER;
		iss |= hypctx->tf.tf_esr & (ISS_WNR | ISS_CM);
	}
	hypctx_inject(hypctx, (ec << 26) | ESR_IL_BIT | iss, far);
}
