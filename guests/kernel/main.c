/*
 * Start-up, exceptions and PSCI of the small guest kernel.
 */
#include "kernel.h"

#define KIND_SPX_SYNC 4
#define KIND_SPX_IRQ 5

struct machine machine;

uint64_t
psci(uint64_t fn, uint64_t a, uint64_t b, uint64_t c)
{
	register uint64_t x0 __asm__("x0") = fn;
	register uint64_t x1 __asm__("x1") = a;
	register uint64_t x2 __asm__("x2") = b;
	register uint64_t x3 __asm__("x3") = c;

	if (machine.psci_smc)
		__asm__ volatile("smc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) : : "memory");
	else
		__asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) : : "memory");
	return (x0);
}

void
handle_exception(unsigned kind, struct frame *f)
{
	if (kind == KIND_SPX_IRQ) {
		uint32_t irq = gic_ack();

		if (irq == 27)
			timer_irq();
		else if (irq == machine.uart_irq && irq != 0)
			uart_irq();
		if (irq < 1020)
			gic_eoi(irq);
		return;
	}
	printf_(
	    "\nexception %u: esr %lx far %lx elr %lx\n", kind, mrs(esr_el1), mrs(far_el1), f->elr);
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
	for (;;)
		__asm__ volatile("wfi");
}

void
kernel_main(const void *fdt)
{
	int error = fdt_read(fdt, &machine);

	mmu_init(machine.ram, (uint64_t)(uintptr_t)&machine);
	console_init();
	if (error != 0)
		puts_("no device tree\n");
	printf_("bhyvepy guest kernel, EL%u, midr %lx, mpidr %lx\n",
	    (unsigned)(mrs(CurrentEL) >> 2), mrs(midr_el1), mrs(mpidr_el1));
	printf_("RAM %lx + %lx, %s at %lx irq %u, bvmconsole %s, PSCI %lx\n", machine.ram,
	    machine.ram_size, machine.pl011 ? "pl011" : "ns16550a", machine.uart, machine.uart_irq,
	    have_bvm ? "yes" : "no", psci(PSCI_VERSION, 0, 0, 0));
	if (machine.bootargs[0] != '\0')
		printf_("bootargs: %s\n", machine.bootargs);
	gic_init();
	timer_init(100);
	if (machine.uart_irq != 0)
		gic_enable(machine.uart_irq);
	__asm__ volatile("msr daifclr, #2");
	shell();
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
	for (;;)
		__asm__ volatile("wfi");
}
