/*
 * Executes a batch of instructions with the PE's decoder and handlers.
 * insn_host BATCH RESULTS. insn_case.h has the format.
 *
 * The rest of the PE is replaced by test doubles: a TLB that reaches the two
 * scratch pages and the code, and exceptions that are written down as a status.
 */
#include <stdio.h>
#include <stdlib.h>

#include "insn_case.h"
#include "pe/debug.h"
#include "pe/a64_handlers.h"
#include "pe/except.h"
#include "pe/mmu.h"

static uint8_t pages[CASE_PAGES_LEN] __attribute__((aligned(4096)));
static uint32_t code[CASE_MAX * CASE_STRIDE / 4] __attribute__((aligned(4096)));
static struct codepage page __attribute__((aligned(CODEPAGE_ALIGN)));
static struct tlb tlb;
static uint32_t status;

static int
stop(uint32_t s)
{
	status = s;
	return (INSN_EXC);
}

/* -- doubles ---------------------------------------------------------------- */

int
pe_exception(struct pe *pe, unsigned target, unsigned ec, uint32_t iss, uint64_t ret)
{
	(void)pe, (void)target, (void)iss, (void)ret;
	return (stop(ec == EC_BRK64 ? ST_TRAP : ST_OTHER));
}

int
pe_undef(struct pe *pe, const struct insn *in)
{
	(void)pe, (void)in;
	return (stop(ST_UNDEF));
}

int
pe_fp_trap(struct pe *pe, const struct insn *in)
{
	(void)pe, (void)in;
	return (stop(ST_OTHER));
}

static void *
reach(uint64_t va, unsigned len, bool write)
{
	if (va >= CASE_PAGES && va - CASE_PAGES <= sizeof(pages) - len)
		return (pages + (va - CASE_PAGES));
	if (!write && va >= CASE_CODE && va - CASE_CODE <= sizeof(code) - len)
		return ((uint8_t *)code + (va - CASE_CODE));
	return (NULL);
}

int
pe_read_slow(struct pe *pe, const struct insn *in, uint64_t va, void *buf, unsigned len,
    unsigned align, unsigned acc)
{
	const void *p = reach(va, len, false);

	(void)pe, (void)in, (void)align, (void)acc;
	if (p == NULL)
		return (stop(ST_FAULT));
	memcpy(buf, p, len);
	return (0);
}

int
pe_write_slow(struct pe *pe, const struct insn *in, uint64_t va, const void *buf, unsigned len,
    unsigned align, unsigned acc)
{
	void *p = reach(va, len, true);

	(void)pe, (void)in, (void)align, (void)acc;
	if (p == NULL)
		return (stop(ST_FAULT));
	memcpy(p, buf, len);
	return (0);
}

void *
pe_host_addr(struct pe *pe, const struct insn *in, uint64_t va, unsigned len, unsigned acc)
{
	void *p = reach(va, len, (acc & (ACC_WRITE | ACC_ATOMIC)) != 0);

	(void)pe, (void)in;
	if (p == NULL || (va & (len - 1)) != 0) {
		stop(ST_FAULT);
		return (NULL);
	}
	return (p);
}

int
pe_sp_misaligned(struct pe *pe, const struct insn *in)
{
	(void)pe, (void)in;
	return (stop(ST_FAULT));
}

#define DOUBLE(name)                                   \
	int name(struct pe *pe, const struct insn *in) \
	{                                              \
		(void)pe, (void)in;                    \
		return (stop(ST_OTHER));               \
	}
DOUBLE(pe_insn_mrs)
DOUBLE(pe_insn_msr)
DOUBLE(pe_insn_msr_imm)
DOUBLE(pe_insn_sys)
DOUBLE(pe_insn_sysl)
DOUBLE(op_undecoded)
DOUBLE(op_page_end)

/* Branches leave no trace in PSTATE here. */
int
pe_branch_typed(struct pe *pe, const struct insn *in, uint64_t target, bool link)
{
	(void)in, (void)link;
	return (pe_branch(pe, target));
}

uint64_t
pe_sctlr(const struct pe *pe)
{
	(void)pe;
	return (0);
}

void
mmu_regime(const struct pe *pe, struct mmu_regime *r)
{
	(void)pe;
	memset(r, 0, sizeof(*r));
}

int
pe_eret_to(struct pe *pe, uint64_t elr)
{
	(void)pe, (void)elr;
	return (stop(ST_OTHER));
}

int
pe_insn_wfxt(struct pe *pe, const struct insn *in, bool is_wfe)
{
	(void)pe, (void)in, (void)is_wfe;
	return (stop(ST_OTHER));
}

int
pe_eret(struct pe *pe)
{
	(void)pe;
	return (stop(ST_OTHER));
}

int
pe_insn_wfx(struct pe *pe, const struct insn *in, bool is_wfe)
{
	(void)pe, (void)in, (void)is_wfe;
	return (stop(ST_OTHER));
}

void
pe_sev(struct pe *pe)
{
	pe->event = true;
}

void
debug_ss_advance(struct pe *pe)
{
	(void)pe; /* nothing steps here */
}

void
pe_relax(struct pe *pe)
{
	(void)pe;
}

void
pe_dsb(struct pe *pe)
{
	(void)pe;
}

int
pe_insn_hvc(struct pe *pe, const struct insn *in, unsigned imm)
{
	(void)pe, (void)in, (void)imm;
	return (stop(ST_OTHER));
}

int
pe_insn_smc(struct pe *pe, const struct insn *in, unsigned imm)
{
	(void)pe, (void)in, (void)imm;
	return (stop(ST_OTHER));
}

/* -- the run ---------------------------------------------------------------- */

static void
tlb_init(void)
{
	uint64_t va;
	unsigned i;

	for (i = 0; i < TLB_SIZE; i++)
		tlb.rd[i].tag = tlb.wr[i].tag = TLB_INVALID;
	/* Only the first page: the second goes through the slow path. */
	for (va = CASE_PAGES; va < CASE_PAGES + 4096; va += 4096) {
		struct tlb_entry e = { va, (uintptr_t)pages - CASE_PAGES };

		tlb.rd[(va >> 12) & (TLB_SIZE - 1)] = e;
		tlb.wr[(va >> 12) & (TLB_SIZE - 1)] = e;
	}
}

static void
execute(struct pe *pe, uint64_t start)
{
	uint64_t va = start + 4;
	unsigned i;

	pe->pc_page = va & ~UINT64_C(0xfff);
	for (i = 0; i < 4; i++, va += 4) {
		struct insn *in = &page.insn[(va & 0xfff) / 4];
		int e;

		a64_decode_insn(code[(va - CASE_CODE) / 4], in);
		e = a64_handler[in->op](pe, in);
		if (e == INSN_BRANCH)
			stop(pe->pc == start + 24 ? ST_TAKEN : ST_OTHER);
		else if (e == INSN_EXC && status == ST_END && pe->pc != va + 4)
			stop(ST_OTHER); /* only ISB goes on after INSN_EXC */
		if (status != ST_END)
			return;
	}
}

static void
run(struct pe *pe, const struct insn_case *c, struct insn_result *r, uint64_t start)
{
	uint64_t *scratch = (uint64_t *)(void *)(pages + (CASE_SCRATCH - CASE_PAGES));

	memset(r, 0, sizeof(*r));
	scratch_fill(scratch, c->seed);
	memcpy(pe->x, c->x, sizeof(c->x));
	pe->x[REG_ZR] = 0;
	pe->x[REG_SP] = c->sp;
	pe->x[REG_SINK] = UINT64_C(0xdeadbeefdeadbeef); /* shows if it is ever read */
	memcpy(pe->v, c->v, sizeof(c->v));
	pe->nzcv = c->nzcv;
	pe->fp.fpcr = c->fpcr;
	pe->fp.fpsr = c->fpsr;
	pe->excl_size = 0;
	status = ST_END;
	execute(pe, start);
	memcpy(r->x, pe->x, sizeof(r->x));
	r->sp = pe->x[REG_SP];
	memcpy(r->v, pe->v, sizeof(r->v));
	r->nzcv = pe->nzcv;
	r->fpcr = pe->fp.fpcr;
	r->fpsr = pe->fp.fpsr;
	r->status = status;
	r->mem = scratch_hash(scratch);
	r->zero = pe->x[REG_ZR];
}

int
main(int argc, char **argv)
{
	static struct insn_case cases[CASE_MAX];
	static struct insn_result result;
	static struct pe pe;
	FILE *in, *out;
	size_t i, n;

	if (argc != 3 || (in = fopen(argv[1], "rb")) == NULL ||
	    (out = fopen(argv[2], "wb")) == NULL) {
		fprintf(stderr, "usage: insn_host BATCH RESULTS\n");
		return (2);
	}
	n = fread(cases, sizeof(cases[0]), CASE_MAX, in);
	fclose(in);
	for (i = 0; i < n; i++)
		memcpy(code + i * CASE_STRIDE / 4 + 1, cases[i].words, sizeof(cases[i].words));
	tlb_init();
	pe.tlb = pe.tlb_unpriv = &tlb;
	pe.cfg.features = ~UINT64_C(0);
	for (i = 0; i < n; i++) {
		run(&pe, &cases[i], &result, CASE_CODE + i * CASE_STRIDE);
		fwrite(&result, sizeof(result), 1, out);
	}
	return (fclose(out) != 0);
}
