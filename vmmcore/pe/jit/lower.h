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
LOWER(swp);
LOWER(ldadd);
LOWER(ldlogic);
/* lower_sys.c */
LOWER(mrs);
/* lower_mem.c */
LOWER(load);
LOWER(store);
LOWER(load_pair);
LOWER(store_pair);
LOWER(vload);
LOWER(vstore);
LOWER(vload_pair);
LOWER(vstore_pair);

/*
 * lower_mem.c: RAX = rn + disp, with the check of a misaligned SP; then
 * [RAX + RDX] is the memory of `len` bytes there (RCX is used).
 */
void g_address(struct tr *, const struct insn *, int32_t disp);
struct x86_mem g_translate(struct tr *, unsigned len, bool write);

/* Is this op the 64-bit form? Its word says so in bit 31. */
static inline bool
is_x(const struct insn *in)
{
	return ((in->word >> 31) != 0);
}

#endif /* PE_JIT_LOWER_H */
