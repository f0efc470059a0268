/*
 * Code that is modified without maintenance (-o jit.strict=true): see strict.c.
 */
#ifndef PE_STRICT_H
#define PE_STRICT_H

#include <pthread.h>

#include "pe/pe_internal.h"

/* The pages that may hold decoded code, of all PEs of a cluster: host addresses. */
struct strict {
	pthread_mutex_t lock;
	uintptr_t *page;     /* 0: empty */
	size_t size, in_use; /* size is a power of two */
};

void strict_init(struct strict *);
void strict_fini(struct strict *);

/*
 * Words of the page are about to be decoded: from now on writes to it are
 * noticed. May wait for other PEs; pe->strict_waits counts that.
 */
void strict_code(struct pe *, struct codepage *);
/*
 * May the guest write to the page at this host and physical address unnoticed?
 * False: it could not; what was decoded is gone everywhere now, and the address
 * has to be translated again.
 */
bool strict_write(struct pe *, const void *host, uint64_t pa);

#endif /* PE_STRICT_H */
