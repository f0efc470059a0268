/*
 * Lowering of Advanced SIMD moves: copies of elements (DUP, INS, SMOV, UMOV),
 * FMOV between register files, permutation (ZIP, UZP, TRN, EXT, REV), table
 * lookup and the modified immediates (DDI 0487, C4.1.96).
 */
#include "pe/jit/lower_simd.h"

/* -- elements --------------------------------------------------------------------- */

/* The size is the lowest set bit of imm5. */
static unsigned
copy_size(const struct insn *in)
{
	return ((unsigned)__builtin_ctz(in->word >> 16));
}

LOWER(v_dup_e)
{
	unsigned size = copy_size(in);
	int n, d;

	v_check(t);
	n = v_read(t, in->rn);
	d = v_write(t, in->rd);
	s_broadcast(t, d, n, size, in->a);
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
}

/* One element, zeros above. */
LOWER(v_dup_s)
{
	struct x86 *x = &t->x;
	unsigned size = copy_size(in);
	int n, d;

	v_check(t);
	n = v_read(t, in->rn);
	d = v_write(t, in->rd);
	switch (size) {
	case 3:
		if (in->a == 0)
			x_v2(x, V_MOVQ, d, n);
		else
			x_vshift(x, VS_PSRLDQ, d, n, 8);
		break;
	case 2:
		x_v3i(x, V_INSERTPS, d, n, n, (unsigned)in->a << 6 | 0x0e);
		break;
	default:
		x_pextr(x, size, RAX, n, in->a);
		x_v_from_g(x, false, d, RAX);
		break;
	}
}

LOWER(v_dup_g)
{
	static const unsigned op[4] = { V_PBROADCASTB, V_PBROADCASTW, V_PBROADCASTD,
		V_PBROADCASTQ };
	struct x86 *x = &t->x;
	unsigned size = copy_size(in);
	int n, d;

	v_check(t);
	d = v_write(t, in->rd);
	if (in->rn == REG_ZR) {
		x_vzero(x, d);
		return;
	}
	n = g_read(t, true, in->rn, RAX);
	x_v_from_g(x, size == 3, T0, n);
	x_v2(x, op[size], d, T0);
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
}

LOWER(v_umov)
{
	struct x86 *x = &t->x;
	unsigned size = copy_size(in);
	int n, d;

	v_check(t);
	n = v_read(t, in->rn);
	d = g_dest(in->rd, RAX);
	if (in->a == 0 && size >= 2)
		x_g_from_v(x, size == 3, d, n);
	else
		x_pextr(x, size, d, n, in->a);
	g_commit(t, in->rd, d);
}

LOWER(v_smov)
{
	struct x86 *x = &t->x;
	unsigned size = copy_size(in);
	int n, d;

	v_check(t);
	n = v_read(t, in->rn);
	d = g_dest(in->rd, RAX);
	x_pextr(x, size, RAX, n, in->a);
	x_sext(x, V_Q(in) != 0, d, RAX, 1u << size);
	g_commit(t, in->rd, d);
}

LOWER(v_ins_g)
{
	int n, d;

	v_check(t);
	d = v_modify(t, in->rd);
	n = g_read(t, true, in->rn, RAX);
	x_pinsr(&t->x, copy_size(in), d, d, n, in->a);
}

LOWER(v_ins_e)
{
	struct x86 *x = &t->x;
	unsigned size = copy_size(in), i = in->a, j = in->b;
	int n, d;

	v_check(t);
	n = v_read(t, in->rn);
	d = v_modify(t, in->rd);
	switch (size) {
	case 3:
		if (i == 0)
			x_v3i(x, V_SHUFPD, d, n, d, j | 2);
		else
			x_v3i(x, V_SHUFPD, d, d, n, j << 1);
		break;
	case 2:
		x_v3i(x, V_INSERTPS, d, d, n, j << 6 | i << 4);
		break;
	default:
		x_pextr(x, size, RAX, n, j);
		x_pinsr(x, size, d, d, RAX, i);
		break;
	}
}

/* -- FMOV ----------------------------------------------------------------------------- */

/* Between a general register and S, D, or the high half: opcode<0> is the direction. */
LOWER(v_fmov_g)
{
	struct x86 *x = &t->x;
	bool to_v = (in->word >> 16 & 1) != 0, high = (in->word >> 19 & 1) != 0, w = is_x(in);
	int r, v;

	v_check(t);
	if (to_v) {
		r = g_read(t, w, in->rn, RAX);
		if (high) {
			v = v_modify(t, in->rd);
			x_pinsr(x, 3, v, v, r, 1);
		} else
			x_v_from_g(x, w, v_write(t, in->rd), r);
		return;
	}
	v = v_read(t, in->rn);
	r = g_dest(in->rd, RAX);
	if (high)
		x_pextr(x, 3, r, v, 1);
	else
		x_g_from_v(x, w, r, v);
	g_commit(t, in->rd, r);
}

/* Register to register: ftype<0> is the size. */
LOWER(v_fmov)
{
	v_check(t);
	s_put(t, in, v_read(t, in->rn), (in->word >> 22 & 1) != 0 ? 8 : 4);
}

/* VFPExpandImm: sign, exponent NOT(b):b...b:cd, fraction efgh. */
static uint64_t
expand_fp(uint64_t v, unsigned exp_bits, unsigned frac_bits)
{
	uint64_t b = v >> 6 & 1, exp = (b ^ 1) << (exp_bits - 1) | (v >> 4 & 3);

	if (b != 0)
		exp |= ((UINT64_C(1) << (exp_bits - 3)) - 1) << 2;
	return (
	    (v >> 7) << (exp_bits + frac_bits) | exp << frac_bits | (v & 15) << (frac_bits - 4));
}

/* Rd = a constant. */
static void
put_const(struct tr *t, const struct insn *in, uint64_t lo, uint64_t hi)
{
	int d;

	v_check(t);
	d = v_write(t, in->rd);
	if (lo == 0 && hi == 0)
		x_vzero(&t->x, d);
	else if (~lo == 0 && ~hi == 0)
		x_vones(&t->x, d);
	else
		x_v2c(&t->x, V_MOVDQU, d, v_const(t, lo, hi));
}

LOWER(v_fmov_imm8)
{
	put_const(t, in,
	    (in->word >> 22 & 1) != 0 ? expand_fp(in->a, 11, 52) : expand_fp(in->a, 8, 23), 0);
}

/* -- modified immediate (AdvSIMDExpandImm) --------------------------------------------- */

static uint64_t
expand(const struct insn *in)
{
	uint64_t v = FIELD(in->word, 16, 3) << 5 | FIELD(in->word, 5, 5), r = 0;
	unsigned cmode = (unsigned)FIELD(in->word, 12, 4), op = (unsigned)FIELD(in->word, 29, 1);

	if (cmode < 8)
		return ((v << (cmode >> 1) * 8) * 0x0000000100000001);
	if (cmode < 12)
		return ((v << (cmode >> 1 & 1) * 8) * 0x0001000100010001);
	if (cmode < 14) {
		unsigned n = 8u << (cmode & 1);

		return ((v << n | ((UINT64_C(1) << n) - 1)) * 0x0000000100000001);
	}
	if (cmode == 14 && op == 0)
		return (v * 0x0101010101010101);
	if (cmode == 14) {
		for (unsigned i = 0; i < 8; i++)
			r |= (v >> i & 1) * (UINT64_C(0xff) << (8 * i));
		return (r);
	}
	return (op != 0 ? expand_fp(v, 11, 52) : expand_fp(v, 8, 23) * 0x0000000100000001);
}

/* MOVI, MVNI (op = 1, except for 64 bits), FMOV of S and D lanes. */
LOWER(v_movi)
{
	uint64_t v = expand(in);

	if (FIELD(in->word, 29, 1) != 0 && FIELD(in->word, 12, 4) < 14)
		v = ~v;
	put_const(t, in, v, V_Q(in) != 0 ? v : 0);
}

/* ORR and BIC. */
LOWER(v_orr_imm)
{
	bool bic = FIELD(in->word, 29, 1) != 0;
	uint64_t v = expand(in);
	int d;

	if (bic)
		v = ~v;
	v_check(t);
	d = v_modify(t, in->rd);
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
	x_v3c(&t->x, bic ? V_PAND : V_POR, d, d, v_const(t, v, V_Q(in) != 0 ? v : 0), 0);
}

/* -- permutation --------------------------------------------------------------------------- */

LOWER(v_zip)
{
	static vops low = { V_PUNPCKLBW, V_PUNPCKLWD, V_PUNPCKLDQ, V_PUNPCKLQDQ };
	static vops high = { V_PUNPCKHBW, V_PUNPCKHWD, V_PUNPCKHDQ, V_PUNPCKHQDQ };
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in), part = (unsigned)FIELD(in->word, 14, 1);
	int a, b, d;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	d = v_write(t, in->rd);
	if (V_Q(in) != 0)
		x_v3(x, part != 0 ? high[size] : low[size], d, a, b);
	else {
		/* Of D registers all lanes fit in one. */
		x_v3(x, low[size], d, a, b);
		if (part != 0)
			x_vshift(x, VS_PSRLDQ, d, d, 8);
		else
			s_trim(t, d, d, 8);
	}
}

LOWER(v_uzp)
{
	unsigned size = V_SIZE(in), part = (unsigned)FIELD(in->word, 14, 1);
	int a, b;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	if (V_Q(in) == 0) {
		x_v3(&t->x, V_PUNPCKLQDQ, T2, a, b);
		a = b = T2;
	}
	s_uzp(t, T0, a, b, size, part);
	s_put(t, in, T0, 8u << V_Q(in));
}

LOWER(v_trn)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in), part = (unsigned)FIELD(in->word, 14, 1);
	int a, b;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	switch (size) {
	case 3:
		x_v3(x, part != 0 ? V_PUNPCKHQDQ : V_PUNPCKLQDQ, T0, a, b);
		break;
	case 2:
		x_v3i(x, V_SHUFPS, T0, a, b, part != 0 ? 0xdd : 0x88);
		x_v2i(x, V_PSHUFD, T0, T0, 0xd8);
		/* D registers: lane 0 or 1 of each. */
		if (V_Q(in) == 0) {
			x_v3(x, V_PUNPCKLDQ, T0, a, b);
			if (part != 0)
				x_vshift(x, VS_PSRLDQ, T0, T0, 8);
		}
		break;
	case 1:
		if (part != 0) {
			x_vshift(x, VS_PSRLD, T0, a, 16);
			x_v3i(x, V_PBLENDW, T0, T0, b, 0xaa);
		} else {
			x_vshift(x, VS_PSLLD, T0, b, 16);
			x_v3i(x, V_PBLENDW, T0, a, T0, 0xaa);
		}
		break;
	default:
		if (part != 0) {
			x_vshift(x, VS_PSRLW, T0, a, 8);
			x_v3c(x, V_PAND, T1, b, v_lanes_const(t, 0xff00, 1), 0);
		} else {
			x_vshift(x, VS_PSLLW, T0, b, 8);
			x_v3c(x, V_PAND, T1, a, v_lanes_const(t, 0x00ff, 1), 0);
		}
		x_v3(x, V_POR, T0, T0, T1);
		break;
	}
	s_put(t, in, T0, 8u << V_Q(in));
}

LOWER(v_ext)
{
	struct x86 *x = &t->x;
	int a, b, d;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	d = v_write(t, in->rd);
	if (V_Q(in) != 0) {
		x_v3i(x, V_PALIGNR, d, b, a, in->a);
		return;
	}
	x_v3(x, V_PUNPCKLQDQ, d, a, b);
	if (in->a != 0)
		x_vshift(x, VS_PSRLDQ, d, d, in->a);
	s_trim(t, d, d, 8);
}

/* Bytes of a register in another order: REV16, REV32, REV64 of lanes of `size`. */
static void
reverse(struct tr *t, const struct insn *in, unsigned group, unsigned size)
{
	uint64_t mask[2] = { 0, 0 };
	int n, d;

	for (unsigned i = 0; i < 16; i++) {
		uint64_t from = i ^ ((1u << group) - 1) ^ ((1u << size) - 1);

		mask[i / 8] |= from << (i % 8 * 8);
	}
	v_check(t);
	n = v_read(t, in->rn);
	d = v_write(t, in->rd);
	if (group == 3 && size == 2)
		x_v2i(&t->x, V_PSHUFD, d, n, 0xb1);
	else
		x_v3c(&t->x, V_PSHUFB, d, n, v_const(t, mask[0], mask[1]), 0);
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
}

LOWER(v_rev16)
{
	reverse(t, in, 1, 0);
}

LOWER(v_rev32)
{
	reverse(t, in, 2, V_SIZE(in));
}

LOWER(v_rev64)
{
	reverse(t, in, 3, V_SIZE(in));
}

/*
 * TBL and TBX. PSHUFB gives zero for indices with bit 7 set; adding 0x70 with
 * saturation sets it for those of 16 and more. A later register of the table
 * sees the index less 16 for each one before it.
 */
LOWER(v_tbl)
{
	struct x86 *x = &t->x;
	unsigned n = in->a + 1u;
	bool tbx = FIELD(in->word, 12, 1) != 0;
	int index, d;

	v_check(t);
	x_vmov(x, T2, v_read(t, in->rm));
	for (unsigned i = 0; i < n; i++) {
		int table = v_read(t, (in->rn + i) & 31);

		index = T2;
		if (i != 0) {
			x_v3c(x, V_PSUBB, T1, T2, v_lanes_const(t, 16 * i, 0), 0);
			index = T1;
		}
		x_v3c(x, V_PADDUSB, T1, index, v_lanes_const(t, 0x70, 0), 0);
		x_v3(x, V_PSHUFB, i == 0 ? T0 : T1, table, T1);
		if (i != 0)
			x_v3(x, V_POR, T0, T0, T1);
	}
	if (!tbx) {
		s_put(t, in, T0, 8u << V_Q(in));
		return;
	}
	/* Where the index is in range. */
	x_v3c(x, V_PMINUB, T1, T2, v_lanes_const(t, 16 * n - 1, 0), 0);
	x_v3(x, V_PCMPEQB, T1, T1, T2);
	d = v_modify(t, in->rd);
	x_vblend(x, d, d, T0, T1);
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
}
