/*
 * Doorbells: guest writes that signal an eventfd of this process instead of
 * leaving vm_run().
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/vmm_vm.h"

int
vm_doorbell_add(struct vm *vm, uint64_t gpa, int size, bool match_any, uint64_t value, int fd)
{
	struct vm_doorbell *d;
	unsigned n;
	int error = 0;

	if ((size != 1 && size != 2 && size != 4 && size != 8) || fd < 0)
		return (EINVAL);
	pthread_mutex_lock(&vm->mtx);
	n = atomic_load(&vm->ndoorbells);
	for (unsigned i = 0; i < n; i++) {
		d = &vm->doorbell[i];
		if (d->gpa == gpa && d->size == size &&
		    (d->match_any || match_any || d->value == value))
			error = EEXIST;
	}
	if (error == 0 && n == VM_MAX_DOORBELLS)
		error = ENOSPC;
	if (error == 0) {
		vm->doorbell[n] = (struct vm_doorbell){ gpa, value, size, fd, match_any };
		atomic_store(&vm->ndoorbells, n + 1);
	}
	pthread_mutex_unlock(&vm->mtx);
	return (error);
}

int
vm_doorbell_del(struct vm *vm, uint64_t gpa, int fd)
{
	int error = ENOENT;
	unsigned n;

	pthread_mutex_lock(&vm->mtx);
	n = atomic_load(&vm->ndoorbells);
	for (unsigned i = 0; i < n; i++) {
		if (vm->doorbell[i].gpa == gpa && vm->doorbell[i].fd == fd) {
			vm->doorbell[i--] = vm->doorbell[--n];
			error = 0;
		}
	}
	atomic_store(&vm->ndoorbells, n);
	pthread_mutex_unlock(&vm->mtx);
	return (error);
}

bool
vm_doorbell_ring(struct vm *vm, uint64_t gpa, unsigned size, uint64_t value)
{
	static const uint64_t one = 1;
	bool hit = false;

	if (atomic_load_explicit(&vm->ndoorbells, memory_order_relaxed) == 0)
		return (false);
	pthread_mutex_lock(&vm->mtx);
	for (unsigned i = 0; i < atomic_load(&vm->ndoorbells) && !hit; i++) {
		const struct vm_doorbell *d = &vm->doorbell[i];

		if (d->gpa != gpa || (unsigned)d->size != size ||
		    (!d->match_any && d->value != value))
			continue;
		/* EAGAIN: the counter is full, the other side has been told often enough. */
		(void)!write(d->fd, &one, sizeof(one));
		hit = true;
	}
	pthread_mutex_unlock(&vm->mtx);
	return (hit);
}
