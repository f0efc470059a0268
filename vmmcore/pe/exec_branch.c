/*
 * Branches and ERET (DDI 0487, C4.1.93). A handler puts the target in pe->pc;
 * the alignment of a register target is checked when it is fetched.
 */
#include "pe/exec_int.h"

static inline int
branch_rel(struct pe *pe, const struct insn *in)
{
	return (pe_branch(pe, pe_pc(pe, in) + (uint64_t)(int64_t)in->imm));
}

OP(b)
{
	return (branch_rel(pe, in));
}

OP(bl)
{
	pe->x[30] = pe_pc(pe, in) + 4;
	return (branch_rel(pe, in));
}

#define OP_BRANCH_IF(name, cond)                     \
	OP(name)                                     \
	{                                            \
		if (cond)                            \
			return (branch_rel(pe, in)); \
		return (INSN_NEXT);                  \
	}

OP_BRANCH_IF(b_cond, cond_holds(pe, in->a))
OP_BRANCH_IF(cbz_w, RD(uint32_t) == 0)
OP_BRANCH_IF(cbz_x, RD(uint64_t) == 0)
OP_BRANCH_IF(cbnz_w, RD(uint32_t) != 0)
OP_BRANCH_IF(cbnz_x, RD(uint64_t) != 0)
OP_BRANCH_IF(tbz, (pe->x[in->rd] >> in->a & 1) == 0)
OP_BRANCH_IF(tbnz, (pe->x[in->rd] >> in->a & 1) != 0)

OP(br)
{
	return (pe_branch_indirect(pe, in, pe->x[in->rn], false));
}

OP(ret)
{
	return (pe_branch(pe, pe->x[in->rn]));
}

/* The target is read before the link register is written: BLR X30. */
OP(blr)
{
	uint64_t target = pe->x[in->rn];

	pe->x[30] = pe_pc(pe, in) + 4;
	return (pe_branch_indirect(pe, in, target, true));
}

OP(eret)
{
	if (pe->el == 0)
		return (pe_undef(pe, in));
	return (pe_eret(pe));
}
