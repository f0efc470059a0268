/*
 * The Inner Shareable domain: requests from one PE to all others, and waiting
 * for them. A request reaches a PE at its next poll; one that is not executing
 * serves it before it does.
 */
#ifndef PE_CLUSTER_H
#define PE_CLUSTER_H

#include "pe/pe_internal.h"

void cluster_join(struct pe *);
void cluster_leave(struct pe *);
/* Ask every other PE for PE_REQ_* bits; pe_dsb() waits for them. */
void cluster_request(struct pe *, uint32_t bits);
/* Serve the own mailbox; true when there was something. */
bool cluster_serve(struct pe *);

#endif /* PE_CLUSTER_H */
