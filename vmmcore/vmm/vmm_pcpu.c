/*
 * The physical CPUs of the emulated host: PEs of this process, who runs on
 * which, and the VMIDs that keep VMs apart in their TLBs.
 *
 * A vCPU comes back to the PE it ran on. A PE that belongs to no open VM, or
 * whose vCPU of another VM is not running, is taken over before a new one is
 * made. Physical addresses of different VMs are alike (SEG_PA), so predecoded
 * code is dropped when a PE changes VMs; TLB entries stay: they have a VMID.
 *
 * VMIDs belong to a process. When they run out, a new generation begins: all
 * TLBs are cleared and VMs get new ones as they run next; those that are
 * running at that moment keep theirs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sys/clock.h"
#include "vmm/io/vgic.h"
#include "vmm/mmu.h"
#include "vmm/vmm_handlers.h"

#define VMIDS 65536u

static pthread_mutex_t pcpu_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pe_cluster *cluster;
static struct pcpu *pcpus;
static uint64_t vmid_map[VMIDS / 64] = { 1 }; /* VMID 0 is the host's */
static uint64_t vmid_gen = 1;

static const _Atomic uint32_t no_kick;

const struct hyp_reg hyp_regs[] = {
#define HYPREG(name, op0, op1, crn, crm, op2, flags) \
	{ PE_SYSREG(op0, op1, crn, crm, op2), flags, offsetof(struct hypctx, name) },
#include "vmm/hyp_regs.def"
#undef HYPREG
};
const unsigned hyp_regs_count = sizeof(hyp_regs) / sizeof(hyp_regs[0]);

static void *
pin_pa2hva(void *ctx, uint64_t pa, size_t len, int prot)
{
	struct pcpu *p = ctx;

	(void)prot; /* who may write where is stage 2's business */
	return (p->vm != NULL ? vm_pa2hva(p->vm, pa, len) : NULL);
}

static uint64_t
pin_counter(void *ctx)
{
	(void)ctx;
	return (sys_counter());
}

/*
 * The PE sleeps, as far as it knows: its thread waits for the same kick that
 * ends a WFI.
 */
static void
pin_wait(void *ctx, uint64_t until)
{
	struct pcpu *p = ctx;

	if (p->ctx != NULL)
		vcpu_doze(p->ctx, until);
}

static void
pin_wake(void *ctx)
{
	struct pcpu *p = ctx;
	struct hypctx *hypctx = p->ctx;

	if (hypctx != NULL)
		vcpu_notify(hypctx);
}

static void
pin_sample(void *ctx, uint64_t pc)
{
	vmm_hot_sample(ctx, pc);
}

static void
pin_acked(void *ctx, uint32_t intid)
{
	struct pcpu *p = ctx;

	if (p->ctx != NULL)
		hypctx_acked(p->ctx, intid);
}

static void
set_pins(struct pcpu *p)
{
	struct pe_pins pins = {
		.ctx = p,
		.pa2hva = pin_pa2hva,
		.counter = pin_counter,
		.kick = p->ctx != NULL ? &p->ctx->kick : &no_kick,
		.code_epoch = p->vm != NULL ? &p->vm->hyp->code_epoch : NULL,
		.wait = pin_wait,
		.wake = pin_wake,
		.sample = pin_sample,
		.acked = pin_acked,
	};

	pe_set_pins(p->pe, &pins);
}

/* Of PEs made from now on. */
static unsigned jit_flags;
static size_t jit_memory;

void
vmm_set_jit(unsigned flags, uint64_t memory)
{
	jit_flags = flags;
	jit_memory = memory <= VMM_JIT_MEMORY_MAX ? (size_t)memory : VMM_JIT_MEMORY_MAX;
}

/* What the host has in the PE while no guest runs. */
static void
host_init(struct pcpu *p)
{
	uint64_t val;

	for (unsigned i = 0; i < hyp_regs_count; i++) {
		if (pe_mrs(p->pe, hyp_regs[i].enc, &val) == 0)
			p->reg[p->nregs++] = (uint16_t)i;
	}
	/* A host at EL2 is its own EL1, and has no use for the registers of EL1. */
	(void)pe_msr(p->pe, HCR_EL2, p->vhe != 0 ? HCR_RW | HCR_E2H | HCR_TGE : HCR_RW);
	for (unsigned i = 0; i < p->nregs; i++) {
		const struct hyp_reg *r = &hyp_regs[p->reg[i]];
		bool el1 = p->vhe != 0 && (r->flags & HYP_EL12) != 0;

		/* NAME_EL12: op1 5 */
		(void)pe_bank_add(p->pe, el1 ? &p->el1_only : &p->world,
		    el1 ? r->enc | 5u << 11 : r->enc, r->offset);
	}
	/* The OS lock is held after a reset; the host's is open. */
	(void)pe_msr(p->pe, OSLAR_EL1, 0);
	vgic_host_init(p->pe);
}

static struct pcpu *
pcpu_new(struct vm *vm)
{
	struct pe_config cfg = {
		.features = vm->hyp->features,
		.midr = 0x410fd000,
		.mpidr = UINT64_C(1) << 31,
		.list_regs = vm->hyp->list_regs,
		.vmid_bits = vm->hyp->vmid_bits,
		.jit = (jit_flags & VMM_JIT_ON) != 0,
		.jit_perf = (jit_flags & VMM_JIT_PERF) != 0,
		.jit_strict = (jit_flags & VMM_JIT_STRICT) != 0,
		.jit_memory = jit_memory,
	};
	struct pcpu *p;

	if (cluster == NULL && (cluster = pe_cluster_create()) == NULL)
		return (NULL);
	if ((p = calloc(1, sizeof(*p))) == NULL)
		return (NULL);
	for (struct pcpu *q = pcpus; q != NULL; q = q->next)
		cfg.mpidr++;
	p->host = aligned_alloc(4096, sizeof(*p->host));
	if (p->host == NULL)
		goto fail;
	memset(p->host, 0, sizeof(*p->host));
	p->features = cfg.features;
	p->list_regs = cfg.list_regs;
	p->vmid_bits = cfg.vmid_bits;
	p->vhe = vm->hyp->vhe;
	p->jit_flags = jit_flags;
	p->jit_memory = jit_memory;
	struct pe_pins pins = {
		.ctx = p, .pa2hva = pin_pa2hva, .counter = pin_counter, .kick = &no_kick
	};
	if ((p->pe = pe_create(cluster, &pins, &cfg)) == NULL)
		goto fail;
	host_init(p);
	p->next = pcpus;
	pcpus = p;
	return (p);
fail:
	free(p->host);
	free(p);
	return (NULL);
}

/* With pcpu_lock: a PE for a vCPU that has none. */
static struct pcpu *
pcpu_find(struct vm *vm)
{
	struct pcpu *best = NULL;

	for (struct pcpu *p = pcpus; p != NULL; p = p->next) {
		if (p->busy || p->jit_flags != jit_flags || p->jit_memory != jit_memory ||
		    p->features != vm->hyp->features || p->list_regs != vm->hyp->list_regs ||
		    p->vmid_bits != vm->hyp->vmid_bits || p->vhe != vm->hyp->vhe)
			continue;
		if (p->owner == NULL)
			return (p);
		if (p->vm != vm)
			best = p;
	}
	return (best != NULL ? best : pcpu_new(vm));
}

/* With pcpu_lock: does a vCPU of the VM run right now, under its VMID? */
static bool
vmid_live(const struct vm *vm)
{
	for (struct pcpu *p = pcpus; p != NULL; p = p->next) {
		if (p->busy && p->vm == vm && p->vmid == vm->vmid)
			return (true);
	}
	return (false);
}

static bool
vmid_take(uint32_t limit, uint32_t *vmid)
{
	for (uint32_t w = 0; w < limit / 64; w++) {
		if (vmid_map[w] == UINT64_MAX)
			continue;
		*vmid = w * 64 + (uint32_t)__builtin_ctzll(~vmid_map[w]);
		vmid_map[w] |= UINT64_C(1) << (*vmid % 64);
		return (true);
	}
	return (false);
}

static int
vmid_get(struct vm *vm, struct pcpu *p)
{
	uint32_t limit = 1u << vm->hyp->vmid_bits;

	if (vm->vmid_gen == vmid_gen)
		return (0);
	if (vm->vmid_gen != 0 && vmid_live(vm)) {
		vm->vmid_gen = vmid_gen;
		return (0);
	}
	if (!vmid_take(limit, &vm->vmid)) {
		vmid_gen++;
		memset(vmid_map, 0, sizeof(vmid_map));
		vmid_map[0] = 1;
		for (struct pcpu *q = pcpus; q != NULL; q = q->next) {
			if (q->busy)
				vmid_map[q->vmid / 64] |= UINT64_C(1) << (q->vmid % 64);
		}
		vmm_clean_s2_tlbi(p);
		if (!vmid_take(limit, &vm->vmid))
			return (EAGAIN); /* more vCPUs run than there are VMIDs */
	}
	vm->vmid_gen = vmid_gen;
	return (0);
}

int
pcpu_get(struct vm *vm, int vcpu, struct pcpu **pcpup)
{
	struct vcpu *v = &vm->vcpu[(unsigned)vcpu % VM_MAXCPU];
	struct pcpu *p;
	int error = 0;

	pthread_mutex_lock(&pcpu_lock);
	p = v->pcpu;
	if (p == NULL || p->owner != v || p->busy) {
		if ((p = pcpu_find(vm)) == NULL) {
			error = ENOMEM;
			goto out;
		}
		vmm_pmu_save(p);
		if (p->vm != vm)
			(void)pe_sys(p->pe, IC_IALLU, 0);
		p->vm = vm;
		p->ctx = vm_ctx(vm, vcpu);
		p->owner = v;
		v->pcpu = p;
		v->s2_seen = UINT64_MAX;
		set_pins(p);
	}
	if ((error = vmid_get(vm, p)) != 0)
		goto out;
	p->vmid = vm->vmid;
	p->busy = true;
	pe_set_alone(p->pe, __builtin_popcountll(atomic_load(&vm->hyp->active_cpus)) == 1);
	vm->hyp->vttbr_el2 = pmap_root_pa() | ((uint64_t)vm->vmid << 48);
	*pcpup = p;
out:
	pthread_mutex_unlock(&pcpu_lock);
	return (error);
}

bool
pcpu_vm_busy(const struct vm *vm)
{
	bool busy = false;

	pthread_mutex_lock(&pcpu_lock);
	for (struct pcpu *p = pcpus; p != NULL; p = p->next)
		busy = busy || (p->busy && p->vm == vm);
	pthread_mutex_unlock(&pcpu_lock);
	return (busy);
}

void
pcpu_put(struct pcpu *p)
{
	pthread_mutex_lock(&pcpu_lock);
	p->busy = false;
	pthread_mutex_unlock(&pcpu_lock);
}

void
pcpu_forget(struct vm *vm)
{
	pthread_mutex_lock(&pcpu_lock);
	for (struct pcpu *p = pcpus; p != NULL; p = p->next) {
		if (p->vm != vm)
			continue;
		vmm_pmu_save(p);
		(void)pe_sys(p->pe, IC_IALLU, 0);
		p->vm = NULL;
		p->ctx = NULL;
		p->owner = NULL;
		set_pins(p);
	}
	pthread_mutex_unlock(&pcpu_lock);
}

uint64_t
vm_hypctx_pa(struct vm *vm, const struct hypctx *hypctx)
{
	return (SEG_PA(SEG_CONTROL, (uint64_t)((const char *)hypctx - (const char *)vm->file)));
}

struct hypctx *
pcpu_hypctx(struct pcpu *p, uint64_t pa)
{
	uint64_t off = pa - SEG_PA(SEG_CONTROL, offsetof(struct vm_file, area.ctx));

	if (p->vm == NULL || pa < SEG_PA(SEG_CONTROL, 0) || off % sizeof(struct hypctx) != 0 ||
	    off / sizeof(struct hypctx) >= p->vm->hyp->maxcpus)
		return (NULL);
	return (hyp_ctx(p->vm->hyp, (unsigned)(off / sizeof(struct hypctx))));
}
