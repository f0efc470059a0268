/*
 * The run loop: from ERET out of EL2 to the next exception into it.
 *
 * Instructions of one page run in a tight loop of one indirect call each.
 * Instructions count a slice down at taken branches; when it is used up, and
 * whenever something may have unmasked an interrupt (slice set to 0), poll()
 * looks at the pins, the timers and the mailbox (translated code that unmasks has
 * a shorter way: pe->irq_waits). So a branch costs one
 * subtraction, and an interrupt waits for little more than PE_SLICE instructions.
 */
#include "pe/cluster.h"
#include "pe/codecache.h"
#include "pe/debug.h"
#include "pe/except.h"
#include "pe/gic_cpuif.h"
#include "pe/jit/jit.h"
#include "pe/mmu.h"
#include "pe/pmu.h"

/*
 * Take the most urgent interrupt that is not masked. True: one was taken, or one
 * is pending that is masked.
 */
static bool
take_interrupt(struct pe *pe, bool poked)
{
	uint64_t hcr = pe_hcr(pe);
	/* A host's EL0 is interrupted as its EL2 is: when PSTATE lets it. */
	bool below = pe->el < 2 && !pe_in_host(pe, pe->el);
	uint32_t ps = pe->pstate;
	bool waits = false;

	/* Physical: to EL2 whatever PSTATE says when HCR routes them there. */
	if (poked || gic_phys_irq(pe)) {
		waits = true;
		if (below && (hcr & (HCR_IMO | HCR_TGE)) != 0) {
			pe_take_async(pe, 2, PE_VEC_IRQ);
			return (true);
		}
		if ((ps & PS_I) == 0 && !poked) {
			pe_take_async(pe, below ? 1 : 2, PE_VEC_IRQ);
			return (true);
		}
	}
	if (gic_phys_fiq(pe)) {
		waits = true;
		if (below && (hcr & (HCR_FMO | HCR_TGE)) != 0) {
			pe_take_async(pe, 2, PE_VEC_FIQ);
			return (true);
		}
		if ((ps & PS_F) == 0) {
			pe_take_async(pe, below ? 1 : 2, PE_VEC_FIQ);
			return (true);
		}
	}
	if (!below || (hcr & HCR_TGE) != 0)
		return (waits);
	if ((hcr & (HCR_AMO | HCR_VSE)) == (HCR_AMO | HCR_VSE)) {
		waits = true;
		if ((ps & PS_A) == 0) {
			pe->sr[SR_HCR_EL2] &= ~HCR_VSE;
			pe->sr[SR_ESR_EL1] = ((uint64_t)EC_SERROR << 26) | ESR_IL;
			pe_take_async(pe, 1, PE_VEC_SERROR);
			return (true);
		}
	}
	if ((hcr & HCR_FMO) != 0 && ((hcr & HCR_VF) != 0 || gic_virt_fiq(pe))) {
		waits = true;
		if ((ps & PS_F) == 0) {
			pe_take_async(pe, 1, PE_VEC_FIQ);
			return (true);
		}
	}
	if ((hcr & HCR_IMO) != 0 && ((hcr & HCR_VI) != 0 || gic_virt_irq(pe))) {
		waits = true;
		if ((ps & PS_I) == 0)
			pe_take_async(pe, 1, PE_VEC_IRQ);
	}
	return (waits);
}

/*
 * Show pins.sample where the guest is. A poll that an exception or an unmasking
 * asked for is at a place of its own kind; so one at the end of a slice is
 * awaited, which comes anywhere, as long as one can be expected.
 */
static void
sample(struct pe *pe)
{
	uint64_t now = pe->count.insns, since = now - pe->sampled_at;
	bool whole = now - pe->polled_at >= PE_SLICE - PE_SLICE / 16;

	pe->polled_at = now;
	if (since < PE_SAMPLE * PE_SLICE || (!whole && since < 2 * PE_SAMPLE * PE_SLICE))
		return;
	pe->sampled_at = now;
	if (pe->pins.sample != NULL)
		pe->pins.sample(pe->pins.ctx, pe->pc);
}

static void
poll(struct pe *pe)
{
	uint64_t epoch;
	bool poked;

	sample(pe);
	pe->slice = PE_SLICE;
	if (unlikely(pe->cfg.jit_forced)) {
		pe->slice = 1;
		mmu_flush_all(pe);
	}
	pe->count.polls++;
	(void)cluster_serve(pe);
	epoch = pe->pins.code_epoch == NULL
		    ? 0
		    : atomic_load_explicit(pe->pins.code_epoch, memory_order_acquire);
	if (pe->code_stale || epoch != pe->code_epoch_seen) {
		pe->code_stale = false;
		pe->code_epoch_seen = epoch;
		codecache_drop_all(pe);
		pe->slice = PE_SLICE;
	}
	poked = (atomic_load_explicit(&pe->request, memory_order_relaxed) & PE_REQ_POKE) != 0 ||
		unlikely(pe->cfg.jit_irq && (pe->count.polls & 1) != 0);
	if (poked)
		atomic_fetch_and(&pe->request, ~PE_REQ_POKE);
	pe->irq_waits = take_interrupt(pe, poked);
}

/*
 * Word by word. Without a cacheable fetch nothing decoded earlier may be
 * trusted: each word is compared before it runs. With a breakpoint in the page
 * each address is (that of the first word was, by mmu_fetch()). A software step
 * is over after one.
 */
static int
run_slow(struct pe *pe, struct codepage *page, struct insn *in)
{
	const struct insn *first = in;
	uint64_t before;
	bool ss;
	int r;

	for (;; in++) {
		if (in == &page->end) {
			pe->count.insns++;
			return (a64_handler[in->op](pe, in));
		}
		if ((pe->mmu->fetch_slow & SLOW_UNCACHED) != 0) {
			unsigned i = (unsigned)(in - page->insn);

			if (in->op != A64_UNDECODED &&
			    in->word != __atomic_load_n(&page->words[i], __ATOMIC_RELAXED))
				in->op = A64_UNDECODED;
		}
		if ((pe->mmu->fetch_slow & SLOW_BREAK) != 0 && in != first &&
		    debug_break(pe, pe_pc(pe, in)) != 0)
			return (INSN_EXC);
		ss = (pe->pstate & PS_SS) != 0;
		before = pe->count.insns;
		r = a64_handler[in->op](pe, in);
		if (++pe->count.insns != before && pe->pmu.each)
			pmu_saw(pe, in->word);
		if (unlikely(pe->debug.step)) {
			if (r == INSN_NEXT)
				pe->pc = pe_pc(pe, in) + 4;
			debug_stepped(pe, in, ss);
			return (r == INSN_BRANCH ? r : INSN_EXC);
		}
		if (r != INSN_NEXT)
			return (r);
	}
}

static void
execute(struct pe *pe)
{
	struct codepage *page;
	struct insn *in, *first;
	int r;

	for (;;) {
		if (unlikely(pe->debug.step) && !pe->exit)
			(void)debug_step_pending(pe);
		if (unlikely(pe->pmu.on))
			pmu_sync(pe);
		if (unlikely(pe->slice <= 0))
			poll(pe);
		if (unlikely(pe->exit))
			return;
		if (unlikely(pe->pmu.on))
			pmu_before_run(pe);
		page = mmu_fetch(pe);
		if (unlikely(page == NULL))
			continue;
		in = &page->insn[(pe->pc & 0xfff) >> 2];
		if (unlikely(pe->mmu->fetch_slow != 0 || pe->debug.step || pe->pmu.each)) {
			if (run_slow(pe, page, in) == INSN_BRANCH)
				pe->slice -= 8;
			continue;
		}
		if (pe->jit != NULL) {
			r = jit_run(pe, page);
			if (r == JIT_STEP) {
				page = mmu_fetch(pe);
				if (unlikely(page == NULL))
					continue;
				in = &page->insn[(pe->pc & 0xfff) >> 2];
			} else if (r != JIT_COLD)
				continue;
		}
		for (;;) {
			first = in;
			while ((r = a64_handler[in->op](pe, in)) == INSN_NEXT)
				in++;
			pe->count.insns += (uint64_t)(in - first) + 1;
			pe->slice -= (int32_t)(in - first) + 1;
			if (pe->jit != NULL)
				pe->count.jit_interp += (uint64_t)(in - first) + 1;
			if (r != INSN_BRANCH || pe->slice <= 0 ||
			    ((pe->pc ^ pe->pc_page) & ~UINT64_C(0xffc)) != 0 || pe->jit != NULL)
				break;
			in = &page->insn[(pe->pc & 0xfff) >> 2];
		}
	}
}

struct pe_gpr *
pe_gpr(struct pe *pe)
{
	return (&pe->gpr);
}

int
pe_run(struct pe *pe)
{
	memcpy(pe->x, pe->gpr.x, sizeof(pe->gpr.x));
	memcpy(pe->v, pe->gpr.v, sizeof(pe->gpr.v));
	pe->x[REG_ZR] = 0;
	pe->exit = false;
	cluster_inside(pe);
	(void)pe_eret(pe);
	execute(pe);
	cluster_outside(pe);
	memcpy(pe->gpr.x, pe->x, sizeof(pe->gpr.x));
	memcpy(pe->gpr.v, pe->v, sizeof(pe->gpr.v));
	return (pe->exit_vec);
}
