/*
 * Advanced SIMD integer with results twice or half as wide as the sources:
 * three registers of different types and their by-element forms (DDI 0487,
 * C4.1.96), and PMULL of bytes.
 *
 * A "long" kernel works on the low 64 bits of its sources: the handler has put
 * the half that the Q bit chooses ("2" forms) or the repeated element there.
 *
 * Not here: PMULL of 64 bits (exec_simd_crypto.c), shifts that narrow or widen
 * (exec_simd_shift.c), XTN and its kind (exec_simd_misc.c).
 */
#include "pe/simd.h"

typedef const union vec *vsrc;

/* W and F: fields of the wide result and of the sources. */
#define LONG_LANES(W, F, N, EXPR)                                          \
	for (unsigned i = 0; i < (N); i++) {                               \
		__typeof__(d->W[0]) a = x->F[i], b = y->F[i], c = d->W[i]; \
		(void)c;                                                   \
		d->W[i] = (__typeof__(d->W[0]))(EXPR);                     \
	}

#define LONG_KERNEL(name, S, EXPR)                                               \
	static inline void k_##name(union vec *d, vsrc x, vsrc y, unsigned size) \
	{                                                                        \
		switch (size) {                                                  \
		case 0:                                                          \
			LONG_LANES(S##h, S##b, 8, EXPR) break;                   \
		case 1:                                                          \
			LONG_LANES(S##s, S##h, 4, EXPR) break;                   \
		default:                                                         \
			LONG_LANES(S##d, S##s, 2, EXPR) break;                   \
		}                                                                \
	}

#define LONG_HANDLER(name, suffix, Y)                               \
	int op_##name##suffix(struct pe *pe, const struct insn *in) \
	{                                                           \
		unsigned part = SIMD_Q(in), size = SIMD_SIZE(in);   \
		union vec d, x, y;                                  \
                                                                    \
		SIMD_ENTER(pe, in);                                 \
		x = simd_half(pe, in->rn, part);                    \
		y = (Y);                                            \
		d = simd_reg(pe, in->rd);                           \
		k_##name(&d, &x, &y, size);                         \
		simd_set(pe, in->rd, &d);                           \
		return (INSN_NEXT);                                 \
	}
#define LONG_OP(name) LONG_HANDLER(name, _v, simd_half(pe, in->rm, part))
#define LONG_ELEM(name) LONG_HANDLER(name, _e, simd_element(pe, in, size))

/*
 * Lanes are already of the wide type. Sums are taken as 64 bits and products
 * as unsigned, so that only the truncation to the wide lane is left; `1ull *`
 * keeps accumulations modulo 2^64.
 */
LONG_KERNEL(saddl, s, (int64_t)a + b)
LONG_KERNEL(uaddl, u, a + b)
LONG_KERNEL(ssubl, s, (int64_t)a - b)
LONG_KERNEL(usubl, u, a - b)
LONG_KERNEL(sabdl, s, a > b ? (int64_t)a - b : (int64_t)b - a)
LONG_KERNEL(uabdl, u, a > b ? a - b : b - a)
LONG_KERNEL(sabal, s, 1ull * c + (a > b ? (int64_t)a - b : (int64_t)b - a))
LONG_KERNEL(uabal, u, c + (a > b ? a - b : b - a))
LONG_KERNEL(smull, s, (int64_t)a *b)
LONG_KERNEL(umull, u, 1u * a * b)
LONG_KERNEL(smlal, s, 1ull * c + (int64_t)a * b)
LONG_KERNEL(umlal, u, c + 1u * a * b)
LONG_KERNEL(smlsl, s, 1ull * c - (int64_t)a * b)
LONG_KERNEL(umlsl, u, c - 1u * a * b)

LONG_OP(saddl)
LONG_OP(uaddl)
LONG_OP(ssubl)
LONG_OP(usubl)
LONG_OP(sabdl)
LONG_OP(uabdl)
LONG_OP(sabal)
LONG_OP(uabal)
LONG_OP(smull)
LONG_OP(umull)
LONG_OP(smlal)
LONG_OP(umlal)
LONG_OP(smlsl)
LONG_OP(umlsl)
LONG_ELEM(smull)
LONG_ELEM(umull)
LONG_ELEM(smlal)
LONG_ELEM(umlal)
LONG_ELEM(smlsl)
LONG_ELEM(umlsl)

/* --- wide: the first source is as wide as the result ---------------------- */

#define WIDE_LANES(W, F, N, OP)            \
	for (unsigned i = 0; i < (N); i++) \
		d.W[i] = (__typeof__(d.W[0]))(x.W[i] OP(uint64_t) y.F[i]);

#define WIDE_OP(name, S, OP)                                    \
	int op_##name##_v(struct pe *pe, const struct insn *in) \
	{                                                       \
		union vec d, x, y;                              \
                                                                \
		SIMD_ENTER(pe, in);                             \
		x = simd_reg(pe, in->rn);                       \
		y = simd_half(pe, in->rm, SIMD_Q(in));          \
		switch (SIMD_SIZE(in)) {                        \
		case 0:                                         \
			WIDE_LANES(uh, S##b, 8, OP) break;      \
		case 1:                                         \
			WIDE_LANES(us, S##h, 4, OP) break;      \
		default:                                        \
			WIDE_LANES(ud, S##s, 2, OP) break;      \
		}                                               \
		simd_set(pe, in->rd, &d);                       \
		return (INSN_NEXT);                             \
	}

WIDE_OP(saddw, s, +)
WIDE_OP(uaddw, u, +)
WIDE_OP(ssubw, s, -)
WIDE_OP(usubw, u, -)

/* --- narrow: the high half of a sum or difference ------------------------- */

#define HIGH_LANES(W, F, N, OP, ROUND)                                                          \
	for (unsigned i = 0; i < (N); i++) {                                                    \
		const unsigned half = sizeof(d.F[0]) * 8;                                       \
		uint64_t v = (uint64_t)x.W[i] OP y.W[i];                                        \
                                                                                                \
		d.F[i] = (__typeof__(d.F[0]))((v + ((uint64_t)(ROUND) << (half - 1))) >> half); \
	}

#define HIGH_OP(name, OP, ROUND)                                \
	int op_##name##_v(struct pe *pe, const struct insn *in) \
	{                                                       \
		union vec d, x, y;                              \
                                                                \
		SIMD_ENTER(pe, in);                             \
		x = simd_reg(pe, in->rn);                       \
		y = simd_reg(pe, in->rm);                       \
		switch (SIMD_SIZE(in)) {                        \
		case 0:                                         \
			HIGH_LANES(uh, ub, 8, OP, ROUND) break; \
		case 1:                                         \
			HIGH_LANES(us, uh, 4, OP, ROUND) break; \
		default:                                        \
			HIGH_LANES(ud, us, 2, OP, ROUND) break; \
		}                                               \
		simd_put_half(pe, in->rd, d.ud[0], SIMD_Q(in)); \
		return (INSN_NEXT);                             \
	}

HIGH_OP(addhn, +, 0)
HIGH_OP(subhn, -, 0)
HIGH_OP(raddhn, +, 1)
HIGH_OP(rsubhn, -, 1)

/* --- doubling, saturating ------------------------------------------------- */

/* 2 * a * b of `bits`-bit sources: only the square of the minimum overflows. */
static inline int64_t
double_product(int64_t a, int64_t b, unsigned bits, bool *q)
{
	int64_t p = a * b;

	if (p == INT64_C(1) << (2 * bits - 2)) {
		*q = true;
		return ((int64_t)((UINT64_C(1) << (2 * bits - 1)) - 1));
	}
	return (p * 2);
}

/* c + v or c - v saturated to `bits` (32 or 64) bits. */
static inline int64_t
accumulate(int64_t c, int64_t v, unsigned bits, bool subtract, bool *q)
{
	const int64_t max = (int64_t)(~UINT64_C(0) >> (65 - bits));
	int64_t r;
	bool over = subtract ? __builtin_sub_overflow(c, v, &r) : __builtin_add_overflow(c, v, &r);

	if (over) {
		*q = true;
		return (c < 0 ? -max - 1 : max);
	}
	if (r > max || r < -max - 1) {
		*q = true;
		return (r < 0 ? -max - 1 : max);
	}
	return (r);
}

#define DOUBLE_LANES(W, F, N, EXPR)                                               \
	for (unsigned i = 0; i < (N); i++) {                                      \
		const unsigned bits = sizeof(x.F[0]) * 8;                         \
		int64_t v = double_product(x.F[i], y.F[i], bits, &q), c = d.W[i]; \
                                                                                  \
		(void)c;                                                          \
		d.W[i] = (__typeof__(d.W[0]))(EXPR);                              \
	}

/* A scalar has one lane; zeros in the others neither overflow nor matter. */
#define DOUBLE_HANDLER(name, suffix, Y, EXPR)                            \
	int op_##name##suffix(struct pe *pe, const struct insn *in)      \
	{                                                                \
		unsigned size = SIMD_SIZE(in), scalar = SIMD_SCALAR(in); \
		unsigned part = scalar ? 0 : SIMD_Q(in);                 \
		union vec d, x, y;                                       \
		bool q = false;                                          \
                                                                         \
		SIMD_ENTER(pe, in);                                      \
		x = simd_half(pe, in->rn, part);                         \
		y = (Y);                                                 \
		d = simd_reg(pe, in->rd);                                \
		if (scalar) {                                            \
			simd_trim(&x, 1u << size);                       \
			simd_trim(&d, 2u << size);                       \
		}                                                        \
		if (size == 1) {                                         \
			DOUBLE_LANES(ss, sh, 4, EXPR)                    \
		} else {                                                 \
			DOUBLE_LANES(sd, ss, 2, EXPR)                    \
		}                                                        \
		simd_put(pe, in->rd, d, scalar ? 2u << size : 16);       \
		simd_qc(pe, q);                                          \
		return (INSN_NEXT);                                      \
	}
#define DOUBLE_OP(name, EXPR)                                       \
	DOUBLE_HANDLER(name, _v, simd_half(pe, in->rm, part), EXPR) \
	DOUBLE_HANDLER(name, _e, simd_element(pe, in, size), EXPR)

DOUBLE_OP(sqdmull, v)
DOUBLE_OP(sqdmlal, accumulate(c, v, 2 * bits, false, &q))
DOUBLE_OP(sqdmlsl, accumulate(c, v, 2 * bits, true, &q))

/* --- polynomial ----------------------------------------------------------- */

int
op_pmull_8h(struct pe *pe, const struct insn *in)
{
	union vec d = { .ud = { 0, 0 } }, x, y;

	SIMD_ENTER(pe, in);
	x = simd_half(pe, in->rn, SIMD_Q(in));
	y = simd_half(pe, in->rm, SIMD_Q(in));
	for (unsigned bit = 0; bit < 8; bit++)
		for (unsigned i = 0; i < 8; i++)
			d.uh[i] ^= (uint16_t)((x.ub[i] << bit) & -((y.ub[i] >> bit) & 1));
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}
