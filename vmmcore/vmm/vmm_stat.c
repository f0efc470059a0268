/* Statistics of a vCPU for userland: names and values (stats.def). */
#include <errno.h>
#include <string.h>

#include "vmm/vmm_vm.h"

static const char *const desc_of[] = {
#define VMM_STAT(name, desc) desc,
#include "vmm/stats.def"
#undef VMM_STAT
#define PE_COUNTER(name, desc) desc,
#include "pe/pe_counter.def"
#undef PE_COUNTER
};
_Static_assert(sizeof(desc_of) / sizeof(desc_of[0]) == VMM_STAT_COUNT, "one name each");
_Static_assert(VMM_STAT_COUNT <= VM_MAX_STATS, "fits the API");

int
vm_stat_desc(unsigned index, const char **desc)
{
	if (index >= VMM_STAT_COUNT)
		return (ENOENT);
	*desc = desc_of[index];
	return (0);
}

int
vm_get_stats(struct vm *vm, int vcpu, unsigned count, uint64_t *vals)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);

	if (hypctx == NULL)
		return (EINVAL);
	for (unsigned i = 0; i < count; i++)
		vals[i] = i < VMM_STAT_COUNT ? hypctx->stats[i] : 0;
	return (0);
}

int
vm_get_irqs(struct vm *vm, int vcpu, unsigned count, uint64_t *acked)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);

	if (hypctx == NULL || count > VM_IRQS)
		return (EINVAL);
	memcpy(acked, hypctx->acked, count * sizeof(acked[0]));
	return (0);
}
