/*
 * Loads and stores of general registers (DDI 0487, C4.1.94): single, pair,
 * literal, unprivileged. Exclusives, atomics, acquire and release are in
 * exec_atomic.c, SIMD registers in the SIMD files.
 *
 * Every access is one pe_read() or pe_write(); registers change after it, the
 * base last, so a fault leaves nothing behind.
 */
#include "pe/exec_int.h"

/*
 * Every kind of single access: X(name, type in memory, type it is extended
 * through, type of the register).
 */
#define LOADS(X)                                \
	X(ldrb, uint8_t, uint8_t, uint32_t)     \
	X(ldrsb_x, uint8_t, int8_t, uint64_t)   \
	X(ldrsb_w, uint8_t, int8_t, uint32_t)   \
	X(ldrh, uint16_t, uint16_t, uint32_t)   \
	X(ldrsh_x, uint16_t, int16_t, uint64_t) \
	X(ldrsh_w, uint16_t, int16_t, uint32_t) \
	X(ldr_w, uint32_t, uint32_t, uint32_t)  \
	X(ldrsw, uint32_t, int32_t, uint64_t)   \
	X(ldr_x, uint64_t, uint64_t, uint64_t)

#define STORES(X)          \
	X(strb, uint8_t)   \
	X(strh, uint16_t)  \
	X(str_w, uint32_t) \
	X(str_x, uint64_t)

static inline uint64_t
offset(const struct insn *in)
{
	return ((uint64_t)(int64_t)in->imm);
}

/* Offset register: b says sign for the 32-bit form, a whether it is scaled. */
static inline uint64_t
index_x(const struct pe *pe, const struct insn *in, unsigned scale)
{
	return (pe->x[in->rm] << (in->a * scale));
}

static inline uint64_t
index_w(const struct pe *pe, const struct insn *in, unsigned scale)
{
	uint64_t v = (uint32_t)pe->x[in->rm];
	uint64_t sign = (uint64_t)in->b << 31;

	return (((v ^ sign) - sign) << (in->a * scale));
}

#define SCALE(type) ((unsigned)__builtin_ctz(sizeof(type)))

/*
 * A handler is the fast path alone, so that it needs no stack frame: the host
 * address is in the TLB and SP, if it is the base, aligned. Anything else is
 * done from the start by the _slow function.
 */
#define SLOW(name) \
	static __attribute__((noinline, cold)) int name(struct pe *pe, const struct insn *in)

static inline bool
sp_odd(const struct pe *pe, const struct insn *in)
{
	return (in->rn == REG_SP && (pe->x[REG_SP] & 15) != 0);
}

/* `va` and `set` may use pe and in; `set` runs when the access succeeded. */
#define LOAD_ANY(name, mem, n, va, set)                                           \
	SLOW(name##_slow)                                                         \
	{                                                                         \
		uint64_t addr = (va);                                             \
		mem v[n];                                                         \
		int e;                                                            \
                                                                                  \
		if ((e = pe_check_sp(pe, in)) != 0)                               \
			return (e);                                               \
		if ((e = pe_read(pe, in, addr, v, sizeof(v), sizeof(mem))) != 0)  \
			return (e);                                               \
		set;                                                              \
		return (INSN_NEXT);                                               \
	}                                                                         \
	OP(name)                                                                  \
	{                                                                         \
		uint64_t addr = (va);                                             \
		const void *p = pe_tlb_hit(pe->tlb->rd, addr, (n) * sizeof(mem)); \
		mem v[n];                                                         \
                                                                                  \
		if (unlikely(p == NULL || sp_odd(pe, in)))                        \
			return (name##_slow(pe, in));                             \
		memcpy(v, p, sizeof(v));                                          \
		set;                                                              \
		return (INSN_NEXT);                                               \
	}

#define STORE_ANY(name, mem, n, va, get, set)                                     \
	SLOW(name##_slow)                                                         \
	{                                                                         \
		uint64_t addr = (va);                                             \
		const mem v[n] = get;                                             \
		int e;                                                            \
                                                                                  \
		if ((e = pe_check_sp(pe, in)) != 0)                               \
			return (e);                                               \
		if ((e = pe_write(pe, in, addr, v, sizeof(v), sizeof(mem))) != 0) \
			return (e);                                               \
		set;                                                              \
		return (INSN_NEXT);                                               \
	}                                                                         \
	OP(name)                                                                  \
	{                                                                         \
		uint64_t addr = (va);                                             \
		void *p = pe_tlb_hit(pe->tlb->wr, addr, (n) * sizeof(mem));       \
		const mem v[n] = get;                                             \
                                                                                  \
		if (unlikely(p == NULL || sp_odd(pe, in)))                        \
			return (name##_slow(pe, in));                             \
		memcpy(p, v, sizeof(v));                                          \
		set;                                                              \
		return (INSN_NEXT);                                               \
	}

#define SET1(ext, reg) pe->x[in->rd] = (reg)(ext)v[0]
#define LOAD_BODY(name, mem, ext, reg, va, after) LOAD_ANY(name, mem, 1, va, SET1(ext, reg); after)
#define GET1(mem)       \
	{               \
		RD(mem) \
	}
#define STORE_BODY(name, mem, va, after) STORE_ANY(name, mem, 1, va, GET1(mem), after)

#define BASE (pe->x[in->rn])

/* Offset; post-index; pre-index; register offset in its two forms. */
#define LOAD(name, mem, ext, reg)                                                         \
	LOAD_BODY(name, mem, ext, reg, BASE + offset(in), (void)0)                        \
	LOAD_BODY(name##_post, mem, ext, reg, BASE, BASE = addr + offset(in))             \
	LOAD_BODY(name##_pre, mem, ext, reg, BASE + offset(in), BASE = addr)              \
	LOAD_BODY(name##_reg, mem, ext, reg, BASE + index_x(pe, in, SCALE(mem)), (void)0) \
	LOAD_BODY(name##_regw, mem, ext, reg, BASE + index_w(pe, in, SCALE(mem)), (void)0)

#define STORE(name, mem)                                                         \
	STORE_BODY(name, mem, BASE + offset(in), (void)0)                        \
	STORE_BODY(name##_post, mem, BASE, BASE = addr + offset(in))             \
	STORE_BODY(name##_pre, mem, BASE + offset(in), BASE = addr)              \
	STORE_BODY(name##_reg, mem, BASE + index_x(pe, in, SCALE(mem)), (void)0) \
	STORE_BODY(name##_regw, mem, BASE + index_w(pe, in, SCALE(mem)), (void)0)

LOADS(LOAD)
STORES(STORE)

/* Unprivileged: the permissions of EL0, in pe->tlb_unpriv. */

static int
unpriv_read(struct pe *pe, const struct insn *in, void *buf, unsigned len)
{
	uint64_t va = BASE + offset(in);
	const void *p = pe_tlb_hit(pe->tlb_unpriv->rd, va, len);
	int e;

	if ((e = pe_check_sp(pe, in)) != 0)
		return (e);
	if (p == NULL)
		return (pe_read_slow(pe, in, va, buf, len, len, ACC_READ | ACC_UNPRIV));
	memcpy(buf, p, len);
	return (0);
}

static int
unpriv_write(struct pe *pe, const struct insn *in, const void *buf, unsigned len)
{
	uint64_t va = BASE + offset(in);
	void *p = pe_tlb_hit(pe->tlb_unpriv->wr, va, len);
	int e;

	if ((e = pe_check_sp(pe, in)) != 0)
		return (e);
	if (p == NULL)
		return (pe_write_slow(pe, in, va, buf, len, len, ACC_WRITE | ACC_UNPRIV));
	memcpy(p, buf, len);
	return (0);
}

#define UNPRIV_LOAD(name, mem, ext, reg)                           \
	OP(name)                                                   \
	{                                                          \
		mem v;                                             \
		int e;                                             \
                                                                   \
		if ((e = unpriv_read(pe, in, &v, sizeof(v))) != 0) \
			return (e);                                \
		pe->x[in->rd] = (reg)(ext)v;                       \
		return (INSN_NEXT);                                \
	}

#define UNPRIV_STORE(name, mem)                               \
	OP(name)                                              \
	{                                                     \
		mem v = RD(mem);                              \
                                                              \
		return (unpriv_write(pe, in, &v, sizeof(v))); \
	}

UNPRIV_LOAD(ldtrb, uint8_t, uint8_t, uint32_t)
UNPRIV_LOAD(ldtrsb_x, uint8_t, int8_t, uint64_t)
UNPRIV_LOAD(ldtrsb_w, uint8_t, int8_t, uint32_t)
UNPRIV_LOAD(ldtrh, uint16_t, uint16_t, uint32_t)
UNPRIV_LOAD(ldtrsh_x, uint16_t, int16_t, uint64_t)
UNPRIV_LOAD(ldtrsh_w, uint16_t, int16_t, uint32_t)
UNPRIV_LOAD(ldtr_w, uint32_t, uint32_t, uint32_t)
UNPRIV_LOAD(ldtrsw, uint32_t, int32_t, uint64_t)
UNPRIV_LOAD(ldtr_x, uint64_t, uint64_t, uint64_t)
UNPRIV_STORE(sttrb, uint8_t)
UNPRIV_STORE(sttrh, uint16_t)
UNPRIV_STORE(sttr_w, uint32_t)
UNPRIV_STORE(sttr_x, uint64_t)

/* Literal: relative to the instruction, no base register. */

#define LOAD_LIT(name, mem, ext)                                                           \
	OP(name)                                                                           \
	{                                                                                  \
		mem v;                                                                     \
		int e;                                                                     \
                                                                                           \
		e = pe_read(pe, in, pe_pc(pe, in) + offset(in), &v, sizeof(v), sizeof(v)); \
		if (unlikely(e != 0))                                                      \
			return (e);                                                        \
		pe->x[in->rd] = (uint64_t)(ext)v;                                          \
		return (INSN_NEXT);                                                        \
	}

LOAD_LIT(ldr_lit_w, uint32_t, uint32_t)
LOAD_LIT(ldr_lit_x, uint64_t, uint64_t)
LOAD_LIT(ldrsw_lit, uint32_t, int32_t)

/* Pairs. */

/* The first register is written last: see a64.decode for Rt = Rt2. */
#define SET2(ext)                            \
	pe->x[in->ra] = (uint64_t)(ext)v[1]; \
	pe->x[in->rd] = (uint64_t)(ext)v[0]
#define LDP_BODY(name, mem, ext, va, after) LOAD_ANY(name, mem, 2, va, SET2(ext); after)
#define GET2(mem)                \
	{                        \
		RD(mem), RA(mem) \
	}
#define STP_BODY(name, mem, va, after) STORE_ANY(name, mem, 2, va, GET2(mem), after)

#define LDP(name, mem, ext)                                             \
	LDP_BODY(name, mem, ext, BASE + offset(in), (void)0)            \
	LDP_BODY(name##_post, mem, ext, BASE, BASE = addr + offset(in)) \
	LDP_BODY(name##_pre, mem, ext, BASE + offset(in), BASE = addr)

#define STP(name, mem)                                             \
	STP_BODY(name, mem, BASE + offset(in), (void)0)            \
	STP_BODY(name##_post, mem, BASE, BASE = addr + offset(in)) \
	STP_BODY(name##_pre, mem, BASE + offset(in), BASE = addr)

LDP(ldp_w, uint32_t, uint32_t)
LDP(ldp_x, uint64_t, uint64_t)
LDP(ldpsw, uint32_t, int32_t)
STP(stp_w, uint32_t)
STP(stp_x, uint64_t)
