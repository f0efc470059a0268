/*
 * The run loop of a vCPU and what is done about each kind of exit (bhyve.md
 * 5.4 and 5.5). Everything that userland need not see is handled here: page-in,
 * interrupt controller, timer, identification registers, WFI.
 *
 * hypctx->lock is held throughout, except at vcpu_yield().
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "sys/clock.h"
#include "sys/store.h"
#include "sys/futex.h"
#include "vmm/io/vgic.h"
#include "vmm/mmu.h"
#include "vmm/vmm_handlers.h"

/* What a handler decided; positive values are errno values for vm_run(). */
enum { RUN_AGAIN = 0, RUN_EXIT = -1 };

struct run {
	struct vm *vm;
	struct hyp *hyp;
	struct hypctx *hypctx;
	struct vcpu *vcpu;
	struct pcpu *pcpu;
	struct vm_exit *vme;
};

/* -- exits ------------------------------------------------------------------------ */

static int
handle_hyp(struct run *r)
{
	vmm_stat_incr(r->hypctx, VMEXIT_UNHANDLED_SYNC);
	r->vme->exitcode = VM_EXITCODE_HYP;
	return (RUN_EXIT);
}

static int
handle_unknown(struct run *r)
{
	vmm_stat_incr(r->hypctx, VMEXIT_UNKNOWN);
	r->vme->exitcode = VM_EXITCODE_HYP;
	return (RUN_EXIT);
}

/* WFI, WFE, WFIT, WFET by ISS.TI (DDI 0487, D19.2.37). */
static int
handle_wfx(struct run *r)
{
	struct hypctx *hypctx = r->hypctx;
	unsigned ti = (unsigned)hypctx->tf.tf_esr & 3;
	unsigned rd = (unsigned)(hypctx->tf.tf_esr >> 5) & 31;

	hypctx_skip(hypctx);
	if ((ti & 1) != 0) {
		vmm_stat_incr(hypctx, VMEXIT_WFE);
		(void)sched_yield();
		return (RUN_AGAIN);
	}
	vmm_stat_incr(hypctx, VMEXIT_WFI);
	if ((hypctx->caps & (1u << VM_CAP_HALT_EXIT)) != 0) {
		r->vme->exitcode = VM_EXITCODE_WFI;
		return (RUN_EXIT);
	}
	hypctx->pending = PENDING_WFI;
	/* The register of WFIT is in CNTVCT time. */
	hypctx->wfi_until = UINT64_MAX;
	if (ti == 2)
		hypctx->wfi_until = hypctx_x(hypctx, rd) + r->hyp->vtimer.cntvoff_el2;
	return (RUN_AGAIN);
}

static int
handle_no_fp(struct run *r)
{
	hypctx_inject_undef(r->hypctx);
	return (RUN_AGAIN);
}

static int
smccc(struct run *r, bool smc)
{
	struct vm_exit *vme = r->vme;

	vme->exitcode = VM_EXITCODE_SMCCC;
	vme->func_id = r->hypctx->tf.tf_x[0];
	memcpy(vme->args, &r->hypctx->tf.tf_x[1], sizeof(vme->args));
	vme->conduit_smc = smc;
	return (RUN_EXIT);
}

static int
handle_hvc(struct run *r)
{
	vmm_stat_incr(r->hypctx, VMEXIT_HVC);
	vmm_debug_stepped(r->hypctx);
	if ((r->hypctx->tf.tf_esr & 0xffff) != 0) {
		/* No such call: back to the HVC, which is UNDEFINED. */
		r->hypctx->tf.tf_elr -= 4;
		hypctx_inject_undef(r->hypctx);
		return (RUN_AGAIN);
	}
	return (smccc(r, false));
}

static int
handle_smc(struct run *r)
{
	vmm_stat_incr(r->hypctx, VMEXIT_SMC);
	if ((r->hypctx->tf.tf_esr & 0xffff) != 0) {
		hypctx_inject_undef(r->hypctx);
		return (RUN_AGAIN);
	}
	/* Trapped, not executed: unlike HVC it has not advanced the PC. */
	hypctx_skip(r->hypctx);
	return (smccc(r, true));
}

static int
handle_sysreg(struct run *r)
{
	vmm_stat_incr(r->hypctx, VMEXIT_MSR);
	return (sysreg_emulate(r->hypctx, r->pcpu->pe, r->vme) == VIE_EXIT ? RUN_EXIT : RUN_AGAIN);
}

static int
handle_brk(struct run *r)
{
	if (!vmm_debug_wants(r->hypctx)) {
		hypctx_inject(r->hypctx, r->hypctx->tf.tf_esr, r->hypctx->far_el1);
		return (RUN_AGAIN);
	}
	vmm_stat_incr(r->hypctx, VMEXIT_BRK);
	r->vme->exitcode = VM_EXITCODE_BRK;
	return (RUN_EXIT);
}

static int
handle_ss(struct run *r)
{
	vmm_stat_incr(r->hypctx, VMEXIT_SS);
	r->vme->exitcode = VM_EXITCODE_SS;
	return (RUN_EXIT);
}

/* Instruction and data aborts from the guest: always a stage-2 fault. */
static int
handle_abort(struct run *r)
{
	struct hypctx *hypctx = r->hypctx;
	uint64_t esr = hypctx->tf.tf_esr, far = hypctx->exit_info.far_el2, gpa;
	bool insn = ESR_EC(esr) == EC_INSN_ABORT_LOWER, ptw = (esr & ISS_S1PTW) != 0;
	unsigned fsc = esr & ISS_FSC;
	int error, prot;

	vmm_stat_incr(hypctx, insn ? VMEXIT_INSN_ABORT : VMEXIT_DATA_ABORT);
	if ((fsc & 0x3c) > ISS_FSC_PERMISSION)
		return (handle_hyp(r));
	gpa = ((hypctx->exit_info.hpfar_el2 >> 4) << 12) & S2_OA;
	if ((fsc & 0x3c) == ISS_FSC_ADDR_SIZE || gpa >= IPA_END) {
		hypctx_inject_abort(hypctx, insn, ISS_FSC_ADDR_SIZE, far);
		return (RUN_AGAIN);
	}
	if (!ptw)
		gpa |= far & (PAGE_SIZE - 1);
	if (ptw) /* the walk reads; with hardware management of flags it also writes */
		prot = (fsc & 0x3c) == ISS_FSC_PERMISSION ? VM_PROT_WRITE : VM_PROT_READ;
	else if (insn)
		prot = VM_PROT_EXEC;
	else
		prot = (esr & ISS_WNR) != 0 && (esr & ISS_CM) == 0 ? VM_PROT_WRITE : VM_PROT_READ;
	error = vm_pagein(r->vm, gpa, prot);
	switch (error) {
	case PAGEIN_DONE:
		vmm_stat_incr(hypctx, VMEXIT_PAGE_IN);
		/* An entry that was valid became more permissive: drop the old one. */
		if ((fsc & 0x3c) == ISS_FSC_PERMISSION)
			r->vcpu->s2_seen = UINT64_MAX;
		return (RUN_AGAIN);
	case PAGEIN_DENIED:
		r->vme->exitcode = VM_EXITCODE_PAGING;
		r->vme->gpa = gpa;
		r->vme->dir = prot == VM_PROT_WRITE ? VM_DIR_WRITE : VM_DIR_READ;
		return (RUN_EXIT);
	case PAGEIN_NOT_RAM:
		break;
	default:
		return (error); /* ENOSPC */
	}
	if (insn || ptw) {
		hypctx_inject_abort(hypctx, insn, ISS_FSC_EXTERNAL, far);
		return (RUN_AGAIN);
	}
	return (vie_start(r->vm, hypctx, gpa, r->vme) == VIE_EXIT ? RUN_EXIT : RUN_AGAIN);
}

/* By ESR_EL2.EC; NULL is handle_hyp. */
static int (*const sync_handler[64])(struct run *) = {
	[EC_UNKNOWN_REASON] = handle_unknown,
	[EC_WFX_TRAP] = handle_wfx,
	[EC_FP_TRAP] = handle_no_fp,
	[EC_HVC] = handle_hvc,
	[EC_SMC] = handle_smc,
	[EC_MSR_TRAP] = handle_sysreg,
	[EC_SVE_TRAP] = handle_no_fp,
	[EC_INSN_ABORT_LOWER] = handle_abort,
	[EC_DATA_ABORT_LOWER] = handle_abort,
	[EC_BKPT_LOWER] = handle_brk,
	[EC_SOFTSTP_LOWER] = handle_ss,
	[EC_WATCHPT_LOWER] = handle_brk,
	[EC_BRK] = handle_brk,
};

static int
serve_exit(struct run *r, int type)
{
	int (*fn)(struct run *);

	switch (type) {
	case EXCP_TYPE_EL1_SYNC:
		fn = sync_handler[ESR_EC(r->hypctx->tf.tf_esr)];
		return (fn != NULL ? fn(r) : handle_hyp(r));
	case EXCP_TYPE_EL1_IRQ:
		vmm_stat_incr(r->hypctx, VMEXIT_IRQ);
		vmm_trace_intid(r->hypctx, vgic_host_irq(r->pcpu->pe));
		return (RUN_AGAIN);
	case EXCP_TYPE_EL1_FIQ:
		vmm_stat_incr(r->hypctx, VMEXIT_FIQ);
		return (RUN_AGAIN);
	case EXCP_TYPE_EL1_ERROR:
		vmm_stat_incr(r->hypctx, VMEXIT_SERROR);
		return (RUN_AGAIN);
	case EXCP_TYPE_REENTER:
		return (RUN_AGAIN);
	default:
		vmm_stat_incr(r->hypctx, VMEXIT_UNHANDLED_EL2);
		return (EPROTO);
	}
}

static inline bool
tracing(const struct run *r)
{
	return (atomic_load_explicit(&r->hyp->trace.on, memory_order_relaxed) != 0);
}

static int
handle_exit(struct run *r, int type)
{
	int result;

	vmm_stat_incr(r->hypctx, VMEXIT_COUNT);
	if (tracing(r))
		vmm_trace_exit(r->hypctx, type);
	result = serve_exit(r, type);
	vmm_trace_served(r->hypctx);
	return (result);
}

/* -- the loop ------------------------------------------------------------------------ */

void
vcpu_doze(struct hypctx *hypctx, uint64_t until)
{
	vmm_stat_incr(hypctx, VCPU_SLEEP);
	vcpu_paid(hypctx);
	atomic_store(&hypctx->sleeping, 1);
	if (atomic_load(&hypctx->kick) == 0)
		(void)sys_futex_wait(&hypctx->kick, 0, sys_counter_to_ns(until));
	atomic_store(&hypctx->sleeping, 0);
}

/* In WFI: is there a reason to go on? Sleeps when there is none. */
static bool
wfi_over(struct run *r)
{
	struct hypctx *hypctx = r->hypctx;
	uint64_t now = sys_counter(), until;

	vtimer_flush_hwstate(hypctx, now);
	if (now >= hypctx->wfi_until || vgic_has_pending_irq(hypctx)) {
		hypctx->pending = PENDING_NONE;
		return (true);
	}
	until = vtimer_deadline(hypctx, now);
	vcpu_doze(r->hypctx, until < hypctx->wfi_until ? until : hypctx->wfi_until);
	return (false);
}

static int
suspended(struct run *r)
{
	atomic_fetch_or(&r->hyp->suspended_cpus, UINT64_C(1) << r->hypctx->vcpuid);
	r->vme->exitcode = VM_EXITCODE_SUSPENDED;
	r->vme->how = (int)atomic_load(&r->hyp->suspend);
	return (RUN_EXIT);
}

/* Reasons to stay out of the guest. RUN_AGAIN with *enter: none. */
static int
check_reasons(struct run *r, bool *enter)
{
	struct hypctx *hypctx = r->hypctx;
	bool standby;

	*enter = false;
	if (atomic_load(&r->hyp->suspend) != 0)
		return (suspended(r));
	if (sys_memory_lost() != 0)
		return (sys_memory_lost());
	if (((atomic_load(&r->hyp->debug_cpus) >> hypctx->vcpuid) & 1) != 0) {
		/* Told once; then it waits here until it is resumed. */
		if (atomic_exchange(&hypctx->debug_told, 1) == 0) {
			r->vme->exitcode = VM_EXITCODE_DEBUG;
			return (RUN_EXIT);
		}
		vcpu_doze(r->hypctx, UINT64_MAX);
		return (RUN_AGAIN);
	}
	if (vmm_debug_step_over(hypctx)) {
		r->vme->exitcode = VM_EXITCODE_SS;
		return (RUN_EXIT);
	}
	/* A step does not wait in a WFI that was before it. */
	if (hypctx->pending == PENDING_WFI && (hypctx->caps & (1u << VM_CAP_SS_EXIT)) != 0)
		hypctx->pending = PENDING_NONE;
	standby = hypctx->pending == PENDING_STANDBY;
	if ((standby || hypctx->pending == PENDING_WFI) && !wfi_over(r))
		return (RUN_AGAIN);
	if (standby) {
		r->vme->exitcode = VM_EXITCODE_WFI;
		return (RUN_EXIT);
	}
	*enter = true;
	return (RUN_AGAIN);
}

static int
enter_guest(struct run *r)
{
	struct hypctx *hypctx = r->hypctx;
	uint64_t epoch;
	int type;

	if (r->hyp->stolen_gpa != 0)
		vm_stolen_update(r->vm, hypctx, r->vcpu);
	epoch = atomic_load(&r->hyp->s2_epoch);
	if (r->vcpu->s2_seen != epoch) {
		vmm_s2_tlbi_all(r->pcpu, r->hyp);
		r->vcpu->s2_seen = epoch;
	}
	vtimer_flush_hwstate(hypctx, sys_counter());
	vgic_flush_hwstate(hypctx);
	vcpu_turn(hypctx);
	vmm_debug_enter(hypctx);
	vmm_pmu_enter(r->pcpu, hypctx);
	if (tracing(r))
		vmm_trace_enter(hypctx);
	type = vmm_enter_guest(r->pcpu, r->hyp, hypctx);
	vmm_debug_leave(hypctx);
	if (tracing(r))
		vmm_trace_leave(hypctx);
	vgic_sync_hwstate(hypctx);
	vtimer_sync_hwstate(hypctx, sys_counter());
	vmm_pmu_leave(r->pcpu, hypctx);
	vcpu_paid(hypctx);
	return (handle_exit(r, type));
}

/* Until userland has something to do. *held: hypctx->lock is. */
static int
run_loop(struct run *r, bool *held)
{
	bool enter;
	int result;

	for (;;) {
		/* Whoever has a reason sets it before the kick. */
		atomic_store(&r->hypctx->kick, 0);
		if (vcpu_yield(r->vm, r->hypctx) != 0) {
			*held = false;
			return (suspended(r));
		}
		result = check_reasons(r, &enter);
		if (result == RUN_AGAIN && enter)
			result = enter_guest(r);
		if (result != RUN_AGAIN)
			return (result);
	}
}

/* Complete what the last exit left to userland. */
static int
resume_pending(struct run *r, const struct vm_exit *in)
{
	int result = RUN_AGAIN;

	if (r->hypctx->pending == PENDING_INST_EMUL) {
		r->vme->data = in->data;
		result = vie_resume(r->vm, r->hypctx, r->vme) == VIE_EXIT ? RUN_EXIT : RUN_AGAIN;
	} else if (r->hypctx->pending == PENDING_REG_EMUL)
		sysreg_resume(r->hypctx, in->data);
	vmm_trace_served(r->hypctx);
	return (result);
}

static int
run_on_pcpu(struct run *r, const struct vm_exit *in, bool *held)
{
	uint64_t start = sys_now_ns();
	int error, result;

	if ((error = pcpu_get(r->vm, (int)r->hypctx->vcpuid, &r->pcpu)) != 0)
		return (error);
	result = resume_pending(r, in);
	if (result == RUN_AGAIN)
		result = run_loop(r, held);
	pcpu_count(r->pcpu, r->hypctx);
	pcpu_put(r->pcpu);
	r->hypctx->stats[VCPU_TOTAL_RUNTIME] += sys_now_ns() - start;
	return (result);
}

int
vm_run(struct vm *vm, int vcpu, struct vm_exit *vme)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	struct vm_exit in = *vme;
	struct run r = { vm, vm->hyp, hypctx, NULL, NULL, vme };
	uint32_t none = 0;
	bool held = true;
	int result;

	if (hypctx == NULL || !vm->runner || !hyp_cpu_active(vm->hyp, (unsigned)vcpu))
		return (EINVAL);
	if (vm->paused)
		return (EBUSY); /* by this very process */
	r.vcpu = &vm->vcpu[vcpu];
	if (!atomic_compare_exchange_strong(&hypctx->runner, &none, 1))
		return (EBUSY);
	memset(vme, 0, sizeof(*vme));
	if (vcpu_enter(vm, hypctx) != 0) {
		held = false;
		result = suspended(&r);
	} else
		result = run_on_pcpu(&r, &in, &held);
	if (result == RUN_EXIT) {
		vmm_stat_incr(hypctx, VMEXIT_USERSPACE);
		vme->inst_length = 4;
		vme->pc = hypctx->tf.tf_elr;
		vme->esr = hypctx->tf.tf_esr;
		vme->far = hypctx->exit_info.far_el2;
		vme->hpfar = hypctx->exit_info.hpfar_el2;
		result = 0;
	}
	atomic_store(&hypctx->runner, 0);
	if (held)
		vcpu_leave(hypctx);
	return (result);
}
