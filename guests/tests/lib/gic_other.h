/*
 * What a second CPU does while the boot CPU looks: for tests of either GIC, after
 * their take(), take_soon(), end() and irq().
 */
#ifndef GIC_OTHER_H
#define GIC_OTHER_H

static volatile unsigned step, seen_by_other;

static void
other_takes(void *arg)
{
	(void)arg;
	/* the SPI waits for us, or is active here, while the boot CPU looks */
	while (step == 0)
		relax();
	seen_by_other = take_soon();
	step = 2;
	while (step == 2)
		relax();
	end(seen_by_other);
	step = 4;
	while (step == 4)
		relax();
	seen_by_other = take();
	step = 6;
}

static void
sleeps(void *arg)
{
	(void)arg;
	step = 1;
	while (!irq())
		wfi();
	seen_by_other = take();
	end(seen_by_other);
}

#endif /* !GIC_OTHER_H */
