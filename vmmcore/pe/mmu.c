/*
 * Translation contexts and the slow paths of memory accesses: what happens
 * when a TLB lookup misses.
 *
 * A context is the set of TLBs of one ASID, VMID and register configuration.
 * Several live side by side, so that a switch of TTBR0 or of the VM is a
 * pointer swap; the key holds every register bit a cached translation depends
 * on. TLBs hold only Normal memory: Device memory takes the slow path each
 * time, where its alignment is checked. Walks are in mmu_walk.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pe/codecache.h"
#include "pe/debug.h"
#include "pe/except.h"
#include "pe/mmu.h"
#include "pe/strict.h"

#define PAGE UINT64_C(4096)
#define PAGE_OFF(va) ((va) & (PAGE - 1))
#define HALF(va) ((unsigned)((va) >> 55) & 1)

/* Bits of the registers that a cached translation depends on. */
#define KEY_SCTLR (SCTLR_M | SCTLR_WXN | SCTLR_I | SCTLR_EPAN)
#define KEY_HCR (HCR_VM | HCR_DC | HCR_TGE | HCR_PTW)

/* -- contexts ------------------------------------------------------------------ */

int
mmu_create(struct pe *pe)
{
	pe->mmu = calloc(1, sizeof(*pe->mmu));
	if (pe->mmu == NULL)
		return (ENOMEM);
	mmu_flush_all(pe);
	return (0);
}

void
mmu_destroy(struct pe *pe)
{
	free(pe->mmu);
	pe->mmu = NULL;
}

uint32_t
mmu_vmid(const struct pe *pe)
{
	bool wide = (pe->sr[SR_VTCR_EL2] & BIT(19)) != 0 && pe->cfg.vmid_bits == 16;

	return ((uint32_t)FIELD(pe->sr[SR_VTTBR_EL2], 48, wide ? 16 : 8));
}

/* The ASID of a regime with two halves. */
static uint32_t
current_asid(const struct pe *pe, uint64_t tcr, unsigned ttbr0, unsigned ttbr1)
{
	uint64_t ttbr = pe->sr[(tcr & BIT(22)) != 0 ? ttbr1 : ttbr0];

	return ((uint32_t)FIELD(ttbr, 48, (tcr & BIT(36)) != 0 ? 16 : 8));
}

static void
make_key(const struct pe *pe, struct mmu_key *k)
{
	memset(k, 0, sizeof(*k));
	k->regime = mmu_regime_of(pe, pe->el);
	if (k->regime != REGIME_EL10) {
		k->sctlr = pe->sr[SR_SCTLR_EL2] & KEY_SCTLR;
		k->align = (pe->sr[SR_SCTLR_EL2] & SCTLR_A) != 0;
		k->tcr = pe->sr[SR_TCR_EL2];
		k->mair = pe->sr[SR_MAIR_EL2];
		if (k->regime == REGIME_EL20 && (k->sctlr & SCTLR_M) != 0)
			k->asid = current_asid(pe, k->tcr, SR_TTBR0_EL2, SR_TTBR1_EL2);
		return;
	}
	k->hcr = pe->sr[SR_HCR_EL2] & KEY_HCR;
	k->sctlr = pe->sr[SR_SCTLR_EL1] & KEY_SCTLR;
	k->align = (pe->sr[SR_SCTLR_EL1] & SCTLR_A) != 0;
	k->tcr = pe->sr[SR_TCR_EL1];
	k->mair = pe->sr[SR_MAIR_EL1];
	if ((k->sctlr & SCTLR_M) != 0)
		k->asid = current_asid(pe, k->tcr, SR_TTBR0_EL1, SR_TTBR1_EL1);
	if ((k->hcr & (HCR_VM | HCR_DC)) != 0) {
		k->vtcr = pe->sr[SR_VTCR_EL2];
		k->vmid = mmu_vmid(pe);
	}
}

static void
clear_tlb(struct tlb *t)
{
	if (t->fills <= TLB_FILLS) {
		for (unsigned i = 0; i < t->fills; i++) {
			unsigned e = t->filled[i] & (TLB_FILL_FETCH - 1);

			if ((t->filled[i] & TLB_FILL_FETCH) != 0)
				t->fetch[e].tag = TLB_INVALID;
			else
				t->rd[e].tag = t->wr[e].tag = TLB_INVALID;
		}
		t->fills = 0;
		return;
	}
	t->fills = 0;
	for (unsigned i = 0; i < TLB_SIZE; i++) {
		t->rd[i].tag = TLB_INVALID;
		t->wr[i].tag = TLB_INVALID;
	}
	for (unsigned i = 0; i < FETCH_SIZE; i++)
		t->fetch[i].tag = TLB_INVALID;
}

static void
clear_ctx(struct tlb_ctx *c)
{
	for (unsigned k = 0; k < TLB_KINDS; k++)
		if (c->dirty[k]) {
			clear_tlb(&c->tlb[k]);
			c->dirty[k] = false;
		}
	c->big_lo[0] = c->big_lo[1] = ~UINT64_C(0);
	c->big_hi[0] = c->big_hi[1] = 0;
	c->low_global = false;
}

/* Find or replace the context for the registers as they are. */
static void
choose_ctx(struct pe *pe)
{
	struct mmu *m = pe->mmu;
	struct tlb_ctx *c, *old = NULL;
	struct mmu_key k;

	make_key(pe, &k);
	m->stale = false;
	if (pe->ctx != NULL && memcmp(&pe->ctx->key, &k, sizeof(k)) == 0)
		return;
	pe->count.ctx_switch++;
	pe->levels.ready = false;
	for (unsigned i = 0; i < MMU_CONTEXTS; i++) {
		c = &m->ctx[i];
		if (c->used && memcmp(&c->key, &k, sizeof(k)) == 0) {
			c->stamp = ++m->clock;
			pe->ctx = c;
			return;
		}
		if (old == NULL || (old->used && (!c->used || c->stamp < old->stamp)))
			old = c;
	}
	if (old->used)
		pe->count.ctx_evict++;
	else
		for (unsigned t = 0; t < TLB_KINDS; t++) {
			old->dirty[t] = true;
			old->tlb[t].fills = TLB_FILLS + 1;
		}
	clear_ctx(old);
	old->used = true;
	old->key = k;
	old->stamp = ++m->clock;
	pe->ctx = old;
}

/* Do LDTR and STTR act as at EL0? From EL1, and from a host's EL2 (C3.2.5). */
static inline bool
unpriv_is_el0(const struct pe *pe)
{
	return ((pe->el == 1 || (pe->el == 2 && pe_in_host(pe, 0))) && (pe->pstate & PS_UAO) == 0);
}

void
mmu_select(struct pe *pe)
{
	struct tlb_ctx *c;
	unsigned kind;

	if (pe->mmu->stale || pe->ctx == NULL || pe->ctx->key.regime != mmu_regime_of(pe, pe->el))
		choose_ctx(pe);
	c = pe->ctx;
	if (pe->el == 0)
		kind = TLB_EL0;
	else
		kind = (pe->pstate & PS_PAN) != 0 ? TLB_EL1_PAN : TLB_EL1;
	pe->tlb = &c->tlb[kind];
	c->dirty[kind] = true;
	pe->tlb_unpriv = pe->tlb;
	if (unpriv_is_el0(pe)) {
		pe->tlb_unpriv = &c->tlb[TLB_EL0];
		c->dirty[TLB_EL0] = true;
	}
}

/* -- maintenance on this PE ------------------------------------------------------ */

static void
clear_s2cache(struct pe *pe)
{
	for (unsigned i = 0; i < S2CACHE_SIZE; i++)
		pe->mmu->s2[i].ipa = 1;
	for (unsigned i = 0; i < S2BLOCK_SIZE; i++)
		pe->mmu->s2block[i].key = 0;
}

/* What walks remember of stage-1 tables goes with any TLBI of stage 1. */
static void
clear_s1walk(struct pe *pe)
{
	pe->count.tlb_flush++;
	for (unsigned i = 0; i < S1WALK_SIZE; i++)
		pe->mmu->s1walk[i].key = 0;
}

void
mmu_flush_all(struct pe *pe)
{
	clear_s1walk(pe);
	for (unsigned i = 0; i < MMU_CONTEXTS; i++)
		clear_ctx(&pe->mmu->ctx[i]);
	clear_s2cache(pe);
	if (pe->ctx != NULL)
		mmu_select(pe);
}

void
mmu_flush_vmid(struct pe *pe, uint32_t vmid)
{
	clear_s1walk(pe);
	for (unsigned i = 0; i < MMU_CONTEXTS; i++)
		if (pe->mmu->ctx[i].key.vmid == vmid)
			clear_ctx(&pe->mmu->ctx[i]);
	clear_s2cache(pe);
	if (pe->ctx != NULL)
		mmu_select(pe);
}

void
mmu_flush_asid(struct pe *pe, uint32_t vmid, unsigned regime, uint32_t asid)
{
	clear_s1walk(pe);
	for (unsigned i = 0; i < MMU_CONTEXTS; i++) {
		struct tlb_ctx *c = &pe->mmu->ctx[i];

		if (c->key.vmid == vmid && c->key.asid == asid && c->key.regime == regime)
			clear_ctx(c);
	}
	if (pe->ctx != NULL)
		mmu_select(pe);
}

static void
drop_pages(struct tlb *t, uint64_t page, uint32_t count)
{
	for (; count-- > 0; page += PAGE) {
		unsigned e = (page >> 12) & (TLB_SIZE - 1), f = (page >> 12) & (FETCH_SIZE - 1);

		if (t->rd[e].tag == page)
			t->rd[e].tag = TLB_INVALID;
		if (t->wr[e].tag == page)
			t->wr[e].tag = TLB_INVALID;
		if (t->fetch[f].tag == page)
			t->fetch[f].tag = TLB_INVALID;
	}
}

void
mmu_flush_va(struct pe *pe, const struct mmu_flush *q)
{
	uint64_t page = q->va & ~(PAGE - 1), end = page + (q->pages - 1) * PAGE;
	unsigned half = HALF(page);

	/* Tables are remembered, not what the last of them holds. */
	if (q->last)
		pe->count.tlb_flush++;
	else
		clear_s1walk(pe);
	for (unsigned i = 0; i < MMU_CONTEXTS; i++) {
		struct tlb_ctx *c = &pe->mmu->ctx[i];

		if (!c->used || c->key.regime != q->regime || c->key.vmid != q->vmid)
			continue;
		if (q->asid != MMU_ANY_ASID && c->key.asid != q->asid && half == 0 &&
		    !c->low_global)
			continue;
		if (q->pages > MMU_FLUSH_PAGES ||
		    (page <= c->big_hi[half] && end >= c->big_lo[half])) {
			clear_ctx(c);
			continue;
		}
		for (unsigned k = 0; k < TLB_KINDS; k++)
			if (c->dirty[k])
				drop_pages(&c->tlb[k], page, q->pages);
	}
	if (pe->ctx != NULL)
		mmu_select(pe);
}

void
mmu_drop_page(struct pe *pe, uint64_t page)
{
	unsigned e = (page >> 12) & (TLB_SIZE - 1), f = (page >> 12) & (FETCH_SIZE - 1);

	for (unsigned i = 0; i < MMU_CONTEXTS; i++) {
		for (unsigned k = 0; k < TLB_KINDS; k++) {
			struct tlb *t = &pe->mmu->ctx[i].tlb[k];

			if (t->rd[e].tag == page)
				t->rd[e].tag = TLB_INVALID;
			if (t->wr[e].tag == page)
				t->wr[e].tag = TLB_INVALID;
			if (t->fetch[f].tag == page)
				t->fetch[f].tag = TLB_INVALID;
		}
	}
}

void
mmu_drop_writes(struct pe *pe, uintptr_t host)
{
	for (unsigned i = 0; i < MMU_CONTEXTS; i++) {
		struct tlb_ctx *c = &pe->mmu->ctx[i];

		for (unsigned k = 0; c->used && k < TLB_KINDS; k++)
			for (unsigned e = 0; c->dirty[k] && e < TLB_SIZE; e++)
				if (c->tlb[k].wr[e].tag + c->tlb[k].wr[e].addend == host)
					c->tlb[k].wr[e].tag = TLB_INVALID;
	}
}

void
mmu_flush_fetch(struct pe *pe)
{
	for (unsigned i = 0; i < MMU_CONTEXTS; i++)
		for (unsigned k = 0; k < TLB_KINDS; k++)
			for (unsigned e = 0; e < FETCH_SIZE && pe->mmu->ctx[i].dirty[k]; e++)
				pe->mmu->ctx[i].tlb[k].fetch[e].tag = TLB_INVALID;
}

/* -- faults ------------------------------------------------------------------------ */

/* Who takes the fault, and HPFAR when it is EL2. */
static unsigned
fault_target(struct pe *pe, const struct mmu_fault *f)
{
	if (f->stage2) {
		pe->sr[SR_HPFAR_EL2] = (f->ipa >> 12) << 4;
		return (2);
	}
	if ((f->fsc & 0x3c) == FSC_EXTERNAL || (f->fsc & 0x3c) == FSC_EXTERNAL_WALK)
		if ((pe->sr[SR_HCR_EL2] & HCR_TEA) != 0 && pe->el < 2)
			return (2);
	return (1);
}

/*
 * ESR_ELx.WnR. Cache maintenance counts as a write; an atomic operation as a
 * read unless only its write is forbidden; a walk as the access it is done for,
 * or as a write when it was about to set a flag.
 */
static bool
counts_as_write(unsigned acc, const struct mmu_fault *f)
{
	if ((acc & ACC_CM) != 0 || f->write)
		return (true);
	return ((acc & (ACC_WRITE | ACC_ATOMIC)) == ACC_WRITE);
}

int
mmu_data_abort(
    struct pe *pe, const struct insn *in, uint64_t va, unsigned acc, const struct mmu_fault *f)
{
	uint32_t iss = f->fsc;
	unsigned target = fault_target(pe, f);

	if (f->s1ptw)
		iss |= 1u << 7;
	if ((acc & ACC_CM) != 0)
		iss |= 1u << 8;
	if (counts_as_write(acc, f))
		iss |= 1u << 6;
	/* External aborts have no instruction syndrome. */
	if (f->stage2 && !f->s1ptw && (acc & ACC_CM) == 0 && (f->fsc & 0x30) != FSC_EXTERNAL)
		iss |= a64_ldst_iss(in->word);
	return (pe_exception_far(pe, target, EC_DABT_LOWER, iss, pe_pc(pe, in), va));
}

static int
align_fault(struct pe *pe, const struct insn *in, uint64_t va, unsigned acc)
{
	struct mmu_fault f = { .fsc = FSC_ALIGNMENT };

	return (mmu_data_abort(pe, in, va, acc, &f));
}

static int
external_abort(struct pe *pe, const struct insn *in, uint64_t va, unsigned acc)
{
	struct mmu_fault f = { .fsc = FSC_EXTERNAL };

	return (mmu_data_abort(pe, in, va, acc, &f));
}

/* -- filling ----------------------------------------------------------------------- */

static struct tlb *
tlb_for(struct pe *pe, unsigned acc)
{
	return ((acc & ACC_UNPRIV) != 0 ? pe->tlb_unpriv : pe->tlb);
}

/* What TLBI has to know of a translation that goes into a TLB. */
static void
note_kind(struct tlb_ctx *c, uint64_t page, const struct mmu_xlat *x)
{
	uint64_t size = UINT64_C(1) << x->log2, lo = page & ~(size - 1);
	unsigned half = HALF(page);

	if (x->global && half == 0)
		c->low_global = true;
	if (x->log2 == 12)
		return;
	if (lo < c->big_lo[half])
		c->big_lo[half] = lo;
	if (lo + (size - 1) > c->big_hi[half])
		c->big_hi[half] = lo + (size - 1);
}

static void
note_fill(struct tlb *t, unsigned e)
{
	if (t->fills < TLB_FILLS)
		t->filled[t->fills++] = (uint16_t)e;
	else
		t->fills = TLB_FILLS + 1;
}

static void
fill(struct pe *pe, uint64_t va, unsigned acc, const struct mmu_xlat *x)
{
	struct tlb *t = tlb_for(pe, acc);
	uint64_t page = va & ~(PAGE - 1);
	uint64_t addend = (uint64_t)(uintptr_t)(x->host - PAGE_OFF(va)) - page;
	unsigned e = (page >> 12) & (TLB_SIZE - 1);

	if (x->device || pe->ctx->key.align != 0)
		return;
	if (unlikely(pe->debug.nwatch != 0) && debug_page_watched(pe, page))
		return;
	note_kind(pe->ctx, page, x);
	note_fill(t, e);
	if ((x->prot & PE_PROT_READ) != 0) {
		t->rd[e].tag = page;
		t->rd[e].addend = addend;
	}
	/* A page that may only be written (stage 2) would mislead atomics. */
	if ((acc & (ACC_WRITE | ACC_ATOMIC)) != 0 && (x->prot & PE_PROT_READ) != 0) {
		t->wr[e].tag = page;
		t->wr[e].addend = addend;
	}
}

/*
 * Host address of the byte at `va` for `acc`, which does not leave its page.
 * NULL: the exception is taken.
 */
static char *
locate(struct pe *pe, const struct insn *in, uint64_t va, unsigned len, unsigned acc)
{
	uint64_t canon = mmu_untag(pe, va, false);
	struct tlb *t = tlb_for(pe, acc);
	struct mmu_req rq;
	struct mmu_xlat x;
	struct mmu_fault f;
	void *p;

	p = pe_tlb_hit((acc & (ACC_WRITE | ACC_ATOMIC)) != 0 ? t->wr : t->rd, canon, len);
	if (p != NULL)
		return (p);
	pe->count.tlb_fill++;
	rq.va = va;
	rq.el = pe->el;
	if ((acc & ACC_UNPRIV) != 0 && unpriv_is_el0(pe))
		rq.el = 0;
	rq.regime = pe->ctx->key.regime;
	rq.pan = (pe->pstate & PS_PAN) != 0;
	rq.acc = acc;
	rq.s1_only = false;
	do {
		if (mmu_translate(pe, &rq, &x, &f) != 0) {
			(void)mmu_data_abort(pe, in, va, acc, &f);
			return (NULL);
		}
		if (x.host == NULL) {
			(void)external_abort(pe, in, va, acc);
			return (NULL);
		}
	} while (unlikely(pe->cfg.jit_strict) && (acc & (ACC_WRITE | ACC_ATOMIC)) != 0 &&
		 !strict_write(pe, x.host, x.pa));
	fill(pe, canon, acc, &x);
	return (x.host);
}

/* AArch64.UnalignedAccessFaults() for an access that is not aligned to its size. */
static bool
unaligned_faults(const struct pe *pe, uint64_t va, unsigned len, unsigned acc)
{
	bool inside = ((va ^ (va + len - 1)) & ~UINT64_C(15)) == 0;

	if (pe->ctx->key.align != 0)
		return (true);
	if ((acc & (ACC_ALIGNED | ACC_ORDERED)) == 0)
		return (false);
	if (!pe_has(pe, PE_FEAT_LSE2))
		return (true);
	return (!inside && ((acc & ACC_ALIGNED) != 0 || (pe_sctlr(pe) & SCTLR_NAA) == 0));
}

/* Locate an access that may cross a page: one or two pieces. */
struct pieces {
	char *p[2];
	unsigned n[2];
};

static int
locate_all(struct pe *pe, const struct insn *in, uint64_t va, unsigned len, unsigned align,
    unsigned acc, struct pieces *pc)
{
	uint32_t waits;

	if ((va & (align - 1)) != 0) {
		if (unaligned_faults(pe, va, len, acc))
			return (align_fault(pe, in, va, acc));
		acc |= ACC_ODD;
	}
	pc->n[0] = (unsigned)(PAGE - PAGE_OFF(va));
	if (pc->n[0] >= len)
		pc->n[0] = len;
	pc->n[1] = len - pc->n[0];
	do {
		waits = pe->strict_waits;
		pc->p[0] = locate(pe, in, va, pc->n[0], acc);
		if (pc->p[0] == NULL)
			return (INSN_EXC);
		if (pc->n[1] != 0) {
			pc->p[1] = locate(pe, in, va + pc->n[0], pc->n[1], acc);
			if (pc->p[1] == NULL)
				return (INSN_EXC);
		}
	} while (unlikely(waits != pe->strict_waits));
	if (unlikely(pe->debug.nwatch != 0))
		return (debug_watch(pe, in, va, len, acc));
	return (0);
}

int
pe_read_slow(struct pe *pe, const struct insn *in, uint64_t va, void *buf, unsigned len,
    unsigned align, unsigned acc)
{
	struct pieces pc;

	if (locate_all(pe, in, va, len, align, acc, &pc) != 0)
		return (INSN_EXC);
	memcpy(buf, pc.p[0], pc.n[0]);
	if (pc.n[1] != 0)
		memcpy((char *)buf + pc.n[0], pc.p[1], pc.n[1]);
	return (0);
}

int
pe_write_slow(struct pe *pe, const struct insn *in, uint64_t va, const void *buf, unsigned len,
    unsigned align, unsigned acc)
{
	struct pieces pc;

	if (locate_all(pe, in, va, len, align, acc, &pc) != 0)
		return (INSN_EXC);
	memcpy(pc.p[0], buf, pc.n[0]);
	if (pc.n[1] != 0)
		memcpy(pc.p[1], (const char *)buf + pc.n[0], pc.n[1]);
	return (0);
}

void *
pe_host_addr(struct pe *pe, const struct insn *in, uint64_t va, unsigned len, unsigned acc)
{
	struct tlb *t = tlb_for(pe, acc);
	void *p;

	if (unlikely((va & (len - 1)) != 0)) {
		if (unaligned_faults(pe, va, len, acc)) {
			(void)align_fault(pe, in, va, acc);
			return (NULL);
		}
		acc |= ACC_ODD;
	}
	p = pe_tlb_hit((acc & (ACC_WRITE | ACC_ATOMIC)) != 0 ? t->wr : t->rd, va, len);
	if (likely(p != NULL))
		return (p);
	p = locate(pe, in, va, len, acc);
	if (unlikely(p != NULL && pe->debug.nwatch != 0) && debug_watch(pe, in, va, len, acc) != 0)
		return (NULL);
	return (p);
}

/* The 64 bytes around va; FAR is va as it was given. Device memory refuses it. */
int
mmu_zero_block(struct pe *pe, const struct insn *in, uint64_t va)
{
	char *p = locate(pe, in, va, 1, ACC_WRITE | ACC_ODD);

	if (p == NULL)
		return (INSN_EXC);
	if (unlikely(pe->debug.nwatch != 0) &&
	    debug_watch(pe, in, va & ~UINT64_C(63), 64, ACC_WRITE) != 0)
		return (INSN_EXC);
	memset(p - (va & 63), 0, 64);
	return (0);
}

int
mmu_cache_va(struct pe *pe, const struct insn *in, uint64_t va, unsigned acc, uint64_t *pa)
{
	struct mmu_req rq = { .va = va,
		.el = pe->el,
		.regime = pe->ctx->key.regime,
		.pan = (pe->pstate & PS_PAN) != 0,
		.acc = acc | ACC_CM };
	struct mmu_xlat x;
	struct mmu_fault f;

	if (mmu_translate(pe, &rq, &x, &f) != 0)
		return (mmu_data_abort(pe, in, va, acc | ACC_CM, &f));
	if (pa != NULL)
		*pa = x.pa;
	return (0);
}

/* -- instruction fetch ------------------------------------------------------------- */

static struct codepage *
fetch_fault(struct pe *pe, unsigned ec, const struct mmu_fault *f)
{
	uint32_t iss = 0;
	unsigned target = 1;

	if (f != NULL) {
		target = fault_target(pe, f);
		iss = f->fsc | (f->s1ptw ? 1u << 7 : 0);
	}
	(void)pe_exception_far(pe, target, ec, iss, pe->pc, pe->pc);
	return (NULL);
}

/* BTypeCompatible_BTI() and _PACIXSP(): may a branch of this kind land on `word`? */
static bool
landing_pad(const struct pe *pe, uint32_t word, unsigned btype)
{
	if ((word & 0xffffff3fu) == 0xd503241fu) { /* BTI: bit 6 is c, bit 7 is j */
		if (btype == 3)
			return ((word & 0x80) != 0);
		return (btype == 2 ? (word & 0x40) != 0 : (word & 0xc0) != 0);
	}
	if ((word & 0xffffffbfu) == 0xd503233fu) /* PACIASP, PACIBSP */
		return (btype != 3 || (pe_sctlr(pe) & (pe->el == 0 ? SCTLR_BT0 : SCTLR_BT)) == 0);
	return (false);
}

#define IS_BRK(word) (((word)&0xffe0001fu) == 0xd4200000u)
#define IS_HLT(word) (((word)&0xffe0001fu) == 0xd4400000u)

/*
 * PSTATE.IL and BTYPE, in the order of priority, once the instruction could be
 * fetched. BTYPE lasts for one instruction; BRK and HLT take it along.
 */
static struct codepage *
check_pstate(struct pe *pe, struct codepage *page)
{
	unsigned btype = (unsigned)FIELD(pe->pstate, PS_BTYPE_SHIFT, 2);
	uint32_t word;

	if ((pe->pstate & PS_IL) != 0) {
		(void)pe_exception(pe, 1, EC_ILLEGAL, 0, pe->pc);
		return (NULL);
	}
	word = __atomic_load_n(&page->words[(pe->pc & (PAGE - 1)) >> 2], __ATOMIC_RELAXED);
	if (IS_BRK(word) || IS_HLT(word))
		return (page);
	if (pe->mmu->fetch_guarded && !landing_pad(pe, word, btype)) {
		(void)pe_exception(pe, 1, EC_BTI, btype, pe->pc);
		return (NULL);
	}
	pe->pstate &= ~(uint32_t)PS_BTYPE;
	return (page);
}

/* Is this code in a guarded page? Translated code comes here from other pages. */
static bool
in_guarded_page(const struct pe *pe)
{
	unsigned i = (pe->pc_page >> 12) & (FETCH_SIZE - 1);

	if (pe->tlb->fetch[i].tag == pe->pc_page)
		return (pe->tlb->guarded[i]);
	return (pe->mmu->fetch_guarded);
}

int
pe_branch_typed(struct pe *pe, const struct insn *in, uint64_t target, bool link)
{
	unsigned btype = 2;

	if (!link)
		btype = in_guarded_page(pe) && in->rn != 16 && in->rn != 17 ? 3 : 1;
	pe->pstate = (pe->pstate & ~(uint32_t)PS_BTYPE) | (btype << PS_BTYPE_SHIFT);
	pe->pc = target;
	pe->slice--;
	return (INSN_EXC);
}

static struct codepage *
fetch_page(struct pe *pe)
{
	unsigned i = (pe->pc >> 12) & (FETCH_SIZE - 1);
	struct codepage *page;
	struct mmu_req rq;
	struct mmu_xlat x;
	struct mmu_fault f;

	pe->count.fetch_fill++;
	rq.va = pe->pc;
	rq.el = pe->el;
	rq.regime = pe->ctx->key.regime;
	rq.pan = false;
	rq.acc = ACC_FETCH;
	rq.s1_only = false;
	if (mmu_translate(pe, &rq, &x, &f) != 0)
		return (fetch_fault(pe, EC_IABT_LOWER, &f));
	if (x.host == NULL) {
		memset(&f, 0, sizeof(f));
		f.fsc = FSC_EXTERNAL;
		return (fetch_fault(pe, EC_IABT_LOWER, &f));
	}
	page = codecache_get(pe, x.pa & ~(PAGE - 1), x.host - PAGE_OFF(pe->pc));
	note_kind(pe->ctx, pe->pc & ~(PAGE - 1), &x);
	pe->pc_page = pe->pc & ~(PAGE - 1);
	/* Without a cacheable fetch the words are compared as they run. */
	pe->mmu->fetch_slow = x.cacheable ? 0 : SLOW_UNCACHED;
	if (unlikely(debug_page_breaks(pe, pe->pc_page))) {
		pe->mmu->fetch_slow |= SLOW_BREAK;
		if (debug_break(pe, pe->pc) != 0)
			return (NULL);
	}
	pe->mmu->fetch_guarded = x.guarded;
	if (pe->mmu->fetch_slow == 0) {
		pe->tlb->fetch[i].tag = pe->pc_page;
		pe->tlb->fetch[i].page = page;
		pe->tlb->guarded[i] = x.guarded;
		note_fill(pe->tlb, i | TLB_FILL_FETCH);
	}
	return (page);
}

struct codepage *
mmu_fetch(struct pe *pe)
{
	struct fetch_entry *e = &pe->tlb->fetch[(pe->pc >> 12) & (FETCH_SIZE - 1)];
	struct codepage *page;

	if (likely(e->tag == (pe->pc & ~(PAGE - 1)) && (pe->pc & 3) == 0)) {
		pe->pc_page = e->tag;
		pe->mmu->fetch_slow = 0;
		pe->mmu->fetch_guarded = pe->tlb->guarded[e - pe->tlb->fetch];
		page = e->page;
		if (unlikely((pe->pstate & (PS_IL | PS_BTYPE)) != 0))
			return (check_pstate(pe, page));
		return (page);
	}
	/* A branch drops the tag: BranchAddr(). */
	pe->pc = mmu_untag(pe, pe->pc, true);
	if (unlikely((pe->pc & 3) != 0))
		return (fetch_fault(pe, EC_PC_ALIGN, NULL));
	page = fetch_page(pe);
	if (page != NULL && unlikely((pe->pstate & (PS_IL | PS_BTYPE)) != 0))
		return (check_pstate(pe, page));
	return (page);
}
