/*
 * Advanced SIMD floating point, lane by lane and pairwise: three registers of
 * the same type, two registers miscellaneous, across lanes, scalar pairwise
 * (DDI 0487, C4.1.96 "Advanced SIMD"). The scalar forms share the handlers.
 *
 * Not here: conversions (exec_simd_fpcvt.c), by element, complex and widening
 * multiply (exec_simd_fpelem.c).
 */
#include "pe/exec_simd_fp.h"

#define N fp_lane(&n, sz, i)
#define M fp_lane(&m, sz, i)
#define D fp_lane(&d, sz, i)

/* As FP_LANES, with m (Rm) and d (Rd before). */
#define LANES3(name, size, body)                            \
	int op_##name(struct pe *pe, const struct insn *in) \
	{                                                   \
		const unsigned sz = size;                   \
		struct pe_fp *const fp = &pe->fp;           \
		union vec n, m, d, r = { .ud = { 0, 0 } };  \
		unsigned i, lanes;                          \
                                                            \
		FP_ENTER(pe, in);                           \
		n = simd_reg(pe, in->rn);                   \
		m = simd_reg(pe, in->rm);                   \
		d = simd_reg(pe, in->rd);                   \
		(void)d;                                    \
		lanes = fp_lanes(in, sz);                   \
		for (i = 0; i < lanes; i++)                 \
			fp_set_lane(&r, sz, i, (body));     \
		simd_set(pe, in->rd, &r);                   \
		return (INSN_NEXT);                         \
	}
#define LANES3_EACH(name, body)      \
	LANES3(name##_h, FP_H, body) \
	LANES3(name##_s, FP_S, body) \
	LANES3(name##_d, FP_D, body)

/* Three registers ----------------------------------------------------------- */

LANES3_EACH(fadd_v, fp_add(fp, sz, N, M))
LANES3_EACH(fsub_v, fp_sub(fp, sz, N, M))
LANES3_EACH(fmul_v, fp_mul(fp, sz, N, M))
LANES3_EACH(fdiv_v, fp_div(fp, sz, N, M))
LANES3_EACH(fmulx_v, fp_mulx(fp, sz, N, M))
LANES3_EACH(fabd_v, fp_abs(sz, fp_sub(fp, sz, N, M)))
LANES3_EACH(fmla_v, fp_muladd(fp, sz, D, N, M))
LANES3_EACH(fmls_v, fp_muladd(fp, sz, D, fp_neg(sz, N), M))
LANES3_EACH(fmax_v, fp_max(fp, sz, N, M))
LANES3_EACH(fmin_v, fp_min(fp, sz, N, M))
LANES3_EACH(fmaxnm_v, fp_maxnm(fp, sz, N, M))
LANES3_EACH(fminnm_v, fp_minnm(fp, sz, N, M))
LANES3_EACH(frecps_v, fp_recps(fp, sz, N, M))
LANES3_EACH(frsqrts_v, fp_rsqrts(fp, sz, N, M))

/* All ones or zero; the lane cuts them to size. */
#define MASK(condition) ((condition) ? ~UINT64_C(0) : 0)
#define ABS_N fp_abs(sz, N)
#define ABS_M fp_abs(sz, M)

LANES3_EACH(fcmeq_v, MASK(fp_eq(fp, sz, N, M)))
LANES3_EACH(fcmge_v, MASK(fp_ge(fp, sz, N, M)))
LANES3_EACH(fcmgt_v, MASK(fp_gt(fp, sz, N, M)))
LANES3_EACH(facge_v, MASK(fp_ge(fp, sz, ABS_N, ABS_M)))
LANES3_EACH(facgt_v, MASK(fp_gt(fp, sz, ABS_N, ABS_M)))

/* Two registers ------------------------------------------------------------- */

FP_LANES_EACH(fcmeq0_v, MASK(fp_eq(fp, sz, N, 0)))
FP_LANES_EACH(fcmge0_v, MASK(fp_ge(fp, sz, N, 0)))
FP_LANES_EACH(fcmgt0_v, MASK(fp_gt(fp, sz, N, 0)))
FP_LANES_EACH(fcmle0_v, MASK(fp_ge(fp, sz, 0, N)))
FP_LANES_EACH(fcmlt0_v, MASK(fp_gt(fp, sz, 0, N)))

FP_LANES_EACH(fabs_v, ((void)fp, fp_abs(sz, N)))
FP_LANES_EACH(fneg_v, ((void)fp, fp_neg(sz, N)))
FP_LANES_EACH(fsqrt_v, fp_sqrt(fp, sz, N))
FP_LANES_EACH(frecpe_v, fp_recpe(fp, sz, N))
FP_LANES_EACH(frsqrte_v, fp_rsqrte(fp, sz, N))
FP_LANES_EACH(frecpx_v, fp_recpx(fp, sz, N))

FP_LANES_EACH(frintn_v, fp_round_int(fp, sz, N, FP_TIEEVEN, false))
FP_LANES_EACH(frintp_v, fp_round_int(fp, sz, N, FP_POSINF, false))
FP_LANES_EACH(frintm_v, fp_round_int(fp, sz, N, FP_NEGINF, false))
FP_LANES_EACH(frintz_v, fp_round_int(fp, sz, N, FP_ZERO, false))
FP_LANES_EACH(frinta_v, fp_round_int(fp, sz, N, FP_TIEAWAY, false))
FP_LANES_EACH(frintx_v, fp_round_int(fp, sz, N, fp_rmode(fp), true))
FP_LANES_EACH(frinti_v, fp_round_int(fp, sz, N, fp_rmode(fp), false))
FP_LANES(frint32z_v_s, FP_S, fp_round_int_n(fp, sz, N, FP_ZERO, 32))
FP_LANES(frint32z_v_d, FP_D, fp_round_int_n(fp, sz, N, FP_ZERO, 32))
FP_LANES(frint64z_v_s, FP_S, fp_round_int_n(fp, sz, N, FP_ZERO, 64))
FP_LANES(frint64z_v_d, FP_D, fp_round_int_n(fp, sz, N, FP_ZERO, 64))
FP_LANES(frint32x_v_s, FP_S, fp_round_int_n(fp, sz, N, fp_rmode(fp), 32))
FP_LANES(frint32x_v_d, FP_D, fp_round_int_n(fp, sz, N, fp_rmode(fp), 32))
FP_LANES(frint64x_v_s, FP_S, fp_round_int_n(fp, sz, N, fp_rmode(fp), 64))
FP_LANES(frint64x_v_d, FP_D, fp_round_int_n(fp, sz, N, fp_rmode(fp), 64))

/* Pairwise ------------------------------------------------------------------ */

typedef uint64_t fp_fn2(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);

/* Neighbours of Rn, then of Rm. */
FP_INLINE int
pairwise(struct pe *pe, const struct insn *in, unsigned sz, fp_fn2 *fn)
{
	union vec n, m, r = { .ud = { 0, 0 } };
	unsigned i, half;

	FP_ENTER(pe, in);
	n = simd_reg(pe, in->rn);
	m = simd_reg(pe, in->rm);
	half = fp_lanes(in, sz) / 2;
	for (i = 0; i < half; i++)
		fp_set_lane(
		    &r, sz, i, fn(&pe->fp, sz, fp_lane(&n, sz, 2 * i), fp_lane(&n, sz, 2 * i + 1)));
	for (i = 0; i < half; i++)
		fp_set_lane(&r, sz, half + i,
		    fn(&pe->fp, sz, fp_lane(&m, sz, 2 * i), fp_lane(&m, sz, 2 * i + 1)));
	simd_set(pe, in->rd, &r);
	return (INSN_NEXT);
}

/* The two elements of the scalar form. */
FP_INLINE int
pair(struct pe *pe, const struct insn *in, unsigned sz, fp_fn2 *fn)
{
	union vec n;

	FP_ENTER(pe, in);
	n = simd_reg(pe, in->rn);
	fp_put(pe, sz, in->rd, fn(&pe->fp, sz, fp_lane(&n, sz, 0), fp_lane(&n, sz, 1)));
	return (INSN_NEXT);
}

/* Reduce(): halves are reduced first, which decides between NaNs. */
FP_INLINE int
across(struct pe *pe, const struct insn *in, unsigned sz, fp_fn2 *fn)
{
	unsigned i, lanes;
	union vec n;

	FP_ENTER(pe, in);
	n = simd_reg(pe, in->rn);
	for (lanes = fp_lanes(in, sz); lanes > 1; lanes /= 2)
		for (i = 0; i < lanes / 2; i++)
			fp_set_lane(&n, sz, i,
			    fn(&pe->fp, sz, fp_lane(&n, sz, 2 * i), fp_lane(&n, sz, 2 * i + 1)));
	fp_put(pe, sz, in->rd, fp_lane(&n, sz, 0));
	return (INSN_NEXT);
}

#define FORM(name, form, size, fn)                          \
	int op_##name(struct pe *pe, const struct insn *in) \
	{                                                   \
		return (form(pe, in, size, fn));            \
	}
#define PAIRS(name, fn)                      \
	FORM(name##_v_h, pairwise, FP_H, fn) \
	FORM(name##_v_s, pairwise, FP_S, fn) \
	FORM(name##_v_d, pairwise, FP_D, fn) \
	FORM(name##_ss_h, pair, FP_H, fn)    \
	FORM(name##_ss_s, pair, FP_S, fn)    \
	FORM(name##_ss_d, pair, FP_D, fn)
#define ACROSS(name, fn)                 \
	FORM(name##_h, across, FP_H, fn) \
	FORM(name##_s, across, FP_S, fn)

PAIRS(faddp, fp_add)
PAIRS(fmaxp, fp_max)
PAIRS(fminp, fp_min)
PAIRS(fmaxnmp, fp_maxnm)
PAIRS(fminnmp, fp_minnm)
ACROSS(fmaxv, fp_max)
ACROSS(fminv, fp_min)
ACROSS(fmaxnmv, fp_maxnm)
ACROSS(fminnmv, fp_minnm)
