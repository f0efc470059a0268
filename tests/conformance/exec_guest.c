/*
 * Runs tests natively: a static AArch64 program for qemu-aarch64 (or a real
 * machine). Signals continue at the code that saves the registers, so a result
 * is the state after the code, or before the instruction that faulted.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "conf.h"

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

static volatile sig_atomic_t status;
static volatile uint64_t fault_pc, fault_addr;

static void
on_signal(int sig, siginfo_t *si, void *arg)
{
	ucontext_t *uc = arg;

	fault_addr = 0;
	if (sig == SIGILL) {
		status = ST_UNDEF;
	} else if (sig == SIGTRAP) {
		status = ST_TRAP;
	} else {
		status = ST_FAULT;
		fault_addr = (uintptr_t)si->si_addr;
	}
	fault_pc = uc->uc_mcontext.pc;
	uc->uc_mcontext.pc = (uintptr_t)save_end;
}

uint32_t *
exec_code(void)
{
	return ((uint32_t *)(uintptr_t)CODE_BASE);
}

uint64_t *
exec_scratch(void)
{
	return ((uint64_t *)(uintptr_t)SCRATCH);
}

uint32_t
exec_head(void)
{
	return (0xa9400400); /* ldp x0, x1, [x0] */
}

uint32_t
exec_exit(uint64_t va, bool taken)
{
	return (0x14000000 | (((uint64_t)(taken ? save_taken : save_end) - va) >> 2 & 0x3ffffff));
}

void
exec_code_changed(void)
{
	char *code = (char *)(uintptr_t)CODE_BASE;

	__builtin___clear_cache(code, code + CODE_LEN);
}

void
exec_run(struct conf_state *s, uint64_t va)
{
	memcpy(insn_ctx.x, s->x, sizeof(s->x) + sizeof(s->sp) + sizeof(s->v));
	insn_ctx.nzcv = s->nzcv;
	insn_ctx.fpcr = s->fpcr;
	insn_ctx.fpsr = s->fpsr;
	insn_ctx.not_taken = 1;
	status = ST_END;
	fault_pc = fault_addr = 0;
	run_case(&insn_ctx, va);
	memcpy(s->x, insn_ctx.x, sizeof(s->x) + sizeof(s->sp) + sizeof(s->v));
	s->nzcv = (uint32_t)insn_ctx.nzcv;
	s->fpcr = (uint32_t)insn_ctx.fpcr;
	s->fpsr = (uint32_t)insn_ctx.fpsr;
	s->status = insn_ctx.not_taken ? (uint32_t)status : ST_TAKEN;
	s->pc = fault_pc;
	s->far = fault_addr;
}

int
main(int argc, char **argv)
{
	static char altstack[65536];
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t ss = { .ss_sp = altstack, .ss_size = sizeof(altstack) };
	const int signals[] = { SIGILL, SIGSEGV, SIGBUS, SIGTRAP };
	void *p;
	size_t i;

	p = mmap((void *)(uintptr_t)CODE_BASE, CODE_LEN, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (p == MAP_FAILED)
		return (1);
	p = mmap((void *)(uintptr_t)DATA_BASE, DATA_LEN, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (p == MAP_FAILED)
		return (1);
	sigaltstack(&ss, NULL);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
	return (conf_main(argc, argv));
}
