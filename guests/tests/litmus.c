/*
 * The memory model: small programs for two to four CPUs whose forbidden
 * outcomes must never be seen (DDI 0487, B2.3). Named as in the literature:
 * MP message passing, SB store buffering, LB load buffering, S, R, 2+2W, IRIW
 * independent reads of independent writes, WRC write to read causality, CoRR
 * coherence of reads; behind the plus signs what keeps each thread in order.
 *
 *	iterations=N	of each (default 2000)
 *	only=MP,SB	shapes
 *	seek=N		with SB: that many iterations at most to see what is allowed
 *			without barriers, which proves that the test can see it
 */
#include "lib.h"

#define BATCH 128u
#define LINE 64

struct instance {
	volatile uint64_t x __attribute__((aligned(LINE)));
	volatile uint64_t y __attribute__((aligned(LINE)));
};

/* What each thread read, two registers each. */
struct result {
	uint64_t r[4][2];
};

typedef void thread_fn(struct instance *, uint64_t *);

/* -- memory accesses as text ----------------------------------------------------------- */

#define W1(v) "str %[one], [%[" #v "]]\n"
#define W2(v) "str %[two], [%[" #v "]]\n"
#define W1_REL(v) "stlr %[one], [%[" #v "]]\n"
#define W2_REL(v) "stlr %[two], [%[" #v "]]\n"
/* A store exclusive, again until it succeeds; release. */
#define W1_EXCL(v) "9: ldxr %[t], [%[" #v "]]\n stlxr %w[w], %[one], [%[" #v "]]\n cbnz %w[w], 9b\n"
#define W1_SWP(v) "swpl %[one], %[t], [%[" #v "]]\n"
#define W1_SWPAL(v) "swpal %[one], %[t], [%[" #v "]]\n"
#define W1_CAS(v) "mov %[t], #0\n casl %[t], %[one], [%[" #v "]]\n"
#define R(d, v) "ldr %[" #d "], [%[" #v "]]\n"
#define R_ACQ(d, v) "ldar %[" #d "], [%[" #v "]]\n"
#define R_PC(d, v) "ldapr %[" #d "], [%[" #v "]]\n"
#define R_EXCL(d, v) "ldaxr %[" #d "], [%[" #v "]]\n clrex\n"
#define R_LDADD(d, v) "ldadda xzr, %[" #d "], [%[" #v "]]\n"
#define R_CAS(d, v) "mov %[" #d "], #0\n mov %[t], #0\n casa %[" #d "], %[t], [%[" #v "]]\n"
#define R_ADDR(d, v, by) "eor %[t], %[" #by "], %[" #by "]\n ldr %[" #d "], [%[" #v "], %[t]]\n"
#define W1_DATA(v, by) \
	"eor %[t], %[" #by "], %[" #by "]\n add %[t], %[t], #1\n str %[t], [%[" #v "]]\n"
#define W1_CTRL(v, by) "cbnz %[" #by "], 8f\n 8: str %[one], [%[" #v "]]\n"
#define R_CTRL_ISB(d, v, by) "cbnz %[" #by "], 8f\n 8: isb\n ldr %[" #d "], [%[" #v "]]\n"
#define DMB "dmb ish\n"
#define DMB_LD "dmb ishld\n"
#define DMB_ST "dmb ishst\n"
#define DSB "dsb ish\n"

#define THREAD(name, code)                                                                 \
	static void name(struct instance *i, uint64_t *r)                                  \
	{                                                                                  \
		uint64_t a = 0, b = 0, t = 0;                                              \
		uint32_t w = 0;                                                            \
                                                                                           \
		__asm__ volatile(".arch armv8.4-a\n" code                                  \
				 : [a] "+&r"(a), [b] "+&r"(b), [t] "+&r"(t), [w] "+&r"(w)  \
				 : [x] "r"(&i->x), [y] "r"(&i->y), [one] "r"(UINT64_C(1)), \
				 [two] "r"(UINT64_C(2))                                    \
				 : "memory", "cc");                                        \
		r[0] = a;                                                                  \
		r[1] = b;                                                                  \
	}

/* -- threads: first access, order, second access -------------------------------------------- */

/* Writers of MP. */
THREAD(mp_w, W1(x) W1(y))
THREAD(mp_w_dmb, W1(x) DMB W1(y))
THREAD(mp_w_st, W1(x) DMB_ST W1(y))
THREAD(mp_w_dsb, W1(x) DSB W1(y))
THREAD(mp_w_rel, W1(x) W1_REL(y))
THREAD(mp_w_excl, W1(x) W1_EXCL(y))
THREAD(mp_w_swp, W1(x) W1_SWP(y))
THREAD(mp_w_cas, W1(x) W1_CAS(y))
/* Readers of MP. */
THREAD(mp_r, R(a, y) R(b, x))
THREAD(mp_r_dmb, R(a, y) DMB R(b, x))
THREAD(mp_r_ld, R(a, y) DMB_LD R(b, x))
THREAD(mp_r_dsb, R(a, y) DSB R(b, x))
THREAD(mp_r_acq, R_ACQ(a, y) R(b, x))
THREAD(mp_r_pc, R_PC(a, y) R(b, x))
THREAD(mp_r_excl, R_EXCL(a, y) R(b, x))
THREAD(mp_r_ldadd, R_LDADD(a, y) R(b, x))
THREAD(mp_r_cas, R_CAS(a, y) R(b, x))
THREAD(mp_r_addr, R(a, y) R_ADDR(b, x, a))
THREAD(mp_r_isb, R(a, y) R_CTRL_ISB(b, x, a))
/* SB. */
THREAD(sb_0, W1(x) R(a, y))
THREAD(sb_1, W1(y) R(a, x))
THREAD(sb_0_dmb, W1(x) DMB R(a, y))
THREAD(sb_1_dmb, W1(y) DMB R(a, x))
THREAD(sb_0_dsb, W1(x) DSB R(a, y))
THREAD(sb_1_dsb, W1(y) DSB R(a, x))
THREAD(sb_0_rel, W1_REL(x) R_ACQ(a, y))
THREAD(sb_1_rel, W1_REL(y) R_ACQ(a, x))
THREAD(sb_0_excl, W1_EXCL(x) R_ACQ(a, y))
THREAD(sb_1_excl, W1_EXCL(y) R_ACQ(a, x))
THREAD(sb_0_swp, W1_SWPAL(x) R_ACQ(a, y))
THREAD(sb_1_swp, W1_SWPAL(y) R_ACQ(a, x))
THREAD(sb_0_cas, W1_CAS(x) R_ACQ(a, y))
THREAD(sb_1_cas, W1_CAS(y) R_ACQ(a, x))
/* LB. */
THREAD(lb_0_dmb, R(a, x) DMB W1(y))
THREAD(lb_1_dmb, R(a, y) DMB W1(x))
THREAD(lb_0_acq, R_ACQ(a, x) W1(y))
THREAD(lb_1_acq, R_ACQ(a, y) W1(x))
THREAD(lb_0_rel, R(a, x) W1_REL(y))
THREAD(lb_1_rel, R(a, y) W1_REL(x))
THREAD(lb_0_data, R(a, x) W1_DATA(y, a))
THREAD(lb_1_data, R(a, y) W1_DATA(x, a))
THREAD(lb_0_ctrl, R(a, x) W1_CTRL(y, a))
THREAD(lb_1_ctrl, R(a, y) W1_CTRL(x, a))
/* S: the second thread writes what the first wrote first. */
THREAD(s_w_dmb, W2(x) DMB W1(y))
THREAD(s_w_st, W2(x) DMB_ST W1(y))
THREAD(s_w_rel, W2(x) W1_REL(y))
THREAD(s_r_dmb, R(a, y) DMB W1(x))
THREAD(s_r_data, R(a, y) W1_DATA(x, a))
THREAD(s_r_acq, R_ACQ(a, y) W1(x))
/* R. */
THREAD(r_1_dmb, W2(y) DMB R(a, x))
THREAD(r_1_dsb, W2(y) DSB R(a, x))
THREAD(r_1_rel, W2_REL(y) R_ACQ(a, x))
THREAD(r_0_rel, W1_REL(x) W1_REL(y))
/* 2+2W. */
THREAD(ww_0_dmb, W1(x) DMB W2(y))
THREAD(ww_1_dmb, W1(y) DMB W2(x))
THREAD(ww_0_st, W1(x) DMB_ST W2(y))
THREAD(ww_1_st, W1(y) DMB_ST W2(x))
THREAD(ww_0_rel, W1_REL(x) W2_REL(y))
THREAD(ww_1_rel, W1_REL(y) W2_REL(x))
/* IRIW, WRC, CoRR. */
THREAD(one_x, W1(x))
THREAD(one_y, W1(y))
THREAD(one_x_rel, W1_REL(x))
THREAD(one_y_rel, W1_REL(y))
THREAD(rr_xy_dmb, R(a, x) DMB R(b, y))
THREAD(rr_yx_dmb, R(a, y) DMB R(b, x))
THREAD(rr_xy_acq, R_ACQ(a, x) R_ACQ(b, y))
THREAD(rr_yx_acq, R_ACQ(a, y) R_ACQ(b, x))
THREAD(rr_xy_addr, R(a, x) R_ADDR(b, y, a))
THREAD(rr_yx_addr, R(a, y) R_ADDR(b, x, a))
THREAD(wrc_1_dmb, R(a, x) DMB W1(y))
THREAD(wrc_1_data, R(a, x) W1_DATA(y, a))
THREAD(wrc_1_rel, R(a, x) W1_REL(y))
THREAD(co_rr, R(a, x) R(b, x))
THREAD(co_rr_excl, R_EXCL(a, x) R(b, x))
THREAD(co_w_excl, W1_EXCL(x))

/* -- forbidden outcomes ---------------------------------------------------------------------- */

#define R0(n) (o->r[n][0])
#define R1(n) (o->r[n][1])
typedef bool outcome_fn(const struct result *o, const struct instance *i);

#define OUTCOME(name, condition)                                           \
	static bool name(const struct result *o, const struct instance *i) \
	{                                                                  \
		(void)o;                                                   \
		(void)i;                                                   \
		return (condition);                                        \
	}

OUTCOME(mp, R0(1) == 1 && R1(1) == 0)
OUTCOME(sb, R0(0) == 0 && R0(1) == 0)
OUTCOME(lb, R0(0) == 1 && R0(1) == 1)
OUTCOME(s, R0(1) == 1 && i->x == 2)
OUTCOME(r, i->y == 2 && R0(1) == 0)
OUTCOME(ww, i->x == 1 && i->y == 1)
OUTCOME(iriw, R0(2) == 1 && R1(2) == 0 && R0(3) == 1 && R1(3) == 0)
OUTCOME(wrc, R0(1) == 1 && R0(2) == 1 && R1(2) == 0)
OUTCOME(corr, R0(1) == 1 && R1(1) == 0)

enum need { ANY, LSE, RCPC };

struct litmus {
	const char *shape, *order;
	enum need need;
	outcome_fn *forbidden;
	thread_fn *thread[4];
};

static const struct litmus tests[] = {
	{ "MP", "dmb+dmb", ANY, mp, { mp_w_dmb, mp_r_dmb } },
	{ "MP", "dmb.st+dmb.ld", ANY, mp, { mp_w_st, mp_r_ld } },
	{ "MP", "dsb+dsb", ANY, mp, { mp_w_dsb, mp_r_dsb } },
	{ "MP", "stlr+ldar", ANY, mp, { mp_w_rel, mp_r_acq } },
	{ "MP", "stlr+ldapr", RCPC, mp, { mp_w_rel, mp_r_pc } },
	{ "MP", "stlxr+ldaxr", ANY, mp, { mp_w_excl, mp_r_excl } },
	{ "MP", "swpl+ldadda", LSE, mp, { mp_w_swp, mp_r_ldadd } },
	{ "MP", "casl+casa", LSE, mp, { mp_w_cas, mp_r_cas } },
	{ "MP", "dmb+addr", ANY, mp, { mp_w_dmb, mp_r_addr } },
	{ "MP", "dmb+ctrl.isb", ANY, mp, { mp_w_dmb, mp_r_isb } },
	{ "SB", "dmb+dmb", ANY, sb, { sb_0_dmb, sb_1_dmb } },
	{ "SB", "dsb+dsb", ANY, sb, { sb_0_dsb, sb_1_dsb } },
	{ "SB", "stlr.ldar+stlr.ldar", ANY, sb, { sb_0_rel, sb_1_rel } },
	{ "SB", "stlxr.ldar+stlxr.ldar", ANY, sb, { sb_0_excl, sb_1_excl } },
	{ "SB", "swpal.ldar+swpal.ldar", LSE, sb, { sb_0_swp, sb_1_swp } },
	{ "SB", "casl.ldar+casl.ldar", LSE, sb, { sb_0_cas, sb_1_cas } },
	{ "SB", "dmb+stlr.ldar", ANY, sb, { sb_0_dmb, sb_1_rel } },
	{ "LB", "dmb+dmb", ANY, lb, { lb_0_dmb, lb_1_dmb } },
	{ "LB", "ldar+ldar", ANY, lb, { lb_0_acq, lb_1_acq } },
	{ "LB", "stlr+stlr", ANY, lb, { lb_0_rel, lb_1_rel } },
	{ "LB", "data+data", ANY, lb, { lb_0_data, lb_1_data } },
	{ "LB", "ctrl+ctrl", ANY, lb, { lb_0_ctrl, lb_1_ctrl } },
	{ "S", "dmb+dmb", ANY, s, { s_w_dmb, s_r_dmb } },
	{ "S", "dmb.st+data", ANY, s, { s_w_st, s_r_data } },
	{ "S", "stlr+ldar", ANY, s, { s_w_rel, s_r_acq } },
	{ "R", "dmb+dmb", ANY, r, { mp_w_dmb, r_1_dmb } },
	{ "R", "dsb+dsb", ANY, r, { mp_w_dsb, r_1_dsb } },
	{ "R", "stlr.stlr+stlr.ldar", ANY, r, { r_0_rel, r_1_rel } },
	{ "2+2W", "dmb+dmb", ANY, ww, { ww_0_dmb, ww_1_dmb } },
	{ "2+2W", "dmb.st+dmb.st", ANY, ww, { ww_0_st, ww_1_st } },
	{ "2+2W", "stlr+stlr", ANY, ww, { ww_0_rel, ww_1_rel } },
	{ "IRIW", "dmb+dmb", ANY, iriw, { one_x, one_y, rr_xy_dmb, rr_yx_dmb } },
	{ "IRIW", "stlr.ldar", ANY, iriw, { one_x_rel, one_y_rel, rr_xy_acq, rr_yx_acq } },
	{ "IRIW", "addr+addr", ANY, iriw, { one_x, one_y, rr_xy_addr, rr_yx_addr } },
	{ "WRC", "dmb+dmb", ANY, wrc, { one_x, wrc_1_dmb, mp_r_dmb } },
	{ "WRC", "data+addr", ANY, wrc, { one_x, wrc_1_data, mp_r_addr } },
	{ "WRC", "stlr+ldar", ANY, wrc, { one_x, wrc_1_rel, mp_r_acq } },
	{ "CoRR", "plain", ANY, corr, { one_x, co_rr } },
	{ "CoRR", "stlxr+ldaxr", ANY, corr, { co_w_excl, co_rr_excl } },
};

/* Allowed without order: seen or not, the program is the same as above. */
static const struct litmus relaxed_sb = { "SB", "plain", ANY, sb, { sb_0, sb_1 } };
static const struct litmus relaxed_mp = { "MP", "plain", ANY, mp, { mp_w, mp_r } };

/* -- running ------------------------------------------------------------------------------------ */

static struct instance *instances;
static struct result *results;
static struct barrier gate;
static const struct litmus *now;
static unsigned threads, batches, seen;
static bool until_seen;

/* Where each thread is, in a cache line of its own. */
static struct {
	volatile uint64_t at __attribute__((aligned(LINE)));
} place[4];
#define PATIENCE 60u

/*
 * The threads go from instance to instance together, as far as that can be had
 * without waiting for a CPU that the host has taken away.
 */
static void
one_batch(unsigned me, uint64_t base, uint64_t *seed)
{
	thread_fn *fn = now->thread[me];

	for (unsigned i = 0; i < BATCH; i++) {
		place[me].at = base + i;
		for (unsigned t = 0; t < threads; t++)
			for (unsigned n = 0; place[t].at < base + i && n < PATIENCE; n++)
				;
		/* Nobody is always first. */
		for (unsigned n = random_next(seed) % 8; n > 0; n--)
			__asm__ volatile("");
		fn(&instances[i], results[i].r[me]);
	}
}

static void
look(void)
{
	for (unsigned i = 0; i < BATCH; i++) {
		seen += now->forbidden(&results[i], &instances[i]);
		instances[i].x = 0;
		instances[i].y = 0;
	}
}

static void
run_thread(void *arg)
{
	unsigned me = this_cpu()->index;
	uint64_t seed = me * 77 + ticks() + 1;

	(void)arg;
	for (unsigned n = 0; n < batches; n++) {
		barrier_wait(&gate, threads);
		one_batch(me, (uint64_t)n * BATCH, &seed);
		barrier_wait(&gate, threads);
		if (me == 0)
			look();
		if (until_seen) {
			barrier_wait(&gate, threads);
			if (seen != 0)
				return;
		}
	}
}

static unsigned
run(const struct litmus *l, uint64_t iterations)
{
	now = l;
	seen = 0;
	batches = (unsigned)((iterations + BATCH - 1) / BATCH);
	for (threads = 0; threads < 4 && l->thread[threads] != NULL;)
		threads++;
	for (unsigned i = 0; i < BATCH; i++)
		instances[i].x = instances[i].y = 0;
	for (unsigned t = 0; t < 4; t++)
		place[t].at = 0;
	cpu_run_on(threads, run_thread, NULL);
	return (seen);
}

static bool
have(enum need need)
{
	switch (need) {
	case LSE:
		return ((mrs(id_aa64isar0_el1) >> 20 & 0xf) >= 2);
	case RCPC:
		return ((mrs(id_aa64isar1_el1) >> 20 & 0xf) >= 1);
	default:
		return (true);
	}
}

void
test_main(void)
{
	uint64_t iterations = arg_number("iterations", 2000), seek = arg_number("seek", 0);

	if (ncpus < 4) {
		skip("four CPUs are needed");
		return;
	}
	instances = page_alloc(BATCH * sizeof(*instances) / 4096);
	results = page_alloc(BATCH * sizeof(*results) / 4096 + 1);
	for (unsigned n = 1; n < 4; n++)
		cpu_start(n);
	for (unsigned n = 0; n < sizeof(tests) / sizeof(tests[0]); n++) {
		const struct litmus *l = &tests[n];

		if (!arg_selected(l->shape))
			continue;
		if (!have(l->need))
			skip("%s+%s: the CPU has no such instructions", l->shape, l->order);
		else if (!report(run(l, iterations) == 0,
			     "%s+%s: the forbidden outcome does not occur", l->shape, l->order))
			info("%u times of %lu", seen, iterations);
	}
	info("MP without barriers: %u of %lu", run(&relaxed_mp, iterations), iterations);
	until_seen = true;
	if (seek != 0) {
		report(run(&relaxed_sb, seek) != 0,
		    "SB without barriers: the outcome that is allowed then occurs");
		info("SB without barriers: within %lu", seek);
	}
}
