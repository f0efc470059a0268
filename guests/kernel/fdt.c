/*
 * Reading the flattened device tree (Devicetree Specification, chapter 5):
 * just enough to find a console, the interrupt controller and memory.
 */
#include "kernel.h"

static uint32_t
be32(const void *p)
{
	const uint8_t *b = p;

	return ((uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]);
}

static uint64_t
be64(const void *p)
{
	return ((uint64_t)be32(p) << 32 | be32((const char *)p + 4));
}

int
streq(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b)
		a++, b++;
	return (*a == *b);
}

/* Is `want` one of the strings in a property? */
static bool
lists(const char *p, uint32_t len, const char *want)
{
	for (const char *end = p + len; p < end;) {
		if (streq(p, want))
			return (true);
		while (p < end && *p != '\0')
			p++;
		p++;
	}
	return (false);
}

static bool
starts(const char *s, const char *with)
{
	while (*with != '\0')
		if (*s++ != *with++)
			return (false);
	return (true);
}

struct node {
	const char *name, *compatible, *reg, *irq, *method;
	uint32_t compatible_len, reg_len, irq_len;
};

static void
node_done(const struct node *n, struct machine *m, int depth)
{
	if (n->name == NULL)
		return;
	if (depth == 1 && n->compatible != NULL &&
	    lists(n->compatible, n->compatible_len, "freebsd,bhyve"))
		m->bhyve = true;
	/* RAM with holes in it is several ranges: the largest is what there is to work with. */
	for (uint32_t at = 0; starts(n->name, "memory") && at + 16 <= n->reg_len; at += 16) {
		if (be64(n->reg + at + 8) > m->ram_size) {
			m->ram = be64(n->reg + at);
			m->ram_size = be64(n->reg + at + 8);
		}
	}
	if (n->compatible == NULL)
		return;
	if ((lists(n->compatible, n->compatible_len, "ns16550a") ||
		lists(n->compatible, n->compatible_len, "arm,pl011")) &&
	    m->uart == 0 && n->reg_len >= 16) {
		m->uart = be64(n->reg);
		m->pl011 = lists(n->compatible, n->compatible_len, "arm,pl011");
		if (n->irq_len >= 12)
			m->uart_irq = be32(n->irq + 4) + 32;
	}
	if (lists(n->compatible, n->compatible_len, "arm,gic-v3") && n->reg_len >= 32) {
		m->dist = be64(n->reg);
		m->redist = be64(n->reg + 16);
	}
	if (starts(n->name, "psci") && n->method != NULL)
		m->psci_smc = streq(n->method, "smc");
}

int
fdt_read(const void *fdt, struct machine *m)
{
	const char *base = fdt, *strings;
	static struct node stack[8];
	const char *p;
	int depth = 0;

	if (fdt == NULL || be32(fdt) != 0xd00dfeedu)
		return (-1);
	p = base + be32(base + 8);
	strings = base + be32(base + 12);
	for (;;) {
		uint32_t token = be32(p);

		p += 4;
		if (token == 1) {
			struct node *n = &stack[++depth & 7];

			*n = (struct node){ .name = p };
			while (*p++ != '\0')
				;
			p = (const char *)(((uintptr_t)p + 3) & ~(uintptr_t)3);
		} else if (token == 2) {
			node_done(&stack[depth & 7], m, depth);
			if (--depth == 0)
				return (0);
		} else if (token == 3) {
			uint32_t len = be32(p);
			const char *name = strings + be32(p + 4), *val = p + 8;
			struct node *n = &stack[depth & 7];

			if (streq(name, "compatible")) {
				n->compatible = val;
				n->compatible_len = len;
			} else if (streq(name, "reg")) {
				n->reg = val;
				n->reg_len = len;
			} else if (streq(name, "interrupts")) {
				n->irq = val;
				n->irq_len = len;
			} else if (streq(name, "method"))
				n->method = val;
			else if (streq(name, "bootargs"))
				for (uint32_t i = 0; i < len && i < sizeof(m->bootargs) - 1; i++)
					m->bootargs[i] = val[i];
			p = (const char *)(((uintptr_t)val + len + 3) & ~(uintptr_t)3);
		} else if (token == 9)
			return (0);
		else if (token != 4)
			return (-1);
	}
}
