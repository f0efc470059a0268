/*
 * Inside the translator: its state, the register map, and what the lowering
 * files share.
 *
 *	host	holds
 *	r15	struct pe + 128, so that x0 to x31 are in reach of disp8
 *	r14	pe->tlb
 *	r13	pe->slice: instructions until the next poll
 *	rbx rbp rsi rdi r8 r9 r10 r11 r12
 *		x0 x1 x2 x3 x4 x8 x19 x20 SP
 *	rax rcx rdx xmm0 xmm1
 *		scratch
 *
 * The other guest registers are memory operands. NZCV is in pe->nzcv at every
 * point where anything could look, in translated code as LAHF and SETO leave
 * it in AX (RAW_NZCV; jit.c converts around C code); between a flag setter and
 * its user it may also still be in the host's flags (t->hf).
 */
#ifndef PE_JIT_JIT_INT_H
#define PE_JIT_JIT_INT_H

#include "pe/exec_int.h"
#include "pe/jit/jit.h"
#include "pe/jit/x86_sse.h"

#define PE_BIAS 128
#define PE_OFF(field) ((int32_t)offsetof(struct pe, field) - PE_BIAS)
#define PE_MEM(field) x_mem(R15, PE_OFF(field))

#define POOL 8192u /* bytes of constants */

struct jit {
	uint8_t *rw, *rx; /* the same memory, writable and executable */
	size_t size;
	unsigned threshold, block_max;
	bool devices_order;            /* sys_membarrier_private() */
	uint8_t *start, *free;         /* of translations, in rw */
	uint8_t *limit, *oldest, *top; /* jit_ring.c */
	/* fixed pieces of code, in rw */
	uint8_t *enter, *leave, *leave_pc, *leave_count, *call, *call_fp, *cold, *step;
	uint8_t *svc, *eret, *counter;
	uint8_t *pool; /* constants of 16 bytes, in rw */
	unsigned npool;
	uint64_t blocks, bytes, resets;
	struct jit_perf *perf; /* NULL: nobody asked */
};

/* Bits of N, Z, C and V in pe->nzcv while translated code runs; others are anything. */
#define RAW_NZCV 0xc101u

static inline uint32_t
jit_raw_nzcv(unsigned nzcv)
{
	return ((nzcv & 12) << 12 | (nzcv & 2) << 7 | (nzcv & 1));
}

/* What the host's flags hold besides pe->nzcv. */
enum hf {
	HF_NONE,
	HF_SUB,
	HF_ADD,
	HF_FP,        /* UCOMIS of the first operand with the second */
	HF_FP_SWAPPED /* of the second with the first */
};

/*
 * SLOW calls the handler, STEP leaves to the interpreter before the instruction.
 * CODE has t_cold_code's function emit something first, which may go back to
 * where the jump came from; behind it, it is SLOW. SPLIT calls the handler and
 * leaves the block. JOIN is a forward branch that may stay in the block. POLL
 * leaves a loop when the slice is used up.
 */
enum cold_kind {
	COLD_SLOW,
	COLD_LEAVE,
	COLD_TAKEN,
	COLD_STEP,
	COLD_SPLIT,
	COLD_CODE,
	COLD_JOIN,
	COLD_POLL
};

/*
 * At RSP: results of looks into the TLB that are kept (lower_group.c), those of
 * the streams of a loop, and the rest of the slice meanwhile (lower_strip.c).
 */
#define GROUP_SLOTS 8u
#define STREAMS 8u
#define MIDDLES 8u /* labels in a loop that are reached from behind it */
#define SUM 3u     /* registers added up to an address */
#define STREAM_AT(s) ((int32_t)(8 * (GROUP_SLOTS + (s))))
#define STASH_AT STREAM_AT(STREAMS)

/*
 * V registers that are in host registers at a point of the block: xmm2 to
 * xmm13 are a cache of pe->v for as long as the block runs straight on.
 */
#define V_FIRST 2
#define V_COUNT 12
struct vcache {
	signed char reg[V_COUNT]; /* the V register, or -1 */
	uint16_t dirty;           /* differs from pe->v */
	uint16_t zero_s, zero_d;  /* bits 127:32 or 127:64 are known to be zero */
	uint16_t stamp[V_COUNT];  /* for replacement */
	uint16_t clock;           /* a block has too few uses to wrap it */
};

/*
 * Flags that pe->nzcv lacks (lower_flags.c): those of the comparison at
 * instruction `at`, to be made again with rn and rm; when `undo`, rn is the
 * result, from which the operand follows.
 */
struct late {
	uint16_t at;
	uint8_t rn, rm;
	bool undo;
	bool again; /* may stay so over a branch to the block's start */
};
#define LATE_NONE 0xffffu

struct tr;
struct cold {
	void (*code)(struct tr *, const struct cold *); /* COLD_CODE */
	uint32_t arg;                                   /* for it */
	struct late late;
	bool strip;              /* in a loop with streams */
	bool late_out;           /* JOIN: pe->nzcv has to be right there */
	struct vcache v, v_back; /* here, and where it comes back to */
	bool fp_ok, fp_plain;
	uint8_t *from, *back;
	enum cold_kind kind;
	unsigned i;
	int32_t target;
};

/*
 * A block that branches to its own start is translated a second time, from the
 * state of the cache at that branch: from there on the loop keeps its V
 * registers in host registers.
 */
struct loop {
	uint8_t *entry; /* NULL: none */
	uint8_t *strip; /* where to enter it from outside, when it has streams */
	struct stream {
		const struct insn *in; /* the first that uses it */
		bool write, indexed, fold_base, fold_index;
		uint8_t scale;
		uint8_t nterms; /* or its address is a sum: of registers before the round */
		struct {
			uint8_t reg, shift;
		} term[SUM];
		int32_t lo, hi, step; /* bytes of a round from the first address; to the next */
	} stream[STREAMS];
	unsigned nstreams;
	uint8_t use[JIT_BLOCK_MAX]; /* by instruction: its stream + 1, or 0 */
	struct vcache v;
	struct late late;
	bool fp_ok, fp_plain;
	unsigned at; /* the branch that gave the state */
	/* lower_middle.c, by instruction: is one of the middles; is a branch to one. */
	bool wanted[JIT_BLOCK_MAX], way[JIT_BLOCK_MAX];
	struct middle {
		uint8_t *entry;
		unsigned i;
		bool flags; /* NZCV may be looked at */
		bool strip;
		bool fp_ok, fp_plain;
		struct late late;
		struct vcache v;
	} middle[MIDDLES];
	unsigned nmiddles;
};

struct tr {
	struct x86 x;
	struct pe *pe;
	struct jit *j;
	struct codepage *page;
	unsigned start, i; /* instruction numbers in the page */
	uint8_t *entry;
	enum hf hf, hf_before;
	struct late late;
	bool redo;           /* t_resolve_as() makes a comparison again */
	unsigned redo_loads; /* V registers loaded for that */
	bool ended;
	unsigned known; /* register set to known_value by instruction known_at */
	unsigned known_at;
	uint64_t known_value;
	struct vcache v;
	bool fp_ok;                    /* fp_trapped was checked in this block */
	bool fp_plain;                 /* and that FPCR is 0 */
	uint8_t member[JIT_BLOCK_MAX]; /* by instruction: uses slot - 1, or 0 */
	uint8_t slot_end[GROUP_SLOTS]; /* after the last use, in instructions */
	bool strip;                    /* in a loop with streams, r13 is part of the slice */
	bool joined;                   /* the instruction before is left to this one */
	struct loop loop;
	bool label[JIT_BLOCK_MAX]; /* by instruction: a forward branch of the block may go there */
	unsigned pass;             /* the first of `cold` that belongs to this pass */
	unsigned ncold;
	struct cold cold[4 * JIT_BLOCK_MAX];
};

typedef void (*lower_fn)(struct tr *, const struct insn *);

/* jit_tables.c: how an op is lowered (NULL: its handler is called) and what it does. */
struct lowering {
	lower_fn fn;
	uint8_t attr;
};
#define A_PURE 1u  /* cannot fault, branch or leave */
#define A_SETF 2u  /* writes all of NZCV */
#define A_READF 4u /* reads NZCV */
#define A_LAST 8u  /* ends the block after its handler */
extern struct lowering jit_lowering[];

/* Rows of the files jit_tables_*.c, up to one without fn; used when the host has `needs`. */
struct lowering_row {
	uint16_t op;
	uint8_t attr;
	uint16_t needs;
	lower_fn fn;
};
extern const struct lowering_row jit_rows_simd[];
extern const struct lowering_row jit_rows_fp[];

/* What the host has. */
#define HOST_AVX2 1u   /* and FMA */
#define HOST_AVX512 2u /* VL, BW and DQ */
#define HOST_AES 4u
#define HOST_SHA 8u
#define HOST_CLMUL 16u
#define HOST_GFNI 32u
#define HOST_CRC32 64u
#define HOST_DOT 128u /* AVX512-VNNI */
#define HOST_CD 256u  /* AVX512-CD: VPLZCNT */
/* Moves and additions of small constants cost no step of a chain (Golden Cove and its kin). */
#define HOST_FOLDS 512u
extern unsigned jit_host;

extern const signed char jit_map[36];

/* -- shared by the lowering files (lower.c) ---------------------------------- */

/* Memory operand of a guest register that is not mapped. */
static inline struct x86_mem
g_mem(unsigned r)
{
	return (x_mem(R15, (int32_t)(8 * r) - PE_BIAS));
}

/* d = guest register r shifted by n: X_SHL, X_SHR, X_SAR, X_ROR. */
void g_shift(struct tr *, bool w, unsigned op, int d, unsigned r, unsigned n);
/* A host register that holds guest register r: the mapped one, or `scratch`. */
int g_read(struct tr *, bool w, unsigned r, int scratch);
/* Copy guest register r into host register d. */
void g_load(struct tr *, bool w, int d, unsigned r);
/* Where to compute a value for guest register r: the mapped one, or `scratch`. */
int g_dest(unsigned r, int scratch);
/* Store d as guest register r when g_dest() was the scratch. */
void g_commit(struct tr *, unsigned r, int d);

/* Put the host's flags into pe->nzcv, unless nobody will look; or note that they are late. */
void t_flags(struct tr *, enum hf);
/* Make pe->nzcv right; uses RAX, RCX, xmm0, xmm1 and flags. */
void t_resolve(struct tr *);
/* The same out of line, where t->late was *l and t->v is what it was. */
void t_resolve_as(struct tr *, const struct late *l);
/* Does this instruction write what the late flags *l are to be made from? */
bool t_changes_late(const struct tr *, const struct insn *in, const struct late *l);
/* Before leaving the block: pe->nzcv and pe->v are right. */
void t_settle(struct tr *);
/* Host condition code for an A64 condition; may use RAX, RCX and flags. */
unsigned t_cond(struct tr *, unsigned cond);
/* What the host's flags are after t_cond(): t->hf_before unless they were used up. */
enum hf t_cond_hf(const struct tr *, unsigned cond);
/* Call the handler of the instruction. */
void t_handler(struct tr *, const struct insn *);
/*
 * A conditional jump to the out-of-line handler call of this instruction, which
 * does all of it and comes back behind it. Nothing the guest can see may have
 * changed before.
 */
void t_slow(struct tr *, unsigned cc);
/* The same, with `code` emitted out of line before the handler call. */
void t_slow_code(
    struct tr *, unsigned cc, void (*code)(struct tr *, const struct cold *), uint32_t arg);
/* The block loop calls it: slow paths of this instruction come back to here. */
void t_slow_back(struct tr *);
/* Count the block's instructions up to this one; flags of the slice that is left. */
void t_count(struct tr *);
/*
 * Leave the block behind this instruction: count, and go on at page offset
 * `off`, which may lie outside of the page, or at the address in RAX.
 */
void t_goto(struct tr *, int32_t off);
void t_dispatch(struct tr *);
/* RAX = address of the page + off. */
void t_pc(struct tr *, int d, int64_t off);
/*
 * The next instruction, when it belongs to this block. One that cannot leave
 * may set t->joined and emit nothing when that one does the work of both.
 */
static inline const struct insn *
t_next(const struct tr *t)
{
	unsigned i = t->i + 1;

	if (i >= CODEPAGE_INSNS || i - t->start >= t->j->block_max || t->label[i - t->start])
		return (NULL);
	return (&t->page->insn[i]);
}

static inline int32_t
t_off(const struct tr *t)
{
	return ((int32_t)(t->i * 4));
}
/* -- V registers (lower_v.c) --------------------------------------------------- */

/*
 * First thing in every lowering that touches V registers or FPCR: leaves to
 * the handler when FP is trapped. Once a block.
 */
void v_check(struct tr *);
/*
 * The same for arithmetic on the host: also leaves when FPCR is not 0. Flags of
 * FPSR collect in MXCSR while translated code runs (jit.c).
 */
void v_check_fp(struct tr *);
/* The host register that holds V register r; not to be changed. */
int v_read(struct tr *, unsigned r);
/*
 * A host register for a new value of V register r. The old value is gone: read
 * the operands first (v_read() of r stays valid until it is written).
 */
int v_write(struct tr *, unsigned r);
/* The same, holding the old value: for instructions that change part of it. */
int v_modify(struct tr *, unsigned r);
/*
 * The bits above 1 << size bytes of cached host register x are zero: to say so
 * after a write, and to ask. Sizes 2 and 3.
 */
void v_set_zero_above(struct tr *, int x, unsigned size);
bool v_zero_above(const struct tr *, int x, unsigned size);
/* Memory operand of V register r: only while it is not cached and dirty. */
struct x86_mem v_mem(unsigned r);
/* Store what is dirty; forget everything, because memory may change. */
void v_flush(struct tr *);
void v_forget(struct tr *);
/* 16 bytes in the code memory, for x_v3c() and x_v2c(). May emit code. */
const uint8_t *v_const(struct tr *, uint64_t lo, uint64_t hi);
/* Is what is known to be zero in *l so in *v, where it holds the same register? */
bool v_keeps_zero(const struct vcache *l, const struct vcache *v);
/* For out-of-line code: store what is dirty in *v, load all of it again. */
void v_store_all(struct tr *, const struct vcache *);
void v_load_all(struct tr *, const struct vcache *);

/* Does the handler look at FPSR, or compute on the host? All rows of a64_fp.decode. */
static inline bool
jit_uses_fpsr(unsigned op)
{
	_Static_assert(A64_BFMLAL_E + 1 == A64_OP_COUNT, "a64_fp.decode is the last table");
	return (op >= A64_FMOV_S || op == A64_MRS || op == A64_MSR);
}

/* The entry addresses of a page's instructions. */
static inline uint8_t **
jit_entries(struct codepage *page)
{
	return ((uint8_t **)(void *)((char *)page + JIT_ENTRIES));
}

/* jit_ring.c: nothing is translated. */
void jit_ring_reset(struct jit *);
/* Make room for a block at j->free, which ends before j->limit. */
void jit_ring_room(struct pe *);
/* The block that was made there is that of instruction `start`; j->free lies behind it. */
void jit_ring_take(struct jit *, uint8_t *code, struct codepage *, unsigned start);

#define JIT_ROOM 65536u /* bytes, more than a block needs */

/* Where code that is written at rw runs. */
static inline uint8_t *
jit_rx(const struct jit *j, uint8_t *rw)
{
	return (rw - j->rw + j->rx);
}

/*
 * jit_block.c: translate the block at instruction `start`, of block_max
 * instructions at most, all decoded. NULL when something was too much.
 */
uint8_t *jit_translate_block(struct pe *, struct codepage *, unsigned start);

/* jit_perf.c: the file for perf, one a process; NULL when it cannot be written. */
struct jit_perf *jit_perf_open(void);
/* `size` bytes of host code at rx (readable at rw) stand for the block at guest physical `pa`. */
void jit_perf_block(
    struct jit_perf *, uint64_t pa, const uint8_t *rx, const uint8_t *rw, size_t size);

/*
 * jit_levels.c: the fixed code for SVC and ERET, and for the system counter.
 * svc, eret: the instruction in RAX, counted; they go on where it leads. counter:
 * RAX = the physical count; all V registers are lost.
 */
void jit_emit_levels(struct jit *, struct x86 *);

/*
 * With pe_config.jit_strict, behind a handler: leave when it has noticed that code
 * changed. The state is as between two instructions.
 */
void t_leave_if_changed(struct tr *);
/* RAX = the instruction, for its handler. */
void t_insn(struct tr *, unsigned i);
/* A branch to page offset `target` on condition cc, or always (-1). */
void t_branch(struct tr *, int cc, int32_t target);
/* jit_block.c: the same back to the start of a loop, in place; false: not possible here. */
bool t_loop(struct tr *, int cc);
/* Will anybody see NZCV as it is before instruction i? */
bool t_flags_wanted(const struct tr *, unsigned i);
/* B, B.cond, CBZ, CBNZ, TBZ, TBNZ; imm is the distance. */
bool jit_is_branch(const struct insn *);
/* Out-of-line code. */
void t_cold(struct tr *, enum cold_kind, uint8_t *from, int32_t target);

#endif /* PE_JIT_JIT_INT_H */
