/*
 * Which IPv4 fragments of a guest may reach the stack: those that come in order.
 *
 * libslirp 4.7 puts a datagram together wrongly when a fragment comes before the one
 * in front of it, and a guest can end the process with a single one.
 */
#ifndef _NET_FRAGMENT_H_
#define _NET_FRAGMENT_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_DATAGRAMS 32

/* Datagrams of which the beginning went by, not the end. All zeroes: none. */
struct net_fragments {
	struct net_datagram {
		uint8_t key[11]; /* source, destination, identification, protocol */
		uint32_t next;   /* where the next fragment has to begin; 0: a free slot */
		int64_t until_ms;
	} open[NET_DATAGRAMS];
};

/* Whether the frame is no fragment, or the next one of its datagram. */
bool net_fragment_in_order(
    struct net_fragments *f, const uint8_t *frame, size_t len, int64_t now_ms);

#endif /* !_NET_FRAGMENT_H_ */
