/*
 * Lowering of Advanced SIMD shifts: by immediate with the narrowing and
 * widening forms, by register, and the narrowing moves (XTN and its kind)
 * (DDI 0487, C4.1.96).
 *
 * The host has no shifts of bytes: words are shifted and masked. An arithmetic
 * shift that it does not have is a logical one, and (x ^ m) - m with the place
 * m where the sign bit has come to.
 */
#include "pe/jit/lower_simd.h"

static unsigned
shift_imm(const struct insn *in)
{
	return ((unsigned)FIELD(in->word, 16, 7));
}

static unsigned
shift_size(const struct insn *in)
{
	return (28 - (unsigned)__builtin_clz(shift_imm(in)));
}

static unsigned
shift_right(const struct insn *in, unsigned size)
{
	return ((16u << size) - shift_imm(in));
}

static unsigned
shift_left(const struct insn *in, unsigned size)
{
	return (shift_imm(in) - (8u << size));
}

static uint64_t
lane_ones(unsigned size)
{
	return (~UINT64_C(0) >> (64 - (8u << size)));
}

static const unsigned left_op[4] = { VS_PSLLW, VS_PSLLW, VS_PSLLD, VS_PSLLQ };
static const unsigned right_op[4] = { VS_PSRLW, VS_PSRLW, VS_PSRLD, VS_PSRLQ };

/* Bytes of d = those of s with bit i from bit i + n; from bit 7, or 0, beyond. */
static bool
by_matrix(struct tr *t, int d, int s, int n, bool sign)
{
	uint64_t m = 0;

	if ((jit_host & HOST_GFNI) == 0)
		return (false);
	for (int i = 0; i < 8; i++) {
		int from = sign && i + n > 7 ? 7 : i + n;

		if (from >= 0 && from < 8)
			m |= UINT64_C(1) << (8 * (7 - i) + from);
	}
	s_matrix(t, d, s, m);
	return (true);
}

/* d = s << n, n less than the lane's bits */
static void
shl(struct tr *t, int d, int s, unsigned size, unsigned n)
{
	if (size == 0 && by_matrix(t, d, s, -(int)n, false))
		return;
	x_vshift(&t->x, left_op[size], d, s, n);
	if (size == 0 && n != 0)
		x_v3c(&t->x, V_PAND, d, d, v_lanes_const(t, 0xff << n, 0), 0);
}

/* d = s >> n, n up to the lane's bits */
static void
shr_u(struct tr *t, int d, int s, unsigned size, unsigned n)
{
	if (size == 0 && by_matrix(t, d, s, (int)n, false))
		return;
	x_vshift(&t->x, right_op[size], d, s, n);
	if (size == 0 && n != 0)
		x_v3c(&t->x, V_PAND, d, d, v_lanes_const(t, 0xffu >> n, 0), 0);
}

static void
shr_s(struct tr *t, int d, int s, unsigned size, unsigned n)
{
	unsigned bits = 8u << size;

	if (n >= bits)
		n = bits - 1;
	if (size == 0 && by_matrix(t, d, s, (int)n, true))
		return;
	if (size == 1 || size == 2) {
		x_vshift(&t->x, size == 1 ? VS_PSRAW : VS_PSRAD, d, s, n);
		return;
	}
	if (n == bits - 1) {
		/* Only the sign. */
		x_vzero(&t->x, T3);
		x_v3(&t->x, v_cmpgt[size], d, T3, s);
		return;
	}
	shr_u(t, d, s, size, n);
	if (n != 0) {
		const uint8_t *sign = v_lanes_const(t, UINT64_C(1) << (bits - 1 - n), size);

		x_v3c(&t->x, V_PXOR, d, d, sign, 0);
		x_v3c(&t->x, v_sub[size], d, d, sign, 0);
	}
}

/* d (not s, not T1) = s >> n rounded: the last bit that leaves is added. Uses T1. */
static void
shr_round(struct tr *t, int d, int s, unsigned size, unsigned n, bool is_signed)
{
	struct x86 *x = &t->x;

	shr_u(t, T1, s, size, n - 1);
	x_v3c(x, V_PAND, T1, T1, v_lanes_const(t, 1, size), 0);
	if (is_signed)
		shr_s(t, d, s, size, n);
	else
		shr_u(t, d, s, size, n);
	x_v3(x, v_add[size], d, d, T1);
}

LOWER(v_shl)
{
	unsigned size = shift_size(in);
	int s;

	v_check(t);
	s = v_read(t, in->rn);
	shl(t, T0, s, size, shift_left(in, size));
	s_put(t, in, T0, v_bytes(in, size));
}

/* Right shifts: U, rounding (opcode bit 13), accumulation (bit 12). */
LOWER(v_shr)
{
	unsigned size = shift_size(in), n = shift_right(in, size);
	bool is_signed = FIELD(in->word, 29, 1) == 0, rounded = FIELD(in->word, 13, 1) != 0;
	int s, d;

	v_check(t);
	s = v_read(t, in->rn);
	if (rounded)
		shr_round(t, T0, s, size, n, is_signed);
	else if (is_signed)
		shr_s(t, T0, s, size, n);
	else
		shr_u(t, T0, s, size, n);
	if (FIELD(in->word, 12, 1) == 0) {
		s_put(t, in, T0, v_bytes(in, size));
		return;
	}
	d = v_modify(t, in->rd);
	x_v3(&t->x, v_add[size], d, d, T0);
	if (v_bytes(in, size) != 16)
		s_trim(t, d, d, v_bytes(in, size));
}

/* SLI and SRI: bits that nothing is shifted into stay. */
static void
insert(struct tr *t, const struct insn *in, unsigned size, uint64_t keep)
{
	struct x86 *x = &t->x;
	int d = v_modify(t, in->rd);

	x_v3c(x, V_PAND, d, d, v_lanes_const(t, keep, size), 0);
	x_v3(x, V_POR, d, d, T0);
	if (v_bytes(in, size) != 16)
		s_trim(t, d, d, v_bytes(in, size));
}

LOWER(v_sli)
{
	unsigned size = shift_size(in), n = shift_left(in, size);

	v_check(t);
	shl(t, T0, v_read(t, in->rn), size, n);
	insert(t, in, size, (UINT64_C(1) << n) - 1);
}

LOWER(v_sri)
{
	unsigned size = shift_size(in), n = shift_right(in, size);

	v_check(t);
	shr_u(t, T0, v_read(t, in->rn), size, n);
	insert(t, in, size, n == 8u << size ? lane_ones(size) : ~(lane_ones(size) >> n));
}

/*
 * Left, saturating: what does not come back as it was is too large. T1 are the
 * lanes of which that holds, none beyond the register's end.
 */
static void
shl_sat(struct tr *t, const struct insn *in, bool from_signed, bool to_signed)
{
	struct x86 *x = &t->x;
	unsigned size = shift_size(in), n = shift_left(in, size), bytes = v_bytes(in, size);
	int s;

	v_check(t);
	s = v_read(t, in->rn);
	if (bytes != 16) {
		s_trim(t, T2, s, bytes);
		s = T2;
	}
	shl(t, T0, s, size, n);
	if (to_signed)
		shr_s(t, T1, T0, size, n);
	else
		shr_u(t, T1, T0, size, n);
	x_v3(x, v_cmpeq[size], T1, T1, s);
	s_not(t, T1, T1);
	if (from_signed) {
		x_vzero(x, T3);
		x_v3(x, v_cmpgt[size], T3, T3, s);
	}
	if (to_signed) {
		/* The largest, or its complement of a negative one. */
		x_v3c(x, V_PXOR, T3, T3, v_lanes_const(t, lane_ones(size) >> 1, size), 0);
		x_v3(x, V_PXOR, T3, T3, T0);
		x_v3(x, V_PAND, T3, T3, T1);
		x_v3(x, V_PXOR, T0, T0, T3);
	} else {
		if (from_signed)
			x_v3(x, V_POR, T1, T1, T3);
		x_v3(x, V_POR, T0, T0, T1);
		if (from_signed) /* 0 of a negative one */
			x_v3(x, V_PXOR, T0, T0, T3);
	}
	s_put(t, in, T0, bytes);
	s_qc(t, T1);
}

LOWER(v_sqshl_i)
{
	shl_sat(t, in, true, true);
}

LOWER(v_uqshl_i)
{
	shl_sat(t, in, false, false);
}

LOWER(v_sqshlu)
{
	shl_sat(t, in, true, false);
}

/* -- narrow ------------------------------------------------------------------------------- */

/* Rd, or its high half, = the low halves of T0's lanes of 2 << size bytes. */
static void
put_narrow(struct tr *t, const struct insn *in, unsigned size)
{
	struct x86 *x = &t->x;
	int d;

	if (V_Q(in) == 0) {
		d = v_write(t, in->rd);
		if (size == 0)
			x_v3c(x, V_PSHUFB, d, T0,
			    v_const(t, 0x0e0c0a0806040200, 0x8080808080808080), 0);
		else if (size == 1)
			x_v3c(x, V_PSHUFB, d, T0,
			    v_const(t, 0x0d0c090805040100, 0x8080808080808080), 0);
		else {
			x_v2i(x, V_PSHUFD, d, T0, 0x08);
			s_trim(t, d, d, 8);
		}
		return;
	}
	if (size == 0)
		x_v3c(x, V_PSHUFB, T0, T0, v_const(t, 0x0e0c0a0806040200, 0), 0);
	else if (size == 1)
		x_v3c(x, V_PSHUFB, T0, T0, v_const(t, 0x0d0c090805040100, 0), 0);
	else
		x_v2i(x, V_PSHUFD, T0, T0, 0x08);
	d = v_modify(t, in->rd);
	x_v3(x, V_PUNPCKLQDQ, d, d, T0);
}

/* Saturating: from signed or unsigned lanes to signed or unsigned ones. */
enum narrow { N_PLAIN, N_S_TO_S, N_S_TO_U, N_U_TO_U };

/* s is T0 or a register; 16 and 8 bits only, but for N_PLAIN. */
static void
narrow(struct tr *t, const struct insn *in, int s, unsigned size, enum narrow how)
{
	struct x86 *x = &t->x;
	int d;

	if (how == N_PLAIN) {
		x_vmov(x, T0, s);
		put_narrow(t, in, size);
		return;
	}
	/* T1 = what is different after widening it again. */
	switch (how) {
	case N_U_TO_U:
		x_v3c(x, size == 0 ? V_PMINUW : V_PMINUD, T2, s,
		    v_lanes_const(t, lane_ones(size), size + 1), 0);
		x_v3(x, V_PXOR, T1, T2, s);
		x_v3(x, size == 0 ? V_PACKUSWB : V_PACKUSDW, T0, T2, T2);
		break;
	case N_S_TO_U:
		x_v3(x, size == 0 ? V_PACKUSWB : V_PACKUSDW, T2, s, s);
		x_v2(x, size == 0 ? V_PMOVZXBW : V_PMOVZXWD, T1, T2);
		x_v3(x, V_PXOR, T1, T1, s);
		x_vmov(x, T0, T2);
		break;
	default:
		x_v3(x, size == 0 ? V_PACKSSWB : V_PACKSSDW, T2, s, s);
		x_v2(x, size == 0 ? V_PMOVSXBW : V_PMOVSXWD, T1, T2);
		x_v3(x, V_PXOR, T1, T1, s);
		x_vmov(x, T0, T2);
		break;
	}
	if (V_Q(in) != 0) {
		d = v_modify(t, in->rd);
		x_v3(x, V_PUNPCKLQDQ, d, d, T0);
	} else
		s_put(t, in, T0, 8);
	s_qc(t, T1);
}

static bool
narrow_left_out(const struct insn *in, unsigned size, enum narrow how)
{
	return (how != N_PLAIN && (V_SCALAR(in) != 0 || size == 2));
}

static void
extract(struct tr *t, const struct insn *in, enum narrow how)
{
	if (narrow_left_out(in, V_SIZE(in), how)) {
		t_handler(t, in);
		return;
	}
	v_check(t);
	narrow(t, in, v_read(t, in->rn), V_SIZE(in), how);
}

LOWER(v_xtn)
{
	extract(t, in, N_PLAIN);
}

LOWER(v_sqxtn)
{
	extract(t, in, N_S_TO_S);
}

LOWER(v_sqxtun)
{
	extract(t, in, N_S_TO_U);
}

LOWER(v_uqxtn)
{
	extract(t, in, N_U_TO_U);
}

static void
shift_narrow(struct tr *t, const struct insn *in, enum narrow how)
{
	unsigned size = shift_size(in), n = shift_right(in, size);
	bool is_signed = how == N_S_TO_S || how == N_S_TO_U;
	int s;

	if (narrow_left_out(in, size, how)) {
		t_handler(t, in);
		return;
	}
	v_check(t);
	s = v_read(t, in->rn);
	if (FIELD(in->word, 11, 1) != 0)
		shr_round(t, T0, s, size + 1, n, is_signed);
	else if (is_signed)
		shr_s(t, T0, s, size + 1, n);
	else
		shr_u(t, T0, s, size + 1, n);
	narrow(t, in, T0, size, how);
}

LOWER(v_shrn)
{
	shift_narrow(t, in, N_PLAIN);
}

LOWER(v_sqshrn)
{
	shift_narrow(t, in, N_S_TO_S);
}

LOWER(v_sqshrun)
{
	shift_narrow(t, in, N_S_TO_U);
}

LOWER(v_uqshrn)
{
	shift_narrow(t, in, N_U_TO_U);
}

/* -- widen ------------------------------------------------------------------------------------ */

LOWER(v_shll)
{
	static const unsigned op[2][3] = { { V_PMOVSXBW, V_PMOVSXWD, V_PMOVSXDQ },
		{ V_PMOVZXBW, V_PMOVZXWD, V_PMOVZXDQ } };
	struct x86 *x = &t->x;
	/* SHLL shifts by the element's size, SSHLL and USHLL by an immediate. */
	bool by_size = FIELD(in->word, 24, 5) == 0xe;
	unsigned size = by_size ? V_SIZE(in) : shift_size(in);
	unsigned n = by_size ? 8u << size : shift_left(in, size);
	int s, d;

	v_check(t);
	s = v_read(t, in->rn);
	d = v_write(t, in->rd);
	if (V_Q(in) != 0) {
		x_v2i(x, V_PSHUFD, T0, s, 0xee);
		s = T0;
	}
	x_v2(x, op[FIELD(in->word, 29, 1)][size], d, s);
	if (n != 0)
		x_vshift(x, left_op[size + 1], d, d, n);
}

/* -- by register --------------------------------------------------------------------------------- */

/*
 * USHL and SSHL of 32 and 64 bits (16 with AVX-512): the host's variable shifts
 * give zero, or the sign, for amounts that are too large, also for negative
 * ones. T1 is the amount, the lowest byte with its sign; T2 its negation.
 */
LOWER(v_ushl)
{
	static vops left = { 0, V_PSLLVW, V_PSLLVD, V_PSLLVQ };
	static vops right[2] = { { 0, V_PSRAVW, V_PSRAVD, V_PSRAVQ },
		{ 0, V_PSRLVW, V_PSRLVD, V_PSRLVQ } };
	struct x86 *x = &t->x;
	unsigned size = V_SIZE(in), is_unsigned = (unsigned)FIELD(in->word, 29, 1);
	int a, b;

	if (size == 0 ||
	    ((size == 1 || (size == 3 && is_unsigned == 0)) && (jit_host & HOST_AVX512) == 0)) {
		t_handler(t, in);
		return;
	}
	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	x_vshift(x, left_op[size], T1, b, (8u << size) - 8);
	shr_s(t, T1, T1, size, (8u << size) - 8);
	x_vzero(x, T2);
	x_v3(x, v_sub[size], T2, T2, T1);
	x_v3(x, left[size], T0, a, T1);
	x_v3(x, right[is_unsigned][size], T2, a, T2);
	if (is_unsigned)
		x_v3(x, V_POR, T0, T0, T2);
	else {
		/* Right where the amount is negative. */
		x_vzero(x, T3);
		x_v3(x, v_cmpgt[size], T1, T3, T1);
		x_vblend(x, T0, T0, T2, T1);
	}
	s_put(t, in, T0, v_bytes(in, size));
}
