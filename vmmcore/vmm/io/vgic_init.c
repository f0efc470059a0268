/*
 * The shape of a guest's GIC: creation and attaching, reset of a vCPU's part,
 * which vCPU has which affinity, where interrupts are routed. What happens to
 * interrupts is in vgic_v3.c.
 */
#include "vmm/io/vgic.h"

#include <errno.h>
#include <string.h>

#include "vmm/arm64.h"
#include "vmm/io/vgic_v3_reg.h"

/* -- affinity ---------------------------------------------------------------------- */

uint64_t
vgic_vcpu_affinity(unsigned vcpuid)
{
	/* SGIs without range selector reach 16 vCPUs of a cluster */
	return ((vcpuid & 0xf) | ((uint64_t)(vcpuid >> 4) & 0xff) << 8 |
		((uint64_t)(vcpuid >> 12) & 0xff) << 16 | ((uint64_t)(vcpuid >> 20) & 0xff) << 32);
}

int
vgic_affinity_to_cpu(struct vgic_visit *v, uint64_t affinity)
{
	uint64_t id = (affinity & 0xf) | FIELD64(affinity, 8, 8) << 4 |
		      FIELD64(affinity, 16, 8) << 12 | FIELD64(affinity, 32, 8) << 20;

	if ((affinity & 0xf0) != 0 || id >= v->vgic->ncpus)
		return (-1);
	return ((int)id);
}

int
vgic_route(struct vgic_visit *v, uint64_t irouter)
{
	uint32_t i, c;

	if ((irouter & GICD_IROUTER_IRM) == 0)
		return (vgic_affinity_to_cpu(v, irouter & GIC_AFFINITY));
	/* 1 of N: the next vCPU that is up and awake */
	for (i = 0; i < v->vgic->ncpus; i++) {
		c = (v->vgic->one_of_n + i) % v->vgic->ncpus;
		if (hyp_cpu_active(v->hyp, c) && hyp_ctx(v->hyp, c)->vgic_cpu.waker == 0) {
			v->vgic->one_of_n = (c + 1) % v->vgic->ncpus;
			return ((int)c);
		}
	}
	return (0);
}

/* -- creation ----------------------------------------------------------------------- */

static void
irq_init(struct vgic_v3_irq *irq, int target)
{
	memset(irq, 0, sizeof(*irq));
	irq->target = (int16_t)target;
	irq->owner = -1;
	/*
	 * IGROUPR is UNKNOWN at reset. Group 1, because kernels of the time of
	 * the first hypervisors never wrote it.
	 */
	irq->group = 1;
}

int
vgic_vminit(struct hyp *hyp)
{
	struct vgic_v3 *vgic = &hyp->vgic;
	unsigned i;
	int error;

	if ((error = sys_lock_init(&vgic->lock)) != 0)
		return (error);
	for (i = 0; i < VGIC_SPI_NUM; i++)
		irq_init(&vgic->spi[i], 0);
	return (0);
}

void
vgic_cpuinit(struct hypctx *hypctx)
{
	struct hyp *hyp = hypctx_hyp(hypctx);
	struct vgic_v3_cpu *cpu = &hypctx->vgic_cpu;
	struct vgic_v3_regs *regs = &hypctx->vgic_v3_regs;
	struct vgic_visit v;
	uint32_t n;

	vgic_enter(&v, hyp, (int)hypctx->vcpuid);
	if (cpu->present) {
		/* a reset of the core: its redistributor stays, but nothing is active */
		vgic_drop_active(&v, (int)hypctx->vcpuid);
	} else {
		for (n = 0; n < VGIC_PRV_I_NUM; n++) {
			irq_init(&cpu->irq[n], (int)hypctx->vcpuid);
			if (n < VGIC_SGI_NUM)
				cpu->irq[n].enabled = cpu->irq[n].edge = 1;
		}
		cpu->irq[GT_VIRT_IRQ].hw = 1;
		cpu->irq[PMU_IRQ].hw = ((hyp->features >> PE_FEAT_PMUv3) & 1) != 0;
		cpu->waker = 1;
		cpu->present = 1;
	}
	cpu->vcpuid = hypctx->vcpuid;
	cpu->lr_used = cpu->lr_last = cpu->lr_pending = cpu->evicted = 0;
	vgic_v2_cpuinit(&cpu->v2);
	atomic_store(&cpu->in_guest, 0);

	memset(regs, 0, sizeof(*regs));
	regs->ich_lr_num = hyp->list_regs >= 1 && hyp->list_regs <= VGIC_MAXLR ? hyp->list_regs : 1;
	/*
	 * ICH_VMCR_EL2 at reset:
	 *	VPMR 0xf8	nothing masked: kernels that never write ICC_PMR
	 *	VBPR0/1 2, 3	the smallest: every priority preempts
	 *	VENG0/1		both groups on
	 */
	regs->ich_vmcr_el2 = (UINT64_C(0xf8) << 24) | (UINT64_C(2) << 21) | (UINT64_C(3) << 18) |
			     ICH_VMCR_VFIQEN | ICH_VMCR_VENG(0) | ICH_VMCR_VENG(1);
	regs->ich_hcr_el2 = ICH_HCR_EN;

	vgic_leave(&v);
}

void
vgic_cpu_off(struct hypctx *hypctx)
{
	struct vgic_visit v;

	vgic_enter(&v, hypctx_hyp(hypctx), (int)hypctx->vcpuid);
	vgic_cpu_sleep(&v, (int)hypctx->vcpuid, true);
	vgic_leave(&v);
}

static int
attach(struct hyp *hyp, uint32_t version, uint64_t dist, uint64_t dist_size, uint64_t other,
    uint64_t other_size, uint32_t ncpus)
{
	struct vgic_v3 *vgic = &hyp->vgic;
	struct vgic_visit v;
	int error = 0;

	if (dist + dist_size < dist || other + other_size < other ||
	    (dist < other + other_size && other < dist + dist_size))
		return (EINVAL);
	vgic_enter(&v, hyp, -1);
	if (vgic->attached) {
		error = EBUSY;
	} else {
		vgic->dist_start = dist;
		vgic->dist_end = dist + dist_size;
		vgic->redist_start = other;
		vgic->redist_end = other + other_size;
		vgic->ncpus = ncpus;
		vgic->version = version;
		if (version == 2)
			vgic_v2_init(&v);
		vgic->attached = 1;
		atomic_store(&hyp->vgic_attached, 1);
	}
	vgic_leave(&v);
	return (error);
}

int
vgic_attach_to_vm(
    struct hyp *hyp, uint64_t dist, uint64_t dist_size, uint64_t redist, uint64_t redist_size)
{
	uint64_t n = redist_size / GICR_FRAME_SIZE;

	if (dist % GICD_FRAME_SIZE != 0 || redist % GICR_RD_SIZE != 0 ||
	    dist_size != GICD_FRAME_SIZE || n == 0 || redist_size % GICR_FRAME_SIZE != 0 ||
	    n > hyp->maxcpus)
		return (EINVAL);
	return (attach(hyp, 3, dist, dist_size, redist, redist_size, (uint32_t)n));
}

int
vgic_v2_attach(struct hyp *hyp, uint64_t dist, uint64_t dist_size, uint64_t cpuif,
    uint64_t cpuif_size, uint32_t ncpus)
{
	if (dist % GICV2_FRAME_SIZE != 0 || cpuif % GICV2_FRAME_SIZE != 0 ||
	    dist_size < GICV2_FRAME_SIZE || cpuif_size < 2 * GICV2_FRAME_SIZE || ncpus == 0 ||
	    ncpus > hyp->maxcpus || ncpus > VGIC_V2_CPUS)
		return (EINVAL);
	return (attach(hyp, 2, dist, dist_size, cpuif, cpuif_size, ncpus));
}

int
vgic_set_list_regs(struct hyp *hyp, uint32_t n)
{
	struct vgic_visit v;
	uint32_t c;
	int error = 0;

	if (n < 1 || n > VGIC_MAXLR)
		return (EINVAL);
	vgic_enter(&v, hyp, -1);
	if (hyp->vgic.attached) {
		error = EBUSY;
	} else {
		hyp->list_regs = n;
		for (c = 0; c < hyp->maxcpus; c++)
			hyp_ctx(hyp, c)->vgic_v3_regs.ich_lr_num = n;
	}
	vgic_leave(&v);
	return (error);
}

bool
vgic_is_attached(struct hyp *hyp)
{
	return (atomic_load(&hyp->vgic_attached) != 0);
}
