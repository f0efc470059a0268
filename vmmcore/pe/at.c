/*
 * Address translation instructions and PAR_EL1 (DDI 0487, C5.4, D19.2.109).
 */
#include <errno.h>

#include "pe/except.h"
#include "pe/mmu.h"

struct at_row {
	uint8_t op1, crm, op2;
	uint8_t el;
	bool write, stage12, pan;
};

static const struct at_row rows[] = {
	{ 0, 8, 0, 1, false, false, false }, /* S1E1R */
	{ 0, 8, 1, 1, true, false, false },  /* S1E1W */
	{ 0, 8, 2, 0, false, false, false }, /* S1E0R */
	{ 0, 8, 3, 0, true, false, false },  /* S1E0W */
	{ 0, 9, 0, 1, false, false, true },  /* S1E1RP */
	{ 0, 9, 1, 1, true, false, true },   /* S1E1WP */
	{ 4, 8, 0, 2, false, false, false }, /* S1E2R */
	{ 4, 8, 1, 2, true, false, false },  /* S1E2W */
	{ 4, 8, 4, 1, false, true, false },  /* S12E1R */
	{ 4, 8, 5, 1, true, true, false },   /* S12E1W */
	{ 4, 8, 6, 0, false, true, false },  /* S12E0R */
	{ 4, 8, 7, 0, true, true, false },   /* S12E0W */
};

/* For a host at EL2 the stage-1 forms of EL1 and EL0 mean its own regime. */
static unsigned
regime_of(const struct pe *pe, const struct at_row *r)
{
	if (r->el == 2)
		return (mmu_regime_of(pe, 2));
	return (pe_in_host(pe, 0) && !r->stage12 ? REGIME_EL20 : REGIME_EL10);
}

int
at_op(struct pe *pe, const struct insn *in, uint32_t enc, uint64_t xt)
{
	const struct at_row *r = NULL;
	struct mmu_req rq = { .va = xt };
	struct mmu_xlat x;
	struct mmu_fault f;
	unsigned el = in == NULL ? 2 : pe->el;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (PE_SYSREG(1u, rows[i].op1, 7u, rows[i].crm, rows[i].op2) == enc)
			r = &rows[i];
	if (r == NULL || el == 0 || (r->op1 == 4 && el != 2) ||
	    (r->pan && !pe_has(pe, PE_FEAT_PAN2)))
		return (in == NULL ? INSN_EXC : pe_undef(pe, in));
	rq.el = r->el == 1 && regime_of(pe, r) != REGIME_EL10 ? 2 : r->el;
	rq.regime = regime_of(pe, r);
	rq.pan = r->pan && (pe->pstate & PS_PAN) != 0;
	rq.acc = (r->write ? ACC_WRITE : ACC_READ) | ACC_AT;
	rq.s1_only = rq.regime == REGIME_EL10 && !r->stage12;
	if (mmu_translate(pe, &rq, &x, &f) == 0) {
		pe->sr[SR_PAR_EL1] = BIT(11) | (x.pa & GENMASK(47, 12)) | ((uint64_t)x.attr << 56) |
				     ((uint64_t)(x.device || x.attr == 0x44 ? 2 : x.sh) << 7);
		return (INSN_NEXT);
	}
	/* A stage-2 fault on the walk of AT from EL1 is taken, an external abort too. */
	if (in != NULL && ((f.s1ptw && el == 1) || (f.fsc & 0x3c) == FSC_EXTERNAL_WALK))
		return (mmu_data_abort(pe, in, xt, rq.acc | ACC_CM, &f));
	pe->sr[SR_PAR_EL1] =
	    BIT(11) | 1 | ((uint64_t)f.fsc << 1) | (f.s1ptw ? BIT(8) : 0) | (f.stage2 ? BIT(9) : 0);
	return (INSN_NEXT);
}
