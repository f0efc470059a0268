/*
 * The last exits of a VM, in a ring in the control file that any process reads
 * while the guest runs. A slot is valid for who finds its sequence number before
 * and after reading it; writers take numbers from one counter. Off, it costs a
 * load per exit.
 */
#include <errno.h>
#include <string.h>

#include "sys/clock.h"
#include "vmm/hyp.h"

/* A reader that died leaves it on; this many events after the last read it goes off. */
#define UNREAD (64u * VM_TRACE_RING)

void
vmm_trace_exit(struct hypctx *hypctx, int type)
{
	struct vmm_trace *t = &hypctx_hyp(hypctx)->trace;
	uint64_t seq = atomic_fetch_add(&t->next, 1), esr = hypctx->tf.tf_esr;
	struct vmm_trace_slot *slot = &t->slot[seq % VM_TRACE_RING];

	if (seq - atomic_load(&t->read) > UNREAD) {
		atomic_store(&t->on, 0);
		return;
	}
	atomic_store(&slot->seq, 0);
	slot->e.time_ns = sys_now_ns();
	slot->e.vcpu = (int)hypctx->vcpuid;
	slot->e.type = type;
	slot->e.pc = hypctx->tf.tf_elr;
	slot->e.esr = type == EXCP_TYPE_EL1_SYNC ? esr : 0;
	slot->e.far = hypctx->exit_info.far_el2;
	slot->e.hpfar = hypctx->exit_info.hpfar_el2;
	/* The register of a trapped MSR or of a data abort; else x0, for calls. */
	if (ESR_EC(esr) == EC_MSR_TRAP)
		slot->e.value = hypctx_x(hypctx, (unsigned)(esr >> 5) & 31);
	else if (ESR_EC(esr) == EC_DATA_ABORT_LOWER)
		slot->e.value = hypctx_x(hypctx, (unsigned)(esr >> 16) & 31);
	else
		slot->e.value = hypctx->tf.tf_x[0];
	atomic_store(&slot->seq, seq + 1);
}

int
vm_trace(struct vm *vm, bool on, uint64_t *seq)
{
	struct vmm_trace *t = &vm->hyp->trace;

	*seq = atomic_load(&t->next);
	atomic_store(&t->read, *seq);
	atomic_store(&t->on, on ? 1u : 0u);
	return (0);
}

int
vm_trace_read(struct vm *vm, uint64_t *seq, unsigned *count, struct vm_trace_event *events)
{
	struct vmm_trace *t = &vm->hyp->trace;
	uint64_t next = atomic_load(&t->next);
	unsigned n = 0;

	if (*seq > next)
		return (EINVAL);
	/* What was written over is lost: the caller sees it by the number. */
	if (next - *seq > VM_TRACE_RING)
		*seq = next - VM_TRACE_RING;
	for (; n < *count && *seq < next; (*seq)++) {
		struct vmm_trace_slot *slot = &t->slot[*seq % VM_TRACE_RING];

		if (atomic_load(&slot->seq) != *seq + 1)
			continue;
		events[n] = slot->e;
		events[n].seq = *seq;
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load(&slot->seq) == *seq + 1)
			n++;
	}
	atomic_store(&t->read, *seq);
	*count = n;
	return (0);
}
