/*
 * Firmware calls (Arm DEN 0022, DEN 0028).
 */
#include "lib.h"

#define CALL(name, insn)                                                                        \
	void name(struct smccc *c)                                                              \
	{                                                                                       \
		register uint64_t *p __asm__("x19") = c->x;                                     \
                                                                                                \
		__asm__ volatile(                                                               \
		    "ldp x0, x1, [%0]\n ldp x2, x3, [%0, #16]\n ldp x4, x5, [%0, #32]\n"        \
		    "ldp x6, x7, [%0, #48]\n ldp x8, x9, [%0, #64]\n"                           \
		    "ldp x10, x11, [%0, #80]\n ldp x12, x13, [%0, #96]\n"                       \
		    "ldp x14, x15, [%0, #112]\n ldp x16, x17, [%0, #128]\n" insn                \
		    "\n stp x0, x1, [%0]\n stp x2, x3, [%0, #16]\n stp x4, x5, [%0, #32]\n"     \
		    "stp x6, x7, [%0, #48]\n stp x8, x9, [%0, #64]\n"                           \
		    "stp x10, x11, [%0, #80]\n stp x12, x13, [%0, #96]\n"                       \
		    "stp x14, x15, [%0, #112]\n stp x16, x17, [%0, #128]\n"                     \
		    : "+r"(p)                                                                   \
		    :                                                                           \
		    : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", \
		    "x12", "x13", "x14", "x15", "x16", "x17", "memory");                        \
	}

CALL(smccc_hvc, "hvc #0")
CALL(smccc_smc, "smc #0")

void
smccc_call(struct smccc *c)
{
	if (machine.psci_smc)
		smccc_smc(c);
	else
		smccc_hvc(c);
}

int64_t
psci(uint32_t fn, uint64_t a, uint64_t b, uint64_t c)
{
	struct smccc call = { .x = { fn, a, b, c } };

	smccc_call(&call);
	/* SMC32 calls answer in w0. */
	return ((fn & 1u << 30) != 0 ? (int64_t)call.x[0] : (int32_t)call.x[0]);
}
