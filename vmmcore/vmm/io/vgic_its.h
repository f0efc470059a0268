/*
 * What the two halves of the ITS share: vgic_its.c, tables and commands, and
 * vgic_its_mmio.c, registers.
 */
#ifndef VMM_IO_VGIC_ITS_H
#define VMM_IO_VGIC_ITS_H

#include "vmm/io/vgic.h"
#include "vmm/io/vgic_its_reg.h"

/* What may be done before the vCPU looks around: commands, or LPIs / 64. */
#define ITS_BUDGET 512u

/* One visit, with its->lock: who visits, and the guest's memory. */
struct its_visit {
	struct vgic_its *its;
	struct vm *vm;
	struct hyp *hyp;
	int self;
	unsigned budget;
};

/* Guest memory; false: some of it is not RAM. */
bool its_mem_read(struct its_visit *, uint64_t gpa, void *buf, uint64_t len);
bool its_mem_write(struct its_visit *, uint64_t gpa, const void *buf, uint64_t len);
/* Is there such an LPI (GICR_PROPBASER.IDbits)? */
bool its_lpi_exists(const struct vgic_its *, uint32_t intid);
/* Enable and priority of LPIs [first, first + n) from the property table. */
void its_refresh(struct its_visit *, uint32_t first, uint32_t n);
/* With the vGIC's lock: it goes to `cpu` from now on, pending or not. */
void its_retarget(struct vgic_visit *, uint32_t intid, struct vgic_v3_irq *, uint32_t cpu);
/* An event happens: its interrupt becomes pending, or (`pending` false) ceases to be. */
enum its_why its_event(struct its_visit *, uint32_t device, uint32_t id, bool pending);
/* Serve the command queue: 0, or EAGAIN when there is more. */
int its_serve_queue(struct its_visit *);

#endif /* VMM_IO_VGIC_ITS_H */
