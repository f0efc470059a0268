/*
 * Lowering of Advanced SIMD instructions whose lanes change their width: long,
 * wide and high-half forms with three registers or an element, pairs of lanes
 * added up, dot products, and sums and extremes across lanes (DDI 0487,
 * C4.1.96).
 */
#include "pe/jit/lower_simd.h"

/* d = the low (part 0) or high half of s, widened. */
static void
widen(struct tr *t, int d, int s, unsigned size, unsigned part, bool is_unsigned)
{
	static const unsigned op[2][3] = { { V_PMOVSXBW, V_PMOVSXWD, V_PMOVSXDQ },
		{ V_PMOVZXBW, V_PMOVZXWD, V_PMOVZXDQ } };

	if (part != 0) {
		x_v2i(&t->x, V_PSHUFD, d, s, 0xee);
		s = d;
	}
	x_v2(&t->x, op[is_unsigned][size], d, s);
}

static inline bool
is_unsigned_op(const struct insn *in)
{
	return (FIELD(in->word, 29, 1) != 0);
}

/* SADDL, UADDL, SSUBL, USUBL and the wide forms; opcode<1> subtracts, <0> is wide. */
LOWER(v_addl)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in), part = V_Q(in);
	bool subtract = FIELD(in->word, 13, 1) != 0, wide = FIELD(in->word, 12, 1) != 0;
	int a, b;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	if (!wide) {
		widen(t, T0, a, size, part, is_unsigned_op(in));
		a = T0;
	}
	widen(t, T1, b, size, part, is_unsigned_op(in));
	x_v3(x, subtract ? v_sub[size + 1] : v_add[size + 1], v_write(t, in->rd), a, T1);
}

/* SABDL, UABDL, SABAL, UABAL: the difference fits in the narrow lane, unsigned. */
LOWER(v_abdl)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in);
	bool u = is_unsigned_op(in), accumulate = FIELD(in->word, 13, 1) == 0;
	int a, b, d;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	x_v3(x, u ? v_maxu[size] : v_maxs[size], T0, a, b);
	x_v3(x, u ? v_minu[size] : v_mins[size], T1, a, b);
	x_v3(x, v_sub[size], T0, T0, T1);
	if (!accumulate) {
		widen(t, v_write(t, in->rd), T0, size, V_Q(in), true);
		return;
	}
	widen(t, T0, T0, size, V_Q(in), true);
	d = v_modify(t, in->rd);
	x_v3(x, v_add[size + 1], d, d, T0);
}

/* T0 = the products of the lanes of one half of a and b; b may be T1. */
static void
product(struct tr *t, int a, int b, unsigned size, unsigned part, bool is_unsigned)
{
	struct x86 *x = &t->x;

	switch (size) {
	case 0:
		widen(t, T0, a, 0, part, is_unsigned);
		widen(t, T1, b, 0, part, is_unsigned);
		x_v3(x, V_PMULLW, T0, T0, T1);
		break;
	case 1:
		x_v3(x, V_PMULLW, T0, a, b);
		x_v3(x, is_unsigned ? V_PMULHUW : V_PMULHW, T1, a, b);
		x_v3(x, part != 0 ? V_PUNPCKHWD : V_PUNPCKLWD, T0, T0, T1);
		break;
	default:
		x_v2i(x, V_PSHUFD, T0, a, part != 0 ? 0xfa : 0x50);
		x_v2i(x, V_PSHUFD, T1, b, part != 0 ? 0xfa : 0x50);
		x_v3(x, is_unsigned ? V_PMULUDQ : V_PMULDQ, T0, T0, T1);
		break;
	}
}

enum mull { MULL, MLAL, MLSL };

static void
multiply_long(struct tr *t, const struct insn *in, enum mull how, bool element)
{
	unsigned size = V_SIZE(in);
	int a, b, d;

	v_check(t);
	a = v_read(t, in->rn);
	b = element ? s_element(t, in, size) : v_read(t, in->rm);
	product(t, a, b, size, V_Q(in), is_unsigned_op(in));
	if (how == MULL) {
		x_vmov(&t->x, v_write(t, in->rd), T0);
		return;
	}
	d = v_modify(t, in->rd);
	x_v3(&t->x, how == MLAL ? v_add[size + 1] : v_sub[size + 1], d, d, T0);
}

#define MULTIPLY_LONG(name, how)                  \
	LOWER(v_##name)                           \
	{                                         \
		multiply_long(t, in, how, false); \
	}                                         \
	LOWER(v_##name##_e)                       \
	{                                         \
		multiply_long(t, in, how, true);  \
	}

MULTIPLY_LONG(mull, MULL)
MULTIPLY_LONG(mlal, MLAL)
MULTIPLY_LONG(mlsl, MLSL)

/* ADDHN, SUBHN, RADDHN, RSUBHN: the high halves of the sums. */
LOWER(v_addhn)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in);
	bool rounded = is_unsigned_op(in), subtract = FIELD(in->word, 13, 1) != 0;
	int a, b, d;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	x_v3(x, subtract ? v_sub[size + 1] : v_add[size + 1], T0, a, b);
	if (rounded)
		x_v3c(x, v_add[size + 1], T0, T0,
		    v_lanes_const(t, UINT64_C(1) << ((8u << size) - 1), size + 1), 0);
	if (size == 0)
		x_v3c(x, V_PSHUFB, T0, T0, v_const(t, 0x0f0d0b0907050301, 0x8080808080808080), 0);
	else if (size == 1)
		x_v3c(x, V_PSHUFB, T0, T0, v_const(t, 0x0f0e0b0a07060302, 0x8080808080808080), 0);
	else
		x_v2i(x, V_PSHUFD, T0, T0, 0x0d);
	if (V_Q(in) == 0) {
		s_put(t, in, T0, 8);
		return;
	}
	d = v_modify(t, in->rd);
	x_v3(x, V_PUNPCKLQDQ, d, d, T0);
}

/* -- pairs of lanes ------------------------------------------------------------------------- */

/* T0 = sums of pairs of a's lanes; uses T1. */
static void
add_pairs(struct tr *t, int a, unsigned size, bool is_unsigned)
{
	struct x86 *x = &t->x;

	switch (size) {
	case 0:
		/* PMADDUBSW: unsigned bytes of the first, signed ones of the second. */
		if (is_unsigned)
			x_v3c(x, V_PMADDUBSW, T0, a, v_lanes_const(t, 1, 0), 0);
		else {
			x_v2c(x, V_MOVDQU, T0, v_lanes_const(t, 1, 0));
			x_v3(x, V_PMADDUBSW, T0, T0, a);
		}
		break;
	case 1:
		if (is_unsigned) {
			x_v3c(x, V_PAND, T0, a, v_lanes_const(t, 0xffff, 2), 0);
			x_vshift(x, VS_PSRLD, T1, a, 16);
			x_v3(x, V_PADDD, T0, T0, T1);
		} else
			x_v3c(x, V_PMADDWD, T0, a, v_lanes_const(t, 1, 1), 0);
		break;
	default:
		x_vshift(x, VS_PSRLQ, T1, a, 32);
		if (is_unsigned)
			x_v3c(x, V_PAND, T0, a, v_lanes_const(t, 0xffffffff, 3), 0);
		else {
			x_v3c(x, V_PMULDQ, T0, a, v_lanes_const(t, 1, 2), 0);
			x_v3c(x, V_PMULDQ, T1, T1, v_lanes_const(t, 1, 2), 0);
		}
		x_v3(x, V_PADDQ, T0, T0, T1);
		break;
	}
}

/* SADDLP, UADDLP; SADALP, UADALP add to Rd (bit 14). */
LOWER(v_addlp)
{
	unsigned size = V_SIZE(in);
	int d;

	v_check(t);
	add_pairs(t, v_read(t, in->rn), size, is_unsigned_op(in));
	if (FIELD(in->word, 14, 1) == 0) {
		s_put(t, in, T0, 8u << V_Q(in));
		return;
	}
	d = v_modify(t, in->rd);
	x_v3(&t->x, v_add[size + 1], d, d, T0);
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
}

/* -- dot products ------------------------------------------------------------------------------ */

/*
 * SDOT and UDOT. With VNNI, which multiplies unsigned by signed bytes, one
 * operand is moved by 128 and what that adds is taken off again; without, even
 * and odd bytes are multiplied as words.
 */
static void
dot(struct tr *t, const struct insn *in, bool element)
{
	struct x86 *x = &t->x;
	bool u = is_unsigned_op(in);
	int a, b, d;

	v_check(t);
	a = v_read(t, in->rn);
	b = element ? s_element(t, in, 2) : v_read(t, in->rm);
	if ((jit_host & (HOST_DOT | HOST_AVX512)) == (HOST_DOT | HOST_AVX512)) {
		const uint8_t *half = v_lanes_const(t, 0x80, 0);

		x_vzero(x, T0);
		x_v2c(x, V_MOVDQU, T3, half);
		if (u) {
			/* a * (b - 128) + 128 * a: subtract a * -128 */
			x_v3(x, V_PXOR, T2, b, T3);
			x_v3(x, V_PDPBUSD, T0, a, T3);
			d = v_modify(t, in->rd);
			x_v3(x, V_PDPBUSD, d, a, T2);
		} else {
			/* (a + 128) * b - 128 * b */
			x_v3(x, V_PXOR, T2, a, T3);
			x_v3(x, V_PDPBUSD, T0, T3, b);
			d = v_modify(t, in->rd);
			x_v3(x, V_PDPBUSD, d, T2, b);
		}
		x_v3(x, V_PSUBD, d, d, T0);
	} else {
		/* Odd bytes first: T2 = a, T3 = b */
		x_vshift(x, u ? VS_PSRLW : VS_PSRAW, T2, a, 8);
		x_vshift(x, u ? VS_PSRLW : VS_PSRAW, T3, b, 8);
		x_v3(x, V_PMADDWD, T2, T2, T3);
		x_vshift(x, VS_PSLLW, T0, a, 8);
		x_vshift(x, VS_PSLLW, T1, b, 8);
		x_vshift(x, u ? VS_PSRLW : VS_PSRAW, T0, T0, 8);
		x_vshift(x, u ? VS_PSRLW : VS_PSRAW, T1, T1, 8);
		x_v3(x, V_PMADDWD, T0, T0, T1);
		x_v3(x, V_PADDD, T0, T0, T2);
		d = v_modify(t, in->rd);
		x_v3(x, V_PADDD, d, d, T0);
	}
	if (V_Q(in) == 0)
		s_trim(t, d, d, 8);
}

LOWER(v_dot)
{
	dot(t, in, false);
}

LOWER(v_dot_e)
{
	dot(t, in, true);
}

/* -- across lanes --------------------------------------------------------------------------------- */

/* Lane 0 of T0 = all of its lanes in `bytes` by OP; uses T1. */
static void
fold(struct tr *t, unsigned vop, unsigned bytes, unsigned size)
{
	for (unsigned n = bytes / 2; n >= 1u << size; n /= 2) {
		x_vshift(&t->x, VS_PSRLDQ, T1, T0, n);
		x_v3(&t->x, vop, T0, T0, T1);
	}
}

LOWER(v_addv)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in), bytes = 8u << V_Q(in);
	int a;

	if (t->joined) {
		/* Of CNT. */
		t->joined = false;
		x_g_from_v(x, true, RAX, v_read(t, in[-1].rn));
		x_popcnt(x, true, RAX, RAX);
		x_v_from_g(x, false, v_write(t, in->rd), RAX);
		return;
	}
	v_check(t);
	a = v_read(t, in->rn);
	if (size == 0) {
		x_vzero(x, T1);
		if (bytes == 8) {
			x_v2(x, V_MOVQ, T0, a);
			a = T0;
		}
		x_v3(x, V_PSADBW, T0, a, T1);
		if (bytes == 16)
			fold(t, V_PADDQ, 16, 3);
	} else {
		x_vmov(x, T0, a);
		fold(t, v_add[size], bytes, size);
	}
	s_put(t, in, T0, 1u << size);
}

/* SADDLV, UADDLV. */
LOWER(v_addlv)
{
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in), bytes = 8u << V_Q(in);
	bool u = is_unsigned_op(in);
	int a;

	v_check(t);
	a = v_read(t, in->rn);
	if (size == 0) {
		/* Signed bytes are moved into the unsigned range. */
		if (!u)
			x_v3c(x, V_PXOR, T0, a, v_lanes_const(t, 0x80, 0), 0);
		else
			x_vmov(x, T0, a);
		if (bytes == 8)
			x_v2(x, V_MOVQ, T0, T0);
		x_vzero(x, T1);
		x_v3(x, V_PSADBW, T0, T0, T1);
		if (bytes == 16)
			fold(t, V_PADDQ, 16, 3);
		if (!u)
			x_v3c(x, V_PSUBD, T0, T0, v_const(t, 128 * bytes, 0), 0);
	} else {
		add_pairs(t, a, size, u);
		fold(t, v_add[size + 1], bytes, size + 1);
	}
	s_put(t, in, T0, 2u << size);
}

static void
extreme(struct tr *t, const struct insn *in, vops ops)
{
	unsigned size = V_SIZE(in);

	v_check(t);
	x_vmov(&t->x, T0, v_read(t, in->rn));
	fold(t, ops[size], 8u << V_Q(in), size);
	s_put(t, in, T0, 1u << size);
}

#define EXTREME(name, ops)           \
	LOWER(v_##name)              \
	{                            \
		extreme(t, in, ops); \
	}

EXTREME(smaxv, v_maxs)
EXTREME(umaxv, v_maxu)
EXTREME(sminv, v_mins)
EXTREME(uminv, v_minu)

/* ADDP (scalar): the two 64-bit lanes. */
LOWER(v_addp_s)
{
	v_check(t);
	x_vmov(&t->x, T0, v_read(t, in->rn));
	fold(t, V_PADDQ, 16, 3);
	s_put(t, in, T0, 8);
}
