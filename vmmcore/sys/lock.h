/*
 * Robust mutexes in memory that several processes map. The thread that locks
 * unlocks; when it dies with the lock held, the next one gets it and is told.
 */
#ifndef SYS_LOCK_H
#define SYS_LOCK_H

#include <pthread.h>
#include <stdint.h>

struct sys_lock {
	pthread_mutex_t m;
};

int sys_lock_init(struct sys_lock *);
/*
 * 0, or EOWNERDEAD: the lock is ours and usable, but the last owner died with
 * it held; the caller repairs what the lock protects.
 */
int sys_lock(struct sys_lock *);
/* The same, or EBUSY at once. */
int sys_trylock(struct sys_lock *);
/* The same, or ETIMEDOUT at `deadline_ns` on CLOCK_MONOTONIC. */
int sys_lock_until(struct sys_lock *, uint64_t deadline_ns);
void sys_unlock(struct sys_lock *);

#endif /* SYS_LOCK_H */
