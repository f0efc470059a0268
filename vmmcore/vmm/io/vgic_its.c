/*
 * LPIs and the interrupt translation service (IHI 0069, chapters 5 and 6): the
 * tables in guest memory, the commands, what an event does. The registers are
 * in vgic_its_mmio.c.
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
#include "vmm/io/vgic_its.h"

#include <errno.h>
#include <string.h>

#include "vmm/vmm_vm.h"

#define ALL_LPIS (VGIC_LPI_NUM / 64) /* of the budget */

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
		its->lpi[i] = (struct vgic_v3_irq){
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

bool
its_mem_read(struct its_visit *t, uint64_t gpa, void *buf, uint64_t len)
{
	return (gpa < IPA_END && len <= IPA_END - gpa && vm_copyin(t->vm, gpa, buf, len) == 0);
}

bool
its_mem_write(struct its_visit *t, uint64_t gpa, const void *buf, uint64_t len)
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
		if (!its_mem_read(t, base + (uint64_t)(id / (page / ITS_ENTRY_SIZE)) * 8, &l1, 8))
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
	if (!its_mem_read(t, gpa, dte, 8))
		return (ITS_STALL);
	return (
	    (*dte & ITS_VALID) == 0 || DTE_BITS(*dte) > ITS_ID_BITS ? ITS_UNMAPPED_DEVICE : ITS_OK);
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

bool
its_lpi_exists(const struct vgic_its *its, uint32_t intid)
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
	if (!its_mem_read(t, *gpa, ite, 8))
		return (ITS_STALL);
	return ((*ite & ITS_VALID) == 0 || !its_lpi_exists(t->its, ITE_INTID(*ite))
		    ? ITS_UNMAPPED_INTERRUPT
		    : ITS_OK);
}

static enum its_why
find_collection(struct its_visit *t, uint32_t icid, uint32_t *cpu)
{
	enum its_why why;
	uint64_t gpa, cte;

	if ((why = table_entry(t, BASER_COLLECTIONS, icid, ITS_COLLECTION_OOR, &gpa)) != ITS_OK)
		return (why);
	if (!its_mem_read(t, gpa, &cte, 8))
		return (ITS_STALL);
	if ((cte & ITS_VALID) == 0 || CTE_CPU(cte) >= t->hyp->vgic.ncpus)
		return (ITS_UNMAPPED_COLLECTION);
	*cpu = CTE_CPU(cte);
	return (ITS_OK);
}

/* -- LPIs ------------------------------------------------------------------------------------------ */

/* Enable and priority of LPIs [first, first + n) from the property table. */
void
its_refresh(struct its_visit *t, uint32_t first, uint32_t n)
{
	uint64_t base = t->its->propbaser & ITS_ADDR;
	uint8_t prop[512], pri;
	struct vgic_visit v;
	struct vgic_v3_irq *irq;
	uint32_t i, part;

	for (; n != 0; n -= part, first += part) {
		part = n < sizeof(prop) ? n : (uint32_t)sizeof(prop);
		/* out of RAM: nothing is enabled */
		if (!its_mem_read(t, base + first - VGIC_LPI_FIRST, prop, part))
			memset(prop, 0, part);
		vgic_enter(&v, t->hyp, t->self);
		for (i = 0; i < part; i++) {
			irq = vgic_irq(&v, -1, first + i);
			if (!its_lpi_exists(t->its, first + i))
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
void
its_retarget(struct vgic_visit *v, uint32_t intid, struct vgic_v3_irq *irq, uint32_t cpu)
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
	its_retarget(&v, intid, irq, cpu);
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
enum its_why
its_event(struct its_visit *t, uint32_t device, uint32_t id, bool pending)
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
	return (its_mem_write(t, gpa, &dte, 8) ? ITS_OK : ITS_STALL);
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
	return (its_mem_write(t, gpa, &cte, 8) ? ITS_OK : ITS_STALL);
}

static enum its_why
map(struct its_visit *t, const uint64_t *c, uint32_t intid)
{
	enum its_why why;
	uint64_t gpa, cgpa, ite = ITE(intid, CMD_ICID(c));

	if ((why = find_event(t, CMD_DEVICE(c), CMD_EVENT(c), &gpa)) != ITS_OK)
		return (why);
	if (!its_lpi_exists(t->its, intid))
		return (ITS_INTID_OOR);
	why = table_entry(t, BASER_COLLECTIONS, CMD_ICID(c), ITS_COLLECTION_OOR, &cgpa);
	if (why != ITS_OK)
		return (why);
	if (!its_mem_write(t, gpa, &ite, 8))
		return (ITS_STALL);
	its_refresh(t, intid, 1);
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
	if (!its_mem_write(t, gpa, &ite, 8))
		return (ITS_STALL);
	vgic_enter(&v, t->hyp, t->self);
	its_retarget(&v, intid, vgic_irq(&v, -1, intid), cpu);
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
			its_retarget(&v, n, irq, (uint32_t)to);
	}
	vgic_leave(&v);
	return (ITS_OK);
}

static enum its_why
cmd_int(struct its_visit *t, const uint64_t *c)
{
	return (its_event(t, CMD_DEVICE(c), CMD_EVENT(c), true));
}

static enum its_why
cmd_clear(struct its_visit *t, const uint64_t *c)
{
	return (its_event(t, CMD_DEVICE(c), CMD_EVENT(c), false));
}

static enum its_why
cmd_discard(struct its_visit *t, const uint64_t *c)
{
	enum its_why why;
	uint64_t gpa, ite, none = 0;
	uint32_t cpu;

	if ((why = find_mapping(t, CMD_DEVICE(c), CMD_EVENT(c), &gpa, &ite)) != ITS_OK)
		return (why);
	if (!its_mem_write(t, gpa, &none, 8))
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
	its_refresh(t, ITE_INTID(ite), 1);
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
	its_refresh(t, VGIC_LPI_FIRST, VGIC_LPI_NUM);
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
int
its_serve_queue(struct its_visit *t)
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
		if (its_mem_read(t, (its->cbaser & ITS_ADDR) + its->creadr, cmd, sizeof(cmd))) {
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
