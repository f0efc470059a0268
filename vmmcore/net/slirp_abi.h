/*
 * What we use of libslirp's binary interface (version 1 of its configuration,
 * which every 4.x library takes), so that its headers need not be installed.
 */
#ifndef _NET_SLIRP_ABI_H_
#define _NET_SLIRP_ABI_H_

#include <sys/types.h>

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLIRP_ABI_VERSION 1

enum slirp_poll {
	SLIRP_IN = 1 << 0,
	SLIRP_OUT = 1 << 1,
	SLIRP_PRI = 1 << 2,
	SLIRP_ERR = 1 << 3,
	SLIRP_HUP = 1 << 4
};

struct slirp_callbacks {
	ssize_t (*send_packet)(const void *buf, size_t len, void *opaque);
	void (*guest_error)(const char *msg, void *opaque);
	int64_t (*clock_get_ns)(void *opaque);
	void *(*timer_new)(void (*cb)(void *), void *cb_opaque, void *opaque);
	void (*timer_free)(void *timer, void *opaque);
	void (*timer_mod)(void *timer, int64_t expire_ms, void *opaque);
	void (*register_poll_fd)(int fd, void *opaque);
	void (*unregister_poll_fd)(int fd, void *opaque);
	void (*notify)(void *opaque);
	/* Those of version 4, never called with version 1. */
	void *reserved[2];
};

struct slirp_config {
	uint32_t version;
	int restricted;
	bool in_enabled;
	struct in_addr vnetwork;
	struct in_addr vnetmask;
	struct in_addr vhost;
	bool in6_enabled;
	struct in6_addr vprefix_addr6;
	uint8_t vprefix_len;
	struct in6_addr vhost6;
	const char *vhostname;
	const char *tftp_server_name;
	const char *tftp_path;
	const char *bootfile;
	struct in_addr vdhcp_start;
	struct in_addr vnameserver;
	struct in6_addr vnameserver6;
	const char **vdnssearch;
	const char *vdomainname;
	size_t if_mtu;
	size_t if_mru;
	bool disable_host_loopback;
	bool enable_emu;
	/* Later versions add fields behind these. */
	void *reserved[4];
};

/* The functions that we look up, by name. */
struct slirp_functions {
	void *(*slirp_new)(const struct slirp_config *, const struct slirp_callbacks *, void *);
	void (*slirp_cleanup)(void *);
	void (*slirp_pollfds_fill)(
	    void *, uint32_t *timeout_ms, int (*add)(int fd, int events, void *), void *);
	void (*slirp_pollfds_poll)(void *, int error, int (*revents)(int index, void *), void *);
	void (*slirp_input)(void *, const uint8_t *frame, int len);
	int (*slirp_add_hostfwd)(void *, int is_udp, struct in_addr host, int host_port,
	    struct in_addr guest, int guest_port);
};

#endif /* !_NET_SLIRP_ABI_H_ */
