/*
 * The core of the soft floating-point arithmetic: unpacking, NaN rules and
 * rounding (DDI 0487, shared/functions/float: FPUnpackBase, FPProcessNaN,
 * FPProcessNaNs, FPRoundBase, VFPExpandImm).
 *
 * Not here: operations (fp_arith.c, fp_cmp.c, fp_conv.c, fp_est.c).
 */
#include "pe/fp.h"

#include "pe/fp_soft.h"

static int
fp_min_exp(unsigned sz)
{
	return (2 - (1 << (fp_exp_bits(sz) - 1)));
}

uint64_t
fp_expand_imm(unsigned sz, unsigned imm8)
{
	unsigned e = fp_exp_bits(sz), f = fp_frac_bits(sz);
	uint64_t b = (imm8 >> 6) & 1;
	uint64_t exp;

	/* NOT(b) : Replicate(b, E - 3) : imm8<5:4> */
	exp = ((b ^ 1) << (e - 1)) | ((b ? (UINT64_C(1) << (e - 3)) - 1 : 0) << 2) |
	      ((imm8 >> 4) & 3);
	return ((((uint64_t)imm8 >> 7) << (fp_bits(sz) - 1)) | (exp << f) |
		((uint64_t)(imm8 & 15) << (f - 4)));
}

struct fp_num
fp_unpack_base(struct pe_fp *fp, uint32_t fpcr, unsigned sz, uint64_t a)
{
	unsigned f = fp_frac_bits(sz), shift;
	uint64_t frac = a & ((UINT64_C(1) << f) - 1);
	unsigned exp_max = (1u << fp_exp_bits(sz)) - 1;
	unsigned exp = (unsigned)(a >> f) & exp_max;
	struct fp_num n = { .sign = ((a >> (fp_bits(sz) - 1)) & 1) != 0 };

	if (exp == 0) {
		n.type = FPT_ZERO;
		if (frac == 0)
			return (n);
		if (sz == FP_H) {
			/* no Input Denormal exception for half precision */
			if (fpcr & FPCR_FZ16)
				return (n);
		} else if (fpcr & FPCR_FZ) {
			fp->fpsr |= FPSR_IDC;
			return (n);
		}
		n.type = FPT_FINITE;
		shift = (unsigned)__builtin_clzll(frac);
		n.m = frac << shift;
		n.exp = fp_min_exp(sz) - (int)f - (int)shift;
		return (n);
	}
	if (exp == exp_max && !(sz == FP_H && (fpcr & FPCR_AHP))) {
		if (frac == 0)
			n.type = FPT_INF;
		else
			n.type = (frac >> (f - 1)) != 0 ? FPT_QNAN : FPT_SNAN;
		return (n);
	}
	n.type = FPT_FINITE;
	n.m = (frac | (UINT64_C(1) << f)) << (63 - f);
	n.exp = fp_min_exp(sz) + (int)exp - 1 - 63;
	return (n);
}

uint64_t
fp_process_nan(struct pe_fp *fp, unsigned sz, const struct fp_num *n, uint64_t a)
{
	if (n->type == FPT_SNAN) {
		a |= UINT64_C(1) << (fp_frac_bits(sz) - 1);
		fp->fpsr |= FPSR_IOC;
	}
	return (fp->fpcr & FPCR_DN ? fp_default_nan(sz) : a);
}

bool
fp_process_nans(struct pe_fp *fp, unsigned sz, const struct fp_num *n1, const struct fp_num *n2,
    uint64_t a, uint64_t b, uint64_t *result)
{
	if (likely(!fp_is_nan(n1) && !fp_is_nan(n2)))
		return (false);
	if (n1->type == FPT_SNAN)
		*result = fp_process_nan(fp, sz, n1, a);
	else if (n2->type == FPT_SNAN)
		*result = fp_process_nan(fp, sz, n2, b);
	else if (n1->type == FPT_QNAN)
		*result = fp_process_nan(fp, sz, n1, a);
	else
		*result = fp_process_nan(fp, sz, n2, b);
	return (true);
}

uint64_t
fp_invalid(struct pe_fp *fp, unsigned sz)
{
	fp->fpsr |= FPSR_IOC;
	return (fp_default_nan(sz));
}

static unsigned
clz128(fp_u128 m)
{
	uint64_t hi = (uint64_t)(m >> 64);

	return ((unsigned)(hi != 0 ? __builtin_clzll(hi) : 64 + __builtin_clzll((uint64_t)m)));
}

uint64_t
fp_round_base(struct pe_fp *fp, uint32_t fpcr, unsigned sz, bool sign, int exp, fp_u128 m,
    enum fp_rounding rounding)
{
	const unsigned f = fp_frac_bits(sz);
	const int exp_max = (1 << fp_exp_bits(sz)) - 1, min_exp = fp_min_exp(sz);
	const uint64_t sign_bits = sign ? fp_sign_bit(sz) : 0;
	uint64_t mant;
	int biased, shift, norm = (int)clz128(m);
	bool half, rest, up, to_inf, inexact;

	m <<= norm;
	exp += 127 - norm; /* the value is in [2^exp, 2^(exp+1)) */

	/* Flushing sets UFC and nothing else. */
	if (exp < min_exp && (fpcr & (sz == FP_H ? FPCR_FZ16 : FPCR_FZ)) != 0) {
		fp->fpsr |= FPSR_UFC;
		return (sign_bits);
	}

	biased = exp - min_exp + 1;
	shift = 127 - (int)f;
	if (biased <= 0) {
		shift += 1 - biased;
		biased = 0;
	}
	if (shift > 128) {
		mant = 0;
		half = false;
		rest = true;
	} else if (shift == 128) {
		mant = 0;
		half = true;
		rest = (m << 1) != 0;
	} else {
		mant = (uint64_t)(m >> shift);
		half = ((m >> (shift - 1)) & 1) != 0;
		rest = (m & (((fp_u128)1 << (shift - 1)) - 1)) != 0;
	}
	inexact = half || rest;

	/* Tininess is detected before rounding. */
	if (biased == 0 && inexact)
		fp->fpsr |= FPSR_UFC;

	switch (rounding) {
	case FP_TIEEVEN:
		up = half && (rest || (mant & 1) != 0);
		to_inf = true;
		break;
	case FP_TIEAWAY:
		up = half;
		to_inf = true;
		break;
	case FP_POSINF:
		up = inexact && !sign;
		to_inf = !sign;
		break;
	case FP_NEGINF:
		up = inexact && sign;
		to_inf = sign;
		break;
	case FP_ZERO:
	case FP_ODD:
	default:
		up = false;
		to_inf = false;
		break;
	}
	if (up) {
		mant++;
		if (mant == UINT64_C(1) << f)
			biased = 1; /* from denormal to normal */
		if (mant == UINT64_C(1) << (f + 1)) {
			biased++;
			mant >>= 1;
		}
	}
	if (inexact && rounding == FP_ODD)
		mant |= 1;

	if (sz == FP_H && (fpcr & FPCR_AHP)) {
		if (biased > exp_max) {
			fp->fpsr |= FPSR_IOC;
			return (sign_bits | 0x7fff);
		}
	} else if (biased >= exp_max) {
		fp->fpsr |= FPSR_OFC | FPSR_IXC;
		return (to_inf ? fp_infinity(sz, sign) : fp_max_normal(sz, sign));
	}
	if (inexact)
		fp->fpsr |= FPSR_IXC;
	return (sign_bits | ((uint64_t)biased << f) | (mant & ((UINT64_C(1) << f) - 1)));
}

fp_u128
fp_mag_to_int(bool sign, int exp, uint64_t m, enum fp_rounding rounding, bool *inexact)
{
	fp_u128 i;
	bool half, rest, up;

	*inexact = false;
	if (exp >= 0)
		return ((fp_u128)m << exp);
	if (exp < -64) {
		i = 0;
		half = false;
		rest = true;
	} else {
		fp_u128 w = (fp_u128)m << 64 >> -exp; /* 64.64 fixed point */

		i = w >> 64;
		half = ((uint64_t)w >> 63) != 0;
		rest = ((uint64_t)w << 1) != 0;
	}
	*inexact = half || rest;
	switch (rounding) {
	case FP_TIEEVEN:
		up = half && (rest || (i & 1) != 0);
		break;
	case FP_TIEAWAY:
		up = half;
		break;
	case FP_POSINF:
		up = *inexact && !sign;
		break;
	case FP_NEGINF:
		up = *inexact && sign;
		break;
	case FP_ZERO:
	case FP_ODD:
	default:
		up = false;
		break;
	}
	return (i + up);
}
