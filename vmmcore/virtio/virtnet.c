/*
 * Frames (virtnet.h). A frame goes from or to the driver's buffers in one system
 * call. How long the next frame is nobody knows before it is read: so there have to
 * be buffers for the longest, with a spare behind them that shows a longer one, and
 * chains that a batch did not need are left in the ring.
 */
#include "virtio/virtnet.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "virtio/virtq.h"

#define ETHER_HEADER 14
#define FRAME_MAX (65535 + 18)
#define NOTE_MAX 10
#define MAX_PIECES 1022 /* with a note and a spare: UIO_MAXIOV */
#define MAX_ROOMS 512
#define HEADER_MAX 12
#define NET_F_CSUM_FLAGS 0x03 /* NEEDS_CSUM, DATA_VALID */
#define GSO_ECN 0x80

/* Drop the first n bytes; returns how many pieces are left behind *iov. */
static unsigned
skip(struct iovec **iov, unsigned count, size_t n)
{
	while (count > 0 && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		(*iov)++;
		count--;
	}
	if (count > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
	return (count);
}

static void
gather(const struct iovec *iov, unsigned count, uint8_t *buf, size_t n)
{
	for (unsigned i = 0; i < count && n > 0; i++) {
		size_t part = iov[i].iov_len < n ? iov[i].iov_len : n;

		memcpy(buf, iov[i].iov_base, part);
		buf += part;
		n -= part;
	}
}

static void
scatter(const struct iovec *iov, unsigned count, const uint8_t *buf, size_t n)
{
	for (unsigned i = 0; i < count && n > 0; i++) {
		size_t part = iov[i].iov_len < n ? iov[i].iov_len : n;

		memcpy(iov[i].iov_base, buf, part);
		buf += part;
		n -= part;
	}
}

/* What a queue that gives no chain means for the caller. */
static int
no_chain(enum virtq_result r)
{
	switch (r) {
	case VIRTQ_BROKEN:
		return (VIRTNET_BROKEN);
	case VIRTQ_ABSENT:
		return (VIRTNET_ABSENT);
	case VIRTQ_LONG:
		return (VIRTNET_LONG);
	default:
		return (VIRTNET_EMPTY);
	}
}

/* -- to the network ------------------------------------------------------------------- */

/* False: it was lost. What was sent before is shown before anything is waited for. */
static bool
transmit(struct virtq *q, const struct virtnet *n, const struct iovec *iov, unsigned count)
{
	struct pollfd p = { n->fd, POLLOUT, 0 };

	if (writev(n->fd, iov, (int)count) >= 0)
		return (true);
	if (errno != EAGAIN && errno != EWOULDBLOCK)
		return (false); /* the interface is down, or the frame too long for it */
	virtq_publish(q);
	(void)poll(&p, 1, (int)n->wait_ms);
	return (writev(n->fd, iov, (int)count) >= 0);
}

static void
send_one(struct virtq *q, struct virtnet *n, struct iovec *pieces, const struct virtq_chain *c)
{
	struct iovec *iov = pieces + 1;
	uint8_t note[NOTE_MAX] = { 0 };
	unsigned left;

	if (c->read_len < n->header + ETHER_HEADER || c->read_len > n->header + FRAME_MAX) {
		n->bad++;
		n->lost++;
		q->why = "the driver sent a frame of no possible length";
		return;
	}
	if (n->checksums)
		gather(iov, c->nread, note, sizeof(note));
	left = skip(&iov, c->nread, n->header);
	if (n->note != 0) {
		/* There is a place in front: of what was skipped, or the one that was kept. */
		*--iov = (struct iovec){ note, n->note };
		left++;
	}
	if (!transmit(q, n, iov, left))
		n->lost++;
}

int
virtnet_send(struct virtq *q, struct virtnet *n)
{
	struct iovec pieces[MAX_PIECES + 2];
	struct virtq_chain c;
	enum virtq_result r;
	unsigned lost, bad;

	virtq_quiet(q);
	for (n->frames = n->lost = n->bad = 0; n->frames < n->batch;) {
		r = virtq_pop(q, &c, pieces + 1, MAX_PIECES);
		if (r == VIRTQ_NONE) {
			virtq_publish(q);
			if (!virtq_listen(q))
				return (VIRTNET_EMPTY);
			virtq_quiet(q);
			continue;
		}
		if (r != VIRTQ_CHAIN && r != VIRTQ_BAD) {
			virtq_publish(q);
			return (no_chain(r));
		}
		n->frames++;
		lost = n->lost;
		bad = n->bad;
		if (r == VIRTQ_BAD)
			n->bad++;
		else
			send_one(q, n, pieces, &c);
		virtq_push(q, c.head, 0);
		if (n->lost != lost && n->bad == bad)
			break; /* others wait while we waited */
	}
	virtq_publish(q);
	return (VIRTNET_MORE);
}

/* -- from the network ------------------------------------------------------------------- */

struct rooms {
	unsigned first, count;   /* chains that no frame has used */
	unsigned piece, npieces; /* and their pieces */
	size_t size;             /* bytes of them */
	struct {
		uint16_t head;
		unsigned pieces;
		size_t size;
	} room[MAX_ROOMS];
	/* One in front for the note, one behind for the spare. */
	struct iovec iov[MAX_PIECES + 2];
};

/* Room for a frame of any length. VIRTNET_MORE: there is. */
static int
collect(struct virtq *q, struct virtnet *n, struct rooms *s)
{
	size_t wanted = n->mergeable ? n->header + n->frame_max : 1;
	struct virtq_chain c;
	enum virtq_result r;

	if (s->count == 0)
		s->first = s->piece = s->npieces = 0;
	while (s->size < wanted) {
		unsigned end = s->piece + s->npieces;

		if (s->first + s->count == MAX_ROOMS) {
			/* From the start of the arrays, if that helps. */
			if (s->first == 0)
				return (VIRTNET_MORE);
			virtq_unpop(q, s->count);
			s->first = s->count = s->piece = s->npieces = 0;
			s->size = 0;
			continue;
		}
		r = virtq_pop(q, &c, s->iov + 1 + end, MAX_PIECES - end);
		if (r == VIRTQ_LONG && s->first + s->piece != 0) {
			virtq_unpop(q, s->count);
			s->first = s->count = s->piece = s->npieces = 0;
			s->size = 0;
			continue;
		}
		if (r == VIRTQ_LONG && s->count != 0)
			return (VIRTNET_MORE);
		if (r == VIRTQ_NONE) {
			virtq_publish(q);
			if (virtq_listen(q)) {
				virtq_quiet(q);
				continue;
			}
			/* All that the queue holds is no more: then it has to do. */
			return (s->count >= q->num ? VIRTNET_MORE : VIRTNET_EMPTY);
		}
		if (r != VIRTQ_CHAIN && r != VIRTQ_BAD)
			return (no_chain(r));
		/* A header in pieces is legal; a chain that holds no more than that is not. */
		if (r == VIRTQ_BAD || c.nread != 0 || c.write_len <= n->header) {
			if (s->count != 0) {
				/* What was taken before it goes first. */
				virtq_unpop(q, 1);
				return (VIRTNET_MORE);
			}
			if (r == VIRTQ_CHAIN)
				q->why = "the driver gave a buffer that cannot hold a frame";
			n->bad++;
			virtq_push(q, c.head, 0);
			if (n->bad >= q->num)
				return (VIRTNET_TURN);
			continue;
		}
		s->room[s->first + s->count].head = c.head;
		s->room[s->first + s->count].pieces = c.nwrite;
		s->room[s->first + s->count].size = c.write_len;
		s->count++;
		s->npieces += c.nwrite;
		s->size += c.write_len;
	}
	return (VIRTNET_MORE);
}

/* Whether the driver understands what the back end says of a frame. */
static bool
takes(const struct virtnet *n, const uint8_t *note)
{
	unsigned kind = note[1] & ~(unsigned)GSO_ECN;

	if (n->note == 0)
		return (true);
	if ((note[0] & NET_F_CSUM_FLAGS) != 0 && !n->guest_csum)
		return (false);
	return (kind == 0 || (kind < 8 && ((n->guest_gso >> kind) & 1) != 0));
}

/* One frame into the first rooms; false: there is none. */
static bool
receive_one(struct virtq *q, struct virtnet *n, struct rooms *s)
{
	static _Thread_local uint8_t spare[FRAME_MAX];
	uint8_t text[HEADER_MAX] = { 0 };
	struct iovec kept[HEADER_MAX], *iov = s->iov + 1 + s->piece;
	bool merge = n->mergeable && s->room[s->first].size < n->header + n->frame_max;
	unsigned pieces = merge ? s->npieces : s->room[s->first].pieces, nkept, left, used;
	size_t room = merge ? s->size : s->room[s->first].size, total;
	struct iovec behind;
	ssize_t got;

	/* What the header takes is put back, and written below; there are no empty pieces. */
	nkept = pieces < HEADER_MAX ? pieces : HEADER_MAX;
	memcpy(kept, iov, nkept * sizeof(kept[0]));
	left = skip(&iov, pieces, n->header);
	/* In front of it there is a place, and behind it the next room or another place. */
	iov[-1] = (struct iovec){ text, n->note };
	behind = iov[left];
	iov[left] = (struct iovec){ spare, sizeof(spare) };
	got = readv(n->fd, iov - 1, (int)left + 2);
	iov[left] = behind;
	memcpy(s->iov + 1 + s->piece, kept, nkept * sizeof(kept[0]));
	if (got < 0)
		return (
		    false); /* nothing there; or the interface is down, which the link tells of */
	got -= (ssize_t)n->note;
	if (got < ETHER_HEADER || n->header + (size_t)got > room || !takes(n, text)) {
		n->lost++; /* the buffers are good for the next one */
		return (true);
	}
	total = n->header + (size_t)got;
	for (used = 0; total > 0; used++) {
		size_t part = s->room[s->first].size;

		s->size -= part;
		part = part < total ? part : total;
		virtq_push(q, s->room[s->first].head, (uint32_t)part);
		total -= part;
		s->piece += s->room[s->first].pieces;
		s->npieces -= s->room[s->first].pieces;
		s->first++;
		s->count--;
	}
	text[10] = (uint8_t)used;
	text[11] = (uint8_t)(used >> 8);
	scatter(kept, nkept, text, n->header);
	n->frames++;
	return (true);
}

int
virtnet_receive(struct virtq *q, struct virtnet *n)
{
	struct rooms s;
	int result = VIRTNET_MORE;

	s.first = s.count = s.piece = s.npieces = 0;
	s.size = 0;
	n->frames = n->lost = n->bad = 0;
	virtq_quiet(q);
	while (n->frames + n->lost < n->batch) {
		result = collect(q, n, &s);
		if (result != VIRTNET_MORE)
			break;
		if (!receive_one(q, n, &s)) {
			result = VIRTNET_IDLE;
			break;
		}
	}
	virtq_unpop(q, s.count);
	virtq_publish(q);
	return (result);
}
