/*
 * What the generated programs of jit_*.c have in common: the random numbers, the
 * hash of what a run leaves, and the command line.
 *
 *	SEED COUNT
 */
#ifndef JIT_PROGRAM_H
#define JIT_PROGRAM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"

static struct rng rng;

static inline uint32_t
pick(uint32_t n)
{
	return (rng_below(&rng, n));
}

/* Run the program at CODE_BASE from *s: a hash of the registers and the memory after it. */
static inline uint64_t
run_hash(struct conf_state *s)
{
	const uint64_t *mem = exec_scratch();
	uint64_t h = 0;

	exec_run(s, CODE_BASE);
	for (unsigned i = 0; i < sizeof(*s) / 8; i++)
		h = hash_add(h, ((uint64_t *)(void *)s)[i]);
	for (unsigned i = 0; i < SCRATCH_LEN / 8; i++)
		h = hash_add(h, mem[i]);
	return (h);
}

/* One program, made and run: its hash. */
static uint64_t run(unsigned n);

int
conf_main(int argc, char **argv)
{
	unsigned count;

	if (argc != 3)
		return (2);
	rng.s = strtoull(argv[1], NULL, 0);
	count = (unsigned)atoi(argv[2]);
	for (unsigned i = 0; i < count; i++)
		printf("%016llx\n", (unsigned long long)run(i));
	return (0);
}

#endif /* JIT_PROGRAM_H */
