/*
 * Lowering of arithmetic and logic: add, subtract, and, or, exclusive or in
 * their immediate, shifted and extended forms, and the conditional ones.
 */
#include "pe/jit/lower.h"

/* Second operand: a constant, a host register, or a guest register. */
struct src {
	enum { S_IMM, S_HOST, S_GUEST } kind;
	int32_t imm;
	int host;
	unsigned guest;
};

static struct src
s_imm(int32_t v)
{
	return ((struct src){ .kind = S_IMM, .imm = v });
}

static struct src
s_host(int r)
{
	return ((struct src){ .kind = S_HOST, .host = r });
}

static struct src
s_guest(unsigned r)
{
	if (r == REG_ZR)
		return (s_imm(0));
	if (jit_map[r] >= 0)
		return (s_host(jit_map[r]));
	return ((struct src){ .kind = S_GUEST, .guest = r });
}

static void
op2(struct tr *t, bool w, unsigned op, int d, struct src s)
{
	if (s.kind == S_IMM)
		x_alu_imm(&t->x, w, op, d, s.imm);
	else if (s.kind == S_HOST)
		x_alu(&t->x, w, op, d, s.host);
	else
		x_alu_mem(&t->x, w, op, d, g_mem(s.guest));
}

/* rd = rn op s */
static void
alu(struct tr *t, bool w, unsigned op, unsigned rd, unsigned rn, struct src s)
{
	int d = g_dest(rd, RAX), n = rn == REG_ZR ? -1 : jit_map[rn];

	/* The other way round: no move at all. */
	if (s.kind == S_HOST && s.host == d && n >= 0 && n != d && op != X_SUB)
		s.host = n;
	else {
		/* d would be overwritten before it is read. */
		if (s.kind == S_HOST && s.host == d && n != d)
			d = RAX;
		if (n != d)
			g_load(t, w, d, rn);
	}
	/* A 32-bit operation on a register with itself still zero-extends. */
	op2(t, w, op, d, s);
	g_commit(t, rd, d);
}

/* Compare only: the result goes nowhere. */
static void
compare(struct tr *t, bool w, unsigned op, unsigned rn, struct src s)
{
	struct x86 *x = &t->x;
	int a;

	if (op == X_SUB) {
		a = g_read(t, w, rn, RAX);
		op2(t, w, X_CMP, a, s);
		return;
	}
	if (op == X_AND && s.kind == S_HOST) {
		a = g_read(t, w, rn, RAX);
		x_test(x, w, a, s.host);
		return;
	}
	g_load(t, w, RAX, rn);
	op2(t, w, op, RAX, s);
}

static void
alu_flags(struct tr *t, bool w, unsigned op, unsigned rd, unsigned rn, struct src s)
{
	/* CMN with a constant has the flags of CMP with its negative, but for 0. */
	if (rd == REG_SINK && op == X_ADD && s.kind == S_IMM && s.imm != 0) {
		op = X_SUB;
		s.imm = -s.imm;
	}
	if (rd == REG_SINK)
		compare(t, w, op, rn, s);
	else
		alu(t, w, op, rd, rn, s);
	t_flags(t, op == X_SUB ? HF_SUB : HF_ADD);
}

/* -- immediates ---------------------------------------------------------------------- */

static void
add_const(struct tr *t, const struct insn *in, int32_t v)
{
	struct x86 *x = &t->x;
	bool w = is_x(in);
	int n = jit_map[in->rn], d = g_dest(in->rd, RAX);

	if (n >= 0) {
		if (v == 0 && w)
			x_mov(x, w, d, n);
		else if (n == d)
			x_alu_imm(x, w, X_ADD, d, v);
		else if ((jit_host & HOST_FOLDS) != 0 && w && v >= -1024 && v < 1024) {
			x_mov(x, true, d, n);
			x_alu_imm(x, true, X_ADD, d, v);
		} else
			x_lea(x, w, d, x_mem(n, v));
		g_commit(t, in->rd, d);
		return;
	}
	if (in->rn == in->rd && w) {
		x_alu_mem_imm(x, true, X_ADD, g_mem(in->rd), v);
		return;
	}
	alu(t, w, X_ADD, in->rd, in->rn, s_imm(v));
}

LOWER(add_imm)
{
	add_const(t, in, in->imm);
}

LOWER(sub_imm)
{
	add_const(t, in, -in->imm);
}

LOWER(adds_imm)
{
	alu_flags(t, is_x(in), X_ADD, in->rd, in->rn, s_imm(in->imm));
}

LOWER(subs_imm)
{
	alu_flags(t, is_x(in), X_SUB, in->rd, in->rn, s_imm(in->imm));
}

static const uint8_t logic_op[4] = { X_AND, X_OR, X_XOR, X_AND };

/* The constant of a logical immediate as an operand; may use RCX. */
static struct src
logic_const(struct tr *t, const struct insn *in)
{
	uint64_t v = a64_bitmask((unsigned)in->imm);

	if (!is_x(in))
		return (s_imm((int32_t)(uint32_t)v));
	if ((uint64_t)(int64_t)(int32_t)v == v)
		return (s_imm((int32_t)v));
	x_const(&t->x, RCX, v);
	return (s_host(RCX));
}

LOWER(logic_imm)
{
	/* MOV (bitmask immediate). */
	if (in->rn == REG_ZR && FIELD(in->word, 29, 2) == 1) {
		int d = g_dest(in->rd, RAX);
		uint64_t v = a64_bitmask((unsigned)in->imm);

		x_const(&t->x, d, is_x(in) ? v : (uint32_t)v);
		g_commit(t, in->rd, d);
		return;
	}
	alu(t, is_x(in), logic_op[FIELD(in->word, 29, 2)], in->rd, in->rn, logic_const(t, in));
}

LOWER(ands_imm)
{
	alu_flags(t, is_x(in), X_AND, in->rd, in->rn, logic_const(t, in));
}

/* -- registers ------------------------------------------------------------------------ */

static const uint8_t shift_op[4] = { X_SHL, X_SHR, X_SAR, X_ROR };

/*
 * The second operand of the shifted and extended forms: the guest register
 * itself where it is used as it is, else computed in RCX.
 */
static struct src
operand2(struct tr *t, const struct insn *in, bool invert)
{
	static const uint8_t from[8] = { 1, 2, 4, 8, 1, 2, 4, 8 };
	struct x86 *x = &t->x;
	bool w = is_x(in);
	bool arith = FIELD(in->word, 24, 5) == 0x0b;

	if (arith && (in->word & (1u << 21)) != 0) { /* extended */
		unsigned option = (unsigned)FIELD(in->word, 13, 3);
		unsigned n = (unsigned)FIELD(in->word, 10, 3);
		int r;

		if (from[option] == 8 && n == 0)
			return (s_guest(in->rm));
		r = g_read(t, true, in->rm, RCX);
		if (option >= 4 && from[option] < 8)
			x_sext(x, w, RCX, r, from[option]);
		else if (from[option] < 8)
			x_zext(x, RCX, r, from[option]);
		else if (r != RCX)
			x_mov(x, true, RCX, r);
		x_shift(x, w, X_SHL, RCX, n);
		return (s_host(RCX));
	}
	if (FIELD(in->word, 10, 6) == 0 && !invert)
		return (s_guest(in->rm));
	g_shift(
	    t, w, shift_op[FIELD(in->word, 22, 2)], RCX, in->rm, (unsigned)FIELD(in->word, 10, 6));
	if (invert)
		x_not(x, w, RCX);
	return (s_host(RCX));
}

LOWER(arith)
{
	struct x86 *x = &t->x;
	bool w = is_x(in), sub = (in->word & (1u << 30)) != 0;
	bool shifted = (in->word & (1u << 21)) == 0 && FIELD(in->word, 22, 2) == 0;
	unsigned lsl = shifted ? (unsigned)FIELD(in->word, 10, 6) : 0;
	struct src s;

	/* ADD with LSL #1 to #3 is an address. */
	if (!sub && lsl >= 1 && lsl <= 3 && in->rn != REG_ZR && in->rm != REG_ZR) {
		int n = g_read(t, true, in->rn, RAX), m = g_read(t, true, in->rm, RCX);
		int d = g_dest(in->rd, RAX);

		x_lea(x, w, d, x_memx(n, m, (int)lsl, 0));
		g_commit(t, in->rd, d);
		return;
	}
	s = operand2(t, in, false);
	if (!sub && s.kind == S_HOST && jit_map[in->rn] >= 0 && in->rn != REG_ZR) {
		int d = g_dest(in->rd, RAX);

		if (d != jit_map[in->rn] && d != s.host) {
			/* R13 and RBP as a base need a displacement: the encoder knows. */
			x_lea(x, w, d, x_memx(jit_map[in->rn], s.host, 0, 0));
			g_commit(t, in->rd, d);
			return;
		}
	}
	alu(t, w, sub ? X_SUB : X_ADD, in->rd, in->rn, s);
}

LOWER(arith_flags)
{
	bool sub = (in->word & (1u << 30)) != 0;

	alu_flags(t, is_x(in), sub ? X_SUB : X_ADD, in->rd, in->rn, operand2(t, in, false));
}

LOWER(logic)
{
	struct x86 *x = &t->x;
	bool invert = (in->word & (1u << 21)) != 0;
	unsigned op = logic_op[FIELD(in->word, 29, 2)];
	struct src s;

	/* MOV (register). */
	if (in->rn == REG_ZR && op == X_OR && !invert && FIELD(in->word, 10, 6) == 0) {
		int d = g_dest(in->rd, RAX);

		if (in->rm != REG_ZR && jit_map[in->rm] == d && is_x(in))
			return;
		g_load(t, is_x(in), d, in->rm);
		g_commit(t, in->rd, d);
		return;
	}
	s = operand2(t, in, invert);
	(void)x;
	alu(t, is_x(in), op, in->rd, in->rn, s);
}

LOWER(ands)
{
	alu_flags(
	    t, is_x(in), X_AND, in->rd, in->rn, operand2(t, in, (in->word & (1u << 21)) != 0));
}

/* -- conditional ----------------------------------------------------------------------- */

LOWER(ccmp)
{
	struct x86 *x = &t->x;
	bool w = is_x(in), imm = (in->word & (1u << 11)) != 0;
	unsigned op = (in->word & (1u << 30)) != 0 ? X_SUB : X_ADD;
	unsigned cond = in->a;
	uint8_t *no = NULL, *done = NULL;

	if (cond < 14)
		no = x_jcc(x, t_cond(t, cond) ^ 1);
	compare(t, w, op, in->rn, imm ? s_imm(in->imm) : s_guest(in->rm));
	t_flags(t, op == X_SUB ? HF_SUB : HF_ADD);
	if (no != NULL) {
		done = x_jmp(x);
		x_here(x, no);
		x_const(x, RAX, jit_raw_nzcv(in->b));
		x_store(x, false, PE_MEM(nzcv), RAX);
		/* The flags in the form of the other way. */
		x_add_al(x, 0x7f);
		x_sahf(x);
		if (t->hf == HF_SUB)
			x_cmc(x);
		x_here(x, done);
	}
}

LOWER(csel)
{
	struct x86 *x = &t->x;
	bool w = is_x(in);
	unsigned kind = (unsigned)(FIELD(in->word, 30, 1) << 1 | FIELD(in->word, 10, 1));
	unsigned cond = in->a, cc;

	if (cond >= 14) { /* always the first */
		g_load(t, w, RAX, in->rn);
		g_commit(t, in->rd, RAX);
		t->hf = t->hf_before;
		return;
	}
	cc = t_cond(t, cond);
	/* Nothing below touches the host's flags. RDX = the else value. */
	g_load(t, w, RDX, in->rm);
	if (kind == 1)
		x_lea(x, w, RDX, x_mem(RDX, 1));
	else if (kind == 2)
		x_not(x, w, RDX);
	else if (kind == 3) {
		x_not(x, w, RDX);
		x_lea(x, w, RDX, x_mem(RDX, 1));
	}
	/* CSET and its like: rn is zero. */
	g_load(t, w, RAX, in->rn);
	x_cmov(x, w, cc, RDX, RAX);
	g_commit(t, in->rd, RDX);
	t->hf = t_cond_hf(t, cond);
}
