/*
 * Wires: the transmitter of a serial port without an exit to userland for each
 * byte. The device switches one on while a store to its data register does
 * nothing but send, and while its status register reads as one value; whatever
 * else the guest does with the port leaves vm_run() as ever.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/vmm_vm.h"

int
vm_wire_add(struct vm *vm, uint64_t write_gpa, uint64_t read_gpa, int fd, int *wire)
{
	struct vm_wire *w;
	int error = 0;

	if (fd < 0)
		return (EINVAL);
	pthread_mutex_lock(&vm->mtx);
	if (atomic_load(&vm->nwires) == VM_MAX_WIRES)
		error = ENOSPC;
	else {
		*wire = (int)atomic_load(&vm->nwires);
		w = &vm->wire[*wire];
		memset(w, 0, sizeof(*w));
		w->write_gpa = write_gpa;
		w->read_gpa = read_gpa;
		w->fd = fd;
		atomic_store(&vm->nwires, (unsigned)*wire + 1);
	}
	pthread_mutex_unlock(&vm->mtx);
	return (error);
}

static struct vm_wire *
find(struct vm *vm, int wire)
{
	return (wire < 0 || (unsigned)wire >= atomic_load(&vm->nwires) ? NULL : &vm->wire[wire]);
}

int
vm_wire_set(struct vm *vm, int wire, bool write_on, bool read_on, uint8_t value)
{
	struct vm_wire *w;

	pthread_mutex_lock(&vm->mtx);
	if ((w = find(vm, wire)) != NULL) {
		w->write_on = write_on;
		w->read_on = read_on;
		w->value = value;
	}
	pthread_mutex_unlock(&vm->mtx);
	return (w == NULL ? EINVAL : 0);
}

/* Keep a byte; the first of them is told of. Lock held. */
static bool
keep(struct vm_wire *w, uint8_t byte)
{
	static const uint64_t one = 1;

	if (w->count == sizeof(w->bytes))
		return (false);
	w->bytes[w->count++] = byte;
	if (w->count == 1)
		(void)!write(w->fd, &one, sizeof(one));
	return (true);
}

int
vm_wire_put(struct vm *vm, int wire, uint8_t byte)
{
	struct vm_wire *w;
	int error;

	pthread_mutex_lock(&vm->mtx);
	w = find(vm, wire);
	error = w == NULL ? EINVAL : keep(w, byte) ? 0 : EAGAIN;
	pthread_mutex_unlock(&vm->mtx);
	return (error);
}

int
vm_wire_take(struct vm *vm, int wire, uint8_t *buf, size_t room, size_t *len)
{
	struct vm_wire *w;
	int error = 0;

	*len = 0;
	pthread_mutex_lock(&vm->mtx);
	if ((w = find(vm, wire)) == NULL)
		error = EINVAL;
	else if (w->count > room)
		error = ERANGE;
	else {
		*len = w->count;
		memcpy(buf, w->bytes, w->count);
		w->count = 0;
	}
	pthread_mutex_unlock(&vm->mtx);
	return (error);
}

bool
vm_wire_access(struct vm *vm, uint64_t gpa, unsigned size, int dir, uint64_t *data)
{
	bool hit = false;

	if (size != 1 || atomic_load_explicit(&vm->nwires, memory_order_relaxed) == 0)
		return (false);
	pthread_mutex_lock(&vm->mtx);
	for (unsigned i = 0; i < atomic_load(&vm->nwires) && !hit; i++) {
		struct vm_wire *w = &vm->wire[i];

		if (dir == VM_DIR_READ && w->read_on && gpa == w->read_gpa) {
			*data = w->value;
			hit = true;
		} else if (dir == VM_DIR_WRITE && w->write_on && gpa == w->write_gpa)
			hit = keep(w, (uint8_t)*data);
	}
	pthread_mutex_unlock(&vm->mtx);
	return (hit);
}
