/*
 * PSTATE, exception entry and return: what except.c offers to the rest of the
 * PE beyond pe_internal.h.
 */
#ifndef PE_EXCEPT_H
#define PE_EXCEPT_H

#include "pe/pe_internal.h"

/* HCR_EL2 bits (DDI 0487, D19.2.48). */
#define HCR_VM BIT(0)
#define HCR_SWIO BIT(1)
#define HCR_PTW BIT(2)
#define HCR_FMO BIT(3)
#define HCR_IMO BIT(4)
#define HCR_AMO BIT(5)
#define HCR_VF BIT(6)
#define HCR_VI BIT(7)
#define HCR_VSE BIT(8)
#define HCR_FB BIT(9)
#define HCR_DC BIT(12)
#define HCR_TWI BIT(13)
#define HCR_TWE BIT(14)
#define HCR_TID1 BIT(16)
#define HCR_TID2 BIT(17)
#define HCR_TID3 BIT(18)
#define HCR_TSC BIT(19)
#define HCR_TIDCP BIT(20)
#define HCR_TACR BIT(21)
#define HCR_TSW BIT(22)
#define HCR_TPCP BIT(23)
#define HCR_TPU BIT(24)
#define HCR_TTLB BIT(25)
#define HCR_TVM BIT(26)
#define HCR_TGE BIT(27)
#define HCR_TDZ BIT(28)
#define HCR_HCD BIT(29)
#define HCR_TRVM BIT(30)
#define HCR_RW BIT(31)
#define HCR_E2H BIT(34)
#define HCR_TEA BIT(37)
#define HCR_APK BIT(40)
#define HCR_API BIT(41)

/* SCTLR_ELx bits (D19.2.123). */
#define SCTLR_M BIT(0)
#define SCTLR_A BIT(1)
#define SCTLR_C BIT(2)
#define SCTLR_SA BIT(3)
#define SCTLR_SA0 BIT(4)
#define SCTLR_NAA BIT(6)
#define SCTLR_UMA BIT(9)
#define SCTLR_ENRCTX BIT(10)
#define SCTLR_I BIT(12)
#define SCTLR_ENDB BIT(13)
#define SCTLR_DZE BIT(14)
#define SCTLR_UCT BIT(15)
#define SCTLR_NTWI BIT(16)
#define SCTLR_NTWE BIT(18)
#define SCTLR_WXN BIT(19)
#define SCTLR_IESB BIT(21)
#define SCTLR_SPAN BIT(23)
#define SCTLR_E0E BIT(24)
#define SCTLR_EE BIT(25)
#define SCTLR_UCI BIT(26)
#define SCTLR_ENDA BIT(27)
#define SCTLR_ENIB BIT(30)
#define SCTLR_ENIA BIT(31)
#define SCTLR_BT0 BIT(35)
#define SCTLR_BT BIT(36) /* BT1 of SCTLR_EL1 */
#define SCTLR_DSSBS BIT(44)
#define SCTLR_EPAN BIT(57)

/* The level a synchronous exception for `target` is taken to. */
unsigned pe_route(const struct pe *, unsigned target);
/*
 * HCR_EL2 as it counts: TGE and E2H change what other bits mean (D19.2.48).
 */
uint64_t pe_hcr(const struct pe *);
/* ELIsInHost(): EL2 with E2H, and EL0 with E2H and TGE. */
static inline bool
pe_in_host(const struct pe *pe, unsigned el)
{
	uint64_t need = el == 2 ? HCR_E2H : HCR_E2H | HCR_TGE;

	return (el != 1 && (pe->sr[SR_HCR_EL2] & need) == need);
}
/* SCTLR of the current level's translation regime. */
uint64_t pe_sctlr(const struct pe *);

#endif /* PE_EXCEPT_H */
