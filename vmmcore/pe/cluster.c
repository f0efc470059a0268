/*
 * The Inner Shareable domain: see cluster.h.
 *
 * A mailbox is one word of request bits. The requester sets bits and then
 * looks at `inside`; a PE sets `inside` and then looks at its mailbox: with
 * sequentially consistent accesses one of the two always sees the other.
 */
#include "pe/cluster.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "pe/codecache.h"
#include "pe/mmu.h"

struct pe_cluster {
	pthread_mutex_t lock; /* the list */
	struct pe *first;
};

struct pe_cluster *
pe_cluster_create(void)
{
	struct pe_cluster *c = calloc(1, sizeof(*c));

	if (c != NULL)
		pthread_mutex_init(&c->lock, NULL);
	return (c);
}

void
pe_cluster_destroy(struct pe_cluster *c)
{
	if (c == NULL)
		return;
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void
cluster_join(struct pe *pe)
{
	struct pe_cluster *c = pe->cluster;

	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	pe->cluster_next = c->first;
	c->first = pe;
	pthread_mutex_unlock(&c->lock);
}

void
cluster_leave(struct pe *pe)
{
	struct pe_cluster *c = pe->cluster;

	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	for (struct pe **pp = &c->first; *pp != NULL; pp = &(*pp)->cluster_next)
		if (*pp == pe) {
			*pp = pe->cluster_next;
			break;
		}
	pthread_mutex_unlock(&c->lock);
}

void
cluster_request(struct pe *pe, uint32_t bits)
{
	struct pe_cluster *c = pe->cluster;

	if (c == NULL || (c->first == pe && pe->cluster_next == NULL))
		return;
	pthread_mutex_lock(&c->lock);
	for (struct pe *o = c->first; o != NULL; o = o->cluster_next) {
		if (o == pe)
			continue;
		atomic_fetch_or(&o->request, bits);
		__atomic_store_n(&o->slice, 0, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&c->lock);
	pe->dsb_waits = true;
}

void
pe_dsb(struct pe *pe)
{
	struct pe_cluster *c = pe->cluster;
	unsigned spins = 0;

	if (!pe->dsb_waits)
		return;
	pe->dsb_waits = false;
	/* PEs leave only when no thread executes: the list holds still. */
	for (struct pe *o = c->first; o != NULL; o = o->cluster_next) {
		if (o == pe)
			continue;
		while (atomic_load(&o->inside) != 0 &&
		    ((atomic_load(&o->request) & (PE_REQ_TLBI_ALL | PE_REQ_IC_ALL)) != 0 ||
		    atomic_load(&o->serving) != 0)) {
			/* Two that wait for each other must both serve. */
			(void)cluster_serve(pe);
			if (++spins > 200)
				sched_yield();
			__atomic_store_n(&o->slice, 0, __ATOMIC_RELAXED);
		}
	}
}

bool
cluster_serve(struct pe *pe)
{
	const uint32_t mine = PE_REQ_TLBI_ALL | PE_REQ_IC_ALL;
	uint32_t bits;

	if ((atomic_load_explicit(&pe->request, memory_order_relaxed) & mine) == 0)
		return (false);
	/* `serving` covers the time between taking the request and its end. */
	atomic_store(&pe->serving, 1);
	bits = atomic_fetch_and(&pe->request, ~mine);
	if ((bits & PE_REQ_TLBI_ALL) != 0)
		mmu_flush_all(pe);
	if ((bits & PE_REQ_IC_ALL) != 0) {
		/* The page being executed may not vanish under a handler. */
		pe->code_stale = true;
		pe->slice = 0;
	}
	atomic_store(&pe->serving, 0);
	return (true);
}

void
pe_sev(struct pe *pe)
{
	struct pe_cluster *c = pe->cluster;

	pe->event = true;
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	for (struct pe *o = c->first; o != NULL; o = o->cluster_next)
		__atomic_store_n(&o->event, true, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&c->lock);
}

void
pe_poke(struct pe *pe)
{
	atomic_fetch_or(&pe->request, PE_REQ_POKE);
	__atomic_store_n(&pe->slice, 0, __ATOMIC_RELAXED);
}
