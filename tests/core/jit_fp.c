/*
 * The translator's floating point against the interpreter's: random and special
 * operands through single instructions and short sequences, on two PEs that
 * share memory and code. Every register, NZCV and FPSR must be equal.
 *
 * jit_fp SEED ENCODINGS INPUTS SEQUENCES: prints what differs; 1 when anything did.
 */
#include <stdio.h>
#include <stdlib.h>

#include "pe/jit/jit_int.h"
#include "pe/pe_internal.h"

#define CODE_BASE 0x04000000u
#define CODE_LEN 0x80000u
#define SYS_BASE 0x05000000u
#define SYS_LEN 0x5000u
#define L1_TABLE (SYS_BASE + 0x1000)
#define L2_TABLE (SYS_BASE + 0x2000)
#define L3_TEST (SYS_BASE + 0x3000)
#define L3_SYS (SYS_BASE + 0x4000)
#define SLOT 64u                     /* bytes: 15 words and the exit */
#define SLOTS (CODE_LEN / SLOT - 64) /* a page is left for data */
#define DATA (CODE_LEN - 4096u)
#define DATA_LEN 256u
#define X_COUNT 9u /* counts loops down */
#define X_DATA 10u /* points to the data */
#define SVC 0xd4000001u
#define NOP 0xd503201fu

/* Rows of the decode tables: lines made by test_jit_fp.py. */
static const struct row {
	const char *name;
	uint32_t mask, value;
} rows[] = {
#include "jit_fp_rows.inc"
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

struct state {
	uint64_t x[31];
	uint64_t v[32][2];
	uint32_t nzcv, fpcr, fpsr, esr;
	uint64_t elr;
	uint64_t data[DATA_LEN / 8];
};

static uint8_t ram[CODE_LEN] __attribute__((aligned(4096)));
static uint8_t sys[SYS_LEN] __attribute__((aligned(4096)));
static _Atomic uint64_t epoch;
static struct pe *pes[2]; /* interpreter, translator */
static uint64_t rng;
static unsigned long tests, failures;
static bool all_edges;

static uint64_t
next(void)
{
	uint64_t z = (rng += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31));
}

static unsigned
below(unsigned n)
{
	return ((unsigned)((next() >> 32) * n >> 32));
}

/* -- the machine ------------------------------------------------------------------ */

static void *
pa2hva(void *ctx, uint64_t pa, size_t len, int prot)
{
	(void)ctx, (void)prot;
	if (pa >= CODE_BASE && pa - CODE_BASE <= sizeof(ram) - len)
		return (ram + (pa - CODE_BASE));
	if (pa >= SYS_BASE && pa - SYS_BASE <= sizeof(sys) - len)
		return (sys + (pa - SYS_BASE));
	return (NULL);
}

static uint64_t
counter(void *ctx)
{
	(void)ctx;
	return (0);
}

static void
put64(uint64_t pa, uint64_t v)
{
	memcpy(sys + (pa - SYS_BASE), &v, sizeof(v));
}

static void
build_memory(void)
{
	const uint32_t hvc = 0xd4000002;
	const uint64_t page = 3u | 1u << 10 | 3u << 8;

	for (unsigned i = 0; i < 0x800; i += 128)
		memcpy(sys + i, &hvc, sizeof(hvc));
	put64(L1_TABLE, L2_TABLE | 3);
	put64(L2_TABLE + (CODE_BASE >> 21) * 8, L3_TEST | 3);
	put64(L2_TABLE + (SYS_BASE >> 21) * 8, L3_SYS | 3);
	for (unsigned i = 0; i < CODE_LEN; i += 4096)
		put64(
		    L3_TEST + ((CODE_BASE + i) >> 12 & 511) * 8, (CODE_BASE + i) | page | 1u << 6);
	put64(L3_SYS + (SYS_BASE >> 12 & 511) * 8, SYS_BASE | page | BIT(54));
}

static struct pe *
build_pe(bool jit)
{
	struct pe_pins pins = { .pa2hva = pa2hva, .counter = counter, .code_epoch = &epoch };
	struct pe_config cfg = { .features = ~UINT64_C(0) & ~BIT(PE_FEAT_PAuth),
		.vmid_bits = 16,
		.jit = jit,
		.jit_threshold = 1 };
	struct pe *pe = pe_create(pe_cluster_create(), &pins, &cfg);

	if (pe == NULL || (jit && pe->jit == NULL)) {
		printf("no PE\n");
		exit(3);
	}
	pe_msr(pe, PE_SYSREG(3, 4, 1, 1, 0), BIT(31));  /* HCR_EL2.RW */
	pe_msr(pe, PE_SYSREG(3, 4, 1, 1, 2), 0x33ff);   /* CPTR_EL2: no traps */
	pe_msr(pe, PE_SYSREG(3, 0, 1, 0, 2), 3u << 20); /* CPACR_EL1.FPEN */
	pe_msr(pe, PE_SYSREG(3, 0, 10, 2, 0), 0xff);    /* MAIR_EL1 */
	pe_msr(pe, PE_SYSREG(3, 0, 2, 0, 0), L1_TABLE); /* TTBR0_EL1 */
	pe_msr(pe, PE_SYSREG(3, 0, 2, 0, 2), 25 | 1u << 8 | 1u << 10 | 3u << 12 | 1u << 23);
	pe_msr(pe, PE_SYSREG(3, 0, 12, 0, 0), SYS_BASE); /* VBAR_EL1 */
	pe_msr(pe, PE_SYSREG(3, 0, 1, 0, 0),
	    BIT(0) | BIT(2) | BIT(12) | BIT(29) | BIT(28) | BIT(11) | BIT(20) |
		BIT(22)); /* SCTLR */
	return (pe);
}

static void
run(struct pe *pe, struct state *s, uint64_t va)
{
	struct pe_gpr *g = pe_gpr(pe);

	memcpy(g->x, s->x, sizeof(g->x));
	memcpy(g->v, s->v, sizeof(g->v));
	memcpy(ram + DATA, s->data, DATA_LEN);
	pe->fp.fpcr = s->fpcr;
	pe->fp.fpsr = s->fpsr;
	pe->sr[SR_SPSR_EL2] = s->nzcv;
	pe->sr[SR_ELR_EL2] = va;
	while (pe_run(pe) == (PE_VEC_LOWER_A64 | PE_VEC_IRQ))
		;
	memcpy(s->x, g->x, sizeof(g->x));
	memcpy(s->v, g->v, sizeof(g->v));
	s->nzcv = (uint32_t)pe->sr[SR_SPSR_EL1] & 0xf0000000;
	s->fpcr = pe->fp.fpcr;
	s->fpsr = pe->fp.fpsr;
	s->esr = (uint32_t)pe->sr[SR_ESR_EL1];
	s->elr = pe->sr[SR_ELR_EL1];
	memcpy(s->data, ram + DATA, DATA_LEN);
}

/* -- operands ------------------------------------------------------------------------ */

static uint64_t
edge(unsigned f, unsigned w)
{
	const uint64_t one = ((UINT64_C(1) << (w - f - 2)) - 1) << f;
	const uint64_t inf = ((UINT64_C(1) << (w - f - 1)) - 1) << f;
	const uint64_t frac = (UINT64_C(1) << f) - 1;
	const uint64_t edges[] = { 0, 0, 1, frac, frac + 1, frac + 2, (frac + 1) * 2, one, one + 1,
		one - 1, one + frac + 1, one - frac - 1, inf - 1, inf - frac - 1, inf, inf | 1,
		inf | UINT64_C(1) << (f - 9), inf | (frac + 1) / 2, inf | ((frac + 1) / 2 + 77),
		one + 30 * (frac + 1), one + 31 * (frac + 1), one + 32 * (frac + 1),
		one + 62 * (frac + 1), one + 63 * (frac + 1), one + 64 * (frac + 1),
		one + 31 * (frac + 1) - 1, one + 32 * (frac + 1) - 1, one + 1023 * (frac + 1) / 16,
		one + frac / 2 };

	return (edges[below(sizeof(edges) / sizeof(edges[0]))] | next() << 63 >> (64 - w));
}

/* A float: an edge, around one, few bits, small integers, or anything. */
static uint64_t
number(unsigned f, unsigned w)
{
	uint64_t bias = (UINT64_C(1) << (w - f - 2)) - 1, frac = next() & ((UINT64_C(1) << f) - 1);

	switch (all_edges ? 0 : below(8)) {
	case 0:
	case 1:
		return (edge(f, w));
	case 2:
		return (next() >> (64 - w));
	case 3: /* products and quotients around 2^emin */
		return (next() << 63 >> (64 - w) | (uint64_t)(bias / 2 + below(5)) << f | frac);
	case 4:
		frac &= ~((UINT64_C(1) << below(f)) - 1);
		break;
	default:
		break;
	}
	return (next() << 63 >> (64 - w) | (bias - 4 + below(f + 8)) << f | frac);
}

static void
fill(struct state *s, bool plain)
{
	unsigned kind;

	for (unsigned i = 0; i < 31; i++)
		s->x[i] = below(4) == 0 ? next() : below(2) ? number(52, 64) : next() >> below(64);
	for (unsigned i = 0; i < 32; i++) {
		kind = below(4);
		for (unsigned h = 0; h < 2; h++) {
			if (kind < 2)
				s->v[i][h] = number(52, 64);
			else
				s->v[i][h] = number(23, 32) | number(23, 32) << 32;
		}
		if (kind == 0 || below(3) == 0)
			s->v[i][1] = 0;
		if (below(4) == 0 && i > 0) /* equal operands */
			memcpy(s->v[i], s->v[below(i)], 16);
	}
	for (unsigned i = 0; i < DATA_LEN / 8; i++)
		s->data[i] = below(2) ? number(52, 64) : number(23, 32) | number(23, 32) << 32;
	s->x[X_COUNT] = below(64) == 0 ? 1000 + below(100) : 1 + below(6);
	s->x[X_DATA] = CODE_BASE + DATA;
	s->nzcv = (uint32_t)next() & 0xf0000000;
	s->fpcr = plain ? 0 : (uint32_t)next() & 0x07c00000;
	s->fpsr = below(2) ? 0 : (uint32_t)next() & 0x0800009f;
}

/* -- code ------------------------------------------------------------------------------ */

static uint32_t
word_of(const struct row *r, unsigned registers)
{
	uint32_t w = r->value | ((uint32_t)next() & ~r->mask);

	/* Few registers: operands alias. */
	for (unsigned lo = 0; lo < 32; lo += 5) {
		uint32_t field = 31u << lo;

		if (lo == 15)
			lo = 16, field = 31u << 16;
		if (lo <= 16 && (r->mask & field) == 0 && below(8) != 0)
			w = (w & ~field) | (uint32_t)below(registers) << lo;
	}
	/* Not into the registers that loops and accesses use. */
	if ((r->mask & 31) == 0 && ((w & 31) == X_COUNT || (w & 31) == X_DATA))
		w ^= 16;
	return (w);
}

static uint32_t
filler(void)
{
	switch (below(18)) {
	case 12: /* LDR D */
		return (0xfd400000u | below(8) | X_DATA << 5 | below(32) << 10);
	case 13: /* STR D */
		return (0xfd000000u | below(8) | X_DATA << 5 | below(32) << 10);
	case 14: /* LDR Q */
		return (0x3dc00000u | below(8) | X_DATA << 5 | below(16) << 10);
	case 15: /* STR Q */
		return (0x3d800000u | below(8) | X_DATA << 5 | below(16) << 10);
	case 16: /* LDP S */
		return (
		    0x2d400000u | below(4) | X_DATA << 5 | (4 + below(4)) << 10 | below(32) << 15);
	case 17: /* LDR S */
		return (0xbd400000u | below(8) | X_DATA << 5 | below(64) << 10);
	case 0:
	case 1:
	case 2: /* B.cond over the next word */
		return (0x54000040u | below(16));
	case 3: /* CSEL */
		return (0x9a800000u | below(8) | below(8) << 5 | below(8) << 16 | below(16) << 12);
	case 4: /* CSINC W */
		return (0x1a800400u | below(8) | below(8) << 5 | below(8) << 16 | below(16) << 12);
	case 5: /* CMP */
		return (0xeb00001fu | below(8) << 5 | below(8) << 16);
	case 6: /* MRS FPSR */
		return (0xd53b4420u | below(8));
	case 7: /* MSR FPSR */
		return (0xd51b4420u | below(8));
	case 8: /* CCMP */
		return (0xfa400000u | below(8) << 5 | below(8) << 16 | below(16) << 12 | below(16));
	case 9: /* ADD: V register untouched */
		return (0x8b000000u | below(8) | below(8) << 5 | below(8) << 16);
	case 10: /* MRS FPCR */
		return (0xd53b4400u | below(8));
	default:
		return (NOP);
	}
}

static void
show(const char *what, unsigned slot, const struct state *in, const struct state *a,
    const struct state *b)
{
	const uint32_t *w = (const uint32_t *)(const void *)(ram + slot * SLOT);

	if (failures++ >= 8)
		return;
	printf("%s:", what);
	for (unsigned i = 0; i < SLOT / 4 && w[i] != SVC; i++)
		printf(" %08x", w[i]);
	printf("\n");
	for (unsigned i = 0; i < 31; i++)
		if (a->x[i] != b->x[i])
			printf("  x%u %#llx: %#llx, translated %#llx\n", i,
			    (unsigned long long)in->x[i], (unsigned long long)a->x[i],
			    (unsigned long long)b->x[i]);
	for (unsigned i = 0; i < 32; i++)
		if (memcmp(a->v[i], b->v[i], 16) != 0)
			printf(
			    "  v%u %016llx_%016llx: %016llx_%016llx, translated %016llx_%016llx\n",
			    i, (unsigned long long)in->v[i][1], (unsigned long long)in->v[i][0],
			    (unsigned long long)a->v[i][1], (unsigned long long)a->v[i][0],
			    (unsigned long long)b->v[i][1], (unsigned long long)b->v[i][0]);
	printf("  nzcv %x: %x, translated %x; fpcr %x; fpsr %x: %x, translated %x; "
	       "esr %x %x; elr %llx %llx\n",
	    in->nzcv >> 28, a->nzcv >> 28, b->nzcv >> 28, in->fpcr, in->fpsr, a->fpsr, b->fpsr,
	    a->esr, b->esr, (unsigned long long)a->elr, (unsigned long long)b->elr);
	if (memcmp(a->data, b->data, DATA_LEN) != 0)
		printf("  the data differ\n");
	for (unsigned i = 0; i < 8; i++)
		printf("    v%u = %016llx_%016llx\n", i, (unsigned long long)in->v[i][1],
		    (unsigned long long)in->v[i][0]);
}

static void
test_slot(const char *what, unsigned slot, unsigned inputs)
{
	for (unsigned i = 0; i < inputs; i++) {
		struct state in, a, b;

		memset(&in, 0, sizeof(in));
		all_edges = below(4) == 0;
		fill(&in, below(16) != 0);
		a = b = in;
		run(pes[0], &a, CODE_BASE + slot * SLOT);
		run(pes[1], &b, CODE_BASE + slot * SLOT);
		tests++;
		if (memcmp(&a, &b, sizeof(a)) != 0)
			show(what, slot, &in, &a, &b);
	}
}

static void
put_slot(unsigned slot, const uint32_t *words, unsigned n)
{
	uint32_t *w = (uint32_t *)(void *)(ram + slot * SLOT);

	memcpy(w, words, n * 4);
	w[n] = SVC;
}

static void
code_changed(void)
{
	atomic_fetch_add(&epoch, 1);
	pes[0]->slice = pes[1]->slice = 0;
}

int
main(int argc, char **argv)
{
	unsigned encodings, inputs, sequences, slot = 0, first = 0;
	const char *names[SLOTS];

	if (argc != 5)
		return (2);
	rng = strtoull(argv[1], NULL, 0);
	encodings = (unsigned)atoi(argv[2]);
	inputs = (unsigned)atoi(argv[3]);
	sequences = (unsigned)atoi(argv[4]);
	build_memory();
	pes[0] = build_pe(false);
	pes[1] = build_pe(true);
	for (unsigned r = 0; r < ROWS; r++)
		for (unsigned e = 0; e < encodings; e++) {
			uint32_t w[2] = { word_of(&rows[r], 32), 0 };

			/* Now and then with a user of flags or registers behind. */
			if (below(3) == 0)
				w[0] = word_of(&rows[r], 4);
			w[1] = below(2) ? filler() : word_of(&rows[r], 8);
			if ((w[1] & 0xff000000) == 0x54000000)
				w[1] = NOP;
			put_slot(slot, w, below(2) + 1);
			names[slot++] = rows[r].name;
			if (slot == SLOTS || (r == ROWS - 1 && e == encodings - 1)) {
				code_changed();
				for (first = 0; first < slot; first++)
					test_slot(names[first], first, inputs);
				slot = 0;
			}
		}
	while (sequences > 0) {
		for (slot = 0; slot < SLOTS && sequences > 0; slot++, sequences--) {
			uint32_t w[14];
			unsigned n = 3 + below(9), registers = below(4) == 0 ? 32 : 8;

			for (unsigned i = 0; i < n; i++)
				w[i] = below(3) == 0 && i + 1 < n
					   ? filler()
					   : word_of(&rows[below(ROWS)], registers);
			if (below(2)) { /* a loop: SUBS, B.NE to the start; or CBNZ; or B */
				w[n++] = 0xf1000400u | X_COUNT | X_COUNT << 5;
				if (below(4) == 0) {
					w[n++] = 0xb4000040u | X_COUNT; /* cbz over it */
					w[n] = 0x14000000u | (-n & 0x3ffffff);
				} else if (below(2))
					w[n] = 0x54000001u | (-n & 0x7ffff) << 5;
				else
					w[n] = 0xb5000000u | X_COUNT | (-n & 0x7ffff) << 5;
				n++;
			}
			put_slot(slot, w, n);
		}
		code_changed();
		for (unsigned i = 0; i < slot; i++)
			test_slot("sequence", i, 4);
	}
	printf("%lu tests, %lu differ, %llu blocks\n", tests, failures,
	    (unsigned long long)pes[1]->jit->blocks);
	return (failures != 0);
}
