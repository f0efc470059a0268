/*
 * Floating-point arithmetic of the A64 instruction set: the functions of the
 * Arm ARM pseudocode (DDI 0487, shared/functions/float) for 16, 32 and 64 bit
 * numbers, with FPCR (AHP, DN, FZ, FZ16, RMode) and the cumulative flags of
 * FPSR.
 *
 * Numbers are bit patterns in the low end of a uint64_t. Every function takes
 * the size first; results are zero-extended. The soft functions here are exact
 * by construction; fp_host.h puts the host's SSE unit in front of them where
 * the flags can be known.
 *
 * Not here: instructions (exec_fp.c, exec_simd_fp*.c), trapped exceptions (the
 * enable bits of FPCR are RAZ/WI), FEAT_AFP.
 */
#ifndef PE_FP_H
#define PE_FP_H

#include "pe/pe_internal.h"

/* FPCR (DDI 0487, C5.2.8) */
#define FPCR_AHP (1u << 26)
#define FPCR_DN (1u << 25)
#define FPCR_FZ (1u << 24)
#define FPCR_RMODE_SHIFT 22
#define FPCR_RMODE (3u << FPCR_RMODE_SHIFT)
#define FPCR_FZ16 (1u << 19)

/* FPSR (DDI 0487, C5.2.9) */
#define FPSR_IOC (1u << 0)
#define FPSR_DZC (1u << 1)
#define FPSR_OFC (1u << 2)
#define FPSR_UFC (1u << 3)
#define FPSR_IXC (1u << 4)
#define FPSR_IDC (1u << 7)
#define FPSR_QC (1u << 27)

/* Size of an operand: log2 of its bytes, except for bfloat16. */
#define FP_B 0u /* bfloat16; only converted to */
#define FP_H 1u
#define FP_S 2u
#define FP_D 3u

/* Rounding; the first four are FPCR.RMode. */
enum fp_rounding {
	FP_TIEEVEN = 0,
	FP_POSINF = 1,
	FP_NEGINF = 2,
	FP_ZERO = 3,
	FP_TIEAWAY = 4,
	FP_ODD = 5,
};

static inline enum fp_rounding
fp_rmode(const struct pe_fp *fp)
{
	return ((enum fp_rounding)((fp->fpcr & FPCR_RMODE) >> FPCR_RMODE_SHIFT));
}

/* Layout of a size: width, fraction bits, patterns. */
static inline unsigned
fp_bits(unsigned sz)
{
	return (sz == FP_B ? 16 : 8u << sz);
}

static inline unsigned
fp_frac_bits(unsigned sz)
{
	return (sz == FP_D ? 52 : sz == FP_S ? 23 : sz == FP_H ? 10 : 7);
}

static inline unsigned
fp_exp_bits(unsigned sz)
{
	return (sz == FP_D ? 11 : sz == FP_H ? 5 : 8);
}

static inline uint64_t
fp_sign_bit(unsigned sz)
{
	return (UINT64_C(1) << (fp_bits(sz) - 1));
}

static inline uint64_t
fp_neg(unsigned sz, uint64_t a)
{
	return (a ^ fp_sign_bit(sz));
}

static inline uint64_t
fp_abs(unsigned sz, uint64_t a)
{
	return (a & ~fp_sign_bit(sz));
}

static inline uint64_t
fp_infinity(unsigned sz, bool sign)
{
	uint64_t e = (UINT64_C(1) << fp_exp_bits(sz)) - 1;

	return ((e << fp_frac_bits(sz)) | (sign ? fp_sign_bit(sz) : 0));
}

static inline uint64_t
fp_zero(unsigned sz, bool sign)
{
	return (sign ? fp_sign_bit(sz) : 0);
}

static inline uint64_t
fp_max_normal(unsigned sz, bool sign)
{
	return ((fp_infinity(sz, false) - 1) | (sign ? fp_sign_bit(sz) : 0));
}

static inline uint64_t
fp_default_nan(unsigned sz)
{
	return (fp_infinity(sz, false) | (UINT64_C(1) << (fp_frac_bits(sz) - 1)));
}

/* VFPExpandImm() */
uint64_t fp_expand_imm(unsigned sz, unsigned imm8);

/* fp_arith.c -------------------------------------------------------------- */

uint64_t fp_soft_add(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
uint64_t fp_soft_sub(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
uint64_t fp_soft_mul(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
uint64_t fp_soft_div(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
uint64_t fp_soft_sqrt(struct pe_fp *, unsigned sz, uint64_t a);
/* acc + a * b, rounded once */
uint64_t fp_soft_muladd(struct pe_fp *, unsigned sz, uint64_t acc, uint64_t a, uint64_t b);
/* FPMulAddH(): single acc + half a * half b */
uint64_t fp_muladd_h(struct pe_fp *, uint64_t acc, uint64_t a, uint64_t b);
/* BFDotAdd(): single acc + a0 * b0 + a1 * b1 of bfloat16 in 15:0 and 31:16; no flags */
uint32_t fp_bf_dot_add(uint32_t acc, uint32_t a, uint32_t b);
uint64_t fp_mulx(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
/* FPRecipStepFused(): 2 - a * b; FPRSqrtStepFused(): (3 - a * b) / 2 */
uint64_t fp_recps(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
uint64_t fp_rsqrts(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);

/* fp_cmp.c ---------------------------------------------------------------- */

/* FPCompare(): NZCV in bits 31:28 */
uint32_t fp_soft_compare(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b, bool signal_nans);
bool fp_soft_eq(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
bool fp_soft_ge(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
bool fp_soft_gt(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
uint64_t fp_soft_max(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
uint64_t fp_soft_min(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
uint64_t fp_soft_maxnm(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);
uint64_t fp_soft_minnm(struct pe_fp *, unsigned sz, uint64_t a, uint64_t b);

/* fp_conv.c --------------------------------------------------------------- */

/* FPConvert() from size `from` to size `to` */
uint64_t fp_soft_convert(struct pe_fp *, unsigned to, unsigned from, uint64_t a, enum fp_rounding);
/* FPToFixed(): `bits` is 16, 32 or 64; zero-extended */
uint64_t fp_soft_to_fixed(struct pe_fp *, unsigned sz, uint64_t a, unsigned fbits, unsigned bits,
    bool is_unsigned, enum fp_rounding);
/* FixedToFP(): `v` already extended to 64 bits */
uint64_t fp_soft_from_fixed(
    struct pe_fp *, unsigned sz, uint64_t v, unsigned fbits, bool is_unsigned);
/* FPToFixedJS(); *z is PSTATE.Z */
uint32_t fp_to_js(struct pe_fp *, uint64_t a, bool *z);
/* FPRoundInt() and FPRoundIntN() */
uint64_t fp_round_int(struct pe_fp *, unsigned sz, uint64_t a, enum fp_rounding, bool exact);
uint64_t fp_round_int_n(
    struct pe_fp *, unsigned sz, uint64_t a, enum fp_rounding, unsigned intsize);

/* fp_est.c ---------------------------------------------------------------- */

uint64_t fp_recpe(struct pe_fp *, unsigned sz, uint64_t a);
uint64_t fp_rsqrte(struct pe_fp *, unsigned sz, uint64_t a);
uint64_t fp_recpx(struct pe_fp *, unsigned sz, uint64_t a);
uint32_t fp_urecpe(uint32_t a);
uint32_t fp_ursqrte(uint32_t a);

#endif /* PE_FP_H */
