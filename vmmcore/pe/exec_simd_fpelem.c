/*
 * Advanced SIMD floating-point multiplies: by element (vector and scalar),
 * complex (FCMLA, FCADD) and half to single (FMLAL, FMLSL) (DDI 0487,
 * C4.1.96).
 */
#include "pe/exec_simd_fp.h"

#define N fp_lane(&n, sz, i)
#define D fp_lane(&d, sz, i)

/* The element of Rm that H, L and M select. */
FP_INLINE uint64_t
element(const struct pe *pe, const struct insn *in, unsigned sz)
{
	unsigned h = FIELD(in->word, 11, 1), l = FIELD(in->word, 21, 1), m = (in->rm >> 4) & 1;
	union vec v;

	if (sz == FP_H) {
		v = simd_reg(pe, in->rm & 15);
		return (v.uh[h << 2 | l << 1 | m]);
	}
	v = simd_reg(pe, in->rm);
	return (sz == FP_S ? v.us[h << 1 | l] : v.ud[h]);
}

#define BY_ELEMENT(name, size, body)                        \
	int op_##name(struct pe *pe, const struct insn *in) \
	{                                                   \
		const unsigned sz = size;                   \
		struct pe_fp *const fp = &pe->fp;           \
		union vec n, d, r = { .ud = { 0, 0 } };     \
		unsigned i, lanes;                          \
		uint64_t e;                                 \
                                                            \
		FP_ENTER(pe, in);                           \
		n = simd_reg(pe, in->rn);                   \
		d = simd_reg(pe, in->rd);                   \
		(void)d;                                    \
		e = element(pe, in, sz);                    \
		lanes = fp_lanes(in, sz);                   \
		for (i = 0; i < lanes; i++)                 \
			fp_set_lane(&r, sz, i, (body));     \
		simd_set(pe, in->rd, &r);                   \
		return (INSN_NEXT);                         \
	}
#define BY_ELEMENT_EACH(name, body)      \
	BY_ELEMENT(name##_h, FP_H, body) \
	BY_ELEMENT(name##_s, FP_S, body) \
	BY_ELEMENT(name##_d, FP_D, body)

BY_ELEMENT_EACH(fmul_e, fp_mul(fp, sz, N, e))
BY_ELEMENT_EACH(fmulx_e, fp_mulx(fp, sz, N, e))
BY_ELEMENT_EACH(fmla_e, fp_muladd(fp, sz, D, N, e))
BY_ELEMENT_EACH(fmls_e, fp_muladd(fp, sz, D, fp_neg(sz, N), e))

/* Half to single ------------------------------------------------------------ */

/* FMLAL, FMLSL and their upper forms; e != NULL: by element. */
static int
mul_long(struct pe *pe, const struct insn *in, bool upper, const uint64_t *e)
{
	unsigned i, q = SIMD_Q(in), lanes = q ? 4 : 2, first = upper ? lanes : 0;
	union vec n = simd_reg(pe, in->rn), m = simd_reg(pe, in->rm);
	union vec d = simd_reg(pe, in->rd), r = { .ud = { 0, 0 } };

	for (i = 0; i < lanes; i++)
		r.us[i] = (uint32_t)fp_muladd_h(&pe->fp, d.us[i],
		    in->a ? fp_neg(FP_H, n.uh[first + i]) : n.uh[first + i],
		    e != NULL ? *e : m.uh[first + i]);
	simd_set(pe, in->rd, &r);
	return (INSN_NEXT);
}

int
op_fmlal_v(struct pe *pe, const struct insn *in)
{
	FP_ENTER(pe, in);
	return (mul_long(pe, in, false, NULL));
}

int
op_fmlal2_v(struct pe *pe, const struct insn *in)
{
	FP_ENTER(pe, in);
	return (mul_long(pe, in, true, NULL));
}

int
op_fmlal_e(struct pe *pe, const struct insn *in)
{
	uint64_t e;

	FP_ENTER(pe, in);
	e = element(pe, in, FP_H);
	return (mul_long(pe, in, false, &e));
}

int
op_fmlal2_e(struct pe *pe, const struct insn *in)
{
	uint64_t e;

	FP_ENTER(pe, in);
	e = element(pe, in, FP_H);
	return (mul_long(pe, in, true, &e));
}

/* Complex numbers: even lanes are real, odd lanes imaginary ----------------- */

/*
 * FCMLA multiplies both parts of Rm, turned by 90 degrees times rot, by one
 * part of Rn: the real one when rot is even, the imaginary one when it is odd.
 */
FP_INLINE int
complex_mla(struct pe *pe, const struct insn *in, unsigned sz, bool by_element)
{
	struct pe_fp *fp = &pe->fp;
	union vec n, m, d, r = { .ud = { 0, 0 } };
	unsigned i, j, lanes, rot = in->a, swap = rot & 1;

	FP_ENTER(pe, in);
	n = simd_reg(pe, in->rn);
	m = simd_reg(pe, in->rm);
	d = simd_reg(pe, in->rd);
	lanes = fp_lanes(in, sz);
	for (i = 0; i < lanes; i += 2) {
		uint64_t factor = fp_lane(&n, sz, i + swap), re, im;

		/* a pair of 16-bit elements is H:L, of 32-bit ones H */
		j = i;
		if (by_element)
			j = 2 * (sz == FP_H ? FIELD(in->word, 11, 1) << 1 | FIELD(in->word, 21, 1)
					    : FIELD(in->word, 11, 1));
		re = fp_lane(&m, sz, j + swap);
		im = fp_lane(&m, sz, j + (swap ^ 1));
		if (rot == 1 || rot == 2)
			re = fp_neg(sz, re);
		if (rot >= 2)
			im = fp_neg(sz, im);
		fp_set_lane(&r, sz, i, fp_muladd(fp, sz, fp_lane(&d, sz, i), factor, re));
		fp_set_lane(&r, sz, i + 1, fp_muladd(fp, sz, fp_lane(&d, sz, i + 1), factor, im));
	}
	simd_set(pe, in->rd, &r);
	return (INSN_NEXT);
}

/* FCADD: Rn plus Rm turned by 90 (rot 0) or 270 degrees. */
FP_INLINE int
complex_add(struct pe *pe, const struct insn *in, unsigned sz)
{
	struct pe_fp *fp = &pe->fp;
	union vec n, m, r = { .ud = { 0, 0 } };
	unsigned i, lanes;

	FP_ENTER(pe, in);
	n = simd_reg(pe, in->rn);
	m = simd_reg(pe, in->rm);
	lanes = fp_lanes(in, sz);
	for (i = 0; i < lanes; i += 2) {
		uint64_t re = fp_lane(&m, sz, i + 1), im = fp_lane(&m, sz, i);

		if (in->a)
			im = fp_neg(sz, im);
		else
			re = fp_neg(sz, re);
		fp_set_lane(&r, sz, i, fp_add(fp, sz, fp_lane(&n, sz, i), re));
		fp_set_lane(&r, sz, i + 1, fp_add(fp, sz, fp_lane(&n, sz, i + 1), im));
	}
	simd_set(pe, in->rd, &r);
	return (INSN_NEXT);
}

#define COMPLEX(name, call)                                 \
	int op_##name(struct pe *pe, const struct insn *in) \
	{                                                   \
		return (call);                              \
	}

COMPLEX(fcmla_v_h, complex_mla(pe, in, FP_H, false))
COMPLEX(fcmla_v_s, complex_mla(pe, in, FP_S, false))
COMPLEX(fcmla_v_d, complex_mla(pe, in, FP_D, false))
COMPLEX(fcmla_e_h, complex_mla(pe, in, FP_H, true))
COMPLEX(fcmla_e_s, complex_mla(pe, in, FP_S, true))
COMPLEX(fcadd_v_h, complex_add(pe, in, FP_H))
COMPLEX(fcadd_v_s, complex_add(pe, in, FP_S))
COMPLEX(fcadd_v_d, complex_add(pe, in, FP_D))
