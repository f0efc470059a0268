/*
 * Executes a batch of instructions natively: a static AArch64 program for
 * qemu-aarch64. insn_guest BATCH RESULTS. insn_case.h has the format.
 *
 * A case is run by run_case() below with every register loaded; SIGILL and
 * SIGSEGV continue at the code that saves them, so a result always holds the
 * state after the instruction, or before the one that faulted.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "insn_case.h"

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

static volatile sig_atomic_t status;

static void
on_signal(int sig, siginfo_t *si, void *arg)
{
	ucontext_t *uc = arg;

	(void)si;
	status = sig == SIGILL ? ST_UNDEF : sig == SIGTRAP ? ST_TRAP : ST_FAULT;
	uc->uc_mcontext.pc = (uintptr_t)save_end;
}

static void *
map_at(uint64_t addr, size_t len, int prot)
{
	void *p = mmap((void *)addr, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return (p);
}

static uint32_t
branch_to(uint64_t from, const char *to)
{
	return (0x14000000 | (((uint64_t)to - from) >> 2 & 0x3ffffff));
}

static void
write_code(uint32_t *code, const struct insn_case *c, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++, code += CASE_STRIDE / 4) {
		code[0] = 0xa9400400; /* ldp x0, x1, [x0] */
		memcpy(code + 1, c[i].words, sizeof(c[i].words));
		code[5] = branch_to((uint64_t)(code + 5), save_end);
		code[6] = branch_to((uint64_t)(code + 6), save_taken);
		code[7] = 0;
	}
}

static void
run(const struct insn_case *c, struct insn_result *r, uint64_t code)
{
	uint64_t *scratch = (uint64_t *)(uintptr_t)CASE_SCRATCH;

	memset(r, 0, sizeof(*r));
	scratch_fill(scratch, c->seed);
	memcpy(insn_ctx.x, c->x, sizeof(c->x));
	memcpy(insn_ctx.v, c->v, sizeof(c->v));
	insn_ctx.sp = c->sp;
	insn_ctx.nzcv = c->nzcv;
	insn_ctx.fpcr = c->fpcr;
	insn_ctx.fpsr = c->fpsr;
	insn_ctx.not_taken = 1;
	status = ST_END;
	run_case(&insn_ctx, code);
	memcpy(r->x, insn_ctx.x, sizeof(r->x));
	memcpy(r->v, insn_ctx.v, sizeof(r->v));
	r->sp = insn_ctx.sp;
	r->nzcv = insn_ctx.nzcv;
	r->fpcr = insn_ctx.fpcr;
	r->fpsr = insn_ctx.fpsr;
	r->status = insn_ctx.not_taken ? (uint32_t)status : ST_TAKEN;
	r->mem = scratch_hash(scratch);
}

int
main(int argc, char **argv)
{
	static struct insn_case cases[CASE_MAX];
	static struct insn_result result;
	static char altstack[65536];
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t ss = { .ss_sp = altstack, .ss_size = sizeof(altstack) };
	FILE *in, *out;
	size_t i, n;
	void *code;

	if (argc != 3 || (in = fopen(argv[1], "rb")) == NULL ||
	    (out = fopen(argv[2], "wb")) == NULL) {
		fprintf(stderr, "usage: insn_guest BATCH RESULTS\n");
		return (2);
	}
	n = fread(cases, sizeof(cases[0]), CASE_MAX, in);
	code = map_at(CASE_CODE, CASE_MAX * CASE_STRIDE, PROT_READ | PROT_WRITE | PROT_EXEC);
	map_at(CASE_PAGES, CASE_PAGES_LEN, PROT_READ | PROT_WRITE);
	write_code(code, cases, n);
	__builtin___clear_cache(code, (char *)code + CASE_MAX * CASE_STRIDE);
	sigaltstack(&ss, NULL);
	sigaction(SIGILL, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGTRAP, &sa, NULL);
	for (i = 0; i < n; i++) {
		run(&cases[i], &result, CASE_CODE + i * CASE_STRIDE);
		fwrite(&result, sizeof(result), 1, out);
	}
	return (fclose(out) != 0);
}
