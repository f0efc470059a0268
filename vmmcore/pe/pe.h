/*
 * The processing element as seen by an EL2 hypervisor: everything vmm/ may
 * know about the silicon.
 *
 * A hypervisor loads EL2 and EL1 registers with pe_msr(), general and SIMD
 * registers through pe_gpr(), and calls pe_run(), which performs ERET from EL2
 * with SPSR_EL2 and ELR_EL2 and returns when the PE takes an exception to EL2.
 * On return ESR_EL2, FAR_EL2, HPFAR_EL2, ELR_EL2 and SPSR_EL2 hold what the
 * Arm ARM (DDI 0487, D1.3 and D19.2) says they hold.
 *
 * Not here: how instructions are executed (pe_internal.h).
 */
#ifndef PE_PE_H
#define PE_PE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pe;

/* Vector offsets of VBAR_EL2, returned by pe_run() (DDI 0487, D1.3.1). */
#define PE_VEC_CUR_SP0 0x000
#define PE_VEC_CUR_SPX 0x200
#define PE_VEC_LOWER_A64 0x400
#define PE_VEC_SYNC 0x000
#define PE_VEC_IRQ 0x080
#define PE_VEC_FIQ 0x100
#define PE_VEC_SERROR 0x180

#define PE_PROT_READ 1
#define PE_PROT_WRITE 2
#define PE_PROT_EXEC 4

/* Peripheral interrupts private to the PE (BSA, "PPI assignments"). */
#define PE_PPI_PMU 23
#define PE_PPI_MAINT 25
#define PE_PPI_HYPTIMER 26
#define PE_PPI_VTIMER 27
#define PE_PPI_PTIMER 30

/* Counter frequency of the system, Hz. */
#define PE_CNTFRQ 100000000u

/*
 * The pins of the core: how it reaches the rest of the chip. Callbacks may be
 * called from the thread inside pe_run() only, `counter` from any thread.
 */
struct pe_pins {
	void *ctx;
	/*
	 * Host address of `len` bytes of physical address `pa`; they never
	 * cross a 4 KiB page. NULL: nothing answers there, the access becomes
	 * a synchronous external abort.
	 */
	void *(*pa2hva)(void *ctx, uint64_t pa, size_t len, int prot);
	/* CNTPCT_EL0: ticks of PE_CNTFRQ, never backwards. */
	uint64_t (*counter)(void *ctx);
	/*
	 * A line from outside, for instance in memory shared with another
	 * process: while nonzero a physical SGI (INTID 0) is pending. The PE
	 * looks at it every few microseconds and before it enters a guest.
	 * The PE clears nothing; the owner of the line does.
	 */
	const _Atomic uint32_t *kick;
	/*
	 * Host writes to code: a counter that others bump after they changed
	 * guest memory from outside; the PE drops predecoded code when it moves.
	 */
	const _Atomic uint64_t *code_epoch;
	/*
	 * The core's low-power state, for a long WFE: return when the kick line
	 * rises, when `wake` of the same ctx is called, when the counter reaches
	 * `until`, or for no reason. NULL: there is none.
	 */
	void (*wait)(void *ctx, uint64_t until);
	/* From any thread. */
	void (*wake)(void *ctx);
	/*
	 * Statistical profiling: called between two instructions, some 10,000 times
	 * in a second of execution, with the address of the next. NULL: nobody asks.
	 */
	void (*sample)(void *ctx, uint64_t pc);
	/* A guest has acknowledged a virtual interrupt; or NULL. */
	void (*acked)(void *ctx, uint32_t intid);
};

/* Architectural extensions, one bit each; names of the Arm ARM. */
enum pe_feature {
#define PE_FEATURE(name, desc) PE_FEAT_##name,
#include "pe_feature.def"
#undef PE_FEATURE
	PE_FEAT_COUNT
};

struct pe_config {
	uint64_t features;  /* bit PE_FEAT_x: implemented and reported */
	uint64_t midr;      /* MIDR_EL1 of the silicon */
	uint64_t mpidr;     /* MPIDR_EL1 of the silicon */
	unsigned list_regs; /* 1 to 16, ICH_VTR_EL2.ListRegs + 1 */
	bool el2_emulated;  /* exceptions to EL2 go to VBAR_EL2 in guest memory
	                        instead of returning from pe_run() */
	unsigned vmid_bits; /* 8 or 16 */
	bool jit;           /* translate to host code where the host can */
	bool jit_perf;      /* and describe it in a file for perf (jit_perf.c) */
	bool jit_strict;    /* code that changes without maintenance is seen (strict.c) */
	size_t jit_memory;  /* bytes for it, at least 64 KiB; 0: the usual */
	/* For tests, 0: the usual. Executions before translation, instructions
	   in a block; leave translated code, poll and forget all translations
	   behind every block; a physical interrupt at every second poll. */
	unsigned jit_threshold, jit_block;
	bool jit_forced, jit_irq;
};

/* The features of `-o cpu=default`. */
uint64_t pe_default_features(void);
/* Feature n as the Arm ARM writes it, and what it is; NULL past the last. */
const char *pe_feature_name(unsigned n, const char **desc);
/* Named CPU n and its features; NULL past the last. */
const char *pe_cpu_model(unsigned n, uint64_t *features);
/* Switch a feature on with all that it needs, or off with all that needs it. */
void pe_feature_switch(uint64_t *features, unsigned n, bool on);

/*
 * PEs that share a Inner Shareable domain (one process): TLBI ...IS, IC IALLUIS
 * and SEV reach all of them.
 */
struct pe_cluster;
struct pe_cluster *pe_cluster_create(void);
void pe_cluster_destroy(struct pe_cluster *);

/* NULL when memory is short. The pins are copied. */
struct pe *pe_create(struct pe_cluster *, const struct pe_pins *, const struct pe_config *);
void pe_destroy(struct pe *);
/* Rewire the pins; not while pe_run() runs. Caches that know old memory are the caller's. */
void pe_set_pins(struct pe *, const struct pe_pins *);

/* Cold reset: EL2, MMU off, interrupts masked, registers as DDI 0487 says. */
void pe_reset(struct pe *);

/*
 * No other PE reads or writes the same memory: atomic instructions need not
 * lock the host's bus. Not while pe_run() is running.
 */
void pe_set_alone(struct pe *, bool alone);

/* General and SIMD registers; they belong to whoever runs on the PE. */
struct pe_gpr {
	uint64_t x[31];
	uint64_t v[32][2]; /* low half first */
};
struct pe_gpr *pe_gpr(struct pe *); /* x[] and v[] of the running context */

/*
 * Read and write a system register as an MRS or MSR at EL2 would. `enc` is
 * PE_SYSREG(op0, op1, crn, crm, op2). 0, or ENOENT: UNDEFINED there.
 */
#define PE_SYSREG(op0, op1, crn, crm, op2) \
	(((op0) << 14) | ((op1) << 11) | ((crn) << 7) | ((crm) << 3) | (op2))
int pe_mrs(struct pe *, uint32_t enc, uint64_t *val);
int pe_msr(struct pe *, uint32_t enc, uint64_t val);

/*
 * The same for many registers, each with its place in a structure of the caller's.
 * Names are looked up as they are added, with HCR_EL2.E2H as it is then. ENOENT: this
 * PE has no such register, or no room. What was said of a context synchronization
 * holds here too.
 */
#define PE_BANK_ROWS 128
struct sysreg;
struct pe_bank {
	unsigned count;
	struct pe_bank_row {
		const struct sysreg *reg;
		uint32_t offset;
		uint8_t how;
	} row[PE_BANK_ROWS];
};
int pe_bank_add(struct pe *, struct pe_bank *, uint32_t enc, size_t offset);
void pe_bank_read(struct pe *, const struct pe_bank *, void *to);
void pe_bank_write(struct pe *, const struct pe_bank *, const void *from);
/* Each register is read, then written: other structures, or other places. */
void pe_bank_swap(struct pe *, const struct pe_bank *, void *to, const void *from);
/* The name of an encoding ("SCTLR_EL1"), or NULL. */
const char *pe_sysreg_name(uint32_t enc);

/*
 * TLBI, IC, DC and AT at EL2, by the same encodings (op0 = 1). 0 or ENOENT.
 * Complete at return, on every PE of the cluster for the IS forms; a PE inside
 * a guest completes at its next poll.
 */
int pe_sys(struct pe *, uint32_t enc, uint64_t xt);

/*
 * ERET from EL2, until an exception is taken to EL2. Returns the vector offset
 * (PE_VEC_*). May not be called with SPSR_EL2 naming EL2.
 */
int pe_run(struct pe *);

/*
 * Stop executing soon, from any thread: the effect of the kick line for one
 * poll. Cheap; safe while pe_run() is not running.
 */
void pe_poke(struct pe *);

/*
 * The PE's redistributor: GICR_ISACTIVER0 and GICR_ICACTIVER0 of its private
 * interrupts. An active interrupt is not signalled again.
 */
uint32_t pe_gicr_active(struct pe *);
void pe_gicr_set_active(struct pe *, uint32_t mask, bool active);

/* Counters of the PE, for statistics. */
struct pe_counters {
#define PE_COUNTER(name, desc) uint64_t name;
#include "pe_counter.def"
#undef PE_COUNTER
};
const struct pe_counters *pe_counters(const struct pe *);

/*
 * The one decoder, shared with the hypervisor for accesses whose syndrome is
 * not valid. Returns the row number of a64.decode (enum a64_op, a64_ops.h);
 * 0 is UNDEFINED.
 */
unsigned a64_decode(uint32_t word);

#endif /* PE_PE_H */
