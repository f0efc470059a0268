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

/* -- flags ------------------------------------------------------------------------- */

/*
 * Will anybody see NZCV as it is now? No, when it is written again before an
 * instruction that reads it, or that could fault or leave.
 */
static bool
flags_wanted(const struct tr *t)
{
	unsigned end = t->start + JIT_BLOCK_MAX;

	if (end > CODEPAGE_INSNS)
		end = CODEPAGE_INSNS;
	for (unsigned i = t->i + 1; i < end; i++) {
		unsigned attr = jit_lowering[t->page->insn[i].op].attr;

		if ((attr & A_READF) != 0 || (attr & A_PURE) == 0)
			return (true);
		if ((attr & A_SETF) != 0)
			return (false);
	}
	return (true);
}

/* Does it test C, alone or with Z? */
static bool
tests_carry(const struct insn *in)
{
	return (in != NULL && (jit_lowering[in->op].attr & A_READF) != 0 &&
		(in->a == 2 || in->a == 3 || in->a == 8 || in->a == 9));
}

void
t_flags(struct tr *t, enum hf hf)
{
	struct x86 *x = &t->x;

	t->hf = hf;
	if (!flags_wanted(t))
		return;
	if (hf >= HF_FP) {
		/* Carry and zero, packed, index the NZCV of greater, less, equal, unordered. */
		const uint64_t less = jit_raw_nzcv(8), greater = jit_raw_nzcv(2);
		const uint8_t *nzcv =
		    v_const(t, hf == HF_FP ? less << 32 | greater : greater << 32 | less,
			(uint64_t)jit_raw_nzcv(3) << 32 | jit_raw_nzcv(6));

		x_lahf(x);
		x_const(x, RCX, 0x4100);
		x_pext(x, false, RAX, RAX, RCX);
		x_lea_rip(x, RCX, nzcv);
		x_load(x, false, RCX, x_memx(RCX, RAX, 2, 0));
		x_store(x, false, PE_MEM(nzcv), RCX);
		return;
	}
	/*
	 * LAHF gives SF ZF - - - - - CF in AH, SETO the overflow in AL. After a
	 * subtraction C is the inverse of the host's carry; it stays so unless
	 * the next instruction wants to test it.
	 */
	if (hf == HF_SUB)
		x_cmc(x);
	x_lahf(x);
	x_setcc(x, CC_O, RAX);
	x_store(x, false, PE_MEM(nzcv), RAX);
	if (hf == HF_SUB) {
		if (tests_carry(t_next(t)))
			x_cmc(x);
		else
			t->hf = HF_ADD;
	}
}

/*
 * Host conditions after UCOMIS (CF: less or unordered, ZF: equal or unordered,
 * PF: unordered) of the operands in order, and swapped. 255: not one of them.
 */
static const uint8_t after_fp[2][16] = {
	{ 255, 255, 255, 255, 255, 255, CC_P, CC_NP, 255, 255, CC_AE, CC_B, CC_A, CC_BE, 255, 255 },
	{ 255, 255, CC_BE, CC_A, CC_A, CC_BE, CC_P, CC_NP, CC_B, CC_AE, 255, 255, 255, 255, 255,
	    255 },
};

enum hf
t_cond_hf(const struct tr *t, unsigned cond)
{
	switch (t->hf_before) {
	case HF_ADD:
		return (cond == 8 || cond == 9 ? HF_NONE : HF_ADD);
	case HF_FP:
	case HF_FP_SWAPPED:
		return (
		    after_fp[t->hf_before == HF_FP_SWAPPED][cond] == 255 ? HF_NONE : t->hf_before);
	default:
		return (t->hf_before);
	}
}

unsigned
t_cond(struct tr *t, unsigned cond)
{
	static const uint8_t after_sub[16] = { CC_E, CC_NE, CC_AE, CC_B, CC_S, CC_NS, CC_O, CC_NO,
		CC_A, CC_BE, CC_GE, CC_L, CC_G, CC_LE, CC_O, CC_O };
	static const uint8_t after_add[16] = { CC_E, CC_NE, CC_B, CC_AE, CC_S, CC_NS, CC_O, CC_NO,
		CC_O, CC_O, CC_GE, CC_L, CC_G, CC_LE, CC_O, CC_O };
	struct x86 *x = &t->x;

	if (t->hf_before == HF_SUB && cond < 14)
		return (after_sub[cond]);
	if (t->hf_before == HF_ADD && cond < 14 && cond != 8 && cond != 9)
		return (after_add[cond]);
	if (t->hf_before >= HF_FP && cond < 14) {
		unsigned cc = after_fp[t->hf_before == HF_FP_SWAPPED][cond];

		if (cc != 255)
			return (cc);
		if (cond < 2) { /* equal: ZF and not PF */
			x_setcc(x, CC_E, RAX);
			x_setcc(x, CC_NP, RCX);
			x_rr(x, false, 0x84, RAX, RCX); /* test al, cl */
			return (cond == 0 ? CC_NE : CC_E);
		}
	}
	/* Bit NZCV of the condition's truth table. */
	x_load(x, false, RCX, PE_MEM(nzcv));
	x_const(x, RAX, RAW_NZCV);
	x_pext(x, false, RCX, RCX, RAX);
	x_const(x, RAX, a64_cond[cond]);
	x_bt(x, RAX, RCX);
	return (CC_B);
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
		.fp_ok = t->fp_ok,
		.fp_plain = t->fp_plain,
		.from = from,
		.kind = kind,
		.i = t->i,
		.target = target };
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
t_handler(struct tr *t, const struct insn *in)
{
	struct x86 *x = &t->x;

	v_flush(t);
	t_insn(t, t->i);
	x_call(x, jit_uses_fpsr(in->op) ? t->j->call_fp : t->j->call);
	t_cold(t, COLD_LEAVE, x_jcc(x, CC_NE), 0);
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
	jump_entry(t, (uint32_t)off);
}
