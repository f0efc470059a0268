/*
 * Lowering of load-acquire, store-release, exclusives and atomics: the same
 * choices as exec_atomic.c, on LOCK forms. An address that is not aligned, and
 * pairs, are left to the handlers.
 */
#include "pe/jit/lower.h"

static unsigned
size_of(const struct insn *in)
{
	return ((unsigned)FIELD(in->word, 30, 2));
}

/* Memory operand of [rn]. */
static struct x86_mem
operand(struct tr *t, const struct insn *in, bool write)
{
	struct x86 *x = &t->x;
	unsigned size = size_of(in);
	int a;

	a = g_address(t, in, 0);
	if (size > 0) {
		x_test_imm8(x, a, (1u << size) - 1);
		t_slow(t, CC_NE);
	}
	return (g_translate(t, a, 1u, write, COLD_SLOW));
}

/* LDAR, LDAPR */
LOWER(ldar)
{
	struct x86_mem m = operand(t, in, false);
	int d = g_dest(in->rd, RCX);

	x_zload(&t->x, d, m, 1u << size_of(in));
	g_commit(t, in->rd, d);
}

static void
store_sized(struct x86 *x, unsigned size, struct x86_mem m, int s)
{
	if (size == 0)
		x_store8(x, m, s);
	else if (size == 1)
		x_store16(x, m, s);
	else
		x_store(x, size == 3, m, s);
}

/*
 * STLR: the store, and no later LDAR before it. That is about other observers
 * that use acquire and release; alone there are none.
 */
LOWER(stlr)
{
	struct x86_mem m = operand(t, in, true);
	int s = g_read(t, true, in->rd, RCX);

	store_sized(&t->x, size_of(in), m, s);
	if (!t->pe->alone)
		x_fence(&t->x);
}

LOWER(ldxr)
{
	struct x86 *x = &t->x;
	struct x86_mem m = operand(t, in, false);

	x_zload(x, RCX, m, 1u << size_of(in));
	x_lea(x, true, RDX, m);
	x_store(x, true, PE_MEM(excl_val), RCX);
	x_store(x, true, PE_MEM(excl_host), RDX);
	x_store_imm(x, false, PE_MEM(excl_size), 1 << size_of(in));
	g_commit(t, in->rd, RCX);
}

LOWER(stxr)
{
	struct x86 *x = &t->x;
	unsigned size = size_of(in);
	struct x86_mem m = operand(t, in, true);
	uint8_t *no1, *no2;
	int s;

	x_lea(x, true, RDX, m);
	x_alu_mem(x, true, X_CMP, RDX, PE_MEM(excl_host));
	no1 = x_jcc(x, CC_NE);
	x_alu_mem_imm(x, false, X_CMP, PE_MEM(excl_size), 1 << size);
	no2 = x_jcc(x, CC_NE);
	x_load(x, true, RAX, PE_MEM(excl_val));
	s = g_read(t, true, in->rd, RCX);
	x_cmpxchg(x, !t->pe->alone, size, x_mem(RDX, 0), s);
	/* ZF: equal was stored; it is clear on the way round. */
	x_here(x, no1);
	x_here(x, no2);
	x_const(x, RCX, 0);
	x_setcc(x, CC_NE, RCX);
	x_store_imm(x, false, PE_MEM(excl_size), 0);
	g_commit(t, in->rm, RCX);
}

/* CAS: Rs is compared and gets the old value. */
LOWER(cas)
{
	struct x86 *x = &t->x;
	unsigned size = size_of(in);
	struct x86_mem m = operand(t, in, true);
	int s;

	x_lea(x, true, RDX, m);
	g_load(t, true, RAX, in->rm);
	s = g_read(t, true, in->rd, RCX);
	x_cmpxchg(x, !t->pe->alone, size, x_mem(RDX, 0), s);
	if (in->rm == REG_ZR)
		return;
	/* RAX is the old value in both cases, but its upper part may be ours. */
	if (size < 3)
		x_zext(x, RAX, RAX, 1u << size);
	g_commit(t, in->rm, RAX);
}

/* CASP of X: CMPXCHG16B wants RBX, and another register for the address. */
LOWER(casp)
{
	struct x86 *x = &t->x;
	struct x86_mem rbx = x_mem(RSP, -8), rsi = x_mem(RSP, -16), low = x_mem(RSP, -24);

	int a = g_address(t, in, 0);

	x_test_imm8(x, a, 15);
	t_slow(t, CC_NE);
	x_lea(x, true, RCX, g_translate(t, a, 1, true, COLD_SLOW));
	x_store(x, true, rbx, RBX);
	x_store(x, true, rsi, RSI);
	g_load(t, true, RAX, in->rd);
	x_store(x, true, low, RAX);
	g_load(t, true, RAX, in->rm);
	g_load(t, true, RDX, in->rm + 1u);
	x_store(x, true, x_mem(RSP, -32), RCX);
	g_load(t, true, RCX, in->rd + 1u);
	x_load(x, true, RBX, low);
	x_load(x, true, RSI, x_mem(RSP, -32));
	x_cmpxchg16(x, !t->pe->alone, x_mem(RSI, 0));
	x_load(x, true, RBX, rbx);
	x_load(x, true, RSI, rsi);
	g_commit(t, in->rm, RAX);
	g_commit(t, in->rm + 1u, RDX);
}

/* SWP and LDADD: one instruction. */
LOWER(swp)
{
	struct x86 *x = &t->x;
	unsigned size = size_of(in);
	struct x86_mem m = operand(t, in, true);

	x_lea(x, true, RDX, m);
	g_load(t, true, RCX, in->rm);
	if (t->pe->alone) { /* XCHG with memory always locks */
		x_zload(x, RAX, x_mem(RDX, 0), 1u << size);
		store_sized(x, size, x_mem(RDX, 0), RCX);
		g_commit(t, in->rd, RAX);
		return;
	}
	x_xchg(x, size, x_mem(RDX, 0), RCX);
	if (size < 3)
		x_zext(x, RCX, RCX, 1u << size);
	g_commit(t, in->rd, RCX);
}

LOWER(ldadd)
{
	struct x86 *x = &t->x;
	unsigned size = size_of(in);
	struct x86_mem m = operand(t, in, true);

	x_lea(x, true, RDX, m);
	g_load(t, true, RCX, in->rm);
	x_xadd(x, !t->pe->alone, size, x_mem(RDX, 0), RCX);
	if (size < 3)
		x_zext(x, RCX, RCX, 1u << size);
	g_commit(t, in->rd, RCX);
}

/* LDCLR, LDEOR, LDSET of W and X: a compare-exchange loop. */
LOWER(ldlogic)
{
	struct x86 *x = &t->x;
	unsigned size = size_of(in), opc = (unsigned)FIELD(in->word, 12, 3);
	bool w = size == 3;
	struct x86_mem m = operand(t, in, true);
	uint8_t *again;
	int s;

	x_lea(x, true, RDX, m);
	x_load(x, w, RAX, x_mem(RDX, 0));
	again = x->p;
	if (opc == 1) { /* LDCLR */
		g_load(t, w, RCX, in->rm);
		x_andn(x, w, RCX, RCX, RAX);
	} else {
		x_mov(x, w, RCX, RAX);
		s = jit_map[in->rm];
		if (in->rm == REG_ZR)
			;
		else if (s >= 0)
			x_alu(x, w, opc == 2 ? X_XOR : X_OR, RCX, s);
		else
			x_alu_mem(x, w, opc == 2 ? X_XOR : X_OR, RCX, g_mem(in->rm));
	}
	x_cmpxchg(x, !t->pe->alone, size, x_mem(RDX, 0), RCX);
	x_patch(x, x_jcc(x, CC_NE), again);
	g_commit(t, in->rd, RAX);
}
