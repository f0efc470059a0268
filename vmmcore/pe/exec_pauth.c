/*
 * Instructions of FEAT_PAuth: sign, authenticate, strip, branches and loads
 * through an authenticated pointer (DDI 0487, C3.2.11 and D8.10). Those of the
 * hint space are NOPs without the feature; the others are UNDEFINED then (the
 * decode table says so). Codes and pointers are pauth.c's business.
 */
#include "pe/except.h"
#include "pe/exec_int.h"
#include "pe/pauth.h"

static const uint64_t enable_bit[] = {
	[KEY_IA] = SCTLR_ENIA,
	[KEY_IB] = SCTLR_ENIB,
	[KEY_DA] = SCTLR_ENDA,
	[KEY_DB] = SCTLR_ENDB,
};

/* HCR_EL2.API traps what is enabled, from EL1 and its EL0. */
static bool
trapped(const struct pe *pe)
{
	uint64_t hcr = pe->sr[SR_HCR_EL2];

	if (pe->el == 2 || (hcr & HCR_API) != 0)
		return (false);
	return (pe->el == 1 || (hcr & (HCR_TGE | HCR_E2H)) != (HCR_TGE | HCR_E2H));
}

static int
trap(struct pe *pe, const struct insn *in)
{
	return (pe_exception(pe, 2, EC_PAC, 0, pe_pc(pe, in)));
}

/*
 * Sign or authenticate *ptr with a key, if the key is enabled: 0, or INSN_EXC
 * with the trap taken.
 */
static int
code(struct pe *pe, const struct insn *in, uint64_t *ptr, uint64_t modifier, enum pauth_key key,
    bool auth)
{
	if ((pe_sctlr(pe) & enable_bit[key]) == 0)
		return (0);
	if (trapped(pe))
		return (trap(pe, in));
	*ptr = auth ? pauth_auth(pe, *ptr, modifier, key) : pauth_add(pe, *ptr, modifier, key);
	return (0);
}

/* Rd in place; the modifier is Rn or zero. a is the key, b says AUT. */
OP(pac)
{
	uint64_t v = pe->x[in->rd];

	if (code(pe, in, &v, pe->x[in->rn], in->a & 3, in->b != 0) != 0)
		return (INSN_EXC);
	pe_setx(pe, in->rd, v);
	return (INSN_NEXT);
}

OP(pac_z)
{
	uint64_t v = pe->x[in->rd];

	if (code(pe, in, &v, 0, in->a & 3, in->b != 0) != 0)
		return (INSN_EXC);
	pe_setx(pe, in->rd, v);
	return (INSN_NEXT);
}

OP(xpac)
{
	pe_setx(pe, in->rd, pauth_strip(pe, pe->x[in->rd], in->a != 0 ? KEY_DA : KEY_IA));
	return (INSN_NEXT);
}

OP(pacga)
{
	if (trapped(pe))
		return (trap(pe, in));
	pe->x[in->rd] =
	    pauth_compute(pe, pe->x[in->rn], pe->x[in->rm], KEY_GA) & ~UINT64_C(0xffffffff);
	return (INSN_NEXT);
}

/*
 * Hints: a is CRm:op2. 1716 sign X17 with X16, Z and SP sign X30 with zero or
 * the stack pointer. Bit 1 of the number is the key, bit 2 says AUT.
 */
OP(pac_hint)
{
	unsigned hint = in->a, reg = 30;
	uint64_t modifier, v;

	if (!pe_has(pe, PE_FEAT_PAuth))
		return (INSN_NEXT);
	if (hint == 7) { /* XPACLRI */
		pe->x[30] = pauth_strip(pe, pe->x[30], KEY_IA);
		return (INSN_NEXT);
	}
	if (hint < 16) {
		reg = 17;
		modifier = pe->x[16];
	} else
		modifier = (hint & 1) != 0 ? pe->x[REG_SP] : 0;
	v = pe->x[reg];
	if (code(pe, in, &v, modifier, (hint & 2) != 0 ? KEY_IB : KEY_IA, (hint & 4) != 0) != 0)
		return (INSN_EXC);
	pe->x[reg] = v;
	return (INSN_NEXT);
}

/* -- branches: a is the key ------------------------------------------------------------ */

/* The authenticated target in Rn, with modifier Rm (rd field) or zero. */
static int
target(struct pe *pe, const struct insn *in, uint64_t modifier, uint64_t *to)
{
	*to = pe->x[in->rn];
	return (code(pe, in, to, modifier, in->a != 0 ? KEY_IB : KEY_IA, true));
}

OP(braz)
{
	uint64_t to;

	if (target(pe, in, 0, &to) != 0)
		return (INSN_EXC);
	return (pe_branch_indirect(pe, in, to, false));
}

OP(bra)
{
	uint64_t to;

	if (target(pe, in, pe->x[in->rd], &to) != 0)
		return (INSN_EXC);
	return (pe_branch_indirect(pe, in, to, false));
}

OP(blraz)
{
	uint64_t to;

	if (target(pe, in, 0, &to) != 0)
		return (INSN_EXC);
	pe->x[30] = pe_pc(pe, in) + 4;
	return (pe_branch_indirect(pe, in, to, true));
}

OP(blra)
{
	uint64_t to;

	if (target(pe, in, pe->x[in->rd], &to) != 0)
		return (INSN_EXC);
	pe->x[30] = pe_pc(pe, in) + 4;
	return (pe_branch_indirect(pe, in, to, true));
}

OP(reta)
{
	uint64_t to = pe->x[30];

	if (code(pe, in, &to, pe->x[REG_SP], in->a != 0 ? KEY_IB : KEY_IA, true) != 0)
		return (INSN_EXC);
	return (pe_branch(pe, to));
}

OP(ereta)
{
	uint64_t to;

	if (pe->el == 0)
		return (pe_undef(pe, in));
	to = pe->sr[pe->el == 2 ? SR_ELR_EL2 : SR_ELR_EL1];
	if (code(pe, in, &to, pe->x[REG_SP], in->a != 0 ? KEY_IB : KEY_IA, true) != 0)
		return (INSN_EXC);
	return (pe_eret_to(pe, to));
}

/* -- loads -------------------------------------------------------------------------------- */

/*
 * LDRAA, LDRAB: the base is authenticated with zero; a is the key. CONSTRAINED
 * UNPREDICTABLE with write-back over Rt: the address stays, as in exec_ldst.c.
 */
static int
load(struct pe *pe, const struct insn *in, bool writeback)
{
	uint64_t addr = pe->x[in->rn], v;
	int e = pe_check_sp(pe, in);

	if (e != 0)
		return (e);
	if (code(pe, in, &addr, 0, in->a != 0 ? KEY_DB : KEY_DA, true) != 0)
		return (INSN_EXC);
	addr += (uint64_t)(int64_t)in->imm;
	if ((e = pe_read(pe, in, addr, &v, sizeof(v), sizeof(v))) != 0)
		return (e);
	pe->x[in->rd] = v;
	if (writeback)
		pe->x[in->rn] = addr;
	return (INSN_NEXT);
}

OP(ldra)
{
	return (load(pe, in, false));
}

OP(ldra_pre)
{
	return (load(pe, in, true));
}
