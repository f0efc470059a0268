/*
 * The PE's arithmetic (fp*.c) against Berkeley SoftFloat, which conf_fp.py loads
 * from the softfloatpy wheel before this library.
 *
 * SoftFloat gives the rounded result of numbers and the IEEE flags. What it
 * leaves to the architecture is modelled here from the Arm ARM's pseudocode
 * (shared/functions/float): which NaN, flushing, the alternative half format,
 * saturation.
 */
#include "pe/fp_host.h"

#define EXPORT __attribute__((visibility("default")))

/* -- SoftFloat's interface ---------------------------------------------------------- */

typedef struct {
	uint16_t v;
} float16_t;
typedef struct {
	uint32_t v;
} float32_t;
typedef struct {
	uint64_t v;
} float64_t;

enum { SF_INEXACT = 1, SF_UNDERFLOW = 2, SF_OVERFLOW = 4, SF_INFINITE = 8, SF_INVALID = 16 };
extern uint_fast8_t softfloat_roundingMode, softfloat_detectTininess, softfloat_exceptionFlags;

#define SF_SIZE(n)                                                            \
	float##n##_t f##n##_add(float##n##_t, float##n##_t);                  \
	float##n##_t f##n##_sub(float##n##_t, float##n##_t);                  \
	float##n##_t f##n##_mul(float##n##_t, float##n##_t);                  \
	float##n##_t f##n##_div(float##n##_t, float##n##_t);                  \
	float##n##_t f##n##_sqrt(float##n##_t);                               \
	float##n##_t f##n##_mulAdd(float##n##_t, float##n##_t, float##n##_t); \
	float##n##_t f##n##_roundToInt(float##n##_t, uint_fast8_t, bool);     \
	bool f##n##_eq(float##n##_t, float##n##_t);                           \
	bool f##n##_lt_quiet(float##n##_t, float##n##_t);                     \
	int_fast32_t f##n##_to_i32(float##n##_t, uint_fast8_t, bool);         \
	int_fast64_t f##n##_to_i64(float##n##_t, uint_fast8_t, bool);         \
	uint_fast32_t f##n##_to_ui32(float##n##_t, uint_fast8_t, bool);       \
	uint_fast64_t f##n##_to_ui64(float##n##_t, uint_fast8_t, bool);       \
	float##n##_t i64_to_f##n(int64_t);                                    \
	float##n##_t ui64_to_f##n(uint64_t);
SF_SIZE(16)
SF_SIZE(32)
SF_SIZE(64)
float16_t f32_to_f16(float32_t);
float16_t f64_to_f16(float64_t);
float32_t f16_to_f32(float16_t);
float32_t f64_to_f32(float64_t);
float64_t f16_to_f64(float16_t);
float64_t f32_to_f64(float32_t);

/* By size: SF2(add, sz, a, b) and so on. */
#define F16(a) ((float16_t){ (uint16_t)(a) })
#define F32(a) ((float32_t){ (uint32_t)(a) })
#define F64(a) ((float64_t){ (a) })
#define BY_SIZE(sz, h, s, d) ((sz) == FP_H ? (h) : (sz) == FP_S ? (s) : (d))
#define SF1(fn, sz, a) \
	BY_SIZE(sz, (uint64_t)f16_##fn(F16(a)).v, (uint64_t)f32_##fn(F32(a)).v, f64_##fn(F64(a)).v)
#define SF2(fn, sz, a, b)                                                                       \
	BY_SIZE(sz, (uint64_t)f16_##fn(F16(a), F16(b)).v, (uint64_t)f32_##fn(F32(a), F32(b)).v, \
	    f64_##fn(F64(a), F64(b)).v)
#define SFB(fn, sz, a, b) \
	BY_SIZE(sz, f16_##fn(F16(a), F16(b)), f32_##fn(F32(a), F32(b)), f64_##fn(F64(a), F64(b)))
#define SFI(fn, sz, a, mode)                                \
	BY_SIZE(sz, (uint64_t)f16_##fn(F16(a), mode, true), \
	    (uint64_t)f32_##fn(F32(a), mode, true), (uint64_t)f64_##fn(F64(a), mode, true))

/* FPCR.RMode and ties away, as SoftFloat numbers them. */
static const uint_fast8_t sf_mode[] = { 0, 3, 2, 1, 4 };

enum op {
	OP_ADD,
	OP_SUB,
	OP_MUL,
	OP_DIV,
	OP_SQRT,
	OP_MULADD,
	OP_CONVERT,   /* extra: size of the result */
	OP_TO_SIGNED, /* extra: bits; rounding: any of five */
	OP_TO_UNSIGNED,
	OP_FROM_SIGNED,
	OP_FROM_UNSIGNED,
	OP_ROUND_INT, /* extra: exact */
	OP_COMPARE,   /* extra: signal NaNs */
	OP_MAX,
	OP_MIN,
	OP_MAXNM,
	OP_MINNM,
	OP_RECPS,
};

/* -- operands ----------------------------------------------------------------------- */

static uint64_t
next(uint64_t *s)
{
	uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31));
}

static uint64_t
special(uint64_t *s, unsigned sz)
{
	uint64_t k = next(s), frac_mask = (UINT64_C(1) << fp_frac_bits(sz)) - 1;
	uint64_t one = fp_expand_imm(sz, 0x70), inf = fp_infinity(sz, false);
	const uint64_t values[16] = { 0, 1, frac_mask, frac_mask + 1, frac_mask + 2, one, one + 1,
		one - 1, inf - 1, inf, inf | 1, inf | (k >> 8 & (frac_mask >> 1)) | 1,
		inf | (frac_mask + 1) >> 1, inf | frac_mask, k >> 8 & frac_mask,
		(frac_mask + 1) << 1 };

	return (values[k & 15] | ((k & 16) != 0 ? fp_sign_bit(sz) : 0));
}

/* Special, uniform, few significant bits, or close in exponent to `near`. */
static uint64_t
number(uint64_t *s, unsigned sz, uint64_t near)
{
	uint64_t k = next(s), frac_mask = (UINT64_C(1) << fp_frac_bits(sz)) - 1;
	uint64_t sign = (k >> 63) != 0 ? fp_sign_bit(sz) : 0, inf = fp_infinity(sz, false);
	int64_t e, emax = (int64_t)(UINT64_C(1) << fp_exp_bits(sz)) - 1;
	unsigned f = fp_frac_bits(sz);

	switch (k & 15) {
	case 0:
		return (special(s, sz));
	case 1: /* denormal or next to it */
		return (sign | (next(s) & (frac_mask >> (k >> 8) % f)));
	case 2: /* a NaN */
		return (sign | inf | (k >> 4 & frac_mask));
	case 3:
	case 4:
	case 5:
		return (sign | (next(s) & (fp_sign_bit(sz) - 1)));
	case 6:
	case 7:
	case 8:
	case 9:
		e = (int64_t)(near >> f & (uint64_t)emax) + (int64_t)(k >> 8 & 7) - 3;
		break;
	default: /* around one, as far as a fused multiply-add reaches */
		e = (emax >> 1) + (int64_t)((k >> 8 & 0xffff) * (2 * f + 8) >> 16) - f - 4;
		break;
	}
	if (e < 0)
		e = 0;
	if (e > emax)
		e = emax;
	k = next(s);
	/* few significant bits: halfway cases */
	if ((k & 3) == 0)
		return (sign | (uint64_t)e << f |
			((k >> 4 & frac_mask) & ~(frac_mask >> (k >> 58) % f)));
	if ((k & 3) == 1) /* long runs of ones or zeros */
		return (sign | (uint64_t)e << f | ((frac_mask >> (k >> 58) % f) & frac_mask));
	return (sign | (uint64_t)e << f | (k >> 4 & frac_mask));
}

/* -- the model ---------------------------------------------------------------------- */

struct answer {
	uint64_t value;
	uint32_t flags;
};

static bool
is_nan(unsigned sz, uint64_t a)
{
	return (fp_abs(sz, a) > fp_infinity(sz, false));
}

static uint64_t
quiet(unsigned sz, uint64_t a)
{
	return (a | UINT64_C(1) << (fp_frac_bits(sz) - 1));
}

static bool
is_snan(unsigned sz, uint64_t a)
{
	return (is_nan(sz, a) && quiet(sz, a) != a);
}

/* FPUnpack(): a denormal becomes a zero when its format is flushed. */
static uint64_t
flush_input(unsigned sz, uint64_t a, uint32_t fpcr, bool convert, uint32_t *flags)
{
	uint64_t m = fp_abs(sz, a);

	if (m == 0 || m >> fp_frac_bits(sz) != 0)
		return (a);
	if (sz == FP_H)
		return ((fpcr & FPCR_FZ16) != 0 && !convert ? a & fp_sign_bit(sz) : a);
	if ((fpcr & FPCR_FZ) == 0)
		return (a);
	*flags |= FPSR_IDC;
	return (a & fp_sign_bit(sz));
}

static bool
flushes(unsigned sz, uint32_t fpcr, bool convert)
{
	return (sz == FP_H ? (fpcr & FPCR_FZ16) != 0 && !convert : (fpcr & FPCR_FZ) != 0);
}

static struct answer
nan_answer(unsigned sz, uint64_t a, uint32_t fpcr, uint32_t flags)
{
	struct answer r = { quiet(sz, a), flags };

	if (is_snan(sz, a))
		r.flags |= FPSR_IOC;
	if ((fpcr & FPCR_DN) != 0)
		r.value = fp_default_nan(sz);
	return (r);
}

/* FPProcessNaNs(): the first signaling operand, else the first quiet one. */
static bool
process_nans(unsigned sz, const uint64_t *ops, unsigned n, uint32_t fpcr, struct answer *r)
{
	unsigned i;

	for (i = 0; i < n; i++)
		if (is_snan(sz, ops[i])) {
			*r = nan_answer(sz, ops[i], fpcr, r->flags);
			return (true);
		}
	for (i = 0; i < n; i++)
		if (is_nan(sz, ops[i])) {
			*r = nan_answer(sz, ops[i], fpcr, r->flags);
			return (true);
		}
	return (false);
}

static void
sf_begin(unsigned mode)
{
	softfloat_roundingMode = sf_mode[mode];
	softfloat_detectTininess = 0;
	softfloat_exceptionFlags = 0;
}

static uint32_t
sf_flags(void)
{
	unsigned f = softfloat_exceptionFlags;

	return (((f & SF_INEXACT) != 0 ? FPSR_IXC : 0) | ((f & SF_UNDERFLOW) != 0 ? FPSR_UFC : 0) |
		((f & SF_OVERFLOW) != 0 ? FPSR_OFC : 0) | ((f & SF_INFINITE) != 0 ? FPSR_DZC : 0) |
		((f & SF_INVALID) != 0 ? FPSR_IOC : 0));
}

/* The end of an operation: default NaN for an invalid one, FPRound()'s flushing. */
static struct answer
finish(unsigned sz, uint64_t value, struct answer r, uint32_t fpcr, bool convert)
{
	uint32_t f = sf_flags();
	uint64_t m = fp_abs(sz, value);

	r.value = value;
	if (is_nan(sz, value)) {
		r.value = fp_default_nan(sz);
	} else if (flushes(sz, fpcr, convert) &&
		   ((f & FPSR_UFC) != 0 || (m != 0 && m >> fp_frac_bits(sz) == 0))) {
		/* tiny before rounding: seen by its flag, or by an exact denormal */
		r.value = value & fp_sign_bit(sz);
		f = FPSR_UFC;
	}
	r.flags |= f;
	return (r);
}

static uint64_t
sf_convert(unsigned to, unsigned from, uint64_t a)
{
	if (from == FP_H)
		return (to == FP_S ? (uint64_t)f16_to_f32(F16(a)).v : f16_to_f64(F16(a)).v);
	if (from == FP_S)
		return (to == FP_H ? (uint64_t)f32_to_f16(F32(a)).v : f32_to_f64(F32(a)).v);
	return (to == FP_H ? (uint64_t)f64_to_f16(F64(a)).v : (uint64_t)f64_to_f32(F64(a)).v);
}

/*
 * The alternative half format: exponent 31 is one more binade. To it: halve,
 * convert, add one to the exponent; what does not fit is Invalid Operation.
 */
static struct answer
convert_alternative(unsigned to, unsigned from, uint64_t a, uint32_t fpcr, struct answer r)
{
	uint64_t sign = (a & fp_sign_bit(from)) != 0 ? fp_sign_bit(to) : 0, step, v;

	step = UINT64_C(1) << fp_frac_bits(from);
	if (from == FP_H) {
		if ((a & 0x7c00) != 0x7c00)
			return (finish(to, sf_convert(to, from, a), r, fpcr, true));
		v = sf_convert(to, from, a - step);
		return (finish(to, v + (UINT64_C(1) << fp_frac_bits(to)), r, fpcr, true));
	}
	if (is_nan(from, a)) {
		r.value = sign;
		r.flags |= FPSR_IOC;
		return (r);
	}
	if (fp_abs(from, a) == fp_infinity(from, false)) {
		r.value = sign | 0x7fff;
		r.flags |= FPSR_IOC;
		return (r);
	}
	v = (UINT64_C(1) << (fp_exp_bits(from) - 1)) - 1; /* one */
	if ((fp_abs(from, a) >> fp_frac_bits(from)) < v + 8)
		return (finish(to, sf_convert(to, from, a), r, fpcr, true));
	v = sf_convert(to, from, a - step);
	if ((softfloat_exceptionFlags & SF_OVERFLOW) != 0) {
		r.value = sign | 0x7fff;
		r.flags |= FPSR_IOC;
		return (r);
	}
	r.value = v + 0x400; /* exponent 31 is a number */
	r.flags |= sf_flags();
	return (r);
}

static struct answer
expect_convert(unsigned to, unsigned from, uint64_t a, uint32_t fpcr, struct answer r)
{
	bool half = to == FP_H || from == FP_H;

	a = flush_input(from, a, fpcr, true, &r.flags);
	if (half && (fpcr & FPCR_AHP) != 0)
		return (convert_alternative(to, from, a, fpcr, r));
	if (is_nan(from, a)) {
		uint64_t frac = (a & ((UINT64_C(1) << fp_frac_bits(from)) - 1))
				    << (63 - fp_frac_bits(from)) >>
				(63 - fp_frac_bits(to));

		if (is_snan(from, a))
			r.flags |= FPSR_IOC;
		r.value = fp_default_nan(to);
		if ((fpcr & FPCR_DN) == 0)
			r.value |= frac | ((a & fp_sign_bit(from)) != 0 ? fp_sign_bit(to) : 0);
		return (r);
	}
	return (finish(to, sf_convert(to, from, a), r, fpcr, true));
}

static struct answer
expect_to_int(unsigned sz, uint64_t a, unsigned bits, bool is_unsigned, unsigned mode,
    uint32_t fpcr, struct answer r)
{
	bool negative = (a & fp_sign_bit(sz)) != 0;

	a = flush_input(sz, a, fpcr, false, &r.flags);
	if (is_unsigned)
		r.value = bits == 64 ? SFI(to_ui64, sz, a, sf_mode[mode])
				     : SFI(to_ui32, sz, a, sf_mode[mode]);
	else
		r.value = bits == 64 ? SFI(to_i64, sz, a, sf_mode[mode])
				     : SFI(to_i32, sz, a, sf_mode[mode]);
	if (bits == 32)
		r.value &= 0xffffffff;
	if ((softfloat_exceptionFlags & SF_INVALID) != 0) {
		uint64_t top = UINT64_C(1) << (bits - 1);

		r.value = is_nan(sz, a) ? 0
			  : is_unsigned ? (negative ? 0 : top | (top - 1))
			  : negative    ? top
					: top - 1;
	}
	r.flags |= sf_flags();
	return (r);
}

static struct answer
expect_max(enum op op, unsigned sz, uint64_t a, uint64_t b, uint32_t fpcr, struct answer r)
{
	bool min = op == OP_MIN || op == OP_MINNM, a_less;
	uint64_t ops[2];

	if (op == OP_MAXNM || op == OP_MINNM) {
		bool qa = is_nan(sz, a) && !is_snan(sz, a), qb = is_nan(sz, b) && !is_snan(sz, b);

		/* FPUnpack() of both comes first, and counts the denormals. */
		(void)flush_input(sz, a, fpcr, false, &r.flags);
		(void)flush_input(sz, b, fpcr, false, &r.flags);
		if (qa && !qb)
			a = fp_infinity(sz, !min);
		else if (!qa && qb)
			b = fp_infinity(sz, !min);
	}
	ops[0] = a = flush_input(sz, a, fpcr, false, &r.flags);
	ops[1] = b = flush_input(sz, b, fpcr, false, &r.flags);
	if (process_nans(sz, ops, 2, fpcr, &r))
		return (r);
	if ((a | b) << (64 - fp_bits(sz)) << 1 == 0) {
		r.value = min ? a | b : a & b;
		return (r);
	}
	a_less = SFB(lt_quiet, sz, a, b);
	r.value = a_less == min ? a : b;
	if (!a_less && !SFB(lt_quiet, sz, b, a))
		r.value = a;
	return (r);
}

static struct answer
expect_muladd(unsigned sz, uint64_t acc, uint64_t a, uint64_t b, uint32_t fpcr, struct answer r)
{
	uint64_t ops[3], inf = fp_infinity(sz, false);

	ops[0] = flush_input(sz, acc, fpcr, false, &r.flags);
	ops[1] = flush_input(sz, a, fpcr, false, &r.flags);
	ops[2] = flush_input(sz, b, fpcr, false, &r.flags);
	if (is_nan(sz, acc) && !is_snan(sz, acc) && !is_nan(sz, a) && !is_nan(sz, b) &&
	    ((fp_abs(sz, ops[1]) == inf && fp_abs(sz, ops[2]) == 0) ||
		(fp_abs(sz, ops[1]) == 0 && fp_abs(sz, ops[2]) == inf))) {
		/* a quiet addend and inf * 0 */
		r.value = fp_default_nan(sz);
		r.flags |= FPSR_IOC;
		return (r);
	}
	if (process_nans(sz, ops, 3, fpcr, &r))
		return (r);
	if (sz == FP_H)
		r.value = f16_mulAdd(F16(ops[1]), F16(ops[2]), F16(ops[0])).v;
	else if (sz == FP_S)
		r.value = f32_mulAdd(F32(ops[1]), F32(ops[2]), F32(ops[0])).v;
	else
		r.value = f64_mulAdd(F64(ops[1]), F64(ops[2]), F64(ops[0])).v;
	return (finish(sz, r.value, r, fpcr, false));
}

static struct answer
expect(enum op op, unsigned sz, unsigned extra, unsigned mode, uint32_t fpcr, uint64_t a,
    uint64_t b, uint64_t c)
{
	struct answer r = { 0, 0 };
	uint64_t ops[2];

	sf_begin(mode);
	switch (op) {
	case OP_CONVERT:
		return (expect_convert(extra, sz, a, fpcr, r));
	case OP_TO_SIGNED:
	case OP_TO_UNSIGNED:
		return (expect_to_int(sz, a, extra, op == OP_TO_UNSIGNED, mode, fpcr, r));
	case OP_FROM_SIGNED:
		return (finish(sz,
		    BY_SIZE(sz, (uint64_t)i64_to_f16((int64_t)a).v,
			(uint64_t)i64_to_f32((int64_t)a).v, i64_to_f64((int64_t)a).v),
		    r, fpcr, false));
	case OP_FROM_UNSIGNED:
		return (finish(sz,
		    BY_SIZE(sz, (uint64_t)ui64_to_f16(a).v, (uint64_t)ui64_to_f32(a).v,
			ui64_to_f64(a).v),
		    r, fpcr, false));
	case OP_MAX:
	case OP_MIN:
	case OP_MAXNM:
	case OP_MINNM:
		return (expect_max(op, sz, a, b, fpcr, r));
	case OP_MULADD:
		return (expect_muladd(sz, c, a, b, fpcr, r));
	default:
		break;
	}
	ops[0] = a = flush_input(sz, op == OP_RECPS ? fp_neg(sz, a) : a, fpcr, false, &r.flags);
	if (op == OP_SQRT || op == OP_ROUND_INT)
		b = 0;
	ops[1] = b = flush_input(sz, b, fpcr, false, &r.flags);
	if (op == OP_COMPARE) {
		if (is_nan(sz, a) || is_nan(sz, b)) {
			r.value = 3;
			if (extra != 0 || is_snan(sz, a) || is_snan(sz, b))
				r.flags |= FPSR_IOC;
		} else {
			r.value = SFB(eq, sz, a, b) ? 6 : SFB(lt_quiet, sz, a, b) ? 8 : 2;
		}
		return (r);
	}
	if (process_nans(sz, ops, op == OP_SQRT || op == OP_ROUND_INT ? 1 : 2, fpcr, &r))
		return (r);
	switch (op) {
	case OP_ADD:
		return (finish(sz, SF2(add, sz, a, b), r, fpcr, false));
	case OP_SUB:
		return (finish(sz, SF2(sub, sz, a, b), r, fpcr, false));
	case OP_MUL:
		return (finish(sz, SF2(mul, sz, a, b), r, fpcr, false));
	case OP_DIV:
		return (finish(sz, SF2(div, sz, a, b), r, fpcr, false));
	case OP_SQRT:
		return (finish(sz, SF1(sqrt, sz, a), r, fpcr, false));
	case OP_ROUND_INT:
		r.value = BY_SIZE(sz, (uint64_t)f16_roundToInt(F16(a), sf_mode[mode], extra != 0).v,
		    (uint64_t)f32_roundToInt(F32(a), sf_mode[mode], extra != 0).v,
		    f64_roundToInt(F64(a), sf_mode[mode], extra != 0).v);
		r.flags |= sf_flags();
		return (r);
	default: { /* RECPS: 2 - a * b, and 2 for infinity times zero */
		uint64_t inf = fp_infinity(sz, false), two = fp_expand_imm(sz, 0);

		if ((fp_abs(sz, a) == inf && fp_abs(sz, b) == 0) ||
		    (fp_abs(sz, a) == 0 && fp_abs(sz, b) == inf)) {
			r.value = two;
			return (r);
		}
		return (expect_muladd(sz, two, a, b, fpcr, r));
	}
	}
}

/* -- what is tested ------------------------------------------------------------------ */

static uint64_t
actual(struct pe_fp *fp, enum op op, unsigned sz, unsigned extra, unsigned mode, bool soft,
    uint64_t a, uint64_t b, uint64_t c)
{
	enum fp_rounding rm = (enum fp_rounding)mode;

	switch (op) {
	case OP_ADD:
		return (soft ? fp_soft_add(fp, sz, a, b) : fp_add(fp, sz, a, b));
	case OP_SUB:
		return (soft ? fp_soft_sub(fp, sz, a, b) : fp_sub(fp, sz, a, b));
	case OP_MUL:
		return (soft ? fp_soft_mul(fp, sz, a, b) : fp_mul(fp, sz, a, b));
	case OP_DIV:
		return (soft ? fp_soft_div(fp, sz, a, b) : fp_div(fp, sz, a, b));
	case OP_SQRT:
		return (soft ? fp_soft_sqrt(fp, sz, a) : fp_sqrt(fp, sz, a));
	case OP_MULADD:
		return (soft ? fp_soft_muladd(fp, sz, c, a, b) : fp_muladd(fp, sz, c, a, b));
	case OP_CONVERT:
		return (fp_convert(fp, extra, sz, a));
	case OP_TO_SIGNED:
	case OP_TO_UNSIGNED:
		return (fp_to_fixed(fp, sz, a, 0, extra, op == OP_TO_UNSIGNED, rm));
	case OP_FROM_SIGNED:
	case OP_FROM_UNSIGNED:
		return (fp_from_fixed(fp, sz, a, 0, op == OP_FROM_UNSIGNED));
	case OP_ROUND_INT:
		return (fp_round_int(fp, sz, a, rm, extra != 0));
	case OP_COMPARE:
		return ((soft ? fp_soft_compare(fp, sz, a, b, extra != 0)
			      : fp_compare(fp, sz, a, b, extra != 0)) >>
			28);
	case OP_MAX:
		return (soft ? fp_soft_max(fp, sz, a, b) : fp_max(fp, sz, a, b));
	case OP_MIN:
		return (soft ? fp_soft_min(fp, sz, a, b) : fp_min(fp, sz, a, b));
	case OP_MAXNM:
		return (fp_soft_maxnm(fp, sz, a, b));
	case OP_MINNM:
		return (fp_soft_minnm(fp, sz, a, b));
	default:
		return (fp_recps(fp, sz, a, b));
	}
}

struct fp_bad {
	uint64_t a, b, c, ours, theirs;
	uint32_t our_flags, their_flags;
	uint32_t before;
	uint32_t soft;
};

/* `count` operands of one operation in one mode; how many differ, and the first. */
EXPORT uint64_t
fp_check(unsigned op, unsigned sz, unsigned extra, unsigned mode, uint32_t fpcr, uint64_t seed,
    uint64_t count, struct fp_bad *bad)
{
	uint64_t n, differ = 0, s = seed * UINT64_C(0xd6e8feb86659fd93) + op * 64 + sz;

	for (n = 0; n < count; n++) {
		uint64_t a, b, c, v;
		struct pe_fp fp = { .fpcr = fpcr | (mode & 3) << FPCR_RMODE_SHIFT };
		bool soft = (next(&s) & 3) == 0;
		struct answer want;
		uint32_t before;

		if (op == OP_FROM_SIGNED || op == OP_FROM_UNSIGNED) {
			a = next(&s) >> (next(&s) & 63);
			if ((next(&s) & 3) == 0)
				a = -a;
			b = c = 0;
		} else {
			a = number(&s, sz, fp_default_nan(sz) >> 1);
			b = number(&s, sz, a);
			c = number(&s, sz, b);
			if ((n & 7) == 0) { /* meetings of special operands */
				a = special(&s, sz);
				b = special(&s, sz);
				c = special(&s, sz);
			}
		}
		/* The host may answer when Inexact has been seen. */
		before = fp.fpsr = (next(&s) & 1) != 0 ? FPSR_IXC : 0;
		v = actual(&fp, (enum op)op, sz, extra, mode, soft, a, b, c);
		want = expect((enum op)op, sz, extra, mode, fpcr, a, b, c);
		if (v == want.value && fp.fpsr == (want.flags | before))
			continue;
		if (differ++ == 0)
			*bad = (struct fp_bad){ a, b, c, v, want.value, fp.fpsr,
				want.flags | before, before, soft };
	}
	return (differ);
}
