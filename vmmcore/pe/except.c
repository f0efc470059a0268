/*
 * PSTATE, exception entry and exception return (DDI 0487, D1.3 to D1.5 and
 * the AArch64.TakeException and AArch64.ExceptionReturn pseudocode).
 *
 * Not here: who detects an exception (mmu.c, sysreg.c, exec_*.c) and when
 * interrupts are looked at (run.c).
 */
#include "pe/except.h"
#include "pe/debug.h"
#include "pe/mmu.h"

/* The FP access trap's ISS: CV = 1, COND = 0b1110. */
#define ISS_FP_TRAP ((1u << 24) | (0xeu << 20))

static inline unsigned
sp_bank(uint32_t pstate)
{
	return ((pstate & PS_SP) != 0 ? (pstate >> PS_EL_SHIFT) & 3 : 0);
}

uint64_t
pe_spsr(const struct pe *pe)
{
	return ((uint64_t)pe->pstate | pe->nzcv);
}

/* CPACR_EL1 is not for a host at EL2, nor its EL0. */
static bool
cpacr_traps_at(const struct pe *pe, unsigned el)
{
	unsigned fpen = (unsigned)FIELD(pe->sr[SR_CPACR_EL1], 20, 2);

	return (el < 2 && !pe_in_host(pe, el) && fpen != 3 && !(fpen == 1 && el == 1));
}

static bool
fp_traps_at(const struct pe *pe, unsigned el)
{
	uint64_t hcr = pe->sr[SR_HCR_EL2], cptr = pe->sr[SR_CPTR_EL2];
	unsigned fpen = (unsigned)FIELD(cptr, 20, 2);

	if (cpacr_traps_at(pe, el))
		return (true);
	if ((hcr & HCR_E2H) == 0)
		return ((cptr & BIT(10)) != 0);
	return (fpen != 3 && !(fpen == 1 && !(el == 0 && (hcr & HCR_TGE) != 0)));
}

/*
 * PSTATE after an exception, apart from NZCV, which is kept:
 * DAIF: set	SP: 1		IL, SS, UAO, BTYPE: 0	DIT: kept
 * PAN: kept, or set when SCTLR.SPAN is 0 (EL1; EL2 of a host with E2H and TGE)
 * SSBS: SCTLR.DSSBS
 * This is all but what is kept.
 */
static uint32_t
entered(const struct pe *pe, unsigned target)
{
	uint64_t sctlr = pe->sr[target == 2 ? SR_SCTLR_EL2 : SR_SCTLR_EL1];
	bool span = target == 1 || pe_in_host(pe, 0); /* SCTLR.SPAN counts */
	uint32_t ps = (uint32_t)PS_DAIF | (target << PS_EL_SHIFT) | (uint32_t)PS_SP;

	if (pe_has(pe, PE_FEAT_PAN) && span && (sctlr & SCTLR_SPAN) == 0)
		ps |= (uint32_t)PS_PAN;
	if (pe_has(pe, PE_FEAT_SSBS) && (sctlr & SCTLR_DSSBS) != 0)
		ps |= (uint32_t)PS_SSBS;
	return (ps);
}

/* SPSR bits that exist here; the others are RES0 in PSTATE. */
static uint64_t
spsr_mask(const struct pe *pe)
{
	uint64_t m = PS_N | PS_Z | PS_C | PS_V | PS_SS | PS_IL | PS_DAIF | 0xf;

	if (pe_has(pe, PE_FEAT_PAN))
		m |= PS_PAN;
	if (pe_has(pe, PE_FEAT_UAO))
		m |= PS_UAO;
	if (pe_has(pe, PE_FEAT_DIT))
		m |= PS_DIT;
	if (pe_has(pe, PE_FEAT_SSBS))
		m |= PS_SSBS;
	if (pe_has(pe, PE_FEAT_BTI))
		m |= PS_BTYPE;
	return (m);
}

/* Nothing that a change between EL0 and EL1 would have to look at is on. */
static bool
levels_plain(const struct pe *pe)
{
	return ((pe->sr[SR_HCR_EL2] & HCR_TGE) == 0 && pe->ctx->key.regime == REGIME_EL10 &&
		!pe->mmu->stale && !pe->debug.step && !pe->debug.stale && !pe->pmu.on &&
		!pe->cfg.jit_forced);
}

static void
make_levels(struct pe *pe)
{
	struct pe_levels *l = &pe->levels;

	if (!levels_plain(pe))
		return;
	for (unsigned el = 0; el < 2; el++)
		l->fp_trapped[el] = fp_traps_at(pe, el);
	for (unsigned kind = 0; kind < TLB_KINDS; kind++)
		l->tlb[kind] = &pe->ctx->tlb[kind];
	l->dirty = (uint32_t *)(void *)pe->ctx->dirty;
	l->enter = entered(pe, 1);
	/* EL0t and EL1h stay possible of M[4:0]. */
	l->deny = (uint32_t) ~(spsr_mask(pe) & ~(PS_SS | PS_IL | PS_UAO | PS_BTYPE | 0xa));
	l->ready = true;
}

static void
set_fields(struct pe *pe, uint64_t spsr)
{
	pe->sp_el[sp_bank(pe->pstate)] = pe->x[REG_SP];
	pe->nzcv = (uint32_t)spsr & UINT32_C(0xf0000000);
	pe->pstate = (uint32_t)spsr & UINT32_C(0x0fffffff);
	pe->el = (uint8_t)FIELD(pe->pstate, PS_EL_SHIFT, 2);
	pe->x[REG_SP] = pe->sp_el[sp_bank(pe->pstate)];
}

void
pe_set_pstate(struct pe *pe, uint64_t spsr)
{
	set_fields(pe, spsr);
	pe->fp_trapped = fp_traps_at(pe, pe->el);
	mmu_select(pe);
	if (pe->jit != NULL && !pe->levels.ready && pe->el < 2)
		make_levels(pe);
}

unsigned
pe_route(const struct pe *pe, unsigned target)
{
	if (pe->el == 0 && target == 1 && (pe->sr[SR_HCR_EL2] & HCR_TGE) != 0)
		target = 2;
	return (target > pe->el ? target : pe->el);
}

uint64_t
pe_sctlr(const struct pe *pe)
{
	if (pe->el == 2 || pe_in_host(pe, pe->el))
		return (pe->sr[SR_SCTLR_EL2]);
	return (pe->sr[SR_SCTLR_EL1]);
}

/* Everything after the syndrome: bank, new PSTATE, vector. */
static void
enter(struct pe *pe, unsigned target, unsigned vec, uint64_t ret)
{
	uint64_t spsr, vbar;
	uint32_t keep = (uint32_t)(PS_DIT | PS_PAN);
	unsigned off;

	spsr = pe_spsr(pe);
	if (target > pe->el)
		off = PE_VEC_LOWER_A64;
	else
		off = (pe->pstate & PS_SP) != 0 ? PE_VEC_CUR_SPX : PE_VEC_CUR_SP0;
	off += vec;

	if (target == 2) {
		pe->sr[SR_ELR_EL2] = ret;
		pe->sr[SR_SPSR_EL2] = spsr;
		vbar = pe->sr[SR_VBAR_EL2];
		pe->count.exc_el2++;
	} else {
		pe->sr[SR_ELR_EL1] = ret;
		pe->sr[SR_SPSR_EL1] = spsr;
		vbar = pe->sr[SR_VBAR_EL1];
		pe->count.exc_el1++;
	}

	spsr = (pe->pstate & keep) | entered(pe, target) | pe->nzcv;
	pe->pc = vbar + off;
	if (target == 2 && !pe->cfg.el2_emulated) {
		/* Nothing executes there; what ERET leads to is looked at then. */
		set_fields(pe, spsr);
		pe->exit = true;
		pe->exit_vec = (uint16_t)off;
	} else
		pe_set_pstate(pe, spsr);
}

int
pe_exception_far(
    struct pe *pe, unsigned target, unsigned ec, uint32_t iss, uint64_t ret, uint64_t far)
{
	target = pe_route(pe, target);
	pe->sr[target == 2 ? SR_FAR_EL2 : SR_FAR_EL1] = far;
	return (pe_exception(pe, target, ec, iss, ret));
}

/*
 * Classes that an instruction raises in place of being executed: the run loop
 * counts it nevertheless. (The others come with a fetch, or after SVC and HVC.)
 */
static const uint64_t not_retired = BIT(EC_UNKNOWN) | BIT(EC_WFX) | BIT(EC_FP) | BIT(EC_PAC) |
				    BIT(EC_SMC64) | BIT(EC_SYSREG) | BIT(EC_DABT_LOWER) |
				    BIT(EC_SP_ALIGN) | BIT(EC_WATCH_LOWER) | BIT(EC_BRK64);

int
pe_exception(struct pe *pe, unsigned target, unsigned ec, uint32_t iss, uint64_t ret)
{
	target = pe_route(pe, target);
	if (ec < 64 && (not_retired >> ec & 1) != 0)
		pe->count.insns--;
	/* The classes that come in a "lower" and a "same level" form. */
	if (target == pe->el &&
	    (ec == EC_IABT_LOWER || ec == EC_DABT_LOWER || ec == EC_BKPT_LOWER ||
		ec == EC_STEP_LOWER || ec == EC_WATCH_LOWER))
		ec |= 1;
	pe->sr[target == 2 ? SR_ESR_EL2 : SR_ESR_EL1] =
	    ((uint64_t)ec << 26) | ESR_IL | (iss & 0x1ffffff);
	enter(pe, target, PE_VEC_SYNC, ret);
	return (INSN_EXC);
}

int
pe_undef(struct pe *pe, const struct insn *in)
{
	return (pe_exception(pe, 1, EC_UNKNOWN, 0, pe_pc(pe, in)));
}

int
pe_take_async(struct pe *pe, unsigned target, unsigned vec)
{
	/* A branch drops the tag of its target: BranchAddr(). */
	enter(pe, target, vec, mmu_untag(pe, pe->pc, true));
	return (INSN_EXC);
}

/* IllegalExceptionReturn(): may this SPSR be returned to from here? */
static bool
legal_return(const struct pe *pe, uint64_t spsr)
{
	unsigned el = (unsigned)FIELD(spsr, PS_EL_SHIFT, 2);

	if ((spsr & PS_NRW) != 0 || (spsr & BIT(1)) != 0)
		return (false);
	if (el > pe->el || el == 3)
		return (false);
	if (el == 0 && (spsr & PS_SP) != 0)
		return (false);
	if (el == 1 && pe->el == 2 && (pe->sr[SR_HCR_EL2] & HCR_TGE) != 0)
		return (false);
	return (true);
}

int
pe_eret(struct pe *pe)
{
	return (pe_eret_to(pe, pe->sr[pe->el == 2 ? SR_ELR_EL2 : SR_ELR_EL1]));
}

int
pe_eret_to(struct pe *pe, uint64_t elr)
{
	uint64_t spsr = pe->sr[pe->el == 2 ? SR_SPSR_EL2 : SR_SPSR_EL1], mask, ss;

	pe->excl_size = 0;
	pe->event = true;
	mask = spsr_mask(pe);
	if (!legal_return(pe, spsr)) {
		/* Flags, masks and IL; level, SP and the rest stay. */
		uint64_t take = PS_N | PS_Z | PS_C | PS_V | PS_DAIF;

		spsr = (pe_spsr(pe) & ~take) | (spsr & take) | PS_IL;
	}
	debug_refresh(pe);
	ss = debug_eret_ss(pe, spsr, (unsigned)FIELD(spsr, PS_EL_SHIFT, 2));
	pe->debug.stepped = false;
	pe_set_pstate(pe, (spsr & mask & ~PS_SS) | ss);
	pe->pc = elr;
	pe->slice = 0;
	return (INSN_EXC);
}

void
pe_context_changed(struct pe *pe)
{
	pe->levels.ready = false;
	if (pe->unsynced)
		return;
	pe->fp_trapped = fp_traps_at(pe, pe->el);
	mmu_select(pe);
}

int
pe_fp_trap(struct pe *pe, const struct insn *in)
{
	unsigned target = 2;

	/* CPACR_EL1 first, then CPTR_EL2 (AArch64.CheckFPEnabled). */
	if (cpacr_traps_at(pe, pe->el)) {
		/* Routed by TGE it has no class (AArch64.AdvSIMDFPAccessTrap). */
		if (pe_route(pe, 1) == 2)
			return (pe_undef(pe, in));
		target = 1;
	}
	return (pe_exception(pe, target, EC_FP, ISS_FP_TRAP, pe_pc(pe, in)));
}

int
pe_sp_misaligned(struct pe *pe, const struct insn *in)
{
	uint64_t sctlr = pe_sctlr(pe);

	if ((sctlr & (pe->el == 0 ? SCTLR_SA0 : SCTLR_SA)) == 0)
		return (0);
	return (pe_exception(pe, 1, EC_SP_ALIGN, 0, pe_pc(pe, in)));
}

int
pe_insn_hvc(struct pe *pe, const struct insn *in, unsigned imm)
{
	if (pe->el == 0 || (pe->sr[SR_HCR_EL2] & HCR_HCD) != 0)
		return (pe_undef(pe, in));
	debug_ss_advance(pe);
	return (pe_exception(pe, 2, EC_HVC64, imm, pe_pc(pe, in) + 4));
}

int
pe_insn_smc(struct pe *pe, const struct insn *in, unsigned imm)
{
	/* No EL3: trapped by HCR_EL2.TSC from EL1, else UNDEFINED. */
	if (pe->el != 1 || (pe->sr[SR_HCR_EL2] & HCR_TSC) == 0)
		return (pe_undef(pe, in));
	return (pe_exception(pe, 2, EC_SMC64, imm, pe_pc(pe, in)));
}
