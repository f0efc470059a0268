/*
 * Flags that the translator makes again where somebody looks: a comparison of
 * what the next instruction may change, that instruction, a branch out of the
 * block, flags set again. The instructions are those of every row of the decode
 * tables in turn. One hash a program; test_jit_rows.py compares the engines.
 */
#include "jit_program.h"

#define INPUTS 8u

/* A register that `word` names, or the one behind it. */
static uint32_t
named(uint32_t word)
{
	static const unsigned at[4] = { 0, 5, 10, 16 };

	return (((word >> at[pick(4)] & 31) + pick(2)) & 31);
}

/* CMP, CMN, TST and the like of them. */
static uint32_t
comparison(uint32_t word)
{
	uint32_t sf = pick(2) << 31, rn = named(word) << 5, rm = named(word) << 16;

	switch (pick(6)) {
	case 0:
		return (sf | 0x7100001f | pick(4096) << 10 | rn); /* subs imm */
	case 1:
		return (sf | 0x2b00001f | rm | rn); /* adds */
	case 2:
		return (sf | 0x6a00001f | rm | rn); /* ands */
	case 3:
		return (0x1e202000 | pick(2) << 22 | rm | rn); /* fcmp */
	default:
		return (sf | 0x6b00001f | rm | pick(32) << 10 | rn); /* subs, shifted */
	}
}

static uint64_t
run(unsigned n)
{
	uint32_t *code = exec_code();
	struct group g;
	uint64_t h = n;

	n %= row_count;
	if (rows[n].kind >= K_BR_REG || !group_make(&g, rng_next(&rng), 1, INPUTS, n))
		return (h);
	code[0] = NOP;
	code[1] = comparison(g.subject);
	memcpy(code + 2, g.words, sizeof(g.words));
	code[6] = 0x36000060 | pick(2) << 24 | pick(31); /* tbz, tbnz over the next two */
	code[7] = 0xeb01001f;                            /* cmp x0, x1 */
	code[8] = exec_exit(CODE_BASE + 32, false);
	code[9] = exec_exit(CODE_BASE + 36, true);
	exec_code_changed();
	for (unsigned i = 0; i < INPUTS; i++) {
		group_next(&g);
		h = hash_add(h, run_hash(&g.state));
	}
	return (h);
}
