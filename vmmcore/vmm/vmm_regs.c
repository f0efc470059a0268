/*
 * Registers of a vCPU by number, for userland: the general ones by FreeBSD's
 * numbers, system registers by MRS encoding. Values are those in struct
 * hypctx; a vCPU is frozen for as long as they are read or written.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/hyp.h"
#include "vmm/vmm_vm.h"

/* SPSR_EL2.M: EL0t, EL1t, EL1h in AArch64; nothing else is a guest's. */
static bool
pstate_ok(uint64_t ps)
{
	uint64_t m = ps & 0x1f;

	return (m == 0x00 || m == 0x04 || m == 0x05);
}

static uint64_t *
sysreg_slot(struct hypctx *hypctx, uint32_t enc, bool *writable)
{
	for (unsigned i = 0; i < hyp_regs_count; i++) {
		if (hyp_regs[i].enc == enc) {
			*writable = (hyp_regs[i].flags & HYP_EL2) == 0;
			return (hyp_reg(hypctx, i));
		}
	}
	return (NULL);
}

/* Registers with a FreeBSD number that are system registers. */
static const struct {
	int reg;
	uint32_t enc;
} alias[] = {
	{ VM_REG_GUEST_SP, PE_SYSREG(3, 4, 4, 1, 0) },
	{ VM_REG_GUEST_SCTLR_EL1, PE_SYSREG(3, 0, 1, 0, 0) },
	{ VM_REG_GUEST_TTBR0_EL1, PE_SYSREG(3, 0, 2, 0, 0) },
	{ VM_REG_GUEST_TTBR1_EL1, PE_SYSREG(3, 0, 2, 0, 1) },
	{ VM_REG_GUEST_TCR_EL1, PE_SYSREG(3, 0, 2, 0, 2) },
	{ VM_REG_GUEST_TCR2_EL1, PE_SYSREG(3, 0, 2, 0, 3) },
};

/* Where a register lives; NULL: unknown. */
static uint64_t *
slot(struct hypctx *hypctx, int reg, bool *writable)
{
	*writable = true;
	if (reg >= VM_REG_GUEST_X0 && reg <= VM_REG_GUEST_LR)
		return (&hypctx->tf.tf_x[reg]);
	if (reg >= VM_REG_GUEST_V0 && reg < VM_REG_GUEST_V_END)
		return (&hypctx->tf.tf_v[(reg - VM_REG_GUEST_V0) / 2][(reg - VM_REG_GUEST_V0) % 2]);
	if (reg >= VM_REG_SYSREG && reg < VM_REG_SYSREG + 0x10000)
		return (sysreg_slot(hypctx, (uint32_t)(reg - VM_REG_SYSREG), writable));
	for (unsigned i = 0; i < sizeof(alias) / sizeof(alias[0]); i++) {
		if (alias[i].reg == reg)
			return (sysreg_slot(hypctx, alias[i].enc, writable));
	}
	switch (reg) {
	case VM_REG_GUEST_PC:
		return (&hypctx->tf.tf_elr);
	case VM_REG_GUEST_CPSR:
		return (&hypctx->tf.tf_spsr);
	case VM_REG_GUEST_MPIDR_EL1:
		return (&hypctx->vmpidr_el2);
	default:
		return (NULL);
	}
}

static int
set_check(struct hypctx *hypctx, int reg, uint64_t val)
{
	bool writable;

	if (slot(hypctx, reg, &writable) == NULL)
		return (EINVAL);
	if (!writable)
		return (EPERM);
	if (reg == VM_REG_GUEST_CPSR && !pstate_ok(val))
		return (EINVAL);
	return (0);
}

int
vm_get_register_set(struct vm *vm, int vcpu, unsigned count, const int *regs, uint64_t *vals)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	bool writable;
	int error;

	if (hypctx == NULL)
		return (EINVAL);
	for (unsigned i = 0; i < count; i++) {
		if (slot(hypctx, regs[i], &writable) == NULL)
			return (EINVAL);
	}
	if ((error = vcpu_freeze(vm, hypctx)) != 0)
		return (error);
	for (unsigned i = 0; i < count; i++)
		vals[i] = *slot(hypctx, regs[i], &writable);
	vcpu_thaw(vm, hypctx);
	return (0);
}

int
vm_set_register_set(struct vm *vm, int vcpu, unsigned count, const int *regs,
    const uint64_t *vals)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	bool writable;
	int error;

	if (hypctx == NULL)
		return (EINVAL);
	for (unsigned i = 0; i < count; i++) {
		if ((error = set_check(hypctx, regs[i], vals[i])) != 0)
			return (error);
	}
	if ((error = vcpu_freeze(vm, hypctx)) != 0)
		return (error);
	for (unsigned i = 0; i < count; i++) {
		*slot(hypctx, regs[i], &writable) = vals[i];
		if (regs[i] == VM_REG_GUEST_PC) {
			/* Whatever was half done is not done at the new place. */
			hypctx->pending = PENDING_NONE;
			hypctx->vie.active = 0;
		}
	}
	vcpu_thaw(vm, hypctx);
	return (0);
}

int
vm_get_register(struct vm *vm, int vcpu, int reg, uint64_t *val)
{
	return (vm_get_register_set(vm, vcpu, 1, &reg, val));
}

int
vm_set_register(struct vm *vm, int vcpu, int reg, uint64_t val)
{
	return (vm_set_register_set(vm, vcpu, 1, &reg, &val));
}

int
vm_sysreg_info(unsigned n, char *name, int *reg)
{
	const char *s;
	unsigned left = n;

	/* The n-th one that the silicon has. */
	for (unsigned i = 0; i < hyp_regs_count; i++) {
		if ((s = pe_sysreg_name(hyp_regs[i].enc)) == NULL || left-- != 0)
			continue;
		(void)snprintf(name, 32, "%s", s);
		*reg = VM_REG_SYSREG + (int)hyp_regs[i].enc;
		return (0);
	}
	return (ENOENT);
}
