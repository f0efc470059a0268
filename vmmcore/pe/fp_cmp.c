/*
 * Soft comparisons, maximum and minimum (DDI 0487, shared/functions/float:
 * FPCompare, FPCompareEQ, FPCompareGE, FPCompareGT, FPMax, FPMin, FPMaxNum,
 * FPMinNum).
 */
#include "pe/fp.h"

#include "pe/fp_soft.h"

/* -1, 0 or 1 for numbers that are not NaNs; flushed inputs count as zero. */
static int
order(unsigned sz, const struct fp_num *n1, const struct fp_num *n2, uint64_t a, uint64_t b)
{
	int64_t k1 = n1->type == FPT_ZERO ? 0 : (int64_t)fp_abs(sz, a);
	int64_t k2 = n2->type == FPT_ZERO ? 0 : (int64_t)fp_abs(sz, b);

	if (n1->sign)
		k1 = -k1;
	if (n2->sign)
		k2 = -k2;
	return ((k1 > k2) - (k1 < k2));
}

uint32_t
fp_soft_compare(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b, bool signal_nans)
{
	struct fp_num n1 = fp_unpack(fp, sz, a), n2 = fp_unpack(fp, sz, b);
	int o;

	if (fp_is_nan(&n1) || fp_is_nan(&n2)) {
		if (signal_nans || n1.type == FPT_SNAN || n2.type == FPT_SNAN)
			fp->fpsr |= FPSR_IOC;
		return (3u << 28);
	}
	o = order(sz, &n1, &n2, a, b);
	return ((o == 0 ? 6u : o < 0 ? 8u : 2u) << 28);
}

bool
fp_soft_eq(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (fp_soft_compare(fp, sz, a, b, false) == 6u << 28);
}

bool
fp_soft_ge(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	uint32_t c = fp_soft_compare(fp, sz, a, b, true);

	return (c == 6u << 28 || c == 2u << 28);
}

bool
fp_soft_gt(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (fp_soft_compare(fp, sz, a, b, true) == 2u << 28);
}

static uint64_t
max_min(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b, bool max)
{
	struct fp_num n1 = fp_unpack(fp, sz, a), n2 = fp_unpack(fp, sz, b);
	uint64_t result;
	int o;

	if (fp_process_nans(fp, sz, &n1, &n2, a, b, &result))
		return (result);
	o = order(sz, &n1, &n2, a, b);
	if (n1.type == FPT_ZERO && n2.type == FPT_ZERO)
		return (fp_zero(sz, max ? n1.sign && n2.sign : n1.sign || n2.sign));
	if (max ? o > 0 : o < 0)
		return (n1.type == FPT_ZERO ? fp_zero(sz, n1.sign) : a);
	return (n2.type == FPT_ZERO ? fp_zero(sz, n2.sign) : b);
}

uint64_t
fp_soft_max(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (max_min(fp, sz, a, b, true));
}

uint64_t
fp_soft_min(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (max_min(fp, sz, a, b, false));
}

/* A single quiet NaN counts as the infinity that loses. */
static uint64_t
max_min_num(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b, bool max)
{
	struct fp_num n1 = fp_unpack(fp, sz, a), n2 = fp_unpack(fp, sz, b);

	if (n1.type == FPT_QNAN && n2.type != FPT_QNAN)
		a = fp_infinity(sz, max);
	else if (n1.type != FPT_QNAN && n2.type == FPT_QNAN)
		b = fp_infinity(sz, max);
	return (max_min(fp, sz, a, b, max));
}

uint64_t
fp_soft_maxnm(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (max_min_num(fp, sz, a, b, true));
}

uint64_t
fp_soft_minnm(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (max_min_num(fp, sz, a, b, false));
}
