/*
 * What the floating point lowerings share (lower_fp.c): the shape of an
 * operation, its operands, and the test of its result.
 *
 * The host computes; its flags collect in MXCSR and become FPSR's when
 * translated code is left (jit.c). Its answer is used when it is the guest's
 * for certain. The handler is called, out of line, when the result
 *
 *	is a NaN	the host's default NaN is negative, and of two NaNs it
 *			takes the first where Arm takes a signaling one
 *	is 2^emin	Arm detects tininess before rounding, the host after:
 *			they differ (UFC) only for what is rounded up to the
 *			smallest normal number. Of operations that underflow.
 *
 * What the host has raised by then is also raised by the handler. Operations
 * that write V registers clear the bits above their last lane.
 */
#ifndef PE_JIT_LOWER_FP_H
#define PE_JIT_LOWER_FP_H

#include "pe/fp.h"
#include "pe/jit/lower.h"

/* One lane (scalar), two of 32 bits (half), or a whole register. */
struct fp_form {
	bool dbl, scalar, half;
	uint8_t i; /* index into { SS, SD, PS, PD } */
};

/* The forms of one x86 operation. */
#define FP_OPS(name)                                                   \
	(const unsigned[4])                                            \
	{                                                              \
		V_##name##SS, V_##name##SD, V_##name##PS, V_##name##PD \
	}

/* Scratch registers; lowerings use FP_R for the result, FP_N and FP_M for operands. */
enum { FP_R = 0, FP_N = 1, FP_M = 14, FP_T = 15 };

#define FP_NAN 1u   /* a NaN is for the handler */
#define FP_TINY 2u  /* 2^emin is for the handler */
#define FP_DIRTY 4u /* the result has bits above the last lane */

struct fp_form fp_form(const struct insn *);
/*
 * V register r as an operand: in its own host register, or in `scratch` with
 * the lanes that do not take part cleared.
 */
int fp_read(struct tr *, struct fp_form, unsigned r, int scratch);
/* Are the bits above the lanes of x known to be zero? */
bool fp_clean(const struct tr *, struct fp_form, int x);
/* Where to compute: rd's own register, unless rd is one of the sources. */
int fp_dest(struct tr *, unsigned rd, unsigned n, unsigned m, unsigned a);
/* The tests of result r that `what` asks for; uses RAX, RCX, FP_M, FP_T. */
void fp_check(struct tr *, struct fp_form, int r, unsigned what);
/* Leave to the handler when operand n or m is a NaN. Uses RAX, FP_T. */
void fp_check_operands(struct tr *, struct fp_form, int n, int m);
/* rd = s, cleared above unless s is clean. */
void fp_write(struct tr *, struct fp_form, unsigned rd, int s, bool clean);
/* A constant in every lane of the form, zero elsewhere. */
const uint8_t *fp_const(struct tr *, struct fp_form, uint64_t s, uint64_t d);
/* The same in every lane of the register. */
const uint8_t *fp_const_all(struct tr *, struct fp_form, uint64_t s, uint64_t d);

/* d = the integer in general register r by CVTSI2SS or SD; clears above. */
void fp_from_g(struct tr *, bool w, bool dbl, int d, int r);

/* lower_fp_arith.c */
LOWER(fadd);
LOWER(fsub);
LOWER(fmul);
LOWER(fnmul);
LOWER(fdiv);
LOWER(fabd);
LOWER(fsqrt);
LOWER(fmadd);
LOWER(fmla);
LOWER(fmla_elem);
LOWER(fmul_elem);
LOWER(faddp);
LOWER(faddp_scalar);
LOWER(fabs);
LOWER(fneg);
LOWER(fmov);
LOWER(fmov_imm);
/* lower_fp_cmp.c */
LOWER(fcmp);
LOWER(fccmp);
LOWER(fcsel);
LOWER(fmax);
LOWER(fmin);
LOWER(fmaxv);
LOWER(fcmeq);
LOWER(fcmge);
LOWER(fcmgt);
LOWER(facge);
LOWER(facgt);
LOWER(fcmeq0);
LOWER(fcmge0);
LOWER(fcmgt0);
LOWER(fcmle0);
LOWER(fcmlt0);
/* lower_fp_cvt.c */
LOWER(fmov_to_g);
LOWER(fmov_from_g);
LOWER(fmov_to_high);
LOWER(fmov_from_high);
LOWER(fcvt_d_s);
LOWER(fcvt_s_d);
LOWER(fcvt_to_g);
LOWER(fcvt_from_g);
LOWER(frint);
LOWER(frinta);
LOWER(fcvta_to_g);
LOWER(fcvtl);
LOWER(fcvtn);
LOWER(scvtf);
LOWER(ucvtf);
LOWER(fcvtzs);

#endif /* PE_JIT_LOWER_FP_H */
