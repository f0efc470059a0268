/*
 * Tables of GIC registers: what the frames of a GICv3 (vgic_v3_mmio.c) and of
 * a GICv2 (vgic_v2.c) share.
 */
#ifndef VMM_IO_VGIC_MMIO_H
#define VMM_IO_VGIC_MMIO_H

#include <stddef.h>

#include "vmm/io/vgic.h"

#define W8 1u
#define W16 2u
#define W32 4u
#define W64 8u

/* An access to the registers of one vCPU or of all. */
struct vgic_access {
	struct vgic_visit v;
	int cpu;        /* whose private interrupts; -1: none */
	uint32_t first; /* INTIDs this block may reach: first to end - 1 */
	uint32_t end;
	unsigned size;
	bool write;
};

/*
 * `off` is the offset from the first register of the row, in bytes. A read
 * returns the value, a write gets it.
 */
struct vgic_reg {
	uint32_t start, len; /* bytes */
	uint32_t widths;
	uint64_t (*rd)(struct vgic_access *, uint32_t off);
	void (*wr)(struct vgic_access *, uint32_t off, uint64_t val);
};

/*
 * One access by a table; *val is the value. Without a row, with a width that
 * the row has not, or misaligned: reads zero and is not written.
 */
void vgic_access(
    struct vgic_access *, const struct vgic_reg *regs, size_t count, uint32_t off, uint64_t *val);
/* The interrupt, when the block reaches it; else NULL. */
struct vgic_v3_irq *vgic_access_irq(struct vgic_access *, uint32_t intid);

/* GICx_IGROUPR to GICx_ICFGR. */
#define VGIC_RW(name)                                            \
	uint64_t vgic_rd_##name(struct vgic_access *, uint32_t); \
	void vgic_wr_##name(struct vgic_access *, uint32_t, uint64_t)
VGIC_RW(group);
VGIC_RW(enable);
VGIC_RW(pend);
VGIC_RW(active);
VGIC_RW(priority);
VGIC_RW(config);
#undef VGIC_RW
void vgic_wr_c_enable(struct vgic_access *, uint32_t, uint64_t);
void vgic_wr_c_pend(struct vgic_access *, uint32_t, uint64_t);
void vgic_wr_c_active(struct vgic_access *, uint32_t, uint64_t);
uint64_t vgic_rd_iidr(struct vgic_access *, uint32_t);
void vgic_wr_d_ctlr(struct vgic_access *, uint32_t, uint64_t);

#define VGIC_IRQ_REGS(base, n_bits, n_prio, n_cfg)                                              \
	{ (base) + GICD_IGROUPR, n_bits, W32, vgic_rd_group, vgic_wr_group },                   \
	    { (base) + GICD_ISENABLER, n_bits, W32, vgic_rd_enable, vgic_wr_enable },           \
	    { (base) + GICD_ICENABLER, n_bits, W32, vgic_rd_enable, vgic_wr_c_enable },         \
	    { (base) + GICD_ISPENDR, n_bits, W32, vgic_rd_pend, vgic_wr_pend },                 \
	    { (base) + GICD_ICPENDR, n_bits, W32, vgic_rd_pend, vgic_wr_c_pend },               \
	    { (base) + GICD_ISACTIVER, n_bits, W32, vgic_rd_active, vgic_wr_active },           \
	    { (base) + GICD_ICACTIVER, n_bits, W32, vgic_rd_active, vgic_wr_c_active },         \
	    { (base) + GICD_IPRIORITYR, n_prio, W8 | W32, vgic_rd_priority, vgic_wr_priority }, \
	{                                                                                       \
		(base) + GICD_ICFGR, n_cfg, W32, vgic_rd_config, vgic_wr_config                 \
	}

#endif /* VMM_IO_VGIC_MMIO_H */
