/*
 * The one C API of bhyvepy: what /dev/vmm and its ioctls are in FreeBSD.
 *
 * A VM is a folder of files under a VM directory; every process that opens it
 * maps them. All functions return 0 or an errno value. A struct vm belongs to
 * the process that opened it; its functions may be called from any thread. A
 * vCPU is frozen (stopped at an instruction boundary and written back) for as
 * long as a function reads or writes its registers, and goes on afterwards.
 *
 * This file is also what cffi reads: plain declarations, constants as numbers,
 * nothing declared elsewhere.
 */
#ifndef VMM_H
#define VMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMM_ABI_VERSION 2
#define VM_MAX_NAMELEN 229 /* FreeBSD: SPECNAMELEN less "/dev/vmm.io/" and a segment */
#define VM_MAXCPU 64
#define VM_MAX_SUFFIXLEN 15
#define VM_MAX_MEMSEGS 4
#define VM_MAX_MEMMAPS 8
#define VM_MAX_LOADREC 262144
#define VM_MAX_STATS 64
#define VM_MAX_DOORBELLS 64
#define VM_MAX_WIRES 8
#define VM_WIRE_BYTES 16384
#define VM_WIRE_THR 1
#define VM_WIRE_IER 2
#define VM_WIRE_IIR 4
#define VM_WIRE_LSR 8
#define VM_WIRE_MSR 16
#define VM_WIRE_NO_CAUSE 1
#define VM_MAX_LATCHES 64

/* Memory segments. */
#define VM_SYSMEM 0
#define VM_BOOTROM 1

#define VM_PROT_READ 1
#define VM_PROT_WRITE 2
#define VM_PROT_EXEC 4
#define VM_MEMMAP_F_WIRED 1

struct vm;

/* Life of a VM (docs/architecture.md, section 3). */
enum vm_state {
	VM_STATE_EMPTY = 0,   /* created */
	VM_STATE_LOADED = 1,  /* has a load record */
	VM_STATE_RUNNING = 2, /* a live process runs it */
	VM_STATE_ENDED = 3,   /* reset, powered off or halted */
	VM_STATE_DEAD = 4,    /* its runner was killed */
};

enum vm_suspend_how {
	VM_SUSPEND_NONE = 0,
	VM_SUSPEND_RESET = 1,
	VM_SUSPEND_POWEROFF = 2,
	VM_SUSPEND_HALT = 3,
	VM_SUSPEND_DESTROY = 4,
	VM_SUSPEND_LAST = 5,
};

/* General registers, by FreeBSD's numbers; system registers by encoding. */
enum vm_reg_name {
	VM_REG_GUEST_X0 = 0,
	VM_REG_GUEST_X29 = 29,
	VM_REG_GUEST_LR = 30,
	VM_REG_GUEST_SP = 31,
	VM_REG_GUEST_PC = 32,
	VM_REG_GUEST_CPSR = 33,
	VM_REG_GUEST_SCTLR_EL1 = 34,
	VM_REG_GUEST_TTBR0_EL1 = 35,
	VM_REG_GUEST_TTBR1_EL1 = 36,
	VM_REG_GUEST_TCR_EL1 = 37,
	VM_REG_GUEST_TCR2_EL1 = 38,
	VM_REG_GUEST_MPIDR_EL1 = 39,
	VM_REG_LAST = 40,
	/* Q registers: VM_REG_GUEST_V0 + 2n is the low, + 1 the high half. */
	VM_REG_GUEST_V0 = 64,
	VM_REG_GUEST_V_END = 128,
	/* System registers: VM_REG_SYSREG + MRS encoding (16 bits). */
	VM_REG_SYSREG = 65536,
};

enum vm_exitcode {
	VM_EXITCODE_BOGUS = 0,
	VM_EXITCODE_INST_EMUL = 1,
	VM_EXITCODE_REG_EMUL = 2,
	VM_EXITCODE_HVC = 3,
	VM_EXITCODE_SUSPENDED = 4,
	VM_EXITCODE_HYP = 5,
	VM_EXITCODE_WFI = 6,
	VM_EXITCODE_PAGING = 7,
	VM_EXITCODE_SMCCC = 8,
	VM_EXITCODE_DEBUG = 9,
	VM_EXITCODE_BRK = 10,
	VM_EXITCODE_SS = 11,
	VM_EXITCODE_MAX = 12,
};

#define VM_DIR_READ 0
#define VM_DIR_WRITE 1

/*
 * Why vm_run() returned. For a read (INST_EMUL, REG_EMUL with dir READ) the
 * caller puts the value into `data` of the same struct before the next
 * vm_run(), which completes the instruction: size, sign extension and XZR are
 * the core's business. For a write the value is already in `data`, cut to
 * access_size.
 */
struct vm_exit {
	int exitcode; /* enum vm_exitcode */
	int inst_length;
	uint64_t pc;
	uint64_t esr;   /* ESR_EL2 of the exit */
	uint64_t far;   /* FAR_EL2 */
	uint64_t hpfar; /* HPFAR_EL2 */
	/* INST_EMUL */
	uint64_t gpa;
	int access_size; /* 1, 2, 4 or 8 bytes */
	int dir;         /* VM_DIR_*; also REG_EMUL */
	uint64_t data;
	/* REG_EMUL: MRS encoding */
	uint32_t reg;
	/* SUSPENDED */
	int how; /* enum vm_suspend_how */
	/* SMCCC: function id and arguments x1 to x7 */
	uint64_t func_id;
	uint64_t args[7];
	int conduit_smc; /* 1: SMC, 0: HVC */
};

struct vm_meminfo {
	uint64_t gpa;
	uint64_t len;
	uint64_t segoff;
	int segid;
	int prot;
	int flags;
};

struct vm_info {
	int state; /* enum vm_state */
	int how;   /* enum vm_suspend_how of the last end */
	int maxcpus;
	int runner;       /* pid of the live runner, or 0 */
	uint32_t uid;     /* owner */
	uint64_t mem;     /* bytes of RAM */
	uint64_t created; /* seconds since the epoch */
};

struct vm_options {
	int maxcpus;       /* 1 to VM_MAXCPU */
	int vhe;           /* world switch: 0 nVHE, 1 VHE */
	int list_regs;     /* 1 to 16; 0 = 4 */
	int vmid_bits;     /* 8 or 16; 0 = 16 */
	uint64_t features; /* bit n: feature n of vm_feature_name(); 0 = default set */
};

/* In vm_options.features: the set is meant even if it is empty. */
#define VM_FEATURES_EXACT 0x8000000000000000u

/* -- life -------------------------------------------------------------------
 * `dir` is the VM directory; it exists and belongs to the caller (EPERM
 * otherwise). Names: 1 to VM_MAX_NAMELEN bytes of [A-Za-z0-9._-], not starting
 * with '.' or '-' (EINVAL). EEXIST, ENOENT, ENOSPC, ENOMEM, EPROTO (another
 * ABI version or damaged), ENOTSUP (`vhe` without that feature).
 */
int vm_create(const char *dir, const char *name, const struct vm_options *opt);
int vm_open(const char *dir, const char *name, struct vm **vmp);
/* Threads inside vm_run() must have ended. */
void vm_close(struct vm *vm);
/*
 * Suspend with VM_SUSPEND_DESTROY, wait for the runner to leave (at most 2 s),
 * remove the files. Also removes damaged and half-made VMs.
 */
int vm_destroy(const char *dir, const char *name);
/* The state of a VM without opening it; EPROTO for a damaged one. */
int vm_stat(const char *dir, const char *name, struct vm_info *info);
int vm_info(struct vm *vm, struct vm_info *info);

/* Become the runner: EBUSY while another process runs it; EINVAL unless loaded. */
int vm_run_begin(struct vm *vm);
/* Leave: the VM is ENDED with the reason it was suspended for. */
int vm_run_end(struct vm *vm);

/* -- what the CPU can do ---------------------------------------------------- */
/* Feature n: its name in the Arm manual and what it is. ENOENT past the last. */
int vm_feature_name(unsigned n, const char **name, const char **desc);
/* Named CPU n and its set of features. ENOENT past the last. */
int vm_cpu_model(unsigned n, const char **name, uint64_t *features);
/*
 * Switch feature n on with all that it needs, or off with all that needs it.
 * EINVAL: no such feature.
 */
int vm_feature_switch(uint64_t *features, unsigned n, bool on);
/* The set that a VM was created with. */
int vm_get_features(struct vm *vm, uint64_t *features);

/* -- load record: bytes that bhyveload leaves for bhyve ----------------------
 * Setting it moves an EMPTY VM to LOADED. len <= VM_MAX_LOADREC (E2BIG).
 */
int vm_set_load_record(struct vm *vm, const void *buf, size_t len);
/* *len: in the room, out the size. ENOENT: not loaded. */
int vm_get_load_record(struct vm *vm, void *buf, size_t *len);

/* -- memory -----------------------------------------------------------------
 * A segment is a sparse file; ENOSPC when `reserve` is set and it cannot be
 * allocated. mmap_memseg places part of it in guest physical space (EEXIST on
 * overlap with another mapping; EINVAL unless 4 KiB aligned).
 */
int vm_alloc_memseg(struct vm *vm, int segid, uint64_t len, bool reserve);
int vm_get_memseg(struct vm *vm, int segid, uint64_t *len);
/* The path of a segment's file, for mmap by the caller. ERANGE: too long. */
int vm_memseg_path(struct vm *vm, int segid, char *buf, size_t len);
/* Allocate the chunks behind [off, off + len) of a segment before the host writes them. */
int vm_memseg_populate(struct vm *vm, int segid, uint64_t off, uint64_t len);
int vm_mmap_memseg(struct vm *vm, uint64_t gpa, int segid, uint64_t segoff, uint64_t len, int prot);
int vm_munmap_memseg(struct vm *vm, uint64_t gpa, uint64_t len);
/* The first mapping at or above info->gpa; ENOENT past the last. */
int vm_mmap_getnext(struct vm *vm, struct vm_meminfo *info);
/* The host wrote guest memory: executors drop code of the pages. */
int vm_memory_written(struct vm *vm, uint64_t gpa, uint64_t len);
/* A device wrote guest memory; only the dirty log wants to know, if there is one. */
bool vm_dirty_logging(struct vm *vm);
int vm_dma_written(struct vm *vm, uint64_t gpa, uint64_t len);
/* Checked copies; EFAULT unless every byte is RAM. */
int vm_copyin(struct vm *vm, uint64_t gpa, void *buf, uint64_t len);
int vm_copyout(struct vm *vm, const void *buf, uint64_t gpa, uint64_t len);
/* Take stage-2 write permission away and log which 4 KiB pages get written. */
int vm_dirty_log_start(struct vm *vm, uint64_t gpa, uint64_t len);
/* One bit a page, lowest address first; returns and clears. */
int vm_dirty_log_get(struct vm *vm, uint64_t gpa, uint64_t len, uint8_t *bitmap, size_t size);
/*
 * Stolen time of the vCPUs (Arm DEN 0057): adds 64 KiB of memory at `gpa` that
 * the guest can read, with the structure of vCPU n at gpa + 64 n. EEXIST: it has.
 */
int vm_stolen_time(struct vm *vm, uint64_t gpa);
/* Guest virtual to physical with the vCPU's stage 1; *fault = 1: no translation. */
int vm_gla2gpa(struct vm *vm, int vcpu, uint64_t gla, int prot, uint64_t *gpa, int *fault);
/* Guest physical to host-emulated PA with its stage-2 descriptor; ENOENT: not mapped yet. */
int vm_get_gpa_pmap(struct vm *vm, uint64_t gpa, uint64_t *pte, int *level);
/* Stage-2 protection of a range, with TLBI on all vCPUs. */
int vm_protect(struct vm *vm, uint64_t gpa, uint64_t len, int prot);

/* -- vCPUs ------------------------------------------------------------------ */
/* Before vm_run() of any vCPU: EBUSY while one is inside it, or when active already. */
int vm_activate_cpu(struct vm *vm, int vcpu);
/* which: 0 active, 1 suspended, 2 debug. */
int vm_get_cpus(struct vm *vm, int which, uint64_t *set);
/*
 * Debug set: vcpu -1 is all. A vCPU in it leaves the guest with one DEBUG exit;
 * the next vm_run() waits until it is resumed.
 */
int vm_suspend_cpu(struct vm *vm, int vcpu);
int vm_resume_cpu(struct vm *vm, int vcpu);
int vm_set_topology(struct vm *vm, int sockets, int cores, int threads, int maxcpus);
int vm_get_topology(struct vm *vm, int *sockets, int *cores, int *threads, int *maxcpus);
int vcpu_reset(struct vm *vm, int vcpu);
/* The guest turned it off: interrupts for any of several vCPUs go to others. */
int vcpu_off(struct vm *vm, int vcpu);
/*
 * The next vm_run() does not enter the guest: it waits for an interrupt for the
 * vCPU, as WFI does, and returns with a WFI exit.
 */
int vcpu_standby(struct vm *vm, int vcpu);
/*
 * Run until userland has something to do. Blocks all signals' effects: call it
 * from a vCPU thread. EBUSY: the vCPU is running elsewhere. EINVAL: not active,
 * or this process is not the runner (vm_run_begin()). ENOSPC: no room for guest
 * memory. EIO: vm_memory_lost().
 */
int vm_run(struct vm *vm, int vcpu, struct vm_exit *vme);
/* End the VM's run; EALREADY when it is ending, EINVAL for a bad reason. */
int vm_suspend(struct vm *vm, int how);
/* Freeze every vCPU and hold it; a killed holder thaws. One thread does both. */
int vm_pause(struct vm *vm);
int vm_unpause(struct vm *vm);

int vm_get_register(struct vm *vm, int vcpu, int reg, uint64_t *val);
int vm_set_register(struct vm *vm, int vcpu, int reg, uint64_t val);
/* Under one freeze. */
int vm_get_register_set(struct vm *vm, int vcpu, unsigned count, const int *regs, uint64_t *vals);
int vm_set_register_set(
    struct vm *vm, int vcpu, unsigned count, const int *regs, const uint64_t *vals);
/* The n-th system register a vCPU keeps; ENOENT past the last. `name` 32 bytes. */
int vm_sysreg_info(unsigned n, char *name, int *reg);

/*
 * Accesses of the guest's EL1 to IMPLEMENTATION DEFINED system registers (op0 3,
 * CRn 11 and 15) are REG_EMUL exits instead of UNDEFINED. Before any vm_run().
 */
int vm_user_sysregs(struct vm *vm);

int vm_inject_exception(struct vm *vm, int vcpu, uint64_t esr, uint64_t far);
int vm_restart_instruction(struct vm *vm, int vcpu);

/* -- interrupts ------------------------------------------------------------- */
int vm_attach_vgic(
    struct vm *vm, uint64_t dist, uint64_t dist_size, uint64_t redist, uint64_t redist_size);
/* A GICv2 of `ncpus` <= 8 instead: GICD_* and GICC_* frames. */
int vm_attach_vgic_v2(struct vm *vm, uint64_t dist, uint64_t dist_size, uint64_t cpuif,
    uint64_t cpuif_size, int ncpus);
/* An ITS of 128 KiB beside a GICv3: EINVAL, EBUSY, ENOSPC. */
int vm_attach_its(struct vm *vm, uint64_t base, uint64_t size);
/* 1 to 16 list registers, before the vGIC is attached: EINVAL, EBUSY. */
int vm_set_list_regs(struct vm *vm, int n);
/* INTID 32 to 1019, level. ENODEV: no vGIC; EINVAL. */
int vm_assert_irq(struct vm *vm, uint32_t irq);
int vm_deassert_irq(struct vm *vm, uint32_t irq);
/* To GICD_SETSPI_NSR or GITS_TRANSLATER (device 0). EINVAL: it leads nowhere. */
int vm_raise_msi(struct vm *vm, uint64_t addr, uint64_t msg);
/* From the device with this DeviceID (its requester id on a bus). */
int vm_raise_msi_from(struct vm *vm, uint64_t addr, uint64_t msg, uint32_t devid);

/*
 * What the interrupt controller holds. All of it belongs to one moment, with every
 * vCPU frozen: what was in list registers is counted in. List registers themselves
 * are shown as the vCPU's last stay in the guest left them.
 */
struct vm_vgic {
	int version;       /* 3 or 2 */
	int ncpus;         /* redistributors, or CPU interfaces */
	int its;           /* 1: with an ITS */
	int list_regs;     /* of each CPU */
	uint32_t ctlr;     /* GICD_CTLR as the guest reads it */
	uint64_t dist;     /* GICD */
	uint64_t redist;   /* GICR of the first CPU, or GICC */
	uint64_t its_base; /* GITS */
};
struct vm_vgic_cpu {
	int asleep;         /* GICR_WAKER.ProcessorSleep */
	int lpis;           /* GICR_CTLR.EnableLPIs */
	uint32_t pmr;       /* ICC_PMR, or GICC_PMR */
	uint32_t running;   /* priority of what is being handled, 0xff: nothing */
	uint32_t ctlr;      /* GICv2: GICC_CTLR, else 0 */
	uint32_t nlr;       /* list registers that the last stay used */
	uint64_t vmcr, hcr; /* ICH_VMCR_EL2, ICH_HCR_EL2 */
	uint64_t lr[16];    /* ICH_LR<n>_EL2 */
};
struct vm_vgic_irq {
	uint32_t intid;
	int cpu;        /* whose SGI or PPI it is; -1: SPI, LPI */
	int target;     /* vCPU it goes to; -1: none */
	uint64_t route; /* SPI: GICD_IROUTER, or GICD_ITARGETSR; else 0 */
	uint8_t priority;
	uint8_t group; /* 0 or 1 */
	uint8_t edge;  /* else level-sensitive */
	uint8_t line;  /* the input is high */
	uint8_t enabled, pending, active;
};
#define VM_VGIC_IRQS 11228 /* of 64 vCPUs, with all LPIs */
/*
 * `cpus` has room for VM_MAXCPU, of which vgic->ncpus are filled in; *count: in
 * the room in `irqs`, out how many there are. LPIs only when enabled, pending or
 * active. ENODEV: no vGIC; ERANGE: no room; ETIMEDOUT: a stopped process is in
 * the way.
 */
int vm_get_vgic(struct vm *vm, struct vm_vgic *vgic, struct vm_vgic_cpu *cpus, unsigned *count,
    struct vm_vgic_irq *irqs);

/* -- doorbells: a guest write of `size` bytes to gpa signals an eventfd --------
 * instead of leaving vm_run(). match_any false: only when the value is equal.
 * Private to the calling process.
 */
int vm_doorbell_add(struct vm *vm, uint64_t gpa, int size, bool match_any, uint64_t value, int fd);
int vm_doorbell_del(struct vm *vm, uint64_t gpa, int fd);

/* -- wires: an NS16550A's registers, as far as the core serves them ------------
 * What a guest writes to THR is kept, and signals the eventfd when it is the
 * first. `serve` says which accesses of one byte stay in the core, all from `gpa`
 * up; everything else, also when VM_WIRE_BYTES are kept, leaves vm_run(). The
 * core drives interrupt `irq` (0: none) by the state, whoever changes it.
 * A new wire serves nothing. Private to the calling process.
 */
struct vm_wire_state {
	uint8_t serve; /* VM_WIRE_* */
	uint8_t ier;
	uint8_t thre; /* the transmitter's interrupt is pending */
	uint8_t rx;   /* the receiver's cause as IIR has it; VM_WIRE_NO_CAUSE: none */
	uint8_t fifo; /* what else IIR says */
	uint8_t lsr, msr;
};
int vm_wire_add(struct vm *vm, uint64_t gpa, uint32_t irq, int fd, int *wire);
/* Serve nothing from now on, and say what the guest has made of the state. */
int vm_wire_hold(struct vm *vm, int wire, struct vm_wire_state *state);
int vm_wire_set(struct vm *vm, int wire, const struct vm_wire_state *state);
/* A byte of the device's own, behind the guest's; EAGAIN: full. */
int vm_wire_put(struct vm *vm, int wire, uint8_t byte);
/* The bytes since the last call; ERANGE: there are more than `room`. */
int vm_wire_take(struct vm *vm, int wire, uint8_t *buf, size_t room, size_t *len);

/* -- latches: bits that a device raises and a guest acknowledges ---------------
 * A load of 4 bytes from status_gpa gives the bits, a store of 4 bytes to ack_gpa
 * clears those that are set in it; interrupt `irq` (0: none) is up while there
 * are any. This is InterruptStatus of virtio-mmio. Private to the calling process.
 */
int vm_latch_add(struct vm *vm, uint64_t status_gpa, uint64_t ack_gpa, uint32_t irq, int *latch);
/* Clear and set bits, in this order; *bits: what they are then. */
int vm_latch_change(struct vm *vm, int latch, uint32_t clear, uint32_t set, uint32_t *bits);

/* -- statistics -------------------------------------------------------------- */
/* ENOENT past the last. The description stays valid. */
int vm_stat_desc(unsigned index, const char **desc);
int vm_get_stats(struct vm *vm, int vcpu, unsigned count, uint64_t *vals);
/* How often the vCPU acknowledged each interrupt; LPIs are one. `count` <= VM_IRQS. */
#define VM_IRQ_LPI 1020
#define VM_IRQS 1021
int vm_get_irqs(struct vm *vm, int vcpu, unsigned count, uint64_t *acked);

/*
 * Where a vCPU executes: its PC, looked at every 65,000 instructions or so. The
 * table keeps what was seen most; `over` is how many samples of `count` may have
 * been of addresses that had to make room. *count: in the room, out how many there
 * are, those seen most for certain first; *samples: of all addresses.
 */
#define VM_HOT 64
struct vm_hot {
	uint64_t pc, count, over;
};
int vm_get_hot(struct vm *vm, int vcpu, unsigned *count, struct vm_hot *hot, uint64_t *samples);

/* -- trace: the last exits from the guest, as they happen ----------------------- */
#define VM_TRACE_RING 4096
struct vm_trace_event {
	uint64_t seq;
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	uint64_t pc, esr, far, hpfar;
	uint64_t value; /* of the register that is moved; else x0 */
	int vcpu;
	int type;   /* VM_TRACE_* */
	int intid;  /* IRQ: physical, of what ended the stay in the guest; VIRQ */
	int loaded; /* a read was done, and `value` is what it gave */
};
#define VM_TRACE_SYNC 0
#define VM_TRACE_IRQ 1
#define VM_TRACE_FIQ 2
#define VM_TRACE_SERROR 3
#define VM_TRACE_VIRQ 8 /* no exit: the guest is entered with an interrupt that is new to it */
/* On or off for the VM; *seq: where to read from. */
int vm_trace(struct vm *vm, bool on, uint64_t *seq);
/*
 * At most *count events from *seq on, both updated; a gap in `seq` is events
 * that were lost. EINVAL: *seq is in the future.
 */
int vm_trace_read(struct vm *vm, uint64_t *seq, unsigned *count, struct vm_trace_event *events);

/* -- capabilities ------------------------------------------------------------ */
enum vm_cap_type {
	VM_CAP_HALT_EXIT = 0,
	VM_CAP_PAUSE_EXIT = 1,
	VM_CAP_UNRESTRICTED_GUEST = 2,
	VM_CAP_BRK_EXIT = 3,
	VM_CAP_SS_EXIT = 4,
	VM_CAP_MASK_HWINTR = 5,
	VM_CAP_MAX = 6,
};
int vm_set_capability(struct vm *vm, int vcpu, int cap, int val);
int vm_get_capability(struct vm *vm, int vcpu, int cap, int *val);
/*
 * Breakpoints and watchpoints of a debugger, as DBGBVRn, DBGBCRn, DBGWVRn and
 * DBGWCRn; those that the CPU does not have (ID_AA64DFR0_EL1) do nothing. They,
 * and with VM_CAP_BRK_EXIT the guest's BRK, are BRK exits: esr says which (EC
 * 0x30, 0x34, 0x3c), far where a watchpoint was hit. All zero: none.
 */
struct vm_debug {
	uint64_t bvr[16], bcr[16], wvr[16], wcr[16];
};
int vm_set_debug(struct vm *vm, int vcpu, const struct vm_debug *regs);

/*
 * How vCPUs execute that this process runs for the first time from now on:
 *
 *	VMM_JIT_ON	translate guest code to host code; where the host lacks what
 *			that needs, or without this bit, everything is interpreted
 *	VMM_JIT_PERF	describe translated code in jit-PID.dump in the working
 *			directory, for `perf inject --jit`
 *	VMM_JIT_STRICT	see code that the guest modifies without maintenance
 *
 * `memory` is the room for translated code of one vCPU in bytes, VMM_JIT_MEMORY_MIN
 * to VMM_JIT_MEMORY_MAX; 0 is the usual.
 */
#define VMM_JIT_ON 1
#define VMM_JIT_PERF 2
#define VMM_JIT_STRICT 4
#define VMM_JIT_MEMORY_MIN 0x10000
#define VMM_JIT_MEMORY_MAX 0x40000000
void vmm_set_jit(unsigned flags, uint64_t memory);

/* The errno value that means "a segment file was truncated under us", or 0. */
int vm_memory_lost(void);
/*
 * A mapping of a segment that the caller made: when the file is truncated, touching it
 * sets vm_memory_lost() instead of killing the process. Unguard before unmapping.
 */
int vm_memory_guard(void *base, uint64_t len);
void vm_memory_unguard(void *base);
/* Version and build facts of the core, one line. */
const char *vmm_version(void);

#endif /* VMM_H */
