/*
 * Data processing with an immediate (DDI 0487, C4.1.86): PC-relative address,
 * add and subtract, logical, move wide, bitfield, extract.
 */
#include "pe/exec_int.h"

/*
 * DecodeBitMasks() by N:immr:imms. The 32-bit forms use the low half of the
 * same value. Reserved entries are 0; no row lets them through.
 */
static uint64_t bitmask[8192];

static uint64_t
decode_bitmask(unsigned n, unsigned immr, unsigned imms)
{
	unsigned pick = n << 6 | (~imms & 0x3f);
	unsigned esize, s, r;
	uint64_t elem;

	if (pick < 2)
		return (0);
	esize = 1u << (31 - __builtin_clz(pick));
	s = imms & (esize - 1);
	r = immr & (esize - 1);
	if (s == esize - 1)
		return (0);
	elem = GENMASK(s, 0);
	if (r != 0)
		elem = (elem >> r | elem << (esize - r)) & GENMASK(esize - 1, 0);
	for (; esize < 64; esize *= 2)
		elem |= elem << esize;
	return (elem);
}

__attribute__((constructor)) static void
bitmask_init(void)
{
	unsigned i;

	for (i = 0; i < 8192; i++)
		bitmask[i] = decode_bitmask(i >> 12, (i >> 6) & 0x3f, i & 0x3f);
}

uint64_t
a64_bitmask(unsigned i)
{
	return (bitmask[i]);
}

OP_RD(adr, uint64_t, pe_pc(pe, in) + (uint64_t)(int64_t)in->imm)
OP_RD(adrp, uint64_t, pe->pc_page + ((uint64_t)(int64_t)in->imm << 12))

/* imm is shifted already, at most 24 bits, never negative. */
OP_ADDSUB(_imm, (uint32_t)in->imm, (uint32_t)in->imm)

OP_LOGIC(and, orr, eor, ands, _imm, (uint32_t)bitmask[in->imm], bitmask[in->imm])

/* a is hw: which 16 bits. */
#define WIDE(type) ((type)in->imm << (in->a * 16))
OP_RD(movz_w, uint32_t, WIDE(uint32_t))
OP_RD(movz_x, uint64_t, WIDE(uint64_t))
OP_RD(movn_w, uint32_t, ~WIDE(uint32_t))
OP_RD(movn_x, uint64_t, ~WIDE(uint64_t))

OP(movk_w)
{
	uint32_t keep = ~((uint32_t)0xffff << (in->a * 16));

	pe_setx(pe, in->rd, (RD(uint32_t) & keep) | WIDE(uint32_t));
	return (INSN_NEXT);
}

OP(movk_x)
{
	uint64_t keep = ~((uint64_t)0xffff << (in->a * 16));

	pe_setx(pe, in->rd, (RD(uint64_t) & keep) | WIDE(uint64_t));
	return (INSN_NEXT);
}

/*
 * Bitfield moves; a is immr, b is imms. When imms >= immr the field [imms:immr]
 * moves to bit 0; otherwise the field [imms:0] moves up to bit width - immr.
 */
#define UP(type, bits) ((type)(RN(type) << ((bits)-1 - in->b)))
#define DOWN_BY(bits) ((bits)-1 - in->b + in->a)
#define BACK_BY ((in->a) - in->b - 1)

OP_RD(ubfx_w, uint32_t, UP(uint32_t, 32) >> DOWN_BY(32))
OP_RD(ubfx_x, uint64_t, UP(uint64_t, 64) >> DOWN_BY(64))
OP_RD(ubfiz_w, uint32_t, UP(uint32_t, 32) >> BACK_BY)
OP_RD(ubfiz_x, uint64_t, UP(uint64_t, 64) >> BACK_BY)
OP_RD(sbfx_w, uint32_t, (int32_t)UP(uint32_t, 32) >> DOWN_BY(32))
OP_RD(sbfx_x, uint64_t, (int64_t)UP(uint64_t, 64) >> DOWN_BY(64))
OP_RD(sbfiz_w, uint32_t, (int32_t)UP(uint32_t, 32) >> BACK_BY)
OP_RD(sbfiz_x, uint64_t, (int64_t)UP(uint64_t, 64) >> BACK_BY)

/* BFM keeps the other bits of Rd; the result is < 2^32 in the 32-bit forms. */
static int
insert(struct pe *pe, const struct insn *in, uint64_t field, uint64_t mask, uint64_t width)
{
	pe_setx(pe, in->rd, ((pe->x[in->rd] & ~mask) | (field & mask)) & width);
	return (INSN_NEXT);
}

OP(bfxil_w)
{
	return (insert(pe, in, RN(uint32_t) >> in->a, GENMASK(in->b - in->a, 0), UINT32_MAX));
}

OP(bfxil_x)
{
	return (insert(pe, in, RN(uint64_t) >> in->a, GENMASK(in->b - in->a, 0), UINT64_MAX));
}

OP(bfi_w)
{
	unsigned lsb = 32u - in->a;

	return (insert(pe, in, RN(uint64_t) << lsb, GENMASK(lsb + in->b, lsb), UINT32_MAX));
}

OP(bfi_x)
{
	unsigned lsb = 64u - in->a;

	return (insert(pe, in, RN(uint64_t) << lsb, GENMASK(lsb + in->b, lsb), UINT64_MAX));
}

/* Rn:Rm shifted right by a; a = 0 leaves Rm. */
OP_RD(extr_w, uint32_t, ((uint64_t)RN(uint32_t) << 32 | RM(uint32_t)) >> in->a)

OP(extr_x)
{
	uint64_t hi = RN(uint64_t) << 1 << (63 - in->a);

	pe->x[in->rd] = hi | RM(uint64_t) >> in->a;
	return (INSN_NEXT);
}
