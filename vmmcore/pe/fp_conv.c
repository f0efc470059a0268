/*
 * Soft conversions between sizes, to and from integers and fixed point, and
 * rounding to integral values (DDI 0487, shared/functions/float: FPConvert,
 * FPToFixed, FixedToFP, FPToFixedJS, FPRoundInt, FPRoundIntN).
 */
#include "pe/fp.h"

#include "pe/fp_soft.h"

uint64_t
fp_soft_convert(struct pe_fp *fp, unsigned to, unsigned from, uint64_t a, enum fp_rounding rounding)
{
	/* FPUnpackCV and FPRoundCV: half precision is never flushed */
	uint32_t fpcr = fp->fpcr & ~FPCR_FZ16;
	struct fp_num n = fp_unpack_base(fp, fpcr, from, a);
	bool alt_hp = to == FP_H && (fpcr & FPCR_AHP) != 0;
	unsigned ff = fp_frac_bits(from), tf = fp_frac_bits(to);
	uint64_t frac;

	switch (n.type) {
	case FPT_QNAN:
	case FPT_SNAN:
		if (n.type == FPT_SNAN || alt_hp)
			fp->fpsr |= FPSR_IOC;
		if (alt_hp)
			return (fp_zero(to, n.sign));
		if (fpcr & FPCR_DN)
			return (fp_default_nan(to));
		frac = a & ((UINT64_C(1) << ff) - 1);
		frac = ff > tf ? frac >> (ff - tf) : frac << (tf - ff);
		return (fp_infinity(to, n.sign) | (UINT64_C(1) << (tf - 1)) | frac);
	case FPT_INF:
		if (alt_hp) {
			fp->fpsr |= FPSR_IOC;
			return (fp_zero(to, n.sign) | 0x7fff);
		}
		return (fp_infinity(to, n.sign));
	case FPT_ZERO:
		return (fp_zero(to, n.sign));
	case FPT_FINITE:
	default:
		return (fp_round_base(fp, fpcr, to, n.sign, n.exp, n.m, rounding));
	}
}

uint64_t
fp_soft_to_fixed(struct pe_fp *fp, unsigned sz, uint64_t a, unsigned fbits, unsigned bits,
    bool is_unsigned, enum fp_rounding rounding)
{
	struct fp_num n = fp_unpack(fp, sz, a);
	uint64_t mask = ~UINT64_C(0) >> (64 - bits);
	fp_u128 mag, limit;
	bool inexact, over;
	int exp;

	if (fp_is_nan(&n)) {
		fp->fpsr |= FPSR_IOC;
		return (0);
	}
	if (n.type == FPT_ZERO)
		return (0);
	/* magnitudes from 2^65 are too large for every result */
	exp = n.exp + (int)fbits;
	if (n.type == FPT_INF || exp > 1) {
		mag = (fp_u128)1 << 66;
		inexact = false;
	} else {
		mag = fp_mag_to_int(n.sign, exp, n.m, rounding, &inexact);
	}
	if (is_unsigned)
		limit = n.sign ? 0 : mask;
	else
		limit = n.sign ? (mask >> 1) + (fp_u128)1 : mask >> 1;
	over = mag > limit;
	if (over) {
		mag = limit;
		fp->fpsr |= FPSR_IOC;
	} else if (inexact) {
		fp->fpsr |= FPSR_IXC;
	}
	return ((n.sign ? -(uint64_t)mag : (uint64_t)mag) & mask);
}

uint64_t
fp_soft_from_fixed(struct pe_fp *fp, unsigned sz, uint64_t v, unsigned fbits, bool is_unsigned)
{
	bool sign = !is_unsigned && (v >> 63) != 0;

	if (v == 0)
		return (0);
	return (fp_round(fp, sz, sign, -(int)fbits, sign ? -v : v, fp_rmode(fp)));
}

uint32_t
fp_to_js(struct pe_fp *fp, uint64_t a, bool *z)
{
	struct fp_num n = fp_unpack(fp, FP_D, a);
	uint64_t frac = a & ((UINT64_C(1) << 52) - 1);
	bool inexact = false;
	uint32_t low;
	fp_u128 mag;

	*z = true;
	switch (n.type) {
	case FPT_QNAN:
	case FPT_SNAN:
	case FPT_INF:
		fp->fpsr |= FPSR_IOC;
		*z = false;
		return (0);
	case FPT_ZERO:
		/* -0 and a flushed denormal are not exact */
		if (n.sign || frac != 0)
			*z = false;
		return (0);
	case FPT_FINITE:
	default:
		break;
	}
	if (n.exp > 31) {
		/* a multiple of 2^32 */
		fp->fpsr |= FPSR_IOC;
		*z = false;
		return (0);
	}
	mag = fp_mag_to_int(n.sign, n.exp, n.m, FP_ZERO, &inexact);
	low = (uint32_t)mag;
	if (n.sign)
		low = -low;
	if (mag > (fp_u128)0x7fffffff + n.sign) {
		fp->fpsr |= FPSR_IOC;
		*z = false;
	} else if (inexact) {
		fp->fpsr |= FPSR_IXC;
		*z = false;
	}
	return (low);
}

uint64_t
fp_round_int(struct pe_fp *fp, unsigned sz, uint64_t a, enum fp_rounding rounding, bool exact)
{
	struct fp_num n = fp_unpack(fp, sz, a);
	bool inexact;
	fp_u128 mag;

	if (fp_is_nan(&n))
		return (fp_process_nan(fp, sz, &n, a));
	if (n.type == FPT_ZERO)
		return (fp_zero(sz, n.sign));
	if (n.type == FPT_INF || n.exp >= 0)
		return (a);
	mag = fp_mag_to_int(n.sign, n.exp, n.m, rounding, &inexact);
	if (inexact && exact)
		fp->fpsr |= FPSR_IXC;
	if (mag == 0)
		return (fp_zero(sz, n.sign));
	return (fp_round(fp, sz, n.sign, 0, mag, FP_ZERO));
}

uint64_t
fp_round_int_n(
    struct pe_fp *fp, unsigned sz, uint64_t a, enum fp_rounding rounding, unsigned intsize)
{
	struct fp_num n = fp_unpack(fp, sz, a);
	bool inexact = false;
	fp_u128 mag = 0;

	if (n.type == FPT_ZERO)
		return (fp_zero(sz, n.sign));
	if (n.type == FPT_FINITE && n.exp <= 1)
		mag = fp_mag_to_int(n.sign, n.exp, n.m, rounding, &inexact);
	else
		mag = (fp_u128)1 << 66; /* NaN, infinity or too large */
	if (mag > (BIT(intsize - 1) - 1) + (fp_u128)n.sign || fp_is_nan(&n)) {
		fp->fpsr |= FPSR_IOC;
		return (fp_round(fp, sz, true, 0, BIT(intsize - 1), FP_ZERO));
	}
	if (inexact)
		fp->fpsr |= FPSR_IXC;
	if (mag == 0)
		return (fp_zero(sz, n.sign));
	return (fp_round(fp, sz, n.sign, 0, mag, FP_ZERO));
}
