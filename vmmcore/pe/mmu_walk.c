/*
 * Translation table walks: stage 1 of the EL1&0, EL2 and EL2&0 regimes, stage 2, and
 * their combination (DDI 0487, D8; AArch64.TranslateAddress).
 *
 * All granules, access flag and dirty state by hardware when the registers ask
 * for them. Every table read goes through the pins; a table where nothing
 * answers is an external abort on the walk, never a host fault.
 */
#include "pe/except.h"
#include "pe/mmu.h"

#define DESC_VALID BIT(0)
#define DESC_TABLE BIT(1)
#define DESC_AF BIT(10)
#define DESC_NG BIT(11)
#define DESC_GP BIT(50)
#define DESC_DBM BIT(51)
#define DESC_PXN BIT(53)
#define DESC_UXN BIT(54)

#define TCR_EPD0 BIT(7)
#define TCR_A1 BIT(22)
#define TCR_EPD1 BIT(23)
#define TCR_TBI0 BIT(37)
#define TCR_TBI1 BIT(38)
#define TCR_HA BIT(39)
#define TCR_HD BIT(40)
#define TCR_TBID0 BIT(51)
#define TCR_TBID1 BIT(52)
#define TCR_EL2_TBI BIT(20)
#define TCR_EL2_TBID BIT(29)
#define TCR_HPD0 BIT(41)
#define TCR_HPD1 BIT(42)
#define TCR_E0PD0 BIT(55)
#define TCR_E0PD1 BIT(56)

static const uint8_t pa_bits[8] = { 32, 36, 40, 42, 44, 48, 48, 48 };

/* One table walk: where it starts and what it found. */
struct walk {
	uint64_t table;      /* address of the next table */
	unsigned grain;      /* log2 of the page size */
	unsigned level;      /* of the next lookup */
	unsigned outbits;    /* output addresses beyond are address size faults */
	unsigned first_bits; /* index bits of the first lookup */
	uint64_t desc;
	char *desc_host;
	uint64_t desc_addr;
	unsigned shift; /* of the leaf */
	bool ap_table_ro, ap_table_noel0, uxn_table, pxn_table;
};

static int
fault(struct mmu_fault *f, unsigned type, unsigned level, bool stage2, bool s1ptw, uint64_t ipa)
{
	f->fsc =
	    (uint8_t)(type < FSC_ALIGNMENT && type != FSC_EXTERNAL ? type | (level & 3) : type);
	f->stage2 = stage2;
	f->s1ptw = s1ptw;
	f->ipa = ipa;
	f->write = false;
	return (-1);
}

static uint64_t
grain_mask(unsigned grain)
{
	return (GENMASK(47, grain));
}

/* An atomic that could read is stopped as a write. */
static int
denied(struct mmu_fault *f, unsigned level, bool stage2, bool s1ptw, uint64_t ipa, unsigned need,
    unsigned prot)
{
	(void)fault(f, FSC_PERMISSION, level, stage2, s1ptw, ipa);
	f->write = need == (PE_PROT_READ | PE_PROT_WRITE) && (prot & PE_PROT_READ) != 0;
	return (-1);
}

/*
 * Host address of the descriptor at stage-1 table address `addr`: through
 * stage 2 when it is on.
 */
static char *
s1_table_entry(struct pe *pe, uint64_t addr, bool stage2, struct mmu_fault *f, unsigned level)
{
	struct s2cache *c;
	struct mmu_xlat x;
	char *host;

	if (stage2) {
		c = &pe->mmu->s2[(addr >> 12) & (S2CACHE_SIZE - 1)];
		if (c->ipa == (addr & ~UINT64_C(0xfff)) && c->vmid == mmu_vmid(pe))
			return (c->host + (addr & 0xfff));
		if (mmu_stage2(pe, addr, 1, ACC_READ, true, &x, f) != 0)
			return (NULL);
		if (x.host == NULL) {
			fault(f, FSC_EXTERNAL_WALK, level, false, false, addr);
			return (NULL);
		}
		c->ipa = addr & ~UINT64_C(0xfff);
		c->vmid = mmu_vmid(pe);
		c->host = x.host - (addr & 0xfff);
		return (x.host);
	}
	host = pe->pins.pa2hva(pe->pins.ctx, addr, 8, PE_PROT_READ);
	if (host == NULL)
		fault(f, FSC_EXTERNAL_WALK, level, false, false, addr);
	return (host);
}

/*
 * Set bits of a descriptor as hardware does: only if it is still what was
 * read. 0: done, 1: walk again, -1: fault in *f.
 */
static int
update_desc(struct pe *pe, struct walk *w, uint64_t desc, bool via_stage2, struct mmu_fault *f)
{
	struct mmu_xlat x;
	uint64_t old = w->desc;
	char *p = w->desc_host;

	if (via_stage2) {
		if (mmu_stage2(pe, w->desc_addr, 1, ACC_READ | ACC_WRITE, true, &x, f) != 0) {
			f->write = true;
			return (-1);
		}
		p = x.host;
	} else
		p = pe->pins.pa2hva(pe->pins.ctx, w->desc_addr, 8, PE_PROT_WRITE);
	if (p == NULL)
		return (fault(f, FSC_EXTERNAL_WALK, w->level, false, false, w->desc_addr));
	if (!__atomic_compare_exchange_n(
		(uint64_t *)(void *)p, &old, desc, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return (1);
	w->desc = desc;
	return (0);
}

/*
 * Follow tables from w->table to a leaf for `addr`. The caller has filled
 * grain, level, table, outbits and first_bits.
 */
static int
walk_tables(struct pe *pe, struct walk *w, uint64_t addr, unsigned stage, bool via_stage2, bool hpd,
    uint64_t ipa, bool s1ptw, struct mmu_fault *f)
{
	unsigned stride = w->grain - 3, bits = w->first_bits;
	unsigned el2stage = stage == 2;

	for (;; w->level++) {
		unsigned shift = w->grain + stride * (3 - w->level);
		uint64_t idx = (addr >> shift) & ((UINT64_C(1) << bits) - 1);
		char *p;

		w->shift = shift;
		w->desc_addr = w->table + idx * 8;
		if (stage == 1)
			p = s1_table_entry(pe, w->desc_addr, via_stage2, f, w->level);
		else {
			p = pe->pins.pa2hva(pe->pins.ctx, w->desc_addr, 8, PE_PROT_READ);
			if (p == NULL)
				fault(f, FSC_EXTERNAL_WALK, w->level, true, s1ptw, ipa);
		}
		if (p == NULL)
			return (-1);
		w->desc_host = p;
		w->desc = __atomic_load_n((uint64_t *)(void *)p, __ATOMIC_ACQUIRE);
		if ((w->desc & DESC_VALID) == 0)
			return (fault(f, FSC_TRANSLATION, w->level, el2stage, s1ptw, ipa));
		if (w->level == 3) {
			if ((w->desc & DESC_TABLE) == 0)
				return (fault(f, FSC_TRANSLATION, 3, el2stage, s1ptw, ipa));
			break;
		}
		if ((w->desc & DESC_TABLE) == 0) {
			/* Blocks: level 1 and 2 with 4K, level 2 with 16K and 64K. */
			if (w->level == 0 || (w->level == 1 && w->grain != 12))
				return (fault(f, FSC_TRANSLATION, w->level, el2stage, s1ptw, ipa));
			break;
		}
		w->table = w->desc & grain_mask(w->grain);
		if ((w->table >> w->outbits) != 0)
			return (fault(f, FSC_ADDR_SIZE, w->level, el2stage, s1ptw, ipa));
		if (stage == 1 && !hpd) {
			w->ap_table_ro |= (w->desc & BIT(62)) != 0;
			w->ap_table_noel0 |= (w->desc & BIT(61)) != 0;
			w->uxn_table |= (w->desc & BIT(60)) != 0;
			w->pxn_table |= (w->desc & BIT(59)) != 0;
		}
		bits = stride;
	}
	if (((w->desc & GENMASK(47, w->shift)) >> w->outbits) != 0)
		return (fault(f, FSC_ADDR_SIZE, w->level, el2stage, s1ptw, ipa));
	return (0);
}

/* -- stage 2 ----------------------------------------------------------------- */

static int
stage2_setup(const struct pe *pe, uint64_t ipa, struct walk *w, struct mmu_fault *f, bool s1ptw)
{
	uint64_t vtcr = pe->sr[SR_VTCR_EL2];
	unsigned tsz = (unsigned)FIELD(vtcr, 0, 6), sl0 = (unsigned)FIELD(vtcr, 6, 2);
	unsigned stride, inbits;

	memset(w, 0, sizeof(*w));
	switch (FIELD(vtcr, 14, 2)) {
	case 1:
		w->grain = 16;
		w->level = 3 - sl0;
		break;
	case 2:
		w->grain = 14;
		w->level = 3 - sl0;
		break;
	default:
		w->grain = 12;
		w->level = 2 - sl0;
		break;
	}
	stride = w->grain - 3;
	inbits = 64 - tsz;
	w->outbits = pa_bits[FIELD(vtcr, 16, 3)];
	/* Reserved start levels and input sizes, and sizes that the level cannot cover. */
	if (tsz < 16 || tsz > 39 || w->level > 3 || (w->level == 0 && w->grain == 14) ||
	    inbits <= w->grain + stride * (3 - w->level) ||
	    inbits > w->grain + stride * (4 - w->level) + 4)
		return (fault(f, FSC_TRANSLATION, 0, true, s1ptw, ipa));
	if ((ipa >> inbits) != 0)
		return (fault(f, FSC_TRANSLATION, 0, true, s1ptw, ipa));
	w->first_bits = inbits - (w->grain + stride * (3 - w->level));
	w->table = pe->sr[SR_VTTBR_EL2] & GENMASK(47, 1);
	/* Concatenated tables are aligned to their whole size. */
	w->table &= ~((UINT64_C(8) << w->first_bits) - 1);
	if ((w->table >> w->outbits) != 0)
		return (fault(f, FSC_ADDR_SIZE, 0, true, s1ptw, ipa));
	return (0);
}

/* What stage 2 lets `el` do: S2AP and XN[1:0] (D8.4.2). */
static unsigned
stage2_prot(const struct pe *pe, uint64_t desc, unsigned el)
{
	unsigned prot = 0;

	if ((desc & BIT(6)) != 0)
		prot |= PE_PROT_READ;
	if ((desc & BIT(7)) != 0)
		prot |= PE_PROT_WRITE;
	switch (FIELD(desc, 53, 2)) {
	case 0:
		prot |= PE_PROT_EXEC;
		break;
	case 1:
		if (!pe_has(pe, PE_FEAT_XNX) || el == 0)
			prot |= PE_PROT_EXEC;
		break;
	case 3:
		if (pe_has(pe, PE_FEAT_XNX) && el == 1)
			prot |= PE_PROT_EXEC;
		break;
	default:
		break;
	}
	return (prot);
}

/* MemAttr[3:0] of stage 2 as a MAIR byte (D8.6.6). */
static uint8_t
stage2_attr(uint64_t desc)
{
	static const uint8_t cache[4] = { 0, 0x4, 0xb, 0xf };
	unsigned outer = (unsigned)FIELD(desc, 4, 2), inner = (unsigned)FIELD(desc, 2, 2);

	if (outer == 0)
		return ((uint8_t)(inner << 2));
	return ((uint8_t)((cache[outer] << 4) | cache[inner]));
}

static inline bool
is_device(uint8_t attr)
{
	return ((attr & 0xf0) == 0);
}

/*
 * What an access needs. Cache maintenance needs nothing, but DC IVAC write
 * permission (ACC_WRITE), and at EL0 all of it read permission.
 */
static unsigned
need_of(unsigned acc, unsigned el)
{
	if ((acc & ACC_CM) != 0)
		return ((acc & ACC_WRITE) != 0 ? PE_PROT_WRITE : el == 0 ? PE_PROT_READ : 0);
	if ((acc & ACC_FETCH) != 0)
		return (PE_PROT_EXEC);
	if ((acc & ACC_ATOMIC) != 0)
		return (PE_PROT_READ | PE_PROT_WRITE);
	if ((acc & ACC_WRITE) != 0)
		return (PE_PROT_WRITE);
	return (PE_PROT_READ);
}

/* Does it make a page dirty? */
static inline bool
dirties(unsigned acc)
{
	return ((acc & (ACC_WRITE | ACC_ATOMIC)) != 0 && (acc & (ACC_CM | ACC_AT)) == 0);
}

int
mmu_stage2(struct pe *pe, uint64_t ipa, unsigned el, unsigned acc, bool walk, struct mmu_xlat *x,
    struct mmu_fault *f)
{
	uint64_t vtcr = pe->sr[SR_VTCR_EL2], desc;
	struct walk w;
	unsigned prot, need = need_of(acc, el) | (walk ? PE_PROT_READ : 0);
	bool ha = (vtcr & BIT(21)) != 0 && pe_has(pe, PE_FEAT_HAFDBS);
	uint64_t key = (ipa >> 21) << 32 | (uint64_t)mmu_vmid(pe) << 4 | el << 1 | 1;
	struct s2block *c = &pe->mmu->s2block[(ipa >> 21) & (S2BLOCK_SIZE - 1)];
	int r;

	if (c->key == key && c->vtcr == vtcr && !walk && (ipa >> 48) == 0 &&
	    (c->prot & need) == need && !(c->device && (acc & ACC_ODD) != 0)) {
		x->ipa = ipa;
		x->pa = c->pa | (ipa & 0x1fffff);
		x->prot = c->prot;
		x->attr = c->attr;
		x->sh = c->sh;
		x->device = c->device;
		x->cacheable = c->cacheable;
		x->log2 = c->log2;
		x->host = pe->pins.pa2hva(pe->pins.ctx, x->pa, 1,
		    (acc & (ACC_WRITE | ACC_ATOMIC)) != 0 ? PE_PROT_READ | PE_PROT_WRITE
							  : PE_PROT_READ);
		return (0);
	}
again:
	if (stage2_setup(pe, ipa, &w, f, walk) != 0)
		return (-1);
	if (walk_tables(pe, &w, ipa, 2, false, true, ipa, walk, f) != 0)
		return (-1);

	/* In the order of AArch64.S2Walk() and S2Translate(). */
	desc = w.desc;
	if ((desc & DESC_AF) == 0) {
		if (!ha)
			return (fault(f, FSC_ACCESS, w.level, true, walk, ipa));
		desc |= DESC_AF;
	}
	x->attr = stage2_attr(desc);
	x->device = is_device(x->attr);
	if (x->device && (acc & ACC_ODD) != 0)
		return (fault(f, FSC_ALIGNMENT, 0, true, walk, ipa));
	/* A walk may not go through Device memory when HCR_EL2.PTW is set. */
	if (walk && x->device && (pe->sr[SR_HCR_EL2] & (HCR_PTW | HCR_TGE)) == HCR_PTW)
		return (fault(f, FSC_PERMISSION, w.level, true, true, ipa));
	prot = stage2_prot(pe, desc, el);
	/* DBM: not writable now means clean, not forbidden. */
	if (ha && (vtcr & BIT(22)) != 0 && (desc & DESC_DBM) != 0) {
		prot |= PE_PROT_WRITE;
		if (dirties(acc))
			desc |= BIT(7);
	}
	if ((prot & need) != need)
		return (denied(f, w.level, true, walk, ipa, need, prot));
	if (desc != w.desc) {
		r = update_desc(pe, &w, desc, false, f);
		if (r < 0) {
			f->stage2 = true;
			f->s1ptw = walk;
			f->ipa = ipa;
			return (-1);
		}
		if (r > 0)
			goto again;
	}
	x->ipa = ipa;
	x->pa = (desc & GENMASK(47, w.shift)) | (ipa & ((UINT64_C(1) << w.shift) - 1));
	x->prot = (uint8_t)prot;
	x->sh = (uint8_t)FIELD(desc, 8, 2);
	x->cacheable = !x->device && (x->attr & 0x0f) != 0x4;
	x->log2 = (uint8_t)w.shift;
	/* A clean block does not stay here: its first write shall be seen. */
	if (x->log2 >= 21 && !walk && ((prot & PE_PROT_WRITE) == 0 || (desc & BIT(7)) != 0)) {
		c->key = key;
		c->vtcr = vtcr;
		c->pa = x->pa & ~UINT64_C(0x1fffff);
		c->prot = x->prot;
		c->attr = x->attr;
		c->sh = x->sh;
		c->log2 = x->log2;
		c->device = x->device;
		c->cacheable = x->cacheable;
	}
	x->host = pe->pins.pa2hva(pe->pins.ctx, x->pa, 1,
	    (need & PE_PROT_WRITE) != 0 ? PE_PROT_READ | PE_PROT_WRITE : PE_PROT_READ);
	return (0);
}

/* -- stage 1 ----------------------------------------------------------------- */

unsigned
mmu_regime_of(const struct pe *pe, unsigned el)
{
	if (pe_in_host(pe, el))
		return (REGIME_EL20);
	return (el == 2 ? REGIME_EL2 : REGIME_EL10);
}

/* The registers of a regime. */
struct s1_regs {
	uint64_t sctlr, tcr, mair;
	uint16_t ttbr[2]; /* SR_*, by half */
	bool two;         /* an upper and a lower half, and EL0 in it */
};

static inline void
s1_regs(const struct pe *pe, unsigned regime, struct s1_regs *r)
{
	bool el2 = regime != REGIME_EL10;

	r->two = regime != REGIME_EL2;
	r->sctlr = pe->sr[el2 ? SR_SCTLR_EL2 : SR_SCTLR_EL1];
	r->tcr = pe->sr[el2 ? SR_TCR_EL2 : SR_TCR_EL1];
	r->mair = pe->sr[el2 ? SR_MAIR_EL2 : SR_MAIR_EL1];
	r->ttbr[0] = el2 ? SR_TTBR0_EL2 : SR_TTBR0_EL1;
	r->ttbr[1] = el2 ? SR_TTBR1_EL2 : SR_TTBR1_EL1;
}

/* The half of the address space a VA is in and what TCR says of it. */
struct half {
	uint64_t ttbr;
	unsigned tsz, grain;
	bool tbi, epd, hpd, e0pd;
};

/* TBID takes tags away from instructions; it came with FEAT_PAuth. */
static bool
tag_ignored(const struct pe *pe, uint64_t tcr, uint64_t tbi, uint64_t tbid, bool fetch)
{
	return ((tcr & tbi) != 0 && !(fetch && (tcr & tbid) != 0 && pe_has(pe, PE_FEAT_PAuth)));
}

static void
one_of_two(const struct pe *pe, const struct s1_regs *regs, bool high, bool fetch, struct half *h)
{
	static const uint8_t tg0[4] = { 12, 16, 14, 12 }, tg1[4] = { 12, 14, 12, 16 };
	uint64_t tcr = regs->tcr;

	h->ttbr = pe->sr[regs->ttbr[high]];
	if (high) {
		h->tsz = (unsigned)FIELD(tcr, 16, 6);
		h->grain = tg1[FIELD(tcr, 30, 2)];
		h->tbi = tag_ignored(pe, tcr, TCR_TBI1, TCR_TBID1, fetch);
		h->epd = (tcr & TCR_EPD1) != 0;
		h->hpd = (tcr & TCR_HPD1) != 0;
		h->e0pd = (tcr & TCR_E0PD1) != 0 && pe_has(pe, PE_FEAT_E0PD);
	} else {
		h->tsz = (unsigned)FIELD(tcr, 0, 6);
		h->grain = tg0[FIELD(tcr, 14, 2)];
		h->tbi = tag_ignored(pe, tcr, TCR_TBI0, TCR_TBID0, fetch);
		h->epd = (tcr & TCR_EPD0) != 0;
		h->hpd = (tcr & TCR_HPD0) != 0;
		h->e0pd = (tcr & TCR_E0PD0) != 0 && pe_has(pe, PE_FEAT_E0PD);
	}
}

static void
whole(const struct pe *pe, bool fetch, struct half *h)
{
	static const uint8_t tg0[4] = { 12, 16, 14, 12 };
	uint64_t tcr = pe->sr[SR_TCR_EL2];

	h->ttbr = pe->sr[SR_TTBR0_EL2];
	h->tsz = (unsigned)FIELD(tcr, 0, 6);
	h->grain = tg0[FIELD(tcr, 14, 2)];
	h->tbi = tag_ignored(pe, tcr, TCR_EL2_TBI, TCR_EL2_TBID, fetch);
	h->epd = false;
	h->hpd = (tcr & BIT(24)) != 0;
	h->e0pd = false;
}

void
mmu_regime(const struct pe *pe, struct mmu_regime *r)
{
	struct s1_regs regs;
	uint64_t tcr;

	s1_regs(pe, mmu_regime_of(pe, pe->el), &regs);
	tcr = regs.tcr;
	memset(r, 0, sizeof(*r));
	r->t0sz = (uint8_t)FIELD(tcr, 0, 6);
	if (!regs.two) {
		r->tbi0 = (tcr & TCR_EL2_TBI) != 0;
		r->tbid0 = (tcr & TCR_EL2_TBID) != 0;
		return;
	}
	r->two = true;
	r->t1sz = (uint8_t)FIELD(tcr, 16, 6);
	r->tbi0 = (tcr & TCR_TBI0) != 0;
	r->tbi1 = (tcr & TCR_TBI1) != 0;
	r->tbid0 = (tcr & TCR_TBID0) != 0;
	r->tbid1 = (tcr & TCR_TBID1) != 0;
}

uint64_t
mmu_untag(const struct pe *pe, uint64_t va, bool fetch)
{
	unsigned regime = mmu_regime_of(pe, pe->el);
	uint64_t tcr = pe->sr[regime == REGIME_EL10 ? SR_TCR_EL1 : SR_TCR_EL2];
	bool high = (va & BIT(55)) != 0, tbi;

	if (regime == REGIME_EL2) {
		tbi = tag_ignored(pe, tcr, TCR_EL2_TBI, TCR_EL2_TBID, fetch);
		high = false;
	} else
		tbi = tag_ignored(
		    pe, tcr, high ? TCR_TBI1 : TCR_TBI0, high ? TCR_TBID1 : TCR_TBID0, fetch);
	if (!tbi)
		return (va);
	return (high ? va | GENMASK(63, 56) : va & GENMASK(55, 0));
}

/* Permissions of a stage-1 leaf for one level (D8.4.1). */
static unsigned
stage1_prot(const struct pe *pe, const struct mmu_req *rq, const struct walk *w, uint64_t desc,
    uint64_t sctlr)
{
	bool el0 = (desc & BIT(6)) != 0 && !w->ap_table_noel0;
	bool ro = (desc & BIT(7)) != 0 || w->ap_table_ro;
	bool uxn = (desc & DESC_UXN) != 0 || w->uxn_table;
	bool pxn = (desc & DESC_PXN) != 0 || w->pxn_table;
	bool wxn = (sctlr & SCTLR_WXN) != 0;
	unsigned prot = 0;

	if (rq->regime == REGIME_EL2) {
		prot = PE_PROT_READ | (ro ? 0 : PE_PROT_WRITE);
		if (!uxn && !(wxn && !ro))
			prot |= PE_PROT_EXEC;
		return (prot);
	}
	if (rq->el == 0) {
		if (el0)
			prot = PE_PROT_READ | (ro ? 0 : PE_PROT_WRITE);
		if (!uxn && !(wxn && (prot & PE_PROT_WRITE) != 0))
			prot |= PE_PROT_EXEC;
		return (prot);
	}
	prot = PE_PROT_READ | (ro ? 0 : PE_PROT_WRITE);
	/* What EL0 may write, the level above may not execute. */
	if (!pxn && !(wxn && !ro) && !(el0 && !ro))
		prot |= PE_PROT_EXEC;
	if (rq->pan && (el0 || ((sctlr & SCTLR_EPAN) != 0 && !uxn && pe_has(pe, PE_FEAT_EPAN))))
		prot &= ~(unsigned)(PE_PROT_READ | PE_PROT_WRITE);
	return (prot);
}

/* Stage 1 switched off: flat, with the attributes of D8.2.10. */
static int
stage1_off(const struct pe *pe, const struct mmu_req *rq, uint64_t va, struct mmu_xlat *x,
    struct mmu_fault *f)
{
	uint64_t sctlr = pe->sr[rq->regime == REGIME_EL10 ? SR_SCTLR_EL1 : SR_SCTLR_EL2];

	if ((va >> 48) != 0)
		return (fault(f, FSC_ADDR_SIZE, 0, false, false, 0));
	x->ipa = va;
	x->prot = PE_PROT_READ | PE_PROT_WRITE | PE_PROT_EXEC;
	x->log2 = 12;
	x->guarded = false;
	x->global = true;
	if (rq->regime == REGIME_EL10 && (pe->sr[SR_HCR_EL2] & HCR_DC) != 0) {
		x->attr = 0xff;
		x->device = false;
		x->cacheable = true;
		x->sh = 0;
	} else if ((rq->acc & ACC_FETCH) != 0) {
		x->cacheable = (sctlr & SCTLR_I) != 0;
		x->attr = x->cacheable ? 0xaa : 0x44;
		x->device = false;
		x->sh = 2;
	} else {
		if ((rq->acc & ACC_ODD) != 0)
			return (fault(f, FSC_ALIGNMENT, 0, false, false, 0));
		x->attr = 0;
		x->device = true;
		x->cacheable = false;
		x->sh = 2;
	}
	return (0);
}

static int
stage1(
    struct pe *pe, const struct mmu_req *rq, bool stage2, struct mmu_xlat *x, struct mmu_fault *f)
{
	uint64_t va = rq->va, ext, desc, perm, sctlr, tcr, key;
	bool high = (va & BIT(55)) != 0, fetch = (rq->acc & ACC_FETCH) != 0, ha, hd;
	unsigned inbits, stride, prot, need;
	struct s1_regs regs;
	struct half h;
	struct walk w;
	struct s1walk *c;
	int r;

	s1_regs(pe, rq->regime, &regs);
	sctlr = regs.sctlr;
	tcr = regs.tcr;
	if (regs.two)
		one_of_two(pe, &regs, high, fetch, &h);
	else
		whole(pe, fetch, &h);
	if (h.tbi)
		va = high ? va | GENMASK(63, 56) : va & GENMASK(55, 0);
	if ((sctlr & SCTLR_M) == 0 ||
	    (rq->regime == REGIME_EL10 && (pe->sr[SR_HCR_EL2] & HCR_DC) != 0) ||
	    (rq->regime == REGIME_EL10 && (pe->sr[SR_HCR_EL2] & (HCR_E2H | HCR_TGE)) == HCR_TGE))
		return (stage1_off(pe, rq, va, x, f));

	if (!regs.two) {
		ha = (tcr & BIT(21)) != 0;
		hd = (tcr & BIT(22)) != 0;
		high = false;
	} else {
		ha = (tcr & TCR_HA) != 0;
		hd = (tcr & TCR_HD) != 0;
	}
	ha = ha && pe_has(pe, PE_FEAT_HAFDBS);
	hd = hd && ha;

again:
	if (h.tsz < 16 || h.tsz > 39 || h.epd || (h.e0pd && rq->el == 0))
		return (fault(f, FSC_TRANSLATION, 0, false, false, 0));
	inbits = 64 - h.tsz;
	ext = high ? ~UINT64_C(0) : 0;
	if ((va >> inbits) != (ext >> inbits))
		return (fault(f, FSC_TRANSLATION, 0, false, false, 0));
	memset(&w, 0, sizeof(w));
	w.grain = h.grain;
	stride = h.grain - 3;
	w.level = 4 - (inbits - h.grain + stride - 1) / stride;
	w.first_bits = inbits - (h.grain + stride * (3 - w.level));
	w.outbits = pa_bits[regs.two ? FIELD(tcr, 32, 3) : FIELD(tcr, 16, 3)];
	w.table = h.ttbr & GENMASK(47, 1);
	w.table &= ~((UINT64_C(8) << w.first_bits) - 1);
	if ((w.table >> w.outbits) != 0)
		return (fault(f, FSC_ADDR_SIZE, 0, false, false, 0));
	c = &pe->mmu->s1walk[(va >> 21) & (S1WALK_SIZE - 1)];
	key = (va >> 21) | (uint64_t)rq->regime << 62;
	if (regs.two && h.grain == 12 && c->key == key && c->ttbr == h.ttbr && c->tcr == tcr &&
	    (!stage2 || c->vmid == mmu_vmid(pe))) {
		w.level = 3;
		w.first_bits = 9;
		w.table = c->table;
		w.ap_table_ro = c->ap_table_ro;
		w.ap_table_noel0 = c->ap_table_noel0;
		w.uxn_table = c->uxn_table;
		w.pxn_table = c->pxn_table;
	}
	if (walk_tables(pe, &w, va, 1, stage2, h.hpd, 0, false, f) != 0)
		return (-1);
	if (regs.two && h.grain == 12 && w.level == 3) {
		c->key = key;
		c->ttbr = h.ttbr;
		c->tcr = tcr;
		c->vmid = mmu_vmid(pe);
		c->table = w.table;
		c->ap_table_ro = w.ap_table_ro;
		c->ap_table_noel0 = w.ap_table_noel0;
		c->uxn_table = w.uxn_table;
		c->pxn_table = w.pxn_table;
	}

	desc = w.desc;
	if ((desc & DESC_AF) == 0) {
		if (!ha)
			return (fault(f, FSC_ACCESS, w.level, false, false, 0));
		desc |= DESC_AF;
	}
	/* In the order of AArch64.S1Translate(). */
	x->attr = (uint8_t)(regs.mair >> (8 * FIELD(desc, 2, 3)));
	x->device = is_device(x->attr);
	if (x->device && (rq->acc & ACC_ODD) != 0)
		return (fault(f, FSC_ALIGNMENT, 0, false, false, 0));
	/* DBM: read-only now means clean, not forbidden. */
	perm = hd && (desc & DESC_DBM) != 0 ? desc & ~BIT(7) : desc;
	need = need_of(rq->acc, rq->el);
	prot = stage1_prot(pe, rq, &w, perm, sctlr);
	if ((prot & need) != need)
		return (denied(f, w.level, false, false, 0, need, prot));
	if (dirties(rq->acc))
		desc = perm;
	if (desc != w.desc) {
		r = update_desc(pe, &w, desc, stage2, f);
		if (r < 0)
			return (-1);
		if (r > 0)
			goto again;
	}
	x->ipa = (desc & GENMASK(47, w.shift)) | (va & ((UINT64_C(1) << w.shift) - 1));
	x->prot = (uint8_t)prot;
	x->sh = (uint8_t)FIELD(desc, 8, 2);
	x->cacheable = !x->device && (x->attr & 0x0f) != 0x4;
	if ((rq->acc & ACC_FETCH) != 0 && (sctlr & SCTLR_I) == 0)
		x->cacheable = false;
	x->log2 = (uint8_t)w.shift;
	x->global = !regs.two || (desc & DESC_NG) == 0;
	x->guarded = (desc & DESC_GP) != 0 && pe_has(pe, PE_FEAT_BTI);
	return (0);
}

/* One of the two cacheability fields: stage 2 may weaken it, the hints stay. */
static unsigned
combine_cache(unsigned s1, unsigned s2)
{
	if (s1 == 4 || s2 == 4)
		return (4);                     /* Non-cacheable */
	return ((s2 & 4) == 0 ? s1 & ~4u : s1); /* Write-Through, Write-Back */
}

/* S2CombineS1MemAttrs() on attribute bytes (D8.6.6). */
static uint8_t
combine_attr(uint8_t a, uint8_t b)
{
	if (is_device(a) || is_device(b)) {
		if (is_device(a) && is_device(b))
			return (a < b ? a : b);
		return (is_device(a) ? a : b);
	}
	return ((uint8_t)(combine_cache(a >> 4, b >> 4) << 4 | combine_cache(a & 15, b & 15)));
}

/* The wider of two shareabilities: 2 outer, 3 inner, 0 not. */
static uint8_t
combine_sh(uint8_t a, uint8_t b)
{
	return (a == 2 || b == 2 ? 2 : a == 3 || b == 3 ? 3 : 0);
}

int
mmu_translate(struct pe *pe, const struct mmu_req *rq, struct mmu_xlat *x, struct mmu_fault *f)
{
	bool stage2 = rq->regime == REGIME_EL10 && (pe->sr[SR_HCR_EL2] & (HCR_VM | HCR_DC)) != 0;
	struct mmu_xlat s2;
	unsigned el = rq->el;

	memset(f, 0, sizeof(*f));
	if (stage1(pe, rq, stage2, x, f) != 0)
		return (-1);
	if (!stage2 || rq->s1_only) {
		x->pa = x->ipa;
		if (!rq->s1_only)
			x->host = pe->pins.pa2hva(pe->pins.ctx, x->pa, 1,
			    (rq->acc & (ACC_WRITE | ACC_ATOMIC)) != 0 ? PE_PROT_READ | PE_PROT_WRITE
								      : PE_PROT_READ);
		return (0);
	}
	if (mmu_stage2(pe, x->ipa, el, rq->acc, false, &s2, f) != 0)
		return (-1);
	x->pa = s2.pa;
	x->host = s2.host;
	x->prot &= s2.prot;
	x->attr = combine_attr(x->attr, s2.attr);
	x->sh = combine_sh(x->sh, s2.sh);
	x->device = x->device || s2.device;
	x->cacheable = x->cacheable && s2.cacheable;
	if (s2.log2 < x->log2)
		x->log2 = s2.log2;
	return (0);
}
