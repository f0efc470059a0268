/*
 * Inside of the soft arithmetic, shared by fp.c and fp_*.c only: unpacked
 * numbers, NaN rules and the one rounding function.
 */
#ifndef PE_FP_SOFT_H
#define PE_FP_SOFT_H

#include "pe/fp.h"

typedef unsigned __int128 fp_u128;
typedef __int128 fp_i128;

enum fp_type { FPT_ZERO, FPT_FINITE, FPT_INF, FPT_QNAN, FPT_SNAN };

/* A finite number is (-1)^sign * m * 2^exp with bit 63 of m set. */
struct fp_num {
	enum fp_type type;
	bool sign;
	int exp;
	uint64_t m;
};

/*
 * FPUnpackBase(): `fpcr` is FPCR without AHP for arithmetic (FPUnpack) and
 * without FZ16 for conversions (FPUnpackCV).
 */
struct fp_num fp_unpack_base(struct pe_fp *, uint32_t fpcr, unsigned sz, uint64_t a);

static inline struct fp_num
fp_unpack(struct pe_fp *fp, unsigned sz, uint64_t a)
{
	return (fp_unpack_base(fp, fp->fpcr & ~FPCR_AHP, sz, a));
}

static inline bool
fp_is_nan(const struct fp_num *n)
{
	return (n->type >= FPT_QNAN);
}

/* FPProcessNaN(), FPProcessNaNs(): the latter says whether there was one. */
uint64_t fp_process_nan(struct pe_fp *, unsigned sz, const struct fp_num *, uint64_t a);
bool fp_process_nans(struct pe_fp *, unsigned sz, const struct fp_num *n1, const struct fp_num *n2,
    uint64_t a, uint64_t b, uint64_t *result);
/* The default NaN and IOC. */
uint64_t fp_invalid(struct pe_fp *, unsigned sz);

/*
 * FPRoundBase() of (-1)^sign * m * 2^exp, m != 0. An inexact value has bit 0
 * of m set below all bits that count ("jammed").
 */
uint64_t fp_round_base(
    struct pe_fp *, uint32_t fpcr, unsigned sz, bool sign, int exp, fp_u128 m, enum fp_rounding);

static inline uint64_t
fp_round(struct pe_fp *fp, unsigned sz, bool sign, int exp, fp_u128 m, enum fp_rounding rounding)
{
	return (fp_round_base(fp, fp->fpcr & ~FPCR_AHP, sz, sign, exp, m, rounding));
}

/* m >> n, with the lost bits ORed into bit 0. */
static inline fp_u128
fp_shr_jam(fp_u128 m, unsigned n)
{
	if (n == 0)
		return (m);
	if (n > 127)
		return (m != 0);
	return ((m >> n) | ((m << (128 - n)) != 0));
}

/*
 * Round the magnitude m * 2^exp to an integer; *inexact says whether bits were
 * lost. The value must be below 2^127.
 */
fp_u128 fp_mag_to_int(bool sign, int exp, uint64_t m, enum fp_rounding, bool *inexact);

#endif /* PE_FP_SOFT_H */
