/*
 * What all lowerings share: guest registers, flags, leaving a block.
 */
#include "pe/jit/jit_int.h"

int
g_dest(unsigned r, int scratch)
{
	return (jit_map[r] >= 0 ? jit_map[r] : scratch);
}

void
g_load(struct tr *t, bool w, int d, unsigned r)
{
	if (r == REG_ZR)
		x_const(&t->x, d, 0);
	else if (jit_map[r] < 0)
		x_load(&t->x, w, d, g_mem(r));
	else if (jit_map[r] != d || !w)
		x_mov(&t->x, w, d, jit_map[r]);
}

void
g_shift(struct tr *t, bool w, unsigned op, int d, unsigned r, unsigned n)
{
	struct x86 *x = &t->x;
	int s = r == REG_ZR ? -1 : jit_map[r];

	if (s >= 0 && s != d && n != 0 && op == X_ROR)
		x_rorx(x, w, d, s, n);
	else if (s >= 0 && s != d && n == 1 && op == X_SHL)
		x_lea(x, w, d, x_memx(s, s, 0, 0));
	else {
		g_load(t, w, d, r);
		x_shift(x, w, op, d, n);
	}
}

int
g_read(struct tr *t, bool w, unsigned r, int scratch)
{
	if (r != REG_ZR && jit_map[r] >= 0)
		return (jit_map[r]);
	g_load(t, w, scratch, r);
	return (scratch);
}

void
g_commit(struct tr *t, unsigned r, int d)
{
	if (r == REG_SINK || r == REG_ZR)
		return;
	if (jit_map[r] < 0)
		x_store(&t->x, true, g_mem(r), d);
	else if (jit_map[r] != d)
		x_mov(&t->x, true, jit_map[r], d);
}

void
t_settle(struct tr *t)
{
	t_resolve(t);
	v_flush(t);
}

/* -- leaving ------------------------------------------------------------------------- */

void
t_cold(struct tr *t, enum cold_kind kind, uint8_t *from, int32_t target)
{
	if (t->ncold == sizeof(t->cold) / sizeof(t->cold[0])) {
		t->x.overflow = true;
		return;
	}
	t->cold[t->ncold++] = (struct cold){ .v = t->v,
		.late = t->late,
		.fp_ok = t->fp_ok,
		.fp_plain = t->fp_plain,
		.strip = t->strip,
		.from = from,
		.kind = kind,
		.i = t->i,
		.target = target };
}

void
t_branch(struct tr *t, int cc, int32_t target)
{
	unsigned to = (unsigned)target / 4;
	bool inside = target > t_off(t) && to < CODEPAGE_INSNS && to - t->start < t->j->block_max;

	if ((uint32_t)target == t->start * 4 && t_loop(t, cc))
		return;
	t_cold(t, inside ? COLD_JOIN : COLD_TAKEN,
	    cc < 0 ? x_jmp(&t->x) : x_jcc(&t->x, (unsigned)cc), target);
}

void
t_slow(struct tr *t, unsigned cc)
{
	t_cold(t, COLD_SLOW, x_jcc(&t->x, cc), 0);
}

void
t_slow_code(struct tr *t, unsigned cc, void (*code)(struct tr *, const struct cold *), uint32_t arg)
{
	uint8_t *from = x_jcc(&t->x, cc);

	t_cold(t, COLD_CODE, from, 0);
	if (t->ncold > 0 && t->cold[t->ncold - 1].from == from) {
		t->cold[t->ncold - 1].code = code;
		t->cold[t->ncold - 1].arg = arg;
	}
}

/* Where the slow paths of this instruction come back to: here. */
void
t_slow_back(struct tr *t)
{
	for (unsigned c = t->ncold; c-- > 0 && t->cold[c].i == t->i;)
		if (t->cold[c].kind == COLD_SLOW || t->cold[c].kind == COLD_CODE) {
			t->cold[c].back = t->x.p;
			t->cold[c].v_back = t->v;
		}
}

void
t_leave_if_changed(struct tr *t)
{
	struct x86 *x = &t->x;
	uint8_t *same;

	if (!t->pe->cfg.jit_strict)
		return;
	x_cmp8_mem_imm(x, PE_MEM(code_changed), 0);
	same = x_jcc(x, CC_E);
	t_count(t);
	t_pc(t, RAX, t_off(t) + 4);
	x_patch(x, x_jmp(x), t->j->leave_pc);
	x_here(x, same);
}

void
t_handler(struct tr *t, const struct insn *in)
{
	struct x86 *x = &t->x;

	t_settle(t);
	t_insn(t, t->i);
	x_call(x, jit_uses_fpsr(in->op) ? t->j->call_fp : t->j->call);
	t_cold(t, COLD_LEAVE, x_jcc(x, CC_NE), 0);
	t_leave_if_changed(t);
	v_forget(t);
}

void
t_insn(struct tr *t, unsigned i)
{
	x_lea_at(&t->x, RAX, &t->page->insn[i]);
}

void
t_count(struct tr *t)
{
	x_alu_imm(&t->x, false, X_SUB, R13, (int32_t)(t->i - t->start + 1));
}

void
t_pc(struct tr *t, int d, int64_t off)
{
	struct x86 *x = &t->x;

	x_load(x, true, d, PE_MEM(pc_page));
	if (off == (int32_t)off) {
		if (off != 0)
			x_lea(x, true, d, x_mem(d, (int32_t)off));
		return;
	}
	x_const(x, RCX, (uint64_t)off);
	x_lea(x, true, d, x_memx(d, RCX, 0, 0));
}

void
t_dispatch(struct tr *t)
{
	struct x86 *x = &t->x;
	int32_t fetch = (int32_t)offsetof(struct tlb, fetch);

	t_count(t);
	x_patch(x, x_jcc(x, CC_LE), t->j->leave_pc);
	x_rorx(x, false, RCX, RAX, 8);
	x_alu_imm(x, false, X_AND, RCX, (FETCH_SIZE - 1) << 4);
	x_mov(x, true, RDX, RAX);
	x_alu_imm(x, true, X_AND, RDX, ~0xffc);
	x_alu_mem(x, true, X_CMP, RDX, x_memx(R14, RCX, 0, fetch));
	x_patch(x, x_jcc(x, CC_NE), t->j->leave_pc);
	x_store(x, true, PE_MEM(pc_page), RDX);
	x_load(x, true, RCX, x_memx(R14, RCX, 0, fetch + 8));
	x_alu_imm(x, false, X_AND, RAX, 0xffc);
	x_jmp_mem(x, x_memx(RCX, RAX, 1, JIT_ENTRIES));
}

/* To the translation at this offset of the page; one that is not there wants it in EAX. */
static void
jump_entry(struct tr *t, uint32_t off)
{
	x_const(&t->x, RAX, off);
	x_jmp_at(&t->x, (const char *)t->page + JIT_ENTRIES + off * 2);
}

void
t_goto(struct tr *t, int32_t off)
{
	struct x86 *x = &t->x;

	if (off < 0 || off > 0xffc) {
		t_pc(t, RAX, off);
		t_dispatch(t);
		return;
	}
	if (off <= t_off(t)) {
		/* Backwards: here is a poll due when the slice is used up. */
		t_count(t);
		if ((uint32_t)off == t->start * 4)
			x_patch(x, x_jcc(x, CC_G), t->entry);
		else {
			uint8_t *go = x_jcc(x, CC_G);

			t_pc(t, RAX, off);
			x_patch(x, x_jmp(x), t->j->leave_pc);
			x_here(x, go);
			jump_entry(t, (uint32_t)off);
			return;
		}
		t_pc(t, RAX, off);
		x_patch(x, x_jmp(x), t->j->leave_pc);
		return;
	}
	t_count(t);
	if (t->pe->cfg.jit_forced) {
		t_pc(t, RAX, off);
		x_patch(x, x_jmp(x), t->j->leave_pc);
		return;
	}
	jump_entry(t, (uint32_t)off);
}
