/*
 * Runs code with every register loaded, and saves them behind it: for the static AArch64
 * programs that execute tests natively (insn_guest.c, conformance/exec_guest.c). The code
 * ends in a branch to save_end or, where a branch was taken, save_taken; so does a signal.
 */
#ifndef _RUN_CASE_H_
#define _RUN_CASE_H_

#include <stdint.h>

/* Offsets are known to the assembly. */
struct ctx {
	uint64_t x[31];
	uint64_t sp;
	uint64_t v[32][2];   /* 256 */
	uint64_t nzcv;       /* 768 */
	uint64_t fpcr, fpsr; /* 776, 784 */
	uint64_t not_taken;  /* 792 */
	uint64_t host[24];   /* 800: our own sp, tpidr, x19-x30, d8-d15 */
};

struct ctx insn_ctx;
extern void run_case(struct ctx *, uint64_t code);
extern char save_end[], save_taken[];

__asm__("	.text\n"
	"	.balign 16\n"
	"	.globl	run_case, save_end, save_taken\n"
	"run_case:\n"
	"	mov	x2, sp\n"
	"	mrs	x3, tpidr_el0\n"
	"	add	x4, x0, #800\n"
	"	stp	x2, x3, [x4]\n"
	"	stp	x19, x20, [x4, #16]\n"
	"	stp	x21, x22, [x4, #32]\n"
	"	stp	x23, x24, [x4, #48]\n"
	"	stp	x25, x26, [x4, #64]\n"
	"	stp	x27, x28, [x4, #80]\n"
	"	stp	x29, x30, [x4, #96]\n"
	"	stp	d8, d9, [x4, #112]\n"
	"	stp	d10, d11, [x4, #128]\n"
	"	stp	d12, d13, [x4, #144]\n"
	"	stp	d14, d15, [x4, #160]\n"
	"	ldr	x2, [x0, #776]\n"
	"	msr	fpcr, x2\n"
	"	ldr	x2, [x0, #784]\n"
	"	msr	fpsr, x2\n"
	"	ldr	x2, [x0, #768]\n"
	"	msr	nzcv, x2\n"
	"	ldr	x2, [x0, #248]\n"
	"	mov	sp, x2\n"
	"	add	x2, x0, #256\n"
	"	.altmacro\n"
	"	.macro	vreg op, n\n"
	"	\\op	q\\n, [x2, #16 * \\n]\n"
	"	.endm\n"
	"	.macro	vregs op\n"
	"	.set	i, 0\n"
	"	.rept	32\n"
	"	vreg	\\op, %i\n"
	"	.set	i, i + 1\n"
	"	.endr\n"
	"	.endm\n"
	"	vregs	ldr\n"
	"	ldp	x2, x3, [x0, #16]\n"
	"	ldp	x4, x5, [x0, #32]\n"
	"	ldp	x6, x7, [x0, #48]\n"
	"	ldp	x8, x9, [x0, #64]\n"
	"	ldp	x10, x11, [x0, #80]\n"
	"	ldp	x12, x13, [x0, #96]\n"
	"	ldp	x14, x15, [x0, #112]\n"
	"	ldp	x16, x17, [x0, #128]\n"
	"	ldp	x18, x19, [x0, #144]\n"
	"	ldp	x20, x21, [x0, #160]\n"
	"	ldp	x22, x23, [x0, #176]\n"
	"	ldp	x24, x25, [x0, #192]\n"
	"	ldp	x26, x27, [x0, #208]\n"
	"	ldp	x28, x29, [x0, #224]\n"
	"	ldr	x30, [x0, #240]\n"
	"	clrex\n"
	"	br	x1\n"
	"\n"
	"save_taken:\n"
	"	msr	tpidr_el0, x0\n"
	"	ldr	x0, =insn_ctx\n"
	"	str	xzr, [x0, #792]\n"
	"	b	1f\n"
	"save_end:\n"
	"	msr	tpidr_el0, x0\n"
	"	ldr	x0, =insn_ctx\n"
	"1:	str	x1, [x0, #8]\n"
	"	stp	x2, x3, [x0, #16]\n"
	"	stp	x4, x5, [x0, #32]\n"
	"	stp	x6, x7, [x0, #48]\n"
	"	stp	x8, x9, [x0, #64]\n"
	"	stp	x10, x11, [x0, #80]\n"
	"	stp	x12, x13, [x0, #96]\n"
	"	stp	x14, x15, [x0, #112]\n"
	"	stp	x16, x17, [x0, #128]\n"
	"	stp	x18, x19, [x0, #144]\n"
	"	stp	x20, x21, [x0, #160]\n"
	"	stp	x22, x23, [x0, #176]\n"
	"	stp	x24, x25, [x0, #192]\n"
	"	stp	x26, x27, [x0, #208]\n"
	"	stp	x28, x29, [x0, #224]\n"
	"	str	x30, [x0, #240]\n"
	"	mrs	x1, tpidr_el0\n"
	"	str	x1, [x0]\n"
	"	mov	x1, sp\n"
	"	str	x1, [x0, #248]\n"
	"	add	x2, x0, #256\n"
	"	vregs	str\n"
	"	mrs	x1, nzcv\n"
	"	str	x1, [x0, #768]\n"
	"	mrs	x1, fpcr\n"
	"	str	x1, [x0, #776]\n"
	"	mrs	x1, fpsr\n"
	"	str	x1, [x0, #784]\n"
	"	msr	fpcr, xzr\n"
	"	msr	fpsr, xzr\n"
	"	add	x4, x0, #800\n"
	"	ldp	x2, x3, [x4]\n"
	"	mov	sp, x2\n"
	"	msr	tpidr_el0, x3\n"
	"	ldp	x19, x20, [x4, #16]\n"
	"	ldp	x21, x22, [x4, #32]\n"
	"	ldp	x23, x24, [x4, #48]\n"
	"	ldp	x25, x26, [x4, #64]\n"
	"	ldp	x27, x28, [x4, #80]\n"
	"	ldp	x29, x30, [x4, #96]\n"
	"	ldp	d8, d9, [x4, #112]\n"
	"	ldp	d10, d11, [x4, #128]\n"
	"	ldp	d12, d13, [x4, #144]\n"
	"	ldp	d14, d15, [x4, #160]\n"
	"	ret\n"
	"	.ltorg\n");

#endif /* !_RUN_CASE_H_ */
