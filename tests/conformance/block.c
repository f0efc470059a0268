/*
 * Random blocks of 2 to 64 instructions: any rows, forward branches, loops,
 * loads and stores, now and then a fault.
 *
 * Five registers belong to the generator, so that a block ends and its
 * accesses stay where they should:
 *
 *	x24	target of BR and BLR
 *	x25	counter: every backward branch subtracts one and goes on only while
 *		it is not negative
 *	x26	index of a register-offset access
 *	x27	base of the next access
 *	x28	not used, not changed
 */
#include <string.h>

#include "conf.h"

bool conf_no_exclusives;

#define BITS(w, lo, n) (((w) >> (lo)) & ((1u << (n)) - 1))

#define R_TARGET 24u
#define R_COUNT 25u
#define R_INDEX 26u
#define R_BASE 27u

enum { BLOCK_MAX = 64 };

struct fixup {
	unsigned at;     /* word to patch */
	unsigned target; /* instruction number */
};

static void
emit(struct block *b, uint32_t word)
{
	b->words[b->n++] = word;
}

static void
emit_const(struct block *b, unsigned reg, uint32_t value)
{
	emit(b, 0xd2800000 | (value & 0xffff) << 5 | reg); /* movz */
	emit(b, 0xf2a00000 | (value >> 16) << 5 | reg);    /* movk, lsl #16 */
}

/* Keep the generator's registers out of the fields that name registers. */
static uint32_t
unreserve(const struct row *row, uint32_t word)
{
	static const unsigned lows[] = { 0, 5, 10, 16 };
	unsigned i;

	for (i = 0; i < 4; i++) {
		uint32_t reg = BITS(word, lows[i], 5);

		/* CASP fixes the lowest bit */
		if (reg >= 23 && reg <= 28 && (row->mask & 30u << lows[i]) == 0)
			word = (word & ~(31u << lows[i])) | (reg - 8) << lows[i];
	}
	return (word);
}

/* A row of the wanted kind and a word of it that leaves those registers alone. */
static uint32_t
plain_word(struct block *b, unsigned *n)
{
	unsigned i;

	for (i = 0; i < 1000; i++) {
		uint32_t word;

		*n = rng_below(&b->rng, row_count);
		if ((rows[*n].kind != K_PLAIN && rows[*n].kind != K_MEM) ||
		    (rows[*n].flags & ROW_KNOWN) != 0)
			continue;
		if ((rows[*n].flags & ROW_TRAP) != 0 && rng_below(&b->rng, 4) != 0)
			continue;
		word = unreserve(&rows[*n], gen_word(&b->rng, *n, rng_below(&b->rng, 64)));
		if (row_match(*n, word))
			return (word);
	}
	*n = 0;
	return (NOP);
}

/* Clear high bits of the immediate, so that the access stays near its base. */
static uint32_t
small_offset(uint32_t word)
{
	unsigned kind = BITS(word, 27, 3);

	if (kind == 7 && BITS(word, 24, 1) != 0)
		return (word & ~(0xfc0u << 10));
	return (word);
}

static void
emit_mem(struct block *b, unsigned n, uint32_t word)
{
	const struct row *row = &rows[n];
	uint64_t x[31] = { 0 }, base;
	bool indexed, hole = rng_below(&b->rng, 200) == 0;
	unsigned align;

	if (gen_is_literal(word)) {
		/* code of this block; its exit differs between the executors */
		if (b->n >= 4) {
			uint32_t back = 4 + rng_below(&b->rng, b->n - 3);

			emit(b, (word & ~(0x7ffffu << 5)) | (-back & 0x7ffff) << 5);
		}
		return;
	}
	word = small_offset(word);
	indexed = BITS(word, 27, 3) == 7 && BITS(word, 24, 1) == 0 && BITS(word, 21, 1) != 0 &&
		  BITS(word, 10, 2) == 2;
	if ((row->mask & 31u << 5) != 0)
		return;
	word = (word & ~(31u << 5)) | R_BASE << 5;
	if (indexed)
		word = (word & ~(31u << 16)) | R_INDEX << 16;
	if (!row_match(n, word))
		return;
	base = SCRATCH + 256 + rng_below(&b->rng, 1024) / 16 * 16;
	if (indexed)
		base = SCRATCH + rng_below(&b->rng, 5) * 16;
	else
		base -= (uint64_t)gen_offset(word, x, &align);
	if (hole)
		base = HOLE + 64;
	if (indexed) /* and x26, xN, #0x78 */
		emit(b, 0x927d0c00 | rng_below(&b->rng, 23) << 5 | R_INDEX);
	emit_const(b, R_BASE, (uint32_t)base);
	if (!hole && rng_below(&b->rng, 8) == 0) /* movk, lsl #48: a tag */
		emit(b, 0xf2e00000 | rng_below(&b->rng, 256) << 13 | R_BASE);
	/* off by a little: unaligned where that is allowed */
	if (!indexed && !hole && row->family != CL_ATOMIC && row->kind == K_MEM &&
	    rng_below(&b->rng, 3) == 0)
		emit(b, 0x91000000 | (1 + rng_below(&b->rng, 15)) << 10 | R_BASE << 5 | R_BASE);
	emit(b, word);
}

/* LDXR, something, STXR to the same place. */
static void
emit_exclusive(struct block *b)
{
	uint32_t size = rng_below(&b->rng, 4), rt = rng_below(&b->rng, 23);
	uint32_t rs = rng_below(&b->rng, 23), rt2 = rng_below(&b->rng, 23);

	emit_const(b, R_BASE, SCRATCH + rng_below(&b->rng, 100) * 16);
	emit(b, 0x085f7c00 | size << 30 | R_BASE << 5 | rt);
	if (rng_below(&b->rng, 4) == 0)
		emit(b, 0xd503305f);    /* clrex */
	if (rng_below(&b->rng, 6) == 0) /* somewhere else */
		emit(b, 0x91000000 | 16 << 10 | R_BASE << 5 | R_BASE);
	emit(b, 0x08007c00 | size << 30 | rs << 16 | R_BASE << 5 | rt2);
}

static void
emit_branch(struct block *b, unsigned now, unsigned count, struct fixup *fix, unsigned *nfix)
{
	unsigned k = rng_below(&b->rng, 8), reg = rng_below(&b->rng, 23);
	unsigned target = now + 1 + rng_below(&b->rng, count - now);
	uint32_t sf = rng_below(&b->rng, 2) << 31;

	if (k < 2 && now > 0) { /* backward */
		target = rng_below(&b->rng, now);
		k = rng_below(&b->rng, 8);
		emit(b, 0xf1000400 | R_COUNT << 5 | R_COUNT); /* subs x25, x25, #1 */
		if (k >= 2)
			emit(b, (k < 7 ? 0xb7f80040 : 0xb7f80060) | R_COUNT); /* tbnz x25, #63 */
		fix[*nfix] = (struct fixup){ b->n, target };
		(*nfix)++;
		if (k < 7) { /* b.ge, tbz x25, b, bl, cbz xzr, tbz, cbnz */
			static const uint32_t jump[] = { 0x5400000a, 0xb6f80000 | R_COUNT,
				0x14000000, 0x94000000, 0xb400001f, 0x36f8001f,
				0xb5000000 | R_INDEX };

			emit(b, jump[k]);
		} else {
			emit(b, 0x10000000 | R_TARGET);
			emit(b, 0xd63f0000 | R_TARGET << 5);
		}
		return;
	}
	if (k == 2) { /* the address is in reach of ADR */
		fix[*nfix] = (struct fixup){ b->n, target };
		(*nfix)++;
		emit(b, 0x10000000 | R_TARGET);
		emit(b, (rng_below(&b->rng, 2) != 0 ? 0xd61f0000 : 0xd63f0000) | R_TARGET << 5);
		return;
	}
	fix[*nfix] = (struct fixup){ b->n, target };
	(*nfix)++;
	switch (k) {
	case 3:
		emit(b, 0x14000000);
		break;
	case 4:
		emit(b, 0x94000000);
		break;
	case 5:
		emit(b, sf | rng_below(&b->rng, 2) << 24 | 0x34000000 | reg);
		break;
	case 6:
		emit(b, sf | rng_below(&b->rng, 2) << 24 | 0x36000000 |
			    rng_below(&b->rng, 32) << 19 | reg);
		break;
	default:
		emit(b, 0x54000000 | rng_below(&b->rng, 16));
		break;
	}
}

static uint32_t
patch(uint32_t word, int32_t words)
{
	if ((word & 0x7c000000) == 0x14000000)
		return (word | ((uint32_t)words & 0x03ffffff));
	if ((word & 0x7e000000) == 0x36000000)
		return (word | ((uint32_t)words & 0x3fff) << 5);
	return (word | ((uint32_t)words & 0x7ffff) << 5); /* ADR too: immlo is 0 */
}

void
block_make(struct block *b, uint64_t seed, unsigned n, uint64_t va)
{
	unsigned i, row, count, nfix = 0, start[BLOCK_MAX + 1];
	struct fixup fix[BLOCK_MAX];

	(void)va;
	b->rng = rng_for(seed, 3, n);
	b->n = 0;
	count = 2 + rng_below(&b->rng, BLOCK_MAX - 1);
	for (i = 0; i < count; i++) {
		unsigned k = rng_below(&b->rng, 16);
		uint32_t word;

		start[i] = b->n;
		if (k < 2) {
			emit_branch(b, i, count, fix, &nfix);
		} else if (k == 2) {
			if (!conf_no_exclusives)
				emit_exclusive(b);
		} else if (k == 3 && rng_below(&b->rng, 4) == 0) { /* mrs, msr nzcv */
			emit(b, 0xd51b4200 | rng_below(&b->rng, 2) << 21 | rng_below(&b->rng, 23));
		} else {
			word = plain_word(b, &row);
			if (rows[row].kind == K_MEM)
				emit_mem(b, row, word);
			else
				emit(b, word);
		}
	}
	start[count] = b->n;
	for (i = 0; i < nfix; i++)
		b->words[fix[i].at] =
		    patch(b->words[fix[i].at], (int32_t)start[fix[i].target] - (int32_t)fix[i].at);
}

void
block_input(struct block *b, unsigned input)
{
	struct conf_state *s = &b->state;
	unsigned i;

	(void)input;
	memset(s, 0, sizeof(*s));
	for (i = 0; i < 31; i++)
		s->x[i] = gen_integer(&b->rng);
	for (i = 0; i < 32; i++)
		gen_vector(&b->rng, s->v[i]);
	s->x[R_COUNT] = rng_below(&b->rng, 4);
	s->sp = SCRATCH + 0x200;
	s->nzcv = (uint32_t)rng_next(&b->rng) & 0xf0000000;
	s->fpcr = gen_fpcr(&b->rng);
	s->fpsr = 0;
}
