/*
 * LPIs and the interrupt translation service: commands, tables in memory,
 * delivery. Interrupts stay masked; the test acknowledges by hand.
 *
 *	only=id,map,...	some of the parts
 *	lpis=N		of the flood [200]
 */
#include "gic_v3.h"

#define GITS_CTLR 0x0
#define GITS_TYPER 0x8
#define GITS_CBASER 0x80
#define GITS_CWRITER 0x88
#define GITS_CREADR 0x90
#define GITS_BASER 0x100
#define GITS_PIDR2 0xffe8
#define GITS_TRANSLATER 0x10040
#define GICR_CTLR 0x0
#define GICR_PROPBASER 0x70
#define GICR_PENDBASER 0x78

#define VALID (UINT64_C(1) << 63)
#define LPI 8192u
#define NOWHERE UINT64_C(0x7f00000000) /* no RAM on either machine */
#define QUEUE_SIZE 4096u

static uint64_t its;
static volatile uint64_t *queue;
static volatile uint8_t *props; /* of LPIs from LPI up */
static uint64_t pending[2];
static uint64_t rd_base[MAX_CPUS]; /* target of a collection */

/* -- commands -------------------------------------------------------------------------- */

/* Put a command into the queue; `go` waits until it is done. */
static void
put(uint64_t a, uint64_t b, uint64_t c, uint64_t e)
{
	uint64_t at = r64(its + GITS_CWRITER) & 0xfffe0;
	volatile uint64_t *q = queue + at / 8;

	q[0] = a;
	q[1] = b;
	q[2] = c;
	q[3] = e;
	dsb();
	w64(its + GITS_CWRITER, (at + 32) % QUEUE_SIZE);
}

static bool
done(void)
{
	return (wait_for(
	    (r64(its + GITS_CREADR) & 0xfffe0) == (r64(its + GITS_CWRITER) & 0xfffe0), 5000));
}

static bool
go(uint64_t a, uint64_t b, uint64_t c, uint64_t e)
{
	put(a, b, c, e);
	return (done());
}

#define DEV(cmd, device) ((cmd) | (uint64_t)(device) << 32)
static bool
mapd(uint32_t device, unsigned bits, uint64_t itt, bool valid)
{
	return (go(DEV(0x8, device), bits - 1, itt | (valid ? VALID : 0), 0));
}

static bool
mapc(unsigned icid, unsigned cpu, bool valid)
{
	return (go(0x9, 0, icid | rd_base[cpu] | (valid ? VALID : 0), 0));
}

static bool
mapti(uint32_t device, uint32_t event, uint32_t intid, unsigned icid)
{
	return (go(DEV(0xa, device), event | (uint64_t)intid << 32, icid, 0));
}

static bool
movi(uint32_t device, uint32_t event, unsigned icid)
{
	return (go(DEV(0x1, device), event, icid, 0));
}

/* INT 3, CLEAR 4, INV 12, DISCARD 15 */
static bool
on_event(unsigned cmd, uint32_t device, uint32_t event)
{
	return (go(DEV(cmd, device), event, 0, 0));
}

static bool
raise(uint32_t device, uint32_t event)
{
	return (on_event(0x3, device, event));
}

static void
prop(uint32_t intid, unsigned priority, bool enabled)
{
	props[intid - LPI] = (uint8_t)(priority | enabled);
	dsb();
}

static void
lpis_on(unsigned cpu, uint64_t pend)
{
	uint64_t r = cpus[cpu].gicr;

	w64(r + GICR_PROPBASER, (uintptr_t)props | 13);
	w64(r + GICR_PENDBASER, pend);
	w32(r + GICR_CTLR, r32(r + GICR_CTLR) | 1);
	dsb();
}

/* -- the parts --------------------------------------------------------------------------- */

static void
identification(void)
{
	uint64_t typer = r64(its + GITS_TYPER), r = this_cpu()->gicr;

	report((r32(machine.gicd + 4) >> 17 & 1) != 0, "the distributor has LPIs");
	report((r32(machine.gicd + 4) >> 19 & 31) >= 13, "and at least 14 bits of INTID");
	report((r64(r + GICR_TYPER) & 1) != 0, "so has the redistributor");
	report((r32(its + GITS_PIDR2) >> 4 & 15) == 3, "the ITS says GICv3");
	report((typer & 1) != 0, "it has physical LPIs");
	report((typer >> 8 & 31) >= 13 && (typer >> 13 & 31) >= 7, "IDs have enough bits");
	report((r64(its + GITS_BASER) >> 56 & 7) == 1, "BASER0 is for devices");
	report((r64(its + GITS_BASER + 8) >> 56 & 7) == 4, "BASER1 is for collections");
	report((r32(its + GITS_CTLR) & 0x80000001) == 0x80000000, "it is off and quiescent");
	report((r32(r + GICR_CTLR) & 1) == 0, "LPIs are off");
}

/* Tables, queue, LPIs of both CPUs, collection n for CPU n. */
static void
start(void)
{
	uint64_t prop_room = (uintptr_t)page_alloc(32), pend, table;

	props = (uint8_t *)((prop_room + 0xfff) & ~0xfffull);
	pend = ((uintptr_t)page_alloc(64) + 0xffff) & ~0xffffull;
	pending[0] = pend;
	pending[1] = pend + 0x10000;
	for (unsigned n = 0; n < ncpus && n < 2; n++) {
		lpis_on(n, pending[n]);
		rd_base[n] = (r64(its + GITS_TYPER) >> 19 & 1) != 0
				 ? cpus[n].gicr & ~0xffffull
				 : (r64(cpus[n].gicr + GICR_TYPER) >> 8 & 0xffff) << 16;
	}
	report((r32(this_cpu()->gicr + GICR_CTLR) & 1) != 0, "LPIs can be turned on");
	table = (uintptr_t)page_alloc(16);
	w64(its + GITS_BASER, VALID | table | 15);
	table = (uintptr_t)page_alloc(16);
	w64(its + GITS_BASER + 8, VALID | table | 15);
	queue = page_alloc(1);
	w64(its + GITS_CBASER, VALID | (uintptr_t)queue);
	w64(its + GITS_CWRITER, 0);
	report(r64(its + GITS_CREADR) == 0, "a new queue begins at its start");
	w32(its + GITS_CTLR, 1);
	for (unsigned n = 0; n < ncpus && n < 2; n++) {
		if (!mapc(n, n, true))
			die("MAPC is done");
	}
	report(done(), "MAPC is done");
}

static void
mapping(void)
{
	uint64_t itt = (uintptr_t)page_alloc(1);
	bool ok = true;

	report(mapd(1, 5, itt, true), "MAPD is done");
	prop(LPI + 5, 0x80, true);
	report(mapti(1, 3, LPI + 5, 0), "MAPTI is done");
	report(!irq(), "a mapped event is not pending");
	report(raise(1, 3) && irq(), "INT makes it pending");
	report(hppir1() == LPI + 5, "HPPIR shows it");
	report(take() == LPI + 5 && rpr() == 0x80, "IAR returns it, with its priority");
	report(!irq(), "it is not signalled again");
	end(LPI + 5);
	report(rpr() == 0xff && take() == SPURIOUS, "its end leaves nothing");
	raise(1, 3);
	take();
	raise(1, 3);
	end(LPI + 5);
	report(take() == LPI + 5, "an event between IAR and end comes afterwards");
	end(LPI + 5);
	raise(1, 3);
	raise(1, 3);
	report(take() == LPI + 5, "two events before IAR");
	end(LPI + 5);
	report(!irq(), "are one interrupt");

	raise(1, 3);
	report(on_event(4, 1, 3) && !irq(), "CLEAR takes it back");
	set_ctlr(get_ctlr() | 2);
	raise(1, 3);
	take();
	end(LPI + 5);
	raise(1, 3);
	report(take() == LPI + 5, "with EOImode 1 an LPI needs no DIR");
	end(LPI + 5);
	set_ctlr(get_ctlr() & ~2ull);

	prop(LPI + 5, 0x80, false);
	on_event(0xc, 1, 3);
	raise(1, 3);
	report(!irq(), "disabled in the table, and INV: it is not signalled");
	prop(LPI + 5, 0x40, true);
	on_event(0xc, 1, 3);
	report(irq() && take() == LPI + 5 && rpr() == 0x40, "enabled, and INV: it is");
	end(LPI + 5);
	prop(LPI + 5, 0x60, true);
	go(0xd, 0, 0, 0);
	raise(1, 3);
	report(take() == LPI + 5 && rpr() == 0x60, "INVALL takes the new priority");
	end(LPI + 5);
	set_pmr(0x60);
	raise(1, 3);
	report(!irq(), "PMR masks it");
	set_pmr(0xf8);
	report(irq() && take() == LPI + 5, "until it is raised");
	end(LPI + 5);

	/* a CPU's write to the doorbell is device 0 on both machines */
	mapd(0, 5, (uintptr_t)page_alloc(1), true);
	prop(LPI + 6, 0x80, true);
	mapti(0, 9, LPI + 6, 0);
	w32(its + GITS_TRANSLATER, 9);
	report(take_soon() == LPI + 6, "a write to GITS_TRANSLATER is an event");
	end(LPI + 6);
	w32(its + GITS_TRANSLATER, 10);
	report(!irq(), "one that is not mapped goes nowhere");

	/* MAPI: the event is the INTID */
	mapd(2, 14, (uintptr_t)page_alloc(64), true);
	prop(LPI + 7, 0x80, true);
	go(DEV(0xb, 2), LPI + 7, 0, 0);
	raise(2, LPI + 7);
	report(take() == LPI + 7, "MAPI maps an event to the LPI of its number");
	end(LPI + 7);

	raise(1, 3);
	report(on_event(0xf, 1, 3) && !irq(), "DISCARD takes the pending state");
	raise(1, 3);
	report(!irq(), "and the mapping");
	mapti(1, 3, LPI + 5, 0);
	raise(1, 3);
	report(take() == LPI + 5, "which can be made again");
	end(LPI + 5);
	mapd(1, 5, itt, false);
	raise(1, 3);
	report(!irq(), "without its device it goes nowhere");
	for (unsigned n = 0; n < 300; n++)
		ok = ok && go(0x5, 0, rd_base[0], 0);
	report(ok, "300 SYNCs go round the queue");
}

static void
bad_commands(void)
{
	static const uint64_t bad[][4] = {
		{ DEV(0x8, 0xffffffff), 4, VALID | UINT64_C(0x80000000), 0 },
		{ DEV(0x8, 1), 31, VALID | UINT64_C(0x80000000), 0 },
		{ 0x9, 0, VALID | UINT64_C(0xffff) << 16 | 1, 0 },
		{ DEV(0xa, 3), UINT64_C(9000) << 32 | 0xffff, 0, 0 },
		{ DEV(0xa, 3), UINT64_C(100) << 32 | 1, 0, 0 },
		{ DEV(0xa, 3), UINT64_C(0xffffffff) << 32 | 1, 0, 0 },
		{ DEV(0xa, 99), UINT64_C(9000) << 32, 0, 0 },
		{ DEV(0x3, 99), 0, 0, 0 },
		{ DEV(0x3, 3), 30, 0, 0 },
		{ DEV(0x3, 3), 0xffffffff, 0, 0 },
		{ DEV(0x4, 3), 30, 0, 0 },
		{ DEV(0xc, 3), 30, 0, 0 },
		{ DEV(0xf, 3), 30, 0, 0 },
		{ DEV(0x1, 3), 30, 1, 0 },
		{ 0xe, 0, UINT64_C(0xffff) << 16, 0 },
		{ 0xe, 0, 0, UINT64_C(0xffff) << 16 },
		{ 0xff, 0, 0, 0 },
	};
	bool ok = true;

	mapd(3, 5, (uintptr_t)page_alloc(1), true);
	prop(LPI + 20, 0x80, true);
	mapti(3, 1, LPI + 20, 0);
	for (unsigned n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		if (!go(bad[n][0], bad[n][1], bad[n][2], bad[n][3])) {
			info("command %u is not passed over", n);
			ok = false;
			break;
		}
	}
	report(ok, "commands that make no sense are passed over");
	raise(3, 1);
	report(take() == LPI + 20, "and do no harm");
	end(LPI + 20);
	report(take() == SPURIOUS, "nothing else came of them");
}

static void
flood(void)
{
	unsigned n, count = (unsigned)arg_number("lpis", 200), got, before = 0;
	uint64_t itt = (uintptr_t)page_alloc(16), seed = 88172645463325252u;
	uint8_t *prio = page_alloc(2);
	bool ok = true, unique = true;

	mapd(4, 12, itt, true);
	for (n = 0; n < count; n++) {
		prio[n] = (uint8_t)(1 + random_next(&seed) % 28) << 3;
		prop(LPI + 100 + n, prio[n], true);
		put(DEV(0xa, 4), n | (uint64_t)(LPI + 100 + n) << 32, 0, 0);
		if (n % 64 == 63)
			done();
	}
	done();
	set_pmr(0);
	for (n = 0; n < count; n++) {
		put(DEV(0x3, 4), n, 0, 0);
		if (n % 64 == 63)
			done();
	}
	report(done(), "a queue of many commands is served");
	set_pmr(0xf8);
	for (n = 0; n < count; n++) {
		got = take();
		if (got < LPI + 100 || got >= LPI + 100 + count) {
			unique = false;
			break;
		}
		ok = ok && prio[got - LPI - 100] >= before;
		before = prio[got - LPI - 100];
		unique = unique && before != 0;
		prio[got - LPI - 100] = 0;
		end(got);
	}
	report(unique && take() == SPURIOUS, "of many LPIs at once each comes once");
	report(ok, "by priority");
}

static void
pending_table(void)
{
	uint64_t r = this_cpu()->gicr;
	volatile uint8_t *bits = (uint8_t *)pending[0];
	unsigned got;

	mapd(5, 5, (uintptr_t)page_alloc(1), true);
	prop(LPI + 30, 0x80, true);
	mapti(5, 0, LPI + 30, 0);
	w32(r + GICR_CTLR, r32(r + GICR_CTLR) & ~1u);
	if ((r32(r + GICR_CTLR) & 1) != 0) {
		skip("LPIs cannot be turned off");
		return;
	}
	raise(5, 0);
	report(!irq(), "while LPIs are off none is signalled");
	/* one that the table says is pending */
	for (unsigned n = 0; n < 0x800; n++)
		bits[n] = 0;
	bits[(LPI + 30) / 8] = 1u << (LPI + 30) % 8;
	dsb();
	lpis_on(0, pending[0]);
	got = take_soon();
	report(got == LPI + 30, "turned on, they are as the pending table says");
	end(got);
	report(take() == SPURIOUS, "no others");
}

static volatile unsigned step, seen_by_other;

static void
other_takes(void *arg)
{
	(void)arg;
	step = 1;
	seen_by_other = take_soon();
	if (seen_by_other != SPURIOUS)
		end(seen_by_other);
}

static void
other_waits(void *arg)
{
	(void)arg;
	step = 1;
	while (step == 1)
		relax();
	seen_by_other = take();
	if (seen_by_other != SPURIOUS)
		end(seen_by_other);
}

static void
others(void)
{
	bool ok = true;
	unsigned got;

	if (ncpus < 2) {
		skip("one CPU");
		return;
	}
	mapd(6, 6, (uintptr_t)page_alloc(1), true);
	for (unsigned n = 0; n < 40; n++) {
		prop(LPI + 40 + n, 0x80, true);
		mapti(6, n, LPI + 40 + n, 1);
	}
	step = 0;
	cpu_run(1, other_takes, NULL);
	wait_for(step == 1, 5000);
	raise(6, 0);
	cpu_wait(1);
	report(seen_by_other == LPI + 40 && !irq(), "an event goes to the CPU of its collection");

	step = 0;
	cpu_run(1, other_waits, NULL);
	wait_for(step == 1, 5000);
	raise(6, 0);
	delay_us(100);
	report(movi(6, 0, 0), "MOVI is done");
	report(take_soon() == LPI + 40, "it takes what waits for the other CPU along");
	end(LPI + 40);
	step = 2;
	cpu_wait(1);
	report(seen_by_other == SPURIOUS, "from where it is gone");
	raise(6, 0);
	report(take_soon() == LPI + 40, "and the next one comes here, too");
	end(LPI + 40);
	movi(6, 0, 1);

	step = 0;
	cpu_run(1, other_waits, NULL);
	wait_for(step == 1, 5000);
	for (unsigned n = 0; n < 40; n++)
		raise(6, n);
	report(go(0xe, 0, rd_base[1], rd_base[0]), "MOVALL is done");
	for (unsigned n = 0; n < 40; n++) {
		got = take_soon();
		ok = ok && got == LPI + 40 + n;
		end(got);
	}
	report(ok, "it takes all that waits for the other CPU along");
	step = 2;
	cpu_wait(1);
	report(seen_by_other == SPURIOUS, "and leaves nothing there");

	mapc(1, 0, true);
	raise(6, 1);
	report(take_soon() == LPI + 41, "a collection can be mapped to another CPU");
	end(LPI + 41);
	mapc(1, 0, false);
	raise(6, 1);
	report(!irq(), "without its collection an event goes nowhere");
	mapc(1, 1, true);
}

/* The last part: the queue may not go on afterwards. */
static void
out_of_ram(void)
{
	w32(its + GITS_CTLR, 0);
	report(
	    wait_for((r32(its + GITS_CTLR) >> 31) == 1, 1000), "turned off it becomes quiescent");
	w64(its + GITS_CBASER, VALID | NOWHERE);
	w64(its + GITS_CWRITER, 0);
	w32(its + GITS_CTLR, 1);
	w64(its + GITS_CWRITER, 32);
	report(wait_for((r64(its + GITS_CREADR) & 1) != 0, 1000), "a queue out of RAM stalls");
	w32(its + GITS_CTLR, 0);
	w64(its + GITS_CBASER, VALID | (uintptr_t)queue);
	w64(its + GITS_CWRITER, 0);
	w32(its + GITS_CTLR, 1);
	report((r64(its + GITS_CREADR) & 1) == 0 && go(0x5, 0, rd_base[0], 0),
	    "with a new queue it works again");

	mapd(7, 5, NOWHERE, true);
	put(DEV(0xa, 7), (uint64_t)(LPI + 1) << 32, 0, 0);
	report(wait_for((r64(its + GITS_CREADR) & 1) != 0 || done(), 1000),
	    "a table out of RAM does not hang the machine");
	w32(its + GITS_TRANSLATER, 9);
	report(take_soon() == LPI + 6, "other devices still get through");
	end(LPI + 6);
}

static const struct {
	const char *name;
	void (*fn)(void);
} parts[] = {
	{ "id", identification },
	{ "start", start },
	{ "map", mapping },
	{ "bad", bad_commands },
	{ "flood", flood },
	{ "pending", pending_table },
	{ "others", others },
	{ "ram", out_of_ram },
};

void
test_main(void)
{
	struct fdt_node node;

	if (!fdt_compatible("arm,gic-v3-its", 0, &node))
		die("the machine has an ITS");
	its = fdt_cells2(&node, "reg", 0);
	gic_init();
	cpu_start_all();
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (parts[i].fn == start || arg_selected(parts[i].name))
			parts[i].fn();
	}
}
