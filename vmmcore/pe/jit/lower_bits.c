/*
 * Lowering of constants, bit fields, shifts, multiplication, division and
 * what has no operands.
 */
#include "pe/jit/lower.h"

static void
set_const(struct tr *t, const struct insn *in, uint64_t v)
{
	int d = g_dest(in->rd, RAX);

	if (!is_x(in))
		v = (uint32_t)v;
	if (in->rd == REG_SINK)
		return;
	if (d == RAX && (uint64_t)(int64_t)(int32_t)v == v)
		x_store_imm(&t->x, true, g_mem(in->rd), (int32_t)v);
	else {
		x_const(&t->x, d, v);
		g_commit(t, in->rd, d);
	}
	t->known = in->rd;
	t->known_at = t->i;
	t->known_value = v;
}

LOWER(movz)
{
	set_const(t, in, (uint64_t)(uint32_t)in->imm << (16 * in->a));
}

LOWER(movn)
{
	set_const(t, in, ~((uint64_t)(uint32_t)in->imm << (16 * in->a)));
}

LOWER(movk)
{
	struct x86 *x = &t->x;
	uint64_t part = (uint64_t)(uint32_t)in->imm << (16 * in->a);
	uint64_t mask = UINT64_C(0xffff) << (16 * in->a);
	int d;

	if (in->rd == REG_ZR)
		return;
	/* MOVZ and its MOVKs in a row are one constant. */
	if (t->known == in->rd && t->known_at + 1 == t->i) {
		set_const(t, in, (t->known_value & ~mask) | part);
		return;
	}
	d = g_dest(in->rd, RAX);
	if (d == RAX)
		x_load(x, true, RAX, g_mem(in->rd));
	if (!is_x(in))
		x_mov(x, false, d, d);
	x_const(x, RCX, ~mask);
	x_alu(x, true, X_AND, d, RCX);
	x_const(x, RCX, part);
	x_alu(x, true, X_OR, d, RCX);
	g_commit(t, in->rd, d);
}

LOWER(adr)
{
	int64_t off = in->imm;
	int d = g_dest(in->rd, RAX);

	if (is_x(in)) /* ADRP: the page of the instruction */
		off *= 4096;
	else
		off += t_off(t);
	t_pc(t, d, off);
	g_commit(t, in->rd, d);
}

/* -- bit fields: a = immr, b = imms -------------------------------------------------- */

LOWER(ubfx)
{
	struct x86 *x = &t->x;
	bool w = is_x(in);
	unsigned top = w ? 63 : 31, lsb = in->a, msb = in->b, width = msb - lsb + 1;
	int d = g_dest(in->rd, RAX);

	if (lsb == 0 && (width == 8 || width == 16 || width == 32)) {
		int r = g_read(t, true, in->rn, RAX);

		x_zext(x, d, r, width / 8);
		g_commit(t, in->rd, d);
		return;
	}
	if (msb == top)
		g_shift(t, w, X_SHR, d, in->rn, lsb);
	else if (width < 32) {
		g_shift(t, w, X_SHR, d, in->rn, lsb);
		x_alu_imm(x, false, X_AND, d, (int32_t)((1u << width) - 1));
	} else {
		g_shift(t, w, X_SHL, d, in->rn, top - msb);
		x_shift(x, w, X_SHR, d, top - msb + lsb);
	}
	g_commit(t, in->rd, d);
}

LOWER(sbfx)
{
	struct x86 *x = &t->x;
	bool w = is_x(in);
	unsigned top = w ? 63 : 31, lsb = in->a, msb = in->b, width = msb - lsb + 1;
	int d = g_dest(in->rd, RAX);

	if (lsb == 0 && (width == 8 || width == 16 || (width == 32 && w))) {
		int r = g_read(t, true, in->rn, RAX);

		x_sext(x, w, d, r, width / 8);
		g_commit(t, in->rd, d);
		return;
	}
	if (msb == top)
		g_shift(t, w, X_SAR, d, in->rn, lsb);
	else {
		g_shift(t, w, X_SHL, d, in->rn, top - msb);
		x_shift(x, w, X_SAR, d, top - msb + lsb);
	}
	g_commit(t, in->rd, d);
}

static void
insert_zeros(struct tr *t, const struct insn *in, unsigned right)
{
	struct x86 *x = &t->x;
	bool w = is_x(in);
	unsigned bits = w ? 64 : 32, width = in->b + 1u, lsb = bits - in->a;
	int d = g_dest(in->rd, RAX);

	g_shift(t, w, X_SHL, d, in->rn, bits - width);
	x_shift(x, w, right, d, bits - width - lsb);
	g_commit(t, in->rd, d);
}

LOWER(ubfiz)
{
	insert_zeros(t, in, X_SHR);
}

LOWER(sbfiz)
{
	insert_zeros(t, in, X_SAR);
}

/* BFI (imms < immr) and BFXIL. */
LOWER(bfi)
{
	struct x86 *x = &t->x;
	bool w = is_x(in);
	unsigned bits = w ? 64 : 32, width, to, from;
	uint64_t mask;
	int d;

	if (in->rd == REG_ZR)
		return;
	if (in->b >= in->a) {
		width = in->b - in->a + 1u;
		from = in->a;
		to = 0;
	} else {
		width = in->b + 1u;
		from = 0;
		to = bits - in->a;
	}
	mask = (width == 64 ? ~UINT64_C(0) : (UINT64_C(1) << width) - 1) << to;
	g_load(t, w, RAX, in->rn);
	x_shift(x, w, X_SHR, RAX, from);
	x_shift(x, w, X_SHL, RAX, to);
	x_const(x, RCX, mask);
	x_alu(x, w, X_AND, RAX, RCX);
	d = g_dest(in->rd, RDX);
	if (d == RDX)
		x_load(x, w, RDX, g_mem(in->rd));
	x_const(x, RCX, w ? ~mask : (uint32_t)~mask);
	x_alu(x, w, X_AND, d, RCX);
	x_alu(x, w, X_OR, d, RAX);
	g_commit(t, in->rd, d);
}

LOWER(extr)
{
	struct x86 *x = &t->x;
	bool w = is_x(in);
	int r;

	if (in->rn == in->rm)
		g_shift(t, w, X_ROR, RAX, in->rm, in->a);
	else
		g_load(t, w, RAX, in->rm);
	if (in->rn != in->rm && in->a != 0) {
		r = g_read(t, w, in->rn, RCX);
		x_shrd(x, w, RAX, r, in->a);
	}
	if (!w)
		x_mov(x, false, RAX, RAX);
	g_commit(t, in->rd, RAX);
}

/* LSLV, LSRV, ASRV, RORV: op2 field [11:10]. */
LOWER(shiftv)
{
	static const uint8_t op[3] = { X_SHL, X_SHR, X_SAR };
	struct x86 *x = &t->x;
	bool w = is_x(in);
	unsigned kind = (unsigned)FIELD(in->word, 10, 2);
	int d = g_dest(in->rd, RAX), n, s;

	if (kind == 3) {
		g_load(t, w, RAX, in->rn);
		g_load(t, w, RCX, in->rm);
		x_shift_cl(x, w, X_ROR, RAX);
		if (!w)
			x_mov(x, false, RAX, RAX);
		g_commit(t, in->rd, RAX);
		return;
	}
	s = g_read(t, w, in->rm, RCX);
	n = g_read(t, w, in->rn, RAX);
	x_shiftx(x, w, op[kind], d, n, s);
	g_commit(t, in->rd, d);
}

/* -- multiplication, division ------------------------------------------------------------ */

static void
add_or_sub(struct tr *t, const struct insn *in, bool w)
{
	struct x86 *x = &t->x;

	/* RAX = the product. */
	if ((in->word & (1u << 15)) != 0) {
		g_load(t, w, RDX, in->ra);
		x_alu(x, w, X_SUB, RDX, RAX);
		g_commit(t, in->rd, RDX);
		return;
	}
	if (in->ra != REG_ZR) {
		int a = g_read(t, w, in->ra, RDX);

		x_alu(x, w, X_ADD, RAX, a);
	}
	g_commit(t, in->rd, RAX);
}

LOWER(madd)
{
	bool w = is_x(in);
	int m;

	g_load(t, w, RAX, in->rn);
	m = g_read(t, w, in->rm, RCX);
	x_imul(&t->x, w, RAX, m);
	add_or_sub(t, in, w);
}

LOWER(maddl)
{
	struct x86 *x = &t->x;
	bool is_unsigned = (in->word & (1u << 23)) != 0;
	int n = g_read(t, true, in->rn, RAX), m;

	if (is_unsigned)
		x_mov(x, false, RAX, n);
	else
		x_sext(x, true, RAX, n, 4);
	m = g_read(t, true, in->rm, RCX);
	if (is_unsigned)
		x_mov(x, false, RCX, m);
	else
		x_sext(x, true, RCX, m, 4);
	x_imul(x, true, RAX, RCX);
	add_or_sub(t, in, true);
}

LOWER(mulh)
{
	int m;

	g_load(t, true, RAX, in->rn);
	m = g_read(t, true, in->rm, RCX);
	x_muldiv(&t->x, true, (in->word & (1u << 23)) != 0 ? 4 : 5, m);
	g_commit(t, in->rd, RDX);
}

/* UDIV and SDIV: by zero gives zero, the most negative by -1 itself. */
LOWER(udiv)
{
	struct x86 *x = &t->x;
	bool w = is_x(in), is_signed = (in->word & (1u << 10)) != 0;
	uint8_t *zero, *minus = NULL, *out, *out2 = NULL;

	g_load(t, w, RCX, in->rm);
	g_load(t, w, RAX, in->rn);
	x_test(x, w, RCX, RCX);
	zero = x_jcc(x, CC_E);
	if (is_signed) {
		x_alu_imm(x, w, X_CMP, RCX, -1);
		minus = x_jcc(x, CC_E);
		x_cqo(x, w);
		x_muldiv(x, w, 7, RCX);
	} else {
		x_const(x, RDX, 0);
		x_muldiv(x, w, 6, RCX);
	}
	out = x_jmp(x);
	x_here(x, zero);
	x_const(x, RAX, 0);
	if (minus != NULL) {
		out2 = x_jmp(x);
		x_here(x, minus);
		x_neg(x, w, RAX);
		x_here(x, out2);
	}
	x_here(x, out);
	g_commit(t, in->rd, RAX);
}

LOWER(clz)
{
	bool w = is_x(in);
	int d = g_dest(in->rd, RAX), n;

	/* Of RBIT: zeros from the other end. */
	n = g_read(t, w, t->joined ? in[-1].rn : in->rn, RAX);
	if (t->joined)
		x_tzcnt(&t->x, w, d, n);
	else
		x_lzcnt(&t->x, w, d, n);
	t->joined = false;
	g_commit(t, in->rd, d);
}

/* REV of the whole register. */
LOWER(rev)
{
	bool w = is_x(in);
	int d = g_dest(in->rd, RAX);

	g_load(t, w, d, in->rn);
	x_bswap(&t->x, w, d);
	g_commit(t, in->rd, d);
}

/* ADC and SBC, with and without flags. */
LOWER(adc)
{
	struct x86 *x = &t->x;
	bool w = is_x(in), sub = (in->word & (1u << 30)) != 0;
	int m;

	t_resolve(t);
	g_load(t, w, RAX, in->rn);
	m = g_read(t, w, in->rm, RDX);
	/* CF = C, or its inverse for the host's borrow. */
	x_bt_mem(x, PE_MEM(nzcv), 8);
	if (sub)
		x_cmc(x);
	x_alu(x, w, sub ? X_SBB : X_ADC, RAX, m);
	g_commit(t, in->rd, RAX);
	if ((in->word & (1u << 29)) != 0)
		t_flags(t, sub ? HF_SUB : HF_ADD);
}

/* REV16, and REV32 of an X register: swap inside of halves. */
LOWER(rev16)
{
	struct x86 *x = &t->x;
	bool w = is_x(in), halves = FIELD(in->word, 10, 2) == 1;

	g_load(t, w, RAX, in->rn);
	if (!halves) { /* REV32 */
		x_bswap(x, true, RAX);
		x_shift(x, true, X_ROR, RAX, 32);
	} else {
		uint64_t low = UINT64_C(0x00ff00ff00ff00ff);

		x_const(x, RCX, w ? low : (uint32_t)low);
		x_mov(x, w, RDX, RAX);
		x_shift(x, w, X_SHR, RDX, 8);
		x_alu(x, w, X_AND, RDX, RCX);
		x_alu(x, w, X_AND, RAX, RCX);
		x_shift(x, w, X_SHL, RAX, 8);
		x_alu(x, w, X_OR, RAX, RDX);
	}
	g_commit(t, in->rd, RAX);
}

/* Swap the bytes, then nibbles, pairs and bits inside of each. */
LOWER(rbit)
{
	static const uint64_t mask[3] = { UINT64_C(0x0f0f0f0f0f0f0f0f),
		UINT64_C(0x3333333333333333), UINT64_C(0x5555555555555555) };
	const struct insn *next = t_next(t);
	struct x86 *x = &t->x;
	bool w = is_x(in);
	int n;

	if (next != NULL && next->op == (w ? A64_CLZ_X : A64_CLZ_W) && next->rn == in->rd &&
	    next->rd == in->rd) {
		t->joined = true;
		return;
	}
	if ((jit_host & (HOST_GFNI | HOST_AVX2)) == (HOST_GFNI | HOST_AVX2)) {
		/* The bits of each byte by a matrix, then the bytes. */
		const uint8_t *matrix = v_const(t, UINT64_C(0x8040201008040201), 0);

		n = g_read(t, w, in->rn, RAX);
		x_v_from_g(x, w, 0, n);
		x_v3c(x, V_GF2P8AFFINEQB, 0, 0, matrix, 1);
		x_byte(x, 0);
		x_g_from_v(x, w, RAX, 0);
		x_bswap(x, w, RAX);
		g_commit(t, in->rd, RAX);
		return;
	}
	g_load(t, w, RAX, in->rn);
	x_bswap(x, w, RAX);
	for (unsigned i = 0; i < 3; i++) {
		x_const(x, RCX, w ? mask[i] : (uint32_t)mask[i]);
		x_mov(x, w, RDX, RAX);
		x_shift(x, w, X_SHR, RDX, 4u >> i);
		x_alu(x, w, X_AND, RDX, RCX);
		x_alu(x, w, X_AND, RAX, RCX);
		x_shift(x, w, X_SHL, RAX, 4u >> i);
		x_alu(x, w, X_OR, RAX, RDX);
	}
	g_commit(t, in->rd, RAX);
}

LOWER(nop)
{
	(void)in;
	t->hf = t->hf_before;
}

/* Only a full barrier means anything on a TSO host. */
LOWER(dmb)
{
	/* LD and ST forms are what x86 does anyway. */
	if ((in->a & 3) == 1 || (in->a & 3) == 2)
		return;
	if (!t->pe->alone || !t->j->devices_order)
		x_fence(&t->x);
}
