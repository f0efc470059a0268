/*
 * Translated code described for Linux's perf: a jitdump file, one for the
 * process, to which every vCPU appends a record for each block (linux,
 * tools/perf/Documentation/jitdump-specification.txt). A block's name is the
 * guest physical address it was translated from.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "pe/jit/jit_int.h"

#define JITDUMP_MAGIC 0x4a695444u /* "JiTD" */
#define JITDUMP_VERSION 1u
#define JIT_CODE_LOAD 0u
#define EM_X86_64 62u

struct file_header {
	uint32_t magic, version, total_size, elf_mach, pad, pid;
	uint64_t timestamp, flags;
};

struct code_load {
	uint32_t id, total_size;
	uint64_t timestamp;
	uint32_t pid, tid;
	uint64_t vma, code_addr, code_size, code_index;
};

struct jit_perf {
	FILE *file;
	void *marker; /* perf finds the file by this executable mapping of it */
	uint64_t index;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct jit_perf the_file;

static uint64_t
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec);
}

static bool
create(struct jit_perf *p)
{
	struct file_header h = { .magic = JITDUMP_MAGIC,
		.version = JITDUMP_VERSION,
		.total_size = sizeof(h),
		.elf_mach = EM_X86_64,
		.pid = (uint32_t)getpid(),
		.timestamp = now() };
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "jit-%d.dump", (int)getpid());
	fd = open(name, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644);
	if (fd < 0)
		return (false);
	p->marker = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	p->file = fdopen(fd, "w");
	if (p->marker == MAP_FAILED || p->file == NULL || fwrite(&h, sizeof(h), 1, p->file) != 1 ||
	    fflush(p->file) != 0) {
		if (p->file != NULL)
			fclose(p->file);
		else
			close(fd);
		p->file = NULL;
		return (false);
	}
	return (true);
}

struct jit_perf *
jit_perf_open(void)
{
	bool ok;

	pthread_mutex_lock(&lock);
	ok = the_file.file != NULL || create(&the_file);
	pthread_mutex_unlock(&lock);
	return (ok ? &the_file : NULL);
}

void
jit_perf_block(struct jit_perf *p, uint64_t pa, const uint8_t *rx, const uint8_t *rw, size_t size)
{
	struct code_load r = { .id = JIT_CODE_LOAD,
		.timestamp = now(),
		.pid = (uint32_t)getpid(),
		.tid = (uint32_t)syscall(SYS_gettid),
		.vma = (uintptr_t)rx,
		.code_addr = (uintptr_t)rx,
		.code_size = size };
	char name[32];
	size_t len = (size_t)snprintf(name, sizeof(name), "a64_%llx", (unsigned long long)pa) + 1;

	r.total_size = (uint32_t)(sizeof(r) + len + size);
	pthread_mutex_lock(&lock);
	r.code_index = p->index++;
	if (fwrite(&r, sizeof(r), 1, p->file) == 1 && fwrite(name, len, 1, p->file) == 1)
		(void)fwrite(rw, size, 1, p->file);
	fflush(p->file);
	pthread_mutex_unlock(&lock);
}
