/*
 * Runs one program on two PEs, each in a thread of its own, over the same
 * memory: insn_threads CODE N. The code file holds A64 words; x0 is the number
 * of the thread, x1 the scratch memory (zeroed), x2 is N; BRK ends a thread.
 * Prints the first eight doublewords of the scratch.
 */
#define main host_main
#include "insn_host.c"
#undef main

#include <pthread.h>

static uint32_t words[CODEPAGE_INSNS];
static size_t nwords;
static uint64_t rounds;

static void *
thread(void *arg)
{
	struct codepage *cp = aligned_alloc(CODEPAGE_ALIGN, 2 * CODEPAGE_ALIGN);
	struct pe *pe = calloc(1, sizeof(*pe));
	const struct insn *in;
	int r;

	if (cp == NULL || pe == NULL)
		abort();
	for (size_t i = 0; i < CODEPAGE_INSNS; i++)
		a64_decode_insn(i < nwords ? words[i] : 0, &cp->insn[i]);
	pe->tlb = pe->tlb_unpriv = &tlb;
	pe->pc_page = CASE_CODE;
	pe->x[0] = (uintptr_t)arg;
	pe->x[1] = CASE_SCRATCH;
	pe->x[2] = rounds;
	for (in = cp->insn;;) {
		while ((r = a64_handler[in->op](pe, in)) == INSN_NEXT)
			in++;
		if (r == INSN_EXC)
			break;
		in = &cp->insn[(pe->pc & 0xfff) >> 2];
	}
	free(cp);
	free(pe);
	return (NULL);
}

int
main(int argc, char **argv)
{
	const uint64_t *scratch = (const void *)(pages + (CASE_SCRATCH - CASE_PAGES));
	pthread_t t[2];
	uintptr_t i;
	FILE *f;

	if (argc != 3 || (f = fopen(argv[1], "rb")) == NULL)
		return (2);
	nwords = fread(words, 4, CODEPAGE_INSNS, f);
	fclose(f);
	rounds = strtoull(argv[2], NULL, 0);
	tlb_init();
	for (i = 0; i < 2; i++)
		if (pthread_create(&t[i], NULL, thread, (void *)i) != 0)
			return (1);
	for (i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	for (i = 0; i < 8; i++)
		printf("%llu ", (unsigned long long)scratch[i]);
	printf("status %u\n", status);
	return (0);
}
