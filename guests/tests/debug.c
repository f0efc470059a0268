/*
 * Self-hosted debug at EL1 and EL0: breakpoints, watchpoints, software step,
 * BRK, the OS lock (Arm ARM DDI 0487, D2).
 */
#include "lib.h"

#define MDSCR_SS 1u
#define MDSCR_KDE (1u << 13)
#define MDSCR_MDE (1u << 15)
#define SPSR_SS (1u << 21)
#define SPSR_EL0T UINT64_C(0x3c0)
#define SPSR_EL1H UINT64_C(0x3c5)

#define EC_SVC 0x15
#define EC_DABT_LOWER 0x24
#define EC_BKPT_LOWER 0x30
#define EC_BKPT 0x31
#define EC_STEP_LOWER 0x32
#define EC_STEP 0x33
#define EC_WATCH_LOWER 0x34
#define EC_WATCH 0x35
#define EC_BRK 0x3c
#define DFSC(esr) ((esr)&0x3f)
#define ISV(esr) (((esr) >> 24) & 1)
#define EX(esr) (((esr) >> 6) & 1)
#define WNR(esr) (((esr) >> 6) & 1)

/* DBGBCR and DBGWCR: E, who (PMC, PAC), what. */
#define AT_EL1 (1u << 1)
#define AT_EL0 (2u << 1)
#define AT_BOTH (3u << 1)
#define BCR(who) (1u | (who) | 0xfu << 5)
#define BCR_LINKED(n) (1u << 20 | (n) << 16)
#define BT_CONTEXT (2u << 20)
#define BT_CONTEXT_LINKED (3u << 20)
#define LOADS (1u << 3)
#define STORES (2u << 3)
#define WCR(who, lsc, bas) (1u | (who) | (lsc) | (bas) << 5)
#define WCR_MASK(n) ((n) << 24)
#define WCR_LINKED(n) (1u << 20 | (n) << 16)

/* What was taken, in order. */
#define EVENTS 32
static struct frame ev[EVENTS];
static volatile unsigned nev;
static uint64_t el0_back;
static uint64_t at_hit; /* what the watched doubleword held at that moment */
static unsigned mend;   /* a page of the window to open when it faults */

#define EC_OF(i) ESR_EC(ev[i].esr)

static struct {
	uint64_t w[64];
} data __attribute__((aligned(4096)));

/* A debug exception is recorded and not repeated; BRK is skipped; SVC #1 leaves EL0. */
static void
taken(struct frame *f)
{
	if (nev < EVENTS)
		ev[nev++] = *f;
	at_hit = data.w[4];
	switch (ESR_EC(f->esr)) {
	case EC_BKPT_LOWER:
	case EC_BKPT:
	case EC_WATCH_LOWER:
	case EC_WATCH:
		msr(mdscr_el1, mrs(mdscr_el1) & ~(uint64_t)MDSCR_MDE);
		isb();
		break;
	case EC_STEP_LOWER:
	case EC_STEP:
		if (nev < EVENTS)
			f->spsr |= SPSR_SS;
		else
			msr(mdscr_el1, 0);
		break;
	case EC_BRK:
		f->elr += 4;
		break;
	case EC_DABT_LOWER:
		if (mend == 0)
			die("data abort at %lx, elr %lx", f->far, f->elr);
		window_set(mend, (uint64_t)page_alloc(1) | PTE_NORMAL | PTE_EL0 | PTE_XN);
		window_flush(mend);
		mend = 0;
		break;
	case EC_SVC:
		if ((f->esr & 0xffff) == 1) {
			f->elr = el0_back;
			f->spsr = SPSR_EL1H;
		}
		break;
	default:
		die("esr %lx, elr %lx, far %lx", f->esr, f->elr, f->far);
	}
}

/* Debug exceptions of EL1 itself are on in between. */
#define WATCHED(mdscr, ...)                          \
	do {                                         \
		nev = 0;                             \
		msr(mdscr_el1, mdscr);               \
		isb();                               \
		__asm__ volatile("msr daifclr, #8"); \
		__VA_ARGS__;                         \
		__asm__ volatile("msr daifset, #8"); \
		msr(mdscr_el1, 0);                   \
		isb();                               \
	} while (0)
#define ON (MDSCR_KDE | MDSCR_MDE)

/* -- breakpoints ----------------------------------------------------------------------- */

uint64_t code(uint64_t);
extern char code_mid[], code_far[];
__asm__(".pushsection .text\n.balign 4096\n"
	".globl code, code_mid, code_far\n"
	"code: add x0, x0, #1\n"
	"code_mid: add x0, x0, #2\n"
	" b code_far\n"
	".balign 4096\n"
	"code_far: add x0, x0, #4\n ret\n"
	".popsection\n");

static void
set_break(unsigned n, const void *va, uint32_t cr)
{
	switch (n) {
	case 0:
		msr(dbgbcr0_el1, 0);
		msr(dbgbvr0_el1, va);
		msr(dbgbcr0_el1, cr);
		break;
	case 1:
		msr(dbgbcr1_el1, 0);
		msr(dbgbvr1_el1, va);
		msr(dbgbcr1_el1, cr);
		break;
	case 4:
		msr(dbgbcr4_el1, 0);
		msr(dbgbvr4_el1, va);
		msr(dbgbcr4_el1, cr);
		break;
	default:
		msr(dbgbcr5_el1, 0);
		msr(dbgbvr5_el1, va);
		msr(dbgbcr5_el1, cr);
	}
	isb();
}

static unsigned
hits(uint32_t mdscr)
{
	uint64_t r;

	WATCHED(mdscr, r = code(0));
	if (r != 7)
		die("the code under the breakpoint computed %lu", r);
	return (nev);
}

static void
breakpoints(unsigned brps, unsigned ctxs)
{
	uint64_t sum = 0;
	unsigned c = brps - ctxs; /* the first that knows contexts */

	for (unsigned i = 0; i < 2000; i++)
		sum += code(i);
	report(sum == 2000 * 7 + 1999000, "without breakpoints code runs as it is");

	set_break(0, code_mid, BCR(AT_EL1));
	report(hits(ON) == 1 && EC_OF(0) == EC_BKPT && DFSC(ev[0].esr) == 0x22,
	    "a breakpoint at EL1 is taken, with its syndrome");
	report(nev == 1 && ev[0].elr == (uint64_t)code_mid && ev[0].x[0] == 1,
	    "before its instruction");
	report(hits(MDSCR_MDE) == 0, "not without MDSCR.KDE");
	report(hits(MDSCR_KDE) == 0, "not without MDSCR.MDE");
	nev = 0;
	msr(mdscr_el1, ON);
	isb();
	code(0);
	report(nev == 0, "not while PSTATE.D is set");
	msr(oslar_el1, 1);
	isb();
	report((mrs(oslsr_el1) & 2) != 0 && hits(ON) == 0, "not while the OS lock is held");
	msr(oslar_el1, 0);
	isb();
	report((mrs(oslsr_el1) & 2) == 0 && hits(ON) == 1, "again when it is released");
	set_break(0, code_mid, BCR(AT_EL1) & ~1u);
	report(hits(ON) == 0, "not when it is disabled");
	set_break(0, code_mid, BCR(AT_EL0));
	report(hits(ON) == 0, "not at EL1 when it is for EL0");
	set_break(0, code_mid, BCR(AT_BOTH));
	report(hits(ON) == 1, "at EL1 when it is for both");
	set_break(0, code_far, BCR(AT_EL1));
	report(hits(ON) == 1 && ev[0].elr == (uint64_t)code_far, "on the first word of a page");
	set_break(1, code, BCR(AT_EL1));
	report(hits(ON) == 1 && ev[0].elr == (uint64_t)code, "the first of two is taken first");
	set_break(1, 0, 0);

	/* Linked to a context. */
	msr(contextidr_el1, 0x1234);
	set_break(c, (void *)0x1234, BCR(AT_BOTH) | BT_CONTEXT_LINKED);
	set_break(0, code_mid, BCR(AT_EL1) | BCR_LINKED(c));
	report(hits(ON) == 1, "linked to the running context");
	msr(contextidr_el1, 0x1235);
	isb();
	report(hits(ON) == 0, "linked to another context");
	set_break(c, (void *)0x1235, BCR(AT_BOTH) | BT_CONTEXT);
	set_break(0, 0, 0);
	if (machine.bhyve) /* QEMU 7.2 has no breakpoints on contexts alone */
		report(hits(ON) == 1 && EC_OF(0) == EC_BKPT, "a context alone stops anything");
	set_break(c, 0, 0);
	msr(contextidr_el1, 0);
	isb();
	report(hits(ON) == 0, "without any, nothing stops");
}

/* -- watchpoints ------------------------------------------------------------------------- */

static void
set_watch(const volatile void *va, uint32_t cr)
{
	msr(dbgwcr0_el1, 0);
	msr(dbgwvr0_el1, va);
	msr(dbgwcr0_el1, cr);
	isb();
}

#define LOAD(form, va) \
	WATCHED(ON, __asm__ volatile(form : : "r"(va) : "x1", "x2", "x3", "x4", "memory", "cc"))

/* Was there one, with this FAR and WnR? */
static bool
watched(const volatile void *far, bool write)
{
	return (nev == 1 && EC_OF(0) == EC_WATCH && DFSC(ev[0].esr) == 0x22 &&
		WNR(ev[0].esr) == write && ev[0].far == (uint64_t)far);
}

static void
watchpoints(void)
{
	volatile char *p = (volatile char *)&data.w[4];

	for (unsigned i = 0; i < 2000; i++)
		data.w[4]++;
	set_watch(p, WCR(AT_EL1, LOADS | STORES, 0xffu));
	LOAD("ldr x1, [%0]", p);
	report(watched(p, false), "a watched load is taken, with address and syndrome");
	LOAD("str xzr, [%0]", p);
	report(watched(p, true) && at_hit == 2000 && data.w[4] == 0,
	    "a watched store, before it is done");
	LOAD("ldrb w1, [%0]", p + 7);
	report(watched(p + 7, false), "a byte of it");
	LOAD("ldr x1, [%0]", p + 8);
	report(nev == 0, "not the next doubleword");
	LOAD("ldr x1, [%0]", p - 8);
	report(nev == 0, "not the one before");
	LOAD("ldp x1, x2, [%0]", p - 8);
	report(watched(p, false), "the second half of a pair");
	LOAD("ldr w1, [%0]", p - 2);
	report(watched(p, false), "an access that is not aligned and reaches into it");
	set_watch(p, WCR(AT_EL1, STORES, 0xffu));
	LOAD("ldr x1, [%0]", p);
	report(nev == 0, "no load when stores are watched");
	LOAD("1: ldxr x1, [%0]\n stxr w2, x1, [%0]", p);
	report(watched(p, true), "a store-exclusive");
	LOAD(".arch_extension lse\n ldadd xzr, x2, [%0]", p);
	report(watched(p, true), "an atomic operation by its store");
	set_watch(p, WCR(AT_EL1, LOADS, 0xffu));
	LOAD("str x1, [%0]", p);
	report(nev == 0, "no store when loads are watched");
	set_watch(p, WCR(AT_EL1, LOADS | STORES, 0x0cu));
	LOAD("ldrh w1, [%0]", p);
	report(nev == 0, "bytes that are not selected");
	LOAD("ldrh w1, [%0]", p + 2);
	report(watched(p + 2, false), "bytes that are");
	LOAD("ldr x1, [%0]", p);
	report(nev == 1 && EC_OF(0) == EC_WATCH, "an access around them");
	set_watch(p + 4, WCR(AT_EL1, STORES, 0x03u));
	LOAD("strb wzr, [%0]", p + 5);
	report(watched(p + 5, true), "a watchpoint on a word that is not a doubleword");
	LOAD("strb wzr, [%0]", p + 6);
	report(nev == 0, "and not beside it");
	set_watch(&data.w[0], WCR(AT_EL1, STORES, 0xffu) | WCR_MASK(7u));
	LOAD("str xzr, [%0]", &data.w[15]);
	report(watched(&data.w[15], true), "a range of 128 bytes: the last doubleword");
	LOAD("str xzr, [%0]", &data.w[16]);
	report(nev == 0, "and not the next one");
	LOAD("dc zva, %0", &data.w[8]);
	report(nev == 1 && EC_OF(0) == EC_WATCH && WNR(ev[0].esr) == 1, "DC ZVA is a store");
	set_watch(p, WCR(AT_EL0, LOADS, 0xffu));
	LOAD("ldr x1, [%0]", p);
	report(nev == 0, "a watchpoint of EL0 does not see EL1");

	msr(contextidr_el1, 7);
	set_break(4, (void *)7, BCR(AT_BOTH) | BT_CONTEXT_LINKED);
	set_watch(p, WCR(AT_EL1, LOADS, 0xffu) | WCR_LINKED(4u));
	LOAD("ldr x1, [%0]", p);
	report(watched(p, false), "a watchpoint linked to the running context");
	msr(contextidr_el1, 8);
	isb();
	LOAD("ldr x1, [%0]", p);
	report(nev == 0, "and to another");
	set_break(4, 0, 0);
	set_watch(0, 0);
	LOAD("ldr x1, [%0]", p);
	report(nev == 0, "without any, all is quiet");
}

/* -- software step -------------------------------------------------------------------------- */

extern char s0[], s1[], s2[], s4[], s5[], s6[];

static void
steps(void)
{
	uint64_t word = 0, v;

	nev = 0;
	msr(mdscr_el1, MDSCR_KDE | MDSCR_SS);
	isb();
	/* The state is active-pending at once, as PSTATE.SS is 0. */
	__asm__ volatile("msr daifclr, #8\n"
			 ".globl s0, s1, s2, s4, s5, s6\n"
			 "s0: nop\n"
			 "s1: mov x1, #1\n"
			 "s2: b s4\n"
			 " brk #7\n"
			 "s4: ldxr x1, [%0]\n"
			 "s5: clrex\n"
			 "s6: msr daifset, #8\n"
			 :
			 : "r"(&word)
			 : "x1", "memory");
	msr(mdscr_el1, 0);
	isb();
	if (machine.bhyve) /* QEMU 7.2 steps one more */
		report(nev == 6, "each instruction is stepped until PSTATE.D is set");
	report(nev >= 6 && EC_OF(0) == EC_STEP && ev[0].elr == (uint64_t)s0 &&
		   DFSC(ev[0].esr) == 0x22 && ISV(ev[0].esr) == 0,
	    "the first exception comes before any instruction");
	report(nev >= 6 && ev[1].elr == (uint64_t)s1 && ISV(ev[1].esr) == 1 && EX(ev[1].esr) == 0 &&
		   (ev[1].spsr & SPSR_SS) == 0,
	    "the next after one, which the syndrome says");
	report(nev >= 6 && ev[2].elr == (uint64_t)s2 && ev[3].elr == (uint64_t)s4,
	    "a branch is one step");
	report(nev >= 6 && ev[4].elr == (uint64_t)s5 && EX(ev[4].esr) == 1,
	    "a load-exclusive is told");
	report(nev >= 6 && ev[5].elr == (uint64_t)s6 && EX(ev[5].esr) == 0, "and nothing else is");

	/* What a hypervisor emulates is one step too. */
	nev = 0;
	msr(mdscr_el1, MDSCR_KDE | MDSCR_SS);
	isb();
	__asm__ volatile("msr daifclr, #8\n mrs %0, id_aa64pfr0_el1\n ldr w9, [%1]\n nop\n"
			 "msr daifset, #8\n"
			 : "=&r"(v)
			 : "r"(machine.gicd)
			 : "x9", "memory");
	msr(mdscr_el1, 0);
	isb();
	report(nev >= 4 && ev[1].elr == ev[0].elr + 4 && ev[2].elr == ev[1].elr + 4 &&
		   ev[3].elr == ev[2].elr + 4,
	    "reads of an ID register and of a device are one step each");
}

/* -- at EL0 ------------------------------------------------------------------------------------ */

extern char user[], user_load[], user_end[];
__asm__(".pushsection .text\n"
	".globl user, user_load, user_end\n"
	"user: add x0, x0, #1\n"
	" svc #0\n"
	"user_load: ldr x1, [x2]\n"
	" brk #0x123\n"
	" svc #1\n"
	"user_end:\n"
	".popsection\n");

static void
to_el0(uint64_t va, uint64_t spsr, uint64_t x2)
{
	nev = 0;
	__asm__ volatile(
	    "mov x2, %3\n adr x9, 1f\n str x9, %0\n msr elr_el1, %1\n msr spsr_el1, %2\n"
	    "isb\n eret\n 1:"
	    : "=m"(el0_back)
	    : "r"(va), "r"(spsr), "r"(x2)
	    : "x0", "x1", "x2", "x9", "memory", "cc");
	msr(mdscr_el1, 0);
	isb();
}

static void
at_el0(void)
{
	char *page = page_alloc(1);
	uint64_t va = (uint64_t)window(0), mem = (uint64_t)window(1);

	for (unsigned i = 0; i < (unsigned)(user_end - user); i++)
		((volatile char *)page)[i] = user[i];
	for (unsigned i = 0; i < 64; i += 4)
		__asm__ volatile("dc cvau, %0\n dsb ish\n ic ivau, %0\n dsb ish\n isb"
				 :
				 : "r"(page + i)
				 : "memory");
	window_set(0, (uint64_t)page | PTE_NORMAL | PTE_EL0 | PTE_RO);
	window_set(1, (uint64_t)page_alloc(1) | PTE_NORMAL | PTE_EL0 | PTE_XN);
	window_flush(0);
	window_flush(1);

	to_el0(va, SPSR_EL0T, mem);
	report(nev == 3 && EC_OF(0) == EC_SVC && EC_OF(1) == EC_BRK && EC_OF(2) == EC_SVC,
	    "EL0 runs without debug");
	report(nev == 3 && (ev[1].esr & 0xffff) == 0x123 && ev[1].elr == va + 12,
	    "BRK gives its number and its own address");

	set_break(0, (void *)va, BCR(AT_EL0));
	msr(mdscr_el1, MDSCR_MDE);
	to_el0(va, SPSR_EL0T, mem);
	report(nev == 4 && EC_OF(0) == EC_BKPT_LOWER && ev[0].elr == va,
	    "a breakpoint at EL0 needs no KDE and minds no PSTATE.D");
	set_break(0, 0, 0);

	set_watch((void *)mem, WCR(AT_EL0, LOADS, 0xffu));
	msr(mdscr_el1, MDSCR_MDE);
	to_el0(va, SPSR_EL0T, mem);
	report(nev == 4 && EC_OF(1) == EC_WATCH_LOWER && ev[1].far == mem && ev[1].elr == va + 8,
	    "a watchpoint at EL0");
	WATCHED(ON, __asm__ volatile("ldtr x1, [%0]" : : "r"(mem) : "x1", "memory"));
	report(nev == 1 && EC_OF(0) == EC_WATCH, "sees LDTR at EL1, which is an access of EL0");
	set_watch(0, 0);

	msr(mdscr_el1, MDSCR_SS);
	to_el0(va, SPSR_EL0T | SPSR_SS, mem);
	report(nev >= 2 && EC_OF(0) == EC_STEP_LOWER && ev[0].elr == va + 4 && ISV(ev[0].esr) == 1,
	    "a step at EL0");
	report(nev >= 3 && EC_OF(1) == EC_SVC && (ev[1].spsr & SPSR_SS) == 0,
	    "SVC is done when it is taken");
	report(nev >= 4 && EC_OF(2) == EC_STEP_LOWER && ev[2].elr == va + 8 && ISV(ev[2].esr) == 0,
	    "and stepped when it returns");
	report(nev == 6 && EC_OF(3) == EC_STEP_LOWER && ev[3].elr == va + 12 &&
		   EC_OF(4) == EC_BRK && (ev[4].spsr & SPSR_SS) != 0,
	    "BRK is not a step");

	/* A load that faults first is stepped once, when it is done. */
	window_set(1, 0);
	window_flush(1);
	mend = 1;
	msr(mdscr_el1, MDSCR_SS);
	to_el0(va + 8, SPSR_EL0T | SPSR_SS, mem);
	report(nev >= 2 && EC_OF(0) == EC_DABT_LOWER && (ev[0].spsr & SPSR_SS) != 0 &&
		   EC_OF(1) == EC_STEP_LOWER && ev[1].elr == va + 12,
	    "a load that faults is stepped when it was done");
}

void
test_main(void)
{
	uint64_t dfr0 = mrs(id_aa64dfr0_el1);
	unsigned brps = ((dfr0 >> 12) & 15) + 1, wrps = ((dfr0 >> 20) & 15) + 1;
	unsigned ctxs = ((dfr0 >> 28) & 15) + 1;

	report((dfr0 & 15) >= 6, "Armv8 debug is there");
	if (brps != 6 || ctxs != 2 || wrps < 4) {
		report(false, "there are 6 breakpoints, 2 of them for contexts, and 4 watchpoints");
		return;
	}
	exception_hook[VEC_SYNC] = exception_hook[8] = taken;
	msr(oslar_el1, 0);
	isb();
	WATCHED(0, __asm__ volatile("brk #0xabc"));
	report(nev == 1 && EC_OF(0) == EC_BRK && (ev[0].esr & 0xffff) == 0xabc, "BRK at EL1");
	breakpoints(brps, ctxs);
	watchpoints();
	steps();
	at_el0();
}
