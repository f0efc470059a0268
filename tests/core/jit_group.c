/*
 * Programs of loads and stores that lie close together, for the executor of
 * tests/conformance: offsets, pre- and post-index and additions from a few base
 * registers near a page boundary, in a loop. One hash of registers and memory
 * a program; test_jit_rows.py compares the engines.
 */
#include "jit_program.h"

#define PAGE_EDGE (DATA_BASE + 4096)

/* Now and then a base register, which a load then spoils. */
static uint32_t
reg(void)
{
	return (pick(64) == 0 ? 1 + pick(4) : 5 + pick(25));
}

/* LDR and STR of 1 to 16 bytes, imm9, with or without change of the base. */
static uint32_t
single(uint32_t base)
{
	static const uint32_t mode[8] = { 0, 0, 0, 0, 0, 0, 1, 3 };
	uint32_t m = mode[pick(8)], load = pick(2), size = pick(4), v = pick(3) == 0;
	uint32_t q = v && size == 0, imm = m != 0 ? (pick(4) * 16 - 32) : pick(256) - 128;

	return (size << 30 | 0x38000000 | v << 26 | q << 23 | load << 22 | (imm & 511) << 12 |
		m << 10 | base << 5 | reg());
}

/* LDP and STP of X and Q. */
static uint32_t
pair(uint32_t base)
{
	static const uint32_t mode[8] = { 2, 2, 2, 2, 2, 2, 1, 3 };
	uint32_t m = mode[pick(8)], load = pick(2), v = pick(2), a = reg(), b = reg();
	uint32_t scale = v ? 16 : 8, imm;

	if (a == b)
		b = a == 29 ? 5 : a + 1;
	imm = m != 2 ? (pick(4) * 16 - 32) / scale : pick(32) - 16;
	if (m != 2)
		imm = (uint32_t)(((int32_t)pick(4) * 16 - 32) / (int32_t)scale);
	return ((v ? 0xac000000u : 0xa8000000u) | m << 23 | load << 22 | (imm & 127) << 15 |
		b << 10 | base << 5 | a);
}

/* LDR and STR with index X30 or W30, scaled or not; rarely one that changes X30. */
static uint32_t
indexed(uint32_t base)
{
	uint32_t load = pick(2), size = 2 + pick(2), v = pick(3) == 0,
		 q = v && size == 2 && pick(2);
	uint32_t option = pick(4) == 0 ? 2 : 3, s = pick(4) != 0, rt = reg();

	if (q)
		size = 0;
	if (pick(12) == 0)
		return (0xd27d0000 | 30 << 5 | 30); /* eor x30, x30, #8 */
	if (load && !v && pick(24) == 0)
		rt = 30;
	return (size << 30 | 0x38200800 | v << 26 | q << 23 | load << 22 | 30 << 16 | option << 13 |
		s << 12 | base << 5 | rt);
}

static uint32_t
word(uint32_t base)
{
	switch (pick(13)) {
	case 0: /* ADD, SUB of the base */
		return (0x91000000 | pick(2) << 30 | (16 << pick(2)) << 10 | base << 5 | base);
	case 1: /* of others */
		return (0x91000000 | pick(64) << 10 | reg() << 5 | reg());
	case 2: /* EOR base, base, #16: not followed; the SP has none */
		return (base == 31 ? NOP : 0xd27c0000 | base << 5 | base);
	case 3: /* CBNZ over the next */
		return (0xb5000040 | reg());
	case 4: /* ADD V, which has the number of a base; UMOV X, V.D[1] */
		return (pick(2) ? 0x4e208400 | reg() << 5 | pick(4)
				: 0x4e183c00 | pick(32) << 5 | reg());
	case 5:
	case 6:
	case 7:
		return (indexed(base));
	default:
		return (pick(3) == 0 ? single(base) : pair(base));
	}
}

static uint64_t
run(unsigned number)
{
	static const uint32_t bases[5] = { 1, 2, 3, 4, 31 };
	uint32_t *code = exec_code(), a = bases[pick(5)], b = bases[pick(5)];
	unsigned n = 1, len = 8 + pick(48);
	struct conf_state s;

	(void)number;
	memset(&s, 0, sizeof(s));
	for (unsigned i = 0; i < 31; i++)
		s.x[i] = rng_next(&rng);
	for (unsigned i = 0; i < 64; i++)
		s.v[i / 2][i % 2] = rng_next(&rng);
	s.x[0] = 5;
	s.x[30] = 8 * pick(8);
	for (unsigned i = 1; i < 5; i++)
		s.x[i] = PAGE_EDGE + 8 * pick(64) - 256;
	s.sp = PAGE_EDGE + 16 * pick(32) - 256 + (pick(16) == 0 ? 8 : 0);
	while (n < len)
		code[n++] = word(pick(8) != 0 ? a : b);
	code[n++] = NOP;
	code[n++] = 0xd1000400;                                         /* sub x0, x0, #1 */
	code[n] = 0xb5000000 | ((uint32_t)(1 - (int)n) & 0x7ffff) << 5; /* cbnz x0 */
	n++;
	code[n] = exec_exit(CODE_BASE + 4 * n, false);
	exec_code_changed();
	return (run_hash(&s));
}
