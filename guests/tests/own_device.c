/*
 * The device of guests/adder.py: registers of several sizes, its interrupt, its SMCCC
 * function and its system register. For `bhyve -s ...:python,guests/adder.py:Adder,step=5`.
 */
#include "lib.h"

#define ID 0x00
#define A 0x08
#define B 0x10
#define SUM 0x18
#define CTRL 0x20
#define STATUS 0x24

#define COUNT_READ(v) __asm__ volatile("mrs %0, S3_0_C15_C2_0" : "=r"(v) : : "memory")
#define COUNT_WRITE(v) __asm__ volatile("msr S3_0_C15_C2_0, %0" : : "r"((uint64_t)(v)) : "memory")

static volatile unsigned came;
static uint64_t base;

static void
taken(unsigned intid)
{
	(void)intid;
	came++;
	w32(base + STATUS, 1);
}

void
test_main(void)
{
	struct smccc call = { { 0xc6000001, 40, 2 } };
	struct caught c;
	struct fdt_node node;
	uint64_t v;

	if (!fdt_compatible("bhyvepy,adder", 0, &node)) {
		report(false, "the tree has the device");
		return;
	}
	base = fdt_cells2(&node, "reg", 0);
	report(r32(base + ID) == 0x00adde12, "it says what it is");
	w32(base + ID, 0);
	report(r32(base + ID) == 0x00adde12, "which cannot be written");
	w64(base + A, 0x100000001);
	w32(base + B, 2);
	w32(base + B + 4, 3);
	report(r64(base + B) == 0x300000002, "two halves make one register");
	report(r8(base + ID + 1) == 0xde && r16(base + A + 4) == 1, "and a part can be read");
	w32(base + CTRL, 0x31);
	report(r64(base + SUM) == 0x400000003, "it adds");
	report(r32(base + CTRL) == 0x30, "start clears itself, the mode stays");
	report(r32(base + STATUS) == 1, "it is done");
	w32(base + STATUS, 2);
	report(r32(base + STATUS) == 1, "writing 1 to another bit leaves it");
	w32(base + STATUS, 1);
	report(r32(base + STATUS) == 0, "writing 1 clears it");
	report(r32(base + 0x800) == 0, "what is no register reads zero");

	gic_init();
	irq_handler = taken;
	gic_enable(fdt_intid(&node, 0), 0x80);
	irq_on();
	w32(base + CTRL, 3);
	report(wait_for(came == 1, 5000), "its interrupt comes");
	irq_off();
	report(came == 1, "once");

	smccc_call(&call);
	report(call.x[0] == 42, "its SMCCC function adds x1 and x2 by HVC");
	call.x[0] = 0xc6000001;
	call.x[1] = call.x[2] = UINT64_C(1) << 63;
	smccc_smc(&call);
	report(call.x[0] == 0, "and by SMC, in 64 bits");
	call.x[0] = 0xc6000003;
	smccc_call(&call);
	report((int64_t)call.x[0] == -1, "a function that nobody has is not supported");
	call.x[0] = 0xc6000002;
	smccc_call(&call);

	COUNT_WRITE(100);
	COUNT_READ(v);
	report(v == 105, "its system register counts in steps of 5");
	COUNT_READ(v);
	report(v == 110, "at each read");
	catch_begin(&c);
	__asm__ volatile("mrs %0, S3_0_C15_C2_1" : "=r"(v));
	catch_end();
	report(c.count == 1 && ESR_EC(c.esr) == 0, "one that nobody has is UNDEFINED");
}
