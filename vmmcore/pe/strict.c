/*
 * Code that is modified without maintenance is seen at once (-o jit.strict=true).
 *
 * A page of memory is either written or executed. One that is executed has no
 * entry in the write TLB of any PE, so that the first store takes the slow way
 * (mmu.c: locate()), which drops what all PEs have decoded of the page and then
 * lets it be written; one that is written has nothing decoded, so that the first
 * fetch takes the slow way (codecache_decode()), which drops the write entries
 * of all PEs. Either side waits until every PE has done what it was asked for: a
 * store of one PE is seen by the fetches of all others that follow it.
 *
 * While it waits a PE serves others, so that afterwards nothing that it had
 * found out may be used: addresses are translated again, and translated code is
 * left behind the instruction (pe->code_changed).
 *
 * Not noticed: what devices write, and access flags and dirty state that a table
 * walk sets; those take the maintenance that they always took.
 */
#include "pe/cluster.h"

#include <stdlib.h>

#include "pe/codecache.h"
#include "pe/mmu.h"
#include "pe/strict.h"

#define FIRST_SIZE 1024u

void
strict_init(struct strict *s)
{
	memset(s, 0, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
}

void
strict_fini(struct strict *s)
{
	free(s->page);
	pthread_mutex_destroy(&s->lock);
}

static inline size_t
home(const struct strict *s, uintptr_t page)
{
	return ((size_t)((page >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (s->size - 1));
}

/* Where the page is, or the empty place where it belongs. */
static size_t
place(const struct strict *s, uintptr_t page)
{
	size_t i = home(s, page);

	while (s->page[i] != 0 && s->page[i] != page)
		i = (i + 1) & (s->size - 1);
	return (i);
}

static bool
grow(struct strict *s)
{
	struct strict n = { .size = s->size == 0 ? FIRST_SIZE : 2 * s->size };

	n.page = calloc(n.size, sizeof(*n.page));
	if (n.page == NULL)
		return (false);
	for (size_t i = 0; i < s->size; i++)
		if (s->page[i] != 0)
			n.page[place(&n, s->page[i])] = s->page[i];
	free(s->page);
	s->page = n.page;
	s->size = n.size;
	return (true);
}

/* Without memory for it the page is as all are without jit.strict. */
static void
add(struct strict *s, uintptr_t page)
{
	size_t i;

	pthread_mutex_lock(&s->lock);
	if (2 * s->in_use < s->size || grow(s)) {
		i = place(s, page);
		s->in_use += s->page[i] == 0;
		s->page[i] = page;
	}
	pthread_mutex_unlock(&s->lock);
}

/* Take it out; false: it was not in. */
static bool
take(struct strict *s, uintptr_t page)
{
	bool found;
	size_t i;

	pthread_mutex_lock(&s->lock);
	found = s->size != 0 && s->page[i = place(s, page)] != 0;
	if (found) {
		s->in_use--;
		s->page[i] = 0;
		/* Those behind it may have been put there because of it. */
		for (size_t j = (i + 1) & (s->size - 1); s->page[j] != 0;
		     j = (j + 1) & (s->size - 1)) {
			uintptr_t other = s->page[j];

			s->page[j] = 0;
			s->page[place(s, other)] = other;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return (found);
}

static void
tell(struct pe *pe, enum cluster_op op, uint64_t addr)
{
	cluster_post(pe, &(struct cluster_mail){ .op = (uint8_t)op, .addr = addr });
	pe_dsb(pe);
	pe->code_changed = true;
	pe->strict_waits++;
}

void
strict_code(struct pe *pe, struct codepage *page)
{
	uintptr_t host = (uintptr_t)page->words;

	/* A writer may take it back while this PE waits. */
	while (!page->watched) {
		page->watched = true;
		add(cluster_strict(pe), host);
		mmu_drop_writes(pe, host);
		tell(pe, CLUSTER_CODE, host);
	}
}

bool
strict_write(struct pe *pe, const void *host, uint64_t pa)
{
	uint64_t page = pa & ~UINT64_C(0xfff);

	if (!take(cluster_strict(pe), (uintptr_t)host & ~(uintptr_t)0xfff))
		return (true);
	codecache_drop_page(pe, page);
	tell(pe, CLUSTER_WRITTEN, page);
	return (false);
}
