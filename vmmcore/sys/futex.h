/*
 * Waits on a 32-bit word in memory that several processes map: shared futexes.
 * Nothing here knows what the word means.
 */
#ifndef SYS_FUTEX_H
#define SYS_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* No deadline. */
#define SYS_FOREVER UINT64_MAX

/*
 * Sleep while *word == val, until sys_futex_wake() or until `deadline_ns` on
 * CLOCK_MONOTONIC. 0 (woken, or the word already differs), ETIMEDOUT, EINTR.
 */
int sys_futex_wait(const _Atomic uint32_t *word, uint32_t val, uint64_t deadline_ns);
/* Wake everybody who sleeps on the word, in every process. */
void sys_futex_wake(const _Atomic uint32_t *word);

#endif /* SYS_FUTEX_H */
