/*
 * Arithmetic shared by the handlers of integer instructions: flags, shifts,
 * extensions, conditions. Not here: the handlers.
 */
#ifndef PE_EXEC_INT_H
#define PE_EXEC_INT_H

#include "pe/a64_handlers.h"

/* NZCV from N, Z, C, V that are 0 or 1 (DDI 0487, C5.2.10). */
static inline uint32_t
nzcv_pack(uint32_t n, uint32_t z, uint32_t c, uint32_t v)
{
	return (n << 31 | z << 30 | c << 29 | v << 28);
}

static inline uint32_t
flags_add32(uint32_t a, uint32_t b, uint32_t r)
{
	return (nzcv_pack(r >> 31, r == 0, r < a, ((a ^ r) & (b ^ r)) >> 31));
}

static inline uint32_t
flags_add64(uint64_t a, uint64_t b, uint64_t r)
{
	return (nzcv_pack(r >> 63, r == 0, r < a, ((a ^ r) & (b ^ r)) >> 63));
}

static inline uint32_t
flags_sub32(uint32_t a, uint32_t b, uint32_t r)
{
	return (nzcv_pack(r >> 31, r == 0, a >= b, ((a ^ b) & (a ^ r)) >> 31));
}

static inline uint32_t
flags_sub64(uint64_t a, uint64_t b, uint64_t r)
{
	return (nzcv_pack(r >> 63, r == 0, a >= b, ((a ^ b) & (a ^ r)) >> 63));
}

static inline uint32_t
flags_logic32(uint32_t r)
{
	return (nzcv_pack(r >> 31, r == 0, 0, 0));
}

static inline uint32_t
flags_logic64(uint64_t r)
{
	return (nzcv_pack(r >> 63, r == 0, 0, 0));
}

/* For each condition, bit n: it holds when NZCV is n (DDI 0487, C1.2.4). */
extern const uint16_t a64_cond[16];

/* The value of a logical immediate by N:immr:imms, which insn.imm holds. */
uint64_t a64_bitmask(unsigned n_immr_imms);

static inline bool
cond_holds(const struct pe *pe, unsigned cond)
{
	return ((a64_cond[cond] >> (pe->nzcv >> 28)) & 1);
}

static inline uint32_t
ror32(uint32_t v, unsigned n)
{
	return (v >> (n & 31) | v << (-n & 31));
}

static inline uint64_t
ror64(uint64_t v, unsigned n)
{
	return (v >> (n & 63) | v << (-n & 63));
}

/* ShiftReg(): type is LSL, LSR, ASR, ROR. */
static inline uint32_t
shift32(uint32_t v, unsigned type, unsigned n)
{
	switch (type) {
	case 0:
		return (v << n);
	case 1:
		return (v >> n);
	case 2:
		return ((uint32_t)((int32_t)v >> n));
	default:
		return (ror32(v, n));
	}
}

static inline uint64_t
shift64(uint64_t v, unsigned type, unsigned n)
{
	switch (type) {
	case 0:
		return (v << n);
	case 1:
		return (v >> n);
	case 2:
		return ((uint64_t)((int64_t)v >> n));
	default:
		return (ror64(v, n));
	}
}

/* ExtendReg(): UXTB UXTH UXTW UXTX SXTB SXTH SXTW SXTX, then LSL #n. */
static inline uint64_t
extend64(uint64_t v, unsigned option, unsigned n)
{
	unsigned drop = 64 - (8u << (option & 3));

	v <<= drop;
	v = (option & 4) ? (uint64_t)((int64_t)v >> drop) : v >> drop;
	return (v << n);
}

/* The head of a handler, and the registers of the instruction by width. */
#define OP(name) int op_##name(struct pe *pe, const struct insn *in)
#define RD(type) ((type)pe->x[in->rd])
#define RN(type) ((type)pe->x[in->rn])
#define RM(type) ((type)pe->x[in->rm])
#define RA(type) ((type)pe->x[in->ra])

/* One handler that computes Rd from `expr`; a 32-bit type clears the top. */
#define OP_RD(name, type, expr)               \
	OP(name)                              \
	{                                     \
		pe->x[in->rd] = (type)(expr); \
		return (INSN_NEXT);           \
	}

/* The same with flags: `flags` sees the operands a and b and the result r. */
#define OP_RD_FLAGS(name, type, ea, eb, er, flags)       \
	OP(name)                                         \
	{                                                \
		const type a = (ea), b = (eb), r = (er); \
                                                         \
		(void)b;                                 \
		pe->nzcv = (flags);                      \
		pe->x[in->rd] = r;                       \
		return (INSN_NEXT);                      \
	}

/* ADD, ADDS, SUB, SUBS with second operand `w` (32 bits) or `x` (64 bits). */
#define OP_ADDSUB(suffix, w, x)                                                               \
	OP_RD(add##suffix##_w, uint32_t, RN(uint32_t) + (w))                                  \
	OP_RD(add##suffix##_x, uint64_t, RN(uint64_t) + (x))                                  \
	OP_RD(sub##suffix##_w, uint32_t, RN(uint32_t) - (w))                                  \
	OP_RD(sub##suffix##_x, uint64_t, RN(uint64_t) - (x))                                  \
	OP_RD_FLAGS(adds##suffix##_w, uint32_t, RN(uint32_t), w, a + b, flags_add32(a, b, r)) \
	OP_RD_FLAGS(adds##suffix##_x, uint64_t, RN(uint64_t), x, a + b, flags_add64(a, b, r)) \
	OP_RD_FLAGS(subs##suffix##_w, uint32_t, RN(uint32_t), w, a - b, flags_sub32(a, b, r)) \
	OP_RD_FLAGS(subs##suffix##_x, uint64_t, RN(uint64_t), x, a - b, flags_sub64(a, b, r))

/* AND, ORR, EOR, ANDS. */
#define OP_LOGIC(and, orr, eor, ands, suffix, w, x)                                      \
	OP_RD(and##suffix##_w, uint32_t, RN(uint32_t) & (w))                             \
	OP_RD(and##suffix##_x, uint64_t, RN(uint64_t) & (x))                             \
	OP_RD(orr##suffix##_w, uint32_t, RN(uint32_t) | (w))                             \
	OP_RD(orr##suffix##_x, uint64_t, RN(uint64_t) | (x))                             \
	OP_RD(eor##suffix##_w, uint32_t, RN(uint32_t) ^ (w))                             \
	OP_RD(eor##suffix##_x, uint64_t, RN(uint64_t) ^ (x))                             \
	OP_RD_FLAGS(ands##suffix##_w, uint32_t, RN(uint32_t), w, a &b, flags_logic32(r)) \
	OP_RD_FLAGS(ands##suffix##_x, uint64_t, RN(uint64_t), x, a &b, flags_logic64(r))

#endif /* PE_EXEC_INT_H */
