/*
 * From start.S to test_main(): what the tree says about the machine, memory
 * behind the kernel, the MMU.
 */
#include "lib.h"

struct machine machine;
extern char _end[];

void boot_main(const void *tree) __attribute__((noreturn));

static char *next_page;

void *
page_alloc(unsigned pages)
{
	static struct lock l;
	uint64_t *p;

	lock(&l);
	p = (uint64_t *)next_page;
	next_page += pages * 4096ull;
	unlock(&l);
	for (unsigned i = 0; i < pages * 512; i++)
		p[i] = 0;
	return (p);
}

static void
read_tree(void)
{
	struct fdt_node node;
	const char *s;
	uint64_t cell;
	uint32_t len;

	machine.bhyve = fdt_compatible("freebsd,bhyve", 0, &node);
	if (fdt_named("memory", 0, &node)) {
		machine.ram = fdt_cells2(&node, "reg", 0);
		machine.ram_size = fdt_cells2(&node, "reg", 2);
	}
	if (fdt_compatible("arm,gic-v3", 0, &node)) {
		machine.gicd = fdt_cells2(&node, "reg", 0);
		machine.gicr = fdt_cells2(&node, "reg", 4);
		machine.gicr_size = fdt_cells2(&node, "reg", 6);
	}
	if (fdt_named("psci", 0, &node) && (s = fdt_prop(&node, "method", NULL)) != NULL)
		machine.psci_smc = streq(s, "smc");
	for (ncpus = 0; ncpus < MAX_CPUS && fdt_named("cpu@", ncpus, &node); ncpus++) {
		/* One or two cells, as #address-cells of /cpus says. */
		(void)fdt_prop(&node, "reg", &len);
		cell = len == 8 ? fdt_cells2(&node, "reg", 0) : fdt_cell(&node, "reg", 0);
		cpus[ncpus].index = ncpus;
		cpus[ncpus].mpidr = cell;
	}
}

void
boot_main(const void *tree)
{
	fdt = tree;
	next_page = _end;
	read_tree();
	cpus[0].state = CPU_BUSY;
	mmu_on();
	console_init();
	test_main();
	finish();
}
