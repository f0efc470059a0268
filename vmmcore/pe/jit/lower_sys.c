/*
 * Lowering of MRS for registers that are plain storage, for FPCR and for
 * SP_EL0, where Linux keeps the current task. All others go to the handler.
 */
#include "pe/jit/lower.h"
#include "pe/sysreg.h"

static void
load(struct tr *t, const struct insn *in, int32_t off, bool w)
{
	int d = g_dest(in->rd, RAX);

	x_load(&t->x, w, d, x_mem(R15, off));
	g_commit(t, in->rd, d);
}

LOWER(mrs)
{
	const struct sysreg *r = sysreg_find(in->word >> 5 & 0xffff);
	struct x86 *x = &t->x;

	t_resolve(t); /* set_again() does not look further */
	if (r == NULL) {
		t_handler(t, in);
		return;
	}
	if (r->sr == SR_FPCR) {
		v_check(t);
		load(t, in, PE_OFF(fp.fpcr), false);
		return;
	}
	if (r->sr == SR_SP_EL0) {
		/* At EL1 on SP_EL1; other cases may be UNDEFINED or other registers. */
		x_load(x, false, RAX, PE_MEM(pstate));
		x_alu_imm(x, false, X_AND, RAX, 15);
		x_alu_imm(x, false, X_CMP, RAX, 5);
		t_slow(t, CC_NE);
		load(t, in, PE_OFF(sp_el[0]), true);
		return;
	}
	if (r->rd != NULL || r->trap != NULL || (r->acc & SR_RO1) != SR_RO1) {
		t_handler(t, in);
		return;
	}
	if ((r->acc & SR_R0) == 0) {
		x_cmp8_mem_imm(x, PE_MEM(el), 0);
		t_slow(t, CC_E);
	}
	if (sysreg_redirected(r)) {
		x_cmp8_mem_imm(x, PE_MEM(el), 2);
		t_slow(t, CC_E);
	}
	load(t, in, PE_OFF(sr) + 8 * (int32_t)r->sr, true);
}
