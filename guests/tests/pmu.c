/*
 * Performance monitors (PMUv3): the cycle counter, event counters, software
 * increments, chains, filters, overflow interrupts, access from EL0
 * (Arm ARM DDI 0487, D13).
 */
#include "lib.h"

#define PMCR_E 1u
#define PMCR_P 2u
#define PMCR_C 4u
#define PMCR_LC 0x40u
#define CYCLE (UINT64_C(1) << 31)
#define EV_SW_INCR 0x00
#define EV_INST 0x08
#define EV_CHAIN 0x1e
#define NOT_EL1 (UINT64_C(1) << 31)
#define NOT_EL0 (UINT64_C(1) << 30)
#define EC_SVC 0x15
#define EC_SYSREG 0x18

static volatile unsigned taken_count;
static volatile uint64_t taken_flags;

static void
taken(unsigned intid)
{
	if (intid != INTID_PMU)
		return;
	taken_count++;
	taken_flags |= mrs(pmovsclr_el0);
	msr(pmovsclr_el0, taken_flags);
	isb();
}

/* Everything off and zero. */
static void
fresh(void)
{
	msr(pmcntenclr_el0, UINT32_MAX);
	msr(pmintenclr_el1, UINT32_MAX);
	msr(pmovsclr_el0, UINT32_MAX);
	msr(pmccfiltr_el0, 0);
	msr(pmcr_el0, PMCR_LC | PMCR_P | PMCR_C);
	isb();
	taken_count = 0;
	taken_flags = 0;
}

static void
go(uint64_t counters)
{
	msr(pmcntenset_el0, counters);
	msr(pmcr_el0, PMCR_LC | PMCR_E);
	isb();
}

/* Two instructions a pass. */
static void
spin(uint64_t passes)
{
	__asm__ volatile("1: subs %0, %0, #1; b.ne 1b" : "+r"(passes) : : "cc");
}

static void
cycles(void)
{
	uint64_t a, b;

	fresh();
	a = mrs(pmccntr_el0);
	spin(1000);
	report(mrs(pmccntr_el0) == a, "a cycle counter that is not enabled stands still");
	go(CYCLE);
	a = mrs(pmccntr_el0);
	spin(100000);
	b = mrs(pmccntr_el0);
	report(b > a, "one that is counts");
	msr(pmcr_el0, PMCR_LC);
	isb();
	a = mrs(pmccntr_el0);
	spin(100000);
	report(mrs(pmccntr_el0) == a, "not without PMCR_EL0.E");
	msr(pmcr_el0, PMCR_LC | PMCR_C);
	isb();
	report(mrs(pmccntr_el0) == 0, "PMCR_EL0.C clears it");
	msr(pmccfiltr_el0, NOT_EL1);
	go(CYCLE);
	a = mrs(pmccntr_el0);
	spin(100000);
	report(mrs(pmccntr_el0) == a, "nor at EL1 when that is filtered");
	fresh();
	go(CYCLE);
	msr(pmccntr_el0, UINT32_MAX - 10);
	isb();
	spin(100000);
	report(mrs(pmccntr_el0) > UINT32_MAX, "it has 64 bits");
	report((mrs(pmovsclr_el0) & CYCLE) == 0, "and does not overflow at 32");
}

static void
software(void)
{
	fresh();
	msr(pmevtyper0_el0, EV_SW_INCR);
	msr(pmevtyper1_el0, EV_CHAIN);
	go(3);
	msr(pmswinc_el0, 1);
	msr(pmswinc_el0, 1);
	isb();
	report(mrs(pmevcntr0_el0) == 2, "PMSWINC_EL0 counts SW_INCR");
	msr(pmselr_el0, 0);
	isb();
	report(mrs(pmxevcntr_el0) == 2, "PMSELR_EL0 selects the counter");
	msr(pmevcntr0_el0, UINT32_MAX);
	msr(pmswinc_el0, 1);
	isb();
	/* PMUv3p5 has 64 bits, and overflows at 32 all the same. */
	report((uint32_t)mrs(pmevcntr0_el0) == 0, "an event counter goes on from 0");
	report((mrs(pmovsclr_el0) & 1) != 0, "and says when it overflows");
	if ((mrs(pmceid0_el0) >> EV_CHAIN & 1) != 0)
		report(mrs(pmevcntr1_el0) == 1, "CHAIN carries into the odd one beside it");
	msr(pmovsclr_el0, 1);
	isb();
	report((mrs(pmovsset_el0) & 1) == 0, "PMOVSCLR_EL0 clears the flag");
	msr(pmcr_el0, PMCR_LC | PMCR_E | PMCR_P);
	isb();
	report(mrs(pmevcntr1_el0) == 0, "PMCR_EL0.P clears the event counters");
}

static void
interrupts(void)
{
	fresh();
	irq_handler = taken;
	gic_enable(INTID_PMU, 0x80);
	irq_on();
	msr(pmevtyper2_el0, EV_SW_INCR);
	msr(pmevcntr2_el0, UINT32_MAX);
	go(4);
	msr(pmswinc_el0, 4);
	isb();
	spin(100000);
	report(taken_count == 0, "no interrupt without PMINTENSET_EL1");
	msr(pmintenset_el1, 4);
	isb();
	wait_for(taken_count != 0, 1000);
	report(taken_count == 1 && taken_flags == 4, "an overflow interrupts once, with INTID 23");
	for (unsigned i = 0; i < 10; i++) {
		msr(pmevcntr2_el0, UINT32_MAX);
		msr(pmswinc_el0, 4);
		isb();
		wait_for(taken_count == i + 2, 1000);
	}
	report(taken_count == 11, "and so does each one after it");
	fresh();
	msr(pmccntr_el0, UINT64_MAX - 10000);
	msr(pmintenset_el1, CYCLE);
	go(CYCLE);
	for (unsigned i = 0; i < 1000 && taken_count == 0; i++)
		spin(100000);
	report(taken_count == 1 && taken_flags == CYCLE, "the cycle counter overflows at 64 bits");
	fresh();
	irq_off();
	gic_disable(INTID_PMU);
}

static void *el0_code;

/* EL0's code: read PMCCNTR_EL0, or count down x0, then SVC #0. */
static uint64_t
at_el0(const uint32_t *code, unsigned n)
{
	volatile uint32_t *page = window(0);

	window_set(0, (uint64_t)(uintptr_t)el0_code | PTE_NORMAL);
	window_flush(0);
	for (unsigned i = 0; i < n; i++)
		page[i] = code[i];
	dsb();
	__asm__ volatile("ic ialluis; dsb ish; isb" : : : "memory");
	window_set(0, (uint64_t)(uintptr_t)el0_code | PTE_NORMAL | PTE_EL0 | PTE_RO);
	window_flush(0);
	return (el0_run(WINDOW_VA));
}

static void
users(void)
{
	static const uint32_t read[] = { 0xd53b9d00, 0xd4000001 }; /* mrs x0, pmccntr_el0 */
	static const uint32_t loop[] = { 0xd2807d00, 0xf1000400, 0x54ffffe1, 0xd4000001 };
	uint64_t esr;

	el0_code = page_alloc(1);
	fresh();
	go(CYCLE);
	msr(pmuserenr_el0, 0);
	esr = at_el0(read, 2);
	report(ESR_EC(esr) == EC_SYSREG, "EL0 may not read the cycle counter");
	msr(pmuserenr_el0, 4);
	esr = at_el0(read, 2);
	report(ESR_EC(esr) == EC_SVC, "unless PMUSERENR_EL0.CR says so");
	msr(pmuserenr_el0, 0);
	if ((mrs(pmceid0_el0) >> EV_INST & 1) == 0) {
		skip("this PMU does not count instructions");
		return;
	}
	fresh();
	msr(pmevtyper0_el0, EV_INST | NOT_EL1);
	msr(pmevtyper1_el0, EV_INST | NOT_EL1 | NOT_EL0);
	go(3);
	(void)at_el0(loop, 4); /* 1000 passes */
	report(mrs(pmevcntr0_el0) == 2002, "INST_RETIRED of EL0 is what it executed");
	report(mrs(pmevcntr1_el0) == 0, "and nothing when EL0 is filtered too");
}

static void
instructions(void)
{
	uint64_t a, b;

	if ((mrs(pmceid0_el0) >> EV_INST & 1) == 0)
		return;
	for (unsigned i = 0; i < 3; i++) {
		fresh();
		msr(pmevtyper0_el0, EV_INST);
		go(1);
		__asm__ volatile(
		    "mrs %0, pmevcntr0_el0; mov x9, #50000; 1: subs x9, x9, #1; b.ne 1b;"
		    "mrs %1, pmevcntr0_el0"
		    : "=&r"(a), "=&r"(b)
		    :
		    : "x9", "cc");
		if (b - a != 100002)
			break;
	}
	report(b - a == 100002, "INST_RETIRED counts each instruction of a loop");
}

void
test_main(void)
{
	struct fdt_node node;

	report((mrs(id_aa64dfr0_el1) >> 8 & 15) - 1 < 14, "ID_AA64DFR0_EL1 has a PMU");
	report(fdt_compatible("arm,armv8-pmuv3", 0, &node) && fdt_intid(&node, 0) == INTID_PMU,
	    "the tree has it, with interrupt 23");
	report((mrs(pmcr_el0) >> 11 & 31) >= 4, "it has 4 event counters or more");
	gic_init();
	cycles();
	software();
	instructions();
	interrupts();
	users();
}
