/*
 * The inside of the kernel module: the layout of a VM's control file, and
 * struct vm, one process's view of a VM. Not for userland (include/vmm.h).
 *
 * Locks, in the order they are taken:
 *	hypctx.gate   who freezes a vCPU (vmm.c)
 *	hypctx.lock   the vCPU's state: held by whoever runs or inspects it
 *	mem_lock      segments, memory map, stage-2 tables
 *	vm->line_mtx  a device's line and why it is up
 *	the vGIC's    (io/)
 *	vm->mtx, pcpu lock: private to a process, leaves
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <pthread.h>
#include <sys/types.h>

#include "vmm/arm64.h"

#define VM_MAGIC UINT64_C(0x4d56797668620a1a) /* "\x1a\nbhvyVM" */

/* Segments of the emulated host's physical address space, base (k + 1) << 42. */
#define SEG_STAGE2 VM_MAX_MEMSEGS
#define SEG_CONTROL (VM_MAX_MEMSEGS + 1)
#define SEG_COUNT (VM_MAX_MEMSEGS + 2)
#define SEG_SHIFT 42
#define SEG_PA(seg, off) ((((uint64_t)(seg) + 1) << SEG_SHIFT) + (off))

#define PAGE_SIZE UINT64_C(4096)
#define CHUNK_SIZE (UINT64_C(2) << 20) /* unit of allocation of guest memory */
#define GIB (UINT64_C(1) << 30)
#define IPA_BITS 40
#define IPA_END (UINT64_C(1) << IPA_BITS)
#define SEG_MAX_LEN (UINT64_C(1) << 39)
#define SEG_MAX_CHUNKS (SEG_MAX_LEN / CHUNK_SIZE)
#define STAGE2_LEN (UINT64_C(256) << 20)
#define VM_MAX_LOGS 8

struct vm_memseg {
	_Atomic uint64_t len; /* 0: none */
};

struct vm_memmap {
	uint64_t gpa, len, segoff; /* len 0: free */
	int32_t segid, prot;
};

struct vm_range {
	uint64_t gpa, len;
};

/* The allocator of table pages: pages below `next` are in use. */
struct pmap {
	uint32_t next;
	uint32_t allocated; /* pages the file has blocks for */
};

struct vm_control {
	/* Checked by vm_open() and vm_stat(). */
	uint64_t magic;
	uint32_t abi;
	uint32_t size_control, size_hyp, size_hypctx;
	uint64_t size_file;
	uint64_t created; /* seconds since the epoch */
	uint32_t maxcpus;
	uint32_t uid;

	_Atomic uint32_t state; /* enum vm_state, never DEAD */
	_Atomic uint32_t how;
	_Atomic uint32_t life_seq; /* futex: the runner left */
	_Atomic uint32_t runner_pid;
	_Atomic uint64_t runner_start;
	uint16_t sockets, cores, threads, topo_maxcpus;

	struct sys_lock mem_lock;
	struct vm_memseg seg[VM_MAX_MEMSEGS];
	struct vm_memmap map[VM_MAX_MEMMAPS];
	struct vm_range log[VM_MAX_LOGS];
	struct pmap pmap;
	_Atomic uint32_t load_len;
};

struct vm_file {
	union {
		struct vm_control control;
		uint8_t pad[8192];
	};
	struct hyp_area area;
	uint8_t load_record[VM_MAX_LOADREC];
	/* Bit per chunk of a segment that has its blocks. */
	uint8_t populated[VM_MAX_MEMSEGS][SEG_MAX_CHUNKS / 8];
};

struct vm_seg {
	int fd; /* -1: not open */
	void *base;
	_Atomic uint64_t len; /* stored last */
};

struct pcpu;
struct vcpu {
	struct pcpu *pcpu; /* where it last ran */
	uint64_t s2_seen;  /* stage-2 epoch its TLB has */
	/* vmm_stolen.c: the account of the thread that runs it; tid 0: none open */
	int sched_fd, sched_tid;
	uint64_t waited, stolen_next;
};

struct vm_wire {
	uint64_t gpa;
	uint32_t irq;
	int fd;
	bool line; /* as the interrupt controller was last told */
	struct vm_wire_state state;
	size_t count;
	uint8_t bytes[VM_WIRE_BYTES];
};

struct vm_latch {
	uint64_t status_gpa, ack_gpa;
	uint32_t irq, bits;
};

struct vm_doorbell {
	uint64_t gpa, value;
	int size, fd;
	bool match_any;
};

/* One process's view. */
struct vm {
	struct vm_file *file;
	struct vm_control *control;
	struct hyp *hyp;
	int dirfd, ctlfd;
	bool runner; /* vm_run_begin() done */
	uint64_t created;
	struct vm_seg seg[SEG_COUNT];
	pthread_mutex_t mtx; /* doorbells, opening of segments */
	_Atomic unsigned ndoorbells;
	struct vm_doorbell doorbell[VM_MAX_DOORBELLS];
	pthread_mutex_t line_mtx; /* wires, latches, and what they tell the vGIC */
	_Atomic unsigned nwires, nlatches;
	struct vm_wire wire[VM_MAX_WIRES];
	struct vm_latch latch[VM_MAX_LATCHES];
	bool paused;
	uint32_t vmid; /* see vmm_pcpu.c */
	uint64_t vmid_gen;
	struct vcpu vcpu[VM_MAXCPU];
};

static inline struct hypctx *
vm_ctx(struct vm *vm, int vcpu)
{
	if (vcpu < 0 || (uint32_t)vcpu >= vm->hyp->maxcpus)
		return (NULL);
	return (hyp_ctx(vm->hyp, (unsigned)vcpu));
}

/* vmm_dev.c */
extern const char *const vm_seg_name[SEG_COUNT];

/* vmm.c: freezing (EINVAL: vm_ctx() knows no such vCPU), and the runner's side of it. */
int vcpu_freeze(struct vm *vm, struct hypctx *hypctx);
void vcpu_thaw(struct vm *vm, struct hypctx *hypctx);
/* Take the vCPU for vm_run(): 0, or EINTR: the VM was suspended meanwhile. */
int vcpu_enter(struct vm *vm, struct hypctx *hypctx);
void vcpu_leave(struct hypctx *hypctx);
/* Let a requester in, if there is one. As vcpu_enter(). */
int vcpu_yield(struct vm *vm, struct hypctx *hypctx);
/* After a freeze the vCPU has its turn; it begins, and is over. */
void vcpu_turn(struct hypctx *hypctx);
void vcpu_paid(struct hypctx *hypctx);
/* Sleep until a kick or until the counter reaches `until`; the vCPU's own thread. */
void vcpu_doze(struct hypctx *hypctx, uint64_t until);
/* Kick every vCPU. */
void vm_notify_all(struct vm *vm);
/* Return when every vCPU has left the guest once. */
int vm_barrier(struct vm *vm);

/* vmm_mem.c */
int vm_seg_open(struct vm *vm, int seg);
void *vm_pa2hva(struct vm *vm, uint64_t pa, size_t len);
/* Host address of RAM; *len is cut to what is contiguous. NULL: not RAM. */
void *vm_gpa2hva(struct vm *vm, uint64_t gpa, uint64_t *len);
bool vm_mem_allocated(struct vm *vm, uint64_t gpa);
enum { PAGEIN_DONE = 0, PAGEIN_NOT_RAM = -1, PAGEIN_DENIED = -2 };
/* Make `gpa` accessible at stage 2: PAGEIN_* or an errno value. */
int vm_pagein(struct vm *vm, uint64_t gpa, int prot);
bool vm_mem_logged(struct vm *vm, uint64_t gpa, uint64_t len);
/* vm_copyout() for what is no code, as a device of the machine writes: executors keep theirs. */
int vm_write_data(struct vm *vm, uint64_t gpa, const void *buf, uint64_t len);

/* vmm_gla.c: stage 1 of a vCPU by software. 0, EFAULT with *fsc, EINVAL. */
int vm_stage1_walk(struct vm *vm, const struct hypctx *hypctx, uint64_t gla, int prot,
    uint64_t *gpa, unsigned *fsc);

/* Registers in the core: was it one, and is the access done? (vmm_doorbell.c, _wire.c, _latch.c) */
bool vm_doorbell_ring(struct vm *vm, uint64_t gpa, unsigned size, uint64_t value);
bool vm_wire_access(struct vm *vm, uint64_t gpa, unsigned size, int dir, uint64_t *data);
bool vm_latch_access(struct vm *vm, uint64_t gpa, unsigned size, int dir, uint64_t *data);

/* vmm_stolen.c: before an entry, from the vCPU's thread; give back what it holds */
void vm_stolen_update(struct vm *vm, struct hypctx *hypctx, struct vcpu *vcpu);
void vm_stolen_close(struct vm *vm);

/* vmm_reset.c */
void vm_reset_ctx(struct hyp *hyp, struct hypctx *hypctx);

/* vmm_exc.c: the instruction was emulated, the guest goes on with the next. */
void hypctx_skip(struct hypctx *hypctx);
/* The guest takes an exception to EL1 (state in hypctx). */
void hypctx_inject(struct hypctx *hypctx, uint64_t esr, uint64_t far);
void hypctx_inject_undef(struct hypctx *hypctx);
/* fsc: DFSC/IFSC; external abort 0x10. */
void hypctx_inject_abort(struct hypctx *hypctx, bool insn, unsigned fsc, uint64_t far);

/*
 * vmm_pmu.c: a core's reset; the PE is taken from its vCPU or this process; around
 * an entry.
 */
void vmm_pmu_reset(struct hypctx *hypctx);
void vmm_pmu_save(struct pcpu *pcpu);
void vmm_pmu_enter(struct pcpu *pcpu, struct hypctx *hypctx);
void vmm_pmu_leave(struct pcpu *pcpu, struct hypctx *hypctx);
/* vmm_debug.c: around an entry; a step was done by emulation; is one over? */
void vmm_debug_enter(struct hypctx *hypctx);
void vmm_debug_leave(struct hypctx *hypctx);
void vmm_debug_stepped(struct hypctx *hypctx);
bool vmm_debug_step_over(struct hypctx *hypctx);
/* Is a debug exception that came to EL2 the debugger's, or else the guest's? */
bool vmm_debug_wants(const struct hypctx *hypctx);

/* vmm_hot.c: what the PE counted goes to the vCPU; it was seen at pc. */
void pcpu_count(struct pcpu *pcpu, struct hypctx *hypctx);
void vmm_hot_sample(struct pcpu *pcpu, uint64_t pc);

/* vmm_trace.c */
/* An exit; what ended it (type IRQ); it was served, as far as it can be without userland. */
void vmm_trace_exit(struct hypctx *hypctx, int type);
void vmm_trace_intid(struct hypctx *hypctx, uint32_t intid);
void vmm_trace_served(struct hypctx *hypctx);
/* Around a stay in the guest: what list registers give it. */
void vmm_trace_enter(struct hypctx *hypctx);
void vmm_trace_leave(struct hypctx *hypctx);

/* vmm_instruction_emul.c */
enum { VIE_DONE = 0, VIE_EXIT = 1 };
/* Begin the access of the data abort in hypctx. VIE_* or an errno value. */
int vie_start(struct vm *vm, struct hypctx *hypctx, uint64_t gpa, struct vm_exit *vme);
/* The same at EL2 while the guest's world is in the PE; false: nothing was done. */
bool vie_at_el2(struct vm *vm, struct hypctx *hypctx, struct pe *pe);
/* Go on with the answer of userland. */
int vie_resume(struct vm *vm, struct hypctx *hypctx, struct vm_exit *vme);

/* vmm_sysreg.c: a trapped MSR, MRS or SYS. VIE_*: an exit is REG_EMUL. */
int sysreg_emulate(struct hypctx *hypctx, struct pe *pe, struct vm_exit *vme);
/* Complete it with the answer of userland. */
void sysreg_resume(struct hypctx *hypctx, uint64_t data);

/* vmm_pcpu.c: the PEs of this process and its VMIDs. */
struct pcpu {
	struct pe *pe;
	struct hypctx *host;   /* host state while a guest runs */
	struct vm *vm;         /* whose memory the pins reach */
	struct hypctx *ctx;    /* whom it runs */
	uint64_t ctx_pa;       /* its physical address */
	struct hypctx *pmu_of; /* whose PMU registers the PE has, NULL: nobody's */
	uint32_t pmu_gen;
	struct vcpu *owner; /* who comes back to it */
	bool busy;
	uint32_t vmid; /* in use while busy */
	uint64_t features;
	uint32_t list_regs, vmid_bits;
	uint32_t vhe; /* the host is at EL2 */
	unsigned jit_flags;
	size_t jit_memory;
	uint32_t nregs; /* rows of hyp_regs.def that the PE has */
	uint16_t reg[256];
	/* The same, by what the switch does with them (vmm_hyp.inc). */
	struct pe_bank world;    /* the host has one and the guest has one */
	struct pe_bank el1_only; /* VHE: the guest's EL1, which the host does not touch */
	struct pcpu *next;
	struct pe_counters seen;
};
int pcpu_get(struct vm *vm, int vcpu, struct pcpu **pcpup);
void pcpu_put(struct pcpu *pcpu);
/* Is a vCPU of the VM inside vm_run() of this process? */
bool pcpu_vm_busy(const struct vm *vm);
/* The VM leaves this process. */
void pcpu_forget(struct vm *vm);
/* Resolve an address of the emulated host to the hypctx it names. */
struct hypctx *pcpu_hypctx(struct pcpu *pcpu, uint64_t pa);
uint64_t vm_hypctx_pa(struct vm *vm, const struct hypctx *hypctx);

#endif /* VMM_VM_H */
