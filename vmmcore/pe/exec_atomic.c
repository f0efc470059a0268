/*
 * Exclusives, load-acquire and store-release, compare and swap, atomic memory
 * operations (DDI 0487, B2.9, B2.3.11, C3.2.12).
 *
 * The host is TSO: a load is an acquire and a store a release already. What
 * Arm asks for beyond (RCsc: LDAR after STLR stays after it) is the full fence
 * after a store-release; locked instructions are full fences of their own. An
 * exclusive store is a compare-exchange with the value that the exclusive load
 * saw: a store of the same value in between goes unnoticed, which no lock or
 * counter built on exclusives can tell.
 */
#include "pe/exec_int.h"

/*
 * Host address of an access that is one atomic operation; NULL: the exception is
 * taken. It is aligned, or with FEAT_LSE2 inside 16 aligned bytes, where the
 * host's locked instructions are as good as aligned ones.
 */
static inline void *
host_read(struct pe *pe, const struct insn *in, uint64_t va, unsigned len)
{
	void *p = pe_tlb_hit(pe->tlb->rd, va, len);

	if (likely(p != NULL && (va & (len - 1)) == 0))
		return (p);
	return (pe_host_addr(pe, in, va, len, ACC_READ | ACC_ALIGNED));
}

static inline void *
host_write(struct pe *pe, const struct insn *in, uint64_t va, unsigned len)
{
	void *p = pe_tlb_hit(pe->tlb->wr, va, len);

	if (likely(p != NULL && (va & (len - 1)) == 0))
		return (p);
	return (pe_host_addr(pe, in, va, len, ACC_WRITE | ACC_ALIGNED));
}

static inline void *
host_rmw(struct pe *pe, const struct insn *in, uint64_t va, unsigned len)
{
	void *p = pe_tlb_hit(pe->tlb->wr, va, len);

	if (likely(p != NULL && (va & (len - 1)) == 0 && pe_tlb_hit(pe->tlb->rd, va, len) != NULL))
		return (p);
	return (pe_host_addr(pe, in, va, len, ACC_READ | ACC_WRITE | ACC_ATOMIC | ACC_ALIGNED));
}

#define BASE (pe->x[in->rn])

#define HOST(p, type, kind, va)                     \
	do {                                        \
		int e_ = pe_check_sp(pe, in);       \
                                                    \
		if (unlikely(e_ != 0))              \
			return (e_);                \
		p = kind(pe, in, va, sizeof(type)); \
		if (unlikely(p == NULL))            \
			return (INSN_EXC);          \
	} while (0)

#define SIZES(X)                \
	X(b, uint8_t, int8_t)   \
	X(h, uint16_t, int16_t) \
	X(w, uint32_t, int32_t) \
	X(x, uint64_t, int64_t)

/*
 * Acquire and release. Without alignment (FEAT_LSE2) they are plain accesses
 * between fences: inside 16 bytes the host's are single-copy atomic, beyond
 * nothing is asked for, and a locked instruction across a cache line may be
 * forbidden by the host.
 */

static __attribute__((noinline, cold)) int
acquire_odd(struct pe *pe, const struct insn *in, uint64_t va, void *buf, unsigned len)
{
	int e = pe_check_sp(pe, in);

	if (e == 0)
		e = pe_read_slow(pe, in, va, buf, len, len, ACC_READ | ACC_ORDERED);
	atomic_thread_fence(memory_order_acquire);
	return (e);
}

static __attribute__((noinline, cold)) int
release_odd(struct pe *pe, const struct insn *in, uint64_t va, const void *buf, unsigned len)
{
	int e = pe_check_sp(pe, in);

	atomic_thread_fence(memory_order_release);
	if (e == 0)
		e = pe_write_slow(pe, in, va, buf, len, len, ACC_WRITE | ACC_ORDERED);
	atomic_thread_fence(memory_order_seq_cst);
	return (e);
}

#define ACQUIRE(name, type, reg, va)                                       \
	OP(name)                                                           \
	{                                                                  \
		const uint64_t addr = (va);                                \
		const type *p;                                             \
		type v;                                                    \
                                                                           \
		if (unlikely((addr & (sizeof(type) - 1)) != 0)) {          \
			if (acquire_odd(pe, in, addr, &v, sizeof(v)) != 0) \
				return (INSN_EXC);                         \
		} else {                                                   \
			HOST(p, type, host_read, addr);                    \
			v = __atomic_load_n(p, __ATOMIC_SEQ_CST);          \
		}                                                          \
		pe->x[in->rd] = (reg)v;                                    \
		return (INSN_NEXT);                                        \
	}

/* SEQ_CST store: XCHG, or MOV and MFENCE. */
#define RELEASE(name, type, va)                                            \
	OP(name)                                                           \
	{                                                                  \
		const uint64_t addr = (va);                                \
		const type v = RD(type);                                   \
		type *p;                                                   \
                                                                           \
		if (unlikely((addr & (sizeof(type) - 1)) != 0))            \
			return (release_odd(pe, in, addr, &v, sizeof(v))); \
		HOST(p, type, host_write, addr);                           \
		__atomic_store_n(p, v, __ATOMIC_SEQ_CST);                  \
		return (INSN_NEXT);                                        \
	}

#define OFFSET ((uint64_t)(int64_t)in->imm)
#define LDAR_STLR(s, type, stype)                      \
	ACQUIRE(ldar_##s, type, type, BASE)            \
	RELEASE(stlr_##s, type, BASE)                  \
	ACQUIRE(ldapur_##s, type, type, BASE + OFFSET) \
	RELEASE(stlur_##s, type, BASE + OFFSET)

SIZES(LDAR_STLR)
ACQUIRE(ldapurs_bx, int8_t, uint64_t, BASE + OFFSET)
ACQUIRE(ldapurs_bw, int8_t, uint32_t, BASE + OFFSET)
ACQUIRE(ldapurs_hx, int16_t, uint64_t, BASE + OFFSET)
ACQUIRE(ldapurs_hw, int16_t, uint32_t, BASE + OFFSET)
ACQUIRE(ldapurs_wx, int32_t, uint64_t, BASE + OFFSET)

/* Exclusives. The monitor is the host address, the size and the value. */

#define LDXR(s, type, stype)                                            \
	OP(ldxr_##s)                                                    \
	{                                                               \
		type *p;                                                \
                                                                        \
		HOST(p, type, host_read, BASE);                         \
		pe->excl_val[0] = __atomic_load_n(p, __ATOMIC_SEQ_CST); \
		pe->excl_host = p;                                      \
		pe->excl_size = sizeof(type);                           \
		pe->x[in->rd] = pe->excl_val[0];                        \
		return (INSN_NEXT);                                     \
	}

/*
 * A failed compare-exchange wrote nothing. Permission is checked in any case,
 * so a store to a read-only page faults whatever the monitor says.
 */
#define STXR(s, type, stype)                                                            \
	OP(stxr_##s)                                                                    \
	{                                                                               \
		type *p, old = (type)pe->excl_val[0];                                   \
		bool ok;                                                                \
                                                                                        \
		HOST(p, type, host_write, BASE);                                        \
		ok = pe->excl_size == sizeof(type) && pe->excl_host == (void *)p &&     \
		     __atomic_compare_exchange_n(                                       \
			 p, &old, RD(type), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
		pe->excl_size = 0;                                                      \
		pe->x[in->rm] = !ok;                                                    \
		return (INSN_NEXT);                                                     \
	}

SIZES(LDXR)
SIZES(STXR)

/* Two words: one doubleword of memory. */

OP(ldxp_w)
{
	uint64_t *p;

	HOST(p, uint64_t, host_read, BASE);
	pe->excl_val[0] = __atomic_load_n(p, __ATOMIC_SEQ_CST);
	pe->excl_host = p;
	pe->excl_size = 8;
	pe->x[in->rd] = (uint32_t)pe->excl_val[0];
	pe->x[in->ra] = pe->excl_val[0] >> 32;
	return (INSN_NEXT);
}

OP(stxp_w)
{
	uint64_t *p, old = pe->excl_val[0], val = RD(uint32_t) | RA(uint64_t) << 32;
	bool ok;

	HOST(p, uint64_t, host_write, BASE);
	ok = pe->excl_size == 8 && pe->excl_host == (void *)p &&
	     __atomic_compare_exchange_n(p, &old, val, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	pe->excl_size = 0;
	pe->x[in->rm] = !ok;
	return (INSN_NEXT);
}

typedef unsigned __int128 u128;
struct quad {
	uint64_t v[2];
};

/* CMPXCHG16B; every x86-64 host of interest has it. */
__attribute__((target("cx16"))) static u128
cas128(u128 *p, u128 old, u128 val)
{
	return (__sync_val_compare_and_swap(p, old, val));
}

/*
 * Two doublewords. The loads may see two different stores: DDI 0487, B2.9.5
 * makes a pair of doublewords atomic only if the store exclusive succeeds.
 */
OP(ldxp_x)
{
	struct quad *p;

	HOST(p, struct quad, host_read, BASE);
	pe->excl_val[0] = __atomic_load_n(&p->v[0], __ATOMIC_SEQ_CST);
	pe->excl_val[1] = __atomic_load_n(&p->v[1], __ATOMIC_SEQ_CST);
	pe->excl_host = p;
	pe->excl_size = 16;
	pe->x[in->rd] = pe->excl_val[0];
	pe->x[in->ra] = pe->excl_val[1];
	return (INSN_NEXT);
}

OP(stxp_x)
{
	u128 old = (u128)pe->excl_val[1] << 64 | pe->excl_val[0];
	u128 val = (u128)RA(uint64_t) << 64 | RD(uint64_t);
	void *p;
	bool ok;

	HOST(p, u128, host_write, BASE);
	ok = pe->excl_size == 16 && pe->excl_host == p && cas128(p, old, val) == old;
	pe->excl_size = 0;
	pe->x[in->rm] = !ok;
	return (INSN_NEXT);
}

/* Compare and swap: Rs (rm) is compared and gets the old value, Rt is stored. */

#define CAS(s, type, stype)                                                        \
	OP(cas_##s)                                                                \
	{                                                                          \
		type *p, old = RM(type);                                           \
                                                                                   \
		HOST(p, type, host_rmw, BASE);                                     \
		__atomic_compare_exchange_n(                                       \
		    p, &old, RD(type), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
		pe_setx(pe, in->rm, old);                                          \
		return (INSN_NEXT);                                                \
	}

SIZES(CAS)

/* Register pairs are even and the next; 31 is never their first. */

OP(casp_w)
{
	uint64_t *p, old = RM(uint32_t) | pe->x[in->rm + 1] << 32;
	uint64_t val = RD(uint32_t) | pe->x[in->rd + 1] << 32;

	HOST(p, uint64_t, host_rmw, BASE);
	__atomic_compare_exchange_n(p, &old, val, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	pe->x[in->rm] = (uint32_t)old;
	pe_setx(pe, in->rm + 1u, old >> 32);
	return (INSN_NEXT);
}

OP(casp_x)
{
	u128 old = (u128)pe->x[in->rm + 1] << 64 | RM(uint64_t);
	u128 val = (u128)pe->x[in->rd + 1] << 64 | RD(uint64_t);
	u128 *p;

	HOST(p, u128, host_rmw, BASE);
	old = cas128(p, old, val);
	pe->x[in->rm] = (uint64_t)old;
	pe_setx(pe, in->rm + 1u, (uint64_t)(old >> 64));
	return (INSN_NEXT);
}

/* Atomic memory operations: Rt gets the old value, Rs (rm) is the operand. */

#define FETCH_OP(name, type, expr)             \
	OP(name)                               \
	{                                      \
		type *p;                       \
                                               \
		HOST(p, type, host_rmw, BASE); \
		pe->x[in->rd] = (expr);        \
		return (INSN_NEXT);            \
	}

/* Minimum and maximum have no host instruction: a compare-exchange loop. */
#define FETCH_PICK(name, type, cmptype, oper)                                  \
	OP(name)                                                               \
	{                                                                      \
		const type arg = RM(type);                                     \
		type *p, old, val;                                             \
                                                                               \
		HOST(p, type, host_rmw, BASE);                                 \
		old = __atomic_load_n(p, __ATOMIC_SEQ_CST);                    \
		do                                                             \
			val = (cmptype)old oper(cmptype) arg ? old : arg;      \
		while (!__atomic_compare_exchange_n(                           \
		    p, &old, val, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)); \
		pe->x[in->rd] = old;                                           \
		return (INSN_NEXT);                                            \
	}

#define ATOMICS(s, type, stype)                                                             \
	FETCH_OP(ldadd_##s, type, __atomic_fetch_add(p, RM(type), __ATOMIC_SEQ_CST))        \
	FETCH_OP(ldclr_##s, type, __atomic_fetch_and(p, (type)~RM(type), __ATOMIC_SEQ_CST)) \
	FETCH_OP(ldeor_##s, type, __atomic_fetch_xor(p, RM(type), __ATOMIC_SEQ_CST))        \
	FETCH_OP(ldset_##s, type, __atomic_fetch_or(p, RM(type), __ATOMIC_SEQ_CST))         \
	FETCH_OP(swp_##s, type, __atomic_exchange_n(p, RM(type), __ATOMIC_SEQ_CST))         \
	FETCH_PICK(ldsmax_##s, type, stype, >)                                              \
	FETCH_PICK(ldsmin_##s, type, stype, <)                                              \
	FETCH_PICK(ldumax_##s, type, type, >)                                               \
	FETCH_PICK(ldumin_##s, type, type, <)

SIZES(ATOMICS)
