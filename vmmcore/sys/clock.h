/*
 * The clock of the emulated machine: one monotonic time for every process.
 */
#ifndef SYS_CLOCK_H
#define SYS_CLOCK_H

#include <stdint.h>

/* Ticks a second of sys_counter(). */
#define SYS_COUNTER_HZ 100000000u
#define SYS_NS_PER_TICK (1000000000u / SYS_COUNTER_HZ)

/* CLOCK_MONOTONIC in nanoseconds; stops while the host is suspended. */
uint64_t sys_now_ns(void);
/* The system counter (CNTPCT_EL0): sys_now_ns() in ticks of SYS_COUNTER_HZ. */
uint64_t sys_counter(void);
/* The moment the counter reaches `tick`, for sys_futex_wait(); saturates. */
uint64_t sys_counter_to_ns(uint64_t tick);

#endif /* SYS_CLOCK_H */
