/*
 * The Inner Shareable domain: requests from one PE to all others, waiting for
 * them, events, and what a PE does that has nothing to do.
 *
 * A request reaches a PE at its next poll; one that is not executing serves it
 * before it does. Requests name what is to be dropped; when more come than a PE
 * has room for before its next poll, it drops everything.
 */
#ifndef PE_CLUSTER_H
#define PE_CLUSTER_H

#include "pe/mmu.h"

enum cluster_op {
	CLUSTER_TLBI_VA,   /* range */
	CLUSTER_TLBI_ASID, /* vmid, asid */
	CLUSTER_TLBI_VMID, /* vmid */
	CLUSTER_IC_LINES,  /* addr: physical page; lines: which 64 bytes of it */
	CLUSTER_CODE,      /* addr: host page that is executed from now on (strict.c) */
	CLUSTER_WRITTEN,   /* addr: physical page that is written from now on */
};

struct cluster_mail {
	uint8_t op;
	uint8_t regime;
	uint32_t vmid, asid;
	uint64_t addr, lines;
	struct mmu_flush range;
};

int cluster_join(struct pe *);
void cluster_leave(struct pe *);
/* Ask every other PE to drop what `mail` names; pe_dsb() waits for them. */
void cluster_post(struct pe *, const struct cluster_mail *mail);
/* The same for everything of a kind: PE_REQ_TLBI_ALL, PE_REQ_IC_ALL. */
void cluster_request(struct pe *, uint32_t bits);
/* Serve the own mailbox; true when there was something. */
bool cluster_serve(struct pe *);
/* This PE stops executing: who waits for it need not. */
void cluster_outside(struct pe *);
void cluster_inside(struct pe *);
/* The cluster's table for strict.c; a PE without a cluster has none and is not strict. */
struct strict;
struct strict *cluster_strict(struct pe *);
#endif /* PE_CLUSTER_H */
