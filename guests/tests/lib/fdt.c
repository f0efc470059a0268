/*
 * Reading the flattened device tree (Devicetree Specification, chapter 5), as
 * far as the tests need it: nodes by compatible string or name, properties of
 * a node. No phandles, no address translation.
 */
#include "lib.h"

const void *fdt;

enum { FDT_BEGIN_NODE = 1, FDT_END_NODE = 2, FDT_PROP = 3, FDT_NOP = 4 };

static uint32_t
be32(const void *p)
{
	const uint8_t *b = p;

	return ((uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]);
}

int
streq(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b)
		a++, b++;
	return (*a == *b);
}

static bool
starts(const char *s, const char *with)
{
	while (*with != '\0')
		if (*s++ != *with++)
			return (false);
	return (true);
}

static const char *
aligned(const char *p)
{
	return ((const char *)(((uintptr_t)p + 3) & ~(uintptr_t)3));
}

/* The next begin of a node at or after *p; NULL at the end. *p moves behind its name. */
static const char *
next_node(const char **p)
{
	for (;;) {
		uint32_t token = be32(*p);
		const char *name;

		*p += 4;
		switch (token) {
		case FDT_BEGIN_NODE:
			name = *p;
			while (*(*p)++ != '\0')
				;
			*p = aligned(*p);
			return (name);
		case FDT_PROP:
			*p = aligned(*p + 8 + be32(*p));
			break;
		case FDT_END_NODE:
		case FDT_NOP:
			break;
		default:
			return (NULL);
		}
	}
}

const void *
fdt_prop(const struct fdt_node *node, const char *name, uint32_t *len)
{
	const char *base = fdt, *strings = base + be32(base + 12), *p = node->start;

	for (;;) {
		uint32_t token = be32(p);

		if (token == FDT_NOP) {
			p += 4;
			continue;
		}
		if (token != FDT_PROP)
			return (NULL);
		if (streq(strings + be32(p + 8), name)) {
			if (len != NULL)
				*len = be32(p + 4);
			return (p + 12);
		}
		p = aligned(p + 12 + be32(p + 4));
	}
}

static bool
lists(const struct fdt_node *node, const char *want)
{
	uint32_t len = 0;
	const char *s = fdt_prop(node, "compatible", &len), *end = s + len;

	while (s != NULL && s < end) {
		if (streq(s, want))
			return (true);
		while (s < end && *s++ != '\0')
			;
	}
	return (false);
}

static bool
find(const char *what, bool by_name, unsigned n, struct fdt_node *node)
{
	const char *p = (const char *)fdt + be32((const char *)fdt + 8);

	while ((node->name = next_node(&p)) != NULL) {
		node->start = p;
		if (by_name ? starts(node->name, what) : lists(node, what))
			if (n-- == 0)
				return (true);
	}
	return (false);
}

bool
fdt_compatible(const char *compatible, unsigned n, struct fdt_node *node)
{
	return (find(compatible, false, n, node));
}

bool
fdt_named(const char *name, unsigned n, struct fdt_node *node)
{
	return (find(name, true, n, node));
}

uint32_t
fdt_cell(const struct fdt_node *node, const char *name, unsigned i)
{
	uint32_t len = 0;
	const char *p = fdt_prop(node, name, &len);

	return (p != NULL && (i + 1) * 4 <= len ? be32(p + 4 * i) : 0);
}

uint64_t
fdt_cells2(const struct fdt_node *node, const char *name, unsigned i)
{
	return ((uint64_t)fdt_cell(node, name, i) << 32 | fdt_cell(node, name, i + 1));
}

unsigned
fdt_intid(const struct fdt_node *node, unsigned n)
{
	uint32_t len = 0;

	if (fdt_prop(node, "interrupts", &len) == NULL || (n + 1) * 12 > len)
		return (0);
	return (fdt_cell(node, "interrupts", 3 * n + 1) +
		(fdt_cell(node, "interrupts", 3 * n) == 0 ? 32 : 16));
}
