/*
 * TLB maintenance instructions (DDI 0487, D8.13 and C5.5).
 *
 * A TLB may always drop more than it is asked to: ranges and stage-2 forms
 * drop everything of the VMID, and what other PEs are asked to do is to drop
 * everything. The forms that Linux uses all the time (by VA, by ASID) are exact
 * on the own PE.
 */
#include <errno.h>

#include "pe/cluster.h"
#include "pe/except.h"
#include "pe/mmu.h"

enum tlbi_kind { K_NONE, K_ALL, K_VMID, K_ASID, K_VA, K_VA_EL2, K_ALL_EL2 };

struct tlbi_row {
	uint8_t op1, crm, op2;
	uint8_t kind;
	bool shareable;
	int16_t feature; /* -1: always */
};

#define N (-1)
#define OS PE_FEAT_TLBIOS
#define RG PE_FEAT_TLBIRANGE

static const struct tlbi_row rows[] = {
	/* EL1: CRm 1 outer shareable, 3 inner shareable, 7 this PE */
	{ 0, 1, 0, K_VMID, true, OS }, { 0, 3, 0, K_VMID, true, N }, { 0, 7, 0, K_VMID, false, N },
	{ 0, 1, 1, K_VA, true, OS },   { 0, 3, 1, K_VA, true, N },   { 0, 7, 1, K_VA, false, N },
	{ 0, 1, 2, K_ASID, true, OS }, { 0, 3, 2, K_ASID, true, N }, { 0, 7, 2, K_ASID, false, N },
	{ 0, 1, 3, K_VA, true, OS },   { 0, 3, 3, K_VA, true, N },   { 0, 7, 3, K_VA, false, N },
	{ 0, 1, 5, K_VA, true, OS },   { 0, 3, 5, K_VA, true, N },   { 0, 7, 5, K_VA, false, N },
	{ 0, 1, 7, K_VA, true, OS },   { 0, 3, 7, K_VA, true, N },   { 0, 7, 7, K_VA, false, N },
	/* EL1 ranges: CRm 2 IS, 5 OS, 6 this PE */
	{ 0, 2, 1, K_VMID, true, RG }, { 0, 5, 1, K_VMID, true, RG }, { 0, 6, 1, K_VMID, false, RG },
	{ 0, 2, 3, K_VMID, true, RG }, { 0, 5, 3, K_VMID, true, RG }, { 0, 6, 3, K_VMID, false, RG },
	{ 0, 2, 5, K_VMID, true, RG }, { 0, 5, 5, K_VMID, true, RG }, { 0, 6, 5, K_VMID, false, RG },
	{ 0, 2, 7, K_VMID, true, RG }, { 0, 5, 7, K_VMID, true, RG }, { 0, 6, 7, K_VMID, false, RG },
	/* EL2: stage 2 by IPA */
	{ 4, 0, 1, K_VMID, true, N },  { 4, 0, 5, K_VMID, true, N },
	{ 4, 4, 0, K_VMID, true, OS }, { 4, 4, 1, K_VMID, false, N },
	{ 4, 4, 4, K_VMID, true, OS }, { 4, 4, 5, K_VMID, false, N },
	{ 4, 0, 2, K_VMID, true, RG }, { 4, 0, 6, K_VMID, true, RG },
	{ 4, 4, 2, K_VMID, false, RG }, { 4, 4, 3, K_VMID, true, RG },
	{ 4, 4, 6, K_VMID, false, RG }, { 4, 4, 7, K_VMID, true, RG },
	/* EL2: ALLE2, VAE2, ALLE1, VALE2, VMALLS12E1 */
	{ 4, 1, 0, K_ALL_EL2, true, OS }, { 4, 3, 0, K_ALL_EL2, true, N }, { 4, 7, 0, K_ALL_EL2, false, N },
	{ 4, 1, 1, K_VA_EL2, true, OS },  { 4, 3, 1, K_VA_EL2, true, N },  { 4, 7, 1, K_VA_EL2, false, N },
	{ 4, 1, 4, K_ALL, true, OS },     { 4, 3, 4, K_ALL, true, N },     { 4, 7, 4, K_ALL, false, N },
	{ 4, 1, 5, K_VA_EL2, true, OS },  { 4, 3, 5, K_VA_EL2, true, N },  { 4, 7, 5, K_VA_EL2, false, N },
	{ 4, 1, 6, K_VMID, true, OS },    { 4, 3, 6, K_VMID, true, N },    { 4, 7, 6, K_VMID, false, N },
	/* EL2 ranges */
	{ 4, 2, 1, K_ALL_EL2, true, RG }, { 4, 5, 1, K_ALL_EL2, true, RG }, { 4, 6, 1, K_ALL_EL2, false, RG },
	{ 4, 2, 5, K_ALL_EL2, true, RG }, { 4, 5, 5, K_ALL_EL2, true, RG }, { 4, 6, 5, K_ALL_EL2, false, RG },
};

#undef N
#undef OS
#undef RG

static const struct tlbi_row *
find_row(const struct pe *pe, uint32_t enc)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct tlbi_row *r = &rows[i];

		if (PE_SYSREG(1u, r->op1, 8u, r->crm, r->op2) != enc)
			continue;
		if (r->feature >= 0 && !pe_has(pe, (enum pe_feature)r->feature))
			return (NULL);
		return (r);
	}
	return (NULL);
}

/* Context keys carry VMID 0 while stage 2 is off. */
static uint32_t
key_vmid(const struct pe *pe)
{
	return ((pe->sr[SR_HCR_EL2] & (HCR_VM | HCR_DC)) != 0 || pe->el == 2 ? mmu_vmid(pe) : 0);
}

int
tlbi_op(struct pe *pe, uint32_t enc, uint64_t xt)
{
	const struct tlbi_row *r = find_row(pe, enc);
	uint64_t va = (uint64_t)((int64_t)(xt << 20) >> 8);

	if (r == NULL)
		return (ENOENT);
	switch (r->kind) {
	case K_VA:
		mmu_flush_va(pe, key_vmid(pe), 1, va);
		break;
	case K_VA_EL2:
		mmu_flush_va(pe, 0, 2, va);
		break;
	case K_ASID:
		mmu_flush_asid(pe, key_vmid(pe), (uint32_t)FIELD(xt, 48,
		    (pe->sr[SR_TCR_EL1] & BIT(36)) != 0 ? 16 : 8));
		break;
	case K_VMID:
		mmu_flush_vmid(pe, key_vmid(pe));
		break;
	default:
		mmu_flush_all(pe);
		break;
	}
	if (r->shareable || (pe->el < 2 && (pe->sr[SR_HCR_EL2] & HCR_FB) != 0))
		cluster_request(pe, PE_REQ_TLBI_ALL);
	return (0);
}
