/*
 * Which op is lowered how. An op without a row has its handler called, and
 * counts as one that can do anything.
 */
#include "pe/jit/lower.h"

#include <cpuid.h>

#define WX(op, f, a) \
	[A64_##op##_W] = { lower_##f, A_PURE | (a) }, [A64_##op##_X] = { lower_##f, A_PURE | (a) }
/* The plain, LSL and other shifts of a register form. */
#define SHIFTS(op, f, a)                                                \
	WX(op, f, a), [A64_##op##_LSL_W] = { lower_##f, A_PURE | (a) }, \
		      [A64_##op##_LSL_X] = { lower_##f, A_PURE | (a) }, \
		      [A64_##op##_SH_W] = { lower_##f, A_PURE | (a) },  \
		      [A64_##op##_SH_X] = { lower_##f, A_PURE | (a) }
#define ONE(op, f, a) [A64_##op] = { lower_##f, (a) }
#define SIZES(op, f) ONE(op##_B, f, 0), ONE(op##_H, f, 0), ONE(op##_W, f, 0), ONE(op##_X, f, 0)
/* Unsigned offset, unscaled, post, pre, register, register extended from W. */
#define MEM(op, ur, f)                                                           \
	ONE(op, f, 0), ONE(ur, f, 0), ONE(op##_POST, f, 0), ONE(op##_PRE, f, 0), \
	    ONE(op##_REG, f, 0), ONE(op##_REGW, f, 0)
#define VMEM(op, ur, f)                                                                \
	ONE(op##_IMM, f, 0), ONE(ur, f, 0), ONE(op##_POST, f, 0), ONE(op##_PRE, f, 0), \
	    ONE(op##_REG, f, 0)
#define PAIR(op, np, f) ONE(op, f, 0), ONE(np, f, 0), ONE(op##_POST, f, 0), ONE(op##_PRE, f, 0)
#define VPAIR(op, np, f) \
	ONE(op##_OFF, f, 0), ONE(np, f, 0), ONE(op##_POST, f, 0), ONE(op##_PRE, f, 0)

static const struct lowering rows[A64_OP_COUNT] = {
	/* immediates */
	ONE(ADR, adr, A_PURE),
	ONE(ADRP, adr, A_PURE),
	WX(ADD_IMM, add_imm, 0),
	WX(SUB_IMM, sub_imm, 0),
	WX(ADDS_IMM, adds_imm, A_SETF),
	WX(SUBS_IMM, subs_imm, A_SETF),
	WX(AND_IMM, logic_imm, 0),
	WX(ORR_IMM, logic_imm, 0),
	WX(EOR_IMM, logic_imm, 0),
	WX(ANDS_IMM, ands_imm, A_SETF),
	WX(MOVZ, movz, 0),
	WX(MOVN, movn, 0),
	WX(MOVK, movk, 0),
	WX(SBFX, sbfx, 0),
	WX(SBFIZ, sbfiz, 0),
	WX(BFXIL, bfi, 0),
	WX(BFI, bfi, 0),
	WX(UBFX, ubfx, 0),
	WX(UBFIZ, ubfiz, 0),
	WX(EXTR, extr, 0),
	/* registers */
	SHIFTS(AND, logic, 0),
	SHIFTS(BIC, logic, 0),
	SHIFTS(ORR, logic, 0),
	SHIFTS(ORN, logic, 0),
	SHIFTS(EOR, logic, 0),
	SHIFTS(EON, logic, 0),
	SHIFTS(ANDS, ands, A_SETF),
	SHIFTS(BICS, ands, A_SETF),
	SHIFTS(ADD, arith, 0),
	SHIFTS(SUB, arith, 0),
	SHIFTS(ADDS, arith_flags, A_SETF),
	SHIFTS(SUBS, arith_flags, A_SETF),
	WX(ADD_EXT, arith, 0),
	WX(SUB_EXT, arith, 0),
	WX(ADDS_EXT, arith_flags, A_SETF),
	WX(SUBS_EXT, arith_flags, A_SETF),
	WX(CCMN, ccmp, A_SETF | A_READF),
	WX(CCMN_IMM, ccmp, A_SETF | A_READF),
	WX(CCMP, ccmp, A_SETF | A_READF),
	WX(CCMP_IMM, ccmp, A_SETF | A_READF),
	WX(CSEL, csel, A_READF),
	WX(CSINC, csel, A_READF),
	WX(CSINV, csel, A_READF),
	WX(CSNEG, csel, A_READF),
	WX(LSLV, shiftv, 0),
	WX(LSRV, shiftv, 0),
	WX(ASRV, shiftv, 0),
	WX(RORV, shiftv, 0),
	WX(MADD, madd, 0),
	WX(MSUB, madd, 0),
	ONE(SMADDL, maddl, A_PURE),
	ONE(SMSUBL, maddl, A_PURE),
	ONE(UMADDL, maddl, A_PURE),
	ONE(UMSUBL, maddl, A_PURE),
	ONE(SMULH, mulh, A_PURE),
	ONE(UMULH, mulh, A_PURE),
	WX(UDIV, udiv, 0),
	WX(SDIV, udiv, 0),
	WX(CLZ, clz, 0),
	ONE(REV_W, rev, A_PURE),
	ONE(REV_X, rev, A_PURE),
	WX(ADC, adc, A_READF),
	WX(SBC, adc, A_READF),
	WX(ADCS, adc, A_READF | A_SETF),
	WX(SBCS, adc, A_READF | A_SETF),
	WX(REV16, rev16, 0),
	ONE(REV32_X, rev16, A_PURE),
	WX(RBIT, rbit, 0),
	/* atomics */
	SIZES(LDAR, ldar),
	SIZES(LDAPR, ldar),
	SIZES(STLR, stlr),
	SIZES(LDXR, ldxr),
	SIZES(STXR, stxr),
	SIZES(CAS, cas),
	ONE(CASP_X, casp, 0),
	SIZES(SWP, swp),
	SIZES(LDADD, ldadd),
	ONE(LDCLR_W, ldlogic, 0),
	ONE(LDCLR_X, ldlogic, 0),
	ONE(LDEOR_W, ldlogic, 0),
	ONE(LDEOR_X, ldlogic, 0),
	ONE(LDSET_W, ldlogic, 0),
	ONE(LDSET_X, ldlogic, 0),
	/* branches */
	ONE(B, b, 0),
	ONE(BL, bl, 0),
	ONE(B_COND, b_cond, A_READF),
	ONE(CBZ_W, cbz, 0),
	ONE(CBZ_X, cbz, 0),
	ONE(CBNZ_W, cbz, 0),
	ONE(CBNZ_X, cbz, 0),
	ONE(TBZ, tbz, 0),
	ONE(TBNZ, tbz, 0),
	ONE(BR, br, 0),
	ONE(RET, br, 0),
	ONE(BLR, blr, 0),
	ONE(SVC, svc, 0),
	ONE(ERET, eret, 0),
	[A64_BRK] = { NULL, A_LAST },
	[A64_HVC] = { NULL, A_LAST },
	[A64_UNDEFINED] = { NULL, A_LAST },
	ONE(ISB, isb, 0),
	/* loads and stores */
	MEM(LDR_X, LDUR_X, load),
	MEM(LDR_W, LDUR_W, load),
	ONE(LDR_LIT_W, load_lit, 0),
	ONE(LDR_LIT_X, load_lit, 0),
	ONE(LDRSW_LIT, load_lit, 0),
	ONE(LDTRB, load_unpriv, 0),
	ONE(LDTRH, load_unpriv, 0),
	ONE(LDTR_W, load_unpriv, 0),
	ONE(LDTR_X, load_unpriv, 0),
	ONE(LDTRSB_W, load_unpriv, 0),
	ONE(LDTRSB_X, load_unpriv, 0),
	ONE(LDTRSH_W, load_unpriv, 0),
	ONE(LDTRSH_X, load_unpriv, 0),
	ONE(LDTRSW, load_unpriv, 0),
	ONE(STTRB, store_unpriv, 0),
	ONE(STTRH, store_unpriv, 0),
	ONE(STTR_W, store_unpriv, 0),
	ONE(STTR_X, store_unpriv, 0),
	ONE(SYS, sys, 0),
	MEM(LDRH, LDURH, load),
	MEM(LDRB, LDURB, load),
	MEM(LDRSW, LDURSW, load),
	MEM(LDRSH_X, LDURSH_X, load),
	MEM(LDRSH_W, LDURSH_W, load),
	MEM(LDRSB_X, LDURSB_X, load),
	MEM(LDRSB_W, LDURSB_W, load),
	MEM(STR_X, STUR_X, store),
	MEM(STR_W, STUR_W, store),
	MEM(STRH, STURH, store),
	MEM(STRB, STURB, store),
	PAIR(LDP_X, LDNP_X, load_pair),
	PAIR(LDP_W, LDNP_W, load_pair),
	PAIR(STP_X, STNP_X, store_pair),
	PAIR(STP_W, STNP_W, store_pair),
	VMEM(LDR_S, LDUR_S, vload),
	VMEM(LDR_D, LDUR_D, vload),
	VMEM(LDR_Q, LDUR_Q, vload),
	VMEM(STR_S, STUR_S, vstore),
	VMEM(STR_D, STUR_D, vstore),
	VMEM(STR_Q, STUR_Q, vstore),
	VPAIR(LDP_S, LDNP_S, vload_pair),
	VPAIR(LDP_D, LDNP_D, vload_pair),
	VPAIR(LDP_Q, LDNP_Q, vload_pair),
	VPAIR(STP_S, STNP_S, vstore_pair),
	VPAIR(STP_D, STNP_D, vstore_pair),
	VPAIR(STP_Q, STNP_Q, vstore_pair),
	ONE(MRS, mrs, 0),
	ONE(MSR, msr, 0),
	ONE(MSR_IMM, msr_imm, 0),
	ONE(DSB, dsb, 0),
	/* nothing to do */
	ONE(HINT, nop, A_PURE),
	ONE(PRFM, nop, A_PURE),
	ONE(PRFUM, nop, A_PURE),
	ONE(PRFM_REG, nop, A_PURE),
	ONE(PRFM_LIT, nop, A_PURE),
	ONE(DMB, dmb, A_PURE),
};

/*
 * CPUID leaf 7, EBX bit 29: older compilers have no name for it. Leaf 7.1, EAX
 * bit 4, is AVX-VNNI, which Golden Cove has and those before it do not.
 */
static unsigned
host_leaf_7(void)
{
	unsigned a = 0, b, c, d, host = 0;

	if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) != 0)
		host |= HOST_SHA;
	if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1) != 0)
		host |= HOST_FOLDS;
	return (host);
}

/* Tests build the tables also as for a host with less. */
#ifndef JIT_HOST_MASK
#define JIT_HOST_MASK ~0u
#endif

struct lowering jit_lowering[A64_OP_COUNT];
unsigned jit_host;

static void
add(const struct lowering_row *row)
{
	for (; row->fn != NULL; row++)
		if ((row->needs & ~jit_host) == 0)
			jit_lowering[row->op] = (struct lowering){ row->fn, row->attr };
}

/* Before main(): what the host has does not change. */
static __attribute__((constructor)) void
build(void)
{
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		jit_host |= HOST_AVX2;
	if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512dq"))
		jit_host |= HOST_AVX512;
	if (__builtin_cpu_supports("aes"))
		jit_host |= HOST_AES;
	if (__builtin_cpu_supports("pclmul"))
		jit_host |= HOST_CLMUL;
	if (__builtin_cpu_supports("gfni"))
		jit_host |= HOST_GFNI;
	if (__builtin_cpu_supports("sse4.2"))
		jit_host |= HOST_CRC32;
	if (__builtin_cpu_supports("avx512vnni"))
		jit_host |= HOST_DOT;
	if (__builtin_cpu_supports("avx512cd"))
		jit_host |= HOST_CD;
	jit_host |= host_leaf_7();
	jit_host &= JIT_HOST_MASK;
	memcpy(jit_lowering, rows, sizeof(rows));
	add(jit_rows_fp);
	add(jit_rows_simd);
}
