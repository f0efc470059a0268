/*
 * Loads and stores of one or two SIMD&FP registers: LDR, STR, LDUR, STUR, LDP,
 * STP, LDNP, STNP and LDR (literal) of B, H, S, D and Q (DDI 0487, C4.1.97).
 *
 * One access of the whole register or pair; registers change only after it has
 * succeeded, the base last. Loads clear the rest of the register.
 *
 * Not here: LD1 to LD4 and ST1 to ST4 (exec_simd_ldstn.c), general registers.
 */
#include "pe/simd.h"

/* Log2 of the sizes. */
enum { SIZE_b, SIZE_h, SIZE_s, SIZE_d, SIZE_q };

/*
 * How registers and memory exchange their contents; `mem` is guest memory or
 * the buffer of the slow path.
 */
static inline void
ldr(struct pe *pe, const struct insn *in, void *mem, unsigned size)
{
	uint64_t v[2] = { 0, 0 };

	memcpy(v, mem, 1u << size);
	memcpy(pe->v[in->rd], v, 16);
}

static inline void
str(struct pe *pe, const struct insn *in, void *mem, unsigned size)
{
	memcpy(mem, pe->v[in->rd], 1u << size);
}

static inline void
ldp(struct pe *pe, const struct insn *in, void *mem, unsigned size)
{
	uint64_t first[2] = { 0, 0 }, second[2] = { 0, 0 };

	memcpy(first, mem, 1u << size);
	memcpy(second, (uint8_t *)mem + (1u << size), 1u << size);
	memcpy(pe->v[in->rd], first, 16);
	memcpy(pe->v[in->ra], second, 16);
}

static inline void
stp(struct pe *pe, const struct insn *in, void *mem, unsigned size)
{
	memcpy(mem, pe->v[in->rd], 1u << size);
	memcpy((uint8_t *)mem + (1u << size), pe->v[in->ra], 1u << size);
}

/*
 * A handler is the fast path alone, without a stack frame: the address is in
 * the TLB and SP, if it is the base, aligned. These do the rest; the base
 * becomes `after`.
 */
#define SLOW(access)                                              \
	static __attribute__((noinline, cold)) int access##_slow( \
	    struct pe *pe, const struct insn *in, uint64_t va, uint64_t after, unsigned size)
#define LOAD_SLOW(access, N)                                                \
	SLOW(access)                                                        \
	{                                                                   \
		uint8_t buf[32];                                            \
                                                                            \
		if (pe_check_sp(pe, in) != 0 ||                             \
		    pe_read(pe, in, va, buf, (N) << size, 1u << size) != 0) \
			return (INSN_EXC);                                  \
		access(pe, in, buf, size);                                  \
		pe->x[in->rn] = after;                                      \
		return (INSN_NEXT);                                         \
	}
#define STORE_SLOW(access, N)                                                \
	SLOW(access)                                                         \
	{                                                                    \
		uint8_t buf[32];                                             \
                                                                             \
		access(pe, in, buf, size);                                   \
		if (pe_check_sp(pe, in) != 0 ||                              \
		    pe_write(pe, in, va, buf, (N) << size, 1u << size) != 0) \
			return (INSN_EXC);                                   \
		pe->x[in->rn] = after;                                       \
		return (INSN_NEXT);                                          \
	}

LOAD_SLOW(ldr, 1u)
LOAD_SLOW(ldp, 2u)
STORE_SLOW(str, 1u)
STORE_SLOW(stp, 2u)

static inline bool
sp_odd(const struct insn *in, uint64_t base)
{
	return (in->rn == REG_SP && (base & 15) != 0);
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

/* N registers at VA; the base becomes AFTER. */
#define LDST(name, access, tlb_of, N, F, VA, AFTER)                          \
	int op_##name(struct pe *pe, const struct insn *in)                  \
	{                                                                    \
		uint64_t base = pe->x[in->rn], va = (VA), after = (AFTER);   \
		void *mem;                                                   \
                                                                             \
		SIMD_ENTER(pe, in);                                          \
		mem = pe_tlb_hit(pe->tlb->tlb_of, va, (N) << SIZE_##F);      \
		if (unlikely(mem == NULL || sp_odd(in, base)))               \
			return (access##_slow(pe, in, va, after, SIZE_##F)); \
		access(pe, in, mem, SIZE_##F);                               \
		pe->x[in->rn] = after;                                       \
		return (INSN_NEXT);                                          \
	}
#define IMM ((uint64_t)(int64_t)in->imm)

#define MODES(access, tlb_of, N, F, offset)                                   \
	LDST(access##_##F##_##offset, access, tlb_of, N, F, base + IMM, base) \
	LDST(access##_##F##_pre, access, tlb_of, N, F, base + IMM, va)        \
	LDST(access##_##F##_post, access, tlb_of, N, F, base, base + IMM)
#define ONE(access, tlb_of, F)            \
	MODES(access, tlb_of, 1u, F, imm) \
	LDST(access##_##F##_reg, access, tlb_of, 1u, F, base + reg_offset(pe, in, SIZE_##F), base)
#define PAIR(access, tlb_of, F) MODES(access, tlb_of, 2u, F, off)

ONE(ldr, rd, b)
ONE(ldr, rd, h)
ONE(ldr, rd, s)
ONE(ldr, rd, d)
ONE(ldr, rd, q)
ONE(str, wr, b)
ONE(str, wr, h)
ONE(str, wr, s)
ONE(str, wr, d)
ONE(str, wr, q)
PAIR(ldp, rd, s)
PAIR(ldp, rd, d)
PAIR(ldp, rd, q)
PAIR(stp, wr, s)
PAIR(stp, wr, d)
PAIR(stp, wr, q)

/* PC-relative: no base register. */
#define LITERAL(F)                                                                     \
	int op_ldr_##F##_lit(struct pe *pe, const struct insn *in)                     \
	{                                                                              \
		uint8_t buf[16];                                                       \
                                                                                       \
		SIMD_ENTER(pe, in);                                                    \
		if (unlikely(pe_read(pe, in, pe_pc(pe, in) + IMM, buf, 1u << SIZE_##F, \
				 1u << SIZE_##F) != 0))                                \
			return (INSN_EXC);                                             \
		ldr(pe, in, buf, SIZE_##F);                                            \
		return (INSN_NEXT);                                                    \
	}

LITERAL(s)
LITERAL(d)
LITERAL(q)
