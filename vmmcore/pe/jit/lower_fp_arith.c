/*
 * Lowering of floating point arithmetic, scalar and vector: add, subtract,
 * multiply, divide, square root, the fused forms, and moves.
 */
#include "pe/jit/lower_fp.h"

static void
binary(struct tr *t, const struct insn *in, const unsigned ops[4], unsigned what)
{
	struct fp_form f = fp_form(in);
	int n, m, d;
	bool clean;

	v_check_fp(t);
	n = fp_read(t, f, in->rn, FP_N);
	m = fp_read(t, f, in->rm, FP_M);
	/* The host takes the bits above a scalar from the first operand. */
	clean = (!f.scalar || fp_clean(t, f, n)) && (what & FP_DIRTY) == 0;
	d = fp_dest(t, in->rd, in->rn, in->rm, in->rn);
	x_v3(&t->x, ops[f.i], d, n, m);
	fp_check(t, f, d, what);
	fp_write(t, f, in->rd, d, clean);
}

LOWER(fadd)
{
	binary(t, in, FP_OPS(ADD), FP_NAN);
}

LOWER(fsub)
{
	binary(t, in, FP_OPS(SUB), FP_NAN);
}

LOWER(fmul)
{
	binary(t, in, FP_OPS(MUL), FP_NAN | FP_TINY);
}

LOWER(fdiv)
{
	struct fp_form f = fp_form(in);
	int n, m, d;

	if (!f.half) {
		binary(t, in, FP_OPS(DIV), FP_NAN | FP_TINY);
		return;
	}
	/* Not zero by zero: the upper lanes do the same again. */
	v_check_fp(t);
	n = v_read(t, in->rn);
	m = v_read(t, in->rm);
	d = fp_dest(t, in->rd, in->rn, in->rm, in->rn);
	x_v2(&t->x, V_MOVDDUP, FP_N, n);
	x_v2(&t->x, V_MOVDDUP, FP_M, m);
	x_v3(&t->x, V_DIVPS, d, FP_N, FP_M);
	fp_check(t, f, d, FP_NAN | FP_TINY);
	fp_write(t, f, in->rd, d, false);
}

LOWER(fnmul)
{
	struct fp_form f = fp_form(in);
	int n, m, d;
	bool clean;

	v_check_fp(t);
	n = v_read(t, in->rn);
	m = v_read(t, in->rm);
	clean = fp_clean(t, f, n);
	d = fp_dest(t, in->rd, in->rn, in->rm, in->rn);
	x_v3(&t->x, FP_OPS(MUL)[f.i], d, n, m);
	fp_check(t, f, d, FP_NAN | FP_TINY);
	x_v3c(&t->x, V_PXOR, d, d, fp_const(t, f, UINT64_C(1) << 31, UINT64_C(1) << 63), 0);
	fp_write(t, f, in->rd, d, clean);
}

#define ABS_S UINT64_C(0x7fffffff)
#define ABS_D UINT64_C(0x7fffffffffffffff)

LOWER(fabd)
{
	struct fp_form f = fp_form(in);
	int n, m, d;

	v_check_fp(t);
	n = fp_read(t, f, in->rn, FP_N);
	m = fp_read(t, f, in->rm, FP_M);
	d = fp_dest(t, in->rd, in->rn, in->rm, in->rn);
	x_v3(&t->x, FP_OPS(SUB)[f.i], d, n, m);
	fp_check(t, f, d, FP_NAN);
	x_v3c(&t->x, V_PAND, d, d, fp_const(t, f, ABS_S, ABS_D), 0);
	fp_write(t, f, in->rd, d, true);
}

LOWER(fsqrt)
{
	struct fp_form f = fp_form(in);
	int n, d;
	bool clean;

	v_check_fp(t);
	n = fp_read(t, f, in->rn, FP_N);
	clean = !f.scalar || fp_clean(t, f, n);
	d = fp_dest(t, in->rd, in->rn, in->rn, in->rn);
	if (f.scalar)
		x_v3(&t->x, f.dbl ? V_SQRTSD : V_SQRTSS, d, n, n);
	else
		x_v2(&t->x, f.dbl ? V_SQRTPD : V_SQRTPS, d, n);
	fp_check(t, f, d, FP_NAN);
	fp_write(t, f, in->rd, d, clean);
}

/* rd = +-ra +-n * m, where m is in a host register; `sign`: 1 -n, 2 -ra. */
static void
fused(struct tr *t, const struct insn *in, struct fp_form f, unsigned ra, int m, unsigned sign)
{
	static const unsigned ops[4][4] = {
		{ V_FMADD231SS, V_FMADD231SD, V_FMADD231PS, V_FMADD231PD },
		{ V_FNMADD231SS, V_FNMADD231SD, V_FNMADD231PS, V_FNMADD231PD },
		{ V_FMSUB231SS, V_FMSUB231SD, V_FMSUB231PS, V_FMSUB231PD },
		{ V_FNMSUB231SS, V_FNMSUB231SD, V_FNMSUB231PS, V_FNMSUB231PD },
	};
	int n = fp_read(t, f, in->rn, FP_N), a = fp_read(t, f, ra, FP_R), d;
	bool clean = fp_clean(t, f, a) || (f.half && a == FP_R);

	d = fp_dest(t, in->rd, in->rn, in->rm, ra);
	x_vmov(&t->x, d, a);
	x_v3(&t->x, ops[sign][f.i], d, n, m);
	fp_check(t, f, d, FP_NAN | FP_TINY);
	fp_write(t, f, in->rd, d, clean);
}

/* FMADD, FMSUB, FNMADD, FNMSUB by o1 and o0. */
LOWER(fmadd)
{
	bool o1 = (in->word & (1u << 21)) != 0, o0 = (in->word & (1u << 15)) != 0;

	v_check_fp(t);
	fused(t, in, fp_form(in), in->ra, v_read(t, in->rm), (o1 != o0 ? 1u : 0) | (o1 ? 2u : 0));
}

/* FMLA and FMLS of three vectors. */
LOWER(fmla)
{
	struct fp_form f = fp_form(in);

	v_check_fp(t);
	fused(t, in, f, in->rd, fp_read(t, f, in->rm, FP_M), (in->word & (1u << 23)) != 0);
}

/* FP_M = the element of Rm that H and L select, in every lane of the form. */
static int
element(struct tr *t, const struct insn *in, struct fp_form f)
{
	unsigned h = (unsigned)FIELD(in->word, 11, 1), l = (unsigned)FIELD(in->word, 21, 1);
	unsigned i = f.dbl ? h : h << 1 | l;
	int m = v_read(t, in->rm);

	if (f.scalar && i == 0)
		return (m);
	x_v2i(&t->x, V_PSHUFD, FP_M, m, f.dbl ? (i != 0 ? 0xee : 0x44) : i * 0x55);
	if (f.half)
		x_v2(&t->x, V_MOVQ, FP_M, FP_M);
	return (FP_M);
}

LOWER(fmla_elem)
{
	struct fp_form f = fp_form(in);

	v_check_fp(t);
	fused(t, in, f, in->rd, element(t, in, f), (in->word & (1u << 14)) != 0);
}

LOWER(fmul_elem)
{
	struct fp_form f = fp_form(in);
	int n, m, d;
	bool clean;

	v_check_fp(t);
	n = fp_read(t, f, in->rn, FP_N);
	m = element(t, in, f);
	clean = !f.scalar || fp_clean(t, f, n);
	d = fp_dest(t, in->rd, in->rn, in->rm, in->rn);
	x_v3(&t->x, FP_OPS(MUL)[f.i], d, n, m);
	fp_check(t, f, d, FP_NAN | FP_TINY);
	fp_write(t, f, in->rd, d, clean);
}

LOWER(faddp)
{
	struct fp_form f = fp_form(in);
	struct x86 *x = &t->x;
	int n, m, d;

	v_check_fp(t);
	n = v_read(t, in->rn);
	m = v_read(t, in->rm);
	d = fp_dest(t, in->rd, in->rn, in->rm, in->rn);
	if (f.half) {
		/* n0 n1 m0 m1, twice the sums */
		x_v3(x, V_PUNPCKLQDQ, FP_N, n, m);
		x_v3(x, V_HADDPS, d, FP_N, FP_N);
	} else
		x_v3(x, f.dbl ? V_HADDPD : V_HADDPS, d, n, m);
	fp_check(t, f, d, FP_NAN);
	fp_write(t, f, in->rd, d, false);
}

LOWER(faddp_scalar)
{
	struct fp_form f = fp_form(in);
	int n, d;

	v_check_fp(t);
	n = v_read(t, in->rn);
	d = fp_dest(t, in->rd, in->rn, in->rn, in->rn);
	x_v2i(&t->x, V_PSHUFD, FP_N, n, f.dbl ? 0xee : 0x55);
	x_v3(&t->x, FP_OPS(ADD)[f.i], d, n, FP_N);
	fp_check(t, f, d, FP_NAN);
	fp_write(t, f, in->rd, d, false);
}

/* -- signs and moves: nothing is raised, FPCR does not matter ------------------------ */

LOWER(fabs)
{
	struct fp_form f = fp_form(in);
	int n, d;

	v_check(t);
	n = v_read(t, in->rn);
	d = v_write(t, in->rd);
	x_v3c(&t->x, V_PAND, d, n, fp_const(t, f, ABS_S, ABS_D), 0);
	fp_write(t, f, in->rd, d, true);
}

LOWER(fneg)
{
	struct fp_form f = fp_form(in);
	bool clean;
	int n, d;

	v_check(t);
	n = v_read(t, in->rn);
	clean = fp_clean(t, f, n);
	d = v_write(t, in->rd);
	x_v3c(&t->x, V_PXOR, d, n, fp_const(t, f, UINT64_C(1) << 31, UINT64_C(1) << 63), 0);
	fp_write(t, f, in->rd, d, clean);
}

LOWER(fmov)
{
	struct fp_form f = fp_form(in);
	int n;

	v_check(t);
	n = v_read(t, in->rn);
	fp_write(t, f, in->rd, n, fp_clean(t, f, n));
}

LOWER(fmov_imm)
{
	struct fp_form f = fp_form(in);
	uint64_t v = fp_expand_imm(f.dbl ? FP_D : FP_S, in->a);
	int d;

	v_check(t);
	d = v_write(t, in->rd);
	x_v2c(&t->x, V_MOVDQU, d, v_const(t, v, 0));
	fp_write(t, f, in->rd, d, true);
}
