/*
 * Runs tests on our PE: a real struct pe at EL0 with the MMU on, one flat
 * mapping, through pe_run(). Every exception goes to EL1, where the vectors
 * hold HVC, so a run ends with the EL1 syndrome of what happened.
 *
 * --engine NAME (or CONF_ENGINE) chooses what executes: interp or jit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf.h"
#include "pe/pe_internal.h"

#define SYS_BASE 0x05000000u /* vectors, then tables */
#define SYS_LEN 0x8000u
#define L1_TABLE (SYS_BASE + 0x1000)
#define L2_TABLE (SYS_BASE + 0x2000)
#define L3_TEST (SYS_BASE + 0x3000)
#define L3_SYS (SYS_BASE + 0x4000)
#define SVC_END 0x7e57u

/* Descriptors (DDI 0487, D8.3): valid page, access flag, inner shareable, attribute 0. */
#define D_TABLE 3u
#define D_PAGE (3u | 1u << 10 | 3u << 8)
#define D_USER (1u << 6)
#define D_PXN BIT(53)
#define D_UXN BIT(54)

static uint8_t code[CODE_LEN] __attribute__((aligned(4096)));
/*
 * The data pages twice: in one piece for the driver, and for the PE with a hole
 * between them, so that an access across the page cannot run on by luck.
 */
static uint8_t *data, *apart[DATA_LEN / 4096];
static uint8_t sys[SYS_LEN] __attribute__((aligned(4096)));
static struct pe *pe;
static _Atomic uint64_t epoch;
static uint64_t runs, interrupts;

static void *
pa2hva(void *ctx, uint64_t pa, size_t len, int prot)
{
	(void)ctx, (void)prot;
	if (pa >= CODE_BASE && pa < DATA_BASE)
		return (code + (pa - CODE_BASE));
	if (pa >= DATA_BASE && pa < DATA_BASE + DATA_LEN)
		return (apart[(pa - DATA_BASE) >> 12] + (pa & 0xfff));
	if (pa >= SYS_BASE && pa - SYS_BASE <= sizeof(sys) - len)
		return (sys + (pa - SYS_BASE));
	return (NULL);
}

static uint64_t
counter(void *ctx)
{
	static uint64_t ticks;

	(void)ctx;
	return (ticks++);
}

static void
put64(uint64_t pa, uint64_t v)
{
	memcpy(sys + (pa - SYS_BASE), &v, sizeof(v));
}

static void
map_page(uint64_t table, uint64_t va, uint64_t flags)
{
	put64(table + (va >> 12 & 511) * 8, va | D_PAGE | flags);
}

static void
build_memory(void)
{
	const int prot = PROT_READ | PROT_WRITE;
	const uint32_t hvc = 0xd4000002;
	int fd = memfd_create("data", 0);
	unsigned i;

	if (fd < 0 || ftruncate(fd, DATA_LEN) != 0)
		exit(1);
	data = mmap(NULL, DATA_LEN, prot, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		exit(1);
	for (i = 0; i < DATA_LEN / 4096; i++) {
		/* three pages reserved, the middle one used */
		uint8_t *p = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			exit(1);
		apart[i] = mmap(p + 4096, 4096, prot, MAP_SHARED | MAP_FIXED, fd, (off_t)i * 4096);
		if (apart[i] == MAP_FAILED)
			exit(1);
	}

	for (i = 0; i < 0x800; i += 128)
		memcpy(sys + i, &hvc, sizeof(hvc));
	put64(L1_TABLE, L2_TABLE | D_TABLE);
	put64(L2_TABLE + (CODE_BASE >> 21) * 8, L3_TEST | D_TABLE);
	put64(L2_TABLE + (SYS_BASE >> 21) * 8, L3_SYS | D_TABLE);
	for (i = 0; i < CODE_LEN; i += 4096)
		map_page(L3_TEST, CODE_BASE + i, D_USER | D_PXN);
	for (i = 0; i < DATA_LEN; i += 4096)
		map_page(L3_TEST, DATA_BASE + i, D_USER | D_PXN | D_UXN);
	map_page(L3_SYS, SYS_BASE, D_UXN);
}

static void
msr(uint32_t enc, uint64_t v)
{
	if (pe_msr(pe, enc, v) != 0) {
		fprintf(stderr, "no system register %#x\n", enc);
		exit(1);
	}
}

static void
build_pe(const struct pe_config *cfg)
{
	struct pe_pins pins = { .pa2hva = pa2hva, .counter = counter, .code_epoch = &epoch };

	pe = pe_create(pe_cluster_create(), &pins, cfg);
	if (pe == NULL)
		exit(1);
	/* HCR_EL2.RW; IMO: interrupts are ours */
	msr(PE_SYSREG(3, 4, 1, 1, 0), BIT(31) | (cfg->jit_irq ? BIT(4) : 0));
	msr(PE_SYSREG(3, 4, 1, 1, 2), 0x33ff);   /* CPTR_EL2: no traps */
	msr(PE_SYSREG(3, 0, 1, 0, 2), 3u << 20); /* CPACR_EL1.FPEN */
	msr(PE_SYSREG(3, 0, 10, 2, 0), 0xff);    /* MAIR_EL1: write-back */
	msr(PE_SYSREG(3, 0, 2, 0, 0), L1_TABLE); /* TTBR0_EL1 */
	/* TCR_EL1: 39 bits, 4 KiB, cacheable, TTBR1 off, TBI0 as under Linux */
	msr(PE_SYSREG(3, 0, 2, 0, 2), 25 | 1u << 8 | 1u << 10 | 3u << 12 | 1u << 23 | BIT(37));
	msr(PE_SYSREG(3, 0, 12, 0, 0), SYS_BASE); /* VBAR_EL1 */
	/* SCTLR_EL1: M, C, I; UCI, UCT, DZE, nTWE, nTWI for EL0; SPAN; no alignment checks */
	msr(PE_SYSREG(3, 0, 1, 0, 0), BIT(0) | BIT(2) | BIT(12) | BIT(14) | BIT(15) | BIT(16) |
					  BIT(18) | BIT(23) | BIT(26) | BIT(28) | BIT(29) |
					  BIT(11) | BIT(20) | BIT(22) | BIT(7) | BIT(8));
}

uint32_t *
exec_code(void)
{
	return ((uint32_t *)(void *)code);
}

uint64_t *
exec_scratch(void)
{
	return ((uint64_t *)(void *)(data + (SCRATCH - DATA_BASE)));
}

uint32_t
exec_head(void)
{
	return (NOP);
}

uint32_t
exec_exit(uint64_t va, bool taken)
{
	(void)va;
	return (0xd4000001 | (SVC_END + taken) << 5); /* svc */
}

void
exec_code_changed(void)
{
	atomic_fetch_add(&epoch, 1);
	pe->slice = 0;
}

static void
classify(struct conf_state *s)
{
	uint64_t esr = pe->sr[SR_ESR_EL1];

	s->pc = s->far = 0;
	switch (esr >> 26 & 63) {
	case EC_SVC64:
		if ((esr & 0xffff) - SVC_END <= 1) {
			s->status = (uint32_t)(esr & 0xffff) - SVC_END;
			return;
		}
		s->status = ST_OTHER;
		break;
	case EC_UNKNOWN:
		s->status = ST_UNDEF;
		break;
	case EC_DABT_LOWER:
	case EC_IABT_LOWER:
	case EC_PC_ALIGN:
		s->status = ST_FAULT;
		/* without the tag, as Linux hands it to a signal handler */
		s->far = pe->sr[SR_FAR_EL1] & GENMASK(55, 0);
		break;
	case EC_BRK64:
		s->status = ST_TRAP;
		break;
	default:
		s->status = ST_OTHER;
		break;
	}
	s->pc = pe->sr[SR_ELR_EL1];
}

void
exec_run(struct conf_state *s, uint64_t va)
{
	struct pe_gpr *g = pe_gpr(pe);
	int vec;

	memcpy(g->x, s->x, sizeof(g->x));
	memcpy(g->v, s->v, sizeof(g->v));
	pe->sp_el[0] = s->sp;
	pe->fp.fpcr = s->fpcr;
	pe->fp.fpsr = s->fpsr;
	pe->sr[SR_SPSR_EL2] = s->nzcv;
	pe->sr[SR_ELR_EL2] = va + 4;
	runs++;
	vec = pe_run(pe);
	for (; vec == (PE_VEC_LOWER_A64 | PE_VEC_IRQ); interrupts++)
		vec = pe_run(pe);
	if (vec != (PE_VEC_LOWER_A64 | PE_VEC_SYNC) || pe->sr[SR_ESR_EL2] >> 26 != EC_HVC64) {
		fprintf(stderr, "unexpected exit %#x esr %#llx elr %#llx\n", (unsigned)vec,
		    (unsigned long long)pe->sr[SR_ESR_EL2], (unsigned long long)pe->sr[SR_ELR_EL2]);
		exit(1);
	}
	classify(s);
	memcpy(s->x, g->x, sizeof(g->x));
	memcpy(s->v, g->v, sizeof(g->v));
	s->sp = pe->sp_el[0];
	s->nzcv = (uint32_t)pe->sr[SR_SPSR_EL1] & 0xf0000000;
	s->fpcr = pe->fp.fpcr;
	s->fpsr = pe->fp.fpsr;
}

static bool
choose_engine(const char *name, struct pe_config *cfg)
{
	if (strncmp(name, "jit", 3) != 0)
		return (strcmp(name, "interp") == 0);
	/* From the first time on. */
	cfg->jit = true;
	cfg->jit_threshold = 1;
	cfg->jit_perf = getenv("CONF_PERF") != NULL;
	cfg->jit_irq = strcmp(name, "jit-irq") == 0;         /* between any two instructions */
	if (strcmp(name, "jit-single") == 0 || cfg->jit_irq) /* all of its state is seen there */
		cfg->jit_block = 1;
	if (strcmp(name, "jit-forced") == 0 || strcmp(name, "jit-single") == 0 || cfg->jit_irq)
		cfg->jit_forced = true;
	else if (strcmp(name, "jit-strict") == 0)
		cfg->jit_strict = true;
	else if (strcmp(name, "jit-small") == 0) /* full all the time */
		cfg->jit_memory = 64 << 10;
	else
		return (strcmp(name, "jit") == 0);
	return (true);
}

int
main(int argc, char **argv)
{
	const char *engine = getenv("CONF_ENGINE");
	struct pe_config cfg = {
		/* QEMU 7.2 has no LSE2 */
		.features = ~UINT64_C(0) & ~BIT(PE_FEAT_PAuth) & ~BIT(PE_FEAT_LSE2),
		.vmid_bits = 16,
	};
	int error;

	if (argc > 3 && strcmp(argv[1], "--engine") == 0) {
		engine = argv[2];
		argc -= 2;
		argv += 2;
	}
	if (!choose_engine(engine != NULL ? engine : "interp", &cfg)) {
		fprintf(stderr,
		    "no engine '%s'; there are interp, jit, jit-single, jit-forced, jit-irq,"
		    " jit-strict and jit-small\n",
		    engine);
		return (2);
	}
	build_memory();
	build_pe(&cfg);
	error = conf_main(argc, argv);
	if (cfg.jit_irq && interrupts < runs) {
		fprintf(stderr, "%llu interrupts are too few\n", (unsigned long long)interrupts);
		return (1);
	}
	return (error);
}
