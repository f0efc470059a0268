/*
 * Operands and results of the floating point lowerings (lower_fp.h).
 */
#include "pe/jit/lower_fp.h"

struct fp_form
fp_form(const struct insn *in)
{
	struct fp_form f;

	/* Scalar FP and scalar Advanced SIMD have bit 28; all have the size in bit 22. */
	f.dbl = (in->word & (1u << 22)) != 0;
	f.scalar = (in->word & (1u << 28)) != 0;
	f.half = !f.scalar && (in->word & (1u << 30)) == 0;
	f.i = (uint8_t)((f.scalar ? 0 : 2) + f.dbl);
	return (f);
}

bool
fp_clean(const struct tr *t, struct fp_form f, int x)
{
	if (f.scalar)
		return (v_zero_above(t, x, f.dbl ? 3 : 2));
	return (!f.half || v_zero_above(t, x, 3));
}

int
fp_read(struct tr *t, struct fp_form f, unsigned r, int scratch)
{
	int x = v_read(t, r);

	if (f.scalar || fp_clean(t, f, x))
		return (x);
	x_v2(&t->x, V_MOVQ, scratch, x);
	return (scratch);
}

int
fp_dest(struct tr *t, unsigned rd, unsigned n, unsigned m, unsigned a)
{
	return (rd == n || rd == m || rd == a ? FP_R : v_write(t, rd));
}

/*
 * Out of line: the exponent of scalar c->arg said that it may be 2^emin or a
 * NaN. Back behind the jump when it is a zero, an infinity or some other.
 */
static void
look_again(struct tr *t, const struct cold *c)
{
	struct x86 *x = &t->x;
	bool dbl = (c->arg & 0x100) != 0;
	int r = (int)(c->arg & 15);
	uint8_t *nan = NULL;

	if ((c->arg & FP_NAN << 12) != 0) {
		x_v2(x, dbl ? V_UCOMISD : V_UCOMISS, r, r);
		nan = x_jcc(x, CC_P);
	}
	/* Without the sign and rotated, 2^emin is 1. */
	x_g_from_v(x, dbl, RAX, r);
	x_alu(x, dbl, X_ADD, RAX, RAX);
	x_rorx(x, dbl, RCX, RAX, dbl ? 53 : 24);
	x_alu_imm(x, dbl, X_CMP, RCX, 1);
	x_patch(x, x_jcc(x, CC_NE), c->from + 4);
	if (nan != NULL)
		x_here(x, nan);
}

/*
 * With AVX-512: the exponent as a number, which is a NaN for a NaN and less
 * than emin for zeros and denormal numbers.
 */
static void
check_exponent(struct tr *t, struct fp_form f, int r, unsigned what)
{
	static const unsigned op[4] = { V_GETEXPSS, V_GETEXPSD, V_GETEXPPS, V_GETEXPPD };
	const uint8_t *emin =
	    fp_const_all(t, f, UINT64_C(0xc2fc0000), UINT64_C(0xc08ff00000000000));
	struct x86 *x = &t->x;

	if (f.scalar) {
		x_v3(x, op[f.i], FP_T, r, r);
		x_v2c(x, f.dbl ? V_UCOMISD : V_UCOMISS, FP_T, emin);
		t_slow_code(t, CC_E, look_again,
		    (uint32_t)r | (f.dbl ? 0x100u : 0) | (what & FP_NAN) << 12);
		return;
	}
	x_v2(x, op[f.i], FP_T, r);
	x_v3c(x, f.dbl ? V_CMPPD : V_CMPPS, FP_T, FP_T, emin, 1);
	x_byte(x, 8); /* equal or unordered, no flags */
	if (f.dbl)
		x_movmskpd(x, RAX, FP_T);
	else
		x_movmskps(x, RAX, FP_T);
	x_test(x, false, RAX, RAX);
	t_slow(t, CC_NE);
}

void
fp_check(struct tr *t, struct fp_form f, int r, unsigned what)
{
	struct x86 *x = &t->x;
	const uint8_t *tiny;

	if ((what & (FP_TINY | FP_NAN)) == (FP_TINY | FP_NAN) && (jit_host & HOST_AVX512) != 0) {
		check_exponent(t, f, r, what);
		return;
	}
	if (f.scalar) {
		if ((what & FP_TINY) != 0) {
			/* Exponents 0, 1, 2 and all ones. */
			x_g_from_v(x, f.dbl, RAX, r);
			x_shift(x, f.dbl, X_SHR, RAX, f.dbl ? 52 : 23);
			x_alu_imm(x, false, X_ADD, RAX, 1);
			if (f.dbl)
				x_test_imm(x, RAX, 0x7fc);
			else
				x_test_imm8(x, RAX, 0xfc);
			t_slow_code(t, CC_E, look_again,
			    (uint32_t)r | (f.dbl ? 0x100u : 0) | (what & FP_NAN) << 12);
		} else if ((what & FP_NAN) != 0) {
			x_v2(x, f.dbl ? V_UCOMISD : V_UCOMISS, r, r);
			t_slow(t, CC_P);
		}
		return;
	}
	if ((what & FP_TINY) != 0) {
		tiny = fp_const_all(t, f, UINT64_C(1) << 24, UINT64_C(1) << 53);
		x_v3(x, f.dbl ? V_PADDQ : V_PADDD, FP_T, r, r);
		x_v3c(x, f.dbl ? V_PCMPEQQ : V_PCMPEQD, FP_T, FP_T, tiny, 0);
	}
	if ((what & FP_NAN) != 0) {
		int u = (what & FP_TINY) != 0 ? FP_M : FP_T;

		x_v3i(x, f.dbl ? V_CMPPD : V_CMPPS, u, r, r, 3);
		if (u != FP_T)
			x_v3(x, V_POR, FP_T, FP_T, u);
	}
	if ((what & (FP_NAN | FP_TINY)) != 0) {
		if (f.dbl)
			x_movmskpd(x, RAX, FP_T);
		else
			x_movmskps(x, RAX, FP_T);
		x_test(x, false, RAX, RAX);
		t_slow(t, CC_NE);
	}
}

void
fp_check_operands(struct tr *t, struct fp_form f, int n, int m)
{
	struct x86 *x = &t->x;

	if (f.scalar) {
		x_v2(x, f.dbl ? V_UCOMISD : V_UCOMISS, n, m);
		t_slow(t, CC_P);
		return;
	}
	x_v3i(x, f.dbl ? V_CMPPD : V_CMPPS, FP_T, n, m, 3);
	if (f.dbl)
		x_movmskpd(x, RAX, FP_T);
	else
		x_movmskps(x, RAX, FP_T);
	x_test(x, false, RAX, RAX);
	t_slow(t, CC_NE);
}

void
fp_write(struct tr *t, struct fp_form f, unsigned rd, int s, bool clean)
{
	struct x86 *x = &t->x;
	int d = v_write(t, rd);

	if (clean || !(f.scalar || f.half))
		x_vmov(x, d, s);
	else if (f.scalar && !f.dbl)
		x_v3i(x, V_INSERTPS, d, s, s, 0x0e);
	else
		x_v2(x, V_MOVQ, d, s);
	if (f.scalar || f.half)
		v_set_zero_above(t, d, f.scalar && !f.dbl ? 2 : 3);
}

static const uint8_t *
lanes(struct tr *t, uint64_t s, uint64_t d, bool dbl, unsigned n)
{
	uint64_t lo = dbl ? d : n == 1 ? s : s | s << 32;

	return (v_const(t, lo, (n << (dbl ? 3 : 2)) == 16 ? lo : 0));
}

const uint8_t *
fp_const(struct tr *t, struct fp_form f, uint64_t s, uint64_t d)
{
	return (lanes(t, s, d, f.dbl, f.scalar ? 1 : f.dbl || f.half ? 2 : 4));
}

const uint8_t *
fp_const_all(struct tr *t, struct fp_form f, uint64_t s, uint64_t d)
{
	return (lanes(t, s, d, f.dbl, f.dbl ? 2 : 4));
}

void
fp_from_g(struct tr *t, bool w, bool dbl, int d, int r)
{
	x_vzero(&t->x, d);
	x_cvt_from_g(&t->x, w, dbl, d, d, r);
}
