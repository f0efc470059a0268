/*
 * What the Advanced SIMD executors share: the 128-bit register as a union of
 * lanes, and reading and writing it with the rule for the unused upper part.
 *
 * Lane 0 is the least significant one, so the union relies on a little-endian
 * host (the only one there is).
 *
 * How an operation copes with D registers and scalars: it always computes all
 * lanes of 128 bits and simd_put() clears the ones beyond `bytes`. Operations
 * that can saturate read their sources with simd_get(), which clears the same
 * lanes on the way in, so that no lane which does not exist sets FPSR.QC.
 *
 * Not here: the operations (exec_simd_*.c), floating point.
 */
#ifndef PE_SIMD_H
#define PE_SIMD_H

#include "pe/a64_handlers.h"
#include "pe/pe_internal.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "lanes are laid out for a little-endian host"
#endif

/* u and s: unsigned and signed; b h s d: 8, 16, 32 and 64 bits. */
union vec {
	uint8_t ub[16];
	uint16_t uh[8];
	uint32_t us[4];
	uint64_t ud[2];
	int8_t sb[16];
	int16_t sh[8];
	int32_t ss[4];
	int64_t sd[2];
};

#define FPSR_QC (1u << 27)

#define SIMD_ENTER(pe, in)                               \
	do {                                             \
		if (unlikely((pe)->fp_trapped))          \
			return (pe_fp_trap((pe), (in))); \
	} while (0)

/* Bits every Advanced SIMD data processing encoding keeps in one place. */
#define SIMD_Q(in) FIELD((in)->word, 30, 1)
#define SIMD_SCALAR(in) FIELD((in)->word, 28, 1)
#define SIMD_SIZE(in) ((unsigned)FIELD((in)->word, 22, 2))

/* Bytes of a register that take part, where there is no scalar form: 16 or 8. */
static inline unsigned
simd_vector(const struct insn *in)
{
	return (8u << SIMD_Q(in));
}

/* The same where there is one: also one element of 1 << size. */
static inline unsigned
simd_bytes(const struct insn *in, unsigned size)
{
	if (SIMD_SCALAR(in))
		return (1u << size);
	return (simd_vector(in));
}

static inline void
simd_trim(union vec *v, unsigned bytes)
{
	if (bytes >= 16)
		return;
	v->ud[1] = 0;
	if (bytes < 8)
		v->ud[0] &= (UINT64_C(1) << (bytes * 8)) - 1;
}

/* The whole register. */
static inline union vec
simd_reg(const struct pe *pe, unsigned r)
{
	union vec v;

	memcpy(&v, pe->v[r], sizeof(v));
	return (v);
}

/* The first `bytes` of a register, zeros above. */
static inline union vec
simd_get(const struct pe *pe, unsigned r, unsigned bytes)
{
	union vec v = simd_reg(pe, r);

	simd_trim(&v, bytes);
	return (v);
}

static inline void
simd_set(struct pe *pe, unsigned r, const union vec *v)
{
	memcpy(pe->v[r], v, sizeof(*v));
}

/* Write the first `bytes`, zeros above. */
static inline void
simd_put(struct pe *pe, unsigned r, union vec v, unsigned bytes)
{
	simd_trim(&v, bytes);
	simd_set(pe, r, &v);
}

/* The low (part 0) or high (part 1) 64 bits of a register, in the low half. */
static inline union vec
simd_half(const struct pe *pe, unsigned r, unsigned part)
{
	union vec v;

	v.ud[0] = pe->v[r][part];
	v.ud[1] = 0;
	return (v);
}

/* Write a narrowed result: part 1 keeps the low half, part 0 clears the high one. */
static inline void
simd_put_half(struct pe *pe, unsigned r, uint64_t v, unsigned part)
{
	pe->v[r][part] = v;
	if (part == 0)
		pe->v[r][1] = 0;
}

/* An element repeated over the whole register. */
static inline union vec
simd_dup(uint64_t element, unsigned size)
{
	static const uint64_t ones[4] = { 0x0101010101010101, 0x0001000100010001,
		0x0000000100000001, 1 };
	union vec v;

	if (size < 3)
		element &= (UINT64_C(1) << (8u << size)) - 1;
	v.ud[0] = v.ud[1] = element * ones[size];
	return (v);
}

static inline void
simd_qc(struct pe *pe, bool saturated)
{
	if (saturated)
		pe->fp.fpsr |= FPSR_QC;
}

static inline uint64_t
lane_mask(unsigned bits)
{
	return (~UINT64_C(0) >> (64 - bits));
}

/* A value into `bits` bits, unsigned, signed, and signed to unsigned. */
static inline uint64_t
saturate_u(uint64_t v, unsigned bits, bool *q)
{
	if (v <= lane_mask(bits))
		return (v);
	*q = true;
	return (lane_mask(bits));
}

static inline int64_t
saturate_s(int64_t v, unsigned bits, bool *q)
{
	const int64_t max = (int64_t)(lane_mask(bits) >> 1);

	if (v >= -max - 1 && v <= max)
		return (v);
	*q = true;
	return (v < 0 ? -max - 1 : max);
}

static inline uint64_t
saturate_su(int64_t v, unsigned bits, bool *q)
{
	if (v >= 0)
		return (saturate_u((uint64_t)v, bits, q));
	*q = true;
	return (0);
}

/*
 * The element of a by-element instruction, repeated: 16 bits are H:L:M of
 * V0-V15, 32 bits (also the groups of SDOT) H:L of V0-V31.
 */
static inline union vec
simd_element(const struct pe *pe, const struct insn *in, unsigned size)
{
	unsigned h = FIELD(in->word, 11, 1), l = FIELD(in->word, 21, 1);
	union vec v;

	if (size == 1) {
		v = simd_reg(pe, in->rm & 15);
		return (simd_dup(v.uh[h << 2 | l << 1 | FIELD(in->word, 20, 1)], 1));
	}
	v = simd_reg(pe, in->rm);
	return (simd_dup(v.us[h << 1 | l], 2));
}

#endif /* PE_SIMD_H */
