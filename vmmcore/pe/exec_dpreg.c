/*
 * Data processing with registers (DDI 0487, C4.1.95): arithmetic, logic,
 * shifts, conditional select and compare, multiply, divide, CRC, flags.
 */
#include "pe/exec_int.h"

/* LE is followed by AL and NV, which both mean always. */
const uint16_t a64_cond[16] = {
	0xf0f0, 0x0f0f, /* EQ: Z    NE */
	0xcccc, 0x3333, /* CS: C    CC */
	0xff00, 0x00ff, /* MI: N    PL */
	0xaaaa, 0x5555, /* VS: V    VC */
	0x0c0c, 0xf3f3, /* HI: C and not Z    LS */
	0xaa55, 0x55aa, /* GE: N = V    LT */
	0x0a05, 0xf5fa, /* GT: GE and not Z    LE */
	0xffff, 0xffff, /* AL */
};

/* Add, subtract: shifted and extended registers. a is the kind, b the amount. */

OP_ADDSUB(, RM(uint32_t), RM(uint64_t))
OP_ADDSUB(_lsl, RM(uint32_t) << in->b, RM(uint64_t) << in->b)
OP_ADDSUB(_sh, shift32(RM(uint32_t), in->a, in->b), shift64(RM(uint64_t), in->a, in->b))
OP_ADDSUB(
    _ext, (uint32_t)extend64(RM(uint64_t), in->a, in->b), extend64(RM(uint64_t), in->a, in->b))

/* Logical, shifted register; the second set complements the operand. */

OP_LOGIC(and, orr, eor, ands, , RM(uint32_t), RM(uint64_t))
OP_LOGIC(and, orr, eor, ands, _lsl, RM(uint32_t) << in->b, RM(uint64_t) << in->b)
OP_LOGIC(and, orr, eor, ands, _sh, shift32(RM(uint32_t), in->a, in->b),
    shift64(RM(uint64_t), in->a, in->b))
OP_LOGIC(bic, orn, eon, bics, , ~RM(uint32_t), ~RM(uint64_t))
OP_LOGIC(bic, orn, eon, bics, _lsl, ~(RM(uint32_t) << in->b), ~(RM(uint64_t) << in->b))
OP_LOGIC(bic, orn, eon, bics, _sh, ~shift32(RM(uint32_t), in->a, in->b),
    ~shift64(RM(uint64_t), in->a, in->b))

/* With carry: AddWithCarry(Rn, operand, C); SBC adds the complement. */

static inline uint32_t
carry(const struct pe *pe)
{
	return ((pe->nzcv >> 29) & 1);
}

/* The carry out is 1 when the sum wrapped, or did not move with carry in 1. */
#define FLAGS_ADC(bits)                                                              \
	nzcv_pack(r >> ((bits)-1), r == 0, r < a || (r == a && carry(pe) && b != 0), \
	    ((a ^ r) & (b ^ r)) >> ((bits)-1))

OP_RD(adc_w, uint32_t, RN(uint32_t) + RM(uint32_t) + carry(pe))
OP_RD(adc_x, uint64_t, RN(uint64_t) + RM(uint64_t) + carry(pe))
OP_RD(sbc_w, uint32_t, RN(uint32_t) + ~RM(uint32_t) + carry(pe))
OP_RD(sbc_x, uint64_t, RN(uint64_t) + ~RM(uint64_t) + carry(pe))
OP_RD_FLAGS(adcs_w, uint32_t, RN(uint32_t), RM(uint32_t), a + b + carry(pe), FLAGS_ADC(32))
OP_RD_FLAGS(adcs_x, uint64_t, RN(uint64_t), RM(uint64_t), a + b + carry(pe), FLAGS_ADC(64))
OP_RD_FLAGS(sbcs_w, uint32_t, RN(uint32_t), ~RM(uint32_t), a + b + carry(pe), FLAGS_ADC(32))
OP_RD_FLAGS(sbcs_x, uint64_t, RN(uint64_t), ~RM(uint64_t), a + b + carry(pe), FLAGS_ADC(64))

/* Conditional compare; a is the condition, b the flags when it fails. */

#define OP_CCMP(name, type, operand, oper, flags)                                          \
	OP(name)                                                                           \
	{                                                                                  \
		const type a = RN(type), b = (type)(operand), r = a oper b;                \
                                                                                           \
		pe->nzcv = cond_holds(pe, in->a) ? flags(a, b, r) : (uint32_t)in->b << 28; \
		return (INSN_NEXT);                                                        \
	}

OP_CCMP(ccmn_w, uint32_t, pe->x[in->rm], +, flags_add32)
OP_CCMP(ccmn_x, uint64_t, pe->x[in->rm], +, flags_add64)
OP_CCMP(ccmp_w, uint32_t, pe->x[in->rm], -, flags_sub32)
OP_CCMP(ccmp_x, uint64_t, pe->x[in->rm], -, flags_sub64)
OP_CCMP(ccmn_imm_w, uint32_t, in->imm, +, flags_add32)
OP_CCMP(ccmn_imm_x, uint64_t, in->imm, +, flags_add64)
OP_CCMP(ccmp_imm_w, uint32_t, in->imm, -, flags_sub32)
OP_CCMP(ccmp_imm_x, uint64_t, in->imm, -, flags_sub64)

/* Conditional select; a is the condition. */

#define OP_CSEL(name, otherw, otherx)                                              \
	OP_RD(name##_w, uint32_t, cond_holds(pe, in->a) ? RN(uint32_t) : (otherw)) \
	OP_RD(name##_x, uint64_t, cond_holds(pe, in->a) ? RN(uint64_t) : (otherx))

OP_CSEL(csel, RM(uint32_t), RM(uint64_t))
OP_CSEL(csinc, RM(uint32_t) + 1, RM(uint64_t) + 1)
OP_CSEL(csinv, ~RM(uint32_t), ~RM(uint64_t))
OP_CSEL(csneg, -RM(uint32_t), -RM(uint64_t))

/* Two sources. A division by zero is 0; INT_MIN / -1 is INT_MIN. */

static int32_t
sdiv32(int32_t n, int32_t d)
{
	return (d == 0 ? 0 : d == -1 ? (int32_t) - (uint32_t)n : n / d);
}

static int64_t
sdiv64(int64_t n, int64_t d)
{
	return (d == 0 ? 0 : d == -1 ? (int64_t) - (uint64_t)n : n / d);
}

OP_RD(udiv_w, uint32_t, RM(uint32_t) == 0 ? 0 : RN(uint32_t) / RM(uint32_t))
OP_RD(udiv_x, uint64_t, RM(uint64_t) == 0 ? 0 : RN(uint64_t) / RM(uint64_t))
OP_RD(sdiv_w, uint32_t, sdiv32(RN(int32_t), RM(int32_t)))
OP_RD(sdiv_x, uint64_t, sdiv64(RN(int64_t), RM(int64_t)))
OP_RD(lslv_w, uint32_t, RN(uint32_t) << (pe->x[in->rm] & 31))
OP_RD(lslv_x, uint64_t, RN(uint64_t) << (pe->x[in->rm] & 63))
OP_RD(lsrv_w, uint32_t, RN(uint32_t) >> (pe->x[in->rm] & 31))
OP_RD(lsrv_x, uint64_t, RN(uint64_t) >> (pe->x[in->rm] & 63))
OP_RD(asrv_w, uint32_t, RN(int32_t) >> (pe->x[in->rm] & 31))
OP_RD(asrv_x, uint64_t, RN(int64_t) >> (pe->x[in->rm] & 63))
OP_RD(rorv_w, uint32_t, ror32(RN(uint32_t), pe->x[in->rm] & 31))
OP_RD(rorv_x, uint64_t, ror64(RN(uint64_t), pe->x[in->rm] & 63))

/* CRC-32 and CRC-32C, bit-reversed polynomials, a table by byte. */

static uint32_t crc_table[2][256];

__attribute__((constructor)) static void
crc_init(void)
{
	static const uint32_t poly[2] = { 0xedb88320, 0x82f63b78 };
	unsigned c, i, k;

	for (c = 0; c < 2; c++) {
		for (i = 0; i < 256; i++) {
			uint32_t v = i;

			for (k = 0; k < 8; k++)
				v = v >> 1 ^ (poly[c] & -(v & 1));
			crc_table[c][i] = v;
		}
	}
}

static uint32_t
crc(const uint32_t *table, uint32_t acc, uint64_t data, unsigned bytes)
{
	for (; bytes > 0; bytes--, data >>= 8)
		acc = acc >> 8 ^ table[(acc ^ data) & 0xff];
	return (acc);
}

#define OP_CRC(suffix, bytes)                                                                 \
	OP_RD(crc32##suffix, uint32_t, crc(crc_table[0], RN(uint32_t), pe->x[in->rm], bytes)) \
	OP_RD(crc32c##suffix, uint32_t, crc(crc_table[1], RN(uint32_t), pe->x[in->rm], bytes))

OP_CRC(b, 1)
OP_CRC(h, 2)
OP_CRC(w, 4)
OP_CRC(x, 8)

/* One source. */

static uint64_t
swap_halves(uint64_t v, uint64_t low_mask, unsigned by)
{
	return ((v & low_mask) << by | (v >> by & low_mask));
}

static uint64_t
rev16(uint64_t v)
{
	return (swap_halves(v, 0x00ff00ff00ff00ff, 8));
}

static uint64_t
rbit(uint64_t v)
{
	v = swap_halves(v, 0x5555555555555555, 1);
	v = swap_halves(v, 0x3333333333333333, 2);
	v = swap_halves(v, 0x0f0f0f0f0f0f0f0f, 4);
	return (__builtin_bswap64(v));
}

static unsigned
clz64(uint64_t v)
{
	return (v == 0 ? 64 : (unsigned)__builtin_clzll(v));
}

OP_RD(rbit_w, uint32_t, rbit(pe->x[in->rn]) >> 32)
OP_RD(rbit_x, uint64_t, rbit(pe->x[in->rn]))
OP_RD(rev16_w, uint32_t, rev16(pe->x[in->rn]))
OP_RD(rev16_x, uint64_t, rev16(pe->x[in->rn]))
OP_RD(rev_w, uint32_t, __builtin_bswap32(RN(uint32_t)))
OP_RD(rev_x, uint64_t, __builtin_bswap64(pe->x[in->rn]))
OP_RD(rev32_x, uint64_t, ror64(__builtin_bswap64(pe->x[in->rn]), 32))
OP_RD(clz_w, uint32_t, clz64(RN(uint32_t)) - 32)
OP_RD(clz_x, uint64_t, clz64(pe->x[in->rn]))
/* Copies of the sign below the sign: v ^ v>>1 has a one where it changes. */
OP_RD(cls_w, uint32_t, clz64(RN(uint32_t) ^ (uint32_t)(RN(int32_t) >> 1)) - 33)
OP_RD(cls_x, uint64_t, clz64(RN(uint64_t) ^ (uint64_t)(RN(int64_t) >> 1)) - 1)

/* Three sources. */

OP_RD(madd_w, uint32_t, RA(uint32_t) + RN(uint32_t) * RM(uint32_t))
OP_RD(madd_x, uint64_t, RA(uint64_t) + RN(uint64_t) * RM(uint64_t))
OP_RD(msub_w, uint32_t, RA(uint32_t) - RN(uint32_t) * RM(uint32_t))
OP_RD(msub_x, uint64_t, RA(uint64_t) - RN(uint64_t) * RM(uint64_t))

#define SMUL64 ((uint64_t)((int64_t)RN(int32_t) * RM(int32_t)))
#define UMUL64 ((uint64_t)RN(uint32_t) * RM(uint32_t))
OP_RD(smaddl, uint64_t, RA(uint64_t) + SMUL64)
OP_RD(smsubl, uint64_t, RA(uint64_t) - SMUL64)
OP_RD(umaddl, uint64_t, RA(uint64_t) + UMUL64)
OP_RD(umsubl, uint64_t, RA(uint64_t) - UMUL64)
OP_RD(smulh, uint64_t, ((__int128)RN(int64_t) * RM(int64_t)) >> 64)
OP_RD(umulh, uint64_t, ((unsigned __int128)RN(uint64_t) * RM(uint64_t)) >> 64)

/* Flag manipulation (FEAT_FlagM). a is the rotation, b the mask. */

OP(rmif)
{
	uint32_t flags = (uint32_t)ror64(RN(uint64_t), in->a) << 28;
	uint32_t mask = (uint32_t)in->b << 28;

	pe->nzcv = (pe->nzcv & ~mask) | (flags & mask);
	return (INSN_NEXT);
}

/* N and Z of the low byte or halfword, V when it does not fit, C stays. */
static int
setf(struct pe *pe, const struct insn *in, unsigned bits)
{
	uint32_t v = RN(uint32_t) << (32 - bits);
	uint32_t over = (RN(uint32_t) >> bits ^ RN(uint32_t) >> (bits - 1)) & 1;

	pe->nzcv = nzcv_pack(v >> 31, v == 0, carry(pe), over);
	return (INSN_NEXT);
}

OP(setf8)
{
	return (setf(pe, in, 8));
}

OP(setf16)
{
	return (setf(pe, in, 16));
}

OP(cfinv)
{
	(void)in;
	pe->nzcv ^= (uint32_t)PS_C;
	return (INSN_NEXT);
}

/* Arm's unordered encoding of FP comparisons to the alternative one, and back. */
OP(axflag)
{
	uint32_t z = pe->nzcv >> 30 & 1, c = carry(pe), v = pe->nzcv >> 28 & 1;

	(void)in;
	pe->nzcv = nzcv_pack(0, z | v, c & ~v, 0);
	return (INSN_NEXT);
}

OP(xaflag)
{
	uint32_t z = pe->nzcv >> 30 & 1, c = carry(pe);

	(void)in;
	pe->nzcv = nzcv_pack((c | z) ^ 1, z & c, c | z, (c ^ 1) & z);
	return (INSN_NEXT);
}
