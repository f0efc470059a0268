/*
 * Reads and writes (virtblk.h). A request that fails, in whatever way, was not taken:
 * it is done again, and answered, by the device's Python code.
 */
#include "virtio/virtblk.h"

#include <string.h>

#include "virtio/virtq.h"

#define SECTOR 512
#define T_IN 0
#define T_OUT 1
#define S_OK 0
#define MAX_PIECES 1024 /* UIO_MAXIOV */

struct header {
	uint32_t type, reserved;
	uint64_t sector;
};

/* All of it, however often the system has to be asked. */
static bool
move(int fd, bool in, struct iovec *iov, unsigned count, uint64_t at, uint64_t bytes)
{
	ssize_t n;

	for (;;) {
		n = in ? preadv(fd, iov, (int)count, (off_t)at)
		       : pwritev(fd, iov, (int)count, (off_t)at);
		if (n <= 0)
			return (false);
		at += (uint64_t)n;
		bytes -= (uint64_t)n;
		if (bytes == 0)
			return (true);
		for (; (size_t)n >= iov->iov_len; iov++, count--)
			n -= (ssize_t)iov->iov_len;
		iov->iov_base = (char *)iov->iov_base + n;
		iov->iov_len -= (size_t)n;
	}
}

/* False: nothing was changed that doing it again would not. *len: what the driver's buffers got. */
static bool
transfer(const struct virtblk *b, const struct virtq_chain *c, struct iovec *iov, uint32_t *len)
{
	struct iovec *status = iov + c->nread + c->nwrite - 1;
	struct header h;
	uint64_t bytes;
	bool in;

	/* The header alone in the first piece, the status alone in the last. */
	if (c->nread == 0 || c->nwrite == 0 || iov[0].iov_len != sizeof(h) || status->iov_len != 1)
		return (false);
	memcpy(&h, iov[0].iov_base, sizeof(h));
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* the copy is what is used */
	in = h.type == T_IN;
	if (in && c->nread == 1)
		bytes = c->write_len - 1;
	else if (h.type == T_OUT && c->nwrite == 1 && b->writes)
		bytes = c->read_len - sizeof(h);
	else
		return (false);
	if (bytes == 0 || bytes % SECTOR != 0 || h.sector >= b->sectors ||
	    bytes / SECTOR > b->sectors - h.sector)
		return (false);
	if (!move(b->fd, in, iov + 1, (in ? c->nwrite : c->nread) - 1, h.sector * SECTOR, bytes))
		return (false);
	*(uint8_t *)status->iov_base = S_OK;
	*len = in ? (uint32_t)(bytes + 1) : 1;
	return (true);
}

int
virtblk_serve(struct virtq *q, const struct virtblk *b)
{
	struct iovec iov[MAX_PIECES];
	struct virtq_chain c;
	uint32_t len;

	virtq_quiet(q);
	for (unsigned i = 0; i < b->batch; i++) {
		switch (virtq_pop(q, &c, iov, MAX_PIECES)) {
		case VIRTQ_CHAIN:
			if (transfer(b, &c, iov, &len)) {
				virtq_push(q, c.head, len);
				virtq_publish(q);
				break;
			}
			/* FALLTHROUGH */
		case VIRTQ_BAD:
			virtq_unpop(q, 1);
			return (VIRTNET_LONG);
		case VIRTQ_NONE:
			if (!virtq_listen(q))
				return (VIRTNET_EMPTY);
			virtq_quiet(q);
			break;
		case VIRTQ_ABSENT:
			return (VIRTNET_ABSENT);
		case VIRTQ_BROKEN:
			return (VIRTNET_BROKEN);
		case VIRTQ_LONG:
			return (VIRTNET_LONG);
		}
	}
	return (VIRTNET_MORE);
}
