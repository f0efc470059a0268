/*
 * Advanced SIMD integer: three registers of the same type, their by-element
 * forms, and the RDM, DotProd and I8MM extensions (DDI 0487, C4.1.96).
 *
 * Each operation is one expression over the lanes `a` (Rn), `b` (Rm) and `c`
 * (Rd before); the macros below instantiate it for every element size.
 * Expressions that multiply start with `1u *`, which keeps 16-bit lanes out of
 * signed arithmetic.
 *
 * Not here: shifts (exec_simd_shift.c), long and narrow forms
 * (exec_simd_long.c), one-source operations (exec_simd_misc.c).
 */
#include <emmintrin.h>

#include "pe/simd.h"

typedef const union vec *vsrc;

#define LANES(F, N, EXPR)                                                  \
	for (unsigned i = 0; i < (N); i++) {                               \
		__typeof__(d->F[0]) a = x->F[i], b = y->F[i], c = d->F[i]; \
		(void)c;                                                   \
		d->F[i] = (__typeof__(d->F[0]))(EXPR);                     \
	}

/* Kernels for 8, 16 and 32 bits, and for all sizes; S is u or s. */
#define KERNEL3(name, S, EXPR)                                                   \
	static inline void k_##name(union vec *d, vsrc x, vsrc y, unsigned size) \
	{                                                                        \
		switch (size) {                                                  \
		case 0:                                                          \
			LANES(S##b, 16, EXPR) break;                             \
		case 1:                                                          \
			LANES(S##h, 8, EXPR) break;                              \
		default:                                                         \
			LANES(S##s, 4, EXPR) break;                              \
		}                                                                \
	}
#define KERNEL4(name, S, EXPR)                                                   \
	static inline void k_##name(union vec *d, vsrc x, vsrc y, unsigned size) \
	{                                                                        \
		switch (size) {                                                  \
		case 0:                                                          \
			LANES(S##b, 16, EXPR) break;                             \
		case 1:                                                          \
			LANES(S##h, 8, EXPR) break;                              \
		case 2:                                                          \
			LANES(S##s, 4, EXPR) break;                              \
		default:                                                         \
			LANES(S##d, 2, EXPR) break;                              \
		}                                                                \
	}

#define OP_SAME(name)                                           \
	int op_##name##_v(struct pe *pe, const struct insn *in) \
	{                                                       \
		unsigned size = SIMD_SIZE(in);                  \
		union vec d, x, y;                              \
                                                                \
		SIMD_ENTER(pe, in);                             \
		x = simd_reg(pe, in->rn);                       \
		y = simd_reg(pe, in->rm);                       \
		d = simd_reg(pe, in->rd);                       \
		k_##name(&d, &x, &y, size);                     \
		simd_put(pe, in->rd, d, simd_bytes(in, size));  \
		return (INSN_NEXT);                             \
	}

#define OP_ELEM(name)                                           \
	int op_##name##_e(struct pe *pe, const struct insn *in) \
	{                                                       \
		unsigned size = SIMD_SIZE(in);                  \
		union vec d, x, y;                              \
                                                                \
		SIMD_ENTER(pe, in);                             \
		x = simd_reg(pe, in->rn);                       \
		y = simd_element(pe, in, size);                 \
		d = simd_reg(pe, in->rd);                       \
		k_##name(&d, &x, &y, size);                     \
		simd_put(pe, in->rd, d, simd_bytes(in, size));  \
		return (INSN_NEXT);                             \
	}

#define SAME3(name, S, EXPR) KERNEL3(name, S, EXPR) OP_SAME(name)
#define SAME4(name, S, EXPR) KERNEL4(name, S, EXPR) OP_SAME(name)

SAME3(shadd, s, ((int64_t)a + b) >> 1)
SAME3(uhadd, u, ((int64_t)a + b) >> 1)
SAME3(srhadd, s, ((int64_t)a + b + 1) >> 1)
SAME3(urhadd, u, ((int64_t)a + b + 1) >> 1)
SAME3(shsub, s, ((int64_t)a - b) >> 1)
SAME3(uhsub, u, ((int64_t)a - b) >> 1)
SAME4(cmgt, s, -(a > b))
SAME4(cmhi, u, -(a > b))
SAME4(cmge, s, -(a >= b))
SAME4(cmhs, u, -(a >= b))
SAME4(cmtst, u, -((a & b) != 0))
SAME4(cmeq, u, -(a == b))
SAME3(smax, s, a > b ? a : b)
SAME3(umax, u, a > b ? a : b)
SAME3(smin, s, a < b ? a : b)
SAME3(umin, u, a < b ? a : b)
SAME3(sabd, s, a > b ? (int64_t)a - b : (int64_t)b - a)
SAME3(uabd, u, a > b ? a - b : b - a)
SAME3(saba, s, c + (a > b ? (int64_t)a - b : (int64_t)b - a))
SAME3(uaba, u, c + (a > b ? a - b : b - a))
SAME4(add, u, a + b)
SAME4(sub, u, a - b)
SAME3(mul, u, 1u * a * b)
SAME3(mla, u, c + 1u * a * b)
SAME3(mls, u, c - 1u * a * b)
OP_ELEM(mul)
OP_ELEM(mla)
OP_ELEM(mls)

int
op_cmeq_16b(struct pe *pe, const struct insn *in)
{
	__m128i *v = (__m128i *)(void *)pe->v;

	SIMD_ENTER(pe, in);
	v[in->rd] = _mm_cmpeq_epi8(v[in->rn], v[in->rm]);
	return (INSN_NEXT);
}

int
op_pmul_v(struct pe *pe, const struct insn *in)
{
	union vec d = { .ud = { 0, 0 } }, x, y;

	SIMD_ENTER(pe, in);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rm);
	for (unsigned bit = 0; bit < 8; bit++)
		for (unsigned i = 0; i < 16; i++)
			d.ub[i] ^= (x.ub[i] << bit) & -((y.ub[i] >> bit) & 1);
	simd_put(pe, in->rd, d, simd_vector(in));
	return (INSN_NEXT);
}

/* --- logical ------------------------------------------------------------- */

#define LOGICAL(name, EXPR)                                                                        \
	int op_##name##_v(struct pe *pe, const struct insn *in)                                    \
	{                                                                                          \
		union vec v;                                                                       \
                                                                                                   \
		SIMD_ENTER(pe, in);                                                                \
		for (unsigned i = 0; i < 2; i++) {                                                 \
			uint64_t a = pe->v[in->rn][i], b = pe->v[in->rm][i], c = pe->v[in->rd][i]; \
                                                                                                   \
			(void)c;                                                                   \
			v.ud[i] = (EXPR);                                                          \
		}                                                                                  \
		simd_put(pe, in->rd, v, simd_vector(in));                                          \
		return (INSN_NEXT);                                                                \
	}

LOGICAL(and, a &b)
LOGICAL(bic, a & ~b)
LOGICAL(orr, a | b)
LOGICAL(orn, a | ~b)
LOGICAL(eor, a ^ b)
LOGICAL(bsl, b ^ ((b ^ a) & c)) /* Rd selects between Rn and Rm */
LOGICAL(bit, c ^ ((c ^ a) & b)) /* Rn where Rm is set */
LOGICAL(bif, c ^ ((c ^ a) & ~b))

/* --- pairwise ------------------------------------------------------------ */

/* Rn and Rm one after the other; for D registers 8 bytes of each. */
union pair {
	union vec v[2];
	uint8_t ub[32];
	uint16_t uh[16];
	uint32_t us[8];
	uint64_t ud[4];
	int8_t sb[32];
	int16_t sh[16];
	int32_t ss[8];
};

#define PAIRS(F, N, EXPR)                                              \
	for (unsigned i = 0; i < (N); i++) {                           \
		__typeof__(d.F[0]) a = t.F[2 * i], b = t.F[2 * i + 1]; \
		d.F[i] = (__typeof__(d.F[0]))(EXPR);                   \
	}

#define PAIRWISE(name, S, EXPR)                                 \
	int op_##name##_v(struct pe *pe, const struct insn *in) \
	{                                                       \
		union pair t = { .ud = { 0 } };                 \
		union vec d;                                    \
                                                                \
		SIMD_ENTER(pe, in);                             \
		if (SIMD_Q(in)) {                               \
			t.v[0] = simd_reg(pe, in->rn);          \
			t.v[1] = simd_reg(pe, in->rm);          \
		} else {                                        \
			t.ud[0] = pe->v[in->rn][0];             \
			t.ud[1] = pe->v[in->rm][0];             \
		}                                               \
		switch (SIMD_SIZE(in)) {                        \
		case 0:                                         \
			PAIRS(S##b, 16, EXPR) break;            \
		case 1:                                         \
			PAIRS(S##h, 8, EXPR) break;             \
		default:                                        \
			PAIRS(S##s, 4, EXPR) break;             \
		}                                               \
		simd_put(pe, in->rd, d, simd_vector(in));       \
		return (INSN_NEXT);                             \
	}

PAIRWISE(addp, u, a + b)
PAIRWISE(smaxp, s, a > b ? a : b)
PAIRWISE(umaxp, u, a > b ? a : b)
PAIRWISE(sminp, s, a < b ? a : b)
PAIRWISE(uminp, u, a < b ? a : b)

/* The forms string functions and the kernel use. */
int
op_addp_16b(struct pe *pe, const struct insn *in)
{
	__m128i *v = (__m128i *)(void *)pe->v;
	const __m128i low = _mm_set1_epi16(0xff);
	__m128i x, y;

	SIMD_ENTER(pe, in);
	x = v[in->rn];
	y = v[in->rm];
	x = _mm_and_si128(_mm_add_epi8(x, _mm_srli_epi16(x, 8)), low);
	y = _mm_and_si128(_mm_add_epi8(y, _mm_srli_epi16(y, 8)), low);
	v[in->rd] = _mm_packus_epi16(x, y);
	return (INSN_NEXT);
}

int
op_umaxp_16b(struct pe *pe, const struct insn *in)
{
	__m128i *v = (__m128i *)(void *)pe->v;
	const __m128i low = _mm_set1_epi16(0xff);
	__m128i x, y;

	SIMD_ENTER(pe, in);
	x = v[in->rn];
	y = v[in->rm];
	x = _mm_and_si128(_mm_max_epu8(x, _mm_srli_epi16(x, 8)), low);
	y = _mm_and_si128(_mm_max_epu8(y, _mm_srli_epi16(y, 8)), low);
	v[in->rd] = _mm_packus_epi16(x, y);
	return (INSN_NEXT);
}

int
op_umaxp_4s(struct pe *pe, const struct insn *in)
{
	union vec d, x, y;

	SIMD_ENTER(pe, in);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rm);
	d.us[0] = x.us[0] > x.us[1] ? x.us[0] : x.us[1];
	d.us[1] = x.us[2] > x.us[3] ? x.us[2] : x.us[3];
	d.us[2] = y.us[0] > y.us[1] ? y.us[0] : y.us[1];
	d.us[3] = y.us[2] > y.us[3] ? y.us[2] : y.us[3];
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

int
op_addp_2d(struct pe *pe, const struct insn *in)
{
	union vec d;

	SIMD_ENTER(pe, in);
	d.ud[0] = pe->v[in->rn][0] + pe->v[in->rn][1];
	d.ud[1] = pe->v[in->rm][0] + pe->v[in->rm][1];
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

/* --- saturating ---------------------------------------------------------- */

/* The same as LANES with `*q` for the expression to set. */
#define SAT_KERNEL4(name, S, EXPR)                                                        \
	static inline void k_##name(union vec *d, vsrc x, vsrc y, unsigned size, bool *q) \
	{                                                                                 \
		switch (size) {                                                           \
		case 0:                                                                   \
			LANES(S##b, 16, EXPR) break;                                      \
		case 1:                                                                   \
			LANES(S##h, 8, EXPR) break;                                       \
		case 2:                                                                   \
			LANES(S##s, 4, EXPR) break;                                       \
		default:                                                                  \
			LANES(S##d, 2, EXPR) break;                                       \
		}                                                                         \
	}
#define SAT_KERNEL_HS(name, EXPR)                                                         \
	static inline void k_##name(union vec *d, vsrc x, vsrc y, unsigned size, bool *q) \
	{                                                                                 \
		if (size == 1) {                                                          \
			LANES(sh, 8, EXPR)                                                \
		} else {                                                                  \
			LANES(ss, 4, EXPR)                                                \
		}                                                                         \
	}

#define SAT_HANDLER(name, suffix, Y)                                         \
	int op_##name##suffix(struct pe *pe, const struct insn *in)          \
	{                                                                    \
		unsigned size = SIMD_SIZE(in), bytes = simd_bytes(in, size); \
		union vec d, x, y;                                           \
		bool q = false;                                              \
                                                                             \
		SIMD_ENTER(pe, in);                                          \
		x = simd_get(pe, in->rn, bytes);                             \
		y = (Y);                                                     \
		d = simd_get(pe, in->rd, bytes);                             \
		k_##name(&d, &x, &y, size, &q);                              \
		simd_put(pe, in->rd, d, bytes);                              \
		simd_qc(pe, q);                                              \
		return (INSN_NEXT);                                          \
	}
#define SAT_SAME(name) SAT_HANDLER(name, _v, simd_get(pe, in->rm, bytes))
#define SAT_ELEM(name) SAT_HANDLER(name, _e, simd_element(pe, in, size))

#define LANE_BITS(T) (sizeof(T) * 8)
/* The largest value of a's signed type; the smallest is one less than minus that. */
#define LANE_MAX(a) ((int64_t)(~UINT64_C(0) >> (65 - LANE_BITS(a))))

/* a OP b in the lane's type; what overflowed is LIMIT. */
#define SAT_BY(BUILTIN, LIMIT)                      \
	({                                          \
		__typeof__(a) r;                    \
		if (BUILTIN(a, b, &r)) {            \
			r = (__typeof__(a))(LIMIT); \
			*q = true;                  \
		}                                   \
		r;                                  \
	})

SAT_KERNEL4(sqadd, s, SAT_BY(__builtin_add_overflow, a < 0 ? -LANE_MAX(a) - 1 : LANE_MAX(a)))
SAT_KERNEL4(uqadd, u, SAT_BY(__builtin_add_overflow, ~UINT64_C(0)))
SAT_KERNEL4(sqsub, s, SAT_BY(__builtin_sub_overflow, a < 0 ? -LANE_MAX(a) - 1 : LANE_MAX(a)))
SAT_KERNEL4(uqsub, u, SAT_BY(__builtin_sub_overflow, 0))
SAT_SAME(sqadd)
SAT_SAME(uqadd)
SAT_SAME(sqsub)
SAT_SAME(uqsub)

/* `v` shifted right by one bit less than the lane, clamped to `bits` bits. */
static inline int64_t
high_half(int64_t v, unsigned bits, bool *q)
{
	int64_t max = (INT64_C(1) << (bits - 1)) - 1;

	v >>= bits - 1;
	if (v > max) {
		*q = true;
		return (max);
	}
	if (v < -max - 1) {
		*q = true;
		return (-max - 1);
	}
	return (v);
}

/*
 * The manual doubles the product and takes the high half; here everything is
 * half as large, so that 32-bit lanes fit in 64 bits: |c << 31| + |a * b| is at
 * most 2^63 - 2^31, plus the rounding constant.
 */
#define ROUND_HALF (INT64_C(1) << (LANE_BITS(a) - 2))
#define ACC_HALF (c * (INT64_C(1) << (LANE_BITS(a) - 1)))

SAT_KERNEL_HS(sqdmulh, high_half((int64_t)a *b, LANE_BITS(a), q))
SAT_KERNEL_HS(sqrdmulh, high_half((int64_t)a *b + ROUND_HALF, LANE_BITS(a), q))
SAT_KERNEL_HS(sqrdmlah, high_half(ACC_HALF + (int64_t)a * b + ROUND_HALF, LANE_BITS(a), q))
SAT_KERNEL_HS(sqrdmlsh, high_half(ACC_HALF - (int64_t)a * b + ROUND_HALF, LANE_BITS(a), q))
SAT_SAME(sqdmulh)
SAT_SAME(sqrdmulh)
SAT_SAME(sqrdmlah)
SAT_SAME(sqrdmlsh)
SAT_ELEM(sqdmulh)
SAT_ELEM(sqrdmulh)
SAT_ELEM(sqrdmlah)
SAT_ELEM(sqrdmlsh)

/* --- dot products and matrix multiply (DotProd, I8MM) -------------------- */

/* Each 32-bit lane gains the sum of four byte products; A and B name lanes. */
#define DOT(name, suffix, A, B, Y)                                  \
	int op_##name##suffix(struct pe *pe, const struct insn *in) \
	{                                                           \
		union vec d, x, y;                                  \
                                                                    \
		SIMD_ENTER(pe, in);                                 \
		x = simd_reg(pe, in->rn);                           \
		y = (Y);                                            \
		d = simd_reg(pe, in->rd);                           \
		for (unsigned i = 0; i < 16; i++)                   \
			d.us[i / 4] += (uint32_t)(x.A[i] * y.B[i]); \
		simd_put(pe, in->rd, d, simd_vector(in));           \
		return (INSN_NEXT);                                 \
	}

DOT(sdot, _v, sb, sb, simd_reg(pe, in->rm))
DOT(udot, _v, ub, ub, simd_reg(pe, in->rm))
DOT(usdot, _v, ub, sb, simd_reg(pe, in->rm))
DOT(sdot, _e, sb, sb, simd_element(pe, in, 2))
DOT(udot, _e, ub, ub, simd_element(pe, in, 2))
DOT(usdot, _e, ub, sb, simd_element(pe, in, 2))
DOT(sudot, _e, sb, ub, simd_element(pe, in, 2))

/* 2x8 by 8x2: Rn and Rm hold two rows of eight bytes, Rd four 32-bit sums. */
#define MMLA(name, A, B)                                                                      \
	int op_##name##_v(struct pe *pe, const struct insn *in)                               \
	{                                                                                     \
		union vec d, x, y;                                                            \
                                                                                              \
		SIMD_ENTER(pe, in);                                                           \
		x = simd_reg(pe, in->rn);                                                     \
		y = simd_reg(pe, in->rm);                                                     \
		d = simd_reg(pe, in->rd);                                                     \
		for (unsigned i = 0; i < 4; i++)                                              \
			for (unsigned k = 0; k < 8; k++)                                      \
				d.us[i] +=                                                    \
				    (uint32_t)(x.A[(i >> 1) * 8 + k] * y.B[(i & 1) * 8 + k]); \
		simd_set(pe, in->rd, &d);                                                     \
		return (INSN_NEXT);                                                           \
	}

MMLA(smmla, sb, sb)
MMLA(ummla, ub, ub)
MMLA(usmmla, ub, sb)
