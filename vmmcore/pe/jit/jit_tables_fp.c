/*
 * How the rows of a64_fp.decode are lowered.
 *
 * Left to their handlers, out of line: half precision, ties away from zero in
 * vectors (FRINTA, FCVTA), FRINT32 and FRINT64, estimates and their steps, FMULX,
 * FCVTXN, FJCVTZS, complex and widening multiplies, pairwise maximum and
 * minimum, fixed-point results.
 */
#include "pe/jit/lower_fp.h"

/* clang-format off */
#define ROW(op, f, a) { A64_##op, (a), HOST_AVX2, lower_##f }
#define SD(op, f) ROW(op##_S, f, 0), ROW(op##_D, f, 0)
/* Vector; vector and scalar Advanced SIMD; by element. */
#define V(op, f) SD(op##_V, f)
#define VSS(op, f) SD(op##_V, f), SD(op##_SS, f)
#define ELEM(op, f) SD(op##_E, f), SD(op##_SE, f)
/* To W and X, from W and X. */
#define TO_G(op) SD(op##_W, fcvt_to_g), SD(op##_X, fcvt_to_g)
#define FROM_G(op)                                                           \
	ROW(op##_S_W, fcvt_from_g, 0), ROW(op##_S_X, fcvt_from_g, 0),        \
	    ROW(op##_D_W, fcvt_from_g, 0), ROW(op##_D_X, fcvt_from_g, 0)

const struct lowering_row jit_rows_fp[] = {
	/* scalar arithmetic */
	SD(FADD, fadd), SD(FSUB, fsub), SD(FMUL, fmul), SD(FDIV, fdiv), SD(FNMUL, fnmul),
	SD(FSQRT, fsqrt), SD(FMADD, fmadd), SD(FMSUB, fmadd), SD(FNMADD, fmadd),
	SD(FNMSUB, fmadd), SD(FABS, fabs), SD(FNEG, fneg), SD(FMOV, fmov),
	SD(FMOV_IMM8, fmov_imm), SD(FMAX, fmax), SD(FMIN, fmin), SD(FMAXNM, fmax),
	SD(FMINNM, fmin), SD(FRINTN, frint), SD(FRINTP, frint), SD(FRINTM, frint),
	SD(FRINTZ, frint), SD(FRINTX, frint), SD(FRINTI, frint),
	SD(FRINTA, frinta),
	/* comparisons */
	ROW(FCMP_S, fcmp, A_SETF), ROW(FCMP_D, fcmp, A_SETF), ROW(FCMPE_S, fcmp, A_SETF),
	ROW(FCMPE_D, fcmp, A_SETF), ROW(FCMP0_S, fcmp, A_SETF), ROW(FCMP0_D, fcmp, A_SETF),
	ROW(FCMPE0_S, fcmp, A_SETF), ROW(FCMPE0_D, fcmp, A_SETF),
	ROW(FCCMP_S, fccmp, A_SETF | A_READF), ROW(FCCMP_D, fccmp, A_SETF | A_READF),
	ROW(FCCMPE_S, fccmp, A_SETF | A_READF), ROW(FCCMPE_D, fccmp, A_SETF | A_READF),
	ROW(FCSEL_S, fcsel, A_READF), ROW(FCSEL_D, fcsel, A_READF),
	/* conversions */
	ROW(FMOV_W_S, fmov_to_g, 0), ROW(FMOV_X_D, fmov_to_g, 0),
	ROW(FMOV_S_W, fmov_from_g, 0), ROW(FMOV_D_X, fmov_from_g, 0),
	ROW(FMOV_VD1_X, fmov_to_high, 0), ROW(FMOV_X_VD1, fmov_from_high, 0),
	ROW(FCVT_D_S, fcvt_d_s, 0), ROW(FCVT_S_D, fcvt_s_d, 0),
	TO_G(FCVTS), TO_G(FCVTU), SD(FCVTAS_W, fcvta_to_g), SD(FCVTAS_X, fcvta_to_g),
	SD(FCVTAU_W, fcvta_to_g), SD(FCVTAU_X, fcvta_to_g), FROM_G(SCVTF), FROM_G(UCVTF), FROM_G(SCVTF_FIX),
	FROM_G(UCVTF_FIX), ROW(FCVTL_V, fcvtl, 0), ROW(FCVTN_V, fcvtn, 0),
	VSS(SCVTF, scvtf), VSS(UCVTF, ucvtf), VSS(FCVTZS, fcvtzs),
	/* vector arithmetic */
	V(FADD, fadd), V(FSUB, fsub), V(FMUL, fmul), V(FDIV, fdiv), VSS(FABD, fabd),
	V(FSQRT, fsqrt), V(FMLA, fmla), V(FMLS, fmla), ELEM(FMLA, fmla_elem),
	ELEM(FMLS, fmla_elem), ELEM(FMUL, fmul_elem), V(FADDP, faddp),
	SD(FADDP_SS, faddp_scalar), V(FABS, fabs), V(FNEG, fneg), V(FMAX, fmax),
	V(FMIN, fmin), V(FMAXNM, fmax), V(FMINNM, fmin), ROW(FMAXV_S, fmaxv, 0),
	ROW(FMINV_S, fmaxv, 0), ROW(FMAXNMV_S, fmaxv, 0), ROW(FMINNMV_S, fmaxv, 0),
	V(FRINTN, frint), V(FRINTP, frint), V(FRINTM, frint), V(FRINTZ, frint),
	V(FRINTX, frint), V(FRINTI, frint), VSS(FCMEQ, fcmeq), VSS(FCMGE, fcmge),
	VSS(FCMGT, fcmgt), VSS(FACGE, facge), VSS(FACGT, facgt), VSS(FCMEQ0, fcmeq0),
	VSS(FCMGE0, fcmge0), VSS(FCMGT0, fcmgt0), VSS(FCMLE0, fcmle0), VSS(FCMLT0, fcmlt0),
	{ 0, 0, 0, NULL },
};
/* clang-format on */
