/* Rings and chains (virtq.h). The host is little-endian, as the rings are. */
#include "virtio/virtq.h"

#include <stdatomic.h>
#include <string.h>

#include "sys/membarrier.h"

#define DESC_F_NEXT 1
#define DESC_F_WRITE 2
#define DESC_F_INDIRECT 4
#define USED_F_NO_NOTIFY 1
#define MAX_TABLE 32768
#define MAX_CHAIN_BYTES (UINT64_C(1) << 32)

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct ring16 {
	_Atomic uint16_t flags, idx, ring[];
};

enum found { FOUND, NOT_RAM, ABSENT };

/* Host address of guest memory that may be used so. */
static enum found
find(struct virtq *q, uint64_t gpa, uint64_t len, bool write, void **at)
{
	for (unsigned i = 0; i < q->nram; i++) {
		const struct virtq_ram *r = &q->ram[i];
		uint64_t off = gpa - r->gpa;

		if (gpa < r->gpa || off >= r->len || len > r->len - off)
			continue;
		if (write && !r->writable)
			return (NOT_RAM);
		if (r->present != NULL && len != 0) {
			uint64_t first = (r->offset + off) / r->chunk;
			uint64_t last = (r->offset + off + len - 1) / r->chunk;

			for (; first <= last; first++) {
				if (r->present[first] != 0)
					continue;
				q->absent_gpa = gpa;
				q->absent_len = len;
				q->absent_write = write;
				return (ABSENT);
			}
		}
		*at = (char *)r->base + off;
		return (FOUND);
	}
	return (NOT_RAM);
}

/* Rings were found once, when the queue was enabled; where RAM is does not change. */
static void *
ring(struct virtq *q, uint64_t gpa, uint64_t len, bool write)
{
	void *at = NULL;

	return (find(q, gpa, len, write, &at) == FOUND ? at : NULL);
}

static struct ring16 *
avail(struct virtq *q)
{
	return (ring(q, q->avail, 4 + 2 * (uint64_t)q->num + (q->event_idx ? 2 : 0), false));
}

static struct ring16 *
used(struct virtq *q)
{
	return (ring(q, q->used, 4 + 8 * (uint64_t)q->num + (q->event_idx ? 2 : 0), true));
}

static enum virtq_result
bad(struct virtq *q, const char *why)
{
	q->why = why;
	return (VIRTQ_BAD);
}

static enum virtq_result
walk(struct virtq *q, struct virtq_chain *c, struct iovec *iov, unsigned max)
{
	uint32_t size = q->num, index = c->head, pieces = 0;
	bool in_table = false, writable = false;
	uint64_t total = 0;
	void *table = ring(q, q->desc, sizeof(struct desc) * (uint64_t)q->num, false);
	void *at = NULL;
	struct desc d;

	c->nread = c->nwrite = 0;
	c->read_len = c->write_len = 0;
	/* A chain is no longer than the queue, indirect or not, so a loop ends here. */
	for (uint32_t i = 0; i <= q->num; i++) {
		if (table == NULL)
			return (bad(q, "descriptors outside of memory"));
		memcpy(&d, (char *)table + sizeof(d) * (size_t)index, sizeof(d));
		atomic_signal_fence(memory_order_seq_cst); /* the copy is what is used */
		if ((d.flags & DESC_F_INDIRECT) != 0) {
			if (!q->indirect)
				return (bad(q, "indirect descriptor, not negotiated"));
			if (in_table)
				return (bad(q, "indirect descriptor in an indirect table"));
			if ((d.flags & DESC_F_NEXT) != 0)
				return (bad(q, "indirect descriptor with NEXT"));
			if (d.len == 0 || d.len % sizeof(d) != 0 || d.len / sizeof(d) > MAX_TABLE)
				return (bad(q, "indirect table of an impossible length"));
			switch (find(q, d.addr, d.len, false, &table)) {
			case ABSENT:
				return (VIRTQ_ABSENT);
			case NOT_RAM:
				return (bad(q, "indirect table outside of memory"));
			default:
				break;
			}
			size = d.len / (uint32_t)sizeof(d);
			in_table = true;
			index = 0;
			continue;
		}
		if (++pieces > q->num)
			return (bad(q, "more descriptors than the queue has"));
		total += d.len;
		if (total > MAX_CHAIN_BYTES)
			return (bad(q, "more than 4 GiB"));
		if ((d.flags & DESC_F_WRITE) != 0)
			writable = true;
		else if (writable)
			return (bad(q, "readable descriptor after a writable one"));
		if (d.len != 0) {
			switch (find(q, d.addr, d.len, writable, &at)) {
			case ABSENT:
				return (VIRTQ_ABSENT);
			case NOT_RAM:
				return (bad(q, "buffer outside of memory"));
			default:
				break;
			}
			if (c->nread + c->nwrite == max)
				return (VIRTQ_LONG);
			iov[c->nread + c->nwrite] = (struct iovec){ at, d.len };
			if (writable) {
				c->nwrite++;
				c->write_len += d.len;
			} else {
				c->nread++;
				c->read_len += d.len;
			}
		}
		if ((d.flags & DESC_F_NEXT) == 0)
			return (VIRTQ_CHAIN);
		if (d.next >= size)
			return (bad(q, "next beyond the table"));
		index = d.next;
	}
	return (bad(q, "more descriptors than the queue has, or a loop"));
}

enum virtq_result
virtq_pop(struct virtq *q, struct virtq_chain *c, struct iovec *iov, unsigned max)
{
	struct ring16 *a = avail(q);
	enum virtq_result result;
	uint16_t waiting;

	if (a == NULL) {
		q->why = "available ring outside of memory";
		return (VIRTQ_BROKEN);
	}
	/* What the index covers was written before it. */
	waiting = (uint16_t)(atomic_load_explicit(&a->idx, memory_order_acquire) - q->last_avail);
	if (waiting == 0)
		return (VIRTQ_NONE);
	c->head =
	    atomic_load_explicit(&a->ring[q->last_avail & (q->num - 1)], memory_order_relaxed);
	if (waiting > q->num || c->head >= q->num) {
		q->why = waiting > q->num ? "more chains available than the queue holds"
					  : "a head beyond the queue";
		return (VIRTQ_BROKEN);
	}
	result = walk(q, c, iov, max);
	if (result == VIRTQ_CHAIN || result == VIRTQ_BAD)
		q->last_avail++;
	return (result);
}

void
virtq_unpop(struct virtq *q, unsigned count)
{
	q->last_avail = (uint16_t)(q->last_avail - count);
}

void
virtq_push(struct virtq *q, uint16_t head, uint32_t len)
{
	struct ring16 *u = used(q);
	uint32_t element[2] = { head, len };

	if (u != NULL)
		memcpy((char *)u + 4 + 8 * (size_t)(q->used_idx & (q->num - 1)), element,
		    sizeof(element));
	q->used_idx++;
}

void
virtq_publish(struct virtq *q)
{
	struct ring16 *u = used(q);

	if (u != NULL && q->shown != q->used_idx)
		atomic_store_explicit(&u->idx, q->used_idx, memory_order_release);
	q->shown = q->used_idx;
}

void
virtq_quiet(struct virtq *q)
{
	struct ring16 *u = used(q);

	if (u != NULL && !q->event_idx)
		atomic_store_explicit(&u->flags, USED_F_NO_NOTIFY, memory_order_relaxed);
}

bool
virtq_listen(struct virtq *q)
{
	struct ring16 *a = avail(q), *u = used(q);

	if (a == NULL || u == NULL)
		return (false);
	if (q->event_idx) /* avail_event */
		atomic_store_explicit(&u->ring[4 * q->num], q->last_avail, memory_order_relaxed);
	else
		atomic_store_explicit(&u->flags, 0, memory_order_relaxed);
	if (!sys_membarrier())
		atomic_thread_fence(memory_order_seq_cst);
	return (atomic_load_explicit(&a->idx, memory_order_acquire) != q->last_avail);
}
