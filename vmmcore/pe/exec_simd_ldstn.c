/*
 * Loads and stores of structures: LD1 to LD4, ST1 to ST4 of whole registers,
 * of one lane, and LD1R to LD4R, with and without post-index (DDI 0487,
 * C4.1.97). The register list goes from V31 on to V0.
 *
 * The memory of a group is contiguous, so each instruction is one access
 * through a buffer of at most 64 bytes, aligned to the element for the sake of
 * alignment faults; registers and base change only after it has succeeded.
 */
#include "pe/simd.h"

/* Base address, number of registers, bytes of memory. */
struct group {
	uint64_t base;
	unsigned regs, len;
	uint8_t buf[64];
};

#define IS_POST(in) FIELD((in)->word, 23, 1)
#define IS_LOAD(in) FIELD((in)->word, 22, 1)

/* Rm = 31 is the immediate form: by what was transferred. */
static inline void
write_back(struct pe *pe, const struct insn *in, const struct group *g)
{
	if (IS_POST(in))
		pe->x[in->rn] = g->base + (in->rm == 31 ? g->len : pe->x[in->rm]);
}

static inline uint8_t *
lane(struct pe *pe, const struct insn *in, unsigned reg, unsigned index, unsigned size)
{
	return ((uint8_t *)pe->v[(in->rd + reg) & 31] + (index << size));
}

/* --- whole registers ------------------------------------------------------ */

/* Put element e of register r in the place it has in memory, or take it from there. */
#define INTERLEAVE(T, LOAD)                                                               \
	for (unsigned e = 0; e < bytes / sizeof(T); e++)                                  \
		for (unsigned r = 0; r < n; r++) {                                        \
			uint8_t *m = g->buf + (e * n + r) * sizeof(T);                    \
			uint8_t *v = (uint8_t *)pe->v[(in->rd + r) & 31] + e * sizeof(T); \
                                                                                          \
			memcpy((LOAD) ? v : m, (LOAD) ? m : v, sizeof(T));                \
		}

static inline void
interleave(struct pe *pe, const struct insn *in, struct group *g, bool load)
{
	unsigned n = g->regs, bytes = 8u << SIMD_Q(in);

	switch (FIELD(in->word, 10, 2)) {
	case 0:
		INTERLEAVE(uint8_t, load) break;
	case 1:
		INTERLEAVE(uint16_t, load) break;
	case 2:
		INTERLEAVE(uint32_t, load) break;
	default:
		INTERLEAVE(uint64_t, load) break;
	}
}

/* LD1 and ST1: one register after the other. */
static inline void
consecutive(struct pe *pe, const struct insn *in, struct group *g, bool load)
{
	unsigned bytes = 8u << SIMD_Q(in);

	for (unsigned r = 0; r < g->regs; r++) {
		uint8_t *m = g->buf + r * bytes;
		uint8_t *v = (uint8_t *)pe->v[(in->rd + r) & 31];

		memcpy(load ? v : m, load ? m : v, bytes);
	}
}

static inline void
clear_upper(struct pe *pe, const struct insn *in, unsigned regs)
{
	if (SIMD_Q(in))
		return;
	for (unsigned r = 0; r < regs; r++)
		pe->v[(in->rd + r) & 31][1] = 0;
}

typedef void move_fn(struct pe *, const struct insn *, struct group *, bool);

static inline int
multiple(struct pe *pe, const struct insn *in, unsigned regs, move_fn *move)
{
	const unsigned align = 1u << FIELD(in->word, 10, 2);
	struct group g;

	SIMD_ENTER(pe, in);
	if (unlikely(pe_check_sp(pe, in) != 0))
		return (INSN_EXC);
	g.base = pe->x[in->rn];
	g.regs = regs;
	g.len = regs * (8u << SIMD_Q(in));
	if (IS_LOAD(in)) {
		if (unlikely(pe_read(pe, in, g.base, g.buf, g.len, align) != 0))
			return (INSN_EXC);
		move(pe, in, &g, true);
		clear_upper(pe, in, regs);
	} else {
		move(pe, in, &g, false);
		if (unlikely(pe_write(pe, in, g.base, g.buf, g.len, align) != 0))
			return (INSN_EXC);
	}
	write_back(pe, in, &g);
	return (INSN_NEXT);
}

#define MULTIPLE(name, REGS, MOVE)                          \
	int op_##name(struct pe *pe, const struct insn *in) \
	{                                                   \
		return (multiple(pe, in, REGS, MOVE));      \
	}

MULTIPLE(ldst2_m, 2, interleave)
MULTIPLE(ldst3_m, 3, interleave)
MULTIPLE(ldst4_m, 4, interleave)
MULTIPLE(ldst1_x1, 1, consecutive)
MULTIPLE(ldst1_x2, 2, consecutive)
MULTIPLE(ldst1_x3, 3, consecutive)
MULTIPLE(ldst1_x4, 4, consecutive)

/* --- one lane ------------------------------------------------------------- */

/* opcode[0]:R + 1 registers. */
static inline unsigned
lane_regs(const struct insn *in)
{
	return ((unsigned)(FIELD(in->word, 13, 1) << 1 | FIELD(in->word, 21, 1)) + 1);
}

/* Q:S:size without the bits that tell the size. */
static inline unsigned
lane_index(const struct insn *in, unsigned size)
{
	return ((unsigned)(SIMD_Q(in) << 3 | FIELD(in->word, 10, 3)) >> size);
}

static inline int
one_lane(struct pe *pe, const struct insn *in, unsigned size)
{
	unsigned index = lane_index(in, size);
	struct group g;

	SIMD_ENTER(pe, in);
	if (unlikely(pe_check_sp(pe, in) != 0))
		return (INSN_EXC);
	g.base = pe->x[in->rn];
	g.regs = lane_regs(in);
	g.len = g.regs << size;
	if (IS_LOAD(in)) {
		if (unlikely(pe_read(pe, in, g.base, g.buf, g.len, 1u << size) != 0))
			return (INSN_EXC);
		for (unsigned r = 0; r < g.regs; r++)
			memcpy(lane(pe, in, r, index, size), g.buf + (r << size), 1u << size);
	} else {
		for (unsigned r = 0; r < g.regs; r++)
			memcpy(g.buf + (r << size), lane(pe, in, r, index, size), 1u << size);
		if (unlikely(pe_write(pe, in, g.base, g.buf, g.len, 1u << size) != 0))
			return (INSN_EXC);
	}
	write_back(pe, in, &g);
	return (INSN_NEXT);
}

#define ONE_LANE(F, SIZE)                                      \
	int op_ldstn_##F(struct pe *pe, const struct insn *in) \
	{                                                      \
		return (one_lane(pe, in, SIZE));               \
	}

ONE_LANE(b, 0)
ONE_LANE(h, 1)
ONE_LANE(s, 2)
ONE_LANE(d, 3)

/* LD1R to LD4R: each element fills its register. */
int
op_ldn_r(struct pe *pe, const struct insn *in)
{
	unsigned size = FIELD(in->word, 10, 2);
	struct group g;

	SIMD_ENTER(pe, in);
	if (unlikely(pe_check_sp(pe, in) != 0))
		return (INSN_EXC);
	g.base = pe->x[in->rn];
	g.regs = lane_regs(in);
	g.len = g.regs << size;
	if (unlikely(pe_read(pe, in, g.base, g.buf, g.len, 1u << size) != 0))
		return (INSN_EXC);
	for (unsigned r = 0; r < g.regs; r++) {
		uint64_t element = 0;

		memcpy(&element, g.buf + (r << size), 1u << size);
		simd_put(pe, (in->rd + r) & 31, simd_dup(element, size), simd_vector(in));
	}
	write_back(pe, in, &g);
	return (INSN_NEXT);
}
