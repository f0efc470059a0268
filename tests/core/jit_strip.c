/*
 * Loops whose addresses go up or down by constants, for the executor of
 * tests/conformance: bases and indexes that move by additions, pre- and
 * post-index or stay, up to 600 rounds over page boundaries and off the memory
 * that is there, with exits and arithmetic between. One hash of registers and
 * memory a program; test_jit_rows.py compares the engines.
 */
#include "jit_program.h"

#define PAGE_EDGE (DATA_BASE + 4096)

/* x0 rounds; x1 to x4, x11, x12 and SP bases; x13, x19 indexes; others are values. */
static uint32_t
value(void)
{
	return (pick(100) == 0 ? 1 + pick(4) : pick(2) ? 5 + pick(6) : 20 + pick(10));
}

static uint32_t
base(void)
{
	static const uint32_t bases[] = { 1, 2, 3, 4, 11, 12, 31 };

	return (bases[pick(pick(3) == 0 ? 7 : 3)]);
}

static uint32_t
single(void)
{
	static const uint32_t mode[8] = { 0, 0, 0, 0, 1, 1, 1, 3 };
	uint32_t m = mode[pick(8)], load = pick(2), size = pick(4), v = pick(3) == 0;
	uint32_t q = v && size == 0 && pick(2), imm = m == 0 ? pick(64) - 32 : pick(48) - 16;
	uint32_t n = base();

	if (n == 31 && m != 0)
		imm = 16;
	return (size << 30 | 0x38000000 | v << 26 | q << 23 | load << 22 | (imm & 511) << 12 |
		m << 10 | n << 5 | value());
}

static uint32_t
pair(void)
{
	static const uint32_t mode[4] = { 2, 2, 1, 3 };
	uint32_t load = pick(2), v = pick(2), a = value(), b = value(), n = base();

	if (a == b)
		b = a == 29 ? 20 : a + 1;
	return ((v ? 0xac000000u : 0xa8000000u) | mode[n == 31 ? 0 : pick(4)] << 23 | load << 22 |
		((pick(5) - 2) & 127) << 15 | b << 10 | n << 5 | a);
}

/* With index X13, X19 or W19, scaled or not. */
static uint32_t
indexed(void)
{
	uint32_t load = pick(2), size = pick(4), v = pick(3) == 0, q = v && size == 0 && pick(2);
	uint32_t m = pick(2) ? 13 : 19, option = m == 19 && pick(4) == 0 ? 2 : 3;

	return (size << 30 | 0x38200800 | v << 26 | q << 23 | load << 22 | m << 16 | option << 13 |
		pick(2) << 12 | base() << 5 | value());
}

static uint32_t
word(void)
{
	uint32_t r;

	switch (pick(16)) {
	case 0: /* ADD, SUB of a base, with and without flags */
		r = base();
		return (0x91000000 | pick(2) << 30 | (r != 31 && pick(3) == 0) << 29 |
			(r == 31 ? 16 : pick(pick(4) ? 40 : 600)) << 10 | r << 5 | r);
	case 1: /* of an index */
		r = pick(2) ? 13 : 19;
		return (0x91000000 | pick(2) << 30 | pick(9) << 10 | r << 5 | r);
	case 2: /* EOR of a value, rarely of an index: not followed */
		r = pick(8) ? value() : 13;
		return (0xd27d0000 | r << 5 | r);
	case 3: /* FMUL, FADD of doubles: NaNs are for the handler; FMOV, FCVTZS to a base or value */
		if (pick(6) == 0)
			return ((pick(2) ? 0x9e660000u : 0x9e780000u) | pick(32) << 5 | value());
		return (0x1e600800 | pick(2) << 13 | (pick(32) << 16) | pick(32) << 5 | pick(32));
	case 4: /* FADD of vectors; FMADD */
		return (pick(2) ? 0x4e60d400 | pick(32) << 16 | pick(32) << 5 | pick(32)
				: 0x1f400000 | pick(32) << 16 | pick(32) << 10 | pick(32) << 5 |
				      pick(32));
	case 5: /* ADD of values; SUBS */
		return (0x8b000000 | (pick(4) == 0 ? 0x60000000u : 0) | value() << 16 |
			value() << 5 | value());
	case 6:
	case 7:
	case 8:
	case 9:
		return (indexed());
	case 10:
	case 11:
		return (pair());
	default:
		return (single());
	}
}

static uint64_t
address(void)
{
	static const uint64_t near[3] = { DATA_BASE + 64, PAGE_EDGE, PAGE_EDGE + 3900 };

	return (near[pick(3)] + pick(256) * (pick(4) ? 8u : 1u) - (pick(2) ? 1024 : 0));
}

static uint64_t
run(unsigned number)
{
	uint32_t *code = exec_code();
	unsigned n = 1, len = 2 + pick(12), out[3], outs = 0;
	struct conf_state s;

	(void)number;
	memset(&s, 0, sizeof(s));
	for (unsigned i = 0; i < 31; i++)
		s.x[i] = rng_next(&rng);
	for (unsigned i = 0; i < 64; i++)
		s.v[i / 2][i % 2] =
		    pick(40) ? UINT64_C(0x3ff0000000000000) + pick(1000) : rng_next(&rng);
	s.x[0] = 1 + pick(pick(3) ? 600 : 12);
	for (unsigned i = 1; i < 5; i++)
		s.x[i] = address();
	s.x[11] = address();
	s.x[12] = address();
	s.x[13] = 8 * pick(8);
	s.x[19] = pick(64) - 32u;
	if (pick(2))
		s.x[19] = (uint32_t)s.x[19];
	s.sp = (address() & ~UINT64_C(15)) + (pick(32) == 0 ? 8 : 0);
	while (n < len + 1) {
		if (pick(16) == 0 && outs < 3) {
			/* TBNZ of a value or of the counter, out of the loop */
			out[outs++] = n;
			code[n++] = pick(3) << 19 | (pick(3) ? 0 : value());
			continue;
		}
		code[n++] = word();
	}
	if (pick(2)) {
		code[n++] = 0xd1000400;                                         /* sub x0, x0, #1 */
		code[n] = 0xb5000000 | ((uint32_t)(1 - (int)n) & 0x7ffff) << 5; /* cbnz x0 */
	} else {
		code[n++] = 0xf1000400; /* subs x0, x0, #1 */
		code[n] = 0x54000001 | ((uint32_t)(1 - (int)n) & 0x7ffff) << 5; /* b.ne */
	}
	n++;
	code[n++] = 0x9a9f07e5; /* cset x5, eq and so on: look at the flags */
	code[n++] = word();
	for (unsigned i = 0; i < outs; i++) {
		unsigned bit = code[out[i]] >> 19 & 3, rt = code[out[i]] & 31;

		code[out[i]] = 0x37000000 | (rt == 0 ? 7 + bit : 1 + bit) << 19 |
			       (n - out[i] - pick(2)) << 5 | rt;
	}
	code[n] = exec_exit(CODE_BASE + 4 * n, false);
	exec_code_changed();
	return (run_hash(&s));
}
