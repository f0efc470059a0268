/*
 * FEAT_VHE and the names of registers (DDI 0487, D19.1.7): with HCR_EL2.E2H the
 * EL1 names mean, at EL2, the registers of EL2, and NAME_EL12 those of EL1. The
 * timer's rows do it themselves (timer.c), as EL0 of a host takes part there.
 *
 * Also HCR_EL2 as it counts: what TGE and E2H do to its other bits.
 */
#include "pe/except.h"
#include "pe/sysreg_fn.h"

static const uint16_t host_of[SR_COUNT] = {
	[SR_SCTLR_EL1] = SR_SCTLR_EL2,
	[SR_CPACR_EL1] = SR_CPTR_EL2,
	[SR_TTBR0_EL1] = SR_TTBR0_EL2,
	[SR_TTBR1_EL1] = SR_TTBR1_EL2,
	[SR_TCR_EL1] = SR_TCR_EL2,
	[SR_SPSR_EL1] = SR_SPSR_EL2,
	[SR_ELR_EL1] = SR_ELR_EL2,
	[SR_AFSR0_EL1] = SR_AFSR0_EL2,
	[SR_AFSR1_EL1] = SR_AFSR1_EL2,
	[SR_ESR_EL1] = SR_ESR_EL2,
	[SR_FAR_EL1] = SR_FAR_EL2,
	[SR_MAIR_EL1] = SR_MAIR_EL2,
	[SR_AMAIR_EL1] = SR_AMAIR_EL2,
	[SR_VBAR_EL1] = SR_VBAR_EL2,
	[SR_CONTEXTIDR_EL1] = SR_CONTEXTIDR_EL2,
};

bool
sysreg_redirected(const struct sysreg *r)
{
	return (host_of[r->sr] != 0);
}

const struct sysreg *
sysreg_at_el2(const struct pe *pe, const struct sysreg *r)
{
	if (host_of[r->sr] != 0 && pe_in_host(pe, 2))
		return (&sysregs[host_of[r->sr]]);
	return (r);
}

/* op1 5 in the place of 0. */
const struct sysreg *
sysreg_el1_of(const struct sysreg *r)
{
	return (sysreg_find(r->enc & ~(uint32_t)PE_SYSREG(0, 7, 0, 0, 0)));
}

uint64_t
rd_el12(struct pe *pe, const struct sysreg *r)
{
	return (sysreg_read(pe, sysreg_el1_of(r)));
}

void
wr_el12(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	sysreg_write(pe, sysreg_el1_of(r), v);
}

/*
 * CPTR_EL2 has two layouts. TCPAC is in both; TFP (10) counts without E2H, FPEN
 * (21:20) with it; each keeps its value while the other counts.
 */
#define CPTR_TFP BIT(10)
#define CPTR_TCPAC BIT(31)
#define CPTR_FPEN (BIT(20) | BIT(21))
#define CPTR_RES1 UINT64_C(0x33ff) /* without E2H */

uint64_t
rd_cptr(struct pe *pe, const struct sysreg *r)
{
	uint64_t v = pe->sr[r->sr];

	if (pe_in_host(pe, 2))
		return (v & (CPTR_TCPAC | CPTR_FPEN));
	return ((v & (CPTR_TCPAC | CPTR_TFP)) | CPTR_RES1);
}

void
wr_cptr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	v &= CPTR_TCPAC | CPTR_TFP | (pe_has(pe, PE_FEAT_VHE) ? CPTR_FPEN : 0);
	if (pe->sr[r->sr] == v)
		return;
	pe->sr[r->sr] = v;
	pe_context_changed(pe);
}

/* -- HCR_EL2 as it counts ----------------------------------------------------------- */

/* These behave as 0 with TGE: what they would do to EL1 (D19.2.48). */
#define OFF_TGE                                                                          \
	(HCR_SWIO | HCR_PTW | HCR_VF | HCR_VI | HCR_VSE | HCR_FB | HCR_TID1 | HCR_TID3 | \
	    HCR_TIDCP | HCR_TSC | HCR_TACR | HCR_TSW | HCR_TTLB | HCR_TVM | HCR_TRVM)
/* And these with E2H too: its EL0 belongs to the host. */
#define OFF_HOST                                                                                   \
	(HCR_VM | HCR_FMO | HCR_IMO | HCR_AMO | HCR_DC | HCR_TWI | HCR_TWE | HCR_TID2 | HCR_TPCP | \
	    HCR_TPU | HCR_TDZ)

uint64_t
pe_hcr(const struct pe *pe)
{
	uint64_t hcr = pe->sr[SR_HCR_EL2];

	if (likely((hcr & HCR_TGE) == 0))
		return (hcr);
	hcr &= ~OFF_TGE;
	if ((hcr & HCR_E2H) != 0)
		return (hcr & ~OFF_HOST);
	return (hcr | HCR_FMO | HCR_IMO | HCR_AMO);
}
