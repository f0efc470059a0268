/*
 * Calls the floating-point functions of the PE in batches, for
 * test_fp_softfloat.py: one operation over arrays of operands.
 */
#include "pe/fp_host.h"

void fp_batch(unsigned op, unsigned sz, unsigned extra, unsigned rounding, size_t count,
    const uint64_t *a, const uint64_t *b, const uint64_t *c, uint32_t fpcr, uint32_t fpsr,
    uint64_t *result, uint32_t *flags) __attribute__((visibility("default")));

enum {
	OP_ADD,
	OP_SUB,
	OP_MUL,
	OP_DIV,
	OP_SQRT,
	OP_MULADD,
	OP_CONVERT,   /* extra: size of the result */
	OP_TO_SIGNED, /* extra: bits */
	OP_TO_UNSIGNED,
	OP_FROM_SIGNED,
	OP_FROM_UNSIGNED,
	OP_ROUND_INT, /* extra: exact */
	OP_COMPARE,   /* extra: signal_nans */
	OP_MAX,
	OP_MIN,
	OP_RECPE,
	OP_RSQRTE,
};

static uint64_t
one(struct pe_fp *fp, unsigned op, unsigned sz, unsigned extra, enum fp_rounding rounding,
    uint64_t a, uint64_t b, uint64_t c)
{
	switch (op) {
	case OP_ADD:
		return (fp_add(fp, sz, a, b));
	case OP_SUB:
		return (fp_sub(fp, sz, a, b));
	case OP_MUL:
		return (fp_mul(fp, sz, a, b));
	case OP_DIV:
		return (fp_div(fp, sz, a, b));
	case OP_SQRT:
		return (fp_sqrt(fp, sz, a));
	case OP_MULADD:
		return (fp_muladd(fp, sz, c, a, b));
	case OP_CONVERT:
		return (fp_convert(fp, extra, sz, a));
	case OP_TO_SIGNED:
		return (fp_to_fixed(fp, sz, a, 0, extra, false, rounding));
	case OP_TO_UNSIGNED:
		return (fp_to_fixed(fp, sz, a, 0, extra, true, rounding));
	case OP_FROM_SIGNED:
		return (fp_from_fixed(fp, sz, a, 0, false));
	case OP_FROM_UNSIGNED:
		return (fp_from_fixed(fp, sz, a, 0, true));
	case OP_ROUND_INT:
		return (fp_round_int(fp, sz, a, rounding, extra != 0));
	case OP_COMPARE:
		return (fp_compare(fp, sz, a, b, extra != 0) >> 28);
	case OP_MAX:
		return (fp_max(fp, sz, a, b));
	case OP_MIN:
		return (fp_min(fp, sz, a, b));
	case OP_RECPE:
		return (fp_recpe(fp, sz, a));
	default:
		return (fp_rsqrte(fp, sz, a));
	}
}

void
fp_batch(unsigned op, unsigned sz, unsigned extra, unsigned rounding, size_t count,
    const uint64_t *a, const uint64_t *b, const uint64_t *c, uint32_t fpcr, uint32_t fpsr,
    uint64_t *result, uint32_t *flags)
{
	size_t i;

	for (i = 0; i < count; i++) {
		struct pe_fp fp = { .fpcr = fpcr, .fpsr = fpsr };

		result[i] = one(&fp, op, sz, extra, (enum fp_rounding)rounding, a[i], b[i], c[i]);
		flags[i] = fp.fpsr;
	}
}
