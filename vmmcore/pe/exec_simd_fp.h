/*
 * Lanes of floating-point vectors. Lanes that do not take part are not
 * computed, since they could set flags of FPSR. Not here: handlers.
 */
#ifndef PE_EXEC_SIMD_FP_H
#define PE_EXEC_SIMD_FP_H

#include "pe/exec_fp.h"
#include "pe/simd.h"

FP_INLINE uint64_t
fp_lane(const union vec *v, unsigned sz, unsigned i)
{
	return (sz == FP_D ? v->ud[i] : sz == FP_S ? v->us[i] : v->uh[i]);
}

FP_INLINE void
fp_set_lane(union vec *v, unsigned sz, unsigned i, uint64_t value)
{
	if (sz == FP_D)
		v->ud[i] = value;
	else if (sz == FP_S)
		v->us[i] = (uint32_t)value;
	else
		v->uh[i] = (uint16_t)value;
}

/* Lanes that take part: 1 in the scalar forms. */
FP_INLINE unsigned
fp_lanes(const struct insn *in, unsigned sz)
{
	return (simd_bytes(in, sz) >> sz);
}

/* Run `body` for each lane i of n (Rn) and write r to Rd. */
#define FP_LANES(name, size, body)                          \
	int op_##name(struct pe *pe, const struct insn *in) \
	{                                                   \
		const unsigned sz = size;                   \
		struct pe_fp *const fp = &pe->fp;           \
		union vec n, r = { .ud = { 0, 0 } };        \
		unsigned i, lanes;                          \
                                                            \
		FP_ENTER(pe, in);                           \
		n = simd_reg(pe, in->rn);                   \
		lanes = fp_lanes(in, sz);                   \
		for (i = 0; i < lanes; i++)                 \
			fp_set_lane(&r, sz, i, (body));     \
		simd_set(pe, in->rd, &r);                   \
		return (INSN_NEXT);                         \
	}
#define FP_LANES_EACH(name, body)      \
	FP_LANES(name##_h, FP_H, body) \
	FP_LANES(name##_s, FP_S, body) \
	FP_LANES(name##_d, FP_D, body)

#endif /* PE_EXEC_SIMD_FP_H */
