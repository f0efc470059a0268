/*
 * The decoder by itself.
 *
 *	sweep all [THREADS]	decode all 2^32 words: counts, and a hash of the set
 *				of UNDEFINED words
 *	sweep ops		read words in hexadecimal, print the row number of each
 *	sweep iss		the same with a64_ldst_iss()
 *
 * Linked with a64_decode.c and ldst_iss.c; the handlers it names are absent.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "pe/pe_internal.h"

#define BLOCK_BITS 20
#define BLOCKS (1u << (32 - BLOCK_BITS))

static uint64_t block_hash[BLOCKS];
static uint32_t block_undef[BLOCKS];
static atomic_uint next_block;

/* FNV-1a over the bitmap of UNDEFINED words of one block, 64 words at a time. */
static void
sweep_block(uint32_t b)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325), bits = 0;
	uint32_t base = b << BLOCK_BITS, i, n = 0;

	for (i = 0; i < 1u << BLOCK_BITS; i++) {
		uint32_t undef = a64_decode(base | i) == 0;

		n += undef;
		bits = bits << 1 | undef;
		if ((i & 63) == 63)
			hash = (hash ^ bits) * UINT64_C(0x100000001b3);
	}
	block_hash[b] = hash;
	block_undef[b] = n;
}

static void *
worker(void *arg)
{
	uint32_t b;

	while ((b = atomic_fetch_add(&next_block, 1)) < BLOCKS)
		sweep_block(b);
	return (arg);
}

static int
sweep_all(unsigned threads)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325), undef = 0;
	pthread_t t[8];
	unsigned i;

	if (threads < 1 || threads > 8)
		return (2);
	for (i = 0; i < threads; i++)
		if (pthread_create(&t[i], NULL, worker, NULL) != 0)
			return (1);
	for (i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	for (i = 0; i < BLOCKS; i++) {
		hash = (hash ^ block_hash[i]) * UINT64_C(0x100000001b3);
		undef += block_undef[i];
	}
	printf("rows %d undefined %llu hash %016llx\n", A64_OP_COUNT - A64_PAGE_END - 1,
	    (unsigned long long)undef, (unsigned long long)hash);
	return (0);
}

int
main(int argc, char **argv)
{
	char line[64];

	if (argc >= 2 && strcmp(argv[1], "all") == 0)
		return (sweep_all(argc > 2 ? (unsigned)atoi(argv[2]) : 2));
	if (argc != 2 || (strcmp(argv[1], "ops") != 0 && strcmp(argv[1], "iss") != 0)) {
		fprintf(stderr, "usage: sweep all [THREADS] | ops | iss\n");
		return (2);
	}
	while (fgets(line, sizeof(line), stdin) != NULL) {
		uint32_t word = (uint32_t)strtoul(line, NULL, 16);

		printf("%u\n", argv[1][0] == 'o' ? a64_decode(word) : a64_ldst_iss(word));
	}
	return (0);
}
