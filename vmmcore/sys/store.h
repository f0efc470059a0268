/*
 * The files a VM consists of: opened without following links, only in folders
 * that are the caller's own, with space allocated before it is written.
 */
#ifndef SYS_STORE_H
#define SYS_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Open a folder that is the caller's and nobody else's: ENOENT, EPERM. */
int sys_dir_open(int at, const char *path, int *fd);
/* Create a folder and open it: EEXIST. */
int sys_dir_create(int at, const char *name, int *fd);
/* Remove what `name` is: a folder with its files, a file or a link. */
int sys_remove(int at, const char *name);

/* Create a sparse file of `size` bytes, mode 0600. */
int sys_file_create(int at, const char *name, uint64_t size, int *fd);
/* Open a regular file; *size may be NULL. EPROTO: something else is there. */
int sys_file_open(int at, const char *name, bool writable, int *fd, uint64_t *size);
/* Allocate the blocks of a range: ENOSPC instead of a signal later. */
int sys_file_alloc(int fd, uint64_t off, uint64_t len);

/*
 * Map a whole file for all its processes. When it is truncated later, touching
 * it does not kill the process: see sys_memory_lost().
 */
int sys_map(int fd, uint64_t len, void **base);
void sys_unmap(void *base, uint64_t len);
/* The same care for a mapping that somebody else in this process made. ENOSPC. */
int sys_guard(void *base, uint64_t len);
void sys_unguard(void *base);
/* errno value for "a mapped file lost bytes that were in use", or 0. */
int sys_memory_lost(void);

/*
 * Ownership: a lock that goes with the file descriptor, so that the death of
 * the process frees it, and that can be looked at without taking it.
 */
int sys_own(int fd); /* EBUSY: somebody owns it */
void sys_disown(int fd);
bool sys_owned(int fd); /* by another open of the file */

/* Start time of a process in clock ticks since boot; 0: no such process. */
uint64_t sys_process_start(pid_t pid);

#endif /* SYS_STORE_H */
