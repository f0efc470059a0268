/*
 * The inputs of a guest's interrupt controller: lines of devices, messages,
 * SGIs that a vCPU sends, and the trapped ICC_* registers.
 *
 * Not here: what an interrupt's state does (vgic_v3.c) and the frames
 * (vgic_v3_mmio.c).
 */
#include "vmm/io/vgic.h"

#include <errno.h>

#include "vmm/arm64.h"
#include "vmm/io/vgic_v3_reg.h"

static int
inject(struct hyp *hyp, int self, int vcpuid, uint32_t intid, bool level)
{
	struct vgic_visit v;
	struct vgic_v3_irq *irq;

	if (!vgic_is_attached(hyp))
		return (ENODEV);
	if (intid >= VGIC_I_NUM || (intid < VGIC_PRV_I_NUM) != (vcpuid >= 0) ||
	    (vcpuid >= 0 && (uint32_t)vcpuid >= hyp->maxcpus))
		return (EINVAL);
	vgic_enter(&v, hyp, self);
	irq = vgic_irq(&v, vcpuid, intid);
	if (irq->edge) {
		/* every assertion is an edge: callers do not always lower it */
		irq->level = level;
		if (level) {
			irq->latch = 1;
			vgic_irq_changed(&v, intid, irq);
		}
	} else if (irq->level != level) {
		irq->level = level;
		vgic_irq_changed(&v, intid, irq);
	}
	vgic_leave(&v);
	return (0);
}

int
vgic_inject_irq(struct hyp *hyp, int vcpuid, uint32_t intid, bool level)
{
	return (inject(hyp, -1, vcpuid, intid, level));
}

int
vgic_inject_irq_self(struct hypctx *self, uint32_t intid, bool level)
{
	int id = (int)self->vcpuid;

	return (inject(hypctx_hyp(self), id, intid < VGIC_PRV_I_NUM ? id : -1, intid, level));
}

int
vgic_inject_msi(struct hyp *hyp, uint64_t addr, uint64_t msg)
{
	if (!vgic_is_attached(hyp))
		return (ENODEV);
	if (hyp->vgic.version == 2)
		return (EINVAL); /* it takes no messages */
	if (addr != hyp->vgic.dist_start + GICD_SETSPI_NSR || msg < VGIC_PRV_I_NUM ||
	    msg >= VGIC_I_NUM)
		return (EINVAL);
	return (inject(hyp, -1, -1, (uint32_t)msg, true));
}

/* -- SGIs (IHI 0069, ICC_SGI1R_EL1) ------------------------------------------------- */

static void
sgi_to(struct vgic_visit *v, int cpu, uint32_t intid, bool group0_only)
{
	struct vgic_v3_irq *irq = vgic_irq(v, cpu, intid);

	/* ICC_SGI0R and ASGI1R reach group 0 only; ICC_SGI1R both */
	if (irq == NULL || (irq->group && group0_only))
		return;
	irq->latch = 1;
	vgic_irq_changed(v, intid, irq);
}

static void
send_sgi(struct hypctx *hypctx, uint64_t val, bool group0_only)
{
	struct vgic_visit v;
	uint32_t intid = ICC_SGIR_INTID(val), i;
	uint64_t aff, list;
	int cpu, self = (int)hypctx->vcpuid;

	vgic_enter(&v, hypctx_hyp(hypctx), self);
	if ((val & ICC_SGIR_IRM) != 0) {
		for (i = 0; i < v.vgic->ncpus; i++) {
			if ((int)i != self && hyp_cpu_active(v.hyp, i))
				sgi_to(&v, (int)i, intid, group0_only);
		}
	} else {
		/* Aff3.Aff2.Aff1 and a range of sixteen Aff0 */
		aff = FIELD64(val, 48, 8) << 32 | FIELD64(val, 32, 8) << 16 |
		      FIELD64(val, 16, 8) << 8 | (uint64_t)ICC_SGIR_RS(val) << 4;
		for (list = val & 0xffff; list != 0; list &= list - 1) {
			cpu = vgic_affinity_to_cpu(&v, aff | (uint64_t)__builtin_ctzll(list));
			if (cpu >= 0)
				sgi_to(&v, cpu, intid, group0_only);
		}
	}
	vgic_leave(&v);
}

/* ICC_DIR_EL1, trapped while active interrupts are outside the list registers. */
static void
dir(struct hypctx *hypctx, uint64_t val)
{
	struct vgic_visit v;
	struct vgic_v3_irq *irq;

	if ((hypctx->vgic_v3_regs.ich_vmcr_el2 & ICH_VMCR_VEOIM) == 0)
		return;
	val &= 0xffffff;
	vgic_enter(&v, hypctx_hyp(hypctx), (int)hypctx->vcpuid);
	irq = vgic_irq(&v, (int)hypctx->vcpuid, (uint32_t)val);
	if (irq != NULL) {
		vgic_irq_fetch(&v, irq);
		vgic_irq_deactivate(&v, (uint32_t)val, irq);
	}
	vgic_leave(&v);
}

int
vgic_sysreg(struct hypctx *hypctx, uint32_t enc, int dir_, uint64_t *val)
{
	if (!vgic_is_attached(hypctx_hyp(hypctx)))
		return (ENOENT);
	switch (enc) {
	case ICC_SGI1R_EL1:
	case ICC_SGI0R_EL1:
	case ICC_ASGI1R_EL1:
	case ICC_DIR_EL1:
		break;
	default:
		return (ENOENT);
	}
	/* a GICv2 has no system registers */
	if (dir_ != VM_DIR_WRITE || hypctx_hyp(hypctx)->vgic.version == 2)
		return (EFAULT);
	if (enc == ICC_DIR_EL1)
		dir(hypctx, *val);
	else
		send_sgi(hypctx, *val, enc != ICC_SGI1R_EL1);
	return (0);
}
