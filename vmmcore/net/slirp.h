/*
 * User-mode networking: a TCP/IP stack that speaks Ethernet on one side and
 * ordinary sockets of this process on the other (libslirp), as a descriptor
 * that frames are read from and written to, one message a frame.
 *
 * The stack and its callbacks live on a thread of their own; whoever holds the
 * descriptor never meets them. The library is loaded when first wanted.
 */
#ifndef _NET_SLIRP_H_
#define _NET_SLIRP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Addresses are in host byte order. */
struct net_slirp_config {
	uint32_t network;
	uint32_t netmask;
	uint32_t host;       /* the host's address, as the guest sees it */
	uint32_t dhcp_start; /* the first address that DHCP gives */
	uint32_t nameserver;
	uint32_t mtu;
	bool restricted; /* only what hostfwd lets in, and nothing out */
	bool headers;    /* frames have a header, and may be large (offload.h) */
};

struct net_slirp;

/*
 * Load the library and make a stack. Errors: ENOENT, the library is not there;
 * EPROTO, it is not one that we can use; ENOMEM, EMFILE.
 */
int net_slirp_open(
    const char *library, const struct net_slirp_config *config, struct net_slirp **out);
/* A port of the host that leads to the guest; before net_slirp_start() only. */
int net_slirp_hostfwd(struct net_slirp *s, bool udp, uint32_t host, uint16_t host_port,
    uint32_t guest, uint16_t guest_port);
/* Begin; *fd is the guest's end, non-blocking, and closed by net_slirp_close(). */
int net_slirp_start(struct net_slirp *s, int *fd);
/* What may be in headers towards the guest: checked sums, merged segments. Any thread. */
void net_slirp_offload(struct net_slirp *s, bool checked, bool merged);
/* End the thread, close every connection, free. */
void net_slirp_close(struct net_slirp *s);

#endif /* !_NET_SLIRP_H_ */
