/*
 * Lowering of floating point comparisons: to NZCV, to masks, conditional
 * compare and select, maximum and minimum.
 */
#include "pe/jit/lower_fp.h"

/*
 * Which order of operands suits the next user of the flags? After UCOMIS the
 * conditions GE LT GT LE are one test of the host's, CS CC MI PL HI LS are one
 * with the operands swapped.
 */
static bool
swapped(const struct tr *t)
{
	const struct insn *next;
	unsigned i = t->i + 1;

	if (i >= CODEPAGE_INSNS)
		return (false);
	next = &t->page->insn[i];
	if ((jit_lowering[next->op].attr & A_READF) == 0 || next->a >= 14)
		return (false);
	return ((0x033cu >> next->a & 1) != 0);
}

/* Compare rn with rm or (zero) with 0, as FCMP or FCMPE: NZCV. */
static void
compare(struct tr *t, const struct insn *in, bool zero, bool signals)
{
	struct fp_form f = fp_form(in);
	struct x86 *x = &t->x;
	bool swap = swapped(t);
	unsigned op;
	int n, m;

	n = v_read(t, in->rn);
	if (zero) {
		x_vzero(x, FP_M);
		m = FP_M;
	} else
		m = v_read(t, in->rm);
	op = signals ? (f.dbl ? V_COMISD : V_COMISS) : (f.dbl ? V_UCOMISD : V_UCOMISS);
	x_v2(x, op, swap ? m : n, swap ? n : m);
	t_flags(t, swap ? HF_FP_SWAPPED : HF_FP);
}

/* opcode2: bit 3 compares with zero, bit 4 is FCMPE. */
LOWER(fcmp)
{
	v_check_fp(t);
	compare(t, in, (in->word & 8) != 0, (in->word & 16) != 0);
}

LOWER(fccmp)
{
	struct x86 *x = &t->x;
	uint8_t *no = NULL, *done;

	v_check_fp(t);
	/* What is loaded must be so on both ways. */
	(void)v_read(t, in->rn);
	(void)v_read(t, in->rm);
	if (in->a < 14)
		no = x_jcc(x, t_cond(t, in->a) ^ 1);
	compare(t, in, false, (in->word & 16) != 0);
	if (no != NULL) {
		done = x_jmp(x);
		x_here(x, no);
		x_store_imm(x, false, PE_MEM(nzcv), (int32_t)jit_raw_nzcv(in->b));
		x_here(x, done);
		t->hf = HF_NONE;
	}
}

LOWER(fcsel)
{
	struct fp_form f = fp_form(in);
	struct x86 *x = &t->x;
	unsigned cc;
	int n, m;

	v_check(t);
	n = v_read(t, in->rn);
	if (in->a >= 14) {
		fp_write(t, f, in->rd, n, fp_clean(t, f, n));
		t->hf = t->hf_before;
		return;
	}
	m = v_read(t, in->rm);
	cc = t_cond(t, in->a);
	/* Moves leave the host's flags alone. */
	x_g_from_v(x, f.dbl, RAX, n);
	x_g_from_v(x, f.dbl, RCX, m);
	x_cmov(x, f.dbl, cc, RCX, RAX);
	x_v_from_g(x, f.dbl, v_write(t, in->rd), RCX);
	v_set_zero_above(t, v_write(t, in->rd), f.dbl ? 3 : 2);
	t->hf = t_cond_hf(t, in->a);
}

/* -- maximum and minimum -------------------------------------------------------------- */

/*
 * The host gives the second operand when both are zeros, so that both orders
 * together have both signs: their AND is the maximum, their OR the minimum.
 * Without NaNs the NM forms are the same.
 */
static void
max_min(struct x86 *x, struct fp_form f, bool max, int d, int n, int m)
{
	const unsigned *op = max ? FP_OPS(MAX) : FP_OPS(MIN);

	x_v3(x, op[f.i], FP_T, m, n);
	x_v3(x, op[f.i], d, n, m);
	x_v3(x, max ? V_PAND : V_POR, d, d, FP_T);
}

static void
lower_max_min(struct tr *t, const struct insn *in, bool max)
{
	struct fp_form f = fp_form(in);
	int n, m, d;
	bool clean;

	v_check_fp(t);
	n = fp_read(t, f, in->rn, FP_N);
	m = fp_read(t, f, in->rm, FP_M);
	clean = !f.scalar || (fp_clean(t, f, n) && fp_clean(t, f, m));
	fp_check_operands(t, f, n, m);
	d = fp_dest(t, in->rd, in->rn, in->rm, in->rn);
	max_min(&t->x, f, max, d, n, m);
	fp_write(t, f, in->rd, d, clean);
}

LOWER(fmax)
{
	lower_max_min(t, in, true);
}

LOWER(fmin)
{
	lower_max_min(t, in, false);
}

/* FMAXV and its like of four floats; bit 23: minimum. */
LOWER(fmaxv)
{
	const struct fp_form four = { .i = 2 }, one = { .scalar = true };
	bool max = (in->word & (1u << 23)) == 0;
	struct x86 *x = &t->x;
	int n;

	v_check_fp(t);
	n = v_read(t, in->rn);
	fp_check_operands(t, four, n, n);
	x_v2i(x, V_PSHUFD, FP_N, n, 0xb1); /* 1 0 3 2 */
	max_min(x, four, max, FP_R, n, FP_N);
	x_v2i(x, V_PSHUFD, FP_N, FP_R, 0x4e); /* 2 3 0 1 */
	max_min(x, four, max, FP_R, FP_R, FP_N);
	fp_write(t, one, in->rd, FP_R, false);
}

/* -- masks ------------------------------------------------------------------------------ */

/* Predicates of CMPPS: EQ is quiet, the others signal for every NaN, as on Arm. */
enum { P_EQ = 0, P_LT = 1, P_LE = 2, P_GE = 13, P_GT = 14 };

static void
mask(struct tr *t, const struct insn *in, unsigned predicate, bool zero, bool absolute)
{
	struct fp_form f = fp_form(in);
	struct x86 *x = &t->x;
	int n, m = FP_M, d;
	bool clean;

	v_check_fp(t);
	n = fp_read(t, f, in->rn, FP_N);
	if (zero)
		x_vzero(x, FP_M);
	else
		m = fp_read(t, f, in->rm, FP_M);
	if (absolute) {
		const uint8_t *abs =
		    fp_const(t, f, UINT64_C(0x7fffffff), UINT64_C(0x7fffffffffffffff));

		x_v3c(x, V_PAND, FP_N, n, abs, 0);
		x_v3c(x, V_PAND, FP_M, m, abs, 0);
		n = FP_N;
		m = FP_M;
	}
	clean = f.scalar && fp_clean(t, f, n);
	d = v_write(t, in->rd);
	x_v3i(x, FP_OPS(CMP)[f.i], d, n, m, predicate);
	fp_write(t, f, in->rd, d, clean);
}

#define MASK(name, predicate, zero, absolute)           \
	LOWER(name)                                     \
	{                                               \
		mask(t, in, predicate, zero, absolute); \
	}

MASK(fcmeq, P_EQ, false, false)
MASK(fcmge, P_GE, false, false)
MASK(fcmgt, P_GT, false, false)
MASK(facge, P_GE, false, true)
MASK(facgt, P_GT, false, true)
MASK(fcmeq0, P_EQ, true, false)
MASK(fcmge0, P_GE, true, false)
MASK(fcmgt0, P_GT, true, false)
MASK(fcmle0, P_LE, true, false)
MASK(fcmlt0, P_LT, true, false)
