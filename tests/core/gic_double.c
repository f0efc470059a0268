/*
 * A machine of PEs that execute nothing: the GIC CPU interface and the timer
 * of pe/ with a register file around them, and vmm/io/ on top. A test plays
 * the guest by reading and writing system registers at EL0 or EL1, and the
 * run loop by entering and leaving. Single-threaded: a vCPU that is notified
 * while it is in the guest leaves at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pe/except.h"
#include "pe/gic_cpuif.h"
#include "pe/timer.h"
#include "sys/clock.h"
#include "vmm/arm64.h"
#include "vmm/io/vgic.h"
#include "vmm/vmm_vm.h"

#define EXPORT __attribute__((visibility("default")))

const struct sysreg sysregs[SR_COUNT] = {
#define SYSREG(nm, op0, op1, crn, crm, op2, ac, rs, wm, rdf, wrf, tr) \
	[SR_##nm] = { .name = #nm,                                    \
		.enc = PE_SYSREG(op0, op1, crn, crm, op2),            \
		.sr = SR_##nm,                                        \
		.acc = (ac),                                          \
		.reset = (rs),                                        \
		.wmask = (wm),                                        \
		.rd = (rdf),                                          \
		.wr = (wrf),                                          \
		.trap = (tr) },
/* with every feature */
#define SYSREG_FEAT(feat, ...) SYSREG(__VA_ARGS__)
#include "pe/sysreg_gic.def"
#include "pe/sysreg_timer.def"
	SYSREG(HCR_EL2, 3, 4, 1, 1, 0, SR_RW2, 0, UINT64_MAX, NULL, NULL, NULL)
#undef SYSREG
#undef SYSREG_FEAT
};

struct machine {
	struct hyp_area *area;
	unsigned ncpus;
	struct pe *pe[VM_MAXCPU];
	bool in_guest[VM_MAXCPU];
	uint64_t notified[VM_MAXCPU];
	uint64_t counter;
	bool vhe;
	struct vm vm; /* only for the memory below */
	uint8_t *ram;
};

#define RAM_BASE UINT64_C(0x80000000)
#define RAM_SIZE (UINT64_C(4) << 20)

static struct machine *the_machine; /* vcpu_notify() knows only the hypctx */

#define HCR_GUEST (HCR_IMO | HCR_FMO | HCR_AMO | HCR_VM | HCR_RW)

EXPORT void m_exit(struct machine *, unsigned);
EXPORT void m_enter(struct machine *, unsigned);

void
vcpu_notify(struct hypctx *hypctx)
{
	struct machine *m = the_machine;

	m->notified[hypctx->vcpuid]++;
	atomic_store(&hypctx->kick, 1);
	if (atomic_load(&hypctx->vgic_cpu.in_guest) != 0)
		m_exit(m, hypctx->vcpuid);
}

/* Guest memory, as vmm_mem.c has it: all or nothing. */
static bool
in_ram(uint64_t gpa, uint64_t len)
{
	return (gpa >= RAM_BASE && len <= RAM_SIZE && gpa - RAM_BASE <= RAM_SIZE - len);
}

int
vm_copyin(struct vm *vm, uint64_t gpa, void *buf, uint64_t len)
{
	(void)vm;
	if (!in_ram(gpa, len))
		return (EFAULT);
	memcpy(buf, the_machine->ram + (gpa - RAM_BASE), len);
	return (0);
}

int
vm_write_data(struct vm *vm, uint64_t gpa, const void *buf, uint64_t len)
{
	(void)vm;
	if (!in_ram(gpa, len))
		return (EFAULT);
	memcpy(the_machine->ram + (gpa - RAM_BASE), buf, len);
	return (0);
}

static uint64_t
counter(void *ctx)
{
	return (((struct machine *)ctx)->counter);
}

static const struct sysreg *
find(uint32_t enc)
{
	unsigned i;

	for (i = 0; i < SR_COUNT; i++) {
		if (sysregs[i].name != NULL && sysregs[i].enc == enc)
			return (&sysregs[i]);
	}
	return (NULL);
}

static uint64_t
rd(struct pe *pe, const struct sysreg *r)
{
	return (r->rd != NULL ? r->rd(pe, r) : pe->sr[r->sr]);
}

static void
wr(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	if (r->wr != NULL)
		r->wr(pe, r, v);
	else
		pe->sr[r->sr] = (v & r->wmask) | (r->reset & ~r->wmask);
}

int
pe_mrs(struct pe *pe, uint32_t enc, uint64_t *val)
{
	const struct sysreg *r = find(enc);

	if (r == NULL || (r->acc & SR_R2) == 0)
		return (ENOENT);
	*val = rd(pe, r);
	return (0);
}

int
pe_msr(struct pe *pe, uint32_t enc, uint64_t val)
{
	const struct sysreg *r = find(enc);

	if (r == NULL || (r->acc & SR_W2) == 0)
		return (ENOENT);
	wr(pe, r, val);
	return (0);
}

/* -- the machine ------------------------------------------------------------------ */

EXPORT struct machine *
m_new(unsigned ncpus, unsigned list_regs, int vhe)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct hyp *hyp;
	struct pe *pe;
	unsigned i, n;

	m->area = aligned_alloc(4096, sizeof(*m->area));
	memset(m->area, 0, sizeof(*m->area));
	m->ncpus = ncpus;
	m->counter = 1000000;
	m->vhe = vhe != 0;
	the_machine = m;
	m->ram = calloc(1, RAM_SIZE);
	hyp = &m->area->hyp;
	hyp->maxcpus = ncpus;
	hyp->list_regs = list_regs;
	vgic_vminit(hyp);
	vtimer_vminit(hyp, m->counter);
	for (i = 0; i < ncpus; i++) {
		m->area->ctx[i].vcpuid = i;
		vgic_cpuinit(&m->area->ctx[i]);
		vtimer_cpuinit(&m->area->ctx[i]);
		atomic_fetch_or(&hyp->active_cpus, UINT64_C(1) << i);

		pe = aligned_alloc(64, (sizeof(*pe) + 63) & ~(size_t)63);
		memset(pe, 0, sizeof(*pe));
		pe->pins.ctx = m;
		pe->pins.counter = counter;
		pe->pins.kick = &m->area->ctx[i].kick;
		pe->cfg.list_regs = list_regs;
		pe->cfg.features = UINT64_C(1) << PE_FEAT_ECV;
		pe->cfg.mpidr = i;
		pe->el = 2;
		for (n = 0; n < SR_COUNT; n++)
			pe->sr[n] = sysregs[n].reset;
		pe->gic = gic_create(pe);
		pe->timer = pe_timer_create(pe);
		pe_timer_reset(pe);
		gic_reset(pe);
		pe->sr[SR_HCR_EL2] = m->vhe ? HCR_E2H : 0;
		vgic_host_init(pe);
		m->pe[i] = pe;
	}
	return (m);
}

EXPORT void
m_free(struct machine *m)
{
	unsigned i;

	for (i = 0; i < m->ncpus; i++) {
		gic_destroy(m->pe[i]->gic);
		pe_timer_destroy(m->pe[i]->timer);
		free(m->pe[i]);
	}
	free(m->ram);
	free(m->area);
	free(m);
}

EXPORT int
m_attach(struct machine *m, uint64_t dist, uint64_t dlen, uint64_t redist, uint64_t rlen)
{
	return (vgic_attach_to_vm(&m->area->hyp, dist, dlen, redist, rlen));
}

EXPORT int
m_attach_v2(struct machine *m, uint64_t dist, uint64_t dlen, uint64_t cpuif, uint64_t clen)
{
	return (vgic_v2_attach(&m->area->hyp, dist, dlen, cpuif, clen, m->ncpus));
}

EXPORT int
m_attach_its(struct machine *m, uint64_t base, uint64_t len)
{
	return (vgic_its_attach(&m->area->hyp, base, len));
}

EXPORT int
m_list_regs(struct machine *m, unsigned n)
{
	return (vgic_set_list_regs(&m->area->hyp, n));
}

EXPORT int
m_ram(struct machine *m, uint64_t gpa, void *buf, uint64_t len, int write)
{
	return (write ? vm_write_data(&m->vm, gpa, buf, len) : vm_copyin(&m->vm, gpa, buf, len));
}

/* 0 done, -1 UNDEFINED, 1 and 2 trapped to that level. */
EXPORT int
m_access(struct machine *m, unsigned cpu, unsigned el, uint32_t enc, int write, uint64_t *val)
{
	struct pe *pe = m->pe[cpu];
	const struct sysreg *r = find(enc);
	unsigned was = pe->el;
	int t = 0;

	if (r == NULL || (r->acc & ((write ? SR_W0 : SR_R0) << (2 * el))) == 0)
		return (-1);
	pe->el = (uint8_t)el;
	if (r->trap != NULL && el < 2)
		t = r->trap(pe, r, write != 0);
	if (t == 0) {
		if (write)
			wr(pe, r, *val);
		else
			*val = rd(pe, r);
	}
	pe->el = (uint8_t)was;
	return (t);
}

EXPORT void
m_set_counter(struct machine *m, uint64_t v)
{
	m->counter = v;
}

EXPORT uint64_t
m_counter(struct machine *m)
{
	return (m->counter);
}

/* Interrupt inputs of the core: 1 IRQ, 2 FIQ, 4 virtual IRQ, 8 virtual FIQ. */
EXPORT unsigned
m_lines(struct machine *m, unsigned cpu)
{
	struct pe *pe = m->pe[cpu];

	return ((unsigned)gic_phys_irq(pe) | (unsigned)gic_phys_fiq(pe) << 1 |
		(unsigned)gic_virt_irq(pe) << 2 | (unsigned)gic_virt_fiq(pe) << 3);
}

EXPORT int
m_timer_line(struct machine *m, unsigned cpu, unsigned ppi)
{
	return (timer_line(m->pe[cpu], ppi));
}

EXPORT uint64_t
m_timer_next(struct machine *m, unsigned cpu)
{
	return (timer_next(m->pe[cpu]));
}

EXPORT void
m_kick(struct machine *m, unsigned cpu, uint32_t v)
{
	atomic_store(&m->area->ctx[cpu].kick, v);
}

EXPORT uint32_t
m_phys_active(struct machine *m, unsigned cpu)
{
	return (pe_gicr_active(m->pe[cpu]));
}

/* -- the run loop -------------------------------------------------------------------- */

EXPORT void
m_enter(struct machine *m, unsigned cpu)
{
	struct hypctx *ctx = &m->area->ctx[cpu];
	struct pe *pe = m->pe[cpu];

	atomic_store(&ctx->kick, 0);
	vtimer_flush_hwstate(ctx, m->counter);
	vgic_flush_hwstate(ctx);
	vtimer_restore(pe, ctx, m->vhe);
	vgic_v3_restore(pe, ctx);
	pe->sr[SR_HCR_EL2] = HCR_GUEST | (m->vhe ? HCR_E2H : 0);
	timer_changed(pe);
	pe->el = 1;
	m->in_guest[cpu] = true;
}

EXPORT void
m_exit(struct machine *m, unsigned cpu)
{
	struct hypctx *ctx = &m->area->ctx[cpu];
	struct pe *pe = m->pe[cpu];

	pe->el = 2;
	vtimer_save(pe, ctx, m->vhe);
	vgic_v3_save(pe, ctx);
	pe->sr[SR_HCR_EL2] = m->vhe ? HCR_E2H : 0;
	timer_changed(pe);
	vgic_sync_hwstate(ctx);
	vtimer_sync_hwstate(ctx, m->counter);
	m->in_guest[cpu] = false;
}

EXPORT int
m_in_guest(struct machine *m, unsigned cpu)
{
	return (m->in_guest[cpu]);
}

EXPORT uint32_t
m_host_irq(struct machine *m, unsigned cpu)
{
	return (vgic_host_irq(m->pe[cpu]));
}

EXPORT int
m_inject(struct machine *m, int cpu, uint32_t intid, int level)
{
	return (vgic_inject_irq(&m->area->hyp, cpu, intid, level != 0));
}

EXPORT int
m_msi(struct machine *m, uint64_t addr, uint64_t msg, uint32_t devid)
{
	int error = vgic_its_msi(&m->vm, &m->area->hyp, addr, msg, devid);

	return (error == ENOENT ? vgic_inject_msi(&m->area->hyp, addr, msg) : error);
}

EXPORT int
m_mmio(struct machine *m, unsigned cpu, uint64_t gpa, unsigned size, int write, uint64_t *val)
{
	struct hypctx *ctx = &m->area->ctx[cpu];
	int dir = write ? VM_DIR_WRITE : VM_DIR_READ, error;

	error = vgic_its_mmio(&m->vm, ctx, gpa, size, dir, val);
	return (error == ENOENT ? vgic_mmio(ctx, gpa, size, dir, val) : error);
}

EXPORT int
m_sysreg(struct machine *m, unsigned cpu, uint32_t enc, int write, uint64_t *val)
{
	struct hypctx *ctx = &m->area->ctx[cpu];
	int dir = write ? VM_DIR_WRITE : VM_DIR_READ;
	int error = vgic_sysreg(ctx, enc, dir, val);

	return (error == ENOENT ? vtimer_sysreg(ctx, enc, dir, val, m->counter) : error);
}

EXPORT int
m_pending(struct machine *m, unsigned cpu)
{
	return (vgic_has_pending_irq(&m->area->ctx[cpu]));
}

EXPORT uint64_t
m_deadline(struct machine *m, unsigned cpu)
{
	return (vtimer_deadline(&m->area->ctx[cpu], m->counter));
}

EXPORT uint64_t
m_notified(struct machine *m, unsigned cpu)
{
	return (m->notified[cpu]);
}

EXPORT void
m_set_active(struct machine *m, unsigned cpu, int active)
{
	if (active)
		atomic_fetch_or(&m->area->hyp.active_cpus, UINT64_C(1) << cpu);
	else
		atomic_fetch_and(&m->area->hyp.active_cpus, ~(UINT64_C(1) << cpu));
}

EXPORT void
m_reset(struct machine *m, unsigned cpu)
{
	vgic_cpuinit(&m->area->ctx[cpu]);
	vtimer_cpuinit(&m->area->ctx[cpu]);
}

/* Somebody dies with the vGIC locked, its bitmaps half written. */
EXPORT void
m_damage_maps(struct machine *m)
{
	unsigned i;

	for (i = 0; i < m->ncpus; i++) {
		memset(m->area->ctx[i].vgic_cpu.map, 0, sizeof(m->area->ctx[i].vgic_cpu.map));
		memset(m->area->ctx[i].vgic_cpu.sum, 0, sizeof(m->area->ctx[i].vgic_cpu.sum));
		atomic_store(&m->area->ctx[i].vgic_cpu.hint, 1);
	}
}

static void *
die_locked(void *arg)
{
	(void)sys_lock(&((struct machine *)arg)->area->hyp.vgic.lock);
	return (NULL);
}

EXPORT void
m_die_locked(struct machine *m)
{
	pthread_t t;

	if (pthread_create(&t, NULL, die_locked, m) == 0)
		pthread_join(t, NULL);
}

/* A visit that would not wait for more than 1 ms, with the lock held by somebody or free. */
EXPORT int
m_visit(struct machine *m, int held)
{
	struct hyp *hyp = &m->area->hyp;
	struct vgic_visit v;
	int error;

	if (held)
		(void)sys_lock(&hyp->vgic.lock);
	error = vgic_enter_until(&v, hyp, -1, sys_now_ns() + 1000000);
	if (error == 0)
		vgic_leave(&v);
	if (held)
		sys_unlock(&hyp->vgic.lock);
	return (error);
}

/* Nobody comes out of the guest: as with a runner that was killed there. */
int
vcpu_freeze(struct vm *vm, struct hypctx *hypctx)
{
	(void)vm;
	(void)hypctx;
	return (0);
}

void
vcpu_thaw(struct vm *vm, struct hypctx *hypctx)
{
	(void)vm;
	(void)hypctx;
}

/* What vm_get_vgic() says of an interrupt: enabled, pending, active, edge from bit 0; -1: none. */
EXPORT int
m_look(struct machine *m, int cpu, uint32_t intid)
{
	static struct vm_vgic_irq irqs[VM_VGIC_IRQS];
	static struct vm_vgic_cpu cpus[VM_MAXCPU];
	struct vm vm = { .hyp = &m->area->hyp };
	struct vm_vgic vgic;
	unsigned i, n = VM_VGIC_IRQS;

	if (vm_get_vgic(&vm, &vgic, cpus, &n, irqs) != 0)
		return (-1);
	for (i = 0; i < n; i++) {
		if (irqs[i].intid == intid && irqs[i].cpu == cpu)
			return (irqs[i].enabled | irqs[i].pending << 1 | irqs[i].active << 2 |
				irqs[i].edge << 3);
	}
	return (-1);
}
