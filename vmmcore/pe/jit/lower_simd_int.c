/*
 * Lowering of Advanced SIMD integer instructions with three registers of the
 * same type, their by-element forms, comparisons with zero and the other one
 * source ones (DDI 0487, C4.1.96).
 *
 * Not here: long and narrow forms (lower_simd_long.c), shifts
 * (lower_simd_shift.c), moves (lower_simd_move.c).
 */
#include "pe/jit/lower_simd.h"

vops v_add = { V_PADDB, V_PADDW, V_PADDD, V_PADDQ };
vops v_sub = { V_PSUBB, V_PSUBW, V_PSUBD, V_PSUBQ };
vops v_cmpeq = { V_PCMPEQB, V_PCMPEQW, V_PCMPEQD, V_PCMPEQQ };
vops v_cmpgt = { V_PCMPGTB, V_PCMPGTW, V_PCMPGTD, V_PCMPGTQ };
vops v_maxs = { V_PMAXSB, V_PMAXSW, V_PMAXSD, 0 };
vops v_maxu = { V_PMAXUB, V_PMAXUW, V_PMAXUD, 0 };
vops v_mins = { V_PMINSB, V_PMINSW, V_PMINSD, 0 };
vops v_minu = { V_PMINUB, V_PMINUW, V_PMINUD, 0 };

/* -- shared ------------------------------------------------------------------------- */

void
s_trim(struct tr *t, int d, int s, unsigned bytes)
{
	struct x86 *x = &t->x;

	switch (bytes) {
	case 16:
		x_vmov(x, d, s);
		break;
	case 8:
		x_v2(x, V_MOVQ, d, s);
		break;
	case 4:
		x_v3i(x, V_INSERTPS, d, s, s, 0x0e);
		break;
	default:
		x_v3c(x, V_PAND, d, s, v_const(t, bytes == 2 ? 0xffff : 0xff, 0), 0);
		break;
	}
}

void
s_put(struct tr *t, const struct insn *in, int s, unsigned bytes)
{
	s_trim(t, v_write(t, in->rd), s, bytes);
}

void
s_qc(struct tr *t, int m)
{
	struct x86 *x = &t->x;

	x_v2(x, V_PTEST, m, m);
	x_setcc(x, CC_NE, RAX);
	x_zext(x, RAX, RAX, 1);
	x_shift(x, false, X_SHL, RAX, 27);
	x_rm(x, false, 0x09, RAX, PE_MEM(fp.fpsr)); /* or */
}

void
s_broadcast(struct tr *t, int d, int s, unsigned size, unsigned i)
{
	struct x86 *x = &t->x;

	if (size == 2)
		x_v2i(x, V_PSHUFD, d, s, i * 0x55);
	else if (size == 3)
		x_v3(x, i != 0 ? V_PUNPCKHQDQ : V_PUNPCKLQDQ, d, s, s);
	else if (i == 0)
		x_v2(x, size == 0 ? V_PBROADCASTB : V_PBROADCASTW, d, s);
	else
		x_v3c(x, V_PSHUFB, d, s,
		    size == 0 ? v_lanes_const(t, i, 0)
			      : v_lanes_const(t, (2 * i + 1) << 8 | 2 * i, 1),
		    0);
}

int
s_element(struct tr *t, const struct insn *in, unsigned size)
{
	unsigned h = (unsigned)FIELD(in->word, 11, 1), l = (unsigned)FIELD(in->word, 21, 1);

	/* 16 bits: H:L:M of V0 to V15; 32 bits: H:L. */
	if (size == 1)
		s_broadcast(t, T1, v_read(t, in->rm & 15), 1,
		    h << 2 | l << 1 | (unsigned)FIELD(in->word, 20, 1));
	else
		s_broadcast(t, T1, v_read(t, in->rm), 2, h << 1 | l);
	return (T1);
}

void
s_mul(struct tr *t, unsigned size, int a, int b)
{
	struct x86 *x = &t->x;

	if (size != 0) {
		x_v3(x, size == 1 ? V_PMULLW : V_PMULLD, T0, a, b);
		return;
	}
	/* Odd bytes in their words' upper halves, then the even ones. */
	x_vshift(x, VS_PSRLW, T0, a, 8);
	x_vshift(x, VS_PSRLW, T1, b, 8);
	x_v3(x, V_PMULLW, T0, T0, T1);
	x_vshift(x, VS_PSLLW, T0, T0, 8);
	x_v3(x, V_PMULLW, T1, a, b);
	x_v3c(x, V_PAND, T1, T1, v_lanes_const(t, 0xff, 1), 0);
	x_v3(x, V_POR, T0, T0, T1);
}

void
s_uzp(struct tr *t, int d, int a, int b, unsigned size, unsigned part)
{
	struct x86 *x = &t->x;
	int second = a == b ? d : T3;

	if (size == 3) {
		x_v3(x, part != 0 ? V_PUNPCKHQDQ : V_PUNPCKLQDQ, d, a, b);
		return;
	}
	if (size == 2) {
		x_v3i(x, V_SHUFPS, d, a, b, part != 0 ? 0xdd : 0x88);
		return;
	}
	if (part != 0) {
		unsigned shift = size == 0 ? VS_PSRLW : VS_PSRLD, n = 8u << size;

		x_vshift(x, shift, d, a, n);
		if (a != b)
			x_vshift(x, shift, T3, b, n);
	} else {
		const uint8_t *mask = v_lanes_const(t, size == 0 ? 0xff : 0xffff, size + 1);

		x_v3c(x, V_PAND, d, a, mask, 0);
		if (a != b)
			x_v3c(x, V_PAND, T3, b, mask, 0);
	}
	x_v3(x, size == 0 ? V_PACKUSWB : V_PACKUSDW, d, d, second);
}

void
s_matrix(struct tr *t, int d, int s, uint64_t matrix)
{
	x_v3c(&t->x, V_GF2P8AFFINEQB, d, s, v_const(t, matrix, matrix), 1);
	x_byte(&t->x, 0);
}

/* -- one instruction of the host --------------------------------------------------------- */

static void
three(struct tr *t, const struct insn *in, unsigned vop)
{
	int a, b, d;

	if (vop == 0) {
		t_handler(t, in);
		return;
	}
	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	d = v_write(t, in->rd);
	x_v3(&t->x, vop, d, a, b);
	if (v_bytes(in, V_SIZE(in)) != 16)
		s_trim(t, d, d, v_bytes(in, V_SIZE(in)));
}

#define THREE(name, ops)                         \
	LOWER(v_##name)                          \
	{                                        \
		three(t, in, (ops)[V_SIZE(in)]); \
	}

THREE(add, v_add)
THREE(sub, v_sub)
THREE(cmeq, v_cmpeq)
THREE(cmgt, v_cmpgt)
THREE(smax, v_maxs)
THREE(umax, v_maxu)
THREE(smin, v_mins)
THREE(umin, v_minu)

/* -- comparisons ------------------------------------------------------------------------- */

/* Signed or unsigned a >= b, or (strict) a > b. */
static void
compare(struct tr *t, const struct insn *in, bool is_unsigned, bool strict)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in);
	int a, b;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	if (size == 3) {
		if (is_unsigned) {
			const uint8_t *sign = v_lanes_const(t, BIT(63), 3);

			x_v3c(x, V_PXOR, T0, a, sign, 0);
			x_v3c(x, V_PXOR, T1, b, sign, 0);
			a = T0;
			b = T1;
		}
		if (strict)
			x_v3(x, V_PCMPGTQ, T0, a, b);
		else {
			x_v3(x, V_PCMPGTQ, T0, b, a);
			s_not(t, T0, T0);
		}
	} else {
		/* a >= b: the larger of them is a. a > b: it is not b. */
		x_v3(x, is_unsigned ? v_maxu[size] : v_maxs[size], T0, a, b);
		x_v3(x, v_cmpeq[size], T0, T0, strict ? b : a);
		if (strict)
			s_not(t, T0, T0);
	}
	s_put(t, in, T0, v_bytes(in, size));
}

LOWER(v_cmge)
{
	compare(t, in, false, false);
}

LOWER(v_cmhi)
{
	compare(t, in, true, true);
}

LOWER(v_cmhs)
{
	compare(t, in, true, false);
}

LOWER(v_cmtst)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in);
	int a, b;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	if (a == b)
		x_vmov(x, T0, a);
	else
		x_v3(x, V_PAND, T0, a, b);
	x_vzero(x, T1);
	x_v3(x, v_cmpeq[size], T0, T0, T1);
	s_not(t, T0, T0);
	s_put(t, in, T0, v_bytes(in, size));
}

/* With zero: U and opcode bits say how. */
enum zero { Z_GT, Z_GE, Z_EQ, Z_LE, Z_LT };

static void
compare_zero(struct tr *t, const struct insn *in, enum zero how)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in);
	int a, d;

	v_check(t);
	a = v_read(t, in->rn);
	d = v_write(t, in->rd);
	if (how == Z_GE)
		x_vones(x, T0);
	else
		x_vzero(x, T0);
	switch (how) {
	case Z_EQ:
		x_v3(x, v_cmpeq[size], d, a, T0);
		break;
	case Z_LT:
		x_v3(x, v_cmpgt[size], d, T0, a);
		break;
	default:
		x_v3(x, v_cmpgt[size], d, a, T0);
		break;
	}
	if (how == Z_LE)
		s_not(t, d, d);
	if (v_bytes(in, size) != 16)
		s_trim(t, d, d, v_bytes(in, size));
}

#define COMPARE_ZERO(name, how)           \
	LOWER(v_##name)                   \
	{                                 \
		compare_zero(t, in, how); \
	}

COMPARE_ZERO(cmgt0, Z_GT)
COMPARE_ZERO(cmge0, Z_GE)
COMPARE_ZERO(cmeq0, Z_EQ)
COMPARE_ZERO(cmle0, Z_LE)
COMPARE_ZERO(cmlt0, Z_LT)

/* -- logical ------------------------------------------------------------------------------- */

static void
logical(struct tr *t, const struct insn *in, unsigned vop)
{
	int a, b, d;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	d = v_write(t, in->rd);
	/* PANDN inverts its first operand, BIC the second. */
	if (vop == V_PANDN)
		x_v3(&t->x, vop, d, b, a);
	else
		x_v3(&t->x, vop, d, a, b);
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
}

LOWER(v_and)
{
	logical(t, in, V_PAND);
}

LOWER(v_bic)
{
	logical(t, in, V_PANDN);
}

LOWER(v_eor)
{
	logical(t, in, V_PXOR);
}

/* ORR of a register with itself is MOV. */
LOWER(v_orr)
{
	if (in->rn == in->rm) {
		v_check(t);
		s_put(t, in, v_read(t, in->rn), 8u << V_Q(in));
		return;
	}
	logical(t, in, V_POR);
}

LOWER(v_orn)
{
	int a, b;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	s_not(t, T0, b);
	x_v3(&t->x, V_POR, T0, T0, a);
	s_put(t, in, T0, 8u << V_Q(in));
}

/* Bits of a or b by m: b ^ ((b ^ a) & m), one VPTERNLOG with m in the destination. */
static void
select_bits(struct tr *t, const struct insn *in, unsigned truth, unsigned order)
{
	struct x86 *x = &t->x;
	int n, m, d, from, to, mask;

	v_check(t);
	n = v_read(t, in->rn);
	m = v_read(t, in->rm);
	d = v_modify(t, in->rd);
	if ((jit_host & HOST_AVX512) != 0) {
		x_v3i(x, V_PTERNLOGD, d, n, m, truth);
	} else {
		/* order 0: BSL, 1: BIT, 2: BIF */
		from = order == 0 ? m : d;
		to = n;
		mask = order == 0 ? d : m;
		x_v3(x, V_PXOR, T0, from, to);
		if (order == 2)
			x_v3(x, V_PANDN, T0, mask, T0);
		else
			x_v3(x, V_PAND, T0, T0, mask);
		x_v3(x, V_PXOR, d, from, T0);
	}
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
}

LOWER(v_bsl)
{
	select_bits(t, in, 0xca, 0);
}

LOWER(v_bit)
{
	select_bits(t, in, 0xd8, 1);
}

LOWER(v_bif)
{
	select_bits(t, in, 0xe4, 2);
}

/* EOR3 and BCAX. */
LOWER(v_eor3)
{
	struct x86 *x = &t->x;
	int a, b, c;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	c = v_read(t, in->ra);
	if ((in->word >> 21 & 1) != 0)
		x_v3(x, V_PANDN, T0, c, b);
	else
		x_v3(x, V_PXOR, T0, c, b);
	x_v3(x, V_PXOR, v_write(t, in->rd), T0, a);
}

/* -- multiplication --------------------------------------------------------------------------- */

enum mul { MUL, MLA, MLS };

static void
multiply(struct tr *t, const struct insn *in, enum mul how, bool element)
{
	unsigned size = V_SIZE(in);
	int a, b, d;

	v_check(t);
	a = v_read(t, in->rn);
	b = element ? s_element(t, in, size) : v_read(t, in->rm);
	s_mul(t, size, a, b);
	if (how == MUL) {
		s_put(t, in, T0, 8u << V_Q(in));
		return;
	}
	d = v_modify(t, in->rd);
	x_v3(&t->x, how == MLA ? v_add[size] : v_sub[size], d, d, T0);
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
}

#define MULTIPLY(name, how, element)           \
	LOWER(v_##name)                        \
	{                                      \
		multiply(t, in, how, element); \
	}

MULTIPLY(mul, MUL, false)
MULTIPLY(mla, MLA, false)
MULTIPLY(mls, MLS, false)
MULTIPLY(mul_e, MUL, true)
MULTIPLY(mla_e, MLA, true)
MULTIPLY(mls_e, MLS, true)

/*
 * SQDMULH and SQRDMULH of 16 bits: only the square of the minimum saturates,
 * and only it comes out as 0x8000.
 */
static void
multiply_high(struct tr *t, const struct insn *in, bool element)
{
	struct x86 *x = &t->x;
	bool rounded = (in->word >> (element ? 12 : 29) & 1) != 0;
	unsigned bytes = v_bytes(in, 1);
	int a, b;

	if (V_SIZE(in) != 1) {
		t_handler(t, in);
		return;
	}
	v_check(t);
	a = v_read(t, in->rn);
	b = element ? s_element(t, in, 1) : v_read(t, in->rm);
	if (bytes != 16) {
		s_trim(t, T2, a, bytes);
		a = T2;
	}
	if (rounded)
		x_v3(x, V_PMULHRSW, T0, a, b);
	else {
		x_v3(x, V_PMULHW, T0, a, b);
		x_v3(x, V_PMULLW, T1, a, b);
		x_vshift(x, VS_PSLLW, T0, T0, 1);
		x_vshift(x, VS_PSRLW, T1, T1, 15);
		x_v3(x, V_POR, T0, T0, T1);
	}
	x_v3c(x, V_PCMPEQW, T1, T0, v_lanes_const(t, 0x8000, 1), 0);
	x_v3(x, V_PXOR, v_write(t, in->rd), T0, T1);
	s_qc(t, T1);
}

LOWER(v_sqdmulh)
{
	multiply_high(t, in, false);
}

LOWER(v_sqdmulh_e)
{
	multiply_high(t, in, true);
}

/* -- differences, halving, saturation -------------------------------------------------------------- */

static void
difference(struct tr *t, const struct insn *in, bool is_unsigned, bool accumulate)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in);
	int a, b, d;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	x_v3(x, is_unsigned ? v_maxu[size] : v_maxs[size], T0, a, b);
	x_v3(x, is_unsigned ? v_minu[size] : v_mins[size], T1, a, b);
	x_v3(x, v_sub[size], T0, T0, T1);
	if (!accumulate) {
		s_put(t, in, T0, 8u << V_Q(in));
		return;
	}
	d = v_modify(t, in->rd);
	x_v3(x, v_add[size], d, d, T0);
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
}

#define DIFFERENCE(name, u, acc)           \
	LOWER(v_##name)                    \
	{                                  \
		difference(t, in, u, acc); \
	}

DIFFERENCE(sabd, false, false)
DIFFERENCE(uabd, true, false)
DIFFERENCE(saba, false, true)
DIFFERENCE(uaba, true, true)

/*
 * (a + b) >> 1 is (a & b) + ((a ^ b) >> 1), and rounded (a | b) - ((a ^ b) >> 1).
 * Bytes have no shifts, and there is only an unsigned average: signed bytes are
 * moved into the unsigned range.
 */
static void
halve(struct tr *t, const struct insn *in, bool is_unsigned, bool rounded)
{
	static const unsigned shift[2][3] = { { 0, VS_PSRAW, VS_PSRAD },
		{ 0, VS_PSRLW, VS_PSRLD } };
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in);
	int a, b;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	if (size == 0) {
		const uint8_t *sign = v_lanes_const(t, 0x80, 0);

		if (!is_unsigned) {
			x_v3c(x, V_PXOR, T2, a, sign, 0);
			x_v3c(x, V_PXOR, T3, b, sign, 0);
			a = T2;
			b = T3;
		}
		x_v3(x, V_PAVGB, T0, a, b);
		if (!rounded) {
			x_v3(x, V_PXOR, T1, a, b);
			x_v3c(x, V_PAND, T1, T1, v_lanes_const(t, 1, 0), 0);
			x_v3(x, V_PSUBB, T0, T0, T1);
		}
		if (!is_unsigned)
			x_v3c(x, V_PXOR, T0, T0, v_lanes_const(t, 0x80, 0), 0);
	} else if (size == 1 && is_unsigned && rounded) {
		x_v3(x, V_PAVGW, T0, a, b);
	} else {
		x_v3(x, V_PXOR, T1, a, b);
		x_vshift(x, shift[is_unsigned][size], T1, T1, 1);
		x_v3(x, rounded ? V_POR : V_PAND, T0, a, b);
		x_v3(x, rounded ? v_sub[size] : v_add[size], T0, T0, T1);
	}
	s_put(t, in, T0, 8u << V_Q(in));
}

#define HALVE(name, u, round)           \
	LOWER(v_##name)                 \
	{                               \
		halve(t, in, u, round); \
	}

HALVE(shadd, false, false)
HALVE(uhadd, true, false)
HALVE(srhadd, false, true)
HALVE(urhadd, true, true)

/* What the saturating instruction and the plain one see differently has saturated. */
static void
saturate(struct tr *t, const struct insn *in, vops sat, vops plain)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in), bytes = v_bytes(in, size);
	int a, b;

	if (sat[size] == 0) {
		t_handler(t, in);
		return;
	}
	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	if (bytes != 16) {
		s_trim(t, T2, a, bytes);
		s_trim(t, T3, b, bytes);
		a = T2;
		b = T3;
	}
	x_v3(x, plain[size], T1, a, b);
	x_v3(x, sat[size], T0, a, b);
	x_v3(x, V_PXOR, T1, T1, T0);
	x_vmov(x, v_write(t, in->rd), T0);
	s_qc(t, T1);
}

#define SATURATE(name, plain, b, h)               \
	LOWER(v_##name)                           \
	{                                         \
		static vops sat = { b, h, 0, 0 }; \
                                                  \
		saturate(t, in, sat, plain);      \
	}

SATURATE(sqadd, v_add, V_PADDSB, V_PADDSW)
SATURATE(uqadd, v_add, V_PADDUSB, V_PADDUSW)
SATURATE(sqsub, v_sub, V_PSUBSB, V_PSUBSW)
SATURATE(uqsub, v_sub, V_PSUBUSB, V_PSUBUSW)

/* -- pairwise ----------------------------------------------------------------------------------- */

static void
pairwise(struct tr *t, const struct insn *in, vops ops)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in);
	int a, b;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	if (V_Q(in) == 0) {
		x_v3(x, V_PUNPCKLQDQ, T2, a, b);
		a = b = T2;
	}
	if (ops == v_add && (size == 1 || size == 2)) {
		x_v3(x, size == 1 ? V_PHADDW : V_PHADDD, T0, a, b);
	} else {
		s_uzp(t, T0, a, b, size, 0);
		s_uzp(t, T1, a, b, size, 1);
		x_v3(x, ops[size], T0, T0, T1);
	}
	s_put(t, in, T0, 8u << V_Q(in));
}

#define PAIRWISE(name, ops)           \
	LOWER(v_##name)               \
	{                             \
		pairwise(t, in, ops); \
	}

PAIRWISE(addp, v_add)
PAIRWISE(smaxp, v_maxs)
PAIRWISE(umaxp, v_maxu)
PAIRWISE(sminp, v_mins)
PAIRWISE(uminp, v_minu)

/* -- one source ------------------------------------------------------------------------------------ */

LOWER(v_abs)
{
	static vops op = { V_PABSB, V_PABSW, V_PABSD, 0 };
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in);
	int a;

	v_check(t);
	a = v_read(t, in->rn);
	if (size < 3)
		x_v2(x, op[size], T0, a);
	else {
		x_vzero(x, T0);
		x_v3(x, V_PCMPGTQ, T1, T0, a);
		x_v3(x, V_PXOR, T0, a, T1);
		x_v3(x, V_PSUBQ, T0, T0, T1);
	}
	s_put(t, in, T0, v_bytes(in, size));
}

LOWER(v_neg)
{
	unsigned size = V_SIZE(in);
	int a;

	v_check(t);
	a = v_read(t, in->rn);
	x_vzero(&t->x, T0);
	x_v3(&t->x, v_sub[size], T0, T0, a);
	s_put(t, in, T0, v_bytes(in, size));
}

LOWER(v_not)
{
	v_check(t);
	s_not(t, T0, v_read(t, in->rn));
	s_put(t, in, T0, 8u << V_Q(in));
}

/* Bits of each half byte from a table of 16. */
LOWER(v_cnt)
{
	const struct insn *next = t_next(t);
	struct x86 *x = &t->x;
	const uint8_t *nibble = v_lanes_const(t, 0x0f, 0);
	int a;

	/* With ADDV it counts the bits of 64 (lower_simd_long.c). */
	if (t->fp_ok && V_Q(in) == 0 && next != NULL && next->op == A64_ADDV_V &&
	    V_SIZE(next) == 0 && V_Q(next) == 0 && next->rn == in->rd && next->rd == in->rd) {
		t->joined = true;
		return;
	}
	v_check(t);
	a = v_read(t, in->rn);
	x_v2c(x, V_MOVDQA, T2, v_const(t, 0x0302020102010100, 0x0403030203020201));
	x_v3c(x, V_PAND, T0, a, nibble, 0);
	x_vshift(x, VS_PSRLW, T1, a, 4);
	x_v3c(x, V_PAND, T1, T1, nibble, 0);
	x_v3(x, V_PSHUFB, T0, T2, T0);
	x_v3(x, V_PSHUFB, T1, T2, T1);
	x_v3(x, V_PADDB, T0, T0, T1);
	s_put(t, in, T0, 8u << V_Q(in));
}

/* With GFNI a matrix of bits, else half bytes from two tables of 16. */
LOWER(v_rbit)
{
	struct x86 *x = &t->x;
	const uint8_t *nibble = v_lanes_const(t, 0x0f, 0);
	int a;

	v_check(t);
	a = v_read(t, in->rn);
	if ((jit_host & HOST_GFNI) != 0) {
		s_matrix(t, T0, a, UINT64_C(0x8040201008040201));
		s_put(t, in, T0, 8u << V_Q(in));
		return;
	}
	x_v3c(x, V_PAND, T0, a, nibble, 0);
	x_vshift(x, VS_PSRLW, T1, a, 4);
	x_v3c(x, V_PAND, T1, T1, nibble, 0);
	x_v2c(x, V_MOVDQA, T2, v_const(t, 0xe060a020c0408000, 0xf070b030d0509010));
	x_v2c(x, V_MOVDQA, T3, v_const(t, 0x0e060a020c040800, 0x0f070b030d050901));
	x_v3(x, V_PSHUFB, T0, T2, T0);
	x_v3(x, V_PSHUFB, T1, T3, T1);
	x_v3(x, V_POR, T0, T0, T1);
	s_put(t, in, T0, 8u << V_Q(in));
}

/* CLZ of 32 bits (AVX512-CD). */
LOWER(v_clz)
{
	if (V_SIZE(in) != 2) {
		t_handler(t, in);
		return;
	}
	v_check(t);
	x_v2(&t->x, V_PLZCNTD, T0, v_read(t, in->rn));
	s_put(t, in, T0, 8u << V_Q(in));
}
