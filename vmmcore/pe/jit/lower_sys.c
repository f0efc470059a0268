/*
 * Lowering of MRS, MSR, exception generation and barriers: registers that are
 * plain storage and the few others that Linux uses at each system call are
 * moves, with the checks of their traps. All else goes to the handler.
 */
#include "pe/except.h"
#include "pe/jit/lower.h"
#include "pe/mmu.h"
#include "pe/sysreg_fn.h"
#include "pe/timer.h"

static struct x86_mem
sr_mem(unsigned sr)
{
	return (x_mem(R15, PE_OFF(sr) + 8 * (int32_t)sr));
}

/* ZF: the bits of register sr are clear; they lie in one byte of it. */
static void
test_sr(struct tr *t, unsigned sr, uint64_t bits)
{
	unsigned byte = (unsigned)__builtin_ctzll(bits) / 8;
	struct x86_mem m = sr_mem(sr);

	m.disp += (int32_t)byte;
	x_test8_mem_imm(&t->x, m, (unsigned)(bits >> (8 * byte)));
}

/* Rd of MRS. */
static void
load(struct tr *t, const struct insn *in, struct x86_mem m, bool w)
{
	int d = g_dest(in->rd, RAX);

	x_load(&t->x, w, d, m);
	g_commit(t, in->rd, d);
}

/* The register that is not EL1's goes to the handler. */
static void
only_el1(struct tr *t)
{
	x_cmp8_mem_imm(&t->x, PE_MEM(el), 1);
	t_slow(t, CC_NE);
}

/* The same for EL1 and, while SCTLR_EL1 has `enable`, EL0; hcr must be clear. */
static void
only_enabled(struct tr *t, unsigned sr, uint64_t enable, uint64_t hcr)
{
	struct x86 *x = &t->x;
	uint8_t *el1;

	test_sr(t, SR_HCR_EL2, hcr);
	t_slow(t, CC_NE);
	/* A host's EL0 has its bits elsewhere. */
	test_sr(t, SR_HCR_EL2, HCR_TGE);
	t_slow(t, CC_NE);
	x_cmp8_mem_imm(x, PE_MEM(el), 1);
	t_slow(t, CC_A);
	el1 = x_jcc(x, CC_E);
	test_sr(t, sr, enable);
	t_slow(t, CC_E);
	x_here(x, el1);
}

/* An interrupt that is unmasked here may be due: let the run loop look. Uses RAX. */
static void
unmask(struct tr *t)
{
	struct x86 *x = &t->x;

	x_load(x, true, RAX, PE_MEM(kick));
	x_load(x, false, RAX, x_mem(RAX, 0));
	x_alu_mem(x, false, X_OR, RAX, PE_MEM(request));
	x_alu_mem(x, false, X_OR, RAX, PE_MEM(irq_waits));
	t_slow(t, CC_NE);
	x_test(x, false, R13, R13);
	t_slow(t, CC_LE);
}

/* -- registers that are more than storage -------------------------------------------- */

static void
rd_fpcr_here(struct tr *t, const struct insn *in)
{
	v_check(t);
	load(t, in, PE_MEM(fp.fpcr), false);
}

/* At EL1 on SP_EL1; other cases may be UNDEFINED or other registers. */
static void
only_el1h(struct tr *t)
{
	struct x86 *x = &t->x;

	x_load(x, false, RAX, PE_MEM(pstate));
	x_alu_imm(x, false, X_AND, RAX, 15);
	x_alu_imm(x, false, X_CMP, RAX, 5);
	t_slow(t, CC_NE);
}

static void
rd_sp_el0_here(struct tr *t, const struct insn *in)
{
	only_el1h(t);
	load(t, in, PE_MEM(sp_el[0]), true);
}

static void
wr_sp_el0_here(struct tr *t, const struct insn *in)
{
	only_el1h(t);
	x_store(&t->x, true, PE_MEM(sp_el[0]), g_read(t, true, in->rd, RAX));
}

static void
rd_daif_here(struct tr *t, const struct insn *in)
{
	int d = g_dest(in->rd, RAX);

	only_el1(t);
	x_load(&t->x, false, d, PE_MEM(pstate));
	x_alu_imm(&t->x, false, X_AND, d, (int32_t)PS_DAIF);
	g_commit(t, in->rd, d);
}

static void
wr_daif_here(struct tr *t, const struct insn *in)
{
	struct x86 *x = &t->x;
	uint8_t *masks;

	only_el1(t);
	g_load(t, false, RCX, in->rd);
	x_load(x, false, RDX, PE_MEM(pstate));
	x_alu_imm(x, false, X_AND, RCX, (int32_t)PS_DAIF);
	x_andn(x, false, RAX, RCX, RDX);
	x_test_imm(x, RAX, (uint32_t)PS_DAIF);
	masks = x_jcc(x, CC_E);
	unmask(t);
	x_here(x, masks);
	x_alu_imm(x, false, X_AND, RDX, ~(int32_t)PS_DAIF);
	x_alu(x, false, X_OR, RDX, RCX);
	x_store(x, false, PE_MEM(pstate), RDX);
}

static void
rd_dczid_here(struct tr *t, const struct insn *in)
{
	int d = g_dest(in->rd, RAX);

	only_enabled(t, SR_SCTLR_EL1, SCTLR_DZE, HCR_TDZ);
	x_const(&t->x, d, 4);
	g_commit(t, in->rd, d);
}

static void
rd_ctr_here(struct tr *t, const struct insn *in)
{
	only_enabled(t, SR_SCTLR_EL1, SCTLR_UCT, HCR_TID2);
	load(t, in, sr_mem(SR_CTR_EL0), true);
}

/* CNTVCT_EL0: bit 1 of CNTKCTL_EL1 lets EL0 read it, bit 14 of CNTHCTL_EL2 traps it. */
static void
rd_count_here(struct tr *t, const struct insn *in)
{
	struct x86 *x = &t->x;

	only_enabled(t, SR_CNTKCTL_EL1, BIT(1), HCR_TGE);
	test_sr(t, SR_CNTHCTL_EL2, BIT(14));
	t_slow(t, CC_NE);
	v_flush(t);
	x_call(x, t->j->counter);
	v_forget(t);
	x_alu_mem(x, true, X_SUB, RAX, sr_mem(SR_CNTVOFF_EL2));
	g_commit(t, in->rd, RAX);
}

typedef void (*access_fn)(struct tr *, const struct insn *);
static const struct {
	uint16_t sr;
	access_fn rd, wr; /* NULL: the handler */
} special[] = {
	{ SR_FPCR, rd_fpcr_here, NULL },
	{ SR_SP_EL0, rd_sp_el0_here, wr_sp_el0_here },
	{ SR_DAIF, rd_daif_here, wr_daif_here },
	{ SR_DCZID_EL0, rd_dczid_here, NULL },
	{ SR_CTR_EL0, rd_ctr_here, NULL },
	{ SR_CNTVCT_EL0, rd_count_here, NULL },
	{ SR_CNTVCTSS_EL0, rd_count_here, NULL },
};

/* -- plain storage --------------------------------------------------------------------- */

/* The checks of an access at EL1, or below where it is allowed. False: not so simple. */
static bool
let_through(struct tr *t, const struct sysreg *r, bool write)
{
	unsigned el1 = write ? SR_W1 : SR_R1, el0 = write ? SR_W0 : SR_R0;

	if ((r->acc & el1) == 0 || (r->acc & SR_EXACT) != 0)
		return (false);
	if (r->trap != NULL && r->trap != trap_vm)
		return (false);
	if ((r->acc & el0) == 0 || sysreg_redirected(r))
		only_el1(t);
	if (r->trap == trap_vm) {
		test_sr(t, SR_HCR_EL2, write ? HCR_TVM : HCR_TRVM);
		t_slow(t, CC_NE);
	}
	return (true);
}

static bool
rd_plain(struct tr *t, const struct insn *in, const struct sysreg *r)
{
	if (r->rd != NULL || !let_through(t, r, false))
		return (false);
	load(t, in, sr_mem(r->sr), true);
	return (true);
}

static bool
wr_plain(struct tr *t, const struct insn *in, const struct sysreg *r)
{
	bool w = r->wmask == UINT64_MAX;

	if (r->wr != NULL || (!w && (r->wmask != UINT32_MAX || r->reset > UINT32_MAX)) ||
	    !let_through(t, r, true))
		return (false);
	if (w) {
		x_store(&t->x, true, sr_mem(r->sr), g_read(t, true, in->rd, RAX));
		return (true);
	}
	g_load(t, false, RAX, in->rd);
	x_store(&t->x, true, sr_mem(r->sr), RAX);
	return (true);
}

/* The register that is named, when this PE has it for sure. */
static const struct sysreg *
named(const struct tr *t, const struct insn *in)
{
	const struct sysreg *r = sysreg_find(in->word >> 5 & 0xffff);

	if (r != NULL && r->feature != 0 && !pe_has(t->pe, (enum pe_feature)(r->feature - 1)))
		return (NULL);
	return (r);
}

static void
move(struct tr *t, const struct insn *in, bool write)
{
	const struct sysreg *r = named(t, in);

	t_resolve(t); /* set_again() does not look further */
	for (size_t i = 0; r != NULL && i < sizeof(special) / sizeof(special[0]); i++) {
		access_fn fn = write ? special[i].wr : special[i].rd;

		if (special[i].sr == r->sr && fn != NULL) {
			fn(t, in);
			return;
		}
	}
	if (r == NULL || !(write ? wr_plain(t, in, r) : rd_plain(t, in, r)))
		t_handler(t, in);
}

LOWER(mrs)
{
	move(t, in, false);
}

LOWER(msr)
{
	if (t->pe->cfg.jit_forced)
		t_handler(t, in);
	else
		move(t, in, true);
}

/* DAIFSet and DAIFClr. */
LOWER(msr_imm)
{
	struct x86 *x = &t->x;
	int32_t bits = (int32_t)in->b << 6;

	if ((in->a != 036 && in->a != 037) || t->pe->cfg.jit_forced) {
		t_handler(t, in);
		return;
	}
	t_resolve(t);
	only_el1(t);
	if (in->a == 036)
		x_alu_mem_imm(x, false, X_OR, PE_MEM(pstate), bits);
	else {
		unmask(t);
		x_alu_mem_imm(x, false, X_AND, PE_MEM(pstate), ~bits);
	}
}

/* -- exceptions and barriers ----------------------------------------------------------- */

/* From one level to another and on from there; never behind it. */
static void
to_level(struct tr *t, const struct insn *in, const uint8_t *code)
{
	if (t->pe->cfg.jit_forced)
		t_handler(t, in);
	else {
		t_settle(t);
		t_count(t);
		t_insn(t, t->i);
		x_patch(&t->x, x_jmp(&t->x), code);
	}
	t->ended = true;
}

LOWER(svc)
{
	to_level(t, in, t->j->svc);
}

LOWER(eret)
{
	to_level(t, in, t->j->eret);
}

/*
 * What changes a context looks the next instruction up by itself, so this is for
 * code that IC has dropped: behind it, the block is looked up.
 */
LOWER(isb)
{
	struct x86 *x = &t->x;

	(void)in;
	t_settle(t);
	/* What is pending is taken before the next instruction. */
	x_alu_imm(x, false, X_CMP, R13, (int32_t)(t->i - t->start));
	t_cold(t, COLD_STEP, x_jcc(x, CC_LE), 0);
	t_goto(t, t_off(t) + 4);
	t->ended = true;
}

LOWER(dsb)
{
	t_resolve(t);
	x_cmp8_mem_imm(&t->x, PE_MEM(dsb_waits), 0);
	t_slow(t, CC_NE);
	if (!t->pe->alone || !t->j->devices_order)
		x_fence(&t->x);
	(void)in;
}
