/*
 * Counts its own instructions through perf_event_open(): a loop whose length is
 * known, at EL0 alone, with and without an overflow signal each million.
 */
#include <fcntl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PASSES 10000000ull /* of two instructions */
#define PERIOD 1000000ull

static volatile unsigned signals;

static void
overflowed(int signum)
{
	(void)signum;
	signals++;
}

static int
event(uint64_t config, uint64_t period)
{
	struct perf_event_attr a;

	memset(&a, 0, sizeof(a));
	a.size = sizeof(a);
	a.type = PERF_TYPE_HARDWARE;
	a.config = config;
	a.disabled = 1;
	a.exclude_kernel = 1;
	a.exclude_hv = 1;
	a.sample_period = period;
	a.wakeup_events = 1;
	return ((int)syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
}

static long long
counted(int fd)
{
	uint64_t n = PASSES, value = 0;

	ioctl(fd, PERF_EVENT_IOC_RESET, 0);
	ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
	__asm__ volatile("1: subs %0, %0, #1; b.ne 1b" : "+r"(n) : : "cc");
	ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
	return (read(fd, &value, sizeof(value)) == sizeof(value) ? (long long)value : -1);
}

int
main(void)
{
	int fd = event(PERF_COUNT_HW_INSTRUCTIONS, 0);

	if (fd < 0) {
		perror("perf_event_open");
		return (1);
	}
	printf("instructions %lld\n", counted(fd));
	printf("cycles %lld\n", counted(event(PERF_COUNT_HW_CPU_CYCLES, 0)));
	signal(SIGIO, overflowed);
	fd = event(PERF_COUNT_HW_INSTRUCTIONS, PERIOD);
	(void)mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	fcntl(fd, F_SETFL, O_ASYNC);
	fcntl(fd, F_SETOWN, getpid());
	printf("sampled %lld\n", counted(fd));
	printf("signals %u\n", signals);
	return (0);
}
