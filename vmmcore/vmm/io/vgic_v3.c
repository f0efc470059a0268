/*
 * A guest's GIC: the state machine of its interrupts and their way through
 * the list registers (IHI 0069, chapters 4 and 6; FreeBSD's vgic_v3.c for the
 * names).
 *
 * An interrupt's state is in struct vgic_v3_irq while its vCPU is out of the
 * guest. vgic_flush_hwstate() chooses what the list registers hold for the
 * next stay in the guest, vgic_sync_hwstate() takes it back. In between only
 * new edges and line changes are recorded, and the vCPU is kicked for them.
 *
 * More interrupts than list registers: the pending one that comes first always
 * has a list register, then the active ones, then the other pending ones.
 *	pending ones are outside	NPIE: an exit when none is left inside
 *	active ones are outside		LRENPIE and TDIR: an exit at their end
 * so nothing waits for an exit that may never come.
 *
 * A level-sensitive interrupt that is loaded pending asks for an exit at its
 * end (EOI); if the guest's handler made an exit before, to quieten its
 * device, the list register has been rewritten without it and there is none.
 *
 * Not here: creation (vgic_init.c), frames (vgic_v3_mmio.c), who raises lines (vgic.c),
 * what is different for a GICv2 (vgic_v2.c), LPIs' tables (vgic_its.c).
 */
#include "vmm/io/vgic.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "vmm/arm64.h"
#include "vmm/io/vgic_v3_reg.h"

/* -- visits -------------------------------------------------------------------- */

static struct vgic_v3_cpu *
cpu_of(struct vgic_visit *v, int cpu)
{
	return (&hyp_ctx(v->hyp, (unsigned)cpu)->vgic_cpu);
}

static uint32_t
map_bit(uint32_t intid)
{
	return (intid < VGIC_LPI_FIRST ? intid : intid - VGIC_LPI_FIRST + VGIC_MAP_LPI);
}

static uint32_t
map_intid(uint32_t bit)
{
	return (bit < VGIC_MAP_LPI ? bit : bit - VGIC_MAP_LPI + VGIC_LPI_FIRST);
}

static void
map_set(struct vgic_v3_cpu *cpu, uint32_t intid)
{
	uint32_t bit = map_bit(intid), w = bit / 64;

	cpu->map[w] |= UINT64_C(1) << (bit % 64);
	cpu->sum[w / 64] |= UINT64_C(1) << (w % 64);
	atomic_store(&cpu->hint, 1);
}

static void
map_clear(struct vgic_v3_cpu *cpu, uint32_t intid)
{
	uint32_t bit = map_bit(intid), w = bit / 64, i;
	uint64_t any = 0;

	cpu->map[w] &= ~(UINT64_C(1) << (bit % 64));
	if (cpu->map[w] == 0)
		cpu->sum[w / 64] &= ~(UINT64_C(1) << (w % 64));
	for (i = 0; i < VGIC_SUMS; i++)
		any |= cpu->sum[i];
	if (any == 0)
		atomic_store(&cpu->hint, 0);
}

/* The first bit of the map from `bit` up; VGIC_BITS: no more. */
static uint32_t
map_next(const struct vgic_v3_cpu *cpu, uint32_t bit)
{
	uint32_t w = bit / 64, s;
	uint64_t m;

	if (w >= VGIC_WORDS)
		return (VGIC_BITS);
	m = cpu->map[w] & (UINT64_MAX << (bit % 64));
	while (m == 0) {
		if (++w >= VGIC_WORDS)
			return (VGIC_BITS);
		s = w / 64;
		m = cpu->sum[s] & (UINT64_MAX << (w % 64));
		while (m == 0) {
			if (++s >= VGIC_SUMS)
				return (VGIC_BITS);
			m = cpu->sum[s];
		}
		w = s * 64 + (uint32_t)__builtin_ctzll(m);
		m = w < VGIC_WORDS ? cpu->map[w] : 0;
	}
	return (w * 64 + (uint32_t)__builtin_ctzll(m));
}

/* Entries may be taken off, and further ones put on, on the way. */
#define FOR_EACH_MAPPED(cpu, bit) \
	for ((bit) = map_next((cpu), 0); (bit) < VGIC_BITS; (bit) = map_next((cpu), (bit) + 1))

/* Somebody died with the lock held: derive again what is derived. */
static void
rebuild_irq(struct vgic_visit *v, uint32_t intid, struct vgic_v3_irq *irq)
{
	if (irq->in_lr != 0 && irq->owner >= 0) {
		map_set(cpu_of(v, irq->owner), intid);
		return;
	}
	if (!irq->active)
		irq->owner = -1;
	else if (irq->owner >= 0)
		map_set(cpu_of(v, irq->owner), intid);
	vgic_irq_changed(v, intid, irq);
}

static void
rebuild(struct vgic_visit *v)
{
	struct vgic_v3_cpu *cpu;
	uint32_t c, n;

	for (c = 0; c < v->hyp->maxcpus; c++) {
		cpu = cpu_of(v, (int)c);
		memset(cpu->map, 0, sizeof(cpu->map));
		memset(cpu->sum, 0, sizeof(cpu->sum));
		cpu->hold = 0;
	}
	for (c = 0; c < v->hyp->maxcpus; c++) {
		for (n = 0; n < VGIC_PRV_I_NUM; n++)
			rebuild_irq(v, n, vgic_irq(v, (int)c, n));
	}
	for (n = VGIC_PRV_I_NUM; n < VGIC_I_NUM; n++)
		rebuild_irq(v, n, vgic_irq(v, -1, n));
	if (vgic_irq(v, -1, VGIC_LPI_FIRST) != NULL) {
		for (n = VGIC_LPI_FIRST; n < VGIC_LPI_FIRST + VGIC_LPI_NUM; n++)
			rebuild_irq(v, n, vgic_irq(v, -1, n));
	}
}

static void
visit(struct vgic_visit *v, struct hyp *hyp, int self)
{
	v->hyp = hyp;
	v->vgic = &hyp->vgic;
	v->self = self;
	v->notify = 0;
	v->held = 0;
}

void
vgic_enter(struct vgic_visit *v, struct hyp *hyp, int self)
{
	visit(v, hyp, self);
	if (sys_lock(&hyp->vgic.lock) == EOWNERDEAD)
		rebuild(v);
}

int
vgic_enter_until(struct vgic_visit *v, struct hyp *hyp, int self, uint64_t deadline_ns)
{
	int error = sys_lock_until(&hyp->vgic.lock, deadline_ns);

	visit(v, hyp, self);
	if (error == EOWNERDEAD)
		rebuild(v);
	else if (error != 0)
		return (error);
	return (0);
}

void
vgic_leave(struct vgic_visit *v)
{
	uint64_t m;
	int c;

	for (m = v->held; m != 0; m &= m - 1) {
		if (cpu_of(v, __builtin_ctzll(m))->hold != 0) /* rebuild() may have been there */
			cpu_of(v, __builtin_ctzll(m))->hold--;
	}
	sys_unlock(&v->vgic->lock);
	for (m = v->notify; m != 0; m &= m - 1) {
		c = __builtin_ctzll(m);
		if (c != v->self)
			vcpu_notify(hyp_ctx(v->hyp, (unsigned)c));
	}
}

struct vgic_v3_irq *
vgic_irq(struct vgic_visit *v, int cpu, uint32_t intid)
{
	if (intid >= VGIC_LPI_FIRST && intid - VGIC_LPI_FIRST < VGIC_LPI_NUM &&
	    vgic_its_is_attached(v->hyp))
		return (&hyp_its(v->hyp)->lpi[intid - VGIC_LPI_FIRST]);
	if (intid >= VGIC_I_NUM)
		return (NULL);
	if (intid >= VGIC_PRV_I_NUM)
		return (&v->vgic->spi[intid - VGIC_PRV_I_NUM]);
	if (cpu < 0 || (uint32_t)cpu >= v->hyp->maxcpus)
		return (NULL);
	return (&cpu_of(v, cpu)->irq[intid]);
}

bool
vgic_irq_pending(const struct vgic_v3_irq *irq)
{
	return (irq->latch || (!irq->edge && irq->level));
}

/* May it be forwarded to its vCPU? */
static bool
deliverable(const struct vgic_v3 *vgic, const struct vgic_v3_irq *irq)
{
	return (irq->enabled && ((vgic->gicd_ctlr >> irq->group) & 1) != 0);
}

void
vgic_irq_changed(struct vgic_visit *v, uint32_t intid, struct vgic_v3_irq *irq)
{
	bool pending = vgic_irq_pending(irq);
	int want;

	/* 1 of N: whoever is awake when it becomes pending */
	if (pending && !irq->active && irq->in_lr == 0 && irq->owner < 0 &&
	    (irq->irouter & GICD_IROUTER_IRM) != 0)
		irq->target = (int16_t)vgic_route(v, irq->irouter);
	if (irq->in_lr != 0) {
		/* it runs with what was loaded: fetch it to look again */
		v->notify |= UINT64_C(1) << irq->owner;
		return;
	}
	if (irq->active && irq->owner >= 0)
		want = irq->owner; /* it ends where it was acknowledged */
	else
		want = irq->active || pending ? irq->target : -1;
	if (want != irq->owner) {
		if (irq->owner >= 0)
			map_clear(cpu_of(v, irq->owner), intid);
		if (want >= 0)
			map_set(cpu_of(v, want), intid);
		irq->owner = (int16_t)want;
	}
	if (want >= 0 && pending && deliverable(v->vgic, irq))
		v->notify |= UINT64_C(1) << want;
}

void
vgic_all_changed(struct vgic_visit *v)
{
	uint32_t c, n, bit;

	/* what is pending is on some map */
	for (c = 0; c < v->hyp->maxcpus; c++) {
		FOR_EACH_MAPPED (cpu_of(v, (int)c), bit) {
			n = map_intid(bit);
			vgic_irq_changed(v, n, vgic_irq(v, (int)c, n));
		}
	}
}

void
vgic_irq_deactivate(struct vgic_visit *v, uint32_t intid, struct vgic_v3_irq *irq)
{
	/* of a hardware interrupt, vgic_v3_restore() sets the physical state */
	irq->active = 0;
	vgic_irq_changed(v, intid, irq);
}

void
vgic_cpu_sleep(struct vgic_visit *v, int cpu, bool sleep)
{
	struct vgic_v3_irq *irq;
	uint32_t bit, intid;

	cpu_of(v, cpu)->waker = sleep;
	if (!sleep)
		return;
	FOR_EACH_MAPPED (cpu_of(v, cpu), bit) {
		intid = map_intid(bit);
		irq = vgic_irq(v, cpu, intid);
		if ((irq->irouter & GICD_IROUTER_IRM) == 0 || intid < VGIC_PRV_I_NUM)
			continue;
		vgic_irq_fetch(v, irq);
		if (irq->active)
			continue;
		irq->target = (int16_t)vgic_route(v, irq->irouter);
		vgic_irq_changed(v, intid, irq);
	}
}

void
vgic_drop_active(struct vgic_visit *v, int cpu)
{
	struct vgic_v3_irq *irq;
	uint32_t bit, intid;

	FOR_EACH_MAPPED (cpu_of(v, cpu), bit) {
		intid = map_intid(bit);
		irq = vgic_irq(v, cpu, intid);
		irq->in_lr = 0;
		vgic_irq_deactivate(v, intid, irq);
	}
}

void
vgic_irq_fetch(struct vgic_visit *v, struct vgic_v3_irq *irq)
{
	struct hypctx *ctx;
	int owner;

	while (irq->in_lr != 0) {
		owner = irq->owner;
		ctx = hyp_ctx(v->hyp, (unsigned)owner);
		if (((v->held >> owner) & 1) == 0) {
			v->held |= UINT64_C(1) << owner;
			ctx->vgic_cpu.hold++;
		}
		sys_unlock(&v->vgic->lock);
		vcpu_notify(ctx);
		while (atomic_load(&ctx->vgic_cpu.in_guest) != 0)
			sched_yield();
		if (sys_lock(&v->vgic->lock) == EOWNERDEAD)
			rebuild(v);
	}
}

/* -- into the list registers ----------------------------------------------------------- */

/* Interrupts that want a list register, as many as there can be; the smaller key first. */
struct cand {
	uint32_t key; /* masked group, priority, INTID */
	bool pending, active;
};
struct cands {
	struct cand c[VGIC_MAXLR];
	uint32_t n;     /* of these, in order */
	uint32_t total; /* with those that did not fit */
};

#define CAND_KEY(off, prio, intid) ((uint32_t)(off) << 24 | (uint32_t)(prio) << 16 | (intid))
#define CAND_OFF(c) ((c)->key >> 24 != 0)
#define CAND_INTID(c) ((c)->key & 0xffff)

static void
cand_add(struct cands *list, uint32_t room, const struct cand *c)
{
	uint32_t i;

	list->total++;
	if (list->n == room && (room == 0 || list->c[room - 1].key < c->key))
		return;
	if (list->n < room)
		list->n++;
	for (i = list->n - 1; i > 0 && list->c[i - 1].key > c->key; i--)
		list->c[i] = list->c[i - 1];
	list->c[i] = *c;
}

static void
load(struct vgic_visit *v, struct hypctx *hypctx, const struct cand *c)
{
	struct vgic_v3_cpu *cpu = &hypctx->vgic_cpu;
	uint32_t intid = CAND_INTID(c), i = cpu->lr_used++;
	struct vgic_v3_irq *irq = vgic_irq(v, (int)hypctx->vcpuid, intid);
	bool pending = c->pending;
	uint64_t lr;

	lr = intid | (uint64_t)irq->priority << ICH_LR_PRIORITY_SHIFT;
	if (irq->group)
		lr |= ICH_LR_GROUP1;
	if (irq->hw && !irq->latch) {
		/* while active, the line comes back as a physical interrupt */
		lr |= ICH_LR_HW | (uint64_t)intid << ICH_LR_PINTID_SHIFT;
		if (irq->active)
			pending = false;
	} else if (pending && !irq->edge && (irq->level || irq->hw)) {
		lr |= ICH_LR_EOI;
	}
	if (irq->active) {
		lr |= ICH_LR_ACTIVE;
		if (pending && irq->target != (int)hypctx->vcpuid) {
			/* the next one is another vCPU's: look again at the end of this one */
			pending = false;
			lr |= ICH_LR_EOI;
		}
	}
	if (pending) {
		lr |= ICH_LR_PENDING;
		cpu->lr_pending |= UINT32_C(1) << i;
		if (irq->edge)
			irq->latch = 0; /* back when it was not taken */
	}
	hypctx->vgic_v3_regs.ich_lr_el2[i] = lr;
	cpu->lr_irq[i] = (uint16_t)intid;
	irq->in_lr = (uint8_t)(i + 1);
}

/*
 * What the vCPU has to look at: `act` has the active ones, `pend` the others.
 * off[g]: how many pending ones of group g the CPU masks.
 */
static void
collect(struct vgic_visit *v, struct hypctx *hypctx, struct cands *act, struct cands *pend,
    uint32_t off[2])
{
	struct vgic_v3_cpu *cpu = &hypctx->vgic_cpu;
	const struct vgic_v3_regs *regs = &hypctx->vgic_v3_regs;
	const struct vgic_v3_irq *irq;
	struct cand c;
	uint32_t bit, intid;
	bool masked;

	act->n = act->total = pend->n = pend->total = off[0] = off[1] = 0;
	FOR_EACH_MAPPED (cpu, bit) {
		intid = map_intid(bit);
		irq = vgic_irq(v, (int)hypctx->vcpuid, intid);
		if (irq == NULL)
			continue;
		c.active = irq->active;
		c.pending = vgic_irq_pending(irq) && deliverable(v->vgic, irq);
		if (!c.active && !c.pending)
			continue;
		masked = (regs->ich_vmcr_el2 & ICH_VMCR_VENG(irq->group)) == 0;
		c.key = CAND_KEY(masked, irq->priority, intid);
		if (masked && !c.active)
			off[irq->group]++;
		cand_add(c.active ? act : pend, regs->ich_lr_num, &c);
	}
}

/* The pending one that comes first, the active ones, the other pending ones. */
static void
load_v3(struct vgic_visit *v, struct hypctx *hypctx)
{
	struct vgic_v3_cpu *cpu = &hypctx->vgic_cpu;
	struct vgic_v3_regs *regs = &hypctx->vgic_v3_regs;
	struct cands act, pend;
	uint32_t off[2], i = 0, j, nlr = regs->ich_lr_num;
	const struct cand *c;

	collect(v, hypctx, &act, &pend, off);
	if (pend.n != 0)
		load(v, hypctx, &pend.c[i++]);
	for (j = 0; j < act.n && cpu->lr_used < nlr; j++)
		load(v, hypctx, &act.c[j]);
	cpu->evicted = act.total - j;
	for (; i < pend.n && cpu->lr_used < nlr; i++)
		load(v, hypctx, &pend.c[i]);
	/* an active one that is pending too counts as active */
	if (cpu->evicted != 0)
		regs->ich_hcr_el2 |= ICH_HCR_LRENPIE | ICH_HCR_TDIR;
	if (pend.total != i)
		regs->ich_hcr_el2 |= ICH_HCR_NPIE;
	for (j = 0; j < i; j++) {
		c = &pend.c[j];
		if (CAND_OFF(c))
			off[vgic_irq(v, (int)hypctx->vcpuid, CAND_INTID(c))->group]--;
	}
	if (off[0] != 0)
		regs->ich_hcr_el2 |= ICH_HCR_VGRP0EIE;
	if (off[1] != 0)
		regs->ich_hcr_el2 |= ICH_HCR_VGRP1EIE;
}

void
vgic_flush_hwstate(struct hypctx *hypctx)
{
	struct hyp *hyp = hypctx_hyp(hypctx);
	struct vgic_v3_cpu *cpu = &hypctx->vgic_cpu;
	struct vgic_v3_regs *regs = &hypctx->vgic_v3_regs;
	struct vgic_visit v;

	if (cpu->lr_used != 0) /* the entry was given up after the last flush */
		vgic_sync_hwstate(hypctx);
	cpu->lr_last = 0;
	if (!vgic_is_attached(hyp)) {
		regs->ich_hcr_el2 = 0;
		return;
	}
	regs->ich_hcr_el2 = ICH_HCR_EN;
	if (hyp->vgic.version == 2) /* no system registers: the guest has GICC_* */
		regs->ich_hcr_el2 |= ICH_HCR_TC | ICH_HCR_TALL0 | ICH_HCR_TALL1;
	/*
	 * Without the lock: who makes the map non-empty sets the hint first
	 * and kicks afterwards, and the kick was cleared before we came here.
	 */
	if (atomic_load(&cpu->hint) == 0)
		return;

	vgic_enter(&v, hyp, (int)hypctx->vcpuid);
	while (cpu->hold != 0) {
		sys_unlock(&v.vgic->lock);
		sched_yield();
		if (sys_lock(&v.vgic->lock) == EOWNERDEAD)
			rebuild(&v);
	}
	cpu->lr_used = cpu->lr_pending = cpu->evicted = 0;
	if (v.vgic->version == 2)
		vgic_v2_load(&v, hypctx);
	else
		load_v3(&v, hypctx);
	cpu->lr_last = cpu->lr_used;
	if (cpu->lr_used != 0)
		atomic_store(&cpu->in_guest, 1);
	v.notify = 0;
	vgic_leave(&v);
}

/* -- and back ------------------------------------------------------------------------------ */

/* `count` ends of active interrupts that were outside: the highest first. */
static void
end_evicted(struct vgic_visit *v, struct hypctx *hypctx, unsigned count)
{
	struct vgic_v3_cpu *cpu = &hypctx->vgic_cpu;
	struct vgic_v3_irq *irq, *best;
	uint32_t bit, intid, best_intid = 0;

	for (; count != 0; count--) {
		best = NULL;
		FOR_EACH_MAPPED (cpu, bit) {
			intid = map_intid(bit);
			irq = vgic_irq(v, (int)hypctx->vcpuid, intid);
			if (!irq->active || irq->in_lr != 0)
				continue;
			if (best == NULL || irq->priority < best->priority) {
				best = irq;
				best_intid = intid;
			}
		}
		if (best == NULL)
			return;
		vgic_irq_deactivate(v, best_intid, best);
	}
}

void
vgic_sync_hwstate(struct hypctx *hypctx)
{
	struct vgic_v3_cpu *cpu = &hypctx->vgic_cpu;
	struct vgic_v3_regs *regs = &hypctx->vgic_v3_regs;
	struct vgic_v3_irq *irq;
	struct vgic_visit v;
	uint32_t i, intid, used;
	uint64_t lr;

	if (cpu->lr_used == 0)
		return;
	vgic_enter(&v, hypctx_hyp(hypctx), (int)hypctx->vcpuid);
	/* evicted ones first: what is in a list register now was not outside */
	if (cpu->evicted != 0)
		end_evicted(&v, hypctx, ICH_HCR_EOICOUNT(regs->ich_hcr_el2));
	used = cpu->lr_used;
	for (i = 0; i < used; i++) {
		lr = regs->ich_lr_el2[i];
		intid = cpu->lr_irq[i];
		irq = vgic_irq(&v, (int)hypctx->vcpuid, intid);
		if (irq == NULL)
			continue;
		irq->in_lr = 0;
		if (v.vgic->version == 2) { /* the state has not left irq */
			vgic_irq_changed(&v, intid, irq);
			continue;
		}
		irq->active = (lr & ICH_LR_ACTIVE) != 0;
		if ((lr & ICH_LR_PENDING) != 0) {
			if (irq->edge)
				irq->latch = 1;
		} else if (((cpu->lr_pending >> i) & 1) != 0 && !irq->edge) {
			irq->latch = 0; /* taken: ISPENDR is used up */
		}
		vgic_irq_changed(&v, intid, irq);
	}
	cpu->lr_used = cpu->lr_pending = cpu->evicted = 0;
	atomic_store(&cpu->in_guest, 0);
	vgic_leave(&v);
}

/* -- what WFI waits for ------------------------------------------------------------------------ */

struct vgic_v3_irq *
vgic_highest(struct vgic_visit *v, int cpu, const struct vgic_gate *gate, uint32_t *intid)
{
	struct vgic_v3_irq *irq, *best = NULL;
	uint32_t bit;

	FOR_EACH_MAPPED (cpu_of(v, cpu), bit) {
		irq = vgic_irq(v, cpu, map_intid(bit));
		if (irq == NULL || irq->active || !vgic_irq_pending(irq) ||
		    !deliverable(v->vgic, irq) || !gate->on[irq->group] ||
		    (best != NULL && best->priority <= irq->priority))
			continue;
		best = irq;
		*intid = map_intid(bit);
	}
	return (best);
}

bool
vgic_signals(const struct vgic_gate *gate, const struct vgic_v3_irq *irq)
{
	uint32_t mask = gate->mask[irq->group];

	return (irq->priority < gate->pmr && (gate->running == VGIC_PRIO_IDLE ||
						 (irq->priority & mask) < (gate->running & mask)));
}

static void
v3_gate(const struct vgic_v3_regs *regs, struct vgic_gate *gate)
{
	uint64_t vmcr = regs->ich_vmcr_el2;
	uint32_t bpr0 = ICH_VMCR_VBPR0(vmcr), bpr1 = ICH_VMCR_VBPR1(vmcr) - 1;

	gate->on[0] = (vmcr & ICH_VMCR_VENG(0)) != 0;
	gate->on[1] = (vmcr & ICH_VMCR_VENG(1)) != 0;
	gate->pmr = ICH_VMCR_VPMR(vmcr);
	gate->running = vgic_running(regs->ich_ap0r_el2 | regs->ich_ap1r_el2);
	gate->mask[0] = vgic_group_mask(bpr0);
	gate->mask[1] = vgic_group_mask((vmcr & ICH_VMCR_VCBPR) != 0 ? bpr0 : bpr1);
}

bool
vgic_has_pending_irq(struct hypctx *hypctx)
{
	struct hyp *hyp = hypctx_hyp(hypctx);
	struct vgic_v3_irq *irq;
	struct vgic_gate gate;
	struct vgic_visit v;
	uint32_t intid;
	bool found;

	if (!vgic_is_attached(hyp) || atomic_load(&hypctx->vgic_cpu.hint) == 0)
		return (false);
	vgic_enter(&v, hyp, (int)hypctx->vcpuid);
	if (v.vgic->version == 2)
		vgic_v2_gate(&hypctx->vgic_cpu.v2, &gate);
	else
		v3_gate(&hypctx->vgic_v3_regs, &gate);
	irq = vgic_highest(&v, (int)hypctx->vcpuid, &gate, &intid);
	found = irq != NULL && vgic_signals(&gate, irq);
	v.notify = 0;
	vgic_leave(&v);
	return (found);
}

/* -- world switch ---------------------------------------------------------------------------------- */

void
vgic_v3_restore(struct pe *pe, struct hypctx *hypctx)
{
	struct vgic_v3_cpu *cpu = &hypctx->vgic_cpu;
	struct vgic_v3_regs *regs = &hypctx->vgic_v3_regs;
	static const uint32_t hw[] = { GT_VIRT_IRQ, PMU_IRQ };
	uint32_t i;
	bool ours;

	pe_msr(pe, ICH_VMCR_EL2, regs->ich_vmcr_el2);
	pe_msr(pe, ICH_AP0R0_EL2, regs->ich_ap0r_el2);
	pe_msr(pe, ICH_AP1R0_EL2, regs->ich_ap1r_el2);
	for (i = 0; i < cpu->lr_used; i++)
		pe_msr(pe, ICH_LR_EL2(i), regs->ich_lr_el2[i]);
	pe_msr(pe, ICH_HCR_EL2, regs->ich_hcr_el2);

	/*
	 * The physical interrupt of the virtual timer, or of the PMU, is active for
	 * as long as the guest's one is pending or active: no exit for what is known,
	 * and the guest's end of interrupt re-arms it. Without a vGIC nobody wants it.
	 */
	for (i = 0; i < sizeof(hw) / sizeof(hw[0]); i++) {
		const struct vgic_v3_irq *irq = &cpu->irq[hw[i]];

		ours = !vgic_is_attached(hypctx_hyp(hypctx)) || irq->level || irq->active ||
		       irq->in_lr != 0;
		pe_gicr_set_active(pe, UINT32_C(1) << hw[i], ours);
	}
}

void
vgic_v3_save(struct pe *pe, struct hypctx *hypctx)
{
	struct vgic_v3_regs *regs = &hypctx->vgic_v3_regs;
	uint64_t v;
	uint32_t i;

	if (pe_mrs(pe, ICH_VMCR_EL2, &v) == 0)
		regs->ich_vmcr_el2 = v;
	if (pe_mrs(pe, ICH_HCR_EL2, &v) == 0)
		regs->ich_hcr_el2 = v;
	if (pe_mrs(pe, ICH_AP0R0_EL2, &v) == 0)
		regs->ich_ap0r_el2 = (uint32_t)v;
	if (pe_mrs(pe, ICH_AP1R0_EL2, &v) == 0)
		regs->ich_ap1r_el2 = (uint32_t)v;
	for (i = 0; i < hypctx->vgic_cpu.lr_used; i++) {
		if (pe_mrs(pe, ICH_LR_EL2(i), &v) == 0)
			regs->ich_lr_el2[i] = v;
		/* the next vCPU on this PE starts with empty ones */
		pe_msr(pe, ICH_LR_EL2(i), 0);
	}
	pe_msr(pe, ICH_HCR_EL2, 0);
}

void
vgic_host_init(struct pe *pe)
{
	pe_msr(pe, ICC_PMR_EL1, 0xf8);
	pe_msr(pe, ICC_CTLR_EL1, ICC_CTLR_EOIMODE);
	pe_msr(pe, ICC_IGRPEN1_EL1, 1);
}

uint32_t
vgic_host_irq(struct pe *pe)
{
	uint64_t intid = 1023;

	pe_mrs(pe, ICC_IAR1_EL1, &intid);
	if (intid >= 1020)
		return (1023);
	pe_msr(pe, ICC_EOIR1_EL1, intid);
	/* the virtual timer and the PMU stay active: they are the guest's to end */
	if (intid != GT_VIRT_IRQ && intid != PMU_IRQ)
		pe_msr(pe, ICC_DIR_EL1, intid);
	return ((uint32_t)intid);
}
