/*
 * Square root and fused multiply-add on the host: the two that want an
 * instruction the compiler does not emit by itself (see fp_host.h for when the
 * host may answer).
 */
#include "pe/fp_host.h"

#include <immintrin.h>

uint64_t
fp_host_sqrt64(struct pe_fp *fp, uint64_t a)
{
	if (fp_host_ok(fp) && (a >> 63) == 0 && fp_safe64(a)) {
		__m128d x = _mm_set_sd(fp_f64(a));
		double q = _mm_cvtsd_f64(_mm_sqrt_sd(x, x));
		uint64_t r = fp_b64(q);

		if (likely(fp->fpsr & FPSR_IXC) || (2 * fp_sig64(r) <= 53 && q * q == fp_f64(a)))
			return (r);
	}
	return (fp_soft_sqrt(fp, FP_D, a));
}

uint64_t
fp_host_sqrt32(struct pe_fp *fp, uint64_t a)
{
	if (fp_host_ok(fp) && ((a >> 31) & 1) == 0 && fp_safe32(a)) {
		__m128 x = _mm_set_ss(fp_f32(a));
		float q = _mm_cvtss_f32(_mm_sqrt_ss(x));

		if (likely(fp->fpsr & FPSR_IXC) || (double)q * (double)q == (double)fp_f32(a))
			return (fp_b32(q));
	}
	return (fp_soft_sqrt(fp, FP_S, a));
}

__attribute__((target("fma"))) static uint64_t
muladd64(struct pe_fp *fp, uint64_t acc, uint64_t a, uint64_t b)
{
	uint64_t r = fp_b64(_mm_cvtsd_f64(
	    _mm_fmadd_sd(_mm_set_sd(fp_f64(a)), _mm_set_sd(fp_f64(b)), _mm_set_sd(fp_f64(acc)))));

	if (likely(fp_safe64(r)))
		return (r);
	return (fp_soft_muladd(fp, FP_D, acc, a, b));
}

__attribute__((target("fma"))) static uint64_t
muladd32(struct pe_fp *fp, uint64_t acc, uint64_t a, uint64_t b)
{
	uint64_t r = fp_b32(_mm_cvtss_f32(
	    _mm_fmadd_ss(_mm_set_ss(fp_f32(a)), _mm_set_ss(fp_f32(b)), _mm_set_ss(fp_f32(acc)))));

	if (likely(fp_safe32(r)))
		return (r);
	return (fp_soft_muladd(fp, FP_S, acc, a, b));
}

uint64_t
fp_host_muladd64(struct pe_fp *fp, uint64_t acc, uint64_t a, uint64_t b)
{
	if (fp_host_ok(fp) && likely(fp->fpsr & FPSR_IXC) && __builtin_cpu_supports("fma"))
		return (muladd64(fp, acc, a, b));
	return (fp_soft_muladd(fp, FP_D, acc, a, b));
}

uint64_t
fp_host_muladd32(struct pe_fp *fp, uint64_t acc, uint64_t a, uint64_t b)
{
	if (fp_host_ok(fp) && likely(fp->fpsr & FPSR_IXC) && __builtin_cpu_supports("fma"))
		return (muladd32(fp, acc, a, b));
	return (fp_soft_muladd(fp, FP_S, acc, a, b));
}
