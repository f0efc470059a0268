/*
 * A look at a guest's interrupt controller from any process: vm_get_vgic().
 *
 * Every vCPU is frozen first, so that the list registers have been taken back
 * into the state of each interrupt. They have not where the runner was killed
 * inside the guest: then what was loaded counts, as the guest's part is lost.
 * It changes nothing, and waits for a stopped process only for so long.
 */
#include <errno.h>
#include <string.h>

#include "sys/clock.h"
#include "vmm/io/vgic.h"
#include "vmm/io/vgic_v3_reg.h"
#include "vmm/vmm_vm.h"

#define LOCK_WAIT_NS UINT64_C(10000000000)

_Static_assert(VM_VGIC_IRQS == VM_MAXCPU * VGIC_PRV_I_NUM + VGIC_SPI_NUM + VGIC_LPI_NUM,
    "room for all interrupts");
_Static_assert(VGIC_MAXLR == sizeof(((struct vm_vgic_cpu *)0)->lr) / sizeof(uint64_t),
    "room for all list registers");

struct list {
	struct vm_vgic_irq *irqs;
	unsigned room, n;
};

/* `irq` as it would be if its list register were taken back now. */
static void
effective(struct hyp *hyp, const struct vgic_v3_irq *irq, bool *pending, bool *active)
{
	uint64_t lr;

	*pending = vgic_irq_pending(irq);
	*active = irq->active;
	/* of a GICv2 the state has not left (vgic_v2_load) */
	if (hyp->vgic.version == 2 || irq->in_lr == 0 || irq->in_lr > VGIC_MAXLR ||
	    irq->owner < 0 || (uint32_t)irq->owner >= hyp->maxcpus)
		return;
	lr = hyp_ctx(hyp, (unsigned)irq->owner)->vgic_v3_regs.ich_lr_el2[irq->in_lr - 1];
	*pending = *pending || (lr & ICH_LR_PENDING) != 0;
	*active = (lr & ICH_LR_ACTIVE) != 0;
}

/* Another one; false: no room. `cpu` -1: shared. */
static bool
add(struct vgic_visit *v, struct list *list, int cpu, uint32_t intid)
{
	const struct vgic_v3_irq *irq = vgic_irq(v, cpu, intid);
	struct vm_vgic_irq *out;
	bool pending, active;

	if (irq == NULL)
		return (true);
	effective(v->hyp, irq, &pending, &active);
	if (intid >= VGIC_LPI_FIRST && !irq->enabled && !pending && !active)
		return (true);
	if (list->n == list->room)
		return (false);
	out = &list->irqs[list->n++];
	memset(out, 0, sizeof(*out));
	out->intid = intid;
	out->cpu = cpu;
	out->target = irq->target;
	if (intid >= VGIC_PRV_I_NUM && intid < VGIC_I_NUM)
		out->route = irq->irouter;
	out->priority = irq->priority;
	out->group = irq->group;
	out->edge = irq->edge || intid >= VGIC_LPI_FIRST;
	out->line = irq->level;
	out->enabled = irq->enabled;
	out->pending = pending;
	out->active = active;
	return (true);
}

static bool
add_all(struct vgic_visit *v, struct list *list, uint32_t ncpus)
{
	uint32_t c, n;

	for (c = 0; c < ncpus; c++) {
		for (n = 0; n < VGIC_PRV_I_NUM; n++) {
			if (!add(v, list, (int)c, n))
				return (false);
		}
	}
	for (n = VGIC_PRV_I_NUM; n < VGIC_I_NUM; n++) {
		if (!add(v, list, -1, n))
			return (false);
	}
	if (!vgic_its_is_attached(v->hyp))
		return (true);
	for (n = VGIC_LPI_FIRST; n < VGIC_LPI_FIRST + VGIC_LPI_NUM; n++) {
		if (!add(v, list, -1, n))
			return (false);
	}
	return (true);
}

static void
fill_cpu(const struct vgic_v3 *vgic, const struct hypctx *hypctx, struct vm_vgic_cpu *out)
{
	const struct vgic_v3_cpu *cpu = &hypctx->vgic_cpu;
	const struct vgic_v3_regs *regs = &hypctx->vgic_v3_regs;

	memset(out, 0, sizeof(*out));
	out->asleep = cpu->waker != 0;
	out->lpis = cpu->lpis_on != 0;
	if (vgic->version == 2) {
		out->pmr = cpu->v2.pmr;
		out->ctlr = cpu->v2.ctlr;
		out->running = vgic_running(cpu->v2.apr[0] | cpu->v2.apr[1]);
	} else {
		out->pmr = ICH_VMCR_VPMR(regs->ich_vmcr_el2);
		out->running = vgic_running(regs->ich_ap0r_el2 | regs->ich_ap1r_el2);
	}
	out->vmcr = regs->ich_vmcr_el2;
	out->hcr = regs->ich_hcr_el2;
	out->nlr = cpu->lr_last <= VGIC_MAXLR ? cpu->lr_last : VGIC_MAXLR;
	memcpy(out->lr, regs->ich_lr_el2, out->nlr * sizeof(out->lr[0]));
}

static void
fill(struct hyp *hyp, struct vm_vgic *out, uint32_t ncpus)
{
	const struct vgic_v3 *vgic = &hyp->vgic;

	memset(out, 0, sizeof(*out));
	out->version = (int)vgic->version;
	out->ncpus = (int)ncpus;
	out->list_regs = (int)hyp->list_regs;
	out->ctlr = vgic->gicd_ctlr;
	if (vgic->version != 2)
		out->ctlr |= GICD_CTLR_ARE | GICD_CTLR_DS;
	out->dist = vgic->dist_start;
	out->redist = vgic->redist_start;
	if (vgic_its_is_attached(hyp)) {
		out->its = 1;
		out->its_base = hyp_its(hyp)->start;
	}
}

/* With every vCPU frozen. */
static int
look(struct vm *vm, struct vm_vgic *vgic, struct vm_vgic_cpu *cpus, unsigned *count,
    struct vm_vgic_irq *irqs)
{
	struct list list = { .irqs = irqs, .room = *count };
	struct vgic_visit v;
	uint32_t c, ncpus;
	bool fits;
	int error;

	if ((error = vgic_enter_until(&v, vm->hyp, -1, sys_now_ns() + LOCK_WAIT_NS)) != 0)
		return (error);
	ncpus = v.vgic->ncpus < vm->hyp->maxcpus ? v.vgic->ncpus : vm->hyp->maxcpus;
	fill(vm->hyp, vgic, ncpus);
	for (c = 0; c < ncpus; c++)
		fill_cpu(v.vgic, hyp_ctx(vm->hyp, c), &cpus[c]);
	fits = add_all(&v, &list, ncpus);
	vgic_leave(&v);
	*count = list.n;
	return (fits ? 0 : ERANGE);
}

int
vm_get_vgic(struct vm *vm, struct vm_vgic *vgic, struct vm_vgic_cpu *cpus, unsigned *count,
    struct vm_vgic_irq *irqs)
{
	unsigned frozen;
	int error = 0;

	if (!vgic_is_attached(vm->hyp))
		return (ENODEV);
	for (frozen = 0; frozen < vm->hyp->maxcpus; frozen++) {
		if ((error = vcpu_freeze(vm, hyp_ctx(vm->hyp, frozen))) != 0)
			break;
	}
	if (error == 0)
		error = look(vm, vgic, cpus, count, irqs);
	while (frozen-- > 0)
		vcpu_thaw(vm, hyp_ctx(vm->hyp, frozen));
	return (error);
}
