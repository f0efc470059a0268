/*
 * The command line of both executors.
 *
 *	insn SEED EACH TESTS FIRST COUNT OUT		a hash and the number of tests a group
 *	insn-detail SEED EACH TESTS GROUP OUT		every test: words, state before, after
 *	block SEED INPUTS FIRST COUNT OUT		a hash a block
 *	block-detail SEED INPUTS BLOCK FIRST OUT	words, then states before and after,
 *							behind the blocks from FIRST on
 *	run IN OUT					one program: the state after it
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"

static FILE *out;

static void
run(struct conf_state *s, uint64_t va)
{
	exec_run(s, va);
	if (conf_plain)
		s->fpsr = 0;
}

static void
scratch_fill(struct rng *r)
{
	uint64_t *p = exec_scratch();
	unsigned i;

	for (i = 0; i < SCRATCH_LEN / 8; i++)
		p[i] = rng_next(r);
}

static uint64_t
scratch_hash(uint64_t h)
{
	const uint64_t *p = exec_scratch();
	unsigned i;

	for (i = 0; i < SCRATCH_LEN / 8; i++)
		h = hash_add(h, p[i]);
	return (h);
}

static uint64_t
state_hash(uint64_t h, const struct conf_state *s)
{
	unsigned i;

	for (i = 0; i < 31; i++)
		h = hash_add(h, s->x[i]);
	h = hash_add(h, s->sp);
	for (i = 0; i < 32; i++)
		h = hash_add(hash_add(h, s->v[i][0]), s->v[i][1]);
	h = hash_add(h, (uint64_t)s->nzcv << 32 | s->fpcr);
	h = hash_add(h, (uint64_t)s->fpsr << 32 | s->status);
	return (hash_add(hash_add(h, s->pc), s->far));
}

/* The registers that the words name; the rest is looked at when the group ends. */
static uint64_t
quick_hash(uint64_t h, const struct group *g)
{
	const struct conf_state *s = &g->state;
	unsigned i, rd = g->subject & 31;

	for (i = 0; i < g->nx; i++)
		h = hash_add(h, s->x[g->xs[i]]);
	for (i = 0; i < g->nv; i++)
		h = hash_add(hash_add(h, s->v[g->vs[i]][0]), s->v[g->vs[i]][1]);
	if (rows[g->row].family == CL_LDST && g->nv != 0)
		for (i = 1; i < 4; i++)
			h = hash_add(hash_add(h, s->v[(rd + i) & 31][0]), s->v[(rd + i) & 31][1]);
	h = hash_add(h, s->sp ^ s->x[30]);
	h = hash_add(h, (uint64_t)(s->nzcv ^ s->fpcr) << 32 | (s->fpsr ^ s->status << 8));
	if (s->status != ST_END)
		h = hash_add(hash_add(h, s->pc), s->far);
	return (h);
}

/* -- single instructions --------------------------------------------------------- */

static void
insn_write(const struct group *g)
{
	uint64_t va = g->va - 4;
	uint32_t *slot = exec_code() + (va - CODE_BASE) / 4;

	slot[0] = exec_head();
	memcpy(slot + 1, g->words, sizeof(g->words));
	slot[5] = exec_exit(va + 20, false);
	slot[6] = exec_exit(va + 24, true);
	slot[7] = 0;
}

static uint64_t
insn_group(struct group *g, uint64_t seed, unsigned n, bool detail)
{
	struct rng mem = rng_for(seed, 2, n);
	uint64_t h = 1;
	unsigned i;

	scratch_fill(&mem);
	for (i = 0; i < g->tests; i++) {
		group_next(g);
		if (detail) {
			fwrite(g->words, sizeof(g->words), 1, out);
			fwrite(&g->state, sizeof(g->state), 1, out);
		}
		run(&g->state, g->va - 4);
		if (detail) {
			g->state.mem = scratch_hash(1);
			fwrite(&g->state, sizeof(g->state), 1, out);
			g->state.mem = 0;
		}
		h = quick_hash(h, g);
	}
	/* the low 16 bits say how many tests it is of */
	return ((scratch_hash(state_hash(h, &g->state)) & ~UINT64_C(0xffff)) | g->tests);
}

static void
insn_run(uint64_t seed, unsigned each, unsigned tests, unsigned first, unsigned count)
{
	static struct group groups[INSN_SLOTS];
	static bool made[INSN_SLOTS];
	unsigned i, n;

	if (count > row_count * each - first)
		count = row_count * each - first;
	while (count > 0) {
		/* as many as have different slots */
		n = INSN_SLOTS - first % INSN_SLOTS;
		if (n > count)
			n = count;
		for (i = 0; i < n; i++)
			if ((made[i] = group_make(&groups[i], seed, each, tests, first + i)))
				insn_write(&groups[i]);
		exec_code_changed();
		for (i = 0; i < n; i++) {
			uint64_t h = made[i] ? insn_group(&groups[i], seed, first + i, false) : 0;

			fwrite(&h, sizeof(h), 1, out);
		}
		first += n;
		count -= n;
	}
}

static int
insn_detail(uint64_t seed, unsigned each, unsigned tests, unsigned n)
{
	static struct group g;

	if (!group_make(&g, seed, each, tests, n))
		return (1);
	insn_write(&g);
	exec_code_changed();
	insn_group(&g, seed, n, true);
	return (0);
}

/* -- blocks ---------------------------------------------------------------------- */

static uint64_t
block_va(unsigned n)
{
	return (CODE_BASE + BLOCK_START + n % BLOCK_SLOTS * BLOCK_STRIDE);
}

static void
block_write(const struct block *b, unsigned n)
{
	uint64_t va = block_va(n);
	uint32_t *slot = exec_code() + (va - CODE_BASE) / 4;

	slot[0] = exec_head();
	memcpy(slot + 1, b->words, b->n * 4);
	slot[b->n + 1] = exec_exit(va + b->n * 4 + 4, false);
}

static uint64_t
block_inputs(struct block *b, uint64_t seed, unsigned n, unsigned inputs, bool detail)
{
	uint64_t h = 1;
	unsigned i;

	for (i = 0; i < inputs; i++) {
		struct rng mem = rng_for(seed, 4, (uint64_t)n << 16 | i);

		scratch_fill(&mem);
		block_input(b, i);
		if (detail)
			fwrite(&b->state, sizeof(b->state), 1, out);
		run(&b->state, block_va(n));
		b->state.mem = scratch_hash(1);
		if (detail)
			fwrite(&b->state, sizeof(b->state), 1, out);
		h = hash_add(state_hash(h, &b->state), b->state.mem);
		b->state.mem = 0;
	}
	return (h);
}

#define NO_DETAIL UINT_MAX

/* The hash of each block; or all of the block `detail`, whose slots and code memory are as there. */
static void
block_run(uint64_t seed, unsigned inputs, unsigned first, unsigned count, unsigned detail)
{
	static struct block blocks[BLOCK_SLOTS];
	unsigned i, n;

	for (; count > 0; first += n, count -= n) {
		n = BLOCK_SLOTS - first % BLOCK_SLOTS;
		if (n > count)
			n = count;
		for (i = 0; i < n; i++) {
			block_make(&blocks[i], seed, first + i, block_va(first + i));
			block_write(&blocks[i], first + i);
		}
		exec_code_changed();
		for (i = 0; i < n; i++) {
			struct block *b = &blocks[i];
			uint32_t words = b->n;
			uint64_t h;

			if (first + i == detail) {
				fwrite(&words, sizeof(words), 1, out);
				fwrite(b->words, 4, b->n, out);
				block_inputs(b, seed, detail, inputs, true);
				return;
			}
			h = block_inputs(b, seed, first + i, inputs, false);
			if (detail == NO_DETAIL)
				fwrite(&h, sizeof(h), 1, out);
		}
	}
}

/* The code and the state in `path`: a count, words, the state. The scratch is zero. */
static int
run_file(const char *path)
{
	static struct block b;
	FILE *in = fopen(path, "rb");
	uint32_t words;

	if (in == NULL || fread(&words, sizeof(words), 1, in) != 1 || words > BLOCK_WORDS ||
	    fread(b.words, 4, words, in) != words || fread(&b.state, sizeof(b.state), 1, in) != 1)
		return (1);
	fclose(in);
	b.n = words;
	block_write(&b, 0);
	exec_code_changed();
	memset(exec_scratch(), 0, SCRATCH_LEN);
	exec_run(&b.state, block_va(0));
	fwrite(&b.state, sizeof(b.state), 1, out);
	return (fclose(out) != 0);
}

int
conf_main(int argc, char **argv)
{
	uint64_t a[8] = { 0 };
	const char *mode = argc > 1 ? argv[1] : "";
	int i;

	conf_plain = getenv("CONF_PLAIN") != NULL;
	conf_no_exclusives = getenv("CONF_NO_EXCLUSIVES") != NULL;
	for (i = 2; i < argc - 1 && i < 10; i++)
		a[i - 2] = strtoull(argv[i], NULL, 0);
	if (argc < 4 || (out = fopen(argv[argc - 1], "wb")) == NULL) {
		fprintf(
		    stderr, "usage: %s insn|insn-detail|block|block-detail|run ... OUT\n", argv[0]);
		return (2);
	}
	if (strcmp(mode, "insn") == 0 && argc == 8)
		insn_run(a[0], (unsigned)a[1], (unsigned)a[2], (unsigned)a[3], (unsigned)a[4]);
	else if (strcmp(mode, "insn-detail") == 0 && argc == 7)
		return (insn_detail(a[0], (unsigned)a[1], (unsigned)a[2], (unsigned)a[3]) ||
			fclose(out) != 0);
	else if (strcmp(mode, "block") == 0 && argc == 7)
		block_run(a[0], (unsigned)a[1], (unsigned)a[2], (unsigned)a[3], NO_DETAIL);
	else if (strcmp(mode, "block-detail") == 0 && argc == 7 && a[3] <= a[2])
		block_run(a[0], (unsigned)a[1], (unsigned)a[3],
		    (unsigned)(a[2] - a[3] + BLOCK_SLOTS), (unsigned)a[2]);
	else if (strcmp(mode, "run") == 0 && argc == 4)
		return (run_file(argv[2]));
	else
		return (2);
	return (fclose(out) != 0);
}
