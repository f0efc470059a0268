/*
 * The features of a VM's CPUs: what there is to choose from, and what was
 * chosen. What a feature does is the PE's business (pe/cpu_model.c).
 */
#include <errno.h>

#include "vmm/vmm_vm.h"

int
vm_feature_name(unsigned n, const char **name, const char **desc)
{
	*name = pe_feature_name(n, desc);
	return (*name == NULL ? ENOENT : 0);
}

int
vm_cpu_model(unsigned n, const char **name, uint64_t *features)
{
	*name = pe_cpu_model(n, features);
	return (*name == NULL ? ENOENT : 0);
}

int
vm_feature_switch(uint64_t *features, unsigned n, bool on)
{
	if (n >= PE_FEAT_COUNT)
		return (EINVAL);
	pe_feature_switch(features, n, on);
	return (0);
}

int
vm_get_features(struct vm *vm, uint64_t *features)
{
	*features = vm->hyp->features;
	return (0);
}
