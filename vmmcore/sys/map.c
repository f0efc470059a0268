/*
 * Shared mappings of VM files, and what happens when such a file is truncated
 * by somebody: a page that the file no longer backs raises SIGBUS; the handler
 * puts an anonymous page in its place and leaves a mark, and the run loop
 * stops the VM. SIGBUS for other reasons goes to whoever handled it before.
 */
#include "sys/store.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAP_MAX 4096
#define PAGE 4096ul

/* Read by the handler without a lock; len is stored last and cleared first. */
static struct {
	_Atomic uintptr_t base;
	_Atomic uintptr_t len;
} maps[MAP_MAX];
static _Atomic int lost;
static struct sigaction old_action;
static pthread_mutex_t map_lock = PTHREAD_MUTEX_INITIALIZER;
static bool handler_installed;

static void
sigbus(int sig, siginfo_t *si, void *uc)
{
	uintptr_t addr = (uintptr_t)si->si_addr, base, len;
	int saved = errno;

	for (unsigned i = 0; i < MAP_MAX; i++) {
		len = atomic_load(&maps[i].len);
		base = atomic_load(&maps[i].base);
		if (len == 0 || addr - base >= len)
			continue;
		if (mmap((void *)(addr & ~(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			break;
		atomic_store(&lost, EIO);
		errno = saved;
		return;
	}
	errno = saved;
	if ((old_action.sa_flags & SA_SIGINFO) != 0 && old_action.sa_sigaction != NULL)
		old_action.sa_sigaction(sig, si, uc);
	else if (old_action.sa_handler != SIG_DFL && old_action.sa_handler != SIG_IGN)
		old_action.sa_handler(sig);
	else
		(void)signal(SIGBUS, SIG_DFL); /* happens again, and kills */
}

int
sys_guard(void *base, uint64_t len)
{
	struct sigaction sa;
	int error = ENOSPC;

	pthread_mutex_lock(&map_lock);
	if (!handler_installed) {
		memset(&sa, 0, sizeof(sa));
		sa.sa_sigaction = sigbus;
		sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
		handler_installed = sigaction(SIGBUS, &sa, &old_action) == 0;
	}
	for (unsigned i = 0; i < MAP_MAX && error != 0; i++) {
		if (atomic_load(&maps[i].len) == 0) {
			atomic_store(&maps[i].base, (uintptr_t)base);
			atomic_store(&maps[i].len, len);
			error = 0;
		}
	}
	pthread_mutex_unlock(&map_lock);
	return (error);
}

void
sys_unguard(void *base)
{
	pthread_mutex_lock(&map_lock);
	for (unsigned i = 0; i < MAP_MAX; i++) {
		if (atomic_load(&maps[i].len) != 0 &&
		    atomic_load(&maps[i].base) == (uintptr_t)base) {
			atomic_store(&maps[i].len, 0);
			break;
		}
	}
	pthread_mutex_unlock(&map_lock);
}

int
sys_map(int fd, uint64_t len, void **basep)
{
	void *base;

	if (len == 0 || len > SIZE_MAX / 2)
		return (EINVAL);
	base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED)
		return (errno);
	(void)madvise(base, len, MADV_DONTDUMP);
	/* Guest RAM on pages of 2 MiB where the host gives them for shared memory. */
	(void)madvise(base, len, MADV_HUGEPAGE);
	/* Without a place in the table a truncated file kills, as it would anyway. */
	(void)sys_guard(base, len);
	*basep = base;
	return (0);
}

void
sys_unmap(void *base, uint64_t len)
{
	sys_unguard(base);
	(void)munmap(base, len);
}

int
sys_memory_lost(void)
{
	return (atomic_load(&lost));
}
