/*
 * TLB maintenance instructions (DDI 0487, D8.13 and C5.5), on this PE and, for
 * the shareable forms, on all others (cluster.h).
 *
 * At EL2 of a host (HCR_EL2.{E2H, TGE} = {1, 1}) the EL1 forms mean the EL2&0 regime.
 *
 * A TLB may always drop more than it is asked to: long ranges drop everything of the
 * ASID, stage-2 forms of the VMID. The forms that Linux uses all the time (by VA, by
 * ASID, short ranges) are exact.
 */
#include <errno.h>

#include "pe/cluster.h"
#include "pe/except.h"
#include "pe/mmu.h"

enum tlbi_kind { K_NONE, K_ALL, K_VMID, K_ASID, K_VA, K_RANGE, K_VA_EL2, K_ALL_EL2 };

struct tlbi_row {
	uint8_t op1, crm, op2;
	uint8_t kind;
	bool shareable;
	int16_t feature; /* -1: always */
};

#define N (-1)
#define OS PE_FEAT_TLBIOS
#define RG PE_FEAT_TLBIRANGE

/* clang-format off */
static const struct tlbi_row rows[] = {
	/* EL1: CRm 1 outer shareable, 3 inner shareable, 7 this PE */
	{ 0, 1, 0, K_VMID, true, OS }, { 0, 3, 0, K_VMID, true, N }, { 0, 7, 0, K_VMID, false, N },
	{ 0, 1, 1, K_VA, true, OS },   { 0, 3, 1, K_VA, true, N },   { 0, 7, 1, K_VA, false, N },
	{ 0, 1, 2, K_ASID, true, OS }, { 0, 3, 2, K_ASID, true, N }, { 0, 7, 2, K_ASID, false, N },
	{ 0, 1, 3, K_VA, true, OS },   { 0, 3, 3, K_VA, true, N },   { 0, 7, 3, K_VA, false, N },
	{ 0, 1, 5, K_VA, true, OS },   { 0, 3, 5, K_VA, true, N },   { 0, 7, 5, K_VA, false, N },
	{ 0, 1, 7, K_VA, true, OS },   { 0, 3, 7, K_VA, true, N },   { 0, 7, 7, K_VA, false, N },
	/* EL1 ranges: CRm 2 IS, 5 OS, 6 this PE */
	{ 0, 2, 1, K_RANGE, true, RG }, { 0, 5, 1, K_RANGE, true, RG }, { 0, 6, 1, K_RANGE, false, RG },
	{ 0, 2, 3, K_RANGE, true, RG }, { 0, 5, 3, K_RANGE, true, RG }, { 0, 6, 3, K_RANGE, false, RG },
	{ 0, 2, 5, K_RANGE, true, RG }, { 0, 5, 5, K_RANGE, true, RG }, { 0, 6, 5, K_RANGE, false, RG },
	{ 0, 2, 7, K_RANGE, true, RG }, { 0, 5, 7, K_RANGE, true, RG }, { 0, 6, 7, K_RANGE, false, RG },
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
/* clang-format on */

#undef N
#undef OS
#undef RG

/* By op1 / 4, CRm and op2: row + 1. */
static uint8_t row_of[2][16][8];

static __attribute__((constructor)) void
make_index(void)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		row_of[rows[i].op1 / 4][rows[i].crm][rows[i].op2] = (uint8_t)(i + 1);
}

static const struct tlbi_row *
find_row(const struct pe *pe, uint32_t enc)
{
	unsigned op1 = (unsigned)FIELD(enc, 11, 3), i;
	const struct tlbi_row *r;

	if ((op1 & 3) != 0 || FIELD(enc, 7, 4) != 8 || FIELD(enc, 14, 2) != 1)
		return (NULL);
	i = row_of[op1 / 4][FIELD(enc, 3, 4)][FIELD(enc, 0, 3)];
	if (i == 0)
		return (NULL);
	r = &rows[i - 1];
	if (r->feature >= 0 && !pe_has(pe, (enum pe_feature)r->feature))
		return (NULL);
	return (r);
}

/* Context keys carry VMID 0 while stage 2 is off. */
static uint32_t
key_vmid(const struct pe *pe)
{
	return ((pe->sr[SR_HCR_EL2] & (HCR_VM | HCR_DC)) != 0 || pe->el == 2 ? mmu_vmid(pe) : 0);
}

static uint32_t
key_asid(const struct pe *pe, unsigned regime, uint64_t xt)
{
	uint64_t tcr = pe->sr[regime == REGIME_EL10 ? SR_TCR_EL1 : SR_TCR_EL2];

	return ((uint32_t)FIELD(xt, 48, (tcr & BIT(36)) != 0 ? 16 : 8));
}

/* Pages of 4 KiB of a range operand; its first address in *va (D8.13.5). */
static uint64_t
range(uint64_t xt, uint64_t *va)
{
	static const uint8_t shift[4] = { 12, 12, 14, 16 }; /* by TG; 0 is reserved */
	unsigned s = shift[FIELD(xt, 46, 2)];
	uint64_t units = (FIELD(xt, 39, 5) + 1) << (5 * FIELD(xt, 44, 2) + 1);

	*va = (uint64_t)((int64_t)(xt << 27) >> 27) << s;
	return (units << (s - 12));
}

static void
all(struct pe *pe, bool others)
{
	mmu_flush_all(pe);
	if (others)
		cluster_request(pe, PE_REQ_TLBI_ALL);
}

/* op2 says more about the forms by VA: bit 1 all ASIDs, bit 2 the last level. */
static void
pages(struct pe *pe, const struct tlbi_row *r, unsigned regime, uint32_t asid, uint64_t va,
    uint64_t count, bool others)
{
	struct cluster_mail m = { .op = CLUSTER_TLBI_VA,
		.range = { .va = va,
		    .pages = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX,
		    .vmid = regime == REGIME_EL10 ? key_vmid(pe) : 0,
		    .asid = (r->op2 & 2) != 0 ? MMU_ANY_ASID : asid,
		    .regime = (uint8_t)regime,
		    .last = (r->op2 & 4) != 0 } };

	mmu_flush_va(pe, &m.range);
	if (others)
		cluster_post(pe, &m);
}

int
tlbi_op(struct pe *pe, uint32_t enc, uint64_t xt)
{
	const struct tlbi_row *r = find_row(pe, enc);
	struct cluster_mail m = { 0 };
	uint64_t va, count;
	unsigned regime, el2;
	bool others;

	if (r == NULL)
		return (ENOENT);
	others = r->shareable || (pe->el < 2 && (pe_hcr(pe) & HCR_FB) != 0);
	/* Only EL2 gets here with TGE set. */
	regime = mmu_regime_of(pe, pe_in_host(pe, 0) ? 2 : 1);
	el2 = mmu_regime_of(pe, 2);
	va = (uint64_t)((int64_t)(xt << 20) >> 8);
	switch (r->kind) {
	case K_VA:
		pages(pe, r, regime, key_asid(pe, regime, xt), va, 1, others);
		break;
	case K_VA_EL2:
		pages(pe, r, el2, MMU_ANY_ASID, va, 1, others);
		break;
	case K_RANGE:
		count = range(xt, &va);
		pages(pe, r, regime, key_asid(pe, regime, xt), va, count, others);
		break;
	case K_ASID:
		m.op = CLUSTER_TLBI_ASID;
		m.regime = (uint8_t)regime;
		m.vmid = regime == REGIME_EL10 ? key_vmid(pe) : 0;
		m.asid = key_asid(pe, regime, xt);
		mmu_flush_asid(pe, m.vmid, regime, m.asid);
		if (others)
			cluster_post(pe, &m);
		break;
	case K_VMID:
		m.op = CLUSTER_TLBI_VMID;
		m.vmid = r->op1 == 4 || regime == REGIME_EL10 ? key_vmid(pe) : 0;
		mmu_flush_vmid(pe, m.vmid);
		if (others)
			cluster_post(pe, &m);
		break;
	default:
		all(pe, others);
		break;
	}
	return (0);
}
