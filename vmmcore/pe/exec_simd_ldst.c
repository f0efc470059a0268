/*
 * Loads and stores of one or two SIMD&FP registers: LDR, STR, LDUR, STUR, LDP,
 * STP, LDNP, STNP and LDR (literal) of B, H, S, D and Q (DDI 0487, C4.1.97).
 *
 * One access of the whole register or pair, through a local buffer; registers
 * change only after it has succeeded. Loads clear the rest of the register.
 *
 * Not here: LD1 to LD4 and ST1 to ST4 (exec_simd_ldstn.c), general registers.
 */
#include "pe/simd.h"

/* Log2 of the sizes. */
enum { SIZE_b, SIZE_h, SIZE_s, SIZE_d, SIZE_q };

#define LDST_ENTER(pe, in)                                                                         \
	do {                                                                                       \
		SIMD_ENTER(pe, in);                                                                \
		if (unlikely(pe_check_sp((pe), (in)) != 0))                                        \
			return (INSN_EXC);                                                         \
	} while (0)

static inline int
ldr(struct pe *pe, const struct insn *in, uint64_t va, unsigned size)
{
	uint64_t buf[2] = {0, 0};

	if (unlikely(pe_read(pe, in, va, buf, 1u << size, 1u << size) != 0))
		return (INSN_EXC);
	pe->v[in->rd][0] = buf[0];
	pe->v[in->rd][1] = buf[1];
	return (INSN_NEXT);
}

static inline int
str(struct pe *pe, const struct insn *in, uint64_t va, unsigned size)
{
	return (pe_write(pe, in, va, pe->v[in->rd], 1u << size, 1u << size));
}

static inline int
ldp(struct pe *pe, const struct insn *in, uint64_t va, unsigned size)
{
	const unsigned len = 1u << size;
	uint64_t first[2] = {0, 0}, second[2] = {0, 0};
	uint8_t buf[32];

	if (unlikely(pe_read(pe, in, va, buf, 2 * len, len) != 0))
		return (INSN_EXC);
	memcpy(first, buf, len);
	memcpy(second, buf + len, len);
	memcpy(pe->v[in->rd], first, 16);
	memcpy(pe->v[in->ra], second, 16);
	return (INSN_NEXT);
}

static inline int
stp(struct pe *pe, const struct insn *in, uint64_t va, unsigned size)
{
	const unsigned len = 1u << size;
	uint8_t buf[32];

	memcpy(buf, pe->v[in->rd], len);
	memcpy(buf + len, pe->v[in->ra], len);
	return (pe_write(pe, in, va, buf, 2 * len, len));
}

/* Offset by register: UXTW, LSL, SXTW, SXTX in in->a, scaled when in->b. */
static inline uint64_t
reg_offset(const struct pe *pe, const struct insn *in, unsigned size)
{
	uint64_t v = pe->x[in->rm];

	if (in->a == 2)
		v = (uint32_t)v;
	else if (in->a == 6)
		v = (uint64_t)(int64_t)(int32_t)v;
	return (in->b != 0 ? v << size : v);
}

/* The addressing modes: base plus offset, then what is written back. */
#define OFFSET(fn, mode, access, F, ADDRESS)                                                       \
	int op_##fn##_##F##_##mode(struct pe *pe, const struct insn *in)                           \
	{                                                                                          \
		LDST_ENTER(pe, in);                                                                \
		return (access(pe, in, pe->x[in->rn] + (ADDRESS), SIZE_##F));                      \
	}
#define WRITEBACK(fn, mode, access, F, BEFORE)                                                     \
	int op_##fn##_##F##_##mode(struct pe *pe, const struct insn *in)                           \
	{                                                                                          \
		uint64_t base = pe->x[in->rn], after = base + (uint64_t)(int64_t)in->imm;          \
                                                                                                   \
		LDST_ENTER(pe, in);                                                                \
		if (unlikely(access(pe, in, BEFORE, SIZE_##F) != 0))                               \
			return (INSN_EXC);                                                         \
		pe->x[in->rn] = after;                                                             \
		return (INSN_NEXT);                                                                \
	}
#define IMM ((uint64_t)(int64_t)in->imm)

#define ONE(fn, F)                                                                                 \
	OFFSET(fn, imm, fn, F, IMM)                                                                \
	OFFSET(fn, reg, fn, F, reg_offset(pe, in, SIZE_##F))                                       \
	WRITEBACK(fn, pre, fn, F, after)                                                           \
	WRITEBACK(fn, post, fn, F, base)
#define PAIR(fn, F)                                                                                \
	OFFSET(fn, off, fn, F, IMM)                                                                \
	WRITEBACK(fn, pre, fn, F, after)                                                           \
	WRITEBACK(fn, post, fn, F, base)
#define LITERAL(F)                                                                                 \
	int op_ldr_##F##_lit(struct pe *pe, const struct insn *in)                                 \
	{                                                                                          \
		SIMD_ENTER(pe, in);                                                                \
		return (ldr(pe, in, pe_pc(pe, in) + IMM, SIZE_##F));                               \
	}

ONE(ldr, b)
ONE(ldr, h)
ONE(ldr, s)
ONE(ldr, d)
ONE(ldr, q)
ONE(str, b)
ONE(str, h)
ONE(str, s)
ONE(str, d)
ONE(str, q)
PAIR(ldp, s)
PAIR(ldp, d)
PAIR(ldp, q)
PAIR(stp, s)
PAIR(stp, d)
PAIR(stp, q)
LITERAL(s)
LITERAL(d)
LITERAL(q)
