/*
 * The debugger's use of a vCPU: breakpoint exits, single step, interrupts held
 * back, breakpoints and watchpoints of its own (VM_CAP_BRK_EXIT, SS_EXIT,
 * MASK_HWINTR, vm_set_debug()).
 *
 * While there is any of it but the mask, MDCR_EL2.TDE sends debug exceptions to
 * EL2, the debugger's registers are in the PE in place of the guest's, and the
 * guest's own accesses to them trap and act on what struct hypctx keeps
 * (vmm_sysreg.c). So the guest cannot tell, but that its own breakpoints,
 * watchpoints and steps rest meanwhile.
 */
#include <errno.h>

#include "vmm/hyp.h"
#include "vmm/io/vgic_v3_reg.h"

#define MDSCR_SS UINT64_C(1)
#define MDSCR_MDE (UINT64_C(1) << 15)
#define MDCR_TDE (UINT64_C(1) << 8)
#define CR_E UINT64_C(1)

static bool
has(const struct hypctx *hypctx, enum vm_cap_type cap)
{
	return (((hypctx->caps >> cap) & 1) != 0);
}

static bool
active(const struct hypctx *hypctx)
{
	return (
	    has(hypctx, VM_CAP_BRK_EXIT) || has(hypctx, VM_CAP_SS_EXIT) || hypctx->debug_hw != 0);
}

static void
swap(uint64_t *a, uint64_t *b)
{
	uint64_t t = *a;

	*a = *b;
	*b = t;
}

/* The guest's registers, which wait in debug_regs, for the debugger's, and back. */
static void
swap_regs(struct hypctx *hypctx)
{
	struct vm_debug *d = &hypctx->debug_regs;

#define SWAP(n)                                     \
	swap(&hypctx->dbgbvr##n##_el1, &d->bvr[n]); \
	swap(&hypctx->dbgbcr##n##_el1, &d->bcr[n]); \
	swap(&hypctx->dbgwvr##n##_el1, &d->wvr[n]); \
	swap(&hypctx->dbgwcr##n##_el1, &d->wcr[n]);
	SWAP(0)
	SWAP(1)
	SWAP(2)
	SWAP(3)
	SWAP(4)
	SWAP(5)
	SWAP(6)
	SWAP(7)
	SWAP(8)
	SWAP(9)
	SWAP(10)
	SWAP(11)
	SWAP(12)
	SWAP(13)
	SWAP(14)
	SWAP(15)
#undef SWAP
	swap(&hypctx->mdscr_el1, &hypctx->debug_mdscr);
}

void
vmm_debug_enter(struct hypctx *hypctx)
{
	hypctx->mdcr_el2 &= ~MDCR_TDE;
	if (has(hypctx, VM_CAP_MASK_HWINTR))
		hypctx->vgic_v3_regs.ich_hcr_el2 &= ~ICH_HCR_EN;
	if (!active(hypctx))
		return;
	hypctx->mdcr_el2 |= MDCR_TDE;
	hypctx->debug_mdscr = hypctx->debug_hw != 0 ? MDSCR_MDE : 0;
	hypctx->debug_spsr = hypctx->tf.tf_spsr & PSR_SS;
	if (has(hypctx, VM_CAP_SS_EXIT)) {
		hypctx->debug_mdscr |= MDSCR_SS;
		hypctx->tf.tf_spsr |= PSR_SS;
	}
	swap_regs(hypctx);
	hypctx->debug_in = 1;
}

void
vmm_debug_leave(struct hypctx *hypctx)
{
	if (hypctx->debug_in == 0)
		return;
	hypctx->debug_in = 0;
	swap_regs(hypctx);
	hypctx->tf.tf_spsr = (hypctx->tf.tf_spsr & ~PSR_SS) | hypctx->debug_spsr;
}

void
vmm_debug_stepped(struct hypctx *hypctx)
{
	if (has(hypctx, VM_CAP_SS_EXIT))
		hypctx->debug_stepped = 1;
}

bool
vmm_debug_step_over(struct hypctx *hypctx)
{
	bool over = hypctx->debug_stepped != 0 && has(hypctx, VM_CAP_SS_EXIT);

	hypctx->debug_stepped = 0;
	return (over);
}

bool
vmm_debug_wants(const struct hypctx *hypctx)
{
	/* BRK of the guest itself, unless the debugger has asked for them. */
	return (ESR_EC(hypctx->tf.tf_esr) != EC_BRK || has(hypctx, VM_CAP_BRK_EXIT));
}

int
vm_set_debug(struct vm *vm, int vcpu, const struct vm_debug *regs)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	int error;

	if ((error = vcpu_freeze(vm, hypctx)) != 0)
		return (error);
	hypctx->debug_regs = *regs;
	hypctx->debug_hw = 0;
	for (unsigned i = 0; i < 16; i++)
		if (((regs->bcr[i] | regs->wcr[i]) & CR_E) != 0)
			hypctx->debug_hw = 1;
	vcpu_thaw(vm, hypctx);
	return (0);
}
