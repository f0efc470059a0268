/*
 * The console: an NS16550A or a PL011 with receive interrupts, and bvmconsole
 * when there is one. Output goes to all of them.
 */
#include <stdarg.h>

#include "kernel.h"

#define BVM 0x90000ul
#define BVM_SIGNATURE ('b' << 8 | 'v')

/* NS16550A */
#define THR 0
#define IER 1
#define FCR 2
#define LCR 3
#define LSR 5
#define LSR_DR 0x01
#define LSR_THRE 0x20
/* PL011 */
#define DR 0x00
#define FR 0x18
#define FR_RXFE (1u << 4)
#define FR_TXFF (1u << 5)
#define IMSC 0x38
#define CR 0x30

bool have_bvm;
static char ring[256];
static volatile unsigned head, tail;

void
console_init(void)
{
	if (machine.bhyve && r16(BVM) == BVM_SIGNATURE)
		have_bvm = true;
	if (machine.uart == 0)
		return;
	if (machine.pl011) {
		w32(machine.uart + CR, 0x301);
		w32(machine.uart + IMSC, 0x50);
	} else {
		w8(machine.uart + LCR, 3);
		w8(machine.uart + FCR, 7);
		w8(machine.uart + IER, 1);
	}
}

static void
push(int c)
{
	if (head - tail < sizeof(ring))
		ring[head++ % sizeof(ring)] = (char)c;
}

void
uart_irq(void)
{
	if (machine.pl011)
		while ((r32(machine.uart + FR) & FR_RXFE) == 0)
			push((int)(r32(machine.uart + DR) & 0xff));
	else
		while ((r8(machine.uart + LSR) & LSR_DR) != 0)
			push(r8(machine.uart + THR));
}

int
console_getc(void)
{
	if (tail != head)
		return ((unsigned char)ring[tail++ % sizeof(ring)]);
	if (have_bvm) {
		uint32_t c = r32(BVM);

		if (c != ~0u)
			return ((int)(c & 0xff));
	}
	return (-1);
}

static void
uart_putc(int c)
{
	if (machine.uart == 0)
		return;
	if (machine.pl011) {
		while ((r32(machine.uart + FR) & FR_TXFF) != 0)
			;
		w32(machine.uart + DR, (uint32_t)c);
	} else {
		while ((r8(machine.uart + LSR) & LSR_THRE) == 0)
			;
		w8(machine.uart + THR, (uint8_t)c);
	}
}

void
putch(int c)
{
	if (c == '\n')
		uart_putc('\r');
	uart_putc(c);
}

void
puts_(const char *s)
{
	while (*s != '\0')
		putch(*s++);
}

static void
number(uint64_t v, unsigned base, unsigned width)
{
	char buf[24];
	unsigned n = 0;

	do {
		buf[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v != 0);
	while (width > n) {
		putch('0');
		width--;
	}
	while (n > 0)
		putch(buf[--n]);
}

/* %s, %c, %u, %lu, %x, %lx with a width that pads with zeros. */
void
printf_(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	for (; *fmt != '\0'; fmt++) {
		unsigned width = 0;
		bool wide = false;

		if (*fmt != '%') {
			putch(*fmt);
			continue;
		}
		for (fmt++; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (unsigned)(*fmt - '0');
		if (*fmt == 'l') {
			wide = true;
			fmt++;
		}
		switch (*fmt) {
		case 's':
			puts_(va_arg(ap, const char *));
			break;
		case 'c':
			putch(va_arg(ap, int));
			break;
		case 'u':
			number(wide ? va_arg(ap, unsigned long) : va_arg(ap, unsigned), 10, width);
			break;
		case 'x':
			number(wide ? va_arg(ap, unsigned long) : va_arg(ap, unsigned), 16, width);
			break;
		default:
			putch(*fmt);
			break;
		}
	}
	va_end(ap);
}
