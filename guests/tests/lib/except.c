/*
 * Exceptions in C: hooks by vector, catching what a test expects, the end of
 * the test for all else.
 */
#include "lib.h"

#define EC_IABT_LOWER 0x20
#define EC_IABT_CURRENT 0x21

void (*exception_hook[16])(struct frame *);
void (*volatile irq_handler)(unsigned intid);

void exception_taken(unsigned vector, struct frame *f);

void
catch_begin(struct caught *c)
{
	*c = (struct caught){ .count = 0 };
	this_cpu()->catch = c;
	__asm__ volatile("" : : : "memory");
}

void
catch_end(void)
{
	__asm__ volatile("" : : : "memory");
	this_cpu()->catch = NULL;
}

static bool
caught(struct frame *f)
{
	struct caught *c = this_cpu()->catch;

	if (c == NULL)
		return (false);
	c->count = c->count + 1;
	c->esr = f->esr;
	c->far = f->far;
	c->elr = f->elr;
	if (ESR_EC(f->esr) == EC_IABT_CURRENT || ESR_EC(f->esr) == EC_IABT_LOWER)
		f->elr = f->x[30];
	else
		f->elr += 4;
	return (true);
}

static void
interrupt(void)
{
	unsigned intid = (unsigned)mrs(S3_0_C12_C12_0); /* ICC_IAR1_EL1 */

	if (intid >= 1020 && intid < 8192)
		return;
	this_cpu()->taken = this_cpu()->taken + 1;
	if (irq_handler != NULL)
		irq_handler(intid);
	msr(S3_0_C12_C12_1, intid); /* ICC_EOIR1_EL1 */
	isb();
}

void
exception_taken(unsigned vector, struct frame *f)
{
	if (exception_hook[vector] != NULL)
		exception_hook[vector](f);
	else if (vector == VEC_IRQ)
		interrupt();
	else if ((vector & 3) != 0 || !caught(f))
		die("no exception on CPU %u: vector %u, esr %lx, far %lx, elr %lx, spsr %lx",
		    this_cpu()->index, vector, f->esr, f->far, f->elr, f->spsr);
}

/* -- EL0 ----------------------------------------------------------------------------- */

#define VEC_LOWER_SYNC 8
#define SPSR_EL0 UINT64_C(0x3c0)
#define SPSR_EL1H UINT64_C(0x3c5)

static uint64_t el0_esr, el0_back;

static void
from_el0(struct frame *f)
{
	el0_esr = f->esr;
	f->elr = el0_back;
	f->spsr = SPSR_EL1H;
}

uint64_t
el0_run(uint64_t va)
{
	void (*old)(struct frame *) = exception_hook[VEC_LOWER_SYNC];

	exception_hook[VEC_LOWER_SYNC] = from_el0;
	/* Registers that the code at EL0 may change are lost. */
	__asm__ volatile("adr x9, 1f\n str x9, %0\n msr elr_el1, %1\n msr spsr_el1, %2\n"
			 "isb\n eret\n 1:"
			 : "=m"(el0_back)
			 : "r"(va), "r"(SPSR_EL0)
			 : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
			 "x12", "x13", "x14", "x15", "x16", "x17", "x30", "memory", "cc");
	exception_hook[VEC_LOWER_SYNC] = old;
	return (el0_esr);
}
