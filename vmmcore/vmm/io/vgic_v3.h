/*
 * A guest's GICv3 or GICv2: the state of its interrupts (struct vgic_v3 in
 * struct hyp, struct vgic_its behind the vCPUs), what each vCPU's interface
 * holds (struct vgic_v3_cpu and struct vgic_v3_regs in struct hypctx).
 *
 * All of it is shared memory: numbers and bits, no pointers, no lists. Which
 * interrupts a vCPU has to look at is a bitmap that is derived from the state
 * of each interrupt, so that it can be rebuilt when a process died with the
 * lock held.
 *
 * The rest of vmm/ uses vgic.h; this is for struct hyp, and for vgic*.c.
 */
#ifndef VMM_IO_VGIC_V3_H
#define VMM_IO_VGIC_V3_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sys/lock.h"

struct hyp;
struct hypctx;
struct pe;

#define VGIC_SGI_NUM 16u
#define VGIC_PRV_I_NUM 32u /* SGIs and PPIs */
#define VGIC_I_NUM 1020u   /* INTIDs 0 to 1019 */
#define VGIC_SPI_NUM (VGIC_I_NUM - VGIC_PRV_I_NUM)
#define VGIC_MAXLR 16u
#define VGIC_IDBITS 14u /* of INTIDs, with LPIs */
#define VGIC_LPI_FIRST 8192u
#define VGIC_LPI_NUM ((1u << VGIC_IDBITS) - VGIC_LPI_FIRST)
#define VGIC_V2_CPUS 8u

/*
 * A vCPU's map has a bit for each INTID that it has to look at, LPIs behind
 * the others; a bit of `sum` says that a word of the map is not zero.
 */
#define VGIC_MAP_LPI 1024u
#define VGIC_BITS (VGIC_MAP_LPI + VGIC_LPI_NUM)
#define VGIC_WORDS (VGIC_BITS / 64)
#define VGIC_SUMS ((VGIC_WORDS + 63) / 64)

/* GICv3 interrupts the vtimer owns. */
#define PMU_IRQ 23u
#define GT_VIRT_IRQ 27u
#define GT_PHYS_NS_IRQ 30u

struct vgic_v3_irq {
	uint64_t irouter; /* GICD_IROUTER: IRM and affinity; GICv2: GICD_ITARGETSR */
	int16_t target;   /* vCPU it goes to; -1: no such affinity */
	int16_t owner;    /* vCPU whose bitmap has it; -1: none */
	uint8_t priority; /* 5 bits, 0xf8 */
	uint8_t in_lr;    /* 1 + list register of the owner, while it is in the guest */
	uint8_t enabled : 1;
	uint8_t group : 1; /* 1: IRQ, 0: FIQ */
	uint8_t edge : 1;
	uint8_t level : 1; /* the line, or GICD_SETSPI of a level interrupt */
	uint8_t latch : 1; /* an edge, or GICx_ISPENDR */
	uint8_t active : 1;
	uint8_t hw : 1; /* its deactivation also ends the physical one */
};

/* What a GICv2 has besides, per vCPU. */
struct vgic_v2_cpu {
	uint32_t ctlr; /* GICC_CTLR */
	uint32_t pmr, bpr, abpr;
	uint32_t apr[2];               /* active priorities by group, as ICH_AP0R0 and AP1R0 */
	uint8_t sgi_src[VGIC_SGI_NUM]; /* who has sent each pending SGI: bit per vCPU */
};

/* Under hyp->vgic.lock, but for `hint` and `in_guest`, which may be peeked at. */
struct vgic_v3_cpu {
	struct vgic_v3_irq irq[VGIC_PRV_I_NUM];
	uint64_t map[VGIC_WORDS]; /* active or pending interrupts it has to look at */
	uint64_t sum[VGIC_SUMS];
	uint64_t pendbaser; /* GICR_PENDBASER */
	uint32_t lpis_on;   /* GICR_CTLR.EnableLPIs */
	uint32_t vcpuid;
	uint32_t waker; /* GICR_WAKER.ProcessorSleep */
	uint32_t present;
	uint32_t hold;               /* others that must see it out of the guest */
	_Atomic uint32_t hint;       /* map is not empty */
	_Atomic uint32_t in_guest;   /* list registers are loaded */
	uint16_t lr_irq[VGIC_MAXLR]; /* INTID of each loaded list register */
	uint32_t lr_used;            /* list registers loaded, from 0 up */
	uint32_t lr_last;            /* how many the last entry loaded: for vm_get_vgic() */
	uint32_t lr_pending;         /* of these were loaded as pending */
	uint32_t evicted;            /* active interrupts that found no list register */
	struct vgic_v2_cpu v2;
};

/* The interface registers while the vCPU is out of the guest. */
struct vgic_v3_regs {
	uint64_t ich_hcr_el2;
	uint64_t ich_vmcr_el2;
	uint64_t ich_lr_el2[VGIC_MAXLR];
	uint32_t ich_ap0r_el2;
	uint32_t ich_ap1r_el2;
	uint32_t ich_lr_num; /* implemented list registers */
};

/*
 * LPIs and the translation service (vgic_its.c). Registers under `lock`, the
 * state of LPIs under hyp->vgic.lock, which is taken second.
 */
struct vgic_its {
	struct sys_lock lock;
	uint64_t start, end;
	uint32_t ctlr, stalled;
	uint64_t cbaser, creadr, cwriter;
	uint64_t baser[2];  /* devices, collections */
	uint64_t propbaser; /* GICR_PROPBASER, the same for all */
	uint64_t error;     /* of the last command that was ignored */
	struct vgic_v3_irq lpi[VGIC_LPI_NUM];
};

struct vgic_v3 {
	struct sys_lock lock;
	uint64_t dist_start, dist_end;
	uint64_t redist_start, redist_end; /* GICv2: the CPU interface */
	uint32_t attached;
	uint32_t version;   /* 3 or 2 */
	uint32_t ncpus;     /* redistributors, or CPU interfaces */
	uint32_t gicd_ctlr; /* EnableGrp0, EnableGrp1 */
	uint32_t one_of_n;  /* last vCPU chosen for a 1-of-N interrupt */
	struct vgic_v3_irq spi[VGIC_SPI_NUM];
};

/* -- between vgic*.c ---------------------------------------------------------- */

/* One visit to the vGIC: the lock and who has to be told at the end. */
struct vgic_visit {
	struct hyp *hyp;
	struct vgic_v3 *vgic;
	int self;        /* vCPU that calls and will flush by itself, or -1 */
	uint64_t notify; /* vCPUs to notify */
	uint64_t held;   /* vCPUs kept out of the guest */
};

void vgic_enter(struct vgic_visit *, struct hyp *, int self);
/* The same, or ETIMEDOUT at `deadline_ns` on CLOCK_MONOTONIC: then there is no visit. */
int vgic_enter_until(struct vgic_visit *, struct hyp *, int self, uint64_t deadline_ns);
void vgic_leave(struct vgic_visit *);
/*
 * The interrupt `intid` as vCPU `cpu` sees it (cpu counts for INTID < 32);
 * NULL: there is none.
 */
struct vgic_v3_irq *vgic_irq(struct vgic_visit *, int cpu, uint32_t intid);
/* After a change: put it on the right bitmap and mark who must be told. */
void vgic_irq_changed(struct vgic_visit *, uint32_t intid, struct vgic_v3_irq *);
/*
 * Make the state of an interrupt exact: a vCPU that has it in a list register
 * is brought out of the guest and kept out until vgic_leave(). May drop the
 * lock and take it again.
 */
void vgic_irq_fetch(struct vgic_visit *, struct vgic_v3_irq *);
bool vgic_irq_pending(const struct vgic_v3_irq *);
/*
 * What of a CPU interface decides about signalling, and the interrupt that
 * comes first among those that its groups let through: NULL, or *intid.
 */
struct vgic_gate {
	bool on[2]; /* by group */
	uint32_t pmr, running;
	uint32_t mask[2]; /* priority bits that count for preemption */
};
struct vgic_v3_irq *vgic_highest(
    struct vgic_visit *, int cpu, const struct vgic_gate *, uint32_t *intid);
/* Does it pass the priority mask and preempt what is running? */
bool vgic_signals(const struct vgic_gate *, const struct vgic_v3_irq *);
/* vCPU for an affinity Aff3.Aff2.Aff1.Aff0, or -1. */
int vgic_affinity_to_cpu(struct vgic_visit *, uint64_t affinity);
/* Where an interrupt with this GICD_IROUTER goes. */
int vgic_route(struct vgic_visit *, uint64_t irouter);
/* All interrupts again, after a group enable changed. */
void vgic_all_changed(struct vgic_visit *);
/* The end of an active interrupt that is in no list register. */
void vgic_irq_deactivate(struct vgic_visit *, uint32_t intid, struct vgic_v3_irq *);

/* vgic_v2.c */
void vgic_v2_init(struct vgic_visit *);
void vgic_v2_cpuinit(struct vgic_v2_cpu *);
void vgic_v2_load(struct vgic_visit *, struct hypctx *);
void vgic_v2_gate(const struct vgic_v2_cpu *, struct vgic_gate *);
int vgic_v2_mmio(struct hypctx *, uint64_t gpa, unsigned size, int dir, uint64_t *val);

/* Its redistributor sleeps or wakes: 1-of-N interrupts that wait for it go elsewhere. */
void vgic_cpu_sleep(struct vgic_visit *, int cpu, bool sleep);
/* Nothing is active on a vCPU, or in its list registers, any more: it is reset. */
void vgic_drop_active(struct vgic_visit *, int cpu);
/* Priority bits above a binary point (IHI 0069, 4.8.3). */
static inline uint32_t
vgic_group_mask(uint32_t bpr)
{
	return ((0xffu << (bpr + 1)) & 0xff);
}
/* The highest of the active priorities. */
#define VGIC_PRIO_IDLE 0xffu
static inline uint32_t
vgic_running(uint32_t apr)
{
	return (apr == 0 ? VGIC_PRIO_IDLE : (uint32_t)__builtin_ctz(apr) << 3);
}

#endif /* VMM_IO_VGIC_V3_H */
