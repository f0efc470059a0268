/*
 * Whether the device side of this process orders the guest's stores and loads
 * with its own, by membarrier(2) (bhyvepy/membarrier.py). A vCPU that runs
 * alone then needs no host barrier for DMB: other vCPUs there are none, and
 * devices make their barrier on its behalf.
 */
#ifndef SYS_MEMBARRIER_H
#define SYS_MEMBARRIER_H

#include <stdbool.h>

bool sys_membarrier_private(void);
/* That barrier: earlier stores before later loads, in all threads. False: it was not made. */
bool sys_membarrier(void);

#endif /* SYS_MEMBARRIER_H */
