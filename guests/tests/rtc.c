/*
 * PL031: the count, setting it, the alarm and its interrupt.
 */
#include "lib.h"

#define RTC_DR 0x00
#define RTC_MR 0x04
#define RTC_LR 0x08
#define RTC_CR 0x0c
#define RTC_IMSC 0x10
#define RTC_RIS 0x14
#define RTC_MIS 0x18
#define RTC_ICR 0x1c

static uint64_t rtc;
static volatile unsigned rang;

static void
alarm_taken(unsigned intid)
{
	(void)intid;
	rang++;
	w32(rtc + RTC_ICR, 1);
}

void
test_main(void)
{
	struct fdt_node node;
	uint64_t before;
	uint32_t start;
	unsigned intid;

	if (!fdt_compatible("arm,pl031", 0, &node)) {
		report(false, "the machine has a PL031");
		return;
	}
	rtc = fdt_cells2(&node, "reg", 0);
	intid = fdt_intid(&node, 0);
	report((r32(rtc + 0xfe0) | r32(rtc + 0xfe4) << 8) == 0x1031, "it says that it is one");
	start = r32(rtc + RTC_DR);
	report(start > 1700000000u, "it is later than November 2023");
	before = ticks();
	report(wait_for(r32(rtc + RTC_DR) == start + 1, 5000), "it counts");
	wait_for(r32(rtc + RTC_DR) == start + 2, 5000);
	/* From one change to the next but one: between one and two seconds. */
	report(ticks() - before < us_to_ticks(2500000), "in seconds");
	w32(rtc + RTC_LR, 1000);
	report(r32(rtc + RTC_DR) - 1000 < 2, "it can be set");

	gic_init();
	irq_handler = alarm_taken;
	gic_enable(intid, 0x80);
	w32(rtc + RTC_ICR, 1);
	w32(rtc + RTC_IMSC, 1);
	irq_on();
	report(rang == 0, "no alarm, no interrupt");
	start = r32(rtc + RTC_DR);
	w32(rtc + RTC_MR, start + 1);
	while (rang == 0 && r32(rtc + RTC_DR) < start + 4) {
		irq_off();
		if (rang == 0)
			wfi();
		irq_on();
	}
	irq_off();
	report(rang == 1, "the alarm wakes the CPU, once");
	report(r32(rtc + RTC_DR) - (start + 1) < 2, "when it is due");
	report(r32(rtc + RTC_RIS) == 0, "and is over when it was cleared");
	w32(rtc + RTC_IMSC, 0);
	w32(rtc + RTC_MR, r32(rtc + RTC_DR) + 1);
	report(wait_for(r32(rtc + RTC_RIS) == 1, 5000), "a masked alarm can be polled");
	report(r32(rtc + RTC_MIS) == 0 && rang == 1, "and does not interrupt");
}
