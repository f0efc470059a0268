/*
 * Reciprocal and reciprocal square root estimates (DDI 0487,
 * shared/functions/float: FPRecipEstimate, FPRSqrtEstimate, FPRecpX,
 * RecipEstimate, RecipSqrtEstimate, UnsignedRecipEstimate,
 * UnsignedRSqrtEstimate).
 */
#include "pe/fp.h"

#include "pe/fp_soft.h"

/* RecipEstimate(): 256 <= a < 512 stands for [0.5, 1) */
static unsigned
recip_estimate(unsigned a)
{
	return (((1u << 19) / (a * 2 + 1) + 1) / 2);
}

/* RecipSqrtEstimate(): 128 <= a < 512 stands for [0.25, 1) */
static unsigned
rsqrt_estimate(unsigned a)
{
	unsigned b = 512;

	if (a < 256)
		a = a * 2 + 1;
	else
		a = (a / 2 * 2 + 1) * 2;
	while ((uint64_t)a * (b + 1) * (b + 1) < (UINT64_C(1) << 28))
		b++;
	return ((b + 1) / 2);
}

/* The fraction as 52 bits, and the biased exponent. */
static uint64_t
frac52(unsigned sz, uint64_t a, int *exp)
{
	unsigned f = fp_frac_bits(sz);

	*exp = (int)((a >> f) & ((1u << fp_exp_bits(sz)) - 1));
	return ((a & ((UINT64_C(1) << f) - 1)) << (52 - f));
}

static uint64_t
pack52(unsigned sz, bool sign, int exp, uint64_t frac)
{
	unsigned f = fp_frac_bits(sz);

	return (fp_zero(sz, sign) | ((uint64_t)exp << f) | (frac >> (52 - f)));
}

#define FRAC52 ((UINT64_C(1) << 52) - 1)

uint64_t
fp_recpe(struct pe_fp *fp, unsigned sz, uint64_t a)
{
	struct fp_num n = fp_unpack(fp, sz, a);
	const int bias = (1 << (fp_exp_bits(sz) - 1)) - 1;
	const enum fp_rounding rounding = fp_rmode(fp);
	const uint32_t fz = sz == FP_H ? FPCR_FZ16 : FPCR_FZ;
	int exp, value_exp, result_exp;
	uint64_t frac;
	bool to_inf;

	if (fp_is_nan(&n))
		return (fp_process_nan(fp, sz, &n, a));
	if (n.type == FPT_INF)
		return (fp_zero(sz, n.sign));
	if (n.type == FPT_ZERO) {
		fp->fpsr |= FPSR_DZC;
		return (fp_infinity(sz, n.sign));
	}
	value_exp = n.exp + 63; /* |value| is in [2^value_exp, 2^(value_exp+1)) */
	if (value_exp < -bias - 1) {
		to_inf = rounding == FP_TIEEVEN || rounding == (n.sign ? FP_NEGINF : FP_POSINF);
		fp->fpsr |= FPSR_OFC | FPSR_IXC;
		return (to_inf ? fp_infinity(sz, n.sign) : fp_max_normal(sz, n.sign));
	}
	if ((fp->fpcr & fz) != 0 && value_exp >= bias - 1) {
		fp->fpsr |= FPSR_UFC;
		return (fp_zero(sz, n.sign));
	}
	frac = frac52(sz, a, &exp);
	if (exp == 0) {
		if ((frac >> 51) == 0) {
			exp = -1;
			frac = (frac << 2) & FRAC52;
		} else {
			frac = (frac << 1) & FRAC52;
		}
	}
	result_exp = 2 * bias - 1 - exp;
	frac = (uint64_t)(recip_estimate(256 + (unsigned)(frac >> 44)) & 0xff) << 44;
	if (result_exp == 0) {
		frac = BIT(51) | (frac >> 1);
	} else if (result_exp == -1) {
		frac = BIT(50) | (frac >> 2);
		result_exp = 0;
	}
	return (pack52(sz, n.sign, result_exp, frac));
}

uint64_t
fp_rsqrte(struct pe_fp *fp, unsigned sz, uint64_t a)
{
	struct fp_num n = fp_unpack(fp, sz, a);
	const int bias = (1 << (fp_exp_bits(sz) - 1)) - 1;
	unsigned scaled;
	uint64_t frac;
	int exp;

	if (fp_is_nan(&n))
		return (fp_process_nan(fp, sz, &n, a));
	if (n.type == FPT_ZERO) {
		fp->fpsr |= FPSR_DZC;
		return (fp_infinity(sz, n.sign));
	}
	if (n.sign)
		return (fp_invalid(fp, sz));
	if (n.type == FPT_INF)
		return (fp_zero(sz, false));
	frac = frac52(sz, a, &exp);
	if (exp == 0) {
		while ((frac >> 51) == 0) {
			frac <<= 1;
			exp--;
		}
		frac = (frac << 1) & FRAC52;
	}
	if ((exp & 1) == 0)
		scaled = 256 + (unsigned)(frac >> 44);
	else
		scaled = 128 + (unsigned)(frac >> 45);
	return (pack52(
	    sz, false, (3 * bias - 1 - exp) / 2, (uint64_t)(rsqrt_estimate(scaled) & 0xff) << 44));
}

uint64_t
fp_recpx(struct pe_fp *fp, unsigned sz, uint64_t a)
{
	struct fp_num n = fp_unpack(fp, sz, a);
	unsigned f = fp_frac_bits(sz);
	uint64_t ones = (UINT64_C(1) << fp_exp_bits(sz)) - 1;
	uint64_t exp = (a >> f) & ones;

	if (fp_is_nan(&n))
		return (fp_process_nan(fp, sz, &n, a));
	exp = exp == 0 ? ones - 1 : exp ^ ones;
	return (fp_zero(sz, n.sign) | (exp << f));
}

uint32_t
fp_urecpe(uint32_t a)
{
	if ((a >> 31) == 0)
		return (UINT32_MAX);
	return ((uint32_t)recip_estimate(a >> 23) << 23);
}

uint32_t
fp_ursqrte(uint32_t a)
{
	if ((a >> 30) == 0)
		return (UINT32_MAX);
	return ((uint32_t)rsqrt_estimate(a >> 23) << 23);
}
