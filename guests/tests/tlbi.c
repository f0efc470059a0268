/*
 * Broadcast maintenance is complete at the DSB of who began it: after that no
 * store of any CPU lands through the old translation (DDI 0487, D8.13.5), and
 * every CPU that synchronises fetches the new instructions (B2.4.4).
 *
 *	rounds=N	of each kind
 */
#include "lib.h"

#define PAGE 0
#define PTE_ADDR(p) ((uint64_t)(uintptr_t)(p))

static volatile bool stop;
static volatile uint64_t stored[MAX_CPUS];
static unsigned writers;

/* Store an ever greater number to the own word of the page, faults or not. */
static void
write_on(void *arg)
{
	unsigned me = this_cpu()->index;
	volatile uint64_t *word = (volatile uint64_t *)window(PAGE) + me;
	struct caught c;
	uint64_t n = 0;

	(void)arg;
	catch_begin(&c);
	while (!stop) {
		for (unsigned i = 0; i < 16; i++)
			*word = ++n;
		stored[me] = n;
	}
	catch_end();
}

static uint64_t *old_page, *new_page;

/* Did a word of the page that is no longer mapped change? Looked at for a while. */
static unsigned
changed(const volatile uint64_t *page)
{
	uint64_t before[MAX_CPUS];
	unsigned n = 0;

	for (unsigned i = 0; i <= writers; i++)
		before[i] = page[i];
	for (unsigned look = 0; look < 20; look++) {
		for (unsigned i = 0; i <= writers; i++)
			n += page[i] != before[i];
	}
	return (n);
}

static void
by_va(void)
{
	window_flush(PAGE);
}

static void
all_of_el1(void)
{
	__asm__ volatile("dsb ishst; tlbi vmalle1is; dsb ish; isb" : : : "memory");
}

static void
by_asid(void)
{
	__asm__ volatile("dsb ishst; tlbi aside1is, xzr; dsb ish; isb" : : : "memory");
}

static void
last_level(void)
{
	__asm__ volatile("dsb ishst; tlbi vaale1is, %0; dsb ish; isb"
			 :
			 : "r"((WINDOW_VA >> 12) + PAGE)
			 : "memory");
}

static void
by_range(void)
{
	/* TG 4 KiB, two pages. */
	uint64_t operand = ((WINDOW_VA >> 12) & ((UINT64_C(1) << 37) - 1)) | UINT64_C(1) << 46;

	__asm__ volatile(".arch armv8.4-a\n dsb ishst; tlbi rvaae1is, %0; dsb ish; isb"
			 :
			 : "r"(operand)
			 : "memory");
}

/* Round after round: unmap or protect, look, map another page. */
static void
store_test(const char *how, void (*flush)(void), bool protect, unsigned rounds)
{
	unsigned late = 0, quiet = 0;
	uint64_t *swap;

	stop = false;
	window_set(PAGE, PTE_ADDR(old_page) | PTE_NORMAL | PTE_XN);
	flush();
	for (unsigned n = 1; n <= writers; n++)
		cpu_run(n, write_on, NULL);
	for (unsigned r = 0; r < rounds; r++) {
		uint64_t seen = stored[1 + r % writers];

		/* The old translation is in use. */
		quiet += !wait_for(stored[1 + r % writers] != seen, 10000);
		window_set(PAGE, protect ? PTE_ADDR(old_page) | PTE_NORMAL | PTE_XN | PTE_RO : 0);
		flush();
		late += changed(old_page);
		window_set(PAGE, 0);
		flush();
		window_set(PAGE, PTE_ADDR(new_page) | PTE_NORMAL | PTE_XN);
		swap = old_page;
		old_page = new_page;
		new_page = swap;
	}
	stop = true;
	for (unsigned n = 1; n <= writers; n++)
		cpu_wait(n);
	window_set(PAGE, 0);
	flush();
	if (quiet != 0)
		info("%u rounds without a store", quiet);
	report(late == 0, "no store lands through an old translation after TLBI %s and DSB", how);
}

/* -- instructions -----------------------------------------------------------------------
 * A branch is the one instruction that may be changed while others execute it
 * (B2.2.5): it leads to one of STUBS functions, each of which returns its number.
 */
#define STUBS 1024u

static uint32_t *code;
static uint32_t published;
static volatile uint64_t stale[MAX_CPUS], calls[MAX_CPUS];

static void
make_stubs(void)
{
	code = page_alloc(1 + STUBS * 8 / 4096);
	for (uint32_t i = 0; i < STUBS; i++) {
		code[2 + 2 * i] = 0x52800000u | i << 5; /* movz w0, #i */
		code[3 + 2 * i] = 0xd65f03c0u;          /* ret */
	}
	for (uint32_t i = 0; i < STUBS * 8 + 64; i += 64)
		__asm__ volatile("dc cvau, %0" : : "r"((char *)code + i) : "memory");
	__asm__ volatile("dsb ish; ic ialluis; dsb ish; isb" : : : "memory");
}

static void
set_code(uint32_t value, bool all)
{
	*(volatile uint32_t *)code = 0x14000000u | (2 + 2 * value); /* b stub */
	__asm__ volatile("dc cvau, %0; dsb ish" : : "r"(code) : "memory");
	if (all)
		__asm__ volatile("ic ialluis" : : : "memory");
	else
		__asm__ volatile("ic ivau, %0" : : "r"(code) : "memory");
	__asm__ volatile("dsb ish; isb" : : : "memory");
}

static void
call_on(void *arg)
{
	unsigned me = this_cpu()->index;
	uint32_t (*fn)(void) = (uint32_t(*)(void))(uintptr_t)code;

	(void)arg;
	while (!stop) {
		uint32_t at_least = __atomic_load_n(&published, __ATOMIC_ACQUIRE);

		isb();
		/* Newer is fine; older is half of all numbers. */
		if (((fn() - at_least) & (STUBS - 1)) >= STUBS / 2)
			stale[me]++;
		calls[me]++;
	}
}

static void
code_test(const char *how, bool all, unsigned rounds)
{
	unsigned old = 0;

	stop = false;
	published = 1;
	set_code(1, all);
	for (unsigned n = 1; n <= writers; n++)
		cpu_run(n, call_on, NULL);
	for (unsigned r = 2; r < rounds + 2; r++) {
		uint64_t seen = calls[1 + r % writers];

		set_code(r % STUBS, all);
		__atomic_store_n(&published, r % STUBS, __ATOMIC_RELEASE);
		if (r % 16 == 0)
			wait_for(calls[1 + r % writers] != seen, 10000);
	}
	stop = true;
	for (unsigned n = 1; n <= writers; n++) {
		cpu_wait(n);
		old += stale[n];
		stale[n] = 0;
	}
	report(old == 0, "after %s and DSB every CPU fetches the new instructions", how);
}

void
test_main(void)
{
	unsigned rounds = (unsigned)arg_number("rounds", 200);

	if (ncpus < 2) {
		skip("there is one CPU only");
		return;
	}
	writers = ncpus - 1;
	old_page = page_alloc(1);
	new_page = page_alloc(1);
	make_stubs();
	cpu_start_all();
	store_test("VAAE1IS", by_va, false, rounds);
	store_test("VAALE1IS", last_level, false, rounds);
	store_test("VMALLE1IS", all_of_el1, false, rounds);
	store_test("ASIDE1IS", by_asid, false, rounds);
	store_test("VAAE1IS that makes the page read-only", by_va, true, rounds);
	if ((mrs(id_aa64isar0_el1) >> 56 & 0xf) == 2)
		store_test("RVAAE1IS", by_range, false, rounds);
	code_test("IC IVAU", false, rounds);
	code_test("IC IALLUIS", true, rounds);
}
