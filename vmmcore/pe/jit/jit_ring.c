/*
 * Room in the code memory, which is a ring: blocks lie one behind the other,
 * each behind a head that says whose it is. When there is no room for another,
 * the oldest go, an eighth of the memory at a time, so that what runs now is
 * kept and is not translated again all at once.
 *
 *	start        free      limit          top       rw + size
 *	  | this lap  | no blocks | the lap before |        |
 *
 * A block is reached by nothing but its entry in the table of its page, so that
 * one store takes it out of the way; who is inside of translated code makes no
 * room (jit.c).
 */
#include "pe/jit/jit_int.h"

struct head {
	struct codepage *page;
	uint32_t size; /* with the head, up to the next one */
	uint32_t start;
};
_Static_assert(sizeof(struct head) % 16 == 0, "code behind a head is aligned");

void
jit_ring_reset(struct jit *j)
{
	j->free = j->start;
	j->limit = j->top = j->rw + j->size;
	j->oldest = j->top;
}

/* Bytes that are made ready for a block; it may turn out to be longer. */
static size_t
room(const struct jit *j)
{
	size_t ring = (size_t)(j->rw + j->size - j->start);

	return (JIT_ROOM < ring / 2 ? JIT_ROOM : ring / 2);
}

/* Blocks of the lap before that begin below `end` are gone. */
static void
evict(struct pe *pe, const uint8_t *end)
{
	struct jit *j = pe->jit;

	while (j->oldest < j->top && j->oldest < end) {
		struct head *h = (struct head *)(void *)j->oldest;
		uint8_t *code = jit_rx(j, (uint8_t *)(h + 1));
		uint8_t **entry = &jit_entries(h->page)[h->start];

		/* The page may have dropped it, or be another page by now. */
		if (*entry == code)
			*entry = jit_rx(j, j->cold);
		j->oldest += h->size;
		pe->count.jit_evictions++;
	}
	if (j->oldest >= j->top)
		j->oldest = j->top = j->rw + j->size;
	j->limit = j->oldest;
}

void
jit_ring_room(struct pe *pe)
{
	struct jit *j = pe->jit;
	size_t want = sizeof(struct head) + room(j);
	size_t eighth = (size_t)(j->rw + j->size - j->start) / 8;

	if (j->free + want <= j->limit) {
		j->free += sizeof(struct head);
		return;
	}
	if (j->free + want > j->rw + j->size) {
		/* The next lap. */
		evict(pe, j->top);
		j->top = j->free;
		j->oldest = j->free = j->start;
	}
	evict(pe, j->free + (want > eighth ? want : eighth));
	j->free += sizeof(struct head);
}

void
jit_ring_take(struct jit *j, uint8_t *code, struct codepage *page, unsigned start)
{
	struct head *h = (struct head *)(void *)(code - sizeof(*h));

	h->page = page;
	h->start = start;
	h->size = (uint32_t)(j->free - (uint8_t *)h);
}
