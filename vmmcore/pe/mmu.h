/*
 * Translation: contexts, table walks, faults. The fast path, a TLB hit, is in
 * pe_internal.h; walks are in mmu_walk.c; loads and stores that miss in mmu.c;
 * maintenance in tlbi.c.
 */
#ifndef PE_MMU_H
#define PE_MMU_H

#include "pe/pe_internal.h"

/* Which registers a translation depends on; two contexts never share one. */
struct mmu_key {
	uint64_t sctlr, tcr, mair, hcr, vtcr;
	uint32_t asid, vmid;
	uint32_t regime; /* REGIME_* */
	uint32_t align;  /* SCTLR.A: nothing is cached, every access is checked */
};

enum { TLB_EL0, TLB_EL1, TLB_EL1_PAN, TLB_KINDS }; /* EL2 uses TLB_EL1 */

/* Stage-1 translation regimes; EL2&0 is a host's with HCR_EL2.E2H (D8.1.2). */
enum { REGIME_EL10 = 1, REGIME_EL2 = 2, REGIME_EL20 = 3 };

struct tlb_ctx {
	struct mmu_key key;
	bool used;
	uint64_t stamp; /* for replacement */
	/* Part of [big_lo, big_hi] of each half comes from blocks larger than 4 KiB. */
	uint64_t big_lo[2], big_hi[2];
	bool low_global;                       /* something in the lower half is for every ASID */
	_Alignas(4) bool dirty[TLB_KINDS + 1]; /* one more to make it a word */
	struct tlb tlb[TLB_KINDS];
};

/* Why instructions run word by word: not a cacheable fetch, or a breakpoint in the page. */
#define SLOW_UNCACHED 1u
#define SLOW_BREAK 2u

#define MMU_CONTEXTS 16
#define S2CACHE_SIZE 256

/* Stage-2 results for table walks: IPA page to host page, readable. */
struct s2cache {
	uint64_t ipa; /* | 1: invalid */
	uint32_t vmid;
	char *host;
};

/* A 2 MiB region of IPA space that one stage-2 block maps. */
#define S2BLOCK_SIZE 64
struct s2block {
	uint64_t key; /* IPA >> 21, level and VMID; 0: empty */
	uint64_t vtcr, pa;
	uint8_t prot, attr, sh, log2;
	bool device, cacheable;
};

/* Where the level-3 table of 2 MiB of VA space is (4K granule, two halves). */
#define S1WALK_SIZE 128
struct s1walk {
	uint64_t key; /* VA >> 21, regime << 62; 0: empty */
	uint64_t ttbr, tcr, table;
	uint32_t vmid;
	bool ap_table_ro, ap_table_noel0, uxn_table, pxn_table;
};

struct mmu {
	bool stale;         /* a register of the key was written */
	uint8_t fetch_slow; /* of the page that runs: SLOW_* */
	bool fetch_guarded;
	uint64_t clock;
	struct tlb_ctx ctx[MMU_CONTEXTS];
	struct s2cache s2[S2CACHE_SIZE];
	struct s2block s2block[S2BLOCK_SIZE];
	struct s1walk s1walk[S1WALK_SIZE];
};

/* Fault status codes (ESR_ELx.DFSC), level in the low two bits. */
#define FSC_ADDR_SIZE 0x00
#define FSC_TRANSLATION 0x04
#define FSC_ACCESS 0x08
#define FSC_PERMISSION 0x0c
#define FSC_EXTERNAL 0x10
#define FSC_EXTERNAL_WALK 0x14
#define FSC_ALIGNMENT 0x21
#define FSC_TLB_CONFLICT 0x30

struct mmu_fault {
	uint8_t fsc;
	bool stage2;
	bool s1ptw;
	bool write; /* a walk's own write (access flag, dirty state), or an atomic's */
	uint64_t ipa;
};

/* A translation of one address. */
struct mmu_xlat {
	uint64_t ipa, pa;
	char *host;     /* of the byte; NULL: nothing answers at pa */
	uint8_t prot;   /* PE_PROT_* that this level has now */
	uint8_t attr;   /* MAIR-style memory attributes, stages combined */
	uint8_t sh;     /* shareability, stages combined */
	bool device;    /* Device memory */
	bool cacheable; /* inner */
	uint8_t log2;   /* log2 of the smaller block of the two stages */
	bool guarded;   /* GP of the stage-1 leaf */
	bool global;    /* for every ASID: nG of the stage-1 leaf is 0 */
};

/* The address space of the current level as TCR describes it. */
struct mmu_regime {
	bool two; /* an upper and a lower half */
	bool tbi0, tbi1, tbid0, tbid1;
	uint8_t t0sz, t1sz;
};

/* Level, PAN and kind of a translation request. */
struct mmu_req {
	uint64_t va; /* canonical or not; tags are handled */
	unsigned el; /* whose permissions */
	unsigned regime;
	bool pan;
	unsigned acc; /* ACC_* */
	bool s1_only; /* AT S1E..: the IPA is the answer */
};

/* The regime that an exception level uses now: TranslationRegime(). */
unsigned mmu_regime_of(const struct pe *, unsigned el);
/* 0, or -1 with *f filled. */
int mmu_translate(struct pe *, const struct mmu_req *, struct mmu_xlat *, struct mmu_fault *);
int mmu_stage2(struct pe *, uint64_t ipa, unsigned el, unsigned acc, bool walk, struct mmu_xlat *,
    struct mmu_fault *);

int mmu_create(struct pe *);
void mmu_destroy(struct pe *);
/* Pick pe->ctx and pe->tlb from the registers. */
void mmu_select(struct pe *);
void mmu_regime(const struct pe *, struct mmu_regime *);
/* Without its tag: sign-extended from bit 55 where TBI says so. */
uint64_t mmu_untag(const struct pe *, uint64_t va, bool fetch);

/* The codepage at pe->pc, or NULL with the exception taken. */
struct codepage *mmu_fetch(struct pe *);
/* DC ZVA; 0 or INSN_EXC. */
int mmu_zero_block(struct pe *, const struct insn *, uint64_t va);
/* Translate for cache maintenance; 0 with *pa, or INSN_EXC. */
int mmu_cache_va(struct pe *, const struct insn *, uint64_t va, unsigned acc, uint64_t *pa);
/* Raise the fault of a data access. */
int mmu_data_abort(
    struct pe *, const struct insn *, uint64_t va, unsigned acc, const struct mmu_fault *);

/* Pages of 4 KiB from va on. */
struct mmu_flush {
	uint64_t va;
	uint32_t pages;
	uint32_t vmid, asid; /* MMU_ANY_ASID */
	uint8_t regime;
	bool last; /* of the last level of walks only */
};
#define MMU_ANY_ASID UINT32_MAX
/* Of more pages at once, all of the address space goes. */
#define MMU_FLUSH_PAGES 256u

/* TLB maintenance on this PE only. Everything may drop more than asked. */
void mmu_flush_all(struct pe *);
void mmu_flush_vmid(struct pe *, uint32_t vmid);
void mmu_flush_asid(struct pe *, uint32_t vmid, unsigned regime, uint32_t asid);
void mmu_flush_va(struct pe *, const struct mmu_flush *);
void mmu_flush_fetch(struct pe *);              /* code pages moved */
void mmu_drop_page(struct pe *, uint64_t page); /* from every TLB */
/* No store reaches this page of the host without a walk. */
void mmu_drop_writes(struct pe *, uintptr_t host);
uint32_t mmu_vmid(const struct pe *);

/* TLBI and AT instructions (tlbi.c, at.c); ENOENT when there is none. */
int tlbi_op(struct pe *, uint32_t enc, uint64_t xt);
int at_op(struct pe *, const struct insn *, uint32_t enc, uint64_t xt);

#endif /* PE_MMU_H */
