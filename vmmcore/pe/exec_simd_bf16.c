/*
 * bfloat16 (FEAT_BF16): conversions to it, dot products, matrix multiply and
 * the widening multiply-add (DDI 0487, C7.2: BFCVT, BFCVTN, BFDOT, BFMMLA,
 * BFMLALB, BFMLALT). FEAT_EBF16 is not implemented: dot products round to odd
 * and raise no flags, whatever FPCR says.
 */
#include "pe/exec_simd_fp.h"

int
op_bfcvt(struct pe *pe, const struct insn *in)
{
	FP_ENTER(pe, in);
	fp_put(pe, FP_H, in->rd,
	    fp_soft_convert(&pe->fp, FP_B, FP_S, fp_reg(pe, FP_S, in->rn), fp_rmode(&pe->fp)));
	return (INSN_NEXT);
}

int
op_bfcvtn(struct pe *pe, const struct insn *in)
{
	union vec n, r;
	unsigned i;

	FP_ENTER(pe, in);
	n = simd_reg(pe, in->rn);
	for (i = 0; i < 4; i++)
		r.uh[i] =
		    (uint16_t)fp_soft_convert(&pe->fp, FP_B, FP_S, n.us[i], fp_rmode(&pe->fp));
	simd_put_half(pe, in->rd, r.ud[0], SIMD_Q(in));
	return (INSN_NEXT);
}

static int
dot(struct pe *pe, const struct insn *in, union vec m)
{
	union vec n, d, r = { .ud = { 0, 0 } };
	unsigned i, lanes = SIMD_Q(in) ? 4 : 2;

	FP_ENTER(pe, in);
	n = simd_reg(pe, in->rn);
	d = simd_reg(pe, in->rd);
	for (i = 0; i < lanes; i++)
		r.us[i] = fp_bf_dot_add(d.us[i], n.us[i], m.us[i]);
	simd_set(pe, in->rd, &r);
	return (INSN_NEXT);
}

int
op_bfdot_v(struct pe *pe, const struct insn *in)
{
	return (dot(pe, in, simd_reg(pe, in->rm)));
}

int
op_bfdot_e(struct pe *pe, const struct insn *in)
{
	return (dot(pe, in, simd_element(pe, in, 2)));
}

/* The 2 by 2 matrix Vd plus rows of Vn times rows of Vm, four long. */
int
op_bfmmla(struct pe *pe, const struct insn *in)
{
	union vec n, m, d;
	unsigned i, j;

	FP_ENTER(pe, in);
	n = simd_reg(pe, in->rn);
	m = simd_reg(pe, in->rm);
	d = simd_reg(pe, in->rd);
	for (i = 0; i < 2; i++) {
		for (j = 0; j < 2; j++) {
			uint32_t *sum = &d.us[2 * i + j];

			*sum = fp_bf_dot_add(*sum, n.us[2 * i], m.us[2 * j]);
			*sum = fp_bf_dot_add(*sum, n.us[2 * i + 1], m.us[2 * j + 1]);
		}
	}
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

/* Even (Q = 0) or odd elements, an ordinary fused multiply-add of singles. */
static int
mul_long(struct pe *pe, const struct insn *in, union vec m)
{
	union vec n, d;
	unsigned i, top = SIMD_Q(in);

	FP_ENTER(pe, in);
	n = simd_reg(pe, in->rn);
	d = simd_reg(pe, in->rd);
	for (i = 0; i < 4; i++)
		d.us[i] = (uint32_t)fp_muladd(&pe->fp, FP_S, d.us[i],
		    (uint32_t)n.uh[2 * i + top] << 16, (uint32_t)m.uh[2 * i + top] << 16);
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

int
op_bfmlal_v(struct pe *pe, const struct insn *in)
{
	return (mul_long(pe, in, simd_reg(pe, in->rm)));
}

int
op_bfmlal_e(struct pe *pe, const struct insn *in)
{
	return (mul_long(pe, in, simd_element(pe, in, 1)));
}
