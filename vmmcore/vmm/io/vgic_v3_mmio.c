/*
 * The frames of a guest's GICv3: distributor and redistributors, as tables of
 * registers (IHI 0069, 12.8 to 12.11).
 *
 * One security state (GICD_CTLR.DS = 1), affinity routing always on, INTIDs to
 * 1019, message-based SPIs; what LPIs need is in vgic_its.c. An access of a
 * width the register does not have, or that is not aligned, reads zero and is
 * not written; so are registers that are not in the tables.
 */
#include "vmm/io/vgic_mmio.h"

#include <errno.h>

#include "vmm/arm64.h"
#include "vmm/io/vgic_v3_reg.h"

struct vgic_v3_irq *
vgic_access_irq(struct vgic_access *a, uint32_t intid)
{
	if (intid < a->first || intid >= a->end)
		return (NULL);
	return (vgic_irq(&a->v, a->cpu, intid));
}

/* -- a bit per interrupt ------------------------------------------------------------ */

enum irq_bit { B_GROUP, B_ENABLED, B_PENDING, B_ACTIVE };

static uint64_t
read_bits(struct vgic_access *a, uint32_t off, enum irq_bit what)
{
	struct vgic_v3_irq *irq;
	uint32_t val = 0, i;
	bool b = false;

	for (i = 0; i < 32; i++) {
		if ((irq = vgic_access_irq(a, off * 8 + i)) == NULL)
			continue;
		if (what == B_PENDING || what == B_ACTIVE)
			vgic_irq_fetch(&a->v, irq);
		switch (what) {
		case B_GROUP:
			b = irq->group;
			break;
		case B_ENABLED:
			b = irq->enabled;
			break;
		case B_PENDING:
			b = vgic_irq_pending(irq);
			break;
		case B_ACTIVE:
			b = irq->active;
			break;
		}
		val |= (uint32_t)b << i;
	}
	return (val);
}

static void
write_bits(struct vgic_access *a, uint32_t off, uint64_t mask, enum irq_bit what, bool set)
{
	struct vgic_v3_irq *irq;
	uint32_t i;

	for (i = 0; i < 32; i++) {
		if (((mask >> i) & 1) == 0 || (irq = vgic_access_irq(a, off * 8 + i)) == NULL)
			continue;
		vgic_irq_fetch(&a->v, irq);
		switch (what) {
		case B_GROUP:
			irq->group = set;
			break;
		case B_ENABLED:
			irq->enabled = set;
			break;
		case B_PENDING:
			if (a->v.vgic->version == 2 && off * 8 + i < VGIC_SGI_NUM)
				continue; /* GICD_SPENDSGIR and CPENDSGIR are for these */
			/* a level that is high stays pending whatever is cleared */
			irq->latch = set;
			break;
		case B_ACTIVE:
			irq->active = set;
			break;
		}
		vgic_irq_changed(&a->v, off * 8 + i, irq);
	}
}

#define BIT_REG(name, what)                                                      \
	uint64_t vgic_rd_##name(struct vgic_access *a, uint32_t off)             \
	{                                                                        \
		return (read_bits(a, off, what));                                \
	}                                                                        \
	void vgic_wr_##name(struct vgic_access *a, uint32_t off, uint64_t val)   \
	{                                                                        \
		write_bits(a, off, val, what, true);                             \
	}                                                                        \
	void vgic_wr_c_##name(struct vgic_access *a, uint32_t off, uint64_t val) \
	{                                                                        \
		write_bits(a, off, val, what, false);                            \
	}
BIT_REG(enable, B_ENABLED)
BIT_REG(pend, B_PENDING)
BIT_REG(active, B_ACTIVE)
#undef BIT_REG

uint64_t
vgic_rd_group(struct vgic_access *a, uint32_t off)
{
	return (read_bits(a, off, B_GROUP));
}

void
vgic_wr_group(struct vgic_access *a, uint32_t off, uint64_t val)
{
	write_bits(a, off, val, B_GROUP, true);
	write_bits(a, off, ~val, B_GROUP, false);
}

/* -- a byte and two bits per interrupt --------------------------------------------------- */

uint64_t
vgic_rd_priority(struct vgic_access *a, uint32_t off)
{
	struct vgic_v3_irq *irq;
	uint64_t val = 0;
	uint32_t i;

	for (i = 0; i < a->size; i++) {
		if ((irq = vgic_access_irq(a, off + i)) != NULL)
			val |= (uint64_t)irq->priority << (8 * i);
	}
	return (val);
}

void
vgic_wr_priority(struct vgic_access *a, uint32_t off, uint64_t val)
{
	struct vgic_v3_irq *irq;
	uint32_t i;

	for (i = 0; i < a->size; i++) {
		if ((irq = vgic_access_irq(a, off + i)) == NULL)
			continue;
		/* an active one keeps its place among the active priorities */
		irq->priority = (uint8_t)(val >> (8 * i)) & GIC_PRI_MASK;
		vgic_irq_changed(&a->v, off + i, irq);
	}
}

uint64_t
vgic_rd_config(struct vgic_access *a, uint32_t off)
{
	struct vgic_v3_irq *irq;
	uint64_t val = 0;
	uint32_t i;

	for (i = 0; i < 16; i++) {
		if ((irq = vgic_access_irq(a, off * 4 + i)) != NULL && irq->edge)
			val |= UINT64_C(2) << (2 * i);
	}
	return (val);
}

void
vgic_wr_config(struct vgic_access *a, uint32_t off, uint64_t val)
{
	struct vgic_v3_irq *irq;
	uint32_t i;
	bool edge;

	for (i = 0; i < 16; i++) {
		if ((irq = vgic_access_irq(a, off * 4 + i)) == NULL || off * 4 + i < VGIC_PRV_I_NUM)
			continue; /* SGIs are edges, PPIs levels */
		edge = ((val >> (2 * i + 1)) & 1) != 0;
		if (edge == irq->edge)
			continue;
		vgic_irq_fetch(&a->v, irq);
		irq->edge = edge;
		vgic_irq_changed(&a->v, off * 4 + i, irq);
	}
}

/* -- routing ------------------------------------------------------------------------------ */

static uint64_t
rd_router(struct vgic_access *a, uint32_t off)
{
	struct vgic_v3_irq *irq = vgic_access_irq(a, off / 8);

	if (irq == NULL)
		return (0);
	return (irq->irouter >> (off % 8 == 4 ? 32 : 0));
}

static void
wr_router(struct vgic_access *a, uint32_t off, uint64_t val)
{
	struct vgic_v3_irq *irq = vgic_access_irq(a, off / 8);
	uint64_t r = val;

	if (irq == NULL)
		return;
	if (a->size == W32) {
		if (off % 8 == 4)
			r = (irq->irouter & UINT32_MAX) | (val << 32);
		else
			r = (irq->irouter & ~(uint64_t)UINT32_MAX) | (val & UINT32_MAX);
	}
	vgic_irq_fetch(&a->v, irq);
	irq->irouter = r & (GIC_AFFINITY | GICD_IROUTER_IRM);
	irq->target = (int16_t)vgic_route(&a->v, irq->irouter);
	vgic_irq_changed(&a->v, off / 8, irq);
}

/* -- single registers ----------------------------------------------------------------------- */

static uint64_t
rd_d_ctlr(struct vgic_access *a, uint32_t off)
{
	(void)off;
	return (a->v.vgic->gicd_ctlr | GICD_CTLR_ARE | GICD_CTLR_DS);
}

void
vgic_wr_d_ctlr(struct vgic_access *a, uint32_t off, uint64_t val)
{
	(void)off;
	a->v.vgic->gicd_ctlr = (uint32_t)val & (GICD_CTLR_G0 | GICD_CTLR_G1);
	vgic_all_changed(&a->v);
}

static uint64_t
rd_d_typer(struct vgic_access *a, uint32_t off)
{
	uint64_t val = GICD_TYPER_ITLINES | GICD_TYPER_MBIS | GICD_TYPER_A3V;

	(void)off;
	if (vgic_its_is_attached(a->v.hyp))
		return (val | GICD_TYPER_LPIS | GICD_TYPER_IDBITS(VGIC_IDBITS));
	return (val | GICD_TYPER_IDBITS(10));
}

uint64_t
vgic_rd_iidr(struct vgic_access *a, uint32_t off)
{
	(void)a;
	(void)off;
	return (GIC_IIDR);
}

static uint64_t
rd_pidr2(struct vgic_access *a, uint32_t off)
{
	(void)a;
	(void)off;
	return (GIC_PIDR2_V3);
}

/* GICD_SETSPI_NSR, GICD_CLRSPI_NSR: a level interrupt's line, or an edge. */
static void
spi_message(struct vgic_access *a, uint64_t val, bool set)
{
	uint32_t intid = (uint32_t)val & 0x1fff;
	struct vgic_v3_irq *irq = vgic_access_irq(a, intid);

	if (irq == NULL)
		return;
	if (irq->edge) {
		vgic_irq_fetch(&a->v, irq);
		irq->latch = set;
	} else {
		irq->level = set;
		if (!set) {
			vgic_irq_fetch(&a->v, irq);
			irq->latch = 0;
		}
	}
	vgic_irq_changed(&a->v, intid, irq);
}

static void
wr_setspi(struct vgic_access *a, uint32_t off, uint64_t val)
{
	(void)off;
	spi_message(a, val, true);
}

static void
wr_clrspi(struct vgic_access *a, uint32_t off, uint64_t val)
{
	(void)off;
	spi_message(a, val, false);
}

static uint64_t
rd_r_typer(struct vgic_access *a, uint32_t off)
{
	uint64_t aff = vgic_vcpu_affinity((unsigned)a->cpu), val;

	/* Affinity_Value is Aff3.Aff2.Aff1.Aff0 in 32 bits */
	val = ((aff & 0xffffff) | (aff >> 32) << 24) << 32 | (uint64_t)(unsigned)a->cpu << 8;
	if ((uint32_t)a->cpu == a->v.vgic->ncpus - 1)
		val |= GICR_TYPER_LAST;
	if (vgic_its_is_attached(a->v.hyp))
		val |= GICR_TYPER_PLPIS;
	return (val >> (off == 4 ? 32 : 0));
}

static uint64_t
rd_waker(struct vgic_access *a, uint32_t off)
{
	(void)off;
	return (hyp_ctx(a->v.hyp, (unsigned)a->cpu)->vgic_cpu.waker != 0
		    ? GICR_WAKER_PS | GICR_WAKER_CA
		    : 0);
}

static void
wr_waker(struct vgic_access *a, uint32_t off, uint64_t val)
{
	(void)off;
	vgic_cpu_sleep(&a->v, a->cpu, (val & GICR_WAKER_PS) != 0);
}

/* -- tables ------------------------------------------------------------------------------------ */

static const struct vgic_reg dist_regs[] = {
	{ GICD_CTLR, 4, W32, rd_d_ctlr, vgic_wr_d_ctlr },
	{ GICD_TYPER, 4, W32, rd_d_typer, NULL },
	{ GICD_IIDR, 4, W32, vgic_rd_iidr, NULL },
	{ GICD_SETSPI_NSR, 4, W32, NULL, wr_setspi },
	{ GICD_CLRSPI_NSR, 4, W32, NULL, wr_clrspi },
	VGIC_IRQ_REGS(0, 0x80, 0x400, 0x100),
	{ GICD_IROUTER, 8 * VGIC_I_NUM, W32 | W64, rd_router, wr_router },
	{ GIC_PIDR2, 4, W32, rd_pidr2, NULL },
};

static const struct vgic_reg redist_regs[] = {
	{ GICR_IIDR, 4, W32, vgic_rd_iidr, NULL },
	{ GICR_TYPER, 8, W32 | W64, rd_r_typer, NULL },
	{ GICR_WAKER, 4, W32, rd_waker, wr_waker },
	{ GIC_PIDR2, 4, W32, rd_pidr2, NULL },
	VGIC_IRQ_REGS(GICR_RD_SIZE, 4, 0x20, 8),
};

void
vgic_access(
    struct vgic_access *a, const struct vgic_reg *regs, size_t count, uint32_t off, uint64_t *val)
{
	const struct vgic_reg *r, *end = regs + count;
	uint64_t mask = a->size == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * a->size)) - 1;

	if (!a->write)
		*val = 0;
	for (r = regs; r < end; r++) {
		if (off < r->start || off - r->start >= r->len)
			continue;
		if ((r->widths & a->size) == 0 || off % a->size != 0)
			return;
		if (a->write && r->wr != NULL)
			r->wr(a, off - r->start, *val & mask);
		else if (!a->write && r->rd != NULL)
			*val = r->rd(a, off - r->start) & mask;
		return;
	}
}

int
vgic_mmio(struct hypctx *hypctx, uint64_t gpa, unsigned size, int dir, uint64_t *val)
{
	struct hyp *hyp = hypctx_hyp(hypctx);
	struct vgic_v3 *vgic = &hyp->vgic;
	struct vgic_access a = { .size = size, .write = dir == VM_DIR_WRITE };
	uint32_t off, cpu;

	if (!vgic_is_attached(hyp))
		return (ENOENT);
	if (vgic->version == 2)
		return (vgic_v2_mmio(hypctx, gpa, size, dir, val));
	if (gpa >= vgic->dist_start && gpa < vgic->dist_end) {
		off = (uint32_t)(gpa - vgic->dist_start);
		a.cpu = -1;
		a.first = VGIC_PRV_I_NUM; /* SGIs and PPIs are in the redistributors */
		a.end = VGIC_I_NUM;
		vgic_enter(&a.v, hyp, (int)hypctx->vcpuid);
		vgic_access(&a, dist_regs, sizeof(dist_regs) / sizeof(dist_regs[0]), off, val);
		vgic_leave(&a.v);
		return (0);
	}
	if (gpa >= vgic->redist_start && gpa < vgic->redist_end) {
		cpu = (uint32_t)((gpa - vgic->redist_start) / GICR_FRAME_SIZE);
		off = (uint32_t)((gpa - vgic->redist_start) % GICR_FRAME_SIZE);
		if (cpu >= hyp->maxcpus || !hyp_ctx(hyp, cpu)->vgic_cpu.present)
			return (EFAULT);
		a.cpu = (int)cpu;
		a.first = 0;
		a.end = VGIC_PRV_I_NUM;
		vgic_enter(&a.v, hyp, (int)hypctx->vcpuid);
		vgic_access(
		    &a, redist_regs, sizeof(redist_regs) / sizeof(redist_regs[0]), off, val);
		vgic_leave(&a.v);
		return (0);
	}
	return (ENOENT);
}
