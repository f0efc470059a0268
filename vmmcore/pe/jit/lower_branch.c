/*
 * Lowering of branches. A conditional one goes to out-of-line code and the block
 * goes on behind it; that code leaves, or goes on further down in the block.
 */
#include "pe/jit/lower.h"

static int32_t
target(const struct tr *t, const struct insn *in)
{
	return (t_off(t) + in->imm);
}

/* May the instruction behind this one be reached by a branch of the block? */
static bool
t_next_label(const struct tr *t)
{
	unsigned next = t->i + 1 - t->start;

	return (next < JIT_BLOCK_MAX && t->label[next]);
}

LOWER(b)
{
	unsigned to = (unsigned)target(t, in) / 4 - t->start;

	/* A loop, or what ends the first of two ways that meet again. */
	if (to == 0 || (target(t, in) > t_off(t) && to < JIT_BLOCK_MAX && t_next_label(t))) {
		t_branch(t, -1, target(t, in));
		t->ended = true;
		return;
	}
	if (!middle_branch(t, target(t, in))) {
		t_settle(t);
		t_goto(t, target(t, in));
	}
	t->ended = true;
}

LOWER(bl)
{
	t_settle(t);
	t_pc(t, RAX, t_off(t) + 4);
	g_commit(t, 30, RAX);
	t_goto(t, target(t, in));
	t->ended = true;
}

LOWER(b_cond)
{
	if (in->a >= 14) {
		lower_b(t, in);
		return;
	}
	t_branch(t, (int)t_cond(t, in->a), target(t, in));
	/* Not taken: the host's flags are as they were. */
	t->hf = t_cond_hf(t, in->a);
}

LOWER(cbz)
{
	struct x86 *x = &t->x;
	bool w = is_x(in), nonzero = (in->word & (1u << 24)) != 0;

	if (in->rd == REG_ZR) {
		if (!nonzero)
			lower_b(t, in);
		return;
	}
	if (jit_map[in->rd] >= 0)
		x_test(x, w, jit_map[in->rd], jit_map[in->rd]);
	else
		x_alu_mem_imm(x, w, X_CMP, g_mem(in->rd), 0);
	t_branch(t, nonzero ? CC_NE : CC_E, target(t, in));
}

LOWER(tbz)
{
	struct x86 *x = &t->x;
	bool nonzero = (in->word & (1u << 24)) != 0;
	int r = g_read(t, true, in->rd, RAX);

	if (in->a < 8)
		x_test_imm8(x, r, 1u << in->a);
	else
		x_bt_imm(x, true, r, in->a);
	t_branch(t, in->a < 8 ? (nonzero ? CC_NE : CC_E) : (nonzero ? CC_B : CC_AE), target(t, in));
}

bool
jit_is_branch(const struct insn *in)
{
	lower_fn fn = jit_lowering[in->op].fn;

	return (fn == lower_b || fn == lower_b_cond || fn == lower_cbz || fn == lower_tbz);
}

/* With FEAT_BTI a branch leaves its kind in PSTATE.BTYPE and is looked at again. */
static bool
typed(struct tr *t, const struct insn *in)
{
	if (in->op == A64_RET || !pe_has(t->pe, PE_FEAT_BTI))
		return (false);
	t_handler(t, in);
	t->ended = true;
	return (true);
}

/* BR and RET. */
LOWER(br)
{
	if (typed(t, in))
		return;
	t_settle(t);
	g_load(t, true, RAX, in->rn);
	t_dispatch(t);
	t->ended = true;
}

LOWER(blr)
{
	if (typed(t, in))
		return;
	t_settle(t);
	/* The target first: BLR X30. */
	g_load(t, true, RDX, in->rn);
	t_pc(t, RAX, t_off(t) + 4);
	g_commit(t, 30, RAX);
	x_mov(&t->x, true, RAX, RDX);
	t_dispatch(t);
	t->ended = true;
}
