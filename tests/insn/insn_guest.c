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
#include "run_case.h"

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
