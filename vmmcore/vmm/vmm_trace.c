/*
 * The last exits of a VM, in a ring in the control file that any process reads
 * while the guest runs. A slot is valid for who finds its sequence number before
 * and after reading it; writers take numbers from one counter. Off, it costs a
 * load per exit.
 *
 * An event is shown when its exit was served: a read then has its value, which
 * userland may have given. Its time is that of the exit.
 */
#include <errno.h>
#include <string.h>

#include "sys/clock.h"
#include "vmm/hyp.h"
#include "vmm/io/vgic_v3_reg.h"

/* A reader that died leaves it on; this many events after the last read it goes off. */
#define UNREAD (64u * VM_TRACE_RING)

static void
publish(struct hypctx *hypctx, const struct vm_trace_event *e)
{
	struct vmm_trace *t = &hypctx_hyp(hypctx)->trace;
	uint64_t seq = atomic_fetch_add(&t->next, 1);
	struct vmm_trace_slot *slot = &t->slot[seq % VM_TRACE_RING];

	if (seq - atomic_load(&t->read) > UNREAD) {
		atomic_store(&t->on, 0);
		return;
	}
	atomic_store(&slot->seq, 0);
	slot->e = *e;
	atomic_store(&slot->seq, seq + 1);
}

/* The register that a trapped MSR, MRS or a data abort moves, 32: none. */
static unsigned
moved(uint64_t esr)
{
	if (ESR_EC(esr) == EC_MSR_TRAP)
		return ((unsigned)(esr >> 5) & 31);
	if (ESR_EC(esr) == EC_DATA_ABORT_LOWER && (esr & ISS_ISV) != 0)
		return ((unsigned)(esr >> 16) & 31);
	return (32);
}

static bool
reads(uint64_t esr)
{
	if (ESR_EC(esr) == EC_MSR_TRAP)
		return ((esr & 1) != 0);
	return (ESR_EC(esr) == EC_DATA_ABORT_LOWER && (esr & ISS_WNR) == 0);
}

void
vmm_trace_exit(struct hypctx *hypctx, int type)
{
	struct vm_trace_event *e = &hypctx->traced;
	uint64_t esr = type == EXCP_TYPE_EL1_SYNC ? hypctx->tf.tf_esr : 0;
	unsigned rt = moved(esr);

	if (hypctx->trace_open != 0) /* a read that nobody completed */
		publish(hypctx, e);
	memset(e, 0, sizeof(*e));
	e->time_ns = sys_now_ns();
	e->vcpu = (int)hypctx->vcpuid;
	e->type = type;
	e->pc = hypctx->tf.tf_elr;
	e->esr = esr;
	e->far = hypctx->exit_info.far_el2;
	e->hpfar = hypctx->exit_info.hpfar_el2;
	e->value = rt < 32 ? hypctx_x(hypctx, rt) : hypctx->tf.tf_x[0];
	hypctx->trace_open = 1;
}

void
vmm_trace_intid(struct hypctx *hypctx, uint32_t intid)
{
	hypctx->traced.intid = (int)intid;
}

void
vmm_trace_served(struct hypctx *hypctx)
{
	struct vm_trace_event *e = &hypctx->traced;

	if (hypctx->trace_open == 0)
		return;
	if (reads(e->esr)) {
		if (hypctx->pending == PENDING_INST_EMUL || hypctx->pending == PENDING_REG_EMUL)
			return; /* userland knows the value */
		/* Done, when the guest goes on behind it. */
		if (hypctx->tf.tf_elr == e->pc + 4 && moved(e->esr) < 32) {
			e->value = hypctx_x(hypctx, moved(e->esr));
			e->loaded = 1;
		}
	}
	hypctx->trace_open = 0;
	publish(hypctx, e);
}

/*
 * List registers are filled again for each stay in the guest: an interrupt is new
 * when it was not in one at the end of the stay before.
 */
void
vmm_trace_enter(struct hypctx *hypctx)
{
	struct vm_trace_event e = {
		.vcpu = (int)hypctx->vcpuid, .type = VM_TRACE_VIRQ, .pc = hypctx->tf.tf_elr
	};

	for (unsigned i = 0; i < hypctx->vgic_cpu.lr_used; i++) {
		bool told = false;

		for (unsigned k = 0; k < hypctx->trace_nlr && k < 16; k++)
			told = told || hypctx->trace_lr[k] == hypctx->vgic_cpu.lr_irq[i];
		if (told)
			continue;
		e.time_ns = sys_now_ns();
		e.intid = hypctx->vgic_cpu.lr_irq[i];
		publish(hypctx, &e);
	}
}

void
vmm_trace_leave(struct hypctx *hypctx)
{
	unsigned n = 0;

	for (unsigned i = 0; i < hypctx->vgic_cpu.lr_used && i < 16; i++)
		if ((hypctx->vgic_v3_regs.ich_lr_el2[i] & (ICH_LR_PENDING | ICH_LR_ACTIVE)) != 0)
			hypctx->trace_lr[n++] = hypctx->vgic_cpu.lr_irq[i];
	hypctx->trace_nlr = n;
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
