/*
 * The device side of a split virtqueue (virtio 1.2, 2.7) for what moves too much
 * data for devices/virtio/queue.py, whose rules it follows: a descriptor is copied
 * once, the copy is checked, the copy is used. Everything in a ring is the
 * guest's and may change at any time.
 *
 * Nothing is kept between calls but the positions in struct virtq.
 */
#ifndef _VIRTIO_VIRTQ_H_
#define _VIRTIO_VIRTQ_H_

#include <sys/uio.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/virtnet.h"

/* One chain: what may be read comes before what may be written; no empty pieces. */
struct virtq_chain {
	uint16_t head;
	unsigned nread, nwrite;
	size_t read_len, write_len;
};

enum virtq_result {
	VIRTQ_NONE,   /* there is no chain */
	VIRTQ_CHAIN,  /* one was taken */
	VIRTQ_BAD,    /* one was taken that makes no sense; q->why */
	VIRTQ_BROKEN, /* the ring itself makes no sense; q->why */
	VIRTQ_ABSENT, /* not taken: q->absent_* is RAM that is not allocated yet */
	VIRTQ_LONG,   /* not taken: it has more pieces than there is room for */
};

/* The next chain, its pieces in iov[0..max). */
enum virtq_result virtq_pop(
    struct virtq *q, struct virtq_chain *chain, struct iovec *iov, unsigned max);
/* The last chains were not touched: they are still there. */
void virtq_unpop(struct virtq *q, unsigned count);
/* Fill in the next used element; virtq_publish() shows all of them. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t len);
void virtq_publish(struct virtq *q);
/* Tell the driver that it need not notify; ask it to again: true, something came already. */
void virtq_quiet(struct virtq *q);
bool virtq_listen(struct virtq *q);

#endif /* !_VIRTIO_VIRTQ_H_ */
