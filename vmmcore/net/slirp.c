/*
 * The thread that runs a libslirp stack (slirp.h).
 *
 * Frames cross a socket pair, a message each. Towards the guest nothing waits:
 * when its end is full the stack is not asked for more (`congested`) until there
 * is room, so that TCP slows down instead of losing what it sent.
 *
 *	guest's end  <-- socket pair -->  our end --slirp_input()-->  stack  <-->  sockets
 *	                                          <--send_packet()--
 */
#include "net/slirp.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "net/fragment.h"
#include "net/offload.h"
#include "net/slirp_abi.h"

/* An Ethernet frame with the largest IP packet in it, and what is in front. */
#define FRAME_MAX (NET_HEADER + 65535 + 18)
/* Frames taken from the guest before the sockets get a turn. */
#define FRAME_BATCH 64
#define SOCKET_BUF (1 << 20)
#define NS_PER_MS 1000000

/* Our own descriptors, in front of the stack's. */
enum { POLL_STOP, POLL_GUEST, POLL_FIRST };

struct net_timer {
	struct net_timer *next;
	void (*cb)(void *);
	void *arg;
	int64_t due_ms; /* -1: not set */
};

struct net_slirp {
	struct slirp_functions fn;
	struct slirp_callbacks cb;
	void *stack;
	int stop;       /* eventfd */
	int ours;       /* our end of the pair */
	int guests;     /* the guest's */
	bool congested; /* the guest's end was full */
	bool headers;
	_Atomic bool checked, merged; /* what the guest's driver takes */
	struct net_merge out;         /* with headers: the frame that is not sent yet */
	bool running;
	pthread_t thread;
	struct pollfd *fds;
	size_t nfds, maxfds;
	struct net_timer *timers;
	struct net_fragments fragments;
	uint8_t frame[FRAME_MAX];
};

/* -- what the stack calls ------------------------------------------------------- */

/* False: there is no room just now. */
static bool
send_message(struct net_slirp *s, const void *buf, size_t len)
{
	if (send(s->ours, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
	    (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)) {
		s->congested = true;
		return (false);
	}
	return (true);
}

/* The frame that waits for more of its stream goes out. False: it still waits. */
static bool
flush(struct net_slirp *s)
{
	if (s->out.len == 0)
		return (true);
	net_merge_end(&s->out, atomic_load(&s->checked));
	if (!send_message(s, s->out.message, NET_HEADER + s->out.len)) {
		s->out.mss = 0; /* it has its sums */
		return (false);
	}
	s->out.len = 0;
	return (true);
}

static ssize_t
cb_send_packet(const void *buf, size_t len, void *opaque)
{
	struct net_slirp *s = opaque;

	/* What is lost is lost on the wire. */
	if (!s->headers)
		(void)send_message(s, buf, len);
	else if (!(atomic_load(&s->merged) && net_merge_add(&s->out, buf, len)) && flush(s))
		(void)net_merge_start(&s->out, buf, len);
	return ((ssize_t)len);
}

static void
cb_guest_error(const char *msg, void *opaque)
{
	(void)msg, (void)opaque; /* a guest may send what it likes */
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec);
}

static int64_t
cb_clock(void *opaque)
{
	(void)opaque;
	return (now_ns());
}

static void *
cb_timer_new(void (*cb)(void *), void *arg, void *opaque)
{
	struct net_slirp *s = opaque;
	struct net_timer *t = calloc(1, sizeof(*t));

	if (t == NULL)
		abort(); /* the library has no way to hear of it */
	*t = (struct net_timer){ s->timers, cb, arg, -1 };
	s->timers = t;
	return (t);
}

static void
cb_timer_free(void *timer, void *opaque)
{
	struct net_slirp *s = opaque;

	for (struct net_timer **p = &s->timers; *p != NULL; p = &(*p)->next) {
		if (*p == timer) {
			*p = (*p)->next;
			break;
		}
	}
	free(timer);
}

static void
cb_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	(void)opaque;
	((struct net_timer *)timer)->due_ms = expire_ms;
}

static void
cb_poll_fd(int fd, void *opaque)
{
	(void)fd, (void)opaque; /* the list is made anew for each poll */
}

static void
cb_notify(void *opaque)
{
	(void)opaque; /* only the thread itself calls the stack */
}

static int
cb_add_poll(int fd, int events, void *opaque)
{
	struct net_slirp *s = opaque;
	struct pollfd *more;
	short want = 0;

	if (s->nfds == s->maxfds) {
		more = realloc(s->fds, 2 * s->maxfds * sizeof(*more));
		if (more == NULL)
			return (-1);
		s->fds = more;
		s->maxfds *= 2;
	}
	want |= (events & SLIRP_IN) ? POLLIN : 0;
	want |= (events & SLIRP_OUT) ? POLLOUT : 0;
	want |= (events & SLIRP_PRI) ? POLLPRI : 0;
	s->fds[s->nfds] = (struct pollfd){ fd, want, 0 };
	return ((int)s->nfds++);
}

static int
cb_revents(int index, void *opaque)
{
	struct net_slirp *s = opaque;
	short got;
	int out = 0;

	if (index < POLL_FIRST || (size_t)index >= s->nfds)
		return (0);
	got = s->fds[index].revents;
	out |= (got & POLLIN) ? SLIRP_IN : 0;
	out |= (got & POLLOUT) ? SLIRP_OUT : 0;
	out |= (got & POLLPRI) ? SLIRP_PRI : 0;
	out |= (got & (POLLERR | POLLNVAL)) ? SLIRP_ERR : 0;
	out |= (got & POLLHUP) ? SLIRP_HUP : 0;
	return (out);
}

/* -- the thread ------------------------------------------------------------------- */

static void
run_timers(struct net_slirp *s)
{
	int64_t now = now_ns() / NS_PER_MS;

	for (struct net_timer *t = s->timers; t != NULL; t = t->next) {
		if (t->due_ms >= 0 && t->due_ms <= now) {
			t->due_ms = -1;
			t->cb(t->arg);
			return; /* the list may have changed; the rest is due soon enough */
		}
	}
}

static int
next_timeout(const struct net_slirp *s, uint32_t limit_ms)
{
	int64_t now = now_ns() / NS_PER_MS, best = limit_ms;

	for (const struct net_timer *t = s->timers; t != NULL; t = t->next) {
		if (t->due_ms >= 0 && t->due_ms - now < best)
			best = t->due_ms > now ? t->due_ms - now : 0;
	}
	return (best > 60000 ? 60000 : (int)best);
}

static void
take_frames(struct net_slirp *s)
{
	size_t skip = s->headers ? NET_HEADER : 0;
	ssize_t n;

	for (int i = 0; i < FRAME_BATCH; i++) {
		n = recv(s->ours, s->frame, sizeof(s->frame), MSG_DONTWAIT);
		if (n <= 0)
			return;
		n -= (ssize_t)skip;
		if (n <= 0)
			continue;
		if (s->headers && !net_finish_frame(s->frame, s->frame + skip, (size_t)n))
			continue;
		if (net_fragment_in_order(
			&s->fragments, s->frame + skip, (size_t)n, now_ns() / NS_PER_MS))
			s->fn.slirp_input(s->stack, s->frame + skip, (int)n);
	}
}

static void *
run(void *arg)
{
	struct net_slirp *s = arg;
	uint32_t timeout_ms;
	bool asked;
	int n;

	for (;;) {
		s->nfds = POLL_FIRST;
		timeout_ms = UINT32_MAX;
		asked = !s->congested;
		if (asked)
			s->fn.slirp_pollfds_fill(s->stack, &timeout_ms, cb_add_poll, s);
		s->fds[POLL_STOP] = (struct pollfd){ s->stop, POLLIN, 0 };
		s->fds[POLL_GUEST] =
		    (struct pollfd){ s->ours, (short)(asked ? POLLIN : POLLIN | POLLOUT), 0 };
		n = poll(s->fds, s->nfds, next_timeout(s, timeout_ms));
		if (n > 0 && s->fds[POLL_STOP].revents != 0)
			return (NULL);
		if (n > 0 && (s->fds[POLL_GUEST].revents & POLLOUT) != 0)
			s->congested = false;
		if (n > 0 && (s->fds[POLL_GUEST].revents & POLLIN) != 0)
			take_frames(s);
		if (asked)
			s->fn.slirp_pollfds_poll(s->stack, n < 0, cb_revents, s);
		run_timers(s);
		(void)flush(s);
	}
}

/* -- making and ending ------------------------------------------------------------ */

static int
load(const char *library, struct slirp_functions *fn)
{
	const struct {
		const char *name;
		void *at; /* a pointer to function, which dlsym() gives as void * */
	} table[] = {
		{ "slirp_new", &fn->slirp_new },
		{ "slirp_cleanup", &fn->slirp_cleanup },
		{ "slirp_pollfds_fill", &fn->slirp_pollfds_fill },
		{ "slirp_pollfds_poll", &fn->slirp_pollfds_poll },
		{ "slirp_input", &fn->slirp_input },
		{ "slirp_add_hostfwd", &fn->slirp_add_hostfwd },
	};
	/* Never unloaded: it brings GLib, which does not like that. */
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL), *found;

	if (handle == NULL)
		return (ENOENT);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		found = dlsym(handle, table[i].name);
		if (found == NULL)
			return (EPROTO);
		memcpy(table[i].at, &found, sizeof(found));
	}
	return (0);
}

static struct in_addr
address(uint32_t host_order)
{
	return ((struct in_addr){ .s_addr = htonl(host_order) });
}

static int
make_pair(struct net_slirp *s)
{
	int pair[2], size = SOCKET_BUF;

	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return (errno);
	s->ours = pair[0];
	s->guests = pair[1];
	for (int i = 0; i < 2; i++) {
		/* As much as we may have: without privilege the system's limit. */
		if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0)
			setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	}
	return (0);
}

int
net_slirp_open(const char *library, const struct net_slirp_config *config, struct net_slirp **out)
{
	struct slirp_config c;
	struct net_slirp *s = calloc(1, sizeof(*s));
	int error;

	if (s == NULL)
		return (ENOMEM);
	s->stop = s->ours = s->guests = -1;
	s->maxfds = 64;
	s->headers = config->headers;
	s->fds = calloc(s->maxfds, sizeof(*s->fds));
	error = s->fds == NULL ? ENOMEM : load(library, &s->fn);
	if (error != 0)
		goto fail;
	s->cb = (struct slirp_callbacks){
		.send_packet = cb_send_packet,
		.guest_error = cb_guest_error,
		.clock_get_ns = cb_clock,
		.timer_new = cb_timer_new,
		.timer_free = cb_timer_free,
		.timer_mod = cb_timer_mod,
		.register_poll_fd = cb_poll_fd,
		.unregister_poll_fd = cb_poll_fd,
		.notify = cb_notify,
	};
	memset(&c, 0, sizeof(c));
	c.version = SLIRP_ABI_VERSION;
	c.restricted = config->restricted;
	c.in_enabled = true;
	c.vnetwork = address(config->network);
	c.vnetmask = address(config->netmask);
	c.vhost = address(config->host);
	c.vdhcp_start = address(config->dhcp_start);
	c.vnameserver = address(config->nameserver);
	c.if_mtu = c.if_mru = config->mtu;
	s->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = s->stop < 0 ? errno : make_pair(s);
	if (error != 0)
		goto fail;
	s->stack = s->fn.slirp_new(&c, &s->cb, s);
	if (s->stack == NULL) {
		error = EPROTO;
		goto fail;
	}
	*out = s;
	return (0);
fail:
	net_slirp_close(s);
	return (error);
}

int
net_slirp_hostfwd(struct net_slirp *s, bool udp, uint32_t host, uint16_t host_port, uint32_t guest,
    uint16_t guest_port)
{
	if (s->running)
		return (EBUSY);
	errno = 0;
	if (s->fn.slirp_add_hostfwd(
		s->stack, udp, address(host), host_port, address(guest), guest_port) == 0)
		return (0);
	return (errno != 0 ? errno : EADDRINUSE);
}

int
net_slirp_start(struct net_slirp *s, int *fd)
{
	sigset_t all, old;
	int error;

	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&s->thread, NULL, run, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error == 0) {
		s->running = true;
		*fd = s->guests;
	}
	return (error);
}

void
net_slirp_offload(struct net_slirp *s, bool checked, bool merged)
{
	atomic_store(&s->checked, checked);
	atomic_store(&s->merged, checked && merged);
}

void
net_slirp_close(struct net_slirp *s)
{
	static const uint64_t one = 1;
	struct net_timer *t;

	if (s->running) {
		(void)!write(s->stop, &one, sizeof(one));
		pthread_join(s->thread, NULL);
	}
	if (s->stack != NULL)
		s->fn.slirp_cleanup(s->stack);
	while ((t = s->timers) != NULL) {
		s->timers = t->next;
		free(t);
	}
	for (int i = 0; i < 3; i++) {
		int fd = ((int[]){ s->stop, s->ours, s->guests })[i];

		if (fd >= 0)
			close(fd);
	}
	free(s->fds);
	free(s);
}
