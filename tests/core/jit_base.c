/*
 * Programs of loads, stores and atomics at the address that a register holds, for
 * the executor of tests/conformance: bases that translated code keeps in host
 * registers and others, that are operand or result as well, post-index by numbers
 * and registers, misaligned, over a page boundary, with the SP. One hash of
 * registers and memory a program; test_jit_rows.py compares the engines.
 */
#include "jit_program.h"

#define SAVED 28 /* what the base is set to before each access */
#define ROUNDS 27

static const uint8_t bases[] = { 0, 1, 2, 3, 4, 8, 19, 20, 5, 12, 31 };

/* A register of a result or operand: often the base. */
static uint32_t
reg(uint32_t base)
{
	uint32_t r = pick(27);

	return (base != 31 && pick(3) == 0 ? base : r);
}

/* LDR and STR of all sizes: imm12 = 0, LDTR and STTR, post-index; base and index. */
static uint32_t
single(uint32_t base)
{
	uint32_t v = pick(4) == 0, size = pick(4), opc = pick(2), form = pick(4), rt = reg(base);

	if (!v && pick(4) == 0 && size < 2)
		opc = 2;
	if (v && size == 0 && pick(2))
		opc |= 2;
	if (form == 0 && v)
		form = 1;
	return (size << 30 | 0x38000000 | v << 26 | opc << 22 | base << 5 | rt |
		(form == 0      ? 0x800
		    : form == 1 ? 0x1000000
		    : form == 2 ? (pick(32) - 16 & 511) << 12 | 0x400
				: 0x206800 | SAVED << 16));
}

/* LDP and STP of W, X, S, D and Q: offset 0 or 16, post-index. */
static uint32_t
pair(uint32_t base)
{
	uint32_t v = pick(3) == 0, opc = v ? pick(3) : pick(2) * 2, load = pick(2);
	uint32_t mode = 1 + pick(2), a = reg(base), b = reg(base);

	if (a == b)
		b = a == 0 ? 1 : a - 1;
	return (opc << 30 | 0x28000000 | v << 26 | mode << 23 | load << 22 | pick(2) << 15 |
		b << 10 | base << 5 | a);
}

/* LD1 to LD4, ST1 to ST4 of registers, lanes and to all lanes, with and without post-index. */
static uint32_t
structure(uint32_t base)
{
	static const uint8_t several[] = { 0, 2, 4, 6, 7, 8, 10 };
	uint32_t post = pick(2) << 23, load = pick(2) << 22, q = pick(2) << 30, size = pick(4);
	uint32_t rm = post == 0 ? 0 : (pick(3) == 0 ? 31 : pick(2) ? SAVED - 2 : base);
	uint32_t rest =
	    post | q | (base == rm && base == 31 ? 31 : rm) << 16 | base << 5 | pick(32);

	switch (pick(3)) {
	case 0:
		if (size == 3)
			rest |= 1u << 30;
		return (0x0c000000 | load | rest | (uint32_t)several[pick(7)] << 12 | size << 10);
	case 1: /* a lane of B */
		return (0x0d000000 | load | rest | pick(2) << 21 | pick(2) << 13 | pick(8) << 10);
	default:
		return (0x0d40c000 | rest | pick(2) << 21 | pick(2) << 13 | size << 10);
	}
}

/* LDAR, STLR, LDAPR, LDXR, STXR, CAS, CASP, SWP, LDADD, LDCLR, LDEOR, LDSET. */
static uint32_t
atomic(uint32_t base)
{
	uint32_t size = pick(4) << 30, rt = reg(base), rs = reg(base), even;

	switch (pick(8)) {
	case 0:
		return (size | 0x08dffc00 | base << 5 | rt);
	case 1:
		return (size | 0x089ffc00 | base << 5 | rt);
	case 2:
		return (size | 0x38bfc000 | base << 5 | rt);
	case 3:
		return (size | 0x085f7c00 | base << 5 | rt);
	case 4: /* the status register must be another one */
		rs = 21 + pick(4);
		rt = rt >= 21 && rt <= 24 ? 20 : rt;
		return (size | 0x08007c00 | rs << 16 | base << 5 | rt);
	case 5:
		return (size | 0x08e0fc00 | rs << 16 | base << 5 | rt);
	case 6:
		even = base != 31 && pick(2) ? base & 30 : pick(13) * 2;
		return (0x48207c00 | even << 16 | base << 5 | pick(13) * 2);
	default:
		return (size | 0x38e00000 | rs << 16 | (pick(5) * 2 == 8 ? 8 : pick(4)) << 12 |
			base << 5 | rt);
	}
}

static uint32_t
word(uint32_t base)
{
	switch (pick(6)) {
	case 0:
		return (structure(base));
	case 1:
	case 2:
		return (atomic(base));
	case 3:
		return (pair(base));
	default:
		return (single(base));
	}
}

static uint64_t
run(unsigned number)
{
	uint32_t *code = exec_code();
	unsigned n = 0, len = 4 + pick(12), start;
	struct conf_state s;

	(void)number;
	memset(&s, 0, sizeof(s));
	for (unsigned i = 0; i < 31; i++)
		s.x[i] = rng_next(&rng);
	for (unsigned i = 0; i < 64; i++)
		s.v[i / 2][i % 2] = rng_next(&rng);
	s.x[ROUNDS] = 4;
	s.x[SAVED] = DATA_BASE + 4096 + 16 * pick(64) - 512;
	if (pick(3) == 0)
		s.x[SAVED] += pick(16);
	s.x[30] = 8 * pick(8);
	s.sp = s.x[SAVED];
	start = n;
	code[n++] = NOP;
	while (n < len * 3) {
		uint32_t base = bases[pick(sizeof(bases))], w = word(base);

		/* [base, saved]: the index is the address then, and the base what is added */
		if ((w & 0x3b20fc00) == 0x38206800) {
			code[n++] = 0xaa0003e0 | 30 << 16 | (base == 31 ? 29 : base);
			if (base == 31)
				w = (w & ~(31u << 5)) | 29 << 5;
		} else
			code[n++] = 0x91000000 | SAVED << 5 | base; /* add base, saved, #0 */
		code[n++] = w;
		if (pick(3) == 0) /* again, with a look that may be shared */
			code[n++] = single(base);
	}
	code[n++] = 0xd1000400 | ROUNDS << 5 | ROUNDS; /* sub */
	code[n] = 0xb5000000 | ((uint32_t)(start - n) & 0x7ffff) << 5 | ROUNDS;
	n++;
	code[n] = exec_exit(CODE_BASE + 4 * n, false);
	exec_code_changed();
	return (run_hash(&s));
}
