/*
 * One PE on a bench: memory from address 0, and a line of text for everything
 * one can do to it. pe_rig.py writes the lines and reads the answers.
 *
 *	new FEATURES VMIDBITS JIT	another PE; memory is cleared
 *	m PA WORD64...		write memory
 *	i PA WORD32...		the same, instructions
 *	r PA COUNT		read 64-bit words: "r W W ..."
 *	s ENC VALUE		MSR at EL2: "s 0", or "s -" when UNDEFINED
 *	g ENC			MRS at EL2: "g VALUE" or "g -"
 *	x N VALUE		a general register
 *	sys ENC XT		TLBI, AT, IC: "sys 0" or "sys -"
 *	p ..., psys ...		the same two without an answer
 *	run			ERET: "run VEC ESR2 FAR2 HPFAR ELR2 SPSR2 ESR1 FAR1 ELR1 SPSR1",
 *				then "x" and x0 to x30
 *	regs			the table of registers, a line each
 *	pac DATA MODIFIER K0 K1	QARMA5: "pac VALUE"
 *
 * Numbers are hexadecimal, encodings PE_SYSREG().
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pe/pauth.h"
#include "pe/sysreg.h"

#define MEM_SIZE UINT64_C(0x4000000)
#define PATIENCE_S 1

static char *mem;
static struct pe *pe;
static struct pe_cluster *cluster;
static uint64_t ticks;

static void *
pa2hva(void *ctx, uint64_t pa, size_t len, int prot)
{
	(void)ctx, (void)prot;
	return (pa < MEM_SIZE && len <= MEM_SIZE - pa ? mem + pa : NULL);
}

/* Time moves by reading it. */
static uint64_t
counter(void *ctx)
{
	(void)ctx;
	return (++ticks);
}

/* A guest that hangs is interrupted, if HCR_EL2.IMO lets it. */
static void
on_alarm(int signum)
{
	(void)signum;
	pe_poke(pe);
}

static uint64_t
mrs(uint32_t enc)
{
	uint64_t v = 0;

	(void)pe_mrs(pe, enc, &v);
	return (v);
}

static void
fresh(uint64_t features, unsigned vmid_bits, bool jit)
{
	static const struct pe_pins pins = { .pa2hva = pa2hva, .counter = counter };
	struct pe_config cfg = { .features = features,
		.mpidr = UINT64_C(1) << 31,
		.list_regs = 4,
		.vmid_bits = vmid_bits,
		.jit = jit,
		.jit_threshold = 1 };

	pe_destroy(pe);
	pe = pe_create(cluster, &pins, &cfg);
	(void)madvise(mem, MEM_SIZE, MADV_DONTNEED);
}

static void
run(void)
{
	const struct pe_gpr *g = pe_gpr(pe);
	int vec;

	(void)alarm(PATIENCE_S);
	vec = pe_run(pe);
	(void)alarm(0);
	printf("run %x %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64
	       " %" PRIx64 " %" PRIx64 " %" PRIx64 "\nx",
	    (unsigned)vec, mrs(PE_SYSREG(3, 4, 5, 2, 0)), mrs(PE_SYSREG(3, 4, 6, 0, 0)),
	    mrs(PE_SYSREG(3, 4, 6, 0, 4)), mrs(PE_SYSREG(3, 4, 4, 0, 1)),
	    mrs(PE_SYSREG(3, 4, 4, 0, 0)), mrs(PE_SYSREG(3, 0, 5, 2, 0)),
	    mrs(PE_SYSREG(3, 0, 6, 0, 0)), mrs(PE_SYSREG(3, 0, 4, 0, 1)),
	    mrs(PE_SYSREG(3, 0, 4, 0, 0)));
	for (unsigned i = 0; i < 31; i++)
		printf(" %" PRIx64, g->x[i]);
	printf("\n");
}

static void
words(char *args, unsigned size)
{
	uint64_t pa = strtoull(args, &args, 16), v;
	char *end;

	for (; v = strtoull(args, &end, 16), end != args; args = end, pa += size) {
		if (pa <= MEM_SIZE - size)
			memcpy(mem + pa, &v, size);
	}
}

int
main(void)
{
	static char line[65536];
	char *args;
	uint64_t a, b, v;
	char cmd[16];
	int n;

	mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	(void)signal(SIGALRM, on_alarm);
	cluster = pe_cluster_create();
	fresh(pe_default_features(), 16, false);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (sscanf(line, "%15s%n", cmd, &n) != 1)
			continue;
		args = line + n;
		if (strcmp(cmd, "m") == 0 || strcmp(cmd, "i") == 0) {
			words(args, cmd[0] == 'm' ? 8 : 4);
			continue;
		}
		if (strcmp(cmd, "run") == 0) {
			run();
			continue;
		}
		if (strcmp(cmd, "regs") == 0) {
			for (unsigned i = 0; i < SR_COUNT; i++)
				printf("%s %x %x %u\n", sysregs[i].name, sysregs[i].enc,
				    sysregs[i].acc, sysregs[i].feature);
			printf("end\n");
			continue;
		}
		a = strtoull(args, &args, 16);
		b = strtoull(args, &args, 16);
		if (strcmp(cmd, "new") == 0)
			fresh(a, (unsigned)b, strtoull(args, NULL, 16) != 0);
		else if (strcmp(cmd, "x") == 0)
			pe_gpr(pe)->x[a % 31] = b;
		else if (strcmp(cmd, "s") == 0)
			printf("s %c\n", pe_msr(pe, (uint32_t)a, b) == 0 ? '0' : '-');
		else if (strcmp(cmd, "sys") == 0)
			printf("sys %c\n", pe_sys(pe, (uint32_t)a, b) == 0 ? '0' : '-');
		else if (strcmp(cmd, "p") == 0)
			(void)pe_msr(pe, (uint32_t)a, b);
		else if (strcmp(cmd, "psys") == 0)
			(void)pe_sys(pe, (uint32_t)a, b);
		else if (strcmp(cmd, "g") == 0) {
			if (pe_mrs(pe, (uint32_t)a, &v) == 0)
				printf("g %" PRIx64 "\n", v);
			else
				printf("g -\n");
		} else if (strcmp(cmd, "r") == 0) {
			printf("r");
			for (; b-- > 0 && a <= MEM_SIZE - 8; a += 8) {
				memcpy(&v, mem + a, 8);
				printf(" %" PRIx64, v);
			}
			printf("\n");
		} else if (strcmp(cmd, "pac") == 0) {
			v = strtoull(args, &args, 16);
			printf("pac %" PRIx64 "\n", qarma5(a, b, v, strtoull(args, NULL, 16)));
		} else {
			fprintf(stderr, "what is %s\n", cmd);
			return (2);
		}
	}
	return (0);
}
