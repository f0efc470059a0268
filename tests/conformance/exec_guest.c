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

#include "../insn/run_case.h"
#include "conf.h"

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
