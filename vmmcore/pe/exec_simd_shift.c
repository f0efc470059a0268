/*
 * Advanced SIMD shifts: by register (SSHL and its kind, in three registers of
 * the same type) and by immediate, with the narrowing and widening forms
 * (DDI 0487, C4.1.96).
 *
 * Lanes are handled as 64-bit values; the shifts compilers and the kernel use
 * often (SHL, USHR, SSHR, SHRN, USHLL, SSHLL) have loops over real lanes.
 */
#include <emmintrin.h>

#include "pe/simd.h"

#define SHIFT_ROUND 1
#define SHIFT_SAT 2
#define SHIFT_UNSIGNED_SAT 4 /* SQSHLU, SQSHRUN: signed source, unsigned result */

static inline int64_t
lane_sext(uint64_t v, unsigned bits)
{
	return ((int64_t)(v << (64 - bits)) >> (64 - bits));
}

/* An unsigned lane shifted left by `n`, or right when n is negative. */
static inline uint64_t
shift_u(uint64_t a, int n, unsigned bits, unsigned how, bool *q)
{
	uint64_t r;

	if (n < 0) {
		unsigned m = (unsigned)-n;

		if (m > bits)
			return (0);
		r = m == 64 ? 0 : a >> m;
		return ((how & SHIFT_ROUND) != 0 ? r + (a >> (m - 1) & 1) : r);
	}
	if ((unsigned)n >= bits)
		r = 0;
	else
		r = a << n & lane_mask(bits);
	if ((how & SHIFT_SAT) != 0 && ((unsigned)n >= bits ? a != 0 : r >> n != a)) {
		*q = true;
		return (lane_mask(bits));
	}
	return (r);
}

/* The same of a signed lane. */
static inline int64_t
shift_s(int64_t a, int n, unsigned bits, unsigned how, bool *q)
{
	int64_t r;

	if (n < 0) {
		unsigned m = (unsigned)-n;

		/* Rounding brings both signs to 0 once every bit has left. */
		if (m >= bits)
			return ((how & SHIFT_ROUND) != 0 ? 0 : a >> 63);
		r = a >> m;
		return ((how & SHIFT_ROUND) != 0 ? r + (a >> (m - 1) & 1) : r);
	}
	if ((how & SHIFT_UNSIGNED_SAT) != 0 && a < 0) {
		*q = true;
		return (0);
	}
	if ((how & SHIFT_UNSIGNED_SAT) != 0)
		return ((int64_t)shift_u((uint64_t)a, n, bits, SHIFT_SAT, q));
	if ((unsigned)n >= bits)
		r = 0;
	else
		r = lane_sext((uint64_t)a << n, bits);
	if ((how & SHIFT_SAT) != 0 && ((unsigned)n >= bits ? a != 0 : r >> n != a)) {
		*q = true;
		return (
		    a < 0 ? -(int64_t)(lane_mask(bits) >> 1) - 1 : (int64_t)(lane_mask(bits) >> 1));
	}
	return (r);
}

/* --- by register: the lowest byte of each lane of Rm, signed -------------- */

#define REG_LANES(F, I, FN, HOW)                                  \
	for (unsigned i = 0; i < sizeof(x) / sizeof(x.F[0]); i++) \
		d.F[i] =                                          \
		    (__typeof__(d.F[0]))FN(x.F[i], (int8_t)y.I[i], 8 * sizeof(x.F[0]), HOW, &q);

#define SHIFT_REG(name, S, FN, HOW)                                          \
	int op_##name##_v(struct pe *pe, const struct insn *in)              \
	{                                                                    \
		unsigned size = SIMD_SIZE(in), bytes = simd_bytes(in, size); \
		union vec d, x, y;                                           \
		bool q = false;                                              \
                                                                             \
		SIMD_ENTER(pe, in);                                          \
		x = simd_get(pe, in->rn, bytes);                             \
		y = simd_get(pe, in->rm, bytes);                             \
		switch (size) {                                              \
		case 0:                                                      \
			REG_LANES(S##b, ub, FN, HOW) break;                  \
		case 1:                                                      \
			REG_LANES(S##h, uh, FN, HOW) break;                  \
		case 2:                                                      \
			REG_LANES(S##s, us, FN, HOW) break;                  \
		default:                                                     \
			REG_LANES(S##d, ud, FN, HOW) break;                  \
		}                                                            \
		simd_put(pe, in->rd, d, bytes);                              \
		simd_qc(pe, q);                                              \
		return (INSN_NEXT);                                          \
	}

SHIFT_REG(sshl, s, shift_s, 0)
SHIFT_REG(ushl, u, shift_u, 0)
SHIFT_REG(srshl, s, shift_s, SHIFT_ROUND)
SHIFT_REG(urshl, u, shift_u, SHIFT_ROUND)
SHIFT_REG(sqshl, s, shift_s, SHIFT_SAT)
SHIFT_REG(uqshl, u, shift_u, SHIFT_SAT)
SHIFT_REG(sqrshl, s, shift_s, SHIFT_SAT | SHIFT_ROUND)
SHIFT_REG(uqrshl, u, shift_u, SHIFT_SAT | SHIFT_ROUND)

/* --- by immediate --------------------------------------------------------- */

/* immh:immb; the element size is the highest set bit of immh. */
static inline unsigned
shift_imm(const struct insn *in)
{
	return (FIELD(in->word, 16, 7));
}

static inline unsigned
shift_size(const struct insn *in)
{
	return (28 - (unsigned)__builtin_clz(shift_imm(in)));
}

/* Right shifts: twice the element size less immh:immb, 1 to the size. */
static inline unsigned
shift_right(const struct insn *in, unsigned size)
{
	return ((16u << size) - shift_imm(in));
}

static inline unsigned
shift_left(const struct insn *in, unsigned size)
{
	return (shift_imm(in) - (8u << size));
}

/* EXPR over a (Rn), c (Rd), n (amount) and bits. */
#define IMM_LANES(F, EXPR)                                          \
	for (unsigned i = 0; i < sizeof(x) / sizeof(x.F[0]); i++) { \
		const unsigned bits = sizeof(x.F[0]) * 8;           \
		__typeof__(x.F[0]) a = x.F[i], c = d.F[i];          \
		(void)bits;                                         \
		(void)c;                                            \
		d.F[i] = (__typeof__(a))(EXPR);                     \
	}

#define SHIFT_IMM(name, S, AMOUNT, EXPR)                                      \
	int op_##name##_v(struct pe *pe, const struct insn *in)               \
	{                                                                     \
		unsigned size = shift_size(in), bytes = simd_bytes(in, size); \
		unsigned n = AMOUNT(in, size);                                \
		union vec d, x;                                               \
		bool q = false;                                               \
                                                                              \
		SIMD_ENTER(pe, in);                                           \
		x = simd_get(pe, in->rn, bytes);                              \
		d = simd_reg(pe, in->rd);                                     \
		switch (size) {                                               \
		case 0:                                                       \
			IMM_LANES(S##b, EXPR) break;                          \
		case 1:                                                       \
			IMM_LANES(S##h, EXPR) break;                          \
		case 2:                                                       \
			IMM_LANES(S##s, EXPR) break;                          \
		default:                                                      \
			IMM_LANES(S##d, EXPR) break;                          \
		}                                                             \
		simd_put(pe, in->rd, d, bytes);                               \
		simd_qc(pe, q);                                               \
		return (INSN_NEXT);                                           \
	}

/* A shift by all the bits, without C's undefined behaviour. */
#define SHR_U (n >= bits ? 0 : a >> n)
#define SHR_S (a >> (n >= bits ? bits - 1 : n))

SHIFT_IMM(shl, u, shift_left, (uint64_t)a << n)
SHIFT_IMM(ushr, u, shift_right, SHR_U)
SHIFT_IMM(sshr, s, shift_right, SHR_S)
SHIFT_IMM(usra, u, shift_right, c + SHR_U)
SHIFT_IMM(ssra, s, shift_right, (uint64_t)c + (uint64_t)SHR_S)
SHIFT_IMM(urshr, u, shift_right, shift_u(a, -(int)n, bits, SHIFT_ROUND, &q))
SHIFT_IMM(srshr, s, shift_right, shift_s(a, -(int)n, bits, SHIFT_ROUND, &q))
SHIFT_IMM(ursra, u, shift_right, c + shift_u(a, -(int)n, bits, SHIFT_ROUND, &q))
SHIFT_IMM(srsra, s, shift_right, (uint64_t)c + (uint64_t)shift_s(a, -(int)n, bits, SHIFT_ROUND, &q))
/* Insert: the bits of Rd that nothing is shifted into stay. */
SHIFT_IMM(sli, u, shift_left, (uint64_t)a << n | (c & ((UINT64_C(1) << n) - 1)))
SHIFT_IMM(sri, u, shift_right, n >= bits ? c : a >> n | (c & ~(lane_mask(bits) >> n)))
SHIFT_IMM(sqshl_i, s, shift_left, shift_s(a, (int)n, bits, SHIFT_SAT, &q))
SHIFT_IMM(uqshl_i, u, shift_left, shift_u(a, (int)n, bits, SHIFT_SAT, &q))
SHIFT_IMM(sqshlu, s, shift_left, shift_s(a, (int)n, bits, SHIFT_UNSIGNED_SAT, &q))

/* --- narrow --------------------------------------------------------------- */

/* F: lanes of the result, W: of the source; bits is that of the result. */
#define NARROW_LANES(F, W, EXPR)                            \
	for (unsigned i = 0; i < 8 / sizeof(d.F[0]); i++) { \
		const unsigned bits = sizeof(d.F[0]) * 8;   \
		__typeof__(x.W[0]) a = x.W[i];              \
		(void)bits;                                 \
		d.F[i] = (__typeof__(d.F[0]))(EXPR);        \
	}

#define SHIFT_NARROW(name, S, EXPR)                                                   \
	int op_##name##_v(struct pe *pe, const struct insn *in)                       \
	{                                                                             \
		unsigned size = shift_size(in), n = shift_right(in, size);            \
		union vec d, x;                                                       \
		bool q = false;                                                       \
                                                                                      \
		SIMD_ENTER(pe, in);                                                   \
		x = simd_get(pe, in->rn, SIMD_SCALAR(in) ? 2u << size : 16);          \
		switch (size) {                                                       \
		case 0:                                                               \
			NARROW_LANES(ub, S##h, EXPR) break;                           \
		case 1:                                                               \
			NARROW_LANES(uh, S##s, EXPR) break;                           \
		default:                                                              \
			NARROW_LANES(us, S##d, EXPR) break;                           \
		}                                                                     \
		simd_put_half(pe, in->rd, d.ud[0], SIMD_SCALAR(in) ? 0 : SIMD_Q(in)); \
		simd_qc(pe, q);                                                       \
		return (INSN_NEXT);                                                   \
	}

/* The rounding bit is added after the shift, so nothing is carried out. */
#define ROUND_BIT (a >> (n - 1) & 1)

SHIFT_NARROW(shrn, u, a >> n)
SHIFT_NARROW(rshrn, u, (a >> n) + ROUND_BIT)
SHIFT_NARROW(uqshrn, u, saturate_u(a >> n, bits, &q))
SHIFT_NARROW(uqrshrn, u, saturate_u((uint64_t)(a >> n) + ROUND_BIT, bits, &q))
SHIFT_NARROW(sqshrn, s, saturate_s(a >> n, bits, &q))
SHIFT_NARROW(sqrshrn, s, saturate_s((int64_t)(a >> n) + ROUND_BIT, bits, &q))
SHIFT_NARROW(sqshrun, s, saturate_su(a >> n, bits, &q))
SHIFT_NARROW(sqrshrun, s, saturate_su((int64_t)(a >> n) + ROUND_BIT, bits, &q))

/* The mask of a byte compare to 64 bits: what string functions do. */
int
op_shrn_8b(struct pe *pe, const struct insn *in)
{
	__m128i v;

	SIMD_ENTER(pe, in);
	v = _mm_load_si128((const __m128i *)(const void *)pe->v[in->rn]);
	v = _mm_srl_epi16(v, _mm_cvtsi32_si128((int)(8 - in->a)));
	v = _mm_packus_epi16(_mm_and_si128(v, _mm_set1_epi16(0xff)), _mm_setzero_si128());
	_mm_store_si128((__m128i *)(void *)pe->v[in->rd], v);
	return (INSN_NEXT);
}

/* --- widen ---------------------------------------------------------------- */

#define WIDEN_LANES(W, F)                                 \
	for (unsigned i = 0; i < 8 / sizeof(x.F[0]); i++) \
		d.W[i] = (__typeof__(d.W[0]))((uint64_t)x.F[i] << n);

#define SHIFT_WIDEN(name, S)                                              \
	int op_##name##_v(struct pe *pe, const struct insn *in)           \
	{                                                                 \
		unsigned size = shift_size(in), n = shift_left(in, size); \
		union vec d, x;                                           \
                                                                          \
		SIMD_ENTER(pe, in);                                       \
		x = simd_half(pe, in->rn, SIMD_Q(in));                    \
		switch (size) {                                           \
		case 0:                                                   \
			WIDEN_LANES(uh, S##b) break;                      \
		case 1:                                                   \
			WIDEN_LANES(us, S##h) break;                      \
		default:                                                  \
			WIDEN_LANES(ud, S##s) break;                      \
		}                                                         \
		simd_set(pe, in->rd, &d);                                 \
		return (INSN_NEXT);                                       \
	}

SHIFT_WIDEN(sshll, s)
SHIFT_WIDEN(ushll, u)
