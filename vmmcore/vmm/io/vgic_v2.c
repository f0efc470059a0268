/*
 * A guest's GICv2 (IHI 0048): what its distributor has that a GICv3's has not
 * (targets by CPU bit, SGIs with a source), and the CPU interface GICC_*.
 *
 * The host has a GICv3, whose virtual interface has system registers only: so
 * every GICC_* access is an exit, made on the state of the interrupts
 * (vgic_v3.c). A list register only signals: it holds the one interrupt that
 * GICC_IAR would return, and the guest can neither acknowledge nor end it by
 * itself, as ICC_* trap (ICH_HCR_EL2.TC, TALL0, TALL1) and are UNDEFINED.
 *
 * One security state, two groups, 5 bits of priority, at most 8 vCPUs.
 */
#include <errno.h>

#include "vmm/arm64.h"
#include "vmm/io/vgic_mmio.h"
#include "vmm/io/vgic_v3_reg.h"

#define SPURIOUS 1023u
#define OTHER_GROUP 1022u
#define MIN_BPR 2u

static struct vgic_v2_cpu *
v2_of(struct vgic_access *a)
{
	return (&hyp_ctx(a->v.hyp, (unsigned)a->cpu)->vgic_cpu.v2);
}

void
vgic_v2_cpuinit(struct vgic_v2_cpu *v2)
{
	v2->ctlr = v2->pmr = v2->apr[0] = v2->apr[1] = 0;
	v2->bpr = MIN_BPR;
	v2->abpr = MIN_BPR + 1;
}

void
vgic_v2_init(struct vgic_visit *v)
{
	struct vgic_v3_irq *irq;
	uint32_t c, n;

	for (c = 0; c < v->hyp->maxcpus; c++) {
		for (n = 0; n < VGIC_PRV_I_NUM; n++)
			vgic_irq(v, (int)c, n)->group = 0;
	}
	for (n = VGIC_PRV_I_NUM; n < VGIC_I_NUM; n++) {
		irq = vgic_irq(v, -1, n);
		irq->group = 0;
		/* with one CPU there are no targets to choose */
		irq->target = v->vgic->ncpus == 1 ? 0 : -1;
	}
}

/* -- into the guest ------------------------------------------------------------------- */

void
vgic_v2_gate(const struct vgic_v2_cpu *v2, struct vgic_gate *gate)
{
	gate->on[0] = (v2->ctlr & 1) != 0;
	gate->on[1] = (v2->ctlr & 2) != 0;
	gate->pmr = v2->pmr;
	gate->running = vgic_running(v2->apr[0] | v2->apr[1]);
	gate->mask[0] = vgic_group_mask(v2->bpr);
	gate->mask[1] =
	    (v2->ctlr & GICC_CTLR_CBPR) != 0 ? gate->mask[0] : vgic_group_mask(v2->abpr - 1);
}

void
vgic_v2_load(struct vgic_visit *v, struct hypctx *hypctx)
{
	struct vgic_v3_cpu *cpu = &hypctx->vgic_cpu;
	struct vgic_v3_irq *irq;
	struct vgic_gate gate;
	uint32_t intid;
	bool fiq;

	vgic_v2_gate(&cpu->v2, &gate);
	irq = vgic_highest(v, (int)hypctx->vcpuid, &gate, &intid);
	if (irq == NULL || !vgic_signals(&gate, irq))
		return;
	/* the virtual interface is open (vgic_cpuinit): priority 0 always signals */
	fiq = irq->group == 0 && (cpu->v2.ctlr & GICC_CTLR_FIQEN) != 0;
	hypctx->vgic_v3_regs.ich_lr_el2[0] = intid | ICH_LR_PENDING | (fiq ? 0 : ICH_LR_GROUP1);
	cpu->lr_irq[0] = (uint16_t)intid;
	cpu->lr_used = 1;
	irq->in_lr = 1;
}

/* -- GICC: acknowledge and end ----------------------------------------------------------- */

/* INTID and, of an SGI, the vCPU that sent it. */
static uint32_t
iar_value(struct vgic_access *a, uint32_t intid)
{
	uint32_t src;

	if (intid >= VGIC_SGI_NUM)
		return (intid);
	src = v2_of(a)->sgi_src[intid];
	return (intid | (src == 0 ? 0 : (uint32_t)__builtin_ctz(src) << 10));
}

/*
 * What IAR (`alias` 0) or AIAR (1), HPPIR or AHPPIR return of an interrupt of
 * `group`: 0 for the interrupt itself (IHI 0048, 4.4.4 and 4.4.11).
 */
static uint32_t
special(const struct vgic_v2_cpu *v2, unsigned group, unsigned alias)
{
	if (alias != 0)
		return (group == 1 ? 0 : SPURIOUS);
	return (group == 0 || (v2->ctlr & GICC_CTLR_ACK) != 0 ? 0 : OTHER_GROUP);
}

static uint32_t
acknowledge(struct vgic_access *a, unsigned alias)
{
	struct vgic_v2_cpu *v2 = v2_of(a);
	struct vgic_gate gate;
	struct vgic_v3_irq *irq;
	uint32_t intid, val;

	vgic_v2_gate(v2, &gate);
	irq = vgic_highest(&a->v, a->cpu, &gate, &intid);
	if (irq == NULL || !vgic_signals(&gate, irq))
		return (SPURIOUS);
	if ((val = special(v2, irq->group, alias)) != 0)
		return (val);
	val = iar_value(a, intid);
	v2->apr[irq->group] |= UINT32_C(1) << ((irq->priority & gate.mask[irq->group]) >> 3);
	irq->active = 1;
	irq->latch = 0;
	if (intid < VGIC_SGI_NUM) {
		/* each source is an interrupt of its own */
		v2->sgi_src[intid] &= (uint8_t)(v2->sgi_src[intid] - 1);
		irq->latch = v2->sgi_src[intid] != 0;
	}
	vgic_irq_changed(&a->v, intid, irq);
	hypctx_acked(hyp_ctx(a->v.hyp, (unsigned)a->cpu), intid);
	return (val);
}

static uint32_t
highest_pending(struct vgic_access *a, unsigned alias)
{
	struct vgic_gate gate;
	struct vgic_v3_irq *irq;
	uint32_t intid, val;

	vgic_v2_gate(v2_of(a), &gate);
	irq = vgic_highest(&a->v, a->cpu, &gate, &intid);
	if (irq == NULL)
		return (SPURIOUS);
	val = special(v2_of(a), irq->group, alias);
	return (val != 0 ? val : iar_value(a, intid));
}

static void
deactivate(struct vgic_access *a, uint32_t intid)
{
	struct vgic_v3_irq *irq = vgic_access_irq(a, intid);

	if (irq != NULL && irq->active)
		vgic_irq_deactivate(&a->v, intid, irq);
}

static void
end(struct vgic_access *a, uint64_t val)
{
	struct vgic_v2_cpu *v2 = v2_of(a);
	uint32_t intid = (uint32_t)val & 0x3ff, both = v2->apr[0] | v2->apr[1], bit;

	if (intid >= VGIC_I_NUM)
		return;
	bit = both & (~both + 1);
	v2->apr[(v2->apr[0] & bit) != 0 ? 0 : 1] &= ~bit;
	if ((v2->ctlr & GICC_CTLR_EOIMODE) == 0)
		deactivate(a, intid);
}

/* -- GICC: registers ----------------------------------------------------------------------- */

#define RD(name, expr)                                                 \
	static uint64_t rd_##name(struct vgic_access *a, uint32_t off) \
	{                                                              \
		(void)a;                                               \
		(void)off;                                             \
		return (expr);                                         \
	}
#define WR(name, stmt)                                                           \
	static void wr_##name(struct vgic_access *a, uint32_t off, uint64_t val) \
	{                                                                        \
		(void)off;                                                       \
		stmt;                                                            \
	}

static uint32_t
at_least(uint64_t val, uint32_t min)
{
	return ((val & 7) < min ? min : (uint32_t)val & 7);
}

RD(c_ctlr, v2_of(a)->ctlr)
WR(c_ctlr, v2_of(a)->ctlr = (uint32_t)val & GICC_CTLR_MASK)
RD(pmr, v2_of(a)->pmr)
WR(pmr, v2_of(a)->pmr = (uint32_t)val & GIC_PRI_MASK)
RD(bpr, v2_of(a)->bpr)
WR(bpr, v2_of(a)->bpr = at_least(val, MIN_BPR))
RD(abpr, v2_of(a)->abpr)
WR(abpr, v2_of(a)->abpr = at_least(val, MIN_BPR + 1))
RD(iar, acknowledge(a, 0))
RD(aiar, acknowledge(a, 1))
WR(eoir, end(a, val))
RD(rpr, vgic_running(v2_of(a)->apr[0] | v2_of(a)->apr[1]))
RD(hppir, highest_pending(a, 0))
RD(ahppir, highest_pending(a, 1))
RD(apr, v2_of(a)->apr[0])
WR(apr, v2_of(a)->apr[0] = (uint32_t)val)
RD(nsapr, v2_of(a)->apr[1])
WR(nsapr, v2_of(a)->apr[1] = (uint32_t)val)
RD(c_iidr, GICC_IIDR_V2)

static void
wr_dir(struct vgic_access *a, uint32_t off, uint64_t val)
{
	(void)off;
	if ((v2_of(a)->ctlr & GICC_CTLR_EOIMODE) != 0)
		deactivate(a, (uint32_t)val & 0x3ff);
}

static const struct vgic_reg cpuif_regs[] = {
	{ GICC_CTLR, 4, W32, rd_c_ctlr, wr_c_ctlr },
	{ GICC_PMR, 4, W32, rd_pmr, wr_pmr },
	{ GICC_BPR, 4, W32, rd_bpr, wr_bpr },
	{ GICC_IAR, 4, W32, rd_iar, NULL },
	{ GICC_EOIR, 4, W32, NULL, wr_eoir },
	{ GICC_RPR, 4, W32, rd_rpr, NULL },
	{ GICC_HPPIR, 4, W32, rd_hppir, NULL },
	{ GICC_ABPR, 4, W32, rd_abpr, wr_abpr },
	{ GICC_AIAR, 4, W32, rd_aiar, NULL },
	{ GICC_AEOIR, 4, W32, NULL, wr_eoir },
	{ GICC_AHPPIR, 4, W32, rd_ahppir, NULL },
	{ GICC_APR, 4, W32, rd_apr, wr_apr },
	{ GICC_NSAPR, 4, W32, rd_nsapr, wr_nsapr },
	{ GICC_IIDR, 4, W32, rd_c_iidr, NULL },
	{ GICC_DIR, 4, W32, NULL, wr_dir },
};

/* -- GICD ----------------------------------------------------------------------------------- */

RD(d_ctlr, a->v.vgic->gicd_ctlr)
RD(d_typer, GICD_TYPER_ITLINES | GICD_TYPER_CPUS(a->v.vgic->ncpus))
RD(pidr2, GICV2_PIDR2_V2)

static uint64_t
rd_targets(struct vgic_access *a, uint32_t off)
{
	struct vgic_v3_irq *irq;
	uint64_t val = 0, t;
	uint32_t i;

	if (a->v.vgic->ncpus == 1)
		return (0);
	for (i = 0; i < a->size; i++) {
		if ((irq = vgic_access_irq(a, off + i)) == NULL)
			continue;
		t = off + i < VGIC_PRV_I_NUM ? UINT64_C(1) << a->cpu : irq->irouter;
		val |= t << (8 * i);
	}
	return (val);
}

static void
wr_targets(struct vgic_access *a, uint32_t off, uint64_t val)
{
	struct vgic_v3_irq *irq;
	uint32_t i, t;

	for (i = 0; i < a->size; i++) {
		irq = vgic_access_irq(a, off + i);
		if (irq == NULL || off + i < VGIC_PRV_I_NUM || a->v.vgic->ncpus == 1)
			continue;
		t = (uint32_t)(val >> (8 * i)) & ((1u << a->v.vgic->ncpus) - 1);
		vgic_irq_fetch(&a->v, irq);
		irq->irouter = t;
		/* of several targets the first takes it */
		irq->target = (int16_t)(t == 0 ? -1 : __builtin_ctz(t));
		vgic_irq_changed(&a->v, off + i, irq);
	}
}

/* SGI `intid` of vCPU `cpu` is pending from the vCPUs of `src`; `how` changes that. */
static void
sgi_sources(struct vgic_access *a, uint32_t cpu, uint32_t intid, uint32_t src, bool set)
{
	struct vgic_v2_cpu *v2 = &hyp_ctx(a->v.hyp, cpu)->vgic_cpu.v2;
	struct vgic_v3_irq *irq = vgic_irq(&a->v, (int)cpu, intid);

	src &= (1u << a->v.vgic->ncpus) - 1;
	if (set)
		v2->sgi_src[intid] |= (uint8_t)src;
	else
		v2->sgi_src[intid] &= (uint8_t)~src;
	irq->latch = v2->sgi_src[intid] != 0;
	vgic_irq_changed(&a->v, intid, irq);
}

/* GICD_SGIR: to a list, to all but this vCPU, or to this one. */
static void
wr_sgir(struct vgic_access *a, uint32_t off, uint64_t val)
{
	uint32_t list, self = 1u << a->cpu, i;

	(void)off;
	switch ((val >> 24) & 3) {
	case 0:
		list = (uint32_t)(val >> 16) & 0xff;
		break;
	case 1:
		list = 0xff & ~self;
		break;
	case 2:
		list = self;
		break;
	default:
		return;
	}
	for (i = 0; i < a->v.vgic->ncpus; i++) {
		if (((list >> i) & 1) != 0 && hyp_cpu_active(a->v.hyp, i))
			sgi_sources(a, i, (uint32_t)val & 0xf, self, true);
	}
}

static uint64_t
rd_sgi_pend(struct vgic_access *a, uint32_t off)
{
	uint64_t val = 0;
	uint32_t i;

	for (i = 0; i < a->size; i++)
		val |= (uint64_t)v2_of(a)->sgi_src[off + i] << (8 * i);
	return (val);
}

static void
sgi_pend(struct vgic_access *a, uint32_t off, uint64_t val, bool set)
{
	uint32_t i;

	for (i = 0; i < a->size; i++) {
		if (((val >> (8 * i)) & 0xff) != 0)
			sgi_sources(
			    a, (uint32_t)a->cpu, off + i, (uint32_t)(val >> (8 * i)) & 0xff, set);
	}
}

WR(spendsgi, sgi_pend(a, off, val, true))
WR(cpendsgi, sgi_pend(a, off, val, false))

static const struct vgic_reg dist_regs[] = {
	{ GICD_CTLR, 4, W32, rd_d_ctlr, vgic_wr_d_ctlr },
	{ GICD_TYPER, 4, W32, rd_d_typer, NULL },
	{ GICD_IIDR, 4, W32, vgic_rd_iidr, NULL },
	VGIC_IRQ_REGS(0, 0x80, 0x400, 0x100),
	{ GICD_ITARGETSR, VGIC_I_NUM, W8 | W32, rd_targets, wr_targets },
	{ GICD_SGIR, 4, W32, NULL, wr_sgir },
	{ GICD_CPENDSGIR, VGIC_SGI_NUM, W8 | W32, rd_sgi_pend, wr_cpendsgi },
	{ GICD_SPENDSGIR, VGIC_SGI_NUM, W8 | W32, rd_sgi_pend, wr_spendsgi },
	{ GICV2_PIDR2, 4, W32, rd_pidr2, NULL },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

int
vgic_v2_mmio(struct hypctx *hypctx, uint64_t gpa, unsigned size, int dir, uint64_t *val)
{
	struct hyp *hyp = hypctx_hyp(hypctx);
	struct vgic_v3 *vgic = &hyp->vgic;
	struct vgic_access a = { .size = size, .write = dir == VM_DIR_WRITE };

	a.cpu = (int)hypctx->vcpuid;
	a.end = VGIC_I_NUM;
	if (hypctx->vcpuid >= vgic->ncpus)
		return (ENOENT);
	if (gpa >= vgic->dist_start && gpa < vgic->dist_end) {
		vgic_enter(&a.v, hyp, a.cpu);
		vgic_access(
		    &a, dist_regs, COUNT(dist_regs), (uint32_t)(gpa - vgic->dist_start), val);
	} else if (gpa >= vgic->redist_start && gpa < vgic->redist_end) {
		vgic_enter(&a.v, hyp, a.cpu);
		vgic_access(
		    &a, cpuif_regs, COUNT(cpuif_regs), (uint32_t)(gpa - vgic->redist_start), val);
	} else {
		return (ENOENT);
	}
	vgic_leave(&a.v);
	return (0);
}
