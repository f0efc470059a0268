/*
 * Output: the first NS16550A or PL011 of the tree, polled, one line at a time.
 */
#include <stdarg.h>

#include "lib.h"

/* NS16550A */
#define THR 0
#define LSR 5
#define LSR_THRE 0x20
/* PL011 */
#define DR 0x00
#define FR 0x18
#define CR 0x30
#define FR_TXFF (1u << 5)

static uint64_t uart;
static bool pl011;
static struct lock console;

void
console_init(void)
{
	struct fdt_node node;

	if (fdt_compatible("arm,pl011", 0, &node)) {
		pl011 = true;
		uart = fdt_cells2(&node, "reg", 0);
		w32(uart + CR, 0x301);
	} else if (fdt_compatible("ns16550a", 0, &node))
		uart = fdt_cells2(&node, "reg", 0);
}

void
console_lock(void)
{
	lock(&console);
}

void
console_unlock(void)
{
	unlock(&console);
}

static void
put(int c)
{
	if (uart == 0)
		return;
	if (pl011) {
		while ((r32(uart + FR) & FR_TXFF) != 0)
			;
		w32(uart + DR, (uint32_t)c);
	} else {
		while ((r8(uart + LSR) & LSR_THRE) == 0)
			;
		w8(uart + THR, (uint8_t)c);
	}
}

void
put_string(const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '\n')
			put('\r');
		put(*s);
	}
}

static void
number(uint64_t v, unsigned base, unsigned width)
{
	char buf[24];
	unsigned n = sizeof(buf);

	buf[--n] = '\0';
	do {
		buf[--n] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v != 0 || sizeof(buf) - 1 - n < width);
	put_string(buf + n);
}

/* %s %c %d %u %x with l and a width that pads with zeros. */
void
put_format(const char *fmt, va_list ap)
{
	for (; *fmt != '\0'; fmt++) {
		unsigned width = 0;
		bool wide = false;
		int64_t i;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		for (fmt++; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (unsigned)(*fmt - '0');
		if (width > 20)
			width = 20;
		for (; *fmt == 'l'; fmt++)
			wide = true;
		switch (*fmt) {
		case 's':
			put_string(va_arg(ap, const char *));
			break;
		case 'c':
			put(va_arg(ap, int));
			break;
		case 'd':
			i = wide ? va_arg(ap, int64_t) : va_arg(ap, int);
			if (i < 0)
				put('-');
			number(i < 0 ? -(uint64_t)i : (uint64_t)i, 10, width);
			break;
		case 'u':
		case 'x':
			number(wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned),
			    *fmt == 'u' ? 10 : 16, width);
			break;
		default:
			put(*fmt);
			break;
		}
	}
}
