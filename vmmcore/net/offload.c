/*
 * Checksums and segments (offload.h). Numbers in frames are big-endian, those of
 * the header little-endian.
 *
 * Only what a stack sends all the time is merged: TCP over IPv4 without options
 * of IP, one segment behind the other, nothing but ACK and PSH, and everything
 * else in the headers as in the first. Whatever differs is a frame of its own.
 */
#include "net/offload.h"

#include <string.h>

_Static_assert(sizeof(((struct net_merge *)0)->message) == NET_HEADER + NET_FRAME_MAX, "room");

#define F_NEEDS_CSUM 1
#define F_DATA_VALID 2
#define GSO_NONE 0
#define GSO_TCPV4 1
#define GSO_ECN 0x80
enum { H_FLAGS = 0, H_GSO = 1, H_HDR_LEN = 2, H_GSO_SIZE = 4, H_START = 6, H_OFFSET = 8 };

/* Ethernet, IPv4 without options, TCP: offsets in the frame. */
enum {
	ETH_TYPE = 12,
	IP = 14,
	IP_TOS = IP + 1,
	IP_LEN = IP + 2,
	IP_ID = IP + 4,
	IP_FRAG = IP + 6,
	IP_TTL = IP + 8,
	IP_PROTO = IP + 9,
	IP_SUM = IP + 10,
	IP_SRC = IP + 12,
	TCP = IP + 20,
	TCP_SEQ = TCP + 4,
	TCP_ACK = TCP + 8,
	TCP_OFF = TCP + 12,
	TCP_FLAGS = TCP + 13,
	TCP_WINDOW = TCP + 14,
	TCP_SUM = TCP + 16,
	TCP_URGENT = TCP + 18,
	TCP_END = TCP + 20,
};
#define TCP_SUM_OFFSET 16
#define TCP_PSH 0x08
#define TCP_ACKED 0x10
#define PROTO_TCP 6
#define IP_MAX 65535

static unsigned
get16(const uint8_t *p)
{
	return ((unsigned)p[0] << 8 | p[1]);
}

static void
put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint32_t
get32(const uint8_t *p)
{
	return ((uint32_t)get16(p) << 16 | get16(p + 2));
}

static unsigned
get16le(const uint8_t *p)
{
	return ((unsigned)p[1] << 8 | p[0]);
}

static void
put16le(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

/* The Internet checksum before the complement (RFC 1071), summed as the host's words. */
static unsigned
sum(const uint8_t *p, size_t len, uint64_t start)
{
	uint64_t total = start;
	uint32_t word;
	uint16_t rest = 0;

	for (; len >= 4; p += 4, len -= 4) {
		memcpy(&word, p, 4);
		total += word;
	}
	if (len >= 2) {
		memcpy(&rest, p, 2);
		total += rest;
		p += 2;
		len -= 2;
	}
	if (len != 0)
		total += *p; /* the first byte of a word of which the second is 0 */
	while (total >> 16 != 0)
		total = (total & 0xffff) + (total >> 16);
	return ((unsigned)total); /* in the order of the bytes in memory */
}

bool
net_finish_frame(const uint8_t *header, uint8_t *frame, size_t len)
{
	unsigned start = get16le(header + H_START), offset = get16le(header + H_OFFSET);
	unsigned gso = header[H_GSO] & ~(unsigned)GSO_ECN;
	uint16_t check;

	if ((header[H_FLAGS] & F_NEEDS_CSUM) == 0)
		return (gso == GSO_NONE);
	/* A large segment is one to a stack of our own, which takes any length. */
	if (gso != GSO_NONE && gso != GSO_TCPV4)
		return (false);
	if (start < IP || (size_t)start + offset + 2 > len)
		return (false);
	check = (uint16_t)~sum(frame + start, len - start, 0);
	if (check == 0)
		check = 0xffff; /* UDP: 0 says that there is none; to TCP it is the same number */
	memcpy(frame + start + offset, &check, sizeof(check));
	return (true);
}

/* The length of a segment's data, and where it begins; 0: not one that can be merged. */
static size_t
segment(const uint8_t *f, size_t len, size_t *payload)
{
	size_t at;

	if (len <= TCP_END || get16(f + ETH_TYPE) != 0x0800 || f[IP] != 0x45 ||
	    f[IP_PROTO] != PROTO_TCP || (get16(f + IP_FRAG) & 0x3fff) != 0 ||
	    get16(f + IP_LEN) != len - IP)
		return (0);
	at = TCP + 4 * (size_t)(f[TCP_OFF] >> 4);
	if (at < TCP_END || at >= len || (f[TCP_FLAGS] & ~TCP_PSH) != TCP_ACKED)
		return (0);
	*payload = at;
	return (len - at);
}

bool
net_merge_start(struct net_merge *m, const uint8_t *frame, size_t len)
{
	if (len > NET_FRAME_MAX)
		return (false);
	memcpy(m->message + NET_HEADER, frame, len);
	m->len = len;
	m->segments = 1;
	m->mss = segment(frame, len, &m->payload);
	if (m->mss != 0)
		m->next = get32(frame + TCP_SEQ) + (uint32_t)m->mss;
	if (m->mss != 0 && (frame[TCP_FLAGS] & TCP_PSH) != 0)
		m->mss = 0;
	return (true);
}

/* From..to of two frames are equal. */
static bool
same(const uint8_t *a, const uint8_t *b, size_t from, size_t to)
{
	return (memcmp(a + from, b + from, to - from) == 0);
}

bool
net_merge_add(struct net_merge *m, const uint8_t *frame, size_t len)
{
	uint8_t *f = m->message + NET_HEADER;
	size_t payload = 0, n;

	if (m->len == 0 || m->mss == 0)
		return (false);
	n = segment(frame, len, &payload);
	if (n == 0 || n > m->mss || payload != m->payload || m->len + n - IP > IP_MAX ||
	    get32(frame + TCP_SEQ) != m->next)
		return (false);
	/* But for the length, the identification, sums, the sequence number and PSH. */
	if (!same(f, frame, 0, IP_LEN) || !same(f, frame, IP_FRAG, IP_SUM) ||
	    !same(f, frame, IP_SRC, TCP_SEQ) || !same(f, frame, TCP_ACK, TCP_FLAGS) ||
	    !same(f, frame, TCP_WINDOW, TCP_SUM) || !same(f, frame, TCP_URGENT, payload))
		return (false);
	memcpy(f + m->len, frame + payload, n);
	m->len += n;
	m->next += (uint32_t)n;
	m->segments++;
	if (n < m->mss || (frame[TCP_FLAGS] & TCP_PSH) != 0) {
		f[TCP_FLAGS] |= frame[TCP_FLAGS] & TCP_PSH;
		/* Only the last segment may be short, or push. */
		put16le(m->message + H_GSO_SIZE, (unsigned)m->mss);
		m->mss = 0;
	} else
		put16le(m->message + H_GSO_SIZE, (unsigned)m->mss);
	return (true);
}

void
net_merge_end(struct net_merge *m, bool checked)
{
	uint8_t *h = m->message, *f = h + NET_HEADER;
	unsigned size = get16le(h + H_GSO_SIZE);
	uint8_t pseudo[4];
	uint16_t check;

	memset(h, 0, NET_HEADER);
	if (m->segments == 1) {
		h[H_FLAGS] = checked ? F_DATA_VALID : 0;
		return;
	}
	h[H_FLAGS] = F_NEEDS_CSUM;
	h[H_GSO] = GSO_TCPV4;
	put16le(h + H_HDR_LEN, (unsigned)m->payload);
	put16le(h + H_GSO_SIZE, size);
	put16le(h + H_START, TCP);
	put16le(h + H_OFFSET, TCP_SUM_OFFSET);
	put16(f + IP_LEN, (unsigned)(m->len - IP));
	put16(f + IP_SUM, 0);
	check = (uint16_t)~sum(f + IP, TCP - IP, 0);
	memcpy(f + IP_SUM, &check, sizeof(check));
	/* Whoever needs the sum begins with that of the pseudo-header (RFC 9293, 3.1). */
	put16(pseudo, PROTO_TCP);
	put16(pseudo + 2, (unsigned)(m->len - TCP));
	check = (uint16_t)sum(f + IP_SRC, 8, sum(pseudo, sizeof(pseudo), 0));
	memcpy(f + TCP_SUM, &check, sizeof(check));
}
