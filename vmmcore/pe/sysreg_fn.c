/*
 * Reads and writes of system registers that are more than storage: registers
 * the MMU depends on, stack pointers, PSTATE fields, FP control, debug locks.
 * The table is sysreg.def; the GIC and timer groups have their own files.
 */
#include "pe/sysreg_fn.h"

#include <sys/random.h>

#include "pe/debug.h"
#include "pe/except.h"
#include "pe/gic_cpuif.h"
#include "pe/mmu.h"
#include "pe/timer.h"

/* -- what translations and traps depend on ------------------------------------ */

/*
 * A translation context is chosen again at the next context synchronization
 * that this write is: the PE treats it as one.
 */
void
wr_mmu(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	v &= r->wmask;
	if (pe->sr[r->sr] == v)
		return;
	pe->sr[r->sr] = v;
	pe->mmu->stale = true;
	pe_context_changed(pe);
}

/*
 * SCTLR: the bits that are always there, those that are RES1 without AArch32,
 * FEAT_ExS, FEAT_LSMAOC and FEAT_CSV2_2, and those of extensions. EE and E0E
 * are RES0: there is no big-endian data (ID_AA64MMFR0_EL1.BigEnd is 0).
 */
#define SCTLR_EL1_RES1 (BIT(29) | BIT(28) | BIT(22) | BIT(20) | BIT(11) | BIT(8) | BIT(7))
#define SCTLR_EL2_RES1 \
	(BIT(29) | BIT(28) | BIT(23) | BIT(22) | BIT(18) | BIT(16) | BIT(11) | BIT(5) | BIT(4))
#define SCTLR_BOTH (SCTLR_M | SCTLR_A | SCTLR_C | SCTLR_SA | SCTLR_I | SCTLR_WXN)
/* What concerns EL0. */
#define SCTLR_EL0 \
	(SCTLR_SA0 | SCTLR_UMA | SCTLR_DZE | SCTLR_UCT | SCTLR_NTWI | SCTLR_NTWE | SCTLR_UCI)

static const struct {
	uint8_t feature;
	bool el0; /* not in SCTLR_EL2 without E2H */
	uint64_t bits;
} sctlr_ext[] = {
	{ PE_FEAT_LSE2, false, SCTLR_NAA },
	{ PE_FEAT_SPECRES, true, SCTLR_ENRCTX },
	{ PE_FEAT_PAuth, false, SCTLR_ENIA | SCTLR_ENIB | SCTLR_ENDA | SCTLR_ENDB },
	{ PE_FEAT_IESB, false, SCTLR_IESB },
	{ PE_FEAT_PAN, true, SCTLR_SPAN },
	{ PE_FEAT_BTI, false, SCTLR_BT },
	{ PE_FEAT_BTI, true, SCTLR_BT0 },
	{ PE_FEAT_SSBS, false, SCTLR_DSSBS },
	{ PE_FEAT_EPAN, true, SCTLR_EPAN },
};

void
wr_sctlr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	/* SCTLR_EL2 has fields for EL0 when E2H may be set, and RES1 bits as E2H is. */
	bool alone = r->sr == SR_SCTLR_EL2 && !pe_has(pe, PE_FEAT_VHE);
	bool el2 = r->sr == SR_SCTLR_EL2 && !pe_in_host(pe, 2);
	uint64_t keep = SCTLR_BOTH, one = el2 ? SCTLR_EL2_RES1 : SCTLR_EL1_RES1;

	if (!alone)
		keep |= SCTLR_EL0;
	for (size_t i = 0; i < sizeof(sctlr_ext) / sizeof(sctlr_ext[0]); i++) {
		if (pe_has(pe, (enum pe_feature)sctlr_ext[i].feature) &&
		    !(alone && sctlr_ext[i].el0))
			keep |= sctlr_ext[i].bits;
	}
	if (!alone && !pe_has(pe, PE_FEAT_PAN))
		one |= SCTLR_SPAN;
	wr_mmu(pe, r, (v & keep) | (one & ~keep));
}

void
wr_context(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[r->sr] = (v & r->wmask) | (r->reset & ~r->wmask);
	pe_context_changed(pe);
}

void
wr_hcr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	v = (v & r->wmask) | HCR_RW;
	if (!pe_has(pe, PE_FEAT_VHE))
		v &= ~HCR_E2H;
	if (!pe_has(pe, PE_FEAT_PAuth))
		v &= ~(HCR_API | HCR_APK);
	if (pe->sr[r->sr] == v)
		return;
	pe->sr[r->sr] = v;
	timer_changed(pe);
	pe->mmu->stale = true;
	pe->slice = 0;
	pe_context_changed(pe);
}

/* -- stack pointers -------------------------------------------------------------- */

static unsigned
current_bank(const struct pe *pe)
{
	return ((pe->pstate & PS_SP) != 0 ? pe->el : 0);
}

static uint64_t
sp_read(const struct pe *pe, unsigned bank)
{
	return (bank == current_bank(pe) ? pe->x[REG_SP] : pe->sp_el[bank]);
}

static void
sp_write(struct pe *pe, unsigned bank, uint64_t v)
{
	pe->sp_el[bank] = v;
	if (bank == current_bank(pe))
		pe->x[REG_SP] = v;
}

#define SP_REG(n)                                                           \
	uint64_t rd_sp_el##n(struct pe *pe, const struct sysreg *r)         \
	{                                                                   \
		(void)r;                                                    \
		return (sp_read(pe, n));                                    \
	}                                                                   \
	void wr_sp_el##n(struct pe *pe, const struct sysreg *r, uint64_t v) \
	{                                                                   \
		(void)r;                                                    \
		sp_write(pe, n, v);                                         \
	}

SP_REG(0)
SP_REG(1)
SP_REG(2)

/* -- PSTATE ------------------------------------------------------------------------ */

/* What is pending, physical or virtual as HCR says (D19.2.61). */
uint64_t
rd_isr(struct pe *pe, const struct sysreg *r)
{
	uint64_t hcr = pe->sr[SR_HCR_EL2], v = 0;
	bool virt = pe->el < 2;

	(void)r;
	if (virt && (hcr & HCR_IMO) != 0 ? gic_virt_irq(pe) || (hcr & HCR_VI) != 0
					 : gic_phys_irq(pe))
		v |= PS_I;
	if (virt && (hcr & HCR_FMO) != 0 ? gic_virt_fiq(pe) || (hcr & HCR_VF) != 0
					 : gic_phys_fiq(pe))
		v |= PS_F;
	if (virt && (hcr & (HCR_AMO | HCR_VSE)) == (HCR_AMO | HCR_VSE))
		v |= PS_A;
	return (v);
}

uint64_t
rd_currentel(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return ((uint64_t)pe->el << 2);
}

uint64_t
rd_spsel(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (pe->pstate & PS_SP);
}

void
wr_spsel(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	pe_set_pstate(pe, (pe_spsr(pe) & ~PS_SP) | (v & PS_SP));
}

uint64_t
rd_nzcv(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (pe->nzcv);
}

void
wr_nzcv(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	pe->nzcv = (uint32_t)v & UINT32_C(0xf0000000);
}

uint64_t
rd_daif(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (pe->pstate & PS_DAIF);
}

void
wr_daif(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	pe->pstate = (pe->pstate & ~(uint32_t)PS_DAIF) | (uint32_t)(v & PS_DAIF);
	pe->slice = 0;
}

#define PSTATE_BIT(name, bit, after)                                                  \
	uint64_t rd_##name(struct pe *pe, const struct sysreg *r)                     \
	{                                                                             \
		(void)r;                                                              \
		return (pe->pstate & (bit));                                          \
	}                                                                             \
	void wr_##name(struct pe *pe, const struct sysreg *r, uint64_t v)             \
	{                                                                             \
		(void)r;                                                              \
		pe->pstate = (pe->pstate & ~(uint32_t)(bit)) | (uint32_t)(v & (bit)); \
		after;                                                                \
	}

PSTATE_BIT(pan, PS_PAN, mmu_select(pe))
PSTATE_BIT(uao, PS_UAO, mmu_select(pe))
PSTATE_BIT(dit, PS_DIT, )
PSTATE_BIT(ssbs, PS_SSBS, )

/* -- floating point ------------------------------------------------------------------ */

/* AHP DN FZ RMode, FZ16 with FEAT_FP16; no traps, no AH, FIZ, NEP. */
#define FPCR_MASK UINT32_C(0x07c00000)
#define FPCR_FZ16 UINT32_C(0x00080000)
/* QC IDC IXC UFC OFC DZC IOC */
#define FPSR_MASK UINT32_C(0x0800009f)

uint64_t
rd_fpcr(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (pe->fp.fpcr);
}

void
wr_fpcr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	pe->fp.fpcr = (uint32_t)v & (FPCR_MASK | (pe_has(pe, PE_FEAT_FP16) ? FPCR_FZ16 : 0));
}

uint64_t
rd_fpsr(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (pe->fp.fpsr);
}

void
wr_fpsr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	pe->fp.fpsr = (uint32_t)v & FPSR_MASK;
}

/* -- random numbers ----------------------------------------------------------------- */

/* RNDR, RNDRRS (FEAT_RNG): NZCV tells success; Z alone, and zero, a failure. */
uint64_t
rd_rndr(struct pe *pe, const struct sysreg *r)
{
	uint64_t v;

	(void)r;
	pe->nzcv = 0;
	if (getrandom(&v, sizeof(v), GRND_NONBLOCK) == (ssize_t)sizeof(v))
		return (v);
	pe->nzcv = (uint32_t)PS_Z;
	return (0);
}

/* -- debug ------------------------------------------------------------------------------ */

/* Breakpoints, watchpoints and MDSCR. */
void
wr_debug(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	v &= r->wmask;
	if (pe->sr[r->sr] == v)
		return;
	pe->sr[r->sr] = v;
	debug_changed(pe);
}

void
wr_oslar(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	pe->sr[SR_OSLSR_EL1] = (pe->sr[SR_OSLSR_EL1] & ~BIT(1)) | ((v & 1) << 1);
}

uint64_t
rd_claimset(struct pe *pe, const struct sysreg *r)
{
	(void)pe;
	return (r->wmask);
}

void
wr_claimset(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	pe->sr[SR_DBGCLAIMCLR_EL1] |= v & r->wmask;
}

uint64_t
rd_claimclr(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (pe->sr[SR_DBGCLAIMCLR_EL1]);
}

void
wr_claimclr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	(void)r;
	pe->sr[SR_DBGCLAIMCLR_EL1] &= ~v;
}
