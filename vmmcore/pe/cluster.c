/*
 * The Inner Shareable domain: see cluster.h.
 *
 * A mailbox is a few slots under a lock and one word of request bits. The
 * requester fills a slot, sets bits and then looks at `inside`; a PE sets
 * `inside` and then looks at its bits: with sequentially consistent accesses
 * one of the two always sees the other. Slots are filled before their bit is
 * set, and emptied after it was cleared.
 *
 * A PE that waits in a DSB counts as outside, as one in the hypervisor does: it
 * executes nothing, and serves its own mailbox before it goes on. So two that
 * wait for each other are done at once, and who waits can sleep: it spins for
 * SPIN_TICKS, which is longer than a running PE needs to its next poll, and
 * then sleeps until the PE it waits for has served its mailbox or left.
 *
 * One that is slow has lost its host CPU, perhaps to another vCPU of ours: when
 * there are more that execute than host CPUs, those that have served are asked
 * to yield theirs.
 *
 * The list of PEs only grows at its head while threads run; cluster_leave()
 * is for a PE that no thread uses, when no other executes.
 */
#include "pe/cluster.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "pe/codecache.h"
#include "pe/mmu.h"
#include "pe/strict.h"
#include "pe/timer.h"
#include "sys/clock.h"
#include "sys/futex.h"

#define SLOTS 48u
#define REQ_MAIL 0x100u
#define REQ_ALL (PE_REQ_TLBI_ALL | PE_REQ_IC_ALL | REQ_MAIL)
#define REQ_YIELD 0x200u
#define SPIN_TICKS (PE_CNTFRQ / 1000000) /* 1 us */
#define ASK_AGAIN_NS 500000u
/*
 * WFE: it spins for the first WFE_SPIN of a row, and may then sleep. A row ends
 * when the guest does something else for WFE_ROW. A PE with an armed exclusive
 * monitor looks again after WFE_LOOK: stores of others do not tell us that they
 * open it.
 */
#define WFE_SPIN (PE_CNTFRQ / 20000) /* 50 us */
#define WFE_ROW (PE_CNTFRQ / 100000) /* 10 us */
#define WFE_LOOK (PE_CNTFRQ / 10000) /* 100 us */
#define MONITOR_LOOKS 32u
/* Looks at a busy neighbour before the host CPU is given away. */
#define RELAX_LOOKS 64u

struct mailbox {
	pthread_mutex_t lock;
	uint32_t count; /* slots in use */
	struct cluster_mail slot[SLOTS];
	/* Futex: bumped when requests were served or the PE went outside ... */
	_Atomic uint32_t progress;
	_Atomic uint32_t waiters; /* ... if anybody sleeps on it */
	_Atomic uint32_t asleep;  /* in a WFE, in the low-power state */
	uint32_t looks;
	uint64_t wfe_began, wfe_last; /* a row of WFEs without an event */
};

struct pe_cluster {
	pthread_mutex_t lock; /* joining and leaving */
	struct pe *_Atomic first;
	long host_cpus;
	struct strict strict;
};

static inline void
pause_cpu(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

struct pe_cluster *
pe_cluster_create(void)
{
	struct pe_cluster *c = calloc(1, sizeof(*c));
	cpu_set_t set;

	if (c == NULL)
		return (NULL);
	pthread_mutex_init(&c->lock, NULL);
	strict_init(&c->strict);
	c->host_cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
	return (c);
}

void
pe_cluster_destroy(struct pe_cluster *c)
{
	if (c == NULL)
		return;
	pthread_mutex_destroy(&c->lock);
	strict_fini(&c->strict);
	free(c);
}

struct strict *
cluster_strict(struct pe *pe)
{
	return (&pe->cluster->strict);
}

int
cluster_join(struct pe *pe)
{
	struct pe_cluster *c = pe->cluster;

	pe->mail = calloc(1, sizeof(*pe->mail));
	if (pe->mail == NULL)
		return (-1);
	pthread_mutex_init(&pe->mail->lock, NULL);
	if (c == NULL)
		return (0);
	pthread_mutex_lock(&c->lock);
	pe->cluster_next = c->first;
	atomic_store(&c->first, pe);
	pthread_mutex_unlock(&c->lock);
	return (0);
}

void
cluster_leave(struct pe *pe)
{
	struct pe_cluster *c = pe->cluster;
	struct pe *o;

	if (c != NULL) {
		pthread_mutex_lock(&c->lock);
		o = c->first;
		if (o == pe)
			atomic_store(&c->first, pe->cluster_next);
		for (; o != NULL; o = o->cluster_next)
			if (o->cluster_next == pe)
				o->cluster_next = pe->cluster_next;
		pthread_mutex_unlock(&c->lock);
	}
	if (pe->mail != NULL)
		pthread_mutex_destroy(&pe->mail->lock);
	free(pe->mail);
	pe->mail = NULL;
}

/* -- requests ------------------------------------------------------------------- */

static inline bool
alone(const struct pe *pe)
{
	const struct pe_cluster *c = pe->cluster;

	return (c == NULL || (c->first == pe && pe->cluster_next == NULL));
}

static void
ring(struct pe *o, uint32_t bits)
{
	atomic_fetch_or(&o->request, bits);
	__atomic_store_n(&o->slice, 0, __ATOMIC_RELAXED);
}

void
cluster_request(struct pe *pe, uint32_t bits)
{
	if (alone(pe))
		return;
	for (struct pe *o = pe->cluster->first; o != NULL; o = o->cluster_next)
		if (o != pe)
			ring(o, bits);
	pe->dsb_waits = true;
}

/* Guests invalidate line after line: those of a page need one slot. */
static bool
joins(struct cluster_mail *last, const struct cluster_mail *mail)
{
	if (last->op != CLUSTER_IC_LINES || mail->op != CLUSTER_IC_LINES ||
	    last->addr != mail->addr)
		return (false);
	last->lines |= mail->lines;
	return (true);
}

static bool
put_mail(struct mailbox *box, const struct cluster_mail *mail)
{
	bool room;

	pthread_mutex_lock(&box->lock);
	room = box->count != 0 && joins(&box->slot[box->count - 1], mail);
	if (!room && box->count < SLOTS) {
		box->slot[box->count++] = *mail;
		room = true;
	}
	pthread_mutex_unlock(&box->lock);
	return (room);
}

void
cluster_post(struct pe *pe, const struct cluster_mail *mail)
{
	bool code = mail->op == CLUSTER_IC_LINES || mail->op == CLUSTER_WRITTEN;
	uint32_t all = code ? PE_REQ_IC_ALL : PE_REQ_TLBI_ALL;

	if (alone(pe))
		return;
	for (struct pe *o = pe->cluster->first; o != NULL; o = o->cluster_next) {
		if (o == pe)
			continue;
		/* Who will drop everything anyway needs no list. */
		if ((atomic_load(&o->request) & all) != 0)
			ring(o, all);
		else
			ring(o, put_mail(o->mail, mail) ? REQ_MAIL : all);
	}
	pe->dsb_waits = true;
}

static void
serve_one(struct pe *pe, const struct cluster_mail *m)
{
	switch (m->op) {
	case CLUSTER_TLBI_VA:
		mmu_flush_va(pe, &m->range);
		break;
	case CLUSTER_TLBI_ASID:
		mmu_flush_asid(pe, m->vmid, m->regime, m->asid);
		break;
	case CLUSTER_TLBI_VMID:
		mmu_flush_vmid(pe, m->vmid);
		break;
	case CLUSTER_IC_LINES:
		codecache_drop_lines(pe, m->addr, m->lines);
		break;
	case CLUSTER_CODE:
		mmu_drop_writes(pe, (uintptr_t)m->addr);
		break;
	case CLUSTER_WRITTEN:
		codecache_drop_page(pe, m->addr);
		break;
	}
}

static void
tell_waiters(struct mailbox *box)
{
	if (atomic_load(&box->waiters) == 0)
		return;
	atomic_fetch_add(&box->progress, 1);
	sys_futex_wake(&box->progress);
	/* Who waited has waited long; on a busy host CPU it would for a time slice more. */
	sched_yield();
}

bool
cluster_serve(struct pe *pe)
{
	struct mailbox *box = pe->mail;
	struct cluster_mail slot[SLOTS];
	uint32_t bits, count = 0;

	if ((atomic_load_explicit(&pe->request, memory_order_relaxed) & (REQ_ALL | REQ_YIELD)) == 0)
		return (false);
	/* `serving` covers the time between taking the request and its end. */
	atomic_store(&pe->serving, 1);
	bits = atomic_fetch_and(&pe->request, ~(REQ_ALL | REQ_YIELD));
	if ((bits & REQ_MAIL) != 0) {
		pthread_mutex_lock(&box->lock);
		count = box->count;
		memcpy(slot, box->slot, count * sizeof(slot[0]));
		box->count = 0;
		pthread_mutex_unlock(&box->lock);
	}
	for (uint32_t i = 0; i < count; i++)
		serve_one(pe, &slot[i]);
	pe->code_changed = true;
	if ((bits & PE_REQ_TLBI_ALL) != 0)
		mmu_flush_all(pe);
	if ((bits & PE_REQ_IC_ALL) != 0) {
		/* The page being executed may not vanish under a handler. */
		pe->code_stale = true;
		pe->slice = 0;
	}
	atomic_store(&pe->serving, 0);
	tell_waiters(box);
	if ((bits & REQ_YIELD) != 0)
		sched_yield();
	return (true);
}

/* -- waiting -------------------------------------------------------------------- */

void
cluster_outside(struct pe *pe)
{
	atomic_store(&pe->inside, 0);
	tell_waiters(pe->mail);
}

void
cluster_inside(struct pe *pe)
{
	atomic_store(&pe->inside, 1);
	/* Or a request that did not see us inside would be late. */
	(void)cluster_serve(pe);
}

static inline bool
busy(struct pe *o)
{
	return (atomic_load(&o->inside) != 0 &&
		((atomic_load(&o->request) & REQ_ALL) != 0 || atomic_load(&o->serving) != 0));
}

/* Do other PEs execute on all of the host's CPUs? */
static bool
crowded(const struct pe *pe)
{
	long n = 0;

	if (pe->cluster == NULL)
		return (false);
	for (const struct pe *o = pe->cluster->first; o != NULL; o = o->cluster_next)
		n += o != pe && atomic_load_explicit(&o->inside, memory_order_relaxed) != 0;
	return (n >= pe->cluster->host_cpus);
}

/* Those that nobody waits for make room for `slow`. */
static void
make_room(struct pe *pe, const struct pe *slow)
{
	for (struct pe *o = pe->cluster->first; o != NULL; o = o->cluster_next)
		if (o != pe && o != slow && atomic_load(&o->inside) != 0 && !busy(o))
			ring(o, REQ_YIELD);
}

static void
wait_for(struct pe *pe, struct pe *o)
{
	struct mailbox *box = o->mail;
	uint64_t end = pe->pins.counter(pe->pins.ctx) + SPIN_TICKS;
	uint64_t until;
	uint32_t seen;

	while (busy(o)) {
		if (pe->pins.counter(pe->pins.ctx) < end) {
			pause_cpu();
			continue;
		}
		/* Its own countdown may have overwritten ours. */
		__atomic_store_n(&o->slice, 0, __ATOMIC_RELAXED);
		seen = atomic_load(&box->progress);
		atomic_fetch_add(&box->waiters, 1);
		if (busy(o)) {
			until = SYS_FOREVER;
			if (crowded(pe)) {
				make_room(pe, o);
				until = sys_now_ns() + ASK_AGAIN_NS;
			}
			(void)sys_futex_wait(&box->progress, seen, until);
		}
		atomic_fetch_sub(&box->waiters, 1);
	}
}

void
pe_dsb(struct pe *pe)
{
	bool was_inside;

	if (!pe->dsb_waits)
		return;
	pe->dsb_waits = false;
	was_inside = atomic_load(&pe->inside) != 0;
	if (was_inside)
		cluster_outside(pe);
	for (struct pe *o = pe->cluster->first; o != NULL; o = o->cluster_next)
		if (o != pe && busy(o))
			wait_for(pe, o);
	if (was_inside)
		cluster_inside(pe);
}

/* -- events --------------------------------------------------------------------- */

static void
wake(struct pe *o)
{
	/* Asleep it got by its pins. */
	if (atomic_load(&o->mail->asleep) != 0)
		o->pins.wake(o->pins.ctx);
}

void
pe_sev(struct pe *pe)
{
	pe->event = true;
	if (alone(pe))
		return;
	for (struct pe *o = pe->cluster->first; o != NULL; o = o->cluster_next) {
		__atomic_store_n(&o->event, true, __ATOMIC_SEQ_CST);
		wake(o);
	}
}

void
pe_poke(struct pe *pe)
{
	ring(pe, PE_REQ_POKE);
	wake(pe);
}

void
pe_relax(struct pe *pe)
{
	pause_cpu();
	/* An interrupt may be what the guest waits for: it need not wait for the countdown. */
	if (pe->pins.kick != NULL && atomic_load_explicit(pe->pins.kick, memory_order_relaxed) != 0)
		pe->slice = 0;
	if (++pe->mail->looks % RELAX_LOOKS == 0 && crowded(pe))
		sched_yield();
}

/* Has the location that an exclusive load armed the monitor for changed? */
static bool
monitor_opened(const struct pe *pe)
{
	switch (pe->excl_size) {
	case 1:
		return (__atomic_load_n((uint8_t *)pe->excl_host, __ATOMIC_RELAXED) !=
			(uint8_t)pe->excl_val[0]);
	case 2:
		return (__atomic_load_n((uint16_t *)pe->excl_host, __ATOMIC_RELAXED) !=
			(uint16_t)pe->excl_val[0]);
	case 4:
		return (__atomic_load_n((uint32_t *)pe->excl_host, __ATOMIC_RELAXED) !=
			(uint32_t)pe->excl_val[0]);
	case 8:
	case 16:
		return (__atomic_load_n((uint64_t *)pe->excl_host, __ATOMIC_RELAXED) !=
			pe->excl_val[0]);
	default:
		return (false);
	}
}

static void
wfe_sleep(struct pe *pe, uint64_t until)
{
	struct mailbox *box = pe->mail;

	cluster_outside(pe);
	/* As for mailboxes: the sleeper says so and looks, others set and look. */
	atomic_store(&box->asleep, 1);
	if (!__atomic_load_n(&pe->event, __ATOMIC_SEQ_CST) && atomic_load(&pe->request) == 0)
		pe->pins.wait(pe->pins.ctx, until);
	atomic_store(&box->asleep, 0);
	cluster_inside(pe);
}

void
pe_wfe(struct pe *pe, uint64_t until)
{
	struct mailbox *box = pe->mail;
	uint64_t now = pe->pins.counter(pe->pins.ctx), next;

	if (now - box->wfe_last > WFE_ROW)
		box->wfe_began = now;
	for (unsigned i = 0; i < MONITOR_LOOKS && pe->excl_size != 0; i++) {
		if (monitor_opened(pe)) {
			box->wfe_last = now;
			return;
		}
		pause_cpu();
	}
	if (pe->pins.wait == NULL || now - box->wfe_began < WFE_SPIN)
		pe_relax(pe);
	else {
		next = timer_next(pe);
		until = next < until ? next : until;
		next = timer_event_next(pe, now);
		until = next < until ? next : until;
		if (pe->excl_size != 0 && until > now + WFE_LOOK)
			until = now + WFE_LOOK;
		wfe_sleep(pe, until);
	}
	box->wfe_last = pe->pins.counter(pe->pins.ctx);
	(void)__atomic_exchange_n(&pe->event, false, __ATOMIC_SEQ_CST);
}
