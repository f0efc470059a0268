/*
 * Loops whose addresses go up or down by constants, for the executor of
 * tests/conformance: bases and indexes that move by additions, pre- and
 * post-index or stay, up to 600 rounds over page boundaries and off the memory
 * that is there, with exits, ways aside that come back further down, and
 * arithmetic between. One hash of registers and memory a program;
 * test_jit_rows.py compares the engines.
 */
#include "jit_program.h"

#define PAGE_EDGE (DATA_BASE + 4096)

/* Programs of mostly arithmetic, on few V registers, with many comparisons. */
static bool dense;

static uint32_t
vector(void)
{
	return (pick(dense ? 4 : 32));
}

/* x0 rounds; x1 to x4, x11, x12 and SP bases; x13, x19 indexes; x14, x15 sums; others are values. */
static uint32_t
value(void)
{
	return (pick(100) == 0 ? 1 + pick(4) : pick(2) ? 5 + pick(6) : 20 + pick(10));
}

static uint32_t
base(void)
{
	static const uint32_t bases[] = { 1, 2, 3, 4, 11, 12, 31 };

	if (pick(5) == 0)
		return (14 + pick(2));
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

/* What computes only; NaNs are for the handlers. */
static uint32_t
pure(void)
{
	uint32_t r = value() << 16 | value() << 5 | value();
	uint32_t v = vector() << 16 | vector() << 5 | vector();

	switch (dense && pick(3) == 0 ? 5 : pick(8)) {
	case 0: /* EOR, rarely of an index: not followed */
		r = pick(8) ? value() : 13;
		return (0xd27d0000 | r << 5 | r);
	case 1:
	case 2: /* FMUL, FADD of doubles; FMOV, FCVTZS to a base or value */
		if (pick(6) == 0)
			return ((pick(2) ? 0x9e660000u : 0x9e780000u) | vector() << 5 | value());
		return (0x1e600800 | pick(2) << 13 | v);
	case 3: /* FADD of vectors; FMADD */
		return (pick(2) ? 0x4e60d400 | v : 0x1f400000 | v | vector() << 10);
	case 4: /* ADD, SUBS */
		return (0x8b000000 | (pick(3) == 0 ? 0x60000000u : 0) | r);
	case 5: /* CMP; FCMP, with zero too */
		return (pick(2) ? 0xeb00001f | (r & ~31u)
				: 0x1e602000 | (pick(2) ? 8 : v & ~31u) | (v & 0x3e0));
	case 6: /* CSEL, eq and so on */
		return (0x9a800000 | pick(14) << 12 | r);
	default:
		return (0x8b000000 | r);
	}
}

/* X14, X15 or X13 made anew of bases and indexes. */
static uint32_t
sum(void)
{
	uint32_t d = pick(6) == 0 ? 13 : 14 + pick(2), n = base(), m = pick(2) ? 13 : 19, r;

	if (n == 31)
		n = 1;
	switch (pick(5)) {
	case 0: /* MOV */
		return (0xaa0003e0 | n << 16 | d);
	case 1: /* LSL by 1 to 3 of an index */
		r = 1 + pick(3);
		return (0xd3400000 | (64 - r) << 16 | (63 - r) << 10 | m << 5 | d);
	case 2: /* ADD, SUB of a constant */
		return (0x91000000 | pick(2) << 30 | pick(64) << 10 | n << 5 | d);
	default: /* ADD, rarely SUB, of an index, shifted */
		return (0x8b000000 | (pick(16) == 0) << 30 | m << 16 | pick(4) << 10 | n << 5 | d);
	}
}

static uint32_t
word(void)
{
	uint32_t r;

	switch (dense && pick(5) != 0 ? 2 : pick(18)) {
	case 16:
	case 17:
		return (sum());
	case 0: /* ADD, SUB of a base, with and without flags */
		r = base();
		return (0x91000000 | pick(2) << 30 | (r != 31 && pick(3) == 0) << 29 |
			(r == 31 ? 16 : pick(pick(4) ? 40 : 600)) << 10 | r << 5 | r);
	case 1: /* of an index */
		r = pick(2) ? 13 : 19;
		return (0x91000000 | pick(2) << 30 | pick(9) << 10 | r << 5 | r);
	case 2:
	case 3:
	case 4:
	case 5:
		return (pure());
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

/* TBNZ of a value or of the counter, B.cond or CBZ, from `at` to `to`. */
static uint32_t
branch(unsigned at, unsigned to)
{
	uint32_t by = (to - at) << 5;

	switch (pick(4)) {
	case 0:
		return (0x54000000 | by | pick(14));
	case 1:
		return (0xb4000000 | by | value());
	case 2:
		return (0x37000000 | (1 + pick(4)) << 19 | by | value());
	default:
		return (0x37000000 | pick(10) << 19 | by);
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
	unsigned n = 1, len = 2 + pick(12), out[3], outs = 0, last, end;
	struct conf_state s;

	(void)number;
	dense = pick(3) == 0;
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
	s.x[14] = address();
	s.x[15] = address();
	s.x[13] = 8 * pick(8);
	s.x[19] = pick(64) - 32u;
	if (pick(2))
		s.x[19] = (uint32_t)s.x[19];
	s.sp = (address() & ~UINT64_C(15)) + (pick(32) == 0 ? 8 : 0);
	while (n < len + 1) {
		if (pick(10) == 0 && outs < 3)
			out[outs++] = n++;
		else
			code[n++] = word();
	}
	if (pick(2)) {
		code[n++] = 0xd1000400;                                         /* sub x0, x0, #1 */
		code[n] = 0xb5000000 | ((uint32_t)(1 - (int)n) & 0x7ffff) << 5; /* cbnz x0 */
	} else {
		code[n++] = 0xf1000400; /* subs x0, x0, #1 */
		code[n] = 0x54000001 | ((uint32_t)(1 - (int)n) & 0x7ffff) << 5; /* b.ne */
	}
	last = n++;
	code[n++] = 0x9a9f07e5; /* cset x5, eq and so on: look at the flags */
	n += 2;                 /* back into the loop, below */
	code[n++] = word();
	code[n] = exec_exit(CODE_BASE + 4 * n, false);
	end = n++;
	code[last + 2] = 0xb4000000 | 2 << 5; /* cbz x0, over the next */
	code[last + 3] = NOP;
	for (unsigned i = 0; i < outs; i++) {
		if (pick(4) == 0) { /* out of the loop; else aside, and back further down */
			code[out[i]] = branch(out[i], end - pick(2));
			continue;
		}
		code[out[i]] = branch(out[i], n);
		if (pick(4) == 0)
			code[last + 3] = branch(last + 3, n);
		for (unsigned k = pick(4); k > 0; k--)
			code[n++] = pick(4) ? pure() : word();
		code[n] = 0x14000000 | ((out[i] + 1 + pick(last - 1 - out[i]) - n) & 0x3ffffff);
		n++;
	}
	exec_code_changed();
	return (run_hash(&s));
}
