/*
 * Guest memory: segments (files), the memory map (where parts of them lie in
 * guest physical space), page-in at stage 2, copies, protection and the dirty
 * log. The tables themselves are pmap.c's.
 *
 * A chunk of 2 MiB is allocated in the file before anybody can touch it, so
 * that a full file system is an error here and not a signal there.
 */
#include <errno.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>

#include "sys/store.h"
#include "vmm/mmu.h"

#define PAGE_MASK (PAGE_SIZE - 1)

static int
mem_lock(struct vm *vm)
{
	/* Nothing to repair: see pmap.c; map entries become valid with their length. */
	(void)sys_lock(&vm->control->mem_lock);
	return (0);
}

static void
mem_unlock(struct vm *vm)
{
	sys_unlock(&vm->control->mem_lock);
}

/* -- segments ---------------------------------------------------------------- */

/* Map a segment that exists into this process, once. */
int
vm_seg_open(struct vm *vm, int seg)
{
	struct vm_seg *s = &vm->seg[seg];
	uint64_t size;
	void *base;
	int error = 0, fd;

	if (atomic_load(&s->len) != 0)
		return (0);
	pthread_mutex_lock(&vm->mtx);
	if (atomic_load(&s->len) != 0)
		goto out;
	if ((error = sys_file_open(vm->dirfd, vm_seg_name[seg], true, &fd, &size)) != 0)
		goto out;
	if (seg == SEG_STAGE2 ? size != STAGE2_LEN
			      : size != atomic_load(&vm->control->seg[seg].len))
		error = EPROTO;
	else
		error = sys_map(fd, size, &base);
	if (error != 0) {
		close(fd);
		goto out;
	}
	s->fd = fd;
	s->base = base;
	atomic_store(&s->len, size);
out:
	pthread_mutex_unlock(&vm->mtx);
	return (error);
}

void *
vm_pa2hva(struct vm *vm, uint64_t pa, size_t len)
{
	uint64_t seg = (pa >> SEG_SHIFT) - 1, off = pa & ((UINT64_C(1) << SEG_SHIFT) - 1);
	uint64_t size;

	if (seg >= SEG_COUNT)
		return (NULL);
	size = atomic_load_explicit(&vm->seg[seg].len, memory_order_acquire);
	if (off >= size || len > size - off)
		return (NULL);
	return ((char *)vm->seg[seg].base + off);
}

static int
check_segid(int segid)
{
	return (segid < 0 || segid >= VM_MAX_MEMSEGS ? EINVAL : 0);
}

static bool
chunk_test(struct vm *vm, int segid, uint64_t chunk)
{
	return (((vm->file->populated[segid][chunk / 8] >> (chunk % 8)) & 1) != 0);
}

/* With mem_lock. Blocks of the file for the chunks of [off, off + len). */
static int
populate(struct vm *vm, int segid, uint64_t off, uint64_t len)
{
	uint64_t seglen = atomic_load(&vm->control->seg[segid].len);
	uint64_t first = off / CHUNK_SIZE, last = (off + len - 1) / CHUNK_SIZE, run, end;
	int error;

	for (uint64_t c = first; c <= last; c = run) {
		run = c + 1;
		if (chunk_test(vm, segid, c))
			continue;
		while (run <= last && !chunk_test(vm, segid, run))
			run++;
		end = run * CHUNK_SIZE < seglen ? run * CHUNK_SIZE : seglen;
		error = sys_file_alloc(vm->seg[segid].fd, c * CHUNK_SIZE, end - c * CHUNK_SIZE);
		if (error != 0)
			return (error);
		for (; c < run; c++)
			vm->file->populated[segid][c / 8] |= (uint8_t)(1u << (c % 8));
	}
	return (0);
}

int
vm_alloc_memseg(struct vm *vm, int segid, uint64_t len, bool reserve)
{
	struct vm_memseg *seg;
	uint64_t have;
	int error, fd;

	if (check_segid(segid) != 0 || len == 0 || (len & PAGE_MASK) != 0)
		return (EINVAL);
	if (len > SEG_MAX_LEN)
		return (ENOMEM);
	seg = &vm->control->seg[segid];
	mem_lock(vm);
	if ((have = atomic_load(&seg->len)) != 0) {
		error = have == len ? 0 : EINVAL;
		goto out;
	}
	/* One that a killed process did not get to announce. */
	(void)unlinkat(vm->dirfd, vm_seg_name[segid], 0);
	if ((error = sys_file_create(vm->dirfd, vm_seg_name[segid], len, &fd)) != 0)
		goto out;
	error = sys_file_alloc(vm->ctlfd,
	    (uint64_t)((uint8_t *)vm->file->populated[segid] - (uint8_t *)vm->file),
	    (len / CHUNK_SIZE + 8) / 8);
	close(fd);
	if (error == 0)
		atomic_store(&seg->len, len);
	if (error == 0 && (error = vm_seg_open(vm, segid)) == 0 && reserve)
		error = populate(vm, segid, 0, len);
	if (error != 0 && vm->seg[segid].base == NULL) {
		atomic_store(&seg->len, 0);
		(void)unlinkat(vm->dirfd, vm_seg_name[segid], 0);
	}
out:
	mem_unlock(vm);
	return (error);
}

int
vm_get_memseg(struct vm *vm, int segid, uint64_t *len)
{
	if (check_segid(segid) != 0)
		return (EINVAL);
	*len = atomic_load(&vm->control->seg[segid].len);
	return (*len != 0 ? 0 : ENOENT);
}

int
vm_memseg_path(struct vm *vm, int segid, char *buf, size_t len)
{
	char link[64];
	ssize_t n;

	if (check_segid(segid) != 0)
		return (EINVAL);
	if (atomic_load(&vm->control->seg[segid].len) == 0)
		return (ENOENT);
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", vm->dirfd);
	if (len == 0 || (n = readlink(link, buf, len)) < 0)
		return (len == 0 ? ERANGE : errno);
	if ((size_t)n + 1 + strlen(vm_seg_name[segid]) + 1 > len)
		return (ERANGE);
	buf[n] = '/';
	memcpy(buf + n + 1, vm_seg_name[segid], strlen(vm_seg_name[segid]) + 1);
	return (0);
}

int
vm_memseg_populate(struct vm *vm, int segid, uint64_t off, uint64_t len)
{
	uint64_t have;
	int error;

	if ((error = vm_get_memseg(vm, segid, &have)) != 0)
		return (error);
	if (off > have || len > have - off)
		return (EINVAL);
	if (len == 0)
		return (0);
	if ((error = vm_seg_open(vm, segid)) != 0)
		return (error);
	mem_lock(vm);
	error = populate(vm, segid, off, len);
	mem_unlock(vm);
	return (error);
}

/* -- the memory map ------------------------------------------------------------ */

static struct vm_memmap *
map_find(struct vm *vm, uint64_t gpa)
{
	for (int i = 0; i < VM_MAX_MEMMAPS; i++) {
		struct vm_memmap *m = &vm->control->map[i];

		if (m->len != 0 && gpa - m->gpa < m->len)
			return (m);
	}
	return (NULL);
}

static struct vm_memmap *
map_free(struct vm *vm)
{
	for (int i = 0; i < VM_MAX_MEMMAPS; i++) {
		if (vm->control->map[i].len == 0)
			return (&vm->control->map[i]);
	}
	return (NULL);
}

static void
map_set(struct vm_memmap *m, const struct vm_memmap *val)
{
	m->len = 0;
	m->gpa = val->gpa;
	m->segoff = val->segoff;
	m->segid = val->segid;
	m->prot = val->prot;
	atomic_thread_fence(memory_order_release);
	m->len = val->len;
}

static int
check_range(uint64_t gpa, uint64_t len)
{
	if (len == 0 || (gpa & PAGE_MASK) != 0 || (len & PAGE_MASK) != 0 || gpa >= IPA_END ||
	    len > IPA_END - gpa)
		return (EINVAL);
	return (0);
}

int
vm_mmap_memseg(struct vm *vm, uint64_t gpa, int segid, uint64_t segoff, uint64_t len, int prot)
{
	struct vm_memmap *m, new = { gpa, len, segoff, segid, prot };
	uint64_t seglen;
	int error;

	if (check_range(gpa, len) != 0 || (segoff & PAGE_MASK) != 0 ||
	    (prot & ~(VM_PROT_READ | VM_PROT_WRITE | VM_PROT_EXEC)) != 0 || prot == 0 ||
	    vm_get_memseg(vm, segid, &seglen) != 0 || segoff > seglen || len > seglen - segoff)
		return (EINVAL);
	if ((error = vm_seg_open(vm, segid)) != 0)
		return (error);
	mem_lock(vm);
	for (int i = 0; i < VM_MAX_MEMMAPS && error == 0; i++) {
		m = &vm->control->map[i];
		if (m->len == 0 || gpa >= m->gpa + m->len || gpa + len <= m->gpa)
			continue;
		/* The same again is fine, as in libvmmapi. */
		if (m->gpa == gpa && m->len == len && m->segid == segid && m->segoff == segoff &&
		    m->prot == prot) {
			mem_unlock(vm);
			return (0);
		}
		error = EEXIST;
	}
	if (error == 0) {
		if ((m = map_free(vm)) == NULL)
			error = ENOSPC;
		else
			map_set(m, &new);
	}
	mem_unlock(vm);
	return (error);
}

/* With mem_lock. Make [gpa, gpa + len) begin and end at borders of mappings. */
static int
map_cut(struct vm *vm, uint64_t at)
{
	struct vm_memmap *m = map_find(vm, at), *n, tail;

	if (m == NULL || m->gpa == at)
		return (0);
	if ((n = map_free(vm)) == NULL)
		return (ENOSPC);
	tail = *m;
	tail.gpa = at;
	tail.segoff += at - m->gpa;
	tail.len -= at - m->gpa;
	m->len = at - m->gpa;
	map_set(n, &tail);
	return (0);
}

int
vm_munmap_memseg(struct vm *vm, uint64_t gpa, uint64_t len)
{
	struct vm_memmap *m;
	int error;

	if (check_range(gpa, len) != 0)
		return (EINVAL);
	mem_lock(vm);
	if (map_find(vm, gpa) == NULL)
		error = EINVAL;
	else if ((error = map_cut(vm, gpa)) == 0)
		error = map_cut(vm, gpa + len);
	if (error == 0) {
		for (int i = 0; i < VM_MAX_MEMMAPS; i++) {
			m = &vm->control->map[i];
			if (m->len != 0 && m->gpa >= gpa && m->gpa + m->len <= gpa + len)
				m->len = 0;
		}
		error = pmap_remove(vm, gpa, len);
	}
	mem_unlock(vm);
	return (error != 0 ? error : vm_tlbi(vm));
}

int
vm_mmap_getnext(struct vm *vm, struct vm_meminfo *info)
{
	const struct vm_memmap *best = NULL, *m;

	mem_lock(vm);
	for (int i = 0; i < VM_MAX_MEMMAPS; i++) {
		m = &vm->control->map[i];
		if (m->len != 0 && m->gpa >= info->gpa && (best == NULL || m->gpa < best->gpa))
			best = m;
	}
	if (best != NULL) {
		info->gpa = best->gpa;
		info->len = best->len;
		info->segoff = best->segoff;
		info->segid = best->segid;
		info->prot = best->prot;
		info->flags = 0;
	}
	mem_unlock(vm);
	return (best != NULL ? 0 : ENOENT);
}

bool
vm_mem_allocated(struct vm *vm, uint64_t gpa)
{
	bool found;

	mem_lock(vm);
	found = map_find(vm, gpa) != NULL;
	mem_unlock(vm);
	return (found);
}

/* -- page-in --------------------------------------------------------------------- */

static bool
logged(struct vm *vm, uint64_t gpa, uint64_t len)
{
	for (int i = 0; i < VM_MAX_LOGS; i++) {
		const struct vm_range *r = &vm->control->log[i];

		if (r->len != 0 && gpa < r->gpa + r->len && r->gpa < gpa + len)
			return (true);
	}
	return (false);
}

/* Does the block of `level` around gpa fit the mapping and have its memory? */
static bool
block_fits(struct vm *vm, const struct vm_memmap *m, uint64_t gpa, int level)
{
	uint64_t size = pmap_level_size(level), base = gpa & ~(size - 1), off;

	if (base < m->gpa || size > m->len || base - m->gpa > m->len - size)
		return (false);
	off = m->segoff + (base - m->gpa);
	if ((off & (size - 1)) != 0 || logged(vm, base, size) || !pmap_block_ok(vm, gpa, level))
		return (false);
	/* The chunk of a 2 MiB block has just been populated. */
	for (uint64_t c = off / CHUNK_SIZE; c < (off + size) / CHUNK_SIZE; c++) {
		if (!chunk_test(vm, m->segid, c))
			return (false);
	}
	return (true);
}

static int
pagein(struct vm *vm, const struct vm_memmap *m, uint64_t gpa, int prot)
{
	uint64_t base, off = m->segoff + (gpa - m->gpa), pte, size, sw = 0;
	int error, level, mapprot = m->prot;

	pte = pmap_lookup(vm, gpa, &level);
	if ((pte & S2_VALID) != 0) {
		/* Somebody else was faster, or the first write to a logged page. */
		if ((prot & VM_PROT_WRITE) != 0 && (pte & S2_SW_LOG) != 0)
			return (pmap_log_write(vm, gpa, true));
		return (0);
	}
	if ((error = vm_seg_open(vm, m->segid)) != 0)
		return (error);
	if ((error = populate(vm, m->segid, off & ~PAGE_MASK, PAGE_SIZE)) != 0)
		return (error);
	for (level = 1; level < 3 && !block_fits(vm, m, gpa, level);)
		level++;
	size = pmap_level_size(level);
	base = gpa & ~(size - 1);
	if (logged(vm, base, size)) {
		sw = (pte & S2_SW_DIRTY);
		if ((prot & VM_PROT_WRITE) != 0)
			sw |= S2_SW_DIRTY;
		else {
			sw |= S2_SW_LOG;
			mapprot &= ~VM_PROT_WRITE;
		}
	}
	return (pmap_enter(vm, base, SEG_PA(m->segid, off - (gpa - base)), level, mapprot, sw));
}

int
vm_pagein(struct vm *vm, uint64_t gpa, int prot)
{
	const struct vm_memmap *m;
	int error;

	mem_lock(vm);
	if ((m = map_find(vm, gpa)) == NULL)
		error = PAGEIN_NOT_RAM;
	else if ((prot & ~m->prot) != 0)
		error = PAGEIN_DENIED;
	else
		error = pagein(vm, m, gpa, prot);
	mem_unlock(vm);
	return (error);
}

/* -- access by the host ------------------------------------------------------------ */

void *
vm_gpa2hva(struct vm *vm, uint64_t gpa, uint64_t *len)
{
	const struct vm_memmap *m;
	void *hva = NULL;
	uint64_t off;

	mem_lock(vm);
	if ((m = map_find(vm, gpa)) != NULL && vm_seg_open(vm, m->segid) == 0) {
		off = m->segoff + (gpa - m->gpa);
		if (*len > m->len - (gpa - m->gpa))
			*len = m->len - (gpa - m->gpa);
		if (*len == 0 || populate(vm, m->segid, off, *len) == 0)
			hva = vm_pa2hva(vm, SEG_PA(m->segid, off), *len);
	}
	mem_unlock(vm);
	return (hva);
}

static int
copy(struct vm *vm, void *buf, uint64_t gpa, uint64_t len, bool out)
{
	uint64_t done, n;
	void *hva;

	if (gpa + len < gpa)
		return (EFAULT);
	/* All or nothing: the first round only looks. */
	for (int round = 0; round < 2; round++) {
		for (done = 0; done < len; done += n) {
			n = len - done;
			if ((hva = vm_gpa2hva(vm, gpa + done, &n)) == NULL)
				return (EFAULT);
			if (round == 1 && out)
				memcpy(hva, (char *)buf + done, n);
			else if (round == 1)
				memcpy((char *)buf + done, hva, n);
		}
	}
	return (0);
}

int
vm_copyin(struct vm *vm, uint64_t gpa, void *buf, uint64_t len)
{
	return (copy(vm, buf, gpa, len, false));
}

int
vm_copyout(struct vm *vm, const void *buf, uint64_t gpa, uint64_t len)
{
	int error;

	/* copy() only reads the buffer in this direction. */
	if ((error = copy(vm, (void *)(uintptr_t)buf, gpa, len, true)) == 0 && len != 0)
		error = vm_memory_written(vm, gpa, len);
	return (error);
}

/* The dirty log of what the host wrote. */
static int
log_written(struct vm *vm, uint64_t gpa, uint64_t len)
{
	uint64_t page = gpa & ~PAGE_MASK;
	int error = 0;

	if (len != 0 && gpa + len - 1 < gpa)
		return (EINVAL);
	mem_lock(vm);
	for (; len != 0 && page < gpa + len && error == 0; page += PAGE_SIZE) {
		if (!logged(vm, gpa, len))
			break;
		if (logged(vm, page, PAGE_SIZE))
			error = pmap_log_write(vm, page, false);
	}
	mem_unlock(vm);
	return (error);
}

int
vm_memory_written(struct vm *vm, uint64_t gpa, uint64_t len)
{
	int error = log_written(vm, gpa, len);

	atomic_fetch_add(&vm->hyp->code_epoch, 1);
	return (error);
}

bool
vm_dirty_logging(struct vm *vm)
{
	/* Another process may begin just now: its log begins when it is told that it has. */
	for (int i = 0; i < VM_MAX_LOGS; i++) {
		if (__atomic_load_n(&vm->control->log[i].len, __ATOMIC_RELAXED) != 0)
			return (true);
	}
	return (false);
}

int
vm_dma_written(struct vm *vm, uint64_t gpa, uint64_t len)
{
	return (log_written(vm, gpa, len));
}

int
vm_write_data(struct vm *vm, uint64_t gpa, const void *buf, uint64_t len)
{
	int error;

	if ((error = copy(vm, (void *)(uintptr_t)buf, gpa, len, true)) == 0 && len != 0)
		error = log_written(vm, gpa, len);
	return (error);
}

/* -- protection and dirty log ---------------------------------------------------------- */

int
vm_tlbi(struct vm *vm)
{
	atomic_fetch_add(&vm->hyp->s2_epoch, 1);
	return (vm_barrier(vm));
}

/* Is the whole range mapped? */
static bool
covered(struct vm *vm, uint64_t gpa, uint64_t len)
{
	const struct vm_memmap *m;
	uint64_t at = gpa;

	while (at < gpa + len) {
		if ((m = map_find(vm, at)) == NULL)
			return (false);
		at = m->gpa + m->len;
	}
	return (true);
}

int
vm_protect(struct vm *vm, uint64_t gpa, uint64_t len, int prot)
{
	struct vm_memmap *m;
	int error;

	if (check_range(gpa, len) != 0 ||
	    (prot & ~(VM_PROT_READ | VM_PROT_WRITE | VM_PROT_EXEC)) != 0)
		return (EINVAL);
	mem_lock(vm);
	if (!covered(vm, gpa, len))
		error = EFAULT;
	else if ((error = map_cut(vm, gpa)) == 0 && (error = map_cut(vm, gpa + len)) == 0) {
		for (int i = 0; i < VM_MAX_MEMMAPS; i++) {
			m = &vm->control->map[i];
			if (m->len != 0 && m->gpa >= gpa && m->gpa + m->len <= gpa + len)
				m->prot = prot;
		}
		error = pmap_protect(vm, gpa, len, prot);
	}
	mem_unlock(vm);
	return (error != 0 ? error : vm_tlbi(vm));
}

int
vm_dirty_log_start(struct vm *vm, uint64_t gpa, uint64_t len)
{
	struct vm_range *r = NULL;
	int error;

	if (check_range(gpa, len) != 0)
		return (EINVAL);
	mem_lock(vm);
	for (int i = 0; i < VM_MAX_LOGS; i++) {
		struct vm_range *s = &vm->control->log[i];

		if (s->len == 0 || (s->gpa == gpa && s->len == len))
			r = s;
	}
	if (!covered(vm, gpa, len))
		error = EFAULT;
	else if (r == NULL)
		error = ENOSPC;
	else {
		r->gpa = gpa;
		r->len = len;
		error = pmap_log_start(vm, gpa, len);
	}
	mem_unlock(vm);
	return (error != 0 ? error : vm_tlbi(vm));
}

int
vm_dirty_log_get(struct vm *vm, uint64_t gpa, uint64_t len, uint8_t *bitmap, size_t size)
{
	int error;

	if (check_range(gpa, len) != 0)
		return (EINVAL);
	if (size < (len / PAGE_SIZE + 7) / 8)
		return (ERANGE);
	memset(bitmap, 0, size);
	mem_lock(vm);
	error = pmap_log_get(vm, gpa, len, bitmap);
	mem_unlock(vm);
	return (error != 0 ? error : vm_tlbi(vm));
}

int
vm_get_gpa_pmap(struct vm *vm, uint64_t gpa, uint64_t *pte, int *level)
{
	if (gpa >= IPA_END)
		return (EINVAL);
	mem_lock(vm);
	*pte = pmap_lookup(vm, gpa, level);
	mem_unlock(vm);
	return ((*pte & S2_VALID) != 0 ? 0 : ENOENT);
}
