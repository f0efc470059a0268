/*
 * Scalar floating-point conversions: between sizes, to and from general
 * registers as integers and fixed-point numbers, FJCVTZS (DDI 0487, C4.1.96
 * "Conversion between floating-point and integer" and "... fixed-point").
 *
 * Not here: the scalar Advanced SIMD forms (exec_simd_fpcvt.c).
 */
#include "pe/exec_fp.h"

/* Between sizes */

#define CONVERT(name, to, from)                                                                  \
	int op_fcvt_##name(struct pe *pe, const struct insn *in)                                 \
	{                                                                                        \
		FP_ENTER(pe, in);                                                                \
		fp_put(pe, to, in->rd, fp_convert(&pe->fp, to, from, fp_reg(pe, from, in->rn))); \
		return (INSN_NEXT);                                                              \
	}

CONVERT(s_h, FP_S, FP_H)
CONVERT(d_h, FP_D, FP_H)
CONVERT(h_s, FP_H, FP_S)
CONVERT(d_s, FP_D, FP_S)
CONVERT(h_d, FP_H, FP_D)
CONVERT(s_d, FP_S, FP_D)

/*
 * To a general register: FCVTNx, FCVTPx, FCVTMx and FCVTZx round by a field of
 * the instruction, FCVTAx to nearest with ties away, the fixed-point forms
 * towards zero.
 */
#define TO_REG(name, size, bits, is_unsigned, fbits, rounding)                                    \
	int op_##name(struct pe *pe, const struct insn *in)                                       \
	{                                                                                         \
		FP_ENTER(pe, in);                                                                 \
		pe->x[in->rd] = fp_to_fixed(                                                      \
		    &pe->fp, size, fp_reg(pe, size, in->rn), fbits, bits, is_unsigned, rounding); \
		return (INSN_NEXT);                                                               \
	}
#define FROM_REG(name, size, value, is_unsigned, fbits)                                            \
	int op_##name(struct pe *pe, const struct insn *in)                                        \
	{                                                                                          \
		FP_ENTER(pe, in);                                                                  \
		fp_put(pe, size, in->rd, fp_from_fixed(&pe->fp, size, value, fbits, is_unsigned)); \
		return (INSN_NEXT);                                                                \
	}

#define ROUNDING ((enum fp_rounding)in->a)
#define SCALE (64u - in->a)
#define UXTW ((uint32_t)pe->x[in->rn])
#define SXTW ((uint64_t)(int64_t)(int32_t)pe->x[in->rn])
#define XREG (pe->x[in->rn])

#define REG_FORMS(t, size)                                        \
	TO_REG(fcvts_w_##t, size, 32, false, 0, ROUNDING)         \
	TO_REG(fcvtu_w_##t, size, 32, true, 0, ROUNDING)          \
	TO_REG(fcvts_x_##t, size, 64, false, 0, ROUNDING)         \
	TO_REG(fcvtu_x_##t, size, 64, true, 0, ROUNDING)          \
	TO_REG(fcvtas_w_##t, size, 32, false, 0, FP_TIEAWAY)      \
	TO_REG(fcvtau_w_##t, size, 32, true, 0, FP_TIEAWAY)       \
	TO_REG(fcvtas_x_##t, size, 64, false, 0, FP_TIEAWAY)      \
	TO_REG(fcvtau_x_##t, size, 64, true, 0, FP_TIEAWAY)       \
	TO_REG(fcvtzs_fix_w_##t, size, 32, false, SCALE, FP_ZERO) \
	TO_REG(fcvtzu_fix_w_##t, size, 32, true, SCALE, FP_ZERO)  \
	TO_REG(fcvtzs_fix_x_##t, size, 64, false, SCALE, FP_ZERO) \
	TO_REG(fcvtzu_fix_x_##t, size, 64, true, SCALE, FP_ZERO)  \
	FROM_REG(scvtf_##t##_w, size, SXTW, false, 0)             \
	FROM_REG(ucvtf_##t##_w, size, UXTW, true, 0)              \
	FROM_REG(scvtf_##t##_x, size, XREG, false, 0)             \
	FROM_REG(ucvtf_##t##_x, size, XREG, true, 0)              \
	FROM_REG(scvtf_fix_##t##_w, size, SXTW, false, SCALE)     \
	FROM_REG(ucvtf_fix_##t##_w, size, UXTW, true, SCALE)      \
	FROM_REG(scvtf_fix_##t##_x, size, XREG, false, SCALE)     \
	FROM_REG(ucvtf_fix_##t##_x, size, XREG, true, SCALE)

REG_FORMS(h, FP_H)
REG_FORMS(s, FP_S)
REG_FORMS(d, FP_D)

int
op_fjcvtzs(struct pe *pe, const struct insn *in)
{
	bool z;

	FP_ENTER(pe, in);
	pe->x[in->rd] = fp_to_js(&pe->fp, pe->v[in->rn][0], &z);
	pe->nzcv = z ? (uint32_t)PS_Z : 0;
	return (INSN_NEXT);
}
