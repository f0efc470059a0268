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

/* Where a register is kept. */
struct slot {
	void *at; /* NULL: unknown */
	size_t size;
	bool writable;
};

/* The timer's, which are not in hyp_regs.def. */
#define TIMER(field, ...)                                                          \
	{                                                                          \
		PE_SYSREG(__VA_ARGS__), offsetof(struct hypctx, vtimer_cpu.field), \
		    sizeof(((struct hypctx *)0)->vtimer_cpu.field)                 \
	}
static const struct {
	uint32_t enc;
	size_t offset, size;
} timer_regs[] = {
	TIMER(cntkctl_el1, 3, 0, 14, 1, 0),
	TIMER(virt_timer.cntx_ctl_el0, 3, 3, 14, 3, 1),
	TIMER(virt_timer.cntx_cval_el0, 3, 3, 14, 3, 2),
	TIMER(phys_timer.cntx_ctl_el0, 3, 3, 14, 2, 1),
	TIMER(phys_timer.cntx_cval_el0, 3, 3, 14, 2, 2),
};
#define TIMER_REGS (sizeof(timer_regs) / sizeof(timer_regs[0]))

static struct slot
sysreg_slot(struct hypctx *hypctx, uint32_t enc)
{
	for (unsigned i = 0; i < hyp_regs_count; i++) {
		if (hyp_regs[i].enc == enc)
			return ((struct slot){
			    hyp_reg(hypctx, i), 8, (hyp_regs[i].flags & HYP_EL2) == 0 });
	}
	for (unsigned i = 0; i < TIMER_REGS; i++) {
		if (timer_regs[i].enc == enc)
			return ((struct slot){
			    (char *)hypctx + timer_regs[i].offset, timer_regs[i].size, true });
	}
	return ((struct slot){ NULL, 0, false });
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

static struct slot
find(struct hypctx *hypctx, int reg)
{
	if (reg >= VM_REG_GUEST_X0 && reg <= VM_REG_GUEST_LR)
		return ((struct slot){ &hypctx->tf.tf_x[reg], 8, true });
	if (reg >= VM_REG_GUEST_V0 && reg < VM_REG_GUEST_V_END) {
		reg -= VM_REG_GUEST_V0;
		return ((struct slot){ &hypctx->tf.tf_v[reg / 2][reg % 2], 8, true });
	}
	if (reg >= VM_REG_SYSREG && reg < VM_REG_SYSREG + 0x10000)
		return (sysreg_slot(hypctx, (uint32_t)(reg - VM_REG_SYSREG)));
	for (unsigned i = 0; i < sizeof(alias) / sizeof(alias[0]); i++) {
		if (alias[i].reg == reg)
			return (sysreg_slot(hypctx, alias[i].enc));
	}
	switch (reg) {
	case VM_REG_GUEST_PC:
		return ((struct slot){ &hypctx->tf.tf_elr, 8, true });
	case VM_REG_GUEST_CPSR:
		return ((struct slot){ &hypctx->tf.tf_spsr, 8, true });
	case VM_REG_GUEST_MPIDR_EL1:
		return ((struct slot){ &hypctx->vmpidr_el2, 8, true });
	default:
		return ((struct slot){ NULL, 0, false });
	}
}

static int
set_check(struct hypctx *hypctx, int reg, uint64_t val)
{
	struct slot s = find(hypctx, reg);

	if (s.at == NULL)
		return (EINVAL);
	if (!s.writable)
		return (EPERM);
	if (reg == VM_REG_GUEST_CPSR && !pstate_ok(val))
		return (EINVAL);
	return (0);
}

int
vm_get_register_set(struct vm *vm, int vcpu, unsigned count, const int *regs, uint64_t *vals)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	struct slot s;
	int error;

	if (hypctx == NULL)
		return (EINVAL);
	for (unsigned i = 0; i < count; i++) {
		if (find(hypctx, regs[i]).at == NULL)
			return (EINVAL);
	}
	if ((error = vcpu_freeze(vm, hypctx)) != 0)
		return (error);
	for (unsigned i = 0; i < count; i++) {
		s = find(hypctx, regs[i]);
		vals[i] = 0;
		memcpy(&vals[i], s.at, s.size);
	}
	vcpu_thaw(vm, hypctx);
	return (0);
}

int
vm_set_register_set(struct vm *vm, int vcpu, unsigned count, const int *regs, const uint64_t *vals)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	struct slot s;
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
		s = find(hypctx, regs[i]);
		memcpy(s.at, &vals[i], s.size);
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
	uint32_t enc;
	const char *s;
	unsigned left = n;

	/* The n-th one that the silicon has. */
	for (unsigned i = 0; i < hyp_regs_count + TIMER_REGS; i++) {
		enc = i < hyp_regs_count ? hyp_regs[i].enc : timer_regs[i - hyp_regs_count].enc;
		if ((s = pe_sysreg_name(enc)) == NULL || left-- != 0)
			continue;
		(void)snprintf(name, 32, "%s", s);
		*reg = VM_REG_SYSREG + (int)enc;
		return (0);
	}
	return (ENOENT);
}
