/*
 * Registers of the interrupt translation service and those that LPIs add to
 * redistributors (IHI 0069, 12.11 and 12.18 to 12.20), and writes of devices to
 * GITS_TRANSLATER. What commands and events do is in vgic_its.c.
 */
#include "vmm/io/vgic_its.h"

#include <errno.h>
#include <string.h>

#include "vmm/arm64.h"

/* -- registers of the ITS ----------------------------------------------------------------------------------- */

static int
wr_ctlr(struct its_visit *t, uint64_t val)
{
	t->its->ctlr = (uint32_t)val & GITS_CTLR_ENABLED;
	return (its_serve_queue(t));
}

static uint64_t
rd_ctlr(struct its_visit *t)
{
	return (t->its->ctlr != 0 ? t->its->ctlr : GITS_CTLR_QUIESCENT);
}

static uint64_t
rd_iidr(struct its_visit *t)
{
	(void)t;
	return (GIC_IIDR);
}

static uint64_t
rd_typer(struct its_visit *t)
{
	(void)t;
	return (GITS_TYPER_VALUE);
}

static uint64_t
rd_impdef(struct its_visit *t)
{
	return (t->its->error);
}

static int
wr_impdef(struct its_visit *t, uint64_t val)
{
	(void)val;
	t->its->error = 0;
	return (0);
}

static uint64_t
rd_cbaser(struct its_visit *t)
{
	return (t->its->cbaser);
}

static int
wr_cbaser(struct its_visit *t, uint64_t val)
{
	if (t->its->ctlr != 0)
		return (0);
	t->its->cbaser = val & CBASER_MASK;
	t->its->creadr = 0;
	t->its->stalled = 0;
	return (0);
}

static uint64_t
rd_cwriter(struct its_visit *t)
{
	return (t->its->cwriter);
}

static int
wr_cwriter(struct its_visit *t, uint64_t val)
{
	struct vgic_its *its = t->its;

	if ((val & ITS_QUEUE_OFF) >= CBASER_SIZE(its->cbaser))
		return (0); /* there is no such command */
	its->cwriter = val & ITS_QUEUE_OFF;
	if ((val & GITS_CWRITER_RETRY) != 0)
		its->stalled = 0;
	return (its_serve_queue(t));
}

static uint64_t
rd_creadr(struct its_visit *t)
{
	return (t->its->creadr | (t->its->stalled != 0 ? GITS_CREADR_STALLED : 0));
}

static void
wr_baser(struct its_visit *t, unsigned n, uint64_t val)
{
	static const uint64_t fixed[2] = { BASER_TYPE(1), BASER_TYPE(4) };

	if (t->its->ctlr != 0)
		return;
	if (BASER_PAGE(val) == 3) /* reserved */
		val = (val & ~UINT64_C(0x300)) | UINT64_C(0x200);
	if (n == BASER_COLLECTIONS)
		val &= ~BASER_INDIRECT;
	t->its->baser[n] = (val & ~BASER_RO) | fixed[n];
}

static uint64_t
rd_baser0(struct its_visit *t)
{
	return (t->its->baser[0] | BASER_TYPE(1));
}

static uint64_t
rd_baser1(struct its_visit *t)
{
	return (t->its->baser[1] | BASER_TYPE(4));
}

static int
wr_baser0(struct its_visit *t, uint64_t val)
{
	wr_baser(t, 0, val);
	return (0);
}

static int
wr_baser1(struct its_visit *t, uint64_t val)
{
	wr_baser(t, 1, val);
	return (0);
}

static uint64_t
rd_pidr2(struct its_visit *t)
{
	(void)t;
	return (GIC_PIDR2_V3);
}

/* A CPU's own write is an event of device 0. */
static int
wr_translater(struct its_visit *t, uint64_t val)
{
	if ((t->its->ctlr & GITS_CTLR_ENABLED) != 0)
		(void)its_event(t, 0, (uint32_t)val, true);
	return (0);
}

struct its_reg {
	uint32_t start, len;
	uint64_t (*rd)(struct its_visit *);
	int (*wr)(struct its_visit *, uint64_t);
};

static const struct its_reg its_regs[] = {
	{ GITS_CTLR, 4, rd_ctlr, wr_ctlr },
	{ GITS_IIDR, 4, rd_iidr, NULL },
	{ GITS_TYPER, 8, rd_typer, NULL },
	{ GITS_IMPDEF, 4, rd_impdef, wr_impdef },
	{ GITS_CBASER, 8, rd_cbaser, wr_cbaser },
	{ GITS_CWRITER, 8, rd_cwriter, wr_cwriter },
	{ GITS_CREADR, 8, rd_creadr, NULL },
	{ GITS_BASER, 8, rd_baser0, wr_baser0 },
	{ GITS_BASER + 8, 8, rd_baser1, wr_baser1 },
	{ GITS_PIDR2, 4, rd_pidr2, NULL },
};

/* -- LPIs of redistributors ------------------------------------------------------------------------------------- */

#define PEND_FIRST (VGIC_LPI_FIRST / 8) /* byte of the pending table */
#define PEND_BYTES (VGIC_LPI_NUM / 8)

/* GICR_CTLR.EnableLPIs becomes 1: what the pending table says. */
static void
lpis_enable(struct its_visit *t, uint32_t cpu)
{
	struct vgic_v3_cpu *c = &hyp_ctx(t->hyp, cpu)->vgic_cpu;
	uint8_t bits[PEND_BYTES];
	struct vgic_visit v;
	struct vgic_v3_irq *irq;
	uint32_t i;

	its_refresh(t, VGIC_LPI_FIRST, VGIC_LPI_NUM);
	if ((c->pendbaser & PENDBASER_PTZ) != 0 ||
	    !its_mem_read(t, (c->pendbaser & PENDBASER_ADDR) + PEND_FIRST, bits, sizeof(bits)))
		memset(bits, 0, sizeof(bits));
	vgic_enter(&v, t->hyp, t->self);
	c->lpis_on = 1;
	for (i = 0; i < VGIC_LPI_NUM; i++) {
		if (((bits[i / 8] >> (i % 8)) & 1) == 0 ||
		    !its_lpi_exists(t->its, VGIC_LPI_FIRST + i))
			continue;
		irq = vgic_irq(&v, -1, VGIC_LPI_FIRST + i);
		its_retarget(&v, VGIC_LPI_FIRST + i, irq, cpu);
		irq->latch = 1;
		vgic_irq_changed(&v, VGIC_LPI_FIRST + i, irq);
	}
	vgic_leave(&v);
}

/* It becomes 0: the pending table gets what is pending. */
static void
lpis_disable(struct its_visit *t, uint32_t cpu)
{
	struct vgic_v3_cpu *c = &hyp_ctx(t->hyp, cpu)->vgic_cpu;
	uint8_t bits[PEND_BYTES] = { 0 };
	struct vgic_visit v;
	struct vgic_v3_irq *irq;
	uint32_t i;

	vgic_enter(&v, t->hyp, t->self);
	c->lpis_on = 0;
	for (i = 0; i < VGIC_LPI_NUM; i++) {
		irq = vgic_irq(&v, -1, VGIC_LPI_FIRST + i);
		if (irq->target != (int)cpu)
			continue;
		vgic_irq_fetch(&v, irq);
		if (!irq->latch)
			continue;
		bits[i / 8] |= (uint8_t)(1u << (i % 8));
		irq->latch = 0;
		vgic_irq_changed(&v, VGIC_LPI_FIRST + i, irq);
	}
	vgic_leave(&v);
	(void)its_mem_write(t, (c->pendbaser & PENDBASER_ADDR) + PEND_FIRST, bits, sizeof(bits));
}

static bool
any_lpis_on(struct hyp *hyp)
{
	uint32_t c;

	for (c = 0; c < hyp->vgic.ncpus; c++) {
		if (hyp_ctx(hyp, c)->vgic_cpu.lpis_on != 0)
			return (true);
	}
	return (false);
}

static uint64_t
gicr_read(struct its_visit *t, uint32_t cpu, uint32_t reg)
{
	const struct vgic_v3_cpu *c = &hyp_ctx(t->hyp, cpu)->vgic_cpu;

	switch (reg) {
	case GICR_CTLR:
		return ((c->lpis_on != 0 ? GICR_CTLR_LPIS : 0) | GICR_CTLR_CES | GICR_CTLR_IR);
	case GICR_PROPBASER:
		return (t->its->propbaser);
	case GICR_PENDBASER:
		return (c->pendbaser & ~PENDBASER_PTZ);
	default:
		return (0);
	}
}

static void
gicr_write(struct its_visit *t, uint32_t cpu, uint32_t reg, uint64_t val)
{
	struct vgic_v3_cpu *c = &hyp_ctx(t->hyp, cpu)->vgic_cpu;
	bool on = (val & GICR_CTLR_LPIS) != 0;

	switch (reg) {
	case GICR_CTLR:
		if (on && c->lpis_on == 0)
			lpis_enable(t, cpu);
		else if (!on && c->lpis_on != 0)
			lpis_disable(t, cpu);
		break;
	case GICR_PROPBASER: /* one for all: GICR_TYPER.CommonLPIAff is 0 */
		if (!any_lpis_on(t->hyp))
			t->its->propbaser = val & PROPBASER_MASK;
		break;
	case GICR_PENDBASER:
		if (c->lpis_on == 0)
			c->pendbaser = val & PENDBASER_MASK;
		break;
	case GICR_INVLPIR:
		if (c->lpis_on != 0 && its_lpi_exists(t->its, (uint32_t)val))
			its_refresh(t, (uint32_t)val, 1);
		break;
	case GICR_INVALLR:
		if (c->lpis_on != 0)
			its_refresh(t, VGIC_LPI_FIRST, VGIC_LPI_NUM);
		break;
	default:
		break;
	}
}

/* Registers of the RD frame that are here, with their lengths. */
static const struct {
	uint32_t start, len;
} gicr_regs[] = {
	{ GICR_CTLR, 4 },
	{ GICR_PROPBASER, 8 },
	{ GICR_PENDBASER, 8 },
	{ GICR_INVLPIR, 8 },
	{ GICR_INVALLR, 8 },
	{ GICR_SYNCR, 4 },
};

/* -- accesses ------------------------------------------------------------------------------------------------------ */

/* May a register of `len` bytes be accessed so? Halves of 64-bit registers may. */
static bool
width_ok(uint32_t off, uint32_t len, unsigned size)
{
	return ((size == 4 || size == 8) && size <= len && off % size == 0);
}

/* The register's new value after a write of one of its halves, or of all. */
static uint64_t
merge(uint64_t old, uint32_t off, unsigned size, uint64_t val)
{
	if (size == 8)
		return (val);
	if (off == 4)
		return ((old & UINT32_MAX) | val << 32);
	return ((old & ~(uint64_t)UINT32_MAX) | (val & UINT32_MAX));
}

static uint64_t
part(uint64_t reg, uint32_t off, unsigned size)
{
	return (size == 8 ? reg : (reg >> (8 * off)) & UINT32_MAX);
}

static int
its_access(struct its_visit *t, uint32_t off, unsigned size, bool write, uint64_t *val)
{
	const struct its_reg *r;
	size_t i;

	if (!write)
		*val = 0;
	if (off == GITS_TRANSLATER && write && (size == 4 || size == 2))
		return (wr_translater(t, *val & (size == 4 ? UINT32_MAX : 0xffff)));
	for (i = 0; i < sizeof(its_regs) / sizeof(its_regs[0]); i++) {
		r = &its_regs[i];
		if (off - r->start >= r->len)
			continue;
		if (!width_ok(off, r->len, size))
			return (0);
		if (!write)
			*val = part(r->rd(t), off - r->start, size);
		else if (r->wr != NULL)
			return (r->wr(
			    t, r->len == 4 ? *val : merge(r->rd(t), off - r->start, size, *val)));
		return (0);
	}
	return (0);
}

static int
gicr_access(struct its_visit *t, uint64_t gpa, unsigned size, bool write, uint64_t *val)
{
	uint64_t at = gpa - t->hyp->vgic.redist_start;
	uint32_t cpu = (uint32_t)(at / GICR_FRAME_SIZE), off = (uint32_t)(at % GICR_FRAME_SIZE), o;
	size_t i;

	if (cpu >= t->hyp->maxcpus || !hyp_ctx(t->hyp, cpu)->vgic_cpu.present)
		return (ENOENT);
	for (i = 0; i < sizeof(gicr_regs) / sizeof(gicr_regs[0]); i++) {
		o = off - gicr_regs[i].start;
		if (o >= gicr_regs[i].len)
			continue;
		if (!write)
			*val = 0;
		if (!width_ok(off, gicr_regs[i].len, size))
			return (0);
		if (!write)
			*val = part(gicr_read(t, cpu, gicr_regs[i].start), o, size);
		else
			gicr_write(t, cpu, gicr_regs[i].start,
			    gicr_regs[i].len == 4
				? *val
				: merge(gicr_read(t, cpu, gicr_regs[i].start), o, size, *val));
		return (0);
	}
	return (ENOENT);
}

static void
its_enter(struct its_visit *t, struct vm *vm, struct hyp *hyp, int self)
{
	*t = (struct its_visit){
		.its = hyp_its(hyp), .vm = vm, .hyp = hyp, .self = self, .budget = ITS_BUDGET
	};
	/* an owner that died leaves a command half done, to be done again */
	(void)sys_lock(&t->its->lock);
}

int
vgic_its_mmio(
    struct vm *vm, struct hypctx *hypctx, uint64_t gpa, unsigned size, int dir, uint64_t *val)
{
	struct hyp *hyp = hypctx_hyp(hypctx);
	const struct vgic_its *its = hyp_its(hyp);
	bool write = dir == VM_DIR_WRITE, gicr;
	struct its_visit t;
	int error;

	if (!vgic_its_is_attached(hyp))
		return (ENOENT);
	gicr = gpa >= hyp->vgic.redist_start && gpa < hyp->vgic.redist_end;
	if (!gicr && (gpa < its->start || gpa >= its->end))
		return (ENOENT);
	its_enter(&t, vm, hyp, (int)hypctx->vcpuid);
	if (gicr)
		error = gicr_access(&t, gpa, size, write, val);
	else
		error = its_access(&t, (uint32_t)(gpa - its->start), size, write, val);
	sys_unlock(&t.its->lock);
	return (error);
}

int
vgic_its_msi(struct vm *vm, struct hyp *hyp, uint64_t addr, uint64_t msg, uint32_t devid)
{
	struct its_visit t;
	enum its_why why = ITS_UNMAPPED_DEVICE;

	if (!vgic_its_is_attached(hyp) || addr != hyp_its(hyp)->start + GITS_TRANSLATER)
		return (ENOENT);
	if (msg > UINT32_MAX)
		return (EINVAL);
	its_enter(&t, vm, hyp, -1);
	if ((t.its->ctlr & GITS_CTLR_ENABLED) != 0)
		why = its_event(&t, devid, (uint32_t)msg, true);
	sys_unlock(&t.its->lock);
	return (why == ITS_OK ? 0 : EINVAL);
}
