/*
 * What the two executors of the conformance programs share: the state of a
 * test, the generator and the driver. conf_host (our PE) and conf_guest (the
 * same under qemu-aarch64) are linked from the same gen.c, block.c and
 * driver.c, so a seed is all that has to be handed over; only hashes come back.
 *
 * A slot is the code of one group (an instruction, run with many inputs) or of
 * one block. The first word of a slot belongs to the guest program (ldp x0, x1,
 * [x0]); our PE starts at the second.
 */
#ifndef CONF_H
#define CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

/* Code, then two pages of data; nothing before, nothing behind. */
#define CODE_BASE 0x04000000u
#define CODE_LEN 0x80000u
#define DATA_BASE (CODE_BASE + CODE_LEN)
#define DATA_LEN 8192u
#define SCRATCH (DATA_BASE + 0xc00u) /* seeded and hashed; across the two pages */
#define SCRATCH_LEN 2048u
#define HOLE 0x03000000u /* nothing is mapped here */

#define INSN_STRIDE 32u /* bytes of a slot: ldp, 4 words, two exits */
#define INSN_SLOTS (CODE_LEN / INSN_STRIDE)
#define BLOCK_STRIDE 1024u
#define BLOCK_START 896u /* so that one in four goes across a page */
#define BLOCK_SLOTS ((CODE_LEN - BLOCK_START) / BLOCK_STRIDE)
#define BLOCK_WORDS (BLOCK_STRIDE / 4 - 3)

#define NOP 0xd503201fu

enum conf_status { ST_END, ST_TAKEN, ST_UNDEF, ST_FAULT, ST_TRAP, ST_OTHER };

/* Also the layout of the struct formats in harness.py. */
struct conf_state {
	uint64_t x[31];
	uint64_t sp;
	uint64_t v[32][2];
	uint32_t nzcv, fpcr, fpsr;
	uint32_t status; /* enum conf_status, after a run */
	uint64_t mem;    /* hash of the scratch, in detailed output only */
	uint64_t pc;     /* of a fault or trap, else 0 */
	uint64_t far;    /* of a fault, else 0 */
};

/* A row of the decode tables. */
struct row {
	const char *name;
	uint32_t mask, value;
	uint8_t family, kind, flags;
};

enum row_class { CL_INT, CL_BRANCH, CL_LDST, CL_ATOMIC, CL_FP, CL_SIMD, CL_CRYPTO, CL_SYSTEM };

enum row_kind {
	K_PLAIN,
	K_MEM,
	K_LOAD_EXCL,
	K_STORE_EXCL,
	K_BR_REG,
	K_BR26,
	K_BR19,
	K_BR14,
	K_SYSREG, /* MRS, MSR of NZCV, FPCR and FPSR */
	K_SKIP,   /* not in user mode: conf_rows.py says why */
};

#define ROW_X 1u      /* general registers are operands */
#define ROW_V 2u      /* SIMD registers are */
#define ROW_LIST 4u   /* Rn names a list of up to four */
#define ROW_PAIR 8u   /* Rs and Rt name pairs */
#define ROW_TRAP 16u  /* ends a block */
#define ROW_KNOWN 32u /* in the exception list: not in blocks */

extern const struct row rows[];
extern const unsigned row_count;
bool row_match(unsigned row, uint32_t word);

/* -- random numbers -------------------------------------------------------------- */

struct rng {
	uint64_t s;
};

static inline uint64_t
rng_next(struct rng *r)
{
	uint64_t z = (r->s += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31));
}

static inline unsigned
rng_below(struct rng *r, unsigned n)
{
	return ((unsigned)(((rng_next(r) >> 32) * n) >> 32));
}

/* A stream for (seed, what, number). */
struct rng rng_for(uint64_t seed, uint64_t what, uint64_t number);

static inline uint64_t
hash_add(uint64_t h, uint64_t v)
{
	return ((((h << 23) | (h >> 41)) ^ v) * UINT64_C(0x100000001b3));
}

/* -- gen.c: one instruction, many inputs ----------------------------------------- */

struct group {
	struct rng rng;
	unsigned row, tests;
	uint32_t words[4];
	uint64_t va;      /* of words[0] */
	uint32_t subject; /* the word under test, one of words[] */
	bool hole;        /* the access is to nowhere */
	uint8_t xs[8], vs[8];
	unsigned nx, nv;
	struct conf_state state;
};

/* Group `n` of `each` to a row; false: this row has no such group. */
bool group_make(struct group *, uint64_t seed, unsigned each, unsigned tests, unsigned n);
/* The inputs of the next test, into g->state. */
void group_next(struct group *);
uint64_t gen_integer(struct rng *);
void gen_vector(struct rng *, uint64_t v[2]);
void gen_special(struct rng *, unsigned size, uint64_t v[2]);
uint32_t gen_fpcr(struct rng *);
uint32_t gen_word(struct rng *, unsigned row, unsigned variant);
/* Distance from the base register to the address, and the alignment wanted. */
int64_t gen_offset(uint32_t word, const uint64_t *x, unsigned *align);
static inline bool
gen_is_literal(uint32_t word)
{
	return ((word >> 24 & 0x3b) == 0x18);
}

/* -- block.c --------------------------------------------------------------------- */

struct block {
	struct rng rng;
	uint32_t words[BLOCK_WORDS];
	unsigned n; /* the word behind the last is the exit */
	struct conf_state state;
};

void block_make(struct block *, uint64_t seed, unsigned n, uint64_t va);
void block_input(struct block *, unsigned input);

/* -- what an executor supplies --------------------------------------------------- */

/* FPCR is 0 and FPSR not looked at: what a simulator without them can do. */
extern bool conf_plain;
/* No pairs of exclusives in blocks: an interrupt between them clears the monitor. */
extern bool conf_no_exclusives;

#ifdef __cplusplus
extern "C" {
#endif
uint32_t *exec_code(void);                   /* CODE_BASE */
uint64_t *exec_scratch(void);                /* SCRATCH */
uint32_t exec_head(void);                    /* the first word of a slot */
uint32_t exec_exit(uint64_t va, bool taken); /* the word that ends a test */
void exec_code_changed(void);
/* Run from the slot at `va` to one of its exits. */
void exec_run(struct conf_state *, uint64_t va);

int conf_main(int argc, char **argv);
#ifdef __cplusplus
}
#endif

#endif /* CONF_H */
