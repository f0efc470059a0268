/*
 * PSCI and SMCCC: what each call answers, what it leaves alone, and that no
 * call ends the machine that is not meant to. CPU_ON and AFFINITY_INFO are in
 * smp.c, the calls that do end it in psci_end.c.
 *
 *	calls=N		random calls
 */
#include "lib.h"

#define SMCCC_VERSION 0x80000000u
#define SMCCC_ARCH_FEATURES 0x80000001u
#define SMCCC_SOC_ID 0x80000002u
#define SMCCC_WORKAROUND_1 0x80008000u
#define SMCCC_WORKAROUND_2 0x80007fffu
#define SMCCC_WORKAROUND_3 0x80003fffu
#define VENDOR_UID 0x8600ff01u
#define PV_TIME_FEATURES 0xc5000020u
#define PV_TIME_ST 0xc5000021u
#define TRNG_VERSION 0x84000050u
#define TRNG_FEATURES 0x84000051u
#define TRNG_GET_UUID 0x84000052u
#define TRNG_RND32 0x84000053u
#define TRNG_RND64 0xc4000053u
#define POWER_DOWN (1u << 16)

#define EC_UNDEFINED 0

/* -- versions and features ------------------------------------------------------------- */

static void
versions(void)
{
	report(psci(PSCI_VERSION, 0, 0, 0) == 0x10001, "PSCI_VERSION is 1.1");
	report(
	    psci(PSCI_MIGRATE_INFO_TYPE, 0, 0, 0) == 2, "MIGRATE_INFO_TYPE: no migration needed");
	if (!machine.bhyve)
		return;
	report(psci(SMCCC_VERSION, 0, 0, 0) == 0x10002, "SMCCC_VERSION is 1.2");
	report(psci(SMCCC_ARCH_FEATURES, SMCCC_VERSION, 0, 0) == 0 &&
		   psci(SMCCC_ARCH_FEATURES, SMCCC_ARCH_FEATURES, 0, 0) == 0,
	    "SMCCC_ARCH_FEATURES knows the version call and itself");
	report(psci(SMCCC_ARCH_FEATURES, SMCCC_WORKAROUND_1, 0, 0) == 1 &&
		   psci(SMCCC_ARCH_FEATURES, SMCCC_WORKAROUND_2, 0, 0) == -2 &&
		   psci(SMCCC_ARCH_FEATURES, SMCCC_WORKAROUND_3, 0, 0) == 1,
	    "the workarounds of speculation are not required");
	report(psci(SMCCC_ARCH_FEATURES, SMCCC_SOC_ID, 0, 0) == -1, "there is no SoC id");
	report(psci(VENDOR_UID, 0, 0, 0) != -1, "the hypervisor has a UID");
}

static void
features(void)
{
	static const uint32_t present[] = { PSCI_VERSION, 0x84000001u, PSCI_CPU_SUSPEND,
		PSCI_CPU_OFF, 0x84000003u, PSCI_CPU_ON, 0x84000004u, PSCI_AFFINITY_INFO,
		PSCI_MIGRATE_INFO_TYPE, PSCI_SYSTEM_OFF, PSCI_SYSTEM_RESET, PSCI_FEATURES };
	static const uint32_t absent[] = { 0x84000005u, 0x84000007u, 0x8400000bu, 0x8400000cu,
		0xc400000cu, 0xc400000du, 0x8400000eu, 0xc400000eu, 0x8400000fu, 0x84000010u,
		0x84000013u, 0x84000014u, 0xc4000014u, 0x8400001fu, 0xc4000002u, 0xc4000008u };
	unsigned bad = 0;

	for (unsigned i = 0; i < sizeof(present) / 4; i++)
		bad += psci(PSCI_FEATURES, present[i], 0, 0) != 0;
	report(bad == 0, "PSCI_FEATURES has every mandatory function");
	if (!machine.bhyve)
		return;
	report(psci(PSCI_FEATURES, SMCCC_VERSION, 0, 0) == 0, "PSCI_FEATURES has SMCCC_VERSION");
	report(psci(PSCI_FEATURES, 0x84000012u, 0, 0) == 0 &&
		   psci(PSCI_FEATURES, 0xc4000012u, 0, 0) == 0,
	    "PSCI_FEATURES has SYSTEM_RESET2");
	for (unsigned i = 0; i < sizeof(absent) / 4; i++) {
		bad += psci(PSCI_FEATURES, absent[i], 0, 0) != PSCI_NOT_SUPPORTED;
		bad += psci(absent[i], 0, 0, 0) != PSCI_NOT_SUPPORTED;
	}
	report(bad == 0, "what PSCI_FEATURES does not have answers NOT_SUPPORTED");
	report(psci(PSCI_SYSTEM_RESET2, 1, 0, 0) == PSCI_INVALID_PARAMETERS,
	    "SYSTEM_RESET2 with a reserved type: INVALID_PARAMETERS");
}

/* -- registers ----------------------------------------------------------------------------- */

static void
fill(struct smccc *c, uint64_t fn)
{
	for (unsigned i = 0; i < 18; i++)
		c->x[i] = 0x1111111111111111ull * (i % 14 + 1) + i;
	c->x[0] = fn;
}

/* x4 to x17 as they were? */
static bool
kept(const struct smccc *c)
{
	struct smccc was;

	fill(&was, 0);
	for (unsigned i = 4; i < 18; i++)
		if (c->x[i] != was.x[i])
			return (false);
	return (true);
}

static void
registers(void)
{
	static const uint64_t fns[] = { PSCI_VERSION, PSCI_FEATURES, SMCCC_VERSION,
		SMCCC_WORKAROUND_1, TRNG_RND64, PSCI_AFFINITY_INFO, 0x84000999u, 0x12345678u };
	uint64_t q[4], p[4] = { 0x0123456789abcdefull, 2, 3, 0xfedcba9876543210ull };
	unsigned lost = 0;
	struct smccc c;

	for (unsigned i = 0; i < sizeof(fns) / 8; i++) {
		fill(&c, fns[i]);
		smccc_call(&c);
		lost += !kept(&c);
	}
	report(lost == 0, "a call keeps x4 to x17");
	fill(&c, 0x84000999u);
	smccc_call(&c);
	report(c.x[0] == ~UINT64_C(0), "an unknown function answers -1 in all of x0");
	fill(&c, 0xdeadbeef00000000ull | PSCI_VERSION);
	smccc_call(&c);
	report((uint32_t)c.x[0] == 0x10001, "the upper half of x0 is not part of the function");
	__asm__ volatile(".arch_extension fp\n ldp q0, q31, [%1]\n mov x0, %2\n hvc #0\n"
			 "stp q0, q31, [%0]"
			 :
			 : "r"(q), "r"(p), "r"((uint64_t)PSCI_VERSION)
			 : "x0", "x1", "x2", "x3", "memory");
	report(q[0] == p[0] && q[1] == p[1] && q[2] == p[2] && q[3] == p[3],
	    "a call keeps SIMD registers");
}

/* -- conduits ----------------------------------------------------------------------------------- */

static void
conduits(void)
{
	volatile uint32_t *code = page_alloc(1);
	struct smccc a, b;
	struct caught c;

	catch_begin(&c);
	__asm__ volatile("hvc #1" : : : "x0", "x1", "x2", "x3", "memory");
	catch_end();
	if (machine.bhyve)
		report(c.count == 1 && ESR_EC(c.esr) == EC_UNDEFINED, "HVC #1 is UNDEFINED");
	code[0] = 0xd4000002u; /* hvc #0 */
	code[1] = 0xd4000001u; /* svc #0 */
	__asm__ volatile("dc cvau, %0; dsb ish; ic ivau, %0; dsb ish; isb"
			 :
			 : "r"(code)
			 : "memory");
	window_set(1, (uintptr_t)code | PTE_NORMAL | PTE_EL0);
	window_flush(1);
	report(ESR_EC(el0_run(WINDOW_VA + 4096)) == EC_UNDEFINED, "HVC at EL0 is UNDEFINED");
	if (!machine.bhyve)
		return;
	fill(&a, PSCI_VERSION);
	fill(&b, PSCI_VERSION);
	smccc_hvc(&a);
	smccc_smc(&b);
	report(a.x[0] == 0x10001 && b.x[0] == a.x[0] && kept(&b), "HVC and SMC answer alike");
	catch_begin(&c);
	__asm__ volatile("smc #1" : : : "x0", "x1", "x2", "x3", "memory");
	catch_end();
	report(c.count == 1 && ESR_EC(c.esr) == EC_UNDEFINED, "SMC #1 is UNDEFINED");
	fill(&a, PSCI_VERSION | 1u << 16);
	smccc_call(&a);
	report(a.x[0] == 0x10001, "the SVE hint is not part of the function");
}

/* -- CPU_SUSPEND ------------------------------------------------------------------------------------ */

static void
arm_timer(uint64_t us)
{
	gic_enable(INTID_VTIMER, 0x80);
	msr(cntv_cval_el0, ticks() + us_to_ticks(us));
	msr(cntv_ctl_el0, 1);
	isb();
}

static void
timer_off(unsigned intid)
{
	(void)intid;
	msr(cntv_ctl_el0, 2);
	isb();
}

/* Suspended until the timer is due; interrupts are masked, so it stays pending. */
static void
standby(void)
{
	uint64_t before, after;
	int64_t answer;

	report(psci(PSCI_CPU_SUSPEND, 1u << 31, 0, 0) == PSCI_INVALID_PARAMETERS,
	    "CPU_SUSPEND with a reserved bit: INVALID_PARAMETERS");
	irq_handler = timer_off;
	arm_timer(20000);
	before = ticks();
	answer = psci(PSCI_CPU_SUSPEND, 0, 0, 0);
	after = ticks();
	report(answer == PSCI_SUCCESS, "CPU_SUSPEND to standby answers SUCCESS");
	report(after - before >= us_to_ticks(19000), "and does so when an interrupt is pending");
	report((mrs(cntv_ctl_el0) & 4) != 0, "the interrupt has not been taken meanwhile");
	before = this_cpu()->taken;
	irq_on();
	wait_for(this_cpu()->taken != before, 1000);
	irq_off();
	report(this_cpu()->taken == before + 1, "it is taken afterwards");
}

static struct {
	uint64_t sctlr, daif, context, cval;
} woken __attribute__((used));

__asm__(".text\n"
	"resume_entry:\n"
	"	adrp	x1, woken\n"
	"	add	x1, x1, :lo12:woken\n"
	"	mrs	x2, sctlr_el1\n"
	"	mrs	x3, daif\n"
	"	stp	x2, x3, [x1]\n"
	"	mrs	x2, cntv_cval_el0\n"
	"	stp	x0, x2, [x1, #16]\n"
	"	dsb	sy\n"
	"	b	secondary_entry\n");
void resume_entry(void);

static volatile uint64_t suspended_at, cval;

static void
power_down(void *arg)
{
	(void)arg;
	arm_timer(20000);
	cval = mrs(cntv_cval_el0);
	suspended_at = ticks();
	dsb();
	psci(PSCI_CPU_SUSPEND, POWER_DOWN, (uintptr_t)resume_entry, (uintptr_t)this_cpu());
	die("CPU_SUSPEND to power-down does not return");
}

static void
suspend_to_power_down(void)
{
	uint64_t after;

	report(psci(PSCI_CPU_SUSPEND, POWER_DOWN, 2, 0) == PSCI_INVALID_ADDRESS,
	    "CPU_SUSPEND to an address that is none: INVALID_ADDRESS");
	if (ncpus < 2)
		return;
	cpu_run(1, power_down, NULL);
	cpu_wait(1);
	after = ticks();
	report(after - suspended_at >= us_to_ticks(19000), "a power-down ends with an interrupt");
	report(woken.context == (uintptr_t)&cpus[1] && (woken.sctlr & 0x1005) == 0 &&
		   woken.daif == 0x3c0,
	    "the CPU begins at its entry as after CPU_ON");
	report(woken.cval == cval, "the timer has not stopped");
	report(psci(PSCI_AFFINITY_INFO, cpus[1].mpidr, 0, 0) == 0, "the CPU was on all the time");
}

/* -- TRNG, stolen time ------------------------------------------------------------------------------- */

static void
trng(void)
{
	struct smccc a, b;
	unsigned bad = 0;

	report(psci(TRNG_VERSION, 0, 0, 0) == 0x10000, "TRNG_VERSION is 1.0");
	report(psci(TRNG_FEATURES, TRNG_RND64, 0, 0) == 0 &&
		   psci(TRNG_FEATURES, 0x84000054u, 0, 0) == -1,
	    "TRNG_FEATURES knows its functions");
	for (unsigned bits = 1; bits <= 192; bits++) {
		a = (struct smccc){ .x = { TRNG_RND64, bits } };
		smccc_call(&a);
		bad += a.x[0] != 0;
		for (unsigned i = 0; i < 3; i++) {
			unsigned have = bits > 64 * i ? bits - 64 * i : 0;

			if (have < 64)
				bad += a.x[3 - i] >> have != 0;
		}
	}
	report(bad == 0, "TRNG_RND64 gives as many bits as asked for and no more");
	a = (struct smccc){ .x = { TRNG_RND64, 192 } };
	b = a;
	smccc_call(&a);
	smccc_call(&b);
	report(a.x[1] != b.x[1] && a.x[2] != b.x[2] && a.x[3] != b.x[3], "no two alike");
	report(psci(TRNG_RND64, 193, 0, 0) == -2 && psci(TRNG_RND64, 0, 0, 0) == -2 &&
		   psci(TRNG_RND32, 97, 0, 0) == -2,
	    "too many bits, or none: INVALID_PARAMETERS");
}

static struct {
	int64_t gpa;
	uint64_t version, smccc;
} by_cpu[MAX_CPUS];

static void
ask(void *arg)
{
	unsigned me = this_cpu()->index;

	(void)arg;
	by_cpu[me].gpa = psci(PV_TIME_ST, 0, 0, 0);
	by_cpu[me].version = (uint64_t)psci(PSCI_VERSION, 0, 0, 0);
	by_cpu[me].smccc = (uint64_t)psci(SMCCC_VERSION, 0, 0, 0);
}

static void
on_every_cpu(void)
{
	unsigned bad = 0, same = 0, torn = 0;

	cpu_run_on(ncpus, ask, NULL);
	for (unsigned n = 1; n < ncpus; n++)
		bad += by_cpu[n].version != by_cpu[0].version || by_cpu[n].smccc != by_cpu[0].smccc;
	report(bad == 0, "every CPU gives the same versions");
	if (psci(SMCCC_ARCH_FEATURES, PV_TIME_FEATURES, 0, 0) != 0) {
		skip("there is no stolen time");
		return;
	}
	report(psci(PV_TIME_FEATURES, PV_TIME_ST, 0, 0) == 0, "PV_TIME_FEATURES has PV_TIME_ST");
	for (unsigned n = 0; n < ncpus; n++) {
		const volatile uint64_t *st = (const volatile uint64_t *)(uintptr_t)by_cpu[n].gpa;
		uint64_t first;

		torn += by_cpu[n].gpa <= 0 || (by_cpu[n].gpa & 63) != 0;
		for (unsigned m = 0; m < n; m++)
			same += by_cpu[m].gpa == by_cpu[n].gpa;
		if (torn != 0)
			break;
		/* Revision and attributes are 0. */
		torn += st[0] != 0;
		first = st[1];
		delay_us(100);
		torn += st[1] < first;
	}
	report(same == 0, "every CPU has a stolen time structure of its own");
	report(torn == 0, "it is aligned, revision 0, and the time does not go back");
}

/* -- anything at all ------------------------------------------------------------------------------------ */

static bool
ends(uint32_t fn)
{
	fn &= ~(1u << 30 | 1u << 16);
	return (fn == 0x84000001u || fn == PSCI_CPU_OFF || fn == PSCI_SYSTEM_OFF ||
		fn == PSCI_SYSTEM_RESET || fn == 0x84000012u || fn == 0x84000003u);
}

static void
random_calls(unsigned n)
{
	uint64_t seed = 0x123456789abcdefull;
	unsigned bad = 0;
	struct smccc c;

	for (unsigned i = 0; i < n; i++) {
		uint64_t fn = random_next(&seed);

		/* Mostly near what exists. */
		if (i % 4 != 0)
			fn = (fn & 0x4001003full) | 0x80000000ull | (fn >> 32 & 7) << 24;
		if (ends((uint32_t)fn))
			continue;
		fill(&c, fn);
		for (unsigned k = 1; k < 4; k++)
			c.x[k] = random_next(&seed) >> random_next(&seed) % 64;
		smccc_call(&c);
		bad += !kept(&c);
	}
	report(bad == 0, "random calls leave the machine running and x4 to x17 alone");
}

void
test_main(void)
{
	gic_init();
	versions();
	features();
	registers();
	conduits();
	standby();
	if (machine.bhyve) {
		suspend_to_power_down();
		trng();
		on_every_cpu();
	}
	random_calls((unsigned)arg_number("calls", 2000));
}
