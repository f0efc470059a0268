/*
 * The library of the test kernels, on one page. README.md says how a test is
 * made; each part has a file of its own, named in the comments.
 *
 * A test kernel defines test_main(), which runs on the boot CPU at EL1 with the
 * MMU on, interrupts masked, and every address of the first 512 GiB mapped to
 * itself. When it returns, the totals are printed and the machine goes off.
 */
#ifndef LIB_H
#define LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mmio.h"

#include "offsets.h"

void test_main(void);

/* -- report.c: one line a check ---------------------------------------------------- */

/*
 * PASS or FAIL and a sentence that says what is true when it passes. The
 * sentence holds no measured value: it is the same on every machine.
 */
bool report(bool ok, const char *sentence, ...) __attribute__((format(printf, 2, 3)));
/* Cannot be tried on this machine, with the reason. */
void skip(const char *why, ...) __attribute__((format(printf, 1, 2)));
/* A figure, or what was seen when a check failed. */
void info(const char *text, ...) __attribute__((format(printf, 1, 2)));
/* The end at once: FAIL and the totals, without test_main(). */
void die(const char *why, ...) __attribute__((format(printf, 1, 2), noreturn));
void finish(void) __attribute__((noreturn));
/* The totals alone, for a test that ends the machine in its own way. */
void summary(void);

/* A word "name=value" or "name" of the kernel's command line. */
uint64_t arg_number(const char *name, uint64_t otherwise);
bool arg_given(const char *name);
/* With only=a,b on the command line: is `name` among them? Else true. */
bool arg_selected(const char *name);

/* -- fdt.c: the device tree ---------------------------------------------------------- */

struct fdt_node {
	const char *name;
	const char *start; /* its first token */
};
/* The n-th node with the string in "compatible", or whose name starts with it. */
bool fdt_compatible(const char *compatible, unsigned n, struct fdt_node *node);
bool fdt_named(const char *name, unsigned n, struct fdt_node *node);
const void *fdt_prop(const struct fdt_node *node, const char *name, uint32_t *len);
/* Cell i of a property, and two cells as one number; 0 when there is none. */
uint32_t fdt_cell(const struct fdt_node *node, const char *name, unsigned i);
uint64_t fdt_cells2(const struct fdt_node *node, const char *name, unsigned i);
/* INTID of the n-th three-cell interrupt specifier; 0: none. */
unsigned fdt_intid(const struct fdt_node *node, unsigned n);
extern const void *fdt;
int streq(const char *a, const char *b);

/* Filled before test_main(). */
struct machine {
	uint64_t ram, ram_size;
	uint64_t gicd, gicr, gicr_size; /* 0: no GICv3 */
	bool bhyve;                     /* ours */
	bool psci_smc;
};
extern struct machine machine;

/* -- boot.c: memory, CPUs of the tree --------------------------------------------------- */

/* Zeroed pages behind the kernel; for ever. */
void *page_alloc(unsigned pages);

/* -- smp.c: CPUs --------------------------------------------------------------------------- */

#define MAX_CPUS 64

struct caught;
enum cpu_state { CPU_OFF, CPU_STARTING, CPU_IDLE, CPU_BUSY };

struct cpu {
	void *stack; /* CPU_STACK */
	unsigned index;
	uint64_t mpidr; /* affinity fields */
	volatile uint32_t state;
	void (*volatile fn)(void *);
	void *arg;
	struct caught *catch;
	uint64_t gicr;
	volatile uint64_t taken; /* interrupts, without spurious ones */
	uint64_t user[4];        /* the test's own */
};
_Static_assert(offsetof(struct cpu, stack) == CPU_STACK, "offsets.h");

extern struct cpu cpus[MAX_CPUS]; /* in the order of the tree; 0 is the boot CPU */
extern unsigned ncpus;

static inline struct cpu *
this_cpu(void)
{
	struct cpu *c;

	__asm__ volatile("mrs %0, tpidr_el1" : "=r"(c));
	return (c);
}

/* Turn a CPU on: MMU on, interrupts masked, waiting for work. Dies unless it comes. */
void cpu_start(unsigned n);
void cpu_start_all(void);
/* Give a started CPU work; wait for its end (dies after a minute). */
void cpu_run(unsigned n, void (*fn)(void *), void *arg);
void cpu_wait(unsigned n);
/* The same on CPUs 0 to count - 1 at once, this one (0) among them; back when all are. */
void cpu_run_on(unsigned count, void (*fn)(void *), void *arg);
/* CPU_OFF on an idle CPU; back when AFFINITY_INFO says so. */
void cpu_stop(unsigned n);
void secondary_entry(void); /* for CPU_ON by hand: context = &cpus[n] */

struct barrier {
	volatile uint32_t count, generation;
};
/* Until `cpus` CPUs are here. */
void barrier_wait(struct barrier *, unsigned cpus);

struct lock {
	volatile uint32_t held;
};
void lock(struct lock *);
void unlock(struct lock *);

/* -- psci.c: firmware calls ---------------------------------------------------------------- */

struct smccc {
	uint64_t x[18]; /* x0 to x17, in and out */
};
/* By the conduit of the tree; all 18 registers are passed and returned. */
void smccc_call(struct smccc *);
/* By a conduit of one's choice. */
void smccc_hvc(struct smccc *);
void smccc_smc(struct smccc *);
/* x0 of a call with up to three arguments. */
int64_t psci(uint32_t fn, uint64_t a, uint64_t b, uint64_t c);

#define PSCI_VERSION 0x84000000u
#define PSCI_CPU_SUSPEND 0xc4000001u
#define PSCI_CPU_OFF 0x84000002u
#define PSCI_CPU_ON 0xc4000003u
#define PSCI_AFFINITY_INFO 0xc4000004u
#define PSCI_MIGRATE_INFO_TYPE 0x84000006u
#define PSCI_SYSTEM_OFF 0x84000008u
#define PSCI_SYSTEM_RESET 0x84000009u
#define PSCI_FEATURES 0x8400000au
#define PSCI_SYSTEM_RESET2 0xc4000012u

#define PSCI_SUCCESS 0
#define PSCI_NOT_SUPPORTED (-1)
#define PSCI_INVALID_PARAMETERS (-2)
#define PSCI_DENIED (-3)
#define PSCI_ALREADY_ON (-4)
#define PSCI_ON_PENDING (-5)
#define PSCI_INVALID_ADDRESS (-9)

/* -- except.c: exceptions ------------------------------------------------------------------ */

struct frame {
	uint64_t x[31];
	uint64_t elr, spsr, esr, far;
};
_Static_assert(sizeof(struct frame) <= FRAME_SIZE, "offsets.h");

/*
 * By vector, 0 to 15: called instead of the default, which is: IRQs of the
 * current level are acknowledged and given to irq_handler; synchronous ones are
 * caught (below) or end the test.
 */
extern void (*exception_hook[16])(struct frame *);
#define VEC_SYNC 4
#define VEC_IRQ 5
#define VEC_FIQ 6
#define VEC_SERROR 7

/*
 *	catch_begin(&c); ...one instruction or more...; catch_end();
 *	if (c.count != 0) ... c.esr
 * A synchronous exception in between is recorded and its instruction skipped
 * (an instruction abort returns to x30).
 */
struct caught {
	volatile unsigned count;
	uint64_t esr, far, elr;
};
void catch_begin(struct caught *);
void catch_end(void);
/*
 * Run at EL0 from `va`, which is mapped for it (PTE_EL0), until the first
 * synchronous exception: its ESR. Interrupts are masked there.
 */
uint64_t el0_run(uint64_t va);
#define ESR_EC(esr) ((unsigned)((esr) >> 26) & 0x3f)

/* -- gic.c: GICv3 --------------------------------------------------------------------------- */

/* The distributor, and this CPU's redistributor and interface: group 1, PMR open. */
void gic_init(void);     /* once; the boot CPU's too */
void gic_cpu_init(void); /* cpu_start() does it when gic_init() has been called */
/* Group 1, priority; SPIs are routed to this CPU. */
void gic_enable(unsigned intid, unsigned priority);
void gic_disable(unsigned intid);
void gic_set_edge(unsigned intid, bool edge);
/* Raise SGI `intid` on CPU n. */
void gic_send(unsigned intid, unsigned n);
/* Called with the acknowledged INTID; the end of interrupt is written after it. */
extern void (*volatile irq_handler)(unsigned intid);

static inline void
irq_on(void)
{
	__asm__ volatile("msr daifclr, #2" : : : "memory");
}
static inline void
irq_off(void)
{
	__asm__ volatile("msr daifset, #2" : : : "memory");
}

#define INTID_PMU 23
#define INTID_VTIMER 27
#define INTID_PTIMER 30

/* -- mmu.c: translations -------------------------------------------------------------------- */

void mmu_on(void); /* this CPU */
/* A window of 512 pages that tests map as they like. */
#define WINDOW_PAGES 512
#define WINDOW_VA UINT64_C(0x7fc0000000)
static inline volatile void *
window(unsigned page)
{
	return ((volatile void *)(WINDOW_VA + page * 4096ull));
}
/* Write its descriptor; no TLBI (window_flush), DSB included. */
void window_set(unsigned page, uint64_t descriptor);
void window_flush(unsigned page);  /* TLBI VAAE1IS; DSB; ISB */
#define PTE_NORMAL UINT64_C(0x703) /* page, inner shareable, AF, EL1 read and write */
#define PTE_RO (UINT64_C(1) << 7)
#define PTE_EL0 (UINT64_C(1) << 6)
#define PTE_DEVICE UINT64_C(0x407)
#define PTE_XN (UINT64_C(3) << 53)

/* -- virtio.c: one queue of a virtio-mmio device, polled ------------------------------------- */

#define VIRTIO_NUM 16u
struct virtio_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
#define VIRTIO_D_NEXT 1u
#define VIRTIO_D_WRITE 2u
#define VIRTIO_D_INDIRECT 4u
struct virtio_used {
	volatile uint16_t flags, idx;
	struct {
		uint32_t id, len;
	} ring[];
};
struct virtio {
	uint64_t base;
	uint32_t magic, version, device; /* of its registers; device 0: nothing */
	uint32_t want;                   /* features 0 to 31 for virtio_begin(); 0 at first */
	unsigned queue;
	struct virtio_desc *desc;
	struct virtio_used *used;
	volatile uint16_t *avail;
	uint16_t seen;
};
struct virtio_buf {
	void *at;
	uint32_t len;
	bool in; /* the device writes it */
};
#define VIRTIO_MAGIC 0x74726976u
#define VIRTIO_NET 1
#define VIRTIO_BLK 2
#define VIRTIO_CONSOLE 3
#define VIRTIO_RND 4
/* The n-th virtio,mmio node of the tree. */
bool virtio_find(unsigned n, struct virtio *);
/* Reset it and get a queue going. */
bool virtio_begin(struct virtio *, unsigned queue);
/* One chain of at most VIRTIO_NUM buffers; the length that comes back, -1 when none does. */
int64_t virtio_do(struct virtio *, const struct virtio_buf *, unsigned n);
/* Make the chain at descriptor `head` available, and tell; wait for the next that is used. */
void virtio_offer(struct virtio *, unsigned head);
int64_t virtio_wait(struct virtio *, unsigned ms);
bool virtio_blk(struct virtio *, bool write, uint64_t sector, void *data, uint32_t sectors);
uint64_t virtio_blk_sectors(const struct virtio *);

/* -- time ------------------------------------------------------------------------------------ */

#define mrs(reg)                                                           \
	({                                                                 \
		uint64_t v_;                                               \
		__asm__ volatile("mrs %0, " #reg : "=r"(v_) : : "memory"); \
		v_;                                                        \
	})
#define msr(reg, v) __asm__ volatile("msr " #reg ", %0" : : "r"((uint64_t)(v)) : "memory")

static inline void
isb(void)
{
	__asm__ volatile("isb" : : : "memory");
}
static inline void
dsb(void)
{
	__asm__ volatile("dsb sy" : : : "memory");
}
static inline void
wfi(void)
{
	__asm__ volatile("wfi" : : : "memory");
}
static inline void
wfe(void)
{
	__asm__ volatile("wfe" : : : "memory");
}
static inline void
sev(void)
{
	__asm__ volatile("dsb sy; sev" : : : "memory");
}
static inline void
relax(void)
{
	__asm__ volatile("yield" : : : "memory");
}

static inline uint64_t
ticks(void)
{
	isb();
	return (mrs(cntvct_el0));
}
static inline uint64_t
ticks_hz(void)
{
	return (mrs(cntfrq_el0));
}
static inline uint64_t
us_to_ticks(uint64_t us)
{
	return (us * ticks_hz() / 1000000);
}
static inline uint64_t
ticks_to_ns(uint64_t t)
{
	return (t * 1000 / (ticks_hz() / 1000000));
}
void delay_us(uint64_t us);
/* Spin until `cond` or for ms milliseconds; the value of cond. */
#define wait_for(cond, ms)                                           \
	({                                                           \
		uint64_t end_ = ticks() + us_to_ticks((ms)*1000ull); \
		while (!(cond) && ticks() < end_)                    \
			relax();                                     \
		(bool)(cond);                                        \
	})

/* -- bits and pieces --------------------------------------------------------------------------- */

/* A pseudo-random number; the state is the caller's, not 0. */
static inline uint64_t
random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (*state);
}

/* console.c; used by report.c */
void console_init(void);
void console_lock(void);
void console_unlock(void);
void put_string(const char *);
void put_format(const char *fmt, __builtin_va_list ap);

#endif /* LIB_H */
