/*
 * Host arithmetic in front of the soft functions of fp.h; executors call these.
 *
 * The host may answer when it rounds to nearest as the guest does, nothing is
 * flushed (FPCR.FZ), and the result lies well inside the normal range, so that
 * no flag but IXC can be due. Whether IXC is due needs no answer once FPSR.IXC
 * is set, for the flag is cumulative; until then an exact test decides, and
 * the soft function is called whenever it is not certain that the result is
 * exact. MXCSR is neither read nor written; it is expected to have its default
 * value (round to nearest, DAZ and FTZ clear).
 *
 * Half precision always takes the soft functions.
 */
#ifndef PE_FP_HOST_H
#define PE_FP_HOST_H

#include "pe/fp.h"

#define FP_INLINE static inline __attribute__((always_inline))

FP_INLINE double
fp_f64(uint64_t a)
{
	double d;

	memcpy(&d, &a, sizeof(d));
	return (d);
}

FP_INLINE uint64_t
fp_b64(double d)
{
	uint64_t a;

	memcpy(&a, &d, sizeof(a));
	return (a);
}

FP_INLINE float
fp_f32(uint64_t a)
{
	uint32_t w = (uint32_t)a;
	float f;

	memcpy(&f, &w, sizeof(f));
	return (f);
}

FP_INLINE uint64_t
fp_b32(float f)
{
	uint32_t w;

	memcpy(&w, &f, sizeof(w));
	return (w);
}

FP_INLINE bool
fp_host_ok(const struct pe_fp *fp)
{
	return (likely((fp->fpcr & (FPCR_FZ | FPCR_RMODE)) == 0));
}

/* Normal, and not the smallest exponent: it was not tiny before rounding. */
FP_INLINE bool
fp_safe64(uint64_t r)
{
	return (((r >> 52) & 0x7ff) - 2 <= 0x7fe - 2);
}

FP_INLINE bool
fp_safe32(uint64_t r)
{
	return (((r >> 23) & 0xff) - 2 <= 0xfe - 2);
}

FP_INLINE bool
fp_is_zero64(uint64_t a)
{
	return (a << 1 == 0);
}

FP_INLINE bool
fp_is_zero32(uint64_t a)
{
	return ((uint32_t)a << 1 == 0);
}

/* Significant bits of a double, at most. */
FP_INLINE int
fp_sig64(uint64_t a)
{
	return (53 - __builtin_ctzll(a | BIT(52)));
}

FP_INLINE uint64_t
fp_add_sub(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b, bool sub)
{
	if (sz == FP_D && fp_host_ok(fp)) {
		double x = fp_f64(a), y = sub ? -fp_f64(b) : fp_f64(b), s = x + y, t = s - x;
		uint64_t r = fp_b64(s);

		/* a zero is exact; otherwise the error term of the sum (2Sum) */
		if (likely(fp_safe64(r) || fp_is_zero64(r)) &&
		    (likely(fp->fpsr & FPSR_IXC) || (x - (s - t)) + (y - t) == 0))
			return (r);
	} else if (sz == FP_S && fp_host_ok(fp)) {
		float x = fp_f32(a), y = sub ? -fp_f32(b) : fp_f32(b), s = x + y, t = s - x;
		uint64_t r = fp_b32(s);

		if (likely(fp_safe32(r) || fp_is_zero32(r)) &&
		    (likely(fp->fpsr & FPSR_IXC) || (x - (s - t)) + (y - t) == 0))
			return (r);
	}
	return (sub ? fp_soft_sub(fp, sz, a, b) : fp_soft_add(fp, sz, a, b));
}

FP_INLINE uint64_t
fp_add(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (fp_add_sub(fp, sz, a, b, false));
}

FP_INLINE uint64_t
fp_sub(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	return (fp_add_sub(fp, sz, a, b, true));
}

FP_INLINE uint64_t
fp_mul(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	if (sz == FP_D && fp_host_ok(fp)) {
		uint64_t r = fp_b64(fp_f64(a) * fp_f64(b));

		if (likely(fp_safe64(r))) {
			if (likely(fp->fpsr & FPSR_IXC) || fp_sig64(a) + fp_sig64(b) <= 53)
				return (r);
		} else if (fp_is_zero64(r) && (fp_is_zero64(a) || fp_is_zero64(b))) {
			return (r);
		}
	} else if (sz == FP_S && fp_host_ok(fp)) {
		float x = fp_f32(a), y = fp_f32(b), p = x * y;
		uint64_t r = fp_b32(p);

		if (likely(fp_safe32(r))) {
			if (likely(fp->fpsr & FPSR_IXC) || (double)x * (double)y == (double)p)
				return (r);
		} else if (fp_is_zero32(r) && (fp_is_zero32(a) || fp_is_zero32(b))) {
			return (r);
		}
	}
	return (fp_soft_mul(fp, sz, a, b));
}

FP_INLINE uint64_t
fp_div(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	if (sz == FP_D && fp_host_ok(fp)) {
		double x = fp_f64(a), y = fp_f64(b), q = x / y;
		uint64_t r = fp_b64(q);

		if (likely(fp_safe64(r)) &&
		    (likely(fp->fpsr & FPSR_IXC) ||
			(fp_safe64(a) && fp_sig64(r) + fp_sig64(b) <= 53 && q * y == x)))
			return (r);
	} else if (sz == FP_S && fp_host_ok(fp)) {
		float x = fp_f32(a), y = fp_f32(b), q = x / y;
		uint64_t r = fp_b32(q);

		if (likely(fp_safe32(r)) &&
		    (likely(fp->fpsr & FPSR_IXC) || (double)q * (double)y == (double)x))
			return (r);
	}
	return (fp_soft_div(fp, sz, a, b));
}

/* fp_host.c: they fall back to the soft functions themselves. */
uint64_t fp_host_sqrt64(struct pe_fp *, uint64_t a);
uint64_t fp_host_sqrt32(struct pe_fp *, uint64_t a);
uint64_t fp_host_muladd64(struct pe_fp *, uint64_t acc, uint64_t a, uint64_t b);
uint64_t fp_host_muladd32(struct pe_fp *, uint64_t acc, uint64_t a, uint64_t b);

FP_INLINE uint64_t
fp_sqrt(struct pe_fp *fp, unsigned sz, uint64_t a)
{
	if (sz == FP_D)
		return (fp_host_sqrt64(fp, a));
	if (sz == FP_S)
		return (fp_host_sqrt32(fp, a));
	return (fp_soft_sqrt(fp, sz, a));
}

FP_INLINE uint64_t
fp_muladd(struct pe_fp *fp, unsigned sz, uint64_t acc, uint64_t a, uint64_t b)
{
	if (sz == FP_D)
		return (fp_host_muladd64(fp, acc, a, b));
	if (sz == FP_S)
		return (fp_host_muladd32(fp, acc, a, b));
	return (fp_soft_muladd(fp, sz, acc, a, b));
}

/* -1, 0, 1, or 2: ask the soft function. */
FP_INLINE int
fp_host_order(const struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	double x, y;

	if (sz == FP_H || unlikely(fp->fpcr & FPCR_FZ))
		return (2);
	x = sz == FP_D ? fp_f64(a) : (double)fp_f32(a);
	y = sz == FP_D ? fp_f64(b) : (double)fp_f32(b);
	if (unlikely(__builtin_isunordered(x, y)))
		return (2);
	return ((x > y) - (x < y));
}

FP_INLINE uint32_t
fp_compare(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b, bool signal_nans)
{
	int o = fp_host_order(fp, sz, a, b);

	if (unlikely(o == 2))
		return (fp_soft_compare(fp, sz, a, b, signal_nans));
	return ((o == 0 ? 6u : o < 0 ? 8u : 2u) << 28);
}

FP_INLINE bool
fp_eq(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	int o = fp_host_order(fp, sz, a, b);

	return (unlikely(o == 2) ? fp_soft_eq(fp, sz, a, b) : o == 0);
}

FP_INLINE bool
fp_ge(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	int o = fp_host_order(fp, sz, a, b);

	return (unlikely(o == 2) ? fp_soft_ge(fp, sz, a, b) : o >= 0);
}

FP_INLINE bool
fp_gt(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b)
{
	int o = fp_host_order(fp, sz, a, b);

	return (unlikely(o == 2) ? fp_soft_gt(fp, sz, a, b) : o > 0);
}

/*
 * Maximum and minimum: equal numbers have equal bits, except for two zeros,
 * whose signs are ANDed or ORed.
 */
#define FP_MAX_MIN(name, op, equal)                                                         \
	FP_INLINE uint64_t fp_##name(struct pe_fp *fp, unsigned sz, uint64_t a, uint64_t b) \
	{                                                                                   \
		int o = fp_host_order(fp, sz, a, b);                                        \
                                                                                            \
		if (unlikely(o == 2))                                                       \
			return (fp_soft_##name(fp, sz, a, b));                              \
		if (unlikely(o == 0))                                                       \
			return (a equal b);                                                 \
		return (o op 0 ? a : b);                                                    \
	}

FP_MAX_MIN(max, >, &)
FP_MAX_MIN(min, <, |)
FP_MAX_MIN(maxnm, >, &)
FP_MAX_MIN(minnm, <, |)

FP_INLINE uint64_t
fp_convert(struct pe_fp *fp, unsigned to, unsigned from, uint64_t a)
{
	if (from == FP_S && to == FP_D && fp_host_ok(fp)) {
		float x = fp_f32(a);

		if (likely(x == x))
			return (fp_b64((double)x));
	} else if (from == FP_D && to == FP_S && fp_host_ok(fp)) {
		double x = fp_f64(a);
		uint64_t r;

		r = fp_b32((float)x);
		if (likely(fp_safe32(r))) {
			if (likely(fp->fpsr & FPSR_IXC) || (double)fp_f32(r) == x)
				return (r);
		} else if (fp_is_zero64(a)) {
			return (r);
		}
	}
	return (fp_soft_convert(fp, to, from, a, fp_rmode(fp)));
}

FP_INLINE uint64_t
fp_to_fixed(struct pe_fp *fp, unsigned sz, uint64_t a, unsigned fbits, unsigned bits,
    bool is_unsigned, enum fp_rounding rounding)
{
	if (sz != FP_H && rounding == FP_ZERO && fbits == 0 && bits >= 32 &&
	    likely((fp->fpcr & FPCR_FZ) == 0)) {
		double x = sz == FP_D ? fp_f64(a) : (double)fp_f32(a);
		double low = is_unsigned ? -1.0 : bits == 32 ? -0x1p31 - 1 : -0x1p63 - 0x1p11;
		double high = bits == 64 ? 0x1p63 : is_unsigned ? 0x1p32 : 0x1p31;

		if (likely(x > low && x < high)) {
			int64_t i = (int64_t)x;

			if ((double)i != x)
				fp->fpsr |= FPSR_IXC;
			return (bits == 32 ? (uint32_t)i : (uint64_t)i);
		}
	}
	return (fp_soft_to_fixed(fp, sz, a, fbits, bits, is_unsigned, rounding));
}

FP_INLINE uint64_t
fp_from_fixed(struct pe_fp *fp, unsigned sz, uint64_t v, unsigned fbits, bool is_unsigned)
{
	if (sz != FP_H && fbits == 0 && fp_host_ok(fp) && !(is_unsigned && (v >> 63) != 0)) {
		const uint64_t exact = sz == FP_D ? BIT(53) : BIT(24);

		if (likely(fp->fpsr & FPSR_IXC) || v + exact <= 2 * exact)
			return (
			    sz == FP_D ? fp_b64((double)(int64_t)v) : fp_b32((float)(int64_t)v));
	}
	return (fp_soft_from_fixed(fp, sz, v, fbits, is_unsigned));
}

#endif /* PE_FP_HOST_H */
