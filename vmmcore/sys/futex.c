/* Shared futexes (futex.h): the system call and its time argument. */
#include "sys/futex.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * A guest's timer that is 50 us late is late: ask for waits that end on time
 * (prctl(2), PR_SET_TIMERSLACK; 50 us is what threads begin with).
 */
static void
on_time(void)
{
	static _Thread_local bool asked;

	if (!asked) {
		asked = true;
		(void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	}
}

int
sys_futex_wait(const _Atomic uint32_t *word, uint32_t val, uint64_t deadline_ns)
{
	struct timespec ts, *tsp = NULL;

	if (deadline_ns != SYS_FOREVER) {
		ts.tv_sec = (time_t)(deadline_ns / 1000000000u);
		ts.tv_nsec = (long)(deadline_ns % 1000000000u);
		tsp = &ts;
		on_time();
	}
	/* WAIT_BITSET takes an absolute time; without CLOCK_REALTIME it is monotonic. */
	if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, val, tsp, NULL, FUTEX_BITSET_MATCH_ANY) ==
	    0)
		return (0);
	return (errno == EAGAIN ? 0 : errno);
}

void
sys_futex_wake(const _Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
