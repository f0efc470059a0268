/*
 * What a test says: PASS, FAIL, SKIP and INFO lines, the totals, and the words
 * of the command line.
 */
#include <stdarg.h>

#include "lib.h"

static unsigned passed, failed, skipped;

static void
say(const char *tag, const char *fmt, va_list ap)
{
	put_string(tag);
	put_format(fmt, ap);
	put_string("\n");
}

bool
report(bool ok, const char *sentence, ...)
{
	va_list ap;

	va_start(ap, sentence);
	console_lock();
	say(ok ? "PASS " : "FAIL ", sentence, ap);
	if (ok)
		passed++;
	else
		failed++;
	console_unlock();
	va_end(ap);
	return (ok);
}

void
skip(const char *why, ...)
{
	va_list ap;

	va_start(ap, why);
	console_lock();
	say("SKIP ", why, ap);
	skipped++;
	console_unlock();
	va_end(ap);
}

void
info(const char *text, ...)
{
	va_list ap;

	va_start(ap, text);
	console_lock();
	say("INFO ", text, ap);
	console_unlock();
	va_end(ap);
}

static void
totals(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_format(fmt, ap);
	va_end(ap);
}

void
summary(void)
{
	console_lock();
	totals("DONE %u passed, %u failed, %u skipped\n", passed, failed, skipped);
	console_unlock();
}

void
finish(void)
{
	summary();
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
	for (;;)
		wfi();
}

void
die(const char *why, ...)
{
	va_list ap;

	/* Whoever holds the console may never let go: half a second is enough. */
	va_start(ap, why);
	say("\nFAIL ", why, ap);
	va_end(ap);
	totals("DONE %u passed, %u failed, %u skipped\n", passed, failed + 1, skipped);
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
	for (;;)
		wfi();
}

/* -- the command line ------------------------------------------------------------- */

/* The value of `name` (behind the '='), "" for the bare word, NULL when absent. */
static const char *
arg(const char *name)
{
	struct fdt_node chosen;
	const char *s;

	if (!fdt_named("chosen", 0, &chosen) || (s = fdt_prop(&chosen, "bootargs", NULL)) == NULL)
		return (NULL);
	while (*s != '\0') {
		const char *n = name;

		while (*s == ' ')
			s++;
		while (*n != '\0' && *s == *n)
			s++, n++;
		if (*n == '\0' && *s == '=')
			return (s + 1);
		if (*n == '\0' && (*s == ' ' || *s == '\0'))
			return ("");
		while (*s != '\0' && *s != ' ')
			s++;
	}
	return (NULL);
}

uint64_t
arg_number(const char *name, uint64_t otherwise)
{
	const char *s = arg(name);
	uint64_t v = 0;

	if (s == NULL || *s < '0' || *s > '9')
		return (otherwise);
	for (; *s >= '0' && *s <= '9'; s++)
		v = v * 10 + (uint64_t)(*s - '0');
	return (v);
}

bool
arg_given(const char *name)
{
	return (arg(name) != NULL);
}

bool
arg_selected(const char *name)
{
	const char *s = arg("only");

	if (s == NULL)
		return (true);
	for (;;) {
		const char *n = name;

		while (*n != '\0' && *s == *n)
			s++, n++;
		if (*n == '\0' && (*s == ',' || *s == ' ' || *s == '\0'))
			return (true);
		while (*s != ',' && *s != ' ' && *s != '\0')
			s++;
		if (*s++ != ',')
			return (false);
	}
}
