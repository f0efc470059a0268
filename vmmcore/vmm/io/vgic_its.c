/*
 * LPIs and the interrupt translation service (IHI 0069, chapters 5 and 6): the
 * frames of the ITS, its commands, what LPIs add to redistributors.
 *
 * What is mapped stands in guest memory only: device table, ITTs, collections,
 * configuration and pending bits of LPIs. It is read anew each time and never
 * believed: every number from there is checked when it is used, every address
 * goes through vm_copyin() and vm_write_data(). The state of LPIs is like that
 * of other interrupts (vgic_v3.c), with enable and priority as of the last INV.
 *
 *	a table out of RAM		the command queue stalls (GITS_CREADR.Stalled)
 *	a command that makes no sense	it is ignored, GITS_IMPDEF says why
 *	events that lead nowhere	they are dropped
 *
 * Locks: its->lock, then memory's, or then the vGIC's; memory is not touched
 * with the vGIC's lock held. A long queue is served in portions: the guest
 * makes its write again until CREADR has reached CWRITER (EAGAIN).
 */
#include "vmm/io/vgic_its_reg.h"

#include <errno.h>
#include <string.h>

#include "vmm/io/vgic.h"
#include "vmm/vmm_vm.h"

/* What may be done before the vCPU looks around: commands, or LPIs / 64. */
#define BUDGET 512u
#define ALL_LPIS (VGIC_LPI_NUM / 64)

/* One visit: who visits, and the guest's memory. */
struct its_visit {
	struct vgic_its *its;
	struct vm *vm;
	struct hyp *hyp;
	int self;
	unsigned budget;
};

bool
vgic_its_is_attached(struct hyp *hyp)
{
	return (atomic_load(&hyp->its_attached) != 0);
}

int
vgic_its_attach(struct hyp *hyp, uint64_t base, uint64_t size)
{
	struct vgic_its *its = hyp_its(hyp);
	const struct vgic_v3 *vgic = &hyp->vgic;
	uint32_t i;
	int error;

	if (!vgic_is_attached(hyp) || vgic->version != 3 || base % GICR_RD_SIZE != 0 ||
	    size != ITS_SIZE || base + size < base ||
	    (base < vgic->dist_end && vgic->dist_start < base + size) ||
	    (base < vgic->redist_end && vgic->redist_start < base + size))
		return (EINVAL);
	if (vgic_its_is_attached(hyp))
		return (EBUSY);
	if ((error = sys_lock_init(&its->lock)) != 0)
		return (error);
	its->start = base;
	its->end = base + size;
	for (i = 0; i < VGIC_LPI_NUM; i++) {
		its->lpi[i] = (struct vgic_v3_irq) {
			.target = 0,
			.owner = -1,
			.group = 1,
			.edge = 1,
		};
	}
	atomic_store(&hyp->its_attached, 1);
	return (0);
}

/* -- guest memory ---------------------------------------------------------------------- */

static bool
mem_read(struct its_visit *t, uint64_t gpa, void *buf, uint64_t len)
{
	return (gpa < IPA_END && len <= IPA_END - gpa && vm_copyin(t->vm, gpa, buf, len) == 0);
}

static bool
mem_write(struct its_visit *t, uint64_t gpa, const void *buf, uint64_t len)
{
	return (gpa < IPA_END && len <= IPA_END - gpa && vm_write_data(t->vm, gpa, buf, len) == 0);
}

/* The address of entry `id` of a table; ITS_OK, ITS_STALL, or `oor`: it has none. */
static enum its_why
table_entry(struct its_visit *t, unsigned table, uint32_t id, enum its_why oor, uint64_t *gpa)
{
	static const uint32_t page_sizes[4] = { 0x1000, 0x4000, 0x10000, 0x10000 };
	uint64_t baser = t->its->baser[table], base, size, l1;
	uint32_t page = page_sizes[BASER_PAGE(baser)];

	if ((baser & ITS_VALID) == 0)
		return (oor);
	/* with pages of 64 KiB, address bits 51 to 48 are in bits 15 to 12 */
	base = baser & (page == 0x10000 ? BASER_ADDR_64K : BASER_ADDR);
	if (page == 0x10000)
		base |= FIELD64(baser, 12, 4) << 48;
	size = BASER_PAGES(baser) * page;
	if ((baser & BASER_INDIRECT) != 0) {
		if (id / (page / ITS_ENTRY_SIZE) >= size / 8)
			return (oor);
		if (!mem_read(t, base + (uint64_t)(id / (page / ITS_ENTRY_SIZE)) * 8, &l1, 8))
			return (ITS_STALL);
		if ((l1 & ITS_VALID) == 0)
			return (oor);
		base = l1 & ITS_ADDR & ~(uint64_t)(page - 1);
		id %= page / ITS_ENTRY_SIZE;
	} else if (id >= size / ITS_ENTRY_SIZE) {
		return (oor);
	}
	*gpa = base + (uint64_t)id * ITS_ENTRY_SIZE;
	return (ITS_OK);
}

/* -- what is mapped -------------------------------------------------------------------------- */

static enum its_why
find_device(struct its_visit *t, uint32_t device, uint64_t *dte)
{
	enum its_why why;
	uint64_t gpa;

	if (device >> ITS_DEV_BITS != 0)
		return (ITS_DEVICE_OOR);
	if ((why = table_entry(t, BASER_DEVICES, device, ITS_DEVICE_OOR, &gpa)) != ITS_OK)
		return (why);
	if (!mem_read(t, gpa, dte, 8))
		return (ITS_STALL);
	return ((*dte & ITS_VALID) == 0 || DTE_BITS(*dte) > ITS_ID_BITS ? ITS_UNMAPPED_DEVICE :
									  ITS_OK);
}

/* The place of an event's entry in the device's table. */
static enum its_why
find_event(struct its_visit *t, uint32_t device, uint32_t event, uint64_t *gpa)
{
	enum its_why why;
	uint64_t dte;

	if ((why = find_device(t, device, &dte)) != ITS_OK)
		return (why);
	if (event >> DTE_BITS(dte) != 0)
		return (ITS_EVENT_OOR);
	*gpa = (dte & DTE_ITT) + (uint64_t)event * ITS_ENTRY_SIZE;
	return (ITS_OK);
}

static bool
lpi_exists(const struct vgic_its *its, uint32_t intid)
{
	uint32_t bits = FIELD64(its->propbaser, 0, 5) + 1;

	return (intid >= VGIC_LPI_FIRST && intid < VGIC_LPI_FIRST + VGIC_LPI_NUM &&
		(bits >= 32 || intid >> bits == 0));
}

/* An event that is mapped: its entry, *gpa where that is. */
static enum its_why
find_mapping(struct its_visit *t, uint32_t device, uint32_t event, uint64_t *gpa, uint64_t *ite)
{
	enum its_why why;

	if ((why = find_event(t, device, event, gpa)) != ITS_OK)
		return (why);
	if (!mem_read(t, *gpa, ite, 8))
		return (ITS_STALL);
	return ((*ite & ITS_VALID) == 0 || !lpi_exists(t->its, ITE_INTID(*ite)) ?
		    ITS_UNMAPPED_INTERRUPT :
		    ITS_OK);
}

static enum its_why
find_collection(struct its_visit *t, uint32_t icid, uint32_t *cpu)
{
	enum its_why why;
	uint64_t gpa, cte;

	if ((why = table_entry(t, BASER_COLLECTIONS, icid, ITS_COLLECTION_OOR, &gpa)) != ITS_OK)
		return (why);
	if (!mem_read(t, gpa, &cte, 8))
		return (ITS_STALL);
	if ((cte & ITS_VALID) == 0 || CTE_CPU(cte) >= t->hyp->vgic.ncpus)
		return (ITS_UNMAPPED_COLLECTION);
	*cpu = CTE_CPU(cte);
	return (ITS_OK);
}

/* -- LPIs ------------------------------------------------------------------------------------------ */

/* Enable and priority of LPIs [first, first + n) from the property table. */
static void
refresh(struct its_visit *t, uint32_t first, uint32_t n)
{
	uint64_t base = t->its->propbaser & ITS_ADDR;
	uint8_t prop[512], pri;
	struct vgic_visit v;
	struct vgic_v3_irq *irq;
	uint32_t i, part;

	for (; n != 0; n -= part, first += part) {
		part = n < sizeof(prop) ? n : (uint32_t)sizeof(prop);
		/* out of RAM: nothing is enabled */
		if (!mem_read(t, base + first - VGIC_LPI_FIRST, prop, part))
			memset(prop, 0, part);
		vgic_enter(&v, t->hyp, t->self);
		for (i = 0; i < part; i++) {
			irq = vgic_irq(&v, -1, first + i);
			if (!lpi_exists(t->its, first + i))
				prop[i] = 0;
			pri = prop[i] & GIC_PRI_MASK;
			if (irq->priority == pri && irq->enabled == (prop[i] & LPI_PROP_ENABLE))
				continue;
			vgic_irq_fetch(&v, irq);
			irq->priority = pri;
			irq->enabled = prop[i] & LPI_PROP_ENABLE;
			vgic_irq_changed(&v, first + i, irq);
		}
		vgic_leave(&v);
	}
}

/* With the vGIC's lock: it goes to `cpu` from now on, pending or not. */
static void
retarget(struct vgic_visit *v, uint32_t intid, struct vgic_v3_irq *irq, uint32_t cpu)
{
	if (irq->target == (int)cpu)
		return;
	vgic_irq_fetch(v, irq);
	irq->target = (int16_t)cpu;
	if (hyp_ctx(v->hyp, cpu)->vgic_cpu.lpis_on == 0)
		irq->latch = 0;
	vgic_irq_changed(v, intid, irq);
}

/* Make it pending, or not, on `cpu`. */
static void
lpi_pend(struct its_visit *t, uint32_t intid, uint32_t cpu, bool pending)
{
	struct vgic_visit v;
	struct vgic_v3_irq *irq;

	vgic_enter(&v, t->hyp, t->self);
	irq = vgic_irq(&v, -1, intid);
	retarget(&v, intid, irq, cpu);
	if (!pending) {
		vgic_irq_fetch(&v, irq);
		irq->latch = 0;
	} else if (hyp_ctx(t->hyp, cpu)->vgic_cpu.lpis_on != 0) {
		irq->latch = 1;
	}
	vgic_irq_changed(&v, intid, irq);
	vgic_leave(&v);
}

/* An event happens: its interrupt becomes pending, or (`pending` false) ceases to be. */
static enum its_why
event(struct its_visit *t, uint32_t device, uint32_t id, bool pending)
{
	enum its_why why;
	uint64_t gpa, ite;
	uint32_t cpu;

	if ((why = find_mapping(t, device, id, &gpa, &ite)) != ITS_OK ||
	    (why = find_collection(t, ITE_ICID(ite), &cpu)) != ITS_OK)
		return (why);
	lpi_pend(t, ITE_INTID(ite), cpu, pending);
	return (ITS_OK);
}

/* -- commands (IHI 0069, 5.3) --------------------------------------------------------------------------- */

static enum its_why
cmd_mapd(struct its_visit *t, const uint64_t *c)
{
	enum its_why why;
	uint64_t gpa, dte = 0;

	if (CMD_DEVICE(c) >> ITS_DEV_BITS != 0)
		return (ITS_DEVICE_OOR);
	if (CMD_VALID(c) && CMD_ITT_BITS(c) > ITS_ID_BITS)
		return (ITS_SIZE_OOR);
	why = table_entry(t, BASER_DEVICES, CMD_DEVICE(c), ITS_DEVICE_OOR, &gpa);
	if (why != ITS_OK)
		return (why);
	if (CMD_VALID(c))
		dte = ITS_VALID | CMD_ITT(c) | (CMD_ITT_BITS(c) - 1);
	return (mem_write(t, gpa, &dte, 8) ? ITS_OK : ITS_STALL);
}

static enum its_why
cmd_mapc(struct its_visit *t, const uint64_t *c)
{
	enum its_why why;
	uint64_t gpa, cte = 0;

	if (CMD_VALID(c) && CMD_CPU(c[2]) >= t->hyp->vgic.ncpus)
		return (ITS_SIZE_OOR);
	why = table_entry(t, BASER_COLLECTIONS, CMD_ICID(c), ITS_COLLECTION_OOR, &gpa);
	if (why != ITS_OK)
		return (why);
	if (CMD_VALID(c))
		cte = ITS_VALID | CMD_CPU(c[2]);
	return (mem_write(t, gpa, &cte, 8) ? ITS_OK : ITS_STALL);
}

static enum its_why
map(struct its_visit *t, const uint64_t *c, uint32_t intid)
{
	enum its_why why;
	uint64_t gpa, cgpa, ite = ITE(intid, CMD_ICID(c));

	if ((why = find_event(t, CMD_DEVICE(c), CMD_EVENT(c), &gpa)) != ITS_OK)
		return (why);
	if (!lpi_exists(t->its, intid))
		return (ITS_INTID_OOR);
	why = table_entry(t, BASER_COLLECTIONS, CMD_ICID(c), ITS_COLLECTION_OOR, &cgpa);
	if (why != ITS_OK)
		return (why);
	if (!mem_write(t, gpa, &ite, 8))
		return (ITS_STALL);
	refresh(t, intid, 1);
	return (ITS_OK);
}

static enum its_why
cmd_mapti(struct its_visit *t, const uint64_t *c)
{
	return (map(t, c, CMD_INTID(c)));
}

static enum its_why
cmd_mapi(struct its_visit *t, const uint64_t *c)
{
	return (map(t, c, CMD_EVENT(c)));
}

static enum its_why
cmd_movi(struct its_visit *t, const uint64_t *c)
{
	struct vgic_visit v;
	enum its_why why;
	uint64_t gpa, ite;
	uint32_t cpu, intid;

	if ((why = find_mapping(t, CMD_DEVICE(c), CMD_EVENT(c), &gpa, &ite)) != ITS_OK ||
	    (why = find_collection(t, CMD_ICID(c), &cpu)) != ITS_OK)
		return (why);
	intid = ITE_INTID(ite);
	ite = ITE(intid, CMD_ICID(c));
	if (!mem_write(t, gpa, &ite, 8))
		return (ITS_STALL);
	vgic_enter(&v, t->hyp, t->self);
	retarget(&v, intid, vgic_irq(&v, -1, intid), cpu);
	vgic_leave(&v);
	return (ITS_OK);
}

static enum its_why
cmd_movall(struct its_visit *t, const uint64_t *c)
{
	struct vgic_visit v;
	struct vgic_v3_irq *irq;
	uint64_t from = CMD_CPU(c[2]), to = CMD_CPU(c[3]);
	uint32_t n;

	if (from >= t->hyp->vgic.ncpus || to >= t->hyp->vgic.ncpus)
		return (ITS_SIZE_OOR);
	t->budget -= t->budget < ALL_LPIS ? t->budget : ALL_LPIS;
	vgic_enter(&v, t->hyp, t->self);
	for (n = VGIC_LPI_FIRST; n < VGIC_LPI_FIRST + VGIC_LPI_NUM; n++) {
		irq = vgic_irq(&v, -1, n);
		if (irq->target == (int)from && (irq->latch || irq->in_lr != 0))
			retarget(&v, n, irq, (uint32_t)to);
	}
	vgic_leave(&v);
	return (ITS_OK);
}

static enum its_why
cmd_int(struct its_visit *t, const uint64_t *c)
{
	return (event(t, CMD_DEVICE(c), CMD_EVENT(c), true));
}

static enum its_why
cmd_clear(struct its_visit *t, const uint64_t *c)
{
	return (event(t, CMD_DEVICE(c), CMD_EVENT(c), false));
}

static enum its_why
cmd_discard(struct its_visit *t, const uint64_t *c)
{
	enum its_why why;
	uint64_t gpa, ite, none = 0;
	uint32_t cpu;

	if ((why = find_mapping(t, CMD_DEVICE(c), CMD_EVENT(c), &gpa, &ite)) != ITS_OK)
		return (why);
	if (!mem_write(t, gpa, &none, 8))
		return (ITS_STALL);
	if (find_collection(t, ITE_ICID(ite), &cpu) == ITS_OK)
		lpi_pend(t, ITE_INTID(ite), cpu, false);
	return (ITS_OK);
}

static enum its_why
cmd_inv(struct its_visit *t, const uint64_t *c)
{
	enum its_why why;
	uint64_t gpa, ite;

	if ((why = find_mapping(t, CMD_DEVICE(c), CMD_EVENT(c), &gpa, &ite)) != ITS_OK)
		return (why);
	refresh(t, ITE_INTID(ite), 1);
	return (ITS_OK);
}

static enum its_why
cmd_invall(struct its_visit *t, const uint64_t *c)
{
	enum its_why why;
	uint32_t cpu;

	if ((why = find_collection(t, CMD_ICID(c), &cpu)) != ITS_OK)
		return (why);
	t->budget -= t->budget < ALL_LPIS ? t->budget : ALL_LPIS;
	/* more than asked for: what is not cached is never stale */
	refresh(t, VGIC_LPI_FIRST, VGIC_LPI_NUM);
	return (ITS_OK);
}

static enum its_why
cmd_sync(struct its_visit *t, const uint64_t *c)
{
	/* every command is complete when the next one is read */
	return (CMD_CPU(c[2]) >= t->hyp->vgic.ncpus ? ITS_SIZE_OOR : ITS_OK);
}

static enum its_why (*const commands[CMD_COUNT])(struct its_visit *, const uint64_t *) = {
	[CMD_MOVI] = cmd_movi,
	[CMD_INT] = cmd_int,
	[CMD_CLEAR] = cmd_clear,
	[CMD_SYNC] = cmd_sync,
	[CMD_MAPD] = cmd_mapd,
	[CMD_MAPC] = cmd_mapc,
	[CMD_MAPTI] = cmd_mapti,
	[CMD_MAPI] = cmd_mapi,
	[CMD_INV] = cmd_inv,
	[CMD_INVALL] = cmd_invall,
	[CMD_MOVALL] = cmd_movall,
	[CMD_DISCARD] = cmd_discard,
};

/* Serve the queue: 0, or EAGAIN when there is more. */
static int
serve_queue(struct its_visit *t)
{
	struct vgic_its *its = t->its;
	uint64_t cmd[4], size = CBASER_SIZE(its->cbaser);
	enum its_why why;
	unsigned code;

	while ((its->ctlr & GITS_CTLR_ENABLED) != 0 && (its->cbaser & ITS_VALID) != 0 &&
	       its->stalled == 0 && its->creadr != its->cwriter) {
		if (t->budget == 0)
			return (EAGAIN);
		t->budget--;
		if (its->creadr >= size)
			its->creadr = 0;
		why = ITS_STALL;
		if (mem_read(t, (its->cbaser & ITS_ADDR) + its->creadr, cmd, sizeof(cmd))) {
			code = CMD_CODE(cmd);
			why = ITS_UNKNOWN;
			if (code < CMD_COUNT && commands[code] != NULL)
				why = commands[code](t, cmd);
			if (why != ITS_OK && why != ITS_STALL)
				its->error = ITS_ERROR(code, why);
		}
		if (why == ITS_STALL) {
			its->stalled = 1;
			break;
		}
		its->creadr = (its->creadr + ITS_CMD_SIZE) % size;
	}
	return (0);
}

/* -- registers of the ITS ----------------------------------------------------------------------------------- */

static int
wr_ctlr(struct its_visit *t, uint64_t val)
{
	t->its->ctlr = (uint32_t)val & GITS_CTLR_ENABLED;
	return (serve_queue(t));
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
	return (serve_queue(t));
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
		(void)event(t, 0, (uint32_t)val, true);
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
	{ GITS_IMPDEF, 4, rd_impdef, NULL },
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

	refresh(t, VGIC_LPI_FIRST, VGIC_LPI_NUM);
	if ((c->pendbaser & PENDBASER_PTZ) != 0 ||
	    !mem_read(t, (c->pendbaser & PENDBASER_ADDR) + PEND_FIRST, bits, sizeof(bits)))
		memset(bits, 0, sizeof(bits));
	vgic_enter(&v, t->hyp, t->self);
	c->lpis_on = 1;
	for (i = 0; i < VGIC_LPI_NUM; i++) {
		if (((bits[i / 8] >> (i % 8)) & 1) == 0 || !lpi_exists(t->its, VGIC_LPI_FIRST + i))
			continue;
		irq = vgic_irq(&v, -1, VGIC_LPI_FIRST + i);
		retarget(&v, VGIC_LPI_FIRST + i, irq, cpu);
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
	(void)mem_write(t, (c->pendbaser & PENDBASER_ADDR) + PEND_FIRST, bits, sizeof(bits));
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
		if (c->lpis_on != 0 && lpi_exists(t->its, (uint32_t)val))
			refresh(t, (uint32_t)val, 1);
		break;
	case GICR_INVALLR:
		if (c->lpis_on != 0)
			refresh(t, VGIC_LPI_FIRST, VGIC_LPI_NUM);
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
			return (r->wr(t, r->len == 4 ?
						 *val :
						 merge(r->rd(t), off - r->start, size, *val)));
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
			    gicr_regs[i].len == 4 ?
				*val :
				merge(gicr_read(t, cpu, gicr_regs[i].start), o, size, *val));
		return (0);
	}
	return (ENOENT);
}

static void
its_enter(struct its_visit *t, struct vm *vm, struct hyp *hyp, int self)
{
	*t = (struct its_visit) {
		.its = hyp_its(hyp), .vm = vm, .hyp = hyp, .self = self, .budget = BUDGET
	};
	/* an owner that died leaves a command half done, to be done again */
	(void)sys_lock(&t->its->lock);
}

int
vgic_its_mmio(struct vm *vm, struct hypctx *hypctx, uint64_t gpa, unsigned size, int dir,
    uint64_t *val)
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
		why = event(&t, devid, (uint32_t)msg, true);
	sys_unlock(&t.its->lock);
	return (why == ITS_OK ? 0 : EINVAL);
}
