/*
 * vCPUs from outside: freezing, activation, suspension, registers, injection,
 * capabilities, topology. The machine-independent half of FreeBSD's vmm.c; the
 * run loop is vmm_arm64.c, memory vmm_mem.c, files vmm_dev.c.
 *
 * Freezing. hypctx->lock is held by whoever runs the vCPU or looks into it. A
 * requester takes hypctx->gate first, kicks, and waits for the lock. The
 * runner, kicked, writes the vCPU back, tries the gate, and when somebody is
 * there gives the lock up and queues at the gate itself. Both are robust: a
 * requester that is killed thaws the vCPU, a killed runner frees it. After a
 * freeze the runner is owed a turn: the next requester waits until it is in the
 * guest (10 ms at most) and has had 1 ms there or left it by itself, so that sampling in a loop cannot stop a guest.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/futex.h"
#include "sys/store.h"
#include "vmm/io/vgic.h"
#include "vmm/vmm_vm.h"

/* hypctx->at_gate: the runner waits at the gate, or has its turn in the guest. */
#define OWED_WAITS 1u
#define OWED_RUNS 2u

#define MS UINT64_C(1000000)
#define FREEZE_WAIT_NS (10000 * MS)
#define TURN_WAIT_NS (10 * MS)
#define TURN_NS MS
#define SUSPEND_POLL_NS (50 * MS)

void
vcpu_notify(struct hypctx *hypctx)
{
	/* Both are sequentially consistent: the sleeper sets `sleeping`, then looks at `kick`. */
	atomic_store(&hypctx->kick, 1);
	if (atomic_load(&hypctx->sleeping) != 0)
		sys_futex_wake(&hypctx->kick);
}

void
vm_notify_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->hyp->maxcpus; i++)
		vcpu_notify(hyp_ctx(vm->hyp, i));
}

/* -- freezing ------------------------------------------------------------------- */

int
vcpu_freeze(struct vm *vm, struct hypctx *hypctx)
{
	uint64_t now, end;
	int error;

	if (hypctx == NULL)
		return (EINVAL);
	if (vm->paused)
		return (0); /* vm_pause() of this process holds them all */
	if (atomic_load(&hypctx->at_gate) == OWED_WAITS)
		(void)sys_futex_wait(&hypctx->at_gate, OWED_WAITS, sys_now_ns() + TURN_WAIT_NS);
	if (atomic_load(&hypctx->at_gate) == OWED_RUNS)
		(void)sys_futex_wait(&hypctx->at_gate, OWED_RUNS, sys_now_ns() + TURN_NS);
	/* A stopped process would hold it for ever. */
	now = sys_now_ns();
	end = now + FREEZE_WAIT_NS;
	error = sys_lock_until(&hypctx->gate, end);
	if (error != 0 && error != EOWNERDEAD)
		return (error);
	vcpu_notify(hypctx);
	error = sys_lock_until(&hypctx->lock, end);
	if (error == EOWNERDEAD)
		atomic_store(&hypctx->runner, 0);
	else if (error != 0) {
		sys_unlock(&hypctx->gate);
		return (error);
	}
	return (0);
}

void
vcpu_thaw(struct vm *vm, struct hypctx *hypctx)
{
	if (vm->paused)
		return;
	sys_unlock(&hypctx->lock);
	sys_unlock(&hypctx->gate);
}

/* The runner's way through the gate. */
int
vcpu_enter(struct vm *vm, struct hypctx *hypctx)
{
	int error;

	error = sys_trylock(&hypctx->gate);
	if (error == EBUSY) {
		atomic_store(&hypctx->at_gate, OWED_WAITS);
		do {
			if (atomic_load(&vm->hyp->suspend) != 0) {
				vcpu_paid(hypctx);
				return (EINTR);
			}
			error = sys_lock_until(&hypctx->gate, sys_now_ns() + SUSPEND_POLL_NS);
		} while (error == ETIMEDOUT);
	}
	(void)sys_lock(&hypctx->lock);
	/* The kick was for this; other reasons are looked at after it. */
	atomic_store(&hypctx->kick, 0);
	sys_unlock(&hypctx->gate);
	return (0);
}

void
vcpu_leave(struct hypctx *hypctx)
{
	vcpu_paid(hypctx);
	sys_unlock(&hypctx->lock);
}

int
vcpu_yield(struct vm *vm, struct hypctx *hypctx)
{
	int error;

	error = sys_trylock(&hypctx->gate);
	if (error != EBUSY) {
		sys_unlock(&hypctx->gate);
		return (0);
	}
	vmm_stat_incr(hypctx, VCPU_FROZEN);
	/* Before the lock is free: the requester may be done and back at once. */
	atomic_store(&hypctx->at_gate, OWED_WAITS);
	sys_unlock(&hypctx->lock);
	return (vcpu_enter(vm, hypctx));
}

void
vcpu_turn(struct hypctx *hypctx)
{
	if (atomic_load_explicit(&hypctx->at_gate, memory_order_relaxed) != 0) {
		atomic_store(&hypctx->at_gate, OWED_RUNS);
		sys_futex_wake(&hypctx->at_gate);
	}
}

void
vcpu_paid(struct hypctx *hypctx)
{
	if (atomic_load_explicit(&hypctx->at_gate, memory_order_relaxed) != 0) {
		atomic_store(&hypctx->at_gate, 0);
		sys_futex_wake(&hypctx->at_gate);
	}
}

int
vm_barrier(struct vm *vm)
{
	int error;

	for (unsigned i = 0; i < vm->hyp->maxcpus; i++) {
		struct hypctx *hypctx = hyp_ctx(vm->hyp, i);

		if (!hyp_cpu_active(vm->hyp, i))
			continue;
		if ((error = vcpu_freeze(vm, hypctx)) != 0)
			return (error);
		vcpu_thaw(vm, hypctx);
	}
	return (0);
}

int
vm_pause(struct vm *vm)
{
	unsigned i;
	int error = 0;

	if (vm->paused)
		return (EALREADY);
	for (i = 0; i < vm->hyp->maxcpus && error == 0; i++)
		error = vcpu_freeze(vm, hyp_ctx(vm->hyp, i));
	if (error == 0) {
		vm->paused = true;
		return (0);
	}
	for (i--; i-- > 0;)
		vcpu_thaw(vm, hyp_ctx(vm->hyp, i));
	return (error);
}

int
vm_unpause(struct vm *vm)
{
	if (!vm->paused)
		return (EINVAL);
	vm->paused = false;
	for (unsigned i = vm->hyp->maxcpus; i-- > 0;)
		vcpu_thaw(vm, hyp_ctx(vm->hyp, i));
	return (0);
}

/* -- sets of vCPUs ----------------------------------------------------------------- */

int
vm_activate_cpu(struct vm *vm, int vcpu)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	uint64_t bit;

	if (hypctx == NULL)
		return (EINVAL);
	bit = UINT64_C(1) << vcpu;
	/* A vCPU that runs alone does without locked instructions. */
	if (pcpu_vm_busy(vm))
		return (EBUSY);
	return ((atomic_fetch_or(&vm->hyp->active_cpus, bit) & bit) != 0 ? EBUSY : 0);
}

int
vm_get_cpus(struct vm *vm, int which, uint64_t *set)
{
	switch (which) {
	case 0:
		*set = atomic_load(&vm->hyp->active_cpus);
		return (0);
	case 1:
		*set = atomic_load(&vm->hyp->suspended_cpus);
		return (0);
	case 2:
		*set = atomic_load(&vm->hyp->debug_cpus);
		return (0);
	default:
		return (EINVAL);
	}
}

int
vm_suspend_cpu(struct vm *vm, int vcpu)
{
	uint64_t active = atomic_load(&vm->hyp->active_cpus), set;

	set = vcpu == -1 ? active : vm_ctx(vm, vcpu) != NULL ? UINT64_C(1) << vcpu : 0;
	if (set == 0 || (set & active) != set)
		return (EINVAL);
	for (unsigned i = 0; i < vm->hyp->maxcpus; i++) {
		if (((set >> i) & 1) == 0)
			continue;
		atomic_store(&hyp_ctx(vm->hyp, i)->debug_told, 0);
		atomic_fetch_or(&vm->hyp->debug_cpus, UINT64_C(1) << i);
		vcpu_notify(hyp_ctx(vm->hyp, i));
	}
	return (0);
}

int
vm_resume_cpu(struct vm *vm, int vcpu)
{
	uint64_t set;

	if (vcpu == -1)
		atomic_store(&vm->hyp->debug_cpus, 0);
	else {
		if (vm_ctx(vm, vcpu) == NULL)
			return (EINVAL);
		set = UINT64_C(1) << vcpu;
		if ((atomic_fetch_and(&vm->hyp->debug_cpus, ~set) & set) == 0)
			return (EINVAL);
	}
	vm_notify_all(vm);
	return (0);
}

int
vm_suspend(struct vm *vm, int how)
{
	uint32_t none = VM_SUSPEND_NONE;

	if (how <= VM_SUSPEND_NONE || how >= VM_SUSPEND_LAST)
		return (EINVAL);
	if (!atomic_compare_exchange_strong(&vm->hyp->suspend, &none, (uint32_t)how))
		return (EALREADY);
	vm_notify_all(vm);
	return (0);
}

int
vm_set_topology(struct vm *vm, int sockets, int cores, int threads, int maxcpus)
{
	struct vm_control *c = vm->control;

	/* As FreeBSD: maxcpus is ignored, it was fixed at creation. */
	(void)maxcpus;
	if (sockets < 1 || cores < 1 || threads < 1 || sockets > VM_MAXCPU || cores > VM_MAXCPU ||
	    threads > VM_MAXCPU || sockets * cores * threads > (int)c->maxcpus)
		return (EINVAL);
	c->sockets = (uint16_t)sockets;
	c->cores = (uint16_t)cores;
	c->threads = (uint16_t)threads;
	return (0);
}

int
vm_get_topology(struct vm *vm, int *sockets, int *cores, int *threads, int *maxcpus)
{
	*sockets = vm->control->sockets;
	*cores = vm->control->cores;
	*threads = vm->control->threads;
	*maxcpus = (int)vm->control->maxcpus;
	return (0);
}

int
vcpu_reset(struct vm *vm, int vcpu)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	int error;

	if ((error = vcpu_freeze(vm, hypctx)) != 0)
		return (error);
	vm_reset_ctx(vm->hyp, hypctx);
	vcpu_thaw(vm, hypctx);
	return (0);
}

int
vcpu_standby(struct vm *vm, int vcpu)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	int error;

	if ((error = vcpu_freeze(vm, hypctx)) != 0)
		return (error);
	hypctx->pending = PENDING_STANDBY;
	hypctx->wfi_until = UINT64_MAX;
	vcpu_thaw(vm, hypctx);
	return (0);
}

/* -- injection ------------------------------------------------------------------------ */

int
vm_inject_exception(struct vm *vm, int vcpu, uint64_t esr, uint64_t far)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	int error;

	if ((error = vcpu_freeze(vm, hypctx)) != 0)
		return (error);
	hypctx_inject(hypctx, esr, far);
	vcpu_thaw(vm, hypctx);
	return (0);
}

int
vm_restart_instruction(struct vm *vm, int vcpu)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	int error;

	if ((error = vcpu_freeze(vm, hypctx)) != 0)
		return (error);
	hypctx->pending = PENDING_NONE;
	hypctx->vie.active = 0;
	vcpu_thaw(vm, hypctx);
	return (0);
}

/* -- capabilities ------------------------------------------------------------------------ */

#define CAPS_IMPLEMENTED                                                                          \
	((1u << VM_CAP_HALT_EXIT) | (1u << VM_CAP_UNRESTRICTED_GUEST) | (1u << VM_CAP_BRK_EXIT) | \
	    (1u << VM_CAP_SS_EXIT) | (1u << VM_CAP_MASK_HWINTR))

int
vm_set_capability(struct vm *vm, int vcpu, int cap, int val)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	uint32_t bit;
	int error;

	if (hypctx == NULL || cap < 0 || cap >= VM_CAP_MAX)
		return (EINVAL);
	bit = 1u << cap;
	if ((CAPS_IMPLEMENTED & bit) == 0)
		return (ENOENT);
	if (cap == VM_CAP_UNRESTRICTED_GUEST)
		return (val != 0 ? 0 : EINVAL);
	if ((error = vcpu_freeze(vm, hypctx)) != 0)
		return (error);
	hypctx->caps = val != 0 ? hypctx->caps | bit : hypctx->caps & ~bit;
	vcpu_thaw(vm, hypctx);
	return (0);
}

int
vcpu_off(struct vm *vm, int vcpu)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);

	if (hypctx == NULL)
		return (EINVAL);
	vgic_cpu_off(hypctx);
	return (0);
}

int
vm_get_capability(struct vm *vm, int vcpu, int cap, int *val)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);

	if (hypctx == NULL || cap < 0 || cap >= VM_CAP_MAX)
		return (EINVAL);
	if ((CAPS_IMPLEMENTED & (1u << cap)) == 0)
		return (ENOENT);
	*val = cap == VM_CAP_UNRESTRICTED_GUEST || ((hypctx->caps >> cap) & 1) != 0;
	return (0);
}

/* -- interrupts: the vGIC does it -------------------------------------------------------- */

int
vm_attach_vgic(
    struct vm *vm, uint64_t dist, uint64_t dist_size, uint64_t redist, uint64_t redist_size)
{
	return (vgic_attach_to_vm(vm->hyp, dist, dist_size, redist, redist_size));
}

int
vm_attach_vgic_v2(struct vm *vm, uint64_t dist, uint64_t dist_size, uint64_t cpuif,
    uint64_t cpuif_size, int ncpus)
{
	if (ncpus < 1)
		return (EINVAL);
	return (vgic_v2_attach(vm->hyp, dist, dist_size, cpuif, cpuif_size, (uint32_t)ncpus));
}

int
vm_attach_its(struct vm *vm, uint64_t base, uint64_t size)
{
	int error;

	error =
	    sys_file_alloc(vm->ctlfd, offsetof(struct vm_file, area.its), sizeof(struct vgic_its));
	return (error != 0 ? error : vgic_its_attach(vm->hyp, base, size));
}

int
vm_set_list_regs(struct vm *vm, int n)
{
	return (n < 1 ? EINVAL : vgic_set_list_regs(vm->hyp, (uint32_t)n));
}

static int
spi(struct vm *vm, uint32_t irq, bool level)
{
	if (irq < VGIC_PRV_I_NUM)
		return (EINVAL);
	return (vgic_inject_irq(vm->hyp, -1, irq, level));
}

int
vm_assert_irq(struct vm *vm, uint32_t irq)
{
	return (spi(vm, irq, true));
}

int
vm_deassert_irq(struct vm *vm, uint32_t irq)
{
	return (spi(vm, irq, false));
}

int
vm_raise_msi(struct vm *vm, uint64_t addr, uint64_t msg)
{
	return (vm_raise_msi_from(vm, addr, msg, 0));
}

int
vm_raise_msi_from(struct vm *vm, uint64_t addr, uint64_t msg, uint32_t devid)
{
	int error = vgic_its_msi(vm, vm->hyp, addr, msg, devid);

	return (error == ENOENT ? vgic_inject_msi(vm->hyp, addr, msg) : error);
}
