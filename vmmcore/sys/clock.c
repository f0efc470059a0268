/* The machine's clock (clock.h) over CLOCK_MONOTONIC, which needs no system call. */
#include "sys/clock.h"

#include <time.h>

uint64_t
sys_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec);
}

uint64_t
sys_counter(void)
{
	return (sys_now_ns() / SYS_NS_PER_TICK);
}

uint64_t
sys_counter_to_ns(uint64_t tick)
{
	if (tick >= (uint64_t)INT64_MAX / SYS_NS_PER_TICK)
		return (UINT64_MAX);
	return (tick * SYS_NS_PER_TICK);
}
