/*
 * Who takes an access to a system register: the trap and enable bits of
 * SCTLR_EL1, CPTR_EL2, HCR_EL2 and MDCR_EL2 (DDI 0487, D1.3.4 and the access
 * pseudocode of each register). 0: nobody, 1 or 2: that level, -1: UNDEFINED.
 */
#include "pe/except.h"
#include "pe/sysreg_fn.h"

#define MDCR_TDA BIT(9)
#define MDCR_TDOSA BIT(10)
#define MDCR_TDRA BIT(11)
#define MDCR_TDE BIT(8)
#define CPTR_TCPAC BIT(31)
#define MDSCR_TDCC BIT(12)

static int
by_hcr(const struct pe *pe, uint64_t bit)
{
	return (pe->el < 2 && (pe_hcr(pe) & bit) != 0 ? 2 : 0);
}

/* With TGE, the fields of MDCR_EL2 that ask here behave as 1 (D19.3.19). */
static int
by_mdcr(const struct pe *pe, uint64_t bits)
{
	bool on = (pe->sr[SR_MDCR_EL2] & bits) != 0 || (pe->sr[SR_HCR_EL2] & HCR_TGE) != 0;

	return (pe->el < 2 && on ? 2 : 0);
}

int
trap_tid1(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (by_hcr(pe, HCR_TID1));
}

int
trap_tid2(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (by_hcr(pe, HCR_TID2));
}

int
trap_tid3(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (by_hcr(pe, HCR_TID3));
}

int
trap_ctr(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	if (pe->el == 0 && (pe_sctlr(pe) & SCTLR_UCT) == 0)
		return (1);
	return (by_hcr(pe, HCR_TID2));
}

int
trap_vm(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	return (by_hcr(pe, write ? HCR_TVM : HCR_TRVM));
}

int
trap_tacr(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (by_hcr(pe, HCR_TACR));
}

int
trap_cpacr(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (pe->el < 2 && (pe->sr[SR_CPTR_EL2] & CPTR_TCPAC) != 0 ? 2 : 0);
}

/* SP_EL0 may not be named while it is the current stack pointer. */
int
trap_sp_el0(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return ((pe->pstate & PS_SP) == 0 ? -1 : 0);
}

int
trap_daif(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (pe->el == 0 && (pe_sctlr(pe) & SCTLR_UMA) == 0 ? 1 : 0);
}

/* The keys of pointer authentication: HCR_EL2.APK lets them through. */
int
trap_apk(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return ((pe->sr[SR_HCR_EL2] & HCR_APK) == 0 ? 2 : 0);
}

int
trap_tda(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (by_mdcr(pe, MDCR_TDA | MDCR_TDE));
}

int
trap_dcc(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	if (pe->el == 0 && (pe->sr[SR_MDSCR_EL1] & MDSCR_TDCC) != 0)
		return (1);
	return (by_mdcr(pe, MDCR_TDA | MDCR_TDE));
}

int
trap_tdra(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (by_mdcr(pe, MDCR_TDRA | MDCR_TDE));
}

int
trap_tdosa(struct pe *pe, const struct sysreg *r, bool write)
{
	(void)r;
	(void)write;
	return (by_mdcr(pe, MDCR_TDOSA | MDCR_TDE));
}
