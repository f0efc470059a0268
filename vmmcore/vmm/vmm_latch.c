/*
 * Latches: interrupt status registers that a device raises from any thread and
 * a guest reads and acknowledges, without an exit to userland for either.
 */
#include <errno.h>

#include "vmm/io/vgic.h"
#include "vmm/vmm_vm.h"

int
vm_latch_add(struct vm *vm, uint64_t status_gpa, uint64_t ack_gpa, uint32_t irq, int *latch)
{
	unsigned n;
	int error = 0;

	if (irq != 0 && (irq < VGIC_PRV_I_NUM || irq >= VGIC_I_NUM))
		return (EINVAL);
	pthread_mutex_lock(&vm->line_mtx);
	n = atomic_load(&vm->nlatches);
	if (n == VM_MAX_LATCHES)
		error = ENOSPC;
	else {
		vm->latch[n] = (struct vm_latch){ status_gpa, ack_gpa, irq, 0 };
		*latch = (int)n;
		atomic_store(&vm->nlatches, n + 1);
	}
	pthread_mutex_unlock(&vm->line_mtx);
	return (error);
}

/* Lock held: what is told to the vGIC comes in the order of what happened. */
static void
change(struct vm *vm, struct vm_latch *l, uint32_t bits)
{
	bool before = l->bits != 0, after = bits != 0;

	l->bits = bits;
	if (before != after && l->irq != 0)
		(void)vgic_inject_irq(vm->hyp, -1, l->irq, after);
}

int
vm_latch_change(struct vm *vm, int latch, uint32_t clear, uint32_t set, uint32_t *bits)
{
	struct vm_latch *l;

	if (latch < 0 || (unsigned)latch >= atomic_load(&vm->nlatches))
		return (EINVAL);
	l = &vm->latch[latch];
	pthread_mutex_lock(&vm->line_mtx);
	change(vm, l, (l->bits & ~clear) | set);
	*bits = l->bits;
	pthread_mutex_unlock(&vm->line_mtx);
	return (0);
}

bool
vm_latch_access(struct vm *vm, uint64_t gpa, unsigned size, int dir, uint64_t *data)
{
	unsigned n = atomic_load_explicit(&vm->nlatches, memory_order_acquire);

	if (size != 4)
		return (false);
	/* A latch never goes away, and its addresses never change. */
	for (unsigned i = 0; i < n; i++) {
		struct vm_latch *l = &vm->latch[i];

		if (gpa != (dir == VM_DIR_READ ? l->status_gpa : l->ack_gpa))
			continue;
		pthread_mutex_lock(&vm->line_mtx);
		if (dir == VM_DIR_READ)
			*data = l->bits;
		else
			change(vm, l, l->bits & ~(uint32_t)*data);
		pthread_mutex_unlock(&vm->line_mtx);
		return (true);
	}
	return (false);
}
