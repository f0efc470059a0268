/*
 * Advanced SIMD conversions, vector and scalar: to and from integers and fixed
 * point, and between sizes (DDI 0487, C4.1.96: FCVT*, SCVTF, UCVTF, FCVTL,
 * FCVTN, FCVTXN).
 */
#include "pe/exec_simd_fp.h"

#define N fp_lane(&n, sz, i)
#define TO_INT(is_unsigned, fbits, rounding) \
	fp_to_fixed(fp, sz, N, fbits, fp_bits(sz), is_unsigned, rounding)

FP_LANES_EACH(fcvtns_v, TO_INT(false, 0, FP_TIEEVEN))
FP_LANES_EACH(fcvtnu_v, TO_INT(true, 0, FP_TIEEVEN))
FP_LANES_EACH(fcvtps_v, TO_INT(false, 0, FP_POSINF))
FP_LANES_EACH(fcvtpu_v, TO_INT(true, 0, FP_POSINF))
FP_LANES_EACH(fcvtms_v, TO_INT(false, 0, FP_NEGINF))
FP_LANES_EACH(fcvtmu_v, TO_INT(true, 0, FP_NEGINF))
FP_LANES_EACH(fcvtzs_v, TO_INT(false, 0, FP_ZERO))
FP_LANES_EACH(fcvtzu_v, TO_INT(true, 0, FP_ZERO))
FP_LANES_EACH(fcvtas_v, TO_INT(false, 0, FP_TIEAWAY))
FP_LANES_EACH(fcvtau_v, TO_INT(true, 0, FP_TIEAWAY))

/* immh:immb counts down from twice the element size. */
#define FBITS (fp_bits(sz) - in->a)

FP_LANES_EACH(fcvtzs_fix_v, TO_INT(false, FBITS, FP_ZERO))
FP_LANES_EACH(fcvtzu_fix_v, TO_INT(true, FBITS, FP_ZERO))

FP_INLINE uint64_t
sign_extend(unsigned sz, uint64_t v)
{
	if (sz == FP_H)
		return ((uint64_t)(int64_t)(int16_t)v);
	return (sz == FP_S ? (uint64_t)(int64_t)(int32_t)v : v);
}

FP_LANES_EACH(scvtf_v, fp_from_fixed(fp, sz, sign_extend(sz, N), 0, false))
FP_LANES_EACH(ucvtf_v, fp_from_fixed(fp, sz, N, 0, true))
FP_LANES_EACH(scvtf_fix_v, fp_from_fixed(fp, sz, sign_extend(sz, N), FBITS, false))
FP_LANES_EACH(ucvtf_fix_v, fp_from_fixed(fp, sz, N, FBITS, true))

/* FCVTL, FCVTL2: half to single or single to double. */
int
op_fcvtl_v(struct pe *pe, const struct insn *in)
{
	unsigned from = FP_H + in->a, i;
	union vec n, r;

	FP_ENTER(pe, in);
	n = simd_half(pe, in->rn, SIMD_Q(in));
	for (i = 0; i < 8u >> from; i++)
		fp_set_lane(
		    &r, from + 1, i, fp_convert(&pe->fp, from + 1, from, fp_lane(&n, from, i)));
	simd_set(pe, in->rd, &r);
	return (INSN_NEXT);
}

/* Narrow the lanes of Rn to size `to`, into the half of Rd that Q names. */
static void
narrow(struct pe *pe, const struct insn *in, unsigned to, enum fp_rounding rounding)
{
	union vec n = simd_reg(pe, in->rn), r = { .ud = { 0, 0 } };
	unsigned i;

	for (i = 0; i < 8u >> to; i++)
		fp_set_lane(&r, to, i,
		    fp_soft_convert(&pe->fp, to, to + 1, fp_lane(&n, to + 1, i), rounding));
	simd_put_half(pe, in->rd, r.ud[0], SIMD_Q(in));
}

int
op_fcvtn_v(struct pe *pe, const struct insn *in)
{
	FP_ENTER(pe, in);
	narrow(pe, in, FP_H + in->a, fp_rmode(&pe->fp));
	return (INSN_NEXT);
}

/* Rounding to odd keeps a later rounding correct. */
int
op_fcvtxn_v(struct pe *pe, const struct insn *in)
{
	FP_ENTER(pe, in);
	narrow(pe, in, FP_S, FP_ODD);
	return (INSN_NEXT);
}

int
op_fcvtxn_ss(struct pe *pe, const struct insn *in)
{
	FP_ENTER(pe, in);
	fp_put(pe, FP_S, in->rd, fp_soft_convert(&pe->fp, FP_S, FP_D, pe->v[in->rn][0], FP_ODD));
	return (INSN_NEXT);
}
