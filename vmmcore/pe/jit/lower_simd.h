/*
 * What the lowerings of Advanced SIMD integer instructions share.
 *
 * xmm0, xmm1, xmm14 and xmm15 are temporaries (T0 to T3). Operands are read
 * before the destination is asked for: it may take the place of one of them,
 * so a sequence of several instructions computes in temporaries and moves the
 * result last. Of D registers and scalars all lanes are computed, and s_trim()
 * clears the ones that are not there.
 */
#ifndef PE_JIT_LOWER_SIMD_H
#define PE_JIT_LOWER_SIMD_H

#include "pe/jit/lower.h"

#define S(op, fn, needs) LOWER(fn);
#include "pe/jit/simd_rows.def"
#undef S
LOWER(crc32c);

enum { T0 = 0, T1 = 1, T2 = 14, T3 = 15 };

#define V_SIZE(in) ((unsigned)FIELD((in)->word, 22, 2))
#define V_Q(in) ((unsigned)FIELD((in)->word, 30, 1))
#define V_SCALAR(in) ((unsigned)FIELD((in)->word, 28, 1))

/* Opcodes by element size; 0 where there is none. */
typedef const unsigned vops[4];
extern vops v_add, v_sub, v_cmpeq, v_cmpgt, v_maxs, v_maxu, v_mins, v_minu;

/* Bytes of the result. */
static inline unsigned
v_bytes(const struct insn *in, unsigned size)
{
	return (V_SCALAR(in) ? 1u << size : 8u << V_Q(in));
}

/* A lane's value in all lanes of 64 bits. */
static inline uint64_t
v_lanes(uint64_t v, unsigned size)
{
	static const uint64_t ones[4] = { 0x0101010101010101, 0x0001000100010001,
		0x0000000100000001, 1 };

	return ((size < 3 ? v & ((UINT64_C(1) << (8u << size)) - 1) : v) * ones[size]);
}

/* The constant that has v in every lane. */
static inline const uint8_t *
v_lanes_const(struct tr *t, uint64_t v, unsigned size)
{
	return (v_const(t, v_lanes(v, size), v_lanes(v, size)));
}

/* d = ~s */
static inline void
s_not(struct tr *t, int d, int s)
{
	x_v3c(&t->x, V_PXOR, d, s, v_const(t, ~UINT64_C(0), ~UINT64_C(0)), 0);
}

/* d = the first `bytes` of s, zeros above (lower_simd_int.c) */
void s_trim(struct tr *, int d, int s, unsigned bytes);
/* Rd = the first `bytes` of s. */
void s_put(struct tr *, const struct insn *, int s, unsigned bytes);
/* FPSR.QC when m is not zero. Uses RAX. */
void s_qc(struct tr *, int m);
/* d = lane i of s in all lanes. */
void s_broadcast(struct tr *, int d, int s, unsigned size, unsigned i);
/* d (T1) = the element of a by-element instruction in all lanes. */
int s_element(struct tr *, const struct insn *, unsigned size);
/* T0 = a * b; uses T1 for bytes. */
void s_mul(struct tr *, unsigned size, int a, int b);
/* Each byte of d = matrix times the byte of s (GFNI): the first row gives bit 7. */
void s_matrix(struct tr *, int d, int s, uint64_t matrix);
/* d = even or odd lanes of a, then of b; d is T0 or T1; uses T3. */
void s_uzp(struct tr *, int d, int a, int b, unsigned size, unsigned part);

#endif /* PE_JIT_LOWER_SIMD_H */
