/*
 * Advanced SIMD integer with one source: two registers, miscellaneous, and
 * across lanes (DDI 0487, C4.1.96). The accumulating ones see Rd as `c`.
 *
 * Not here: floating point members of the same encoding class.
 */
#include "pe/fp.h"
#include "pe/simd.h"

typedef const union vec *vsrc;

#define LANES(F, N, EXPR)                                     \
	for (unsigned i = 0; i < (N); i++) {                  \
		__typeof__(d->F[0]) a = x->F[i], c = d->F[i]; \
		(void)c;                                      \
		d->F[i] = (__typeof__(d->F[0]))(EXPR);        \
	}

/* `q` is for the saturating ones; the sources are trimmed for their sake. */
#define MISC(name, S, EXPR)                                                       \
	static inline void k_##name(union vec *d, vsrc x, unsigned size, bool *q) \
	{                                                                         \
		(void)q;                                                          \
		switch (size) {                                                   \
		case 0:                                                           \
			LANES(S##b, 16, EXPR) break;                              \
		case 1:                                                           \
			LANES(S##h, 8, EXPR) break;                               \
		case 2:                                                           \
			LANES(S##s, 4, EXPR) break;                               \
		default:                                                          \
			LANES(S##d, 2, EXPR) break;                               \
		}                                                                 \
	}                                                                         \
	int op_##name##_v(struct pe *pe, const struct insn *in)                   \
	{                                                                         \
		unsigned size = SIMD_SIZE(in), bytes = simd_bytes(in, size);      \
		union vec d, x;                                                   \
		bool q = false;                                                   \
                                                                                  \
		SIMD_ENTER(pe, in);                                               \
		x = simd_get(pe, in->rn, bytes);                                  \
		d = simd_get(pe, in->rd, bytes);                                  \
		k_##name(&d, &x, size, &q);                                       \
		simd_put(pe, in->rd, d, bytes);                                   \
		simd_qc(pe, q);                                                   \
		return (INSN_NEXT);                                               \
	}

#define LANE_BITS(a) ((unsigned)sizeof(a) * 8)
/* The largest value of a's size as a signed number. */
#define LANE_MAX(a) ((int64_t)(~UINT64_C(0) >> (65 - LANE_BITS(a))))

static inline unsigned
count_zeros(uint64_t v, unsigned bits)
{
	return (v == 0 ? bits : (unsigned)__builtin_clzll(v) - (64 - bits));
}

MISC(cmgt0, s, -(a > 0))
MISC(cmge0, s, -(a >= 0))
MISC(cmeq0, s, -(a == 0))
MISC(cmle0, s, -(a <= 0))
MISC(cmlt0, s, -(a < 0))
MISC(abs, s, a < 0 ? 0 - (uint64_t)a : (uint64_t)a)
MISC(neg, u, 0u - a)
MISC(clz, u, count_zeros(a, LANE_BITS(a)))
/* Sign bits after the first one: zeros above a ^ (a shifted by one). */
MISC(cls, s, __builtin_clrsbll((int64_t)a) - (int)(64 - LANE_BITS(a)))

/* Saturating: only the minimum has no opposite. */
#define OPPOSITE                                                       \
	({                                                             \
		__typeof__(a) r;                                       \
		if (__builtin_sub_overflow((__typeof__(a))0, a, &r)) { \
			*q = true;                                     \
			r = (__typeof__(a))LANE_MAX(a);                \
		}                                                      \
		r;                                                     \
	})
MISC(sqabs, s, a < 0 ? OPPOSITE : a)
MISC(sqneg, s, OPPOSITE)

/* Rd of one signedness plus Rn of the other; the builtin adds without limit. */
#define ADD_MIXED(ACC_T, V, LIMIT)                             \
	({                                                     \
		ACC_T r;                                       \
		if (__builtin_add_overflow((ACC_T)c, V, &r)) { \
			*q = true;                             \
			r = (ACC_T)(LIMIT);                    \
		}                                              \
		r;                                             \
	})

/* suqadd: c signed, a taken as unsigned; usqadd: c unsigned, a signed. */
MISC(suqadd, s, ADD_MIXED(__typeof__(a), (uint64_t)a &lane_mask(LANE_BITS(a)), LANE_MAX(a)))

#define USQADD_LANES(U, S, N)                                                             \
	for (unsigned i = 0; i < (N); i++) {                                              \
		__typeof__(d.U[0]) c = d.U[i];                                            \
		d.U[i] = ADD_MIXED(__typeof__(c), x.S[i], x.S[i] < 0 ? 0 : ~UINT64_C(0)); \
	}

int
op_usqadd_v(struct pe *pe, const struct insn *in)
{
	unsigned size = SIMD_SIZE(in), bytes = simd_bytes(in, size);
	bool saturated = false, *q = &saturated;
	union vec d, x;

	SIMD_ENTER(pe, in);
	x = simd_get(pe, in->rn, bytes);
	d = simd_get(pe, in->rd, bytes);
	switch (size) {
	case 0:
		USQADD_LANES(ub, sb, 16) break;
	case 1:
		USQADD_LANES(uh, sh, 8) break;
	case 2:
		USQADD_LANES(us, ss, 4) break;
	default:
		USQADD_LANES(ud, sd, 2) break;
	}
	simd_put(pe, in->rd, d, bytes);
	simd_qc(pe, saturated);
	return (INSN_NEXT);
}

int
op_cmeq0_16b(struct pe *pe, const struct insn *in)
{
	union vec v;

	SIMD_ENTER(pe, in);
	v = simd_reg(pe, in->rn);
	for (unsigned i = 0; i < 16; i++)
		v.ub[i] = v.ub[i] == 0 ? 0xff : 0;
	simd_set(pe, in->rd, &v);
	return (INSN_NEXT);
}

/* --- bytes and bits ------------------------------------------------------- */

#define BYTEWISE(name, EXPR)                                    \
	int op_##name##_v(struct pe *pe, const struct insn *in) \
	{                                                       \
		union vec v;                                    \
                                                                \
		SIMD_ENTER(pe, in);                             \
		v = simd_reg(pe, in->rn);                       \
		for (unsigned i = 0; i < 2; i++) {              \
			uint64_t a = v.ud[i];                   \
                                                                \
			v.ud[i] = (EXPR);                       \
		}                                               \
		simd_put(pe, in->rd, v, simd_vector(in));       \
		return (INSN_NEXT);                             \
	}

/* Exchange neighbouring groups of N bits; M selects the lower of each two. */
static inline uint64_t
swap_bits(uint64_t v, unsigned n, uint64_t m)
{
	return ((v >> n & m) | (v & m) << n);
}
#define SWAP1(v) swap_bits(v, 1, 0x5555555555555555)
#define SWAP2(v) swap_bits(v, 2, 0x3333333333333333)
#define SWAP4(v) swap_bits(v, 4, 0x0f0f0f0f0f0f0f0f)
#define SWAP8(v) swap_bits(v, 8, 0x00ff00ff00ff00ff)
#define SWAP16(v) swap_bits(v, 16, 0x0000ffff0000ffff)
#define SWAP32(v) ((v) >> 32 | (v) << 32)

static inline uint64_t
count_ones(uint64_t v)
{
	v -= v >> 1 & 0x5555555555555555;
	v = (v & 0x3333333333333333) + (v >> 2 & 0x3333333333333333);
	return ((v + (v >> 4)) & 0x0f0f0f0f0f0f0f0f);
}

BYTEWISE(not, ~a)
BYTEWISE(rbit, SWAP1(SWAP2(SWAP4(a))))
BYTEWISE(cnt, count_ones(a))
BYTEWISE(rev16, SWAP8(a))
BYTEWISE(rev32, SIMD_SIZE(in) == 0 ? SWAP8(SWAP16(a)) : SWAP16(a))
BYTEWISE(rev64, SIMD_SIZE(in) == 0   ? __builtin_bswap64(a)
		: SIMD_SIZE(in) == 1 ? SWAP16(SWAP32(a))
				     : SWAP32(a))

/* --- pairs of lanes into one of twice the width --------------------------- */

#define PAIR_LANES(W, F, N, ACC)                                                          \
	for (unsigned i = 0; i < (N); i++)                                                \
		d.W[i] = (__typeof__(d.W[0]))((ACC ? d.W[i] : 0) + (uint64_t)x.F[2 * i] + \
					      (uint64_t)x.F[2 * i + 1]);

#define PAIR_LONG(name, S, ACC)                                 \
	int op_##name##_v(struct pe *pe, const struct insn *in) \
	{                                                       \
		union vec d, x;                                 \
                                                                \
		SIMD_ENTER(pe, in);                             \
		x = simd_reg(pe, in->rn);                       \
		d = simd_reg(pe, in->rd);                       \
		switch (SIMD_SIZE(in)) {                        \
		case 0:                                         \
			PAIR_LANES(uh, S##b, 8, ACC) break;     \
		case 1:                                         \
			PAIR_LANES(us, S##h, 4, ACC) break;     \
		default:                                        \
			PAIR_LANES(ud, S##s, 2, ACC) break;     \
		}                                               \
		simd_put(pe, in->rd, d, simd_vector(in));       \
		return (INSN_NEXT);                             \
	}

PAIR_LONG(saddlp, s, false)
PAIR_LONG(uaddlp, u, false)
PAIR_LONG(sadalp, s, true)
PAIR_LONG(uadalp, u, true)

/* --- narrow and SHLL ------------------------------------------------------ */

#define NARROW_LANES(F, W, N, EXPR)                       \
	for (unsigned i = 0; i < (N); i++) {              \
		const unsigned bits = sizeof(d.F[0]) * 8; \
		__typeof__(x.W[0]) v = x.W[i];            \
		(void)bits;                               \
		d.F[i] = (__typeof__(d.F[0]))(EXPR);      \
	}

#define NARROW(name, S, EXPR)                                                         \
	int op_##name##_v(struct pe *pe, const struct insn *in)                       \
	{                                                                             \
		unsigned size = SIMD_SIZE(in);                                        \
		union vec d, x;                                                       \
		bool q = false;                                                       \
                                                                                      \
		SIMD_ENTER(pe, in);                                                   \
		x = simd_get(pe, in->rn, SIMD_SCALAR(in) ? 2u << size : 16);          \
		switch (size) {                                                       \
		case 0:                                                               \
			NARROW_LANES(ub, S##h, 8, EXPR) break;                        \
		case 1:                                                               \
			NARROW_LANES(uh, S##s, 4, EXPR) break;                        \
		default:                                                              \
			NARROW_LANES(us, S##d, 2, EXPR) break;                        \
		}                                                                     \
		simd_put_half(pe, in->rd, d.ud[0], SIMD_SCALAR(in) ? 0 : SIMD_Q(in)); \
		simd_qc(pe, q);                                                       \
		return (INSN_NEXT);                                                   \
	}

NARROW(xtn, u, v)
NARROW(uqxtn, u, saturate_u(v, bits, &q))
NARROW(sqxtn, s, saturate_s(v, bits, &q))
NARROW(sqxtun, s, saturate_su(v, bits, &q))

int
op_shll_v(struct pe *pe, const struct insn *in)
{
	union vec d, x;

	SIMD_ENTER(pe, in);
	x = simd_half(pe, in->rn, SIMD_Q(in));
	switch (SIMD_SIZE(in)) {
	case 0:
		for (unsigned i = 0; i < 8; i++)
			d.uh[i] = (uint16_t)(x.ub[i] << 8);
		break;
	case 1:
		for (unsigned i = 0; i < 4; i++)
			d.us[i] = (uint32_t)x.uh[i] << 16;
		break;
	default:
		for (unsigned i = 0; i < 2; i++)
			d.ud[i] = (uint64_t)x.us[i] << 32;
		break;
	}
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

/* --- across lanes --------------------------------------------------------- */

#define ACROSS_LANES(F, N, EXPR)                       \
	({                                             \
		__typeof__(x.F[0]) acc = x.F[0];       \
		for (unsigned i = 1; i < (N); i++) {   \
			__typeof__(x.F[0]) a = x.F[i]; \
			acc = (__typeof__(acc))(EXPR); \
		}                                      \
		(uint64_t) acc;                        \
	})

#define ACROSS(name, S, EXPR)                                                  \
	int op_##name##_v(struct pe *pe, const struct insn *in)                \
	{                                                                      \
		unsigned size = SIMD_SIZE(in), n = (8u << SIMD_Q(in)) >> size; \
		union vec d, x;                                                \
                                                                               \
		SIMD_ENTER(pe, in);                                            \
		x = simd_reg(pe, in->rn);                                      \
		switch (size) {                                                \
		case 0:                                                        \
			d.ud[0] = ACROSS_LANES(S##b, n, EXPR);                 \
			break;                                                 \
		case 1:                                                        \
			d.ud[0] = ACROSS_LANES(S##h, n, EXPR);                 \
			break;                                                 \
		default:                                                       \
			d.ud[0] = ACROSS_LANES(S##s, n, EXPR);                 \
			break;                                                 \
		}                                                              \
		simd_put(pe, in->rd, d, 1u << size);                           \
		return (INSN_NEXT);                                            \
	}

ACROSS(smaxv, s, a > acc ? a : acc)
ACROSS(umaxv, u, a > acc ? a : acc)
ACROSS(sminv, s, a < acc ? a : acc)
ACROSS(uminv, u, a < acc ? a : acc)
ACROSS(addv, u, a + acc)

#define ADDLV(name, S)                                                                             \
	int op_##name##_v(struct pe *pe, const struct insn *in)                                    \
	{                                                                                          \
		unsigned size = SIMD_SIZE(in), n = (8u << SIMD_Q(in)) >> size;                     \
		union vec d, x;                                                                    \
		int64_t sum = 0;                                                                   \
                                                                                                   \
		SIMD_ENTER(pe, in);                                                                \
		x = simd_reg(pe, in->rn);                                                          \
		for (unsigned i = 0; i < n; i++)                                                   \
			sum += size == 0 ? x.S##b[i] : size == 1 ? x.S##h[i] : (int64_t)x.S##s[i]; \
		d.ud[0] = (uint64_t)sum;                                                           \
		simd_put(pe, in->rd, d, 2u << size);                                               \
		return (INSN_NEXT);                                                                \
	}

ADDLV(saddlv, s)
ADDLV(uaddlv, u)

/* The scalar pairwise class: the sum of two 64-bit lanes. */
int
op_addp_s(struct pe *pe, const struct insn *in)
{
	uint64_t sum = pe->v[in->rn][0] + pe->v[in->rn][1];

	SIMD_ENTER(pe, in);
	simd_put_half(pe, in->rd, sum, 0);
	return (INSN_NEXT);
}

/* --- unsigned estimates, from the tables of FRECPE and FRSQRTE ------------- */

#define ESTIMATE(name)                                          \
	int op_##name##_v(struct pe *pe, const struct insn *in) \
	{                                                       \
		union vec v;                                    \
                                                                \
		SIMD_ENTER(pe, in);                             \
		v = simd_reg(pe, in->rn);                       \
		for (unsigned i = 0; i < 4; i++)                \
			v.us[i] = fp_##name(v.us[i]);           \
		simd_put(pe, in->rd, v, simd_vector(in));       \
		return (INSN_NEXT);                             \
	}

ESTIMATE(urecpe)
ESTIMATE(ursqrte)
