/*
 * Lowering of floating point conversions: to and from general registers and
 * integers in vectors, between sizes, and rounding to integral values.
 */
#include "pe/jit/lower_fp.h"

/* Immediates of ROUNDSD by FPCR.RMode; ROUND_QUIET does not raise Inexact. */
enum { ROUND_N = 0, ROUND_M = 1, ROUND_P = 2, ROUND_Z = 3, ROUND_MXCSR = 4, ROUND_QUIET = 8 };
static const uint8_t round_imm[4] = { ROUND_N, ROUND_P, ROUND_M, ROUND_Z };

/* -- general registers: the bits ---------------------------------------------------------- */

/* FMOV Wd, Sn and Xd, Dn. */
LOWER(fmov_to_g)
{
	bool w = is_x(in);
	int n, d = g_dest(in->rd, RAX);

	v_check(t);
	n = v_read(t, in->rn);
	x_g_from_v(&t->x, w, d, n);
	g_commit(t, in->rd, d);
}

LOWER(fmov_from_g)
{
	bool w = is_x(in);
	int r, d;

	v_check(t);
	r = g_read(t, w, in->rn, RAX);
	d = v_write(t, in->rd);
	x_v_from_g(&t->x, w, d, r);
	v_set_zero_above(t, d, w ? 3 : 2);
}

/* FMOV Vd.D[1], Xn. */
LOWER(fmov_to_high)
{
	int r, d;

	v_check(t);
	r = g_read(t, true, in->rn, RAX);
	d = v_modify(t, in->rd);
	x_pinsr(&t->x, 3, d, d, r, 1);
}

/* FMOV Xd, Vn.D[1]. */
LOWER(fmov_from_high)
{
	int n, d = g_dest(in->rd, RAX);

	v_check(t);
	n = v_read(t, in->rn);
	x_pextr(&t->x, 3, d, n, 1);
	g_commit(t, in->rd, d);
}

/* -- between sizes: NaNs keep sign and payload on both sides --------------------------------- */

LOWER(fcvt_d_s)
{
	int n, d;

	v_check_fp(t);
	n = v_read(t, in->rn);
	x_vzero(&t->x, FP_R);
	d = v_write(t, in->rd);
	x_v3(&t->x, V_CVTSS2SD, d, FP_R, n);
	v_set_zero_above(t, d, 3);
}

LOWER(fcvt_s_d)
{
	const struct fp_form s = { .scalar = true };
	int n, d;

	v_check_fp(t);
	n = v_read(t, in->rn);
	d = fp_dest(t, in->rd, in->rn, in->rn, in->rn);
	x_vzero(&t->x, FP_N);
	x_v3(&t->x, V_CVTSD2SS, d, FP_N, n);
	fp_check(t, s, d, FP_TINY);
	fp_write(t, s, in->rd, d, true);
}

/* FCVTL of two floats; halves are left to the handler. */
LOWER(fcvtl)
{
	int n, d;

	if (in->a == 0) {
		t_handler(t, in);
		return;
	}
	v_check_fp(t);
	n = v_read(t, in->rn);
	if ((in->word & (1u << 30)) != 0) {
		x_v2i(&t->x, V_PSHUFD, FP_N, n, 0xee);
		n = FP_N;
	}
	d = v_write(t, in->rd);
	x_v2(&t->x, V_CVTPS2PD, d, n);
}

LOWER(fcvtn)
{
	const struct fp_form two = { .half = true, .i = 2 };
	int n, d;

	if (in->a == 0) {
		t_handler(t, in);
		return;
	}
	v_check_fp(t);
	n = v_read(t, in->rn);
	x_v2(&t->x, V_CVTPD2PS, FP_R, n);
	fp_check(t, two, FP_R, FP_TINY);
	if ((in->word & (1u << 30)) != 0) {
		d = v_modify(t, in->rd);
		x_v3(&t->x, V_PUNPCKLQDQ, d, d, FP_R);
	} else
		fp_write(t, two, in->rd, FP_R, true);
}

/* -- to integers ------------------------------------------------------------------------------- */

/*
 * FCVT[NPMZ][SU] to a general register. Signed, the host's answer is right
 * unless it is the one for "invalid". Unsigned, the bits are compared first:
 * negative numbers, NaNs and what does not fit a signed 64-bit integer (or 32
 * bits) have other flags on the host and go to the handler.
 */
LOWER(fcvt_to_g)
{
	static const uint64_t limit[2][2] = {
		{ UINT64_C(0x4f800000), UINT64_C(0x5f000000) },
		{ UINT64_C(0x41f0000000000000), UINT64_C(0x43e0000000000000) },
	};
	struct fp_form f = fp_form(in);
	struct x86 *x = &t->x;
	bool w = is_x(in), is_unsigned = (in->word & (1u << 16)) != 0, wide = w || is_unsigned;
	/* The fixed-point forms have their own rows: a is the rounding here. */
	unsigned mode = in->a;
	/* Rounding could carry out of the range: Inexact only when it did not. */
	bool quiet = mode == 1 || mode == 2 || (mode == 0 && is_unsigned && !w);
	int n, s;

	v_check_fp(t);
	s = n = v_read(t, in->rn);
	if (is_unsigned) {
		x_g_from_v(x, f.dbl, RAX, n);
		x_const(x, RCX, limit[f.dbl][w]);
		x_alu(x, f.dbl, X_CMP, RAX, RCX);
		t_slow(t, CC_AE);
	}
	if (quiet) {
		x_v3i(x, f.dbl ? V_ROUNDSD : V_ROUNDSS, FP_R, n, n, ROUND_QUIET | round_imm[mode]);
		s = FP_R;
	}
	x_cvt_to_g(x, wide, f.dbl, mode == 3, RAX, s);
	if (!is_unsigned) {
		x_alu_imm(x, w, X_CMP, RAX, 1);
		t_slow(t, CC_O);
	} else if (quiet && !w) {
		x_mov(x, true, RCX, RAX);
		x_shift(x, true, X_SHR, RCX, 32);
		t_slow(t, CC_NE);
	}
	if (quiet)
		x_v3i(x, f.dbl ? V_ROUNDSD : V_ROUNDSS, FP_R, n, n, round_imm[mode]);
	g_commit(t, in->rd, RAX);
}

/* SCVTF and UCVTF of a general register, also fixed point (bit 21 is clear). */
LOWER(fcvt_from_g)
{
	struct fp_form f = fp_form(in);
	struct x86 *x = &t->x;
	bool w = is_x(in), is_unsigned = (in->word & (1u << 16)) != 0;
	int r, d;

	v_check_fp(t);
	r = g_read(t, w, in->rn, RAX);
	if (is_unsigned && w) {
		x_test(x, true, r, r);
		t_slow(t, CC_S);
	} else if (is_unsigned) {
		x_mov(x, false, RAX, r);
		r = RAX;
		w = true;
	}
	d = v_write(t, in->rd);
	fp_from_g(t, w, f.dbl, d, r);
	if ((in->word & (1u << 21)) == 0) {
		/* A power of two: exact, and nothing gets tiny. */
		unsigned bits = 64u - in->a;
		uint64_t scale = f.dbl ? (uint64_t)(1023 - bits) << 52 : (127 - bits) << 23;

		x_v3c(x, FP_OPS(MUL)[f.i], d, d, v_const(t, scale, 0), 0);
	}
	v_set_zero_above(t, d, f.dbl ? 3 : 2);
}

/* -- rounding: NaNs come back quiet on both sides --------------------------------------------------- */

/* Scalar: opcode 18:15 is 8 N, 9 P, 10 M, 11 Z, 14 X, 15 I; vector: U, bits 23 and 12. */
LOWER(frint)
{
	static const uint8_t scalar[8] = { ROUND_QUIET | ROUND_N, ROUND_QUIET | ROUND_P,
		ROUND_QUIET | ROUND_M, ROUND_QUIET | ROUND_Z, 0, 0, ROUND_MXCSR,
		ROUND_QUIET | ROUND_MXCSR };
	static const uint8_t vector[8] = { ROUND_QUIET | ROUND_N, ROUND_QUIET | ROUND_M,
		ROUND_QUIET | ROUND_P, ROUND_QUIET | ROUND_Z, 0, ROUND_MXCSR, 0,
		ROUND_QUIET | ROUND_MXCSR };
	struct fp_form f = fp_form(in);
	unsigned imm;
	bool clean;
	int n, d;

	if (f.scalar)
		imm = scalar[FIELD(in->word, 15, 3)];
	else
		imm = vector[FIELD(in->word, 29, 1) << 2 | FIELD(in->word, 23, 1) << 1 |
			     FIELD(in->word, 12, 1)];
	v_check_fp(t);
	n = fp_read(t, f, in->rn, FP_N);
	clean = !f.scalar || fp_clean(t, f, n);
	d = v_write(t, in->rd);
	if (f.scalar)
		x_v3i(&t->x, f.dbl ? V_ROUNDSD : V_ROUNDSS, d, n, n, imm);
	else
		x_v2i(&t->x, f.dbl ? V_ROUNDPD : V_ROUNDPS, d, n, imm);
	fp_write(t, f, in->rd, d, clean);
}

/*
 * Numbers larger than the fraction has bits, infinities and NaNs go to the
 * handler; so do negative ones if `positive`.
 */
static void
check_ties_away(struct tr *t, struct fp_form f, int n, bool positive)
{
	struct x86 *x = &t->x;

	x_g_from_v(x, f.dbl, RAX, n);
	if (!positive)
		x_alu(x, f.dbl, X_ADD, RAX, RAX);
	x_shift(x, f.dbl, X_SHR, RAX, f.dbl ? (positive ? 52 : 53) : (positive ? 23 : 24));
	x_alu_imm(x, false, X_CMP, RAX, f.dbl ? 1023 + 52 : 127 + 23);
	t_slow(t, CC_AE);
}

static const uint8_t *
sign_bit(struct tr *t, struct fp_form f)
{
	return (fp_const(t, f, UINT64_C(1) << 31, UINT64_C(1) << 63));
}

/*
 * FP_R = scalar n rounded to nearest, ties away from zero; nothing is raised.
 * Every step is exact: the fraction is less than 1, twice it less than 2, and
 * truncated it is what to add.
 */
static void
ties_away(struct tr *t, struct fp_form f, int n)
{
	const unsigned round = f.dbl ? V_ROUNDSD : V_ROUNDSS;
	struct x86 *x = &t->x;

	x_v3i(x, round, FP_R, n, n, ROUND_QUIET | ROUND_Z);
	x_v3(x, FP_OPS(SUB)[f.i], FP_T, n, FP_R);
	x_v3(x, FP_OPS(ADD)[f.i], FP_T, FP_T, FP_T);
	x_v3i(x, round, FP_T, FP_T, FP_T, ROUND_QUIET | ROUND_Z);
	x_v3(x, FP_OPS(ADD)[f.i], FP_R, FP_R, FP_T);
}

/*
 * With AVX-512: FP_R = what truncated is that, with n's sign: n and a half away
 * from zero, with the sum rounded towards zero. A fraction below a half is so by
 * one unit in the last place at least, and cannot get over the next integer.
 */
static void
half_away(struct tr *t, struct fp_form f, int n)
{
	struct x86 *x = &t->x;

	x_v3c(x, V_PAND, FP_T, n, sign_bit(t, f), 0);
	x_v3c(x, V_POR, FP_T, FP_T,
	    fp_const(t, f, UINT64_C(0x3f000000), UINT64_C(0x3fe0000000000000)), 0);
	x_v3(x, f.dbl ? V_ADDSD_RZ : V_ADDSS_RZ, FP_R, n, FP_T);
}

LOWER(frinta)
{
	struct fp_form f = fp_form(in);
	struct x86 *x = &t->x;
	bool clean;
	int n, d;

	v_check_fp(t);
	n = v_read(t, in->rn);
	check_ties_away(t, f, n, false);
	if ((jit_host & HOST_AVX512) != 0) {
		half_away(t, f, n);
		clean = fp_clean(t, f, n);
		d = v_write(t, in->rd);
		x_v3i(x, f.dbl ? V_ROUNDSD : V_ROUNDSS, d, FP_R, FP_R, ROUND_QUIET | ROUND_Z);
		fp_write(t, f, in->rd, d, clean);
		return;
	}
	ties_away(t, f, n);
	/* The sign of a zero. */
	x_v3c(x, V_PAND, FP_T, n, sign_bit(t, f), 0);
	x_v3(x, V_POR, FP_R, FP_R, FP_T);
	fp_write(t, f, in->rd, FP_R, false);
}

/* FCVTAS and FCVTAU to a general register; bit 16: unsigned. */
LOWER(fcvta_to_g)
{
	struct fp_form f = fp_form(in);
	bool w = is_x(in), is_unsigned = (in->word & (1u << 16)) != 0;
	struct x86 *x = &t->x;
	int n;

	v_check_fp(t);
	n = v_read(t, in->rn);
	check_ties_away(t, f, n, is_unsigned);
	if ((jit_host & HOST_AVX512) != 0) {
		half_away(t, f, n);
		x_cvt_to_g_quiet(x, w || is_unsigned, f.dbl, RAX, FP_R);
	} else {
		ties_away(t, f, n);
		x_cvt_to_g(x, w || is_unsigned, f.dbl, true, RAX, FP_R);
	}
	if (!w && !is_unsigned) {
		x_alu_imm(x, false, X_CMP, RAX, 1);
		t_slow(t, CC_O);
	} else if (!w) {
		x_mov(x, true, RCX, RAX);
		x_shift(x, true, X_SHR, RCX, 32);
		t_slow(t, CC_NE);
	}
	/* Inexact, now that it fits. */
	x_v3i(x, f.dbl ? V_ROUNDSD : V_ROUNDSS, FP_R, n, n, ROUND_Z);
	g_commit(t, in->rd, RAX);
}

/* -- integers in vectors --------------------------------------------------------------------------- */

/* Two 64-bit integers, or one, in RAX and RCX to doubles in d. */
static void
doubles(struct tr *t, struct fp_form f, int d)
{
	fp_from_g(t, true, true, FP_R, RAX);
	if (!f.scalar) {
		fp_from_g(t, true, true, FP_T, RCX);
		x_v3(&t->x, V_UNPCKLPD, d, FP_R, FP_T);
	} else
		x_vmov(&t->x, d, FP_R);
}

LOWER(scvtf)
{
	struct fp_form f = fp_form(in);
	struct x86 *x = &t->x;
	int n, d;

	v_check_fp(t);
	n = fp_read(t, f, in->rn, FP_N);
	if (f.dbl) {
		x_g_from_v(x, true, RAX, n);
		if (!f.scalar)
			x_pextr(x, 3, RCX, n, 1);
		d = v_write(t, in->rd);
		doubles(t, f, d);
	} else if (f.scalar) {
		x_g_from_v(x, false, RAX, n);
		d = v_write(t, in->rd);
		fp_from_g(t, false, false, d, RAX);
	} else {
		d = v_write(t, in->rd);
		x_v2(x, V_CVTDQ2PS, d, n);
	}
	fp_write(t, f, in->rd, d, true);
}

LOWER(ucvtf)
{
	struct fp_form f = fp_form(in);
	struct x86 *x = &t->x;
	int n, d;

	v_check_fp(t);
	n = fp_read(t, f, in->rn, FP_N);
	if (f.dbl) {
		x_g_from_v(x, true, RAX, n);
		x_test(x, true, RAX, RAX);
		t_slow(t, CC_S);
		if (!f.scalar) {
			x_pextr(x, 3, RCX, n, 1);
			x_test(x, true, RCX, RCX);
			t_slow(t, CC_S);
		}
		d = v_write(t, in->rd);
		doubles(t, f, d);
	} else if (f.scalar) {
		x_g_from_v(x, false, RAX, n);
		d = v_write(t, in->rd);
		fp_from_g(t, true, false, d, RAX);
	} else {
		/* Both halves of a lane convert exactly; the sum is rounded once. */
		x_vshift(x, VS_PSRLD, FP_T, n, 16);
		x_v2(x, V_CVTDQ2PS, FP_T, FP_T);
		x_v3c(x, V_MULPS, FP_T, FP_T, fp_const_all(t, f, 0x47800000, 0), 0);
		x_v3c(x, V_PAND, FP_R, n, fp_const_all(t, f, 0xffff, 0), 0);
		x_v2(x, V_CVTDQ2PS, FP_R, FP_R);
		d = v_write(t, in->rd);
		x_v3(x, V_ADDPS, d, FP_R, FP_T);
	}
	fp_write(t, f, in->rd, d, true);
}

/* The host's answer for "invalid" goes to the handler. */
LOWER(fcvtzs)
{
	struct fp_form f = fp_form(in);
	struct x86 *x = &t->x;
	int n, d;

	v_check_fp(t);
	n = fp_read(t, f, in->rn, FP_N);
	if (!f.dbl && !f.scalar) {
		x_v2(x, V_CVTTPS2DQ, FP_R, n);
		x_v3c(x, V_PCMPEQD, FP_T, FP_R, fp_const_all(t, f, UINT64_C(0x80000000), 0), 0);
		x_movmskps(x, RAX, FP_T);
		x_test(x, false, RAX, RAX);
		t_slow(t, CC_NE);
		fp_write(t, f, in->rd, FP_R, true);
		return;
	}
	x_cvt_to_g(x, f.dbl, f.dbl, true, RAX, n);
	x_alu_imm(x, f.dbl, X_CMP, RAX, 1);
	t_slow(t, CC_O);
	if (!f.scalar) {
		x_v2i(x, V_PSHUFD, FP_T, n, 0xee);
		x_cvt_to_g(x, true, true, true, RCX, FP_T);
		x_alu_imm(x, true, X_CMP, RCX, 1);
		t_slow(t, CC_O);
	}
	d = v_write(t, in->rd);
	x_v_from_g(x, f.dbl, d, RAX);
	if (!f.scalar)
		x_pinsr(x, 3, d, d, RCX, 1);
	fp_write(t, f, in->rd, d, true);
}
