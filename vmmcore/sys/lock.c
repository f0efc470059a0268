/*
 * Robust process-shared mutexes (lock.h) over pthread ones: the kernel walks
 * the owner's robust list when it dies, whatever killed it.
 */
#include "sys/lock.h"

#include <errno.h>
#include <time.h>

int
sys_lock_init(struct sys_lock *l)
{
	pthread_mutexattr_t a;
	int error;

	if ((error = pthread_mutexattr_init(&a)) != 0)
		return (error);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	error = pthread_mutex_init(&l->m, &a);
	pthread_mutexattr_destroy(&a);
	return (error);
}

static int
locked(struct sys_lock *l, int error)
{
	if (error == EOWNERDEAD)
		pthread_mutex_consistent(&l->m);
	return (error);
}

int
sys_lock(struct sys_lock *l)
{
	return (locked(l, pthread_mutex_lock(&l->m)));
}

int
sys_trylock(struct sys_lock *l)
{
	return (locked(l, pthread_mutex_trylock(&l->m)));
}

int
sys_lock_until(struct sys_lock *l, uint64_t deadline_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(deadline_ns / 1000000000u),
		.tv_nsec = (long)(deadline_ns % 1000000000u),
	};

	return (locked(l, pthread_mutex_clocklock(&l->m, CLOCK_MONOTONIC, &ts)));
}

void
sys_unlock(struct sys_lock *l)
{
	pthread_mutex_unlock(&l->m);
}
