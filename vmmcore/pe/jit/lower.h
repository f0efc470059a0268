/*
 * The lowerings, one function for each kind of instruction; jit_tables.c says
 * which op uses which.
 */
#ifndef PE_JIT_LOWER_H
#define PE_JIT_LOWER_H

#include "pe/jit/jit_int.h"

#define LOWER(name) void lower_##name(struct tr *t, const struct insn *in)

/* lower_alu.c: _w and _x by the op number */
LOWER(add_imm);
LOWER(sub_imm);
LOWER(adds_imm);
LOWER(subs_imm);
LOWER(logic_imm);
LOWER(ands_imm);
LOWER(arith);
LOWER(arith_flags);
LOWER(logic);
LOWER(ands);
LOWER(ccmp);
LOWER(csel);
/* lower_bits.c */
LOWER(movz);
LOWER(movn);
LOWER(movk);
LOWER(adr);
LOWER(ubfx);
LOWER(sbfx);
LOWER(ubfiz);
LOWER(sbfiz);
LOWER(bfi);
LOWER(extr);
LOWER(shiftv);
LOWER(madd);
LOWER(maddl);
LOWER(mulh);
LOWER(udiv);
LOWER(clz);
LOWER(rev);
LOWER(nop);
LOWER(dmb);
/* lower_branch.c */
LOWER(b);
LOWER(bl);
LOWER(b_cond);
LOWER(cbz);
LOWER(tbz);
LOWER(br);
LOWER(blr);
LOWER(adc);
LOWER(rev16);
LOWER(rbit);
/* lower_atomic.c */
LOWER(ldar);
LOWER(stlr);
LOWER(ldxr);
LOWER(stxr);
LOWER(cas);
LOWER(casp);
LOWER(swp);
LOWER(ldadd);
LOWER(ldlogic);
/* lower_sys.c */
LOWER(mrs);
LOWER(msr);
LOWER(msr_imm);
LOWER(svc);
LOWER(eret);
LOWER(isb);
LOWER(dsb);
/* lower_mem.c */
LOWER(load);
LOWER(load_lit);
LOWER(load_unpriv);
LOWER(store_unpriv);
LOWER(sys);
LOWER(store);
LOWER(load_pair);
LOWER(store_pair);
LOWER(vload);
LOWER(vstore);
LOWER(vload_pair);
LOWER(vstore_pair);

enum mode { M_OFFSET, M_POST, M_PRE, M_REG };

/*
 * lower_mem.c: a register that holds general register `base` plus disp: that
 * register's own, not to be changed, or RAX; and with the check of a misaligned SP.
 */
int g_base(struct tr *, unsigned base, int32_t disp);
int g_address(struct tr *, const struct insn *, int32_t disp);
/* RAX = rn + the extended rm, shifted by 0 or scale. Uses RCX. */
void g_index(struct tr *, const struct insn *, unsigned scale);
/*
 * The memory of `len` bytes at the address in host register a: [a + RDX]. RCX is
 * used. Misses go to out-of-line code of this kind: COLD_SLOW, COLD_SPLIT.
 */
struct x86_mem g_translate(struct tr *, int a, unsigned len, bool write, enum cold_kind);

/* How a load or store of lower_mem.c addresses memory. */
struct access {
	bool write, vector, pair;
	enum mode mode;
	int32_t len;
};

/* lower_group.c: *a = what `in` does; false when lower_mem.c does not lower it. */
bool g_access(const struct insn *in, struct access *a);
/* Does this instruction, which is not a load or store, write general register r? */
bool g_writes(const struct insn *in, unsigned r);

/*
 * lower_group.c: the memory operand of `in`, when it shares a look into the TLB
 * with others. RAX, RCX, RDX are used; RAX and RDX must stay.
 */
bool g_grouped(struct tr *, const struct insn *in, struct x86_mem *);

/*
 * lower_strip.c: find the streams of the loop from the block's start to
 * instruction t->loop.at. The memory operand of `in` when it is one of them.
 * What comes before and behind the loop, and where its last round ends.
 */
void strip_find(struct tr *);
/* Do the bases and indexes of the streams stay as they are over this instruction? */
bool strip_keeps(const struct tr *, const struct insn *in);
bool strip_operand(struct tr *, const struct insn *in, struct x86_mem *);
void strip_emit(struct tr *);
/* r13 = the whole slice again, when this is code of a loop with streams. Flags are lost. */
void strip_leave(struct tr *, bool strip);
/* The same without touching flags, in place; uses RCX. */
void strip_end(struct tr *);

/*
 * lower_middle.c: find the ways from behind the loop, up to instruction `end`, into
 * the middle of it; make a label for them at this instruction. The branch at this
 * one goes there; false: it does not. Late flags may stay so in what lies aside
 * from instruction `first` on.
 */
void middle_find(struct tr *, unsigned end);
void middle_label(struct tr *);
bool middle_branch(struct tr *, int32_t target);
bool middle_keeps_late(const struct tr *, unsigned first, const struct late *);

/* jit_block.c: from the state v of the V registers to the state l. */
void t_moves(struct tr *, const struct vcache *v, const struct vcache *l);

/* Addressing mode of a single-register access by its encoding (C4.1.94). */
static inline enum mode
mode_of(uint32_t word)
{
	static const uint8_t mode[4] = { M_OFFSET, M_POST, M_OFFSET, M_PRE };

	if ((word & (1u << 24)) != 0)
		return (M_OFFSET);
	if ((word & (1u << 21)) != 0)
		return (M_REG);
	return (mode[FIELD(word, 10, 2)]);
}

static inline enum mode
pair_mode_of(uint32_t word)
{
	static const uint8_t mode[4] = { M_OFFSET, M_POST, M_OFFSET, M_PRE };

	return (mode[FIELD(word, 23, 2)]);
}

/* Is this op the 64-bit form? Its word says so in bit 31. */
static inline bool
is_x(const struct insn *in)
{
	return ((in->word >> 31) != 0);
}

#endif /* PE_JIT_LOWER_H */
