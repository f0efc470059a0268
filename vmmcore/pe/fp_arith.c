/*
 * Soft add, subtract, multiply, divide, square root and the fused operations
 * (DDI 0487, shared/functions/float: FPAdd, FPSub, FPMul, FPMulX, FPDiv,
 * FPSqrt, FPMulAdd, FPMulAddH, FPRecipStepFused, FPRSqrtStepFused, BFDotAdd).
 *
 * Every operation forms a value of up to 128 bits that is exact, or jammed
 * where more than 60 bits below the ones that count are lost, and rounds once.
 */
#include "pe/fp.h"

#include "pe/fp_soft.h"

/* A finite value wide enough for a product: (-1)^sign * m * 2^exp, m < 2^126. */
struct wide {
	bool sign;
	int exp;
	fp_u128 m; /* 0: zero; else bit 125 is set */
};

static struct wide
widen(const struct fp_num *n, bool sign)
{
	struct wide w = { .sign = sign };

	if (n->type == FPT_FINITE) {
		w.m = (fp_u128)n->m << 62;
		w.exp = n->exp - 62;
	}
	return (w);
}

static struct wide
wide_mul(const struct fp_num *a, const struct fp_num *b)
{
	struct wide w = { .sign = a->sign != b->sign };

	if (a->type == FPT_FINITE && b->type == FPT_FINITE) {
		w.m = (fp_u128)a->m * b->m; /* 106 significant bits at most: ... */
		w.exp = a->exp + b->exp;
		if (w.m >> 127) {
			w.m >>= 2; /* ... these shifts lose nothing */
			w.exp += 2;
		} else {
			w.m >>= 1;
			w.exp += 1;
		}
	}
	return (w);
}

/* a + b, times 2^scale, rounded; an exact zero takes its sign from the mode. */
static uint64_t
wide_add(struct pe_fp *fp, unsigned sz, struct wide a, struct wide b, int scale,
    enum fp_rounding rounding)
{
	struct wide t;
	unsigned d;

	if (a.m == 0 && b.m == 0)
		return (fp_zero(sz, a.sign == b.sign ? a.sign : rounding == FP_NEGINF));
	if (a.m == 0)
		return (fp_round(fp, sz, b.sign, b.exp + scale, b.m, rounding));
	if (b.m == 0)
		return (fp_round(fp, sz, a.sign, a.exp + scale, a.m, rounding));
	if (a.exp < b.exp) {
		t = a;
		a = b;
		b = t;
	}
	d = (unsigned)(a.exp - b.exp);
	b.m = fp_shr_jam(b.m, d);
	if (a.sign == b.sign) {
		a.m += b.m;
	} else if (a.m >= b.m) {
		a.m -= b.m;
	} else {
		a.m = b.m - a.m;
		a.sign = b.sign;
	}
	if (a.m == 0)
		return (fp_zero(sz, rounding == FP_NEGINF));
	return (fp_round(fp, sz, a.sign, a.exp + scale, a.m, rounding));
}

static uint64_t
add_sub(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b, bool sub, enum fp_rounding rounding)
{
	struct fp_num n1 = fp_unpack(fp, sz, a), n2 = fp_unpack(fp, sz, b);
	uint64_t result;
	bool sign2 = n2.sign != sub;

	if (fp_process_nans(fp, sz, &n1, &n2, a, b, &result))
		return (result);
	if (n1.type == FPT_INF) {
		if (n2.type == FPT_INF && n1.sign != sign2)
			return (fp_invalid(fp, sz));
		return (fp_infinity(sz, n1.sign));
	}
	if (n2.type == FPT_INF)
		return (fp_infinity(sz, sign2));
	return (wide_add(fp, sz, widen(&n1, n1.sign), widen(&n2, sign2), 0, rounding));
}

uint64_t
fp_soft_add(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (add_sub(fp, sz, a, b, false, fp_rmode(fp)));
}

uint64_t
fp_soft_sub(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (add_sub(fp, sz, a, b, true, fp_rmode(fp)));
}

static uint64_t
mul(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b, bool extended, enum fp_rounding rounding)
{
	struct fp_num n1 = fp_unpack(fp, sz, a), n2 = fp_unpack(fp, sz, b);
	bool sign = n1.sign != n2.sign;
	uint64_t result;

	if (fp_process_nans(fp, sz, &n1, &n2, a, b, &result))
		return (result);
	if (n1.type == FPT_INF || n2.type == FPT_INF) {
		if (n1.type == FPT_ZERO || n2.type == FPT_ZERO) {
			if (!extended)
				return (fp_invalid(fp, sz));
			return (fp_expand_imm(sz, 0) | fp_zero(sz, sign)); /* 2.0 */
		}
		return (fp_infinity(sz, sign));
	}
	if (n1.type == FPT_ZERO || n2.type == FPT_ZERO)
		return (fp_zero(sz, sign));
	return (fp_round(fp, sz, sign, n1.exp + n2.exp, (fp_u128)n1.m * n2.m, rounding));
}

uint64_t
fp_soft_mul(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (mul(fp, sz, a, b, false, fp_rmode(fp)));
}

uint64_t
fp_mulx(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (mul(fp, sz, a, b, true, fp_rmode(fp)));
}

uint64_t
fp_soft_div(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	struct fp_num n1 = fp_unpack(fp, sz, a), n2 = fp_unpack(fp, sz, b);
	bool sign = n1.sign != n2.sign;
	uint64_t result;
	fp_u128 num, q;

	if (fp_process_nans(fp, sz, &n1, &n2, a, b, &result))
		return (result);
	if ((n1.type == FPT_INF && n2.type == FPT_INF) ||
	    (n1.type == FPT_ZERO && n2.type == FPT_ZERO))
		return (fp_invalid(fp, sz));
	if (n1.type == FPT_INF)
		return (fp_infinity(sz, sign));
	if (n2.type == FPT_ZERO) {
		fp->fpsr |= FPSR_DZC;
		return (fp_infinity(sz, sign));
	}
	if (n1.type == FPT_ZERO || n2.type == FPT_INF)
		return (fp_zero(sz, sign));
	num = (fp_u128)n1.m << 63;
	q = num / n2.m; /* 63 or 64 bits */
	q = (q << 1) | (q * n2.m != num);
	return (fp_round(fp, sz, sign, n1.exp - n2.exp - 64, q, fp_rmode(fp)));
}

uint64_t
fp_soft_sqrt(struct pe_fp *fp, unsigned sz, uint64_t a)
{
	struct fp_num n = fp_unpack(fp, sz, a);
	uint64_t r = 0, bit;
	fp_u128 x;
	int shift;

	if (fp_is_nan(&n))
		return (fp_process_nan(fp, sz, &n, a));
	if (n.type == FPT_ZERO)
		return (fp_zero(sz, n.sign));
	if (n.sign)
		return (fp_invalid(fp, sz));
	if (n.type == FPT_INF)
		return (fp_infinity(sz, false));
	/* an even exponent and as many bits as fit below 2^128 */
	shift = (n.exp & 1) ? 63 : 62;
	x = (fp_u128)n.m << shift;
	for (bit = BIT(63); bit != 0; bit >>= 1) {
		uint64_t t = r | bit;

		if ((fp_u128)t * t <= x)
			r = t;
	}
	return (fp_round(fp, sz, false, (n.exp - shift) / 2 - 1,
	    ((fp_u128)r << 1) | ((fp_u128)r * r != x), fp_rmode(fp)));
}

/* What is left of FPMulAdd() after the NaNs. */
static uint64_t
mul_add(struct pe_fp *fp, unsigned sz, const struct fp_num *na, const struct fp_num *n1,
    const struct fp_num *n2)
{
	bool inf_p = n1->type == FPT_INF || n2->type == FPT_INF;
	bool zero_p = n1->type == FPT_ZERO || n2->type == FPT_ZERO;
	bool sign_p = n1->sign != n2->sign;

	if (inf_p && (zero_p || (na->type == FPT_INF && na->sign != sign_p)))
		return (fp_invalid(fp, sz));
	if (na->type == FPT_INF)
		return (fp_infinity(sz, na->sign));
	if (inf_p)
		return (fp_infinity(sz, sign_p));
	return (wide_add(fp, sz, widen(na, na->sign), wide_mul(n1, n2), 0, fp_rmode(fp)));
}

/* Infinity times zero with a quiet NaN as the addend is still invalid. */
static bool
inf_times_zero(const struct fp_num *n1, const struct fp_num *n2)
{
	return ((n1->type == FPT_INF && n2->type == FPT_ZERO) ||
		(n1->type == FPT_ZERO && n2->type == FPT_INF));
}

uint64_t
fp_soft_muladd(struct pe_fp *fp, unsigned sz, uint64_t acc, uint64_t a, uint64_t b)
{
	struct fp_num na = fp_unpack(fp, sz, acc);
	struct fp_num n1 = fp_unpack(fp, sz, a), n2 = fp_unpack(fp, sz, b);

	if (fp_is_nan(&na) || fp_is_nan(&n1) || fp_is_nan(&n2)) {
		if (na.type == FPT_QNAN && inf_times_zero(&n1, &n2))
			return (fp_invalid(fp, sz));
		/* FPProcessNaNs3(): signaling first, then operand order */
		if (na.type == FPT_SNAN)
			return (fp_process_nan(fp, sz, &na, acc));
		if (n1.type == FPT_SNAN)
			return (fp_process_nan(fp, sz, &n1, a));
		if (n2.type == FPT_SNAN)
			return (fp_process_nan(fp, sz, &n2, b));
		if (na.type == FPT_QNAN)
			return (fp_process_nan(fp, sz, &na, acc));
		if (n1.type == FPT_QNAN)
			return (fp_process_nan(fp, sz, &n1, a));
		return (fp_process_nan(fp, sz, &n2, b));
	}
	return (mul_add(fp, sz, &na, &n1, &n2));
}

/* A half-precision NaN operand as a single-precision result. */
static uint64_t
nan_h(struct pe_fp *fp, const struct fp_num *n, uint64_t a)
{
	uint64_t h = fp_process_nan(fp, FP_H, n, a);

	return (((h & 0x8000) << 16) | fp_infinity(FP_S, false) | ((h & 0x3ff) << 13));
}

uint64_t
fp_muladd_h(struct pe_fp *fp, uint64_t acc, uint64_t a, uint64_t b)
{
	struct fp_num na = fp_unpack(fp, FP_S, acc);
	struct fp_num n1 = fp_unpack(fp, FP_H, a), n2 = fp_unpack(fp, FP_H, b);

	if (fp_is_nan(&na) || fp_is_nan(&n1) || fp_is_nan(&n2)) {
		if (na.type == FPT_QNAN && inf_times_zero(&n1, &n2))
			return (fp_invalid(fp, FP_S));
		if (na.type == FPT_SNAN)
			return (fp_process_nan(fp, FP_S, &na, acc));
		if (n1.type == FPT_SNAN)
			return (nan_h(fp, &n1, a));
		if (n2.type == FPT_SNAN)
			return (nan_h(fp, &n2, b));
		if (na.type == FPT_QNAN)
			return (fp_process_nan(fp, FP_S, &na, acc));
		if (n1.type == FPT_QNAN)
			return (nan_h(fp, &n1, a));
		return (nan_h(fp, &n2, b));
	}
	return (mul_add(fp, FP_S, &na, &n1, &n2));
}

/* (c - a * b) * 2^scale; `zero_inf` is the answer for zero times infinity. */
static uint64_t
step(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b, struct wide c, int scale,
    uint64_t zero_inf)
{
	struct fp_num n1, n2;
	uint64_t result;

	a = fp_neg(sz, a);
	n1 = fp_unpack(fp, sz, a);
	n2 = fp_unpack(fp, sz, b);
	if (fp_process_nans(fp, sz, &n1, &n2, a, b, &result))
		return (result);
	if (inf_times_zero(&n1, &n2))
		return (zero_inf);
	if (n1.type == FPT_INF || n2.type == FPT_INF)
		return (fp_infinity(sz, n1.sign != n2.sign));
	return (wide_add(fp, sz, c, wide_mul(&n1, &n2), scale, fp_rmode(fp)));
}

uint64_t
fp_recps(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	const struct wide two = { .m = (fp_u128)2 << 124, .exp = -124 };

	return (step(fp, sz, a, b, two, 0, fp_expand_imm(sz, 0x00)));
}

uint64_t
fp_rsqrts(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	const struct wide three = { .m = (fp_u128)3 << 124, .exp = -124 };

	return (step(fp, sz, a, b, three, -1, fp_expand_imm(sz, 0x78)));
}

/*
 * BFMul() and BFAdd(): single precision, rounding to odd, denormals flushed,
 * default NaNs, overflow to infinity, and no flags for the guest.
 */
static uint64_t
bf_op(uint64_t a, uint64_t b, bool product)
{
	struct pe_fp fp = { .fpcr = FPCR_FZ | FPCR_DN };
	uint64_t r =
	    product ? mul(&fp, FP_S, a, b, false, FP_ODD) : add_sub(&fp, FP_S, a, b, false, FP_ODD);

	return (fp.fpsr & FPSR_OFC ? fp_infinity(FP_S, (r >> 31) != 0) : r);
}

uint32_t
fp_bf_dot_add(uint32_t acc, uint32_t a, uint32_t b)
{
	uint64_t low = bf_op((uint32_t)(a << 16), (uint32_t)(b << 16), true);
	uint64_t high = bf_op(a & 0xffff0000, b & 0xffff0000, true);

	return ((uint32_t)bf_op(acc, bf_op(low, high, false), false));
}
