/*
 * The interrupt controller of a guest as the rest of vmm/ sees it.
 *
 * The run loop of a vCPU, once an entry:
 *
 *	hypctx->kick = 0, then the reasons are looked at
 *	vtimer_flush_hwstate(hypctx, now)      timer lines
 *	vgic_flush_hwstate(hypctx)             list registers into hypctx
 *	  world switch: vgic_v3_restore(pe, regs), vtimer_restore(pe, ...)
 *	  pe_run
 *	  world switch: vtimer_save(pe, ...), vgic_v3_save(pe, regs)
 *	vgic_sync_hwstate(hypctx)              list registers back into the state
 *	vtimer_sync_hwstate(hypctx, now)       timer lines
 *	vector IRQ: vgic_host_irq(pe), nothing else to do
 *
 * Locks: hyp->vgic.lock is a leaf. vcpu_notify() is called without it.
 */
#ifndef VMM_IO_VGIC_H
#define VMM_IO_VGIC_H

#include "vmm/io/vgic_v3.h"

struct vm;

/* At VM creation. The control file is zero; 0 or an errno value. */
int vgic_vminit(struct hyp *hyp);
/*
 * At creation and at reset (CPU_ON) of a vCPU: its SGIs, PPIs and interface
 * registers. hypctx->vcpuid and hyp->list_regs must be set.
 */
void vgic_cpuinit(struct hypctx *hypctx);
/* The core is turned off: its redistributor sleeps, as firmware has it do. */
void vgic_cpu_off(struct hypctx *hypctx);
/* Affinity fields of VMPIDR_EL2 for a vCPU: 16 to a cluster. */
uint64_t vgic_vcpu_affinity(unsigned vcpuid);

/* EINVAL: bad addresses or sizes; EBUSY: attached. */
int vgic_attach_to_vm(
    struct hyp *hyp, uint64_t dist, uint64_t dist_size, uint64_t redist, uint64_t redist_size);
/* A GICv2 of at most 8 vCPUs instead; `cpuif` is where GICC_* are. */
int vgic_v2_attach(struct hyp *hyp, uint64_t dist, uint64_t dist_size, uint64_t cpuif,
    uint64_t cpuif_size, uint32_t ncpus);
bool vgic_is_attached(struct hyp *hyp);
/* The number of list registers, before attaching: EINVAL, EBUSY. */
int vgic_set_list_regs(struct hyp *hyp, uint32_t n);

void vgic_flush_hwstate(struct hypctx *hypctx);
void vgic_sync_hwstate(struct hypctx *hypctx);
/*
 * Would the vCPU's interface signal an interrupt now? For WFI: enabled, group
 * enabled, priority above PMR and the running one. Call it out of the guest.
 */
bool vgic_has_pending_irq(struct hypctx *hypctx);

/*
 * Drive an input: vcpuid -1 for SPIs, a vCPU for SGIs (edges) and PPIs. From any thread of any
 * process. ENODEV: no vGIC; EINVAL: no such interrupt or vCPU.
 */
int vgic_inject_irq(struct hyp *hyp, int vcpuid, uint32_t intid, bool level);
/* The same from vCPU `self`'s own thread, out of the guest: it is not kicked. */
int vgic_inject_irq_self(struct hypctx *self, uint32_t intid, bool level);
/* GICD_SETSPI_NSR. EINVAL: not its address, or no such SPI. */
int vgic_inject_msi(struct hyp *hyp, uint64_t addr, uint64_t msg);

/*
 * An access of the guest to a GIC frame, in the thread of the vCPU, out of the
 * guest. 0: done; ENOENT: not a frame; EFAULT: inject an external abort.
 */
int vgic_mmio(struct hypctx *hypctx, uint64_t gpa, unsigned size, int dir, uint64_t *val);
/*
 * The same for the frames of the ITS and what LPIs add to redistributors; `vm`
 * is for the tables in guest memory. EAGAIN: not done yet, let the guest make
 * the access again.
 */
int vgic_its_mmio(
    struct vm *vm, struct hypctx *hypctx, uint64_t gpa, unsigned size, int dir, uint64_t *val);
/* EINVAL: bad address, not 128 KiB, or no GICv3; EBUSY. hyp_its() has its memory. */
int vgic_its_attach(struct hyp *hyp, uint64_t base, uint64_t size);
bool vgic_its_is_attached(struct hyp *hyp);
/* A device's write to GITS_TRANSLATER. ENOENT: it is not at `addr`. */
int vgic_its_msi(struct vm *vm, struct hyp *hyp, uint64_t addr, uint64_t msg, uint32_t devid);
/* Trapped system registers: 0; ENOENT: not one of these; EFAULT: inject UNDEFINED. */
int vgic_sysreg(struct hypctx *hypctx, uint32_t enc, int dir, uint64_t *val);

/* -- world switch: both forms use the same ------------------------------------ */
void vgic_v3_save(struct pe *pe, struct hypctx *hypctx);
void vgic_v3_restore(struct pe *pe, struct hypctx *hypctx);
/* Once for a new PE: the host's own interface (PMR, EOImode, group enable). */
void vgic_host_init(struct pe *pe);
/*
 * What the host's interrupt handler does: acknowledge, end. Returns the INTID,
 * 1023 when it was spurious. The kick word must have been cleared before.
 */
uint32_t vgic_host_irq(struct pe *pe);

#endif /* VMM_IO_VGIC_H */
