/*
 * Advanced SIMD moves of whole elements: copy (DUP, INS, SMOV, UMOV), permute
 * (ZIP, UZP, TRN), EXT, table lookup, and the modified immediate class: MOVI,
 * MVNI, ORR, BIC and FMOV (vector, immediate) (DDI 0487, C4.1.96).
 *
 * The size of a copied element is in the row's name, its index in in->a.
 */
#include "pe/simd.h"

/* --- copy ----------------------------------------------------------------- */

/* Lane `i` of register `r`, and where it is. */
#define LANE_AT(F, r, i) ((uint8_t *)pe->v[r] + (i) * sizeof(((union vec *)0)->F[0]))
#define GET_LANE(F, r, i)                                      \
	({                                                     \
		__typeof__(((union vec *)0)->F[0]) lane;       \
		memcpy(&lane, LANE_AT(F, r, i), sizeof(lane)); \
		lane;                                          \
	})

#define COPY(F, SIZE)                                                                 \
	int op_dup_e_##F(struct pe *pe, const struct insn *in)                        \
	{                                                                             \
		uint64_t element = GET_LANE(u##F, in->rn, in->a);                     \
                                                                                      \
		SIMD_ENTER(pe, in);                                                   \
		simd_put(pe, in->rd, simd_dup(element, SIZE), simd_vector(in));       \
		return (INSN_NEXT);                                                   \
	}                                                                             \
	int op_dup_s_##F(struct pe *pe, const struct insn *in)                        \
	{                                                                             \
		uint64_t element = GET_LANE(u##F, in->rn, in->a);                     \
                                                                                      \
		SIMD_ENTER(pe, in);                                                   \
		simd_put_half(pe, in->rd, element, 0);                                \
		return (INSN_NEXT);                                                   \
	}                                                                             \
	int op_dup_g_##F(struct pe *pe, const struct insn *in)                        \
	{                                                                             \
		SIMD_ENTER(pe, in);                                                   \
		simd_put(pe, in->rd, simd_dup(pe->x[in->rn], SIZE), simd_vector(in)); \
		return (INSN_NEXT);                                                   \
	}                                                                             \
	int op_umov_##F(struct pe *pe, const struct insn *in)                         \
	{                                                                             \
		uint64_t element = GET_LANE(u##F, in->rn, in->a);                     \
                                                                                      \
		SIMD_ENTER(pe, in);                                                   \
		pe->x[in->rd] = element;                                              \
		return (INSN_NEXT);                                                   \
	}                                                                             \
	int op_ins_g_##F(struct pe *pe, const struct insn *in)                        \
	{                                                                             \
		SIMD_ENTER(pe, in);                                                   \
		memcpy(LANE_AT(u##F, in->rd, in->a), &pe->x[in->rn], 1u << SIZE);     \
		return (INSN_NEXT);                                                   \
	}                                                                             \
	int op_ins_e_##F(struct pe *pe, const struct insn *in)                        \
	{                                                                             \
		uint64_t element = GET_LANE(u##F, in->rn, in->b);                     \
                                                                                      \
		SIMD_ENTER(pe, in);                                                   \
		memcpy(LANE_AT(u##F, in->rd, in->a), &element, 1u << SIZE);           \
		return (INSN_NEXT);                                                   \
	}

COPY(b, 0)
COPY(h, 1)
COPY(s, 2)
COPY(d, 3)

/* Sign extended to W (Q = 0) or X. */
#define SMOV(F)                                                                      \
	int op_smov_##F(struct pe *pe, const struct insn *in)                        \
	{                                                                            \
		uint64_t element = (uint64_t)(int64_t)GET_LANE(s##F, in->rn, in->a); \
                                                                                     \
		SIMD_ENTER(pe, in);                                                  \
		pe->x[in->rd] = SIMD_Q(in) ? element : (uint32_t)element;            \
		return (INSN_NEXT);                                                  \
	}

SMOV(b)
SMOV(h)
SMOV(s)

/* --- permute -------------------------------------------------------------- */

/* Lane i of N lanes of the result is SRC[INDEX]; PART is 0 or 1 as in ZIP1, ZIP2. */
#define PERM_LANES(F, SRC, INDEX)                               \
	for (unsigned i = 0; i < bytes / sizeof(d.F[0]); i++) { \
		const unsigned n = bytes / sizeof(d.F[0]);      \
		(void)n;                                        \
		d.F[i] = (SRC)->F[INDEX];                       \
	}

#define PERMUTE(name, SRC, INDEX)                                                           \
	static inline void k_##name(union vec *dst, const union vec *x, const union vec *y, \
	    unsigned size, unsigned bytes, unsigned part)                                   \
	{                                                                                   \
		union vec d = { .ud = { 0, 0 } };                                           \
                                                                                            \
		switch (size) {                                                             \
		case 0:                                                                     \
			PERM_LANES(ub, SRC, INDEX) break;                                   \
		case 1:                                                                     \
			PERM_LANES(uh, SRC, INDEX) break;                                   \
		case 2:                                                                     \
			PERM_LANES(us, SRC, INDEX) break;                                   \
		default:                                                                    \
			PERM_LANES(ud, SRC, INDEX) break;                                   \
		}                                                                           \
		*dst = d;                                                                   \
	}                                                                                   \
	PERMUTE_OP(name, 1, 0)                                                              \
	PERMUTE_OP(name, 2, 1)

#define PERMUTE_OP(name, DIGIT, PART)                                  \
	int op_##name##DIGIT##_v(struct pe *pe, const struct insn *in) \
	{                                                              \
		union vec d, x, y;                                     \
                                                                       \
		SIMD_ENTER(pe, in);                                    \
		x = simd_reg(pe, in->rn);                              \
		y = simd_reg(pe, in->rm);                              \
		if (SIMD_Q(in))                                        \
			k_##name(&d, &x, &y, SIMD_SIZE(in), 16, PART); \
		else                                                   \
			k_##name(&d, &x, &y, SIMD_SIZE(in), 8, PART);  \
		simd_set(pe, in->rd, &d);                              \
		return (INSN_NEXT);                                    \
	}

/* Interleave one half of each; even or odd lanes of both; transpose 2x2 blocks. */
PERMUTE(zip, (i & 1) != 0 ? y : x, part *(n / 2) + i / 2)
PERMUTE(uzp, i < n / 2 ? x : y, (2 * i + part) % n)
PERMUTE(trn, (i & 1) != 0 ? y : x, (i & ~1u) + part)

/* --- EXT ------------------------------------------------------------------ */

/* Bytes from position in->a of Rm:Rn. */
int
op_ext_16b(struct pe *pe, const struct insn *in)
{
	uint64_t both[4];

	SIMD_ENTER(pe, in);
	memcpy(both, pe->v[in->rn], 16);
	memcpy(both + 2, pe->v[in->rm], 16);
	memcpy(pe->v[in->rd], (const char *)both + in->a, 16);
	return (INSN_NEXT);
}

int
op_ext_8b(struct pe *pe, const struct insn *in)
{
	uint64_t both[2];

	SIMD_ENTER(pe, in);
	both[0] = pe->v[in->rn][0];
	both[1] = pe->v[in->rm][0];
	memcpy(pe->v[in->rd], (const char *)both + in->a, 8);
	pe->v[in->rd][1] = 0;
	return (INSN_NEXT);
}

/* --- table lookup --------------------------------------------------------- */

/* The table is in->a + 1 registers, V31 being followed by V0. */
static inline void
table_lookup(struct pe *pe, const struct insn *in, union vec d)
{
	unsigned n = in->a + 1u;
	union vec index = simd_reg(pe, in->rm);
	uint8_t table[64];

	for (unsigned i = 0; i < n; i++)
		memcpy(table + 16 * i, pe->v[(in->rn + i) & 31], 16);
	for (unsigned i = 0; i < 16; i++)
		if (index.ub[i] < 16 * n)
			d.ub[i] = table[index.ub[i]];
	simd_put(pe, in->rd, d, simd_vector(in));
}

int
op_tbl_v(struct pe *pe, const struct insn *in)
{
	SIMD_ENTER(pe, in);
	table_lookup(pe, in, (union vec){ .ud = { 0, 0 } });
	return (INSN_NEXT);
}

int
op_tbx_v(struct pe *pe, const struct insn *in)
{
	SIMD_ENTER(pe, in);
	table_lookup(pe, in, simd_reg(pe, in->rd));
	return (INSN_NEXT);
}

/* --- modified immediate (AdvSIMDExpandImm) -------------------------------- */

/* a:b:c:d:e:f:g:h */
static inline uint64_t
imm8(const struct insn *in)
{
	return (FIELD(in->word, 16, 3) << 5 | FIELD(in->word, 5, 5));
}

/* Bytes to shift by: cmode[2:1] of 32-bit forms, cmode[1] of 16-bit ones. */
static inline uint64_t
expand_32(const struct insn *in)
{
	return ((imm8(in) << (FIELD(in->word, 13, 2) * 8)) * 0x0000000100000001);
}

static inline uint64_t
expand_16(const struct insn *in)
{
	return ((imm8(in) << (FIELD(in->word, 13, 1) * 8)) * 0x0001000100010001);
}

/* Shifting ones: 8 or 16 of them. */
static inline uint64_t
expand_msl(const struct insn *in)
{
	unsigned n = 8u << FIELD(in->word, 12, 1);

	return ((imm8(in) << n | ((UINT64_C(1) << n) - 1)) * 0x0000000100000001);
}

static inline uint64_t
expand_8(const struct insn *in)
{
	return (imm8(in) * 0x0101010101010101);
}

/* A byte of ones for each bit. */
static inline uint64_t
expand_64(const struct insn *in)
{
	uint64_t v = imm8(in), r = 0;

	for (unsigned i = 0; i < 8; i++)
		r |= (v >> i & 1) * (UINT64_C(0xff) << (8 * i));
	return (r);
}

/* VFPExpandImm: sign, exponent NOT(b):b...b:cd, fraction efgh. */
static inline uint64_t
expand_fp(const struct insn *in, unsigned exp_bits, unsigned frac_bits)
{
	uint64_t v = imm8(in), b = v >> 6 & 1;
	uint64_t exp = (b ^ 1) << (exp_bits - 1) | (v >> 4 & 3);

	if (b != 0)
		exp |= ((UINT64_C(1) << (exp_bits - 3)) - 1) << 2;
	return (
	    (v >> 7) << (exp_bits + frac_bits) | exp << frac_bits | (v & 15) << (frac_bits - 4));
}

static inline void
put_imm(struct pe *pe, const struct insn *in, uint64_t v)
{
	pe->v[in->rd][0] = v;
	pe->v[in->rd][1] = SIMD_Q(in) ? v : 0;
}

#define OP_BIT(in) FIELD((in)->word, 29, 1)

#define MOVI(name, VALUE)                                   \
	int op_##name(struct pe *pe, const struct insn *in) \
	{                                                   \
		SIMD_ENTER(pe, in);                         \
		put_imm(pe, in, VALUE);                     \
		return (INSN_NEXT);                         \
	}

/* MVNI inverts. */
MOVI(movi_32, expand_32(in) ^ (0 - OP_BIT(in)))
MOVI(movi_16, expand_16(in) ^ (0 - OP_BIT(in)))
MOVI(movi_msl, expand_msl(in) ^ (0 - OP_BIT(in)))
MOVI(movi_8, expand_8(in))
MOVI(movi_64, expand_64(in))
MOVI(fmov_imm_h, expand_fp(in, 5, 10) * 0x0001000100010001)
MOVI(fmov_imm_s, expand_fp(in, 8, 23) * 0x0000000100000001)
MOVI(fmov_imm_d, expand_fp(in, 11, 52))

/* ORR, and BIC with the inverse. */
static inline void
logical_imm(struct pe *pe, const struct insn *in, uint64_t imm)
{
	uint64_t *v = pe->v[in->rd];

	for (unsigned i = 0; i < 2; i++)
		v[i] = OP_BIT(in) ? v[i] & ~imm : v[i] | imm;
	if (!SIMD_Q(in))
		v[1] = 0;
}

int
op_orr_imm32(struct pe *pe, const struct insn *in)
{
	SIMD_ENTER(pe, in);
	logical_imm(pe, in, expand_32(in));
	return (INSN_NEXT);
}

int
op_orr_imm16(struct pe *pe, const struct insn *in)
{
	SIMD_ENTER(pe, in);
	logical_imm(pe, in, expand_16(in));
	return (INSN_NEXT);
}
