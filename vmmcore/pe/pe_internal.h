/*
 * State of one processing element and the helpers every executor file uses.
 * Included by pe/ (and later pe/jit/) only.
 *
 * An instruction is executed by the handler of its row in a64.decode:
 *
 *	int op_NAME(struct pe *pe, const struct insn *in)
 *
 * It returns INSN_NEXT when execution goes on with the following word,
 * INSN_BRANCH when it has put the next address in pe->pc, and INSN_EXC when
 * an exception was taken or returned from, or the translation context changed
 * (pe->pc is set too). A handler that faults has changed nothing the guest can
 * see. There is no longjmp.
 */
#ifndef PE_PE_INTERNAL_H
#define PE_PE_INTERNAL_H

#include <stdatomic.h>
#include <string.h>

#include "pe/pe.h"
#include "pe/a64_ops.h" /* generated: enum a64_op */

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define BIT(n) (UINT64_C(1) << (n))
#define GENMASK(h, l) ((~UINT64_C(0) >> (63 - (h))) & (~UINT64_C(0) << (l)))
#define FIELD(v, lo, width) (((v) >> (lo)) & ((UINT64_C(1) << (width)) - 1))

enum { INSN_NEXT = 0, INSN_BRANCH = 1, INSN_EXC = 2 };

/* Register numbers in struct insn: 0-30, and these. */
#define REG_ZR 31   /* always reads 0 */
#define REG_SP 32   /* the current stack pointer */
#define REG_SINK 33 /* writes to XZR go here; never read */
#define REG_KEPT 34 /* and 35: the translator's */

/*
 * A predecoded instruction, 16 bytes. Its address inside struct codepage
 * gives its address in the page. op 0 is "not decoded yet".
 *
 *	rd rn rm ra   register fields [4:0] [9:5] [20:16] [14:10], mapped to
 *	              REG_* as the row of a64.decode asks
 *	a b imm       as the row says
 */
struct insn {
	uint16_t op;
	uint8_t rd, rn, rm, ra;
	uint8_t a, b;
	int32_t imm;
	uint32_t word;
};

#define CODEPAGE_INSNS 1024
#define CODEPAGE_ALIGN 16384

/* The predecoded form of one 4 KiB page of guest physical code. */
struct codepage {
	struct insn insn[CODEPAGE_INSNS]; /* 16 KiB aligned */
	struct insn end;                  /* op = A64_PAGE_END */
	uint64_t pa;
	const uint32_t *words; /* host address of the page */
	bool watched;          /* strict.c: no write goes unnoticed */
	struct codepage *hash_next, *lru_next, *lru_prev;
};

typedef int (*insn_fn)(struct pe *, const struct insn *);
extern const insn_fn a64_handler[]; /* generated: by enum a64_op */
/* Fill `in` from `word`: op, registers, fields. Generated. */
void a64_decode_insn(uint32_t word, struct insn *in);

/* System registers with storage: SR_<name>. sysreg.def says the rest. */
enum sr {
#define SYSREG(name, op0, op1, crn, crm, op2, acc, reset, wmask, rd, wr, trap) SR_##name,
#include "pe/sysreg.def"
#undef SYSREG
	SR_COUNT
};

/* PSTATE and SPSR bits (DDI 0487, C5.2.18). NZCV is kept apart in pe->nzcv. */
#define PS_SP BIT(0)
#define PS_EL_SHIFT 2
#define PS_NRW BIT(4)
#define PS_F BIT(6)
#define PS_I BIT(7)
#define PS_A BIT(8)
#define PS_D BIT(9)
#define PS_DAIF (PS_D | PS_A | PS_I | PS_F)
#define PS_BTYPE_SHIFT 10
#define PS_BTYPE (BIT(10) | BIT(11))
#define PS_SSBS BIT(12)
#define PS_IL BIT(20)
#define PS_SS BIT(21)
#define PS_PAN BIT(22)
#define PS_UAO BIT(23)
#define PS_DIT BIT(24)
#define PS_V BIT(28)
#define PS_C BIT(29)
#define PS_Z BIT(30)
#define PS_N BIT(31)

/* One software TLB entry; host address = va + addend. */
struct tlb_entry {
	uint64_t tag; /* page address, or TLB_INVALID */
	uint64_t addend;
};
/* Bit 2 is that of no page, and of no branch's target where it is compared: jit/lower.c. */
#define TLB_INVALID UINT64_C(4)
#ifndef TLB_BITS /* a test may want fewer */
#define TLB_BITS 12
#define FETCH_BITS 12 /* the text of a kernel has few pages in one entry */
#endif
#define TLB_SIZE (1u << TLB_BITS)
#define FETCH_SIZE (1u << FETCH_BITS)

struct fetch_entry {
	uint64_t tag;
	struct codepage *page;
};

/*
 * What one exception level with one set of permissions can reach. The first
 * TLB_FILLS entries that are filled are remembered, so that dropping a small
 * working set is quick: the index, with TLB_FILL_FETCH for a fetch entry.
 */
#define TLB_FILLS 1024
#define TLB_FILL_FETCH 0x8000u
struct tlb {
	struct tlb_entry rd[TLB_SIZE];
	struct tlb_entry wr[TLB_SIZE];
	struct fetch_entry fetch[FETCH_SIZE];
	unsigned fills; /* TLB_FILLS + 1: more than were remembered */
	uint16_t filled[TLB_FILLS];
	bool guarded[FETCH_SIZE]; /* the fetch entry's page has GP set (FEAT_BTI) */
};

struct tlb_ctx; /* mmu.h: the TLBs of one ASID, VMID and configuration */

/* Floating point state (fp.h): FPCR as written; FPSR cumulative flags. */
struct pe_fp {
	uint32_t fpcr;
	uint32_t fpsr;
};

/*
 * What debug.c keeps of the debug registers: the pages that hold a breakpoint,
 * the bytes that may be watched, MDSCR_EL1.SS.
 */
struct pe_debug {
	bool stale;               /* a register was written at EL2 */
	bool step;                /* MDSCR_EL1.SS */
	bool stepped, stepped_ex; /* the pending step's syndrome */
	bool break_any;           /* contexts: any instruction may match */
	uint8_t nbreak, nwatch;
	uint64_t break_page[6];
	struct {
		uint64_t first, last;
	} watch[4];
};

/*
 * What SVC and ERET between EL0 and EL1 come to while nothing special is on:
 * translated code does them with this (jit/jit_levels.c). Not ready: they go
 * through except.c, which makes it ready again.
 */
struct pe_levels {
	bool ready;
	bool fp_trapped[2]; /* at EL0 and EL1 */
	uint32_t enter;     /* PSTATE at EL1 after an exception, with DIT and PAN as before */
	uint32_t deny;      /* SPSR bits that ERET leaves to except.c */
	struct tlb *tlb[3]; /* by TLB_EL0, TLB_EL1, TLB_EL1_PAN */
	uint32_t *dirty;    /* tlb_ctx.dirty, as one word */
};

struct gic_cpuif; /* gic_cpuif.h */
struct pe_timer;  /* timer.h */

/* The performance monitors (pmu.c). */
#define PMU_SOURCES 9
struct pe_pmu {
	bool on;    /* a counter counts */
	bool each;  /* an event asks what each instruction is */
	bool line;  /* overflow interrupt */
	uint8_t el; /* who has run since `seen` */
	bool again; /* an instruction at again_pc is run again */
	uint64_t again_pc;
	uint64_t loads, stores, branches;
	uint64_t seen[PMU_SOURCES];
};

struct pe {
	/*
	 * x[31] reads zero, x[32] is the current SP, x[33] takes writes to XZR;
	 * translated code keeps operands in x[34] and x[35]
	 */
	uint64_t x[36];
	uint64_t v[32][2] __attribute__((aligned(16)));

	uint64_t pc;      /* valid at block boundaries: see pe_pc() */
	uint64_t pc_page; /* virtual address of the page being executed */
	uint32_t nzcv;    /* bits 31:28 */
	uint32_t pstate;  /* SPSR layout without NZCV */
	int32_t slice;    /* instructions until the next poll */
	int32_t slice_at; /* what it was when count.insns was last right (jit/) */
	uint8_t el;       /* current exception level */
	bool fp_trapped;  /* FP and SIMD trap now: pe_fp_access() says where */
	bool exit;        /* leave pe_run() */
	bool unsynced;    /* a register is written from outside: pe_msr() */
	uint16_t exit_vec;
	struct pe_fp fp;
	struct pe_debug debug;

	struct tlb *tlb;        /* of the current EL and PSTATE.PAN */
	struct tlb *tlb_unpriv; /* for LDTR and STTR */
	struct tlb_ctx *ctx;
	struct pe_levels levels;

	/* local exclusive monitor: host address, size (0: open) and value read */
	void *excl_host;
	unsigned excl_size;
	uint64_t excl_val[2];

	bool event;   /* WFE event register */
	bool waiting; /* inside WFI with el2_emulated */

	/*
	 * Nonzero: the last poll left an interrupt pending. Whoever unmasks one looks
	 * here, at `request` and at the kick pin, before it goes on without a poll.
	 */
	uint32_t irq_waits;
	const _Atomic uint32_t *kick; /* pins.kick, or a word that is zero */

	uint64_t sr[SR_COUNT];
	uint64_t sp_el[4]; /* banked SP; the current one lives in x[32] */

	struct pe_pins pins;
	struct pe_config cfg;
	struct pe_cluster *cluster;
	struct pe *cluster_next;
	struct mailbox *mail;     /* cluster.c */
	_Atomic uint32_t request; /* mailbox: PE_REQ_* from other threads */
	_Atomic uint32_t serving; /* between taking a request and its end */
	_Atomic uint32_t inside;  /* executing guest code */
	bool dsb_waits;           /* requests sent, not waited for */
	bool code_stale;          /* drop predecoded code at the next poll */
	bool code_changed;        /* strict.c: a handler leaves translated code */
	uint32_t strict_waits;
	struct gic_cpuif *gic;
	struct pe_timer *timer;
	struct codecache *code;
	struct mmu *mmu;
	struct jit *jit; /* NULL: interpreter only */
	bool alone;      /* pe_set_alone() */
	uint64_t code_epoch_seen;
	struct pe_counters count;
	uint64_t polled_at, sampled_at; /* count.insns at the last poll, the last sample */
	struct pe_pmu pmu;
	struct pe_gpr gpr; /* what pe_gpr() shows while the PE is at EL2 */
};

#define PE_REQ_POKE 1u
#define PE_REQ_TLBI_ALL 2u /* drop every translation */
#define PE_REQ_IC_ALL 4u   /* drop all predecoded code */

/*
 * Instructions between two polls, which are made at taken branches: 15 us of
 * interpreter time, 3 of translated code.
 */
#define PE_SLICE 8192
/* Slices between two samples of pins.sample. */
#define PE_SAMPLE 8

static inline bool
pe_has(const struct pe *pe, enum pe_feature f)
{
	return ((pe->cfg.features >> f) & 1) != 0;
}

/* Virtual address of the instruction being executed. */
static inline uint64_t
pe_pc(const struct pe *pe, const struct insn *in)
{
	return (pe->pc_page | (((uintptr_t)in & (CODEPAGE_ALIGN - 1)) >> 2));
}

/* Branch to a target in the running context. */
static inline int
pe_branch(struct pe *pe, uint64_t target)
{
	pe->pc = target;
	return (INSN_BRANCH);
}

/*
 * BR, BLR and their kin: with FEAT_BTI the kind of branch goes to PSTATE.BTYPE,
 * and the target is looked up anew, where it is checked (mmu_fetch()).
 */
int pe_branch_typed(struct pe *, const struct insn *, uint64_t target, bool link);
static inline int
pe_branch_indirect(struct pe *pe, const struct insn *in, uint64_t target, bool link)
{
	if (unlikely(pe_has(pe, PE_FEAT_BTI)))
		return (pe_branch_typed(pe, in, target, link));
	return (pe_branch(pe, target));
}

/* Writes through Rd where 31 is XZR and the row did not map it. */
static inline void
pe_setx(struct pe *pe, unsigned r, uint64_t v)
{
	pe->x[r == 31 ? REG_SINK : r] = v;
}

/* except.c ---------------------------------------------------------------- */

/* Exception classes (DDI 0487, ESR_ELx.EC). */
enum {
	EC_UNKNOWN = 0x00,
	EC_WFX = 0x01,
	EC_FP = 0x07,
	EC_PAC = 0x09,
	EC_BTI = 0x0d,
	EC_ILLEGAL = 0x0e,
	EC_SVC64 = 0x15,
	EC_HVC64 = 0x16,
	EC_SMC64 = 0x17,
	EC_SYSREG = 0x18,
	EC_IABT_LOWER = 0x20,
	EC_IABT_CUR = 0x21,
	EC_PC_ALIGN = 0x22,
	EC_DABT_LOWER = 0x24,
	EC_DABT_CUR = 0x25,
	EC_SP_ALIGN = 0x26,
	EC_SERROR = 0x2f,
	EC_BKPT_LOWER = 0x30,
	EC_STEP_LOWER = 0x32,
	EC_WATCH_LOWER = 0x34,
	EC_BRK64 = 0x3c,
};
#define ESR_IL BIT(25)

/*
 * Take a synchronous exception. `target` 1 or 2 is the lowest level that may
 * take it; HCR_EL2.TGE and the current level are applied here. `iss` is
 * ISS[24:0]. The preferred return address is `ret`. Always INSN_EXC.
 */
int pe_exception(struct pe *, unsigned target, unsigned ec, uint32_t iss, uint64_t ret);
/* The same with FAR set. */
int pe_exception_far(
    struct pe *, unsigned target, unsigned ec, uint32_t iss, uint64_t ret, uint64_t far);
/* UNDEFINED at `in`. */
int pe_undef(struct pe *, const struct insn *);
/* Asynchronous: vec is PE_VEC_IRQ, FIQ or SERROR. */
int pe_take_async(struct pe *, unsigned target, unsigned vec);
/* ERET, with the checks for an illegal return; ERETAA has an address of its own. */
int pe_eret(struct pe *);
int pe_eret_to(struct pe *, uint64_t elr);
uint64_t pe_spsr(const struct pe *);            /* PSTATE as an SPSR */
void pe_set_pstate(struct pe *, uint64_t spsr); /* and EL, SP bank, contexts */
/*
 * Call after any change of EL, SPSel, PAN, HCR, SCTLR, TCR, TTBR, CPACR, CPTR:
 * picks the translation context and recomputes fp_trapped.
 */
void pe_context_changed(struct pe *);

/*
 * First thing in every FP and SIMD handler:
 *	if (unlikely(pe->fp_trapped)) return (pe_fp_trap(pe, in));
 */
int pe_fp_trap(struct pe *, const struct insn *);

/* mmu.c ------------------------------------------------------------------- */

enum {
	ACC_READ = 0,
	ACC_WRITE = 1,
	ACC_FETCH = 2,
	ACC_UNPRIV = 4,   /* LDTR, STTR */
	ACC_ATOMIC = 8,   /* read-modify-write: write permission, WnR rules */
	ACC_ALIGNED = 16, /* must be aligned: exclusives, atomics; with LSE2 in 16 bytes */
	ACC_CM = 32,      /* cache maintenance: ESR.CM */
	ACC_ORDERED = 64, /* acquire, release: as ACC_ALIGNED unless SCTLR.nAA */
	ACC_ODD = 128,    /* not aligned, or DC ZVA: not to Device memory */
	ACC_AT = 256,     /* AT: sets no dirty state */
};

/*
 * Slow paths. Return 0, or INSN_EXC with the exception taken. A pair or a Q
 * register is one access of `len` bytes (1 to 64): nothing is stored unless
 * every byte can be. `align` is the alignment that counts for faults (element
 * size).
 */
int pe_read_slow(struct pe *, const struct insn *, uint64_t va, void *buf, unsigned len,
    unsigned align, unsigned acc);
int pe_write_slow(struct pe *, const struct insn *, uint64_t va, const void *buf, unsigned len,
    unsigned align, unsigned acc);
/*
 * Host address for an access that must be a single atomic operation: `len`
 * bytes, naturally aligned (checked). With ACC_WRITE or ACC_ATOMIC it is
 * writable. NULL: the exception was taken.
 */
void *pe_host_addr(struct pe *, const struct insn *, uint64_t va, unsigned len, unsigned acc);

static inline void *
pe_tlb_hit(const struct tlb_entry *tlb, uint64_t va, unsigned len)
{
	const struct tlb_entry *e = &tlb[(va >> 12) & (TLB_SIZE - 1)];

	if (likely(((va + len - 1) & ~UINT64_C(0xfff)) == e->tag))
		return ((void *)(uintptr_t)(va + e->addend));
	return (NULL);
}

/* Read `len` bytes (a constant) as one access; 0 or INSN_EXC. */
static inline int
pe_read(struct pe *pe, const struct insn *in, uint64_t va, void *buf, unsigned len, unsigned align)
{
	const void *p = pe_tlb_hit(pe->tlb->rd, va, len);

	if (likely(p != NULL)) {
		memcpy(buf, p, len);
		return (0);
	}
	return (pe_read_slow(pe, in, va, buf, len, align, ACC_READ));
}

static inline int
pe_write(struct pe *pe, const struct insn *in, uint64_t va, const void *buf, unsigned len,
    unsigned align)
{
	void *p = pe_tlb_hit(pe->tlb->wr, va, len);

	if (likely(p != NULL)) {
		memcpy(p, buf, len);
		return (0);
	}
	return (pe_write_slow(pe, in, va, buf, len, align, ACC_WRITE));
}

/*
 * SP alignment check, before an access whose base is SP (SCTLR.SA, SA0):
 * 0 or INSN_EXC.
 */
int pe_sp_misaligned(struct pe *, const struct insn *);
static inline int
pe_check_sp(struct pe *pe, const struct insn *in)
{
	if (unlikely(in->rn == REG_SP && (pe->x[REG_SP] & 15) != 0))
		return (pe_sp_misaligned(pe, in));
	return (0);
}

/*
 * The ISS of a data abort for the load or store `word`: ISV, SAS, SSE, SRT,
 * SF, AR in place when the instruction has them, else 0. (ldst_iss.c)
 */
uint32_t a64_ldst_iss(uint32_t word);

/* sysreg.c ---------------------------------------------------------------- */

/* MRS, MSR (register), MSR (immediate), SYS, SYSL: whole instructions. */
int pe_insn_mrs(struct pe *, const struct insn *);
int pe_insn_msr(struct pe *, const struct insn *);
int pe_insn_msr_imm(struct pe *, const struct insn *);
int pe_insn_sys(struct pe *, const struct insn *);
int pe_insn_sysl(struct pe *, const struct insn *);
/* WFI, WFE with their traps; DSB completes TLB and cache maintenance. */
int pe_insn_wfx(struct pe *, const struct insn *, bool is_wfe);
int pe_insn_wfxt(struct pe *, const struct insn *, bool is_wfe);
void pe_sev(struct pe *);
void pe_dsb(struct pe *);
/*
 * The guest waits for another PE (YIELD): let the host CPU do something better
 * when somebody else can use it. (cluster.c)
 */
void pe_relax(struct pe *);
/* WFE without an event: may sleep until there is one, at most to the count `until`. */
void pe_wfe(struct pe *, uint64_t until);
int pe_insn_hvc(struct pe *, const struct insn *, unsigned imm);
int pe_insn_smc(struct pe *, const struct insn *, unsigned imm);

#endif /* PE_PE_INTERNAL_H */
