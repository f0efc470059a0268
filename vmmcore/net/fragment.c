/*
 * The order of IPv4 fragments (fragment.h; RFC 791, 3.2). A datagram of which the
 * stack has a part is remembered for longer than the stack keeps that, so that its
 * beginning never comes twice; a guest that leaves many of them unfinished has to wait.
 */
#include "net/fragment.h"

#include <string.h>

#define ETH_TYPE 12
#define IP 14
#define IP_HEADER 20
#define MORE 0x2000
#define OFFSET 0x1fff
#define DATAGRAM_MAX 65535
/* libslirp gives an unfinished datagram up after 30 seconds. */
#define KEEP_MS 60000

static unsigned
get16(const uint8_t *p)
{
	return ((unsigned)p[0] << 8 | p[1]);
}

/* The datagram with this key, or a free slot, or NULL. */
static struct net_datagram *
lookup(struct net_fragments *f, const uint8_t *key, int64_t now_ms)
{
	struct net_datagram *d, *room = NULL;

	for (d = f->open; d < f->open + NET_DATAGRAMS; d++) {
		if (d->next != 0 && now_ms >= d->until_ms)
			d->next = 0;
		if (d->next == 0)
			room = d;
		else if (memcmp(d->key, key, sizeof(d->key)) == 0)
			return (d);
	}
	return (room);
}

bool
net_fragment_in_order(struct net_fragments *f, const uint8_t *frame, size_t len, int64_t now_ms)
{
	const uint8_t *ip = frame + IP;
	struct net_datagram *d;
	uint8_t key[sizeof(d->key)];
	unsigned header, total, at, n;
	bool more;

	if (len < IP + IP_HEADER || get16(frame + ETH_TYPE) != 0x0800)
		return (true);
	if ((get16(ip + 6) & (MORE | OFFSET)) == 0)
		return (true);
	header = (ip[0] & 0xfu) * 4;
	total = get16(ip + 2);
	at = (get16(ip + 6) & OFFSET) * 8;
	more = (get16(ip + 6) & MORE) != 0;
	if (header < IP_HEADER || total <= header || total > len - IP)
		return (false);
	n = total - header;
	if ((more && n % 8 != 0) || header + at + n > DATAGRAM_MAX)
		return (false);
	memcpy(key, ip + 12, 8);
	memcpy(key + 8, ip + 4, 2);
	key[10] = ip[9];
	d = lookup(f, key, now_ms);
	if (d == NULL || at != d->next)
		return (false);
	if (at == 0) {
		memcpy(d->key, key, sizeof(key));
		d->until_ms = now_ms + KEEP_MS;
	}
	d->next = more ? at + n : 0;
	return (true);
}
