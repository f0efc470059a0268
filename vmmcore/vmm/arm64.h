/*
 * State of a VM and of its vCPUs: struct hyp and struct hypctx, by FreeBSD's
 * names. Both live in the control file, which every process that opened the
 * VM maps: offsets and indices only, no pointers. What belongs to one process
 * is in vmm.c's struct vm.
 */
#ifndef VMM_ARM64_H
#define VMM_ARM64_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "include/vmm.h"
#include "pe/pe.h"
#include "sys/lock.h"
#include "vmm/io/vgic_v3.h"
#include "vmm/io/vtimer.h"
#include "vmm/vmm_stat.h"

struct trapframe {
	uint64_t tf_x[31]; /* x30 is lr */
	uint64_t tf_elr;   /* ELR_EL2: where the guest goes on */
	uint64_t tf_spsr;  /* SPSR_EL2: its PSTATE */
	uint64_t tf_esr;   /* ESR_EL2 of the last exit */
	uint64_t tf_v[32][2];
};

struct hypctx_exit_info {
	uint64_t far_el2;
	uint64_t hpfar_el2;
};

/*
 * A load or store to an address that userland or a device in the core serves.
 * It is cut into accesses of at most 8 bytes; the instruction is done, and
 * registers change, when the last is.
 */
#define VIE_MAXACC 8
struct vie_access {
	uint64_t gpa;
	uint64_t data;
	uint32_t size;
};
struct vie_seq {
	uint32_t active;
	uint32_t count, next;
	uint32_t write;
	uint32_t rt, rt2; /* 31: none; V registers when simd */
	uint32_t nregs;   /* registers loaded */
	uint32_t regsize; /* bytes each */
	uint32_t simd;
	uint32_t sign;   /* sign-extend loads ... */
	uint32_t sf;     /* ... to 64 bits, else to 32 */
	uint32_t wb_reg; /* base register to update, 32: none, 31: SP */
	uint64_t wb_val;
	struct vie_access acc[VIE_MAXACC];
};

/* vmm_hot.c: addresses that the vCPU was seen at. */
struct vmm_hot {
	_Atomic uint64_t samples;
	struct {
		_Atomic uint64_t pc, count, over;
	} at[VM_HOT];
};

#define VMM_PMU_REGS 20

/* What the next vm_run() has to complete. */
enum {
	PENDING_NONE = 0,
	PENDING_INST_EMUL = 1,
	PENDING_REG_EMUL = 2,
	PENDING_WFI = 3,     /* asleep in WFI */
	PENDING_STANDBY = 4, /* the same, with an exit at its end */
};

struct hypctx {
	struct trapframe tf;
#define HYPREG(name, op0, op1, crn, crm, op2, flags) uint64_t name;
#include "vmm/hyp_regs.def"
#undef HYPREG
	struct hypctx_exit_info exit_info;

	struct vtimer_cpu vtimer_cpu;
	struct vgic_v3_regs vgic_v3_regs;
	struct vgic_v3_cpu vgic_cpu;

	uint64_t pmu[VMM_PMU_REGS]; /* while no PE has them (vmm_pmu.c) */
	uint32_t pmu_gen;           /* of resets */

	uint32_t vcpuid;
	uint32_t dbg_oslock;
	uint32_t caps;      /* bit VM_CAP_x */
	uint32_t pending;   /* PENDING_* */
	uint64_t stolen_ns; /* what the guest was told (vmm_stolen.c) */
	uint64_t wfi_until; /* WFIT: counter value; UINT64_MAX: none */
	struct vie_seq vie;

	/* vmm_debug.c: the debugger's registers; the guest's while it runs. */
	struct vm_debug debug_regs;
	uint64_t debug_mdscr, debug_spsr;
	uint32_t debug_hw;      /* one of debug_regs is enabled */
	uint32_t debug_in;      /* they are exchanged */
	uint32_t debug_stepped; /* the step ended without the guest */

	/*
	 * The kick pin of the PE that runs this vCPU and the word it sleeps on:
	 * set by vcpu_notify() after the reason has been made visible, cleared
	 * by the run loop before it looks at the reasons.
	 */
	_Atomic uint32_t kick;
	_Atomic uint32_t sleeping;

	/* Freezing: see vmm.c. */
	struct sys_lock gate;
	struct sys_lock lock;
	_Atomic uint32_t at_gate;
	_Atomic uint32_t runner; /* 1: somebody is inside vm_run() */
	_Atomic uint32_t debug_told;

	/* vmm_trace.c: the exit that is being served, INTIDs that the guest was entered with. */
	struct vm_trace_event traced;
	uint32_t trace_open, trace_nlr;
	uint16_t trace_lr[16];

	uint64_t stats[VMM_STAT_COUNT];
	uint64_t acked[VM_IRQS]; /* by INTID */
	struct vmm_hot hot;
} __attribute__((aligned(4096)));

/* vmm_trace.c: numbers of the next event and of the last reader, the events. */
struct vmm_trace_slot {
	_Atomic uint64_t seq; /* + 1; 0: being written */
	struct vm_trace_event e;
};
struct vmm_trace {
	_Atomic uint32_t on;
	_Atomic uint64_t next, read;
	struct vmm_trace_slot slot[VM_TRACE_RING];
};

struct hyp {
	struct vtimer vtimer;
	struct vgic_v3 vgic;
	uint64_t vttbr_el2; /* as last activated */
	uint64_t vtcr_el2;
	uint64_t features;   /* bit PE_FEAT_x of the PEs it runs on */
	uint64_t stolen_gpa; /* stolen time structures; 0: none */
	uint32_t vhe;
	uint32_t list_regs;
	uint32_t vmid_bits;
	uint32_t maxcpus;
	_Atomic uint32_t vgic_attached;
	_Atomic uint32_t its_attached;
	_Atomic uint32_t user_sysregs; /* userland has IMPLEMENTATION DEFINED registers */
	_Atomic uint32_t suspend;      /* enum vm_suspend_how */
	_Atomic uint64_t active_cpus, suspended_cpus, debug_cpus;
	_Atomic uint64_t s2_epoch;   /* stage-2 tables got stricter */
	_Atomic uint64_t code_epoch; /* guest memory was written from outside */
	struct vmm_trace trace;
} __attribute__((aligned(4096)));

/*
 * The part of the control file that starts with struct hyp. The file has no
 * blocks for `its` before one is attached: look at hyp.its_attached first.
 */
struct hyp_area {
	struct hyp hyp;
	struct hypctx ctx[VM_MAXCPU];
	struct vgic_its its;
};

static inline struct hypctx *
hyp_ctx(struct hyp *hyp, unsigned vcpuid)
{
	return (&((struct hyp_area *)(void *)hyp)->ctx[vcpuid]);
}

static inline struct vgic_its *
hyp_its(struct hyp *hyp)
{
	return (&((struct hyp_area *)(void *)hyp)->its);
}

static inline struct hyp *
hypctx_hyp(struct hypctx *hypctx)
{
	struct hypctx *first = hypctx - hypctx->vcpuid;

	return ((struct hyp *)(void *)((char *)first - offsetof(struct hyp_area, ctx)));
}

/* The guest has taken an interrupt. */
static inline void
hypctx_acked(struct hypctx *hypctx, uint32_t intid)
{
	hypctx->acked[intid < VM_IRQ_LPI ? intid : VM_IRQ_LPI]++;
}

/* Has vCPU n been activated (vm_activate_cpu)? */
static inline bool
hyp_cpu_active(struct hyp *hyp, unsigned vcpuid)
{
	return (vcpuid < hyp->maxcpus && ((atomic_load(&hyp->active_cpus) >> vcpuid) & 1) != 0);
}

/*
 * Make a vCPU look at its state again, wherever it is: out of the guest, awake
 * from WFI. From any thread of any process; cheap; takes no lock.
 */
void vcpu_notify(struct hypctx *hypctx);

/* General register n as an operand: 31 is XZR. */
static inline uint64_t
hypctx_x(const struct hypctx *hypctx, unsigned n)
{
	return (n < 31 ? hypctx->tf.tf_x[n] : 0);
}

static inline void
hypctx_set_x(struct hypctx *hypctx, unsigned n, uint64_t val)
{
	if (n < 31)
		hypctx->tf.tf_x[n] = val;
}

#endif /* VMM_ARM64_H */
