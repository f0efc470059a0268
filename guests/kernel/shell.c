/*
 * The prompt: commands for people and for tests.
 */
#include "kernel.h"

struct command {
	const char *name, *help;
	void (*run)(const char *arg);
};

static uint64_t
parse(const char *s)
{
	uint64_t v = 0;

	for (; *s >= '0' && *s <= '9'; s++)
		v = v * 10 + (uint64_t)(*s - '0');
	return (v);
}

static void
cmd_ticks(const char *arg)
{
	(void)arg;
	printf_("%lu ticks, counter %lu at %lu Hz\n", ticks, mrs(cntvct_el0), mrs(cntfrq_el0));
}

static void
cmd_sleep(const char *arg)
{
	uint64_t until = ticks + parse(arg);

	while (ticks < until)
		__asm__ volatile("wfi");
	printf_("slept until tick %lu\n", ticks);
}

static void
cmd_echo(const char *arg)
{
	printf_("%s\n", arg);
}

static void
cmd_bvm(const char *arg)
{
	if (!have_bvm) {
		puts_("no bvmconsole\n");
		return;
	}
	for (; *arg != '\0'; arg++)
		w32(0x90000, (uint8_t)*arg);
	w32(0x90000, '\n');
}

static void
cmd_count(const char *arg)
{
	(void)arg;
	puts_("counting\n");
	__asm__ volatile("msr daifset, #2");
	count_forever();
}

static void
cmd_spin(const char *arg)
{
	(void)arg;
	puts_("spinning\n");
	for (;;)
		__asm__ volatile("" : : : "memory");
}

static void
cmd_wfi(const char *arg)
{
	(void)arg;
	puts_("waiting with interrupts masked and the timer off\n");
	__asm__ volatile("msr daifset, #15");
	msr(cntv_ctl_el0, 0);
	for (;;)
		__asm__ volatile("wfi");
}

/* FNV-1a over RAM behind the kernel, again and again: arg passes of arg MiB. */
static void
cmd_hash(const char *arg)
{
	uint64_t mib = parse(arg), h = 0xcbf29ce484222325ull;
	const uint64_t *p = (const uint64_t *)((machine.ram + (32ull << 20)));

	for (uint64_t i = 0; i < mib << 17; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	printf_("hash %016lx\n", h);
}

/* Fill the same RAM with a pattern that depends on the address. */
static void
cmd_fill(const char *arg)
{
	uint64_t mib = parse(arg);
	uint64_t *p = (uint64_t *)((machine.ram + (32ull << 20)));

	for (uint64_t i = 0; i < mib << 17; i++)
		p[i] = i * 0x9e3779b97f4a7c15ull;
	puts_("filled\n");
}

static void
cmd_loop(const char *arg)
{
	uint64_t n = parse(arg), t0, t1, x = 1;

	if (n == 0)
		n = 1;
	t0 = mrs(cntvct_el0);
	/* 8 instructions a round: an integer loop whose speed is known. */
	__asm__ volatile("1: add %0, %0, %1\n eor %0, %0, %1, lsl #3\n add %0, %0, #7\n"
			 "ror %0, %0, #5\n sub %0, %0, %1\n orr %0, %0, #1\n"
			 "subs %1, %1, #1\n b.ne 1b"
			 : "+r"(x), "+r"(n));
	t1 = mrs(cntvct_el0);
	printf_("loop: %lu instructions in %lu us\n", parse(arg) * 8,
	    (t1 - t0) / (mrs(cntfrq_el0) / 1000000));
}

static uint64_t scratch[512];

static void
cmd_memloop(const char *arg)
{
	uint64_t n = parse(arg), t0, t1, x = 1;
	uint64_t *p = scratch;

	if (n == 0)
		n = 1;
	t0 = mrs(cntvct_el0);
	__asm__ volatile("1: ldr %0, [%2]\n add %0, %0, #1\n str %0, [%2]\n"
			 "ldp x9, x10, [%2, #16]\n stp x10, x9, [%2, #32]\n"
			 "ldrb w9, [%2, #48]\n subs %1, %1, #1\n b.ne 1b"
			 : "+r"(x), "+r"(n)
			 : "r"(p)
			 : "x9", "x10", "memory");
	t1 = mrs(cntvct_el0);
	printf_("memloop: %lu instructions in %lu us\n", parse(arg) * 8,
	    (t1 - t0) / (mrs(cntfrq_el0) / 1000000));
}

static void
cmd_off(const char *arg)
{
	(void)arg;
	puts_("power off\n");
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
}

static void
cmd_reset(const char *arg)
{
	(void)arg;
	puts_("reset\n");
	psci(PSCI_SYSTEM_RESET, 0, 0, 0);
}

static void cmd_help(const char *arg);

static const struct command commands[] = {
	{ "help", "this list", cmd_help },
	{ "ticks", "timer interrupts so far", cmd_ticks },
	{ "sleep", "N: wait for N ticks", cmd_sleep },
	{ "echo", "TEXT: print it", cmd_echo },
	{ "bvm", "TEXT: print it on bvmconsole", cmd_bvm },
	{ "fill", "N: write N MiB of RAM", cmd_fill },
	{ "hash", "N: hash N MiB of RAM", cmd_hash },
	{ "loop", "N: time N rounds of integer instructions", cmd_loop },
	{ "memloop", "N: time N rounds of loads and stores", cmd_memloop },
	{ "count", "count x0 and x1 for ever", cmd_count },
	{ "spin", "loop for ever, interrupts on", cmd_spin },
	{ "wfi", "wait for ever, interrupts masked", cmd_wfi },
	{ "reset", "PSCI SYSTEM_RESET", cmd_reset },
	{ "off", "PSCI SYSTEM_OFF", cmd_off },
};

static void
cmd_help(const char *arg)
{
	(void)arg;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		printf_("%s  %s\n", commands[i].name, commands[i].help);
}

static void
run(char *line)
{
	char *arg = line;

	while (*arg != '\0' && *arg != ' ')
		arg++;
	if (*arg == ' ')
		*arg++ = '\0';
	if (*line == '\0')
		return;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (streq(line, commands[i].name)) {
			commands[i].run(arg);
			return;
		}
	printf_("%s: unknown; try help\n", line);
}

void
shell(void)
{
	char line[128];
	unsigned n = 0;

	puts_("guest> ");
	for (;;) {
		int c;

		/* Interrupts stay masked from the look to the sleep. */
		__asm__ volatile("msr daifset, #2");
		c = console_getc();
		if (c < 0)
			__asm__ volatile("wfi");
		__asm__ volatile("msr daifclr, #2");
		if (c < 0)
			continue;
		if (c == '\r' || c == '\n') {
			putch('\n');
			line[n] = '\0';
			n = 0;
			run(line);
			puts_("guest> ");
		} else if (c == 0x7f || c == '\b') {
			if (n > 0) {
				n--;
				puts_("\b \b");
			}
		} else if (n < sizeof(line) - 1 && c >= ' ') {
			line[n++] = (char)c;
			putch(c);
		}
	}
}
