/*
 * Where a vCPU spends its instructions: the PCs that the PE shows now and then,
 * counted in a table of fixed size in the control file, so that any process can
 * read it while the guest runs. When an address is new and the table is full, the
 * one seen least makes room and leaves its count behind ("space-saving": Metwally,
 * Agrawal, El Abbadi 2005): whatever has more than 1/VM_HOT of the samples is there,
 * and no count is too high by more than `over`.
 *
 * The vCPU's thread alone writes. A reader may meet an entry that changes hands; it
 * is wrong by no more than `over` then, and right the next time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmm_vm.h"

#define GET(x) atomic_load_explicit(&(x), memory_order_relaxed)
#define PUT(x, v) atomic_store_explicit(&(x), (v), memory_order_relaxed)

void
pcpu_count(struct pcpu *pcpu, struct hypctx *hypctx)
{
	const struct pe_counters *now = pe_counters(pcpu->pe);

#define PE_COUNTER(name, desc) hypctx->stats[PE_STAT_##name] += now->name - pcpu->seen.name;
#include "pe/pe_counter.def"
#undef PE_COUNTER
	pcpu->seen = *now;
}

void
vmm_hot_sample(struct pcpu *pcpu, uint64_t pc)
{
	struct vmm_hot *h;
	unsigned i, least = 0;

	if (pcpu->ctx == NULL)
		return;
	/* A guest that never leaves for userland is counted all the same. */
	pcpu_count(pcpu, pcpu->ctx);
	h = &pcpu->ctx->hot;
	PUT(h->samples, GET(h->samples) + 1);
	for (i = 0; i < VM_HOT && GET(h->at[i].count) != 0; i++) {
		if (GET(h->at[i].pc) == pc) {
			PUT(h->at[i].count, GET(h->at[i].count) + 1);
			return;
		}
		if (GET(h->at[i].count) < GET(h->at[least].count))
			least = i;
	}
	if (i < VM_HOT)
		least = i;
	PUT(h->at[least].over, GET(h->at[least].count));
	PUT(h->at[least].pc, pc);
	PUT(h->at[least].count, GET(h->at[least].count) + 1);
}

/* By what was seen for certain. */
static int
more_first(const void *a, const void *b)
{
	const struct vm_hot *x = a, *y = b;
	uint64_t m = x->count - x->over, n = y->count - y->over;

	return (m < n ? 1 : -(m > n));
}

int
vm_get_hot(struct vm *vm, int vcpu, unsigned *count, struct vm_hot *hot, uint64_t *samples)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	struct vm_hot all[VM_HOT];
	unsigned n = 0;

	if (hypctx == NULL)
		return (EINVAL);
	*samples = GET(hypctx->hot.samples);
	for (; n < VM_HOT && GET(hypctx->hot.at[n].count) != 0; n++) {
		all[n].pc = GET(hypctx->hot.at[n].pc);
		all[n].count = GET(hypctx->hot.at[n].count);
		all[n].over = GET(hypctx->hot.at[n].over);
	}
	qsort(all, n, sizeof(all[0]), more_first);
	if (n < *count)
		*count = n;
	memcpy(hot, all, *count * sizeof(all[0]));
	return (0);
}
