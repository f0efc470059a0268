/*
 * A driver that means harm, on every virtio-mmio device of the tree, in both versions:
 * registers and rings full of nonsense, descriptors that a second CPU changes while the
 * device reads them, resets in the middle of a request. Each device has to answer or to
 * ask for a reset, soon, and to serve an honest driver afterwards.
 *
 *	ms	for which descriptors are flipped, on each device [300]
 *
 * What is tried is in docs/reference/reliability.md, 1.3 and 4.1.
 */
#include "lib.h"

#define R_QUEUE_READY 0x44
#define R_NOTIFY 0x50
#define R_STATUS 0x70
#define S_NEEDS_RESET 64u

#define F_INDIRECT_DESC (1u << 28)
#define PATIENCE_MS 5000
#define ROOM 512u
#define FILL 0x5a

#define D_NEXT VIRTIO_D_NEXT
#define D_WRITE VIRTIO_D_WRITE
#define D_INDIRECT VIRTIO_D_INDIRECT

static struct virtio v;
static uint8_t *data;             /* a page, and another behind it */
static struct virtio_desc *table; /* an indirect one, in a page */
static const char *name;

/* Queue 0 of a device that serves requests, the transmit queue of the others. */
static bool
start(void)
{
	v.want = F_INDIRECT_DESC;
	return (virtio_begin(&v, v.device == VIRTIO_BLK || v.device == VIRTIO_RND ? 0 : 1));
}

/* -- an honest driver ------------------------------------------------------------------- */

static bool
honest(void)
{
	static struct {
		uint32_t type, reserved;
		uint64_t sector;
	} head;
	static volatile uint8_t status;
	struct virtio_buf id[] = {
		{ &head, sizeof(head), false },
		{ data, 20, true },
		{ (void *)(uintptr_t)&status, 1, true },
	};
	struct virtio_buf entropy = { data, 64, true };
	struct virtio_buf text = { data, 64, false };

	v.want = 0;
	switch (v.device) {
	case VIRTIO_BLK:
		head.type = 8; /* GET_ID */
		status = 0xff;
		return (virtio_begin(&v, 0) && virtio_do(&v, id, 3) == 21 && status == 0);
	case VIRTIO_RND:
		return (virtio_begin(&v, 0) && virtio_do(&v, &entropy, 1) == 64);
	default:
		for (unsigned i = 0; i < 64; i++)
			data[i] = "\n.."[i % 3];
		return (virtio_begin(&v, 1) && virtio_do(&v, &text, 1) == 0);
	}
}

static void
still_good(const char *after)
{
	report(honest(), "%s: an honest driver is served after %s", name, after);
}

/* -- registers --------------------------------------------------------------------------- */

static void
registers(void)
{
	static const uint32_t values[] = { 0, 1, 3, 0x80000000, 0xffffffff };
	struct caught c;
	uint64_t seed = 88172645463325252;

	catch_begin(&c);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned at = 0; at < 0x200; at += 4)
			for (unsigned i = 0; i < 5; i++) {
				(void)r32(v.base + at);
				if (at != R_STATUS)
					w32(v.base + at, values[i]);
			}
		start();
	}
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t n = random_next(&seed);
		uint64_t at = v.base + (n & 0x1f8);

		switch (n >> 60 & 7) {
		case 0:
			w8(at, (uint8_t)(n >> 16));
			break;
		case 1:
			w16(at, (uint16_t)(n >> 16));
			break;
		case 2:
			w32(at, (uint32_t)(n >> 16));
			break;
		case 3:
			w64(at, n);
			break;
		case 4:
			(void)r8(at);
			break;
		case 5:
			(void)r16(at);
			break;
		case 6:
			(void)r64(at);
			break;
		default:
			/* A pair, the second half of which may be behind the window. */
			__asm__ volatile("ldp x10, x11, [%0]" : : "r"(at) : "x10", "x11", "memory");
		}
	}
	catch_end();
	still_good("nonsense in its registers");
	for (unsigned i = 0; i < 1000; i++)
		w32(v.base + R_NOTIFY, i % 4 == 0 ? 0xffffffff : i % 4);
	still_good("a storm of notifications, of no queue too");
	for (unsigned i = 0; i < 100; i++)
		start();
	still_good("100 resets");
}

/* -- chains ------------------------------------------------------------------------------ */

static void
desc(struct virtio_desc *d, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	*d = (struct virtio_desc){ addr, len, flags, next };
}

static void
bad_chain(unsigned kind)
{
	uint64_t at = (uintptr_t)data, end = machine.ram + machine.ram_size;
	struct virtio_desc *d = v.desc;

	desc(&d[1], at, 16, D_WRITE, 0);
	switch (kind) {
	case 0: /* a loop of one, and of two */
		desc(&d[0], at, 4, D_NEXT, 0);
		break;
	case 1:
		desc(&d[0], at, 4, D_NEXT, 1);
		desc(&d[1], at, 4, D_NEXT, 0);
		break;
	case 2: /* out of the table */
		desc(&d[0], at, 4, D_NEXT, VIRTIO_NUM);
		break;
	case 3:
		desc(&d[0], at, 4, D_NEXT, 0xffff);
		break;
	case 4: /* readable behind writable */
		desc(&d[0], at, 4, D_NEXT | D_WRITE, 1);
		desc(&d[1], at, 4, 0, 0);
		break;
	case 5: /* not RAM: nothing, the device itself, the GIC, the end, around the end */
		desc(&d[0], 0, 4, D_WRITE, 0);
		break;
	case 6:
		desc(&d[0], v.base, 4, D_WRITE, 0);
		break;
	case 7:
		desc(&d[0], machine.gicd, 4, D_WRITE, 0);
		break;
	case 8:
		desc(&d[0], end - 4, 5, D_WRITE, 0);
		break;
	case 9:
		desc(&d[0], UINT64_MAX - 15, 0x20, D_WRITE, 0);
		break;
	case 10: /* all ones */
		desc(&d[0], UINT64_MAX, UINT32_MAX, UINT16_MAX, UINT16_MAX);
		break;
	case 11: /* indirect: in itself, with NEXT, empty, odd, huge, not RAM, a loop */
		desc(&table[0], (uintptr_t)table, 16, D_INDIRECT, 0);
		desc(&d[0], (uintptr_t)table, 16, D_INDIRECT, 0);
		break;
	case 12:
		desc(&d[0], (uintptr_t)table, 16, D_INDIRECT | D_NEXT, 1);
		break;
	case 13:
		desc(&d[0], (uintptr_t)table, 0, D_INDIRECT, 0);
		break;
	case 14:
		desc(&d[0], (uintptr_t)table, 17, D_INDIRECT, 0);
		break;
	case 15:
		desc(&d[0], (uintptr_t)table, 0xfffffff0, D_INDIRECT, 0);
		break;
	case 16:
		desc(&d[0], v.base, 16, D_INDIRECT, 0);
		break;
	case 17:
		desc(&table[0], at, 4, D_NEXT, 0);
		desc(&d[0], (uintptr_t)table, 16, D_INDIRECT, 0);
		break;
	default: /* longer than the queue */
		for (unsigned i = 0; i <= VIRTIO_NUM; i++)
			desc(&table[i], at, 1, i < VIRTIO_NUM ? D_NEXT : 0, (uint16_t)(i + 1));
		desc(&d[0], (uintptr_t)table, (VIRTIO_NUM + 1) * 16, D_INDIRECT, 0);
	}
}

#define BAD_CHAINS 19

static void
chains(void)
{
	unsigned back = 0;
	bool clean = true;

	start();
	for (unsigned i = 0; i < ROOM; i++)
		data[i] = FILL;
	for (unsigned kind = 0; kind < BAD_CHAINS; kind++) {
		bad_chain(kind);
		virtio_offer(&v, 0);
		if (virtio_wait(&v, PATIENCE_MS) == 0)
			back++;
		else
			info("%s: chain %u did not come back empty", name, kind);
	}
	for (unsigned i = 0; i < ROOM; i++)
		clean = clean && data[i] == FILL;
	report(back == BAD_CHAINS, "%s: each bad chain is put back empty", name);
	report(clean, "%s: and nothing was written anywhere for it", name);
	report(honest(), "%s: an honest driver is served after bad chains", name);

	/* Indices that make no sense. */
	static const uint16_t jumps[] = { VIRTIO_NUM + 1, VIRTIO_NUM + 0x8000, 0xffff };
	bool asked = true;
	for (unsigned i = 0; i < 3; i++) {
		start();
		v.avail[1] = jumps[i];
		dsb();
		w32(v.base + R_NOTIFY, v.queue);
		asked = wait_for(r32(v.base + R_STATUS) & S_NEEDS_RESET, PATIENCE_MS) && asked;
	}
	start();
	virtio_offer(&v, VIRTIO_NUM);
	asked = wait_for(r32(v.base + R_STATUS) & S_NEEDS_RESET, PATIENCE_MS) && asked;
	report(asked, "%s: a ring that makes no sense is a reset that it asks for", name);
	still_good("rings without sense");
}

/* -- F16: another CPU changes descriptors --------------------------------------------------- */

static volatile bool stop;

static void
flip(void *arg)
{
	volatile struct virtio_desc *d = arg;
	uint64_t good = (uintptr_t)data, seed = 1181783497276652981;

	while (!stop) {
		d->len = ROOM;
		d->addr = machine.gicd;
		d->len = 16;
		d->addr = good;
		d->flags = D_WRITE | D_NEXT;
		d->next = 0xffff;
		d->flags = D_INDIRECT;
		d->flags = 0;
		d->addr = UINT64_MAX - 4;
		d->len = UINT32_MAX;
		d->addr = good;
		d->len = (uint32_t)(random_next(&seed) & 0xff);
		d->flags = D_WRITE;
	}
}

static void
flipping(struct virtio_desc *d, const char *what)
{
	uint64_t until = ticks() + us_to_ticks(arg_number("ms", 300) * 1000);
	unsigned rounds = 0;
	bool back = true, inside = true;

	start();
	for (unsigned i = 0; i < 2 * ROOM; i++)
		data[i] = FILL;
	desc(&d[0], (uintptr_t)data, 16, D_WRITE, 0);
	if (d == table)
		desc(&v.desc[0], (uintptr_t)table, 16, D_INDIRECT, 0);
	stop = false;
	dsb();
	cpu_run(1, flip, d);
	while (ticks() < until && back) {
		int64_t n;

		virtio_offer(&v, 0);
		n = virtio_wait(&v, PATIENCE_MS);
		back = n >= 0;
		inside = inside && n <= (int64_t)ROOM;
		rounds++;
	}
	stop = true;
	cpu_wait(1);
	for (unsigned i = ROOM; i < 2 * ROOM; i++)
		inside = inside && data[i] == FILL;
	info("%s: %u chains while it was flipped", what, rounds);
	report(back, "F16: %s: chains come back while another CPU changes %s", name, what);
	report(inside, "F16: %s: no more is written than the longest of them said", name);
}

/* -- the order of the used ring, and resets -------------------------------------------------- */

static volatile uint16_t seen;
static volatile bool wrong;

static void
watch(void *arg)
{
	(void)arg;
	while (!stop) {
		uint16_t idx = v.used->idx;

		__asm__ volatile("dmb ishld" : : : "memory");
		for (; seen != idx; seen++)
			if (v.used->ring[seen % VIRTIO_NUM].len != 16)
				wrong = true;
	}
}

static void
order(void)
{
	struct virtio_buf b = { data, 16, true };

	start();
	stop = wrong = false;
	seen = 0;
	for (unsigned i = 0; i < VIRTIO_NUM; i++)
		v.used->ring[i].len = 0xdead;
	dsb();
	cpu_run(1, watch, NULL);
	for (unsigned i = 0; i < 1000; i++) {
		unsigned slot = (i + VIRTIO_NUM / 2) % VIRTIO_NUM;

		virtio_do(&v, &b, 1);
		while (seen != (uint16_t)(i + 1))
			relax();
		v.used->ring[slot].len = 0xdead;
	}
	stop = true;
	cpu_wait(1);
	report(!wrong, "%s: who sees the index sees the length", name);
}

static void
submit(void *arg)
{
	(void)arg;
	while (!stop) {
		virtio_offer(&v, 0);
		for (unsigned i = 0; i < 100; i++)
			relax();
	}
}

static void
resets(void)
{
	bool quiet = true, soon = true;

	for (unsigned round = 0; round < 20; round++) {
		start();
		/* 64 KiB a request, all of it into one page. */
		for (unsigned i = 0; i < VIRTIO_NUM; i++)
			desc(
			    &v.desc[i], (uintptr_t)data, 4096, D_WRITE | D_NEXT, (uint16_t)(i + 1));
		v.desc[VIRTIO_NUM - 1].flags = D_WRITE;
		stop = false;
		dsb();
		cpu_run(1, submit, NULL);
		delay_us(200 + 100 * round);
		w32(v.base + R_STATUS, 0);
		soon = wait_for(r32(v.base + R_STATUS) == 0, 1000) && soon;
		for (unsigned i = 0; i < 4096; i++)
			data[i] = FILL;
		delay_us(2000);
		for (unsigned i = 0; i < 4096; i++)
			quiet = quiet && data[i] == FILL;
		stop = true;
		cpu_wait(1);
	}
	report(soon, "%s: a reset in the middle of requests takes less than a second", name);
	report(quiet, "%s: and nothing is written once the status reads 0", name);
}

void
test_main(void)
{
	static const char *const names[] = { "", "net", "blk", "console", "rnd" };
	unsigned found = 0;

	if (ncpus < 2)
		die("this takes two CPUs");
	cpu_start(1);
	for (unsigned n = 0; virtio_find(n, &v); n++) {
		if (v.device == 0 || v.device > VIRTIO_RND)
			continue;
		found++;
		name = names[v.device];
		info("%s, version %u, at %lx", name, v.version, v.base);
		data = page_alloc(2);
		table = page_alloc(1);
		registers();
		chains();
		flipping(v.desc, "descriptors");
		still_good("descriptors that changed");
		flipping(table, "an indirect table");
		still_good("an indirect table that changed");
		if (v.device == VIRTIO_RND) {
			order();
			resets();
			still_good("resets in the middle of requests");
		}
	}
	report(found != 0, "there are virtio devices");
}
