/*
 * Scalar floating-point instructions: data processing with one, two and three
 * sources, compare, conditional compare and select, immediates, moves
 * (DDI 0487, C4.1.96 "Floating-point data-processing"). Each handler exists
 * for half, single and double precision.
 *
 * Not here: conversions (exec_fpcvt.c), vectors and scalar Advanced SIMD
 * (exec_simd_fp.c), the arithmetic (fp.h).
 */
#include "pe/exec_fp.h"

#include "pe/exec_int.h"

/* A handler for each size; `sz` is a constant inside. */
#define EACH_SIZE(name, body)                                   \
	int op_##name##_h(struct pe *pe, const struct insn *in) \
	{                                                       \
		const unsigned sz = FP_H;                       \
		FP_ENTER(pe, in);                               \
		body;                                           \
		return (INSN_NEXT);                             \
	}                                                       \
	int op_##name##_s(struct pe *pe, const struct insn *in) \
	{                                                       \
		const unsigned sz = FP_S;                       \
		FP_ENTER(pe, in);                               \
		body;                                           \
		return (INSN_NEXT);                             \
	}                                                       \
	int op_##name##_d(struct pe *pe, const struct insn *in) \
	{                                                       \
		const unsigned sz = FP_D;                       \
		FP_ENTER(pe, in);                               \
		body;                                           \
		return (INSN_NEXT);                             \
	}

#define N fp_reg(pe, sz, in->rn)
#define M fp_reg(pe, sz, in->rm)
#define A fp_reg(pe, sz, in->ra)
#define PUT(value) fp_put(pe, sz, in->rd, (value))
#define FP (&pe->fp)

/* One source ---------------------------------------------------------------- */

EACH_SIZE(fmov, PUT(N))
EACH_SIZE(fabs, PUT(fp_abs(sz, N)))
EACH_SIZE(fneg, PUT(fp_neg(sz, N)))
EACH_SIZE(fsqrt, PUT(fp_sqrt(FP, sz, N)))
EACH_SIZE(frintn, PUT(fp_round_int(FP, sz, N, FP_TIEEVEN, false)))
EACH_SIZE(frintp, PUT(fp_round_int(FP, sz, N, FP_POSINF, false)))
EACH_SIZE(frintm, PUT(fp_round_int(FP, sz, N, FP_NEGINF, false)))
EACH_SIZE(frintz, PUT(fp_round_int(FP, sz, N, FP_ZERO, false)))
EACH_SIZE(frinta, PUT(fp_round_int(FP, sz, N, FP_TIEAWAY, false)))
EACH_SIZE(frintx, PUT(fp_round_int(FP, sz, N, fp_rmode(FP), true)))
EACH_SIZE(frinti, PUT(fp_round_int(FP, sz, N, fp_rmode(FP), false)))

/* FRINT32 and FRINT64, towards zero and by FPCR; single and double only. */
#define FRINT_N(name, size, rounding, intsize)                     \
	int op_##name(struct pe *pe, const struct insn *in)        \
	{                                                          \
		const unsigned sz = size;                          \
		FP_ENTER(pe, in);                                  \
		PUT(fp_round_int_n(FP, sz, N, rounding, intsize)); \
		return (INSN_NEXT);                                \
	}

FRINT_N(frint32z_s, FP_S, FP_ZERO, 32)
FRINT_N(frint32z_d, FP_D, FP_ZERO, 32)
FRINT_N(frint64z_s, FP_S, FP_ZERO, 64)
FRINT_N(frint64z_d, FP_D, FP_ZERO, 64)
FRINT_N(frint32x_s, FP_S, fp_rmode(FP), 32)
FRINT_N(frint32x_d, FP_D, fp_rmode(FP), 32)
FRINT_N(frint64x_s, FP_S, fp_rmode(FP), 64)
FRINT_N(frint64x_d, FP_D, fp_rmode(FP), 64)

/* Two sources --------------------------------------------------------------- */

EACH_SIZE(fmul, PUT(fp_mul(FP, sz, N, M)))
EACH_SIZE(fdiv, PUT(fp_div(FP, sz, N, M)))
EACH_SIZE(fadd, PUT(fp_add(FP, sz, N, M)))
EACH_SIZE(fsub, PUT(fp_sub(FP, sz, N, M)))
EACH_SIZE(fmax, PUT(fp_max(FP, sz, N, M)))
EACH_SIZE(fmin, PUT(fp_min(FP, sz, N, M)))
EACH_SIZE(fmaxnm, PUT(fp_maxnm(FP, sz, N, M)))
EACH_SIZE(fminnm, PUT(fp_minnm(FP, sz, N, M)))
EACH_SIZE(fnmul, PUT(fp_neg(sz, fp_mul(FP, sz, N, M))))

/* Three sources: the operands are negated, so NaNs change sign too. */

EACH_SIZE(fmadd, PUT(fp_muladd(FP, sz, A, N, M)))
EACH_SIZE(fmsub, PUT(fp_muladd(FP, sz, A, fp_neg(sz, N), M)))
EACH_SIZE(fnmadd, PUT(fp_muladd(FP, sz, fp_neg(sz, A), fp_neg(sz, N), M)))
EACH_SIZE(fnmsub, PUT(fp_muladd(FP, sz, fp_neg(sz, A), N, M)))

/* Compare and select -------------------------------------------------------- */

EACH_SIZE(fcmp, pe->nzcv = fp_compare(FP, sz, N, M, false))
EACH_SIZE(fcmpe, pe->nzcv = fp_compare(FP, sz, N, M, true))
EACH_SIZE(fcmp0, pe->nzcv = fp_compare(FP, sz, N, 0, false))
EACH_SIZE(fcmpe0, pe->nzcv = fp_compare(FP, sz, N, 0, true))
EACH_SIZE(fccmp,
    pe->nzcv = cond_holds(pe, in->a) ? fp_compare(FP, sz, N, M, false) : (uint32_t)in->b << 28)
EACH_SIZE(fccmpe,
    pe->nzcv = cond_holds(pe, in->a) ? fp_compare(FP, sz, N, M, true) : (uint32_t)in->b << 28)
EACH_SIZE(fcsel, PUT(cond_holds(pe, in->a) ? N : M))

/* Immediates and moves ------------------------------------------------------ */

EACH_SIZE(fmov_imm8, PUT(fp_expand_imm(sz, in->a)))

#define MOVE(name, body)                                         \
	int op_fmov_##name(struct pe *pe, const struct insn *in) \
	{                                                        \
		FP_ENTER(pe, in);                                \
		body;                                            \
		return (INSN_NEXT);                              \
	}

MOVE(w_s, pe->x[in->rd] = fp_reg(pe, FP_S, in->rn))
MOVE(x_d, pe->x[in->rd] = fp_reg(pe, FP_D, in->rn))
MOVE(w_h, pe->x[in->rd] = fp_reg(pe, FP_H, in->rn))
MOVE(x_h, pe->x[in->rd] = fp_reg(pe, FP_H, in->rn))
MOVE(s_w, fp_put(pe, FP_S, in->rd, (uint32_t)pe->x[in->rn]))
MOVE(d_x, fp_put(pe, FP_D, in->rd, pe->x[in->rn]))
MOVE(h_w, fp_put(pe, FP_H, in->rd, (uint16_t)pe->x[in->rn]))
MOVE(h_x, fp_put(pe, FP_H, in->rd, (uint16_t)pe->x[in->rn]))
MOVE(x_vd1, pe->x[in->rd] = pe->v[in->rn][1])
MOVE(vd1_x, pe->v[in->rd][1] = pe->x[in->rn])
